import type { Registration } from "./page.js";

export interface WorkerOptions {
  /** Title of a notification that has none. */
  title?: string;
  /** Icon of a notification that has none. */
  icon?: string;
  /** Badge of a notification that has none. */
  badge?: string;
  /** Where a click leads that names no place. */
  url?: string;
  /** Tells the server of a subscription that the browser has renewed by itself. */
  register?(registration: Registration): Promise<unknown>;
}

/** Takes over push, notificationclick, notificationclose, pushsubscriptionchange and sync. */
export declare function handle(options?: WorkerOptions): void;

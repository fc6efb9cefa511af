// The service worker's part: shows pushes once, and says what became of them.
//
// Call `handle` while the script is first evaluated; a browser takes no listener later.
// Absent here: caching, and anything else a service worker may do besides.

import { Guard } from "./guard.js";
import { interpret } from "./payload.js";
import { Queue } from "./queue.js";
import { openStore } from "./store.js";
import { renew } from "./subscription.js";

/** Receipts wait this long for company, so that a burst goes in one request. */
export const GATHER_MS = 250;
/** Waits before receipts are sent again within one event; afterwards the next event sends them. */
export const RETRY_MS = [1_000, 5_000];
/** What a background sync of ours is called. */
const SYNC = "postrider-receipts";

/**
 * Handles push, notificationclick, notificationclose, pushsubscriptionchange and sync.
 * Options: see types/worker.d.ts.
 */
export function handle(options = {}, scope = globalThis) {
  const worker = new Worker(options, scope);
  const listen = (name, work) =>
    scope.addEventListener(name, (event) => event.waitUntil(work(event)));
  listen("push", (event) => worker.push(event));
  listen("notificationclick", (event) => worker.click(event));
  listen("notificationclose", (event) => worker.close(event));
  listen("pushsubscriptionchange", (event) => worker.change(event));
  scope.addEventListener("sync", (event) => {
    if (event.tag === SYNC) {
      event.waitUntil(worker.sync());
    }
  });
  scope.addEventListener("message", (event) => {
    if (event.data === "postrider:flush") {
      event.waitUntil(worker.flush());
    }
  });
}

class Worker {
  #options;
  #scope;
  #opening;
  #gathering;
  #turn = Promise.resolve();

  constructor(options, scope) {
    this.#options = options;
    this.#scope = scope;
  }

  async push(event) {
    const read = interpret(event.data?.text() ?? "", this.#options);
    // One after the other, so that what replaces another finds it shown.
    const shown = this.#turn.then(() => this.#show(read));
    this.#turn = shown.catch(() => {});
    if (await shown) {
      await this.#receipt(read.data, "displayed");
    } else {
      await this.flush();
    }
  }

  async click(event) {
    const data = event.notification.data?.postrider;
    if (!data) {
      return;
    }
    event.notification.close();
    // The browser grants a window only to who asks at once.
    const opened = this.#visit(data.urls?.[event.action] ?? data.url);
    const { guard } = await this.#open();
    if (data.id) {
      await guard.leaves(data.id);
    }
    await Promise.allSettled([opened, this.#receipt(data, "clicked")]);
  }

  async close(event) {
    const data = event.notification.data?.postrider;
    if (!data?.id) {
      return;
    }
    const { guard } = await this.#open();
    if (!(await guard.hasLeft(data.id))) {
      await this.#receipt(data, "dismissed");
    }
  }

  async change(event) {
    const { store } = await this.#open();
    await renew({
      manager: this.#scope.registration.pushManager,
      store,
      event,
      register: this.#options.register,
    });
  }

  /** Sends the receipts that wait, and asks the browser for another time if it cannot. */
  async flush() {
    const { queue } = await this.#open();
    for (const wait of [0, ...RETRY_MS]) {
      await pause(wait);
      if (await queue.flush()) {
        return;
      }
    }
    // Browsers without background sync send them with the next event, or the next page.
    await this.#scope.registration.sync?.register(SYNC).catch(() => {});
  }

  /** Tells the browser by an error that it shall call again. */
  async sync() {
    const { queue } = await this.#open();
    if (!(await queue.flush())) {
      throw new Error("receipts could not be sent");
    }
  }

  /** Whether it was shown; a repeat is not. */
  async #show({ id, title, options, data }) {
    const { guard } = await this.#open();
    if (id && !(await guard.claim(id))) {
      return false;
    }
    try {
      await this.#replace(options.tag, id, guard);
      const shown = { ...options, data: { postrider: data } };
      await this.#scope.registration.showNotification(title, shown);
    } catch (error) {
      if (id) {
        await guard.release(id);
      }
      throw error;
    }
    if (id) {
      await guard.shown(id);
    }
    return true;
  }

  async #receipt({ id, receipt }, kind) {
    if (!id || !receipt?.url || !receipt.token) {
      return;
    }
    const { queue } = await this.#open();
    await queue.add({ url: receipt.url, id, token: receipt.token, kind });
    this.#gathering ??= pause(GATHER_MS).then(() => {
      this.#gathering = undefined;
      return this.flush();
    });
    await this.#gathering;
  }

  /** Firefox tells of a replaced notification as if somebody had closed it. */
  async #replace(tag, id, guard) {
    if (!tag) {
      return;
    }
    for (const old of await this.#scope.registration.getNotifications({ tag })) {
      const replaced = old.data?.postrider?.id;
      if (replaced && replaced !== id) {
        await guard.leaves(replaced);
      }
    }
  }

  async #visit(url) {
    if (!url) {
      return;
    }
    const target = new URL(url, this.#scope.registration.scope).href;
    const { clients } = this.#scope;
    const windows = await clients.matchAll({ type: "window", includeUncontrolled: true });
    const there = windows.find((window) => window.url === target);
    await (there ? there.focus() : clients.openWindow(target));
  }

  #open() {
    this.#opening ??= openStore().then((store) => ({
      store,
      guard: new Guard(store),
      queue: new Queue(store),
    }));
    return this.#opening;
  }
}

function pause(ms) {
  return ms === 0 ? Promise.resolve() : new Promise((resolve) => setTimeout(resolve, ms));
}

/** How the server is told of a subscription. */
export interface Registrar {
  /** Hands a registration to your backend, which registers the device with its API key. */
  register?(registration: Registration): Promise<unknown>;
  /** Tells your backend that a subscription has ended. */
  unregister?(ended: { endpoint: string }): Promise<unknown>;
}

export interface Options extends Registrar {
  /** The server's VAPID key: 65 bytes as base64url. */
  publicKey: string;
  /** Where the worker script is. Default: "/postrider-sw.js". */
  worker?: string | URL;
  /** The worker's scope. Default: the directory of the script. */
  scope?: string;
  /** "module" if the worker is an ES module that calls `handle` itself. Default: "classic". */
  type?: WorkerType;
}

/** What the server has to know of a subscription: `web_push` of `POST /v1/devices`. */
export interface Registration {
  endpoint: string;
  keys: { p256dh: string; auth: string };
  /** The VAPID key with which it was made; pushes have to be signed by the same. */
  application_server_key: string;
  /** The endpoint in whose place it comes. */
  previous_endpoint?: string;
}

export interface Kept {
  subscription: PushSubscription;
  /** Whether the server was told just now. */
  registered: boolean;
}

/**
 * "unsupported": not this browser, or not a secure page. "denied": the user said no; only the
 * browser's settings can change it. "dismissed": the user did not answer. "worker": its script does
 * not load.
 */
export type Reason = "unsupported" | "denied" | "dismissed" | "worker";

export declare class PushError extends Error {
  readonly reason: Reason;
  constructor(reason: Reason, words: string);
}

export declare function supported(): boolean;

export declare function state(options?: {
  scope?: string;
}): Promise<"unsupported" | "denied" | "unsubscribed" | "subscribed">;

/** Asks for permission if need be and subscribes. Call it from a click. */
export declare function subscribe(options: Options): Promise<Kept>;

/** Call it when a page loads. Never asks; undefined where nobody has subscribed. */
export declare function refresh(options: Options): Promise<Kept | undefined>;

/** Ends the subscription here and at the server. Resolves to whether there was one. */
export declare function unsubscribe(options?: Registrar & { scope?: string }): Promise<boolean>;

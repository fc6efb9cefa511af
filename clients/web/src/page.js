// The page's part: asks for permission, starts the worker, keeps the subscription right.
//
// Absent here: showing anything, and any user interface; when to ask is the application's to choose.

import { openStore } from "./store.js";
import { end, ensure } from "./subscription.js";

/** Where the worker is, unless the application says so. */
const WORKER = "/postrider-sw.js";

/** A subscription could not be had. `reason` is one of the words in types/page.d.ts. */
export class PushError extends Error {
  constructor(reason, words) {
    super(words);
    this.name = "PushError";
    this.reason = reason;
  }
}

/** Whether this browser can receive pushes on this page. */
export function supported() {
  return "serviceWorker" in navigator && "PushManager" in window && "Notification" in window;
}

/** "unsupported", "denied", "unsubscribed" or "subscribed". */
export async function state(options = {}) {
  if (!supported()) {
    return "unsupported";
  }
  if (Notification.permission === "denied") {
    return "denied";
  }
  const registration = await navigator.serviceWorker.getRegistration(options.scope);
  const subscription = await registration?.pushManager.getSubscription();
  return subscription ? "subscribed" : "unsubscribed";
}

/**
 * Asks for permission if need be, subscribes, and tells the server. Call it from a click: browsers
 * ask for permission then only.
 */
export async function subscribe(options) {
  if (!supported()) {
    throw new PushError("unsupported", "this browser cannot receive pushes here");
  }
  const permission = await Notification.requestPermission();
  if (permission !== "granted") {
    throw new PushError(permission === "denied" ? "denied" : "dismissed", "no permission");
  }
  return keep(options);
}

/**
 * Call it when a page loads: renews what has changed (a new key, a subscription that the browser
 * has ended) and sends what waits. Never asks; resolves to undefined where nobody has subscribed.
 */
export async function refresh(options) {
  if (!supported() || Notification.permission !== "granted") {
    return undefined;
  }
  const store = await openStore();
  return (await store.read("settings", "public_key")) ? keep(options) : undefined;
}

/** Ends the subscription here and at the server. Resolves to whether there was one. */
export async function unsubscribe(options = {}) {
  if (!supported()) {
    return false;
  }
  const registration = await navigator.serviceWorker.getRegistration(options.scope);
  if (!registration) {
    return false;
  }
  const { unregister } = options;
  return end({ manager: registration.pushManager, store: await openStore(), unregister });
}

async function keep(options) {
  const { publicKey, register, worker = WORKER, scope, type = "classic" } = options;
  const registration = await navigator.serviceWorker.register(worker, { scope, type });
  await active(registration);
  flush(registration);
  window.addEventListener("online", () => flush(registration));
  const store = await openStore();
  return ensure({ manager: registration.pushManager, store, publicKey, register });
}

function flush(registration) {
  registration.active?.postMessage("postrider:flush");
}

/** A subscription belongs to a worker that has become active. */
function active(registration) {
  const worker = registration.installing ?? registration.waiting ?? registration.active;
  return new Promise((resolve, reject) => {
    const look = () => {
      if (registration.active) {
        resolve();
      } else if (worker.state === "redundant") {
        reject(new PushError("worker", "the service worker could not be installed"));
      } else {
        worker.addEventListener("statechange", look, { once: true });
      }
    };
    look();
  });
}

// One subscription, kept the same at three places: the push service, this browser, the server.
//
// Absent here: permission and the worker's registration, which only a page can ask for.

/** Time after which the server is told again, so that it knows the device is still in use. */
export const REFRESH_MS = 24 * 3_600_000;

/**
 * Subscribes with this key, and again if the key is another one by now. Tells the server what
 * changed, or after a day that nothing did. Resolves to `{subscription, registered}`.
 */
export async function ensure({ manager, store, publicKey, register, now = Date.now }) {
  const wanted = bytes(publicKey);
  let replaces;
  let subscription = await manager.getSubscription();
  if (subscription && !same(subscription.options?.applicationServerKey, wanted)) {
    replaces = subscription.endpoint;
    await subscription.unsubscribe();
    subscription = null;
  }
  subscription ??= await manager.subscribe({
    userVisibleOnly: true,
    applicationServerKey: wanted,
  });
  await store.update("settings", "public_key", () => ({ at: 0, publicKey }));
  const registered = await tell({ subscription, replaces, publicKey, store, register, now });
  return { subscription, registered };
}

/** What the worker does when the browser has ended a subscription by itself. */
export async function renew({ manager, store, event, register }) {
  const saved = await store.read("settings", "public_key");
  const old = event.oldSubscription;
  const key = saved?.publicKey ?? text(old?.options?.applicationServerKey);
  if (!key) {
    return; // this worker never subscribed
  }
  await ensure({ manager, store, publicKey: key, register });
}

/** Unsubscribes here and there. Resolves to whether there was a subscription. */
export async function end({ manager, store, unregister }) {
  const subscription = await manager.getSubscription();
  const ended = (await subscription?.unsubscribe()) ?? false;
  await store.remove("settings", ["public_key", "registration"]);
  if (subscription) {
    await unregister?.({ endpoint: subscription.endpoint });
  }
  return ended;
}

/** Whether the server had to be told, and was. */
async function tell({ subscription, replaces, publicKey, store, register, now }) {
  if (!register) {
    return false;
  }
  const { endpoint, keys } = subscription.toJSON();
  const told = await store.read("settings", "registration");
  const unchanged =
    told?.endpoint === endpoint &&
    told.p256dh === keys.p256dh &&
    told.auth === keys.auth &&
    told.publicKey === publicKey;
  if (unchanged && now() - told.at < REFRESH_MS) {
    return false;
  }
  // In the words of POST /v1/devices, so that a backend can pass it on as it is.
  const registration = { endpoint, keys, application_server_key: publicKey };
  replaces ??= told?.endpoint;
  if (replaces && replaces !== endpoint) {
    registration.previous_endpoint = replaces;
  }
  await register(registration);
  const row = { at: now(), endpoint, ...keys, publicKey };
  await store.update("settings", "registration", () => row);
  return true;
}

/** Base64url, with or without padding, as bytes. */
export function bytes(base64url) {
  const base64 = base64url.replaceAll("-", "+").replaceAll("_", "/");
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

function text(buffer) {
  if (!buffer) {
    return undefined;
  }
  const base64 = btoa(String.fromCharCode(...new Uint8Array(buffer)));
  return base64.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** A browser that does not tell the key of a subscription is taken at its word. */
function same(buffer, wanted) {
  if (!buffer) {
    return true;
  }
  const key = new Uint8Array(buffer);
  return key.length === wanted.length && key.every((byte, at) => byte === wanted[at]);
}

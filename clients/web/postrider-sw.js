// Postrider's service worker, made by build.js from src/. Do not edit.
//
// Serve it from the root of your site, or import it into your own worker with importScripts.
// Options (types/worker.d.ts) are read from self.postrider, if it is set before.

(() => {
"use strict";

// Small tables that outlive the worker: rows by key, each with a time `at` by which they are ordered.
//
// `IndexedStore` keeps them in IndexedDB, `MemoryStore` in memory, where there is no IndexedDB (some
// private windows) and in tests. Both pass test/checks.js.
// Absent here: what the rows mean.

const TABLES = ["seen", "receipts", "settings"];
const DATABASE = "postrider";
const VERSION = 1;

/** Rows in IndexedDB. Every method is one transaction. */
class IndexedStore {
  #name;
  #opening;

  constructor(name = DATABASE) {
    this.#name = name;
  }

  /**
   * Reads a row, changes it and writes it back, with nothing in between. `change` gets the row or
   * undefined; it returns the new row, the same one to leave it, or undefined to remove it.
   */
  update(table, key, change) {
    return this.#transact(table, "readwrite", (rows, done) => {
      rows.get(key).onsuccess = ({ target }) => {
        const old = target.result?.row;
        const row = change(old);
        if (row === undefined) {
          rows.delete(key);
        } else if (row !== old) {
          rows.put({ key, at: row.at ?? 0, row });
        }
        done(row);
      };
    });
  }

  /** The row of this key, or undefined. */
  read(table, key) {
    return this.#transact(table, "readonly", (rows, done) => {
      rows.get(key).onsuccess = ({ target }) => done(target.result?.row);
    });
  }

  /** The oldest rows, at most `limit`. */
  oldest(table, limit) {
    return this.#transact(table, "readonly", (rows, done) => {
      rows.index("at").getAll(null, limit).onsuccess = ({ target }) =>
        done(target.result.map(({ key, row }) => ({ key, row })));
    });
  }

  /** Removes the rows of these keys. */
  remove(table, keys) {
    return this.#transact(table, "readwrite", (rows, done) => {
      for (const key of keys) {
        rows.delete(key);
      }
      done();
    });
  }

  /** Removes the oldest rows until `max` are left. */
  trim(table, max) {
    return this.#transact(table, "readwrite", (rows, done) => {
      rows.count().onsuccess = ({ target }) => {
        const excess = target.result - max;
        if (excess > 0) {
          rows.index("at").getAllKeys(null, excess).onsuccess = (event) => {
            for (const key of event.target.result) {
              rows.delete(key);
            }
          };
        }
        done();
      };
    });
  }

  async #transact(table, mode, work) {
    const database = await this.#open();
    return new Promise((resolve, reject) => {
      const transaction = database.transaction(table, mode);
      let result;
      transaction.oncomplete = () => resolve(result);
      transaction.onabort = () => reject(transaction.error);
      work(transaction.objectStore(table), (value) => {
        result = value;
      });
    });
  }

  #open() {
    this.#opening ??= new Promise((resolve, reject) => {
      const request = indexedDB.open(this.#name, VERSION);
      request.onupgradeneeded = () => {
        for (const table of TABLES) {
          const rows = request.result.createObjectStore(table, { keyPath: "key" });
          rows.createIndex("at", "at");
        }
      };
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        // Another version, or a user who clears the site's data, must not wait for us.
        request.result.onversionchange = () => this.#forget();
        request.result.onclose = () => this.#forget();
        resolve(request.result);
      };
    }).catch((error) => {
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  }

  #forget() {
    this.#opening?.then((database) => database.close());
    this.#opening = undefined;
  }
}

/** The same, in memory. */
class MemoryStore {
  #tables = Object.fromEntries(TABLES.map((table) => [table, new Map()]));

  async update(table, key, change) {
    const rows = this.#tables[table];
    const row = change(rows.get(key));
    if (row === undefined) {
      rows.delete(key);
    } else {
      rows.set(key, row);
    }
    return row;
  }

  async read(table, key) {
    return this.#tables[table].get(key);
  }

  async oldest(table, limit) {
    return this.#sorted(table).slice(0, limit);
  }

  async remove(table, keys) {
    for (const key of keys) {
      this.#tables[table].delete(key);
    }
  }

  async trim(table, max) {
    const sorted = this.#sorted(table);
    await this.remove(
      table,
      sorted.slice(0, Math.max(0, sorted.length - max)).map(({ key }) => key),
    );
  }

  #sorted(table) {
    const rows = [...this.#tables[table]].map(([key, row]) => ({ key, row }));
    return rows.sort((a, b) => (a.row.at ?? 0) - (b.row.at ?? 0));
  }
}

/** IndexedDB where it works, memory elsewhere: a notification is shown either way. */
async function openStore() {
  try {
    const store = new IndexedStore();
    await store.read("settings", "");
    return store;
  } catch {
    return new MemoryStore();
  }
}

// The guard: a notification is shown once, however often it arrives.
//
// A provider that got no answer through may have acted, so the server sends again, under the same
// id. The last ids are remembered here; a repeat is not shown.
// Absent here: the store, and what is shown.

/** Ids that are remembered. */
const IDS_MAX = 200;
/** Time after which a claim that led to nothing (the worker was killed) no longer counts. */
const CLAIM_MS = 30_000;

const SEEN = "seen";

class Guard {
  #store;
  #now;

  constructor(store, now = Date.now) {
    this.#store = store;
    this.#now = now;
  }

  /** Whether the caller is the one to show this id; the claim is taken in one transaction. */
  async claim(id) {
    const mine = { at: this.#now(), shown: false };
    const row = await this.#store.update(SEEN, id, (old) => {
      const taken = old && (old.shown || mine.at - old.at < CLAIM_MS);
      return taken ? old : mine;
    });
    return row === mine;
  }

  /** Notes that it was shown, and forgets the oldest ids. */
  async shown(id) {
    const at = this.#now();
    await this.#store.update(SEEN, id, (old) => ({ ...old, at, shown: true }));
    await this.#store.trim(SEEN, IDS_MAX);
  }

  /** Notes that nobody dismisses it when it leaves: it was clicked, or another takes its place. */
  async leaves(id) {
    await this.#store.update(SEEN, id, (old) => old && { ...old, left: true });
  }

  /** Whether it left in one of these ways. */
  async hasLeft(id) {
    return (await this.#store.read(SEEN, id))?.left ?? false;
  }

  /** Gives a claim back: it could not be shown, and the next one may try. */
  async release(id) {
    await this.#store.update(SEEN, id, (old) => (old?.shown ? old : undefined));
  }
}

// Receipts on their way to the server: kept until it has taken them, sent in batches.
//
// Absent here: when to send. The worker sends after every event that wakes it.

/** Receipts that are kept; beyond it the oldest are dropped. */
const RECEIPTS_MAX = 1_000;
/** Receipts in one request. */
const BATCH_RECEIPTS_MAX = 100;
/** Time after which a receipt is of no use to anybody. */
const KEEP_MS = 7 * 24 * 3_600_000;
/** Longest wait for an answer. */
const ANSWER_MS = 10_000;

const RECEIPTS = "receipts";

class Queue {
  #store;
  #fetch;
  #now;
  #sending;

  constructor(store, { fetch = (...request) => globalThis.fetch(...request), now = Date.now } = {}) {
    this.#store = store;
    this.#fetch = fetch;
    this.#now = now;
  }

  /** Keeps a receipt. The first of an id and a kind counts. */
  async add({ url, id, token, kind }) {
    const at = this.#now();
    await this.#store.update(RECEIPTS, `${id} ${kind}`, (old) => old ?? { at, url, id, token, kind });
    await this.#store.trim(RECEIPTS, RECEIPTS_MAX);
  }

  /** Sends what is kept. Resolves to whether nothing is left; what is left waits for the next time. */
  async flush() {
    // One at a time; who comes meanwhile has a look of its own afterwards.
    const turn = (this.#sending ?? Promise.resolve()).then(() => this.#flush());
    this.#sending = turn.catch(() => {});
    return turn;
  }

  async #flush() {
    for (;;) {
      const batch = await this.#batch();
      if (batch.length === 0) {
        return true;
      }
      if (!(await this.#send(batch))) {
        return false;
      }
      await this.#store.remove(
        RECEIPTS,
        batch.map(({ key }) => key),
      );
    }
  }

  /** The oldest receipts that go to one URL; those that are too old are dropped on the way. */
  async #batch() {
    const oldest = await this.#store.oldest(RECEIPTS, BATCH_RECEIPTS_MAX);
    const stale = oldest.filter(({ row }) => this.#now() - row.at > KEEP_MS);
    if (stale.length > 0) {
      await this.#store.remove(
        RECEIPTS,
        stale.map(({ key }) => key),
      );
      return this.#batch();
    }
    return oldest.filter(({ row }) => row.url === oldest[0].row.url);
  }

  /** Whether the server has answered for good: taken them, or refused what no repeat would mend. */
  async #send(batch) {
    const receipts = batch.map(({ row: { id, token, kind, at } }) => ({ id, token, kind, at }));
    try {
      const answer = await this.#fetch(batch[0].row.url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ receipts }),
        credentials: "omit",
        referrerPolicy: "no-referrer",
        keepalive: true,
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      const { status } = answer;
      return status < 500 && status !== 408 && status !== 425 && status !== 429;
    } catch {
      return false; // offline, or no answer in time
    }
  }
}

// What a push says, in the words of showNotification.
//
// Absent here: anything that is done with it.

/** Options of showNotification that a payload may set; the rest of it is not the browser's. */
const OPTIONS = [
  "actions",
  "badge",
  "body",
  "dir",
  "icon",
  "image",
  "lang",
  "renotify",
  "requireInteraction",
  "silent",
  "tag",
  "timestamp",
  "vibrate",
];

/**
 * Reads a payload: `{notification, data, web_push, postrider}`, any other JSON object, or text.
 * `defaults` gives title, icon, badge and URL where the payload has none.
 */
function interpret(text, defaults = {}) {
  const payload = object(text);
  if (!payload) {
    return { title: defaults.title ?? "", options: options({ body: text }, defaults), data: {} };
  }
  const { notification, web_push, postrider, data, ...rest } = payload;
  const words = notification ?? { title: payload.title, body: words_of(rest, data) };
  const all = { ...words, ...web_push };
  const shown = options(all, defaults);
  shown.tag ??= postrider?.key;
  const urls = (all.actions ?? []).map(({ action, url }) => [action, url]);
  return {
    id: postrider?.id,
    title: String(all.title ?? defaults.title ?? ""),
    options: shown,
    data: {
      id: postrider?.id,
      receipt: postrider?.receipt,
      url: all.url ?? defaults.url,
      urls: Object.fromEntries(urls.filter(([, url]) => url)),
      data,
    },
  };
}

function object(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** An object that is no notification: its text if it has one, or all of it. */
function words_of({ title, ...rest }, data) {
  return rest.body ?? rest.text ?? JSON.stringify(data === undefined ? rest : { ...rest, data });
}

function options(words, { icon, badge }) {
  const chosen = { icon, badge };
  for (const name of OPTIONS) {
    if (words[name] !== undefined && words[name] !== null) {
      chosen[name] = words[name];
    }
  }
  return Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== undefined));
}

// One subscription, kept the same at three places: the push service, this browser, the server.
//
// Absent here: permission and the worker's registration, which only a page can ask for.

/** Time after which the server is told again, so that it knows the device is still in use. */
const REFRESH_MS = 24 * 3_600_000;

/**
 * Subscribes with this key, and again if the key is another one by now. Tells the server what
 * changed, or after a day that nothing did. Resolves to `{subscription, registered}`.
 */
async function ensure({ manager, store, publicKey, register, now = Date.now }) {
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
async function renew({ manager, store, event, register }) {
  const saved = await store.read("settings", "public_key");
  const old = event.oldSubscription;
  const key = saved?.publicKey ?? text(old?.options?.applicationServerKey);
  if (!key) {
    return; // this worker never subscribed
  }
  await ensure({ manager, store, publicKey: key, register });
}

/** Unsubscribes here and there. Resolves to whether there was a subscription. */
async function end({ manager, store, unregister }) {
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
function bytes(base64url) {
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

// The service worker's part: shows pushes once, and says what became of them.
//
// Call `handle` while the script is first evaluated; a browser takes no listener later.
// Absent here: caching, and anything else a service worker may do besides.


/** Receipts wait this long for company, so that a burst goes in one request. */
const GATHER_MS = 250;
/** Waits before receipts are sent again within one event; afterwards the next event sends them. */
const RETRY_MS = [1_000, 5_000];
/** What a background sync of ours is called. */
const SYNC = "postrider-receipts";

/**
 * Handles push, notificationclick, notificationclose, pushsubscriptionchange and sync.
 * Options: see types/worker.d.ts.
 */
function handle(options = {}, scope = globalThis) {
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

handle(self.postrider);
})();

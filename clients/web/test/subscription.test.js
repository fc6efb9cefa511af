import assert from "node:assert/strict";
import test from "node:test";

import { MemoryStore } from "../src/store.js";
import { bytes, end, ensure, REFRESH_MS, renew } from "../src/subscription.js";

const KEY = "BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs";
const OTHER = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";

/** A browser's subscriptions to one worker. */
class Manager {
  #count = 0;
  current = null;

  async getSubscription() {
    return this.current;
  }

  async subscribe({ applicationServerKey }) {
    this.#count += 1;
    const endpoint = `https://push.example/${this.#count}`;
    this.current = {
      endpoint,
      options: { applicationServerKey: applicationServerKey.buffer },
      toJSON: () => ({ endpoint, keys: { p256dh: `p${endpoint}`, auth: "a" } }),
      unsubscribe: async () => {
        this.current = null;
        return true;
      },
    };
    return this.current;
  }
}

function world() {
  const told = [];
  const world = {
    manager: new Manager(),
    store: new MemoryStore(),
    told,
    time: 1_000,
    register: async (registration) => told.push(registration),
  };
  world.ensure = (publicKey) => ensure({ ...world, publicKey, now: () => world.time });
  return world;
}

test("the server is told once, and again after a day", async () => {
  const browser = world();
  assert.equal((await browser.ensure(KEY)).registered, true);
  assert.equal((await browser.ensure(KEY)).registered, false);
  browser.time += REFRESH_MS;
  assert.equal((await browser.ensure(KEY)).registered, true);
  const keys = { p256dh: "phttps://push.example/1", auth: "a" };
  const registration = { endpoint: "https://push.example/1", keys, application_server_key: KEY };
  assert.deepEqual(browser.told, [registration, registration]);
});

test("another key makes another subscription, which replaces the first", async () => {
  const browser = world();
  await browser.ensure(KEY);
  await browser.ensure(OTHER);
  const key = new Uint8Array(browser.manager.current.options.applicationServerKey);
  assert.deepEqual(key, bytes(OTHER));
  assert.equal(browser.told[1].endpoint, "https://push.example/2");
  assert.equal(browser.told[1].previous_endpoint, "https://push.example/1");
});

test("a subscription that the browser ended is made again with its key", async () => {
  const browser = world();
  await browser.ensure(KEY);
  browser.manager.current = null;
  await renew({ ...browser, event: {} });
  assert.equal(browser.told[1].application_server_key, KEY);
  assert.equal(browser.told[1].previous_endpoint, "https://push.example/1");
  const stranger = world();
  await renew({ ...stranger, event: {} });
  assert.equal(stranger.manager.current, null);
});

test("a registration that was refused is tried again next time", async () => {
  const browser = world();
  const accept = browser.register;
  browser.register = async () => {
    throw new Error("offline");
  };
  await assert.rejects(browser.ensure(KEY), /offline/);
  browser.register = accept;
  assert.equal((await browser.ensure(KEY)).registered, true);
  assert.equal(browser.told.length, 1);
});

test("what has ended is told, and forgotten", async () => {
  const browser = world();
  await browser.ensure(KEY);
  const ended = [];
  const unregister = async ({ endpoint }) => ended.push(endpoint);
  assert.equal(await end({ ...browser, unregister }), true);
  assert.deepEqual(ended, ["https://push.example/1"]);
  assert.equal(await end({ ...browser, unregister }), false);
  assert.equal(ended.length, 1);
  assert.equal((await browser.ensure(KEY)).registered, true);
});

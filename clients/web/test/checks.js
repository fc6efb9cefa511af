// What the stores, the guard and the queue have to do, over any store. Node runs these over memory,
// a real browser over IndexedDB.

import { CLAIM_MS, Guard, IDS_MAX } from "../src/guard.js";
import { BATCH_RECEIPTS_MAX, KEEP_MS, Queue, RECEIPTS_MAX } from "../src/queue.js";

const URL_OF_ONE = "https://push.example/v1/receipts";
const URL_OF_OTHER = "https://other.example/v1/receipts";

/** Checks by what they say. Each gets a fresh store and throws if it does not hold. */
export const checks = {
  async "an update sees what the one before wrote"(store) {
    const raise = (old) => ({ at: 0, number: (old?.number ?? 0) + 1 });
    await Promise.all(Array.from({ length: 20 }, () => store.update("settings", "n", raise)));
    equal((await store.read("settings", "n")).number, 20);
    await store.update("settings", "n", () => undefined);
    equal(await store.read("settings", "n"), undefined);
  },

  async "trimming leaves the newest"(store) {
    for (const at of [3, 1, 2]) {
      await store.update("seen", `row ${at}`, () => ({ at }));
    }
    await store.trim("seen", 2);
    equal(keys(await store.oldest("seen", 9)), ["row 2", "row 3"]);
    equal(keys(await store.oldest("seen", 1)), ["row 2"]);
    await store.trim("seen", 2);
    await store.remove("seen", ["row 2", "row 3", "unknown"]);
    equal(await store.oldest("seen", 9), []);
  },

  async "one of many claims wins"(store) {
    const guards = Array.from({ length: 3 }, () => new Guard(store));
    const won = await Promise.all(guards.map((guard) => guard.claim("id")));
    equal(won.filter(Boolean).length, 1);
    await guards[0].shown("id");
    equal(await guards[1].claim("id"), false);
    equal(await guards[1].claim("another"), true);
  },

  async "a claim that led to nothing lapses, what was shown does not"(store) {
    let now = 1_000;
    const guard = new Guard(store, () => now);
    equal(await guard.claim("killed"), true);
    equal(await guard.claim("shown"), true);
    await guard.shown("shown");
    now += CLAIM_MS - 1;
    equal(await guard.claim("killed"), false);
    now += 1;
    equal(await guard.claim("killed"), true);
    equal(await guard.claim("shown"), false);
  },

  async "a claim that is given back is free, what was shown is not"(store) {
    const guard = new Guard(store);
    await guard.claim("id");
    await guard.release("id");
    equal(await guard.claim("id"), true);
    await guard.shown("id");
    await guard.release("id");
    equal(await guard.claim("id"), false);
  },

  async "the last two hundred are remembered"(store) {
    let now = 0;
    const guard = new Guard(store, () => (now += 1));
    for (let number = 0; number <= IDS_MAX; number += 1) {
      await guard.claim(`id ${number}`);
      await guard.shown(`id ${number}`);
    }
    equal(await guard.claim("id 1"), false);
    equal(await guard.claim(`id ${IDS_MAX}`), false);
    equal(await guard.claim("id 0"), true);
  },

  async "what was clicked or replaced is known to have left"(store) {
    const guard = new Guard(store);
    await guard.claim("old");
    await guard.shown("old");
    equal(await guard.hasLeft("old"), false);
    await guard.leaves("old");
    equal(await guard.hasLeft("old"), true);
    equal(await guard.claim("old"), false);
    await guard.leaves("never seen");
    equal(await guard.hasLeft("never seen"), false);
  },

  async "receipts go in batches, oldest first, each kind once, each URL apart"(store) {
    let now = 0;
    const server = new Server(() => 200);
    const queue = new Queue(store, { fetch: server.fetch, now: () => (now += 1) });
    for (let number = 0; number < BATCH_RECEIPTS_MAX + 1; number += 1) {
      await queue.add(receipt(`id ${number}`));
    }
    await queue.add(receipt("id 0"));
    await queue.add({ ...receipt("id 0"), kind: "clicked" });
    await queue.add({ ...receipt("elsewhere"), url: URL_OF_OTHER });
    equal(await queue.flush(), true);
    equal(
      server.requests.map(({ url, receipts }) => [url, receipts.length]),
      [
        [URL_OF_ONE, BATCH_RECEIPTS_MAX],
        [URL_OF_ONE, 2],
        [URL_OF_OTHER, 1],
      ],
    );
    equal(server.requests[0].receipts[0], {
      id: "id 0",
      token: "token of id 0",
      kind: "displayed",
      at: 1,
    });
    equal(await queue.flush(), true);
    equal(server.requests.length, 3);
  },

  async "what could not be sent waits, what was refused does not"(store) {
    const answers = ["offline", 503, 429, 200];
    const server = new Server(() => answers.shift());
    const queue = new Queue(store, { fetch: server.fetch });
    await queue.add(receipt("patient"));
    equal(
      [await queue.flush(), await queue.flush(), await queue.flush(), await queue.flush()],
      [false, false, false, true],
    );
    equal(server.requests.length, 4);

    const refusing = new Server(() => 403);
    const refused = new Queue(store, { fetch: refusing.fetch });
    await refused.add(receipt("forged"));
    equal(await refused.flush(), true);
    equal(await refused.flush(), true);
    equal(refusing.requests.length, 1);
  },

  async "two who send at once send nothing twice"(store) {
    const server = new Server(() => 200);
    const queue = new Queue(store, { fetch: server.fetch });
    await queue.add(receipt("id"));
    equal(await Promise.all([queue.flush(), queue.flush()]), [true, true]);
    equal(server.requests.length, 1);
  },

  async "the queue is bounded, in number and in time"(store) {
    let now = 0;
    const server = new Server(() => "offline");
    const queue = new Queue(store, { fetch: server.fetch, now: () => now });
    for (now = 1; now <= RECEIPTS_MAX + 5; now += 1) {
      await queue.add(receipt(`id ${now}`));
    }
    const left = await store.oldest("receipts", RECEIPTS_MAX + 5);
    equal([left.length, left[0].row.id], [RECEIPTS_MAX, "id 6"]);
    now = KEEP_MS + RECEIPTS_MAX + 6;
    equal(await queue.flush(), true);
    equal(server.requests, []);
  },
};

/** Runs all checks, each over a store of its own. Resolves to what did not hold, by its name. */
export async function run(freshStore) {
  const broken = {};
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check(freshStore(name));
    } catch (error) {
      broken[name] = `${error}`;
    }
  }
  return broken;
}

class Server {
  requests = [];

  constructor(answer) {
    this.fetch = async (url, { body }) => {
      this.requests.push({ url, ...JSON.parse(body) });
      const status = answer();
      if (status === "offline") {
        throw new TypeError("no network");
      }
      return { status };
    };
  }
}

function receipt(id) {
  return { url: URL_OF_ONE, id, token: `token of ${id}`, kind: "displayed" };
}

function keys(rows) {
  return rows.map(({ key }) => key);
}

function equal(found, expected) {
  const [left, right] = [found, expected].map((value) => JSON.stringify(value));
  if (left !== right) {
    throw new Error(`${left}, expected ${right}`);
  }
}

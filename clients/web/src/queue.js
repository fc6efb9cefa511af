// Receipts on their way to the server: kept until it has taken them, sent in batches.
//
// Absent here: when to send. The worker sends after every event that wakes it.

/** Receipts that are kept; beyond it the oldest are dropped. */
export const RECEIPTS_MAX = 1_000;
/** Receipts in one request. */
export const BATCH_RECEIPTS_MAX = 100;
/** Time after which a receipt is of no use to anybody. */
export const KEEP_MS = 7 * 24 * 3_600_000;
/** Longest wait for an answer. */
export const ANSWER_MS = 10_000;

const RECEIPTS = "receipts";

export class Queue {
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

// The guard: a notification is shown once, however often it arrives.
//
// A provider that got no answer through may have acted, so the server sends again, under the same
// id. The last ids are remembered here; a repeat is not shown.
// Absent here: the store, and what is shown.

/** Ids that are remembered. */
export const IDS_MAX = 200;
/** Time after which a claim that led to nothing (the worker was killed) no longer counts. */
export const CLAIM_MS = 30_000;

const SEEN = "seen";

export class Guard {
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

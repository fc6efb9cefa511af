// Small tables that outlive the worker: rows by key, each with a time `at` by which they are ordered.
//
// `IndexedStore` keeps them in IndexedDB, `MemoryStore` in memory, where there is no IndexedDB (some
// private windows) and in tests. Both pass test/checks.js.
// Absent here: what the rows mean.

export const TABLES = ["seen", "receipts", "settings"];
const DATABASE = "postrider";
const VERSION = 1;

/** Rows in IndexedDB. Every method is one transaction. */
export class IndexedStore {
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
export class MemoryStore {
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
export async function openStore() {
  try {
    const store = new IndexedStore();
    await store.read("settings", "");
    return store;
  } catch {
    return new MemoryStore();
  }
}

import test from "node:test";

import { MemoryStore } from "../src/store.js";
import { checks } from "./checks.js";

for (const [name, check] of Object.entries(checks)) {
  test(name, () => check(new MemoryStore()));
}

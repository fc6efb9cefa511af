import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { bundle } from "../build.js";

test("the script that is shipped is made from the modules as they are", () => {
  const shipped = readFileSync(new URL("../postrider-sw.js", import.meta.url), "utf8");
  assert.equal(shipped, bundle(), "run `npm run build`");
});

// Writes postrider-sw.js: the worker's modules as one classic script, for browsers whose service
// workers take no modules. `node build.js --check` only says whether it is current.

import { readFileSync, writeFileSync } from "node:fs";

/** In the order in which they need each other. */
const MODULES = ["store", "guard", "queue", "payload", "subscription", "worker"];
const TARGET = new URL("postrider-sw.js", import.meta.url);

const HEAD = `// Postrider's service worker, made by build.js from src/. Do not edit.
//
// Serve it from the root of your site, or import it into your own worker with importScripts.
// Options (types/worker.d.ts) are read from self.postrider, if it is set before.

(() => {
"use strict";

`;

const FOOT = `
handle(self.postrider);
})();
`;

export function bundle() {
  const modules = MODULES.map((name) => {
    const text = readFileSync(new URL(`src/${name}.js`, import.meta.url), "utf8");
    return text.replace(/^import .*?;\n/gms, "").replace(/^export /gm, "");
  });
  return HEAD + modules.join("\n") + FOOT;
}

const current = () => {
  try {
    return readFileSync(TARGET, "utf8") === bundle();
  } catch {
    return false;
  }
};

if (process.argv[1] && import.meta.url.endsWith(process.argv[1].split("/").pop())) {
  if (!process.argv.includes("--check")) {
    writeFileSync(TARGET, bundle());
  } else if (!current()) {
    console.error("postrider-sw.js is not current: run `npm run build`");
    process.exitCode = 1;
  }
}

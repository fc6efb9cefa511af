import assert from "node:assert/strict";
import test from "node:test";

import { interpret } from "../src/payload.js";

const postrider = { id: "id", key: "key", receipt: { url: "https://push.example/r", token: "t" } };

test("a notification is shown in its own words, under the key that a repeat replaces", () => {
  const notification = {
    title: "Paid",
    body: "Order 7",
    url: "/orders/7",
    sound: "ping",
    actions: [{ action: "show", title: "Show", url: "/orders/7?show" }, { action: "later", title: "Later" }],
  };
  const data = { order: 7 };
  const read = interpret(JSON.stringify({ notification, data, apns: { x: 1 }, postrider }));
  assert.deepEqual(read, {
    id: "id",
    title: "Paid",
    options: { body: "Order 7", actions: notification.actions, tag: "key" },
    data: {
      id: "id",
      receipt: postrider.receipt,
      url: "/orders/7",
      urls: { show: "/orders/7?show" },
      data,
    },
  });
});

test("the browser's own part goes over the common one, and a tag over the key", () => {
  const payload = {
    notification: { title: "Paid", body: "for all", tag: "orders" },
    web_push: { body: "for browsers", requireInteraction: true },
    postrider,
  };
  const { options } = interpret(JSON.stringify(payload), { icon: "/icon.png", badge: "/badge.png" });
  assert.deepEqual(options, {
    icon: "/icon.png",
    badge: "/badge.png",
    body: "for browsers",
    requireInteraction: true,
    tag: "orders",
  });
});

test("other objects show their text, or all they have", () => {
  const shown = (payload) => {
    const { title, options } = interpret(JSON.stringify({ ...payload, postrider }), { title: "App" });
    return [title, options.body];
  };
  assert.deepEqual(shown({ text: "hi" }), ["App", "hi"]);
  assert.deepEqual(shown({ title: "Hello", body: "hi" }), ["Hello", "hi"]);
  assert.deepEqual(shown({ number: 1 }), ["App", '{"number":1}']);
  assert.deepEqual(shown({ number: 1, data: 2 }), ["App", '{"number":1,"data":2}']);
});

test("anything else is text, and has no id by which a repeat could be known", () => {
  for (const text of ["x", "Grüße, 世界 🌍", "[1]", "null", "7", '{"cut']) {
    assert.deepEqual(interpret(text, { title: "App" }), {
      title: "App",
      options: { body: text },
      data: {},
    });
  }
});

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
export function interpret(text, defaults = {}) {
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

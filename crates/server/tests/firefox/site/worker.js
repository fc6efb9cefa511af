// The worker of the site: the shipped script, and before it what tells the test of every push, of
// every notification that it asks the browser to show, and when a push is dealt with.

const tell = (kind, more) =>
  fetch("/told", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ kind, ...more }),
  });

const { showNotification } = ServiceWorkerRegistration.prototype;
ServiceWorkerRegistration.prototype.showNotification = async function (title, options) {
  const id = options.data?.postrider?.id;
  await tell("show", { title, body: options.body, tag: options.tag, id });
  return showNotification.call(this, title, options);
};

const { waitUntil } = ExtendableEvent.prototype;
ExtendableEvent.prototype.waitUntil = function (work) {
  const kind = `${this.type} handled`;
  const handled = Promise.resolve(work).then(
    () => tell(kind),
    (error) => tell(kind, { error: `${error}` }),
  );
  waitUntil.call(this, handled);
};

self.addEventListener("push", (event) => {
  const bytes = event.data ? event.data.arrayBuffer().byteLength : 0;
  waitUntil.call(event, tell("push", { bytes }));
});

self.postrider = { title: "A shop" };
importScripts("/postrider-sw.js");

// Other people's Web Push: `web-push` sends, `http_ece` decrypts. A JSON object a line comes in, one
// goes out. The first argument is where the packages are installed.

const crypto = require("node:crypto");
const path = require("node:path");
const readline = require("node:readline");
const { createRequire } = require("node:module");

const load = createRequire(path.join(process.argv[2], "x.js"));
const webPush = load("web-push");
const ece = load("http_ece");

async function send(it) {
  const subscription = { endpoint: it.endpoint, keys: { p256dh: it.p256dh, auth: it.auth } };
  const options = {
    vapidDetails: { subject: it.subject, publicKey: it.public, privateKey: it.private },
    TTL: it.ttl,
    topic: it.topic,
    urgency: it.urgency,
    contentEncoding: "aes128gcm",
  };
  try {
    const payload = Buffer.from(it.payload, "base64");
    const { statusCode, headers } = await webPush.sendNotification(subscription, payload, options);
    return { status: statusCode, location: headers.location, ttl: headers.ttl };
  } catch (error) {
    return { status: error.statusCode ?? 0, body: error.body ?? String(error) };
  }
}

function open(it) {
  const privateKey = crypto.createECDH("prime256v1");
  privateKey.setPrivateKey(it.private, "base64url");
  try {
    const params = { version: "aes128gcm", privateKey, authSecret: it.auth };
    const plaintext = ece.decrypt(Buffer.from(it.body, "base64"), params);
    return { plaintext: plaintext.toString("base64") };
  } catch (error) {
    return { error: String(error) };
  }
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const it = JSON.parse(line);
    const out = it.do === "send" ? await send(it) : open(it);
    process.stdout.write(JSON.stringify(out) + "\n");
  }
})();

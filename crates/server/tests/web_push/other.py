# Other people's Web Push: `pywebpush` sends, `http_ece` decrypts. A JSON object a line comes in,
# one goes out.

import base64, json, sys

import http_ece
import pywebpush
from cryptography.hazmat.primitives.asymmetric import ec


def bytes_of(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def send(it):
    headers = {"urgency": it["urgency"], "topic": it["topic"]}
    subscription = {
        "endpoint": it["endpoint"],
        "keys": {"p256dh": it["p256dh"], "auth": it["auth"]},
    }
    try:
        answer = pywebpush.webpush(
            subscription,
            base64.b64decode(it["payload"]),
            vapid_private_key=it["private"],
            vapid_claims={"sub": it["subject"]},
            ttl=it["ttl"],
            headers=headers,
        )
        location, ttl = answer.headers.get("location"), answer.headers.get("ttl")
        return {"status": answer.status_code, "location": location, "ttl": ttl}
    except pywebpush.WebPushException as error:
        answer = error.response
        return {
            "status": 0 if answer is None else answer.status_code,
            "body": str(error) if answer is None else answer.text,
        }


def open_(it):
    private = ec.derive_private_key(
        int.from_bytes(bytes_of(it["private"]), "big"), ec.SECP256R1()
    )
    try:
        plaintext = http_ece.decrypt(
            base64.b64decode(it["body"]),
            private_key=private,
            auth_secret=bytes_of(it["auth"]),
            version="aes128gcm",
        )
        return {"plaintext": base64.b64encode(plaintext).decode()}
    except http_ece.ECEException as error:
        return {"error": str(error)}


for line in sys.stdin:
    it = json.loads(line)
    print(json.dumps(send(it) if it["do"] == "send" else open_(it)), flush=True)

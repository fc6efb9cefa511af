//! What is encrypted, from an event's payload.
//!
//! A payload that is a JSON object is sent as it is, without what is meant for other channels
//! (`apns`, `fcm`), and with one member more: `postrider`, in which `id` is the notification id by
//! which the client tells a repeat, `key` the replace key, `sequence` the place in an order if
//! there is one, and `receipt` where receipts go and the proof that they may. Any other payload is
//! sent as it is, byte for byte.
//!
//! Absent here: encryption, and any look at what a page will show.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::channel::Told;
use crate::receipts::ReceiptAsk;

/// Members of a payload that are other channels' business.
const OTHERS: [&str; 2] = ["apns", "fcm"];
/// The member that is added; one of the application's own under this name gives way.
const OWN: &str = "postrider";

#[derive(Serialize)]
struct Own<'a> {
    id: String,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'a ReceiptAsk>,
}

/// The plaintext of one notification.
#[must_use]
pub fn compose<'a>(told: &Told<'a>) -> Cow<'a, [u8]> {
    let members: Result<BTreeMap<Cow<'_, str>, &RawValue>, _> =
        serde_json::from_slice(told.payload);
    let Ok(mut members) = members else {
        return Cow::Borrowed(told.payload);
    };
    for other in OTHERS {
        members.remove(other);
    }
    let own = Own {
        id: told.id.to_string(),
        key: &told.replace_key,
        sequence: told.sequence,
        receipt: told.receipt.as_ref(),
    };
    let own = serde_json::value::to_raw_value(&own).expect("texts and numbers are JSON");
    members.insert(Cow::Borrowed(OWN), &own);
    Cow::Owned(serde_json::to_vec(&members).expect("what was read can be written"))
}

#[cfg(test)]
mod tests {
    use super::compose;
    use crate::channel::Told;
    use crate::receipts::ReceiptAsk;
    use postrider_core::event::Urgency;
    use postrider_core::time::Time;
    use serde_json::{Value, json};
    use uuid::Uuid;

    fn told(payload: &[u8]) -> Told<'_> {
        Told {
            payload,
            id: Uuid::from_u128(7),
            sequence: None,
            replace_key: "k".into(),
            collapses: false,
            urgency: Urgency::Normal,
            admitted_at: Time(0),
            expires_at: Time(0),
            receipt: None,
        }
    }

    #[test]
    fn an_object_gets_a_member_and_loses_what_is_not_for_browsers() {
        let payload = br#"{"notification":{"title":"T"},"n":1.50,"apns":{"a":1},"fcm":{},
            "postrider":"mine","web_push":{"silent":true}}"#;
        let full = Told {
            sequence: Some(3),
            receipt: Some(ReceiptAsk {
                url: "https://p.example/r".into(),
                token: "t".into(),
            }),
            ..told(payload)
        };
        let plaintext = compose(&full);
        let expected = json!({
            "notification": { "title": "T" },
            "n": 1.5,
            "web_push": { "silent": true },
            "postrider": {
                "id": "00000000-0000-0000-0000-000000000007",
                "key": "k",
                "sequence": 3,
                "receipt": { "url": "https://p.example/r", "token": "t" },
            },
        });
        assert_eq!(
            serde_json::from_slice::<Value>(&plaintext).unwrap(),
            expected
        );
        let text = String::from_utf8_lossy(&plaintext);
        assert!(text.contains("1.50"), "numbers keep their spelling");
    }

    #[test]
    fn anything_else_stays_as_it_is() {
        let payloads: [&[u8]; 6] = [b"", b"[1]", b"\"text\"", b"plain", b"{\"a\":", b"\xff\0"];
        for payload in payloads {
            assert_eq!(&*compose(&told(payload)), payload);
        }
        let empty: Value = serde_json::from_slice(&compose(&told(b"{}"))).unwrap();
        assert_eq!(empty["postrider"]["key"], "k");
    }
}

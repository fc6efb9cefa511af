//! What every push channel tells a device beside the payload.
//!
//! Absent here: the words that a provider has for it.

use postrider_core::dispatch::Dispatch;
use postrider_core::event::{Event, Urgency};
use postrider_core::time::Time;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::replace_key;
use crate::receipts::{ReceiptAsk, ReceiptTokens};

/// One notification on its way to one device.
#[derive(Clone, Debug)]
pub struct Told<'a> {
    /// What the application submitted.
    pub payload: &'a [u8],
    /// The notification id: the same on each attempt.
    pub id: Uuid,
    /// Its place in an order, if it has one.
    pub sequence: Option<u64>,
    /// The key under which a repeat replaces it: 32 characters of base64url.
    pub replace_key: String,
    /// The application asked for older ones of the same thread to be replaced before they were
    /// shown.
    pub collapses: bool,
    /// How soon the device should be woken.
    pub urgency: Urgency,
    /// When it was admitted.
    pub admitted_at: Time,
    /// When it is not worth showing any more.
    pub expires_at: Time,
    /// Where the device sends its receipts, and the proof that it may.
    pub receipt: Option<ReceiptAsk>,
}

impl<'a> Told<'a> {
    /// What a dispatch of `event` tells.
    #[must_use]
    pub fn of(event: &'a Event, dispatch: &Dispatch, receipts: &ReceiptTokens) -> Told<'a> {
        Told {
            payload: &event.payload,
            id: Uuid::from_u128(dispatch.correlation.0),
            sequence: dispatch.lane.map(|lane| lane.sequence),
            replace_key: replace_key(&event.collapse_key, dispatch.correlation),
            collapses: !event.collapse_key.is_empty(),
            urgency: event.urgency,
            admitted_at: dispatch.admitted_at,
            expires_at: dispatch.expires_at,
            receipt: receipts.ask(dispatch.correlation),
        }
    }
}

/// A merge patch (RFC 7396): objects are merged, null takes away, everything else replaces. Its
/// depth has the bound of the parser that read `patch`.
pub(super) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        merge_members(target, patch);
    }
}

/// The same of an object that is known to be one.
pub(super) fn merge_members(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, patch) in patch {
        if patch.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), patch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::merge;
    use serde_json::{Value, json};

    /// RFC 7396 appendix A: what is there, the patch, what comes of it.
    #[test]
    fn a_merge_patch_does_what_its_rfc_says() {
        let rows: [(Value, Value, Value); 15] = [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (
                json!({"a":"b","b":"c"}),
                json!({"a":null}),
                json!({"b":"c"}),
            ),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
        ];
        for (mut target, patch, expected) in rows {
            let shown = format!("{target} {patch}");
            merge(&mut target, patch);
            assert_eq!(target, expected, "{shown}");
        }
    }
}

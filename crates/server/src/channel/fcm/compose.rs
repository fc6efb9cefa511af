//! The body of a `messages:send` request, from an event's payload.
//!
//! A payload that is a JSON object with an object `notification` is the channel-independent form.
//! Of it FCM gets:
//!
//! | from | to |
//! | --- | --- |
//! | `notification.title`, `.body`, `.image` | `notification` |
//! | `notification.tag`, or else the replace key | `android.notification.tag` |
//! | `notification.sound` | `android.notification.sound` |
//! | `notification.badge`, where it is a number | `android.notification.notificationCount` |
//! | `notification.url` | `data.postrider_url` |
//! | `data` | `data`; what is no string becomes its JSON text |
//! | `fcm` | merged over all of the above (RFC 7396) |
//!
//! Every other payload is one value of `data`: `payload`, beside `payload_encoding` = `base64` if
//! it is no text. What Postrider adds is in `data` under names that begin with `postrider_`.
//!
//! A repeat replaces what is shown: on Android by the tag, on Apple's devices by
//! `apns-collapse-id`, in browsers by `Topic`. The same goes for the time to live. Where the
//! caller's `fcm` has an `apns` or a `webpush` of its own, that is sent as it is.
//!
//! Names are written as the API's published schema has them. In `fcm` the spelling with underscores
//! is understood too, as Google's own examples have it.
//!
//! Absent here: HTTP, and any look at what FCM makes of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider_core::cause::Cause;
use postrider_core::event::Urgency;
use postrider_core::time::{SECOND_MS, Time};
use serde_json::{Map, Value, json};

use crate::channel::told::{Told, merge_members};

/// Longest that FCM keeps a notification: four weeks.
pub const TTL_S_MAX: i64 = 28 * 86_400;
/// Bytes of keys and values of `data` and `notification` at most, as Google counts them.
pub const CONTENT_BYTES_MAX: usize = 4_096;
/// Whole body at most: what surrounds the content is headers of other services and overrides.
pub const BODY_BYTES_MAX: usize = 32 * 1_024;
/// What the names of Postrider's own values in `data` begin with.
pub const OWN_PREFIX: &str = "postrider_";
/// Members of a request that say where it goes, which only the endpoint does.
const TARGETS: [&str; 5] = ["token", "fid", "topic", "condition", "name"];

/// Where a request goes: exactly one of these (Google, "projects.messages").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A registration token.
    Token(&'a str),
    /// A Firebase installation id.
    Fid(&'a str),
}

/// What is asked of FCM.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Where to.
    pub target: Target<'a>,
    /// FCM looks at it and sends nothing.
    pub validate_only: bool,
}

impl<'a> From<Target<'a>> for Ask<'a> {
    /// To send it.
    fn from(target: Target<'a>) -> Ask<'a> {
        Ask {
            target,
            validate_only: false,
        }
    }
}

/// Why a payload cannot go to FCM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentFault {
    /// A name in `data` that FCM or Postrider uses itself.
    #[error("`data.{0}` is a name that FCM or Postrider uses itself")]
    Reserved(Box<str>),
    /// A member of the form that is not what it must be.
    #[error("`{0}` must be {1}")]
    Kind(&'static str, &'static str),
    /// `fcm` names another target than the endpoint.
    #[error("`fcm.{0}` would send it elsewhere than to its endpoint")]
    Target(&'static str),
    /// `fcm.android_v2` beside what is always in `android`; FCM takes one of both.
    #[error("`fcm.android_v2` cannot be used beside `android`")]
    AndroidV2,
    /// The content is too large.
    #[error("`data` and `notification` have {0} bytes; FCM carries {CONTENT_BYTES_MAX}")]
    TooLarge(usize),
    /// All of it is too large.
    #[error("the request would have {0} bytes; at most {BODY_BYTES_MAX} are sent")]
    BodyTooLarge(usize),
}

impl ContentFault {
    /// The cause that the delivery is refused for.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            ContentFault::TooLarge(_) | ContentFault::BodyTooLarge(_) => Cause::ContentTooLarge,
            _ => Cause::ContentInvalid,
        }
    }
}

/// The body of the request that tells `told` at `now`. The same arguments give the same bytes.
///
/// # Errors
/// [`ContentFault`], the first.
pub fn compose(told: &Told<'_>, ask: Ask<'_>, now: Time) -> Result<Vec<u8>, ContentFault> {
    let form = form(told.payload);
    let mut all = match &form {
        Some(form) => from_form(form)?,
        None => Map::from_iter([("data".into(), Value::Object(from_bytes(told.payload)))]),
    };
    let over = form.as_ref().and_then(|form| form.get("fcm"));
    let over = over.filter(|over| !over.is_null());
    let visible = all.contains_key("notification") || over.is_some_and(shows);
    add_own(&mut all, told, visible, now);
    if let Some(over) = over {
        merge_over(&mut all, over)?;
    }
    let (name, address) = match ask.target {
        Target::Token(token) => ("token", token),
        Target::Fid(fid) => ("fid", fid),
    };
    check(&all)?;
    all.insert(name.into(), address.into());
    let mut body = Map::from_iter([("message".into(), Value::Object(all))]);
    if ask.validate_only {
        body.insert("validateOnly".into(), true.into());
    }
    let body = Value::Object(body).to_string().into_bytes();
    if body.len() > BODY_BYTES_MAX {
        return Err(ContentFault::BodyTooLarge(body.len()));
    }
    Ok(body)
}

/// The channel-independent form, if the payload has it.
fn form(payload: &[u8]) -> Option<Map<String, Value>> {
    // Most payloads that are not the form are told by their first byte.
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let form: Map<String, Value> = serde_json::from_slice(payload).ok()?;
    form.get("notification")?.is_object().then_some(form)
}

fn from_form(form: &Map<String, Value>) -> Result<Map<String, Value>, ContentFault> {
    let asked = form["notification"].as_object().into_iter().flatten();
    let (mut shown, mut android, mut data) = (Map::new(), Map::new(), Map::new());
    for (name, value) in asked.filter(|(_, value)| !value.is_null()) {
        let text = |name| match value {
            Value::String(text) => Ok(Value::from(text.as_str())),
            _ => Err(ContentFault::Kind(name, "a text")),
        };
        match name.as_str() {
            "title" => drop(shown.insert("title".into(), text("notification.title")?)),
            "body" => drop(shown.insert("body".into(), text("notification.body")?)),
            "image" => drop(shown.insert("image".into(), text("notification.image")?)),
            "tag" => drop(android.insert("tag".into(), text("notification.tag")?)),
            "sound" => drop(android.insert("sound".into(), text("notification.sound")?)),
            "badge" if value.is_u64() => {
                android.insert("notificationCount".into(), value.clone());
            }
            "url" => drop(data.insert("postrider_url".into(), text("notification.url")?)),
            // What only browsers show: icon, a badge that is a picture, actions.
            _ => {}
        }
    }
    match form.get("data") {
        None | Some(Value::Null) => {}
        Some(Value::Object(given)) => {
            for (name, value) in given {
                if is_reserved(name) || name.starts_with(OWN_PREFIX) {
                    return Err(ContentFault::Reserved(name.as_str().into()));
                }
                data.insert(name.clone(), as_text(value));
            }
        }
        Some(_) => return Err(ContentFault::Kind("data", "an object")),
    }
    let mut all = Map::new();
    // Without words there is nothing to show: then it is for the app alone.
    if !shown.is_empty() {
        all.insert("notification".into(), shown.into());
        all.insert("android".into(), json!({ "notification": android }));
    }
    all.insert("data".into(), data.into());
    Ok(all)
}

fn from_bytes(payload: &[u8]) -> Map<String, Value> {
    match str::from_utf8(payload) {
        Ok(text) => Map::from_iter([("payload".into(), text.into())]),
        Err(_) => Map::from_iter([
            ("payload".into(), STANDARD.encode(payload).into()),
            ("payload_encoding".into(), "base64".into()),
        ]),
    }
}

/// A value of `data`: FCM takes texts only.
fn as_text(value: &Value) -> Value {
    match value {
        Value::String(text) => text.as_str().into(),
        other => other.to_string().into(),
    }
}

/// What Postrider says itself: ids, keys, times, urgency.
fn add_own(all: &mut Map<String, Value>, told: &Told<'_>, visible: bool, now: Time) {
    let ttl_s = told
        .expires_at
        .since(now)
        .div_euclid(SECOND_MS)
        .clamp(0, TTL_S_MAX);
    let data = object(all, "data");
    data.insert("postrider_id".into(), told.id.to_string().into());
    data.insert("postrider_key".into(), told.replace_key.as_str().into());
    if let Some(sequence) = told.sequence {
        data.insert("postrider_sequence".into(), sequence.to_string().into());
    }
    if let Some(receipt) = &told.receipt {
        data.insert("postrider_receipt_url".into(), receipt.url.as_ref().into());
        data.insert(
            "postrider_receipt_token".into(),
            receipt.token.as_str().into(),
        );
    }
    let android = object(all, "android");
    // What is shown wakes a device as usual; what is for the app alone can wait for its next look.
    let high = match told.urgency {
        Urgency::High => true,
        Urgency::Normal => visible,
        Urgency::Low | Urgency::VeryLow => false,
    };
    android.insert(
        "priority".into(),
        if high { "HIGH" } else { "NORMAL" }.into(),
    );
    android.insert("ttl".into(), format!("{ttl_s}s").into());
    if told.collapses {
        android.insert("collapseKey".into(), told.replace_key.as_str().into());
    }
    if visible {
        let shown = object(android, "notification");
        shown
            .entry("tag")
            .or_insert_with(|| told.replace_key.as_str().into());
    }
    let ends_s = match ttl_s {
        0 => 0,
        _ => now.0.div_euclid(SECOND_MS).saturating_add(ttl_s),
    };
    // An app that gets data alone may be woken only at Apple's leisure (Google, "Message.data").
    let apple_priority = if visible && high { "10" } else { "5" };
    let headers = json!({
        "apns-collapse-id": told.replace_key,
        "apns-expiration": ends_s.to_string(),
        "apns-priority": apple_priority,
    });
    all.insert("apns".into(), json!({ "headers": headers }));
    let headers = json!({
        "TTL": ttl_s.to_string(),
        "Topic": told.replace_key,
        "Urgency": told.urgency.name(),
    });
    all.insert("webpush".into(), json!({ "headers": headers }));
}

/// Whether the overrides bring something to show.
fn shows(over: &Value) -> bool {
    over["notification"].is_object() || over["android"]["notification"].is_object()
}

fn merge_over(all: &mut Map<String, Value>, over: &Value) -> Result<(), ContentFault> {
    let Value::Object(over) = over else {
        return Err(ContentFault::Kind("fcm", "an object"));
    };
    let mut own = Map::new();
    for (name, value) in over {
        let name = camel(name);
        if let Some(target) = TARGETS.into_iter().find(|target| *target == name) {
            return Err(ContentFault::Target(target));
        }
        match name.as_str() {
            "androidV2" => return Err(ContentFault::AndroidV2),
            // Theirs as a whole, or ours: a mixture would be neither's intent.
            "apns" | "webpush" => {
                all.remove(&name);
                own.insert(name, value.clone());
            }
            "data" => drop(own.insert(name, texts(value)?)),
            _ => drop(own.insert(name, renamed(value)?)),
        }
    }
    merge_members(all, own);
    Ok(())
}

/// Values of a `data` as texts; nulls stay, because they take something away.
fn texts(value: &Value) -> Result<Value, ContentFault> {
    let Value::Object(given) = value else {
        return Err(ContentFault::Kind("fcm.data", "an object"));
    };
    let mut data = Map::new();
    for (name, value) in given {
        if name.starts_with(OWN_PREFIX) {
            return Err(ContentFault::Reserved(name.as_str().into()));
        }
        let value = if value.is_null() {
            Value::Null
        } else {
            as_text(value)
        };
        data.insert(name.clone(), value);
    }
    Ok(data.into())
}

/// The same with names as the schema has them; names inside of `data` are the application's.
fn renamed(value: &Value) -> Result<Value, ContentFault> {
    let Value::Object(members) = value else {
        return Ok(value.clone());
    };
    let mut all = Map::new();
    for (name, value) in members {
        let value = match name.as_str() {
            "data" => texts(value)?,
            _ => renamed(value)?,
        };
        all.insert(camel(name), value);
    }
    Ok(all.into())
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

/// The object of that name, made if there is none.
fn object<'a>(of: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let there = of.entry(name).or_insert_with(|| Map::new().into());
    if !there.is_object() {
        *there = Map::new().into();
    }
    there.as_object_mut().expect("it was just made one")
}

/// Names that Google keeps for itself: what starts with them is never shown to an app.
fn is_reserved(name: &str) -> bool {
    matches!(name, "from" | "message_type") || name.starts_with("google") || name.starts_with("gcm")
}

/// Reserved names and size, of everything that a device may get.
fn check(all: &Map<String, Value>) -> Result<(), ContentFault> {
    let shown = all.get("notification").map_or(0, content_bytes);
    // On Android its own `data` takes the place of the general one.
    let android = all.get("android").and_then(|android| android.get("data"));
    for data in [all.get("data"), android].into_iter().flatten() {
        let Value::Object(members) = data else {
            return Err(ContentFault::Kind("fcm.data", "an object"));
        };
        if let Some(name) = members.keys().find(|name| is_reserved(name)) {
            return Err(ContentFault::Reserved(name.as_str().into()));
        }
        let bytes = shown + content_bytes(data);
        if bytes > CONTENT_BYTES_MAX {
            return Err(ContentFault::TooLarge(bytes));
        }
    }
    Ok(())
}

/// Bytes of names and texts.
fn content_bytes(value: &Value) -> usize {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| name.len() + content_bytes(value))
            .sum(),
        Value::Array(items) => items.iter().map(content_bytes).sum(),
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipts::ReceiptAsk;
    use uuid::Uuid;

    const KEY: &str = "0123456789abcdefghijklmnopqrstuv";
    const NOW: Time = Time(1_795_000_000_500);

    const TOKEN: Target<'_> = Target::Token("t0k3n");

    fn told(payload: &str) -> Told<'_> {
        Told {
            payload: payload.as_bytes(),
            id: Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef),
            sequence: None,
            replace_key: KEY.into(),
            collapses: false,
            urgency: Urgency::Normal,
            admitted_at: NOW,
            expires_at: NOW.plus(90_999),
            receipt: None,
        }
    }

    fn body(told: &Told<'_>) -> Value {
        serde_json::from_slice(&compose(told, TOKEN.into(), NOW).unwrap()).unwrap()
    }

    fn fault(payload: &Value) -> ContentFault {
        compose(&told(&payload.to_string()), TOKEN.into(), NOW).unwrap_err()
    }

    #[test]
    fn the_form_is_written_as_the_api_has_it() {
        let payload = r#"{"notification":{"title":"Hi","body":"There","image":"https://i.example/1",
            "icon":"https://i.example/2","badge":3,"sound":"ding","url":"https://u.example",
            "actions":[{"action":"a"}]},
            "data":{"order":"7","total":12.5,"tags":["a"],"none":null},"apns":{"x":1}}"#;
        let body = body(&Told {
            sequence: Some(4),
            receipt: Some(ReceiptAsk {
                url: "https://r.example/x".into(),
                token: "proof".into(),
            }),
            ..told(payload)
        });
        let expected = json!({ "message": {
            "token": "t0k3n",
            "notification": { "title": "Hi", "body": "There", "image": "https://i.example/1" },
            "data": {
                "order": "7", "total": "12.5", "tags": "[\"a\"]", "none": "null",
                "postrider_id": "01234567-89ab-4def-8123-456789abcdef",
                "postrider_key": KEY,
                "postrider_sequence": "4",
                "postrider_receipt_url": "https://r.example/x",
                "postrider_receipt_token": "proof",
                "postrider_url": "https://u.example",
            },
            "android": {
                "priority": "HIGH", "ttl": "90s",
                "notification": { "tag": KEY, "sound": "ding", "notificationCount": 3 },
            },
            "apns": { "headers": {
                "apns-collapse-id": KEY, "apns-expiration": "1795000090", "apns-priority": "10",
            } },
            "webpush": { "headers": { "TTL": "90", "Topic": KEY, "Urgency": "normal" } },
        } });
        assert_eq!(body, expected);
    }

    #[test]
    fn there_is_exactly_one_target_and_only_the_endpoint_names_it() {
        let fid = compose(&told("x"), Target::Fid("f1d").into(), NOW).unwrap();
        let fid: Value = serde_json::from_slice(&fid).unwrap();
        assert_eq!(fid["message"]["fid"], "f1d");
        assert_eq!(fid["message"].get("token"), None);
        for name in TARGETS {
            let payload = json!({ "notification": {}, "fcm": { name: "elsewhere" } });
            assert_eq!(fault(&payload), ContentFault::Target(name));
        }
    }

    #[test]
    fn anything_else_travels_as_one_value() {
        let data = |payload: &str| body(&told(payload))["message"]["data"].clone();
        assert_eq!(data("{\"a\": 1}")["payload"], "{\"a\": 1}");
        assert_eq!(data("plain")["payload"], "plain");
        assert_eq!(
            data("{\"notification\":3}")["payload"],
            "{\"notification\":3}"
        );
        let message = &body(&told("plain"))["message"];
        assert_eq!(message.get("notification"), None);
        assert_eq!(message["android"].get("notification"), None);
        assert_eq!(message["apns"]["headers"]["apns-priority"], "5");
        let bytes = compose(
            &Told {
                payload: b"\xff\x00",
                ..told("")
            },
            TOKEN.into(),
            NOW,
        );
        let bytes: Value = serde_json::from_slice(&bytes.unwrap()).unwrap();
        assert_eq!(bytes["message"]["data"]["payload"], "/wA=");
        assert_eq!(bytes["message"]["data"]["payload_encoding"], "base64");
    }

    #[test]
    fn an_urgency_is_a_priority() {
        let visible = r#"{"notification":{"title":"t"}}"#;
        let silent = r#"{"notification":{},"data":{"a":"b"}}"#;
        let table = [
            (Urgency::High, visible, "HIGH"),
            (Urgency::Normal, visible, "HIGH"),
            (Urgency::Low, visible, "NORMAL"),
            (Urgency::VeryLow, visible, "NORMAL"),
            (Urgency::High, silent, "HIGH"),
            (Urgency::Normal, silent, "NORMAL"),
        ];
        for (urgency, payload, expected) in table {
            let body = body(&Told {
                urgency,
                ..told(payload)
            });
            let message = &body["message"];
            assert_eq!(
                message["android"]["priority"], expected,
                "{urgency:?} {payload}"
            );
            assert_eq!(message["webpush"]["headers"]["Urgency"], urgency.name());
        }
    }

    #[test]
    fn what_is_left_of_the_time_to_live_is_passed_on_within_four_weeks() {
        let ttl = |expires_at| {
            let body = body(&Told {
                expires_at,
                ..told("x")
            });
            body["message"]["android"]["ttl"].clone()
        };
        assert_eq!(ttl(NOW), "0s");
        assert_eq!(ttl(NOW.plus(-5_000)), "0s");
        assert_eq!(ttl(NOW.plus(1_999)), "1s");
        assert_eq!(ttl(Time::NEVER), "2419200s");
    }

    #[test]
    fn a_collapse_key_goes_only_where_it_was_asked_for() {
        let plain = r#"{"notification":{"title":"t"}}"#;
        assert_eq!(
            body(&told(plain))["message"]["android"].get("collapseKey"),
            None
        );
        let asked = body(&Told {
            collapses: true,
            ..told(plain)
        });
        assert_eq!(asked["message"]["android"]["collapseKey"], KEY);
        let tagged = body(&told(r#"{"notification":{"title":"t","tag":"chat"}}"#));
        assert_eq!(tagged["message"]["android"]["notification"]["tag"], "chat");
    }

    #[test]
    fn overrides_are_merged_and_other_services_are_theirs_alone() {
        let payload = json!({
            "notification": { "title": "t", "body": "b" },
            "data": { "a": "1" },
            "fcm": {
                "notification": { "body": null },
                "data": { "a": null, "n": 5 },
                "android": {
                    "direct_boot_ok": true,
                    "notification": { "channel_id": "news", "title_loc_args": ["x_y"] },
                    "data": { "snake_name": "kept" },
                },
                "webpush": { "fcm_options": { "link": "https://l.example" } },
                "apns": null,
                "fcm_options": { "analytics_label": "l" },
            },
        });
        let body = body(&told(&payload.to_string()));
        let message = &body["message"];
        assert_eq!(message["notification"], json!({ "title": "t" }));
        assert_eq!(message["data"].get("a"), None);
        assert_eq!(message["data"]["n"], "5");
        assert_eq!(message["android"]["directBootOk"], true);
        assert_eq!(message["android"]["notification"]["channelId"], "news");
        assert_eq!(message["android"]["notification"]["tag"], KEY);
        assert_eq!(
            message["android"]["notification"]["titleLocArgs"],
            json!(["x_y"])
        );
        assert_eq!(message["android"]["data"], json!({ "snake_name": "kept" }));
        let webpush = json!({ "fcm_options": { "link": "https://l.example" } });
        assert_eq!(message["webpush"], webpush);
        assert_eq!(message.get("apns"), None);
        assert_eq!(message["fcmOptions"], json!({ "analyticsLabel": "l" }));
    }

    #[test]
    fn something_to_show_that_only_the_overrides_bring_has_a_tag_too() {
        let payload = r#"{"notification":{},"fcm":{"notification":{"title":"t"}}}"#;
        let body = body(&told(payload));
        assert_eq!(body["message"]["android"]["notification"]["tag"], KEY);
        assert_eq!(body["message"]["android"]["priority"], "HIGH");
    }

    #[test]
    fn names_that_google_or_postrider_uses_are_refused() {
        let names = [
            "from",
            "message_type",
            "google.x",
            "gcm.notification.t",
            "google",
            "gcm",
            "postrider_id",
        ];
        for name in names {
            let reserved = ContentFault::Reserved(name.into());
            let direct = json!({ "notification": {}, "data": { name: "x" } });
            assert_eq!(fault(&direct), reserved, "{name}");
            let over = json!({ "notification": {}, "fcm": { "data": { name: "x" } } });
            assert_eq!(fault(&over), reserved, "{name}");
            let android =
                json!({ "notification": {}, "fcm": { "android": { "data": { name: "x" } } } });
            assert_eq!(fault(&android), reserved, "{name}");
        }
        assert_eq!(
            fault(&json!({ "notification": {}, "data": { "gcm": "" } })).cause(),
            Cause::ContentInvalid
        );
    }

    #[test]
    fn what_is_not_what_it_must_be_is_named() {
        let table = [
            (
                json!({ "notification": { "title": 3 } }),
                "`notification.title` must be a text",
            ),
            (
                json!({ "notification": {}, "data": [] }),
                "`data` must be an object",
            ),
            (
                json!({ "notification": {}, "fcm": 1 }),
                "`fcm` must be an object",
            ),
            (
                json!({ "notification": {}, "fcm": { "data": "x" } }),
                "`fcm.data` must be an object",
            ),
            (
                json!({ "notification": {}, "fcm": { "android_v2": {} } }),
                "`fcm.android_v2` cannot be used beside `android`",
            ),
        ];
        for (payload, expected) in table {
            assert_eq!(fault(&payload).to_string(), expected);
        }
    }

    #[test]
    fn content_ends_at_4096_bytes_exactly() {
        let of = |length: usize| json!({ "notification": {}, "data": { "k": "x".repeat(length) } });
        let ours = "postrider_id".len() + 36 + "postrider_key".len() + KEY.len();
        let fits = CONTENT_BYTES_MAX - ours - 1;
        compose(&told(&of(fits).to_string()), TOKEN.into(), NOW).unwrap();
        let over = fault(&of(fits + 1));
        assert_eq!(over, ContentFault::TooLarge(4_097));
        assert_eq!(over.cause(), Cause::ContentTooLarge);
        // Words to show count as well, and so do overrides of one service.
        let shown = json!({ "notification": { "title": "x".repeat(4_000) } });
        assert!(matches!(fault(&shown), ContentFault::TooLarge(_)));
        let long = "x".repeat(BODY_BYTES_MAX);
        let apns = json!({ "notification": {}, "fcm": { "apns": { "payload": { "a": long } } } });
        assert!(matches!(fault(&apns), ContentFault::BodyTooLarge(_)));
    }
}

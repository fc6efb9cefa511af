//! What a `messages:send` request may look like, field by field, and Google's words for what does
//! not: unknown names, wrong kinds, values that no enumeration has.
//!
//! Written from Google's reference of the HTTP v1 API. A test holds it against the schema that
//! Google publishes. Absent here: what fields mean together; see [`super::send`].

use serde_json::{Map, Value};

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A text.
    Text,
    /// True or false.
    Flag,
    /// A whole number of 32 bits.
    Whole,
    /// A number.
    Number,
    /// One of these, whatever the case of its letters.
    OneOf(&'static [&'static str]),
    /// Seconds with up to nine decimals, and an `s`.
    Duration,
    /// A moment (RFC 3339).
    Moment,
    /// Texts by name.
    Texts,
    /// Anything by name.
    Anything,
    /// A list.
    List(&'static Kind),
    /// Fields by name.
    Fields(&'static [(&'static str, Kind)]),
}

use Kind::{Anything, Duration, Fields, Flag, List, Moment, Number, OneOf, Text, Texts, Whole};

/// A whole request.
pub const REQUEST: Kind = Fields(&[("validateOnly", Flag), ("message", MESSAGE)]);

const MESSAGE: Kind = Fields(&[
    ("name", Text),
    ("data", Texts),
    ("notification", NOTIFICATION),
    ("android", ANDROID),
    ("androidV2", ANDROID_V2),
    ("webpush", WEBPUSH),
    ("apns", APNS),
    ("fcmOptions", OPTIONS),
    ("token", Text),
    ("fid", Text),
    ("topic", Text),
    ("condition", Text),
]);

const NOTIFICATION: Kind = Fields(&[("title", Text), ("body", Text), ("image", Text)]);

const OPTIONS: Kind = Fields(&[("analyticsLabel", Text)]);

const ANDROID: Kind = Fields(&[
    ("collapseKey", Text),
    ("priority", OneOf(&["NORMAL", "HIGH"])),
    ("ttl", Duration),
    ("restrictedPackageName", Text),
    ("data", Texts),
    ("notification", ANDROID_NOTIFICATION),
    ("fcmOptions", OPTIONS),
    ("directBootOk", Flag),
    ("bandwidthConstrainedOk", Flag),
    ("restrictedSatelliteOk", Flag),
]);

const ANDROID_V2: Kind = Fields(&[
    ("collapseKey", Text),
    ("ttl", Duration),
    ("restrictedPackageName", Text),
    ("data", Texts),
    ("fcmOptions", OPTIONS),
    ("directBootOk", Flag),
    ("bandwidthConstrainedOk", Flag),
    ("restrictedSatelliteOk", Flag),
    ("backgroundSync", Fields(&[])),
    ("remoteNotification", REMOTE_NOTIFICATION),
]);

const REMOTE_NOTIFICATION: Kind = Fields(&[
    ("mutableContent", Flag),
    ("useAsV1DataMessage", Flag),
    ("notification", ANDROID_NOTIFICATION_V2),
]);

const VISIBILITY: Kind = OneOf(&["VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"]);

const IMPORTANCE: Kind = OneOf(&[
    "PRIORITY_UNSPECIFIED",
    "PRIORITY_MIN",
    "PRIORITY_LOW",
    "PRIORITY_DEFAULT",
    "PRIORITY_HIGH",
    "PRIORITY_MAX",
]);

const PROXY: Kind = OneOf(&["PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"]);

const LIGHT: Kind = Fields(&[
    ("color", COLOR),
    ("lightOnDuration", Duration),
    ("lightOffDuration", Duration),
]);

const COLOR: Kind = Fields(&[
    ("red", Number),
    ("green", Number),
    ("blue", Number),
    ("alpha", Number),
]);

/// Fields of an Android notification in both versions, and those of one alone.
macro_rules! android_notification {
    ($($own:expr),*) => {
        Fields(&[
            ("title", Text),
            ("body", Text),
            ("icon", Text),
            ("color", Text),
            ("sound", Text),
            ("tag", Text),
            ("clickAction", Text),
            ("bodyLocKey", Text),
            ("bodyLocArgs", List(&Text)),
            ("titleLocKey", Text),
            ("titleLocArgs", List(&Text)),
            ("channelId", Text),
            ("ticker", Text),
            ("sticky", Flag),
            ("eventTime", Moment),
            ("localOnly", Flag),
            ("notificationPriority", IMPORTANCE),
            ("defaultSound", Flag),
            ("defaultVibrateTimings", Flag),
            ("defaultLightSettings", Flag),
            ("vibrateTimings", List(&Duration)),
            ("visibility", VISIBILITY),
            ("notificationCount", Whole),
            ("lightSettings", LIGHT),
            ("image", Text),
            $($own),*
        ])
    };
}

const ANDROID_NOTIFICATION: Kind =
    android_notification!(("bypassProxyNotification", Flag), ("proxy", PROXY));
const ANDROID_NOTIFICATION_V2: Kind = android_notification!(("id", Whole));

const WEBPUSH: Kind = Fields(&[
    ("headers", Texts),
    ("data", Texts),
    ("notification", Anything),
    (
        "fcmOptions",
        Fields(&[("link", Text), ("analyticsLabel", Text)]),
    ),
]);

const APNS: Kind = Fields(&[
    ("headers", Texts),
    ("payload", Anything),
    (
        "fcmOptions",
        Fields(&[("analyticsLabel", Text), ("image", Text)]),
    ),
    ("liveActivityToken", Text),
]);

/// A field that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where it is: `message.android.ttl`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// Holds `value` against `kind`; `at` is where it is.
///
/// # Errors
/// [`Violation`], the first.
pub fn fits(kind: &Kind, value: &Value, at: &str) -> Result<(), Violation> {
    let wrong = |what: &str| {
        Err(Violation {
            field: at.to_owned(),
            description: format!("Invalid value at '{at}' ({what}), {value}"),
        })
    };
    let holds = |holds: bool, what: &str| if holds { Ok(()) } else { wrong(what) };
    // A null is a field that is not given (protocol buffers, "JSON mapping").
    if value.is_null() {
        return Ok(());
    }
    match kind {
        Text => holds(value.is_string(), "TYPE_STRING"),
        Flag => holds(value.is_boolean(), "TYPE_BOOL"),
        Number => holds(value.is_number(), "TYPE_FLOAT"),
        Whole => {
            let whole = value.as_i64().and_then(|number| i32::try_from(number).ok());
            holds(whole.is_some(), "TYPE_INT32")
        }
        OneOf(words) => {
            let text = value.as_str().unwrap_or_default();
            let known = words.iter().any(|word| word.eq_ignore_ascii_case(text));
            holds(known, "TYPE_ENUM")
        }
        Duration => holds(value.as_str().and_then(seconds).is_some(), "Duration"),
        Moment => {
            let text = value.as_str().unwrap_or_default();
            holds(text.parse::<jiff::Timestamp>().is_ok(), "Timestamp")
        }
        Anything => holds(value.is_object(), "Struct"),
        Texts => match value {
            Value::Object(members) => members.iter().try_for_each(|(name, value)| {
                fits(&Text, value, &format!("{at}[{name:?}].value"))?;
                holds(value.is_string(), "TYPE_STRING")
            }),
            _ => wrong("Map"),
        },
        List(each) => match value {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .try_for_each(|(n, item)| fits(each, item, &format!("{at}[{n}]"))),
            _ => wrong("List"),
        },
        Fields(fields) => match value {
            Value::Object(members) => members_fit(fields, members, at),
            _ => wrong("Object"),
        },
    }
}

fn members_fit(
    fields: &[(&str, Kind)],
    members: &Map<String, Value>,
    at: &str,
) -> Result<(), Violation> {
    let mut seen = Vec::with_capacity(members.len());
    for (name, value) in members {
        let known = fields.iter().find(|(known, _)| is_spelled(known, name));
        let Some((known, kind)) = known else {
            let description = format!(
                "Invalid JSON payload received. Unknown name \"{name}\" at '{at}': \
                 Cannot find field."
            );
            return Err(Violation {
                field: at.to_owned(),
                description,
            });
        };
        let at = if at.is_empty() {
            (*known).to_owned()
        } else {
            format!("{at}.{known}")
        };
        if seen.contains(known) {
            let description = format!("Field {at} is given in two spellings.");
            return Err(Violation {
                field: at,
                description,
            });
        }
        seen.push(known);
        fits(kind, value, &at)?;
    }
    Ok(())
}

/// The member of this name in either of its spellings; null counts as not there.
#[must_use]
pub fn member<'a>(of: &'a Value, name: &str) -> Option<&'a Value> {
    let mut members = of.as_object()?.iter();
    let (_, value) = members.find(|(given, _)| is_spelled(name, given))?;
    Some(value).filter(|value| !value.is_null())
}

/// Whether `given` is `name` in capitals or with underscores: both are read.
fn is_spelled(name: &str, given: &str) -> bool {
    if name == given {
        return true;
    }
    let mut spelled = String::with_capacity(given.len());
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            spelled.push('_');
        }
        spelled.push(letter.to_ascii_lowercase());
    }
    spelled == given
}

/// A duration as protocol buffers write it in JSON, as whole seconds.
#[must_use]
pub fn seconds(text: &str) -> Option<i64> {
    let number = text.strip_suffix('s')?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let fits = digits(whole.strip_prefix('-').unwrap_or(whole)) && digits(part) && part.len() <= 9;
    if fits { whole.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{REQUEST, fits, member, seconds};
    use serde_json::{Value, json};

    fn description(message: &Value) -> String {
        match fits(&REQUEST, &json!({ "message": message }), "") {
            Ok(()) => String::new(),
            Err(violation) => violation.description,
        }
    }

    #[test]
    fn google_s_own_examples_fit_in_both_spellings() {
        let message = json!({
            "token": "t",
            "notification": { "title": "FCM Message", "body": "b" },
            "data": { "story_id": "story_12345" },
            "android": { "ttl": "86400s", "collapse_key": "k", "priority": "high",
                "notification": { "click_action": "OPEN_ACTIVITY_1", "vibrate_timings": ["0.5s"],
                    "notification_count": 3, "event_time": "2026-11-06T08:49:37.5Z" } },
            "apns": { "headers": { "apns-priority": "5" },
                "payload": { "aps": { "category": "NEW" } } },
            "webpush": { "headers": { "TTL": "86400" }, "fcm_options": { "link": "l" } },
            "fcmOptions": { "analytics_label": "a" },
        });
        assert_eq!(description(&message), "");
    }

    #[test]
    fn what_does_not_fit_is_named_where_it_is() {
        let table = [
            (
                json!({ "colour": 1 }),
                "Unknown name \"colour\" at 'message'",
            ),
            (
                json!({ "data": { "n": 12 } }),
                "at 'message.data[\"n\"].value' (TYPE_STRING), 12",
            ),
            (json!({ "data": { "n": null } }), "(TYPE_STRING), "),
            (json!({ "data": [] }), "(Map)"),
            (json!({ "token": 1 }), "'message.token' (TYPE_STRING), 1"),
            (
                json!({ "android": { "ttl": 30 } }),
                "'message.android.ttl' (Duration), 30",
            ),
            (json!({ "android": { "ttl": "30" } }), "(Duration)"),
            (
                json!({ "android": { "priority": "URGENT" } }),
                "(TYPE_ENUM)",
            ),
            (
                json!({ "android": { "directBootOk": "yes" } }),
                "(TYPE_BOOL)",
            ),
            (
                json!({ "android": { "notification": { "notificationCount": 1.5 } } }),
                "(TYPE_INT32)",
            ),
            (
                json!({ "android": { "notification": { "titleLocArgs": "x" } } }),
                "(List)",
            ),
            (
                json!({ "android": { "ttl": "1s", "ttl_": "1s" } }),
                "Unknown name \"ttl_\"",
            ),
            (
                json!({ "fcmOptions": {}, "fcm_options": {} }),
                "two spellings",
            ),
            (json!("x"), "(Object)"),
        ];
        for (message, expected) in table {
            let found = description(&message);
            assert!(found.contains(expected), "{message}: {found:?}");
        }
    }

    #[test]
    fn durations_and_members() {
        assert_eq!(seconds("3s"), Some(3));
        assert_eq!(seconds("3.000000001s"), Some(3));
        for bad in ["3", "s", "3.s", "x3s", "3.0000000001s", "", "+3s"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        let object = json!({ "validate_only": true, "x": null });
        assert_eq!(member(&object, "validateOnly"), Some(&json!(true)));
        assert_eq!(member(&object, "x"), None);
    }
}

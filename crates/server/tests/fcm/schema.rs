//! Every request to FCM, held against the schema that Google publishes: the discovery document of
//! the HTTP v1 API, out of the `google-api-python-client` package from PyPI. So is the fake, which
//! must know no field that Google does not, and all that it does.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use postrider::channel::Told;
use postrider::channel::fcm::compose::{Ask, Target, compose};
use postrider::fake::fcm::{Kind, REQUEST};
use postrider::receipts::ReceiptAsk;
use postrider_core::event::Urgency;
use postrider_core::time::Time;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::package_kit;

/// The package, at the version this was written against; its document is of 2026-10-23.
const PACKAGE: &str = "google-api-python-client==2.202.0";
const DOCUMENT: &str = "googleapiclient/discovery_cache/documents/fcm.v1.json";

const NOW: Time = Time(1_795_000_000_500);
const REPLACE_KEY: &str = "0123456789abcdefghijklmnopqrstuv";

/// The schemas of the document, by name.
fn schemas() -> &'static Value {
    static SCHEMAS: OnceLock<Value> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        let home = package_kit::pypi("fcm-schema", &["--no-deps", PACKAGE]);
        let where_from = "import sysconfig; print(sysconfig.get_path('purelib'), end='')";
        let said = Command::new(home.join("bin/python"))
            .args(["-c", where_from])
            .output()
            .unwrap();
        let packages = PathBuf::from(String::from_utf8(said.stdout).unwrap());
        let text = std::fs::read_to_string(packages.join(DOCUMENT)).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["revision"], "20261023");
        document["schemas"].clone()
    })
}

/// What of `value` does not fit `schema`, with where it is.
fn complaints(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        return complaints(&schemas()[name], value, at, found);
    }
    let holds = match schema["type"].as_str().expect("a type") {
        "object" => return object_complaints(schema, value, at, found),
        "array" => match value.as_array() {
            Some(items) => {
                for (n, item) in items.iter().enumerate() {
                    complaints(&schema["items"], item, &format!("{at}[{n}]"), found);
                }
                true
            }
            None => false,
        },
        "string" => match (value.as_str(), schema["format"].as_str()) {
            (None, _) => false,
            (Some(text), Some("google-duration")) => is_duration(text),
            (Some(text), Some("google-datetime")) => text.parse::<jiff::Timestamp>().is_ok(),
            (Some(text), None) => schema["enum"]
                .as_array()
                .is_none_or(|words| words.iter().any(|word| word == text)),
            (Some(_), Some(other)) => panic!("{at}: the check does not know {other}"),
        },
        "boolean" => value.is_boolean(),
        "integer" => value.as_i64().is_some_and(|it| i32::try_from(it).is_ok()),
        "number" => value.is_number(),
        "any" => true,
        other => panic!("{at}: the check does not know {other}"),
    };
    if !holds {
        found.push(format!("{at}: {value} is no {schema}"));
    }
}

fn object_complaints(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let Some(members) = value.as_object() else {
        found.push(format!("{at}: {value} is no object"));
        return;
    };
    for (name, value) in members {
        let at = format!("{at}.{name}");
        let any = schema.get("additionalProperties");
        match schema["properties"].get(name).or(any) {
            Some(schema) => complaints(schema, value, &at, found),
            None => found.push(format!("{at}: there is no such field")),
        }
    }
}

fn is_duration(text: &str) -> bool {
    let seconds = text.strip_suffix('s').unwrap_or("x");
    seconds.parse::<f64>().is_ok() && seconds.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

pub fn check(request: &[u8]) -> Vec<String> {
    let request: Value = serde_json::from_slice(request).unwrap();
    let mut found = Vec::new();
    let schema = &schemas()["SendMessageRequest"];
    complaints(schema, &request, "request", &mut found);
    let message = &request["message"];
    let targets = ["token", "fid", "topic", "condition"];
    let given = targets.iter().filter(|it| message.get(**it).is_some());
    if given.count() != 1 {
        found.push(format!("exactly one target: {message}"));
    }
    found
}

fn told(payload: &[u8]) -> Told<'_> {
    Told {
        payload,
        id: Uuid::from_u128(7),
        sequence: Some(9),
        replace_key: REPLACE_KEY.into(),
        collapses: true,
        urgency: Urgency::High,
        admitted_at: NOW,
        expires_at: NOW.plus(60_000),
        receipt: Some(ReceiptAsk {
            url: "https://r.example".into(),
            token: "proof".into(),
        }),
    }
}

/// Payloads of every kind: forms that use all that the channel knows, and what is no form.
fn payloads() -> Vec<Vec<u8>> {
    let everything = json!({
        "notification": {
            "title": "t", "body": "b", "image": "https://i.example", "icon": "x", "badge": 4,
            "url": "https://u.example", "tag": "g", "sound": "s", "actions": [{ "action": "a" }],
        },
        "data": { "text": "a", "number": 1.5, "flag": true, "nothing": null, "list": [1, "b"] },
        "fcm": {
            "android": {
                "restricted_package_name": "com.example",
                "direct_boot_ok": true,
                "notification": {
                    "channel_id": "c", "notification_priority": "PRIORITY_HIGH",
                    "title_loc_args": ["a"], "vibrate_timings": ["0.5s", "1s"],
                    "light_settings": {
                        "color": { "red": 0.5, "alpha": 1 },
                        "light_on_duration": "3.5s", "light_off_duration": "1s",
                    },
                    "event_time": "2026-11-06T08:49:37Z", "visibility": "PUBLIC",
                },
                "data": { "n": 5 },
                "fcm_options": { "analytics_label": "l" },
            },
            "webpush": { "notification": { "title": "w" }, "fcmOptions": { "link": "l" } },
            "apns": { "payload": { "aps": { "alert": "x" } }, "headers": { "apns-priority": "5" } },
            "fcm_options": { "analytics_label": "l" },
        },
    });
    let texts = [
        everything.to_string(),
        r#"{"notification":{}}"#.into(),
        r#"{"notification":{"title":"t"}}"#.into(),
        r#"{"notification":{"body":""},"data":{}}"#.into(),
        r#"{"notification":{},"data":{"a":"b"},"fcm":null,"apns":{"x":1}}"#.into(),
        r#"{"notification":{},"fcm":{"notification":{"title":"t"}}}"#.into(),
        r#"{"no":"form"}"#.into(),
        "[1,2]".into(),
        "Grüße, 世界 🌍".into(),
        String::new(),
    ];
    let mut all: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
    all.push(vec![0xff, 0, 1]);
    all
}

#[test]
fn every_request_fits_the_published_schema() {
    let mut checked = 0;
    for payload in payloads() {
        for target in [Target::Token("t"), Target::Fid("f")] {
            for urgency in Urgency::ALL {
                for flag in [false, true] {
                    let full = told(&payload);
                    let told = Told {
                        urgency,
                        sequence: full.sequence.filter(|_| flag),
                        receipt: full.receipt.filter(|_| flag),
                        collapses: flag,
                        expires_at: if flag { Time::NEVER } else { NOW },
                        ..full
                    };
                    let ask = Ask {
                        target,
                        validate_only: flag,
                    };
                    let request = compose(&told, ask, NOW).unwrap();
                    let found = check(&request);
                    let text = String::from_utf8(request).unwrap();
                    assert!(found.is_empty(), "{found:#?}\n{text}");
                    checked += 1;
                }
            }
        }
    }
    assert_eq!(checked, payloads().len() * 2 * 4 * 2);
}

#[test]
fn the_check_finds_what_does_not_fit() {
    let with = |change: &dyn Fn(&mut Value)| {
        let request = compose(
            &told(b"{\"notification\":{}}"),
            Target::Token("t").into(),
            NOW,
        )
        .unwrap();
        let mut request: Value = serde_json::from_slice(&request).unwrap();
        change(&mut request);
        check(&serde_json::to_vec(&request).unwrap()).join("; ")
    };
    assert_eq!(with(&|_| ()), "");
    let unknown = with(&|it| it["message"]["colour"] = json!("red"));
    assert!(
        unknown.contains("request.message.colour: there is no such field"),
        "{unknown}"
    );
    let kind = with(&|it| it["message"]["data"]["n"] = json!(1));
    assert!(kind.contains("request.message.data.n: 1 is no"), "{kind}");
    let word = with(&|it| it["message"]["android"]["priority"] = json!("URGENT"));
    assert!(word.contains("android.priority"), "{word}");
    let ttl = with(&|it| it["message"]["android"]["ttl"] = json!("60"));
    assert!(ttl.contains("android.ttl"), "{ttl}");
    let both = with(&|it| it["message"]["fid"] = json!("f"));
    assert!(both.contains("exactly one target"), "{both}");
    let snake = with(&|it| it["validate_only"] = json!(true));
    assert!(snake.contains("request.validate_only"), "{snake}");
}

/// Every field of the published schema below `schema`, with its kind in a word.
fn published(schema: &Value, at: &str, fields: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        return published(&schemas()[name], at, fields);
    }
    let kind = match (schema["type"].as_str().unwrap(), schema["format"].as_str()) {
        ("object", _) => match schema.get("additionalProperties") {
            Some(any) if any["type"] == "string" => "texts".into(),
            Some(_) => "anything".into(),
            None => {
                let members = schema["properties"].as_object();
                for (name, schema) in members.into_iter().flatten() {
                    published(schema, &format!("{at}.{name}"), fields);
                }
                "fields".into()
            }
        },
        ("array", _) => {
            published(&schema["items"], &format!("{at}[]"), fields);
            "list".into()
        }
        ("string", Some("google-duration")) => "duration".into(),
        ("string", Some("google-datetime")) => "moment".into(),
        ("string", _) => match schema["enum"].as_array() {
            Some(words) => words_of(words.iter().filter_map(Value::as_str)),
            None => "text".into(),
        },
        ("boolean", _) => "flag".into(),
        ("integer", Some("int32")) => "whole".into(),
        ("number", _) => "number".into(),
        other => panic!("{at}: {other:?}"),
    };
    fields.insert(format!("{at} {kind}"));
}

/// The same of what the fake knows.
fn faked(kind: &Kind, at: &str, fields: &mut BTreeSet<String>) {
    let word = match kind {
        Kind::Text => "text".into(),
        Kind::Flag => "flag".into(),
        Kind::Whole => "whole".into(),
        Kind::Number => "number".into(),
        Kind::OneOf(words) => words_of(words.iter().copied()),
        Kind::Duration => "duration".into(),
        Kind::Moment => "moment".into(),
        Kind::Texts => "texts".into(),
        Kind::Anything => "anything".into(),
        Kind::List(each) => {
            faked(each, &format!("{at}[]"), fields);
            "list".into()
        }
        Kind::Fields(members) => {
            for (name, kind) in *members {
                faked(kind, &format!("{at}.{name}"), fields);
            }
            "fields".into()
        }
    };
    fields.insert(format!("{at} {word}"));
}

fn words_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: BTreeSet<&str> = words.collect();
    format!("{words:?}")
}

#[test]
fn the_fake_knows_exactly_the_published_fields() {
    let (mut theirs, mut ours) = (BTreeSet::new(), BTreeSet::new());
    published(&schemas()["SendMessageRequest"], "request", &mut theirs);
    faked(&REQUEST, "request", &mut ours);
    let missing: Vec<_> = theirs.difference(&ours).collect();
    let invented: Vec<_> = ours.difference(&theirs).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "not in the fake: {missing:#?}\nnot published: {invented:#?}"
    );
    assert!(ours.len() > 100);
}

//! What a device got, read as its app reads it: decrypted, taken out of its provider's form, and
//! said again as it was submitted.
//!
//! What cannot be read has no correlation id, and the checkers take it for something that nobody
//! asked for. Absent here: what the engine says about it.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider_core::endpoint::Channel;
use serde_json::Value;

use super::Held;
use crate::cli::demo::evidence::Push;
use crate::cli::demo::plan::payload;
use crate::fake::apns::Notification;
use crate::fake::{Record, Verdict};

/// A notification, as the app sees it.
struct Seen {
    correlation_id: String,
    sequence: u64,
    /// What was submitted, as far as it can be told from what came.
    payload: String,
    /// Under which it takes the place of what is shown.
    key: String,
}

/// Everything that arrived at the providers, under the paths of the devices.
pub(super) fn all(
    held: &BTreeMap<String, Held>,
    requests: Vec<Record>,
    notifications: Vec<Notification>,
) -> (Vec<Record>, Vec<Push>) {
    let by_token: HashMap<&str, (&str, &Held)> = held
        .iter()
        .map(|(path, held)| (&*held.token, (&**path, held)))
        .collect();
    let owner = |token: &str| by_token.get(token).copied();
    let mut whole = Whole::default();
    // Requests for access tokens go to no device.
    for record in requests
        .into_iter()
        .filter(|it| !it.path.starts_with("/oauth2/"))
    {
        let token = record.path.rsplit('/').next().unwrap_or_default();
        let (path, seen) = match owner(token) {
            Some((path, held)) => (path.to_owned(), read(held, &record)),
            None => (record.path.to_string(), None),
        };
        whole.take(path, seen, record);
    }
    for notification in notifications {
        let path = owner(&notification.token).map_or_else(String::new, |(path, _)| path.into());
        let body = serde_json::from_str(&notification.body).unwrap_or_default();
        let seen = apple(&body, &notification.collapse_id);
        let same = |seen: &Seen| seen.correlation_id == notification.apns_id;
        whole.take(path, seen.filter(same), record(&notification));
    }
    (whole.records, whole.pushes)
}

/// What is gathered.
#[derive(Default)]
struct Whole {
    records: Vec<Record>,
    pushes: Vec<Push>,
    /// Requests of each delivery so far: providers are not told the number of an attempt.
    attempts: HashMap<String, u32>,
}

impl Whole {
    fn take(&mut self, path: String, seen: Option<Seen>, record: Record) {
        let mut record = Record {
            path: path.as_str().into(),
            correlation_id: "".into(),
            body: "".into(),
            signature: Verdict::Mismatch,
            ..record
        };
        if let Some(seen) = seen {
            let attempt = self
                .attempts
                .entry(seen.correlation_id.clone())
                .or_default();
            *attempt += 1;
            record.attempt = *attempt;
            record.correlation_id = seen.correlation_id.as_str().into();
            record.sequence = seen.sequence;
            record.body_crc32c = crc32c::crc32c(seen.payload.as_bytes());
            // Its provider let the sender in, and it was encrypted for this very device.
            record.signature = Verdict::Valid;
            if record.processed {
                self.pushes.push(Push {
                    path,
                    correlation_id: seen.correlation_id,
                    key: seen.key,
                });
            }
        }
        self.records.push(record);
    }
}

fn read(held: &Held, record: &Record) -> Option<Seen> {
    if held.channel == Channel::Fcm {
        return google(&serde_json::from_str(&record.body).ok()?);
    }
    let body = STANDARD.decode(&*record.body).ok()?;
    let plain = held.browser.as_ref()?.open(&body).ok()?;
    browser(&serde_json::from_slice(&plain).ok()?, &record.key)
}

/// What was submitted: its title and its data.
fn said(title: &Value, data: &Value) -> Option<String> {
    let word = |name: &str| data[name].as_str();
    let again = payload(word("event")?, word("number")?, word("pad")?);
    (title.as_str() == word("event")).then_some(again)
}

/// What a service worker finds. The key in it and the one of the request have to be the same.
fn browser(shown: &Value, key: &str) -> Option<Seen> {
    let own = &shown["postrider"];
    (own["key"].as_str()? == key).then_some(Seen {
        correlation_id: own["id"].as_str()?.to_owned(),
        sequence: own["sequence"].as_u64().unwrap_or(0),
        payload: said(&shown["notification"]["title"], &shown["data"])?,
        key: key.to_owned(),
    })
}

fn apple(shown: &Value, key: &str) -> Option<Seen> {
    let own = &shown["postrider"];
    (own["key"].as_str()? == key).then_some(Seen {
        correlation_id: own["id"].as_str()?.to_owned(),
        sequence: own["sequence"].as_u64().unwrap_or(0),
        payload: said(&shown["aps"]["alert"]["title"], &shown["data"])?,
        key: key.to_owned(),
    })
}

fn google(request: &Value) -> Option<Seen> {
    let whole = &request["message"];
    let data = &whole["data"];
    let sequence = data["postrider_sequence"].as_str();
    Some(Seen {
        correlation_id: data["postrider_id"].as_str()?.to_owned(),
        sequence: sequence.map_or(Some(0), |text| text.parse().ok())?,
        payload: said(&whole["notification"]["title"], data)?,
        key: whole["android"]["notification"]["tag"].as_str()?.to_owned(),
    })
}

/// Apple's side of a request as a record.
fn record(notification: &Notification) -> Record {
    Record {
        serial: notification.serial,
        arrived_us: notification.arrived_us,
        http_status: notification.http_status,
        processed: notification.processed,
        body_bytes: u32::try_from(notification.body.len()).unwrap_or(u32::MAX),
        ..Record::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::web_push::encrypt::{Ephemeral, Receiver, encrypt};
    use crate::fake::push::Browser;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    fn held() -> BTreeMap<String, Held> {
        let one = |channel, token: &str, browser| Held {
            channel,
            token: token.to_owned(),
            browser,
        };
        let browser = Browser::new().expect("keys");
        BTreeMap::from([
            ("/web".to_owned(), one(Channel::WebPush, "w", Some(browser))),
            ("/apple".to_owned(), one(Channel::Apns, "a", None)),
            ("/google".to_owned(), one(Channel::Fcm, "g", None)),
        ])
    }

    /// What a browser's fake records, of a push encrypted for `browser`.
    fn to_browser(browser: &Browser, plain: &Value) -> Record {
        let key = |text: String| URL_SAFE_NO_PAD.decode(text).expect("base64url");
        let receiver = Receiver::new(&key(browser.p256dh()), &key(browser.auth()));
        let ours = Ephemeral::generate().expect("a key pair");
        let plain = plain.to_string();
        let receiver = receiver.expect("its keys");
        let body = encrypt(&receiver, &ours, &[7; 16], plain.as_bytes(), 0);
        Record {
            path: "/wpush/v2/w".into(),
            key: "K".into(),
            body: STANDARD.encode(body.expect("it fits")).into(),
            processed: true,
            ..Record::default()
        }
    }

    fn to_google(request: &Value) -> Record {
        Record {
            path: "/fcm/g".into(),
            body: request.to_string().into(),
            processed: true,
            ..Record::default()
        }
    }

    fn to_apple(body: &Value) -> Notification {
        Notification {
            token: "a".into(),
            apns_id: "id-1".into(),
            collapse_id: "K".into(),
            body: body.to_string(),
            processed: true,
            ..Notification::default()
        }
    }

    #[test]
    fn what_every_provider_hands_over_says_what_was_submitted() {
        let held = held();
        let data = json!({ "event": "e", "number": "1", "pad": "x" });
        let own = json!({ "id": "id-1", "key": "K", "sequence": 3 });
        let title = json!({ "title": "e" });
        let browser = held["/web"].browser.as_ref().expect("keys");
        let web = json!({ "notification": title, "data": data, "postrider": own });
        let apple = json!({ "aps": { "alert": title }, "data": data, "postrider": own });
        let mut all_data = data.clone();
        all_data["postrider_id"] = json!("id-1");
        all_data["postrider_sequence"] = json!("3");
        let android = json!({ "notification": { "tag": "K" } });
        let google = json!({ "message": {
            "notification": title, "data": all_data, "android": android } });
        let token = Record {
            path: "/oauth2/token".into(),
            ..Record::default()
        };
        let requests = vec![to_browser(browser, &web), token, to_google(&google)];
        let (records, pushes) = all(&held, requests, vec![to_apple(&apple)]);
        let submitted = crc32c::crc32c(payload("e", "1", "x").as_bytes());
        let paths: Vec<&str> = records.iter().map(|record| &*record.path).collect();
        assert_eq!(paths, ["/web", "/google", "/apple"]);
        for record in &records {
            assert_eq!(&*record.correlation_id, "id-1", "{record:?}");
            assert_eq!((record.sequence, record.body_crc32c), (3, submitted));
            assert_eq!(record.signature, Verdict::Valid);
        }
        let attempts: Vec<u32> = records.iter().map(|record| record.attempt).collect();
        assert_eq!(attempts, [1, 2, 3], "one delivery, so far as they know");
        assert!(pushes.iter().all(|push| push.key == "K"));
        assert_eq!(pushes.len(), 3);
    }

    #[test]
    fn what_does_not_fit_its_device_or_its_keys_is_nobodys() {
        let held = held();
        let data = json!({ "event": "e", "number": "1", "pad": "x" });
        let body = |key: &str| {
            json!({ "notification": { "title": "e" }, "data": data,
                "postrider": { "id": "id-1", "key": key } })
        };
        let browser = held["/web"].browser.as_ref().expect("keys");
        let other = Browser::new().expect("keys");
        let apple = |title: &str, id: &str| {
            json!({ "aps": { "alert": { "title": title } }, "data": data,
                "postrider": { "id": id, "key": "K" } })
        };
        let requests = vec![
            to_browser(&other, &body("K")),
            to_browser(browser, &body("L")),
            to_google(&json!({ "message": { "data": data } })),
        ];
        let notifications = vec![to_apple(&apple("f", "id-1")), to_apple(&apple("e", "id-2"))];
        let (records, pushes) = all(&held, requests, notifications);
        assert_eq!((records.len(), pushes.len()), (5, 0));
        assert!(
            records
                .iter()
                .all(|record| record.correlation_id.is_empty())
        );
    }
}

//! The push providers, and the devices behind them: what they make of a request that came whole,
//! and what a device reads in it. As strict as the product's own fakes, whose desks they ask.
//!
//! Absent here: the network, and what goes wrong on it; see `receiver`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use parking_lot::Mutex;
use postrider::channel::web_push::vapid;
use postrider::fake::apns::{Desk as AppleDesk, Device as AppleDevice, Key, Service};
use postrider::fake::fcm::Desk as GoogleDesk;
use postrider::fake::push::{Browser, Subscriptions, judge};
use postrider_core::endpoint::Channel;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

/// The app that everything is for.
pub const APP: &str = "com.example.app";
/// The project of Firebase.
pub const PROJECT: &str = "shop";
/// What devices are reached through, with the place of each: two push services, APNs, FCM.
const DEVICES: [(&str, Channel); 10] = [
    ("push-1.example", Channel::WebPush),
    ("push-1.example", Channel::WebPush),
    ("push-2.example", Channel::WebPush),
    ("push-2.example", Channel::WebPush),
    ("apns.example", Channel::Apns),
    ("apns.example", Channel::Apns),
    ("apns.example", Channel::Apns),
    ("fcm.example", Channel::Fcm),
    ("fcm.example", Channel::Fcm),
    ("fcm.example", Channel::Fcm),
];
/// How many there are.
pub const DEVICES_COUNT: usize = DEVICES.len();
/// Where access tokens come from.
pub const TOKEN_ORIGIN: &str = "https://token.example";
/// How far Apple's clock goes ahead when its patience with tokens is to end.
const AHEAD_S: i64 = 1_900;

/// A device and its app.
pub struct Device {
    pub place: usize,
    /// The provider's host.
    pub host: &'static str,
    pub channel: Channel,
    /// The keys of its subscriptions, where it is a browser.
    browser: Browser,
    at: Mutex<Address>,
}

struct Address {
    /// What of its address is the device's own.
    token: String,
    /// Where a browser is reached.
    url: String,
    /// Addresses that it had, this one included.
    count: usize,
}

/// What a device reads in a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Pushed {
    /// Its place.
    pub device: usize,
    /// The notification id that it is told.
    pub id: u128,
    /// The key under which it takes the place of what is shown.
    pub key: String,
    /// What the application submitted, as far as the channel carries it.
    pub content: Value,
}

/// What a provider makes of a request.
pub struct Heard {
    pub answer: Response<Bytes>,
    /// What the device would read, or why it could not.
    pub pushed: Result<Pushed, String>,
    /// The answer is one that a sound sender may get.
    pub expected: bool,
}

/// Everything on the providers' side that outlives their crashes.
pub struct Providers {
    pub devices: Vec<Device>,
    services: BTreeMap<&'static str, std::sync::Arc<Subscriptions>>,
    apple: std::sync::Arc<Service>,
    google: GoogleDesk,
    /// Apple's key for the team.
    pub apple_key: Key,
    /// The application's own key, with its public half.
    pub vapid: (SecretString, String),
    by_token: Mutex<BTreeMap<String, usize>>,
    gone: Mutex<BTreeSet<String>>,
    revoked: AtomicBool,
    ahead: AtomicBool,
}

/// An RSA key takes long to make, so all runs of a process have the same.
fn google() -> GoogleDesk {
    static FIRST: OnceLock<GoogleDesk> = OnceLock::new();
    FIRST.get_or_init(GoogleDesk::default).like()
}

impl Providers {
    pub fn new() -> Providers {
        let apple = AppleDesk::service("https://apns.example");
        let apple_key = apple.make_key().expect("a key");
        apple.welcome_strangers(false);
        let private = vapid::VapidKey::generate();
        let public = vapid::VapidKey::parse(&private).expect("a key of ours");
        let services = DEVICES.iter().filter(|(_, way)| *way == Channel::WebPush);
        let services =
            services.map(|(host, _)| (*host, Subscriptions::new(&format!("https://{host}"))));
        let mut providers = Providers {
            devices: Vec::new(),
            services: services.collect(),
            apple,
            google: google(),
            apple_key,
            vapid: (private.clone(), public.public().to_owned()),
            by_token: Mutex::default(),
            gone: Mutex::default(),
            revoked: AtomicBool::new(false),
            ahead: AtomicBool::new(false),
        };
        for (place, (host, channel)) in DEVICES.into_iter().enumerate() {
            providers.devices.push(Device {
                place,
                host,
                channel,
                browser: Browser::new().expect("keys"),
                at: Mutex::new(Address {
                    token: String::new(),
                    url: String::new(),
                    count: 0,
                }),
            });
            providers.settles(place);
        }
        providers
    }

    /// The device takes another address.
    fn settles(&self, place: usize) {
        let device = &self.devices[place];
        let mut at = device.at.lock();
        at.count += 1;
        let number = 100 * at.count + place;
        match device.channel {
            Channel::WebPush => {
                let service = &self.services[device.host];
                at.url = service.subscribe(Some(&self.vapid.1)).expect("room");
                at.token = at.url.rsplit('/').next().unwrap_or_default().to_owned();
            }
            Channel::Apns => at.token = format!("{number:064x}"),
            _ => at.token = format!("registration-{number}:token"),
        }
        self.by_token.lock().insert(at.token.clone(), place);
        self.known_to_apple(device, &at.token, None);
    }

    fn known_to_apple(&self, device: &Device, token: &str, gone_since: Option<i64>) {
        if device.channel == Channel::Apns {
            let (token, app) = (token.to_owned(), APP.to_owned());
            let device = AppleDevice {
                token,
                app,
                gone_since,
            };
            self.apple.device(device).expect("room");
        }
    }

    /// The app is removed from a device.
    pub fn leaves(&self, place: usize, now_ms: i64) {
        let device = &self.devices[place];
        let token = device.token();
        match device.channel {
            Channel::WebPush => self.services[device.host].end(&token).expect("it is there"),
            _ => self.known_to_apple(device, &token, Some(now_ms)),
        }
        self.gone.lock().insert(token);
    }

    /// The app is back on a device: under another address, or under the same, where that can be.
    /// Whether it is another.
    pub fn returns(&self, place: usize, anew: bool) -> bool {
        let device = &self.devices[place];
        if anew || device.channel == Channel::WebPush {
            self.settles(place);
            return true;
        }
        let token = device.token();
        self.known_to_apple(device, &token, None);
        self.gone.lock().remove(&token);
        false
    }

    /// Apple thinks that all tokens are half an hour older than they are, from now on.
    pub fn expire_tokens(&self) {
        self.ahead.store(true, Relaxed);
        self.apple.clock_ahead(AHEAD_S);
    }

    /// Google takes its access tokens back.
    pub fn revoke_tokens(&self) {
        self.revoked.store(true, Relaxed);
        self.google.revoke();
    }

    /// The service account, as Google hands it out.
    pub fn account(&self) -> String {
        self.google.account(PROJECT, TOKEN_ORIGIN)
    }

    /// A new connection to Apple.
    pub fn apple_desk(&self) -> AppleDesk {
        AppleDesk::new(&self.apple)
    }

    /// What the token endpoint says to an assertion, and whether that was to be expected.
    pub fn grant(&self, head: &Parts, body: &Bytes, now_ms: i64) -> (Response<Bytes>, bool) {
        let now_s = (now_ms / 1_000).unsigned_abs();
        let answer = self.google.grant(head, body, TOKEN_ORIGIN, now_s);
        let granted = answer.status() == StatusCode::OK;
        (answer, granted)
    }

    /// What the provider behind `host` says to a request, and what the device reads in it.
    pub fn hear(
        &self,
        (host, apple): (&str, Option<&AppleDesk>),
        head: &Parts,
        body: &Bytes,
        now_ms: i64,
    ) -> Heard {
        let now_s = now_ms / 1_000;
        match (self.services.get(host), apple) {
            (Some(service), _) => self.web_push(service, head, body, now_s),
            (None, Some(desk)) => {
                let answer = desk.answer(head, body, now_s);
                // A token of Apple's that is renewed within twenty minutes of another.
                let credentials = matches!(answer.status().as_u16(), 403 | 429)
                    && (self.ahead.load(Relaxed) || said(&answer, "TooManyProviderTokenUpdates"))
                    && (said(&answer, "ExpiredProviderToken")
                        || said(&answer, "TooManyProviderTokenUpdates"));
                self.heard(answer, credentials, self.apns(head, body))
            }
            (None, None) => {
                let pushed = self.fcm(body);
                let mut answer = self.google.send(head, body, now_s.unsigned_abs());
                let left = pushed.as_ref().is_ok_and(|(_, token)| self.is_gone(token));
                if answer.status() == StatusCode::OK && left {
                    answer = GoogleDesk::usual(404);
                }
                let credentials =
                    answer.status() == StatusCode::UNAUTHORIZED && self.revoked.load(Relaxed);
                self.heard(answer, credentials, pushed)
            }
        }
    }

    fn is_gone(&self, token: &str) -> bool {
        self.gone.lock().contains(token)
    }

    fn heard(
        &self,
        answer: Response<Bytes>,
        credentials: bool,
        pushed: Result<(Pushed, String), String>,
    ) -> Heard {
        let left = matches!(answer.status().as_u16(), 404 | 410)
            && pushed.as_ref().is_ok_and(|(_, token)| self.is_gone(token));
        Heard {
            expected: answer.status().is_success() || left || credentials,
            answer,
            pushed: pushed.map(|(pushed, _)| pushed),
        }
    }

    fn web_push(&self, service: &Subscriptions, head: &Parts, body: &Bytes, now_s: i64) -> Heard {
        let answer = judge(service, head, body, now_s);
        let read = || {
            let token = head.uri.path().rsplit('/').next().unwrap_or_default();
            let device = self.device(token)?;
            let plain = device.browser.open(body).map_err(|it| it.to_string())?;
            let mut content: Value = serde_json::from_slice(&plain).map_err(|it| it.to_string())?;
            let own = take(&mut content, "postrider");
            let topic = head.headers.get("topic").and_then(|it| it.to_str().ok());
            let key = own["key"].as_str().unwrap_or_default();
            if topic != Some(key) {
                return Err(format!("the Topic is {topic:?}, and the key is {key}"));
            }
            let pushed = pushed(device.place, &own["id"], key, content)?;
            Ok((pushed, token.to_owned()))
        };
        self.heard(answer, false, read())
    }

    fn apns(&self, head: &Parts, body: &Bytes) -> Result<(Pushed, String), String> {
        let token = head.uri.path().rsplit('/').next().unwrap_or_default();
        let place = self.device(token)?.place;
        let mut body: Value = serde_json::from_slice(body).map_err(|it| it.to_string())?;
        let (own, aps) = (take(&mut body, "postrider"), take(&mut body, "aps"));
        let header = |name| head.headers.get(name).and_then(|it| it.to_str().ok());
        let (id, key) = (header("apns-id"), header("apns-collapse-id"));
        if id != own["id"].as_str() || key != own["key"].as_str() {
            return Err(format!("{own} comes with {id:?} and {key:?}"));
        }
        let alert = &aps["alert"];
        if alert.is_object() {
            let shown = json!({ "title": alert["title"], "body": alert["body"] });
            body["notification"] = shown;
        }
        let pushed = pushed(place, &own["id"], key.unwrap_or_default(), body)?;
        Ok((pushed, token.to_owned()))
    }

    fn fcm(&self, body: &Bytes) -> Result<(Pushed, String), String> {
        let mut body: Value = serde_json::from_slice(body).map_err(|it| it.to_string())?;
        let message = &mut body["message"];
        let token = message["token"].as_str().unwrap_or_default().to_owned();
        let place = self.device(&token)?.place;
        let (shown, mut data) = (take(message, "notification"), take(message, "data"));
        let (id, key) = (
            take(&mut data, "postrider_id"),
            take(&mut data, "postrider_key"),
        );
        let key = key.as_str().unwrap_or_default();
        if let Some(data) = data.as_object_mut() {
            data.retain(|name, _| !name.starts_with("postrider_"));
        }
        let content = match shown.is_object() {
            true if message["android"]["notification"]["tag"] != *key => {
                return Err(format!("{message} has another tag than {key}"));
            }
            true => json!({ "notification": shown, "data": data }),
            // What has nothing to show is one value, as it was submitted.
            false => serde_json::from_str(data["payload"].as_str().unwrap_or_default())
                .map_err(|it| it.to_string())?,
        };
        Ok((pushed(place, &id, key, content)?, token))
    }

    fn device(&self, token: &str) -> Result<&Device, String> {
        let place = self.by_token.lock().get(token).copied();
        let place = place.ok_or("it is for no device of ours")?;
        Ok(&self.devices[place])
    }
}

impl Device {
    fn token(&self) -> String {
        self.at.lock().token.clone()
    }

    /// Its registration, as `POST /v1/devices` takes it, known at `now_ms`.
    pub fn registration(&self, now_ms: i64) -> Value {
        let at = self.at.lock();
        let mut registration = Map::new();
        let known_at = jiff::Timestamp::from_millisecond(now_ms).expect("a moment");
        registration.insert("device_id".into(), self.name().into());
        registration.insert("policy".into(), "quick".into());
        registration.insert("refreshed_at".into(), known_at.to_string().into());
        let address = match self.channel {
            Channel::WebPush => {
                let keys = json!({ "p256dh": self.browser.p256dh(), "auth": self.browser.auth() });
                json!({ "endpoint": at.url, "keys": keys })
            }
            _ => json!({ "token": at.token }),
        };
        registration.insert(self.channel.name().into(), address);
        registration.into()
    }

    /// The application's id of it.
    pub fn name(&self) -> String {
        format!("device-{}", self.place)
    }
}

fn take(of: &mut Value, name: &str) -> Value {
    let object = of.as_object_mut();
    object.and_then(|it| it.remove(name)).unwrap_or_default()
}

fn pushed(device: usize, id: &Value, key: &str, content: Value) -> Result<Pushed, String> {
    let id = id.as_str().and_then(|id| uuid::Uuid::parse_str(id).ok());
    Ok(Pushed {
        device,
        id: id.ok_or("it tells no id")?.as_u128(),
        key: key.to_owned(),
        content,
    })
}

fn said(answer: &Response<Bytes>, reason: &str) -> bool {
    *answer.body() == json!({ "reason": reason }).to_string()
}

/// What the provider behind `host` says with this HTTP status, whatever it was asked.
pub fn words(host: &str, http_status: u16) -> Response<Bytes> {
    let reason = match http_status {
        429 => "TooManyRequests",
        500 => "InternalServerError",
        503 => "ServiceUnavailable",
        _ => "BadExpirationDate",
    };
    let mut answer = match host {
        "apns.example" => Response::new(json!({ "reason": reason }).to_string().into()),
        "fcm.example" => GoogleDesk::usual(http_status),
        _ => Response::default(),
    };
    *answer.status_mut() = StatusCode::from_u16(http_status).expect("a status");
    answer
}

#[cfg(test)]
mod tests {
    use super::{Providers, TOKEN_ORIGIN, words};
    use bytes::Bytes;

    /// A request that is sound in nothing: each provider refuses it, and no device can read it.
    #[test]
    fn an_unsound_request_is_refused_and_was_not_to_be_expected() {
        let providers = Providers::new();
        for device in [0, 4, 7].map(|place| &providers.devices[place]) {
            let path = match device.host {
                "apns.example" => format!("/3/device/{}", device.token()),
                "fcm.example" => "/v1/projects/shop/messages:send".to_owned(),
                _ => format!("/wpush/v2/{}", device.token()),
            };
            let (head, ()) = http::Request::post(path).body(()).unwrap().into_parts();
            let desk = providers.apple_desk();
            let desk = (device.host == "apns.example").then_some(&desk);
            let body = Bytes::from_static(b"{}");
            let heard = providers.hear((device.host, desk), &head, &body, 1_800_000_000_000);
            assert!(!heard.answer.status().is_success() && !heard.expected);
            assert!(heard.pushed.is_err());
            let (answer, granted) = providers.grant(&head, &body, 1_800_000_000_000);
            assert!(!granted, "{TOKEN_ORIGIN} {answer:?}");
        }
        let reason = br#"{"reason":"TooManyRequests"}"#;
        assert_eq!(*words("apns.example", 429).body(), &reason[..]);
    }

    #[test]
    fn a_device_that_left_is_gone_until_it_is_back() {
        let providers = Providers::new();
        for place in [0, 4, 7] {
            let token = providers.devices[place].token();
            providers.leaves(place, 1_800_000_000_000);
            assert!(providers.is_gone(&token));
            providers.returns(place, false);
            let now = providers.devices[place].token();
            assert!(!providers.is_gone(&now));
            assert_eq!(providers.is_gone(&token), now != token);
        }
    }
}

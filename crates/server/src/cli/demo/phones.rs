//! The browsers and phones of a run, at the fakes of their providers: registered, reached, gone.
//!
//! A device stands in the evidence under a path of its own, as a webhook does. What it got is read
//! as an app reads it, by [`read`]. Absent here: the engine. What is to be asked of its API is made
//! here, and asked by whoever speaks to it.

mod read;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use postrider_core::endpoint::Channel;
use serde_json::{Value, json};

use super::drive::now_us;
use super::evidence::Push;
use super::plan::{Fault, Presence, Trouble};
use crate::cli::failure::Failure;
use crate::fake::push::Browser;
use crate::fake::{self, Act, Answer, Behaviour, Fake, Record, RetryAfter, Settings, When, apns};

/// Bytes of a request that the fakes keep: all of it.
const BODY_KEEP_BYTES: usize = 32 * 1_024;
/// The app that the Apple devices have.
const APP: &str = "com.example.demo";
/// Requests of a device of which some go wrong; after so many all go well.
const SCRIPTED_MAX: usize = 3_000;
/// One request in so many goes wrong where some do.
const WRONG_ONE_IN: u64 = 3;
/// Seconds that a busy provider asks for.
const BUSY_S: u64 = 1;
/// How far ahead the moment lies since when an Apple device is gone: a registration that looks
/// later would undo it, and the engine's clock may be a little ahead of ours.
const GONE_AHEAD_MS: i64 = 1_000;
/// What Google says when one device got too much.
const DEVICE_QUOTA: &str = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[
    {"@type":"type.googleapis.com/google.rpc.QuotaFailure",
     "violations":[{"description":"Device message rate exceeded"}]}]}}"#;

/// The devices, and their providers.
pub struct Phones {
    fake: Fake,
    apns: std::sync::Arc<apns::Service>,
    held: Mutex<BTreeMap<String, Held>>,
    /// The last request that Apple's fake had got when all was forgotten.
    forgotten: AtomicU64,
}

/// One device.
struct Held {
    channel: Channel,
    /// By which its provider knows it.
    token: String,
    browser: Option<Browser>,
}

fn cannot(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::no(what.to_owned()).because(error)
}

impl Phones {
    /// Starts the providers; they remember so many requests.
    ///
    /// # Errors
    /// [`Failure`] if they cannot listen.
    pub async fn start(records_max: usize) -> Result<Phones, Failure> {
        let fake = Fake::start(Settings {
            apns: Some(([127, 0, 0, 1], 0).into()),
            records_max,
            body_keep_bytes: BODY_KEEP_BYTES,
            ..Settings::default()
        });
        let fake = fake
            .await
            .map_err(|error| cannot("a push provider could not start", error))?;
        let apns = fake.apns().cloned();
        Ok(Phones {
            apns: apns.ok_or_else(|| Failure::no("the fake is not APNs"))?,
            fake,
            held: Mutex::default(),
            forgotten: AtomicU64::new(0),
        })
    }

    /// What the engine's configuration has to have so that these providers are reached.
    #[must_use]
    pub fn settings(&self) -> String {
        format!("\n[push]\nextra_hosts = [\"{}\"]\n", self.fake.address())
    }

    /// A route to one of the providers, with new credentials: what is posted to `/v1/routes`. Its
    /// name is the channel's.
    ///
    /// # Errors
    /// [`Failure`] if no key can be made.
    pub fn route(&self, channel: Channel, tenant: &str) -> Result<Value, Failure> {
        let mut body = json!({ "name": channel.name() });
        match channel {
            Channel::Webhook | Channel::WebPush => {
                body["web_push"] = json!({ "subject": "mailto:ops@example.com" });
            }
            Channel::Apns => {
                let key = self.apns.make_key();
                let key = key.map_err(|error| cannot("no key for APNs could be made", error))?;
                body["apns"] = json!({ "topic": APP, "team_id": key.team, "key_id": key.key_id,
                    "key_pem": key.p8 });
                body["server"] = json!(self.apns.origin());
                body["tls"] = json!({ "ca_pem": self.apns.pem() });
            }
            Channel::Fcm => {
                let account = self.fake.fcm_account(tenant);
                let account: Value = serde_json::from_str(&account)
                    .map_err(|error| cannot("the fake's account does not read", error))?;
                body["fcm"] = json!({ "service_account": account });
                body["server"] = json!(self.fake.url(""));
            }
        }
        Ok(body)
    }

    /// Installs the app on a device: what is posted to `/v1/devices`. `key` is the public key of
    /// the route of a browser.
    ///
    /// # Errors
    /// [`Failure`] if the provider has no room.
    pub fn install(&self, path: &str, channel: Channel, key: &str) -> Result<Value, Failure> {
        let mut body = json!({ "name": path, "device_id": path, "route": channel.name() });
        let mut held = Held {
            channel,
            token: hex(&rand::random::<[u8; 32]>()),
            browser: None,
        };
        match channel {
            Channel::Webhook | Channel::WebPush => {
                let subscribed = self.fake.push().subscribe(Some(key));
                let endpoint = subscribed.map_err(|error| cannot("no subscription", error))?;
                let browser = Browser::new().map_err(|error| cannot("no keys", error))?;
                let keys = json!({ "p256dh": browser.p256dh(), "auth": browser.auth() });
                body["web_push"] = json!({ "endpoint": endpoint, "keys": keys,
                    "application_server_key": key });
                held.token = endpoint.rsplit('/').next().unwrap_or_default().to_owned();
                held.browser = Some(browser);
            }
            Channel::Apns => body["apns"] = json!({ "token": held.token }),
            Channel::Fcm => body["fcm"] = json!({ "token": held.token }),
        }
        self.held.lock().insert(path.to_owned(), held);
        Ok(body)
    }

    /// Makes it so that this device has this trouble, from its next request on.
    ///
    /// # Errors
    /// [`Failure`] if the fake does not take it.
    pub fn trouble(&self, path: &str, trouble: Trouble) -> Result<(), Failure> {
        if trouble.presence == Presence::Gone {
            self.leave(path)?;
        }
        let Some(fault) = trouble.fault else {
            return Ok(());
        };
        let held = self.held.lock();
        let Some(held) = held.get(path) else {
            return Ok(());
        };
        match held.channel {
            Channel::Apns => self.script(&held.token, fault),
            // Google is never asked again within ten seconds, so it goes wrong only once.
            Channel::Fcm => self.behave(held, When::First(1), act(fault, DEVICE_QUOTA)),
            _ => {
                let (fail, accept) = (1, WRONG_ONE_IN - 1);
                self.behave(held, When::Flap { fail, accept }, act(fault, ""))
            }
        }
    }

    fn behave(&self, held: &Held, when: When, act: Act) -> Result<(), Failure> {
        let behaviour = Behaviour::of(&held.path()).rule(when, act);
        let set = self.fake.set(behaviour);
        set.map_err(|error| cannot("the fake does not behave so", error))
    }

    fn script(&self, token: &str, fault: Fault) -> Result<(), Failure> {
        let wrong = match fault {
            Fault::Withheld => apns::Act {
                silent: true,
                ..apns::Act::default()
            },
            Fault::Reset => apns::Act {
                end: Some(apns::End::Reset),
                ..apns::Act::default()
            },
            Fault::Busy => apns::Act {
                retry_after_s: Some(BUSY_S),
                ..apns::Act::refuse(429, "TooManyRequests")
            },
            Fault::Down | Fault::ActsAndFails => apns::Act {
                retry_after_s: Some(BUSY_S),
                ..apns::Act::refuse(503, "ServiceUnavailable")
            },
        };
        let acts = (0..SCRIPTED_MAX as u64).map(|number| match number % WRONG_ONE_IN {
            0 => wrong.clone(),
            _ => apns::Act::default(),
        });
        let script = apns::Script {
            token: token.to_owned(),
            acts: acts.collect(),
            forever: false,
        };
        let set = self.apns.script(script);
        set.map_err(|error| cannot("the fake of APNs does not behave so", error))
    }

    /// The app is removed from a device: its provider says so from now on. Removing it again says
    /// the same.
    ///
    /// # Errors
    /// [`Failure`] if the fake does not take it.
    pub fn leave(&self, path: &str) -> Result<(), Failure> {
        let held = self.held.lock();
        let Some(held) = held.get(path) else {
            return Ok(());
        };
        match held.channel {
            Channel::Apns => {
                // Apple's word counts from the moment that it names.
                let now_ms = i64::try_from(now_us() / 1_000).unwrap_or(i64::MAX);
                let device = apns::Device {
                    token: held.token.clone(),
                    app: APP.to_owned(),
                    gone_since: Some(now_ms + GONE_AHEAD_MS),
                };
                let set = self.apns.device(device);
                set.map_err(|error| cannot("the fake of APNs has no room", error))
            }
            Channel::Fcm => self.behave(held, When::Always, Act::http_status(404)),
            _ => {
                // A subscription that has ended stays so.
                let _ended = self.fake.push().end(&held.token);
                Ok(())
            }
        }
    }

    /// How many requests arrived, at all providers.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.fake.arrived() + self.apns.arrived() - self.forgotten.load(Relaxed)
    }

    /// Forgets what arrived; the devices and their troubles stay.
    pub fn clear(&self) {
        self.fake.clear();
        self.forgotten.store(self.apns.arrived(), Relaxed);
    }

    /// What arrived, as records under the paths of the devices, and what they show.
    #[must_use]
    pub fn received(&self) -> (Vec<Record>, Vec<Push>) {
        let held = self.held.lock();
        let requests = self.fake.requests(&fake::Filter::default());
        let notifications = self.apns.notifications(&apns::Wanted {
            after: Some(self.forgotten.load(Relaxed)),
            ..apns::Wanted::default()
        });
        read::all(&held, requests, notifications)
    }
}

impl Held {
    /// Path of its requests at the fake of its provider.
    fn path(&self) -> String {
        match self.channel {
            Channel::Fcm => format!("/fcm/{}", self.token),
            _ => format!("/wpush/v2/{}", self.token),
        }
    }
}

fn act(fault: Fault, quota: &str) -> Act {
    match fault {
        Fault::Withheld => Act::Hang,
        Fault::Reset => Act::ResetAfterRequest,
        Fault::Busy => Act::Answer(Answer {
            http_status: 429,
            retry_after: Some(RetryAfter::Seconds(BUSY_S)),
            body: quota.to_owned(),
            ..Answer::default()
        }),
        Fault::Down => Act::http_status(503),
        Fault::ActsAndFails => Act::Answer(Answer {
            http_status: 500,
            processes: Some(true),
            ..Answer::default()
        }),
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

//! What the fake keeps, and what it is told, in words that cross the wire.
//!
//! Absent here: anything that happens.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// A request, as it arrived and as it was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// Order of arrival, from 1.
    pub serial: u64,
    /// Number of its connection, from 1.
    pub connection: u64,
    /// Number of its stream.
    pub stream: u32,
    /// The device token.
    pub token: String,
    /// `apns-id`.
    pub apns_id: String,
    /// `apns-push-type`.
    pub push_type: String,
    /// `apns-topic`.
    #[serde(rename = "topic")]
    pub app: String,
    /// `apns-priority`.
    pub priority: u8,
    /// `apns-expiration`.
    pub expiration: Option<i64>,
    /// `apns-collapse-id`, or empty.
    pub collapse_id: String,
    /// Time of issue of the provider token; 0 where a certificate spoke.
    pub issued_s: i64,
    /// When it arrived, in microseconds since 1970.
    pub arrived_us: u64,
    /// HTTP status of the answer, 0 if there was none.
    #[serde(rename = "status")]
    pub http_status: u16,
    /// The reason it was refused for, or empty.
    pub reason: String,
    /// It went to the device: what a sender without an answer cannot know.
    pub processed: bool,
    /// The body, as far as bodies are kept.
    pub body: String,
}

/// Which notifications are asked for: everything that is given must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// To this device.
    pub token: Option<String>,
    /// With this `apns-id`.
    pub apns_id: Option<String>,
    /// Answered so; 0 finds those without an answer.
    #[serde(rename = "status")]
    pub http_status: Option<u16>,
    /// Refused for this reason.
    pub reason: Option<String>,
    /// Gone to the device, or not.
    pub processed: Option<bool>,
    /// With a higher serial.
    pub after: Option<u64>,
    /// So many at the most.
    pub limit: Option<usize>,
}

impl Wanted {
    pub(super) fn fits(&self, it: &Notification) -> bool {
        let same = |asked: &Option<String>, is: &str| asked.as_deref().is_none_or(|a| a == is);
        same(&self.token, &it.token)
            && same(&self.apns_id, &it.apns_id)
            && same(&self.reason, &it.reason)
            && self.http_status.is_none_or(|http| http == it.http_status)
            && self
                .processed
                .is_none_or(|processed| processed == it.processed)
            && self.after.is_none_or(|after| it.serial > after)
    }
}

/// What a device shows: alerts with the same collapse id take each other's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// `apns-id` of the last one.
    pub apns_id: String,
    /// Its body, as far as bodies are kept.
    pub body: String,
    /// How often it came.
    pub times: usize,
}

/// Another answer than the one that a sound request gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Act {
    /// HTTP status.
    #[serde(rename = "status")]
    pub http_status: u16,
    /// Apple's reason, or empty.
    pub reason: String,
    /// Since when a token is of no use, in milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// `Retry-After`.
    pub retry_after_s: Option<u64>,
    /// Wait before the answer.
    pub delay_ms: u64,
    /// The notification goes to the device, and no answer comes.
    pub silent: bool,
    /// What becomes of its stream or connection instead of an answer.
    pub end: Option<End>,
}

/// How an exchange ends without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The stream is reset, with INTERNAL_ERROR.
    Reset,
    /// The connection is closed.
    Close,
}

impl Default for Act {
    fn default() -> Act {
        Act {
            http_status: 200,
            reason: String::new(),
            timestamp: None,
            retry_after_s: None,
            delay_ms: 0,
            silent: false,
            end: None,
        }
    }
}

impl Act {
    /// A refusal.
    #[must_use]
    pub fn refuse(http_status: u16, reason: &str) -> Act {
        Act {
            http_status,
            reason: reason.to_owned(),
            ..Act::default()
        }
    }
}

/// What becomes of sound requests for a device: these, in order; then as usual.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// A device token, or the beginning of some and `*`.
    pub token: String,
    /// One for each request.
    pub acts: VecDeque<Act>,
    /// The last of them stays.
    #[serde(default)]
    pub forever: bool,
}

/// A device is not there any more, or never was.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The device token.
    pub token: String,
    /// Bundle id of the app that it is for.
    pub app: String,
    /// Since when it is of no use, in milliseconds since 1970; nothing while it is good.
    #[serde(default)]
    pub gone_since: Option<i64>,
}

/// A key that may send.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Id of the team, ten letters and digits.
    pub team: String,
    /// Its own id.
    pub key_id: String,
    /// The private key, as Apple hands it out.
    pub p8: String,
}

/// There is no room for more.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no more are kept")]
pub struct Full;

//! What the demo holds the engine against: what it asked for and was answered, what the fakes
//! received, what the ledger says in the end, and when the engine was killed.
//!
//! Absent here: judgement, and anything the engine counts about itself.

use std::collections::BTreeMap;

use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use postrider_core::ledger::State;
use postrider_core::policy::Guarantee;

use crate::fake::Record;

/// Everything that was seen of one run.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What is known of each fake beforehand, by its path.
    pub fakes: BTreeMap<String, Nature>,
    /// Each event that was submitted, with everything that was answered to it.
    pub asked: Vec<Asked>,
    /// The ledger's rows in the end, as the API lists them.
    pub rows: Vec<Row>,
    /// What the fakes received, in order of arrival.
    pub received: Vec<Record>,
    /// When the engine was dead.
    pub outages: Vec<Outage>,
    /// What became of each device, by the path that stands for it.
    pub devices: BTreeMap<String, Device>,
    /// What went to devices, in order of arrival.
    pub pushes: Vec<Push>,
}

/// A device that was registered, as the API shows it in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// How it is reached.
    pub channel: Channel,
    /// Whether the API still knows it.
    pub known: bool,
    /// When it was retired, in microseconds since 1970; nothing while it is not.
    pub retired_us: Option<u64>,
}

/// A request that its provider handed to the device, answered or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Path that stands for the device.
    pub path: String,
    /// Correlation id of its delivery, as the notification itself says.
    pub correlation_id: String,
    /// The key under which it takes the place of what the device shows: `Topic`,
    /// `apns-collapse-id`, or the tag.
    pub key: String,
}

/// What a fake does in the end, whatever happens before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It accepts at once.
    Accepts,
    /// It does not accept a first attempt, but a later one; at-most-once ends with this cause.
    Relents(Cause),
    /// It refuses for good, with this cause.
    Refuses(Cause),
    /// It says that the address is gone.
    Gone,
    /// It accepts, until it says that the address is gone.
    Leaves,
    /// It answers each attempt so, for ever: with this cause at at-most-once.
    Fails(Cause),
    /// It never says anything that can be understood, though it may act.
    Silent,
    /// Nobody listens there.
    Absent,
}

/// An event as it was submitted.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Business id, unique within the run.
    pub id: String,
    /// How exactly it is to be delivered.
    pub guarantee: Guarantee,
    /// Ordering key, if it has one.
    pub ordering_key: Option<String>,
    /// Paths of the fakes it goes to.
    pub paths: Vec<String>,
    /// CRC-32C of its payload.
    pub payload_crc32c: u32,
    /// Place among the accepted ones, in the order in which callers were told; from 1.
    pub accepted_as: u64,
    /// Answers, in the order in which they came.
    pub answers: Vec<Said>,
    /// Submissions of it whose answer never came.
    pub unanswered: u32,
    /// Submissions of its key with another payload, and whether each was refused as a conflict.
    pub conflicts: Vec<bool>,
}

/// An answer that speaks of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whether it says that the same was asked for before.
    pub repeat: bool,
    /// The event's id.
    pub event: String,
    /// The correlation ids of its deliveries.
    pub deliveries: Vec<String>,
}

/// A row of the ledger, with its history.
#[derive(Clone, Debug)]
pub struct Row {
    /// The delivery's outer id.
    pub correlation_id: String,
    /// Path of the fake it goes to; empty if its endpoint is not known.
    pub path: String,
    /// How exactly.
    pub guarantee: Guarantee,
    /// Where it is.
    pub state: State,
    /// Why.
    pub cause: Cause,
    /// Attempts that were opened.
    pub attempts: u64,
    /// Place in its order, if it has one.
    pub sequence: Option<u64>,
    /// Its history, oldest first; empty where it was not asked for.
    pub entries: Vec<Step>,
}

/// One entry of a delivery's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The version that the entry made of the row.
    pub version: u64,
    /// Whether the row is settled after it.
    pub settles: bool,
    /// When it was written, in milliseconds since 1970.
    pub at_ms: i64,
    /// What it says, as far as a check looks at it.
    pub says: Says,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// An attempt begins.
    Opened,
    /// The receiver answered that it is gone.
    Gone,
    /// Anything else.
    Other,
}

/// A time in which the engine was dead, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When the kill was asked for.
    pub kill_us: u64,
    /// When the process was known to be gone.
    pub dead_us: u64,
    /// When the next one said that it was ready.
    pub ready_us: u64,
    /// From its start until then, in milliseconds.
    pub recovery_ms: u64,
}

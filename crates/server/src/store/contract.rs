//! The contract: what every store can do, whatever it is made of, as two traits and their words.
//!
//! The simulator compiles this very file, and the model beside it, without the rest of the server.
//! Absent here: any store.

use postrider_core::engine::Refusal;
use postrider_core::event::{Event, LaneCounter, Seen};
use postrider_core::id::{DeliveryId, EndpointId, EventId, KeyDigest, OrderingKey, Seq, TenantId};
use postrider_core::ledger::{Conflict, Delivery, Entry, Record, State};
use postrider_core::time::Time;
use postrider_core::{Bytes, cause::Cause, id::Epoch};

/// The writing half of a store.
pub trait Ledger: Send {
    /// Records everything in `records` in one durable commit, in order, and says for each what
    /// became of it. When this returns, what is [`Verdict::Recorded`] survives power loss.
    ///
    /// A record is taken whole or not at all. A refused record does not keep the others from being
    /// recorded.
    ///
    /// # Errors
    /// [`Fatal`] if it cannot be known what is on disk: nothing of the call may be acknowledged and
    /// the process must end.
    fn record(&mut self, records: &[Record]) -> Result<Vec<Verdict>, Fatal>;

    /// One bounded slice (a few milliseconds) of housekeeping: merging keys, checkpoints, purging.
    /// Returns whether there is more to do at once.
    ///
    /// # Errors
    /// As [`Ledger::record`].
    fn tend(&mut self, now: Time) -> Result<bool, Fatal>;

    /// Takes ownership of every partition under a new epoch and hands each unsettled delivery to
    /// `visit`, in ascending order of ids. Called once, before anything is recorded.
    ///
    /// # Errors
    /// As [`Ledger::record`].
    fn recover(&mut self, visit: &mut dyn FnMut(Delivery)) -> Result<Recovery, Fatal>;
}

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is durable.
    Recorded,
    /// There is no room. It may be handed in again.
    Full,
    /// One of its fences has passed: another owner has the partition.
    Fenced,
    /// An entry does not fit its row.
    Conflict(Conflict),
    /// It admits an event whose key is taken by this one.
    KeyTaken(Seen),
}

impl Verdict {
    /// What the engine is told of it; `None` where the record is durable.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Verdict::Recorded => None,
            Verdict::Full => Some(Refusal::Full),
            Verdict::Fenced => Some(Refusal::Fenced),
            Verdict::Conflict(_) => Some(Refusal::Conflict),
            Verdict::KeyTaken(seen) => Some(Refusal::KeyTaken(*seen)),
        }
    }
}

/// Where to go on after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Highest event id in use.
    pub last_event: EventId,
    /// Highest delivery id in use.
    pub last_delivery: DeliveryId,
    /// Highest place in the journal in use.
    pub last_seq: Seq,
    /// The moment of the newest entry: the engine's clock must not start before it.
    pub last_at: Time,
    /// The epoch under which this process now holds all partitions.
    pub epoch: Epoch,
    /// Endpoints that an outcome Gone has retired, as far as the journal was read again, and since
    /// when they are gone ([`Outcome::gone_at`](postrider_core::outcome::Outcome::gone_at)): one
    /// that was registered again later lives on. May name some that are long known to be retired.
    pub retired: Vec<(EndpointId, Time)>,
}

/// The store cannot say what is on disk: the process must end, and the next start finds out.
#[derive(Debug, thiserror::Error)]
#[error("the store can no longer tell what is on disk: {reason}")]
pub struct Fatal {
    /// What happened, in words.
    pub reason: String,
}

/// A question that could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file is damaged. Never answered with a guess.
    #[error("{file} is damaged: {what}; run `postrider doctor` on the data directory")]
    Damaged {
        /// Which file, by its name in the data directory.
        file: String,
        /// What does not add up.
        what: String,
    },
    /// The store could not be read for another reason.
    #[error("the store could not be read: {0}")]
    Unavailable(String),
}

/// The reading half of a store.
pub trait Reader: Send + Sync {
    /// The event that holds `key`, if one does at `now`: sees every commit that [`Ledger::record`]
    /// has returned from. Exact.
    ///
    /// # Errors
    /// [`ReadError`].
    fn seen(&self, key: &KeyDigest, now: Time) -> Result<Option<Seen>, ReadError>;

    /// How far a lane has come; zeroes for one never used. Exact, as [`Reader::seen`].
    ///
    /// # Errors
    /// [`ReadError`].
    fn lane(&self, endpoint: EndpointId, key: OrderingKey) -> Result<LaneCounter, ReadError>;

    /// Those of these deliveries that exist, in ascending order of ids.
    ///
    /// # Errors
    /// [`ReadError`].
    fn deliveries(&self, ids: &[DeliveryId]) -> Result<Vec<Delivery>, ReadError>;

    /// An event, with an empty payload; see [`Reader::payload`].
    ///
    /// # Errors
    /// [`ReadError`].
    fn event(&self, id: EventId) -> Result<Option<Event>, ReadError>;

    /// An event's payload, or `None` when it is no longer kept.
    ///
    /// # Errors
    /// [`ReadError`].
    fn payload(&self, id: EventId) -> Result<Option<Bytes>, ReadError>;

    /// Everything that happened to a delivery, oldest first.
    ///
    /// # Errors
    /// [`ReadError`].
    fn history(&self, delivery: &Delivery) -> Result<Vec<Entry>, ReadError>;

    /// A page of deliveries, newest first.
    ///
    /// # Errors
    /// [`ReadError`].
    fn list(&self, query: &Query) -> Result<Page, ReadError>;

    /// Entries after `after`, in the order of the journal, at most `limit`. Only what is durable.
    ///
    /// # Errors
    /// [`ReadError`].
    fn journal(&self, after: Seq, limit: usize) -> Result<Vec<Entry>, ReadError>;
}

/// Which deliveries to list. Everything that is `Some` must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Whose.
    pub tenant: Option<TenantId>,
    /// Where they are.
    pub state: Option<State>,
    /// Why they are there.
    pub cause: Option<Cause>,
    /// Where they go.
    pub endpoint: Option<EndpointId>,
    /// Of which event type.
    pub event_type: Option<Box<str>>,
    /// Of which event.
    pub event: Option<EventId>,
    /// Addressed to whom.
    pub recipient: Option<Box<str>>,
    /// Only those that need a human.
    pub dead_letters: bool,
    /// Admitted at or after this moment.
    pub since: Option<Time>,
    /// Admitted before this moment.
    pub until: Option<Time>,
    /// Only those with a lower id: where the page before ended.
    pub before: Option<DeliveryId>,
    /// Rows at the most.
    pub limit: usize,
}

/// A page of deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows, newest first.
    pub deliveries: Vec<Delivery>,
    /// Where to go on, if there may be more. A page may be short, even empty, and still have a
    /// next one: a search reads a bounded number of rows at a time.
    pub next: Option<DeliveryId>,
}

//! The history of a run: what checkers see, and all that they see.
//!
//! Absent here: what was intended. A checker knows what was asked for, what became durable, what
//! left, what arrived and what was answered.

use postrider_core::dispatch::Dispatch;
use postrider_core::endpoint::Gate;
use postrider_core::engine::{Figures, Reply};
use postrider_core::event::Submission;
use postrider_core::id::{
    Ask, CorrelationId, DeliveryId, EndpointId, Epoch, KeyDigest, RouteId, Seq,
};
use postrider_core::ledger::{Delivery, Entry, Record};
use postrider_core::policy::Policy;
use postrider_core::time::Time;

use crate::store::Verdict;

/// Which engine: a shard under one epoch has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// The shard.
    pub shard: usize,
    /// The epoch under which it is owned.
    pub epoch: Epoch,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Happened<'a> {
    /// A store granted a shard.
    Granted {
        /// To the engine to come.
        who: Who,
    },
    /// An engine ended: its process died, or its lease was over.
    Ended {
        /// Which.
        who: Who,
    },
    /// The world begins, and these are the bounds of its engines.
    Bounds {
        /// Unsettled deliveries in memory.
        window_max: usize,
        /// Records on their way to the store.
        records_max: usize,
    },
    /// A policy exists.
    Policy(&'a Policy),
    /// An engine was told of an endpoint.
    Told {
        /// Which engine.
        who: Who,
        /// When, on the engine's clock.
        at: Time,
        /// What it was told.
        gate: &'a Gate,
    },
    /// An engine was told that a route was paused by hand, or opened.
    ToldRoute {
        /// Which engine.
        who: Who,
        /// When, on the engine's clock.
        at: Time,
        /// Which route.
        route: RouteId,
        /// Whether it is sent over.
        open: bool,
    },
    /// The registry has retired an endpoint.
    Retired {
        /// Which.
        endpoint: EndpointId,
        /// Since when it was said to be gone.
        since: Time,
        /// When it was registered last.
        registered_at: Time,
    },
    /// An engine was asked to admit.
    Asked {
        /// Which engine.
        who: Who,
        /// Whom to answer.
        ask: Ask,
        /// When, on the engine's clock.
        at: Time,
        /// For what.
        submission: &'a Submission,
    },
    /// An engine asked its store who holds a key, and was not answered.
    Unread {
        /// Which engine.
        who: Who,
        /// Which key.
        key: KeyDigest,
    },
    /// An engine was asked to withdraw.
    CancelAsked {
        /// Which engine.
        who: Who,
        /// Whom to answer.
        ask: Ask,
        /// What.
        delivery: DeliveryId,
    },
    /// An engine was told what a device reported.
    ReceiptAsked {
        /// Which engine.
        who: Who,
        /// Whom to answer.
        ask: Ask,
        /// About what.
        delivery: DeliveryId,
        /// What.
        receipt: u8,
    },
    /// An engine answered a caller.
    Replied {
        /// Which engine.
        who: Who,
        /// Whom.
        ask: Ask,
        /// What.
        reply: &'a Reply,
    },
    /// A store has made a record durable.
    Committed {
        /// In which shard.
        shard: usize,
        /// What.
        record: &'a Record,
    },
    /// A store has refused a record.
    Refused {
        /// Which shard's.
        shard: usize,
        /// What.
        record: &'a Record,
        /// Why.
        verdict: &'a Verdict,
    },
    /// An engine let an attempt go.
    Sent {
        /// Which engine.
        who: Who,
        /// When, on the engine's clock.
        at: Time,
        /// What.
        dispatch: &'a Dispatch,
    },
    /// The owner has looked at its lease and the time to live, and writes the request.
    Left {
        /// Whose attempt.
        who: Who,
        /// When, on the engine's clock.
        at: Time,
        /// What.
        dispatch: &'a Dispatch,
    },
    /// Bytes of a request were written.
    Written {
        /// Whose attempt.
        who: Who,
        /// What.
        dispatch: &'a Dispatch,
    },
    /// The receiver's protocol said that it did not process a request.
    Unprocessed {
        /// Whose.
        correlation: CorrelationId,
    },
    /// A request arrived at its receiver.
    Arrived {
        /// The delivery's outer id.
        correlation: CorrelationId,
        /// Which attempt.
        attempt: u32,
        /// Whether the receiver processed it.
        processed: bool,
    },
    /// A device has shown a notification to its owner.
    Shown {
        /// The delivery's outer id.
        correlation: CorrelationId,
        /// Which one it took the place of.
        replaced: Option<CorrelationId>,
    },
    /// An engine has taken a turn.
    Turned {
        /// Which.
        who: Who,
        /// Its figures.
        figures: Figures,
        /// What its audit found, where it was asked.
        audit: Result<(), String>,
    },
    /// The broker was told of an entry that settled a delivery.
    Published {
        /// In which shard.
        shard: usize,
        /// The event's id: its place in the journal.
        seq: Seq,
        /// What it says.
        entry: &'a Entry,
    },
    /// A store has kept a relay's cursor.
    CursorKept {
        /// In which shard.
        who: Who,
        /// Up to where everything is told.
        seq: Seq,
    },
    /// A store has removed old deliveries.
    Purged {
        /// In which shard.
        shard: usize,
        /// Which.
        gone: &'a [DeliveryId],
    },
    /// The faults are over.
    Calm,
    /// The world has come to rest, or was given up on.
    Rest {
        /// It came to rest by itself.
        rested: bool,
    },
    /// What a store holds at the end.
    Held {
        /// In which shard.
        shard: usize,
        /// Its rows.
        rows: &'a [Delivery],
        /// Its journal.
        journal: &'a [Entry],
    },
}

//! What reaches the engine thread.
//!
//! Absent here: bounds. Each kind is bounded where it is sent: submissions by the intake's count,
//! answers by the engine's slots, the store's answers by the records handed to it.

use std::sync::Arc;

use postrider_core::engine::{Input, Reply};
use postrider_core::event::{Event, Submission};
use postrider_core::id::DeliveryId;
use tokio::sync::oneshot;

/// One message to the engine thread.
pub enum Command {
    /// An input as the engine takes it.
    Input(Input),
    /// Submissions of one request, answered together.
    Submit {
        /// Each becomes an event.
        submissions: Vec<Box<Submission>>,
        /// Where the answers go; a caller that has gone away is no reason to stop.
        answer: oneshot::Sender<Vec<Reply>>,
    },
    /// A wish to withdraw a delivery.
    Cancel {
        /// Which.
        delivery: DeliveryId,
        /// Where the answer goes.
        answer: oneshot::Sender<Reply>,
    },
    /// What a device reports about a delivery.
    Receipt {
        /// Which.
        delivery: DeliveryId,
        /// What.
        receipt: u8,
        /// Where the answer goes.
        answer: oneshot::Sender<Reply>,
    },
    /// An event that was read back for an attempt.
    Event(Arc<Event>),
    /// End the thread, whatever is under way: a crash as far as the journal can tell.
    Stop,
}

//! The seam between HTTP and the engine: one complete command in, one answer out.
//!
//! A handler resolves everything that a request names, builds its submissions and hands them over
//! in one call. Whatever happens to the connection afterwards changes nothing: the command is
//! whole, and its answer comes after the commit or not at all.
//!
//! Absent here: who implements it. `run` does, over the engine thread; tests do, over a vector.

pub use postrider_core::engine::{Reply, Why};
use postrider_core::event::Submission;
use postrider_core::id::{CorrelationId, DeliveryId, EventId};
use postrider_core::time::Time;
use tokio::sync::oneshot;

use crate::entropy::Entropy;

/// The engine, as the HTTP layer sees it.
pub trait Intake: Send + Sync {
    /// Hands submissions over, all in one go, and answers with one [`Reply`] for each, in order,
    /// once what they say is durable. Never blocks: when there is no room, each is answered with
    /// [`Why::Overloaded`] at once.
    ///
    /// The submissions come with `known: None`, with `lane: None` in every target, and with the
    /// event's `id`, `admitted_at`, `first_delivery` and `deliveries` unset: whoever implements
    /// this looks up what the store remembers. An empty `business_id` stands for none.
    ///
    /// A receiver whose sender was dropped means that the engine is gone and nothing is known.
    ///
    /// Each is boxed here, on the caller's thread, because the engine wants it so.
    #[allow(clippy::vec_box)]
    fn submit(&self, submissions: Vec<Box<Submission>>) -> oneshot::Receiver<Vec<Reply>>;

    /// Withdraws a delivery that has not been begun: [`Reply::Cancelled`], [`Reply::TooLate`],
    /// [`Reply::Absent`] or [`Reply::Refused`].
    fn cancel(&self, delivery: DeliveryId) -> oneshot::Receiver<Reply>;

    /// Keeps what a device reports about a delivery, by its number from 1:
    /// [`Reply::Received`] once that is durable, [`Reply::TooLate`] if it was never sent,
    /// [`Reply::Absent`] or [`Reply::Refused`].
    fn receipt(&self, delivery: DeliveryId, receipt: u8) -> oneshot::Receiver<Reply>;

    /// How much is waiting. Cheap: asked on every request.
    fn load(&self) -> Load;

    /// The engine's clock.
    fn now(&self) -> Time;

    /// Random bits for ids and jitter.
    fn random(&self) -> u128 {
        Entropy::Machine.wide()
    }
}

/// Finds the inner ids that the outer ones were made from, without looking anything up. The answer
/// is only a candidate: the row that it names carries the whole outer id, which is compared.
pub trait Locate: Send + Sync {
    /// The delivery that `correlation` would belong to.
    fn delivery(&self, correlation: CorrelationId) -> DeliveryId;

    /// The event that `uuid` would belong to.
    fn event(&self, uuid: u128) -> EventId;
}

/// How much is waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Everything that was unsettled at the start is back in the window.
    pub recovered: bool,
    /// The store has no room.
    pub storage_full: bool,
    /// Submissions on their way to the engine or to the disk.
    pub waiting: u64,
    /// How many may wait; from here on they are refused.
    pub waiting_max: u64,
    /// Unsettled deliveries in the window.
    pub window: u64,
    /// How many fit; from here on submissions are refused.
    pub window_max: u64,
}

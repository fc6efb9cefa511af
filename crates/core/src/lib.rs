//! The decisions of Postrider: pure, deterministic, told everything and asking nothing.
//!
//! The modules in the order in which data meets them:
//!
//! 1. [`intake`]: a submission is admitted, answered as a repeat, or refused.
//! 2. [`ledger`]: the state table. [`ledger::apply`] alone moves a delivery.
//! 3. [`schedule`]: when a delivery is due, and whose turn it is. [`endpoint`] with its gates
//!    ([`breaker`], [`limiter`]) and [`ordering`] say who may go.
//! 4. [`dispatch`]: an attempt is opened, and leaves once that is durable.
//! 5. [`acknowledge`]: what an outcome leads to, by guarantee. [`settling`] carries it out, and
//!    [`window`] puts what goes on in its place.
//!    [`receipt`] keeps what devices report, [`route`] holds what shares refused credentials.
//! 6. [`relay`]: how far the journal has been told to a broker.
//!
//! Where several nodes share the work, [`lease`] says who owns which [`partition`].
//!
//! [`engine`] is the face of all of it, [`executor`] performs its effects over any I/O, [`audit`]
//! holds its books against each other. The vocabulary is in [`id`], [`time`], [`event`],
//! [`policy`], [`outcome`], [`cause`].
//!
//! ```text
//!                  ┌────── Retry, Throttle, Unknown (from at-least-once up) ──────┐
//! admit ─► Scheduled ──open──► InFlight ──settle──► Accepted ■ ──receipt──► Confirmed ■
//!             ├─ lapsed ──► Expired ■     ├─ Reject, Gone ───► Rejected ■
//!             ├─ withdrawn ► Cancelled ■  ├─ attempts spent ─► Exhausted ■
//!             └─ no way ──► Suppressed ■  └─ Unknown at at-most-once ─► Uncertain ■
//! ```
//!
//! Invariants that hold after every call of [`engine::Engine::handle`]:
//! - an attempt leaves only after the entry that opened it is durable;
//! - a caller is answered only after what it is told is durable;
//! - at most one record is on its way for a delivery, and every entry expects the row's version;
//! - of a lane only the head is sent;
//! - attempts under way stay within the slots, over all and for each endpoint.
//!
//! Absent here: I/O, clocks, randomness, threads, async, logging, wire formats.

pub mod acknowledge;
pub mod audit;
pub mod breaker;
pub mod cause;
pub mod dispatch;
pub mod endpoint;
pub mod engine;
pub mod event;
pub mod executor;
pub mod firing;
pub mod id;
pub mod intake;
pub mod lease;
pub mod ledger;
pub mod limiter;
pub mod map;
pub mod observation;
pub mod ordering;
pub mod outcome;
pub mod parked;
pub mod partition;
pub mod plant;
pub mod policy;
pub mod receipt;
pub mod relay;
pub mod route;
pub mod schedule;
pub mod settling;
#[cfg(test)]
mod testing;
pub mod time;
pub mod window;

pub use bytes::Bytes;

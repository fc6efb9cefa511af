//! What is seen from outside: metrics, log lines, and nothing that identifies anybody.
//!
//! Counting is a relaxed atomic; formatting happens on a thread of its own. No URL, payload, header
//! or secret ever gets here: what an [`Observation`](postrider_core::observation::Observation)
//! holds are ids.
//!
//! Absent here: decisions. Losing all of it changes no delivery.

pub mod attempts;
pub mod histogram;
pub mod logging;
pub mod metrics;
mod observer;

pub use attempts::{AttemptLine, AttemptLog};
pub use metrics::{Hop, Metrics};
pub use observer::Observer;

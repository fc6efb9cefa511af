//! The decisions of Postrider. (Map to be written with the engine.)

#![warn(clippy::iter_over_hash_type)]

pub mod cause;
pub mod dispatch;
pub mod event;
pub mod id;
pub mod ledger;
pub mod outcome;
pub mod partition;
pub mod policy;
pub mod time;

pub use bytes::Bytes;

//! The ledger's storage: what every store can do, whatever it is made of.
//!
//! A store is opened as two halves. The [`Ledger`] is the only one that writes; one thread owns it.
//! The [`Reader`] answers look-ups and questions from any thread, and never sees half a commit.
//!
//! Absent here: deciding. A store records what the core decided, or says why it did not.

#[cfg(test)]
pub(crate) mod conformance;
mod contract;
pub mod embedded;
pub mod model;

pub use self::contract::*;

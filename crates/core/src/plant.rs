//! Planted faults: known ways to be wrong, switched on one at a time, by which the checkers of
//! `postrider demo` and of the simulator are shown to bite.
//!
//! Absent here: any way to switch one on in a serving process but a hidden flag that only a
//! process in development mode takes.

/// A fault that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A request leaves before the entry that opens its attempt is durable.
    SendBeforeRecord,
    /// The key of an admitted event is not remembered.
    ForgetDedupeKey,
    /// At-most-once deliveries are retried like the others.
    RetryAtAtMostOnce,
}

impl Plant {
    /// All of them.
    pub const ALL: [Plant; 3] = [
        Plant::SendBeforeRecord,
        Plant::ForgetDedupeKey,
        Plant::RetryAtAtMostOnce,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Plant::SendBeforeRecord => "send-before-record",
            Plant::ForgetDedupeKey => "forget-dedupe-key",
            Plant::RetryAtAtMostOnce => "retry-at-at-most-once",
        }
    }

    /// The fault with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Plant> {
        Plant::ALL.into_iter().find(|plant| plant.name() == name)
    }
}

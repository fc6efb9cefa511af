//! The embedded store: SQLite used as a log.

pub mod keys;

//! The outer ids: UUIDv4s from which the row can be found without an index.

//! What providers' answers mean, held against second lists: written by hand from what the vendors
//! document and what their services were seen to say, not from the tables.
//!
//! Each answer goes through a whole node: to its state, its cause, its next attempt, what becomes
//! of the endpoint, of its breaker and of its route, and what `/metrics` says of all that.
//!
//! Absent here: what a channel reads out of an answer's body, which its own tests know.

mod apns;
#[path = "../apns/kit.rs"]
mod apple;
mod fcm;
mod kit;
#[path = "../node_kit/mod.rs"]
#[allow(dead_code, reason = "a test of its own uses its own part of it")]
mod node_kit;
mod stage;
mod web_push;

//! FCM: our requests against the schema that Google publishes, and its answers through a whole
//! node.

mod dry_run;
mod engine;
#[path = "../node_kit/mod.rs"]
#[allow(dead_code, reason = "a test of its own uses its own part of it")]
mod node_kit;
#[path = "../package_kit/mod.rs"]
#[allow(dead_code, reason = "a test of its own uses its own part of it")]
mod package_kit;
mod schema;

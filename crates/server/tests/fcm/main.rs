//! FCM: our requests against the schema that Google publishes, and its answers through a whole
//! node.

mod engine;
#[path = "../node_kit/mod.rs"]
mod node_kit;
mod schema;

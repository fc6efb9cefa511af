//! APNs: other people's senders against the fake, and our channel through a whole node to it.

mod certificates;
mod engine;
mod environments;
mod kit;
#[path = "../node_kit/mod.rs"]
mod node_kit;
#[path = "../package_kit/mod.rs"]
#[allow(dead_code, reason = "a test of its own uses its own part of it")]
mod package_kit;
mod rig;
mod senders;

//! APNs: other people's senders against the fake, and our channel through a whole node to it.

mod certificates;
mod engine;
mod environments;
mod kit;
#[path = "../node_kit/mod.rs"]
mod node_kit;
mod rig;
mod senders;

//! The driver: turns the world into inputs and effects into I/O.
//!
//! ```text
//!  HTTP (tokio) ──Command──► engine thread ──records──► writer thread
//!       ▲                      │   ▲   ▲                    │
//!       └───────replies────────┘   │   └─────Recorded───────┘
//!                 dispatches ──► tokio ──Answered──┘
//! ```
//!
//! One thread owns the engine, one owns the writing half of the store; neither ever waits for the
//! other. Batches form by themselves: while a commit waits for the disk, the next one gathers.
//!
//! Absent here: decisions. What is done, and in which order, comes out of the core's executor.

mod announce;
mod command;
mod engine_thread;
mod events;
pub mod forgetting;
mod inline;
mod intake;
mod sending;
mod serve;
mod watcher;
mod world;
mod writer;

pub use announce::{Announcer, gate};
pub use command::Command;
pub use engine_thread::{EngineThread, Parts, Start, Unsettled};
pub use inline::Inline;
pub use intake::{EngineIntake, Gauges};
pub use serve::{EXIT_FATAL, Node, StartError, key_file, key_pace};

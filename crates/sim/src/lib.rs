//! The simulator: a cluster of two nodes, its stores, receivers, broker and clients in one thread,
//! under every fault, from one seed.
//!
//! The engine, its executor, the state table, the lease and the relay's arithmetic are those of
//! production, unchanged. [`draw`] expands a seed into a [`plan`], [`world`] runs it, [`history`]
//! is what can be seen of it, [`checkers`] hold it to the invariants, and [`shrink`] makes a
//! failing plan small.
//!
//! Absent here: sockets, files, SQL and time that passes. Other layers attack those.

pub mod checkers;
pub mod coverage;
pub mod device;
pub mod draw;
pub mod eyes;
pub mod fault;
pub mod history;
pub mod node;
pub mod picture;
pub mod plan;
pub mod plant;
pub mod remote;
pub mod rng;
pub mod run;
pub mod shrink;
pub mod store;
mod tell;
pub mod world;

//! `cargo xtask sim`: builds the simulator for speed, with its checks on, and runs it.
//!
//! Absent here: simulating; see `crates/sim`.

/// What Cargo is told, before the simulator's own words.
pub const RUN: [&str; 7] = [
    "run",
    "--quiet",
    "--profile",
    "sim",
    "--package",
    "postrider-sim",
    "--",
];

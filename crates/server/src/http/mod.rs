//! `http`.

pub mod intake;

//! `http`.

pub mod intake;
pub mod words;

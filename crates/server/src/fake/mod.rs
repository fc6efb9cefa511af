//! `fake`.

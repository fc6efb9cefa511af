//! The master key and what is encrypted under it.

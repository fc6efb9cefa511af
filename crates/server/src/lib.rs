//! Postrider: a self-hosted delivery engine.

pub mod channel;
pub mod cli;
pub mod clock;
pub mod config;
pub mod entropy;
pub mod fake;
pub mod http;
pub mod observe;
pub mod receipts;
pub mod registry;
pub mod run;
pub mod stamp;
pub mod store;
pub mod transport;
pub mod vault;
mod work;

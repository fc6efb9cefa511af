//! The registry: tenants, endpoints, API keys and policies, by their outer names.
//!
//! Kept in memory whole, written through to `control.db`. Absent here: deliveries.

pub mod model;

pub use model::{Endpoint, EndpointState, Secret, TlsProfile, TlsVersion};

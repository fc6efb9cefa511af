//! APNs: other people's senders against the fake, and our channel over the real transport to it.

mod kit;
mod senders;

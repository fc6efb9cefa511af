//! Channels: how a dispatch becomes a request, and what an answer means. Pure: time and entropy are
//! arguments.

//! Transport: one request to one checked address, one answer read to a bound.
//!
//! Absent here: retries. Whatever happens is reported once; the ledger is the only retrier.

//! PostgreSQL and Redis servers of the tests' own: on free ports of the loopback address, with private data directories,
//! so that a test may kill, freeze or empty them.
//!
//! Promises: what was started ends with its value, by process id, whatever the test comes to. Never: it does not touch a
//! server that it has not started.

pub mod pgbouncer;
pub mod postgres;
pub mod redis;

//! The daemon.

pub mod queue;

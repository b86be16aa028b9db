//! The daemon.

pub mod queue;
pub mod sdk;

//! The daemon.

pub mod sdk;

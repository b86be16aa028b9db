//! The suites that say what a port promises.
//!
//! An implementation's tests call each function of a suite with a factory for a fresh instance.

pub mod queue;
pub mod store;

//! The daemon: it touches the world, and decides nothing.

pub mod queue;
pub mod sdk;
pub mod store;

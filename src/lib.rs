//! The daemon: it touches the world, and decides nothing.

pub mod ambient;
pub mod cli;
pub mod daemon;
pub mod error;
pub mod http;
pub mod queue;
pub mod sdk;
pub mod settings;
pub mod store;
pub mod telemetry;

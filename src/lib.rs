//! The daemon.

pub mod cli;
pub mod error;
pub mod http;
pub mod settings;
pub mod telemetry;

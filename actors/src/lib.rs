//! The orchestrator of Callboard.

pub mod catalog;
pub mod domain;
pub mod orchestrator;
pub mod ports;

//! The orchestrator of Callboard.

pub mod catalog;
pub mod domain;
pub mod engine;
pub mod expression;
pub mod kernel;
pub mod orchestrator;
pub mod ports;
pub mod supervisor;

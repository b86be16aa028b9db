//! The orchestrator of Callboard.

pub mod catalog;
pub mod domain;
pub mod expression;
pub mod orchestrator;
pub mod ports;

//! The orchestrator of Callboard.

pub mod expression;

//! The orchestrator of Callboard.

pub mod kernel;
pub mod supervisor;

//! The orchestrator of Callboard.

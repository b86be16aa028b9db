//! The orchestrator of Callboard: it decides everything and touches nothing.
pub mod assignment;
pub mod catalog;
pub mod consumer;
pub mod domain;
pub mod engine;
pub mod executor;
pub mod expression;
pub mod janitor;
pub mod kernel;
mod link;
pub mod orchestrator;
pub mod ports;
pub mod registrar;
pub mod router;
pub mod run_cache;
pub mod scheduler;
pub mod state_writer;
pub mod supervisor;
#[cfg(test)]
mod testkit;

//! A server around a fake orchestrator, for the tests of every family of endpoints.

pub(super) mod fake;

mod edge;
mod endpoints;
mod events;
pub(crate) mod exposition;
mod health;
mod metrics;
pub(super) mod sdk;
mod wire;

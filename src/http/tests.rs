//! A server around a fake orchestrator, for the tests of every family of endpoints.

pub(super) mod fake;

mod connect;
mod edge;
mod endpoints;
mod events;
pub(crate) mod exposition;
mod health;
mod keys;
mod metadata;
mod metrics;
mod odds;
mod realtime;
pub(super) mod sdk;
mod traces;
mod wire;

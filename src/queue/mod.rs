//! The implementations of the orchestrator's [`Queue`](callboard_actors::ports::Queue) port.

pub mod embedded;
pub mod redis;

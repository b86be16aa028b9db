//! OpenTelemetry's protocol (OTLP over HTTP), as far as it is about traces.
//!
//! ```text
//! wire.rs       the messages, as protobuf and as JSON
//! values.rs     attributes, which are values of any kind
//! userland.rs   spans that apps send of what goes on in their runs
//! export.rs     spans of what the server does, told to a collector of the user's
//! ```
//!
//! The messages are written down here rather than taken from a crate: they are few, and stable.
//!
//! Never: an answer to HTTP, or a look at a store.

pub mod export;
pub mod userland;
mod values;
pub mod wire;

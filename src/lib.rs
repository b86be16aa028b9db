//! The daemon of Callboard: it touches the world and decides nothing.
//!
//! # Layout, in reading order
//!
//! | module | what it is |
//! |---|---|
//! | [`daemon`] | puts the parts together, runs them, takes them apart in order |
//! | [`settings`], [`telemetry`], [`error`], [`ambient`] | what an operator may set, the log, the catalogue of errors, time and chance |
//! | [`store`] | the truth: SQLite or PostgreSQL |
//! | [`queue`] | what is ready: in this process |
//! | [`sdk`] | the wire: registration, calls, replies, signatures, discovery |
//! | [`connect`] | the same for workers that connect to us |
//! | [`realtime`] | what is published while runs are under way, and who is subscribed to it |
//! | `pubsub` | a channel between instances, for both |
//! | `websocket` | the watch over what comes in over WebSockets, for both |
//! | [`otlp`] | traces, as OpenTelemetry sends them |
//! | [`http`] | the endpoints, one file per family |
//! | [`cli`], [`demo`] | the subcommands |

pub mod ambient;
pub mod cli;
pub mod connect;
pub mod daemon;
pub mod demo;
pub mod error;
pub mod http;
pub mod otlp;
mod pubsub;
pub mod queue;
pub mod realtime;
pub mod sdk;
pub mod settings;
pub mod store;
pub mod telemetry;
mod websocket;

//! The orchestrator of Callboard: it decides everything and touches nothing.
//!
//! It depends neither on the daemon nor on a database, a queue server or an HTTP library. What it needs from the world it
//! declares as traits ([`ports`]); Cargo keeps the direction.
//!
//! # Layout, in reading order
//!
//! | module | what it is |
//! |---|---|
//! | [`domain`] | the nouns: event, function, run, step, job, wait, and the changes between them |
//! | [`expression`] | the CEL dialect, event patterns, cron, durations and dates |
//! | [`engine`] | the pure core: (run, input) → (run, changes) |
//! | [`ports`] | what the world has to provide: store, queue, invoker, clock, chance; with their conformance suites |
//! | [`kernel`] | the supervision kit on actix: child, guard, restart policy, address book, credits, probe |
//! | [`supervisor`] | the root of the process tree |
//! | [`catalog`], [`run_cache`], [`run_ends`], [`assignment`], [`breaker`], [`workers`], [`parked`], [`metrics`], [`spans`] | what the actors share |
//! | [`registrar`], [`router`], [`state_writer`], [`consumer`], [`gateway`], [`executor`], [`scheduler`], [`janitor`], [`steward`], [`presence`] | the actors, one role each |
//! | [`mod@rerun`] | how a run is done again |
//! | [`orchestrator`] | the tree put together, and the handle for everything that may be asked of it |
//!
//! # The process tree
//!
//! ```text
//!                                supervisor
//!     ┌───────────┬──────────┬───────┼────────────┬───────────┬──────────┐
//!  state-writer  router   registrar  executor/…  scheduler,  janitor   consumer
//!     (1)         (2)       (2)       (3, one    presence     (4)       gateway
//!                                   per function)   (4)                (5: start last, stop first)
//! ```
//!
//! # The way of an event
//!
//! ```text
//!   HTTP ──► router ──► state-writer ──► store          the sender is answered after the commit
//!                            │
//!                            └──► queue ──► consumer ──► executor ──► app
//!                                   ▲                       │  ▲       │
//!                                   │                       ▼  └───────┘
//!                                   └──── state-writer ◄── engine decides
//! ```

pub mod assignment;
mod batched;
pub mod breaker;
pub mod catalog;
pub mod consumer;
pub mod domain;
pub mod engine;
pub mod executor;
pub mod expression;
pub mod gateway;
pub mod janitor;
pub mod kernel;
mod link;
pub mod metrics;
pub mod orchestrator;
mod outside;
pub mod parked;
pub mod ports;
pub mod presence;
pub mod registrar;
pub mod rerun;
pub mod router;
pub mod run_cache;
pub mod run_ends;
mod run_slots;
pub mod scheduler;
pub mod spans;
pub mod state_writer;
pub mod steward;
pub mod supervisor;
#[cfg(test)]
mod testkit;
pub mod workers;

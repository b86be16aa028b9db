//! Gatherings: which events join one, when it is due, and what it starts.
//!
//! ```text
//!   event ──► joins ──► open ──────── due or full ────────► fires ──► run
//!               │         ▲ │                                 │
//!               └ skipped └─┘ later events join               └ skipped: the function is gone
//! ```

mod fire;
mod join;

pub(super) use fire::correlation_id;
pub use fire::fire;
pub(super) use join::join;
pub use join::{Admitted, admit};

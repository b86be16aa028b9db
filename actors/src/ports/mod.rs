//! What the orchestrator needs from the world, as traits.
//!
//! The daemon implements them. Each has one conformance suite ([`conformance`], behind a feature) which every
//! implementation runs; the suite, not the documentation here, has the last word on what a port promises.

mod api_keys;
mod audit;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod connections;
mod gatherings;
mod invoker;
mod metadata;
mod operations;
mod overrides;
mod queue;
mod random;
mod run_slots;
mod search;
mod slots;
mod spans;
mod store;

pub use api_keys::KeyBook;
pub use audit::{Audit, AuditScope, Check, Finding, SAMPLES};
pub use clock::Clock;
pub use connections::ConnectionBook;
pub use gatherings::{DUE_BYTES, GatheringBook, within_due_bytes};
pub use invoker::{Invoker, InvokerFactory, Offered};
pub use metadata::MetadataBook;
pub use operations::OperationBook;
pub use overrides::Overrides;
pub use queue::{
    Flow, KeyFlow, Lease, LimitTable, Origin, PartitionStats, Place, Pushed, Queue, QueueError, QueueStats, RuleFlow,
};
pub use random::Random;
pub use run_slots::{PARKED, RunSlots, SlotClaim, SlotLimits, SlotPlace, Standing, Waiting};
pub use search::{EventSearch, RunPlace, RunSearch, RunTime, Search};
pub use slots::{CronEnd, CronGap, CronMark, GapReason, SlotBook, TickView};
pub use spans::SpanBook;
pub use store::{
    AppView, CatalogView, Counts, DeadLetterFilter, EventFilter, EventView, Except, Expiry, JobView, NodeView, Orphans,
    Page, RunFilter, RunSummary, RunView, SENDER_SLACK, StepView, Store, StoreError, WaitView,
};

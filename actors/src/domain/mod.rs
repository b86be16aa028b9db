//! The nouns: what the orchestrator talks about.
//!
//! Plain data with its parsing and its invariants, in the order of the story: an [`Event`] is accepted, matches a
//! [`Trigger`] of a [`Function`] and starts a run ([`RunState`]); the run advances [`Step`] by [`Step`] through what
//! the app reports ([`Opcode`]); what has to happen next is a [`Job`], what it waits for a [`Wait`]; what goes wrong
//! is a [`Failure`], and a job that is given up a [`DeadLetter`].
//!
//! Promises: every value that has been built is valid. Never: no I/O, no clock, no randomness, no decision (those are
//! the engine's).

pub(crate) mod admission;
mod api_key;
mod call;
mod change;
mod connection;
mod dead_letter;
mod deferral;
mod event;
mod failure;
mod function;
mod gate;
mod gathering;
mod ids;
mod job;
mod json;
mod limit_override;
pub mod limits;
mod metadata;
mod node;
mod opcode;
mod operation;
mod priority;
mod rate;
mod registration;
mod report;
mod resumption;
mod run;
mod span_id;
mod step;
mod textual;
mod timestamp;
mod trigger;
mod user_span;
mod wait;

pub use admission::{Cadence, Level, LockClaim, RateClaim};
pub use api_key::{ApiKey, KeyDigest, KeyScope};
pub use call::{Call, FetchFailure, FetchRequest, FetchResponse, Reply, Target};
pub use change::{
    Accept, Advance, Change, HistoryEntry, HistoryKind, LeftOut, NewRun, Route, Skip, SkipReason, Take, Write, Written,
};
pub use connection::{ConnectedApp, Connection, ConnectionStatus};
pub use dead_letter::DeadLetter;
pub use deferral::{Deferral, DeferralStatus};
pub use event::{Event, EventError, IncomingEvent, resolve_meta};
pub use failure::Failure;
pub use function::{
    App, Batch, CancelRule, Cap, Caps, ConcurrencyLimit, Debounce, Endpoint, FlowControl, Function, FunctionMode,
    RateLimit, Scope, Singleton, SingletonMode, Throttle, Timeouts, is_connection,
};
pub use gate::{BucketId, Gate, GateKind, Gates, Limit, Limits, RuleId};
pub use gathering::{
    DueBy, Fire, Gather, Gathered, Gathering, Join, Joined, LATE as LATE_TO_DEBOUNCE, Standing, replaced_by,
};
pub use ids::{
    ApiKeyId, ClaimId, EventId, EventIdSeed, FunctionId, GatheringId, IdError, LetterId, NodeId, OperationId,
    RequestId, RunId, StepId,
};
pub use job::{Deadline, Job, JobId, JobKey};
pub use json::{Json, JsonError};
pub use limit_override::LimitOverride;
pub use metadata::{
    Metadata, MetadataEntry, MetadataError, MetadataLog, MetadataOp, MetadataRecord, MetadataScope, MetadataTarget,
    MetadataUpdate, MetadataValues, NotedMetadata, StepMetadata,
};
pub use node::{Node, NodeState};
pub use opcode::{DeferAdd, DeferRefused, GatewayOptions, Opcode, OpcodeError, OpcodeKind, PublishTo};
pub use operation::{
    Cursor, Estimate, Item, Operation, OperationFilter, OperationKind, OperationState, Precision, Progress,
};
pub use priority::{Class, Priority};
pub use rate::Rate;
pub use registration::{Registration, SyncOutcome};
pub use report::{CallRef, Report, ReportRefused, Ticket};
pub use resumption::Resumption;
pub use run::{EditedStep, RunState, RunStatus};
pub use span_id::{SpanId, TraceId};
pub use step::{Step, StepOp, StepState};
pub use timestamp::Timestamp;
pub use trigger::Trigger;
pub use user_span::{SpanOutcome, UserSpan};
pub use wait::{Lookup, Wait, WaitKey, WaitKind};

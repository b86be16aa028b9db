//! The numbers the protocol fixes. What an operator may change lives in the daemon's settings instead.
//!
//! Source of each: the SDK protocol as described in `docs/compatibility.md`.

use std::time::Duration;

/// Events in one request.
pub const EVENTS_PER_REQUEST: usize = 5_000;
/// Bytes of one event as it came in.
pub const EVENT_BYTES: usize = 3 * 1024 * 1024;
/// Bytes of an event's name when it comes in.
pub const EVENT_NAME_BYTES: usize = 512;
/// Names that only the server may use begin with this, in any case.
pub const INTERNAL_PREFIX: &str = "inngest/";
/// Sessions that one event may belong to.
pub const SESSIONS_PER_EVENT: usize = 5;
/// Bytes of the key of a session.
pub const SESSION_KEY_BYTES: usize = 128;
/// Bytes of the id of a session.
pub const SESSION_ID_BYTES: usize = 512;

/// Retries of a function that asks for no number.
pub const DEFAULT_RETRIES: u32 = 4;
/// Retries a function may ask for; more is clamped.
pub const MAX_RETRIES: u32 = 20;

/// Steps that one run may have.
pub const STEPS_PER_RUN: usize = 1_000;
/// Opcodes in one reply.
pub const OPCODES_PER_REPLY: usize = 1_000;
/// Bytes of one step's output.
pub const STEP_OUTPUT_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of all step outputs of a run.
pub const RUN_STATE_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of a call's body; above it the app fetches events and steps itself.
pub const CALL_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of step state above which steps are not embedded in a call.
pub const EMBEDDED_STATE_BYTES: usize = CALL_BYTES - 1024;
/// Functions that one run may put off, those it has thought better of included.
pub const DEFERRALS_PER_RUN: usize = 20;
/// Bytes of what a function that is put off is given, and of what all of a run are given together.
pub const DEFERRAL_INPUT_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of the `meta` of a function that is put off.
pub const DEFERRAL_META_BYTES: usize = 32 * 1024;
/// Bytes of the values of one update of metadata.
pub const METADATA_UPDATE_BYTES: usize = 64 * 1024;
/// Bytes of all metadata of a run.
pub const METADATA_RUN_BYTES: usize = 1024 * 1024;
/// Bytes of a kind of metadata.
pub const METADATA_KIND_BYTES: usize = 128;
/// Bytes of the name of a score.
pub const SCORE_NAME_BYTES: usize = 128;
/// Spans of users' own that a run may have.
pub const USER_SPANS_PER_RUN: usize = 1_000;
/// Bytes of all of them, as they are stored.
pub const USER_SPANS_BYTES_PER_RUN: usize = 4 * 1024 * 1024;
/// Bytes of one.
pub const USER_SPAN_BYTES: usize = 64 * 1024;
/// Bytes of a reply.
pub const REPLY_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a foreign answer kept for the operator to read.
pub const FOREIGN_BODY_BYTES: usize = 8 * 1024;

/// Longest sleep and longest wait for an event.
pub const LONGEST_WAIT: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// How long invokes and signals wait unless told otherwise.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Shortest wait a `Retry-After` may ask for.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// Longest wait a `Retry-After` may ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long one `(function, event id)` pair starts no second run.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// A wait set up to this long after an event was received may still be matched by it: the two crossed on the way.
pub const WAIT_FUDGE: Duration = Duration::from_secs(5);
/// Bytes of the events of one batch.
pub const BATCH_BYTES: u64 = 10 * 1024 * 1024;

//! The wire between the orchestrator and the apps that SDKs serve over HTTP.
//!
//! In the order of an app's life: [`discovery`] finds it and asks it to register, [`registration`] reads what it
//! says of itself, [`call`] turns a decision to call it into a request, [`signing`] proves that the request is
//! ours, [`invoker`] sends it over the connections of [`transport`], and [`reply`] understands the answer.
//! [`fetch`] makes requests on an app's behalf, whose answers are published while they come if the app says so.
//!
//! Promises: whatever bytes an app or a stranger sends give a value or an error, never a panic. Never decides
//! anything about runs: what a reply means for its run is the engine's business.

pub mod call;
pub mod discovery;
pub mod fetch;
pub mod invoker;
mod publishing;
pub mod registration;
pub mod reply;
pub mod signing;
mod step_id;
pub mod token;
pub mod transport;

#[cfg(test)]
mod testing;

pub use discovery::{Apps, Poller, SyncClient, SyncError};
pub use invoker::{HttpInvoker, HttpInvokerFactory, Settings};
pub use registration::{RegistrationError, parse, parse_own};
pub use signing::SigningKey;
pub use step_id::step_id;
pub use token::Tokens;

/// Names of the protocol's headers.
pub mod headers {
    /// Which SDK answers; its presence tells an SDK from a stranger.
    pub const SDK: &str = "x-inngest-sdk";
    /// HMAC over body and time.
    pub const SIGNATURE: &str = "x-inngest-signature";
    /// `dev` or `cloud`: what kind of server we are.
    pub const SERVER_KIND: &str = "x-inngest-server-kind";
    /// What kind of server the SDK takes us for.
    pub const EXPECTED_SERVER_KIND: &str = "x-inngest-expected-server-kind";
    /// Version of the request protocol.
    pub const REQUEST_VERSION: &str = "x-inngest-req-version";
    /// Whether the app forbids another attempt.
    pub const NO_RETRY: &str = "x-inngest-no-retry";
    /// When to try again.
    pub const RETRY_AFTER: &str = "retry-after";
    /// The run a call is for.
    pub const RUN_ID: &str = "x-run-id";
    /// `step`, or the step that is to run.
    pub const STEP_ID: &str = "x-inngest-step-id";
    /// Unique to each call.
    pub const REQUEST_ID: &str = "x-request-id";
    /// Which attempt at its job a call is, from 1.
    pub const GENERATION_ID: &str = "x-inngest-generation-id";
    /// Whether steps that are found are only to be planned, for durable endpoints.
    pub const FORCE_STEP_PLAN: &str = "x-inngest-force-step-plan";
    /// The span that is to be the parent of the app's own.
    pub const TRACE_PARENT: &str = "traceparent";
    /// What goes with it.
    pub const TRACE_STATE: &str = "tracestate";
    /// What a call is made for.
    pub const JOB_ID: &str = "x-inngest-job-id";
    /// Left by the TypeScript SDK on an answer that it strips of every other header of its own.
    pub const SDK_HANDLED: &str = "x-inngest-sdk-handled";
}

/// What kind of server we are; SDKs refuse to talk to the other kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServerKind {
    /// Without keys, for a developer's machine.
    #[default]
    Dev,
    /// With keys.
    Cloud,
}

impl ServerKind {
    /// The header's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Cloud => "cloud",
        }
    }
}

/// What we call ourselves when we make requests.
pub const USER_AGENT: &str = concat!("callboard/", env!("CARGO_PKG_VERSION"));

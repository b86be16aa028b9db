//! The messages of the protocol (package `connect.v1`). Fields that nobody here looks at are left out: they are passed over
//! when they come, as are those of versions to come.

use bytes::Bytes;
use prost::{Enumeration, Message};

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum Kind {
    GatewayHello = 0,
    WorkerConnect = 1,
    GatewayConnectionReady = 2,
    GatewayExecutorRequest = 3,
    WorkerReady = 4,
    WorkerRequestAck = 5,
    WorkerReply = 6,
    WorkerReplyAck = 7,
    WorkerPause = 8,
    WorkerHeartbeat = 9,
    GatewayHeartbeat = 10,
    GatewayClosing = 11,
    WorkerRequestExtendLease = 12,
    WorkerRequestExtendLeaseAck = 13,
    SyncFailed = 14,
    WorkerStatus = 15,
}

/// Every frame is one of these. The first one of a connection, a hello, has no bytes at all.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConnectMessage {
    #[prost(enumeration = "Kind", tag = "1")]
    pub(crate) kind: i32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) payload: Bytes,
}

impl ConnectMessage {
    /// With this payload.
    pub(crate) fn of(kind: Kind, payload: &impl Message) -> Self {
        Self {
            kind: kind.into(),
            payload: payload.encode_to_vec().into(),
        }
    }

    /// Without one.
    pub(crate) fn bare(kind: Kind) -> Self {
        Self {
            kind: kind.into(),
            payload: Bytes::new(),
        }
    }
}

/// The body of `POST /v0/connect/start`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StartRequest {
    #[prost(string, repeated, tag = "1")]
    pub(crate) exclude_gateways: Vec<String>,
}

/// The answer to it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StartResponse {
    #[prost(string, tag = "1")]
    pub(crate) connection_id: String,
    #[prost(string, tag = "2")]
    pub(crate) gateway_endpoint: String,
    #[prost(string, tag = "3")]
    pub(crate) gateway_group: String,
    #[prost(string, tag = "4")]
    pub(crate) session_token: String,
    #[prost(string, tag = "5")]
    pub(crate) sync_token: String,
}

/// The answer to `POST /v0/connect/flush`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FlushResponse {
    #[prost(string, tag = "1")]
    pub(crate) request_id: String,
}

/// What a worker says of itself.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WorkerConnectRequestData {
    #[prost(string, tag = "1")]
    pub(crate) connection_id: String,
    #[prost(string, tag = "2")]
    pub(crate) instance_id: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) auth_data: Option<AuthData>,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) capabilities: Bytes,
    #[prost(message, repeated, tag = "5")]
    pub(crate) apps: Vec<AppConfiguration>,
    #[prost(bool, tag = "6")]
    pub(crate) worker_manual_readiness_ack: bool,
    #[prost(message, optional, tag = "7")]
    pub(crate) system_attributes: Option<SystemAttributes>,
    #[prost(string, optional, tag = "8")]
    pub(crate) environment: Option<String>,
    #[prost(string, tag = "9")]
    pub(crate) framework: String,
    #[prost(string, optional, tag = "10")]
    pub(crate) platform: Option<String>,
    #[prost(string, tag = "11")]
    pub(crate) sdk_version: String,
    #[prost(string, tag = "12")]
    pub(crate) sdk_language: String,
    #[prost(int64, optional, tag = "14")]
    pub(crate) max_worker_concurrency: Option<i64>,
}

/// What it has to show.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthData {
    #[prost(string, tag = "1")]
    pub(crate) session_token: String,
    #[prost(string, tag = "2")]
    pub(crate) sync_token: String,
}

/// An app of its.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AppConfiguration {
    #[prost(string, tag = "1")]
    pub(crate) app_name: String,
    #[prost(string, optional, tag = "2")]
    pub(crate) app_version: Option<String>,
    /// A JSON array, as in a registration by HTTP.
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) functions: Bytes,
}

/// Its machine.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SystemAttributes {
    #[prost(int32, tag = "1")]
    pub(crate) cpu_cores: i32,
    #[prost(int64, tag = "2")]
    pub(crate) mem_bytes: i64,
    #[prost(string, tag = "3")]
    pub(crate) os: String,
}

/// Its connection is good.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct GatewayConnectionReadyData {
    #[prost(string, tag = "1")]
    pub(crate) heartbeat_interval: String,
    #[prost(string, tag = "2")]
    pub(crate) extend_lease_interval: String,
    #[prost(string, tag = "3")]
    pub(crate) status_interval: String,
}

/// A call.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct GatewayExecutorRequestData {
    #[prost(string, tag = "1")]
    pub(crate) request_id: String,
    #[prost(string, tag = "2")]
    pub(crate) account_id: String,
    #[prost(string, tag = "3")]
    pub(crate) env_id: String,
    #[prost(string, tag = "4")]
    pub(crate) app_id: String,
    #[prost(string, tag = "5")]
    pub(crate) app_name: String,
    #[prost(string, tag = "6")]
    pub(crate) function_id: String,
    #[prost(string, tag = "7")]
    pub(crate) function_slug: String,
    #[prost(string, optional, tag = "8")]
    pub(crate) step_id: Option<String>,
    #[prost(bytes = "bytes", tag = "9")]
    pub(crate) request_payload: Bytes,
    #[prost(bytes = "bytes", tag = "10")]
    pub(crate) system_trace_ctx: Bytes,
    #[prost(bytes = "bytes", tag = "11")]
    pub(crate) user_trace_ctx: Bytes,
    #[prost(string, tag = "12")]
    pub(crate) run_id: String,
    #[prost(string, tag = "13")]
    pub(crate) lease_id: String,
    #[prost(string, tag = "14")]
    pub(crate) job_id: String,
}

/// It has begun.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct WorkerRequestAckData {
    #[prost(string, tag = "1")]
    pub(crate) request_id: String,
}

/// It is still at work.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct WorkerRequestExtendLeaseData {
    #[prost(string, tag = "1")]
    pub(crate) request_id: String,
    #[prost(string, tag = "2")]
    pub(crate) account_id: String,
    #[prost(string, tag = "3")]
    pub(crate) env_id: String,
    #[prost(string, tag = "4")]
    pub(crate) app_id: String,
    #[prost(string, tag = "5")]
    pub(crate) function_slug: String,
    #[prost(string, tag = "10")]
    pub(crate) lease_id: String,
}

/// It may go on, by this lease; without one it may stop.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct WorkerRequestExtendLeaseAckData {
    #[prost(string, tag = "1")]
    pub(crate) request_id: String,
    #[prost(string, tag = "2")]
    pub(crate) account_id: String,
    #[prost(string, tag = "3")]
    pub(crate) env_id: String,
    #[prost(string, tag = "4")]
    pub(crate) app_id: String,
    #[prost(string, tag = "5")]
    pub(crate) function_slug: String,
    #[prost(string, optional, tag = "6")]
    pub(crate) new_lease_id: Option<String>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum ResponseStatus {
    NotCompleted = 0,
    Done = 1,
    Error = 2,
}

/// The answer to a call.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SdkResponse {
    #[prost(string, tag = "1")]
    pub(crate) request_id: String,
    #[prost(enumeration = "ResponseStatus", tag = "5")]
    pub(crate) status: i32,
    #[prost(bytes = "bytes", tag = "6")]
    pub(crate) body: Bytes,
    #[prost(bool, tag = "7")]
    pub(crate) no_retry: bool,
    #[prost(string, optional, tag = "8")]
    pub(crate) retry_after: Option<String>,
    #[prost(string, tag = "9")]
    pub(crate) sdk_version: String,
    #[prost(uint32, tag = "10")]
    pub(crate) request_version: u32,
}

/// The answer is here.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct WorkerReplyAckData {
    #[prost(string, tag = "1")]
    pub(crate) request_id: String,
}

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SystemError {
    #[prost(string, tag = "1")]
    pub(crate) code: String,
    #[prost(string, tag = "3")]
    pub(crate) message: String,
}

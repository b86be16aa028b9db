//! A worker's side of the protocol, for tests of the endpoints.

use bytes::Bytes;
use prost::Message as _;

use super::Tokens;
use super::handshake::tests::data;
pub(crate) use super::wire::Kind;
use super::wire::{
    ConnectMessage, FlushResponse, GatewayConnectionReadyData, GatewayExecutorRequestData, SdkResponse, StartResponse,
    WorkerRequestExtendLeaseAckData, WorkerRequestExtendLeaseData,
};

/// All there are.
pub(crate) const KINDS: [Kind; 16] = [
    Kind::GatewayHello,
    Kind::WorkerConnect,
    Kind::GatewayConnectionReady,
    Kind::GatewayExecutorRequest,
    Kind::WorkerReady,
    Kind::WorkerRequestAck,
    Kind::WorkerReply,
    Kind::WorkerReplyAck,
    Kind::WorkerPause,
    Kind::WorkerHeartbeat,
    Kind::GatewayHeartbeat,
    Kind::GatewayClosing,
    Kind::WorkerRequestExtendLease,
    Kind::WorkerRequestExtendLeaseAck,
    Kind::SyncFailed,
    Kind::WorkerStatus,
];

pub(crate) fn message(kind: Kind, payload: Vec<u8>) -> Vec<u8> {
    let message = ConnectMessage {
        kind: kind.into(),
        payload: payload.into(),
    };
    message.encode_to_vec()
}

pub(crate) fn read(frame: Bytes) -> (Kind, Bytes) {
    let message = ConnectMessage::decode(frame).expect("a message");
    (message.kind(), message.payload)
}

/// A worker of the app `shop` with the functions `shop-charge` and `shop-ship`, which says when it is ready.
pub(crate) fn introduction() -> Vec<u8> {
    data(&Tokens::new(None)).encode_to_vec()
}

pub(crate) fn without_token() -> Vec<u8> {
    let mut data = data(&Tokens::new(None));
    data.auth_data = None;
    data.encode_to_vec()
}

/// With a function that has no step.
pub(crate) fn impossible() -> Vec<u8> {
    let mut data = data(&Tokens::new(None));
    data.apps[0].functions = Bytes::from_static(br#"[{"id": "a", "name": "a"}]"#);
    data.encode_to_vec()
}

pub(crate) fn intervals(payload: &[u8]) -> [String; 3] {
    let ready = GatewayConnectionReadyData::decode(payload).expect("intervals");
    [
        ready.heartbeat_interval,
        ready.extend_lease_interval,
        ready.status_interval,
    ]
}

pub(crate) fn request(payload: &[u8]) -> GatewayExecutorRequestData {
    GatewayExecutorRequestData::decode(payload).expect("a request")
}

/// A message with the id of a request and nothing else.
pub(crate) fn named(request: &str) -> Vec<u8> {
    FlushResponse {
        request_id: request.to_owned(),
    }
    .encode_to_vec()
}

/// The id of the request that a message is about.
pub(crate) fn name(payload: &[u8]) -> String {
    FlushResponse::decode(payload).expect("an id").request_id
}

pub(crate) fn extension(request: &str, lease: &str) -> Vec<u8> {
    WorkerRequestExtendLeaseData {
        request_id: request.to_owned(),
        lease_id: lease.to_owned(),
        ..WorkerRequestExtendLeaseData::default()
    }
    .encode_to_vec()
}

pub(crate) fn new_lease(payload: &[u8]) -> Option<String> {
    let answer = WorkerRequestExtendLeaseAckData::decode(payload).expect("an answer");
    answer.new_lease_id
}

pub(crate) fn answer(request: &str, body: &'static [u8]) -> Vec<u8> {
    SdkResponse {
        request_id: request.to_owned(),
        status: 1,
        body: Bytes::from_static(body),
        ..SdkResponse::default()
    }
    .encode_to_vec()
}

pub(crate) fn started(body: &[u8]) -> StartResponse {
    StartResponse::decode(body).expect("an answer")
}

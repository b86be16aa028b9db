//! What a worker says once it is connected: from a frame to what it means. Pure.
//!
//! Promises: any bytes give a meaning or a reason to close the connection, never a panic. What a version to come may say is
//! passed over.

use bytes::Bytes;
use callboard_actors::workers::RequestId;
use prost::Message as _;
use ulid::Ulid;

use super::handshake::{Code, Refusal};
use super::wire::{ConnectMessage, Kind, SdkResponse, WorkerRequestAckData, WorkerRequestExtendLeaseData};

/// What a worker says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Heard {
    /// It takes requests.
    Ready,
    /// It lives.
    Heartbeat,
    /// It takes no more requests.
    Pause,
    /// It has begun with a request.
    Begun(RequestId),
    /// It wants a lease extended.
    Extend {
        /// On which request; `None` if it is none of ours.
        id: Option<RequestId>,
        lease: Ulid,
        /// The message, for the answer.
        data: WorkerRequestExtendLeaseData,
    },
    /// It has answered a request.
    Answered {
        /// Which; `None` if it is none of ours.
        id: Option<RequestId>,
        /// The same as the worker knows it.
        text: String,
        answer: Bytes,
    },
    /// Nothing of interest.
    Nothing,
}

const ACK: Refusal = Refusal::policy("connect_worker_request_ack_invalid_payload");
const EXTEND: Refusal = Refusal::policy("connect_worker_request_extend_lease_invalid_payload");
const REPLY: Refusal = Refusal::policy("connect_run_invalid_message");

/// Reads a frame as a message.
///
/// # Errors
/// When it is none.
pub(super) fn message(frame: Bytes) -> Result<ConnectMessage, Refusal> {
    ConnectMessage::decode(frame).map_err(|_| Refusal::new(Code::Invalid, "connect_invalid_message"))
}

/// Understands a frame.
///
/// # Errors
/// When it makes no sense, and the connection is to be closed.
pub(super) fn hear(frame: Bytes) -> Result<Heard, Refusal> {
    let message = message(frame)?;
    let Ok(kind) = Kind::try_from(message.kind) else {
        return Ok(Heard::Nothing);
    };
    Ok(match kind {
        Kind::WorkerReady => Heard::Ready,
        Kind::WorkerHeartbeat => Heard::Heartbeat,
        Kind::WorkerPause => Heard::Pause,
        Kind::WorkerRequestAck => {
            let data = WorkerRequestAckData::decode(message.payload).map_err(|_| ACK)?;
            data.request_id.parse().map_or(Heard::Nothing, Heard::Begun)
        }
        Kind::WorkerRequestExtendLease => {
            let data = WorkerRequestExtendLeaseData::decode(message.payload).map_err(|_| EXTEND)?;
            Heard::Extend {
                id: data.request_id.parse().ok(),
                lease: Ulid::from_string(&data.lease_id).map_err(|_| EXTEND)?,
                data,
            }
        }
        Kind::WorkerReply => {
            let data = SdkResponse::decode(message.payload.clone()).map_err(|_| REPLY)?;
            Heard::Answered {
                id: data.request_id.parse().ok(),
                text: data.request_id,
                answer: message.payload,
            }
        }
        Kind::GatewayHello
        | Kind::WorkerConnect
        | Kind::GatewayConnectionReady
        | Kind::GatewayExecutorRequest
        | Kind::WorkerReplyAck
        | Kind::GatewayHeartbeat
        | Kind::GatewayClosing
        | Kind::WorkerRequestExtendLeaseAck
        | Kind::SyncFailed
        | Kind::WorkerStatus => Heard::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef-01JZ0000000000000000000009";

    fn heard(kind: Kind, payload: Vec<u8>) -> Result<Heard, Refusal> {
        let message = ConnectMessage {
            kind: kind.into(),
            payload: payload.into(),
        };
        hear(message.encode_to_vec().into())
    }

    #[rstest]
    #[case(Kind::WorkerReady, Heard::Ready)]
    #[case(Kind::WorkerHeartbeat, Heard::Heartbeat)]
    #[case(Kind::WorkerPause, Heard::Pause)]
    #[case(Kind::WorkerStatus, Heard::Nothing)]
    #[case(Kind::GatewayHello, Heard::Nothing)]
    fn plain_words(#[case] kind: Kind, #[case] meaning: Heard) {
        assert_eq!(heard(kind, Vec::new()), Ok(meaning));
    }

    #[test]
    fn kinds_to_come_are_passed_over() {
        assert_eq!(hear(Bytes::from_static(&[0x08, 99])), Ok(Heard::Nothing));
    }

    #[test]
    fn answers_are_kept_as_they_came_also_to_requests_that_are_not_ours() {
        for (text, is_ours) in [(ID, true), ("something else", false)] {
            let answer = SdkResponse {
                request_id: text.to_owned(),
                status: 1,
                body: Bytes::from_static(b"{}"),
                ..SdkResponse::default()
            };
            let Ok(Heard::Answered {
                id,
                text: told,
                answer: kept,
            }) = heard(Kind::WorkerReply, answer.encode_to_vec())
            else {
                panic!("an answer");
            };
            assert_eq!(
                (id.is_some(), &*told, kept),
                (is_ours, text, answer.encode_to_vec().into())
            );
        }
    }

    #[rstest]
    #[case(Kind::WorkerRequestAck, "connect_worker_request_ack_invalid_payload")]
    #[case(
        Kind::WorkerRequestExtendLease,
        "connect_worker_request_extend_lease_invalid_payload"
    )]
    #[case(Kind::WorkerReply, "connect_run_invalid_message")]
    fn what_makes_no_sense_ends_the_connection(#[case] kind: Kind, #[case] reason: &str) {
        let refusal = heard(kind, vec![0xff]).expect_err("refused");
        assert_eq!((refusal.code, refusal.reason), (Code::Policy, reason));
    }

    #[test]
    fn a_lease_that_is_none_ends_the_connection() {
        let data = WorkerRequestExtendLeaseData {
            request_id: ID.to_owned(),
            lease_id: "lease".to_owned(),
            ..WorkerRequestExtendLeaseData::default()
        };
        let refusal = heard(Kind::WorkerRequestExtendLease, data.encode_to_vec()).expect_err("refused");
        assert_eq!(refusal.reason, "connect_worker_request_extend_lease_invalid_payload");
    }

    #[test]
    fn what_is_no_message_ends_the_connection() {
        assert_eq!(
            hear(Bytes::from_static(&[0xff])).expect_err("refused").code,
            Code::Invalid
        );
    }

    proptest! {
        #[test]
        fn any_frame_has_a_meaning_or_ends_the_connection(frame in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = hear(frame.into());
        }

        #[test]
        fn any_payload_of_any_kind_too(kind in -3..40_i32, payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let message = ConnectMessage { kind, payload: payload.into() };
            let _ = hear(message.encode_to_vec().into());
        }
    }
}

//! Workers over real sockets: what is sent and closed, byte by byte, and that nobody is hurt by what another one sends.

use std::sync::Arc;
use std::time::Duration;

use actix_http::ws::{CloseCode, Frame, Message};
use actix_web::dev::ServerHandle;
use actix_web::http::header::HeaderValue;
use awc::BoxedSocket;
use awc::error::WsProtocolError;
use bytes::Bytes;
use callboard_actors::domain::{FunctionId, RunId};
use callboard_actors::workers::{CallKey, Called, Status, Wanted, Workers};
use futures_util::{SinkExt as _, StreamExt as _};
use proptest::prelude::*;
use rstest::rstest;
use tokio::io::AsyncWriteExt as _;

use super::fake::{self, NOW, Shared};
use crate::connect::testing::{self, Kind};

const PATIENCE: Duration = Duration::from_secs(20);

type Socket = actix_codec::Framed<BoxedSocket, actix_http::ws::Codec>;

struct Listening {
    url: String,
    handle: ServerHandle,
    world: Shared,
    workers: Workers,
}

async fn listen() -> Listening {
    let options = fake::options();
    let workers = options.gateway.workers().clone();
    let (address, handle, world) = fake::listen(options);
    Listening {
        url: format!("http://{address}/v0/connect"),
        handle,
        world,
        workers,
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens in time")
}

impl Listening {
    async fn open(&self) -> Socket {
        let client = awc::Client::builder()
            .max_http_version(awc::http::Version::HTTP_11)
            .finish();
        let connecting = client.ws(&self.url).protocols(["v0.connect.inngest.com"]).connect();
        let (answer, socket) = within(connecting).await.expect("it opens");
        let chosen = answer
            .headers()
            .get("sec-websocket-protocol")
            .map(HeaderValue::as_bytes);
        assert_eq!(chosen, Some(b"v0.connect.inngest.com".as_slice()));
        assert!(
            !answer.headers().contains_key("sec-websocket-extensions"),
            "frames are not compressed"
        );
        socket
    }

    /// A connection that is good.
    async fn connect(&self) -> Socket {
        let mut socket = self.open().await;
        assert_eq!(frame(&mut socket).await, Ok(Bytes::new()), "a hello has no bytes");
        say(&mut socket, Kind::WorkerConnect, testing::introduction()).await;
        let (kind, payload) = heard(&mut socket).await;
        assert_eq!(kind, Kind::GatewayConnectionReady);
        assert_eq!(testing::intervals(&payload), ["10s", "20s", "0s"]);
        socket
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Workers) -> bool) {
        let waiting = async {
            while !is_so(&self.workers) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(
            tokio::time::timeout(PATIENCE, waiting).await.is_ok(),
            "not in time: {what}"
        );
    }
}

/// The next binary frame, or how the connection was closed: code and reason.
async fn frame(socket: &mut Socket) -> Result<Bytes, (Option<CloseCode>, String)> {
    loop {
        match within(socket.next()).await {
            Some(Ok(Frame::Binary(bytes))) => return Ok(bytes),
            Some(Ok(Frame::Close(reason))) => {
                let text = reason.as_ref().and_then(|reason| reason.description.clone());
                return Err((reason.map(|reason| reason.code), text.unwrap_or_default()));
            }
            Some(Ok(_)) => {}
            Some(Err(WsProtocolError::Io(_))) | None => return Err((None, String::new())),
            Some(Err(error)) => panic!("{error}"),
        }
    }
}

async fn heard(socket: &mut Socket) -> (Kind, Bytes) {
    testing::read(frame(socket).await.expect("a message"))
}

async fn say(socket: &mut Socket, kind: Kind, payload: Vec<u8>) {
    within(socket.send(Message::Binary(testing::message(kind, payload).into())))
        .await
        .expect("it is taken");
}

fn wanted() -> Arc<Wanted> {
    Arc::new(Wanted {
        key: CallKey::derive(&[b"a call"]),
        function: FunctionId::derive("shop", "shop-charge"),
        slug: "shop-charge".into(),
        run: RunId::new(NOW, 7),
        step: "step".to_owned(),
        payload: r#"{"ctx":{}}"#.to_owned(),
        trace: r#"{"traceparent":"00-a-b-01"}"#.to_owned(),
        timeout: Duration::from_secs(60),
    })
}

#[actix_web::test]
async fn a_call_goes_out_and_its_answer_comes_back() {
    let server = listen().await;
    let mut socket = server.connect().await;
    let registered = server.world.with(|world| world.registered.len());
    assert_eq!(registered, 1);
    say(&mut socket, Kind::WorkerReady, Vec::new()).await;
    server
        .until("it is ready", |workers| workers.serves("shop-charge"))
        .await;
    let workers = server.workers.clone();
    let call = actix_web::rt::spawn(async move { workers.call(wanted()).await });
    let (kind, payload) = heard(&mut socket).await;
    assert_eq!(kind, Kind::GatewayExecutorRequest);
    let request = testing::request(&payload);
    assert_eq!(
        (&*request.app_name, &*request.function_slug, request.step_id.as_deref()),
        ("shop", "shop-charge", Some("step"))
    );
    assert_eq!(&*request.request_payload, br#"{"ctx":{}}"#);
    say(&mut socket, Kind::WorkerRequestAck, testing::named(&request.request_id)).await;
    // With the lease it has, and with one that it never had.
    for (lease, is_held) in [(&*request.lease_id, true), ("01JZ0000000000000000000009", false)] {
        let extension = testing::extension(&request.request_id, lease);
        say(&mut socket, Kind::WorkerRequestExtendLease, extension).await;
        let (kind, payload) = heard(&mut socket).await;
        assert_eq!(kind, Kind::WorkerRequestExtendLeaseAck);
        assert_eq!(testing::new_lease(&payload).is_some(), is_held);
    }
    say(&mut socket, Kind::WorkerHeartbeat, Vec::new()).await;
    assert_eq!(heard(&mut socket).await.0, Kind::GatewayHeartbeat);
    // It pauses, and answers all the same; an answer to nothing is acknowledged too.
    say(&mut socket, Kind::WorkerPause, Vec::new()).await;
    for id in [&*request.request_id, "nothing of ours"] {
        say(&mut socket, Kind::WorkerReply, testing::answer(id, b"1")).await;
        let (kind, payload) = heard(&mut socket).await;
        assert_eq!((kind, testing::name(&payload)), (Kind::WorkerReplyAck, id.to_owned()));
    }
    let Called::Answered(answer) = within(call).await.expect("no panic") else {
        panic!("it was answered");
    };
    assert_eq!(answer, testing::answer(&request.request_id, b"1"));
    assert_eq!(server.workers.list()[0].status, Status::Draining);
    drop(socket);
    server.until("it is gone", |workers| workers.list().is_empty()).await;
    // The same group registers once.
    drop(server.connect().await);
    assert_eq!(server.world.with(|world| world.registered.len()), registered);
    server.handle.stop(false).await;
}

#[rstest]
#[case::not_connect(Kind::WorkerReady, Vec::new(), "connect_worker_hello_invalid_msg")]
#[case::no_payload(Kind::WorkerConnect, vec![0xff], "connect_worker_hello_invalid_payload")]
#[case::empty(Kind::WorkerConnect, Vec::new(), "connect_worker_hello_invalid_payload")]
#[case::no_token(Kind::WorkerConnect, testing::without_token(), "connect_authentication_failed")]
#[actix_web::test]
async fn who_does_not_introduce_himself_is_closed(#[case] kind: Kind, #[case] payload: Vec<u8>, #[case] reason: &str) {
    let server = listen().await;
    let mut socket = server.open().await;
    assert_eq!(frame(&mut socket).await, Ok(Bytes::new()));
    say(&mut socket, kind, payload).await;
    assert_eq!(
        frame(&mut socket).await,
        Err((Some(CloseCode::Policy), reason.to_owned()))
    );
    assert!(server.workers.list().is_empty());
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn who_says_nothing_is_closed() {
    let server = listen().await;
    let mut socket = server.open().await;
    assert_eq!(frame(&mut socket).await, Ok(Bytes::new()));
    let closed = Err((Some(CloseCode::Policy), "connect_worker_hello_timeout".to_owned()));
    assert_eq!(frame(&mut socket).await, closed);
    server.handle.stop(false).await;
}

/// In a handshake and after it; the thread that serves the connection is this one.
#[rstest]
#[case::a_reserved_bit(&[0xc2, 0x80, 0, 0, 0, 0], CloseCode::Protocol, "connect_invalid_message")]
#[case::a_text_that_is_none(&[0x81, 0x81, 0, 0, 0, 0, 0xff], CloseCode::Protocol, "connect_invalid_message")]
#[case::an_endless_frame(&[0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0], CloseCode::Size, "MESSAGE_TOO_LARGE")]
#[actix_web::test]
async fn frames_that_break_the_rules_close_the_connection(
    #[case] bytes: &[u8],
    #[case] code: CloseCode,
    #[case] reason: &str,
) {
    let server = listen().await;
    let mut fresh = server.open().await;
    assert_eq!(frame(&mut fresh).await, Ok(Bytes::new()));
    for mut socket in [fresh, server.connect().await] {
        within(socket.io_mut().write_all(bytes)).await.expect("it is taken");
        assert_eq!(frame(&mut socket).await, Err((Some(code), reason.to_owned())));
    }
    server
        .until("nobody is there", |workers| workers.list().is_empty())
        .await;
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn an_app_that_can_not_be_registered_is_told_why() {
    let server = listen().await;
    let mut socket = server.open().await;
    assert_eq!(frame(&mut socket).await, Ok(Bytes::new()));
    say(&mut socket, Kind::WorkerConnect, testing::impossible()).await;
    assert_eq!(heard(&mut socket).await.0, Kind::SyncFailed);
    let closed = Err((Some(CloseCode::Policy), "config_invalid".to_owned()));
    assert_eq!(frame(&mut socket).await, closed);
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn a_server_that_goes_down_closes_all_and_takes_none() {
    let server = listen().await;
    let mut socket = server.connect().await;
    server.workers.announce_end(true);
    assert_eq!(heard(&mut socket).await.0, Kind::GatewayClosing);
    let closing = Err((Some(CloseCode::Away), "connect_gateway_closing".to_owned()));
    let mut late = server.open().await;
    assert_eq!(frame(&mut late).await, closing);
    server.workers.close();
    assert_eq!(frame(&mut socket).await, closing);
    server.handle.stop(false).await;
}

/// What a worker gone mad may send.
fn nonsense() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(testing::KINDS.to_vec());
    let payload = prop::collection::vec(any::<u8>(), 0..64);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        (kinds.clone(), payload).prop_map(|(kind, payload)| testing::message(kind, payload)),
        kinds.prop_map(|kind| testing::message(kind, Vec::new())),
        Just(testing::message(Kind::WorkerConnect, testing::introduction())),
        Just(testing::message(
            Kind::WorkerReply,
            testing::answer("0123456789abcdef0123456789abcdef-01JZ0000000000000000000009", b"?")
        )),
    ]
}

#[test]
fn no_order_of_messages_hurts_the_server_or_another_connection() {
    use proptest::test_runner::{Config, TestRunner};
    let mut runner = TestRunner::new(Config {
        cases: 60,
        failure_persistence: None,
        ..Config::default()
    });
    let strategy = (any::<bool>(), prop::collection::vec(nonsense(), 1..12));
    let outcome = runner.run(&strategy, |(is_introduced, frames)| {
        actix_web::rt::System::new().block_on(async move {
            let server = listen().await;
            let mut witness = server.connect().await;
            let mut mad = if is_introduced {
                server.connect().await
            } else {
                server.open().await
            };
            for frame in frames {
                // It may have been closed by now.
                if within(mad.send(Message::Binary(frame.into()))).await.is_err() {
                    break;
                }
            }
            say(&mut witness, Kind::WorkerHeartbeat, Vec::new()).await;
            assert_eq!(heard(&mut witness).await.0, Kind::GatewayHeartbeat);
            drop(mad);
            server
                .until("only the witness is left", |workers| workers.list().len() == 1)
                .await;
            server.handle.stop(false).await;
        });
        Ok(())
    });
    outcome.expect("nobody was hurt");
}

#[actix_web::test]
async fn a_start_tells_where_to_connect_and_a_flush_is_acknowledged() {
    let server = super::fake::Server::start().await;
    let start = actix_web::test::TestRequest::post()
        .uri("/v0/connect/start")
        .insert_header(("host", "callboard.test:8288"))
        .insert_header(("authorization", "Bearer signkey-test-00ff"));
    let answer = server.call(start).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (200, Some("application/octet-stream"))
    );
    let started = testing::started(&answer.body);
    assert_eq!(started.gateway_endpoint, "ws://callboard.test:8288/v0/connect");
    assert_eq!(
        (&*started.gateway_group, &*started.sync_token),
        ("gw-dev", "signkey-test-00ff")
    );
    assert_eq!(server.post("/v0/connect/start", vec![0xff]).await.status.as_u16(), 400);
    let flushed = server
        .post("/v0/connect/flush", testing::answer("something", b"1"))
        .await;
    assert_eq!(
        (flushed.status.as_u16(), testing::name(&flushed.body)),
        (200, "something".to_owned())
    );
    assert_eq!(server.post("/v0/connect/flush", "").await.status.as_u16(), 400);
    assert_eq!(server.get("/ready").await.status.as_u16(), 200);
    assert_eq!(
        server.get("/v0/connect/envs/dev/conns").await.json()["data"],
        serde_json::json!([])
    );
    assert_eq!(
        server.get("/v0/connect/envs/dev/groups/none").await.status.as_u16(),
        404
    );
}

//! Realtime over real sockets: who may, what subscribers read, and that it comes while it is published.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_http::ws::{CloseCode, Frame, Message};
use actix_web::dev::ServerHandle;
use awc::error::{WsClientError, WsProtocolError};
use awc::{BoxedSocket, Client, ClientRequest};
use futures_util::{SinkExt as _, StreamExt as _};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use ulid::Ulid;

use super::fake::{self, NOW};
use crate::http::Options;
use crate::realtime::{Broadcaster, Grant, Topic};
use crate::sdk::signing::Keys;
use crate::sdk::{SigningKey, Tokens};

const PATIENCE: Duration = Duration::from_secs(20);
const KEY: &str = "signkey-test-12345678";

type Socket = actix_codec::Framed<BoxedSocket, actix_http::ws::Codec>;

struct Listening {
    address: SocketAddr,
    handle: ServerHandle,
    realtime: Broadcaster,
}

fn listen() -> Listening {
    listen_with(fake::options())
}

fn listen_with(options: Options) -> Listening {
    let realtime = options.realtime.clone();
    let (address, handle, _) = fake::listen(options);
    Listening {
        address,
        handle,
        realtime,
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens in time")
}

fn client() -> Client {
    Client::builder().max_http_version(awc::http::Version::HTTP_11).finish()
}

impl Listening {
    fn post(&self, path: &str) -> ClientRequest {
        client().post(format!("http://{}/v1/realtime/{path}", self.address))
    }

    /// Posts a text; answers the status.
    async fn status(&self, path: &str, body: &str) -> u16 {
        let answer = within(self.post(path).send_body(body.to_owned()))
            .await
            .expect("it answers");
        answer.status().as_u16()
    }

    async fn token(&self, topics: &Value) -> String {
        let mut answer = within(self.post("token").send_json(topics)).await.expect("it answers");
        assert_eq!(answer.status(), 201);
        let answer: Value = within(answer.json()).await.expect("JSON");
        answer["jwt"].as_str().expect("a token").to_owned()
    }

    async fn connect(&self, token: &str) -> Result<Socket, WsClientError> {
        let url = format!("http://{}/v1/realtime/connect?token={token}", self.address);
        within(client().ws(url).max_frame_size(4 * 1024 * 1024).connect())
            .await
            .map(|(_, socket)| socket)
    }

    async fn subscribe(&self, channel: &str, names: &[&str]) -> Socket {
        let topics = names
            .iter()
            .map(|name| json!({"channel": channel, "name": name, "kind": "run"}));
        let token = self.token(&topics.collect()).await;
        self.connect(&token).await.expect("it opens")
    }

    /// Begins to post a body, whose pieces follow.
    async fn post_slowly(&self, path: &str, kind: &str) -> Slow {
        let mut stream = within(TcpStream::connect(self.address)).await.expect("it listens");
        let head = format!(
            "POST /v1/realtime/{path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: {kind}\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        within(stream.write_all(head.as_bytes())).await.expect("it is taken");
        Slow(stream)
    }
}

/// A request whose body is on its way.
struct Slow(TcpStream);

impl Slow {
    async fn send(&mut self, piece: &str) {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        within(self.0.write_all(chunk.as_bytes())).await.expect("it is taken");
    }

    /// Ends the body; answers the status.
    async fn status(mut self) -> u16 {
        within(self.0.write_all(b"0\r\n\r\n")).await.expect("it is taken");
        let mut answer = String::new();
        within(self.0.read_to_string(&mut answer)).await.expect("it answers");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("{answer}"))
    }
}

/// The next message, or what the connection was closed with.
async fn next(socket: &mut Socket) -> Result<Value, Option<CloseCode>> {
    loop {
        match within(socket.next()).await {
            Some(Ok(Frame::Text(text))) => return Ok(serde_json::from_slice(&text).expect("JSON")),
            Some(Ok(Frame::Binary(bytes))) => return Ok(json!({"bytes": String::from_utf8_lossy(&bytes)})),
            Some(Ok(Frame::Close(reason))) => return Err(reason.map(|reason| reason.code)),
            Some(Ok(_)) => {}
            Some(Err(WsProtocolError::Io(_))) | None => return Err(None),
            Some(Err(error)) => panic!("{error}"),
        }
    }
}

/// Kind and data of the next message.
async fn told(socket: &mut Socket) -> (String, Value) {
    let message = next(socket).await.expect("a message");
    (
        message["kind"].as_str().expect("a text").to_owned(),
        message["data"].clone(),
    )
}

async fn say(socket: &mut Socket, what: &Value) {
    within(socket.send(Message::Text(what.to_string().into())))
        .await
        .expect("it is taken");
}

#[actix_web::test]
async fn what_is_published_is_read_by_those_who_are_subscribed() {
    let server = listen();
    let mut socket = server.subscribe("user:1", &["ai", "other"]).await;
    for elsewhere in ["channel=user:1&topic=a", "channel=user:2&topic=ai"] {
        assert_eq!(
            server.status(&format!("publish?{elsewhere}"), "1").await,
            200,
            "nobody listens, and all is well"
        );
    }
    let run = "01JZ0000000000000000000009";
    // The first topic counts.
    let path = format!("publish?channel=user%3A1&topic=ai&topic=other&run_id={run}&metadata=%7B%22a%22%3A1%7D");
    assert_eq!(server.status(&path, r#"{"n":1}"#).await, 200);
    let message = next(&mut socket).await.expect("a message");
    let expected = json!({
        "kind": "data", "channel": "user:1", "topic": "ai", "data": {"n": 1}, "metadata": {"a": 1}, "run_id": run,
        "created_at": NOW.to_rfc3339(), "env_id": "00000000-0000-4000-b000-000000000000",
    });
    assert_eq!(message, expected);
    assert_eq!(server.status("publish?channel=user:1&topic=other", "plain").await, 200);
    assert_eq!(told(&mut socket).await, ("data".to_owned(), json!("plain")));
}

#[actix_web::test]
async fn subscribers_ask_for_more_and_for_less() {
    let server = listen();
    let mut socket = server.subscribe("c", &["a"]).await;
    let more = server.token(&json!([{"channel": "c", "name": "b"}])).await;
    say(&mut socket, &json!({"kind": "sub", "data": "no.token.this"})).await;
    say(&mut socket, &json!({"kind": "unknown"})).await;
    say(
        &mut socket,
        &json!({"kind": "unsub", "data": [{"channel": "c", "name": "a"}]}),
    )
    .await;
    say(&mut socket, &json!({"kind": "sub", "data": more})).await;
    // Nothing is answered: it has been heard when something comes.
    let topic = |name: &str| format!("publish?channel=c&topic={name}");
    let heard = async {
        loop {
            server.status(&topic("a"), "\"a\"").await;
            server.status(&topic("b"), "\"b\"").await;
            if let Ok(message) = tokio::time::timeout(Duration::from_millis(20), next(&mut socket)).await {
                let message = message.expect("a message");
                if message["topic"] == "b" {
                    break;
                }
            }
        }
        // From here on no more of what it has left.
        server.status(&topic("a"), "\"a\"").await;
        server.status(&topic("b"), "\"last\"").await;
        loop {
            let message = next(&mut socket).await.expect("a message");
            assert_eq!(message["topic"], "b");
            if message["data"] == "last" {
                break;
            }
        }
    };
    within(heard).await;
}

#[actix_web::test]
async fn a_text_is_told_while_it_comes() {
    let server = listen();
    let mut socket = server.subscribe("c", &["t"]).await;
    let mut text = server.post_slowly("publish?channel=c&topic=t", "text/stream").await;
    let (kind, stream) = told(&mut socket).await;
    assert_eq!(kind, "datastream-start");
    for piece in ["once ", "upon"] {
        text.send(piece).await;
        let chunk = next(&mut socket).await.expect("a message");
        assert_eq!((&chunk["kind"], &chunk["data"]), (&json!("chunk"), &json!(piece)));
        assert_eq!(
            (&chunk["stream_id"], &chunk["channel"], &chunk["topic"]),
            (&stream, &json!("c"), &json!("t"))
        );
    }
    assert_eq!(text.status().await, 200);
    assert_eq!(told(&mut socket).await, ("datastream-end".to_owned(), stream));
    // A publisher that goes away leaves nobody waiting for the end.
    let text = server.post_slowly("publish?channel=c&topic=t", "text/stream").await;
    assert_eq!(told(&mut socket).await.0, "datastream-start");
    drop(text);
    assert_eq!(told(&mut socket).await.0, "datastream-end");
}

#[actix_web::test]
async fn events_are_passed_on_byte_by_byte() {
    let server = listen();
    let token = server
        .token(&json!([{"channel": "run", "name": "$stream"}, {"channel": "run", "name": "t"}]))
        .await;
    let url = format!("http://{}/v1/realtime/sse?token={token}", server.address);
    let request = client().get(url).insert_header(("origin", "https://app.example"));
    let mut answer = within(request.send())
        .await
        .expect("headers come before anything is published");
    let header = |name: &str| {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    assert_eq!(header("content-type").as_deref(), Some("text/event-stream"));
    assert_eq!(header("cache-control").as_deref(), Some("no-cache"));
    assert_eq!(header("access-control-allow-origin").as_deref(), Some("*"));
    assert_eq!(header("access-control-expose-headers").as_deref(), Some("Content-Type"));
    let mut tee = server
        .post_slowly("publish/tee?channel=run", "application/octet-stream")
        .await;
    for piece in ["event: inngest.stream\n", "data: {\"data\":1}\n\n", "event: x\nda"] {
        tee.send(piece).await;
        assert_eq!(within(answer.next()).await.expect("more").expect("bytes"), piece);
    }
    // A message waits for the end of the event.
    assert_eq!(server.status("publish?channel=run&topic=t", "1").await, 200);
    tee.send("ta: 2\n\n").await;
    assert_eq!(within(answer.next()).await.expect("more").expect("bytes"), "ta: 2\n\n");
    let message = within(answer.next()).await.expect("more").expect("bytes");
    assert!(
        message.starts_with(b"data: {\"kind\":\"data\"") && message.ends_with(b"\n\n"),
        "{message:?}"
    );
    assert_eq!(tee.status().await, 200);
    // A socket reads the same as binary frames.
    let mut socket = server.connect(&token).await.expect("it opens");
    assert_eq!(server.status("publish/tee?channel=run", "raw").await, 200);
    assert_eq!(next(&mut socket).await, Ok(json!({"bytes": "raw"})));
}

#[rstest]
#[case("publish?topic=t", "{}", 400)]
#[case("publish?channel=c", "{}", 400)]
#[case("publish?channel=&topic=t", "{}", 400)]
#[case("publish?channel=c&topic=t&run_id=nonsense", "{}", 400)]
#[case("publish?channel=c&topic=t&metadata=%7B", "{}", 400)]
#[case("publish/tee", "{}", 400)]
#[case("token", "{}", 400)]
#[case("token", "[", 400)]
#[case("token", r#"[{"channel":"c"}]"#, 400)]
#[case("token", "[]", 201)]
#[case("publish?channel=c&topic=t", "", 200)]
#[actix_web::test]
async fn what_makes_no_sense_is_refused(#[case] path: &str, #[case] body: &str, #[case] status: u16) {
    assert_eq!(listen().status(path, body).await, status);
}

#[actix_web::test]
async fn there_is_a_limit_to_everything() {
    let server = listen();
    let mut socket = server.subscribe("c", &["t", "$stream"]).await;
    let most = "a".repeat(512 * 1024);
    assert_eq!(server.status("publish?channel=c&topic=t", &most).await, 200);
    assert_eq!(told(&mut socket).await, ("data".to_owned(), json!(most)));
    assert_eq!(
        server.status("publish?channel=c&topic=t", &format!("{most}a")).await,
        413
    );
    assert_eq!(
        server.status("publish/tee?channel=c", &"a".repeat(1_024_001)).await,
        413
    );
    let mut passed_on = 0;
    while passed_on < 1_024_000 {
        let message = next(&mut socket).await.expect("a message");
        passed_on += message["bytes"].as_str().expect("bytes").len();
    }
    assert_eq!(passed_on, 1_024_000);
    let topics: Vec<Value> = (0..=1_000)
        .map(|number| json!({"channel": "c", "name": number.to_string()}))
        .collect();
    let topics = json!(topics);
    assert_eq!(server.status("token", &topics.to_string()).await, 400);
}

#[actix_web::test]
async fn whoever_subscribes_shows_a_token_that_is_good() {
    let server = listen();
    let late = NOW.before(Duration::from_secs(61));
    let grant = Grant::to_read(vec![Topic::new("c", "t")]);
    let expired = grant.issue(&Tokens::new(None), Ulid(1), late, 60);
    for token in ["", "nonsense", &expired] {
        let refused = server.connect(token).await.err().expect("refused");
        assert!(
            matches!(&refused, WsClientError::InvalidResponseStatus(status) if status.as_u16() == 401),
            "{refused}"
        );
        let url = format!("http://{}/v1/realtime/sse?token={token}", server.address);
        let mut answer = within(client().get(url).send()).await.expect("it answers");
        assert_eq!(answer.status(), 401);
        let answer: Value = within(answer.json()).await.expect("JSON");
        assert_eq!(answer["code"], "CB-1401");
    }
}

#[actix_web::test]
async fn whoever_publishes_shows_a_key_or_a_token_that_allows_it() {
    let keys = Keys::from(SigningKey::parse(KEY).expect("a key"));
    let tokens = Tokens::new(Some(&keys));
    let grant = |publishes| Grant {
        topics: vec![Topic::new("c", "t")],
        publishes,
    };
    let bearers = [
        ("", 401),
        ("Bearer nonsense", 401),
        (&format!("Bearer {}", keys.current().bearer()), 200),
        (&grant(true).issue(&tokens, Ulid(1), NOW, 60), 200),
        (&format!("Bearer {}", grant(true).issue(&tokens, Ulid(1), NOW, 60)), 200),
        (&grant(false).issue(&tokens, Ulid(1), NOW, 60), 401),
    ];
    let server = listen_with(Options {
        signing_keys: Some(Arc::new(keys)),
        ..fake::options()
    });
    for (bearer, expected) in bearers {
        for path in ["publish?channel=c&topic=t", "publish/tee?channel=c"] {
            let request = server.post(path).insert_header(("authorization", bearer));
            let answer = within(request.send_body("1")).await.expect("it answers");
            assert_eq!(answer.status().as_u16(), expected, "{path} {bearer}");
        }
        let request = server.post("token").insert_header(("authorization", bearer));
        let answer = within(request.send_body("[]")).await.expect("it answers");
        let is_key = bearer.contains(&key_hash());
        assert_eq!(
            answer.status().as_u16(),
            if is_key { 201 } else { 401 },
            "a token makes no tokens"
        );
    }
    // Where no key is asked for, a token that does not allow it is refused all the same.
    let server = listen();
    let token = grant(false).issue(&Tokens::new(None), Ulid(1), NOW, 60);
    let request = server.post("publish?channel=c&topic=t").bearer_auth(token);
    assert_eq!(within(request.send_body("1")).await.expect("it answers").status(), 401);
}

fn key_hash() -> String {
    SigningKey::parse(KEY).expect("a key").bearer()
}

#[actix_web::test]
async fn subscribers_are_told_when_the_server_goes_away() {
    let server = listen();
    let mut socket = server.subscribe("c", &["t"]).await;
    let ping = within(socket.next()).await.expect("more").expect("a frame");
    assert!(matches!(ping, Frame::Ping(_)), "{ping:?}");
    server.realtime.announce_end();
    assert_eq!(told(&mut socket).await.0, "closing");
    let token = server.token(&json!([{"channel": "c", "name": "t"}])).await;
    assert!(server.connect(&token).await.is_err(), "nobody new is taken");
    assert_eq!(server.status("publish?channel=c&topic=t", "1").await, 200);
    assert_eq!(told(&mut socket).await, ("data".to_owned(), json!(1)));
    server.realtime.close();
    assert_eq!(next(&mut socket).await, Err(Some(CloseCode::Away)));
    within(server.handle.stop(true)).await;
    assert_eq!(server.realtime.counts().subscribers, 0);
}

/// Answers a ping, as every reader of WebSockets does by itself.
async fn next_and_pong(socket: &mut Socket) -> Option<Frame> {
    let frame = within(socket.next()).await?.ok()?;
    if let Frame::Ping(said) = &frame {
        within(socket.send(Message::Pong(said.clone())))
            .await
            .expect("it is taken");
    }
    Some(frame)
}

#[actix_web::test]
async fn so_much_is_on_its_way_to_a_subscriber_and_no_more() {
    const MESSAGES: usize = 40;
    let server = listen();
    let large = "a".repeat(512 * 1024);
    // One says what it has read, another one never does.
    let mut quick = server.subscribe("c", &["t"]).await;
    let mut slow = server.subscribe("c", &["t"]).await;
    for _ in 0..MESSAGES {
        assert_eq!(server.status("publish?channel=c&topic=t", &large).await, 200);
        while !matches!(next_and_pong(&mut quick).await.expect("more"), Frame::Text(_)) {}
    }
    let mut read = 0;
    let end = loop {
        match next(&mut slow).await {
            Ok(_) => read += 1,
            Err(code) => break code,
        }
    };
    assert_eq!((end, read), (Some(CloseCode::Again), 4), "2 MiB");
}

#[actix_web::test]
async fn nobody_is_touched_by_what_another_one_sends() {
    let server = listen();
    let mut good = server.subscribe("c", &["t"]).await;
    let deep = "[".repeat(20_000);
    let said = [
        "",
        "{",
        "null",
        &deep,
        r#"{"kind":"sub"}"#,
        r#"{"kind":"sub","data":{"channel":"c"}}"#,
        r#"{"kind":"unsub","data":"c"}"#,
        r#"{"kind":"unsub","data":[{"channel":"c","name":"t"},{"channel":"d","name":"t"}]}"#,
        &format!(r#"{{"kind":"unsub","data":{deep}}}"#),
        r#"{"kind":"closing"}"#,
    ];
    let mut other = server.subscribe("d", &["t"]).await;
    for text in said {
        within(other.send(Message::Text(text.to_owned().into())))
            .await
            .expect("it is taken");
    }
    within(other.send(Message::Binary(vec![255; 1_000].into())))
        .await
        .expect("it is taken");
    within(other.send(Message::Text("a".repeat(200_000).into())))
        .await
        .expect("it is taken");
    assert_eq!(next(&mut other).await, Err(Some(CloseCode::Size)));
    // Bytes that are no frames at all.
    let mut broken = server.subscribe("d", &["t"]).await;
    within(broken.io_mut().write_all(&[0xff; 64]))
        .await
        .expect("it is taken");
    assert!(matches!(next(&mut broken).await, Err(Some(CloseCode::Protocol) | None)));
    assert_eq!(server.status("publish?channel=c&topic=t", "1").await, 200);
    assert_eq!(told(&mut good).await, ("data".to_owned(), json!(1)));
}

/// The subscriber's own end closes.
#[actix_web::test]
async fn a_subscriber_that_leaves_is_gone() {
    let server = listen();
    let socket = server.subscribe("c", &["t"]).await;
    assert_eq!(server.realtime.counts().subscribers, 1);
    drop(socket);
    let gone = async {
        while server.realtime.counts().subscribers > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(gone).await;
}

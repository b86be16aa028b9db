//! The gateway of workers.
//!
//! | what it gets | what it does |
//! |---|---|
//! | nothing for 5 s | 1008 `connect_worker_hello_timeout` |
//! | a first message that is no message | 1007 `connect_invalid_message` |
//! | … that introduces nobody | 1008 `connect_worker_hello_invalid_msg` |
//! | … an introduction that is damaged, without apps, an instance, or an id of the connection | 1008 `connect_worker_hello_invalid_payload` |
//! | … with a token that is none | 1008 `connect_authentication_failed` |
//! | … with too many apps | 1008 `connect_too_many_apps_per_connection` |
//! | … with functions that are no list, or are called elsewhere | 1008 `connect_invalid_function_config` |
//! | … with functions that can't be registered | `SYNC_FAILED`, 1008 and the registration's code |
//! | later: an acknowledgement, a wish for more time, or an answer that is none | 1008 and the code of each |
//! | later: what only the gateway says, a kind to come, another introduction, texts | nothing |
//! | a frame without a mask, with a reserved bit or opcode, a control frame in pieces or too long, a piece of nothing | 1002 `connect_invalid_message` |
//! | a message of more than 8 MiB, in one frame or in many, as soon as a head says so | 1009 `MESSAGE_TOO_LARGE` |
//! | by HTTP: a wish to connect, or an answer, that is none; an answer of nothing | 400 |
//! | by HTTP: an answer to nothing | 200: it would be sent for ever |

use std::time::Duration;

use serde_json::json;

use super::mutation::{bytes, damaged, noise, number, read};
use super::{Scene, dice};
use crate::chaos::Dice;
use crate::support::http::Request;
use crate::support::server::Server;
use crate::support::websocket::{BINARY, CONTINUATION, FIN, Got, PING, TEXT, WebSocket, frame, head};

const PATH: &str = "/v0/connect";
/// Bytes of a message, at the most.
const MOST: u64 = 8 * 1024 * 1024;

const INTRODUCTION: u64 = 1;
const READY: u64 = 4;
const ACK: u64 = 5;
const REPLY: u64 = 6;
const HEARTBEAT: u64 = 9;
const EXTEND: u64 = 12;
const KINDS: u64 = 15;

/// What a worker gets at the start.
struct Ticket {
    connection: Vec<u8>,
    token: Vec<u8>,
}

impl Ticket {
    fn of(server: &Server) -> Self {
        let answer = Request::new("POST", "/v0/connect/start")
            .send(server.address())
            .expect(200);
        Self {
            connection: read(&answer.body, 1),
            token: read(&answer.body, 4),
        }
    }

    /// The introduction of a worker of these apps.
    fn introduction(&self, apps: &[Vec<u8>]) -> Vec<u8> {
        let apps = apps.iter().map(|app| bytes(5, app));
        let fields = [
            bytes(1, &self.connection),
            bytes(2, "fuzz"),
            bytes(3, bytes(1, &self.token)),
        ];
        let about = [bytes(11, "v4.0.0"), bytes(12, "typescript")];
        fields.into_iter().chain(apps).chain(about).collect::<Vec<_>>().concat()
    }
}

/// An app with one function, called at this URL.
fn app(url: &str) -> Vec<u8> {
    let functions = json!([{
        "id": "fuzz-one", "name": "one", "triggers": [{"event": "fuzz/one"}],
        "steps": {"step": {"id": "step", "name": "step", "runtime": {"type": "ws", "url": url}}},
    }]);
    [bytes(1, "fuzz"), bytes(4, functions.to_string())].concat()
}

fn good_app() -> Vec<u8> {
    app("wss://connect?fnId=fuzz-one&stepId=step")
}

fn message(kind: u64, payload: &[u8]) -> Vec<u8> {
    [number(1, kind), bytes(2, payload)].concat()
}

fn binary(message: &[u8]) -> Vec<u8> {
    frame(FIN | BINARY, message)
}

/// What every kind of message that a worker sends looks like, about requests that nobody has made.
fn said(kind: u64) -> Vec<u8> {
    message(kind, &payload(kind))
}

fn payload(kind: u64) -> Vec<u8> {
    let about = [
        bytes(1, "0123456789abcdef0123456789abcdef-01JZ0000000000000000000009"),
        bytes(2, "account"),
        bytes(4, "app"),
    ]
    .concat();
    match kind {
        ACK => [about, bytes(5, "fuzz-one")].concat(),
        REPLY => [about, number(5, 1), bytes(6, "{}"), number(10, 2)].concat(),
        EXTEND => [about, bytes(10, "01JZ0000000000000000000009")].concat(),
        _ => Vec::new(),
    }
}

/// Whether a message says that the connection is good.
fn is_good(got: &Got) -> bool {
    matches!(got, Got::Frame(BINARY, message) if message.starts_with(&number(1, 2)))
}

/// A connection that has been greeted.
#[track_caller]
fn greeted(server: &Server) -> WebSocket {
    let mut socket = WebSocket::open(server.address(), PATH);
    assert_eq!(socket.next(), Got::Frame(BINARY, Vec::new()), "a hello has no bytes");
    socket
}

/// A connection of a worker that takes requests.
#[track_caller]
fn introduced(server: &Server, ticket: &Ticket) -> WebSocket {
    let mut socket = greeted(server);
    socket.send(&binary(&message(INTRODUCTION, &ticket.introduction(&[good_app()]))));
    let answer = socket.next();
    assert!(is_good(&answer), "{answer:?}");
    socket
}

/// Frames that break WebSocket's own rules, and what they are closed with.
fn breaches() -> Vec<(&'static str, Vec<u8>, Got)> {
    let protocol = || Got::closed(1002, "connect_invalid_message");
    let too_large = || Got::closed(1009, "MESSAGE_TOO_LARGE");
    let endless = |first, length| head(first, length);
    let fragments = |size: usize, count: usize| {
        let first = frame(BINARY, &vec![0; size]);
        let more = frame(CONTINUATION, &vec![0; size]).repeat(count);
        [first, more].concat()
    };
    let mebibyte = 1024 * 1024;
    vec![
        ("no mask", vec![FIN | BINARY, 3, 1, 2, 3], protocol()),
        ("a reserved bit", frame(FIN | BINARY | 0x40, b"abc"), protocol()),
        ("all reserved bits", frame(FIN | BINARY | 0x70, b""), protocol()),
        ("an opcode to come", frame(FIN | 0x3, b"abc"), protocol()),
        ("a control opcode to come", frame(FIN | 0xb, b"abc"), protocol()),
        ("a ping in pieces", frame(PING, b"abc"), protocol()),
        ("a long ping", frame(FIN | PING, &[0; 126]), protocol()),
        ("a piece of nothing", frame(FIN | CONTINUATION, b"abc"), protocol()),
        (
            "a message within a message",
            [frame(BINARY, b"a"), binary(b"b")].concat(),
            protocol(),
        ),
        ("a text that is none", frame(FIN | TEXT, &[0xff, 0xfe]), protocol()),
        ("one byte too many", endless(FIN | BINARY, MOST + 1), too_large()),
        ("a length of 2^62", endless(FIN | BINARY, 1 << 62), too_large()),
        ("a length of 2^64 - 1", endless(FIN | BINARY, u64::MAX), too_large()),
        ("pieces of a large message", fragments(mebibyte, 8), too_large()),
        ("crumbs", fragments(0, 40_000), too_large()),
    ]
}

#[test]
fn rules_that_are_broken_close_one_connection_and_disturb_nobody() {
    let scene = Scene::set();
    let server = &scene.server;
    let mut silent = greeted(server);
    let ticket = Ticket::of(server);
    let mut worker = introduced(server, &ticket);
    for (what, bytes, expected) in breaches() {
        for mut socket in [greeted(server), introduced(server, &ticket)] {
            socket.send(&bytes);
            assert_eq!(socket.end(), expected, "{what}");
        }
    }
    assert_eq!(silent.end(), Got::closed(1008, "connect_worker_hello_timeout"));
    assert_eq!(worker.ask(), Ok(()));
    drop(worker);
    scene.end();
}

#[test]
fn what_makes_no_sense_is_closed_with_its_code() {
    let scene = Scene::set();
    let server = &scene.server;
    let ticket = Ticket::of(server);
    let introduction = |apps: &[Vec<u8>]| message(INTRODUCTION, &ticket.introduction(apps));
    let stranger = Ticket {
        connection: ticket.connection.clone(),
        token: b"a.b.c".to_vec(),
    };
    let policy = |reason: &str| Got::closed(1008, reason);
    let payload = || policy("connect_worker_hello_invalid_payload");
    let no_list = [bytes(1, "fuzz"), bytes(4, "{}")].concat();
    let no_step = [bytes(1, "fuzz"), bytes(4, r#"[{"id":"a","name":"a"}]"#)].concat();
    let mut first = vec![
        ("noise", vec![0xff; 20], Got::closed(1007, "connect_invalid_message")),
        (
            "half a message",
            introduction(&[good_app()])[..40].to_vec(),
            Got::closed(1007, "connect_invalid_message"),
        ),
        ("an introduction of noise", message(INTRODUCTION, &[0xff; 9]), payload()),
        ("no apps", introduction(&[]), payload()),
        ("no introduction", message(INTRODUCTION, &[]), payload()),
        (
            "a stranger",
            message(INTRODUCTION, &stranger.introduction(&[good_app()])),
            policy("connect_authentication_failed"),
        ),
        (
            "101 apps",
            introduction(&vec![good_app(); 101]),
            policy("connect_too_many_apps_per_connection"),
        ),
        (
            "no list",
            introduction(&[no_list]),
            policy("connect_invalid_function_config"),
        ),
        (
            "called elsewhere",
            introduction(&[app("http://localhost:1/")]),
            policy("connect_invalid_function_config"),
        ),
        ("no step", introduction(&[no_step]), policy("config_invalid")),
    ];
    let others = (0..=KINDS + 5).filter(|kind| *kind != INTRODUCTION);
    first.extend(others.map(|kind| ("another kind", said(kind), policy("connect_worker_hello_invalid_msg"))));
    for (what, message, expected) in first {
        let mut socket = greeted(server);
        // Texts and pings are nothing, pieces of a message are one.
        socket.send(&frame(FIN | TEXT, b"hello?"));
        let (one, other) = message.split_at(message.len() / 2);
        let pieces = [
            frame(BINARY, one),
            frame(FIN | PING, b"x"),
            frame(FIN | CONTINUATION, other),
        ];
        socket.send(&pieces.concat());
        assert_eq!(socket.end(), expected, "{what}");
    }
    for (kind, reason) in [
        (ACK, "connect_worker_request_ack_invalid_payload"),
        (REPLY, "connect_run_invalid_message"),
        (EXTEND, "connect_worker_request_extend_lease_invalid_payload"),
    ] {
        let mut socket = introduced(server, &ticket);
        socket.send(&binary(&message(kind, &[0xff; 5])));
        assert_eq!(socket.end(), policy(reason));
    }
    let mut socket = introduced(server, &ticket);
    socket.send(&frame(FIN | TEXT, b"hello?"));
    for kind in 0..=KINDS + 5 {
        socket.send(&binary(&said(kind)));
    }
    socket.send(&binary(&introduction(&[good_app()])));
    assert_eq!(socket.ask(), Ok(()));
    drop(socket);
    scene.end();
}

/// A reason as the protocol has them.
fn is_reason(reason: &str) -> bool {
    !reason.is_empty() && reason.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

#[test]
fn damaged_messages_are_refused_or_understood() {
    let scene = Scene::set();
    let server = &scene.server;
    let ticket = Ticket::of(server);
    let (mut dice, rounds) = dice("the gateway", 300);
    let mut outcomes = [0; 3];
    for round in 0..rounds {
        let is_first = dice.between(0, 1) == 0;
        let (kind, payload) = if is_first {
            (INTRODUCTION, ticket.introduction(&[good_app()]))
        } else {
            let kind = [READY, ACK, REPLY, HEARTBEAT, EXTEND][usize::try_from(dice.between(0, 4)).expect("small")];
            (kind, payload(kind))
        };
        // The envelope, or what is in it.
        let sent = if dice.between(0, 2) == 0 {
            damaged(&mut dice, &message(kind, &payload))
        } else {
            message(kind, &damaged(&mut dice, &payload))
        };
        let mut socket = if is_first {
            greeted(server)
        } else {
            introduced(server, &ticket)
        };
        socket.send(&binary(&sent));
        let end = if is_first {
            Err(socket.next()).or_else(|got| if is_good(&got) { Ok(()) } else { Err(got) })
        } else {
            socket.ask()
        };
        let end = end.map_err(|got| match got {
            // Why an app could not be registered comes before the end.
            Got::Frame(..) => socket.end(),
            got => got,
        });
        let outcome = match &end {
            Ok(()) => 0,
            Err(Got::Closed(1007, reason)) if reason == "connect_invalid_message" => 1,
            Err(Got::Closed(1008, reason)) if is_reason(reason) => 2,
            other => panic!("round {round}: {other:?} after {sent:?} of kind {kind}"),
        };
        outcomes[outcome] += 1;
        if round % 100 == 0 {
            scene.work();
        }
    }
    println!("fuzzing the gateway: {outcomes:?} understood, no message, no sense");
    let by_http = |path: &str, body: &[u8]| {
        let request = Request::new("POST", format!("/v0/connect/{path}")).body(body);
        request.send(server.address()).status
    };
    assert_eq!((by_http("flush", &[]), by_http("start", &[])), (400, 200));
    let wish = bytes(1, "another-gateway");
    for round in 0..rounds {
        for (path, whole) in [("flush", payload(REPLY)), ("start", wish.clone())] {
            let sent = damaged(&mut dice, &whole);
            let status = by_http(path, &sent);
            assert!(
                matches!(status, 200 | 400),
                "round {round}: {status} after {sent:?} to {path}"
            );
        }
    }
    scene.end();
}

/// What one short connection is about.
fn short(dice: &mut Dice, server: std::net::SocketAddr, ticket: &Ticket) {
    let open = || WebSocket::open(server, PATH);
    match dice.between(0, 6) {
        0 => drop(std::net::TcpStream::connect(server)),
        1 => {
            let stream = std::net::TcpStream::connect(server);
            let _ = stream.and_then(|mut stream| std::io::Write::write_all(&mut stream, b"GET /v0/conn"));
        }
        2 => drop(open()),
        3 => drop(open().send(&binary(&message(INTRODUCTION, &ticket.introduction(&[good_app()]))))),
        4 => {
            let mut socket = open();
            socket.send(&binary(&message(INTRODUCTION, &ticket.introduction(&[good_app()]))));
            while !is_good(&socket.next()) {}
            socket.send(&binary(&said(REPLY)));
        }
        5 => drop(open().send(&frame(FIN | 0x8, &[3, 232]))),
        _ => {
            let mut socket = open();
            socket.send(&noise(dice, 200));
            // Whatever it makes of it, in whatever time: the end comes from here.
            let _ = socket.next_within(Duration::from_millis(5));
        }
    }
}

#[test]
fn crowds_of_short_connections_leave_nothing_behind() {
    const CROWD: u64 = 8;
    let scene = Scene::set();
    let ticket = Ticket::of(&scene.server);
    let (mut dice, rounds) = dice("the gateway's door", 2_000);
    let (address, ticket) = (scene.server.address(), &ticket);
    std::thread::scope(|scope| {
        for _ in 0..CROWD {
            let mut dice = Dice(dice.roll());
            scope.spawn(move || (0..rounds / CROWD).for_each(|_| short(&mut dice, address, ticket)));
        }
    });
    scene.end();
}

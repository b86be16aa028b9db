//! Subscribers.
//!
//! | what the server gets | what it does |
//! |---|---|
//! | a token that is none, damaged, or for publishing | 401, by WebSocket and by server-sent events |
//! | a text that is no wish, a wish with a token that is none, bytes | nothing |
//! | a frame that breaks WebSocket's rules | 1002 |
//! | a message of more than 128 KiB, as soon as a head says so | 1009 |

use serde_json::{Value, json};

use super::mutation::{damaged, noise};
use super::{Scene, dice};
use crate::support::http::Request;
use crate::support::server::{Server, text};
use crate::support::websocket::{BINARY, CONTINUATION, FIN, Got, PING, TEXT, WebSocket, frame, head};

const CHANNEL: &str = "fuzz";

fn token(server: &Server) -> String {
    let topics = json!([{"channel": CHANNEL, "name": "news", "kind": "run"}]);
    let answer = server.post("/v1/realtime/token", &topics).expect(201).json();
    text(&answer["jwt"])
}

fn subscribed(server: &Server) -> WebSocket {
    WebSocket::open(
        server.address(),
        &format!("/v1/realtime/connect?token={}", token(server)),
    )
}

fn publish(server: &Server, body: &[u8]) -> u16 {
    let path = format!("/v1/realtime/publish?channel={CHANNEL}&topic=news");
    Request::new("POST", path).body(body).send(server.address()).status
}

#[test]
fn subscribers_that_make_no_sense_disturb_no_other() {
    let scene = Scene::set();
    let server = &scene.server;
    let (mut dice, rounds) = dice("subscribers", 60);
    let mut listener = subscribed(server);
    let good = token(server);
    for round in 0..rounds {
        // Any character but the last, some bits of which mean nothing.
        let place = usize::try_from(dice.between(0, good.len() as u64 - 2)).expect("small");
        let mut bad = good.clone().into_bytes();
        bad[place] = if bad[place] == b'A' { b'B' } else { b'A' };
        let bad = String::from_utf8(bad).expect("ASCII");
        let by_socket = WebSocket::try_open(server.address(), &format!("/v1/realtime/connect?token={bad}"));
        assert_eq!(by_socket.map(drop), Err(401), "round {round}: {bad}");
        server.get(&format!("/v1/realtime/sse?token={bad}")).expect(401);
    }
    for none in ["", "?token=", "?token=a.b.c", "?token=%00%ff"] {
        assert_eq!(
            WebSocket::try_open(server.address(), &format!("/v1/realtime/connect{none}")).map(drop),
            Err(401)
        );
        server.get(&format!("/v1/realtime/sse{none}")).expect(401);
    }

    let mut odd = subscribed(server);
    let wish = json!({"kind": "sub", "data": good}).to_string();
    for _ in 0..rounds {
        let said = damaged(&mut dice, wish.as_bytes());
        odd.send(&frame(FIN | TEXT, String::from_utf8_lossy(&said).as_bytes()));
        odd.send(&frame(FIN | BINARY, &noise(&mut dice, 100)));
    }
    odd.send(&frame(FIN | TEXT, br#"{"kind":"unsub","data":[{"channel":7}]}"#));
    assert_eq!(odd.ask(), Ok(()));

    let most = 128 * 1024;
    let protocol = || Got::closed(1002, "that is not the protocol");
    let too_large = || Got::closed(1009, "too much at once");
    let pieces = [frame(TEXT, &vec![b'a'; most]), frame(FIN | CONTINUATION, b"a")].concat();
    for (what, bytes, expected) in [
        ("no mask", vec![FIN | TEXT, 1, b'a'], protocol()),
        ("a reserved bit", frame(FIN | TEXT | 0x20, b"a"), protocol()),
        ("a text that is none", frame(FIN | TEXT, &[0xc0]), protocol()),
        ("a long ping", frame(FIN | PING, &[0; 126]), protocol()),
        ("one byte too many", head(FIN | TEXT, most as u64 + 1), too_large()),
        ("a length of 2^62", head(FIN | TEXT, 1 << 62), too_large()),
        ("large pieces", pieces, too_large()),
    ] {
        let mut socket = subscribed(server);
        socket.send(&bytes);
        assert_eq!(socket.end(), expected, "{what}");
    }

    // What is published is told as it is, or as the text it is.
    let mut published = Vec::new();
    for round in 0..rounds {
        let body = damaged(
            &mut dice,
            json!({"n": round, "of": [1, 2.5, null, "é"]}).to_string().as_bytes(),
        );
        assert_eq!(publish(server, &body), 200, "{body:?}");
        published.push(body);
    }
    for body in published {
        let Got::Frame(TEXT, told) = listener.next() else {
            panic!("it is told");
        };
        let told: Value = serde_json::from_slice(&told).expect("JSON");
        let text = String::from_utf8_lossy(&body);
        let expected = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
        assert_eq!(told["data"], expected, "{text}");
    }
    drop((listener, odd));
    scene.end();
}

//! Exports of spans.
//!
//! | what the server gets | what it answers |
//! |---|---|
//! | what is no protobuf, no JSON or no gzip, or is nested too deep | 400, as the sender writes |
//! | more than 8 MiB, as it comes or when it is no longer compressed | 413 |
//! | an encoding or a type that is not known | 415 |
//! | spans of no run, with ids of a wrong length, without what the server needs to know | 200, `partialSuccess` |

use std::io::Write as _;

use callboard::otlp::wire::ExportTraceServiceResponse;
use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;
use serde_json::json;

use super::mutation::{bytes, damaged, number};
use super::{Scene, dice};
use crate::support::http::{Request, Response};
use crate::support::server::Server;

const PATH: &str = "/v1/traces/userland";
const MEBIBYTE: usize = 1024 * 1024;
/// Spans of one run that are kept.
const KEPT: usize = 1_000;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("into memory");
    encoder.finish().expect("into memory")
}

fn attribute(key: &str, value: &str) -> Vec<u8> {
    bytes(9, [bytes(1, key), bytes(2, bytes(1, value))].concat())
}

/// An export of one span of a run.
fn export(run: &str) -> Vec<u8> {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let span = [
        bytes(1, [7; 16]),
        bytes(2, [9; 8]),
        bytes(5, "a span"),
        number(6, 1),
        attribute("sdk.run.id", run),
        attribute("inngest.traceref", &json!({"tp": trace, "ts": ""}).to_string()),
        attribute("inngest.step.attempt", "0"),
    ];
    let scope = [bytes(1, bytes(1, "library")), bytes(2, span.concat())].concat();
    bytes(
        1,
        [bytes(1, bytes(1, bytes(1, "service.name"))), bytes(2, scope)].concat(),
    )
}

fn send(server: &Server, content_type: &str, encoding: Option<&str>, body: &[u8]) -> Response {
    let mut request = Request::new("POST", PATH)
        .header("content-type", content_type)
        .body(body);
    if let Some(encoding) = encoding {
        request = request.header("content-encoding", encoding);
    }
    request.send(server.address())
}

#[test]
fn exports_that_make_no_sense_are_refused_and_those_that_swell_are_not_swallowed() {
    const PROTOBUF: &str = "application/x-protobuf";
    const JSON: &str = "application/json";
    let scene = Scene::set();
    let server = &scene.server;
    let run = scene.work();
    let whole = export(&run);
    let answer = send(server, PROTOBUF, None, &whole).expect(200);
    let taken = ExportTraceServiceResponse::decode(answer.body.as_slice()).expect("protobuf");
    assert_eq!(taken.partial_success, None);

    let bomb = gzip(&vec![0; 8 * MEBIBYTE + 1]);
    let large_bomb = gzip(&vec![b' '; 300 * MEBIBYTE]);
    let nested = format!("{}1{}", r#"{"arrayValue":{"values":["#.repeat(500), "]}}".repeat(500));
    let nested_json =
        format!(r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"a","value":{nested}}}]}}}}]}}"#);
    let deep = (0..500).fold(bytes(1, "x"), |value, _| bytes(5, bytes(1, value)));
    let deep = bytes(1, bytes(1, bytes(1, [bytes(1, "a"), bytes(2, deep)].concat())));
    for (what, content_type, encoding, body, status) in [
        ("noise", PROTOBUF, None, vec![0xff; 100], 400),
        ("protobuf as JSON", JSON, None, whole.clone(), 400),
        (
            "JSON as protobuf",
            PROTOBUF,
            None,
            br#"{"resourceSpans":[]}"#.to_vec(),
            400,
        ),
        ("half an export", PROTOBUF, None, whole[..whole.len() / 2].to_vec(), 400),
        ("nested protobuf", PROTOBUF, None, deep, 400),
        ("nested JSON", JSON, None, nested_json.into_bytes(), 400),
        ("no gzip", PROTOBUF, Some("gzip"), whole.clone(), 400),
        ("half of gzip", PROTOBUF, Some("gzip"), gzip(&whole)[..20].to_vec(), 400),
        ("a bomb", PROTOBUF, Some("gzip"), bomb, 413),
        ("a large bomb", JSON, Some("gzip"), large_bomb, 413),
        ("too much", PROTOBUF, None, vec![0; 8 * MEBIBYTE + 1], 413),
        ("another encoding", PROTOBUF, Some("br"), whole.clone(), 415),
        ("two encodings", PROTOBUF, Some("gzip, gzip"), gzip(&gzip(&whole)), 415),
        ("another type", "text/plain", None, whole.clone(), 415),
        ("nothing", PROTOBUF, None, Vec::new(), 200),
        ("compressed", PROTOBUF, Some("gzip"), gzip(&whole), 200),
    ] {
        let answer = send(server, content_type, encoding, &body);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        let expected = if content_type == PROTOBUF { PROTOBUF } else { JSON };
        assert_eq!(
            answer.header("content-type"),
            Some(expected),
            "{what}: as the sender writes"
        );
    }

    let (mut dice, rounds) = dice("exports", 300);
    let mut outcomes = [0; 2];
    for round in 0..rounds {
        let sent = damaged(&mut dice, &whole);
        let is_compressed = dice.between(0, 3) == 0;
        let answer = if is_compressed {
            send(server, PROTOBUF, Some("gzip"), &damaged(&mut dice, &gzip(&sent)))
        } else {
            send(server, PROTOBUF, None, &sent)
        };
        match answer.status {
            200 => outcomes[0] += 1,
            400 => outcomes[1] += 1,
            other => panic!("round {round}: {other} {} after {sent:?}", answer.text()),
        }
    }
    println!("fuzzing exports: {outcomes:?} understood, refused");
    let kept = server.get(&format!("/api/v1/runs/{run}/spans")).expect(200).json();
    let kept = kept["spans"].as_array().expect("a list").len();
    assert!((1..=KEPT).contains(&kept), "{kept}");
    scene.end();
}

//! The client against servers that behave, and against sockets that don't; `guarding` against those it must not ask.

mod guarding;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::{HttpRequest, HttpResponse, web};
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::sdk::testing::{Server, answer, listen, read_request};

const DEADLINE: Duration = Duration::from_secs(20);

fn transport() -> Transport {
    Transport::new(Duration::from_secs(5), 16)
}

fn bounds() -> Bounds {
    Bounds {
        timeout: DEADLINE,
        body: 1000,
        redirects: Redirects::Repeat,
    }
}

fn post(url: &str) -> Outgoing {
    Outgoing {
        method: Method::POST,
        url: Url::parse(url).expect("a URL"),
        headers: vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            (headers::SIGNATURE.to_owned(), "t=1&s=2".to_owned()),
        ],
        body: Some(Bytes::from_static(b"{\"a\":1}")),
    }
}

/// Says what it was asked.
async fn echo(request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let signature = request.headers().get(headers::SIGNATURE).is_some();
    let length = request
        .headers()
        .get("content-length")
        .map(|value| value.to_str().unwrap_or("?").to_owned());
    HttpResponse::Ok().json(serde_json::json!({
        "method": request.method().as_str(), "query": request.query_string(), "signed": signature,
        "length": length, "body": String::from_utf8_lossy(&body),
    }))
}

fn json(answer: &Incoming) -> serde_json::Value {
    serde_json::from_slice(&answer.body).expect("JSON")
}

fn redirects(config: &mut web::ServiceConfig) {
    config
        .route(
            "/{status}/to",
            web::to(
                |path: web::Path<u16>, query: web::Query<Vec<(String, String)>>| async move {
                    let to = query
                        .iter()
                        .find(|(name, _)| name == "to")
                        .map_or("/echo", |(_, to)| to.as_str());
                    let status = actix_web::http::StatusCode::from_u16(*path).expect("a status");
                    HttpResponse::build(status)
                        .insert_header(("location", to.to_owned()))
                        .finish()
                },
            ),
        )
        .route(
            "/loop",
            web::to(|| async { HttpResponse::Found().insert_header(("location", "/loop")).finish() }),
        )
        .route(
            "/lost",
            web::to(|| async { HttpResponse::Found().insert_header(("location", "mailto:x")).finish() }),
        )
        .route(
            "/nowhere",
            web::to(|| async { HttpResponse::Found().body("no location") }),
        )
        .route("/echo", web::to(echo));
}

#[rstest]
#[actix_web::test]
async fn redirects_repeat_the_request(#[values(301, 302, 303, 307, 308)] status: u16) {
    let server = Server::start(redirects);
    let answer = transport()
        .exchange(post(&server.url(&format!("/{status}/to?fnId=x"))), bounds())
        .await
        .expect("an answer");
    let seen = json(&answer);
    assert_eq!(
        seen,
        serde_json::json!({"method": "POST", "query": "fnId=x", "signed": true, "length": "7", "body": "{\"a\":1}"})
    );
    assert_eq!(answer.url.as_str(), server.url("/echo?fnId=x"));
}

#[actix_web::test]
async fn a_signature_stays_with_its_host() {
    let server = Server::start(redirects);
    let other = Server::start(redirects);
    let url = server.url(&format!("/307/to?to={}", other.url("/echo?own=1")));
    let seen = json(&transport().exchange(post(&url), bounds()).await.expect("an answer"));
    assert_eq!(seen["signed"], serde_json::json!(false));
    assert_eq!(seen["query"], serde_json::json!("own=1"));
    assert_eq!(seen["body"], serde_json::json!("{\"a\":1}"));
}

#[actix_web::test]
async fn browsers_turn_a_post_into_a_get() {
    let server = Server::start(redirects);
    let bounds = Bounds {
        redirects: Redirects::Browser,
        ..bounds()
    };
    let seen = json(
        &transport()
            .exchange(post(&server.url("/302/to")), bounds)
            .await
            .expect("an answer"),
    );
    assert_eq!(
        (&seen["method"], &seen["body"]),
        (&serde_json::json!("GET"), &serde_json::json!(""))
    );
    let kept = json(
        &transport()
            .exchange(post(&server.url("/307/to")), bounds)
            .await
            .expect("an answer"),
    );
    assert_eq!(kept["method"], serde_json::json!("POST"));
}

#[rstest]
#[case("/loop", "more than 10 redirects")]
#[case("/lost", "redirected to `mailto:x`")]
#[actix_web::test]
async fn redirects_that_lead_nowhere(#[case] path: &str, #[case] message: &str) {
    let server = Server::start(redirects);
    let error = transport()
        .exchange(post(&server.url(path)), bounds())
        .await
        .expect_err("no answer");
    assert!(error.to_string().contains(message), "{error}");
}

#[actix_web::test]
async fn a_redirect_without_a_location_is_an_answer() {
    let server = Server::start(redirects);
    let answer = transport()
        .exchange(post(&server.url("/nowhere")), bounds())
        .await
        .expect("an answer");
    assert_eq!(answer.status, 302);
}

/// What a raw socket answers, and how the client takes it.
async fn against(bytes: Vec<u8>) -> Result<Incoming, TransportError> {
    let (listener, url) = listen().await;
    let serving = actix_rt::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        answer(&mut stream, &bytes).await;
    });
    let outcome = transport().exchange(post(&url), bounds()).await;
    serving.await.expect("served");
    outcome
}

fn message(head: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = head.replace('\n', "\r\n").into_bytes();
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes.extend_from_slice(body);
    bytes
}

#[rstest]
#[case::nothing(b"".to_vec())]
#[case::half_a_head(b"HTTP/1.1 200 OK\r\nContent-".to_vec())]
#[case::short(message("HTTP/1.1 200 OK\nContent-Length: 10", b"12345"))]
#[case::short_without_a_byte(message("HTTP/1.1 200 OK\nContent-Length: 10", b""))]
#[case::chunks_without_an_end(message("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"5\r\n12345\r\n"))]
#[case::half_a_chunk(message("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"5\r\n123"))]
#[actix_web::test]
async fn an_answer_that_ends_early_is_an_error(#[case] bytes: Vec<u8>) {
    let error = against(bytes).await.expect_err("no complete answer");
    assert!(matches!(error, TransportError::Reset), "{error:?}");
    assert_eq!(
        error.to_string(),
        "Your server reset the connection while we were reading the reply"
    );
}

#[rstest]
#[case::by_length(message("HTTP/1.1 200 OK\nContent-Length: 5", b"12345"))]
#[case::by_chunks(message("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"2\r\n12\r\n3\r\n345\r\n0\r\n\r\n"))]
#[case::by_the_end(message("HTTP/1.0 200 OK", b"12345"))]
#[actix_web::test]
async fn an_answer_that_ends_in_time_is_complete(#[case] bytes: Vec<u8>) {
    assert_eq!(against(bytes).await.expect("an answer").body, "12345");
}

/// A proxy may omit what awc needs: rather no result than an empty one.
#[actix_web::test]
async fn a_body_that_can_not_be_read_is_not_an_empty_one() {
    let error = against(message("HTTP/1.1 200 OK\nConnection: close", b"12345"))
        .await
        .expect_err("unreadable");
    assert!(error.to_string().contains("Content-Length"), "{error}");
    let refused = against(message("HTTP/1.1 502 Bad Gateway\nConnection: close", b"12345")).await;
    assert_eq!(refused.expect("an answer").status, 502);
}

#[actix_web::test]
async fn not_http() {
    let error = against(b"220 smtp.example.org ESMTP\r\n\r\n".to_vec())
        .await
        .expect_err("no HTTP");
    assert!(matches!(error, TransportError::Protocol(_)), "{error:?}");
}

#[rstest]
#[case::announced(message("HTTP/1.1 418 X\nContent-Length: 1001", b""))]
#[case::unannounced(message("HTTP/1.0 418 X", &[b'x'; 1001]))]
#[actix_web::test]
async fn large_bodies_are_not_read(#[case] bytes: Vec<u8>) {
    let error = against(bytes).await.expect_err("too large");
    assert!(
        matches!(
            error,
            TransportError::TooLarge {
                status: 418,
                limit: 1000
            }
        ),
        "{error:?}"
    );
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

#[rstest]
#[case("gzip", gzip(b"12345"), Ok("12345"))]
#[case("GZIP", gzip(b"12345"), Ok("12345"))]
#[case("identity", b"12345".to_vec(), Ok("12345"))]
#[case("zstd", b"12345".to_vec(), Err("zstd"))]
#[case("gzip, br", b"12345".to_vec(), Err("gzip, br"))]
#[case("gzip", b"no gzip at all".to_vec(), Err("encoding"))]
#[actix_web::test]
async fn encodings(#[case] name: &str, #[case] body: Vec<u8>, #[case] expected: Result<&str, &str>) {
    let head = format!(
        "HTTP/1.1 200 OK\nContent-Encoding: {name}\nContent-Length: {}",
        body.len()
    );
    match (against(message(&head, &body)).await, expected) {
        (Ok(answer), Ok(text)) => assert_eq!(answer.body, text),
        (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
        (outcome, _) => panic!("{outcome:?}"),
    }
}

/// A small answer may unpack to a large one.
#[actix_web::test]
async fn the_limit_counts_decoded_bytes() {
    let body = gzip(&vec![b'x'; 100_000]);
    assert!(body.len() < 1000);
    let head = format!(
        "HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: {}",
        body.len()
    );
    let error = against(message(&head, &body)).await.expect_err("too large");
    assert!(matches!(error, TransportError::TooLarge { .. }), "{error:?}");
}

#[actix_web::test]
async fn nobody_listens() {
    let (listener, url) = listen().await;
    drop(listener);
    let error = transport().exchange(post(&url), bounds()).await.expect_err("refused");
    assert!(matches!(error, TransportError::Refused(_)), "{error:?}");
    assert!(error.to_string().contains(url.trim_end_matches('/')), "{error}");
}

#[actix_web::test]
async fn an_unknown_host() {
    // Not a possible name, so no resolver has to be waited for.
    let error = transport()
        .exchange(post("http://a..b/"), bounds())
        .await
        .expect_err("unknown");
    assert!(matches!(error, TransportError::Dns(_)), "{error:?}");
}

#[actix_web::test]
async fn literal_addresses_need_no_resolver() {
    let error = transport()
        .exchange(post("http://[::1]:1/"), bounds())
        .await
        .expect_err("nobody there");
    // Refused, or without IPv6 on this machine.
    assert!(
        matches!(error, TransportError::Refused(_) | TransportError::Unreachable(..)),
        "{error:?}"
    );
}

#[actix_web::test]
async fn tls_with_someone_who_speaks_none() {
    let (listener, url) = listen().await;
    let serving = actix_rt::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("writable");
        stream
    });
    let url = url.replace("http:", "https:");
    let error = transport().exchange(post(&url), bounds()).await.expect_err("no TLS");
    assert!(matches!(error, TransportError::Tls(..)), "{error:?}");
    drop(serving.await);
}

/// The server never answers, so only the client's own deadline can end this.
#[actix_web::test]
async fn silence_ends_at_the_deadline() {
    let (listener, url) = listen().await;
    let serving = actix_rt::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        read_request(&mut stream).await;
        std::future::pending::<()>().await;
    });
    let timeout = Duration::from_millis(100);
    let error = transport()
        .exchange(post(&url), Bounds { timeout, ..bounds() })
        .await
        .expect_err("late");
    assert!(
        matches!(error, TransportError::Timeout(after) if after == timeout),
        "{error:?}"
    );
    serving.abort();
}

const KEPT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Counts connections; on each it answers once, and then closes.
#[actix_web::test]
async fn a_connection_closed_by_the_app_is_not_used_again() {
    let (listener, url) = listen().await;
    let serving = actix_rt::spawn(async move {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            answer(&mut stream, KEPT).await;
        }
    });
    let transport = transport();
    for _ in 0..3 {
        // Each is closed right after its answer, before this task gets to read it: using it again would fail.
        let answer = transport.exchange(post(&url), bounds()).await.expect("an answer");
        assert_eq!(answer.body, "ok");
    }
    serving.await.expect("served three");
}

#[actix_web::test]
async fn connections_are_kept() {
    let connections = Arc::new(AtomicUsize::new(0));
    let (listener, url) = listen().await;
    let counter = Arc::clone(&connections);
    let serving = actix_rt::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            counter.fetch_add(1, Ordering::SeqCst);
            for _ in 0..3 {
                answer(&mut stream, KEPT).await;
            }
        }
    });
    let transport = transport();
    for _ in 0..3 {
        transport.exchange(post(&url), bounds()).await.expect("an answer");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    serving.abort();
}

/// The request was read completely, so the app may have acted on it: an attempt is an attempt.
#[actix_web::test]
async fn a_request_that_arrived_is_not_sent_again() {
    let arrived = Arc::new(AtomicUsize::new(0));
    let (listener, url) = listen().await;
    let counter = Arc::clone(&arrived);
    let serving = actix_rt::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        answer(&mut stream, KEPT).await;
        read_request(&mut stream).await;
        counter.fetch_add(1, Ordering::SeqCst);
        drop(stream);
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            answer(&mut stream, KEPT).await;
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let transport = transport();
    transport.exchange(post(&url), bounds()).await.expect("an answer");
    let error = transport.exchange(post(&url), bounds()).await.expect_err("reset");
    assert!(matches!(error, TransportError::Reset), "{error:?}");
    assert_eq!(arrived.load(Ordering::SeqCst), 1);
    serving.abort();
}

/// Larger than what the sockets between us can hold.
fn large(url: &str) -> Outgoing {
    Outgoing {
        body: Some(Bytes::from(vec![b'x'; 64 * 1024 * 1024])),
        ..post(url)
    }
}

/// The app closed the kept connection while the request was on its way: it can't have acted on half a body.
#[actix_web::test]
async fn a_request_that_did_not_fit_a_closing_connection_is_sent_on_another() {
    let (listener, url) = listen().await;
    let serving = actix_rt::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        answer(&mut stream, KEPT).await;
        stream.readable().await.expect("the next request begins");
        drop(stream);
        let (mut stream, _) = listener.accept().await.expect("another connection");
        skip_large(&mut stream).await;
        stream.write_all(KEPT).await.expect("writable");
    });
    let transport = transport();
    transport.exchange(post(&url), bounds()).await.expect("an answer");
    let answer = transport.exchange(large(&url), bounds()).await.expect("an answer");
    assert_eq!(answer.body, "ok");
    serving.await.expect("served");
}

#[actix_web::test]
async fn a_new_connection_that_breaks_is_a_failure() {
    let (listener, url) = listen().await;
    let serving = actix_rt::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.readable().await.expect("the request begins");
        drop(stream);
    });
    let error = transport().exchange(large(&url), bounds()).await.expect_err("broken");
    assert!(matches!(error, TransportError::Unsent), "{error:?}");
    serving.await.expect("served");
}

/// Reads a request of [`large`] without keeping it.
async fn skip_large(stream: &mut tokio::net::TcpStream) {
    let mut chunk = vec![0; 1024 * 1024];
    let mut read = 0;
    while read < 64 * 1024 * 1024 {
        read += stream.read(&mut chunk).await.expect("readable");
    }
}

#[rstest]
#[case("http://h/a", "http://h/b", true)]
#[case("http://h/a", "https://h/b", true)]
#[case("https://h/a", "http://h/b", false)]
#[case("http://h/a", "http://h:81/b", false)]
#[case("https://h/a", "https://www.h/b", false)]
fn who_may_know_us(#[case] from: &str, #[case] to: &str, #[case] may: bool) {
    let url = |text| Url::parse(text).expect("a URL");
    assert_eq!(may_know_us(&url(from), &url(to)), may);
}

//! `/e/{key}`: what comes in, what does not, and what the sender is told.

use actix_web::test::TestRequest;
use callboard_actors::domain::EventIdSeed;
use callboard_actors::orchestrator::Refusal;
use rstest::rstest;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::fake::{Server, options};
use crate::http::Intake;

const SEED: &str = "1750000000000,AAAAAAAAAAAAAA==";

#[actix_web::test]
async fn an_array_gets_one_id_each_in_its_order() {
    let server = Server::start().await;
    let answer = server
        .post("/e/any", r#" [{"name":"a","data":{"n":1}},{"name":"b","id":"mine"}]"#)
        .await;
    assert_eq!(answer.status, 200);
    let accepted = server.world.with(|world| std::mem::take(&mut world.accepted));
    let names: Vec<&str> = accepted.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let ids: Vec<String> = accepted.iter().map(|event| event.id.to_string()).collect();
    assert_eq!(answer.json(), json!({"ids": ids, "status": 200}));
    assert_eq!(accepted[1].external_id, "mine");
    assert_eq!(answer.header("x-inngest-server-kind"), Some("dev"));
}

#[actix_web::test]
async fn one_object_is_one_event_whatever_the_content_type() {
    let server = Server::start().await;
    let request = TestRequest::post()
        .uri("/e/any")
        .insert_header(("content-type", "application/x-www-form-urlencoded"))
        .set_payload(r#"{"name":"a"}"#);
    assert_eq!(server.call(request).await.status, 200);
    assert_eq!(server.world.with(|world| world.accepted.len()), 1);
}

#[actix_web::test]
async fn nothing_is_nothing() {
    let server = Server::start().await;
    let answer = server.post("/e/any", "[]").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (200, json!({"ids": [], "status": 200}))
    );
}

#[actix_web::test]
async fn the_seed_makes_a_retry_harmless() {
    let server = Server::start().await;
    let body = r#"[{"name":"a"},{"name":"b"}]"#;
    let request = || {
        TestRequest::post()
            .uri("/e/any")
            .insert_header(("x-inngest-event-id-seed", SEED))
            .set_payload(body)
    };
    let (one, two) = (server.call(request()).await.json(), server.call(request()).await.json());
    let seed = EventIdSeed::parse(SEED).expect("a seed");
    assert_eq!(one["ids"], json!([seed.event_id(1), seed.event_id(2)]));
    assert_eq!(one, two);
}

#[actix_web::test]
async fn events_before_a_bad_one_are_accepted() {
    let server = Server::start().await;
    let answer = server
        .post("/e/any", r#"[{"name":"a"},{"name":""},{"name":"c"}]"#)
        .await;
    assert_eq!(answer.status, 400);
    let body = answer.json();
    assert_eq!(body["ids"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&body["status"], &body["error"], &body["code"]),
        (&json!(400), &json!("event name is empty"), &json!("CB-1102"))
    );
    assert_eq!(server.world.with(|world| world.accepted.len()), 1);
}

#[rstest]
#[case("", 400, "CB-1101")]
#[case("  ", 400, "CB-1101")]
#[case("null", 400, "CB-1101")]
#[case("\"text\"", 400, "CB-1101")]
#[case("name=a&data=b", 400, "CB-1101")]
#[case("{", 400, "CB-1001")]
#[case("[{\"name\":\"a\"}", 400, "CB-1001")]
#[case("[{\"name\":\"a\"}]x", 400, "CB-1001")]
#[case("[1]", 400, "CB-1001")]
#[case("[null]", 400, "CB-1001")]
#[case("[[\"a\"]]", 400, "CB-1001")]
#[case("{\"name\":5}", 400, "CB-1001")]
#[case("{\"name\":\"a\",\"data\":1e400}", 400, "CB-1001")]
#[case("{\"name\":\"inngest/x\"}", 400, "CB-1102")]
#[case("{\"name\":\"a\",\"ts\":5}", 400, "CB-1102")]
#[case("{\"data\":{}}", 400, "CB-1102")]
#[actix_web::test]
async fn refuses(#[case] body: &'static str, #[case] status: u16, #[case] code: &str) {
    let answer = Server::start().await.post("/e/any", body).await;
    let said = answer.json();
    assert_eq!(
        (answer.status.as_u16(), said["code"].as_str()),
        (status, Some(code)),
        "{said}"
    );
    assert_eq!(said["status"], status);
    assert!(said["ids"].is_array() && said["error"].is_string(), "{said}");
}

#[actix_web::test]
async fn refuses_bytes_that_are_no_text_and_depth_without_end() {
    let server = Server::start().await;
    let answer = server.post("/e/any", &b"{\"name\":\"\xff\"}"[..]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].clone()),
        (400, json!("CB-1002"))
    );
    let deep = format!("{{\"name\":\"a\",\"data\":{}", "{\"a\":".repeat(50_000));
    let answer = server.post("/e/any", deep).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].clone()),
        (400, json!("CB-1003"))
    );
}

#[actix_web::test]
async fn takes_5000_events_and_not_one_more() {
    let server = Server::start().await;
    let body = |count: usize| format!("[{}]", vec![r#"{"name":"a"}"#; count].join(","));
    let answer = server.post("/e/any", body(5_000)).await;
    assert_eq!(answer.json()["ids"].as_array().map(Vec::len), Some(5_000));
    let answer = server.post("/e/any", body(5_001)).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json(),
        json!({"ids": [], "status": 400, "error": "Cannot have more than 5000 events in a batch", "code": "CB-1103"})
    );
    assert_eq!(server.world.with(|world| world.accepted.len()), 5_000);
}

#[actix_web::test]
async fn a_large_body_is_read_on_another_thread_to_the_same_end() {
    let server = Server::start().await;
    let body = json!([{"name": "a", "data": {"x": "y".repeat(200_000)}}, {"name": "b"}]);
    let answer = server.post("/e/any", body.to_string()).await;
    assert_eq!(answer.json()["ids"].as_array().map(Vec::len), Some(2));
}

#[actix_web::test]
async fn a_body_beyond_the_limit_is_refused_announced_or_not() {
    let server = Server::start().await;
    let answer = server.post("/e/any", vec![b' '; 1024 * 1024 + 1]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].clone()),
        (413, json!("CB-1004"))
    );
    let announced = TestRequest::post()
        .uri("/e/any")
        .set_payload("[]")
        .insert_header(("content-length", "99999999"));
    assert_eq!(server.call(announced).await.status, 413);
}

#[actix_web::test]
async fn a_compressed_body_is_refused() {
    let server = Server::start().await;
    let request = TestRequest::post()
        .uri("/e/any")
        .insert_header(("content-encoding", "gzip"))
        .set_payload("x");
    assert_eq!(server.call(request).await.json()["code"], "CB-1006");
}

#[actix_web::test]
async fn without_room_the_sender_is_told_to_come_back() {
    let mut options = options();
    options.intake = Intake::new(1, 1_000_000);
    let server = Server::with(options).await;
    let answer = server.post("/e/any", r#"[{"name":"a"},{"name":"b"}]"#).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.json()["ids"], json!([]));
    assert_eq!(
        server.post("/e/any", r#"[{"name":"a"}]"#).await.status,
        200,
        "permits come back"
    );
}

#[actix_web::test]
async fn bytes_need_room_too_and_give_it_back() {
    let mut options = options();
    options.intake = Intake::new(100, 64);
    let intake = options.intake.clone();
    let server = Server::with(options).await;
    let large = json!({"name": "a", "data": {"x": "y".repeat(64)}});
    let answer = server.post("/e/any", large.to_string()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].clone()),
        (503, json!("CB-2001"))
    );
    assert_eq!(server.post("/e/any", r#"{"name":"a"}"#).await.status, 200);
    assert_eq!((intake.load().events.used, intake.load().bytes.used), (0, 0));
}

#[actix_web::test]
async fn overload_within_is_told_the_same_way() {
    let server = Server::start().await;
    server.world.with(|world| world.refusal = Some(Refusal::Overloaded));
    let answer = server.post("/e/any", r#"{"name":"a"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.json()["code"], "CB-2001");
}

#[rstest]
#[case("one", 200, None)]
#[case("two", 200, None)]
#[case("three", 401, Some("Event key not found"))]
#[case("", 401, Some("Event key is required"))]
#[actix_web::test]
async fn with_keys_only_those_will_do(#[case] key: &str, #[case] status: u16, #[case] error: Option<&str>) {
    let mut options = options();
    options.event_keys = ["one", "two"].map(SecretString::from).to_vec();
    let server = Server::with(options).await;
    let answer = server.post(&format!("/e/{key}"), r#"{"name":"a"}"#).await;
    assert_eq!(answer.status, status);
    assert_eq!(answer.json().get("error").and_then(Value::as_str), error);
}

#[actix_web::test]
async fn where_keys_are_required_and_missing_nothing_comes_in() {
    let mut options = options();
    options.require_event_keys = true;
    let answer = Server::with(options).await.post("/e/any", r#"{"name":"a"}"#).await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json()["error"],
        "Event keys are required to process events securely"
    );
}

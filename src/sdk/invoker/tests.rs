//! Whole calls over real sockets.

use actix_web::{HttpRequest, HttpResponse, web};
use callboard_actors::domain::{FunctionId, GatewayOptions, Json, RunId, Target, Timestamp};
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::sdk::testing::Server;

fn call(url: String) -> Call {
    Call {
        url,
        endpoint: None,
        run: RunId::new(Timestamp::from_millis(1_750_000_000_000), 7),
        function: FunctionId::derive("shop", "shop-ship"),
        app: "shop".into(),
        target: Target::Discovery,
        ticket: "1.0.01JZ0000000000000000000009.start".parse().expect("a ticket"),
        may_report: true,
        attempt: 0,
        max_attempts: 5,
        request_version: -1,
        plan_only: false,
        stack: Vec::new(),
        stack_current: 0,
        events: Arc::from([Json::parse(r#"{"name":"a/b"}"#).expect("json")]),
        defers: Vec::new(),
        steps: Vec::new(),
    }
}

fn invoker() -> Rc<dyn Invoker> {
    HttpInvokerFactory::new(Settings {
        key: Some(Arc::new(SigningKey::parse("signkey-test-12345678").expect("key"))),
        ..Settings::default()
    })
    .build()
}

/// An app that answers as the path says, if the call is signed.
async fn app(request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let key = SigningKey::parse("12345678").expect("key");
    let signature = request
        .headers()
        .get("x-inngest-signature")
        .and_then(|value| value.to_str().ok());
    if key.verify(signature.unwrap_or_default(), &body, now_seconds()).is_err() {
        return HttpResponse::Unauthorized().finish();
    }
    let mut answer = match request.path() {
        "/steps" => HttpResponse::PartialContent(),
        "/stream" => HttpResponse::Created(),
        "/gone" => HttpResponse::Gone(),
        _ => HttpResponse::Ok(),
    };
    answer
        .insert_header(("X-Inngest-SDK", "inngest-js:v4.18.1"))
        .insert_header(("X-Inngest-Req-Version", "2"));
    match request.path() {
        "/steps" => answer.body(r#"[{"op":"StepPlanned","id":"a"}]"#),
        "/stream" => answer.body(r#"   {"status":200,"headers":{},"body":"{\"a\":1}"}"#),
        "/large" => answer.body(vec![b' '; limits::REPLY_BYTES + 1]),
        "/gone" => answer.body(r#"{"message":"no such function"}"#),
        _ => answer.body(body),
    }
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .app_data(web::PayloadConfig::new(16 * 1024 * 1024))
        .default_service(web::to(app));
}

#[actix_web::test]
async fn a_call_comes_back_as_a_reply() {
    let server = Server::start(routes);
    let invoker = invoker();
    match invoker.call(call(server.url("/echo?fnId=a"))).await {
        Reply::Returned(output) => {
            let body = output.to_tree();
            assert_eq!(body["event"], json!({"name": "a/b"}));
            assert_eq!(body["ctx"]["request_id"], json!("01JZ0000000000000000000009"));
        }
        other => panic!("{other:?}"),
    }
    let steps = invoker.call(call(server.url("/steps"))).await;
    assert!(
        matches!(&steps, Reply::Steps { ops, request_version: 2, .. } if ops.len() == 1),
        "{steps:?}"
    );
    let streamed = invoker.call(call(server.url("/stream"))).await;
    assert_eq!(streamed, Reply::Returned(Json::parse(r#"{"a":1}"#).expect("json")));
}

#[rstest]
#[case("/large", "output_too_large", "exceeds the maximum size limit", Some(200))]
#[case("/gone", "Error", "no such function", Some(410))]
#[actix_web::test]
async fn failures_that_are_answers(
    #[case] path: &str,
    #[case] name: &str,
    #[case] message: &str,
    #[case] expected: Option<u16>,
) {
    let server = Server::start(routes);
    match invoker().call(call(server.url(path))).await {
        Reply::Failed { failure, status, .. } => {
            assert_eq!((failure.name(), status), (name, expected));
            assert!(failure.message().contains(message), "{failure:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case("ws://localhost/")]
#[case("no url")]
#[actix_web::test]
async fn failures_without_an_answer(#[case] url: &str) {
    let reply = invoker().call(call(url.to_owned())).await;
    let expected = matches!(
        reply,
        Reply::Failed {
            status: None,
            no_retry: false,
            ..
        }
    );
    assert!(expected && !reply.is_outage(), "{reply:?}");
}

#[actix_web::test]
async fn nobody_there_is_an_outage() {
    let reply = invoker()
        .call(call("http://127.0.0.1:1/nobody/listens".to_owned()))
        .await;
    assert!(matches!(reply, Reply::Unanswered(_)) && reply.is_outage(), "{reply:?}");
}

fn fetch(url: String, ai: bool) -> FetchRequest {
    FetchRequest {
        options: GatewayOptions {
            url,
            body: Some(json!("text")),
            ..GatewayOptions::default()
        },
        ai,
        timeout: Duration::from_secs(20),
    }
}

#[actix_web::test]
async fn fetches_on_behalf_of_an_app() {
    let server = Server::start(|config: &mut web::ServiceConfig| {
        config.route(
            "/",
            web::to(|body: web::Bytes| async move { HttpResponse::ImATeapot().body(body) }),
        );
    });
    let invoker = invoker();
    let memo = invoker
        .fetch(fetch(server.url("/"), false))
        .await
        .expect("an answer")
        .memo
        .to_tree();
    assert_eq!(
        (
            &memo["data"]["status_code"],
            &memo["data"]["body"],
            &memo["data"]["url"]
        ),
        (&json!(418), &json!("text"), &json!(server.url("/")))
    );
    let refused = invoker
        .fetch(fetch(server.url("/"), true))
        .await
        .expect_err("no success");
    assert_eq!(refused.failure.name(), "AIGatewayError");
    let nobody = invoker
        .fetch(fetch("http://127.0.0.1:1/".to_owned(), false))
        .await
        .expect_err("nobody");
    assert_eq!(nobody.failure.name(), "GatewayError");
}

#[actix_web::test]
async fn internal_addresses_can_be_ruled_out() {
    let server = Server::start(routes);
    let invoker = HttpInvoker::new(Settings {
        allow: |url| url.host_str() != Some("127.0.0.1"),
        ..Settings::default()
    });
    let refused = invoker
        .fetch(fetch(server.url("/"), false))
        .await
        .expect_err("forbidden");
    assert!(refused.failure.message().contains("not allowed"), "{refused:?}");
}

//! Whole calls over real sockets.

use actix_web::{HttpRequest, HttpResponse, web};
use callboard_actors::domain::{FunctionId, GatewayOptions, Json, PublishTo, RunId, Target, Timestamp};
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::realtime::{Frame, Topic};
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

fn signing_key(text: &str) -> SigningKey {
    SigningKey::parse(text).expect("key")
}

fn invoker() -> Rc<dyn Invoker> {
    HttpInvokerFactory::new(Settings {
        keys: Some(Arc::new(signing_key("signkey-test-12345678").into())),
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
async fn answers_are_published_while_they_come() {
    let (sender, pieces) = tokio::sync::mpsc::unbounded_channel::<&'static str>();
    let pieces = Arc::new(std::sync::Mutex::new(Some(pieces)));
    let server = Server::start(move |config: &mut web::ServiceConfig| {
        let pieces = Arc::clone(&pieces);
        config.route(
            "/slow",
            web::to(move || {
                let mut pieces = pieces.lock().expect("a lock").take().expect("asked once");
                let body = futures_util::stream::poll_fn(move |cx| {
                    let piece = pieces.poll_recv(cx);
                    piece.map(|piece| {
                        piece.map(|piece| Ok::<_, std::io::Error>(web::Bytes::from_static(piece.as_bytes())))
                    })
                });
                async move {
                    HttpResponse::Ok()
                        .insert_header(("x-request-id", "r"))
                        .content_type("text/plain")
                        .streaming(body)
                }
            }),
        );
        config.route(
            "/moved",
            web::to(|| async {
                HttpResponse::Found()
                    .insert_header(("location", "/slow"))
                    .body("not this")
            }),
        );
    });
    let broadcaster = Broadcaster::default();
    let subscription = broadcaster.subscribe(vec![Topic::new("c", "t")]).await.expect("room");
    let invoker = HttpInvoker::new(Settings {
        broadcaster,
        ..Settings::default()
    });
    let mut request = fetch(server.url("/moved?key=secret"), false);
    request.options.publish = Some(PublishTo {
        channel: "c".to_owned(),
        topic: "t".to_owned(),
    });
    let fetching = actix_web::rt::spawn(async move { invoker.fetch(request).await });
    let next = || async {
        let next = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await;
        match next.expect("in time").expect("more") {
            Frame::Message(text) => serde_json::from_str::<Value>(&text).expect("JSON"),
            other => panic!("{other:?}"),
        }
    };
    sender.send("once ").expect("it is asked for");
    let start = next().await;
    assert_eq!(start["kind"], "datastream-start");
    let metadata = json!({"url": server.url("/slow"), "content-type": "text/plain", "request_id": "r"});
    assert_eq!(start["metadata"], metadata);
    let chunk = next().await;
    assert_eq!(
        (&chunk["kind"], &chunk["data"]),
        (&json!("chunk"), &json!("once ")),
        "before the rest has come"
    );
    sender.send("upon").expect("it is asked for");
    drop(sender);
    assert_eq!(next().await["data"], "upon");
    assert_eq!(next().await["kind"], "datastream-end");
    let memo = fetching.await.expect("it ends").expect("an answer").memo.to_tree();
    assert_eq!(memo["data"]["body"], "once upon");
}

/// The connection that a call leaves behind is kept, and would do for a fetch.
#[actix_web::test]
async fn a_guard_is_for_fetches_and_not_for_apps() {
    let server = Server::start(routes);
    let invoker = HttpInvoker::new(Settings {
        keys: Some(Arc::new(signing_key("12345678").into())),
        guard: Guard::closed([]),
        ..Settings::default()
    });
    let called = invoker.call(call(server.url("/echo"))).await;
    assert!(matches!(called, Reply::Returned(_)), "{called:?}");
    for ai in [false, true] {
        let refused = invoker.fetch(fetch(server.url("/"), ai)).await.expect_err("forbidden");
        assert!(refused.failure.message().contains("CB-2102"), "{refused:?}");
    }
}

/// Whoever is given the new key first: the app has the key `12345678` alone.
#[rstest]
#[case("0011", &["12345678"], true)]
#[case("12345678", &["0011"], true)]
#[case("0011", &["2233", "12345678"], true)]
#[case("0011", &["2233"], false)]
#[case("0011", &[], false)]
#[actix_web::test]
async fn an_app_that_has_another_key_is_asked_with_that(
    #[case] current: &str,
    #[case] fallbacks: &[&str],
    #[case] answers: bool,
) {
    let server = Server::start(routes);
    let fallbacks = fallbacks.iter().map(|key| signing_key(key)).collect();
    let invoker = HttpInvoker::new(Settings {
        keys: Some(Arc::new(Keys::new(signing_key(current), fallbacks))),
        ..Settings::default()
    });
    match invoker.call(call(server.url("/echo"))).await {
        Reply::Returned(_) => assert!(answers),
        Reply::Failed { status: Some(401), .. } => assert!(!answers),
        other => panic!("{other:?}"),
    }
}

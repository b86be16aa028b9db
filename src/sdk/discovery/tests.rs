//! Finding apps that are there, and being told why one does not register.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use actix_web::{HttpRequest, HttpResponse, web};
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::sdk::testing::{Server, fixture, listen};

fn transport() -> Transport {
    Transport::new(Duration::from_secs(5), 16)
}

fn client() -> SyncClient {
    let key = SigningKey::parse("signkey-test-12345678").expect("key");
    SyncClient::new(transport(), Some(Arc::new(key.into())), ServerKind::Dev)
}

#[actix_web::test]
async fn the_request_to_register_is_what_sdks_expect() {
    let server = Server::start(|config: &mut web::ServiceConfig| {
        config.route(
            "/api/inngest",
            web::put().to(|request: HttpRequest, body: web::Bytes| async move {
                let key = SigningKey::parse("12345678").expect("key");
                let header = |name| {
                    request
                        .headers()
                        .get(name)
                        .and_then(|value| value.to_str().ok())
                        .unwrap_or_default()
                };
                let signed = key.verify(header(headers::SIGNATURE), &body, now_seconds()).is_ok();
                let right = signed
                    && header(headers::SERVER_KIND) == "dev"
                    && header("content-type") == "application/json"
                    && header("content-length") == body.len().to_string()
                    && serde_json::from_slice::<Value>(&body).is_ok_and(|body| body["url"].is_string());
                let mut answer = if right {
                    HttpResponse::Ok()
                } else {
                    HttpResponse::BadRequest()
                };
                answer
                    .insert_header((headers::SDK, "inngest-js:v4.18.1"))
                    .json(json!({"message": "wrong"}))
            }),
        );
    });
    assert_eq!(client().sync(&server.url("/api/inngest")).await, Ok(()));
}

#[rstest]
#[case(400, r#"{"message":"At least one function is invalid"}"#, Err(SyncError::Refused("At least one function is invalid".to_owned())))]
#[case(401, "{}", Err(SyncError::Unauthorized))]
#[case(403, "{}", Err(SyncError::Forbidden))]
#[case(404, "", Err(SyncError::UrlNotFound))]
#[case(500, r#"{"message":"oh"}"#, Err(SyncError::InternalServerError("oh".to_owned())))]
#[case(202, "", Ok(()))]
#[actix_web::test]
async fn answers_are_understood(
    #[case] status: u16,
    #[case] body: &'static str,
    #[case] expected: Result<(), SyncError>,
) {
    let server = Server::start(move |config: &mut web::ServiceConfig| {
        config.default_service(web::to(move || async move {
            let status = actix_web::http::StatusCode::from_u16(status).expect("a status");
            HttpResponse::build(status)
                .insert_header((headers::SDK, "x"))
                .body(body)
        }));
    });
    assert_eq!(client().sync(&server.url("/")).await, expected);
}

#[rstest]
#[case("ws://h/", "unsupported_protocol")]
#[case("http://127.0.0.1:1/", "unreachable")]
#[case("nonsense", "unreachable")]
#[actix_web::test]
async fn nobody_to_ask(#[case] url: &str, #[case] code: &str) {
    assert_eq!(client().sync(url).await.expect_err("nobody").code(), code);
}

#[actix_web::test]
async fn a_page_is_no_app() {
    let server = Server::start(|config: &mut web::ServiceConfig| {
        config.default_service(web::to(|| async { HttpResponse::Ok().body("<html>") }));
    });
    assert_eq!(client().sync(&server.url("/")).await, Err(SyncError::NotSdk));
}

#[rstest]
fn real_answers_to_a_look_are_recognised(
    #[values("ts4", "ts3", "python")] sdk: &str,
    #[values("inspect", "inspect-unauthorized")] name: &str,
) {
    let fixture = fixture(sdk, name);
    let mut headers = actix_web::http::header::HeaderMap::new();
    for (name, value) in fixture["headers"].as_object().expect("headers") {
        headers.insert(
            name.parse().expect("a name"),
            value.as_str().expect("text").parse().expect("a value"),
        );
    }
    assert!(is_sdk(&Incoming {
        status: 200,
        headers,
        url: Url::parse("http://h/").expect("a URL"),
        body: Bytes::new(),
    }));
}

/// An SDK that counts how often it is asked to register, and answers with a status that can be changed.
fn app(path: &'static str, asked: &Arc<AtomicUsize>, status: &Arc<AtomicU16>) -> Server {
    let (asked, status) = (Arc::clone(asked), Arc::clone(status));
    Server::start(move |config: &mut web::ServiceConfig| {
        let (asked, status) = (Arc::clone(&asked), Arc::clone(&status));
        config.route(
            path,
            web::to(move |request: HttpRequest| {
                let (asked, status) = (Arc::clone(&asked), Arc::clone(&status));
                async move {
                    if request.method() == Method::PUT {
                        asked.fetch_add(1, Ordering::SeqCst);
                    }
                    let status =
                        actix_web::http::StatusCode::from_u16(status.load(Ordering::SeqCst)).expect("a status");
                    HttpResponse::build(status)
                        .insert_header((headers::SDK, "x"))
                        .json(json!({"message": "ok"}))
                }
            }),
        );
    })
}

#[actix_web::test]
async fn a_scan_finds_apps_among_strangers_and_closed_ports() {
    let (asked, status) = (Arc::default(), Arc::new(AtomicU16::new(200)));
    let found = app("/x/inngest", &asked, &status);
    let page = Server::start(|config: &mut web::ServiceConfig| {
        config.default_service(web::to(|| async { HttpResponse::Ok().body("<html>") }));
    });
    let (closed, closed_url) = listen().await;
    drop(closed);
    let closed = Url::parse(&closed_url).expect("a URL").port().expect("a port");
    let scanner = Scanner::new(transport(), vec![closed, page.address.port(), found.address.port()]);
    let expected = [format!("http://localhost:{}/x/inngest", found.address.port())];
    assert_eq!(scanner.scan().await, expected);
    // The stranger is left alone now, the app is not.
    assert_eq!(scanner.scan().await, expected);
    assert_eq!(asked.load(Ordering::SeqCst), 0, "looking is not asking");
}

#[derive(Default)]
struct Noted {
    known: RefCell<Vec<String>>,
    notes: RefCell<Vec<(String, Option<&'static str>)>>,
}

#[async_trait::async_trait(?Send)]
impl Apps for Noted {
    fn known(&self) -> Vec<String> {
        self.known.borrow().clone()
    }

    async fn note(&self, url: &str, error: Option<&SyncError>) {
        self.notes
            .borrow_mut()
            .push((url.to_owned(), error.map(SyncError::code)));
    }
}

#[actix_web::test]
async fn the_poller_finds_asks_and_tells_changes_only() {
    let (asked, status) = (Arc::default(), Arc::new(AtomicU16::new(200)));
    let server = app("/api/inngest", &asked, &status);
    let url = format!("http://localhost:{}/api/inngest", server.address.port());
    let apps = Rc::new(Noted::default());
    let watch = Watch {
        urls: Vec::new(),
        ports: Some(vec![server.address.port()]),
        interval: Some(Duration::from_secs(5)),
    };
    let mut poller = Poller::new(client(), Rc::clone(&apps) as Rc<dyn Apps>, watch);
    assert!(poller.round().await, "found and registered");
    apps.known.borrow_mut().push(url.replace("localhost", "127.0.0.1"));
    assert!(!poller.round().await, "the same app, still well");
    status.store(500, Ordering::SeqCst);
    assert!(poller.round().await);
    assert!(!poller.round().await);
    status.store(200, Ordering::SeqCst);
    assert!(poller.round().await);
    let notes = apps.notes.borrow();
    assert_eq!(
        *notes,
        [
            (url.clone(), None),
            (url.clone(), Some("internal_server_error")),
            (url, None)
        ]
    );
    assert_eq!(asked.load(Ordering::SeqCst), 5, "once a round");
}

#[actix_web::test]
async fn given_urls_are_asked_without_looking() {
    let (asked, status) = (Arc::default(), Arc::new(AtomicU16::new(200)));
    let server = app("/own/path", &asked, &status);
    let apps = Rc::new(Noted::default());
    let watch = Watch {
        urls: vec![server.url("/own/path")],
        ports: None,
        interval: Some(Duration::from_secs(5)),
    };
    let mut poller = Poller::new(client(), Rc::clone(&apps) as Rc<dyn Apps>, watch);
    poller.round().await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    drop(server);
}

#[actix_web::test]
async fn without_an_interval_given_urls_are_asked_until_they_have_answered() {
    let (asked, status) = (Arc::default(), Arc::new(AtomicU16::new(200)));
    let server = app("/own/path", &asked, &status);
    let apps = Rc::new(Noted::default());
    // Registered, but not given: nobody asked for it to be polled.
    apps.known.borrow_mut().push("http://127.0.0.1:1/x".to_owned());
    let watch = Watch {
        urls: vec![server.url("/own/path")],
        ports: None,
        interval: None,
    };
    let poller = Poller::new(client(), Rc::clone(&apps) as Rc<dyn Apps>, watch);
    tokio::time::timeout(Duration::from_secs(30), poller.run())
        .await
        .expect("it ends once the app has answered");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(apps.notes.borrow().len(), 2);
}

#[test]
fn ports_are_distinct_and_sorted() {
    let ports = ports([3000, 1234]);
    assert!(ports.is_sorted() && ports.contains(&1234) && ports.contains(&8915));
    assert_eq!(ports.iter().filter(|port| **port == 3000).count(), 1);
}

//! A server in this process, and its answers; and one behind a socket.

use std::net::SocketAddr;
use std::sync::Arc;

use actix_http::Request;
use actix_web::body::BoxBody;
use actix_web::dev::{ServerHandle, Service, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::test::{self, TestRequest};
use actix_web::{App, Error, HttpServer, web};
use callboard_actors::breaker::Breakers;
use callboard_actors::metrics::Metrics;
use serde_json::Value;

use super::{FakeApi, Shared, breakers, options};
use crate::http::{AppState, Options, configure};

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: actix_web::http::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A server in this process.
pub(crate) struct Server {
    pub(crate) world: Shared,
    /// What its orchestrator counts.
    pub(crate) metrics: Metrics,
    /// Its circuit breakers.
    pub(crate) breakers: Breakers,
    service: Box<dyn Service<Request, Response = ServiceResponse<BoxBody>, Error = Error, Future = Pending>>,
}

type Pending = std::pin::Pin<Box<dyn Future<Output = Result<ServiceResponse<BoxBody>, Error>>>>;

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(options()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let world = Shared::default();
        let state = AppState::new(options);
        let api = FakeApi::new(&world);
        let (metrics, breakers) = (api.metrics.clone(), api.breakers.clone());
        state.ready(Arc::new(api));
        Self {
            metrics,
            breakers,
            ..Self::around(state, world).await
        }
    }

    pub(crate) async fn around(state: AppState, world: Shared) -> Self {
        let state = web::Data::new(state);
        let service = test::init_service(App::new().configure(|cfg| configure(cfg, state))).await;
        Self {
            world,
            metrics: Metrics::default(),
            breakers: breakers(),
            service: Box::new(Boxed(service)),
        }
    }

    pub(crate) async fn call(&self, request: TestRequest) -> Answer {
        let response = self
            .service
            .call(request.to_request())
            .await
            .expect("errors are answers");
        let (status, headers) = (response.status(), response.headers().clone());
        let body = test::read_body(response).await.to_vec();
        Answer { status, headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(TestRequest::get().uri(path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<web::Bytes>) -> Answer {
        let request = TestRequest::post()
            .uri(path)
            .insert_header(("content-type", "application/json"));
        self.call(request.set_payload(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<web::Bytes>) -> Answer {
        let request = TestRequest::put()
            .uri(path)
            .insert_header(("content-type", "application/json"));
        self.call(request.set_payload(body)).await
    }

    pub(crate) async fn method(&self, method: &str, path: &str) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        self.call(TestRequest::default().method(method).uri(path)).await
    }
}

struct Boxed<S>(S);

impl<S> Service<Request> for Boxed<S>
where
    S: Service<Request, Response = ServiceResponse<BoxBody>, Error = Error>,
    S::Future: 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Future = Pending;

    actix_web::dev::always_ready!();

    fn call(&self, request: Request) -> Pending {
        Box::pin(self.0.call(request))
    }
}

/// Serves on a free port, until the handle stops it.
pub(crate) fn listen(options: Options) -> (SocketAddr, ServerHandle, Shared) {
    let world = Shared::default();
    let state = AppState::new(options);
    state.ready(Arc::new(FakeApi::new(&world)));
    let state = web::Data::new(state);
    let server = HttpServer::new(move || {
        let state = state.clone();
        App::new().configure(|cfg| configure(cfg, state))
    });
    let server = server
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .expect("a free port");
    let address = server.addrs()[0];
    let running = server.run();
    let handle = running.handle();
    actix_web::rt::spawn(running);
    (address, handle, world)
}

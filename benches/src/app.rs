//! The app: answers calls as a classic TypeScript SDK without checkpointing would, and registers itself.
//!
//! Promises: one exchange costs one small parse and one small format; connections stay open.
//! Never: serves anything but loopback; never fails a step on purpose.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use actix_http::header::{self, HeaderName, HeaderValue};
use actix_http::{HttpService, KeepAlive, Method, Request, Response, StatusCode};
use actix_service::{Service, ServiceFactory};
use anyhow::{Context as _, bail};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::net::TcpListener;

use crate::ledger::{Ledger, Reply};
use crate::workload::{Workload, registration};

const SDK: HeaderValue = HeaderValue::from_static("inngest-js:v4.24.0");
const SDK_HEADER: HeaderName = HeaderName::from_static("x-inngest-sdk");
const SIGNATURE_HEADER: HeaderName = HeaderName::from_static("x-inngest-signature");
const VERSION_HEADER: HeaderName = HeaderName::from_static("x-inngest-req-version");

/// The parts of a call this app reads; the rest is skipped without being kept.
#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    ctx: CallContext<'a>,
    event: Event,
}

#[derive(Deserialize)]
struct CallContext<'a> {
    run_id: &'a str,
    attempt: u32,
    stack: Stack,
}

#[derive(Deserialize)]
struct Stack {
    stack: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct Event {
    data: EventData,
}

#[derive(Deserialize)]
struct EventData {
    n: usize,
}

/// A serving app. It stops with the thread's runtime.
#[derive(Debug)]
pub(crate) struct App {
    /// `http://127.0.0.1:<port>/api/inngest`
    pub(crate) url: String,
}

impl App {
    /// Starts serving on a free loopback port, on the current thread.
    pub(crate) async fn serve(ledger: Rc<RefCell<Ledger>>, sleep: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("no free loopback port for the bench app")?;
        let url = format!("http://127.0.0.1:{}/api/inngest", listener.local_addr()?.port());
        let service = HttpService::build()
            .keep_alive(KeepAlive::Timeout(Duration::from_secs(600)))
            .h1(move |request: Request| answer(request, Rc::clone(&ledger), sleep))
            .tcp();
        let service = service
            .new_service(())
            .await
            .map_err(|()| anyhow::anyhow!("the bench app's service did not start"))?;
        let service = Rc::new(service);
        actix_rt::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Without it small answers on a kept connection would wait for the peer's delayed ack.
                if stream.set_nodelay(true).is_err() {
                    continue;
                }
                let connection = service.call(stream);
                actix_rt::spawn(async move {
                    // A connection that breaks shows as an unfinished run.
                    let _ = connection.await;
                });
            }
        });
        Ok(Self { url })
    }

    /// Registers the app with the server, as an SDK does after a sync request.
    pub(crate) async fn register(&self, client: &awc::Client, server: &str, key: Option<&str>) -> anyhow::Result<()> {
        let target = format!("{server}/fn/register");
        let mut request = client.post(&target).insert_header((SDK_HEADER, SDK));
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let mut response = request
            .send_json(&registration(&self.url))
            .await
            .map_err(|error| anyhow::anyhow!("POST {target}: {error}"))?;
        if !response.status().is_success() {
            let body = response.body().await.unwrap_or_default();
            bail!(
                "POST {target} answered {}: {}",
                response.status(),
                String::from_utf8_lossy(&body)
            );
        }
        Ok(())
    }
}

async fn answer(
    mut request: Request,
    ledger: Rc<RefCell<Ledger>>,
    sleep: Duration,
) -> Result<Response<String>, Infallible> {
    match *request.method() {
        Method::POST => {}
        // Discovery and health checks of the server.
        Method::GET => {
            return Ok(reply(
                StatusCode::OK,
                r#"{"schema_version":"2024-05-24","function_count":6,"mode":"dev"}"#.to_owned(),
            ));
        }
        Method::PUT => {
            return Ok(reply(
                StatusCode::OK,
                r#"{"message":"Successfully registered","modified":false}"#.to_owned(),
            ));
        }
        _ => return Ok(reply(StatusCode::METHOD_NOT_ALLOWED, "null".to_owned())),
    }
    let mut body = BytesMut::new();
    let mut payload = request.take_payload();
    while let Some(chunk) = payload.next().await {
        match chunk {
            Ok(chunk) => body.extend_from_slice(&chunk),
            Err(_) => return Ok(reply(StatusCode::BAD_REQUEST, "null".to_owned())),
        }
    }
    let call = serde_json::from_slice::<Call<'_>>(&body);
    let (Some(workload), Ok(call)) = (request.uri().query().and_then(Workload::from_query), call) else {
        ledger.borrow_mut().unknown += 1;
        return Ok(reply(
            StatusCode::BAD_REQUEST,
            r#"{"message":"the bench app cannot read this call"}"#.to_owned(),
        ));
    };
    if !request.head().headers().contains_key(SIGNATURE_HEADER) {
        ledger.borrow_mut().unsigned += 1;
    }
    let decided = ledger.borrow_mut().call(
        call.event.data.n,
        call.ctx.run_id,
        call.ctx.attempt,
        call.ctx.stack.stack.len(),
    );
    if let Some(slowness) = workload.slowness() {
        actix_rt::time::sleep(slowness).await;
    }
    Ok(match decided {
        Reply::Step(index) => reply(StatusCode::PARTIAL_CONTENT, workload.operation(index, sleep)),
        Reply::Final => reply(StatusCode::OK, r#"{"done":true}"#.to_owned()),
        Reply::Unknown => reply(
            StatusCode::BAD_REQUEST,
            r#"{"message":"the bench app does not know this run"}"#.to_owned(),
        ),
    })
}

fn reply(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::with_body(status, body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(SDK_HEADER, SDK);
    headers.insert(VERSION_HEADER, HeaderValue::from_static("2"));
    response
}

//! Tells a collector of the user's what the server does: spans of runs, steps and calls, by OTLP over HTTP.
//!
//! Spans wait in a queue of a bounded length for one task that sends them, many at a time. What does not fit, and what the
//! collector does not take after a few tries, is lost and counted: no work ever waits for a collector. Which runs are told of is
//! decided by their traces' ids, so every instance decides alike, and a run is told of wholly or not at all.

use std::time::Duration;

use actix_web::http::Method;
use callboard_actors::domain::{RunId, RunStatus, SpanId, StepId, Timestamp, TraceId};
use callboard_actors::metrics::Metrics;
use callboard_actors::spans::{Of, Sink, Span};
use prost::Message as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::wire::{
    AnyValue, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans,
    Span as Wire, Status, Value,
};
use crate::sdk::USER_AGENT;
use crate::sdk::transport::{Bounds, Outgoing, Redirects, Transport};

/// Spans that wait to be sent.
const QUEUE: usize = 8_192;
/// Spans that are sent together, at the most.
const BATCH: usize = 512;
/// How long spans wait for others.
const GATHER: Duration = Duration::from_secs(1);
/// For one try.
const PATIENCE: Duration = Duration::from_secs(10);
/// Waits before further tries.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// How long the server waits, when it stops, for the spans that it still has.
const FAREWELL: Duration = Duration::from_secs(5);
/// Bytes of an answer that are looked at.
const ANSWER_BYTES: usize = 64 * 1024;

/// Where spans are sent, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// Of the collector, for traces.
    pub url: Url,
    /// As JSON, rather than protobuf.
    pub is_json: bool,
    /// What else is told with each request: credentials, most often.
    pub headers: Vec<(String, SecretString)>,
    /// Of a million runs, how many are told of.
    pub per_million: u32,
    /// What the server calls itself.
    pub service: String,
    /// This instance.
    pub node: String,
}

/// Takes spans.
#[derive(Debug)]
pub struct Exporter {
    queue: Sender<Span>,
    metrics: Metrics,
    per_million: u32,
}

impl Exporter {
    /// One for this target, the work of sending, to be begun on the thread that has the connections, and its end.
    #[must_use]
    pub fn new(target: Target, metrics: Metrics) -> (Self, Sending, Ending) {
        let (queue, spans) = channel(QUEUE);
        let (ask, asked) = oneshot::channel();
        let (done, is_done) = oneshot::channel();
        let exporter = Self {
            queue,
            metrics: metrics.clone(),
            per_million: target.per_million,
        };
        let sending = Sending {
            target,
            spans,
            metrics,
            asked,
            _done: done,
        };
        (exporter, sending, Ending { ask, is_done })
    }
}

impl Sink for Exporter {
    fn wants(&self, run: RunId) -> bool {
        is_sampled(TraceId::of_run(run), self.per_million)
    }

    fn take(&self, spans: Vec<Span>) {
        for span in spans {
            if self.queue.try_send(span).is_err() {
                self.metrics.spans.dropped.increment();
            }
        }
    }
}

/// By the last bytes of the id, which are as good as random.
fn is_sampled(trace: TraceId, per_million: u32) -> bool {
    let [.., a, b, c, d] = trace.to_bytes();
    u64::from(u32::from_be_bytes([a, b, c, d])) * 1_000_000 < u64::from(per_million) << 32
}

/// The end of sending.
#[derive(Debug)]
pub struct Ending {
    ask: oneshot::Sender<()>,
    is_done: oneshot::Receiver<()>,
}

impl Ending {
    /// Has the spans sent that are there; later ones are lost. Waits for that, but not for long.
    pub async fn flush(self) {
        // When the work is gone there is nothing to wait for.
        let _ = self.ask.send(());
        let _ = timeout(FAREWELL, self.is_done).await;
    }
}

/// The work of sending.
#[derive(Debug)]
pub struct Sending {
    target: Target,
    spans: Receiver<Span>,
    metrics: Metrics,
    asked: oneshot::Receiver<()>,
    /// Dropped with the work, which is how its end is told.
    _done: oneshot::Sender<()>,
}

impl Sending {
    /// Sends what comes until the end is asked for and all is sent.
    pub async fn run(mut self) {
        let transport = Transport::new(PATIENCE, 2);
        let mut is_heard = true;
        while let Some(first) = self.next().await {
            let batch = self.gather(first).await;
            let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            let sent = self.send(&transport, batch).await;
            let spans = &self.metrics.spans;
            let counter = if sent.is_ok() { &spans.exported } else { &spans.dropped };
            counter.add(count);
            match sent {
                Ok(()) => is_heard = true,
                // Once until it is heard again.
                Err(error) if is_heard => {
                    tracing::warn!(
                        error,
                        spans = count,
                        "the collector of traces does not take spans; they are lost"
                    );
                    is_heard = false;
                }
                Err(_) => {}
            }
        }
    }

    async fn next(&mut self) -> Option<Span> {
        if !self.spans.is_closed() {
            tokio::select! {
                span = self.spans.recv() => return span,
                _ = &mut self.asked => self.spans.close(),
            }
        }
        // What was there before the end.
        self.spans.recv().await
    }

    async fn gather(&mut self, first: Span) -> Vec<Span> {
        let mut batch = vec![first];
        let until = Instant::now() + GATHER;
        while batch.len() < BATCH {
            match timeout_at(until, self.spans.recv()).await {
                Ok(Some(span)) => batch.push(span),
                Ok(None) | Err(_) => break,
            }
        }
        batch
    }

    async fn send(&self, transport: &Transport, batch: Vec<Span>) -> Result<(), String> {
        let request = self.request(batch);
        let mut waits = WAITS.iter();
        loop {
            let bounds = Bounds {
                timeout: PATIENCE,
                body: ANSWER_BYTES,
                redirects: Redirects::Repeat,
            };
            let (error, is_passing) = match transport.exchange(request.clone(), bounds).await {
                Ok(answer) if (200..300).contains(&answer.status) => return Ok(()),
                Ok(answer) => {
                    let is_passing = matches!(answer.status, 429 | 502..=504);
                    (format!("it answers with status {}", answer.status), is_passing)
                }
                Err(error) => (error.to_string(), true),
            };
            match waits.next().filter(|_| is_passing) {
                Some(wait) => tokio::time::sleep(*wait).await,
                None => return Err(error),
            }
        }
    }

    fn request(&self, batch: Vec<Span>) -> Outgoing {
        let target = &self.target;
        let export = export(batch, &target.service, &target.node);
        let (kind, body) = if target.is_json {
            ("application/json", serde_json::to_vec(&export).unwrap_or_default())
        } else {
            ("application/x-protobuf", export.encode_to_vec())
        };
        let mut headers = vec![
            ("content-type".to_owned(), kind.to_owned()),
            ("user-agent".to_owned(), USER_AGENT.to_owned()),
        ];
        let own = target.headers.iter();
        headers.extend(own.map(|(name, value)| (name.clone(), value.expose_secret().to_owned())));
        Outgoing {
            method: Method::POST,
            url: target.url.clone(),
            headers,
            body: Some(body.into()),
        }
    }
}

fn text(key: &str, value: &impl ToString) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::String(value.to_string())),
        }),
    }
}

fn number(key: &str, value: u32) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::Int(value.into())),
        }),
    }
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(0).saturating_mul(1_000_000)
}

/// Spans as an export.
fn export(batch: Vec<Span>, service: &str, node: &str) -> ExportTraceServiceRequest {
    let attributes = vec![
        text("service.name", &service),
        text("service.version", &env!("CARGO_PKG_VERSION")),
        text("service.instance.id", &node),
    ];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "callboard".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                }),
                spans: batch.into_iter().map(wire).collect(),
            }],
        }],
    }
}

fn wire(span: Span) -> Wire {
    /// Kinds of spans.
    const INTERNAL: i32 = 1;
    const CLIENT: i32 = 3;
    /// Outcomes.
    const OK: i32 = 1;
    const ERROR: i32 = 2;
    let mut attributes = vec![
        text("callboard.run.id", &span.run),
        text("callboard.function.id", &span.function),
    ];
    let step = |step: &StepId| text("callboard.step.id", step);
    let kind = match &span.of {
        Of::Run(status) => {
            attributes.push(text("callboard.run.status", &RunStatus::as_str(*status)));
            INTERNAL
        }
        Of::Step(id) => {
            attributes.push(step(id));
            INTERNAL
        }
        Of::Call(id, attempt) => {
            attributes.extend(id.as_ref().map(step));
            attributes.push(number("callboard.attempt", *attempt));
            CLIENT
        }
    };
    let status = span.outcome.map(|outcome| match outcome {
        Ok(()) => Status {
            code: OK,
            message: String::new(),
        },
        Err(message) => Status { code: ERROR, message },
    });
    Wire {
        trace_id: span.trace.to_bytes().to_vec(),
        span_id: span.id.to_bytes().to_vec(),
        parent_span_id: span
            .parent
            .map(SpanId::to_bytes)
            .map_or_else(Vec::new, |id| id.to_vec()),
        trace_state: String::new(),
        name: span.name,
        kind,
        start_time_unix_nano: nanos(span.started_at),
        end_time_unix_nano: nanos(span.ended_at.max(span.started_at)),
        attributes,
        events: Vec::new(),
        links: Vec::new(),
        status,
    }
}

#[cfg(test)]
mod tests {
    use callboard_actors::domain::FunctionId;

    use super::*;

    fn target(per_million: u32) -> Target {
        Target {
            url: Url::parse("http://127.0.0.1:9/v1/traces").expect("a URL"),
            is_json: true,
            headers: vec![("x-key".to_owned(), "secret".into())],
            per_million,
            service: "callboard".to_owned(),
            node: "n".to_owned(),
        }
    }

    fn span(entropy: u128) -> Span {
        let run = RunId::new(Timestamp::from_millis(5), entropy);
        Span {
            trace: TraceId::of_run(run),
            id: SpanId::of_step(&StepId::from("a")),
            parent: Some(SpanId::of_run(run)),
            of: Of::Step(StepId::from("a")),
            name: "charge".to_owned(),
            run,
            function: FunctionId::derive("shop", "charge"),
            started_at: Timestamp::from_millis(5),
            ended_at: Timestamp::from_millis(7),
            outcome: Some(Err("no".to_owned())),
        }
    }

    #[test]
    fn what_does_not_fit_is_lost_and_counted() {
        let metrics = Metrics::default();
        let (exporter, sending, _ending) = Exporter::new(target(1_000_000), metrics.clone());
        exporter.take((0..QUEUE + 3).map(|_| span(1)).collect());
        assert_eq!(metrics.spans.dropped.value(), 3);
        drop(sending);
        exporter.take(vec![span(1)]);
        assert_eq!(metrics.spans.dropped.value(), 4);
    }

    #[test]
    fn as_many_runs_are_told_of_as_are_asked_for() {
        let told = |per_million: u32| {
            let runs = (0..10_000).map(|entropy| TraceId::of_run(RunId::new(Timestamp::from_millis(5), entropy)));
            runs.filter(|trace| is_sampled(*trace, per_million)).count()
        };
        assert_eq!((told(0), told(1_000_000)), (0, 10_000));
        assert!((2_300..2_700).contains(&told(250_000)), "{}", told(250_000));
    }

    #[test]
    fn requests_are_what_collectors_take() {
        let (_, sending, _) = Exporter::new(target(1_000_000), Metrics::default());
        let request = sending.request(vec![span(1)]);
        let body: serde_json::Value = serde_json::from_slice(&request.body.expect("a body")).expect("JSON");
        let sent = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(sent["traceId"], span(1).trace.to_string());
        assert_eq!(sent["spanId"], span(1).id.to_string());
        assert_eq!(sent["startTimeUnixNano"], "5000000");
        assert_eq!(sent["status"], serde_json::json!({"message": "no", "code": 2}));
        assert!(request.headers.contains(&("x-key".to_owned(), "secret".to_owned())));
    }
}

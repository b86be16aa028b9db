//! `/metrics`: what Prometheus asks.
//!
//! Most numbers are read where they stand. The queue and the database are asked at most now and then and with a time
//! limit (see [`cached`]), so asking often costs little and asking in a bad moment holds nobody up.
//!
//! Never: a label whose values nobody bounds.

mod cached;
mod families;
mod process;
mod text;

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use callboard_actors::metrics::FUNCTIONS;
use callboard_actors::ports::{Counts, QueueStats};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::answer::OwnError;
use super::own::Breaker;
use super::state::{Api, State};
use crate::error::{Code, Problem};
use cached::Cached;
use families::Sample;

pub(super) use families::{backlog_age, saturation};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long what the queue says is good for.
const QUEUE_KEPT: Duration = Duration::from_secs(5);
/// How long the sizes of tables are good for: to count a large one takes a while.
const COUNTS_KEPT: Duration = Duration::from_secs(60);
/// How long either may take before the last answer has to do.
const PATIENCE: Duration = Duration::from_millis(500);

/// What queue and database last said.
#[derive(Debug)]
pub(super) struct Asked {
    queue: Cached<QueueStats>,
    counts: Cached<Counts>,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            queue: Cached::new(QUEUE_KEPT, PATIENCE),
            counts: Cached::new(COUNTS_KEPT, PATIENCE),
        }
    }
}

impl Asked {
    /// The queue in numbers; `None` as long as it has not said.
    pub(super) async fn queue(&self, api: &Arc<dyn Api>) -> Option<QueueStats> {
        let queue = Arc::clone(api.queue());
        self.queue.get(async move { Some(queue.stats().await) }).await
    }

    async fn counts(&self, api: &Arc<dyn Api>) -> Option<Counts> {
        let store = Arc::clone(api.store());
        let counts = async move {
            let counts = store.counts().await;
            counts
                .inspect_err(|error| tracing::debug!(%error, "sizes not known"))
                .ok()
        };
        self.counts.get(counts).await
    }
}

/// The breakers of the first apps by name: labels have to be bounded.
fn breakers(api: &Arc<dyn Api>) -> Vec<(Arc<str>, Breaker)> {
    let catalog = api.catalog();
    Breaker::of_all(api.breakers(), &catalog)
        .filter(|(view, _)| !view.app.url.is_empty())
        .take(FUNCTIONS)
        .map(|(view, breaker)| (Arc::clone(&view.app.name), breaker))
        .collect()
}

pub(super) fn routes(cfg: &mut ServiceConfig) {
    let resource = web::resource("/metrics")
        .route(web::get().to(metrics))
        .route(web::head().to(metrics));
    cfg.service(resource);
}

async fn metrics(state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let (queue, counts, tree) = tokio::join!(state.asked.queue(api), state.asked.counts(api), api.tree());
    let workers = state.options.gateway.workers();
    let sample = Sample {
        metrics: api.metrics().clone(),
        node: api.node(),
        now: api.clock().now(),
        jobs: api.permits(),
        intake: state.options.intake.load(),
        queue_failures: api.queue().failures(),
        refusals: state.refusals.by_reason(),
        breakers: breakers(api),
        workers: workers.list().iter().map(|view| view.status).collect(),
        worker_requests: workers.open_requests(),
        realtime: state.options.realtime.counts(),
        catalog: api.catalog(),
        tree: tree.snapshot,
        queue,
        counts,
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(sample));
    let mut text = String::new();
    encode(&mut text, &registry)
        .map_err(|error| Problem::new(Code::Internal, format!("the metrics can't be written: {error}")))?;
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(text))
}

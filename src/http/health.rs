//! `/health`: whether the process lives. `/health/ready`: whether work should be sent here, and if not, why.
//!
//! Both are open, so they say what is wrong in fixed words; what exactly the matter is, is in the log.
//!
//! Promises: the first asks nobody. The second asks everybody at once and waits for none longer than [`PATIENCE`]. It says
//! no from the first moment of a drain, so that a load balancer sends nothing more while what is here is finished.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::header::RETRY_AFTER;
use actix_web::web::{self, ServiceConfig};
use callboard_actors::kernel::{ChildState, Snapshot};
use callboard_actors::orchestrator::Tree;
use serde::Serialize;
use serde_json::json;

use super::state::{Api, AppState, State};

/// How long any part may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// An answer that takes longer than this is worth a look.
const SLOW: Duration = Duration::from_millis(250);
/// Parts with a check of their own.
const WRITER: &str = "state-writer";
const CONSUMER: &str = "consumer";

pub(super) fn routes(cfg: &mut ServiceConfig) {
    let live = web::resource("/health")
        .route(web::get().to(live))
        .route(web::head().to(live));
    let ready = web::resource("/health/ready")
        .route(web::get().to(ready))
        .route(web::head().to(ready));
    cfg.service(live).service(ready);
}

/// The thread that answers is the one that does the work: an answer is all there is to know.
async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": 200, "message": "OK"}))
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Condition {
    Ok,
    /// It works, and somebody should look at it.
    Degraded,
    /// It does not, and nothing goes without it.
    Down,
}

/// What is known of one part.
#[derive(Debug, Serialize)]
struct Check {
    state: Condition,
    /// How long it took to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Check {
    fn new(state: Condition, detail: Option<String>) -> Self {
        Self {
            state,
            latency_ms: None,
            detail,
        }
    }

    fn down(detail: impl Into<String>) -> Self {
        Self::new(Condition::Down, Some(detail.into()))
    }

    /// Of a part that was asked: in time or not, and what it said in a word.
    async fn of(question: impl Future<Output = Result<(), &'static str>>) -> Self {
        let begun = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, question).await;
        let took = begun.elapsed();
        let mut check = match answer {
            Ok(Ok(())) if took > SLOW => Self::new(Condition::Degraded, Some("it answers slowly".to_owned())),
            Ok(Ok(())) => Self::new(Condition::Ok, None),
            Ok(Err(word)) => Self::down(word),
            Err(_) => Self::down(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        // To the microsecond.
        check.latency_ms = Some((took.as_secs_f64() * 1e6).round() / 1e3);
        check
    }
}

/// All parts.
#[derive(Debug, Serialize)]
struct Checks {
    database: Check,
    queue: Check,
    state_writer: Check,
    consumer: Check,
    supervisor: Check,
}

impl Checks {
    async fn of(api: &dyn Api) -> Self {
        let database = async {
            let pong = api.store().ping().await;
            pong.map_err(|error| {
                tracing::debug!(%error, "the database does not answer");
                error.kind()
            })
        };
        let queue = async {
            let pong = api.queue().ping().await;
            pong.map_err(|error| {
                tracing::debug!(%error, "the queue does not answer");
                "unavailable"
            })
        };
        let tree = tokio::time::timeout(PATIENCE, api.tree());
        let (database, queue, tree) = tokio::join!(Check::of(database), Check::of(queue), tree);
        let (state_writer, consumer, supervisor) = match tree {
            Ok(tree) => (
                writer(api, &tree.snapshot),
                consumer(api, &tree.snapshot),
                supervisor(&tree),
            ),
            Err(_) => ["not known", "not known", "no answer"].map(Check::down).into(),
        };
        Self {
            database,
            queue,
            state_writer,
            consumer,
            supervisor,
        }
    }

    fn all(&self) -> [(&'static str, &Check); 5] {
        [
            ("database", &self.database),
            ("queue", &self.queue),
            ("state_writer", &self.state_writer),
            ("consumer", &self.consumer),
            ("supervisor", &self.supervisor),
        ]
    }
}

fn writer(api: &dyn Api, tree: &Snapshot) -> Check {
    if let Some(check) = unless_running(tree, WRITER) {
        return check;
    }
    let commits = &api.metrics().commits;
    match (commits.setback(), commits.waiting()) {
        (Some(error), waiting) => Check::down(format!(
            "the database takes no writes ({}); {waiting} wait",
            error.kind()
        )),
        (None, 0) => Check::new(Condition::Ok, None),
        (None, waiting) => Check::new(Condition::Ok, Some(format!("{waiting} writes wait"))),
    }
}

fn consumer(api: &dyn Api, tree: &Snapshot) -> Check {
    if let Some(check) = unless_running(tree, CONSUMER) {
        return check;
    }
    let jobs = api.permits();
    let state = if jobs.in_use < jobs.limit {
        Condition::Ok
    } else {
        Condition::Degraded
    };
    Check::new(state, Some(format!("{} of {} jobs in flight", jobs.in_use, jobs.limit)))
}

fn unless_running(tree: &Snapshot, name: &str) -> Option<Check> {
    match tree.child(name).map(|child| &child.state) {
        Some(ChildState::Running) => None,
        Some(state) => Some(Check::down(word_for(state))),
        None => Some(Check::down("not there")),
    }
}

/// The parts without a check of their own. A function that is quarantined is its own matter: the others run.
fn supervisor(tree: &Tree) -> Check {
    if !tree.is_current {
        return Check::down("no answer");
    }
    if tree.snapshot.stop_reason.is_some() {
        return Check::down("the process has to stop");
    }
    let mut quarantined = 0;
    for child in &tree.snapshot.children {
        match &child.state {
            ChildState::Quarantined { .. } => quarantined += 1,
            ChildState::Running => {}
            _ if child.role == "executor" || [WRITER, CONSUMER].contains(&child.name.as_str()) => {}
            state => return Check::down(format!("{} is {}", child.name, word_for(state))),
        }
    }
    match quarantined {
        0 => Check::new(Condition::Ok, None),
        count => Check::new(Condition::Degraded, Some(format!("{count} functions are quarantined"))),
    }
}

fn word_for(state: &ChildState) -> &'static str {
    match state {
        ChildState::Pending => "pending",
        ChildState::Starting => "starting",
        ChildState::Running => "running",
        ChildState::BackingOff { .. } => "being restarted",
        ChildState::Quarantined { .. } => "quarantined",
        ChildState::Stopping => "stopping",
        ChildState::Stopped => "stopped",
    }
}

/// What is answered.
#[derive(Debug, Serialize)]
struct Readiness {
    /// `ok`, `degraded`, `down`, `starting` or `draining`.
    status: &'static str,
    /// The checks that are down.
    failing: Vec<&'static str>,
    /// The code of what a start waits for, as in the catalogue of errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Checks>,
}

async fn ready(state: State) -> HttpResponse {
    let Ok(api) = state.api() else {
        let waiting = state.waiting();
        return unavailable(&Readiness {
            // Nothing else is waited for.
            failing: waiting.iter().map(|_| "database").collect(),
            code: waiting.map(|problem| problem.code.as_str()),
            ..Readiness::without_checks("starting")
        });
    };
    if api.is_draining() {
        return unavailable(&Readiness::without_checks("draining"));
    }
    let checks = Checks::of(&**api).await;
    let all = checks.all();
    let worst = all.iter().map(|(_, check)| check.state).max().unwrap_or(Condition::Ok);
    let is_down = |(name, check): &(&'static str, &Check)| (check.state == Condition::Down).then_some(*name);
    let failing: Vec<_> = all.iter().filter_map(is_down).collect();
    note(&state, &checks, &failing);
    let readiness = Readiness {
        status: match worst {
            Condition::Ok => "ok",
            Condition::Degraded => "degraded",
            Condition::Down => "down",
        },
        failing,
        code: None,
        checks: Some(checks),
    };
    if worst == Condition::Down {
        return unavailable(&readiness);
    }
    HttpResponse::Ok().json(readiness)
}

impl Readiness {
    fn without_checks(status: &'static str) -> Self {
        Self {
            status,
            failing: Vec::new(),
            code: None,
            checks: None,
        }
    }
}

fn unavailable(readiness: &Readiness) -> HttpResponse {
    HttpResponse::ServiceUnavailable()
        .insert_header((RETRY_AFTER, "1"))
        .json(readiness)
}

/// One line in the log for each change, however often it is asked.
fn note(state: &AppState, checks: &Checks, failing: &[&str]) {
    let was_failing = state.is_failing.swap(!failing.is_empty(), Ordering::Relaxed);
    match (was_failing, failing.is_empty()) {
        (false, false) => tracing::warn!(?failing, ?checks, "not ready"),
        (true, true) => tracing::info!("ready again"),
        _ => {}
    }
}

//! Every family of metrics there is: its name, its meaning, where its numbers come from.
//!
//! docs/operations.md lists them; a test compares. Labels are bounded: functions by the orchestrator's metrics, the rest
//! by what is written here.

mod operations;
mod realtime;
mod spans;

use std::collections::BTreeMap;
use std::fmt::Result;
use std::sync::Arc;

use callboard_actors::catalog::Catalog;
use callboard_actors::domain::{FunctionId, Node, Timestamp};
use callboard_actors::kernel::credit::Gauges;
use callboard_actors::kernel::{ChildState, ChildStatus, Snapshot};
use callboard_actors::metrics::{Counter, FunctionMetrics, Metrics, Reading};
use callboard_actors::ports::{Counts, QueueStats};
use callboard_actors::workers::Status;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::process;
use super::text::{Labels, PLAIN, Text, real};
use crate::http::intake::Load;
use crate::http::own::Breaker;

/// For histograms that count microseconds.
const MICROS: u32 = 1_000_000;

/// Everything that one answer shows, as of one moment.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) metrics: Metrics,
    pub(super) node: Node,
    pub(super) now: Timestamp,
    pub(super) jobs: Gauges,
    pub(super) intake: Load,
    pub(super) queue_failures: u64,
    pub(super) refusals: [(&'static str, u64); 4],
    /// By app.
    pub(super) breakers: Vec<(Arc<str>, Breaker)>,
    /// How each worker is that is connected.
    pub(super) workers: Vec<Status>,
    pub(super) worker_requests: usize,
    pub(super) realtime: crate::realtime::Counts,
    pub(super) catalog: Arc<Catalog>,
    pub(super) tree: Arc<Snapshot>,
    /// `None` as long as the queue has not said.
    pub(super) queue: Option<QueueStats>,
    /// `None` as long as the store has not said.
    pub(super) counts: Option<Counts>,
}

impl Collector for Sample {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result {
        let mut text = Text(encoder);
        self.process(&mut text)?;
        self.intake(&mut text)?;
        self.runs(&mut text)?;
        self.calls(&mut text)?;
        self.breakers(&mut text)?;
        self.workers(&mut text)?;
        self.realtime(&mut text)?;
        self.capacity(&mut text)?;
        self.queue(&mut text)?;
        self.writer(&mut text)?;
        self.scheduler(&mut text)?;
        self.operations(&mut text)?;
        self.spans(&mut text)?;
        self.tree(&mut text)?;
        self.store(&mut text)
    }
}

impl Sample {
    fn process(&self, text: &mut Text<'_>) -> Result {
        let labels = [("version", &*self.node.version)];
        text.info("callboard_build", "Which version this is.", labels)?;
        let started = real(u64::try_from(self.node.started_at.as_millis()).unwrap_or(0)) / 1_000.0;
        text.gauge(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970.",
            Some(started),
        )?;
        let resident = process::resident_bytes();
        text.gauge("process_resident_memory_bytes", "Memory in use.", resident)?;
        let fds = process::open_fds();
        text.gauge("process_open_fds", "Open files, sockets and the like.", fds)
    }

    fn intake(&self, text: &mut Text<'_>) -> Result {
        let events = &self.metrics.events;
        text.counter(
            "callboard_events_accepted",
            "Events from outside that were made durable.",
            events.accepted.value(),
        )?;
        text.counter(
            "callboard_events_known",
            "Events from outside that were known already: a sender's retry.",
            events.known.value(),
        )?;
        text.counter(
            "callboard_runs_left_out",
            "Runs not created although an event asked for them: there is one already, or they were skipped.",
            events.runs_left_out.value(),
        )?;
        text.counters(
            "callboard_skips",
            "Functions not started by an event that they listen to, by the recorded reason.",
            events
                .skips
                .all()
                .map(|(reason, count)| ([("reason", reason.as_str())], count)),
        )?;
        text.counter(
            "callboard_events_gathered",
            "Times an event has joined a debounce or batch of a function.",
            events.gathered.value(),
        )?;
        text.counters(
            "callboard_gatherings_fired",
            "Debounces and batches that have ended, by what made them due.",
            events.fired.all().map(|(is_batch, by, count)| {
                let kind = if is_batch { "batch" } else { "debounce" };
                ([("kind", kind), ("due_by", by.as_str())], count)
            }),
        )?;
        text.counters(
            "callboard_intake_refusals",
            "Requests with events that were refused, wholly or from one event on, by reason.",
            labelled("reason", &self.refusals),
        )?;
        let Load { events, bytes } = self.intake;
        text.gauge(
            "callboard_intake_events_in_flight",
            "Events on their way in.",
            Some(whole(events.used)),
        )?;
        text.gauge(
            "callboard_intake_events_limit",
            "Events that may be on their way in.",
            Some(whole(events.limit)),
        )?;
        text.gauge(
            "callboard_intake_bytes_in_flight",
            "Bytes of requests on their way in.",
            Some(whole(bytes.used)),
        )?;
        text.gauge(
            "callboard_intake_bytes_limit",
            "Bytes of requests that may be on their way in.",
            Some(whole(bytes.limit)),
        )
    }

    fn runs(&self, text: &mut Text<'_>) -> Result {
        let functions = self.metrics.functions();
        text.counters(
            "callboard_runs_started",
            "Runs created by this node.",
            by_function(&functions, |of| &of.runs_started),
        )?;
        let ended: [(_, Pick<Counter>); 3] = [
            ("completed", |of| &of.runs_completed),
            ("failed", |of| &of.runs_failed),
            ("cancelled", |of| &of.runs_cancelled),
        ];
        text.counters(
            "callboard_runs_ended",
            "Runs that this node brought to their end, by outcome.",
            by_outcome(&functions, &ended),
        )?;
        let steps: [(_, Pick<Counter>); 2] = [
            ("completed", |of| &of.steps_completed),
            ("failed", |of| &of.steps_failed),
        ];
        text.counters(
            "callboard_steps_ended",
            "Steps whose result was recorded, by outcome.",
            by_outcome(&functions, &steps),
        )?;
        text.counters(
            "callboard_retries",
            "Failed attempts that are followed by another.",
            by_function(&functions, |of| &of.retries),
        )?;
        text.counters(
            "callboard_dead_letters",
            "Jobs given up.",
            by_function(&functions, |of| &of.dead_letters),
        )
    }

    fn calls(&self, text: &mut Text<'_>) -> Result {
        let functions = self.metrics.functions();
        text.histograms(
            "callboard_call_duration_seconds",
            "How long apps took to answer; one entry for each attempt.",
            MICROS,
            readings(&functions, |of| of.call.read()),
        )?;
        text.histograms(
            "callboard_call_delay_seconds",
            "From when a call was due to when it was made, in whole milliseconds.",
            MICROS,
            readings(&functions, |of| of.delay.read()),
        )?;
        let calls = &self.metrics.calls;
        text.histograms(
            "callboard_hand_off_seconds",
            "From an app's reply to the next call of the same run, where that was due at once.",
            MICROS,
            [(PLAIN, calls.hand_off.read())],
        )?;
        let reports = &calls.reports;
        text.counters(
            "callboard_reports",
            "Reports of steps by calls under way, by what became of them.",
            [
                ("recorded", &reports.recorded),
                ("stale", &reports.stale),
                ("too_large", &reports.too_large),
                ("failed", &reports.failed),
            ]
            .map(|(outcome, counter)| ([("outcome", outcome)], counter.value())),
        )?;
        let statuses: Vec<_> = calls
            .statuses()
            .map(|(status, count)| {
                (
                    status.map_or_else(|| "none".to_owned(), |status| status.to_string()),
                    count,
                )
            })
            .collect();
        text.counters(
            "callboard_call_responses",
            "Answers of apps by HTTP status; `none` where nobody answered.",
            statuses
                .iter()
                .map(|(status, count)| ([("status", status.as_str())], *count)),
        )
    }

    fn breakers(&self, text: &mut Text<'_>) -> Result {
        let all = || self.breakers.iter().map(|(app, breaker)| ([("app", &**app)], breaker));
        text.gauges(
            "callboard_breaker_state",
            "Whether an app is called: 0 yes, 1 a few calls to see how it goes, 2 calls wait.",
            all().map(|(labels, breaker)| (labels, f64::from(breaker.severity()))),
        )?;
        text.counters(
            "callboard_breaker_openings",
            "How often calls of an app began to wait because it could not be reached.",
            all().map(|(labels, breaker)| (labels, breaker.openings)),
        )?;
        text.counters(
            "callboard_breaker_parked",
            "How often a call of an app had to wait for it to be back.",
            all().map(|(labels, breaker)| (labels, breaker.parked)),
        )
    }

    fn workers(&self, text: &mut Text<'_>) -> Result {
        let count = |status| self.workers.iter().filter(|of| **of == status).count();
        let all = [Status::Connected, Status::Ready, Status::Draining];
        text.gauges(
            "callboard_worker_connections",
            "Workers that are connected to this node, by how they are.",
            all.map(|status| ([("status", status.as_str())], whole(count(status)))),
        )?;
        text.gauge(
            "callboard_worker_requests_in_flight",
            "Requests that workers of this node are at work on.",
            Some(whole(self.worker_requests)),
        )
    }

    fn capacity(&self, text: &mut Text<'_>) -> Result {
        let Gauges { limit, in_use, .. } = self.jobs;
        text.gauge(
            "callboard_jobs_in_flight",
            "Jobs this node is at work on.",
            Some(whole(in_use)),
        )?;
        text.gauge(
            "callboard_jobs_limit",
            "Jobs this node may be at work on at a time.",
            Some(whole(limit)),
        )?;
        text.gauge(
            "callboard_saturation_ratio",
            "Jobs in flight of those that may be: 1 is full.",
            Some(saturation(self.jobs)),
        )?;
        text.gauge(
            "callboard_backlog_age_seconds",
            "How long the longest waiting ready job has been due; 0 when none is ready.",
            self.queue.as_ref().map(|queue| backlog_age(queue, self.now)),
        )
    }

    fn queue(&self, text: &mut Text<'_>) -> Result {
        let depths = self.depths();
        let by_slug = |pick: fn(&Depth) -> f64| {
            depths
                .iter()
                .map(move |(slug, depth)| ([("function", &**slug)], pick(depth)))
        };
        text.gauges(
            "callboard_queue_ready_jobs",
            "Jobs that wait to be handed out.",
            by_slug(|depth| whole(depth.ready)),
        )?;
        text.gauges(
            "callboard_queue_delayed_jobs",
            "Jobs that are due soon.",
            by_slug(|depth| whole(depth.delayed)),
        )?;
        text.gauges(
            "callboard_queue_leased_jobs",
            "Jobs handed out.",
            by_slug(|depth| whole(depth.leased)),
        )?;
        text.gauges(
            "callboard_queue_oldest_job_seconds",
            "How long the longest waiting ready job has been due.",
            by_slug(|depth| depth.oldest),
        )?;
        let queue = self.queue.as_ref();
        let oldest_lease = queue.map(|queue| queue.oldest_lease.map_or(0.0, |since| seconds(self.now, since)));
        text.gauge(
            "callboard_queue_oldest_lease_seconds",
            "For how long the longest lease has been held.",
            oldest_lease,
        )?;
        text.gauge(
            "callboard_queue_capacity_jobs",
            "Jobs that fit in; absent where only memory bounds them.",
            queue.and_then(|queue| queue.capacity).map(whole),
        )?;
        text.counter(
            "callboard_queue_spilled_jobs",
            "Jobs left in the database for want of room.",
            queue.map(|queue| queue.spilled),
        )
    }

    fn writer(&self, text: &mut Text<'_>) -> Result {
        let commits = &self.metrics.commits;
        text.histograms(
            "callboard_commit_writes",
            "Writes of each batch that was committed, or tried to be.",
            1,
            [(PLAIN, commits.batch.read())],
        )?;
        text.histograms(
            "callboard_commit_duration_seconds",
            "How long the database took for each batch.",
            MICROS,
            [(PLAIN, commits.took.read())],
        )?;
        text.counter(
            "callboard_commit_retries",
            "Batches made again after a passing failure.",
            commits.retries.value(),
        )?;
        text.counter(
            "callboard_commit_refused",
            "Writes that the database refused for good.",
            commits.refused.value(),
        )?;
        text.gauge(
            "callboard_commit_waiting_writes",
            "Writes that wait for the batch before them.",
            Some(real(commits.waiting())),
        )?;
        text.counters(
            "callboard_store_errors",
            "What the database could not do for the actors, by kind.",
            labelled("kind", &self.metrics.store_errors.by_kind()),
        )?;
        text.counter(
            "callboard_queue_errors",
            "Requests that the queue could not answer; they are made again.",
            self.queue_failures,
        )
    }

    fn scheduler(&self, text: &mut Text<'_>) -> Result {
        let scheduler = &self.metrics.scheduler;
        text.counter(
            "callboard_scheduler_turns",
            "Times the scheduler looked for something to do.",
            scheduler.turns.value(),
        )?;
        text.counter(
            "callboard_scheduler_jobs_brought",
            "Jobs brought from the database to the queue.",
            scheduler.jobs_brought.value(),
        )?;
        text.counter(
            "callboard_cron_ticks",
            "Ticks of crons that this node made durable, or found to be.",
            scheduler.cron_ticks.value(),
        )?;
        let functions = self.catalog.apps().iter().flat_map(|app| &app.functions);
        let modes = functions.map(|function| function.mode.as_str());
        let halted = ["paused", "draining"].map(|mode| {
            let count = modes.clone().filter(|of| *of == mode).count();
            ([("mode", mode)], whole(count))
        });
        text.gauges(
            "callboard_functions_halted",
            "Functions that an operator has paused or has drained.",
            halted,
        )
    }

    fn tree(&self, text: &mut Text<'_>) -> Result {
        let mut children: BTreeMap<String, (u64, bool)> = BTreeMap::new();
        for child in &self.tree.children {
            let of = children.entry(self.name_of(child)).or_insert((0, true));
            of.0 += child.restarts_total;
            of.1 &= child.state == ChildState::Running;
        }
        let restarts = children
            .iter()
            .map(|(name, (count, _))| ([("child", name.as_str())], *count));
        text.counters(
            "callboard_child_restarts",
            "Restarts after failures of each part, as long as it is not put to rest.",
            restarts,
        )?;
        let up = children
            .iter()
            .map(|(name, (_, is_up))| ([("child", name.as_str())], f64::from(u8::from(*is_up))));
        text.gauges("callboard_child_up", "Whether each part is running.", up)?;
        let is_quarantined = |child: &&Arc<ChildStatus>| matches!(child.state, ChildState::Quarantined { .. });
        let quarantined = self.tree.children.iter().filter(is_quarantined).count();
        text.gauge(
            "callboard_quarantined_functions",
            "Functions taken out of service for a while, as their executor can't be kept running.",
            Some(whole(quarantined)),
        )
    }

    fn store(&self, text: &mut Text<'_>) -> Result {
        text.gauge(
            "callboard_catalog_apps",
            "Apps that have registered.",
            Some(whole(self.catalog.apps().len())),
        )?;
        text.gauge(
            "callboard_catalog_functions",
            "Functions that are not archived.",
            Some(whole(self.catalog.live_functions().count())),
        )?;
        let counts = self.counts.as_ref();
        let count = |pick: fn(&Counts) -> u64| counts.map(|counts| real(pick(counts)));
        text.gauge(
            "callboard_store_open_runs",
            "Runs that have not ended.",
            count(|all| all.open_runs),
        )?;
        text.gauge("callboard_store_jobs", "Jobs in the database.", count(|all| all.jobs))?;
        text.gauge("callboard_store_waits", "Open waits.", count(|all| all.waits))?;
        text.gauge(
            "callboard_store_dead_letters",
            "Dead letters to be looked at.",
            count(|all| all.dead_letters),
        )
    }

    /// The queue by function.
    fn depths(&self) -> BTreeMap<Arc<str>, Depth> {
        let mut depths: BTreeMap<Arc<str>, Depth> = BTreeMap::new();
        for part in self.queue.iter().flat_map(|queue| &queue.partitions) {
            let slug = Arc::clone(&self.metrics.function(part.function).slug);
            let depth = depths.entry(slug).or_default();
            depth.ready += part.ready;
            depth.delayed += part.delayed;
            depth.leased += part.leased;
            let oldest = part.oldest.map_or(0.0, |due| seconds(self.now, due));
            depth.oldest = depth.oldest.max(oldest);
        }
        depths
    }

    /// Executors are named by their function's id; people know its slug.
    fn name_of(&self, child: &ChildStatus) -> String {
        let name = child.name.as_str();
        let id = name
            .strip_prefix("executor/")
            .and_then(|id| id.parse::<FunctionId>().ok());
        id.map_or_else(
            || name.to_owned(),
            |id| format!("executor/{}", self.metrics.function(id).slug),
        )
    }
}

/// The share of one function in the queue.
#[derive(Debug, Default)]
struct Depth {
    ready: usize,
    delayed: usize,
    leased: usize,
    /// Seconds.
    oldest: f64,
}

/// Jobs in flight of those that may be.
pub(in crate::http) fn saturation(jobs: Gauges) -> f64 {
    if jobs.limit == 0 {
        1.0
    } else {
        whole(jobs.in_use) / whole(jobs.limit)
    }
}

/// For how many seconds the longest waiting ready job has been due.
pub(in crate::http) fn backlog_age(queue: &QueueStats, now: Timestamp) -> f64 {
    let oldest = queue.partitions.iter().filter_map(|part| part.oldest).min();
    oldest.map_or(0.0, |due| seconds(now, due))
}

fn seconds(now: Timestamp, since: Timestamp) -> f64 {
    now.since(since).as_secs_f64()
}

fn whole(count: usize) -> f64 {
    real(u64::try_from(count).unwrap_or(u64::MAX))
}

/// One of a function's instruments.
type Pick<T> = fn(&FunctionMetrics) -> &T;

type Functions = [Arc<FunctionMetrics>];

fn by_function(functions: &Functions, pick: Pick<Counter>) -> impl Iterator<Item = (Labels<'_, 1>, u64)> {
    functions
        .iter()
        .map(move |of| ([("function", &*of.slug)], pick(of).value()))
}

fn by_outcome<'a>(
    functions: &'a Functions,
    outcomes: &'a [(&'static str, Pick<Counter>)],
) -> impl Iterator<Item = (Labels<'a, 2>, u64)> {
    functions.iter().flat_map(move |of| {
        outcomes
            .iter()
            .map(move |(outcome, pick)| ([("function", &*of.slug), ("outcome", *outcome)], pick(of).value()))
    })
}

fn readings(
    functions: &Functions,
    read: fn(&FunctionMetrics) -> Reading,
) -> impl Iterator<Item = (Labels<'_, 1>, Reading)> {
    // A histogram is long: functions that were never called have none.
    let read = functions.iter().map(move |of| ([("function", &*of.slug)], read(of)));
    read.filter(|(_, reading)| reading.count() > 0)
}

fn labelled<'a>(label: &'static str, counts: &'a [(&'static str, u64)]) -> impl Iterator<Item = (Labels<'a, 1>, u64)> {
    counts.iter().map(move |(value, count)| ([(label, *value)], *count))
}

//! Routes events: to the functions they start, and to the waits they end.
//!
//! An accepted event is matched before it is written, so that it and its runs become durable together, and the sender's
//! answer means that nothing of it can be lost (P1, P2). Events that the orchestrator emits itself, and events that some
//! run may wait for, are routed from the store after they were committed (an outbox): a crash between the two is made
//! good by the next pass.
//!
//! Never: it does not decide what becomes of a run; it only creates runs and ends waits.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use serde_json::Value;
use tokio::sync::{Notify, oneshot};

use crate::catalog::{Catalog, SharedCatalog};
use crate::domain::{
    Accept, Class, Event, Failure, Function, FunctionId, Gates, Job, JobId, JobKey, Join, Json, Lookup, NewRun,
    Priority, RateClaim, Resumption, Route, Skip, SkipReason, Take, Timestamp, Wait, WaitKey, WaitKind, Write, Written,
    limits,
};
use crate::engine::{self, Start};
use crate::expression::{Equality, Expression, Scope};
use crate::kernel::{AddressBook, Observation, Supervised};
use crate::link::{self, LinkError, names};
use crate::metrics::Metrics;
use crate::ports::{Clock, Store, StoreError};
use crate::state_writer::{Commit, CommitResult, StateWriter};

/// Events routed in one pass.
const PASS: usize = 128;
/// Waits read at a time.
const WAITS_PAGE: usize = 1_000;
/// The net below the wake-ups: how often the store is asked for unrouted events anyway.
const SWEEP: Duration = Duration::from_secs(10);
/// Wait after a pass that failed.
const RETRY: Duration = Duration::from_millis(200);

/// Accept these events. The reply comes when they and the runs they start are durable.
#[derive(Debug)]
pub struct AcceptEvents {
    /// The events.
    pub events: Vec<Event>,
    /// Where the outcome goes.
    pub reply: oneshot::Sender<CommitResult>,
}

impl Message for AcceptEvents {
    type Result = ();
}

/// What the router works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who listens to what.
    pub catalog: SharedCatalog,
    /// Where the writer is.
    pub book: AddressBook,
    /// Rung when there are events to route.
    pub unrouted: Arc<Notify>,
    /// What is counted.
    pub metrics: Metrics,
}

/// The actor.
pub struct Router {
    parts: Parts,
    accepted: u64,
    routed: u64,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("accepted", &self.accepted)
            .field("routed", &self.routed)
            .finish_non_exhaustive()
    }
}

impl Router {
    /// A router.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            accepted: 0,
            routed: 0,
        }
    }

    fn route_next(&mut self, ctx: &mut Context<Self>) {
        let pass = Pass {
            parts: self.parts.clone(),
        };
        let next = pass.next().into_actor(self).map(|routed, router, ctx| {
            router.routed += routed;
            router.route_next(ctx);
        });
        ctx.spawn(next);
    }
}

impl Actor for Router {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // What was left over when the last incarnation ended.
        self.parts.unrouted.notify_one();
        self.route_next(ctx);
    }
}

impl Supervised for Router {
    fn observe(&self) -> Observation {
        Observation::of(0).with_detail(serde_json::json!({ "accepted": self.accepted, "routed": self.routed }))
    }
}

impl Handler<AcceptEvents> for Router {
    type Result = ();

    fn handle(&mut self, AcceptEvents { events, reply }: AcceptEvents, _ctx: &mut Context<Self>) {
        let catalog = self.parts.catalog.current();
        let now = self.parts.clock.now();
        self.accepted += u64::try_from(events.len()).unwrap_or(0);
        let writes = events
            .into_iter()
            .map(|event| Write::Accept(accept(&catalog, event, now)))
            .collect();
        let commit = Commit {
            writes,
            fail_fast: true,
            reply,
        };
        if let Err(error) = link::tell::<StateWriter, _>(&self.parts.book, names::WRITER, commit) {
            // Dropping the reply tells the sender.
            tracing::warn!(%error, "events refused");
        }
    }
}

/// An accepted event with the runs it starts.
pub(crate) fn accept(catalog: &Catalog, event: Event, now: Timestamp) -> Accept {
    let Starts { runs, joins, skips, .. } = if event.is_internal() {
        invoked(catalog, &event, now)
    } else {
        matching(catalog, &event, now)
    };
    Accept {
        event,
        runs,
        joins,
        skips,
        catalog: Some(catalog.revision()),
    }
}

/// What an event starts.
#[derive(Default)]
struct Starts {
    runs: Vec<NewRun>,
    joins: Vec<Join>,
    skips: Vec<Skip>,
    /// What to tell whoever invoked the target.
    failure: Option<Failure>,
}

impl Starts {
    /// Adds the run of a function, the gathering that the event joins for it, or the reason why there is neither.
    fn add(&mut self, function: &Function, event: &Event, now: Timestamp) {
        match engine::begin(function, event, now) {
            Ok(Start::Run(run)) => self.runs.push(*run),
            Ok(Start::Join(join)) => self.joins.push(*join),
            Err(skip) => self.skips.push(skip),
        }
    }

    /// The rate limit that the function's run or join has to pass; `None` if there is neither.
    fn rate_of(&mut self, function: FunctionId) -> Option<Option<&mut RateClaim>> {
        let run = self.runs.iter_mut().find(|run| run.state.function == function);
        let join = self.joins.iter_mut().find(|join| join.function == function);
        run.map(|run| run.rate.as_mut())
            .or_else(|| join.map(|join| join.rate.as_mut()))
    }
}

fn matching(catalog: &Catalog, event: &Event, now: Timestamp) -> Starts {
    let matches = catalog.matching(event, now);
    let mut starts = Starts {
        skips: matches.skips,
        ..Starts::default()
    };
    for function in &matches.functions {
        starts.add(function, event, now);
    }
    starts
}

/// The run of an invoke's target beside those of functions that listen to invokes as such.
fn invoked(catalog: &Catalog, event: &Event, now: Timestamp) -> Starts {
    let mut starts = matching(catalog, event, now);
    if event.name != "inngest/function.invoked" {
        return starts;
    }
    let target = invoke_target(event);
    let Some(function) = catalog.find(&target) else {
        starts.failure = Some(Failure::new(
            "Error",
            format!("could not find function with ID: {target}"),
        ));
        starts.skips.push(Skip {
            event: event.id,
            function: None,
            reason: SkipReason::UnknownFunction,
            detail: target,
        });
        return starts;
    };
    if starts.rate_of(function.id).is_none() {
        starts.add(function, event, now);
    }
    let refusal = |message: &str| engine::refused_invoke(event, &Failure::new("Error", message), now).map(Box::new);
    match starts.rate_of(function.id) {
        Some(Some(rate)) => rate.refusal = refusal("invoked function is rate limited"),
        Some(None) => {}
        None => {
            let reason = starts.skips.last().map_or("", |skip| &skip.detail);
            starts.failure = Some(Failure::new("Error", reason));
        }
    }
    let mut runs = starts.runs.iter_mut().filter(|run| run.state.function == function.id);
    if let Some(lock) = runs.find_map(|run| run.lock.as_mut()) {
        engine::refuse_lock(lock, event, now);
    }
    starts
}

fn invoke_target(event: &Event) -> String {
    let body = event.body.to_tree();
    body.pointer("/data/_inngest/fn_id")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// Whether an event in the outbox has yet to find its functions. Events from outside and invokes through the API have
/// found them when they were accepted, ticks bring their run along, and to do it again would record their skips again.
fn finds_functions_here(event: &Event) -> bool {
    match &*event.name {
        Event::SCHEDULED => false,
        "inngest/function.invoked" => {
            let body = event.body.to_tree();
            body.pointer("/data/_inngest/correlation_id").is_some()
        }
        _ => event.is_internal(),
    }
}

/// One pass over the events that have not been routed.
struct Pass {
    parts: Parts,
}

impl Pass {
    /// Waits until there may be something to route, and routes it. Answers how many events it routed.
    async fn next(self) -> u64 {
        let _ = tokio::time::timeout(SWEEP, self.parts.unrouted.notified()).await;
        match self.route().await {
            Ok(0) => 0,
            Ok(routed) => {
                // There may be more than fits a pass, or what was routed may have emitted more.
                self.parts.unrouted.notify_one();
                routed
            }
            Err(error) => {
                tracing::warn!(%error, "routing failed, trying again");
                tokio::time::sleep(RETRY).await;
                self.parts.unrouted.notify_one();
                0
            }
        }
    }

    async fn route(&self) -> Result<u64, LinkError> {
        let errors = &self.parts.metrics.store_errors;
        let events = errors.watch(self.parts.store.unrouted(PASS).await)?;
        if events.is_empty() {
            return Ok(0);
        }
        let catalog = self.parts.catalog.current();
        match self.commit(&catalog, &events).await {
            // Nobody knows at whom the database balks: each alone, so that one does not hold up the others.
            Err(LinkError::Store(error @ (StoreError::Refused(_) | StoreError::Corrupt(_)))) => {
                tracing::warn!(%error, "events can't be routed together");
                self.one_by_one(&catalog, &events).await
            }
            outcome => outcome,
        }
    }

    async fn commit(&self, catalog: &Catalog, events: &[Event]) -> Result<u64, LinkError> {
        let mut writes = Vec::with_capacity(events.len());
        for event in events {
            writes.extend(self.route_one(catalog, event).await?);
        }
        let written = link::commit(&self.parts.book, writes, false).await?;
        if written.contains(&Written::Outdated) {
            // Another node has registered functions meanwhile: the next pass finds these events again, and those functions.
            link::refresh_catalog(&self.parts.book).await?;
        }
        Ok(u64::try_from(events.len()).unwrap_or(0))
    }

    /// Routes each event on its own. One that can't be routed stays in the outbox and is said so; if it is all there is,
    /// that is the outcome, so that the next pass comes after a while.
    async fn one_by_one(&self, catalog: &Catalog, events: &[Event]) -> Result<u64, LinkError> {
        let mut routed = 0;
        let mut failure = None;
        for event in events {
            match self.commit(catalog, std::slice::from_ref(event)).await {
                Ok(one) => routed += one,
                Err(LinkError::Store(error @ (StoreError::Refused(_) | StoreError::Corrupt(_)))) => {
                    tracing::error!(event = %event.id, name = event.name, %error, "an event can't be routed");
                    failure = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match failure {
            Some(error) if routed == 0 => Err(error.into()),
            _ => Ok(routed),
        }
    }

    async fn route_one(&self, catalog: &Catalog, event: &Event) -> Result<Vec<Write>, StoreError> {
        let now = self.parts.clock.now();
        let Starts {
            runs,
            joins,
            skips,
            failure,
        } = if finds_functions_here(event) {
            invoked(catalog, event, now)
        } else {
            Starts::default()
        };
        let mut writes = Vec::with_capacity(2);
        if let Some(failure) = failure {
            let answer = engine::refused_invoke(event, &failure, now);
            writes.extend(answer.map(|event| {
                Write::Accept(Accept {
                    event,
                    runs: Vec::new(),
                    joins: Vec::new(),
                    skips: Vec::new(),
                    catalog: Some(catalog.revision()),
                })
            }));
        }
        let takes = self.takes(event).await?;
        writes.push(Write::Route(Route {
            event: event.id,
            runs,
            joins,
            skips,
            takes,
            catalog: Some(catalog.revision()),
        }));
        Ok(writes)
    }

    /// The waits that this event ends.
    async fn takes(&self, event: &Event) -> Result<Vec<Take>, StoreError> {
        let errors = &self.parts.metrics.store_errors;
        let paths = errors.watch(self.parts.store.wait_paths(&event.name).await)?;
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let body = event.body.to_tree();
        let lookups: Vec<Option<Lookup>> = paths
            .into_iter()
            .map(|path| {
                path.map(|path| Lookup {
                    key: Equality::key_of(&body, &path),
                    path,
                })
            })
            .collect();
        let scope = Scope::of_async(&body, self.parts.clock.now().to_datetime());
        let mut takes = Vec::new();
        let mut after = None;
        loop {
            let store = &self.parts.store;
            let page = store.waits(&event.name, &lookups, after.take(), WAITS_PAGE).await;
            let page = errors.watch(page)?;
            let is_last = page.len() < WAITS_PAGE;
            after = page.last().map(|wait| (wait.run, wait.key.to_string()));
            for wait in page.iter().filter(|wait| is_match(wait, event, &scope)) {
                takes.extend(self.take(wait, event, &body));
            }
            if is_last {
                return Ok(takes);
            }
        }
    }

    fn take(&self, wait: &Wait, event: &Event, body: &Value) -> Option<Take> {
        let (key, payload) = match (&wait.key, wait.kind) {
            (WaitKey::Step(step), WaitKind::Event) => {
                let payload = Resumption::payload(event.id, &event.body);
                (JobKey::Resume(step.clone()), payload)
            }
            (WaitKey::Step(step), WaitKind::Invoke) => {
                let payload = Resumption::payload(event.id, &result_memo(body));
                (JobKey::Resume(step.clone()), payload)
            }
            (WaitKey::Cancel(_), _) => {
                let reason = format!("cancelled by event {} ({})", event.name, event.external_id);
                (JobKey::Cancel, Json::from_value(&reason).ok()?)
            }
            (WaitKey::Step(_), WaitKind::Signal | WaitKind::Cancel) => return None,
        };
        let id = JobId { run: wait.run, key };
        let job = Job {
            id,
            function: wait.function,
            attempt: 0,
            due: self.parts.clock.now(),
            priority: Priority::new(Class::High, 0),
            payload: Some(payload),
            gates: Gates::NONE,
        };
        Some(Take {
            run: wait.run,
            key: wait.key.clone(),
            job,
        })
    }
}

/// Whether an event ends a wait that its lookup has found.
fn is_match(wait: &Wait, event: &Event, scope: &Scope<'_>) -> bool {
    let received_at = event.received_at;
    let is_open = received_at < wait.expires_at && wait.created_at <= received_at.after(limits::WAIT_FUDGE);
    // A run is not cancelled by what happened before it began, least of all by its own trigger.
    let is_later = wait.kind != WaitKind::Cancel || event.id.to_bytes() > wait.run.to_bytes();
    let fits = || match &wait.condition {
        None => true,
        Some(source) => {
            Expression::compile_bound(source).is_ok_and(|condition| condition.truth(scope).unwrap_or(false))
        }
    };
    is_open && is_later && wait.kind != WaitKind::Signal && fits()
}

/// The memo of an invoke, from the event that tells of the invoked run's end.
fn result_memo(finished: &Value) -> Json {
    let data = finished.get("data");
    let member = |name: &str| data.and_then(|data| data.get(name)).filter(|value| !value.is_null());
    let (name, value) = member("error").map_or_else(|| ("data", member("result")), |error| ("error", Some(error)));
    value
        .and_then(|value| Json::from_value(value).ok())
        .unwrap_or_else(Json::null)
        .wrapped(name)
}

#[cfg(test)]
mod tests;

//! Runs of durable endpoints, which apps begin by themselves, and what they report of them.

use std::sync::Arc;

use super::{Orchestrator, Refusal, TRIES};
use crate::domain::{
    Accept, App, Event, EventId, Function, Json, Opcode, OpcodeKind, Registration, Reply, Report, ReportRefused, RunId,
    Write, Written,
};
use crate::engine::{self, Input, Replied, endpoint};
use crate::executor::signals_taken;
use crate::link;

/// A run that an app has begun.
#[derive(Debug, Clone)]
pub struct Attendance {
    /// The run, by the id that the app gave it.
    pub run: RunId,
    /// Its endpoint, to be registered if it is not known as it is.
    pub function: Function,
    /// The endpoint's app.
    pub app: App,
    /// The request: the `data` of the run's event.
    pub request: Json,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// The run is durable, as it may have been before.
    Yes,
    /// Another request has begun a run of this id.
    Taken,
}

impl Orchestrator {
    /// Begins a run that its app is at work on by itself; when this returns it is durable.
    ///
    /// # Errors
    /// When the store can't, or the server is going down. Beginning the same run again does no harm.
    pub async fn attend(&self, attendance: Attendance) -> Result<Begun, Refusal> {
        let Attendance {
            run,
            function,
            app,
            request,
        } = attendance;
        let id = function.id;
        let is_known = |known: &Arc<Function>| {
            !known.archived
                && (&known.url, known.retries, known.endpoint) == (&function.url, function.retries, function.endpoint)
        };
        if !self.catalog().function(id).is_some_and(is_known) {
            let registration = Registration {
                app,
                functions: vec![function],
                keep_others: true,
            };
            self.register(registration).await?;
        }
        // By the run's id, so that it is begun once however often it is asked for.
        let event_id = EventId::derive(run.at(), &format!("request:{run}"));
        let event = Event::glued(
            endpoint::REQUEST,
            event_id,
            event_id.to_string(),
            run.at(),
            request.as_str(),
        );
        for _ in 0..TRIES {
            let catalog = self.catalog();
            let Some(function) = catalog.function(id) else {
                return Err(Refusal::UnknownFunction(id.to_string()));
            };
            let accept = Accept {
                event: event.clone(),
                runs: vec![endpoint::begin(function, &event, run, self.clock.now())],
                joins: Vec::new(),
                skips: Vec::new(),
                catalog: Some(catalog.revision()),
            };
            let book = &self.supervisor.book;
            match link::commit(book, vec![Write::Accept(accept)], false).await?.pop() {
                Some(Written::Outdated) => link::refresh_catalog(book).await?,
                Some(Written::Done { left_out, .. }) if left_out.is_empty() => return Ok(Begun::Yes),
                Some(Written::Done { .. }) => return Ok(Begun::Taken),
                // Begun before: by this request, whose answer was lost, or by another.
                Some(Written::Lost) | None => {
                    let known = self.store.events_by_id(&[event_id]).await?;
                    let is_same = known.first().is_some_and(|known| known.body == event.body);
                    return Ok(if is_same { Begun::Yes } else { Begun::Taken });
                }
            }
        }
        Err(Refusal::Overloaded)
    }

    /// Takes what an app reports of a run that it is at work on by itself; when this returns it is durable. The inner error
    /// says why the report is not taken.
    ///
    /// # Errors
    /// When the store can't, or the server is going down. Reporting it again does no harm.
    pub async fn attended(
        &self,
        run: RunId,
        ops: Vec<Opcode>,
        request_version: i32,
    ) -> Result<Result<(), ReportRefused>, Refusal> {
        let reports = &self.metrics.calls.reports;
        reports.watch(self.take_attended(run, ops, request_version).await)
    }

    async fn take_attended(
        &self,
        run: RunId,
        ops: Vec<Opcode>,
        request_version: i32,
    ) -> Result<Result<(), ReportRefused>, Refusal> {
        let ops: Vec<_> = ops.into_iter().map(without_fetch).collect();
        let report = Report {
            call: endpoint::session(run),
            ops: ops.clone(),
        };
        let signals_taken = signals_taken(&*self.store, run, &ops).await;
        let reply = Reply::Steps {
            ops,
            request_version,
            no_retry: false,
            retry_after: None,
        };
        let outside = self.outside();
        for _ in 0..TRIES {
            // What the server has gone on with was reported before: an answer was lost.
            let Some(state) = self.store.load_run(run).await? else {
                return Ok(Ok(()));
            };
            if state.has_superseded(&endpoint::session(run)) {
                return Ok(Err(ReportRefused::Stale));
            }
            if !endpoint::is_attended(&state) {
                return Ok(Ok(()));
            }
            if engine::refusal(&state, &report) == Some(ReportRefused::TooLarge) {
                return Ok(Err(ReportRefused::TooLarge));
            }
            let replied = Replied {
                job: endpoint::job(&state, self.clock.now()),
                request: endpoint::session(run).request,
                reply: reply.clone(),
                called_at: run.at().min(self.clock.now()),
                fetched: std::collections::HashMap::new(),
                signals_taken: signals_taken.clone(),
            };
            if outside.advance_from(state, &Input::Attended(Box::new(replied))).await? == Some(true) {
                return Ok(Ok(()));
            }
        }
        Err(Refusal::Overloaded)
    }
}

/// A request that the server is to make is asked for again by the call that follows, whose executor makes it.
fn without_fetch(op: Opcode) -> Opcode {
    match op.kind {
        OpcodeKind::Gateway(_) | OpcodeKind::AiGateway(_) => Opcode {
            kind: OpcodeKind::DiscoveryRequest,
            ..op
        },
        _ => op,
    }
}

//! Runs, as they are listed and shown.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::catalog::Catalog;
use callboard_actors::domain::{Event, EventId, FunctionId, Json, RunId, RunStatus};
use callboard_actors::ports::{RunPlace, RunSearch, RunSummary, RunTime};
use serde_json::{Value, json};

use super::answer::{Answer, Message, Page, Refused};
use super::apps::{find, find_function, id_within};
use super::reading::Asked;
use crate::http::graphql::{run_cursor, run_place};
use crate::http::sdk::runs::is_called;
use crate::http::state::{Api, State};

/// Items of a page unless told otherwise, and at most.
const DEFAULT: usize = 20;
const MOST: usize = 100;

/// An id of the path.
pub(super) fn run_id(text: &str) -> Result<RunId, Refused> {
    let invalid = |_| Refused::new(400, "invalid_field_format", "Run ID must be a valid ULID");
    text.parse().map_err(invalid)
}

pub(super) fn unknown() -> Refused {
    Refused::new(404, "not_found", "Run not found")
}

fn status_of(run: &RunSummary, is_called: bool) -> &'static str {
    match run.status {
        RunStatus::Queued if !is_called => "QUEUED",
        RunStatus::Queued | RunStatus::Running => "RUNNING",
        RunStatus::Completed => "COMPLETED",
        RunStatus::Failed => "FAILED",
        RunStatus::Cancelled => "CANCELLED",
    }
}

/// What a run returned, or its error: always an object.
fn output(output: &Json) -> Value {
    match output.to_tree() {
        Value::Object(members) => Value::Object(members),
        other => json!({ "data": other }),
    }
}

/// Prints runs.
pub(super) struct Printer<'a> {
    api: &'a Arc<dyn Api>,
    catalog: Arc<Catalog>,
    with_output: bool,
    /// The schedules of ticks.
    crons: HashMap<EventId, String>,
}

impl<'a> Printer<'a> {
    /// One that knows what it needs of these runs.
    pub(super) async fn of(api: &'a Arc<dyn Api>, runs: &[RunSummary], with_output: bool) -> Result<Self, Refused> {
        let ticks = runs.iter().filter(|run| run.event_name == Event::SCHEDULED);
        let ticks: Vec<EventId> = ticks.filter_map(|run| run.event_ids.first().copied()).collect();
        let events = if ticks.is_empty() {
            Vec::new()
        } else {
            api.store().events_by_id(&ticks).await?
        };
        Ok(Self {
            api,
            catalog: api.catalog(),
            with_output,
            crons: events
                .iter()
                .filter_map(|event| Some((event.id, event.cron()?)))
                .collect(),
        })
    }

    pub(super) async fn print(&self, run: &RunSummary) -> Message {
        let is_called = is_called(self.api, run).await;
        let function = self.catalog.function(run.function);
        let cron = run.event_ids.first().and_then(|id| self.crons.get(id));
        let event_name = Some(run.event_name.as_str()).filter(|name| *name != Event::SCHEDULED);
        let ids: Vec<String> = run.event_ids.iter().map(ToString::to_string).collect();
        let trigger = Message::new()
            .with("eventIds", ids)
            .with("eventName", event_name)
            .with("isBatch", run.batch.is_some())
            .with("batchId", run.batch.map(|batch| batch.to_string()))
            .with("cronSchedule", cron.cloned());
        let duration = run.ended_at.zip(run.started_at).map(|(end, start)| end.since(start));
        let name = |message: Message| match function {
            Some(function) => message
                .with("id", id_within(function))
                .with("name", function.name.as_str()),
            None => message.with("id", run.function.to_string()),
        };
        let has_output = self.with_output && matches!(run.status, RunStatus::Completed | RunStatus::Failed);
        Message::new()
            .with("id", run.id.to_string())
            .message("function", name(Message::new()))
            .message(
                "app",
                Message::new().with("id", function.map(|function| function.app.to_string())),
            )
            .with("status", status_of(run, is_called))
            .at("queuedAt", Some(run.id.at()))
            .at("startedAt", run.started_at)
            .at("endedAt", run.ended_at)
            .long("durationMs", duration.map(|duration| duration.as_millis()))
            .message("trigger", trigger)
            .raw("output", run.output.as_ref().filter(|_| has_output).map(output))
    }

    pub(super) async fn all(&self, runs: &[RunSummary]) -> Vec<Message> {
        let mut printed = Vec::with_capacity(runs.len());
        for run in runs {
            printed.push(self.print(run).await);
        }
        printed
    }
}

fn status(text: &str) -> Result<RunStatus, Refused> {
    RunStatus::parse(&text.to_lowercase())
        .ok_or_else(|| Refused::field("status", "is QUEUED, RUNNING, COMPLETED, FAILED or CANCELLED"))
}

/// The functions meant by a filter; `None`: all.
fn functions(catalog: &Catalog, asked: &Asked) -> Result<Option<Vec<FunctionId>>, Refused> {
    let apps: Vec<&str> = asked.all("appId").collect();
    let ids: Vec<&str> = asked.all("functionId").collect();
    if apps.is_empty() {
        return match ids.first() {
            None => Ok(None),
            Some(_) => Err(Refused::new(
                400,
                "missing_field",
                "`appId` is required with `functionId`",
            )),
        };
    }
    let mut meant = Vec::new();
    // Nothing fits what is not known.
    for view in apps.iter().filter_map(|app| find(catalog, app).ok()) {
        if ids.is_empty() {
            meant.extend(view.functions.iter().map(|function| function.id));
        } else {
            let functions = ids.iter().filter_map(|id| find_function(view, id).ok());
            meant.extend(functions.map(|function| function.id));
        }
    }
    Ok(Some(meant))
}

async fn listed(asked: &Asked, state: &State, of: Option<FunctionId>) -> Result<HttpResponse, Refused> {
    let api = state.api()?;
    let catalog = api.catalog();
    let limit = asked.limit(DEFAULT, MOST)?;
    let (from, until) = (asked.time("from")?, asked.time("until")?);
    if from.zip(until).is_some_and(|(from, until)| from >= until) {
        return Err(Refused::new(400, "invalid_request", "`from` has to be before `until`"));
    }
    let time = match asked.one("timeField") {
        None | Some("queuedAt") => RunTime::Queued,
        Some("startedAt") => RunTime::Started,
        Some("endedAt") => RunTime::Ended,
        Some(_) => return Err(Refused::field("timeField", "is queuedAt, startedAt or endedAt")),
    };
    let ascending = match asked.one("order").map(str::to_lowercase).as_deref() {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(Refused::field("order", "is asc or desc")),
    };
    let after = asked.one("cursor").map(run_place).transpose();
    let functions = match of {
        Some(function) => Some(vec![function]),
        None => functions(&catalog, asked)?,
    };
    let search = RunSearch {
        statuses: asked.all("status").map(status).collect::<Result<_, _>>()?,
        functions,
        deferred: asked.switch("isDeferred")?,
        time,
        from,
        until,
        order: time,
        ascending,
        after: after.map_err(|_| Refused::field("cursor", "is none of this list"))?,
        limit,
    };
    let found = api.store().find_runs(&search).await?;
    let last = found.items.last().map(|run| RunPlace {
        id: run.id,
        at: time.of(run),
    });
    let page = Page {
        cursor: last.filter(|_| found.has_more).map(run_cursor),
        has_more: found.has_more,
        limit,
    };
    let with_output = asked.switch("includeOutput")?.unwrap_or(false);
    let printer = Printer::of(api, &found.items, with_output).await?;
    let runs = printer.all(&found.items).await;
    Ok(Answer::list(runs, page, api.clock().now()).between(from, until).into())
}

pub(super) async fn list(req: HttpRequest, state: State) -> Result<HttpResponse, Refused> {
    listed(&Asked::of(&req), &state, None).await
}

pub(super) async fn list_of_function(
    path: Path<(String, String)>,
    req: HttpRequest,
    state: State,
) -> Result<HttpResponse, Refused> {
    let catalog = state.api()?.catalog();
    let function = find_function(find(&catalog, &path.0)?, &path.1)?.id;
    listed(&Asked::of(&req), &state, Some(function)).await
}

pub(super) async fn get(id: Path<String>, req: HttpRequest, state: State) -> Result<HttpResponse, Refused> {
    let api = state.api()?;
    let with_output = Asked::of(&req).switch("includeOutput")?.unwrap_or(false);
    let view = api.store().run_view(run_id(&id)?).await?.ok_or_else(unknown)?;
    let runs = [view.summary];
    let printer = Printer::of(api, &runs, with_output).await?;
    Ok(Answer::new(printer.print(&runs[0]).await, api.clock().now()).into())
}

/// The runs that an event has started.
pub(super) async fn list_of_event(id: Path<String>, req: HttpRequest, state: State) -> Result<HttpResponse, Refused> {
    const MOST: usize = 40;
    let api = state.api()?;
    let asked = Asked::of(&req);
    let limit = asked.limit(DEFAULT, MOST)?;
    let with_output = asked.switch("includeOutput")?.unwrap_or(false);
    let invalid = |_| Refused::new(400, "invalid_field_format", "Event ID must be a valid ULID");
    let id: EventId = id.parse().map_err(invalid)?;
    let unknown = || Refused::new(404, "not_found", "Event not found");
    let view = api.store().event_view(id).await?.ok_or_else(unknown)?;
    let key = |run: &RunSummary| run.id.to_string();
    let (runs, page) = Page::cut(view.runs.into_iter(), key, asked.one("cursor"), limit)?;
    let printer = Printer::of(api, &runs, with_output).await?;
    let printed = printer.all(&runs).await;
    Ok(Answer::list(printed, page, api.clock().now()).into())
}

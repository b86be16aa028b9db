//! Lists of runs: filters, orders, search and pages.

use std::collections::HashSet;

use async_graphql::{Context, Enum, InputObject, Object, Result, SimpleObject};
use callboard_actors::domain::{Event, EventId, FunctionId, RunId, RunStatus};
use callboard_actors::ports::{RunPlace, RunSearch, RunSummary, RunTime};

use super::asked::{Asked, asked, failed, id, invalid};
use super::function_run::FunctionRunStatus;
use super::paging::{self, PageInfo, page_size};
use super::run::{FunctionRunV2, is_cron};
use super::scalars::{Time, Uuid};
use super::search::{BATCH, BOUND, Search};

/// Runs on one page at most.
const MOST: usize = 399;
/// What lines of a search may be about.
const ROOTS: [&str; 3] = ["event", "output", "error"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(name = "RunsV2OrderByField")]
enum OrderField {
    #[graphql(name = "QUEUED_AT")]
    Queued,
    #[graphql(name = "STARTED_AT")]
    Started,
    #[graphql(name = "ENDED_AT")]
    Ended,
}

impl From<OrderField> for RunTime {
    fn from(field: OrderField) -> Self {
        match field {
            OrderField::Queued => Self::Queued,
            OrderField::Started => Self::Started,
            OrderField::Ended => Self::Ended,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(name = "RunsOrderByDirection")]
enum OrderDirection {
    Asc,
    Desc,
}

#[derive(Debug, InputObject)]
pub(super) struct RunsV2OrderBy {
    field: OrderField,
    direction: OrderDirection,
}

#[derive(Debug, InputObject)]
pub(super) struct RunsFilterV2 {
    from: Time,
    until: Option<Time>,
    #[graphql(default_with = "OrderField::Queued")]
    time_field: OrderField,
    status: Option<Vec<FunctionRunStatus>>,
    #[graphql(name = "functionIDs")]
    function_ids: Option<Vec<Uuid>>,
    #[graphql(name = "appIDs")]
    app_ids: Option<Vec<Uuid>>,
    is_deferred: Option<bool>,
    query: Option<String>,
}

/// What to find, without the place to begin at.
#[derive(Debug)]
struct Wanted {
    search: RunSearch,
    expressions: Option<Search>,
}

impl Wanted {
    fn of(asked: &Asked, filter: RunsFilterV2, order: &[RunsV2OrderBy]) -> Result<Self> {
        let expressions = Search::parse(filter.query.as_deref(), &ROOTS)?;
        let wanted_statuses = filter.status.unwrap_or_default();
        let mut statuses: Vec<RunStatus> = wanted_statuses.iter().copied().filter_map(stored).collect();
        statuses.dedup();
        let mut functions = functions(asked, filter.function_ids, filter.app_ids)?;
        if statuses.is_empty() && !wanted_statuses.is_empty() {
            functions = Some(Vec::new());
        }
        // A further order could only tell apart runs of the same millisecond.
        let order = order.first();
        let search = RunSearch {
            statuses,
            functions,
            deferred: filter.is_deferred,
            time: filter.time_field.into(),
            from: Some(filter.from.0),
            until: Some(filter.until.map_or_else(|| asked.now(), |until| until.0)),
            order: order.map_or(RunTime::Queued, |order| order.field.into()),
            ascending: order.is_some_and(|order| order.direction == OrderDirection::Asc),
            after: None,
            limit: 0,
        };
        Ok(Self { search, expressions })
    }
}

/// The store's word for a status; none for runs that are in no list.
fn stored(status: FunctionRunStatus) -> Option<RunStatus> {
    match status {
        FunctionRunStatus::Completed => Some(RunStatus::Completed),
        FunctionRunStatus::Failed => Some(RunStatus::Failed),
        FunctionRunStatus::Cancelled => Some(RunStatus::Cancelled),
        FunctionRunStatus::Running => Some(RunStatus::Running),
        FunctionRunStatus::Queued => Some(RunStatus::Queued),
        FunctionRunStatus::Skipped => None,
    }
}

/// The functions meant by ids of functions and of apps; `None`: all.
fn functions(asked: &Asked, ids: Option<Vec<Uuid>>, apps: Option<Vec<Uuid>>) -> Result<Option<Vec<FunctionId>>> {
    let ids = ids.filter(|ids| !ids.is_empty());
    let ids: Option<Result<HashSet<FunctionId>>> =
        ids.map(|ids| ids.iter().map(|uuid| id("a function", &uuid.0)).collect());
    let ids = ids.transpose()?;
    let apps = apps.filter(|apps| !apps.is_empty());
    let Some(apps) = apps else {
        return Ok(ids.map(|ids| ids.into_iter().collect()));
    };
    let is_meant = |name: &str| {
        let id = FunctionId::app_uuid(name).to_string();
        apps.iter().any(|app| app.0.eq_ignore_ascii_case(&id))
    };
    let of_apps = asked.catalog.apps().iter().filter(|view| is_meant(&view.app.name));
    let of_apps = of_apps.flat_map(|view| view.functions.iter().map(|function| function.id));
    Ok(Some(
        of_apps
            .filter(|id| ids.as_ref().is_none_or(|ids| ids.contains(id)))
            .collect(),
    ))
}

/// A list of runs.
#[derive(Debug)]
pub(super) struct RunsV2Connection {
    wanted: Wanted,
    page: Found,
    cursors: Vec<String>,
    has_previous: bool,
}

#[derive(Debug, Default)]
struct Found {
    runs: Vec<RunSummary>,
    has_more: bool,
    /// Where the search stopped, if that is not the last run found.
    stopped: Option<RunPlace>,
}

#[derive(Debug, SimpleObject)]
struct FunctionRunV2Edge {
    node: FunctionRunV2,
    cursor: String,
}

#[Object]
impl RunsV2Connection {
    async fn edges(&self) -> Vec<FunctionRunV2Edge> {
        let edges = self.page.runs.iter().zip(&self.cursors);
        edges
            .map(|(run, cursor)| FunctionRunV2Edge {
                node: FunctionRunV2(run.clone()),
                cursor: cursor.clone(),
            })
            .collect()
    }

    async fn page_info(&self) -> PageInfo {
        let mut cursors = self.cursors.clone();
        cursors.extend(self.page.stopped.map(paging::run_cursor));
        PageInfo::of(&cursors, self.page.has_more, self.has_previous)
    }

    /// How many there are on all pages; of a search by expressions, how many among those that one search looks at.
    async fn total_count(&self, ctx: &Context<'_>, preview: Option<bool>) -> Result<i32> {
        // Both views see the same runs.
        let _ = preview;
        let asked = asked(ctx);
        let count = if self.wanted.expressions.is_some() {
            look(asked, &self.wanted, None, BOUND).await?.runs.len() as u64
        } else {
            asked.store().count_runs(&self.wanted.search).await.map_err(failed)?
        };
        Ok(i32::try_from(count).unwrap_or(i32::MAX))
    }
}

fn place(wanted: &Wanted, run: &RunSummary) -> RunPlace {
    RunPlace {
        id: run.id,
        at: wanted.search.order.of(run),
    }
}

/// A page of runs.
async fn look(asked: &Asked, wanted: &Wanted, after: Option<RunPlace>, size: usize) -> Result<Found> {
    let mut search = RunSearch {
        after,
        limit: size,
        ..wanted.search.clone()
    };
    let Some(expressions) = &wanted.expressions else {
        let page = asked.store().find_runs(&search).await.map_err(failed)?;
        return Ok(Found {
            runs: page.items,
            has_more: page.has_more,
            stopped: None,
        });
    };
    search.limit = BATCH;
    let mut found = Found::default();
    for _ in 0..BOUND / BATCH {
        let page = asked.store().find_runs(&search).await.map_err(failed)?;
        let ids: Vec<EventId> = page
            .items
            .iter()
            .flat_map(|run| run.event_ids.iter().copied())
            .collect();
        let events = asked.store().events_by_id(&ids).await.map_err(failed)?;
        let with_events = page.items.into_iter().map(|run| {
            let own = events.iter().filter(|event| run.event_ids.contains(&event.id)).cloned();
            let own: Vec<Event> = own.collect();
            (run, own)
        });
        let looked = expressions
            .runs(with_events.collect(), asked.now().to_datetime())
            .await?;
        let all = looked.len();
        for (seen, (run, fits)) in looked.into_iter().enumerate() {
            search.after = Some(place(wanted, &run));
            if fits {
                found.runs.push(run);
            }
            if found.runs.len() == size {
                found.has_more = page.has_more || seen + 1 < all;
                return Ok(found);
            }
        }
        if !page.has_more {
            return Ok(found);
        }
    }
    found.has_more = true;
    found.stopped = search.after;
    Ok(found)
}

/// The questions about runs.
#[derive(Debug, Default)]
pub(super) struct Query;

#[Object(name = "QueryOfRuns")]
impl Query {
    /// Runs, page by page.
    #[graphql(complexity = "1_000 + page_size(first, MOST) * child_complexity")]
    async fn runs(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 100)] first: i32,
        after: Option<String>,
        order_by: Vec<RunsV2OrderBy>,
        filter: RunsFilterV2,
        preview: Option<bool>,
    ) -> Result<RunsV2Connection> {
        // Both views see the same runs.
        let _ = preview;
        let asked = asked(ctx);
        if order_by.len() > 3 {
            return Err(invalid("there are three fields to order by"));
        }
        let wanted = Wanted::of(asked, filter, &order_by)?;
        let after = after.filter(|after| !after.is_empty());
        let place_after = after.as_deref().map(paging::run_place).transpose()?;
        let page = look(asked, &wanted, place_after, page_size(first, MOST)).await?;
        let crons: Vec<EventId> = page
            .runs
            .iter()
            .filter(|run| is_cron(run))
            .filter_map(|run| run.event_ids.first().copied())
            .collect();
        asked.load_events(&crons).await?;
        let cursors = page.runs.iter().map(|run| paging::run_cursor(place(&wanted, run)));
        Ok(RunsV2Connection {
            cursors: cursors.collect(),
            wanted,
            page,
            has_previous: after.is_some(),
        })
    }

    /// A run.
    async fn run(&self, ctx: &Context<'_>, #[graphql(name = "runID")] run_id: String) -> Result<Option<FunctionRunV2>> {
        let viewed = asked(ctx).run(id::<RunId>("a run", &run_id)?).await?;
        Ok(Some(FunctionRunV2(viewed.view.summary.clone())))
    }
}

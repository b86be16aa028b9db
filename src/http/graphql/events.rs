//! Lists of events, and the stream of events with their runs.

use std::time::Duration;

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use callboard_actors::domain::{Event as Stored, EventId};
use callboard_actors::ports::{EventSearch, RunSummary};

use super::asked::{Asked, asked, failed, id};
use super::event::{Event, EventV2};
use super::function_run::FunctionRun;
use super::functions::TriggerType;
use super::paging::{self, PageInfo, page_size};
use super::run::{is_cron, schedule};
use super::scalars::{Time, Ulid};
use super::search::{BATCH, BOUND, Search};

/// Events on one page at most.
const MOST: usize = 51;
/// Items of the stream at most.
const MOST_OF_STREAM: usize = 1_000;
/// How far back the list without a time goes.
const WINDOW: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, InputObject)]
pub(super) struct EventsFilter {
    from: Time,
    until: Option<Time>,
    event_names: Option<Vec<String>>,
    #[graphql(default)]
    include_internal_events: bool,
    query: Option<String>,
}

/// A list of events.
#[derive(Debug)]
pub(super) struct EventsConnection {
    wanted: EventSearch,
    expressions: Option<Search>,
    page: Found,
    has_previous: bool,
}

#[derive(Debug, Default)]
struct Found {
    events: Vec<Stored>,
    has_more: bool,
    /// Where the search stopped, if that is not the last event found.
    stopped: Option<EventId>,
}

#[derive(Debug, SimpleObject)]
struct EventsEdge {
    node: EventV2,
    cursor: String,
}

#[Object]
impl EventsConnection {
    async fn edges(&self) -> Vec<EventsEdge> {
        let edge = |event: &Stored| EventsEdge {
            cursor: paging::event_cursor(event.id),
            node: EventV2(event.clone()),
        };
        self.page.events.iter().map(edge).collect()
    }

    async fn page_info(&self) -> PageInfo {
        let ids = self.page.events.iter().map(|event| event.id).chain(self.page.stopped);
        let cursors: Vec<String> = ids.map(paging::event_cursor).collect();
        PageInfo::of(&cursors, self.page.has_more, self.has_previous)
    }

    /// How many there are on all pages; of a search by expressions, how many among those that one search looks at.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let asked = asked(ctx);
        let count = if self.expressions.is_some() {
            let all = EventSearch {
                before: None,
                limit: BOUND,
                ..self.wanted.clone()
            };
            look(asked, &all, self.expressions.as_ref()).await?.events.len() as u64
        } else {
            asked.store().count_events(&self.wanted).await.map_err(failed)?
        };
        Ok(i32::try_from(count).unwrap_or(i32::MAX))
    }
}

/// A page of events, of the size that `wanted` has as its limit.
async fn look(asked: &Asked, wanted: &EventSearch, expressions: Option<&Search>) -> Result<Found> {
    let Some(expressions) = expressions else {
        let page = asked.store().find_events(wanted).await.map_err(failed)?;
        return Ok(Found {
            events: page.items,
            has_more: page.has_more,
            stopped: None,
        });
    };
    let mut search = EventSearch {
        limit: BATCH,
        ..wanted.clone()
    };
    let mut found = Found::default();
    for _ in 0..BOUND / BATCH {
        let page = asked.store().find_events(&search).await.map_err(failed)?;
        let looked = expressions.events(page.items, asked.now().to_datetime()).await?;
        let all = looked.len();
        for (seen, (event, fits)) in looked.into_iter().enumerate() {
            search.before = Some(event.id);
            if fits {
                found.events.push(event);
            }
            if found.events.len() == wanted.limit {
                found.has_more = page.has_more || seen + 1 < all;
                return Ok(found);
            }
        }
        if !page.has_more {
            return Ok(found);
        }
    }
    found.has_more = true;
    found.stopped = search.before;
    Ok(found)
}

/// An event in the stream.
#[derive(Debug)]
pub(super) struct StreamItem(Stored);

impl StreamItem {
    /// The runs of functions that there still are.
    async fn runs(&self, asked: &Asked) -> Result<Vec<RunSummary>> {
        let mut runs = asked.runs_of(self.0.id).await?;
        runs.retain(|run| {
            asked
                .catalog
                .function(run.function)
                .is_some_and(|function| !function.archived)
        });
        Ok(runs)
    }
}

#[Object]
impl StreamItem {
    async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The event's name, or the schedule of the run that it is about.
    async fn trigger(&self, ctx: &Context<'_>) -> Result<String> {
        let asked = asked(ctx);
        if self.0.name == Stored::SCHEDULED {
            for run in self.runs(asked).await?.iter().filter(|run| is_cron(run)) {
                if let Some(cron) = schedule(asked, run).await? {
                    return Ok(cron);
                }
            }
        }
        Ok(self.0.name.clone())
    }

    #[graphql(name = "type")]
    async fn kind(&self) -> TriggerType {
        if self.0.name == Stored::SCHEDULED {
            TriggerType::Cron
        } else {
            TriggerType::Event
        }
    }

    async fn created_at(&self) -> Time {
        Time(self.0.ts)
    }

    #[graphql(name = "runs")]
    async fn function_runs(&self, ctx: &Context<'_>) -> Result<Option<Vec<Option<FunctionRun>>>> {
        let runs = self.runs(asked(ctx)).await?;
        Ok(Some(runs.into_iter().map(|run| Some(FunctionRun::of(run))).collect()))
    }

    async fn in_batch(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.runs(asked(ctx)).await?.iter().any(|run| run.batch.is_some()))
    }
}

#[derive(Debug, InputObject)]
pub(super) struct StreamQuery {
    after: Option<ID>,
    before: Option<ID>,
    #[graphql(default = 20)]
    limit: i32,
    include_internal_events: Option<bool>,
}

fn stream_size(limit: i32) -> usize {
    usize::try_from(limit).unwrap_or(0).clamp(1, MOST_OF_STREAM)
}

#[derive(Debug, InputObject)]
pub(super) struct EventQuery {
    #[graphql(name = "workspaceId", default_with = "\"local\".to_owned()")]
    workspace_id: String,
    event_id: ID,
}

#[derive(Debug, InputObject)]
pub(super) struct EventsQuery {
    #[graphql(name = "workspaceId", default_with = "\"local\".to_owned()")]
    workspace_id: String,
    last_event_id: Option<ID>,
}

/// The questions about events.
#[derive(Debug, Default)]
pub(super) struct Query;

#[Object(name = "QueryOfEvents")]
impl Query {
    /// Events with their runs, from new to old.
    #[graphql(complexity = "500 + stream_size(query.limit) * child_complexity")]
    async fn stream(&self, ctx: &Context<'_>, query: StreamQuery) -> Result<Vec<StreamItem>> {
        let asked = asked(ctx);
        let place = |text: Option<ID>| text.map(|text| id::<EventId>("an event", &text)).transpose();
        let search = EventSearch {
            internal: query.include_internal_events.unwrap_or(false),
            after: place(query.after)?,
            before: place(query.before)?,
            limit: stream_size(query.limit),
            ..EventSearch::default()
        };
        let page = asked.store().find_events(&search).await.map_err(failed)?;
        let ids: Vec<EventId> = page.items.iter().map(|event| event.id).collect();
        let fields = ctx.look_ahead();
        if ["runs", "inBatch", "trigger"]
            .iter()
            .any(|field| fields.field(field).exists())
        {
            asked.load_runs_of(&ids).await?;
        }
        Ok(page.items.into_iter().map(StreamItem).collect())
    }

    /// An event.
    async fn event(&self, ctx: &Context<'_>, query: EventQuery) -> Result<Option<Event>> {
        // There is one workspace, whatever it is called.
        let EventQuery {
            workspace_id: _,
            event_id,
        } = query;
        asked(ctx)
            .event(id("an event", &event_id)?)
            .await
            .map(|event| Some(Event(event)))
    }

    /// The newest events of the last hour whose senders gave them no id, or one of the server's kind.
    #[graphql(deprecation = "use eventsV2", complexity = "500 + 51 * child_complexity")]
    async fn events(&self, ctx: &Context<'_>, query: EventsQuery) -> Result<Vec<Event>> {
        let asked = asked(ctx);
        let EventsQuery {
            workspace_id: _,
            last_event_id,
        } = query;
        let before = last_event_id.filter(|id| !id.is_empty());
        let search = EventSearch {
            from: Some(asked.now().before(WINDOW)),
            before: before.map(|text| id::<EventId>("an event", &text)).transpose()?,
            limit: MOST,
            ..EventSearch::default()
        };
        let page = asked.store().find_events(&search).await.map_err(failed)?;
        let ids: Vec<EventId> = page.items.iter().map(|event| event.id).collect();
        asked.load_runs_of(&ids).await?;
        let with_ulids = page
            .items
            .into_iter()
            .filter(|event| event.external_id.parse::<EventId>().is_ok());
        Ok(with_ulids.map(Event).collect())
    }

    /// An event.
    async fn event_v2(&self, ctx: &Context<'_>, #[graphql(name = "id")] event: Ulid) -> Result<EventV2> {
        asked(ctx).event(id("an event", &event.0)?).await.map(EventV2)
    }

    /// Events, from new to old, page by page.
    #[graphql(complexity = "1_000 + page_size(first, MOST) * child_complexity")]
    async fn events_v2(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 40)] first: i32,
        after: Option<String>,
        filter: EventsFilter,
    ) -> Result<EventsConnection> {
        let asked = asked(ctx);
        let expressions = Search::parse(filter.query.as_deref(), &["event"])?;
        let after = after.filter(|after| !after.is_empty());
        let until = filter.until.map_or_else(|| asked.now(), |until| until.0);
        let wanted = EventSearch {
            names: filter.event_names.unwrap_or_default(),
            internal: filter.include_internal_events,
            from: Some(filter.from.0),
            // The bound itself counts.
            until: Some(until.after(Duration::from_millis(1))),
            after: None,
            before: after.as_deref().map(paging::event_place).transpose()?,
            limit: page_size(first, MOST),
        };
        let page = look(asked, &wanted, expressions.as_ref()).await?;
        if ctx.look_ahead().field("edges").field("node").field("runs").exists() {
            let ids: Vec<EventId> = page.events.iter().map(|event| event.id).collect();
            asked.load_runs_of(&ids).await?;
        }
        Ok(EventsConnection {
            wanted,
            expressions,
            page,
            has_previous: after.is_some(),
        })
    }
}

//! What the writes of a segment claim: the parameters of the function `claim`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use callboard_actors::domain::{
    Accept, Advance, ClaimId, Event, EventId, Fire, FunctionId, Gather, GatheringId, Join, Json, NewRun, RateClaim,
    Route, RunId, RunStatus, SingletonMode, Timestamp, WaitKey, limits,
};
use sqlx::postgres::PgArguments;
use uuid::Uuid;

use super::super::cells::{Id as _, digest, text};
use super::columns::{Rows, rows};
use super::effects::ROUTED_SKIPS;
use crate::store::batch::Folded;
use crate::store::paging::sql_millis;

rows! {
    /// A run that moves on.
    Move<'a> {
        run: Uuid,
        expected: i64,
        status: Option<&'static str>,
        started: Option<i64>,
        request_version: Option<i32>,
        plan_only: Option<bool>,
        group: Option<&'a str>,
        reporter: Option<Cow<'a, str>>,
        output: Option<&'a str>,
        ended: Option<i64>,
        unsuccessful: Option<bool>,
    }
}

rows! {
    /// An event that is routed.
    Routed {
        event: Uuid,
        catalog: Option<i64>,
    }
}

rows! {
    /// An event that comes in or is emitted.
    Coming<'a> {
        id: Uuid,
        external_id: Cow<'a, str>,
        has_own_id: bool,
        name: Cow<'a, str>,
        name_id: Uuid,
        ts: i64,
        received_at: i64,
        body: &'a str,
        /// The run or gathering that emits it.
        by: Option<Uuid>,
        /// Whether it has to be routed in any case.
        heard: bool,
        /// The revision of the catalog that it was matched against.
        catalog: Option<i64>,
    }
}

rows! {
    /// A run to be created.
    New<'a> {
        id: Uuid,
        function: Uuid,
        status: &'static str,
        version: i64,
        event: Uuid,
        /// All events as the text of an array, if there are several.
        events: Option<String>,
        event_name: Cow<'a, str>,
        request_version: i32,
        plan_only: bool,
        group: String,
        priority: i32,
        started: Option<i64>,
        gates: Option<String>,
        key: Option<Uuid>,
        key_text: Option<Cow<'a, str>>,
        /// Runs of the key that are older don't hold it any more.
        key_since: Uuid,
        /// The event or gathering of the write it belongs to.
        owner: Uuid,
        /// Where to record that it was left out for its key.
        skip_seq: i64,
        singleton: Option<Uuid>,
        original: Option<Uuid>,
        /// As JSON.
        edited: Option<String>,
        batch: Option<Uuid>,
    }
}

rows! {
    /// A new run or a join that has to pass a rate limit.
    Limited<'a> {
        bucket: Uuid,
        run: Uuid,
        at: i64,
        gap: i64,
        tolerance: i64,
        owner: Uuid,
        function: Uuid,
        skip_seq: i64,
        reason: &'static str,
        detail: Cow<'a, str>,
    }
}

rows! {
    /// What is told to whoever invoked a run that does not pass.
    Refusal<'a> {
        run: Uuid,
        id: Uuid,
        name: Cow<'a, str>,
        at: i64,
        body: &'a str,
        /// Whether it does not pass for want of a lock; else for its rate limit.
        of_lock: bool,
    }
}

impl<'a> Refusal<'a> {
    fn new(run: Uuid, event: &'a Event, of_lock: bool) -> Self {
        Self {
            run,
            id: event.id.cell(),
            name: text(&event.name),
            at: event.received_at.as_millis(),
            body: event.body.as_str(),
            of_lock,
        }
    }
}

rows! {
    /// A lock that is given up.
    Freed {
        lock: Uuid,
        run: Uuid,
    }
}

rows! {
    /// A new run that is to hold a lock.
    Locking<'a> {
        lock: Uuid,
        run: Uuid,
        evicts: bool,
        owner: Uuid,
        function: Uuid,
        skip_seq: i64,
        detail: Cow<'a, str>,
        /// Of the job for whoever has to give way.
        due: i64,
        priority: i32,
        payload: String,
    }
}

rows! {
    /// A gathering that ends.
    Firing {
        gathering: Uuid,
        bucket: Uuid,
        version: i64,
        catalog: Option<i64>,
    }
}

rows! {
    /// An event that joins a gathering.
    Joining<'a> {
        id: Uuid,
        bucket: Uuid,
        function: Uuid,
        event: Uuid,
        at: i64,
        ts: i64,
        bytes: i64,
        is_batch: bool,
        /// The period of a debounce, the timeout of a batch.
        quiet: i64,
        /// The timeout of a debounce.
        longest: Option<i64>,
        size: i64,
        stays: bool,
        own: Option<Uuid>,
        own_text: Option<Cow<'a, str>>,
        until: i64,
        key: Option<Cow<'a, str>>,
        skip_seq: i64,
    }
}

rows! {
    /// A wait that is taken.
    Taken {
        run: Uuid,
        key: String,
        owner: Uuid,
    }
}

/// The parameters.
#[derive(Default)]
pub(super) struct Claims<'a> {
    /// Whether every event has to be routed.
    routes_all: bool,
    moves: Vec<Move<'a>>,
    routes: Vec<Routed>,
    events: Vec<Coming<'a>>,
    runs: Vec<New<'a>>,
    limits: Vec<Limited<'a>>,
    refusals: Vec<Refusal<'a>>,
    freed: Vec<Freed>,
    locks: Vec<Locking<'a>>,
    fires: Vec<Firing>,
    joins: Vec<Joining<'a>>,
    /// With the event that takes it; the first one counts.
    takes: BTreeMap<(RunId, &'a WaitKey), EventId>,
}

impl<'a> Claims<'a> {
    pub(super) const COLUMNS: usize = <Vec<Move<'_>>>::COLUMNS
        + <Vec<Routed>>::COLUMNS
        + <Vec<Coming<'_>>>::COLUMNS
        + <Vec<New<'_>>>::COLUMNS
        + <Vec<Limited<'_>>>::COLUMNS
        + <Vec<Refusal<'_>>>::COLUMNS
        + <Vec<Freed>>::COLUMNS
        + <Vec<Locking<'_>>>::COLUMNS
        + <Vec<Taken>>::COLUMNS
        + <Vec<Firing>>::COLUMNS
        + <Vec<Joining<'_>>>::COLUMNS;

    /// No claims yet. With `routes_all` every event has to be routed.
    pub(super) fn new(routes_all: bool) -> Self {
        Self {
            routes_all,
            ..Self::default()
        }
    }

    pub(super) fn accept(&mut self, accept: &'a Accept, awaited: &HashSet<&str>) {
        let is_awaited = awaited.contains(accept.event.name.as_str());
        self.event(&accept.event, None, is_awaited, accept.catalog);
        self.new_runs(accept.event.id.cell(), &accept.runs, accept.skips.len(), 0);
        accept.joins.iter().for_each(|join| self.join(join));
    }

    pub(super) fn fire(&mut self, fire: &'a Fire) {
        let owner = fire.gathering.cell();
        self.fires.push(Firing {
            gathering: owner,
            bucket: fire.bucket.as_uuid(),
            version: number(fire.version),
            catalog: fire.catalog.map(number),
        });
        for run in &fire.runs {
            let place = Join::skip_place(run.state.function);
            self.new_runs(owner, std::slice::from_ref(run), 0, place);
        }
        for event in &fire.answers {
            self.event(event, Some(owner), true, None);
        }
    }

    fn join(&mut self, join: &'a Join) {
        let skip_seq = Join::skip_place(join.function);
        if let Some(claim) = &join.rate {
            self.limit(claim, join.id.cell(), join.event, join.function, skip_seq);
        }
        let (quiet, longest, size) = match join.gather {
            Gather::Debounce { period, timeout } => (sql_millis(period), timeout.map(sql_millis), 0),
            Gather::Batch { max_size, timeout } => (sql_millis(timeout), None, i64::from(max_size)),
        };
        self.joins.push(Joining {
            id: join.id.cell(),
            bucket: join.bucket.as_uuid(),
            function: join.function.cell(),
            event: join.event.cell(),
            at: join.at.as_millis(),
            ts: join.ts.as_millis(),
            bytes: number(join.bytes),
            is_batch: join.is_batch(),
            quiet,
            longest,
            size,
            stays: join.is_awaited,
            own: join.idempotency.as_deref().map(digest),
            own_text: join.idempotency.as_deref().map(text),
            until: join.at.after(limits::IDEMPOTENCY_WINDOW).as_millis(),
            key: join.key.as_deref().map(text),
            skip_seq,
        });
    }

    pub(super) fn route(&mut self, route: &'a Route) {
        self.routes.push(Routed {
            event: route.event.cell(),
            catalog: route.catalog.map(number),
        });
        self.new_runs(route.event.cell(), &route.runs, route.skips.len(), ROUTED_SKIPS);
        route.joins.iter().for_each(|join| self.join(join));
        for take in &route.takes {
            self.takes.entry((take.run, &take.key)).or_insert(route.event);
        }
    }

    pub(super) fn advance(&mut self, advance: &Advance, folded: &'a Folded<'a>, awaited: &HashSet<&str>) {
        self.moves.push(Move {
            run: advance.run.cell(),
            expected: number(advance.expected),
            status: folded.status.map(RunStatus::as_str),
            started: folded.started_at.map(Timestamp::as_millis),
            request_version: folded.request_version,
            plan_only: folded.plan_only,
            group: folded.group.as_deref(),
            reporter: folded.reporter.as_deref().map(text),
            output: folded.output.map(Json::as_str),
            ended: folded.ended_at.map(Timestamp::as_millis),
            unsuccessful: folded
                .status
                .filter(|_| folded.ended_at.is_some())
                .map(|status| status != RunStatus::Completed),
        });
        self.freed.extend(folded.released.map(|lock| Freed {
            lock: lock.as_uuid(),
            run: advance.run.cell(),
        }));
        for (event, in_any_case) in &folded.emits {
            let is_heard = *in_any_case || awaited.contains(event.name.as_str());
            self.event(event, Some(advance.run.cell()), is_heard, None);
        }
    }

    fn event(&mut self, event: &'a Event, by: Option<Uuid>, heard: bool, catalog: Option<u64>) {
        self.events.push(Coming {
            id: event.id.cell(),
            external_id: text(&event.external_id),
            has_own_id: event.has_own_id,
            name: text(&event.name),
            name_id: digest(&event.name),
            ts: event.ts.as_millis(),
            received_at: event.received_at.as_millis(),
            body: event.body.as_str(),
            by,
            heard: heard || self.routes_all,
            catalog: catalog.map(number),
        });
    }

    fn new_runs(&mut self, owner: Uuid, runs: &'a [NewRun], skips: usize, skips_from: i64) {
        for (index, run) in runs.iter().enumerate() {
            let state = &run.state;
            let skip_seq = skips_from + i64::try_from(skips + index).unwrap_or(i64::MAX - skips_from);
            self.start(run, skip_seq);
            let oldest = state.created_at().before(limits::IDEMPOTENCY_WINDOW).as_millis() + 1;
            self.runs.push(New {
                id: state.id.cell(),
                function: state.function.cell(),
                status: state.status.as_str(),
                version: number(state.version),
                event: state.event_ids.first().map_or(Uuid::nil(), |event| event.cell()),
                events: several(&state.event_ids),
                event_name: text(&state.event_name),
                request_version: state.request_version,
                plan_only: state.plan_only,
                group: serde_json::to_string(&state.group).expect("a set of texts serialises"),
                priority: state.priority.seconds(),
                started: state.started_at.map(Timestamp::as_millis),
                gates: (!state.gates.is_empty()).then(|| text(&state.gates.to_text()).into_owned()),
                key: run.idempotency.as_deref().map(digest),
                key_text: run.idempotency.as_deref().map(text),
                key_since: RunId::first_at(Timestamp::from_millis(oldest)).cell(),
                owner,
                skip_seq,
                singleton: state.lock.map(ClaimId::as_uuid),
                original: state.original.map(RunId::cell),
                edited: state.edited.as_ref().map(|edited| {
                    let json = serde_json::to_string(edited).expect("texts serialise");
                    text(&json).into_owned()
                }),
                batch: state.batch.map(GatheringId::cell),
            });
        }
    }

    /// What a new run has to get past.
    fn start(&mut self, run: &'a NewRun, skip_seq: i64) {
        let (id, function) = (run.state.id, run.state.function);
        if let Some(claim) = &run.rate {
            self.limit(claim, id.cell(), run.cause(), function, skip_seq);
        }
        if let Some(claim) = &run.lock {
            let refusal = claim.refusal.iter();
            self.refusals
                .extend(refusal.map(|event| Refusal::new(id.cell(), event, true)));
            // Whom it is for is known only then.
            let job = claim.eviction(function, id, id);
            self.locks.push(Locking {
                lock: claim.bucket.as_uuid(),
                run: id.cell(),
                evicts: claim.mode == SingletonMode::Cancel,
                owner: run.cause().cell(),
                function: function.cell(),
                skip_seq,
                detail: text(&claim.rule),
                due: job.due.as_millis(),
                priority: job.priority.seconds(),
                payload: job.payload.map_or_else(String::new, |payload| payload.to_string()),
            });
        }
    }

    /// A rate limit that a run or a join of that id has to pass.
    fn limit(&mut self, claim: &'a RateClaim, run: Uuid, event: EventId, function: FunctionId, skip_seq: i64) {
        self.limits.push(Limited {
            bucket: claim.bucket.as_uuid(),
            run,
            at: claim.at.as_nanos(),
            gap: claim.rate.interval,
            tolerance: claim.rate.tolerance,
            owner: event.cell(),
            function: function.cell(),
            skip_seq,
            reason: claim.reason.as_str(),
            detail: text(&claim.rule),
        });
        let refusal = claim.refusal.iter();
        self.refusals
            .extend(refusal.map(|event| Refusal::new(run, event, false)));
    }

    /// Adds the parameters, sorted by key, so that transactions of several instances wait for each other in one order.
    pub(super) fn bind(mut self, arguments: &mut PgArguments) {
        self.moves.sort_by_key(|row| row.run);
        self.routes.sort_by_key(|row| row.event);
        self.events.sort_by_key(|row| row.id);
        self.runs.sort_by_key(|row| row.id);
        // Stable: claims on one bucket stay in their order.
        self.limits.sort_by_key(|row| row.bucket);
        self.freed.sort_by_key(|row| row.lock);
        self.locks.sort_by_key(|row| row.lock);
        self.moves.bind(arguments);
        self.routes.bind(arguments);
        self.events.bind(arguments);
        self.runs.bind(arguments);
        self.limits.bind(arguments);
        self.refusals.bind(arguments);
        self.freed.bind(arguments);
        self.locks.bind(arguments);
        let takes = self.takes.into_iter().map(|((run, key), owner)| Taken {
            run: run.cell(),
            key: text(&key.to_string()).into_owned(),
            owner: owner.cell(),
        });
        takes.collect::<Vec<_>>().bind(arguments);
        self.fires.sort_by_key(|row| row.gathering);
        self.joins.sort_by_key(|row| row.bucket);
        self.fires.bind(arguments);
        self.joins.bind(arguments);
    }
}

/// The text of an array of all events, unless there is one and no more.
fn several(events: &[EventId]) -> Option<String> {
    if events.len() == 1 {
        return None;
    }
    let events: Vec<_> = events.iter().map(|event| event.cell().to_string()).collect();
    Some(format!("{{{}}}", events.join(",")))
}

/// A count as a column takes it.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

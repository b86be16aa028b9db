//! `/api/v1/functions/{id}/flow`: what is going on at a function's gates.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::web::Path;
use callboard_actors::domain::{self, FunctionId, GateKind, Limit, RuleId, Timestamp};
use callboard_actors::engine;
use callboard_actors::ports::{KeyFlow, RuleFlow, Store, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

use super::limits::{name_of, name_of_scope};
use super::reading;
use super::view::millis;
use crate::http::answer::{ErrorBody, OwnError};
use crate::http::state::State;

/// What is going on at the gates of a function.
#[derive(Serialize, ToSchema)]
pub(super) struct Flow {
    /// The function's slug.
    function: String,
    /// Its rules; also those it has no more, as long as jobs have to do with them.
    rules: Vec<Rule>,
}

/// A rule.
#[derive(Serialize, ToSchema)]
pub(super) struct Rule {
    /// `concurrency`, `run_concurrency` or `throttle`.
    kind: &'static str,
    /// `fn`, `env` or `account`; `shared` for a rule that the function has no more.
    scope: &'static str,
    /// The expression of the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// How many at a time, or in a period; absent for a rule that the function has no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    /// Of a throttle.
    #[serde(skip_serializing_if = "Option::is_none")]
    period_ms: Option<u64>,
    /// Of a throttle.
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    /// The numbers are an operator's, and the registered ones count again then.
    #[serde(skip_serializing_if = "Option::is_none")]
    overridden_until: Option<String>,
    /// Values of the key with jobs that wait or are at work.
    keys: usize,
    /// Calls under way that count; of `run_concurrency`, runs between their first call and their end.
    in_use: usize,
    /// Jobs that are due and wait, for this rule or another; of `run_concurrency`, runs that wait for their first call.
    waiting: usize,
    /// When the run of the oldest of them was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_waiting: Option<String>,
    /// Keys with most calls under way.
    busiest: Vec<Key>,
    /// Keys with most jobs waiting.
    longest: Vec<Key>,
}

/// A value of a rule's key.
#[derive(Serialize, ToSchema)]
pub(super) struct Key {
    /// Shortened if it is long.
    key: String,
    in_use: usize,
    waiting: usize,
    /// When the run of the oldest job that waits was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_waiting: Option<String>,
    /// When a throttle lets the next start through.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

fn rfc3339(at: Option<Timestamp>) -> Option<String> {
    at.map(Timestamp::to_rfc3339)
}

impl Key {
    fn of(flow: KeyFlow) -> Self {
        Self {
            key: flow.key,
            in_use: flow.in_use,
            waiting: flow.waiting,
            oldest_waiting: rfc3339(flow.oldest),
            next: rfc3339(flow.next),
        }
    }
}

impl Rule {
    /// A rule without anything going on.
    fn new(kind: GateKind, key: Option<String>) -> Self {
        Self {
            kind: name_of(kind),
            scope: if kind == GateKind::SharedSlot { "shared" } else { "fn" },
            key,
            limit: None,
            period_ms: None,
            burst: None,
            overridden_until: None,
            keys: 0,
            in_use: 0,
            waiting: 0,
            oldest_waiting: None,
            busiest: Vec::new(),
            longest: Vec::new(),
        }
    }

    fn with(mut self, flow: RuleFlow) -> Self {
        self.keys = flow.keys;
        self.in_use = flow.in_use;
        self.waiting = flow.waiting;
        self.oldest_waiting = rfc3339(flow.oldest);
        self.busiest = flow.busiest.into_iter().map(Key::of).collect();
        self.longest = flow.longest.into_iter().map(Key::of).collect();
        self
    }
}

/// The rules that a function has now.
fn rules(function: &domain::Function) -> Vec<(RuleId, Rule)> {
    let numbers = engine::limits(function);
    let throttle = function.flow.throttle.iter().map(|throttle| {
        let shown = Rule {
            limit: Some(throttle.limit),
            period_ms: Some(millis(throttle.period)),
            burst: Some(throttle.burst),
            ..Rule::new(GateKind::Throttle, throttle.key.clone())
        };
        (throttle.rule(), shown)
    });
    let shown = |kind, limit: &domain::ConcurrencyLimit, slots| {
        let shown = Rule {
            limit: Some(slots),
            scope: name_of_scope(limit.scope),
            ..Rule::new(kind, limit.key.clone())
        };
        (limit.rule(kind), shown)
    };
    let slots = function.flow.concurrency.iter().filter_map(|limit| {
        let kind = limit.kind();
        match numbers.of(limit.rule(kind)) {
            Some(Limit::Slots(slots)) => Some(shown(kind, limit, slots)),
            _ => None,
        }
    });
    let runs = function.flow.run_concurrency.iter();
    let runs = runs.map(|limit| shown(GateKind::RunSlot, limit, limit.limit));
    throttle.chain(slots).chain(runs).collect()
}

/// What is going on at run slots, which are the store's.
async fn run_slots(store: &dyn Store, function: FunctionId) -> Result<Vec<RuleFlow>, StoreError> {
    let mut keys: BTreeMap<RuleId, Vec<KeyFlow>> = BTreeMap::new();
    for (rule, flow) in store.run_slots(function).await? {
        keys.entry(rule).or_default().push(flow);
    }
    let rules = keys.into_iter();
    Ok(rules
        .map(|(rule, keys)| RuleFlow::of_keys(rule, GateKind::RunSlot, keys))
        .collect())
}

/// Show what is going on at a function's concurrency limits and throttle: who holds what, who waits, and until when.
#[utoipa::path(
    get, path = "/api/v1/functions/{id}/flow", tag = "functions",
    params(("id" = String, Path, description = "The function's slug or UUID")),
    responses((status = 200, body = Flow), (status = 404, body = ErrorBody))
)]
pub(super) async fn get(path: Path<String>, state: State) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let catalog = api.catalog();
    let function = catalog.find(&path).ok_or_else(|| reading::unknown_function(&path))?;
    let mut going_on = api.queue().flow(function.id).await.rules;
    going_on.extend(run_slots(&**api.store(), function.id).await?);
    let mut rules = rules(function);
    for numbers in catalog.overrides() {
        let mut meant = rules.iter_mut();
        let meant = meant.find(|(rule, _)| numbers.function == function.id && *rule == numbers.rule);
        if let Some((_, shown)) = meant {
            shown.overridden_until = Some(numbers.until.to_rfc3339());
        }
    }
    for flow in going_on {
        match rules.iter_mut().find(|(rule, _)| *rule == flow.rule) {
            Some((_, shown)) => {
                let idle = std::mem::replace(shown, Rule::new(flow.kind, None));
                *shown = idle.with(flow);
            }
            None => rules.push((flow.rule, Rule::new(flow.kind, None).with(flow))),
        }
    }
    Ok(HttpResponse::Ok().json(Flow {
        function: function.slug.to_string(),
        rules: rules.into_iter().map(|(_, rule)| rule).collect(),
    }))
}

//! `/api/v1/functions/{id}/limits`: other numbers for a function's rules, until a time.

use std::time::Duration;

use actix_web::web::{Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::{self, FunctionId, GateKind, LimitOverride, RuleId, Timestamp};
use callboard_actors::expression::duration;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::reading;
use super::view::millis;
use crate::error::{Code, Problem};
use crate::http::answer::{ErrorBody, OwnError};
use crate::http::body;
use crate::http::sdk::stored_events::instant;
use crate::http::state::State;

/// The shortest period of a throttle.
const MIN_PERIOD: Duration = Duration::from_secs(1);

/// Which rule of a function: `rule` will do, unless the function has several of the kind.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleQuery {
    /// `concurrency`, `run_concurrency` or `throttle`; all of them if absent.
    rule: Option<String>,
    /// The expression of its key.
    key: Option<String>,
    /// `fn`, `env` or `account`.
    scope: Option<String>,
}

/// Other numbers for one rule of a function.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Numbers {
    /// `concurrency`, `run_concurrency` or `throttle`.
    #[schema(example = "concurrency")]
    rule: String,
    /// The expression of its key; needed only if the function has several rules of the kind.
    key: Option<String>,
    /// `fn`, `env` or `account`; likewise.
    scope: Option<String>,
    /// How many at a time, or in a period; at least 1.
    #[schema(example = 5)]
    limit: u32,
    /// Of a throttle, if it is to be another: a duration such as `1m`.
    period: Option<String>,
    /// Of a throttle, if it is to be another.
    burst: Option<u32>,
    /// When the registered numbers count again: RFC 3339, or milliseconds since 1970.
    until: Option<String>,
    /// In place of `until`: how long, such as `30m`.
    #[serde(rename = "for")]
    lasting: Option<String>,
}

/// Numbers that an operator has put in the place of registered ones.
#[derive(Serialize, ToSchema)]
pub(super) struct Override {
    /// `concurrency`, `run_concurrency` or `throttle`.
    rule: &'static str,
    /// The expression of its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    limit: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    period_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    until: String,
}

/// Whether there was anything to end.
#[derive(Serialize, ToSchema)]
pub(super) struct Ended {
    ended: bool,
}

/// A rule of a function, as an operator names it.
struct Known {
    id: RuleId,
    kind: GateKind,
    key: Option<String>,
    scope: domain::Scope,
}

/// What a kind of rule is called.
pub(super) fn name_of(kind: GateKind) -> &'static str {
    match kind {
        GateKind::Throttle => "throttle",
        GateKind::Slot | GateKind::SharedSlot => "concurrency",
        GateKind::RunSlot => "run_concurrency",
    }
}

/// What a scope is called.
pub(super) fn name_of_scope(scope: domain::Scope) -> &'static str {
    match scope {
        domain::Scope::Fn => "fn",
        domain::Scope::Env => "env",
        domain::Scope::Account => "account",
    }
}

fn invalid(message: String) -> Problem {
    Problem::new(Code::InvalidParameter, message)
}

/// The rules of a function that limit something.
fn rules(function: &domain::Function) -> Vec<Known> {
    let flow = &function.flow;
    let throttle = flow.throttle.iter().map(|throttle| Known {
        id: throttle.rule(),
        kind: GateKind::Throttle,
        key: throttle.key.clone(),
        scope: domain::Scope::Fn,
    });
    let calls = flow.concurrency.iter().map(|limit| (limit.kind(), limit));
    let runs = flow.run_concurrency.iter().map(|limit| (GateKind::RunSlot, limit));
    let slots = calls.chain(runs).filter(|(_, limit)| limit.limit > 0);
    let slots = slots.map(|(kind, limit)| Known {
        id: limit.rule(kind),
        kind,
        key: limit.key.clone(),
        scope: limit.scope,
    });
    throttle.chain(slots).collect()
}

/// The one rule that is meant.
fn meant(function: &domain::Function, name: &str, key: Option<&str>, scope: Option<&str>) -> Result<Known, Problem> {
    let mut found = rules(function).into_iter().filter(|rule| {
        name_of(rule.kind) == name
            && key.is_none_or(|key| rule.key.as_deref().unwrap_or_default() == key)
            && scope.is_none_or(|scope| name_of_scope(rule.scope) == scope)
    });
    let Some(rule) = found.next() else {
        let has: Vec<_> = rules(function).iter().map(|rule| name_of(rule.kind)).collect();
        let has = if has.is_empty() {
            "none".to_owned()
        } else {
            has.join(", ")
        };
        return Err(invalid(format!(
            "the function has no such rule `{name}`; it has: {has}"
        )));
    };
    if found.any(|other| other.id != rule.id) {
        let message = format!("the function has several rules `{name}`: name the `key`, the `scope`, or both");
        return Err(invalid(message));
    }
    Ok(rule)
}

/// A duration of at least `least`.
fn span(name: &str, text: &str, least: Duration) -> Result<Duration, Problem> {
    let parsed = duration::parse(text).ok().and_then(|span| span.to_std().ok());
    let wrong = || {
        invalid(format!(
            "{name}: `{text}` is no duration of {} s or more",
            least.as_secs()
        ))
    };
    parsed.filter(|span| *span >= least).ok_or_else(wrong)
}

impl Numbers {
    fn until(&self, now: Timestamp) -> Result<Timestamp, Problem> {
        let until = match (&self.until, &self.lasting) {
            (Some(until), None) => instant(until, "until")?,
            (None, Some(lasting)) => now.after(span("for", lasting, MIN_PERIOD)?),
            _ => return Err(invalid("say either `until` when or `for` how long".to_owned())),
        };
        if until <= now {
            return Err(invalid(format!("until: {} is over", until.to_rfc3339())));
        }
        Ok(until)
    }

    fn checked(self, function: &domain::Function, now: Timestamp) -> Result<(LimitOverride, Known), Problem> {
        let rule = meant(function, &self.rule, self.key.as_deref(), self.scope.as_deref())?;
        if self.limit == 0 {
            return Err(invalid("limit: at least 1".to_owned()));
        }
        if rule.kind != GateKind::Throttle && (self.period.is_some() || self.burst.is_some()) {
            return Err(invalid("only a throttle has a `period` and a `burst`".to_owned()));
        }
        let period = self.period.as_deref().map(|text| span("period", text, MIN_PERIOD));
        let numbers = LimitOverride {
            function: function.id,
            rule: rule.id,
            limit: self.limit,
            period: period.transpose()?,
            burst: self.burst,
            until: self.until(now)?,
        };
        Ok((numbers, rule))
    }
}

/// The function of a path.
fn function(state: &State, path: &str) -> Result<domain::Function, Problem> {
    let catalog = state.api()?.catalog();
    let unknown = || reading::unknown_function(path);
    let id: FunctionId = catalog.find(path).ok_or_else(unknown)?.id;
    // As registered: an operator names rules, and their numbers are not what they are known by.
    catalog.registered(id).cloned().ok_or_else(unknown)
}

/// Give one rule of a function other numbers until a time, on all instances and for runs under way as well. They replace the
/// numbers that were given so before, and survive a sync.
#[utoipa::path(
    put, path = "/api/v1/functions/{id}/limits", tag = "functions",
    params(("id" = String, Path, description = "The function's slug or UUID")), request_body = Numbers,
    responses((status = 200, body = Override), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn put(
    path: Path<String>,
    req: HttpRequest,
    payload: Payload,
    state: State,
) -> Result<HttpResponse, OwnError> {
    let api = state.api()?;
    let function = function(&state, &path)?;
    let body = body::read(&req, payload, &state).await?;
    let (numbers, rule) = body::parse::<Numbers>(&body)?.checked(&function, api.clock().now())?;
    api.override_limit(numbers.clone()).await?;
    Ok(HttpResponse::Ok().json(Override {
        rule: name_of(rule.kind),
        key: rule.key,
        limit: numbers.limit,
        period_ms: numbers.period.map(millis),
        burst: numbers.burst,
        until: numbers.until.to_rfc3339(),
    }))
}

/// Have the registered numbers count again, of one rule of a function or of all.
#[utoipa::path(
    delete, path = "/api/v1/functions/{id}/limits", tag = "functions",
    params(("id" = String, Path, description = "The function's slug or UUID"), RuleQuery),
    responses((status = 200, body = Ended), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
pub(super) async fn end(path: Path<String>, query: Query<RuleQuery>, state: State) -> Result<HttpResponse, OwnError> {
    let function = function(&state, &path)?;
    let rule = match &query.rule {
        Some(name) => Some(meant(&function, name, query.key.as_deref(), query.scope.as_deref())?.id),
        None if query.key.is_some() || query.scope.is_some() => {
            return Err(invalid("name the `rule`, too".to_owned()).into());
        }
        None => None,
    };
    let ended = state.api()?.end_overrides(function.id, rule).await?;
    Ok(HttpResponse::Ok().json(Ended { ended }))
}

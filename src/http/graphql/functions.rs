//! Functions and what they are configured to.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Context, Enum, InputObject, Object, Result, SimpleObject};
use callboard_actors::domain::{Function as Registered, FunctionId, Scope, SingletonMode, Trigger};
use serde::Serialize;
use serde_json::Value;

use super::apps::App;
use super::asked::{asked, failed};
use super::scalars::Uuid;
use crate::error::{Code, Problem};

/// A registered function.
#[derive(Debug, Clone)]
pub(super) struct Function(pub(super) Arc<Registered>);

/// What starts a function, or an item of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(name = "FunctionTriggerTypes")]
pub(super) enum TriggerType {
    Event,
    Cron,
}

#[derive(Debug, SimpleObject)]
struct FunctionTrigger {
    #[graphql(name = "type")]
    kind: TriggerType,
    value: String,
    condition: Option<String>,
}

#[Object]
impl Function {
    async fn id(&self) -> String {
        self.0.id.to_string()
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn slug(&self) -> &str {
        &self.0.slug
    }

    /// The function that the SDK has made to handle this one's failures.
    async fn failure_handler(&self, ctx: &Context<'_>) -> Option<Self> {
        let handler = asked(ctx).catalog.find(&format!("{}-failure", self.0.slug));
        handler.cloned().map(Self)
    }

    /// As it was registered.
    async fn config(&self) -> &str {
        self.0.config.as_str()
    }

    async fn configuration(&self) -> FunctionConfiguration {
        FunctionConfiguration::of(&self.0)
    }

    async fn concurrency(&self) -> i32 {
        let first = self.0.flow.concurrency.first();
        first.map_or(0, |limit| int(limit.limit))
    }

    async fn triggers(&self) -> Option<Vec<FunctionTrigger>> {
        let triggers = self.0.triggers.iter().map(|trigger| match trigger {
            Trigger::Event { event, expression } => FunctionTrigger {
                kind: TriggerType::Event,
                value: event.clone(),
                condition: expression.clone(),
            },
            Trigger::Cron { cron, .. } => FunctionTrigger {
                kind: TriggerType::Cron,
                value: cron.clone(),
                condition: None,
            },
        });
        Some(triggers.collect())
    }

    async fn url(&self) -> &str {
        &self.0.url
    }

    #[graphql(name = "appID")]
    async fn app_id(&self) -> Uuid {
        Uuid::of(FunctionId::app_uuid(&self.0.app))
    }

    async fn app(&self, ctx: &Context<'_>) -> Result<App> {
        App::of_function(&asked(ctx).catalog, &self.0)
    }
}

/// What a function is configured to.
#[derive(Debug, Serialize, SimpleObject)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct FunctionConfiguration {
    cancellations: Vec<CancellationConfiguration>,
    retries: RetryConfiguration,
    priority: Option<String>,
    events_batch: Option<EventsBatchConfiguration>,
    concurrency: Vec<ConcurrencyConfiguration>,
    rate_limit: Option<RateLimitConfiguration>,
    debounce: Option<DebounceConfiguration>,
    throttle: Option<ThrottleConfiguration>,
    singleton: Option<SingletonConfiguration>,
}

#[derive(Debug, Serialize, SimpleObject)]
#[serde(rename_all = "camelCase")]
struct CancellationConfiguration {
    event: String,
    timeout: Option<String>,
    condition: Option<String>,
}

#[derive(Debug, Serialize, SimpleObject)]
#[serde(rename_all = "camelCase")]
struct RetryConfiguration {
    value: i32,
    is_default: Option<bool>,
}

#[derive(Debug, Serialize, SimpleObject)]
#[serde(rename_all = "camelCase")]
struct EventsBatchConfiguration {
    max_size: i32,
    timeout: String,
    key: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ConcurrencyScope {
    Account,
    Environment,
    Function,
}

#[derive(Debug, Serialize, SimpleObject)]
#[serde(rename_all = "camelCase")]
struct ConcurrencyLimitConfiguration {
    value: i32,
    is_plan_limit: Option<bool>,
}

#[derive(Debug, Serialize, SimpleObject)]
#[serde(rename_all = "camelCase")]
struct ConcurrencyConfiguration {
    scope: ConcurrencyScope,
    limit: ConcurrencyLimitConfiguration,
    key: Option<String>,
}

#[derive(Debug, Serialize, SimpleObject)]
#[serde(rename_all = "camelCase")]
struct RateLimitConfiguration {
    limit: i32,
    period: String,
    key: Option<String>,
}

#[derive(Debug, Serialize, SimpleObject)]
#[serde(rename_all = "camelCase")]
struct DebounceConfiguration {
    period: String,
    key: Option<String>,
}

#[derive(Debug, Serialize, SimpleObject)]
#[serde(rename_all = "camelCase")]
struct ThrottleConfiguration {
    burst: i32,
    key: Option<String>,
    limit: i32,
    period: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[graphql(name = "SingletonMode")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Mode {
    Skip,
    Cancel,
}

#[derive(Debug, Serialize, SimpleObject)]
#[serde(rename_all = "camelCase")]
struct SingletonConfiguration {
    mode: Mode,
    key: Option<String>,
}

/// Retries that a function has which says nothing of them.
const DEFAULT_RETRIES: u32 = 4;

fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl FunctionConfiguration {
    pub(in crate::http) fn of(function: &Registered) -> Self {
        let flow = &function.flow;
        let config = function.config.to_tree();
        // As it was written, where it was written.
        let written = |pointer: &str, period: Duration| {
            let text = config
                .pointer(pointer)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty());
            text.map_or_else(|| go_duration(period), str::to_owned)
        };
        let limits = flow.concurrency.iter().chain(&flow.run_concurrency);
        let mut concurrency: Vec<_> = limits
            .map(|limit| ConcurrencyConfiguration {
                scope: match limit.scope {
                    Scope::Fn => ConcurrencyScope::Function,
                    Scope::Env => ConcurrencyScope::Environment,
                    Scope::Account => ConcurrencyScope::Account,
                },
                limit: ConcurrencyLimitConfiguration {
                    value: int(limit.limit),
                    is_plan_limit: Some(false),
                },
                key: limit.key.clone(),
            })
            .collect();
        if concurrency.is_empty() {
            concurrency.push(ConcurrencyConfiguration {
                scope: ConcurrencyScope::Account,
                limit: ConcurrencyLimitConfiguration {
                    value: -1,
                    is_plan_limit: Some(true),
                },
                key: None,
            });
        }
        Self {
            cancellations: flow
                .cancel
                .iter()
                .map(|rule| CancellationConfiguration {
                    event: rule.event.clone(),
                    timeout: rule.timeout.clone(),
                    condition: rule.condition.clone(),
                })
                .collect(),
            retries: RetryConfiguration {
                value: int(function.retries),
                is_default: Some(function.retries == DEFAULT_RETRIES),
            },
            priority: flow.priority.clone(),
            events_batch: flow.batch.as_ref().map(|batch| EventsBatchConfiguration {
                max_size: int(batch.max_size),
                timeout: written("/batchEvents/timeout", batch.timeout),
                key: batch.key.clone(),
            }),
            concurrency,
            rate_limit: flow.rate_limit.as_ref().map(|rate| RateLimitConfiguration {
                limit: int(rate.limit),
                period: written("/rateLimit/period", rate.period),
                key: rate.key.clone(),
            }),
            debounce: flow.debounce.as_ref().map(|debounce| DebounceConfiguration {
                period: written("/debounce/period", debounce.period),
                key: debounce.key.clone(),
            }),
            throttle: flow.throttle.as_ref().map(|throttle| ThrottleConfiguration {
                burst: int(throttle.burst),
                key: throttle.key.clone(),
                limit: int(throttle.limit),
                period: go_duration(throttle.period),
            }),
            singleton: flow.singleton.as_ref().map(|singleton| SingletonConfiguration {
                mode: match singleton.mode {
                    SingletonMode::Skip => Mode::Skip,
                    SingletonMode::Cancel => Mode::Cancel,
                },
                key: singleton.key.clone(),
            }),
        }
    }
}

/// A duration as Go prints it: `5s`, `1h0m0s`, `1.5s`, `250ms`.
fn go_duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    if seconds == 0 && millis > 0 {
        return format!("{millis}ms");
    }
    let fraction = format!(".{millis:03}");
    let fraction = if millis == 0 {
        ""
    } else {
        fraction.trim_end_matches('0')
    };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[derive(Debug, InputObject)]
pub(super) struct FunctionQuery {
    #[graphql(name = "workspaceId", default_with = "\"local\".to_owned()")]
    workspace_id: String,
    function_slug: String,
}

/// The questions about functions.
#[derive(Debug, Default)]
pub(super) struct Query;

#[Object(name = "QueryOfFunctions")]
impl Query {
    /// A function that is not archived.
    async fn function_by_slug(&self, ctx: &Context<'_>, query: FunctionQuery) -> Result<Option<Function>> {
        // There is one workspace, whatever it is called.
        let FunctionQuery {
            workspace_id: _,
            function_slug: slug,
        } = query;
        let found = asked(ctx).catalog.find(&slug).cloned().map(Function);
        let unknown = || {
            failed(Problem::new(
                Code::UnknownFunction,
                format!("there is no function `{slug}`"),
            ))
        };
        found.map(Some).ok_or_else(unknown)
    }

    /// All functions that are not archived, by app and slug.
    async fn functions(&self, ctx: &Context<'_>) -> Option<Vec<Function>> {
        let mut all: Vec<_> = asked(ctx).catalog.live_functions().cloned().collect();
        all.sort_by(|a, b| (&a.app, &a.slug).cmp(&(&b.app, &b.slug)));
        Some(all.into_iter().map(Function).collect())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(5_000, "5s")]
    #[case(3_600_000, "1h0m0s")]
    #[case(90_000, "1m30s")]
    #[case(250, "250ms")]
    #[case(1_500, "1.5s")]
    #[case(0, "0s")]
    fn durations_as_go_prints_them(#[case] millis: u64, #[case] text: &str) {
        assert_eq!(go_duration(Duration::from_millis(millis)), text);
    }
}

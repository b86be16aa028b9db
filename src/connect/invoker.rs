//! Calls apps: at their URLs over HTTP, or over the connections of their workers, as the function's URL says.
//!
//! A worker is told byte for byte what an app at a URL would be told, and what it answers is read by the same reader. Which
//! call it is follows from everything that is told: the same call made again, by this process or the next, meets the
//! answer to the first.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_actors::domain::{Call, Failure, FetchFailure, FetchRequest, FetchResponse, Reply, is_connection};
use callboard_actors::ports::{Invoker, InvokerFactory, Offered};
use callboard_actors::workers::{CallKey, Called, Wanted, Workers};
use prost::Message as _;
use serde_json::json;
use url::Url;

use super::wire::{ResponseStatus, SdkResponse};
use crate::sdk::call::{payload, target, trace_context};
use crate::sdk::reply::{self, Head};

/// How long a call waits that nobody could take, where it can't be put off.
const NOBODY: Duration = Duration::from_secs(1);

/// Calls apps. Belongs to the thread that made it.
#[derive(Debug)]
pub struct ConnectedInvoker {
    by_url: Rc<dyn Invoker>,
    workers: Workers,
    timeout: Duration,
}

impl ConnectedInvoker {
    async fn ask_worker(&self, call: &Call) -> Result<Reply, Duration> {
        let Some(slug) = slug_of(&call.url) else {
            let message = format!("the function's URL `{}` does not say which function it is", call.url);
            return Ok(failed("Error", message));
        };
        let (payload, _) = payload(call);
        let wanted = Wanted {
            key: key_of(call, &slug),
            function: call.function,
            slug: Arc::from(slug),
            run: call.run,
            step: target(call).to_owned(),
            payload,
            trace: json!(BTreeMap::from(trace_context(call))).to_string(),
            timeout: self.timeout,
        };
        match self.workers.call(Arc::new(wanted)).await {
            Called::Answered(answer) => Ok(read(&answer)),
            Called::NotMade(wait) => Err(wait),
            Called::Lost => Ok(failed(
                "connect_worker_stopped_responding",
                "The worker that was at work on this stopped responding",
            )),
            Called::TimedOut => {
                let message = format!("The worker did not answer within {:?}", self.timeout);
                Ok(failed("request_duration_too_long", message))
            }
        }
    }
}

#[async_trait(?Send)]
impl Invoker for ConnectedInvoker {
    async fn call(&self, call: Call) -> Reply {
        loop {
            match self.offer(call.clone()).await {
                Offered::Made(reply) => return reply,
                Offered::Declined(wait) => tokio::time::sleep(wait.max(NOBODY)).await,
            }
        }
    }

    async fn offer(&self, call: Call) -> Offered {
        if is_connection(&call.url) {
            self.ask_worker(&call)
                .await
                .map_or_else(Offered::Declined, Offered::Made)
        } else {
            self.by_url.offer(call).await
        }
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, FetchFailure> {
        self.by_url.fetch(request).await
    }
}

/// Makes a [`ConnectedInvoker`] on each thread that asks.
#[derive(Debug)]
pub struct ConnectedInvokerFactory {
    by_url: Arc<dyn InvokerFactory>,
    workers: Workers,
    timeout: Duration,
}

impl ConnectedInvokerFactory {
    /// Calls workers, for so long at the most, and everybody else by these.
    #[must_use]
    pub fn new(by_url: Arc<dyn InvokerFactory>, workers: Workers, timeout: Duration) -> Self {
        Self {
            by_url,
            workers,
            timeout,
        }
    }
}

impl InvokerFactory for ConnectedInvokerFactory {
    fn build(&self) -> Rc<dyn Invoker> {
        Rc::new(ConnectedInvoker {
            by_url: self.by_url.build(),
            workers: self.workers.clone(),
            timeout: self.timeout,
        })
    }
}

fn slug_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let mut pairs = url.query_pairs();
    pairs.find_map(|(name, value)| (name == "fnId" && !value.is_empty()).then(|| value.into_owned()))
}

/// Which call it is: what the app is told but for the ids of request and lease. Memos and events follow from run and stack.
fn key_of(call: &Call, slug: &str) -> CallKey {
    let numbers = format!(
        "{} {} {} {} {} {}",
        call.ticket.call.attempt,
        call.attempt,
        call.max_attempts,
        call.request_version,
        call.plan_only,
        call.stack_current
    );
    let run = call.run.to_bytes();
    let mut told: Vec<&[u8]> = vec![&run, slug.as_bytes(), target(call).as_bytes(), numbers.as_bytes()];
    told.extend(call.stack.iter().map(|step| step.as_str().as_bytes()));
    for (id, is_abortable) in &call.defers {
        told.extend([if *is_abortable { b"defer" } else { b"past " }, id.as_str().as_bytes()]);
    }
    CallKey::derive(&told)
}

/// What a worker's answer means. It was decoded when it came, so it can be decoded.
fn read(answer: &[u8]) -> Reply {
    let answer = match SdkResponse::decode(answer) {
        Ok(answer) => answer,
        Err(error) => return failed("Error", format!("the worker's answer could not be understood: {error}")),
    };
    let status = match answer.status() {
        ResponseStatus::NotCompleted => 206,
        ResponseStatus::Done => 200,
        ResponseStatus::Error => 500,
    };
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let head = Head {
        status,
        // Without it the answer would count as a stranger's.
        sdk: text(&answer.sdk_version).or_else(|| text("connect")),
        request_version: Some(answer.request_version.to_string()),
        no_retry: answer.no_retry.then(|| "true".to_owned()),
        retry_after: answer.retry_after.as_deref().and_then(text),
    };
    reply::read(head, &answer.body)
}

fn failed(name: &str, message: impl Into<String>) -> Reply {
    Reply::Failed {
        failure: Failure::new(name, message),
        status: None,
        no_retry: false,
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use callboard_actors::domain::{CallRef, FunctionId, JobKey, Json, RunId, StepId, Target, Ticket, Timestamp};
    use rstest::rstest;

    use super::*;

    fn ticket(request: &str, epoch: u64) -> Ticket {
        Ticket {
            call: CallRef {
                job: JobKey::Start,
                attempt: 0,
                request: request.parse().expect("an id"),
            },
            epoch,
        }
    }

    fn call() -> Call {
        Call {
            url: "wss://connect/?fnId=shop-charge&stepId=step".to_owned(),
            run: RunId::new(Timestamp::from_millis(1_750_000_000_000), 7),
            function: FunctionId::derive("shop", "shop-charge"),
            app: "shop".into(),
            target: Target::Discovery,
            ticket: ticket("01JZ0000000000000000000009", 7),
            may_report: false,
            endpoint: None,
            attempt: 0,
            max_attempts: 5,
            request_version: 2,
            plan_only: false,
            stack: vec![StepId::from("a"), StepId::from("b")],
            stack_current: 1,
            events: Arc::from([Json::null()]),
            defers: vec![(StepId::from("d"), true)],
            steps: Vec::new(),
        }
    }

    type Change = fn(&mut Call);

    #[rstest]
    #[case::run(|call: &mut Call| call.run = RunId::new(Timestamp::from_millis(1_750_000_000_000), 8))]
    #[case::target(|call: &mut Call| call.target = Target::Step(StepId::from("c")))]
    #[case::attempt(|call: &mut Call| call.attempt = 1)]
    #[case::job_attempt(|call: &mut Call| call.ticket.call.attempt = 1)]
    #[case::stack(|call: &mut Call| drop(call.stack.pop()))]
    #[case::current(|call: &mut Call| call.stack_current = 2)]
    #[case::plan(|call: &mut Call| call.plan_only = true)]
    #[case::defer(|call: &mut Call| call.defers[0].1 = false)]
    #[case::defers(|call: &mut Call| call.defers.clear())]
    fn another_call_has_another_key(#[case] change: Change) {
        let mut other = call();
        change(&mut other);
        assert_ne!(key_of(&call(), "shop-charge"), key_of(&other, "shop-charge"));
    }

    #[test]
    fn the_same_call_made_again_has_the_same_key() {
        let again = Call {
            ticket: ticket("01JZ000000000000000000000A", 8),
            ..call()
        };
        assert_eq!(key_of(&call(), "shop-charge"), key_of(&again, "shop-charge"));
    }

    #[rstest]
    #[case("wss://connect/?fnId=shop-charge&stepId=step", Some("shop-charge"))]
    #[case("ws://connect?stepId=step&fnId=a%20b", Some("a b"))]
    #[case("wss://connect/?fnId=", None)]
    #[case("wss://connect/", None)]
    fn the_url_says_which_function_it_is(#[case] url: &str, #[case] slug: Option<&str>) {
        assert_eq!(slug_of(url).as_deref(), slug);
    }

    fn answered(status: ResponseStatus, body: &'static str, change: fn(&mut SdkResponse)) -> Reply {
        let mut answer = SdkResponse {
            status: status.into(),
            body: body.as_bytes().into(),
            sdk_version: "inngest-js:v4.24.0".to_owned(),
            request_version: 2,
            ..SdkResponse::default()
        };
        change(&mut answer);
        read(&answer.encode_to_vec())
    }

    #[test]
    fn answers_mean_what_they_would_mean_by_http() {
        let Reply::Returned(value) = answered(ResponseStatus::Done, r#"{"a":1}"#, |_| {}) else {
            panic!("it returned");
        };
        assert_eq!(value.as_str(), r#"{"a":1}"#);
        let steps = answered(
            ResponseStatus::NotCompleted,
            r#"[{"op":"StepRun","id":"a","data":1}]"#,
            |_| {},
        );
        let Reply::Steps {
            ops, request_version, ..
        } = steps
        else {
            panic!("it reports steps");
        };
        assert_eq!((ops.len(), request_version), (1, 2));
        let error = answered(ResponseStatus::Error, r#"{"name":"E","message":"m"}"#, |answer| {
            answer.retry_after = Some("30".to_owned());
        });
        let Reply::Failed {
            failure,
            no_retry,
            retry_after,
            ..
        } = error
        else {
            panic!("it failed");
        };
        assert_eq!(
            (failure.name(), no_retry, retry_after.as_deref()),
            ("E", false, Some("30"))
        );
    }

    #[test]
    fn a_rejection_that_says_done_is_none_and_an_answer_without_an_sdk_counts() {
        let rejected = answered(ResponseStatus::Done, r#"{"name":"E","message":"m"}"#, |answer| {
            answer.no_retry = true;
        });
        assert!(matches!(rejected, Reply::Failed { no_retry: true, .. }));
        let bare = answered(ResponseStatus::Done, "1", |answer| answer.sdk_version.clear());
        assert!(matches!(bare, Reply::Returned(_)));
    }
}

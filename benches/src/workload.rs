//! The functions the bench app offers, and their place on the wire.
//!
//! Promises: a workload's step ids and outputs depend on nothing but the workload and the step's index.
//! Never: runs anything; the app answers, the generator sends.

use std::time::Duration;

use serde_json::{Value, json};

/// The app's id; wire ids of functions are `<app id>-<workload id>`.
pub(crate) const APP_ID: &str = "bench";

/// What one run has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    NoStep,
    OneStep,
    TenSteps,
    /// One step, under a limit of [`SLOTS`] calls at a time for each of [`KEYS`] keys.
    Keyed,
    /// One step, with everything on that a function's configuration can ask for and that lets every event start a run.
    EveryOption,
    /// Nothing but a call that takes [`SLOWNESS`].
    Crowd,
    /// Nothing, by [`LONERS`] functions, each of which has its own event.
    Alone,
    /// One sleep and nothing else.
    Sleep,
    /// One step, every call of which takes [`SLOWNESS`].
    SlowStep,
    /// One wait for the event [`Workload::WAKE`] with the run's number.
    Wait,
}

/// How long a call of [`Workload::SlowStep`] and [`Workload::Crowd`] takes.
pub(crate) const SLOWNESS: Duration = Duration::from_millis(100);

/// Keys of [`Workload::Keyed`] and [`Workload::EveryOption`].
const KEYS: usize = 10_000;
/// Their calls at a time, for each key.
const SLOTS: usize = 2;
/// A limit that no load of this bench reaches.
const PLENTY: usize = 1_000_000;
/// Functions of [`Workload::Alone`].
pub(crate) const LONERS: usize = 100;

impl Workload {
    /// What runs of [`Workload::Wait`] wait for.
    pub(crate) const WAKE: &str = "bench/wake";

    pub(crate) const ALL: [Self; 10] = [
        Self::NoStep,
        Self::OneStep,
        Self::TenSteps,
        Self::Keyed,
        Self::EveryOption,
        Self::Crowd,
        Self::Alone,
        Self::Sleep,
        Self::SlowStep,
        Self::Wait,
    ];

    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::NoStep => "no-step",
            Self::OneStep => "one-step",
            Self::TenSteps => "ten-steps",
            Self::Keyed => "keyed",
            Self::EveryOption => "every-option",
            Self::Crowd => "crowd",
            Self::Alone => "alone",
            Self::Sleep => "sleep",
            Self::SlowStep => "slow-step",
            Self::Wait => "wait",
        }
    }

    /// How many memos a run has when it is complete.
    pub(crate) fn steps(self) -> usize {
        match self {
            Self::NoStep | Self::Crowd | Self::Alone => 0,
            Self::OneStep | Self::Keyed | Self::EveryOption | Self::Sleep | Self::SlowStep | Self::Wait => 1,
            Self::TenSteps => 10,
        }
    }

    /// The function's id on the wire; of several, the first one's.
    pub(crate) fn slug(self) -> String {
        format!("{APP_ID}-{}", self.local_id(0))
    }

    /// How many functions do this.
    fn functions(self) -> usize {
        if self == Self::Alone { LONERS } else { 1 }
    }

    /// The id within the app, and the event's name without `bench/`, of the function that run `number` is of.
    fn local_id(self, number: usize) -> String {
        match self {
            Self::Alone => format!("{}-{:02}", self.id(), number % LONERS),
            _ => self.id().to_owned(),
        }
    }

    /// How long the app takes for a call.
    pub(crate) fn slowness(self) -> Option<Duration> {
        matches!(self, Self::SlowStep | Self::Crowd).then_some(SLOWNESS)
    }

    /// The workload a call's query (`fnId=bench-…&stepId=…`) asks for.
    pub(crate) fn from_query(query: &str) -> Option<Self> {
        let fn_id = query.split('&').find_map(|pair| pair.strip_prefix("fnId="))?;
        let local = fn_id.strip_prefix(APP_ID)?.strip_prefix('-')?;
        Self::ALL.into_iter().find(|workload| match workload {
            Self::Alone => local.starts_with(workload.id()),
            _ => workload.id() == local,
        })
    }

    /// The body of the 206 that reports step `index`. The id is opaque to the server; like an SDK's it has 40 hex digits.
    pub(crate) fn operation(self, index: usize, sleep: Duration) -> String {
        let id = format!("{:08x}{:032x}", 0xb0a4_u32, index + 1);
        if self == Self::Sleep {
            return format!(
                r#"[{{"id":"{id}","op":"Sleep","name":"{}s","displayName":"nap","opts":{{}},"userland":{{"id":"nap"}},"data":null}}]"#,
                sleep.as_secs()
            );
        }
        if self == Self::Wait {
            return format!(
                r#"[{{"id":"{id}","op":"WaitForEvent","name":"{}","displayName":"wake","opts":{{"event":"{}","timeout":"300d","if":"event.data.n == async.data.n"}},"userland":{{"id":"wake"}}}}]"#,
                Self::WAKE,
                Self::WAKE
            );
        }
        // 100 bytes of output, quotes included.
        let output = format!("{index:098}");
        format!(
            r#"[{{"id":"{id}","op":"StepRun","name":"step-{index}","displayName":"step-{index}","opts":{{}},"userland":{{"id":"step-{index}"}},"data":"{output}"}}]"#
        )
    }

    /// The event that a waiting run waits for.
    pub(crate) fn wake(number: usize) -> String {
        format!(r#"{{"name":"{}","data":{{"n":{number}}}}}"#, Self::WAKE)
    }

    /// The event that starts a run, in the form of `POST /e/{key}` with a single event.
    pub(crate) fn event(self, number: usize) -> String {
        let (name, key) = (self.local_id(number), number % KEYS);
        match self {
            Self::Keyed | Self::EveryOption => {
                format!(r#"{{"name":"bench/{name}","data":{{"n":{number},"key":"{key}"}}}}"#)
            }
            _ => format!(r#"{{"name":"bench/{name}","data":{{"n":{number}}}}}"#),
        }
    }

    /// The same with an id, so that it may be sent again to who knows whether it came through.
    pub(crate) fn event_with_id(self, number: usize) -> String {
        format!(
            r#"{{"id":"bench-{number}","name":"bench/{}","data":{{"n":{number}}}}}"#,
            self.local_id(number)
        )
    }
}

/// The registration request of an app that serves all workloads at `url`.
pub(crate) fn registration(url: &str) -> Value {
    let functions: Vec<_> = Workload::ALL
        .into_iter()
        .flat_map(|workload| (0..workload.functions()).map(move |number| function(workload, number, url)))
        .collect();
    json!({
        "url": url,
        "deployType": "ping",
        "framework": "bench",
        "appName": APP_ID,
        "sdk": "js:v4.24.0",
        "v": "0.1",
        "capabilities": {},
        "functions": functions,
    })
}

fn function(workload: Workload, number: usize, url: &str) -> Value {
    let local = workload.local_id(number);
    let id = format!("{APP_ID}-{local}");
    let mut function = json!({
        "id": id,
        "name": local,
        "triggers": [{"event": format!("bench/{local}")}],
        "steps": {"step": {
            "id": "step",
            "name": "step",
            "runtime": {"type": "http", "url": format!("{url}?fnId={id}&stepId=step")},
        }},
    });
    match workload {
        Workload::Keyed => function["concurrency"] = json!([{"limit": SLOTS, "key": "event.data.key"}]),
        Workload::EveryOption => {
            let options = every_option().as_object().expect("a literal object").clone();
            function.as_object_mut().expect("a literal object").extend(options);
        }
        _ => {}
    }
    function
}

/// Left out is what has to hold runs back or to put events together: debounce, batches, and a limit that is reached.
fn every_option() -> Value {
    json!({
        "concurrency": {
            "step": [{"limit": SLOTS, "key": "event.data.key"}, {"limit": PLENTY}],
            "fn": [{"limit": SLOTS, "key": "event.data.key"}],
        },
        "throttle": {"limit": PLENTY, "period": "1s", "key": "event.data.key"},
        // One for each event: an idempotency is a rate limit of one, so that both can't be asked for.
        "idempotency": "event.data.n",
        "singleton": {"mode": "skip", "key": "event.data.n"},
        "priority": {"run": "event.data.n % 2 == 0 ? 10 : 0"},
        "timeouts": {"start": "1h", "finish": "1h"},
        "cancel": [{"event": "bench/cancel", "if": "event.data.n == async.data.n", "timeout": "1h"}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_its_workload() {
        for workload in Workload::ALL {
            let query = format!("fnId={}&stepId=step", workload.slug());
            assert_eq!(Workload::from_query(&query), Some(workload));
        }
        assert_eq!(
            Workload::from_query("fnId=bench-alone-99&stepId=step"),
            Some(Workload::Alone)
        );
        assert_eq!(Workload::from_query("stepId=step"), None);
        assert_eq!(Workload::from_query("fnId=bench-unknown"), None);
    }

    #[test]
    fn a_step_reports_one_operation_with_a_hundred_byte_output() {
        let text = Workload::TenSteps.operation(9, Duration::ZERO);
        let operations: Vec<serde_json::Value> = serde_json::from_str(&text).expect("valid JSON");
        assert_eq!(operations.len(), 1);
        assert_eq!(operations[0]["op"], "StepRun");
        assert_eq!(operations[0]["id"].as_str().map(str::len), Some(40));
        assert_eq!(operations[0]["data"].to_string().len(), 100);
        assert_ne!(text, Workload::TenSteps.operation(8, Duration::ZERO));
    }

    #[test]
    fn a_sleep_names_its_length() {
        let text = Workload::Sleep.operation(0, Duration::from_secs(60));
        let operations: Vec<serde_json::Value> = serde_json::from_str(&text).expect("valid JSON");
        assert_eq!(operations[0]["op"], "Sleep");
        assert_eq!(operations[0]["name"], "60s");
    }
}

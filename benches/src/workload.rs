//! The functions the bench app offers, and their place on the wire.
//!
//! Promises: a workload's step ids and outputs depend on nothing but the workload and the step's index.
//! Never: runs anything; the app answers, the generator sends.

use std::time::Duration;

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
    /// One sleep and nothing else.
    Sleep,
    /// One step, every call of which takes [`SLOWNESS`].
    SlowStep,
}

/// How long a call of [`Workload::SlowStep`] takes.
pub(crate) const SLOWNESS: Duration = Duration::from_millis(100);

/// Keys of [`Workload::Keyed`].
const KEYS: usize = 10_000;
/// Calls of [`Workload::Keyed`] at a time, for each key.
const SLOTS: usize = 2;

impl Workload {
    pub(crate) const ALL: [Self; 6] = [
        Self::NoStep,
        Self::OneStep,
        Self::TenSteps,
        Self::Keyed,
        Self::Sleep,
        Self::SlowStep,
    ];

    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::NoStep => "no-step",
            Self::OneStep => "one-step",
            Self::TenSteps => "ten-steps",
            Self::Keyed => "keyed",
            Self::Sleep => "sleep",
            Self::SlowStep => "slow-step",
        }
    }

    /// How many memos a run has when it is complete.
    pub(crate) fn steps(self) -> usize {
        match self {
            Self::NoStep => 0,
            Self::OneStep | Self::Keyed | Self::Sleep | Self::SlowStep => 1,
            Self::TenSteps => 10,
        }
    }

    /// The function's id on the wire.
    pub(crate) fn slug(self) -> String {
        format!("{APP_ID}-{}", self.id())
    }

    /// How long the app takes for a call.
    pub(crate) fn slowness(self) -> Option<Duration> {
        (self == Self::SlowStep).then_some(SLOWNESS)
    }

    /// The workload a call's query (`fnId=bench-…&stepId=…`) asks for.
    pub(crate) fn from_query(query: &str) -> Option<Self> {
        let fn_id = query.split('&').find_map(|pair| pair.strip_prefix("fnId="))?;
        let local = fn_id.strip_prefix(APP_ID)?.strip_prefix('-')?;
        Self::ALL.into_iter().find(|workload| workload.id() == local)
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
        // 100 bytes of output, quotes included.
        let output = format!("{index:098}");
        format!(
            r#"[{{"id":"{id}","op":"StepRun","name":"step-{index}","displayName":"step-{index}","opts":{{}},"userland":{{"id":"step-{index}"}},"data":"{output}"}}]"#
        )
    }

    /// The event that starts a run, in the form of `POST /e/{key}` with a single event.
    pub(crate) fn event(self, number: usize) -> String {
        let key = number % KEYS;
        match self {
            Self::Keyed => format!(r#"{{"name":"bench/keyed","data":{{"n":{number},"key":"{key}"}}}}"#),
            _ => format!(r#"{{"name":"bench/{}","data":{{"n":{number}}}}}"#, self.id()),
        }
    }

    /// The same with an id, so that it may be sent again to who knows whether it came through.
    pub(crate) fn event_with_id(self, number: usize) -> String {
        format!(
            r#"{{"id":"bench-{number}","name":"bench/{}","data":{{"n":{number}}}}}"#,
            self.id()
        )
    }
}

/// The registration request of an app that serves all workloads at `url`.
pub(crate) fn registration(url: &str) -> serde_json::Value {
    let functions: Vec<_> = Workload::ALL
        .into_iter()
        .map(|workload| {
            let id = workload.slug();
            let mut function = serde_json::json!({
                "id": id,
                "name": workload.id(),
                "triggers": [{"event": format!("bench/{}", workload.id())}],
                "steps": {"step": {
                    "id": "step",
                    "name": "step",
                    "runtime": {"type": "http", "url": format!("{url}?fnId={id}&stepId=step")},
                }},
            });
            if workload == Workload::Keyed {
                function["concurrency"] = serde_json::json!([{"limit": SLOTS, "key": "event.data.key"}]);
            }
            function
        })
        .collect();
    serde_json::json!({
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_its_workload() {
        for workload in Workload::ALL {
            let query = format!("fnId={APP_ID}-{}&stepId=step", workload.id());
            assert_eq!(Workload::from_query(&query), Some(workload));
        }
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

//! Documents as the SDKs' own tests send them, and what is read from their answers.

use serde_json::{Value, json};

use super::server::{Server, text};
use super::{DEADLINE, wait_for};

/// What clients select of a span.
const SPAN: &str = "name runID status attempts isRoot parentSpanID spanID queuedAt startedAt endedAt duration outputID
    stepOp stepType stepID stepInfo { __typename
        ... on InvokeStepInfo { triggeringEventID functionID timeout returnEventID runID timedOut }
        ... on SleepStepInfo { sleepUntil }
        ... on WaitForEventStepInfo { eventName expression timeout foundEventID timedOut }
        ... on WaitForSignalStepInfo { signal timeout timedOut } }";

impl Server {
    /// Sends a document; answers its data, if nothing went wrong.
    #[track_caller]
    pub(crate) fn try_graphql(&self, query: &str, variables: &Value) -> Result<Value, Value> {
        let body = json!({"query": query, "variables": variables});
        let answer = self.post("/v0/gql", &body).expect(200).json();
        match answer.get("errors") {
            Some(errors) => Err(errors.clone()),
            None => Ok(answer["data"].clone()),
        }
    }

    /// The same where nothing may go wrong.
    #[track_caller]
    pub(crate) fn graphql(&self, query: &str, variables: &Value) -> Value {
        let answer = self.try_graphql(query, variables);
        answer.unwrap_or_else(|errors| panic!("{errors:#}"))
    }

    /// A run with three levels of its trace.
    #[track_caller]
    pub(crate) fn trace(&self, run: &str, preview: bool) -> Value {
        let query = format!(
            "query ($id: String!, $preview: Boolean) {{ run(runID: $id) {{ status traceID isBatch batchCreatedAt cronSchedule endedAt
                trace(preview: $preview) {{ {SPAN} childrenSpans {{ {SPAN} childrenSpans {{ {SPAN} }} }} }} }} }}"
        );
        let data = self.graphql(&query, &json!({"id": run, "preview": preview}));
        let trace = data["run"]["trace"].clone();
        in_order(&trace);
        trace
    }

    /// Waits until the trace's root has this status.
    #[track_caller]
    pub(crate) fn wait_for_trace(&self, run: &str, status: &str) -> Value {
        wait_for("the trace's status", DEADLINE, || {
            let trace = self.trace(run, true);
            (trace["status"] == status).then_some(trace)
        })
    }

    /// What an output id stands for.
    #[track_caller]
    pub(crate) fn output(&self, span: &Value) -> Value {
        let query = "query ($id: String!) { runTraceSpanOutputByID(outputID: $id) { input data error { message name stack cause } } }";
        let data = self.graphql(query, &json!({"id": text(&span["outputID"])}));
        data["runTraceSpanOutputByID"].clone()
    }

    /// The data of an output.
    #[track_caller]
    pub(crate) fn output_data(&self, span: &Value) -> Value {
        let output = self.output(span);
        assert_eq!(output["error"], Value::Null, "{output}");
        serde_json::from_str(output["data"].as_str().expect("data")).expect("JSON")
    }
}

/// A span's times are in order, and its duration is known when it has ended.
#[track_caller]
fn in_order(span: &Value) {
    let time = |key: &str| span[key].as_str();
    assert!(
        time("startedAt").is_none_or(|at| time("queuedAt").expect("is set") <= at),
        "{span:#}"
    );
    if let Some(ended_at) = time("endedAt") {
        assert!(time("startedAt").expect("is set") <= ended_at, "{span:#}");
        assert!(span["duration"].is_u64(), "{span:#}");
    } else {
        assert_eq!(span["duration"], Value::Null);
    }
    for child in span["childrenSpans"].as_array().into_iter().flatten() {
        in_order(child);
    }
}

/// The children of a span.
#[track_caller]
pub(crate) fn children(span: &Value) -> &[Value] {
    span["childrenSpans"].as_array().expect("children")
}

/// The only child of that name.
#[track_caller]
pub(crate) fn child<'a>(span: &'a Value, name: &str) -> &'a Value {
    let found: Vec<_> = children(span).iter().filter(|child| child["name"] == name).collect();
    assert_eq!(found.len(), 1, "`{name}` in {span:#}");
    found[0]
}

/// What a span says under these keys.
pub(crate) fn say<const N: usize>(span: &Value, keys: [&str; N]) -> [Value; N] {
    keys.map(|key| span[key].clone())
}

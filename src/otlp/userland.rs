//! Spans that apps send of what goes on in their runs.
//!
//! An SDK tells by attributes which run a span belongs to, and which of the server's spans it is to hang below. Those are
//! taken off; the rest is the user's.

use std::collections::BTreeMap;

use callboard_actors::domain::{RunId, SpanId, SpanOutcome, StepId, UserSpan};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::values::attributes;
use super::wire::{ExportTraceServiceRequest, Span, kind_name};

/// What the SDK adds for the server.
const RUN: &str = "sdk.run.id";
const CALL: &str = "inngest.traceref";
const OF_STEP: &str = "inngest.step.parentSpanId";
const STEP: &str = "inngest.step.hash";
const ATTEMPT: &str = "inngest.step.attempt";
const FURTHER: [&str; 6] = [
    "inngest.traceparent",
    "inngest.step.id",
    "inngest.step.index",
    "sdk.app.id",
    "sys.app.id",
    "sys.function.id",
];

/// The spans of an export.
#[derive(Debug, Default, PartialEq)]
pub struct Export {
    /// By run.
    pub by_run: BTreeMap<RunId, Vec<UserSpan>>,
    /// How many say nothing of a run, or nothing that can be understood.
    pub stray: usize,
}

impl Export {
    /// Reads an export.
    #[must_use]
    pub fn of(request: ExportTraceServiceRequest) -> Self {
        let mut export = Self::default();
        for resource in request.resource_spans {
            let of_resource = attributes(resource.resource.unwrap_or_default().attributes);
            for scope in resource.scope_spans {
                let library = scope.scope.unwrap_or_default();
                for span in scope.spans {
                    match read(span, &of_resource, &library.name, &library.version) {
                        Some((run, span)) => export.by_run.entry(run).or_default().push(span),
                        None => export.stray += 1,
                    }
                }
            }
        }
        export
    }
}

fn id(bytes: &[u8]) -> Option<SpanId> {
    SpanId::from_bytes(bytes.try_into().ok()?)
}

fn nanos(nanos: u64) -> i64 {
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

fn read(span: Span, resource: &Map<String, Value>, scope: &str, scope_version: &str) -> Option<(RunId, UserSpan)> {
    let mut own = attributes(span.attributes);
    let mut take = |name: &str| own.remove(name);
    let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
    let run = text(take(RUN))?.parse::<RunId>().ok()?;
    let of_call = call(&text(take(CALL))?)?;
    let of_step = text(take(OF_STEP)).and_then(|id| id.parse().ok());
    let step = text(take(STEP)).filter(|step| !step.is_empty() && step.len() <= StepId::MAX_LEN);
    let attempt = take(ATTEMPT).and_then(|attempt| u32::try_from(attempt.as_u64()?).ok());
    for name in FURTHER {
        take(name);
    }
    let status = span.status.unwrap_or_default();
    let outcome = match status.code {
        1 => SpanOutcome::Ok,
        2 => SpanOutcome::Error,
        _ => SpanOutcome::Unset,
    };
    let happened = span.events.into_iter().map(|event| {
        json!({"name": event.name, "at": nanos(event.time_unix_nano), "attributes": attributes(event.attributes)})
    });
    let links = span.links.into_iter().map(|link| {
        json!({"trace_id": hex::encode(link.trace_id), "span_id": hex::encode(link.span_id),
            "attributes": attributes(link.attributes)})
    });
    let read = UserSpan {
        id: id(&span.span_id)?,
        parent: id(&span.parent_span_id),
        of_step,
        of_call: Some(of_call),
        step: step.as_deref().map(StepId::from),
        attempt,
        name: span.name,
        kind: kind_name(span.kind).to_owned(),
        started_at: nanos(span.start_time_unix_nano),
        ended_at: nanos(span.end_time_unix_nano),
        outcome,
        message: status.message,
        scope: scope.to_owned(),
        scope_version: scope_version.to_owned(),
        resource: resource.clone(),
        events: happened.collect(),
        links: links.collect(),
        attributes: own,
    };
    Some((run, read))
}

#[derive(Deserialize)]
struct Reference {
    tp: String,
}

/// The server's span that a reference names: JSON, as it was sent with the call or with its escapes resolved.
fn call(reference: &str) -> Option<SpanId> {
    let unescaped = percent(reference);
    let reference: Reference = serde_json::from_str(reference)
        .or_else(|_| serde_json::from_str(unescaped.as_deref().unwrap_or_default()))
        .ok()?;
    let mut parts = reference.tp.split('-');
    let (_version, _trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    span.parse().ok()
}

/// A text without its escapes, if they are in order.
fn percent(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let mut decoded = [0];
            hex::decode_to_slice(digits, &mut decoded).ok()?;
            bytes.extend(decoded);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const TRACE: &str = "71eeab122c16e2337e13aa425bc51912";

    fn export(attributes: &Value) -> Export {
        let attributes: Vec<Value> = attributes
            .as_object()
            .expect("an object")
            .iter()
            .map(|(key, value)| match value {
                Value::Number(number) => json!({"key": key, "value": {"intValue": number}}),
                text => json!({"key": key, "value": {"stringValue": text}}),
            })
            .collect();
        let request = json!({"resourceSpans": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeSpans": [{"scope": {"name": "lib"}, "spans": [{"traceId": TRACE, "spanId": "b5c2db5b06a644c5",
                "parentSpanId": "dd9fc5ea353468a4", "name": "work", "kind": 1, "startTimeUnixNano": "5", "endTimeUnixNano": "9",
                "attributes": attributes, "status": {"code": 2, "message": "oh"},
                "events": [{"name": "e", "timeUnixNano": "7"}], "links": [{"traceId": TRACE, "spanId": "b5c2db5b06a644c5"}]}]}]}]});
        Export::of(serde_json::from_value(request).expect("valid"))
    }

    #[test]
    fn what_the_sdk_adds_is_read_and_taken_off() {
        let run = RunId::new(callboard_actors::domain::Timestamp::from_millis(1), 7);
        let escaped = format!("%7B%22tp%22%3A%2200-{TRACE}-b017a66031df8079-01%22%2C%22ts%22%3A%22%22%7D");
        for reference in [
            escaped,
            format!("{{\"tp\":\"00-{TRACE}-b017a66031df8079-01\",\"ts\":\"\"}}"),
        ] {
            let export = export(
                &json!({"sdk.run.id": run, "inngest.traceref": reference, "inngest.step.hash": "abc",
                "inngest.step.attempt": 2, "inngest.step.parentSpanId": "2d32f4eb8dbb5b91", "inngest.step.id": "a",
                "sdk.app.id": "x", "mine": 1}),
            );
            let span = &export.by_run[&run][0];
            assert_eq!(
                span.of_call.map(|id| id.to_string()).as_deref(),
                Some("b017a66031df8079")
            );
            assert_eq!(
                span.of_step.map(|id| id.to_string()).as_deref(),
                Some("2d32f4eb8dbb5b91")
            );
            assert_eq!(
                (span.step.as_ref().map(StepId::as_str), span.attempt),
                (Some("abc"), Some(2))
            );
            assert_eq!(Value::Object(span.attributes.clone()), json!({"mine": 1}));
            assert_eq!(
                (span.service(), span.outcome, &*span.message),
                (Some("shop"), SpanOutcome::Error, "oh")
            );
            assert_eq!((span.events.len(), span.links.len(), &*span.kind), (1, 1, "INTERNAL"));
        }
    }

    #[rstest]
    #[case(json!({}))]
    #[case(json!({"sdk.run.id": "01JZ0000000000000000000009"}))]
    #[case(json!({"sdk.run.id": "01JZ0000000000000000000009", "inngest.traceref": "%7"}))]
    #[case(json!({"sdk.run.id": "01JZ0000000000000000000009", "inngest.traceref": "{\"tp\":\"00-x\"}"}))]
    #[case(json!({"sdk.run.id": "mine", "inngest.traceref": "{\"tp\":\"00-x-b017a66031df8079-01\"}"}))]
    fn what_belongs_to_no_run_is_stray(#[case] attributes: Value) {
        let export = export(&attributes);
        assert_eq!((export.stray, export.by_run.len()), (1, 0));
    }
}

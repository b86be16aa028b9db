//! The trace of a run.

use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use callboard_actors::domain::Metadata;
use serde_json::Value;

use super::answer::{Answer, Message, Refused};
use super::reading::Asked;
use super::runs::{run_id, unknown};
use crate::http::graphql::{Span, Viewed};
use crate::http::state::State;

pub(super) async fn get(id: Path<String>, req: HttpRequest, state: State) -> Result<HttpResponse, Refused> {
    let api = state.api()?;
    let with_output = Asked::of(&req).switch("includeOutput")?.unwrap_or(false);
    let run = run_id(&id)?;
    let viewed = Viewed::load(api, run).await?.ok_or_else(unknown)?;
    let noted = Metadata::of(api.store().metadata(run).await?.unwrap_or_default());
    let catalog = api.catalog();
    let function = catalog.function(viewed.view.summary.function).ok_or_else(unknown)?;
    let root = Span::root(&viewed, function);
    let printer = Printer {
        viewed: &viewed,
        noted: &noted,
        with_output,
    };
    let trace = Message::new()
        .with("runId", run.to_string())
        .message("rootSpan", printer.print(&root, true));
    Ok(Answer::new(trace, api.clock().now()).into())
}

struct Printer<'a> {
    viewed: &'a Viewed,
    noted: &'a Metadata,
    with_output: bool,
}

impl Printer<'_> {
    fn print(&self, span: &Span, is_root: bool) -> Message {
        let meant = self
            .noted
            .entries()
            .iter()
            .filter(|entry| span.is_meant(&entry.target, is_root));
        let metadata = meant.map(|entry| {
            let entry = Message::new()
                .with("scope", entry.target.scope())
                .with("kind", entry.kind.as_str())
                .raw("values", Some(Value::Object(entry.values.clone())))
                .at("updatedAt", Some(entry.updated_at));
            Value::from(entry)
        });
        let children = span.children.iter().map(|child| Value::from(self.print(child, false)));
        let duration = span.ended_at.zip(span.started_at).map(|(end, start)| end.since(start));
        let output = if self.with_output {
            span.output(&self.viewed.view)
        } else {
            None
        };
        Message::new()
            .with("id", span.id.as_str())
            .with("name", span.name.as_str())
            .with("status", span.status.as_str())
            .with("stepOp", span.step_op())
            .with("stepId", span.step_id.clone())
            .long("durationMs", duration.map(|duration| duration.as_millis()))
            .at("queuedAt", Some(span.queued_at))
            .at("startedAt", span.started_at)
            .at("endedAt", span.ended_at)
            .raw("output", output)
            .with("metadata", metadata.collect::<Vec<_>>())
            .with("children", children.collect::<Vec<_>>())
    }
}

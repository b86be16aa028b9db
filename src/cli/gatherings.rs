//! `callboard gatherings`: the debounces and batches of a function that hold events and have not started their run; starts
//! one at once.
//!
//! Talks to `/api/v1/functions/{id}/gatherings` of a running server. Members of answers that it does not know are ignored,
//! missing ones shown as `-`.

use awc::http::Method;
use clap::{Args, Subcommand};
use serde_json::Value;
use url::form_urlencoded::byte_serialize;

use super::client::{PagedArgs, ServerArgs};
use crate::error::Problem;

/// Arguments of `callboard gatherings`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct GatheringsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Wish,
}

/// What to do about gatherings.
#[derive(Debug, Subcommand)]
pub enum Wish {
    /// List those of a function, the first opened first.
    List(ListArgs),
    /// Start the run of one now, with what it holds.
    Fire(FireArgs),
}

/// Arguments of `callboard gatherings list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The function: its slug or UUID
    pub function: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub paged: PagedArgs,
}

/// Arguments of `callboard gatherings fire`.
#[derive(Debug, Args)]
pub struct FireArgs {
    /// The function: its slug or UUID
    pub function: String,
    /// The gathering's id
    pub id: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub server: ServerArgs,
}

/// Does it. Answers what to print.
///
/// # Errors
/// When the server does not answer, or refuses.
pub async fn run(args: &GatheringsArgs) -> Result<String, Problem> {
    match &args.command {
        Wish::List(args) => {
            let path = path(&args.function);
            args.paged.list(&path, std::iter::empty(), render).await
        }
        Wish::Fire(args) => {
            let path = format!("{}/{}/fire", path(&args.function), segment(&args.id));
            Ok(told(&args.server.send(Method::POST, &path).await?))
        }
    }
}

/// What is neither slug nor id must not become another path.
fn segment(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

fn path(function: &str) -> String {
    format!("/api/v1/functions/{}/gatherings", segment(function))
}

/// What came of firing one.
fn told(fired: &Value) -> String {
    let events = match fired["events"].as_u64() {
        Some(1) => "1 event".to_owned(),
        Some(count) => format!("{count} events"),
        None => "its events".to_owned(),
    };
    match fired["run_id"].as_str() {
        Some(run) => format!("{run} runs with {events}.\n"),
        None => format!("No run was started with {events}; `GET /api/v1/events/{{id}}` says why.\n"),
    }
}

/// A page for people.
fn render(page: &Value) -> String {
    let gatherings = page["gatherings"].as_array().map(Vec::as_slice).unwrap_or_default();
    if gatherings.is_empty() {
        return "There are none.\n".to_owned();
    }
    let mut table = super::table(["ID", "KIND", "EVENTS", "BYTES", "OPENED", "DUE", "BY", "KEY"]);
    for gathering in gatherings {
        let names = ["id", "kind", "events", "bytes", "opened_at", "due_at", "due_by", "key"];
        table.add_row(super::cells(gathering, names));
    }
    super::paged(&table, page)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn gatherings_are_shown_a_line_each() {
        let page = json!({
            "gatherings": [
                {"id": "01G", "kind": "batch", "key": "\"a b\"", "events": 3, "bytes": 99, "due_by": "timeout",
                    "opened_at": "2026-01-01T00:00:00.000Z", "due_at": "2026-01-01T00:01:00.000Z"},
                {},
            ],
            "cursor": "01G",
        });
        let shown = render(&page);
        let lines: Vec<Vec<_>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        let times = ["2026-01-01T00:00:00.000Z", "2026-01-01T00:01:00.000Z"];
        assert_eq!(
            lines[1],
            ["01G", "batch", "3", "99", times[0], times[1], "timeout", "\"a", "b\""]
        );
        assert_eq!(lines[2], ["-"; 8], "of another version");
        assert_eq!(shown.lines().last(), Some("There are more: --cursor 01G"));
        assert_eq!(render(&json!({"gatherings": []})), "There are none.\n");
    }

    #[test]
    fn what_came_of_firing_is_told_in_a_line() {
        assert_eq!(
            told(&json!({"run_id": "01R", "events": 2})),
            "01R runs with 2 events.\n"
        );
        assert_eq!(
            told(&json!({"events": 1})),
            "No run was started with 1 event; `GET /api/v1/events/{id}` says why.\n"
        );
    }

    #[test]
    fn a_function_stays_one_segment_of_the_path() {
        assert_eq!(path("../runs?x"), "/api/v1/functions/..%2Fruns%3Fx/gatherings");
    }
}

//! `callboard operations`: has a running server cancel many runs, or do many again, and shows how far it has come.
//!
//! Talks to `/api/v1/operations`. Members of answers that it does not know are ignored, missing ones shown as `-`.

use std::time::Duration;

use awc::http::Method;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use url::form_urlencoded::byte_serialize;

use super::cell;
use super::client::{AnswerArgs, PagedArgs, ServerArgs};
use crate::error::Problem;

const PATH: &str = "/api/v1/operations";
/// Between two looks at an operation that is waited for.
const LOOK: Duration = Duration::from_millis(500);

/// Arguments of `callboard operations`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct OperationsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Wish,
}

/// What to do about operations.
#[derive(Debug, Subcommand)]
pub enum Wish {
    /// Count the runs that one would be about, without doing anything.
    Preview(WishArgs),
    /// Begin one. It goes on by itself, also after a restart of the server.
    Begin(BeginArgs),
    /// List them, from new to old.
    List(PagedArgs),
    /// Show one.
    Show(OneArgs),
    /// Stop one. What it has done is done.
    Cancel(OneArgs),
}

/// What is done to the runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Cancel runs that have not ended.
    Cancel,
    /// Do runs again that have ended.
    Replay,
    /// Do runs again that have failed, unless that has been done since, and try jobs again that were given up.
    RetryFailed,
}

/// What to do to which runs.
#[derive(Debug, Args)]
pub struct WishArgs {
    /// What to do to them
    pub kind: Kind,
    /// Of this function: its slug or UUID
    #[arg(long, value_name = "FUNCTION")]
    pub function: Option<String>,
    /// Of this app
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// In these statuses, with commas
    #[arg(long, value_name = "STATUSES")]
    pub status: Option<String>,
    /// Created then or later: RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Created before
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Started by an event of which this expression is true, such as `event.data.plan == 'pro'`
    #[arg(long = "if", value_name = "EXPRESSION")]
    pub condition: Option<String>,
    /// Runs done again per second, 1 to 1000
    #[arg(long, value_name = "COUNT")]
    pub rate: Option<u32>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub server: ServerArgs,
}

/// Arguments of `callboard operations begin`.
#[derive(Debug, Args)]
pub struct BeginArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub wish: WishArgs,
    /// Wait until it has ended, and say how far it has come on standard error
    #[arg(long)]
    pub wait: bool,
}

/// One operation.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// Its id
    pub id: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub answer: AnswerArgs,
}

/// Does it. Answers what to print.
///
/// # Errors
/// When the server does not answer, or refuses.
pub async fn run(args: &OperationsArgs) -> Result<String, Problem> {
    match &args.command {
        Wish::Preview(args) => {
            let count = args
                .server
                .send_json(Method::POST, &format!("{PATH}/preview"), &body(args))
                .await?;
            Ok(format!("{} runs.\n", counted(&count)))
        }
        Wish::Begin(args) => begin(args).await,
        Wish::List(args) => args.list(PATH, std::iter::empty(), render).await,
        Wish::Show(args) => {
            let operation = args.answer.server.get(&path(&args.id, "")).await?;
            Ok(shown(&operation, args.answer.json))
        }
        Wish::Cancel(args) => {
            let operation = args
                .answer
                .server
                .send(Method::POST, &path(&args.id, "/cancel"))
                .await?;
            Ok(shown(&operation, args.answer.json))
        }
    }
}

/// The path of an operation. What is no id must not become another path.
fn path(id: &str, rest: &str) -> String {
    let id: String = byte_serialize(id.as_bytes()).collect();
    format!("{PATH}/{id}{rest}")
}

fn body(args: &WishArgs) -> Value {
    let kind = match args.kind {
        Kind::Cancel => "cancel",
        Kind::Replay => "replay",
        Kind::RetryFailed => "retry_failed",
    };
    let mut body = Map::new();
    body.insert("kind".to_owned(), kind.into());
    let members = [
        ("function", &args.function),
        ("app", &args.app),
        ("status", &args.status),
        ("from", &args.from),
        ("until", &args.until),
        ("if", &args.condition),
    ];
    for (name, value) in members {
        body.extend(value.as_ref().map(|value| (name.to_owned(), json!(value))));
    }
    body.extend(args.rate.map(|rate| ("rate".to_owned(), rate.into())));
    Value::Object(body)
}

async fn begin(args: &BeginArgs) -> Result<String, Problem> {
    let server = &args.wish.server;
    let mut operation = server.send_json(Method::POST, PATH, &body(&args.wish)).await?;
    let path = path(&cell(&operation["id"]), "");
    let mut told = String::new();
    while args.wait && operation["state"] == "running" {
        let line = progress(&operation);
        if line != told {
            eprintln!("{line}");
            told = line;
        }
        actix_rt::time::sleep(LOOK).await;
        operation = server.get(&path).await?;
    }
    Ok(shown(&operation, false))
}

fn shown(operation: &Value, as_json: bool) -> String {
    if as_json {
        return format!("{operation:#}\n");
    }
    let mut shown = format!(
        "{} {}: {}\n",
        cell(&operation["id"]),
        cell(&operation["state"]),
        progress(operation)
    );
    if let Some(error) = operation["last_error"].as_str() {
        shown += &format!("{error}\n");
    }
    shown
}

/// `30 of about 60 done, 1 failed, 2 skipped`
fn progress(operation: &Value) -> String {
    format!(
        "{} of {} done, {} failed, {} skipped",
        cell(&operation["done"]),
        counted(&operation["total"]),
        cell(&operation["failed"]),
        cell(&operation["skipped"])
    )
}

fn counted(count: &Value) -> String {
    let number = cell(&count["count"]);
    match count["precision"].as_str() {
        Some("estimate") => format!("about {number}"),
        Some("at_least") => format!("at least {number}"),
        _ => number,
    }
}

/// A page of operations for people.
fn render(page: &Value) -> String {
    let operations = page["operations"].as_array().map(Vec::as_slice).unwrap_or_default();
    if operations.is_empty() {
        return "There are none.\n".to_owned();
    }
    let mut table = super::table([
        "ID", "CREATED", "KIND", "STATE", "TOTAL", "DONE", "FAILED", "SKIPPED", "ENDED",
    ]);
    for operation in operations {
        table.add_row([
            cell(&operation["id"]),
            cell(&operation["created_at"]),
            cell(&operation["kind"]),
            cell(&operation["state"]),
            counted(&operation["total"]),
            cell(&operation["done"]),
            cell(&operation["failed"]),
            cell(&operation["skipped"]),
            cell(&operation["ended_at"]),
        ]);
    }
    super::paged(&table, page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_has_come_is_told_in_a_line() {
        let operation = json!({
            "id": "01O", "state": "running", "done": 30, "failed": 1, "skipped": 2,
            "total": {"count": 60, "precision": "estimate"}, "last_error": "run 01R: no",
        });
        assert_eq!(
            shown(&operation, false),
            "01O running: 30 of about 60 done, 1 failed, 2 skipped\nrun 01R: no\n"
        );
        assert_eq!(counted(&json!({"count": 7, "precision": "at_least"})), "at least 7");
        assert_eq!(
            shown(&json!({}), false),
            "- -: - of - done, - failed, - skipped\n",
            "of another version"
        );
    }

    #[test]
    fn operations_are_listed() {
        let page = json!({"operations": [
            {"id": "01O", "created_at": "2026-01-01T00:00:00.000Z", "kind": "cancel", "state": "finished",
                "total": {"count": 3, "precision": "exact"}, "done": 2, "failed": 0, "skipped": 1,
                "ended_at": "2026-01-01T00:00:01.000Z"},
            {},
        ], "cursor": "01O"});
        let shown = render(&page);
        let lines: Vec<Vec<_>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1][2..8], ["cancel", "finished", "3", "2", "0", "1"]);
        assert_eq!(lines[2], ["-"; 9], "of another version");
        assert_eq!(shown.lines().last(), Some("There are more: --cursor 01O"));
        assert_eq!(render(&json!({"operations": []})), "There are none.\n");
    }
}

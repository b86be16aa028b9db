//! `callboard functions`: which functions a running server has and what they may do; pauses, drains and resumes them.
//!
//! Talks to `/api/v1/functions`. Members of answers that it does not know are ignored, missing ones shown as `-`.

use awc::http::Method;
use clap::{Args, Subcommand};
use serde_json::Value;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::cell;
use super::client::{AnswerArgs, ServerArgs};
use crate::error::Problem;

const PATH: &str = "/api/v1/functions";

/// Arguments of `callboard functions`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct FunctionsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Wish,
}

/// What to do about functions.
#[derive(Debug, Subcommand)]
pub enum Wish {
    /// List them, with what they may do.
    List(ListArgs),
    /// Have one start no runs, and leave its app alone; runs under way wait.
    Pause(OneArgs),
    /// Have one start no runs; those under way go on to their ends.
    Drain(OneArgs),
    /// Have one go on.
    Resume(OneArgs),
}

/// Arguments of `callboard functions list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Of this app
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// With those that a later registration has left out
    #[arg(long)]
    pub archived: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub answer: AnswerArgs,
}

/// One function.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// Its slug or UUID
    pub function: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub server: ServerArgs,
}

/// Does it. Answers what to print.
///
/// # Errors
/// When the server does not answer, or refuses.
pub async fn run(args: &FunctionsArgs) -> Result<String, Problem> {
    match &args.command {
        Wish::List(args) => list(args).await,
        Wish::Pause(args) => set(args, "pause").await,
        Wish::Drain(args) => set(args, "drain").await,
        Wish::Resume(args) => set(args, "resume").await,
    }
}

async fn list(args: &ListArgs) -> Result<String, Problem> {
    let query = Serializer::new(String::new())
        .extend_pairs(args.app.as_deref().map(|app| ("app", app)))
        .append_pair("archived", if args.archived { "true" } else { "false" })
        .finish();
    let answer = args.answer.server.get(&format!("{PATH}?{query}")).await?;
    let functions = answer["functions"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(match functions {
        _ if args.answer.json => format!("{answer:#}\n"),
        [] => "There are none.\n".to_owned(),
        functions => table(functions),
    })
}

async fn set(args: &OneArgs, wish: &str) -> Result<String, Problem> {
    // What is no slug must not become another path.
    let function: String = byte_serialize(args.function.as_bytes()).collect();
    let outcome = args
        .server
        .send(Method::POST, &format!("{PATH}/{function}/{wish}"))
        .await?;
    Ok(told(&outcome))
}

/// What came of a wish.
fn told(outcome: &Value) -> String {
    let function = &outcome["function"];
    let already = if outcome["changed"] == false { " already" } else { "" };
    let open = match function["open_runs"].as_u64() {
        Some(1) => "1 of its runs has not ended".to_owned(),
        Some(count) => format!("{count} of its runs have not ended"),
        None => "how many of its runs have not ended is not known".to_owned(),
    };
    format!(
        "{} is {}{already}; {open}.\n",
        cell(&function["slug"]),
        cell(&function["mode"])
    )
}

/// Functions for people.
pub(super) fn table(functions: &[Value]) -> String {
    let mut table = super::table(["FUNCTION", "MODE", "SINCE", "OPEN RUNS", "APP", "VERSION", "ID"]);
    for function in functions {
        let archived = if function["archived"] == true { ", archived" } else { "" };
        table.add_row([
            cell(&function["slug"]),
            format!("{}{archived}", cell(&function["mode"])),
            cell(&function["mode_since"]),
            cell(&function["open_runs"]),
            cell(&function["app"]),
            cell(&function["version"]),
            cell(&function["id"]),
        ]);
    }
    super::trimmed(&table)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_came_of_a_wish_is_told_in_a_line() {
        let function = json!({"slug": "shop-charge", "mode": "draining", "open_runs": 1});
        let told_now = told(&json!({"changed": true, "function": function}));
        assert_eq!(told_now, "shop-charge is draining; 1 of its runs has not ended.\n");
        let again = told(&json!({"changed": false, "function": {"slug": "a", "mode": "active", "open_runs": 2}}));
        assert_eq!(again, "a is active already; 2 of its runs have not ended.\n");
        assert!(told(&json!({})).starts_with("- is -; "), "of another version");
    }

    #[test]
    fn functions_are_listed_with_what_they_may_do() {
        let shown = table(&[
            json!({"slug": "a", "mode": "paused", "mode_since": "2026-01-01T00:00:00.000Z", "open_runs": 3,
                "app": "shop", "version": 2, "id": "x", "archived": true}),
            json!({}),
        ]);
        let lines: Vec<Vec<_>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines[1],
            [
                "a",
                "paused,",
                "archived",
                "2026-01-01T00:00:00.000Z",
                "3",
                "shop",
                "2",
                "x"
            ]
        );
        assert_eq!(lines[2], ["-"; 7], "of another version");
    }
}

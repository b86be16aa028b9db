//! `callboard keys`: makes keys to a running server, lists them, and takes them back.
//!
//! Talks to `/api/v1/keys`, which wants an admin's key. Members of answers that it does not know are ignored, missing ones shown
//! as `-`. Never: prints a key but a new one, once, alone on standard output.

use awc::http::Method;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use url::form_urlencoded::byte_serialize;

use super::cell;
use super::client::AnswerArgs;
use crate::error::Problem;

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  callboard keys create prometheus --scope read
  callboard keys create deploy --scope write --expires-in 90d
  callboard keys create shop --scope events
  callboard keys revoke 01JZ3M5Q2W8N6T4V7X9Y0A1B2C";

const PATH: &str = "/api/v1/keys";

/// Arguments of `callboard keys`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct KeysArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Wish,
}

/// What to do about keys.
#[derive(Debug, Subcommand)]
pub enum Wish {
    /// Make one, and print it: it is not shown again.
    Create(CreateArgs),
    /// List them, from new to old, and those of the settings.
    List(AnswerArgs),
    /// Take one back, within seconds on all instances.
    Revoke(RevokeArgs),
}

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// Sending events, as an event key.
    Events,
    /// Looking at everything but keys.
    Read,
    /// And changing it.
    Write,
    /// And keys.
    Admin,
}

/// Arguments of `callboard keys create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What to call it
    pub name: String,
    /// What it is good for
    #[arg(long)]
    pub scope: Scope,
    /// How long it lasts, such as `90d` [default: until it is revoked]
    #[arg(long, value_name = "DURATION", conflicts_with = "expires_at")]
    pub expires_in: Option<String>,
    /// When it ends: RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIME")]
    pub expires_at: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub answer: AnswerArgs,
}

/// Arguments of `callboard keys revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
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
pub async fn run(args: &KeysArgs) -> Result<String, Problem> {
    match &args.command {
        Wish::Create(args) => {
            let made = args.answer.server.send_json(Method::POST, PATH, &body(args)).await?;
            if args.answer.json {
                return Ok(format!("{made:#}\n"));
            }
            // The key alone is what a script wants of it.
            eprintln!(
                "{} {}, {}; keep it, it is not shown again:",
                cell(&made["id"]),
                cell(&made["name"]),
                cell(&made["scope"])
            );
            Ok(format!("{}\n", cell(&made["key"])))
        }
        Wish::List(args) => {
            let page = args.server.get(PATH).await?;
            Ok(if args.json {
                format!("{page:#}\n")
            } else {
                render(&page)
            })
        }
        Wish::Revoke(args) => {
            // What is no id must not become another path.
            let id: String = byte_serialize(args.id.as_bytes()).collect();
            let key = args.answer.server.send(Method::DELETE, &format!("{PATH}/{id}")).await?;
            Ok(if args.answer.json {
                format!("{key:#}\n")
            } else {
                format!("{} {}: {}\n", cell(&key["id"]), cell(&key["name"]), cell(&key["state"]))
            })
        }
    }
}

fn body(args: &CreateArgs) -> Value {
    let scope = args.scope.to_possible_value();
    let scope = scope.as_ref().map(|scope| scope.get_name().to_owned());
    let members = [
        ("name", Some(args.name.clone())),
        ("scope", scope),
        ("expires_in", args.expires_in.clone()),
        ("expires_at", args.expires_at.clone()),
    ];
    let members = members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
    Value::Object(members.collect::<Map<_, _>>())
}

/// The keys for people.
fn render(page: &Value) -> String {
    let keys = page["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    if keys.is_empty() {
        return "There are none: nobody needs one.\n".to_owned();
    }
    let mut table = super::table([
        "ID",
        "NAME",
        "SCOPE",
        "STATE",
        "KEY",
        "CREATED",
        "EXPIRES",
        "LAST USED",
        "SOURCE",
    ]);
    for key in keys {
        table.add_row(super::cells(
            key,
            [
                "id",
                "name",
                "scope",
                "state",
                "hint",
                "created_at",
                "expires_at",
                "last_used_at",
                "source",
            ],
        ));
    }
    super::trimmed(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_listed() {
        let page = json!({"keys": [
            {"id": "01K", "name": "deploy", "scope": "write", "state": "active", "hint": "***a1b2", "source": "database",
                "created_at": "2026-01-01T00:00:00.000Z"},
            {},
        ]});
        let shown = render(&page);
        let lines: Vec<Vec<_>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        let expected = [
            "01K",
            "deploy",
            "write",
            "active",
            "***a1b2",
            "2026-01-01T00:00:00.000Z",
            "-",
            "-",
            "database",
        ];
        assert_eq!(lines[1], expected);
        assert_eq!(lines[2], ["-"; 9], "of another version");
        assert_eq!(render(&json!({"keys": []})), "There are none: nobody needs one.\n");
    }
}

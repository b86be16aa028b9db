//! `callboard runs`: cancels a run of a running server, or has it done again.
//!
//! Talks to `/api/v1/runs`.

use awc::http::Method;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

use super::client::ServerArgs;
use crate::error::{Code, Problem};

/// Arguments of `callboard runs`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct RunsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Wish,
}

/// What to do about runs.
#[derive(Debug, Subcommand)]
pub enum Wish {
    /// Show one, with its steps and what it is waiting for.
    Show(OneArgs),
    /// Cancel one.
    Cancel(OneArgs),
    /// Do one again: a new run of the same events.
    Rerun(RerunArgs),
}

/// One run.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// Its id
    pub id: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub server: ServerArgs,
}

/// Arguments of `callboard runs rerun`.
#[derive(Debug, Args)]
pub struct RerunArgs {
    /// The run's id
    pub id: String,
    /// The step to begin with: its id, or its name if no other has it; what completed before it keeps its results
    #[arg(long, value_name = "STEP")]
    pub from_step: Option<String>,
    /// What that step is given in place of its arguments: a JSON array
    #[arg(long, value_name = "JSON", requires = "from_step")]
    pub input: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub server: ServerArgs,
}

/// Does it. Answers what to print.
///
/// # Errors
/// When the server does not answer, or refuses.
pub async fn run(args: &RunsArgs) -> Result<String, Problem> {
    match &args.command {
        Wish::Show(args) => {
            let run = args.server.get(&path(&args.id, "")).await?;
            Ok(format!("{run:#}\n"))
        }
        Wish::Cancel(args) => {
            let outcome = args.server.send(Method::POST, &path(&args.id, "/cancel")).await?;
            Ok(match outcome["cancelled"].as_bool() {
                Some(false) => format!("{} had ended before.\n", args.id),
                _ => format!("{} is cancelled.\n", args.id),
            })
        }
        Wish::Rerun(args) => {
            let outcome = args
                .server
                .send_json(Method::POST, &path(&args.id, "/rerun"), &wish(args)?)
                .await?;
            let id = outcome["id"].as_str().unwrap_or("-");
            Ok(format!("{id} does it again.\n"))
        }
    }
}

/// The path of a run. What is no id must not become another path.
fn path(id: &str, rest: &str) -> String {
    let id: String = byte_serialize(id.as_bytes()).collect();
    format!("/api/v1/runs/{id}{rest}")
}

fn wish(args: &RerunArgs) -> Result<Value, Problem> {
    let Some(step) = &args.from_step else {
        return Ok(json!({}));
    };
    let mut first = json!({ "step": step });
    if let Some(input) = &args.input {
        let invalid = |error: serde_json::Error| Problem::new(Code::InvalidStepInput, format!("--input: {error}"));
        first["input"] = serde_json::from_str(input).map_err(invalid)?;
    }
    Ok(json!({ "from_step": first }))
}

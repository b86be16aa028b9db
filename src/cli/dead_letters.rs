//! `callboard dead-letters`: looks at the jobs that a running server has given up, and decides about them.
//!
//! Talks to `/api/v1/dead-letters`. Members of answers that it does not know are ignored, missing ones shown as `-`.

use awc::http::Method;
use callboard_actors::ports::Clock as _;
use clap::{Args, Subcommand};
use serde_json::Value;
use url::form_urlencoded::Serializer;

use super::cell;
use super::client::{PagedArgs, ServerArgs};
use crate::ambient::SystemClock;
use crate::error::{Code, Problem};

const PATH: &str = "/api/v1/dead-letters";
/// Letters retried in one request.
const PORTION: u32 = 100;

/// Arguments of `callboard dead-letters`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct DeadLettersArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: Wish,
}

/// What to do about dead letters.
#[derive(Debug, Subcommand)]
pub enum Wish {
    /// List them, from new to old.
    List(ListArgs),
    /// Show one, with what its job carries and the run it holds.
    Show(OneArgs),
    /// Try jobs again, now. Steps that are done are not run again.
    Retry(RetryArgs),
    /// Don't try a job again: its run fails.
    Discard(OneArgs),
}

/// Which dead letters.
#[derive(Debug, Clone, Default, Args)]
pub struct FilterArgs {
    /// Of runs of this function: its slug or UUID
    #[arg(long, value_name = "FUNCTION")]
    pub function: Option<String>,
    /// Of runs of this app
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Given up then or later: RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Given up before
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// Arguments of `callboard dead-letters list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub filter: FilterArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub paged: PagedArgs,
}

/// One dead letter.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// Its id
    pub id: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub server: ServerArgs,
}

/// Arguments of `callboard dead-letters retry`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct RetryArgs {
    /// Its id
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub id: Option<String>,
    /// All of them, or all that the filter means
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub filter: FilterArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub server: ServerArgs,
}

impl FilterArgs {
    fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let pairs = [
            ("function", &self.function),
            ("app", &self.app),
            ("from", &self.from),
            ("until", &self.until),
        ];
        pairs
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

/// Does it. Answers what to print.
///
/// # Errors
/// When the server does not answer, or refuses.
pub async fn run(args: &DeadLettersArgs) -> Result<String, Problem> {
    match &args.command {
        Wish::List(args) => args.paged.list(PATH, args.filter.pairs(), render).await,
        Wish::Show(args) => {
            let letter = args.server.get(&path(&args.id, "")).await?;
            Ok(format!("{letter:#}\n"))
        }
        Wish::Retry(RetryArgs {
            id: Some(id), server, ..
        }) => {
            let settled = server.send(Method::POST, &path(id, "/retry")).await?;
            Ok(format!(
                "{} of run {} is tried again.\n",
                cell(&settled["job"]),
                cell(&settled["run_id"])
            ))
        }
        Wish::Retry(args) => retry_all(args).await,
        Wish::Discard(args) => {
            let settled = args.server.send(Method::DELETE, &path(&args.id, "")).await?;
            Ok(format!(
                "{} is discarded; run {} has failed.\n",
                cell(&settled["job"]),
                cell(&settled["run_id"])
            ))
        }
    }
}

/// The path of a letter. What is no id must not become another path.
fn path(id: &str, rest: &str) -> String {
    let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
    format!("{PATH}/{id}{rest}")
}

async fn retry_all(args: &RetryArgs) -> Result<String, Problem> {
    let mut filter = args.filter.clone();
    // Those that are given up anew meanwhile are not tried over and over.
    filter.until.get_or_insert_with(|| SystemClock.now().to_rfc3339());
    let query = Serializer::new(String::new())
        .extend_pairs(filter.pairs())
        .append_pair("limit", &PORTION.to_string())
        .finish();
    let mut retried = 0;
    loop {
        let portion = args.server.send(Method::POST, &format!("{PATH}/retry?{query}")).await?;
        let Some(count) = portion["retried"].as_u64() else {
            return Err(Problem::new(
                Code::NoAnswer,
                "the answer does not say how many were retried",
            ));
        };
        retried += count;
        if count == 0 || portion["has_more"] != true {
            return Ok(format!("{retried} tried again.\n"));
        }
    }
}

/// A page of dead letters for people.
fn render(page: &Value) -> String {
    let letters = page["dead_letters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if letters.is_empty() {
        return "There are none.\n".to_owned();
    }
    let mut table = super::table(["ID", "AT", "FUNCTION", "RUN", "JOB", "REASON"]);
    for letter in letters {
        let function = &letter["function"];
        let function = if function["slug"].is_null() {
            &function["id"]
        } else {
            &function["slug"]
        };
        table.add_row(
            [
                &letter["id"],
                &letter["at"],
                function,
                &letter["run_id"],
                &letter["job"],
                &letter["reason"],
            ]
            .map(cell),
        );
    }
    super::paged(&table, page)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_says_whether_there_is_another() {
        let letter = json!({
            "id": "01A", "at": "2026-01-01T00:00:00.000Z", "function": {"slug": "shop-charge", "id": "x"},
            "run_id": "01R", "job": "start", "reason": "panicked\nand more", "attempt": 0,
        });
        let shown = render(&json!({"dead_letters": [letter, {}], "cursor": "01A"}));
        let lines: Vec<_> = shown.lines().collect();
        let cells: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(
            cells,
            [
                "01A",
                "2026-01-01T00:00:00.000Z",
                "shop-charge",
                "01R",
                "start",
                "panicked"
            ]
        );
        assert_eq!(
            lines[2].split_whitespace().collect::<Vec<_>>(),
            ["-"; 6],
            "of another version"
        );
        assert_eq!(lines[3], "There are more: --cursor 01A");
        assert_eq!(render(&json!({"dead_letters": []})), "There are none.\n");
    }

    #[test]
    fn an_id_stays_one_segment_of_the_path() {
        assert_eq!(path("../runs?x", "/retry"), "/api/v1/dead-letters/..%2Fruns%3Fx/retry");
    }
}

//! `callboard slots`: what became of each time that a function's crons name, and which come next.
//!
//! Asks `/api/v1/functions/{id}/slots` of a running server. Members of answers that it does not know are ignored, missing
//! ones shown as `-`.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::cell;
use super::client::AnswerArgs;
use crate::error::Problem;

/// Arguments of `callboard slots`.
#[derive(Debug, Args)]
pub struct SlotsArgs {
    /// The function: its slug or UUID
    pub function: String,
    /// Slots of then or later: RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Slots of before
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// At most so many that have passed, 1 to 100
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub limit: u32,
    /// Go on behind the page that said this
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub answer: AnswerArgs,
}

/// Asks. Answers what to print.
///
/// # Errors
/// When the server does not answer, or refuses.
pub async fn run(args: &SlotsArgs) -> Result<String, Problem> {
    let page = args.answer.server.get(&path(args)).await?;
    Ok(if args.answer.json {
        format!("{page:#}\n")
    } else {
        render(&page, args.cursor.is_none())
    })
}

fn path(args: &SlotsArgs) -> String {
    // What is no slug must not become another path.
    let function: String = byte_serialize(args.function.as_bytes()).collect();
    let pairs = [("from", &args.from), ("until", &args.until), ("cursor", &args.cursor)];
    let pairs = pairs
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let query = Serializer::new(String::new())
        .extend_pairs(pairs)
        .append_pair("limit", &args.limit.to_string())
        .finish();
    format!("/api/v1/functions/{function}/slots?{query}")
}

/// A page of slots for people, from what is to come to what was; what is to come on the first page only.
fn render(page: &Value, is_first: bool) -> String {
    let list = |name: &str| page[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let upcoming = if is_first { list("upcoming") } else { &[] };
    let slots = list("slots");
    if upcoming.is_empty() && slots.is_empty() {
        return "There are none.\n".to_owned();
    }
    let mut table = super::table(["AT", "STATUS", "WHY", "RUN", "RUN STATUS", "SCHEDULE"]);
    for slot in upcoming.iter().rev() {
        let why = if slot["fires_at"] == slot["scheduled_at"] {
            "-".to_owned()
        } else {
            format!("fires at {}", cell(&slot["fires_at"]))
        };
        let cells = [
            cell(&slot["scheduled_at"]),
            "to come".to_owned(),
            why,
            cell(&Value::Null),
            cell(&Value::Null),
        ];
        table.add_row(cells.into_iter().chain([cell(&slot["schedule"])]));
    }
    for slot in slots {
        let cells = [cell(&slot["scheduled_at"]), cell(&slot["status"]), why(slot)];
        let rest = [&slot["run_id"], &slot["run_status"], &slot["schedule"]].map(cell);
        table.add_row(cells.into_iter().chain(rest));
    }
    super::paged(&table, page)
}

/// Why a slot's status is what it is.
fn why(slot: &Value) -> String {
    match (slot["late_ms"].as_u64(), slot["detail"].as_str()) {
        (Some(millis), _) => format!("by {}s", Duration::from_millis(millis).as_secs()),
        (None, Some(_)) => format!("{}: {}", cell(&slot["reason"]), cell(&slot["detail"])),
        (None, None) => cell(&slot["reason"]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::client::ServerArgs;
    use super::*;

    #[test]
    fn a_page_reads_from_the_future_to_the_past() {
        let (hour, later) = ("2026-01-01T02:00:00.000Z", "2026-01-01T02:00:07.000Z");
        let page = json!({
            "upcoming": [
                {"schedule": "0 * * * *", "scheduled_at": hour, "fires_at": later},
                {"schedule": "0 3 * * *", "scheduled_at": "2026-01-01T03:00:00.000Z", "fires_at": "2026-01-01T03:00:00.000Z"},
            ],
            "slots": [
                {"schedule": "0 * * * *", "scheduled_at": "2026-01-01T01:00:00.000Z", "status": "late", "late_ms": 61_500,
                    "run_id": "01R", "run_status": "completed"},
                {"schedule": "0 * * * *", "scheduled_at": "2026-01-01T00:00:00.000Z", "status": "skipped", "reason": "down"},
                {"status": "skipped", "reason": "rate_limited", "detail": "1 a day\nand more"},
                {},
            ],
            "cursor": "7-1",
        });
        let shown = render(&page, true);
        let lines: Vec<Vec<_>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1][1..], ["to", "come", "-", "-", "-", "0", "3", "*", "*", "*"]);
        assert_eq!(lines[2][..6], [hour, "to", "come", "fires", "at", later]);
        assert_eq!(
            lines[3][1..],
            ["late", "by", "61s", "01R", "completed", "0", "*", "*", "*", "*"]
        );
        assert_eq!(lines[4][1..5], ["skipped", "down", "-", "-"]);
        assert_eq!(
            lines[5],
            ["-", "skipped", "rate_limited:", "1", "a", "day", "-", "-", "-"]
        );
        assert_eq!(lines[6], ["-"; 6], "of another version");
        assert_eq!(shown.lines().last(), Some("There are more: --cursor 7-1"));
        assert!(!render(&page, false).contains("to come"), "on the first page only");
        assert_eq!(render(&json!({"slots": [], "upcoming": []}), true), "There are none.\n");
    }

    #[test]
    fn a_function_stays_one_segment_of_the_path() {
        let args = SlotsArgs {
            function: "../runs?x".to_owned(),
            from: Some("2026-01-01T00:00:00+01:00".to_owned()),
            until: None,
            limit: 7,
            cursor: Some("7-1".to_owned()),
            answer: AnswerArgs {
                json: false,
                server: ServerArgs {
                    url: String::new(),
                    api_key: None,
                    signing_key: None,
                },
            },
        };
        let query = "from=2026-01-01T00%3A00%3A00%2B01%3A00&cursor=7-1&limit=7";
        assert_eq!(path(&args), format!("/api/v1/functions/..%2Fruns%3Fx/slots?{query}"));
    }
}

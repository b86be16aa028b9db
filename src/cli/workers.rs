//! `callboard workers`: who has connected to the nodes of an installation, and what they are at work on.
//!
//! Asks `/api/v1/workers` of a running server. Members of answers that it does not know are ignored, missing ones shown
//! as `-`.

use clap::Args;
use serde_json::Value;

use super::cell;
use super::client::ServerArgs;
use crate::error::Problem;

/// Arguments of `callboard workers`.
#[derive(Debug, Args)]
pub struct WorkersArgs {
    /// List those, too, that have been connected within a week.
    #[arg(long)]
    pub all: bool,
    /// Print the answer as it is.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub server: ServerArgs,
}

/// Asks. Answers what to print.
///
/// # Errors
/// When the server does not answer, or refuses.
pub async fn run(args: &WorkersArgs) -> Result<String, Problem> {
    let answer = args
        .server
        .get(if args.all {
            "/api/v1/workers?all=true"
        } else {
            "/api/v1/workers"
        })
        .await?;
    Ok(if args.json {
        format!("{answer:#}\n")
    } else {
        render(&answer)
    })
}

fn render(answer: &Value) -> String {
    let workers = answer["workers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if workers.is_empty() {
        return "No worker is connected.\n".to_owned();
    }
    let mut table = super::table([
        "INSTANCE",
        "STATUS",
        "APPS",
        "IN FLIGHT",
        "SDK",
        "FROM",
        "CONNECTED",
        "HEARD",
        "ENDED",
    ]);
    for worker in workers {
        let mut in_flight = cell(&worker["in_flight"]);
        if let Some(capacity) = worker["capacity"].as_u64() {
            in_flight += &format!(" of {capacity}");
        }
        table.add_row([
            cell(&worker["instance"]),
            cell(&worker["status"]),
            apps(worker),
            in_flight,
            cell(&worker["sdk"]),
            cell(&worker["address"]),
            cell(&worker["connected_at"]),
            cell(&worker["heard_at"]),
            ended(worker),
        ]);
    }
    super::trimmed(&table)
}

/// When and why.
fn ended(worker: &Value) -> String {
    let at = cell(&worker["disconnected_at"]);
    match worker["disconnect_reason"].as_str() {
        Some(reason) => format!("{at} {reason}"),
        None => at,
    }
}

/// Names with versions.
fn apps(worker: &Value) -> String {
    let apps = worker["apps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = apps.iter().map(|app| match app["version"].as_str() {
        Some(version) => format!("{}@{version}", cell(&app["name"])),
        None => cell(&app["name"]),
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() {
        "-".to_owned()
    } else {
        named.join(",")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_worker_is_a_line() {
        let answer = json!({"workers": [
            {"instance": "host-1", "status": "ready", "in_flight": 2, "capacity": 3, "sdk": "typescript:v4", "address": "::1",
                "connected_at": "2026-01-01T00:00:00.000Z", "heard_at": "2026-01-01T00:00:01.000Z",
                "disconnected_at": "2026-01-01T00:00:02.000Z", "disconnect_reason": "WORKER_SHUTDOWN", "apps": [{"name": "shop", "version": "7"}, {"name": "till"}]},
            {},
        ]});
        let page = render(&answer);
        let lines: Vec<Vec<_>> = page.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines[1],
            [
                "host-1",
                "ready",
                "shop@7,till",
                "2",
                "of",
                "3",
                "typescript:v4",
                "::1",
                "2026-01-01T00:00:00.000Z",
                "2026-01-01T00:00:01.000Z",
                "2026-01-01T00:00:02.000Z",
                "WORKER_SHUTDOWN"
            ]
        );
        assert_eq!(lines[2], ["-"; 9], "of another version");
        assert_eq!(render(&json!({"workers": []})), "No worker is connected.\n");
    }
}

//! `callboard status`: what the parts of a running server are doing.
//!
//! Reads `GET /api/v1/supervisor`, `nodes`, `apps` and `functions` as they come: members it does not know are ignored, missing
//! ones shown as `-`, so that it goes with servers of other versions.

use clap::Args;
use serde_json::Value;

use super::client::ServerArgs;
use crate::error::Problem;

/// Arguments of `callboard status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub server: ServerArgs,
    /// Print the answers as they are: the process tree, with the nodes and the apps as its members `nodes` and `apps`, and
    /// the functions that are paused or drained as `halted_functions`.
    #[arg(long)]
    pub json: bool,
}

/// Asks the server.
///
/// # Errors
/// Those of [`ServerArgs::get`].
pub async fn ask(args: &StatusArgs) -> Result<Value, Problem> {
    let mut status = args.server.get("/api/v1/supervisor").await?;
    // An older server has no such list, and a database that is away has no answer: the tree is shown all the same.
    for list in ["nodes", "apps"] {
        if let (Ok(mut answer), Some(tree)) = (
            args.server.get(&format!("/api/v1/{list}")).await,
            status.as_object_mut(),
        ) {
            tree.insert(list.to_owned(), answer[list].take());
        }
    }
    let functions = args.server.get("/api/v1/functions?archived=true").await;
    if let (Ok(answer), Some(tree)) = (functions, status.as_object_mut()) {
        let all = answer["functions"].as_array().into_iter().flatten();
        let halted = all.filter(|function| function["mode"].as_str().is_some_and(|mode| mode != "active"));
        tree.insert("halted_functions".to_owned(), halted.cloned().collect());
    }
    Ok(status)
}

/// The process tree, the nodes, and the apps that are not called as ever, for people.
#[must_use]
pub fn render(status: &Value) -> String {
    let mut parts = vec![render_tree(status)];
    let nodes = status["nodes"].as_array().filter(|nodes| !nodes.is_empty());
    parts.extend(nodes.map(|nodes| render_nodes(nodes)));
    let is_away = |app: &&Value| matches!(app["breaker"]["state"].as_str(), Some("open" | "half_open"));
    let away: Vec<&Value> = status["apps"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(is_away)
        .collect();
    if !away.is_empty() {
        parts.push(render_breakers(&away));
    }
    let halted = status["halted_functions"].as_array().filter(|all| !all.is_empty());
    parts.extend(halted.map(|halted| super::functions::table(halted)));
    parts.join("\n\n")
}

fn render_breakers(apps: &[&Value]) -> String {
    let mut table = super::table(["APP", "BREAKER", "SINCE", "FAILED", "NEXT PROBE", "URL"]);
    for app in apps {
        let breaker = &app["breaker"];
        table.add_row([
            text(&app["name"]),
            text(&breaker["state"]).replace('_', " "),
            text(&breaker["since"]),
            format!("{} of {}", text(&breaker["failed"]), text(&breaker["calls"])),
            text(&breaker["next_probe_at"]),
            text(&breaker["endpoint"]),
        ]);
    }
    super::trimmed(&table)
}

fn render_nodes(nodes: &[Value]) -> String {
    let mut table = super::table([
        "NODE",
        "STATE",
        "IN FLIGHT",
        "ADDRESS",
        "VERSION",
        "STARTED",
        "SEEN",
        "ID",
    ]);
    for node in nodes {
        let here = if node["self"] == true { " (answers)" } else { "" };
        let silent = if node["silent"] == true { ", silent" } else { "" };
        table.add_row([
            format!("{}{here}", text(&node["name"])),
            format!("{}{silent}", text(&node["state"])),
            text(&node["jobs_in_flight"]),
            text(&node["address"]),
            text(&node["version"]),
            text(&node["started_at"]),
            text(&node["seen_at"]),
            text(&node["id"]),
        ]);
    }
    super::trimmed(&table)
}

fn render_tree(status: &Value) -> String {
    let mut table = super::table([
        "PART",
        "STATE",
        "RESTARTS",
        "IN FLIGHT",
        "UPTIME",
        "HEARTBEAT",
        "LAST EXIT",
    ]);
    let now = status["taken_at_ms"].as_i64();
    let mut children: Vec<&Value> = status["children"]
        .as_array()
        .map(|all| all.iter().collect())
        .unwrap_or_default();
    children.sort_by_key(|child| (child["order"].as_u64(), child["name"].as_str().unwrap_or_default()));
    let state = match (status["stop_reason"].as_str(), status["draining"].as_bool()) {
        (Some(reason), _) => format!("stopping: {reason}"),
        (None, Some(true)) => "draining".to_owned(),
        (None, _) => "running".to_owned(),
    };
    table.add_row(["supervisor".to_owned(), state]);
    let last = children.len().saturating_sub(1);
    for (position, child) in children.into_iter().enumerate() {
        let branch = if position == last { "└─" } else { "├─" };
        table.add_row([
            format!("{branch} {}", name_of(child)),
            state_of(child, now),
            format!(
                "{} ({} of late)",
                text(&child["restarts_total"]),
                text(&child["restarts_in_window"])
            ),
            text(&child["in_flight"]),
            age(&child["uptime_ms"]),
            age(&child["heartbeat_age_ms"]),
            exit_of(&child["last_exit"], now),
        ]);
    }
    super::trimmed(&table)
}

/// Executors are named by their function's id; people know its slug.
fn name_of(child: &Value) -> String {
    let slug = child.pointer("/observation/detail/function").and_then(Value::as_str);
    match slug {
        Some(slug) => format!("{}/{slug}", text(&child["role"])),
        None => text(&child["name"]),
    }
}

fn state_of(child: &Value, now: Option<i64>) -> String {
    let state = text(&child["state"]).replace('_', " ");
    if let Some(until) = child["until_ms"].as_i64() {
        return format!("{state}, back in {}", span(until - now.unwrap_or(until)));
    }
    match child["reason"].as_str() {
        Some(reason) => format!("{state}: {}", short(reason)),
        None => state,
    }
}

fn exit_of(exit: &Value, now: Option<i64>) -> String {
    if exit.is_null() {
        return "-".to_owned();
    }
    let kind = text(&exit["kind"]).replace('_', " ");
    let said = ["text", "message", "reason"].iter().find_map(|key| exit[*key].as_str());
    let said = said.map(|said| format!(": {}", short(said))).unwrap_or_default();
    let ago = exit["at_ms"]
        .as_i64()
        .zip(now)
        .map(|(at, now)| format!(", {} ago", span(now - at)));
    format!("{kind}{said}{}", ago.unwrap_or_default())
}

/// The first line, if it is not too long.
fn short(text: &str) -> String {
    const SHOWN: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn age(millis: &Value) -> String {
    millis.as_i64().map_or_else(|| "-".to_owned(), span)
}

/// A span in the unit that suits it.
fn span(millis: i64) -> String {
    match millis.max(0) {
        millis @ ..1_000 => format!("{millis}ms"),
        millis @ ..60_000 => format!("{}s", millis / 1_000),
        millis @ ..3_600_000 => format!("{}m{:02}s", millis / 60_000, millis / 1_000 % 60),
        millis => format!("{}h{:02}m", millis / 3_600_000, millis / 60_000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shows_the_tree_in_the_order_of_starts() {
        let status = json!({
            "taken_at_ms": 100_000, "draining": false, "stop_reason": null,
            "children": [
                {"name": "executor/shop", "order": 3, "state": "backing_off", "until_ms": 100_400, "restarts_total": 2,
                 "restarts_in_window": 1, "in_flight": 0, "uptime_ms": null, "heartbeat_age_ms": null,
                 "last_exit": {"kind": "panicked", "text": "index out of bounds\nstack", "at_ms": 98_000}},
                {"name": "router", "order": 2, "state": "running", "restarts_total": 0, "restarts_in_window": 0,
                 "in_flight": 4, "uptime_ms": 75_000, "heartbeat_age_ms": 12, "last_exit": null},
            ],
        });
        let shown = render(&status);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(
            lines[1].contains("supervisor") && lines[1].contains("running"),
            "{shown}"
        );
        assert!(lines[2].contains("├─ router") && lines[2].contains("1m15s"), "{shown}");
        assert!(lines[3].contains("└─ executor/shop"), "{shown}");
        assert!(lines[3].contains("backing off, back in 400ms"), "{shown}");
        assert!(lines[3].contains("panicked: index out of bounds, 2s ago"), "{shown}");
    }

    #[test]
    fn shows_the_nodes_below() {
        let status = json!({"children": [], "nodes": [
            {"name": "here", "state": "serving", "jobs_in_flight": 3, "self": true, "silent": false, "version": "1.2.3"},
            {"name": "there", "state": "draining", "self": false, "silent": true},
        ]});
        let shown = render(&status);
        let line = |of: &str| {
            shown
                .lines()
                .find(|line| line.starts_with(of))
                .unwrap_or_default()
                .to_owned()
        };
        assert!(
            line("here (answers)").contains("serving") && line("here").contains("1.2.3"),
            "{shown}"
        );
        assert!(line("there").contains("draining, silent"), "{shown}");
    }

    #[test]
    fn shows_the_apps_that_wait() {
        let status = json!({"children": [], "apps": [
            {"name": "fine", "breaker": {"state": "closed"}},
            {"name": "switched", "breaker": {"state": "off"}},
            {"name": "shop", "breaker": {"state": "open", "calls": 40, "failed": 30, "next_probe_at": "soon"}},
        ]});
        let shown = render(&status);
        assert!(!shown.contains("fine") && !shown.contains("switched"), "{shown}");
        let line = shown.lines().find(|line| line.starts_with("shop")).unwrap_or_default();
        assert!(
            line.contains("open") && line.contains("30 of 40") && line.contains("soon"),
            "{shown}"
        );
    }

    #[test]
    fn an_answer_of_another_version_still_prints() {
        assert!(render(&json!({"children": [{"name": "x"}]})).contains("└─ x"));
        assert!(render(&json!({})).contains("supervisor"));
    }
}

//! `callboard limits`: a function's concurrency limits and throttle, who holds what and who waits; and other numbers for
//! them, until a time.
//!
//! Asks `/api/v1/functions/{id}/flow` and changes `…/limits` of a running server. Members of answers that it does not know
//! are ignored, missing ones shown as `-`.

use awc::http::Method;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use url::form_urlencoded::{Serializer, byte_serialize};

use super::cell;
use super::client::AnswerArgs;
use crate::error::Problem;

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  callboard limits shop-import
  callboard limits shop-import --limit 2 --for 30m
  callboard limits shop-import --rule throttle --limit 100 --period 1m --until 2026-01-01T06:00:00Z
  callboard limits shop-import --end";

/// A kind of rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum RuleName {
    /// Calls at a time.
    Concurrency,
    /// Runs between their first call and their end.
    RunConcurrency,
    /// Starts in a period.
    Throttle,
}

/// Arguments of `callboard limits`.
#[derive(Debug, Args)]
pub struct LimitsArgs {
    /// The function: its slug or UUID
    pub function: String,
    /// The rule that is meant
    #[arg(long, value_enum, value_name = "KIND")]
    pub rule: Option<RuleName>,
    /// The expression of its key, if there are several of the kind
    #[arg(long, value_name = "EXPRESSION")]
    pub key: Option<String>,
    /// Its scope, likewise: fn, env or account
    #[arg(long)]
    pub scope: Option<String>,
    /// Let so many through until the time given with `--for` or `--until`
    #[arg(long, value_name = "COUNT", conflicts_with = "end")]
    pub limit: Option<u32>,
    /// Another period of a throttle, such as `1m`
    #[arg(long, requires = "limit", value_name = "DURATION")]
    pub period: Option<String>,
    /// Another burst of a throttle
    #[arg(long, requires = "limit", value_name = "COUNT")]
    pub burst: Option<u32>,
    /// How long the number counts, such as `30m`
    #[arg(long = "for", requires = "limit", value_name = "DURATION", conflicts_with = "until")]
    pub lasting: Option<String>,
    /// Until when it counts: RFC 3339, or milliseconds since 1970
    #[arg(long, requires = "limit", value_name = "TIME")]
    pub until: Option<String>,
    /// Have the registered numbers count again: of one rule, or of all
    #[arg(long)]
    pub end: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documented by its type")]
    pub answer: AnswerArgs,
}

impl LimitsArgs {
    fn path(&self, what: &str) -> String {
        // What is no slug must not become another path.
        let function: String = byte_serialize(self.function.as_bytes()).collect();
        format!("/api/v1/functions/{function}/{what}")
    }

    fn rule_name(&self) -> Option<String> {
        let value = self.rule?.to_possible_value()?;
        Some(value.get_name().to_owned())
    }

    /// What is to be sent, for this number.
    fn body(&self, limit: u32) -> Value {
        let mut body = Map::new();
        let rule = self.rule_name().unwrap_or_else(|| "concurrency".to_owned());
        body.insert("rule".to_owned(), json!(rule));
        body.insert("limit".to_owned(), json!(limit));
        let texts = [
            ("key", &self.key),
            ("scope", &self.scope),
            ("period", &self.period),
            ("for", &self.lasting),
            ("until", &self.until),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                body.insert(name.to_owned(), json!(text));
            }
        }
        if let Some(burst) = self.burst {
            body.insert("burst".to_owned(), json!(burst));
        }
        Value::Object(body)
    }

    fn query(&self) -> String {
        let rule = self.rule_name();
        let pairs = [("rule", &rule), ("key", &self.key), ("scope", &self.scope)];
        let pairs = pairs
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)));
        Serializer::new(String::new()).extend_pairs(pairs).finish()
    }
}

/// Asks or changes. Answers what to print.
///
/// # Errors
/// When the server does not answer, or refuses.
pub async fn run(args: &LimitsArgs) -> Result<String, Problem> {
    let answer = if let Some(limit) = args.limit {
        let body = args.body(limit);
        args.answer
            .server
            .send_json(Method::PUT, &args.path("limits"), &body)
            .await?
    } else if args.end {
        let path = format!("{}?{}", args.path("limits"), args.query());
        args.answer.server.send(Method::DELETE, &path).await?
    } else {
        args.answer.server.get(&args.path("flow")).await?
    };
    Ok(if args.answer.json {
        format!("{answer:#}\n")
    } else if args.limit.is_some() {
        format!(
            "{} is {} until {}.\n",
            cell(&answer["rule"]),
            cell(&answer["limit"]),
            cell(&answer["until"])
        )
    } else if args.end {
        let said = if answer["ended"] == true {
            "The registered numbers count again."
        } else {
            "There was nothing to end."
        };
        format!("{said}\n")
    } else {
        render(&answer)
    })
}

/// The rules for people.
fn render(flow: &Value) -> String {
    let rules = flow["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rules.is_empty() {
        return "It has none.\n".to_owned();
    }
    let mut table = super::table([
        "RULE",
        "SCOPE",
        "KEY",
        "LIMIT",
        "IN USE",
        "WAITING",
        "OLDEST WAITING",
        "OVERRIDDEN UNTIL",
    ]);
    for rule in rules {
        let names = [
            "kind",
            "scope",
            "key",
            "limit",
            "in_use",
            "waiting",
            "oldest_waiting",
            "overridden_until",
        ];
        table.add_row(super::cells(rule, names));
    }
    super::trimmed(&table)
}

#[cfg(test)]
mod tests {
    use super::super::client::ServerArgs;
    use super::*;

    fn args(function: &str) -> LimitsArgs {
        LimitsArgs {
            function: function.to_owned(),
            rule: None,
            key: None,
            scope: None,
            limit: None,
            period: None,
            burst: None,
            lasting: None,
            until: None,
            end: false,
            answer: AnswerArgs {
                json: false,
                server: ServerArgs {
                    url: String::new(),
                    api_key: None,
                    signing_key: None,
                },
            },
        }
    }

    #[test]
    fn what_is_meant_is_sent_and_nothing_else() {
        let plain = LimitsArgs {
            lasting: Some("30m".to_owned()),
            ..args("../x")
        };
        assert_eq!(plain.path("limits"), "/api/v1/functions/..%2Fx/limits");
        assert_eq!(plain.body(2), json!({"rule": "concurrency", "limit": 2, "for": "30m"}));
        assert_eq!(plain.query(), "");
        let full = LimitsArgs {
            rule: Some(RuleName::RunConcurrency),
            key: Some("event.data.a".to_owned()),
            burst: Some(0),
            ..args("x")
        };
        let body = json!({"rule": "run_concurrency", "limit": 1, "key": "event.data.a", "burst": 0});
        assert_eq!(full.body(1), body);
        assert_eq!(full.query(), "rule=run_concurrency&key=event.data.a");
    }

    #[test]
    fn rules_are_shown_a_line_each() {
        let flow = json!({"rules": [
            {"kind": "concurrency", "scope": "fn", "key": "event.data.a", "limit": 2, "in_use": 1, "waiting": 3,
                "oldest_waiting": "2026-01-01T00:00:00.000Z", "overridden_until": "2026-01-01T01:00:00.000Z"},
            {},
        ]});
        let shown = render(&flow);
        let lines: Vec<Vec<_>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1][..6], ["concurrency", "fn", "event.data.a", "2", "1", "3"]);
        assert_eq!(lines[1][7], "2026-01-01T01:00:00.000Z");
        assert_eq!(lines[2], ["-"; 8], "of another version");
        assert_eq!(render(&json!({"rules": []})), "It has none.\n");
    }
}

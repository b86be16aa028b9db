//! Searching by expressions: lines, all of which must hold for an event, or for a run and one of its events.
//!
//! What is looked at is bounded: a page that was not filled within the bound ends where the search stopped, and its cursor
//! goes on from there. Expressions are evaluated on a thread for such work, not beside the actors.

use async_graphql::{Error, Result};
use callboard_actors::domain::{Event, Json, RunStatus};
use callboard_actors::expression::{Expression, Scope};
use callboard_actors::ports::RunSummary;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::asked::invalid;

/// Items that are read and looked at together.
pub(super) const BATCH: usize = 100;
/// Items that one search looks at.
pub(super) const BOUND: usize = 5_000;

const MACROS: [&str; 7] = ["all", "exists", "exists_one", "existsOne", "filter", "map", "has"];

/// A search that compiles.
#[derive(Debug, Clone)]
pub(super) struct Search {
    lines: Vec<Expression>,
}

impl Search {
    /// The search of a text; `None` if it holds no line. `roots` are the names that lines may use.
    ///
    /// # Errors
    /// When a line is no condition, uses a macro, or does not compile.
    pub(super) fn parse(text: Option<&str>, roots: &[&str]) -> Result<Option<Self>> {
        let lines = text.into_iter().flat_map(str::lines).map(str::trim);
        let lines: Result<Vec<_>> = lines
            .filter(|line| !line.is_empty())
            .map(|line| compile(line, roots))
            .collect();
        let lines = lines?;
        Ok((!lines.is_empty()).then_some(Self { lines }))
    }

    fn holds(&self, scope: &Scope<'_>) -> bool {
        self.lines.iter().all(|line| line.truth(scope).unwrap_or(false))
    }

    /// Which of these events it holds for.
    pub(super) async fn events(&self, events: Vec<Event>, now: DateTime<Utc>) -> Result<Vec<(Event, bool)>> {
        let search = self.clone();
        elsewhere(move || {
            let look = |event: Event| {
                let body = event.body.to_tree();
                let fits = search.holds(&Scope::of_event(&body, now));
                (event, fits)
            };
            events.into_iter().map(look).collect()
        })
        .await
    }

    /// Which of these runs it holds for, each with any one of its events.
    pub(super) async fn runs(
        &self,
        runs: Vec<(RunSummary, Vec<Event>)>,
        now: DateTime<Utc>,
    ) -> Result<Vec<(RunSummary, bool)>> {
        let search = self.clone();
        elsewhere(move || {
            let look = |(run, events): (RunSummary, Vec<Event>)| {
                let fits = search.holds_for(&run, &events, now);
                (run, fits)
            };
            runs.into_iter().map(look).collect()
        })
        .await
    }

    fn holds_for(&self, run: &RunSummary, events: &[Event], now: DateTime<Utc>) -> bool {
        let output = run.output.as_ref().map(Json::to_tree);
        let outcome = match (&output, run.status) {
            (Some(output), RunStatus::Completed) => Some(("output", output)),
            (Some(output), RunStatus::Failed) => {
                let inner = output.get("error").filter(|inner| inner.is_object());
                Some(("error", inner.unwrap_or(output)))
            }
            _ => None,
        };
        let holds_with = |body: &Value| {
            let scope = Scope::of_event(body, now);
            self.holds(&match outcome {
                Some((name, value)) => scope.with(name, value),
                None => scope,
            })
        };
        // A run whose events are gone may still be found by its output.
        if events.is_empty() {
            return holds_with(&Value::Null);
        }
        events.iter().any(|event| holds_with(&event.body.to_tree()))
    }
}

async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::new(error.to_string()))
}

fn compile(line: &str, roots: &[&str]) -> Result<Expression> {
    let bare = without_texts(line);
    if MACROS.iter().any(|name| is_called(&bare, name)) {
        return Err(invalid("macros are currently not supported"));
    }
    let expression = Expression::compile(line, roots).map_err(|error| invalid(error.detail()))?;
    if !bare.contains(['=', '<', '>']) {
        return Err(invalid("invalid syntax detected"));
    }
    Ok(expression)
}

/// A line without what stands in quotes.
fn without_texts(line: &str) -> String {
    let mut bare = String::with_capacity(line.len());
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(_), '\\') => {
                characters.next();
            }
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, _) => bare.push(character),
        }
    }
    bare
}

/// Whether something of this name is called.
fn is_called(bare: &str, name: &str) -> bool {
    bare.match_indices(name).any(|(at, _)| {
        let is_name = |character: char| character.is_alphanumeric() || character == '_';
        let begins = !bare[..at].ends_with(is_name);
        begins && bare[at + name.len()..].trim_start().starts_with('(')
    })
}

#[cfg(test)]
mod tests {
    use callboard_actors::domain::{EventId, FunctionId, RunId, Timestamp};
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const ROOTS: [&str; 3] = ["event", "output", "error"];

    #[rstest]
    #[case("event.data.items.exists(x, x == 1)", "macros are currently not supported")]
    #[case("has (event.data.x) == true", "macros are currently not supported")]
    #[case("event.data.x", "invalid syntax detected")]
    #[case("event.name == 'a' &&", "Syntax error")]
    #[case("user.id == 1", "user")]
    fn what_is_refused(#[case] line: &str, #[case] message: &str) {
        let refused = Search::parse(Some(line), &ROOTS).expect_err("is refused");
        assert!(refused.message.contains(message), "{}", refused.message);
    }

    #[rstest]
    #[case("event.name == \"shop/paid\"", true)]
    #[case("event.data.map == \"exists(1)\"", true)]
    #[case("event.data.n == null\nevent.data.b != null", true)]
    #[case("event.data.n != null", false)]
    #[case("event.data.b == true\n\noutput.total > 5", true)]
    #[case("output.total > 5 || error.message == 'x'", true)]
    #[case("error.message == 'x'", false)]
    #[case("event.data.second == 2", true)]
    #[case("event.data.second == 2\nevent.data.b == true", false)]
    fn a_run_is_found_by_one_of_its_events_and_its_output(#[case] text: &str, #[case] found: bool) {
        let at = Timestamp::from_millis(1_750_000_000_000);
        let event = |n, data: Value| {
            let id = EventId::new(at, n);
            Event::glued("shop/paid", id, id.to_string(), at, &data.to_string())
        };
        let events = [
            event(1, json!({"map": "exists(1)", "n": null, "b": true})),
            event(2, json!({"second": 2})),
        ];
        let run = RunSummary {
            id: RunId::new(at, 1),
            function: FunctionId::derive("app", "fn"),
            function_version: 1,
            status: RunStatus::Completed,
            event_ids: events.iter().map(|event| event.id).collect(),
            event_name: "shop/paid".to_owned(),
            started_at: None,
            ended_at: None,
            output: Json::parse(r#"{"total":7}"#).ok(),
            original: None,
            batch: None,
        };
        let search = Search::parse(Some(text), &ROOTS).expect("compiles").expect("has lines");
        assert_eq!(search.holds_for(&run, &events, at.to_datetime()), found);
    }

    #[test]
    fn nothing_is_no_search() {
        assert!(Search::parse(Some(" \n "), &ROOTS).expect("compiles").is_none());
        assert!(Search::parse(None, &ROOTS).expect("compiles").is_none());
    }
}

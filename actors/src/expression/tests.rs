//! Tests of the whole module: tables of rules by topic, and properties.

mod binding;
mod dialect;
mod limits;
mod properties;
mod schedules;
mod times;

use super::{EvalError, Expression, Scope};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};

/// The time of every test: Monday, 6 May 2024, 07:08:09.250 UTC.
fn now() -> DateTime<Utc> {
    at("2024-05-06T07:08:09.250Z")
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The event of the tables.
fn event() -> Json {
    json!({
        "name": "shop/order.paid",
        "id": "evt-1",
        "ts": 1_714_979_289_250_i64,
        "user": {"email": "Ada@Example.com"},
        "data": {
            "id": 7, "whole": 5.0, "half": 2.5, "zero": 0, "negative": -3,
            "huge": 18_446_744_073_709_551_615_u64,
            "text": "abc", "empty": "", "digits": "200",
            "yes": true, "no": false, "nil": null,
            "tags": ["a", "b"], "none": [], "numbers": [1, 2, 3, 4],
            "nested": {"deep": {"er": "x"}}, "object": {},
            "items": [{"id": 1, "price": 10.5}, {"id": 2, "price": 20}, {"price": 1}],
            "key-with-dash": 1, "when": "2024-05-06T07:00:00Z",
            "b64": "aGVsbG8=", "json": "{\"a\":[1,2.5,{\"b\":null}]}",
        },
    })
}

fn compile(source: &str) -> Expression {
    Expression::compile(source, &["event"]).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn value(source: &str) -> Result<Json, EvalError> {
    let event = event();
    compile(source).value(&Scope::of_event(&event, now()))
}

fn truth(source: &str) -> Result<bool, EvalError> {
    let event = event();
    compile(source).truth(&Scope::of_event(&event, now()))
}

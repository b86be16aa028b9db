//! The body of `POST /api/v1/functions`: functions that someone registers by hand.
//!
//! ```json
//! {"functions": [{"id": "hello-world", "name": "Hello", "triggers": [{"event": "user.signup"}]}],
//!  "app": "shop", "url": "http://localhost:3000/api/inngest"}
//! ```
//!
//! `app` and `url` may be left out: the app is then called [`DEFAULT_APP`] and the function's slug is its id as given;
//! with an app it is `<app>-<id>`, which is what an SDK with that client id expects as `fnId`. Functions that are not
//! named stay. What is not known here is refused by name.

use std::sync::Arc;

use callboard_actors::domain::{App, Function, Json, Registration, Timestamp};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use url::Url;

use super::function::{Identity, assemble};
use super::{Context, Fields, Problem, Problems, RegistrationError, checked, normalise, parse_object};

/// The app of functions that are registered without one.
pub const DEFAULT_APP: &str = "default";
/// Longest id of a function, in bytes.
const MAX_ID: usize = 255;

const TOP: [&str; 3] = ["functions", "app", "url"];
const FUNCTION: [&str; 15] = [
    "id",
    "name",
    "triggers",
    "retries",
    "concurrency",
    "batchEvents",
    "rateLimit",
    "throttle",
    "debounce",
    "priority",
    "cancel",
    "idempotency",
    "timeouts",
    "singleton",
    "url",
];
const TRIGGER: [&str; 5] = ["event", "expression", "if", "cron", "jitter"];

/// Reads a registration by hand. Functions without a URL of their own are served at `default_url`.
///
/// # Errors
/// When the body is no JSON object, or with all that is wrong with it.
pub fn parse_own(body: &[u8], default_url: &str, now: Timestamp) -> Result<Registration, RegistrationError> {
    let request = parse_object(body)?;
    let mut problems = Problems::default();
    refuse_unknown(&request, &TOP, "", &mut problems);
    let fields = Fields::new(&request, "");
    let named = fields
        .text("app", &mut problems)
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let context = Context {
        app: named.unwrap_or(DEFAULT_APP),
        now,
    };
    let url = normalise(fields.text("url", &mut problems).unwrap_or(default_url));
    let documents = fields.array("functions", &mut problems);
    if documents.is_empty() && problems.found.is_empty() {
        problems.add("`functions` must name at least one function");
    }
    let mut found = Vec::new();
    let functions: Vec<Function> = documents
        .iter()
        .enumerate()
        .filter_map(|(position, document)| function(document, position, named, &url, context, &mut found))
        .collect();
    let canonical = Json::from_value(&request).unwrap_or_else(|_| Json::null());
    let app = App {
        name: Arc::from(context.app),
        url,
        sdk: String::new(),
        framework: None,
        version: None,
        checksum: hex::encode(Sha256::digest(canonical.as_str())),
        error: None,
        synced_at: context.now,
    };
    let registration = Registration {
        app,
        functions,
        keep_others: true,
    };
    let mut problems = problems.found;
    problems.append(&mut found);
    checked(registration, problems)
}

fn function(
    document: &Value,
    position: usize,
    app: Option<&str>,
    url: &str,
    context: Context<'_>,
    found: &mut Vec<Problem>,
) -> Option<Function> {
    let place = format!("functions[{position}]");
    let Value::Object(document) = document else {
        found.push(Problem {
            function: Some(place),
            code: None,
            message: "a function must be an object".to_owned(),
        });
        return None;
    };
    let mut problems = Problems::of(place);
    let fields = Fields::new(document, "");
    let id = fields.text("id", &mut problems).unwrap_or_default();
    if id.is_empty() {
        problems.add("`id` is required");
    } else {
        problems.function = Some(id.to_owned());
    }
    if id.len() > MAX_ID || id.chars().any(|c| c.is_control() || c.is_whitespace()) {
        problems.add(format!("`id` must have at most {MAX_ID} bytes, and no white space"));
    }
    refuse_unknown(document, &FUNCTION, "", &mut problems);
    for trigger in fields.array("triggers", &mut Problems::default()) {
        if let Value::Object(trigger) = trigger {
            refuse_unknown(trigger, &TRIGGER, "triggers.", &mut problems);
        }
    }
    let slug = app.map_or_else(|| id.to_owned(), |app| format!("{app}-{id}"));
    let serve = fields
        .text("url", &mut problems)
        .map_or_else(|| url.to_owned(), normalise);
    let identity = Identity {
        url: call_url(&serve, &slug),
        name: fields.text("name", &mut problems).unwrap_or(id).to_owned(),
        slug,
        step_id: "step".to_owned(),
        step_name: "step".to_owned(),
        step_retries: None,
    };
    let mut shown = document.clone();
    shown.remove("url");
    let function = assemble(&shown, identity, true, context, &mut problems);
    found.append(&mut problems.found);
    Some(function)
}

/// Where an SDK that serves there is called for this function.
fn call_url(serve: &str, slug: &str) -> String {
    let Ok(mut url) = Url::parse(serve) else {
        return serve.to_owned();
    };
    url.query_pairs_mut()
        .append_pair("fnId", slug)
        .append_pair("stepId", "step");
    normalise(url.as_str())
}

fn refuse_unknown(map: &Map<String, Value>, known: &[&str], path: &str, problems: &mut Problems) {
    for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
        problems.add(format!("unknown field `{path}{key}`; known are {}", known.join(", ")));
    }
}

//! The body of `POST /fn/register`, as the TypeScript, Python and Go SDKs send it.

use std::sync::Arc;

use callboard_actors::domain::{App, Function, Json, Registration, Timestamp};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use url::Url;

use super::function::{Identity, assemble, slug_of};
use super::{Context, Fields, Problem, Problems, RegistrationError, checked, normalise, parse_object};

/// Members of the request that say nothing about the app; a checksum that covered them would make every sync a change.
const VOLATILE: [&str; 3] = ["featureObservations", "deployId", "idempotencyKey"];

/// Reads a registration. `now` becomes the time of the sync.
///
/// # Errors
/// When the body is no JSON object, names no app, or asks for anything that can't be: then with all problems.
pub fn parse(body: &[u8], now: Timestamp) -> Result<Registration, RegistrationError> {
    let request = parse_object(body)?;
    let mut problems = Problems::default();
    let fields = Fields::new(&request, "");
    let name = fields.text("appName", &mut problems).map(str::trim).unwrap_or_default();
    if name.is_empty() {
        return Err(RegistrationError::NoApp);
    }
    let context = Context { app: name, now };
    let documents = fields.array("functions", &mut problems);
    let url = fields.text("url", &mut problems).map(normalise).unwrap_or_default();
    let mut found = Vec::new();
    let functions: Vec<Function> = documents
        .iter()
        .enumerate()
        .filter_map(|(position, document)| function(document, position, context, &mut found))
        .collect();
    let text = |name, problems: &mut Problems| fields.text(name, problems).map(str::to_owned);
    let app = App {
        name: Arc::from(name),
        url: if url.is_empty() { serve_url(&functions) } else { url },
        sdk: text("sdk", &mut problems).unwrap_or_default(),
        framework: text("framework", &mut problems),
        version: text("appVersion", &mut problems),
        checksum: checksum(&request),
        error: None,
        synced_at: context.now,
    };
    let registration = Registration {
        app,
        functions,
        keep_others: false,
    };
    let mut problems = problems.found;
    problems.append(&mut found);
    checked(registration, problems)
}

fn function(document: &Value, position: usize, context: Context<'_>, found: &mut Vec<Problem>) -> Option<Function> {
    let Value::Object(document) = document else {
        found.push(Problem {
            function: Some(format!("functions[{position}]")),
            code: None,
            message: "a function must be an object".to_owned(),
        });
        return None;
    };
    let mut unnamed = Problems::default();
    let fields = Fields::new(document, "");
    let name = fields.text("name", &mut unnamed).unwrap_or_default();
    let slug = fields
        .text("id", &mut unnamed)
        .map_or_else(|| slug_of(name), str::to_owned);
    let label = [slug.as_str(), name].into_iter().find(|label| !label.is_empty());
    let mut problems = Problems::of(label.map_or_else(|| format!("functions[{position}]"), str::to_owned));
    for problem in unnamed.found {
        problems.push(problem.code, problem.message);
    }
    if name.trim().is_empty() {
        problems.add("A function name is required");
    }
    let identity = step(fields, slug, name, &mut problems);
    let function = assemble(document, identity, false, context, &mut problems);
    found.append(&mut problems.found);
    Some(function)
}

/// The one step that stands for the function: where it is called, and how often.
fn step(function: Fields<'_>, slug: String, name: &str, problems: &mut Problems) -> Identity {
    let empty = Map::new();
    let steps = function.object("steps", problems).unwrap_or(&empty);
    let mut identity = Identity {
        slug,
        name: name.to_owned(),
        url: String::new(),
        step_id: "step".to_owned(),
        step_name: "step".to_owned(),
        step_retries: None,
    };
    let mut each = steps.iter();
    let (Some((key, step)), None) = (each.next(), each.next()) else {
        problems.add("Functions must contain one step");
        // One problem is enough for what follows from it.
        identity.url = "http://localhost".to_owned();
        return identity;
    };
    let Value::Object(step) = step else {
        problems.add("a step must be an object");
        identity.url = "http://localhost".to_owned();
        return identity;
    };
    let fields = Fields::new(step, "steps.step");
    identity.step_id = fields.text("id", problems).unwrap_or(key).to_owned();
    match fields.text("name", problems) {
        Some(name) => name.clone_into(&mut identity.step_name),
        None => problems.add("All steps must have a name"),
    }
    if let Some(retries) = fields.object("retries", problems) {
        identity.step_retries = Fields::new(retries, "steps.step.retries").integer("attempts", problems);
    }
    if let Some(runtime) = fields.object("runtime", problems) {
        let url = Fields::new(runtime, "steps.step.runtime").text("url", problems);
        identity.url = url.map(normalise).unwrap_or_default();
    }
    identity
}

/// Where the app serves, if it did not say: where its functions are called.
fn serve_url(functions: &[Function]) -> String {
    let url = functions.first().and_then(|function| Url::parse(&function.url).ok());
    url.map(|mut url| {
        url.set_query(None);
        url.into()
    })
    .unwrap_or_default()
}

/// SHA-256 of what the app says of itself.
fn checksum(request: &Map<String, Value>) -> String {
    let stable: Map<String, Value> = request
        .iter()
        .filter(|(key, _)| !VOLATILE.iter().any(|name| key.eq_ignore_ascii_case(name)))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let canonical = Json::from_value(&stable).unwrap_or_else(|_| Json::null());
    hex::encode(Sha256::digest(canonical.as_str()))
}

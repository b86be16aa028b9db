//! One function of a registration: what both readers do with it.

use std::sync::Arc;

use callboard_actors::domain::{Caps, Function, FunctionId, FunctionMode, Json, limits};
use serde_json::{Map, Value, json};
use url::Url;

use super::{Context, Fields, Problems, flow, trigger};

/// What the readers find out in their own ways.
pub(super) struct Identity {
    pub(super) slug: String,
    pub(super) name: String,
    pub(super) url: String,
    pub(super) step_id: String,
    pub(super) step_name: String,
    /// `steps.step.retries.attempts`.
    pub(super) step_retries: Option<i64>,
}

/// Reads the rest, and puts the function together. The result makes sense only if no problem was found.
pub(super) fn assemble(
    document: &Map<String, Value>,
    identity: Identity,
    by_hand: bool,
    context: Context<'_>,
    problems: &mut Problems,
) -> Function {
    let fields = Fields::new(document, "");
    check_url(&identity, problems);
    let triggers = trigger::read(fields.array("triggers", problems), by_hand, problems);
    let own_retries = fields.integer("retries", problems);
    let retries = identity.step_retries.or(own_retries);
    let flow = flow::read(fields, problems);
    let id = FunctionId::derive(context.app, &identity.slug);
    let config = shown(document, &identity, id);
    Function {
        id,
        slug: Arc::from(identity.slug),
        app: Arc::from(context.app),
        name: identity.name,
        version: 0,
        url: identity.url,
        triggers,
        retries: clamp(retries),
        flow,
        config: Json::from_value(&config).unwrap_or_else(|_| Json::null()),
        endpoint: None,
        archived: false,
        mode: FunctionMode::Active,
        caps: Caps::default(),
    }
}

fn clamp(retries: Option<i64>) -> u32 {
    let Some(retries) = retries else {
        return limits::DEFAULT_RETRIES;
    };
    u32::try_from(retries.max(0))
        .unwrap_or(limits::MAX_RETRIES)
        .min(limits::MAX_RETRIES)
}

fn check_url(identity: &Identity, problems: &mut Problems) {
    if identity.url.is_empty() {
        problems.add(format!("No SDK URL provided for function '{}'", identity.name));
        return;
    }
    match Url::parse(&identity.url) {
        Ok(url) if matches!(url.scheme(), "http" | "https" | "ws" | "wss") => {}
        Ok(url) => problems.add(format!("Non-supported step schema: {}", url.scheme())),
        Err(error) => problems.add(format!("the URL '{}' is not valid: {error}", identity.url)),
    }
}

/// The document as `GET /dev` shows it: as received, but with the identities that the server knows it by, without
/// nulls, and its steps as a list of `{id, name, uri}`. Tools compare those steps exactly: `retries` appears only if it
/// was sent.
fn shown(document: &Map<String, Value>, identity: &Identity, id: FunctionId) -> Value {
    let mut shown: Map<String, Value> = document
        .iter()
        .filter(|(key, _)| {
            !["id", "name", "slug", "steps"]
                .iter()
                .any(|own| key.eq_ignore_ascii_case(own))
        })
        .map(|(key, value)| (key.clone(), without_nulls(value)))
        .filter(|(_, value)| !value.is_null())
        .collect();
    let mut step = json!({"id": identity.step_id, "name": identity.step_name, "uri": identity.url});
    if let Some(attempts) = identity.step_retries {
        step["retries"] = json!({"attempts": attempts});
    }
    shown.insert("id".to_owned(), id.to_string().into());
    shown.insert("slug".to_owned(), identity.slug.clone().into());
    shown.insert("name".to_owned(), identity.name.clone().into());
    shown.insert("steps".to_owned(), Value::Array(vec![step]));
    shown.entry("triggers").or_insert_with(|| Value::Array(Vec::new()));
    Value::Object(shown)
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), without_nulls(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(without_nulls).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}

/// A slug from a name: lower case, everything but letters and digits as single dashes.
pub(super) fn slug_of(name: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_alphanumeric() {
            slug.extend(c.to_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

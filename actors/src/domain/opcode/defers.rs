//! What an app wants to be put off until its run has ended.
//!
//! Never: a failed attempt. What breaks a rule is refused with the reason, and the run goes on.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::OpcodeKind;
use crate::domain::{Json, StepId, limits, resolve_meta};

/// A function to be put off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeferAdd {
    /// Slug of the function; empty if the app does not say.
    pub function: String,
    /// The id that the function's author gave.
    pub name: String,
    /// What to give the function, an object, and the `meta` that its event is to have.
    pub input: Result<(Json, Option<Json>), DeferRefused>,
}

/// Why something is not put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeferRefused {
    /// Nothing says which function.
    #[error("it does not say which function to start")]
    NoFunction,
    /// What the function is to be given is no object.
    #[error("its input is no object")]
    Input,
    /// Too large by itself.
    #[error("its input is larger than {} MiB", limits::DEFERRAL_INPUT_BYTES / 1024 / 1024)]
    InputTooLarge,
    /// Too large with what the run has put off before.
    #[error("the inputs of all that the run has put off are larger than {} MiB", limits::DEFERRAL_INPUT_BYTES / 1024 / 1024)]
    TooLarge,
    /// One too many.
    #[error("a run puts off {max} functions at the most", max = limits::DEFERRALS_PER_RUN)]
    TooMany,
    /// Sessions that an event may not have.
    #[error("its meta is not valid")]
    Meta,
    /// More than sessions need.
    #[error("its meta is larger than {} KiB", limits::DEFERRAL_META_BYTES / 1024)]
    MetaTooLarge,
}

#[derive(Deserialize)]
struct Options<'a> {
    #[serde(default)]
    fn_slug: Option<String>,
    #[serde(default, borrow)]
    input: Option<&'a RawValue>,
    #[serde(default, borrow)]
    meta: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    target_hashed_id: Option<String>,
}

/// The user's id of it, from the opcode's `userland`.
#[derive(Deserialize)]
struct Userland {
    #[serde(default)]
    id: Option<String>,
}

/// A `DeferAdd`; `label` names it where the app does not say how its author does.
pub(super) fn add(label: &str, opts: Option<&RawValue>, userland: Option<&RawValue>) -> OpcodeKind {
    let named = userland.and_then(|raw| serde_json::from_str::<Userland>(raw.get()).ok()?.id);
    let options = opts.and_then(|raw| serde_json::from_str::<Options<'_>>(raw.get()).ok());
    let input = options.as_ref().map_or(Err(DeferRefused::NoFunction), input);
    OpcodeKind::DeferAdd(DeferAdd {
        function: options.and_then(|options| options.fn_slug).unwrap_or_default(),
        name: named
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| label.to_owned()),
        input,
    })
}

fn input(options: &Options<'_>) -> Result<(Json, Option<Json>), DeferRefused> {
    if options.fn_slug.as_deref().is_none_or(str::is_empty) {
        return Err(DeferRefused::NoFunction);
    }
    let raw = options.input.ok_or(DeferRefused::Input)?;
    if raw.get().len() > limits::DEFERRAL_INPUT_BYTES {
        return Err(DeferRefused::InputTooLarge);
    }
    let input = Json::parse(raw.get()).map_err(|_| DeferRefused::Input)?;
    if !input.as_str().starts_with('{') {
        return Err(DeferRefused::Input);
    }
    Ok((input, meta(options.meta)?))
}

fn meta(raw: Option<&RawValue>) -> Result<Option<Json>, DeferRefused> {
    let Some(raw) = raw else { return Ok(None) };
    if raw.get().len() > limits::DEFERRAL_META_BYTES {
        return Err(DeferRefused::MetaTooLarge);
    }
    let meta: Value = serde_json::from_str(raw.get()).map_err(|_| DeferRefused::Meta)?;
    if !matches!(meta, Value::Null | Value::Object(_)) {
        return Err(DeferRefused::Meta);
    }
    let resolved = resolve_meta(Some(meta)).map_err(|_| DeferRefused::Meta)?;
    let meta = resolved.map(|meta| Json::from_value(&meta)).transpose();
    meta.map_err(|_| DeferRefused::Meta)
}

/// A `DeferAbort`. One without a target takes nothing back.
pub(super) fn abort(opts: Option<&RawValue>) -> OpcodeKind {
    let target = opts.and_then(|raw| serde_json::from_str::<Target>(raw.get()).ok()?.target_hashed_id);
    OpcodeKind::DeferAbort {
        target: StepId::from(target.unwrap_or_default().as_str()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::domain::Opcode;

    fn kind(op: &str, opts: &Value) -> OpcodeKind {
        let reply = json!([{"op": op, "id": "a", "displayName": "A", "opts": opts, "userland": {"id": "mail"}}]);
        let mut ops = Opcode::parse_reply(reply.to_string().as_bytes()).expect("valid opcodes");
        ops.remove(0).kind
    }

    fn added(opts: &Value) -> DeferAdd {
        match kind("DeferAdd", opts) {
            OpcodeKind::DeferAdd(add) => add,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_to_start_and_with_what() {
        let sessions = json!({"sessions": {"user": 7}, "propagated_sessions": {"chat": "c"}});
        let add = added(&json!({"fn_slug": "shop-mail", "input": {"b": 1.0, "a": null}, "meta": sessions}));
        assert_eq!((&*add.function, &*add.name), ("shop-mail", "mail"));
        let (input, meta) = add.input.expect("accepted");
        assert_eq!(input.as_str(), r#"{"a":null,"b":1}"#);
        assert_eq!(meta.expect("some").as_str(), r#"{"sessions":{"chat":"c","user":"7"}}"#);
        let bare = added(&json!({"fn_slug": "f", "input": {}, "meta": null}));
        assert_eq!(bare.input.expect("accepted").1, None);
    }

    #[rstest]
    #[case(json!(null), DeferRefused::NoFunction)]
    #[case(json!({"input": {}}), DeferRefused::NoFunction)]
    #[case(json!({"fn_slug": 7, "input": {}}), DeferRefused::NoFunction)]
    #[case(json!({"fn_slug": "f"}), DeferRefused::Input)]
    #[case(json!({"fn_slug": "f", "input": [1]}), DeferRefused::Input)]
    #[case(json!({"fn_slug": "f", "input": null}), DeferRefused::Input)]
    #[case(json!({"fn_slug": "f", "input": {"x": "y".repeat(limits::DEFERRAL_INPUT_BYTES)}}), DeferRefused::InputTooLarge)]
    #[case(json!({"fn_slug": "f", "input": {}, "meta": {"sessions": {"k": true}}}), DeferRefused::Meta)]
    #[case(json!({"fn_slug": "f", "input": {}, "meta": 7}), DeferRefused::Meta)]
    #[case(json!({"fn_slug": "f", "input": {}, "meta": {"x": "y".repeat(limits::DEFERRAL_META_BYTES)}}), DeferRefused::MetaTooLarge)]
    fn what_breaks_a_rule_is_refused_softly(#[case] opts: Value, #[case] why: DeferRefused) {
        assert_eq!(added(&opts).input, Err(why));
    }

    #[test]
    fn what_is_taken_back() {
        let of = |opts: Value| match kind("DeferAbort", &opts) {
            OpcodeKind::DeferAbort { target } => target.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(of(json!({"target_hashed_id": "b", "fn_slug": "f"})), "b");
        assert_eq!(of(json!(null)), "");
    }
}

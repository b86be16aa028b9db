//! What an app reports in a 206 reply: one opcode for each step it ran, planned or wants us to wait for.
//!
//! Reading is lenient where SDKs differ (case of `op`, nulls, missing names) and strict where leniency would hang a
//! run: an unknown opcode is an error, so that the attempt fails visibly.

mod defers;
mod notes;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub use self::defers::{DeferAdd, DeferRefused};
use super::{Failure, Json, JsonError, StepId, StepMetadata, limits};

/// One opcode.
#[derive(Debug, Clone, PartialEq)]
pub struct Opcode {
    /// The step it speaks of; `None` only for opcodes that need none.
    pub id: StepId,
    /// The step's name for people.
    pub label: String,
    /// Whether its completion is to be told to the app at once, even while siblings are under way.
    pub race: bool,
    /// What the SDK calls this kind of step, such as `step.sendEvent`; for people.
    pub run_type: Option<String>,
    /// What the app notes along with it. Updates that it may not make are left out.
    pub metadata: Vec<StepMetadata>,
    /// When the step's code ran: start in nanoseconds since the epoch, duration in nanoseconds.
    pub timing: Option<(i64, i64)>,
    /// What it says.
    pub kind: OpcodeKind,
}

/// What an opcode says.
#[derive(Debug, Clone, PartialEq)]
pub enum OpcodeKind {
    /// This branch found nothing to do.
    None,
    /// A step ran; its memo, wrapped as SDKs want it back.
    StepRun {
        /// The memo.
        memo: Json,
    },
    /// A step threw and wants another attempt.
    StepError(Failure),
    /// A step threw for good.
    StepFailed(Failure),
    /// A step was found and waits to be called on its own.
    StepPlanned,
    /// Sleep for a duration or until a date.
    Sleep {
        /// The operand as written.
        operand: String,
    },
    /// Wait for an event.
    WaitForEvent {
        /// Its exact name.
        event: String,
        /// A condition over `event` and `async`.
        condition: Option<String>,
        /// A duration or date; empty means now.
        timeout: String,
    },
    /// Wait for a signal.
    WaitForSignal {
        /// Its name, unique among open waits.
        signal: String,
        /// A duration or date; empty means a year.
        timeout: String,
        /// Whether to take the signal over from an older waiter, instead of failing.
        replace: bool,
    },
    /// Run another function and wait for its end.
    InvokeFunction {
        /// Slug or UUID of the function.
        function: String,
        /// The new event's payload: `data`, `user`, `v`, `meta`.
        payload: Map<String, Value>,
        /// A duration or date; empty means a year.
        timeout: String,
    },
    /// Ask a model provider on the app's behalf.
    AiGateway(GatewayOptions),
    /// Make a request on the app's behalf.
    Gateway(GatewayOptions),
    /// The function returned.
    RunComplete {
        /// What it returned.
        output: Json,
    },
    /// Call the app again.
    DiscoveryRequest,
    /// Start a function when this run has ended. Neither drives nor blocks the run.
    DeferAdd(DeferAdd),
    /// Don't start one after all that was put off. Neither drives nor blocks the run.
    DeferAbort {
        /// The id under which it was put off.
        target: StepId,
    },
}

impl OpcodeKind {
    /// Whether it travels along with others, and neither drives nor blocks the run.
    #[must_use]
    pub fn is_lazy(&self) -> bool {
        matches!(self, Self::DeferAdd(_) | Self::DeferAbort { .. })
    }
}

/// A request to make on the app's behalf. Never logged or stored: it carries the user's credentials.
#[derive(Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct GatewayOptions {
    /// Where to.
    pub url: String,
    /// HTTP method; POST if missing.
    pub method: Option<String>,
    /// Headers to send.
    #[serde(deserialize_with = "null_default")]
    pub headers: BTreeMap<String, String>,
    /// Credential, put where the format wants it.
    pub auth_key: Option<String>,
    /// `openai-chat`, `anthropic`, `gemini` or `bedrock`.
    pub format: Option<String>,
    /// JSON for model providers, text otherwise.
    pub body: Option<Value>,
    /// Where the answer is to be published while it comes.
    pub publish: Option<PublishTo>,
}

/// A topic of a channel, for whoever is subscribed to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct PublishTo {
    /// The channel; without one nothing is published.
    pub channel: String,
    /// The topic; the same.
    pub topic: String,
}

impl std::fmt::Debug for GatewayOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayOptions")
            .field("method", &self.method)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// Why a reply's opcodes can't be understood.
#[derive(Debug, thiserror::Error)]
pub enum OpcodeError {
    /// Not JSON of the right shape.
    #[error("the opcodes are not valid JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// A payload that can't be represented.
    #[error("an opcode's data is not representable: {0}")]
    Json(#[from] JsonError),
    /// An opcode this server does not know.
    #[error("unknown opcode `{0}`")]
    Unknown(String),
    /// An opcode that belongs to a protocol this server does not offer.
    #[error("opcode `{0}` is not supported here")]
    Unsupported(&'static str),
    /// An opcode lacks what it needs.
    #[error("opcode {op} of step `{id}` has no {what}")]
    Missing {
        /// The opcode.
        op: &'static str,
        /// The step.
        id: String,
        /// What is missing.
        what: &'static str,
    },
    /// An id that is too long.
    #[error("a step id is longer than {max} bytes", max = StepId::MAX_LEN)]
    IdTooLong,
    /// More opcodes than one reply may have.
    #[error("{0} opcodes in one reply; at most {max} are allowed", max = limits::OPCODES_PER_REPLY)]
    TooMany(usize),
    /// A step's output is too large.
    #[error("the output of step `{0}` exceeds {max} bytes", max = limits::STEP_OUTPUT_BYTES)]
    TooLarge(String),
}

#[derive(Deserialize)]
struct Wire<'a> {
    op: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<Value>,
    #[serde(default, rename = "displayName")]
    display_name: Option<String>,
    #[serde(default, borrow)]
    opts: Option<&'a RawValue>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    timing: Option<Timing>,
    #[serde(default, borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(default, borrow)]
    userland: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Timing {
    #[serde(default)]
    a: i64,
    #[serde(default)]
    b: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    duration: Option<String>,
    event: Option<String>,
    #[serde(rename = "if")]
    condition: Option<String>,
    timeout: Option<String>,
    signal: Option<String>,
    conflict: Option<String>,
    function_id: Option<String>,
    payload: Option<Map<String, Value>>,
    #[serde(rename = "parallelMode")]
    parallel_mode: Option<String>,
    #[serde(rename = "type")]
    run_type: Option<String>,
}

fn null_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl Opcode {
    /// Reads the body of a 206 reply: an array of opcodes, or a single one.
    ///
    /// # Errors
    /// When any of them is not understood: then the whole reply counts as a failed attempt.
    pub fn parse_reply(body: &[u8]) -> Result<Vec<Self>, OpcodeError> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum OneOrMany<'a> {
            #[serde(borrow)]
            Many(Vec<&'a RawValue>),
            One(&'a RawValue),
        }
        // `untagged` can't borrow raw values, so the first byte decides.
        let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
        let raw: OneOrMany<'_> = match first {
            Some(b'[') => OneOrMany::Many(serde_json::from_slice(body)?),
            _ => OneOrMany::One(serde_json::from_slice(body)?),
        };
        match raw {
            OneOrMany::Many(all) if all.len() > limits::OPCODES_PER_REPLY => Err(OpcodeError::TooMany(all.len())),
            OneOrMany::Many(all) => all.into_iter().map(Self::parse).collect(),
            OneOrMany::One(one) => Ok(vec![Self::parse(one)?]),
        }
    }

    fn parse(raw: &RawValue) -> Result<Self, OpcodeError> {
        /// Longer ones are no name of a type.
        const RUN_TYPE_BYTES: usize = 64;
        let wire: Wire<'_> = serde_json::from_str(raw.get())?;
        let id = wire.id.unwrap_or_default();
        if id.len() > StepId::MAX_LEN {
            return Err(OpcodeError::IdTooLong);
        }
        let name = wire.name.as_ref().and_then(Value::as_str).unwrap_or_default();
        let label = [wire.display_name.as_deref().unwrap_or_default(), name, id.as_str()]
            .into_iter()
            .find(|text| !text.is_empty());
        let label = label.unwrap_or_default().to_owned();
        let timing = wire.timing.as_ref().map(|timing| (timing.a, timing.b));
        // Options of opcodes that need none are for display; odd ones are not worth a failed attempt.
        let options = || -> Result<Options, OpcodeError> {
            wire.opts
                .map_or(Ok(None), |raw| serde_json::from_str(raw.get()))
                .map(Option::unwrap_or_default)
                .map_err(Into::into)
        };
        let race = wire.opts.is_some_and(|raw| raw.get().contains("parallelMode"))
            && options().is_ok_and(|options| options.parallel_mode.as_deref() == Some("race"));
        let has_type = wire.opts.is_some_and(|raw| raw.get().contains("\"type\""));
        let run_type = has_type.then(|| options().ok()?.run_type).flatten();
        let metadata = notes::read(&id, wire.opts, wire.metadata);
        let kind = match wire.op.to_ascii_lowercase().as_str() {
            "none" => OpcodeKind::None,
            "step" => OpcodeKind::StepRun {
                memo: output(&id, wire.data)?,
            },
            "steprun" => OpcodeKind::StepRun {
                memo: output(&id, wire.data)?.wrapped("data"),
            },
            "steperror" => OpcodeKind::StepError(failure("StepError", &id, wire.error.as_ref())?),
            "stepfailed" => OpcodeKind::StepFailed(failure("StepFailed", &id, wire.error.as_ref())?),
            "stepplanned" => OpcodeKind::StepPlanned,
            "sleep" => {
                let operand = options()?
                    .duration
                    .filter(|text| !text.is_empty())
                    .unwrap_or_else(|| name.to_owned());
                OpcodeKind::Sleep { operand }
            }
            "waitforevent" => {
                let options = options()?;
                let event = options
                    .event
                    .filter(|event| !event.is_empty())
                    .unwrap_or_else(|| name.to_owned());
                if event.is_empty() {
                    return Err(OpcodeError::Missing {
                        op: "WaitForEvent",
                        id,
                        what: "event name",
                    });
                }
                let condition = options.condition.filter(|condition| !condition.trim().is_empty());
                OpcodeKind::WaitForEvent {
                    event,
                    condition,
                    timeout: options.timeout.unwrap_or_default(),
                }
            }
            "waitforsignal" => {
                let options = options()?;
                let signal = options
                    .signal
                    .filter(|signal| !signal.is_empty())
                    .unwrap_or_else(|| name.to_owned());
                if signal.is_empty() {
                    return Err(OpcodeError::Missing {
                        op: "WaitForSignal",
                        id,
                        what: "signal",
                    });
                }
                let replace = options.conflict.as_deref() == Some("replace");
                OpcodeKind::WaitForSignal {
                    signal,
                    timeout: options.timeout.unwrap_or_default(),
                    replace,
                }
            }
            "invokefunction" => {
                let options = options()?;
                let function = options.function_id.filter(|function| !function.is_empty());
                let function = function.ok_or_else(|| OpcodeError::Missing {
                    op: "InvokeFunction",
                    id: id.clone(),
                    what: "function_id",
                })?;
                OpcodeKind::InvokeFunction {
                    function,
                    payload: options.payload.unwrap_or_default(),
                    timeout: options.timeout.unwrap_or_default(),
                }
            }
            "aigateway" => OpcodeKind::AiGateway(gateway("AIGateway", &id, wire.opts)?),
            "gateway" => OpcodeKind::Gateway(gateway("Gateway", &id, wire.opts)?),
            "runcomplete" => OpcodeKind::RunComplete {
                output: output(&id, wire.data)?,
            },
            "syncruncomplete" => return Err(OpcodeError::Unsupported("SyncRunComplete")),
            "discoveryrequest" => OpcodeKind::DiscoveryRequest,
            "deferadd" => defers::add(&label, wire.opts, wire.userland),
            "deferabort" => defers::abort(wire.opts),
            _ => return Err(OpcodeError::Unknown(wire.op)),
        };
        if id.is_empty()
            && !kind.is_lazy()
            && !matches!(
                kind,
                OpcodeKind::None | OpcodeKind::RunComplete { .. } | OpcodeKind::DiscoveryRequest
            )
        {
            return Err(OpcodeError::Missing {
                op: "of a step",
                id,
                what: "id",
            });
        }
        Ok(Self {
            id: StepId::from(id.as_str()),
            label,
            race,
            run_type: run_type.filter(|name| (1..=RUN_TYPE_BYTES).contains(&name.len())),
            metadata,
            timing,
            kind,
        })
    }

    /// Whether it may be reported while its call is under way: nothing has to be done about it but to keep it.
    #[must_use]
    pub fn is_reportable(&self) -> bool {
        matches!(self.kind, OpcodeKind::StepRun { .. } | OpcodeKind::StepPlanned) || self.kind.is_lazy()
    }

    /// Whether it speaks of a step that has yet to complete.
    #[must_use]
    pub fn is_plan(&self) -> bool {
        !matches!(
            self.kind,
            OpcodeKind::None
                | OpcodeKind::DeferAdd(_)
                | OpcodeKind::DeferAbort { .. }
                | OpcodeKind::StepRun { .. }
                | OpcodeKind::StepError(_)
                | OpcodeKind::StepFailed(_)
                | OpcodeKind::RunComplete { .. }
                | OpcodeKind::DiscoveryRequest
        )
    }
}

fn output(id: &str, data: Option<&RawValue>) -> Result<Json, OpcodeError> {
    let Some(data) = data else {
        return Ok(Json::null());
    };
    if data.get().len() > limits::STEP_OUTPUT_BYTES {
        return Err(OpcodeError::TooLarge(id.to_owned()));
    }
    Ok(Json::parse(data.get())?)
}

fn failure(op: &'static str, id: &str, error: Option<&Value>) -> Result<Failure, OpcodeError> {
    match error {
        None | Some(Value::Null) => Err(OpcodeError::Missing {
            op,
            id: id.to_owned(),
            what: "error",
        }),
        Some(error) => Ok(Failure::from_reply(error)),
    }
}

fn gateway(op: &'static str, id: &str, opts: Option<&RawValue>) -> Result<GatewayOptions, OpcodeError> {
    let missing = || OpcodeError::Missing {
        op,
        id: id.to_owned(),
        what: "url",
    };
    let options: GatewayOptions = serde_json::from_str(opts.ok_or_else(missing)?.get())?;
    if options.url.is_empty() {
        return Err(missing());
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn parse(reply: &Value) -> Result<Vec<Opcode>, OpcodeError> {
        Opcode::parse_reply(reply.to_string().as_bytes())
    }

    fn only(reply: &Value) -> Opcode {
        parse(reply).expect("valid opcodes").remove(0)
    }

    #[test]
    fn wraps_a_steps_result_exactly_once() {
        let op = only(&json!([{"op": "StepRun", "id": "a", "data": {"data": 1}}]));
        assert_eq!(
            op.kind,
            OpcodeKind::StepRun {
                memo: Json::parse(r#"{"data":{"data":1}}"#).expect("valid")
            }
        );
        let legacy = only(&json!([{"op": "Step", "id": "a", "data": {"data": 1}}]));
        assert_eq!(
            legacy.kind,
            OpcodeKind::StepRun {
                memo: Json::parse(r#"{"data":1}"#).expect("valid")
            }
        );
        let nothing = only(&json!({"op": "steprun", "id": "a"}));
        assert_eq!(
            nothing.kind,
            OpcodeKind::StepRun {
                memo: Json::parse(r#"{"data":null}"#).expect("valid")
            }
        );
    }

    #[test]
    fn a_steps_own_type_is_for_display() {
        let type_of = |opts: Value| only(&json!([{"op": "StepRun", "id": "a", "opts": opts}])).run_type;
        let named = Some("step.sendEvent".to_owned());
        assert_eq!(type_of(json!({"type": "step.sendEvent", "input": [1]})), named);
        for odd in [
            json!({}),
            json!({"type": 7}),
            json!({"type": ""}),
            json!({"type": "x".repeat(65)}),
            json!(null),
        ] {
            assert_eq!(type_of(odd), None);
        }
    }

    #[test]
    fn takes_the_operand_from_wherever_an_sdk_puts_it() {
        let typescript = only(&json!([{"op": "Sleep", "id": "a", "name": "1d2h", "displayName": "nap"}]));
        assert_eq!(
            typescript.kind,
            OpcodeKind::Sleep {
                operand: "1d2h".to_owned()
            }
        );
        assert_eq!(typescript.label, "nap");
        let go = only(&json!([{"op": "Sleep", "id": "a", "name": "nap", "opts": {"duration": "90s"}}]));
        assert_eq!(
            go.kind,
            OpcodeKind::Sleep {
                operand: "90s".to_owned()
            }
        );
    }

    #[test]
    fn reads_the_nulls_of_other_sdks() {
        let op = only(
            &json!([{"op": "StepPlanned", "id": "a", "name": null, "displayName": null, "opts": null, "data": null,
            "error": null, "userland": {"id": "x", "index": null}, "timing": null}]),
        );
        assert_eq!((op.kind, op.label.as_str()), (OpcodeKind::StepPlanned, "a"));
    }

    #[rstest]
    #[case(json!([{"op": "Teleport", "id": "a"}]))]
    #[case(json!([null]))]
    #[case(json!("text"))]
    #[case(json!([{"op": "StepError", "id": "a"}]))]
    #[case(json!([{"op": "WaitForEvent", "id": "a"}]))]
    #[case(json!([{"op": "InvokeFunction", "id": "a", "opts": {}}]))]
    #[case(json!([{"op": "Gateway", "id": "a"}]))]
    #[case(json!([{"op": "StepPlanned"}]))]
    #[case(json!([{"op": "StepRun", "id": "x".repeat(300)}]))]
    #[case(json!([{"op": "StepRun", "id": "a", "data": "x".repeat(limits::STEP_OUTPUT_BYTES)}]))]
    fn refuses(#[case] reply: Value) {
        assert!(parse(&reply).is_err());
    }

    #[test]
    fn credentials_do_not_print() {
        let op = only(
            &json!([{"op": "AIGateway", "id": "a", "opts": {"url": "https://h/?key=secret", "auth_key": "secret"}}]),
        );
        assert!(!format!("{op:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Opcode::parse_reply(&body);
        }

        #[test]
        fn no_shape_panics(op in "[A-Za-z]{0,16}", id in ".{0,50}", opts in ".{0,50}") {
            let _ = parse(&json!([{"op": op, "id": id, "opts": opts, "data": opts}]));
            for op in ["Sleep", "WaitForEvent", "InvokeFunction", "Gateway", "StepError"] {
                let _ = parse(&json!([{"op": op, "id": id, "opts": {"timeout": opts, "url": opts}, "error": opts}]));
            }
        }
    }
}

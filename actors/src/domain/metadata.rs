//! Metadata: what apps note about their runs and steps, for people to see beside a trace. Models that were asked, scores,
//! variants of experiments, whatever else a user wants to keep there.
//!
//! ```text
//! metadata.rs     updates, and what is refused of them
//! fold.rs         what all updates of a run come to
//! model_call.rs   what a model was asked on an app's behalf
//! prices.rs       what a model costs
//! ```
//!
//! An update is about a run, a step, one attempt at a step or a user's span ([`MetadataTarget`]), and of a kind; there is one
//! entry for each target and kind. Updates arrive with a step's result, as lines of the run's history, and through the API, at
//! any time, also when the run has ended. Nothing of it bears on what becomes of a run.

mod fold;
mod model_call;
mod prices;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{StepId, limits};

pub use fold::{Metadata, MetadataEntry, MetadataLog, MetadataRecord, NotedMetadata};

/// The values of an update or of an entry, by name.
pub type MetadataValues = Map<String, Value>;

/// The kind of what a model was asked.
const AI: &str = "inngest.ai";
/// The kind of scores.
const SCORE: &str = "inngest.score";
/// The kind of what experiment a step belongs to.
const EXPERIMENT: &str = "inngest.experiment";
/// What users' own kinds begin with.
const USERLAND: &str = "userland.";
/// The other kinds that apps may write.
const KINDS: &[&str] = &[
    AI,
    "inngest.http",
    "inngest.http.timing",
    "inngest.response_headers",
    "inngest.warnings",
    EXPERIMENT,
    SCORE,
    "inngest.sandbox",
];

/// What an update does to its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetadataOp {
    /// Values of these names take the places of those there were.
    Merge,
    /// These values are all that is left.
    Set,
    /// Values of these names go.
    Delete,
    /// Numbers are added to those of these names.
    Add,
}

/// What an entry is about: the run, if nothing is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MetadataTarget {
    /// A step. It need not be known as yet; what is about one that never will be is never seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
    /// One attempt at the step, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// A user's span within the step, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<String>,
}

impl MetadataTarget {
    /// A step.
    #[must_use]
    pub fn step(step: StepId) -> Self {
        Self {
            step: Some(step),
            ..Self::default()
        }
    }

    /// How far it reaches, in the words of the protocol.
    #[must_use]
    pub fn scope(&self) -> &'static str {
        match (&self.span, self.attempt, &self.step) {
            (Some(_), ..) => "extended_trace",
            (None, Some(_), _) => "step_attempt",
            (None, None, Some(_)) => "step",
            (None, None, None) => "run",
        }
    }
}

/// What a step's result may be accompanied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetadataScope {
    /// About the run.
    Run,
    /// About the step.
    Step,
    /// About this attempt at it.
    StepAttempt,
}

impl MetadataScope {
    /// What that is, of a step in an attempt.
    #[must_use]
    pub fn target(self, step: &StepId, attempt: u32) -> MetadataTarget {
        match self {
            Self::Run => MetadataTarget::default(),
            Self::Step => MetadataTarget::step(step.clone()),
            Self::StepAttempt => MetadataTarget {
                attempt: Some(attempt),
                ..MetadataTarget::step(step.clone())
            },
        }
    }
}

/// A change of an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetadataUpdate {
    /// The entry's kind.
    pub kind: String,
    /// What to do.
    pub op: MetadataOp,
    /// With which values.
    #[serde(default)]
    pub values: MetadataValues,
}

/// An update that comes with a step's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepMetadata {
    /// What it is about.
    pub scope: MetadataScope,
    /// What to change.
    #[serde(flatten)]
    pub update: MetadataUpdate,
}

/// Why an update is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Apps may not write that.
    #[error("metadata of kind `{0}` can't be written")]
    Kind(String),
    /// A name too long.
    #[error("the kind of metadata is longer than {max} bytes", max = limits::METADATA_KIND_BYTES)]
    KindTooLong,
    /// Too many bytes at once.
    #[error("an update of metadata is larger than {} KiB", limits::METADATA_UPDATE_BYTES / 1024)]
    TooLarge,
    /// A score that is none.
    #[error("score `{0}`: {1}")]
    Score(String, &'static str),
}

impl MetadataUpdate {
    /// The update as it is kept: what a model cost is added, where that is known and not said.
    ///
    /// # Errors
    /// When it is not one that apps may make.
    pub fn accept(mut self) -> Result<Self, MetadataError> {
        if self.kind.len() > limits::METADATA_KIND_BYTES {
            return Err(MetadataError::KindTooLong);
        }
        let is_own = self.kind.strip_prefix(USERLAND).is_some_and(|name| !name.is_empty());
        if !is_own && !KINDS.contains(&self.kind.as_str()) {
            return Err(MetadataError::Kind(self.kind));
        }
        if size(&self.values) > limits::METADATA_UPDATE_BYTES {
            return Err(MetadataError::TooLarge);
        }
        if self.kind == SCORE && matches!(self.op, MetadataOp::Merge | MetadataOp::Set) {
            for (name, score) in &self.values {
                check_score(name, score).map_err(|what| MetadataError::Score(name.clone(), what))?;
            }
        }
        if self.kind == AI && matches!(self.op, MetadataOp::Merge | MetadataOp::Set) {
            prices::add_cost(&mut self.values);
        }
        Ok(self)
    }

    /// A score of a run or step.
    #[must_use]
    pub fn score(name: &str, value: Value) -> Self {
        let value = Value::Object(Map::from_iter([("value".to_owned(), value)]));
        Self {
            kind: SCORE.to_owned(),
            op: MetadataOp::Merge,
            values: Map::from_iter([(name.to_owned(), value)]),
        }
    }

    /// Which variant of an experiment it was.
    #[must_use]
    pub fn experiment(op: MetadataOp, name: &str, variant: &str, strategy: Option<&str>) -> Self {
        let members = [
            ("name", Some(name)),
            ("variant", Some(variant)),
            ("selection_strategy", strategy),
        ];
        let values = members
            .into_iter()
            .filter_map(|(key, text)| Some((key.to_owned(), Value::from(text?))));
        Self {
            kind: EXPERIMENT.to_owned(),
            op,
            values: values.collect(),
        }
    }
}

/// Bytes of values as text.
fn size(values: &MetadataValues) -> usize {
    serde_json::to_string(values).map_or(usize::MAX, |text| text.len())
}

fn check_score(name: &str, score: &Value) -> Result<(), &'static str> {
    if name.trim().is_empty() || name.len() > limits::SCORE_NAME_BYTES {
        return Err("its name has 1 to 128 bytes");
    }
    if name.chars().any(|letter| letter.is_control() || letter == '\'') {
        return Err("its name has no control characters and no single quotes");
    }
    match score.as_object().map(|score| (score.len(), score.get("value"))) {
        Some((1, Some(Value::Number(_) | Value::Bool(_)))) => Ok(()),
        _ => Err("it is `{\"value\"}`, a number or a boolean"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn update(kind: &str, op: MetadataOp, values: &Value) -> MetadataUpdate {
        MetadataUpdate {
            kind: kind.to_owned(),
            op,
            values: values.as_object().expect("an object").clone(),
        }
    }

    #[rstest]
    #[case("userland.default", true)]
    #[case("inngest.warnings", true)]
    #[case("inngest.sandbox", true)]
    #[case("userland.", false)]
    #[case("inngest.other", false)]
    #[case("other", false)]
    #[case("", false)]
    fn kinds_that_apps_may_write(#[case] kind: &str, #[case] is_accepted: bool) {
        let accepted = update(kind, MetadataOp::Set, &json!({"a": 1})).accept();
        assert_eq!(accepted.is_ok(), is_accepted, "{accepted:?}");
    }

    #[test]
    fn sizes_are_bounded() {
        let of = |bytes: usize| update("userland.a", MetadataOp::Set, &json!({"a": "x".repeat(bytes)}));
        assert!(of(limits::METADATA_UPDATE_BYTES - 8).accept().is_ok());
        assert_eq!(
            of(limits::METADATA_UPDATE_BYTES - 7).accept(),
            Err(MetadataError::TooLarge)
        );
        let long = format!("userland.{}", "x".repeat(limits::METADATA_KIND_BYTES));
        let refused = update(&long, MetadataOp::Set, &json!({})).accept();
        assert_eq!(refused, Err(MetadataError::KindTooLong));
    }

    #[rstest]
    #[case(json!({"accuracy": {"value": 0.5}}), true)]
    #[case(json!({"passed": {"value": false}, "n": {"value": 3}}), true)]
    #[case(json!({"accuracy": {"value": "high"}}), false)]
    #[case(json!({"accuracy": {"value": null}}), false)]
    #[case(json!({"accuracy": {"value": 1, "why": "x"}}), false)]
    #[case(json!({"accuracy": 1}), false)]
    #[case(json!({"": {"value": 1}}), false)]
    #[case(json!({"it's": {"value": 1}}), false)]
    #[case(json!({"a\nb": {"value": 1}}), false)]
    #[case(json!({"a".repeat(129): {"value": 1}}), false)]
    fn scores(#[case] values: Value, #[case] is_accepted: bool) {
        let accepted = update(SCORE, MetadataOp::Merge, &values).accept();
        assert_eq!(accepted.is_ok(), is_accepted, "{accepted:?}");
        assert!(
            update(SCORE, MetadataOp::Delete, &values).accept().is_ok(),
            "names only"
        );
    }

    #[test]
    fn a_score_and_an_experiment_are_acceptable() {
        let score = MetadataUpdate::score("accuracy", json!(0.5));
        assert_eq!(score.clone().accept(), Ok(score));
        let experiment = MetadataUpdate::experiment(MetadataOp::Set, "prompt", "short", Some("weighted"));
        assert_eq!(
            Value::Object(experiment.values.clone()),
            json!({"name": "prompt", "variant": "short", "selection_strategy": "weighted"})
        );
        assert!(experiment.accept().is_ok());
    }
}

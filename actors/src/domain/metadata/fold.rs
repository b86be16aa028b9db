//! What all updates of a run come to.
//!
//! Two sources are folded into one another: lines of the run's history, which steps brought, and a [`MetadataRecord`], which
//! the API writes. The record holds what everything had come to when it was written, and up to which line of the history that
//! was, so nothing counts twice or is lost, whichever came first.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::{MetadataOp, MetadataTarget, MetadataUpdate, MetadataValues, StepMetadata, size};
use crate::domain::{Json, StepId, Timestamp, limits};

/// What the updates of one kind about one thing have come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetadataEntry {
    /// What it is about.
    pub target: MetadataTarget,
    /// Of which kind.
    pub kind: String,
    /// The values.
    pub values: MetadataValues,
    /// When the last update came.
    pub updated_at: Timestamp,
}

impl MetadataEntry {
    fn bytes(&self) -> usize {
        self.kind.len() + size(&self.values)
    }
}

/// What the API has written, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MetadataRecord {
    /// Counts its changes; the next one has to name it. Stored beside the rest.
    #[serde(skip)]
    pub version: u64,
    /// The place of the last line of history that is in it.
    pub through: Option<i64>,
    /// The entries.
    pub entries: Vec<MetadataEntry>,
}

/// A line of history with metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct NotedMetadata {
    /// Its place in the run's history; later lines have larger ones.
    pub place: i64,
    /// When it was noted.
    pub at: Timestamp,
    /// With the result of this step.
    pub step: Option<StepId>,
    /// In this attempt.
    pub attempt: u32,
    /// The updates, as [`NotedMetadata::detail`] prints them.
    pub detail: Option<Json>,
}

#[derive(Serialize, Deserialize)]
struct Detail<'a> {
    updates: std::borrow::Cow<'a, [StepMetadata]>,
}

impl NotedMetadata {
    /// Updates as the detail of a line of history.
    #[must_use]
    pub fn detail(updates: &[StepMetadata]) -> Option<Json> {
        let updates = updates.into();
        Json::from_value(&Detail { updates }).ok()
    }

    fn updates(&self) -> Vec<StepMetadata> {
        let detail = self.detail.as_ref().and_then(|detail| detail.to::<Detail<'_>>().ok());
        detail.map(|detail| detail.updates.into_owned()).unwrap_or_default()
    }
}

/// All that is known of a run's metadata.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetadataLog {
    /// What the API has written, if it has.
    pub record: Option<MetadataRecord>,
    /// The lines of history that are not in the record, in their order.
    pub lines: Vec<NotedMetadata>,
}

/// What the updates of a run have come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<MetadataEntry>,
    bytes: usize,
    version: u64,
    through: Option<i64>,
}

impl Metadata {
    /// Of everything that is known. What does not fit any more is left out.
    #[must_use]
    pub fn of(log: MetadataLog) -> Self {
        let record = log.record.unwrap_or_default();
        let mut metadata = Self {
            bytes: record.entries.iter().map(MetadataEntry::bytes).sum(),
            entries: record.entries,
            version: record.version,
            through: record.through,
        };
        for line in log.lines {
            for StepMetadata { scope, update } in line.updates() {
                let none = StepId::from("");
                let target = scope.target(line.step.as_ref().unwrap_or(&none), line.attempt);
                metadata.apply(&target, update, line.at);
            }
            metadata.through = Some(line.place);
        }
        metadata
    }

    /// The entries, in the order in which they were first heard of.
    #[must_use]
    pub fn entries(&self) -> &[MetadataEntry] {
        &self.entries
    }

    /// The record that has all of this in it, one version on.
    #[must_use]
    pub fn into_record(self) -> MetadataRecord {
        MetadataRecord {
            version: self.version + 1,
            through: self.through,
            entries: self.entries,
        }
    }

    /// The version of the record that was folded in; 0 if there was none.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Applies an update. Answers whether it fits; if it does not, nothing has changed.
    pub fn apply(&mut self, target: &MetadataTarget, update: MetadataUpdate, at: Timestamp) -> bool {
        let place = self
            .entries
            .iter()
            .position(|entry| entry.kind == update.kind && entry.target == *target);
        let Some(place) = place else {
            if update.op == MetadataOp::Delete {
                return true;
            }
            return self.push(MetadataEntry {
                target: target.clone(),
                kind: update.kind,
                values: update.values,
                updated_at: at,
            });
        };
        let known = &self.entries[place];
        let mut entry = MetadataEntry {
            updated_at: known.updated_at.max(at),
            ..known.clone()
        };
        change(&mut entry.values, update.op, update.values);
        let bytes = self.bytes - known.bytes() + entry.bytes();
        if bytes > limits::METADATA_RUN_BYTES && bytes > self.bytes {
            return false;
        }
        self.bytes = bytes;
        self.entries[place] = entry;
        true
    }

    fn push(&mut self, entry: MetadataEntry) -> bool {
        let bytes = self.bytes + entry.bytes();
        if bytes > limits::METADATA_RUN_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.entries.push(entry);
        true
    }
}

fn change(values: &mut MetadataValues, op: MetadataOp, by: MetadataValues) {
    match op {
        MetadataOp::Set => *values = by,
        MetadataOp::Merge => values.extend(by),
        MetadataOp::Delete => values.retain(|name, _| !by.contains_key(name)),
        MetadataOp::Add => {
            for (name, more) in by {
                let sum = match (values.get(&name), &more) {
                    (None, _) => Some(more),
                    (Some(Value::Number(known)), Value::Number(more)) => add(known, more).map(Value::Number),
                    // What is no number can't be added to, nor added.
                    _ => None,
                };
                if let Some(sum) = sum {
                    values.insert(name, sum);
                }
            }
        }
    }
}

/// Whole numbers stay whole.
fn add(one: &Number, other: &Number) -> Option<Number> {
    let whole = one
        .as_i64()
        .zip(other.as_i64())
        .and_then(|(one, other)| one.checked_add(other));
    whole
        .map(Number::from)
        .or_else(|| Number::from_f64(one.as_f64()? + other.as_f64()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::MetadataScope;
    use super::*;

    const KIND: &str = "userland.default";

    fn update(op: MetadataOp, values: Value) -> MetadataUpdate {
        let Value::Object(values) = values else {
            panic!("an object")
        };
        MetadataUpdate {
            kind: KIND.to_owned(),
            op,
            values,
        }
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn noted(place: i64, step: &str, scope: MetadataScope, op: MetadataOp, values: Value) -> NotedMetadata {
        let update = update(op, values);
        NotedMetadata {
            place,
            at: at(place),
            step: Some(StepId::from(step)),
            attempt: 2,
            detail: NotedMetadata::detail(&[StepMetadata { scope, update }]),
        }
    }

    fn only(metadata: &Metadata) -> Value {
        assert_eq!(metadata.entries().len(), 1, "{metadata:?}");
        Value::Object(metadata.entries()[0].values.clone())
    }

    #[test]
    fn the_four_operations() {
        let mut metadata = Metadata::default();
        let run = MetadataTarget::default();
        let mut apply = |op, values| {
            assert!(metadata.apply(&run, update(op, values), at(1)));
            metadata
                .entries()
                .first()
                .map(|entry| Value::Object(entry.values.clone()))
        };
        assert_eq!(apply(MetadataOp::Delete, json!({"a": null})), None);
        let merged = apply(MetadataOp::Merge, json!({"a": 1, "b": {"deep": 1}, "t": "x"}));
        assert_eq!(merged, Some(json!({"a": 1, "b": {"deep": 1}, "t": "x"})));
        let merged = apply(MetadataOp::Merge, json!({"b": {"other": 2}}));
        assert_eq!(merged, Some(json!({"a": 1, "b": {"other": 2}, "t": "x"})), "shallow");
        let added = apply(MetadataOp::Add, json!({"a": 2, "c": 0.5, "t": 1, "b": 1}));
        assert_eq!(added, Some(json!({"a": 3, "b": {"other": 2}, "t": "x", "c": 0.5})));
        let added = apply(MetadataOp::Add, json!({"a": 0.5}));
        assert_eq!(added, Some(json!({"a": 3.5, "b": {"other": 2}, "t": "x", "c": 0.5})));
        let deleted = apply(MetadataOp::Delete, json!({"b": null, "t": null, "none": null}));
        assert_eq!(deleted, Some(json!({"a": 3.5, "c": 0.5})));
        assert_eq!(apply(MetadataOp::Set, json!({"z": true})), Some(json!({"z": true})));
    }

    #[test]
    fn there_is_one_entry_for_each_target_and_kind() {
        let log = MetadataLog {
            record: None,
            lines: vec![
                noted(1, "a", MetadataScope::Step, MetadataOp::Merge, json!({"x": 1})),
                noted(2, "a", MetadataScope::Step, MetadataOp::Merge, json!({"y": 1})),
                noted(3, "a", MetadataScope::StepAttempt, MetadataOp::Merge, json!({"y": 1})),
                noted(4, "b", MetadataScope::Step, MetadataOp::Merge, json!({"y": 1})),
                noted(5, "b", MetadataScope::Run, MetadataOp::Merge, json!({"y": 1})),
            ],
        };
        let metadata = Metadata::of(log);
        let shown = metadata.entries().iter().map(|entry| {
            let step = entry.target.step.as_ref().map(StepId::as_str);
            (entry.target.scope(), step, entry.updated_at)
        });
        let expected = [
            ("step", Some("a"), at(2)),
            ("step_attempt", Some("a"), at(3)),
            ("step", Some("b"), at(4)),
            ("run", None, at(5)),
        ];
        assert_eq!(shown.collect::<Vec<_>>(), expected);
        assert_eq!(metadata.entries()[1].target.attempt, Some(2));
    }

    #[test]
    fn a_record_and_what_came_after_it_count_once_and_in_order() {
        let line = |place, op, values| noted(place, "a", MetadataScope::Step, op, values);
        let target = MetadataTarget::step(StepId::from("a"));
        let early = vec![line(7, MetadataOp::Add, json!({"n": 1}))];
        let mut metadata = Metadata::of(MetadataLog {
            record: None,
            lines: early,
        });
        assert_eq!(metadata.version(), 0);
        assert!(metadata.apply(&target, update(MetadataOp::Add, json!({"n": 10})), at(8)));
        let record = metadata.into_record();
        assert_eq!((record.version, record.through), (1, Some(7)));
        let text = serde_json::to_string(&record).expect("JSON");
        let read: MetadataRecord = serde_json::from_str(&text).expect("JSON");
        let read = MetadataRecord { version: 1, ..read };
        assert_eq!(read, record);
        // The store leaves out the lines that are in the record.
        let late = vec![line(9, MetadataOp::Add, json!({"n": 100}))];
        let metadata = Metadata::of(MetadataLog {
            record: Some(read),
            lines: late,
        });
        assert_eq!(only(&metadata), json!({"n": 111}));
        assert_eq!(metadata.into_record().through, Some(9));
    }

    #[test]
    fn a_runs_metadata_is_bounded() {
        let mut metadata = Metadata::default();
        let large = || {
            update(
                MetadataOp::Set,
                json!({"x": "x".repeat(limits::METADATA_UPDATE_BYTES - 10)}),
            )
        };
        let step = |n: usize| MetadataTarget::step(StepId::from(n.to_string().as_str()));
        let fitting = (0..100)
            .take_while(|n| metadata.apply(&step(*n), large(), at(1)))
            .count();
        assert_eq!(fitting, limits::METADATA_RUN_BYTES / limits::METADATA_UPDATE_BYTES - 1);
        let before = metadata.clone();
        assert!(!metadata.apply(&step(200), large(), at(1)));
        assert_eq!(metadata, before);
        // What makes room, or takes none, always fits.
        assert!(metadata.apply(&step(0), update(MetadataOp::Delete, json!({"x": null})), at(1)));
        assert!(metadata.apply(&step(200), large(), at(1)));
        assert!(!metadata.apply(&step(0), large(), at(1)), "its room is taken");
    }
}

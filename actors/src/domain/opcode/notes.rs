//! What an app notes along with an opcode: metadata, and which variant of an experiment the step is part of.
//!
//! Never: a failed attempt. What makes no sense is left out, with a line in the log.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::{MetadataOp, MetadataScope, MetadataUpdate, StepMetadata, limits};

/// Of the step with this id, from the opcode's `opts` and `metadata`.
pub(super) fn read(id: &str, opts: Option<&RawValue>, metadata: Option<&RawValue>) -> Vec<StepMetadata> {
    let mut all: Vec<StepMetadata> = opts.and_then(experiment).into_iter().collect();
    if let Some(metadata) = metadata {
        all.extend(noted(id, metadata));
    }
    all
}

/// The options of a step within an experiment.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Variant {
    experiment_name: String,
    variant: String,
    selection_strategy: Option<String>,
}

fn experiment(opts: &RawValue) -> Option<StepMetadata> {
    // Of most steps that is all there is to do.
    if !opts.get().contains("\"experimentName\"") {
        return None;
    }
    let of: Variant = serde_json::from_str(opts.get()).ok()?;
    let strategy = of.selection_strategy.as_deref();
    let update = MetadataUpdate::experiment(MetadataOp::Merge, &of.experiment_name, &of.variant, strategy);
    Some(StepMetadata {
        scope: MetadataScope::Step,
        update: update.accept().ok()?,
    })
}

/// The metadata of an opcode, as far as it makes sense: none of it is worth a failed attempt.
fn noted(id: &str, raw: &RawValue) -> Vec<StepMetadata> {
    let all: Vec<&RawValue> = match serde_json::from_str::<Option<_>>(raw.get()) {
        Ok(all) => all.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(step = id, %error, "metadata is left out");
            return Vec::new();
        }
    };
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for raw in all {
        bytes += raw.get().len();
        let accepted = serde_json::from_str::<StepMetadata>(raw.get())
            .map_err(|error| error.to_string())
            .and_then(|StepMetadata { scope, update }| {
                let update = update.accept().map_err(|error| error.to_string())?;
                Ok(StepMetadata { scope, update })
            });
        match accepted {
            Ok(update) if bytes <= limits::METADATA_RUN_BYTES => kept.push(update),
            Ok(_) => tracing::warn!(step = id, "metadata is left out: it is more than a run may have"),
            Err(error) => tracing::warn!(step = id, error, "metadata is left out"),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::Opcode;

    fn of_reply(reply: &Value) -> Vec<StepMetadata> {
        let mut ops = Opcode::parse_reply(reply.to_string().as_bytes()).expect("valid opcodes");
        ops.remove(0).metadata
    }

    #[test]
    fn metadata_comes_along_as_far_as_it_makes_sense() {
        let of = |metadata: Value| of_reply(&json!([{"op": "StepRun", "id": "a", "metadata": metadata}]));
        let good = json!({"scope": "step_attempt", "kind": "userland.a", "op": "add", "values": {"n": 1}, "more": 1});
        let kept = of(json!([
            good,
            {"scope": "step", "kind": "inngest.secret", "op": "set", "values": {}},
            {"scope": "world", "kind": "userland.a", "op": "set", "values": {}},
            {"scope": "step", "kind": "userland.a", "op": "set", "values": 7},
            7,
        ]));
        assert_eq!(kept.len(), 1);
        assert_eq!(
            (kept[0].scope, kept[0].update.op),
            (MetadataScope::StepAttempt, MetadataOp::Add)
        );
        for odd in [json!(null), json!([]), json!({}), json!("x")] {
            assert_eq!(of(odd), []);
        }
        let cost = of(json!([{"scope": "step", "kind": "inngest.ai", "op": "set",
            "values": {"request_model": "gpt-4o", "input_tokens": 1000, "output_tokens": 100}}]));
        assert_eq!(cost[0].update.values["estimated_cost"], json!(0.0035));
    }

    #[test]
    fn a_step_of_an_experiment_says_so() {
        let opts = json!({"experimentStepID": "x", "experimentName": "prompt", "variant": "short", "selectionStrategy": "fixed"});
        let noted = of_reply(&json!([{"op": "StepRun", "id": "a", "opts": opts}]));
        let expected = MetadataUpdate::experiment(MetadataOp::Merge, "prompt", "short", Some("fixed"));
        assert_eq!(noted.iter().map(|noted| &noted.update).collect::<Vec<_>>(), [&expected]);
        let bare = of_reply(&json!([{"op": "StepRun", "id": "a", "opts": {"experimentName": "prompt"}}]));
        assert_eq!(bare, []);
    }
}

//! What apps note about their runs.

use serde_json::{Value, json};

use super::fixtures::*;
use crate::domain::{
    Change, HistoryEntry, HistoryKind, Metadata, MetadataOp, MetadataRecord, MetadataScope, MetadataTarget,
    MetadataUpdate, NotedMetadata, RunId, RunStatus, StepId, StepMetadata,
};

fn update(op: MetadataOp, values: &Value) -> MetadataUpdate {
    MetadataUpdate {
        kind: "userland.a\u{1a}".to_owned(),
        op,
        values: values.as_object().expect("an object").clone(),
    }
}

fn written(values: &Value, millis: i64) -> Change {
    let update = StepMetadata {
        scope: MetadataScope::Step,
        update: update(MetadataOp::Add, values),
    };
    Change::Noted(HistoryEntry {
        at: at(millis),
        kind: HistoryKind::MetadataWritten,
        step: Some(StepId::from("a")),
        attempt: 3,
        detail: NotedMetadata::detail(&[update]),
    })
}

async fn values(store: &Shared, run: RunId) -> Value {
    let log = store.metadata(run).await.expect("reads").expect("is known");
    let metadata = Metadata::of(log);
    let [entry] = metadata.entries() else {
        panic!("{metadata:?}")
    };
    assert_eq!(entry.target, MetadataTarget::step(StepId::from("a")));
    Value::Object(entry.values.clone())
}

/// What steps bring and what is written beside them come to one thing, in their order and without counting twice; also
/// when the run has ended.
pub async fn metadata_is_folded_from_both_sources(store: Shared) {
    let run = start(&store, 1).await;
    let log = store.metadata(run.id).await.expect("reads").expect("is known");
    assert_eq!((log.record.clone(), log.lines.len()), (None, 0));
    let first = [
        written(&json!({"n": 1, "\u{0}": 1}), 5),
        noted(HistoryKind::RunStarted, 6),
    ];
    commit_all(&store, &[advance(run.id, 0, first.to_vec())]).await;
    let log = store.metadata(run.id).await.expect("reads").expect("is known");
    assert_eq!((log.lines[0].at, log.lines[0].attempt), (at(5), 3));

    let mut metadata = Metadata::of(log);
    let target = MetadataTarget::step(StepId::from("a"));
    assert!(metadata.apply(&target, update(MetadataOp::Add, &json!({"n": 10})), at(7)));
    // Between reading and writing a step brings more.
    let second = vec![written(&json!({"n": 100}), 8), ended(RunStatus::Completed, 9)];
    commit_all(&store, &[advance(run.id, 1, second)]).await;
    let record = metadata.into_record();
    assert!(store.put_metadata(run.id, &record).await.expect("writes"));
    assert_eq!(values(&store, run.id).await, json!({"n": 111, "\u{0}": 1}));

    assert!(
        !store.put_metadata(run.id, &record).await.expect("writes"),
        "it is at version 1"
    );
    let log = store.metadata(run.id).await.expect("reads").expect("is known");
    assert_eq!(log.record.as_ref(), Some(&record));
    let mut metadata = Metadata::of(log);
    assert!(metadata.apply(&target, update(MetadataOp::Add, &json!({"n": 1_000})), at(10)));
    assert!(
        store
            .put_metadata(run.id, &metadata.into_record())
            .await
            .expect("writes")
    );
    assert_eq!(values(&store, run.id).await, json!({"n": 1_111, "\u{0}": 1}));
}

/// It goes with its run, and comes with none that is not there.
pub async fn metadata_goes_with_its_run(store: Shared) {
    let run = start(&store, 1).await;
    let record = MetadataRecord {
        version: 1,
        ..MetadataRecord::default()
    };
    assert!(store.put_metadata(run.id, &record).await.expect("writes"));
    let stranger = RunId::new(at(1), 99);
    assert!(!store.put_metadata(stranger, &record).await.expect("writes"));
    assert_eq!(store.metadata(stranger).await.expect("reads"), None);

    commit_all(&store, &[advance(run.id, 0, vec![ended(RunStatus::Completed, 9)])]).await;
    assert_eq!(store.purge(&expiry(at(100), at(0)), 10).await.expect("purges"), 1);
    assert_eq!(store.metadata(run.id).await.expect("reads"), None);
    let second = MetadataRecord { version: 2, ..record };
    assert!(!store.put_metadata(run.id, &second).await.expect("writes"));
}

//! Run slots are passed on, also when whoever should have done it is gone.

use std::time::Duration;

use serde_json::json;

use super::sleeping;
use crate::domain::{Advance, Change, ConcurrencyLimit, Function, Json, RunId, RunStatus, Scope, Write};
use crate::ports::Store as _;
use crate::testkit::{Rig, function, virtually};

fn limited() -> Function {
    let mut function = function("one", "order/paid");
    function.flow.run_concurrency = Some(ConcurrencyLimit {
        limit: 1,
        key: None,
        scope: Scope::Fn,
    });
    function
}

fn has_begun(rig: &Rig, run: RunId) -> bool {
    let runs = rig.store.runs();
    runs.iter().any(|of| of.id == run && of.started_at.is_some())
}

#[test]
fn a_run_begins_when_the_one_before_it_has_ended() {
    virtually(async {
        let function = limited();
        let rig = Rig::new(vec![function.clone()], sleeping("10m")).await;
        let mut runs = Vec::new();
        for _ in 0..3 {
            runs.push(rig.start(&function, "order/paid", &json!({})).await);
            rig.pass(Duration::from_secs(1)).await;
        }
        for (place, run) in runs.iter().enumerate() {
            for other in &runs[place + 1..] {
                assert!(!has_begun(&rig, *other));
            }
            assert_eq!(rig.ended(*run).await, "completed");
        }
    });
}

#[test]
fn a_slot_that_nobody_has_passed_on_is_found() {
    virtually(async {
        let function = limited();
        let rig = Rig::new(vec![function.clone()], sleeping("1h")).await;
        let first = rig.start(&function, "order/paid", &json!({})).await;
        rig.pass(Duration::from_secs(1)).await;
        let second = rig.start(&function, "order/paid", &json!({})).await;
        rig.pass(Duration::from_secs(200)).await;
        assert!(has_begun(&rig, first) && !has_begun(&rig, second));
        // Another instance ends it, and dies over that.
        let runs = rig.store.runs();
        let version = runs.iter().find(|run| run.id == first).expect("known").version;
        let end = Advance {
            run: first,
            expected: version,
            changes: vec![Change::Ended {
                status: RunStatus::Cancelled,
                output: Json::null(),
                at: rig.now(),
            }],
        };
        rig.store.commit(&[Write::Advance(end)]).await.expect("commits");
        rig.pass(Duration::from_secs(70)).await;
        assert!(has_begun(&rig, second));
    });
}

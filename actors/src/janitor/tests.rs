//! The audit finds what can't be, and mends it.

use std::time::Duration;

use serde_json::json;

use crate::testkit::{Answer, FakeApp, Rig, function, returned, steps, virtually};

#[test]
fn a_run_that_lost_its_job_is_found_and_goes_on() {
    virtually(async {
        let function = function("one", "order/paid");
        let app = FakeApp::new(|call| {
            Answer::Now(
                if call.stack.is_empty() && call.attempt == 0 && call.stack_current == 0 {
                    steps(&json!([{ "op": "Sleep", "id": "s", "name": "1h" }]))
                } else {
                    returned(&json!("awake"))
                },
            )
        });
        let rig = Rig::new(vec![function.clone()], app).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        rig.until("it sleeps", |rig| {
            rig.store.jobs().iter().any(|job| job.id.key.to_string() == "wake:s")
        })
        .await;
        rig.store.lose_jobs();
        rig.until("it is adopted", |rig| !rig.store.jobs().is_empty()).await;
        let status = rig.orchestrator.status().to_string();
        assert!(rig.store.status(run).is_some_and(|status| !status.is_final()));
        rig.until("the report says so", |rig| {
            rig.orchestrator.status().to_string().contains("\"orphans_found\":1")
        })
        .await;
        assert!(status.contains("janitor"));
    });
}

#[test]
fn an_audit_leaves_sound_runs_alone() {
    virtually(async {
        let function = function("one", "order/paid");
        let app = FakeApp::new(|_| Answer::Now(steps(&json!([{ "op": "Sleep", "id": "s", "name": "1d" }]))));
        let rig = Rig::new(vec![function.clone()], app).await;
        let run = rig.start(&function, "order/paid", &json!({})).await;
        rig.until("it sleeps", |rig| {
            rig.store.jobs().iter().any(|job| job.id.key.to_string() == "wake:s")
        })
        .await;
        let before = rig.store.run(run).expect("a run");
        rig.pass(Duration::from_secs(600)).await;
        assert_eq!(rig.store.run(run), Some(before));
        assert_eq!(rig.app.seen().len(), 1);
    });
}

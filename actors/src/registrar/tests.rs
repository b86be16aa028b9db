//! A registration that is answered is seen by every event from then on.

use serde_json::json;

use std::time::Duration;

use crate::domain::{App, ConcurrencyLimit, Function, GateKind, Limit, LimitOverride, Registration, Scope};
use crate::ports::Clock as _;
use crate::testkit::{Answer, EPOCH, FakeApp, Rig, function, returned, virtually};

fn registration(functions: Vec<Function>, checksum: &str) -> Registration {
    Registration {
        app: App {
            name: "shop".into(),
            url: "http://localhost:3000/api/inngest".to_owned(),
            sdk: "js:v4".to_owned(),
            framework: None,
            version: None,
            checksum: checksum.to_owned(),
            error: None,
            synced_at: EPOCH,
        },
        functions,
        keep_others: false,
    }
}

fn idle() -> FakeApp {
    FakeApp::new(|_| Answer::Now(returned(&json!("done"))))
}

#[test]
fn events_find_a_function_as_soon_as_its_registration_is_answered() {
    virtually(async {
        let rig = Rig::new(Vec::new(), idle()).await;
        let function = function("one", "order/paid");
        let outcome = rig
            .within(rig.orchestrator.register(registration(vec![function.clone()], "1")))
            .await;
        assert!(outcome.expect("registered").modified);
        let run = rig.start(&function, "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
    });
}

#[test]
fn the_queue_knows_the_numbers_when_a_registration_is_answered() {
    virtually(async {
        let rig = Rig::new(Vec::new(), idle()).await;
        let mut function = function("one", "order/paid");
        for (checksum, slots) in [("1", 1), ("2", 7)] {
            function.flow.concurrency = vec![ConcurrencyLimit {
                limit: slots,
                key: None,
                scope: Scope::Fn,
            }];
            let wish = registration(vec![function.clone()], checksum);
            assert!(rig.within(rig.orchestrator.register(wish)).await.is_ok());
            let table = rig.queue.limits();
            assert_eq!(table.functions, [(function.id, crate::engine::limits(&function))]);
            assert_eq!(table.revision, rig.orchestrator.catalog().revision());
        }
    });
}

/// What is registered is in the store a moment before the catalog shows it.
#[test]
fn an_event_amid_a_registration_is_not_lost() {
    virtually(async {
        let rig = Rig::new(Vec::new(), idle()).await;
        let function = function("one", "order/paid");
        rig.store.register_elsewhere(function.clone());
        let run = rig.start(&function, "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");
    });
}

#[test]
fn a_registration_whose_catalog_could_not_be_read_is_seen_after_the_next_one() {
    virtually(async {
        let rig = Rig::new(Vec::new(), idle()).await;
        let function = function("one", "order/paid");
        rig.store.fail_catalog(1);
        let wish = registration(vec![function.clone()], "1");
        assert!(rig.within(rig.orchestrator.register(wish.clone())).await.is_err());
        let again = rig.within(rig.orchestrator.register(wish)).await;
        assert!(!again.expect("registered").modified, "the store has it already");
        let run = rig.start(&function, "order/paid", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed", "P2: answered, so seen");
    });
}

#[test]
fn an_override_counts_at_once_survives_a_sync_and_ends_by_itself() {
    virtually(async {
        let rig = Rig::new(Vec::new(), idle()).await;
        let mut function = function("one", "order/paid");
        function.flow.concurrency = vec![ConcurrencyLimit {
            limit: 3,
            key: None,
            scope: Scope::Fn,
        }];
        let wish = |checksum| registration(vec![function.clone()], checksum);
        assert!(rig.within(rig.orchestrator.register(wish("1"))).await.is_ok());
        let rule = function.flow.concurrency[0].rule(GateKind::Slot);
        let numbers = |limit, seconds| LimitOverride {
            function: function.id,
            rule,
            limit,
            period: None,
            burst: None,
            until: rig.clock.now().after(Duration::from_secs(seconds)),
        };
        let counts = || {
            let table = rig.queue.limits();
            assert_eq!(table.revision, rig.orchestrator.catalog().revision());
            table.functions[0].1.of(rule)
        };
        let put = |numbers| rig.within(rig.orchestrator.override_limit(numbers));
        assert!(put(numbers(9, 100)).await.is_ok());
        assert_eq!(counts(), Some(Limit::Slots(9)));
        assert!(put(numbers(7, 100)).await.is_ok());
        assert!(rig.within(rig.orchestrator.register(wish("2"))).await.is_ok());
        assert_eq!(counts(), Some(Limit::Slots(7)));
        let catalog = rig.orchestrator.catalog();
        let registered = catalog.registered(function.id).expect("known");
        assert_eq!(registered.flow.concurrency[0].limit, 3);
        tokio::time::sleep(Duration::from_secs(98)).await;
        assert_eq!(counts(), Some(Limit::Slots(7)));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(counts(), Some(Limit::Slots(3)), "its time is over");
        assert!(put(numbers(1, 100)).await.is_ok());
        let end = || rig.within(rig.orchestrator.end_overrides(function.id, None));
        assert!(end().await.expect("ended"));
        assert_eq!(counts(), Some(Limit::Slots(3)));
        assert!(!end().await.expect("nothing to end"));
    });
}

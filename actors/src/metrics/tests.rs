//! Which numbers a function has, and what a decision adds to them.

use serde_json::json;
use tokio::sync::oneshot;

use super::*;
use crate::domain::{Failure, Function, Json, Timestamp};
use crate::ports::Store as _;
use crate::testkit::{Answer, FakeApp, FakeStore, Fault, Rig, function, ran, returned, virtually};

async fn catalog(functions: Vec<Function>) -> Catalog {
    Catalog::new(FakeStore::with(functions).catalog().await.expect("a catalog"))
}

fn slugs(metrics: &Metrics) -> Vec<String> {
    metrics.functions().iter().map(|of| of.slug.to_string()).collect()
}

#[tokio::test]
async fn a_function_keeps_its_numbers_until_it_is_archived() {
    let metrics = Metrics::default();
    let (a, b) = (function("shop-a", "e"), function("shop-b", "e"));
    metrics.function(a.id).runs_started.increment();
    metrics.follow(&catalog(vec![a.clone(), b.clone()]).await);
    metrics.function(a.id).runs_started.add(2);
    let archived = Function {
        archived: true,
        ..b.clone()
    };
    metrics.follow(&catalog(vec![a.clone(), archived]).await);
    metrics.function(b.id).runs_started.add(5);
    assert_eq!(slugs(&metrics), ["shop-a", OTHERS]);
    let started: Vec<_> = metrics.functions().iter().map(|of| of.runs_started.value()).collect();
    assert_eq!(
        started,
        [2, 6],
        "what came before, and what comes after, is among the others"
    );
}

#[tokio::test]
async fn only_so_many_functions_have_numbers_of_their_own() {
    let metrics = Metrics::default();
    let first = function("shop-zzz", "e");
    metrics.follow(&catalog(vec![first.clone()]).await);
    let many = (0..FUNCTIONS + 50).map(|n| function(&format!("shop-{n}"), "e"));
    metrics.follow(&catalog(many.chain([first.clone()]).collect()).await);
    assert_eq!(metrics.functions().len(), FUNCTIONS + 1);
    assert_eq!(*metrics.function(first.id).slug, *first.slug, "who was there stays");
}

#[test]
fn a_setback_is_over_when_it_is_taken_back() {
    let commits = CommitMetrics::default();
    commits.set_setback(None);
    assert!(commits.setback().is_none());
    commits.set_setback(Some(StoreError::Full("no room".to_owned())));
    assert_eq!(commits.setback().map(|error| error.kind()), Some("full"));
    commits.set_setback(None);
    assert!(commits.setback().is_none());
}

fn failed(status: Option<u16>) -> Reply {
    Reply::Failed {
        failure: Failure::new("Error", "no"),
        status,
        no_retry: false,
        retry_after: None,
    }
}

#[test]
fn answers_are_told_by_their_status() {
    let calls = CallMetrics::default();
    for reply in [
        Reply::Returned(Json::null()),
        failed(None),
        failed(Some(500)),
        failed(Some(500)),
        failed(Some(60_000)),
    ] {
        calls.answered(&reply);
    }
    let seen: Vec<_> = calls.statuses().collect();
    assert_eq!(seen, [(None, 2), (Some(200), 1), (Some(500), 2)]);
}

#[test]
fn a_decision_counts_by_what_it_changes() {
    let ended = Change::Ended {
        status: RunStatus::Failed,
        output: Json::null(),
        at: Timestamp::MIN,
    };
    let tally = Tally::of(&[Change::PlanOnly(true), ended]);
    let metrics = Metrics::default();
    let id = function("shop-a", "e").id;
    metrics.decided(id, tally);
    metrics.decided(id, Tally::default());
    let of = metrics.function(id);
    assert_eq!(
        (of.runs_failed.value(), of.runs_completed.value(), of.retries.value()),
        (1, 0, 0)
    );
}

#[test]
fn a_run_is_counted_once_for_all_it_did() {
    virtually(async {
        let charge = function("shop-charge", "order/paid");
        let mut calls = 0;
        let app = FakeApp::new(move |call| {
            calls += 1;
            Answer::Now(match (calls, call.stack.len()) {
                (1, _) => failed(Some(500)),
                (_, steps @ 0..2) => ran(&format!("step-{steps}")),
                _ => returned(&json!(1)),
            })
        });
        let rig = Rig::new(vec![charge.clone()], app).await;
        let run = rig.start(&charge, "order/paid", &json!({})).await;
        rig.send("nobody/listens", &json!({})).await;
        assert_eq!(rig.ended(run).await, "completed");

        let metrics = rig.orchestrator.metrics();
        let of = metrics.function(charge.id);
        assert_eq!(*of.slug, *charge.slug);
        let runs = [
            &of.runs_started,
            &of.runs_completed,
            &of.runs_failed,
            &of.runs_cancelled,
        ];
        assert_eq!(runs.map(Counter::value), [1, 1, 0, 0]);
        let steps = [&of.steps_completed, &of.steps_failed, &of.retries, &of.dead_letters];
        assert_eq!(steps.map(Counter::value), [2, 0, 1, 0]);
        assert_eq!((of.call.read().count(), of.delay.read().count()), (4, 4));
        let statuses: Vec<_> = metrics.calls.statuses().collect();
        assert_eq!(statuses, [(Some(200), 1), (Some(206), 2), (Some(500), 1)]);
        // Two of the four calls follow from a reply: not the first one, and not the one that waited for its retry.
        let hand_off = metrics.calls.hand_off.read();
        assert_eq!(hand_off.count(), 2);
        assert!(hand_off.sum < 1_000_000, "{hand_off:?}");
        assert_eq!((metrics.events.accepted.value(), metrics.events.known.value()), (2, 0));
        assert_eq!(
            metrics.commits.batch.read().count(),
            metrics.commits.took.read().count()
        );
        assert_eq!(
            (metrics.commits.waiting(), metrics.scheduler.cron_ticks.value()),
            (0, 0)
        );
        rig.until("permits are back", |rig| rig.orchestrator.permits().in_use == 0)
            .await;
    });
}

#[test]
fn an_event_sent_again_is_counted_as_known() {
    virtually(async {
        let rig = Rig::new(Vec::new(), FakeApp::new(|_| Answer::Now(returned(&json!(1))))).await;
        let again = crate::testkit::event("order/paid", &json!({}), 7, rig.now());
        for _ in 0..3 {
            let accepted = rig.within(rig.orchestrator.accept(vec![again.clone()])).await;
            accepted.expect("accepted");
        }
        let events = &rig.orchestrator.metrics().events;
        assert_eq!((events.accepted.value(), events.known.value()), (1, 2));
    });
}

#[test]
fn a_database_that_is_away_is_a_setback_until_it_is_back() {
    virtually(async {
        let charge = function("shop-charge", "order/paid");
        let (reply, held) = oneshot::channel();
        let mut held = Some(held);
        let app = FakeApp::new(move |_| Answer::Held(held.take().expect("one call")));
        let rig = Rig::new(vec![charge.clone()], app).await;
        let run = rig.start(&charge, "order/paid", &json!({})).await;
        rig.until("the app is called", |rig| rig.app.in_flight() == 1).await;
        rig.store.fail(&[Fault::Unavailable; 5]);
        reply.send(returned(&json!(1))).expect("somebody waits for it");
        rig.until("the writer is held up", |rig| {
            rig.orchestrator.metrics().commits.setback().is_some()
        })
        .await;
        assert!(rig.orchestrator.metrics().commits.waiting() > 0);
        assert_eq!(rig.ended(run).await, "completed");
        let metrics = rig.orchestrator.metrics();
        assert!(metrics.commits.setback().is_none());
        assert_eq!(metrics.commits.retries.value(), 5);
        assert_eq!(metrics.store_errors.by_kind()[0], ("unavailable", 5));
    });
}

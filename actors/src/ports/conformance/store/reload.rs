//! Reading a run back gives the state that applying its changes gives.

use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::runtime::Handle;

use super::fixtures::*;
use crate::domain::{
    CallRef, Change, Deferral, DeferralStatus, EventId, HistoryKind, JobKey, RequestId, RunState, RunStatus,
    SingletonMode, StepId, StepState, WaitKey, Write,
};

/// A change, short of what depends on the state it meets.
#[derive(Debug, Clone)]
enum Draft {
    Started(i64),
    RequestVersion(i32),
    PlanOnly(bool),
    Group(Vec<u8>),
    Planned(u8),
    Parked(u8, i64),
    Done(u8, bool),
    JobPut(u8, i64),
    JobDone(u8),
    Buried(u8),
    Unburied(u8),
    WaitPut(u8, u8),
    WaitDone(u8),
    Reporter(u8, u32),
    Deferred(u8, u8),
    Emit,
    Noted,
    Ended,
}

fn draft() -> impl Strategy<Value = Draft> {
    let step = || 0..5_u8;
    prop_oneof![
        2 => (0..100_i64).prop_map(Draft::Started),
        2 => (-1..3).prop_map(Draft::RequestVersion),
        2 => any::<bool>().prop_map(Draft::PlanOnly),
        2 => prop::collection::vec(step(), 0..4).prop_map(Draft::Group),
        4 => step().prop_map(Draft::Planned),
        4 => (step(), 0..100_i64).prop_map(|(step, until)| Draft::Parked(step, until)),
        6 => (step(), any::<bool>()).prop_map(|(step, failed)| Draft::Done(step, failed)),
        4 => (0..12_u8, 0..100_i64).prop_map(|(key, due)| Draft::JobPut(key, due)),
        4 => (0..12_u8).prop_map(Draft::JobDone),
        2 => (0..12_u8).prop_map(Draft::Buried),
        2 => (0..12_u8).prop_map(Draft::Unburied),
        2 => (step(), 0..3_u8).prop_map(|(step, name)| Draft::WaitPut(step, name)),
        2 => step().prop_map(Draft::WaitDone),
        2 => (0..12_u8, 0..3_u32).prop_map(|(key, attempt)| Draft::Reporter(key, attempt)),
        3 => (step(), 0..4_u8).prop_map(|(id, status)| Draft::Deferred(id, status)),
        1 => Just(Draft::Emit),
        1 => Just(Draft::Noted),
        1 => Just(Draft::Ended),
    ]
}

fn step_id(step: u8) -> StepId {
    StepId::from(format!("step {step}").as_str())
}

fn job_key(key: u8) -> JobKey {
    let step = step_id(key / 6);
    match key % 6 {
        0 => JobKey::Start,
        1 => JobKey::Discover(step),
        2 => JobKey::Step(step),
        3 => JobKey::Wake(step),
        4 => JobKey::Timeout(step),
        _ => JobKey::Resume(step),
    }
}

/// A deferral in one of its four states. What it is called is said once.
fn deferral(id: &StepId, status: u8, unique: i64) -> Deferral {
    let pending = Deferral {
        id: id.clone(),
        name: format!("\0 the {id}"),
        function: "shop-mail".to_owned(),
        status: DeferralStatus::Pending,
        reason: None,
        input: Some(json(&serde_json::json!({ "n": unique, "\0": "\0" }))),
        meta: (unique % 2 == 0).then(|| json(&serde_json::json!({ "sessions": { "n": "1" } }))),
        event: None,
    };
    match status {
        0 => pending,
        1 => pending.settled(DeferralStatus::Aborted, None),
        2 => pending.settled(DeferralStatus::Scheduled, Some(EventId::first_at(at(unique)))),
        _ => Deferral {
            reason: Some(format!("too large: {unique}\0")),
            ..pending.settled(DeferralStatus::Rejected, None)
        },
    }
}

/// The change itself, for a run in this state.
fn change(draft: &Draft, state: &RunState, unique: i64) -> Change {
    let put = |id: u8, state| Change::StepPut(step(step_id(id).as_str(), state));
    match draft {
        Draft::Started(millis) => Change::Started { at: at(*millis) },
        Draft::RequestVersion(version) => Change::RequestVersion(*version),
        Draft::PlanOnly(on) => Change::PlanOnly(*on),
        Draft::Group(steps) => Change::Group(steps.iter().map(|id| step_id(*id)).collect()),
        Draft::Planned(id) => put(*id, StepState::Planned),
        Draft::Parked(id, until) => put(*id, StepState::Parked { until: at(*until) }),
        Draft::Done(id, failed) => {
            let position = u32::try_from(state.stack.len()).expect("few");
            let memo = json(&serde_json::json!({ "data": unique }));
            let (failed, at) = (*failed, at(unique));
            put(
                *id,
                StepState::Done {
                    memo,
                    failed,
                    position,
                    at,
                },
            )
        }
        Draft::JobPut(key, due) => Change::JobPut(job(state.id, job_key(*key), *due)),
        Draft::JobDone(key) => Change::JobDone(job_key(*key)),
        Draft::Buried(key) => Change::Buried(letter(state.id, job_key(*key), unique)),
        Draft::Unburied(key) => Change::Unburied(job_key(*key)),
        Draft::WaitPut(id, 0) => Change::WaitPut(signal(state.id, step_id(*id).as_str(), "go")),
        Draft::WaitPut(id, name) => Change::WaitPut(wait(
            state.id,
            step_id(*id).as_str(),
            "paid",
            lookup("data.id", &name.to_string()),
        )),
        Draft::WaitDone(id) => Change::WaitDone(WaitKey::Step(step_id(*id))),
        Draft::Reporter(key, attempt) => Change::Reporter(CallRef {
            job: job_key(*key),
            attempt: *attempt,
            request: RequestId::first_at(at(unique)),
        }),
        Draft::Deferred(id, status) => Change::Deferred(deferral(&step_id(*id), *status, unique)),
        Draft::Emit => Change::Emit {
            event: event_named("emitted", unique),
            has_listeners: false,
        },
        Draft::Noted => noted(HistoryKind::AttemptFailed, 1),
        Draft::Ended => ended(RunStatus::Completed, unique),
    }
}

/// For random decisions, some of them in one batch: what is loaded equals what was applied, after every batch.
pub async fn loading_gives_what_applying_gives(store: Shared) {
    let runtime = Handle::current();
    // proptest is synchronous, so it has a thread of its own, while this one drives the store.
    let checked = tokio::task::spawn_blocking(move || {
        let decisions = prop::collection::vec(prop::collection::vec(draft(), 0..6), 0..4);
        let batches = prop::collection::vec(decisions, 1..6);
        // Each case has a run of its own.
        let case = AtomicI64::new(0);
        let config = Config {
            cases: 128,
            failure_persistence: None,
            ..Config::default()
        };
        let mut runner = TestRunner::new(config);
        runner.run(&batches, |batches| {
            runtime.block_on(check(&store, &batches, case.fetch_add(1, Ordering::Relaxed)))
        })
    });
    if let Err(error) = checked.await.expect("proptest does not panic") {
        panic!("{error}");
    }
}

async fn check(store: &Shared, batches: &[Vec<Vec<Draft>>], millis: i64) -> Result<(), TestCaseError> {
    let event = event(millis);
    let run = super::starts::locked_run(&event, &format!("lock {millis}"), SingletonMode::Skip);
    let mut state = run.state.clone();
    commit_all(store, &[accept(&event, vec![run])]).await;
    // Tells what one case writes from what others do.
    let mut unique = millis * 1_000;
    for drafts in batches {
        let mut batch: Vec<Write> = Vec::new();
        for drafts in drafts {
            let mut changes = Vec::new();
            for draft in drafts {
                if state.status.is_final() {
                    break;
                }
                unique += 1;
                let change = change(draft, &state, unique);
                state.apply(&change);
                changes.push(change);
            }
            batch.push(advance(state.id, state.version, changes));
            state.version += 1;
        }
        let written = store.commit(&batch).await;
        prop_assert!(written.is_ok(), "{:?}", written);
        let loaded = load(store, state.id).await;
        if state.status.is_final() {
            prop_assert_eq!(loaded, None);
        } else {
            prop_assert_eq!(loaded.as_ref(), Some(&state));
        }
    }
    Ok(())
}

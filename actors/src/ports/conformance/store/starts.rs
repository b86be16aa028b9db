//! What decides whether a run is created: rate limits and locks; and the deadlines it is created with.
//!
//! Random histories are compared with the engine's rules, which decide on one run at a time.

use std::collections::HashMap;

use super::audits::Dice;
use super::fixtures::*;
use crate::domain::{
    Cadence, Change, ClaimId, Deadline, EditedStep, Event, EventId, JobKey, LeftOut, Level, LockClaim, NewRun,
    RateClaim, RunId, RunState, RunStatus, SingletonMode, Skip, SkipReason, StepId, Write, Written,
};
use crate::engine::{Lock, lock, rate_limit};
use crate::ports::Except;

/// Nanoseconds of a millisecond.
const MILLI: i64 = 1_000_000;

fn rated_run(event: &Event, bucket: &str, rate: Cadence) -> NewRun {
    let key = json(&serde_json::json!(bucket));
    NewRun {
        rate: Some(RateClaim {
            bucket: ClaimId::of_rate(function("one"), Some(("event.data.id", &key))),
            rate,
            at: event.received_at,
            reason: SkipReason::RateLimited,
            rule: "not before ".to_owned(),
            refusal: None,
        }),
        ..new_run(event, "one")
    }
}

pub(super) fn lock_claim(name: &str, mode: SingletonMode, millis: i64) -> LockClaim {
    let key = json(&serde_json::json!(name));
    LockClaim {
        bucket: ClaimId::of_lock(function("one"), Some(("event.data.id", &key))),
        mode,
        at: at(millis),
        rule: "held by ".to_owned(),
        refusal: None,
    }
}

/// The run of function `one` that this event starts and that is to hold this lock.
pub(super) fn locked_run(event: &Event, name: &str, mode: SingletonMode) -> NewRun {
    let mut run = new_run(event, "one");
    let claim = lock_claim(name, mode, 0);
    run.state.lock = Some(claim.bucket);
    run.lock = Some(claim);
    run
}

/// The end of a run that gives its lock up.
fn end(run: &NewRun, expected: u64) -> Write {
    let released = run.state.lock.map(Change::Released);
    let changes = released.into_iter().chain([ended(RunStatus::Completed, 9)]);
    advance(run.state.id, expected, changes.collect())
}

/// A repetition comes back whole: what it keeps, what is edited, and of which run it is one. Its event tells of it.
pub async fn a_repetition_comes_back_whole(store: Shared) {
    let first = start(&store, 1).await;
    let wish = event_named("again", 2_000);
    let bodies = first.events.clone();
    let mut run = new_run(&wish, "one");
    let mut state = RunState::new(
        run.state.id,
        function("one"),
        first.event_name.clone(),
        first.event_ids.clone(),
        bodies,
    );
    state.jobs.insert(JobKey::Start, 0);
    state.priority = run.state.priority;
    state.original = Some(first.id);
    state.edited = Some(EditedStep {
        step: StepId::from("b\u{0}"),
        input: json(&serde_json::json!([1, "a\u{0}b", null])),
    });
    // Reported in another order than they completed.
    for (id, position) in [("y", 1), ("x", 0)] {
        state
            .steps
            .insert(StepId::from(id), step(id, done(position, r#"{"data":7}"#)));
    }
    state.stack = vec![StepId::from("x"), StepId::from("y")];
    run.state = state.clone();
    commit_all(&store, &[accept(&wish, vec![run])]).await;
    assert_eq!(load(&store, state.id).await.as_ref(), Some(&state));
    let view = store.run_view(state.id).await.expect("reads").expect("exists");
    assert_eq!(view.summary.original, Some(first.id));
    let places: Vec<_> = view.steps.iter().map(|step| step.position).collect();
    assert_eq!(places, [Some(1), Some(0)]);
    let shown = store
        .event_view(first.event_ids[0])
        .await
        .expect("reads")
        .expect("exists");
    let runs: Vec<_> = shown.runs.iter().map(|run| (run.id, run.original)).collect();
    assert_eq!(runs, [(first.id, None), (state.id, Some(first.id))]);
    // Doing it again under the same wish is known.
    let mut again = new_run(&wish, "one");
    again.state.original = Some(first.id);
    assert_eq!(commit(&store, accept(&wish, vec![again])).await, Written::Lost);
}

fn left_out(run: RunId, reason: SkipReason) -> Written {
    let Written::Done {
        missed,
        unrouted,
        evictions,
        joined,
        ..
    } = Written::done()
    else {
        unreachable!("is done")
    };
    Written::Done {
        left_out: vec![LeftOut {
            run,
            reason: Some(reason),
        }],
        missed,
        unrouted,
        evictions,
        joined,
    }
}

async fn skips(store: &Shared, event: EventId) -> Vec<Skip> {
    store.event_view(event).await.expect("reads").expect("is known").skips
}

fn rate(interval: i64, early: i64) -> Cadence {
    Cadence {
        interval: interval * MILLI,
        tolerance: interval * early * MILLI,
    }
}

/// Both jobs are there; with the deadline alone the run has nothing to go on with.
pub async fn a_deadline_comes_with_its_run_and_keeps_it_from_no_rescue(store: Shared) {
    let event = event(1);
    let mut run = new_run(&event, "one");
    let key = JobKey::Deadline(Deadline::Start);
    let deadline = job(run.state.id, key.clone(), 50);
    run.state.jobs.insert(key.clone(), 0);
    run.deadline = Some(deadline.clone());
    commit_all(&store, &[accept(&event, vec![run.clone()])]).await;
    let id = run.state.id;
    assert_eq!(load(&store, id).await, Some(run.state));
    let due = store
        .jobs_due(at(100), None, Except::default(), 10)
        .await
        .expect("reads");
    assert_eq!(due, [run.job, deadline]);
    assert_eq!(orphans(&store).await, []);
    commit_all(&store, &[advance(id, 0, vec![Change::JobDone(JobKey::Start)])]).await;
    assert_eq!(orphans(&store).await, [id]);
    let held = Change::Buried(letter(id, key, 60));
    commit_all(&store, &[advance(id, 1, vec![held])]).await;
    assert_eq!(orphans(&store).await, [id], "nor with a letter about it");
}

/// Events on a few buckets, in batches of all sizes: those pass that pass one by one, and the others are told when one
/// would.
pub async fn rate_limits_are_exact_however_writes_are_batched(store: Shared) {
    let mut dice = Dice(0x1234_5678_9ABC_DEF1);
    let mut levels: HashMap<&str, Level> = HashMap::new();
    let (mut millis, mut passed, mut refused) = (0, 0, 0);
    for _ in 0..60 {
        let (mut batch, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..=dice.roll(12) {
            millis += i64::try_from(dice.roll(40)).expect("small") + 1;
            let bucket = ["a", "b", "c"][usize::try_from(dice.roll(3)).expect("small")];
            // Now and then a function is registered with another limit.
            let rate = match dice.roll(20) {
                0 => rate(500, 0),
                1 => rate(7, 30),
                _ => rate(100, 2),
            };
            let event = event(millis);
            let run = rated_run(&event, bucket, rate);
            match rate_limit::admit(levels.get(bucket).copied(), rate, at(millis)) {
                Ok(level) => {
                    levels.insert(bucket, level);
                    expected.push((event.id, run.state.id, None));
                }
                Err(opens) => expected.push((event.id, run.state.id, Some(format!("not before {opens}")))),
            }
            batch.push(accept(&event, vec![run]));
        }
        let written = store.commit(&batch).await.expect("commits");
        for ((event, run, refusal), written) in expected.into_iter().zip(written) {
            assert_eq!(load(&store, run).await.is_some(), refusal.is_none());
            let Some(detail) = refusal else {
                passed += 1;
                assert_eq!(written, Written::done());
                continue;
            };
            refused += 1;
            assert_eq!(written, left_out(run, SkipReason::RateLimited));
            let skip = Skip {
                event,
                function: Some(function("one")),
                reason: SkipReason::RateLimited,
                detail,
            };
            assert_eq!(skips(&store, event).await, [skip]);
        }
    }
    assert!(passed > 50 && refused > 50, "{passed} passed, {refused} did not");
}

/// As many as may come at once.
pub async fn hundreds_of_claims_of_one_bucket_fit_one_batch(store: Shared) {
    let events: Vec<_> = (0..500).map(event).collect();
    let rated = events.iter().map(|event| rated_run(event, "one", rate(50, 5)));
    let batch: Vec<_> = events
        .iter()
        .zip(rated)
        .map(|(event, run)| accept(event, vec![run]))
        .collect();
    store.commit(&batch).await.expect("commits");
    // Six at once, and then one in fifty milliseconds.
    assert_eq!(store.counts().await.expect("reads").open_runs, 6 + 9);
    assert_eq!(
        store.commit(&batch).await.expect("commits"),
        vec![Written::Lost; 500],
        "as decided"
    );
    assert_eq!(store.counts().await.expect("reads").open_runs, 6 + 9);
}

/// Known events, known runs and taken keys leave a rate limit as it is, in the batch that brings them as well.
pub async fn what_is_not_new_spends_nothing(store: Shared) {
    let hourly = rate(3_600_000, 1);
    let (first, second, third) = (event(1), event(2), event(3));
    let keyed = |event: &Event| NewRun {
        idempotency: Some("k".to_owned()),
        ..rated_run(event, "b", hourly)
    };
    let run = keyed(&first);
    commit_all(&store, &[accept(&first, vec![run.clone()])]).await;
    let doubled = keyed(&second);
    let batch = [
        accept(&first, vec![rated_run(&first, "b", hourly)]),
        accept(&second, vec![doubled.clone(), run]),
        accept(&third, vec![rated_run(&third, "b", hourly)]),
    ];
    let written = store.commit(&batch).await.expect("commits");
    assert_eq!(written[0], Written::Lost);
    let Written::Done { left_out: left, .. } = &written[1] else {
        panic!("{written:?}")
    };
    assert_eq!(
        (left[0].run, left[0].reason),
        (doubled.state.id, Some(SkipReason::Duplicate))
    );
    assert_eq!(left[1].reason, None);
    assert_eq!(written[2], Written::done(), "the second of two that may come at once");
    let fourth = event(4);
    let late = rated_run(&fourth, "b", hourly);
    let id = late.state.id;
    let written = commit(&store, accept(&fourth, vec![late])).await;
    assert_eq!(written, left_out(id, SkipReason::RateLimited));
}

/// The event that tells an invoker is stored with the refusal, and waits to be routed; without a refusal it is not.
pub async fn a_refused_invoke_is_told(store: Shared) {
    let mut answers = Vec::new();
    let mut batch = Vec::new();
    for millis in [1, 2] {
        let event = event(millis);
        let answer = event_named("inngest/function.finished", 100 + millis);
        let mut run = rated_run(&event, "b", rate(1_000, 0));
        run.rate.as_mut().expect("is there").refusal = Some(Box::new(answer.clone()));
        batch.push(accept(&event, vec![run]));
        answers.push(answer);
    }
    let written = store.commit(&batch).await.expect("commits");
    assert_eq!(written[0], Written::done());
    let Written::Done { unrouted: told, .. } = &written[1] else {
        panic!("{written:?}")
    };
    assert_eq!(told, &[answers[1].id]);
    assert_eq!(unrouted(&store).await, [answers[1].id]);
    let stored = store
        .events_by_id(&[answers[0].id, answers[1].id])
        .await
        .expect("reads");
    assert_eq!(stored, [answers[1].clone()]);
}

/// The same of a lock that is held, also by a run of the same batch.
pub async fn an_invoke_that_finds_the_lock_held_is_told(store: Shared) {
    let mut answers = Vec::new();
    for batch in [1..3, 3..4] {
        let mut writes = Vec::new();
        for millis in batch {
            let event = event(millis);
            let answer = event_named("inngest/function.finished", 100 + millis);
            let mut run = locked_run(&event, "x", SingletonMode::Skip);
            run.lock.as_mut().expect("is there").refusal = Some(Box::new(answer.clone()));
            writes.push(accept(&event, vec![run]));
            answers.push(answer);
        }
        let written = store.commit(&writes).await.expect("commits");
        let Some(Written::Done { unrouted: told, .. }) = written.last() else {
            panic!("{written:?}")
        };
        assert_eq!(told, &[answers[answers.len() - 1].id]);
    }
    assert_eq!(unrouted(&store).await, [answers[1].id, answers[2].id]);
    let ids: Vec<_> = answers.iter().map(|answer| answer.id).collect();
    let stored = store.events_by_id(&ids).await.expect("reads");
    assert_eq!(stored, answers[1..]);
}

/// A bucket that says no more than none goes with what else is old; the others stay.
pub async fn rate_limits_are_forgotten(store: Shared) {
    let brief = event(1);
    let lasting = event(2);
    let batch = [
        accept(&brief, vec![rated_run(&brief, "brief", rate(1_000, 0))]),
        accept(&lasting, vec![rated_run(&lasting, "lasting", rate(9_000, 0))]),
    ];
    commit_all(&store, &batch).await;
    let scope = |rates| crate::ports::Expiry {
        rates: at(rates),
        ..expiry(at(-9), at(-9))
    };
    assert_eq!(store.purge(&scope(1_001), 10).await.expect("purges"), 0);
    assert_eq!(store.purge(&scope(5_000), 10).await.expect("purges"), 1);
    let again = event(3);
    let runs = vec![rated_run(&again, "lasting", rate(9_000, 0))];
    let id = runs[0].state.id;
    let written = commit(&store, accept(&again, runs)).await;
    assert_eq!(written, left_out(id, SkipReason::RateLimited));
}

/// Who comes second is left out and told by whom, until the first one has ended, whatever becomes of other decisions.
pub async fn a_lock_is_held_until_its_run_ends(store: Shared) {
    let (first, second, third) = (event(1), event(2), event(3));
    let holder = locked_run(&first, "l", SingletonMode::Skip);
    let other = locked_run(&first, "another", SingletonMode::Skip);
    commit_all(&store, &[accept(&first, vec![holder.clone()])]).await;
    let late = locked_run(&second, "l", SingletonMode::Skip);
    let written = commit(&store, accept(&second, vec![late.clone()])).await;
    assert_eq!(written, left_out(late.state.id, SkipReason::Singleton));
    let told = skips(&store, second.id).await;
    assert_eq!(
        (told[0].reason, &*told[0].detail),
        (SkipReason::Singleton, &*format!("held by {}", holder.state.id))
    );
    assert_eq!(load(&store, late.state.id).await, None);
    assert_eq!(
        commit(&store, end(&holder, 7)).await,
        Written::Lost,
        "an end that was none"
    );
    let batch = [accept(&third, vec![locked_run(&third, "l", SingletonMode::Skip)])];
    let written = store.commit(&batch).await.expect("commits");
    assert_eq!(
        written,
        [left_out(
            locked_run(&third, "l", SingletonMode::Skip).state.id,
            SkipReason::Singleton
        )]
    );
    commit_all(&store, &[end(&holder, 0)]).await;
    let fourth = event(4);
    let next = locked_run(&fourth, "l", SingletonMode::Skip);
    commit_all(&store, &[accept(&fourth, vec![next.clone()])]).await;
    assert_eq!(load(&store, next.state.id).await, Some(next.state));
    assert_ne!(other.state.lock, holder.state.lock);
}

/// The holder gets a job that cancels it and names the new one, which holds the lock whatever the old one does then.
pub async fn a_lock_that_is_taken_cancels_its_holder(store: Shared) {
    let (first, second, third) = (event(1), event(2), event(3));
    let old = locked_run(&first, "l", SingletonMode::Skip);
    commit_all(&store, &[accept(&first, vec![old.clone()])]).await;
    let new = locked_run(&second, "l", SingletonMode::Cancel);
    let written = commit(&store, accept(&second, vec![new.clone()])).await;
    let claim = new.lock.as_ref().expect("is there");
    let job = claim.eviction(function("one"), old.state.id, new.state.id);
    let Written::Done {
        evictions,
        left_out: left,
        ..
    } = written
    else {
        panic!("{written:?}")
    };
    assert_eq!(
        (evictions.as_slice(), left.as_slice()),
        ([job.clone()].as_slice(), [].as_slice())
    );
    let due = store
        .jobs_due(at(100), None, Except::default(), 10)
        .await
        .expect("reads");
    assert!(due.contains(&job), "{due:?}");
    assert!(
        job.payload
            .expect("a reason")
            .as_str()
            .contains(&new.state.id.to_string())
    );
    commit_all(&store, &[end(&old, 0)]).await;
    assert_eq!(job_keys(&store, old.state.id).await, Vec::<String>::new());
    let late = locked_run(&third, "l", SingletonMode::Skip);
    let written = commit(&store, accept(&third, vec![late.clone()])).await;
    assert_eq!(
        written,
        left_out(late.state.id, SkipReason::Singleton),
        "the new one holds it"
    );
}

/// Each of a batch takes the lock from the one before, or finds it held by the first.
pub async fn a_batch_takes_a_lock_from_hand_to_hand(store: Shared) {
    for (mode, from) in [(SingletonMode::Cancel, 0), (SingletonMode::Skip, 1_000)] {
        let events: Vec<_> = (from..from + 200).map(event).collect();
        let name = format!("{mode:?}");
        let runs: Vec<_> = events.iter().map(|event| locked_run(event, &name, mode)).collect();
        let batch: Vec<_> = events
            .iter()
            .zip(&runs)
            .map(|(event, run)| accept(event, vec![run.clone()]))
            .collect();
        let written = store.commit(&batch).await.expect("commits");
        assert_eq!(written[0], Written::done());
        for (place, written) in written.iter().enumerate().skip(1) {
            let Written::Done {
                evictions,
                left_out: left,
                ..
            } = written
            else {
                panic!("{written:?}")
            };
            if mode == SingletonMode::Cancel {
                assert_eq!(evictions[0].id.run, runs[place - 1].state.id);
                assert_eq!(left, &[]);
            } else {
                assert_eq!(*written, left_out(runs[place].state.id, SkipReason::Singleton));
                let told = skips(&store, events[place].id).await;
                assert_eq!(told[0].detail, format!("held by {}", runs[0].state.id));
            }
        }
    }
    assert_eq!(store.counts().await.expect("reads").open_runs, 201);
}

/// Whoever wants a lock in the batch that gives it up gets it, before or after; not so from a run that did not end.
pub async fn a_lock_given_up_in_a_batch_is_free_in_it(store: Shared) {
    for (place, mode) in [SingletonMode::Skip, SingletonMode::Cancel].into_iter().enumerate() {
        let from = i64::try_from(place).expect("small") * 100;
        let (first, second, third) = (event(from), event(from + 1), event(from + 2));
        let name = format!("{mode:?}");
        let [a, b, c] = [&first, &second, &third].map(|event| locked_run(event, &name, mode));
        commit_all(&store, &[accept(&first, vec![a.clone()])]).await;
        let batch = [end(&a, 0), accept(&second, vec![b.clone()])];
        commit_all(&store, &batch).await;
        let batch = [accept(&third, vec![c.clone()]), end(&b, 0)];
        commit_all(&store, &batch).await;
        let fourth = event(from + 3);
        let d = locked_run(&fourth, &name, SingletonMode::Skip);
        let batch = [end(&c, 5), accept(&fourth, vec![d.clone()])];
        let written = store.commit(&batch).await.expect("commits");
        assert_eq!(written, [Written::Lost, left_out(d.state.id, SkipReason::Singleton)]);
    }
}

/// Runs that start and end, in batches of all sizes: the locks are held by those who hold them one by one.
pub async fn locks_are_exact_however_writes_are_batched(store: Shared) {
    let mut dice = Dice(0x0F1E_2D3C_4B5A_6978);
    let names = ["a", "b", "c"];
    let mut holders: HashMap<&str, RunId> = HashMap::new();
    let mut open: Vec<NewRun> = Vec::new();
    let (mut millis, mut refused, mut taken) = (0, 0, 0);
    for _ in 0..80 {
        let (mut batch, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..dice.roll(3) {
            if open.is_empty() {
                break;
            }
            let count = u64::try_from(open.len()).expect("few");
            let run = open.swap_remove(usize::try_from(dice.roll(count)).expect("small"));
            holders.retain(|_, holder| *holder != run.state.id);
            batch.push(end(&run, 0));
            expected.push(Written::done());
        }
        for _ in 0..=dice.roll(6) {
            millis += 1;
            let name = names[usize::try_from(dice.roll(3)).expect("small")];
            let mode = if dice.roll(3) == 0 {
                SingletonMode::Cancel
            } else {
                SingletonMode::Skip
            };
            let event = event(millis);
            let run = locked_run(&event, name, mode);
            let id = run.state.id;
            let mut written = Written::done();
            match lock(holders.get(name).copied(), mode) {
                Lock::Refused(_) => {
                    refused += 1;
                    written = left_out(id, SkipReason::Singleton);
                }
                held => {
                    if let (Lock::Taken(old), Written::Done { evictions, .. }) = (held, &mut written) {
                        taken += 1;
                        let claim = run.lock.as_ref().expect("is there");
                        evictions.push(claim.eviction(function("one"), old, id));
                    }
                    holders.insert(name, id);
                    open.push(run.clone());
                }
            }
            batch.push(accept(&event, vec![run]));
            expected.push(written);
        }
        assert_eq!(store.commit(&batch).await.expect("commits"), expected);
    }
    assert_eq!(store.counts().await.expect("reads").open_runs, open.len() as u64);
    assert!(refused > 20 && taken > 20, "{refused} refused, {taken} taken");
    for run in &open {
        assert!(load(&store, run.state.id).await.is_some());
    }
}

//! Run slots: so many open runs, the others wait in the order of their age.

use super::fixtures::*;
use crate::domain::{
    BucketId, Change, FunctionId, Gate, GateKind, Gates, Job, JobKey, Json, RuleId, RunId, RunStatus, Scope,
};
use crate::ports::{Except, KeyFlow, PARKED, SlotClaim, SlotLimits, SlotPlace};

const KEY: Option<&str> = Some("event.data.k");

fn gate(function: FunctionId, scope: Scope, key: &str) -> Gate {
    Gate::new(GateKind::RunSlot, scope, function, KEY, key)
}

/// A run that is to hold a slot for the key before it calls; it also has a throttle to pass.
async fn begin(store: &Shared, name: &str, millis: i64, scope: Scope, key: &str) -> SlotClaim {
    let event = event_named(&format!("start/{name}"), millis);
    let mut new = new_run(&event, name);
    let gate = gate(new.state.function, scope, key);
    let throttle = Gate::new(GateKind::Throttle, Scope::Fn, new.state.function, None, "");
    new.state.gates = Gates::new(vec![throttle, gate.clone()]);
    new.job.gates = new.state.gates.of_job(&JobKey::Start, 0);
    let claim = SlotClaim {
        run: new.state.id,
        function: new.state.function,
        rule: gate.rule,
        bucket: gate.bucket,
        key: key.to_owned(),
        limit: 1,
        rank: new.state.priority.counts_from(new.state.id.at()),
    };
    commit_all(store, &[accept(&event, vec![new])]).await;
    claim
}

async fn begin_one(store: &Shared, millis: i64) -> SlotClaim {
    begin(store, "one", millis, Scope::Fn, "x").await
}

async fn take(store: &Shared, claim: &SlotClaim) -> bool {
    store.take_slots(std::slice::from_ref(claim)).await.expect("answers")[0]
}

async fn end(store: &Shared, run: RunId) {
    let ended = Change::Ended {
        status: RunStatus::Cancelled,
        output: Json::null(),
        at: at(500),
    };
    commit_all(store, &[advance(run, 0, vec![ended])]).await;
}

fn limits(of: &[(&SlotClaim, u32)]) -> SlotLimits {
    SlotLimits {
        limits: of.iter().map(|(of, limit)| (of.function, of.rule, *limit)).collect(),
    }
}

async fn admit(store: &Shared, bucket: Option<BucketId>, limits: &SlotLimits) -> Vec<Job> {
    let buckets = bucket.as_ref().map(std::slice::from_ref);
    store.admit(buckets, limits, at(900), 100).await.expect("answers")
}

fn runs(jobs: &[Job]) -> Vec<RunId> {
    jobs.iter().map(|job| job.id.run).collect()
}

async fn due(store: &Shared) -> Vec<RunId> {
    runs(
        &store
            .jobs_due(at(1_000_000), None, Except::default(), 100)
            .await
            .expect("answers"),
    )
}

/// What does not find a slot is parked until it is given one, the oldest first, and is due then.
pub async fn a_run_waits_until_another_has_ended(store: Shared) {
    let (first, third, second) = (
        begin_one(&store, 1).await,
        begin_one(&store, 3).await,
        begin_one(&store, 2).await,
    );
    let one = limits(&[(&first, 1)]);
    assert!(take(&store, &first).await);
    assert!(take(&store, &first).await, "it has one");
    for claim in [&third, &second, &third] {
        assert!(!take(&store, claim).await);
    }
    assert_eq!(due(&store).await, [first.run], "nobody looks at what waits");
    assert!(admit(&store, Some(first.bucket), &one).await.is_empty());
    end(&store, first.run).await;
    assert!(!take(&store, &third).await, "nobody overtakes the oldest");
    let jobs = admit(&store, Some(first.bucket), &one).await;
    assert_eq!(runs(&jobs), [second.run]);
    assert_eq!((&jobs[0].id.key, jobs[0].due), (&JobKey::Start, at(900)));
    assert!(
        jobs[0].gates.is_empty(),
        "it has passed its throttle, and the slot is none of the queue's"
    );
    assert!(admit(&store, Some(first.bucket), &one).await.is_empty());
    assert_eq!(due(&store).await, [second.run]);
    assert!(take(&store, &second).await);
    let view = store.run_view(third.run).await.expect("answers").expect("known");
    assert_eq!(view.jobs[0].due, PARKED);
}

/// Slots are by bucket, and a bucket may be of several functions.
pub async fn slots_are_shared_by_bucket(store: Shared) {
    let own = begin_one(&store, 1).await;
    let other = begin(&store, "two", 2, Scope::Fn, "x").await;
    let another = begin(&store, "one", 3, Scope::Fn, "y").await;
    for claim in [&own, &other, &another] {
        assert!(take(&store, claim).await);
    }
    let shared = begin(&store, "one", 4, Scope::Account, "x").await;
    let waits = begin(&store, "two", 5, Scope::Account, "x").await;
    assert_eq!(shared.bucket, waits.bucket);
    assert!(take(&store, &shared).await);
    assert!(!take(&store, &waits).await);
    let of = |name: &'static str| {
        let store = &store;
        async move {
            let mut found = store.run_slots(function(name)).await.expect("answers");
            found.sort_by_key(|(rule, flow)| (*rule, flow.key.clone()));
            found
        }
    };
    let flow = |key: &str, waiting, oldest: Option<i64>| KeyFlow {
        key: key.to_owned(),
        in_use: 1,
        waiting,
        oldest: oldest.map(at),
        next: None,
    };
    let sorted = |mut rows: Vec<(RuleId, KeyFlow)>| {
        rows.sort_by_key(|(rule, flow)| (*rule, flow.key.clone()));
        rows
    };
    assert_eq!(
        of("two").await,
        sorted(vec![
            (other.rule, flow("x", 0, None)),
            (waits.rule, flow("x", 1, Some(5)))
        ])
    );
    assert_eq!(
        of("one").await,
        sorted(vec![
            (own.rule, flow("x", 0, None)),
            (another.rule, flow("y", 0, None)),
            (shared.rule, flow("x", 0, None))
        ])
    );
    end(&store, shared.run).await;
    let numbers = limits(&[(&shared, 1), (&waits, 1)]);
    assert_eq!(runs(&admit(&store, Some(shared.bucket), &numbers).await), [waits.run]);
    assert_eq!(of("one").await.len(), 2);
}

/// Who waits for a slot stands in one line with all others who wait in its bucket, of whatever function.
pub async fn who_waits_for_a_slot_has_a_place(store: Shared) {
    let place = async |claim: &SlotClaim| store.slot_place(claim.run).await.expect("answers");
    let at_place = |ahead| {
        Some(SlotPlace {
            key: "x".to_owned(),
            ahead,
        })
    };
    let mut claims = Vec::new();
    for (name, millis) in [("one", 1), ("two", 4), ("one", 3), ("two", 2), ("one", 5)] {
        let claim = begin(&store, name, millis, Scope::Account, "x").await;
        assert_eq!(place(&claim).await, None, "it has not asked for one");
        assert_eq!(take(&store, &claim).await, claims.is_empty());
        claims.push(claim);
    }
    let another = begin(&store, "one", 6, Scope::Account, "y").await;
    assert!(take(&store, &another).await);
    let mut places = Vec::new();
    for claim in claims.iter().chain([&another]) {
        places.push(place(claim).await);
    }
    assert_eq!(places, [None, at_place(2), at_place(1), at_place(0), at_place(3), None]);
    // Who has ended stands in nobody's way, before anybody has tidied up.
    end(&store, claims[2].run).await;
    assert_eq!(place(&claims[2]).await, None);
    assert_eq!(place(&claims[1]).await, at_place(1));
    end(&store, claims[0].run).await;
    let one = limits(&[(&claims[0], 1), (&claims[1], 1)]);
    assert_eq!(runs(&admit(&store, None, &one).await), [claims[3].run]);
    assert_eq!(place(&claims[3]).await, None);
    assert_eq!(place(&claims[1]).await, at_place(0));
}

/// A higher limit lets more in, a lower one takes nothing away, and without one nothing is limited.
pub async fn numbers_of_slots_count_at_once(store: Shared) {
    let claims = [
        begin_one(&store, 1).await,
        begin_one(&store, 2).await,
        begin_one(&store, 3).await,
        begin_one(&store, 4).await,
        begin_one(&store, 5).await,
    ];
    for (place, claim) in claims.iter().enumerate() {
        assert_eq!(take(&store, claim).await, place == 0);
    }
    let number = |number| limits(&[(&claims[0], number)]);
    assert!(admit(&store, None, &number(1)).await.is_empty());
    assert_eq!(
        runs(&admit(&store, None, &number(3)).await),
        [claims[1].run, claims[2].run]
    );
    end(&store, claims[0].run).await;
    end(&store, claims[1].run).await;
    assert!(admit(&store, None, &number(1)).await.is_empty(), "one is held");
    assert_eq!(runs(&admit(&store, None, &number(2)).await), [claims[3].run]);
    assert_eq!(
        runs(&admit(&store, None, &SlotLimits::default()).await),
        [claims[4].run]
    );
}

/// Whoever ends without having had a slot leaves none, and needs none.
pub async fn a_run_that_has_ended_needs_no_slot(store: Shared) {
    let claims = [
        begin_one(&store, 1).await,
        begin_one(&store, 2).await,
        begin_one(&store, 3).await,
    ];
    assert!(take(&store, &claims[0]).await);
    assert!(!take(&store, &claims[1]).await);
    assert!(!take(&store, &claims[2]).await);
    end(&store, claims[1].run).await;
    assert!(take(&store, &claims[1]).await, "it has nothing to wait for");
    let one = limits(&[(&claims[0], 1)]);
    assert!(admit(&store, None, &one).await.is_empty());
    end(&store, claims[0].run).await;
    assert_eq!(runs(&admit(&store, None, &one).await), [claims[2].run]);
    end(&store, claims[2].run).await;
    assert!(admit(&store, None, &one).await.is_empty());
    assert_eq!(store.run_slots(claims[0].function).await.expect("answers"), []);
}

/// More than one page of them, with some that have ended among them.
pub async fn many_may_wait_for_a_slot(store: Shared) {
    let first = begin_one(&store, 1).await;
    assert!(take(&store, &first).await);
    let mut waiting = Vec::new();
    for i in 0..150 {
        let claim = begin_one(&store, 10 + i).await;
        assert!(!take(&store, &claim).await);
        if i % 3 == 0 {
            end(&store, claim.run).await;
        } else {
            waiting.push(claim.run);
        }
    }
    let most = |most, number| {
        let (store, limits) = (&store, limits(&[(&first, number)]));
        async move { runs(&store.admit(None, &limits, at(900), most).await.expect("answers")) }
    };
    let sorted = |mut runs: Vec<RunId>| {
        runs.sort_unstable();
        runs
    };
    assert_eq!(sorted(most(10, 91).await), waiting[..10]);
    assert_eq!(sorted(most(1_000, 91).await), waiting[10..90]);
    assert_eq!(sorted(most(1_000, 1_000).await), waiting[90..]);
}

/// Claims that come together are decided from old to young, each bucket for itself, and nobody's twice.
pub async fn slots_are_taken_by_many_at_once(store: Shared) {
    let x = |millis| begin(&store, "one", millis, Scope::Fn, "x");
    let y = |millis| begin(&store, "one", millis, Scope::Fn, "y");
    let (holds, ended, waits) = (x(1).await, x(2).await, x(5).await);
    let (old, young, youngest) = (x(3).await, x(6).await, x(7).await);
    let (other, last) = (y(8).await, y(9).await);
    assert!(take(&store, &holds).await);
    assert!(!take(&store, &waits).await);
    end(&store, ended.run).await;

    let of_three = |claim: &SlotClaim| SlotClaim {
        limit: 3,
        ..claim.clone()
    };
    let claims = [&youngest, &last, &holds, &young, &other, &ended, &old, &young].map(of_three);
    let taken = store.take_slots(&claims).await.expect("answers");
    // Of the three slots of x one is taken and one goes to the oldest; before the young ones somebody waits. Of y two are free.
    assert_eq!(taken, [false, true, true, false, true, true, true, false]);
    assert_eq!(store.take_slots(&claims).await.expect("answers"), taken);
    let mut parked: Vec<_> = runs(&admit(&store, None, &SlotLimits::default()).await);
    parked.sort_unstable();
    assert_eq!(parked, [waits.run, young.run, youngest.run]);

    for run in [holds.run, old.run, last.run] {
        end(&store, run).await;
    }
    let four = limits(&[(&holds, 4)]);
    let both = [holds.bucket, other.bucket];
    let admitted = store.admit(Some(&both), &four, at(900), 100).await.expect("answers");
    assert!(admitted.is_empty(), "nobody waits");
    let flows = store.run_slots(holds.function).await.expect("answers");
    let mut in_use: Vec<_> = flows.into_iter().map(|(_, flow)| (flow.key, flow.in_use)).collect();
    in_use.sort();
    assert_eq!(in_use, [("x".to_owned(), 3), ("y".to_owned(), 1)]);
}

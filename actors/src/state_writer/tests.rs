//! Group commit, its answers, and what becomes of writers whose database fails.

use actix::Addr;
use serde_json::json;

use super::*;
use crate::domain::{Advance, EventId, Function, NewRun, Timestamp};
use crate::engine;
use crate::router::accept;
use crate::testkit::{FakeQueue, FakeStore, Fault, VirtualClock, event, function, job, virtually};

/// A writer alone.
struct Desk {
    writer: Addr<StateWriter>,
    store: Arc<FakeStore>,
    queue: Arc<FakeQueue>,
    clock: Arc<VirtualClock>,
    unrouted: Arc<Notify>,
    function: Function,
}

impl Desk {
    fn new() -> Self {
        let function = function("charge", "order/paid");
        let store = Arc::new(FakeStore::with(vec![function.clone()]));
        let (queue, clock) = (Arc::new(FakeQueue::default()), Arc::new(VirtualClock::new()));
        let unrouted = Arc::new(Notify::new());
        let parts = Parts {
            store: Arc::clone(&store) as Arc<dyn Store>,
            queue: Arc::clone(&queue) as Arc<dyn Queue>,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            cache: RunCache::new(1 << 20),
            ends: crate::run_ends::RunEnds::default(),
            unrouted: Arc::clone(&unrouted),
            untaken: Untaken::default(),
            untaken_changed: Arc::default(),
            alarm: Alarm::default(),
            metrics: Metrics::default(),
            horizon: Duration::from_secs(10),
        };
        Self {
            writer: StateWriter::new(parts).start(),
            store,
            queue,
            clock,
            unrouted,
            function,
        }
    }

    fn accept(&self, name: &str, n: u128) -> Write {
        let at = self.clock.now();
        Write::Accept(crate::domain::Accept {
            event: event(name, &json!({}), n, at),
            runs: self.runs(name, n),
            joins: Vec::new(),
            skips: Vec::new(),
            catalog: None,
        })
    }

    fn runs(&self, name: &str, n: u128) -> Vec<NewRun> {
        let at = self.clock.now();
        vec![engine::start(&self.function, &event(name, &json!({}), n, at), at).expect("starts")]
    }

    fn send(&self, writes: Vec<Write>, fail_fast: bool) -> oneshot::Receiver<CommitResult> {
        let (reply, outcome) = oneshot::channel();
        self.writer.do_send(Commit {
            writes,
            fail_fast,
            reply,
        });
        outcome
    }
}

/// An answer, within a virtual quarter of an hour.
async fn answer(outcome: oneshot::Receiver<CommitResult>) -> CommitResult {
    let answer = tokio::time::timeout(Duration::from_secs(900), outcome).await;
    answer.expect("an answer in time").expect("the writer lives")
}

#[test]
fn what_arrives_during_a_commit_is_the_next_batch() {
    virtually(async {
        let desk = Desk::new();
        desk.store.fail(&[Fault::Hang]);
        let first = desk.send(vec![desk.accept("order/paid", 1)], true);
        while desk.store.batches().is_empty() {
            tokio::task::yield_now().await;
        }
        let rest: Vec<_> = (2..10)
            .map(|n| desk.send(vec![desk.accept("order/paid", n)], true))
            .collect();
        desk.store.thaw();
        assert!(answer(first).await.is_ok());
        for outcome in rest {
            assert!(answer(outcome).await.is_ok());
        }
        assert_eq!(
            desk.store.batches(),
            [1, 8],
            "one at once, then all the others together"
        );
    });
}

#[test]
fn a_batch_has_its_limit_and_a_sender_is_never_split() {
    virtually(async {
        let desk = Desk::new();
        desk.store.fail(&[Fault::Hang]);
        let first = desk.send(vec![desk.accept("order/paid", 1)], true);
        while desk.store.batches().is_empty() {
            tokio::task::yield_now().await;
        }
        let large: Vec<_> = (0..3_u128)
            .map(|k| {
                let writes = (0..300)
                    .map(|n| desk.accept("order/paid", 10 + k * 1_000 + n))
                    .collect();
                desk.send(writes, true)
            })
            .collect();
        desk.store.thaw();
        assert!(answer(first).await.is_ok());
        for outcome in large {
            assert_eq!(answer(outcome).await.expect("written").len(), 300);
        }
        assert_eq!(desk.store.batches(), [1, 300, 300, 300]);
    });
}

#[test]
fn the_answer_comes_after_the_commit() {
    virtually(async {
        let desk = Desk::new();
        desk.store.fail(&[Fault::Hang]);
        let mut outcome = desk.send(vec![desk.accept("order/paid", 1)], true);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(
            outcome.try_recv().is_err(),
            "P1: nothing is acknowledged before it is durable"
        );
        assert!(desk.store.events().is_empty() && desk.queue.jobs().is_empty());
        desk.store.thaw();
        assert!(answer(outcome).await.is_ok());
        assert_eq!(desk.store.events().len(), 1);
        assert_eq!(desk.queue.jobs().len(), 1, "the job is ready when the answer comes");
    });
}

#[test]
fn a_passing_failure_is_tried_again_and_those_in_a_hurry_are_told() {
    virtually(async {
        let desk = Desk::new();
        desk.store.fail(&[Fault::Hang]);
        let first = desk.send(vec![desk.accept("order/paid", 1)], true);
        while desk.store.batches().is_empty() {
            tokio::task::yield_now().await;
        }
        desk.store.fail(&[Fault::Unavailable, Fault::Full, Fault::Unavailable]);
        let patient = desk.send(vec![desk.accept("order/paid", 2)], false);
        let hurried = desk.send(vec![desk.accept("order/paid", 3)], true);
        desk.store.thaw();
        assert!(answer(first).await.is_ok());
        let began = tokio::time::Instant::now();
        assert!(matches!(answer(hurried).await, Err(StoreError::Unavailable(_))));
        assert_eq!(began.elapsed(), Duration::ZERO, "told at once");
        assert_eq!(answer(patient).await.expect("written in the end").len(), 1);
        let names: Vec<_> = desk.store.events().iter().map(|event| event.id).collect();
        assert_eq!(
            names,
            [1, 2].map(|n| EventId::new(desk_epoch(), n)),
            "the third was refused"
        );
    });
}

fn desk_epoch() -> Timestamp {
    crate::testkit::EPOCH
}

#[test]
fn those_in_a_hurry_are_told_at_once_also_while_the_database_stays_away() {
    virtually(async {
        let desk = Desk::new();
        desk.store.fail(&[Fault::Full; 10]);
        let patient = desk.send(vec![desk.accept("order/paid", 1)], false);
        tokio::time::sleep(Duration::from_secs(1)).await;
        for n in 2..6 {
            let hurried = desk.send(vec![desk.accept("order/paid", n)], true);
            let told = tokio::time::timeout(Duration::from_millis(10), hurried).await;
            let told = told.expect("told at once, not when the database is back");
            assert!(matches!(told.expect("an answer"), Err(StoreError::Full(_))));
        }
        assert!(answer(patient).await.is_ok());
        let late = desk.send(vec![desk.accept("order/paid", 6)], true);
        assert!(answer(late).await.is_ok(), "and are served again once it is back");
    });
}

#[test]
fn a_refused_write_does_not_take_its_neighbours_along() {
    virtually(async {
        let desk = Desk::new();
        desk.store.refuse("order/odd");
        desk.store.fail(&[Fault::Hang]);
        let first = desk.send(vec![desk.accept("order/paid", 1)], true);
        while desk.store.batches().is_empty() {
            tokio::task::yield_now().await;
        }
        let before = desk.send(vec![desk.accept("order/paid", 2)], false);
        let odd = desk.send(vec![desk.accept("order/odd", 3)], false);
        let after = desk.send(vec![desk.accept("order/paid", 4)], true);
        desk.store.thaw();
        assert!(answer(first).await.is_ok() && answer(before).await.is_ok());
        assert!(matches!(answer(odd).await, Err(StoreError::Refused(_))));
        assert!(answer(after).await.is_ok());
        assert_eq!(desk.store.events().len(), 3);
    });
}

#[test]
fn a_passing_failure_on_the_way_to_the_culprit_costs_nobody_patient_a_write() {
    virtually(async {
        let desk = Desk::new();
        desk.store.refuse("order/odd");
        desk.store.fail(&[Fault::Hang]);
        let first = desk.send(vec![desk.accept("order/paid", 1)], true);
        while desk.store.batches().is_empty() {
            tokio::task::yield_now().await;
        }
        let odd = desk.send(vec![desk.accept("order/odd", 2)], false);
        let patient = desk.send(vec![desk.accept("order/paid", 3)], false);
        desk.store.thaw();
        assert!(answer(first).await.is_ok());
        // Of the two commits that follow the refusal, one for each sender, the second finds the database busy.
        while desk.store.batches().len() < 2 {
            tokio::task::yield_now().await;
        }
        desk.store.fail(&[Fault::Full, Fault::Unavailable]);
        let _ = answer(odd).await;
        assert!(answer(patient).await.is_ok(), "a patient sender waits for the database");
        assert!(
            desk.store
                .events()
                .iter()
                .any(|event| event.id == EventId::new(desk_epoch(), 3))
        );
    });
}

#[test]
fn a_lost_claim_is_answered_and_pushes_nothing() {
    virtually(async {
        let desk = Desk::new();
        assert!(
            answer(desk.send(vec![desk.accept("order/paid", 1)], true))
                .await
                .is_ok()
        );
        desk.queue.flush();
        let again = answer(desk.send(vec![desk.accept("order/paid", 1)], true)).await;
        assert_eq!(again.expect("an answer"), [Written::Lost]);
        assert!(desk.queue.jobs().is_empty());
    });
}

#[test]
fn jobs_due_soon_are_pushed_and_later_ones_are_not() {
    virtually(async {
        let desk = Desk::new();
        let runs = desk.runs("order/paid", 1);
        let run = runs[0].state.id;
        assert!(
            answer(desk.send(vec![desk.accept("order/paid", 1)], true))
                .await
                .is_ok()
        );
        desk.queue.flush();
        let now = desk.clock.now();
        let put = |key: &str, after: u64| {
            let due = now.after(Duration::from_secs(after));
            Change::JobPut(job(run, key, desk.function.id, due))
        };
        let changes = vec![put("wake:soon", 9), put("wake:edge", 10), put("wake:late", 11)];
        let advance = Write::Advance(Advance {
            run,
            expected: 0,
            changes,
        });
        assert!(answer(desk.send(vec![advance], false)).await.is_ok());
        let keys: Vec<_> = desk.queue.jobs().iter().map(|job| job.id.key.to_string()).collect();
        assert_eq!(keys, ["wake:edge", "wake:soon"]);
        assert_eq!(desk.store.jobs().len(), 4, "all are in the store");
    });
}

#[test]
fn events_that_somebody_waits_for_wake_the_router() {
    virtually(async {
        let desk = Desk::new();
        let run = desk.runs("order/paid", 1)[0].state.id;
        assert!(
            answer(desk.send(vec![desk.accept("order/paid", 1)], true))
                .await
                .is_ok()
        );
        let silence = tokio::time::timeout(Duration::from_secs(5), desk.unrouted.notified()).await;
        assert!(silence.is_err(), "nobody waits for it");
        let emitted = event("order/shipped", &json!({}), 2, desk.clock.now());
        let advance = Write::Advance(Advance {
            run,
            expected: 0,
            changes: vec![Change::Emit {
                event: emitted,
                has_listeners: true,
            }],
        });
        assert!(answer(desk.send(vec![advance], false)).await.is_ok());
        let woken = tokio::time::timeout(Duration::from_millis(1), desk.unrouted.notified()).await;
        assert!(woken.is_ok());
    });
}

#[test]
fn an_accepted_event_brings_its_runs_state_to_the_cache() {
    virtually(async {
        let desk = Desk::new();
        let function = desk.function.clone();
        let apps = desk.store.catalog().await.expect("a catalog");
        let catalog = crate::catalog::Catalog::new(apps);
        let write = accept(
            &catalog,
            event("order/paid", &json!({}), 1, desk.clock.now()),
            desk.clock.now(),
        );
        assert_eq!(write.runs.len(), 1);
        assert_eq!(write.runs[0].state.function, function.id);
        let run = write.runs[0].state.id;
        assert!(answer(desk.send(vec![Write::Accept(write)], true)).await.is_ok());
        assert!(desk.store.run(run).is_some());
    });
}

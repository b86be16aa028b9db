//! Workers that come and go, as calls and runs see them. All on the virtual clock.

use std::collections::HashSet as Set;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::domain::{Function, RunId, RunStatus};
use crate::testkit::{
    Answer as Scripted, EPOCH, FakeApp, FakeRandom, Rig, VirtualClock, function, returned, virtually,
};

fn settings() -> Settings {
    Settings {
        heartbeat: Duration::from_secs(10),
        lease: Duration::from_secs(60),
        has_others: false,
    }
}

fn workers() -> Workers {
    Workers::new(
        settings(),
        Arc::new(VirtualClock::new()),
        Arc::new(FakeRandom::default()),
    )
}

fn worker(instance: &str, room: Option<usize>, functions: &[&str]) -> Worker {
    Worker {
        connection: String::new(),
        instance: instance.into(),
        room,
        groups: vec![Group {
            app: "shop".into(),
            version: None,
            hash: functions.join(" "),
            functions: functions.iter().map(|slug| Arc::from(*slug)).collect(),
        }],
        sdk_language: String::new(),
        sdk_version: String::new(),
        platform: None,
        machine: Machine::default(),
        address: String::new(),
        connected_at: EPOCH,
    }
}

fn joined(workers: &Workers, instance: &str, room: Option<usize>) -> (SocketId, UnboundedReceiver<Order>) {
    let joined = workers.join(worker(instance, room, &["shop-charge"])).expect("open");
    workers.ready(joined.0);
    joined
}

fn wanted(n: u8) -> Arc<Wanted> {
    let function = charge();
    Arc::new(Wanted {
        key: CallKey::derive(&[&[n]]),
        function: function.id,
        slug: function.slug,
        run: RunId::new(EPOCH, 1),
        step: "step".to_owned(),
        payload: "{}".to_owned(),
        trace: "{}".to_owned(),
        timeout: Duration::from_secs(3_600),
    })
}

fn charge() -> Function {
    let mut charge = function("shop-charge", "order/paid");
    charge.url = "wss://connect/?fnId=shop-charge&stepId=step".to_owned();
    charge
}

async fn request(orders: &mut UnboundedReceiver<Order>) -> Request {
    match orders.recv().await {
        Some(Order::Request(request)) => *request,
        other => panic!("not a request: {other:?}"),
    }
}

fn call(workers: &Workers, n: u8) -> tokio::task::JoinHandle<Called> {
    let workers = workers.clone();
    actix::spawn(async move { workers.call(wanted(n)).await })
}

#[test]
fn a_call_goes_to_a_ready_worker_and_its_answer_comes_back() {
    virtually(async {
        let workers = workers();
        let (socket, mut orders) = workers.join(worker("a", None, &["shop-charge"])).expect("open");
        assert!(
            matches!(workers.call(wanted(0)).await, Called::NotMade(_)),
            "it is not ready"
        );
        workers.ready(socket);
        let outcome = call(&workers, 0);
        let request = request(&mut orders).await;
        workers.acknowledge(request.id);
        workers.answer(request.id, b"done".to_vec());
        assert_eq!(outcome.await.expect("no panic"), Called::Answered(b"done".to_vec()));
        assert_eq!(workers.open_requests(), 0);
        // Its answer again is nobody's.
        workers.answer(request.id, b"again".to_vec());
    });
}

#[test]
fn a_worker_that_dies_over_a_call_costs_it_when_its_lease_is_over() {
    virtually(async {
        let workers = workers();
        let (socket, mut orders) = joined(&workers, "a", None);
        let outcome = call(&workers, 0);
        let request = request(&mut orders).await;
        workers.acknowledge(request.id);
        let lease = workers.extend(request.id, request.lease, "a").expect("extended");
        assert_ne!(lease, request.lease);
        let began = Instant::now();
        workers.leave(socket);
        assert_eq!(outcome.await.expect("no panic"), Called::Lost);
        let waited = began.elapsed();
        assert!(
            waited >= settings().lease && waited < settings().lease * 2,
            "{waited:?}"
        );
        assert_eq!(workers.extend(request.id, lease, "a"), None);
    });
}

#[test]
fn what_a_worker_has_not_begun_goes_to_another_when_it_pauses() {
    virtually(async {
        let workers = workers();
        let (one, mut first) = joined(&workers, "a", None);
        let outcome = call(&workers, 0);
        let lost = request(&mut first).await;
        let (_, mut second) = joined(&workers, "b", None);
        workers.pause(one);
        let taken = request(&mut second).await;
        assert_eq!(lost.id.key, taken.id.key);
        assert_ne!(lost.id.sending, taken.id.sending);
        workers.answer(taken.id, b"b".to_vec());
        assert_eq!(outcome.await.expect("no panic"), Called::Answered(b"b".to_vec()));
    });
}

#[test]
fn connections_of_one_instance_share_its_room() {
    virtually(async {
        let workers = workers();
        let (first, mut orders) = joined(&workers, "a", Some(1));
        let outcome = call(&workers, 0);
        let begun = request(&mut orders).await;
        workers.acknowledge(begun.id);
        // It connects anew while it is at work.
        workers.leave(first);
        let (_, mut orders) = joined(&workers, "a", Some(1));
        assert!(workers.admit(&Arc::from("shop-charge")).is_some());
        assert!(matches!(workers.call(wanted(1)).await, Called::NotMade(_)));
        workers.answer(begun.id, b"done".to_vec());
        assert_eq!(outcome.await.expect("no panic"), Called::Answered(b"done".to_vec()));
        let outcome = call(&workers, 1);
        let next = request(&mut orders).await;
        workers.answer(next.id, b"next".to_vec());
        assert_eq!(outcome.await.expect("no panic"), Called::Answered(b"next".to_vec()));
    });
}

#[test]
fn no_more_are_let_through_than_there_is_room_for() {
    virtually(async {
        let workers = workers();
        let slug: Arc<str> = Arc::from("shop-charge");
        let (_, _orders) = joined(&workers, "a", Some(2));
        assert_eq!((workers.admit(&slug), workers.admit(&slug)), (None, None));
        let waits: Vec<Duration> = (0..1_000).filter_map(|_| workers.admit(&slug)).collect();
        assert_eq!(waits.len(), 1_000);
        // They come back one after another.
        assert!(
            waits
                .windows(2)
                .all(|pair| pair[1] >= pair[0] + Duration::from_millis(2))
        );
    });
}

#[test]
fn a_silent_worker_gets_no_calls() {
    virtually(async {
        let workers = workers();
        let (socket, _orders) = joined(&workers, "a", None);
        tokio::time::sleep(settings().heartbeat * 2).await;
        assert!(matches!(workers.call(wanted(0)).await, Called::NotMade(_)));
        workers.heard(socket);
        assert_eq!(workers.admit(&Arc::from("shop-charge")), None);
    });
}

#[test]
fn a_call_that_is_dropped_and_made_again_has_the_answer_of_the_first() {
    virtually(async {
        let workers = workers();
        let (_, mut orders) = joined(&workers, "a", None);
        let dropped = call(&workers, 0);
        let request = request(&mut orders).await;
        workers.acknowledge(request.id);
        dropped.abort();
        let _ = dropped.await;
        let again = call(&workers, 0);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(orders.try_recv().is_err(), "it was sent twice");
        workers.answer(request.id, b"done".to_vec());
        assert_eq!(again.await.expect("no panic"), Called::Answered(b"done".to_vec()));
    });
}

#[test]
fn runs_wait_for_a_worker_without_costing_attempts_or_looks() {
    virtually(async {
        let attempts = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&attempts);
        let app = FakeApp::new(move |call| {
            seen.fetch_max(call.attempt, Ordering::SeqCst);
            Scripted::Now(returned(&json!("done")))
        });
        let rig = Rig::new(vec![charge()], app).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        rig.pass(Duration::from_secs(600)).await;
        assert_eq!(
            (rig.app.seen().len(), rig.store.status(run)),
            (0, Some(RunStatus::Queued))
        );
        assert_eq!(rig.queue.taken_back(), 1, "it was handed out in vain, once");
        let queries = rig.store.due_queries();
        rig.pass(Duration::from_secs(60)).await;
        assert!(rig.store.due_queries() - queries < 20, "nobody spins");
        let workers = rig.orchestrator.workers().clone();
        let (socket, _orders) = joined(&workers, "a", None);
        assert_eq!(rig.ended(run).await, "completed");
        // It leaves, and the next run waits again.
        workers.leave(socket);
        let next = rig.start(&charge(), "order/paid", &json!({})).await;
        rig.pass(Duration::from_secs(100)).await;
        assert_eq!(rig.app.seen().len(), 1);
        let (_, _orders) = joined(&workers, "b", None);
        assert_eq!(rig.ended(next).await, "completed");
        assert_eq!(attempts.load(Ordering::SeqCst), 0);
    });
}

/// One of several instances.
fn shared() -> Workers {
    Workers::new(
        Settings {
            has_others: true,
            ..settings()
        },
        Arc::new(VirtualClock::new()),
        Arc::new(FakeRandom::default()),
    )
}

#[test]
fn a_worker_that_moves_to_another_instance_keeps_its_lease_and_delivers() {
    virtually(async {
        let (here, there) = (shared(), shared());
        let mut news = there.news();
        let (socket, mut orders) = joined(&here, "a", None);
        let outcome = call(&here, 0);
        let request = request(&mut orders).await;
        here.acknowledge(request.id);
        here.leave(socket);
        let mut lease = request.lease;
        // For longer than a lease lasts, so that without news it would be lost.
        for _ in 0..4 {
            tokio::time::sleep(settings().lease / 3).await;
            let held = there.extend(request.id, lease, "a").expect("it lasts still");
            let told = news.recv().await.expect("others are told");
            assert!(matches!(&told, News::Extended { before, held: new, .. } if (*before, *new) == (lease, held)));
            here.learn(told);
            lease = held;
        }
        assert!(!outcome.is_finished());
        there.answer(request.id, b"done".to_vec());
        here.learn(news.recv().await.expect("others are told"));
        assert_eq!(outcome.await.expect("no panic"), Called::Answered(b"done".to_vec()));
        // The instance to which it moved has the answer too, should the call be made there.
        assert_eq!(there.call(wanted(0)).await, Called::Answered(b"done".to_vec()));
    });
}

#[test]
fn a_lease_whose_time_is_over_is_not_extended_by_who_does_not_know_it() {
    virtually(async {
        let (here, there) = (shared(), shared());
        let (_, mut orders) = joined(&here, "a", None);
        let _outcome = call(&here, 0);
        let request = request(&mut orders).await;
        tokio::time::sleep(settings().lease).await;
        assert_eq!(there.extend(request.id, request.lease, "a"), None);
    });
}

#[test]
fn what_is_served_elsewhere_is_not_held_here() {
    virtually(async {
        let (here, there) = (shared(), shared());
        here.set_relay(true);
        assert!(here.may_be_served("shop-charge"), "others have not spoken yet");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(!here.may_be_served("shop-charge"));
        let (socket, _orders) = joined(&there, "a", None);
        here.learn(there.serving("there"));
        assert!(here.may_be_served("shop-charge") && !here.serves("shop-charge"));
        there.leave(socket);
        here.learn(there.serving("there"));
        assert!(!here.may_be_served("shop-charge"));
        here.set_relay(false);
        assert!(here.may_be_served("shop-charge"), "nobody is heard");
    });
}

#[test]
fn a_drain_sends_the_workers_elsewhere_first() {
    virtually(async {
        let app = FakeApp::new(|_| Scripted::Now(returned(&json!("done"))));
        let rig = Rig::shared(vec![charge()], app).await;
        let workers = rig.orchestrator.workers().clone();
        let (_, mut orders) = joined(&workers, "a", None);
        rig.within(rig.orchestrator.drain(Duration::from_secs(1))).await;
        assert!(matches!(orders.recv().await, Some(Order::Closing)));
        assert!(workers.join(worker("b", None, &[])).is_err());
        workers.close();
        assert!(matches!(orders.recv().await, Some(Order::Close)));
    });
}

/// Counts places as a server that all instances share would.
fn count_places(instances: &[&Workers]) {
    let held: Arc<std::sync::Mutex<Set<Place>>> = Arc::default();
    for workers in instances {
        let (mut orders, held) = (workers.places(), Arc::clone(&held));
        actix::spawn(async move {
            while let Some(order) = orders.recv().await {
                let mut held = held.lock().expect("no panic under the lock");
                match order {
                    PlaceOrder::Take { place, room, reply, .. } => {
                        let taken = held.iter().filter(|one| one.instance == place.instance).count();
                        let has_room = taken < room;
                        if has_room {
                            held.insert(place);
                        }
                        let _ = reply.send(has_room);
                    }
                    PlaceOrder::Keep { place, .. } => drop(held.insert(place)),
                    PlaceOrder::Leave(place) => drop(held.remove(&place)),
                }
            }
        });
    }
}

#[test]
fn a_worker_of_two_instances_gets_no_more_than_it_can_take() {
    virtually(async {
        let (here, there) = (shared(), shared());
        count_places(&[&here, &there]);
        let (_, mut first) = joined(&here, "a", Some(1));
        let (socket, mut second) = joined(&there, "a", Some(1));
        let one = call(&here, 0);
        let request_of_one = request(&mut first).await;
        here.acknowledge(request_of_one.id);
        assert!(matches!(there.call(wanted(1)).await, Called::NotMade(_)), "it is full");
        assert!(there.admit(&charge().slug).is_some(), "and that is known for a moment");
        here.answer(request_of_one.id, b"one".to_vec());
        assert_eq!(one.await.expect("no panic"), Called::Answered(b"one".to_vec()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(there.admit(&charge().slug), None);
        let two = call(&there, 1);
        let request_of_two = request(&mut second).await;
        assert!(matches!(here.call(wanted(2)).await, Called::NotMade(_)));
        // What it has not begun when it goes away it does not do, and the place is free.
        there.leave(socket);
        assert!(matches!(two.await.expect("no panic"), Called::NotMade(_)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let three = call(&here, 2);
        let request_of_three = request(&mut first).await;
        assert_ne!(request_of_two.id, request_of_three.id);
        // Whoever made the call gives it up: the worker is at work all the same.
        here.acknowledge(request_of_three.id);
        three.abort();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(matches!(here.call(wanted(3)).await, Called::NotMade(_)));
    });
}

//! An app that dies and comes back, as its runs see it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::domain::{CancelRule, Failure, Function, Reply, RunId, Timeouts};
use crate::engine::RetryPolicy;
use crate::orchestrator::Settings as TreeSettings;
use crate::testkit::{Answer, FakeApp, Rig, function, ran, returned, virtually};

fn unreachable() -> Reply {
    Reply::Unanswered(Failure::new("Error", "the connection was refused"))
}

/// An app that is there or not, of two functions at different places.
fn app(is_there: &Arc<AtomicBool>) -> FakeApp {
    let is_there = Arc::clone(is_there);
    let ship = ship().id;
    FakeApp::new(move |call| {
        Answer::Now(if call.function == ship || is_there.load(Ordering::SeqCst) {
            returned(&json!("done"))
        } else {
            unreachable()
        })
    })
}

fn charge() -> Function {
    let mut charge = function("charge", "order/paid");
    charge.url = "http://one/api?fnId=charge".to_owned();
    charge
}

fn ship() -> Function {
    let mut ship = function("ship", "order/sent");
    ship.url = "http://two/api?fnId=ship".to_owned();
    ship
}

fn settings() -> TreeSettings {
    TreeSettings {
        retry: RetryPolicy::Fixed(Duration::from_secs(1)),
        ..TreeSettings::default()
    }
}

fn position(rig: &Rig, endpoint: &str) -> Position {
    let readings = rig.orchestrator.breakers().readings();
    let found = readings.iter().find(|reading| &*reading.endpoint == endpoint);
    found.map_or(Position::Closed, |reading| reading.position)
}

async fn burst(rig: &Rig, count: usize) -> Vec<RunId> {
    let mut runs = Vec::new();
    for n in 0..count {
        runs.push(rig.start(&charge(), "order/paid", &json!({ "n": n })).await);
    }
    runs
}

#[test]
fn an_app_that_is_away_costs_few_attempts_and_all_runs_complete() {
    virtually(async {
        let is_there = Arc::new(AtomicBool::new(false));
        let rig = Rig::with(vec![charge(), ship()], app(&is_there), settings()).await;
        let runs = burst(&rig, 200).await;
        rig.until("it opens", |rig| position(rig, "http://one/api") == Position::Open)
            .await;
        let before = rig.app.seen().len();
        // Ten minutes at the most probes a minute, and another app that is as fast as ever.
        for _ in 0..60 {
            rig.pass(Duration::from_secs(10)).await;
            let began = tokio::time::Instant::now();
            let other = rig.start(&ship(), "order/sent", &json!({})).await;
            assert_eq!(rig.ended(other).await, "completed");
            assert!(began.elapsed() < Duration::from_secs(1), "after {:?}", began.elapsed());
        }
        let probes = rig.app.seen().len() - before - 60;
        assert!((5..=60).contains(&probes), "{probes} probes in ten minutes");
        is_there.store(true, Ordering::SeqCst);
        for run in &runs {
            assert_eq!(rig.ended(*run).await, "completed");
        }
        assert_eq!(position(&rig, "http://one/api"), Position::Closed);
        let mut attempts: HashMap<RunId, u32> = HashMap::new();
        for seen in rig.app.seen() {
            let most = attempts.entry(seen.run).or_default();
            *most = seen.attempt.max(*most);
        }
        let burnt: u32 = attempts.values().sum();
        assert!(burnt as usize <= before + probes, "{burnt} attempts");
        assert!(rig.store.jobs().is_empty(), "P4");
    });
}

#[test]
fn nobody_is_kept_busy_by_what_waits() {
    virtually(async {
        let is_there = Arc::new(AtomicBool::new(false));
        let rig = Rig::with(vec![charge()], app(&is_there), settings()).await;
        burst(&rig, 50).await;
        rig.until("it opens", |rig| position(rig, "http://one/api") == Position::Open)
            .await;
        // Until it opens for the longest time.
        rig.pass(Duration::from_secs(200)).await;
        let parked = |rig: &Rig| rig.orchestrator.breakers().readings()[0].parked;
        let before = parked(&rig);
        rig.pass(Duration::from_secs(600)).await;
        let asked = parked(&rig) - before;
        // Each of them once for each time that it opens, which is for 30 to 60 s.
        assert!(asked <= 50 * 20, "{asked}");
        assert_eq!(rig.orchestrator.permits().in_use, 0, "what waits holds no permit");
        assert_eq!(rig.queue.leased(), 0);
    });
}

#[test]
fn waiting_runs_are_cancelled_and_time_out_as_ever() {
    virtually(async {
        let is_there = Arc::new(AtomicBool::new(false));
        let mut charge = charge();
        charge.flow.cancel.push(CancelRule {
            event: "order/withdrawn".to_owned(),
            condition: Some("event.data.n == async.data.n".to_owned()),
            timeout: None,
        });
        charge.flow.timeouts = Timeouts {
            start: Some(Duration::from_secs(120)),
            finish: None,
        };
        let rig = Rig::with(vec![charge], app(&is_there), settings()).await;
        burst(&rig, 30).await;
        rig.until("it opens", |rig| position(rig, "http://one/api") == Position::Open)
            .await;
        let late = burst(&rig, 3).await;
        let began = tokio::time::Instant::now();
        // What cancels a run has come after it.
        rig.pass(Duration::from_millis(5)).await;
        rig.send("order/withdrawn", &json!({ "n": 0 })).await;
        assert_eq!(rig.ended(late[0]).await, "cancelled");
        rig.within(rig.orchestrator.cancel(late[1])).await.expect("cancels");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(rig.ended(late[2]).await, "cancelled");
        let after = began.elapsed();
        assert!(
            after >= Duration::from_secs(119) && after < Duration::from_secs(125),
            "{after:?}"
        );
    });
}

#[test]
fn what_comes_back_comes_in_waves() {
    virtually(async {
        let is_there = Arc::new(AtomicBool::new(false));
        let held: Arc<AtomicUsize> = Arc::default();
        let (known, calls) = (Arc::clone(&is_there), Arc::clone(&held));
        let app = FakeApp::new(move |_| {
            if !known.load(Ordering::SeqCst) {
                return Answer::Now(unreachable());
            }
            calls.fetch_add(1, Ordering::SeqCst);
            let (sender, reply) = tokio::sync::oneshot::channel();
            actix::spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let _ = sender.send(returned(&json!("done")));
            });
            Answer::Held(reply)
        });
        let rig = Rig::with(vec![charge()], app, settings()).await;
        let runs = burst(&rig, 300).await;
        rig.until("it opens", |rig| position(rig, "http://one/api") == Position::Open)
            .await;
        rig.until("all is quiet", |rig| rig.app.in_flight() == 0).await;
        is_there.store(true, Ordering::SeqCst);
        // Each wave is at most twice as large as the one before.
        let mut peak = 2;
        while position(&rig, "http://one/api") != Position::Closed {
            rig.pass(Duration::from_millis(100)).await;
            let in_flight = rig.app.in_flight();
            assert!(in_flight <= peak * 2 + 1, "{in_flight} after {peak}");
            peak = peak.max(in_flight);
        }
        assert!(peak >= 16, "{peak}");
        for run in runs {
            assert_eq!(rig.ended(run).await, "completed");
        }
    });
}

#[test]
fn it_can_be_switched_off_for_all_for_an_app_and_by_an_operator() {
    virtually(async {
        let is_there = Arc::new(AtomicBool::new(false));
        for breaker in [
            Settings {
                enabled: false,
                ..Settings::default()
            },
            Settings {
                except: vec!["shop".to_owned()],
                ..Settings::default()
            },
        ] {
            let settings = TreeSettings { breaker, ..settings() };
            let rig = Rig::with(vec![charge()], app(&is_there), settings).await;
            for run in burst(&rig, 40).await {
                assert_eq!(rig.ended(run).await, "failed");
            }
            assert!(rig.orchestrator.breakers().readings().is_empty());
            let set = rig.within(rig.orchestrator.set_breaker("shop", Some(true))).await;
            assert!(set.expect("set"));
            burst(&rig, 40).await;
            rig.until("it opens", |rig| position(rig, "http://one/api") == Position::Open)
                .await;
            let set = rig.within(rig.orchestrator.set_breaker("shop", Some(false))).await;
            assert!(set.expect("set"));
            for run in burst(&rig, 3).await {
                assert_eq!(rig.ended(run).await, "failed", "nothing holds it up");
            }
        }
    });
}

#[test]
fn errors_of_the_function_open_nothing() {
    virtually(async {
        let app = FakeApp::new(|call| {
            Answer::Now(if call.attempt == 0 {
                Reply::Failed {
                    failure: Failure::new("TypeError", "no"),
                    status: Some(500),
                    no_retry: false,
                    retry_after: None,
                }
            } else {
                ran("x")
            })
        });
        let rig = Rig::with(vec![charge()], app, settings()).await;
        burst(&rig, 60).await;
        rig.until("all have failed once", |rig| rig.app.seen().len() >= 100)
            .await;
        assert_eq!(rig.orchestrator.breakers().readings()[0].openings, 0);
    });
}

#[test]
fn functions_at_one_url_share_a_breaker_whatever_their_query() {
    assert_eq!(endpoint("http://a:1/x?fnId=1&stepId=step"), "http://a:1/x");
    assert_eq!(endpoint("http://a:1/x#y"), "http://a:1/x");
    assert_eq!(endpoint("http://a:1/x"), "http://a:1/x");
}

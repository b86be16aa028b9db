//! Reports of calls under way: they go through the run's line, and only the call that counts is heard.

use super::*;
use crate::domain::{Opcode, Report, ReportRefused, Ticket};
use crate::orchestrator::Refusal;

/// Calls that the test answers when it likes, with what they may report by.
type Calls = Arc<Mutex<Vec<(Ticket, usize, Option<oneshot::Sender<Reply>>)>>>;

/// An app whose calls all take as long as the test wants.
fn at_work() -> (FakeApp, Calls) {
    let calls = Calls::default();
    let kept = Arc::clone(&calls);
    let app = FakeApp::new(move |call| {
        let (sender, reply) = oneshot::channel();
        let told = (call.ticket.clone(), call.stack.len(), Some(sender));
        kept.lock().expect("no panic").push(told);
        Answer::Held(reply)
    });
    (app, calls)
}

fn ticket(calls: &Calls, n: usize) -> Ticket {
    calls.lock().expect("no panic")[n].0.clone()
}

fn answer(calls: &Calls, n: usize, reply: Reply) {
    let sender = calls.lock().expect("no panic")[n]
        .2
        .take()
        .expect("not answered before");
    let _ = sender.send(reply);
}

async fn report(rig: &Rig, run: RunId, ticket: &Ticket, step: &str) -> Result<Result<(), ReportRefused>, Refusal> {
    let ops = json!([{ "op": "StepRun", "id": step, "data": step }]).to_string();
    let report = Report {
        call: ticket.call.clone(),
        ops: Opcode::parse_reply(ops.as_bytes()).expect("valid opcodes"),
    };
    let taken = rig.orchestrator.report(run, Some(charge().id), ticket, report);
    rig.within(taken).await
}

fn done(rig: &Rig, run: RunId) -> Vec<String> {
    let state = rig.store.run(run).expect("a run");
    state.stack.iter().map(ToString::to_string).collect()
}

fn failed() -> Reply {
    Reply::Failed {
        failure: crate::domain::Failure::new("E", "m"),
        status: Some(500),
        no_retry: false,
        retry_after: None,
    }
}

#[test]
fn what_a_call_reports_is_durable_when_it_is_told_so_and_nothing_is_read_for_it() {
    virtually(async {
        let (app, calls) = at_work();
        let rig = Rig::new(vec![charge()], app).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        rig.until("a call", |rig| rig.app.in_flight() == 1).await;
        let first = ticket(&calls, 0);
        for step in ["a", "b", "a"] {
            assert_eq!(report(&rig, run, &first, step).await.expect("decided"), Ok(()));
        }
        assert_eq!(done(&rig, run), ["a", "b"]);
        answer(&calls, 0, steps(&json!([{ "op": "RunComplete", "data": 1 }])));
        assert_eq!(rig.ended(run).await, "completed");
        assert_eq!((rig.app.seen().len(), rig.store.loads()), (1, 0));
        assert_eq!(
            report(&rig, run, &first, "c").await.expect("decided"),
            Err(ReportRefused::Stale)
        );
    });
}

#[test]
fn a_report_is_recorded_once_whatever_becomes_of_its_commit() {
    virtually(async {
        let (app, calls) = at_work();
        let rig = Rig::new(vec![charge()], app).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        rig.until("a call", |rig| rig.app.in_flight() == 1).await;
        let first = ticket(&calls, 0);
        rig.store.fail(&[Fault::Forgotten]);
        assert_eq!(report(&rig, run, &first, "a").await.expect("decided"), Ok(()));
        rig.store.fail(&[Fault::Unavailable]);
        assert_eq!(report(&rig, run, &first, "a").await.expect("decided"), Ok(()));
        assert_eq!(done(&rig, run), ["a"]);
        // Somebody else has moved the run on.
        rig.store.bump(run);
        assert_eq!(report(&rig, run, &first, "b").await.expect("decided"), Ok(()));
        assert_eq!(done(&rig, run), ["a", "b"]);
    });
}

#[test]
fn a_call_that_was_given_up_is_not_heard_any_more() {
    virtually(async {
        let (app, calls) = at_work();
        let rig = Rig::new(vec![charge()], app).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        rig.until("a call", |rig| rig.app.in_flight() == 1).await;
        let zombie = ticket(&calls, 0);
        // As a proxy does that loses patience while the app goes on.
        answer(&calls, 0, failed());
        rig.until("the next attempt", |rig| rig.app.seen().len() == 2).await;
        assert_eq!(
            report(&rig, run, &zombie, "a").await.expect("decided"),
            Err(ReportRefused::Stale)
        );
        assert_eq!(
            report(&rig, run, &ticket(&calls, 1), "a").await.expect("decided"),
            Ok(())
        );
        assert_eq!(
            report(&rig, run, &zombie, "b").await.expect("decided"),
            Err(ReportRefused::Stale)
        );
        assert_eq!(done(&rig, run), ["a"]);
    });
}

#[test]
fn whoever_takes_a_job_over_finds_what_was_reported_and_is_the_only_one_heard() {
    virtually(async {
        let (app, calls) = at_work();
        let rig = Rig::new(vec![charge()], app).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        rig.until("a call", |rig| rig.app.in_flight() == 1).await;
        let first = ticket(&calls, 0);
        assert_eq!(report(&rig, run, &first, "a").await.expect("decided"), Ok(()));
        // Another node takes the first one for dead, and brings the job from the store.
        let other = rig.beside(Settings::default()).await;
        rig.until("a second call", |rig| rig.app.in_flight() == 2).await;
        let (second, known) = {
            let calls = calls.lock().expect("no panic");
            (calls[1].0.clone(), calls[1].1)
        };
        assert_eq!(known, 1, "it was told of the step");
        assert_eq!(second.call.attempt, first.call.attempt);
        for node in [&rig, &other] {
            assert_eq!(
                report(node, run, &first, "b").await.expect("decided"),
                Err(ReportRefused::Stale)
            );
        }
        // The app answers the call whose report was refused with an error.
        let refused = Reply::Failed {
            failure: crate::domain::Failure::new("StaleDispatchError", "m"),
            status: Some(400),
            no_retry: true,
            retry_after: None,
        };
        answer(&calls, 0, refused);
        assert_eq!(report(&other, run, &second, "b").await.expect("decided"), Ok(()));
        answer(&calls, 1, returned(&json!(1)));
        assert_eq!(rig.ended(run).await, "completed");
        assert_eq!(done(&rig, run)[..2], ["a", "b"]);
    });
}

#[test]
fn the_answer_to_a_call_whose_report_was_refused_does_not_count() {
    virtually(async {
        let (app, calls) = at_work();
        let rig = Rig::new(vec![charge()], app).await;
        let run = rig.start(&charge(), "order/paid", &json!({})).await;
        rig.until("a call", |rig| rig.app.in_flight() == 1).await;
        // Another node has the job, and nothing has been reported yet: the database does not know of two calls.
        rig.pass(Duration::from_millis(5)).await;
        let other = rig.beside(Settings::default()).await;
        rig.until("a second call", |rig| rig.app.in_flight() == 2).await;
        let (first, second) = (ticket(&calls, 0), ticket(&calls, 1));
        assert_eq!(
            report(&other, run, &first, "a").await.expect("decided"),
            Err(ReportRefused::Stale)
        );
        let refused = Reply::Failed {
            failure: crate::domain::Failure::new("StaleDispatchError", "m"),
            status: Some(400),
            no_retry: true,
            retry_after: None,
        };
        answer(&calls, 0, refused);
        rig.pass(Duration::from_millis(50)).await;
        assert!(
            rig.store.status(run).is_some_and(|status| !status.is_final()),
            "it has not failed"
        );
        assert_eq!(report(&other, run, &second, "a").await.expect("decided"), Ok(()));
        answer(&calls, 1, returned(&json!(1)));
        assert_eq!(rig.ended(run).await, "completed");
    });
}

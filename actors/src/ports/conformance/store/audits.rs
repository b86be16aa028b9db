//! The audit finds what breaks a promise, and nothing else.
//!
//! What no commit can bring about (a result without its memo, an event to be routed that is not stored) each store plants by
//! its own means, in tests of its own.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::fixtures::*;
use crate::domain::{
    Call, Caps, Change, Event, EventId, Failure, FlowControl, Function, FunctionId, FunctionMode, HistoryEntry,
    HistoryKind, Job, JobKey, Json, Opcode, Reply, Report, RequestId, Resumption, Route, RunId, RunState, RunStatus,
    SingletonMode, StepId, StepState, Write,
};
use crate::engine::{self, Context, Input, Listeners, Next, Replied, RetryPolicy};
use crate::ports::{AuditScope, Check, Except, Finding, SAMPLES};

/// Everything, with nothing overdue.
fn all() -> AuditScope {
    AuditScope {
        now: at(0),
        overdue_after: Duration::from_secs(24 * 60 * 60),
        rows: 10_000,
    }
}

/// One finding of one thing.
fn one(check: Check, sample: String) -> Finding {
    Finding {
        check,
        count: 1,
        samples: vec![sample],
    }
}

#[derive(Debug)]
struct Deaf;

impl Listeners for Deaf {
    fn listens(&self, _: &str) -> bool {
        false
    }
}

fn served() -> Function {
    Function {
        id: function("one"),
        slug: "conformance-one".into(),
        app: "conformance".into(),
        name: "One".to_owned(),
        version: 1,
        url: "http://localhost:3000/api/inngest".to_owned(),
        triggers: Vec::new(),
        retries: 2,
        flow: FlowControl::default(),
        config: Json::null(),
        endpoint: None,
        archived: false,
        mode: FunctionMode::Active,
        caps: Caps::default(),
    }
}

/// Numbers that look random and are the same every time (xorshift).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn opcode(dice: &mut Dice) -> Value {
    let id = format!("s{}", dice.roll(6));
    let opts = json!({ "timeout": "1h" });
    match dice.roll(8) {
        0..=2 => json!({"op": "StepRun", "id": id, "data": {"n": dice.roll(9)}}),
        3 => json!({"op": "StepError", "id": id, "error": {"message": "m"}}),
        4 => json!({"op": "StepPlanned", "id": id}),
        5 => json!({"op": "Sleep", "id": id, "name": "1h"}),
        6 => json!({"op": "WaitForEvent", "id": id, "name": "paid", "opts": opts}),
        _ => json!({"op": "InvokeFunction", "id": id, "opts": {"function_id": "f"}}),
    }
}

fn reply(dice: &mut Dice) -> Reply {
    match dice.roll(8) {
        0 => Reply::Returned(Json::null()),
        1 => Reply::Failed {
            failure: Failure::new("Error", "m"),
            status: Some(500),
            no_retry: false,
            retry_after: None,
        },
        _ => {
            let ops: Vec<Value> = (0..=dice.roll(3)).map(|_| opcode(dice)).collect();
            Reply::Steps {
                ops: Opcode::parse_reply(Value::Array(ops).to_string().as_bytes()).expect("valid opcodes"),
                request_version: 2,
                no_retry: false,
                retry_after: None,
            }
        }
    }
}

/// What happens next to a run with these jobs.
fn input(run: &RunState, jobs: &[Job], function: &Function, dice: &mut Dice) -> Input {
    let letter = run.held.values().next().map(|letter| letter.id);
    let place = dice.roll(jobs.len().max(1) as u64);
    let job = jobs.get(usize::try_from(place).expect("small"));
    match (letter, job, dice.roll(12)) {
        (Some(letter), None, 0) => Input::Discarded(letter),
        (Some(letter), None, _) | (Some(letter), _, 1..=3) => Input::Revived(letter),
        (_, _, 4) if dice.roll(6) == 0 => Input::Cancelled(String::new()),
        (_, Some(job), 5 | 6) => Input::Poisoned(Box::new(job.clone()), "it panicked".to_owned()),
        (_, Some(job), _) => match engine::dispatch(
            run,
            function,
            job,
            RequestId::new(at(3), u128::from(dice.roll(1 << 40))),
            1,
        ) {
            Next::Decide(input) => input,
            Next::Search(search) => {
                Input::Looked(search.step, (dice.roll(2) == 0).then(|| Resumption::of(&Json::null())))
            }
            Next::Call(call) if dice.roll(3) == 0 => reported(&call, dice),
            Next::Call(call) => Input::Replied(Box::new(Replied {
                job: job.clone(),
                request: call.ticket.call.request,
                reply: reply(dice),
                called_at: at(3),
                fetched: HashMap::new(),
                signals_taken: HashSet::new(),
            })),
            Next::Stale => panic!("a job of the run is stale: {job:?}"),
        },
        (None, None, _) => panic!("a run with nothing to go on with: {run:?}"),
    }
}

/// What a call reports while it is under way.
fn reported(call: &Call, dice: &mut Dice) -> Input {
    let ops = json!([{ "op": "StepRun", "id": format!("s{}", dice.roll(6)), "data": dice.roll(100) }]);
    Input::Reported(Box::new(Report {
        call: call.ticket.call.clone(),
        ops: Opcode::parse_reply(ops.to_string().as_bytes()).expect("valid opcodes"),
    }))
}

/// Runs that the engine has moved, whatever happened to them, give no finding at any time.
pub async fn a_healthy_history_gives_no_finding(store: Shared) {
    let function = served();
    let context = Context {
        look_back: Some(Duration::from_secs(60)),
        now: at(10),
        dice: 0.5,
        retry: RetryPolicy::default(),
        listeners: &Deaf,
    };
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut kinds = HashSet::new();
    let mut statuses = HashSet::new();
    for round in 0..40 {
        let event = event(round);
        let new = engine::start(&function, &event, at(10)).expect("no key to fail");
        let run = new.state.id;
        commit_all(&store, &[accept(&event, vec![new])]).await;
        for _ in 0..12 {
            let Some(state) = load(&store, run).await else { break };
            let far = at(10).after(Duration::from_secs(366 * 24 * 60 * 60));
            let mut jobs = store
                .jobs_due(far, None, Except::default(), 10_000)
                .await
                .expect("reads");
            jobs.retain(|job| job.id.run == run);
            let input = input(&state, &jobs, &function, &mut dice);
            let expected = state.version;
            let (next, changes) = engine::decide(state, &function, &input, &context);
            kinds.extend(changes.iter().map(std::mem::discriminant));
            statuses.insert(next.status);
            if !changes.is_empty() {
                commit(&store, advance(run, expected, changes)).await;
            }
        }
        assert_eq!(store.audit(&all()).await.expect("reads"), [], "after round {round}");
        let waiting = unrouted(&store).await;
        let routes: Vec<_> = waiting.into_iter().map(route).collect();
        store.commit(&routes).await.expect("commits");
    }
    assert!(kinds.len() >= 12, "much of what can happen did: {}", kinds.len());
    assert!(statuses.len() >= 4, "in many ways: {statuses:?}");
}

/// An event that is meant for nobody after all.
fn route(event: EventId) -> Write {
    Write::Route(Route {
        event,
        runs: Vec::new(),
        joins: Vec::new(),
        skips: Vec::new(),
        takes: Vec::new(),
        catalog: None,
    })
}

fn completed(step: &str) -> Change {
    Change::Noted(HistoryEntry {
        at: at(5),
        kind: HistoryKind::StepCompleted,
        step: Some(StepId::from(step)),
        attempt: 0,
        detail: None,
    })
}

/// Accepts an event with these runs, whatever they are.
async fn plant(store: &Shared, event: &Event, ids: &[RunId], cause: EventId) {
    let runs = ids.iter().map(|id| {
        let mut run = new_run(event, "one");
        run.state.id = *id;
        run.state.event_ids = vec![cause];
        run.job.id.run = *id;
        run
    });
    commit_all(store, &[accept(event, runs.collect())]).await;
}

/// Every check finds what it is about, once, and nothing else does.
pub async fn each_check_finds_what_is_planted(store: Shared) {
    let (twice, elsewhere, unknown) = (event(10), event(20), event(21));
    let derived = new_run(&twice, "one").state.id;
    plant(&store, &twice, &[derived, RunId::new(at(10), 7)], twice.id).await;
    let causeless = RunId::new(at(20), 7);
    plant(&store, &elsewhere, &[causeless], unknown.id).await;

    let mut runs = Vec::new();
    for millis in 30..38 {
        runs.push(start(&store, millis).await.id);
    }
    let done_at = |id: &str, position| Change::StepPut(step(id, done(position, "x")));
    let planned = Change::StepPut(step("a", StepState::Planned));
    let waiting = |run| Change::WaitPut(wait(run, "a", "paid", None));
    let timeout = |run| Change::JobPut(job(run, JobKey::Timeout(StepId::from("a")), 90));
    let discover = |run| Change::JobPut(job(run, JobKey::Discover(StepId::from("a")), 90));
    let decisions = [
        (runs[0], vec![completed("a"), completed("b"), completed("a")]),
        (runs[1], vec![done_at("a", 0), done_at("b", 0)]),
        (runs[2], vec![done_at("a", 0), done_at("b", 2)]),
        (runs[3], vec![Change::JobDone(JobKey::Start)]),
        (runs[4], vec![planned]),
        (
            runs[5],
            vec![
                waiting(runs[5]),
                Change::WaitPut(wait(runs[5], "b", "paid", None)),
                timeout(runs[5]),
            ],
        ),
        (runs[6], vec![Change::Buried(letter(runs[6], JobKey::Start, 40))]),
        (runs[7], vec![ended(RunStatus::Completed, 50)]),
    ];
    // Its end forgets the lock.
    let careless = event(38);
    let mut locked = new_run(&careless, "one");
    locked.lock = Some(super::starts::lock_claim("x", SingletonMode::Skip, 38));
    locked.state.lock = locked.lock.as_ref().map(|lock| lock.bucket);
    let careless_run = locked.state.id;
    commit_all(&store, &[accept(&careless, vec![locked])]).await;
    commit_all(
        &store,
        &[advance(careless_run, 0, vec![ended(RunStatus::Completed, 50)])],
    )
    .await;
    for (run, changes) in decisions {
        commit_all(&store, &[advance(run, 0, changes)]).await;
    }
    let stray = letter(runs[7], JobKey::Start, 60);
    let late = vec![
        discover(runs[7]),
        waiting(runs[7]),
        timeout(runs[7]),
        Change::Buried(stray.clone()),
    ];
    commit_all(&store, &[advance(runs[7], 1, late)]).await;

    let mut found = store.audit(&all()).await.expect("reads");
    for finding in &mut found {
        finding.samples.sort();
    }
    let last = runs[7];
    let expected = [
        one(Check::DoubledRun, format!("{} {}", twice.id, function("one"))),
        one(Check::CauselessRun, causeless.to_string()),
        one(Check::RepeatedResult, format!("{} a", runs[0])),
        Finding {
            check: Check::BrokenStack,
            count: 2,
            samples: vec![runs[1].to_string(), runs[2].to_string()],
        },
        one(Check::OrphanedRun, runs[3].to_string()),
        one(Check::StrandedStep, format!("{} a", runs[4])),
        one(Check::EndlessWait, format!("{} step:b", runs[5])),
        Finding {
            check: Check::StrayJob,
            count: 2,
            samples: vec![format!("{last} discover:a"), format!("{last} timeout:a")],
        },
        one(Check::StrayWait, format!("{last} step:a")),
        one(Check::StrayLetter, stray.id.to_string()),
        one(Check::StrayLock, careless_run.to_string()),
    ];
    assert_eq!(found, expected);
}

/// Jobs that have been due, and events that have waited, for longer than allowed; those of that very instant are not.
pub async fn what_is_overdue_is_found_and_what_is_not_is_not(store: Shared) {
    let run = start(&store, 1).await;
    let jobs = [("a", 2_000), ("b", 1_999), ("c", 9_000)];
    let puts = jobs.map(|(step, due)| Change::JobPut(job(run.id, JobKey::Wake(StepId::from(step)), due)));
    let [early, late] = [event_named("early", 1_999), event_named("late", 2_000)];
    let emits = [&early, &late].map(|event| Change::Emit {
        event: event.clone(),
        has_listeners: true,
    });
    let changes = [Change::JobDone(JobKey::Start)].into_iter().chain(puts).chain(emits);
    commit(&store, advance(run.id, 0, changes.collect())).await;
    let scope = AuditScope {
        now: at(5_000),
        overdue_after: Duration::from_secs(3),
        ..all()
    };
    let found = store.audit(&scope).await.expect("reads");
    let expected = [
        one(Check::StuckEvent, early.id.to_string()),
        one(Check::OverdueJob, format!("{} wake:b", run.id)),
    ];
    assert_eq!(found, expected);
}

/// A run that is done again is not started twice, and a call that is held by a pause is not late.
pub async fn what_operators_do_is_no_finding(store: Shared) {
    super::catalog::register(&store).await;
    let paused = FunctionId::derive("shop", "one");
    let first = {
        let event = event(1);
        let mut run = new_run(&event, "one");
        run.state.function = paused;
        run.job.function = paused;
        let state = run.state.clone();
        commit_all(&store, &[accept(&event, vec![run])]).await;
        state
    };
    let wish = event_named("again", 5_000);
    let mut again = new_run(&wish, "one");
    again.state.function = paused;
    again.job.function = paused;
    again.state.event_ids = first.event_ids.clone();
    again.state.original = Some(first.id);
    commit_all(&store, &[accept(&wish, vec![again])]).await;
    let late = AuditScope {
        now: at(100_000),
        overdue_after: Duration::from_secs(1),
        ..all()
    };
    let found = store.audit(&late).await.expect("reads");
    assert_eq!(
        found.iter().map(|finding| finding.check).collect::<Vec<_>>(),
        [Check::OverdueJob]
    );
    let mode = crate::domain::FunctionMode::Paused { since: at(9) };
    assert!(store.set_function_mode(paused, mode).await.expect("writes"));
    assert_eq!(store.audit(&late).await.expect("reads"), []);
}

/// A check counts what it finds among the rows it looks at, and gives a few examples only.
pub async fn checks_look_at_so_many_rows_only(store: Shared) {
    let count = SAMPLES + 2;
    for millis in 0..count {
        let run = start(&store, i64::try_from(millis).expect("small")).await;
        commit_all(&store, &[advance(run.id, 0, vec![Change::JobDone(JobKey::Start)])]).await;
    }
    let found = store.audit(&all()).await.expect("reads");
    assert_eq!((found[0].check, found[0].count), (Check::OrphanedRun, count as u64));
    assert_eq!((found.len(), found[0].samples.len()), (1, SAMPLES));
    let scope = AuditScope { rows: 3, ..all() };
    let found = store.audit(&scope).await.expect("reads");
    assert_eq!((found[0].count, found[0].samples.len()), (3, 3));
}

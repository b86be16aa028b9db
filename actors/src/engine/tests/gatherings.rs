//! Which gathering an event joins against a naive model, what decides whether it joins at all, and what a gathering starts.

use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::domain::{
    Batch, CancelRule, ClaimId, ConcurrencyLimit, Debounce, DueBy, FunctionMode, Gather, Gathered, Gathering,
    GatheringId, IncomingEvent, Join, RateLimit, Scope as FlowScope, Singleton, SingletonMode, SkipReason, Standing,
    Timeouts, limits,
};
use crate::engine::gathering::{Admitted, admit, fire};

fn millis(millis: i64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() + millis)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn joining(gather: Gather, at: i64, ts: i64, bytes: u64) -> Join {
    let function = function(0).id;
    Join {
        id: GatheringId::new(NOW, 1),
        function,
        event: EventId::new(NOW, 1),
        bucket: ClaimId::of_batch(function, None),
        gather,
        key: None,
        at: millis(at),
        ts: millis(ts),
        bytes,
        idempotency: None,
        is_awaited: false,
        rate: None,
    }
}

/// An event as a naive history remembers it.
#[derive(Debug, Clone, Copy)]
struct Came {
    at: i64,
    ts: i64,
    bytes: u64,
}

fn came() -> impl Strategy<Value = Came> {
    let bytes = prop_oneof![20 => 1_u64..1_000, 1 => Just(limits::BATCH_BYTES / 3)];
    // Clocks go on, and now and then they are set.
    let step = prop_oneof![20 => 0_i64..900, 1 => -5_000_i64..5_000];
    (step, -400_i64..400, bytes).prop_map(|(at, ts, bytes)| Came { at, ts, bytes })
}

/// Steps from event to event as times of a clock.
fn times(steps: Vec<Came>) -> Vec<Came> {
    let mut clock = 0;
    let timed = steps.into_iter().map(|step| {
        clock += step.at;
        Came {
            at: clock,
            ts: clock + step.ts,
            ..step
        }
    });
    timed.collect()
}

/// The gatherings that a history comes to by [`admit`]: how each stands at last, with its events by their numbers.
fn gathered(gather: Gather, history: &[Came]) -> (Vec<(Standing, Vec<usize>)>, Vec<usize>) {
    let (mut all, mut late): (Vec<(Standing, Vec<usize>)>, _) = (Vec::new(), Vec::new());
    let mut is_open = false;
    for (number, came) in history.iter().enumerate() {
        let open = all.last().filter(|_| is_open).map(|(standing, _)| *standing);
        let Some(Admitted {
            standing,
            opens,
            closed,
            is_full,
        }) = admit(open, &joining(gather, came.at, came.ts, came.bytes))
        else {
            late.push(number);
            continue;
        };
        if opens {
            if let (Some(closed), Some(last)) = (closed, all.last_mut()) {
                last.0 = closed;
            }
            all.push((standing, vec![number]));
        } else {
            let last = all.last_mut().expect("is open");
            last.0 = standing;
            last.1.push(number);
        }
        is_open = !is_full;
    }
    (all, late)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// No event is lost or in two gatherings; each is due a period after its last event, or earlier by its timeout.
    #[test]
    fn a_debounce_starts_when_it_has_been_quiet(
        steps in prop::collection::vec(came(), 1..60), period in 1_i64..1_500, timeout in prop::option::of(1_i64..4_000),
    ) {
        let history = times(steps);
        let gather = Gather::Debounce {
            period: Duration::from_millis(period.unsigned_abs()),
            timeout: timeout.map(|timeout| Duration::from_millis(timeout.unsigned_abs())),
        };
        let (all, late) = gathered(gather, &history);
        let mut numbers: Vec<usize> = all.iter().flat_map(|(_, numbers)| numbers.clone()).chain(late.clone()).collect();
        numbers.sort_unstable();
        prop_assert!(numbers.iter().copied().eq(0..history.len()));
        for (standing, numbers) in &all {
            let [first, .., ] = numbers[..] else { unreachable!("holds one") };
            let last = history[*numbers.last().expect("holds one")];
            // Where the clock was set back, the earliest reading counts.
            let opened = numbers.iter().map(|n| history[*n].at).min().expect("holds one");
            let quiet = last.at + period;
            let latest = timeout.map_or(i64::MAX, |timeout| opened + timeout);
            prop_assert_eq!(standing.due_at, millis(quiet.min(latest)));
            prop_assert_eq!(standing.due_by, if latest < quiet { DueBy::Timeout } else { DueBy::Period });
            prop_assert_eq!(standing.newest, millis(last.ts));
            prop_assert_eq!(standing.count as usize, numbers.len());
            prop_assert!(numbers.iter().all(|n| history[*n].ts <= last.ts) && first <= *numbers.last().expect("one"));
        }
        for number in late {
            prop_assert!((0..number).any(|before| history[before].ts > history[number].ts), "something was later");
        }
    }

    /// Batches are whole and in order, within both sizes, and none is due later than its timeout by any of its events.
    #[test]
    fn a_batch_holds_what_comes_within_its_bounds(
        steps in prop::collection::vec(came(), 1..80), max_size in 2_u32..9, timeout in 1_i64..3_000,
    ) {
        let history = times(steps);
        let gather = Gather::Batch { max_size, timeout: Duration::from_millis(timeout.unsigned_abs()) };
        let (all, late) = gathered(gather, &history);
        prop_assert!(late.is_empty());
        // In the order in which they came.
        prop_assert!(all.iter().flat_map(|(_, numbers)| numbers.iter().copied()).eq(0..history.len()));
        for (place, (standing, numbers)) in all.iter().enumerate() {
            let bytes: u64 = numbers.iter().map(|n| history[*n].bytes).sum();
            let due = numbers.iter().map(|n| history[*n].at + timeout).min().expect("holds one");
            prop_assert_eq!((standing.count as usize, standing.bytes), (numbers.len(), bytes));
            prop_assert!(numbers.len() <= max_size as usize && bytes <= limits::BATCH_BYTES);
            prop_assert!(standing.due_at <= millis(due));
            prop_assert!(standing.due_by == DueBy::Full || standing.due_at == millis(due));
            // A later one was opened for a reason: this one was over, or had no room for the next event.
            if let Some((_, next)) = all.get(place + 1) {
                let next = history[next[0]];
                let is_over = millis(next.at) >= millis(due);
                let is_full = numbers.len() == max_size as usize || bytes + next.bytes > limits::BATCH_BYTES;
                prop_assert!(is_over || is_full);
                prop_assert_eq!(standing.due_by == DueBy::Full, !is_over || numbers.len() == max_size as usize);
            }
        }
    }
}

#[test]
fn limits_that_shrink_close_what_is_open() {
    let wide = Gather::Batch {
        max_size: 10,
        timeout: secs(60),
    };
    let narrow = Gather::Batch {
        max_size: 2,
        timeout: secs(60),
    };
    let mut standing = None;
    for at in 0..4 {
        standing = admit(standing, &joining(wide, at, at, 1)).map(|admitted| admitted.standing);
    }
    let admitted = admit(standing, &joining(narrow, 5, 5, 1)).expect("batches take all");
    let closed = admitted.closed.expect("was open");
    assert_eq!(
        (closed.count, closed.due_at, closed.due_by),
        (4, millis(5), DueBy::Full)
    );
    assert_eq!(
        (admitted.opens, admitted.standing.count, admitted.is_full),
        (true, 1, false)
    );
}

fn batching(key: Option<&str>, condition: Option<&str>) -> Function {
    let mut function = function(0);
    function.flow.batch = Some(Batch {
        max_size: 10,
        timeout: secs(5),
        key: key.map(str::to_owned),
        condition: condition.map(str::to_owned),
    });
    function
}

fn debounced(key: Option<&str>) -> Function {
    let mut function = function(0);
    function.flow.debounce = Some(Debounce {
        period: secs(5),
        key: key.map(str::to_owned),
        timeout: None,
    });
    function
}

fn begun(function: &Function, data: Value) -> Start {
    begin(function, &event(data), NOW).expect("no key to fail")
}

fn bucket_of(function: &Function, data: Value) -> ClaimId {
    match begun(function, data) {
        Start::Join(join) => join.bucket,
        Start::Run(_) => panic!("starts a run"),
    }
}

#[rstest]
#[case("event.data.a == 1", json!({"a": 1}), true)]
#[case("event.data.a == 1", json!({"a": 2}), false)]
#[case("event.data.a.b.c + 1 > 'x'", json!({"a": 2}), false)]
#[case("   ", json!({"a": 2}), true)]
fn what_the_condition_of_a_batch_is_not_true_of_runs_alone(
    #[case] condition: &str,
    #[case] data: Value,
    #[case] joins: bool,
) {
    let start = begun(&batching(None, Some(condition)), data);
    assert_eq!(matches!(start, Start::Join(_)), joins);
}

#[test]
fn keys_tell_gatherings_apart() {
    for function in [batching(Some("event.data.k"), None), debounced(Some("event.data.k"))] {
        let [one, again, two] = [json!({"k": 1, "x": 1}), json!({"k": 1, "x": 2}), json!({"k": "1"})];
        assert_eq!(bucket_of(&function, one.clone()), bucket_of(&function, again));
        assert_ne!(bucket_of(&function, one), bucket_of(&function, two));
    }
    assert_ne!(
        bucket_of(&batching(None, None), json!({})),
        bucket_of(&debounced(None), json!({}))
    );
}

#[test]
fn a_key_that_fails_keeps_events_from_batches_and_puts_them_together_in_a_debounce() {
    let failing = "event.data.a < 1 || event.data.b.matches('(')";
    let skip = begin(&batching(Some(failing), None), &event(json!({"a": 2, "b": "x"})), NOW).expect_err("fails");
    assert_eq!(skip.reason, SkipReason::ExpressionError);
    let function = debounced(Some(failing));
    let [one, two] = [json!({"a": 2, "b": "x"}), json!({"a": 3, "b": "y"})];
    assert_eq!(bucket_of(&function, one), bucket_of(&function, two));
}

#[test]
fn a_debounce_has_its_rate_limit_before_it_and_a_batch_has_none() {
    let limit = RateLimit {
        limit: 1,
        period: secs(60),
        key: None,
        idempotency: false,
    };
    for (mut function, has_rate) in [(debounced(None), true), (batching(None, None), false)] {
        function.flow.rate_limit = Some(limit.clone());
        let Start::Join(join) = begun(&function, json!({})) else {
            panic!("starts a run")
        };
        assert_eq!(join.rate.is_some(), has_rate);
    }
}

/// A gathering of these events, each with an id of its own.
fn gathering(is_batch: bool, events: Vec<Event>) -> Gathered {
    let function = function(0).id;
    Gathered {
        gathering: Gathering {
            id: GatheringId::new(NOW, 9),
            function,
            bucket: ClaimId::of_batch(function, None),
            is_batch,
            version: 4,
            key: None,
            standing: Standing {
                opened_at: NOW,
                due_at: millis(5_000),
                due_by: DueBy::Timeout,
                newest: NOW,
                count: u32::try_from(events.len()).expect("few"),
                bytes: 10,
            },
        },
        events,
    }
}

fn numbered(number: u128) -> Event {
    let incoming = IncomingEvent {
        name: Some(format!("shop/n{number}")),
        id: Some(json!(format!("own-{number}"))),
        ts: Some(json!(NOW.as_millis() + 1_000_000)),
        ..IncomingEvent::default()
    };
    Event::accept(incoming, EventId::new(NOW, number), NOW).expect("a valid event")
}

fn invoke(number: u128) -> Event {
    let own = json!({"fn_id": "shop-charge", "correlation_id": format!("run.{number}")});
    invoked_event(&serde_json::Map::new(), own, EventId::new(NOW, number), NOW).expect("JSON")
}

fn busy() -> Function {
    let mut function = function(0);
    function.flow.cancel = vec![CancelRule {
        event: "shop/stop".to_owned(),
        condition: None,
        timeout: None,
    }];
    function.flow.timeouts = Timeouts {
        start: Some(secs(60)),
        finish: None,
    };
    function
}

#[test]
fn the_run_of_a_batch_has_all_events_and_nothing_else() {
    let gathered = gathering(true, vec![numbered(1), numbered(2), numbered(3)]);
    let at = millis(7_000);
    let fired = fire(&gathered, Some(&busy()), at);
    assert_eq!((fired.version, fired.due_by), (4, DueBy::Timeout));
    let [run] = &fired.runs[..] else { panic!("{fired:?}") };
    let ids: Vec<_> = gathered.events.iter().map(|event| event.id).collect();
    assert_eq!(
        (&run.state.event_ids, run.state.batch),
        (&ids, Some(gathered.gathering.id))
    );
    assert_eq!((run.state.events.len(), &*run.state.event_name), (3, "shop/n1"));
    assert_eq!(
        (run.state.created_at(), run.job.due),
        (at, at),
        "now, whatever the events say"
    );
    assert!(run.waits.is_empty() && run.deadline.is_none() && run.idempotency.is_none() && run.rate.is_none());
    assert_eq!(run.state.jobs.keys().collect::<Vec<_>>(), [&JobKey::Start]);
}

#[test]
fn the_run_of_a_debounce_has_the_last_event() {
    let gathered = gathering(false, vec![invoke(1), numbered(2)]);
    let mut function = busy();
    function.flow.rate_limit = Some(RateLimit {
        limit: 1,
        period: secs(60),
        key: None,
        idempotency: false,
    });
    let fired = fire(&gathered, Some(&function), millis(7_000));
    let [run] = &fired.runs[..] else { panic!("{fired:?}") };
    assert_eq!(
        (&run.state.event_ids, run.state.batch),
        (&vec![gathered.events[1].id], None)
    );
    assert_eq!(run.job.due, millis(7_000));
    assert_eq!(
        (run.waits.len(), run.deadline.is_some(), run.rate.is_some()),
        (1, true, false)
    );
    assert_eq!(run.idempotency.as_deref(), Some("own-2"));
    let answer = fired.answers[0].body.to_tree();
    assert_eq!(answer["data"]["correlation_id"], "run.1");
    assert!(
        answer["data"]["error"]["message"]
            .as_str()
            .expect("a text")
            .contains("taken its place")
    );
}

#[test]
fn a_function_that_is_gone_is_said_of_each_event() {
    let gathered = gathering(true, vec![numbered(1), invoke(2)]);
    let mut archived = function(0);
    archived.archived = true;
    let [paused, draining] = halted(&function(0));
    for (function, reason) in [
        (Some(&archived), SkipReason::Archived),
        (None, SkipReason::UnknownFunction),
        (Some(&paused), SkipReason::Paused),
        (Some(&draining), SkipReason::Draining),
    ] {
        let fired = fire(&gathered, function, NOW);
        assert!(fired.runs.is_empty());
        let skips: Vec<_> = fired.skips.iter().map(|skip| (skip.event, skip.reason)).collect();
        let expected: Vec<_> = gathered.events.iter().map(|event| (event.id, reason)).collect();
        assert_eq!(skips, expected);
        assert_eq!(fired.answers.len(), 1, "the invoke hears of it");
    }
    let empty = fire(&gathering(true, Vec::new()), Some(&function(0)), NOW);
    assert!(empty.runs.is_empty() && empty.skips.is_empty());
}

/// The function paused, and drained.
fn halted(function: &Function) -> [Function; 2] {
    [
        FunctionMode::Paused { since: NOW },
        FunctionMode::Draining { since: NOW },
    ]
    .map(|mode| Function {
        mode,
        ..function.clone()
    })
}

#[test]
fn a_function_that_is_halted_gathers_nothing() {
    for function in [batching(None, None), debounced(None)] {
        let reasons = halted(&function).map(|function| begin(&function, &numbered(1), NOW).expect_err("halted").reason);
        assert_eq!(reasons, [SkipReason::Paused, SkipReason::Draining]);
    }
}

/// What limits the runs of a function limits those that stand for several events too.
#[test]
fn a_run_of_a_gathering_has_the_gates_of_its_first_event() {
    let mut function = function(0);
    let limit = ConcurrencyLimit {
        limit: 1,
        scope: FlowScope::Fn,
        key: Some("event.name".to_owned()),
    };
    function.flow.concurrency = vec![limit.clone()];
    function.flow.run_concurrency = Some(limit);
    for is_batch in [true, false] {
        let gathered = gathering(is_batch, vec![numbered(1), numbered(2)]);
        let fired = fire(&gathered, Some(&function), NOW);
        let [run] = &fired.runs[..] else { panic!("{fired:?}") };
        let alone = start(&function, &gathered.events[usize::from(!is_batch)], NOW).expect("starts");
        assert!(!alone.job.gates.is_empty() && alone.state.gates.run_slot().is_some());
        assert_eq!(
            (&run.state.gates, &run.job.gates),
            (&alone.state.gates, &alone.job.gates)
        );
    }
}

/// Whoever invoked what a debounce starts hears that the lock is taken.
#[rstest]
#[case(SingletonMode::Skip, invoke(2), true)]
#[case(SingletonMode::Skip, numbered(2), false)]
#[case(SingletonMode::Cancel, invoke(2), false)]
fn a_debounced_invoke_of_a_singleton_is_answered(
    #[case] mode: SingletonMode,
    #[case] event: Event,
    #[case] is_answered: bool,
) {
    let mut function = debounced(None);
    function.flow.singleton = Some(Singleton { mode, key: None });
    let mut fired = fire(&gathering(false, vec![event]), Some(&function), NOW);
    let lock = fired.runs.remove(0).lock.expect("a singleton");
    assert_eq!(lock.refusal.is_some(), is_answered);
}

/// A batch that is done again is one as well.
#[test]
fn a_batch_is_done_again_with_all_its_events() {
    let gathered = gathering(true, vec![numbered(1), numbered(2)]);
    let (id, batch) = (RunId::derive(EventId::new(NOW, 7), busy().id), gathered.gathering.id);
    let first = fire(&gathered, Some(&busy()), NOW).runs.remove(0).state;
    let from = rerun::From::default();
    let run = rerun(&busy(), &gathered.events, first.id, Some(batch), from, id, millis(9)).expect("starts");
    assert_eq!(
        (&run.state.event_ids, &run.state.events),
        (&first.event_ids, &first.events)
    );
    assert_eq!((run.state.batch, run.state.original), (Some(batch), Some(first.id)));
    assert!(run.waits.is_empty() && run.deadline.is_none());
    assert_eq!(run.state.jobs.keys().collect::<Vec<_>>(), [&JobKey::Start]);
}

/// Everybody who invoked a member hears of the end, once, and everybody else once as well.
#[test]
fn the_end_of_a_batch_is_told_to_all_who_wait_for_it() {
    let gathered = gathering(true, vec![numbered(1), invoke(2), numbered(3), invoke(4)]);
    let function = function(0);
    let mut fired = fire(&gathered, Some(&function), NOW);
    let run = fired.runs.remove(0);
    let context = Context {
        now: NOW,
        dice: 0.5,
        retry: RetryPolicy::default(),
        listeners: &Ears(true),
        look_back: None,
    };
    let (_, changes) = decide(run.state, &function, &Input::Cancelled(String::new()), &context);
    let emitted: Vec<&Event> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Emit { event, .. } => Some(event),
            _ => None,
        })
        .collect();
    let told: Vec<_> = emitted
        .iter()
        .filter(|event| event.name == "inngest/function.finished")
        .map(|event| event.body.to_tree()["data"]["correlation_id"].clone())
        .collect();
    assert_eq!(told, [Value::Null, json!("run.2"), json!("run.4")]);
    let ids: HashSet<_> = emitted.iter().map(|event| event.id).collect();
    assert_eq!((ids.len(), emitted.len()), (4, 4), "and the cancellation");
}

/// A function that listens to invokes of others is waited for by nobody.
#[test]
fn who_invokes_another_function_is_not_told() {
    let mut listener = debounced(None);
    listener.slug = "shop-listener".into();
    listener.id = FunctionId::derive("shop", "shop-listener");
    for (function, is_awaited) in [(&listener, false), (&debounced(None), true)] {
        let Ok(Start::Join(join)) = begin(function, &invoke(2), NOW) else {
            panic!("starts a run")
        };
        assert_eq!(join.is_awaited, is_awaited);
    }
    listener.archived = true;
    let fired = fire(&gathering(true, vec![invoke(2)]), Some(&listener), NOW);
    assert_eq!((fired.answers.len(), fired.skips.len()), (0, 1));
}

/// A handler of ends that gathers them reports no end of its own, wherever in the batch they are.
#[test]
fn a_batch_with_an_end_in_it_observes() {
    let end = Event::glued(
        "inngest/function.finished",
        EventId::new(NOW, 5),
        "x".to_owned(),
        NOW,
        "{}",
    );
    let mention = json!({"note": "inngest/function.finished"});
    for (second, observes) in [(end, true), (event(mention), false)] {
        let fired = fire(&gathering(true, vec![numbered(1), second]), Some(&function(0)), NOW);
        assert_eq!(fired.runs[0].state.is_observer(), observes);
    }
}

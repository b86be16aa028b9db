//! The plan of ticks.

use std::time::Duration;

use super::super::catch_up::Policy;
use super::*;
use crate::domain::{App, Caps, FlowControl, FunctionMode, Json, RateLimit, SkipReason};
use crate::ports::{AppView, CatalogView};

const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000); // 2026-01-01T00:00:00Z

/// Follows a catalog as a plan does that nothing is stored about.
fn follow(plan: &mut Plan, catalog: Catalog, now: Timestamp) {
    plan.follow(Arc::new(catalog), Vec::new(), now);
}

/// Lets time pass until something fires.
fn next_fired(plan: &mut Plan) -> (Timestamp, Vec<Fired>) {
    loop {
        let now = plan.next().expect("a tick");
        let fired = plan.due(now);
        if !fired.is_empty() {
            return (now, fired);
        }
    }
}

fn plan() -> Plan {
    Plan::new(CatchUp::default())
}

fn catalog(version: u32, triggers: Vec<Trigger>) -> Catalog {
    with(function(version, triggers))
}

fn function(version: u32, triggers: Vec<Trigger>) -> Function {
    Function {
        id: FunctionId::derive("app", "f"),
        slug: "f".into(),
        app: "app".into(),
        name: "f".to_owned(),
        version,
        url: String::new(),
        triggers,
        retries: 0,
        flow: FlowControl::default(),
        config: Json::null(),
        endpoint: None,
        archived: false,
        mode: FunctionMode::Active,
        caps: Caps::default(),
    }
}

fn with(function: Function) -> Catalog {
    let app = App {
        name: "app".into(),
        url: String::new(),
        sdk: String::new(),
        framework: None,
        version: None,
        checksum: String::new(),
        error: None,
        synced_at: NOW,
    };
    let apps = vec![AppView {
        app,
        functions: vec![function],
        breaker: None,
    }];
    Catalog::new(CatalogView {
        apps,
        ..CatalogView::default()
    })
}

fn cron(text: &str, jitter: Option<Duration>) -> Trigger {
    Trigger::Cron {
        cron: text.to_owned(),
        jitter,
    }
}

#[test]
fn ticks_come_once_and_on_time() {
    let mut plan = plan();
    follow(&mut plan, catalog(1, vec![cron("*/5 * * * *", None)]), NOW);
    let first = plan.next().expect("a tick");
    assert_eq!(first, NOW.after(Duration::from_secs(300)));
    assert!(plan.due(NOW.after(Duration::from_secs(299))).is_empty());
    let fired = plan.due(first);
    assert_eq!(fired.len(), 1);
    assert!(plan.due(first).is_empty());
    let data = &fired[0].event.body.to_tree()["data"];
    assert_eq!(data["cron"], "*/5 * * * *");
    assert_eq!(data["scheduledAt"], "2026-01-01T00:05:00.000Z");
    assert_eq!(fired[0].event.external_id, "2026-01-01T00:05:00.000Z");
}

#[test]
fn two_instances_make_the_same_event_of_a_tick() {
    let fired = || {
        let mut plan = plan();
        follow(
            &mut plan,
            catalog(1, vec![cron("0 * * * *", Some(Duration::from_secs(60)))]),
            NOW,
        );
        let (at, mut fired) = next_fired(&mut plan);
        fired.remove(0).into_accept(at)
    };
    let (one, two) = (fired(), fired());
    assert_eq!(one.event.id, two.event.id);
    assert_eq!(one.runs[0].state.id, two.runs[0].state.id);
}

#[test]
fn jitter_delays_within_its_bounds() {
    let mut plan = plan();
    follow(
        &mut plan,
        catalog(1, vec![cron("0 * * * *", Some(Duration::from_secs(60)))]),
        NOW,
    );
    let delay = next_fired(&mut plan).0.since(NOW.after(Duration::from_secs(3600)));
    assert!(
        delay >= Duration::from_secs(1) && delay < Duration::from_secs(60),
        "{delay:?}"
    );
}

#[test]
fn a_function_that_changes_starts_over_and_one_that_goes_ticks_no_more() {
    let mut plan = plan();
    follow(&mut plan, catalog(1, vec![cron("0 * * * *", None)]), NOW);
    follow(&mut plan, catalog(2, vec![cron("30 * * * *", None)]), NOW);
    assert_eq!(plan.next(), Some(NOW.after(Duration::from_secs(1800))));
    follow(&mut plan, catalog(3, Vec::new()), NOW);
    assert_eq!(plan.next(), None);
}

#[test]
fn schedules_of_one_function_are_independent() {
    let mut plan = plan();
    follow(
        &mut plan,
        catalog(1, vec![cron("0 * * * *", None), cron("0 */1 * * *", None)]),
        NOW,
    );
    let at = plan.next().expect("a tick");
    let fired = plan.due(at);
    assert_eq!(fired.len(), 2);
    assert_ne!(fired[0].event.id, fired[1].event.id);
}

#[test]
fn a_tick_that_waits_for_its_jitter_outlives_a_change_of_its_function() {
    let hourly = |jitter| cron("0 * * * *", Some(Duration::from_secs(jitter)));
    let mut plan = plan();
    follow(&mut plan, catalog(1, vec![hourly(600)]), NOW);
    let came_at = NOW.after(Duration::from_secs(3_600));
    assert!(plan.due(came_at).is_empty(), "it has a delay");
    let fires_at = plan.next().expect("a tick");
    follow(&mut plan, catalog(2, vec![hourly(600)]), came_at);
    assert_eq!(plan.next(), Some(fires_at));
    assert_eq!(plan.due(fires_at).len(), 1);
    assert!(plan.next().expect("a tick") > fires_at, "and the next one follows");

    let next = plan.next().expect("a tick");
    follow(&mut plan, catalog(3, vec![cron("30 * * * *", None)]), next);
    let half_past = plan.next().expect("a tick").as_millis() % 3_600_000;
    assert_eq!(half_past, 1_800_000, "of another schedule nothing is left");
}

#[test]
fn a_tick_asks_for_its_run_like_any_event() {
    let fire = |key: &str| {
        let mut function = function(1, vec![cron("*/5 * * * *", None)]);
        function.flow.rate_limit = Some(RateLimit {
            limit: 1,
            period: Duration::from_secs(600),
            key: Some(key.to_owned()),
            idempotency: false,
        });
        let mut plan = plan();
        follow(&mut plan, with(function), NOW);
        let (at, mut fired) = next_fired(&mut plan);
        fired.remove(0).into_accept(at)
    };
    let accept = fire("event.name");
    let rate = accept.runs[0].rate.as_ref().expect("it has to pass");
    assert_eq!(rate.at, NOW.after(Duration::from_secs(300)));
    let accept = fire("event.ts > duration('1h')");
    assert_eq!(accept.runs, []);
    assert_eq!(accept.skips[0].reason, SkipReason::ExpressionError);
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// The mark of the one schedule, as the plan would have it written.
fn mark(plan: &Plan) -> CronMark {
    plan.notes().marks().pop().expect("a mark")
}

/// A plan of one schedule that goes on from a mark.
fn resumed(text: &str, catch_up: CatchUp, mark: CronMark, now: Timestamp) -> Plan {
    let mut plan = Plan::new(catch_up);
    plan.follow(Arc::new(catalog(1, vec![cron(text, None)])), vec![mark], now);
    plan
}

fn fired(plan: &mut Plan, now: Timestamp) -> Vec<Timestamp> {
    plan.due(now).iter().map(|fired| fired.at).collect()
}

#[test]
fn a_schedule_is_marked_when_it_is_known_and_with_its_ticks_only() {
    let mut plan = plan();
    follow(&mut plan, catalog(1, vec![cron("0 * * * *", None)]), NOW);
    assert_eq!(
        (mark(&plan).since, mark(&plan).through, mark(&plan).ended),
        (NOW, NOW, None)
    );
    plan.noted();
    assert!(plan.due(NOW.after(minutes(59))).is_empty());
    assert!(plan.notes().is_empty());
    let tick = NOW.after(minutes(60));
    assert_eq!(plan.due(tick).len(), 1);
    assert_eq!((mark(&plan).since, mark(&plan).through), (NOW, tick));
    assert!(plan.notes().gaps.is_empty());
}

#[test]
fn a_slot_that_waits_for_its_jitter_is_not_marked_as_dealt_with() {
    let jitter = Some(minutes(5));
    let mut plan = plan();
    follow(&mut plan, catalog(1, vec![cron("* * * * *", jitter)]), NOW);
    let end = NOW.after(minutes(30));
    let mut all = Vec::new();
    while let Some(now) = plan.next().filter(|next| *next <= end) {
        for tick in plan.due(now) {
            assert_eq!(tick.event.ts, now, "each fires at its own time");
            all.push(tick.at);
        }
        let waiting = (1..=30).map(|minute| NOW.after(minutes(minute)));
        let first = waiting.filter(|at| *at <= now).find(|at| !all.contains(at));
        assert!(first.is_none_or(|first| mark(&plan).through < first), "{now}");
    }
    all.sort();
    let expected: Vec<_> = (1..=25).map(|minute| NOW.after(minutes(minute))).collect();
    assert_eq!(all[..25], expected, "none is passed over for another one's jitter");
}

#[test]
fn what_was_not_marked_is_looked_at_again_and_is_the_same() {
    let mut plan = plan();
    follow(&mut plan, catalog(1, vec![cron("0 * * * *", None)]), NOW);
    let before = mark(&plan);
    let tick = NOW.after(minutes(60));
    let first = plan.due(tick).remove(0).event.id;
    let mut again = resumed("0 * * * *", CatchUp::default(), before, tick.after(minutes(1)));
    assert_eq!(again.due(tick.after(minutes(1))).remove(0).event.id, first);
}

#[test]
fn a_slot_has_one_event_whatever_its_jitter() {
    let event = |jitter| {
        let mut plan = plan();
        follow(&mut plan, catalog(1, vec![cron("0 * * * *", jitter)]), NOW);
        plan.due(NOW.after(minutes(66))).remove(0).event.id
    };
    assert_eq!(event(None), event(Some(minutes(5))));
}

#[test]
fn missed_slots_are_dealt_with_as_the_policy_says() {
    let down = NOW.after(minutes(60 * 5 + 30));
    let begun = {
        let mut plan = plan();
        follow(&mut plan, catalog(1, vec![cron("0 * * * *", None)]), NOW);
        mark(&plan)
    };
    let hour = |hour: u64| NOW.after(minutes(60 * hour));
    let window = minutes(200);
    let cases = [
        (Policy::Nothing, vec![], vec![(hour(1), hour(5), GapReason::Down)]),
        (
            Policy::Last,
            vec![hour(5)],
            vec![
                (hour(1), hour(2), GapReason::Down),
                (hour(3), hour(4), GapReason::Superseded),
            ],
        ),
        (
            Policy::All,
            vec![hour(3), hour(4), hour(5)],
            vec![(hour(1), hour(2), GapReason::Down)],
        ),
    ];
    for (policy, fires, skips) in cases {
        let mut plan = resumed("0 * * * *", CatchUp { policy, window }, begun.clone(), down);
        assert_eq!(fired(&mut plan, down), fires, "{policy:?}");
        let gaps: Vec<_> = plan
            .notes()
            .gaps
            .iter()
            .map(|gap| (gap.first, gap.last, gap.reason))
            .collect();
        assert_eq!(gaps, skips, "{policy:?}");
        assert_eq!(mark(&plan).through, hour(5));
        assert_eq!(plan.next(), Some(hour(6)));
    }
}

#[test]
fn a_year_of_minutes_is_no_long_work() {
    let begun = CronMark {
        function: FunctionId::derive("app", "f"),
        schedule: "* * * * *".to_owned(),
        since: NOW,
        through: NOW,
        ended: None,
    };
    let back = NOW.after(minutes(60 * 24 * 365));
    let catch_up = |policy| CatchUp {
        policy,
        window: minutes(60 * 24),
    };
    let mut plan = resumed("* * * * *", catch_up(Policy::All), begun.clone(), back);
    let all = fired(&mut plan, back);
    assert_eq!(all.len(), MOST + 1, "so many missed ones, and the one of this minute");
    assert!(all.is_sorted());
    assert_eq!(all.last(), Some(&back));
    let of = |plan: &Plan, reason| {
        let mut gaps = plan.notes().gaps.iter().filter(|gap| gap.reason == reason);
        let (first, last) = (
            gaps.clone().map(|gap| gap.first).min()?,
            gaps.clone().map(|gap| gap.last).max()?,
        );
        // What is between two gaps of a kind would be told as unknown.
        assert!(gaps.all(|gap| gap.last >= first));
        Some((first, last))
    };
    let first = NOW.after(minutes(1));
    let before = |slot: Timestamp| slot.before(minutes(1));
    assert_eq!(of(&plan, GapReason::Down), Some((first, before(all[0]))));

    let mut plan = resumed("* * * * *", catch_up(Policy::Last), begun, back);
    assert_eq!(fired(&mut plan, back), [back]);
    let window = back.before(minutes(60 * 24));
    assert_eq!(of(&plan, GapReason::Superseded), Some((window, before(back))));
    let down = of(&plan, GapReason::Down).expect("a gap");
    assert!(down.0 == first && down.1 < window && down.1 >= before(window));
}

#[test]
fn a_clock_that_was_set_back_looks_at_its_slots_again() {
    let mut plan = plan();
    follow(&mut plan, catalog(1, vec![cron("0 * * * *", None)]), NOW);
    // By mistake a day ahead, which is noticed an hour later.
    let wrong = NOW.after(minutes(60 * 24));
    assert_eq!(fired(&mut plan, wrong), [wrong]);
    let right = NOW.after(minutes(61));
    assert!(fired(&mut plan, right).is_empty());
    assert_eq!(fired(&mut plan, NOW.after(minutes(120))), [NOW.after(minutes(120))]);
    // A mark of the future holds nothing up either.
    let mark = CronMark {
        through: wrong,
        ..mark(&plan)
    };
    let plan = resumed("0 * * * *", CatchUp::default(), mark, right);
    assert_eq!(plan.next(), Some(NOW.after(minutes(120))));
}

#[test]
fn a_function_that_was_archived_goes_on_and_says_so() {
    let mut plan = plan();
    let with = |archived: bool| {
        let mut view = catalog(1, vec![cron("0 * * * *", None)]).apps().to_vec();
        view[0].functions[0].archived = archived;
        Catalog::new(CatalogView {
            apps: view,
            ..CatalogView::default()
        })
    };
    follow(&mut plan, with(false), NOW);
    let (gone, back) = (NOW.after(minutes(30)), NOW.after(minutes(150)));
    follow(&mut plan, with(true), gone);
    let ended = mark(&plan);
    assert_eq!(
        ended.ended,
        Some(CronEnd {
            at: gone,
            archived: true
        })
    );
    plan.noted();
    plan.follow(Arc::new(with(false)), vec![ended], back);
    assert!(plan.due(back).is_empty(), "nobody was meant to fire them");
    assert_eq!((mark(&plan).since, mark(&plan).ended), (NOW, None));
    let gap = plan.notes().gaps.clone().pop().expect("a gap");
    assert_eq!((gap.first, gap.last, gap.reason), (gone, back, GapReason::Archived));
}

#[test]
fn a_schedule_that_comes_back_begins_anew() {
    let mut plan = plan();
    let [hourly, daily] = [cron("0 * * * *", None), cron("0 0 * * *", None)];
    follow(&mut plan, catalog(1, vec![hourly.clone()]), NOW);
    let changed = NOW.after(minutes(30));
    follow(&mut plan, catalog(2, vec![daily.clone()]), changed);
    let marks = plan.notes().marks();
    let ends: Vec<_> = marks
        .iter()
        .map(|mark| (mark.schedule.as_str(), mark.ended.map(|end| end.at)))
        .collect();
    assert_eq!(ends, [("0 * * * *", Some(changed)), ("0 0 * * *", None)]);
    let back = NOW.after(minutes(90));
    plan.follow(Arc::new(catalog(3, vec![hourly, daily])), marks, back);
    assert!(plan.due(back).is_empty());
    assert_eq!(
        mark(&plan).since,
        NOW.after(minutes(30)),
        "of the daily one, which stays"
    );
    assert_eq!(plan.notes().marks()[0].since, back);
    assert!(plan.notes().gaps.is_empty());
}

#[test]
fn what_was_lost_while_nobody_was_there_ends_at_the_start() {
    let mark = CronMark {
        function: FunctionId::derive("app", "f"),
        schedule: "0 * * * *".to_owned(),
        since: NOW,
        through: NOW,
        ended: None,
    };
    let plan = resumed("30 * * * *", CatchUp::default(), mark, NOW.after(minutes(45)));
    let marks = plan.notes().marks();
    let at = NOW.after(minutes(45));
    assert_eq!(marks[0].ended, Some(CronEnd { at, archived: false }));
    assert_eq!(
        (marks[1].since, plan.next()),
        (at, Some(NOW.after(minutes(90)))),
        "a changed schedule catches up on nothing"
    );
}

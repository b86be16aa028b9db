//! The plan of ticks.

use std::time::Duration;

use super::*;
use crate::domain::{App, FlowControl, Json, RateLimit, SkipReason};
use crate::ports::{AppView, CatalogView};

const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000); // 2026-01-01T00:00:00Z

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
        archived: false,
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
    }];
    Catalog::new(CatalogView { revision: 0, apps })
}

fn cron(text: &str, jitter: Option<Duration>) -> Trigger {
    Trigger::Cron {
        cron: text.to_owned(),
        jitter,
    }
}

#[test]
fn ticks_come_once_and_on_time() {
    let mut plan = Plan::default();
    plan.follow(&catalog(1, vec![cron("*/5 * * * *", None)]), NOW);
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
        let mut plan = Plan::default();
        plan.follow(&catalog(1, vec![cron("0 * * * *", Some(Duration::from_secs(60)))]), NOW);
        let at = plan.next().expect("a tick");
        plan.due(at).remove(0).into_accept(at)
    };
    let (one, two) = (fired(), fired());
    assert_eq!(one.event.id, two.event.id);
    assert_eq!(one.runs[0].state.id, two.runs[0].state.id);
}

#[test]
fn jitter_delays_within_its_bounds() {
    let mut plan = Plan::default();
    plan.follow(&catalog(1, vec![cron("0 * * * *", Some(Duration::from_secs(60)))]), NOW);
    let delay = plan.next().expect("a tick").since(NOW.after(Duration::from_secs(3600)));
    assert!(
        delay >= Duration::from_secs(1) && delay < Duration::from_secs(60),
        "{delay:?}"
    );
}

#[test]
fn a_function_that_changes_starts_over_and_one_that_goes_ticks_no_more() {
    let mut plan = Plan::default();
    plan.follow(&catalog(1, vec![cron("0 * * * *", None)]), NOW);
    plan.follow(&catalog(2, vec![cron("30 * * * *", None)]), NOW);
    assert_eq!(plan.next(), Some(NOW.after(Duration::from_secs(1800))));
    plan.follow(&catalog(3, Vec::new()), NOW);
    assert_eq!(plan.next(), None);
}

#[test]
fn schedules_of_one_function_are_independent() {
    let mut plan = Plan::default();
    plan.follow(
        &catalog(1, vec![cron("0 * * * *", None), cron("0 */1 * * *", None)]),
        NOW,
    );
    let at = plan.next().expect("a tick");
    let fired = plan.due(at);
    assert_eq!(fired.len(), 2);
    assert_ne!(fired[0].event.id, fired[1].event.id);
}

#[test]
fn ticks_missed_are_not_made_up_for() {
    let mut plan = Plan::default();
    plan.follow(&catalog(1, vec![cron("* * * * *", None)]), NOW);
    let later = NOW.after(Duration::from_secs(3600));
    assert_eq!(plan.due(later).len(), 1, "the one that was next");
    assert_eq!(plan.next(), Some(later.after(Duration::from_secs(60))));
}

#[test]
fn a_tick_that_waits_for_its_jitter_outlives_a_change_of_its_function() {
    let hourly = |jitter| cron("0 * * * *", Some(Duration::from_secs(jitter)));
    let mut plan = Plan::default();
    plan.follow(&catalog(1, vec![hourly(600)]), NOW);
    let fires_at = plan.next().expect("a tick");
    let came_at = NOW.after(Duration::from_secs(3_600));
    assert!(fires_at > came_at, "it has a delay: {fires_at:?}");
    plan.follow(&catalog(2, vec![hourly(600)]), came_at);
    assert_eq!(plan.next(), Some(fires_at));
    assert_eq!(plan.due(fires_at).len(), 1);
    assert!(plan.next().expect("a tick") > fires_at, "and the next one follows");

    plan.follow(
        &catalog(3, vec![cron("30 * * * *", None)]),
        plan.next().expect("a tick"),
    );
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
        let mut plan = Plan::default();
        plan.follow(&with(function), NOW);
        let at = plan.next().expect("a tick");
        plan.due(at).remove(0).into_accept(at)
    };
    let accept = fire("event.name");
    let rate = accept.runs[0].rate.as_ref().expect("it has to pass");
    assert_eq!(rate.at, NOW.after(Duration::from_secs(300)));
    let accept = fire("event.ts > duration('1h')");
    assert_eq!(accept.runs, []);
    assert_eq!(accept.skips[0].reason, SkipReason::ExpressionError);
}

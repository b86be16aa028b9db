//! Slots while nobody is there, and what people are told of them.
//!
//! Tests begin at 15:06:40.

use super::*;
use crate::domain::{Event, FunctionId, RunStatus, Skip, SkipReason, Timestamp};
use crate::scheduler::catch_up::{CatchUp, Policy};
use crate::scheduler::ledger::{Outcome, PastSlot, SlotFilter, SlotPage};
use crate::testkit::EPOCH;

const MINUTE: Duration = Duration::from_secs(60);

fn settings(policy: Policy) -> Settings {
    let window = MINUTE * 60;
    Settings {
        catch_up: CatchUp { policy, window },
        ..Settings::default()
    }
}

/// The time of day of a slot: `15:10`.
fn clock(at: Timestamp) -> String {
    at.to_rfc3339()[11..16].to_owned()
}

/// The slots that have fired, in order.
fn fired(rig: &Rig) -> Vec<String> {
    let events = rig.store.events();
    let mut ticks: Vec<_> = events.iter().filter(|event| event.name == Event::SCHEDULED).collect();
    ticks.sort_by_key(|event| event.id);
    assert_eq!(rig.store.runs().len(), ticks.len(), "each tick has its run");
    ticks.iter().map(|event| event.external_id[11..16].to_owned()).collect()
}

async fn slots(rig: &Rig, filter: SlotFilter) -> SlotPage {
    let function = FunctionId::derive("shop", "nightly");
    let page = rig.orchestrator.slots(function, filter).await.expect("reads");
    page.expect("it is known")
}

/// What is told of all slots, from new to old.
async fn told(rig: &Rig) -> Vec<String> {
    let filter = SlotFilter {
        limit: 100,
        ..SlotFilter::default()
    };
    let page = slots(rig, filter).await;
    let line = |past: &PastSlot| {
        let outcome = match &past.outcome {
            Outcome::Ran { late: None, .. } => "ran".to_owned(),
            Outcome::Ran { late: Some(late), .. } => format!("late {}", late.as_secs()),
            Outcome::Skipped { reason, .. } => (*reason).to_owned(),
            Outcome::Due => "due".to_owned(),
            Outcome::Unknown { expired } => format!("unknown {expired}"),
        };
        format!("{} {outcome}", clock(past.slot.at))
    };
    page.slots.iter().map(line).collect()
}

#[rstest]
#[case::a_moment(Policy::Nothing, 1, &[], &["15:15 ran", "15:10 ran"])]
#[case::nothing(Policy::Nothing, 720, &[], &["15:25 down", "15:20 down", "15:15 ran", "15:10 ran"])]
#[case::last(Policy::Last, 720, &["15:25"], &["15:25 late 220", "15:20 superseded", "15:15 ran", "15:10 ran"])]
#[case::all(Policy::All, 720, &["15:20", "15:25"], &["15:25 late 220", "15:20 late 520", "15:15 ran", "15:10 ran"])]
#[case::one_was_missed(Policy::Last, 400, &["15:20"], &["15:20 late 200", "15:15 ran", "15:10 ran"])]
#[case::one_is_on_time(Policy::Nothing, 205, &["15:20"], &["15:20 ran", "15:15 ran", "15:10 ran"])]
fn after_a_downtime_the_policy_decides(
    #[case] policy: Policy,
    #[case] seconds: u64,
    #[case] made_up: &[&str],
    #[case] expected: &[&str],
) {
    virtually(async {
        let rig = Rig::with(vec![cron("*/5 * * * *")], idle(), settings(policy)).await;
        rig.pass(MINUTE * 10).await;
        let rig = rig.restarted(Duration::from_secs(seconds), settings(policy)).await;
        rig.pass(MINUTE).await;
        assert_eq!(fired(&rig), [&["15:10", "15:15"], made_up].concat());
        assert_eq!(told(&rig).await, expected);
        assert!(
            rig.store.runs().iter().all(|run| run.status.is_final()),
            "they are run at once"
        );
    });
}

#[test]
fn a_long_downtime_is_made_up_for_within_the_window() {
    virtually(async {
        let rig = Rig::with(vec![cron("*/5 * * * *")], idle(), settings(Policy::All)).await;
        let rig = rig.restarted(MINUTE * 60 * 24, settings(Policy::All)).await;
        rig.pass(Duration::from_secs(1)).await;
        let slots = fired(&rig);
        assert_eq!((slots.len(), &*slots[0], &*slots[11]), (12, "14:10", "15:05"));
        let told = told(&rig).await;
        assert_eq!((&*told[0], &*told[12]), ("15:05 late 100", "14:05 down"));
    });
}

#[test]
fn restarts_in_between_repeat_nothing_and_pass_over_nothing() {
    virtually(async {
        let mut rig = Rig::with(vec![cron("*/5 * * * *")], idle(), settings(Policy::All)).await;
        // Now up, now down, for seven minutes each; and now and then a note is lost.
        for round in 0..10 {
            rig.store.fail_cron_notes(round % 2);
            rig.pass(MINUTE * 7).await;
            rig = rig.restarted(MINUTE * 7, settings(Policy::All)).await;
        }
        rig.pass(MINUTE).await;
        let slots = fired(&rig);
        assert_eq!(slots.len(), 28, "every five minutes of 141: {slots:?}");
        assert!(slots.is_sorted_by(|a, b| a < b));
    });
}

#[test]
fn of_two_nodes_one_makes_up_for_a_slot() {
    virtually(async {
        for policy in [Policy::Last, Policy::All] {
            let one = Rig::with(vec![cron("*/5 * * * *")], idle(), settings(policy)).await;
            let other = one.beside(settings(policy)).await;
            one.pass(MINUTE * 10).await;
            other.within(other.orchestrator.drain(Duration::from_secs(1))).await;
            drop(other);
            let one = one.restarted(MINUTE * 12, settings(policy)).await;
            let other = one.beside(settings(policy)).await;
            other.pass(MINUTE * 10).await;
            let mut expected = vec!["15:10", "15:15", "15:20", "15:25", "15:30", "15:35"];
            if policy == Policy::Last {
                expected.remove(2);
            }
            assert_eq!(fired(&one), expected);
            // A third one comes when all has been dealt with.
            let third = one.beside(settings(policy)).await;
            third.pass(MINUTE).await;
            assert_eq!(fired(&third), expected);
        }
    });
}

#[test]
fn what_was_not_known_is_not_missed() {
    virtually(async {
        let rig = Rig::new(vec![cron("*/5 * * * *")], idle()).await;
        rig.pass(MINUTE * 10).await;
        rig.store.replace_functions(vec![cron("*/4 * * * *")]);
        let rig = rig.restarted(MINUTE * 30, settings(Policy::All)).await;
        rig.pass(MINUTE * 5).await;
        assert_eq!(
            fired(&rig),
            ["15:10", "15:15", "15:48"],
            "a changed schedule catches up on nothing"
        );
        // Of the one that went while nobody was there, it is not known.
        let told = told(&rig).await;
        assert_eq!(told[..2], ["15:48 ran", "15:45 unknown false"]);
    });
}

#[test]
fn a_note_is_written_with_each_tick_and_not_otherwise() {
    virtually(async {
        let rig = Rig::new(vec![cron("*/5 * * * *")], idle()).await;
        rig.pass(MINUTE * 60).await;
        assert_eq!(rig.store.cron_notes(), 1 + 12, "P7");
    });
}

#[rstest]
#[case::ahead(7_200, &["15:10", "17:15", "17:20", "17:25"])]
#[case::back(-7_200, &["13:20", "13:25", "15:10"])]
fn a_clock_that_is_set_while_nobody_is_there(#[case] by: i64, #[case] expected: &[&str]) {
    virtually(async {
        let rig = Rig::new(vec![cron("*/5 * * * *")], idle()).await;
        rig.pass(MINUTE * 7).await;
        let clock = Arc::clone(&rig.clock);
        let set = async move {
            tokio::time::sleep(MINUTE * 2).await;
            clock.set_ahead(by);
        };
        let (rig, ()) = tokio::join!(rig.restarted(MINUTE * 5, settings(Policy::Last)), set);
        rig.pass(MINUTE * 7).await;
        assert_eq!(fired(&rig), expected);
    });
}

#[test]
fn a_machine_that_slept_makes_up_like_one_that_was_down() {
    virtually(async {
        let rig = Rig::new(vec![cron("*/5 * * * *")], idle()).await;
        rig.pass(MINUTE * 5).await;
        rig.clock.set_ahead(1_800);
        rig.pass(MINUTE * 5).await;
        assert_eq!(fired(&rig), ["15:10", "15:40", "15:45"]);
        let told = told(&rig).await;
        assert_eq!(told[..3], ["15:45 ran", "15:40 late 100", "15:35 superseded"]);
    });
}

#[test]
fn jitter_outlives_a_restart() {
    virtually(async {
        let mut function = cron("*/10 * * * *");
        function.triggers = vec![Trigger::Cron {
            cron: "*/10 * * * *".to_owned(),
            jitter: Some(MINUTE * 5),
        }];
        let rig = Rig::with(vec![function], idle(), settings(Policy::Nothing)).await;
        let page = slots(
            &rig,
            SlotFilter {
                limit: 9,
                ..SlotFilter::default()
            },
        )
        .await;
        assert_eq!((page.slots.len(), page.upcoming.len()), (0, 10));
        let next = page.upcoming[0].clone();
        assert!(next.fires_at > next.at.after(Duration::from_secs(2)), "{next:?}");
        // Down when the slot comes, and up again before it fires.
        let downtime = next.at.since(rig.now()) + Duration::from_secs(1);
        let rig = rig.restarted(downtime, settings(Policy::Nothing)).await;
        let page = slots(
            &rig,
            SlotFilter {
                limit: 9,
                ..SlotFilter::default()
            },
        )
        .await;
        assert_eq!((page.slots.len(), &page.upcoming[0]), (0, &next), "it is still to come");
        rig.pass(MINUTE * 5).await;
        assert_eq!(fired(&rig), ["15:10"]);
        assert_eq!(told(&rig).await, ["15:10 ran"]);
        assert_eq!(rig.store.events().pop().map(|event| event.ts), Some(next.fires_at));
    });
}

#[test]
fn slots_are_told_in_pages() {
    virtually(async {
        let mut function = cron("*/10 * * * *");
        let every = |cron: &str| Trigger::Cron {
            cron: cron.to_owned(),
            jitter: None,
        };
        // Some of their slots are at the same time.
        function.triggers = ["*/10 * * * *", "*/15 * * * *", "*/20 * * * *"].map(every).to_vec();
        let rig = Rig::new(vec![function], idle()).await;
        rig.pass(MINUTE * 60).await;
        let all = slots(
            &rig,
            SlotFilter {
                limit: 100,
                ..SlotFilter::default()
            },
        )
        .await;
        assert_eq!((all.slots.len(), all.cursor), (6 + 4 + 3, None));
        assert!(all.slots.is_sorted_by_key(|past| std::cmp::Reverse(past.slot.at)));
        for limit in 1..13 {
            let mut found = Vec::new();
            let mut before = None;
            loop {
                let page = slots(
                    &rig,
                    SlotFilter {
                        before,
                        limit,
                        ..SlotFilter::default()
                    },
                )
                .await;
                assert!(page.slots.len() <= limit);
                found.extend(page.slots);
                before = page.cursor.map(|cursor| cursor.to_string().parse().expect("a cursor"));
                if before.is_none() {
                    break;
                }
            }
            assert_eq!(found, all.slots, "in pages of {limit}");
        }
        let between = SlotFilter {
            from: Some(EPOCH.after(Duration::from_secs(200))),
            until: Some(EPOCH.after(Duration::from_secs(1_400))),
            limit: 100,
            before: None,
        };
        let times: Vec<_> = slots(&rig, between)
            .await
            .slots
            .iter()
            .map(|past| clock(past.slot.at))
            .collect();
        assert_eq!(
            times,
            ["15:20", "15:20", "15:15", "15:10"],
            "from 15:10 until before 15:30"
        );
        let next: Vec<_> = all.upcoming.iter().map(|slot| clock(slot.at)).collect();
        assert_eq!(next[..4], ["16:10", "16:15", "16:20", "16:20"]);
    });
}

#[test]
fn a_slot_that_nobody_has_dealt_with_is_due() {
    virtually(async {
        let rig = Rig::new(vec![cron("*/5 * * * *")], idle()).await;
        rig.pass(MINUTE).await;
        rig.store.fail(&[Fault::Hang]);
        rig.pass(MINUTE * 4).await;
        assert_eq!(told(&rig).await, ["15:10 due"]);
        rig.store.thaw();
        rig.pass(MINUTE).await;
        assert_eq!(told(&rig).await, ["15:10 ran"]);
    });
}

#[test]
fn what_is_not_kept_is_not_made_up() {
    virtually(async {
        let mut settings = settings(Policy::Last);
        settings.retention.events = MINUTE * 10;
        let rig = Rig::with(vec![cron("*/5 * * * *")], idle(), settings).await;
        rig.pass(MINUTE * 15).await;
        let filter = SlotFilter {
            limit: 9,
            ..SlotFilter::default()
        };
        let newest = slots(&rig, filter).await.slots.remove(0);
        let Outcome::Ran { event, status, .. } = newest.outcome else {
            panic!("{newest:?}");
        };
        assert!(status.is_some_and(RunStatus::is_final));
        rig.store.skip_run(Skip {
            event,
            function: Some(FunctionId::derive("shop", "nightly")),
            reason: SkipReason::Duplicate,
            detail: String::new(),
        });
        rig.store.expire(false);
        assert_eq!(told(&rig).await, ["15:20 duplicate", "15:15 ran", "15:10 ran"]);
        let page = slots(&rig, filter).await;
        assert!(
            matches!(page.slots[1].outcome, Outcome::Ran { status: None, .. }),
            "{page:?}"
        );
        rig.store.expire(true);
        assert_eq!(
            told(&rig).await,
            ["15:20 unknown false", "15:15 unknown false", "15:10 unknown true"]
        );
    });
}

#[rstest]
#[case("1750000000000", false)]
#[case("1750000000000-2", true)]
#[case("-2", false)]
#[case("1750000000000--2", false)]
#[case("1750000000000-1000", false)]
#[case("-1-1", false)]
#[case("99999999999999999-1", false)]
#[case("", false)]
fn a_cursor_is_what_a_page_gave(#[case] text: &str, #[case] is_one: bool) {
    let parsed = text.parse::<crate::scheduler::ledger::SlotCursor>();
    assert_eq!(parsed.is_ok(), is_one);
    assert!(parsed.is_err() || parsed.expect("one").to_string() == text);
}

//! Cron: grammar, next fires, clock changes, jitter.

use super::at;
use crate::expression::cron::{self, CronError, Schedule};
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use rstest::rstest;
use std::collections::HashSet;
use std::time::Duration;

fn schedule(text: &str) -> Schedule {
    Schedule::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn fires(text: &str, from: &str, count: usize) -> Vec<DateTime<Utc>> {
    let schedule = schedule(text);
    std::iter::successors(schedule.next_after(at(from)), |fire| schedule.next_after(*fire))
        .take(count)
        .collect()
}

#[rstest]
#[case("* * * * *", "2024-05-06T07:08:09Z", "2024-05-06T07:09:00Z")]
#[case("* * * * *", "2024-05-06T07:09:00Z", "2024-05-06T07:10:00Z")]
#[case("*/15 * * * *", "2024-05-06T07:08:09Z", "2024-05-06T07:15:00Z")]
#[case("5/20 * * * *", "2024-05-06T07:08:09Z", "2024-05-06T07:25:00Z")]
#[case("0-10/5 9 * * *", "2024-05-06T09:05:00Z", "2024-05-06T09:10:00Z")]
#[case("1,31 * * * *", "2024-05-06T07:08:09Z", "2024-05-06T07:31:00Z")]
#[case("0 9 * * 1", "2024-05-06T09:00:00Z", "2024-05-13T09:00:00Z")]
#[case("0 9 * * MON", "2024-05-06T09:00:00Z", "2024-05-13T09:00:00Z")]
#[case("0 9 * * mon-fri", "2024-05-10T09:00:00Z", "2024-05-13T09:00:00Z")]
#[case("0 0 * * 0", "2024-05-06T00:00:00Z", "2024-05-12T00:00:00Z")]
#[case("0 0 * * 7", "2024-05-06T00:00:00Z", "2024-05-12T00:00:00Z")]
#[case("0 0 * * SUN", "2024-05-06T00:00:00Z", "2024-05-12T00:00:00Z")]
#[case("0 0 1 jan *", "2024-05-06T00:00:00Z", "2025-01-01T00:00:00Z")]
#[case("0 0 1 JAN,JUL *", "2024-05-06T00:00:00Z", "2024-07-01T00:00:00Z")]
#[case("0 0 29 2 *", "2024-05-06T00:00:00Z", "2028-02-29T00:00:00Z")]
#[case("0 0 31 * *", "2024-05-31T00:00:00Z", "2024-07-31T00:00:00Z")]
#[case("0 0 ? * ?", "2024-05-06T00:00:00Z", "2024-05-07T00:00:00Z")]
// Both days restricted: either matches.
#[case("0 0 13 * 5", "2024-05-06T00:00:00Z", "2024-05-10T00:00:00Z")]
#[case("0 0 13 * 5", "2024-05-10T00:00:00Z", "2024-05-13T00:00:00Z")]
#[case("TZ=Europe/Paris 0 9 * * *", "2024-05-06T00:00:00Z", "2024-05-06T07:00:00Z")]
#[case("CRON_TZ=America/New_York 0 9 * * *", "2024-05-06T00:00:00Z", "2024-05-06T13:00:00Z")]
#[case("TZ=Asia/Kathmandu 0 0 * * *", "2024-05-06T00:00:00Z", "2024-05-06T18:15:00Z")]
#[case("  TZ=UTC   0  9  *  *  *  ", "2024-05-06T00:00:00Z", "2024-05-06T09:00:00Z")]
fn next_fires(#[case] text: &str, #[case] from: &str, #[case] expected: &str) {
    assert_eq!(schedule(text).next_after(at(from)), Some(at(expected)), "{text}");
}

#[rstest]
#[case("")]
#[case("* * * *")]
#[case("* * * * * *")]
#[case("0 * * * * * *")]
#[case("@daily")]
#[case("@every 5m")]
#[case("60 * * * *")]
#[case("* 24 * * *")]
#[case("* * 0 * *")]
#[case("* * 32 * *")]
#[case("* * * 13 *")]
#[case("* * * * 8")]
#[case("* * * foo *")]
#[case("5-1 * * * *")]
#[case("*/0 * * * *")]
#[case("/5 * * * *")]
#[case("1-2-3 * * * *")]
#[case("* * L * *")]
#[case("* * 15W * *")]
#[case("* * * * 5#2")]
#[case("* * * * FRIL")]
#[case("* * +1 * *")]
#[case("a b c d e")]
#[case("TZ=Europe/Paris")]
#[case("TZ=Europe/Paris @daily")]
fn bad_schedules(#[case] text: &str) {
    let error = Schedule::parse(text).unwrap_err();
    assert_eq!(error, CronError::Invalid(text.to_owned()));
    assert_eq!(error.to_string(), format!("'{text}' isn't a valid cron schedule"));
}

#[rstest]
fn an_unknown_zone_is_an_error() {
    let error = Schedule::parse("TZ=Mars/Olympus * * * * *").unwrap_err();
    assert_eq!(error, CronError::TimeZone("Mars/Olympus".to_owned()));
}

#[rstest]
fn a_schedule_has_at_most_255_bytes() {
    let list = vec!["1"; 124].join(",");
    assert!(Schedule::parse(&format!("{list} * * * *")).is_ok());
    assert_eq!(
        Schedule::parse(&format!("{list} * * * *  ")).unwrap_err(),
        CronError::TooLong
    );
}

#[rstest]
#[case("0 0 30 2 *")]
#[case("0 0 31 2,4,6,9,11 *")]
#[case("TZ=Europe/Paris 0 0 30 2 *")]
fn a_date_that_does_not_exist_never_fires(#[case] text: &str) {
    assert_eq!(schedule(text).next_after(at("2024-05-06T00:00:00Z")), None);
}

/// A job at a fixed time fires on each day of the year exactly once, whatever the clocks do.
#[rstest]
#[case("Europe/Paris")]
#[case("America/New_York")]
#[case("Australia/Lord_Howe")]
#[case("America/Sao_Paulo")]
#[case("UTC")]
fn a_daily_slot_fires_once_a_day(#[case] zone: &str, #[values("30 0", "30 1", "0 2", "30 2", "0 3")] time: &str) {
    let schedule = schedule(&format!("TZ={zone} {time} * * *"));
    let mut fire = at("2018-01-01T00:00:00Z");
    let mut days = HashSet::new();
    let end = at("2019-01-01T00:00:00Z");
    let mut count = 0;
    while let Some(next) = schedule.next_after(fire).filter(|next| *next < end) {
        assert!(next - fire <= TimeDelta::hours(48), "{next}");
        fire = next;
        count += 1;
        days.insert(fire.with_timezone(&schedule.zone()).ordinal());
    }
    assert_eq!(days.len(), count, "no day twice");
    assert!((364..=366).contains(&count), "{count}");
}

#[rstest]
fn a_skipped_slot_fires_when_the_clock_jumps() {
    // 02:00 becomes 03:00 at 01:00 UTC.
    let expected = ["2024-03-30T01:30:00Z", "2024-03-31T01:00:00Z", "2024-04-01T00:30:00Z"];
    let fires = fires("TZ=Europe/Paris 30 2 * * *", "2024-03-29T12:00:00Z", 3);
    assert_eq!(fires, expected.map(at));
}

#[rstest]
fn a_repeated_slot_fires_once() {
    // 03:00 becomes 02:00 at 01:00 UTC, so 02:30 is at 00:30 and 01:30 UTC.
    let expected = ["2024-10-26T00:30:00Z", "2024-10-27T00:30:00Z", "2024-10-28T01:30:00Z"];
    let fires = fires("TZ=Europe/Paris 30 2 * * *", "2024-10-25T12:00:00Z", 3);
    assert_eq!(fires, expected.map(at));
}

#[rstest]
#[case("2024-03-31T00:10:00Z")]
#[case("2024-10-27T00:10:00Z")]
fn an_interval_keeps_its_pace_through_clock_changes(#[case] from: &str) {
    let fires = fires("TZ=Europe/Paris */15 * * * *", from, 12);
    assert!(
        fires.windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::minutes(15)),
        "{fires:?}"
    );
}

#[rstest]
#[case(0, None)]
#[case(500, None)]
#[case(1_000, None)]
#[case(30_000, Some(30_000))]
#[case(300_000, Some(300_000))]
fn jitter(#[case] millis: u64, #[case] below: Option<u64>) {
    let bound = Duration::from_millis(millis);
    let offsets: HashSet<_> = (0..50)
        .map(|tick| cron::jitter(&format!("job-{tick}"), bound))
        .collect();
    match below {
        None => assert_eq!(offsets, HashSet::from([Duration::ZERO])),
        Some(below) => {
            assert!(offsets.len() > 40, "seeds make a difference");
            let allowed = Duration::from_secs(1)..Duration::from_millis(below);
            assert!(offsets.iter().all(|offset| allowed.contains(offset)));
        }
    }
}

/// Zones whose clocks change by an hour, by half an hour, at midnight, or in winter.
const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Paris",
    "Europe/Dublin",
    "America/New_York",
    "America/Havana",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Chatham",
];

/// A year of fires.
fn year(schedule: &Schedule, year: i32) -> Vec<DateTime<Utc>> {
    let [from, end] = [year, year + 1].map(|year| at(&format!("{year}-01-01T00:00:00Z")));
    std::iter::successors(schedule.next_after(from), |fire| schedule.next_after(*fire))
        .take_while(|fire| *fire < end)
        .collect()
}

/// Of a schedule with a fixed time: each local day that it names has one fire, at that time or, if the clock skips it, at the
/// first instant after it.
#[rstest]
fn a_fixed_time_fires_once_for_each_local_slot(
    #[values(0, 1, 2, 3, 4, 5, 6, 7)] zone: usize,
    #[values((0, 0), (0, 30), (1, 0), (1, 45), (2, 15), (2, 45), (3, 0), (23, 59))] (hour, minute): (u32, u32),
) {
    let zone = ZONES[zone];
    let schedule = schedule(&format!("TZ={zone} {minute} {hour} * * *"));
    let fires = year(&schedule, 2025);
    assert!(fires.is_sorted_by(|a, b| a < b), "they strictly rise");
    let local: Vec<_> = fires
        .iter()
        .map(|fire| fire.with_timezone(&schedule.zone()).naive_local())
        .collect();
    assert!(
        local
            .windows(2)
            .all(|pair| pair[1].date() == pair[0].date().succ_opt().expect("a day")),
        "one a day"
    );
    let slot = chrono::NaiveTime::from_hms_opt(hour, minute, 0).expect("a time");
    for (fire, local) in fires.iter().zip(&local) {
        let named = local.date().and_time(slot);
        match named.and_local_timezone(schedule.zone()) {
            chrono::LocalResult::Single(instant) => assert_eq!(instant, *fire),
            chrono::LocalResult::Ambiguous(first, _) => assert_eq!(first, *fire, "the first of the two"),
            chrono::LocalResult::None => {
                let before = (*fire - TimeDelta::seconds(1))
                    .with_timezone(&schedule.zone())
                    .naive_local();
                assert!(
                    before < named && named < *local,
                    "at the jump: {before} {named} {local}"
                );
            }
        }
    }
}

/// Of an interval: it fires at each instant whose local time the schedule names, also at both of a time that comes twice.
#[rstest]
fn an_interval_fires_at_each_instant_it_names(#[values(0, 1, 2, 3, 4, 5, 6, 7)] zone: usize) {
    use chrono::Timelike as _;
    let schedule = schedule(&format!("TZ={} */15 * * * *", ZONES[zone]));
    let fires = year(&schedule, 2025);
    let start = at("2025-01-01T00:00:00Z");
    let minutes = (1..365 * 24 * 60).map(|minute| start + TimeDelta::minutes(minute));
    let named = minutes.filter(|instant| instant.with_timezone(&schedule.zone()).minute() % 15 == 0);
    assert_eq!(fires, named.collect::<Vec<_>>());
}

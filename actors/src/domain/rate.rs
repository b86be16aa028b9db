//! How fast a throttle lets starts through: the generic cell rate algorithm, in whole microseconds.
//!
//! A bucket is one number, its *mark*: the time at which it would be as good as new if nothing more came. Each start moves
//! the mark one interval on from where it is, or from the present. A start may go as long as the mark is less than the
//! whole capacity ahead. Pure.

use std::time::Duration;

use super::Timestamp;

/// At most `capacity` starts at once, and one per `interval` in the long run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Microseconds from one start to the next, at least 1; rounded up, so that a period never sees one too many.
    interval: i64,
    /// Starts from rest, at least 1.
    capacity: i64,
}

/// The largest interval and the largest product of it with the capacity, far from the edge of what scripts count exactly.
const LONGEST: i64 = 1 << 50;

impl Rate {
    /// The mark of a bucket that is as good as new.
    pub const RESTED: i64 = i64::MIN;
    /// A clock that goes back by more was set; clocks of several instances differ by less.
    pub const CLOCK_STEP: Duration = Duration::from_secs(2);

    /// `limit` in each `period`, and `burst` more at once after a rest.
    #[must_use]
    pub fn new(limit: u32, period: Duration, burst: u32) -> Self {
        let limit = i64::from(limit.max(1));
        let period = i64::try_from(period.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST);
        let interval = (period / limit + i64::from(period % limit != 0)).max(1);
        let capacity = limit.saturating_add(i64::from(burst)).min(LONGEST / interval).max(1);
        Self { interval, capacity }
    }

    /// From the numbers that [`interval`](Self::interval) and [`capacity`](Self::capacity) gave.
    #[must_use]
    pub fn of_parts(interval: i64, capacity: i64) -> Self {
        let interval = interval.clamp(1, LONGEST);
        Self {
            interval,
            capacity: capacity.clamp(1, LONGEST / interval),
        }
    }

    /// Microseconds from one start to the next.
    #[must_use]
    pub fn interval(self) -> i64 {
        self.interval
    }

    /// Starts from rest.
    #[must_use]
    pub fn capacity(self) -> i64 {
        self.capacity
    }

    /// The mark of a bucket that is used up now.
    #[must_use]
    pub fn used_up(self, now: Timestamp) -> i64 {
        micros(now).saturating_add(self.interval * self.capacity)
    }

    /// A mark that comes from other numbers: at most used up under these.
    #[must_use]
    pub fn at_most(self, mark: i64, now: Timestamp) -> i64 {
        mark.min(self.used_up(now))
    }

    /// A mark after the clock was set back from `before` to `now`.
    #[must_use]
    pub fn set_back(mark: i64, before: Timestamp, now: Timestamp) -> i64 {
        mark.saturating_sub(micros(before) - micros(now))
    }

    /// When the next start may go.
    #[must_use]
    pub fn opens_at(self, mark: i64) -> Timestamp {
        let opens = mark.saturating_sub(self.interval * (self.capacity - 1));
        // Up to the next millisecond, the finest that anybody waits.
        Timestamp::from_millis(opens.div_euclid(1_000) + i64::from(opens.rem_euclid(1_000) != 0))
    }

    /// Whether a start may go now.
    #[must_use]
    pub fn is_open(self, mark: i64, now: Timestamp) -> bool {
        self.opens_at(mark) <= now
    }

    /// The mark after a start now.
    #[must_use]
    pub fn after_start(self, mark: i64, now: Timestamp) -> i64 {
        mark.max(micros(now)).saturating_add(self.interval)
    }

    /// The mark after a start that was let through at `since` was not made, and its turn is given back now. It is worth what is
    /// left of its interval: the rest has been made up for since, and starts never go faster for turns given back.
    #[must_use]
    pub fn after_return(self, mark: i64, since: Timestamp, now: Timestamp) -> i64 {
        let gone = micros(now).saturating_sub(micros(since));
        // Set back since, the clock does not tell how much of it is left.
        if (0..self.interval).contains(&gone) {
            mark.saturating_sub(self.interval - gone)
        } else {
            mark
        }
    }

    /// When a bucket with this mark is as good as new, and needs not be known any more.
    #[must_use]
    pub fn rested_at(mark: i64) -> Timestamp {
        Timestamp::from_millis(mark.div_euclid(1_000) + i64::from(mark.rem_euclid(1_000) != 0))
    }
}

fn micros(at: Timestamp) -> i64 {
    at.as_millis().saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_750_000_000_000 + millis)
    }

    /// When `count` starts go that all wait from 0 on.
    fn starts(rate: Rate, count: usize) -> Vec<i64> {
        let (mut now, mut mark) = (at(0), Rate::RESTED);
        (0..count)
            .map(|_| {
                now = now.max(rate.opens_at(mark));
                mark = rate.after_start(mark, now);
                now.as_millis() - at(0).as_millis()
            })
            .collect()
    }

    // The expectations of the SDKs' documentation and suites.
    #[rstest]
    #[case(1, 5, 0, [0, 5_000, 10_000, 15_000, 20_000])]
    #[case(2, 5, 0, [0, 0, 2_500, 5_000, 7_500])]
    #[case(1, 5, 1, [0, 0, 5_000, 10_000, 15_000])]
    #[case(2, 5, 1, [0, 0, 0, 2_500, 5_000])]
    #[case(4, 8, 2, [0, 0, 0, 0, 0])]
    fn a_backlog_starts_so(#[case] limit: u32, #[case] seconds: u64, #[case] burst: u32, #[case] expected: [i64; 5]) {
        let rate = Rate::new(limit, Duration::from_secs(seconds), burst);
        assert_eq!(starts(rate, 5), expected);
    }

    #[test]
    fn six_at_once_then_one_every_two_seconds() {
        let rate = Rate::new(4, Duration::from_secs(8), 2);
        assert_eq!(starts(rate, 9), [0, 0, 0, 0, 0, 0, 2_000, 4_000, 6_000]);
    }

    #[test]
    fn other_numbers_and_another_clock_leave_no_debt_behind() {
        let (slow, fast) = (
            Rate::new(1, Duration::from_secs(3_600), 0),
            Rate::new(1, Duration::from_secs(60), 0),
        );
        let mark = slow.after_start(Rate::RESTED, at(0));
        assert_eq!(fast.opens_at(fast.at_most(mark, at(10))), at(60_010));
        let mark = fast.after_start(Rate::RESTED, at(3_600_000));
        let mark = Rate::set_back(mark, at(3_610_000), at(10_000));
        assert_eq!(fast.opens_at(mark), at(60_000));
    }

    #[test]
    fn odd_numbers_do_no_harm() {
        for (limit, period, burst) in [
            (0, Duration::ZERO, 0),
            (u32::MAX, Duration::MAX, u32::MAX),
            (7, Duration::MAX, 0),
        ] {
            let rate = Rate::new(limit, period, burst);
            let mark = rate.after_start(Rate::RESTED, at(0));
            assert!(rate.opens_at(mark) >= at(0) || rate.is_open(mark, at(0)));
            assert_eq!(Rate::of_parts(rate.interval(), rate.capacity()), rate);
        }
    }

    proptest! {
        /// Whenever starts come: no window of time sees more than the capacity and what the rate adds.
        #[test]
        fn no_window_sees_too_many(
            limit in 1..9_u32, period in 1..5_u64, burst in 0..4_u32, pauses in vec(0..3_000_i64, 1..60)
        ) {
            let rate = Rate::new(limit, Duration::from_secs(period), burst);
            let (mut now, mut mark, mut starts) = (0, Rate::RESTED, Vec::new());
            for pause in pauses {
                now += pause;
                if rate.is_open(mark, at(now)) {
                    mark = rate.after_start(mark, at(now));
                    starts.push(now);
                } else {
                    let opens = rate.opens_at(mark);
                    prop_assert!(rate.is_open(mark, opens) && !rate.is_open(mark, opens.before(Duration::from_millis(1))));
                }
            }
            let period = i64::try_from(period).expect("small") * 1_000;
            for (first, from) in starts.iter().enumerate() {
                for (last, until) in starts.iter().enumerate().skip(first) {
                    let allowed = i64::from(limit + burst) + (until - from) * i64::from(limit) / period;
                    prop_assert!(i64::try_from(last - first).expect("few") < allowed);
                }
            }
        }
    }
}

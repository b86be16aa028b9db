//! How long a failed attempt waits for the next one.

use std::time::Duration;

use crate::domain::{Timestamp, limits};
use crate::expression::time;

/// The policy of waiting between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetryPolicy {
    /// 15 s after the first failure, growing to two hours, plus up to 30 s at random.
    #[default]
    Backoff,
    /// Always the same wait, for people who test retries.
    Fixed(Duration),
}

/// Seconds to wait after the n-th failed attempt; the last entry holds for all later ones.
const BACKOFF: [u64; 10] = [15, 30, 60, 120, 300, 600, 1_200, 2_400, 3_600, 7_200];
/// Spread over which attempts that failed together are retried.
const JITTER: Duration = Duration::from_secs(30);

impl RetryPolicy {
    /// How long to wait after attempt `attempt` (from 0) has failed. `dice` in [0, 1) picks the place in the spread.
    #[must_use]
    pub fn delay(self, attempt: u32, dice: f64) -> Duration {
        match self {
            Self::Fixed(wait) => wait,
            Self::Backoff => {
                let place = usize::try_from(attempt).unwrap_or(usize::MAX).min(BACKOFF.len() - 1);
                Duration::from_secs(BACKOFF[place]) + JITTER.mul_f64(dice.clamp(0.0, 1.0))
            }
        }
    }

    /// When to make the next attempt: as the app says in `Retry-After`, between a second and a day from now, or else by
    /// the policy.
    #[must_use]
    pub fn next(self, attempt: u32, retry_after: Option<&str>, now: Timestamp, dice: f64) -> Timestamp {
        let asked = retry_after.and_then(|text| time::retry_after(text, now.to_datetime()));
        let wait = asked.map(|wait| wait.clamp(limits::RETRY_AFTER_MIN, limits::RETRY_AFTER_MAX));
        now.after(wait.unwrap_or_else(|| self.delay(attempt, dice)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, 15)]
    #[case(1, 30)]
    #[case(4, 300)]
    #[case(9, 7_200)]
    #[case(20, 7_200)]
    fn the_table(#[case] attempt: u32, #[case] seconds: u64) {
        assert_eq!(RetryPolicy::Backoff.delay(attempt, 0.0), Duration::from_secs(seconds));
    }

    #[rstest]
    #[case(Some("5"), 5_000)]
    #[case(Some("0"), 1_000)]
    #[case(Some("9999999"), 86_400_000)]
    #[case(Some("2026-01-01T00:00:10.500Z"), 10_500)]
    #[case(Some("2020-01-01T00:00:00Z"), 1_000)]
    #[case(Some("soon"), 15_000)]
    #[case(None, 15_000)]
    fn retry_after_wins_within_its_bounds(#[case] header: Option<&str>, #[case] millis: i64) {
        let now = Timestamp::from_millis(1_767_225_600_000);
        let next = RetryPolicy::Backoff.next(0, header, now, 0.0);
        assert_eq!(next.as_millis() - now.as_millis(), millis);
    }

    proptest! {
        #[test]
        fn waits_grow_and_stay_within_bounds(attempt in 0u32..40, dice in 0.0f64..1.0) {
            let wait = RetryPolicy::Backoff.delay(attempt, dice);
            prop_assert!(wait >= Duration::from_secs(15) && wait < Duration::from_secs(7_230));
            prop_assert!(RetryPolicy::Backoff.delay(attempt + 1, dice) >= wait);
            prop_assert_eq!(RetryPolicy::Fixed(Duration::from_secs(1)).delay(attempt, dice), Duration::from_secs(1));
        }
    }
}

//! When a child that failed comes back, and when it does not.
//!
//! Pure: the time and the dice are arguments. Promises, for any sequence of exits: a delay never
//! exceeds the policy's cap; no window of the policy's length holds more than `max_restarts`
//! restarts; after `forget_after` of health the delays start again from the base.

use std::{collections::VecDeque, time::Duration};

/// The settings of a restart. Delays are drawn with full jitter, evenly from zero to the ceiling
/// `min(cap, base * factor^streak)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Ceiling of the first delay.
    pub base: Duration,
    /// What each further failure multiplies the ceiling by.
    pub factor: u32,
    /// The ceiling's own ceiling.
    pub cap: Duration,
    /// Restarts allowed within `window`; one more failure is giving up.
    pub max_restarts: u32,
    /// The length of the sliding window.
    pub window: Duration,
    /// How long a child must have run for its earlier failures no longer to raise the delay.
    pub forget_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(100),
            factor: 2,
            cap: Duration::from_secs(30),
            max_restarts: 5,
            window: Duration::from_secs(60),
            forget_after: Duration::from_secs(60),
        }
    }
}

impl RestartPolicy {
    /// The longest delay after `streak` earlier failures in a row.
    #[must_use]
    pub fn ceiling(&self, streak: u32) -> Duration {
        self.factor
            .checked_pow(streak)
            .and_then(|by| self.base.checked_mul(by))
            .map_or(self.cap, |delay| delay.min(self.cap))
    }
}

/// What becomes of a child that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Build it anew after this delay.
    Restart {
        /// The delay, jitter included.
        after: Duration,
    },
    /// It has used up its restarts.
    GiveUp {
        /// How many it had within the window.
        restarts: u32,
    },
}

/// The memory of one child's failures. Instants are given as time since an origin of the caller's choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestartLedger {
    /// When the recent restarts happened or are due, oldest first.
    restarts: VecDeque<Duration>,
    streak: u32,
    total: u64,
    healthy_since: Option<Duration>,
}

impl RestartLedger {
    /// The child has started and works.
    pub fn running(&mut self, now: Duration) {
        self.healthy_since = Some(now);
    }

    /// The child has ended for a reason that is not held against it.
    pub fn ended(&mut self, policy: &RestartPolicy, now: Duration) {
        if self.health(now).is_some_and(|health| health >= policy.forget_after) {
            self.streak = 0;
        }
        self.healthy_since = None;
    }

    /// The child has failed at `now`; `unit` is a random number from 0 to 1.
    pub fn failed(&mut self, policy: &RestartPolicy, now: Duration, unit: f64) -> Verdict {
        self.ended(policy, now);
        self.forget_before(policy, now);
        let recent = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX);
        if recent >= policy.max_restarts {
            return Verdict::GiveUp { restarts: recent };
        }
        let unit = if unit.is_finite() { unit.clamp(0.0, 1.0) } else { 1.0 };
        let after = policy.ceiling(self.streak).mul_f64(unit).min(policy.cap);
        self.streak = self.streak.saturating_add(1);
        self.total += 1;
        self.restarts.push_back(now + after);
        Verdict::Restart { after }
    }

    /// How long the child has been working, if it is.
    #[must_use]
    pub fn health(&self, now: Duration) -> Option<Duration> {
        self.healthy_since.map(|since| now.saturating_sub(since))
    }

    /// Restarts within the window that ends at `now`.
    #[must_use]
    pub fn in_window(&self, policy: &RestartPolicy, now: Duration) -> u32 {
        let recent = self.restarts.iter().filter(|&&at| at + policy.window > now).count();
        u32::try_from(recent).unwrap_or(u32::MAX)
    }

    /// Restarts after failures since the child first started.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// An operator vouches for the child: it has its whole budget again. The total stays.
    pub fn forgive(&mut self) {
        self.restarts.clear();
        self.streak = 0;
    }

    fn forget_before(&mut self, policy: &RestartPolicy, now: Duration) {
        while self.restarts.front().is_some_and(|&at| at + policy.window <= now) {
            self.restarts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[rstest]
    #[case(0, 100)]
    #[case(1, 200)]
    #[case(4, 1_600)]
    #[case(8, 25_600)]
    #[case(9, 30_000)]
    #[case(400, 30_000)]
    fn the_ceiling_doubles_up_to_the_cap(#[case] streak: u32, #[case] millis: u64) {
        assert_eq!(RestartPolicy::default().ceiling(streak), Duration::from_millis(millis));
    }

    #[test]
    fn the_sixth_failure_within_a_minute_is_giving_up() {
        let policy = RestartPolicy::default();
        let mut ledger = RestartLedger::default();
        for second in 0..5 {
            let verdict = ledger.failed(&policy, SECOND * second, 0.5);
            assert!(matches!(verdict, Verdict::Restart { .. }), "{verdict:?}");
        }
        assert_eq!(ledger.failed(&policy, SECOND * 6, 0.5), Verdict::GiveUp { restarts: 5 });
        assert_eq!(ledger.total(), 5);
        ledger.forgive();
        assert_eq!(ledger.in_window(&policy, SECOND * 6), 0);
        assert!(matches!(
            ledger.failed(&policy, SECOND * 7, 0.5),
            Verdict::Restart { .. }
        ));
    }

    #[test]
    fn a_minute_of_health_forgets_the_streak_and_less_does_not() {
        let policy = RestartPolicy::default();
        let mut ledger = RestartLedger::default();
        let failed_after = |ledger: &mut RestartLedger, from: u64, to: u64| {
            ledger.running(SECOND * u32::try_from(from).expect("small"));
            ledger.failed(&policy, Duration::from_secs(to), 1.0)
        };
        let restart = |millis| Verdict::Restart {
            after: Duration::from_millis(millis),
        };
        assert_eq!(failed_after(&mut ledger, 0, 1), restart(100));
        assert_eq!(failed_after(&mut ledger, 2, 61), restart(200));
        assert_eq!(failed_after(&mut ledger, 62, 121), restart(400));
        assert_eq!(failed_after(&mut ledger, 122, 182), restart(100));
    }

    #[test]
    fn health_ends_with_the_incarnation_and_not_with_the_next_failure() {
        let policy = RestartPolicy::default();
        let mut ledger = RestartLedger::default();
        ledger.failed(&policy, SECOND, 1.0);
        ledger.running(SECOND * 2);
        ledger.ended(&policy, SECOND * 12);
        assert_eq!(ledger.health(SECOND * 100), None);
        let millis = Duration::from_millis;
        let second = ledger.failed(&policy, SECOND * 100, 1.0);
        assert_eq!(second, Verdict::Restart { after: millis(200) });
        ledger.running(SECOND * 101);
        ledger.ended(&policy, SECOND * 161);
        let forgotten = ledger.failed(&policy, SECOND * 162, 1.0);
        assert_eq!(forgotten, Verdict::Restart { after: millis(100) });
    }

    #[test]
    fn a_child_that_never_started_was_never_healthy() {
        let policy = RestartPolicy::default();
        let mut ledger = RestartLedger::default();
        ledger.failed(&policy, SECOND, 1.0);
        let later = ledger.failed(&policy, SECOND * 1000, 1.0);
        assert_eq!(
            later,
            Verdict::Restart {
                after: Duration::from_millis(200)
            }
        );
    }

    fn policies() -> impl Strategy<Value = RestartPolicy> {
        (1..5_000_u64, 1..5_u32, 1..60_000_u64, 0..8_u32, 1..120_u64, 1..120_u64).prop_map(
            |(base, factor, cap, max_restarts, window, forget_after)| RestartPolicy {
                base: Duration::from_millis(base),
                factor,
                cap: Duration::from_millis(cap),
                max_restarts,
                window: Duration::from_secs(window),
                forget_after: Duration::from_secs(forget_after),
            },
        )
    }

    proptest! {
        #[test]
        fn delays_stay_below_the_cap_and_windows_below_the_limit(
            policy in policies(),
            lives in prop::collection::vec((0..90_000_u64, any::<f64>()), 1..200),
        ) {
            let mut ledger = RestartLedger::default();
            let mut now = Duration::ZERO;
            let mut starts: Vec<Duration> = Vec::new();
            for (life, unit) in lives {
                ledger.running(now);
                now += Duration::from_millis(life);
                match ledger.failed(&policy, now, unit) {
                    Verdict::Restart { after } => {
                        prop_assert!(after <= policy.cap);
                        now += after;
                        starts.push(now);
                        let recent = starts.iter().filter(|&&at| at + policy.window > now).count();
                        prop_assert!(recent <= policy.max_restarts as usize);
                        prop_assert_eq!(ledger.total(), starts.len() as u64);
                    }
                    Verdict::GiveUp { restarts } => {
                        prop_assert!(restarts >= policy.max_restarts);
                        // An operator resumes it once the window is over.
                        now += policy.window + policy.cap;
                    }
                }
            }
        }

        #[test]
        fn full_jitter_spans_from_zero_to_the_ceiling(policy in policies(), streak in 0..20_u32) {
            let policy = RestartPolicy { max_restarts: u32::MAX, ..policy };
            let mut low = RestartLedger::default();
            let mut high = RestartLedger::default();
            for _ in 0..streak {
                low.failed(&policy, Duration::ZERO, 0.0);
                high.failed(&policy, Duration::ZERO, 0.0);
            }
            prop_assert_eq!(low.failed(&policy, Duration::ZERO, 0.0), Verdict::Restart { after: Duration::ZERO });
            prop_assert_eq!(
                high.failed(&policy, Duration::ZERO, 1.0),
                Verdict::Restart { after: policy.ceiling(streak) }
            );
        }
    }
}

//! One breaker: when calls to an endpoint may be made.
//!
//! Pure: times (since an origin of the caller's choice) and dice are arguments.
//!
//! ```text
//!            failures reach the rate, of enough calls
//!   Closed ───────────────────────────────────────────► Open ◄───────────────┐
//!     ▲                                                   │ its time is up,  │ a wave fails:
//!     │                                                   ▼ a call is asked  │ twice the time
//!     └──────────── the last wave was good ─────────── HalfOpen ─────────────┘
//!                                                    waves of 2, 4, 8 … calls
//! ```
//!
//! A *wave* is a number of calls that may be begun; it is decided as soon as what is still under way can't change the
//! verdict. An app that takes long must not be taken for one that is away: after [`PATIENCE`] a call that has neither
//! failed nor answered counts as a good one.
//!
//! Promises: while it is open no call passes; in a wave no more than its size do; what a call that was begun before the
//! last change of state comes to opens nothing; the time for which it is open never exceeds the policy's cap; calls that
//! have to wait are told times of which no second has more than [`RETURNS_PER_SECOND`], so however many there are, they
//! don't come back at once.

use std::time::Duration;

use super::window::{Tally, Window};

/// How long a call of a wave may take before it counts as a good one. Longer than making a connection may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// Calls that may come back within one second to see whether they may be made.
pub(super) const RETURNS_PER_SECOND: u32 = 500;
/// How long calls wait at the least for which a wave has no room.
pub(super) const NEXT_WAVE: Duration = Duration::from_millis(500);
/// Size of the wave after which the breaker closes.
const LAST_WAVE: u32 = 64;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// The time over which failures are counted.
    pub window: Duration,
    /// With fewer calls than this in the window nothing opens.
    pub min_calls: u32,
    /// From which share of failures on it opens: percent, 1 to 100.
    pub failure_rate: u32,
    /// For how long it opens at first.
    pub open: Duration,
    /// For how long it opens at the most.
    pub open_cap: Duration,
    /// Calls of the first wave.
    pub probes: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            min_calls: 20,
            failure_rate: 50,
            open: Duration::from_secs(5),
            open_cap: Duration::from_secs(60),
            probes: 2,
        }
    }
}

impl Policy {
    /// The longest time for which it opens after so many openings in a row.
    #[must_use]
    pub fn ceiling(&self, streak: u32) -> Duration {
        2_u32
            .checked_pow(streak)
            .and_then(|by| self.open.checked_mul(by))
            .map_or(self.open_cap, |open| open.min(self.open_cap))
    }

    /// Whether so many failures of so many calls are too many.
    fn is_too_many(&self, failed: u32, calls: u32) -> bool {
        failed > 0 && u64::from(failed) * 100 >= u64::from(calls) * u64::from(self.failure_rate.clamp(1, 100))
    }
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Calls are made.
    Closed,
    /// Calls wait.
    Open,
    /// A few calls are made to see how it goes.
    HalfOpen,
}

impl Position {
    /// Its name for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Under which state of the breaker a call was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    era: u64,
    wave: u32,
}

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Now.
    Go(Ticket),
    /// Ask again at this time.
    Wait(Duration),
}

#[derive(Debug, Clone)]
enum State {
    Closed(Window),
    Open { until: Duration },
    HalfOpen(Wave),
}

/// Some calls that show how it goes.
#[derive(Debug, Clone, Copy)]
struct Wave {
    number: u32,
    size: u32,
    /// When its first call was begun.
    since: Option<Duration>,
    begun: u32,
    good: u32,
    bad: u32,
}

impl Wave {
    fn new(number: u32, size: u32) -> Self {
        Self {
            number,
            size: size.max(1),
            since: None,
            begun: 0,
            good: 0,
            bad: 0,
        }
    }
}

/// The breaker of one endpoint.
#[derive(Debug, Clone)]
pub(super) struct Circuit {
    state: State,
    /// Rises with every change of position.
    era: u64,
    /// Openings since it was last closed.
    streak: u32,
    /// When it took its position.
    since: Duration,
    /// What made it open.
    cause: Tally,
    /// The last time that was given to a call that has to wait.
    last_return: Duration,
    /// When a call was last asked for.
    pub(super) used_at: Duration,
    /// Openings ever, those after a bad wave included.
    pub(super) openings: u64,
    /// Calls that had to wait, ever; one that has to wait again counts again.
    pub(super) parked: u64,
}

impl Circuit {
    pub(super) fn new(policy: &Policy, now: Duration) -> Self {
        Self {
            state: State::Closed(Window::new(policy.window)),
            era: 0,
            streak: 0,
            since: now,
            cause: Tally::default(),
            last_return: Duration::ZERO,
            used_at: now,
            openings: 0,
            parked: 0,
        }
    }

    /// Whether a call may be made now.
    pub(super) fn ask(&mut self, policy: &Policy, now: Duration) -> Verdict {
        self.used_at = now;
        if let State::Open { until } = self.state
            && until <= now
        {
            self.turn(State::HalfOpen(Wave::new(1, policy.probes)), now);
        }
        self.end_patience(policy, now);
        match &mut self.state {
            State::Closed(_) => Verdict::Go(Ticket { era: self.era, wave: 0 }),
            State::Open { until } => {
                let until = *until;
                self.wait(until)
            }
            State::HalfOpen(wave) if wave.begun < wave.size => {
                wave.begun += 1;
                wave.since.get_or_insert(now);
                Verdict::Go(Ticket {
                    era: self.era,
                    wave: wave.number,
                })
            }
            State::HalfOpen(_) => self.wait(now + NEXT_WAVE),
        }
    }

    /// When to ask again about a call that was allowed and not begun yet, if it must not be made any more.
    pub(super) fn recall(&mut self, now: Duration) -> Option<Duration> {
        match self.state {
            State::Open { until } if now < until => match self.wait(until) {
                Verdict::Wait(until) => Some(until),
                Verdict::Go(_) => None,
            },
            _ => None,
        }
    }

    /// What a call has come to.
    pub(super) fn report(&mut self, policy: &Policy, ticket: Ticket, is_failure: bool, now: Duration, dice: f64) {
        self.end_patience(policy, now);
        if ticket.era != self.era {
            return;
        }
        match &mut self.state {
            State::Closed(window) => {
                window.record(now, is_failure);
                let tally = window.read(now);
                if is_failure && tally.calls >= policy.min_calls && policy.is_too_many(tally.failed, tally.calls) {
                    self.open(policy, tally, now, dice);
                }
            }
            State::Open { .. } => {}
            State::HalfOpen(wave) => {
                let is_of_this = ticket.wave == wave.number;
                wave.bad += u32::from(is_failure);
                wave.good += u32::from(!is_failure && is_of_this);
                self.judge(policy, now, dice);
            }
        }
    }

    /// A call that was allowed is not made after all.
    pub(super) fn give_back(&mut self, ticket: Ticket) {
        if let State::HalfOpen(wave) = &mut self.state
            && (ticket.era, ticket.wave) == (self.era, wave.number)
        {
            wave.begun = wave.begun.saturating_sub(1);
        }
    }

    /// The app has said something of itself, so it is there: no need to wait for the time to be up.
    pub(super) fn heard(&mut self, now: Duration) {
        if let State::Open { until } = &mut self.state {
            *until = now.min(*until);
        }
    }

    pub(super) fn position(&self) -> Position {
        match self.state {
            State::Closed(_) => Position::Closed,
            State::Open { .. } => Position::Open,
            State::HalfOpen(_) => Position::HalfOpen,
        }
    }

    /// When it took its position.
    pub(super) fn since(&self) -> Duration {
        self.since
    }

    /// When calls are made again to see how it goes, while it is open.
    pub(super) fn until(&self) -> Option<Duration> {
        match self.state {
            State::Open { until } => Some(until),
            _ => None,
        }
    }

    /// The calls it judges by: those of the window or of the wave or, while it is open, those that made it open.
    pub(super) fn tally(&self, now: Duration) -> Tally {
        match &self.state {
            State::Closed(window) => window.read(now),
            State::Open { .. } => self.cause,
            State::HalfOpen(wave) => Tally {
                calls: wave.good + wave.bad,
                failed: wave.bad,
            },
        }
    }

    /// A wave that has lasted for long counts what is still under way as good.
    fn end_patience(&mut self, policy: &Policy, now: Duration) {
        if let State::HalfOpen(wave) = &self.state
            && wave.since.is_some_and(|since| now >= since + PATIENCE)
        {
            self.next_wave(policy, now);
        }
    }

    fn judge(&mut self, policy: &Policy, now: Duration, dice: f64) {
        let State::HalfOpen(wave) = &self.state else { return };
        let (size, good, bad) = (wave.size, wave.good, wave.bad);
        if policy.is_too_many(bad, size) {
            let tally = Tally {
                calls: good + bad,
                failed: bad,
            };
            self.streak = self.streak.saturating_add(1);
            self.open(policy, tally, now, dice);
        } else if !policy.is_too_many(size.saturating_sub(good), size) {
            // Whatever the others come to.
            self.next_wave(policy, now);
        }
    }

    fn next_wave(&mut self, policy: &Policy, now: Duration) {
        let State::HalfOpen(wave) = &self.state else { return };
        if wave.size >= LAST_WAVE {
            self.streak = 0;
            self.turn(State::Closed(Window::new(policy.window)), now);
        } else {
            self.state = State::HalfOpen(Wave::new(wave.number + 1, wave.size * 2));
        }
    }

    fn open(&mut self, policy: &Policy, cause: Tally, now: Duration, dice: f64) {
        let dice = if dice.is_finite() { dice.clamp(0.0, 1.0) } else { 1.0 };
        // Between half of it and all of it, so that instances don't ask in step.
        let open = policy
            .ceiling(self.streak)
            .mul_f64(0.5 + dice / 2.0)
            .min(policy.open_cap);
        self.cause = cause;
        self.openings += 1;
        self.turn(State::Open { until: now + open }, now);
    }

    fn turn(&mut self, state: State, now: Duration) {
        self.state = state;
        self.era += 1;
        self.since = now;
    }

    /// The next time that nobody else was told.
    fn wait(&mut self, earliest: Duration) -> Verdict {
        self.parked += 1;
        self.last_return = earliest.max(self.last_return + Duration::from_secs(1) / RETURNS_PER_SECOND);
        Verdict::Wait(self.last_return)
    }
}

#[cfg(test)]
mod tests;

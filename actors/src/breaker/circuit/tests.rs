//! Long random histories against a breaker that remembers every call, and the cases that matter one by one.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::breaker::window::SLICES;

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> Policy {
    Policy::default()
}

fn go(circuit: &mut Circuit, now: Duration) -> Ticket {
    match circuit.ask(&policy(), now) {
        Verdict::Go(ticket) => ticket,
        Verdict::Wait(until) => panic!("to wait until {until:?} at {now:?}: {circuit:?}"),
    }
}

fn wait(circuit: &mut Circuit, now: Duration) -> Duration {
    match circuit.ask(&policy(), now) {
        Verdict::Wait(until) => until,
        Verdict::Go(ticket) => panic!("{ticket:?} at {now:?}: {circuit:?}"),
    }
}

/// A breaker that has just opened, with the highest dice.
fn opened(now: Duration) -> Circuit {
    let mut circuit = Circuit::new(&policy(), now);
    let tickets: Vec<_> = (0..20).map(|_| go(&mut circuit, now)).collect();
    for ticket in tickets {
        assert_eq!(circuit.position(), Position::Closed);
        circuit.report(&policy(), ticket, true, now, 1.0);
    }
    assert_eq!(circuit.position(), Position::Open);
    circuit
}

#[test]
fn it_opens_at_the_rate_and_not_before_there_are_enough_calls() {
    let mut circuit = Circuit::new(&policy(), Duration::ZERO);
    for call in 0..19 {
        let ticket = go(&mut circuit, SECOND);
        circuit.report(&policy(), ticket, true, SECOND, 0.0);
        assert_eq!(circuit.position(), Position::Closed, "after {call}");
    }
    let (good, bad) = (go(&mut circuit, SECOND), go(&mut circuit, SECOND));
    circuit.report(&policy(), good, false, SECOND, 0.0);
    assert_eq!(circuit.position(), Position::Closed, "a good call opens nothing");
    circuit.report(&policy(), bad, true, SECOND, 0.0);
    assert_eq!(circuit.position(), Position::Open);
    assert_eq!(circuit.tally(SECOND), Tally { calls: 21, failed: 20 });
    assert_eq!(circuit.until(), Some(SECOND + policy().open / 2));
}

#[test]
fn what_was_long_ago_does_not_count() {
    let mut circuit = Circuit::new(&policy(), Duration::ZERO);
    for second in 0..300 {
        // 1.9 a second is 19 within ten.
        let now = SECOND * second + Duration::from_millis(5);
        for _ in 0..(if second % 10 == 0 { 1 } else { 2 }) {
            let ticket = go(&mut circuit, now);
            circuit.report(&policy(), ticket, true, now, 0.0);
        }
    }
    assert_eq!(circuit.position(), Position::Closed);
}

#[test]
fn waves_grow_until_it_closes() {
    let mut circuit = opened(Duration::ZERO);
    let mut now = Duration::from_secs(6);
    for size in [2, 4, 8, 16, 32, 64] {
        let wave: Vec<_> = (0..size).map(|_| go(&mut circuit, now)).collect();
        assert_eq!(circuit.position(), Position::HalfOpen);
        assert!(wait(&mut circuit, now) >= now + NEXT_WAVE, "the wave of {size} is full");
        now += SECOND;
        for ticket in wave {
            circuit.report(&policy(), ticket, false, now, 0.0);
        }
    }
    assert_eq!(circuit.position(), Position::Closed);
    assert_eq!(circuit.tally(now), Tally::default());
}

#[test]
fn a_bad_wave_opens_it_for_longer_up_to_the_cap() {
    let mut circuit = opened(Duration::ZERO);
    for expected in [10, 20, 40, 60, 60, 60] {
        let now = circuit.until().expect("open");
        let (first, second) = (go(&mut circuit, now), go(&mut circuit, now));
        circuit.report(&policy(), first, true, now, 1.0);
        assert_eq!(circuit.until(), Some(now + SECOND * expected));
        // It belongs to a wave that is over.
        circuit.report(&policy(), second, false, now, 1.0);
        assert_eq!(circuit.position(), Position::Open);
    }
}

#[test]
fn a_wave_is_decided_as_soon_as_the_rest_can_change_nothing() {
    let mut circuit = opened(Duration::ZERO);
    let now = Duration::from_secs(6);
    let first: Vec<_> = (0..2).map(|_| go(&mut circuit, now)).collect();
    for ticket in first {
        circuit.report(&policy(), ticket, false, now, 0.0);
    }
    let second: Vec<_> = (0..4).map(|_| go(&mut circuit, now)).collect();
    for ticket in &second[..3] {
        wait(&mut circuit, now);
        circuit.report(&policy(), *ticket, false, now, 0.0);
    }
    // The wave of eight: what is left of the one before counts as bad only.
    circuit.report(&policy(), second[3], true, now, 0.0);
    let third: Vec<_> = (0..8).map(|_| go(&mut circuit, now)).collect();
    for ticket in &third[..3] {
        assert_eq!(circuit.position(), Position::HalfOpen);
        circuit.report(&policy(), *ticket, true, now, 0.0);
    }
    assert_eq!(circuit.position(), Position::Open);
}

#[test]
fn calls_that_take_long_are_not_taken_for_failures() {
    let mut circuit = opened(Duration::ZERO);
    let now = Duration::from_secs(6);
    let slow = [go(&mut circuit, now), go(&mut circuit, now)];
    wait(&mut circuit, now + PATIENCE - Duration::from_millis(1));
    for _ in 0..4 {
        go(&mut circuit, now + PATIENCE);
    }
    wait(&mut circuit, now + PATIENCE);
    circuit.report(&policy(), slow[0], true, now + PATIENCE, 0.0);
    assert_eq!(circuit.position(), Position::HalfOpen);
    circuit.report(&policy(), slow[1], true, now + PATIENCE, 0.0);
    assert_eq!(circuit.position(), Position::Open, "half of the wave of four");
}

#[test]
fn a_call_that_is_not_made_gives_its_place_back() {
    let mut circuit = opened(Duration::ZERO);
    let now = Duration::from_secs(6);
    let kept = go(&mut circuit, now);
    for _ in 0..10 {
        let ticket = go(&mut circuit, now);
        wait(&mut circuit, now);
        circuit.give_back(ticket);
    }
    circuit.report(&policy(), kept, true, now, 0.0);
    assert_eq!(circuit.position(), Position::Open);
}

#[test]
fn an_app_that_speaks_is_probed_at_once() {
    let mut circuit = opened(Duration::ZERO);
    wait(&mut circuit, SECOND);
    circuit.heard(SECOND);
    go(&mut circuit, SECOND);
    assert_eq!(circuit.position(), Position::HalfOpen);
    let mut closed = Circuit::new(&policy(), Duration::ZERO);
    closed.heard(SECOND);
    assert_eq!(closed.position(), Position::Closed);
}

#[test]
fn ten_thousand_that_wait_come_back_one_after_another() {
    let mut circuit = opened(Duration::ZERO);
    let mut last = Duration::ZERO;
    for _ in 0..10_000 {
        let until = wait(&mut circuit, SECOND);
        assert!(until >= last + SECOND / RETURNS_PER_SECOND && until >= circuit.until().expect("open"));
        last = until;
    }
    assert!(last < Duration::from_secs(5 + 21));
    assert_eq!(circuit.parked, 10_000);
}

/// The breaker as one would write it who need not care what it costs: with all calls since it took its position.
struct Model {
    policy: Policy,
    position: Position,
    era: u32,
    wave: u32,
    size: u32,
    until: Duration,
    streak: u32,
    /// Of the wave.
    begun: Vec<(u32, Duration)>,
    /// When, in which wave, and whether it failed.
    ended: Vec<(Duration, u32, bool)>,
}

impl Model {
    fn slice(&self, at: Duration) -> u128 {
        at.as_nanos() / (self.policy.window / u32::try_from(SLICES).expect("small")).as_nanos()
    }

    fn too_many(&self, failed: usize, of: usize) -> bool {
        failed > 0 && failed * 100 >= of * self.policy.failure_rate as usize
    }

    fn patience(&mut self, now: Duration) {
        if self.position == Position::HalfOpen && self.begun.first().is_some_and(|(_, at)| now >= *at + PATIENCE) {
            self.grow();
        }
    }

    fn grow(&mut self) {
        self.begun.clear();
        self.ended.clear();
        if self.size >= 64 {
            (self.position, self.streak) = (Position::Closed, 0);
            self.era += 1;
        } else {
            self.wave += 1;
            self.size *= 2;
        }
    }

    fn open(&mut self, now: Duration, dice: f64) {
        let longest = (self.policy.open * 2_u32.pow(self.streak.min(10))).min(self.policy.open_cap);
        self.until = now + longest.mul_f64(0.5 + dice / 2.0);
        self.position = Position::Open;
        self.era += 1;
        self.begun.clear();
        self.ended.clear();
    }

    fn ask(&mut self, call: u32, now: Duration) -> bool {
        if self.position == Position::Open && self.until <= now {
            self.position = Position::HalfOpen;
            self.era += 1;
            (self.wave, self.size) = (1, self.policy.probes);
        }
        self.patience(now);
        let goes = match self.position {
            Position::Closed => true,
            Position::Open => false,
            Position::HalfOpen => self.begun.len() < self.size as usize,
        };
        if goes && self.position == Position::HalfOpen {
            self.begun.push((call, now));
        }
        goes
    }

    fn report(&mut self, era: u32, wave: u32, failed: bool, now: Duration, dice: f64) {
        self.patience(now);
        if era != self.era || self.position == Position::Open {
            return;
        }
        self.ended.push((now, wave, failed));
        if self.position == Position::Closed {
            let newest = self.slice(now);
            let recent = self
                .ended
                .iter()
                .filter(|(at, ..)| self.slice(*at) + u128::from(SLICES) > newest);
            let recent: Vec<bool> = recent.map(|(.., failed)| *failed).collect();
            let bad = recent.iter().filter(|failed| **failed).count();
            if failed && recent.len() >= self.policy.min_calls as usize && self.too_many(bad, recent.len()) {
                self.open(now, dice);
            }
            return;
        }
        let bad = self.ended.iter().filter(|(.., failed)| *failed).count();
        let good = self
            .ended
            .iter()
            .filter(|(_, wave, failed)| *wave == self.wave && !failed)
            .count();
        let size = self.size as usize;
        if self.too_many(bad, size) {
            self.streak += 1;
            self.open(now, dice);
        } else if !self.too_many(size.saturating_sub(good), size) {
            self.grow();
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Ask,
    Report { which: usize, failed: bool, dice: f64 },
    GiveBack { which: usize },
    Pass(u64),
}

fn events() -> impl Strategy<Value = Vec<(Event, bool)>> {
    let event = prop_oneof![
        6 => Just(Event::Ask),
        5 => (any::<prop::sample::Index>(), any::<bool>(), 0.0..1.0_f64)
            .prop_map(|(which, failed, dice)| Event::Report { which: which.index(1 << 16), failed, dice }),
        1 => (0..1_usize << 16).prop_map(|which| Event::GiveBack { which }),
        2 => (0..3_000_u64).prop_map(Event::Pass),
    ];
    // Times at which all fails, and times at which nothing does, or the waves would never get anywhere.
    prop::collection::vec((event, prop::bool::weighted(0.5)), 1..40).prop_flat_map(|seed| {
        prop::collection::vec((prop::sample::select(seed), 0..60_usize), 1..60).prop_map(|picked| {
            let mut all = Vec::new();
            for ((event, mood), times) in picked {
                all.extend(std::iter::repeat_n((event, mood), times % 25 + 1));
            }
            all
        })
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    (1..30_u32, 1..=100_u32, 1..5_u32, 1..20_u64).prop_map(|(min_calls, failure_rate, probes, open)| Policy {
        min_calls,
        failure_rate,
        probes,
        open: Duration::from_secs(open),
        ..Policy::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn it_is_the_breaker_that_remembers_every_call(policy in policies(), events in events()) {
        let mut circuit = Circuit::new(&policy, Duration::ZERO);
        let mut model = Model {
            policy,
            position: Position::Closed,
            era: 0,
            wave: 0,
            size: 0,
            until: Duration::ZERO,
            streak: 0,
            begun: Vec::new(),
            ended: Vec::new(),
        };
        let mut now = Duration::from_secs(1);
        let mut calls = 0;
        let mut open: Vec<(u32, Ticket, u32, u32)> = Vec::new();
        let mut returns: HashMap<u64, u32> = HashMap::new();
        for (event, mood) in events {
            match event {
                Event::Ask => {
                    calls += 1;
                    let goes = model.ask(calls, now);
                    match circuit.ask(&policy, now) {
                        Verdict::Go(ticket) => {
                            prop_assert!(goes);
                            let wave = if model.position == Position::HalfOpen { model.wave } else { 0 };
                            open.push((calls, ticket, model.era, wave));
                        }
                        Verdict::Wait(until) => {
                            prop_assert!(!goes);
                            prop_assert!(until > now);
                            let of_second = returns.entry(until.as_secs()).or_default();
                            *of_second += 1;
                            prop_assert!(*of_second <= RETURNS_PER_SECOND + 1);
                        }
                    }
                }
                Event::Report { which, failed, dice } if !open.is_empty() => {
                    let (_, ticket, era, wave) = open.swap_remove(which % open.len());
                    let failed = failed && mood;
                    model.report(era, wave, failed, now, dice);
                    circuit.report(&policy, ticket, failed, now, dice);
                }
                Event::GiveBack { which } if !open.is_empty() => {
                    let (call, ticket, ..) = open.swap_remove(which % open.len());
                    // The wave's first call stays its beginning.
                    if model.begun.first().is_some_and(|(first, _)| *first == call) {
                        circuit.report(&policy, ticket, false, now, 0.0);
                        model.report(model.era, model.wave, false, now, 0.0);
                    } else {
                        model.begun.retain(|(begun, _)| *begun != call);
                        circuit.give_back(ticket);
                    }
                }
                Event::Pass(millis) => now += Duration::from_millis(millis),
                _ => {}
            }
            prop_assert_eq!(circuit.position(), model.position);
            if let Some(until) = circuit.until() {
                prop_assert_eq!(until, model.until);
                prop_assert!(until <= circuit.since() + policy.open_cap);
            }
        }
    }
}

//! The weather: which fault strikes when, and when it is made good. Follows from a seed.
//!
//! Several faults may be under way at a time, one at each place. Each kind comes up once in every round, in an order of its
//! own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::Dice;
use super::workflow::{Mood, Workflow};
use crate::support::DEADLINE;
use crate::support::installation::{Installation, LEASE};

/// Milliseconds from one fault to the next.
const LULL: (u64, u64) = (300, 1_500);
/// How long an instance has to say that it is up, and the time until it is asked again.
const GLANCE: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_millis(50);

/// What may befall an installation of two instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// An instance is killed with SIGKILL and started again.
    Kill,
    /// An instance stands still, for less than a lease.
    FreezeBriefly,
    /// An instance stands still until others have taken over its work.
    FreezeLong,
    /// Both instances are stopped in order and started again, the second when the first is up again.
    Roll,
    /// Redis is killed and comes back with nothing.
    RedisLost,
    /// Redis stands still.
    RedisFrozen,
    /// Redis forgets everything.
    Flush,
    /// Redis forgets the code that runs within it.
    CodeFlush,
    /// Redis cuts all connections.
    RedisCut,
    /// PostgreSQL is stopped as by a crash and started again.
    PostgresCrash,
    /// PostgreSQL stands still.
    PostgresFrozen,
    /// PostgreSQL cuts all connections.
    PostgresCut,
    /// The app takes its time.
    AppSlow,
    /// The app does not answer before the call is given up.
    AppHangs,
}

impl Fault {
    const ALL: [Self; 14] = [
        Self::Kill,
        Self::FreezeBriefly,
        Self::FreezeLong,
        Self::Roll,
        Self::RedisLost,
        Self::RedisFrozen,
        Self::Flush,
        Self::CodeFlush,
        Self::RedisCut,
        Self::PostgresCrash,
        Self::PostgresFrozen,
        Self::PostgresCut,
        Self::AppSlow,
        Self::AppHangs,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::FreezeBriefly => "freeze shorter than a lease",
            Self::FreezeLong => "freeze longer than a lease",
            Self::Roll => "rolling restart",
            Self::RedisLost => "redis killed and empty",
            Self::RedisFrozen => "redis frozen",
            Self::Flush => "flushall",
            Self::CodeFlush => "function flush",
            Self::RedisCut => "redis connections cut",
            Self::PostgresCrash => "postgres crash",
            Self::PostgresFrozen => "postgres frozen",
            Self::PostgresCut => "postgres connections cut",
            Self::AppSlow => "slow app",
            Self::AppHangs => "hanging app",
        }
    }
}

/// Where one fault at a time strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Instance(usize),
    Redis,
    Postgres,
    App,
}

/// What makes a fault good.
#[derive(Debug, Clone, Copy)]
enum Mend {
    Revive(usize),
    Thaw(usize),
    /// The second half of a rolling restart.
    RollOn(usize),
    StartRedis,
    ThawRedis,
    StartPostgres,
    ThawPostgres,
    CalmApp,
}

/// How long calls may take in an installation that is to be struck; longer than [`Fault::AppSlow`] makes them.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// The weather over an installation.
#[derive(Debug)]
pub(super) struct Weather<'a> {
    installation: &'a mut Installation,
    workflow: &'a Workflow,
    dice: Dice,
    /// Those that may strike.
    kinds: Vec<Fault>,
    /// Those of this round that have not struck yet.
    deck: Vec<Fault>,
    pending: Vec<(Instant, Place, Mend)>,
    began: Instant,
    counts: BTreeMap<&'static str, u32>,
    story: String,
}

impl<'a> Weather<'a> {
    /// With those faults whose names contain a word of `CHAOS_FAULTS`, or all if it is not set.
    pub(super) fn new(installation: &'a mut Installation, workflow: &'a Workflow, seed: u64) -> Self {
        let words = std::env::var("CHAOS_FAULTS").unwrap_or_default();
        let is_wanted = |fault: &Fault| words.split(',').any(|word| fault.name().contains(word.trim()));
        let kinds: Vec<_> = Fault::ALL.into_iter().filter(is_wanted).collect();
        assert!(!kinds.is_empty(), "no fault is called `{words}`");
        Self {
            installation,
            workflow,
            dice: Dice(seed),
            kinds,
            deck: Vec::new(),
            pending: Vec::new(),
            began: Instant::now(),
            counts: BTreeMap::new(),
            story: String::new(),
        }
    }

    /// Lets faults strike for so long; makes all good in the end, and waits until every instance takes work.
    pub(super) fn rage(mut self, lasting: Duration) -> Report {
        let mut next = self.began;
        while self.began.elapsed() < lasting {
            self.mend(Instant::now());
            if Instant::now() >= next {
                self.strike();
                next = Instant::now() + self.millis(LULL.0, LULL.1);
            }
            let mends = self.pending.iter().map(|(at, ..)| *at);
            let wake = mends.fold(next, Instant::min);
            // The instants are what is tested.
            std::thread::sleep(wake.saturating_duration_since(Instant::now()));
        }
        let last = Instant::now();
        // A rolling restart has a second half, and whoever is on the way out takes a while.
        while let Some(at) = self.pending.iter().map(|(at, ..)| *at).max() {
            assert!(
                last.elapsed() < DEADLINE,
                "not made good: {:?}\n{}",
                self.pending,
                self.story
            );
            std::thread::sleep(at.saturating_duration_since(Instant::now()).min(LATER));
            self.mend(at);
        }
        for server in self.installation.iter_mut() {
            server.wait_until_up();
        }
        self.note("quiet");
        Report {
            counts: self.counts,
            story: self.story,
        }
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.dice.between(least, most))
    }

    fn note(&mut self, what: &str) {
        let _ = writeln!(self.story, "{:>7.3} s  {what}", self.began.elapsed().as_secs_f64());
    }

    fn draw(&mut self) -> Fault {
        if self.deck.is_empty() {
            self.deck = self.kinds.clone();
            for last in (1..self.deck.len()).rev() {
                let other = usize::try_from(self.dice.roll()).unwrap_or(usize::MAX) % (last + 1);
                self.deck.swap(last, other);
            }
        }
        self.deck.pop().expect("it has just been filled")
    }

    fn strike(&mut self) {
        let fault = self.draw();
        let instance = usize::from(self.dice.roll().is_multiple_of(2));
        let place = match fault {
            Fault::Kill | Fault::FreezeBriefly | Fault::FreezeLong | Fault::Roll => Place::Instance(instance),
            Fault::RedisLost | Fault::RedisFrozen | Fault::Flush | Fault::CodeFlush | Fault::RedisCut => Place::Redis,
            Fault::PostgresCrash | Fault::PostgresFrozen | Fault::PostgresCut => Place::Postgres,
            Fault::AppSlow | Fault::AppHangs => Place::App,
        };
        let is_taken = |place| self.pending.iter().any(|(_, taken, _)| *taken == place);
        if is_taken(place) || (fault == Fault::Roll && is_taken(Place::Instance(1 - instance))) {
            // Its turn comes at the end of the round.
            self.deck.insert(0, fault);
            return;
        }
        *self.counts.entry(fault.name()).or_default() += 1;
        self.note(&format!("{} at {place:?}", fault.name()));
        let lease = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        let mend = self.begin(fault, instance, lease);
        if let Some((after, mend)) = mend {
            let at = Instant::now() + after;
            self.pending.push((at, place, mend));
            if fault == Fault::Roll {
                // Its second half must find the other one as it was.
                self.pending
                    .push((at, Place::Instance(1 - instance), Mend::RollOn(1 - instance)));
            }
        }
    }

    /// Lets it strike. Answers after how long what makes it good.
    fn begin(&mut self, fault: Fault, instance: usize, lease: u64) -> Option<(Duration, Mend)> {
        match fault {
            Fault::Kill => {
                self.installation[instance].kill();
                Some((self.millis(100, 4_000), Mend::Revive(instance)))
            }
            Fault::FreezeBriefly => {
                self.installation[instance].process().signal("STOP");
                Some((self.millis(200, lease - 1_000), Mend::Thaw(instance)))
            }
            Fault::FreezeLong => {
                self.installation[instance].process().signal("STOP");
                Some((self.millis(lease + 500, lease + 2_500), Mend::Thaw(instance)))
            }
            Fault::Roll => {
                self.installation[instance].process().signal("TERM");
                Some((Duration::ZERO, Mend::Revive(instance)))
            }
            Fault::RedisLost => {
                self.installation.redis.kill().expect("Redis runs");
                Some((self.millis(100, 3_000), Mend::StartRedis))
            }
            Fault::RedisFrozen => {
                self.installation.redis.pause().expect("Redis runs");
                Some((self.millis(200, 4_000), Mend::ThawRedis))
            }
            Fault::Flush => self.redis(&["FLUSHALL"]),
            Fault::CodeFlush => self.redis(&["FUNCTION", "FLUSH"]),
            Fault::RedisCut => self.redis(&["CLIENT", "KILL", "SKIPME", "yes"]),
            Fault::PostgresCrash => {
                self.installation.postgres().stop_immediate().expect("PostgreSQL runs");
                Some((self.millis(100, 3_000), Mend::StartPostgres))
            }
            Fault::PostgresFrozen => {
                self.installation.postgres().pause().expect("PostgreSQL runs");
                Some((self.millis(200, 4_000), Mend::ThawPostgres))
            }
            Fault::PostgresCut => {
                let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
                self.installation
                    .postgres()
                    .sql("postgres", cut)
                    .expect("PostgreSQL runs");
                None
            }
            Fault::AppSlow => {
                self.workflow.set_mood(Mood::Slow(Duration::from_millis(1_500)));
                Some((self.millis(1_000, 4_000), Mend::CalmApp))
            }
            Fault::AppHangs => {
                self.workflow
                    .set_mood(Mood::Hanging(CALL_TIMEOUT + Duration::from_secs(2)));
                Some((self.millis(200, 1_500), Mend::CalmApp))
            }
        }
    }

    fn redis(&self, command: &[&str]) -> Option<(Duration, Mend)> {
        self.installation.redis.cli(command).expect("Redis runs");
        None
    }

    /// Whether an instance that this waits for is still on its way out, or in.
    fn is_too_early(&mut self, mend: Mend) -> bool {
        match mend {
            Mend::Revive(instance) => self.installation[instance].process().is_alive(),
            Mend::RollOn(instance) => !self.installation[1 - instance].is_up_within(GLANCE),
            _ => false,
        }
    }

    /// Makes good what is due.
    fn mend(&mut self, now: Instant) {
        let (due, pending) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|(at, ..)| *at <= now);
        self.pending = pending;
        let due: Vec<_> = due;
        for (_, place, mend) in due {
            if self.is_too_early(mend) {
                self.pending.push((now + LATER, place, mend));
                continue;
            }
            self.note(&format!("made good: {mend:?}"));
            match mend {
                Mend::Revive(instance) => self.installation[instance].revive(),
                Mend::Thaw(instance) => self.installation[instance].process().signal("CONT"),
                Mend::RollOn(instance) => {
                    self.installation[instance].process().signal("TERM");
                    self.pending.push((now, place, Mend::Revive(instance)));
                }
                Mend::StartRedis => self.installation.redis.restart_empty().expect("Redis starts"),
                Mend::ThawRedis => self.installation.redis.resume().expect("Redis runs"),
                Mend::StartPostgres => self.installation.postgres().restart().expect("PostgreSQL starts"),
                Mend::ThawPostgres => self.installation.postgres().resume().expect("PostgreSQL runs"),
                Mend::CalmApp => self.workflow.set_mood(Mood::Well),
            }
        }
    }
}

/// What has struck.
#[derive(Debug)]
pub(super) struct Report {
    counts: BTreeMap<&'static str, u32>,
    /// What happened when.
    pub(super) story: String,
}

impl Report {
    /// How many faults of each kind.
    pub(super) fn summary(&self) -> String {
        let counts = self.counts.iter().map(|(name, count)| format!("{count} {name}"));
        counts.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn total(&self) -> u32 {
        self.counts.values().sum()
    }
}

//! The circuit breakers: keep an app that can't be reached from costing its runs their attempts.
//!
//! There is one for each endpoint, which is the URL that functions are called at without its query: what fails together,
//! waits together. The consumer asks before it hands out a job that calls an app; one that may not go is given back to the
//! queue with the time at which to ask again, so it holds no permit, keeps its attempt, and nobody looks at it until then.
//! Jobs that call nobody (timeouts, cancellations, deadlines) are not asked about. The executor says what each call came to.
//!
//! What counts as a failure is only what says that nobody is there: [`Reply::is_outage`](crate::domain::Reply::is_outage).
//!
//! Each instance learns by itself, and remembers nothing over a restart.
//!
//! Promises: those of [`circuit`]; a call that was allowed and not made gives its place back, also when its actor dies; a
//! breaker that is switched off holds nobody up. Never: it does not touch the queue and knows no run.

mod circuit;
mod window;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::catalog::Catalog;
use crate::domain::{FunctionId, Timestamp};
use crate::ports::{Clock, Random};
use circuit::{Circuit, Ticket, Verdict};
pub use circuit::{Policy, Position};
pub use window::Tally;

/// A breaker that nobody has asked for so long is forgotten when there is a new one.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether there are breakers, for apps of which nobody has said otherwise.
    pub enabled: bool,
    /// Names of apps that have none, unless somebody has said so of the app itself.
    pub except: Vec<String>,
    /// When they open.
    pub policy: Policy,
    /// Told of each change.
    pub notice: fn(&Changed),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            except: Vec::new(),
            policy: Policy::default(),
            notice: |_| {},
        }
    }
}

impl Settings {
    /// Whether an app's calls go through a breaker.
    #[must_use]
    pub fn applies_to(&self, catalog: &Catalog, app: &str) -> bool {
        let by_settings = || self.enabled && !self.except.iter().any(|name| name == app);
        catalog.breaker_of(app).unwrap_or_else(by_settings)
    }
}

/// A breaker has changed its position.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// Of which endpoint.
    pub endpoint: Arc<str>,
    /// From where.
    pub from: Position,
    /// To where.
    pub to: Position,
    /// The calls that decided it.
    pub tally: Tally,
    /// How long it stays open at the least.
    pub open_for: Option<Duration>,
}

/// How a breaker stands, for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading {
    /// Of which endpoint.
    pub endpoint: Arc<str>,
    /// Where it stands.
    #[serde(skip)]
    pub position: Position,
    /// Since when.
    pub since: Timestamp,
    /// The calls it judges by: those of the window or the wave or, while it is open, those that made it open.
    #[serde(skip)]
    pub tally: Tally,
    /// When calls are made again to see how it goes, while it is open.
    pub next_probe: Option<Timestamp>,
    /// How often it has opened.
    pub openings: u64,
    /// How often a call has had to wait.
    pub parked: u64,
}

/// All of them. Clones are the same ones.
#[derive(Clone)]
pub struct Breakers(Arc<Shared>);

struct Shared {
    settings: Settings,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    origin: Instant,
    circuits: Mutex<HashMap<Arc<str>, Circuit>>,
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers").finish_non_exhaustive()
    }
}

/// Whether a job may go.
#[derive(Debug)]
pub enum Admission {
    /// It may. The pass has to be brought back with what the call came to; there is none where there is no breaker.
    Go(Option<Pass>),
    /// Not now; ask again after this time.
    Wait(Duration),
}

/// A call that may be made. Dropping it says that the call was not made.
#[derive(Debug)]
pub struct Pass {
    breakers: Breakers,
    endpoint: Arc<str>,
    ticket: Option<Ticket>,
}

impl Breakers {
    /// None are open.
    #[must_use]
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self(Arc::new(Shared {
            settings,
            clock,
            random,
            origin: Instant::now(),
            circuits: Mutex::default(),
        }))
    }

    /// What was set.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Whether a call of this function may be made now.
    #[must_use]
    pub fn ask(&self, catalog: &Catalog, function: FunctionId) -> Admission {
        // What is not in the catalog is for the executor to find out.
        let Some(function) = catalog.function(function) else {
            return Admission::Go(None);
        };
        if !self.0.settings.applies_to(catalog, &function.app) {
            return Admission::Go(None);
        }
        let now = self.elapsed();
        let endpoint = endpoint(&function.url);
        let policy = &self.0.settings.policy;
        let mut circuits = self.lock();
        let key = if let Some((key, _)) = circuits.get_key_value(endpoint) {
            Arc::clone(key)
        } else {
            circuits.retain(|_, circuit| circuit.used_at + FORGOTTEN_AFTER > now);
            let key: Arc<str> = Arc::from(endpoint);
            circuits.insert(Arc::clone(&key), Circuit::new(policy, now));
            key
        };
        let Some(circuit) = circuits.get_mut(&key) else {
            return Admission::Go(None);
        };
        let before = circuit.position();
        let verdict = circuit.ask(policy, now);
        let changed = self.change(&key, circuit, before, now);
        drop(circuits);
        self.tell(changed);
        match verdict {
            Verdict::Go(ticket) => Admission::Go(Some(Pass {
                breakers: self.clone(),
                endpoint: key,
                ticket: Some(ticket),
            })),
            Verdict::Wait(until) => Admission::Wait(until.saturating_sub(now)),
        }
    }

    /// The app at this URL has said something of itself: an open breaker of its endpoint lets calls probe it now.
    pub fn heard(&self, url: &str) {
        let now = self.elapsed();
        if let Some(circuit) = self.lock().get_mut(endpoint(url)) {
            circuit.heard(now);
        }
    }

    /// How those stand that have been asked of late, by endpoint.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        let (now, wall) = (self.elapsed(), self.0.clock.now());
        let at = |time: Duration| {
            if time >= now {
                wall.after(time.saturating_sub(now))
            } else {
                wall.before(now.saturating_sub(time))
            }
        };
        let mut readings: Vec<_> = self
            .lock()
            .iter()
            .map(|(endpoint, circuit)| Reading {
                endpoint: Arc::clone(endpoint),
                position: circuit.position(),
                since: at(circuit.since()),
                tally: circuit.tally(now),
                next_probe: circuit.until().map(at),
                openings: circuit.openings,
                parked: circuit.parked,
            })
            .collect();
        readings.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        readings
    }

    fn change(&self, endpoint: &Arc<str>, circuit: &Circuit, from: Position, now: Duration) -> Option<Changed> {
        let to = circuit.position();
        (from != to).then(|| Changed {
            endpoint: Arc::clone(endpoint),
            from,
            to,
            tally: circuit.tally(now),
            open_for: circuit.until().map(|until| until.saturating_sub(now)),
        })
    }

    /// Outside the lock: whoever is told may take his time.
    fn tell(&self, changed: Option<Changed>) {
        if let Some(changed) = changed {
            (self.0.settings.notice)(&changed);
        }
    }

    fn elapsed(&self) -> Duration {
        self.0.origin.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Circuit>> {
        // Nothing under the lock panics half way.
        self.0.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// To be asked right before the call: how long to wait if the breaker has opened since.
    #[must_use]
    pub fn recalled(&self) -> Option<Duration> {
        let now = self.breakers.elapsed();
        let mut circuits = self.breakers.lock();
        let until = circuits.get_mut(&self.endpoint)?.recall(now)?;
        Some(until.saturating_sub(now))
    }

    /// What the call came to: whether it says that nobody is there.
    pub fn report(mut self, is_outage: bool) {
        let Some(ticket) = self.ticket.take() else { return };
        let now = self.breakers.elapsed();
        let dice = if is_outage { self.breakers.0.random.unit() } else { 0.0 };
        let policy = &self.breakers.0.settings.policy;
        let mut circuits = self.breakers.lock();
        let Some(circuit) = circuits.get_mut(&self.endpoint) else {
            return;
        };
        let before = circuit.position();
        circuit.report(policy, ticket, is_outage, now, dice);
        let changed = self.breakers.change(&self.endpoint, circuit, before, now);
        drop(circuits);
        self.breakers.tell(changed);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take()
            && let Some(circuit) = self.breakers.lock().get_mut(&self.endpoint)
        {
            circuit.give_back(ticket);
        }
    }
}

/// What a URL leads to, whichever function is asked for there.
#[must_use]
pub fn endpoint(url: &str) -> &str {
    url.split_once(['?', '#']).map_or(url, |(endpoint, _)| endpoint)
}

#[cfg(test)]
mod tests;

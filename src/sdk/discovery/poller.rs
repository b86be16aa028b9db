//! Keeps the server's picture of its apps up to date, round by round.
//!
//! A round asks every app whose URL is known or was given to register again (an unchanged app costs one request and no
//! write), and looks for apps as long as none has been found. After [`LIVELY_ROUNDS`] rounds in which nothing changed,
//! the pauses double. Only changes are logged. Without an interval there is one such round, and after it only the URLs
//! given are asked, until each has answered once.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tracing::{debug, info, warn};

use super::super::registration::normalise;
use super::{Scanner, SyncClient, SyncError};

/// Rounds without a change until the pauses double: two minutes at the default interval.
const LIVELY_ROUNDS: u32 = 24;
/// Between rounds for apps that have not answered yet, where there is no interval.
const PATIENCE: Duration = Duration::from_secs(5);
/// Apps asked at the same time.
const AT_ONCE: usize = 4;

/// What the poller needs to know of the apps there are, and whom it tells.
#[async_trait(?Send)]
pub trait Apps {
    /// The URLs of registered apps that are to be asked again. Those registered by hand should not be among them: there
    /// may be no SDK to answer.
    fn known(&self) -> Vec<String>;

    /// An app's state has changed: it registered, or failed to for this reason.
    async fn note(&self, url: &str, error: Option<&SyncError>);

    /// Whether it is this instance's turn to ask, for so long: one of several is enough.
    async fn has_turn(&self, lasting: Duration) -> bool {
        let _ = lasting;
        true
    }
}

/// What to poll.
#[derive(Debug, Clone)]
pub struct Watch {
    /// The URLs given by the operator: asked until they answer, and ever after.
    pub urls: Vec<String>,
    /// The ports on which to look for apps; `None` switches that off.
    pub ports: Option<Vec<u16>>,
    /// The pause between rounds; `None` to ask only until there is an answer.
    pub interval: Option<Duration>,
}

/// Asks apps to register, again and again. Runs on the thread whose [`SyncClient`] it was given.
pub struct Poller {
    client: SyncClient,
    apps: Rc<dyn Apps>,
    urls: Vec<String>,
    scanner: Option<Scanner>,
    interval: Option<Duration>,
    found: Vec<String>,
    /// The last word on each URL.
    states: HashMap<String, Result<(), SyncError>>,
    quiet: u32,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller")
            .field("urls", &self.urls)
            .field("found", &self.found)
            .finish_non_exhaustive()
    }
}

impl Poller {
    /// Does nothing until it is run.
    #[must_use]
    pub fn new(client: SyncClient, apps: Rc<dyn Apps>, watch: Watch) -> Self {
        let scanner = watch.ports.map(|ports| Scanner::new(client.transport().clone(), ports));
        Self {
            client,
            apps,
            urls: watch.urls.iter().map(|url| normalise(url)).collect(),
            scanner,
            interval: watch.interval,
            found: Vec::new(),
            states: HashMap::new(),
            quiet: 0,
        }
    }

    /// Polls until it is dropped, or until all have answered who were to be asked until they do. Where there are several
    /// instances, one of them polls at a time.
    pub async fn run(mut self) {
        let mut is_first = true;
        loop {
            let pause = pause(self.interval.unwrap_or(PATIENCE), self.quiet);
            let is_due = !std::mem::take(&mut is_first);
            if is_due {
                tokio::time::sleep(pause).await;
            }
            // Longer than a round takes as a rule, so that the turn stays with whoever has it.
            if !self.apps.has_turn(pause.saturating_mul(3)).await {
                continue;
            }
            match self.interval {
                Some(_) => drop(self.round().await),
                None if !is_due => drop(self.round().await),
                None if self.silent().is_empty() => return,
                None => {
                    let silent = self.silent();
                    let changed = self.ask(silent).await;
                    self.quiet = if changed { 0 } else { self.quiet.saturating_add(1) };
                }
            }
        }
    }

    /// One round. Answers whether anything has changed.
    pub async fn round(&mut self) -> bool {
        let mut changed = self.look().await;
        let targets = self.targets();
        self.states.retain(|url, _| targets.contains(url));
        changed |= self.ask(targets).await;
        self.quiet = if changed { 0 } else { self.quiet.saturating_add(1) };
        changed
    }

    /// The URLs given that have not answered yet.
    fn silent(&self) -> Vec<String> {
        let answered = |url: &String| matches!(self.states.get(url), Some(Ok(())));
        self.urls.iter().filter(|url| !answered(url)).cloned().collect()
    }

    /// Asks these apps to register. Answers whether the outcome of any has changed.
    async fn ask(&mut self, targets: Vec<String>) -> bool {
        let mut changed = false;
        let client = &self.client;
        let asking = targets.into_iter().map(|url| async move {
            let outcome = client.sync(&url).await;
            (url, outcome)
        });
        let outcomes: Vec<_> = stream::iter(asking).buffer_unordered(AT_ONCE).collect().await;
        for (url, outcome) in outcomes {
            if self.states.get(&url) == Some(&outcome) {
                continue;
            }
            changed = true;
            match &outcome {
                Ok(()) => debug!(url, "app asked"),
                Err(error) => warn!(url, code = error.code(), "app did not register: {error}"),
            }
            self.apps.note(&url, outcome.as_ref().err()).await;
            self.states.insert(url, outcome);
        }
        changed
    }

    /// Looks for apps, until some are found.
    async fn look(&mut self) -> bool {
        let Some(scanner) = self.scanner.as_ref().filter(|_| self.found.is_empty()) else {
            return false;
        };
        self.found = scanner.scan().await;
        for url in &self.found {
            info!(url, "app found");
        }
        !self.found.is_empty()
    }

    fn targets(&self) -> Vec<String> {
        let known = self.apps.known();
        let known = known
            .iter()
            .map(|url| normalise(url))
            .filter(|url| url.starts_with("http"));
        let mut targets: Vec<String> = self.urls.iter().chain(&self.found).cloned().chain(known).collect();
        targets.sort();
        targets.dedup();
        targets
    }
}

/// How long to pause after so many rounds without a change.
fn pause(interval: Duration, quiet: u32) -> Duration {
    if quiet < LIVELY_ROUNDS {
        interval
    } else {
        interval.saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_when_nothing_happens() {
        let interval = Duration::from_secs(5);
        assert_eq!(pause(interval, 0), interval);
        assert_eq!(pause(interval, LIVELY_ROUNDS - 1), interval);
        assert_eq!(pause(interval, LIVELY_ROUNDS), interval * 2);
        assert_eq!(pause(Duration::MAX, u32::MAX), Duration::MAX);
    }
}

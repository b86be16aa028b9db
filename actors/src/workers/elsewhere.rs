//! What workers of other instances serve, as far as those have told. Pure: times (since an origin of the caller's choice)
//! are arguments.
//!
//! Promises: as long as not everybody can have been heard, everything counts as served; an instance that has been silent for
//! [`SILENT`] serves nothing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// An instance that is not heard of for so long is gone; one that is there has spoken within that time.
const SILENT: Duration = Duration::from_secs(10);

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Since when others are heard, if they are.
    up_since: Option<Duration>,
    nodes: HashMap<String, (HashSet<String>, Duration)>,
}

impl Elsewhere {
    /// Whether others are heard from now on. Answers whether that is a change.
    pub(super) fn set_up(&mut self, is_up: bool, now: Duration) -> bool {
        let was_up = self.up_since.is_some();
        self.up_since = is_up.then_some(now);
        self.nodes.clear();
        was_up != is_up
    }

    /// An instance serves these. Answers whether that is more than before.
    pub(super) fn learn(&mut self, node: String, functions: Vec<String>, now: Duration) -> bool {
        self.nodes.retain(|_, (_, heard)| now < *heard + SILENT);
        let functions: HashSet<String> = functions.into_iter().collect();
        let before = self.nodes.get(&node).map(|(before, _)| before);
        let is_more = before.map_or(!functions.is_empty(), |before| !functions.is_subset(before));
        self.nodes.insert(node, (functions, now));
        is_more
    }

    /// Whether an instance may serve this function.
    pub(super) fn may_serve(&self, function: &str, now: Duration) -> bool {
        let is_known = self.up_since.is_some_and(|since| since + SILENT <= now);
        let mut heard = self.nodes.values().filter(|(_, heard)| now < *heard + SILENT);
        !is_known || heard.any(|(functions, _)| functions.contains(function))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_nobody_serves_is_known_when_everybody_has_been_heard() {
        let mut elsewhere = Elsewhere::default();
        assert!(elsewhere.may_serve("a", seconds(100)), "nobody is heard");
        elsewhere.set_up(true, seconds(100));
        assert!(elsewhere.may_serve("a", seconds(109)));
        assert!(!elsewhere.may_serve("a", seconds(110)));
        assert!(elsewhere.learn("one".to_owned(), vec!["a".to_owned()], seconds(110)));
        assert!(elsewhere.may_serve("a", seconds(119)));
        assert!(!elsewhere.may_serve("b", seconds(119)));
        assert!(
            !elsewhere.learn("one".to_owned(), vec!["a".to_owned()], seconds(119)),
            "nothing new"
        );
        assert!(!elsewhere.may_serve("a", seconds(129)), "it is gone");
        elsewhere.set_up(false, seconds(130));
        assert!(elsewhere.may_serve("a", seconds(1_000)));
    }
}

//! Who is subscribed to what in this process.
//!
//! Promises: a message reaches each subscriber of its topic once, however many of the subscriber's topics it is on, and
//! nobody else. Publishing takes time for each subscriber of the topic, and for no other. Never waits for a subscriber.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::carrier::{Alone, Carrier};
use super::subscription::{End, Line, Put, Subscription};
use super::{Frame, Topic};

/// Subscribers of one topic, at the most.
const OF_TOPIC: usize = 5_000;
/// Topics of one subscriber, at the most.
pub(crate) const OF_SUBSCRIBER: usize = 1_000;
/// Subscribers of a process, at the most.
const SUBSCRIBERS: usize = 20_000;
/// Streams that may be published to a process at a time.
const STREAMS: usize = 5_000;
/// How long a subscriber waits for others to be told of it.
const TELLING: Duration = Duration::from_secs(2);

/// Why somebody can't subscribe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there are as many subscribers as may be: {SUBSCRIBERS}, or {OF_TOPIC} of one topic")]
    Full,
    #[error("a subscriber may have {OF_SUBSCRIBER} topics")]
    TooManyTopics,
    #[error("as many streams are being published as may be: {STREAMS}")]
    TooManyStreams,
    #[error("the server is shutting down")]
    Closing,
}

/// What has been done since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Subscribers at this moment.
    pub subscribers: usize,
    /// Messages and pieces of streams that were published here.
    pub published: u64,
    /// Those that were put in line for a subscriber here, once for each.
    pub delivered: u64,
    /// Subscribers that did not keep up.
    pub too_slow: u64,
    /// Messages that could not be taken to other instances.
    pub not_carried: u64,
}

/// Takes what is published to those who are subscribed. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Broadcaster(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    carrier: Arc<dyn Carrier>,
    /// Room for streams that are published.
    streams: Arc<Semaphore>,
    /// Bytes that wait for subscribers.
    waiting: Arc<AtomicUsize>,
    published: AtomicU64,
    delivered: AtomicU64,
    too_slow: AtomicU64,
    not_carried: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    /// The subscribers of each topic that has some.
    topics: HashMap<Topic, HashMap<u64, Arc<Line>>>,
    subscribers: HashMap<u64, Arc<Line>>,
    last: u64,
    is_closing: bool,
}

impl Default for Broadcaster {
    fn default() -> Self {
        Self::new(Arc::new(Alone))
    }
}

impl Broadcaster {
    /// Without subscribers.
    #[must_use]
    pub(crate) fn new(carrier: Arc<dyn Carrier>) -> Self {
        Self(Arc::new(Shared {
            table: Mutex::default(),
            carrier,
            streams: Arc::new(Semaphore::new(STREAMS)),
            waiting: Arc::default(),
            published: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            too_slow: AtomicU64::new(0),
            not_carried: AtomicU64::new(0),
        }))
    }

    /// Publishes to everybody who is subscribed, wherever that is.
    pub(crate) fn publish(&self, topic: &Topic, frame: &Frame) {
        self.0.published.fetch_add(1, Relaxed);
        if !self.0.carrier.carry(topic, frame) {
            self.note_not_carried(1);
        }
        self.deliver(topic, frame);
    }

    /// Room for a stream that somebody publishes; given back when it is dropped.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn stream(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let room = Arc::clone(&self.0.streams).try_acquire_owned();
        room.map_err(|_| Refused::TooManyStreams)
    }

    /// Publishes to those in this process alone.
    pub(super) fn deliver(&self, topic: &Topic, frame: &Frame) {
        let table = self.table();
        let Some(lines) = table.topics.get(topic) else { return };
        for line in lines.values() {
            match line.put(frame.clone()) {
                Put::In => self.0.delivered.fetch_add(1, Relaxed),
                // Its own task takes it out of the table.
                Put::TooSlow => self.0.too_slow.fetch_add(1, Relaxed),
                Put::Ended => 0,
            };
        }
    }

    /// Subscribes to these. What is published after this has answered, on whatever instance, will come.
    ///
    /// # Errors
    /// When there is no room, or the server goes away.
    pub(crate) async fn subscribe(&self, topics: Vec<Topic>) -> Result<Subscription, Refused> {
        let mut subscription = {
            let mut table = self.table();
            if table.is_closing {
                return Err(Refused::Closing);
            }
            if table.subscribers.len() >= SUBSCRIBERS {
                return Err(Refused::Full);
            }
            table.last += 1;
            let (id, line) = (table.last, Arc::new(Line::new(Arc::clone(&self.0.waiting))));
            table.subscribers.insert(id, Arc::clone(&line));
            Subscription {
                id,
                line,
                topics: HashSet::new(),
                broadcaster: self.clone(),
            }
        };
        subscription.add(topics).await?;
        Ok(subscription)
    }

    /// How many there are, and what was done.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            subscribers: self.table().subscribers.len(),
            published: self.0.published.load(Relaxed),
            delivered: self.0.delivered.load(Relaxed),
            too_slow: self.0.too_slow.load(Relaxed),
            not_carried: self.0.not_carried.load(Relaxed),
        }
    }

    /// Takes no new subscribers, and tells those that there are that the server is going away.
    pub fn announce_end(&self) {
        let mut table = self.table();
        table.is_closing = true;
        for line in table.subscribers.values() {
            line.put(Frame::Closing);
        }
    }

    /// Lets all subscribers end when they have what waits for them, and takes no new ones.
    pub fn close(&self) {
        let mut table = self.table();
        table.is_closing = true;
        for line in table.subscribers.values() {
            line.end(End::Closing);
        }
    }

    /// The topics that somebody is subscribed to.
    pub(super) fn topics(&self) -> Vec<Topic> {
        self.table().topics.keys().cloned().collect()
    }

    /// Whether somebody is subscribed to something.
    pub(super) fn has_topics(&self) -> bool {
        !self.table().topics.is_empty()
    }

    pub(super) fn note_not_carried(&self, messages: usize) {
        let messages = u64::try_from(messages).unwrap_or(u64::MAX);
        self.0.not_carried.fetch_add(messages, Relaxed);
    }

    pub(super) fn leave(&self, id: u64, topics: &HashSet<Topic>) {
        let mut table = self.table();
        table.subscribers.remove(&id);
        self.forsake(&mut table, id, topics.iter());
    }

    /// Takes a subscriber out of these topics, and these out of what is followed if it was the last one.
    fn forsake<'a>(&self, table: &mut Table, id: u64, topics: impl Iterator<Item = &'a Topic>) {
        let mut left = Vec::new();
        for topic in topics {
            let Some(lines) = table.topics.get_mut(topic) else {
                continue;
            };
            lines.remove(&id);
            if lines.is_empty() {
                table.topics.remove(topic);
                left.push(topic.clone());
            }
        }
        if !left.is_empty() {
            self.0.carrier.unfollow(&left);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// Subscribes to these as well.
    ///
    /// # Errors
    /// When there is no room for one of them; none is added then.
    pub(crate) async fn add(&mut self, topics: Vec<Topic>) -> Result<(), Refused> {
        let mut new: Vec<Topic> = topics;
        new.retain(|topic| !self.topics.contains(topic));
        if self.topics.len() + new.len() > OF_SUBSCRIBER {
            return Err(Refused::TooManyTopics);
        }
        let told = {
            let mut table = self.broadcaster.table();
            let is_full = |topic: &Topic| {
                let lines = table.topics.get(topic);
                lines.is_some_and(|lines| lines.len() >= OF_TOPIC)
            };
            if new.iter().any(is_full) {
                return Err(Refused::Full);
            }
            for topic in &new {
                let lines = table.topics.entry(topic.clone()).or_default();
                lines.insert(self.id, Arc::clone(&self.line));
                self.topics.insert(topic.clone());
            }
            // In the table's order, or what is followed would not be what the table says.
            self.broadcaster.0.carrier.follow(&new)
        };
        if let Some(told) = told {
            // Without an answer it is subscribed here, and the rest will come.
            let _ = tokio::time::timeout(TELLING, told).await;
        }
        Ok(())
    }

    /// Is not subscribed to these any more.
    pub(crate) fn remove(&mut self, topics: &[Topic]) {
        let broadcaster = self.broadcaster.clone();
        let mut table = broadcaster.table();
        let had = topics.iter().filter(|topic| self.topics.remove(*topic));
        broadcaster.forsake(&mut table, self.id, had);
    }
}

#[cfg(test)]
mod tests;

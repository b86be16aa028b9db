//! Who is connected, and who of them may be called for what. Pure: times (since an origin of the caller's choice) are
//! arguments.
//!
//! Promises: only a worker that has said it is ready, has not asked for a pause and was heard of lately is a candidate; a
//! function counts as served exactly as long as some ready worker has it. Never: it does not choose.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::{Order, SocketId, Status, Worker};
use crate::domain::Timestamp;

/// Groups whose age is remembered after the last of their workers has left.
const REMEMBERED: usize = 1_024;

/// A worker's connection.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) worker: Arc<Worker>,
    pub(super) status: Status,
    /// When it was last heard of.
    pub(super) heard: Duration,
    /// The same for people.
    pub(super) heard_at: Timestamp,
    pub(super) orders: UnboundedSender<Order>,
    /// Why it ends, if that has been said.
    pub(super) end_reason: Option<&'static str>,
    /// What was written down of it last.
    pub(super) told: Option<(Status, Timestamp)>,
}

/// Somebody who may be called for a function.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    pub(super) socket: SocketId,
    pub(super) connected: &'a Connected,
    /// The app, as the worker calls it.
    pub(super) app: &'a Arc<str>,
    /// The age of its group: newer groups have higher ones.
    pub(super) age: u64,
}

/// The table.
#[derive(Debug)]
pub(super) struct Roster {
    /// Who has been silent for longer is no candidate.
    fresh: Duration,
    sockets: BTreeMap<SocketId, Connected>,
    /// When each group was first seen, in order.
    ages: HashMap<String, u64>,
    next: u64,
    served: HashSet<Arc<str>>,
}

impl Roster {
    pub(super) fn new(fresh: Duration) -> Self {
        Self {
            fresh,
            sockets: BTreeMap::new(),
            ages: HashMap::new(),
            next: 0,
            served: HashSet::new(),
        }
    }

    pub(super) fn join(&mut self, worker: Arc<Worker>, orders: UnboundedSender<Order>, now: Duration) -> SocketId {
        self.next += 1;
        let socket = SocketId(self.next);
        for group in &worker.groups {
            if !self.ages.contains_key(&group.hash) {
                self.forget_ages();
                self.ages.insert(group.hash.clone(), self.next);
            }
        }
        let heard_at = worker.connected_at;
        let connected = Connected {
            worker,
            status: Status::Connected,
            heard: now,
            heard_at,
            orders,
            end_reason: None,
            told: None,
        };
        self.sockets.insert(socket, connected);
        socket
    }

    /// Makes room for another group.
    fn forget_ages(&mut self) {
        if self.ages.len() < REMEMBERED {
            return;
        }
        let groups = self.sockets.values().flat_map(|connected| &connected.worker.groups);
        let present: HashSet<&str> = groups.map(|group| group.hash.as_str()).collect();
        self.ages.retain(|hash, _| present.contains(hash.as_str()));
    }

    /// A worker has told how it is. Answers whether a function is served now that was not before.
    pub(super) fn set(&mut self, socket: SocketId, status: Status) -> bool {
        let Some(connected) = self.sockets.get_mut(&socket) else {
            return false;
        };
        connected.status = status;
        self.count()
    }

    /// Whether a worker that is connected here takes so many requests only.
    pub(super) fn is_limited(&self, instance: &str) -> bool {
        let workers = self.sockets.values().map(|connected| &connected.worker);
        let mut of_it = workers.filter(|worker| &*worker.instance == instance);
        of_it.any(|worker| worker.room.is_some())
    }

    /// Whether this connection may be given requests.
    pub(super) fn is_ready(&self, socket: SocketId) -> bool {
        let connected = self.sockets.get(&socket);
        connected.is_some_and(|connected| connected.status == Status::Ready)
    }

    pub(super) fn heard(&mut self, socket: SocketId, now: Duration, at: Timestamp) {
        if let Some(connected) = self.sockets.get_mut(&socket) {
            connected.heard = now;
            connected.heard_at = at;
        }
    }

    /// Says why a connection ends.
    pub(super) fn note_end(&mut self, socket: SocketId, reason: &'static str) {
        if let Some(connected) = self.sockets.get_mut(&socket) {
            connected.end_reason = Some(reason);
        }
    }

    /// Answers who has left.
    pub(super) fn leave(&mut self, socket: SocketId) -> Option<Connected> {
        let gone = self.sockets.remove(&socket);
        self.count();
        gone
    }

    /// Works out which functions are served. Answers whether one is that was not.
    fn count(&mut self) -> bool {
        let ready = self
            .sockets
            .values()
            .filter(|connected| connected.status == Status::Ready);
        let groups = ready.flat_map(|connected| &connected.worker.groups);
        let served: HashSet<Arc<str>> = groups.flat_map(|group| group.functions.iter().cloned()).collect();
        let is_more = served.iter().any(|function| !self.served.contains(function));
        self.served = served;
        is_more
    }

    /// Whether a ready worker has this function.
    pub(super) fn serves(&self, function: &str) -> bool {
        self.served.contains(function)
    }

    /// All functions that ready workers have.
    pub(super) fn serving(&self) -> Vec<String> {
        self.served.iter().map(ToString::to_string).collect()
    }

    /// Who may be called for this function now, whether or not they have room.
    pub(super) fn candidates<'a>(&'a self, function: &'a str, now: Duration) -> impl Iterator<Item = Candidate<'a>> {
        let fresh = self.fresh;
        let ready = move |connected: &Connected| connected.status == Status::Ready && now < connected.heard + fresh;
        self.sockets.iter().filter_map(move |(socket, connected)| {
            if !ready(connected) {
                return None;
            }
            let mut groups = connected.worker.groups.iter();
            let group = groups.find(|group| group.functions.contains(function))?;
            Some(Candidate {
                socket: *socket,
                connected,
                app: &group.app,
                age: self.ages.get(&group.hash).copied().unwrap_or(0),
            })
        })
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = (SocketId, &mut Connected)> {
        self.sockets.iter_mut().map(|(socket, connected)| (*socket, connected))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (SocketId, &Connected)> {
        self.sockets.iter().map(|(socket, connected)| (*socket, connected))
    }
}

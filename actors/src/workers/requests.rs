//! The requests that workers have been sent: who is at work on each, by which lease, and what came of it. Pure: times
//! (since an origin of the caller's choice) and fresh ids are arguments.
//!
//! ```text
//!               sent                     acknowledged, extended
//!   Unsent ────────────► Sent ─────────────────────────────────► Sent (acknowledged)
//!     ▲                    │ │                                      │       │
//!     └────────────────────┘ └──────────────┐  answered  ┌─────────┘       │ its lease is over
//!       nobody acknowledged it in time,     ▼            ▼                 ▼
//!       or its connection is gone           Answered ──► taken             Lost
//! ```
//!
//! A request is known by its [`CallKey`], which follows from everything that the app is told, so the same call made again is
//! the same request: an answer to the first making ends the second. Each *sending* of it has an id of its own, and what is
//! said of a sending that is not the last (a lease extended, an acknowledgement) is refused.
//!
//! Promises: whoever waits for a request gets the first answer to any sending of it, once; a lease is extended only by its
//! holder, in time, with its present id (or the one before, if the answer to that got lost), and never after an answer; what
//! nobody waits for is forgotten within a bounded time, and never takes more than [`KEPT_BYTES`]. Requests outlive the
//! connections that brought them. Never: it does not know a socket.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use ulid::Ulid;

use super::{Place, SocketId};

/// What a worker has answered, as it came.
pub type Answer = Vec<u8>;

/// How much longer than its lease a request is waited for: the extension may be on its way.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How long an answer is kept that nobody waits for: the call it belongs to may be made again.
const KEPT: Duration = Duration::from_secs(60);
/// Bytes of such answers, at the most. What does not fit is dropped: its call is made again.
const KEPT_BYTES: usize = 64 * 1024 * 1024;
/// Sendings of a request that nobody acknowledges, at the most.
const SENDINGS: u32 = 3;

/// Which call it is: the same for all makings of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallKey(u128);

impl CallKey {
    /// From everything that the app is told.
    #[must_use]
    pub fn derive(told: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in told {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// One sending of a request, as the worker knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// Which call.
    pub key: CallKey,
    /// Which sending.
    pub sending: Ulid,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.key, self.sending)
    }
}

/// A text that is not the id of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a request")]
pub struct RequestIdError;

impl FromStr for RequestId {
    type Err = RequestIdError;

    fn from_str(text: &str) -> Result<Self, RequestIdError> {
        let (key, sending) = text.split_once('-').ok_or(RequestIdError)?;
        let is_hex = key.len() == 32 && key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let key = u128::from_str_radix(key, 16)
            .ok()
            .filter(|_| is_hex)
            .ok_or(RequestIdError)?;
        Ok(Self {
            key: CallKey(key),
            sending: Ulid::from_string(sending).map_err(|_| RequestIdError)?,
        })
    }
}

/// How a request stands, for whoever waits for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is to be sent (again).
    Send,
    /// Nothing to do before this time, unless something is heard.
    Until(Duration),
    /// It was answered, and is done with.
    Answered(Answer),
    /// Nobody is at work on it any more, or nobody ever was; it is done with.
    Lost,
}

/// To whom a request is sent.
#[derive(Debug, Clone)]
pub(super) struct Sending {
    pub(super) id: RequestId,
    pub(super) lease: Ulid,
    pub(super) socket: SocketId,
    pub(super) instance: Arc<str>,
}

#[derive(Debug)]
struct Sent {
    sending: Sending,
    previous: Option<Ulid>,
    expires: Duration,
    is_acknowledged: bool,
}

#[derive(Debug)]
enum State {
    Unsent,
    Sent(Sent),
    Answered { answer: Answer, until: Duration },
}

#[derive(Debug)]
struct Entry {
    state: State,
    sendings: u32,
    is_awaited: bool,
    bell: Arc<Notify>,
}

/// The table.
#[derive(Debug)]
pub(super) struct Requests {
    lease: Duration,
    entries: HashMap<CallKey, Entry>,
    /// Bytes of answers that nobody waits for.
    kept: usize,
    /// Places of requests that nobody is at work on any more, until somebody asks.
    left: Vec<Place>,
}

impl Requests {
    pub(super) fn new(lease: Duration) -> Self {
        Self {
            lease,
            entries: HashMap::new(),
            kept: 0,
            left: Vec::new(),
        }
    }

    /// Somebody waits for this request from now on: the bell that rings when there is something to look at. `None` if
    /// somebody does already.
    pub(super) fn attach(&mut self, key: CallKey) -> Option<Arc<Notify>> {
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            state: State::Unsent,
            sendings: 0,
            is_awaited: false,
            bell: Arc::default(),
        });
        if std::mem::replace(&mut entry.is_awaited, true) {
            return None;
        }
        if let State::Answered { answer, .. } = &entry.state {
            self.kept -= answer.len();
        }
        Some(Arc::clone(&entry.bell))
    }

    /// Whoever waited waits no more, without an answer. A worker that is at work on it may go on.
    pub(super) fn let_go(&mut self, key: CallKey, now: Duration) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if !std::mem::replace(&mut entry.is_awaited, false) {
            return;
        }
        match &mut entry.state {
            State::Unsent => drop(self.entries.remove(&key)),
            State::Sent(_) => {}
            State::Answered { answer, until } => {
                *until = now + KEPT;
                let size = answer.len();
                if self.kept + size > KEPT_BYTES {
                    self.entries.remove(&key);
                } else {
                    self.kept += size;
                }
            }
        }
    }

    /// Whoever waited has given the request up for good.
    pub(super) fn give_up(&mut self, key: CallKey) {
        if let Some(entry) = self.entries.remove(&key) {
            self.left.extend(entry.state.place());
        }
    }

    /// Places at workers that have come free since the last time.
    pub(super) fn take_left(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.left)
    }

    /// How a request stands that somebody waits for.
    pub(super) fn progress(&mut self, key: CallKey, now: Duration) -> Progress {
        let Some(entry) = self.entries.get_mut(&key) else {
            return Progress::Lost;
        };
        if let State::Sent(sent) = &entry.state {
            let (end, is_acknowledged) = (sent.end(), sent.is_acknowledged);
            if now < end {
                return Progress::Until(end);
            }
            self.left.extend(entry.state.place());
            if is_acknowledged {
                self.entries.remove(&key);
                return Progress::Lost;
            }
            entry.state = State::Unsent;
        }
        if matches!(entry.state, State::Unsent) {
            if entry.sendings < SENDINGS {
                return Progress::Send;
            }
            self.entries.remove(&key);
            return Progress::Lost;
        }
        match self.entries.remove(&key).map(|entry| entry.state) {
            Some(State::Answered { answer, .. }) => Progress::Answered(answer),
            _ => Progress::Lost,
        }
    }

    /// A request is sent to somebody. Answers whether it was to be.
    pub(super) fn sent(&mut self, sending: Sending, now: Duration) -> bool {
        let expires = now + self.lease;
        if let Some(entry) = self.entries.get_mut(&sending.id.key)
            && matches!(entry.state, State::Unsent)
        {
            entry.sendings += 1;
            entry.state = State::Sent(Sent {
                sending,
                previous: None,
                expires,
                is_acknowledged: false,
            });
            return true;
        }
        false
    }

    /// A worker has begun with it.
    pub(super) fn acknowledge(&mut self, id: RequestId) {
        if let Some(sent) = self.sent_mut(id) {
            sent.is_acknowledged = true;
        }
    }

    /// A worker wants its lease extended. Answers the id of the lease that it holds now, unless it holds none.
    pub(super) fn extend(&mut self, id: RequestId, lease: Ulid, by: &str, fresh: Ulid, now: Duration) -> Option<Ulid> {
        let length = self.lease;
        let sent = self.sent_mut(id)?;
        if now >= sent.expires || &*sent.sending.instance != by {
            return None;
        }
        if lease == sent.sending.lease {
            sent.previous = Some(std::mem::replace(&mut sent.sending.lease, fresh));
            sent.expires = now + length;
            // Who extends its lease has begun, whatever became of the word that it has.
            sent.is_acknowledged = true;
            Some(fresh)
        } else {
            (sent.previous == Some(lease)).then_some(sent.sending.lease)
        }
    }

    /// A worker wants a lease extended that was given elsewhere, or by this process before it was restarted: it has it from
    /// now on, if nothing else is known of the request.
    pub(super) fn adopt(&mut self, sending: &Sending, now: Duration) -> bool {
        let is_unknown = !self.entries.contains_key(&sending.id.key);
        if is_unknown {
            let entry = Entry {
                sendings: 1,
                is_awaited: false,
                bell: Arc::default(),
                state: State::Sent(Sent {
                    previous: None,
                    expires: now + self.lease,
                    is_acknowledged: true,
                    sending: sending.clone(),
                }),
            };
            self.entries.insert(sending.id.key, entry);
        }
        is_unknown
    }

    /// A lease was extended elsewhere.
    pub(super) fn extended(&mut self, id: RequestId, before: Ulid, held: Ulid, now: Duration) {
        let length = self.lease;
        if let Some(sent) = self.sent_mut(id)
            && (sent.sending.lease == before || sent.previous == Some(before))
        {
            sent.previous = Some(before);
            sent.sending.lease = held;
            sent.expires = now + length;
            sent.is_acknowledged = true;
        }
    }

    /// Whether somebody here waits for this request.
    pub(super) fn is_awaited(&self, key: CallKey) -> bool {
        self.entries.get(&key).is_some_and(|entry| entry.is_awaited)
    }

    /// A worker has answered. The first answer counts; one that nobody waits for is kept for a while.
    pub(super) fn answer(&mut self, id: RequestId, answer: Answer, now: Duration) {
        let size = answer.len();
        let entry = self.entries.entry(id.key).or_insert_with(|| Entry {
            state: State::Unsent,
            sendings: 0,
            is_awaited: false,
            bell: Arc::default(),
        });
        if matches!(entry.state, State::Answered { .. }) {
            return;
        }
        self.left.extend(entry.state.place());
        if !entry.is_awaited {
            if self.kept + size > KEPT_BYTES {
                self.entries.remove(&id.key);
                return;
            }
            self.kept += size;
        }
        entry.state = State::Answered {
            answer,
            until: now + KEPT,
        };
        entry.bell.notify_one();
    }

    /// What this socket was sent and has not acknowledged, it never will.
    pub(super) fn withdraw(&mut self, socket: SocketId) {
        for entry in self.entries.values_mut() {
            if let State::Sent(sent) = &entry.state
                && sent.sending.socket == socket
                && !sent.is_acknowledged
            {
                self.left.extend(entry.state.place());
                entry.state = State::Unsent;
                entry.bell.notify_one();
            }
        }
        self.entries
            .retain(|_, entry| entry.is_awaited || !matches!(entry.state, State::Unsent));
    }

    /// Forgets what nobody waits for and nobody is at work on.
    pub(super) fn purge(&mut self, now: Duration) {
        let kept = &mut self.kept;
        self.entries.retain(|_, entry| {
            if entry.is_awaited {
                return true;
            }
            match &entry.state {
                State::Unsent => false,
                State::Sent(sent) => now < sent.end(),
                State::Answered { until, .. } if now < *until => true,
                State::Answered { answer, .. } => {
                    *kept -= answer.len();
                    false
                }
            }
        });
    }

    /// Requests that this worker is at work on.
    pub(super) fn in_hand(&self, instance: &str, now: Duration) -> usize {
        let of_it = |sent: &Sent| &*sent.sending.instance == instance && now < sent.end();
        self.under_way().filter(|sent| of_it(sent)).count()
    }

    /// Requests that came by this socket and are not answered.
    pub(super) fn of_socket(&self, socket: SocketId) -> usize {
        self.under_way().filter(|sent| sent.sending.socket == socket).count()
    }

    /// Requests that workers are at work on, as far as is known.
    pub(super) fn open(&self) -> usize {
        self.under_way().count()
    }

    fn under_way(&self) -> impl Iterator<Item = &Sent> {
        self.entries.values().filter_map(|entry| match &entry.state {
            State::Sent(sent) => Some(sent),
            State::Unsent | State::Answered { .. } => None,
        })
    }

    fn sent_mut(&mut self, id: RequestId) -> Option<&mut Sent> {
        match &mut self.entries.get_mut(&id.key)?.state {
            State::Sent(sent) if sent.sending.id == id => Some(sent),
            _ => None,
        }
    }
}

impl State {
    /// The place at a worker that it stands for.
    fn place(&self) -> Option<Place> {
        match self {
            Self::Sent(sent) => Some(sent.place()),
            Self::Unsent | Self::Answered { .. } => None,
        }
    }
}

impl Sent {
    fn place(&self) -> Place {
        Place {
            instance: Arc::clone(&self.sending.instance),
            request: self.sending.id,
        }
    }

    /// When nobody counts as being at work on it any more.
    fn end(&self) -> Duration {
        if self.is_acknowledged {
            self.expires + GRACE
        } else {
            self.expires
        }
    }
}

#[cfg(test)]
mod tests;

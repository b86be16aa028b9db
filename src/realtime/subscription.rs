//! A subscriber's end: what waits for it, and the end of that.
//!
//! Promises: what is put in comes out in that order, once; who puts in never waits. What waits is bounded: a subscriber for
//! whom there is no more room gets nothing of it, and is told so.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::sync::Notify;

use super::{Broadcaster, Topic};

/// Messages that may wait for a subscriber.
const WAITING: usize = 4_096;
/// Bytes that may wait for a subscriber, beyond one message.
const WAITING_BYTES: usize = 4 * 1024 * 1024;
/// Bytes that may wait for all subscribers together before none of them is given time any more.
const WAITING_BYTES_OF_ALL: usize = 256 * 1024 * 1024;

/// What subscribers are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A message, on one line.
    Message(ByteString),
    /// Bytes that are passed on as they are.
    Raw(Bytes),
    /// The server is going away; what comes until then comes.
    Closing,
}

impl Frame {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Message(text) => text.len(),
            Self::Raw(bytes) => bytes.len(),
            Self::Closing => 0,
        }
    }
}

/// Why nothing comes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It did not keep up, and has missed something.
    TooSlow,
    /// The server goes away.
    Closing,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It waits for the subscriber.
    In,
    /// There is no room: nothing comes any more.
    TooSlow,
    /// Nothing came any more before.
    Ended,
}

/// What waits for one subscriber.
#[derive(Debug)]
pub(super) struct Line {
    state: Mutex<State>,
    bell: Notify,
    /// Bytes that wait for all of them.
    of_all: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    end: Option<End>,
}

impl Line {
    pub(super) fn new(of_all: Arc<AtomicUsize>) -> Self {
        Self {
            state: Mutex::default(),
            bell: Notify::new(),
            of_all,
        }
    }

    pub(super) fn put(&self, frame: Frame) -> Put {
        let mut state = self.state();
        if state.end.is_some() {
            return Put::Ended;
        }
        let bytes = frame.len();
        let is_full = state.frames.len() >= WAITING
            || state.bytes + bytes > WAITING_BYTES
            || self.of_all.load(Relaxed) + bytes > WAITING_BYTES_OF_ALL;
        // Whoever has read everything can take one, however large.
        if is_full && !state.frames.is_empty() {
            self.of_all.fetch_sub(state.bytes, Relaxed);
            *state = State {
                end: Some(End::TooSlow),
                ..State::default()
            };
            self.bell.notify_one();
            return Put::TooSlow;
        }
        state.bytes += bytes;
        self.of_all.fetch_add(bytes, Relaxed);
        state.frames.push_back(frame);
        self.bell.notify_one();
        Put::In
    }

    /// Nothing comes after what waits already.
    pub(super) fn end(&self, end: End) {
        self.state().end.get_or_insert(end);
        self.bell.notify_one();
    }

    async fn next(&self) -> Result<Frame, End> {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.bell.notified().await;
        }
    }

    /// Waits until there is no more room for what comes, without taking anything.
    async fn cut_off(&self) {
        while self.state().end != Some(End::TooSlow) {
            self.bell.notified().await;
        }
    }

    fn take(&self) -> Option<Result<Frame, End>> {
        let mut state = self.state();
        if let Some(frame) = state.frames.pop_front() {
            state.bytes -= frame.len();
            self.of_all.fetch_sub(frame.len(), Relaxed);
            return Some(Ok(frame));
        }
        state.end.map(Err)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.state().bytes, Relaxed);
    }
}

/// A subscription; dropped, it is over.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(super) id: u64,
    pub(super) line: Arc<Line>,
    pub(super) topics: HashSet<Topic>,
    pub(super) broadcaster: Broadcaster,
}

impl Subscription {
    /// The next frame, however long it takes. May be given up at any time: nothing gets lost by that.
    ///
    /// # Errors
    /// When there is none any more.
    pub(crate) async fn next(&self) -> Result<Frame, End> {
        self.line.next().await
    }

    /// Waits until it is too late to take anything: it has missed something. May be given up at any time.
    pub(crate) async fn cut_off(&self) {
        self.line.cut_off().await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.broadcaster.leave(self.id, &self.topics);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(bytes: usize) -> Frame {
        Frame::Raw(vec![0; bytes].into())
    }

    #[actix_web::test]
    async fn frames_come_out_as_they_went_in_and_then_the_end() {
        let all = Arc::new(AtomicUsize::new(0));
        let line = Line::new(Arc::clone(&all));
        for size in [1, 2, 3] {
            assert_eq!(line.put(raw(size)), Put::In);
        }
        line.end(End::Closing);
        assert_eq!((line.put(raw(4)), all.load(Relaxed)), (Put::Ended, 6));
        for size in [1, 2, 3] {
            assert_eq!(line.next().await, Ok(raw(size)));
        }
        assert_eq!((line.next().await, all.load(Relaxed)), (Err(End::Closing), 0));
    }

    #[actix_web::test]
    async fn whoever_does_not_keep_up_is_told_so() {
        let all = Arc::new(AtomicUsize::new(0));
        let line = Line::new(Arc::clone(&all));
        assert_eq!(line.put(raw(2 * WAITING_BYTES)), Put::In, "one always fits");
        assert_eq!(line.put(raw(1)), Put::TooSlow);
        assert_eq!((line.put(raw(1)), all.load(Relaxed)), (Put::Ended, 0));
        assert_eq!(line.next().await, Err(End::TooSlow));
        let line = Line::new(Arc::clone(&all));
        for _ in 0..WAITING {
            assert_eq!(line.put(raw(1)), Put::In);
        }
        assert_eq!(line.put(raw(1)), Put::TooSlow);
    }

    #[actix_web::test]
    async fn together_they_have_so_much_room_and_it_comes_back() {
        let all = Arc::new(AtomicUsize::new(WAITING_BYTES_OF_ALL));
        let line = Line::new(Arc::clone(&all));
        assert_eq!(line.put(raw(10)), Put::In, "one that has read everything can take one");
        assert_eq!(line.put(raw(1)), Put::TooSlow);
        let line = Line::new(Arc::clone(&all));
        assert_eq!(line.put(raw(10)), Put::In);
        drop(line);
        assert_eq!(all.load(Relaxed), WAITING_BYTES_OF_ALL);
    }
}

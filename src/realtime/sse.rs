//! A subscriber that reads server-sent events.
//!
//! Promises: a message is one event; bytes that are passed on are written as they came, and nothing is put into the middle
//! of an event of theirs. Something is written now and then, unless such an event is not complete. Ends when its time is
//! over ([`Pace`]), and when the subscription does.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::time::{Instant, sleep_until};

use super::subscription::{Frame, Subscription};

/// The times of a stream of events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How often something is written while there is nothing to tell, so that nobody in between takes it for dead.
    ping: Duration,
    /// How long it lasts.
    end: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(15),
            end: Duration::from_secs(15 * 60),
        }
    }
}

/// Messages that may wait for the end of somebody else's event.
const HELD: usize = 256;

/// What is written of a subscription.
pub(crate) fn events(subscription: Subscription, pace: Pace) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let now = Instant::now();
    let state = State {
        subscription,
        writer: Writer::default(),
        ping: pace.ping,
        end: now + pace.end,
        next_ping: now + pace.ping,
    };
    unfold(state, async |mut state| Some((Ok(state.next().await?), state)))
}

struct State {
    subscription: Subscription,
    writer: Writer,
    ping: Duration,
    end: Instant,
    next_ping: Instant,
}

impl State {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.writer.held() {
                return Some(bytes);
            }
            let written = tokio::select! {
                frame = self.subscription.next() => match frame.ok()? {
                    Frame::Message(text) => self.writer.message(text).ok()?,
                    Frame::Raw(bytes) => Some(self.writer.raw(bytes)),
                    // That is for those who can answer to it.
                    Frame::Closing => None,
                },
                () = sleep_until(self.next_ping) => {
                    self.next_ping = Instant::now() + self.ping;
                    self.writer.ping()
                }
                () = sleep_until(self.end) => return None,
            };
            if let Some(bytes) = written {
                self.next_ping = Instant::now() + self.ping;
                return Some(bytes);
            }
        }
    }
}

/// Too much waits for the end of an event that does not come.
#[derive(Debug, PartialEq, Eq)]
struct Stuck;

/// Keeps events apart.
#[derive(Debug)]
struct Writer {
    /// The last of the bytes that were passed on.
    tail: [u8; 4],
    held: VecDeque<ByteString>,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            tail: *b"\n\n\n\n",
            held: VecDeque::new(),
        }
    }
}

impl Writer {
    /// Whether an event was passed on that is not complete yet.
    fn is_open(&self) -> bool {
        let tail = &self.tail;
        !(tail.ends_with(b"\n\n") || tail.ends_with(b"\r\r") || tail == b"\r\n\r\n")
    }

    /// Bytes as they are.
    fn raw(&mut self, bytes: Bytes) -> Bytes {
        for byte in &bytes[bytes.len().saturating_sub(self.tail.len())..] {
            self.tail.rotate_left(1);
            self.tail[3] = *byte;
        }
        bytes
    }

    /// A message, unless it has to wait.
    fn message(&mut self, text: ByteString) -> Result<Option<Bytes>, Stuck> {
        if !self.is_open() {
            return Ok(Some(event(&text)));
        }
        if self.held.len() >= HELD {
            return Err(Stuck);
        }
        self.held.push_back(text);
        Ok(None)
    }

    /// A message that had to wait.
    fn held(&mut self) -> Option<Bytes> {
        if self.is_open() {
            return None;
        }
        self.held.pop_front().map(|text| event(&text))
    }

    /// What says nothing.
    fn ping(&self) -> Option<Bytes> {
        (!self.is_open()).then_some(Bytes::from_static(b":\n\n"))
    }
}

fn event(message: &str) -> Bytes {
    Bytes::from(format!("data: {message}\n\n"))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use proptest::prelude::*;

    use super::*;
    use crate::realtime::{Broadcaster, Topic};

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn nothing_comes_between_the_parts_of_an_event() {
        let mut writer = Writer::default();
        assert_eq!(writer.ping(), Some(bytes(":\n\n")));
        assert_eq!(writer.message("{}".into()), Ok(Some(bytes("data: {}\n\n"))));
        for part in ["event: x\n", "data: 1", "\n", ""] {
            assert_eq!(writer.raw(bytes(part)), bytes(part));
            assert_eq!(writer.ping(), None, "after {part:?}");
        }
        assert_eq!(writer.message("{}".into()), Ok(None));
        assert_eq!(writer.held(), None);
        writer.raw(bytes("\n"));
        assert_eq!((writer.held(), writer.held()), (Some(bytes("data: {}\n\n")), None));
        assert_eq!(writer.ping(), Some(bytes(":\n\n")));
        writer.raw(bytes("data: 2\r\n"));
        assert_eq!(writer.ping(), None);
        writer.raw(bytes("\r\n"));
        assert_eq!(writer.ping(), Some(bytes(":\n\n")));
    }

    #[test]
    fn what_waits_for_the_end_of_an_event_is_bounded() {
        let mut writer = Writer::default();
        writer.raw(bytes("data:"));
        let held = (0..=HELD).take_while(|_| writer.message("{}".into()).is_ok()).count();
        assert_eq!(held, HELD);
    }

    async fn written(pace: Pace) -> (Broadcaster, impl Stream<Item = Result<Bytes, Infallible>>) {
        let broadcaster = Broadcaster::default();
        let subscribed = broadcaster.subscribe(vec![Topic::new("c", "t")]).await;
        let events = events(subscribed.expect("room"), pace);
        (broadcaster, events)
    }

    const HOUR: Duration = Duration::from_secs(3_600);
    const SOON: Duration = Duration::from_millis(1);

    #[actix_web::test]
    async fn something_is_written_now_and_then() {
        let (broadcaster, events) = written(Pace { ping: SOON, end: HOUR }).await;
        let mut events = std::pin::pin!(events);
        for _ in 0..2 {
            assert_eq!(events.next().await, Some(Ok(bytes(":\n\n"))));
        }
        broadcaster.publish(&Topic::new("c", "t"), &Frame::Message("{}".into()));
        assert_eq!(events.next().await, Some(Ok(bytes("data: {}\n\n"))));
    }

    #[actix_web::test]
    async fn it_ends_when_its_time_is_over_and_leaves_nothing() {
        let (broadcaster, events) = written(Pace { ping: HOUR, end: SOON }).await;
        assert_eq!(events.count().await, 0);
        assert_eq!(broadcaster.counts().subscribers, 0);
    }

    #[actix_web::test]
    async fn it_ends_when_the_server_goes_away() {
        let (broadcaster, events) = written(Pace::default()).await;
        broadcaster.announce_end();
        broadcaster.publish(&Topic::new("c", "t"), &Frame::Raw(bytes("data: 1\n\n")));
        broadcaster.close();
        let all: Vec<_> = events.collect().await;
        assert_eq!(all, [Ok(bytes("data: 1\n\n"))], "and says nothing of it");
    }

    proptest! {
        /// The state does not depend on where bytes are cut.
        #[test]
        fn an_event_ends_where_it_ends(text in "[a\r\n]{1,40}", cuts in prop::collection::vec(any::<usize>(), 0..6)) {
            let mut whole = Writer::default();
            whole.raw(bytes(&text));
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut parts = Writer::default();
            for part in cuts.windows(2) {
                parts.raw(bytes(&text[part[0]..part[1]]));
            }
            prop_assert_eq!(whole.is_open(), parts.is_open());
            let ends = ["\n\n", "\r\r", "\r\n\r\n"];
            let is_complete = ends.iter().any(|end| format!("\n\n\n\n{text}").ends_with(end));
            prop_assert_eq!(whole.is_open(), !is_complete);
        }
    }
}

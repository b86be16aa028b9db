//! Messages between instances, by pub/sub of Redis.
//!
//! A topic is a channel of Redis, named by a digest of it: an instance subscribes to those that somebody is subscribed to
//! there, and publishes to whichever it is about; Redis sees to it that nobody hears of anything else. What an instance
//! says itself it has delivered already, and passes over when it comes back.
//!
//! Promises: what one instance publishes on a topic comes to another in that order. Nobody waits for Redis: what it can't
//! take is dropped and counted, and what waits for it is bounded. A connection that breaks is opened anew while somebody
//! is subscribed, or when something is published next; that it broke is said once. As long as nobody is subscribed
//! nothing is asked of Redis.

mod parcel;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures_util::StreamExt as _;
use redis::aio::{MultiplexedConnection, PubSub, PubSubSink};
use redis::{ConnectionInfo, RedisError, RedisResult};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Duration, Instant, sleep_until, timeout};

use self::parcel::Own;
use super::carrier::Carrier;
use super::{Broadcaster, Frame, Topic};
use crate::pubsub::{self, RETRY, within};

/// Messages that may wait for Redis.
const WAITING: usize = 8_192;
/// Their bytes.
const WAITING_BYTES: usize = 32 * 1024 * 1024;
/// Topics that Redis is told of together.
const TOPICS_TOGETHER: usize = 1_000;
/// Messages that go to Redis together.
const TOGETHER: usize = 64;
/// How often it is made sure that Redis is still there while nothing comes.
const PING: Duration = Duration::from_secs(10);

/// What subscribers here want of others.
#[derive(Debug)]
enum Order {
    Follow(Vec<Topic>, oneshot::Sender<()>),
    Unfollow(Vec<Topic>),
}

/// The end where a broadcaster hands over what others are to hear.
#[derive(Debug)]
pub(crate) struct Relay {
    messages: Sender<(Topic, Frame)>,
    orders: UnboundedSender<Order>,
    /// Bytes of messages that wait.
    bytes: Arc<AtomicUsize>,
    wanted: Arc<Notify>,
}

/// The end that [`run`] works on.
#[derive(Debug)]
pub(crate) struct Work {
    messages: Receiver<(Topic, Frame)>,
    orders: UnboundedReceiver<Order>,
    bytes: Arc<AtomicUsize>,
    wanted: Arc<Notify>,
}

impl Relay {
    /// Both ends.
    pub(crate) fn new() -> (Self, Work) {
        let (messages, waiting) = channel(WAITING);
        let (orders, ordered) = unbounded_channel();
        let (bytes, wanted) = (Arc::<AtomicUsize>::default(), Arc::<Notify>::default());
        let relay = Self {
            messages,
            orders,
            bytes: Arc::clone(&bytes),
            wanted: Arc::clone(&wanted),
        };
        let work = Work {
            messages: waiting,
            orders: ordered,
            bytes,
            wanted,
        };
        (relay, work)
    }

    fn order(&self, order: Order) {
        // Nobody works on it when the process stops.
        let _ = self.orders.send(order);
        self.wanted.notify_one();
    }
}

impl Carrier for Relay {
    fn carry(&self, topic: &Topic, frame: &Frame) -> bool {
        if self.bytes.load(Relaxed) > WAITING_BYTES {
            return false;
        }
        // Before it can be taken out, or the sum would pass below zero.
        self.bytes.fetch_add(frame.len(), Relaxed);
        let is_taken = self.messages.try_send((topic.clone(), frame.clone())).is_ok();
        if is_taken {
            self.wanted.notify_one();
        } else {
            self.bytes.fetch_sub(frame.len(), Relaxed);
        }
        is_taken
    }

    fn follow(&self, topics: &[Topic]) -> Option<oneshot::Receiver<()>> {
        let (done, heard) = oneshot::channel();
        self.order(Order::Follow(topics.to_vec(), done));
        Some(heard)
    }

    fn unfollow(&self, topics: &[Topic]) {
        self.order(Order::Unfollow(topics.to_vec()));
    }
}

impl Work {
    /// Drops what waits, for so long; answers how many messages that were.
    async fn drop_all(&mut self, lasting: Duration) -> usize {
        let mut dropped = 0;
        let dropping = async {
            loop {
                tokio::select! {
                    Some((_, frame)) = self.messages.recv() => {
                        self.bytes.fetch_sub(frame.len(), Relaxed);
                        dropped += 1;
                    }
                    // Who has ordered goes on without an answer; what is followed then is in the broadcaster's table.
                    Some(_) = self.orders.recv() => {}
                    else => std::future::pending::<()>().await,
                }
            }
        };
        let _ = timeout(lasting, dropping).await;
        dropped
    }
}

/// Takes messages to and fro until the thread ends. `servers`: any of them will do.
pub(crate) async fn run(
    servers: Vec<ConnectionInfo>,
    prefix: String,
    node: String,
    mut work: Work,
    broadcaster: Broadcaster,
) {
    let own = Own { node, prefix };
    let mut is_away = false;
    for server in servers.iter().cycle() {
        if !broadcaster.has_topics() {
            work.wanted.notified().await;
        }
        let lost = broadcaster.counts().not_carried;
        let error = match pubsub::open(server).await {
            Ok((speaking, listening)) => {
                if is_away {
                    tracing::info!("messages between subscribers of different instances arrive again");
                }
                is_away = false;
                talk(speaking, listening, &own, &mut work, &broadcaster).await
            }
            Err(error) => error,
        };
        let dropped = work.drop_all(RETRY).await;
        broadcaster.note_not_carried(dropped);
        // A connection that nobody needed is no loss.
        let is_missed = broadcaster.counts().not_carried > lost || broadcaster.has_topics();
        if is_missed && !is_away {
            is_away = true;
            tracing::warn!(%error, "messages between subscribers of different instances are lost until Redis answers");
        }
    }
}

/// Speaks and listens until a connection breaks; answers how.
async fn talk(
    speaking: MultiplexedConnection,
    listening: PubSub,
    own: &Own,
    work: &mut Work,
    broadcaster: &Broadcaster,
) -> RedisError {
    // Who has ordered until now is in the broadcaster's table.
    let mut ordered = Vec::new();
    while let Ok(order) = work.orders.try_recv() {
        ordered.push(order);
    }
    let (sink, heard) = listening.split();
    let mut listener = Listener {
        sink,
        followed: HashSet::new(),
    };
    if let Err(error) = listener.follow(own, broadcaster.topics()).await {
        return error;
    }
    drop(ordered);
    let Work {
        messages,
        orders,
        bytes,
        ..
    } = work;
    tokio::select! {
        error = speak(speaking, messages, bytes, own, broadcaster) => error,
        error = listen(listener, heard, orders, own, broadcaster) => error,
    }
}

async fn speak(
    mut speaking: MultiplexedConnection,
    messages: &mut Receiver<(Topic, Frame)>,
    bytes: &AtomicUsize,
    own: &Own,
    broadcaster: &Broadcaster,
) -> RedisError {
    let mut together = Vec::with_capacity(TOGETHER);
    loop {
        if messages.recv_many(&mut together, TOGETHER).await == 0 {
            // The broadcaster is gone, and with it the process.
            std::future::pending::<()>().await;
        }
        let mut pipe = redis::pipe();
        for (topic, frame) in &together {
            bytes.fetch_sub(frame.len(), Relaxed);
            pipe.publish(own.channel(topic), own.write(topic, frame)).ignore();
        }
        let said: RedisResult<()> = pipe.query_async(&mut speaking).await;
        if let Err(error) = said {
            broadcaster.note_not_carried(together.len());
            return error;
        }
        together.clear();
    }
}

/// The side of a channel that listens.
struct Listener {
    sink: PubSubSink,
    followed: HashSet<Topic>,
}

impl Listener {
    async fn follow(&mut self, own: &Own, topics: Vec<Topic>) -> RedisResult<()> {
        let new: Vec<Topic> = topics
            .into_iter()
            .filter(|topic| !self.followed.contains(topic))
            .collect();
        for together in new.chunks(TOPICS_TOGETHER) {
            within(self.sink.subscribe(own.channels(together))).await?;
        }
        self.followed.extend(new);
        Ok(())
    }

    async fn unfollow(&mut self, own: &Own, topics: Vec<Topic>) -> RedisResult<()> {
        let old: Vec<Topic> = topics.into_iter().filter(|topic| self.followed.remove(topic)).collect();
        for together in old.chunks(TOPICS_TOGETHER) {
            within(self.sink.unsubscribe(own.channels(together))).await?;
        }
        Ok(())
    }
}

async fn listen(
    mut listener: Listener,
    heard: impl futures_util::Stream<Item = redis::Msg>,
    orders: &mut UnboundedReceiver<Order>,
    own: &Own,
    broadcaster: &Broadcaster,
) -> RedisError {
    let mut heard = std::pin::pin!(heard);
    let mut next_ping = Instant::now() + PING;
    loop {
        let outcome = tokio::select! {
            message = heard.next() => {
                let Some(message) = message else {
                    return std::io::Error::from(std::io::ErrorKind::ConnectionReset).into();
                };
                next_ping = Instant::now() + PING;
                if let Some((topic, frame)) = own.read(message.get_payload_bytes()) {
                    broadcaster.deliver(&topic, &frame);
                }
                Ok(())
            }
            Some(order) = orders.recv() => obey(&mut listener, own, order, orders).await,
            // A connection that has silently gone nowhere would be noticed by nobody else.
            () = sleep_until(next_ping), if !listener.followed.is_empty() => {
                next_ping = Instant::now() + PING;
                within(listener.sink.ping::<redis::Value>()).await.map(drop)
            }
        };
        if let Err(error) = outcome {
            return error;
        }
    }
}

/// Does what is ordered; what is to be followed in a row, together.
async fn obey(
    listener: &mut Listener,
    own: &Own,
    order: Order,
    orders: &mut UnboundedReceiver<Order>,
) -> RedisResult<()> {
    let mut next = Some(order);
    while let Some(order) = next.take() {
        let (mut topics, mut waiting) = match order {
            Order::Unfollow(topics) => {
                listener.unfollow(own, topics).await?;
                continue;
            }
            Order::Follow(topics, done) => (topics, vec![done]),
        };
        loop {
            match orders.try_recv() {
                Ok(Order::Follow(more, done)) => {
                    topics.extend(more);
                    waiting.push(done);
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        listener.follow(own, topics).await?;
        for done in waiting {
            // Who has ordered may have given up.
            let _ = done.send(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_waits_for_redis_is_bounded() {
        let (relay, mut work) = Relay::new();
        let topic = Topic::new("c", "t");
        let large = Frame::Raw(vec![0; WAITING_BYTES + 1].into());
        assert!(relay.carry(&topic, &large));
        assert!(
            !relay.carry(&topic, &Frame::Raw(Bytes::from_static(b"more"))),
            "by bytes"
        );
        let (_, frame) = work.messages.try_recv().expect("it waits");
        relay.bytes.fetch_sub(frame.len(), Relaxed);
        let small = Frame::Raw(Bytes::from_static(b"small"));
        let taken = (0..=WAITING).filter(|_| relay.carry(&topic, &small)).count();
        assert_eq!(taken, WAITING, "by number");
        assert_eq!(relay.bytes.load(Relaxed), WAITING * small.len());
    }
}

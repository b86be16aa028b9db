//! What instances tell each other of workers, by a channel of Redis: see [`News`].
//!
//! Every instance publishes to one channel and listens to it. A message may get lost with a connection; nothing rests on
//! one: a lease that nobody heard extended runs out, and the call is made again; an answer that was not heard waits where it
//! came in; and while the channel is down, it is not known what is served elsewhere.
//!
//! Promises: a channel that breaks, or is silent although this instance speaks itself, is opened anew, and everybody who
//! plans by it knows that it was down; nothing piles up meanwhile. What can't be read is passed over.

use std::time::Duration;

use bytes::Bytes;
use callboard_actors::workers::{News, Workers};
use futures_util::StreamExt as _;
use prost::Message;
use redis::aio::MultiplexedConnection;
use redis::{ConnectionInfo, RedisResult};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, timeout};
use ulid::Ulid;

use crate::pubsub::{self, RETRY};

/// Between two words on what is served here.
const WORD: Duration = Duration::from_secs(3);
/// Longest silence of a channel to which this instance speaks itself.
const SILENCE: Duration = Duration::from_secs(10);

/// One message of the channel.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    /// Who speaks.
    #[prost(string, tag = "1")]
    node: String,
    #[prost(message, optional, tag = "2")]
    extended: Option<Extended>,
    #[prost(message, optional, tag = "3")]
    answered: Option<Answered>,
    #[prost(message, optional, tag = "4")]
    serving: Option<Serving>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Extended {
    #[prost(string, tag = "1")]
    request: String,
    #[prost(string, tag = "2")]
    before: String,
    #[prost(string, tag = "3")]
    held: String,
    #[prost(string, tag = "4")]
    instance: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Answered {
    #[prost(string, tag = "1")]
    request: String,
    #[prost(bytes = "bytes", tag = "2")]
    answer: Bytes,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Serving {
    #[prost(string, repeated, tag = "1")]
    functions: Vec<String>,
}

/// Passes news on between these workers and those of other instances, until the thread ends. `servers`: any of them will do.
pub(crate) async fn run(servers: Vec<ConnectionInfo>, prefix: String, node: String, workers: Workers) {
    let channel = format!("{{{prefix}}}:workers");
    let mut news = workers.news();
    let mut turn = 0;
    loop {
        let Some(server) = servers.get(turn % servers.len().max(1)) else {
            return;
        };
        turn += 1;
        let error = talk(server, &channel, &node, &workers, &mut news).await.err();
        workers.set_relay(false);
        let error = error.map_or_else(|| "it is silent".to_owned(), |error| error.to_string());
        tracing::debug!(error, "what instances tell each other of workers is not heard");
        // Nobody hears it now, and later it says nothing any more.
        let drop_all = async { while news.recv().await.is_some() {} };
        let _ = timeout(RETRY, drop_all).await;
        if news.is_closed() {
            sleep(RETRY).await;
        }
    }
}

/// Speaks and listens until the channel breaks or is silent.
async fn talk(
    server: &ConnectionInfo,
    channel: &str,
    node: &str,
    workers: &Workers,
    news: &mut UnboundedReceiver<News>,
) -> RedisResult<()> {
    let (mut speaking, mut listening) = pubsub::open(server).await?;
    listening.subscribe(channel).await?;
    workers.set_relay(true);
    let mut heard = listening.into_on_message();
    let mut last = Instant::now();
    let mut next_word = Instant::now();
    loop {
        let message = tokio::select! {
            message = heard.next() => {
                let Some(message) = message else { return Ok(()) };
                last = Instant::now();
                if let Some(news) = read(message.get_payload_bytes(), node) {
                    workers.learn(news);
                }
                continue;
            }
            Some(news) = news.recv() => news,
            () = tokio::time::sleep_until(next_word) => {
                next_word = Instant::now() + WORD;
                workers.serving(node)
            }
            () = tokio::time::sleep_until(last + SILENCE) => return Ok(()),
        };
        speak(&mut speaking, channel, node, message).await?;
    }
}

async fn speak(link: &mut MultiplexedConnection, channel: &str, node: &str, news: News) -> RedisResult<()> {
    let bytes = write(news, node).encode_to_vec();
    let mut command = redis::cmd("PUBLISH");
    command.arg(channel).arg(bytes);
    command.query_async(link).await
}

fn write(news: News, node: &str) -> Envelope {
    let mut envelope = Envelope {
        node: node.to_owned(),
        ..Envelope::default()
    };
    match news {
        News::Extended {
            id,
            before,
            held,
            instance,
        } => {
            envelope.extended = Some(Extended {
                request: id.to_string(),
                before: before.to_string(),
                held: held.to_string(),
                instance,
            });
        }
        News::Answered { id, answer } => {
            envelope.answered = Some(Answered {
                request: id.to_string(),
                answer: answer.into(),
            });
        }
        News::Serving { functions, .. } => envelope.serving = Some(Serving { functions }),
    }
    envelope
}

/// What somebody else says; `None` for what makes no sense, and for this instance's own words.
fn read(bytes: &[u8], own: &str) -> Option<News> {
    let envelope = Envelope::decode(bytes).ok()?;
    if envelope.node == own {
        return None;
    }
    if let Some(extended) = envelope.extended {
        return Some(News::Extended {
            id: extended.request.parse().ok()?,
            before: Ulid::from_string(&extended.before).ok()?,
            held: Ulid::from_string(&extended.held).ok()?,
            instance: extended.instance,
        });
    }
    if let Some(answered) = envelope.answered {
        return Some(News::Answered {
            id: answered.request.parse().ok()?,
            answer: answered.answer.to_vec(),
        });
    }
    let Serving { functions } = envelope.serving?;
    Some(News::Serving {
        node: envelope.node,
        functions,
    })
}

#[cfg(test)]
mod tests {
    use callboard_actors::workers::{CallKey, RequestId};
    use proptest::prelude::*;

    use super::*;

    fn id() -> RequestId {
        RequestId {
            key: CallKey::derive(&[b"a"]),
            sending: Ulid(7),
        }
    }

    #[test]
    fn what_is_said_is_heard_by_others_and_not_by_oneself() {
        let all = [
            News::Extended {
                id: id(),
                before: Ulid(1),
                held: Ulid(2),
                instance: "host-1".to_owned(),
            },
            News::Answered {
                id: id(),
                answer: b"done".to_vec(),
            },
            News::Serving {
                node: "a".to_owned(),
                functions: vec!["shop-charge".to_owned()],
            },
        ];
        for news in all {
            let bytes = write(news.clone(), "a").encode_to_vec();
            assert_eq!((read(&bytes, "b"), read(&bytes, "a")), (Some(news), None));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_passed_over_at_the_worst(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, "a");
        }
    }
}

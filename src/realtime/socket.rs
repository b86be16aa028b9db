//! A subscriber that has opened a WebSocket.
//!
//! It reads messages as texts, and bytes that are passed on as binary frames. It may say that it wants more topics, with a
//! token for them, or fewer; nobody answers to that.
//!
//! Promises: a subscriber that is gone, does not read or does not keep up is disconnected; so much is on its way to it and
//! no more, for the answer to a ping says that all before it was read. Whatever it sends, nobody else is touched by it.

use std::sync::Arc;
use std::time::Duration;

use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Closed, Session};
use callboard_actors::ports::Clock;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};

use super::grant::read_topics;
use super::subscription::{End, Frame, Subscription};
use super::{Grant, message};
use crate::websocket::Breach;

/// Bytes of what a subscriber may say at once.
pub(crate) const SAID_BYTES: usize = 128 * 1024;
/// How often it is asked whether it is still there.
const PING: Duration = Duration::from_secs(15);
/// What a ping says that asks whether everything was read.
const READ: &[u8] = b"read";
/// How often it may have nothing to say to that.
const MISSED: u32 = 3;
/// Bytes that may be on their way to a subscriber, beyond one message.
const WINDOW: usize = 2 * 1024 * 1024;
/// For a frame to be taken.
const WRITE: Duration = Duration::from_secs(10);

/// A connection.
pub(crate) struct Connection {
    pub(crate) session: Session,
    pub(crate) frames: AggregatedMessageStream,
    pub(crate) subscription: Subscription,
}

/// What a subscriber may say.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "lowercase")]
enum Said {
    /// More topics: the token for them.
    Sub(String),
    /// Fewer: which.
    Unsub(Value),
}

/// Serves a connection until it ends. `read` says what a token allows.
pub(crate) async fn serve(connection: Connection, read: impl Fn(&str) -> Option<Grant>, clock: Arc<dyn Clock>) {
    let Connection {
        mut session,
        mut frames,
        mut subscription,
    } = connection;
    let reason = converse(&mut session, &mut frames, &mut subscription, read, &*clock).await;
    drop(subscription);
    let _ = timeout(WRITE, session.close(reason)).await;
}

/// Answers what the connection is to be closed with.
async fn converse(
    session: &mut Session,
    frames: &mut AggregatedMessageStream,
    subscription: &mut Subscription,
    read: impl Fn(&str) -> Option<Grant>,
    clock: &dyn Clock,
) -> Option<CloseReason> {
    let mut heard = Instant::now();
    let mut next_ping = heard;
    let mut on_its_way = 0;
    loop {
        let written = tokio::select! {
            frame = subscription.next(), if on_its_way < WINDOW => match frame {
                Ok(frame @ (Frame::Message(_) | Frame::Raw(_))) => {
                    on_its_way += frame.len();
                    write(session, frame, on_its_way >= WINDOW).await
                }
                Ok(Frame::Closing) => within(session.text(message::closing(clock.now()))).await,
                Err(End::Closing) => return close(CloseCode::Away, "the server is shutting down"),
                Err(End::TooSlow) => return too_slow(),
            },
            () = subscription.cut_off(), if on_its_way >= WINDOW => return too_slow(),
            frame = frames.next() => {
                heard = Instant::now();
                match frame {
                    Some(Ok(AggregatedMessage::Text(text))) => {
                        hear(subscription, &text, &read).await;
                        Ok(())
                    }
                    Some(Ok(AggregatedMessage::Ping(bytes))) => within(session.pong(&bytes)).await,
                    Some(Ok(AggregatedMessage::Pong(said))) => {
                        if said == READ {
                            on_its_way = 0;
                        }
                        Ok(())
                    }
                    Some(Ok(AggregatedMessage::Binary(_))) => Ok(()),
                    Some(Ok(AggregatedMessage::Close(reason))) => return reason,
                    Some(Err(error)) => return match Breach::of(&error) {
                        Breach::Gone => None,
                        Breach::TooLarge => close(CloseCode::Size, "too much at once"),
                        Breach::Protocol => close(CloseCode::Protocol, "that is not the protocol"),
                    },
                    None => return None,
                }
            }
            () = sleep_until(next_ping) => {
                if heard.elapsed() >= PING * MISSED {
                    return close(CloseCode::Policy, "no answer to pings");
                }
                next_ping = Instant::now() + PING;
                within(session.ping(b"")).await
            }
        };
        if written.is_err() {
            return None;
        }
    }
}

/// Does what a subscriber asks for; what makes no sense is passed over.
async fn hear(subscription: &mut Subscription, text: &str, read: impl Fn(&str) -> Option<Grant>) {
    match serde_json::from_str(text) {
        Ok(Said::Sub(token)) => {
            let Some(grant) = read(&token) else { return };
            if let Err(refused) = subscription.add(grant.topics).await {
                tracing::debug!(%refused, "a subscriber's wish for more topics");
            }
        }
        Ok(Said::Unsub(topics)) => {
            if let Some(topics) = read_topics(topics) {
                subscription.remove(&topics);
            }
        }
        Err(_) => {}
    }
}

/// Writes what a subscriber reads, and asks it to say when it has done so if it is to.
async fn write(session: &mut Session, frame: Frame, is_to_say: bool) -> Result<(), Gone> {
    match frame {
        Frame::Message(text) => within(session.text(text)).await?,
        Frame::Raw(bytes) => within(session.binary(bytes)).await?,
        Frame::Closing => {}
    }
    if is_to_say {
        within(session.ping(READ)).await?;
    }
    Ok(())
}

fn too_slow() -> Option<CloseReason> {
    close(CloseCode::Again, "too slow: messages were lost")
}

/// The other side does not take it.
struct Gone;

async fn within(writing: impl Future<Output = Result<(), Closed>>) -> Result<(), Gone> {
    timeout(WRITE, writing).await.ok().and_then(Result::ok).ok_or(Gone)
}

#[expect(clippy::unnecessary_wraps, reason = "what a connection is closed with")]
fn close(code: CloseCode, text: &str) -> Option<CloseReason> {
    Some(CloseReason {
        code,
        description: Some(text.to_owned()),
    })
}

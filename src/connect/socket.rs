//! The task of a worker's connection: greets it, registers its apps, and then passes on what either side has to say.
//!
//! Promises: a worker that is not introduced in time, that is silent for too long or that does not read is disconnected;
//! whatever ends the task, its worker is out of the roster. Never: it does not wait for a call.

use std::sync::Arc;
use std::time::Duration;

use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, ProtocolError, Session};
use async_trait::async_trait;
use bytes::Bytes;
use callboard_actors::domain::{Connection, FunctionId, Registration};
use callboard_actors::ports::Clock;
use callboard_actors::workers::{Order, Request, SocketId, Workers};
use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout};

use super::handshake::{Code, Introduction, Refusal, introduce};
use super::hearing::{self, Heard};
use super::wire::{
    ConnectMessage, GatewayConnectionReadyData, GatewayExecutorRequestData, Kind, WorkerReplyAckData,
    WorkerRequestExtendLeaseAckData,
};
use super::{Gateway, in_seconds};
use crate::websocket::Breach;

/// Bytes of a message, at the most.
pub(crate) const MESSAGE_BYTES: usize = 8 * 1024 * 1024;
/// For a worker's first message.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// For its apps to be registered; SDKs wait 10 s for all of the handshake.
const REGISTRATION: Duration = Duration::from_secs(8);
/// For a frame to be taken.
const WRITE: Duration = Duration::from_secs(5);
/// For what was sent before a connection broke.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Heartbeats that a worker may miss.
const MISSED_HEARTBEATS: u32 = 5;
/// Extensions of a lease that may get lost.
const EXTENSIONS: u32 = 3;
/// Why a connection ends on which nothing was heard for too long.
const MISSED: &str = "CONSECUTIVE_HEARTBEATS_MISSED";
/// The account and the environment there are.
const ACCOUNT: &str = "00000000-0000-4000-a000-000000000000";
const ENVIRONMENT: &str = "00000000-0000-4000-b000-000000000000";

/// Registers apps.
#[async_trait(?Send)]
pub(crate) trait Registrar {
    /// Stores what an app says of itself.
    ///
    /// # Errors
    /// When that can't be done now; the text says why.
    async fn register(&self, registration: Registration) -> Result<(), String>;
}

/// The other side does not listen any more.
struct Gone;

/// A place in the roster.
struct Member {
    workers: Workers,
    socket: SocketId,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.workers.leave(self.socket);
    }
}

/// A connection.
pub(crate) struct Opened {
    pub(crate) session: Session,
    pub(crate) frames: AggregatedMessageStream,
    /// Where it comes from.
    pub(crate) address: String,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(gateway: Gateway, registrar: impl Registrar, clock: Arc<dyn Clock>, connection: Opened) {
    let Opened {
        mut session,
        mut frames,
        address,
    } = connection;
    let outcome = converse(&gateway, &registrar, &*clock, &mut session, &mut frames, address).await;
    let reason = match outcome {
        Ok(reason) => reason,
        Err(Refusal {
            code,
            reason,
            sync_failed,
        }) => {
            if let Some(error) = sync_failed {
                let _ = send(&mut session, &ConnectMessage::of(Kind::SyncFailed, &error)).await;
            }
            Some(CloseReason {
                code: close_code(code),
                description: Some(reason.to_owned()),
            })
        }
    };
    let _ = timeout(WRITE, session.close(reason)).await;
}

fn close_code(code: Code) -> CloseCode {
    match code {
        Code::Away => CloseCode::Away,
        Code::Protocol => CloseCode::Protocol,
        Code::Invalid => CloseCode::Invalid,
        Code::Policy => CloseCode::Policy,
        Code::TooLarge => CloseCode::Size,
        Code::Internal => CloseCode::Error,
    }
}

/// Answers what the worker closed with, if it did.
async fn converse(
    gateway: &Gateway,
    registrar: &impl Registrar,
    clock: &dyn Clock,
    session: &mut Session,
    frames: &mut AggregatedMessageStream,
    address: String,
) -> Result<Option<CloseReason>, Refusal> {
    if gateway.workers.is_closing() {
        return Err(Refusal::CLOSING);
    }
    if send(session, &ConnectMessage::bare(Kind::GatewayHello)).await.is_err() {
        return Ok(None);
    }
    let first = timeout(INTRODUCTION, first_frame(session, frames)).await;
    let frame = match first.map_err(|_| Refusal::TIMEOUT)?? {
        Ok(frame) => frame,
        Err(reason) => return Ok(reason),
    };
    let message = hearing::message(frame)?;
    let introduction = introduce(&message, &gateway.tokens, address, clock.now())?;
    let Introduction {
        worker,
        registrations,
        says_when_ready,
    } = introduction;
    let registered = timeout(REGISTRATION, register(gateway, registrar, registrations)).await;
    registered.map_err(|_| Refusal::INTERNAL)??;
    let apps: Vec<&str> = worker.groups.iter().map(|group| &*group.app).collect();
    let (apps, instance) = (apps.join(", "), Arc::clone(&worker.instance));
    let connection = worker.connection.clone();
    let (socket, orders) = gateway.workers.join(worker).map_err(|_| Refusal::CLOSING)?;
    let member = Member {
        workers: gateway.workers.clone(),
        socket,
    };
    let settings = gateway.workers.settings();
    let ready = GatewayConnectionReadyData {
        heartbeat_interval: in_seconds(settings.heartbeat),
        extend_lease_interval: in_seconds(settings.lease / EXTENSIONS),
        status_interval: "0s".to_owned(),
    };
    if send(session, &ConnectMessage::of(Kind::GatewayConnectionReady, &ready))
        .await
        .is_err()
    {
        return Ok(None);
    }
    if !says_when_ready {
        member.workers.ready(socket);
    }
    tracing::info!(apps, instance = &*instance, connection, "worker connected");
    let mut talk = Talk {
        member,
        instance,
        session,
        deadline: settings.heartbeat * MISSED_HEARTBEATS,
    };
    let end = talk.go_on(frames, orders).await;
    let reason = end.as_ref().err().map(|refusal| refusal.reason);
    talk.member.workers.note_end(socket, end_reason(&end));
    tracing::info!(
        apps,
        instance = &*talk.instance,
        connection,
        reason,
        "worker disconnected"
    );
    end
}

/// How the protocol calls the end of a connection.
fn end_reason(end: &Result<Option<CloseReason>, Refusal>) -> &'static str {
    match end {
        Err(refusal) if *refusal == Refusal::CLOSING => "GATEWAY_DRAINING",
        Err(refusal) if refusal.code == Code::TooLarge => "MESSAGE_TOO_LARGE",
        Err(refusal) if refusal.reason == MISSED => MISSED,
        Ok(Some(reason)) if reason.description.as_deref() == Some("WORKER_SHUTDOWN") => "WORKER_SHUTDOWN",
        Ok(_) | Err(_) => Connection::UNEXPECTED,
    }
}

/// Registers the apps whose groups have not been registered yet.
async fn register(
    gateway: &Gateway,
    registrar: &impl Registrar,
    registrations: Vec<Registration>,
) -> Result<(), Refusal> {
    for registration in registrations {
        let hash = registration.app.checksum.clone();
        if gateway.is_registered(&hash) {
            continue;
        }
        if let Err(error) = registrar.register(registration).await {
            tracing::warn!(error, "a worker's app could not be registered");
            return Err(Refusal::INTERNAL);
        }
        gateway.note_registered(hash);
    }
    Ok(())
}

/// The first binary frame, or how the connection ended before.
async fn first_frame(
    session: &mut Session,
    frames: &mut AggregatedMessageStream,
) -> Result<Result<Bytes, Option<CloseReason>>, Refusal> {
    loop {
        match frames.next().await {
            Some(Ok(AggregatedMessage::Binary(frame))) => return Ok(Ok(frame)),
            Some(Ok(AggregatedMessage::Ping(bytes))) => drop(session.pong(&bytes).await),
            Some(Ok(AggregatedMessage::Close(reason))) => return Ok(Err(reason)),
            Some(Ok(AggregatedMessage::Text(_) | AggregatedMessage::Pong(_))) => {}
            Some(Err(error)) => return broken(&error).map(|()| Err(None)),
            None => return Ok(Err(None)),
        }
    }
}

/// What a breach of WebSocket's own rules is closed with. A connection that is gone breaks none.
fn broken(error: &ProtocolError) -> Result<(), Refusal> {
    match Breach::of(error) {
        Breach::Gone => Ok(()),
        Breach::TooLarge => Err(Refusal::new(Code::TooLarge, "MESSAGE_TOO_LARGE")),
        Breach::Protocol => Err(Refusal::new(Code::Protocol, "connect_invalid_message")),
    }
}

/// A connection that is good.
struct Talk<'a> {
    member: Member,
    instance: Arc<str>,
    session: &'a mut Session,
    /// How long it may be silent.
    deadline: Duration,
}

impl Talk<'_> {
    async fn go_on(
        &mut self,
        frames: &mut AggregatedMessageStream,
        mut orders: UnboundedReceiver<Order>,
    ) -> Result<Option<CloseReason>, Refusal> {
        let mut heard = Instant::now();
        loop {
            let message = tokio::select! {
                frame = frames.next() => {
                    heard = Instant::now();
                    match frame {
                        Some(Ok(AggregatedMessage::Binary(frame))) => self.hear(frame)?,
                        Some(Ok(AggregatedMessage::Ping(bytes))) => {
                            if self.session.pong(&bytes).await.is_err() {
                                break;
                            }
                            None
                        }
                        Some(Ok(AggregatedMessage::Text(_) | AggregatedMessage::Pong(_))) => None,
                        Some(Ok(AggregatedMessage::Close(reason))) => return Ok(reason),
                        Some(Err(error)) => {
                            broken(&error)?;
                            break;
                        }
                        None => return Ok(None),
                    }
                }
                order = orders.recv() => match order {
                    Some(Order::Request(request)) => {
                        Some(ConnectMessage::of(Kind::GatewayExecutorRequest, &told(&request)))
                    }
                    Some(Order::Closing) => Some(ConnectMessage::bare(Kind::GatewayClosing)),
                    Some(Order::Close) | None => return Err(Refusal::CLOSING),
                },
                () = tokio::time::sleep_until(heard + self.deadline) => {
                    return Err(Refusal::policy(MISSED));
                }
            };
            if let Some(message) = message
                && send(self.session, &message).await.is_err()
            {
                break;
            }
        }
        self.hear_out(frames).await;
        Ok(None)
    }

    /// The connection is broken. What has come before that, an answer above all, is heard all the same: the stream of
    /// frames tells of the break first, and then of what came before.
    async fn hear_out(&self, frames: &mut AggregatedMessageStream) {
        let last_words = async {
            let mut is_told = false;
            while let Some(frame) = frames.next().await {
                match frame {
                    Ok(AggregatedMessage::Binary(frame)) => {
                        if self.hear(frame).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    // An error may come again for ever.
                    Err(_) if is_told => return,
                    Err(_) => is_told = true,
                }
            }
        };
        let _ = timeout(LAST_WORDS, last_words).await;
    }

    /// Does what a frame asks for. Answers what the worker is to be told.
    fn hear(&self, frame: Bytes) -> Result<Option<ConnectMessage>, Refusal> {
        let Member { workers, socket } = &self.member;
        workers.heard(*socket);
        Ok(match hearing::hear(frame)? {
            Heard::Ready => {
                workers.ready(*socket);
                None
            }
            Heard::Pause => {
                workers.pause(*socket);
                None
            }
            Heard::Begun(id) => {
                workers.acknowledge(id);
                None
            }
            Heard::Nothing => None,
            Heard::Heartbeat => Some(ConnectMessage::bare(Kind::GatewayHeartbeat)),
            Heard::Extend { id, lease, data } => {
                let held = id.and_then(|id| workers.extend(id, lease, &self.instance));
                let answer = WorkerRequestExtendLeaseAckData {
                    request_id: data.request_id,
                    account_id: data.account_id,
                    env_id: data.env_id,
                    app_id: data.app_id,
                    function_slug: data.function_slug,
                    new_lease_id: held.map(|lease| lease.to_string()),
                };
                Some(ConnectMessage::of(Kind::WorkerRequestExtendLeaseAck, &answer))
            }
            Heard::Answered { id, text, answer } => {
                // Workers send for ever what is not acknowledged, so what is not ours is, too.
                if let Some(id) = id {
                    workers.answer(id, answer.to_vec());
                }
                let acknowledged = WorkerReplyAckData { request_id: text };
                Some(ConnectMessage::of(Kind::WorkerReplyAck, &acknowledged))
            }
        })
    }
}

/// A request as the worker is told.
fn told(request: &Request) -> GatewayExecutorRequestData {
    let wanted = &request.wanted;
    GatewayExecutorRequestData {
        request_id: request.id.to_string(),
        account_id: ACCOUNT.to_owned(),
        env_id: ENVIRONMENT.to_owned(),
        app_id: FunctionId::app_uuid(&request.app).to_string(),
        app_name: request.app.to_string(),
        function_id: wanted.function.to_string(),
        function_slug: wanted.slug.to_string(),
        step_id: Some(wanted.step.clone()),
        request_payload: Bytes::copy_from_slice(wanted.payload.as_bytes()),
        system_trace_ctx: Bytes::from_static(b"{}"),
        user_trace_ctx: Bytes::copy_from_slice(wanted.trace.as_bytes()),
        run_id: wanted.run.to_string(),
        lease_id: request.lease.to_string(),
        job_id: request.id.key.to_string(),
    }
}

async fn send(session: &mut Session, message: &ConnectMessage) -> Result<(), Gone> {
    let sent = timeout(WRITE, session.binary(message.encode_to_vec())).await;
    sent.ok().and_then(Result::ok).ok_or(Gone)
}

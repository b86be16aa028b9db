//! One incarnation under guard: from the factory to the exit.
//!
//! The actor's future runs as a task of its own on the child's thread, and a second task beside it awaits the
//! first: that is the only place from which a panic, with its text, can be seen. Promises: exactly one exit
//! per launch, unless the thread is gone, which shows as the exit's sender being dropped. Never blocks the
//! caller, whatever state the thread is in.

use std::{
    any::Any,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{self, Poll, ready},
};

use actix::{Addr, ArbiterHandle, AsyncContext, Context, dev::channel::AddressReceiver, fut::ActorFuture};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinError,
};
use tracing::Instrument;

use super::{
    child::{Boot, Supervised},
    exit::{Exit, panic_text},
    probe::Pulse,
};

/// Mailbox slots before `try_send` says Full. Not a limit of any kind (actix exempts `do_send` and every
/// fresh clone of an address): the limits are the credits.
const MAILBOX: usize = 1024;

/// What travels on the control line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Command {
    /// Answer the probe with this ticket.
    Observe(u64),
    /// Call [`Supervised::wind_down`].
    WindDown,
}

/// The supervisor's end of an incarnation.
pub(crate) struct Launched {
    /// An `Arc<Addr<A>>`, its type erased.
    pub(crate) address: Arc<dyn Any + Send + Sync>,
    pub(crate) control: mpsc::UnboundedSender<Command>,
    pub(crate) abort: oneshot::Sender<()>,
    pub(crate) pulse: Pulse,
    /// Resolves once the actor runs; dropped if it never does.
    pub(crate) running: oneshot::Receiver<()>,
    /// Resolves with the exit; dropped if the thread is lost.
    pub(crate) exit: oneshot::Receiver<Exit>,
}

/// Builds an actor on `arbiter` and guards it.
pub(crate) fn launch<A, F>(arbiter: &ArbiterHandle, boot: Boot, factory: F) -> Launched
where
    A: Supervised,
    F: FnOnce(Boot) -> A + Send + 'static,
{
    let (sender, mailbox) = actix::dev::channel::channel::<A>(MAILBOX);
    let (control, commands) = mpsc::unbounded_channel();
    let (abort, abort_asked) = oneshot::channel();
    let (running_tx, running) = oneshot::channel();
    let (exit_tx, exit) = oneshot::channel();
    let pulse = Pulse::default();
    let line = ControlLine {
        commands,
        pulse: pulse.clone(),
    };
    let has_started = Arc::new(AtomicBool::new(false));
    let marker = StartMarker {
        has_started: Arc::clone(&has_started),
        running: Some(running_tx),
    };
    // A dead arbiter refuses the future and drops it, and with it `exit_tx`.
    arbiter.spawn(async move {
        let span = tracing::info_span!("child", child = %boot.name, generation = boot.generation.get());
        let life = live(mailbox, line, marker, boot, factory).instrument(span);
        let mut task = tokio::task::spawn_local(life);
        let outcome = tokio::select! {
            biased;
            outcome = &mut task => outcome,
            // A dropped handle is no order to abort.
            Ok(()) = abort_asked => {
                task.abort();
                task.await
            }
        };
        let exit = exit_of(outcome, has_started.load(Ordering::Acquire));
        // A supervisor that is gone has no use for the exit.
        let _ = exit_tx.send(exit);
    });
    Launched {
        address: Arc::new(Addr::<A>::new(sender)),
        control,
        abort,
        pulse,
        running,
        exit,
    }
}

async fn live<A, F>(mailbox: AddressReceiver<A>, line: ControlLine, marker: StartMarker, boot: Boot, factory: F)
where
    A: Supervised,
    F: FnOnce(Boot) -> A,
{
    let mut context = Context::with_receiver(mailbox);
    // The latest future passed to `wait` is polled first: this one, being the earliest, ends after all
    // that `started` adds, and before the first message.
    context.wait(marker);
    context.spawn(line);
    let actor = factory(boot);
    context.into_future(actor).await;
}

fn exit_of(outcome: Result<(), JoinError>, has_started: bool) -> Exit {
    match outcome.map_err(JoinError::try_into_panic) {
        Ok(()) => Exit::Normal,
        Err(Ok(payload)) => {
            let text = panic_text(payload.as_ref());
            if has_started {
                Exit::Panicked { text }
            } else {
                Exit::StartFailed { text }
            }
        }
        Err(Err(_cancelled)) => Exit::Aborted,
    }
}

/// Says when the actor has finished starting.
struct StartMarker {
    has_started: Arc<AtomicBool>,
    running: Option<oneshot::Sender<()>>,
}

impl<A: Supervised> ActorFuture<A> for StartMarker {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut A, _: &mut Context<A>, _: &mut task::Context<'_>) -> Poll<()> {
        self.has_started.store(true, Ordering::Release);
        if let Some(running) = self.running.take() {
            let _ = running.send(());
        }
        Poll::Ready(())
    }
}

/// The kernel's way to the actor, without a handler on the actor's side.
struct ControlLine {
    commands: mpsc::UnboundedReceiver<Command>,
    pulse: Pulse,
}

impl<A: Supervised> ActorFuture<A> for ControlLine {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut A,
        context: &mut Context<A>,
        task: &mut task::Context<'_>,
    ) -> Poll<()> {
        while let Some(command) = ready!(self.commands.poll_recv(task)) {
            match command {
                Command::Observe(ticket) => {
                    let observation = actor.observe();
                    self.pulse.answer(ticket, observation);
                }
                Command::WindDown => actor.wind_down(context),
            }
        }
        Poll::Ready(())
    }
}

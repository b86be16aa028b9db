//! The way to the supervisor from outside: its address, its book, its board, its last word.
//!
//! Book, board and stop signal work without the supervisor's cooperation; the signal fires even if the
//! supervisor itself is lost.

use std::{fmt, sync::Arc, time::Duration};

use actix::{Addr, ArbiterHandle, Context};
use serde::Serialize;
use tokio::sync::watch;

use super::{Settings, Sources, Supervisor};
use crate::kernel::{AddressBook, ChildName, Exit, Snapshot, StatusBoard};

/// Why the process has to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StopReason {
    /// A child the process cannot do without has used up its restarts.
    GaveUp {
        /// Which.
        child: ChildName,
        /// Its restarts within the window.
        restarts: u32,
        /// The exit that was one too many.
        exit: Exit,
    },
    /// A thread runs nothing any more, and a thread cannot be killed.
    ArbiterBlocked {
        /// Which.
        arbiter: Arc<str>,
        /// Heartbeats it has left unanswered.
        missed: u32,
        /// Who lives there.
        children: Vec<ChildName>,
    },
    /// A thread has ended under a child.
    ArbiterLost {
        /// Which.
        arbiter: Arc<str>,
        /// Whose exit told.
        child: ChildName,
    },
    /// The supervisor itself has ended.
    SupervisorLost,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GaveUp { child, restarts, exit } => {
                write!(f, "{child} cannot be kept running ({restarts} restarts): {exit}")
            }
            Self::ArbiterBlocked {
                arbiter,
                missed,
                children,
            } => {
                write!(f, "thread {arbiter} is blocked (missed {missed} probes), with ")?;
                match children.as_slice() {
                    [] => f.write_str("no child on it"),
                    [one] => write!(f, "{one} on it"),
                    [first, others @ ..] => write!(f, "{first} and {} more on it", others.len()),
                }
            }
            Self::ArbiterLost { arbiter, child } => {
                write!(f, "thread {arbiter} has ended under {child}")
            }
            Self::SupervisorLost => f.write_str("the supervisor has ended"),
        }
    }
}

/// Fires when the process has to stop. Clones all see it, early or late.
#[derive(Debug, Clone)]
pub struct StopSignal(watch::Receiver<Option<StopReason>>);

impl StopSignal {
    /// Waits for the reason to stop.
    pub async fn fired(&mut self) -> StopReason {
        match self.0.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(StopReason::SupervisorLost),
            Err(_) => StopReason::SupervisorLost,
        }
    }

    /// The reason, if it has fired.
    #[must_use]
    pub fn reason(&self) -> Option<StopReason> {
        if let Some(reason) = self.0.borrow().clone() {
            return Some(reason);
        }
        self.0.has_changed().is_err().then_some(StopReason::SupervisorLost)
    }
}

/// Everything others need of the supervisor. Clones are the same one.
#[derive(Debug, Clone)]
pub struct SupervisorHandle {
    /// For commands. It answers unless it is stuck: set a timeout.
    pub address: Addr<Supervisor>,
    /// Where the children are.
    pub book: AddressBook,
    /// How they are.
    pub board: StatusBoard,
    /// Whether the process has to stop.
    pub stop: StopSignal,
}

impl Supervisor {
    /// How long a command may take that is answered at once, before the supervisor counts as stuck.
    pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

    /// Starts a supervisor on a thread, which should be its own.
    ///
    /// If the thread is dead, the stop signal says so at once.
    #[must_use]
    pub fn start_on(arbiter: &ArbiterHandle, settings: Settings, sources: Sources) -> SupervisorHandle {
        let (sender, mailbox) = actix::dev::channel::channel(1024);
        let (stop, stopped) = watch::channel(None);
        let book = AddressBook::default();
        let board = StatusBoard::new(Snapshot::empty((sources.wall_ms)()));
        let handle = SupervisorHandle {
            address: Addr::new(sender),
            book: book.clone(),
            board: board.clone(),
            stop: StopSignal(stopped),
        };
        arbiter.spawn(async move {
            let context = Context::with_receiver(mailbox);
            context.run(Self::new(settings, sources, book, board, stop));
        });
        handle
    }
}

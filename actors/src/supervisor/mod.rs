//! The root of the process tree.
//!
//! One actor on a thread of its own. It starts children in their order, builds those that fail anew by their
//! policy, takes those that cannot be helped out of service, and stops everything bottom-up. Its table of
//! children is data ([`ChildSpec`](crate::kernel::ChildSpec)); it knows no role. The guarantees are on the
//! page of [`crate::kernel`].
//!
//! It is the only writer of the address book and the status board. It never waits for a child: whatever a
//! child does or fails to do, the supervisor goes on. It never stops the process itself; it says that it
//! should be stopped, and why ([`StopSignal`]).

mod drain;
mod handle;
mod handlers;
mod heartbeat;
mod lifecycle;
mod messages;
mod settings;
mod slot;
mod status;
mod table;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, Addr, AsyncContext, Context, Recipient};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

pub use drain::{DrainReport, Orphan};
pub use handle::{StopReason, StopSignal, SupervisorHandle};
pub use messages::{
    Drain, GetStatus, Quarantine, Refusal, RestChild, RestartChild, Resume, StartChild, StartTree, Subscribe,
};
pub use settings::{Settings, Sources};

use crate::kernel::{AddressBook, ChildExited, ChildName, Generations, StatusBoard, probe::Heart};
use drain::Draining;
use slot::Slot;

/// The actor at the root.
pub struct Supervisor {
    settings: Settings,
    sources: Sources,
    /// What ledgers count time from.
    origin: Instant,
    slots: BTreeMap<ChildName, Slot>,
    generations: Generations,
    canaries: HashMap<Arc<str>, Heart>,
    book: AddressBook,
    board: StatusBoard,
    subscribers: Vec<Recipient<ChildExited>>,
    boot_waiters: Vec<oneshot::Sender<Result<(), Refusal>>>,
    draining: Option<Draining>,
    stop: watch::Sender<Option<StopReason>>,
    /// Its own address, for the tasks that wait on its behalf. None before it has started.
    own: Option<Addr<Self>>,
}

impl Supervisor {
    fn new(
        settings: Settings,
        sources: Sources,
        book: AddressBook,
        board: StatusBoard,
        stop: watch::Sender<Option<StopReason>>,
    ) -> Self {
        Self {
            settings,
            sources,
            origin: Instant::now(),
            slots: BTreeMap::new(),
            generations: Generations::default(),
            canaries: HashMap::new(),
            book,
            board,
            subscribers: Vec::new(),
            boot_waiters: Vec::new(),
            draining: None,
            stop,
            own: None,
        }
    }

    /// Now, as ledgers count it.
    fn ledger_now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Asks for the process to be stopped. The first reason stays.
    fn stop_process(&self, reason: &StopReason) {
        let first = self.stop.send_if_modified(|current| {
            if current.is_some() {
                return false;
            }
            *current = Some(reason.clone());
            true
        });
        if first {
            tracing::error!(%reason, "the process has to stop");
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.own = Some(ctx.address());
        self.arm_heartbeat(ctx);
    }
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor")
            .field("children", &self.slots.len())
            .field("draining", &self.draining.is_some())
            .finish_non_exhaustive()
    }
}

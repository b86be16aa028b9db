//! What the supervisor is told and asked.
//!
//! Commands are idempotent: repeating one changes nothing more. All of them are answered at once except those
//! whose answer is the outcome: [`StartChild`], [`StartTree`] and [`Drain`].

use std::{sync::Arc, time::Duration};

use actix::{Message, Recipient};
use thiserror::Error;

use super::drain::DrainReport;
use crate::kernel::{ChildExited, ChildName, ChildSpec, Exit, Generation, Snapshot};

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No child of this name.
    #[error("there is no child of this name")]
    Unknown,
    /// The supervisor drains; nothing is started any more.
    #[error("the process is stopping")]
    Draining,
    /// The supervisor has ended before the outcome was known.
    #[error("the supervisor has ended")]
    Lost,
    /// The child has failed and comes back by itself.
    #[error("the child is backing off for another {retry_after:?}")]
    BackingOff {
        /// Until its next start.
        retry_after: Duration,
    },
    /// The child is out of service.
    #[error("the child is quarantined: {reason}")]
    Quarantined {
        /// Why.
        reason: String,
    },
    /// The child ended before it ran, and does not come back.
    #[error("the child {0}")]
    Ended(Exit),
    /// The child was told to stop before it ran.
    #[error("the child has been told to stop")]
    Stopped,
    /// The request names an incarnation that is no longer the current one.
    #[error("the request is from an earlier incarnation")]
    Stale,
}

/// Start these children in their order, one order after the other has come up.
///
/// Answered once all run or have been quarantined; or when the process has to stop because of one of them.
#[derive(Debug)]
pub struct StartTree(pub Vec<ChildSpec>);

impl Message for StartTree {
    type Result = Result<(), Refusal>;
}

/// Start this child at once, whatever its order; the order still says when it stops.
///
/// Idempotent by name: of a child that runs or starts, the incarnation is answered and the spec ignored. A
/// child that is stopped, or on its way to rest, is started with the new spec. Answered when the child runs
/// and is in the address book, or when it is known that it does not.
#[derive(Debug)]
pub struct StartChild(pub ChildSpec);

impl Message for StartChild {
    type Result = Result<Generation, Refusal>;
}

/// Stop this child, as no failure, and forget it. Its name leaves the address book at once.
///
/// Who has looked its address up before may still send to it: what is not handled before the child winds down
/// is lost, and its [`ChildExited`] says so.
///
/// A child that finds itself idle names its generation, so that a late message does not put its successor to
/// rest; others, having none to name, mean whatever is there (a quarantined child too).
#[derive(Debug, Clone)]
pub struct RestChild {
    /// Whom.
    pub name: ChildName,
    /// Which incarnation, or any.
    pub generation: Option<Generation>,
}

impl Message for RestChild {
    type Result = Result<(), Refusal>;
}

/// Wind this child down and build it anew; if it backs off, build it now. Counts as no failure.
#[derive(Debug, Clone)]
pub struct RestartChild {
    /// Whom.
    pub name: ChildName,
}

impl Message for RestartChild {
    type Result = Result<(), Refusal>;
}

/// Take this child out of service until it is resumed.
#[derive(Debug, Clone)]
pub struct Quarantine {
    /// Whom.
    pub name: ChildName,
    /// Why, for operators.
    pub reason: String,
}

impl Message for Quarantine {
    type Result = Result<(), Refusal>;
}

/// Bring a quarantined or stopped child back, with its whole budget of restarts.
#[derive(Debug, Clone)]
pub struct Resume {
    /// Whom.
    pub name: ChildName,
}

impl Message for Resume {
    type Result = Result<(), Refusal>;
}

/// Stop all children bottom-up. Answered when all are gone or given up, which takes no longer than the grace
/// plus, for each order, the settings' last call and patience with an abort.
///
/// A subscriber that is a child and stops early hears nothing of those that stop after it: what they held is
/// to be handed back by the names and generations of the orphans in the answer.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// For all of them together; each child's own grace applies within it.
    pub grace: Duration,
}

impl Message for Drain {
    type Result = Result<DrainReport, Refusal>;
}

/// A snapshot taken now. Who must not depend on the supervisor reads the board instead.
#[derive(Debug, Clone, Copy)]
pub struct GetStatus;

impl Message for GetStatus {
    type Result = Arc<Snapshot>;
}

/// Send every [`ChildExited`] to this recipient, until it is gone.
///
/// A subscriber that is a child itself subscribes anew from each incarnation's `started`.
#[derive(Debug, Clone)]
pub struct Subscribe(pub Recipient<ChildExited>);

impl Message for Subscribe {
    type Result = ();
}

/// From the tasks that wait on the supervisor's behalf.
#[derive(Debug)]
pub(super) enum Notice {
    /// An incarnation has finished starting.
    Running { name: ChildName, generation: Generation },
    /// An incarnation has ended.
    Exited {
        name: ChildName,
        generation: Generation,
        exit: Exit,
    },
    /// A timer set for this child has run out.
    TimeUp { name: ChildName, ticket: u64 },
}

impl Message for Notice {
    type Result = ();
}

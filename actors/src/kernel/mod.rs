//! The supervision kit: children that may fail, and the rules by which they come back.
//!
//! actix gives mailboxes and threads (arbiters); everything about failure is here and in
//! [`crate::supervisor`], because actix's own supervisor neither survives a panic nor knows a backoff.
//! The kit knows no event, no function and no database.
//!
//! # What it guarantees
//!
//! **Restart.** A child whose actor panics (in the factory, in `started`, in a handler, in any future of
//! its context) or is aborted as unresponsive is *built anew by its factory* after a backoff. A value
//! that has seen a panic is never used again. Whether a normal exit is followed by a restart is the
//! child's [`RestartKind`]. Failures are one-for-one: a sibling is never restarted on another's account.
//! More than `max_restarts` in any window means giving up: the child is quarantined, or the process is
//! asked to stop ([`GiveUp`]). [`policy`] holds the arithmetic, and nothing else does.
//!
//! **What is lost.** Everything in a dead actor's mailbox, unread and without notice to `do_send`;
//! `send` answers `Closed`. Therefore a message is a hint; the truth it hints at lives elsewhere, and
//! [`ChildExited`] is sent to whoever has to act on the loss (give leases back) as soon as it is known.
//! A panic inside a detached `ResponseFuture` is *not* an exit: only that reply fails.
//!
//! **Ordering.** Messages of one sender to one incarnation arrive in order. Nothing is promised across
//! incarnations, nor between a message and the control line (probe, wind-down), except that what was in
//! the mailbox before a wind-down is handled before it. `ChildExited` of a generation is sent before
//! that child's next generation can be found in the address book.
//!
//! **Generations.** Every incarnation has a [`Generation`], unique in the process and growing. An exit, a
//! timer or a request to rest that names an older generation changes nothing. A holder of an old address
//! reaches nobody: addresses of different incarnations never lead to the same actor.
//!
//! **Start.** A child runs once `started` has returned *and* every future it passed to `ctx.wait` there has
//! ended; until then it has no address in the book, and a failure counts as a failed start.
//!
//! **Stop.** A child is told to wind down ([`Supervised::wind_down`]) and has its grace to finish what it
//! has in flight; after that it is aborted at its next yield. Stopping is bottom-up, and what has yet to
//! be stopped is still supervised meanwhile.
//!
//! **Hang.** A child that leaves a probe unanswered for three heartbeats is aborted and rebuilt. If the
//! thread itself no longer runs anything (it has a canary of its own), nothing can free it: the process
//! is asked to stop, with the reason. A frozen and thawed process misses one beat, not many.
//!
//! **Credits.** [`credit`] is the backpressure; mailbox capacity is none (actix ignores it for `do_send`,
//! and each clone of an address has a slot of its own). A [`Permit`] comes back when dropped, panic or not.
//!
//! **Status.** After every change an immutable [`Snapshot`] is published; reading it asks no actor.
//!
//! # What it never does
//!
//! It never resumes a panicked value, never buffers messages for a child that is down, never retries a
//! message, never kills a thread, never runs code of its own in `stopping` or `stopped` (a panic there,
//! while unwinding, aborts the process: supervised actors must keep those two empty of anything that can
//! fail), and never blocks.

pub mod book;
pub mod child;
pub mod credit;
pub mod exit;
pub mod generation;
mod guard;
pub mod policy;
pub mod probe;
pub mod snapshot;

pub use book::{AddressBook, Lookup};
pub use child::{Boot, ChildName, ChildSpec, GiveUp, Placement, RestartKind, Supervised};
pub use credit::{Credits, NoCredit, Permit};
pub use exit::{ChildExited, Exit};
pub use generation::Generation;
pub use policy::{RestartLedger, RestartPolicy, Verdict};
pub use probe::Observation;
pub use snapshot::{ChildState, ChildStatus, LastExit, Snapshot, StatusBoard};

pub(crate) use generation::Generations;
pub(crate) use guard::{Command, Launched};

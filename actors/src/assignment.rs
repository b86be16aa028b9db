//! A leased job on its way through the executors, with the permit that bounds how many there are.
//!
//! Whoever holds an assignment either settles it or drops it. Dropping gives the job back at once, so when an actor dies
//! every job it had, in its mailbox or in its hands, is handed out again without waiting for a lease to expire; and if
//! the actor died *over* this job, that is counted against the job.

use tokio::sync::mpsc::UnboundedSender;

use crate::breaker::Pass;
use crate::domain::JobId;
use crate::kernel::Permit;
use crate::ports::Lease;

/// What becomes of an assignment that the consumer has to hear of.
#[derive(Debug)]
pub enum Returned {
    /// Its holder did not settle it.
    Abandoned {
        /// The job.
        lease: Lease,
        /// Whether its holder panicked while handling it.
        is_culprit: bool,
    },
    /// It was to be given up, and has been: should the job ever come back, it starts over.
    GivenUp(JobId),
}

/// A leased job.
#[derive(Debug)]
pub struct Assignment {
    /// `None` once settled.
    lease: Option<Lease>,
    /// Why the job is to be given up instead of done, if it is.
    poisoned: Option<String>,
    /// Returns to the pool when the assignment goes.
    _permit: Permit,
    /// The breaker's leave to call the app, until the call is made.
    pass: Option<Pass>,
    returned: UnboundedSender<Returned>,
    is_handled: bool,
}

impl Assignment {
    /// A job to be done. `poisoned` asks for it to be given up, and says why.
    #[must_use]
    pub fn new(lease: Lease, poisoned: Option<String>, permit: Permit, returned: UnboundedSender<Returned>) -> Self {
        Self {
            lease: Some(lease),
            poisoned,
            _permit: permit,
            pass: None,
            returned,
            is_handled: false,
        }
    }

    /// The job.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        self.lease
            .as_ref()
            .expect("an assignment is settled by value, so nobody can look at a settled one")
    }

    /// With the breaker's leave to call the app.
    #[must_use]
    pub fn with_pass(self, pass: Option<Pass>) -> Self {
        let mut assignment = self;
        assignment.pass = pass;
        assignment
    }

    /// The breaker's leave, for as long as the call has not been made.
    pub fn pass(&mut self) -> &mut Option<Pass> {
        &mut self.pass
    }

    /// Why the job is to be given up, if it is.
    #[must_use]
    pub fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// Does something on the job's account: a panic in it counts against the job.
    pub fn handle<T>(&mut self, work: impl FnOnce(&Lease) -> T) -> T {
        self.is_handled = true;
        let outcome = work(self.lease());
        self.is_handled = false;
        outcome
    }

    /// The job is done with, and the store knows its outcome.
    #[must_use]
    pub fn finish(self) -> Lease {
        if self.poisoned.is_some() {
            let _ = self.returned.send(Returned::GivenUp(self.lease().job.id.clone()));
        }
        self.settle()
    }

    /// The job is in other hands: nothing happens when the assignment goes.
    #[must_use]
    pub fn settle(mut self) -> Lease {
        self.lease.take().expect("an assignment is settled once")
    }
}

impl Drop for Assignment {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            // The consumer is gone only when the process ends.
            let _ = self.returned.send(Returned::Abandoned {
                lease,
                is_culprit: self.is_handled && std::thread::panicking(),
            });
        }
    }
}

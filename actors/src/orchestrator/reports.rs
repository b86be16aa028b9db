//! Reports of calls under way: who decides about them.
//!
//! Any instance may be asked, whoever made the call. If the function's executor lives here, the report takes its place in
//! the run's line, and the state that is kept there will do; otherwise the run is loaded, and its version is the arbiter.

use tokio::sync::oneshot;

use super::{Orchestrator, Refusal};
use crate::consumer::executor_name;
use crate::domain::{FunctionId, Report, ReportRefused, RunId, Ticket};
use crate::executor::{Executor, NotTaken, TakeReport};

impl Orchestrator {
    /// Takes what a call under way reports; when this returns it is durable. `function` is the run's, as far as the app
    /// says. The inner error says why the report is not taken.
    ///
    /// # Errors
    /// When the store can't, or the server is going down. Whether the report was recorded is then not known; sending it
    /// again does no harm.
    pub async fn report(
        &self,
        run: RunId,
        function: Option<FunctionId>,
        ticket: &Ticket,
        report: Report,
    ) -> Result<Result<(), ReportRefused>, Refusal> {
        self.metrics
            .calls
            .reports
            .watch(self.taken(run, function, ticket, report).await)
    }

    async fn taken(
        &self,
        run: RunId,
        function: Option<FunctionId>,
        ticket: &Ticket,
        report: Report,
    ) -> Result<Result<(), ReportRefused>, Refusal> {
        // The app answers the call with it instead, and goes on no further.
        let catalog = self.catalog();
        if function
            .and_then(|id| catalog.function(id))
            .is_some_and(|function| function.mode.is_paused())
        {
            return Err(Refusal::Unavailable("the function is paused"));
        }
        if self.is_draining() {
            return Err(Refusal::Unavailable("it is stopping"));
        }
        // Whoever has the lease now calls the app, or is about to: the database does not know of it yet.
        let leases = self.queue.leases_of(run).await;
        let mut leases = leases.iter().filter(|lease| lease.job.id.key == ticket.call.job);
        if leases.any(|lease| lease.epoch != ticket.epoch) {
            self.outside().supersede(run, &report).await?;
            return Ok(Err(ReportRefused::Stale));
        }
        let executor = function.and_then(|function| {
            let name = executor_name(function);
            self.supervisor.book.find::<Executor>(name.as_str()).address()
        });
        let Some(executor) = executor else {
            return self.outside().report(run, report).await;
        };
        let (reply, outcome) = oneshot::channel();
        let taking = TakeReport {
            run,
            report: report.clone(),
            reply,
        };
        executor.do_send(taking);
        match outcome.await.map_err(|_| Refusal::Unavailable("executor"))? {
            Ok(()) => Ok(Ok(())),
            Err(NotTaken::Refused(why)) => Ok(Err(why)),
            Err(NotTaken::Rival) => {
                self.outside().supersede(run, &report).await?;
                Ok(Err(ReportRefused::Stale))
            }
        }
    }
}

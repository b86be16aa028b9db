//! The gateway's place in the process tree: what has to be done about workers' connections beside the connections
//! themselves, each of which has a task of its own in the daemon.
//!
//! It forgets requests that nobody asks for any more and, when the server goes down, sends the workers elsewhere before
//! anybody else stops: the calls that are under way end meanwhile. Where there is no elsewhere they are left alone until the
//! calls have ended: a worker that has been told to go sends neither answers nor extensions over the connection it has. What it works on outlives it ([`Workers`]), so nothing is
//! lost with an incarnation. Started last and stopped first, like the consumer.

use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context};

use crate::kernel::{Observation, Supervised};
use crate::workers::{Status, Workers};

/// Between two looks at what may be forgotten.
const TIDY: Duration = Duration::from_secs(5);

/// The actor.
#[derive(Debug)]
pub struct Gateway {
    workers: Workers,
    has_others: bool,
}

impl Gateway {
    /// The gateway of these workers. `has_others`: whether there may be other instances for them to go to.
    #[must_use]
    pub fn new(workers: Workers, has_others: bool) -> Self {
        Self { workers, has_others }
    }
}

impl Actor for Gateway {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(TIDY, |gateway, _| gateway.workers.purge());
    }
}

impl Supervised for Gateway {
    fn observe(&self) -> Observation {
        let views = self.workers.list();
        let ready = views.iter().filter(|view| view.status == Status::Ready).count();
        let requests = self.workers.open_requests();
        Observation::of(u64::try_from(requests).unwrap_or(0))
            .with_detail(serde_json::json!({ "connections": views.len(), "ready": ready }))
    }

    fn wind_down(&mut self, ctx: &mut Context<Self>) {
        self.workers.announce_end(self.has_others);
        ctx.stop();
    }
}

//! What a child is: a spec made of data, and a factory.
//!
//! A spec can be used any number of times and from any thread; the actor it builds need not be `Send`, for it
//! is built on the thread it will live on and never leaves it.

use std::{borrow::Borrow, fmt, sync::Arc, time::Duration};

use actix::{Actor, ActorContext, ArbiterHandle, Context};
use serde::{Deserialize, Serialize};

use super::{
    generation::Generation,
    guard::{self, Launched},
    policy::RestartPolicy,
    probe::Observation,
};

/// An actor the supervisor can look after.
///
/// Both methods have defaults, so the least an actor needs is `impl Supervised for X {}`. They are
/// called on the actor's own thread, between its messages, through a control line of the kernel.
///
/// While an actor waits (`ctx.wait`, `AtomicResponse`) it answers no probe: what it waits for must be shorter
/// than the heartbeats it may miss. Work that takes long belongs into `ctx.spawn` or a task.
///
/// ```
/// use actix::{Actor, ActorContext, Context};
/// use callboard_actors::kernel::{ChildSpec, Observation, Placement, Supervised};
///
/// struct Porter {
///     carrying: u64,
///     going_home: bool,
/// }
///
/// impl Actor for Porter {
///     type Context = Context<Self>;
/// }
///
/// impl Supervised for Porter {
///     fn observe(&self) -> Observation {
///         Observation::of(self.carrying)
///     }
///
///     // Whoever ends a piece of work looks at `going_home` and stops after the last one.
///     fn wind_down(&mut self, ctx: &mut Context<Self>) {
///         self.going_home = true;
///         if self.carrying == 0 {
///             ctx.stop();
///         }
///     }
/// }
///
/// fn spec(placement: Placement) -> ChildSpec {
///     ChildSpec::new("porter", "porter", placement, |_boot| Porter {
///         carrying: 0,
///         going_home: false,
///     })
/// }
/// ```
pub trait Supervised: Actor<Context = Context<Self>> {
    /// What the actor says about itself, at every heartbeat. Cheap; must not block.
    fn observe(&self) -> Observation {
        Observation::default()
    }

    /// Told to stop. Either stop now, or finish what is in flight and call `ctx.stop()` then, within the
    /// grace of the spec. `ctx.stop()` drops the futures of the context, so an actor with work there
    /// must not call it earlier than it means it.
    fn wind_down(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// The name of a child, unique in its supervisor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChildName(Arc<str>);

impl ChildName {
    /// Names are free text; `role` or `role/key` by habit.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ChildName {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for ChildName {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl Borrow<str> for ChildName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChildName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether an exit is followed by a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartKind {
    /// After any exit it was not told to make.
    Permanent,
    /// After any exit but a normal one.
    Transient,
    /// Never; the child is forgotten when it ends.
    Temporary,
}

/// What happens once a child has used up its restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUp {
    /// The process cannot do without it: it is asked to stop.
    StopProcess,
    /// The child alone is taken out of service, and tried once more after this long, and again.
    Quarantine {
        /// From the quarantine to the next single attempt.
        probe_after: Duration,
    },
}

/// The thread a child lives on. Placements with one name must carry one arbiter.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Shown to operators, and what the thread's canary is kept under.
    pub name: Arc<str>,
    /// The thread.
    pub arbiter: ArbiterHandle,
}

impl Placement {
    /// A thread and what to call it.
    pub fn new(name: impl Into<Arc<str>>, arbiter: ArbiterHandle) -> Self {
        Self {
            name: name.into(),
            arbiter,
        }
    }
}

/// What a factory is told about the incarnation it builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The child's name.
    pub name: ChildName,
    /// The incarnation; the actor puts it into whatever must be refused once it is stale.
    pub generation: Generation,
}

/// Everything the supervisor needs to know about a child. Cloning is cheap.
#[derive(Clone)]
pub struct ChildSpec {
    /// Unique in the supervisor.
    pub name: ChildName,
    /// The kind of child, for operators and metrics: one word for all of the same factory.
    pub role: &'static str,
    /// Where it lives.
    pub placement: Placement,
    /// Whether it comes back.
    pub restart: RestartKind,
    /// When it comes back.
    pub policy: RestartPolicy,
    /// And when it does not.
    pub give_up: GiveUp,
    /// Lower starts earlier and stops later. Children of one order start and stop together.
    pub order: u16,
    /// From being told to stop until it is aborted.
    pub stop_grace: Duration,
    /// From being built until it must be running.
    pub start_grace: Duration,
    launch: Arc<dyn Launch>,
}

impl ChildSpec {
    /// A permanent child with the default policy, on whose failure the process stops.
    ///
    /// `factory` runs on the child's thread at every start; a panic in it is a failed start.
    pub fn new<A, F>(name: impl Into<ChildName>, role: &'static str, placement: Placement, factory: F) -> Self
    where
        A: Supervised,
        F: Fn(Boot) -> A + Send + Sync + 'static,
    {
        Self {
            name: name.into(),
            role,
            placement,
            restart: RestartKind::Permanent,
            policy: RestartPolicy::default(),
            give_up: GiveUp::StopProcess,
            order: 0,
            stop_grace: Duration::from_secs(5),
            start_grace: Duration::from_secs(30),
            launch: Arc::new(Factory(Arc::new(factory))),
        }
    }

    /// Sets the restart kind.
    #[must_use]
    pub fn with_restart(mut self, restart: RestartKind) -> Self {
        self.restart = restart;
        self
    }

    /// Sets the restart policy.
    #[must_use]
    pub fn with_policy(mut self, policy: RestartPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets what giving up means.
    #[must_use]
    pub fn with_give_up(mut self, give_up: GiveUp) -> Self {
        self.give_up = give_up;
        self
    }

    /// Sets the order.
    #[must_use]
    pub fn with_order(mut self, order: u16) -> Self {
        self.order = order;
        self
    }

    /// Sets the time to wind down.
    #[must_use]
    pub fn with_stop_grace(mut self, grace: Duration) -> Self {
        self.stop_grace = grace;
        self
    }

    /// Sets the time to start.
    #[must_use]
    pub fn with_start_grace(mut self, grace: Duration) -> Self {
        self.start_grace = grace;
        self
    }

    /// Builds one incarnation on the child's thread and returns at once.
    pub(crate) fn launch(&self, generation: Generation) -> Launched {
        let boot = Boot {
            name: self.name.clone(),
            generation,
        };
        self.launch.launch(&self.placement.arbiter, boot)
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("placement", &self.placement.name)
            .field("restart", &self.restart)
            .field("policy", &self.policy)
            .field("give_up", &self.give_up)
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

/// The factory with its actor's type erased.
trait Launch: Send + Sync {
    fn launch(&self, arbiter: &ArbiterHandle, boot: Boot) -> Launched;
}

struct Factory<F>(Arc<F>);

impl<A, F> Launch for Factory<F>
where
    A: Supervised,
    F: Fn(Boot) -> A + Send + Sync + 'static,
{
    fn launch(&self, arbiter: &ArbiterHandle, boot: Boot) -> Launched {
        let factory = Arc::clone(&self.0);
        guard::launch(arbiter, boot, move |boot| factory(boot))
    }
}

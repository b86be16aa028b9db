//! An actor that fails in every way an actor can.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, ResponseFuture,
    WrapFuture,
};

use crate::kernel::{Boot, ChildName, Generation, Observation, Permit, Supervised};

/// How incarnations behave; shared by the test and all of them.
#[derive(Clone, Default)]
pub(super) struct Script(Arc<Lines>);

#[derive(Default)]
struct Lines {
    panics_in_factory: AtomicU32,
    panics_in_started: AtomicU32,
    hangs_in_started: AtomicU32,
    panics_in_observe: AtomicU32,
    deaf: AtomicU32,
    slow_start: Mutex<Duration>,
    log: Mutex<Vec<String>>,
    built: Mutex<Vec<(ChildName, Generation)>>,
    alive: Mutex<HashMap<ChildName, u32>>,
    violations: Mutex<Vec<String>>,
}

impl Script {
    pub(super) fn panic_in_factory(&self, times: u32) {
        self.0.panics_in_factory.store(times, Ordering::SeqCst);
    }

    pub(super) fn panic_in_started(&self, times: u32) {
        self.0.panics_in_started.store(times, Ordering::SeqCst);
    }

    pub(super) fn hang_in_started(&self, times: u32) {
        self.0.hangs_in_started.store(times, Ordering::SeqCst);
    }

    pub(super) fn panic_in_observe(&self, times: u32) {
        self.0.panics_in_observe.store(times, Ordering::SeqCst);
    }

    /// The next incarnations do not stop when told to.
    pub(super) fn be_deaf(&self, times: u32) {
        self.0.deaf.store(times, Ordering::SeqCst);
    }

    pub(super) fn start_slowly(&self, by: Duration) {
        *self.0.slow_start.lock().expect("not poisoned") = by;
    }

    /// What happened so far, one word per event.
    pub(super) fn log(&self) -> Vec<String> {
        self.0.log.lock().expect("not poisoned").clone()
    }

    /// Every incarnation that a factory was called for.
    pub(super) fn built(&self) -> Vec<(ChildName, Generation)> {
        self.0.built.lock().expect("not poisoned").clone()
    }

    /// What must never be, and was: two incarnations of one name at a time.
    pub(super) fn violations(&self) -> Vec<String> {
        self.0.violations.lock().expect("not poisoned").clone()
    }

    /// How many incarnations are alive.
    pub(super) fn alive(&self) -> u32 {
        self.0.alive.lock().expect("not poisoned").values().sum()
    }

    fn enter(&self, boot: &Boot) {
        let mut alive = self.0.alive.lock().expect("not poisoned");
        let count = alive.entry(boot.name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            let violation = format!("{} {} is not alone", boot.name, boot.generation);
            self.0.violations.lock().expect("not poisoned").push(violation);
        }
    }

    fn leave(&self, boot: &Boot) {
        // Called from a drop that may be part of an unwind: nothing here may panic.
        if let Ok(mut alive) = self.0.alive.lock()
            && let Some(count) = alive.get_mut(&boot.name)
        {
            *count = count.saturating_sub(1);
        }
    }

    fn write(&self, line: String) {
        self.0.log.lock().expect("not poisoned").push(line);
    }
}

/// Takes one of `counter`, if there is one left.
fn take(counter: &AtomicU32) -> bool {
    counter
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
        .is_ok()
}

pub(super) struct Faulty {
    boot: Boot,
    script: Script,
    counted: u32,
    in_flight: u64,
    winding_down: bool,
    deaf: bool,
}

impl Faulty {
    pub(super) fn new(boot: Boot, script: Script) -> Self {
        let incarnation = (boot.name.clone(), boot.generation);
        script.0.built.lock().expect("not poisoned").push(incarnation);
        if take(&script.0.panics_in_factory) {
            panic!("in the factory");
        }
        let deaf = take(&script.0.deaf);
        script.enter(&boot);
        Self {
            boot,
            script,
            counted: 0,
            in_flight: 0,
            winding_down: false,
            deaf,
        }
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.script.leave(&self.boot);
    }
}

impl Actor for Faulty {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if take(&self.script.0.panics_in_started) {
            panic!("in started");
        }
        if take(&self.script.0.hangs_in_started) {
            ctx.wait(std::future::pending().into_actor(self));
        }
        let slow = *self.script.0.slow_start.lock().expect("not poisoned");
        if slow > Duration::ZERO {
            ctx.wait(tokio::time::sleep(slow).into_actor(self));
        }
        self.script.write(format!("+{}", self.boot.name));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if !std::thread::panicking() {
            self.script.write(format!("-{}", self.boot.name));
        }
    }
}

impl Supervised for Faulty {
    fn observe(&self) -> Observation {
        if take(&self.script.0.panics_in_observe) {
            panic!("in observe");
        }
        Observation::of(self.in_flight).with_detail(serde_json::json!({ "counted": self.counted }))
    }

    fn wind_down(&mut self, ctx: &mut Context<Self>) {
        if self.deaf {
            return;
        }
        self.winding_down = true;
        if self.in_flight == 0 {
            ctx.stop();
        }
    }
}

macro_rules! message {
    ($name:ident => $result:ty) => {
        impl Message for $name {
            type Result = $result;
        }
    };
}

/// Counts; answers how many this incarnation has counted.
pub(super) struct Count;
message!(Count => u32);

impl Handler<Count> for Faulty {
    type Result = u32;

    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> u32 {
        self.counted += 1;
        self.counted
    }
}

/// Panics in the handler.
pub(super) struct Panic;
message!(Panic => ());

impl Handler<Panic> for Faulty {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("in a handler");
    }
}

/// Panics in a future that holds the actor.
pub(super) struct PanicInActFuture;
message!(PanicInActFuture => ());

impl Handler<PanicInActFuture> for Faulty {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: PanicInActFuture, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async { panic!("in an act-future") }.into_actor(self))
    }
}

/// Panics in a future spawned into the context.
pub(super) struct PanicInSpawned;
message!(PanicInSpawned => ());

impl Handler<PanicInSpawned> for Faulty {
    type Result = ();

    fn handle(&mut self, _: PanicInSpawned, ctx: &mut Context<Self>) {
        ctx.spawn(async { panic!("in a spawned future") }.into_actor(self));
    }
}

/// Panics in a timer of the context.
pub(super) struct PanicLater;
message!(PanicLater => ());

impl Handler<PanicLater> for Faulty {
    type Result = ();

    fn handle(&mut self, _: PanicLater, ctx: &mut Context<Self>) {
        ctx.run_later(Duration::from_millis(1), |_, _| panic!("in a timer"));
    }
}

/// Panics in a detached reply.
pub(super) struct PanicInReply;
message!(PanicInReply => ());

impl Handler<PanicInReply> for Faulty {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: PanicInReply, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async { panic!("in a reply") })
    }
}

/// Stops of its own accord.
pub(super) struct Stop;
message!(Stop => ());

impl Handler<Stop> for Faulty {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// Waits for ever, and with it everything the actor has to do.
pub(super) struct Hang;
message!(Hang => ());

impl Handler<Hang> for Faulty {
    type Result = ();

    fn handle(&mut self, _: Hang, ctx: &mut Context<Self>) {
        ctx.wait(std::future::pending().into_actor(self));
    }
}

/// Blocks the thread until the sender is dropped.
pub(super) struct BlockThread(pub(super) mpsc::Receiver<()>);
message!(BlockThread => ());

impl Handler<BlockThread> for Faulty {
    type Result = ();

    fn handle(&mut self, message: BlockThread, _: &mut Context<Self>) {
        let _ = message.0.recv();
    }
}

/// Has one piece of work in flight for so long, with its permit.
pub(super) struct Work(pub(super) Duration, pub(super) Option<Permit>);
message!(Work => ());

impl Handler<Work> for Faulty {
    type Result = ();

    fn handle(&mut self, Work(lasting, permit): Work, ctx: &mut Context<Self>) {
        self.in_flight += 1;
        let work = tokio::time::sleep(lasting).into_actor(self).map(move |(), actor, ctx| {
            drop(permit);
            actor.in_flight -= 1;
            if actor.winding_down && actor.in_flight == 0 {
                ctx.stop();
            }
        });
        ctx.spawn(work);
    }
}

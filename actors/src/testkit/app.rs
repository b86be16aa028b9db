//! An app whose every answer a test decides.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::domain::{Call, Failure, FetchFailure, FetchRequest, FetchResponse, Reply, RunId, Target};
use crate::ports::{Invoker, InvokerFactory};

/// What the app does about a call.
pub(crate) enum Answer {
    /// It answers at once.
    Now(Reply),
    /// It answers when the test says so.
    Held(oneshot::Receiver<Reply>),
    /// The call's task dies.
    Panic,
}

/// A call as the app saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) run: RunId,
    /// The step it was called for, or nothing for a discovery.
    pub(crate) step: Option<String>,
    pub(crate) attempt: u32,
    pub(crate) stack: Vec<String>,
}

type Script = Box<dyn FnMut(&Call) -> Answer + Send>;

/// The app. Clones are the same one.
#[derive(Clone)]
pub(crate) struct FakeApp(Arc<Shared>);

struct Shared {
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    in_flight: AtomicUsize,
    peak: AtomicUsize,
}

impl fmt::Debug for FakeApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeApp").field("seen", &self.seen()).finish()
    }
}

impl FakeApp {
    /// An app that answers as `script` says.
    pub(crate) fn new(script: impl FnMut(&Call) -> Answer + Send + 'static) -> Self {
        Self(Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            seen: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }))
    }

    /// Every call so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.seen.lock().expect("no panic under the lock").clone()
    }

    /// Calls the app is at work on.
    pub(crate) fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::SeqCst)
    }

    /// The most there have been at a time.
    pub(crate) fn peak(&self) -> usize {
        self.0.peak.load(Ordering::SeqCst)
    }
}

impl InvokerFactory for FakeApp {
    fn build(&self) -> Rc<dyn Invoker> {
        Rc::new(FakeInvoker {
            app: self.clone(),
            calls: Cell::new(0),
        })
    }
}

struct FakeInvoker {
    app: FakeApp,
    /// Keeps it on its thread, as a real one is.
    calls: Cell<u64>,
}

impl fmt::Debug for FakeInvoker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeInvoker").field("calls", &self.calls).finish()
    }
}

/// Counts a call as in flight for as long as anybody waits for it.
struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait(?Send)]
impl Invoker for FakeInvoker {
    async fn call(&self, call: Call) -> Reply {
        self.calls.set(self.calls.get() + 1);
        let shared = &*self.app.0;
        let now = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        let _in_flight = InFlight(&shared.in_flight);
        shared.peak.fetch_max(now, Ordering::SeqCst);
        shared.seen.lock().expect("no panic under the lock").push(Seen {
            run: call.run,
            step: match &call.target {
                Target::Discovery => None,
                Target::Step(step) => Some(step.to_string()),
            },
            attempt: call.attempt,
            stack: call.stack.iter().map(ToString::to_string).collect(),
        });
        let answer = (shared.script.lock().expect("no panic under the lock"))(&call);
        match answer {
            Answer::Now(reply) => reply,
            Answer::Held(reply) => reply.await.unwrap_or_else(|_| Reply::Failed {
                failure: Failure::new("Error", "the test let go of the call"),
                status: None,
                no_retry: false,
                retry_after: None,
            }),
            Answer::Panic => panic!("the invoker panics, as the test wants it"),
        }
    }

    async fn fetch(&self, _: FetchRequest) -> Result<FetchResponse, FetchFailure> {
        Err(FetchFailure {
            failure: Failure::new("Error", "nobody fetches here"),
        })
    }
}

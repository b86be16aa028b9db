//! The workers that are connected, and the calls that are made over their connections.
//!
//! An app that *connects* is not called at a URL: its workers open connections to us, and calls go out over them. This
//! is what the orchestrator knows of that; sockets and bytes are the daemon's. Connections have a task each there, which
//! tells what it hears ([`Workers::ready`], [`Workers::acknowledge`], [`Workers::answer`] …) and carries out [`Order`]s. The
//! daemon's invoker makes a call by [`Workers::call`], so executor, retries and the engine don't know which way a call took.
//!
//! | part | what it decides |
//! |---|---|
//! | `roster` | who may be called for a function |
//! | `routing` | which of them is |
//! | `requests` | who is at work on what, by which lease, and what came of it |
//!
//! # Work waits
//!
//! While no ready worker has a function, its calls rest in the store like those of a paused function
//! ([`crate::parked`]): they cost no attempt and nothing looks at them; the worker that becomes ready rings for them. While
//! all workers that have it are full, its calls come back to see whether there is room, spread over time as behind a
//! circuit breaker. Breakers are for URLs; calls over connections have none.
//!
//! # Several instances
//!
//! A call is made by the instance that has the connection. One that leases a job and has no worker for it gives it back
//! for a moment, so another one leases it; as a rule the next step of a run is leased by the instance that has committed
//! the last one, so calls stay where their workers are. Whether a worker is connected elsewhere is not known, so with others
//! about nothing rests in the store for want of a worker: it comes back as if workers were full.
//!
//! # Promises
//!
//! A worker is never given more than it has said it can take, counted over all connections of its instance, also while
//! connections come and go. A call that was begun is waited for as long as its worker keeps its lease, whatever becomes of the
//! connection; after that it is a failed attempt. A call that nobody began costs nothing. Clones are the same one; it
//! outlives the actors that use it.

mod requests;
mod roster;
mod routing;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use ulid::Ulid;

use crate::domain::{FunctionId, RunId, Timestamp};
use crate::ports::{Clock, Random};
pub use requests::{Answer, CallKey, RequestId, RequestIdError};
use requests::{Progress, Requests, Sending};
use roster::Roster;

/// Calls that may come back within one second to see whether a worker has room.
const RETURNS_PER_SECOND: u32 = 500;
/// How long such a call waits at the least.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
/// For how long a call that was let through counts as on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// Silent for so many heartbeats, a worker is no candidate.
const MISSED_HEARTBEATS: u32 = 2;

/// What an operator may set.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How often a worker says that it lives.
    pub heartbeat: Duration,
    /// For how long a worker that is silent counts as at work on a request.
    pub lease: Duration,
    /// Whether workers may be connected to other instances that share the queue.
    pub has_others: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(10),
            lease: Duration::from_secs(60),
            has_others: false,
        }
    }
}

/// A connection, for as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(u64);

/// What a worker says of itself when it connects.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The connection's id, as the worker was told.
    pub connection: String,
    /// Which process it is, by its own account. Connections of one instance share its room.
    pub instance: Arc<str>,
    /// Requests that it takes at one time; `None` for any number.
    pub room: Option<usize>,
    /// Its apps.
    pub groups: Vec<Group>,
    /// Such as `typescript`.
    pub sdk_language: String,
    /// Such as `v4.18.1`.
    pub sdk_version: String,
    /// Where it runs, if it knows.
    pub platform: Option<String>,
    /// Its machine.
    pub machine: Machine,
    /// Where it connected from.
    pub address: String,
    /// When.
    pub connected_at: Timestamp,
}

/// The machine of a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Cores.
    pub cpu_cores: i32,
    /// Bytes of memory.
    pub memory: i64,
    /// Such as `linux`.
    pub os: String,
}

/// An app of a worker. Workers that serve the same functions in the same version are of one group.
#[derive(Debug, Clone)]
pub struct Group {
    /// The app's name.
    pub app: Arc<str>,
    /// Its own version label.
    pub version: Option<String>,
    /// Tells the group from others.
    pub hash: String,
    /// Slugs of its functions.
    pub functions: HashSet<Arc<str>>,
}

/// How a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It has connected, and is not ready yet.
    Connected,
    /// It takes requests.
    Ready,
    /// It takes no more, and ends what it has begun.
    Draining,
}

impl Status {
    /// Its name for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// What the task of a connection is to do.
#[derive(Debug)]
pub enum Order {
    /// Send this to the worker.
    Request(Box<Request>),
    /// Tell the worker that the server is going down, and to connect elsewhere.
    Closing,
    /// Close the connection: the server is going down.
    Close,
}

/// A request to a worker.
#[derive(Debug, Clone)]
pub struct Request {
    /// This sending of it.
    pub id: RequestId,
    /// The lease that the worker has with it.
    pub lease: Ulid,
    /// The app, as the worker calls it.
    pub app: Arc<str>,
    /// What is asked.
    pub wanted: Arc<Wanted>,
}

/// A call to be made.
#[derive(Debug)]
pub struct Wanted {
    /// Which call it is.
    pub key: CallKey,
    /// The function.
    pub function: FunctionId,
    /// Its slug.
    pub slug: Arc<str>,
    /// The run.
    pub run: RunId,
    /// The step that is to run, or the word for none.
    pub step: String,
    /// What the app is told.
    pub payload: String,
    /// Give up after this long.
    pub timeout: Duration,
}

/// What came of a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Called {
    /// It was answered.
    Answered(Answer),
    /// Nobody had room for it. Worth another try after this time.
    NotMade(Duration),
    /// Whoever was at work on it is gone.
    Lost,
    /// It took too long.
    TimedOut,
}

/// A connection, for people.
#[derive(Debug, Clone)]
pub struct View {
    /// The worker.
    pub worker: Arc<Worker>,
    /// How it is.
    pub status: Status,
    /// When it was last heard of.
    pub heard_at: Timestamp,
    /// Requests that it is at work on.
    pub in_hand: usize,
}

/// The workers. Clones are the same ones.
#[derive(Clone)]
pub struct Workers(Arc<Shared>);

struct Shared {
    settings: Settings,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    origin: Instant,
    /// Rung when there is work for a function again.
    bell: Arc<Notify>,
    state: Mutex<State>,
}

struct State {
    roster: Roster,
    requests: Requests,
    /// Calls that were let through and have not come yet: for which function, and when.
    on_their_way: Vec<(Arc<str>, Duration)>,
    /// The last time that was given to a call that has to wait.
    last_return: Duration,
    is_closing: bool,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

/// The server is going down: nobody may connect any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server is going down")]
pub struct Closing;

/// Somebody waits for a request for as long as this lives.
struct Waiting<'a> {
    workers: &'a Workers,
    key: CallKey,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let now = self.workers.elapsed();
        self.workers.lock().requests.let_go(self.key, now);
    }
}

impl Workers {
    /// None are connected.
    #[must_use]
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self(Arc::new(Shared {
            clock,
            random,
            origin: Instant::now(),
            bell: Arc::default(),
            state: Mutex::new(State {
                roster: Roster::new(settings.heartbeat * MISSED_HEARTBEATS),
                requests: Requests::new(settings.lease),
                on_their_way: Vec::new(),
                last_return: Duration::ZERO,
                is_closing: false,
            }),
            settings,
        }))
    }

    /// What was set.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.0.settings
    }

    /// Rung when there is work for a function again that was not served.
    pub(crate) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.0.bell)
    }

    /// A worker has connected. It is given nothing before it is [`Self::ready`].
    ///
    /// # Errors
    /// When the server is going down.
    pub fn join(&self, worker: Worker) -> Result<(SocketId, UnboundedReceiver<Order>), Closing> {
        let (orders, received): (UnboundedSender<Order>, _) = unbounded_channel();
        let now = self.elapsed();
        let mut state = self.lock();
        if state.is_closing {
            return Err(Closing);
        }
        Ok((state.roster.join(Arc::new(worker), orders, now), received))
    }

    /// A worker takes requests from now on.
    pub fn ready(&self, socket: SocketId) {
        let is_more = self.lock().roster.set(socket, Status::Ready);
        if is_more {
            self.0.bell.notify_one();
        }
    }

    /// A worker takes no more requests. Those it has not begun are given to others.
    pub fn pause(&self, socket: SocketId) {
        let mut state = self.lock();
        state.roster.set(socket, Status::Draining);
        state.requests.withdraw(socket);
    }

    /// A worker was heard of.
    pub fn heard(&self, socket: SocketId) {
        let (now, at) = (self.elapsed(), self.0.clock.now());
        self.lock().roster.heard(socket, now, at);
    }

    /// A connection has ended. What its worker has begun it may still bring to an end.
    pub fn leave(&self, socket: SocketId) {
        let mut state = self.lock();
        state.roster.leave(socket);
        state.requests.withdraw(socket);
    }

    /// A worker has begun with a request.
    pub fn acknowledge(&self, id: RequestId) {
        self.lock().requests.acknowledge(id);
    }

    /// A worker of this instance wants its lease on a request extended. Answers the id of the lease that it holds from now
    /// on; `None` if it holds none, and may stop.
    #[must_use]
    pub fn extend(&self, id: RequestId, lease: Ulid, instance: &str) -> Option<Ulid> {
        let (now, fresh) = (self.elapsed(), self.fresh_lease());
        self.lock().requests.extend(id, lease, instance, fresh, now)
    }

    /// A worker has answered a request, over whichever connection or none.
    pub fn answer(&self, id: RequestId, answer: Answer) {
        let now = self.elapsed();
        self.lock().requests.answer(id, answer, now);
    }

    /// Whether a ready worker may have this function, here or elsewhere.
    #[must_use]
    pub fn may_be_served(&self, slug: &str) -> bool {
        self.0.settings.has_others || self.serves(slug)
    }

    /// Whether a ready worker that is connected here has this function.
    #[must_use]
    pub fn serves(&self, slug: &str) -> bool {
        self.lock().roster.serves(slug)
    }

    /// Whether a call of this function may be made now: `None`, or how long to wait before that is asked again. A
    /// hint that keeps calls from coming in vain; what holds is what [`Self::call`] finds.
    #[must_use]
    pub fn admit(&self, slug: &Arc<str>) -> Option<Duration> {
        let now = self.elapsed();
        let mut state = self.lock();
        let State {
            roster,
            requests,
            on_their_way,
            ..
        } = &mut *state;
        on_their_way.retain(|(_, since)| now < *since + ON_ITS_WAY);
        let mut instances = HashSet::new();
        let mut room = 0_usize;
        for candidate in roster.candidates(slug, now) {
            let worker = &candidate.connected.worker;
            // One that takes any number is room enough.
            let most = worker.room?;
            if instances.insert(&worker.instance) {
                room += most.saturating_sub(requests.in_hand(&worker.instance, now));
            }
        }
        let taken = on_their_way.iter().filter(|(of, _)| of == slug).count();
        if room > taken {
            on_their_way.push((Arc::clone(slug), now));
            return None;
        }
        Some(state.next_return(now))
    }

    /// Makes a call: sends it to a worker that has room, and waits for the answer. If the same call was made before and its
    /// worker is still at work on it, or has answered meanwhile, nothing is sent.
    ///
    /// Dropping the future lets the call go: its worker may go on, and if the same call is made again soon, it has the
    /// answer.
    pub async fn call(&self, wanted: Arc<Wanted>) -> Called {
        let key = wanted.key;
        let deadline = self.elapsed() + wanted.timeout;
        let Some(bell) = self.arrive(&wanted) else {
            // The same call twice at a time: the first one's outcome decides about this one.
            return Called::NotMade(ON_ITS_WAY);
        };
        let _waiting = Waiting { workers: self, key };
        loop {
            let now = self.elapsed();
            if now >= deadline {
                self.lock().requests.give_up(key);
                return Called::TimedOut;
            }
            let progress = self.lock().requests.progress(key, now);
            match progress {
                Progress::Answered(answer) => return Called::Answered(answer),
                Progress::Lost => return Called::Lost,
                Progress::Send => {
                    if let Err(wait) = self.send(&wanted, now) {
                        return Called::NotMade(wait);
                    }
                }
                Progress::Until(time) => {
                    let until = self.0.origin + time.min(deadline);
                    tokio::select! {
                        () = bell.notified() => {}
                        () = tokio::time::sleep_until(until) => {}
                    }
                }
            }
        }
    }

    /// A call that was let through has come.
    fn arrive(&self, wanted: &Wanted) -> Option<Arc<Notify>> {
        let mut state = self.lock();
        let mut on_their_way = state.on_their_way.iter();
        if let Some(place) = on_their_way.position(|(slug, _)| *slug == wanted.slug) {
            state.on_their_way.swap_remove(place);
        }
        state.requests.attach(wanted.key)
    }

    /// Sends a request to somebody. Fails with how long to wait if nobody has room.
    fn send(&self, wanted: &Arc<Wanted>, now: Duration) -> Result<(), Duration> {
        let dice = self.0.random.unit();
        let (sending, lease) = (self.fresh_id(), self.fresh_lease());
        let mut state = self.lock();
        let State { roster, requests, .. } = &mut *state;
        let has_room =
            |instance: &str, room: Option<usize>| room.is_none_or(|room| requests.in_hand(instance, now) < room);
        let candidates: Vec<_> = roster
            .candidates(&wanted.slug, now)
            .filter(|candidate| {
                let worker = &candidate.connected.worker;
                has_room(&worker.instance, worker.room)
            })
            .collect();
        let ages: Vec<u64> = candidates.iter().map(|candidate| candidate.age).collect();
        let Some(chosen) = routing::choose(&ages, dice).and_then(|place| candidates.get(place)) else {
            return Err(state.next_return(now));
        };
        let id = RequestId {
            key: wanted.key,
            sending,
        };
        let request = Request {
            id,
            lease,
            app: Arc::clone(chosen.app),
            wanted: Arc::clone(wanted),
        };
        let sending = Sending {
            id,
            lease,
            socket: chosen.socket,
            instance: Arc::clone(&chosen.connected.worker.instance),
        };
        // A task that is gone leaves the roster in a moment, and withdraws what it was given.
        let _ = chosen.connected.orders.send(Order::Request(Box::new(request)));
        requests.sent(sending, now);
        Ok(())
    }

    /// All connections, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<View> {
        let state = self.lock();
        let views = state.roster.all().map(|(socket, connected)| View {
            worker: Arc::clone(&connected.worker),
            status: connected.status,
            heard_at: connected.heard_at,
            in_hand: state.requests.of_socket(socket),
        });
        views.collect()
    }

    /// Requests that workers are at work on, as far as is known.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.lock().requests.open()
    }

    /// Whether the server is going down.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.lock().is_closing
    }

    /// The server is going down: nobody may connect any more, and whoever has is told so if there may be others to go to.
    pub fn announce_end(&self, has_others: bool) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.is_closing, true) && has_others {
            state.tell_all(|| Order::Closing);
        }
    }

    /// Closes all connections; what is not answered yet will be answered elsewhere.
    pub fn close(&self) {
        self.announce_end(false);
        self.lock().tell_all(|| Order::Close);
    }

    /// Forgets what nobody asks for any more.
    pub(crate) fn purge(&self) {
        let now = self.elapsed();
        self.lock().requests.purge(now);
    }

    /// A lease's id: the time part is when it ends.
    fn fresh_lease(&self) -> Ulid {
        let end = self.0.clock.now().after(self.0.settings.lease);
        let millis = u64::try_from(end.as_millis()).unwrap_or(0);
        Ulid::from_parts(millis, self.0.random.bits() & ((1 << 80) - 1))
    }

    fn fresh_id(&self) -> Ulid {
        let millis = u64::try_from(self.0.clock.now().as_millis()).unwrap_or(0);
        Ulid::from_parts(millis, self.0.random.bits() & ((1 << 80) - 1))
    }

    fn elapsed(&self) -> Duration {
        self.0.origin.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half way.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// When a call that finds no room is to come back.
    fn next_return(&mut self, now: Duration) -> Duration {
        let next = (now + SHORTEST_WAIT).max(self.last_return + Duration::from_secs(1) / RETURNS_PER_SECOND);
        self.last_return = next;
        next - now
    }

    fn tell_all(&self, order: impl Fn() -> Order) {
        for (_, connected) in self.roster.all() {
            let _ = connected.orders.send(order());
        }
    }
}

#[cfg(test)]
mod tests;

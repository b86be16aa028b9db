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
//! | `elsewhere` | what workers of other instances serve |
//! | `history` | what is written down of connections |
//! | `places` | how much a worker can take where it may be connected to several instances |
//!
//! `calling` and `sharing` carry out what those decide.
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
//! the last one, so calls stay where their workers are. The other way would be to send requests on to the instance with the
//! connection, and acknowledgements, extensions and answers back; it has twice as many messages, a roster of strangers whose
//! room two instances may give away at once, and calls that are lost when the channel is.
//!
//! What instances do tell each other ([`News`]) makes this cheap and lets workers move. *Serving*: what no instance serves
//! rests in the store as on a server of its own; what another one serves is given back. *Extended* and *Answered*: a worker
//! that has moved while it was at work says so where it is now, and the instance that waits hears of it. News may get lost:
//! then a lease runs out and the call is made again, and what is not known to be served nowhere counts as served.
//!
//! A lease that nobody here knows is extended all the same while it would last by the time in its id: it was given by
//! another instance, or by this one before it was restarted. The call that is made again then waits for its worker.
//!
//! # Promises
//!
//! A worker is never given more than it has said it can take, counted over all connections of its instance, also while
//! connections come and go. A call that was begun is waited for as long as its worker keeps its lease, whatever becomes of the
//! connection; after that it is a failed attempt. A call that nobody began costs nothing. Clones are the same one; it
//! outlives the actors that use it.

mod calling;
mod elsewhere;
mod history;
mod places;
mod requests;
mod roster;
mod routing;
mod sharing;
mod worker;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use ulid::Ulid;

use crate::domain::Connection;
use crate::ports::{Clock, Random};
use elsewhere::Elsewhere;
use places::Places;
pub use places::{Place, PlaceOrder};
pub use requests::{Answer, CallKey, RequestId, RequestIdError};
use requests::{GRACE, Requests, Sending};
use roster::Roster;
pub use worker::{Called, Group, Machine, News, Order, Request, SocketId, Status, View, Wanted, Worker};

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
    /// Rung when there is something to write down.
    changed: Arc<Notify>,
    state: Mutex<State>,
}

struct State {
    roster: Roster,
    requests: Requests,
    elsewhere: Elsewhere,
    places: Places,
    /// Connections that have ended and are to be written down.
    ended: Vec<Connection>,
    /// Workers that were found full with what other instances have given them, and until when that is not looked at again.
    full: HashMap<Arc<str>, Duration>,
    /// To whoever passes news on, if anybody does.
    news: Option<UnboundedSender<News>>,
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

impl Workers {
    /// None are connected.
    #[must_use]
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self(Arc::new(Shared {
            clock,
            random,
            origin: Instant::now(),
            bell: Arc::default(),
            changed: Arc::default(),
            state: Mutex::new(State {
                roster: Roster::new(settings.heartbeat * MISSED_HEARTBEATS),
                requests: Requests::new(settings.lease),
                elsewhere: Elsewhere::default(),
                places: Places::default(),
                ended: Vec::new(),
                full: HashMap::new(),
                news: None,
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
        self.0.changed.notify_one();
        Ok((state.roster.join(Arc::new(worker), orders, now), received))
    }

    /// A worker takes requests from now on.
    pub fn ready(&self, socket: SocketId) {
        let mut state = self.lock();
        self.0.changed.notify_one();
        if state.roster.set(socket, Status::Ready) {
            self.0.bell.notify_one();
            // Others need not wait for the next regular word.
            let news = News::Serving {
                node: String::new(),
                functions: state.roster.serving(),
            };
            state.tell(news);
        }
    }

    /// A worker takes no more requests. Those it has not begun are given to others.
    pub fn pause(&self, socket: SocketId) {
        let mut state = self.lock();
        state.roster.set(socket, Status::Draining);
        self.0.changed.notify_one();
        state.requests.withdraw(socket);
        state.give_places_back();
    }

    /// A worker was heard of.
    pub fn heard(&self, socket: SocketId) {
        let (now, at) = (self.elapsed(), self.0.clock.now());
        self.lock().roster.heard(socket, now, at);
    }

    /// A connection has ended. What its worker has begun it may still bring to an end.
    pub fn leave(&self, socket: SocketId) {
        let at = self.0.clock.now();
        let mut state = self.lock();
        if let Some(gone) = state.roster.leave(socket) {
            state.note_left(socket, &gone, at);
            self.0.changed.notify_one();
        }
        state.requests.withdraw(socket);
        state.give_places_back();
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
        let mut state = self.lock();
        let held = state.requests.extend(id, lease, instance, fresh, now);
        let held = held.or_else(|| {
            let lasts = i64::try_from(lease.timestamp_ms()).is_ok_and(|end| self.0.clock.now().as_millis() < end);
            let sending = Sending {
                id,
                lease: fresh,
                socket: SocketId(0),
                instance: Arc::from(instance),
            };
            (lasts && state.requests.adopt(&sending, now)).then_some(fresh)
        });
        if held.is_some() && state.places.are_shared() && state.roster.is_limited(instance) {
            let instance = Arc::from(instance);
            state.places.keep(Place { instance, request: id }, self.place_lasts());
        }
        if let Some(held) = held.filter(|_| !state.requests.is_awaited(id.key)) {
            state.tell(News::Extended {
                id,
                before: lease,
                held,
                instance: instance.to_owned(),
            });
        }
        held
    }

    /// A worker has answered a request, over whichever connection or none.
    pub fn answer(&self, id: RequestId, answer: Answer) {
        let now = self.elapsed();
        let mut state = self.lock();
        if !state.requests.is_awaited(id.key) && state.news.is_some() {
            state.tell(News::Answered {
                id,
                answer: answer.clone(),
            });
        }
        state.requests.answer(id, answer, now);
        state.give_places_back();
    }

    /// Whether a ready worker may have this function, here or elsewhere.
    #[must_use]
    pub fn may_be_served(&self, slug: &str) -> bool {
        let now = self.elapsed();
        let state = self.lock();
        state.roster.serves(slug) || (self.0.settings.has_others && state.elsewhere.may_serve(slug, now))
    }

    /// Whether a ready worker that is connected here has this function.
    #[must_use]
    pub fn serves(&self, slug: &str) -> bool {
        self.lock().roster.serves(slug)
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

    /// For how long a place is held: as long as whoever has it counts as being at work.
    fn place_lasts(&self) -> Duration {
        self.0.settings.lease + GRACE
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
    fn tell_all(&self, order: impl Fn() -> Order) {
        for (_, connected) in self.roster.all() {
            let _ = connected.orders.send(order());
        }
    }

    /// Gives back the places of requests that nobody is at work on any more.
    fn give_places_back(&mut self) {
        for place in self.requests.take_left() {
            self.full.remove(&place.instance);
            self.places.leave(place);
        }
    }
}

#[cfg(test)]
mod tests;

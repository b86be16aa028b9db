//! Calls: let through, sent to a worker, waited for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::requests::{Progress, Sending};
use super::worker::{Called, Order, Request, Wanted, Worker};
use super::{CallKey, Place, RequestId, State, Workers, routing};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

/// Calls that may come back within one second to see whether a worker has room.
const RETURNS_PER_SECOND: u32 = 500;
/// How long such a call waits at the least.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
/// For how long a call that was let through counts as on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// For how long a worker that was found full with what other instances have given it is not asked about again.
const FULL: Duration = Duration::from_millis(100);

/// Somebody who is to be sent a request.
struct Chosen {
    room: Option<usize>,
    sending: Sending,
    request: Request,
    orders: UnboundedSender<Order>,
}

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
            full,
            ..
        } = &mut *state;
        on_their_way.retain(|(_, since)| now < *since + ON_ITS_WAY);
        let mut instances = HashSet::new();
        let mut room = 0_usize;
        for candidate in roster.candidates(slug, now) {
            let worker = &candidate.connected.worker;
            // One that takes any number is room enough.
            let most = worker.room?;
            if !is_full(full, worker, now) && instances.insert(&worker.instance) {
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
                let mut state = self.lock();
                state.requests.give_up(key);
                state.give_places_back();
                return Called::TimedOut;
            }
            let progress = {
                let mut state = self.lock();
                let progress = state.requests.progress(key, now);
                state.give_places_back();
                progress
            };
            match progress {
                Progress::Answered(answer) => return Called::Answered(answer),
                Progress::Lost => return Called::Lost,
                Progress::Send => {
                    if let Err(wait) = self.send(&wanted).await {
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
    async fn send(&self, wanted: &Arc<Wanted>) -> Result<(), Duration> {
        loop {
            let now = self.elapsed();
            let (chosen, places) = {
                let mut state = self.lock();
                let Some(chosen) = self.choose(&state, wanted, now) else {
                    return Err(state.next_return(now));
                };
                if chosen.room.is_none() || !state.places.are_shared() {
                    state.dispatch(chosen, now);
                    return Ok(());
                }
                (chosen, state.places.clone())
            };
            let (room, instance) = (chosen.room.unwrap_or(usize::MAX), Arc::clone(&chosen.sending.instance));
            let place = Place {
                instance: Arc::clone(&instance),
                request: chosen.sending.id,
            };
            let taken = places.take(place, room, self.place_lasts()).await;
            let now = self.elapsed();
            let mut state = self.lock();
            let Some(taken) = taken else {
                state.full.retain(|_, until| now < *until);
                state.full.insert(instance, now + FULL);
                continue;
            };
            if state.dispatch(chosen, now) {
                taken.used();
            }
            // Otherwise the worker has gone meanwhile, or the answer has come.
            return Ok(());
        }
    }

    /// Picks somebody who has room, as far as is known here.
    fn choose(&self, state: &State, wanted: &Arc<Wanted>, now: Duration) -> Option<Chosen> {
        let State {
            roster, requests, full, ..
        } = state;
        let has_room = |worker: &Worker| {
            let room = worker.room.unwrap_or(usize::MAX);
            !is_full(full, worker, now) && requests.in_hand(&worker.instance, now) < room
        };
        let candidates: Vec<_> = roster
            .candidates(&wanted.slug, now)
            .filter(|candidate| has_room(&candidate.connected.worker))
            .collect();
        let ages: Vec<u64> = candidates.iter().map(|candidate| candidate.age).collect();
        let place = routing::choose(&ages, self.0.random.unit())?;
        let chosen = candidates.get(place)?;
        let id = RequestId {
            key: wanted.key,
            sending: self.fresh_id(),
        };
        let lease = self.fresh_lease();
        let worker = &chosen.connected.worker;
        Some(Chosen {
            room: worker.room,
            sending: Sending {
                id,
                lease,
                socket: chosen.socket,
                instance: Arc::clone(&worker.instance),
            },
            request: Request {
                id,
                lease,
                app: Arc::clone(chosen.app),
                wanted: Arc::clone(wanted),
            },
            orders: chosen.connected.orders.clone(),
        })
    }
}

/// Whether a worker was found full a moment ago.
fn is_full(full: &HashMap<Arc<str>, Duration>, worker: &Worker, now: Duration) -> bool {
    worker.room.is_some() && full.get(&worker.instance).is_some_and(|until| now < *until)
}

impl State {
    /// Sends a request to whom it was meant for, unless that one takes none any more or it has been answered meanwhile.
    fn dispatch(&mut self, chosen: Chosen, now: Duration) -> bool {
        let is_sent = self.roster.is_ready(chosen.sending.socket) && self.requests.sent(chosen.sending, now);
        if is_sent {
            // A task that is gone leaves the roster in a moment, and withdraws what it was given.
            let _ = chosen.orders.send(Order::Request(Box::new(chosen.request)));
        }
        is_sent
    }

    /// When a call that finds no room is to come back.
    fn next_return(&mut self, now: Duration) -> Duration {
        let next = (now + SHORTEST_WAIT).max(self.last_return + Duration::from_secs(1) / RETURNS_PER_SECOND);
        self.last_return = next;
        next - now
    }
}

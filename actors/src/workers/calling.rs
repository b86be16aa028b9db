//! Calls: let through, sent to a worker, waited for.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::requests::{Progress, Sending};
use super::worker::{Called, Order, Request, Wanted};
use super::{CallKey, RequestId, State, Workers, routing};
use tokio::sync::Notify;

/// Calls that may come back within one second to see whether a worker has room.
const RETURNS_PER_SECOND: u32 = 500;
/// How long such a call waits at the least.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
/// For how long a call that was let through counts as on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

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
}

impl State {
    /// When a call that finds no room is to come back.
    fn next_return(&mut self, now: Duration) -> Duration {
        let next = (now + SHORTEST_WAIT).max(self.last_return + Duration::from_secs(1) / RETURNS_PER_SECOND);
        self.last_return = next;
        next - now
    }
}

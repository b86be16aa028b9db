//! Places at workers, where they are counted over all instances of the server.
//!
//! A worker may have connections to several instances, and what it has said it can take holds for all of them together. So
//! whoever is about to send it a request takes a *place* for it first, by way of [`Orders`]; whoever carries those out counts
//! them where all instances do. A place lasts as long as its request's lease and is kept with it, so an instance or a worker
//! that is gone loses none for longer than that.
//!
//! Never: a worker that takes any number of requests needs no place.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::{RequestId, Workers};

/// What is to be done about a place.
#[derive(Debug)]
pub enum PlaceOrder {
    /// Take one.
    Take {
        /// Which.
        place: Place,
        /// Places that the worker has.
        room: usize,
        /// For how long it is to be held, unless it is kept.
        lasts: Duration,
        /// Whether it was taken. Dropped, it counts as not taken.
        reply: oneshot::Sender<bool>,
    },
    /// Hold it for so long from now on.
    Keep {
        /// Which.
        place: Place,
        /// For how long.
        lasts: Duration,
    },
    /// Give it back, if it is held.
    Leave(Place),
}

/// A request's place at a worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The worker, by its own account.
    pub instance: Arc<str>,
    /// The request.
    pub request: RequestId,
}

/// Where places are counted. Without anybody who does, only what this instance sends counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Option<UnboundedSender<PlaceOrder>>);

/// A place that was taken, and is given back unless it is [used](Self::used).
#[derive(Debug)]
pub(super) struct Taken {
    places: Places,
    place: Option<Place>,
}

impl Taken {
    /// The request was sent.
    pub(super) fn used(mut self) {
        self.place = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.places.leave(place);
        }
    }
}

impl Places {
    /// Whether they are counted elsewhere.
    pub(super) fn are_shared(&self) -> bool {
        self.0.is_some()
    }

    /// Takes a place; `None` if there is none, or nobody can tell.
    pub(super) async fn take(&self, place: Place, room: usize, lasts: Duration) -> Option<Taken> {
        let (reply, taken) = oneshot::channel();
        // Made first: if the caller gives up while it waits for the answer, the place is given back.
        let mut guard = Taken {
            places: self.clone(),
            place: Some(place.clone()),
        };
        self.tell(PlaceOrder::Take {
            place,
            room,
            lasts,
            reply,
        });
        if taken.await.is_ok_and(|is_taken| is_taken) {
            return Some(guard);
        }
        guard.place = None;
        None
    }

    pub(super) fn keep(&self, place: Place, lasts: Duration) {
        self.tell(PlaceOrder::Keep { place, lasts });
    }

    pub(super) fn leave(&self, place: Place) {
        self.tell(PlaceOrder::Leave(place));
    }

    fn tell(&self, order: PlaceOrder) {
        if let Some(sender) = &self.0 {
            // Whoever carried them out has ended with the server.
            let _ = sender.send(order);
        }
    }
}

impl Workers {
    /// From now on places at workers are counted by whoever carries out these orders, in their order.
    #[must_use]
    pub fn places(&self) -> UnboundedReceiver<PlaceOrder> {
        let (sender, receiver) = unbounded_channel();
        self.lock().places = Places(Some(sender));
        receiver
    }
}

//! The address book: from a child's name to its current address.
//!
//! Nobody keeps an address; who has something to say looks it up. A lookup is one read of a sharded map and
//! one reference count: no message, no allocation. Written by the supervisor alone, so what it says of a
//! child never goes back in time. An address it gives may be dead by the time it is used: see the
//! kernel's page on what is lost.

use std::{any::Any, fmt, sync::Arc};

use actix::{Actor, Addr};
use dashmap::DashMap;
use tokio::time::Instant;

use super::{child::ChildName, generation::Generation};

/// What the book knows about a name.
pub enum Lookup<A: Actor> {
    /// The child runs.
    Here {
        /// Its address. Not to be kept beyond the use at hand.
        address: Arc<Addr<A>>,
        /// The incarnation it leads to.
        generation: Generation,
    },
    /// The child is starting or will be; worth trying again then.
    Restarting {
        /// When its next start is due. In the past if it is starting right now.
        until: Instant,
    },
    /// The child is out of service.
    Quarantined {
        /// When it is tried next; never of itself if an operator has put it there.
        probe_at: Option<Instant>,
    },
    /// No child of this name runs or is going to.
    Absent,
}

impl<A: Actor> Lookup<A> {
    /// The address, if the child runs.
    #[must_use]
    pub fn address(self) -> Option<Arc<Addr<A>>> {
        match self {
            Self::Here { address, .. } => Some(address),
            _ => None,
        }
    }

    /// The incarnation, if the child runs.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        match self {
            Self::Here { generation, .. } => Some(*generation),
            _ => None,
        }
    }
}

impl<A: Actor> fmt::Debug for Lookup<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here { generation, .. } => write!(f, "Here({generation})"),
            Self::Restarting { until } => write!(f, "Restarting({until:?})"),
            Self::Quarantined { probe_at } => write!(f, "Quarantined({probe_at:?})"),
            Self::Absent => f.write_str("Absent"),
        }
    }
}

/// One line of the book.
#[derive(Clone)]
pub(crate) enum Entry {
    Here {
        /// An `Arc<Addr<A>>`.
        address: Arc<dyn Any + Send + Sync>,
        generation: Generation,
    },
    Restarting {
        until: Instant,
    },
    Quarantined {
        probe_at: Option<Instant>,
    },
}

/// The book. Clones are the same book.
#[derive(Clone, Default)]
pub struct AddressBook(Arc<DashMap<ChildName, Entry>>);

impl AddressBook {
    /// Looks a child up.
    ///
    /// `A` must be the actor the child's factory builds. Asking for another is a defect of the caller; it is
    /// logged and answered `Absent`.
    #[must_use]
    pub fn find<A: Actor>(&self, name: &str) -> Lookup<A> {
        // The copy ends the lock on the shard before anything else happens.
        let entry = self.0.get(name).map(|line| line.value().clone());
        match entry {
            Some(Entry::Here { address, generation }) => match address.downcast::<Addr<A>>() {
                Ok(address) => Lookup::Here { address, generation },
                Err(_) => {
                    tracing::error!(name, asked = std::any::type_name::<A>(), "another actor has this name");
                    Lookup::Absent
                }
            },
            Some(Entry::Restarting { until }) => Lookup::Restarting { until },
            Some(Entry::Quarantined { probe_at }) => Lookup::Quarantined { probe_at },
            None => Lookup::Absent,
        }
    }

    /// How many names it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn write(&self, name: &ChildName, entry: Entry) {
        self.0.insert(name.clone(), entry);
    }

    pub(crate) fn erase(&self, name: &ChildName) {
        self.0.remove(name.as_str());
    }
}

impl fmt::Debug for AddressBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressBook").field("names", &self.0.len()).finish()
    }
}

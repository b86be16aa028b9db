//! What is said of workers and calls: by a worker when it connects, to the task of its connection, by whoever wants a call
//! made, and between instances.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ulid::Ulid;

use super::{Answer, CallKey, RequestId};
use crate::domain::{FunctionId, RunId, Timestamp};

/// A connection, for as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub(super) u64);

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
    /// The trace that it is part of, as it is told beside the payload: JSON.
    pub trace: String,
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

/// What instances tell each other of workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A worker had its lease extended by an instance that does not wait for the request.
    Extended {
        /// Of which request.
        id: RequestId,
        /// The lease that it had.
        before: Ulid,
        /// The lease that it has.
        held: Ulid,
        /// Which worker.
        instance: String,
    },
    /// A worker has answered an instance that does not wait for the request.
    Answered {
        /// Which request.
        id: RequestId,
        /// What.
        answer: Answer,
    },
    /// All functions that ready workers of an instance have.
    Serving {
        /// The instance.
        node: String,
        /// Their slugs.
        functions: Vec<String>,
    },
}

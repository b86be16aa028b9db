//! Senders that remember what was acknowledged.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::Dice;
use crate::support::http::{Request, Response};
use crate::support::installation::Installation;
use crate::support::server::{EVENT_KEY, SIGNING_KEY, Server};

/// Senders at a time.
const SENDERS: u64 = 3;
/// Among how many keys of a limit, and of batches, the events are spread.
const LANES: u64 = 3;
/// Successive events of a sender that are about the same.
const OF_A_TOPIC: u64 = 8;
/// How long a sender waits for an answer if there is another server to try.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where events may be sent.
#[derive(Debug, Clone)]
pub(super) struct Doors {
    addresses: Vec<SocketAddr>,
    key: &'static str,
}

impl Doors {
    pub(super) fn of(server: &Server) -> Self {
        Self {
            addresses: vec![server.address()],
            key: "key",
        }
    }

    pub(super) fn all(installation: &Installation) -> Self {
        Self {
            addresses: installation.iter().map(Server::address).collect(),
            key: EVENT_KEY,
        }
    }

    /// Tries one of them.
    pub(super) fn send(&self, event: &Value, which: usize) -> std::io::Result<Response> {
        let mut request = Request::post(format!("/e/{}", self.key), event);
        if self.addresses.len() > 1 {
            request = request.within(PATIENCE);
        }
        request.try_send(self.addresses[which % self.addresses.len()])
    }
}

impl Doors {
    /// Reports steps of a call to one of them.
    pub(super) fn report(&self, run: &str, body: &Value, which: usize) -> std::io::Result<Response> {
        let request = Request::post(format!("/v1/checkpoint/{run}/async"), body).within(PATIENCE);
        let request = request.header("authorization", &format!("Bearer {SIGNING_KEY}"));
        request.try_send(self.addresses[which % self.addresses.len()])
    }
}

/// An event that was acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    /// The server's id.
    pub(super) id: String,
    /// Its number: no other event has it.
    pub(super) n: u64,
    /// Whether it fits the function that is fussy.
    pub(super) even: bool,
    /// Its sender's id, if it was sent until it was acknowledged, and perhaps arrived before.
    pub(super) key: Option<String>,
}

/// The load.
#[derive(Debug)]
pub(super) struct Load {
    is_over: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
    senders: Vec<JoinHandle<Vec<Sent>>>,
}

impl Load {
    /// Every sender pauses for so many milliseconds between two events.
    pub(super) fn start(doors: &Doors, seed: u64, pause: &RangeInclusive<u64>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let refused = Arc::new(AtomicU64::new(0));
        let senders = (0..SENDERS).map(|sender| {
            let (is_over, refused) = (Arc::clone(&is_over), Arc::clone(&refused));
            let (doors, pause) = (doors.clone(), pause.clone());
            let mut dice = Dice(seed ^ (sender << 32));
            std::thread::spawn(move || {
                let mut sent = Vec::new();
                let mut n = sender * 1_000_000;
                while !is_over.load(Ordering::Relaxed) {
                    n += 1;
                    std::thread::sleep(Duration::from_millis(dice.between(*pause.start(), *pause.end())));
                    let even = n.is_multiple_of(2);
                    // Some senders insist, as SDKs do, with an id that makes it safe; others send once.
                    let key = (!dice.roll().is_multiple_of(3)).then(|| format!("load-{n}"));
                    let mut event = event(n);
                    if let Some(key) = &key {
                        event["id"] = json!(key);
                    }
                    let first = usize::try_from(dice.between(0, 7)).unwrap_or(0);
                    for door in first.. {
                        let answer = doors.send(&event, door);
                        let is_refused = answer.as_ref().is_ok_and(|answer| answer.status == 503);
                        refused.fetch_add(u64::from(is_refused), Ordering::Relaxed);
                        if let Some(id) = answer.ok().and_then(|answer| acknowledged(answer.status, &answer.body)) {
                            sent.push(Sent { id, n, even, key });
                            break;
                        }
                        if key.is_none() || is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
                sent
            })
        });
        let senders = senders.collect();
        Self {
            is_over,
            refused,
            senders,
        }
    }

    /// How many events were answered with 503 so far.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Ends the load; answers what was acknowledged.
    pub(super) fn stop(self) -> Vec<Sent> {
        self.is_over.store(true, Ordering::Relaxed);
        let senders = self.senders.into_iter();
        senders
            .flat_map(|sender| sender.join().expect("a sender does not panic"))
            .collect()
    }
}

/// The event with this number. Its time is its sender's, so that of two events of a topic the later one has the larger number,
/// however long a server sits on one of them.
fn event(n: u64) -> Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ts = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let data = json!({ "n": n, "even": n.is_multiple_of(2), "lane": n % LANES, "topic": n / OF_A_TOPIC });
    json!({ "name": "load/go", "ts": ts, "data": data })
}

fn acknowledged(status: u16, body: &[u8]) -> Option<String> {
    if status != 200 {
        return None;
    }
    let answer: Value = serde_json::from_slice(body).ok()?;
    Some(answer["ids"][0].as_str()?.to_owned())
}

//! Senders that remember what was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::Dice;
use crate::support::http::Request;
use crate::support::server::Server;

/// Senders at a time.
const SENDERS: u64 = 3;

/// An event that was acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    /// The server's id.
    pub(super) id: String,
    /// Whether it fits the function that is fussy.
    pub(super) even: bool,
    /// Its sender's id, if it was sent until it was acknowledged, and perhaps arrived before.
    pub(super) key: Option<String>,
}

/// The load.
#[derive(Debug)]
pub(super) struct Load {
    is_over: Arc<AtomicBool>,
    senders: Vec<JoinHandle<Vec<Sent>>>,
}

impl Load {
    pub(super) fn start(server: &Server, seed: u64) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let senders = (0..SENDERS).map(|sender| {
            let (is_over, to) = (Arc::clone(&is_over), server.address());
            let mut dice = Dice(seed ^ (sender << 32));
            std::thread::spawn(move || {
                let mut sent = Vec::new();
                let mut n = sender * 1_000_000;
                while !is_over.load(Ordering::Relaxed) {
                    n += 1;
                    std::thread::sleep(Duration::from_millis(dice.between(40, 240)));
                    let even = n.is_multiple_of(2);
                    // Some senders insist, as SDKs do, with an id that makes it safe; others send once.
                    let key = (!dice.roll().is_multiple_of(3)).then(|| format!("load-{n}"));
                    let mut event = json!({ "name": "load/go", "data": { "n": n, "even": even } });
                    if let Some(key) = &key {
                        event["id"] = json!(key);
                    }
                    loop {
                        let answer = Request::post("/e/key", &event).try_send(to);
                        if let Some(id) = answer.ok().and_then(|answer| acknowledged(answer.status, &answer.body)) {
                            sent.push(Sent { id, even, key });
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
        Self { is_over, senders }
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

fn acknowledged(status: u16, body: &[u8]) -> Option<String> {
    if status != 200 {
        return None;
    }
    let answer: Value = serde_json::from_slice(body).ok()?;
    Some(answer["ids"][0].as_str()?.to_owned())
}

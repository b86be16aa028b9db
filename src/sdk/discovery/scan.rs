//! Looks for apps on this machine: on the ports and paths where frameworks like to serve.
//!
//! Cheap by asking in two steps: a port is first only connected to, which a closed one refuses within microseconds;
//! HTTP requests go to open ports alone. An open port without an SDK behind it is left alone for some rounds, so that
//! the log of whatever runs there does not fill with our requests.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use awc::http::Method;
use futures_util::{StreamExt as _, stream};
use tokio::net::TcpStream;
use url::Url;

use super::super::USER_AGENT;
use super::super::transport::{Bounds, Outgoing, Redirects, Transport};
use super::{ANSWER_BYTES, is_sdk};

const PATHS: [&str; 4] = [
    "/api/inngest",
    "/x/inngest",
    "/.netlify/functions/inngest",
    "/.redwood/functions/inngest",
];
/// Local connects that are not refused at once are not worth waiting for.
const CONNECT: Duration = Duration::from_millis(250);
const ANSWER: Duration = Duration::from_secs(2);
/// Ports looked at at the same time.
const AT_ONCE: usize = 8;
/// Rounds for which a port without an SDK is left alone.
const LEFT_ALONE: u32 = 5;

/// The ports to look at: where frameworks serve by default, and `extra` ones.
#[must_use]
pub fn ports(extra: impl IntoIterator<Item = u16>) -> Vec<u16> {
    let known = [80, 443, 4321, 5000, 5173, 8000, 8080, 8081, 8787, 8888];
    let mut ports: Vec<u16> = known.into_iter().chain(3000..=3010).chain(8910..=8915).collect();
    ports.extend(extra);
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Looks for apps. Remembers what it has seen.
#[derive(Debug)]
pub struct Scanner {
    transport: Transport,
    ports: Vec<u16>,
    round: Cell<u32>,
    /// Ports without an SDK, and the round in which to look again.
    strangers: RefCell<HashMap<u16, u32>>,
}

impl Scanner {
    /// Looks at these ports. Our own must not be among them.
    #[must_use]
    pub fn new(transport: Transport, ports: Vec<u16>) -> Self {
        Self {
            transport,
            ports,
            round: Cell::new(0),
            strangers: RefCell::default(),
        }
    }

    /// The URLs at which an SDK answers now, in the order of ports.
    pub async fn scan(&self) -> Vec<String> {
        let round = self.round.get().wrapping_add(1);
        self.round.set(round);
        let due = |port: &u16| self.strangers.borrow().get(port).is_none_or(|next| round >= *next);
        let due: Vec<u16> = self.ports.iter().copied().filter(due).collect();
        let looking = due.into_iter().map(|port| async move { (port, self.look(port).await) });
        let seen: Vec<(u16, Seen)> = stream::iter(looking).buffered(AT_ONCE).collect().await;
        let mut found = Vec::new();
        for (port, seen) in seen {
            let mut strangers = self.strangers.borrow_mut();
            match seen {
                Seen::App(url) => {
                    strangers.remove(&port);
                    found.push(url);
                }
                Seen::Stranger => {
                    strangers.insert(port, round.wrapping_add(1 + LEFT_ALONE));
                }
                Seen::Nobody => {
                    strangers.remove(&port);
                }
            }
        }
        found
    }

    async fn look(&self, port: u16) -> Seen {
        let v4 = accepts(Ipv4Addr::LOCALHOST.into(), port).await;
        let v6 = accepts(Ipv6Addr::LOCALHOST.into(), port).await;
        if !v4 && !v6 {
            return Seen::Nobody;
        }
        // `localhost` reaches IPv6 only where nobody listens on IPv4.
        let hosts: &[&str] = match (v4, v6) {
            (true, true) => &["localhost", "[::1]"],
            _ => &["localhost"],
        };
        for host in hosts {
            for path in PATHS {
                let url = format!("http://{host}:{port}{path}");
                if self.answers(&url).await {
                    return Seen::App(url);
                }
            }
        }
        Seen::Stranger
    }

    async fn answers(&self, url: &str) -> bool {
        let Ok(url) = Url::parse(url) else {
            return false;
        };
        let request = Outgoing {
            method: Method::GET,
            url,
            headers: vec![("user-agent".to_owned(), USER_AGENT.to_owned())],
            body: None,
        };
        let bounds = Bounds {
            timeout: ANSWER,
            body: ANSWER_BYTES,
            redirects: Redirects::Browser,
        };
        let answer = self.transport.exchange(request, bounds).await;
        answer.is_ok_and(|answer| is_sdk(&answer))
    }
}

enum Seen {
    App(String),
    Stranger,
    Nobody,
}

async fn accepts(host: IpAddr, port: u16) -> bool {
    let connecting = TcpStream::connect((host, port));
    matches!(tokio::time::timeout(CONNECT, connecting).await, Ok(Ok(_)))
}

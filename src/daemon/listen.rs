//! Sockets and signals.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Code, Problem};
use crate::settings::{GatewayPort, Settings};

/// Tries at finding a port that is free on both loopback addresses.
const TRIES: usize = 16;

/// Listens on an address. `localhost` stands for both loopback addresses: SDKs use either, by language and machine. Port 0
/// is a free one.
///
/// # Errors
/// When the address is not ours or the port is taken.
pub(super) fn bind(addr: &str, port: u16) -> Result<Vec<TcpListener>, Problem> {
    if addr != "localhost" {
        let ip: IpAddr = addr.parse().map_err(|_| {
            Problem::new(
                Code::InvalidSettings,
                format!("`{addr}` is neither an IP address nor `localhost`"),
            )
        })?;
        return Ok(vec![one(ip, port)?]);
    }
    for _ in 0..TRIES {
        let v4 = one(Ipv4Addr::LOCALHOST.into(), port)?;
        let chosen = v4.local_addr().map_or(port, |address| address.port());
        match one(Ipv6Addr::LOCALHOST.into(), chosen) {
            Ok(v6) => return Ok(vec![v4, v6]),
            // A machine without IPv6 has one loopback address.
            Err(_) if !has_ipv6() => return Ok(vec![v4]),
            // Free on one, taken on the other: with port 0 there are others.
            Err(_) if port == 0 => {}
            Err(problem) => return Err(problem),
        }
    }
    Err(Problem::new(
        Code::PortTaken,
        "no port is free on both loopback addresses",
    ))
}

/// Listens at the port of workers, if there is one; answers which it is.
///
/// # Errors
/// When a port that the settings name is taken.
pub(super) fn bind_gateway(settings: &Settings) -> Result<(Vec<TcpListener>, Option<u16>), Problem> {
    let addr = &settings.api.addr;
    match settings.connect.port {
        GatewayPort::None => Ok((Vec::new(), None)),
        GatewayPort::Fixed(port) => Ok((bind(addr, port)?, Some(port))),
        GatewayPort::Next => {
            let next = settings.api.port.checked_add(1).filter(|_| settings.api.port != 0);
            let Some(port) = next else {
                return Ok((Vec::new(), None));
            };
            match bind(addr, port) {
                Ok(listeners) => Ok((listeners, Some(port))),
                // Nobody has asked for it, and workers can connect at the API's port.
                Err(problem) => {
                    tracing::warn!("workers have no port of their own: {}", problem.message);
                    Ok((Vec::new(), None))
                }
            }
        }
    }
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn one(ip: IpAddr, port: u16) -> Result<TcpListener, Problem> {
    let address = SocketAddr::new(ip, port);
    let taken =
        |error: std::io::Error| Problem::new(Code::PortTaken, format!("{address} can't be listened on: {error}"));
    let listener = TcpListener::bind(address).map_err(taken)?;
    listener.set_nonblocking(true).map_err(taken)?;
    Ok(listener)
}

/// A file may not grow any more (`ulimit -f`, `LimitFSIZE=`). Unheard it kills the process; heard, the write fails and is
/// treated like any other for which there is no room. The number is the same on Linux, macOS and the BSDs.
const SIGXFSZ: i32 = 25;

/// The signals that ask the process to stop.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("SIGTERM can't be listened for")?;
        let interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be listened for")?;
        // Its handler stays for good.
        let _heard = signal(SignalKind::from_raw(SIGXFSZ)).context("SIGXFSZ can't be listened for")?;
        Ok(Self { terminate, interrupt })
    }

    /// Waits for one of them.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

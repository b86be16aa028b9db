//! Connections that tell what happened on them.
//!
//! awc does not say whether a connection was new, nor that it ended in the middle of a body. The connector here
//! notes both for the request that is polling: a request and everything it waits for are one future, so a task-local
//! value is theirs alone.
//!
//! Before it connects it asks the [`Guard`], address by address, after the name was resolved: what was looked at is what is
//! connected to.
//!
//! It also switches `TCP_NODELAY` on; logs nothing (awc's own connector logs an error for every refused connection, and
//! polling an app that is not running makes one every few seconds); and looks for `localhost` on 127.0.0.1 before ::1
//! without asking a resolver: registration folds the spellings of the loopback into that name, and most apps listen on
//! the former.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_rt::net::{ActixStream, Ready, TcpStream};
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use actix_web::dev::Service;
use awc::http::Uri;
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guard::Guard;

tokio::task_local! {
    pub(super) static WATCH: Rc<Watch>;
}

/// What happened on the connection of a request.
#[derive(Debug, Default)]
pub(super) struct Watch {
    fresh: Cell<bool>,
    ended: Cell<bool>,
}

impl Watch {
    /// Whether a connection was made for the request.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.get()
    }

    /// Whether the other side has closed its side of the connection.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    pub(super) fn forget_end(&self) {
        self.ended.set(false);
    }
}

/// A connection that is watched.
#[derive(Debug)]
pub(super) struct Watched(TcpStream);

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.get_mut().0).poll_read(cx, buf);
        if matches!(polled, Poll::Ready(Ok(()))) && buf.filled().len() == before && buf.remaining() > 0 {
            // Outside of a request: a connection that is being closed.
            let _ = WATCH.try_with(|watch| watch.ended.set(true));
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

impl ActixStream for Watched {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(&self.0, cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(&self.0, cx)
    }
}

/// None of a host's addresses may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("no address of the host may be connected to")]
struct Refused;

/// Whether a connection was not made because it may not be.
pub(super) fn is_refused(error: &io::Error) -> bool {
    let inner = error.get_ref();
    inner.and_then(|inner| inner.downcast_ref::<Refused>()).is_some()
}

/// Finds the addresses of hosts.
pub(super) trait Resolve {
    /// The addresses of a host, in the order in which they should be tried.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> LocalBoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// Asks the system, except for `localhost`.
#[derive(Debug, Clone, Copy)]
pub(super) struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> LocalBoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            if host.eq_ignore_ascii_case("localhost") {
                return Ok(vec![
                    SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                    SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
                ]);
            }
            Ok(tokio::net::lookup_host((host, port)).await?.collect())
        })
    }
}

/// Makes watched connections to where it may.
#[derive(Clone)]
pub(super) struct Watching {
    pub(super) guard: Guard,
    pub(super) resolver: Rc<dyn Resolve>,
}

impl Service<ConnectInfo<Uri>> for Watching {
    type Response = Connection<Uri, Watched>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, target: ConnectInfo<Uri>) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            // Nobody watches a connection that is made for no request; there is none today.
            let _ = WATCH.try_with(|watch| watch.fresh.set(true));
            let stream = connector.connect(target.hostname(), target.port()).await?;
            // An option that can't be set costs milliseconds, not correctness.
            let _ = stream.set_nodelay(true);
            Ok(Connection::new(target.request().clone(), Watched(stream)))
        })
    }
}

impl Watching {
    /// Tries each address of a host in turn that may be connected to.
    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        // In URLs, literal addresses of version 6 stand in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let found = self.resolver.resolve(host, port).await;
        let found = found.map_err(|error| ConnectError::Resolver(Box::new(error)))?;
        let mut last = ConnectError::NoRecords;
        for address in found {
            if !self.guard.permits(address.ip()) {
                // An address that may be asked, and can't be reached, says more.
                if matches!(last, ConnectError::NoRecords) {
                    last = ConnectError::Io(io::Error::new(io::ErrorKind::PermissionDenied, Refused));
                }
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = ConnectError::Io(error),
            }
        }
        Err(last)
    }
}

//! Connections that tell what happened on them.
//!
//! awc does not say whether a connection was new, nor that it ended in the middle of a body. The connector here
//! notes both for the request that is polling: a request and everything it waits for are one future, so a task-local
//! value is theirs alone.
//!
//! It also switches `TCP_NODELAY` on, and looks for `localhost` on 127.0.0.1 before ::1 without asking a resolver:
//! registration folds every spelling of the loopback into that name, and most apps listen on the former.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_rt::net::{ActixStream, Ready, TcpStream};
use actix_tls::connect::{ConnectError, ConnectInfo, Connection, Connector, ConnectorService, Resolver};
use actix_web::dev::Service;
use awc::http::Uri;
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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

/// Makes watched connections.
#[derive(Clone)]
pub(super) struct Watching(ConnectorService);

impl Default for Watching {
    fn default() -> Self {
        Self(Connector::new(Resolver::default()).service())
    }
}

impl Service<ConnectInfo<Uri>> for Watching {
    type Response = Connection<Uri, Watched>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<ConnectInfo<Uri>>::poll_ready(&self.0, cx)
    }

    fn call(&self, target: ConnectInfo<Uri>) -> Self::Future {
        let target = if target.hostname().eq_ignore_ascii_case("localhost") && target.addrs().len() == 0 {
            let port = target.port();
            target.set_addrs([
                SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
            ])
        } else {
            target
        };
        let connecting = self.0.call(target);
        Box::pin(async move {
            let _ = WATCH.try_with(|watch| watch.fresh.set(true));
            let (stream, target) = connecting.await?.into_parts();
            // An option that can't be set costs milliseconds, not correctness.
            let _ = stream.set_nodelay(true);
            Ok(Connection::new(target, Watched(stream)))
        })
    }
}

//! A proxy for TCP that can be cut.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Passes connections on to a server, as long as nobody cuts them.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    server: Arc<Mutex<SocketAddr>>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// To the server at this address.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let connections = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&connections);
        let server = Arc::new(Mutex::new(server));
        let target = Arc::clone(&server);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A server that is down cuts what it is sent by itself.
                let server = *target.lock().expect("nobody panics with it");
                let Ok(upstream) = TcpStream::connect(server) else {
                    continue;
                };
                let share = |stream: &TcpStream| stream.try_clone().expect("a socket can be shared");
                let mut kept = kept.lock().expect("nobody panics with it");
                kept.extend([share(&client), share(&upstream)]);
                pass(share(&client), share(&upstream));
                pass(upstream, client);
            }
        });
        Self {
            address,
            server,
            connections,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes new connections on to another server.
    pub(crate) fn redirect(&self, server: SocketAddr) {
        *self.server.lock().expect("nobody panics with it") = server;
    }

    /// Cuts every connection that there is. New ones are passed on.
    pub(crate) fn cut(&self) {
        for stream in self.connections.lock().expect("nobody panics with it").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Copies one direction until either end closes.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}

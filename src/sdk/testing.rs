//! Servers for the tests of this folder: real ones, and ones that break the rules.

use std::net::SocketAddr;

use actix_web::dev::ServerHandle;
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A well-behaved server on a port of its own, gone when dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    handle: ServerHandle,
}

impl Server {
    pub(super) fn start(routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static) -> Self {
        let server = HttpServer::new(move || App::new().configure(routes.clone()))
            .workers(1)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .expect("a free port");
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        actix_rt::spawn(server);
        Self { address, handle }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The stop command is sent when called; its future only waits for the end.
        drop(self.handle.stop(false));
    }
}

/// A listener on a port of its own.
pub(super) async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    (listener, url)
}

/// Reads one request, its body by its length included.
pub(super) async fn read_request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<usize>().ok())?
            });
            if text.len() >= end + 4 + length.unwrap_or(0) {
                return text;
            }
        }
        let count = stream.read(&mut chunk).await.expect("readable");
        assert!(count > 0, "the request ended early: {text}");
        read.extend_from_slice(&chunk[..count]);
    }
}

/// Reads a request and writes these bytes.
pub(super) async fn answer(stream: &mut TcpStream, bytes: &[u8]) -> String {
    let request = read_request(stream).await;
    stream.write_all(bytes).await.expect("writable");
    request
}

/// What a real app sent: a request or an answer, captured.
pub(super) fn fixture(sdk: &str, name: &str) -> serde_json::Value {
    let path = format!("{}/tests/apps/fixtures/{sdk}/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).expect("a fixture is JSON")
}

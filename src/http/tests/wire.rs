//! Over real sockets: what only shows there.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web;

use super::fake::{self, Shared};

const PATIENCE: Duration = Duration::from_secs(20);

struct Listening {
    address: SocketAddr,
    handle: ServerHandle,
    world: Shared,
}

fn listen() -> Listening {
    let (address, handle, world) = fake::listen(fake::options());
    Listening { address, handle, world }
}

/// Writes the parts one after the other, and reads until the server closes.
async fn talk(address: SocketAddr, parts: &'static [&'static [u8]]) -> String {
    let talking = web::block(move || {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        for part in parts {
            stream.write_all(part).expect("the server reads");
            stream.flush().expect("the server reads");
        }
        stream.shutdown(Shutdown::Write).expect("the server has not hung up");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer in time");
        String::from_utf8_lossy(&answer).into_owned()
    });
    talking.await.expect("the thread talks to the end")
}

#[actix_web::test]
async fn chunked_bodies_on_one_connection() {
    let server = listen();
    let answers = talk(
        server.address,
        &[
            b"POST /e/key HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n8\r\n[{\"name\"\r\n",
            b"6\r\n:\"a\"}]\r\n0\r\n\r\n",
            b"POST /e/key HTTP/1.1\r\nhost: x\r\ncontent-length: 12\r\nconnection: close\r\n\r\n{\"name\":\"b\"}",
        ],
    )
    .await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    assert_eq!(answers.matches("x-inngest-server-kind: dev").count(), 2, "{answers}");
    let names = server.world.with(|world| {
        world
            .accepted
            .iter()
            .map(|event| event.name.clone())
            .collect::<Vec<_>>()
    });
    assert_eq!(names, ["a", "b"]);
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn of_a_body_that_was_cut_short_nothing_is_accepted() {
    let server = listen();
    let request: &[&[u8]] = &[b"POST /e/key HTTP/1.1\r\nhost: x\r\ncontent-length: 40\r\n\r\n[{\"name\":\"a\"}]"];
    let answer = talk(server.address, request).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    assert!(server.world.with(|world| world.accepted.is_empty()));
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn a_body_that_is_announced_too_large_is_refused_before_it_arrives() {
    let server = listen();
    let request: &[&[u8]] = &[b"POST /e/key HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n[{\"name\""];
    let answer = talk(server.address, request).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("CB-1004"), "{answer}");
    server.handle.stop(false).await;
}

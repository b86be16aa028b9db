//! Requests that users have written: to addresses that they must not reach, by all the ways that lead there.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;

use futures_util::future::LocalBoxFuture;

use super::*;

/// Answers, for each look-up, the next of these.
struct Script(RefCell<Vec<Vec<SocketAddr>>>);

impl Resolve for Script {
    fn resolve<'a>(&'a self, host: &'a str, _: u16) -> LocalBoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        assert_eq!(host, "rebinding.example");
        let mut script = self.0.borrow_mut();
        let next = if script.is_empty() {
            Vec::new()
        } else {
            script.remove(0)
        };
        Box::pin(async move { Ok(next) })
    }
}

/// May ask 127.0.0.1, as if that were a public address, and nothing else of this machine's.
fn guard() -> Guard {
    Guard::closed(["127.0.0.1".parse().expect("a network")])
}

fn guarded() -> Transport {
    Transport::guarded(Duration::from_secs(5), 16, guard())
}

fn resolving(script: Vec<Vec<SocketAddr>>) -> Transport {
    let script = Script(RefCell::new(script));
    Transport::with_resolver(Duration::from_secs(5), 16, guard(), Rc::new(script))
}

/// A listener at an address that must not be asked; it takes note of who comes.
async fn internal() -> (Arc<AtomicUsize>, SocketAddr) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.2", 0))
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("bound");
    let visits = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&visits);
    actix_rt::spawn(async move {
        while let Ok((_stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (visits, address)
}

#[track_caller]
fn assert_forbidden(outcome: Result<Incoming, TransportError>) {
    let error = outcome.expect_err("forbidden");
    assert!(matches!(error, TransportError::Forbidden(_)), "{error:?}");
    assert!(!error.is_outage(), "nobody's circuit breaker should open");
}

#[rstest]
#[case("http://127.0.0.2:{port}/")]
#[case("http://[::ffff:127.0.0.2]:{port}/")]
// Other spellings of the same address, which URLs allow.
#[case("http://0x7f.2:{port}/")]
#[case("http://2130706434:{port}/")]
#[case("http://user:password@127.0.0.2:{port}/")]
#[actix_web::test]
async fn literal_addresses_are_refused(#[case] url: &str) {
    let (visits, address) = internal().await;
    let url = url.replace("{port}", &address.port().to_string());
    assert_forbidden(guarded().exchange(post(&url), bounds()).await);
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[actix_web::test]
async fn localhost_is_what_it_is() {
    let server = Server::start(redirects);
    let url = format!("http://localhost:{}/echo", server.address.port());
    let closed = Transport::guarded(Duration::from_secs(5), 16, Guard::closed([]));
    assert_forbidden(closed.exchange(post(&url), bounds()).await);
    let answer = guarded().exchange(post(&url), bounds()).await.expect("permitted");
    assert_eq!(json(&answer)["method"], "POST");
}

#[rstest]
#[actix_web::test]
async fn redirects_lead_nowhere_else(#[values(301, 307)] status: u16) {
    let server = Server::start(redirects);
    let (visits, address) = internal().await;
    let url = server.url(&format!("/{status}/to?to=http://{address}/secret"));
    let error = guarded().exchange(post(&url), bounds()).await;
    assert_forbidden(error);
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

/// The name is looked up once for each connection, and what was found then is what counts.
#[actix_web::test]
async fn a_name_that_changes_its_mind_gains_nothing() {
    let server = Server::start(redirects);
    let (visits, address) = internal().await;
    let transport = resolving(vec![vec![server.address], vec![address], vec![server.address]]);
    let ask = |port: u16| {
        let url = format!("http://rebinding.example:{port}/echo");
        transport.exchange(post(&url), bounds())
    };
    ask(server.address.port()).await.expect("permitted");
    // Another port, so that the connection there is of no use.
    assert_forbidden(ask(address.port()).await);
    assert_eq!(visits.load(Ordering::SeqCst), 0);
    ask(server.address.port()).await.expect("over the connection of before");
}

#[actix_web::test]
async fn of_several_addresses_those_are_asked_that_may_be() {
    let server = Server::start(redirects);
    let (visits, address) = internal().await;
    let transport = resolving(vec![vec![address, server.address], vec![address, address]]);
    let url = format!("http://rebinding.example:{}/echo", server.address.port());
    transport.exchange(post(&url), bounds()).await.expect("by the second");
    let other = "http://rebinding.example:1/".to_owned();
    assert_forbidden(transport.exchange(post(&other), bounds()).await);
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

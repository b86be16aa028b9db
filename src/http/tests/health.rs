//! Whether work should be sent here, and what is said when not.

use std::time::Duration;

use callboard_actors::kernel::ChildState;
use rstest::rstest;
use serde_json::json;
use tokio::time::Instant;

use super::fake::{Answer, Fate, Server, Shared, World, options};
use crate::error::{Code, Problem};
use crate::http::AppState;

/// An answer has to come well before a prober gives up.
const PROBER: Duration = Duration::from_secs(5);

async fn ready(server: &Server) -> Answer {
    server.get("/health/ready").await
}

#[actix_web::test]
async fn with_everything_in_order_it_is_ready() {
    let answer = ready(&Server::start().await).await;
    let body = answer.json();
    assert_eq!((answer.status.as_u16(), &body["status"]), (200, &json!("ok")));
    assert_eq!(body["failing"], json!([]));
    for check in ["database", "queue", "state_writer", "consumer", "supervisor"] {
        assert_eq!(body["checks"][check]["state"], "ok", "{check}");
    }
    assert!(body["checks"]["database"]["latency_ms"].is_number());
}

fn ill(name: &'static str, state: ChildState) -> impl FnOnce(&mut World) {
    move |world| {
        world.ill.insert(name, state);
    }
}

#[rstest]
#[case::database(|world: &mut World| world.database = Fate::Refused, "database")]
#[case::database_hangs(|world: &mut World| world.database = Fate::Lost, "database")]
#[case::queue(|world: &mut World| world.queue = Fate::Refused, "queue")]
#[case::queue_hangs(|world: &mut World| world.queue = Fate::Lost, "queue")]
#[case::writer(ill("state-writer", ChildState::BackingOff { until_ms: 0 }), "state_writer")]
#[case::consumer(ill("consumer", ChildState::Starting), "consumer")]
#[case::router(ill("router", ChildState::BackingOff { until_ms: 0 }), "supervisor")]
#[case::supervisor(|world: &mut World| world.supervisor_is_stuck = true, "supervisor")]
#[actix_web::test]
async fn what_is_down_is_named(#[case] breaks: impl FnOnce(&mut World), #[case] named: &str) {
    let server = Server::start().await;
    server.world.with(breaks);
    let begun = Instant::now();
    let answer = ready(&server).await;
    assert!(begun.elapsed() < PROBER, "nobody is waited for that long");
    let body = answer.json();
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
    assert_eq!((&body["status"], &body["failing"]), (&json!("down"), &json!([named])));
    assert_eq!(body["checks"][named]["state"], "down");
    assert!(
        !body.to_string().contains("secret-host"),
        "it is open to everybody: {body}"
    );
    assert_eq!(server.get("/health").await.status, 200, "it lives all the same");
    server.world.with(|world| *world = World::default());
    assert_eq!(ready(&server).await.status, 200);
}

#[rstest]
#[case::saturated(|world: &mut World| world.jobs_in_flight = 4, "consumer")]
#[case::quarantined(ill("executor/x", ChildState::Quarantined {
    since_ms: 0, probe_at_ms: None, reason: "it panics".to_owned(),
}), "supervisor")]
#[actix_web::test]
async fn what_is_worth_a_look_does_not_take_the_node_out(#[case] breaks: impl FnOnce(&mut World), #[case] named: &str) {
    let server = Server::start().await;
    server.world.with(breaks);
    let answer = ready(&server).await;
    let body = answer.json();
    assert_eq!((answer.status.as_u16(), &body["status"]), (200, &json!("degraded")));
    assert_eq!(body["checks"][named]["state"], "degraded");
}

#[actix_web::test]
async fn an_executor_that_restarts_is_its_functions_matter() {
    let server = Server::start().await;
    server
        .world
        .with(ill("executor/x", ChildState::BackingOff { until_ms: 0 }));
    assert_eq!(ready(&server).await.json()["status"], "ok");
}

#[actix_web::test]
async fn a_start_says_what_it_waits_for() {
    let state = AppState::new(options());
    state.waits_for(Problem::new(Code::DatabaseUnreachable, "nobody at secret-host"));
    let server = Server::around(state, Shared::default()).await;
    let answer = ready(&server).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (
            503,
            json!({"status": "starting", "failing": ["database"], "code": "CB-3010"})
        )
    );
    assert_eq!(server.get("/health").await.status.as_u16(), 200, "it lives");
}

#[actix_web::test]
async fn a_drain_says_no_at_once() {
    let server = Server::start().await;
    server.world.with(|world| {
        world.is_draining = true;
        world.database = Fate::Lost;
    });
    let answer = ready(&server).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (503, json!({"status": "draining", "failing": []}))
    );
}

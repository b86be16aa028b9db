//! What Prometheus is told.

use std::collections::BTreeSet;
use std::time::Duration;

use callboard_actors::domain::{DueBy, FunctionId, OperationKind};
use callboard_actors::ports::{Counts, PartitionStats, QueueStats};
use tokio::time::Instant;

use super::exposition::Exposition;
use super::fake::{Fate, NOW, Server, options};
use super::sdk::app;
use crate::http::{Intake, Options};

async fn scrape(server: &Server) -> Exposition {
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    Exposition::parse(&String::from_utf8(answer.body).expect("a text"))
}

/// The table of docs/operations.md has every family there is, and no other.
#[actix_web::test]
async fn the_documentation_lists_every_family() {
    let documented: BTreeSet<String> = include_str!("../../../docs/operations.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{', ' ']).next())
        .filter(|name| name.starts_with("callboard_") || name.starts_with("process_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(documented, scrape(&Server::start().await).await.names());
}

#[actix_web::test]
async fn numbers_stand_where_they_are_looked_for() {
    let server = Server::with(Options {
        intake: Intake::new(7, 100),
        ..options()
    })
    .await;
    let of = FunctionId::derive("shop", "shop-charge");
    server.world.with(|world| {
        world.apps = vec![app()];
        world.jobs_in_flight = 3;
        world.counts = Counts {
            open_runs: 9,
            jobs: 8,
            waits: 7,
            dead_letters: 6,
        };
        world.queue_stats = QueueStats {
            ready: 2,
            delayed: 1,
            leased: 4,
            oldest_lease: Some(NOW.before(Duration::from_secs(3))),
            capacity: Some(50),
            spilled: 11,
            partitions: vec![PartitionStats {
                function: of,
                ready: 2,
                delayed: 1,
                leased: 4,
                oldest: Some(NOW.before(Duration::from_millis(1_500))),
            }],
        };
    });
    server.metrics.events.accepted.add(5);
    server.metrics.function(of).runs_failed.increment();
    server.metrics.function(of).call.record_micros(Duration::from_millis(2));
    server.metrics.calls.hand_off.record_micros(Duration::from_micros(600));
    server.metrics.commits.batch.record(3);
    server.metrics.operations.of(OperationKind::Replay).done.add(4);
    server.metrics.events.fired.count(true, DueBy::Full);
    server.post("/e/key", "[").await;
    server.post("/api/v1/events", r#"{"name":""}"#).await;
    let found = scrape(&server).await;
    for (sample, value) in [
        ("callboard_build_info{version=\"1.2.3\"}", 1.0),
        ("callboard_events_accepted_total", 5.0),
        ("callboard_intake_refusals_total{reason=\"invalid\"}", 2.0),
        ("callboard_intake_refusals_total{reason=\"overloaded\"}", 0.0),
        ("callboard_intake_events_limit", 7.0),
        (
            "callboard_runs_ended_total{function=\"(other)\",outcome=\"failed\"}",
            1.0,
        ),
        (
            "callboard_call_duration_seconds_bucket{le=\"0.001\",function=\"(other)\"}",
            0.0,
        ),
        (
            "callboard_call_duration_seconds_bucket{le=\"0.0025\",function=\"(other)\"}",
            1.0,
        ),
        ("callboard_call_duration_seconds_sum{function=\"(other)\"}", 0.002),
        ("callboard_hand_off_seconds_bucket{le=\"0.0005\"}", 0.0),
        ("callboard_hand_off_seconds_bucket{le=\"0.00075\"}", 1.0),
        ("callboard_commit_writes_bucket{le=\"4.0\"}", 1.0),
        ("callboard_jobs_in_flight", 3.0),
        ("callboard_saturation_ratio", 0.75),
        ("callboard_backlog_age_seconds", 1.5),
        ("callboard_queue_ready_jobs{function=\"(other)\"}", 2.0),
        ("callboard_queue_oldest_job_seconds{function=\"(other)\"}", 1.5),
        ("callboard_queue_oldest_lease_seconds", 3.0),
        ("callboard_queue_spilled_jobs_total", 11.0),
        ("callboard_store_errors_total{kind=\"full\"}", 0.0),
        ("callboard_operations_runs_total{kind=\"replay\",outcome=\"done\"}", 4.0),
        ("callboard_gatherings_fired_total{kind=\"batch\",due_by=\"full\"}", 1.0),
        (
            "callboard_gatherings_fired_total{kind=\"debounce\",due_by=\"period\"}",
            0.0,
        ),
        ("callboard_child_restarts_total{child=\"router\"}", 3.0),
        ("callboard_child_up{child=\"router\"}", 1.0),
        ("callboard_catalog_apps", 1.0),
        ("callboard_store_dead_letters", 6.0),
    ] {
        assert_eq!(
            found.samples.get(sample),
            Some(&value),
            "{sample} of {:#?}",
            found.samples
        );
    }
}

#[actix_web::test]
async fn a_database_or_queue_that_does_not_answer_costs_their_numbers_only() {
    let server = Server::start().await;
    server.world.with(|world| {
        world.database = Fate::Refused;
        world.queue = Fate::Lost;
    });
    let begun = Instant::now();
    let found = scrape(&server).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "it is not waited for");
    let has = |name: &str| found.samples.contains_key(name);
    assert_eq!(found.value("callboard_jobs_limit"), 4.0);
    assert!(has("callboard_events_accepted_total"));
    assert!(!has("callboard_store_jobs") && !has("callboard_backlog_age_seconds"));
}

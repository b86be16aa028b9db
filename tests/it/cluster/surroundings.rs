//! Instances that start where something is missing or wrong: they say so in one line with a code, and come up by themselves
//! if that can help.

use serde_json::{Value, json};

use super::fake_app;
use crate::support::command::{callboard_with, stderr};
use crate::support::fake::Reply;
use crate::support::http::Request;
use crate::support::installation::Installation;
use crate::support::server::{EVENT_KEY, SIGNING_KEY, Server};
use crate::support::{DEADLINE, wait_for};

/// What the log says under a code.
fn logged(server: &Server, code: &str) -> String {
    wait_for(&format!("{code} in the log"), DEADLINE, || {
        let log = server.log();
        let line = log.lines().find(|line| line.contains(code))?;
        Some(line.to_owned())
    })
}

#[test]
fn neither_database_nor_redis_are_there_yet() {
    let mut installation = Installation::builder().own_database().begin(false);
    installation.begin();
    let line = logged(&installation[0], "CB-3010");
    assert!(line.contains("127.0.0.1:") && line.contains("tried again"), "{line}");
    let health = wait_for("health to answer", DEADLINE, || {
        Request::get("/health/ready").try_send(installation[0].address()).ok()
    });
    let health = health.expect(503).json();
    assert_eq!(
        health,
        json!({"status": "starting", "failing": ["database"], "code": "CB-3010"})
    );
    installation[0].get("/health").expect(200);
    let refused = installation[0].post(&format!("/e/{EVENT_KEY}"), &json!({"name": "a", "data": {}}));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some(), "{:?}", refused.headers);

    installation.postgres().restart().expect("PostgreSQL starts");
    logged(&installation[0], "CB-3013");
    wait_for("only the queue to be missing", DEADLINE, || {
        let health = installation[0].get("/health/ready").expect(503).json();
        (health["status"] == "down" && health["failing"] == json!(["queue"])).then_some(())
    });
    // Redis is not needed to accept.
    let app = fake_app(&installation[0], |_| Reply::done(&json!("at last")));
    let event = installation[0].send(&app.event());
    let run = installation[0].wait_for_start(&event);
    installation.redis.restart().expect("Redis starts");
    let run = installation[0].wait_for_status(&run, "completed");
    assert_eq!(run["output"], "at last");
    installation[0].wait_until_up();
}

/// Runs `callboard start` to its end; answers what it says.
fn refused(database: &str) -> String {
    let keys = [("INNGEST_SIGNING_KEY", SIGNING_KEY), ("INNGEST_EVENT_KEY", EVENT_KEY)];
    let arguments = [
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--database-url",
        database,
    ];
    let redis = ["--redis-url", "redis://127.0.0.1:1"];
    stderr(&callboard_with(&keys, &[&arguments[..], &redis[..]].concat()))
}

#[test]
fn who_is_not_let_in_says_so_and_ends() {
    let installation = Installation::builder().begin(true);
    let url = installation.database().to_owned();
    let stranger = refused(&url.replace("postgres@", "stranger:s3cret@"));
    assert!(
        stranger.contains("CB-3011") && stranger.contains("stranger"),
        "{stranger}"
    );
    assert!(!stranger.contains("s3cret"), "{stranger}");
    let nowhere = refused(&format!("{}/nowhere", url.rsplit_once('/').expect("a database").0));
    assert!(nowhere.contains("CB-3011") && nowhere.contains("nowhere"), "{nowhere}");
}

#[test]
fn an_older_program_leaves_a_newer_database_alone() {
    let mut installation = Installation::builder().instances(1).start();
    assert!(installation[0].terminate().success());
    installation.sql("UPDATE callboard.schema_version SET version = 9999");
    let said = refused(installation.database());
    assert!(said.contains("CB-3006") && said.contains("9999"), "{said}");
    assert_eq!(installation.sql("SELECT version FROM callboard.schema_version"), "9999");
}

#[test]
fn several_that_start_at_once_on_an_empty_database_agree() {
    let mut installation = Installation::builder().begin(true);
    for _ in 0..3 {
        installation.begin();
    }
    for server in installation.iter_mut() {
        server.wait_until_up();
    }
    let app = fake_app(&installation[0], |_| Reply::done(&Value::Null));
    for server in installation.iter() {
        server.complete(&app.event());
    }
}

//! The OpenAPI documents, held against the server by schemathesis: what they promise of parameters, bodies, statuses and shapes
//! is so, and what they forbid is refused.
//!
//! Promises: the same requests each time (seeded), nothing but loopback, no operation left out. Both servers ask for keys, so
//! that what the documents say of keys counts. Never: a comparison with how fast anything is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::fake::{FakeApp, Reply};
use crate::support::server::{API_KEY, Server, text};

/// Requests of each operation that are made up freely, beside those for every limit of a schema.
const EXAMPLES: &str = "12";

/// What has to hold of every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      negative_data_rejection";

/// The program; panics with the name of the script if it is not installed.
fn schemathesis() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi/.venv");
    assert!(
        folder.join(".installed-lock").exists(),
        "schemathesis is not installed: run `tests/support/install.sh openapi`"
    );
    folder.join("bin/schemathesis")
}

/// Something of each kind: an app, a run that has completed and one that has failed for good, and their events.
struct Stock {
    app: FakeApp,
    /// Ids that requests may name, by the parameter of a path.
    ids: Value,
}

fn stock(server: &Server) -> Stock {
    let app = FakeApp::start(|call| match call.json()["event"]["data"]["fails"].as_bool() {
        Some(true) => Reply::error("on purpose", true),
        _ => Reply::done(&json!({"done": true})),
    });
    let functions = json!({"app": "shop", "url": app.url(), "functions": [
        {"id": "charge", "triggers": [{"event": "shop/paid"}], "retries": 0, "concurrency": {"limit": 5}},
    ]});
    server.post("/api/v1/functions", &functions).expect(201);
    let run = server.complete(&json!({"name": "shop/paid", "data": {"n": 1}}));
    let failed = server.run_to(&json!({"name": "shop/paid", "data": {"fails": true}}), "failed");
    let (run_id, event) = (text(&run["id"]), text(&run["event_ids"][0]));
    let ids = json!({
        "id": [run_id, failed["id"], event, "shop-charge"],
        "name": ["shop"],
        "app": ["shop"],
        "function": ["charge"],
        "run": [run_id, failed["id"]],
        "event": [event],
    });
    Stock { app, ids }
}

/// What schemathesis is told beyond its arguments: what there is on the server, and which status above 500 may be answered where
/// a document says so. No document says so of 500 itself.
fn configuration(ids: &Value, excused: u16) -> String {
    let mut lines = format!("[checks.not_a_server_error]\nexpected-statuses = [\"2xx\", \"4xx\", {excused}]\n");
    for (name, values) in ids.as_object().expect("an object") {
        lines += &format!("[dictionaries.{name}]\nvalues = {values}\n");
        lines += &format!("[parameters.{name}]\ndictionary = \"{name}\"\nprobability = 0.7\n");
    }
    lines
}

/// Holds a document against a server; panics with all that schemathesis has found.
#[track_caller]
fn hold(address: SocketAddr, document: &str, configuration: &str) {
    let dir = tempfile::tempdir().expect("a directory can be made");
    std::fs::write(dir.path().join("schemathesis.toml"), configuration).expect("a file can be written");
    let mut command = Command::new(schemathesis());
    command
        .current_dir(dir.path())
        .env("NO_PROXY", "127.0.0.1")
        .arg("run")
        .arg(format!("http://{address}{document}"))
        .args(["--url", &format!("http://{address}")])
        .args(["--header", &format!("Authorization: Bearer {API_KEY}")])
        .args(["--phases", "examples,coverage,fuzzing", "--checks", CHECKS])
        .args(["--max-examples", EXAMPLES, "--seed", "1", "--generation-deterministic"])
        .args(["--suppress-health-check", "all"])
        .args(["--continue-on-failure", "--request-timeout", "20", "--no-color"]);
    let output = command.output().expect("an installed program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{document}:\n{said}{complained}");
    assert!(said.contains("Fuzzing"), "{document} was not fuzzed:\n{said}");
}

/// Holds a document against a server that has something to show, and sees that it still works then.
fn conforms(document: &str, excused: u16) {
    let server = Server::builder().production().switch("--no-poll").start();
    let Stock { app, ids } = stock(&server);
    hold(server.address(), document, &configuration(&ids, excused));
    let functions = json!({"app": "after", "url": app.url(), "functions": [
        {"id": "fn", "triggers": [{"event": "after/go"}], "retries": 0},
    ]});
    server.post("/api/v1/functions", &functions).expect(201);
    server.complete(&json!({"name": "after/go", "data": {}}));
}

#[test]
fn our_own_api_is_as_its_document_says() {
    // An app that is to be synced can't be reached.
    conforms("/api/v1/openapi.json", 502);
}

#[test]
fn rest_v2_is_as_its_document_says() {
    // Nobody can make an environment.
    conforms("/v2/openapi.json", 501);
}

//! Keys that operators make by command: what they open, and for how long.

use serde_json::{Value, json};

use crate::support::command::{callboard_with, stderr, stdout};
use crate::support::http::Request;
use crate::support::installation::Installation;
use crate::support::server::{API_KEY, Server};
use crate::support::{DEADLINE, wait_for};

/// `callboard keys` with these arguments and an administrator's key; answers what it printed.
#[track_caller]
fn keys(server: &Server, arguments: &[&str]) -> String {
    let url = server.url();
    let arguments = [&["keys"], arguments, &["--url", &url]].concat();
    stdout(&callboard_with(&[("CALLBOARD_API_KEY", API_KEY)], &arguments))
}

/// Makes a key; answers it.
#[track_caller]
fn create(server: &Server, name: &str, scope: &str) -> String {
    let printed = keys(server, &["create", name, "--scope", scope]);
    assert_eq!(printed.lines().count(), 1, "the key alone is on standard output");
    printed.trim().to_owned()
}

/// The key of this name in the list.
#[track_caller]
fn listed(server: &Server, name: &str) -> Value {
    let list: Value = serde_json::from_str(&keys(server, &["list", "--json"])).expect("JSON");
    let keys = list["keys"].as_array().expect("keys").clone();
    keys.into_iter().find(|key| key["name"] == name).expect("it is listed")
}

fn status(server: &Server, method: &'static str, path: &str, key: &str) -> u16 {
    let request = Request::new(method, path).json(&json!({}));
    let request = request.header("authorization", &format!("Bearer {key}"));
    request.send(server.address()).status
}

#[test]
fn keys_are_made_used_and_revoked_by_command() {
    let mut server = Server::builder().production().start();
    let look = create(&server, "look", "read");
    let deploy = create(&server, "deploy", "write");
    let shop = create(&server, "shop", "events");

    let url = server.url();
    let by_command = |key: &str, arguments: &[&str]| {
        let arguments = [arguments, &["--url", &url]].concat();
        callboard_with(&[("CALLBOARD_API_KEY", key)], &arguments)
    };
    assert!(stdout(&by_command(&look, &["status"])).contains("state-writer"));
    let refused = stderr(&by_command(&look, &["operations", "begin", "cancel"]));
    assert!(refused.contains("CB-1015") && refused.contains("`write`"), "{refused}");
    let refused = stderr(&by_command(&deploy, &["keys", "list"]));
    assert!(refused.contains("CB-1015") && refused.contains("`admin`"), "{refused}");
    let event = json!({"name": "a", "data": {}});
    Request::post(format!("/e/{shop}"), &event)
        .send(server.address())
        .expect(200);
    assert_eq!(status(&server, "GET", "/api/v1/runs", &shop), 403);

    let table = keys(&server, &["list"]);
    for name in ["look", "deploy", "shop", "keys.event", "keys.signing"] {
        assert!(table.contains(name), "{name} in\n{table}");
    }
    for key in [&look, &deploy, &shop] {
        assert!(!table.contains(key.as_str()) && !server.log().contains(key.as_str()));
    }
    let used = wait_for("the use of a key to be noted", DEADLINE, || {
        Some(listed(&server, "look")).filter(|key| key["last_used_at"].is_string())
    });

    let id = used["id"].as_str().expect("an id");
    assert!(keys(&server, &["revoke", id]).contains("revoked"));
    assert_eq!(status(&server, "GET", "/api/v1/runs", &look), 401);
    let url = server.url();
    let unknown = ["keys", "revoke", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "--url", &url];
    let said = stderr(&callboard_with(&[("CALLBOARD_API_KEY", API_KEY)], &unknown));
    assert!(said.contains("CB-1318"), "{said}");

    server.restart();
    assert_eq!(status(&server, "GET", "/api/v1/runs", &deploy), 200);
    assert_eq!(status(&server, "GET", "/api/v1/runs", &look), 401);
    Request::post(format!("/e/{shop}"), &event)
        .send(server.address())
        .expect(200);
}

#[test]
fn a_key_counts_at_every_instance_until_it_is_revoked_at_one() {
    let installation = Installation::builder().start();
    let (one, other) = (&installation[0], &installation[1]);
    let key = create(one, "both", "read");
    // Shown before, so that the other one has had a look at its keys.
    assert_eq!(status(other, "GET", "/api/v1/runs", &key), 200);
    let id = listed(other, "both")["id"].as_str().expect("an id").to_owned();
    keys(one, &["revoke", &id]);
    assert_eq!(status(one, "GET", "/api/v1/runs", &key), 401);
    wait_for("the other instance to refuse it", DEADLINE, || {
        (status(other, "GET", "/api/v1/runs", &key) == 401).then_some(())
    });
}

//! The command line.

use rstest::rstest;
use serde_json::Value;

use crate::support::command::{callboard, stderr, stdout};
use crate::support::server::Server;

#[test]
fn the_version() {
    assert_eq!(
        stdout(&callboard(&["version"])).trim(),
        format!("callboard {}", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn the_demo_runs_to_its_end() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().to_str().expect("a plain path");
    let shown = stdout(&callboard(&["demo", "--port", "0", "--data-dir", path]));
    assert!(shown.contains("completed"), "{shown}");
    assert!(shown.contains(r#""status":"fulfilled""#), "{shown}");
}

#[test]
fn the_status_of_a_running_server() {
    let server = Server::start();
    let shown = stdout(&callboard(&["status", "--url", &server.url()]));
    assert!(shown.contains("state-writer") && shown.contains("(answers)"), "{shown}");
    let json = stdout(&callboard(&["status", "--url", &server.url(), "--json"]));
    let tree: Value = serde_json::from_str(&json).expect("JSON");
    assert!(tree["children"].is_array());
    assert_eq!(tree["nodes"][0]["address"], server.address().to_string());
}

#[test]
fn the_status_of_a_server_that_is_not_there() {
    let said = stderr(&callboard(&["status", "--url", "http://127.0.0.1:1"]));
    assert!(said.contains("CB-"), "{said}");
}

#[test]
fn a_setting_and_where_it_comes_from() {
    let shown = stdout(&callboard(&["config", "--port", "4711"]));
    let line = shown
        .lines()
        .find(|line| line.contains("api.port"))
        .expect("the port is listed");
    assert!(line.contains("4711") && line.contains("--port"), "{line}");
}

#[test]
fn a_directory_and_a_port_belong_to_one_server() {
    let server = Server::start();
    let data = server.data_dir();
    let data = data.to_str().expect("a plain path");
    let said = stderr(&callboard(&[
        "dev",
        "--no-discovery",
        "--port",
        "0",
        "--data-dir",
        data,
    ]));
    assert!(said.contains("CB-"), "{said}");
    let other = tempfile::tempdir().expect("a directory can be made");
    let other = other.path().to_str().expect("a plain path");
    let port = server.address().port().to_string();
    let arguments = [
        "dev",
        "--no-discovery",
        "--host",
        "127.0.0.1",
        "--port",
        &port,
        "--data-dir",
        other,
    ];
    let said = stderr(&callboard(&arguments));
    assert!(said.contains("CB-") && said.contains(&port), "{said}");
    server.get("/health").expect(200);
}

#[test]
fn settings_that_can_t_be_are_all_named() {
    let said = stderr(&callboard(&["dev", "--port", "seventy", "--retry-interval", "soon"]));
    assert!(said.contains("api.port") || said.contains("--port"), "{said}");
    assert!(said.contains("retry"), "{said}");
}

#[rstest]
#[case(&["--help"], "Commands:")]
#[case(&["dev", "--help"], "--data-dir")]
#[case(&["start", "--help"], "--database-url")]
#[case(&["health", "--help"], "--ready")]
#[case(&["status", "--help"], "--api-key")]
#[case(&["config", "--help"], "--config")]
#[case(&["demo", "--help"], "--keep-running")]
#[case(&["version", "--help"], "Usage")]
fn the_help(#[case] arguments: &[&str], #[case] mentions: &str) {
    let output = callboard(arguments);
    let help = stdout(&output);
    assert!(output.status.success() && output.stderr.is_empty());
    assert!(help.contains(mentions) && help.contains("Usage:"), "{help}");
}

#[test]
fn what_is_no_command_is_told() {
    for arguments in [&["deev"][..], &["dev", "--prot", "1"], &[]] {
        let output = callboard(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!stderr(&output).is_empty());
    }
}

#[test]
fn the_config_keeps_secrets() {
    let key = "00112233445566778899aabbccddeeff";
    let output = callboard(&["config", "--signing-key", key]);
    let shown = stdout(&output);
    let line = shown.lines().find(|line| line.starts_with("keys.signing"));
    assert!(line.is_some_and(|line| line.ends_with("flag --signing-key")), "{shown}");
    assert!(!shown.contains(key), "{shown}");
}

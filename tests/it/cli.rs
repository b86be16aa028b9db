//! The command line beside the server.

use std::process::{Command, Output};

use rstest::rstest;
use serde_json::Value;

use crate::support::server::Server;

fn callboard(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callboard"));
    for (name, _) in std::env::vars_os() {
        let ours = name
            .to_str()
            .is_some_and(|name| name.starts_with("CALLBOARD") || name.starts_with("INNGEST"));
        if ours {
            command.env_remove(name);
        }
    }
    command.args(arguments).output().expect("the built binary runs")
}

/// What a command that succeeds prints.
#[track_caller]
fn says(arguments: &[&str]) -> String {
    let output = callboard(arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    assert_eq!(complaint, "", "{arguments:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[rstest]
#[case(&["version"])]
#[case(&["--version"])]
fn the_version(#[case] arguments: &[&str]) {
    assert_eq!(says(arguments), format!("callboard {}\n", env!("CARGO_PKG_VERSION")));
}

#[rstest]
#[case(&["--help"], "Commands:")]
#[case(&["dev", "--help"], "--data-dir")]
#[case(&["status", "--help"], "--url")]
#[case(&["config", "--help"], "--config")]
#[case(&["demo", "--help"], "--keep-running")]
#[case(&["version", "--help"], "Usage")]
fn the_help(#[case] arguments: &[&str], #[case] mentions: &str) {
    let help = says(arguments);
    assert!(help.contains(mentions) && help.contains("Usage:"), "{help}");
}

#[test]
fn what_is_no_command_is_told() {
    for arguments in [&["deev"][..], &["dev", "--prot", "1"], &[]] {
        let output = callboard(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn the_config_shows_values_and_where_they_come_from_but_no_secret() {
    let key = "00112233445566778899aabbccddeeff";
    let shown = says(&["config", "--port", "1234", "--signing-key", key]);
    let line = |name: &str| {
        let found = shown.lines().find(|line| line.split_whitespace().next() == Some(name));
        found.unwrap_or_else(|| panic!("no {name} in {shown}"))
    };
    assert!(line("api.port").contains("1234") && line("api.port").ends_with("flag --port"));
    assert!(line("api.addr").ends_with("default"));
    assert!(line("keys.signing").ends_with("flag --signing-key"));
    assert!(!shown.contains(key), "{shown}");
}

#[test]
fn the_status_of_a_running_server() {
    let server = Server::start();
    let shown = says(&["status", "--url", &server.url()]);
    for part in [
        "supervisor",
        "state-writer",
        "router",
        "scheduler",
        "janitor",
        "consumer",
    ] {
        let line = shown.lines().find(|line| line.contains(part));
        assert!(line.is_some_and(|line| line.contains("running")), "{part} in {shown}");
    }
    let json = says(&["status", "--url", &server.url(), "--json"]);
    let tree: Value = serde_json::from_str(&json).expect("JSON");
    assert!(
        tree["children"].as_array().is_some_and(|children| children.len() >= 6),
        "{tree}"
    );
}

#[test]
fn the_status_of_no_server() {
    let mut server = Server::start();
    let url = server.url();
    server.kill();
    let output = callboard(&["status", "--url", &url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("CB-3003"));
}

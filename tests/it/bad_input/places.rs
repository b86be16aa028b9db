//! Starts that can't be: an exit code, a message with its code, and nothing touched.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::support::server::Server;

/// Runs the binary to its end.
fn callboard(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callboard"));
    for (name, _) in std::env::vars_os() {
        let ours = name
            .to_str()
            .is_some_and(|name| name.starts_with("CALLBOARD") || name.starts_with("INNGEST"));
        if ours {
            command.env_remove(name);
        }
    }
    let command = command.args(arguments).envs(environment.iter().copied());
    command.output().expect("the built binary runs")
}

/// Starts a server that must not start; answers what it says.
#[track_caller]
fn refuses(data_dir: &Path, port: &str, code: &str) -> String {
    let dir = data_dir.to_str().expect("a path in UTF-8");
    let flags = [
        "dev",
        "--host",
        "127.0.0.1",
        "--no-discovery",
        "--no-poll",
        "--data-dir",
        dir,
        "--port",
        port,
    ];
    let output = callboard(&flags, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with(code), "{code} is expected: {said}");
    said
}

fn set_version(database: &Path, version: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let options = SqliteConnectOptions::new().filename(database);
        let mut connection = options.connect().await.expect("the database opens");
        let sql = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {version}"));
        sqlx::raw_sql(sql).execute(&mut connection).await.expect("a version");
        connection.close().await.expect("the database closes");
    });
}

#[test]
fn a_second_instance_on_the_same_directory_is_refused_and_the_first_one_lives() {
    let mut server = Server::start();
    let said = refuses(&server.data_dir(), "0", "CB-3005");
    assert!(
        said.contains(&server.process().id().to_string()),
        "it names the other one: {said}"
    );
    server.get("/api/v1/runs").expect(200);
    server.kill();
    server.restart();
    server.get("/api/v1/runs").expect(200);
}

#[test]
fn a_directory_of_a_newer_version_is_not_touched() {
    let mut server = Server::start();
    assert!(server.terminate().success());
    let database = server.data_dir().join("callboard.db");
    set_version(&database, 9_999);
    let before = std::fs::read(&database).expect("a database");
    let said = refuses(&server.data_dir(), "0", "CB-3006");
    assert!(said.contains("9999"), "{said}");
    assert_eq!(std::fs::read(&database).expect("a database"), before);
}

#[test]
fn a_file_that_is_no_database_is_not_touched() {
    let dir = tempfile::tempdir().expect("a directory");
    let database = dir.path().join("callboard.db");
    let junk = "this is somebody's diary ".repeat(1_000);
    std::fs::write(&database, &junk).expect("a file");
    refuses(dir.path(), "0", "CB-3007");
    assert_eq!(std::fs::read_to_string(&database).expect("a file"), junk);
}

#[test]
fn a_directory_that_can_not_be_made_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("a file");
    refuses(&file.join("data"), "0", "CB-3008");
}

#[test]
fn a_port_that_is_taken_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let said = refuses(dir.path(), &port, "CB-3004");
    assert!(said.contains(&port), "{said}");
}

#[test]
fn bad_settings_are_told_together() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("callboard.toml");
    std::fs::write(&file, "[limits]\ncalls = 0\n[quueue]\ncapacity = 1\n").expect("a file");
    let file = file.to_str().expect("a path in UTF-8");
    let environment = [("CALLBOARD__API__PORT", "99999"), ("CALLBOARD__NOPE__X", "1")];
    let output = callboard(&["dev", "--config", file, "--retry-interval", "soon"], &environment);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with("CB-3001"), "{said}");
    for part in ["limits.calls", "quueue", "api.port", "nope.x", "retry.interval"] {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    let output = callboard(&["dev", "--config", "/nowhere.toml"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("CB-3002"));
}

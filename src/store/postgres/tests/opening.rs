//! Opening databases, good and bad.

use callboard_actors::ports::Store as _;
use callboard_backends::postgres::Server;
use futures_util::future::join_all;

use super::super::{OpenError, Options, PostgresStore, migrate};
use super::{accepted, options};

/// The URL with other credentials.
fn with_user(url: &str, user: &str) -> String {
    url.replace("//postgres@", &format!("//{user}@"))
}

fn database(url: &str) -> &str {
    url.rsplit('/').next().expect("a name")
}

#[tokio::test]
async fn finds_everything_again() {
    let options = options();
    let (event, state, write) = accepted(1);
    let store = PostgresStore::open(&options).await.expect("opens");
    store.commit(&[write]).await.expect("commits");
    store.close().await.expect("closes");
    store.ping().await.expect_err("is closed");
    store.commit(&[accepted(2).2]).await.expect_err("is closed");
    let store = PostgresStore::open(&options).await.expect("opens again");
    assert_eq!(store.events_by_id(&[event.id]).await.expect("reads"), [event]);
    assert_eq!(store.load_run(state.id).await.expect("reads"), Some(state));
    let (before, after) = migrate(&options).await.expect("migrates");
    assert_eq!(before, after, "there was nothing to do");
}

#[tokio::test]
async fn many_may_open_an_empty_database_at_once() {
    let options = options();
    let stores = join_all((0..8).map(|_| PostgresStore::open(&options))).await;
    for (number, store) in (1..).zip(stores) {
        let store = store.expect("opens");
        store.commit(&[accepted(number).2]).await.expect("commits");
        assert_eq!(
            store.counts().await.expect("reads").open_runs,
            u64::try_from(number).expect("few")
        );
    }
}

#[tokio::test]
async fn leaves_a_newer_database_as_it_is() {
    let options = options();
    drop(PostgresStore::open(&options).await.expect("opens"));
    let url = options.exposed_url();
    let sql = "UPDATE callboard.schema_version SET version = 9999; DROP TABLE callboard.steps";
    Server::shared().sql(database(url), sql).expect("runs");
    for _ in 0..2 {
        let refused = PostgresStore::open(&options).await.expect_err("is newer");
        assert!(matches!(refused, OpenError::Newer { found: 9999, .. }), "{refused}");
    }
    let steps = Server::shared().sql(database(url), "SELECT to_regclass('callboard.steps')");
    assert_eq!(steps.expect("runs"), "");
}

#[tokio::test]
async fn a_role_that_owns_the_schema_needs_no_other_right() {
    let options = options();
    let url = options.exposed_url();
    let role = format!("owner_of_{}", database(url));
    let sql = format!("CREATE ROLE {role} LOGIN");
    Server::shared().sql(database(url), &sql).expect("runs");
    let as_role = Options::new(with_user(url, &role));
    let refused = PostgresStore::open(&as_role).await.expect_err("may not make a schema");
    assert!(matches!(refused, OpenError::Rights { .. }), "{refused}");
    let sql = format!("CREATE SCHEMA callboard AUTHORIZATION {role}");
    Server::shared().sql(database(url), &sql).expect("runs");
    let store = PostgresStore::open(&as_role).await.expect("opens");
    store.commit(&[accepted(1).2]).await.expect("commits");
}

#[tokio::test]
async fn says_what_is_wrong_without_the_password() {
    let server = Server::shared();
    let url = server.create_database().expect("makes a database");
    server.sql("postgres", "CREATE ROLE locked_out NOLOGIN").expect("runs");
    server
        .sql(
            "postgres",
            "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
        )
        .expect("runs");
    // Nobody listens there: the kernel gave the port away and took it back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let nowhere = format!("postgres://u:5ec2e7@{}/x", free.local_addr().expect("is bound"));
    drop(free);
    let refused = async |url: String| PostgresStore::open(&Options::new(url)).await.expect_err("can't work");

    let error = refused(nowhere).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    assert!(error.is_passing() && !error.to_string().contains("5ec2e7"), "{error}");
    let error = refused(with_user(&url, "locked_out:5ec2e7")).await;
    assert!(matches!(error, OpenError::Credentials { .. }), "{error}");
    assert!(!error.is_passing() && !error.to_string().contains("5ec2e7"), "{error}");
    let error = refused(server.url("unheard_of")).await;
    assert!(matches!(error, OpenError::NoDatabase { .. }), "{error}");
    let error = refused(server.url("latin")).await;
    assert!(matches!(error, OpenError::Encoding { .. }), "{error}");
    for nonsense in ["not a url 5ec2e7", "postgres://u:5ec2e7@host:port/x"] {
        let error = refused(nonsense.to_owned()).await;
        assert!(matches!(error, OpenError::Url(_)), "{error}");
        assert!(!format!("{error:?} {error}").contains("5ec2e7"), "{error:?}");
    }
    let shown = format!("{:?}", Options::new("postgres://u:5ec2e7@host/x"));
    assert!(!shown.contains("5ec2e7"), "{shown}");
}

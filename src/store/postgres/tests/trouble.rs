//! A server that is there and can't: no connection to be had, no room on its disk, transactions rolled back for the sake of
//! others. The store says so in the words of the port, and goes on by itself when it is over.

use std::time::Duration;

use callboard_actors::ports::{Store as _, StoreError};
use callboard_backends::postgres::Server;
use rstest::rstest;

use super::super::{OpenError, Options, PostgresStore};
use super::{accepted, options};

#[tokio::test]
async fn without_a_free_connection_it_waits_for_one() {
    let server = Server::shared();
    let url = server.create_database().expect("makes a database");
    let (_, database) = url.rsplit_once('/').expect("ends with the database");
    let role = format!("role_{database}");
    let script = format!("CREATE ROLE {role} LOGIN CONNECTION LIMIT 2; ALTER DATABASE {database} OWNER TO {role}");
    server.sql("postgres", &script).expect("runs");
    let options = Options {
        max_connections: 1,
        connect_timeout: Duration::from_secs(2),
        ..Options::new(server.url(database).replacen("://postgres", &format!("://{role}"), 1))
    };
    let store = PostgresStore::open(&options).await.expect("opens");
    store.commit(&[accepted(1).2]).await.expect("commits");
    store.ping().await.expect("answers");

    // One reads and one writes: there is none left.
    let refused = PostgresStore::open(&options).await.expect_err("has no connection");
    assert!(matches!(refused, OpenError::Unreachable { .. }), "{refused}");
    assert!(refused.is_passing());

    server
        .sql("postgres", &format!("ALTER ROLE {role} CONNECTION LIMIT 0"))
        .expect("runs");
    server
        .sql(
            "postgres",
            &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"),
        )
        .expect("runs");
    let error = store
        .commit(&[accepted(2).2])
        .await
        .expect_err("its connection was cut");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    let error = store.commit(&[accepted(2).2]).await.expect_err("there is no other");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    server
        .sql("postgres", &format!("ALTER ROLE {role} CONNECTION LIMIT 2"))
        .expect("runs");
    store.commit(&[accepted(2).2]).await.expect("goes on by itself");
}

/// What a server reports comes out of a commit as it is, and nothing of the commit has happened.
#[rstest]
#[case::disk_full("53100", "full")]
#[case::serialization_failure("40001", "unavailable")]
#[case::deadlock("40P01", "unavailable")]
#[case::out_of_memory("53200", "unavailable")]
#[case::shutting_down("57P01", "unavailable")]
#[case::damaged("XX001", "corrupt")]
#[case::not_null("23502", "refused")]
#[tokio::test]
async fn trouble_has_the_name_that_says_what_to_do(#[case] code: &str, #[case] kind: &str) {
    let options = options();
    let store = PostgresStore::open(&options).await.expect("opens");
    let database = options
        .exposed_url()
        .rsplit_once('/')
        .expect("ends with the database")
        .1
        .to_owned();
    let server = Server::shared();
    let script = format!(
        "CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'as the test wants it' USING ERRCODE = '{code}'; END $$;
        CREATE TRIGGER trouble BEFORE INSERT ON callboard.jobs FOR EACH ROW EXECUTE FUNCTION trouble()"
    );
    server.sql(&database, &script).expect("runs");
    let (event, state, write) = accepted(1);
    let error = store.commit(std::slice::from_ref(&write)).await.expect_err("can't");
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(store.events_by_id(&[event.id]).await.expect("reads"), []);
    assert_eq!(store.load_run(state.id).await.expect("reads"), None);

    server
        .sql(&database, "DROP TRIGGER trouble ON callboard.jobs")
        .expect("runs");
    store.commit(&[write]).await.expect("goes on by itself");
    assert_eq!(store.load_run(state.id).await.expect("reads"), Some(state));
}

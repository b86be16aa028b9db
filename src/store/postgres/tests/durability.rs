//! What has been answered stays; what has not is whole or absent; and it goes on when the server does.

use std::time::Duration;

use callboard_actors::domain::{Accept, Write, Written};
use callboard_actors::ports::{Store as _, StoreError};
use callboard_backends::postgres::{Server, Settings};
use futures_util::poll;

use super::super::{Options, PostgresStore};
use super::{accepted, open};

#[tokio::test]
async fn what_was_answered_survives_a_crash_of_the_server() {
    let mut server = Server::start(Settings::default()).expect("starts");
    let options = Options {
        connect_timeout: Duration::from_secs(2),
        ..Options::new(server.url("postgres"))
    };
    let store = PostgresStore::open(&options).await.expect("opens");
    let mut answered = Vec::new();
    for round in 0..3 {
        // The server goes down while batches are on their way, and nobody waits for them.
        let (told, enough) = tokio::sync::oneshot::channel::<()>();
        let crash = tokio::task::spawn_blocking(move || {
            enough.blocking_recv().expect("there are some");
            server.stop_immediate().expect("stops");
            server
        });
        let mut told = Some(told);
        let failed = loop {
            let number = i64::try_from(answered.len()).expect("few") * 2 + round * 1_000_000;
            let batch = [accepted(number).2, accepted(number + 1).2];
            match store.commit(&batch).await {
                Ok(written) => {
                    assert_eq!(written, [Written::done(), Written::done()]);
                    answered.extend([number, number + 1]);
                }
                Err(error) => break error,
            }
            if answered.len() >= 200
                && let Some(told) = told.take()
            {
                told.send(()).expect("somebody waits");
            }
        };
        assert!(matches!(failed, StoreError::Unavailable(_)), "{failed}");
        server = crash.await.expect("no panic");
        let error = store.commit(&[accepted(-1).2]).await.expect_err("nobody is there");
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        let error = store.ping().await.expect_err("nobody is there");
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");

        server.restart().expect("starts again");
        let mut events = Vec::new();
        for number in &answered {
            let (event, state, _) = accepted(*number);
            events.push(event.id);
            assert_eq!(store.load_run(state.id).await.expect("reads"), Some(state));
        }
        assert_eq!(
            store.events_by_id(&events).await.expect("reads").len(),
            events.len(),
            "round {round}"
        );
        let counts = store.counts().await.expect("reads");
        assert_eq!(counts.open_runs, counts.jobs, "whole or absent");
        answered.clear();
        // Numbers of the rounds differ by their beginnings.
        store
            .commit(&[accepted(round * 1_000_000 + 999_999).2])
            .await
            .expect("goes on by itself");
    }
}

#[tokio::test]
async fn a_frozen_server_is_unavailable_and_to_try_again_is_harmless() {
    let server = Server::start(Settings {
        is_hasty: true,
        ..Settings::default()
    })
    .expect("starts");
    let options = Options {
        statement_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_millis(300),
        ..Options::new(server.url("postgres"))
    };
    let store = PostgresStore::open(&options).await.expect("opens");
    store.commit(&[accepted(1).2]).await.expect("commits");
    store.ping().await.expect("answers");
    server.pause().expect("is running");
    let (event, state, write) = accepted(2);
    let error = store.commit(std::slice::from_ref(&write)).await.expect_err("is frozen");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    let error = store.ping().await.expect_err("is frozen");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    server.resume().expect("is running");
    // The first try may have arrived, or arrive now: it is there once in any case.
    store.commit(&[write]).await.expect("goes on by itself");
    assert_eq!(store.events_by_id(&[event.id]).await.expect("reads"), [event]);
    assert_eq!(store.load_run(state.id).await.expect("reads"), Some(state));
    assert_eq!(store.counts().await.expect("reads").jobs, 2);
}

#[tokio::test]
async fn a_commit_that_is_dropped_half_way_is_whole_or_absent() {
    let store = open().await;
    let mut absent = 0;
    for polls in 0..60 {
        let (dropped, state, write) = accepted(3 * polls);
        {
            // Two segments: a transaction of several statements.
            let batch = [write.clone(), write, accepted(3 * polls + 2).2];
            let mut commit = std::pin::pin!(store.commit(&batch));
            for _ in 0..polls {
                if poll!(&mut commit).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let (_, _, next) = accepted(3 * polls + 1);
        assert_eq!(
            store.commit(&[next]).await.expect("no transaction is in the way"),
            [Written::done()]
        );
        let event = store.events_by_id(&[dropped.id]).await.expect("reads");
        let run = store.load_run(state.id).await.expect("reads");
        assert_eq!(event.len(), usize::from(run.is_some()), "whole or absent");
        absent += usize::from(run.is_none());
    }
    assert!(absent > 0, "at least those that were never polled are absent");
}

#[tokio::test]
async fn a_question_that_is_dropped_half_way_harms_nobody() {
    let store = open().await;
    let (_, state, write) = accepted(1);
    store.commit(&[write]).await.expect("commits");
    for polls in 0..30 {
        {
            let mut load = std::pin::pin!(store.load_run(state.id));
            for _ in 0..polls {
                if poll!(&mut load).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        assert!(store.load_run(state.id).await.expect("reads").is_some());
    }
}

#[tokio::test]
async fn a_write_that_is_refused_leaves_the_connection_as_it_was() {
    let store = open().await;
    let (mut event, _, _) = accepted(1);
    // A name that no index can hold, for nothing in it repeats; the intake lets in none that long.
    event.name = (0..5_000).map(|number| accepted(number).0.id.to_string()).collect();
    let refused = Write::Accept(Accept {
        event,
        runs: Vec::new(),
        joins: Vec::new(),
        skips: Vec::new(),
        catalog: None,
    });
    let error = store.commit(&[accepted(2).2, refused]).await.expect_err("does not fit");
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    assert_eq!(
        store.commit(&[accepted(2).2]).await.expect("commits"),
        [Written::done()],
        "nothing of the batch had happened"
    );
}

//! Two stores on one database want the same buckets and locks: together they get what one would have got.

use callboard_actors::domain::{
    Cadence, Change, ClaimId, Json, LockClaim, NewRun, RateClaim, RunId, RunStatus, SingletonMode, SkipReason,
    Timestamp, Write, Written,
};
use callboard_actors::ports::{Store as _, StoreError};
use sqlx::{Connection as _, PgConnection, Row as _};

use super::super::PostgresStore;
use super::{accepted_at, advance, options};

const AT: Timestamp = Timestamp::from_millis(1_750_000_000_000);
const ROUNDS: i64 = 60;

fn claiming(number: i64, claim: impl Fn(&mut NewRun)) -> (RunId, Write) {
    let (_, state, write) = accepted_at(AT, number);
    let Write::Accept(mut accept) = write else {
        unreachable!("accepts")
    };
    claim(&mut accept.runs[0]);
    (state.id, Write::Accept(accept))
}

fn key(number: i64) -> Json {
    Json::from_value(&number).expect("a number")
}

async fn commit(store: &PostgresStore, batch: &[Write]) -> Vec<Written> {
    loop {
        match store.commit(batch).await {
            Ok(written) => return written,
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn is_created(written: &Written) -> bool {
    matches!(written, Written::Done { left_out, .. } if left_out.is_empty())
}

/// Sends its share of the events, all of one instant, and answers how many started runs.
async fn spend(store: PostgresStore, from: i64) -> usize {
    let mut passed = 0;
    for round in 0..ROUNDS {
        let batch: Vec<Write> = (0..12)
            .map(|n| {
                let (_, write) = claiming(from + round * 12 + n, |run| {
                    let key = key((round * 7 + n) % 40);
                    run.rate = Some(RateClaim {
                        bucket: ClaimId::of_rate(run.state.function, Some(("event.data.id", &key))),
                        rate: Cadence {
                            interval: 1_000_000_000,
                            tolerance: 2_000_000_000,
                        },
                        at: AT,
                        reason: SkipReason::RateLimited,
                        rule: String::new(),
                        refusal: None,
                    });
                });
                write
            })
            .collect();
        let written = commit(&store, &batch).await;
        passed += written.iter().filter(|written| is_created(written)).count();
    }
    passed
}

#[tokio::test]
async fn a_rate_limit_holds_for_all_instances_together() {
    let options = options();
    let store = PostgresStore::open(&options).await.expect("opens");
    let other = PostgresStore::open(&options).await.expect("opens");
    let (one, two) = tokio::join!(tokio::spawn(spend(store, 0)), tokio::spawn(spend(other, 100_000)));
    let (one, two) = (one.expect("spends"), two.expect("spends"));
    // Who of them gets how many is for the machine to say.
    assert_eq!(one + two, 40 * 3, "three at once for each of the keys");
}

/// Starts runs under a few locks and ends those it got, over and over. Answers how many it got.
async fn hold(store: PostgresStore, url: String, from: i64) -> usize {
    let mut conn = PgConnection::connect(&url).await.expect("connects");
    let (mut got, mut held): (usize, Vec<(RunId, ClaimId)>) = (0, Vec::new());
    for round in 0..ROUNDS {
        let ends = held.drain(..).map(|(run, lock)| {
            let ended = Change::Ended {
                status: RunStatus::Completed,
                output: Json::null(),
                at: AT,
            };
            advance(run, 0, vec![Change::Released(lock), ended])
        });
        let mut batch: Vec<Write> = ends.collect();
        let (first, mut asked) = (batch.len(), Vec::new());
        for n in 0..8 {
            let (id, write) = claiming(from + round * 8 + n, |run| {
                let key = key((round + n) % 5);
                let lock = ClaimId::of_lock(run.state.function, Some(("event.data.id", &key)));
                run.state.lock = Some(lock);
                run.lock = Some(LockClaim {
                    bucket: lock,
                    mode: if round % 9 == 0 {
                        SingletonMode::Cancel
                    } else {
                        SingletonMode::Skip
                    },
                    at: AT,
                    rule: "held by ".to_owned(),
                    refusal: None,
                });
            });
            let Write::Accept(accept) = &write else {
                unreachable!("accepts")
            };
            asked.push((id, accept.runs[0].state.lock.expect("has one")));
            batch.push(write);
        }
        let written = commit(&store, &batch).await;
        // A run may have lost its lock to the other; it ends all the same.
        assert!(written[..first].iter().all(|written| *written == Written::done()));
        held.extend(
            asked
                .into_iter()
                .zip(&written[first..])
                .filter(|(_, written)| is_created(written))
                .map(|(run, _)| run),
        );
        got += held.len();
        // At any instant: a lock is held by an open run, and whoever has lost it is to be cancelled.
        let wrong = "SELECT (SELECT count(*) FROM callboard.singletons
                WHERE NOT EXISTS (SELECT 1 FROM callboard.runs WHERE id = run_id AND ended_at IS NULL))
            + (SELECT count(*) FROM callboard.runs WHERE ended_at IS NULL AND singleton IS NOT NULL
                AND NOT EXISTS (SELECT 1 FROM callboard.singletons AS lock WHERE lock.run_id = runs.id)
                AND NOT EXISTS (SELECT 1 FROM callboard.jobs WHERE jobs.run_id = runs.id AND key = 'cancel'))";
        let row = sqlx::query(wrong).fetch_one(&mut conn).await.expect("reads");
        assert_eq!(row.get::<i64, _>(0), 0, "in round {round}");
    }
    got
}

#[tokio::test]
async fn a_lock_has_one_holder_among_all_instances() {
    let options = options();
    let url = options.exposed_url().to_owned();
    let store = PostgresStore::open(&options).await.expect("opens");
    let other = PostgresStore::open(&options).await.expect("opens");
    let one = tokio::spawn(hold(store, url.clone(), 0));
    let two = tokio::spawn(hold(other, url, 100_000));
    let (one, two) = (one.await.expect("holds"), two.await.expect("holds"));
    assert!(one > 0 && two > 0, "both had some: {one}, {two}");
}

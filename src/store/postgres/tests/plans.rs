//! The hot questions and every commit are answered from indexes, with tables that are empty or full, analysed or not: no
//! table is read from end to end, and no page is sorted.

use std::sync::OnceLock;
use std::time::Duration;

use callboard_actors::domain::{
    Accept, Cadence, Change, ClaimId, DeadLetter, DueBy, Fire, Gates, Gather, Gathering, GatheringId, HistoryEntry,
    HistoryKind, Job, JobId, JobKey, Join, Json, LockClaim, NewRun, RateClaim, RunState, RunStatus, SingletonMode,
    SkipReason, Step, StepId, StepOp, StepState, Timestamp, Wait, WaitKey, WaitKind, Write,
};
use callboard_actors::ports::{Check, GatheringBook as _, Store as _};
use callboard_backends::postgres::{Server, Settings};
use rstest::rstest;

use super::super::{
    Options, PostgresStore, audit, crons, deferrals, events, gatherings, jobs, letters, open::LOCAL_SESSION,
    operations, registration, retention, run_list, run_slots, runs, search, user_spans, waits,
};
use super::{accepted, advance};

/// A server that writes down the plan of every statement, those in functions included.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let further = [
            ("session_preload_libraries", "auto_explain"),
            ("auto_explain.log_min_duration", "0"),
            ("auto_explain.log_nested_statements", "on"),
            ("autovacuum", "off"),
        ];
        let settings = Settings {
            is_hasty: true,
            further: further.map(|(name, value)| (name, value.to_owned())).to_vec(),
        };
        Server::start(settings).expect("starts")
    })
}

/// Rows in all tables, as if the store had been busy.
const FILL: &str = "
    CREATE FUNCTION pg_temp.id(kind int, n int) RETURNS uuid LANGUAGE sql AS
        $$ SELECT (left(callboard.first_at(1750000000000 + n)::text, 13) || '-0000-0000-' || lpad(to_hex(kind), 12, '0'))::uuid $$;
    INSERT INTO callboard.events SELECT pg_temp.id(1, n), n, 1750000000000 + n, false, n::text, 'event/' || n % 50, '{}'
        FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.runs SELECT pg_temp.id(2, n), pg_temp.id(3, n % 20), pg_temp.id(1, n), NULL, NULL, NULL, 1, 1, n,
            CASE WHEN n % 10 > 0 THEN 1750000000000 + n END, 2, 0, false, n % 10 = 1,
            CASE WHEN n % 10 = 0 THEN 'running' WHEN n % 10 = 1 THEN 'failed' ELSE 'completed' END, 'event', '[]', NULL, '{}'
        FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.jobs SELECT pg_temp.id(2, n), pg_temp.id(3, n % 20), n, 0, 0, 'start', NULL
        FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.steps SELECT pg_temp.id(2, n), n, n, NULL, n, 0, false, false, 'run', 'step', 'step', '{}'
        FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.deferrals SELECT pg_temp.id(2, n), NULL, n, 'id', 'name', 'slug', 'pending' FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.user_spans SELECT pg_temp.id(2, n / 4), n, 2, n, '{}' FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.history SELECT pg_temp.id(2, n), n, n, 0, 'run.started', NULL, NULL
        FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.waits SELECT pg_temp.id(2, n), pg_temp.id(3, n % 20), pg_temp.id(4, n % 50),
            pg_temp.id(5, n % 3), pg_temp.id(6, n), n, n, 'step:a', 'event', 'name', 'path', 'key', NULL
        FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.skips SELECT pg_temp.id(1, n), 0, NULL, 'duplicate', '' FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.run_events SELECT pg_temp.id(1, n), pg_temp.id(2, n + 1) FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.unrouted SELECT pg_temp.id(1, n) FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.rate_limits SELECT pg_temp.id(8, n), n, n FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.singletons SELECT pg_temp.id(9, n), pg_temp.id(2, n * 10) FROM generate_series(1, 800) AS n;
    INSERT INTO callboard.run_slots SELECT pg_temp.id(2, n * 10), pg_temp.id(13, n % 80), pg_temp.id(3, 1), n, n, n % 10 = 0, 'r', 'k'
        FROM generate_series(1, 800) AS n;
    INSERT INTO callboard.gatherings SELECT pg_temp.id(10, n), pg_temp.id(11, n), pg_temp.id(3, n % 20), pg_temp.id(1, n),
            n, n, n, 1, 0, 1, n % 10 > 0, n % 2 > 0, false, 'timeout', NULL
        FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.gathering_events SELECT pg_temp.id(10, n), pg_temp.id(1, n), 0 FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.gathered_ids SELECT pg_temp.id(3, n % 20), pg_temp.id(12, n), n FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.crons SELECT pg_temp.id(3, n), n, n, NULL, NULL, '* * * * *' FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.cron_gaps SELECT pg_temp.id(3, n % 20), n, n, '* * * * *', 'down' FROM generate_series(1, 8000) AS n;
    INSERT INTO callboard.dead_letters SELECT pg_temp.id(2, n), pg_temp.id(3, 1), pg_temp.id(7, n), n, 0, 0, 'start', NULL, ''
        FROM generate_series(1, 8000) AS n;
";

/// Databases with the schema: empty, full, and full with statistics.
const DATABASES: [&str; 3] = ["empty", "filled", "analysed"];

async fn prepare() {
    static PREPARED: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    PREPARED
        .get_or_init(|| async {
            for name in DATABASES {
                let server = server();
                server
                    .sql("postgres", &format!("CREATE DATABASE {name}"))
                    .expect("runs");
                let store = PostgresStore::open(&Options::new(server.url(name))).await;
                drop(store.expect("opens"));
                if name != "empty" {
                    server.sql(name, FILL).expect("runs");
                }
                if name == "analysed" {
                    server.sql(name, "ANALYZE").expect("runs");
                }
            }
        })
        .await;
}

/// The steps of a statement's plan, as the sessions of the store see it.
fn plan(database: &str, sql: &str) -> String {
    let parameters = (1..=9).take_while(|number| sql.contains(&format!("${number}"))).count();
    // No partition holds what is unknown.
    let value = if sql == runs::HISTORY {
        "'0197733c-5a00-0000-0000-000000000000'"
    } else {
        "NULL"
    };
    let arguments = format!("({})", vec![value; parameters].join(", "));
    let script = format!(
        "BEGIN; {LOCAL_SESSION}; SET LOCAL plan_cache_mode = force_generic_plan; PREPARE question AS {sql};
        EXPLAIN (COSTS OFF) EXECUTE question{arguments}; ROLLBACK"
    );
    server().sql(database, &script).expect("is valid")
}

#[rstest]
#[case(jobs::DUE, &["Index Scan using jobs_due on jobs"])]
#[case(jobs::NEXT_DUE, &["Index Only Scan using jobs_due on jobs"])]
#[case(jobs::STARTS, &["Index Scan Backward using runs_by_function on runs"])]
#[case(letters::LIST, &["Index Scan Backward using dead_letters_by_id on dead_letters"])]
#[case(letters::BY_ID, &["Index Scan using dead_letters_by_id on dead_letters"])]
#[case(letters::OF_RUNS, &["Index Scan using dead_letters_pkey on dead_letters"])]
#[case(deferrals::OF_RUN, &["using deferrals_pkey on deferrals"])]
#[case(user_spans::ROOM, &["using user_spans_pkey on user_spans"])]
#[case(user_spans::KNOWN, &["using user_spans_pkey on user_spans"])]
#[case(user_spans::OF_RUN, &["using user_spans_pkey on user_spans"])]
#[case(crons::MARKS_OF, &["Index Scan using crons_pkey on crons"])]
#[case(crons::GAPS, &["Index Scan using cron_gaps_pkey on cron_gaps"])]
#[case(crons::TICKS, &["events_pkey", "runs_pkey", "skips_pkey"])]
#[case(crons::OLD[0], &["cron_gaps_by_last"])]
#[case(crons::OLD[1], &["crons_ended"])]
#[case(gatherings::DUE, &["Index Scan using gatherings_due on gatherings"])]
#[case(gatherings::NEXT, &["using gatherings_due on gatherings"])]
#[case(gatherings::OF_FUNCTION, &["Index Scan using gatherings_by_function on gatherings"])]
#[case(gatherings::ONE, &["Index Scan using gatherings_pkey on gatherings"])]
#[case(gatherings::OF_EVENT, &["gatherings_pkey", "gathering_events_by_event"])]
#[case(gatherings::MEMBERS, &["gathering_events_pkey", "events_pkey"])]
#[case(gatherings::DELETE_KEYS, &["gathered_ids_until", "gathered_ids_pkey"])]
#[case(waits::FIND, &["Index Scan using waits_lookup on waits"])]
#[case(waits::PATHS, &["Index Scan using waits_lookup on waits"])]
#[case(events::LIST_ALL, &["Index Scan Backward using events_pkey on events"])]
#[case(events::LIST_NAMED, &["Index Scan Backward using events_by_name on events"])]
#[case(events::NAMED, &["Index Scan using events_by_name on events"])]
#[case(events::UNROUTED, &["using unrouted_pkey on unrouted", "using events_pkey on events"])]
#[case(events::BY_ID, &["events_pkey"])]
#[case(events::RUNS, &["runs_pkey", "run_events_pkey"])]
#[case(events::SKIPS, &["Index Scan using skips_pkey on skips"])]
#[case(run_list::ALL, &["Index Scan Backward using runs_pkey on runs"])]
#[case(run_list::OPEN, &["Index Scan Backward using runs_open on runs"])]
#[case(run_list::UNSUCCESSFUL, &["Index Scan Backward using runs_unsuccessful on runs"])]
#[case(run_list::OF_SOME, &["Index Scan Backward using runs_by_function on runs"])]
#[case(run_list::OF_MANY, &["Index Scan Backward using runs_pkey on runs"])]
#[case(operations::LIST, &["Index Scan Backward using operations_pkey on operations"])]
#[case(operations::OPEN, &["Index Scan using operations_open on operations"])]
#[case(operations::NEWEST, &["using runs_by_original on runs"])]
#[case(operations::COUNT_ALL, &["Index Scan using runs_pkey on runs"])]
#[case(operations::COUNT_OPEN, &["Index Scan using runs_open on runs"])]
#[case(operations::COUNT_UNSUCCESSFUL, &["Index Scan using runs_unsuccessful on runs"])]
#[case(operations::COUNT_OF, &["runs_by_function"])]
#[case(registration::OPEN_RUNS, &["using runs_open on runs"])]
#[case(search::PAGES[0], &["Index Scan Backward using events_pkey on events"])]
#[case(search::PAGES[1], &["Index Scan Backward using events_by_name on events"])]
#[case(search::PAGES[2], &["Index Scan Backward using events_pkey on events"])]
#[case(search::RUNS_OF_EVENTS, &["runs_pkey", "run_events_pkey"])]
#[case(run_slots::PLACE, &["run_slots_pkey", "run_slots_by_bucket", "runs_pkey"])]
#[case(run_slots::STANDING, &["run_slots_by_bucket", "runs_pkey"])]
#[case(run_slots::CLAIMANTS, &["run_slots_pkey"])]
#[case(run_slots::CLEAR, &["run_slots_by_bucket", "runs_pkey"])]
#[case(run_slots::CROWDED, &["run_slots_by_bucket"])]
#[case(runs::STATES, &["Index"])]
#[case(runs::BODIES, &["events_pkey"])]
#[case(runs::STEPS, &["steps_pkey"])]
#[case(runs::JOB_KEYS, &["jobs_pkey"])]
#[case(runs::SUMMARY, &["runs_pkey"])]
#[case(runs::HISTORY, &["history_default_pkey"])]
#[case(runs::JOBS, &["jobs_pkey"])]
#[case(runs::WAITS, &["waits_pkey"])]
#[case(runs::ORPHANS, &["using runs_open on runs", "using jobs_pkey on jobs", "using dead_letters_pkey on dead_letters"])]
#[case(retention::OLD_RUNS, &["Index Scan using runs_pkey on runs"])]
#[case(retention::OLD_RATES, &["Index Scan using rate_limits_next on rate_limits"])]
#[case(retention::OLD_EVENTS, &["using events_pkey on events", "runs_pkey", "run_events_pkey", "unrouted_pkey"])]
#[tokio::test]
async fn questions_are_answered_from_an_index(#[case] sql: &str, #[case] expected: &[&str]) {
    prepare().await;
    for database in DATABASES {
        let plan = plan(database, sql);
        for step in expected {
            assert!(plan.contains(step), "{database}: no `{step}` in\n{plan}");
        }
        assert!(!plan.contains("Seq Scan"), "{database}:\n{plan}");
        // Only small things are sorted: what few lookups or one event have found.
        let may_sort = [
            waits::FIND,
            events::RUNS,
            gatherings::MEMBERS,
            gatherings::OF_EVENT,
            run_list::OF_SOME,
            operations::COUNT_OF,
            runs::STEPS,
            deferrals::OF_RUN,
            user_spans::OF_RUN,
            search::RUNS_OF_EVENTS,
        ];
        let is_sort = |line: &str| {
            line.trim_start()
                .trim_start_matches("->  ")
                .trim_end()
                .ends_with("Sort")
        };
        assert!(
            may_sort.contains(&sql) || !plan.lines().any(is_sort),
            "{database}:\n{plan}"
        );
    }
}

fn job(state: &RunState, key: JobKey, due: Timestamp) -> Job {
    Job {
        id: JobId { run: state.id, key },
        function: state.function,
        attempt: 0,
        due,
        priority: state.priority,
        payload: None,
        gates: Gates::NONE,
    }
}

fn ended(at: Timestamp) -> Change {
    Change::Ended {
        status: RunStatus::Completed,
        output: Json::null(),
        at,
    }
}

fn lock() -> ClaimId {
    ClaimId::of_lock(accepted(1).1.function, None)
}

/// Has a run claim everything that may be claimed.
fn claim(run: &mut NewRun, mode: SingletonMode) {
    let at = run.state.id.at();
    run.rate = Some(RateClaim {
        bucket: ClaimId::of_rate(run.state.function, None),
        rate: Cadence {
            interval: 1,
            tolerance: 0,
        },
        at,
        reason: SkipReason::RateLimited,
        rule: String::new(),
        refusal: Some(Box::new(accepted(500 + at.as_millis() % 100).0)),
    });
    run.state.lock = Some(lock());
    run.lock = Some(LockClaim {
        bucket: lock(),
        mode,
        at,
        rule: String::new(),
        refusal: None,
    });
}

/// One decision with a change of every kind.
fn everything(at: Timestamp) -> Vec<Change> {
    let (event, _, _) = accepted(99);
    let (_, state, _) = accepted(1);
    let step = StepId::from("a");
    let job = |key| job(&state, key, at);
    let wait = |key: &str, kind| Wait {
        run: state.id,
        function: state.function,
        key: WaitKey::Step(StepId::from(key)),
        kind,
        name: key.to_owned(),
        lookup: None,
        condition: None,
        created_at: at,
        expires_at: at,
    };
    vec![
        Change::StepPut(Step {
            id: step.clone(),
            op: StepOp::Run,
            label: "a".to_owned(),
            race: false,
            started_at: at,
            state: StepState::Planned,
        }),
        Change::JobDone(JobKey::Start),
        Change::JobPut(job(JobKey::Step(step.clone()))),
        Change::WaitPut(wait("event", WaitKind::Event)),
        Change::WaitPut(wait("signal", WaitKind::Signal)),
        Change::WaitDone(WaitKey::Step(StepId::from("never there"))),
        Change::Emit {
            event,
            has_listeners: true,
        },
        Change::Noted(HistoryEntry {
            at,
            kind: HistoryKind::RunStarted,
            step: Some(step),
            attempt: 0,
            detail: None,
        }),
        Change::Unburied(JobKey::Cancel),
        Change::Buried(DeadLetter::new(job(JobKey::Start), String::new(), 0, at)),
    ]
}

/// An event that joins a debounce or, if its number is odd, a batch of two, in which it takes another one's place.
fn gathering(number: i64, at: Timestamp) -> Write {
    let (event, state, _) = accepted(number);
    let function = state.function;
    let gather = if number % 2 == 0 {
        Gather::Debounce {
            period: Duration::from_secs(5),
            timeout: None,
        }
    } else {
        Gather::Batch {
            max_size: 3,
            timeout: Duration::from_secs(5),
        }
    };
    let join = Join {
        id: GatheringId::derive(at, event.id, function),
        function,
        event: event.id,
        bucket: match gather {
            Gather::Debounce { .. } => ClaimId::of_debounce(function, None),
            Gather::Batch { .. } => ClaimId::of_batch(function, None),
        },
        gather,
        key: None,
        at,
        ts: event.ts,
        bytes: 1,
        // Every other one of a pair is known.
        idempotency: Some(format!("own {}", number % 10 / 4)),
        is_awaited: false,
        rate: None,
    };
    Write::Accept(Accept {
        event,
        runs: Vec::new(),
        joins: vec![
            Join {
                idempotency: None,
                ..join.clone()
            },
            Join {
                bucket: ClaimId::of_batch(function, Some(("event.data.id", &Json::null()))),
                gather: Gather::Batch {
                    max_size: 3,
                    timeout: Duration::from_secs(5),
                },
                id: GatheringId::new(at, number.unsigned_abs().into()),
                ..join
            },
        ],
        skips: Vec::new(),
        catalog: None,
    })
}

fn firing(gathering: &Gathering) -> Write {
    Write::Fire(Fire {
        gathering: gathering.id,
        bucket: gathering.bucket,
        is_batch: gathering.is_batch,
        due_by: DueBy::Request,
        version: gathering.version,
        runs: Vec::new(),
        skips: Vec::new(),
        answers: Vec::new(),
        catalog: Some(0),
    })
}

#[tokio::test]
async fn a_commit_looks_rows_up_one_by_one() {
    use callboard_actors::domain::{Route, Take};
    prepare().await;
    let at = Timestamp::from_millis(1_750_000_000_000);
    for database in DATABASES {
        let marker = format!("plans of {database}");
        server().sql(database, &format!("SELECT '{marker}'")).expect("runs");
        let store = PostgresStore::open(&Options::new(server().url(database)))
            .await
            .expect("opens");
        let (_, state, write) = accepted(1);
        let (_, _, other) = accepted(2);
        let keyed = |write: Write| match write {
            Write::Accept(mut accept) => {
                accept.runs[0].idempotency = Some("key".to_owned());
                Write::Accept(accept)
            }
            other => other,
        };
        // Two for each bucket: what the database holds, and what the batch brings.
        let claiming = |numbers: std::ops::Range<i64>, mode| {
            let writes = numbers.map(move |number| match accepted(number).2 {
                Write::Accept(mut accept) => {
                    claim(&mut accept.runs[0], mode);
                    Write::Accept(accept)
                }
                other => other,
            });
            writes.collect::<Vec<_>>()
        };
        let releasing = |number| {
            let run = accepted(number).1.id;
            advance(run, 0, vec![Change::Released(lock()), ended(at)])
        };
        let taken = job(&state, JobKey::Resume(StepId::from("event")), at);
        let batches = [
            // One that is known, so that what losers cause happens as well.
            vec![keyed(write.clone()), keyed(other)],
            vec![write],
            vec![advance(state.id, 0, everything(at))],
            vec![Write::Route(Route {
                event: accepted(99).0.id,
                runs: Vec::new(),
                joins: Vec::new(),
                skips: Vec::new(),
                takes: vec![Take {
                    run: state.id,
                    key: WaitKey::Step(StepId::from("event")),
                    job: taken,
                }],
                catalog: Some(0),
            })],
            vec![advance(state.id, 1, vec![ended(at)])],
            claiming(200..203, SingletonMode::Skip),
            claiming(210..213, SingletonMode::Cancel),
            claiming(220..223, SingletonMode::Skip),
            vec![releasing(212)],
        ];
        for batch in batches {
            store.commit(&batch).await.expect("commits");
        }
        // Two for each gathering, once that are new and once that are stored.
        for number in [300, 310] {
            let writes: Vec<_> = (number..number + 4).map(|number| gathering(number, at)).collect();
            store.commit(&writes).await.expect("commits");
        }
        let function = accepted(1).1.function;
        let fires: Vec<_> = store.gatherings(function, None, 100).await.expect("reads");
        assert!(fires.len() >= 2, "{fires:?}");
        store
            .commit(&fires.iter().map(firing).collect::<Vec<_>>())
            .await
            .expect("commits");
        store.close().await.expect("closes");
        check(&server().log(), &marker);
    }
}

#[tokio::test]
async fn checks_walk_through_bounded_rows_only() {
    prepare().await;
    for check in Check::ALL {
        let sql = audit::statement(*check);
        assert!(sql.contains("LIMIT $1"), "{}", check.code());
        for database in DATABASES {
            let plan = plan(database, sql);
            assert!(!plan.contains("Seq Scan"), "{database}, {}:\n{plan}", check.code());
            // What is read from end to end is what the limit stops; the rest has a condition.
            let lines: Vec<&str> = plan.lines().collect();
            let unbounded = lines.iter().enumerate().filter(|(index, line)| {
                let is_scan = line.contains("Index Scan") || line.contains("Index Only Scan");
                let next = lines.get(index + 1).copied().unwrap_or_default();
                is_scan && !next.contains("Index Cond:") && !lines[index - 1].contains("Limit")
            });
            assert_eq!(unbounded.count(), 0, "{database}, {}:\n{plan}", check.code());
        }
    }
}

/// What the server wrote of a store's commits: every table is found through an index with a condition.
fn check(log: &str, marker: &str) {
    let log = &log[log.find(marker).expect("was written")..];
    let plans: Vec<&str> = log
        .split("LOG:  duration:")
        .filter(|plan| plan.contains("callboard."))
        .collect();
    let mut statements = 0;
    for plan in plans {
        // Statements of `open` and the one that calls the functions are not about rows.
        if !plan.contains("unnest(") && !plan.contains("ANY (") {
            continue;
        }
        statements += 1;
        assert!(!plan.contains("Seq Scan"), "{plan}");
        let lines: Vec<&str> = plan.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            // A rewritten statement shows only what it does, and an index without a condition is read from end to end.
            let is_scan = line.contains("Index Scan using") || line.contains("Index Only Scan using");
            let has_condition = lines.get(index + 1).is_some_and(|next| next.contains("Index Cond:"));
            assert!(!is_scan || has_condition, "{plan}");
        }
    }
    assert!(statements >= 15, "{statements} statements of {marker}");
}

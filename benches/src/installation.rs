//! What is measured: the instances of the server, and the PostgreSQL and Redis they share.
//!
//! Promises: everything that was started ends with the value, instances first.
//! Never: measures anything but what belongs to it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use callboard_backends::postgres::{self, Server as Postgres};
use callboard_backends::redis::Redis;
use clap::ValueEnum;

use crate::process::ProcessId;
use crate::seed::Place;
use crate::server::Server;

/// Keys of the installation under test. They guard nothing: it listens on loopback, and is gone soon.
const SIGNING_KEY: &str = "signkey-bench-00112233445566778899aabbccddeeff";
const EVENT_KEY: &str = "bench-event-key";

/// The file of statements as PostgreSQL counts them, which it loads at its start.
const STATEMENTS: &str = "pg_stat_statements";

/// How long instances may take to hear of an app that was registered with one of them.
const CATALOG_DEADLINE: Duration = Duration::from_secs(30);

/// What keeps the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// `callboard dev`, with the store and the queue built in.
    Embedded,
    /// `callboard start` with keys, on a PostgreSQL and a Redis of its own.
    Production,
}

/// How an installation is started.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) binary: PathBuf,
    pub(crate) backend: Backend,
    pub(crate) instances: usize,
    /// For every instance.
    pub(crate) server_args: Vec<String>,
    /// Whether PostgreSQL counts its statements, which costs it a little.
    pub(crate) counts_statements: bool,
}

#[derive(Debug)]
pub(crate) struct Installation {
    /// Dropped before the backends: nobody looks for a database that has gone.
    pub(crate) instances: Vec<Server>,
    pub(crate) backends: Option<Backends>,
    plan: Option<Plan>,
}

/// The servers behind an installation of production.
#[derive(Debug)]
pub(crate) struct Backends {
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
    database: String,
}

/// Processes that are one part of the installation.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    processes: Vec<ProcessId>,
    /// Whether its memory is that of many processes, which share most of it.
    is_tree: bool,
}

impl Installation {
    /// Uses a server that runs already.
    pub(crate) fn attach(url: &str, pid: Option<u32>) -> Self {
        Self {
            instances: vec![Server::attach(url, pid)],
            backends: None,
            plan: None,
        }
    }

    /// Starts what the plan asks for, and waits until it answers.
    pub(crate) async fn start(plan: Plan, client: &awc::Client) -> anyhow::Result<Self> {
        let backends = match plan.backend {
            Backend::Embedded => None,
            Backend::Production => Some(Backends::start(plan.counts_statements)?),
        };
        let count = plan.instances;
        let mut installation = Self {
            instances: Vec::new(),
            backends,
            plan: Some(plan),
        };
        for _ in 0..count {
            installation.add_instance(client).await?;
        }
        Ok(installation)
    }

    /// Starts one more instance.
    pub(crate) async fn add_instance(&mut self, client: &awc::Client) -> anyhow::Result<()> {
        let plan = self.plan.as_ref().context("the server was not started here")?;
        let server = match &self.backends {
            None => Server::start(&plan.binary, "dev", &[], &plan.server_args),
            Some(backends) => Server::start(&plan.binary, "start", &backends.environment(), &plan.server_args),
        };
        self.instances.push(server?);
        let server = self.instances.last_mut().context("it was just added")?;
        server.ready(client).await
    }

    /// Kills all instances; what they keep stays.
    pub(crate) fn stop(&mut self) {
        self.instances.iter_mut().for_each(Server::kill);
    }

    /// Starts them again, and waits until they answer.
    pub(crate) async fn restart(&mut self, client: &awc::Client) -> anyhow::Result<()> {
        for server in &mut self.instances {
            server.restart()?;
            server.ready(client).await?;
        }
        Ok(())
    }

    /// Where the truth is kept.
    pub(crate) fn place(&self) -> anyhow::Result<Place<'_>> {
        match &self.backends {
            Some(backends) => Ok(Place::Postgres(backends.postgres.url(&backends.database))),
            None => {
                let data = self.instances.first().and_then(Server::data);
                Ok(Place::Sqlite(data.context("the server was not started here")?))
            }
        }
    }

    /// Waits until every instance has this function.
    pub(crate) async fn has_function(&self, slug: &str, client: &awc::Client) -> anyhow::Result<()> {
        let deadline = Instant::now() + CATALOG_DEADLINE;
        let expected = format!("\"{slug}\"");
        for server in &self.instances {
            let target = format!("{}/api/v1/functions", server.url);
            loop {
                let mut request = client.get(&target);
                if let Some(key) = self.api_key() {
                    request = request.bearer_auth(key);
                }
                let mut answer = match request.send().await {
                    Ok(answer) => answer,
                    Err(error) => bail!("GET {target}: {error}"),
                };
                let body = answer.body().await?;
                ensure!(answer.status().is_success(), "GET {target}: {}", answer.status());
                if String::from_utf8_lossy(&body).contains(&expected) {
                    break;
                }
                ensure!(Instant::now() < deadline, "{target} does not show {slug}");
                actix_rt::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// What the API wants as a bearer.
    pub(crate) fn api_key(&self) -> Option<&'static str> {
        self.backends.as_ref().map(|_| SIGNING_KEY)
    }

    /// What events are sent with; any key will do where there are none.
    pub(crate) fn event_key(&self) -> &'static str {
        EVENT_KEY
    }

    /// All parts, the server first.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part {
            name: "server",
            processes: self.instances.iter().filter_map(|server| server.process).collect(),
            is_tree: false,
        }];
        if let Some(backends) = &self.backends {
            let mut add = |name, id: anyhow::Result<u32>, is_tree| {
                let processes = id.into_iter().map(ProcessId).collect();
                parts.push(Part {
                    name,
                    processes,
                    is_tree,
                });
            };
            add("PostgreSQL", backends.postgres.id(), true);
            add("Redis", backends.redis.id(), false);
        }
        parts
    }

    /// The last lines of each instance.
    pub(crate) fn last_output(&self) -> String {
        let outputs = self.instances.iter().map(Server::last_output);
        outputs
            .filter(|output| !output.is_empty())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Backends {
    /// A PostgreSQL that waits for the disk at every commit, and a Redis that keeps nothing. All else as they come.
    fn start(counts_statements: bool) -> anyhow::Result<Self> {
        let mut further = vec![
            ("shared_buffers", "128MB".to_owned()),
            ("synchronous_commit", "on".to_owned()),
        ];
        if counts_statements {
            further.push(("shared_preload_libraries", STATEMENTS.to_owned()));
            // The statements of functions, too.
            further.push(("pg_stat_statements.track", "all".to_owned()));
        }
        let postgres = Postgres::start(postgres::Settings {
            is_hasty: false,
            further,
        })?;
        let url = postgres.create_database()?;
        let database = url.rsplit('/').next().unwrap_or_default().to_owned();
        if counts_statements {
            postgres.sql("postgres", &format!("CREATE EXTENSION {STATEMENTS}"))?;
        }
        Ok(Self {
            postgres,
            redis: Redis::start()?,
            database,
        })
    }

    fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("CALLBOARD__DATABASE__URL", self.postgres.url(&self.database)),
            ("CALLBOARD__REDIS__URL", self.redis.url()),
            ("CALLBOARD__KEYS__SIGNING", SIGNING_KEY.to_owned()),
            ("CALLBOARD__KEYS__EVENT", EVENT_KEY.to_owned()),
        ]
    }

    /// Transactions of the database so far, whoever began them. A statement on its own is one.
    pub(crate) fn transactions(&self) -> anyhow::Result<f64> {
        let sql = format!(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{}'",
            self.database
        );
        // Asked in another database, so that the question is not counted.
        Ok(self.postgres.sql("postgres", &sql)?.parse()?)
    }

    /// Requests that Redis has read so far, this one included; one may hold several commands.
    pub(crate) fn requests(&self) -> anyhow::Result<f64> {
        let info = self.redis.cli(&["INFO", "stats"])?;
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("total_reads_processed:"));
        Ok(line.context("Redis 7 counts what it reads")?.trim().parse()?)
    }

    /// When the session that is not renewed any more expires, in milliseconds of the Unix epoch: the one whose end is as it
    /// was `before`.
    pub(crate) fn dead_session(&self, before: &[(String, i64)]) -> anyhow::Result<Option<i64>> {
        let now = self.sessions()?;
        Ok(now
            .into_iter()
            .find(|session| before.contains(session))
            .map(|(_, end)| end))
    }

    /// The sessions of the instances, with when they expire.
    pub(crate) fn sessions(&self) -> anyhow::Result<Vec<(String, i64)>> {
        let listed = self
            .redis
            .cli(&["ZRANGE", "{callboard}:sessions", "0", "-1", "WITHSCORES"])?;
        let lines: Vec<&str> = listed.lines().collect();
        let sessions = lines.chunks_exact(2).map(|pair| {
            let end = pair[1].parse::<i64>()?;
            anyhow::Ok((pair[0].to_owned(), end))
        });
        sessions.collect()
    }

    /// Forgets what was counted of statements and commands.
    pub(crate) fn reset_statistics(&self) -> anyhow::Result<()> {
        self.postgres.sql("postgres", &format!("SELECT {STATEMENTS}_reset()"))?;
        self.redis.cli(&["CONFIG", "RESETSTAT"])?;
        Ok(())
    }

    /// The statements that took the most time, and the commands of Redis, since they were last forgotten.
    pub(crate) fn statistics(&self) -> anyhow::Result<String> {
        let sql = format!(
            "SELECT lpad(calls::text, 9) || lpad(round(total_exec_time::numeric)::text, 9)
                 || lpad(round(mean_exec_time::numeric, 3)::text, 10) || lpad(rows::text, 10) || lpad(wal_bytes::text, 12)
                 || '  ' || left(regexp_replace(query, '\\s+', ' ', 'g'), 110)
             FROM {STATEMENTS} JOIN pg_database ON pg_database.oid = dbid
             WHERE datname = '{}' ORDER BY total_exec_time DESC LIMIT 12",
            self.database
        );
        let statements = self.postgres.sql("postgres", &sql)?;
        let commands = self.redis.cli(&["INFO", "commandstats"])?;
        let commands: Vec<&str> = commands.lines().filter(|line| line.starts_with("cmdstat_")).collect();
        Ok(format!(
            "    calls       ms   ms each      rows   WAL bytes  statement\n{statements}\n{}\n",
            commands.join("\n")
        ))
    }
}

impl Part {
    /// CPU time used so far, in milliseconds, to 10 ms.
    pub(crate) fn cpu_ms(&self) -> Option<f64> {
        self.sum(ProcessId::cpu_ms)
    }

    /// The same to the nanosecond; see [`ProcessId::precise_cpu_ms`].
    pub(crate) fn precise_cpu_ms(&self) -> Option<f64> {
        self.sum(ProcessId::precise_cpu_ms)
    }

    /// Memory in MiB, and what it is called: resident, or proportional where processes share most of theirs.
    pub(crate) fn memory_mib(&self) -> (&'static str, Option<f64>) {
        let mib = |kib: u64| kib as f64 / 1024.0;
        if self.is_tree {
            ("PSS", self.sum(|process| process.tree_pss_kib().map(mib)))
        } else {
            (
                "RSS",
                self.sum(|process| process.memory().map(|memory| mib(memory.rss_kib))),
            )
        }
    }

    /// Proportional memory in MiB.
    pub(crate) fn pss_mib(&self) -> Option<f64> {
        self.sum(|process| process.tree_pss_kib().map(|kib| kib as f64 / 1024.0))
    }

    /// None if one of them can't be measured, or there is none.
    fn sum(&self, measure: impl Fn(ProcessId) -> Option<f64>) -> Option<f64> {
        let all: Option<Vec<f64>> = self.processes.iter().map(|process| measure(*process)).collect();
        all.filter(|all| !all.is_empty()).map(|all| all.iter().sum())
    }
}

/// The plan of an installation, with the binary found.
///
/// # Errors
/// Without a binary, or with several instances of a server that shares nothing.
pub(crate) fn plan(
    binary: Option<&Path>,
    backend: Backend,
    instances: usize,
    server_args: &[String],
    counts_statements: bool,
) -> anyhow::Result<Plan> {
    ensure!(
        backend == Backend::Production || instances == 1,
        "several instances share a database and a queue: --backend production"
    );
    Ok(Plan {
        binary: crate::server::find_binary(binary)?,
        backend,
        instances,
        server_args: server_args.to_vec(),
        counts_statements,
    })
}

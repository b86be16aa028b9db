//! An installation: PostgreSQL, Redis, and several `callboard start` that share them.
//!
//! Promises: everything is on free ports of the loopback address with private data, and ends with its value or with the
//! test's process, by process id. Leases are as short as settings allow, so that tests need not wait long for them to expire.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::{Duration, Instant};

use callboard_backends::postgres;
use callboard_backends::redis::Redis;

use super::server::{Builder as ServerBuilder, Server};
use super::{DEADLINE, wait_for};

/// How long an instance may be silent until others take over its work.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// The database of an installation that has a server of its own.
const DATABASE: &str = "callboard";

/// How an installation is to be started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Builder {
    server: ServerBuilder,
    instances: usize,
    has_own_database: bool,
}

impl Builder {
    /// With a PostgreSQL server of its own, to be killed. Otherwise it has a database of a server that tests share.
    pub(crate) fn own_database(mut self) -> Self {
        self.has_own_database = true;
        self
    }

    /// So many instances are started at once; two if not said.
    pub(crate) fn instances(mut self, instances: usize) -> Self {
        self.instances = instances;
        self
    }

    /// An environment variable of every instance.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.server = self.server.env(name, value);
        self
    }

    /// A flag of every instance.
    pub(crate) fn flag(mut self, name: &str, value: &str) -> Self {
        self.server = self.server.flag(name, value);
        self
    }

    /// Starts everything, and waits until all of it takes work.
    pub(crate) fn start(self) -> Installation {
        let instances = self.instances;
        let mut installation = self.begin(true);
        for _ in 0..instances {
            installation.add();
        }
        installation
    }

    /// PostgreSQL and Redis, both running or both down, and no instance yet.
    pub(crate) fn begin(self, are_up: bool) -> Installation {
        let postgres = if self.has_own_database {
            let settings = postgres::Settings {
                // The machine stays up, so commits need not reach the disk.
                is_hasty: true,
                // When a row became true, for audits.
                further: vec![("track_commit_timestamp", "on".to_owned())],
            };
            let server = postgres::Server::start(settings).expect("PostgreSQL starts");
            server
                .sql("postgres", &format!("CREATE DATABASE {DATABASE}"))
                .expect("a database can be made");
            Postgres::Own(Box::new(server))
        } else {
            Postgres::Shared
        };
        let database = match &postgres {
            Postgres::Own(server) => server.url(DATABASE),
            Postgres::Shared => postgres::Server::shared()
                .create_database()
                .expect("a database can be made"),
        };
        let redis = Redis::start().expect("Redis starts");
        let mut installation = Installation {
            servers: Vec::new(),
            template: self.server,
            redis,
            postgres,
            database,
        };
        if !are_up {
            installation
                .postgres()
                .stop_immediate()
                .expect("PostgreSQL can be stopped");
            installation.redis.kill().expect("Redis can be killed");
        }
        installation
    }
}

#[derive(Debug)]
enum Postgres {
    Own(Box<postgres::Server>),
    Shared,
}

/// The installation. Its instances are [`Server`]s, by index.
#[derive(Debug)]
pub(crate) struct Installation {
    /// Before what they depend on, so that they end before it.
    servers: Vec<Server>,
    template: ServerBuilder,
    pub(crate) redis: Redis,
    postgres: Postgres,
    database: String,
}

impl Installation {
    /// With attempts one second apart.
    pub(crate) fn builder() -> Builder {
        let server = Server::builder()
            .production()
            .flag("--retry-interval", "1")
            .env("CALLBOARD__REDIS__SESSION_TTL", &format!("{}s", LEASE.as_secs()));
        Builder {
            server,
            instances: 2,
            has_own_database: false,
        }
    }

    /// The settings of the next instance, without those that are its own.
    pub(crate) fn template(&mut self) -> &mut ServerBuilder {
        &mut self.template
    }

    /// How an instance is started.
    fn instance(&self) -> ServerBuilder {
        self.template
            .clone()
            .flag("--database-url", &self.database)
            .flag("--redis-url", &self.redis.url())
            .env("CALLBOARD__NODE__NAME", &format!("node-{}", self.servers.len()))
    }

    /// Starts one more instance, and waits until it takes work. Answers its index.
    pub(crate) fn add(&mut self) -> usize {
        let index = self.begin();
        self.servers[index].wait_until_up();
        index
    }

    /// Starts one more instance without waiting. Answers its index.
    pub(crate) fn begin(&mut self) -> usize {
        self.servers.push(self.instance().begin());
        self.servers.len() - 1
    }

    /// The URL of the database.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// The server of its own.
    #[track_caller]
    pub(crate) fn postgres(&mut self) -> &mut postgres::Server {
        match &mut self.postgres {
            Postgres::Own(server) => server,
            Postgres::Shared => panic!("this installation has no PostgreSQL server of its own"),
        }
    }

    /// What a statement answers in the installation's database, without decoration.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> String {
        let name = self.database.rsplit('/').next().unwrap_or_default();
        let server = match &self.postgres {
            Postgres::Own(server) => server,
            Postgres::Shared => postgres::Server::shared(),
        };
        let answer = server.sql(name, sql);
        answer
            .unwrap_or_else(|error| panic!("{sql}: {error:#}"))
            .trim()
            .to_owned()
    }

    /// Waits until a query answers this.
    #[track_caller]
    pub(crate) fn wait_for_sql(&self, sql: &str, expected: &str) {
        let start = Instant::now();
        loop {
            let found = self.sql(sql);
            if found == expected {
                return;
            }
            assert!(start.elapsed() < DEADLINE, "{sql} answers {found}, not {expected}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until so many steps of a run have a result.
    #[track_caller]
    pub(crate) fn wait_for_steps(&self, run: &str, count: usize) {
        wait_for(&format!("{count} steps of run {run}"), DEADLINE, || {
            let sql = format!(
                "SELECT count(*) FROM callboard.steps WHERE run_id = callboard.from_ulid('{run}') AND position IS NOT NULL"
            );
            (self.sql(&sql) == count.to_string()).then_some(())
        });
    }

    /// Writes what all instances have logged and the rows of all tables into a directory, for people.
    pub(crate) fn keep(&self, dir: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(dir)?;
        for (index, server) in self.servers.iter().enumerate() {
            std::fs::write(dir.join(format!("node-{index}.log")), server.log())?;
        }
        let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'callboard'";
        for table in self.sql(tables).lines() {
            let rows = self.sql(&format!("SELECT row_to_json(t) FROM callboard.{table} AS t"));
            std::fs::write(dir.join(format!("{table}.json")), rows)?;
        }
        Ok(())
    }

    /// What a failing test has to show.
    pub(crate) fn diagnosis(&self) -> String {
        self.servers.iter().map(Server::diagnosis).collect()
    }
}

impl Deref for Installation {
    type Target = [Server];

    fn deref(&self) -> &[Server] {
        &self.servers
    }
}

impl DerefMut for Installation {
    fn deref_mut(&mut self) -> &mut [Server] {
        &mut self.servers
    }
}

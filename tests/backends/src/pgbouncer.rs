//! A transaction pooler in front of a PostgreSQL server: every transaction may get another connection.
//!
//! It ends like the server itself, with the pipe that a shell reads from.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::postgres::{Server, chown_to, unprivileged_command};

/// Starts the pooler ($1: configuration, $2: directory), passes on what it writes until it listens, and ends it with the
/// input.
const KEEPER: &str = r#"
PATH=$PATH:/usr/sbin
pgbouncer "$1" </dev/null 2>&1 &
pid=$!
read -r _
kill -INT "$pid" 2>/dev/null
wait "$pid" 2>/dev/null
rm -rf "$2"
"#;
/// What it writes when it takes connections.
const READY: &str = "process up";

/// A running pooler.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    keeper: Child,
    leash: Option<ChildStdin>,
    _directory: TempDir,
}

impl PgBouncer {
    /// Starts one for all databases of this server.
    ///
    /// # Errors
    /// Without `pgbouncer`, or when it does not start.
    pub fn start(server: &Server) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("callboard-pgbouncer-").tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let configuration = directory.path().join("pgbouncer.ini");
        fs::write(
            &configuration,
            format!(
                "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
                 max_client_conn = 1000\ndefault_pool_size = 3\nserver_idle_timeout = 2\nserver_round_robin = 1\n",
                server.port()
            ),
        )?;
        chown_to(directory.path())?;
        let mut command = unprivileged_command("sh")?;
        command
            .args(["-c", KEEPER, "keeper"])
            .args([&configuration, directory.path()]);
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let leash = keeper.stdin.take();
        let mut output = BufReader::new(keeper.stdout.take().context("the output is piped")?);
        let mut said = String::new();
        while !said.contains(READY) {
            ensure!(output.read_line(&mut said)? > 0, "pgbouncer has not started: {said}");
        }
        // It goes on writing, and must not find the pipe closed or full.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        Ok(Self {
            port,
            keeper,
            leash,
            _directory: directory,
        })
    }

    /// One in front of the server that all tests share. It ends with the process.
    ///
    /// # Panics
    /// When it does not start: then no test that needs it can pass.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PgBouncer> = OnceLock::new();
        SHARED.get_or_init(|| {
            Self::start(Server::shared()).unwrap_or_else(|error| panic!("PgBouncer for the tests: {error:#}"))
        })
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.leash.take());
        let _ = self.keeper.wait();
    }
}

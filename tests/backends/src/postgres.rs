//! A PostgreSQL server.
//!
//! A shell stands between the test and the server and reads from a pipe that the test holds: when the pipe closes, because
//! the value is dropped or because the test's process is gone in whatever way, the shell ends the server and removes its
//! files.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

/// How long starting and stopping may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// What the server writes when it takes connections.
const READY: &str = "database system is ready to accept connections";

/// Starts the server ($1: binary, $2: directory, further: arguments) and tells its process id. Ends it when a line or the
/// end of the input is read. All files go, unless the line says `keep`.
const KEEPER: &str = r#"
binary=$1; directory=$2; shift 2
"$binary" -D "$directory/data" "$@" </dev/null &
pid=$!
echo "$pid"
read -r word
children=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null)
kill -QUIT "$pid" 2>/dev/null
kill -CONT "$pid" $children 2>/dev/null
wait "$pid" 2>/dev/null
[ "$word" = keep ] || rm -rf "$directory"
"#;

/// How to run a server.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Whether to do without fsync: faster, and nothing is lost as long as the machine stays up.
    pub is_hasty: bool,
    /// Further settings, such as `("max_connections", "10")`.
    pub further: Vec<(&'static str, String)>,
}

/// A running (or stopped) server with a cluster of its own.
#[derive(Debug)]
pub struct Server {
    binaries: PathBuf,
    settings: Settings,
    port: u16,
    databases: AtomicU32,
    running: Option<Running>,
    directory: TempDir,
}

#[derive(Debug)]
struct Running {
    keeper: Child,
    /// Closing it ends the server.
    leash: ChildStdin,
    pid: u32,
    log: Log,
}

/// The lines the server wrote.
#[derive(Debug, Clone, Default)]
struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    is_complete: bool,
}

impl Server {
    /// Makes a cluster and starts a server on it.
    ///
    /// # Errors
    /// Without PostgreSQL's binaries on the `PATH` or under `/usr/lib/postgresql`, or when the server does not start.
    pub fn start(settings: Settings) -> Result<Self> {
        let binaries = binaries()?;
        let directory = tempfile::Builder::new().prefix("callboard-postgres-").tempdir()?;
        chown_to(directory.path())?;
        let mut server = Self {
            binaries,
            settings,
            port: 0,
            databases: AtomicU32::new(0),
            running: None,
            directory,
        };
        let data = server.directory.path().join("data");
        let initdb = server
            .command(&server.binaries.join("initdb"))?
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"])
            .args(["--no-sync", "-D"])
            .arg(&data)
            .output()?;
        ensure!(
            initdb.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&initdb.stderr)
        );
        server.port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        server.restart()?;
        Ok(server)
    }

    /// One server for all tests of a process that do not harm it, without fsync. It ends with the process.
    ///
    /// # Panics
    /// When it does not start: then no test that needs it can pass.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| {
            let settings = Settings {
                is_hasty: true,
                further: vec![("max_connections", "300".to_owned())],
            };
            Self::start(settings).unwrap_or_else(|error| panic!("PostgreSQL for the tests: {error:#}"))
        })
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server: the parent of all its processes.
    ///
    /// # Errors
    /// When it is not running.
    pub fn id(&self) -> Result<u32> {
        Ok(self.running.as_ref().context("the server is not running")?.pid)
    }

    /// The URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database. Answers its URL.
    ///
    /// # Errors
    /// When the server does not let us.
    pub fn create_database(&self) -> Result<String> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// Runs SQL as the superuser. Answers what `psql` prints, without decoration.
    ///
    /// # Errors
    /// When the server does not let us.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let psql = Command::new("psql")
            .env("PATH", self.path())
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"])
            .args([&self.url(database), "-c", sql])
            .stdin(Stdio::null())
            .output()
            .context("psql")?;
        ensure!(psql.status.success(), "psql: {}", String::from_utf8_lossy(&psql.stderr));
        Ok(String::from_utf8_lossy(&psql.stdout).trim_end().to_owned())
    }

    /// Everything the server has written since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        self.running
            .as_ref()
            .map_or_else(String::new, |running| running.log.text())
    }

    /// Ends the server as a crash would: nobody says good-bye, nothing is written any more.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop_immediate(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        running.leash.write_all(b"keep\n")?;
        running.keeper.wait()?;
        Ok(())
    }

    /// Starts the server, ending the one that may be running, on the same port and data.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.stop_immediate()?;
        let mut command = self.command(Path::new("sh"))?;
        command.args(["-c", KEEPER, "keeper"]);
        command.arg(self.binaries.join("postgres")).arg(self.directory.path());
        let fixed = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", self.port.to_string()),
            ("unix_socket_directories", String::new()),
            ("shared_buffers", "64MB".to_owned()),
            ("fsync", if self.settings.is_hasty { "off" } else { "on" }.to_owned()),
        ];
        for (name, value) in fixed.iter().chain(&self.settings.further) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut keeper = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let leash = keeper.stdin.take().context("the input is piped")?;
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().context("the output is piped")?).read_line(&mut pid)?;
        let log = Log::default();
        let (writer, stderr) = (log.clone(), keeper.stderr.take().context("the errors are piped")?);
        thread::Builder::new().name("postgres-log".to_owned()).spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.add(line);
            }
            writer.complete();
        })?;
        let running = self.running.insert(Running {
            keeper,
            leash,
            pid: pid.trim().parse().context("the process id of the server")?,
            log,
        });
        ensure!(
            running.log.wait_for(READY, DEADLINE),
            "the server has not started:\n{}",
            running.log.text()
        );
        Ok(())
    }

    /// Freezes the server: connections stay, nobody answers.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause(&self) -> Result<()> {
        let running = self.running.as_ref().context("the server is not running")?;
        // Its parent first: nobody is born any more.
        signal("-STOP", &[running.pid])?;
        signal("-STOP", &children(running.pid)?)
    }

    /// Lets the server go on.
    ///
    /// # Errors
    /// When it is not running.
    pub fn resume(&self) -> Result<()> {
        let running = self.running.as_ref().context("the server is not running")?;
        signal("-CONT", &children(running.pid)?)?;
        signal("-CONT", &[running.pid])
    }

    fn command(&self, program: &Path) -> Result<Command> {
        let mut command = unprivileged_command(program)?;
        command.env("PATH", self.path());
        Ok(command)
    }

    fn path(&self) -> String {
        let path = std::env::var("PATH").unwrap_or_default();
        format!("{}:{path}", self.binaries.display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            drop(running.leash);
            let _ = running.keeper.wait();
        }
    }
}

impl Log {
    fn add(&self, line: String) {
        let (lines, changed) = &*self.0;
        lines.lock().unwrap_or_else(PoisonError::into_inner).lines.push(line);
        changed.notify_all();
    }

    fn complete(&self) {
        let (lines, changed) = &*self.0;
        lines.lock().unwrap_or_else(PoisonError::into_inner).is_complete = true;
        changed.notify_all();
    }

    /// Whether a line with this text came in time.
    fn wait_for(&self, text: &str, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let (lines, changed) = &*self.0;
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if lines.lines.iter().any(|line| line.contains(text)) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.is_complete {
                return false;
            }
            lines = changed
                .wait_timeout(lines, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn text(&self) -> String {
        let (lines, _) = &*self.0;
        lines.lock().unwrap_or_else(PoisonError::into_inner).lines.join("\n")
    }
}

/// Where `initdb` and `postgres` are.
fn binaries() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).filter_map(|directory| {
        // A link may lead to where all of them are.
        let initdb = directory.join("initdb").canonicalize().ok()?;
        initdb.parent().map(Path::to_owned)
    });
    let mut installed: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    installed.sort();
    on_path
        .chain(installed.into_iter().rev())
        .find(|directory| directory.join("initdb").exists() && directory.join("postgres").exists())
        .context("no PostgreSQL here: install the Debian package postgresql")
}

/// A program that runs as somebody else if we are root, which these servers refuse to be.
pub(crate) fn unprivileged_command(program: impl AsRef<OsStr>) -> Result<Command> {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").current_dir("/");
    if let Some((uid, gid)) = unprivileged()? {
        command.uid(uid).gid(gid);
    }
    Ok(command)
}

/// Gives a directory and the files in it to whom [`unprivileged_command`] runs programs as.
pub(crate) fn chown_to(directory: &Path) -> Result<()> {
    if let Some((uid, gid)) = unprivileged()? {
        for entry in fs::read_dir(directory)? {
            chown(entry?.path(), Some(uid), Some(gid))?;
        }
        chown(directory, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// A user to run servers as, if we are root: `postgres` if there is one, else `nobody`.
fn unprivileged() -> Result<Option<(u32, u32)>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    for wanted in ["postgres", "nobody"] {
        for line in users.lines() {
            let mut fields = line.split(':');
            if fields.next() == Some(wanted) {
                let mut number = || fields.next().and_then(|field| field.parse().ok());
                let _password: Option<u32> = number();
                if let (Some(uid), Some(gid)) = (number(), number()) {
                    return Ok(Some((uid, gid)));
                }
            }
        }
    }
    bail!("neither a user postgres nor nobody")
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

fn signal(signal: &str, pids: &[u32]) -> Result<()> {
    if pids.is_empty() {
        return Ok(());
    }
    let status = Command::new("kill")
        .arg(signal)
        .args(pids.iter().map(u32::to_string))
        .status()?;
    ensure!(status.success(), "kill {signal} {pids:?}: {status}");
    Ok(())
}

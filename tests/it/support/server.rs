//! A Callboard of a test's own: the built binary, a free port, a private directory.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::http::{Request, Response};
use super::process::Process;
use super::{DEADLINE, command, wait_for};

/// The keys of servers in production, unlike any other text.
pub(crate) const SIGNING_KEY: &str = "signkey-prod-5161e7a2c0ffee4d0b5e55ed0ddba11c";
pub(crate) const EVENT_KEY: &str = "event-key-e7a2c0ffee";
pub(crate) const API_KEY: &str = "api-key-4d0b5e55ed0ddba11c";

/// Lines of the log that a failing test shows.
const TAIL: usize = 40;

/// How a server is to be started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Builder {
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    is_production: bool,
}

impl Builder {
    /// `callboard start`, with the keys of this module. What the server is asked here carries them.
    pub(crate) fn production(mut self) -> Self {
        self.is_production = true;
        self.env("INNGEST_SIGNING_KEY", SIGNING_KEY)
            .env("INNGEST_EVENT_KEY", EVENT_KEY)
            .env("CALLBOARD__KEYS__API", API_KEY)
    }

    /// A flag with a value.
    pub(crate) fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.extend([name.to_owned(), value.to_string()]);
        self
    }

    /// A flag without one.
    pub(crate) fn switch(mut self, name: &str) -> Self {
        self.flags.push(name.to_owned());
        self
    }

    /// An environment variable, such as `CALLBOARD__LIMITS__CALLS`.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Starts it, and waits until it listens.
    pub(crate) fn start(self) -> Server {
        Server::start_in(self, tempfile::tempdir().expect("a directory can be made"))
    }

    /// Starts it at a port that is free just now, and does not wait for anything: it may have to wait itself. See
    /// [`Server::wait_until_up`].
    pub(crate) fn begin(self) -> Server {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let address = free.expect("a port is free");
        let process = launch(&self, dir.path(), address.port());
        Server {
            process,
            address,
            builder: self,
            dir,
        }
    }
}

/// A running server; killed when dropped. A panicking test prints what the server has to say first.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    address: SocketAddr,
    builder: Builder,
    dir: TempDir,
}

impl Server {
    /// With `--no-discovery --no-poll` and nothing else.
    pub(crate) fn start() -> Self {
        Self::builder().switch("--no-poll").start()
    }

    /// With `--no-discovery` and what is added.
    pub(crate) fn builder() -> Builder {
        Builder::default()
    }

    fn start_in(builder: Builder, dir: TempDir) -> Self {
        let (process, address) = spawn(&builder, dir.path(), 0);
        Self {
            process,
            address,
            builder,
            dir,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        data_dir(self.dir.path())
    }

    /// The process, for signals of other kinds.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM; answers how it ended.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.process.signal("TERM");
        self.process.wait()
    }

    /// Starts it again after it was killed or terminated: same directory, same port.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        let (process, address) = spawn(&self.builder, self.dir.path(), self.address.port());
        self.process = process;
        self.address = address;
    }

    /// The same without waiting for anything, once the process that was asked to end has ended.
    pub(crate) fn revive(&mut self) {
        self.process.kill();
        self.process = launch(&self.builder, self.dir.path(), self.address.port());
    }

    /// Waits until it takes work and can do it.
    #[track_caller]
    pub(crate) fn wait_until_up(&mut self) {
        let up = wait_quietly(DEADLINE, || {
            let is_up = self.is_up_within(Duration::from_secs(5));
            (is_up || !self.process.is_alive()).then_some(is_up)
        });
        assert_eq!(up, Some(true), "not up after {DEADLINE:?}: {}", self.diagnosis());
    }

    /// Whether it says, in that time, that it can work.
    pub(crate) fn is_up_within(&self, patience: Duration) -> bool {
        let answer = Request::get("/health/ready").within(patience).try_send(self.address);
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// Changes the flags for the next start.
    pub(crate) fn set_builder(&mut self, builder: Builder) {
        self.builder = builder;
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        self.with_key(Request::get(path)).send(self.address)
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Response {
        self.with_key(Request::post(path, body)).send(self.address)
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Response {
        self.with_key(Request::new("DELETE", path)).send(self.address)
    }

    fn with_key(&self, request: Request) -> Request {
        if self.builder.is_production {
            request.header("authorization", &format!("Bearer {API_KEY}"))
        } else {
            request
        }
    }

    /// Sends an event; answers its id.
    #[track_caller]
    pub(crate) fn send(&self, event: &Value) -> String {
        let mut ids = self.send_all(event);
        assert_eq!(ids.len(), 1);
        ids.remove(0)
    }

    /// Sends an event or an array of them; answers their ids.
    #[track_caller]
    pub(crate) fn send_all(&self, events: &Value) -> Vec<String> {
        let answer = self
            .post(&format!("/e/{}", self.event_key()), events)
            .expect(200)
            .json();
        let ids = answer["ids"].as_array().expect("ids are an array");
        ids.iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
    }

    fn event_key(&self) -> &'static str {
        if self.builder.is_production {
            EVENT_KEY
        } else {
            "test-event-key"
        }
    }

    /// `GET /api/v1/runs/{id}`.
    #[track_caller]
    pub(crate) fn run(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/runs/{id}")).expect(200).json()
    }

    /// `GET /api/v1/events/{id}`: the event, its `runs`, and what was `not_started`.
    #[track_caller]
    pub(crate) fn event(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/events/{id}")).expect(200).json()
    }

    /// Waits until an event has started so many runs; answers their ids, oldest first.
    #[track_caller]
    pub(crate) fn wait_for_starts(&self, event: &str, count: usize) -> Vec<String> {
        wait_for(&format!("{count} runs of event {event}"), DEADLINE, || {
            let view = self.event(event);
            let runs = view["runs"].as_array().expect("runs are an array");
            let ids = || runs.iter().map(|run| text(&run["id"])).collect();
            (runs.len() >= count).then(ids)
        })
    }

    /// Waits until an event has started a run, the first if there are several.
    #[track_caller]
    pub(crate) fn wait_for_start(&self, event: &str) -> String {
        self.wait_for_starts(event, 1).remove(0)
    }

    /// Waits until a run has this status; answers it. Panics at once if it ends in another way.
    #[track_caller]
    pub(crate) fn wait_for_status(&self, run: &str, status: &str) -> Value {
        self.wait_for_status_within(run, status, DEADLINE)
    }

    #[track_caller]
    pub(crate) fn wait_for_status_within(&self, run: &str, status: &str, deadline: Duration) -> Value {
        let mut last = Value::Null;
        let found = wait_quietly(deadline, || {
            last = self.run(run);
            let now = text(&last["status"]);
            let is_over = matches!(now.as_str(), "completed" | "failed" | "cancelled");
            (now == status || is_over).then_some(now)
        });
        assert_eq!(found.as_deref(), Some(status), "run {run} after {deadline:?}: {last:#}");
        last
    }

    /// Waits until a run is parked on something of this kind (`sleep`, `event`, `signal`, `invoke`, `retry` …).
    #[track_caller]
    pub(crate) fn wait_until_pending(&self, run: &str, what: &str) -> Value {
        wait_for(&format!("run {run} to wait for {what}"), DEADLINE, || {
            let view = self.run(run);
            let pending = view["waiting_for"].as_array().expect("an array");
            pending.iter().any(|one| one["what"] == what).then(|| view.clone())
        })
    }

    /// Sends an event, and waits until the one run it starts has ended in this way.
    #[track_caller]
    pub(crate) fn run_to(&self, event: &Value, status: &str) -> Value {
        let event = self.send(event);
        let run = self.wait_for_start(&event);
        self.wait_for_status(&run, status)
    }

    /// Sends an event, and waits until the one run it starts has completed; answers the run.
    #[track_caller]
    pub(crate) fn complete(&self, event: &Value) -> Value {
        self.run_to(event, "completed")
    }

    /// Waits until an event was routed, whether or not it starts a run, and why it started none.
    #[track_caller]
    pub(crate) fn wait_for_skip(&self, event: &str, slug: &str) -> Value {
        wait_for(&format!("why event {event} did not start {slug}"), DEADLINE, || {
            let view = self.event(event);
            let skips = view["not_started"].as_array().expect("an array").clone();
            skips.into_iter().find(|skip| skip["function"]["slug"] == slug)
        })
    }

    /// What a failing test has to show: the supervisor's snapshot, nodes and backlog, and the end of the log.
    pub(crate) fn diagnosis(&self) -> String {
        let mut text = format!("--- server at {}\n", self.url());
        for path in ["/api/v1/supervisor", "/api/v1/nodes"] {
            let request = self.with_key(Request::get(path)).within(Duration::from_secs(5));
            let _ = match request.try_send(self.address) {
                Ok(answer) => writeln!(text, "{path}: {}", answer.text()),
                Err(error) => writeln!(text, "{path}: {error}"),
            };
        }
        let log = std::fs::read_to_string(log_file(self.dir.path())).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(TAIL)..] {
            let _ = writeln!(text, "log: {line}");
        }
        text
    }

    /// Everything it has logged, over all its starts.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(log_file(self.dir.path())).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.diagnosis());
        }
    }
}

/// Text of a member that has to be a string.
pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no string"))
        .to_owned()
}

fn wait_quietly<T>(deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = std::time::Instant::now();
    while start.elapsed() < deadline {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        std::thread::sleep(super::PAUSE);
    }
    None
}

fn data_dir(dir: &Path) -> PathBuf {
    dir.join("data")
}

fn log_file(dir: &Path) -> PathBuf {
    dir.join("server.log")
}

/// Starts the process; what it logs is added to the file.
fn launch(builder: &Builder, dir: &Path, port: u16) -> Process {
    let log: File = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log_file(dir))
        .expect("a log can be written");
    let mut command = command::binary();
    let mode: &[&str] = if builder.is_production {
        &["start"]
    } else {
        &["dev", "--no-discovery"]
    };
    command
        .args(mode)
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .arg("--data-dir")
        .arg(data_dir(dir))
        .args(&builder.flags)
        // The port beside a server's own may be another test's.
        .env("CALLBOARD__CONNECT__PORT", "0")
        .envs(builder.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(log));
    Process::start(&mut command, Some(dir)).expect("the built binary starts")
}

fn spawn(builder: &Builder, dir: &Path, port: u16) -> (Process, SocketAddr) {
    let offset = log_file(dir).metadata().map_or(0, |metadata| metadata.len());
    let mut process = launch(builder, dir, port);
    let address = if builder.is_production {
        listening(&mut process, &log_file(dir), offset)
    } else {
        process.first_line(address_in)
    };
    let address = address.unwrap_or_else(|| {
        let log = std::fs::read_to_string(log_file(dir)).unwrap_or_default();
        panic!("the server did not come up:\n{log}")
    });
    (process, address)
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://127.0.0.1:")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(SocketAddr::from(([127, 0, 0, 1], digits.parse().ok()?)))
}

/// What the log says of the address, from that offset on: in production nothing goes to the standard output. `None` if
/// the server ends or takes too long.
fn listening(process: &mut Process, log: &Path, offset: u64) -> Option<SocketAddr> {
    let offset = usize::try_from(offset).ok()?;
    wait_quietly(DEADLINE, || {
        let is_alive = process.is_alive();
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let complete = text.get(offset..).unwrap_or_default().split_inclusive('\n');
        let mut lines = complete.filter(|line| line.ends_with('\n') && line.contains("\"listening\""));
        let address = lines.find_map(address_in);
        (address.is_some() || !is_alive).then_some(address)
    })
    .flatten()
}

//! The real SDK apps of `tests/apps`, one process each, and their side channel.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::DEADLINE;
use super::http::{Request, Response};
use super::process::Process;

/// Which SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sdk {
    /// npm `inngest` 4.x.
    Ts4,
    /// npm `inngest` 3.54.
    Ts3,
    /// PyPI `inngest`.
    Python,
}

impl Sdk {
    /// The folder of the app, and its id unless another is asked for.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ts4 => "ts4",
            Self::Ts3 => "ts3",
            Self::Python => "python",
        }
    }

    fn folder(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/apps")
            .join(self.name())
    }

    /// The command that starts the app; panics with the name of the script if the SDK is not installed.
    fn command(self) -> Command {
        let folder = self.folder();
        let (program, script, needed) = match self {
            Self::Ts4 | Self::Ts3 => (PathBuf::from("node"), "app.mjs", "node_modules/.installed-lock"),
            Self::Python => (folder.join(".venv/bin/python"), "app.py", ".venv/.installed-lock"),
        };
        assert!(
            folder.join(needed).exists(),
            "the SDK of tests/apps/{0} is not installed: run `tests/support/install.sh {0}`",
            self.name()
        );
        let mut command = Command::new(program);
        command.arg(script).current_dir(folder);
        command
    }
}

/// How an app is to be started.
#[derive(Debug, Clone)]
pub(crate) struct Builder {
    sdk: Sdk,
    server: String,
    environment: Vec<(String, String)>,
    port: u16,
}

impl Builder {
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As a worker of this name, which connects.
    pub(crate) fn connected(self, instance: &str) -> Self {
        self.env("CONNECT", "1").env("INSTANCE_ID", instance)
    }

    /// Under another id, so that one server can hold several of them.
    pub(crate) fn app_id(self, id: &str) -> Self {
        self.env("APP_ID", id)
    }

    /// At a port of an app that is gone.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Starts it, and waits until it listens. It is not registered yet.
    pub(crate) fn start(self) -> SdkApp {
        let mut command = self.sdk.command();
        let errors = tempfile::tempfile().expect("a file can be made");
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("INNGEST")) {
                command.env_remove(name);
            }
        }
        command
            .env("PORT", self.port.to_string())
            .env("CALLBOARD_URL", &self.server)
            .env("EXIT_WITH_STDIN", "1")
            // Node 20 has WebSockets, and no one of the name that the SDKs look for without this.
            .env("NODE_OPTIONS", "--experimental-websocket")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Not ours: node makes a pipe non-blocking for everybody who holds it, and our own output would be lost.
            .stderr(errors.try_clone().expect("a file can be shared"));
        let mut process = Process::start(&mut command, None)
            .unwrap_or_else(|error| panic!("the {} app did not start: {error}", self.sdk.name()));
        let port = process.first_line(|line| line.strip_prefix("listening ")?.parse::<u16>().ok());
        let port =
            port.unwrap_or_else(|| panic!("the {} app did not come up:\n{}", self.sdk.name(), contents(&errors)));
        let id = self.environment.iter().rev().find(|(name, _)| name == "APP_ID");
        SdkApp {
            sdk: self.sdk,
            id: id.map_or(self.sdk.name().to_owned(), |(_, id)| id.clone()),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            process,
            errors,
        }
    }
}

/// All of a file, wherever its writer is.
fn contents(file: &File) -> String {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = file.read_at(&mut bytes, 0).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

/// A running app; killed when dropped. A panicking test prints what the app has written on its standard error first.
#[derive(Debug)]
pub(crate) struct SdkApp {
    sdk: Sdk,
    id: String,
    address: SocketAddr,
    process: Process,
    errors: File,
}

impl Drop for SdkApp {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.diagnosis());
        }
    }
}

impl SdkApp {
    /// An app for the server at this URL.
    pub(crate) fn builder(sdk: Sdk, server: &str) -> Builder {
        Builder {
            sdk,
            server: server.to_owned(),
            environment: Vec::new(),
            port: 0,
        }
    }

    pub(crate) fn ts4(server: &str) -> Self {
        Self::builder(Sdk::Ts4, server).start()
    }

    pub(crate) fn ts3(server: &str) -> Self {
        Self::builder(Sdk::Ts3, server).start()
    }

    pub(crate) fn python(server: &str) -> Self {
        Self::builder(Sdk::Python, server).start()
    }

    pub(crate) fn sdk(&self) -> Sdk {
        self.sdk
    }

    /// The app's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// A function's slug.
    pub(crate) fn slug(&self, function: &str) -> String {
        format!("{}-{function}", self.id)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where its functions are served.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/inngest", self.address)
    }

    /// The process, for signals.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it has written on its standard error.
    pub(crate) fn diagnosis(&self) -> String {
        format!("--- {} app at {}\n{}", self.id, self.url(), contents(&self.errors))
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks it to register with its server now; answers what it says.
    #[track_caller]
    pub(crate) fn try_register(&self) -> Response {
        Request::new("PUT", "/api/inngest").json(&json!({})).send(self.address)
    }

    /// Asks it to register with its server now.
    #[track_caller]
    pub(crate) fn register(&self) -> Value {
        self.try_register().expect(200).json()
    }

    /// A request to the side channel.
    #[track_caller]
    pub(crate) fn ask(&self, request: &Request) -> Value {
        request.send(self.address).expect(200).json()
    }

    /// `POST /control`.
    #[track_caller]
    pub(crate) fn control(&self, change: &Value) {
        self.ask(&Request::post("/control", change));
    }

    /// Lets the steps at this gate go on.
    #[track_caller]
    pub(crate) fn open(&self, gate: &str) {
        self.control(&json!({"open": [gate]}));
    }

    /// Sends an event, or an array of them, through the SDK's own client; answers the ids.
    #[track_caller]
    pub(crate) fn send(&self, events: &Value) -> Vec<String> {
        let answer = self.ask(&Request::post("/send", events));
        let ids = answer["ids"].as_array().expect("ids are an array");
        ids.iter().map(super::server::text).collect()
    }

    /// What ran so far, by a query such as `run_id=…&step=after`.
    #[track_caller]
    pub(crate) fn log(&self, query: &str) -> Vec<Value> {
        self.entries("log", query)
    }

    /// Calls so far.
    #[track_caller]
    pub(crate) fn calls(&self, query: &str) -> Vec<Value> {
        self.entries("calls", query)
    }

    /// Waits for so many entries of the log.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, query: &str, min: usize) -> Vec<Value> {
        self.wait_for("log", query, min)
    }

    /// Waits for so many calls.
    #[track_caller]
    pub(crate) fn wait_for_calls(&self, query: &str, min: usize) -> Vec<Value> {
        self.wait_for("calls", query, min)
    }

    fn entries(&self, list: &str, query: &str) -> Vec<Value> {
        match self.ask(&Request::get(format!("/{list}?{query}"))) {
            Value::Array(entries) => entries,
            other => panic!("not a list: {other}"),
        }
    }

    #[track_caller]
    fn wait_for(&self, list: &str, query: &str, min: usize) -> Vec<Value> {
        let timeout = DEADLINE.as_millis();
        let found = self.entries(list, &format!("{query}&min={min}&timeout_ms={timeout}"));
        assert!(
            found.len() >= min,
            "{min} entries of /{list}?{query}, but there are {found:#?}"
        );
        found
    }
}

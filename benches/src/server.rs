//! One instance of the server under test: started here, or one that already runs.
//!
//! Promises: what was started is killed by its process id when the value is dropped, and its directory removed.
//! Never: touches a server it did not start.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use crate::process::ProcessId;

/// How long a started server may take until `GET /health/ready` answers 200.
const READY_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Server {
    /// Origin, without a trailing slash.
    pub(crate) url: String,
    /// Known for started servers, and for others when the caller gave it.
    pub(crate) process: Option<ProcessId>,
    started: Option<Started>,
}

#[derive(Debug)]
struct Started {
    child: Child,
    launch: Launch,
    log: PathBuf,
    /// Removed on drop, after the child is gone.
    _directory: TempDir,
}

/// How a server is started.
#[derive(Debug)]
struct Launch {
    binary: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    data: PathBuf,
}

impl Launch {
    fn spawn(&self, log: &Path) -> anyhow::Result<Child> {
        let output = File::options().create(true).append(true).open(log)?;
        Command::new(&self.binary)
            .args(&self.arguments)
            .arg("--data-dir")
            .arg(&self.data)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))
    }
}

impl Server {
    /// Uses a running server.
    pub(crate) fn attach(url: &str, pid: Option<u32>) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            process: pid.map(ProcessId),
            started: None,
        }
    }

    /// Starts a server with this subcommand on a free port, with an empty data directory and these variables.
    pub(crate) fn start(
        binary: &Path,
        subcommand: &str,
        environment: &[(&str, String)],
        extra_args: &[String],
    ) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("callboard-bench-").tempdir()?;
        // Free now; the server binds it a moment later. A collision shows as a failed start.
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let log = directory.path().join("server.log");
        let fixed = [subcommand, "--host", "127.0.0.1", "--no-discovery", "--port"];
        let arguments = fixed.into_iter().map(str::to_owned).chain([port.to_string()]);
        let launch = Launch {
            binary: binary.to_owned(),
            arguments: arguments.chain(extra_args.iter().cloned()).collect(),
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            data: directory.path().join("data"),
        };
        let child = launch.spawn(&log)?;
        let process = ProcessId(child.id());
        let started = Started {
            child,
            launch,
            log,
            _directory: directory,
        };
        Ok(Self {
            url: format!("http://127.0.0.1:{port}"),
            process: Some(process),
            started: Some(started),
        })
    }

    /// Returns once `GET /health/ready` answers 200; fails with the server's last output when it ended or the deadline passed.
    pub(crate) async fn ready(&mut self, client: &awc::Client) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_DEADLINE;
        let health = format!("{}/health/ready", self.url);
        loop {
            if let Ok(response) = client.get(&health).send().await
                && response.status().is_success()
            {
                return Ok(());
            }
            if let Some(started) = &mut self.started
                && let Some(status) = started.child.try_wait()?
            {
                bail!("the server ended at once ({status}):\n{}", tail(&started.log));
            }
            if Instant::now() > deadline {
                let output = self.last_output();
                bail!("GET {health} did not answer 200 within {READY_DEADLINE:?}\n{output}");
            }
            actix_rt::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills it (signal 9), if it was started here.
    pub(crate) fn kill(&mut self) {
        if let Some(started) = &mut self.started {
            // Both fail only if the child is gone already.
            let _ = started.child.kill();
            let _ = started.child.wait();
        }
    }

    /// Starts it again after [`Self::kill`], where it was.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        let started = self.started.as_mut().context("the server was not started here")?;
        started.child = started.launch.spawn(&started.log)?;
        self.process = Some(ProcessId(started.child.id()));
        Ok(())
    }

    /// Where it keeps its data, if it was started here.
    pub(crate) fn data(&self) -> Option<&Path> {
        self.started.as_ref().map(|started| started.launch.data.as_path())
    }

    /// The last lines the server printed; empty for a server that was not started here.
    pub(crate) fn last_output(&self) -> String {
        self.started
            .as_ref()
            .map(|started| tail(&started.log))
            .unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where the server's binary is: `given`, else next to this program.
///
/// # Errors
/// Says how to build it when there is none.
pub(crate) fn find_binary(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let binary = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()?.with_file_name("callboard"),
    };
    if !binary.is_file() {
        bail!(
            "there is no server at {}: build it with `cargo build --release`, or set CALLBOARD_BIN",
            binary.display()
        );
    }
    Ok(binary)
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binary_is_explained() {
        let error = find_binary(Some(Path::new("/nonexistent/callboard"))).expect_err("no such file");
        assert!(error.to_string().contains("cargo build --release"), "{error}");
    }
}

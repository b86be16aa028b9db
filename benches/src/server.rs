//! The server under test: started with a private data directory, or one that already runs.
//!
//! Promises: what was started is killed by its process id when the value is dropped, and its data directory removed.
//! Never: touches a server it did not start.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

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
    log: PathBuf,
    /// Removed on drop, after the child is gone.
    _directory: TempDir,
}

/// A process whose memory and CPU time `/proc` shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessId(pub(crate) u32);

impl Server {
    /// Uses a running server.
    pub(crate) fn attach(url: &str, pid: Option<u32>) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            process: pid.map(ProcessId),
            started: None,
        }
    }

    /// Starts `callboard dev` on a free port with an empty data directory.
    pub(crate) fn start(binary: &Path, extra_args: &[String]) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("callboard-bench-").tempdir()?;
        // Free now; the server binds it a moment later. A collision shows as a failed start.
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let log = directory.path().join("server.log");
        let output = File::create(&log)?;
        let child = Command::new(binary)
            .args(["dev", "--host", "127.0.0.1", "--no-discovery", "--port"])
            .arg(port.to_string())
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .args(extra_args)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let process = ProcessId(child.id());
        let started = Started {
            child,
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
                let output = self
                    .started
                    .as_ref()
                    .map(|started| tail(&started.log))
                    .unwrap_or_default();
                bail!("GET {health} did not answer 200 within {READY_DEADLINE:?}\n{output}");
            }
            actix_rt::time::sleep(Duration::from_millis(20)).await;
        }
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
        if let Some(started) = &mut self.started {
            // Both fail only if the child is gone already.
            let _ = started.child.kill();
            let _ = started.child.wait();
        }
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

/// Resident and proportional memory, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) rss_kib: u64,
    pub(crate) pss_kib: Option<u64>,
}

impl ProcessId {
    /// None once the process is gone.
    pub(crate) fn memory(self) -> Option<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        // Another user's process does not show this file.
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0)).ok();
        Some(Memory {
            rss_kib: field_kib(&status, "VmRSS:")?,
            pss_kib: rollup.and_then(|text| field_kib(&text, "Pss:")),
        })
    }

    /// CPU time used by all threads so far, in milliseconds, to 10 ms.
    pub(crate) fn cpu_ms(self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        cpu_ticks(&stat).map(|ticks| ticks as f64 * 10.0)
    }

    /// CPU time of the threads alive now, in milliseconds, to the nanosecond. Fine for a time in which no thread ends.
    pub(crate) fn precise_cpu_ms(self) -> Option<f64> {
        let mut nanos = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0)).ok()? {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            nanos += text.split_whitespace().next()?.parse::<f64>().ok()?;
        }
        Some(nanos / 1e6)
    }
}

fn field_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time of a `/proc/<pid>/stat` line. The kernel reports ticks of 1/100 s on every Linux in use.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The command may hold spaces and brackets: fields are counted after the last bracket.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        assert_eq!(
            field_kib("VmPeak:\t  10 kB\nVmRSS:\t   2048 kB\n", "VmRSS:"),
            Some(2048)
        );
        assert_eq!(field_kib("VmPeak:\t  10 kB\n", "VmRSS:"), None);
        let stat = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0";
        assert_eq!(cpu_ticks(stat), Some(175));
    }

    #[test]
    fn a_missing_binary_is_explained() {
        let error = find_binary(Some(Path::new("/nonexistent/callboard"))).expect_err("no such file");
        assert!(error.to_string().contains("cargo build --release"), "{error}");
    }
}

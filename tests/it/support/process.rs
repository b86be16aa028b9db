//! Child processes that don't outlive the tests, however these end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;

use super::{DEADLINE, wait_for};

/// Waits in a shell for the test process to end, then kills a process and removes a directory. Statics are never dropped,
/// and an aborted test process drops nothing.
#[derive(Debug)]
struct Guard {
    shell: Child,
    /// Held open for as long as this process lives.
    _alive: Option<ChildStdin>,
}

impl Guard {
    fn of(pid: u32, dir: Option<&Path>) -> Self {
        let script = r#"cat >/dev/null; kill -9 "$1" 2>/dev/null; [ -z "$2" ] || rm -rf "$2""#;
        let mut shell = Command::new("sh")
            .args(["-c", script, "guard", &pid.to_string()])
            .arg(dir.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let alive = shell.stdin.take();
        Self { shell, _alive: alive }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Its shell must not come to the killing: the pid may be somebody else's by then.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// A child process; killed when dropped, and when the test process ends in any way.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    guard: Option<Guard>,
}

impl Process {
    /// Starts it. `dir` is removed with the process if the tests end without dropping it.
    pub(crate) fn start(command: &mut Command, dir: Option<&Path>) -> std::io::Result<Self> {
        let child = command.spawn()?;
        let guard = Some(Guard::of(child.id(), dir));
        Ok(Self { child, guard })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name: `TERM`, `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", r#"kill -"$1" "$2""#, "signal", name, &self.id().to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} could not be sent");
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.guard = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = wait_for("a process to end", DEADLINE, || {
            self.child.try_wait().expect("a child of ours can be waited for")
        });
        self.guard = None;
        status
    }

    /// Whether it runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The first line of its standard output for which `find` has an answer; the rest is read and dropped.
    pub(crate) fn first_line<T: Send + 'static>(
        &mut self,
        find: impl Fn(&str) -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let stdout: ChildStdout = self.child.stdout.take().expect("stdout is piped, and asked for once");
        let (sender, found) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(answer) = find(&line) {
                    let _ = sender.send(answer);
                }
            }
        });
        // Ends early when the process ends without such a line.
        found.recv_timeout(DEADLINE).ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

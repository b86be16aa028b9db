//! A Redis server, or any that speaks its protocol: `CALLBOARD_TEST_REDIS` names the program (`redis-server` if not set).
//!
//! It runs under a small shell that waits for the end of its input and then kills it and removes its files. The input is a
//! pipe from this process, so the server ends with it, however it ends.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

/// How long a server may take to start, to end or to answer.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a server is to be like.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether what it holds survives [`Redis::restart`].
    pub persistent: bool,
    /// Bytes it may use, and what gives way then (such as `allkeys-random`, `noeviction`).
    pub memory: Option<(u64, &'static str)>,
    /// Whether it is a cluster of one node, with all slots.
    pub cluster: bool,
}

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct Redis {
    options: Options,
    directory: TempDir,
    port: u16,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    /// Held for its end: see the module's page.
    input: ChildStdin,
    shell: Child,
    id: u32,
}

impl Redis {
    /// A server that keeps nothing and may use all memory.
    ///
    /// # Errors
    /// If there is none to start, or it does not come up.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(Options::default())
    }

    /// A server of that kind.
    ///
    /// # Errors
    /// If there is none to start, or it does not come up.
    pub fn start_with(options: Options) -> anyhow::Result<Self> {
        let mut server = Self {
            options,
            directory: TempDir::with_prefix("callboard-redis-")?,
            port: free_port()?,
            process: None,
        };
        server.run()?;
        if server.options.cluster {
            server.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])?;
            let deadline = Instant::now() + DEADLINE;
            while !server.cli(&["CLUSTER", "INFO"])?.contains("cluster_state:ok") {
                ensure!(Instant::now() < deadline, "the cluster did not come up");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(server)
    }

    /// Where it is: `redis://127.0.0.1:<port>`, or `redis+cluster://…`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.options.cluster { "redis+cluster" } else { "redis" };
        format!("{scheme}://{}", self.address())
    }

    /// Its host and port.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process id of the server.
    ///
    /// # Errors
    /// If it does not run.
    pub fn id(&self) -> anyhow::Result<u32> {
        Ok(self.process.as_ref().context("the server does not run")?.id)
    }

    /// Kills it (signal 9). Where it was stays its place.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.signal("KILL")?;
        self.process.take().context("the server does not run")?.end();
        Ok(())
    }

    /// Kills it and starts it again at its place, with what it has on disk: all that it has answered, if it is persistent.
    ///
    /// # Errors
    /// If it does not come up again.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        if self.process.is_some() {
            self.kill()?;
        }
        self.run()
    }

    /// Kills it and starts it again at its place, without anything.
    ///
    /// # Errors
    /// If it does not come up again.
    pub fn restart_empty(&mut self) -> anyhow::Result<()> {
        if self.process.is_some() {
            self.kill()?;
        }
        for entry in fs::read_dir(self.directory.path())? {
            let path = entry?.path();
            if path.is_dir() {
                fs::remove_dir_all(path)?;
            } else {
                fs::remove_file(path)?;
            }
        }
        self.run()
    }

    /// Stops it in its tracks (SIGSTOP), connections and all.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal("STOP")
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal("CONT")
    }

    /// Makes it forget everything (FLUSHALL).
    ///
    /// # Errors
    /// If it does not answer.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.cli(&["FLUSHALL"]).map(drop)
    }

    /// Sends a command; answers texts and numbers as they are, lists as lines.
    ///
    /// # Errors
    /// If it does not answer, or with an error.
    pub fn cli(&self, command: &[&str]) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut request = format!("*{}\r\n", command.len()).into_bytes();
        for part in command {
            write!(request, "${}\r\n{part}\r\n", part.len())?;
        }
        stream.write_all(&request)?;
        let mut answer = Vec::new();
        read_answer(&mut BufReader::new(stream), &mut answer)?;
        Ok(answer.join("\n"))
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let program = std::env::var("CALLBOARD_TEST_REDIS").unwrap_or_else(|_| "redis-server".to_owned());
        let mut arguments: Vec<String> = [
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--daemonize",
            "no",
            "--logfile",
            "",
        ]
        .map(str::to_owned)
        .to_vec();
        let mut set = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        set("port", self.port.to_string());
        set("dir", self.directory.path().display().to_string());
        if self.options.persistent {
            set("appendonly", "yes".to_owned());
            set("appendfsync", "always".to_owned());
        }
        if let Some((bytes, policy)) = self.options.memory {
            set("maxmemory", bytes.to_string());
            set("maxmemory-policy", policy.to_owned());
        }
        if self.options.cluster {
            set("cluster-enabled", "yes".to_owned());
        }
        // `exec 3<&0` because a background command of a shell has no input.
        let script = "exec 3<&0; \"$@\" >redis.log 2>&1 3<&- & id=$!; echo $id; read -r word <&3; kill -9 $id 2>/dev/null; wait $id 2>/dev/null; [ \"$word\" = keep ] || rm -rf \"$PWD\"";
        let mut shell = Command::new("sh")
            .args(["-c", script, "sh", &program])
            .args(&arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = shell.stdin.take().context("the input is a pipe")?;
        let mut output = BufReader::new(shell.stdout.take().context("the output is a pipe")?);
        let mut id = String::new();
        output.read_line(&mut id)?;
        self.process = Some(Process {
            input,
            shell,
            id: id
                .trim()
                .parse()
                .context("the shell says which process it has started")?,
        });
        let deadline = Instant::now() + DEADLINE;
        while !self.cli(&["PING"]).is_ok_and(|answer| answer == "PONG") {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.path().join("redis.log")).unwrap_or_default();
                bail!("{program} did not come up:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn signal(&self, name: &str) -> anyhow::Result<()> {
        let id = self.id()?.to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &id]).status()?;
        ensure!(status.success(), "kill -{name} {id}: {status}");
        Ok(())
    }
}

impl Process {
    /// Ends it; its files stay.
    fn end(mut self) {
        let _ = self.input.write_all(b"keep\n");
        drop(self.input);
        let _ = self.shell.wait();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.end();
        }
    }
}

/// A port that nobody listens on. Another process may take it before the server does; then the server does not come up.
fn free_port() -> anyhow::Result<u16> {
    // The bus of a cluster listens 10,000 above, and that must be a port too.
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        if port < 55_000 {
            return Ok(port);
        }
    }
}

fn read_answer(from: &mut impl BufRead, into: &mut Vec<String>) -> anyhow::Result<()> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).context("the connection was closed")?;
    match kind {
        "+" | ":" => into.push(rest.to_owned()),
        "-" => bail!("{rest}"),
        "$" => {
            let Ok(length) = rest.parse::<usize>() else {
                into.push(String::new());
                return Ok(());
            };
            let mut body = vec![0; length + 2];
            from.read_exact(&mut body)?;
            body.truncate(length);
            into.push(String::from_utf8_lossy(&body).into_owned());
        }
        "*" => {
            for _ in 0..rest.parse::<i64>()?.max(0) {
                read_answer(from, into)?;
            }
        }
        _ => bail!("an answer of an unknown kind: {line}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_answers_stops_and_forgets() {
        let mut server = Redis::start().expect("starts");
        server.cli(&["SET", "a", "1"]).expect("answers");
        assert_eq!(server.cli(&["GET", "a"]).expect("answers"), "1");
        server.pause().expect("stops");
        server.resume().expect("goes on");
        server.flush().expect("flushes");
        assert_eq!(server.cli(&["GET", "a"]).expect("answers"), "");
        server.cli(&["SET", "a", "1"]).expect("answers");
        server.restart_empty().expect("starts again");
        assert_eq!(server.cli(&["GET", "a"]).expect("answers"), "");
        server.kill().expect("dies");
        assert!(server.cli(&["PING"]).is_err());
    }

    #[test]
    fn it_keeps_what_it_should() {
        let mut server = Redis::start_with(Options {
            persistent: true,
            ..Options::default()
        })
        .expect("starts");
        server.cli(&["SET", "a", "1"]).expect("answers");
        server.restart().expect("starts again");
        assert_eq!(server.cli(&["GET", "a"]).expect("answers"), "1");
    }

    #[test]
    fn it_dies_with_its_value() {
        let server = Redis::start().expect("starts");
        let address = server.address();
        drop(server);
        assert!(TcpStream::connect(address).is_err());
    }
}

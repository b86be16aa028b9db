//! A disk that is full: events are refused with a code at once, nothing is half written, and all goes on when there is
//! room again.
//!
//! The disk is a small file system in memory where the tests may mount one, as they may in a container. Elsewhere the
//! process may write no file beyond its present size, which SQLite meets at the same places, under another name.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::DEADLINE;
use crate::support::fake::{FakeApp, Reply};
use crate::support::http::{Request, Response};
use crate::support::server::Server;

/// Makes the disk of a running server full, and empty again.
#[derive(Debug)]
enum Disk {
    /// A file system of its own, mounted there.
    Mounted(PathBuf),
    /// A limit on the size of files.
    Limited,
}

impl Disk {
    /// Under the data directory of a server that is not running.
    fn under(dir: &Path) -> Self {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(dir)
            .stderr(Stdio::null())
            .status();
        match mount {
            Ok(status) if status.success() => Self::Mounted(dir.to_owned()),
            _ => Self::Limited,
        }
    }

    fn fill(&self, server: &mut Server) {
        match self {
            Self::Mounted(dir) => {
                let mut ballast = std::fs::File::create(dir.join("ballast")).expect("room for a name");
                // Until nothing fits any more, down to the last page.
                while ballast.write_all(&[0; 512]).is_ok() {}
            }
            Self::Limited => limit(server, "1024"),
        }
    }

    fn empty(&self, server: &mut Server) {
        match self {
            Self::Mounted(dir) => std::fs::remove_file(dir.join("ballast")).expect("the ballast is there"),
            Self::Limited => limit(server, "unlimited"),
        }
    }

    /// The codes that tell of it.
    fn codes(&self) -> &'static [&'static str] {
        match self {
            Self::Mounted(_) => &["CB-2004"],
            Self::Limited => &["CB-2003", "CB-2004"],
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Self::Mounted(dir) = self {
            let _ = Command::new("umount").arg("-l").arg(dir).status();
        }
    }
}

fn limit(server: &mut Server, bytes: &str) {
    let pid = server.process().id().to_string();
    let limited = Command::new("prlimit")
        .args(["--pid", &pid])
        .arg(format!("--fsize={bytes}:unlimited"))
        .status();
    assert!(
        limited.is_ok_and(|status| status.success()),
        "prlimit is there and may be used"
    );
}

fn try_event(server: &Server, event: &Value) -> Response {
    Request::post("/e/key", event).send(server.address())
}

#[test]
fn a_full_disk_refuses_events_at_once_and_loses_nothing() {
    let mut server = Server::builder()
        .switch("--no-poll")
        .flag("--retry-interval", "1")
        .start();
    assert!(server.terminate().success());
    let disk = Disk::under(&server.data_dir());
    server.restart();

    let door = Arc::new((Mutex::new(false), Condvar::new()));
    let shared = Arc::clone(&door);
    let app = FakeApp::with_function(&server, 0, move |call| {
        if call.has_step("slow") {
            return Reply::done(&json!("done"));
        }
        let (is_open, opened) = &*shared;
        let guard = is_open.lock().expect("no panic");
        let waited = opened.wait_timeout_while(guard, DEADLINE, |is_open| !*is_open);
        drop(waited.expect("no panic"));
        Reply::step("slow", &json!("x".repeat(100_000)))
    });
    let under_way = server.send(&app.event());
    app.wait_for_calls(1);

    disk.fill(&mut server);
    let mut large = app.event();
    large["data"] = json!({ "filler": "x".repeat(100_000) });
    // The step's result can't be written, and waits for room. Nobody else waits with it.
    *door.0.lock().expect("no panic") = true;
    door.1.notify_all();
    for _ in 0..5 {
        let asked = Instant::now();
        let refusal = try_event(&server, &large);
        assert_eq!(refusal.status, 503, "{}", refusal.text());
        let body = refusal.json();
        assert!(disk.codes().contains(&super::code(&body)), "{body}");
        assert!(refusal.header("retry-after").is_some(), "{:?}", refusal.headers);
        assert!(asked.elapsed() < Duration::from_secs(10), "told, not kept waiting");
    }
    server.get("/api/v1/runs").expect(200);

    disk.empty(&mut server);
    let run = server.wait_for_start(&under_way);
    assert_eq!(server.wait_for_status(&run, "completed")["output"], json!("done"));
    let before = app.calls().len();
    assert_eq!(before, 2, "the step that was under way is not called again");
    let start = Instant::now();
    let accepted = loop {
        let answer = try_event(&server, &large);
        if answer.status == 200 {
            break answer.json()["ids"][0].as_str().expect("an id").to_owned();
        }
        assert!(start.elapsed() < DEADLINE, "{}", answer.text());
        std::thread::sleep(Duration::from_millis(50));
    };
    let run = server.wait_for_start(&accepted);
    server.wait_for_status(&run, "completed");
    let events = server.get("/api/v1/events").expect(200).json();
    assert_eq!(
        events["events"].as_array().map(Vec::len),
        Some(2),
        "nothing of what was refused is there: {events}"
    );
    assert!(server.terminate().success());
}

//! Processes as `/proc` shows them.
//!
//! Promises: a figure that can't be read is None, never a guess.
//! Never: signals a process.

use std::fs;

/// A process, with all it has started and not left behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessId(pub(crate) u32);

/// Resident and proportional memory, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) rss_kib: u64,
    /// Shared pages are divided among those who share them.
    pub(crate) pss_kib: Option<u64>,
}

impl ProcessId {
    /// Memory of the process alone. None once it is gone.
    pub(crate) fn memory(self) -> Option<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        // Another user's process does not show this file.
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0)).ok();
        Some(Memory {
            rss_kib: field_kib(&status, "VmRSS:")?,
            pss_kib: rollup.and_then(|text| field_kib(&text, "Pss:")),
        })
    }

    /// Proportional memory of the process and its children, in KiB.
    pub(crate) fn tree_pss_kib(self) -> Option<u64> {
        let own = self.memory()?.pss_kib?;
        // A child that has just ended uses none.
        let children = self.children()?.into_iter().filter_map(Self::tree_pss_kib);
        Some(own + children.sum::<u64>())
    }

    /// CPU time used so far, in milliseconds, to 10 ms: by all threads, by children and by those children that have ended.
    pub(crate) fn cpu_ms(self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        let own = cpu_ticks(&stat)? as f64 * 10.0;
        let children = self.children()?.into_iter().filter_map(Self::cpu_ms);
        Some(own + children.sum::<f64>())
    }

    /// The same without children.
    pub(crate) fn own_cpu_ms(self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        own_ticks(&stat).map(|ticks| ticks as f64 * 10.0)
    }

    /// CPU time of the threads alive now, in milliseconds, to the nanosecond, children included. Fine for a time in which
    /// nothing ends.
    pub(crate) fn precise_cpu_ms(self) -> Option<f64> {
        let mut nanos = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0)).ok()? {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            nanos += text.split_whitespace().next()?.parse::<f64>().ok()?;
        }
        let children = self.children()?.into_iter().filter_map(Self::precise_cpu_ms);
        Some(nanos / 1e6 + children.sum::<f64>())
    }

    /// The children, whichever thread has started them.
    fn children(self) -> Option<Vec<Self>> {
        let mut children = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.0)).ok()? {
            // A thread may end while they are counted.
            let text = fs::read_to_string(task.ok()?.path().join("children")).unwrap_or_default();
            children.extend(text.split_whitespace().filter_map(|id| id.parse().ok()).map(Self));
        }
        Some(children)
    }
}

/// CPU time that this machine has used so far, in milliseconds, whoever used it.
pub(crate) fn machine_cpu_ms() -> Option<f64> {
    busy_ticks(&fs::read_to_string("/proc/stat").ok()?).map(|ticks| ticks as f64 * 10.0)
}

/// All but idle time and waiting for a disk, of the first line of `/proc/stat`. Time of guests is part of user time.
fn busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(fields.get(..3)?.iter().sum::<u64>() + fields.get(5..8)?.iter().sum::<u64>())
}

fn field_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time of a `/proc/<pid>/stat` line, with that of children that have ended. The kernel reports ticks of
/// 1/100 s on every Linux in use.
fn cpu_ticks(stat: &str) -> Option<u64> {
    times(stat, 15)
}

/// The same without children.
fn own_ticks(stat: &str) -> Option<u64> {
    times(stat, 13)
}

fn times(stat: &str, until: usize) -> Option<u64> {
    // The command may hold spaces and brackets: fields are counted after the last bracket.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let times = fields.get(11..until)?.iter().map(|field| field.parse::<u64>());
    times.sum::<Result<_, _>>().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn proc_files_are_read() {
        assert_eq!(
            field_kib("VmPeak:\t  10 kB\nVmRSS:\t   2048 kB\n", "VmRSS:"),
            Some(2048)
        );
        assert_eq!(field_kib("VmPeak:\t  10 kB\n", "VmRSS:"), None);
        let stat = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 25 30 2 20 0";
        assert_eq!(cpu_ticks(stat), Some(207));
        assert_eq!(own_ticks(stat), Some(175));
        assert_eq!(busy_ticks("cpu  1 2 4 1000 2000 8 16 32 500 600\ncpu0 1 2\n"), Some(63));
    }

    #[test]
    fn children_count() {
        // The child counts to a million, says so, and waits.
        let script = "(i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done; echo done; read -r _)";
        let mut parent = Command::new("sh")
            .args(["-c", &format!("{script}; :")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let output = parent.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let process = ProcessId(parent.id());
        let children = process.children().expect("it lives");
        assert_eq!(children.len(), 1);
        let (all, child) = (process.precise_cpu_ms(), children[0].precise_cpu_ms());
        assert!(child > Some(10.0) && all > child, "{all:?} {child:?}");
        assert!(process.cpu_ms() >= children[0].cpu_ms());
        assert!(process.tree_pss_kib() > children[0].tree_pss_kib());
        drop(parent.stdin.take());
        parent.wait().expect("it ends");
    }
}

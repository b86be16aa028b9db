//! What the system says of this process. Where it says nothing (it is Linux that does), there is nothing to show.

/// Bytes of memory in use.
pub(super) fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u32 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(f64::from(kibibytes) * 1024.0)
}

/// Open files, sockets and the like.
pub(super) fn open_fds() -> Option<f64> {
    let listed = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // Reading the list takes one itself.
    u32::try_from(listed.saturating_sub(1)).ok().map(f64::from)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn linux_tells() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000.0));
        let before = open_fds().expect("a number");
        let held: Vec<_> = (0..50)
            .map(|_| std::fs::File::open("/proc/self/status").expect("a file"))
            .collect();
        // Other tests open and close files meanwhile, though not as many.
        assert!(open_fds().is_some_and(|now| now > before), "{} more", held.len());
    }
}

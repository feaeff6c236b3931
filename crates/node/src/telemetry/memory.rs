//! How much memory the process may use.

use std::{fs, path::Path};

/// What a container's group may use: with version 2 of Linux's control groups,
/// and with version 1.
const LIMITS: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// The bytes that the process's container may use, or its machine has, whichever
/// is less. Zero if the system does not say.
pub(crate) fn limit() -> u64 {
    let limits = LIMITS.map(|path| number(&fs::read_to_string(Path::new(path)).ok()?));
    let machine = fs::read_to_string("/proc/meminfo");
    let machine = machine.ok().and_then(|text| total(&text));
    let limits = limits.into_iter().chain([machine]);
    limits.flatten().min().unwrap_or(0)
}

/// `max` is no limit.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The first line of `/proc/meminfo`: `MemTotal:  16384 kB`.
fn total(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes = number(line.trim().strip_suffix("kB")?)?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_understood() {
        assert_eq!(number("536870912\n"), Some(536_870_912));
        assert_eq!(number("max\n"), None);
        let text = "MemTotal:       16384256 kB\nMemFree:  1 kB\n";
        assert_eq!(total(text), Some(16_384_256 * 1024));
        assert_eq!(total("MemFree: 1 kB"), None);
        if cfg!(target_os = "linux") {
            assert!(limit() > 1 << 20);
        }
    }
}

//! How much memory the process may use.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where version 2 of Linux's control groups says what a group may use, and where version 1 does.
const UNIFIED: (&str, &str) = ("/sys/fs/cgroup", "memory.max");
const MEMORY: (&str, &str) = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes");

/// The bytes that the process's service or container may use, or its machine has, whichever is the
/// least. Zero if the system does not say.
pub(crate) fn limit() -> u64 {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limits(&groups).into_iter();
    let limits = limits.map(|path| number(&fs::read_to_string(path).ok()?));
    let machine = fs::read_to_string("/proc/meminfo");
    let machine = machine.ok().and_then(|text| total(&text));
    limits.chain([machine]).flatten().min().unwrap_or(0)
}

/// The files with the limits of the process's groups and of those around them, by the lines of
/// `/proc/self/cgroup`: `0::/system.slice/pollux.service`, or `4:memory:/…` with version 1. In a
/// container they may name a group that is seen from outside only: its own is the outermost one
/// there, and always among them.
fn limits(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => UNIFIED,
            _ if controllers.split(',').any(|name| name == "memory") => MEMORY,
            _ => continue,
        };
        let around = Path::new(group.trim_start_matches('/')).ancestors();
        files.extend(around.map(|group| Path::new(root).join(group).join(file)));
    }
    files
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
        assert_eq!(limits("0::/"), [Path::new("/sys/fs/cgroup/memory.max")]);
        let files = limits("0::/system.slice/pollux.service\n1:cpu:/a\n2:hugetlb,memory:/b\n3\n");
        let expected = [
            "/sys/fs/cgroup/system.slice/pollux.service/memory.max",
            "/sys/fs/cgroup/system.slice/memory.max",
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/memory/b/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ];
        assert_eq!(files, expected.map(Path::new));
        if cfg!(target_os = "linux") {
            assert!(limit() > 1 << 20);
        }
    }
}

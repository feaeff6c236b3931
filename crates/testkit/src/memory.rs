//! What a process holds, as Linux counts it.

use anyhow::{Context, Result};
use std::fs;

/// Bytes of memory that only this process holds, plus its share of the shared ones.
pub(crate) fn pss_bytes(pid: u32) -> Result<u64> {
    field(pid, "smaps_rollup", "Pss:")
}

/// Bytes of memory this process holds, shared ones counted in full.
pub(crate) fn rss_bytes(pid: u32) -> Result<u64> {
    field(pid, "status", "VmRSS:")
}

fn field(pid: u32, file: &str, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    Ok(kilobytes.with_context(|| format!("no {name} in {path}"))? * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_holds_something() {
        let pid = std::process::id();
        assert!(super::pss_bytes(pid).unwrap() > 0);
        assert!(super::rss_bytes(pid).unwrap() > 0);
        assert!(super::rss_bytes(0).is_err());
    }
}

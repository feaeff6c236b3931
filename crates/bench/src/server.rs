//! The measured server as `/proc` shows it: memory and CPU time of all its processes.

use std::fs;
use std::io;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

/// Ticks of `/proc/PID/stat` per second. Fixed in Linux's user-space interface.
const TICKS_PER_SECOND: u64 = 100;
/// User and system ticks are each rounded down, so the two CPU clocks differ by this much in a
/// process; more means that a thread has ended and took its precise time with it.
const ROUNDING: Duration = Duration::from_millis(20);

/// A process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Pid(pub(crate) u32);

/// The processes that are the server, nginx workers included.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Processes(Vec<Pid>);

/// How memory was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MemorySource {
    /// Proportional set size: shared pages are split among those who share them.
    Pss,
    /// Resident set size: shared pages count in every process.
    Rss,
}

/// How CPU time was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CpuSource {
    /// Nanoseconds by the scheduler, summed over threads.
    Schedstat,
    /// Ticks of 10 ms, user and system.
    Stat,
}

/// Memory of all processes at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) bytes: u64,
    pub(crate) source: MemorySource,
}

/// CPU time of all processes up to one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    processes: usize,
    ticks: Duration,
    precise: Option<Duration>,
}

impl Processes {
    /// The processes given, each of which must exist.
    pub(crate) fn find(pids: &[Pid]) -> Result<Self> {
        for pid in pids {
            if fs::metadata(format!("/proc/{}", pid.0)).is_err() {
                bail!("there is no process {}; check --server-pid", pid.0);
            }
        }
        Ok(Self(pids.to_vec()))
    }

    /// The generator itself.
    pub(crate) fn myself() -> Self {
        Self(vec![Pid(std::process::id())])
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// PSS of all, or RSS of all if one of them does not let us see its PSS.
    pub(crate) fn memory(&self) -> io::Result<Memory> {
        let pss = self.sum("smaps_rollup", |text| kilobytes(text, "Pss:"));
        let (bytes, source) = match pss {
            Ok(bytes) => (bytes, MemorySource::Pss),
            Err(_) => {
                let bytes = self.sum("status", |text| kilobytes(text, "VmRSS:"))?;
                (bytes, MemorySource::Rss)
            }
        };
        Ok(Memory { bytes, source })
    }

    pub(crate) fn cpu(&self) -> io::Result<Cpu> {
        let ticks = self.sum("stat", ticks_in_stat)?;
        let per_second = Duration::from_secs(1) / u32::try_from(TICKS_PER_SECOND).unwrap_or(1);
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        Ok(Cpu {
            processes: self.0.len(),
            ticks: per_second * ticks,
            precise: self.scheduled().ok(),
        })
    }

    fn sum(&self, file: &str, read: impl Fn(&str) -> Option<u64>) -> io::Result<u64> {
        let mut sum = 0;
        for pid in &self.0 {
            let path = format!("/proc/{}/{file}", pid.0);
            sum += read(&fs::read_to_string(&path)?)
                .ok_or_else(|| io::Error::other(format!("{path} is not as expected")))?;
        }
        Ok(sum)
    }

    /// `/proc/PID/schedstat` is the main thread only, so each thread is asked.
    fn scheduled(&self) -> io::Result<Duration> {
        let mut nanoseconds = 0;
        for pid in &self.0 {
            for thread in fs::read_dir(format!("/proc/{}/task", pid.0))? {
                // A thread may end while the list is read.
                if let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) {
                    nanoseconds += run_time(&text).unwrap_or_default();
                }
            }
        }
        if nanoseconds == 0 {
            return Err(io::Error::other("the kernel keeps no schedstat"));
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl Cpu {
    /// CPU time spent since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> (Duration, CpuSource) {
        let coarse = self.ticks.saturating_sub(earlier.ticks);
        if let (Some(now), Some(then)) = (self.precise, earlier.precise) {
            let complete = now.checked_sub(then);
            let rounding = ROUNDING * u32::try_from(self.processes).unwrap_or(1);
            if let Some(fine) = complete.filter(|&fine| fine + rounding >= coarse) {
                return (fine, CpuSource::Schedstat);
            }
        }
        (coarse, CpuSource::Stat)
    }
}

/// The value of a `Name:  123 kB` line, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

/// User and system ticks. The process name may contain spaces and brackets, so count from its end.
fn ticks_in_stat(text: &str) -> Option<u64> {
    const USER_AFTER_NAME: usize = 11;
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(USER_AFTER_NAME);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Nanoseconds on a CPU: the first field of `schedstat`.
fn run_time(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pss_and_rss() {
        let rollup = "5600-7ff ---p 00000000 00:00 0 [rollup]\nRss:    2000 kB\nPss:    1234 kB\nPss_Dirty:   7 kB\n";
        assert_eq!(kilobytes(rollup, "Pss:"), Some(1234 * 1024));
        assert_eq!(kilobytes("VmRSS:\t   64 kB\n", "VmRSS:"), Some(65_536));
        for text in ["", "Pss:", "Pss: x kB", "Pss: 12 MB"] {
            assert_eq!(kilobytes(text, "Pss:"), None, "{text}");
        }
    }

    #[test]
    fn reads_ticks_behind_the_strangest_name() {
        let stat = "4 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 1\n";
        assert_eq!(ticks_in_stat(stat), Some(300));
        assert_eq!(ticks_in_stat("4 (nginx) S 1 2"), None);
        assert_eq!(ticks_in_stat(""), None);
        assert_eq!(run_time("123456 78 9\n"), Some(123_456));
        assert_eq!(run_time("\n"), None);
    }

    #[test]
    fn sees_itself() {
        let myself = Processes::myself();
        assert!(myself.memory().unwrap().bytes > 0);
        let start = myself.cpu().unwrap();
        // Nothing to assert but that later is not before: the kernel may count in ticks only.
        let (_, source) = myself.cpu().unwrap().since(start);
        assert_eq!(source == CpuSource::Schedstat, start.precise.is_some());
        assert!(Processes::find(&[Pid(u32::MAX)]).is_err());
    }

    #[test]
    fn a_vanished_thread_makes_it_fall_back_to_ticks() {
        let cpu = |ticks, precise| Cpu {
            processes: 1,
            ticks: Duration::from_millis(ticks),
            precise: Some(Duration::from_millis(precise)),
        };
        let close = cpu(1010, 1013).since(cpu(10, 10));
        assert_eq!(close, (Duration::from_millis(1003), CpuSource::Schedstat));
        let gone = cpu(1010, 40).since(cpu(10, 10));
        assert_eq!(gone, (Duration::from_secs(1), CpuSource::Stat));
        let backwards = cpu(10, 5).since(cpu(10, 10));
        assert_eq!(backwards, (Duration::ZERO, CpuSource::Stat));
    }
}

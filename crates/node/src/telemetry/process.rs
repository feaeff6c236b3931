//! What every Prometheus client library tells of its process, under names that
//! are everybody's.

use prometheus::{
    core::Collector as _,
    process_collector::ProcessCollector,
    proto::{Counter, MetricFamily},
};
use std::fs;

/// The library counts this one in whole seconds. A node that needs a twentieth
/// of a core would seem to rest for twenty seconds and then to work for one.
const CPU: &str = "process_cpu_seconds_total";

/// The kernel's unit of CPU time in `/proc`, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// All of it, as of now.
pub(super) fn families() -> Vec<MetricFamily> {
    let mut families = ProcessCollector::for_self().collect();
    let cpu = families.iter_mut().find(|family| family.name() == CPU);
    let metric = cpu.and_then(|family| family.mut_metric().first_mut());
    let stat = fs::read_to_string("/proc/self/stat");
    let seconds = stat.ok().and_then(|stat| cpu_seconds(&stat));
    if let Some((metric, seconds)) = metric.zip(seconds) {
        let mut counter = Counter::default();
        counter.set_value(seconds);
        metric.set_counter(counter);
    }
    families
}

/// Of the line in `/proc/self/stat`, what the process had of all cores: of the
/// fields after the command, which may have anything in it, the twelfth and the
/// thirteenth.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = |name: &str| {
            format!("7 ({name}) S 1 7 7 0 -1 4194304 1108 0 0 0 6051 1199 0 0 20 0 5 0 99 1 2")
        };
        for name in ["pollux", "a b", "a) S 1", "((("] {
            assert_eq!(cpu_seconds(&stat(name)), Some(72.5), "{name}");
        }
        for nothing in [
            "",
            "7",
            "7 (pollux)",
            "7 (pollux) S 1 2 3",
            "7 (p) S 1 7 7 0 -1 4 1 0 0 0 x 1",
        ] {
            assert_eq!(cpu_seconds(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_twentieth_of_a_second_of_work_is_seen() {
        let seen = || {
            let families = families();
            let cpu = families.iter().find(|family| family.name() == CPU);
            let metrics = cpu.map(MetricFamily::get_metric).unwrap_or_default();
            metrics.first().unwrap().get_counter().get_value()
        };
        let before = seen();
        // Each look is work itself.
        let mut looks = 0..10_000_000;
        while seen() - before < 0.05 {
            assert!(looks.next().is_some(), "{before}");
        }
        assert!(seen() - before < 1.0, "not a whole second");
    }
}

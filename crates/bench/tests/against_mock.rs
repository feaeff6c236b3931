//! The binary against a server whose faults are known: every one must show in the report.

mod mock;

use std::error::Error;
use std::process::{Command, Output};

use serde_json::Value;

use crate::mock::{Habit, Mock};

type Checked = Result<(), Box<dyn Error>>;

fn bench(arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_pollux-bench"))
        .args(arguments)
        .output()
}

fn fanout(mock: &Mock, more: &[&str]) -> std::io::Result<Output> {
    let url = mock.url();
    let mut arguments = vec![
        "fanout", "--json", "--url", &url, "-n", "11", "--settle", "50ms",
    ];
    arguments.extend_from_slice(more);
    bench(&arguments)
}

fn errors_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_rough_server_that_loses_nothing_is_clean() -> Checked {
    let mock = Mock::start(Habit::Rough)?;
    let pid = std::process::id().to_string();
    let output = fanout(
        &mock,
        &[
            "-m",
            "9",
            "--streams",
            "3",
            "--cursor",
            "--server-pid",
            &pid,
        ],
    )?;
    assert_eq!(output.status.code(), Some(0), "{}", errors_of(&output));
    assert!(output.stderr.is_empty(), "{}", errors_of(&output));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(report["published"], 27);
    assert_eq!(report["expected"], 99);
    assert_eq!(report["deliveries"], 99);
    assert_eq!(report["losses"], 0);
    assert_eq!(report["duplicates"], 0);
    assert_eq!(report["out_of_order"], 0);
    assert_eq!(report["complete"], true);
    assert_eq!(report["notes"], serde_json::json!([]));
    assert!(report["reconnects"].as_u64() > Some(0), "{report}");
    assert!(report["latency_us"]["p50"].as_f64() > Some(0.0));
    assert!(report["memory_bytes"]["parked"].as_u64() > Some(0));
    assert!(report["server_cpu"]["us_per_delivery"].is_number());
    assert!(mock.cursors() > 0);
    Ok(())
}

#[test]
fn a_stream_of_publications_is_counted_too() -> Checked {
    let mock = Mock::start(Habit::Rough)?;
    let output = fanout(&mock, &["-m", "60", "--rate", "300", "--in-flight", "8"])?;
    assert_eq!(output.status.code(), Some(0), "{}", errors_of(&output));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(report["deliveries"], 660);
    assert_eq!(mock.cursors(), 0);
    Ok(())
}

#[test]
fn losses_are_counted_and_make_the_exit_code_one() -> Checked {
    let mock = Mock::start(Habit::Loses)?;
    let output = fanout(&mock, &["-m", "9", "--rate", "200", "--timeout", "1s"])?;
    assert_eq!(output.status.code(), Some(1), "{}", errors_of(&output));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    // With the warm-up ten messages, of which the third, sixth and ninth are missing.
    assert_eq!(report["losses"], 3);
    assert_eq!(report["deliveries"], 96);
    assert_eq!(report["complete"], true);
    Ok(())
}

#[test]
fn a_loss_ends_a_run_that_waits_for_everyone() -> Checked {
    let mock = Mock::start(Habit::Loses)?;
    let output = fanout(&mock, &["-m", "9", "--timeout", "500ms"])?;
    assert_eq!(output.status.code(), Some(1), "{}", errors_of(&output));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(report["losses"], 1);
    assert_eq!(report["complete"], false);
    Ok(())
}

#[test]
fn duplicates_are_counted_and_no_loss() -> Checked {
    let mock = Mock::start(Habit::Repeats)?;
    let output = fanout(&mock, &["-m", "4"])?;
    assert_eq!(output.status.code(), Some(0), "{}", errors_of(&output));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(report["deliveries"], 44);
    // Warm-up ones are counted too.
    assert_eq!(report["duplicates"], 55);
    Ok(())
}

#[test]
fn idle_weighs_before_and_after_a_delivery() -> Checked {
    let mock = Mock::start(Habit::Rough)?;
    let url = mock.url();
    let pid = std::process::id().to_string();
    let output = bench(&[
        "idle",
        "--url",
        &url,
        "-n",
        "4",
        "--hold",
        "200ms",
        "--after-delivery",
        "--settle",
        "50ms",
        "--server-pid",
        &pid,
        "--json",
    ])?;
    assert_eq!(output.status.code(), Some(0), "{}", errors_of(&output));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(report["parked"], 4);
    assert_eq!(report["delivered"], 4);
    assert!(report["memory_bytes"]["after_delivery"].is_number());
    Ok(())
}

#[test]
fn compare_gives_ratios_of_two_servers() -> Checked {
    let (a, b) = (Mock::start(Habit::Rough)?, Mock::start(Habit::Rough)?);
    let pid = std::process::id();
    let (a, b) = (
        format!("{},lp,{pid}", a.url()),
        format!("{},lp,{pid}", b.url()),
    );
    let output = bench(&[
        "compare", "--a", &a, "--b", &b, "-n", "4", "-m", "3", "--rounds", "2", "--rest", "100ms",
        "--settle", "50ms", "--json",
    ])?;
    assert_eq!(output.status.code(), Some(0), "{}", errors_of(&output));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(report["a"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["b"].as_array().map(Vec::len), Some(2));
    let names: Vec<&str> = report["ratios"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|ratio| ratio["name"].as_str())
        .collect();
    assert!(names.contains(&"last receiver"), "{names:?}");
    assert!(names.contains(&"latency p50"), "{names:?}");
    Ok(())
}

#[test]
fn trouble_is_said_in_a_sentence() -> Checked {
    for (habit, expected) in [
        (Habit::Refuses, "refused to open a poll: status_401"),
        (Habit::Rejects, "allow public streams"),
        (Habit::Unpublishable, "publishing was refused: status_501"),
    ] {
        let mock = Mock::start(habit)?;
        let output = fanout(&mock, &["-m", "2"])?;
        assert_eq!(output.status.code(), Some(2), "{habit:?}");
        assert!(output.stdout.is_empty());
        let errors = errors_of(&output);
        assert!(errors.contains(expected), "{errors}");
    }
    // Port 1 is reserved and nobody serves on it.
    let output = bench(&["fanout", "--url", "http://127.0.0.1:1"])?;
    assert_eq!(output.status.code(), Some(2));
    let errors = errors_of(&output);
    assert!(
        errors.contains("nothing listens at http://127.0.0.1:1"),
        "{errors}"
    );
    Ok(())
}

#[test]
fn help_teaches_by_example() -> Checked {
    let output = bench(&["--help"])?;
    let help = String::from_utf8(output.stdout)?;
    assert!(help.contains("pollux-bench compare --a"), "{help}");
    Ok(())
}

//! A body of commands, presence and whisper fields included.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollux_protocol::{Command, CommandError, lines};

fuzz_target!(|data: &[u8]| {
    for line in lines(data) {
        match Command::parse(line) {
            Ok(command) => assert!(!command.name().is_empty()),
            Err(error) => assert!(CommandError::KINDS.contains(&error.kind())),
        }
    }
});

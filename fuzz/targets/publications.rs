//! What backends publish.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollux_protocol::Inbound;

fuzz_target!(|data: &[u8]| {
    match Inbound::parse(data) {
        Ok(Inbound::Publications(publications)) => {
            for publication in publications {
                let json = publication.to_json();
                let again = Inbound::parse(&json).expect("what was read can be written");
                assert_eq!(again, Inbound::Publications(vec![publication]));
            }
        }
        Ok(Inbound::Disconnect(command)) => {
            let again = Inbound::parse(&command.to_json()).expect("what was read can be written");
            assert_eq!(again, Inbound::Disconnect(command));
        }
        Err(error) => assert!(!error.message().is_empty()),
    }
});

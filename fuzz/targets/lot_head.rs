//! A request as the parking lot reads it.
#![no_main]

#[path = "../../crates/node/src/http/accept_encoding.rs"]
mod accept_encoding;

/// Where the parser looks for its neighbour.
mod http {
    pub(crate) use crate::accept_encoding::may_compress;
}

#[path = "../../crates/node/src/server/lot/head.rs"]
mod head;

use head::Parsed;
use libfuzzer_sys::fuzz_target;

const MAX_BODY: usize = 100;

fuzz_target!(|data: &[u8]| {
    match head::parse(data, "/lp", MAX_BODY, Some("jid")) {
        Parsed::Poll(head) => {
            assert!(head.body.len() <= MAX_BODY && data.ends_with(head.body));
            assert!(head.poll_id.is_some() || head.headers.is_some());
            let _ = (head.cursor, head.origin, head.takes_gzip, head.query);
            // Nothing is done before all of it is there.
            let (start, _) = data.split_at(data.len() / 2);
            for start in [start, data.split_last().map_or(data, |(_, start)| start)] {
                let parsed = head::parse(start, "/lp", MAX_BODY, Some("jid"));
                assert!(matches!(parsed, Parsed::Partial), "{parsed:?}");
            }
            // And nothing is left over.
            let more = [data, b"x"].concat();
            let parsed = head::parse(&more, "/lp", MAX_BODY, Some("jid"));
            assert!(matches!(parsed, Parsed::HandOver), "{parsed:?}");
        }
        Parsed::Preflight { origin } => drop(origin),
        Parsed::Partial | Parsed::HandOver => {}
    }
});

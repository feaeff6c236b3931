//! The query of a category's poll.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollux_protocol::category::{CATEGORIES_MAX, CATEGORY_MAX, EventId, PollQuery};

fuzz_target!(|data: &[u8]| {
    let Ok(query) = PollQuery::parse(data, 110) else {
        return;
    };
    assert!((1..=110).contains(&query.timeout));
    assert!((1..=CATEGORIES_MAX).contains(&query.categories.len()));
    for category in &query.categories {
        // A byte that is no UTF-8 is three afterwards.
        assert!(category.as_str().len() <= 3 * CATEGORY_MAX);
    }
    if let Some(last) = query.last {
        assert!(query.since.is_some());
        assert_eq!(EventId::parse(last.to_string().as_bytes()), Some(last));
    }
});

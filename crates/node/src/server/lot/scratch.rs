//! Buffers that the connections of a worker share.
//!
//! They are borrowed for the length of one read or one write and never across
//! an await, so a waiting connection has none.

use std::cell::RefCell;

/// Holds any poll with its headers in one read. A request that is larger is put
/// together elsewhere.
const READ: usize = 16 * 1024;

/// What a worker keeps for answers; a larger one has its buffer for itself.
const WRITE: usize = 256 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
    static WRITE_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends this worker's read buffer.
pub(super) fn with_read_buffer<T>(user: impl FnOnce(&mut [u8]) -> T) -> T {
    READ_BUFFER.with_borrow_mut(|buffer| user(buffer))
}

/// Lends this worker's write buffer, empty.
pub(super) fn with_write_buffer<T>(user: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    WRITE_BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        let result = user(buffer);
        // An outbox may be larger than this by far; most never are.
        buffer.shrink_to(WRITE);
        result
    })
}

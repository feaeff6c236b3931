//! Compressed answers, for those who ask for them.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use std::cell::RefCell;

/// An answer is compressed while its client waits, on a thread that serves
/// others: 8 µs for a kilobyte, 3 ms for the megabyte that an outbox holds at
/// most. Level 1 takes two thirds of that and leaves half as much again; level
/// 6 takes twice as long for nothing.
const LEVEL: u32 = 2;

/// The largest window: there is one a worker.
const WINDOW_BITS: u8 = 15;

/// A compressed answer that a worker remembers has at most so many bytes before.
const REMEMBERED: usize = 64 * 1024;

/// What a worker compresses with. Making it anew costs more than compressing a
/// small answer does.
struct Worker {
    compress: Compress,
    /// A message that many wait for is one frame, shared by all their answers:
    /// compressed once by each worker. The frame is kept too, so its place in
    /// memory can't be another's.
    last: Option<(Bytes, Bytes)>,
}

thread_local! {
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

/// The bytes compressed; `None` if that makes them no smaller.
pub(crate) fn compressed(bytes: &Bytes) -> Option<Bytes> {
    WORKER.with_borrow_mut(|worker| {
        let worker = worker.get_or_insert_with(|| Worker {
            compress: Compress::new_gzip(Compression::new(LEVEL), WINDOW_BITS),
            last: None,
        });
        if let Some((plain, compressed)) = &worker.last
            && plain.as_ptr() == bytes.as_ptr()
            && plain.len() == bytes.len()
        {
            return Some(compressed.clone());
        }
        worker.last = None;
        worker.compress.reset();
        let mut out = Vec::with_capacity(bytes.len());
        let done = worker
            .compress
            .compress_vec(bytes, &mut out, FlushCompress::Finish);
        if !matches!(done, Ok(Status::StreamEnd)) {
            return None;
        }
        // It may live as long as a slow client takes.
        out.shrink_to_fit();
        let out = Bytes::from(out);
        if bytes.len() <= REMEMBERED {
            worker.last = Some((bytes.clone(), out.clone()));
        }
        Some(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read as _;

    #[test]
    fn what_comes_out_is_what_went_in() {
        for length in [1_024, 70_000, 1 << 20] {
            let text: String = (0..)
                .map(|n| format!("{{\"n\":{n}}}\n"))
                .take(length / 4)
                .collect();
            let plain = Bytes::from(text);
            for _ in 0..2 {
                let compressed = compressed(&plain).unwrap();
                assert!(compressed.len() < plain.len() / 2);
                let mut back = Vec::new();
                GzDecoder::new(&*compressed).read_to_end(&mut back).unwrap();
                assert_eq!(back, plain);
            }
        }
    }

    #[test]
    fn what_gets_no_smaller_stays_as_it_is() {
        let mut noise = vec![0; 5_000];
        getrandom::fill(&mut noise).unwrap();
        assert!(compressed(&Bytes::from(noise)).is_none());
    }
}

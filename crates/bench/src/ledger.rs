//! What one poller has received of its stream: finds duplicates and disorder in a few bytes.

use crate::mark::Seq;

/// The sequence numbers a poller has seen.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The highest number seen; 0 before the first.
    pub(crate) highest: u32,
    /// Inclusive ranges below `highest` not seen yet. Empty as long as all is well.
    pub(crate) missing: Vec<(u32, u32)>,
}

/// What a message turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// First time seen, in order.
    InOrder,
    /// First time seen, after a later one.
    Late,
    /// Seen before.
    Duplicate,
}

impl Ledger {
    pub(crate) fn enter(&mut self, seq: Seq) -> Receipt {
        let seq = seq.0;
        if seq > self.highest {
            if seq > self.highest + 1 {
                self.missing.push((self.highest + 1, seq - 1));
            }
            self.highest = seq;
            return Receipt::InOrder;
        }
        let found = self
            .missing
            .iter()
            .position(|&(first, last)| (first..=last).contains(&seq));
        let Some(index) = found else {
            return Receipt::Duplicate;
        };
        let (first, last) = self.missing.swap_remove(index);
        if first < seq {
            self.missing.push((first, seq - 1));
        }
        if seq < last {
            self.missing.push((seq + 1, last));
        }
        Receipt::Late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_order_duplicates_and_late_ones_apart() {
        let mut ledger = Ledger::default();
        let mut enter = |seq| ledger.enter(Seq(seq));
        assert_eq!(enter(1), Receipt::InOrder);
        assert_eq!(enter(1), Receipt::Duplicate);
        assert_eq!(enter(6), Receipt::InOrder);
        assert_eq!(enter(4), Receipt::Late);
        assert_eq!(enter(4), Receipt::Duplicate);
        assert_eq!(enter(3), Receipt::Late);
        assert_eq!(enter(5), Receipt::Late);
        assert_eq!(enter(2), Receipt::Late);
        assert_eq!(enter(7), Receipt::InOrder);
        assert_eq!(enter(0), Receipt::Duplicate);
        assert!(ledger.missing.is_empty());
    }
}

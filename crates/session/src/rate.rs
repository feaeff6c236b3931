//! How much of something may be done in a time.

use crate::time::Time;
use std::time::Duration;

/// So many a second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What one costs.
    each: Duration,
    /// What those cost that may come at once.
    burst: Duration,
}

/// What is left of a rate for one who is bound to it: a token bucket that
/// remembers nothing but when it will be full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    full_at: Time,
}

impl Rate {
    /// So many a second, and after a pause `burst` at once. `None`, for no
    /// limit, if either is zero.
    #[must_use]
    pub fn new(per_second: usize, burst: usize) -> Option<Self> {
        let per_second = u32::try_from(per_second).unwrap_or(u32::MAX);
        let each = Duration::from_secs(1).checked_div(per_second)?;
        (burst > 0).then(|| Self {
            each,
            burst: times(each, burst),
        })
    }
}

impl Bucket {
    /// Takes `number` out. More than there ever is are taken out of a full
    /// bucket, which then has to be filled for longer.
    ///
    /// # Errors
    /// There are not as many, and none was taken. There will be after this
    /// time, if nobody takes any.
    pub fn take(&mut self, number: usize, rate: Rate, now: Time) -> Result<(), Duration> {
        let missing = self.full_at.since(now);
        let wanted = times(rate.each, number).min(rate.burst);
        let wait = (missing + wanted).saturating_sub(rate.burst);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.overdraw(number, rate, now);
        Ok(())
    }

    /// Takes `number` out, whether they are there or not. Returns how long it
    /// will be until none is owed.
    pub fn overdraw(&mut self, number: usize, rate: Rate, now: Time) -> Duration {
        self.full_at = self.full_at.max(now) + times(rate.each, number);
        self.full_at.since(now).saturating_sub(rate.burst)
    }
}

fn times(each: Duration, number: usize) -> Duration {
    each.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_origin(Duration::from_millis(millis))
    }

    #[test]
    fn a_bucket_gives_what_is_in_it_and_fills_up_again() {
        let rate = Rate::new(10, 20).unwrap();
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(15, rate, at(0)), Ok(()));
        let wait = Duration::from_millis(500);
        assert_eq!(bucket.take(10, rate, at(0)), Err(wait));
        assert_eq!(bucket.take(5, rate, at(0)), Ok(()), "none was taken");
        assert_eq!(bucket.take(1, rate, at(99)).unwrap_err().as_millis(), 1);
        assert_eq!(bucket.take(1, rate, at(100)), Ok(()));
        // It does not hold more after a long time.
        assert_eq!(bucket.take(20, rate, at(60_000)), Ok(()));
        assert!(bucket.take(1, rate, at(60_000)).is_err());
    }

    #[test]
    fn what_is_too_much_for_any_bucket_waits_for_a_full_one() {
        let rate = Rate::new(10, 20).unwrap();
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(1, rate, at(0)), Ok(()));
        let wait = bucket.take(50, rate, at(0)).unwrap_err();
        assert_eq!(wait.as_millis(), 100);
        assert_eq!(bucket.take(50, rate, at(100)), Ok(()));
        assert_eq!(
            bucket.take(1, rate, at(100)).unwrap_err().as_millis(),
            3_100
        );
    }

    #[test]
    fn what_is_owed_takes_its_time() {
        let rate = Rate::new(10, 20).unwrap();
        let mut bucket = Bucket::default();
        assert_eq!(bucket.overdraw(20, rate, at(0)), Duration::ZERO);
        assert_eq!(bucket.overdraw(10, rate, at(0)).as_millis(), 1_000);
        assert_eq!(bucket.overdraw(0, rate, at(400)).as_millis(), 600);
        let endless = bucket.overdraw(usize::MAX, rate, at(400));
        assert!(endless > Duration::from_secs(1_000_000));
    }

    #[test]
    fn zero_is_no_limit() {
        assert_eq!(Rate::new(0, 5), None);
        assert_eq!(Rate::new(5, 0), None);
        assert_eq!(size_of::<Bucket>(), 8);
    }
}

//! Waiting for something that must happen soon.

use std::time::Duration;
use tokio::time::Instant;

/// How often a condition is looked at.
pub const CHECK_EVERY: Duration = Duration::from_millis(5);

/// The moment after which waiting has failed.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline that is `within` away.
    pub fn within(within: Duration) -> Self {
        Self(Instant::now() + within)
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    /// The pause between two looks.
    pub async fn pause(self) {
        tokio::time::sleep(CHECK_EVERY).await;
    }
}

/// Waits until a condition holds, and panics if it does not hold in time.
///
/// The condition is an expression, looked at every 5 ms, and may `.await`. It is looked at at
/// least once after the deadline, so that a stalled machine alone fails nothing.
///
/// ```
/// # use pollux_testkit::assert_eventually;
/// # use std::time::Duration;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let mut looks = 0;
/// assert_eventually!({ looks += 1; looks > 3 }, Duration::from_secs(1), "looked {looks} times");
/// # });
/// ```
#[macro_export]
macro_rules! assert_eventually {
    ($condition:expr, $within:expr $(,)?) => {
        $crate::assert_eventually!($condition, $within, "it is not so: {}", stringify!($condition))
    };
    ($condition:expr, $within:expr, $($message:tt)+) => {{
        let deadline = $crate::Deadline::within($within);
        loop {
            let was_over = deadline.is_over();
            if $condition {
                break;
            }
            assert!(!was_over, "within {:?}: {}", $within, format_args!($($message)+));
            deadline.pause().await;
        }
    }};
}

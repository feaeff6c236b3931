//! Something that many want and one makes.

use std::io;

use tokio::{sync::Mutex, time::Instant};

/// A value that is made when first wanted. Who comes while it is being made
/// waits, and shares a failure as well as a success.
#[derive(Debug)]
pub(crate) struct Shared<T>(Mutex<Slot<T>>);

#[derive(Debug)]
struct Slot<T> {
    value: Option<T>,
    /// When making it failed last, and why.
    failed: Option<(Instant, Box<str>)>,
}

impl<T: Clone> Shared<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Slot {
            value: None,
            failed: None,
        }))
    }

    /// The value if it is still good, else what `make` gives.
    pub(crate) async fn get(
        &self,
        good: impl Fn(&T) -> bool,
        make: impl Future<Output = io::Result<T>>,
    ) -> Result<T, Box<str>> {
        let asked = Instant::now();
        let mut slot = self.0.lock().await;
        if let Some(value) = slot.value.as_ref().filter(|value| good(value)) {
            return Ok(value.clone());
        }
        slot.value = None;
        // Else a row of callers would each wait in turn for a host that hangs.
        if let Some((when, why)) = &slot.failed
            && *when > asked
        {
            return Err(why.clone());
        }
        match make.await {
            Ok(value) => {
                slot.value = Some(value.clone());
                Ok(value)
            }
            Err(error) => {
                let why: Box<str> = error.to_string().into();
                slot.failed = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }
}

//! What a connection's own task does with what the server pushes.

use super::{Health, Message};
use ::redis::{PushInfo, PushKind, Value};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};
use tokio::sync::{Notify, mpsc};

/// What that task and the link share.
#[derive(Debug, Default)]
pub(super) struct Ears {
    gone: Notify,
    is_gone: AtomicBool,
    /// The last probe that came back.
    echo: AtomicU64,
    /// Confirmations of leaving that are still to come. Below zero: the
    /// server has ended subscriptions by itself.
    leaving: AtomicI64,
}

impl Ears {
    /// The end of the connection.
    pub(super) async fn ended(&self) {
        self.gone.notified().await;
    }

    pub(super) fn have_ended(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// The number of the last probe that came back.
    pub(super) fn echo(&self) -> u64 {
        self.echo.load(Ordering::Relaxed)
    }

    /// So many channels will be left.
    pub(super) fn expect_leaving(&self, channels: usize) {
        let channels = i64::try_from(channels).unwrap_or(i64::MAX);
        self.leaving.fetch_add(channels, Ordering::Relaxed);
    }

    fn end(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
        self.gone.notify_one();
    }
}

/// What runs for each push, on the connection's own task: it must not wait.
pub(super) fn receiver(
    ears: Arc<Ears>,
    health: Arc<Health>,
    messages: mpsc::Sender<Message>,
    probe: &str,
) -> impl Fn(PushInfo) -> Result<(), Infallible> + Send + Sync + 'static {
    let probe = probe.as_bytes().to_vec();
    move |push: PushInfo| {
        match push.kind {
            PushKind::Message | PushKind::SMessage => {
                let mut data = push.data.into_iter();
                let (Some(Value::BulkString(channel)), Some(Value::BulkString(body))) =
                    (data.next(), data.next())
                else {
                    return Ok(());
                };
                if channel == probe {
                    let number = str::from_utf8(&body)
                        .ok()
                        .and_then(|text| text.parse().ok());
                    ears.echo.store(number.unwrap_or(0), Ordering::Relaxed);
                } else if let Err(mpsc::error::TrySendError::Full(_)) =
                    messages.try_send(Message { channel, body })
                {
                    health.overflowed.fetch_add(1, Ordering::Relaxed);
                }
            }
            // If nobody asked to leave, the slot has moved. The library takes
            // this for an answer to some command, so the connection's answers
            // can't be trusted any more.
            PushKind::Unsubscribe | PushKind::SUnsubscribe
                if ears.leaving.fetch_sub(1, Ordering::Relaxed) <= 0 =>
            {
                ears.end();
            }
            PushKind::Disconnection => ears.end(),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(kind: PushKind, texts: &[&str]) -> PushInfo {
        let data = texts.iter().map(|text| text.as_bytes().to_vec());
        PushInfo {
            kind,
            data: data.map(Value::BulkString).collect(),
        }
    }

    #[test]
    fn messages_are_queued_and_those_that_do_not_fit_are_counted() {
        let (ears, health) = (Arc::new(Ears::default()), Arc::new(Health::default()));
        let (sender, mut queue) = mpsc::channel(1);
        let receive = receiver(Arc::clone(&ears), Arc::clone(&health), sender, "probe");
        receive(push(PushKind::Message, &["probe", "7"])).unwrap();
        assert_eq!(ears.echo(), 7);
        receive(push(PushKind::SMessage, &["a", "1"])).unwrap();
        receive(push(PushKind::Message, &["a", "2"])).unwrap();
        assert_eq!(health.overflowed.load(Ordering::Relaxed), 1);
        assert_eq!(queue.try_recv().unwrap().body, b"1");
        assert!(!ears.have_ended());
    }

    #[test]
    fn leaving_that_nobody_asked_for_ends_the_connection() {
        let ears = Arc::new(Ears::default());
        let (sender, _queue) = mpsc::channel(1);
        let receive = receiver(Arc::clone(&ears), Arc::default(), sender, "probe");
        ears.expect_leaving(1);
        receive(push(PushKind::SUnsubscribe, &["a"])).unwrap();
        assert!(!ears.have_ended());
        receive(push(PushKind::SUnsubscribe, &["b"])).unwrap();
        assert!(ears.have_ended());
    }
}

//! The ways to lose an answer.

use super::{Answer, Poller};
use anyhow::Result;
use std::time::Duration;

/// Bytes of an answer's first line, which a client that gives up early has read.
const FIRST_LINE: usize = "HTTP/1.1 200 OK\r\n".len();

/// What goes wrong with one poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// After this time the client closes the connection, whether or not an answer is there.
    CloseAfter(Duration),
    /// After this time the client resets the connection, whether or not an answer is there.
    ResetAfter(Duration),
    /// The client reads the start of the answer and resets the connection.
    HalfThenReset,
    /// The client reads the start of the answer and closes the connection.
    HalfThenClose,
}

impl Poller {
    /// [`Poller::fault_with`] without commands.
    ///
    /// # Errors
    /// The same.
    pub async fn fault(&mut self, fault: Fault) -> Result<Option<Answer>> {
        self.fault_with("", fault).await
    }

    /// One poll with commands, of which the client gets nothing. If the fault waits for an answer and none with
    /// frames comes, the poll ends in good order and what it brought is returned.
    ///
    /// # Errors
    /// The connection failed before the fault, or the answer is neither 200 nor 204.
    pub async fn fault_with(&mut self, commands: &str, fault: Fault) -> Result<Option<Answer>> {
        let mut connection = self.take_connection().await?;
        connection.send(&self.request(commands)).await?;
        match fault {
            Fault::CloseAfter(after) => {
                tokio::time::sleep(after).await;
                connection.close();
            }
            Fault::ResetAfter(after) => {
                tokio::time::sleep(after).await;
                connection.reset()?;
            }
            Fault::HalfThenReset | Fault::HalfThenClose => {
                let start = connection.peek(FIRST_LINE).await?;
                if !start.starts_with(b"HTTP/1.1 200") {
                    let response = connection.response().await?;
                    self.connection = Some(connection);
                    return self.understand(response).map(Some);
                }
                // The rest stays unread in the kernel, which a close tells the other side.
                connection.bytes(FIRST_LINE).await?;
                match fault {
                    Fault::HalfThenReset => connection.reset()?,
                    _ => connection.close(),
                }
            }
        }
        Ok(None)
    }
}

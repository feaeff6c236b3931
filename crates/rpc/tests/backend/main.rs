//! The client against applications that run in this process, over HTTP and
//! over gRPC.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod app;
mod balance;
mod calls;
mod limits;
mod retries;
mod secure;

//! The client against applications that run in this process, over HTTP and
//! over gRPC.

mod app;
mod balance;
mod calls;
mod limits;
mod retries;
mod secure;

//! HTTP/1.1 that hides nothing: exact bytes out, exact bytes in.

mod connection;
mod request;
mod response;

pub use connection::Connection;
pub use request::Request;
pub use response::Response;

//! One nonblocking connection: requests out, answers in.
//!
//! Between answers it owns no buffer: reads go through a buffer all connections share, and only
//! an answer that came in pieces is kept here until it is whole.

use std::io::{self, Read, Write};
use std::mem;
use std::net::{IpAddr, SocketAddr};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::failure::Failure;
use crate::http::{self, Answer, Parsed};

/// What Linux says while a nonblocking connect is under way.
const IN_PROGRESS: i32 = 115;

/// A connection, from the first SYN on.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: TcpStream,
    /// The beginning of an answer whose rest has not come yet.
    carry: Vec<u8>,
    /// The end of a request the socket would not take yet.
    unsent: Vec<u8>,
    connected: bool,
}

/// Why a connection is of no more use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The server closed it between answers.
    Closed,
    /// Something else, worth counting.
    Failed(Failure),
}

/// Whether the connection can carry the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Open,
    Closing,
    /// The next answer has begun to arrive; see [`Conn::receive_more`].
    More,
}

/// What the kernel said about a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The server has sent its last byte: read until the end is seen.
    pub(crate) read_closed: bool,
}

impl Conn {
    /// Begins to connect, from `source` if given.
    pub(crate) fn open(
        addr: SocketAddr,
        source: Option<IpAddr>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(ip) = source {
            socket.bind(&SocketAddr::new(ip, 0).into())?;
        }
        match socket.connect(&addr.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
            Err(error) => return Err(error),
        }
        let mut stream = TcpStream::from_std(socket.into());
        // Edges, not levels: a parked connection costs nothing until something happens.
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            carry: Vec::new(),
            unsent: Vec::new(),
            connected: false,
        })
    }

    pub(crate) const fn is_connected(&self) -> bool {
        self.connected
    }

    /// The request is in the kernel's hands completely.
    pub(crate) const fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Looks whether connecting has come to an end. True on the event that brought success.
    pub(crate) fn finish_connect(&mut self) -> Result<bool, Broken> {
        if let Some(error) = self.stream.take_error().map_err(Broken::from)? {
            return Err(error.into());
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.connected = true;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a request; what the socket does not take follows on its next event.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<(), Broken> {
        let written = self.write(request)?;
        self.unsent.extend_from_slice(&request[written..]);
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<(), Broken> {
        let unsent = mem::take(&mut self.unsent);
        self.send(&unsent)
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut written = 0;
        while written < bytes.len() {
            match (&self.stream).write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(written)
    }

    /// Reads what there is and hands over the answer if it is whole now.
    pub(crate) fn receive<R>(
        &mut self,
        input: &mut [u8],
        readiness: Readiness,
        handle: impl FnOnce(&Answer<'_>) -> R,
    ) -> Result<Option<(R, After)>, Broken> {
        let (fresh, ended) = self.fill(input, readiness)?;
        let carry = mem::take(&mut self.carry);
        let bytes = if carry.is_empty() {
            &input[..fresh]
        } else {
            carry.as_slice()
        };
        match take_answer(bytes, ended, handle)? {
            Some((result, After::More, size)) => {
                self.carry = bytes[size..].to_vec();
                Ok(Some((result, After::More)))
            }
            Some((result, after, _)) => Ok(Some((result, after))),
            None => {
                self.carry = if carry.is_empty() {
                    bytes.to_vec()
                } else {
                    carry
                };
                Ok(None)
            }
        }
    }

    /// Reads what there is into `buffer`, for protocols other than HTTP. True if the server has
    /// closed.
    pub(crate) fn receive_bytes(
        &mut self,
        input: &mut [u8],
        readiness: Readiness,
        buffer: &mut Vec<u8>,
    ) -> Result<bool, Broken> {
        let (fresh, ended) = self.fill(input, readiness)?;
        buffer.append(&mut self.carry);
        buffer.extend_from_slice(&input[..fresh]);
        Ok(ended)
    }

    /// The next of several answers that came together.
    pub(crate) fn receive_more<R>(
        &mut self,
        handle: impl FnOnce(&Answer<'_>) -> R,
    ) -> Result<Option<(R, After)>, Broken> {
        let Some((result, after, size)) = take_answer(&self.carry, false, handle)? else {
            return Ok(None);
        };
        self.carry.drain(..size);
        Ok(Some((result, after)))
    }

    /// Bytes in `input` (or all in `carry`, then 0), and whether the server has closed.
    ///
    /// A read that does not fill the buffer has emptied the socket, so the usual answer takes
    /// one system call and not a second one to hear that there is nothing more.
    fn fill(&mut self, input: &mut [u8], readiness: Readiness) -> Result<(usize, bool), Broken> {
        loop {
            match (&self.stream).read(input) {
                Ok(0) => return Ok((0, true)),
                Ok(count) => {
                    let emptied = count < input.len() && !readiness.read_closed;
                    if emptied && self.carry.is_empty() {
                        return Ok((count, false));
                    }
                    self.carry.extend_from_slice(&input[..count]);
                    if emptied {
                        return Ok((0, false));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((0, false)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The first answer in `bytes`, if it is whole, and its size.
fn take_answer<R>(
    bytes: &[u8],
    ended: bool,
    handle: impl FnOnce(&Answer<'_>) -> R,
) -> Result<Option<(R, After, usize)>, Broken> {
    let parsed = if ended {
        http::parse_at_end(bytes)
    } else {
        http::parse(bytes)
    };
    match parsed {
        Parsed::Whole(answer, size) => {
            let after = match () {
                () if size < bytes.len() => After::More,
                () if ended || answer.closes => After::Closing,
                () => After::Open,
            };
            Ok(Some((handle(&answer), after, size)))
        }
        Parsed::Bad(reason) => Err(Broken::Failed(Failure::BadAnswer(reason))),
        Parsed::Partial if ended && bytes.is_empty() => Err(Broken::Closed),
        Parsed::Partial if ended => Err(Broken::Failed(Failure::CutOff)),
        Parsed::Partial => Ok(None),
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Failed(Failure::from_io(&error))
    }
}

impl From<&Event> for Readiness {
    fn from(event: &Event) -> Self {
        Self {
            readable: event.is_readable() || event.is_error(),
            writable: event.is_writable() || event.is_error(),
            read_closed: event.is_read_closed() || event.is_error(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use mio::{Events, Poll};

    use super::*;

    #[test]
    fn dials_from_the_source_it_is_given() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut poll = Poll::new().unwrap();
        let source = Some("127.0.0.2".parse().unwrap());
        let addr = listener.local_addr().unwrap();
        let mut conn = Conn::open(addr, source, poll.registry(), Token(0)).unwrap();
        let (_peer, from) = listener.accept().unwrap();
        assert_eq!(Some(from.ip()), source);
        let mut events = Events::with_capacity(8);
        while !conn.finish_connect().unwrap() {
            poll.poll(&mut events, None).unwrap();
        }
        assert!(conn.is_connected() && conn.is_flushed());
    }

    #[test]
    fn answers_that_come_together_are_taken_one_by_one() {
        let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
        let two = answer.repeat(2);
        let (status, after, size) = take_answer(&two, false, |answer| answer.status)
            .unwrap()
            .unwrap();
        assert_eq!((status, after, size), (201, After::More, answer.len()));
        let rest = take_answer(&two[size..], false, |_| ()).unwrap();
        assert_eq!(rest, Some(((), After::Open, answer.len())));
        let cut = take_answer(&two[..9], true, |_| ());
        assert_eq!(cut, Err(Broken::Failed(Failure::CutOff)));
        assert_eq!(take_answer(b"", true, |_| ()), Err(Broken::Closed));
    }
}

//! Several hosts, and hosts that fail.

use std::{net::SocketAddr, sync::atomic::Ordering::SeqCst, time::Duration};

use pollux_rpc::CallError;
use pollux_testkit::assert_eventually;
use socket2::{Domain, Socket, Type};
use tokio::time::{self, Instant};

use crate::app::{App, Grpc, Http, SOON, Server, backend, call, free_address, host, options};

#[tokio::test]
async fn calls_go_to_all_hosts_in_turn() {
    for transport in [Http, Grpc] {
        let one = Server::start(transport, &App::new([])).await;
        let two = Server::start(transport, &App::new([])).await;
        let backend = backend(options([one.host(transport), two.host(transport)]));
        for _ in 0..100 {
            call(&backend).await.unwrap();
        }
        assert_eq!((one.app.runs(), two.app.runs()), (50, 50), "{transport:?}");
    }
}

#[tokio::test]
async fn one_of_two_hosts_is_dead_and_no_call_is_lost() {
    for transport in [Http, Grpc] {
        let alive = Server::start(transport, &App::new([])).await;
        let dead = host(transport, free_address());
        let backend = backend(options([dead, alive.host(transport)]));
        let begun = Instant::now();
        for _ in 0..200 {
            call(&backend).await.unwrap();
        }
        assert_eq!(alive.app.runs(), 200);
        let retries = backend.tallies().retries;
        assert!((1..20).contains(&retries), "{retries}");
        // The other host is asked at once, without a pause.
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_host_that_dies_under_load_loses_only_what_ran_on_it() {
    for transport in [Http, Grpc] {
        let one = Server::start(transport, &App::new([])).await;
        let two = Server::start(transport, &App::new([])).await;
        let backend = backend(options([one.host(transport), two.host(transport)]));
        let mut one = Some(one);
        for turn in 0..200 {
            if turn == 100 {
                let gone = one.take().unwrap();
                gone.app.cut();
                assert_eventually!(gone.app.closed.load(SeqCst) == 1, SOON);
            }
            call(&backend).await.unwrap();
        }
        assert_eq!(two.app.runs(), 150, "{transport:?}");
    }
}

#[tokio::test]
async fn a_dead_host_is_left_alone_until_it_is_back() {
    for transport in [Http, Grpc] {
        let address = free_address();
        let mut options = options([host(transport, address)]);
        options.command_timeout = Duration::from_millis(500);
        let backend = backend(options);
        for _ in 0..10 {
            if backend.tallies().open_hosts == 1 {
                break;
            }
            call(&backend).await.unwrap_err();
        }
        let tallies = backend.tallies();
        assert_eq!((tallies.open_hosts, tallies.breaker_opened), (1, 1));

        let server = Server::start_at(transport, &App::new([]), address, None).await;
        let error = call(&backend).await.unwrap_err();
        assert!(matches!(error, CallError::Unavailable(_)), "{error}");
        assert_eq!(backend.tallies().retries, tallies.retries, "at once");
        assert_eq!(server.app.runs(), 0);

        time::pause();
        time::advance(Duration::from_secs(5)).await;
        time::resume();
        call(&backend).await.unwrap();
        assert_eq!(backend.tallies().open_hosts, 0);
        assert_eq!(server.app.runs(), 1);
    }
}

/// A host that does not even refuse: whoever connects hears nothing.
struct Silent {
    address: SocketAddr,
    _listener: Socket,
    /// What fills its queue.
    _waiting: Vec<Socket>,
}

fn silent() -> Silent {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&free_address().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let waiting = (0..8).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.connect(&address).unwrap_or_default();
        socket
    });
    Silent {
        address: address.as_socket().unwrap(),
        _waiting: waiting.collect(),
        _listener: listener,
    }
}

#[tokio::test]
async fn a_host_that_says_nothing_delays_calls_and_loses_none() {
    for transport in [Http, Grpc] {
        let silent = silent();
        let alive = Server::start(transport, &App::new([])).await;
        let dead = host(transport, silent.address);
        let backend = backend(options([dead, alive.host(transport)]));
        for _ in 0..50 {
            call(&backend).await.unwrap();
        }
        assert_eq!(alive.app.runs(), 50, "{transport:?}");
        assert!((1..5).contains(&backend.tallies().retries));
    }
}

//! Several hosts, and hosts that fail.

use std::time::Duration;

use pollux_rpc::CallError;
use tokio::time::{self, Instant};

use crate::app::{App, Grpc, Http, Server, backend, call, free_address, host, options};

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
                drop(gone);
                time::sleep(Duration::from_millis(20)).await;
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
        let begun = Instant::now();
        let error = call(&backend).await.unwrap_err();
        assert!(matches!(error, CallError::Unavailable(_)), "{error}");
        assert!(begun.elapsed() < Duration::from_millis(50), "at once");
        assert_eq!(server.app.runs(), 0);

        time::pause();
        time::advance(Duration::from_secs(5)).await;
        time::resume();
        call(&backend).await.unwrap();
        assert_eq!(backend.tallies().open_hosts, 0);
        assert_eq!(server.app.runs(), 1);
    }
}

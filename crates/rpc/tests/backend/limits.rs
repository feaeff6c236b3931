//! Time, turns, and calls that are taken back.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use pollux_rpc::{Backend, CallError, OptionsError};
use pollux_testkit::assert_eventually;
use tokio::time::Instant;

use crate::app::{Act, App, Grpc, Http, SOON, Server, backend, call, options, start};

#[tokio::test]
async fn a_slow_application_times_out() {
    for transport in [Http, Grpc] {
        for by_request in [false, true] {
            let server = Server::start(transport, &App::new([Act::Wait])).await;
            let mut options = options([server.host(transport)]);
            let limit = Duration::from_millis(300);
            if by_request {
                options.request_timeout = Some(limit);
            } else {
                options.command_timeout = limit;
            }
            let backend = backend(options);
            let begun = Instant::now();
            assert_eq!(call(&backend).await.unwrap_err(), CallError::Timeout);
            let took = begun.elapsed();
            assert!(
                took >= limit && took < limit + Duration::from_secs(2),
                "{took:?}"
            );
            assert_eq!(server.app.runs(), 1);
            assert_eventually!(server.app.stopped.load(SeqCst) == 1, SOON);
            let tallies = backend.tallies();
            assert_eq!((tallies.timeouts, tallies.canceled), (1, 0));
            call(&backend).await.unwrap();
        }
    }
}

#[tokio::test]
async fn thousands_wait_and_the_rest_is_refused() {
    for transport in [Http, Grpc] {
        let app = App::new([Act::Wait, Act::Wait]);
        let server = Server::start(transport, &app).await;
        let mut options = options([server.host(transport)]);
        options.concurrency = 2;
        options.max_waiting = 3000;
        options.command_timeout = SOON * 3;
        let backend = backend(options);
        let calls: Vec<_> = (0..3002).map(|_| start(&backend)).collect();
        assert_eventually!(backend.tallies().pending == 3002, SOON);
        assert_eventually!(app.now.load(SeqCst) == 2, SOON);
        assert_eq!(backend.tallies().waiting, 3000);

        let begun = Instant::now();
        assert_eq!(call(&backend).await.unwrap_err(), CallError::Busy);
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(backend.tallies().busy, 1);

        app.go();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!(app.most_at_once.load(SeqCst), 2);
        assert_eq!(app.runs(), 3002);
        assert_eq!(backend.tallies().pending, 0);
    }
}

#[tokio::test]
async fn a_call_whose_turn_does_not_come_times_out() {
    let app = App::new([Act::Wait]);
    let server = Server::start(Http, &app).await;
    let mut options = options([server.host(Http)]);
    options.concurrency = 1;
    options.command_timeout = Duration::from_millis(300);
    let backend = backend(options);
    let (first, second) = tokio::join!(call(&backend), call(&backend));
    assert_eq!(first.unwrap_err(), CallError::Timeout);
    assert_eq!(second.unwrap_err(), CallError::Timeout);
    assert_eq!(app.runs(), 1);
    call(&backend).await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_dropped_stops_at_the_application() {
    for transport in [Http, Grpc] {
        let app = App::new([Act::Wait, Act::Wait]);
        let server = Server::start(transport, &app).await;
        let backend = backend(options([server.host(transport)]));
        let (gone, stays) = (start(&backend), start(&backend));
        assert_eventually!(app.now.load(SeqCst) == 2, SOON);
        gone.abort();
        assert_eventually!(app.stopped.load(SeqCst) == 1, SOON, "{transport:?}");
        assert_eq!(backend.tallies().canceled, 1);
        assert_eq!(backend.tallies().pending, 1);
        app.go();
        stays.await.unwrap().unwrap();
        assert_eq!(app.stopped.load(SeqCst), 1, "the other call went on");
    }
}

#[tokio::test]
async fn the_client_leaves_no_connection_behind() {
    for transport in [Http, Grpc] {
        let app = App::new([Act::Wait]);
        let server = Server::start(transport, &app).await;
        let backend = backend(options([server.host(transport)]));
        let call = start(&backend);
        assert_eventually!(app.now.load(SeqCst) == 1, SOON);
        app.go();
        call.await.unwrap().unwrap();
        let app = Arc::downgrade(&app);
        // The server's tasks hold the application as long as they serve.
        let connections = || app.strong_count();
        let with_one = connections();
        drop(backend);
        assert_eventually!(connections() < with_one, SOON, "{transport:?}");
    }
}

#[test]
fn options_that_cannot_be_meant_are_refused_without_a_runtime() {
    let wrong = |change: fn(&mut pollux_rpc::Options)| {
        let mut options = options(["http://app/x".to_owned()]);
        change(&mut options);
        Backend::new(options).unwrap_err()
    };
    assert!(matches!(
        wrong(|it| it.concurrency = 0),
        OptionsError::Zero(_)
    ));
    assert!(matches!(
        wrong(|it| it.command_timeout = Duration::ZERO),
        OptionsError::Zero(_)
    ));
    assert!(matches!(wrong(|it| it.hosts.clear()), OptionsError::NoHost));
    assert!(matches!(
        wrong(|it| it.hosts.push("app:1".to_owned())),
        OptionsError::MixedHosts
    ));
    let secret = wrong(|it| it.secret = Some("a\nb".to_owned().into()));
    assert!(matches!(secret, OptionsError::Secret));
    Backend::new(options(["http://app/x".to_owned()])).unwrap();
    Backend::new(pollux_rpc::Options::default()).unwrap();
}

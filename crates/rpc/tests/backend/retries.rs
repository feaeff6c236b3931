//! What is made again, and what is not.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use pollux_rpc::CallError;
use pollux_testkit::assert_eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};

use crate::app::{
    Act, App, Grpc, Http, SOON, Server, backend, call, free_address, host, options, start,
};

#[tokio::test]
async fn a_host_that_comes_up_late_gets_the_call_once() {
    for transport in [Http, Grpc] {
        let address = free_address();
        let mut options = options([host(transport, address)]);
        options.command_timeout = SOON;
        let backend = backend(options);
        let call = start(&backend);
        assert_eventually!(backend.tallies().retries >= 1, SOON);
        let server = Server::start_at(transport, &App::new([]), address, None).await;
        call.await.unwrap().unwrap();
        assert_eq!(server.app.runs(), 1, "{transport:?}");
    }
}

#[tokio::test]
async fn a_host_that_stays_away_is_unavailable_in_time() {
    for transport in [Http, Grpc] {
        let mut options = options([host(transport, free_address())]);
        options.command_timeout = Duration::from_secs(1);
        let backend = backend(options);
        let begun = Instant::now();
        let error = call(&backend).await.unwrap_err();
        assert!(matches!(error, CallError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(3));
        // After 100, 200 and 400 ms; a slow machine has time for fewer.
        assert!((1..=3).contains(&backend.tallies().retries));
    }
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_unavailable() {
    for host in ["http://nobody.invalid/x", "nobody.invalid:1"] {
        let mut options = options([host.to_owned()]);
        options.command_timeout = Duration::from_millis(500);
        let error = call(&backend(options)).await.unwrap_err();
        assert!(
            matches!(error, CallError::Unavailable(_)) || error == CallError::Timeout,
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_call_that_may_have_run_is_not_made_again() {
    for transport in [Http, Grpc] {
        let server = Server::start(transport, &App::new([Act::Break])).await;
        let backend = backend(options([server.host(transport)]));
        let error = call(&backend).await.unwrap_err();
        assert!(matches!(error, CallError::Unavailable(_)), "{error}");
        assert_eq!(server.app.runs(), 1, "{transport:?}");
        call(&backend).await.unwrap();
        assert_eq!(server.app.runs(), 2, "the next call has a new connection");
        assert_eq!(backend.tallies().retries, 0);
    }
}

#[tokio::test]
async fn an_application_that_says_it_is_unavailable_is_believed() {
    let server = Server::start(Grpc, &App::new([Act::Fail(14)])).await;
    let backend = backend(options([server.host(Grpc)]));
    let error = call(&backend).await.unwrap_err();
    assert!(matches!(error, CallError::Unavailable(_)), "{error}");
    assert!(!error.to_string().contains("secret"));
    assert_eq!(server.app.runs(), 1);
}

#[tokio::test]
async fn an_exhausted_application_is_asked_again() {
    let server = Server::start(Grpc, &App::new([Act::Fail(8), Act::Fail(8)])).await;
    let backend = backend(options([server.host(Grpc)]));
    let begun = Instant::now();
    call(&backend).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(30), "10 and 20 ms");
    assert_eq!(server.app.runs(), 3);
    assert_eq!(backend.tallies().retries, 2);

    let server = Server::start(Grpc, &App::new((0..100).map(|_| Act::Fail(8)))).await;
    let mut options = options([server.host(Grpc)]);
    options.command_timeout = Duration::from_millis(100);
    let error = call(&crate::app::backend(options)).await.unwrap_err();
    assert_eq!(error, CallError::Timeout);
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_no_call() {
    for transport in [Http, Grpc] {
        let server = Server::start(transport, &App::new([])).await;
        let backend = backend(options([server.host(transport)]));
        for turn in 1..=20 {
            call(&backend).await.unwrap();
            assert_eq!(server.app.runs(), turn);
            server.app.cut();
            let cut = server.app.connections.load(SeqCst);
            assert_eventually!(server.app.closed.load(SeqCst) == cut, SOON);
        }
        assert_eq!(backend.tallies().errors, 0, "{transport:?}");
    }
}

/// An HTTP/2 server that opens with its settings, waits for a request, and
/// then says these frames.
async fn once(listener: &TcpListener, frames: &[u8]) {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(SETTINGS).await.unwrap();
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut body = vec![0; length as usize];
        stream.read_exact(&mut body).await.unwrap();
        if head[3] == HEADERS {
            break;
        }
    }
    stream.write_all(frames).await.unwrap();
    // Until the client has read them and gone.
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap_or_default();
}

#[tokio::test]
async fn a_request_the_server_will_not_look_at_is_made_again() {
    // GOAWAY whose last stream is 0, and RST_STREAM of stream 1: REFUSED_STREAM.
    let away = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let refused = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];
    // GOAWAY with NO_ERROR, whose last stream is the one of the request, and
    // RST_STREAM: CANCEL: it may have run.
    let after = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let cancel = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
    for (frames, again) in [
        (away.to_vec(), true),
        (refused.to_vec(), true),
        ([after.to_vec(), cancel.to_vec()].concat(), false),
        (cancel.to_vec(), false),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let strange = listener.local_addr().unwrap();
        let good = Server::start(Grpc, &App::new([])).await;
        let backend = backend(options([strange.to_string(), good.host(Grpc)]));
        // In turn the first call goes to the first host.
        let call = start(&backend);
        let backend = Arc::clone(&backend);
        tokio::select! {
            () = async { once(&listener, &frames).await; std::future::pending().await } => {}
            answer = call => {
                assert_eq!(answer.unwrap().is_ok(), again, "{frames:?}");
            }
        }
        assert_eq!(good.app.runs(), u64::from(again), "{frames:?}");
        assert_eq!(backend.tallies().retries, u64::from(again));
    }
}

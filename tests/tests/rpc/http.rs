//! What is HTTP's alone.

use crate::{Chat, is_retryable, node, room};
use anyhow::Result;
use pollux_testkit::{
    Backend, Callers, Certificates, Face, Kind, Trouble, assert_eventually, derived_key,
};
use std::time::Duration;
use tempfile::TempDir;

const SECRET: &str = "qwerty";
const DERIVED: &str = "57c40610d142fe7d7999be4e23dfba4f42c3c542e1f278063e8e3b6a30b0c2bd";

async fn guarded(key: &str, flags: &[(&str, &str)]) -> Result<Chat> {
    let backend = Backend::builder(Face::Http).key(key).start().await?;
    let node = flags
        .iter()
        .fold(node(&backend), |node, (name, value)| node.flag(name, value));
    let node = node.spawn().await?;
    Ok(Chat { node, backend })
}

#[tokio::test]
async fn calls_bear_a_key() -> Result<()> {
    assert_eq!(derived_key(SECRET, "rpc-cable"), DERIVED);
    for (key, flags) in [
        (DERIVED, &[("secret", SECRET)][..]),
        ("own", &[("http_rpc_secret", "own")][..]),
        ("own", &[("secret", SECRET), ("http_rpc_secret", "own")][..]),
    ] {
        let chat = guarded(key, flags).await?;
        let mut cable = chat.cable("ann").await?;
        cable.subscribe(&room("1")).await?;
        for call in chat.backend.calls() {
            assert_eq!(call.authorization, Some(format!("Bearer {key}")));
        }
        let log = chat.node.log().text();
        assert!(!log.contains(key) && !log.contains(SECRET), "{log}");
    }
    // Without one there is none, and with a wrong one nobody gets in, for now.
    let chat = Chat::start(Face::Http).await?;
    chat.cable("ann").await?;
    assert_eq!(chat.backend.calls()[0].authorization, None);
    let chat = guarded("right", &[("http_rpc_secret", "wrong")]).await?;
    is_retryable(&chat.open("ann").await?)?;
    assert!(chat.backend.calls().is_empty());
    Ok(())
}

#[tokio::test]
async fn answers_that_are_none_are_not_asked_for_again() -> Result<()> {
    let chat = Chat::start(Face::Http).await?;
    let troubles = [Trouble::Failing, Trouble::Unauthorized, Trouble::Exhausted];
    for (number, trouble) in troubles.into_iter().enumerate() {
        chat.backend.trouble(trouble, usize::MAX);
        is_retryable(&chat.open("ann").await?)?;
        assert_eq!(chat.backend.calls_of(Kind::Connect).len(), number + 1);
    }
    chat.backend.recover();
    chat.poller("ann").await?;
    Ok(())
}

#[tokio::test]
async fn a_call_is_taken_back_when_its_client_goes() -> Result<()> {
    let chat = Chat::start(Face::Http).await?;
    chat.backend.slow(Duration::from_secs(60));
    let request = pollux_testkit::Request::post("/lp?user=ann");
    let mut client = pollux_testkit::Connection::open(chat.node.address()).await?;
    client.send(&request).await?;
    chat.backend.call(Kind::Connect, 0).await?;
    client.close();
    // Sooner than its time would be over.
    assert_eventually!(chat.backend.abandoned() == 1, Duration::from_secs(2));
    Ok(())
}

async fn over_tls(callers: Callers) -> Result<(Backend, Certificates, TempDir)> {
    let folder = tempfile::tempdir()?;
    let certificates = Certificates::make(folder.path())?;
    let backend = Backend::builder(Face::Http).tls(&certificates, callers);
    Ok((backend.start().await?, certificates, folder))
}

#[tokio::test]
async fn calls_go_over_tls() -> Result<()> {
    let (backend, certificates, _folder) = over_tls(Callers::Anybody).await?;
    let trusting = node(&backend)
        .flag("rpc_tls_root_ca", &certificates.ca().to_string_lossy())
        .spawn()
        .await?;
    let careless = node(&backend)
        .flag("rpc_tls_verify", "false")
        .spawn()
        .await?;
    let strict = node(&backend).spawn().await?;
    let ask = pollux_testkit::Request::post("/lp?user=ann");
    assert_eq!(trusting.ask(&ask).await?.status, 200);
    assert_eq!(careless.ask(&ask).await?.status, 200);
    is_retryable(&strict.ask(&ask).await?)?;
    assert_eq!(backend.calls().len(), 2);
    Ok(())
}

//! What is HTTP's alone.

use crate::{Chat, is_retryable, node, room};
use anyhow::Result;
use pollux_testkit::{Backend, Callers, Certificates, Face, Kind, Request, Trouble, derived_key};
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
async fn several_hosts_share_the_calls() -> Result<()> {
    let mut backends = [Backend::http().await?, Backend::http().await?];
    let hosts: Vec<_> = backends.iter().map(Backend::url).collect();
    let node = node(&backends[0])
        .flag("rpc_host", &hosts.join(","))
        .spawn()
        .await?;
    let open = Request::post("/lp?user=ann");
    for _ in 0..10 {
        assert_eq!(node.ask(&open).await?.status, 200);
    }
    let counts = backends.iter().map(|backend| backend.calls().len());
    assert_eq!(counts.collect::<Vec<_>>(), [5, 5]);
    // One of them goes. Only who was just asking it can't know whether it heard.
    let [first, second] = &mut backends;
    first.stop().await;
    second.forget();
    let mut unsure = 0;
    for _ in 0..10 {
        let answer = node.ask(&open).await?;
        if answer.status != 200 {
            is_retryable(&answer)?;
            unsure += 1;
        }
    }
    assert!(unsure <= 1, "{unsure}");
    assert_eq!(second.calls().len(), 10 - unsure);
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
    let ask = Request::post("/lp?user=ann");
    assert_eq!(trusting.ask(&ask).await?.status, 200);
    assert_eq!(careless.ask(&ask).await?.status, 200);
    is_retryable(&strict.ask(&ask).await?)?;
    assert_eq!(backend.calls().len(), 2);
    Ok(())
}

#[tokio::test]
async fn applications_may_want_a_certificate() -> Result<()> {
    let (backend, certificates, _folder) = over_tls(Callers::Certified).await?;
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let trusting = node(&backend).flag("rpc_tls_root_ca", &text(certificates.ca()));
    let nameless = trusting.clone().spawn().await?;
    let certified = trusting
        .flag(
            "rpc_tls_client_cert_path",
            &text(certificates.client_certificate()),
        )
        .flag("rpc_tls_client_key_path", &text(certificates.client_key()))
        .spawn()
        .await?;
    let ask = Request::post("/lp?user=ann");
    is_retryable(&nameless.ask(&ask).await?)?;
    assert_eq!(certified.ask(&ask).await?.status, 200);
    assert_eq!(backend.calls().len(), 1);
    Ok(())
}

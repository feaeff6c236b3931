//! What is gRPC's alone.

use crate::{Chat, is_retryable, node};
use anyhow::Result;
use pollux_testkit::{
    Backend, Callers, Certificates, Face, Kind, PATIENCE, Request, Trouble, assert_eventually,
};

#[tokio::test]
async fn who_is_too_busy_is_asked_again() -> Result<()> {
    let chat = Chat::start(Face::Grpc).await?;
    chat.backend.trouble(Trouble::Exhausted, 3);
    chat.poller("ann").await?;
    assert_eq!(chat.backend.calls_of(Kind::Connect).len(), 4);
    for trouble in [Trouble::Failing, Trouble::Unauthorized] {
        chat.backend.forget();
        chat.backend.trouble(trouble, usize::MAX);
        is_retryable(&chat.open("ann").await?)?;
        assert_eq!(chat.backend.calls_of(Kind::Connect).len(), 1);
    }
    Ok(())
}

#[tokio::test]
async fn several_hosts_share_the_calls() -> Result<()> {
    let mut backends = [Backend::grpc().await?, Backend::grpc().await?];
    let hosts: Vec<_> = backends.iter().map(Backend::url).collect();
    let node = node(&backends[0])
        .flag("rpc_host", &format!("grpc-list://{}", hosts.join(",")))
        .spawn()
        .await?;
    let request = Request::post("/lp?user=ann");
    let mut answered = 0;
    assert_eventually!(
        {
            answered += u32::from(node.ask(&request).await?.status == 200);
            backends.iter().all(|backend| backend.calls().len() >= 5)
        },
        PATIENCE
    );
    // One of them goes. Only who was just asking it can't know whether it heard.
    let [first, second] = &mut backends;
    first.stop().await;
    second.forget();
    let mut unsure = 0;
    for _ in 0..20 {
        let answer = node.ask(&request).await?;
        if answer.status != 200 {
            is_retryable(&answer)?;
            unsure += 1;
        }
    }
    assert!(unsure <= 1, "{unsure}");
    assert_eq!(second.calls_of(Kind::Connect).len(), 20 - unsure);
    first.forget();
    first.start().await?;
    assert_eventually!(
        {
            assert_eq!(node.ask(&request).await?.status, 200);
            !first.calls().is_empty()
        },
        PATIENCE
    );
    assert!(answered >= 10);
    Ok(())
}

#[tokio::test]
async fn calls_go_over_tls() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let certificates = Certificates::make(folder.path())?;
    let backend = Backend::builder(Face::Grpc).tls(&certificates, Callers::Anybody);
    let backend = backend.start().await?;
    let trusting = node(&backend)
        .flag("rpc_enable_tls", "true")
        .flag("rpc_tls_root_ca", &certificates.ca().to_string_lossy())
        .spawn()
        .await?;
    let plain = node(&backend).spawn().await?;
    let ask = Request::post("/lp?user=ann");
    assert_eq!(trusting.ask(&ask).await?.status, 200);
    is_retryable(&plain.ask(&ask).await?)?;

    let strict = Backend::builder(Face::Grpc).tls(&certificates, Callers::Certified);
    let strict = strict.start().await?;
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let certified = node(&strict)
        .flag("rpc_enable_tls", "true")
        .flag("rpc_tls_root_ca", &text(certificates.ca()))
        .flag(
            "rpc_tls_client_cert_path",
            &text(certificates.client_certificate()),
        )
        .flag("rpc_tls_client_key_path", &text(certificates.client_key()))
        .spawn()
        .await?;
    assert_eq!(certified.ask(&ask).await?.status, 200);
    Ok(())
}

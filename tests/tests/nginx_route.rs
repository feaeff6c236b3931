//! Who may choose the route in a poll id: nodes by themselves, without nginx.

use anyhow::{Context, Result};
use pollux_testkit::{Node, Poller, Request};

/// The route of the session that an open with this header gets, by the fast way through the node
/// or by the general one.
async fn route(node: &Node, header: &str, chunked: bool) -> Result<String> {
    let open = Request::post("/lp").header("X-Pollux-Route", header);
    let open = match chunked {
        true => open.in_one_chunk(""),
        false => open,
    };
    let response = node.ask(&open).await?;
    let mut poller = Poller::from_open(node.address(), &response)?;
    let (route, _secret) = poller.poll_id().split_once('.').context("no dot")?;
    let route = route.to_owned();
    // Whatever the route is, the session is found by the id.
    poller.poll_with("{\"command\":\"ping\"}").await?;
    Ok(route)
}

#[tokio::test]
async fn a_trusted_proxy_chooses_the_route() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let longest = "x".repeat(64);
    for chunked in [false, true] {
        for key in ["a", "0123456789abcdef0123456789abcdef", "A_z-9", &longest] {
            assert_eq!(route(&node, key, chunked).await?, key);
        }
        let before = node.metric("ignored_routes_total").await?;
        let too_long = "x".repeat(65);
        let malformed = ["", "a.b", "a b", "a/b", "{}", &too_long];
        for key in malformed {
            let route = route(&node, key, chunked).await?;
            assert!(route != key && !route.is_empty(), "{key:?}: {route}");
        }
        let counted = node.metric("ignored_routes_total").await? - before;
        assert_eq!(counted, malformed.len() as f64);
    }
    Ok(())
}

#[tokio::test]
async fn nobody_else_does() -> Result<()> {
    for trusted in ["", "10.0.0.0/8, ::1", "127.0.0.2"] {
        let node = Node::builder()
            .flag("trusted_proxies", trusted)
            .spawn()
            .await?;
        for chunked in [false, true] {
            let (one, two) = (
                route(&node, "mine", chunked).await?,
                route(&node, "mine", chunked).await?,
            );
            assert!(one != "mine" && one != two, "{trusted}: {one} {two}");
        }
        let page = node.metrics().await?;
        let line = "ignored_routes_total{reason=\"untrusted\"} 4";
        assert!(page.text().contains(line), "{trusted}");
    }
    let node = Node::builder()
        .flag("trusted_proxies", "private")
        .spawn()
        .await?;
    assert_eq!(route(&node, "mine", false).await?, "mine");
    Ok(())
}

#[test]
fn what_is_no_proxy_is_refused_at_the_start() -> Result<()> {
    let output = pollux_testkit::run(&["--trusted_proxies=private,10.0.0.0/40"], &[])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(
        said.contains("trusted_proxies") && said.contains("10.0.0.0/40"),
        "{said}"
    );
    Ok(())
}

//! Who may poll and publish.

use super::*;

/// `ann:s3krit` as HTTP has it.
const ANN: &str = "Basic YW5uOnMza3JpdA==";

fn basic() -> pollux_testkit::NodeBuilder {
    Node::builder()
        .flag("category_user", "ann")
        .flag("category_password", "s3krit")
}

#[tokio::test]
async fn a_user_is_asked_for_at_both_doors() -> Result<()> {
    for node in [basic(), basic().flag("secret", "s3cr3t")] {
        let node = node.spawn().await?;
        for wrong in ["", "Basic YW5uOng=", "Bearer s3krit", "Basic YW5u"] {
            let ask = async |request: Request| {
                let request = match wrong {
                    "" => request,
                    wrong => request.header("Authorization", wrong),
                };
                node.ask(&request).await
            };
            for request in [
                poll_request("timeout=1&category=a"),
                poll_request(""),
                publish_request("a", &json!(1)),
                Request::get(PUBLISH),
            ] {
                let answer = ask(request).await?;
                assert_eq!(answer.status, 401, "{wrong}");
                let challenge = answer.header("www-authenticate").unwrap_or_default();
                assert!(challenge.starts_with("Basic "), "{challenge}");
                assert_eq!(answer.text()?, "{\"error\": \"Unauthorized.\"}");
            }
        }
        let publish = publish_request("a", &json!(1)).header("Authorization", ANN);
        assert_eq!(node.ask(&publish).await?.status, 200);
        let poll = poll_request("timeout=1&category=a&since_time=0").header("Authorization", ANN);
        assert_eq!(events(&node.ask(&poll).await?)?.len(), 1);
        assert!(node.metric("failed_auths_total").await? > 0.0);
    }
    Ok(())
}

#[tokio::test]
async fn backends_publish_with_the_broadcast_key() -> Result<()> {
    let key = ("Authorization", "Bearer k3y");
    for node in [
        Node::builder().switch("noauth").switch("public_streams"),
        Node::builder().switch("public"),
        basic(),
    ] {
        let node = node.flag("broadcast_key", "k3y").spawn().await?;
        let request = publish_request("a", &json!(1));
        let answer = node.ask(&request).await?;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.text()?, "{\"error\": \"Unauthorized.\"}");
        assert!(answer.header("www-authenticate").is_some());
        assert_eq!(node.ask(&request.header(key.0, key.1)).await?.status, 200);
    }
    Ok(())
}

#[tokio::test]
async fn a_secured_node_has_the_doors_only_if_it_is_told_to() -> Result<()> {
    let node = Node::builder().flag("secret", "s3cr3t").spawn().await?;
    assert_eq!(node.get(EVENTS).await?.status, 404);
    // Turned on, polls are authenticated as all clients are.
    let node = Node::builder()
        .flag("secret", "s3cr3t")
        .flag("category", "on")
        .spawn()
        .await?;
    assert_eq!(poll(&node, "timeout=1&category=a").await?.status, 401);
    let node = Node::builder()
        .switch("noauth")
        .own_broadcast_port()
        .flag("category", "on")
        .spawn()
        .await?;
    nothing(&poll(&node, "timeout=1&category=a").await?)?;
    // There is no key, and the door is open to the world.
    let refused = node.ask(&publish_request("a", &json!(1))).await?;
    assert_eq!(refused.status, 403);
    assert!(refused.text()?.starts_with("{\"error\": \""));
    Ok(())
}

#[tokio::test]
async fn a_page_of_another_origin_may_not_publish_without_a_key() -> Result<()> {
    let node = Node::builder().spawn().await?;
    let request = publish_request("a", &json!(1)).header("Origin", "https://evil.example");
    let refused = node.ask(&request).await?;
    assert_eq!(refused.status, 403);
    let own = format!("http://{}", node.address());
    let request = publish_request("a", &json!(1))
        .header("Host", &node.address().to_string())
        .header("Origin", &own);
    assert_eq!(node.ask(&request).await?.status, 200);
    Ok(())
}

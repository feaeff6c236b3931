//! Which streams a client may subscribe to. The signatures are test vectors that were made with
//! other software, one of them the reference's own.

use anyhow::Result;
use pollux_testkit::{Node, NodeBuilder, Poller, frames};

const SECRET: &str = "s3Krit";
/// `s3Krit`, the phrase `broadcast-cable`.
const BROADCAST_KEY: &str = "a239a7ca182c90fc32bdedf73703d271388cf433843affffd3a5e757041fc716";
/// `chat/2023`, whose text is the same in both alphabets of base64.
const CHAT: &str =
    "ImNoYXQvMjAyMyI=--2b2e054b6413bf3bc7e8bbad2f68962aa2ba19821800ccbd8de6fd7314e8320c";
/// `room?~>1` in the standard alphabet.
const ROOM_STANDARD: &str =
    "InJvb20/fj4xIg==--0781ed886a1caac8deeea13b43882f35addc287177670f4879d9fb8265726419";
/// `room?~>1` in the alphabet for URLs, which Ruby backends use.
const ROOM_URL_SAFE: &str =
    "InJvb20_fj4xIg==--3436bc215c948141653037c622af3226b5d8f9a47c30a5c06c2cb444eb4b3f49";

fn signing() -> NodeBuilder {
    Node::builder()
        .switch("noauth")
        .flag("secret", SECRET)
        .flag("poll_interval", "0.3")
        .publish_with_key(BROADCAST_KEY)
}

async fn verdict(node: &Node, identifier: &str) -> Result<String> {
    Ok(Poller::open(node).await?.try_subscribe(identifier).await?.0)
}

#[tokio::test]
async fn signed_names_are_accepted_in_both_alphabets() -> Result<()> {
    let node = signing().spawn().await?;
    let names = [
        (CHAT, "chat/2023"),
        (ROOM_STANDARD, "room?~>1"),
        (ROOM_URL_SAFE, "room?~>1"),
    ];
    for (name, stream) in names {
        let mut poller = Poller::open(&node).await?;
        poller.subscribe(&frames::signed(name)).await?;
        node.publish(stream, &stream.into()).await?;
        assert_eq!(poller.messages(1).await?, [stream]);
    }
    Ok(())
}

#[tokio::test]
async fn forged_names_are_rejected() -> Result<()> {
    let node = signing().spawn().await?;
    let (encoded, signature) = CHAT.split_once("--").unwrap_or_default();
    let (other, _) = ROOM_STANDARD.split_once("--").unwrap_or_default();
    let forged = [
        format!("{other}--{signature}"),
        format!("{encoded}--{}", "0".repeat(64)),
        format!("{encoded}--"),
        format!("--{signature}"),
        format!("{encoded}--{}", signature.to_uppercase()),
        format!("{encoded}--{}", signature.split_at(63).0),
        format!("{encoded}-{signature}"),
        encoded.to_owned(),
        "--".to_owned(),
        String::new(),
    ];
    for name in forged {
        let verdict = verdict(&node, &frames::signed(&name)).await?;
        assert_eq!(verdict, "reject_subscription", "{name:?}");
    }
    let metric = node.metric("rejected_subscriptions_total").await?;
    assert_eq!(metric, 10.0);
    Ok(())
}

#[tokio::test]
async fn a_forged_name_leaves_its_session_as_it_was() -> Result<()> {
    let node = signing().spawn().await?;
    let mut poller = Poller::open(&node).await?;
    poller.subscribe(&frames::signed(CHAT)).await?;
    let forged = CHAT.replace("2b2e", "2b2f");
    let (verdict, _) = poller.try_subscribe(&frames::signed(&forged)).await?;
    assert_eq!(verdict, "reject_subscription");
    node.publish("chat/2023", &1.into()).await?;
    assert_eq!(poller.messages(1).await?, [1]);
    Ok(())
}

#[tokio::test]
async fn without_a_secret_a_signed_name_is_refused() -> Result<()> {
    // An empty key would verify what anybody can sign.
    let with_empty_key =
        "ImNoYXQvMjAyMyI=--03f5fc02d1df23911d39c85d53c5109d96b4036ea81a5d868b4cfcf281dd2f50";
    let node = Node::builder().spawn().await?;
    for name in [CHAT, with_empty_key] {
        let verdict = verdict(&node, &frames::signed(name)).await?;
        assert_eq!(verdict, "reject_subscription");
    }
    Ok(())
}

#[tokio::test]
async fn plain_names_are_rejected_unless_public_streams_are_on() -> Result<()> {
    let node = signing().spawn().await?;
    let rejected = verdict(&node, &frames::public("a")).await?;
    assert_eq!(rejected, "reject_subscription");
    let node = signing().switch("public_streams").spawn().await?;
    let confirmed = verdict(&node, &frames::public("a")).await?;
    assert_eq!(confirmed, "confirm_subscription");
    Ok(())
}

#[tokio::test]
async fn if_both_names_are_given_the_signed_one_counts() -> Result<()> {
    let node = signing().switch("public_streams").spawn().await?;
    let identifier = |signed: &str| {
        serde_json::json!({
            "channel": "$pubsub", "stream_name": "a", "signed_stream_name": signed,
        })
        .to_string()
    };
    assert_eq!(
        verdict(&node, &identifier(CHAT)).await?,
        "confirm_subscription"
    );
    assert_eq!(
        verdict(&node, &identifier("forged--00")).await?,
        "reject_subscription"
    );
    Ok(())
}

#[tokio::test]
async fn secrets_can_be_replaced_one_by_one() -> Result<()> {
    let rotating = Node::builder()
        .switch("noauth")
        .flag("streams_secret", "new,s3Krit")
        .flag("broadcast_key", "k")
        .spawn()
        .await?;
    assert_eq!(
        verdict(&rotating, &frames::signed(CHAT)).await?,
        "confirm_subscription"
    );
    let replaced = Node::builder()
        .switch("noauth")
        .flag("streams_secret", "new")
        .flag("broadcast_key", "k")
        .spawn()
        .await?;
    assert_eq!(
        verdict(&replaced, &frames::signed(CHAT)).await?,
        "reject_subscription"
    );
    Ok(())
}

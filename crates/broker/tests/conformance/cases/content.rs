//! What publications say comes through as it was said.

use crate::{
    node::{name, publication, texts},
    world::World,
};
use anyhow::Result;
use pollux_broker::{BrokerError, HistoryError, Since};
use pollux_protocol::{Meta, Payload, Publication};
use serde_json::value::RawValue;

pub(crate) async fn odd_names_are_names(world: impl World) -> Result<()> {
    let node = world.node().await?;
    let longest = "n".repeat(2_048);
    let longest_of_wide = "ü".repeat(1_024);
    let names = [
        "chat/1",
        " ",
        "two words",
        "Ünï¢ødé 🛰",
        "line\nbreak\r\n",
        "nul\0byte",
        "{",
        "}",
        "{}",
        "}{",
        "}x",
        "{x",
        "{tag}rest",
        "rest{tag}",
        "a}b",
        "x}:log",
        "x}:head",
        "__anycable__",
        "*",
        "[a-z]?",
        "'\"\\",
        "%s%d%%",
        "../..",
        &longest,
        &longest_of_wide,
    ];
    let (names, refused): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|stream| world.holds(stream));
    for stream in &refused {
        let (stream, publication) = (name(stream)?, publication(stream, "1")?);
        let subscribed = node.broker.subscribe(&stream).await;
        assert!(
            matches!(subscribed, Err(BrokerError::Stream(_))),
            "{subscribed:?}"
        );
        node.broker.unsubscribe(&stream);
        let published = node.broker.publish(publication).await;
        assert!(
            matches!(published, Err(BrokerError::Stream(_))),
            "{published:?}"
        );
        let read = node.broker.history(&stream, Since::Time(0)).await;
        let is_refused = matches!(read, Err(HistoryError::Broker(BrokerError::Stream(_))));
        assert!(is_refused, "{read:?}");
    }
    for stream in &names {
        node.subscribe(stream).await?;
    }
    for stream in &names {
        let first = node.publish(stream, "1").await?;
        node.publish(stream, "2").await?;
        assert_eq!(
            texts(&node.hears(stream, 2).await),
            ["1", "2"],
            "{stream:?}"
        );
        let kept = node.entries(stream, Since::Position(first)).await?;
        assert_eq!(texts(&kept), ["2"], "{stream:?}");
    }
    for stream in &names {
        let heard = node.deliveries(stream).len();
        assert_eq!(heard, 2, "{stream:?} heard of others");
    }
    Ok(())
}

pub(crate) async fn odd_payloads_come_as_they_went(world: impl World) -> Result<()> {
    let node = world.node().await?;
    node.subscribe("a").await?;
    let deep = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
    let texts = [
        r#"{"b":1.10,"a":1e400,"b":-0.0}"#,
        r#"{"text":"\"quotes\" \\ \/ \u0000 \ud83d\ude00 é"}"#,
        r#"[ 1 , 2 ]"#,
        "12345678901234567890123",
        r#""""#,
        "null",
        "true",
        "{}",
        "[]",
        "",
        "plain text",
        "line\nbreak\ttab\0nul",
        "\u{2028}\u{2029}\u{7f}",
        r#"{"data":"x","json":"y","offset":9}"#,
        "]]>",
        &deep,
    ];
    let mut expected = Vec::new();
    for text in texts {
        expected.push(Payload::from_text(text));
    }
    // Values that text can't say: text `null` is a string.
    for json in ["null", r#""quoted""#, "[null]"] {
        expected.push(Payload::from_raw(serde_json::from_str::<&RawValue>(json)?));
    }
    for data in &expected {
        let publication = Publication {
            stream: name("a")?,
            data: data.clone(),
            meta: Meta::default(),
        };
        node.broker.publish(publication).await?;
    }
    let heard = node.hears("a", expected.len()).await;
    let kept = node.entries("a", Since::Time(0)).await?;
    for came in [heard, kept] {
        let came: Vec<_> = came
            .iter()
            .map(|one| one.publication.data.clone())
            .collect();
        for (came, went) in came.iter().zip(&expected) {
            assert_eq!(came.as_str(), went.as_str());
        }
        assert_eq!(came.len(), expected.len());
    }
    Ok(())
}

pub(crate) async fn a_large_payload_comes_whole(world: impl World) -> Result<()> {
    let node = world.node().await?;
    node.subscribe("a").await?;
    let large = format!("\"{}\"", "é".repeat(512 << 10));
    let position = node.publish("a", &large).await?;
    node.publish("a", "2").await?;
    let heard = node.hears("a", 2).await;
    assert!(texts(&heard)[0] == large, "it came otherwise");
    let kept = node.entries("a", crate::node::after(&position, 0)).await?;
    assert!(texts(&kept)[0] == large, "it is kept otherwise");
    Ok(())
}

pub(crate) async fn what_was_asked_for_comes_along(world: impl World) -> Result<()> {
    let node = world.node().await?;
    node.subscribe("a").await?;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let sent = Publication {
        meta: Meta {
            exclude_socket: Some("s\"1\n".into()),
            transient: false,
            broadcast_type: Some("présence".into()),
            traceparent: Some(traceparent.into()),
            tracestate: Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE".into()),
        },
        ..publication("a", "1")?
    };
    node.broker.publish(sent.clone()).await?;
    let heard = node.hears("a", 1).await;
    assert_eq!(*heard[0].publication, sent);
    let kept = node.entries("a", Since::Time(0)).await?;
    assert_eq!(*kept[0].publication, sent);
    Ok(())
}

//! The memory broker's events in a file.

use super::*;
use std::fs;

const ALL: &str = "timeout=5&category=a&since_time=1";

#[tokio::test]
async fn events_survive_a_restart_with_their_times_and_ids() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("events.json");
    let file = path.to_str().context("no path")?;
    let start = async |size| {
        let builder = Node::builder().flag("category_file", file);
        builder.flag("category_buffer_size", size).spawn().await
    };
    let mut node = start("250").await?;
    for number in 1..=5 {
        publish(&node, "a", &json!(number)).await?;
    }
    let before = events(&poll(&node, ALL).await?)?;
    assert!(node.terminate(PATIENCE).await?.success());
    let lines = fs::read_to_string(&path)?;
    // As golongpoll writes it: an empty line first, none at the end.
    assert!(
        lines.starts_with("\n{\"timestamp\":") && lines.ends_with('}'),
        "{lines}"
    );
    assert_eq!(lines.lines().count(), 6);

    let mut node = start("250").await?;
    assert_eq!(events(&poll(&node, ALL).await?)?, before);
    // A client goes on as if nothing had been.
    let cursor = format!(
        "since_time={}&last_id={}",
        timestamp(&before[4]),
        id(&before[4])
    );
    publish(&node, "a", &json!(6)).await?;
    let after = events(&poll(&node, &format!("timeout=5&category=a&{cursor}")).await?)?;
    assert_eq!(data(&after), [&json!(6)]);
    // A crash loses nothing that was written a second ago.
    assert_eventually!(fs::read_to_string(&path)?.lines().count() == 7, PATIENCE);
    node.kill()?;
    fs::write(
        &path,
        fs::read_to_string(&path)? + "\n{\"timestamp\":17,\"cat",
    )?;

    let node = start("3").await?;
    let read = events(&poll(&node, ALL).await?)?;
    assert_eq!(data(&read), [&json!(4), &json!(5), &json!(6)]);
    assert_eq!(read[2], after[0]);
    assert!(
        node.log()
            .text()
            .contains("A line of the file is not an event")
    );
    // What nobody can have any more is not in the file either.
    assert_eq!(fs::read_to_string(&path)?.lines().count(), 4);
    Ok(())
}

#[tokio::test]
async fn a_file_of_golongpoll_is_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("filepersist.data");
    let line = |number: i64| {
        let id = "7c17587a-3437-4861-bef7-8f29905589e4";
        format!(
            "\n{{\"timestamp\":{},\"category\":\"a\",\"data\":{number},\"id\":\"{id}\"}}",
            now() + number - 10
        )
    };
    fs::write(&path, [line(1), line(2), line(2)].concat())?;
    let node = Node::builder()
        .flag("category_file", path.to_str().context("no path")?)
        .spawn()
        .await?;
    let read = events(&poll(&node, ALL).await?)?;
    assert_eq!(data(&read), [&json!(1), &json!(2), &json!(2)]);
    assert!(read.is_sorted_by_key(timestamp));
    Ok(())
}

#[tokio::test]
async fn a_file_that_cannot_be_written_stops_the_start() -> Result<()> {
    let started = Node::builder()
        .flag("category_file", "/nonexistent/events.json")
        .spawn()
        .await;
    let error = started.err().context("it started")?;
    assert!(format!("{error:#}").contains("category_file"), "{error:#}");
    Ok(())
}

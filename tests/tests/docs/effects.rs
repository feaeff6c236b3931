//! What a block does beside printing.

use crate::terminal::Terminal;
use anyhow::{Result, bail, ensure};
use pollux_testkit::{Connection, Deadline, PATIENCE, Poller, Request, frames};
use serde_json::{Value, json};

/// Runs a command that publishes `{"text":"hi"}` to `chat/1`, and sees it arrive.
pub(crate) async fn publishes(terminal: &mut Terminal, command: &str) -> Result<()> {
    let mut listener = Poller::open_at(terminal.address("8080")?).await?;
    listener.subscribe(&frames::public("chat/1")).await?;
    // It polls meanwhile, for a session does not wait as long as a slow command takes.
    let (heard, ()) = tokio::try_join!(next_message(&mut listener), terminal.run(command))?;
    ensure!(heard == json!({"text": "hi"}), "this was heard: {heard}");
    Ok(())
}

/// What is published next. Whoever was present before may leave meanwhile.
async fn next_message(listener: &mut Poller) -> Result<Value> {
    let deadline = Deadline::within(PATIENCE);
    while !deadline.is_over() {
        let frames = listener.poll().await?.frames;
        let mut published = frames.iter().filter(|frame| frame.get("type").is_none());
        if let Some(frame) = published.next() {
            return Ok(frame["message"].clone());
        }
    }
    bail!("nothing was published")
}

/// Runs a command that prints a token, which the node takes.
pub(crate) async fn makes_token(terminal: &mut Terminal, command: &str) -> Result<()> {
    terminal.run(command).await?;
    let mut lines = terminal.lines().into_iter().map(|(_, line)| line);
    let token = lines.rfind(|line| !line.is_empty()).unwrap_or_default();
    let opened = open(terminal, &token).await?;
    ensure!(
        opened == 200,
        "the token {token:?} is answered with {opened}"
    );
    // Else every token would be good.
    let opened = open(terminal, &format!("{token}x")).await?;
    ensure!(opened == 401, "another token is answered with {opened}");
    Ok(())
}

async fn open(terminal: &Terminal, token: &str) -> Result<u16> {
    let request = Request::post("/lp").header("X-JID", token);
    let answer = Connection::once(terminal.address("8080")?, &request).await?;
    Ok(answer.status)
}

//! `pollux token` and `pollux sign`.

use anyhow::Result;
use pollux_testkit::{Node, Poller, Request, run, signed_stream, token};
use serde_json::json;

/// What a command prints, and its exit code.
fn said(arguments: &[&str], variables: &[(&str, &str)]) -> Result<(String, String, Option<i32>)> {
    let output = run(arguments, variables)?;
    Ok((
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
        output.status.code(),
    ))
}

#[tokio::test]
async fn what_they_print_opens_the_doors_of_a_node() -> Result<()> {
    let secret = [("POLLUX_SECRET", "s3Krit")];
    let (name, _, code) = said(&["sign", "chat/2023"], &secret)?;
    assert_eq!(
        (name.trim_end(), code),
        (&*signed_stream("s3Krit", "chat/2023"), Some(0))
    );
    let (made, _, code) = said(&["token", r#"{"user":"ann"}"#, "--ttl=3600"], &secret)?;
    assert_eq!(code, Some(0));

    let node = Node::builder().flag("secret", "s3Krit").spawn().await?;
    let open = Request::post("/lp").header("X-JID", made.trim_end());
    let mut poller = Poller::from_open(node.address(), &node.ask(&open).await?)?;
    let identifier = json!({"channel": "$pubsub", "signed_stream_name": name.trim_end()});
    let (kind, _) = poller.try_subscribe(&identifier.to_string()).await?;
    assert_eq!(kind, "confirm_subscription");

    // For ever, and with the first of several secrets.
    let (made, ..) = said(&["--jwt_secret=new,old", "token", "{}"], &[])?;

    let rotated = Node::builder()
        .flag("jwt_secret", "newer,new")
        .own_broadcast_port()
        .spawn()
        .await?;
    let open = Request::post("/lp").header("X-JID", made.trim_end());
    assert_eq!(rotated.ask(&open).await?.status, 200);
    let other = Request::post("/lp").header("X-JID", &token("old", &json!({"ext": "{}"})));
    assert_eq!(rotated.ask(&other).await?.status, 401);

    Ok(())
}

#[test]
fn turbo_and_cable_ready_have_secrets_of_their_own() -> Result<()> {
    for (switch, option) in [("turbo", "turbo_streams"), ("cable_ready", "cable_ready")] {
        let on = format!("--{option}");
        let own = format!("--{option}_secret=own");
        let sign = format!("--{switch}");
        let (name, _, code) = said(&[&on, &own, "--secret=x", "sign", &sign, "posts/1"], &[])?;
        assert_eq!(
            (name.trim_end(), code),
            (&*signed_stream("own", "posts/1"), Some(0))
        );
        let (name, ..) = said(&[&on, "--secret=x", "sign", &sign, "posts/1"], &[])?;
        assert_eq!(name.trim_end(), signed_stream("x", "posts/1"));
        let (_, error, code) = said(&["--secret=x", "sign", &sign, "posts/1"], &[])?;
        assert!(error.contains(option), "{error}");
        assert_eq!(code, Some(64));
    }
    Ok(())
}

#[test]
fn what_is_wrong_is_said() -> Result<()> {
    for (arguments, why) in [
        (
            &["token", "{}"][..],
            "nothing to sign with: set jwt_secret or secret",
        ),
        (
            &["--secret=x", "token", "user 42"],
            "the identifiers are not JSON",
        ),
        (&["--secret=x", "token"], "IDENTIFIERS"),
        (&["--secret=x", "token", "{}", "--ttl=soon"], "--ttl"),
        (
            &["sign", "chat/1"],
            "nothing to sign with: set streams_secret or secret",
        ),
        (&["--secret=x", "sign", ""], "the stream's name"),
        (&["--secret=x", "sing", "a"], "health, token, sign, config"),
    ] {
        let (printed, error, code) = said(arguments, &[])?;
        assert_eq!((printed.as_str(), code), ("", Some(64)), "{arguments:?}");
        assert!(error.contains(why), "{arguments:?}: {error}");
    }
    let (help, ..) = said(&["token", "--help"], &[])?;
    assert!(
        help.contains("Examples:") && help.contains("--ttl"),
        "{help}"
    );
    Ok(())
}

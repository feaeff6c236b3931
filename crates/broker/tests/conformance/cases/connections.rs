//! Servers that don't let everybody in, and one that forgets.

use crate::{
    cases::{doors, guests, history, once, presence, queue, snapshots, terms},
    node::{Node, offsets},
    world::{self, Limits, config, named, start},
};
use anyhow::{Context, Result};
use pollux_broker::{Event, Events, RedisBroker, RedisConfig, redis::RedisTls};
use pollux_testkit::{PATIENCE, Redis, assert_eventually};
use std::sync::Arc;

/// Publishes and hears through a node with this configuration.
async fn works(config: &RedisConfig) -> Result<()> {
    let node = start(config).await?;
    node.subscribe("a").await?;
    let position = node.publish("a", "1").await?;
    node.hears_of("a", &position).await;
    Ok(())
}

/// Waits until the server has turned the broker away, which then is not ready.
async fn is_turned_away(
    config: &RedisConfig,
    mut noticed: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let (broker, mut events): (_, Events) = RedisBroker::start(named(config))?;
    assert_eventually!(noticed().await?, PATIENCE, "the server was not asked");
    let node = Node::waiting(broker, {
        assert!(!matches!(events.try_recv(), Ok(Event::Up)));
        events
    });
    assert!(!node.broker.is_ready());
    assert!(node.publish("a", "1").await.is_err());
    Ok(())
}

pub(crate) async fn a_password_and_a_user_are_told() -> Result<()> {
    let with_password = Redis::builder().password("s3cret").spawn().await?;
    let with_user = Redis::builder().user("node", "s3cret").spawn().await?;
    for redis in [with_password, with_user] {
        works(&config(redis.url(), Limits::default())).await?;
        let wrong = redis.url().replace("s3cret", "guess");
        let denied = async || Ok(redis.cli(&["ACL", "LOG"]).await?.contains("auth"));
        is_turned_away(&config(wrong, Limits::default()), denied).await?;
    }
    Ok(())
}

/// Everything a node does works with the rights that the manual gives to it.
pub(crate) async fn a_user_needs_no_more_than_the_manual_says() -> Result<()> {
    let manual = include_str!("../../../../../docs/operate.md");
    let (_, rights) = manual
        .split_once("redis-cli ACL SETUSER pollux ")
        .context("no user in the manual")?;
    let (rights, _) = rights.split_once("redis-cli").context("no end")?;
    let rights = rights.replace(['\'', '\\'], " ");
    let server = Arc::new(Redis::spawn().await?);
    let words: Vec<&str> = rights.split_whitespace().collect();
    server
        .cli(&[&["ACL", "SETUSER", "pollux", "on"], &words[..]].concat())
        .await?;
    let url = server.url().replace("redis://", "redis://pollux:s3Krit@");
    let world = async || {
        // Each case begins with nothing.
        server.cli(&["FLUSHALL"]).await?;
        anyhow::Ok(world::Redis::at(&server, url.clone()))
    };
    history::it_has_what_was_delivered(world().await?).await?;
    doors::entries_become_publications_in_their_order(world().await?).await?;
    doors::poison_is_set_aside(world().await?).await?;
    queue::what_comes_back_is_the_first_again(world().await?).await?;
    terms::a_reader_that_is_gone_is_no_room(world().await?).await?;
    terms::there_is_as_much_room_as_was_said(world().await?).await?;
    terms::a_publication_says_how_much_is_kept(world().await?).await?;
    terms::an_idle_group_is_passed_over(world().await?).await?;
    once::each_is_claimed_once(world().await?).await?;
    presence::coming_and_going_is_told_once_to_everybody(world().await?).await?;
    presence::who_is_not_touched_is_gone(world().await?).await?;
    snapshots::a_snapshot_is_forgotten(world().await?).await?;
    Box::pin(guests::reports_are_seen_until_they_are_taken_back(
        world().await?,
    ))
    .await?;
    snapshots::of_several_takers_one_gets_a_snapshot(world().await?).await?;
    snapshots::nodes_hear_each_other(world().await?).await?;
    let denied = server.cli(&["ACL", "LOG"]).await?;
    anyhow::ensure!(!denied.contains("command"), "{denied}");
    Ok(())
}

pub(crate) async fn tls_is_verified_unless_told_otherwise() -> Result<()> {
    let redis = Redis::builder()
        .tls()
        .setting("loglevel", "verbose")
        .spawn()
        .await?;
    let certificates = redis.certificates().context("no certificates")?;
    let with = |tls| RedisConfig {
        tls,
        ..config(redis.url(), Limits::default())
    };
    works(&with(RedisTls {
        ca: Some(certificates.ca()),
        ..RedisTls::default()
    }))
    .await?;
    works(&with(RedisTls {
        verify: false,
        ..RedisTls::default()
    }))
    .await?;
    let denied = async || Ok(redis.log().contains("Error accepting a client connection"));
    is_turned_away(&with(RedisTls::default()), denied).await
}

pub(crate) async fn a_client_certificate_is_shown() -> Result<()> {
    let redis = Redis::builder()
        .tls_with_client_certificates()
        .setting("loglevel", "verbose")
        .spawn()
        .await?;
    let certificates = redis.certificates().context("no certificates")?;
    let with = |client| RedisConfig {
        tls: RedisTls {
            ca: Some(certificates.ca()),
            client,
            ..RedisTls::default()
        },
        ..config(redis.url(), Limits::default())
    };
    let shown = (certificates.client_certificate(), certificates.client_key());
    works(&with(Some(shown))).await?;
    let denied = async || Ok(redis.log().contains("Error accepting a client connection"));
    is_turned_away(&with(None), denied).await
}

pub(crate) async fn a_redis_that_forgot_everything_begins_new_epochs() -> Result<()> {
    let mut redis = Redis::spawn().await?;
    let node = start(&config(redis.url(), Limits::default())).await?;
    node.subscribe("a").await?;
    let old = node.count("a", 1, 3).await?;
    node.hears_of("a", &old).await;
    redis.stop();
    assert_eventually!(!node.broker.is_ready(), PATIENCE);
    redis.start().await?;
    node.ready().await;
    let fresh = node.count("a", 1, 3).await?;
    assert_ne!(fresh.epoch, old.epoch);
    let heard = node.hears_of("a", &fresh).await;
    assert_eq!(offsets(&heard), [1, 2, 3, 1, 2, 3]);
    Ok(())
}

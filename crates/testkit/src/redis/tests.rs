use super::*;

#[tokio::test]
async fn a_server_stops_and_comes_back() {
    let mut redis = Redis::spawn().await.unwrap();
    assert_eq!(redis.publish("nobody", "hears").await.unwrap(), 0);
    redis.stop();
    assert!(redis.cli(&["PING"]).await.is_err());
    redis.start().await.unwrap();
    redis.pause().unwrap();
    redis.resume().unwrap();
    assert_eq!(redis.cli(&["PING"]).await.unwrap(), "PONG");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_if_it_is_append_only() {
    let mut redis = Redis::builder().append_only().spawn().await.unwrap();
    let mut client = RedisClient::connect(&redis).await.unwrap();
    for number in 1..=100 {
        let count = client.command(&["INCR", "n"]).await.unwrap();
        assert_eq!(count.integer(), Some(number));
    }
    redis.stop();
    redis.start().await.unwrap();
    assert_eq!(redis.cli(&["GET", "n"]).await.unwrap(), "100");
    redis.terminate().await.unwrap();
    assert!(redis.terminate().await.is_err());
    redis.start().await.unwrap();
    assert_eq!(redis.cli(&["GET", "n"]).await.unwrap(), "100");
}

#[tokio::test]
async fn a_password_is_asked_for() {
    let redis = Redis::builder().password("s3cret").spawn().await.unwrap();
    assert_eq!(
        redis.url(),
        format!("redis://:s3cret@{}/0", redis.address())
    );
    assert_eq!(redis.cli(&["PING"]).await.unwrap(), "PONG");
    let mut client = RedisClient::connect(&redis).await.unwrap();
    client.command(&["PING"]).await.unwrap();
    let mut stranger = RedisClient::open(redis.address()).await.unwrap();
    let refused = stranger.command(&["PING"]).await.unwrap_err();
    assert!(matches!(refused, CommandError::Refused(words) if words.starts_with("NOAUTH")));
}

#[tokio::test]
async fn a_user_is_asked_for() {
    let redis = Redis::builder().user("node", "pw").spawn().await.unwrap();
    let mut client = RedisClient::connect(&redis).await.unwrap();
    let who = client.command(&["ACL", "WHOAMI"]).await.unwrap();
    assert_eq!(who.text(), Some("node"));
    assert_eq!(redis.cli(&["ACL", "WHOAMI"]).await.unwrap(), "node");
}

#[tokio::test]
async fn tls_is_all_it_speaks() {
    let redis = Redis::builder().tls().spawn().await.unwrap();
    assert!(redis.url().starts_with("rediss://localhost:"));
    assert_eq!(redis.publish("nobody", "hears").await.unwrap(), 0);
    let mut plain = RedisClient::open(redis.address()).await.unwrap();
    assert!(plain.command(&["PING"]).await.is_err());
}

#[tokio::test]
async fn a_client_certificate_can_be_demanded() {
    let redis = Redis::builder()
        .tls_with_client_certificates()
        .password("pw")
        .spawn()
        .await
        .unwrap();
    assert_eq!(redis.cli(&["PING"]).await.unwrap(), "PONG");
    let certificates = redis.certificates().unwrap();
    let output = Command::new("redis-cli")
        .args(["-h", "127.0.0.1", "-p", &redis.port.to_string(), "--tls"])
        .arg("--cacert")
        .arg(certificates.ca())
        .args(["-a", "pw", "PING"])
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&output.stdout).contains("PONG"));
}

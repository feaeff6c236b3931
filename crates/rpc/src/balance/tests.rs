use super::*;
use crate::{dial::Dialer, grpc, host::Hosts, tally::Counters};
use tokio::time::advance;

/// What the names answer, and how often they were asked.
#[derive(Default)]
struct Zone {
    addresses: Mutex<HashMap<Box<str>, Vec<u16>>>,
    asked: AtomicUsize,
}

impl Zone {
    fn set(&self, name: &str, ports: &[u16]) {
        self.addresses.lock().insert(name.into(), ports.to_vec());
    }

    fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

fn address(port: u16) -> SocketAddr {
    ([10, 0, 0, 1], port).into()
}

/// Hosts whose addresses differ by their port only. A name without ports is
/// not answered.
fn balance(zone: &Arc<Zone>, hosts: &[&str]) -> Arc<Balance> {
    let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
    let Hosts::Grpc(targets) = Hosts::parse(&hosts).unwrap() else {
        panic!("not gRPC");
    };
    let zone = Arc::clone(zone);
    let counters = Arc::new(Counters::default());
    Arc::new(Balance::of_names(Names {
        targets,
        resolve: Box::new(move |target| {
            zone.asked.fetch_add(1, Relaxed);
            let found = zone.addresses.lock().get(&target.host).cloned();
            Box::pin(async move {
                let ports = found.ok_or_else(|| io::Error::other("no answer"))?;
                Ok(ports.into_iter().map(address).collect())
            })
        }),
        make: Box::new(move |origin, address| {
            let dialer = Dialer::plain(Duration::from_secs(1));
            let host = grpc::Host::new(address, "http://app".parse().ok()?, dialer, None, 1);
            Some(Peer::new(Wire::Grpc(host), origin, Arc::clone(&counters)))
        }),
    }))
}

async fn turn(balance: &Arc<Balance>) -> Arc<Peer> {
    Arc::clone(balance.pick(&[]).await.unwrap().peer())
}

fn port(peer: &Peer) -> u16 {
    match peer.wire() {
        Wire::Grpc(host) => host.address().port(),
        Wire::Http(_) => unreachable!("all are gRPC"),
    }
}

/// The ports of so many turns.
async fn turns(balance: &Arc<Balance>, count: usize) -> Vec<u16> {
    let mut ports = Vec::new();
    for _ in 0..count {
        ports.push(port(&*turn(balance).await));
    }
    ports
}

/// Lets a question that was asked beside be answered.
async fn settle(balance: &Balance) {
    while balance
        .again
        .lock()
        .task
        .as_ref()
        .is_some_and(|task| !task.is_over())
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn all_addresses_of_all_names_take_turns() {
    let zone = Arc::new(Zone::default());
    zone.set("a", &[1, 2]);
    zone.set("b", &[3, 2]);
    let balance = balance(&zone, &["a:1", "b:1"]);
    assert_eq!(turns(&balance, 7).await, [1, 2, 3, 1, 2, 3, 1]);
    assert_eq!(zone.asked(), 2, "once for each name");
    assert_eq!(balance.count(), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn new_addresses_are_found_and_old_ones_left() {
    let zone = Arc::new(Zone::default());
    zone.set("a", &[1, 2]);
    let balance = balance(&zone, &["a:1"]);
    let mut kept = turn(&balance).await;
    if port(&kept) != 2 {
        kept = turn(&balance).await;
    }
    zone.set("a", &[2, 3]);
    advance(NAMES_AGE - Duration::from_millis(1)).await;
    turn(&balance).await;
    assert_eq!(zone.asked(), 1);
    advance(Duration::from_millis(1)).await;
    turn(&balance).await;
    settle(&balance).await;
    assert_eq!(zone.asked(), 2);
    let mut ports = turns(&balance, 4).await;
    ports.sort_unstable();
    assert_eq!(ports, [2, 2, 3, 3]);
    let peers = Arc::clone(&balance.peers.read());
    assert!(
        peers.iter().any(|peer| Arc::ptr_eq(peer, &kept)),
        "a host that stays keeps its connection and what is known of it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_a_reason_to_ask_after_a_second() {
    let zone = Arc::new(Zone::default());
    zone.set("a", &[1]);
    let balance = balance(&zone, &["a:1"]);
    turn(&balance).await;
    zone.set("a", &[2]);
    balance.failed();
    turn(&balance).await;
    assert_eq!(zone.asked(), 1, "not more often than every second");
    advance(NAMES_AGE_AFTER_FAILURE).await;
    turn(&balance).await;
    settle(&balance).await;
    assert_eq!(turns(&balance, 2).await, [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_not_answered_keeps_its_addresses() {
    let zone = Arc::new(Zone::default());
    zone.set("a", &[1]);
    zone.set("b", &[2]);
    let balance = balance(&zone, &["a:1", "b:1"]);
    turn(&balance).await;
    zone.addresses.lock().remove("a");
    zone.set("b", &[]);
    advance(NAMES_AGE).await;
    turn(&balance).await;
    settle(&balance).await;
    let mut ports = turns(&balance, 2).await;
    ports.sort_unstable();
    assert_eq!(ports, [1, 2], "no address is no answer either");
}

#[tokio::test(start_paused = true)]
async fn names_without_an_answer_are_asked_by_every_call() {
    let zone = Arc::new(Zone::default());
    let balance = balance(&zone, &["a:1", "b:1"]);
    let error = balance.pick(&[]).await.unwrap_err();
    let NoPeer::Nameless(why) = error else {
        panic!("{error:?}");
    };
    assert_eq!(&*why, "a:1: no answer");
    zone.set("b", &[2]);
    assert_eq!(turns(&balance, 1).await, [2], "one name is enough");
    zone.set("a", &[1]);
    advance(NAMES_AGE_AFTER_FAILURE).await;
    turn(&balance).await;
    settle(&balance).await;
    let mut ports = turns(&balance, 2).await;
    ports.sort_unstable();
    assert_eq!(ports, [1, 2], "the other comes soon after");
}

#[tokio::test(start_paused = true)]
async fn who_was_tried_is_asked_last() {
    let zone = Arc::new(Zone::default());
    zone.set("a", &[1, 2, 3]);
    let balance = balance(&zone, &["a:1"]);
    let mut tried = Vec::new();
    for _ in 0..3 {
        let next = balance.pick(&tried).await.unwrap();
        assert!(!is_in(next.peer(), &tried));
        tried.push(Arc::clone(next.peer()));
    }
    assert!(!balance.has_others(&tried));
    balance.pick(&tried).await.unwrap();
}

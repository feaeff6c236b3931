//! What the time of a refusal tells those who guess poll ids: nothing.

use anyhow::{Context as _, Result, ensure};
use pollux_testkit::{
    Chance, Connection, Node, PATIENCE, Parked, Poller, Request, assert_eventually,
};
use tokio::time::Instant;

/// Sessions that could be found, ids of sessions that could be until a moment ago, and so on.
const IDS: usize = 200;
/// Requests with each class of ids in a round, one of each at a time.
const REQUESTS: usize = 4_000;
/// A busy machine may spoil a round. A difference that is real is in all of them.
const ROUNDS: usize = 8;
/// Standard errors by which medians may lie apart by chance, beyond what medians of one kind do.
const SIGMAS: f64 = 3.0;
/// A round that could not see this part of an answer's time says nothing. A refusal takes 50 to
/// 100 µs here. Where nothing else runs, chance is 0.2 µs.
const WORTH_SEEING: f64 = 0.05;

/// The alphabet of the secret half of a poll id.
const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// What the last character can be: it holds two bits.
const LAST: &[u8] = b"AQgw";

/// Ids of no session, of one kind, as requests that have the same length for all kinds.
struct Class {
    name: &'static str,
    requests: Vec<Vec<u8>>,
    /// The part of an answer's time by which its own may differ.
    allowed: f64,
}

impl Class {
    fn new(name: &'static str, ids: &[String]) -> Self {
        Self {
            name,
            requests: ids.iter().map(|id| guess(id).to_bytes()).collect(),
            allowed: 0.0,
        }
    }
}

fn guess(id: &str) -> Request {
    Request::post("/lp").header("X-Anycable-Poll-ID", id)
}

fn draw(chance: &mut Chance, from: &[u8]) -> char {
    let at = usize::try_from(chance.below(from.len() as u64)).unwrap_or(0);
    char::from(from[at])
}

/// The same ids with secrets that are nobody's.
fn strangers(chance: &mut Chance, ids: &[String]) -> Result<Vec<String>> {
    let mut stranger = |id: &String| {
        let (route, secret) = id.rsplit_once('.').context("no dot")?;
        let mut id = format!("{route}.");
        id.extend((1..secret.len()).map(|_| draw(chance, ALPHABET)));
        id.push(draw(chance, LAST));
        Ok(id)
    };
    ids.iter().map(&mut stranger).collect()
}

/// The same id but for its last character.
fn neighbour(id: &str) -> Result<String> {
    let (last, rest) = id.as_bytes().split_last().context("no id")?;
    let at = LAST.iter().position(|known| known == last);
    let at = at.with_context(|| format!("{id} ends in none of four"))?;
    let mut near = String::from_utf8(rest.to_vec())?;
    near.push(char::from(LAST[(at + 1) % LAST.len()]));
    Ok(near)
}

/// The same id with a character, at any place of its secret, that no id has.
fn malformed(chance: &mut Chance, id: &str) -> Result<String> {
    let dot = id.rfind('.').context("no dot")?;
    let secret = u64::try_from(id.len() - dot - 1)?;
    let at = dot + 1 + usize::try_from(chance.below(secret))?;
    let mut id = id.as_bytes().to_vec();
    id[at] = b'*';
    Ok(String::from_utf8(id)?)
}

/// A node with sessions, and one connection of somebody who has none.
struct Guesser {
    connection: Connection,
    /// Every refusal is as long.
    answer_length: usize,
    chance: Chance,
    classes: Vec<Class>,
    _node: Node,
    _polls: Vec<Parked>,
}

impl Guesser {
    async fn new() -> Result<Self> {
        let node = Node::builder()
            .flag("poll_interval", "600")
            .flag("poll_keepalive_timeout", "3")
            .flag("max_unknown_polls_per_minute", "1000000000")
            .spawn()
            .await?;
        let mut ended = Vec::new();
        for _ in 0..IDS {
            ended.push(Poller::open(&node).await?.poll_id().to_owned());
        }
        let (mut live, mut polls) = (Vec::new(), Vec::new());
        for _ in 0..IDS {
            let poller = Poller::open(&node).await?;
            live.push(poller.poll_id().to_owned());
            polls.push(poller.park().await?);
        }
        let all = IDS as f64;
        assert_eventually!(node.metric("sessions").await? == all, PATIENCE);

        let mut chance = Chance::new(7);
        let near: Vec<_> = live.iter().map(|id| neighbour(id)).collect::<Result<_>>()?;
        let no_ids: Vec<_> = live
            .iter()
            .map(|id| malformed(&mut chance, id))
            .collect::<Result<_>>()?;
        let classes = vec![
            Class::new("others", &strangers(&mut chance, &live)?),
            Class::new("more others", &strangers(&mut chance, &live)?),
            Class::new("all but the last character of a live one", &near),
            Class::new("of sessions that ended", &ended),
            // No look-up is made for what can be nobody's, as everybody can see. A build without
            // optimisation needs some 2 µs of 50 for one.
            Class {
                allowed: 2.0 * WORTH_SEEING,
                ..Class::new("malformed", &no_ids)
            },
        ];
        let mut connection = Connection::open(node.address()).await?;
        let answer = connection.ask(&guess(&neighbour(&live[0])?)).await?;
        ensure!(answer.status == 401, "{answer:?}");
        Ok(Self {
            connection,
            answer_length: answer.head.len() + answer.body.len(),
            chance,
            classes,
            _node: node,
            _polls: polls,
        })
    }

    /// How long refusals take, in microseconds: for each class the same number of them, and
    /// those with the same number right after each other, in an order that changes.
    async fn round(&mut self) -> Result<Vec<Vec<f64>>> {
        let mut times = vec![Vec::with_capacity(REQUESTS); self.classes.len()];
        let mut order: Vec<_> = (0..self.classes.len()).collect();
        for n in 0..REQUESTS {
            for at in (1..order.len()).rev() {
                let other = usize::try_from(self.chance.below(at as u64 + 1))?;
                order.swap(at, other);
            }
            for &class in &order {
                let request = &self.classes[class].requests[n % IDS];
                let sent = Instant::now();
                self.connection.send_bytes(request).await?;
                let answer = self.connection.bytes(self.answer_length).await?;
                times[class].push(sent.elapsed().as_secs_f64() * 1e6);
                ensure!(answer.starts_with(b"HTTP/1.1 401 "), "another answer");
            }
        }
        Ok(times)
    }
}

/// The median, and how far from it half of the numbers are.
fn median(mut numbers: Vec<f64>) -> (f64, f64) {
    let middle = |numbers: &mut Vec<f64>| {
        numbers.sort_by(f64::total_cmp);
        numbers[numbers.len() / 2]
    };
    let median = middle(&mut numbers);
    let mut distances = numbers.iter().map(|n| (n - median).abs()).collect();
    (median, middle(&mut distances))
}

/// How much later the answers of one class come than those to requests of another right beside
/// them. Were both of one kind, the differences would lie around zero evenly, whatever the shape
/// of the noise; those from an average of several classes would not.
fn lag(one: &[f64], other: &[f64]) -> (f64, f64) {
    median(one.iter().zip(other).map(|(a, b)| a - b).collect())
}

/// What a round found.
#[derive(Debug, PartialEq)]
enum Finding {
    /// The machine was too busy to tell.
    Noise(String),
    Difference(String),
    Nothing,
}

/// Compares every class with the first two, which are of one kind. What lies between those is
/// chance, and so is what is no larger.
fn judge(classes: &[Class], times: &[Vec<f64>]) -> Finding {
    let [first, second, others @ ..] = times else {
        return Finding::Noise("nothing to compare".to_owned());
    };
    let (answer, _) = median(first.clone());
    let (shift, spread) = lag(first, second);
    // Of a median of normal numbers: 1.2533 σ/√n, where σ is 1.4826 times the spread.
    let error = 1.858 * spread / (first.len() as f64).sqrt();
    let chance = shift.abs() + SIGMAS * error;
    if chance > WORTH_SEEING * answer {
        return Finding::Noise(format!("{chance:.1} of {answer:.1} µs are chance"));
    }
    for (class, times) in classes.iter().skip(2).zip(others) {
        let difference = f64::midpoint(lag(times, first).0, lag(times, second).0);
        if difference.abs() > chance + class.allowed * answer {
            return Finding::Difference(format!(
                "ids {}: {difference:+.2} µs of {answer:.1}, of which {chance:.2} could be chance",
                class.name
            ));
        }
    }
    Finding::Nothing
}

#[tokio::test]
async fn the_time_of_a_refusal_says_nothing_about_the_id() -> Result<()> {
    let mut guesser = Guesser::new().await?;
    let mut findings = Vec::new();
    while findings.len() < ROUNDS {
        let mut times = guesser.round().await?;
        let finding = judge(&guesser.classes, &times);
        if finding != Finding::Nothing {
            findings.push(finding);
            continue;
        }
        // With the same noise a slow path would have been seen.
        let (answer, _) = median(times[0].clone());
        for time in &mut times[2] {
            *time += 2.0 * WORTH_SEEING * answer;
        }
        let finding = judge(&guesser.classes, &times);
        assert!(matches!(finding, Finding::Difference(_)), "{finding:?}");
        return Ok(());
    }
    panic!("{findings:#?}");
}

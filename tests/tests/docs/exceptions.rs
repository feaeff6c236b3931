//! Blocks that are not typed as they stand, each with the reason.

use crate::block::Block;

/// What is different about a block.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    /// It is not run; that it is a shell's is checked.
    NotRun(&'static str),
    /// Another test runs it, which reads it out of its page. This is the test's file.
    RunBy(&'static str),
    /// It publishes `{"text":"hi"}` to `chat/1`, which has to arrive.
    Publishes,
    /// It prints a token, which the node has to take.
    MakesToken,
    /// It listens until it is stopped. The next one comes when it has subscribed.
    Listens,
    /// It serves this port until it is stopped.
    Serves(&'static str),
}

use How::{Listens, MakesToken, NotRun, Publishes, RunBy, Serves};

/// A block, by its page and the beginning of one of its lines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exception {
    page: &'static str,
    line: &'static str,
    how: How,
}

impl Exception {
    pub(crate) fn is_of(&self, block: &Block) -> bool {
        block.page == self.page && block.text.lines().any(|line| line.starts_with(self.line))
    }
}

pub(crate) fn of(block: &Block) -> Option<How> {
    let found = all().find(|exception| exception.is_of(block));
    found.map(|exception| exception.how)
}

/// What other tests run: the file of the test, the page, and the beginning of a line.
pub(crate) fn run_by() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    all().filter_map(|exception| match exception.how {
        RunBy(test) => Some((test, exception.page, exception.line)),
        _ => None,
    })
}

pub(crate) fn all() -> impl Iterator<Item = Exception> {
    ALL.iter().flat_map(|&(page, blocks)| {
        let exception = move |&(line, how)| Exception { page, line, how };
        blocks.iter().map(exception)
    })
}

const DOCKER: How = NotRun("takes a Docker Engine; tests/compose-smoke is where it runs");
const CLUSTER: How = NotRun("takes a cluster; tests/helm/on-cluster is where it runs");
const ROOT: How = NotRun("changes the machine");
const SYSTEMD: How = NotRun("takes systemd; tests/systemd-smoke is where it runs");
const MEASURES: How = NotRun("measures for minutes");
const TESTS: How = NotRun("is what runs this test");
/// What takes a browser, or a library from npm.
const JS: How = RunBy("tests/js/documents.test.js");
/// What takes a library in Go, which few of those have who have all else.
const GO: How = RunBy("tests/go/example_test.go");

type Blocks = &'static [(&'static str, How)];

const ALL: &[(&str, Blocks)] = &[
    ("README.md", &[("id=$(curl", Listens), ("tests/run", TESTS)]),
    ("CONTRIBUTING.md", &[("tests/run", TESTS)]),
    (
        "clients/js/README.md",
        &[
            ("const cable = createCable({", JS),
            ("createCable(\"wss://", JS),
        ],
    ),
    (
        "helm/pollux/README.md",
        &[("docker build", DOCKER), ("kubectl create secret", CLUSTER)],
    ),
    (
        "docs/authenticate.md",
        &[
            ("puts JWT.encode(", MakesToken),
            ("console.log(jwt.sign(", JS),
            ("print(jwt.encode(", MakesToken),
            ("echo token(", MakesToken),
        ],
    ),
    (
        "docs/backend.md",
        &[
            ("import hashlib, hmac, json", Serves("3000")),
            ("import { createHmac }", Serves("3001")),
            ("import { Application, Channel, handler }", JS),
        ],
    ),
    (
        "docs/client-action-cable.md",
        &[
            ("const cable = createCable(\"ws://", JS),
            ("import { LongPollingTransport }", JS),
            ("import { createConsumer }", JS),
            ("const socket", JS),
        ],
    ),
    (
        "docs/client-categories.md",
        &[("since=$((", Listens), ("async function listen", Listens)],
    ),
    (
        "docs/client-event-streams.md",
        &[
            ("<!doctype html>", JS),
            ("curl -sN 'http", Listens),
            ("def events", Listens),
        ],
    ),
    (
        "docs/client-long-polling.md",
        &[
            ("subscribe='", Listens),
            ("async function listen", Listens),
            ("def listen", Listens),
            ("#include", Listens),
        ],
    ),
    (
        "docs/clients.md",
        &[("curl -N", Listens), ("const events = new EventSource", JS)],
    ),
    (
        "docs/command-line.md",
        &[
            ("pollux subscribe chat/1", Listens),
            ("pollux subscribe --count 1", Listens),
        ],
    ),
    (
        "docs/deploy.md",
        &[
            ("docker compose up --build", DOCKER),
            ("docker compose exec redis", DOCKER),
            ("docker compose --profile", DOCKER),
            ("docker build -f deploy/Dockerfile -t pollux .", DOCKER),
            ("helm install", CLUSTER),
            ("helm upgrade", CLUSTER),
            (
                "pollux --host 0.0.0.0 --port 8443",
                NotRun("takes a certificate; tests/tests/tls.rs makes some"),
            ),
            ("cp nginx/", ROOT),
        ],
    ),
    (
        "docs/embed.md",
        &[(
            "cargo run -p",
            NotRun("builds the examples, as the lints do"),
        )],
    ),
    (
        "docs/getting-started.md",
        &[
            ("curl -sN 'http://127.0.0.1:8080", Listens),
            ("curl -sN 'http://127.0.0.1:8081", Listens),
            ("<!doctype html>", JS),
        ],
    ),
    (
        "docs/migrate-from-golongpoll.md",
        &[("curl 'http", Listens)],
    ),
    (
        "docs/operate.md",
        &[
            ("docker run --rm -e JAEGER", DOCKER),
            ("sudo apt install ./target", SYSTEMD),
            ("sudo install", ROOT),
            ("sudo systemd-run", SYSTEMD),
        ],
    ),
    (
        "docs/performance.md",
        &[
            ("pollux-bench clients --transport cable", MEASURES),
            ("target/release/pollux-bench fanout", MEASURES),
        ],
    ),
    (
        "docs/publish.md",
        &[
            (
                "curl -i http://127.0.0.1:8080/_broadcast -d '{\"stream\"",
                Publishes,
            ),
            ("import urllib.request", Publishes),
            ("async function publish", Publishes),
            ("redis-cli FCALL", Publishes),
            ("import redis", Publishes),
            ("require \"redis\"", Publishes),
            ("import { createClient } from \"redis\"", JS),
            ("$redis = new Redis", Publishes),
            ("package main", GO),
            ("redis-cli XADD", Publishes),
            ("redis-cli PUBLISH", Publishes),
        ],
    ),
    (
        "docs/rooms-and-mailboxes.md",
        &[
            ("curl -s 'http://127.0.0.1:8080/poll", Listens),
            ("while job=", Listens),
            ("def messages", Listens),
        ],
    ),
    ("docs/troubleshoot.md", &[("OPEN_FILES=", DOCKER)]),
];

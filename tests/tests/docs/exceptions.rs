//! Blocks that are not typed as they stand, each with the reason.

use crate::block::Block;

/// What is different about a block.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    /// It is not run; its syntax is checked if something here can.
    NotRun(&'static str),
    /// It listens until it is stopped. The next one comes when it has subscribed.
    Listens,
    /// It serves this port until it is stopped.
    Serves(&'static str),
}

use How::{Listens, NotRun, Serves};

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

pub(crate) fn all() -> impl Iterator<Item = Exception> {
    ALL.iter().flat_map(|&(page, blocks)| {
        let exception = move |&(line, how)| Exception { page, line, how };
        blocks.iter().map(exception)
    })
}

const DOCKER: How = NotRun("takes a Docker Engine; tests/compose-smoke is where it runs");
const CLUSTER: How = NotRun("takes a cluster; tests/helm runs helm and what its pods run");
const ROOT: How = NotRun("changes the machine");
const SYSTEMD: How = NotRun("takes systemd; tests/systemd-smoke is where it runs");
const MEASURES: How = NotRun("measures for minutes");
const LIBRARY: How = NotRun("takes a library of others");
const TESTS: How = NotRun("is what runs this test");
const BROWSER: How = NotRun("is for pages");

type Blocks = &'static [(&'static str, How)];

const ALL: &[(&str, Blocks)] = &[
    ("README.md", &[("id=$(curl", Listens), ("tests/run", TESTS)]),
    ("CONTRIBUTING.md", &[("tests/run", TESTS)]),
    (
        "helm/pollux/README.md",
        &[("docker build", DOCKER), ("kubectl create secret", CLUSTER)],
    ),
    (
        "docs/authenticate.md",
        &[
            ("JWT.encode(", LIBRARY),
            ("JWT::encode(", LIBRARY),
            ("jwt.sign(", LIBRARY),
            ("jwt.encode(", LIBRARY),
        ],
    ),
    (
        "docs/backend.md",
        &[
            ("import hashlib, hmac, json", Serves("3000")),
            ("import { createHmac }", Serves("3001")),
        ],
    ),
    (
        "docs/client-action-cable.md",
        &[
            ("const cable = createCable(\"ws://", LIBRARY),
            ("import { LongPollingTransport }", LIBRARY),
            ("import { createConsumer }", LIBRARY),
            ("const socket", NotRun("takes Node.js 22 or a browser")),
        ],
    ),
    (
        "docs/client-categories.md",
        &[("since=$((", Listens), ("async function listen", Listens)],
    ),
    (
        "docs/client-event-streams.md",
        &[("curl -sN 'http", Listens), ("def events", Listens)],
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
        &[
            ("curl -N", Listens),
            ("const events = new EventSource", BROWSER),
        ],
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
            ("import redis", LIBRARY),
            ("require \"redis\"", LIBRARY),
            ("import { createClient }", LIBRARY),
            ("$redis = new Redis", LIBRARY),
            ("package main", LIBRARY),
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
];

//! The `pollux` program: options in, exit code out.

use crate::{
    banner::{self, Ports},
    client,
    config::{Action, Config, ConfigError, Mode, OPEN_BROADCAST_PORT, process_environment},
    health,
    node::{Listeners, Node},
    server::listen,
    sign,
    supervisor::Supervisor,
    telemetry::{Traces, logs},
};
use anyhow::Context as _;
use std::{
    ffi::OsString,
    future::pending,
    io::{IsTerminal as _, Write as _},
    net::SocketAddr,
    process::ExitCode,
};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};
use tracing::{debug, error, info, warn};

/// Runs the program. Exit codes: 0 stopped as asked, done, or in good health; 1 failed, refused, or
/// not; 2 out of time; 64 bad options.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let environment = process_environment();
    let supervisor = Supervisor::of(&environment);
    let loaded = match Config::load(args, environment) {
        Ok(loaded) => loaded,
        Err(error) => {
            refuse(&error.to_string(), &supervisor);
            return ExitCode::from(ConfigError::EXIT_CODE);
        }
    };
    match &loaded.action {
        Action::Serve => {}
        Action::Sign(request) => return sign::run(request, &loaded.config),
        Action::Health(request) => return health::run(request, &loaded.config),
        Action::Publish(request) => return client::publish(request, &loaded.config),
        Action::Subscribe(request) => return client::subscribe(request, &loaded.config),
        Action::Look(request) => return client::look(request, &loaded.config),
        Action::CheckConfig => return client::check(&loaded),
        Action::PrintConfig(text)
        | Action::Help(text)
        | Action::Version(text)
        | Action::Completions(text) => {
            return match std::io::stdout().write_all(text.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
    }
    let mut config = loaded.config;
    let started = start(&mut config);
    let traces = started.as_ref().ok().and_then(|(_, traces)| traces.clone());
    logs::init(
        config.log_format,
        config.log_level,
        config.debug,
        logs::Reader::of(&supervisor),
        traces.as_ref(),
    );
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    match started.and_then(|(runtime, traces)| serve(runtime, config, supervisor, traces)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{failure:#}");
            ExitCode::FAILURE
        }
    }
}

/// What logging waits for: traces are part of it, and need the runtime.
fn start(config: &mut Config) -> anyhow::Result<(Runtime, Option<Traces>)> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if config.workers > 0 {
        builder.worker_threads(config.workers);
    }
    let runtime = builder
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let within = runtime.enter();
    let traces = Traces::start(config).context("failed to trace")?;
    drop(within);
    Ok((runtime, traces))
}

fn serve(
    runtime: Runtime,
    config: Config,
    supervisor: Supervisor,
    traces: Option<Traces>,
) -> anyhow::Result<()> {
    let outcome = runtime.block_on(async {
        let serving = serve_until_signal(config, supervisor, traces.clone());
        let outcome = Box::pin(serving).await;
        if let Some(traces) = traces {
            traces.shutdown().await;
        }
        outcome
    });
    // Nothing of what still runs is worth waiting for.
    runtime.shutdown_background();
    outcome
}

async fn serve_until_signal(
    config: Config,
    supervisor: Supervisor,
    traces: Option<Traces>,
) -> anyhow::Result<()> {
    let signals = Signals::listen().context("failed to listen to signals")?;
    let node = Node::builder().config(config).traces(traces).build()?;
    let config = node.config();
    // Without TLS it means nothing, which is no reason for a service that is told to reload to end.
    // What was started at a terminal ends with that.
    let listens = config.uses_tls() || !std::io::stdin().is_terminal();
    let hangup = listens
        .then(|| signal(SignalKind::hangup()))
        .transpose()
        .context("failed to listen to signals")?;
    let main = listen(&config.host, config.port)
        .await
        .with_context(|| format!("failed to listen on {}:{}", config.host, config.port))?;
    let broadcast = broadcast_listener(config).await?;
    let console = console_listener(config).await?;
    let metrics = metrics_listener(config).await?;
    node.log_mode();
    let address = address_of(&main)?;
    info!(%address, tls = config.uses_tls(), "Listening");
    let ports = Ports {
        main: address,
        broadcast: announce(broadcast.as_ref(), "broadcasts")?,
        console: announce(console.as_ref(), "the console")?,
        metrics: announce(metrics.as_ref(), "metrics")?,
    };
    if logs::Reader::of(&supervisor) == logs::Reader::Anybody {
        banner::print(node.config(), ports);
    }
    supervisor.is_ready(address);
    let listeners = Listeners {
        main,
        broadcast,
        metrics,
        console,
    };
    let serving = Box::pin(node.serve(listeners, signals.first(supervisor)));
    tokio::select! {
        () = serving => {}
        () = reload(&node, hangup) => {}
    }
    Ok(())
}

fn address_of(listener: &TcpListener) -> anyhow::Result<SocketAddr> {
    listener
        .local_addr()
        .context("failed to read the listener's address")
}

/// Says in the log what a port of its own is for.
fn announce(listener: Option<&TcpListener>, what: &str) -> anyhow::Result<Option<SocketAddr>> {
    let address = listener.map(address_of).transpose()?;
    if let Some(address) = address {
        info!(%address, "Listening for {what}");
    }
    Ok(address)
}

/// Looks for a new certificate as often as it is asked to. Never ends.
async fn reload(node: &Node, hangup: Option<Signal>) {
    if let Some(mut hangup) = hangup {
        while hangup.recv().await.is_some() {
            // Two small files.
            node.reload_certificate();
        }
    }
    pending().await
}

async fn broadcast_listener(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(port) = config.own_broadcast_port() else {
        return Ok(development_broadcast_listener(config).await);
    };
    let listener = listen(&config.host, port)
        .await
        .with_context(|| format!("failed to listen for broadcasts on {}:{port}", config.host))?;
    Ok(Some(listener))
}

/// The console's own port, which may be that of the metrics too.
async fn console_listener(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(port) = config.own_console_port() else {
        return Ok(None);
    };
    let host = config.console_address();
    let listener = listen(host, port)
        .await
        .with_context(|| format!("failed to listen for the console on {host}:{port}"))?;
    Ok(Some(listener))
}

async fn metrics_listener(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let own_port = config.own_metrics_port();
    let Some(port) = own_port.filter(|_| own_port != config.own_console_port()) else {
        return Ok(None);
    };
    let host = config.metrics_address();
    let listener = listen(host, port)
        .await
        .with_context(|| format!("failed to listen for metrics on {host}:{port}"))?;
    Ok(Some(listener))
}

/// In development mode backends that were set up for AnyCable publish to its
/// default port without a key. If something else has that port, the main one
/// must do.
async fn development_broadcast_listener(config: &Config) -> Option<TcpListener> {
    if config.mode() != Mode::Development || config.port == 0 {
        return None;
    }
    let listener = listen(&config.host, OPEN_BROADCAST_PORT).await;
    if let Err(error) = &listener {
        debug!(%error, port = OPEN_BROADCAST_PORT, "Publishing is on the main port only");
    }
    listener.ok()
}

/// The signals that ask a server to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for the first signal. The second one ends the process at once.
    async fn first(mut self, supervisor: Supervisor) {
        self.next().await;
        supervisor.is_stopping();
        info!("Stopping; a second signal stops at once");
        tokio::spawn(async move {
            self.next().await;
            warn!("Stopped at once");
            std::process::exit(1);
        });
    }
}

/// Says what is wrong with the options. In the journal each line of it is an error.
fn refuse(message: &str, supervisor: &Supervisor) {
    if supervisor.keeps_journal_of(&std::io::stderr()) {
        let lines = message.lines().map(|line| format!("<3>{line}\n"));
        complain(&lines.collect::<String>());
    } else {
        complain(message);
    }
}

pub(crate) fn complain(message: &str) {
    let mut message = message.trim_end().to_owned();
    message.push('\n');
    // Nowhere is left to say that standard error is closed.
    drop(std::io::stderr().write_all(message.as_bytes()));
}

//! A shell at which a page's commands are typed.

use anyhow::{Context, Result, bail};
use pollux_testkit::{Connection, Deadline, PATIENCE, Redis, Request, free_port};
use std::{
    env, fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// A command of a page takes no longer; it waits for polls of a second at most.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);

/// `pollux`, which starts a node beside the shell, in the place of the one before, and comes back
/// when it is ready. Any other command is the binary's own.
const POLLUX: &str = r#"#!/usr/bin/env bash
for word in "$@"; do
    case $word in
        -h | -V | --help | --version | --print[-_]config) exec "$DOCS_POLLUX" "$@" ;;
        health | token | sign | config | completions) exec "$DOCS_POLLUX" "$@" ;;
        publish | subscribe | nodes | streams | sessions) exec "$DOCS_POLLUX" "$@" ;;
    esac
done
port=$POLLUX_PORT
for word in "$@"; do
    case $word in --port=*) port=${word#*=} ;; esac
done
folder=$(dirname "$0")
if [ -f "$folder/node.$port" ]; then
    old=$(cat "$folder/node.$port")
    kill -KILL "$old" 2>/dev/null || true
    while kill -0 "$old" 2>/dev/null; do sleep 0.02; done
fi
"$DOCS_POLLUX" "$@" >"$folder/log" 2>&1 &
echo $! >"$folder/node.$port"
while ! curl -sf -o /dev/null "http://127.0.0.1:$port/ready"; do
    if ! kill -0 $! 2>/dev/null; then
        echo "the node has ended:" >&2
        cat "$folder/log" >&2
        exit 1
    fi
    sleep 0.02
done
"#;

/// What of cargo a page may use: the binary is built already.
const CARGO: &str = r#"#!/usr/bin/env bash
case "$1 $2" in
    "build --release") ;;
    "run --release")
        shift 2
        if [ "${1-}" = -- ]; then shift; fi
        exec pollux "$@"
        ;;
    *)
        echo "cargo $*: this is not known here" >&2
        exit 1
        ;;
esac
"#;

const REDIS_CLI: &str = r#"#!/usr/bin/env bash
exec "$DOCS_REDIS_CLI" -e -p "$DOCS_REDIS_PORT" "$@"
"#;

/// Which terminal a line is on, and where.
pub(crate) type Place = (String, usize);

/// See the module's head. Dropping it ends all that was started at it.
#[derive(Debug)]
pub(crate) struct Terminal {
    folder: TempDir,
    shell: Child,
    stdin: ChildStdin,
    commands: usize,
    /// Numbers that pages write, and those that are meant here.
    ports: Vec<(&'static str, String)>,
    _redis: Option<Redis>,
}

impl Terminal {
    /// A shell in an empty folder; with a Redis of its own if it is needed.
    pub(crate) async fn open(needs_redis: bool) -> Result<Self> {
        let redis = match needs_redis {
            true => Some(Redis::builder().append_only().spawn().await?),
            false => None,
        };
        let redis_port = match &redis {
            Some(redis) => redis.address().port(),
            None => free_port()?,
        };
        let mut ports = vec![("6379", redis_port.to_string())];
        for known in ["8080", "8081", "3000", "3001"] {
            ports.push((known, free_port()?.to_string()));
        }
        let port = ports[1].1.clone();
        let folder = TempDir::new()?;
        let (bin, home) = (folder.path().join("bin"), folder.path().join("home"));
        let built = home.join("target/release");
        for new in [&bin, &built] {
            fs::create_dir_all(new)?;
        }
        for (name, text) in [
            ("pollux", POLLUX),
            ("cargo", CARGO),
            ("redis-cli", REDIS_CLI),
        ] {
            let file = bin.join(name);
            fs::write(&file, text)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
        fs::write(
            built.join("pollux"),
            "#!/usr/bin/env bash\nexec pollux \"$@\"\n",
        )?;
        fs::set_permissions(built.join("pollux"), fs::Permissions::from_mode(0o755))?;

        let path = env::var_os("PATH").unwrap_or_default();
        let mut all = vec![bin];
        all.extend(env::split_paths(&path));
        let redis_cli = find("redis-cli").unwrap_or_default();
        let mut command = Command::new("bash");
        command
            .env_clear()
            .env("PATH", env::join_paths(all)?)
            .env("HOME", &home)
            .env("LANG", "C.UTF-8")
            .env("POLLUX_PORT", port)
            // What waits for nothing shall not wait for long.
            .env("POLLUX_POLL_INTERVAL", "1s")
            .env("POLLUX_SHUTDOWN_TIMEOUT", "1s")
            .env("DOCS_POLLUX", fs::canonicalize(pollux_testkit::binary())?)
            .env("DOCS_REDIS_CLI", redis_cli)
            .env("DOCS_REDIS_PORT", redis_port.to_string())
            .current_dir(&home)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(fs::File::create(folder.path().join("out"))?)
            .stderr(fs::File::create(folder.path().join("err"))?);
        let mut shell = command.spawn().context("there is no bash")?;
        let mut stdin = shell.stdin.take().context("no standard input")?;
        writeln!(stdin, "set -e")?;
        Ok(Self {
            folder,
            shell,
            stdin,
            commands: 0,
            ports,
            _redis: redis,
        })
    }

    /// Text of a page, with the ports that are meant here.
    pub(crate) fn here(&self, text: &str) -> String {
        let mut here = String::with_capacity(text.len());
        let mut rest = text;
        // In one pass: a port that was put in may look like one that is known.
        loop {
            let found = self.ports.iter().filter_map(|(known, port)| {
                let (before, after) = rest.split_once(&**known)?;
                Some((before, port, after))
            });
            let Some((before, port, after)) = found.min_by_key(|(before, ..)| before.len()) else {
                here.push_str(rest);
                return here;
            };
            here.push_str(before);
            here.push_str(port);
            rest = after;
        }
    }

    /// Writes a file that commands can name, and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let file = self.folder.path().join("home").join(name);
        fs::write(&file, self.here(text))?;
        Ok(file)
    }

    /// Types a command and waits for its end, which must be a success.
    pub(crate) async fn run(&mut self, command: &str) -> Result<()> {
        self.commands += 1;
        let done = self.folder.path().join(format!("done.{}", self.commands));
        // The line break is for what prints none at its end.
        let command = self.here(command);
        writeln!(self.stdin, "{command}\necho\n: >'{}'", done.display())?;
        let deadline = Deadline::within(COMMAND_WITHIN);
        while !done.exists() {
            if let Some(status) = self.shell.try_wait()? {
                bail!("it failed with {status}\n{}", self.screen());
            }
            if deadline.is_over() {
                bail!("it does not end\n{}", self.screen());
            }
            deadline.pause().await;
        }
        Ok(())
    }

    /// Types a command at another terminal, where it goes on while others are typed here.
    pub(crate) async fn start(&mut self, command: &str) -> Result<()> {
        let out = self.folder.path().join(format!("out.{}", self.commands));
        self.run(&format!("{{ {command}; }} >'{}' &", out.display()))
            .await
    }

    /// Where the server is that pages give this port.
    pub(crate) fn address(&self, known: &str) -> Result<SocketAddr> {
        Ok((Ipv4Addr::LOCALHOST, self.here(known).parse()?).into())
    }

    /// How many subscriptions the nodes have.
    pub(crate) async fn subscriptions(&self) -> Result<f64> {
        let mut all = 0.0;
        for port in ["8080", "8081"] {
            let metrics = Request::get("/metrics");
            // Not every page has two nodes.
            let Ok(answer) = Connection::once(self.address(port)?, &metrics).await else {
                continue;
            };
            let mut lines = answer.text()?.lines();
            let count = lines.find_map(|line| line.strip_prefix("pollux_subscriptions "));
            all += count.context("there is no such metric")?.parse::<f64>()?;
        }
        Ok(all)
    }

    /// Waits until there are more than that.
    pub(crate) async fn has_more_subscriptions(&self, before: f64) -> Result<()> {
        let deadline = Deadline::within(PATIENCE);
        while self.subscriptions().await? <= before {
            if deadline.is_over() {
                bail!("it does not subscribe\n{}", self.screen());
            }
            deadline.pause().await;
        }
        Ok(())
    }

    /// Waits until somebody serves a port that pages name so.
    pub(crate) async fn is_served(&self, known: &str) -> Result<()> {
        let deadline = Deadline::within(PATIENCE);
        while Connection::open(self.address(known)?).await.is_err() {
            if deadline.is_over() {
                bail!("nobody serves {known}\n{}", self.screen());
            }
            deadline.pause().await;
        }
        Ok(())
    }

    /// All lines that were printed, each with its place.
    pub(crate) fn lines(&self) -> Vec<(Place, String)> {
        let others = (0..self.commands).map(|number| format!("out.{number}"));
        let mut lines = Vec::new();
        for name in std::iter::once("out".to_owned()).chain(others) {
            let text = fs::read(self.folder.path().join(&name)).unwrap_or_default();
            for (number, line) in String::from_utf8_lossy(&text).lines().enumerate() {
                lines.push(((name.clone(), number), line.to_owned()));
            }
        }
        lines
    }

    /// What a person would see, for messages.
    pub(crate) fn screen(&self) -> String {
        let read = |name: &str| fs::read(self.folder.path().join(name)).unwrap_or_default();
        let errors = read("err");
        let printed: Vec<_> = self.lines().into_iter().map(|(_, line)| line).collect();
        format!(
            "--- printed:\n{}\n--- complained:\n{}\n--- the node:\n{}",
            printed.join("\n"),
            String::from_utf8_lossy(&errors),
            String::from_utf8_lossy(&read("bin/log")),
        )
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The shell was not waited for, or has just ended: its number can't be another's group.
        let group = format!("-{}", self.shell.id());
        let killed = Command::new("kill")
            .args(["-s", "KILL", "--", &group])
            .stderr(Stdio::null())
            .status();
        if let Err(error) = killed.and_then(|_| self.shell.wait()) {
            eprintln!("what was started by group {group} is left behind: {error}");
        }
    }
}

/// A program in the test's own path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    programs(program).next()
}

/// All programs of a name in the test's own path.
pub(crate) fn programs(program: &str) -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).collect();
    let files = folders.into_iter().map(move |folder| folder.join(program));
    files.filter(|file| Path::is_file(file))
}

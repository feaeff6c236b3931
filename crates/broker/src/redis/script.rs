//! The scripts, and how they are called.

use super::{commands::Lane, config::RedisConfig, names::Names};
use ::redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use pollux_protocol::StreamName;

/// Raised with every change to what `publish.lua` does; a node replaces a
/// library of a lower version, and leaves one of a higher version alone.
const VERSION: u32 = 1;

const PUBLISH: &str = include_str!("scripts/publish.lua");

/// A script that nodes call.
#[derive(Debug)]
pub(super) struct Script {
    code: String,
    hash: String,
}

/// One call: the key that decides on the slot, other keys, and arguments.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    script: &'a Script,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Script {
    fn new(code: String) -> Self {
        let hash = ::redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash }
    }

    pub(super) fn call(&self, key: String) -> Call<'_> {
        Call {
            script: self,
            keys: vec![key],
            arguments: Vec::new(),
        }
    }

    /// About a stream: with its head and its log.
    pub(super) fn of_stream(&self, names: &Names, stream: &StreamName) -> Call<'_> {
        self.call(names.channel(stream)).key(names.log(stream))
    }
}

impl Call<'_> {
    pub(super) fn key(mut self, key: String) -> Self {
        self.keys.push(key);
        self
    }

    pub(super) fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.arguments.push(argument.as_ref().to_vec());
        self
    }

    fn command(&self, verb: &str, what: &str) -> Cmd {
        let mut command = ::redis::cmd(verb);
        command.arg(what).arg(self.keys.len()).arg(&self.keys);
        for argument in &self.arguments {
            command.arg(argument);
        }
        command
    }

    /// By hash; a server that does not know the script (it is new, or was
    /// restarted) gets the code.
    pub(super) async fn run(&self, lane: &mut Lane) -> RedisResult<Value> {
        let answer = lane.send(&self.command("EVALSHA", &self.script.hash)).await;
        match answer {
            Err(error) if is_unknown_script(&error) => {
                lane.send(&self.command("EVAL", &self.script.code)).await
            }
            answer => answer,
        }
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// All scripts of a broker.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) publish: Script,
    pub(super) intake: Script,
    pub(super) read: Script,
    pub(super) history: Script,
    pub(super) lease: Script,
    pub(super) release: Script,
    pub(super) set_aside: Script,
    pub(super) library: Library,
}

impl Scripts {
    pub(super) fn new(config: &RedisConfig, verb: &str) -> Self {
        let with_publish = |footer: &str| Script::new(format!("{PUBLISH}\n{footer}"));
        Self {
            publish: with_publish(include_str!("scripts/publish_eval.lua")),
            intake: with_publish(include_str!("scripts/intake_eval.lua")),
            read: Script::new(include_str!("scripts/read.lua").to_owned()),
            history: Script::new(include_str!("scripts/history.lua").to_owned()),
            lease: Script::new(include_str!("scripts/lease.lua").to_owned()),
            release: Script::new(include_str!("scripts/release.lua").to_owned()),
            set_aside: Script::new(include_str!("scripts/set_aside.lua").to_owned()),
            library: Library::new(config, verb),
        }
    }
}

/// What backends call.
#[derive(Debug)]
pub(super) struct Library {
    /// A version, then the settings it was made with.
    version: String,
    /// For `FUNCTION LOAD`.
    code: String,
    /// For `SCRIPT LOAD`, where there are no functions.
    script: Script,
}

/// How backends publish on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// By the function, which was there or was loaded.
    Function,
    /// By the script with this hash: the server has no functions.
    Script(String),
}

impl Library {
    fn new(config: &RedisConfig, verb: &str) -> Self {
        let limit = config.history_limit.to_string();
        let ttl = config.history_ttl.as_millis().to_string();
        let version = format!("{VERSION} limit={limit} ttl={ttl} {verb}");
        let fill = |template: &str| {
            template
                .replace("@LIMIT@", &limit)
                .replace("@TTL@", &ttl)
                .replace("@VERB@", verb)
                .replace("@VERSION@", &version)
        };
        let library = fill(include_str!("scripts/library.lua"));
        let script = fill(include_str!("scripts/publish_script.lua"));
        Self {
            code: format!("#!lua name=pollux\n{PUBLISH}\n{library}"),
            script: Script::new(format!("{PUBLISH}\n{script}")),
            version,
        }
    }

    /// Sees to it that backends can publish on the server of `connection`.
    pub(super) async fn install(
        &self,
        connection: &mut ::redis::aio::MultiplexedConnection,
    ) -> RedisResult<Door> {
        let mut ask = ::redis::cmd("FCALL_RO");
        ask.arg("pollux_version").arg(0);
        match ask.query_async::<String>(connection).await {
            Ok(there) if !self.replaces(&there) => return Ok(Door::Function),
            Err(error) if is_connection_error(&error) => return Err(error),
            Err(error) if is_unknown_command(&error) => {
                let mut load = ::redis::cmd("SCRIPT");
                load.arg("LOAD").arg(&self.script.code);
                return load.query_async(connection).await.map(Door::Script);
            }
            Ok(_) | Err(_) => {}
        }
        let mut load = ::redis::cmd("FUNCTION");
        load.arg("LOAD").arg("REPLACE").arg(&self.code);
        load.query_async::<Value>(connection).await?;
        Ok(Door::Function)
    }

    fn replaces(&self, there: &str) -> bool {
        let number = there
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok());
        self.version != there && number.is_none_or(|number: u32| number <= VERSION)
    }
}

/// Whether the error is about the connection and not about the command.
pub(super) fn is_connection_error(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}

fn is_unknown_command(error: &RedisError) -> bool {
    error
        .detail()
        .is_some_and(|detail| detail.to_ascii_lowercase().contains("unknown command"))
        || error
            .to_string()
            .to_ascii_lowercase()
            .contains("unknown command")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_replaces_older_ones_and_other_settings_but_no_newer_one() {
        let library = Library::new(&RedisConfig::default(), "PUBLISH");
        assert!(!library.replaces(&library.version));
        assert!(library.replaces("0"));
        assert!(library.replaces("1 limit=5 ttl=300000 PUBLISH"));
        assert!(library.replaces("nonsense"));
        assert!(!library.replaces("2 limit=100"));
        assert!(!library.code.contains('@'));
        assert!(!library.script.code.contains('@'));
    }
}

//! The scripts, and how they are called.

use super::{commands::Lane, config::RedisConfig, names::Names};
use ::redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use pollux_protocol::StreamName;
use std::collections::BTreeMap;

/// Raised with every change to what `publish.lua` does; a node replaces a
/// library of a lower version, and leaves one of a higher version alone.
const VERSION: u32 = 2;

const PUBLISH: &str = include_str!("scripts/publish.lua");
const QUEUE: &str = include_str!("scripts/queue.lua");
const PRESENCE: &str = include_str!("scripts/presence.lua");

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
    pub(super) finish: Script,
    pub(super) offer: Script,
    pub(super) take: Script,
    pub(super) claim: Script,
    pub(super) settle: Script,
    pub(super) backlog: Script,
    pub(super) enter: Script,
    pub(super) exit: Script,
    pub(super) touch: Script,
    pub(super) present: Script,
    pub(super) report: Script,
    pub(super) nodes: Script,
    pub(super) library: Library,
}

impl Scripts {
    pub(super) fn new(config: &RedisConfig, verb: &str) -> Self {
        let with_publish = |footer: &str| Script::new(format!("{PUBLISH}\n{footer}"));
        let with_queue = |footer: &str| Script::new(format!("{QUEUE}\n{footer}"));
        let with_presence = |footer: &str| Script::new(format!("{PRESENCE}\n{footer}"));
        Self {
            publish: with_publish(include_str!("scripts/publish_eval.lua")),
            intake: with_publish(include_str!("scripts/intake_eval.lua")),
            read: Script::new(include_str!("scripts/read.lua").to_owned()),
            history: Script::new(include_str!("scripts/history.lua").to_owned()),
            lease: Script::new(include_str!("scripts/lease.lua").to_owned()),
            release: Script::new(include_str!("scripts/release.lua").to_owned()),
            set_aside: Script::new(include_str!("scripts/set_aside.lua").to_owned()),
            finish: Script::new(include_str!("scripts/finish.lua").to_owned()),
            offer: with_publish(&format!("{QUEUE}\n{}", include_str!("scripts/offer.lua"))),
            take: with_queue(include_str!("scripts/take.lua")),
            claim: with_queue(include_str!("scripts/claim.lua")),
            settle: with_queue(include_str!("scripts/settle.lua")),
            backlog: with_queue(include_str!("scripts/backlog.lua")),
            enter: with_presence(include_str!("scripts/enter.lua")),
            exit: with_presence(include_str!("scripts/exit.lua")),
            touch: with_presence(include_str!("scripts/touch.lua")),
            present: with_presence(include_str!("scripts/present.lua")),
            report: Script::new(include_str!("scripts/report.lua").to_owned()),
            nodes: Script::new(include_str!("scripts/nodes.lua").to_owned()),
            library: Library::new(config, verb),
        }
    }
}

/// What backends call.
#[derive(Debug)]
pub(super) struct Library {
    verb: String,
    prefix: String,
    /// Publications kept, and for how many milliseconds.
    kept: (usize, u128),
}

/// The settings of those who use a library, by their prefix.
type Users = BTreeMap<String, (usize, u128)>;

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
        Self {
            verb: verb.to_owned(),
            prefix: config.prefix.clone(),
            kept: (config.history_limit, config.history_ttl.as_millis()),
        }
    }

    /// Sees to it that backends can publish on the server of `connection`.
    pub(super) async fn install(
        &self,
        connection: &mut ::redis::aio::MultiplexedConnection,
    ) -> RedisResult<Door> {
        let mut ask = ::redis::cmd("FCALL_RO");
        ask.arg("pollux_version").arg(0);
        let there = match ask.query_async::<String>(connection).await {
            Ok(there) => there,
            Err(error) if is_connection_error(&error) => return Err(error),
            Err(error) if is_unknown_command(&error) => {
                let mut load = ::redis::cmd("SCRIPT");
                load.arg("LOAD").arg(self.script());
                return load.query_async(connection).await.map(Door::Script);
            }
            Err(_) => String::new(),
        };
        let Some(users) = self.users(&there) else {
            return Ok(Door::Function);
        };
        let mut load = ::redis::cmd("FUNCTION");
        load.arg("LOAD").arg("REPLACE").arg(self.library(&users));
        load.query_async::<Value>(connection).await?;
        Ok(Door::Function)
    }

    /// Whom a new library must serve; `None` if the one that is there will do.
    fn users(&self, there: &str) -> Option<Users> {
        let mut words = there.split(' ');
        let number = words.next().and_then(|number| number.parse::<u32>().ok());
        if number.is_some_and(|number| number > VERSION) {
            return None;
        }
        let mut users = Users::new();
        if words.next() == Some(self.verb.as_str()) {
            users.extend(words.filter_map(user));
        }
        users.insert(self.prefix.clone(), self.kept);
        (self.version(&users) != there).then_some(users)
    }

    fn version(&self, users: &Users) -> String {
        let mut version = format!("{VERSION} {}", self.verb);
        for (prefix, (limit, ttl)) in users {
            version.push_str(&format!(" {prefix}={limit}/{ttl}"));
        }
        version
    }

    /// For `FUNCTION LOAD`.
    fn library(&self, users: &Users) -> String {
        let library = self.fill(include_str!("scripts/library.lua"), users);
        format!("#!lua name=pollux\n{PUBLISH}\n{library}")
    }

    /// For `SCRIPT LOAD`, where there are no functions.
    fn script(&self) -> String {
        let users = Users::from([(self.prefix.clone(), self.kept)]);
        let script = self.fill(include_str!("scripts/publish_script.lua"), &users);
        format!("{PUBLISH}\n{script}")
    }

    fn fill(&self, template: &str, users: &Users) -> String {
        let settings = users.iter().map(|(prefix, (limit, ttl))| {
            let verb = &self.verb;
            format!("['{prefix}'] = {{limit = {limit}, ttl = {ttl}, verb = '{verb}'}}")
        });
        let settings: Vec<_> = settings.collect();
        let example: Vec<_> = users.keys().map(String::as_str).collect();
        template
            .replace("@SETTINGS@", &settings.join(", "))
            .replace("@EXAMPLE@", &example.join(" or "))
            .replace("@VERSION@", &self.version(users))
    }
}

/// `prefix=limit/ttl`, as a library's version names its users. What is none is
/// left out: it would become part of a script.
fn user(word: &str) -> Option<(String, (usize, u128))> {
    let (prefix, kept) = word.split_once('=')?;
    let (limit, ttl) = kept.split_once('/')?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    let is_prefix = !prefix.is_empty() && prefix.bytes().all(is_plain);
    is_prefix.then_some((prefix.to_owned(), (limit.parse().ok()?, ttl.parse().ok()?)))
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

    fn library(prefix: &str, history_limit: usize) -> Library {
        let config = RedisConfig {
            prefix: prefix.to_owned(),
            history_limit,
            ..RedisConfig::default()
        };
        Library::new(&config, "PUBLISH")
    }

    fn version(library: &Library) -> String {
        let users = Users::from([(library.prefix.clone(), library.kept)]);
        library.version(&users)
    }

    #[test]
    fn a_library_replaces_older_ones_and_other_settings_but_no_newer_one() {
        let mine = library("pollux", 100);
        assert_eq!(version(&mine), "2 PUBLISH pollux=100/300000");
        assert_eq!(mine.users(&version(&mine)), None);
        assert!(mine.users("0 PUBLISH pollux=100/300000").is_some());
        assert!(mine.users(&version(&library("pollux", 5))).is_some());
        assert!(mine.users("2 SPUBLISH pollux=100/300000").is_some());
        assert!(mine.users("nonsense").is_some());
        assert!(mine.users("").is_some());
        assert_eq!(mine.users("3 and what then is"), None);
    }

    #[test]
    fn those_with_another_prefix_are_served_too() {
        let (one, two) = (library("one", 1), library("two", 2));
        let users = two.users(&version(&one)).unwrap();
        let both = two.version(&users);
        assert_eq!(both, "2 PUBLISH one=1/300000 two=2/300000");
        assert_eq!(one.users(&both), None);
        assert_eq!(two.users(&both), None);
        let code = two.library(&users);
        assert!(code.contains("['one'] = {limit = 1, ttl = 300000, verb = 'PUBLISH'}"));
        assert!(code.contains("one or two:{<stream>}"));
        assert!(!code.contains('@'));
        assert!(!one.script().contains('@'));
    }

    #[test]
    fn nothing_strange_gets_into_a_script() {
        let mine = library("pollux", 100);
        let users = mine.users("2 PUBLISH a']=1/1 b=x/1 =1/1 c={}/1").unwrap();
        assert_eq!(users.len(), 1);
    }
}

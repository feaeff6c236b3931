//! The reference page, `docs/configuration.md`, made from the table.

use super::{
    options::{COMMAND, OPTIONS},
    spec::{Kind, OUR_PREFIX, OptionSpec, Section, variable},
};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");

const INTRODUCTION: &str = "\
<!-- Made from the option table by `BLESS=1 cargo test -p pollux-node config`. Do not edit. -->

# Configuration

Nothing has to be configured: `pollux` alone runs in development mode, for this machine only.

Every option has one name and can be set in four places, of which the later win:

| place | how `poll_path` is set there |
|---|---|
| default | see below |
| file | `poll_path = \"/lp\"` |
| environment | `POLLUX_POLL_PATH=/lp`, or `ANYCABLE_POLL_PATH=/lp`, which is weaker |
| flag | `--poll_path=/lp`, or `--poll-path /lp` |

- **The file** is `./pollux.toml`, else `/etc/pollux/pollux.toml`, or what `--config_path` names. \
Its keys stand at the top, without tables.
- **`pollux --print-config`** prints every option, its value and where it came from, as TOML.
- **Mistakes** (an unknown key, flag or `POLLUX_` variable, a value that is not of the option's \
kind) are reported together, and the process exits with status 64 before it opens a port. An \
unknown `ANYCABLE_` variable is only warned about.
- **An empty variable** counts as not set, except for texts, secrets and lists.
- **Variables that Kubernetes makes** for a Service called `pollux` (`POLLUX_PORT=tcp://…`, \
`POLLUX_SERVICE_HOST` …) are ignored.

| kind | written as |
|---|---|
| text, secret, URL | any text; in the file in quotes. Secrets and passwords are never printed. `none` clears a secret |
| switch | `true` or `false` (also `1`, `0`, `yes`, `no`, `on`, `off`); as a flag the name alone is `true` |
| number, port | digits |
| bytes | `65536`, `64KiB`, `1MiB` |
| seconds | `15`, `0.5`, `\"15s\"`, `\"500ms\"` |
| milliseconds | `500`, `\"500ms\"`, `\"0.5s\"` |
| list | `a, b`; in the file also `[\"a\", \"b\"]` |

## Modes

| mode | when | who may connect | plain stream names | publishing |
|---|---|---|---|---|
| development | no `secret`, `jwt_secret`, `streams_secret`, `broadcast_key`, `rpc_host`, `public` or `noauth`, and `host` is the loopback interface | everyone on this machine | yes | without a key |
| public | `public` | everyone | yes | without a key, unless `broadcast_key` is set |
| secured | otherwise | who has a token, or whom the backend lets in (`rpc_host`), or everyone with `noauth` | with `public_streams` | with the key; without one only on a port of its own |
";

/// The whole page.
fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## The command\n\n| option | meaning |\n|---|---|\n");
    page.push_str(
        "| `--version`, `-V` | Print the version. |\n\
         | `--help`, `-h` | Print the options. |\n\
         | `--print_config` | Print every option, its value and where it came from. |\n\
         | `serve`, `publish`, `subscribe`, `nodes` … | Commands; see [command-line.md](command-line.md). |\n",
    );
    for option in COMMAND {
        let variable = variable(OUR_PREFIX, option.name);
        let (name, help) = (option.name, option.help);
        page.push_str(&format!("| `--{name}` | {help} Also `{variable}`. |\n"));
    }
    for section in Section::ALL {
        page.push_str(&format!("\n## {}\n\n", section.title()));
        page.push_str("| option | kind | default | meaning |\n|---|---|---|---|\n");
        for option in OPTIONS.iter().filter(|option| option.section == section) {
            page.push_str(&line(option));
        }
    }
    page
}

fn line(option: &OptionSpec) -> String {
    let default = match option.default {
        "" => "–".to_owned(),
        default => format!("`{default}`"),
    };
    // Markdown would take it for a tag, and show nothing.
    let mut meaning = option.help.replace('<', "&lt;");
    if !option.aliases.is_empty() {
        meaning.push_str(&format!(" Also called {}.", quoted(option.aliases)));
    }
    if !option.other_variables.is_empty() {
        meaning.push_str(&format!(
            " Also read from {}.",
            quoted(option.other_variables)
        ));
    }
    let kind = match option.kind {
        Kind::Text => "text".to_owned(),
        Kind::Secret => "secret".to_owned(),
        Kind::Url => "URL".to_owned(),
        Kind::Bool => "switch".to_owned(),
        Kind::Number => "number".to_owned(),
        Kind::Ratio => "ratio".to_owned(),
        Kind::Port => "port".to_owned(),
        Kind::Bytes => "bytes".to_owned(),
        Kind::Seconds => "seconds".to_owned(),
        Kind::Millis => "milliseconds".to_owned(),
        Kind::Choice(words) => quoted(words),
        Kind::List => "list".to_owned(),
    };
    format!("| `{}` | {kind} | {default} | {meaning} |\n", option.name)
}

fn quoted(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

#[test]
fn the_page_is_up_to_date() {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(PATH, page()).unwrap();
    }
    let stored = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        stored == page(),
        "docs/configuration.md is not what the table says; run it again with BLESS=1"
    );
}

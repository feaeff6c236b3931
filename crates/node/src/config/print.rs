//! `--print-config`: every option with its value and where it came from, as TOML.

use std::{collections::BTreeMap, fmt::Write as _};

use figment::{Figment, value::Value};

use super::{
    options::OPTIONS,
    spec::{Kind, OptionSpec, Section},
    value,
};

/// The configuration as a file that could be read again, but for what must stay secret.
pub(super) fn toml(figment: &Figment, origins: &BTreeMap<&'static str, String>) -> String {
    let mut text = String::new();
    for section in Section::ALL {
        let gap = if text.is_empty() { "" } else { "\n" };
        push(&mut text, format_args!("{gap}# {}\n", section.title()));
        for option in OPTIONS.iter().filter(|option| option.section == section) {
            let Ok(value) = figment.find_value(option.name) else {
                continue;
            };
            let origin = origins.get(option.name).map_or("default", String::as_str);
            // A path may hold a line break, which would end the comment.
            let origin = origin.escape_debug();
            push(
                &mut text,
                format_args!("{}  # {origin}\n", assignment(option, &value)),
            );
        }
    }
    text
}

/// `name = value`, as a comment if the value is not the real one.
fn assignment(option: &OptionSpec, value: &Value) -> String {
    let name = option.name;
    match (option.kind, value.as_str().unwrap_or_default()) {
        (Kind::Secret, "") => format!("# {name} = \"[not set]\""),
        (Kind::Secret, "none") => format!("{name} = \"none\""),
        (Kind::Secret, _) => format!("# {name} = \"[set]\""),
        (Kind::Url, url) => {
            let shown = value::mask(url);
            let comment = if shown == url { "" } else { "# " };
            format!("{comment}{name} = {}", value::quote(&shown))
        }
        (kind, _) => format!("{name} = {}", value::toml(kind, value)),
    }
}

#[expect(clippy::expect_used, reason = "a String takes any text")]
fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line)
        .expect("writing to a String cannot fail");
}

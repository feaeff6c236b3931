//! Flags of commands: how they are described, and how they are read.

use super::super::{
    error::Problem,
    layer::parse_text,
    secret_file,
    spec::{Kind, OptionSpec, Section, row},
};
use clap::{Arg, ArgAction, ArgMatches};
use figment::value::Value;
use std::{fmt, time::Duration};

/// Text that is never shown: a key, a token, or a header that may hold one.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// Hides a text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// A flag's row.
pub(super) const fn flag(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> OptionSpec {
    row(Section::Operations, name, kind, default, help)
}

/// A flag with a value.
pub(super) fn valued(option: &'static OptionSpec) -> Arg {
    let mut help = option.help.to_owned();
    let mut tag = |name: &str, content: &str| {
        let separator = if help.contains('\n') { ' ' } else { '\n' };
        help.push_str(&format!("{separator}[{name}: {content}]"));
    };
    if let Kind::Choice(words) = option.kind {
        tag("one of", &words.join(", "));
    }
    if !option.default.is_empty() {
        tag("default", option.default);
    }
    Arg::new(option.name)
        .long(option.name)
        .value_name(option.kind.placeholder())
        .action(ArgAction::Set)
        .help(help)
}

/// A flag without one.
pub(super) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

/// Reads flags, and collects what is wrong with them.
pub(super) struct Reader<'a> {
    matches: &'a ArgMatches,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(matches: &'a ArgMatches) -> Self {
        Self {
            matches,
            problems: Vec::new(),
        }
    }

    /// A positional argument, or a flag whose text is taken as it is.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.matches.get_one::<String>(name).cloned()
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let texts = self.matches.get_many::<String>(name);
        texts.into_iter().flatten().cloned().collect()
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        self.matches.get_flag(name)
    }

    /// The value, or the default; nothing if that is absent, too.
    fn value(&mut self, option: &OptionSpec) -> Option<Value> {
        let text = self.matches.get_one::<String>(option.name);
        let text = text.map_or(option.default, String::as_str);
        if text.is_empty() && option.default.is_empty() {
            return None;
        }
        match parse_text(option, text, &place(option)) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    /// A duration of more than nothing.
    pub(super) fn duration(&mut self, option: &OptionSpec) -> Option<Duration> {
        let millis = self.positive(option)?;
        Some(Duration::from_millis(millis))
    }

    /// A number of more than nothing.
    pub(super) fn positive(&mut self, option: &OptionSpec) -> Option<u64> {
        let value = self.value(option)?;
        let number = value
            .to_u128()
            .and_then(|number| u64::try_from(number).ok())
            .unwrap_or(u64::MAX);
        if number == 0 {
            self.refuse(option, "must be more than 0");
            return None;
        }
        Some(number)
    }

    /// One of the words of a choice.
    pub(super) fn choice(&mut self, option: &OptionSpec) -> String {
        let value = self.value(option);
        let word = value.as_ref().and_then(Value::as_str);
        word.unwrap_or(option.default).to_owned()
    }

    /// A secret, from its flag or from the file that another flag names.
    pub(super) fn secret(&mut self, option: &OptionSpec, file: &OptionSpec) -> Option<Hidden> {
        if let Some(secret) = self.text(option.name) {
            return Some(Hidden(secret));
        }
        let path = self.text(file.name)?;
        match secret_file::read(&path) {
            Ok(secret) => Some(Hidden(secret)),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    pub(super) fn refuse(&mut self, option: &OptionSpec, reason: &str) {
        self.problems.push(Problem::Rule {
            option: option.name,
            reason: reason.to_owned(),
            place: Some(place(option)),
        });
    }
}

fn place(option: &OptionSpec) -> String {
    format!("flag --{}", option.name)
}

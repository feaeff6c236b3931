//! "Did you mean": the known name nearest to an unknown one.

use super::options::{COMMAND, OPTIONS};

/// How alike two names must be, from 0 to 1. High, because most of our names share their
/// beginnings, which this measure rewards.
const THRESHOLD: f64 = 0.88;

/// The known name nearest to this one, which is in snake_case.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= THRESHOLD)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// The names and aliases of the table.
pub(super) fn option_names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().flat_map(|option| option.names())
}

/// These, and those of the command itself.
pub(super) fn all_names() -> impl Iterator<Item = &'static str> {
    option_names().chain(COMMAND.iter().map(|option| option.name))
}

/// The tail of a message that suggests a name.
pub(super) fn hint(suggestion: Option<String>) -> String {
    suggestion.map_or_else(String::new, |name| format!(", did you mean {name}?"))
}

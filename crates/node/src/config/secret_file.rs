//! Secrets from files: for each option that must not be shown, `<option>_file` names a file that
//! holds it, as Kubernetes and Docker mount secrets.

use std::{fs, io::Read as _, path::Path, sync::LazyLock};

use super::{error::Problem, options::OPTIONS, spec::OptionSpec};

/// What comes after an option's name.
const SUFFIX: &str = "_file";

/// A larger file is no secret, but a mistake.
const LARGEST: u64 = 64 * 1024;

/// The options that have it, and what it is called.
static NAMES: LazyLock<Vec<(&'static OptionSpec, &'static str)>> = LazyLock::new(|| {
    let confidential = OPTIONS.iter().filter(|row| row.kind.is_confidential());
    confidential
        .flat_map(|row| row.names().map(move |name| (row, name)))
        // Once, for as long as the program runs: the flags' names are static.
        .map(|(row, name)| (row, &*format!("{name}{SUFFIX}").leak()))
        .collect()
});

/// The options that have it, and its names, aliases included.
pub(super) fn names() -> impl Iterator<Item = (&'static OptionSpec, &'static str)> {
    NAMES.iter().copied()
}

/// The option whose file this names.
pub(super) fn option_of(name: &str) -> Option<&'static OptionSpec> {
    let (option, _) = names().find(|(_, known)| *known == name)?;
    Some(option)
}

/// What the file holds, without the line break that editors put at its end.
pub(super) fn read(path: &str) -> Result<String, Problem> {
    let problem = |reason: String| Problem::File {
        path: Path::new(path).to_owned(),
        reason,
    };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
    file.take(LARGEST + 1)
        .read_to_string(&mut text)
        // The error would not quote it, but need not.
        .map_err(|error| problem(format!("cannot be read: {}", error.kind())))?;
    if u64::try_from(text.len()).is_ok_and(|length| length > LARGEST) {
        return Err(problem(format!("is larger than {LARGEST} bytes")));
    }
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(problem("is empty, where a secret is expected".to_owned()));
    }
    Ok(text.to_owned())
}

/// Where a value came from.
pub(super) fn place(path: &str, named_by: &str) -> String {
    format!("{path}, named by {named_by}")
}

/// The problem of an option that is given, and its file too.
pub(super) fn both(option: &OptionSpec, place: String) -> Problem {
    Problem::Rule {
        option: option.name,
        reason: format!(
            "and its file, {}{SUFFIX}, are both given: keep one",
            option.name
        ),
        place: Some(place),
    }
}

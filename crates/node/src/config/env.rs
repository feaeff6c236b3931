//! The environment as a layer.

use std::{collections::BTreeMap, env};

use super::{
    error::Problem,
    kubernetes,
    layer::Layer,
    options::{COMMAND, OPTIONS},
    secret_file,
    spec::{ANYCABLE_PREFIX, OUR_PREFIX, OptionSpec, PREFIXES, variable},
    suggest,
};

/// The environment of this process, for [`Config::load`](super::Config::load). Nothing else in
/// the program reads it.
///
/// Bytes that are not UTF-8 become replacement characters, which no option accepts.
pub fn process_environment() -> Vec<(String, String)> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
        .collect()
}

/// The variables of a process, already without those that Kubernetes put there.
pub(super) struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    pub(super) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            variables: variables
                .into_iter()
                .filter(|(name, value)| !kubernetes::injects(name, value))
                .collect(),
        }
    }

    /// The layer, and what could not be read. Unknown variables of another server's prefix
    /// are only warned about: they may be meant for that server.
    pub(super) fn layer(&self, warnings: &mut Vec<String>) -> (Layer, Vec<Problem>) {
        let mut layer = Layer::default();
        let mut problems = Vec::new();
        let get = |name: &str| self.variables.get(name).cloned();
        for option in OPTIONS {
            if let Some((name, text)) = lookup(option, &get)
                && let Err(problem) = layer.insert_text(option, &text, place(&name))
            {
                problems.push(problem);
            }
        }
        self.files(&mut layer, &mut problems);
        for name in self.variables.keys() {
            if let Some(rest) = name.strip_prefix(OUR_PREFIX)
                && !is_known(name)
            {
                problems.push(Problem::Unknown {
                    place: "environment".to_owned(),
                    name: name.clone(),
                    hint: suggest::hint(nearest(OUR_PREFIX, rest)),
                });
            } else if let Some(rest) = name.strip_prefix(ANYCABLE_PREFIX)
                && !is_known(name)
            {
                // Of what is read under our own name only, the nearest is itself.
                let near = nearest(ANYCABLE_PREFIX, rest).map(|near| match near == *name {
                    true => variable(OUR_PREFIX, &rest.to_ascii_lowercase()),
                    false => near,
                });
                let hint = suggest::hint(near);
                warnings.push(format!("{name} has no effect here{hint}"));
            }
        }
        (layer, problems)
    }

    /// Values of options whose files are named. A name that is empty is none.
    fn files(&self, layer: &mut Layer, problems: &mut Vec<Problem>) {
        for (option, name) in secret_file::names() {
            let named = PREFIXES.into_iter().find_map(|prefix| {
                let name = variable(prefix, name);
                let path = self.variables.get(&name).filter(|path| !path.is_empty())?;
                Some((place(&name), path))
            });
            let Some((place, path)) = named else {
                continue;
            };
            let added = if layer.has(option) {
                Err(secret_file::both(option, place))
            } else {
                secret_file::read(path).and_then(|text| {
                    layer.insert_text(option, &text, secret_file::place(path, &place))
                })
            };
            problems.extend(added.err());
        }
    }

    /// The text of an option of the command itself, and its variable. Another server's
    /// variable would name a file in its own format, so only ours counts.
    pub(super) fn command(&self, option: &OptionSpec) -> Option<(String, &str)> {
        let name = variable(OUR_PREFIX, option.name);
        let text = self.variables.get(&name).filter(|text| !text.is_empty())?;
        Some((place(&name), text))
    }
}

/// The strongest variable that sets an option, and its text.
fn lookup(option: &OptionSpec, get: &impl Fn(&str) -> Option<String>) -> Option<(String, String)> {
    option
        .variables()
        .filter_map(|name| get(&name).map(|text| (name, text)))
        .find(|(_, text)| option.kind.may_be_empty() || !text.trim().is_empty())
}

fn place(name: &str) -> String {
    format!("environment {name}")
}

fn is_known(name: &str) -> bool {
    let of_option = |option: &OptionSpec| option.variables().any(|known| known == name);
    let of_command = |option: &OptionSpec| variable(OUR_PREFIX, option.name) == name;
    let of_file = |file: &str| PREFIXES.iter().any(|prefix| variable(prefix, file) == name);
    OPTIONS.iter().any(of_option)
        || COMMAND.iter().any(of_command)
        || secret_file::names().any(|(_, file)| of_file(file))
}

fn nearest(prefix: &str, rest: &str) -> Option<String> {
    let name = rest.to_ascii_lowercase();
    suggest::nearest(&name, suggest::all_names()).map(|known| variable(prefix, known))
}

//! The file as a layer.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use figment::{
    providers::{Format, Toml},
    value::{Dict, Value},
};

use super::{
    error::Problem,
    layer::{HIDDEN, Layer},
    options, secret_file,
    spec::OptionSpec,
    suggest, value,
};

/// Where a file is looked for when none is named.
pub(super) const DEFAULT_PATHS: [&str; 2] = ["pollux.toml", "/etc/pollux/pollux.toml"];

/// The first of the paths where there is a file.
pub(super) fn first_existing(paths: &[PathBuf]) -> Option<&Path> {
    paths
        .iter()
        .map(PathBuf::as_path)
        .find(|path| path.is_file())
}

/// The layer, and what could not be read.
pub(super) fn layer(path: &Path) -> (Layer, Vec<Problem>) {
    let unreadable = |reason: String| {
        let path = path.to_owned();
        (Layer::default(), vec![Problem::File { path, reason }])
    };
    match fs::read_to_string(path) {
        Err(error) => unreadable(format!("cannot be read: {error}")),
        Ok(text) => match Toml::from_str::<Dict>(&text) {
            // The error's own display quotes the line, which may hold a secret.
            Err(error) => unreadable(format!(
                "is not TOML: {}{}",
                error.message().replace('\n', ", "),
                position(&text, error.span())
            )),
            Ok(dict) => from_dict(path, &dict),
        },
    }
}

fn from_dict(path: &Path, dict: &Dict) -> (Layer, Vec<Problem>) {
    let file = path.display();
    let mut layer = Layer::default();
    let mut problems = Vec::new();
    let mut files = Vec::new();
    for (key, written) in dict {
        if let Some(option) = secret_file::option_of(key) {
            files.push((key, option, written));
            continue;
        }
        let Some(option) = options::find(key) else {
            problems.push(Problem::Unknown {
                place: file.to_string(),
                name: key.escape_debug().to_string(),
                hint: hint(key, written),
            });
            continue;
        };
        if key != option.name && dict.contains_key(option.name) {
            problems.push(Problem::File {
                path: path.to_owned(),
                reason: format!("{key} is another name of {}, keep one of them", option.name),
            });
            continue;
        }
        match value::normalise(option.kind, written) {
            Some(value) => layer.insert(option, value, file.to_string()),
            None => problems.push(Problem::Value {
                place: format!("{file}, key {key}"),
                value: described(option, written),
                expected: expected(option, written),
            }),
        }
    }
    for (key, option, written) in files {
        let place = format!("{file}, key {key}");
        let added = match written.as_str() {
            _ if layer.has(option) => Err(secret_file::both(option, place)),
            Some(path) => secret_file::read(path).and_then(|text| {
                layer.insert_text(option, &text, secret_file::place(path, &place))
            }),
            None => Err(Problem::Value {
                place,
                value: value::describe(written),
                expected: "the path of a file".to_owned(),
            }),
        };
        problems.extend(added.err());
    }
    (layer, problems)
}

fn described(option: &OptionSpec, written: &Value) -> String {
    if option.kind.is_confidential() {
        HIDDEN.to_owned()
    } else {
        value::describe(written)
    }
}

fn expected(option: &OptionSpec, written: &Value) -> String {
    match (option.kind.to_string(), written) {
        (kind, Value::String(..)) => kind,
        // A password of digits is read as a number unless it is quoted.
        (kind, _) if kind == "text" => "text in quotes".to_owned(),
        (kind, _) => kind,
    }
}

/// What was likely meant by an unknown key.
fn hint(key: &str, written: &Value) -> String {
    if let Value::Dict(_, inner) = written {
        let flat = inner.keys().find_map(|name| {
            let joined = format!("{key}_{name}");
            options::find(&joined).or_else(|| options::find(name))
        });
        let example = flat.map_or_else(String::new, |option| format!(" such as {}", option.name));
        return format!(": there are no tables, only keys{example} at the top");
    }
    let name = key.to_ascii_lowercase().replace('-', "_");
    suggest::hint(suggest::nearest(&name, suggest::option_names()).map(str::to_owned))
}

/// Where in the text a span begins, for people.
fn position(text: &str, span: Option<Range<usize>>) -> String {
    let Some(before) = span.and_then(|span| text.get(..span.start)) else {
        return String::new();
    };
    let line = before.matches('\n').count() + 1;
    let column = before
        .chars()
        .rev()
        .take_while(|&char| char != '\n')
        .count()
        + 1;
    format!(" (line {line}, column {column})")
}

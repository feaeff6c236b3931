//! One layer of the configuration, as figment sees it.

use std::collections::BTreeMap;

use figment::{
    Error, Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::{error::Problem, options::OPTIONS, spec::OptionSpec, value};

/// What messages show in place of a value that must stay secret.
pub(super) const HIDDEN: &str = "the value (not shown)";

/// Values of one source, in their normal shape, each with the place it came from.
///
/// It has no `Debug`, because it holds secrets in clear text.
#[derive(Default)]
pub(super) struct Layer {
    values: Dict,
    places: BTreeMap<String, String>,
}

impl Layer {
    /// The table's defaults; complete, so that every field has a value.
    pub(super) fn defaults() -> Self {
        let mut layer = Self::default();
        for option in OPTIONS {
            if let Some(value) = value::parse(option.kind, option.default) {
                layer.insert(option, value, "default".to_owned());
            }
        }
        layer
    }

    /// Whether it has a value that says something.
    pub(super) fn has(&self, option: &OptionSpec) -> bool {
        let value = self.values.get(option.name);
        value.is_some_and(|value| value.as_str() != Some(""))
    }

    /// Adds a value in its normal shape.
    pub(super) fn insert(&mut self, option: &OptionSpec, value: Value, place: String) {
        self.values.insert(option.name.to_owned(), value);
        self.places.insert(option.name.to_owned(), place);
    }

    /// Adds a value from its text, or says what is wrong with it.
    pub(super) fn insert_text(
        &mut self,
        option: &OptionSpec,
        text: &str,
        place: String,
    ) -> Result<(), Problem> {
        let value = parse_text(option, text, &place)?;
        self.insert(option, value, place);
        Ok(())
    }
}

/// The value of an option from its text, or what is wrong with it.
pub(super) fn parse_text(option: &OptionSpec, text: &str, place: &str) -> Result<Value, Problem> {
    value::parse(option.kind, text).ok_or_else(|| Problem::Value {
        place: place.to_owned(),
        value: if option.kind.is_confidential() {
            HIDDEN.to_owned()
        } else {
            value::quote(text)
        },
        expected: expected(option, text),
    })
}

/// What would have been valid.
fn expected(option: &OptionSpec, text: &str) -> String {
    if text.contains(char::REPLACEMENT_CHARACTER) {
        "UTF-8".to_owned()
    } else {
        option.kind.to_string()
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        let places = self.places.clone();
        // figment asks for the path to a key in the words of its source; ours is the place.
        Metadata::named("configuration").interpolater(move |_: &Profile, keys: &[&str]| {
            keys.first()
                .and_then(|key| places.get(*key).cloned())
                .unwrap_or_default()
        })
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

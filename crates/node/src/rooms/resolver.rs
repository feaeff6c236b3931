//! Which stream a message goes to.

use super::BROADCAST;
use pollux_protocol::{NameError, RoomMessage, StreamName};

/// Templates such as `room:{room}`, the first that fits wins.
#[derive(Clone, Debug)]
pub(crate) struct Resolver(Vec<Template>);

#[derive(Clone, Debug)]
struct Template {
    before: String,
    field: String,
    after: String,
}

impl Resolver {
    /// Reads templates.
    ///
    /// # Errors
    /// This one names no field.
    pub(crate) fn parse(templates: &[String]) -> Result<Self, &str> {
        let read = |template: &'_ String| {
            let (before, rest) = template.split_once('{')?;
            let (field, after) = rest.split_once('}')?;
            let known = ["room", "type", "id", "kind"].contains(&field)
                || field
                    .strip_prefix("payload.")
                    .is_some_and(|name| !name.is_empty());
            known.then(|| Template {
                before: before.to_owned(),
                field: field.to_owned(),
                after: after.to_owned(),
            })
        };
        let read = |template| read(template).ok_or(template.as_str());
        templates
            .iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The stream of a message.
    pub(crate) fn resolve(&self, message: &RoomMessage) -> Result<StreamName, NameError> {
        for template in &self.0 {
            if let Some(value) = message.field(&template.field) {
                let Template { before, after, .. } = template;
                return StreamName::try_new(&format!("{before}{value}{after}"));
            }
        }
        StreamName::try_new(BROADCAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(templates: &[&str], message: &str) -> String {
        let templates: Vec<_> = templates.iter().map(ToString::to_string).collect();
        let resolver = Resolver::parse(&templates).unwrap();
        let message = RoomMessage::parse(message.as_bytes()).unwrap();
        resolver.resolve(&message).unwrap().as_str().to_owned()
    }

    #[test]
    fn the_first_field_that_is_there_decides() {
        let rooms = &["room:{room}"][..];
        assert_eq!(resolve(rooms, r#"{"type":"a","room":"r"}"#), "room:r");
        assert_eq!(resolve(rooms, r#"{"type":"a","room":""}"#), "broadcast");
        let users = &["user:{payload.user_id}/in", "{type}"][..];
        assert_eq!(
            resolve(users, r#"{"type":"a","payload":{"user_id":7}}"#),
            "user:7/in"
        );
        assert_eq!(resolve(users, r#"{"type":"a"}"#), "a");
        assert_eq!(resolve(&[], r#"{"type":"a","room":"r"}"#), "broadcast");
    }

    #[test]
    fn a_template_names_a_field() {
        for wrong in ["room", "{", "{}", "{payload.}", "{user}", "}room{"] {
            let templates = [wrong.to_owned()];
            assert_eq!(Resolver::parse(&templates).unwrap_err(), wrong);
        }
    }
}

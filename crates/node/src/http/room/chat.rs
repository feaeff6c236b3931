//! What a socket in rooms asks for: the messages that applications of this
//! dialect have agreed on. All others are for whoever listens.

use pollux_protocol::{RoomMessage, room::text_object};

/// Where those go who name no room.
const GENERAL: &str = "general";

/// Who does not say.
const ANONYMOUS: &str = "anonymous";

/// A room a socket is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) room: String,
    pub(super) user: String,
    /// `chat` or `room`: what its messages' types begin with.
    pub(super) dialect: Dialect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Chat,
    Room,
}

/// What a message asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Into a room.
    Join(Seat),
    /// Out of the named room, or the last one.
    Leave(Option<String>),
    /// To tell the sockets in the sender's room, and keep nothing.
    Tell(RoomMessage),
    /// To send it on.
    Send(RoomMessage),
    /// An answer to the sender.
    Answer(&'static str),
    /// The numbers of `system.metrics`.
    Numbers,
    /// Nothing.
    Nothing,
}

impl Dialect {
    fn of(topic: &str) -> Option<(Self, &str)> {
        let chat = topic.strip_prefix("chat.").map(|verb| (Self::Chat, verb));
        chat.or_else(|| topic.strip_prefix("room.").map(|verb| (Self::Room, verb)))
    }
}

impl Ask {
    /// What `message` asks for, said by somebody in these rooms.
    pub(super) fn of(mut message: RoomMessage, seats: &[Seat]) -> Self {
        match message.topic.as_str() {
            "app.ping" => {
                let pong =
                    r#"{"payload":{"status":"ok","transport":"websocket"},"type":"app.pong"}"#;
                return Self::Answer(pong);
            }
            "system.metrics" => return Self::Numbers,
            _ => {}
        }
        let Some((dialect, verb)) = Dialect::of(&message.topic) else {
            return Self::Send(message);
        };
        let text = |name: &str| message.field(name).map(|text| text.into_owned());
        let room = text("room").or_else(|| text("payload.room"));
        let user = text("payload.user");
        match verb {
            "join" => Self::Join(Seat {
                room: room.unwrap_or_else(|| GENERAL.to_owned()),
                user: user.unwrap_or_else(|| ANONYMOUS.to_owned()),
                dialect,
            }),
            "leave" => Self::Leave(room),
            "message" | "typing" => {
                let seat = match &room {
                    Some(room) => seats.iter().rfind(|seat| seat.room == *room),
                    None => seats.last(),
                };
                if let Some(seat) = seat {
                    let members = [("room", &*seat.room), ("user", &*seat.user)];
                    message.payload = message.payload_with(&members);
                }
                if let Some(room) = room.or_else(|| seat.map(|seat| seat.room.clone())) {
                    message.room = room;
                }
                match verb {
                    "message" => Self::Send(message),
                    _ if seat.is_some() => Self::Tell(message),
                    _ => Self::Nothing,
                }
            }
            _ => Self::Send(message),
        }
    }
}

impl Seat {
    /// What the room is told when somebody comes.
    pub(super) fn joined(&self) -> Vec<RoomMessage> {
        let session = format!("room:{}", self.room);
        let members = [
            ("room", &*self.room),
            ("user", &self.user),
            ("lp_session_id", &session),
        ];
        self.told("chat.joined", &members, "joined the room")
    }

    /// What those who stay are told when somebody goes.
    pub(super) fn left(&self) -> Vec<RoomMessage> {
        let members = [("room", &*self.room), ("user", &self.user)];
        self.told("chat.left", &members, "left the room")
    }

    fn told(&self, topic: &str, members: &[(&str, &str)], what: &str) -> Vec<RoomMessage> {
        let text = format!("{} {what}", self.user);
        let system = match self.dialect {
            Dialect::Chat => "chat.system",
            Dialect::Room => "room.system",
        };
        let notice = text_object(&[("room", &self.room), ("user", &self.user), ("text", &text)]);
        let mut told = vec![RoomMessage::new(system, notice)];
        if self.dialect == Dialect::Chat {
            told.insert(0, RoomMessage::new(topic, text_object(members)));
        }
        for message in &mut told {
            message.room.clone_from(&self.room);
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str, seats: &[Seat]) -> Ask {
        Ask::of(RoomMessage::parse(text.as_bytes()).unwrap(), seats)
    }

    fn seat(room: &str, user: &str) -> Seat {
        Seat {
            room: room.to_owned(),
            user: user.to_owned(),
            dialect: Dialect::Chat,
        }
    }

    #[test]
    fn joining_has_defaults() {
        assert_eq!(
            ask(r#"{"type":"chat.join"}"#, &[]),
            Ask::Join(seat("general", "anonymous"))
        );
        let named = r#"{"type":"chat.join","payload":{"room":"a","user":"Ann"}}"#;
        assert_eq!(ask(named, &[]), Ask::Join(seat("a", "Ann")));
        assert_eq!(ask(r#"{"type":"room.leave"}"#, &[]), Ask::Leave(None));
        let joined = seat("a", "Ann").joined();
        assert_eq!(
            joined[0].to_frame(),
            br#"{"payload":{"room":"a","user":"Ann","lp_session_id":"room:a"},"type":"chat.joined"}"#
        );
        assert_eq!(
            joined[1].field("payload.text").unwrap(),
            "Ann joined the room"
        );
    }

    #[test]
    fn messages_go_to_the_senders_room() {
        let seats = [seat("a", "Ann"), seat("b", "Bea")];
        let Ask::Send(sent) = ask(r#"{"type":"chat.message","payload":{"text":"hi"}}"#, &seats)
        else {
            panic!("it is not sent");
        };
        assert_eq!(sent.room, "b");
        assert_eq!(
            sent.payload.as_str(),
            r#"{"room":"b","user":"Bea","text":"hi"}"#
        );
        let named = r#"{"type":"chat.message","payload":{"room":"a","text":"hi"}}"#;
        let Ask::Send(sent) = ask(named, &seats) else {
            panic!("it is not sent");
        };
        assert_eq!(
            (&*sent.room, &*sent.field("payload.user").unwrap()),
            ("a", "Ann")
        );
        let Ask::Send(sent) = ask(r#"{"type":"chat.message","payload":{"text":"hi"}}"#, &[]) else {
            panic!("it is not sent");
        };
        assert_eq!(
            (&*sent.room, sent.payload.as_str()),
            ("", r#"{"text":"hi"}"#)
        );
        assert_eq!(ask(r#"{"type":"chat.typing"}"#, &[]), Ask::Nothing);
        assert!(matches!(
            ask(r#"{"type":"chat.typing"}"#, &seats),
            Ask::Tell(_)
        ));
        assert!(matches!(
            ask(r#"{"type":"anything"}"#, &seats),
            Ask::Send(_)
        ));
    }
}

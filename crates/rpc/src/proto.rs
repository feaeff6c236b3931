//! Calls and answers as protocol buffers, for applications that speak gRPC.

use bytes::Bytes;
use prost::{DecodeError, Message};

use crate::{
    call::{
        Changes, Command, Commanded, Connect, Connected, Disconnect, Disconnected, Env, Presence,
        Status,
    },
    generated,
};

pub(crate) fn connect(call: Connect) -> Bytes {
    let request = generated::ConnectionRequest {
        env: Some(call.env.into()),
    };
    request.encode_to_vec().into()
}

pub(crate) fn command(call: Command) -> Bytes {
    let request = generated::CommandMessage {
        command: call.verb.as_str().to_owned(),
        identifier: call.identifier,
        connection_identifiers: call.connection_identifiers,
        data: call.data,
        env: Some(call.env.into()),
    };
    request.encode_to_vec().into()
}

pub(crate) fn disconnect(call: Disconnect) -> Bytes {
    let request = generated::DisconnectRequest {
        identifiers: call.identifiers,
        subscriptions: call.subscriptions,
        env: Some(call.env.into()),
    };
    request.encode_to_vec().into()
}

pub(crate) fn connected(answer: Bytes) -> Result<Connected, DecodeError> {
    let answer = generated::ConnectionResponse::decode(answer)?;
    Ok(Connected {
        status: answer.status().into(),
        identifiers: answer.identifiers,
        transmissions: answer.transmissions,
        error: answer.error_msg,
        changes: answer.env.map(Into::into).unwrap_or_default(),
    })
}

pub(crate) fn commanded(answer: Bytes) -> Result<Commanded, DecodeError> {
    let answer = generated::CommandResponse::decode(answer)?;
    Ok(Commanded {
        status: answer.status().into(),
        disconnect: answer.disconnect,
        stop_streams: answer.stop_streams,
        stopped_streams: answer.stopped_streams,
        streams: answer.streams,
        transmissions: answer.transmissions,
        error: answer.error_msg,
        changes: answer.env.map(Into::into).unwrap_or_default(),
        presence: answer.presence.map(|presence| Presence {
            kind: presence.r#type,
            id: presence.id,
            info: presence.info,
            ttl: presence.ttl,
        }),
    })
}

pub(crate) fn disconnected(answer: Bytes) -> Result<Disconnected, DecodeError> {
    let answer = generated::DisconnectResponse::decode(answer)?;
    Ok(Disconnected {
        status: answer.status().into(),
        error: answer.error_msg,
    })
}

impl From<Env> for generated::Env {
    fn from(env: Env) -> Self {
        Self {
            url: env.url,
            headers: env.headers.into_iter().collect(),
            cstate: env.cstate.into_iter().collect(),
            istate: env.istate.into_iter().collect(),
        }
    }
}

impl From<generated::EnvResponse> for Changes {
    fn from(env: generated::EnvResponse) -> Self {
        Self {
            cstate: env.cstate.into_iter().collect(),
            istate: env.istate.into_iter().collect(),
        }
    }
}

impl From<generated::Status> for Status {
    fn from(status: generated::Status) -> Self {
        match status {
            generated::Status::Error => Self::Error,
            generated::Status::Success => Self::Success,
            generated::Status::Failure => Self::Failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{State, Verb};

    #[test]
    fn a_command_is_the_protocols_message() {
        let state: State = [("room".to_owned(), "42".to_owned())].into();
        let encoded = command(Command {
            verb: Verb::Message,
            identifier: "c".to_owned(),
            connection_identifiers: "u".to_owned(),
            data: "d".to_owned(),
            env: Env {
                istate: state,
                ..Env::default()
            },
        });
        let expected =
            b"\x0a\x07message\x12\x01c\x1a\x01u\x22\x01d\x2a\x0c\x22\x0a\x0a\x04room\x12\x0242";
        // Field 4 of the environment: a map of one, whose lengths are of one byte.
        assert_eq!(encoded.as_ref(), expected.as_slice());
    }

    #[test]
    fn an_answer_is_read_whole() {
        let answer = generated::CommandResponse {
            status: generated::Status::Failure.into(),
            disconnect: true,
            stop_streams: true,
            streams: vec!["s".to_owned()],
            transmissions: vec!["t".to_owned()],
            error_msg: "e".to_owned(),
            env: Some(generated::EnvResponse {
                cstate: [("k".to_owned(), String::new())].into(),
                ..generated::EnvResponse::default()
            }),
            stopped_streams: vec!["o".to_owned()],
            presence: Some(generated::PresenceResponse {
                r#type: "leave".to_owned(),
                id: "1".to_owned(),
                info: String::new(),
                ttl: 5,
            }),
        };
        let read = commanded(answer.encode_to_vec().into()).unwrap();
        assert_eq!(read.status, Status::Failure);
        assert!(read.disconnect && read.stop_streams);
        assert_eq!(read.streams, ["s"]);
        assert_eq!(read.stopped_streams, ["o"]);
        assert_eq!(read.transmissions, ["t"]);
        assert_eq!(read.error, "e");
        assert_eq!(read.changes.cstate["k"], "");
        assert_eq!(read.presence.unwrap().ttl, 5);
    }

    #[test]
    fn nothing_is_an_error_of_the_application_and_rubbish_no_answer() {
        assert_eq!(connected(Bytes::new()).unwrap(), Connected::default());
        assert!(disconnected(Bytes::from_static(b"\xff\xff")).is_err());
    }
}

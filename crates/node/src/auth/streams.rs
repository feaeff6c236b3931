//! Which stream an identifier stands for, and whether its sender may have it.

use pollux_protocol::{Channel, Identifier, StreamName, StreamRef, StreamVerifier};

/// The operator's rules for streams.
#[derive(Debug)]
pub(crate) struct StreamPolicy {
    /// Unsigned names are accepted.
    pub(crate) public: bool,
    /// Checks signed names; `None` refuses them all, because without a secret
    /// anybody could sign.
    pub(crate) verifier: Option<StreamVerifier>,
    /// Checks the names of Turbo's channel; `None` refuses them all.
    pub(crate) turbo: Option<StreamVerifier>,
    /// The same for CableReady's.
    pub(crate) cable_ready: Option<StreamVerifier>,
    /// Subscribers of signed streams may whisper. Those of public ones may
    /// always.
    pub(crate) signed_whisper: bool,
    /// Subscribers of signed streams may be present in them. Those of public
    /// ones may always.
    pub(crate) signed_presence: bool,
}

/// What an identifier's subscription may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Permission {
    /// The stream.
    pub(crate) stream: StreamName,
    /// Whether it may send whispers to it.
    pub(crate) whisper: bool,
    /// Whether it may be present in it, and ask who is.
    pub(crate) presence: bool,
}

/// A subscription that may do nothing but listen.
fn listening(verifier: &StreamVerifier, signed: &str) -> Option<Permission> {
    Some(Permission {
        stream: verifier.verify(signed).ok()?,
        whisper: false,
        presence: false,
    })
}

impl StreamPolicy {
    /// Whether it is for a backend to judge: a channel that nobody knows here,
    /// or one of those that the operator has not switched on.
    pub(crate) fn leaves_to_backend(&self, identifier: &Identifier) -> bool {
        match Channel::parse(identifier) {
            Ok(Channel::Other) => true,
            Ok(Channel::Turbo(_)) => self.turbo.is_none(),
            Ok(Channel::CableReady(_)) => self.cable_ready.is_none(),
            Ok(Channel::PubSub(_)) | Err(_) => false,
        }
    }

    /// `None`: the subscription is refused.
    pub(crate) fn resolve(&self, identifier: &Identifier) -> Option<Permission> {
        match Channel::parse(identifier).ok()? {
            Channel::PubSub(StreamRef::Public(stream)) if self.public => Some(Permission {
                stream,
                whisper: true,
                presence: true,
            }),
            Channel::PubSub(StreamRef::Signed(signed)) => {
                let stream = self.verifier.as_ref()?.verify(&signed).ok()?;
                Some(Permission {
                    stream,
                    whisper: self.signed_whisper,
                    presence: self.signed_presence,
                })
            }
            Channel::Turbo(signed) => listening(self.turbo.as_ref()?, &signed),
            Channel::CableReady(signed) => listening(self.cable_ready.as_ref()?, &signed),
            Channel::PubSub(StreamRef::Public(_)) | Channel::Other => None,
        }
    }
}

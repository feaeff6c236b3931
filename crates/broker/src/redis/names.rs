//! What things are called in Redis.

use crate::queue::Group;
use pollux_protocol::StreamName;

/// Slots of a Redis Cluster.
pub(super) const SLOTS: u16 = 16_384;

/// Names of keys and channels.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// A stream's channel, and the key of its head. The braces make Redis
    /// Cluster put all that is the stream's into one slot.
    pub(super) fn channel(&self, stream: &StreamName) -> String {
        format!("{}:{{{stream}}}", self.prefix)
    }

    /// The key of a stream's log.
    pub(super) fn log(&self, stream: &StreamName) -> String {
        format!("{}:{{{stream}}}:log", self.prefix)
    }

    /// The key of what a stream remembers of the intake's entries.
    pub(super) fn sources(&self, stream: &StreamName) -> String {
        format!("{}:{{{stream}}}:sources", self.prefix)
    }

    /// What readers of a group have borrowed.
    pub(super) fn lent(&self, stream: &StreamName, group: Group) -> String {
        format!("{}:{{{stream}}}:{}:lent", self.prefix, group.name())
    }

    /// Readers of a group that wait.
    pub(super) fn waiting(&self, stream: &StreamName, group: Group) -> String {
        format!("{}:{{{stream}}}:{}:waiting", self.prefix, group.name())
    }

    /// Who is present in a stream.
    pub(super) fn presence(&self, stream: &StreamName) -> String {
        format!("{}:{{{stream}}}:presence", self.prefix)
    }

    /// Until when they are.
    pub(super) fn presence_until(&self, stream: &StreamName) -> String {
        format!("{}:{{{stream}}}:presence:until", self.prefix)
    }

    /// What is kept of a session.
    pub(super) fn session(&self, id: &str) -> String {
        format!("{}:session:{{{id}}}", self.prefix)
    }

    /// The key of what nodes say of themselves.
    pub(super) fn reports(&self) -> String {
        format!("{}:reports", self.prefix)
    }

    /// A pattern for the channels of streams whose names begin so.
    pub(super) fn pattern(&self, start: &str) -> String {
        let mut pattern = format!("{}:{{", self.prefix);
        for letter in start.chars() {
            // What means something in a pattern.
            if "*?[]\\^-".contains(letter) {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern.push_str("*}");
        pattern
    }

    /// The channel on which nodes talk to each other.
    pub(super) fn nodes(&self) -> String {
        format!("{}:nodes", self.prefix)
    }

    /// The stream of a channel.
    pub(super) fn stream(&self, channel: &[u8]) -> Option<StreamName> {
        let channel = str::from_utf8(channel).ok()?;
        let name = channel
            .strip_prefix(self.prefix.as_str())?
            .strip_prefix(":{")?
            .strip_suffix('}')?;
        StreamName::try_new(name).ok()
    }

    /// Who may read the intake. In the intake's slot.
    pub(super) fn lease(&self, intake: &str) -> String {
        format!("{}:{{{intake}}}:lease", self.prefix)
    }

    /// Where entries of the intake go that can't be published. In the
    /// intake's slot.
    pub(super) fn aside(&self, intake: &str) -> String {
        format!("{}:{{{intake}}}:aside", self.prefix)
    }

    /// A channel only for probing: the first of these, counted by `attempt`,
    /// whose slot the server has.
    pub(super) fn probe(&self, who: &str, attempt: u32) -> String {
        format!("{}:probe:{{{who}-{attempt}}}", self.prefix)
    }
}

/// The slot of a key: CRC16 (XMODEM) of what stands between the first brace
/// and the next closing one, if there is anything, else of the whole key.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key
        .iter()
        .position(|&byte| byte == b'{')
        .and_then(|open| {
            let rest = key.get(open + 1..)?;
            let close = rest.iter().position(|&byte| byte == b'}')?;
            rest.get(..close)
        })
        .filter(|tag| !tag.is_empty())
        .unwrap_or(key);
    let crc = tag.iter().fold(0_u16, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(slot(b"123456789"), 0x31C3);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"));
        assert_eq!(slot(b""), 0);
    }

    #[test]
    fn a_channel_tells_its_stream() {
        let names = Names::new("pollux");
        for name in ["chat/1", "a}b", "{", "}", "ü\n", "a:{b}:log"] {
            let stream = StreamName::try_new(name).unwrap();
            assert_eq!(
                names.stream(names.channel(&stream).as_bytes()),
                Some(stream)
            );
        }
        for channel in ["pollux:{}", "pollux:x", "other:{x}", "pollux:{x}:log", ""] {
            assert_eq!(names.stream(channel.as_bytes()), None, "{channel}");
        }
    }
}

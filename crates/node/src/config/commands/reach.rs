//! How a command reaches a node.

use super::flags::{Hidden, Reader, flag, switch, valued};
use crate::config::spec::{
    Kind::{Text, Url},
    OptionSpec,
};
use clap::{Arg, ArgAction};
use http::{HeaderName, HeaderValue};
use pollux_client::{Address, Trust};

const URL: OptionSpec = flag(
    "url",
    Url,
    "",
    "The node's address, such as http://127.0.0.1:8080 or https://example.com. The path follows \
     from the options, unless there is one here. Absent: the node of this machine that the \
     options describe.",
);

const CA: OptionSpec = flag(
    "ca",
    Text,
    "",
    "PEM file of the authorities that may have signed the node's certificate. Absent: those that \
     the system trusts.",
);

const INSECURE: &str = "insecure";

const HEADER: OptionSpec = flag(
    "header",
    Text,
    "",
    "A header for every request, as NAME:VALUE. May be given several times.",
);

/// How a command reaches a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The address; absent means the node that the configuration describes.
    pub address: Option<Address>,
    /// Whose certificate it may show.
    pub trust: Trust,
    /// Headers for every request.
    pub headers: Vec<(String, Hidden)>,
}

/// The flags for it.
pub(super) fn args() -> [Arg; 4] {
    [
        valued(&URL),
        valued(&HEADER).action(ArgAction::Append),
        valued(&CA).conflicts_with(INSECURE),
        switch(
            INSECURE,
            "Take any certificate. Whoever is in between can read and change everything.",
        ),
    ]
}

pub(super) fn read(reader: &mut Reader<'_>) -> Reach {
    let url = reader.text(URL.name);
    let address = url.as_deref().and_then(Address::parse);
    if url.is_some() && address.is_none() {
        reader.refuse(
            &URL,
            "is no address such as http://127.0.0.1:8080; passwords don't belong into it, but \
             into a --header",
        );
    }
    let trust = match reader.text(CA.name) {
        Some(file) => Trust::File(file.into()),
        None if reader.is_on(INSECURE) => Trust::Anyone,
        None => Trust::System,
    };
    let mut headers = Vec::new();
    for header in reader.texts(HEADER.name) {
        match header.split_once(':') {
            Some((name, value)) if is_header(name.trim(), value.trim()) => {
                let value = Hidden::new(value.trim().to_owned());
                headers.push((name.trim().to_owned(), value));
            }
            _ => reader.refuse(&HEADER, "must be NAME:VALUE"),
        }
    }
    Reach {
        address,
        trust,
        headers,
    }
}

fn is_header(name: &str, value: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok()
}

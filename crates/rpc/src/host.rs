//! The hosts of the application, as an operator writes them.

use http::uri::{Authority, PathAndQuery, Scheme, Uri};

use crate::options::OptionsError;

/// All hosts, of one kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    Http(Vec<Base>),
    Grpc(Vec<Target>),
}

/// A name or address and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Without the brackets of an IPv6 address.
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
    /// Both as a request names them.
    pub(crate) authority: Authority,
}

/// Where calls over HTTP are posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) target: Target,
    pub(crate) tls: bool,
    /// Without a slash at its end.
    pub(crate) path: Box<str>,
}

impl Hosts {
    /// Reads a list whose parts may be lists with commas themselves.
    pub(crate) fn parse(given: &[String]) -> Result<Self, OptionsError> {
        let mut bases = Vec::new();
        let mut targets = Vec::new();
        let parts = given.iter().flat_map(|part| part.split(','));
        for host in parts.map(str::trim).filter(|host| !host.is_empty()) {
            let wrong = |why| OptionsError::Host {
                host: without_user(host),
                why,
            };
            if host.starts_with("http://") || host.starts_with("https://") {
                bases.push(Base::parse(host).map_err(wrong)?);
            } else {
                targets.push(Target::parse(host).map_err(wrong)?);
            }
        }
        match (bases.is_empty(), targets.is_empty()) {
            (true, true) => Err(OptionsError::NoHost),
            (false, false) => Err(OptionsError::MixedHosts),
            (false, true) => Ok(Self::Http(bases)),
            (true, false) => Ok(Self::Grpc(targets)),
        }
    }
}

impl Base {
    fn parse(host: &str) -> Result<Self, &'static str> {
        let uri: Uri = host.parse().map_err(|_| "is not a URL")?;
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let authority = uri.authority().ok_or("names no host")?;
        if uri.query().is_some() {
            return Err("has a query, which a base path cannot have");
        }
        let path = uri.path().trim_end_matches('/');
        Ok(Self {
            target: Target::new(authority, Some(if tls { 443 } else { 80 }))?,
            tls,
            path: path.into(),
        })
    }

    /// The path of a call.
    pub(crate) fn path_of(&self, call: &str) -> Option<PathAndQuery> {
        PathAndQuery::try_from(format!("{}/{call}", self.path)).ok()
    }
}

impl Target {
    fn parse(host: &str) -> Result<Self, &'static str> {
        let plain = match host.split_once("://") {
            None => host,
            Some(("grpc-list", hosts)) => hosts,
            Some(("dns", rest)) => rest
                .strip_prefix('/')
                .ok_or("asks for a name server of its own: dns:///host:port is supported")?,
            Some(_) => {
                return Err("has an unknown scheme: http, https, dns and grpc-list are known");
            }
        };
        let authority: Authority = plain.parse().map_err(|_| "is not host:port")?;
        Self::new(&authority, None)
    }

    fn new(authority: &Authority, port: Option<u16>) -> Result<Self, &'static str> {
        if authority.as_str().contains('@') {
            return Err("names a user, which the calls have no use for");
        }
        let host = authority.host();
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if bare.is_empty() {
            return Err("names no host");
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            // What is behind the host's name is no number of a port.
            None if authority.as_str().len() > host.len() => return Err("has no valid port"),
            None => port.ok_or("names no port: host:port is expected")?,
        };
        if port == 0 {
            return Err("has no valid port");
        }
        Ok(Self {
            host: bare.into(),
            port,
            authority: authority.clone(),
        })
    }
}

/// A user's password is nothing for an error's text.
fn without_user(host: &str) -> String {
    match host.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(hosts: &[&str]) -> Result<Hosts, String> {
        let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
        Hosts::parse(&hosts).map_err(|error| error.to_string())
    }

    fn targets(hosts: &[&str]) -> Vec<(String, u16)> {
        let targets = match parse(hosts).unwrap() {
            Hosts::Grpc(targets) => targets,
            Hosts::Http(bases) => bases.into_iter().map(|base| base.target).collect(),
        };
        targets
            .into_iter()
            .map(|target| (target.host.into_string(), target.port))
            .collect()
    }

    #[test]
    fn grpc_hosts_in_every_way_they_are_written() {
        let two = vec![("a".to_owned(), 1), ("b".to_owned(), 2)];
        assert_eq!(targets(&["a:1", "b:2"]), two);
        assert_eq!(targets(&["a:1, b:2"]), two);
        assert_eq!(targets(&["grpc-list://a:1,b:2"]), two);
        assert_eq!(targets(&["grpc-list://a:1", "b:2"]), two);
        assert_eq!(targets(&["dns:///a:1", "b:2"]), two);
        assert_eq!(targets(&["[::1]:50051"]), [("::1".to_owned(), 50051)]);
    }

    #[test]
    fn http_hosts_have_a_base_path() {
        let Hosts::Http(bases) = parse(&[
            "http://app:3000/_anycable/",
            "https://app",
            "http://[::1]/x",
        ])
        .unwrap() else {
            panic!("not read as HTTP");
        };
        let paths: Vec<_> = bases
            .iter()
            .map(|base| base.path_of("connect").unwrap().to_string())
            .collect();
        assert_eq!(paths, ["/_anycable/connect", "/connect", "/x/connect"]);
        assert_eq!(bases[1].target.port, 443);
        assert!(bases[1].tls && !bases[0].tls);
        assert_eq!(bases[2].target.port, 80);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_words() {
        let wrong = |host: &str| parse(&[host]).unwrap_err();
        assert_eq!(wrong(" , "), "rpc_host names no host");
        assert!(wrong("app").contains("names no port"));
        assert!(wrong("app:").contains("no valid port"));
        assert!(wrong("app:70000").contains("port") || wrong("app:70000").contains("host:port"));
        assert!(wrong("app:0").contains("no valid port"));
        assert!(wrong(":50051").contains("host"));
        assert!(wrong("unix:///tmp/app").contains("unknown scheme"));
        assert!(wrong("dns://8.8.8.8/app:1").contains("name server"));
        assert!(wrong("http://").contains("URL"));
        assert!(wrong("http://app/x?y=1").contains("query"));
        assert!(wrong("a:1,http://b").contains("one kind"));
        let user = wrong("http://me:word@app/x");
        assert!(
            user.contains("names a user") && !user.contains("word"),
            "{user}"
        );
    }
}

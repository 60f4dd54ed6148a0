//! Questions to a proxy under test, and what comes of them. Put by proxy.py, for [`super::squid`].

use std::fmt::{self, Display};
use std::net::IpAddr;

use super::netns::address;

/// One question to the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(super) client: IpAddr,
    ask: Ask,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ask {
    Get { url: String },
    Tls { target: String, sni: Option<String> },
    Raw { target: String },
}

impl Request {
    /// `GET http://name[:port]/path`.
    pub(crate) fn get(client: &str, url: &str) -> Self {
        Self::new(client, Ask::Get { url: url.to_owned() })
    }

    /// `CONNECT host:port`, then TLS that names `sni`, or nothing.
    pub(crate) fn tls(client: &str, target: &str, sni: Option<&str>) -> Self {
        Self::new(client, Ask::Tls { target: target.to_owned(), sni: sni.map(str::to_owned) })
    }

    /// `CONNECT host:port`, then a line that is not TLS.
    pub(crate) fn raw(client: &str, target: &str) -> Self {
        Self::new(client, Ask::Raw { target: target.to_owned() })
    }

    fn new(client: &str, ask: Ask) -> Self {
        Self { client: address(client), ask }
    }

    /// `host:port` of what is asked for.
    pub(super) fn target(&self) -> &str {
        match &self.ask {
            Ask::Tls { target, .. } | Ask::Raw { target } => target,
            Ask::Get { url } => {
                let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("{url}: not `http://`"));
                rest.split('/').next().unwrap_or(rest)
            }
        }
    }

    /// As proxy.py reads it.
    pub(super) fn line(&self) -> String {
        let client = self.client;
        match &self.ask {
            Ask::Get { url } => format!("get\t{client}\t{url}\n"),
            Ask::Tls { target, sni } => format!("tls\t{client}\t{target}\t{}\n", sni.as_deref().unwrap_or("")),
            Ask::Raw { target } => format!("raw\t{client}\t{target}\n"),
        }
    }
}

impl Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.client;
        match &self.ask {
            Ask::Get { url } => write!(f, "{client}: GET {url}"),
            Ask::Tls { target, sni } => {
                write!(f, "{client}: CONNECT {target}, TLS to {}", sni.as_deref().unwrap_or("nobody"))
            }
            Ask::Raw { target } => write!(f, "{client}: CONNECT {target}, no TLS"),
        }
    }
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The origin's own words came back. (On an `ssl-bump` port, the status line of a CONNECT says nothing.)
    Allowed,
    /// Squid refused, in the way told: status 403, or the connection cut where TLS would begin.
    Denied(String),
    /// Neither: another status (502, 503 …) or a timeout. Never to be taken for a denial.
    Broken(String),
}

impl Answer {
    /// An answer as proxy.py writes it.
    pub(super) fn parse(line: &str) -> Self {
        match line.split_once(' ') {
            None if line == "allowed" => Self::Allowed,
            Some(("denied", how)) => Self::Denied(how.to_owned()),
            Some(("broken", how)) => Self::Broken(how.to_owned()),
            _ => panic!("the questions' end said {line:?}"),
        }
    }
}

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
    TurnedGet { at: String, target: String, host: String },
    TurnedTls { at: String, sni: Option<String> },
    TurnedRaw { at: String },
    Inside { turned: bool, to: String, sni: String, method: String, target: String, host: String },
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

    /// A connection to `address:port` that a router turns to the proxy: `GET target` with this Host header.
    pub(crate) fn turned_get(client: &str, at: &str, target: &str, host: &str) -> Self {
        Self::new(client, Ask::TurnedGet { at: at.to_owned(), target: target.to_owned(), host: host.to_owned() })
    }

    /// The same, with TLS that names `sni`, or nothing.
    pub(crate) fn turned_tls(client: &str, at: &str, sni: Option<&str>) -> Self {
        Self::new(client, Ask::TurnedTls { at: at.to_owned(), sni: sni.map(str::to_owned) })
    }

    /// The same, with a line that is not TLS.
    pub(crate) fn turned_raw(client: &str, at: &str) -> Self {
        Self::new(client, Ask::TurnedRaw { at: at.to_owned() })
    }

    /// `CONNECT to`, then TLS that names `sni` and trusts the lab's authority alone, then a request.
    pub(crate) fn inside(client: &str, to: &str, sni: &str, [method, target, host]: [&str; 3]) -> Self {
        let [to, sni, method, target, host] = [to, sni, method, target, host].map(str::to_owned);
        Self::new(client, Ask::Inside { turned: false, to, sni, method, target, host })
    }

    /// The same on a connection that a router turns to the proxy.
    pub(crate) fn turned_inside(client: &str, at: &str, sni: &str, [method, target, host]: [&str; 3]) -> Self {
        let [to, sni, method, target, host] = [at, sni, method, target, host].map(str::to_owned);
        Self::new(client, Ask::Inside { turned: true, to, sni, method, target, host })
    }

    fn new(client: &str, ask: Ask) -> Self {
        Self { client: address(client), ask }
    }

    /// `host:port` of what is asked for.
    pub(super) fn target(&self) -> &str {
        match &self.ask {
            Ask::Tls { target, .. } | Ask::Raw { target } | Ask::Inside { to: target, .. } => target,
            Ask::TurnedGet { at, .. } | Ask::TurnedTls { at, .. } | Ask::TurnedRaw { at } => at,
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
            Ask::TurnedGet { at, target, host } => format!("turned-get\t{client}\t{at}\t{target}\t{host}\n"),
            Ask::TurnedTls { at, sni } => format!("turned-tls\t{client}\t{at}\t{}\n", sni.as_deref().unwrap_or("")),
            Ask::TurnedRaw { at } => format!("turned-raw\t{client}\t{at}\n"),
            Ask::Inside { turned, to, sni, method, target, host } => {
                let kind = if *turned { "turned-path" } else { "path" };
                format!("{kind}\t{client}\t{to}\t{sni}\t{method}\t{target}\t{host}\n")
            }
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
            Ask::TurnedGet { at, target, host } => {
                write!(f, "{client}: turned on the way to {at}: GET {target}, Host: {host}")
            }
            Ask::TurnedTls { at, sni } => {
                write!(f, "{client}: turned on the way to {at}: TLS to {}", sni.as_deref().unwrap_or("nobody"))
            }
            Ask::TurnedRaw { at } => write!(f, "{client}: turned on the way to {at}: no TLS"),
            Ask::Inside { turned, to, sni, method, target, host } => {
                let how = if *turned { "turned on the way to" } else { "CONNECT" };
                write!(f, "{client}: {how} {to}, TLS to {sni}, {method} {target}, Host: {host}")
            }
        }
    }
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The origin's own words came back. (On an `ssl-bump` port, the status line of a CONNECT says nothing.)
    Allowed,
    /// Squid refused, in the way told: status 403 or 409, or the connection cut where TLS would begin.
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

//! One name server as the command line names it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

#[cfg(feature = "secure-dns")]
use crate::host::Host;

/// Port of a name server whose address came without one.
const PORT: u16 = 53;
/// Port of DNS over TLS (RFC 7858).
#[cfg(feature = "secure-dns")]
const TLS_PORT: u16 = 853;
/// Port of HTTPS.
#[cfg(feature = "secure-dns")]
const HTTPS_PORT: u16 = 443;

/// A name server: where it is, and how it is spoken to. Prints as it is read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    /// Where it listens.
    pub(super) addr: SocketAddr,
    /// What is spoken there.
    pub(super) speech: Speech,
}

/// How a server is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Speech {
    /// UDP, and TCP for what does not fit.
    Plain,
    /// TLS (RFC 7858). The name is what the certificate must be for; without one, the address.
    #[cfg(feature = "secure-dns")]
    Tls(Option<Host>),
    /// HTTPS (RFC 8484), at a path.
    #[cfg(feature = "secure-dns")]
    Https(Option<Host>, String),
}

/// Why a text names no name server. Ends a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError(String);

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServerError {}

impl Server {
    /// A server that is spoken to over UDP and TCP.
    #[must_use]
    pub fn plain(addr: SocketAddr) -> Self {
        Self { addr, speech: Speech::Plain }
    }

    /// Whether it is spoken to over UDP and TCP, without a word of who it is.
    pub(super) fn is_plain(&self) -> bool {
        self.speech == Speech::Plain
    }

    /// The same at the port for DNS.
    pub(super) fn at_port_53(ip: IpAddr) -> Self {
        Self::plain(SocketAddr::new(ip, PORT))
    }
}

impl FromStr for Server {
    type Err = ServerError;

    /// Reads `192.0.2.53`, `192.0.2.53:5353`, `2001:db8::53`, `[2001:db8::53]:5353`, `tls://192.0.2.53#dns.example.net`
    /// or `https://192.0.2.53/dns-query#dns.example.net`.
    ///
    /// # Errors
    /// What is no address: a name would have to be asked for before there is anybody to ask.
    fn from_str(text: &str) -> Result<Self, ServerError> {
        match text.split_once("://") {
            None => Ok(Self::plain(address(text, PORT)?)),
            Some((scheme @ ("tls" | "https"), rest)) => secure(scheme, rest),
            Some((scheme, _)) => Err(ServerError(format!("`{scheme}://` is not known: write tls:// or https://"))),
        }
    }
}

/// An address with or without port, IPv6 with or without brackets.
fn address(text: &str, port: u16) -> Result<SocketAddr, ServerError> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).and_then(|ip| ip.parse().ok());
    let addr = text
        .parse()
        .ok()
        .or_else(|| text.parse().ok().map(|ip| SocketAddr::new(ip, port)))
        .or_else(|| bracketed.map(|ip| SocketAddr::new(IpAddr::V6(ip), port)));
    match addr {
        Some(addr) if addr.port() != 0 && !addr.ip().is_unspecified() => Ok(addr),
        Some(_) => Err(ServerError("has an address or a port of zero, where nobody can be asked".to_owned())),
        None => Err(ServerError(
            "is no address of a name server, such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53; a name cannot \
             be looked up before there is anybody to ask"
                .to_owned(),
        )),
    }
}

#[cfg(not(feature = "secure-dns"))]
fn secure(scheme: &str, _rest: &str) -> Result<Server, ServerError> {
    Err(ServerError(format!(
        "this program was built without `{scheme}://`: build it with `cargo install outgate --features secure-dns`"
    )))
}

#[cfg(feature = "secure-dns")]
fn secure(scheme: &str, rest: &str) -> Result<Server, ServerError> {
    let (place, name) = match rest.split_once('#') {
        Some((place, name)) => {
            let host = Host::parse(name).map_err(|error| ServerError(format!("the name after `#` {error}")))?;
            (place, Some(host))
        }
        None => (rest, None),
    };
    let (place, path) = place.find('/').map_or((place, ""), |slash| place.split_at(slash));
    if scheme == "tls" {
        if !path.is_empty() {
            return Err(ServerError("has a path, which DNS over TLS has not: write tls://ADDR#NAME".to_owned()));
        }
        return Ok(Server { addr: address(place, TLS_PORT)?, speech: Speech::Tls(name) });
    }
    let good = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
    if path.len() < 2 || !path.bytes().all(good) {
        return Err(ServerError("has no path that can be used: write https://ADDR/dns-query#NAME".to_owned()));
    }
    let addr = address(place, HTTPS_PORT)?;
    if addr.is_ipv6() && name.is_none() {
        return Err(ServerError("is an IPv6 address over HTTPS, which needs the server's name: add #NAME".to_owned()));
    }
    Ok(Server { addr, speech: Speech::Https(name, path.to_owned()) })
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(feature = "secure-dns")]
        let name = |name: &Option<Host>| name.as_ref().map_or(String::new(), |host| format!("#{host}"));
        match &self.speech {
            Speech::Plain => self.addr.fmt(f),
            #[cfg(feature = "secure-dns")]
            Speech::Tls(host) => write!(f, "tls://{}{}", self.addr, name(host)),
            #[cfg(feature = "secure-dns")]
            Speech::Https(host, path) => write!(f, "https://{}{path}{}", self.addr, name(host)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_spelling() {
        for (text, spelled) in [
            ("192.0.2.53", "192.0.2.53:53"),
            ("192.0.2.53:5353", "192.0.2.53:5353"),
            ("2001:DB8::53", "[2001:db8::53]:53"),
            ("[2001:db8::53]", "[2001:db8::53]:53"),
            ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
        ] {
            let server: Server = text.parse().unwrap();
            assert_eq!(server.to_string(), spelled);
            assert_eq!(spelled.parse(), Ok(server));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "dns.example.net", "192.0.2.53:0", "0.0.0.0", "::", "192.0.2.53:99999", "udp://192.0.2.53"] {
            assert!(text.parse::<Server>().is_err(), "{text:?} was taken");
        }
    }

    #[cfg(feature = "secure-dns")]
    #[test]
    fn secure_servers_have_one_spelling() {
        for (text, spelled) in [
            ("tls://192.0.2.53#DNS.example.net", "tls://192.0.2.53:853#dns.example.net"),
            ("tls://2001:db8::53", "tls://[2001:db8::53]:853"),
            ("https://192.0.2.53/dns-query", "https://192.0.2.53:443/dns-query"),
            ("https://[2001:db8::53]:8443/q#a.example", "https://[2001:db8::53]:8443/q#a.example"),
        ] {
            let server: Server = text.parse().unwrap();
            assert_eq!(server.to_string(), spelled);
            assert_eq!(spelled.parse(), Ok(server));
        }
        for text in [
            "tls://dns.example.net",
            "tls://192.0.2.53/dns-query",
            "tls://192.0.2.53#",
            "tls://192.0.2.53#a b.example",
            "https://192.0.2.53",
            "https://[2001:db8::53]/dns-query",
            "https://192.0.2.53/",
            "https://192.0.2.53/a b",
            "https://dns.example.net/dns-query",
        ] {
            assert!(text.parse::<Server>().is_err(), "{text:?} was taken");
        }
    }

    #[cfg(not(feature = "secure-dns"))]
    #[test]
    fn what_is_not_built_in_says_so() {
        let error = "tls://192.0.2.53".parse::<Server>().unwrap_err().to_string();
        assert!(error.contains("--features secure-dns"), "{error}");
    }
}

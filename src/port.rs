//! Ports and protocols.

use std::fmt;

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
}

impl Protocol {
    /// Every protocol, in order.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// The name as every target writes it, in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A range of destination ports of one protocol, both ends included. Never empty, never port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The protocol.
    pub protocol: Protocol,
    first: u16,
    last: u16,
}

/// Why a text is no port. The text of the error ends a sentence that began with the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortError(&'static str);

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for PortError {}

impl Port {
    /// Reads `443/tcp`, `123/udp` or `8443-8450/tcp`.
    ///
    /// # Errors
    /// A missing or unknown protocol, port 0, a number above 65535, a sign or leading zero, a reversed range.
    ///
    /// ```
    /// # use outgate::port::Port;
    /// assert_eq!(Port::parse("443/tcp").unwrap().to_string(), "443/tcp");
    /// assert!(Port::parse("443").is_err());
    /// assert!(Port::parse("0/tcp").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, PortError> {
        let slash = text.bytes().position(|byte| byte == b'/');
        let slash = slash.ok_or(PortError("has no protocol: write `443/tcp` or `123/udp`"))?;
        let (numbers, protocol) = text.split_at(slash);
        let protocol = match protocol {
            "/tcp" => Protocol::Tcp,
            "/udp" => Protocol::Udp,
            _ => return Err(PortError("has an unknown protocol: `tcp` and `udp` are known, in lower case")),
        };
        let (first, last) = match numbers.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => {
                let only = number(numbers)?;
                (only, only)
            }
        };
        if first > last {
            return Err(PortError("is a range that runs backwards"));
        }
        Ok(Self { protocol, first, last })
    }

    /// Every port of a protocol.
    #[must_use]
    pub fn every(protocol: Protocol) -> Self {
        Self { protocol, first: 1, last: u16::MAX }
    }

    /// A range of ports; `None` where it runs backwards or holds no port.
    #[must_use]
    pub fn range(protocol: Protocol, first: u32, last: u32) -> Option<Self> {
        let (first, last) = (u16::try_from(first).ok()?, u16::try_from(last).ok()?);
        (1 <= first && first <= last).then_some(Self { protocol, first, last })
    }

    /// The lowest port, at least 1.
    #[must_use]
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest port, at least the lowest.
    #[must_use]
    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether the range holds this port.
    #[must_use]
    pub fn contains(self, protocol: Protocol, number: u16) -> bool {
        self.protocol == protocol && (self.first..=self.last).contains(&number)
    }

    /// `443`, or the range with the target's own separator: `8443-8450`, `8443:8450`.
    #[must_use]
    pub fn numbers(self, separator: &str) -> String {
        if self.first == self.last { self.first.to_string() } else { format!("{}{separator}{}", self.first, self.last) }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.numbers("-"), self.protocol)
    }
}

fn number(text: &str) -> Result<u16, PortError> {
    const BAD: PortError = PortError("is no port: a number from 1 to 65535, without sign or leading zero");
    if text.is_empty() || text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BAD);
    }
    text.parse().map_err(|_| BAD)
}

/// Sorted, disjoint ranges of ports: overlapping and touching ranges of one protocol are joined.
///
/// Two spellings of one set of ports become one, so they make one rule.
#[must_use]
pub fn merge(ports: &[Port]) -> Vec<Port> {
    let mut merged = ports.to_vec();
    merged.sort_unstable();
    merged.dedup_by(|port, before| {
        let joined = before.protocol == port.protocol && u32::from(port.first) <= u32::from(before.last) + 1;
        if joined {
            before.last = before.last.max(port.last);
        }
        joined
    });
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_port_is_refused() {
        for text in [
            "",
            "/",
            "443",
            "443/",
            "/tcp",
            "443/TCP",
            "443/sctp",
            "0/tcp",
            "65536/tcp",
            "+1/tcp",
            "-1/tcp",
            "080/tcp",
            "1-0/tcp",
            "2-1/tcp",
            "1-65536/udp",
            "1-/tcp",
            "1--2/tcp",
            "443/tcp ",
            " 443/tcp",
            "any/tcp",
            "443/tcp/udp",
        ] {
            assert!(Port::parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn merging_joins_what_touches_and_nothing_else() {
        let parse = |texts: &[&str]| texts.iter().map(|t| Port::parse(t).unwrap()).collect::<Vec<_>>();
        let merged =
            merge(&parse(&["443/tcp", "80/tcp", "81-90/tcp", "443/udp", "85-100/tcp", "65535/udp", "102/tcp"]));
        assert_eq!(merged, parse(&["80-100/tcp", "102/tcp", "443/tcp", "443/udp", "65535/udp"]));
    }
}

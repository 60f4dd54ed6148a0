//! Host names: checked once, printed anywhere.
//!
//! A [`Host`] is a fully qualified name in lower-case A-labels without the final dot, so one host has one spelling and
//! nothing that is printed from it can hold a quote, a space or a control character.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::port::Protocol;
use crate::text::{Short, is_invisible};

/// Longest name DNS can carry, in characters of its text form without the final dot (RFC 1035, 2.3.4).
const NAME_MAX: usize = 253;
/// Longest label of a name, in characters (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;

/// A host name: at least two labels of letters, digits and hyphens, lower case, A-labels, no final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Short);

/// Why a text is no host name. The text of the error ends a sentence that began with the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostError(&'static str);

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for HostError {}

impl Host {
    /// Reads a host name. Upper case and one final dot are taken; names that are not ASCII become A-labels (IDNA).
    ///
    /// # Errors
    /// Anything that is no unambiguous host name: URLs, addresses, ports, wildcards, underscores, single labels,
    /// empty or overlong labels, and A-labels that do not decode to what they encode.
    ///
    /// ```
    /// # use outgate::host::Host;
    /// assert_eq!(Host::parse("Update.iXsystems.com.").unwrap().as_str(), "update.ixsystems.com");
    /// assert!(Host::parse("https://update.ixsystems.com/").is_err());
    /// assert!(Host::parse("192.0.2.1").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if is_plain(text) {
            return Ok(Self(text.into()));
        }
        if text.is_empty() {
            return Err(HostError("is empty"));
        }
        // Of a plain name IDNA changes the case at most, and most are plain. Two hyphens in a row may be an A-label, or
        // the beginning of some other kind that IDNA refuses.
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
            && !text.as_bytes().windows(2).any(|two| two == b"--");
        if !plain {
            check_characters(text)?;
        }
        let bare = text.strip_suffix('.').unwrap_or(text);
        if bare.as_bytes().split(|b| *b == b'.').any(<[u8]>::is_empty) {
            return Err(HostError("has an empty label (two dots in a row, or a dot at an end)"));
        }
        let name = if !plain {
            Cow::Owned(idna::domain_to_ascii_strict(bare).map_err(|_| {
                HostError("is no host name: only letters, digits, hyphens and dots, labels of at most 63")
            })?)
        } else if bare.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(bare.to_ascii_lowercase())
        } else {
            Cow::Borrowed(bare)
        };
        check_labels(&name)?;
        Ok(Self(name.into()))
    }

    /// The name: lower case, A-labels, no final dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name with its final dot, as a resolver must be asked so that no search list is tried.
    #[must_use]
    pub fn fqdn(&self) -> String {
        format!("{}.", self.0)
    }

    /// Whether this name lies strictly below `parent` (`a.example.com` lies below `example.com`).
    #[must_use]
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0.strip_suffix(parent.as_str()).is_some_and(|head| head.ends_with('.'))
    }

    /// Whether every name below this one belongs to strangers: it is a public suffix such as `co.uk` or `github.io`.
    #[must_use]
    pub fn is_public_suffix(&self) -> bool {
        psl::suffix(self.0.as_bytes()).is_some_and(|suffix| suffix.as_bytes().len() == self.0.len())
    }

    /// Whether every name right below this one is a public suffix: a wildcard would cover every registrant there, as
    /// with `*.kawasaki.jp` or `*.elb.amazonaws.com`.
    #[must_use]
    pub fn holds_public_suffixes(&self) -> bool {
        self.is_public_suffix() || Self(format!("any.{}", self.0).into()).is_public_suffix()
    }

    /// The domain somebody registered that this name lies in: `freebsd.org` for `pkg.freebsd.org`.
    #[must_use]
    pub fn registered_domain(&self) -> Option<&str> {
        psl::domain_str(&self.0)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is a host name just as it stands, as nearly all are. Seen in one pass; of what is not, the way is gone
/// that says why. Two hyphens in a row may be an A-label.
fn is_plain(text: &str) -> bool {
    let (mut before, mut begin, mut labels) = (b'.', 0, 1);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => {}
            b'-' if before != b'.' && before != b'-' => {}
            b'.' if before != b'.' && before != b'-' && at - begin <= LABEL_MAX => {
                begin = at + 1;
                labels += 1;
            }
            _ => return false,
        }
        before = byte;
    }
    // A last label that begins with a digit may be a number.
    let last = text.as_bytes().get(begin..).unwrap_or_default();
    let is_name = last.first().is_some_and(u8::is_ascii_lowercase) && last.len() <= LABEL_MAX && before != b'-';
    is_name && labels >= 2 && text.len() <= NAME_MAX
}

/// Whether something stands in a text that says what it is instead of a host name.
fn check_characters(text: &str) -> Result<(), HostError> {
    if text.chars().any(|c| c.is_whitespace() || is_invisible(c)) {
        return Err(HostError("holds a space or a character that cannot be seen"));
    }
    if text.contains('/') {
        return Err(HostError("is a URL or a path; write the host name alone"));
    }
    if text.contains('*') {
        return Err(HostError("has a `*` where no wildcard can stand"));
    }
    if text.contains(':') {
        return Err(HostError("has a `:`; write ports under `ports`"));
    }
    if text.contains('_') {
        return Err(HostError("has a `_`, which no host name can hold"));
    }
    Ok(())
}

fn check_labels(name: &str) -> Result<(), HostError> {
    if name.len() > NAME_MAX {
        return Err(HostError("is longer than the 253 characters DNS can carry"));
    }
    let mut labels = 0;
    let mut last: &[u8] = b"";
    for label in name.as_bytes().split(|b| *b == b'.') {
        labels += 1;
        last = label;
        if label.is_empty() || label.len() > LABEL_MAX {
            return Err(HostError("has a label that is empty or longer than 63 characters"));
        }
        if label.starts_with(b"-") || label.ends_with(b"-") {
            return Err(HostError("has a label that begins or ends with a hyphen"));
        }
        if !label.iter().all(|&b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return Err(HostError("holds a character that no host name can hold"));
        }
    }
    if last.iter().all(u8::is_ascii_digit) || last.starts_with(b"0x") {
        return Err(HostError("ends in a number: write an address as four decimal numbers or as IPv6"));
    }
    if labels < 2 {
        return Err(HostError("is a single label; write the full name, such as `nas.example.org`"));
    }
    Ok(())
}

/// A DNS service name such as `_http._tcp.pkg.freebsd.org`, whose SRV records select the hosts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service(Arc<ServiceParts>);

/// Its two leading labels, and the rest. Behind a pointer: services are few, and what may be one or an address is not to be
/// as large as both.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ServiceParts {
    labels: String,
    host: Host,
}

impl Service {
    /// Reads `_service._proto.host`.
    ///
    /// # Errors
    /// When the two leading labels are not `_name._tcp` or `_name._udp` (RFC 2782), or the rest is no host name.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        const SHAPE: HostError = HostError("is no service name: write `_service._tcp.host` or `_service._udp.host`");
        let lower = text.to_ascii_lowercase();
        let mut parts = lower.splitn(3, '.');
        let (Some(service), Some(proto), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(SHAPE);
        };
        let word = service.strip_prefix('_').ok_or(SHAPE)?;
        let good = !word.is_empty()
            && word.len() <= 15
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && matches!(proto, "_tcp" | "_udp");
        if !good {
            return Err(SHAPE);
        }
        Ok(Self(Arc::new(ServiceParts { labels: format!("{service}.{proto}"), host: Host::parse(rest)? })))
    }

    /// The protocol of its second label.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        if self.0.labels.ends_with("_udp") { Protocol::Udp } else { Protocol::Tcp }
    }

    /// The host part: `pkg.freebsd.org` of `_http._tcp.pkg.freebsd.org`.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.0.host
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.labels, self.0.host)
    }
}

/// What a resolver can be asked for: the addresses of a host, or the hosts an SRV record selects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Query {
    /// A and AAAA of a host.
    Host(Host),
    /// SRV of a service, then A and AAAA of each target.
    Service(Service),
}

impl Query {
    /// Reads either form as it stands in a lock.
    ///
    /// # Errors
    /// As [`Host::parse`] and [`Service::parse`].
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.starts_with('_') { Service::parse(text).map(Self::Service) } else { Host::parse(text).map(Self::Host) }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Service(service) => service.fmt(f),
        }
    }
}

/// A set of names a name-based target can match: one name, or every name below one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamePattern {
    /// Exactly this name.
    Exact(Host),
    /// Every name strictly below this one, at any depth; not the name itself.
    Below(Host),
}

impl NamePattern {
    /// Whether every name of `other` is a name of this pattern.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Below(a), Self::Exact(b)) => b.is_below(a),
            (Self::Below(a), Self::Below(b)) => a == b || b.is_below(a),
            (Self::Exact(_), Self::Below(_)) => false,
        }
    }
}

impl NamePattern {
    /// The name, or the one that all its names are below.
    #[must_use]
    pub fn host(&self) -> &Host {
        let (Self::Exact(host) | Self::Below(host)) = self;
        host
    }

    /// The name, where the pattern is one and no wildcard.
    #[must_use]
    pub fn exact(&self) -> Option<&Host> {
        if let Self::Exact(host) = self { Some(host) } else { None }
    }

    /// The patterns other than this one that cover it: all names below one of its parents.
    pub fn covering(&self) -> impl Iterator<Item = Self> + '_ {
        let host = self.host();
        let parents = host.as_str().match_indices('.').map(|(dot, _)| &host.as_str()[dot + 1..]);
        parents.filter(|parent| parent.contains('.')).map(|parent| Self::Below(Host(parent.into())))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => host.fmt(f),
            Self::Below(host) => write!(f, "*.{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_has_one_spelling() {
        for text in ["update.truenas.com", "UPDATE.TrueNAS.com", "update.truenas.com."] {
            assert_eq!(Host::parse(text).unwrap().as_str(), "update.truenas.com");
        }
        assert_eq!(Host::parse("bücher.example").unwrap().as_str(), "xn--bcher-kva.example");
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        for text in [
            "",
            ".",
            "a..b",
            ".a.b",
            "a.b..",
            "localhost",
            "a b.c",
            "a\n.b",
            "a;b.c",
            "a\"b.c",
            "a_b.c",
            "*.a.b",
            "a.*",
            "https://a.b/",
            "a.b/24",
            "a.b:443",
            "192.0.2.1",
            "0x7f.1",
            "010.0.0.1",
            "1.2.3.0x4",
            "[::1]",
            "::1",
            "-a.b",
            "a-.b",
            "a.b#c",
            "a.b\u{202e}",
            "xn--a.b\0",
            "a\\b.c",
            "ex%61mple.com",
            "a.b,c.d",
            "a@b.c",
        ] {
            assert!(Host::parse(text).is_err(), "{text:?} was taken");
        }
        assert!(Host::parse(&format!("{}.com", "a".repeat(64))).is_err());
        assert!(Host::parse(&vec!["abcdefg"; 33].join(".")).is_err());
    }

    #[test]
    fn punycode_that_hides_plain_letters_is_refused() {
        // RUSTSEC-2024-0421: two spellings of one host.
        assert!(Host::parse("xn--example-.org").is_err());
    }

    proptest::proptest! {
        #[test]
        fn idna_changes_the_case_of_plain_names_alone(
            name in proptest::prop_oneof![
                "[A-Za-z0-9-]{1,9}(\\.[A-Za-z0-9-]{1,9}){1,4}",
                "[a-c0-9]{1,3}([-.]{1,2}[a-c0-9]{1,3}){1,4}",
                "([a-z0-9]{50,70}\\.){1,4}(0x1|1|a1)",
            ]
        ) {
            let by_idna = idna::domain_to_ascii_strict(&name).ok().filter(|name| check_labels(name).is_ok());
            proptest::prop_assert_eq!(Host::parse(&name).ok().map(|host| host.as_str().to_owned()), by_idna);
        }
    }

    #[test]
    fn below_means_below() {
        let parent = Host::parse("docker.io").unwrap();
        assert!(Host::parse("auth.docker.io").unwrap().is_below(&parent));
        assert!(!Host::parse("docker.io").unwrap().is_below(&parent));
        assert!(!Host::parse("evildocker.io").unwrap().is_below(&parent));
    }

    #[test]
    fn what_covers_a_pattern_is_found_by_its_parents() {
        let host = |text: &str| Host::parse(text).unwrap();
        let pattern = NamePattern::Exact(host("a.b.example.com"));
        let covering: Vec<_> = pattern.covering().collect();
        assert_eq!(covering, [NamePattern::Below(host("b.example.com")), NamePattern::Below(host("example.com"))]);
        assert!(covering.iter().all(|wider| wider.covers(&pattern)));
        assert!(NamePattern::Below(host("b.example.com")).covering().eq([NamePattern::Below(host("example.com"))]));
    }

    #[test]
    fn public_suffixes_are_known() {
        assert!(Host::parse("co.uk").unwrap().is_public_suffix());
        assert!(Host::parse("github.io").unwrap().is_public_suffix());
        assert!(!Host::parse("truenas.com").unwrap().is_public_suffix());
        assert!(Host::parse("kawasaki.jp").unwrap().holds_public_suffixes());
        assert!(Host::parse("elb.amazonaws.com").unwrap().holds_public_suffixes());
        assert!(!Host::parse("docker.io").unwrap().holds_public_suffixes());
    }

    #[test]
    fn services_have_one_shape() {
        assert_eq!(Service::parse("_HTTP._tcp.pkg.FreeBSD.org").unwrap().to_string(), "_http._tcp.pkg.freebsd.org");
        for text in ["_http.pkg.freebsd.org", "_http._sctp.a.b", "http._tcp.a.b", "_._tcp.a.b", "_a\n._tcp.a.b"] {
            assert!(Service::parse(text).is_err(), "{text:?} was taken");
        }
    }
}

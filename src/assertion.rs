//! What a profile asserts of its own rules: who must reach what, and who must not. `outgate test` holds the rules to it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::addrs::short;
use crate::callout::{Endpoint, Origin};
use crate::diagnostic::{Code, Diagnostic, Findings, suggest};
use crate::host::{Host, NamePattern};
use crate::port::Port;
use crate::settings::Settings;
use crate::source::{SourceId, Span};
use crate::text::{Text, quoted};
use crate::yaml::Spanned;

/// One assertion of a profile.
#[derive(Clone, Debug)]
pub struct Test {
    /// What it is about, where the profile says so.
    pub name: Option<Text>,
    /// Who sends.
    pub from: Sender,
    /// What must get through and what must not, as written: what is allowed first. At least one.
    pub flows: Vec<Flow>,
    /// The targets it is about, each with its place. Empty: every target of the site.
    pub on: Vec<(&'static str, Span)>,
    /// Where it is written.
    pub span: Span,
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Every client of an origin.
    Origin(Origin),
    /// One client.
    Client(IpAddr),
}

impl Sender {
    /// The words for clients of an origin, as the profile has them under `clients`.
    pub const NAMES: [(&'static str, Origin); 4] =
        [("nas", Origin::Nas), ("admin", Origin::Browser), ("jails", Origin::Jail), ("apps", Origin::App)];
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(addr) => addr.fmt(f),
            Self::Origin(origin) => {
                let word = Self::NAMES.iter().find(|(_, known)| known == origin).map(|(word, _)| *word);
                f.write_str(word.unwrap_or(origin.as_str()))
            }
        }
    }
}

/// What is asserted of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// It gets through: to every address, on every port that is meant.
    Allow,
    /// It does not: to no address, on no port that is meant.
    Deny,
}

impl Wanted {
    /// The key in the profile.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }

    /// What must be so, in words.
    #[must_use]
    pub fn must(self) -> &'static str {
        match self {
            Self::Allow => "must reach",
            Self::Deny => "must not reach",
        }
    }
}

/// A flow that is asserted to get through, or not to.
#[derive(Clone, Debug)]
pub struct Flow {
    /// What is asserted.
    pub wanted: Wanted,
    /// Where it leads.
    pub to: To,
    /// On which port, or ports.
    pub port: Port,
    /// Where it is written.
    pub span: Span,
}

/// Where a flow leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// A host: by name to targets that go by name, and else by each address the lock knows of it.
    Host(Host),
    /// An address, or every address of a prefix.
    Net(IpNet),
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Net(net) if net.addr().is_ipv6() => write!(f, "[{}]", short(net)),
            Self::Net(net) => f.write_str(&short(net)),
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.to, self.port)
    }
}

/// The targets that let traffic out or hold it back, by name.
pub const WALLS: [&str; 6] = ["cilium", "lists", "nftables", "opnsense", "pf", "squid"];

/// The targets that answer for names: they let nothing out and hold nothing back.
pub const NAME_SERVERS: [&str; 4] = ["dnsmasq", "hosts", "rpz", "unbound"];

/// Who sends, as the profile spells it.
pub(crate) enum SenderText {}

/// A destination, as the profile spells it.
pub(crate) enum FlowText {}

/// A target of [`WALLS`], as the profile spells it.
pub(crate) enum WallWord {}

/// An assertion that `outgate test` holds the rules to.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTest {
    /// What it is about, on one line.
    name: Option<Spanned<String>>,
    /// Who sends: `nas`, `admin`, `jails`, `apps`, or the address of one client.
    #[schemars(with = "SenderText")]
    from: Spanned<String>,
    /// What must get through, such as `[update.example.com:443, "192.0.2.1:123/udp"]`: host or address, port, and a
    /// protocol where it is not TCP.
    #[schemars(with = "Option<Vec<FlowText>>", length(min = 1))]
    allow: Option<Spanned<Vec<Spanned<String>>>>,
    /// What must not get through, such as `[usage.example.com:443, "[2001:db8::1]:443"]`.
    #[schemars(with = "Option<Vec<FlowText>>", length(min = 1))]
    deny: Option<Spanned<Vec<Spanned<String>>>>,
    /// The targets it is about, where it is not every one.
    #[schemars(with = "Option<Vec<WallWord>>", length(min = 1))]
    on: Option<Spanned<Vec<Spanned<String>>>>,
}

/// Checks each assertion of a profile by itself. Every fault becomes a finding.
pub(crate) fn check(tests: &[RawTest], source: SourceId, findings: &mut Findings) -> Vec<Test> {
    let mut check = Check { source, findings };
    tests.iter().filter_map(|raw| check.test(raw)).collect()
}

/// Checks that assertions are about clients and targets that the profile has.
pub fn fit(tests: &[Test], clients: &BTreeMap<Origin, &[IpNet]>, settings: &Settings, findings: &mut Findings) {
    let have: Vec<&str> = WALLS.into_iter().filter(|name| has(settings, name)).collect();
    for test in tests {
        let (known, message, help) = match test.from {
            Sender::Origin(origin) => (
                clients.contains_key(&origin),
                format!("this profile names no clients `{}`", test.from),
                format!("name their addresses under `clients: {}:`, or take the test out", test.from),
            ),
            Sender::Client(addr) => (
                clients.values().any(|nets| nets.iter().any(|net| net.contains(&addr))),
                format!("no client of this profile has the address {addr}"),
                "an assertion is about clients that rules are for: name one of those under `clients`".to_owned(),
            ),
        };
        if !known {
            findings.push(Diagnostic::new(Code::UnknownName, message).at(test.span.clone(), "").help(help));
        }
        for (name, span) in test.on.iter().filter(|(name, _)| !have.contains(name)) {
            let help = match have.is_empty() {
                true => format!("add `{name}:` under `targets`, or take it out"),
                false => format!("add `{name}:` under `targets`, or name one of: {}", have.join(", ")),
            };
            let message = format!("this site has no target `{name}`");
            findings.push(Diagnostic::new(Code::BadSetting, message).at(span.clone(), "").help(help));
        }
    }
}

struct Check<'a> {
    source: SourceId,
    findings: &'a mut Findings,
}

type List = Option<Spanned<Vec<Spanned<String>>>>;

impl Check<'_> {
    fn fail<T>(&mut self, code: Code, message: String, at: &Spanned<T>, help: &str) {
        let diagnostic = Diagnostic::new(code, message).at(at.span(self.source), "");
        self.findings.push(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
    }

    fn test(&mut self, raw: &RawTest) -> Option<Test> {
        let mark = self.findings.mark();
        let name = raw.name.as_ref().and_then(|name| self.text(name));
        let from = self.from(&raw.from);
        let mut flows = self.flows(&raw.allow, Wanted::Allow);
        flows.extend(self.flows(&raw.deny, Wanted::Deny));
        if raw.allow.is_none() && raw.deny.is_none() {
            let help = "say what must get through under `allow`, or what must not under `deny`";
            self.fail(Code::Empty, "this test asserts nothing".to_owned(), &raw.from, help);
        }
        let on = self.on(&raw.on);
        let good = !self.findings.errors_since(mark);
        from.filter(|_| good).map(|from| Test { name, from, flows, on, span: raw.from.span(self.source) })
    }

    fn text(&mut self, text: &Spanned<String>) -> Option<Text> {
        let error = match Text::parse(&text.value) {
            Ok(text) => return Some(text),
            Err(error) => error,
        };
        self.fail(Code::BadText, format!("`{}` {error}", quoted(&text.value)), text, "");
        None
    }

    fn from(&mut self, word: &Spanned<String>) -> Option<Sender> {
        let shown = quoted(&word.value);
        if let Some(&(_, origin)) = Sender::NAMES.iter().find(|(name, _)| *name == word.value) {
            return Some(Sender::Origin(origin));
        }
        let Ok(addr) = word.value.parse::<IpAddr>() else {
            let message = format!("`{shown}` is neither a kind of clients nor an address");
            let mut help = suggest(&word.value, &Sender::NAMES.map(|(name, _)| name));
            if help.starts_with("one of") {
                help += ", or the address of one client";
            }
            self.fail(Code::UnknownName, message, word, &help);
            return None;
        };
        Some(Sender::Client(addr))
    }

    fn flows(&mut self, list: &List, wanted: Wanted) -> Vec<Flow> {
        let Some(list) = list else { return Vec::new() };
        if list.value.is_empty() {
            let key = wanted.as_str();
            let help = "name a destination, or leave the key out";
            self.fail(Code::Empty, format!("`{key}` names no destination"), list, help);
        }
        let mut flows = Vec::new();
        for text in &list.value {
            match destination(&text.value) {
                Ok((to, port)) => flows.push(Flow { wanted, to, port, span: text.span(self.source) }),
                Err((code, message, help)) => self.fail(code, message, text, help),
            }
        }
        flows
    }

    fn on(&mut self, list: &List) -> Vec<(&'static str, Span)> {
        let Some(list) = list else { return Vec::new() };
        if list.value.is_empty() {
            let help = "name a target, or leave the key out: then it is about every target";
            self.fail(Code::Empty, "`on` names no target".to_owned(), list, help);
        }
        let mut on = Vec::new();
        for word in &list.value {
            let shown = quoted(&word.value);
            if NAME_SERVERS.contains(&word.value.as_str()) {
                let message = format!("`{shown}` answers for names: it lets nothing out and holds nothing back");
                let help = format!("name a target that does: {}", WALLS.join(", "));
                self.fail(Code::BadSetting, message, word, &help);
            } else if let Some(name) = WALLS.into_iter().find(|name| *name == word.value) {
                on.push((name, word.span(self.source)));
            } else {
                let help = suggest(&word.value, &WALLS);
                self.fail(Code::UnknownName, format!("there is no target `{shown}`"), word, &help);
            }
        }
        on
    }
}

/// Whether a site has a target of [`WALLS`].
fn has(settings: &Settings, name: &str) -> bool {
    match name {
        "cilium" => settings.cilium.is_some(),
        "lists" => settings.lists.is_some(),
        "nftables" => settings.nftables.is_some(),
        "opnsense" => settings.opnsense.is_some(),
        "pf" => settings.pf.is_some(),
        "squid" => settings.squid.is_some(),
        _ => false,
    }
}

/// Reads `update.example.com:443`, `192.0.2.1:123/udp` or `[2001:db8::/48]:8443-8450/tcp`; TCP where nothing is said.
///
/// # Errors
/// The finding's code, message and help.
fn destination(text: &str) -> Result<(To, Port), (Code, String, &'static str)> {
    const FORM: &str = "write `update.example.com:443`, `192.0.2.1:123/udp` or `[2001:db8::1]:443/tcp`";
    let shown = quoted(text);
    let no_port = || (Code::BadPort, format!("`{shown}` has no port"), FORM);
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (addr, port) = rest.split_once(']').ok_or((Code::BadPrefix, format!("`{shown}` has no `]`"), FORM))?;
            if !addr.contains(':') {
                let message = format!("`{}` in brackets is no IPv6 address", quoted(addr));
                return Err((Code::BadPrefix, message, FORM));
            }
            (addr, port.strip_prefix(':').ok_or_else(no_port)?)
        }
        None => {
            let (host, port) = text.rsplit_once(':').ok_or_else(no_port)?;
            if host.contains(':') && !host.contains("://") {
                let message = format!("`{shown}`: an IPv6 address stands in brackets before its port");
                return Err((Code::BadPrefix, message, FORM));
            }
            (host, port)
        }
    };
    let whole = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
    let port = Port::parse(&whole).map_err(|e| (Code::BadPort, format!("`{}` {e}", quoted(port)), FORM))?;
    match Endpoint::parse(host).map_err(|(code, message)| (code, message, FORM))? {
        Endpoint::Net(net) => Ok((To::Net(net), port)),
        Endpoint::Name(NamePattern::Exact(host)) => Ok((To::Host(host), port)),
        Endpoint::Name(NamePattern::Below(_)) | Endpoint::Service(_) => {
            let message = format!("`{}` is no single host", quoted(host));
            Err((Code::BadHost, message, "an assertion is about hosts: name one of those that are meant"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, Code> {
        destination(text).map(|(to, port)| format!("{to}:{port}")).map_err(|(code, ..)| code)
    }

    #[test]
    fn destinations_have_one_form() {
        for (text, means) in [
            ("Update.Example.com:443", "update.example.com:443/tcp"),
            ("update.example.com:8443-8450/udp", "update.example.com:8443-8450/udp"),
            ("192.0.2.1:123/udp", "192.0.2.1:123/udp"),
            ("192.0.2.0/24:443", "192.0.2.0/24:443/tcp"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443/tcp"),
            ("[2001:db8::/48]:1-2/tcp", "[2001:db8::/48]:1-2/tcp"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(means), "{text}");
        }
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for (text, code) in [
            ("", Code::BadPort),
            ("update.example.com", Code::BadPort),
            ("update.example.com:", Code::BadPort),
            ("update.example.com:0", Code::BadPort),
            ("update.example.com:65536", Code::BadPort),
            ("update.example.com:https", Code::BadPort),
            ("update.example.com:443/sctp", Code::BadPort),
            ("update.example.com:443/", Code::BadPort),
            ("https://update.example.com:443", Code::BadHost),
            ("*.example.com:443", Code::BadHost),
            ("_http._tcp.example.com:443", Code::BadHost),
            ("localhost:443", Code::BadHost),
            ("co.uk:443", Code::BadHost),
            (":443", Code::BadHost),
            ("2001:db8::1:443", Code::BadPrefix),
            ("2001:db8::1", Code::BadPrefix),
            ("[2001:db8::1]", Code::BadPort),
            ("[2001:db8::1", Code::BadPrefix),
            ("[2001:db8::1]443", Code::BadPort),
            ("[192.0.2.1]:443", Code::BadPrefix),
            ("[update.example.com]:443", Code::BadPrefix),
            ("192.0.2.1/24:443", Code::BadPrefix),
            ("0.0.0.0/0:443", Code::BadPrefix),
            ("[::/0]:443", Code::BadPrefix),
            ("update.example.com\n:443", Code::BadHost),
            ("update.example.com:443\n", Code::BadPort),
        ] {
            assert_eq!(read(text), Err(code), "{text:?}");
        }
    }
}

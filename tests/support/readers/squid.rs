//! A Squid include and its lists, read back.
//!
//! - Of `http_access` the first line of which every ACL holds decides; with none, the opposite of the last line.
//! - Where a CONNECT is let in on the port with `ssl-bump`, `ssl_bump` decides at step 1 and, after a peek, at step 2; what
//!   is not TLS then gets an error page.
//! - `.name` in a list is the name and all below it. Without `-n` an address is looked up backwards, and its owner's word
//!   for its name counts.
//! - `ssl::server_name` goes by the name in the client's hello, and by that of the CONNECT where there is none.

use std::collections::BTreeMap;
use std::net::IpAddr;

use regex_lite::Regex;

use super::packet::{Addrs, Net};
use super::{Files, Refused, unknown};

/// The include, read.
#[derive(Clone, Debug)]
pub(crate) struct Squid {
    port: u16,
    acls: BTreeMap<String, Vec<Acl>>,
    access: Vec<Line>,
    bump: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    action: String,
    /// Names, each with whether it is negated.
    acls: Vec<(bool, String)>,
}

#[derive(Clone, Debug)]
enum Acl {
    Port(String),
    Method(String),
    Proto(String),
    Number(u16),
    Step(u8),
    Pattern { backwards: bool, patterns: Vec<Regex> },
    Source(Net),
    Destination(Net),
    Domain { backwards: bool, names: Vec<String> },
    ServerName(Vec<String>),
    All,
}

/// What a client says after a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// No CONNECT: a plain request.
    Plain,
    /// A TLS hello, with or without a name.
    Tls(Option<String>),
    /// Something else.
    Other,
}

/// A request to the proxy.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) client: IpAddr,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) hello: Hello,
    /// `HTTP`, or another scheme for a plain request.
    pub(crate) scheme: &'static str,
    /// Whether it came by the include's own port.
    pub(crate) own_port: bool,
    /// What the owner of the address says it is called.
    pub(crate) backwards: Option<String>,
}

impl Squid {
    /// Reads `outgate.conf` and the lists it names. `folder` is where the lists are to lie.
    pub(crate) fn read(files: &Files, folder: &str) -> Result<Self, Refused> {
        let mut squid = Self { port: 0, acls: BTreeMap::new(), access: Vec::new(), bump: Vec::new() };
        squid.acls.insert("all".to_owned(), vec![Acl::All]);
        let mut respond = false;
        for line in files.get("outgate.conf").ok_or("there is no outgate.conf")?.lines() {
            let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
            match words.as_slice() {
                [] => {}
                ["http_port", port, "name=outgate", "ssl-bump", cert, "generate-host-certificates=off"]
                    if squid.port == 0 && cert.starts_with("tls-cert=/") =>
                {
                    squid.port = port.parse().map_err(|_| unknown(line))?;
                }
                ["acl", name, rest @ ..] => squid.acl(name, rest, files, folder)?,
                ["http_access", action @ ("allow" | "deny"), rest @ ..] => {
                    let line = squid.line(action, rest)?;
                    squid.access.push(line);
                }
                ["ssl_bump", action @ ("peek" | "splice" | "terminate"), rest @ ..] => {
                    let line = squid.line(action, rest)?;
                    squid.bump.push(line);
                }
                ["on_unsupported_protocol", "respond", "all"] if !respond => respond = true,
                _ => return Err(unknown(line)),
            }
        }
        if squid.port == 0 || !respond {
            return Err(unknown("no port, or no word of what is no TLS"));
        }
        Ok(squid)
    }

    fn line(&self, action: &str, words: &[&str]) -> Result<Line, Refused> {
        let mut acls = Vec::new();
        for word in words {
            let (negated, name) = word.strip_prefix('!').map_or((false, *word), |rest| (true, rest));
            if !self.acls.contains_key(name) {
                return Err(format!("ACL not found: {name}"));
            }
            acls.push((negated, name.to_owned()));
        }
        if acls.is_empty() {
            return Err(unknown(format!("{action} without ACLs")));
        }
        Ok(Line { action: action.to_owned(), acls })
    }

    fn acl(&mut self, name: &str, words: &[&str], files: &Files, folder: &str) -> Result<(), Refused> {
        if name.len() > 63 {
            return Err(format!("the name of an ACL is longer than 63 characters: {name}"));
        }
        let acl = match words {
            ["myportname", name] => Acl::Port((*name).to_owned()),
            // A mark for the log, which is always true.
            ["annotate_transaction", mark] if mark.starts_with("outgate=") => Acl::All,
            ["method", method] => Acl::Method((*method).to_owned()),
            ["proto", proto] => Acl::Proto((*proto).to_owned()),
            ["port", port] => Acl::Number(port.parse().map_err(|_| unknown(format!("port {port}")))?),
            ["at_step", "SslBump1"] => Acl::Step(1),
            ["at_step", "SslBump2"] => Acl::Step(2),
            ["dstdom_regex", rest @ ..] => {
                let (backwards, patterns) = without_n(rest);
                let patterns = patterns.iter().map(|p| Regex::new(p).map_err(unknown)).collect::<Result<_, _>>()?;
                Acl::Pattern { backwards, patterns }
            }
            ["src", net] => Acl::Source(Net::parse(net).ok_or_else(|| unknown(format!("src {net}")))?),
            ["dst", net] => Acl::Destination(Net::parse(net).ok_or_else(|| unknown(format!("dst {net}")))?),
            ["dstdomain", rest @ ..] => {
                let (backwards, rest) = without_n(rest);
                Acl::Domain { backwards, names: names(rest, files, folder)? }
            }
            ["ssl::server_name", "--client-requested", rest @ ..] | ["ssl::server_name", rest @ ..] => {
                // At step 2 there is no certificate yet: without the option the same names are compared.
                Acl::ServerName(names(rest, files, folder)?)
            }
            _ => return Err(unknown(format!("acl {name} {words:?}"))),
        };
        let list = self.acls.entry(name.to_owned()).or_default();
        if list.first().is_some_and(|first| std::mem::discriminant(first) != std::mem::discriminant(&acl)) {
            return Err(format!("ACL {name} has two types"));
        }
        list.push(acl);
        Ok(())
    }

    /// Whether a request gets through to where it leads.
    pub(crate) fn allows(&self, ask: &Ask) -> bool {
        let mut decided = None;
        for line in &self.access {
            if self.meets(line, ask, 0) {
                decided = Some(line.action == "allow");
                break;
            }
        }
        let allowed = decided.unwrap_or_else(|| self.access.last().is_some_and(|line| line.action == "deny"));
        if !allowed || ask.hello == Hello::Plain || !ask.own_port {
            return allowed;
        }
        let at = |step: u8| {
            let line =
                self.bump.iter().find(|line| self.meets(line, ask, step) && (step == 1 || line.action != "peek"));
            line.map_or("splice", |line| line.action.as_str())
        };
        match at(1) {
            "splice" => true,
            "terminate" => false,
            // The hello has been looked at; what is none gets an error page.
            _ => matches!(ask.hello, Hello::Tls(_)) && at(2) == "splice",
        }
    }

    fn meets(&self, line: &Line, ask: &Ask, step: u8) -> bool {
        line.acls.iter().all(|(negated, name)| {
            let acls = self.acls.get(name).map(Vec::as_slice).unwrap_or_default();
            acls.iter().any(|acl| acl.holds(ask, step)) != *negated
        })
    }

    /// Every name it knows, and every set of clients.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut found = Vec::new();
        for acl in self.acls.values().flatten() {
            if let Acl::Domain { names, .. } | Acl::ServerName(names) = acl {
                found.extend(names.iter().cloned());
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// Every prefix of clients and of addresses it names.
    pub(crate) fn nets(&self) -> Vec<Addrs> {
        let of = |acl: &Acl| match acl {
            Acl::Source(net) | Acl::Destination(net) => Some(Addrs::of_entries(vec![(*net, false)])),
            _ => None,
        };
        self.acls.values().flatten().filter_map(of).collect()
    }

    /// The rules with their ACLs written out.
    pub(crate) fn model(&self) -> Vec<String> {
        let mut lines = vec![format!("port {}", self.port)];
        for (what, list) in [("access", &self.access), ("bump", &self.bump)] {
            for line in list {
                let acls = line.acls.iter().map(|(negated, name)| format!("not:{negated} {:?}", self.acls.get(name)));
                lines.push(format!("{what} {} {}", line.action, acls.collect::<Vec<_>>().join(" ")));
            }
        }
        lines
    }
}

/// Whether `-n` is missing, and the rest.
fn without_n<'a, 'b>(words: &'a [&'b str]) -> (bool, &'a [&'b str]) {
    match words {
        ["-n", rest @ ..] => (false, rest),
        rest => (true, rest),
    }
}

/// Names in the line, or those of a file in quotes.
fn names(words: &[&str], files: &Files, folder: &str) -> Result<Vec<String>, Refused> {
    let mut found = Vec::new();
    for word in words {
        match word.strip_prefix('"').and_then(|w| w.strip_suffix('"')) {
            None => found.push((*word).to_owned()),
            Some(path) => {
                let name = path.strip_prefix(folder).and_then(|p| p.strip_prefix('/'));
                let file = name.and_then(|name| files.get(&format!("lists/{name}")));
                for line in file.ok_or_else(|| format!("{path}: no such file"))?.lines() {
                    let line = line.split('#').next().unwrap_or("").trim();
                    if !line.is_empty() {
                        found.push(line.to_owned());
                    }
                }
            }
        }
    }
    if found.is_empty() {
        return Err("an ACL of no names".to_owned());
    }
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    };
    for name in &found {
        // `*.name`, a final dot, a port, two names on a line: Squid takes them, and they match nothing.
        if !name.strip_prefix('.').unwrap_or(name).split('.').all(label) {
            return Err(unknown(format!("name `{name}`")));
        }
        let covered =
            |other: &String| other != name && other.starts_with('.') && covers(other, name.trim_start_matches('.'));
        if let Some(wider) = found.iter().find(|other| covered(other)) {
            return Err(format!("`{name}` is covered by `{wider}`"));
        }
    }
    Ok(found)
}

fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('.') {
        Some(parent) => name == parent || name.strip_suffix(parent).is_some_and(|below| below.ends_with('.')),
        None => name == pattern,
    }
}

impl Acl {
    fn holds(&self, ask: &Ask, step: u8) -> bool {
        let host = ask.host.to_lowercase();
        let host = host.trim_end_matches('.');
        let literal: Option<IpAddr> = host.parse().ok();
        let backwards = ask.backwards.as_deref().filter(|_| literal.is_some());
        match self {
            Self::All => true,
            Self::Port(name) => ask.own_port && name == "outgate",
            Self::Method(method) => (method == "CONNECT") == (ask.hello != Hello::Plain),
            Self::Proto(proto) => ask.hello == Hello::Plain && proto == ask.scheme,
            Self::Number(port) => ask.port == *port,
            Self::Step(number) => *number == step,
            Self::Pattern { backwards: allowed, patterns } => {
                let shown = match literal {
                    Some(IpAddr::V6(v6)) => format!("[{v6}]"),
                    _ => host.to_owned(),
                };
                let name = backwards.filter(|_| *allowed).unwrap_or(&shown);
                patterns.iter().any(|p| p.is_match(&shown) || p.is_match(name))
            }
            Self::Source(net) => Addrs::of_entries(vec![(*net, false)]).contains(ask.client),
            Self::Destination(net) => literal.is_some_and(|at| Addrs::of_entries(vec![(*net, false)]).contains(at)),
            Self::Domain { backwards: allowed, names } => {
                let name = if *allowed { backwards.unwrap_or(host) } else { host };
                names.iter().any(|pattern| covers(pattern, host) || covers(pattern, name))
            }
            Self::ServerName(names) => {
                let hello = match &ask.hello {
                    Hello::Tls(Some(name)) => name.to_lowercase(),
                    _ => host.to_owned(),
                };
                names.iter().any(|pattern| covers(pattern, &hello))
            }
        }
    }
}

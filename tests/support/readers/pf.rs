//! An anchor file of pf and its table files, read back.
//!
//! - A rule without `quick` is overtaken by each later one that matches, those of the main file included; a rule with it
//!   is final. What no rule matches, the main file decides.
//! - A rule without `inet` or `inet6` is about both families; of a table then counts what is of the packet's family.
//! - In a table the longest prefix that holds an address decides, a `!` in front takes it out. A table that is nowhere
//!   declared is empty.
//! - `block` with `return` or `drop` blocks; `flags S/SA` and `keep state` are what opens a connection.

use std::collections::BTreeMap;

use super::packet::{Addrs, Enforcer, Fate, Interface, Net, Packet, Path, Proto, Verdict};
use super::{Files, Refused, unknown};

/// The file, read.
#[derive(Clone, Debug)]
pub(crate) struct Pf {
    interface: String,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    action: &'static str,
    inbound: bool,
    log: bool,
    quick: bool,
    interface: Option<String>,
    v6: Option<bool>,
    proto: Option<&'static str>,
    from: Side,
    from_ports: Vec<(u16, u16)>,
    to: Side,
    ports: Vec<(u16, u16)>,
    icmp6: Vec<u8>,
    label: String,
}

#[derive(Clone, Debug)]
struct Side {
    negated: bool,
    addrs: Addrs,
}

/// What is left of a line, word by word.
struct Words<'a> {
    line: &'a str,
    words: std::iter::Peekable<std::vec::IntoIter<String>>,
}

impl<'a> Words<'a> {
    /// Splits a line. `{`, `}`, `!` and quoted texts are words of their own; a `#` begins a comment.
    fn of(line: &'a str) -> Result<Self, Refused> {
        let mut words = Vec::new();
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '#' => break,
                '{' | '}' | '!' => 1,
                '"' => 2 + rest[1..].find('"').ok_or_else(|| unknown(format!("a quote that does not end: {line}")))?,
                _ => rest.find(|c: char| c.is_whitespace() || "{}!#\"".contains(c)).unwrap_or(rest.len()),
            };
            words.push(rest[..length].to_owned());
            rest = rest[length..].trim_start();
        }
        Ok(Self { line, words: words.into_iter().peekable() })
    }

    fn next(&mut self) -> Result<String, Refused> {
        self.words.next().ok_or_else(|| unknown(format!("a line that ends too early: {}", self.line)))
    }

    fn take(&mut self, word: &str) -> bool {
        self.words.next_if(|next| next == word).is_some()
    }

    fn expect(&mut self, word: &str) -> Result<(), Refused> {
        let next = self.next()?;
        if next == word { Ok(()) } else { Err(unknown(format!("`{next}` where `{word}` belongs: {}", self.line))) }
    }

    fn quoted(&mut self) -> Result<String, Refused> {
        let next = self.next()?;
        let text = next.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        text.map(str::to_owned).ok_or_else(|| unknown(format!("`{next}` without quotes: {}", self.line)))
    }

    /// `{ a b }`, at least one, or one word alone.
    fn list(&mut self) -> Result<Vec<String>, Refused> {
        if !self.take("{") {
            return Ok(vec![self.next()?]);
        }
        let mut items = Vec::new();
        while !self.take("}") {
            items.push(self.next()?);
        }
        if items.is_empty() { Err(format!("an empty list: {}", self.line)) } else { Ok(items) }
    }
}

/// `<name>`, at most 31 characters, as pf allows.
fn table_name(word: &str) -> Result<String, Refused> {
    let name = word.strip_prefix('<').and_then(|w| w.strip_suffix('>'));
    let good = |n: &&str| {
        (1..=31).contains(&n.len())
            && n.starts_with(|c: char| c.is_ascii_alphabetic())
            && n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    name.filter(good).map(str::to_owned).ok_or_else(|| unknown(format!("`{word}` as a table")))
}

/// A table file: addresses and prefixes, one or more a line, comments behind `#`.
fn table_file(text: &str) -> Result<Addrs, Refused> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let words = line.split('#').next().unwrap_or("").split_whitespace();
        for word in words {
            let (negated, word) = word.strip_prefix('!').map_or((false, word), |rest| (true, rest));
            entries.push((Net::parse(word).ok_or_else(|| unknown(format!("`{word}` in a table")))?, negated));
        }
    }
    Ok(Addrs::of_entries(entries))
}

impl Pf {
    /// Reads `outgate.conf` and what it names. `folder` is where the files are to lie, `interface` the one of the clients.
    pub(crate) fn read(files: &Files, folder: &str, interface: &str) -> Result<Self, Refused> {
        let text = files.get("outgate.conf").ok_or("there is no outgate.conf")?;
        if text.contains('\r') || !text.ends_with('\n') {
            return Err("a line ends with CR, or the last has no end".to_owned());
        }
        let (mut tables, mut lines) = (BTreeMap::new(), Vec::new());
        let mut all = text.lines();
        while let Some(line) = all.next() {
            let mut words = Words::of(line)?;
            let Some(first) = words.words.peek() else { continue };
            if first != "table" {
                lines.push(words);
                continue;
            }
            words.expect("table")?;
            let name = table_name(&words.next()?)?;
            words.expect("persist")?;
            let set = if words.take("{") {
                let held: Vec<&str> = all.by_ref().take_while(|line| *line != "}").collect();
                table_file(&held.join("\n"))?
            } else {
                words.expect("file")?;
                let path = words.quoted()?;
                let file = path.strip_prefix(folder).and_then(|p| p.strip_prefix('/')).and_then(|p| files.get(p));
                table_file(file.ok_or_else(|| format!("{path}: no such file"))?)?
            };
            if words.words.next().is_some() || tables.insert(name, set).is_some() {
                return Err(unknown(line));
            }
        }
        // Tables are known wherever they stand; rules keep their order.
        let rules = lines.into_iter().map(|words| rule(words, &tables)).collect::<Result<_, _>>()?;
        Ok(Self { interface: interface.to_owned(), rules })
    }
}

fn rule(mut words: Words<'_>, tables: &BTreeMap<String, Addrs>) -> Result<Rule, Refused> {
    let line = words.line;
    let action = match words.next()?.as_str() {
        "pass" => "pass",
        "block" if words.take("return") => "block return",
        "block" if words.take("drop") => "block drop",
        other => return Err(unknown(format!("`{other}` begins a line: {line}"))),
    };
    let inbound = match words.next()?.as_str() {
        "in" => true,
        "out" => false,
        other => return Err(unknown(format!("`{other}` as a direction: {line}"))),
    };
    let log = words.take("log");
    let quick = words.take("quick");
    let interface = if words.take("on") { Some(words.next()?) } else { None };
    let v6 = if words.take("inet") { Some(false) } else { words.take("inet6").then_some(true) };
    let proto = match words.take("proto").then(|| words.next()).transpose()?.as_deref() {
        None => None,
        Some("tcp") => Some("tcp"),
        Some("udp") => Some("udp"),
        Some("icmp6") => Some("icmp6"),
        Some(other) => return Err(unknown(format!("protocol `{other}`: {line}"))),
    };
    let mut from_ports = Vec::new();
    let (from, to) = if words.take("all") {
        (every(), every())
    } else {
        words.expect("from")?;
        let from = side(&mut words, tables)?;
        if words.take("port") {
            if !matches!(proto, Some("tcp" | "udp")) {
                return Err(format!("port only applies to tcp and udp: {line}"));
            }
            from_ports = words.list()?.iter().map(|port| range(port)).collect::<Result<_, _>>()?;
        }
        words.expect("to")?;
        (from, side(&mut words, tables)?)
    };
    let mut rule = Rule {
        action,
        inbound,
        log,
        quick,
        interface,
        v6,
        proto,
        from,
        from_ports,
        to,
        ports: Vec::new(),
        icmp6: Vec::new(),
        label: String::new(),
    };
    if words.take("port") {
        if !matches!(proto, Some("tcp" | "udp")) {
            return Err(format!("port only applies to tcp and udp: {line}"));
        }
        rule.ports = words.list()?.iter().map(|port| range(port)).collect::<Result<_, _>>()?;
    }
    while let Some(option) = words.words.next() {
        match option.as_str() {
            "flags" if proto == Some("tcp") && action == "pass" => words.expect("S/SA")?,
            "keep" if action == "pass" => words.expect("state")?,
            "icmp6-type" if proto == Some("icmp6") && v6 == Some(true) => {
                rule.icmp6 = words.list()?.iter().map(|word| icmp6_type(word)).collect::<Result<_, _>>()?;
            }
            "label" => rule.label = words.quoted()?,
            other => return Err(unknown(format!("`{other}`: {line}"))),
        }
    }
    if rule.label.len() > 63 {
        return Err(format!("a label of more than 63 characters: {line}"));
    }
    Ok(rule)
}

fn every() -> Side {
    Side { negated: false, addrs: Addrs::every() }
}

fn side(words: &mut Words<'_>, tables: &BTreeMap<String, Addrs>) -> Result<Side, Refused> {
    let negated = words.take("!");
    let word = words.next()?;
    let addrs = match word.as_str() {
        "any" if !negated => Addrs::every(),
        _ => tables.get(&table_name(&word)?).cloned().unwrap_or_default(),
    };
    Ok(Side { negated, addrs })
}

fn range(text: &str) -> Result<(u16, u16), Refused> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().map_err(|_| unknown(format!("port `{text}`")));
    let (first, last) = (number(first)?, number(last)?);
    if first > last { Err(format!("a range of ports backwards: {text}")) } else { Ok((first, last)) }
}

fn icmp6_type(word: &str) -> Result<u8, Refused> {
    match word {
        "neighbrsol" => Ok(135),
        "neighbradv" => Ok(136),
        "routersol" => Ok(133),
        other => Err(unknown(format!("ICMPv6 type `{other}`"))),
    }
}

impl Side {
    fn matches(&self, addr: std::net::IpAddr) -> bool {
        self.addrs.contains(addr) != self.negated
    }
}

impl Rule {
    fn matches(&self, packet: &Packet, interface: &str) -> bool {
        let by = match (self.interface.as_deref(), packet.interface) {
            (None, _) => true,
            (Some(name), Interface::Ours) => name == interface,
            // Names of ours never are those of another interface.
            (Some(_), Interface::Other | Interface::Loopback) => false,
        };
        let proto = match (self.proto, packet.proto) {
            (None, _) | (Some("tcp"), Proto::Tcp) | (Some("udp"), Proto::Udp) => true,
            (Some("icmp6"), Proto::Icmp(kind)) => {
                packet.is_v6() && (self.icmp6.is_empty() || self.icmp6.contains(&kind))
            }
            _ => false,
        };
        by && proto
            && self.inbound == (packet.path == Path::Through)
            && self.v6.is_none_or(|v6| v6 == packet.is_v6())
            && (self.ports.is_empty() || self.ports.iter().any(|(a, b)| (*a..=*b).contains(&packet.port)))
            && self.to.matches(packet.dst)
            && self.from.matches(packet.src)
            && (self.from_ports.is_empty()
                || self.from_ports.iter().any(|(a, b)| (*a..=*b).contains(&packet.source_port)))
    }
}

impl Enforcer for Pf {
    fn judge(&self, packet: &Packet) -> Verdict {
        let mut verdict = Verdict::unmatched();
        for rule in self.rules.iter().filter(|rule| rule.matches(packet, &self.interface)) {
            let pass = rule.action == "pass";
            let label = rule.label.strip_prefix("outgate:").unwrap_or(&rule.label);
            if rule.quick {
                return Verdict::new(if pass { Fate::Pass } else { Fate::Block }, label);
            }
            verdict = Verdict::new(Fate::Provisional(pass), label);
        }
        verdict
    }

    fn sets(&self) -> Vec<&Addrs> {
        self.rules.iter().flat_map(|rule| [&rule.from.addrs, &rule.to.addrs]).collect()
    }

    fn ports(&self) -> Vec<(u16, u16)> {
        self.rules.iter().flat_map(|rule| rule.ports.iter().copied()).collect()
    }

    fn model(&self) -> Vec<String> {
        let not = |side: &Side| if side.negated { format!("not {}", side.addrs) } else { side.addrs.to_string() };
        let line = |rule: &Rule| {
            let Rule { action, inbound, log, quick, interface, v6, proto, from, to, ports, icmp6, .. } = rule;
            format!(
                "{action} in:{inbound} log:{log} quick:{quick} on {interface:?} v6:{v6:?} {proto:?} from {} to {} \
                 ports {ports:?} types {icmp6:?}",
                not(from),
                not(to)
            )
        };
        self.rules.iter().map(line).collect()
    }
}

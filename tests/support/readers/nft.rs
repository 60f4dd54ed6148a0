//! A file for `nft -f`, read back: what the kernel holds after it was loaded where nothing of it was before.
//!
//! - Commands run in order, in one transaction: a table, set or chain that is declared again is added to; `flush table`
//!   takes the rules out of its chains, `flush set` the elements out of a set.
//! - A packet runs through the chain of its hook. `jump` comes back, `goto` comes back to where the chain was called
//!   from; accept, drop and reject are final for this table. At its end the base chain's policy holds.
//! - Packets here open a flow: the state `established`, `related` or `invalid` is never theirs.

use std::collections::BTreeMap;

use super::packet::{Addrs, Enforcer, Fate, Interface, Net, Packet, Path, Proto, Verdict};
use super::{Files, Refused, unknown};

/// The file, read.
#[derive(Clone, Debug)]
pub(crate) struct Nft {
    interface: String,
    /// Name of the table.
    pub(crate) table: String,
    sets: BTreeMap<String, Set>,
    /// Sets that no address is in: numbers, hardware addresses.
    others: BTreeMap<String, Vec<String>>,
    chains: BTreeMap<String, Chain>,
}

#[derive(Clone, Debug)]
struct Set {
    v6: bool,
    interval: bool,
    elements: Vec<Net>,
    addrs: Addrs,
}

#[derive(Clone, Debug, Default)]
struct Chain {
    hook: Option<(String, String)>,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    matches: Vec<Match>,
    verdict: Option<Action>,
    log: Option<String>,
    comment: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Match {
    Addr {
        source: bool,
        v6: bool,
        set: String,
    },
    Ports {
        proto: Proto,
        source: bool,
        ranges: Vec<(u16, u16)>,
    },
    Icmp6(Vec<u8>),
    Hops6(u8),
    Proto(Proto),
    V6,
    InBy(String),
    InByOne(Vec<String>),
    /// A set of hardware addresses.
    Hardware(String),
    OutBy(String),
    /// Established, related or invalid: no packet that opens a flow.
    Known,
    /// Not every packet, whichever.
    Sometimes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Accept,
    Drop,
    Reject,
    Jump(String),
    Goto(String),
}

/// What a chain says: a verdict with the comment of the rule, or nothing.
type Said<'a> = Option<(Fate, &'a str)>;

struct Tokens {
    all: Vec<String>,
    at: usize,
}

impl Tokens {
    /// Words; `{`, `}`, `,`, `;`, line ends and quoted texts are words of their own.
    fn of(text: &str) -> Result<Self, Refused> {
        let mut all = Vec::new();
        for line in text.lines() {
            let mut rest = line.trim_start();
            while let Some(first) = rest.chars().next() {
                let length = match first {
                    '#' => break,
                    '{' | '}' | ',' | ';' => 1,
                    '"' => {
                        2 + rest[1..].find('"').ok_or_else(|| unknown(format!("a quote that does not end: {line}")))?
                    }
                    _ => rest.find(|c: char| c.is_whitespace() || "{},;#\"".contains(c)).unwrap_or(rest.len()),
                };
                all.push(rest[..length].to_owned());
                rest = rest[length..].trim_start();
            }
            all.push("\n".to_owned());
        }
        Ok(Self { all, at: 0 })
    }

    fn peek(&self) -> Option<&str> {
        self.all.get(self.at).map(String::as_str)
    }

    fn next(&mut self) -> Result<String, Refused> {
        self.at += 1;
        self.all.get(self.at - 1).cloned().ok_or_else(|| "the file ends too early".to_owned())
    }

    fn take(&mut self, word: &str) -> bool {
        let there = self.peek() == Some(word);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, word: &str) -> Result<(), Refused> {
        let next = self.next()?;
        if next == word { Ok(()) } else { Err(unknown(format!("`{}` where `{word}` belongs", next.escape_debug()))) }
    }

    fn ends(&mut self) {
        while self.take("\n") || self.take(";") {}
    }

    fn lines(&mut self) {
        while self.take("\n") {}
    }

    fn quoted(&mut self) -> Result<String, Refused> {
        let next = self.next()?;
        let text = next.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        text.map(str::to_owned).ok_or_else(|| unknown(format!("`{next}` without quotes")))
    }

    fn name(&mut self) -> Result<String, Refused> {
        let name = self.next()?;
        let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if good { Ok(name) } else { Err(unknown(format!("name `{}`", name.escape_debug()))) }
    }

    /// `{ a, b }` or one word alone.
    fn list(&mut self) -> Result<Vec<String>, Refused> {
        if !self.take("{") {
            return Ok(vec![self.next()?]);
        }
        let mut items = Vec::new();
        loop {
            self.lines();
            let item = self.next()?;
            if matches!(item.as_str(), "{" | "}" | "," | ";") {
                return Err(format!("an empty list, or an empty place in one, at `{item}`"));
            }
            items.push(item);
            self.lines();
            match self.next()?.as_str() {
                "," => {}
                "}" => return Ok(items),
                other => return Err(unknown(format!("`{other}` in a list"))),
            }
        }
    }
}

impl Nft {
    /// Reads `outgate.nft`. `interface` is the one of the clients.
    pub(crate) fn read(files: &Files, interface: &str) -> Result<Self, Refused> {
        let text = files.get("outgate.nft").ok_or("there is no outgate.nft")?;
        if text.contains('\r') {
            return Err("a line ends with CR".to_owned());
        }
        let mut nft = Self {
            interface: interface.to_owned(),
            table: String::new(),
            sets: BTreeMap::new(),
            others: BTreeMap::new(),
            chains: BTreeMap::new(),
        };
        let mut tokens = Tokens::of(text)?;
        loop {
            tokens.ends();
            if tokens.peek().is_none() {
                break;
            }
            match tokens.next()?.as_str() {
                "table" => nft.block(&mut tokens)?,
                "flush" => nft.flush(&mut tokens)?,
                other => return Err(unknown(format!("command `{other}`"))),
            }
        }
        nft.check()?;
        Ok(nft)
    }

    fn own(&mut self, tokens: &mut Tokens, new: bool) -> Result<(), Refused> {
        tokens.expect("inet")?;
        let name = tokens.name()?;
        if self.table.is_empty() && new {
            self.table = name;
        } else if self.table != name {
            return Err(unknown(format!("a second table `{name}`")));
        }
        Ok(())
    }

    fn flush(&mut self, tokens: &mut Tokens) -> Result<(), Refused> {
        match tokens.next()?.as_str() {
            "table" => {
                self.own(tokens, false)?;
                self.chains.values_mut().for_each(|chain| chain.rules.clear());
            }
            "set" => {
                self.own(tokens, false)?;
                let name = tokens.name()?;
                if let Some(set) = self.others.get_mut(&name) {
                    set.clear();
                    return tokens.expect("\n");
                }
                let set = self.sets.get_mut(&name).ok_or_else(|| format!("set `{name}` is flushed and not there"))?;
                set.elements.clear();
                set.addrs = Addrs::default();
            }
            other => return Err(unknown(format!("flush {other}"))),
        }
        tokens.expect("\n")
    }

    fn block(&mut self, tokens: &mut Tokens) -> Result<(), Refused> {
        self.own(tokens, true)?;
        tokens.expect("{")?;
        loop {
            tokens.ends();
            match tokens.next()?.as_str() {
                "}" => return tokens.expect("\n"),
                "set" => self.set(tokens)?,
                "chain" => self.chain(tokens)?,
                other => return Err(unknown(format!("`{other}` in a table"))),
            }
        }
    }

    fn set(&mut self, tokens: &mut Tokens) -> Result<(), Refused> {
        let name = tokens.name()?;
        tokens.expect("{")?;
        let (mut v6, mut interval, mut elements) = (None, false, Vec::new());
        let mut other_kind = None;
        loop {
            tokens.ends();
            match tokens.next()?.as_str() {
                "}" => break,
                "type" => {
                    v6 = Some(match tokens.next()?.as_str() {
                        "ipv4_addr" => false,
                        "ipv6_addr" => true,
                        kind @ ("mark" | "ether_addr") => {
                            other_kind = Some(kind.to_owned());
                            false
                        }
                        other => return Err(unknown(format!("type `{other}`"))),
                    });
                }
                "flags" => {
                    tokens.expect("interval")?;
                    interval = true;
                }
                "elements" => {
                    tokens.expect("=")?;
                    if tokens.peek() != Some("{") {
                        return Err(unknown("elements without braces"));
                    }
                    for item in tokens.list()? {
                        if let Some(kind) = &other_kind {
                            let set = self.others.entry(name.clone()).or_default();
                            set.push(other_element(kind, &item)?);
                            continue;
                        }
                        elements.push(Net::parse(&item).ok_or_else(|| unknown(format!("element `{item}`")))?);
                    }
                }
                other => return Err(unknown(format!("`{other}` in a set"))),
            }
        }
        let v6 = v6.ok_or_else(|| format!("set `{name}` has no type"))?;
        if other_kind.is_some() {
            self.others.entry(name).or_default();
            return Ok(());
        }
        let fresh = Set { v6, interval, elements: Vec::new(), addrs: Addrs::default() };
        let set = self.sets.entry(name.clone()).or_insert(fresh);
        if (set.v6, set.interval) != (v6, interval) {
            return Err(format!("set `{name}` is there with another type or other flags"));
        }
        for net in elements {
            if net.is_v6() != v6 || (!interval && !net.is_single()) {
                return Err(format!("set `{name}` holds what is not of its type"));
            }
            if set.elements.iter().any(|other| *other != net && other.overlaps(&net)) {
                return Err(format!("conflicting intervals in set `{name}`"));
            }
            set.elements.push(net);
            set.addrs.add(net);
        }
        Ok(())
    }

    fn chain(&mut self, tokens: &mut Tokens) -> Result<(), Refused> {
        let name = tokens.name()?;
        let mut chain = self.chains.remove(&name).unwrap_or_default();
        tokens.expect("{")?;
        loop {
            tokens.ends();
            if tokens.take("}") {
                break;
            }
            if tokens.take("type") {
                let hook = hook(tokens)?;
                if chain.hook.as_ref().is_some_and(|old| *old != hook) {
                    return Err(format!("chain `{name}` is there with another hook or priority"));
                }
                chain.hook = Some(hook);
            } else {
                chain.rules.push(rule(tokens)?);
            }
        }
        self.chains.insert(name, chain);
        Ok(())
    }

    /// What nft refuses though each line is well formed.
    fn check(&self) -> Result<(), Refused> {
        for rule in self.chains.values().flat_map(|chain| &chain.rules) {
            if let Some(Action::Jump(to) | Action::Goto(to)) = &rule.verdict {
                let chain = self.chains.get(to).ok_or_else(|| format!("there is no chain `{to}`"))?;
                if chain.hook.is_some() {
                    return Err(format!("`{to}` is a base chain"));
                }
            }
            let mut families = Vec::new();
            for one in &rule.matches {
                match one {
                    Match::Addr { v6, set, .. } => {
                        let known = self.sets.get(set).ok_or_else(|| format!("there is no set `{set}`"))?;
                        if known.v6 != *v6 {
                            return Err(format!("set `{set}` is of the other family"));
                        }
                        families.push(*v6);
                    }
                    Match::Icmp6(_) | Match::Hops6(_) => families.push(true),
                    _ => {}
                }
            }
            families.dedup();
            if families.len() > 1 {
                return Err("a rule about both families at once".to_owned());
            }
            if rule.verdict.is_some() && rule.matches.contains(&Match::Sometimes) {
                return Err(unknown("a verdict behind a limit"));
            }
        }
        // A loop would not be loaded.
        for name in self.chains.keys() {
            self.depth(name, 0)?;
        }
        Ok(())
    }

    fn depth(&self, name: &str, depth: u32) -> Result<(), Refused> {
        if depth > 16 {
            return Err(format!("chain `{name}` leads back to itself"));
        }
        for rule in self.chains.get(name).into_iter().flat_map(|chain| &chain.rules) {
            if let Some(Action::Jump(to) | Action::Goto(to)) = &rule.verdict {
                self.depth(to, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Runs a packet through a chain.
    fn run<'a>(&'a self, name: &str, packet: &Packet) -> Said<'a> {
        let chain = self.chains.get(name)?;
        for rule in &chain.rules {
            if !rule.matches.iter().all(|one| self.holds(one, packet)) {
                continue;
            }
            match &rule.verdict {
                None => {}
                Some(Action::Accept) => return Some((Fate::Pass, &rule.comment)),
                Some(Action::Drop | Action::Reject) => {
                    return Some((Fate::Block, self.comment_of(name, rule)));
                }
                Some(Action::Jump(to)) => {
                    if let Some((fate, by)) = self.run(to, packet) {
                        return Some((fate, if by.is_empty() { &rule.comment } else { by }));
                    }
                }
                Some(Action::Goto(to)) => {
                    let said = self.run(to, packet)?;
                    return Some((said.0, if rule.comment.is_empty() { said.1 } else { &rule.comment }));
                }
            }
        }
        None
    }

    /// A denial without a comment goes by the name of its chain, where that is `denied`.
    fn comment_of<'a>(&self, chain: &str, rule: &'a Rule) -> &'a str {
        if rule.comment.is_empty() && chain == "denied" { "denied" } else { &rule.comment }
    }

    fn holds(&self, one: &Match, packet: &Packet) -> bool {
        match one {
            Match::Addr { source, v6, set } => {
                let addr = if *source { packet.src } else { packet.dst };
                packet.is_v6() == *v6 && self.sets.get(set).is_some_and(|set| set.addrs.contains(addr))
            }
            Match::Ports { proto, source, ranges } => {
                let port = if *source { packet.source_port } else { packet.port };
                packet.proto == *proto && ranges.iter().any(|(a, b)| (*a..=*b).contains(&port))
            }
            Match::Icmp6(types) => packet.is_v6() && types.iter().any(|kind| packet.proto == Proto::Icmp(*kind)),
            Match::Hops6(hops) => packet.is_v6() && packet.hops == *hops,
            Match::Proto(proto) => packet.proto == *proto,
            Match::V6 => packet.is_v6(),
            // The packets that are tried have the hardware address of nobody.
            Match::Hardware(_) => false,
            Match::InByOne(names) => {
                packet.path == Path::Through && names.iter().any(|name| self.is(packet.interface, name))
            }
            Match::InBy(name) => packet.path == Path::Through && self.is(packet.interface, name),
            // Where a packet leaves a router, the interface is not the clients'.
            Match::OutBy(name) => packet.path == Path::Own && self.is(packet.interface, name),
            Match::Known => false,
            Match::Sometimes => true,
        }
    }

    fn is(&self, interface: Interface, name: &str) -> bool {
        match interface {
            Interface::Ours => name == self.interface,
            Interface::Loopback => name == "lo",
            Interface::Other => false,
        }
    }
}

/// `filter hook forward priority filter - 5; policy accept;`
fn hook(tokens: &mut Tokens) -> Result<(String, String), Refused> {
    tokens.expect("filter")?;
    tokens.expect("hook")?;
    let hook = tokens.next()?;
    if !matches!(hook.as_str(), "forward" | "output") {
        return Err(unknown(format!("hook `{hook}`")));
    }
    tokens.expect("priority")?;
    let mut priority = Vec::new();
    while !tokens.take(";") {
        priority.push(tokens.next()?);
    }
    let shape: Vec<&str> = priority.iter().map(String::as_str).collect();
    let number = |n: &str| n.parse::<u32>().is_ok();
    if !matches!(shape.as_slice(), ["filter"]) && !matches!(shape.as_slice(), ["filter", "+" | "-", n] if number(n)) {
        return Err(unknown(format!("priority {priority:?}")));
    }
    tokens.expect("policy")?;
    // Accept alone: what is not ours is for others to judge.
    tokens.expect("accept")?;
    tokens.expect(";")?;
    Ok((hook, priority.join(" ")))
}

fn rule(tokens: &mut Tokens) -> Result<Rule, Refused> {
    let mut rule = Rule { matches: Vec::new(), verdict: None, log: None, comment: String::new() };
    loop {
        match tokens.peek() {
            Some("\n" | ";") => break,
            Some("}") | None => return Err(unknown("a rule without an end")),
            _ => {}
        }
        let word = tokens.next()?;
        if rule.verdict.is_some() && word != "comment" {
            return Err(unknown(format!("`{word}` behind a verdict")));
        }
        match word.as_str() {
            "ip" | "ip6" => {
                let v6 = word == "ip6";
                match tokens.next()?.as_str() {
                    side @ ("saddr" | "daddr") => {
                        let set = tokens.next()?;
                        let set =
                            set.strip_prefix('@').ok_or_else(|| unknown(format!("`{set}` where a set belongs")))?;
                        rule.matches.push(Match::Addr { source: side == "saddr", v6, set: set.to_owned() });
                    }
                    "hoplimit" if v6 => {
                        let number = tokens.next()?;
                        rule.matches.push(Match::Hops6(number.parse().map_err(|_| unknown(number))?));
                    }
                    other => return Err(unknown(format!("{word} {other}"))),
                }
            }
            "tcp" | "udp" => {
                let proto = if word == "tcp" { Proto::Tcp } else { Proto::Udp };
                let side = tokens.next()?;
                if !matches!(side.as_str(), "dport" | "sport") {
                    return Err(unknown(format!("{word} {side}")));
                }
                let ranges = tokens.list()?.iter().map(|port| range(port)).collect::<Result<_, _>>()?;
                rule.matches.push(Match::Ports { proto, source: side == "sport", ranges });
            }
            "icmpv6" => {
                tokens.expect("type")?;
                let types = tokens.list()?.iter().map(|kind| icmp6_type(kind)).collect::<Result<_, _>>()?;
                rule.matches.push(Match::Icmp6(types));
            }
            "meta" => match (tokens.next()?.as_str(), tokens.next()?.as_str()) {
                ("l4proto", "tcp") => rule.matches.push(Match::Proto(Proto::Tcp)),
                ("nfproto", "ipv6") => rule.matches.push(Match::V6),
                (a, b) => return Err(unknown(format!("meta {a} {b}"))),
            },
            "ether" => {
                tokens.expect("saddr")?;
                let set = tokens.next()?;
                let set = set.strip_prefix('@').ok_or_else(|| unknown(format!("ether saddr {set}")))?;
                rule.matches.push(Match::Hardware(set.to_owned()));
            }
            "iifname" if tokens.take("{") => {
                let mut names = vec![tokens.quoted()?];
                while tokens.take(",") {
                    names.push(tokens.quoted()?);
                }
                tokens.expect("}")?;
                rule.matches.push(Match::InByOne(names));
            }
            "iifname" => rule.matches.push(Match::InBy(tokens.quoted()?)),
            "oifname" => rule.matches.push(Match::OutBy(tokens.quoted()?)),
            "ct" => {
                tokens.expect("state")?;
                let mut states = vec![tokens.next()?];
                while tokens.take(",") {
                    states.push(tokens.next()?);
                }
                if states.iter().any(|s| !matches!(s.as_str(), "established" | "related" | "invalid")) {
                    return Err(unknown(format!("ct state {states:?}")));
                }
                rule.matches.push(Match::Known);
            }
            "limit" => {
                tokens.expect("rate")?;
                let rate = tokens.next()?;
                let number = rate.strip_suffix("/second").unwrap_or("");
                number.parse::<u32>().map_err(|_| unknown(format!("rate {rate}")))?;
                tokens.expect("burst")?;
                tokens.expect("10")?;
                tokens.expect("packets")?;
                rule.matches.push(Match::Sometimes);
            }
            "log" => {
                tokens.expect("prefix")?;
                let prefix = tokens.quoted()?;
                if prefix.len() > 127 {
                    return Err("a log prefix of more than 127 bytes".to_owned());
                }
                rule.log = Some(prefix);
                tokens.expect("level")?;
                tokens.expect("info")?;
            }
            "counter" => {}
            "comment" => {
                rule.comment = tokens.quoted()?;
                if rule.comment.len() > 128 {
                    return Err("a comment of more than 128 bytes".to_owned());
                }
            }
            "accept" => rule.verdict = Some(Action::Accept),
            "drop" => rule.verdict = Some(Action::Drop),
            "reject" => {
                tokens.expect("with")?;
                match (tokens.next()?.as_str(), tokens.next()?.as_str()) {
                    ("icmpx", "admin-prohibited") => {}
                    ("tcp", "reset") if rule.matches.contains(&Match::Proto(Proto::Tcp)) => {}
                    (a, b) => return Err(unknown(format!("reject with {a} {b}"))),
                }
                rule.verdict = Some(Action::Reject);
            }
            "jump" => rule.verdict = Some(Action::Jump(tokens.name()?)),
            "goto" => rule.verdict = Some(Action::Goto(tokens.name()?)),
            other => return Err(unknown(format!("`{other}` in a rule"))),
        }
    }
    Ok(rule)
}

fn range(text: &str) -> Result<(u16, u16), Refused> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().map_err(|_| unknown(format!("port `{text}`")));
    let (first, last) = (number(first)?, number(last)?);
    if first > last { Err(format!("a range of ports backwards: {text}")) } else { Ok((first, last)) }
}

/// An element of a set that no packet of the trials is matched by: a number, or a hardware address.
fn other_element(kind: &str, text: &str) -> Result<String, Refused> {
    let hexadecimal = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let good = match kind {
        "mark" => text.strip_prefix("0x").is_some_and(|number| number.len() <= 8 && hexadecimal(number)),
        _ => text.split(':').count() == 6 && text.split(':').all(|pair| pair.len() == 2 && hexadecimal(pair)),
    };
    if good { Ok(text.to_owned()) } else { Err(unknown(format!("element `{text}` of type `{kind}`"))) }
}

fn icmp6_type(word: &str) -> Result<u8, Refused> {
    match word {
        "nd-router-solicit" => Ok(133),
        "nd-neighbor-solicit" => Ok(135),
        "nd-neighbor-advert" => Ok(136),
        "mld2-listener-report" => Ok(143),
        other => Err(unknown(format!("ICMPv6 type `{other}`"))),
    }
}

impl Enforcer for Nft {
    fn judge(&self, packet: &Packet) -> Verdict {
        let hook = if packet.path == Path::Through { "forward" } else { "output" };
        let base = |(_, chain): &(&String, &Chain)| chain.hook.as_ref().is_some_and(|(name, _)| name == hook);
        let Some((name, _)) = self.chains.iter().find(base) else { return Verdict::unmatched() };
        match self.run(name, packet) {
            Some((fate, by)) => Verdict::new(fate, by),
            None => Verdict::unmatched(),
        }
    }

    fn sets(&self) -> Vec<&Addrs> {
        self.sets.values().map(|set| &set.addrs).collect()
    }

    fn ports(&self) -> Vec<(u16, u16)> {
        let rules = self.chains.values().flat_map(|chain| &chain.rules);
        let of = |one: &Match| if let Match::Ports { ranges, .. } = one { ranges.clone() } else { Vec::new() };
        rules.flat_map(|rule| rule.matches.iter().flat_map(of)).collect()
    }

    fn model(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, chain) in &self.chains {
            lines.push(format!("chain {name} {:?}", chain.hook));
            for rule in &chain.rules {
                let show = |one: &Match| match one {
                    Match::Addr { source, v6, set } => {
                        let set = self.sets.get(set).map_or_else(String::new, |set| set.addrs.to_string());
                        format!("source:{source} v6:{v6} {set}")
                    }
                    other => format!("{other:?}"),
                };
                let matches: Vec<String> = rule.matches.iter().map(show).collect();
                let logged = rule.log.is_some();
                lines.push(format!("{name}: {} {:?} log:{logged}", matches.join(" "), rule.verdict));
            }
        }
        lines
    }
}

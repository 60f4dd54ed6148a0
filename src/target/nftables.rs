//! nftables 1.0.6 and later: one table of our own, kept and refilled in one transaction; a file that refills its sets
//! alone; and, where the site wants it, what dnsmasq needs to fill the sets of names that cannot be listed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::rows::{Cell, Rows, lines};
use super::wall::Wall;
use super::{By, Header, Layer, Mark, Page, Plan, RuleTexts, Stop, Target, Texts, Value, address_losses_but};
use crate::addrs::AddrSet;
use crate::callout::{Endpoint, Origin, Origins};
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::digest::sha256;
use crate::host::{Host, NamePattern};
use crate::port::Protocol;
use crate::ruleset::{Action, Gap, Rule, Ruleset};
use crate::settings::{Denied, Hook, Ipv6, Marks, Mode, Nftables, Settings};
use crate::text::Id;

/// The target.
pub const TARGET: Target = Target {
    name: "nftables",
    about: "nftables 1.0.6 and later, on a Linux router or on the NAS itself",
    layer: Layer::Addresses,
    limits: &[
        "no wildcards, but for those that dnsmasq puts in by name: a list of addresses cannot hold names that are not known",
        "two names on one address are one",
    ],
    main: "outgate.nft",
    owns: &[
        "nftables/losses.json",
        "nftables/outgate.nft",
        "nftables/outgate-sets.nft",
        "nftables/outgate-dnsmasq.conf",
    ],
    check: &["nft", "-c", "-f"],
    templates: &[
        ("nftables/outgate.nft.j2", include_str!("../../templates/nftables/outgate.nft.j2")),
        ("nftables/outgate-sets.nft.j2", include_str!("../../templates/nftables/outgate-sets.nft.j2")),
        ("nftables/outgate-dnsmasq.conf.j2", include_str!("../../templates/nftables/outgate-dnsmasq.conf.j2")),
    ],
    chosen: |settings: &Settings| settings.nftables.is_some(),
    wall,
    plan,
    stops,
    handle,
    resolves: |_, _| None,
    retire: None,
};

#[derive(Serialize)]
struct Values<'a> {
    header: Header,
    table: &'a str,
    priority: String,
    forward: bool,
    output: bool,
    audit: bool,
    drop: bool,
    log_prefix: &'a str,
    log_rate: u16,
    deny_interface: &'a str,
    /// Tells these rules from others, so that sets are refilled for the rules they are for.
    version: String,
    /// By their names.
    sets: Value,
    /// Sets that dnsmasq fills. They are never emptied: it adds no address that is in its cache.
    open_sets: Value,
    /// All that packets of clients are found by; the rules have their numbers.
    sources: Vec<From>,
    watched: Vec<From>,
    limited: Vec<From>,
    denied: Value,
    allowed: Value,
    by_dns: Vec<ByDns>,
}

/// Named sets. A name says the set's kind, so a refill never meets a set of another type under the same name.
struct Sets {
    rows: Rows<6>,
    /// The names of those that several rules have.
    shared: BTreeSet<String>,
}

impl Sets {
    fn new(rules: usize) -> Self {
        // A set is one of hashes or of intervals: its name stands in that column once more.
        let rows = Rows::new(&["name", "kind", "hash", "interval", "flags", "elements"]).room_for(2 * rules);
        Self { rows, shared: BTreeSet::new() }
    }

    /// Adds a set that other rules may have as well.
    fn share(&mut self, name: &str, kind: &'static str, interval: bool, elements: &dyn Cell) {
        if self.shared.insert(name.to_owned()) {
            self.push(name, kind, interval, elements);
        }
    }

    fn push(&mut self, name: &str, kind: &'static str, interval: bool, elements: &dyn Cell) {
        let (hash, of_intervals, flags) = if interval { ("", name, "interval") } else { (name, "", "") };
        self.rows.push([&name, &kind, &hash, &of_intervals, &flags, elements]);
    }
}

/// Whose packets: a set of addresses of one family, of hardware addresses, or interfaces.
#[derive(Clone, Serialize)]
#[serde(rename_all = "lowercase", tag = "by")]
enum From {
    Address { family: &'static str, set: String },
    Mac { set: String },
    Interface { names: Vec<String> },
}

/// A name that dnsmasq feeds, and the sets of its rule.
#[derive(Clone, Serialize)]
struct ByDns {
    name: String,
    rule: String,
    v4: String,
    v6: String,
}

/// Who sends: what a rule's clients are known by.
struct Clients<'a> {
    name: String,
    addrs: AddrSet,
    marks: Vec<&'a Marks>,
}

fn plan(texts: &Texts<'_>, findings: &mut Findings) -> Option<Plan> {
    let ruleset = texts.ruleset;
    let default = Nftables::default();
    let settings = ruleset.settings.nftables.as_ref().unwrap_or(&default);
    check(ruleset, settings, findings);
    let mut losses = address_losses_but(&|name| fed(settings, name), "nftables", ruleset, findings);
    let (mut sets, mut open_sets) = (Sets::new(ruleset.rules.len()), Sets::new(0));
    let mut sources = Vec::new();
    let everybody = ruleset.clients.keys().copied();
    let limited: Origins = everybody.filter(|origin| ruleset.clients[origin].default_deny).collect();
    let limited_from = sets.of_clients(&clients("limited", limited, ruleset, settings));
    let (mut denied, mut allowed, mut by_dns) = (Rules::new("deny", 0), Rules::new("allow", ruleset.rules.len()), Vec::new());
    // Most rules are for the same clients.
    let mut senders = BTreeMap::new();
    for (rule, texts) in super::seen_on_host(texts, settings.hook == Hook::Output, &mut losses) {
        let &mut (_, begin, end) = senders.entry((rule.action, rule.origins)).or_insert_with(|| {
            let origins = ruleset.bound(rule);
            let clients = clients(&ruleset.group_name(origins), origins, ruleset, settings);
            let begin = sources.len();
            if !clients.addrs.is_empty() {
                sources.extend(sets.of_clients(&clients).into_iter().map(|from| (from.text(), from)));
            }
            (origins, begin, sources.len())
        });
        if begin == end {
            continue;
        }
        let (names, open) = fed_sets(rule, settings);
        let mut servers = sets.of_servers(rule, texts);
        for set in &open {
            open_sets.push(&set.name, set.kind, false, &"");
        }
        servers.extend(open);
        by_dns.extend(names);
        let rules = if rule.action == Action::Deny { &mut denied } else { &mut allowed };
        rules.add(rule, texts, begin, sources.get(begin..end).unwrap_or_default(), &servers);
    }
    let seen = senders.into_values().filter(|(_, begin, end)| begin < end);
    let watched: Origins = seen.flat_map(|(origins, ..)| origins.iter()).chain(limited.iter()).collect();
    let same = ruleset.clients_of(watched) == ruleset.clients_of(limited) && !settings.marks.contains_key(&Origin::Browser);
    let watched = if same { limited_from.clone() } else { sets.of_clients(&clients("watched", watched, ruleset, settings)) };
    let (sets, open_sets) = (sets.rows.sorted(), open_sets.rows.sorted());
    let mut numbered = String::new();
    for table in [&sets, &open_sets] {
        for place in 0..table.len() {
            number(&mut numbered, &["name", "kind"].map(|column| table.get(place, column).unwrap_or_default()));
        }
    }
    numbered += &denied.numbered;
    numbered += &allowed.numbered;
    let (denied, allowed) = (denied.rows.done(), allowed.rows.done());
    let about = [&sets, &open_sets, &denied, &allowed].iter().map(|table| table.filled_length()).sum();
    let mut values = Values {
        header: Header::new(ruleset, &losses),
        table: &settings.table,
        priority: match settings.priority {
            0 => "filter".to_owned(),
            n if n < 0 => format!("filter - {}", n.unsigned_abs()),
            n => format!("filter + {n}"),
        },
        forward: settings.hook != Hook::Output,
        output: settings.hook != Hook::Forward,
        audit: settings.mode == Mode::Audit,
        drop: settings.denied == Denied::Drop,
        log_prefix: &settings.log_prefix,
        log_rate: settings.log_rate,
        deny_interface: match ruleset.ipv6 {
            Ipv6::DenyInterface => settings.interface.as_deref().unwrap_or(""),
            Ipv6::Clients => "",
        },
        version: String::new(),
        sets: Value::from_object(sets),
        open_sets: Value::from_object(open_sets),
        sources: sources.into_iter().map(|(_, from)| from).collect(),
        watched,
        limited: limited_from,
        denied: Value::from_object(denied),
        allowed: Value::from_object(allowed),
        by_dns,
    };
    values.version = version(&values, numbered);
    let by_dns = !values.by_dns.is_empty();
    let main = Page::new("outgate.nft", "nftables/outgate.nft.j2", values).about(about);
    let mut pages = vec![main.beside("outgate-sets.nft", "nftables/outgate-sets.nft.j2")];
    if by_dns {
        pages.push(main.beside("outgate-dnsmasq.conf", "nftables/outgate-dnsmasq.conf.j2"));
    }
    pages.push(main);
    Some(Plan { pages, losses })
}

/// What it makes of traffic: by address, and where dnsmasq puts names in, by those.
fn wall(ruleset: &Ruleset) -> Option<Wall<'_>> {
    let settings = ruleset.settings.nftables.clone().unwrap_or_default();
    let mut wall = Wall::by_address(ruleset);
    wall.browser_unseen = on_host(&ruleset.settings);
    wall.audit = settings.mode == Mode::Audit;
    wall.fed = settings.by_dns.into_iter().map(|(name, _)| name).collect();
    Some(wall)
}

/// What stops a denial.
fn stops(ruleset: &Ruleset, rule: &Rule) -> Stop {
    let settings = ruleset.settings.nftables.clone().unwrap_or_default();
    if settings.mode == Mode::Audit {
        return Stop::Open("the table is in audit mode and blocks nothing".to_owned());
    }
    if on_host(&ruleset.settings) && super::is_browsers(ruleset, rule) {
        return Stop::NotHere(super::BROWSER_ELSEWHERE.to_owned());
    }
    let own = Mark::holds(By::Address, "outgate.nft", format!("goto blocked comment \"{}\"", rule.key));
    super::stops_by_address(ruleset, rule, own, Mark::holds(By::Address, "outgate.nft", "goto denied"))
}

/// Whether it is on the appliance itself.
fn on_host(settings: &Settings) -> bool {
    settings.nftables.as_ref().is_some_and(|own| own.hook == Hook::Output)
}

fn handle(ruleset: &Ruleset, rule: Option<&Rule>) -> Option<String> {
    let default = Nftables::default();
    let table = &ruleset.settings.nftables.as_ref().unwrap_or(&default).table;
    Some(match rule {
        Some(rule) => format!("table inet {table}, comment \"{}\"", rule.key),
        None => format!("table inet {table}, chain denied"),
    })
}

/// Settings that do not fit together, and those that somebody should hear of.
fn check(ruleset: &Ruleset, settings: &Nftables, findings: &mut Findings) {
    if ruleset.ipv6 == Ipv6::DenyInterface && settings.interface.is_none() {
        findings.push(
            Diagnostic::new(Code::BadSetting, "`ipv6: deny-interface` needs the interface the clients are behind")
                .help("add `interface:` under `targets: nftables:`"),
        );
    }
    if settings.mode == Mode::Audit {
        findings.push(
            Diagnostic::new(Code::NotEnforced, "nftables: `mode: audit`: what would be denied is logged and let through")
                .help("take `mode` out once the log holds nothing that is wanted"),
        );
    }
    if settings.hook == Hook::Output && !settings.marks.is_empty() {
        findings.push(
            Diagnostic::new(Code::BadSetting, "what leaves the appliance itself has no hardware address and comes in by no interface")
                .help("take `clients` out from under `targets: nftables:`"),
        );
    }
    for origin in settings.marks.keys().filter(|origin| !ruleset.clients.contains_key(origin)) {
        findings.push(
            Diagnostic::new(Code::BadSetting, format!("nftables: the profile names no clients of origin `{}`", origin.as_str()))
                .help("name their addresses under `clients` of the profile as well: the other targets know no others"),
        );
    }
    for (pattern, span) in &settings.by_dns {
        let named = |rule: &&Rule| rule.destinations.iter().any(|d| d.endpoint == Endpoint::Name(pattern.clone()));
        let rules: Vec<&Rule> = ruleset.rules.iter().filter(named).collect();
        if rules.is_empty() {
            findings.push(
                Diagnostic::new(Code::UnknownName, format!("no rule of this site names `{pattern}`"))
                    .at(span.clone(), "")
                    .help("spell it as the entry does"),
            );
        } else if rules.iter().any(|rule| rule.action == Action::Deny) {
            findings.push(
                Diagnostic::new(Code::BadSetting, format!("`{pattern}` is blocked: what dnsmasq answers must not say where"))
                    .at(span.clone(), "")
                    .help("a name on the same address would be blocked with it: block it by name"),
            );
        } else if let Some((below, by)) = blocked_below(ruleset, pattern.host()) {
            let message = format!("`{pattern}` lets dnsmasq put in every name below it, and {by} blocks `{below}` there");
            findings.push(
                Diagnostic::new(Code::BadSetting, message)
                    .at(span.clone(), "")
                    .help("take the name out of `by-dns`; the squid target tells the two apart"),
            );
        } else {
            let host = pattern.host();
            findings.push(
                Diagnostic::new(Code::ByDns, format!("nftables: dnsmasq lets out `{host}` and every name below it, wherever they lead"))
                    .at(span.clone(), "")
                    .help("dnsmasq knows no exact names; its clients must ask it and nobody else"),
            );
        }
    }
}

/// A blocked name that dnsmasq would put in with everything below a host, and the rule that blocks it. An alias counts:
/// its addresses are the blocked name's.
fn blocked_below<'a>(ruleset: &'a Ruleset, host: &Host) -> Option<(&'a Host, &'a Id)> {
    let denials = ruleset.rules.iter().filter(|rule| rule.action == Action::Deny);
    let mut names = denials.flat_map(|rule| {
        let names = rule.destinations.iter().flat_map(|d| d.names());
        let leads = names.flat_map(|name| std::iter::once(name.host()).chain(ruleset.aliases(name)));
        leads.map(|name| (name, &rule.key))
    });
    names.find(|(name, _)| *name == host || name.is_below(host))
}

/// Whether dnsmasq puts the addresses of this endpoint in.
fn fed(settings: &Nftables, endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Name(name) if settings.by_dns.iter().any(|(pattern, _)| pattern == name))
}

/// The names of a rule that dnsmasq feeds, and their sets.
fn fed_sets(rule: &Rule, settings: &Nftables) -> (Vec<ByDns>, Vec<Servers>) {
    let names: Vec<&NamePattern> = rule
        .destinations
        .iter()
        // What a denial takes back, or the site sends to the proxy, has no address here whoever answers with one.
        .filter(|d| rule.action == Action::Allow && fed(settings, &d.endpoint))
        .filter(|d| !d.gap.as_deref().is_some_and(Gap::is_decided))
        .filter_map(|d| if let Endpoint::Name(name) = &d.endpoint { Some(name) } else { None })
        .collect();
    if names.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let set = |number: u8| format!("n_{}_{number}", rule.key.underscored());
    let (v4, v6) = (set(4), set(6));
    let feeds = names.into_iter().map(|name| ByDns {
        name: name.host().to_string(),
        rule: rule.key.to_string(),
        v4: v4.clone(),
        v6: v6.clone(),
    });
    (feeds.collect(), vec![Servers::of_kind(v4.clone(), "ipv4_addr"), Servers::of_kind(v6.clone(), "ipv6_addr")])
}

/// A number of everything but the elements of the sets: rules and sets of another number are other rules. `text` has the
/// sets and the rules.
fn version(values: &Values<'_>, mut text: String) -> String {
    for from in values.watched.iter().chain(&values.limited) {
        number(&mut text, &[&from.text()]);
    }
    let flags = [values.forward, values.output, values.audit, values.drop];
    let flags = format!("{flags:?} {}", values.log_rate);
    number(&mut text, &[&values.priority, values.log_prefix, values.deny_interface, &flags]);
    format!("0x{}", &sha256(&text)[..8])
}

/// Adds what the number is made of; no part of it holds a quote.
fn number(text: &mut String, parts: &[&str]) {
    text.push('[');
    for (i, part) in parts.iter().enumerate() {
        text.push_str(if i > 0 { ", \"" } else { "\"" });
        text.push_str(part);
        text.push('"');
    }
    text.push_str("]\n");
}

impl From {
    fn text(&self) -> String {
        match self {
            Self::Address { family, set } => format!("{family} {set}"),
            Self::Mac { set } => format!("mac {set}"),
            Self::Interface { names } => format!("interface {}", names.join(" ")),
        }
    }
}

fn clients<'a>(name: &str, origins: Origins, ruleset: &Ruleset, settings: &'a Nftables) -> Clients<'a> {
    let addrs = ruleset.clients_of(origins);
    let mut marks = Vec::new();
    for origin in origins.iter() {
        // Apps without addresses of their own leave with the appliance's, and are known as it is.
        let same = |a, b| ruleset.clients.get(a).map(|g| &g.addrs) == ruleset.clients.get(b).map(|g| &g.addrs);
        let as_nas = origin == Origin::App && same(&Origin::App, &Origin::Nas);
        marks.extend(settings.marks.get(if as_nas { &Origin::Nas } else { &origin }));
    }
    Clients { name: name.to_owned(), addrs, marks }
}

impl Sets {
    /// Adds the sets of some clients. Returns how a packet is found to be theirs.
    fn of_clients(&mut self, clients: &Clients<'_>) -> Vec<From> {
        let mut from = Vec::new();
        let addrs = &clients.addrs;
        if addrs.has_v4() {
            let set = format!("c_{}_4", clients.name);
            self.share(&set, "ipv4_addr", true, &|out: &mut String| addrs.push_v4_list(out, "\n"));
            from.push(From::Address { family: "ip", set });
        }
        if addrs.has_v6() {
            let set = format!("c_{}_6", clients.name);
            self.share(&set, "ipv6_addr", true, &|out: &mut String| addrs.push_v6_list(out, "\n"));
            from.push(From::Address { family: "ip6", set });
        }
        let macs: BTreeSet<&str> = clients.marks.iter().flat_map(|marks| &marks.macs).map(String::as_str).collect();
        if !macs.is_empty() {
            let set = format!("c_{}_mac", clients.name);
            self.share(&set, "ether_addr", false, &macs.into_iter().collect::<Vec<_>>().join("\n"));
            from.push(From::Mac { set });
        }
        let names: BTreeSet<&String> = clients.marks.iter().flat_map(|marks| &marks.interfaces).collect();
        if !names.is_empty() {
            from.push(From::Interface { names: names.into_iter().cloned().collect() });
        }
        from
    }

    /// Adds the sets of a rule's servers, and returns them: single addresses in hash sets, which take a refresh element
    /// by element; prefixes in interval sets, merged.
    fn of_servers(&mut self, rule: &Rule, texts: RuleTexts<'_>) -> Vec<Servers> {
        let key = rule.key.underscored();
        let mut servers = Vec::new();
        let mut add = |short: &str, kind, interval, elements: &str| {
            if !elements.is_empty() {
                let set = Servers::of_kind(["d_", &key, "_", short].concat(), kind);
                self.push(&set.name, kind, interval, &elements);
                servers.push(set);
            }
        };
        add("h4", "ipv4_addr", false, texts.v4());
        add("h6", "ipv6_addr", false, texts.v6());
        add("n4", "ipv4_addr", true, texts.v4_nets());
        add("n6", "ipv6_addr", true, texts.v6_nets());
        servers
    }
}

/// A set of servers, as a rule names it.
struct Servers {
    name: String,
    kind: &'static str,
    family: &'static str,
}

impl Servers {
    fn of_kind(name: String, kind: &'static str) -> Self {
        Self { name, kind, family: if kind == "ipv4_addr" { "ip" } else { "ip6" } }
    }
}

/// The rules of one action.
struct Rules {
    action: &'static str,
    rows: Rows<10>,
    /// What the number of the rules is made of.
    numbered: String,
}

/// One line of a rule.
struct Line<'a> {
    /// The number among all that packets of clients are found by.
    from: usize,
    servers: &'a Servers,
    protocol: &'static str,
    ports: &'a str,
}

impl Rules {
    fn new(action: &'static str, rules: usize) -> Self {
        let columns =
            &["id", "title", "reason", "source", "names", "from", "family", "servers", "protocol", "ports"];
        Self { action, rows: Rows::new(columns).room_for(rules), numbered: String::new() }
    }

    /// Adds a rule for what these sources, whose numbers begin at `first`, send to these servers.
    fn add(
        &mut self,
        rule: &Rule,
        texts: RuleTexts<'_>,
        first: usize,
        sources: &[(String, From)],
        servers: &[Servers],
    ) {
        number(&mut self.numbered, &[self.action, rule.key.as_str()]);
        let ports = Protocol::ALL.map(|protocol| {
            let ports: Vec<String> = rule.ports_of(protocol).map(|port| port.numbers("-")).collect();
            (protocol.as_str(), ports.join(", "))
        });
        let mut all = Vec::new();
        for servers in servers {
            for (from, (text, source)) in (first..).zip(sources) {
                if matches!(source, From::Address { family, .. } if *family != servers.family) {
                    continue;
                }
                for (protocol, ports) in ports.iter().filter(|(_, ports)| !ports.is_empty()) {
                    number(&mut self.numbered, &[text, servers.family, &servers.name, protocol, ports]);
                    all.push(Line { from, servers, protocol, ports });
                }
            }
        }
        self.rows.push([
            &rule.key,
            &rule.callout.title,
            &rule.reason.as_str(),
            &rule.callout.first_source(),
            &texts.names(),
            &lines(&all, |line, out| line.from.write(out)),
            &lines(&all, |line, out| out.push_str(line.servers.family)),
            &lines(&all, |line, out| out.push_str(&line.servers.name)),
            &lines(&all, |line, out| out.push_str(line.protocol)),
            &lines(&all, |line, out| out.push_str(line.ports)),
        ]);
    }
}

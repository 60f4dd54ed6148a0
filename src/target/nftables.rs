//! nftables 1.0.6 and later: one table of our own, kept and refilled in one transaction; a file that refills its sets
//! alone; and, where the site wants it, what dnsmasq needs to fill the sets of names that cannot be listed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use super::wall::Wall;
use super::{By, Group, Header, Layer, Mark, Page, Plan, Stop, Target, Why, address_losses_but};
use crate::addrs::AddrSet;
use crate::callout::{Endpoint, Origin};
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
    sets: Vec<Set>,
    /// Their names, one a line.
    set_names: String,
    /// Sets that dnsmasq fills. They are never emptied: it adds no address that is in its cache.
    open_sets: Vec<Set>,
    watched: Vec<From>,
    limited: Vec<From>,
    denied: Vec<Group<Line>>,
    allowed: Vec<Group<Line>>,
    by_dns: Vec<ByDns>,
}

/// A named set. Its name says its kind, so a refill never meets a set of another type under the same name.
#[derive(Clone, Serialize)]
struct Set {
    name: String,
    kind: &'static str,
    interval: bool,
    elements: String,
}

/// Whose packets: a set of addresses of one family, of hardware addresses, or interfaces.
#[derive(Clone, Serialize)]
#[serde(rename_all = "lowercase", tag = "by")]
enum From {
    Address { family: &'static str, set: String },
    Mac { set: String },
    Interface { names: Vec<String> },
}

#[derive(Clone, Serialize)]
struct Line {
    from: From,
    family: &'static str,
    servers: String,
    protocol: &'static str,
    ports: String,
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

fn plan(ruleset: &Ruleset, findings: &mut Findings) -> Option<Plan> {
    let default = Nftables::default();
    let settings = ruleset.settings.nftables.as_ref().unwrap_or(&default);
    check(ruleset, settings, findings);
    let mut losses = address_losses_but(&|name| fed(settings, name), "nftables", ruleset, findings);
    let mut sets = BTreeMap::new();
    let everybody = ruleset.clients.keys().copied();
    let limited: BTreeSet<Origin> = everybody.filter(|origin| ruleset.clients[origin].default_deny).collect();
    let limited_from = sources(&mut sets, &clients("limited", &limited, ruleset, settings));
    let (mut denied, mut allowed, mut by_dns) = (Vec::new(), Vec::new(), Vec::new());
    let mut open_sets = BTreeMap::new();
    // Most rules are for the same clients.
    let mut senders = BTreeMap::new();
    for rule in super::seen_on_host(ruleset, settings.hook == Hook::Output, &mut losses) {
        let origins = ruleset.bound(rule);
        let sources = senders.entry(origins).or_insert_with_key(|origins| {
            let clients = clients(&ruleset.group_name(origins), origins, ruleset, settings);
            if clients.addrs.is_empty() { Vec::new() } else { sources(&mut sets, &clients) }
        });
        if sources.is_empty() {
            continue;
        }
        let (names, open) = fed_sets(rule, settings);
        let why = Why::by_address(rule, ruleset);
        let group = group(rule, why, sources, open.iter().map(|set| (set.kind, set.name.clone())), &mut sets);
        open_sets.extend(open.into_iter().map(|set| (set.name.clone(), set)));
        by_dns.extend(names);
        match rule.action {
            Action::Deny => denied.push(group),
            Action::Allow => allowed.push(group),
        }
    }
    let seen = senders.into_iter().filter(|(_, sources)| !sources.is_empty());
    let watched: BTreeSet<Origin> = seen.flat_map(|(origins, _)| origins).chain(limited.iter().copied()).collect();
    let same = ruleset.clients_of(&watched) == ruleset.clients_of(&limited) && !settings.marks.contains_key(&Origin::Browser);
    let watched = if same { limited_from.clone() } else { sources(&mut sets, &clients("watched", &watched, ruleset, settings)) };
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
        set_names: sets.keys().map(String::as_str).collect::<Vec<_>>().join("\n"),
        sets: sets.into_values().collect(),
        open_sets: open_sets.into_values().collect(),
        watched,
        limited: limited_from,
        denied,
        allowed,
        by_dns,
    };
    values.version = version(&values);
    let by_dns = !values.by_dns.is_empty();
    let main = Page::new("outgate.nft", "nftables/outgate.nft.j2", values);
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
        let names = rule.destinations.iter().flat_map(|d| &d.names);
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
fn fed_sets(rule: &Rule, settings: &Nftables) -> (Vec<ByDns>, Vec<Set>) {
    let names: Vec<&NamePattern> = rule
        .destinations
        .iter()
        // What a denial takes back, or the site sends to the proxy, has no address here whoever answers with one.
        .filter(|d| rule.action == Action::Allow && fed(settings, &d.endpoint))
        .filter(|d| !d.gap.as_ref().is_some_and(Gap::is_decided))
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
    let empty = |name: &String, kind| Set { name: name.clone(), kind, interval: false, elements: String::new() };
    (feeds.collect(), vec![empty(&v4, "ipv4_addr"), empty(&v6, "ipv6_addr")])
}

/// A number of everything but the elements of the sets: rules and sets of another number are other rules.
fn version(values: &Values<'_>) -> String {
    let mut text = String::new();
    let mut add = |parts: &[&str]| {
        let _ = writeln!(text, "{parts:?}");
    };
    for set in values.sets.iter().chain(&values.open_sets) {
        add(&[&set.name, set.kind]);
    }
    for (kind, groups) in [("deny", &values.denied), ("allow", &values.allowed)] {
        for group in groups {
            add(&[kind, &group.why.id]);
            for line in &group.lines {
                add(&[&line.from.text(), line.family, &line.servers, line.protocol, &line.ports]);
            }
        }
    }
    for from in values.watched.iter().chain(&values.limited) {
        add(&[&from.text()]);
    }
    let flags = [values.forward, values.output, values.audit, values.drop];
    add(&[&values.priority, values.log_prefix, values.deny_interface, &format!("{flags:?} {}", values.log_rate)]);
    format!("0x{}", &sha256(&text)[..8])
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

fn clients<'a>(name: &str, origins: &BTreeSet<Origin>, ruleset: &Ruleset, settings: &'a Nftables) -> Clients<'a> {
    let addrs = ruleset.clients_of(origins);
    let mut marks = Vec::new();
    for origin in origins {
        // Apps without addresses of their own leave with the appliance's, and are known as it is.
        let same = |a, b| ruleset.clients.get(a).map(|g| &g.addrs) == ruleset.clients.get(b).map(|g| &g.addrs);
        let as_nas = *origin == Origin::App && same(&Origin::App, &Origin::Nas);
        marks.extend(settings.marks.get(if as_nas { &Origin::Nas } else { origin }));
    }
    Clients { name: name.to_owned(), addrs, marks }
}

/// The sets of some clients, and how a packet is found to be theirs.
fn sources(sets: &mut BTreeMap<String, Set>, clients: &Clients<'_>) -> Vec<From> {
    let mut from = Vec::new();
    let (v4, v6) = (clients.addrs.v4_list(",\n"), clients.addrs.v6_list(",\n"));
    for (family, kind, short, elements) in [("ip", "ipv4_addr", 4, v4), ("ip6", "ipv6_addr", 6, v6)] {
        if !elements.is_empty() {
            let name = format!("c_{}_{short}", clients.name);
            sets.insert(name.clone(), Set { name: name.clone(), kind, interval: true, elements });
            from.push(From::Address { family, set: name });
        }
    }
    let macs: BTreeSet<&str> = clients.marks.iter().flat_map(|marks| &marks.macs).map(String::as_str).collect();
    if !macs.is_empty() {
        let name = format!("c_{}_mac", clients.name);
        let elements = macs.into_iter().collect::<Vec<_>>().join(",\n");
        sets.insert(name.clone(), Set { name: name.clone(), kind: "ether_addr", interval: false, elements });
        from.push(From::Mac { set: name });
    }
    let names: BTreeSet<&String> = clients.marks.iter().flat_map(|marks| &marks.interfaces).collect();
    if !names.is_empty() {
        from.push(From::Interface { names: names.into_iter().cloned().collect() });
    }
    from
}

fn group(
    rule: &Rule,
    why: Why,
    sources: &[From],
    open: impl Iterator<Item = (&'static str, String)>,
    sets: &mut BTreeMap<String, Set>,
) -> Group<Line> {
    let own = server_sets(rule);
    let servers: Vec<(&str, String)> = own.iter().map(|set| (set.kind, set.name.clone())).chain(open).collect();
    sets.extend(own.into_iter().map(|set| (set.name.clone(), set)));
    let mut lines = Vec::new();
    for (kind, name) in servers {
        let family = if kind == "ipv4_addr" { "ip" } else { "ip6" };
        for from in sources {
            if matches!(from, From::Address { family: of, .. } if *of != family) {
                continue;
            }
            for protocol in Protocol::ALL {
                let ports: Vec<String> = rule.ports_of(protocol).map(|port| port.numbers("-")).collect();
                if !ports.is_empty() {
                    let (from, servers, protocol) = (from.clone(), name.clone(), protocol.as_str());
                    lines.push(Line { from, family, servers, protocol, ports: ports.join(", ") });
                }
            }
        }
    }
    Group { why, lines }
}

/// Single addresses in hash sets, which take a refresh element by element; prefixes in interval sets, merged.
fn server_sets(rule: &Rule) -> Vec<Set> {
    let name = |kind: &str| format!("d_{}_{kind}", rule.key.underscored());
    let (hosts, nets) = (rule.hosts(), rule.nets());
    let sets = [
        ("ipv4_addr", "h4", false, hosts.v4_singles(",\n")),
        ("ipv6_addr", "h6", false, hosts.v6_singles(",\n")),
        ("ipv4_addr", "n4", true, nets.v4_list(",\n")),
        ("ipv6_addr", "n6", true, nets.v6_list(",\n")),
    ];
    let filled = sets.into_iter().filter(|(.., list)| !list.is_empty());
    filled.map(|(kind, short, interval, elements)| Set { name: name(short), kind, interval, elements }).collect()
}

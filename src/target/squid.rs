//! Squid 5, 6 and 7: an include that goes by name, with peek and splice, its list files, and a file for the clients.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::loss::{self, Loss};
use super::wall::{Sight, Wall};
use super::rows::{self, Rows, Table};
use super::{By, Header, Layer, Line, Mark, Page, Plan, Stop, Target, Texts, Value};
use crate::addrs::{AddrSet, short};
use crate::callout::Endpoint;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::{Host, NamePattern};
use crate::port::{Port, Protocol};
use crate::ruleset::{Action, Destination, Rule, Ruleset, prune};
use crate::settings::{Settings, Squid, UrlPrefix};

/// The target.
pub const TARGET: Target = Target {
    name: "squid",
    about: "Squid 5, 6 and 7 with TLS support, as a proxy that clients know or are turned to, by the TLS server name",
    layer: Layer::Names,
    limits: &[
        "HTTP on 80/tcp and TLS on 443/tcp only: mail, time, DNS and logs do not go through a proxy",
        "by name: a host is let out as a whole, but for those whose TLS the site opens",
        "every client of the proxy is limited, the administrator too: it ends in deny all",
        "what is inside TLS is not seen: a client that sends an allowed server name and another Host header gets through",
        "where clients are turned to it: no TLS without a server name or with it encrypted, no QUIC, and a client must have its addresses from the resolver the proxy asks",
    ],
    main: "outgate.conf",
    owns: &[
        "squid/losses.json",
        "squid/outgate.conf",
        "squid/outgate.pac",
        "squid/lists/allow_*.txt",
        "squid/lists/deny_*.txt",
    ],
    check: &["squid", "-k", "parse", "-f"],
    templates: &[
        ("squid/outgate.conf.j2", include_str!("../../templates/squid/outgate.conf.j2")),
        ("squid/list.txt.j2", include_str!("../../templates/squid/list.txt.j2")),
        ("squid/outgate.pac.j2", include_str!("../../templates/squid/outgate.pac.j2")),
    ],
    chosen: |settings: &Settings| settings.squid.is_some(),
    wall,
    plan,
    stops,
    handle,
    resolves: |_, _| None,
    retire: None,
};

/// What Squid carries, by destination port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Carrier {
    Http,
    Tls,
}

impl Carrier {
    const ALL: [Self; 2] = [Self::Http, Self::Tls];

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Tls => 443,
        }
    }

    fn carries(self, rule: &Rule) -> bool {
        rule.ports.iter().any(|port| port.contains(Protocol::Tcp, self.port()))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tls => "tls",
        }
    }
}

#[derive(Serialize)]
struct Values<'a> {
    header: Header,
    port: u16,
    /// Ports for what a packet filter turns here: none or one of each.
    intercept: Vec<Caught>,
    certificate: &'a str,
    folder: &'a str,
    clients: Vec<Clients>,
    denied: Vec<List>,
    allowed: Vec<List>,
    /// The groups of clients that may begin TLS at all.
    begins: BTreeSet<String>,
    /// Hosts whose TLS is opened.
    opened: Vec<Opened>,
    /// The lengths of all their paths.
    lengths: BTreeSet<usize>,
}

#[derive(Serialize)]
struct Caught {
    http: u16,
    https: u16,
}

/// A host whose TLS is opened.
#[derive(Serialize)]
struct Opened {
    host: String,
    /// The lists that let it out.
    lists: Vec<List>,
    /// Beginnings of paths, by their length.
    paths: Vec<Paths>,
}

#[derive(Serialize)]
struct Paths {
    length: usize,
    paths: BTreeSet<String>,
}

/// What clients are told.
#[derive(Serialize)]
struct Pac {
    header: Header,
    proxy: String,
    port: u16,
    /// Names and addresses of the site's own servers.
    hosts: BTreeSet<String>,
    /// Their networks: address and mask.
    nets: BTreeSet<(String, String)>,
}

#[derive(Serialize)]
struct Clients {
    name: String,
    prefixes: Vec<String>,
}

/// One list of names, for one group of clients and one carrier.
#[derive(Clone, Serialize)]
struct List {
    name: String,
    clients: String,
    tls: bool,
    /// Whether there are names.
    names: bool,
    /// Names that Squid's dot form would take with a wildcard though the wildcard does not mean them.
    bare: Vec<String>,
    /// Addresses the site names itself: one row, with one a line, or none.
    literals: Value,
    /// Each name as Squid has it, with the rules it stands for.
    entries: Value,
    whys: Value,
    /// About how many bytes of the file are its own.
    #[serde(skip)]
    about: usize,
}

#[derive(Serialize)]
struct ListPage {
    header: Header,
    list: List,
}

fn plan(texts: &Texts<'_>, findings: &mut Findings) -> Option<Plan> {
    let ruleset = texts.ruleset;
    let default = Squid::default();
    let settings = ruleset.settings.squid.as_ref().unwrap_or(&default);
    let losses = losses(ruleset, findings);
    let mut clients = BTreeMap::new();
    let mut groups: BTreeMap<(Action, String, Carrier), Vec<&Rule>> = BTreeMap::new();
    // Most rules are for the same clients.
    let mut senders = BTreeMap::new();
    for rule in &ruleset.rules {
        let (group, mine): &(String, AddrSet) =
            senders.entry((rule.action, rule.origins)).or_insert_with(|| sender(ruleset, rule));
        if mine.is_empty() {
            continue;
        }
        for carrier in Carrier::ALL {
            // A blocked name is blocked on both, whichever its entry names.
            if carrier.carries(rule) || rule.action == Action::Deny {
                groups.entry((rule.action, group.clone(), carrier)).or_default().push(rule);
                clients.entry(group.clone()).or_insert_with(|| mine.clone());
            }
        }
    }
    let (mut denied, mut allowed) = (Vec::new(), Vec::new());
    let paths = settings.decrypt.as_ref().map_or(&[][..], |decrypt| &decrypt.paths);
    let mut open = Vec::new();
    for ((action, group, carrier), rules) in &groups {
        let list = list(group, *carrier, rules);
        match action {
            Action::Deny => denied.push(list),
            Action::Allow => {
                if *carrier == Carrier::Tls && !paths.is_empty() {
                    open.push((prune(rules.iter().flat_map(|rule| rule.names())), list.clone()));
                }
                allowed.push(list);
            }
        }
    }
    let opened = opened(paths, &open, findings);
    let header = Header::new(ruleset, &losses);
    let mut pages: Vec<Page> = denied
        .iter()
        .chain(&allowed)
        .filter(|list| list.names)
        .map(|list| {
            let values = ListPage { header: header.clone(), list: list.clone() };
            Page::new(format!("lists/{}.txt", list.name), "squid/list.txt.j2", values)
        })
        .collect();
    if let Some(proxy) = &settings.pac {
        pages.push(Page::new("outgate.pac", "squid/outgate.pac.j2", pac(ruleset, header.clone(), proxy, settings.port)));
    }
    let about = denied.iter().chain(&allowed).map(|list| list.about).sum();
    let values = Values {
        header,
        port: settings.port,
        intercept: settings.intercept.iter().map(|ports| Caught { http: ports.http, https: ports.https }).collect(),
        certificate: settings.decrypt.as_ref().map_or(&settings.certificate, |decrypt| &decrypt.ca),
        begins: allowed.iter().filter(|list| list.tls).map(|list| list.clients.clone()).collect(),
        lengths: opened.iter().flat_map(|opened| opened.paths.iter().map(|paths| paths.length)).collect(),
        opened,
        folder: &settings.lists,
        clients: clients.iter().map(|(name, addrs)| client_group(name, addrs)).collect(),
        denied,
        allowed,
    };
    pages.push(Page::new("outgate.conf", "squid/outgate.conf.j2", values).about(about));
    Some(Plan { pages, losses })
}

/// The group of clients that a rule is for, and their addresses.
fn sender(ruleset: &Ruleset, rule: &Rule) -> (String, AddrSet) {
    let all = ruleset.clients_of(rule.origins);
    let name = format!("{}_{}", rule.action.as_str(), ruleset.group_name(rule.origins));
    match rule.action {
        // An administrators' prefix may hold the appliance: what is theirs alone is not its own.
        Action::Allow => {
            (name, all.minus(&ruleset.limited()).union(&ruleset.clients_of(ruleset.bound(rule))))
        }
        Action::Deny => (name, all),
    }
}

/// What it makes of traffic: by name, of whoever uses it.
fn wall(ruleset: &Ruleset) -> Option<Wall<'_>> {
    let carried = Carrier::ALL.map(|carrier| u32::from(carrier.port()));
    Some(Wall {
        sight: Sight::Name { addresses: true },
        carries: carried.iter().filter_map(|&port| Port::range(Protocol::Tcp, port, port)).collect(),
        everybody: true,
        only_paths: ruleset.settings.squid.iter().flat_map(|squid| &squid.decrypt).flat_map(|d| &d.paths).map(|p| p.host.clone()).collect(),
        ..Wall::by_address(ruleset)
    })
}

/// What stops a denial: the list of its clients, by the name asked for and by the server name of the handshake. Each of
/// its names must stand in that list, itself or behind a wildcard.
fn stops(ruleset: &Ruleset, rule: &Rule) -> Stop {
    if ruleset.clients_of(rule.origins).is_empty() {
        return Stop::NotHere("no clients of its origin are named".to_owned());
    }
    let group = format!("deny_{}", ruleset.group_name(rule.origins));
    let mut marks = Vec::new();
    for carrier in Carrier::ALL {
        let list = format!("{group}_{}", carrier.name());
        let asked = format!("http_access deny outgate_from_{group} outgate_{list}");
        let names = rule.names();
        for name in &names {
            let wider = std::iter::once(name.clone()).chain(name.covering());
            let entry = |name: NamePattern| match name {
                NamePattern::Exact(host) => host.to_string(),
                NamePattern::Below(host) => format!(".{host}"),
            };
            let lines = wider.map(entry).collect();
            marks.push(Mark { by: By::Name, file: format!("lists/{list}.txt"), line: Line::IsOneOf(lines) });
        }
        if !names.is_empty() {
            marks.push(Mark::holds(By::Name, "outgate.conf", asked));
            if carrier == Carrier::Tls {
                let ended = format!("ssl_bump terminate outgate_step2 outgate_from_{group} outgate_{list}_sni");
                marks.push(Mark::holds(By::Sni, "outgate.conf", ended));
            }
        }
        if !rule.literals().is_empty() {
            let literal = format!("http_access deny outgate_from_{group} outgate_literal outgate_{list}_ip");
            marks.push(Mark::holds(By::Address, "outgate.conf", literal));
        }
    }
    if marks.is_empty() { Stop::Rest(vec![Mark::holds(By::Name, "outgate.conf", "http_access deny all")]) } else { Stop::Rule(marks) }
}

fn handle(ruleset: &Ruleset, rule: Option<&Rule>) -> Option<String> {
    let Some(rule) = rule else { return Some("http_access deny all".to_owned()) };
    let group = format!("{}_{}", rule.action.as_str(), ruleset.group_name(rule.origins));
    let carried = |carrier: &Carrier| carrier.carries(rule) || rule.action == Action::Deny;
    let lists = Carrier::ALL.into_iter().filter(carried).map(|carrier| format!("outgate_{group}_{}", carrier.name()));
    let lists: Vec<String> = lists.collect();
    (!lists.is_empty()).then(|| format!("acl {}", lists.join(", ")))
}

/// The hosts whose TLS is opened, each with the lists that let it out. One that none does would only look like a rule.
fn opened(prefixes: &[UrlPrefix], allowed: &[(Vec<NamePattern>, List)], findings: &mut Findings) -> Vec<Opened> {
    let mut hosts: BTreeMap<&Host, BTreeMap<usize, BTreeSet<String>>> = BTreeMap::new();
    for UrlPrefix { host, path, span } in prefixes {
        let name = NamePattern::Exact(host.clone());
        if !allowed.iter().any(|(patterns, _)| patterns.iter().any(|pattern| pattern.covers(&name))) {
            findings.push(
                Diagnostic::new(Code::BadSetting, format!("squid: no rule lets `{host}` out on 443/tcp"))
                    .at(span.clone(), "")
                    .help("a path narrows what a rule allows and opens nothing: take it out, or allow the host"),
            );
        }
        hosts.entry(host).or_default().entry(path.len()).or_default().insert(path.clone());
    }
    let opened = hosts.into_iter().map(|(host, by_length)| {
        let name = NamePattern::Exact(host.clone());
        let lists = allowed.iter().filter(|(patterns, _)| patterns.iter().any(|pattern| pattern.covers(&name)));
        Opened {
            host: host.to_string(),
            lists: lists.map(|(_, list)| list.clone()).collect(),
            paths: by_length.into_iter().map(|(length, paths)| Paths { length, paths }).collect(),
        }
    });
    opened.collect()
}

/// What clients are told: the site's own servers are reached without the proxy, all else is the proxy's to decide.
fn pac(ruleset: &Ruleset, header: Header, proxy: &Host, port: u16) -> Pac {
    let (mut hosts, mut nets) = (BTreeSet::new(), BTreeSet::new());
    for rule in ruleset.rules.iter().filter(|rule| rule.action == Action::Allow && rule.callout.slot.is_some()) {
        for destination in rule.destinations.iter().filter(|d| !rule.callout.endpoints.contains(&d.endpoint)) {
            match &destination.endpoint {
                Endpoint::Name(NamePattern::Exact(host)) => _ = hosts.insert(host.to_string()),
                Endpoint::Net(net) if net.prefix_len() == net.max_prefix_len() => _ = hosts.insert(short(net)),
                Endpoint::Net(net) if net.addr().is_ipv4() => {
                    nets.insert((net.network().to_string(), net.netmask().to_string()));
                }
                // Clients have no common way to tell whether an IPv6 address is in a network; no wildcard is a server.
                Endpoint::Net(_) | Endpoint::Name(NamePattern::Below(_)) | Endpoint::Service(_) => {}
            }
        }
    }
    Pac { header, proxy: proxy.to_string(), port, hosts, nets }
}

fn client_group(name: &str, addrs: &AddrSet) -> Clients {
    Clients { name: name.to_owned(), prefixes: addrs.prefixes().iter().map(ToString::to_string).collect() }
}

fn list(group: &str, carrier: Carrier, rules: &[&Rule]) -> List {
    let mut names: Vec<(NamePattern, &str)> = names(rules).collect();
    names.sort_unstable();
    names.dedup();
    let wildcards = names.iter().map(|(name, _)| name).filter(|name| name.exact().is_none());
    let wildcards: BTreeSet<NamePattern> = prune(wildcards.cloned()).into_iter().collect();
    let is_named = |host: &Host| names.binary_search_by(|(name, _)| name.cmp(&NamePattern::Exact(host.clone()))).is_ok();
    let bare = wildcards.iter().map(NamePattern::host).filter(|host| !is_named(host)).map(ToString::to_string).collect();
    let literals: AddrSet = rules.iter().flat_map(|rule| rule.each_literal()).collect();
    let named = !names.is_empty();
    let entries = entries(names, &wildcards);
    let (literals, whys) = (rows::lines_alone(&["addrs"], &|out: &mut String| literals.push_list(out, "\n")), whys(rules));
    let about = literals.filled_length() + whys.filled_length();
    let entries = Value::from_object(entries);
    List {
        name: format!("{group}_{}", carrier.name()),
        clients: group.to_owned(),
        tls: carrier == Carrier::Tls,
        names: named,
        bare,
        literals: Value::from_object(literals),
        entries,
        whys: Value::from_object(whys),
        about,
    }
}

/// Why the rules of a list are there.
fn whys(rules: &[&Rule]) -> Table {
    let mut rows = Rows::new(&["id", "title", "action", "reason", "source"]).room_for(rules.len());
    for Rule { key, callout, action, reason, .. } in rules {
        rows.push([key, &callout.title, &action.as_str(), &reason.as_str(), &callout.first_source()]);
    }
    rows.done()
}

/// Every name of these rules, with the rule's id.
fn names<'a>(rules: &'a [&'a Rule]) -> impl Iterator<Item = (NamePattern, &'a str)> {
    rules.iter().flat_map(|rule| {
        let names = rule.destinations.iter().flat_map(Destination::names);
        names.map(|name| (name.clone(), rule.key.as_str()))
    })
}

/// Names in order, each once and with the rules it is of. One that lies behind a wildcard is the wildcard's.
fn entries(mut names: Vec<(NamePattern, &str)>, wildcards: &BTreeSet<NamePattern>) -> Table {
    if !wildcards.is_empty() {
        for (name, _) in &mut names {
            let wider = name.covering().find(|pattern| wildcards.contains(pattern));
            // `example.com` beside `.example.com` is an error to Squid or not, by their order: the dot form takes both.
            let dotted = || Some(NamePattern::Below(name.host().clone())).filter(|dotted| wildcards.contains(dotted));
            if let Some(widest) = wider.or_else(dotted) {
                *name = widest;
            }
        }
        names.sort_unstable();
        names.dedup();
    }
    let mut rows = Rows::new(&["name", "ids"]).room_for(names.len());
    for alike in names.chunk_by(|(one, _), (other, _)| one == other) {
        let (Some((name, _)), ids) = (alike.first(), alike.iter().map(|(_, id)| *id)) else { continue };
        let dot = if name.exact().is_some() { "" } else { "." };
        let name = |out: &mut String| out.extend([dot, name.host().as_str()]);
        let ids = |out: &mut String| {
            for (place, id) in ids.clone().enumerate() {
                out.extend([if place > 0 { ", " } else { "" }, id]);
            }
        };
        rows.push([&name, &ids]);
    }
    rows.done()
}

/// What no proxy carries, and what only a lock could name.
fn losses(ruleset: &Ruleset, findings: &mut Findings) -> Vec<Loss> {
    let mut losses = Vec::new();
    for rule in ruleset.rules.iter().filter(|rule| rule.action == Action::Allow) {
        let left: Vec<String> = rule.ports.iter().filter_map(|port| left_over(*port)).collect();
        if !left.is_empty() {
            let text = format!("{}: {} does not go through a proxy", rule.key, left.join(", "));
            losses.push(Loss::of(rule, &loss::NOT_PROXIED, text).ports(left));
        }
    }
    let carried = |rule: &&Rule| rule.action == Action::Deny || Carrier::ALL.iter().any(|carrier| carrier.carries(rule));
    losses.extend(super::name_losses("squid", ruleset.rules.iter().filter(carried), findings));
    losses
}

/// The part of a range of ports that no proxy carries, in words; `None` when it carries all.
fn left_over(port: Port) -> Option<String> {
    let carried: Vec<String> =
        Carrier::ALL.iter().map(|c| c.port()).filter(|n| port.contains(Protocol::Tcp, *n)).map(|n| n.to_string()).collect();
    match carried.len() {
        0 => Some(port.to_string()),
        n if n == usize::from(port.last() - port.first()) + 1 => None,
        _ => Some(format!("{port} but for {}", carried.join(" and "))),
    }
}

//! Squid 5 and later: an include that goes by name, with peek and splice, and its list files.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::loss::{self, Loss};
use super::{Header, Layer, Page, Plan, Target, Why};
use crate::addrs::{AddrSet, short};
use crate::callout::Origin;
use crate::diagnostic::Findings;
use crate::host::NamePattern;
use crate::port::{Port, Protocol};
use crate::ruleset::{Action, Rule, Ruleset, prune};
use crate::settings::{Settings, Squid};

/// The target.
pub const TARGET: Target = Target {
    name: "squid",
    about: "Squid 5 and later with TLS support, as an explicit proxy that looks at the TLS server name",
    layer: Layer::Names,
    limits: &[
        "HTTP on 80/tcp and TLS on 443/tcp only: mail, time, DNS and logs do not go through a proxy",
        "by name, not by path: a host is let out as a whole",
        "every client of the proxy is limited, the administrator too: it ends in deny all",
        "what is inside TLS is not seen: a client that sends an allowed server name and another Host header gets through",
    ],
    main: "outgate.conf",
    owns: &["squid/losses.json", "squid/outgate.conf", "squid/lists/allow_*.txt", "squid/lists/deny_*.txt"],
    check: &["squid", "-k", "parse", "-f"],
    templates: &[
        ("squid/outgate.conf.j2", include_str!("../../templates/squid/outgate.conf.j2")),
        ("squid/list.txt.j2", include_str!("../../templates/squid/list.txt.j2")),
    ],
    chosen: |settings: &Settings| settings.squid.is_some(),
    plan,
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
    certificate: &'a str,
    folder: &'a str,
    clients: Vec<Clients>,
    denied: Vec<List>,
    allowed: Vec<List>,
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
    /// Addresses the site names itself.
    literals: Vec<String>,
    entries: Vec<Entry>,
    whys: Vec<Why>,
}

#[derive(Clone, Serialize)]
struct Entry {
    name: String,
    ids: String,
}

#[derive(Serialize)]
struct ListPage {
    header: Header,
    list: List,
}

fn plan(ruleset: &Ruleset, findings: &mut Findings) -> Option<Plan> {
    let default = Squid::default();
    let settings = ruleset.settings.squid.as_ref().unwrap_or(&default);
    let losses = losses(ruleset, findings);
    let mut clients = BTreeMap::new();
    let mut groups: BTreeMap<(Action, String, Carrier), Vec<&Rule>> = BTreeMap::new();
    for rule in &ruleset.rules {
        // An administrators' prefix may hold the appliance: what is theirs alone is not its own.
        let limited: BTreeSet<Origin> = ruleset.bound(rule);
        let mine = ruleset.clients_of(&rule.origins).minus(&ruleset.limited()).union(&ruleset.clients_of(&limited));
        let (group, mine) = match rule.action {
            Action::Allow => (format!("allow_{}", ruleset.group_name(&rule.origins)), mine),
            Action::Deny => (format!("deny_{}", ruleset.group_name(&rule.origins)), ruleset.clients_of(&rule.origins)),
        };
        if mine.is_empty() {
            continue;
        }
        for carrier in Carrier::ALL {
            // A blocked name is blocked on both, whichever its entry names.
            if carrier.carries(rule) || rule.action == Action::Deny {
                groups.entry((rule.action, group.clone(), carrier)).or_default().push(rule);
                clients.insert(group.clone(), mine.clone());
            }
        }
    }
    let (mut denied, mut allowed) = (Vec::new(), Vec::new());
    for ((action, group, carrier), rules) in &groups {
        let list = list(group, *carrier, rules);
        match action {
            Action::Deny => denied.push(list),
            Action::Allow => allowed.push(list),
        }
    }
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
    let values = Values {
        header,
        port: settings.port,
        certificate: &settings.certificate,
        folder: &settings.lists,
        clients: clients.iter().map(|(name, addrs)| client_group(name, addrs)).collect(),
        denied,
        allowed,
    };
    pages.push(Page::new("outgate.conf", "squid/outgate.conf.j2", values));
    Some(Plan { pages, losses })
}

fn client_group(name: &str, addrs: &AddrSet) -> Clients {
    Clients { name: name.to_owned(), prefixes: addrs.prefixes().iter().map(ToString::to_string).collect() }
}

fn list(group: &str, carrier: Carrier, rules: &[&Rule]) -> List {
    let patterns: BTreeSet<NamePattern> = prune(rules.iter().flat_map(|rule| rule.names())).into_iter().collect();
    let literals: AddrSet = rules.iter().map(|rule| rule.literals()).collect::<Vec<_>>().iter().collect();
    // An entry that a wildcard of another covers stands behind that wildcard.
    let mut ids: BTreeMap<NamePattern, BTreeSet<&str>> = BTreeMap::new();
    for rule in rules {
        for name in rule.names() {
            let wider = name.covering().find(|pattern| patterns.contains(pattern));
            ids.entry(dotted(wider.unwrap_or(name), &patterns)).or_default().insert(rule.key.as_str());
        }
    }
    let bare = patterns
        .iter()
        .filter_map(|p| if let NamePattern::Below(host) = p { Some(host) } else { None })
        .filter(|host| !patterns.contains(&NamePattern::Exact((*host).clone())))
        .map(ToString::to_string)
        .collect();
    let entries = ids.into_iter().map(|(pattern, ids)| Entry {
        name: match &pattern {
            NamePattern::Exact(host) => host.to_string(),
            NamePattern::Below(host) => format!(".{host}"),
        },
        ids: ids.into_iter().collect::<Vec<_>>().join(", "),
    });
    List {
        name: format!("{group}_{}", carrier.name()),
        clients: group.to_owned(),
        tls: carrier == Carrier::Tls,
        names: !patterns.is_empty(),
        bare,
        literals: literals.prefixes().iter().map(short).collect(),
        entries: entries.collect(),
        whys: rules.iter().map(|rule| Why::of(rule)).collect(),
    }
}

/// `example.com` beside `.example.com` is an error to Squid or not, by their order: the dot form takes both.
fn dotted(pattern: NamePattern, all: &BTreeSet<NamePattern>) -> NamePattern {
    match pattern {
        NamePattern::Exact(host) if all.contains(&NamePattern::Below(host.clone())) => NamePattern::Below(host),
        other => other,
    }
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

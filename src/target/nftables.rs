//! nftables 1.0.6 and later: one table of our own, kept and refilled in one transaction.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::{Group, Header, Layer, Page, Target, Why, address_losses};
use crate::addrs::AddrSet;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::port::Protocol;
use crate::ruleset::{Action, Rule, Ruleset};
use crate::settings::{Denied, Hook, Ipv6, Nftables, Settings};

/// The target.
pub const TARGET: Target = Target {
    name: "nftables",
    about: "nftables 1.0.6 and later, on a Linux router or on the NAS itself",
    layer: Layer::Addresses,
    limits: &["no wildcards: a list of addresses cannot hold names that are not known", "two names on one address are one"],
    main: "outgate.nft",
    owns: &["nftables/outgate.nft"],
    check: &["nft", "-c", "-f"],
    templates: &[("nftables/outgate.nft.j2", include_str!("../../templates/nftables/outgate.nft.j2"))],
    chosen: |settings: &Settings| settings.nftables.is_some(),
    plan,
};

#[derive(Serialize)]
struct Values<'a> {
    header: Header,
    table: &'a str,
    priority: String,
    forward: bool,
    output: bool,
    drop: bool,
    log_prefix: &'a str,
    log_rate: u16,
    deny_interface: &'a str,
    sets: Vec<Set>,
    watched: Vec<Match>,
    limited: Vec<Match>,
    denied: Vec<Group<Line>>,
    allowed: Vec<Group<Line>>,
}

/// A named set. Its name says its kind, so a refill never meets a set of another type under the same name.
#[derive(Serialize)]
struct Set {
    name: String,
    family: &'static str,
    interval: bool,
    elements: String,
}

/// `ip saddr @set`.
#[derive(Clone, Serialize)]
struct Match {
    family: &'static str,
    set: String,
}

#[derive(Serialize)]
struct Line {
    family: &'static str,
    clients: String,
    servers: String,
    protocol: &'static str,
    ports: String,
}

fn plan(ruleset: &Ruleset, findings: &mut Findings) -> Option<Vec<Page>> {
    let default = Nftables::default();
    let settings = ruleset.settings.nftables.as_ref().unwrap_or(&default);
    if ruleset.ipv6 == Ipv6::DenyInterface && settings.interface.is_none() {
        findings.push(
            Diagnostic::new(Code::BadSetting, "`ipv6: deny-interface` needs the interface the clients are behind")
                .help("add `interface:` under `targets: nftables:`"),
        );
    }
    let losses = address_losses("nftables", ruleset, findings);
    let mut sets = BTreeMap::new();
    let limited = client_sets(&mut sets, "limited", &ruleset.limited());
    let (mut denied, mut allowed) = (Vec::new(), Vec::new());
    let mut watched = ruleset.limited();
    for rule in super::seen_on_host("nftables", ruleset, settings.hook == Hook::Output, findings) {
        let origins = ruleset.bound(rule);
        let clients = ruleset.clients_of(&origins);
        if clients.is_empty() {
            continue;
        }
        watched = watched.union(&clients);
        let why = Why::by_address(rule, ruleset);
        let group = group(rule, why, &ruleset.group_name(&origins), &clients, &mut sets);
        match rule.action {
            Action::Deny => denied.push(group),
            Action::Allow => allowed.push(group),
        }
    }
    let watched = if watched == ruleset.limited() { Vec::new() } else { client_sets(&mut sets, "watched", &watched) };
    let values = Values {
        header: Header::new(ruleset, losses),
        table: &settings.table,
        priority: match settings.priority {
            0 => "filter".to_owned(),
            n if n < 0 => format!("filter - {}", n.unsigned_abs()),
            n => format!("filter + {n}"),
        },
        forward: settings.hook != Hook::Output,
        output: settings.hook != Hook::Forward,
        drop: settings.denied == Denied::Drop,
        log_prefix: &settings.log_prefix,
        log_rate: settings.log_rate,
        deny_interface: match ruleset.ipv6 {
            Ipv6::DenyInterface => settings.interface.as_deref().unwrap_or(""),
            Ipv6::Clients => "",
        },
        sets: sets.into_values().collect(),
        watched: if watched.is_empty() { limited.clone() } else { watched },
        limited,
        denied,
        allowed,
    };
    Some(vec![Page::new("outgate.nft", "nftables/outgate.nft.j2", values)])
}

fn client_sets(sets: &mut BTreeMap<String, Set>, name: &str, clients: &AddrSet) -> Vec<Match> {
    let mut matches = Vec::new();
    let v4: Vec<String> = clients.v4_prefixes().into_iter().map(|n| crate::addrs::short(&n.into())).collect();
    let v6: Vec<String> = clients.v6_prefixes().into_iter().map(|n| crate::addrs::short(&n.into())).collect();
    for (family, short, list) in [("ip", 4, v4), ("ip6", 6, v6)] {
        if !list.is_empty() {
            let set = format!("c_{name}_{short}");
            sets.insert(set.clone(), Set { name: set.clone(), family, interval: true, elements: list.join(",\n") });
            matches.push(Match { family, set });
        }
    }
    matches
}

fn group(
    rule: &Rule,
    why: Why,
    clients_name: &str,
    clients: &AddrSet,
    sets: &mut BTreeMap<String, Set>,
) -> Group<Line> {
    let sources = client_sets(sets, clients_name, clients);
    let mut lines = Vec::new();
    for (family, set) in server_sets(rule) {
        let Some(source) = sources.iter().find(|m| m.family == family) else { continue };
        for protocol in Protocol::ALL {
            let ports: Vec<String> = rule.ports_of(protocol).map(|port| port.numbers("-")).collect();
            if !ports.is_empty() {
                lines.push(Line {
                    family,
                    clients: source.set.clone(),
                    servers: set.name.clone(),
                    protocol: protocol.as_str(),
                    ports: ports.join(", "),
                });
            }
        }
        sets.insert(set.name.clone(), set);
    }
    Group { why, lines }
}

/// Single addresses in hash sets, which take a refresh element by element; prefixes in interval sets, merged.
fn server_sets(rule: &Rule) -> Vec<(&'static str, Set)> {
    let name = |kind: &str| format!("d_{}_{kind}", rule.key.underscored());
    let hosts: Vec<IpAddr> = rule.hosts().singles().collect();
    let texts = |v4: bool| hosts.iter().filter(|a| a.is_ipv4() == v4).map(ToString::to_string).collect::<Vec<_>>();
    let nets = rule.nets();
    let v4: Vec<String> = nets.v4_prefixes().iter().map(ToString::to_string).collect();
    let v6: Vec<String> = nets.v6_prefixes().iter().map(ToString::to_string).collect();
    [("ip", "h4", false, texts(true)), ("ip6", "h6", false, texts(false)), ("ip", "n4", true, v4), ("ip6", "n6", true, v6)]
        .into_iter()
        .filter(|(.., list)| !list.is_empty())
        .map(|(family, kind, interval, list)| (family, Set { name: name(kind), family, interval, elements: list.join(",\n") }))
        .collect()
}

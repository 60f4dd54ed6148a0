//! A hosts file: wanted names with the addresses of the lock, and nothing else.
//!
//! It blocks nothing. A name that is led to 0.0.0.0 has an address: clients connect to themselves, or wait, and what is
//! below the name resolves all the same.

use serde::Serialize;

use super::loss::{self, Loss};
use super::names::{Names, Written};
use super::{Header, Layer, Page, Plan, Stop, Target, Texts};
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::ruleset::{Action, Rule, Ruleset};
use crate::settings::{Pins, Settings};
use crate::text::Short;

/// The target.
pub const TARGET: Target = Target {
    name: "hosts",
    about: "a hosts file, for clients that ask no name server of yours: wanted names are pinned, and nothing is blocked",
    layer: Layer::Addresses,
    limits: &[
        "it blocks nothing: a hosts file can neither deny a name nor hold a wildcard, and a name led to 0.0.0.0 has an address",
        "a pinned name is as old as the lock: run `outgate resolve` regularly",
        "a name with one family in the lock is asked of DNS in the other, where a client asks for that one alone",
        "it holds for programs that read it: containers have one of their own, and some programs ask DNS themselves",
    ],
    main: "outgate.hosts",
    owns: &["hosts/losses.json", "hosts/outgate.hosts"],
    check: &[],
    templates: &[("hosts/outgate.hosts.j2", include_str!("../../templates/hosts/outgate.hosts.j2"))],
    chosen: |settings: &Settings| settings.hosts.is_some(),
    wall: |_| None,
    plan,
    stops,
    handle: |_, _| None,
    resolves: |_, _| None,
    retire: None,
};

#[derive(Serialize)]
struct Values {
    header: Header,
    names: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    ids: String,
    addrs: Vec<String>,
}

/// A hosts file stops nothing.
fn stops(_: &Ruleset, _: &Rule) -> Stop {
    Stop::NotHere("a hosts file blocks nothing".to_owned())
}

fn plan(texts: &Texts<'_>, findings: &mut Findings) -> Option<Plan> {
    let ruleset = texts.ruleset;
    if ruleset.answered.is_none() {
        findings.push(
            Diagnostic::new(Code::NotInLock, "hosts: without a lock there is no address to write")
                .help("run `outgate resolve`, or `outgate generate --resolve`, and commit `outgate.lock`"),
        );
        return None;
    }
    let names = Names::of(ruleset, Pins::All);
    // What is said of names that are blocked is no matter here: none is.
    let of_pins = |loss: &&Loss| [loss::UNPINNED.name, loss::LEFT_TO_DNSMASQ.name].contains(&loss.kind.name);
    let mut losses: Vec<Loss> = names.losses.iter().filter(of_pins).cloned().collect();
    let mut entries = Vec::new();
    for Written { node, .. } in names.written(|node, _| node.blocks()).into_values() {
        let Some(pin) = &node.pin else { continue };
        let name = node.host.to_string();
        if pin.v4.is_empty() || pin.v6.is_empty() {
            let (has, lacks) = if pin.v6.is_empty() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
            let text = format!("{}: {name} is pinned to {has}, and asked of DNS for {lacks}", node.allowed_by);
            losses.push(Loss { endpoints: vec![name.as_str().into()], ..Loss::general(&loss::FAMILY_UNPINNED, text) });
        }
        let addrs = pin.v4.iter().chain(&pin.v6).cloned().collect();
        entries.push(Entry { name, ids: node.allowed_by.clone(), addrs });
    }
    losses.extend(ruleset.rules.iter().filter(|rule| rule.action == Action::Deny).map(|rule| {
        let endpoints: Vec<String> = rule.destinations.iter().map(|d| d.endpoint.to_string()).collect();
        let text = format!("{}: {} blocked nowhere here", rule.key, are(&endpoints));
        let endpoints = endpoints.into_iter().map(Short::from).collect();
        Loss { endpoints, ..Loss::of(rule, &loss::NOTHING_BLOCKED, text) }
    }));
    let values = Values { header: Header::new(ruleset, &losses), names: entries };
    Some(Plan { pages: vec![Page::new("outgate.hosts", "hosts/outgate.hosts.j2", values)], losses })
}

fn are(names: &[String]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

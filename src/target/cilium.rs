//! Cilium: a network policy for pods, by name where Cilium can and by address where it must.
//!
//! Cilium opens the addresses that a pod's own lookups of allowed names return, so those lookups must pass its DNS proxy.
//! A pod that the policy selects is denied the rest. Denials are by address alone: a name that is blocked is simply not
//! opened, and the addresses the lock knows of it are denied, which also holds against other policies.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::loss::{self, Loss};
use super::wall::{Sight, Wall};
use super::{By, Header, Layer, Mark, Page, Plan, Stop, Target, Texts, Why, lists_left_out, name_losses, sharing_unknown};
use crate::callout::Endpoint;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::NamePattern;
use crate::port::Port;
use crate::ruleset::{Action, Rule, Ruleset, prune};
use crate::settings::{Cilium, Settings};
use crate::text::Id;

/// The target.
pub const TARGET: Target = Target {
    name: "cilium",
    about: "Cilium 1.19 and later on Kubernetes: a network policy for the pods that bear some labels",
    layer: Layer::Names,
    limits: &[
        "pods have no addresses of their own in a profile: those chosen by label get the rules of the `origins` named, and the rules of all others are left out",
        "policies add up: another one that lets these pods out holds as well, but for addresses that are denied",
        "a name opens the addresses its lookups return: two names on one address are one",
        "denials are by address: a blocked name below an allowed wildcard is refused",
        "wildcards are of any depth from Cilium 1.19 on; before, only names one label below are let out",
        "addresses of pods and nodes of the cluster are not meant by rules for names or prefixes; ping does not work",
    ],
    main: "outgate.yaml",
    owns: &["cilium/losses.json", "cilium/outgate.yaml"],
    check: &["kubectl", "apply", "--dry-run=server", "-f"],
    templates: &[("cilium/outgate.yaml.j2", include_str!("../../templates/cilium/outgate.yaml.j2"))],
    chosen: |settings: &Settings| settings.cilium.is_some(),
    wall,
    plan,
    stops,
    handle,
    resolves: |_, _| None,
    retire: None,
};

/// Most ports in one list of ports (`maxPorts` of Cilium's policy API).
const PORTS_MAX: usize = 40;
/// Longest name or pattern.
const PATTERN_MAX: usize = 255;

#[derive(Serialize)]
struct Values<'a> {
    header: Header,
    name: &'a str,
    namespace: &'a str,
    endpoints: Vec<Label<'a>>,
    dns_namespace: &'a str,
    dns_endpoints: Vec<Label<'a>>,
    origins: Vec<&'static str>,
    lookups: Lookups,
    denied: Vec<Block>,
    allowed: Vec<Block>,
}

#[derive(Serialize)]
struct Label<'a> {
    key: &'a str,
    value: &'a str,
}

/// The names the pods may look up.
#[derive(Serialize)]
struct Lookups {
    names: Vec<String>,
    patterns: Vec<String>,
}

/// One rule of the model.
#[derive(Serialize)]
struct Block {
    why: Why,
    names: Vec<String>,
    patterns: Vec<String>,
    prefixes: Vec<String>,
    ports: Vec<Vec<Range>>,
}

#[derive(Serialize)]
struct Range {
    protocol: String,
    first: u16,
    /// Greater than `first`, or 0.
    last: u16,
}

fn plan(texts: &Texts<'_>, findings: &mut Findings) -> Option<Plan> {
    let ruleset = texts.ruleset;
    let default = Cilium::on("default");
    let settings = ruleset.settings.cilium.as_ref().unwrap_or(&default);
    let help = "nothing is needed: what a lookup returns is opened; packet filters have the list";
    let mut losses = lists_left_out("pods reach what their own lookups return", help, ruleset);
    let ruleset = &*ruleset.asked_elsewhere();
    let (ours, others): (Vec<&Rule>, Vec<&Rule>) =
        ruleset.rules.iter().partition(|rule| !rule.origins.is_disjoint(settings.origins));
    let origins: Vec<&'static str> = settings.origins.iter().map(|origin| origin.as_str()).collect();
    losses.extend(left_out(&others));
    losses.extend(name_losses("cilium", ours.iter().copied(), findings));
    losses.extend(sharing_unknown(ruleset));
    crate::ruleset::sharing::report(ruleset, findings);
    let (denials, allows): (Vec<&Rule>, Vec<&Rule>) = ours.into_iter().partition(|rule| rule.action == Action::Deny);
    let blocked: Vec<(&Id, NamePattern)> =
        denials.iter().flat_map(|rule| rule.names().into_iter().map(|name| (&rule.key, name))).collect();
    // What a blocked name is an alias of has the blocked name's addresses, and a lookup of it opens them.
    let mut aliases: Vec<(&Id, NamePattern)> = Vec::new();
    for (key, name) in &blocked {
        aliases.extend(ruleset.aliases(name).iter().map(|alias| (*key, NamePattern::Exact(alias.clone()))));
    }
    let denied = denials.iter().filter_map(|rule| {
        let prefixes = rule.addrs().prefixes().iter().map(ToString::to_string).collect();
        Block::new(rule, &[], prefixes)
    });
    let denied = denied.collect();
    let (mut allowed, mut looked_up) = (Vec::new(), BTreeSet::new());
    for rule in &allows {
        let names = open_names(rule, &blocked, &aliases, &mut losses, findings);
        let prefixes = rule.literals().prefixes().iter().map(ToString::to_string).collect();
        looked_up.extend(names.iter().cloned());
        allowed.extend(Block::new(rule, &names, prefixes));
    }
    if allowed.is_empty() {
        let message =
            format!("cilium: nothing is allowed to origin {}, so these pods would be cut off", origins.join(", "));
        findings.push(
            Diagnostic::new(Code::NothingAllowed, message).help("name other `origins`, or features they make use of"),
        );
    }
    let header = Header::new(ruleset, &losses);
    let values = Values {
        header,
        name: &settings.name,
        namespace: &settings.namespace,
        endpoints: labels(&settings.endpoints),
        dns_namespace: &settings.dns_namespace,
        dns_endpoints: labels(&settings.dns_endpoints),
        origins,
        lookups: lookups(&allows, looked_up, settings),
        denied,
        allowed,
    };
    Some(Plan { pages: vec![Page::new("outgate.yaml", "cilium/outgate.yaml.j2", values)], losses })
}

/// What it makes of traffic: that of pods, which are no clients with addresses, by what their own lookups return.
fn wall(ruleset: &Ruleset) -> Option<Wall<'_>> {
    Some(Wall {
        ruleset: ruleset.asked_elsewhere(),
        sight: Sight::Lookup { wildcards: true },
        pods: ruleset.settings.cilium.as_ref().map(|cilium| cilium.origins),
        ..Wall::by_address(ruleset)
    })
}

/// What stops a denial: an address that is denied, and else that nothing opens it.
fn stops(ruleset: &Ruleset, rule: &Rule) -> Stop {
    let origins = ruleset.settings.cilium.as_ref().map(|cilium| cilium.origins);
    if origins.is_none_or(|origins| rule.origins.is_disjoint(origins)) {
        return Stop::NotHere("these pods make no such calls".to_owned());
    }
    let own = Mark::holds(By::Address, "outgate.yaml", format!("# {}: ", rule.key));
    if rule.addrs().is_empty() {
        return Stop::Rest(vec![Mark::holds(By::Address, "outgate.yaml", "enableDefaultDeny:")]);
    }
    Stop::Rule(vec![own])
}

fn handle(ruleset: &Ruleset, rule: Option<&Rule>) -> Option<String> {
    let origins = ruleset.settings.cilium.as_ref().map(|cilium| cilium.origins);
    match rule {
        Some(rule) if origins.is_none_or(|origins| rule.origins.is_disjoint(origins)) => None,
        Some(rule) => Some(format!("outgate.yaml, # {}", rule.key)),
        None => Some("outgate.yaml, enableDefaultDeny".to_owned()),
    }
}

/// Rules of those who are no pods.
fn left_out<'a>(others: &'a [&'a Rule]) -> impl Iterator<Item = Loss> + 'a {
    let text = |rule: &Rule| format!("{}: of an origin these pods do not have", rule.key);
    others.iter().map(move |rule| Loss::of(rule, &loss::OTHER_ORIGIN, text(rule)))
}

/// The names of a rule that can be opened. A denial of one of the pods' origins holds for all of them.
fn open_names(
    rule: &Rule,
    blocked: &[(&Id, NamePattern)],
    aliases: &[(&Id, NamePattern)],
    losses: &mut Vec<Loss>,
    findings: &mut Findings,
) -> Vec<NamePattern> {
    let mut open = Vec::new();
    for name in rule.names() {
        if let Some((by, _)) = blocked.iter().find(|(_, pattern)| pattern.covers(&name)) {
            let loss = format!("{}: {name} is denied to an origin of these pods by {by}", rule.key);
            losses.push(Loss::of(rule, &loss::DENIED_TO_ANOTHER, loss).endpoint(&Endpoint::Name(name)));
            continue;
        }
        if let Some((by, below)) = blocked.iter().chain(aliases).find(|(_, pattern)| name.covers(pattern)) {
            let message = format!("cilium: `{below}` ({by}) is to be blocked, and `{name}` ({}) lets it out", rule.key);
            findings.push(
                Diagnostic::new(Code::Inexpressible, message)
                    .at(rule.callout.span.clone(), "")
                    .help("Cilium denies by address alone: name the hosts that are meant in place of the wildcard, or `leave-out` one of the two"),
            );
        }
        if pattern(&name).is_some_and(|pattern| pattern.len() > PATTERN_MAX) {
            findings.push(
                Diagnostic::new(Code::TargetLimit, format!("cilium: `{name}` ({}) is too long for a pattern", rule.key))
                    .at(rule.callout.span.clone(), "")
                    .help("no name can lie below one so long: take it out"),
            );
        }
        open.push(name);
    }
    open
}

/// Every name below another, one label or more. `*.` would be one label and no more.
fn pattern(name: &NamePattern) -> Option<String> {
    match name {
        NamePattern::Exact(_) => None,
        NamePattern::Below(host) => Some(format!("**.{host}")),
    }
}

fn split(names: &[NamePattern]) -> (Vec<String>, Vec<String>) {
    let exact = names.iter().filter(|name| pattern(name).is_none()).map(ToString::to_string).collect();
    (exact, names.iter().filter_map(pattern).collect())
}

/// What is opened by name must be looked up through the proxy, or Cilium never learns its addresses. Nothing else may
/// be, for a lookup can carry data out; but for names of the cluster, which its DNS answers by itself.
fn lookups(allows: &[&Rule], opened: BTreeSet<NamePattern>, settings: &Cilium) -> Lookups {
    let (mut names, mut patterns) = split(&prune(opened));
    // A service is asked for before the hosts it selects.
    let services: BTreeSet<String> = (allows.iter().flat_map(|rule| &rule.destinations))
        .filter(|destination| !destination.names().is_empty())
        .filter_map(|destination| match &destination.endpoint {
            Endpoint::Service(service) => Some(service.to_string()),
            Endpoint::Name(_) | Endpoint::Net(_) => None,
        })
        .collect();
    names.extend(services);
    patterns.extend(settings.search.iter().map(|domain| format!("**.{domain}")));
    Lookups { names, patterns }
}

fn labels(labels: &BTreeMap<String, String>) -> Vec<Label<'_>> {
    labels.iter().map(|(key, value)| Label { key, value }).collect()
}

impl Block {
    /// `None` where the rule comes to nothing: no destination would be every destination.
    fn new(rule: &Rule, names: &[NamePattern], prefixes: Vec<String>) -> Option<Self> {
        let (names, patterns) = split(names);
        let ports: Vec<Vec<Range>> = rule.ports.chunks(PORTS_MAX).map(|ports| ports.iter().map(Range::of).collect()).collect();
        let something = !(names.is_empty() && patterns.is_empty() && prefixes.is_empty());
        // Nor may there be none: no ports would be every port.
        (something && !ports.is_empty()).then(|| Self { why: Why::of(rule), names, patterns, prefixes, ports })
    }
}

impl Range {
    fn of(port: &Port) -> Self {
        let last = if port.last() > port.first() { port.last() } else { 0 };
        Self { protocol: port.protocol.as_str().to_ascii_uppercase(), first: port.first(), last }
    }
}

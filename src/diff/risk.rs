//! What of a difference a reviewer must see first: each risk is a finding at the line of the catalog or profile that it
//! comes from.

use std::collections::BTreeMap;

use super::{Cause, Change, Diff, Turn, What};
use crate::callout::{Class, Endpoint, Origin};
use crate::coverage::Coverage;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::NamePattern;
use crate::lock::Lock;
use crate::port::Port;
use crate::ruleset::{Action, Rule, Ruleset};
use crate::text::Id;

/// Prefixes shorter than these are wider than a server's own network mostly is.
const WIDE_V4: u8 = 24;
/// The same for IPv6.
const WIDE_V6: u8 = 48;
/// More ports than this at once are no service.
const MANY_PORTS: u32 = 1000;
/// A fall in coverage that is worth a look, as a share of all connections.
const FALL: f64 = 0.05;

/// Finds the risks in what changed.
pub fn find(diff: &Diff, old: &Ruleset, new: &Ruleset, findings: &mut Findings) {
    denials_gone(old, new, findings);
    for change in diff.changes.iter().filter(|change| change.turn == Turn::Opened) {
        for (code, message, help) in risks(change) {
            findings.push(Diagnostic::new(code, message).at(change.callout.span.clone(), "").help(help));
        }
    }
    for change in diff.clients.iter().filter(|change| change.limited.0 == Some(true)) {
        if change.limited.1 != Some(true) {
            let who = change.clients.shorts().join(", ");
            let message = format!("clients {who} were denied what no rule allows, and are not any more");
            findings.push(Diagnostic::new(Code::ClientFreed, message).help("look under `clients` in the profile"));
        }
    }
}

/// Denials that are no longer there, whether or not anything can be reached by that now: what is denied by default alone
/// may be opened by the next change.
fn denials_gone(old: &Ruleset, new: &Ruleset, findings: &mut Findings) {
    let now = denials(new);
    let mut gone: BTreeMap<(&Id, &Endpoint), (&Rule, Vec<&str>)> = BTreeMap::new();
    for ((endpoint, origin), rule) in denials(old).into_iter().filter(|(of, _)| !now.contains_key(of)) {
        gone.entry((&rule.key, endpoint)).or_insert_with(|| (rule, Vec::new())).1.push(origin.as_str());
    }
    for ((key, endpoint), (rule, origins)) in gone {
        let message = format!("`{endpoint}` is no longer denied to {} by {key}", origins.join(", "));
        findings.push(
            Diagnostic::new(Code::DenialGone, message)
                .at(rule.callout.span.clone(), "")
                .help("look whether strict mode, an exception or a decision was meant to change"),
        );
    }
}

/// Every denial of a rule set, by what is denied to whom.
fn denials(rules: &Ruleset) -> BTreeMap<(&Endpoint, Origin), &Rule> {
    let denials = rules.rules.iter().filter(|rule| rule.action == Action::Deny);
    let each = denials.flat_map(|rule| {
        let endpoints = rule.destinations.iter().map(|destination| &destination.endpoint);
        endpoints.flat_map(move |endpoint| rule.origins.iter().map(move |origin| ((endpoint, origin), rule)))
    });
    each.collect()
}

fn risks(change: &Change) -> Vec<(Code, String, &'static str)> {
    let mut risks = Vec::new();
    let (key, endpoint) = (&change.rule, &change.endpoint);
    let ports = change.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if change.denial {
        return risks;
    }
    if change.callout.class != Class::Function {
        let message =
            format!("`{endpoint}` ({key}, class {}) can be reached on {ports}", change.callout.class.as_str());
        risks.push((Code::TelemetryOpened, message, "block its class with `strict`, or say why it is excepted"));
    }
    let width = |port: &Port| u32::from(port.last() - port.first()) + 1;
    if change.cause == Cause::Intent && change.ports.iter().map(width).sum::<u32>() > MANY_PORTS {
        let message = format!("`{endpoint}` ({key}) is opened on {ports}");
        risks.push((Code::PortsOpened, message, "name the ports the service has"));
    }
    match &change.what {
        What::Names(names) => {
            let wildcards: Vec<String> =
                names.iter().filter(|name| matches!(name, NamePattern::Below(_))).map(ToString::to_string).collect();
            if !wildcards.is_empty() {
                let message = format!("{} ({key}) is a wildcard: every name below it is let out", wildcards.join(", "));
                risks.push((Code::WildcardOpened, message, "name the hosts where they are known"));
            }
        }
        What::Addresses(addrs) => {
            let wide = addrs.prefixes();
            let limit = |net: &ipnet::IpNet| if net.addr().is_ipv4() { WIDE_V4 } else { WIDE_V6 };
            let wide: Vec<String> =
                wide.iter().filter(|net| net.prefix_len() < limit(net)).map(ToString::to_string).collect();
            if !wide.is_empty() {
                let message =
                    format!("`{endpoint}` ({key}) opens {}, wider than /{WIDE_V4} or /{WIDE_V6}", wide.join(", "));
                risks.push((Code::WideOpened, message, "whatever else is there is let out with it"));
            }
        }
    }
    risks
}

/// Finds what became worse in the answers: names without any, and names whose pool is known less well.
pub fn in_locks(old: Option<&Lock>, new: &Lock, findings: &mut Findings) {
    let none = BTreeMap::new();
    let before = old.map_or(&none, |lock| &lock.hosts);
    // Both are in order: that is quicker than to look up every name.
    let mut before = before.iter().peekable();
    for (query, entry) in &new.hosts {
        while before.next_if(|(other, _)| *other < query).is_some() {}
        let was = before.next_if(|(other, _)| *other == query).map(|(_, was)| was);
        let dark = |entry: &crate::lock::Entry| entry.addresses.is_empty() && entry.targets.is_empty();
        if dark(entry) && was.is_none_or(|was| !dark(was)) {
            let message = format!("`{query}` has no answer in the lock");
            findings
                .push(Diagnostic::new(Code::WithoutAnswer, message).help("look why: no rule by address is made of it"));
        }
        let covered = |entry: &crate::lock::Entry, lock: &Lock| Coverage::of(entry, lock.day, None).covered();
        // Without samples nothing tells, and of most names there are none.
        let was = was.filter(|was| was.sampled.is_some() && entry.sampled.is_some());
        let fell = was.zip(old).and_then(|(was, old)| Some((covered(was, old)?, covered(entry, new)?)));
        if let Some((was, is)) = fell.filter(|(was, is)| was - is > FALL) {
            let percent = |share: f64| format!("{:.0} %", share * 100.0);
            let message = format!("the lock covers {} of `{query}`, and covered {}", percent(is), percent(was));
            findings.push(
                Diagnostic::new(Code::CoverageFell, message)
                    .help("take more samples with `outgate resolve --samples`, or send the name to the proxy"),
            );
        }
    }
}

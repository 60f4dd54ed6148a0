//! The rule set: [`Policy`] + [`Lock`] → [`Ruleset`], what every target reads and `diff` and `explain` will.
//!
//! Sets are aggregated, names checked, notes one line each. What a rule cannot say by address is kept as a gap, so
//! that a target can refuse it or report it; nothing is widened to make it fit.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::addrs::AddrSet;
use crate::callout::{Callout, Endpoint, Origin};
use crate::day::Day;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::{NamePattern, Query};
use crate::lock::{Judge, Lock};
use crate::policy::{Action, Decision, Policy};
use crate::port::{Port, Protocol};
use crate::settings::{Ipv6, Settings};
use crate::source::Span;
use crate::text::{Id, Text};

/// Everything a target needs, and nothing it could misread.
#[derive(Clone, Debug)]
pub struct Ruleset {
    /// The site's name.
    pub site: Text,
    /// The release, with its family's title.
    pub release: String,
    /// The day the answers are of; `None` without a lock.
    pub answered: Option<Day>,
    /// Clients by origin, the appliance first.
    pub clients: BTreeMap<Origin, ClientGroup>,
    /// Denials first, then by key.
    pub rules: Vec<Rule>,
    /// What is done about IPv6 where clients have none.
    pub ipv6: Ipv6,
    /// The targets' settings.
    pub settings: Settings,
}

/// The clients of one origin.
#[derive(Clone, Debug)]
pub struct ClientGroup {
    /// Their addresses.
    pub addrs: AddrSet,
    /// Whether what is not allowed to them is denied.
    pub default_deny: bool,
    /// Where they are written.
    pub span: Span,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Unique name; the callout's id, or that with a number.
    pub key: Id,
    /// Allow or deny.
    pub action: Action,
    /// Why.
    pub reason: String,
    /// The callout it is for.
    pub callout: Callout,
    /// Whose traffic.
    pub origins: BTreeSet<Origin>,
    /// Destination ports, merged.
    pub ports: Vec<Port>,
    /// Where it leads, endpoint by endpoint.
    pub destinations: Vec<Destination>,
}

/// One endpoint of a rule and what it comes to.
#[derive(Clone, Debug)]
pub struct Destination {
    /// As the catalog or profile has it.
    pub endpoint: Endpoint,
    /// The names a name-based target matches: the name itself, and for a service the hosts it selects.
    pub names: Vec<NamePattern>,
    /// The addresses an address-based target matches.
    pub addrs: AddrSet,
    /// What is missing.
    pub gap: Option<Gap>,
}

/// Why a destination has no addresses, or not all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gap {
    /// A wildcard: its names cannot be listed, so neither can their addresses.
    Wildcard,
    /// The lock does not know it.
    NotInLock,
    /// It was asked, and has no address; with what failed.
    NoAddress(String),
}

/// What a rule set says of one packet.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// This rule allows it.
    Allow(&'a Rule),
    /// This rule denies it.
    Deny(&'a Rule),
    /// No rule allows it.
    DefaultDeny,
    /// It is not from a client; other rules decide.
    NotOurs,
}

impl Rule {
    /// Every address of the rule.
    #[must_use]
    pub fn addrs(&self) -> AddrSet {
        self.destinations.iter().map(|d| &d.addrs).collect()
    }

    /// The addresses its names lead to, one by one, without those a prefix of the rule holds already.
    #[must_use]
    pub fn hosts(&self) -> AddrSet {
        self.addrs().minus(&self.nets())
    }

    /// The prefixes of more than one address that the rule names itself.
    #[must_use]
    pub fn nets(&self) -> AddrSet {
        let nets = self.destinations.iter().filter_map(|d| match d.endpoint {
            Endpoint::Net(net) if net.prefix_len() < net.max_prefix_len() => Some(net),
            _ => None,
        });
        nets.collect()
    }

    /// The addresses and prefixes the rule names itself, without asking anybody.
    #[must_use]
    pub fn literals(&self) -> AddrSet {
        self.destinations.iter().filter(|d| matches!(d.endpoint, Endpoint::Net(_))).map(|d| &d.addrs).collect()
    }

    /// Every name of the rule, sorted, none covered by another.
    #[must_use]
    pub fn names(&self) -> Vec<NamePattern> {
        prune(self.destinations.iter().flat_map(|d| d.names.iter().cloned()))
    }

    /// The rule's ports of one protocol.
    pub fn ports_of(&self, protocol: Protocol) -> impl Iterator<Item = Port> + '_ {
        self.ports.iter().copied().filter(move |port| port.protocol == protocol)
    }
}

/// Sorts patterns and takes out those that others cover, so that no order of them can matter.
#[must_use]
pub fn prune(patterns: impl IntoIterator<Item = NamePattern>) -> Vec<NamePattern> {
    let all: BTreeSet<NamePattern> = patterns.into_iter().collect();
    all.iter().filter(|pattern| pattern.covering().all(|wider| !all.contains(&wider))).cloned().collect()
}

impl Ruleset {
    /// The clients of a rule.
    #[must_use]
    pub fn clients_of(&self, rule: &Rule) -> AddrSet {
        rule.origins.iter().filter_map(|origin| self.clients.get(origin)).map(|group| &group.addrs).collect()
    }

    /// Words for a set of origins, by the clients they really stand for: apps that leave with the appliance's
    /// addresses are the appliance.
    #[must_use]
    pub fn group_name(&self, origins: &BTreeSet<Origin>) -> String {
        let mut seen: Vec<&AddrSet> = Vec::new();
        let mut words = Vec::new();
        for origin in origins {
            let Some(group) = self.clients.get(origin) else { continue };
            if !seen.contains(&&group.addrs) {
                seen.push(&group.addrs);
                words.push(match origin {
                    Origin::App if self.clients.get(&Origin::Nas).is_some_and(|nas| nas.addrs == group.addrs) => "nas",
                    Origin::Nas => "nas",
                    Origin::Browser => "admin",
                    Origin::Jail => "jails",
                    Origin::App => "apps",
                });
            }
        }
        words.join("_")
    }

    /// Every client that is denied what is not allowed.
    #[must_use]
    pub fn limited(&self) -> AddrSet {
        self.clients.values().filter(|group| group.default_deny).map(|group| &group.addrs).collect()
    }

    /// Decides one packet that opens a flow, by address alone.
    #[must_use]
    pub fn decide(&self, client: IpAddr, server: IpAddr, protocol: Protocol, port: u16) -> Verdict<'_> {
        let meets = |rule: &&Rule| {
            rule.ports.iter().any(|p| p.contains(protocol, port))
                && self.clients_of(rule).contains(client)
                && rule.destinations.iter().any(|d| d.addrs.contains(server))
        };
        match self.rules.iter().find(meets) {
            Some(rule) if rule.action == Action::Deny => Verdict::Deny(rule),
            Some(rule) if self.limited().contains(client) => Verdict::Allow(rule),
            None if self.limited().contains(client) => Verdict::DefaultDeny,
            _ => Verdict::NotOurs,
        }
    }
}

/// Policy + lock → rule set. A lock that says what no lock of ours could is an error.
pub fn build(policy: &Policy, lock: Option<&Lock>, findings: &mut Findings) -> Ruleset {
    let clients = policy
        .clients
        .iter()
        .map(|(&origin, client)| {
            let addrs = client.prefixes.iter().copied().collect();
            (origin, ClientGroup { addrs, default_deny: client.default_deny, span: client.span.clone() })
        })
        .collect();
    let own = policy.client_prefixes();
    let mut rules = Vec::new();
    for decision in &policy.decisions {
        let judge = Judge { allowed: &decision.allowed_answers, clients: &own };
        let destinations =
            decision.endpoints.iter().map(|endpoint| destination(endpoint, decision, lock, judge, findings)).collect();
        rules.push(Rule {
            key: decision.key.clone(),
            action: decision.action,
            reason: decision.reason.clone(),
            callout: decision.callout.clone(),
            origins: decision.origins.clone(),
            ports: decision.ports.clone(),
            destinations,
        });
    }
    Ruleset {
        site: policy.site.clone(),
        release: policy.release.clone(),
        answered: lock.map(|lock| lock.day),
        clients,
        rules,
        ipv6: policy.ipv6,
        settings: policy.settings.clone(),
    }
}

fn destination(
    endpoint: &Endpoint,
    decision: &Decision,
    lock: Option<&Lock>,
    judge: Judge<'_>,
    findings: &mut Findings,
) -> Destination {
    let bare = |names, addrs, gap| Destination { endpoint: endpoint.clone(), names, addrs, gap };
    match endpoint {
        Endpoint::Net(net) => bare(Vec::new(), [*net].into_iter().collect(), None),
        Endpoint::Name(pattern @ NamePattern::Below(_)) => {
            bare(vec![pattern.clone()], AddrSet::new(), Some(Gap::Wildcard))
        }
        Endpoint::Name(pattern @ NamePattern::Exact(host)) => {
            let (addrs, gap) = addresses(&Query::Host(host.clone()), lock, judge, findings);
            bare(vec![pattern.clone()], addrs, gap)
        }
        Endpoint::Service(service) => {
            let query = Query::Service(service.clone());
            let Some(entry) = lock.and_then(|lock| lock.hosts.get(&query)) else {
                return bare(Vec::new(), AddrSet::new(), Some(Gap::NotInLock));
            };
            let (mut names, mut addrs, mut gap) = (Vec::new(), Vec::new(), None);
            for (host, port) in &entry.targets {
                // A mirror on a port the callout does not have is not what the catalog means.
                if !decision.ports.iter().any(|p| p.contains(service.protocol(), *port)) {
                    continue;
                }
                let (more, missing) = addresses(&Query::Host(host.clone()), lock, judge, findings);
                names.push(NamePattern::Exact(host.clone()));
                addrs.push(more);
                gap = gap.or(missing);
            }
            if names.is_empty() {
                gap = Some(Gap::NoAddress(failures(entry).unwrap_or_else(|| "no host is selected".to_owned())));
            }
            bare(names, addrs.iter().collect(), gap)
        }
    }
}

fn addresses(query: &Query, lock: Option<&Lock>, judge: Judge<'_>, findings: &mut Findings) -> (AddrSet, Option<Gap>) {
    let Some(entry) = lock.and_then(|lock| lock.hosts.get(query)) else {
        return (AddrSet::new(), Some(Gap::NotInLock));
    };
    let mut good = Vec::new();
    for &addr in entry.addresses.keys() {
        match judge.refuse(addr) {
            None => good.push(addr),
            Some(why) => findings.push(
                Diagnostic::new(Code::BadLock, format!("the lock leads `{query}` to {addr}, {why}"))
                    .help("no rule is made from that; run `outgate resolve`, or allow that kind under `answers: allow:` if it is right"),
            ),
        }
    }
    let gap = good.is_empty().then(|| Gap::NoAddress(failures(entry).unwrap_or_else(|| "no records".to_owned())));
    (good.into_iter().collect(), gap)
}

fn failures(entry: &crate::lock::Entry) -> Option<String> {
    let list: Vec<String> = entry.failed.iter().map(|(kind, failure)| format!("{} {failure}", kind.as_str())).collect();
    (!list.is_empty()).then(|| list.join(", "))
}

/// Finds names that are blocked and names that are allowed on one address and port, for one client: an address list
/// cannot tell them apart. Each is an error, for the address-based targets alone.
pub fn shared_addresses(ruleset: &Ruleset, findings: &mut Findings) {
    let (denied, allowed): (Vec<&Rule>, Vec<&Rule>) = ruleset.rules.iter().partition(|r| r.action == Action::Deny);
    for deny in &denied {
        for allow in &allowed {
            let ports = deny.ports.iter().any(|a| allow.ports.iter().any(|b| a.overlaps(*b)));
            let clients = ruleset.clients_of(deny).and(&ruleset.clients_of(allow));
            if !ports || clients.is_empty() {
                continue;
            }
            for a in &deny.destinations {
                for b in &allow.destinations {
                    let both = a.addrs.and(&b.addrs);
                    if both.is_empty() {
                        continue;
                    }
                    let list: Vec<String> = both.prefixes().iter().map(crate::addrs::short).collect();
                    findings.push(
                        Diagnostic::new(
                            Code::SharedAddress,
                            format!(
                                "blocked `{}` ({}) and allowed `{}` ({}) share {}",
                                a.endpoint, deny.key, b.endpoint, allow.key, list.join(", ")
                            ),
                        )
                        .help("an address list cannot tell two names on one address apart: use the squid target for these, or leave one of the two entries out with `leave-out`"),
                    );
                }
            }
        }
    }
}

/// Finds clients that are named in one address family only: rules by address would not limit the other.
pub fn one_family(ruleset: &Ruleset, interface: bool, findings: &mut Findings) {
    for (origin, group) in &ruleset.clients {
        if !group.default_deny || (group.addrs.has_v4() && group.addrs.has_v6()) {
            continue;
        }
        let covered = ruleset.ipv6 == Ipv6::DenyInterface && interface && group.addrs.has_v4();
        if covered
            || (*origin == Origin::App && ruleset.clients.get(&Origin::Nas).is_some_and(|nas| nas.span == group.span))
        {
            continue;
        }
        let missing = if group.addrs.has_v4() { "IPv6" } else { "IPv4" };
        findings.push(
            Diagnostic::new(
                Code::OneFamily,
                format!("clients of origin `{}` have no {missing} address here", origin.as_str()),
            )
            .at(group.span.clone(), format!("their {missing} would not be limited at all"))
            .help(format!(
                "add their {missing} addresses or prefix{}",
                if missing == "IPv6" {
                    ", or set `ipv6: deny-interface` together with the target's `interface` to deny all IPv6 from there"
                } else {
                    ""
                }
            )),
        );
    }
}

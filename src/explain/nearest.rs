//! What a denied question comes near to: the rule it misses by a port, the callout of a feature that is off, the address
//! that left the lock. It says what to look at, and opens nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::question::{Question, To};
use super::{Answer, Explainer, ports, rules};
use crate::addrs::{AddrSet, short};
use crate::callout::{Callout, Endpoint, Origins};
use crate::catalog::Catalog;
use crate::day::Day;
use crate::diagnostic;
use crate::host::{Host, NamePattern, Query};
use crate::policy::Action;
use crate::port::Port;
use crate::profile::Profile;
use crate::text::Id;

/// A near miss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Near {
    /// It is let out on other ports.
    OtherPorts {
        /// The rules that do.
        rules: Vec<Id>,
        /// Their ports.
        ports: Vec<Port>,
    },
    /// It is let out to other clients.
    OtherClients {
        /// The rule that does.
        rule: Id,
        /// Whose it is.
        origins: Origins,
    },
    /// A documented callout, of which this site has no rule.
    Off {
        /// The callout.
        callout: Id,
        /// Its title.
        title: String,
        /// Why there is no rule.
        why: Why,
    },
    /// A name that the answers for an allowed name lead through. Clients ask for the other.
    AliasOf(Host),
    /// An allowed name is spelt nearly so.
    Spelling(Host),
    /// Allowed names of the same registered domain.
    SameDomain(Vec<String>),
    /// Allowed names have addresses in the same network, which is often the same provider.
    SameNetwork {
        /// The network: a /24 or a /48.
        network: IpNet,
        /// The names.
        names: Vec<String>,
    },
    /// The lock had it once.
    Gone {
        /// The names it was known for; empty when the name itself is asked for.
        names: Vec<Query>,
        /// The day it was first seen.
        first: Option<Day>,
        /// The first day it was not answered any more.
        missing: Option<Day>,
        /// The commit that took it out, with its day.
        commit: (String, String),
    },
}

/// Why a documented callout has no rule here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its feature is not in use.
    Feature(Id),
    /// The release does not make the call.
    Release,
    /// The profile leaves it out, for this reason.
    LeftOut(String),
    /// The profile names no clients of its kind.
    Clients,
}

impl Near {
    /// The word for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::OtherPorts { .. } => "other-ports",
            Self::OtherClients { .. } => "other-clients",
            Self::Off { .. } => "documented",
            Self::AliasOf(_) => "alias",
            Self::Spelling(_) => "spelling",
            Self::SameDomain(_) => "same-domain",
            Self::SameNetwork { .. } => "same-network",
            Self::Gone { .. } => "gone",
        }
    }
}

impl std::fmt::Display for Near {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |items: &[String]| items.join(", ");
        let strings = |items: &[Id]| items.iter().map(Id::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::OtherPorts { rules, ports } => {
                let ports: Vec<String> = ports.iter().map(Port::to_string).collect();
                write!(f, "allowed on {}, not on this port ({})", list(&ports), strings(rules))
            }
            Self::OtherClients { rule, origins } => {
                let origins: Vec<&str> = origins.iter().map(|origin| origin.as_str()).collect();
                write!(f, "allowed to {}, not to this client ({rule})", origins.join(", "))
            }
            Self::Off { callout, title, why } => {
                write!(f, "documented: {callout} ({title})")?;
                match why {
                    Why::Feature(feature) => write!(f, ", of feature {feature}, which is not in use here"),
                    Why::Release => f.write_str(", of other releases than this site's"),
                    Why::LeftOut(reason) => write!(f, ", which the profile leaves out: {reason}"),
                    Why::Clients => f.write_str(", for which the profile names no clients"),
                }
            }
            Self::AliasOf(host) => {
                write!(f, "an alias that {host} leads through; {host} is allowed, and is what is asked for")
            }
            Self::Spelling(host) => write!(f, "did you mean {host}?"),
            Self::SameDomain(names) => write!(f, "of the same domain are allowed: {}", list(names)),
            Self::SameNetwork { network, names } => write!(
                f,
                "in {network}, as is {}: perhaps a new address of that; `outgate resolve` would find it",
                list(names)
            ),
            Self::Gone { names, first, missing, commit: (id, day) } => {
                let names: Vec<String> = names.iter().map(Query::to_string).collect();
                let of = if names.is_empty() { String::new() } else { format!(" for {}", list(&names)) };
                write!(f, "was in the lock{of} until {day} (commit {id})")?;
                if let Some(first) = first {
                    write!(f, ", first seen {first}")?;
                }
                missing.map_or(Ok(()), |missing| write!(f, ", no longer answered since {missing}"))
            }
        }
    }
}

/// Finds what a question comes near to, where a client is denied it. Nothing for what is let out, or denied by a rule of
/// its own.
#[must_use]
pub fn find(
    explainer: &Explainer<'_>,
    question: &Question,
    answer: &Answer<'_>,
    catalog: &Catalog,
    profile: &Profile,
) -> Vec<Near> {
    let mut near = Vec::new();
    let missed = answer.missed();
    if missed.is_empty() {
        return near;
    }
    let elsewhere: Vec<_> = missed.concat();
    let other = rules(&elsewhere);
    if !other.is_empty() {
        near.push(Near::OtherPorts {
            rules: other.iter().map(|rule| rule.key.clone()).collect(),
            ports: ports(&other),
        });
    }
    near.extend(other_clients(explainer, question, answer));
    // Another release's callout says little where something of this one is near.
    let elsewhere = |near: &Near| matches!(near, Near::Off { why: Why::Release, .. });
    let known = documented(explainer, &question.to, catalog, profile);
    let alone = near.is_empty() && known.iter().all(elsewhere);
    near.extend(known.into_iter().filter(|near| alone || !elsewhere(near)));
    if near.is_empty() {
        match &question.to {
            To::Name(host) => near.extend(names_near(explainer, host)),
            To::Addr(addr) => near.extend(same_network(explainer, *addr)),
        }
    }
    near
}

/// Rules that let it out to clients that did not ask.
fn other_clients(explainer: &Explainer<'_>, question: &Question, answer: &Answer<'_>) -> Vec<Near> {
    let numbers = match &question.to {
        To::Name(host) => explainer.plain.index().named(host),
        To::Addr(addr) => explainer.plain.index().at(*addr).to_vec(),
    };
    let asked: Origins = answer.clients.iter().flat_map(|client| client.origins.iter()).collect();
    let held = numbers.into_iter().map(|number| explainer.plain.index().held(number));
    let on_port = |rule: &crate::ruleset::Rule| {
        question.port.is_none_or(|(protocol, port)| rule.ports.iter().any(|own| own.contains(protocol, port)))
    };
    let foreign = held
        .filter(|held| held.rule.action == Action::Allow && on_port(held.rule) && held.rule.origins.is_disjoint(asked));
    let mut near: Vec<Near> = Vec::new();
    for held in foreign {
        let one = Near::OtherClients { rule: held.rule.key.clone(), origins: held.rule.origins };
        if !near.contains(&one) {
            near.push(one);
        }
    }
    near
}

/// Callouts of the catalog that lead there, and of which the site has no rule.
#[must_use]
pub fn documented(explainer: &Explainer<'_>, to: &To, catalog: &Catalog, profile: &Profile) -> Vec<Near> {
    let leads = |callout: &&Arc<Callout>| {
        callout.endpoints.iter().any(|endpoint| match (endpoint, to) {
            (Endpoint::Name(pattern), To::Name(host)) => pattern.covers(&NamePattern::Exact(host.clone())),
            (Endpoint::Net(net), To::Addr(addr)) => net.contains(addr),
            (Endpoint::Service(service), To::Name(host)) => service.host() == host,
            _ => false,
        })
    };
    let known = catalog.release(&profile.release.value).ok();
    let of_release: BTreeSet<&Id> =
        known.iter().flat_map(|known| catalog.of_release(known)).map(|(callout, _)| &callout.id).collect();
    let ruled: BTreeSet<&Id> = explainer.ruleset.rules.iter().map(|rule| &rule.callout.id).collect();
    let without = catalog.callouts.values().filter(leads).filter(|callout| !ruled.contains(&callout.id));
    let near = without.map(|callout| {
        let left_out = profile.left_out.iter().find(|(id, _)| id.value == callout.id.as_str());
        let off = callout
            .feature
            .as_ref()
            .filter(|feature| profile.features.iter().all(|used| used.value != feature.as_str()));
        let why = match (left_out, off) {
            _ if !of_release.contains(&callout.id) => Why::Release,
            (Some((_, reason)), _) => Why::LeftOut(reason.to_string()),
            (None, Some(feature)) => Why::Feature(feature.clone()),
            (None, None) => Why::Clients,
        };
        Near::Off { callout: callout.id.clone(), title: callout.title.to_string(), why }
    });
    let mut near: Vec<Near> = near.collect();
    // What would be let out by a word in the profile comes before what another release did.
    near.sort_by_key(|near| matches!(near, Near::Off { why: Why::Release, .. }));
    near
}

fn names_near(explainer: &Explainer<'_>, host: &Host) -> Vec<Near> {
    let answers = &explainer.ruleset.answers;
    let mut near: Vec<Near> = answers
        .iter()
        .filter(|(_, known)| known.aliases.contains(host))
        .filter(|(name, _)| {
            explainer
                .plain
                .index()
                .named(name)
                .iter()
                .any(|&number| explainer.plain.index().held(number).rule.action == Action::Allow)
        })
        .map(|(name, _)| Near::AliasOf(name.clone()))
        .collect();
    if !near.is_empty() {
        return near;
    }
    let allowed = |pattern: &&NamePattern| {
        explainer
            .plain
            .index()
            .named(pattern.host())
            .iter()
            .any(|&n| explainer.plain.index().held(n).rule.action == Action::Allow)
    };
    let patterns = || {
        explainer
            .plain
            .index()
            .places
            .iter()
            .filter(|held| held.rule.action == Action::Allow)
            .flat_map(|held| held.destination.names())
    };
    let known: Vec<&str> = patterns().filter(allowed).filter_map(NamePattern::exact).map(Host::as_str).collect();
    near.extend(diagnostic::nearest(host.as_str(), known).and_then(|name| Host::parse(name).ok()).map(Near::Spelling));
    if let Some(domain) = host.registered_domain() {
        let same: BTreeSet<String> = patterns()
            .filter(|pattern| pattern.host().registered_domain() == Some(domain))
            .map(NamePattern::to_string)
            .collect();
        if !same.is_empty() && near.is_empty() {
            near.push(Near::SameDomain(some(same)));
        }
    }
    near
}

/// Allowed names with an address in the same /24, or /48.
fn same_network(explainer: &Explainer<'_>, addr: IpAddr) -> Option<Near> {
    let network = IpNet::new(addr, if addr.is_ipv4() { 24 } else { 48 }).ok()?.trunc();
    let space: AddrSet = [network].into_iter().collect();
    let allows = explainer.plain.index().places.iter().filter(|held| held.rule.action == Action::Allow);
    let inside = allows
        .filter(|held| !matches!(held.destination.endpoint, Endpoint::Net(_)) && held.destination.addrs.meets(&space));
    let names: BTreeSet<String> = inside.map(|held| held.destination.endpoint.to_string()).collect();
    (!names.is_empty()).then(|| Near::SameNetwork { network, names: some(names) })
}

/// The first few.
fn some(names: BTreeSet<String>) -> Vec<String> {
    const MOST: usize = 4;
    let more = names.len().saturating_sub(MOST);
    let mut some: Vec<String> = names.into_iter().take(MOST).collect();
    if let Some(last) = some.last_mut().filter(|_| more > 0) {
        *last += &format!(" and {more} more");
    }
    some
}

/// A place, as it stands in a lock: what to look for in its history.
#[must_use]
pub fn in_lock(to: &To) -> String {
    match to {
        To::Name(host) => format!("\"{host}\": {{"),
        To::Addr(addr) => format!("\"{}\": {{", short(&IpNet::from(*addr))),
    }
}

//! The rule set: [`Policy`] + [`Lock`] → [`Ruleset`], what every target reads.
//!
//! Sets are aggregated, names checked, notes one line each. What a rule cannot say by address is kept as a gap, so
//! that a target can refuse it or report it; nothing is widened to make it fit.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::slice;
use std::sync::Arc;

use ipnet::IpNet;

use crate::addrs::{self, AddrSet};
use crate::callout::{Callout, Endpoint, Origin, Origins};
use crate::day::Day;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::{Host, NamePattern, Query};
use crate::lock::{Judge, Lock, blocked_aliases, may_select};
pub use crate::policy::Action;
use crate::policy::{Decision, Policy};
use crate::port::{Port, Protocol};
use crate::ranges::{self, Place};
use crate::resolve::RecordType;
use crate::settings::{Ipv6, Settings};
use crate::source::Span;
use crate::text::{Id, Short, Text};

pub mod sharing;

use sharing::Meetings;

/// Everything a target needs, and nothing it could misread.
#[derive(Clone, Debug)]
pub struct Ruleset {
    /// The site's name.
    pub site: Text,
    /// The release, with its family's title.
    pub release: String,
    /// The day the answers are of; `None` without a lock.
    pub answered: Option<Day>,
    /// Some answers are older than they may be, and the user said that this is right.
    pub stale: bool,
    /// Clients by origin, the appliance first.
    pub clients: BTreeMap<Origin, ClientGroup>,
    /// Denials first, then by key.
    pub rules: Vec<Rule>,
    /// Callouts of origins that have no clients, so that there is no rule for them.
    pub uncovered: BTreeSet<(Origin, Id)>,
    /// Vendors' lists of prefixes that destinations are widened by.
    pub lists: BTreeMap<Id, PinnedList>,
    /// What the lock knows of each host that a rule names or a service of a rule selects.
    pub answers: BTreeMap<Host, Known>,
    /// Blocked and allowed endpoints that rules by address cannot tell apart, and that the site did not decide on.
    pub meetings: Meetings,
    /// Every callout that strict mode blocks here, whether or not its origins have clients, each with why.
    pub blocked: BTreeMap<Id, (Arc<Callout>, Short)>,
    /// Entries that strict mode would block and the site excepts, each with its reason.
    pub excepted: BTreeMap<Id, Text>,
    /// What the site decided about strict mode, a line each, for the head of every file: it is read in reviews.
    pub decided: Vec<String>,
    /// What is done about IPv6 where clients have none.
    pub ipv6: Ipv6,
    /// The targets' settings.
    pub settings: Settings,
}

/// What the lock knows of one host, as far as rules believe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The addresses of the newest good answer, without those that are only kept; both families.
    pub now: AddrSet,
    /// The names its answers lead through: the chain of CNAMEs in order, then what other samples went through.
    pub aliases: Vec<Host>,
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

/// A vendor's list of prefixes as the lock has it.
#[derive(Clone, Debug)]
pub struct PinnedList {
    /// Where it is from.
    pub from: Place,
    /// Its prefixes; empty with a fault.
    pub addrs: AddrSet,
    /// Why it cannot be used.
    pub fault: Option<ListFault>,
    /// Where the site names it.
    pub span: Span,
}

/// Why a list cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListFault {
    /// The lock does not know it.
    NotInLock,
    /// The lock has it from another source, or other parts of it.
    OtherSource,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Unique name; the callout's id, or that with a number.
    pub key: Id,
    /// Allow or deny.
    pub action: Action,
    /// Why.
    pub reason: Short,
    /// The callout it is for.
    pub callout: Arc<Callout>,
    /// Whose traffic.
    pub origins: Origins,
    /// Destination ports, merged.
    pub ports: Arc<[Port]>,
    /// Where it leads, endpoint by endpoint, in their order.
    pub destinations: Vec<Destination>,
}

/// One endpoint of a rule and what it comes to.
#[derive(Clone, Debug)]
pub struct Destination {
    /// As the catalog or profile has it.
    pub endpoint: Endpoint,
    /// The names a name-based target matches: read them with [`Destination::names`].
    pub names: Names,
    /// The addresses DNS answers with, or the site names: what an address-based target matches.
    pub addrs: AddrSet,
    /// The lists that widen it; most have none, and there are many.
    pub widened: Option<Box<Widened>>,
    /// What is missing.
    pub gap: Option<Box<Gap>>,
    /// Of a denial: where it is not denied, for an allowed name has these addresses as well, and the site accepts that.
    pub accepted: Option<Box<Accepted>>,
}

/// The names a name-based target matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// The name that the endpoint is. Nearly every destination has this one, and no list of its own for it.
    Itself,
    /// These: the hosts a service selects, and none of an address or of a name that is not let out by name.
    These(Box<[NamePattern]>),
}

impl Names {
    /// No name at all.
    #[must_use]
    pub fn none() -> Self {
        Self::These(Box::default())
    }
}

/// What vendors' lists add to a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Widened {
    /// The lists, at least one.
    pub lists: Vec<Id>,
    /// Their prefixes: what an address-based target matches as well.
    pub addrs: AddrSet,
}

/// Addresses at which a blocked name can be reached, as the site accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The addresses; none where the two have an alias in common and no address.
    pub at: AddrSet,
    /// Why, for each allowed endpoint.
    pub reasons: BTreeSet<Text>,
}

impl Destination {
    /// The names a name-based target matches: the name itself, and for a service the hosts it selects.
    #[must_use]
    pub fn names(&self) -> &[NamePattern] {
        match (&self.names, &self.endpoint) {
            (Names::Itself, Endpoint::Name(name)) => slice::from_ref(name),
            (Names::Itself, other) => {
                debug_assert!(false, "`{other}` is no name");
                &[]
            }
            (Names::These(names), _) => names,
        }
    }

    /// The lists that widen it.
    #[must_use]
    pub fn lists(&self) -> &[Id] {
        self.widened.as_ref().map(|widened| widened.lists.as_slice()).unwrap_or_default()
    }

    /// Their prefixes.
    #[must_use]
    pub fn listed(&self) -> &AddrSet {
        static NONE: AddrSet = AddrSet::new();
        self.widened.as_ref().map_or(&NONE, |widened| &widened.addrs)
    }

    /// Whether an address-based target matches the address.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.addrs.contains(addr) || self.listed().contains(addr)
    }

    /// Every address an address-based target matches. Mostly no list is for it.
    #[must_use]
    pub fn all(&self) -> Cow<'_, AddrSet> {
        match &self.widened {
            None => Cow::Borrowed(&self.addrs),
            Some(widened) => Cow::Owned(self.addrs.union(&widened.addrs)),
        }
    }
}

/// Why a destination has no addresses, or not all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gap {
    /// A wildcard that no list of prefixes is for: its names cannot be listed, so neither can their addresses.
    Wildcard,
    /// The lock does not know it.
    NotInLock,
    /// The name servers say that it has no address; with what they said.
    NoAddress(String),
    /// For one family or both nobody answered, and nothing is known from before; with what failed.
    Unanswered(String),
    /// A denial of this rule takes it back.
    Denied(Id),
    /// It is reached through the proxy alone, for this reason; its addresses are nobody's.
    Proxied(Text),
    /// The site let go of it, for this reason.
    Dropped(Text),
}

impl Gap {
    /// What the name servers said, or that they were not asked.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::NoAddress(why) | Self::Unanswered(why) => why,
            Self::Wildcard => "a wildcard",
            Self::NotInLock => "not asked",
            Self::Denied(by) => by.as_str(),
            Self::Proxied(why) | Self::Dropped(why) => why.as_str(),
        }
    }

    /// Whether it is as the site decided: nothing is amiss.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        matches!(self, Self::Denied(_) | Self::Proxied(_) | Self::Dropped(_))
    }

    /// The gap of a service, in words.
    #[must_use]
    pub fn about_service(&self) -> String {
        match self {
            Self::Wildcard => "a wildcard".to_owned(),
            Self::NotInLock => "the hosts it selects are not in the lock".to_owned(),
            Self::NoAddress(why) | Self::Unanswered(why) => format!("it selects no host ({why})"),
            Self::Denied(by) => format!("{by} denies it"),
            Self::Proxied(why) | Self::Dropped(why) => why.to_string(),
        }
    }
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
        self.destinations.iter().map(|d| &d.addrs).chain(self.listed()).collect()
    }

    /// The addresses its names lead to, one by one, without those a prefix of the rule holds already.
    #[must_use]
    pub fn hosts(&self) -> AddrSet {
        self.hosts_and_nets().0
    }

    /// [`Rule::hosts`] and [`Rule::nets`], for whoever needs both.
    #[must_use]
    pub fn hosts_and_nets(&self) -> (AddrSet, AddrSet) {
        let (addrs, nets) = (self.addrs(), self.nets());
        (if nets.is_empty() { addrs } else { addrs.minus(&nets) }, nets)
    }

    /// The prefixes of more than one address that the rule names itself, and those of its lists.
    #[must_use]
    pub fn nets(&self) -> AddrSet {
        // What is left of them: a prefix may be dropped, and a denial accepted at a part of it.
        let is_net =
            |d: &&Destination| matches!(d.endpoint, Endpoint::Net(net) if net.prefix_len() < net.max_prefix_len());
        self.destinations.iter().filter(is_net).map(|d| &d.addrs).chain(self.listed()).collect()
    }

    /// The lists that widen it.
    #[must_use]
    pub fn lists(&self) -> BTreeSet<&Id> {
        self.destinations.iter().flat_map(Destination::lists).collect()
    }

    /// What its lists hold, of each destination that has some.
    fn listed(&self) -> impl Iterator<Item = &AddrSet> + Clone {
        self.destinations.iter().filter_map(|d| d.widened.as_ref()).map(|widened| &widened.addrs)
    }

    /// The addresses and prefixes the rule names itself, without asking anybody.
    #[must_use]
    pub fn literals(&self) -> AddrSet {
        self.each_literal().collect()
    }

    /// The same one by one.
    pub fn each_literal(&self) -> impl Iterator<Item = &AddrSet> + Clone {
        self.destinations.iter().filter(|d| matches!(d.endpoint, Endpoint::Net(_))).map(|d| &d.addrs)
    }

    /// The same and what its lists hold, one by one: all that it has from anywhere but DNS.
    fn prefixes(&self) -> impl Iterator<Item = &AddrSet> + Clone {
        self.each_literal().chain(self.listed())
    }

    /// Every name of the rule, sorted, none covered by another.
    #[must_use]
    pub fn names(&self) -> Vec<NamePattern> {
        prune(self.destinations.iter().flat_map(|d| d.names().iter().cloned()))
    }

    /// The rule's ports of one protocol.
    pub fn ports_of(&self, protocol: Protocol) -> impl Iterator<Item = Port> + '_ {
        self.ports.iter().copied().filter(move |port| port.protocol == protocol)
    }
}

/// Sorts patterns and takes out those that others cover, so that no order of them can matter.
#[must_use]
pub fn prune(patterns: impl IntoIterator<Item = NamePattern>) -> Vec<NamePattern> {
    let mut all: Vec<NamePattern> = patterns.into_iter().collect();
    all.sort_unstable();
    all.dedup();
    let wildcards: BTreeSet<NamePattern> = all.iter().filter(|pattern| pattern.exact().is_none()).cloned().collect();
    // Mostly there is none, and then nothing is to be looked for.
    if !wildcards.is_empty() {
        all.retain(|pattern| pattern.covering().all(|wider| !wildcards.contains(&wider)));
    }
    all
}

impl Ruleset {
    /// The origins whose packets a rule is about: all of a denial's, and of an allow's those that are denied the rest.
    /// Nothing limits the others, so an allow for them would be no rule, or open what somebody else closes.
    #[must_use]
    pub fn bound(&self, rule: &Rule) -> Origins {
        rule.origins.iter().filter(|&origin| self.binds(rule, origin)).collect()
    }

    /// Whether there are such origins.
    #[must_use]
    pub fn is_bound(&self, rule: &Rule) -> bool {
        rule.origins.iter().any(|origin| self.binds(rule, origin))
    }

    fn binds(&self, rule: &Rule, origin: Origin) -> bool {
        rule.action == Action::Deny || self.is_limited(origin)
    }

    /// The clients of these origins.
    #[must_use]
    pub fn clients_of(&self, origins: Origins) -> AddrSet {
        origins.iter().filter_map(|origin| self.clients.get(&origin)).map(|group| &group.addrs).collect()
    }

    /// Whether a rule denies something to clients that are not denied by default: if it cannot be made, it is missed.
    #[must_use]
    pub fn is_sole_denial(&self, rule: &Rule) -> bool {
        rule.action == Action::Deny && !rule.origins.iter().all(|origin| self.is_limited(origin))
    }

    fn is_limited(&self, origin: Origin) -> bool {
        self.clients.get(&origin).is_some_and(|group| group.default_deny)
    }

    /// Words for a set of origins, by the clients they really stand for: apps that leave with the appliance's
    /// addresses are the appliance.
    #[must_use]
    pub fn group_name(&self, origins: Origins) -> String {
        let mut seen: Vec<&AddrSet> = Vec::new();
        let mut words = Vec::new();
        for origin in origins.iter() {
            let Some(group) = self.clients.get(&origin) else { continue };
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

    /// The same without vendors' lists, for whoever asks DNS himself.
    #[must_use]
    pub fn without_lists(&self) -> Cow<'_, Self> {
        if self.lists.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut bare = self.clone();
        bare.lists.clear();
        for destination in bare.rules.iter_mut().flat_map(|rule| &mut rule.destinations) {
            if destination.widened.take().is_some() {
                let wildcard = matches!(destination.endpoint, Endpoint::Name(NamePattern::Below(_)));
                destination.gap = destination.gap.take().or(wildcard.then(|| Gap::Wildcard.into()));
            }
        }
        bare.meetings = sharing::find(&bare);
        Cow::Owned(bare)
    }

    /// The same for whoever turns names into addresses himself: without names that are reached through the proxy, and
    /// without denials of names where that would deny what the site accepts.
    #[must_use]
    pub fn names_as_addresses(&self) -> Cow<'_, Self> {
        let nameless = |d: &Destination| matches!(d.gap.as_deref(), Some(Gap::Proxied(_))) || d.accepted.is_some();
        if !self.rules.iter().flat_map(|rule| &rule.destinations).any(nameless) {
            return Cow::Borrowed(self);
        }
        let mut bare = self.clone();
        for destination in bare.rules.iter_mut().flat_map(|rule| &mut rule.destinations).filter(|d| nameless(d)) {
            destination.names = Names::none();
        }
        Cow::Owned(bare)
    }

    /// Both at once: what is left for whoever asks DNS himself and makes addresses of what he hears.
    #[must_use]
    pub fn asked_elsewhere(&self) -> Cow<'_, Self> {
        match self.without_lists() {
            Cow::Borrowed(same) => same.names_as_addresses(),
            Cow::Owned(bare) => Cow::Owned(bare.names_as_addresses().into_owned()),
        }
    }

    /// The names that a name's answers lead through; none of a wildcard, whose names nobody can ask for.
    #[must_use]
    pub fn aliases<'a>(&'a self, name: &NamePattern) -> &'a [Host] {
        name.exact().and_then(|host| self.answers.get(host)).map(|known| known.aliases.as_slice()).unwrap_or_default()
    }

    /// Decides one packet that opens a flow, by address alone.
    #[must_use]
    pub fn decide(&self, client: IpAddr, server: IpAddr, protocol: Protocol, port: u16) -> Verdict<'_> {
        let meets = |rule: &&Rule| {
            rule.ports.iter().any(|p| p.contains(protocol, port))
                && self.clients_of(self.bound(rule)).contains(client)
                && rule.destinations.iter().any(|d| d.contains(server))
        };
        match self.rules.iter().find(meets) {
            Some(rule) if rule.action == Action::Deny => Verdict::Deny(rule),
            Some(rule) => Verdict::Allow(rule),
            None if self.limited().contains(client) => Verdict::DefaultDeny,
            None => Verdict::NotOurs,
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
    // A name is trusted by whoever trusts it most, as when it was asked: two entries cannot see two answers.
    let terms = policy.queries();
    // What may have to be refused. Mostly nothing of a list or an answer is in it, which one look tells.
    let suspect = addrs::special_space().union(&own.iter().copied().collect());
    let lists = pinned(policy, lock, &own, &suspect, findings);
    let mut rules = Vec::with_capacity(policy.decisions.len());
    for decision in &policy.decisions {
        let resolved = decision.endpoints.iter().map(|endpoint| {
            let terms = endpoint.query().and_then(|query| terms.get(&query)).map_or(&*decision.terms, |terms| terms);
            let judge = Judge { terms, clients: &own };
            let mut destination = destination(endpoint, decision, lock, judge, &suspect, findings);
            widen(&mut destination, decision, policy, &lists);
            destination
        });
        let destinations = resolved.collect();
        rules.push(Rule {
            key: decision.key.clone(),
            action: decision.action,
            reason: decision.reason.clone(),
            callout: Arc::clone(&decision.callout),
            origins: decision.origins,
            ports: Arc::clone(&decision.ports),
            destinations,
        });
    }
    let answers = known(&rules, lock);
    for rule in &rules {
        refuse_wide(rule.each_literal(), &rule.callout.span, rule.key.as_str(), findings);
    }
    if let Some(rule) = rules.iter().rfind(|rule| rule.prefixes().next().is_some()) {
        let all = rules.iter().filter(|rule| rule.action == Action::Allow).flat_map(Rule::prefixes);
        refuse_wide(all, &rule.callout.span, "all entries", findings);
    }
    for client in policy.clients.values() {
        refuse_wide([&client.prefixes.iter().copied().collect()].into_iter(), &client.span, "the clients", findings);
    }
    let mut ruleset = Ruleset {
        site: policy.site.clone(),
        release: policy.release.clone(),
        answered: lock.map(|lock| lock.day),
        stale: false,
        clients,
        rules,
        uncovered: policy.uncovered.clone(),
        lists,
        answers,
        meetings: Meetings::new(),
        blocked: policy.blocked.clone(),
        excepted: policy.excepted.clone(),
        decided: Vec::new(),
        ipv6: policy.ipv6,
        settings: policy.settings.clone(),
    };
    deny_beats_allow(&mut ruleset, findings);
    sharing::apply(&mut ruleset, &policy.shared);
    sharing::accept(&mut ruleset, &policy.shared, findings);
    ruleset.decided = decided(&ruleset);
    if let Some(lock) = lock {
        blocked_aliases(policy, lock, findings);
    }
    ruleset
}

/// [`Ruleset::decided`].
fn decided(ruleset: &Ruleset) -> Vec<String> {
    let excepted = ruleset.excepted.iter().map(|(id, reason)| format!("{id} is excepted from strict mode: {reason}"));
    let mut lines: BTreeSet<String> = excepted.collect();
    for rule in &ruleset.rules {
        for destination in &rule.destinations {
            let (key, name) = (&rule.key, &destination.endpoint);
            lines.extend(match destination.gap.as_deref() {
                Some(Gap::Proxied(why)) => Some(format!("{name} ({key}) is reached through the proxy alone: {why}")),
                Some(Gap::Dropped(why)) => Some(format!("{name} ({key}) is let out nowhere: {why}")),
                _ => None,
            });
            lines.extend(destination.accepted.as_deref().map(|Accepted { at, reasons }| {
                let at = match at.is_empty() {
                    true => {
                        "where an alias leads it to an allowed name's address, of which there is none now".to_owned()
                    }
                    false => format!("at {}", list_of(at.shorts())),
                };
                format!("blocked {name} ({key}) is not denied {at}: {}", list_of(reasons))
            }));
        }
    }
    lines.into_iter().collect()
}

/// What the lock knows of the hosts of these rules. An address that no rule believes is none.
fn known(rules: &[Rule], lock: Option<&Lock>) -> BTreeMap<Host, Known> {
    let mut answers: BTreeMap<Host, Known> = BTreeMap::new();
    for destination in rules.iter().flat_map(|rule| &rule.destinations) {
        for host in destination.names().iter().filter_map(NamePattern::exact) {
            let Some(entry) = lock.and_then(|lock| lock.hosts.get(&Query::Host(host.clone()))) else { continue };
            let mut believed = destination.addrs.minus(&entry.addresses.missing().collect());
            // A service has the addresses of other hosts too.
            if destination.names().len() > 1 {
                believed = believed.and(&entry.addresses.keys().collect());
            }
            let known = answers.entry(host.clone()).or_default();
            known.now = if known.now.is_empty() { believed } else { known.now.union(&believed) };
            if known.aliases.is_empty() {
                known.aliases = entry.chain.iter().chain(&entry.through).cloned().collect();
            }
        }
    }
    answers
}

/// Takes back what is allowed by name and denied by name for the same clients, or by a wildcard: no list of addresses
/// could hold the wildcard, and an order of rules must not decide.
fn deny_beats_allow(ruleset: &mut Ruleset, findings: &mut Findings) {
    let denials: Vec<(Id, AddrSet, Vec<NamePattern>)> = ruleset
        .rules
        .iter()
        .filter(|rule| rule.action == Action::Deny)
        .map(|rule| (rule.key.clone(), ruleset.clients_of(rule.origins), rule.names()))
        .collect();
    if denials.is_empty() {
        return;
    }
    let allowed: Vec<AddrSet> = ruleset.rules.iter().map(|rule| ruleset.clients_of(rule.origins)).collect();
    for (rule, clients) in ruleset.rules.iter_mut().zip(allowed).filter(|(rule, _)| rule.action == Action::Allow) {
        for destination in &mut rule.destinations {
            let by = denials.iter().find(|(_, denied, patterns)| {
                let named = !destination.names().is_empty()
                    && destination.names().iter().all(|name| patterns.iter().any(|pattern| pattern.covers(name)));
                named && clients.minus(denied).is_empty()
            });
            if let Some((by, ..)) = by {
                findings.push(
                    Diagnostic::new(
                        Code::TakenBack,
                        format!("`{}` ({}) is allowed, and {by} denies it", destination.endpoint, rule.key),
                    )
                    .help("a denial beats an allow: take one of the two out if that is not meant"),
                );
                destination.names = Names::none();
                destination.addrs = AddrSet::new();
                destination.widened = None;
                destination.gap = Some(Gap::Denied(by.clone()).into());
            }
        }
    }
}

/// Many prefixes that together are nearly everything are as wide as one that says so.
fn refuse_wide<'a>(sets: impl Iterator<Item = &'a AddrSet> + Clone, span: &Span, who: &str, findings: &mut Findings) {
    for net in addrs::too_wide(sets) {
        findings.push(
            Diagnostic::new(Code::TooWide, format!("the prefixes of {who} together are {net}"))
                .at(span.clone(), "")
                .help("name the prefixes that are meant: nothing wider than /8, or /16 for IPv6"),
        );
    }
}

fn destination(
    endpoint: &Endpoint,
    decision: &Decision,
    lock: Option<&Lock>,
    judge: Judge<'_>,
    suspect: &AddrSet,
    findings: &mut Findings,
) -> Destination {
    let bare = |names, addrs, gap: Option<Gap>| Destination {
        endpoint: endpoint.clone(),
        names,
        addrs,
        widened: None,
        gap: gap.map(Box::new),
        accepted: None,
    };
    match endpoint {
        Endpoint::Net(net) => bare(Names::none(), AddrSet::from(*net), None),
        Endpoint::Name(NamePattern::Below(_)) => bare(Names::Itself, AddrSet::new(), Some(Gap::Wildcard)),
        Endpoint::Name(NamePattern::Exact(host)) => {
            let (addrs, gap) = addresses(&Query::Host(host.clone()), lock, judge, suspect, findings);
            bare(Names::Itself, addrs, gap)
        }
        Endpoint::Service(service) => {
            let query = Query::Service(service.clone());
            let Some(entry) = lock.and_then(|lock| lock.hosts.get(&query)) else {
                return bare(Names::none(), AddrSet::new(), Some(Gap::NotInLock));
            };
            let (mut names, mut addrs, mut gap) = (Vec::new(), Vec::new(), None);
            for (host, port) in &entry.targets {
                if !may_select(service, host) {
                    findings.push(
                        Diagnostic::new(
                            Code::BadLock,
                            format!("the lock lets `{service}` select `{host}`, outside its own domain"),
                        )
                        .help("no rule is made from that; run `outgate resolve`"),
                    );
                    continue;
                }
                // A mirror on a port the callout does not have is not what the catalog means.
                if !decision.ports.iter().any(|p| p.contains(service.protocol(), *port)) {
                    continue;
                }
                let (more, missing) = addresses(&Query::Host(host.clone()), lock, judge, suspect, findings);
                names.push(NamePattern::Exact(host.clone()));
                addrs.push(more);
                gap = gap.or(missing);
            }
            let unanswered = entry.failed.get(&RecordType::Srv).is_some_and(|failed| !failed.failure.is_final());
            if names.is_empty() {
                let why = failures(entry).unwrap_or_else(|| "no host is selected".to_owned());
                gap = Some(if unanswered { Gap::Unanswered(why) } else { Gap::NoAddress(why) });
            }
            bare(Names::These(names.into()), addrs.iter().collect(), gap)
        }
    }
}

/// The site's lists as the lock has them. What a lock of ours could not say is an error; what it lacks is one only for
/// targets that go by address, and is kept for them.
fn pinned(
    policy: &Policy,
    lock: Option<&Lock>,
    clients: &[IpNet],
    suspect: &AddrSet,
    findings: &mut Findings,
) -> BTreeMap<Id, PinnedList> {
    let mut lists = BTreeMap::new();
    for (id, range) in &policy.ranges {
        let mut list = PinnedList {
            from: range.source.from.clone(),
            addrs: AddrSet::new(),
            fault: None,
            span: range.span.clone(),
        };
        match lock.and_then(|lock| lock.ranges.get(id)) {
            None => list.fault = Some(ListFault::NotInLock),
            Some(entry) if entry.source != range.source => list.fault = Some(ListFault::OtherSource),
            Some(entry) => {
                list.addrs = entry.prefixes.keys().copied().collect();
                let doubtful = list.addrs.meets(suspect);
                for net in entry.prefixes.keys().filter(|_| doubtful) {
                    if let Some(why) = ranges::refuse_one(net, &range.terms.special, clients) {
                        let message = format!("the list `{id}` of the lock has {}, which {why}", addrs::short(net));
                        findings.push(
                            Diagnostic::new(Code::BadLock, message)
                                .help("no rule is made from that: run `outgate resolve` to read the list again"),
                        );
                    }
                }
                refuse_wide([&list.addrs].into_iter(), &range.span, &format!("list `{id}`"), findings);
            }
        }
        lists.insert(id.clone(), list);
    }
    lists
}

/// Adds the lists that are for an allowed name. A denial is never widened.
fn widen(destination: &mut Destination, decision: &Decision, policy: &Policy, lists: &BTreeMap<Id, PinnedList>) {
    let Endpoint::Name(name) = &destination.endpoint else { return };
    if decision.action == Action::Deny {
        return;
    }
    let widens = policy.ranges.iter().filter(|(_, range)| range.names.contains(name)).map(|(id, _)| id.clone());
    let widens: Vec<Id> = widens.collect();
    if widens.is_empty() {
        return;
    }
    let addrs = widens.iter().filter_map(|id| lists.get(id)).map(|list| &list.addrs).collect();
    destination.widened = Some(Box::new(Widened { lists: widens, addrs }));
    if destination.gap.as_deref() == Some(&Gap::Wildcard) {
        destination.gap = None;
    }
}

/// What the lists of a rule set come to for targets that go by address: those it cannot use are errors, and what the
/// others open is said, for it is more than the names alone would.
pub fn lists_opened(ruleset: &Ruleset, findings: &mut Findings) {
    for (id, list) in &ruleset.lists {
        let users: Vec<&Rule> = ruleset.rules.iter().filter(|rule| rule.lists().contains(id)).collect();
        if users.is_empty() {
            continue;
        }
        let (code, message, help) = match list.fault {
            Some(ListFault::NotInLock) => {
                (Code::NotInLock, format!("the list `{id}` is not in the lock"), "run `outgate resolve`")
            }
            Some(ListFault::OtherSource) => (
                Code::LockDiffers,
                format!(
                    "the lock has the list `{id}` from another source, or other parts of it, than the profile says"
                ),
                "run `outgate resolve`",
            ),
            None => {
                let used = |d: &&Destination| d.lists().contains(id);
                let names: BTreeSet<&Endpoint> =
                    users.iter().flat_map(|r| r.destinations.iter().filter(used)).map(|d| &d.endpoint).collect();
                let ports: BTreeSet<&Port> = users.iter().flat_map(|rule| &*rule.ports).collect();
                let message = format!(
                    "list `{id}` opens {} for {} on {} ({})",
                    list.addrs.size(),
                    list_of(names),
                    list_of(ports),
                    list_of(users.iter().map(|rule| &rule.key)),
                );
                (Code::RangeOpens, message, "whatever else the vendor has there is open as well, on these ports")
            }
        };
        findings.push(Diagnostic::new(code, message).at(list.span.clone(), "").help(help));
    }
}

fn list_of<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn addresses(
    query: &Query,
    lock: Option<&Lock>,
    judge: Judge<'_>,
    suspect: &AddrSet,
    findings: &mut Findings,
) -> (AddrSet, Option<Gap>) {
    let Some(entry) = lock.and_then(|lock| lock.hosts.get(query)) else {
        return (AddrSet::new(), Some(Gap::NotInLock));
    };
    let mut good: AddrSet = entry.addresses.keys().collect();
    if good.meets(suspect) {
        let mut refuse = |addr: &IpAddr| match judge.refuse(*addr) {
            None => false,
            Some(why) => {
                findings.push(
                    Diagnostic::new(Code::BadLock, format!("the lock leads `{query}` to {addr}, {why}")).help(format!(
                        "no rule is made from that: run `outgate resolve` to ask again{}",
                        why.way_out()
                    )),
                );
                true
            }
        };
        good = entry.addresses.keys().filter(|addr| !refuse(addr)).collect();
    }
    let unanswered = [(RecordType::A, good.has_v4()), (RecordType::Aaaa, good.has_v6())]
        .into_iter()
        .any(|(kind, has)| !has && entry.failed.get(&kind).is_some_and(|failed| !failed.failure.is_final()));
    let why = || failures(entry).unwrap_or_else(|| "no records".to_owned());
    let gap = match (unanswered, good.is_empty()) {
        (true, _) => Some(Gap::Unanswered(why())),
        (false, true) => Some(Gap::NoAddress(why())),
        (false, false) => None,
    };
    (good, gap)
}

fn failures(entry: &crate::lock::Entry) -> Option<String> {
    let list: Vec<String> =
        entry.failed.iter().map(|(kind, failed)| format!("{} {}", kind.as_str(), failed.failure)).collect();
    (!list.is_empty()).then(|| list.join(", "))
}

/// Finds clients that are named in one address family only: rules by address would say nothing of the other.
pub fn one_family(ruleset: &Ruleset, findings: &mut Findings) {
    // Of those that are not denied the rest, denials alone are rules.
    let denied = |origin: &Origin| {
        ruleset.rules.iter().any(|rule| rule.action == Action::Deny && rule.origins.contains(*origin))
    };
    for (origin, group) in ruleset.clients.iter().filter(|(origin, group)| group.default_deny || denied(origin)) {
        if group.addrs.has_v4() && group.addrs.has_v6() {
            continue;
        }
        let no_ipv6 = ruleset.ipv6 == Ipv6::DenyInterface && group.default_deny && group.addrs.has_v4();
        let same_as_nas =
            *origin == Origin::App && ruleset.clients.get(&Origin::Nas).is_some_and(|n| n.span == group.span);
        if no_ipv6 || same_as_nas {
            continue;
        }
        let missing = if group.addrs.has_v4() { "IPv6" } else { "IPv4" };
        let way_out =
            ", or set `ipv6: deny-interface` together with the interface of the target to deny all IPv6 from there";
        findings.push(
            Diagnostic::new(
                Code::OneFamily,
                format!("clients of origin `{}` have no {missing} address here", origin.as_str()),
            )
            .at(group.span.clone(), format!("their {missing} would not be limited at all"))
            .help(format!("add their {missing} addresses or prefix{}", if missing == "IPv6" { way_out } else { "" })),
        );
    }
}

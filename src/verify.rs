//! The rules held to what is asserted of them: [`Ruleset`] × assertions → [`Report`]. No network, no clock, no disk.
//!
//! A flow is judged by each target for itself: by name where a target goes by name, and else by every address the lock
//! has of a host. Beside what a profile asserts there is what must hold of any site; that is asserted always.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::addrs::AddrSet;
use crate::assertion::{Flow, Sender, Test, To, Wanted};
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::{Host, NamePattern, Query};
use crate::lock::Lock;
use crate::port::{Port, Protocol};
use crate::profile::Profile;
use crate::proof::Proof;
use crate::ruleset::{Action, Gap, Rule, Ruleset, Verdict};
use crate::settings::Ipv6;
use crate::source::Span;
use crate::target::wall::{Sight, Wall};
use crate::target::{TARGETS, Target};
use crate::text::{Id, Text};

mod always;

/// Every assertion and what became of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The site.
    pub site: Text,
    /// What is asserted of any site, then what the profile asserts, as written.
    pub outcomes: Vec<Outcome>,
}

/// One assertion.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The word for one that is asserted always; `None` for one of the profile.
    pub always: Option<&'static str>,
    /// What it is about.
    pub title: String,
    /// Where it is written.
    pub span: Option<Span>,
    /// What was looked at.
    pub cases: Vec<Case>,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is asserted.
    pub what: String,
    /// At which target; `None` where it is the same at each.
    pub target: Option<&'static str>,
    /// Where it is written.
    pub span: Option<Span>,
    /// What became of it.
    pub state: State,
    /// Why, in words.
    pub why: String,
    /// The rule that decided, where one did.
    pub rule: Option<Decider>,
    /// What is to be said of it, where it does not hold.
    findings: Vec<Diagnostic>,
}

/// What became of an assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It does not hold.
    Fails,
    /// It holds.
    Holds,
    /// There was nothing to judge here.
    Skipped,
}

impl State {
    /// The word for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fails => "fails",
            Self::Holds => "holds",
            Self::Skipped => "skipped",
        }
    }
}

/// A rule that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decider {
    /// Its name.
    pub key: Id,
    /// Allow or deny.
    pub action: Action,
    /// Why it is there.
    pub reason: String,
    /// Who says so.
    pub source: String,
    /// The entry of catalog or profile.
    pub span: Span,
}

impl Decider {
    fn of(rule: &Rule) -> Self {
        Self {
            key: rule.key.clone(),
            action: rule.action,
            reason: rule.reason.to_string(),
            source: rule.callout.first_source(),
            span: rule.callout.span.clone(),
        }
    }
}

impl Outcome {
    /// What became of it: one case that fails is enough, and with none that holds there was nothing to judge.
    #[must_use]
    pub fn state(&self) -> State {
        self.cases.iter().map(|case| case.state).min().unwrap_or(State::Skipped)
    }
}

impl Report {
    /// How many assertions came to this.
    #[must_use]
    pub fn count(&self, state: State) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.state() == state).count()
    }

    /// Whether none fails.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.count(State::Fails) == 0
    }

    /// What there is to say of those that fail. Targets that say the same are said once.
    pub fn tell(&self, findings: &mut Findings) {
        for outcome in &self.outcomes {
            let mut told: Vec<(&Case, Vec<&'static str>)> = Vec::new();
            for case in outcome.cases.iter().filter(|case| case.state == State::Fails) {
                match told.iter_mut().find(|(other, _)| other.is_like(case)) {
                    Some((_, targets)) => targets.extend(case.target),
                    None => told.push((case, case.target.into_iter().collect())),
                }
            }
            for (case, targets) in told {
                findings.extend(case.findings.iter().cloned().map(|mut finding| {
                    if !targets.is_empty() {
                        finding.message = format!("{}: {}", targets.join(", "), finding.message);
                    }
                    finding
                }));
            }
        }
    }
}

impl Case {
    /// Whether another says the same of another target.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let all = |case: &Self| (case.what.clone(), case.span.clone(), case.state, case.why.clone());
        all(self) == all(other) && self.rule == other.rule && self.findings == other.findings
    }

    /// Where it is written, or of one that is asserted always what it comes to.
    #[must_use]
    pub fn place(&self) -> Option<&Span> {
        self.span.as_ref().or_else(|| Some(&self.findings.first()?.labels.first()?.span))
    }

    /// The finding that says so, where it does not hold.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.findings.first().map(|finding| finding.code)
    }

    fn holds(what: impl Into<String>, target: Option<&'static str>, why: impl Into<String>) -> Self {
        Self::new(State::Holds, what, target, why)
    }

    fn skipped(what: impl Into<String>, target: Option<&'static str>, why: impl Into<String>) -> Self {
        Self::new(State::Skipped, what, target, why)
    }

    fn fails(
        what: impl Into<String>,
        target: Option<&'static str>,
        why: impl Into<String>,
        findings: Vec<Diagnostic>,
    ) -> Self {
        Self { findings, ..Self::new(State::Fails, what, target, why) }
    }

    fn new(state: State, what: impl Into<String>, target: Option<&'static str>, why: impl Into<String>) -> Self {
        let (what, why) = (what.into(), why.into());
        Self { what, target, span: None, state, why, rule: None, findings: Vec::new() }
    }
}

/// Holds the rules to what is asserted of any site, and to what the profile asserts. `proof` is that of strict mode, where
/// anything is blocked.
#[must_use]
pub fn verify(ruleset: &Ruleset, lock: Option<&Lock>, profile: &Profile, proof: Option<&Proof>) -> Report {
    let judges = judges(ruleset, lock);
    let mut outcomes = always::outcomes(ruleset, &judges, profile, proof);
    outcomes.extend(profile.tests.iter().map(|test| asserted(test, &judges)));
    Report { site: ruleset.site.clone(), outcomes }
}

/// One assertion of the profile.
fn asserted(test: &Test, judges: &[Judge<'_>]) -> Outcome {
    let mut cases = Vec::new();
    for flow in &test.flows {
        let what = format!("{} {} {flow}", test.from, flow.wanted.must());
        let mut of_flow = Vec::new();
        for judge in judges {
            let name = judge.target.name;
            let named = test.on.iter().find(|(on, _)| *on == name);
            if !test.on.is_empty() && named.is_none() {
                continue;
            }
            let ruling = judge.rule_on(test.from, flow);
            let mut case = match ruling {
                Ruling::NotHere(why) => Case::skipped(what.clone(), Some(name), why),
                Ruling::Good(why, rule) => {
                    Case { rule: rule.map(Decider::of), ..Case::holds(what.clone(), Some(name), why) }
                }
                Ruling::Bad(why, rule, help) => {
                    let does = if flow.wanted == Wanted::Deny { "does" } else { "does not" };
                    let by = rule.map(|rule| format!(" ({}; {})", rule.reason, rule.callout.first_source()));
                    let message = format!("{what}, and {does}: {why}{}", by.unwrap_or_default());
                    let mut finding = Diagnostic::new(Code::TestFails, message).at(flow.span.clone(), "asserted here");
                    if let Some(rule) = rule {
                        finding = finding.at(rule.callout.span.clone(), format!("`{}` is of this entry", rule.key));
                    }
                    let failed = Case::fails(what.clone(), Some(name), why, vec![finding.help(help)]);
                    Case { rule: rule.map(Decider::of), ..failed }
                }
            };
            case.span = Some(flow.span.clone());
            of_flow.push(case);
        }
        // An assertion that nobody judges holds nothing, and must not look as if it did.
        if of_flow.iter().all(|case| case.state == State::Skipped) {
            let why = "no target of this site judges it";
            let help = match of_flow.first() {
                Some(case) => format!("{}: {}", case.target.unwrap_or_default(), case.why),
                None => "the site has no target that lets traffic out or holds it back".to_owned(),
            };
            let finding =
                Diagnostic::new(Code::TestFails, format!("{what}: {why}")).at(flow.span.clone(), "").help(help);
            of_flow.push(Case { span: Some(flow.span.clone()), ..Case::fails(what, None, why, vec![finding]) });
        }
        cases.extend(of_flow);
    }
    let title = test.name.as_ref().map_or_else(|| format!("from {}", test.from), ToString::to_string);
    Outcome { always: None, title, span: Some(test.span.clone()), cases }
}

/// What a target says of a flow.
enum Ruling<'a> {
    /// It is as asserted: why, and by which rule.
    Good(String, Option<&'a Rule>),
    /// It is not: why, by which rule, and what to do.
    Bad(String, Option<&'a Rule>, String),
    /// The target has no part in it.
    NotHere(String),
}

/// The targets of a site that let traffic out or hold it back.
fn judges<'a>(ruleset: &'a Ruleset, lock: Option<&'a Lock>) -> Vec<Judge<'a>> {
    let chosen = TARGETS.iter().copied().filter(|target| (target.chosen)(&ruleset.settings));
    chosen.filter_map(|target| Some(Judge::new(target, (target.wall)(ruleset)?, lock))).collect()
}

/// A target, with what every question needs of it.
struct Judge<'a> {
    target: &'static Target,
    wall: Wall<'a>,
    lock: Option<&'a Lock>,
    rows: Vec<Row>,
    /// Who is denied what no rule allows.
    limited: AddrSet,
}

/// What a target has of one rule of its rule set, in the same order.
struct Row {
    clients: AddrSet,
    addrs: AddrSet,
    names: Vec<NamePattern>,
    /// Names whose addresses somebody else puts in, with those of all names below.
    fed: Vec<Host>,
}

/// What a target says of one address, or name, of one client on one port.
#[derive(Clone, Copy)]
struct Packet<'a> {
    client: IpAddr,
    protocol: Protocol,
    port: u16,
    host: Option<&'a Host>,
}

impl<'a> Judge<'a> {
    fn new(target: &'static Target, wall: Wall<'a>, lock: Option<&'a Lock>) -> Self {
        let rows = wall.ruleset.rules.iter().map(|rule| Row {
            clients: wall.clients(rule),
            addrs: match wall.sight {
                Sight::Address | Sight::Lookup { .. } => rule.addrs(),
                Sight::Name { addresses: true } => rule.literals(),
                Sight::Name { addresses: false } => AddrSet::new(),
            },
            names: match wall.sight {
                // Its aliases are of names that can be looked up.
                Sight::Lookup { wildcards: false } => {
                    rule.names().into_iter().filter(|name| name.exact().is_some()).collect()
                }
                _ => rule.names(),
            },
            fed: match rule.action {
                Action::Deny => Vec::new(),
                Action::Allow => {
                    let open = rule.destinations.iter().filter(|d| !d.gap.as_deref().is_some_and(Gap::is_decided));
                    let names = open.flat_map(|d| d.names()).filter(|name| wall.fed.contains(name));
                    names.map(|name| name.host().clone()).collect()
                }
            },
        });
        let rows = rows.collect();
        let limited = wall.limited();
        Self { target, wall, lock, rows, limited }
    }

    fn rules(&self) -> impl Iterator<Item = (&Rule, &Row)> {
        self.wall.ruleset.rules.iter().zip(&self.rows)
    }

    fn goes_by_name(&self) -> bool {
        matches!(self.wall.sight, Sight::Name { .. })
    }

    /// Whether the family of a client's address is that of what it reaches: not behind a proxy, and pods have addresses
    /// that nobody here knows.
    fn has_families(&self) -> bool {
        !self.goes_by_name() && self.wall.pods.is_none()
    }

    /// Whose packets are meant, or why this target never sees them.
    fn senders(&self, from: Sender) -> Result<AddrSet, String> {
        match from {
            Sender::Origin(origin) => match self.wall.unseen(origin) {
                Some(why) => Err(why.to_owned()),
                None if self.wall.pods.is_some() => Ok(self.wall.seen()),
                None => Ok(self.wall.ruleset.clients.get(&origin).map(|group| group.addrs.clone()).unwrap_or_default()),
            },
            Sender::Client(addr) => {
                if self.wall.seen().contains(addr) {
                    return Ok([addr].into_iter().collect());
                }
                let whose = self.wall.ruleset.clients.iter().filter(|(_, group)| group.addrs.contains(addr));
                let why = whose.filter_map(|(origin, _)| self.wall.unseen(*origin)).next();
                Err(why.unwrap_or("it never sees this client").to_owned())
            }
        }
    }

    /// A client for each way in which rules may tell clients apart, of each family.
    fn representatives(&self, senders: &AddrSet) -> Vec<IpAddr> {
        let mut parts = vec![senders.clone()];
        for group in self.wall.ruleset.clients.values() {
            parts = parts.iter().flat_map(|part| [part.and(&group.addrs), part.minus(&group.addrs)]).collect();
            parts.retain(|part| !part.is_empty());
        }
        let first = |part: &AddrSet| {
            let v4 = part.v4_prefixes().next().map(|net| IpAddr::V4(net.network()));
            v4.into_iter().chain(part.v6_prefixes().next().map(|net| IpAddr::V6(net.network())))
        };
        parts.iter().flat_map(first).collect()
    }

    /// A port for each way in which rules may tell the ports of a range apart.
    fn ports(&self, range: Port) -> BTreeSet<u16> {
        let rules = self.wall.ruleset.rules.iter().flat_map(|rule| rule.ports_of(range.protocol));
        let edges = rules.flat_map(|port| [Some(port.first()), port.last().checked_add(1)]).flatten();
        let inside = edges.filter(|edge| range.contains(range.protocol, *edge));
        inside.chain([range.first()]).collect()
    }

    /// What it says of a flow.
    fn rule_on(&self, from: Sender, flow: &Flow) -> Ruling<'_> {
        let senders = match self.senders(from) {
            Ok(senders) => senders,
            Err(why) => return Ruling::NotHere(why),
        };
        let carried = |port: u16| self.wall.carries.iter().any(|p| p.contains(flow.port.protocol, port));
        let ports: Vec<u16> = self.ports(flow.port).into_iter().filter(|port| carried(*port)).collect();
        let whole = self.wall.carries.iter().any(|p| {
            p.protocol == flow.port.protocol && p.first() <= flow.port.first() && flow.port.last() <= p.last()
        });
        if ports.is_empty() || !whole {
            return Ruling::NotHere(format!("{} does not go through it", flow.port));
        }
        if self.wall.audit && flow.wanted == Wanted::Deny {
            let help = "take `mode: audit` out, or the target out of `on`".to_owned();
            return Ruling::Bad("in audit mode it logs and denies nothing".to_owned(), None, help);
        }
        let mut good: Option<(String, Option<&Rule>)> = None;
        let clients = match self.of_family(from, &senders, flow) {
            Ok(clients) => clients,
            Err(ruling) => return ruling,
        };
        for client in clients {
            for &port in &ports {
                let packet = Packet { client, protocol: flow.port.protocol, port, host: None };
                let ruling = match &flow.to {
                    To::Host(host) => self.to_host(Packet { host: Some(host), ..packet }, flow.wanted),
                    To::Net(net) => self.to_addrs(packet, &[*net].into_iter().collect(), flow.wanted),
                };
                match ruling {
                    // What there is of the other family decides, where there is nothing of this one.
                    Ruling::NotHere(_) => {}
                    Ruling::Good(why, rule) => _ = good.get_or_insert((why, rule)),
                    bad @ Ruling::Bad(..) => return bad,
                }
            }
        }
        if let Some(family) = self.missing_family(from, &senders, flow) {
            return unlimited(family);
        }
        match good {
            Some((why, rule)) => Ruling::Good(why, rule),
            None => self.nowhere(flow, &senders),
        }
    }

    /// A family in which a host that must not be reached has addresses and these clients have none: whatever they send
    /// there is not theirs to any rule.
    fn missing_family(&self, from: Sender, senders: &AddrSet, flow: &Flow) -> Option<&'static str> {
        let (To::Host(host), Wanted::Deny, Sender::Origin(_)) = (&flow.to, flow.wanted, from) else { return None };
        let entry = self.lock?.hosts.get(&Query::Host(host.clone())).filter(|_| self.has_families())?;
        let lacks = |v4: bool| entry.addresses.keys().any(|addr| addr.is_ipv4() == v4);
        match (lacks(true) && !senders.has_v4(), lacks(false) && !senders.has_v6() && !self.denies_all_ipv6()) {
            (true, _) => Some("IPv4"),
            (_, true) => Some("IPv6"),
            _ => None,
        }
    }

    /// The clients that can send there by the family of their address; or what comes of it that there are none.
    fn of_family(&self, from: Sender, senders: &AddrSet, flow: &Flow) -> Result<Vec<IpAddr>, Ruling<'_>> {
        let all = self.representatives(senders);
        let To::Net(net) = &flow.to else { return Ok(all) };
        if !self.has_families() {
            return Ok(all);
        }
        let v4 = net.addr().is_ipv4();
        let able: Vec<IpAddr> = all.into_iter().filter(|client| client.is_ipv4() == v4).collect();
        if !able.is_empty() {
            return Ok(able);
        }
        let family = if v4 { "IPv4" } else { "IPv6" };
        // Asserted of one client it would hold whatever the rules say.
        if let Sender::Client(client) = from {
            let why = format!("{client} is of the other family, and reaches no {family} address");
            return Err(Ruling::Bad(why, None, format!("name an {family} address of the client")));
        }
        Err(match flow.wanted {
            Wanted::Deny if !v4 && self.denies_all_ipv6() => {
                Ruling::Good("all IPv6 of the clients' interface is denied".to_owned(), None)
            }
            Wanted::Deny => unlimited(family),
            Wanted::Allow => Ruling::Bad(
                format!("these clients have no {family} address here"),
                None,
                format!("name their {family} addresses under `clients`, or another destination"),
            ),
        })
    }

    fn denies_all_ipv6(&self) -> bool {
        self.wall.ruleset.ipv6 == Ipv6::DenyInterface && !self.wall.no_interface && self.has_families()
    }

    /// What comes of it that the lock has no address of a host in any family of the clients.
    fn nowhere(&self, flow: &Flow, senders: &AddrSet) -> Ruling<'_> {
        let entry = match &flow.to {
            To::Host(host) => self.lock.and_then(|lock| lock.hosts.get(&Query::Host(host.clone()))),
            To::Net(_) => None,
        };
        let what = match (self.lock, entry) {
            (None, _) => "there is no lock, so no address of it is known".to_owned(),
            (Some(_), None) => "the lock does not know it".to_owned(),
            (Some(_), Some(entry)) if entry.addresses.is_empty() => "the lock has no address of it".to_owned(),
            (Some(_), Some(_)) => "the lock has no address of it in the family of these clients".to_owned(),
        };
        let To::Host(host) = &flow.to else { return Ruling::NotHere(what) };
        if flow.wanted == Wanted::Allow {
            let rule = self.naming(host, Action::Allow).map(|(rule, _)| rule);
            let why = match rule {
                Some(rule) => format!("{what}, though `{}` names it", rule.key),
                None => format!("{what}, and no rule names it"),
            };
            let help = match (rule, entry) {
                (Some(_), None) => "run `outgate resolve`",
                (Some(_), Some(_)) => "look why the lookup fails: `outgate status` says what it knows",
                (None, _) => "name the host under `extra` or `servers`, then run `outgate resolve`",
            };
            return Ruling::Bad(why, rule, help.to_owned());
        }
        // A denial by address cannot be shown of an address that nobody knows. What no rule names is let out by none,
        // unless it lies where something else is.
        if let Some((rule, _)) = self.naming(host, Action::Allow)
            && self.naming(host, Action::Deny).is_none()
        {
            let why = format!("{what}; as soon as there is one, `{}` lets it out", rule.key);
            return Ruling::Bad(why, Some(rule), "take the entry out, or the assertion".to_owned());
        }
        if !senders.minus(&self.limited).is_empty() {
            let why = format!("{what}, and nothing else limits these clients");
            let help = "add an entry for it under `extra`, of a class that `strict` blocks, and run `outgate resolve`";
            return Ruling::Bad(why, None, help.to_owned());
        }
        Ruling::Good(format!("no rule names it; {what}"), None)
    }

    /// A rule that names a host and can let it out, or holds it back.
    fn naming(&self, host: &Host, action: Action) -> Option<(&Rule, &Row)> {
        let exact = NamePattern::Exact(host.clone());
        self.rules().find(|(rule, row)| {
            let open = rule.destinations.iter().filter(|d| match d.gap.as_deref() {
                // A wildcard by address lets nothing out, and what is decided is decided.
                Some(gap) => *gap != Gap::Wildcard && !gap.is_decided(),
                None => true,
            });
            rule.action == action
                && !row.clients.is_empty()
                && open.flat_map(|d| d.names()).any(|name| name.covers(&exact))
        })
    }

    /// What it says of a host, of one client on one port.
    fn to_host(&self, packet: Packet<'_>, wanted: Wanted) -> Ruling<'_> {
        let Some(host) = packet.host else { return Ruling::NotHere(String::new()) };
        let entry = self.lock.and_then(|lock| lock.hosts.get(&Query::Host(host.clone())));
        let family = |addr: &IpAddr| !self.has_families() || addr.is_ipv4() == packet.client.is_ipv4();
        let known: AddrSet = match (entry, wanted) {
            (None, _) => AddrSet::new(),
            (Some(entry), Wanted::Allow) => entry.answered().filter(family).collect(),
            // What was answered yesterday may be answered tomorrow.
            (Some(entry), Wanted::Deny) => entry.addresses.keys().filter(family).collect(),
        };
        match self.wall.sight {
            Sight::Name { .. } => self.say(self.by_name(packet), packet, wanted, None),
            Sight::Lookup { .. } => {
                let verdict = self.by_name(packet);
                if matches!(verdict, Verdict::NotOurs) && !known.is_empty() {
                    return self.to_addrs(packet, &known, wanted);
                }
                let by_name = self.say(verdict, packet, wanted, None);
                // In the end it is a list of addresses: what the lock knows must not speak against it.
                let by_address = match (&by_name, known.is_empty()) {
                    (Ruling::Good(..), false) => self.split(packet, known),
                    _ => return by_name,
                };
                let against = by_address.into_iter().find(|(_, verdict)| match wanted {
                    Wanted::Allow => matches!(verdict, Verdict::Deny(_)),
                    Wanted::Deny => matches!(verdict, Verdict::Allow(_)),
                });
                match against {
                    Some((addrs, verdict)) => self.say(verdict, packet, wanted, Some(&addrs)),
                    None => by_name,
                }
            }
            Sight::Address => {
                if let Some(ruling) = self.fed(packet, wanted, &known) {
                    return ruling;
                }
                if known.is_empty() {
                    return Ruling::NotHere("no address of this family".to_owned());
                }
                self.to_addrs(packet, &known, wanted)
            }
        }
    }

    /// What comes of it that somebody else puts in what a name is answered with.
    fn fed(&self, packet: Packet<'_>, wanted: Wanted, known: &AddrSet) -> Option<Ruling<'_>> {
        let host = packet.host?;
        let feeds = |row: &Row| row.fed.iter().any(|name| name == host || host.is_below(name));
        let (rule, _) = self.rules().find(|(rule, row)| {
            row.clients.contains(packet.client)
                && rule.ports.iter().any(|p| p.contains(packet.protocol, packet.port))
                && feeds(row)
        })?;
        let why = format!("`{}` lets out what dnsmasq answers for it", rule.key);
        if wanted == Wanted::Deny {
            return Some(Ruling::Bad(why, Some(rule), "take the name out of `by-dns`, or the assertion".to_owned()));
        }
        let denied = self.split(packet, known.clone()).into_iter().find(|(_, v)| matches!(v, Verdict::Deny(_)));
        Some(match denied {
            Some((addrs, verdict)) => self.say(verdict, packet, wanted, Some(&addrs)),
            None => Ruling::Good(why, Some(rule)),
        })
    }

    /// What it says of a set of addresses: every one must be as asserted.
    fn to_addrs(&self, packet: Packet<'_>, addrs: &AddrSet, wanted: Wanted) -> Ruling<'_> {
        let mut good = None;
        for (part, verdict) in self.split(packet, addrs.clone()) {
            match self.say(verdict, packet, wanted, Some(&part)) {
                bad @ Ruling::Bad(..) => return bad,
                ruling => _ = good.get_or_insert(ruling),
            }
        }
        good.unwrap_or_else(|| Ruling::NotHere("there is no address".to_owned()))
    }

    /// What becomes of each part of a set of addresses, as the first rule that speaks of it says: the same as
    /// [`Ruleset::decide`] says of each.
    fn split(&self, packet: Packet<'_>, addrs: AddrSet) -> Vec<(AddrSet, Verdict<'_>)> {
        let mut left = addrs;
        let mut parts = Vec::new();
        for (rule, row) in self.rules() {
            if !row.clients.contains(packet.client)
                || !rule.ports.iter().any(|p| p.contains(packet.protocol, packet.port))
            {
                continue;
            }
            let hit = left.and(&row.addrs);
            if !hit.is_empty() {
                left = left.minus(&hit);
                parts.push((hit, of_rule(rule)));
            }
        }
        if !left.is_empty() {
            parts.push((left, self.rest(packet)));
        }
        parts
    }

    /// The same of a name: a denial beats an allow.
    fn by_name(&self, packet: Packet<'_>) -> Verdict<'_> {
        let Some(host) = packet.host else { return self.rest(packet) };
        let exact = NamePattern::Exact(host.clone());
        let first = |action: Action| {
            self.rules().find(|(rule, row)| {
                rule.action == action
                    && row.clients.contains(packet.client)
                    && rule.ports.iter().any(|p| p.contains(packet.protocol, packet.port))
                    && row.names.iter().any(|name| name.covers(&exact))
            })
        };
        let rule = first(Action::Deny).or_else(|| first(Action::Allow));
        rule.map_or_else(|| self.rest(packet), |(rule, _)| of_rule(rule))
    }

    /// What becomes of what no rule speaks of.
    fn rest(&self, packet: Packet<'_>) -> Verdict<'_> {
        if self.limited.contains(packet.client) { Verdict::DefaultDeny } else { Verdict::NotOurs }
    }

    /// A verdict held against what is asserted.
    fn say<'b>(&'b self, verdict: Verdict<'b>, packet: Packet<'_>, wanted: Wanted, at: Option<&AddrSet>) -> Ruling<'b> {
        let place = match (at.and_then(|addrs| addrs.shorts().into_iter().next()), packet.host) {
            (Some(first), _) => first,
            (None, Some(host)) => host.to_string(),
            (None, None) => "it".to_owned(),
        };
        match (verdict, wanted) {
            (Verdict::Allow(rule), Wanted::Allow) => {
                let paths = packet.host.is_some_and(|host| self.wall.only_paths.contains(host));
                let but = if paths { ", some paths alone (`decrypt`)" } else { "" };
                Ruling::Good(format!("`{}` allows it{but}", rule.key), Some(rule))
            }
            (Verdict::NotOurs, Wanted::Allow) => Ruling::Good("nothing limits these clients".to_owned(), None),
            (Verdict::Deny(rule), Wanted::Deny) => Ruling::Good(format!("`{}` denies it", rule.key), Some(rule)),
            (Verdict::DefaultDeny, Wanted::Deny) => Ruling::Good("no rule allows it".to_owned(), None),
            (Verdict::Allow(rule), Wanted::Deny) => {
                let named = packet.host.is_none_or(|host| {
                    let exact = NamePattern::Exact(host.clone());
                    rule.destinations.iter().flat_map(|d| d.names()).any(|name| name.covers(&exact))
                });
                let help = match named {
                    true => "take the entry, or its feature, out of the profile; or the assertion",
                    false => {
                        "a rule by address cannot tell the two apart: drop the allowed host, or send it through Squid"
                    }
                };
                let why = format!("`{}` allows {place} to {}", rule.key, packet.client);
                Ruling::Bad(why, Some(rule), help.to_owned())
            }
            (Verdict::NotOurs, Wanted::Deny) => {
                let help = "what these clients must not reach wants an entry of its own that `strict` blocks";
                Ruling::Bad(
                    format!("nothing limits {}, and no rule denies {place}", packet.client),
                    None,
                    help.to_owned(),
                )
            }
            (Verdict::Deny(rule), Wanted::Allow) => {
                let why = format!("`{}` denies {place} to {}", rule.key, packet.client);
                let help = "a denial beats every allow: except the entry from `strict`, or decide under `shared`";
                Ruling::Bad(why, Some(rule), help.to_owned())
            }
            (Verdict::DefaultDeny, Wanted::Allow) => {
                let near = self.nearest(packet, at);
                let why = format!("no rule allows {place} to {}, and what no rule allows is denied", packet.client);
                match near {
                    Some((rule, but)) => {
                        let help = "widen that entry, or add one under `extra`; or the assertion is wrong";
                        Ruling::Bad(format!("{why}; `{}` {but}", rule.key), Some(rule), help.to_owned())
                    }
                    None => {
                        let help = "name the feature that needs it under `features`, or the host under `extra`";
                        Ruling::Bad(why, None, help.to_owned())
                    }
                }
            }
        }
    }

    /// The allow that comes nearest to a packet that none lets out, and what it lacks.
    fn nearest(&self, packet: Packet<'_>, at: Option<&AddrSet>) -> Option<(&Rule, String)> {
        let exact = packet.host.map(|host| NamePattern::Exact(host.clone()));
        let allows = self.rules().filter(|(rule, _)| rule.action == Action::Allow);
        let near = allows.filter_map(|(rule, row)| {
            let destination = rule.destinations.iter().find(|d| {
                let named = exact.as_ref().is_some_and(|exact| {
                    d.names().iter().any(|name| name.covers(exact)) || d.endpoint.to_string() == exact.to_string()
                });
                named || at.is_some_and(|addrs| addrs.meets(&d.all()))
            })?;
            let ports = rule.ports.iter().any(|p| p.contains(packet.protocol, packet.port));
            let (rank, but) = if !row.clients.contains(packet.client) {
                (2, format!("allows it to {} alone", self.wall.ruleset.group_name(rule.origins)))
            } else if !ports {
                let ports: Vec<String> = rule.ports.iter().map(ToString::to_string).collect();
                (1, format!("allows it on {}", ports.join(", ")))
            } else {
                let why = match destination.gap.as_deref() {
                    Some(gap) => format!("names it, {}", lacking(gap)),
                    None => "has other addresses of it".to_owned(),
                };
                (0, why)
            };
            Some((rank, rule, but))
        });
        near.min_by_key(|(rank, rule, _)| (*rank, rule.key.clone())).map(|(_, rule, but)| (rule, but))
    }
}

/// What comes of it that clients must not reach what they have no address of the family for.
fn unlimited(family: &str) -> Ruling<'static> {
    Ruling::Bad(
        format!("these clients have no {family} address here, so nothing limits their {family}"),
        None,
        format!("name their {family} addresses under `clients`"),
    )
}

/// Why a rule that names a host lets nothing out for it.
fn lacking(gap: &Gap) -> String {
    match gap {
        Gap::Wildcard => "by a wildcard, which no list of addresses holds".to_owned(),
        Gap::NotInLock => "and the lock does not know it".to_owned(),
        Gap::NoAddress(why) | Gap::Unanswered(why) => format!("and the lock has no address of it ({why})"),
        Gap::Denied(by) => format!("and `{by}` denies it"),
        Gap::Proxied(why) => format!("and sends it to the proxy: {why}"),
        Gap::Dropped(why) => format!("and lets it out nowhere: {why}"),
    }
}

fn of_rule(rule: &Rule) -> Verdict<'_> {
    match rule.action {
        Action::Allow => Verdict::Allow(rule),
        Action::Deny => Verdict::Deny(rule),
    }
}

/// Whole families, for questions about what no rule names.
fn everything() -> AddrSet {
    ["0.0.0.0/0", "::/0"].iter().filter_map(|net| net.parse::<IpNet>().ok()).collect()
}

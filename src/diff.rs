//! Two rule sets compared by meaning: [`Ruleset`] × [`Ruleset`] → [`Diff`].
//!
//! What one client can reach on one port is a set of addresses, whatever rules it is written in. The difference of two
//! such sets is exact. Each part of it is tied to the rule and endpoint it comes from, and to a cause: somebody changed
//! what is wanted, or DNS answers moved.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::addrs::AddrSet;
use crate::callout::{Callout, Endpoint, Origin, Origins};
use crate::host::NamePattern;
use crate::port::{self, Port, Protocol};
use crate::ruleset::{Action, Destination, Rule, Ruleset};
use crate::text::{Id, Short};

pub mod risk;

/// Every difference between two rule sets, sorted.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    /// What can be reached that could not, and the other way round.
    pub changes: Vec<Change>,
    /// Clients that rules limit and did not, and the other way round.
    pub clients: Vec<ClientChange>,
}

impl Diff {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.clients.is_empty()
    }
}

/// A part of a difference that has one rule, endpoint and cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which way.
    pub turn: Turn,
    /// Why.
    pub cause: Cause,
    /// Who sends.
    pub origins: Origins,
    /// The clients.
    pub clients: AddrSet,
    /// On which ports.
    pub ports: Vec<Port>,
    /// What.
    pub what: What,
    /// Whether the rule that came, went or moved is a denial.
    pub denial: bool,
    /// The rule's key.
    pub rule: Id,
    /// Why that rule is, or was, there.
    pub reason: Short,
    /// Its callout.
    pub callout: Arc<Callout>,
    /// Its endpoint.
    pub endpoint: Endpoint,
}

/// Which way a change goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Turn {
    /// It can be reached now, and could not.
    Opened,
    /// It could be reached, and cannot now.
    Closed,
}

impl Turn {
    /// The word for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Closed => "closed",
        }
    }

    fn back(self) -> Self {
        match self {
            Self::Opened => Self::Closed,
            Self::Closed => Self::Opened,
        }
    }
}

/// Why something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The catalog or the profile wants something else: a rule, an endpoint, a port, a client.
    Intent,
    /// The same is wanted, and the answers for it moved.
    Churn,
}

impl Cause {
    /// The word for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Churn => "churn",
        }
    }
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Addresses, for targets that go by address. Of clients that nothing limits: what is no longer denied, or is now.
    Addresses(AddrSet),
    /// Names, for targets that go by name.
    Names(Vec<NamePattern>),
}

/// A change in who is limited at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientChange {
    /// The clients.
    pub clients: AddrSet,
    /// Whether what is not allowed to them was denied, and is now. `None`: no rule is, or was, about them.
    pub limited: (Option<bool>, Option<bool>),
}

/// Compares: what `new` lets out and `old` does not, and the other way round.
#[must_use]
pub fn diff(old: &Ruleset, new: &Ruleset) -> Diff {
    let (old, new) = (Side::new(old), Side::new(new));
    let mut diff = Diff::default();
    let mut found: Found = Found::new();
    let spans = port_spans(&old, &new);
    for (index, clients) in classes(&old, &new).into_iter().enumerate() {
        let status = (old.status(&clients), new.status(&clients));
        if status.0 != status.1 {
            diff.clients.push(ClientChange { clients: clients.clone(), limited: status });
        }
        let limited = (status.0 == Some(true), status.1 == Some(true));
        let (was, is) = (old.of(&clients), new.of(&clients));
        // Ports that the same rules are about differ in the same way.
        let mut alike: BTreeMap<(Vec<usize>, Vec<usize>), Vec<Port>> = BTreeMap::new();
        for ((was, is), &span) in on(&old, &was, &spans).into_iter().zip(on(&new, &is, &spans)).zip(&spans) {
            alike.entry((was, is)).or_default().push(span);
        }
        for ((was, is), ports) in alike {
            let (mut was, mut is) = (At::new(&old, &was, limited.0), At::new(&new, &is, limited.1));
            (was.unlike, is.unlike) = was.unlike(&is);
            let compared = Compared { clients: &clients, ports: &ports, was, is };
            let (was, is) = (&compared.was, &compared.is);
            for (turn, here, there) in [(Turn::Opened, is, was), (Turn::Closed, was, is)] {
                compared.addresses(turn, here, there, index, &mut found);
                compared.names(turn, here, there, &mut diff.changes);
            }
        }
    }
    for (part, spaces) in found.into_values() {
        // Ports with the same addresses are one change.
        let mut merged: Vec<(Vec<Port>, AddrSet)> = Vec::new();
        for (ports, addrs) in spaces {
            match merged.iter_mut().find(|(_, other)| *other == addrs) {
                Some((others, _)) => others.extend(ports),
                None => merged.push((ports, addrs)),
            }
        }
        let parts = std::iter::repeat_n(part, merged.len());
        for ((ports, addrs), part) in merged.into_iter().zip(parts) {
            diff.changes.push(part.change(port::merge(&ports), What::Addresses(addrs)));
        }
    }
    diff.changes = join_names(std::mem::take(&mut diff.changes));
    diff.changes.sort_by(in_order);
    diff
}

/// What tells one part of a difference from another: class of clients, rule, endpoint, whether it denies, turn, cause.
type Key = (usize, Id, Endpoint, bool, Turn, Cause);

/// The parts of a difference in addresses, each with its ports and what differs there.
type Found = BTreeMap<Key, (Part, Vec<(Vec<Port>, AddrSet)>)>;

/// One rule set, with what every comparison needs of it.
struct Side<'a> {
    ruleset: &'a Ruleset,
    /// The clients of each set of origins that rules are about.
    clients: Vec<AddrSet>,
    /// By rule, which of these.
    about: Vec<usize>,
    limited: AddrSet,
    known: AddrSet,
}

impl<'a> Side<'a> {
    fn new(ruleset: &'a Ruleset) -> Self {
        let mut clients = Vec::new();
        let mut kinds: BTreeMap<Origins, usize> = BTreeMap::new();
        let about = ruleset.rules.iter().map(|rule| {
            *kinds.entry(ruleset.bound(rule)).or_insert_with_key(|&origins| {
                clients.push(ruleset.clients_of(origins));
                clients.len() - 1
            })
        });
        let about = about.collect();
        let limited = ruleset.limited();
        let known = clients.iter().chain([&limited]).collect();
        Self { ruleset, clients, about, limited, known }
    }

    /// Whether a class of clients is denied by default; `None` when no rule is about them.
    fn status(&self, class: &AddrSet) -> Option<bool> {
        let limited = class.meets(&self.limited);
        (limited || class.meets(&self.known)).then_some(limited)
    }

    /// The rules about a class of clients.
    fn of(&self, class: &AddrSet) -> Vec<usize> {
        let meets: Vec<bool> = self.clients.iter().map(|clients| clients.meets(class)).collect();
        (0..self.about.len()).filter(|&rule| meets[self.about[rule]]).collect()
    }
}

/// For each span of ports, the rules among these that are about it. Rule by rule: each is far from the next in memory.
fn on(side: &Side<'_>, rules: &[usize], spans: &[Port]) -> Vec<Vec<usize>> {
    let mut on = vec![Vec::new(); spans.len()];
    for &number in rules {
        let ports = &side.ruleset.rules[number].ports;
        for (span, rules) in spans.iter().zip(&mut on) {
            if ports.iter().any(|port| port.contains(span.protocol, span.first())) {
                rules.push(number);
            }
        }
    }
    on
}

/// The coarsest classes of clients of which every rule of both sides is about all or none.
fn classes(old: &Side<'_>, new: &Side<'_>) -> Vec<AddrSet> {
    let mut sets: Vec<&AddrSet> = Vec::new();
    for set in old.clients.iter().chain(&new.clients).chain([&old.limited, &new.limited]) {
        if !set.is_empty() && !sets.contains(&set) {
            sets.push(set);
        }
    }
    let mut classes = vec![sets.iter().copied().collect::<AddrSet>()];
    for set in sets {
        classes =
            classes.iter().flat_map(|class| [class.and(set), class.minus(set)]).filter(|c| !c.is_empty()).collect();
    }
    classes.retain(|class| !class.is_empty());
    classes
}

/// The coarsest spans of ports of which every rule of both sides is about all or none.
fn port_spans(old: &Side<'_>, new: &Side<'_>) -> Vec<Port> {
    // One by one: to collect them is to sort those of all rules, and nearly all have the same.
    let mut all: BTreeSet<Port> = BTreeSet::new();
    for rule in old.ruleset.rules.iter().chain(&new.ruleset.rules) {
        all.extend(&*rule.ports);
    }
    let mut spans = Vec::new();
    for protocol in Protocol::ALL {
        let ports = || all.iter().filter(|port| port.protocol == protocol);
        // Where a span begins; one past the last port ends the last.
        let mut edges: BTreeSet<u32> = BTreeSet::new();
        for port in ports() {
            edges.extend([u32::from(port.first()), u32::from(port.last()) + 1]);
        }
        let edges: Vec<u32> = edges.into_iter().collect();
        for pair in edges.windows(2) {
            let span = Port::range(protocol, pair[0], pair[1] - 1);
            spans.extend(span.filter(|span| ports().any(|port| port.contains(protocol, span.first()))));
        }
    }
    spans
}

/// One side, for one class of clients on some ports.
struct At<'a> {
    side: &'a Side<'a>,
    /// Rules by number, in order.
    allows: Vec<usize>,
    /// As above.
    denies: Vec<usize>,
    /// Whether these clients are denied by default.
    limited: bool,
    /// What the denials hold.
    denied: AddrSet,
    /// Rules that are not on the other side as they are here. Mostly they are few, and no others need be looked at again.
    unlike: Vec<usize>,
    /// Where the rule stands that follows the one that was looked for last.
    next: Cell<usize>,
}

impl<'a> At<'a> {
    fn new(side: &'a Side<'a>, rules: &[usize], limited: bool) -> Self {
        let (denies, allows): (Vec<usize>, Vec<usize>) =
            rules.iter().partition(|&&i| side.ruleset.rules[i].action == Action::Deny);
        let denied = denies.iter().flat_map(|&i| &side.ruleset.rules[i].destinations);
        let denied = denied.flat_map(|d| [&d.addrs, d.listed()]).collect();
        Self { side, allows, denies, limited, denied, unlike: Vec::new(), next: Cell::new(0) }
    }

    /// What of these addresses the allows hold. Few are asked for, those that moved: one set of all that a side allows takes
    /// as long as the rest of the comparison.
    fn allowed(&self, of: &AddrSet) -> AddrSet {
        if of.is_empty() {
            return AddrSet::new();
        }
        let sets = self.rules(false).flat_map(|rule| &rule.destinations).flat_map(|d| [&d.addrs, d.listed()]);
        let held: Vec<AddrSet> = sets.map(|set| set.and(of)).filter(|held| !held.is_empty()).collect();
        held.iter().collect()
    }

    /// What of these addresses can be reached. Of clients that nothing limits all but what is denied; as all of it cannot be
    /// listed, that is told by `denied` alone.
    fn reached(&self, of: &AddrSet) -> AddrSet {
        self.allowed(of).minus(&self.denied)
    }

    fn rules(&self, denial: bool) -> impl Iterator<Item = &'a Rule> + '_ {
        let rules = if denial { &self.denies } else { &self.allows };
        rules.iter().map(|&i| &self.side.ruleset.rules[i])
    }

    /// The rules of this side and those of the other that the respective other does not have, or has otherwise.
    fn unlike(&self, other: &At<'_>) -> (Vec<usize>, Vec<usize>) {
        let mut unlike = Vec::new();
        let mut alike = vec![false; other.side.ruleset.rules.len()];
        for &number in self.denies.iter().chain(&self.allows) {
            let rule = &self.side.ruleset.rules[number];
            match other.number_of(rule) {
                Some(same) if leads_alike(rule, &other.side.ruleset.rules[same]) => alike[same] = true,
                _ => unlike.push(number),
            }
        }
        let others = other.denies.iter().chain(&other.allows).copied();
        (unlike, others.filter(|&number| !alike[number]).collect())
    }

    fn unlike_rules(&self, denial: bool) -> impl Iterator<Item = &'a Rule> + '_ {
        let rules = self.unlike.iter().map(|&number| &self.side.ruleset.rules[number]);
        rules.filter(move |rule| (rule.action == Action::Deny) == denial)
    }

    /// The same rule, as it is here.
    fn same(&self, rule: &Rule) -> Option<&'a Rule> {
        self.number_of(rule).map(|number| &self.side.ruleset.rules[number])
    }

    fn number_of(&self, rule: &Rule) -> Option<usize> {
        let rules = if rule.action == Action::Deny { &self.denies } else { &self.allows };
        let numbered = |number: usize| &self.side.ruleset.rules[number];
        // They are in order, and mostly looked for in order: then it is the one behind the last.
        let next = self.next.get();
        let at = match rules.get(next) {
            Some(&number) if numbered(number).key == rule.key => next,
            _ => rules.binary_search_by(|&number| numbered(number).key.cmp(&rule.key)).ok()?,
        };
        self.next.set(at + 1);
        rules.get(at).copied()
    }

    /// What the endpoints of the allows or of the denials have and the same endpoints have not on the other side, and all of
    /// it as one set. Whatever differs is in there, and it is little where most is the same.
    fn moved(&self, other: &At<'_>, denial: bool) -> (Vec<Moved<'a>>, AddrSet) {
        let mut all_moved = Vec::new();
        for rule in self.unlike_rules(denial) {
            let there = other.same(rule);
            for destination in &rule.destinations {
                let mut addrs = destination.all();
                if let Some(same) = same(there, destination).map(Destination::all) {
                    // Mostly they are equal.
                    addrs = Cow::Owned(if addrs == same { AddrSet::new() } else { addrs.minus(&same) });
                }
                if !addrs.is_empty() {
                    all_moved.push(Moved { rule, destination, addrs: addrs.into_owned() });
                }
            }
        }
        let addrs = all_moved.iter().map(|moved| &moved.addrs).collect();
        (all_moved, addrs)
    }

    /// Whether the same endpoint of the same rule is wanted here.
    fn wants(&self, rule: &Rule, destination: &Destination) -> bool {
        let decided = |d: &Destination| d.gap.as_deref().is_some_and(crate::ruleset::Gap::is_decided);
        same(self.same(rule), destination).is_some_and(|d| {
            d.lists() == destination.lists()
                && decided(d) == decided(destination)
                && d.accepted.is_some() == destination.accepted.is_some()
        })
    }

    fn names(&self, denial: bool) -> impl Iterator<Item = &'a NamePattern> + '_ {
        self.rules(denial).flat_map(|rule| &rule.destinations).flat_map(Destination::names)
    }
}

/// Addresses that an endpoint has on one side alone.
struct Moved<'a> {
    rule: &'a Rule,
    destination: &'a Destination,
    addrs: AddrSet,
}

/// One class of clients on ports that the same rules are about.
struct Compared<'a> {
    clients: &'a AddrSet,
    ports: &'a [Port],
    was: At<'a>,
    is: At<'a>,
}

impl Compared<'_> {
    /// The addresses that can be reached `here` and cannot `there`.
    fn addresses(&self, turn: Turn, here: &At<'_>, there: &At<'_>, class: usize, found: &mut Found) {
        let mut take = |at: &At<'_>, other: &At<'_>, moved: Vec<Moved<'_>>, denial: bool, space: &AddrSet| {
            for Moved { rule, destination, addrs } in moved {
                let addrs = addrs.and(space);
                if addrs.is_empty() {
                    continue;
                }
                let part = Part::new(turn, at, other, rule, destination, self.clients);
                let key = (class, rule.key.clone(), destination.endpoint.clone(), denial, turn, part.cause);
                found.entry(key).or_insert_with(|| (part, Vec::new())).1.push((self.ports.to_vec(), addrs));
            }
        };
        if here.limited {
            // An allow came or moved.
            let (moved, addrs) = here.moved(there, false);
            let open = addrs.minus(&here.denied);
            take(here, there, moved, false, &open.minus(&there.allowed(&open)));
        }
        if here.limited || !there.limited {
            // Or it was there, and a denial went.
            let (moved, addrs) = there.moved(here, true);
            let freed = if here.limited {
                let open = here.reached(&addrs);
                let before = if there.limited { there.reached(&open) } else { AddrSet::new() };
                there.allowed(&open.minus(&before))
            } else {
                addrs.minus(&here.denied)
            };
            take(there, here, moved, true, &freed);
        }
    }

    /// The names that can be reached `here` and cannot `there`: allowed ones that came, and denied ones that went.
    fn names(&self, turn: Turn, here: &At<'_>, there: &At<'_>, changes: &mut Vec<Change>) {
        // A denial that went opens what is allowed under it, and to clients that nothing limits all of it.
        let reached = |name: &NamePattern| {
            !here.limited && !there.limited || here.names(false).any(|open| open.covers(name) || name.covers(open))
        };
        for (at, other, denial) in [(here, there, false), (there, here, true)] {
            let unlike = at.unlike_rules(denial).flat_map(|rule| {
                let there = other.same(rule);
                // Mostly an endpoint has the names that it has there.
                let differs = move |d: &&Destination| same(there, d).is_none_or(|same| same.names() != d.names());
                rule.destinations.iter().filter(differs).map(move |destination| (rule, destination))
            });
            let unlike: Vec<(&Rule, &Destination)> = unlike.collect();
            // Of all that the other side has, only what covers one of these is kept.
            let names = unlike.iter().flat_map(|(_, destination)| destination.names());
            let wider: BTreeSet<NamePattern> = names.flat_map(|name| name.covering().chain([name.clone()])).collect();
            let known: BTreeSet<&NamePattern> = if wider.is_empty() {
                BTreeSet::new()
            } else {
                other.names(denial).filter(|name| wider.contains(name)).collect()
            };
            let covered =
                |name: &NamePattern| known.contains(name) || name.covering().any(|wider| known.contains(&wider));
            for (rule, destination) in unlike {
                let gone = destination.names().iter().filter(|name| !covered(name) && (!denial || reached(name)));
                let names: Vec<NamePattern> = gone.cloned().collect();
                if !names.is_empty() {
                    let part = Part::new(turn, at, other, rule, destination, self.clients);
                    changes.push(part.change(port::merge(self.ports), What::Names(names)));
                }
            }
        }
    }
}

/// Whether two rules lead to the same places.
fn leads_alike(one: &Rule, other: &Rule) -> bool {
    let alike = |(one, other): (&Destination, &Destination)| {
        one.endpoint == other.endpoint
            && one.names() == other.names()
            && one.addrs == other.addrs
            && one.widened == other.widened
    };
    let (one, other) = (&one.destinations, &other.destinations);
    one.len() == other.len() && one.iter().zip(other).all(alike)
}

/// The same endpoint of the same rule.
fn same<'a>(there: Option<&'a Rule>, destination: &Destination) -> Option<&'a Destination> {
    let there = &there?.destinations;
    there.binary_search_by(|other| other.endpoint.cmp(&destination.endpoint)).ok().map(|at| &there[at])
}

/// A change but for ports and space.
#[derive(Clone)]
struct Part {
    turn: Turn,
    cause: Cause,
    origins: Origins,
    clients: AddrSet,
    denial: bool,
    rule: Id,
    reason: Short,
    callout: Arc<Callout>,
    endpoint: Endpoint,
}

impl Part {
    /// `at` is the side that has the rule, and `other` the one that has it not, or otherwise.
    fn new(turn: Turn, at: &At<'_>, other: &At<'_>, rule: &Rule, destination: &Destination, clients: &AddrSet) -> Self {
        let groups = &at.side.ruleset.clients;
        let meets = |origin: &Origin| groups.get(origin).is_some_and(|group| group.addrs.meets(clients));
        Self {
            turn,
            cause: if other.wants(rule, destination) { Cause::Churn } else { Cause::Intent },
            origins: rule.origins.iter().filter(meets).collect(),
            clients: clients.clone(),
            denial: rule.action == Action::Deny,
            rule: rule.key.clone(),
            reason: rule.reason.clone(),
            callout: Arc::clone(&rule.callout),
            endpoint: destination.endpoint.clone(),
        }
    }

    fn change(self, ports: Vec<Port>, what: What) -> Change {
        let Self { turn, cause, origins, clients, denial, rule, reason, callout, endpoint } = self;
        Change { turn, cause, origins, clients, ports, what, denial, rule, reason, callout, endpoint }
    }
}

/// The same names on several ports are one change.
fn join_names(changes: Vec<Change>) -> Vec<Change> {
    let mut joined: Vec<Change> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for change in changes {
        let What::Names(names) = &change.what else {
            joined.push(change);
            continue;
        };
        let key = format!(
            "{:?}{:?}{:?}{}{:?}{names:?}{:?}",
            change.turn, change.cause, change.rule, change.denial, change.endpoint, change.clients
        );
        match places.get(&key).and_then(|&at| joined.get_mut(at)) {
            Some(other) => {
                other.ports.extend(change.ports);
                other.ports = port::merge(&other.ports);
            }
            None => {
                places.insert(key, joined.len());
                joined.push(change);
            }
        }
    }
    joined
}

/// By what a change is of, and its clients last: their text takes long, and is hardly ever needed.
fn in_order(a: &Change, b: &Change) -> Ordering {
    let is_names = |change: &Change| matches!(change.what, What::Names(_));
    let clients = |change: &Change| format!("{:?}", change.clients);
    let first = (a.cause, &a.rule, &a.endpoint, a.turn, is_names(a), &a.ports, a.denial);
    let second = (b.cause, &b.rule, &b.endpoint, b.turn, is_names(b), &b.ports, b.denial);
    first.cmp(&second).then_with(|| clients(a).cmp(&clients(b)))
}

impl Change {
    /// The same change seen from the other side.
    #[must_use]
    pub fn mirrored(&self) -> Self {
        Self { turn: self.turn.back(), ..self.clone() }
    }
}

//! What name servers are told: which names no longer resolve, and which are pinned to the answers of the lock. One piece
//! for every target of that sort.
//!
//! A name server answers everybody who asks it, whatever the port. So a name that is denied to some and allowed to
//! others stays, and is reported. A name that is blocked takes those below it along, but for what a rule allows there.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::loss::{self, Loss};
use super::{By, Line, Mark, Stop};
use crate::addrs::AddrSet;
use crate::callout::Endpoint;
use crate::host::{Host, NamePattern};
use crate::ruleset::{Action, Destination, Gap, Rule, Ruleset};
use crate::settings::Pins;
use crate::text::{Short, short};

/// How long an answer that is pinned or refused may be kept, in seconds.
pub(super) const TTL: u32 = 300;

/// What a name server is told.
pub(super) struct Names {
    /// Every name that rules name, and what holds for it, parents before what is below them.
    pub(super) nodes: Vec<Node>,
    /// Rules that block, for a comment.
    pub(super) blocking: Vec<Reason>,
    /// What cannot be told.
    pub(super) losses: Vec<Loss>,
}

/// Why a name is blocked.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Reason {
    id: String,
    title: String,
    reason: String,
    source: String,
}

/// One name.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) host: Host,
    /// Itself.
    pub(super) own: State,
    /// Every name below it that is no node and below no other node.
    pub(super) below: State,
    /// Whether a rule allows it, or the answers for a name that one allows lead through it.
    pub(super) wanted: bool,
    /// Whether its aliases lead through a name that is blocked.
    pub(super) through_blocked: bool,
    /// Its addresses.
    pub(super) pin: Option<Pin>,
    /// The rules that deny it, or what is below it.
    pub(super) denied_by: String,
    /// The rules that allow it, or whose alias it is.
    pub(super) allowed_by: String,
}

/// What becomes of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It resolves.
    Open,
    /// No rule speaks of it, and a name above it is blocked.
    Swept,
    /// A rule denies it.
    Denied,
}

/// The addresses of a name; at least one.
#[derive(Clone, Debug, Default)]
pub(super) struct Pin {
    pub(super) v4: Vec<String>,
    pub(super) v6: Vec<String>,
}

/// What a target writes of a node.
pub(super) struct Written<'a> {
    pub(super) node: &'a Node,
    pub(super) blocks: Blocks,
    /// Whether the names above it are blocked with all below them.
    pub(super) above: bool,
}

/// What a target makes of a node: whether the name itself is blocked, and whether the names below it are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    pub(super) own: bool,
    pub(super) below: bool,
}

impl State {
    pub(super) fn blocks(self) -> bool {
        self != Self::Open
    }
}

impl Node {
    /// What is meant.
    pub(super) fn blocks(&self) -> Blocks {
        Blocks { own: self.own.blocks(), below: self.below.blocks() }
    }
}

/// A rule's names, and whose they are.
struct Word<'a> {
    rule: &'a Rule,
    clients: AddrSet,
    names: Vec<NamePattern>,
}

impl Word<'_> {
    fn covers(&self, pattern: &NamePattern) -> bool {
        self.names.iter().any(|name| name.covers(pattern))
    }
}

fn words(ruleset: &Ruleset, action: Action) -> Vec<Word<'_>> {
    let rules = ruleset.rules.iter().filter(|rule| rule.action == action);
    let names = |rule: &Rule| rule.destinations.iter().flat_map(|d| d.names().iter().cloned()).collect();
    rules.map(|rule| Word { rule, clients: ruleset.clients_of(rule.origins), names: names(rule) }).collect()
}

/// Rules that deny a name and rules that allow it to others, for a loss: both leave it as it is.
type Disputed<'a> = BTreeMap<(&'a str, NamePattern), BTreeSet<&'a str>>;

struct Judge<'a> {
    denials: Vec<Word<'a>>,
    allows: Vec<Word<'a>>,
}

impl<'a> Judge<'a> {
    /// What rules say of one name, or of all below one. Nothing: no rule speaks of it.
    fn said(&self, pattern: &NamePattern, disputed: &mut Disputed<'a>) -> Option<State> {
        let denials: Vec<&Word<'a>> = self.denials.iter().filter(|word| word.covers(pattern)).collect();
        let allows = self.allows.iter().filter(|word| word.covers(pattern));
        if denials.is_empty() {
            return allows.into_iter().next().map(|_| State::Open);
        }
        let denied: AddrSet = denials.iter().map(|word| &word.clients).collect();
        // A denial beats an allow for whoever has both.
        let others: BTreeSet<&'a str> =
            allows.filter(|word| !word.clients.minus(&denied).is_empty()).map(|word| word.rule.key.as_str()).collect();
        if others.is_empty() {
            return Some(State::Denied);
        }
        for word in denials {
            disputed.entry((word.rule.key.as_str(), pattern.clone())).or_default().extend(&others);
        }
        Some(State::Open)
    }
}

impl Names {
    /// What name servers are told of a rule set.
    pub(super) fn of(ruleset: &Ruleset, pins: Pins) -> Self {
        let judge = Judge { denials: words(ruleset, Action::Deny), allows: words(ruleset, Action::Allow) };
        let mut disputed = Disputed::new();
        let mut hosts: BTreeSet<&Host> =
            (judge.denials.iter().chain(&judge.allows)).flat_map(|word| &word.names).map(NamePattern::host).collect();
        // The names a wanted one leads through must resolve as well: some name servers look at each of them.
        let wanted: BTreeSet<&Host> =
            judge.allows.iter().flat_map(|word| &word.names).filter_map(NamePattern::exact).collect();
        let aliases = |host: &Host| ruleset.answers.get(host).map_or(&[][..], |known| &known.aliases);
        let mut behind: BTreeMap<&Host, BTreeSet<&Host>> = BTreeMap::new();
        for &host in &wanted {
            for alias in aliases(host) {
                behind.entry(alias).or_default().insert(host);
            }
        }
        hosts.extend(behind.keys());

        let own: BTreeMap<&Host, Option<State>> =
            hosts.iter().map(|&host| (host, judge.said(&NamePattern::Exact(host.clone()), &mut disputed))).collect();
        // A name that is blocked takes those below it along.
        let sweeps = |host: &Host| {
            let exact = |word: &Word<'_>| word.names.contains(&NamePattern::Exact(host.clone()));
            own.get(host) == Some(&Some(State::Denied)) && judge.denials.iter().any(exact)
        };
        let parents = |host: &Host| -> Vec<Host> {
            NamePattern::Exact(host.clone()).covering().map(|pattern| pattern.host().clone()).collect()
        };
        let mut nodes = Vec::new();
        let mut losses = Vec::new();
        for (&host, said) in &own {
            let swept = parents(host).iter().any(&sweeps);
            let below = judge.said(&NamePattern::Below(host.clone()), &mut disputed);
            let rest = |swept: bool| if swept { State::Swept } else { State::Open };
            let passed = behind.get(host);
            let own = said.unwrap_or(rest(swept && passed.is_none()));
            let pattern = NamePattern::Exact(host.clone());
            let keys = |words: &[Word<'_>]| -> BTreeSet<String> {
                let speaks =
                    |word: &&Word<'_>| word.covers(&pattern) || word.names.contains(&NamePattern::Below(host.clone()));
                words.iter().filter(speaks).map(|word| word.rule.key.to_string()).collect()
            };
            let mut allowed_by = keys(&judge.allows);
            let wanted = judge.allows.iter().any(|word| word.covers(&pattern)) || passed.is_some();
            allowed_by.extend(passed.into_iter().flatten().map(|host| format!("alias of {host}")));
            nodes.push(Node {
                host: host.clone(),
                own,
                below: below.unwrap_or(rest(swept || sweeps(host))),
                wanted,
                through_blocked: false,
                pin: None,
                denied_by: joined(keys(&judge.denials)),
                allowed_by: joined(allowed_by),
            });
        }
        let denied: BTreeMap<Host, String> = nodes
            .iter()
            .filter(|node| node.own == State::Denied)
            .map(|node| (node.host.clone(), node.denied_by.clone()))
            .collect();
        for node in nodes.iter_mut().filter(|node| node.own == State::Open && wanted.contains(&node.host)) {
            for alias in aliases(&node.host).iter().filter(|alias| denied.contains_key(alias)) {
                let by = denied.get(alias).map_or("", String::as_str);
                let text = format!(
                    "{}: {} is an alias of {alias}, which {by} blocks: it resolves, and to what is there",
                    node.allowed_by, node.host
                );
                node.through_blocked = true;
                losses.push(
                    Loss::general(&loss::ALIAS_OF_BLOCKED, text)
                        .endpoint(&Endpoint::Name(NamePattern::Exact(node.host.clone()))),
                );
            }
        }
        losses.extend(disputed_losses(ruleset, &disputed));
        losses.extend(unblocked(&judge.denials));
        losses.extend(pin(ruleset, pins, &mut nodes));
        nodes.sort_by(|a, b| (depth(&a.host), &a.host).cmp(&(depth(&b.host), &b.host)));
        let blocking = judge.denials.iter().filter(|word| !word.names.is_empty()).map(|word| Reason {
            id: word.rule.key.to_string(),
            title: word.rule.callout.title.to_string(),
            reason: word.rule.reason.to_string(),
            source: word.rule.callout.first_source(),
        });
        Self { nodes, blocking: blocking.collect(), losses }
    }

    /// Goes through the names from the top, with what `fit` makes of each: what it is given is whether the names above
    /// are blocked. Returns what has to be written, by name: what differs from what is above it, and what is pinned.
    pub(super) fn written(&self, mut fit: impl FnMut(&Node, bool) -> Blocks) -> BTreeMap<&Host, Written<'_>> {
        let mut below: BTreeMap<&Host, bool> = BTreeMap::new();
        let mut written = BTreeMap::new();
        for node in &self.nodes {
            let pattern = NamePattern::Exact(node.host.clone());
            let above = pattern.covering().find_map(|parent| below.get(parent.host()).copied()).unwrap_or(false);
            let blocks = fit(node, above);
            below.insert(&node.host, blocks.below);
            if blocks != (Blocks { own: above, below: above }) || node.pin.is_some() || node.through_blocked {
                written.insert(&node.host, Written { node, blocks, above });
            }
        }
        written
    }
}

/// What keeps the names of a denial from resolving: for each, one of the lines that a target writes of it or of a name
/// above it. A name that is allowed to others resolves, as a loss says.
pub(super) fn stops(ruleset: &Ruleset, rule: &Rule, file: &str, lines: fn(&Host, bool) -> Vec<String>) -> Stop {
    let names = rule.names();
    let hosts: Vec<&Host> = names.iter().filter_map(NamePattern::exact).collect();
    let told = Names::of(ruleset, Pins::None);
    let open = |host: &&&Host| told.nodes.iter().any(|node| node.host == ***host && !node.own.blocks());
    if let Some(host) = hosts.iter().find(open) {
        return Stop::NotHere(format!("{host} is allowed to others who ask this name server"));
    }
    if hosts.is_empty() {
        return Stop::NotHere("it names no host that could be looked up".to_owned());
    }
    let marks = hosts.into_iter().map(|host| {
        let exact = NamePattern::Exact(host.clone());
        let above = exact.covering().flat_map(|wider| lines(wider.host(), false)).collect::<Vec<_>>();
        let line = Line::IsOneOf(lines(host, true).into_iter().chain(above).collect());
        Mark { by: By::Dns, file: file.to_owned(), line }
    });
    Stop::Rule(marks.collect())
}

/// Whether a name resolves at a name server that is told of these rules: as they say of it, or of the nearest name above.
#[expect(clippy::unnecessary_wraps, reason = "the shape of what every target is asked")]
pub(super) fn resolves(ruleset: &Ruleset, host: &Host) -> Option<bool> {
    let told = Names::of(ruleset, Pins::None);
    let node = |host: &Host| told.nodes.iter().find(|node| node.host == *host);
    let exact = NamePattern::Exact(host.clone());
    let above = || exact.covering().find_map(|wider| node(wider.host())).map(|node| node.below);
    Some(node(host).map(|node| node.own).or_else(above).is_none_or(|state| !state.blocks()))
}

fn depth(host: &Host) -> usize {
    host.as_str().matches('.').count()
}

fn joined(words: BTreeSet<String>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}

/// Names that are denied to some clients and allowed to others.
fn disputed_losses(ruleset: &Ruleset, disputed: &Disputed<'_>) -> Vec<Loss> {
    let who = |key: &str| {
        let rule = ruleset.rules.iter().find(|rule| rule.key.as_str() == key);
        rule.map(|rule| ruleset.group_name(rule.origins)).unwrap_or_default()
    };
    // What a wildcard says of all its names is not said again of each.
    let within = |denial: &str, name: &NamePattern, allows: &BTreeSet<&str>| {
        name.covering().any(|wider| disputed.get(&(denial, wider)).is_some_and(|by| by.is_superset(allows)))
    };
    let own = disputed.iter().filter(|((denial, name), allows)| !within(denial, name, allows));
    let loss = own.filter_map(|((denial, name), allows)| {
        let rule = ruleset.rules.iter().find(|rule| rule.key.as_str() == *denial)?;
        let by: Vec<String> = allows.iter().map(|key| format!("{} ({key})", who(key))).collect();
        let text = format!(
            "{denial}: {name} is denied to {} and allowed to {}: it resolves for all who ask",
            who(denial),
            by.join(", ")
        );
        Some(Loss { endpoints: vec![short(name)], ..Loss::of(rule, &loss::NAME_BLOCKED_FOR_SOME, text) })
    });
    loss.collect()
}

/// Denials that no name stands for.
fn unblocked(denials: &[Word<'_>]) -> Vec<Loss> {
    let mut losses = Vec::new();
    for word in denials {
        let rule = word.rule;
        for destination in rule.destinations.iter().filter(|d| d.names().is_empty()) {
            let key = &rule.key;
            let (kind, text) = match (&destination.endpoint, destination.gap.as_deref()) {
                (Endpoint::Net(net), _) => (
                    &loss::DENIED_ADDRESS,
                    format!("{key}: {} is an address, and names alone are blocked", crate::addrs::short(net)),
                ),
                (endpoint, Some(gap)) => {
                    (&loss::SERVICE_WITHOUT_HOSTS, format!("{key}: {endpoint}: {}", gap.about_service()))
                }
                (endpoint, None) => (&loss::SERVICE_WITHOUT_HOSTS, format!("{key}: {endpoint}: no name stands for it")),
            };
            losses.push(Loss::of(rule, kind, text).endpoint(&destination.endpoint));
        }
    }
    losses
}

/// Gives each wanted name its addresses; returns the names that stay without.
fn pin(ruleset: &Ruleset, pins: Pins, nodes: &mut [Node]) -> Vec<Loss> {
    let allows: Vec<&Rule> = ruleset.rules.iter().filter(|rule| rule.action == Action::Allow).collect();
    // Nothing limits the others, and no rule says where they may go: an old address would only be in their way.
    let limited: Vec<&Rule> = allows.into_iter().filter(|rule| !ruleset.bound(rule).is_empty()).collect();
    if pins == Pins::None || limited.iter().all(|rule| rule.names().is_empty()) {
        return Vec::new();
    }
    if ruleset.answered.is_none() {
        let text = "no name is pinned: that takes a lock, and there is none";
        return vec![Loss::general(&loss::NOTHING_PINNED, text.to_owned())];
    }
    let mut losses = Vec::new();
    let mut pinned: BTreeMap<&Host, Pin> = BTreeMap::new();
    for rule in limited {
        let mut without = Vec::new();
        let mut fed = Vec::new();
        for destination in &rule.destinations {
            without.extend(unpinnable(destination));
            // The proxy asks for these itself, and moves with what it is answered.
            if matches!(destination.gap.as_deref(), Some(Gap::Proxied(_))) {
                continue;
            }
            for host in destination.names().iter().filter_map(NamePattern::exact) {
                let known = ruleset.answers.get(host).filter(|known| !known.now.is_empty());
                if is_fed(ruleset, host) {
                    fed.push(host.to_string());
                } else if let Some(known) = known {
                    let texts = |v4: bool| {
                        known.now.singles().filter(move |addr| addr.is_ipv4() == v4).map(|addr| addr.to_string())
                    };
                    pinned.insert(host, Pin { v4: texts(true).collect(), v6: texts(false).collect() });
                } else {
                    without.push(host.to_string());
                }
            }
        }
        for (kind, names, why) in [
            (&loss::UNPINNED, without, "not pinned, and answered as the name server finds it"),
            (&loss::LEFT_TO_DNSMASQ, fed, "not pinned: dnsmasq lets out what is answered (by-dns)"),
        ] {
            if !names.is_empty() {
                let text = format!("{}: {}: {why}", rule.key, names.join(", "));
                let endpoints = names.into_iter().map(Short::from).collect();
                losses.push(Loss { endpoints, ..Loss::of(rule, kind, text) });
            }
        }
    }
    for node in nodes.iter_mut().filter(|node| node.own == State::Open) {
        node.pin = pinned.remove(&node.host);
    }
    losses
}

/// What of a destination has no name of its own.
fn unpinnable(destination: &Destination) -> Option<String> {
    match &destination.endpoint {
        // Names that were taken out are somebody else's to answer for.
        Endpoint::Name(NamePattern::Below(_)) if !destination.names().is_empty() => {
            Some(destination.endpoint.to_string())
        }
        Endpoint::Service(_) if destination.names().is_empty() => Some(destination.endpoint.to_string()),
        Endpoint::Name(_) | Endpoint::Service(_) | Endpoint::Net(_) => None,
    }
}

/// Whether dnsmasq puts what it is answered for this name into the sets of nftables: a pin would keep it out of them.
fn is_fed(ruleset: &Ruleset, host: &Host) -> bool {
    let fed = ruleset.settings.nftables.iter().flat_map(|settings| &settings.by_dns).map(|(pattern, _)| pattern.host());
    fed.into_iter().any(|name| name == host || host.is_below(name))
}

/// What every name server lacks.
pub(super) fn every_client() -> Loss {
    let text = "a name server knows neither ports nor clients: it answers everybody who asks it";
    Loss::general(&loss::PORTS_AND_CLIENTS, text.to_owned())
}

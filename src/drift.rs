//! What is loaded against what should be: two states of one enforcer compared by what they do, not by their text.
//!
//! A reader for each target makes a [`State`] of the files that were generated, and one of what the enforcer holds. What a
//! reader does not know it keeps as a text of its own, which equals nothing that outgate writes: it is never passed over.

pub mod nftables;
pub mod opnsense;
pub mod pf;
pub mod squid;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use crate::addrs::AddrSet;
use crate::diagnostic::{Code, Diagnostic};
use crate::text::{quoted, quoted_to};

/// Why something is no dump of an enforcer, in words that end a sentence.
pub type Unreadable = String;

/// What one enforcer holds, as far as it is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Sets, tables, aliases, lists: by name.
    pub sets: BTreeMap<String, Set>,
    /// Rules that are asked one after the other: by name of their chain.
    pub chains: BTreeMap<String, Chain>,
    /// What is no set and no chain, each in words.
    pub others: BTreeSet<String>,
}

/// What addresses, names or numbers something is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// What it may hold, in the enforcer's words; empty where nothing is said of it.
    pub kind: String,
    /// Its addresses.
    pub addrs: AddrSet,
    /// Whatever else it holds.
    pub words: BTreeSet<String>,
    /// Whether somebody else fills it while it is loaded: what it holds is then not compared.
    pub open: bool,
}

impl Set {
    /// Takes an element in: an address, a prefix or a range as such, anything else as a word.
    pub fn insert(&mut self, element: &str) {
        match read_addrs(element) {
            Some(addrs) => self.addrs = self.addrs.union(&addrs),
            None => _ = self.words.insert(element.to_owned()),
        }
    }

    /// Takes many in at once, which is cheaper.
    pub fn extend<'a>(&mut self, elements: impl IntoIterator<Item = &'a str>) {
        let mut nets: Vec<AddrSet> = vec![std::mem::take(&mut self.addrs)];
        let mut single: Vec<IpNet> = Vec::new();
        for element in elements {
            match element.parse::<IpAddr>() {
                Ok(addr) => single.push(addr.into()),
                Err(_) => match read_addrs(element) {
                    Some(addrs) => single.extend(addrs.prefixes()),
                    None => _ = self.words.insert(element.to_owned()),
                },
            }
        }
        nets.push(single.into_iter().collect());
        self.addrs = nets.iter().collect();
    }

    fn is_empty(&self) -> bool {
        self.addrs.is_empty() && self.words.is_empty()
    }
}

/// Rules in the order they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where it hooks in and what it does in the end, in the enforcer's words; empty where nothing is said of it.
    pub head: String,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The entry it is for; empty where it is for none.
    pub key: String,
    /// What it does: one text for one meaning, without counters.
    pub text: String,
    /// What becomes of a packet or request that it is about. Rules of one fate may be asked in any order.
    pub fate: String,
}

/// What kind of difference there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Elements that should be there are not.
    ElementMissing,
    /// Elements are there that should not be.
    ElementExtra,
    /// A rule, chain or set that should be there is not.
    Missing,
    /// A rule, chain, set or other thing is there that should not be.
    Foreign,
    /// Something that should be there is there with another meaning.
    Changed,
    /// Rules are asked in an order that changes what they do.
    Order,
    /// Something is left over that no rule uses.
    Idle,
}

impl Kind {
    /// The word for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ElementMissing => "element missing",
            Self::ElementExtra => "element extra",
            Self::Missing => "missing",
            Self::Foreign => "foreign",
            Self::Changed => "changed",
            Self::Order => "order",
            Self::Idle => "left over",
        }
    }

    /// The finding.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::ElementMissing => Code::ElementMissing,
            Self::ElementExtra => Code::ElementExtra,
            Self::Missing => Code::LoadedMissing,
            Self::Foreign => Code::LoadedForeign,
            Self::Changed => Code::LoadedChanged,
            Self::Order => Code::LoadedOrder,
            Self::Idle => Code::LeftOver,
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Its kind.
    pub kind: Kind,
    /// The set, chain or file it is in.
    pub place: String,
    /// The entry whose rule it is; empty where there is none.
    pub key: String,
    /// What should be there; elements one by one.
    pub expected: Vec<String>,
    /// What is there; elements one by one.
    pub loaded: Vec<String>,
}

/// Most elements that a message names.
const SHOWN: usize = 6;

/// Most characters of a rule that a message shows.
const LONGEST: usize = 240;

fn shown(texts: &[String]) -> String {
    let first: Vec<String> = texts.iter().take(SHOWN).map(|text| quoted_to(text, LONGEST)).collect();
    match texts.len() {
        n if n > SHOWN => format!("{} and {} more", first.join(", "), n - SHOWN),
        _ => first.join(", "),
    }
}

impl Difference {
    fn new(kind: Kind, place: &str) -> Self {
        Self { kind, place: place.to_owned(), key: String::new(), expected: Vec::new(), loaded: Vec::new() }
    }

    fn of(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    fn expects(mut self, expected: impl IntoIterator<Item = String>) -> Self {
        self.expected.extend(expected);
        self
    }

    fn has(mut self, loaded: impl IntoIterator<Item = String>) -> Self {
        self.loaded.extend(loaded);
        self
    }

    /// Whether what is loaded does something else than it should.
    #[must_use]
    pub fn is_drift(&self) -> bool {
        self.kind != Kind::Idle
    }

    /// A sentence for a person. Nothing in it can move a cursor or end a line, whatever was in the dump.
    #[must_use]
    pub fn message(&self) -> String {
        let place = quoted(&self.place);
        let whose = if self.key.is_empty() { String::new() } else { format!(" of {}", quoted(&self.key)) };
        let (expected, loaded) = (shown(&self.expected), shown(&self.loaded));
        match self.kind {
            Kind::ElementMissing => format!("{place} lacks {expected}"),
            Kind::ElementExtra => format!("{place} has {loaded}, which should not be there"),
            Kind::Missing if self.expected.is_empty() => format!("{place} is not there"),
            Kind::Missing => format!("{place}: a rule{whose} is not there: {expected}"),
            Kind::Foreign if self.loaded.is_empty() => format!("{place} is there and should not be"),
            Kind::Foreign => format!("{place}: a rule{whose} is there and should not be: {loaded}"),
            Kind::Changed => format!("{place}{whose} should be {expected}, and is {loaded}"),
            Kind::Order => format!("{place}: {loaded} comes too late: {expected} is asked before it"),
            Kind::Idle => format!("{place} is left over; no rule uses it"),
        }
    }

    /// The finding.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        Diagnostic::new(self.kind.code(), self.message())
    }
}

/// Every difference, worst places first within each name.
#[must_use]
pub fn compare(expected: &State, loaded: &State) -> Vec<Difference> {
    let mut found = Vec::new();
    for (name, set) in &expected.sets {
        match loaded.sets.get(name) {
            None => found.push(Difference::new(Kind::Missing, name)),
            Some(own) => compare_sets(name, set, own, &mut found),
        }
    }
    for (name, chain) in &expected.chains {
        match loaded.chains.get(name) {
            None => found.push(Difference::new(Kind::Missing, name)),
            Some(own) => compare_chains(name, chain, own, &mut found),
        }
    }
    let rules = loaded.chains.values().flat_map(|chain| &chain.rules);
    let used: BTreeSet<&str> = rules.flat_map(|rule| words(&rule.text)).collect();
    for name in loaded.sets.keys().filter(|name| !expected.sets.contains_key(*name)) {
        // What an earlier run filled stays behind as an empty or full set, and does nothing without a rule.
        let kind = if used.contains(name.as_str()) { Kind::Foreign } else { Kind::Idle };
        found.push(Difference::new(kind, name));
    }
    for name in loaded.chains.keys().filter(|name| !expected.chains.contains_key(*name)) {
        found.push(Difference::new(Kind::Foreign, name));
    }
    found.extend(expected.others.difference(&loaded.others).map(|other| Difference::new(Kind::Missing, other)));
    found.extend(loaded.others.difference(&expected.others).map(|other| Difference::new(Kind::Foreign, other)));
    found
}

/// The names in a rule, as sets, chains and tables may be spelt.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.'))
}

fn compare_sets(name: &str, expected: &Set, loaded: &Set, found: &mut Vec<Difference>) {
    if expected.kind != loaded.kind {
        let changed = Difference::new(Kind::Changed, name);
        found.push(changed.expects([expected.kind.clone()]).has([loaded.kind.clone()]));
    }
    if expected.open {
        return;
    }
    let lacking = Set {
        addrs: expected.addrs.minus(&loaded.addrs),
        words: expected.words.difference(&loaded.words).cloned().collect(),
        ..Set::default()
    };
    let more = Set {
        addrs: loaded.addrs.minus(&expected.addrs),
        words: loaded.words.difference(&expected.words).cloned().collect(),
        ..Set::default()
    };
    let elements = |set: Set| set.addrs.shorts().into_iter().chain(set.words).collect::<Vec<_>>();
    if !lacking.is_empty() {
        found.push(Difference::new(Kind::ElementMissing, name).expects(elements(lacking)));
    }
    if !more.is_empty() {
        found.push(Difference::new(Kind::ElementExtra, name).has(elements(more)));
    }
}

fn compare_chains(name: &str, expected: &Chain, loaded: &Chain, found: &mut Vec<Difference>) {
    if expected.head != loaded.head {
        let changed = Difference::new(Kind::Changed, name);
        found.push(changed.expects([expected.head.clone()]).has([loaded.head.clone()]));
    }
    // The places of each rule that should be there. A rule that is there twice takes the first place first.
    let mut places: BTreeMap<&Rule, Vec<usize>> = BTreeMap::new();
    for (at, rule) in expected.rules.iter().enumerate().rev() {
        places.entry(rule).or_default().push(at);
    }
    let (mut common, mut foreign) = (Vec::new(), Vec::new());
    for rule in &loaded.rules {
        match places.get_mut(rule).and_then(Vec::pop) {
            Some(at) => common.push(at),
            None => foreign.push(rule),
        }
    }
    let mut missing: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
    for (own, left) in places {
        missing.entry(&own.key).or_default().extend(left.iter().map(|_| own));
    }
    // A rule that is missing and one that is foreign are one that was changed, where they are for one entry.
    for rule in foreign {
        let own = missing.get_mut(rule.key.as_str()).filter(|_| !rule.key.is_empty()).and_then(Vec::pop);
        let kind = if own.is_some() { Kind::Changed } else { Kind::Foreign };
        let expects = own.map(|own| own.text.clone());
        found.push(Difference::new(kind, name).of(&rule.key).expects(expects).has([rule.text.clone()]));
    }
    for own in missing.into_values().flatten() {
        found.push(Difference::new(Kind::Missing, name).of(&own.key).expects([own.text.clone()]));
    }
    compare_order(name, expected, &common, found);
}

/// Rules of one fate that follow each other may change places; others may not.
fn compare_order(name: &str, expected: &Chain, common: &[usize], found: &mut Vec<Difference>) {
    let mut runs = Vec::with_capacity(expected.rules.len());
    let mut run = 0;
    for (at, rule) in expected.rules.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| expected.rules.get(at));
        if before.is_some_and(|before| before.fate != rule.fate) {
            run += 1;
        }
        runs.push(run);
    }
    let rank = |at: usize| runs.get(at).copied().unwrap_or_default();
    let mut last: Option<usize> = None;
    for &at in common {
        match last {
            Some(before) if rank(at) < rank(before) => {
                let text = |at: usize| expected.rules.get(at).map(|rule| rule.text.clone());
                let key = expected.rules.get(at).map_or("", |rule| rule.key.as_str());
                found.push(Difference::new(Kind::Order, name).of(key).expects(text(before)).has(text(at)));
            }
            _ => last = Some(at),
        }
    }
}

/// Addresses as a dump writes them: one, a prefix, or a range; also such as no profile may name.
#[must_use]
pub fn read_addrs(text: &str) -> Option<AddrSet> {
    if let Ok(addr) = text.parse::<IpAddr>() {
        return Some([addr].into_iter().collect());
    }
    if let Ok(net) = text.parse::<IpNet>() {
        return Some([net.trunc()].into_iter().collect());
    }
    let (first, last) = text.split_once('-')?;
    let (first, last): (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
    if first > last {
        return None;
    }
    let nets: Vec<IpNet> = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0).map(IpNet::from).collect(),
        (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0).map(IpNet::from).collect(),
        _ => return None,
    };
    Some(nets.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(key: &str, fate: &str) -> Rule {
        Rule { key: key.to_owned(), text: format!("{key} {fate}"), fate: fate.to_owned() }
    }

    fn chain(rules: &[(&str, &str)]) -> State {
        let rules = rules.iter().map(|(key, fate)| rule(key, fate)).collect();
        State { chains: [("c".to_owned(), Chain { head: String::new(), rules })].into(), ..State::default() }
    }

    fn kinds(expected: &State, loaded: &State) -> Vec<(Kind, String)> {
        compare(expected, loaded).into_iter().map(|found| (found.kind, found.key)).collect()
    }

    #[test]
    fn rules_of_one_fate_may_change_places_and_others_may_not() {
        let own = chain(&[("a", "deny"), ("b", "deny"), ("c", "allow"), ("d", "allow")]);
        let free = chain(&[("b", "deny"), ("a", "deny"), ("d", "allow"), ("c", "allow")]);
        assert_eq!(kinds(&own, &free), []);
        let wrong = chain(&[("a", "deny"), ("c", "allow"), ("b", "deny"), ("d", "allow")]);
        assert_eq!(kinds(&own, &wrong), [(Kind::Order, "b".to_owned())]);
    }

    #[test]
    fn an_allow_that_is_there_twice_is_seen_twice_where_it_comes_first() {
        let own = chain(&[("a", "deny"), ("c", "allow")]);
        let twice = chain(&[("c", "allow"), ("a", "deny"), ("c", "allow")]);
        assert_eq!(kinds(&own, &twice), [(Kind::Foreign, "c".to_owned()), (Kind::Order, "a".to_owned())]);
    }

    #[test]
    fn a_range_is_its_prefixes_and_a_word_is_a_word() {
        let mut set = Set::default();
        set.extend(["192.0.2.0-192.0.2.2", "2001:db8::/32", "0.0.0.0/0", "name.example", "1-2"]);
        assert_eq!(set.words, ["1-2", "name.example"].map(str::to_owned).into());
        assert_eq!(set.addrs.shorts(), ["0.0.0.0/0", "2001:db8::/32"]);
        assert_eq!(read_addrs("192.0.2.0-192.0.2.2").unwrap().shorts(), ["192.0.2.0/31", "192.0.2.2"]);
        // The wrong way round it is nothing, and must not take all memory.
        assert_eq!(read_addrs("192.0.2.9-192.0.2.2"), None);
    }
}

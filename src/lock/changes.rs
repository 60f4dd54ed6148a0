//! What one lock says and another does not: for a dry run, and for one that must not change anything.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Entry, ListEntry, Lock};
use crate::day::Day;
use crate::host::Query;
use crate::resolve::{Failure, RecordType};
use crate::text::Id;

/// One difference between two locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The name it is about; `None` for the head and for lists of prefixes.
    pub query: Option<Query>,
    /// The list of prefixes it is about.
    pub range: Option<Id>,
    /// What happened.
    pub what: What,
}

/// What happened to a name, or to the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The name is new.
    NameAdded,
    /// Nothing asks for the name any more.
    NameRemoved,
    /// The address is new.
    Added(IpAddr),
    /// The address is no longer answered; it is kept for now.
    Missing(IpAddr),
    /// The address is answered again.
    Back(IpAddr),
    /// The address left.
    Left(IpAddr),
    /// A lookup fails that did not, or fails in another way.
    Fails(RecordType, Failure),
    /// A lookup no longer fails.
    Recovered(RecordType),
    /// The way to the addresses changed: the chain, the hosts of a service, who answered, what was validated.
    Way,
    /// What the samples found changed.
    Sampled,
    /// The list is new, or is taken from another source; with the number of its prefixes.
    ListAdded(usize),
    /// No site uses the list any more.
    ListRemoved,
    /// The prefix is new in the list.
    PrefixAdded(IpNet),
    /// The prefix is no longer in the list; it is kept for now.
    PrefixMissing(IpNet),
    /// The prefix is in the list again.
    PrefixBack(IpNet),
    /// The prefix left.
    PrefixLeft(IpNet),
    /// The list cannot be read any more.
    ListFails,
    /// The list can be read again.
    ListRecovered,
    /// The day moved, or the note or the sites changed.
    Head,
}

impl What {
    /// A word for programs.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::NameAdded => "name-added",
            Self::NameRemoved => "name-removed",
            Self::Added(_) => "address-added",
            Self::Missing(_) => "address-missing",
            Self::Back(_) => "address-back",
            Self::Left(_) => "address-left",
            Self::Fails(..) => "lookup-fails",
            Self::Recovered(_) => "lookup-recovered",
            Self::Way => "way-changed",
            Self::Sampled => "samples-changed",
            Self::ListAdded(_) => "list-added",
            Self::ListRemoved => "list-removed",
            Self::PrefixAdded(_) => "prefix-added",
            Self::PrefixMissing(_) => "prefix-missing",
            Self::PrefixBack(_) => "prefix-back",
            Self::PrefixLeft(_) => "prefix-left",
            Self::ListFails => "list-fails",
            Self::ListRecovered => "list-recovered",
            Self::Head => "head-changed",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameAdded => f.write_str("is new"),
            Self::NameRemoved => f.write_str("leaves: nothing asks for it"),
            Self::Added(addr) => write!(f, "gains {addr}"),
            Self::Missing(addr) => write!(f, "is no longer answered with {addr}, which is kept"),
            Self::Back(addr) => write!(f, "is answered with {addr} again"),
            Self::Left(addr) => write!(f, "loses {addr}"),
            Self::Fails(kind, failure) => write!(f, "fails: {} {failure}", kind.as_str()),
            Self::Recovered(kind) => write!(f, "is answered again: {}", kind.as_str()),
            Self::Way => f.write_str("is reached another way"),
            Self::Sampled => f.write_str("was sampled anew"),
            Self::ListAdded(count) => write!(f, "is new, with {count} prefixes"),
            Self::ListRemoved => f.write_str("leaves: no site uses it"),
            Self::PrefixAdded(net) => write!(f, "gains {net}"),
            Self::PrefixMissing(net) => write!(f, "no longer has {net}, which is kept"),
            Self::PrefixBack(net) => write!(f, "has {net} again"),
            Self::PrefixLeft(net) => write!(f, "loses {net}"),
            Self::ListFails => f.write_str("cannot be read"),
            Self::ListRecovered => f.write_str("can be read again"),
            Self::Head => f.write_str("has another head"),
        }
    }
}

/// Every difference, by name. The day of a run that found nothing new is no difference.
#[must_use]
pub fn changes(old: Option<&Lock>, new: &Lock) -> Vec<Change> {
    let mut all = Vec::new();
    if old.is_none_or(|old| (&old.note, &old.sites) != (&new.note, &new.sites)) {
        all.push(Change { query: None, range: None, what: What::Head });
    }
    let none = std::collections::BTreeMap::new();
    let before = old.map_or(&none, |old| &old.hosts);
    let names: BTreeSet<&Query> = before.keys().chain(new.hosts.keys()).collect();
    for query in names {
        let mut push = |what| all.push(Change { query: Some(query.clone()), range: None, what });
        match (before.get(query), new.hosts.get(query)) {
            (Some(_), None) => push(What::NameRemoved),
            (None, Some(entry)) => {
                push(What::NameAdded);
                of_entry(&Entry::default(), entry, &mut push);
            }
            (Some(before), Some(entry)) => of_entry(before, entry, &mut push),
            (None, None) => {}
        }
    }
    let none = std::collections::BTreeMap::new();
    let before = old.map_or(&none, |old| &old.ranges);
    let lists: BTreeSet<&Id> = before.keys().chain(new.ranges.keys()).collect();
    for id in lists {
        let mut push = |what| all.push(Change { query: None, range: Some(id.clone()), what });
        match (before.get(id), new.ranges.get(id)) {
            (_, None) => push(What::ListRemoved),
            (Some(before), Some(entry)) if before.source == entry.source => of_list(before, entry, &mut push),
            (_, Some(entry)) => push(What::ListAdded(entry.prefixes.len())),
        }
    }
    all
}

/// What happened to one address or prefix that is in the new lock: new, no longer there, there again, or nothing.
enum Step {
    Added,
    Missing,
    Back,
}

/// From the day it was missing since, before (nothing where it was not known) and now.
fn step(before: Option<Option<Day>>, now: Option<Day>) -> Option<Step> {
    match (before, now) {
        (None, _) => Some(Step::Added),
        (Some(None), Some(_)) => Some(Step::Missing),
        (Some(Some(_)), None) => Some(Step::Back),
        (Some(_), _) => None,
    }
}

fn of_list(before: &ListEntry, entry: &ListEntry, push: &mut impl FnMut(What)) {
    for (&net, listed) in &entry.prefixes {
        match step(before.prefixes.get(&net).map(|was| was.missing), listed.missing) {
            Some(Step::Added) => push(What::PrefixAdded(net)),
            Some(Step::Missing) => push(What::PrefixMissing(net)),
            Some(Step::Back) => push(What::PrefixBack(net)),
            None => {}
        }
    }
    for &net in before.prefixes.keys().filter(|net| !entry.prefixes.contains_key(net)) {
        push(What::PrefixLeft(net));
    }
    match (before.failed, entry.failed) {
        (None, Some(_)) => push(What::ListFails),
        (Some(_), None) => push(What::ListRecovered),
        _ => {}
    }
}

fn of_entry(before: &Entry, entry: &Entry, push: &mut impl FnMut(What)) {
    for (addr, seen) in entry.addresses.iter() {
        match step(before.addresses.get(&addr).map(|was| was.missing), seen.missing) {
            Some(Step::Added) => push(What::Added(addr)),
            Some(Step::Missing) => push(What::Missing(addr)),
            Some(Step::Back) => push(What::Back(addr)),
            None => {}
        }
    }
    for addr in before.addresses.keys().filter(|addr| !entry.addresses.contains_key(addr)) {
        push(What::Left(addr));
    }
    for (&kind, failed) in &entry.failed {
        if before.failed.get(&kind).is_none_or(|was| was.failure != failed.failure) {
            push(What::Fails(kind, failed.failure));
        }
    }
    for &kind in before.failed.keys().filter(|kind| !entry.failed.contains_key(kind)) {
        push(What::Recovered(kind));
    }
    let by = |entry: &Entry| entry.addresses.values().map(|seen| seen.by.clone()).collect::<BTreeSet<_>>();
    let way = |entry: &Entry| {
        (entry.chain.clone(), entry.through.clone(), entry.targets.clone(), entry.by.clone(), entry.authentic)
    };
    let known = !before.by.is_empty();
    if known && (way(before) != way(entry) || !by(entry).is_subset(&by(before))) {
        push(What::Way);
    }
    if before.sampled != entry.sampled {
        push(What::Sampled);
    }
}

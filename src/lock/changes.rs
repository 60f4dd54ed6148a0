//! What one lock says and another does not: for a dry run, and for one that must not change anything.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::{Entry, Lock};
use crate::host::Query;
use crate::resolve::{Failure, RecordType};

/// One difference between two locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The name it is about; `None` for the head.
    pub query: Option<Query>,
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
            Self::Head => f.write_str("has another head"),
        }
    }
}

/// Every difference, by name. The day of a run that found nothing new is no difference.
#[must_use]
pub fn changes(old: Option<&Lock>, new: &Lock) -> Vec<Change> {
    let mut all = Vec::new();
    if old.is_none_or(|old| (&old.note, &old.sites) != (&new.note, &new.sites)) {
        all.push(Change { query: None, what: What::Head });
    }
    let none = std::collections::BTreeMap::new();
    let before = old.map_or(&none, |old| &old.hosts);
    let names: BTreeSet<&Query> = before.keys().chain(new.hosts.keys()).collect();
    for query in names {
        let mut push = |what| all.push(Change { query: Some(query.clone()), what });
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
    all
}

fn of_entry(before: &Entry, entry: &Entry, push: &mut impl FnMut(What)) {
    for (&addr, seen) in &entry.addresses {
        match (before.addresses.get(&addr), seen.missing) {
            (None, _) => push(What::Added(addr)),
            (Some(was), Some(_)) if was.missing.is_none() => push(What::Missing(addr)),
            (Some(was), None) if was.missing.is_some() => push(What::Back(addr)),
            (Some(_), _) => {}
        }
    }
    for &addr in before.addresses.keys().filter(|addr| !entry.addresses.contains_key(addr)) {
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

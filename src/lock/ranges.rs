//! Vendors' lists of prefixes in the lock: with their history, like addresses.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Lock, Wanted};
use crate::day::Day;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::{NamePattern, Query};
use crate::policy::Range;
use crate::ranges::{Source, holds, refuse, refuse_one};
use crate::text::{Id, quoted};

/// What is known of one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// Where it is, and what was taken from it.
    pub source: Source,
    /// The day it was last read or tried, where that is not the lock's day.
    pub read: Option<Day>,
    /// The day it first could not be read, with no good reading since.
    pub failed: Option<Day>,
    /// Its prefixes as the vendor has them, each with its history.
    pub prefixes: BTreeMap<IpNet, Listed>,
}

/// The history of one prefix in one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The day it was first in the list.
    pub first: Day,
    /// The day it was first no longer there, if the newest list lacks it.
    pub missing: Option<Day>,
}

impl ListEntry {
    /// The prefixes of the newest list: not those that are kept.
    pub fn listed(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.prefixes.iter().filter(|(_, seen)| seen.missing.is_none()).map(|(&net, _)| net)
    }
}

/// What came of reading lists: the prefixes of each, or why there are none.
pub type Readings = BTreeMap<Id, Result<BTreeSet<IpNet>, String>>;

/// What was read → entries: prefixes that vanished stay for their keep days, and a list that cannot be read keeps what
/// was known from the same source. One of which nothing is known is an error.
#[must_use]
pub fn update(
    wanted: &Wanted,
    old: Option<&Lock>,
    readings: Readings,
    today: Day,
    findings: &mut Findings,
) -> BTreeMap<Id, ListEntry> {
    let mut entries = BTreeMap::new();
    for (id, reading) in readings {
        let Some(range) = wanted.ranges.get(&id) else { continue };
        let before = old.and_then(|lock| lock.ranges.get(&id)).filter(|before| before.source == range.source);
        let judged = reading.and_then(|nets| match refuse(&nets, &range.terms.special, &wanted.clients) {
            Some(why) => Err(why),
            None => Ok(nets),
        });
        match (judged, before) {
            (Ok(nets), before) => {
                let entry = merge(range, nets, before, &wanted.clients, today);
                say(&id, &entry, before, findings);
                entries.insert(id, entry);
            }
            (Err(why), Some(before)) => {
                let failed = before.failed.or(Some(today));
                findings.push(
                    Diagnostic::new(Code::RangeKept, format!("list `{id}` of {}: {why}", before.source.from))
                        .at(range.span.clone(), "")
                        .help("what is known of it is kept until it is too old (`max-age`)"),
                );
                entries.insert(id, ListEntry { read: None, failed, ..before.clone() });
            }
            (Err(why), None) => findings.push(
                Diagnostic::new(Code::BadRange, format!("list `{id}` of {}: {why}", range.source.from))
                    .at(range.span.clone(), "")
                    .help("nothing is known of it from before: mend the list or its `path`, or take the list out"),
            ),
        }
    }
    entries
}

fn merge(range: &Range, nets: BTreeSet<IpNet>, before: Option<&ListEntry>, clients: &[IpNet], today: Day) -> ListEntry {
    let none = BTreeMap::new();
    let before = before.map_or(&none, |before| &before.prefixes);
    let first = |net: &IpNet| before.get(net).map_or(today, |listed| listed.first);
    let mut prefixes: BTreeMap<IpNet, Listed> =
        nets.into_iter().map(|net| (net, Listed { first: first(&net), missing: None })).collect();
    for (&net, listed) in before {
        let missing = listed.missing.unwrap_or(today);
        let kept = today.days_since(missing) <= range.terms.keep_days.into();
        if kept && refuse_one(&net, &range.terms.special, clients).is_none() {
            prefixes.entry(net).or_insert(Listed { first: listed.first, missing: Some(missing) });
        }
    }
    ListEntry { source: range.source.clone(), read: None, failed: None, prefixes }
}

fn say(id: &Id, entry: &ListEntry, before: Option<&ListEntry>, findings: &mut Findings) {
    if let Some(before) = before {
        let had: BTreeSet<IpNet> = before.listed().collect();
        let lost = had.iter().filter(|net| entry.prefixes.get(*net).is_none_or(|l| l.missing.is_some())).count();
        if lost * 2 > had.len() {
            findings.push(
                Diagnostic::new(
                    Code::RangeShrank,
                    format!("list `{id}` lost {lost} of {} prefixes at once", had.len()),
                )
                .help("look whether the vendor meant that; they stay for their `keep-days`"),
            );
        }
    }
    for (family, v4) in [("IPv4", true), ("IPv6", false)] {
        if !entry.listed().any(|net| net.addr().is_ipv4() == v4) {
            findings.push(
                Diagnostic::new(Code::RangeOneFamily, format!("list `{id}` has no {family} prefix"))
                    .help("rules by address take that family from DNS alone; is a `path` missing?"),
            );
        }
    }
}

impl Lock {
    /// Takes in what [`update`] made of the lists that were read today.
    pub fn take_lists(&mut self, entries: BTreeMap<Id, ListEntry>, today: Day) {
        let read = (today != self.day).then_some(today);
        self.ranges.extend(entries.into_iter().map(|(id, entry)| (id, ListEntry { read, ..entry })));
    }
}

/// Says which names that a list is for are answered with addresses outside it: the list is another service's, or the
/// answer is not the vendor's.
pub fn outside(wanted: &Wanted, lock: &Lock, findings: &mut Findings) {
    let names: BTreeSet<&NamePattern> = wanted.ranges.values().flat_map(|range| &range.names).collect();
    for name in names {
        let NamePattern::Exact(host) = name else { continue };
        let query = Query::Host(host.clone());
        let lists: Vec<&Id> =
            wanted.ranges.iter().filter(|(_, range)| range.names.contains(name)).map(|(id, _)| id).collect();
        let nets: Vec<IpNet> = lists
            .iter()
            .filter_map(|id| lock.ranges.get(*id))
            .flat_map(|entry| entry.prefixes.keys().copied())
            .collect();
        let Some(entry) = lock.hosts.get(&query).filter(|_| !nets.is_empty()) else { continue };
        let strays: Vec<String> =
            entry.answered().filter(|&addr| !holds(nets.iter().copied(), addr)).map(|addr| addr.to_string()).collect();
        if strays.is_empty() {
            continue;
        }
        let lists: Vec<String> = lists.iter().map(|id| format!("`{id}`")).collect();
        findings.push(
            Diagnostic::new(
                Code::OutsideRange,
                format!("`{query}` is answered with {}, outside {}", quoted(&strays.join(", ")), lists.join(", ")),
            )
            .help("look whether the list is that of this service, and whether the resolver tells the truth; the address is allowed all the same"),
        );
    }
}

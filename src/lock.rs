//! The lock: DNS answers with their history, committed to git.
//!
//! An answer is evidence of one day. The lock keeps what was seen, by whom and since when; what is no longer answered
//! stays for the days a client may still hold it, and a failed lookup takes nothing away unless the profile says so.
//! An unchanged answer is an unchanged line. [`file`] is the form on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::addrs::{SpecialUse, short, special_use};
use crate::callout::Endpoint;
use crate::day::Day;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::{Host, Query, Service};
use crate::policy::{self, Action, Policy, Range};
use crate::pool::Sampled;
use crate::resolve::answer::Answer;
use crate::resolve::{Failure, Heard, RecordType};
use crate::terms::{Reaction, Terms};
use crate::text::{Id, Text};

pub use addresses::Addresses;
pub use ranges::ListEntry;

mod addresses;
pub mod changes;
pub(crate) mod file;
pub mod ranges;

/// Pinned answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The day every name in it was last asked, in one run.
    pub day: Day,
    /// What whoever ran it wanted to say, such as from where the names were asked.
    pub note: Option<Text>,
    /// The sites it serves.
    pub sites: BTreeSet<Text>,
    /// Every name, with what is known of it.
    pub hosts: BTreeMap<Query, Entry>,
    /// Vendors' lists of prefixes, by the name a profile gives them.
    pub ranges: BTreeMap<Id, ListEntry>,
}

/// What is known of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The day it was last asked, where that is not the lock's day.
    pub asked: Option<Day>,
    /// For a service: the hosts its SRV records select, with their ports.
    pub targets: BTreeSet<(Host, u16)>,
    /// The names the newest answer went through, in order.
    pub chain: Vec<Host>,
    /// Further names that other resolvers, or other samples, went through.
    pub through: BTreeSet<Host>,
    /// Addresses, each with its history.
    pub addresses: Addresses,
    /// What failed when it was last asked.
    pub failed: BTreeMap<RecordType, Failed>,
    /// The newest run that took several samples, where they were not all the same.
    pub sampled: Option<Sampled>,
    /// Every resolver says that it validated the answer with DNSSEC. Its word, no proof.
    pub authentic: bool,
    /// The name servers of the newest answer.
    pub by: Arc<BTreeSet<String>>,
}

impl Entry {
    /// The addresses of the newest answer: not those that are kept.
    pub fn answered(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let answered = |(addr, seen): (IpAddr, &Seen)| {
            (seen.missing.is_none() && !self.failed.contains_key(&record_type(addr))).then_some(addr)
        };
        self.addresses.iter().filter_map(answered)
    }
}

/// The history of one address under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The day it was first answered.
    pub first: Day,
    /// The day it was first no longer answered, if the newest answer lacks it.
    pub missing: Option<Day>,
    /// The name servers that last answered it: mostly those of the name, so the list is shared.
    pub by: Arc<BTreeSet<String>>,
}

/// A lookup that keeps failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// How it failed last.
    pub failure: Failure,
    /// The day it first failed with no good answer since.
    pub since: Day,
}

/// What one run is to bring up to date.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The sites it is for.
    pub sites: BTreeSet<Text>,
    /// Every name they ask for, with the terms of its answers.
    pub queries: BTreeMap<Query, Arc<Terms>>,
    /// Their clients' own prefixes.
    pub clients: Vec<IpNet>,
    /// The lists of prefixes they use. A name stands for one source; whoever gathers the sites sees to that.
    pub ranges: BTreeMap<Id, Range>,
    /// The names that were asked, where not all of them were.
    pub only: Option<BTreeSet<Query>>,
}

impl Wanted {
    /// All that these policies ask for.
    #[must_use]
    pub fn of<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Self {
        let mut wanted = Self {
            sites: BTreeSet::new(),
            queries: BTreeMap::new(),
            clients: Vec::new(),
            ranges: BTreeMap::new(),
            only: None,
        };
        for policy in policies {
            wanted.sites.insert(policy.site.clone());
            wanted.clients.extend(policy.client_prefixes());
            for (id, range) in &policy.ranges {
                let merged = match wanted.ranges.remove(id) {
                    Some(mut other) => {
                        other.names.extend(range.names.iter().cloned());
                        Range { terms: other.terms.and(&range.terms), ..other }
                    }
                    None => range.clone(),
                };
                wanted.ranges.insert(id.clone(), merged);
            }
            for (query, terms) in policy.queries() {
                policy::ask(&mut wanted.queries, query, terms);
            }
        }
        wanted
    }

    /// The names to ask now.
    #[must_use]
    pub fn asked(&self) -> BTreeSet<Query> {
        let asked = |query: &&Query| self.only.as_ref().is_none_or(|only| only.contains(query));
        self.queries.keys().filter(asked).cloned().collect()
    }

    /// Every name a lock must know: what is asked for, and the hosts that services select in it, on the service's
    /// terms.
    #[must_use]
    pub fn needed(&self, lock: &Lock) -> BTreeMap<Query, Arc<Terms>> {
        let mut needed = self.queries.clone();
        for (query, terms) in &self.queries {
            for (target, _) in lock.hosts.get(query).into_iter().flat_map(|entry| &entry.targets) {
                policy::ask(&mut needed, Query::Host(target.clone()), Arc::clone(terms));
            }
        }
        needed
    }
}

/// What was heard → lock: yesterday's addresses stay for their keep days, failed lookups do what the profile says, and
/// answers no public name can have are left out. Every one of these is a finding.
///
/// A run for some of the sites of a lock, or for some names, leaves the rest as it was. Only one for all sites takes out
/// what nobody asks for, and only one for all names of all sites moves the lock's day.
#[must_use]
pub fn update(
    wanted: &Wanted,
    old: Option<&Lock>,
    heard: &Heard,
    today: Day,
    note: Option<Text>,
    findings: &mut Findings,
) -> Lock {
    let others: BTreeSet<Text> =
        old.map(|lock| lock.sites.difference(&wanted.sites).cloned().collect()).unwrap_or_default();
    let moves = others.is_empty() && wanted.only.is_none();
    let day = old.filter(|_| !moves).map_or(today, |lock| lock.day);
    let mut hosts = BTreeMap::new();
    let mut queue = wanted.queries.clone();
    // Targets of services join the names that are wanted, so the work is a queue and not a list.
    while let Some((query, terms)) = queue.pop_first() {
        if hosts.contains_key(&query) {
            continue;
        }
        let before = old.and_then(|lock| lock.hosts.get(&query));
        let skipped = wanted.only.as_ref().is_some_and(|_| !heard.replies.contains_key(&query));
        let entry = match before {
            Some(before) if skipped => before.clone(),
            None if skipped => continue,
            before => {
                let unheard = || [RecordType::A, RecordType::Aaaa].map(|kind| (kind, Failure::Timeout)).into();
                let replies = heard.replies.get(&query).filter(|replies| !replies.is_empty());
                let answer = replies
                    .map_or_else(|| Answer { failures: unheard(), ..Answer::default() }, |replies| Answer::of(replies));
                let judge = Judge { terms: &terms, clients: &wanted.clients };
                let mut entry = update_entry(&query, &answer, before, &judge, today, findings);
                entry.asked = (today != day).then_some(today);
                entry
            }
        };
        for (target, _) in &entry.targets {
            queue.entry(Query::Host(target.clone())).or_insert_with(|| terms.clone());
        }
        hosts.insert(query, entry);
    }
    // What was read of the lists today is taken in by itself: see `Lock::take_lists`.
    let mut ranges = old.map(|lock| lock.ranges.clone()).unwrap_or_default();
    ranges.retain(|id, _| !others.is_empty() || wanted.ranges.contains_key(id));
    let mut sites = wanted.sites.clone();
    if let Some(old) = old.filter(|_| !others.is_empty()) {
        for (query, entry) in &old.hosts {
            hosts.entry(query.clone()).or_insert_with(|| entry.clone());
        }
        sites.extend(others);
    }
    let note = note.or_else(|| old.and_then(|lock| lock.note.clone()));
    Lock { day, note, sites, hosts, ranges }
}

/// One name's part of [`update`].
fn update_entry(
    query: &Query,
    answer: &Answer,
    before: Option<&Entry>,
    judge: &Judge<'_>,
    today: Day,
    findings: &mut Findings,
) -> Entry {
    let terms = judge.terms;
    let mut failures = answer.failures.clone();
    let mut entry = Entry {
        chain: answer.chain.clone(),
        through: answer.through.iter().filter(|host| !answer.chain.contains(host)).cloned().collect(),
        authentic: answer.authentic,
        by: Arc::new(answer.resolvers.clone()),
        ..Entry::default()
    };
    let many = answer.addresses.len() > terms.most.into();
    let mut lied = BTreeSet::new();
    for (&addr, by) in &answer.addresses {
        match judge.refuse(addr) {
            // Which of too many are refused is of no interest.
            _ if many => _ = failures.insert(record_type(addr), Failure::TooMany),
            Some(why) => {
                lied.insert(record_type(addr));
                findings.push(
                    Diagnostic::new(
                        Code::RefusedAddress,
                        format!("`{query}` was answered with {addr}, {why}: left out"),
                    )
                    .help(format!("a name server that answers so may be lying (DNS rebinding){}", why.way_out())),
                );
            }
            None => {
                let first = before.and_then(|b| b.addresses.get(&addr)).map_or(today, |seen| seen.first);
                let by = if *by == *entry.by { Arc::clone(&entry.by) } else { Arc::new(by.clone()) };
                entry.addresses.insert(addr, Seen { first, missing: None, by });
            }
        }
    }
    for (host, port) in &answer.targets {
        let Query::Service(service) = query else { continue };
        if may_select(service, host) {
            entry.targets.insert((host.clone(), *port));
        } else {
            findings.push(Diagnostic::new(
                Code::ForeignTarget,
                format!("SRV of `{query}` points to `{host}`, outside its own domain: left out"),
            ));
        }
    }
    if answer.sampled.times > 1 {
        entry.sampled = Some(answer.sampled).filter(|sampled| !sampled.agreed());
    } else {
        entry.sampled = before.and_then(|before| before.sampled);
    }
    for (&kind, &failure) in &failures {
        let since = before.and_then(|before| before.failed.get(&kind)).map_or(today, |failed| failed.since);
        entry.failed.insert(kind, Failed { failure, since });
    }
    if let Some(before) = before {
        keep(&mut entry, before, &lied, judge, today);
    }
    say_failures(query, answer, &entry, terms, many, findings);
    if let Some(before) = before {
        let had = |entry: &Entry, v4: bool| entry.addresses.keys().any(|addr| addr.is_ipv4() == v4);
        for (family, v4) in [("IPv4", true), ("IPv6", false)] {
            let failed = failures.contains_key(if v4 { &RecordType::A } else { &RecordType::Aaaa });
            if had(before, v4) && !had(&entry, v4) && !failed {
                findings.push(
                    Diagnostic::new(Code::FamilyGone, format!("the last {family} address of `{query}` left the lock"))
                        .help("it has not been answered for its `keep-days`; rules by address have none of that family now"),
                );
            }
        }
    }
    entry
}

/// Takes over what an entry had: what is no longer answered for its days, and what could not be asked for as it was.
fn keep(entry: &mut Entry, before: &Entry, lied: &BTreeSet<RecordType>, judge: &Judge<'_>, today: Day) {
    let terms = judge.terms;
    let reaction = |failed: &Failed| terms.reaction(failed.failure);
    if entry.addresses.is_empty() && entry.targets.is_empty() && !entry.failed.is_empty() {
        // Who was asked in vain said nothing of what stands.
        entry.by.clone_from(&before.by);
        entry.chain.clone_from(&before.chain);
        entry.through.clone_from(&before.through);
        entry.authentic = before.authentic;
    }
    let mut kept = Vec::new();
    for (addr, seen) in before.addresses.iter() {
        if entry.addresses.contains_key(&addr) || judge.refuse(addr).is_some() {
            continue;
        }
        let kind = record_type(addr);
        let believed = entry.addresses.keys().any(|other| record_type(other) == kind);
        let missing = match entry.failed.get(&kind).map(reaction) {
            Some(Reaction::Drop) => continue,
            // No answer, or one of which nothing could be believed, says nothing of the old one.
            Some(Reaction::Keep | Reaction::Fail) => seen.missing,
            None if lied.contains(&kind) && !believed => seen.missing,
            None => seen.missing.or(Some(today)),
        };
        if missing.is_none_or(|since| today.days_since(since) <= terms.keep_days.into()) {
            kept.push((addr, Seen { first: seen.first, missing, by: seen.by.clone() }));
        }
    }
    if !kept.is_empty() {
        let answered = entry.addresses.iter().map(|(addr, seen)| (addr, seen.clone()));
        entry.addresses = answered.chain(kept).collect();
    }
    if entry.failed.get(&RecordType::Srv).map(reaction).is_some_and(|reaction| reaction != Reaction::Drop) {
        entry.targets.extend(before.targets.iter().cloned());
    }
}

/// What failed, with whom, and what becomes of the name.
fn say_failures(query: &Query, answer: &Answer, entry: &Entry, terms: &Terms, many: bool, findings: &mut Findings) {
    for (by, kind, failure) in &answer.dissent {
        findings.push(
            Diagnostic::new(
                Code::Dissent,
                format!("`{query}`: {by} says {failure} for {}, others answer", kind.as_str()),
            )
            .help("the others' answer is taken; look why that server does not have it"),
        );
    }
    if entry.failed.is_empty() {
        return;
    }
    let nothing = entry.addresses.is_empty() && entry.targets.is_empty();
    let reaction = entry.failed.values().map(|failed| terms.reaction(failed.failure)).max().unwrap_or_default();
    let list: Vec<String> =
        entry.failed.iter().map(|(kind, failed)| format!("{} {}", kind.as_str(), failed.failure)).collect();
    let list =
        if many { format!("{} addresses, more than {}", answer.addresses.len(), terms.most) } else { list.join(", ") };
    let (code, then) = match reaction {
        Reaction::Fail => (Code::LookupFatal, "the profile says that this fails the run"),
        _ if nothing => (Code::LookupFailed, "nothing is known of it"),
        Reaction::Drop => (Code::LookupFailed, "what was known of it is dropped"),
        Reaction::Keep => (Code::LookupFailed, "what is known of it is kept"),
    };
    let mut diagnostic = Diagnostic::new(code, format!("`{query}`: {list}; {then}"));
    if many {
        diagnostic = diagnostic.help("if so many are right, raise `answers: most:`, or use a target that goes by name");
    }
    findings.push(diagnostic);
}

/// Finds allowed names that are aliases of blocked ones: their addresses are the blocked one's.
pub fn blocked_aliases(policy: &Policy, lock: &Lock, findings: &mut Findings) {
    if policy.decisions.iter().all(|decision| decision.action != Action::Deny) {
        return;
    }
    for decision in policy.decisions.iter().filter(|decision| decision.action == Action::Allow) {
        for query in decision.endpoints.iter().filter_map(Endpoint::query) {
            let Some(entry) = lock.hosts.get(&query) else { continue };
            for host in entry.chain.iter().chain(&entry.through) {
                if let Some(by) = policy.blocked_by(host) {
                    let message = format!("`{query}` ({}) is an alias of `{host}`, which {by} blocks", decision.key);
                    findings.push(
                        Diagnostic::new(Code::BlockedAlias, message)
                            .help("what lies behind the alias is the blocked name's: leave one of the two out"),
                    );
                }
            }
        }
    }
}

fn record_type(addr: IpAddr) -> RecordType {
    if addr.is_ipv4() { RecordType::A } else { RecordType::Aaaa }
}

/// Whether an SRV record of a service may select a host: a forged one must not open a stranger's.
#[must_use]
pub fn may_select(service: &Service, target: &Host) -> bool {
    service.host().registered_domain().is_some_and(|domain| target.registered_domain() == Some(domain))
}

/// What an address behind a name may be.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// What the answers for this name may hold.
    pub terms: &'a Terms,
    /// The clients' own prefixes.
    pub clients: &'a [IpNet],
}

impl Judge<'_> {
    /// Why the address cannot be where the name is; `None` when it can.
    #[must_use]
    pub fn refuse(&self, addr: IpAddr) -> Option<Refusal> {
        if let Some(&net) = self.clients.iter().find(|net| !self.terms.own_network && net.contains(&addr)) {
            return Some(Refusal::Client(net));
        }
        special_use(addr).filter(|kind| !self.terms.special.contains(kind)).map(Refusal::Special)
    }
}

/// Why an address cannot be where a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It lies in this prefix of the clients' own.
    Client(IpNet),
    /// Its kind is not allowed.
    Special(SpecialUse),
}

impl Refusal {
    /// The end of a help line: what to do if the answer is right after all. Empty where nothing can be done.
    #[must_use]
    pub fn way_out(self) -> String {
        match self {
            Self::Special(kind @ (SpecialUse::Private | SpecialUse::Documentation)) => {
                format!("; if it is right, add `{}` under `answers: allow:`", kind.as_str())
            }
            Self::Special(_) | Self::Client(_) => String::new(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(net) => write!(f, "which lies in the clients' own {}", short(net)),
            Self::Special(kind) => write!(f, "a {} address", kind.as_str()),
        }
    }
}

//! How a lock stands on a day: what is old, what fails, what leaves next, what it lacks. No network, no judgement: the
//! findings come from `freshness` and `coverage`, and so does the exit code.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::coverage::Coverage;
use crate::day::Day;
use crate::freshness::{self, Age};
use crate::host::Query;
use crate::lock::{Entry, Lock, Wanted};
use crate::resolve::{Failure, RecordType};
use crate::terms::{Reaction, Terms};
use crate::text::Text;

/// A lock against what is asked of it.
#[derive(Clone, Debug)]
pub struct Status {
    /// The day it is.
    pub today: Day,
    /// The day of the lock.
    pub day: Day,
    /// Every name that is needed and known, worst first, then by name.
    pub names: Vec<Name>,
    /// Names that are needed and that the lock does not know.
    pub lacking: BTreeSet<Query>,
    /// Names of the lock that none of these sites needs: another site's, or nobody's.
    pub unasked: BTreeSet<Query>,
    /// The sites the lock serves.
    pub serves: BTreeSet<Text>,
    /// Sites that were asked about and that the lock does not serve.
    pub unserved: BTreeSet<Text>,
    /// Sites the lock serves and that were not asked about.
    pub others: BTreeSet<Text>,
    /// Everyone who answered for a name that is needed.
    pub resolvers: BTreeSet<String>,
}

/// What is to be said of a name, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// Its answer is older than it may be.
    Stale,
    /// A lookup of it fails.
    Fails,
    /// A rule by address misses some of its traffic.
    LowCoverage,
    /// Its answer is past half of the age it may have.
    Aging,
    /// Not all of its addresses came with the newest answer, or not with every sample of it.
    Rotates,
}

impl Mark {
    /// Every mark, in order.
    pub const ALL: [Self; 5] = [Self::Stale, Self::Fails, Self::LowCoverage, Self::Aging, Self::Rotates];

    /// The word for tables and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Fails => "fails",
            Self::LowCoverage => "low-coverage",
            Self::Aging => "aging",
            Self::Rotates => "rotates",
        }
    }
}

/// One name.
#[derive(Clone, Debug)]
pub struct Name {
    /// The name.
    pub query: Query,
    /// How old its answer is, and how old it may be.
    pub age: Age,
    /// What is to be said of it.
    pub marks: BTreeSet<Mark>,
    /// What fails, how, since when, and what becomes of what was known.
    pub failing: Vec<Failing>,
    /// Its addresses, and what is known of the rest of them.
    pub coverage: Coverage,
    /// Addresses that are no longer answered and are kept for now, the next to leave first.
    pub leaving: Vec<Leaving>,
    /// Days an address is kept.
    pub keep_days: u16,
    /// Who answered.
    pub by: BTreeSet<String>,
    /// Every resolver says that it validated the answer.
    pub authentic: bool,
}

impl Name {
    /// The first day on which the answer is too old.
    #[must_use]
    pub fn stale_on(&self) -> Day {
        self.age.of.after(u32::from(self.age.max_age) + 1)
    }
}

/// A lookup that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// What was asked for.
    pub kind: RecordType,
    /// How it failed last.
    pub failure: Failure,
    /// The day it first did.
    pub since: Day,
    /// What becomes of what was known.
    pub reaction: Reaction,
}

/// An address that is no longer answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leaving {
    /// The first day on which a run takes it out.
    pub on: Day,
    /// The address.
    pub addr: IpAddr,
    /// The day it was first not answered.
    pub missing: Day,
}

impl Status {
    /// How the lock stands.
    #[must_use]
    pub fn of(wanted: &Wanted, lock: &Lock, today: Day) -> Self {
        let needed = wanted.needed(lock);
        let ages = freshness::ages(wanted, lock, today);
        let mut names: Vec<Name> = ages
            .into_iter()
            .filter_map(|age| Some(name(lock.hosts.get(&age.query)?, needed.get(&age.query)?, age, lock.day)))
            .collect();
        // No mark at all is best, so it stands behind every first mark.
        let worst = |name: &Name| name.marks.first().map_or(Mark::ALL.len(), |&mark| mark as usize);
        names.sort_by(|a, b| (worst(a), &a.query).cmp(&(worst(b), &b.query)));
        Self {
            today,
            day: lock.day,
            resolvers: names.iter().flat_map(|name| name.by.iter().cloned()).collect(),
            names,
            lacking: needed.keys().filter(|query| !lock.hosts.contains_key(query)).cloned().collect(),
            unasked: lock.hosts.keys().filter(|query| !needed.contains_key(query)).cloned().collect(),
            serves: lock.sites.clone(),
            unserved: wanted.sites.difference(&lock.sites).cloned().collect(),
            others: lock.sites.difference(&wanted.sites).cloned().collect(),
        }
    }

    /// Days since the lock's day, never negative.
    #[must_use]
    pub fn days(&self) -> i64 {
        self.today.days_since(self.day).max(0)
    }

    /// How many names have a mark.
    #[must_use]
    pub fn count(&self, mark: Mark) -> usize {
        self.names.iter().filter(|name| name.marks.contains(&mark)).count()
    }

    /// All addresses of the names that are needed, each name's counted for itself.
    #[must_use]
    pub fn addresses(&self) -> usize {
        self.names.iter().map(|name| name.coverage.known).sum()
    }

    /// Every address that is no longer answered, with its name, the next to leave first.
    #[must_use]
    pub fn leaving(&self) -> Vec<(Leaving, &Query)> {
        let mut all: Vec<_> =
            self.names.iter().flat_map(|name| name.leaving.iter().map(|leaving| (*leaving, &name.query))).collect();
        all.sort();
        all
    }
}

fn name(entry: &Entry, terms: &Terms, age: Age, day: Day) -> Name {
    let coverage = Coverage::of(entry, day, None);
    let failing: Vec<Failing> = entry
        .failed
        .iter()
        .map(|(&kind, failed)| {
            let reaction = terms.reaction(failed.failure);
            Failing { kind, failure: failed.failure, since: failed.since, reaction }
        })
        .collect();
    let mut leaving: Vec<Leaving> = entry
        .addresses
        .iter()
        .filter_map(|(addr, seen)| {
            let missing = seen.missing?;
            Some(Leaving { on: missing.after(u32::from(terms.keep_days) + 1), addr, missing })
        })
        .collect();
    leaving.sort();
    let marks = Mark::ALL.into_iter().filter(|mark| match mark {
        Mark::Stale => age.is_stale(),
        Mark::Fails => !failing.is_empty(),
        Mark::LowCoverage => coverage.missed().is_some(),
        Mark::Aging => age.is_aging() && !age.is_stale(),
        Mark::Rotates => !leaving.is_empty() || coverage.sampled.is_some(),
    });
    Name {
        query: age.query.clone(),
        marks: marks.collect(),
        failing,
        coverage,
        leaving,
        keep_days: terms.keep_days,
        by: (*entry.by).clone(),
        authentic: entry.authentic,
        age,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lock::{Failed, Seen};

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    fn entry(addresses: &[(&str, Option<&str>)]) -> Entry {
        let seen = |missing: &Option<&str>| Seen {
            first: day("2026-10-01"),
            missing: missing.map(day),
            by: std::sync::Arc::new(["192.0.2.53:53".to_owned()].into()),
        };
        Entry {
            addresses: addresses.iter().map(|(addr, missing)| (addr.parse().unwrap(), seen(missing))).collect(),
            by: std::sync::Arc::new(["192.0.2.53:53".to_owned()].into()),
            ..Entry::default()
        }
    }

    fn lock(hosts: Vec<(&str, Entry)>) -> Lock {
        let hosts = hosts.into_iter().map(|(name, entry)| (query(name), entry)).collect();
        let sites = BTreeSet::from([Text::parse("home").unwrap(), Text::parse("office").unwrap()]);
        Lock { day: day("2026-11-21"), note: None, sites, hosts, ranges: BTreeMap::new() }
    }

    fn wanted(names: &[(&str, Terms)]) -> Wanted {
        let queries = names.iter().map(|(name, terms)| (query(name), terms.clone().into())).collect();
        let sites = BTreeSet::from([Text::parse("home").unwrap(), Text::parse("cabin").unwrap()]);
        Wanted { sites, queries, clients: Vec::new(), ranges: BTreeMap::new(), only: None }
    }

    #[test]
    fn names_stand_worst_first() {
        let failed = |since| [(RecordType::A, Failed { failure: Failure::Timeout, since: day(since) })].into();
        let lock = lock(vec![
            ("a.example.org", entry(&[("198.51.100.1", None)])),
            ("b.example.org", entry(&[("198.51.100.2", Some("2026-11-20"))])),
            ("c.example.org", Entry { failed: failed("2026-11-20"), ..entry(&[("198.51.100.3", None)]) }),
            ("d.example.org", Entry { failed: failed("2026-10-01"), ..entry(&[("198.51.100.4", None)]) }),
            ("e.example.org", Entry { asked: Some(day("2026-11-01")), ..entry(&[("198.51.100.5", None)]) }),
        ]);
        let asked = ["a", "b", "c", "d", "e"].map(|name| format!("{name}.example.org"));
        let wanted = wanted(&asked.iter().map(|name| (name.as_str(), Terms::default())).collect::<Vec<_>>());
        let status = Status::of(&wanted, &lock, day("2026-11-21"));
        let shown: Vec<(String, Vec<&str>)> = status
            .names
            .iter()
            .map(|name| (name.query.to_string(), name.marks.iter().map(|mark| mark.as_str()).collect()))
            .collect();
        let expected = [
            ("d.example.org", vec!["stale", "fails"]),
            ("c.example.org", vec!["fails"]),
            ("e.example.org", vec!["aging"]),
            ("b.example.org", vec!["rotates"]),
            ("a.example.org", vec![]),
        ];
        assert_eq!(shown, expected.map(|(name, marks)| (name.to_owned(), marks)));
        assert_eq!(Mark::ALL.map(|mark| status.count(mark)), [1, 2, 0, 1, 1]);
        assert_eq!(status.addresses(), 5);
    }

    #[test]
    fn what_fails_says_since_when_and_when_it_is_too_old() {
        let failed = [(RecordType::Aaaa, Failed { failure: Failure::ServFail, since: day("2026-11-19") })].into();
        let lock = lock(vec![("a.example.org", Entry { failed, ..entry(&[("2001:db8::1", None)]) })]);
        let terms = Terms { max_age: 10, on_failure: [(Failure::ServFail, Reaction::Drop)].into(), ..Terms::default() };
        let status = Status::of(&wanted(&[("a.example.org", terms)]), &lock, day("2026-11-24"));
        let name = &status.names[0];
        let since = day("2026-11-19");
        let kind = RecordType::Aaaa;
        assert_eq!(name.failing, [Failing { kind, failure: Failure::ServFail, since, reaction: Reaction::Drop }]);
        assert_eq!((name.age.days, name.stale_on()), (5, day("2026-11-30")));
        // The day it says is the first that is judged too old, and not a day earlier.
        let stale = |on: &str| {
            Status::of(&wanted(&[("a.example.org", Terms { max_age: 10, ..Terms::default() })]), &lock, day(on))
                .count(Mark::Stale)
        };
        assert_eq!((stale("2026-11-29"), stale("2026-11-30")), (0, 1));
    }

    #[test]
    fn the_day_an_address_leaves_is_the_day_a_run_takes_it_out() {
        let lock = lock(vec![
            ("a.example.org", entry(&[("198.51.100.1", Some("2026-11-18")), ("198.51.100.2", None)])),
            ("b.example.org", entry(&[("198.51.100.3", Some("2026-11-16"))])),
        ]);
        let wanted = wanted(&[
            ("a.example.org", Terms::default()),
            ("b.example.org", Terms { keep_days: 20, ..Terms::default() }),
        ]);
        let status = Status::of(&wanted, &lock, day("2026-11-21"));
        let days: Vec<(Day, &str)> = status
            .leaving()
            .iter()
            .map(|(leaving, query)| (leaving.on, if **query == self::query("a.example.org") { "a" } else { "b" }))
            .collect();
        assert_eq!(days, [(day("2026-12-03"), "a"), (day("2026-12-07"), "b")]);
        // The lock itself agrees.
        let run = |on: &str| {
            let reply = crate::resolve::Reply {
                by: std::sync::Arc::new(["192.0.2.53:53".to_owned()].into()),
                addresses: [("8.8.8.8".parse().unwrap(), 60)].into_iter().collect(),
                ..crate::resolve::Reply::default()
            };
            let replies = lock.hosts.keys().map(|query| (query.clone(), vec![reply.clone()])).collect();
            let heard = crate::resolve::Heard { replies, ..Default::default() };
            let special = BTreeSet::from([crate::addrs::SpecialUse::Documentation]);
            let mut wanted = wanted.clone();
            for terms in wanted.queries.values_mut() {
                std::sync::Arc::make_mut(terms).special.clone_from(&special);
            }
            let findings = &mut crate::diagnostic::Findings::default();
            let lock = crate::lock::update(&wanted, Some(&lock), &heard, day(on), None, findings);
            lock.hosts[&query("a.example.org")].addresses.contains_key(&"198.51.100.1".parse().unwrap())
        };
        assert!(run("2026-12-02") && !run("2026-12-03"));
    }

    #[test]
    fn names_and_sites_are_held_against_each_other() {
        let lock = lock(vec![("a.example.org", entry(&[])), ("old.example.org", entry(&[]))]);
        let wanted = wanted(&[("a.example.org", Terms::default()), ("new.example.org", Terms::default())]);
        let status = Status::of(&wanted, &lock, day("2026-11-20"));
        assert_eq!(status.lacking, BTreeSet::from([query("new.example.org")]));
        assert_eq!(status.unasked, BTreeSet::from([query("old.example.org")]));
        let names = |sites: &BTreeSet<Text>| sites.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            (names(&status.unserved), names(&status.others)),
            (vec!["cabin".to_owned()], vec!["office".to_owned()])
        );
        assert_eq!(status.resolvers, BTreeSet::from(["192.0.2.53:53".to_owned()]));
        assert_eq!(status.days(), 0, "a lock of tomorrow is of today");
    }
}

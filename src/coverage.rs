//! How much of a name a rule by address can hold.
//!
//! Two kinds of evidence, both in the lock: repeated answers of one run tell how large the pool is, and the days on
//! which new addresses came tell whether it stands still. Where either says that some of the traffic will be missed,
//! there is a warning, for no list of addresses mends that.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::callout::Endpoint;
use crate::day::Day;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::Query;
use crate::lock::{Entry, Lock};
use crate::policy::{Action, Policy};
use crate::pool::Sampled;
use crate::strict::Choice;

/// The share of a name's traffic a rule may miss before there is a warning.
pub const MISSED_MOST: f64 = 0.05;
/// Days over which new addresses are counted.
pub const WINDOW_DAYS: i64 = 30;
/// Days with new addresses within [`WINDOW_DAYS`], that of the newest answer among them, from which on a pool is in
/// motion. A server that moved once is not.
pub const ARRIVALS: usize = 3;

/// What is known of the pool of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Coverage {
    /// Addresses in the lock, the kept ones among them.
    pub known: usize,
    /// Addresses of the newest answer.
    pub answered: usize,
    /// Addresses of the newest answer that were not known before: before that run where the lock of before is at hand,
    /// before that day where it is not.
    pub fresh: usize,
    /// Whether anything was known before, so that what is not fresh was known.
    pub compared: bool,
    /// Days within the last [`WINDOW_DAYS`] on which new addresses came, not counting the first the lock knows of.
    pub arrivals: usize,
    /// The newest samples, where they were not all the same.
    pub sampled: Option<Sampled>,
}

/// Why a rule by address misses some of the traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Missed {
    /// The pool is larger than what is known of it. At least this share of new connections, from 0 to 1.
    Unseen(f64),
    /// New addresses keep coming. This share of the newest answer was new, from 0 to 1.
    Moving(f64),
}

impl Missed {
    /// The share of new connections, from 0 to 1.
    #[must_use]
    pub fn share(self) -> f64 {
        match self {
            Self::Unseen(share) | Self::Moving(share) => share,
        }
    }
}

impl Coverage {
    /// The evidence about one name of a lock of that day. `before` is what was known of it before the newest run.
    #[must_use]
    pub fn of(entry: &Entry, day: Day, before: Option<&Entry>) -> Self {
        let asked = entry.asked.unwrap_or(day);
        let answered: Vec<_> = entry.answered().collect();
        // What came with the first answer of all was not new to anybody.
        let began = entry.addresses.values().map(|seen| seen.first).min();
        let compared = before.map_or(began.is_some_and(|began| began < asked), |before| !before.addresses.is_empty());
        let is_fresh = |addr: &&IpAddr| match before {
            Some(before) => !before.addresses.contains_key(addr),
            None => entry.addresses.get(addr).is_some_and(|seen| seen.first == asked),
        };
        let recent = |day: &Day| (0..=WINDOW_DAYS).contains(&asked.days_since(*day));
        let days: BTreeSet<Day> = entry.addresses.values().map(|seen| seen.first).collect();
        Self {
            known: entry.addresses.len(),
            answered: answered.len(),
            fresh: if compared { answered.iter().filter(is_fresh).count() } else { 0 },
            compared,
            arrivals: days.into_iter().filter(|day| Some(*day) != began && recent(day)).count(),
            sampled: entry.sampled,
        }
    }

    /// The samples, where they are those of the newest answer and not of a run before it.
    fn newest_samples(&self) -> Option<Sampled> {
        self.sampled.filter(|sampled| usize::try_from(sampled.addresses) == Ok(self.answered))
    }

    /// The size of the pool, at the least. `None` without samples that differ.
    ///
    /// The estimate of the samples alone, until there is something to hold them against: then what is known, the kept
    /// addresses among it, over the share that it covers.
    #[must_use]
    pub fn pool(&self) -> Option<u32> {
        let alone = self.sampled?.pool()?;
        let known = u32::try_from(self.known).unwrap_or(u32::MAX);
        let covered = self.covered().filter(|_| self.compared && self.newest_samples().is_some());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and `as` saturates")]
        Some(covered.map_or(alone, |covered| (f64::from(known) / covered).round() as u32))
    }

    /// The share of new connections that go to a known address, from 0 to 1. `None` where nothing tells.
    ///
    /// Samples are a second look at the pool: what they do not cover by themselves is missed only as far as it was not
    /// known before either, and how much was known before shows in what came that was not. Old samples tell the size
    /// of the pool alone.
    #[must_use]
    pub fn covered(&self) -> Option<f64> {
        let sampled = self.sampled?;
        // The rule of succession: that nothing new came does not prove that nothing new can come.
        let fresh = if self.compared { share(self.fresh + 1, self.answered + 2) } else { 1.0 };
        if self.newest_samples().is_some() {
            return Some(1.0 - (1.0 - sampled.coverage()?) * fresh);
        }
        let pool = usize::try_from(sampled.pool()?).unwrap_or(usize::MAX);
        Some(share(self.known, pool).min(1.0).max(1.0 - fresh))
    }

    /// Why a rule by address cannot hold, the worse reason; `None` where nothing says so.
    #[must_use]
    pub fn missed(&self) -> Option<Missed> {
        let moving = Missed::Moving(share(self.fresh, self.answered.max(1)));
        let moving = Some(moving).filter(|_| self.fresh > 0 && self.arrivals >= ARRIVALS);
        let unseen = self.covered().map(|covered| Missed::Unseen(1.0 - covered));
        let bad = unseen.into_iter().chain(moving).filter(|missed| missed.share() > MISSED_MOST);
        bad.max_by(|a, b| a.share().total_cmp(&b.share()))
    }
}

/// A part of a whole, from 0 to 1.
fn share(part: usize, whole: usize) -> f64 {
    let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    number(part) / number(whole)
}

/// A share as a percentage for people.
#[must_use]
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent > 0.0 && percent < 1.0 => "under 1 %".to_owned(),
        percent if percent > 99.0 && percent < 100.0 => "over 99 %".to_owned(),
        percent => format!("{percent:.0} %"),
    }
}

/// Says which names a rule by address cannot hold. For sites that have a target by address; a name that is blocked for
/// clients that are denied by default is let through nowhere, and says nothing. `before` is the lock before the newest
/// run, where that is at hand.
pub fn judge(policy: &Policy, lock: &Lock, before: Option<&Lock>, findings: &mut Findings) {
    let limited = |origin| policy.clients.get(&origin).is_some_and(|client| client.default_deny);
    let mut said = BTreeSet::new();
    for decision in &policy.decisions {
        let bound = match decision.action {
            Action::Allow => decision.origins.iter().any(limited),
            Action::Deny => !decision.origins.iter().all(limited),
        };
        // What the site sends to its proxy, or nowhere, is in no rule by address.
        let by_address = |endpoint: &&Endpoint| {
            let choice = policy.shared.get(*endpoint).map(|shared| &shared.choice);
            decision.action == Action::Deny || !matches!(choice, Some(Choice::Proxy | Choice::Drop))
        };
        let endpoints = decision.endpoints.iter().filter(by_address);
        let queries = endpoints.filter_map(Endpoint::query).flat_map(|query| {
            let targets = lock.hosts.get(&query).into_iter().flat_map(|entry| &entry.targets);
            let targets: Vec<Query> = targets.map(|(host, _)| Query::Host(host.clone())).collect();
            std::iter::once(query).chain(targets)
        });
        for query in queries.filter(|_| bound) {
            let Some(entry) = lock.hosts.get(&query) else { continue };
            // What a vendor's list holds is held, whichever part of it DNS shows today.
            if decision.action == Action::Allow && policy.ranges.values().any(|range| range.is_for(&query)) {
                continue;
            }
            // A name that was not asked again was not held against anything.
            let before = before.and_then(|before| before.hosts.get(&query)).filter(|before| *before != entry);
            let coverage = Coverage::of(entry, lock.day, before);
            if let Some(missed) = coverage.missed().filter(|_| said.insert((query.clone(), decision.action))) {
                findings.push(warning(&query, &coverage, missed, decision.action));
            }
        }
    }
}

fn warning(query: &Query, coverage: &Coverage, missed: Missed, action: Action) -> Diagnostic {
    let known = coverage.known;
    let evidence = match missed {
        Missed::Unseen(_) => {
            format!("about {} addresses, {known} known", coverage.pool().unwrap_or_default())
        }
        Missed::Moving(_) => format!(
            "{} of the {} addresses of the newest answer were new, and new ones came on {} of the last {WINDOW_DAYS} days",
            coverage.fresh, coverage.answered, coverage.arrivals
        ),
    };
    let effect = match action {
        Action::Allow => "will deny",
        Action::Deny => "that blocks it will let through",
    };
    let rule = if matches!(missed, Missed::Moving(_)) { "a rule by address from before" } else { "a rule by address" };
    let share = percent(missed.share());
    let message = format!("`{query}`: {evidence}: {rule} {effect} about {share} of new connections");
    let help = match missed {
        Missed::Unseen(_) => {
            "take a target that goes by name (squid) for it, or sample more (`outgate resolve --samples 20 --spacing 60`)"
        }
        Missed::Moving(_) => {
            "take a target that goes by name (squid) for it, or resolve more often and with samples (`outgate resolve --samples 20 --spacing 60`)"
        }
    };
    Diagnostic::new(Code::LowCoverage, message).help(help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Seen;

    fn day(number: u8) -> Day {
        Day::parse(&format!("2026-11-{number:02}")).unwrap()
    }

    /// An entry asked on the 21st; each address with the day it came and, where it is kept, the day it went missing.
    fn entry(addresses: &[(u8, Option<u8>)], sampled: Option<Sampled>) -> Entry {
        let seen = |&(first, missing): &(u8, Option<u8>)| Seen {
            first: day(first),
            missing: missing.map(day),
            by: Default::default(),
        };
        let addresses = (1..).zip(addresses).map(|(n, seen_on)| (IpAddr::from([198, 51, 100, n]), seen(seen_on)));
        Entry { addresses: addresses.collect(), sampled, ..Entry::default() }
    }

    fn of(entry: &Entry) -> Coverage {
        Coverage::of(entry, day(21), None)
    }

    const HALF_SEEN: Sampled = Sampled { times: 10, addresses: 8, sightings: 16, once: 4, twice: 1 };

    #[test]
    fn nothing_is_claimed_without_evidence() {
        let quiet = of(&entry(&[(1, None), (1, None)], None));
        assert_eq!((quiet.pool(), quiet.covered(), quiet.missed()), (None, None, None));
        let first_run = of(&entry(&[(21, None), (21, None)], None));
        assert_eq!(
            (first_run.fresh, first_run.arrivals, first_run.missed()),
            (0, 0, None),
            "all is new on the first day"
        );
    }

    #[test]
    fn a_server_that_moved_is_no_pool_in_motion() {
        let moved = of(&entry(&[(1, Some(21)), (21, None)], None));
        assert_eq!((moved.fresh, moved.arrivals, moved.missed()), (1, 1, None));
        let twice = of(&entry(&[(1, Some(9)), (9, Some(21)), (21, None)], None));
        assert_eq!((twice.arrivals, twice.missed()), (2, None));
    }

    #[test]
    fn a_pool_that_brings_new_addresses_on_many_days_is_in_motion() {
        let moving = of(&entry(&[(1, Some(9)), (9, Some(20)), (20, None), (21, None)], None));
        assert_eq!((moving.answered, moving.fresh, moving.arrivals), (2, 1, 3));
        assert_eq!(moving.missed(), Some(Missed::Moving(0.5)));
        let calm = of(&entry(&[(1, Some(9)), (9, Some(20)), (19, None), (20, None)], None));
        assert_eq!(calm.missed(), None, "the newest answer held nothing new");
    }

    #[test]
    fn what_came_long_ago_does_not_count_as_motion() {
        let mut entry = entry(&[(1, None), (2, None), (3, None), (21, None)], None);
        entry.asked = Day::parse("2027-11-21");
        let today = |first| if first == day(21) { entry.asked.unwrap() } else { first };
        let addresses =
            entry.addresses.iter().map(|(addr, seen)| (addr, Seen { first: today(seen.first), ..seen.clone() }));
        entry.addresses = addresses.collect();
        assert_eq!((of(&entry).fresh, of(&entry).arrivals, of(&entry).missed()), (1, 1, None));
    }

    #[test]
    fn what_a_run_of_the_same_day_knew_is_not_new_to_the_next() {
        let entry = entry(&[(1, Some(9)), (9, Some(20)), (20, None), (21, None)], None);
        let known = Coverage::of(&entry, day(21), Some(&entry));
        assert_eq!((known.fresh, known.missed()), (0, None));
        let mut before = entry.clone();
        let without_last = entry.addresses.iter().take(3).map(|(addr, seen)| (addr, seen.clone()));
        before.addresses = without_last.collect();
        assert_eq!(Coverage::of(&entry, day(21), Some(&before)).missed(), Some(Missed::Moving(0.5)));
        assert_eq!(Coverage::of(&entry, day(21), Some(&Entry::default())).fresh, 0, "nothing was known");
    }

    #[test]
    fn samples_that_saw_half_of_the_pool_warn() {
        // Eight seen, four once, one twice: 8 + 9/10 · 16/2 = 15.
        let half = of(&entry(&[(21, None); 8], Some(HALF_SEEN)));
        assert_eq!(half.pool(), Some(15));
        let covered = half.covered().unwrap();
        assert!((covered - HALF_SEEN.coverage().unwrap()).abs() < 1e-9 && covered < 0.8, "{covered}");
        assert!(matches!(half.missed(), Some(Missed::Unseen(share)) if (share - (1.0 - covered)).abs() < 1e-9));
    }

    #[test]
    fn what_was_known_before_helps() {
        // Seven of the eight were known, and one was not: of a pool of which half is covered anew, 2/10 is missed.
        let mut addresses = vec![(1, None); 7];
        addresses.extend([(21, None), (1, Some(20)), (1, Some(20))]);
        let known = of(&entry(&addresses, Some(HALF_SEEN)));
        let missed = (1.0 - HALF_SEEN.coverage().unwrap()) * 0.2;
        assert!((known.covered().unwrap() - (1.0 - missed)).abs() < 1e-9);
        assert_eq!((known.known, known.pool(), known.missed()), (10, Some(10), None));
        let new_ones = of(&entry(
            &[
                (1, Some(20)),
                (1, None),
                (1, None),
                (21, None),
                (21, None),
                (21, None),
                (21, None),
                (21, None),
                (21, None),
            ],
            Some(HALF_SEEN),
        ));
        assert!(matches!(new_ones.missed(), Some(Missed::Unseen(share)) if share > 0.1), "{new_ones:?}");
    }

    #[test]
    fn old_samples_tell_the_size_of_the_pool_alone() {
        // The newest answer holds three addresses and the samples held eight: they are of another run.
        let left = of(&entry(&[(21, None); 3], Some(HALF_SEEN)));
        assert!((left.covered().unwrap() - 3.0 / 15.0).abs() < 1e-9);
        assert_eq!(left.pool(), Some(15));
        let mut addresses = vec![(1, Some(20)); 12];
        addresses.extend([(1, None); 3]);
        assert_eq!(of(&entry(&addresses, Some(HALF_SEEN))).covered(), Some(1.0), "all fifteen are known");
    }

    #[test]
    fn percentages_are_honest_at_the_ends() {
        let shares = [0.0, 0.004, 0.126, 0.999, 1.0];
        assert_eq!(shares.map(percent), ["0 %", "under 1 %", "13 %", "over 99 %", "100 %"]);
    }
}

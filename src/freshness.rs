//! How old the answers are that rules would be made of, and whether that is still good enough.
//!
//! A lock that was merged and then forgotten is the commonest way an allow-list fails. Each name has a budget of days;
//! from half of it on there is a warning, beyond it an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::day::Day;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::Query;
use crate::lock::{Lock, Wanted};
use crate::policy::Range;
use crate::resolve::{Failure, RecordType};
use crate::terms::Terms;
use crate::text::Id;

/// The age of what is known of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Age {
    /// The name.
    pub query: Query,
    /// The day of the newest good answer; where a lookup fails, the last day it may still have been good.
    pub of: Day,
    /// Days since then, never negative.
    pub days: i64,
    /// Days it may be old.
    pub max_age: u16,
    /// The lookup that has failed longest.
    pub failing: Option<(RecordType, Failure)>,
}

/// Too old to make a rule of.
fn is_stale(days: i64, max_age: u16) -> bool {
    days > max_age.into()
}

/// Past half of what it may be.
fn is_aging(days: i64, max_age: u16) -> bool {
    days * 2 > max_age.into()
}

impl Age {
    /// Too old to make a rule of.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        is_stale(self.days, self.max_age)
    }

    /// Past half of what it may be.
    #[must_use]
    pub fn is_aging(&self) -> bool {
        is_aging(self.days, self.max_age)
    }
}

/// The ages of all names that are needed and that the lock knows, in order.
#[must_use]
pub fn ages(wanted: &Wanted, lock: &Lock, today: Day) -> Vec<Age> {
    let age = |(query, terms): (Query, Arc<Terms>)| {
        let entry = lock.hosts.get(&query)?;
        let asked = entry.asked.unwrap_or(lock.day);
        let longest = entry.failed.iter().min_by_key(|(_, failed)| failed.since);
        let of = longest.map_or(asked, |(_, failed)| failed.since.min(asked));
        let failing = longest.map(|(kind, failed)| (*kind, failed.failure));
        Some(Age { query, of, days: today.days_since(of).max(0), max_age: terms.max_age, failing })
    };
    wanted.needed(lock).into_iter().filter_map(age).collect()
}

/// The age of what is known of one list of prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListAge {
    /// The list.
    pub id: Id,
    /// The day it was last read; where it cannot be read, the day that began.
    pub of: Day,
    /// Days since then, never negative.
    pub days: i64,
    /// Days it may be old.
    pub max_age: u16,
    /// It cannot be read.
    pub failing: bool,
}

impl ListAge {
    /// Too old to make a rule of.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        is_stale(self.days, self.max_age)
    }
}

/// The ages of all lists that are used and that the lock knows, in order.
#[must_use]
pub fn list_ages(wanted: &Wanted, lock: &Lock, today: Day) -> Vec<ListAge> {
    let age = |(id, range): (&Id, &Range)| {
        let entry = lock.ranges.get(id)?;
        let read = entry.read.unwrap_or(lock.day);
        let of = entry.failed.map_or(read, |failed| failed.min(read));
        let days = today.days_since(of).max(0);
        Some(ListAge { id: id.clone(), of, days, max_age: range.terms.max_age, failing: entry.failed.is_some() })
    };
    wanted.ranges.iter().filter_map(age).collect()
}

/// The same as [`judge`] for lists.
pub fn judge_lists(ages: &[ListAge], allow_stale: bool, findings: &mut Findings) {
    for age in ages.iter().filter(|age| is_aging(age.days, age.max_age)) {
        let ListAge { id, of, days, max_age, failing } = age;
        let stale = age.is_stale();
        let what = if *failing { "could not be read since" } else { "was last read on" };
        let limit = if stale { format!("more than {max_age}") } else { format!("of {max_age} it may be old") };
        let code = if stale && !allow_stale { Code::Stale } else { Code::Aging };
        let help = match (failing, stale && !allow_stale) {
            (true, _) => "look why; a list that is gone is taken out of `ranges` in the profile",
            (false, true) => "run `outgate resolve`, or allow it for this time with --allow-stale",
            (false, false) => "run `outgate resolve`",
        };
        findings.push(Diagnostic::new(code, format!("list `{id}` {what} {of}, {days} days ago: {limit}")).help(help));
    }
}

/// Says which names are too old and which soon will be. With `allow_stale` the first are a warning too.
pub fn judge(ages: &[Age], lock: &Lock, today: Day, allow_stale: bool, findings: &mut Findings) {
    if today.days_since(lock.day) < 0 {
        findings.push(
            Diagnostic::new(Code::Aging, format!("the lock is of {}, and today is {today}", lock.day))
                .help("its age cannot be told: is this machine's clock right?"),
        );
    }
    // Names that were asked together grow old together: one finding for all of them.
    let mut groups: BTreeMap<_, Vec<&Age>> = BTreeMap::new();
    for age in ages.iter().filter(|age| age.is_aging()) {
        let alone = age.failing.map(|_| &age.query);
        groups.entry((!age.is_stale(), age.of, age.max_age, alone)).or_default().push(age);
    }
    for ((_, of, max_age, _), group) in groups {
        let Some(first) = group.first() else { continue };
        let who = match (group.as_slice(), first.failing) {
            ([one], Some((kind, failure))) => format!("`{}` ({} {failure} since then)", one.query, kind.as_str()),
            ([one], None) => format!("`{}`", one.query),
            (many, _) => format!("{} names", many.len()),
        };
        let days = first.days;
        let (code, message) = if first.is_stale() {
            let code = if allow_stale { Code::Aging } else { Code::Stale };
            (code, format!("the answers for {who} are of {of}, {days} days ago: more than {max_age}"))
        } else {
            (Code::Aging, format!("the answers for {who} are of {of}, {days} days ago: of {max_age} they may be old"))
        };
        let help = match first.failing {
            Some(_) => {
                "look why the lookup fails; a name that is gone wants `on-failure` in the profile, or `leave-out`"
            }
            None if first.is_stale() && !allow_stale => {
                "run `outgate resolve`, or allow it for this time with --allow-stale"
            }
            None => "run `outgate resolve`",
        };
        findings.push(Diagnostic::new(code, message).help(help));
    }
}

//! On what terms the answers for a name are believed: what they may hold, how long they last, what a failure means.
//!
//! The narrower word holds: what the profile says of a host, then what it says of all, then what the catalog's entry
//! asks for, then the built-in terms.

use std::collections::{BTreeMap, BTreeSet};

use crate::addrs::SpecialUse;
use crate::resolve::Failure;

/// Days an address stays allowed after it was last answered, unless somebody says otherwise. Longer than a client
/// holds an answer, and longer than a fortnight's holiday.
pub const KEEP_DAYS: u16 = 14;
/// Most days that may be.
pub const KEEP_DAYS_MOST: u16 = 366;
/// Days an answer may be old before no rule is made of it, unless somebody says otherwise.
pub const MAX_AGE: u16 = 30;
/// Most days that may be.
pub const MAX_AGE_MOST: u16 = 3650;
/// Most addresses one run may find for a name, unless somebody says otherwise. The largest anycast sets have some
/// dozens; several resolvers and samples together see more.
pub const MOST: u16 = 256;
/// Most that may be.
pub const MOST_MOST: u16 = 4096;

/// What becomes of the addresses a name had when a lookup of it fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reaction {
    /// They leave the lock at once.
    Drop,
    /// They stand until they are too old.
    #[default]
    Keep,
    /// The whole run fails, and the lock is as it was.
    Fail,
}

impl Reaction {
    /// Every reaction with its word, in the order of the documentation.
    pub const NAMES: [(&'static str, Self); 3] = [("keep", Self::Keep), ("drop", Self::Drop), ("fail", Self::Fail)];

    /// What it does, for an editor.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Keep => "The addresses stand until they are older than `max-age`.",
            Self::Drop => "The addresses leave the lock at once.",
            Self::Fail => "The whole run fails, and the lock is as it was.",
        }
    }
}

/// The terms for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Kinds of address that are believed though no public name could have them.
    pub special: BTreeSet<SpecialUse>,
    /// Addresses in the clients' own prefixes are believed: the name is of the site's own network.
    pub own_network: bool,
    /// Days an address stays after it was last answered.
    pub keep_days: u16,
    /// Days the newest good answer may be old.
    pub max_age: u16,
    /// Most addresses one run may find.
    pub most: u16,
    /// What a failure does, where it is not to keep what was known.
    pub on_failure: BTreeMap<Failure, Reaction>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            special: BTreeSet::new(),
            own_network: false,
            keep_days: KEEP_DAYS,
            max_age: MAX_AGE,
            most: MOST,
            on_failure: BTreeMap::new(),
        }
    }
}

/// What somebody says of the terms; what is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// See [`Terms::special`]; added to what is believed already.
    pub special: BTreeSet<SpecialUse>,
    /// See [`Terms::keep_days`].
    pub keep_days: Option<u16>,
    /// See [`Terms::max_age`].
    pub max_age: Option<u16>,
    /// See [`Terms::most`].
    pub most: Option<u16>,
    /// See [`Terms::on_failure`].
    pub on_failure: BTreeMap<Failure, Reaction>,
}

impl Terms {
    /// The terms after somebody nearer to the name has spoken.
    #[must_use]
    pub fn with(mut self, wishes: &Wishes) -> Self {
        self.special.extend(&wishes.special);
        self.keep_days = wishes.keep_days.unwrap_or(self.keep_days);
        self.max_age = wishes.max_age.unwrap_or(self.max_age);
        self.most = wishes.most.unwrap_or(self.most);
        self.on_failure.extend(&wishes.on_failure);
        self
    }

    /// The terms of a name that two callouts lead to. Two entries cannot see two answers, so it is believed by whoever
    /// believes it most, kept for whoever needs it longest, and as fresh and as sound as the stricter wants it.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.special.extend(&other.special);
        self.own_network |= other.own_network;
        self.keep_days = self.keep_days.max(other.keep_days);
        self.max_age = self.max_age.min(other.max_age);
        self.most = self.most.max(other.most);
        self.on_failure = Failure::ALL
            .iter()
            .map(|&failure| (failure, self.reaction(failure).max(other.reaction(failure))))
            .filter(|(_, reaction)| *reaction != Reaction::default())
            .collect();
        self
    }

    /// What a failure does.
    #[must_use]
    pub fn reaction(&self, failure: Failure) -> Reaction {
        self.on_failure.get(&failure).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_word_holds() {
        let site = Wishes { keep_days: Some(7), max_age: Some(10), ..Wishes::default() };
        let host = Wishes { keep_days: Some(0), special: [SpecialUse::Private].into(), ..Wishes::default() };
        let terms = Terms::default().with(&site).with(&host);
        assert_eq!((terms.keep_days, terms.max_age, terms.most), (0, 10, MOST));
        assert!(terms.special.contains(&SpecialUse::Private));
    }

    #[test]
    fn of_two_callouts_neither_is_let_down() {
        let drop = Terms { on_failure: [(Failure::NxDomain, Reaction::Drop)].into(), ..Terms::default() };
        let on_failure = [(Failure::NxDomain, Reaction::Drop), (Failure::Bogus, Reaction::Fail)].into();
        let fail = Terms { keep_days: 30, max_age: 3, on_failure, ..Terms::default() };
        let both = drop.clone().and(&fail);
        assert_eq!((both.keep_days, both.max_age), (30, 3));
        assert_eq!(both.reaction(Failure::NxDomain), Reaction::Drop);
        assert_eq!(both.reaction(Failure::Bogus), Reaction::Fail);
        let kept = drop.and(&Terms::default());
        assert_eq!(kept.reaction(Failure::NxDomain), Reaction::Keep, "one of the two wants it kept");
    }
}

//! A set of origins: a word each of four, so one byte holds them, and a rule has no tree of its own for them.

use std::cmp::Ordering;

use super::Origin;

/// Who opens a connection: none, some or all of [`Origin::ALL`]. In order as the list of them is.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Origins(u8);

/// A bit for each.
const _: () = assert!(Origin::ALL.len() <= 8);

impl Origins {
    const fn bit(origin: Origin) -> u8 {
        1 << origin as u8
    }

    /// Adds one. Says whether it was not there.
    pub fn insert(&mut self, origin: Origin) -> bool {
        let before = self.0;
        self.0 |= Self::bit(origin);
        self.0 != before
    }

    /// Whether one is among them.
    #[must_use]
    pub const fn contains(self, origin: Origin) -> bool {
        self.0 & Self::bit(origin) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether none is in both.
    #[must_use]
    pub const fn is_disjoint(self, other: Self) -> bool {
        self.0 & other.0 == 0
    }

    /// Each of them, in the order of [`Origin::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Origin> {
        Origin::ALL.iter().copied().filter(move |&origin| self.contains(origin))
    }
}

impl FromIterator<Origin> for Origins {
    fn from_iter<I: IntoIterator<Item = Origin>>(origins: I) -> Self {
        Self(origins.into_iter().fold(0, |all, origin| all | Self::bit(origin)))
    }
}

impl<const N: usize> From<[Origin; N]> for Origins {
    fn from(origins: [Origin; N]) -> Self {
        origins.into_iter().collect()
    }
}

impl PartialOrd for Origins {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Origins {
    fn cmp(&self, other: &Self) -> Ordering {
        // The first that only one of them has decides: the other goes on with a later one, or is over.
        let first = (self.0 ^ other.0) & (self.0 ^ other.0).wrapping_neg();
        let (goes_on, order) =
            if self.0 & first != 0 { (other.0 > first, Ordering::Less) } else { (self.0 > first, Ordering::Greater) };
        match first {
            0 => Ordering::Equal,
            _ if goes_on => order,
            _ => order.reverse(),
        }
    }
}

impl std::fmt::Debug for Origins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_is_the_set_it_stands_for() {
        let all: Vec<BTreeSet<Origin>> = (0..1_u32 << Origin::ALL.len())
            .map(|bits| Origin::ALL.iter().copied().filter(|&origin| bits >> origin as u32 & 1 == 1).collect())
            .collect();
        let of = |set: &BTreeSet<Origin>| set.iter().copied().collect::<Origins>();
        for a in &all {
            assert!(of(a).iter().eq(a.iter().copied()));
            assert_eq!(of(a).is_empty(), a.is_empty());
            for &origin in Origin::ALL {
                let (mut set, mut more) = (of(a), a.clone());
                assert_eq!((set.contains(origin), set.insert(origin)), (a.contains(&origin), more.insert(origin)));
                assert_eq!(set, of(&more));
            }
            for b in &all {
                assert_eq!((of(a).cmp(&of(b)), of(a).is_disjoint(of(b))), (a.cmp(b), a.is_disjoint(b)));
            }
        }
    }
}

//! The addresses of a name, each with its history.

use std::collections::BTreeMap;
use std::iter::once;
use std::net::IpAddr;

use super::Seen;

/// Addresses in order, each with its history. Most names have many addresses of one history, so a history stands once
/// for all neighbours that have it. With a map of addresses, which holds one for each, `outgate diff` of two locks of a
/// million addresses each took 1.3 times the time, and twice the memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// In order, none twice.
    all: Vec<IpAddr>,
    /// Histories in the order of the addresses, each with the place in `all` where its addresses end. None is of no
    /// address, and no two neighbours are alike: so what is equal is equal in every field.
    histories: Vec<(usize, Seen)>,
}

impl Addresses {
    /// Of addresses that are in order, and of their histories as they are kept here.
    pub(super) fn of_histories(all: &[IpAddr], histories: Vec<(usize, Seen)>) -> Self {
        debug_assert!(all.is_sorted_by(|a, b| a < b));
        debug_assert!(histories.is_sorted_by(|a, b| a.0 < b.0 && a.1 != b.1));
        debug_assert_eq!(histories.last().map_or(0, |(end, _)| *end), all.len());
        Self { all: all.to_vec(), histories }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The addresses, in order.
    pub fn keys(&self) -> std::slice::Iter<'_, IpAddr> {
        self.all.iter()
    }

    /// The history of each address, in their order.
    pub fn values(&self) -> impl Iterator<Item = &Seen> {
        self.iter().map(|(_, seen)| seen)
    }

    /// Each address with its history, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&IpAddr, &Seen)> {
        let begins = once(0).chain(self.histories.iter().map(|(end, _)| *end));
        let each = begins.zip(&self.histories);
        each.flat_map(|(begin, (end, seen))| self.all[begin..*end].iter().map(move |addr| (addr, seen)))
    }

    /// Whether an address is among them.
    #[must_use]
    pub fn contains_key(&self, addr: &IpAddr) -> bool {
        self.all.binary_search(addr).is_ok()
    }

    /// The history of an address.
    #[must_use]
    pub fn get(&self, addr: &IpAddr) -> Option<&Seen> {
        let at = self.all.binary_search(addr).ok()?;
        let history = self.histories.partition_point(|(end, _)| *end <= at);
        self.histories.get(history).map(|(_, seen)| seen)
    }

    /// Puts an address in, in place of the same one with another history. Quick for what comes in order: one that comes
    /// before another costs as much as all.
    pub fn insert(&mut self, addr: IpAddr, seen: Seen) {
        if self.all.last().is_some_and(|last| *last >= addr) {
            let before = self.iter().map(|(addr, seen)| (*addr, seen.clone()));
            *self = before.chain([(addr, seen)]).collect();
            return;
        }
        self.all.push(addr);
        match self.histories.last_mut() {
            Some((end, last)) if *last == seen => *end += 1,
            _ => self.histories.push((self.all.len(), seen)),
        }
    }
}

/// Of an address that comes twice the last history stands.
impl FromIterator<(IpAddr, Seen)> for Addresses {
    fn from_iter<T: IntoIterator<Item = (IpAddr, Seen)>>(addresses: T) -> Self {
        let in_order: BTreeMap<IpAddr, Seen> = addresses.into_iter().collect();
        let mut all = Self::default();
        for (addr, seen) in in_order {
            all.insert(addr, seen);
        }
        all.all.shrink_to_fit();
        all.histories.shrink_to_fit();
        all
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::day::Day;

    fn seen(number: u8) -> Seen {
        Seen { first: Day::parse(&format!("2026-11-{:02}", 1 + number)).unwrap(), missing: None, by: Arc::default() }
    }

    proptest! {
        #[test]
        fn they_are_what_a_map_of_them_is(
            pairs in prop::collection::vec((0_u8..24, 0_u8..3), 0..40),
            split in any::<prop::sample::Index>(),
        ) {
            let pairs: Vec<(IpAddr, Seen)> = pairs
                .into_iter()
                .map(|(addr, day)| (if addr < 12 { IpAddr::V4(u32::from(addr).into()) } else { IpAddr::V6(u128::from(addr).into()) }, seen(day)))
                .collect();
            let map: BTreeMap<IpAddr, Seen> = pairs.iter().cloned().collect();
            let all: Addresses = pairs.iter().cloned().collect();
            // Some at once and the others one by one come to the same.
            let (some, others) = pairs.split_at(split.index(pairs.len() + 1));
            let mut grown: Addresses = some.iter().cloned().collect();
            for (addr, seen) in others {
                grown.insert(*addr, seen.clone());
            }
            prop_assert_eq!(&grown, &all);
            prop_assert_eq!(Addresses::of_histories(&all.all, all.histories.clone()), all.clone());
            prop_assert!(all.iter().eq(&map) && all.keys().eq(map.keys()) && all.values().eq(map.values()));
            prop_assert_eq!((all.len(), all.is_empty()), (map.len(), map.is_empty()));
            for addr in (0..24_u8).flat_map(|addr| [IpAddr::V4(u32::from(addr).into()), IpAddr::V6(u128::from(addr).into())]) {
                prop_assert_eq!(all.get(&addr), map.get(&addr));
                prop_assert_eq!(all.contains_key(&addr), map.contains_key(&addr));
            }
        }
    }
}

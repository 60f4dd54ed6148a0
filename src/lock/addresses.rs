//! The addresses of a name, each with its history.

use std::collections::BTreeMap;
use std::iter::once;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::Seen;

/// Addresses in order, each with its history. Most addresses of a name have one history, so it stands once for all
/// neighbours that have it. With a map, which holds one for each, `outgate diff` of two locks of a million addresses each
/// took a quarter more time and 80 MB more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// In order, none twice.
    v4: Vec<Ipv4Addr>,
    /// Likewise; their places go on behind those of IPv4.
    v6: Vec<Ipv6Addr>,
    /// Histories in the order of the addresses, each with the place where its addresses end. None is of no address, and
    /// no two neighbours are alike: so what is equal is equal in every field.
    histories: Vec<(usize, Seen)>,
}

impl Addresses {
    /// Of addresses that are in order, and of their histories as they are kept here.
    pub(super) fn of_histories(v4: &[Ipv4Addr], v6: &[Ipv6Addr], histories: Vec<(usize, Seen)>) -> Self {
        debug_assert!(v4.is_sorted_by(|a, b| a < b) && v6.is_sorted_by(|a, b| a < b));
        debug_assert!(histories.is_sorted_by(|a, b| a.0 < b.0 && a.1 != b.1));
        debug_assert_eq!(histories.last().map_or(0, |(end, _)| *end), v4.len() + v6.len());
        Self { v4: v4.to_vec(), v6: v6.to_vec(), histories }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The addresses, in order.
    pub fn keys(&self) -> impl Iterator<Item = IpAddr> {
        self.at(0..self.len())
    }

    /// The history of each address, in their order.
    pub fn values(&self) -> impl Iterator<Item = &Seen> {
        self.iter().map(|(_, seen)| seen)
    }

    /// Each address with its history, in order.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &Seen)> {
        self.by_history().flat_map(|(seen, places)| self.at(places).map(move |addr| (addr, seen)))
    }

    /// The addresses that the newest answer lacks, in order.
    pub fn missing(&self) -> impl Iterator<Item = IpAddr> {
        self.by_history().filter(|(seen, _)| seen.missing.is_some()).flat_map(|(_, places)| self.at(places))
    }

    /// Whether an address is among them.
    #[must_use]
    pub fn contains_key(&self, addr: &IpAddr) -> bool {
        self.place(addr).is_some()
    }

    /// The history of an address.
    #[must_use]
    pub fn get(&self, addr: &IpAddr) -> Option<&Seen> {
        let place = self.place(addr)?;
        let history = self.histories.partition_point(|(end, _)| *end <= place);
        self.histories.get(history).map(|(_, seen)| seen)
    }

    /// Puts an address in, in place of the same one with another history. Quick for what comes in order: one that comes
    /// before another costs as much as all.
    pub fn insert(&mut self, addr: IpAddr, seen: Seen) {
        match addr {
            IpAddr::V4(addr) if self.v6.is_empty() && self.v4.last().is_none_or(|last| *last < addr) => {
                self.v4.push(addr);
            }
            IpAddr::V6(addr) if self.v6.last().is_none_or(|last| *last < addr) => self.v6.push(addr),
            _ => {
                let before = self.iter().map(|(addr, seen)| (addr, seen.clone()));
                *self = before.chain([(addr, seen)]).collect();
                return;
            }
        }
        let all = self.len();
        match self.histories.last_mut() {
            Some((end, last)) if *last == seen => *end = all,
            _ => self.histories.push((all, seen)),
        }
    }

    /// Each history with the places of its addresses.
    fn by_history(&self) -> impl Iterator<Item = (&Seen, Range<usize>)> {
        let begins = once(0).chain(self.histories.iter().map(|(end, _)| *end));
        begins.zip(&self.histories).map(|(begin, (end, seen))| (seen, begin..*end))
    }

    /// The addresses at some places.
    fn at(&self, places: Range<usize>) -> impl Iterator<Item = IpAddr> {
        let Range { start, end } = places;
        let behind = self.v4.len();
        let v4 = &self.v4[start.min(behind)..end.min(behind)];
        let v6 = &self.v6[start.saturating_sub(behind)..end.saturating_sub(behind)];
        v4.iter().copied().map(IpAddr::V4).chain(v6.iter().copied().map(IpAddr::V6))
    }

    fn place(&self, addr: &IpAddr) -> Option<usize> {
        match addr {
            IpAddr::V4(addr) => self.v4.binary_search(addr).ok(),
            IpAddr::V6(addr) => self.v6.binary_search(addr).ok().map(|place| self.v4.len() + place),
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
        all.v4.shrink_to_fit();
        all.v6.shrink_to_fit();
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
        let day = |number| Day::parse(&format!("2026-11-{:02}", 1 + number)).unwrap();
        Seen { first: day(number), missing: (number == 2).then(|| day(9)), by: Arc::default() }
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
            prop_assert_eq!(Addresses::of_histories(&all.v4, &all.v6, all.histories.clone()), all.clone());
            prop_assert!(all.iter().eq(map.iter().map(|(addr, seen)| (*addr, seen))));
            prop_assert!(all.keys().eq(map.keys().copied()) && all.values().eq(map.values()));
            let missing = map.iter().filter(|(_, seen)| seen.missing.is_some()).map(|(addr, _)| *addr);
            prop_assert!(all.missing().eq(missing));
            prop_assert_eq!((all.len(), all.is_empty()), (map.len(), map.is_empty()));
            for addr in (0..24_u8).flat_map(|addr| [IpAddr::V4(u32::from(addr).into()), IpAddr::V6(u128::from(addr).into())]) {
                prop_assert_eq!(all.get(&addr), map.get(&addr));
                prop_assert_eq!(all.contains_key(&addr), map.contains_key(&addr));
            }
        }
    }
}

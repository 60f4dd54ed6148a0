//! Which of many sets hold an address, found by one search however many sets there are.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::slice;

use super::{AddrSet, Bits};

/// Sets by number, turned around: from each address on, the numbers of the sets that hold what follows.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    v4: Vec<(u32, Group)>,
    /// For each first half of an IPv4 address how many edges lie before it; none where there are few edges.
    halves: Vec<usize>,
    v6: Vec<(u128, Group)>,
    /// The groups of one set: each number by itself.
    singles: Vec<u32>,
    /// The others; the empty one first.
    groups: Vec<Vec<u32>>,
}

/// A place among the groups of sets: the singles, and behind them the others. Most addresses are in one set or none, and need
/// no search.
type Group = u32;

impl Holders {
    /// Turns sets around; the first has number 0.
    #[must_use]
    pub fn of<'a>(sets: impl IntoIterator<Item = Cow<'a, AddrSet>>) -> Self {
        let sets = sets.into_iter();
        // Mostly a range of each family.
        let edges = 2 * sets.size_hint().0;
        let (mut v4, mut v6, mut number) = (Vec::with_capacity(edges), Vec::with_capacity(edges), 0);
        for set in sets {
            add_edges(set.v4(), number, &mut v4);
            add_edges(set.v6(), number, &mut v6);
            number = number.saturating_add(1);
        }
        let mut groups = Groups { singles: number, all: vec![Vec::new()], known: HashMap::new() };
        let v4 = sweep(v4, &mut groups);
        let v6 = sweep(v6, &mut groups);
        let halves = if v4.len() < HALVES_FROM { Vec::new() } else { halves(&v4) };
        Self { v4, halves, v6, singles: (0..groups.singles).collect(), groups: groups.all }
    }

    /// The numbers of the sets that hold the address, in order.
    #[must_use]
    pub fn at(&self, addr: IpAddr) -> &[u32] {
        let group = match addr {
            IpAddr::V4(addr) => self.last_before_v4(addr.into()),
            IpAddr::V6(addr) => last_before(&self.v6, addr.into()),
        };
        let Some(group) = group.and_then(|group| usize::try_from(group).ok()) else { return &[] };
        match self.singles.get(group) {
            Some(only) => slice::from_ref(only),
            None => self.groups.get(group - self.singles.len()).map_or(&[], Vec::as_slice),
        }
    }

    fn last_before_v4(&self, addr: u32) -> Option<Group> {
        let half = half_of(addr);
        let (Some(&from), Some(&to)) = (self.halves.get(half), self.halves.get(half + 1)) else {
            return last_before(&self.v4, addr);
        };
        // The last of those before them goes on into this half.
        last_before(self.v4.get(from.saturating_sub(1)..to)?, addr)
    }
}

/// From so many edges on, a search begins in its half of the addresses: over all of them it waits for memory at every step.
const HALVES_FROM: usize = 1 << 12;

fn half_of(addr: u32) -> usize {
    usize::try_from(addr >> 16).unwrap_or(usize::MAX)
}

fn halves(edges: &[(u32, Group)]) -> Vec<usize> {
    let mut halves = Vec::with_capacity((1 << 16) + 1);
    for (number, &(first, _)) in edges.iter().enumerate() {
        if half_of(first) >= halves.len() {
            halves.resize(half_of(first) + 1, number);
        }
    }
    halves.resize((1 << 16) + 1, edges.len());
    halves
}

fn last_before<T: Bits>(edges: &[(T, Group)], addr: T) -> Option<Group> {
    let after = edges.partition_point(|&(first, _)| first <= addr);
    after.checked_sub(1).and_then(|at| edges.get(at)).map(|&(_, group)| group)
}

/// Where a set begins, and where it has ended; with its number.
type Edge<T> = (T, bool, u32);

fn add_edges<T: Bits>(ranges: &[(T, T)], number: u32, edges: &mut Vec<Edge<T>>) {
    for &(first, last) in ranges {
        edges.push((first, true, number));
        // Behind the last address there is nothing to look up.
        edges.extend(last.next().map(|next| (next, false, number)));
    }
}

/// Goes over the edges of all ranges in order, with the sets that are open at each.
fn sweep<T: Bits>(mut edges: Vec<Edge<T>>, groups: &mut Groups) -> Vec<(T, Group)> {
    // The edges of each set are in order. This sort sees that and merges them, which of a few sets is quicker. What begins or
    // ends at one address may do so in any order: no set does both.
    edges.sort_by_key(|&(at, ..)| at);
    // The numbers in order. Mostly there are none, one or two: without a tree, and sorted so, 75,000 prefixes take 16 in place
    // of 63 million instructions.
    let mut open: Vec<u32> = Vec::new();
    let mut out: Vec<(T, Group)> = Vec::with_capacity(edges.len());
    let mut rest = edges.iter().peekable();
    while let Some(&(at, begins, number)) = rest.next() {
        match (open.binary_search(&number), begins) {
            (Err(place), true) => open.insert(place, number),
            (Ok(place), false) => _ = open.remove(place),
            _ => {}
        }
        if rest.peek().is_none_or(|(next, ..)| *next != at) {
            out.push((at, groups.number_of(&open)));
        }
    }
    out
}

/// Groups of sets, each kept once.
struct Groups {
    /// How many have one set.
    singles: Group,
    all: Vec<Vec<u32>>,
    known: HashMap<Vec<u32>, Group>,
}

impl Groups {
    fn number_of(&mut self, open: &[u32]) -> Group {
        match *open {
            [] => self.singles,
            [only] => only,
            _ => match self.known.get(open) {
                Some(&group) => group,
                None => {
                    let next = self.singles.saturating_add(count(self.all.len()));
                    self.all.push(open.to_vec());
                    self.known.insert(open.to_vec(), next);
                    next
                }
            },
        }
    }
}

fn count(n: usize) -> Group {
    Group::try_from(n).unwrap_or(Group::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::IpNet;
    use proptest::prelude::*;

    #[test]
    fn many_edges_are_found_by_halves_of_addresses() {
        // Some begin and end at the border of a half, some hold many halves, and the last of all is held.
        let mut sets: Vec<AddrSet> = vec![AddrSet::new(); 3];
        let mut state = 1_u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(state >> 32).unwrap()
        };
        for set in &mut sets {
            let nets = (0..4000).map(|_| {
                let length = [13, 16, 17, 24, 32, 32][next() as usize % 6];
                ipnet::IpNet::new(IpAddr::V4(next().into()), length).unwrap().trunc()
            });
            *set = nets.chain(["255.255.255.255/32".parse().unwrap()]).collect();
        }
        let holders = Holders::of(sets.iter().map(Cow::Borrowed));
        assert!(!holders.halves.is_empty());
        let ends = holders.v4.iter().flat_map(|&(first, _)| [first, first.wrapping_sub(1), first.wrapping_add(1)]);
        let borders = (0..=u16::MAX).flat_map(|half| [u32::from(half) << 16, u32::from(half) << 16 | 0xffff]);
        for addr in ends.chain(borders) {
            let addr = IpAddr::V4(addr.into());
            let slow: Vec<u32> = (0..).zip(&sets).filter(|(_, set)| set.contains(addr)).map(|(n, _)| n).collect();
            assert_eq!(holders.at(addr), slow.as_slice(), "{addr}");
        }
    }

    proptest! {
        #[test]
        fn they_are_the_sets_that_contain_the_address(
            sets in prop::collection::vec(prop::collection::vec((any::<bool>(), any::<u8>(), 0_u8..=8), 0..6), 0..6),
        ) {
            // The lowest and highest 256 addresses of both families: both ends of the number line are met.
            let net = |(top, low, free): (bool, u8, u8)| -> [IpNet; 2] {
                let low = low & 0xff_u8.checked_shl(free.into()).unwrap_or(0);
                let v4 = if top { u32::MAX - 255 } else { 0 } + u32::from(low);
                let v6 = if top { u128::MAX - 255 } else { 0 } + u128::from(low);
                [IpNet::new(IpAddr::V4(v4.into()), 32 - free).unwrap(), IpNet::new(IpAddr::V6(v6.into()), 128 - free).unwrap()]
            };
            let sets: Vec<AddrSet> = sets.into_iter().map(|nets| nets.into_iter().flat_map(net).collect()).collect();
            let holders = Holders::of(sets.iter().map(Cow::Borrowed));
            for i in 0..=255_u32 {
                let addrs: [IpAddr; 4] = [
                    IpAddr::V4(i.into()),
                    IpAddr::V4((u32::MAX - i).into()),
                    IpAddr::V6(u128::from(i).into()),
                    IpAddr::V6((u128::MAX - u128::from(i)).into()),
                ];
                for addr in addrs {
                    let slow: Vec<u32> = (0..).zip(&sets).filter(|(_, set)| set.contains(addr)).map(|(n, _)| n).collect();
                    prop_assert_eq!(holders.at(addr), slow.as_slice(), "{}", addr);
                }
            }
        }
    }
}

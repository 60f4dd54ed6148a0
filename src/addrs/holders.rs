//! Which of many sets hold an address, found by one search however many sets there are.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::{AddrSet, Bits, Ranges};

/// Sets by number, turned around: from each address on, the numbers of the sets that hold what follows.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    v4: Vec<(u32, Group)>,
    v6: Vec<(u128, Group)>,
    groups: Vec<Vec<u32>>,
}

/// A place among the groups of sets.
type Group = u32;

impl Holders {
    /// Turns sets around; the first has number 0.
    #[must_use]
    pub fn of(sets: &[&AddrSet]) -> Self {
        let mut groups = Groups::new(sets.len());
        let v4 = sweep(sets.iter().map(|set| &set.v4), &mut groups);
        let v6 = sweep(sets.iter().map(|set| &set.v6), &mut groups);
        Self { v4, v6, groups: groups.all }
    }

    /// The numbers of the sets that hold the address, in order.
    #[must_use]
    pub fn at(&self, addr: IpAddr) -> &[u32] {
        let group = match addr {
            IpAddr::V4(addr) => last_before(&self.v4, addr.into()),
            IpAddr::V6(addr) => last_before(&self.v6, addr.into()),
        };
        group.and_then(|group| self.groups.get(usize::try_from(group).ok()?)).map_or(&[], Vec::as_slice)
    }
}

fn last_before<T: Bits>(edges: &[(T, Group)], addr: T) -> Option<Group> {
    let after = edges.partition_point(|&(first, _)| first <= addr);
    after.checked_sub(1).and_then(|at| edges.get(at)).map(|&(_, group)| group)
}

/// Goes over the edges of all ranges in order, with the sets that are open at each.
fn sweep<'a, T: Bits + 'a>(sets: impl Iterator<Item = &'a Ranges<T>>, groups: &mut Groups) -> Vec<(T, Group)> {
    // Where a set begins and where it has ended, with its number.
    let mut edges: Vec<(T, bool, u32)> = Vec::new();
    for (number, ranges) in (0..).zip(sets) {
        for &(first, last) in ranges {
            edges.push((first, true, number));
            // Behind the last address there is nothing to look up.
            edges.extend(last.next().map(|next| (next, false, number)));
        }
    }
    edges.sort_unstable();
    let mut open = BTreeSet::new();
    let mut out: Vec<(T, Group)> = Vec::with_capacity(edges.len());
    let mut rest = edges.iter().peekable();
    while let Some(&(at, begins, number)) = rest.next() {
        if begins {
            open.insert(number);
        } else {
            open.remove(&number);
        }
        if rest.peek().is_none_or(|(next, ..)| *next != at) {
            out.push((at, groups.number_of(&open)));
        }
    }
    out
}

/// Groups of sets, each kept once.
struct Groups {
    all: Vec<Vec<u32>>,
    /// The empty one.
    none: Group,
    known: HashMap<Vec<u32>, Group>,
}

impl Groups {
    /// The groups of one set come first, and the empty one behind them: most addresses are in one set or none, and need no
    /// search.
    fn new(sets: usize) -> Self {
        let singles = (0..).take(sets).map(|number| vec![number]);
        let all: Vec<Vec<u32>> = singles.chain([Vec::new()]).collect();
        Self { none: count(sets), all, known: HashMap::new() }
    }

    fn number_of(&mut self, open: &BTreeSet<u32>) -> Group {
        match (open.len(), open.first()) {
            (1, Some(&only)) => only,
            (0, _) => self.none,
            _ => {
                let group: Vec<u32> = open.iter().copied().collect();
                let next = count(self.all.len());
                *self.known.entry(group).or_insert_with_key(|group| {
                    self.all.push(group.clone());
                    next
                })
            }
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
            let holders = Holders::of(&sets.iter().collect::<Vec<_>>());
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

//! A packet that opens a flow, what a file of rules says of it, and sets of addresses. Not `ipnet`: the judge shares no
//! code with the judged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::net::IpAddr;

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Proto {
    Tcp,
    Udp,
    /// ICMP, or ICMPv6 where the addresses are IPv6; with its type.
    Icmp(u8),
}

/// Where the enforcer meets the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Path {
    /// On its way through a router.
    Through,
    /// As it leaves the host that sends it.
    Own,
}

/// The interface a packet comes in by, or leaves by where its own host sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Interface {
    /// The one the rules are for.
    Ours,
    /// Another one.
    Other,
    /// Loopback.
    Loopback,
}

/// A packet that opens a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Packet {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) proto: Proto,
    pub(crate) source_port: u16,
    /// Destination port; of ICMP it means nothing.
    pub(crate) port: u16,
    /// Hop limit, or time to live.
    pub(crate) hops: u8,
    pub(crate) path: Path,
    pub(crate) interface: Interface,
}

impl Packet {
    /// Through a router, in by the clients' interface, from a port of no meaning.
    pub(crate) fn new(src: IpAddr, dst: IpAddr, proto: Proto, port: u16) -> Self {
        let (path, interface) = (Path::Through, Interface::Ours);
        Self { src, dst, proto, source_port: 40_000, port, hops: 64, path, interface }
    }

    pub(crate) fn is_v6(&self) -> bool {
        self.src.is_ipv6()
    }
}

impl Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { src, dst, proto, port, path, interface, .. } = self;
        write!(f, "{src} -> {dst} {proto:?} {port} ({path:?}, {interface:?})")
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fate {
    Pass,
    Block,
    /// No rule of the file is about it: others decide.
    Unmatched,
    /// The last rule that matched says pass or block, and rules of others that come later can undo it.
    Provisional(bool),
}

/// A fate, and the rule that decided it by the name it has in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) fate: Fate,
    pub(crate) by: String,
}

impl Verdict {
    pub(crate) fn new(fate: Fate, by: &str) -> Self {
        Self { fate, by: by.to_owned() }
    }

    pub(crate) fn unmatched() -> Self {
        Self::new(Fate::Unmatched, "")
    }
}

/// A file that was read.
pub(crate) trait Enforcer {
    /// What becomes of a packet.
    fn judge(&self, packet: &Packet) -> Verdict;
    /// Every set of addresses that decides.
    fn sets(&self) -> Vec<&Addrs>;
    /// Every range of ports that decides.
    fn ports(&self) -> Vec<(u16, u16)>;
    /// The rules without names, comments and descriptions: one line each, in order, sets written out.
    fn model(&self) -> Vec<String>;
}

/// A set of addresses of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addrs {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

/// An address as a number.
fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// A number as an address.
fn address(number: u128, v6: bool) -> IpAddr {
    if v6 { IpAddr::V6(number.into()) } else { IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()) }
}

/// Addresses that stand together: first, last, whether IPv6, and the prefix length (the full one for a range).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Net {
    first: u128,
    last: u128,
    v6: bool,
    length: u32,
}

impl Net {
    /// Reads `192.0.2.1` or `192.0.2.0/24`. Host bits are cleared, as pf, nft and OPNsense do.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (addr, length) = match text.split_once('/') {
            Some((addr, length)) => (addr, Some(length)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().ok()?;
        let full = if addr.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => full,
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok().filter(|n| *n <= full)?,
            Some(_) => return None,
        };
        let hosts = match full - length {
            128 => u128::MAX,
            n => (1 << n) - 1,
        };
        let first = number(addr) & !hosts;
        Some(Self { first, last: first | hosts, v6: addr.is_ipv6(), length })
    }

    /// Reads `192.0.2.1-192.0.2.9`.
    pub(crate) fn parse_range(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        let (first, last): (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
        let good = first.is_ipv4() == last.is_ipv4() && first <= last;
        let length = if first.is_ipv4() { 32 } else { 128 };
        good.then_some(Self { first: number(first), last: number(last), v6: first.is_ipv6(), length })
    }

    pub(crate) fn is_v6(&self) -> bool {
        self.v6
    }

    pub(crate) fn is_single(&self) -> bool {
        self.first == self.last
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.v6 == other.v6 && self.first <= other.last && other.first <= self.last
    }
}

impl Addrs {
    pub(crate) fn every() -> Self {
        Self { v4: vec![(0, u128::from(u32::MAX))], v6: vec![(0, u128::MAX)] }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub(crate) fn add(&mut self, net: Net) {
        self.remove(net);
        let list = if net.v6 { &mut self.v6 } else { &mut self.v4 };
        list.push((net.first, net.last));
        list.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::new();
        for &(first, last) in list.iter() {
            match merged.last_mut() {
                Some(before) if before.1.checked_add(1) == Some(first) => before.1 = last,
                _ => merged.push((first, last)),
            }
        }
        *list = merged;
    }

    pub(crate) fn remove(&mut self, net: Net) {
        let list = if net.v6 { &mut self.v6 } else { &mut self.v4 };
        let mut left = Vec::new();
        for &(first, last) in list.iter() {
            if last < net.first || first > net.last {
                left.push((first, last));
                continue;
            }
            if first < net.first {
                left.push((first, net.first - 1));
            }
            if last > net.last {
                left.push((net.last + 1, last));
            }
        }
        *list = left;
    }

    pub(crate) fn join(&mut self, other: &Self) {
        for (list, v6) in [(&other.v4, false), (&other.v6, true)] {
            for &(first, last) in list {
                self.add(Net { first, last, v6, length: 0 });
            }
        }
    }

    /// The set of entries of which the longest prefix that holds an address decides: a `!` in front takes it out.
    pub(crate) fn of_entries(mut entries: Vec<(Net, bool)>) -> Self {
        entries.sort_by_key(|(net, _)| net.length);
        let mut set = Self::default();
        for (net, negated) in entries {
            if negated { set.remove(net) } else { set.add(net) }
        }
        set
    }

    pub(crate) fn contains(&self, addr: IpAddr) -> bool {
        let (list, n) = (if addr.is_ipv4() { &self.v4 } else { &self.v6 }, number(addr));
        let at = list.partition_point(|&(first, _)| first <= n);
        at > 0 && list[at - 1].1 >= n
    }
}

impl Display for Addrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.v4.iter().map(|range| (range, false)).chain(self.v6.iter().map(|range| (range, true)));
        let texts: Vec<String> = ranges.map(|(&(a, b), v6)| format!("{}-{}", address(a, v6), address(b, v6))).collect();
        write!(f, "{{{}}}", texts.join(" "))
    }
}

/// One address for each way that the sets can hold an address: no rule over these sets can tell any other from it.
pub(crate) fn representatives(sets: &[&Addrs]) -> Vec<IpAddr> {
    let mut found: BTreeMap<(bool, Vec<bool>), IpAddr> = BTreeMap::new();
    for v6 in [false, true] {
        let max = if v6 { u128::MAX } else { u128::from(u32::MAX) };
        let mut starts = BTreeSet::from([0]);
        for set in sets {
            for &(first, last) in if v6 { &set.v6 } else { &set.v4 } {
                starts.insert(first);
                starts.extend(last.checked_add(1).filter(|n| *n <= max));
            }
        }
        for start in starts {
            let addr = address(start, v6);
            let held: Vec<bool> = sets.iter().map(|set| set.contains(addr)).collect();
            found.entry((v6, held)).or_insert(addr);
        }
    }
    found.into_values().collect()
}

/// One port for each way that the ranges can hold a port.
pub(crate) fn representative_ports(ranges: &[(u16, u16)]) -> Vec<u16> {
    let mut starts = BTreeSet::from([0]);
    for &(first, last) in ranges {
        starts.insert(first);
        starts.extend(last.checked_add(1));
    }
    let mut found: BTreeMap<Vec<bool>, u16> = BTreeMap::new();
    for port in starts {
        found.entry(ranges.iter().map(|&(a, b)| (a..=b).contains(&port)).collect()).or_insert(port);
    }
    found.into_values().collect()
}

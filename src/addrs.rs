//! Addresses and sets of addresses, both families always together.
//!
//! [`AddrSet`] is the algebra behind every rule that goes by address: sorted, disjoint, inclusive ranges. It never
//! widens: what comes out as prefixes is exactly what went in.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::slice;
use std::sync::{Arc, LazyLock};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub mod holders;
pub mod list;

/// Why a text is no address or prefix. The text of the error ends a sentence that began with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixError(String);

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PrefixError {}

/// Reads `192.0.2.10`, `192.0.2.0/24`, `2001:db8::10` or `2001:db8::/32`; a bare address is a prefix of one.
///
/// Stricter than `ipnet`'s own reader, which takes `010.0.0.1/8` and keeps host bits.
///
/// # Errors
/// Anything else; a prefix with host bits set (with the prefix that was probably meant); one that [`is_too_wide`], for
/// "any" is what no profile or catalog may say; IPv4-mapped IPv6, which never matches real traffic.
pub fn parse_prefix(text: &str) -> Result<IpNet, PrefixError> {
    let error = |what: &str| Err(PrefixError(what.to_owned()));
    let (addr, length) = match text.split_once('/') {
        Some((addr, length)) => (addr, Some(length)),
        None => (text, None),
    };
    let Some(addr) = list::read_one(addr) else {
        return error("is no IPv4 or IPv6 address or prefix, such as `192.0.2.10` or `2001:db8::/64`");
    };
    if is_mapped(addr) {
        return error("is an IPv4-mapped IPv6 address, which no packet carries; write the IPv4 address");
    }
    let Some(length) = length else { return Ok(addr.into()) };
    let full = if addr.is_ipv4() { 32 } else { 128 };
    let length = match length.parse::<u8>() {
        Ok(n) if n <= full && (length == "0" || !length.starts_with(['0', '+'])) => n,
        _ => return Err(PrefixError(format!("has no prefix length from 1 to {full} behind the `/`"))),
    };
    let Ok(net) = IpNet::new(addr, length) else {
        return error("has no such prefix length");
    };
    if is_too_wide(&net) {
        return error("is too wide to be meant: nothing wider than /8, or /16 for IPv6, can be named");
    }
    if net.trunc() != net {
        return Err(PrefixError(format!("has host bits set; write `{}` or a single address", net.trunc())));
    }
    Ok(net)
}

/// What [`parse_prefix`] makes of one address in a usual spelling; `None` for all else, and for what it refuses.
pub(crate) fn one_address(text: &str) -> Option<IpNet> {
    list::plain_one(text).filter(|addr| !is_mapped(*addr)).map(IpNet::from)
}

fn is_mapped(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(addr) if addr.to_ipv4_mapped().is_some())
}

/// Whether a prefix is wider than any client's network or vendor's range could be: it would mean "any".
#[must_use]
pub fn is_too_wide(net: &IpNet) -> bool {
    net.prefix_len() < if net.addr().is_ipv4() { 8 } else { 16 }
}

/// The prefixes of all these sets together that are [too wide](is_too_wide).
#[must_use]
pub fn too_wide<'a>(sets: impl Iterator<Item = &'a AddrSet> + Clone) -> Vec<IpNet> {
    // Together they are no more than one by one, and mostly that is too few: then nothing need be sorted or cut.
    let (v4, v6) = sets.clone().map(AddrSet::counts).fold((0_u128, 0_u128), |(v4, v6), (more_v4, more_v6)| {
        (v4.saturating_add(more_v4), v6.saturating_add(more_v6))
    });
    if v4 <= u128::from(u32::MAX >> 8) && v6 <= u128::MAX >> 16 {
        return Vec::new();
    }
    let all: AddrSet = sets.collect();
    let wide = AddrSet::of(
        all.v4().iter().copied().filter(|(first, last)| last - first >= u32::MAX >> 8).collect(),
        all.v6().iter().copied().filter(|(first, last)| last - first >= u128::MAX >> 16).collect(),
    );
    wide.prefixes().into_iter().filter(is_too_wide).collect()
}

/// An address as text; a whole-length prefix is written as the address alone.
#[must_use]
pub fn short(net: &IpNet) -> String {
    let mut text = String::new();
    list::push(&mut text, net);
    text
}

/// IPv4 blocks of special use, by the IANA special-purpose registries (RFC 6890 and its successors).
const SPECIAL_V4: &[(&str, SpecialUse)] = {
    use SpecialUse::{Documentation, LinkLocal, Loopback, Multicast, Private, Reserved, Transition};
    &[
        ("0.0.0.0/8", Reserved),
        ("10.0.0.0/8", Private),
        ("100.64.0.0/10", Private),
        ("127.0.0.0/8", Loopback),
        ("169.254.0.0/16", LinkLocal),
        ("172.16.0.0/12", Private),
        ("192.0.0.0/24", Reserved),
        ("192.0.2.0/24", Documentation),
        ("192.88.99.0/24", Transition),
        ("192.168.0.0/16", Private),
        ("198.18.0.0/15", Reserved),
        ("198.51.100.0/24", Documentation),
        ("203.0.113.0/24", Documentation),
        ("224.0.0.0/4", Multicast),
        ("240.0.0.0/4", Reserved),
    ]
};

/// The same for IPv6.
const SPECIAL_V6: &[(&str, SpecialUse)] = {
    use SpecialUse::{Documentation, LinkLocal, Loopback, Mapped, Multicast, Private, Reserved, Transition};
    &[
        ("::1/128", Loopback),
        ("::ffff:0:0/96", Mapped),
        ("::/96", Reserved),
        ("64:ff9b::/96", Transition),
        ("64:ff9b:1::/48", Transition),
        ("100::/64", Reserved),
        ("2001::/32", Transition),
        ("2001:2::/48", Reserved),
        ("2001:10::/28", Reserved),
        ("2001:20::/28", Reserved),
        ("2001:db8::/32", Documentation),
        ("2002::/16", Transition),
        ("3fff::/20", Documentation),
        ("5f00::/16", Reserved),
        ("fc00::/7", Private),
        ("fe80::/10", LinkLocal),
        ("fec0::/10", Private),
        ("ff00::/8", Multicast),
    ]
};

/// The tables as ranges of numbers. They are asked for every address of a lock, and numbers are compared
/// quicker than prefixes.
static SPECIAL_RANGES: LazyLock<(Kinds<u32>, Kinds<u128>)> = LazyLock::new(|| {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for &(net, kind) in SPECIAL_V4.iter().chain(SPECIAL_V6) {
        match net.parse() {
            Ok(IpNet::V4(net)) => v4.push((net.network().into(), net.broadcast().into(), kind)),
            Ok(IpNet::V6(net)) => v6.push((net.network().into(), net.broadcast().into(), kind)),
            Err(_) => {}
        }
    }
    (v4, v6)
});

/// First and last address of each block.
type Kinds<T> = Vec<(T, T, SpecialUse)>;

fn kind_of<T: Bits>(addr: T, kinds: &Kinds<T>) -> Option<SpecialUse> {
    kinds.iter().find(|&&(first, last, _)| first <= addr && addr <= last).map(|&(.., kind)| kind)
}

/// Global unicast IPv6; nothing else has been given out (RFC 4291, 2.4).
static GLOBAL_V6: LazyLock<Option<Ipv6Net>> = LazyLock::new(|| "2000::/3".parse().ok());

/// Why an address can never be where an Internet host is, by the IANA special-purpose registries
/// (RFC 6890 and its successors). `None` for ordinary unicast addresses.
#[must_use]
pub fn special_use(addr: IpAddr) -> Option<SpecialUse> {
    let (of_v4, of_v6) = &*SPECIAL_RANGES;
    match addr {
        IpAddr::V4(addr) => kind_of(addr.into(), of_v4),
        IpAddr::V6(addr) => {
            let global = || GLOBAL_V6.is_some_and(|net| net.contains(&addr));
            kind_of(addr.into(), of_v6).or_else(|| (!global()).then_some(SpecialUse::Reserved))
        }
    }
}

/// Every kind of special use that some address of a prefix has.
#[must_use]
pub fn special_uses(net: &IpNet) -> BTreeSet<SpecialUse> {
    let (of_v4, of_v6) = &*SPECIAL_RANGES;
    match net {
        IpNet::V4(net) => kinds_in(net.network().into(), net.broadcast().into(), of_v4),
        IpNet::V6(net) => {
            let kinds = kinds_in(net.network().into(), net.broadcast().into(), of_v6);
            // What no table holds may be of special use all the same, by its first address; only IPv6 has such blocks.
            let global = GLOBAL_V6.is_some_and(|global| global.contains(net));
            if global || !kinds.is_empty() { kinds } else { [SpecialUse::Reserved].into() }
        }
    }
}

fn kinds_in<T: Bits>(from: T, to: T, kinds: &Kinds<T>) -> BTreeSet<SpecialUse> {
    kinds.iter().filter(|&&(first, last, _)| first <= to && from <= last).map(|&(.., kind)| kind).collect()
}

/// Every address of special use. One look at it tells that a whole set has none.
#[must_use]
pub fn special_space() -> &'static AddrSet {
    static SPACE: LazyLock<AddrSet> = LazyLock::new(|| {
        let tables = SPECIAL_V4.iter().chain(SPECIAL_V6).filter_map(|(net, _)| net.parse::<IpNet>().ok());
        let every_v6 = AddrSet::of(Vec::new(), vec![(0, u128::MAX)]);
        every_v6.minus(&GLOBAL_V6.map(IpNet::V6).into_iter().collect()).union(&tables.collect())
    });
    &SPACE
}

/// The kinds of address that no public name may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecialUse {
    /// 127.0.0.0/8, ::1.
    Loopback,
    /// 169.254.0.0/16, fe80::/10.
    LinkLocal,
    /// RFC 1918, carrier-grade NAT (RFC 6598), unique local and site-local IPv6.
    Private,
    /// 224.0.0.0/4, ff00::/8.
    Multicast,
    /// RFC 5737, RFC 3849, RFC 9637.
    Documentation,
    /// 6to4, Teredo, NAT64: an address inside an address.
    Transition,
    /// ::ffff:0:0/96.
    Mapped,
    /// Unspecified, benchmarking, discard, future use.
    Reserved,
}

impl SpecialUse {
    /// A word for messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Private => "private",
            Self::Multicast => "multicast",
            Self::Documentation => "documentation",
            Self::Transition => "transition",
            Self::Mapped => "IPv4-mapped",
            Self::Reserved => "reserved",
        }
    }
}

/// Inclusive ranges of one family, sorted, disjoint, with a gap between any two.
type Ranges<T> = Vec<(T, T)>;

/// A set of IPv4 and IPv6 addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddrSet(Held);

/// What a set holds, each in its one form. Most sets are the one address of one destination, and there are a hundred
/// thousand: as two lists they take 48 bytes each in place of 16, and the lists' own beside. A clone shares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Held {
    #[default]
    Nothing,
    V4((u32, u32)),
    V6(Arc<(u128, u128)>),
    /// One range of each family: the addresses of a name that has one of each.
    Both(Arc<((u32, u32), (u128, u128))>),
    More(Arc<(Ranges<u32>, Ranges<u128>)>),
}

impl AddrSet {
    /// The empty set. It matches nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(Held::Nothing)
    }

    /// From ranges that are sorted, disjoint, with a gap between any two.
    fn of(v4: Ranges<u32>, v6: Ranges<u128>) -> Self {
        Self(match (v4.as_slice(), v6.as_slice()) {
            ([], []) => Held::Nothing,
            (&[range], []) => Held::V4(range),
            ([], &[range]) => Held::V6(Arc::new(range)),
            (&[v4], &[v6]) => Held::Both(Arc::new((v4, v6))),
            _ => Held::More(Arc::new((v4, v6))),
        })
    }

    fn v4(&self) -> &[(u32, u32)] {
        match &self.0 {
            Held::V4(range) => slice::from_ref(range),
            Held::Both(both) => slice::from_ref(&both.0),
            Held::More(both) => &both.0,
            Held::Nothing | Held::V6(_) => &[],
        }
    }

    fn v6(&self) -> &[(u128, u128)] {
        match &self.0 {
            Held::V6(range) => slice::from_ref(range),
            Held::Both(both) => slice::from_ref(&both.1),
            Held::More(both) => &both.1,
            Held::Nothing | Held::V4(_) => &[],
        }
    }

    /// Whether no address is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == Held::Nothing
    }

    /// Whether the set has IPv4 addresses.
    #[must_use]
    pub fn has_v4(&self) -> bool {
        !self.v4().is_empty()
    }

    /// Whether the set has IPv6 addresses.
    #[must_use]
    pub fn has_v6(&self) -> bool {
        !self.v6().is_empty()
    }

    /// Whether the address is in the set.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => holds(self.v4(), u32::from(addr)),
            IpAddr::V6(addr) => holds(self.v6(), u128::from(addr)),
        }
    }

    /// Addresses in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        [self, other].into_iter().collect()
    }

    /// Addresses of this set that are not in the other.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        // Mostly there is nothing to be taken out.
        if other.is_empty() {
            return self.clone();
        }
        Self::of(minus(self.v4(), other.v4()), minus(self.v6(), other.v6()))
    }

    /// Addresses in both sets.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self::of(both(self.v4(), other.v4()), both(self.v6(), other.v6()))
    }

    /// Whether an address is in both sets.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        meet(self.v4(), other.v4()) || meet(self.v6(), other.v6())
    }

    /// Every single address, IPv4 first, sorted. For sets of answers, which are small; a prefix is better left one.
    pub fn singles(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let v4 = self.v4().iter().flat_map(|&(first, last)| (first..=last).map(|a| IpAddr::V4(a.into())));
        v4.chain(self.v6().iter().flat_map(|&(first, last)| (first..=last).map(|a| IpAddr::V6(a.into()))))
    }

    /// How many IPv4 and how many IPv6 addresses there are; all of IPv6 counts as one less than it has.
    #[must_use]
    pub fn counts(&self) -> (u128, u128) {
        let v4 = self.v4().iter().map(|&(first, last)| u128::from(last - first) + 1).sum();
        let v6 =
            self.v6().iter().fold(0_u128, |sum, &(first, last)| sum.saturating_add((last - first).saturating_add(1)));
        (v4, v6)
    }

    /// How many there are, in words: IPv4 by addresses, IPv6 by prefixes, for its numbers say nothing.
    #[must_use]
    pub fn size(&self) -> String {
        let (v4, v6) = (self.counts().0, self.v6_prefixes().count());
        let addresses = if v4 == 1 { "address" } else { "addresses" };
        let prefixes = if v6 == 1 { "prefix" } else { "prefixes" };
        match (v4, v6) {
            (0, _) => format!("{v6} IPv6 {prefixes}"),
            (_, 0) => format!("{v4} IPv4 {addresses}"),
            _ => format!("{v4} IPv4 {addresses} and {v6} IPv6 {prefixes}"),
        }
    }

    /// The IPv4 half as the fewest prefixes, sorted.
    pub fn v4_prefixes(&self) -> impl Iterator<Item = Ipv4Net> + '_ {
        let nets = self.v4().iter().flat_map(|&(first, last)| split(first.into(), last.into(), 32));
        nets.filter_map(|(addr, length)| Ipv4Net::new(u32::try_from(addr).ok()?.into(), length).ok())
    }

    /// The IPv6 half as the fewest prefixes, sorted.
    pub fn v6_prefixes(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        let nets = self.v6().iter().flat_map(|&(first, last)| split(first, last, 128));
        nets.filter_map(|(addr, length)| Ipv6Net::new(addr.into(), length).ok())
    }

    /// Both halves as the fewest prefixes, in text: a single address without its length.
    #[must_use]
    pub fn shorts(&self) -> Vec<String> {
        self.prefixes().iter().map(short).collect()
    }

    /// Both halves as the fewest prefixes, IPv4 first, sorted.
    #[must_use]
    pub fn prefixes(&self) -> Vec<IpNet> {
        self.v4_prefixes().map(IpNet::V4).chain(self.v6_prefixes().map(IpNet::V6)).collect()
    }
}

impl From<IpNet> for AddrSet {
    fn from(net: IpNet) -> Self {
        match net {
            IpNet::V4(net) => Self(Held::V4((net.network().into(), net.broadcast().into()))),
            IpNet::V6(net) => Self(Held::V6(Arc::new((net.network().into(), net.broadcast().into())))),
        }
    }
}

impl FromIterator<IpNet> for AddrSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push((u32::from(net.network()), u32::from(net.broadcast()))),
                IpNet::V6(net) => v6.push((u128::from(net.network()), u128::from(net.broadcast()))),
            }
        }
        Self::of(normal(v4), normal(v6))
    }
}

impl<'a> FromIterator<&'a Self> for AddrSet {
    fn from_iter<I: IntoIterator<Item = &'a Self>>(sets: I) -> Self {
        let sets = sets.into_iter();
        let at_least = sets.size_hint().0;
        let mut sets = sets.filter(|set| !set.is_empty());
        // Mostly there is one.
        let Some(first) = sets.next() else { return Self::new() };
        let Some(second) = sets.next() else { return first.clone() };
        // Mostly IPv4, and a range each.
        let (mut v4, mut v6) = (Vec::with_capacity(at_least), Vec::new());
        let (mut of_v4, mut of_v6) = (0, 0);
        for set in [first, second].into_iter().chain(sets) {
            of_v4 += usize::from(set.has_v4());
            of_v6 += usize::from(set.has_v6());
            v4.extend_from_slice(set.v4());
            v6.extend_from_slice(set.v6());
        }
        // One alone is in order already.
        Self::of(if of_v4 > 1 { merged(v4) } else { v4 }, if of_v6 > 1 { merged(v6) } else { v6 })
    }
}

impl FromIterator<IpAddr> for AddrSet {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addrs: I) -> Self {
        let addrs = addrs.into_iter();
        // Mostly IPv4.
        let (mut v4, mut v6) = (Vec::with_capacity(addrs.size_hint().0), Vec::new());
        for addr in addrs {
            match addr {
                IpAddr::V4(addr) => v4.push((u32::from(addr), u32::from(addr))),
                IpAddr::V6(addr) => v6.push((u128::from(addr), u128::from(addr))),
            }
        }
        Self::of(normal(v4), normal(v6))
    }
}

/// An address as a number of its family's width.
trait Bits: Copy + Ord {
    fn next(self) -> Option<Self>;
    fn previous(self) -> Option<Self>;

    /// Sorts ranges by their first address.
    fn sort(ranges: &mut [(Self, Self)]) {
        // By the first address alone: comparing both takes twice as long, and what is joined comes out the same.
        ranges.sort_unstable_by_key(|&(first, _)| first);
    }
}

impl Bits for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }

    fn sort(ranges: &mut [(Self, Self)]) {
        // By digits where they are many and in no order: half the time of a sort that compares. Of IPv6 it is twice.
        if ranges.len() < 1000 || ranges.is_sorted_by_key(|&(first, _)| first) {
            ranges.sort_unstable_by_key(|&(first, _)| first);
        } else {
            radsort::sort_by_key(ranges, |&(first, _)| first);
        }
    }
}

impl Bits for u128 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

fn normal<T: Bits>(mut ranges: Ranges<T>) -> Ranges<T> {
    T::sort(&mut ranges);
    joined(ranges)
}

/// Joins ranges that are in order by their first address.
fn joined<T: Bits>(mut ranges: Ranges<T>) -> Ranges<T> {
    ranges.dedup_by(|&mut (first, last), open| {
        let joins = open.1.next().is_none_or(|edge| first <= edge);
        if joins {
            open.1 = open.1.max(last);
        }
        joins
    });
    ranges
}

/// Sets that are each in order, one behind the other, as one.
fn merged<T: Bits>(mut ranges: Ranges<T>) -> Ranges<T> {
    // This sort sees what is in order already, and merges it.
    ranges.sort_by_key(|&(first, _)| first);
    joined(ranges)
}

fn minus<T: Bits>(a: &[(T, T)], b: &[(T, T)]) -> Ranges<T> {
    if a.is_empty() || b.is_empty() {
        return a.to_vec();
    }
    let mut left = Vec::with_capacity(a.len());
    let mut holes = b.iter().copied().peekable();
    for &(first, last) in a {
        let mut from = Some(first);
        while holes.next_if(|&(_, hole_last)| hole_last < first).is_some() {}
        let mut ahead = holes.clone();
        while let (Some(start), Some((hole_first, hole_last))) = (from, ahead.next_if(|&(hole, _)| hole <= last)) {
            if let Some(before) = hole_first.previous()
                && start <= before
            {
                left.push((start, before));
            }
            from = hole_last.next().map(|next| next.max(start));
        }
        if let Some(start) = from
            && start <= last
        {
            left.push((start, last));
        }
    }
    left
}

/// Looks each range of the smaller set up in the larger one: mostly one of the two is small.
fn both<T: Bits>(a: &[(T, T)], b: &[(T, T)]) -> Ranges<T> {
    let (small, large) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut common = Vec::new();
    // Both are sorted, so what lies before one range is before all that follow. And the next is about so many ranges away.
    let stride = large.len() / small.len().max(1);
    let mut rest: &[(T, T)] = large;
    for &(first, last) in small {
        rest = rest.get(ended_before(rest, first, stride.max(1))..).unwrap_or_default();
        let meets = rest.iter().take_while(|&&(start, _)| start <= last);
        common.extend(meets.map(|&(start, end)| (start.max(first), end.min(last))));
    }
    common
}

/// How many of these ranges end before an address; `stride` is a guess. To look no further than it is needed takes 0.7 of the
/// time of a search in all of them, where a hundred ranges are looked up in some thousands.
fn ended_before<T: Bits>(ranges: &[(T, T)], addr: T, stride: usize) -> usize {
    let ended = |&(_, end): &(T, T)| end < addr;
    let (mut from, mut to) = (0, stride);
    while ranges.get(to - 1).is_some_and(ended) {
        (from, to) = (to, 2 * to);
    }
    from + ranges.get(from..to.min(ranges.len())).unwrap_or_default().partition_point(ended)
}

/// Whether [`both`] would find something.
fn meet<T: Bits>(a: &[(T, T)], b: &[(T, T)]) -> bool {
    let (small, large) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    small.iter().any(|&(first, last)| {
        let before = large.partition_point(|&(_, end)| end < first);
        large.get(before).is_some_and(|&(start, _)| start <= last)
    })
}

fn holds<T: Bits>(ranges: &[(T, T)], addr: T) -> bool {
    let after = ranges.partition_point(|&(first, _)| first <= addr);
    after.checked_sub(1).and_then(|i| ranges.get(i)).is_some_and(|&(_, last)| addr <= last)
}

/// Cuts an inclusive range of `width`-bit addresses into the fewest prefixes: each one's first address and length.
fn split(first: u128, last: u128, width: u8) -> impl Iterator<Item = (u128, u8)> {
    let mut rest = Some(first);
    std::iter::from_fn(move || {
        let first = rest?;
        let aligned = first.trailing_zeros().min(width.into());
        let remaining = (last - first).checked_add(1).map_or(u128::BITS, u128::ilog2);
        let bits = aligned.min(remaining).min(width.into());
        rest = 1_u128.checked_shl(bits).and_then(|step| first.checked_add(step)).filter(|next| *next <= last);
        Some((first, width - u8::try_from(bits).unwrap_or(width)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn many_ranges_in_no_order_are_put_in_order() {
        // Steps of an odd number go through all of 0 to 2^20 and come back; every eighth block of 16 addresses is left out.
        let scattered = (0..1 << 20).map(|i: u32| i.wrapping_mul(0x9e37_79b1) & 0xf_ffff);
        let blocks =
            scattered.filter(|block| block % 8 > 0).map(|block| (0x0b00_0000 + block * 16, 0x0b00_000f + block * 16));
        let expected: Vec<(u32, u32)> =
            (0..1 << 17).map(|i: u32| (0x0b00_0010 + i * 128, 0x0b00_007f + i * 128)).collect();
        assert_eq!(normal(blocks.collect()), expected);
    }

    #[test]
    fn the_space_of_special_use_holds_what_has_one() {
        let edges = |net: &IpNet| match *net {
            IpNet::V4(net) => [net.network(), net.broadcast()]
                .into_iter()
                .flat_map(|addr| [u32::from(addr).wrapping_sub(1), addr.into(), u32::from(addr).wrapping_add(1)])
                .map(|addr| IpAddr::V4(addr.into()))
                .collect::<Vec<_>>(),
            IpNet::V6(net) => [net.network(), net.broadcast()]
                .into_iter()
                .flat_map(|addr| [u128::from(addr).wrapping_sub(1), addr.into(), u128::from(addr).wrapping_add(1)])
                .map(|addr| IpAddr::V6(addr.into()))
                .collect(),
        };
        let blocks = SPECIAL_V4.iter().chain(SPECIAL_V6).map(|&(net, _)| net).chain(["2000::/3"]);
        for addr in blocks.flat_map(|net| edges(&net.parse().unwrap())) {
            assert_eq!(special_space().contains(addr), special_use(addr).is_some(), "{addr}");
            assert_eq!(special_uses(&addr.into()).is_empty(), special_use(addr).is_none(), "{addr}");
        }
        for (addr, kind) in
            [("::1", SpecialUse::Loopback), ("10.9.8.7", SpecialUse::Private), ("4000::1", SpecialUse::Reserved)]
        {
            assert_eq!(special_use(addr.parse().unwrap()), Some(kind));
        }
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "any",
            "0.0.0.0/0",
            "::/0",
            "192.0.2.5/24",
            "010.0.0.1",
            "192.0.2.1/33",
            "192.0.2.1/032",
            "192.0.2.1/",
            "2001:db8::/129",
            "::ffff:192.0.2.1",
            "192.0.2.1-192.0.2.9",
            "192.0.2",
            "fe80::1%eth0",
            "192.0.2.0/+8",
            "192.0.2.1 ",
            "192.0.2.0/24/24",
            "!192.0.2.1",
            "nas.example.org",
        ] {
            assert!(parse_prefix(text).is_err(), "{text:?} was taken");
        }
        assert_eq!(short(&parse_prefix("2001:DB8::1").unwrap()), "2001:db8::1");
        assert_eq!(short(&parse_prefix("192.0.2.0/24").unwrap()), "192.0.2.0/24");
    }

    #[test]
    fn prefixes_that_are_too_wide_together_are_found() {
        let wide = |nets: &[&str]| {
            let sets: Vec<AddrSet> = nets.iter().map(|net| parse_prefix(net).unwrap().into()).collect();
            too_wide(sets.iter()).iter().map(short).collect::<Vec<_>>()
        };
        assert_eq!(wide(&["11.0.0.0/8", "192.0.2.1", "10.0.0.0/8"]), ["10.0.0.0/7"]);
        assert_eq!(wide(&["2000::/16", "2001::/16", "192.0.2.1"]), ["2000::/15"]);
        // So many, and yet no more than one of them.
        assert_eq!(wide(&["10.0.0.0/8", "10.0.0.0/8", "12.0.0.0/8"]), Vec::<String>::new());
        assert_eq!(wide(&["10.0.0.0/9", "10.128.0.0/9", "11.0.0.0/9", "192.0.2.1"]), Vec::<String>::new());
    }

    #[test]
    fn special_addresses_are_known() {
        let kind = |text: &str| special_use(text.parse().unwrap());
        assert_eq!(kind("127.0.0.53"), Some(SpecialUse::Loopback));
        assert_eq!(kind("::"), Some(SpecialUse::Reserved));
        assert_eq!(kind("::ffff:192.168.1.1"), Some(SpecialUse::Mapped));
        assert_eq!(kind("fd00::1"), Some(SpecialUse::Private));
        assert_eq!(kind("169.254.169.254"), Some(SpecialUse::LinkLocal));
        assert_eq!(kind("2002:c0a8:101::1"), Some(SpecialUse::Transition));
        assert_eq!(kind("203.0.113.9"), Some(SpecialUse::Documentation));
        assert_eq!(kind("100.64.0.1"), Some(SpecialUse::Private));
        assert_eq!(kind("140.82.112.3"), None);
        assert_eq!(kind("2606:50c0::1"), None);
    }

    /// Prefixes in the lowest and highest 256 addresses of each family, so that both ends of the number line are met.
    fn small_net() -> impl Strategy<Value = IpNet> {
        (any::<bool>(), any::<bool>(), any::<u8>(), 0_u8..=8).prop_map(|(v6, top, low, free)| {
            let low = low & (0xff_u8.checked_shl(free.into()).unwrap_or(0));
            if v6 {
                let addr = if top { u128::MAX - 255 } else { 0 } + u128::from(low);
                IpNet::V6(Ipv6Net::new(addr.into(), 128 - free).unwrap())
            } else {
                let addr = if top { u32::MAX - 255 } else { 0 } + u32::from(low);
                IpNet::V4(Ipv4Net::new(addr.into(), 32 - free).unwrap())
            }
        })
    }

    fn universe() -> impl Iterator<Item = IpAddr> {
        (0..=255_u32).flat_map(|i| {
            [
                IpAddr::V4(i.into()),
                IpAddr::V4((u32::MAX - i).into()),
                IpAddr::V6(u128::from(i).into()),
                IpAddr::V6((u128::MAX - u128::from(i)).into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_algebra_is_that_of_sets(
            a in prop::collection::vec(small_net(), 0..24),
            b in prop::collection::vec(small_net(), 0..24),
        ) {
            let (set_a, set_b): (AddrSet, AddrSet) = (a.iter().copied().collect(), b.iter().copied().collect());
            let (union, minus, and) = (set_a.union(&set_b), set_a.minus(&set_b), set_a.and(&set_b));
            prop_assert_eq!(set_a.meets(&set_b), !and.is_empty());
            for addr in universe() {
                let (in_a, in_b) = (a.iter().any(|n| n.contains(&addr)), b.iter().any(|n| n.contains(&addr)));
                prop_assert_eq!(set_a.contains(addr), in_a);
                prop_assert_eq!(union.contains(addr), in_a || in_b);
                prop_assert_eq!(minus.contains(addr), in_a && !in_b);
                prop_assert_eq!(and.contains(addr), in_a && in_b);
            }
        }

        #[test]
        fn prefixes_are_the_same_set_and_the_fewest(nets in prop::collection::vec(small_net(), 0..24)) {
            let set: AddrSet = nets.iter().copied().collect();
            let prefixes = set.prefixes();
            prop_assert_eq!(&prefixes.iter().copied().collect::<AddrSet>(), &set);
            prop_assert_eq!(prefixes.len(), IpNet::aggregate(&nets).len());
        }
    }

    #[test]
    fn the_whole_of_a_family_is_one_prefix() {
        let halves = ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"].map(|t| t.parse::<IpNet>().unwrap());
        let all: AddrSet = halves.into_iter().collect();
        assert_eq!(all.prefixes(), ["0.0.0.0/0", "::/0"].map(|t| t.parse::<IpNet>().unwrap()));
    }
}

//! Plain lists of prefixes: a text to a set, and a set to a text. A prefix or an address a line; `#` begins a comment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{fmt, io};

use ipnet::IpNet;

use super::{AddrSet, Ranges, normal};

/// A line that is no prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListError {
    /// Which, counted from 1.
    pub line: usize,
    /// Why, as the end of a sentence that began with what stands there.
    pub why: &'static str,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} {}", self.line, self.why)
    }
}

impl std::error::Error for ListError {}

/// Reads a list. It may hold what no profile may say, such as `0.0.0.0/0`: reading opens nothing.
///
/// # Errors
/// The first line that is no prefix, or one with host bits set.
pub fn read(text: &str) -> Result<AddrSet, ListError> {
    let mut lines = Lines::of_length(text.len());
    lines.read(text)?;
    Ok(lines.done())
}

/// A list that comes in pieces, each of whole lines.
pub struct Lines {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    /// How many were read.
    number: usize,
}

impl Lines {
    /// With room for a list of so many bytes.
    #[must_use]
    pub fn of_length(bytes: usize) -> Self {
        // A line of IPv4 has about 17 bytes.
        Self { v4: Vec::with_capacity(bytes / 16), v6: Vec::new(), number: 0 }
    }

    /// Reads the next lines.
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(&mut self, mut rest: &str) -> Result<(), ListError> {
        while !rest.is_empty() {
            self.number += 1;
            // Nearly every line of a long list is plain IPv4. Read on the way to its end it takes a third of the time.
            if let Some((range, length)) = plain_v4(rest.as_bytes()) {
                self.v4.push(range);
                rest = &rest[length..];
                continue;
            }
            if let Some((range, length)) = plain_v6(rest.as_bytes()) {
                self.v6.push(range);
                rest = &rest[length..];
                continue;
            }
            let (line, behind) = rest.split_once('\n').unwrap_or((rest, ""));
            rest = behind;
            let bare = line.split('#').next().unwrap_or_default().trim_ascii();
            if !bare.is_empty() {
                match slowly(bare).map_err(|why| ListError { line: self.number, why })? {
                    IpNet::V4(net) => self.v4.push((net.network().into(), net.broadcast().into())),
                    IpNet::V6(net) => self.v6.push((net.network().into(), net.broadcast().into())),
                }
            }
        }
        Ok(())
    }

    /// The set of all that was read.
    #[must_use]
    pub fn done(self) -> AddrSet {
        AddrSet::of(normal(self.v4), normal(self.v6))
    }
}

/// A line that is `192.0.2.0/24` or `192.0.2.1` in its one spelling and nothing else, with its length; `None` for all else,
/// which is looked at more closely.
fn plain_v4(text: &[u8]) -> Option<((u32, u32), usize)> {
    let (addr, mut at) = octets(text)?;
    let behind = text.get(at).copied().unwrap_or(b'\n');
    at += 1;
    if !matches!(behind, b'/' | b'\n') {
        return None;
    }
    let mut length = 32;
    if behind == b'/' {
        let (digits, tens) = match text.get(at..)? {
            [one @ b'0'..=b'9', b'\n', ..] | [one @ b'0'..=b'9'] => (1, u32::from(one - b'0')),
            [ten @ b'1'..=b'3', one @ b'0'..=b'9', b'\n', ..] | [ten @ b'1'..=b'3', one @ b'0'..=b'9'] => {
                (2, u32::from(ten - b'0') * 10 + u32::from(one - b'0'))
            }
            _ => return None,
        };
        length = tens;
        at += digits + 1;
    }
    let rest = u32::MAX.checked_shr(length).unwrap_or(0);
    (length <= 32 && addr & rest == 0).then_some(((addr, addr | rest), at.min(text.len())))
}

/// The same of IPv6, in any spelling but those with an IPv4 address in it.
fn plain_v6(text: &[u8]) -> Option<((u128, u128), usize)> {
    let (addr, mut at) = groups(text)?;
    let mut length = 128;
    if text.get(at) == Some(&b'/') {
        let digits = text.get(at + 1..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = str::from_utf8(text.get(at + 1..at + 1 + digits)?).ok()?;
        length = number.parse().ok().filter(|_| digits == 1 || !number.starts_with('0'))?;
        at += 1 + digits;
    }
    match text.get(at) {
        Some(b'\n') => at += 1,
        Some(_) => return None,
        None => {}
    }
    let rest = u128::MAX.checked_shr(length).unwrap_or(0);
    (length <= 128 && addr & rest == 0).then_some(((addr, addr | rest), at))
}

/// The IPv4 address that a text begins with, in its one spelling, and its length.
pub(crate) fn octets(text: &[u8]) -> Option<(u32, usize)> {
    let (mut addr, mut rest) = (0, text);
    for place in 0..4 {
        if place > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        let octet;
        (octet, rest) = match rest {
            [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9', behind @ ..] => (number(&rest[..3]), behind),
            [b'1'..=b'9', b'0'..=b'9', behind @ ..] => (number(&rest[..2]), behind),
            [b'0'..=b'9', behind @ ..] => (number(&rest[..1]), behind),
            _ => return None,
        };
        if octet > 255 {
            return None;
        }
        addr = addr << 8 | octet;
    }
    // Neither a fourth digit nor one behind a zero.
    let ends = !rest.first().is_some_and(u8::is_ascii_digit);
    ends.then(|| (addr, text.len() - rest.len()))
}

/// What each byte is as a digit of IPv6.
static HEX: [Option<u8>; 256] = hex();

const fn hex() -> [Option<u8>; 256] {
    let mut digits = [None; 256];
    let mut digit = 0;
    while digit < 16 {
        let byte = b"0123456789abcdef"[digit as usize];
        digits[byte as usize] = Some(digit);
        digits[byte.to_ascii_uppercase() as usize] = Some(digit);
        digit += 1;
    }
    digits
}

/// The IPv6 address that a text begins with, and its length; `None` for what is no address, and for the spellings with an
/// IPv4 address in it. By the library alone a list of a million prefixes takes half as long again.
pub(crate) fn groups(text: &[u8]) -> Option<(u128, usize)> {
    // What stands before the gap, with its number of groups, once there is one.
    let mut before = None;
    let (mut addr, mut count, mut at) = (0_u128, 0, 0);
    if text.starts_with(b"::") {
        before = Some((0, 0));
        at = 2;
    }
    loop {
        let (mut group, begin) = (0_u32, at);
        while let Some(digit) = text.get(at).and_then(|&byte| HEX[usize::from(byte)]).filter(|_| at < begin + 5) {
            group = group << 4 | u32::from(digit);
            at += 1;
        }
        match at - begin {
            // Nothing need stand behind the gap.
            0 if before.is_some_and(|(_, groups)| groups == count) => break,
            1..=4 if count < 8 => {}
            _ => return None,
        }
        (addr, count) = (addr << 16 | u128::from(group), count + 1);
        match text.get(at..)? {
            [b':', b':', ..] if before.is_none() => {
                before = Some((addr, count));
                addr = 0;
                at += 2;
            }
            [b':', ..] => at += 1,
            [b'.', ..] => return None,
            _ => break,
        }
    }
    match before {
        None => (count == 8).then_some((addr, at)),
        Some((high, groups)) => (count < 8).then(|| (high.checked_shl(128 - 16 * groups).unwrap_or(0) | addr, at)),
    }
}

/// Reads one address. The usual spellings have a quick way.
#[must_use]
pub fn read_one(text: &str) -> Option<IpAddr> {
    plain_one(text).or_else(|| text.parse().ok())
}

/// Reads one address in a usual spelling; `None` for all else, which is looked at more closely.
pub(super) fn plain_one(text: &str) -> Option<IpAddr> {
    if let Some((addr, length)) = octets(text.as_bytes()) {
        return (length == text.len()).then(|| IpAddr::V4(addr.into()));
    }
    let (addr, length) = groups(text.as_bytes())?;
    (length == text.len()).then(|| IpAddr::V6(addr.into()))
}

fn slowly(text: &str) -> Result<IpNet, &'static str> {
    let net = match text.split_once('/') {
        None => text.parse::<IpAddr>().map(IpNet::from).ok(),
        Some((addr, length)) => {
            let digits = length.bytes().all(|b| b.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
            let length = if digits { length.parse().ok() } else { None };
            addr.parse::<IpAddr>().ok().zip(length).and_then(|(addr, length)| IpNet::new(addr, length).ok())
        }
    };
    match net {
        None => Err("is no address and no prefix, such as `192.0.2.0/24` or `2001:db8::/48`"),
        Some(net) if net.trunc() != net => Err("has host bits set: write the prefix, or the one address"),
        Some(net) => Ok(net),
    }
}

impl AddrSet {
    /// Both halves as the fewest prefixes, IPv4 first, sorted; a single address without its length.
    #[must_use]
    pub fn to_list(&self, between: &str) -> String {
        let mut out = String::new();
        self.push_list(&mut out, between);
        out
    }

    /// How long its text is, by the length of most addresses.
    fn about(&self) -> usize {
        18 * self.v4().len() + 40 * self.v6().len()
    }

    /// Writes what [`AddrSet::to_list`] makes.
    pub fn push_list(&self, out: &mut String, between: &str) {
        out.reserve(self.about());
        self.push_v4_list(out, between);
        self.push_between(out, between);
        self.push_v6_list(out, between);
    }

    /// Writes every single address, IPv4 first, sorted. For sets of answers, as [`AddrSet::singles`].
    pub fn push_singles(&self, out: &mut String, between: &str) {
        out.reserve(self.about());
        self.push_v4_singles(out, between);
        self.push_between(out, between);
        self.push_v6_singles(out, between);
    }

    /// Writes what [`AddrSet::to_list`] makes, a line each behind the same beginning: a text of all of a million is not made.
    ///
    /// # Errors
    /// Those of the other end.
    pub fn write_lines(&self, beginning: &str, to: &mut impl io::Write) -> io::Result<()> {
        const AT_ONCE: usize = 64 * 1024;
        let mut lines = String::with_capacity(2 * AT_ONCE);
        let mut write = |net: IpNet| {
            lines.push_str(beginning);
            push(&mut lines, &net);
            lines.push('\n');
            if lines.len() >= AT_ONCE {
                to.write_all(lines.as_bytes())?;
                lines.clear();
            }
            io::Result::Ok(())
        };
        self.v4_prefixes().map(IpNet::V4).try_for_each(&mut write)?;
        self.v6_prefixes().map(IpNet::V6).try_for_each(&mut write)?;
        to.write_all(lines.as_bytes())
    }

    fn push_between(&self, out: &mut String, between: &str) {
        if self.has_v4() && self.has_v6() {
            out.push_str(between);
        }
    }

    /// Writes the IPv4 half as the fewest prefixes.
    pub fn push_v4_list(&self, out: &mut String, between: &str) {
        // A text of millions does not move while it grows; one of these has 14 characters or so.
        out.reserve(16 * self.v4().len());
        push_all(out, self.v4_prefixes(), between, |out, net| push(out, &IpNet::V4(net)));
    }

    /// Writes the IPv6 half as the fewest prefixes.
    pub fn push_v6_list(&self, out: &mut String, between: &str) {
        out.reserve(24 * self.v6().len());
        push_all(out, self.v6_prefixes(), between, |out, net| push(out, &IpNet::V6(net)));
    }

    /// Writes every single IPv4 address.
    pub fn push_v4_singles(&self, out: &mut String, between: &str) {
        let singles = self.v4().iter().flat_map(|&(first, last)| first..=last);
        push_all(out, singles, between, |out, addr| push_v4(out, addr.into()));
    }

    /// Writes every single IPv6 address.
    pub fn push_v6_singles(&self, out: &mut String, between: &str) {
        let singles = self.v6().iter().flat_map(|&(first, last)| first..=last);
        push_all(out, singles, between, |out, addr| push_v6(out, addr.into()));
    }
}

fn push_all<T>(out: &mut String, items: impl IntoIterator<Item = T>, between: &str, push: impl Fn(&mut String, T)) {
    let begin = out.len();
    for item in items {
        if out.len() > begin {
            out.push_str(between);
        }
        push(out, item);
    }
}

/// Writes a prefix; one of a single address without its length.
pub(crate) fn push(out: &mut String, net: &IpNet) {
    match net.addr() {
        IpAddr::V4(addr) => push_v4(out, addr),
        IpAddr::V6(addr) => push_v6(out, addr),
    }
    if net.prefix_len() < net.max_prefix_len() {
        out.push('/');
        push_number(out, net.prefix_len());
    }
}

// The machinery of `format!` takes ten times as long as these, and a list has a million of them.

fn push_v4(out: &mut String, addr: Ipv4Addr) {
    /// Each octet as it stands in an address, with the point behind it, and how long that is.
    static OCTETS: [([u8; 4], usize); 256] = octets_with_points();
    let (mut text, mut length) = ([0; 16], 0);
    for octet in addr.octets() {
        let (digits, more) = OCTETS[usize::from(octet)];
        text[length..length + 4].copy_from_slice(&digits);
        length += more;
    }
    out.push_str(str::from_utf8(&text[..length - 1]).unwrap_or_default());
}

const fn octets_with_points() -> [([u8; 4], usize); 256] {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut octet: u8 = 0;
    loop {
        let (text, length) = &mut octets[octet as usize];
        if octet >= 100 {
            text[*length] = b'0' + octet / 100;
            *length += 1;
        }
        if octet >= 10 {
            text[*length] = b'0' + octet / 10 % 10;
            *length += 1;
        }
        text[*length] = b'0' + octet % 10;
        *length += 2;
        if octet == u8::MAX {
            return octets;
        }
        octet += 1;
    }
}

fn push_v6(out: &mut String, addr: Ipv6Addr) {
    if let Some(mapped) = addr.to_ipv4_mapped() {
        out.push_str("::ffff:");
        return push_v4(out, mapped);
    }
    let groups = addr.segments();
    // The longest run of zeros is left out, the first of several, and a single zero never (RFC 5952, 4.2).
    let (mut gap, mut run) = (0..0, 0..0);
    for (place, &group) in groups.iter().enumerate() {
        run = if group == 0 { if run.is_empty() { place..place + 1 } else { run.start..place + 1 } } else { 0..0 };
        if run.len() > gap.len() {
            gap = run.clone();
        }
    }
    if gap.len() < 2 {
        gap = 8..8;
    }
    let (mut text, mut length) = ([b':'; 40], 0);
    for (place, &group) in groups.iter().enumerate() {
        if gap.contains(&place) {
            // Its points are there already: one behind the group before it, or else its own, and one of its own.
            if place == gap.start {
                length += if place == 0 { 2 } else { 1 };
            }
            continue;
        }
        for shift in [12, 8, 4, 0] {
            if group >> shift > 0 || shift == 0 {
                text[length] = b"0123456789abcdef"[usize::from(group >> shift & 15)];
                length += 1;
            }
        }
        // A point behind each.
        length += 1;
    }
    // None behind the last.
    let length = if gap.end == 8 && gap.start < 8 { length } else { length - 1 };
    out.push_str(str::from_utf8(&text[..length]).unwrap_or_default());
}

fn push_number(out: &mut String, number: u8) {
    if number >= 100 {
        out.push(char::from(b'0' + number / 100));
    }
    if number >= 10 {
        out.push(char::from(b'0' + number / 10 % 10));
    }
    out.push(char::from(b'0' + number % 10));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_is_read_line_by_line() {
        let set = read(
            "# ours\r\n192.0.2.0/25\n\n 192.0.2.128/25 # and the other half\n2001:db8::/48\n198.51.100.7\n0.0.0.0/0\n",
        );
        assert_eq!(set.unwrap().shorts(), ["0.0.0.0/0", "2001:db8::/48"]);
        for (text, line) in [
            ("192.0.2.1/24", 1),
            ("192.0.2.0/24\n192.0.2", 2),
            ("\n192.0.2.0/33", 2),
            ("010.0.0.1", 1),
            ("192.0.2.256", 1),
            ("192.0.2.1.1", 1),
            ("2001:db8::1/48", 1),
            ("192.0.2.0/", 1),
            ("192.0.2.0/+8", 1),
            ("192.0.2.0/024", 1),
            ("example.org", 1),
            ("192.0.2.1 192.0.2.2", 1),
            ("1..2.3", 1),
            ("0000.0.0.1", 1),
        ] {
            assert_eq!(read(text).unwrap_err().line, line, "{text}");
        }
    }

    /// Addresses in many spellings, and what is nearly one.
    fn ipv6_text() -> impl Strategy<Value = String> {
        let group = "(0|1|ff|0db8|2001|FFFF)";
        let pattern = |text: String| prop::string::string_regex(&text).unwrap();
        prop_oneof![
            prop::array::uniform8(prop_oneof![3 => Just(0_u16), 1 => any::<u16>()])
                .prop_map(|groups| Ipv6Addr::from(groups).to_string()),
            any::<u128>().prop_map(|addr| Ipv6Addr::from(addr).to_string()),
            pattern(format!("{group}(:{group}){{5,8}}")),
            pattern(format!("({group}:){{0,7}}:({group}:){{0,7}}{group}?")),
            pattern(format!("(:|::)?{group}(::?{group}){{0,8}}(:|::)?")),
            "[0-9a-f]{0,5}(:[0-9a-f]{0,5}){1,8}",
            "::(ffff:)?[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}",
        ]
    }

    proptest! {
        #[test]
        fn plain_addresses_are_read_as_the_library_reads_them(text in "[0-9]{1,4}(\\.[0-9]{0,4}){0,4}(/[0-9]{0,3})?") {
            let ours = plain_v4(text.as_bytes()).map(|(range, length)| {
                assert_eq!(length, text.len());
                range
            });
            let line = format!("{text}\nx");
            prop_assert_eq!(plain_v4(line.as_bytes()).map(|(_, length)| length), ours.map(|_| text.len() + 1));
            let theirs = slowly(&text).ok().map(|net| match net {
                IpNet::V4(net) => (u32::from(net.network()), u32::from(net.broadcast())),
                IpNet::V6(_) => unreachable!("it has no colon"),
            });
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn ipv6_is_read_as_the_library_reads_it(text in ipv6_text(), length in "(/[0-9]{0,3})?") {
            let addr = groups(text.as_bytes()).filter(|(_, length)| *length == text.len()).map(|(addr, _)| addr.into());
            prop_assert_eq!(addr, text.parse::<Ipv6Addr>().ok().filter(|_| !text.contains('.')));
            prop_assert_eq!(read_one(&text), text.parse().ok());
            let text = text + &length;
            let ours = plain_v6(text.as_bytes());
            let line = format!("{text}\nx");
            prop_assert_eq!(plain_v6(line.as_bytes()), ours.map(|(range, length)| (range, length + 1)));
            let theirs = match slowly(&text) {
                Ok(IpNet::V6(net)) if !text.contains('.') => Some((net.network().into(), net.broadcast().into())),
                _ => None,
            };
            prop_assert_eq!(ours, theirs.map(|range| (range, text.len())));
        }

        #[test]
        fn ipv6_is_written_as_the_library_writes_it(groups in prop::array::uniform8(prop_oneof![
            3 => Just(0_u16), 1 => Just(0xffff), 1 => 0..=0x100_u16, 1 => any::<u16>(),
        ])) {
            let addr = Ipv6Addr::from(groups);
            let mut text = String::new();
            push_v6(&mut text, addr);
            prop_assert_eq!(text, addr.to_string());
        }

        #[test]
        fn what_is_written_is_what_is_read(
            v4 in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..20),
            v6 in prop::collection::vec((any::<u128>(), 0_u8..=128), 0..20),
        ) {
            let nets = v4.into_iter().map(|(addr, length)| IpNet::new(IpAddr::V4(addr.into()), length).unwrap().trunc());
            let more = v6.into_iter().map(|(addr, length)| IpNet::new(IpAddr::V6(addr.into()), length).unwrap().trunc());
            let set: AddrSet = nets.chain(more).collect();
            let text = set.to_list("\n");
            prop_assert_eq!(read(&text).unwrap(), set.clone());
            prop_assert_eq!(text, set.shorts().join("\n"));
        }
    }
}

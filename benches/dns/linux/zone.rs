//! The zone every side is asked about, and its answers as messages.
//!
//! Nine names of ten have two A and two AAAA records of their own; the tenth is a CNAME, and one to four links lead to
//! its addresses. Everything follows from a name's number, so nothing is looked up and nothing is kept.
//!
//! Names are of 15 to 40 characters, most near the middle, as host names are: questions of one length can be sent as one,
//! and names of a single length would flatter whoever does that.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The zone's name.
pub(crate) const ZONE: &str = "b.example";
/// How many addresses a name has: half of them v4, half v6.
pub(crate) const ADDRESSES: usize = 4;
/// The longest message of the responder; no answer of this zone comes near it.
pub(crate) const MESSAGE_MAX: usize = 512;

/// [`ZONE`] as it stands in a message.
const SUFFIX: &[u8] = b"\x01b\x07example\x00";
/// What the first label of a name ends in: a part of this, from its beginning.
const FILLER: &[u8; 22] = b"abcdefghijklmnopqrstuv";
const TTL: u32 = 300;

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const AAAA: u16 = 28;
const OPT: u16 = 41;

const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;

/// How many links lead from a name to its addresses.
pub(crate) fn links(number: u32) -> u32 {
    if number % 10 == 9 { 1 + number / 10 % 4 } else { 0 }
}

/// A name of the zone without its last dot: the one that is asked for is link 0, the CNAME's targets follow.
pub(crate) fn owner(number: u32, link: u32) -> String {
    format!("{}.{ZONE}", label(number, link))
}

/// The first label of a name: `n0-12345abcdef`.
fn label(number: u32, link: u32) -> String {
    format!("n{link}-{number}{}", String::from_utf8_lossy(filler(number, link)))
}

/// By the sum of two dice, thrown once and for all: every run and every side has the same names.
fn filler(number: u32, link: u32) -> &'static [u8] {
    let dice = u64::from(number * 8 + link + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    &FILLER[..(dice % 12 + dice / 12 % 12) as usize]
}

/// Number and link of a name of the zone, with or without its last dot.
pub(crate) fn parse(name: &str) -> Option<(u32, u32)> {
    let label = name.strip_suffix('.').unwrap_or(name).strip_suffix(ZONE)?.strip_suffix('.')?;
    parse_label(label.as_bytes())
}

/// The addresses of a name, v4 first. Private ones: there are not enough v4 addresses for documentation.
pub(crate) fn addresses(number: u32) -> [IpAddr; ADDRESSES] {
    let v4 = |n: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | n));
    let v6 = |n: u32| IpAddr::V6(Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(n)));
    let first = number * 2;
    [v4(first), v4(first + 1), v6(first), v6(first + 1)]
}

/// The zone as a file for a real name server.
pub(crate) fn file(names: u32) -> String {
    let mut text = format!(
        "$ORIGIN {ZONE}.\n$TTL {TTL}\n@ SOA ns.{ZONE}. root.{ZONE}. 1 3600 600 86400 300\n@ NS ns\nns A 127.0.0.1\n"
    );
    for number in 0..names {
        let last = links(number);
        for link in 0..last {
            let _ = writeln!(text, "{} CNAME {}", label(number, link), label(number, link + 1));
        }
        for address in addresses(number) {
            let kind = if address.is_ipv4() { "A" } else { "AAAA" };
            let _ = writeln!(text, "{} {kind} {address}", label(number, last));
        }
    }
    text
}

/// Writes the answer to a message; nothing when it is none that can be answered.
///
/// The question comes back byte for byte, so with its case; EDNS is answered with EDNS; AD and DO mean nothing here.
pub(crate) fn answer(query: &[u8], names: u32, out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    let (&[id0, id1, flags0, flags1, ..], true) = (query.get(..12)?, query[4..6] == [0, 1]) else { return None };
    // A response, or an operation that is no query.
    if flags0 & 0xf8 != 0 {
        return None;
    }
    let name = name_at(query, 12)?;
    let end = 12 + name.len();
    let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
    let question = query.get(12..end + 4)?;
    let edns = query.get(end + 4..end + 7) == Some(&[0, 0, OPT as u8]);

    // QR and RD; RA and CD.
    out.extend([id0, id1, 0x80 | flags0 & 1, 0x80 | flags1 & 0x10, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)]);
    out.extend(question);
    match lookup(name, names) {
        Known::Name { number, link } if kind == A || kind == AAAA || kind == CNAME => {
            let suffix = end - SUFFIX.len();
            out[7] = records(number, link, kind, suffix as u8, out);
        }
        Known::Name { .. } => start_of_authority(out),
        Known::Nothing => {
            out[3] |= NXDOMAIN;
            start_of_authority(out);
        }
        Known::Root if kind == NS => {
            record(out, &[0], NS, SUFFIX);
            out[7] = 1;
        }
        Known::Root | Known::Foreign => out[3] |= REFUSED,
    }
    if edns {
        // The size is the one the flag day of 2020 settled on.
        out.extend([0, 0, OPT as u8, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    }
    Some(())
}

/// What the responder knows of a name.
enum Known {
    Name {
        number: u32,
        link: u32,
    },
    /// In the zone, and there is no such name.
    Nothing,
    Root,
    /// Of another zone.
    Foreign,
}

fn lookup(name: &[u8], names: u32) -> Known {
    if name == [0] {
        return Known::Root;
    }
    let Some(at) = name.len().checked_sub(SUFFIX.len()) else { return Known::Foreign };
    if !name[at..].eq_ignore_ascii_case(SUFFIX) {
        return Known::Foreign;
    }
    match name[..at].split_first().and_then(|(_, label)| parse_label(label)) {
        Some((number, link)) if number < names && link <= links(number) => Known::Name { number, link },
        _ => Known::Nothing,
    }
}

fn parse_label(label: &[u8]) -> Option<(u32, u32)> {
    let (&[b'n' | b'N', link @ b'0'..=b'9', b'-'], rest) = label.split_at_checked(3)? else { return None };
    let digits = rest.iter().take(8).take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at(digits);
    let number = digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    let link = u32::from(link - b'0');
    (!digits.is_empty() && rest.eq_ignore_ascii_case(filler(number, link))).then_some((number, link))
}

/// A name that stands uncompressed at this place, as questions do, with its last zero.
fn name_at(message: &[u8], start: usize) -> Option<&[u8]> {
    let mut at = start;
    loop {
        let length = usize::from(*message.get(at)?);
        if length > 63 || at - start > 255 {
            return None;
        }
        at += 1 + length;
        if length == 0 {
            return message.get(start..at);
        }
    }
}

/// The CNAMEs from this link to the last, and the addresses there. Returns how many records that is. `suffix` is where
/// [`SUFFIX`] begins in the question.
fn records(number: u32, link: u32, kind: u16, suffix: u8, out: &mut Vec<u8>) -> u8 {
    let last = if kind == CNAME { links(number).min(link + 1) } else { links(number) };
    // Every owner is a pointer: to the question, then to the target of the CNAME before.
    let mut owner = [0xc0, 12];
    let mut count = 0;
    for next in link + 1..=last {
        let label = label(number, next);
        let mut target = vec![label.len() as u8];
        target.extend(label.as_bytes());
        target.extend([0xc0, suffix]);
        record(out, &owner, CNAME, &target);
        let [high, low] = u16::try_from(out.len() - target.len()).unwrap_or_default().to_be_bytes();
        owner = [0xc0 | high, low];
        count += 1;
    }
    for address in addresses(number) {
        match address {
            IpAddr::V4(v4) if kind == A => record(out, &owner, A, &v4.octets()),
            IpAddr::V6(v6) if kind == AAAA => record(out, &owner, AAAA, &v6.octets()),
            _ => continue,
        }
        count += 1;
    }
    count
}

fn start_of_authority(out: &mut Vec<u8>) {
    let mut data = vec![0, 0];
    data.extend([1_u32, 3600, 600, 86_400, 300].iter().flat_map(|n| n.to_be_bytes()));
    record(out, SUFFIX, SOA, &data);
    out[9] = 1;
}

fn record(out: &mut Vec<u8>, owner: &[u8], kind: u16, data: &[u8]) {
    out.extend(owner);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out.extend(TTL.to_be_bytes());
    out.extend(u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
    out.extend(data);
}

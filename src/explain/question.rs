//! What is asked, from what somebody wrote or a log says: [`Question`].
//!
//! A host, an address, either with a port, a URL; or a line of the log of a packet filter or a proxy. A log is written by
//! whoever sends packets: whatever a line holds, at most it becomes a question.

use std::net::IpAddr;

use crate::addrs::list as addrs;
use crate::host::Host;
use crate::port::Protocol;

/// May this be reached, and why?
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// Who asks; `None`: each of the site's clients.
    pub client: Option<IpAddr>,
    /// Where it leads.
    pub to: To,
    /// On which port; `None`: on any.
    pub port: Option<(Protocol, u16)>,
    /// The path of a URL, with its first `/`.
    pub path: Option<String>,
}

/// Where a question leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum To {
    /// A name.
    Name(Host),
    /// An address.
    Addr(IpAddr),
}

/// A question, and what a log says became of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sighting {
    /// The question.
    pub question: Question,
    /// The log it is of.
    pub log: Option<Logged>,
}

/// What a log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Logged {
    /// The target whose log it is.
    pub target: &'static str,
    /// Whether it was let out, where the log says so.
    pub allowed: Option<bool>,
}

/// Why a text is no question. The text ends a sentence that began with what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoQuestion(pub &'static str);

const NO_PORTS: NoQuestion = NoQuestion("is about a packet without ports, which no rule allows or names");

/// Reads what somebody wrote, or one line of a log.
///
/// # Errors
/// Why it is neither.
pub fn read(text: &str) -> Result<Sighting, NoQuestion> {
    let text = text.trim();
    // What is an address and nothing else is no line of any log. A list may have a million of them.
    if let Some(addr) = addrs::read_one(text) {
        let question = Question { client: None, to: To::Addr(addr), port: None, path: None };
        return Ok(Sighting { question, log: None });
    }
    let logs = [nftables_line, filterlog_line, pflog_line, squid_line, combined_line];
    logs.into_iter().find_map(|log| log(text)).unwrap_or_else(|| {
        // Names and addresses hold no space.
        if text.contains(char::is_whitespace) {
            return Err(NoQuestion("is no line of a log that outgate knows"));
        }
        written(text).map(|question| Sighting { question, log: None })
    })
}

/// `host`, `address`, either with `:port` and `/tcp` or `/udp`, or a URL.
fn written(text: &str) -> Result<Question, NoQuestion> {
    if let Some((scheme, rest)) = text.split_once("://") {
        return url(scheme, rest);
    }
    let (place, protocol) = match text.rsplit_once('/') {
        None => (text, None),
        Some((place, "tcp")) => (place, Some(Protocol::Tcp)),
        Some((place, "udp")) => (place, Some(Protocol::Udp)),
        Some((place, length)) if place.parse::<IpAddr>().is_ok() && length.parse::<u8>().is_ok() => {
            return Err(NoQuestion("is a prefix: ask for one address of it"));
        }
        Some(_) => return Err(NoQuestion("has a `/` that is followed by neither `tcp` nor `udp`")),
    };
    let (to, port) = place_and_port(place)?;
    if protocol.is_some() && port.is_none() {
        return Err(NoQuestion("has a protocol and no port: write `host:443/tcp`"));
    }
    let port = port.map(|port| (protocol.unwrap_or(Protocol::Tcp), port));
    Ok(Question { client: None, to, port, path: None })
}

/// What stands in front of a URL's path.
fn url(scheme: &str, rest: &str) -> Result<Question, NoQuestion> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (to, port) = place_and_port(place)?;
    let usual = match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => Some((Protocol::Tcp, 80)),
        "https" | "wss" => Some((Protocol::Tcp, 443)),
        "ftp" => Some((Protocol::Tcp, 21)),
        "ssh" | "sftp" | "git+ssh" => Some((Protocol::Tcp, 22)),
        "ntp" => Some((Protocol::Udp, 123)),
        _ => None,
    };
    let port = port.map(|port| (usual.map_or(Protocol::Tcp, |(protocol, _)| protocol), port)).or(usual);
    if port.is_none() {
        return Err(NoQuestion("is a URL whose scheme has no port that outgate knows: add `:port` to its host"));
    }
    let path = path.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
    Ok(Question { client: None, to, port, path: Some(path.to_owned()) })
}

/// `host`, `host:443`, `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:443`.
fn place_and_port(text: &str) -> Result<(To, Option<u16>), NoQuestion> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, behind) = rest.split_once(']').ok_or(NoQuestion("has a `[` without its `]`"))?;
        let addr = inside.parse().map(IpAddr::V6).map_err(|_| NoQuestion("has no IPv6 address in its brackets"))?;
        return match behind.strip_prefix(':') {
            Some(port) => Ok((To::Addr(addr), Some(port_number(port)?))),
            None if behind.is_empty() => Ok((To::Addr(addr), None)),
            None => Err(NoQuestion("has something behind its `]` that is no port")),
        };
    }
    if let Ok(addr) = text.parse::<IpAddr>() {
        return Ok((To::Addr(addr), None));
    }
    let (place, port) = match text.rsplit_once(':') {
        Some((place, port)) => (place, Some(port_number(port)?)),
        None => (text, None),
    };
    if let Ok(addr) = place.parse::<IpAddr>() {
        // A bare IPv6 address with a port cannot be told from one without.
        return if addr.is_ipv4() {
            Ok((To::Addr(addr), port))
        } else {
            Err(NoQuestion("needs brackets: `[2001:db8::1]:443`"))
        };
    }
    let host = Host::parse(place).map_err(|_| NoQuestion("is no host name, no address and no URL"))?;
    Ok((To::Name(host), port))
}

fn port_number(text: &str) -> Result<u16, NoQuestion> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { text.parse().ok().filter(|&port| port > 0) } else { None };
    number.ok_or(NoQuestion("has no port from 1 to 65535 behind its `:`"))
}

/// What a line of a log comes to; `None` where it is of another log.
type Line = Option<Result<Sighting, NoQuestion>>;

fn packet(
    target: &'static str,
    allowed: Option<bool>,
    from: &str,
    to: &str,
    port: Option<(Protocol, &str)>,
) -> Result<Sighting, NoQuestion> {
    const NO_ADDRESS: NoQuestion = NoQuestion("is a line of a packet filter's log without its addresses");
    let client: IpAddr = from.parse().map_err(|_| NO_ADDRESS)?;
    let to: IpAddr = to.parse().map_err(|_| NO_ADDRESS)?;
    let (protocol, port) = port.ok_or(NO_PORTS)?;
    let port = port_number(port).map_err(|_| NoQuestion("is a line of a packet filter's log without a port"))?;
    let question = Question { client: Some(client), to: To::Addr(to), port: Some((protocol, port)), path: None };
    Ok(Sighting { question, log: Some(Logged { target, allowed }) })
}

fn protocol(word: &str) -> Option<Protocol> {
    Protocol::ALL.into_iter().find(|protocol| protocol.as_str().eq_ignore_ascii_case(word))
}

/// The kernel's log: `outgate denied: IN=lan OUT=wan SRC=192.0.2.10 DST=203.0.113.9 ... PROTO=TCP SPT=40000 DPT=443`.
fn nftables_line(text: &str) -> Line {
    let field = |name: &str| text.split_ascii_whitespace().find_map(|word| word.strip_prefix(name));
    let (from, to) = (field("SRC=")?, field("DST=")?);
    let port = field("PROTO=").and_then(protocol).zip(field("DPT="));
    // In audit mode what would be denied is logged and let through.
    let audit = text.split("IN=").next().is_some_and(|prefix| prefix.contains(" audit "));
    Some(packet("nftables", Some(audit), from, to, port))
}

/// OPNsense's `filterlog`, with the head of syslog or without:
/// `62,,,LABEL,igb0,match,block,in,4,0x0,,64,0,0,DF,6,tcp,60,192.0.2.10,203.0.113.9,40000,443,0,S,...`.
/// The columns: <https://github.com/opnsense/ports/blob/master/opnsense/filterlog/files/description.txt>.
fn filterlog_line(text: &str) -> Line {
    let csv = if text.contains("filterlog") { text.rsplit(' ').next()? } else { text };
    let fields: Vec<&str> = csv.split(',').collect();
    let allowed = match *fields.get(6)? {
        "pass" => true,
        "block" | "reject" => false,
        _ => return None,
    };
    // The name of the protocol, the two addresses.
    let (name, from) = match *fields.get(8)? {
        "4" => (16, 18),
        "6" => (12, 15),
        _ => return None,
    };
    let (from, to, port) = (fields.get(from)?, fields.get(from + 1)?, fields.get(from + 3));
    let port = fields.get(name).and_then(|word| protocol(word)).zip(port.copied());
    Some(packet("opnsense", Some(allowed), from, to, port))
}

/// What tcpdump prints of pflog: `rule 3.outgate.12/0(match): block in on em1: 192.0.2.10.40000 > 203.0.113.9.443: Flags [S], ...`.
fn pflog_line(text: &str) -> Line {
    let (head, packet_part) = text.split_once(": ").filter(|(head, _)| head.contains("rule "))?;
    let verdict_of = |text: &str| match text.split_ascii_whitespace().find(|word| matches!(*word, "pass" | "block"))? {
        "pass" => Some(true),
        _ => Some(false),
    };
    // FreeBSD's has a colon before the verdict, OpenBSD's has none.
    let (allowed, rest) = match verdict_of(head) {
        Some(allowed) => (allowed, packet_part),
        None => packet_part.split_once(": ").and_then(|(verdict, rest)| Some((verdict_of(verdict)?, rest)))?,
    };
    let (ends, what) = rest.split_once(": ")?;
    let (from, to) = ends.rsplit_once(" > ")?;
    let from = from.rsplit(' ').next()?;
    // Behind the last dot stands the port, and IPv6 has no other.
    fn addr_and_port(end: &str) -> Option<(&str, &str)> {
        end.rsplit_once('.').filter(|(addr, _)| addr.parse::<IpAddr>().is_ok())
    }
    let ends = addr_and_port(from).zip(addr_and_port(to));
    let Some(((from, _), (to, port))) = ends else { return Some(Err(NO_PORTS)) };
    // tcpdump names TCP by its flags, and OpenBSD's by their letters and the sequence numbers.
    let tcp = what.starts_with("Flags [") || what.split(' ').nth(1).is_some_and(is_sequence);
    let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
    Some(packet("pf", Some(allowed), from, to, Some((protocol, port))))
}

/// `1234:1234(0)`, or `ack`, as OpenBSD's tcpdump has behind the flags of TCP.
fn is_sequence(word: &str) -> bool {
    word == "ack"
        || word.split_once(':').is_some_and(|(first, rest)| {
            first.bytes().all(|b| b.is_ascii_digit()) && !first.is_empty() && rest.ends_with(')') && rest.contains('(')
        })
}

/// Squid's own format: `1763000000.123 12 192.0.2.10 TCP_DENIED/403 3900 CONNECT host:443 - HIER_NONE/- text/html`.
fn squid_line(text: &str) -> Line {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let (&time, &client, &code) = (words.first()?, words.get(2)?, words.get(3)?);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    time.split_once('.').filter(|(seconds, parts)| digits(seconds) && digits(parts))?;
    let (result, _) = code.split_once('/')?;
    Some(request(client, result, words.get(5)?, words.get(6)?))
}

/// Apache's format, as Squid writes it: `192.0.2.10 - - [28/Nov/2026:12:00:00 +0000] "CONNECT host:443 HTTP/1.1" 403 3900 TCP_DENIED:HIER_NONE`,
/// perhaps with referrer and browser before the last word.
fn combined_line(text: &str) -> Line {
    let (head, rest) = text.split_once(" \"")?;
    let client = head.split_ascii_whitespace().next().filter(|_| head.ends_with(']'))?;
    let (request_line, behind) = rest.split_once("\" ")?;
    let mut words = request_line.split_ascii_whitespace();
    let (method, url) = (words.next()?, words.next()?);
    let result = behind.rsplit(' ').next()?.split(':').next()?;
    result.contains('_').then(|| request(client, result, method, url))
}

/// One request of a proxy's log. What it let out it fetched or tunnelled; an HTTP status tells nothing of that, for a
/// tunnel that was refused is logged with 200.
fn request(client: &str, result: &str, method: &str, url_text: &str) -> Result<Sighting, NoQuestion> {
    let client: IpAddr =
        client.parse().map_err(|_| NoQuestion("is a line of a proxy's log without its client's address"))?;
    if method != "CONNECT" && url_text.starts_with("error:") {
        return Err(NoQuestion("is about a request that the proxy did not understand"));
    }
    let question = Question { client: Some(client), ..written(url_text)? };
    let allowed = match result {
        _ if result.contains("DENIED") => Some(false),
        // A connection that ended before the proxy decided, or that it ended at the server name.
        _ if result.starts_with("NONE") || result.contains("ABORTED") || result.contains("TIMEOUT") => None,
        _ => Some(true),
    };
    Ok(Sighting { question, log: Some(Logged { target: "squid", allowed }) })
}

//! Vendors' lists of prefixes: a text → the prefixes it names, or why it is no such list.
//!
//! AWS, Cloudflare, Fastly, GitHub and others publish the prefixes their services are behind, as JSON of their own
//! shape or as lines of text. A list is somebody else's text: it is taken whole or not at all, and never for more than
//! it says. [`fetch`] is the one way to the network.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json_path::JsonPath;

use crate::addrs::{self, AddrSet, SpecialUse, parse_prefix};
use crate::text::{Text, forbidden, quoted};

pub mod fetch;

/// Most bytes a list may have. The longest that is published, that of AWS, has three million.
pub const BYTES_MOST: usize = 16 << 20;
/// Most prefixes that may be taken from one list: twice what AWS has in all.
pub const PREFIXES_MOST: usize = 20_000;
/// Most IPv4 addresses one list may come to: an eighth of all there are, and more than any vendor has.
const V4_MOST: u128 = 1 << 29;
/// Most IPv6 addresses one list may come to: those of one /16.
const V6_MOST: u128 = 1 << 112;
/// Longest path, in bytes.
const PATH_MAX: usize = 200;
/// Most paths of one list.
pub const PATHS_MOST: usize = 16;

/// Where a list is and what is taken from it: what a lock holds its prefixes by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Where it is.
    pub from: Place,
    /// What is selected of its JSON, sorted; empty where it is a plain list.
    pub paths: Vec<Path>,
}

/// Where a list is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file, by its path from the profile's folder.
    File(Text),
    /// An address that begins with `https://`.
    Url(Text),
}

impl Place {
    /// Reads a path of a file.
    ///
    /// # Errors
    /// What cannot stand in a comment of a rule file, and what begins like a URL.
    pub fn file(text: &str) -> Result<Self, String> {
        match Text::parse(text) {
            Err(e) => Err(e.to_string()),
            Ok(_) if text.contains("://") => Err("is a URL; write it under `url:`".to_owned()),
            Ok(text) => Ok(Self::File(text)),
        }
    }

    /// Reads an address.
    ///
    /// # Errors
    /// Anything but `https://` with a host behind it: what comes over plain http anybody on the way could have written.
    /// No user name or password: it would stand in the lock for all to read.
    pub fn url(text: &str) -> Result<Self, String> {
        let parsed = Text::parse(text).map_err(|e| e.to_string())?;
        let Some(rest) = text.strip_prefix("https://") else {
            return Err("does not begin with `https://`".to_owned());
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() || authority.starts_with(':') {
            return Err("names no host".to_owned());
        }
        if authority.contains('@') {
            return Err("holds a user name, which would stand in the lock for all to read".to_owned());
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains('#') {
            return Err("holds a character that no URL of a document can hold".to_owned());
        }
        Ok(Self::Url(parsed))
    }

    /// Reads either form as it stands in a lock.
    ///
    /// # Errors
    /// As [`Place::file`] and [`Place::url`].
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains("://") { Self::url(text) } else { Self::file(text) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::File(text) | Self::Url(text)) = self;
        text.fmt(f)
    }
}

/// A JSONPath (RFC 9535) whose work is bounded by the size of the document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(String);

impl Path {
    /// Reads a path such as `$.prefixes[?@.service=='S3'].ip_prefix`.
    ///
    /// # Errors
    /// What is no path, and what is more than a list of a vendor needs: a path that could select a thing many times,
    /// or look through the whole document once for each of its parts. The text ends a sentence that began with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > PATH_MAX {
            return Err(format!("is longer than {PATH_MAX} bytes"));
        }
        if let Some(c) = text.chars().find(|&c| crate::text::is_invisible(c)) {
            return Err(format!("holds {}, which cannot be seen", crate::text::describe(c)));
        }
        for (part, most) in [("$", 1), ("..", 1), (",", 6), ("[", 16), ("(", 4), ("?", 2), ("!", 4)] {
            if text.matches(part).count() > most {
                return Err(format!("has more than {most} `{part}`: name several paths instead"));
            }
        }
        JsonPath::parse(text).map_err(|e| format!("is no JSONPath: {e}"))?;
        Ok(Self(text.to_owned()))
    }

    /// The path as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes the prefixes out of a list: those the paths select, or without paths those that stand one a line.
///
/// # Errors
/// What makes it no such list, in a sentence: too long, not UTF-8, no JSON, a path that selects nothing or what is no
/// text, a line or text that is no prefix, one with host bits or too wide, too many of them, none at all. A list of
/// which a part cannot be read is not read: the other part may mean something else than it seems to.
pub fn read(bytes: &[u8], paths: &[Path]) -> Result<BTreeSet<IpNet>, String> {
    if bytes.len() > BYTES_MOST {
        return Err(format!("it is larger than {} MiB", BYTES_MOST >> 20));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut nets = BTreeSet::new();
    if paths.is_empty() {
        lines(text, &mut nets)?;
    } else {
        select(text, paths, &mut nets)?;
    }
    if nets.is_empty() {
        return Err("it names no prefix".to_owned());
    }
    Ok(nets)
}

fn add(nets: &mut BTreeSet<IpNet>, text: &str, place: &dyn Fn() -> String) -> Result<(), String> {
    let net = parse_prefix(text).map_err(|e| format!("{}: `{}` {e}", place(), quoted(text)))?;
    nets.insert(net);
    if nets.len() > PREFIXES_MOST {
        return Err(format!("it names more than {PREFIXES_MOST} prefixes"));
    }
    Ok(())
}

fn lines(text: &str, nets: &mut BTreeSet<IpNet>) -> Result<(), String> {
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim_matches([' ', '\t']);
        if !line.is_empty() {
            add(nets, line, &|| format!("line {number}")).map_err(|e| match text.trim_start().starts_with(['{', '[']) {
                true => format!("{e}; if it is JSON, say with `path:` what is taken from it"),
                false => e,
            })?;
        }
    }
    Ok(())
}

fn select(text: &str, paths: &[Path], nets: &mut BTreeSet<IpNet>) -> Result<(), String> {
    let document: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("it is no JSON: {e}"))?;
    for path in paths {
        // It was parsed before, when it was read.
        let parsed = JsonPath::parse(path.as_str()).map_err(|e| format!("`{path}` is no JSONPath: {e}"))?;
        let found = parsed.query(&document);
        if found.is_empty() {
            return Err(format!("`{path}` selects nothing"));
        }
        for value in found {
            let Some(text) = value.as_str() else {
                let kind = match value {
                    serde_json::Value::Array(_) => "a list; its items are selected by a path that ends in `[*]`",
                    serde_json::Value::Object(_) => "an object; add the key the prefix is behind",
                    _ => "no text",
                };
                return Err(format!("`{path}` selects what is {kind}"));
            };
            add(nets, text, &|| format!("`{path}`"))?;
        }
    }
    Ok(())
}

/// Why prefixes cannot be a vendor's, in a sentence; `None` when they can.
///
/// A list may hold no special-use prefix but those that `special` names, and none that meets the clients' own: an
/// allow-list that opens the way from the clients to themselves was written by nobody who means well. And it may not be
/// nearly everything in pieces.
#[must_use]
pub fn refuse(nets: &BTreeSet<IpNet>, special: &BTreeSet<SpecialUse>, clients: &[IpNet]) -> Option<String> {
    for net in nets {
        if let Some(why) = refuse_one(net, special, clients) {
            return Some(format!("{} {why}", addrs::short(net)));
        }
    }
    let set: AddrSet = nets.iter().copied().collect();
    if let Some(net) = set.prefixes().iter().find(|net| addrs::is_too_wide(net)) {
        return Some(format!("the prefixes together are {net}, which is too wide to be meant"));
    }
    let (v4, v6) = set.counts();
    if v4 > V4_MOST || v6 > V6_MOST {
        return Some("the prefixes together are more addresses than any vendor has".to_owned());
    }
    None
}

/// [`refuse`] for one prefix. The text ends a sentence that began with it.
#[must_use]
pub fn refuse_one(net: &IpNet, special: &BTreeSet<SpecialUse>, clients: &[IpNet]) -> Option<String> {
    if let Some(own) = clients.iter().find(|own| own.contains(net) || net.contains(*own)) {
        return Some(format!("meets the clients' own {}", addrs::short(own)));
    }
    let kind = addrs::special_uses(net).into_iter().find(|kind| !special.contains(kind))?;
    let way_out = match kind {
        SpecialUse::Private | SpecialUse::Documentation => {
            format!("; if that is right, add `{}` under `answers: allow:`", kind.as_str())
        }
        _ => String::new(),
    };
    Some(format!("holds {} addresses, where no host of the Internet is{way_out}", kind.as_str()))
}

/// Whether an address lies in one of the prefixes.
#[must_use]
pub fn holds(nets: impl IntoIterator<Item = IpNet>, addr: IpAddr) -> bool {
    nets.into_iter().any(|net| net.contains(&addr))
}

/// How many addresses a set has, in words: IPv4 by number, IPv6 by prefixes, for its numbers say nothing.
#[must_use]
pub fn size(set: &AddrSet) -> String {
    let (v4, v6) = (set.counts().0, set.v6_prefixes().len());
    let prefixes = if v6 == 1 { "prefix" } else { "prefixes" };
    match (v4, v6) {
        (0, _) => format!("{v6} IPv6 {prefixes}"),
        (_, 0) => format!("{v4} IPv4 addresses"),
        _ => format!("{v4} IPv4 addresses and {v6} IPv6 {prefixes}"),
    }
}

/// Whoever can get the text behind a URL.
pub trait Fetch {
    /// The whole text, at most [`BYTES_MOST`] bytes.
    ///
    /// # Errors
    /// Why not, in a sentence that ends a message.
    fn fetch(&self, url: &str) -> Result<Vec<u8>, String>;
}

/// What cannot be printed is taken out of another program's words.
#[cfg_attr(not(feature = "fetch"), allow(dead_code, reason = "no other program speaks in that build"))]
fn plain(text: &str) -> String {
    let plain: String =
        text.chars().map(|c| if forbidden(c.encode_utf8(&mut [0; 4])).is_some() { ' ' } else { c }).collect();
    quoted(&plain)
}

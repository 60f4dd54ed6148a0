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
/// Most IPv4 addresses one list may come to: a sixteenth of all there are, and more than any vendor has.
const V4_MOST: u128 = 1 << 28;
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
            add(nets, line, &|| format!("line {number}")).map_err(|e| {
                match text.trim_start().starts_with(['{', '[']) {
                    true => format!("{e}; if it is JSON, say with `path:` what is taken from it"),
                    false => e,
                }
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
        let place = || format!("`{path}`");
        let mut empty = true;
        for value in parsed.query(&document) {
            // `$.git` selects one list of prefixes, `$.git[*]` selects the prefixes: both are meant alike.
            let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            for item in items {
                let Some(text) = item.as_str() else {
                    let kind = match item {
                        serde_json::Value::Array(_) => "a list of lists",
                        serde_json::Value::Object(_) => "an object: add the key that the prefix is behind",
                        _ => "what is no text",
                    };
                    return Err(format!("`{path}` selects {kind}"));
                };
                add(nets, text, &place)?;
                empty = false;
            }
        }
        if empty {
            return Err(format!("`{path}` selects nothing"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paths(texts: &[&str]) -> Vec<Path> {
        texts.iter().map(|text| Path::parse(text).unwrap()).collect()
    }

    fn texts(nets: &BTreeSet<IpNet>) -> Vec<String> {
        nets.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_plain_list_has_a_prefix_a_line() {
        let text = "\u{feff}# ours\r\n192.0.2.0/25\r\n\r\n  2001:db8::/48 # and v6\n192.0.2.0/25\n198.51.100.7\n";
        assert_eq!(texts(&read(text.as_bytes(), &[]).unwrap()), ["192.0.2.0/25", "198.51.100.7/32", "2001:db8::/48"]);
    }

    #[test]
    fn a_path_selects_texts_or_lists_of_them() {
        let text = br#"{"git":["192.0.2.0/25","2001:db8::/48"],"web":["192.0.2.0/25"],"one":"198.51.100.0/24","n":1}"#;
        for (path, count) in [("$.git", 2), ("$.git[*]", 2), ("$.one", 1), ("$['git','web']", 2), ("$..one", 1)] {
            assert_eq!(read(text, &paths(&[path])).unwrap().len(), count, "{path}");
        }
        assert_eq!(read(text, &paths(&["$.git", "$.one"])).unwrap().len(), 3);
        for (path, why) in [
            ("$.api", "`$.api` selects nothing"),
            ("$.n", "`$.n` selects what is no text"),
            ("$", "`$` selects an object: add the key that the prefix is behind"),
            ("$.git[5]", "`$.git[5]` selects nothing"),
        ] {
            assert_eq!(read(text, &paths(&[path])).unwrap_err(), why);
        }
        assert!(read(text, &paths(&["$.git", "$.api"])).is_err(), "one of two that selects nothing is enough");
    }

    #[test]
    fn what_is_no_list_is_refused_whole() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let many: String =
            (0..=PREFIXES_MOST).map(|i| format!("8.{}.{}.{}\n", i >> 16, i >> 8 & 255, i & 255)).collect();
        let long = vec![b'#'; BYTES_MOST + 1];
        let plain: &[(&[u8], &str)] = &[
            (b"", "names no prefix"),
            (b"# nothing\n\n", "names no prefix"),
            (b"192.0.2.0/24\nwww.example.org\n", "line 2: `www.example.org` is no"),
            (b"192.0.2.1/24", "line 1: `192.0.2.1/24` has host bits set"),
            (b"0.0.0.0/0", "too wide"),
            (b"::/0", "too wide"),
            (b"0.0.0.0/1\n128.0.0.0/1", "too wide"),
            (b"2000::/3", "too wide"),
            (b"::ffff:192.0.2.0/120", "IPv4-mapped"),
            (b"192.0.2.1-192.0.2.9", "is no"),
            (b"!192.0.2.1", "is no"),
            (b"192.0.2.0/24, 198.51.100.0/24", "line 1"),
            ("192.0.2.\u{202e}0/24".as_bytes(), "<U+202E>"),
            ("192.0.2.0\u{a0}".as_bytes(), "line 1"),
            (b"\xff\xfe1", "not UTF-8"),
            (b"{\"git\": []}", "say with `path:`"),
            (b"<html>404</html>", "is no"),
            (many.as_bytes(), "more than 20000"),
            (&long, "larger than 16 MiB"),
        ];
        for (bytes, why) in plain {
            let said = read(bytes, &[]).unwrap_err();
            assert!(said.contains(why), "{said:?} does not say {why:?}");
            assert!(said.len() < 400 && !said.chars().any(crate::text::is_invisible), "{said:?}");
        }
        let json: &[(&str, &str)] = &[
            (&deep, "recursion limit"),
            ("", "no JSON"),
            ("<html>", "no JSON"),
            ("[\"192.0.2.0/24\"", "no JSON"),
            ("[\"192.0.2.0/24\"] x", "no JSON"),
            ("[1e400]", "no JSON"),
            ("[184467440737095516160000]", "no text"),
            ("[null]", "no text"),
            ("[]", "selects nothing"),
            ("[[]]", "list of lists"),
            ("[{\"a\": 1}]", "an object"),
            ("[\"0.0.0.0/0\"]", "too wide"),
            ("[\"192.0.2.0/24\", \"192.0.2.1/24\"]", "host bits"),
            ("[\"\u{202e}192.0.2.0/24\"]", "<U+202E>"),
            ("[\"192.0.2.0/24\\n0.0.0.0/0\"]", "<U+000A>"),
        ];
        for (text, why) in json {
            let said = read(text.as_bytes(), &paths(&["$"])).unwrap_err();
            assert!(said.contains(why), "{said:?} does not say {why:?}");
            assert!(!said.chars().any(crate::text::is_invisible), "{said:?}");
        }
    }

    #[test]
    fn a_path_is_bounded_work() {
        let nested = |open: &str, close: &str, n: usize| format!("$[?{}@.a{}]", open.repeat(n), close.repeat(n));
        for bad in [
            "",
            "git",
            "$.",
            "$.git[",
            "$[?@.a==$.b]",
            "$..*..*",
            "$[*,*][*,*][*,*][*,*][*,*][*,*][*,*]",
            "$[?@[?@[?@.a]]]",
            "$.a\u{202e}",
            "$.a\n",
            &nested("(", ")", 90),
            &nested("!(", ")", 60),
            &format!("$.{}", "a".repeat(PATH_MAX)),
            &"$[[[[[[[[[[[[[[[[".repeat(10),
        ] {
            let start = std::time::Instant::now();
            assert!(Path::parse(bad).is_err(), "{bad:?} was taken");
            assert!(start.elapsed().as_secs() < 2, "{bad:?} took {:?}", start.elapsed());
        }
        for good in [
            "$.git",
            "$['git']",
            "$.prefixes[?@.service=='S3' && @.region=='eu-central-1'].ip_prefix",
            "$.prefixes[?(@.service=='S3' || @.service=='EC2')].ip_prefix",
            "$.result.ipv4_cidrs[*]",
            "$..ip_prefix",
            &nested("(", ")", 4),
        ] {
            assert_eq!(Path::parse(good).map(|path| path.to_string()), Ok(good.to_owned()));
        }
    }

    #[test]
    fn a_filter_on_a_long_list_takes_no_time() {
        let item = r#"{"ip_prefix":"198.51.100.0/24","region":"eu-central-1","service":"S3"}"#;
        let text = format!("{{\"prefixes\":[{}]}}", vec![item; 100_000].join(","));
        let start = std::time::Instant::now();
        let nets = read(text.as_bytes(), &paths(&["$..prefixes[?@.service=='S3'].ip_prefix"])).unwrap();
        assert_eq!(nets.len(), 1);
        assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    }

    #[test]
    fn places_are_files_or_https() {
        for good in ["https://api.github.com/meta", "https://[2001:db8::1]:8443/a?b=c&d"] {
            assert_eq!(Place::url(good).unwrap().to_string(), good);
            assert_eq!(Place::parse(good), Place::url(good));
        }
        for bad in [
            "",
            "http://example.org/",
            "https://",
            "https:///meta",
            "https://:443/",
            "https://user:word@example.org/",
            "https://example.org/#a",
            "https://example.org/a b",
            "https://example.org/\"",
            "https://b\u{fc}cher.example/",
            "file:///etc/passwd",
            "ftp://example.org/",
        ] {
            assert!(Place::url(bad).is_err(), "{bad:?} was taken");
            assert!(bad.is_empty() || !bad.contains("://") || Place::parse(bad).is_err(), "{bad:?} was taken");
        }
        assert!(Place::file("ranges/aws.json").is_ok() && Place::file("../shared/aws.json").is_ok());
        assert!(Place::file("a\nb").is_err() && Place::file("http://a").is_err() && Place::file("").is_err());
    }

    fn judged(list: &[&str], special: &[SpecialUse], clients: &[&str]) -> Option<String> {
        let nets = list.iter().map(|text| parse_prefix(text).unwrap()).collect();
        let clients: Vec<IpNet> = clients.iter().map(|text| text.parse().unwrap()).collect();
        refuse(&nets, &special.iter().copied().collect(), &clients)
    }

    #[test]
    fn no_list_holds_what_no_vendor_has() {
        let pieces: Vec<String> = (1..100).step_by(2).map(|i| format!("{i}.0.0.0/9")).collect();
        let halves: Vec<String> = (16..48).map(|i| format!("{i}.0.0.0/8")).collect();
        let whole: Vec<&str> = halves.iter().map(String::as_str).collect();
        let many: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let sixes: Vec<String> = (0..5).map(|i| format!("26{i}0::/16")).collect();
        let sixes: Vec<&str> = sixes.iter().map(String::as_str).collect();
        for (list, why) in [
            (&["10.1.0.0/16"][..], "private"),
            (&["8.8.8.0/24", "127.0.0.1"], "loopback"),
            (&["169.254.169.254"], "link-local"),
            (&["192.0.2.0/24"], "documentation"),
            (&["192.0.0.0/8"], "holds"),
            (&["100.0.0.0/8"], "private"),
            (&["2001::/16"], "holds"),
            (&["fc00::/32"], "private"),
            (&["4000::/16"], "reserved"),
            (&["64:ff9b::/96"], "transition"),
            (&whole, "too wide"),
            (&many, "more addresses than any vendor has"),
            (&sixes, "more addresses than any vendor has"),
            (&["140.82.112.0/20"], "clients' own"),
            (&["140.82.0.0/16"], "clients' own"),
            (&["140.82.113.7"], "clients' own"),
        ] {
            let said = judged(list, &[], &["140.82.113.0/24"]).unwrap_or_else(|| panic!("{list:?} was taken"));
            assert!(said.contains(why), "{list:?}: {said:?} does not say {why:?}");
        }
        assert_eq!(judged(&["140.82.112.0/24", "2606:50c0::/32", "3.0.0.0/9"], &[], &["140.82.113.0/24"]), None);
        assert_eq!(judged(&["192.0.2.0/24", "2001:db8::/32"], &[SpecialUse::Documentation], &[]), None);
        assert!(judged(&["10.0.0.0/8"], &[SpecialUse::Documentation], &[]).is_some());
    }

    /// Prefixes as a vendor writes them, some of them wrong.
    fn line() -> impl Strategy<Value = (String, Option<IpNet>)> {
        (any::<bool>(), any::<u128>(), 0_u8..=128, any::<bool>()).prop_map(|(v6, bits, length, aligned)| {
            let addr = if v6 { IpAddr::V6(bits.into()) } else { IpAddr::V4(((bits >> 96) as u32).into()) };
            let net = IpNet::new(addr, if v6 { length } else { length % 33 }).unwrap();
            let net = if aligned { net.trunc() } else { net };
            (net.to_string(), parse_prefix(&net.to_string()).ok())
        })
    }

    proptest! {
        #[test]
        fn never_wider_than_what_it_says(lines in prop::collection::vec(line(), 1..12)) {
            let text: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
            let json = serde_json::json!({"a": lines.iter().map(|(line, _)| line).collect::<Vec<_>>()}).to_string();
            let want: Option<BTreeSet<IpNet>> = lines.iter().map(|(_, net)| *net).collect();
            prop_assert_eq!(&read(text.as_bytes(), &[]).ok(), &want);
            prop_assert_eq!(&read(json.as_bytes(), &paths(&["$.a"])).ok(), &want);
            for net in want.iter().flatten() {
                prop_assert_eq!(net.trunc(), *net);
                prop_assert!(!addrs::is_too_wide(net));
            }
        }

        #[test]
        fn no_text_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,60}") {
            let _ = read(&bytes, &[]);
            let _ = read(text.as_bytes(), &paths(&["$..*"]));
            let _ = Path::parse(&text);
            let _ = Place::parse(&text);
        }
    }
}

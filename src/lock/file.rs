//! The lock on disk: JSON in one canonical form, one fact a line, each entry with a check sum.
//!
//! Lines of one entry change together or not at all: a lock of which git merged one half of an entry from each side,
//! or that somebody edited, does not add up, and is refused with the line. The sum guards against mistakes, not against
//! malice: whoever may write the lock may write the sum.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::{self, Write as _};
use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::ranges::Listed;
use super::{Entry, Failed, ListEntry, Lock, Seen};
use crate::addrs::{parse_prefix, short};
use crate::day::Day;
use crate::diagnostic::{Code, Diagnostic};
use crate::digest::sha256;
use crate::host::{Host, Query};
use crate::pool::Sampled;
use crate::ranges::{Path, Place, Source};
use crate::resolve::{Failure, RecordType};
use crate::source::{SourceId, Sources, Span};
use crate::text::{CONFLICT, Id, Text, is_conflict_marker, quoted};

mod usual;

/// The format this program writes and reads.
const FORMAT: u32 = 2;

/// What is said of a part that is not what its sum says.
const ODD: &str = "does not add up: it was edited, or merged by halves";

/// Digits of a check sum: a mistake passes one in four thousand million times.
const SUM_DIGITS: usize = 8;

/// DNS answers with their history, written by `outgate resolve` alone.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document<'a> {
    /// Version of the format.
    #[schemars(extend("enum" = [FORMAT]))]
    format: u32,
    /// Day of the last run that asked every name, UTC, such as `2026-11-21`.
    #[schemars(with = "Day")]
    day: String,
    /// What whoever ran it wanted to say.
    #[serde(default)]
    note: Option<String>,
    /// The sites it serves, by name.
    sites: Vec<String>,
    /// Check sum of the keys above.
    sum: String,
    /// Each name that was asked: a host, or a service name such as `_http._tcp.pkg.freebsd.org`.
    #[schemars(with = "BTreeMap<String, EntryText>")]
    #[serde(borrow)]
    hosts: Unique<'a, EntryText<'a>>,
    /// Vendors' lists of prefixes, by the name a profile gives them. Left out where there are none.
    #[serde(borrow, default)]
    #[schemars(with = "BTreeMap<Id, ListText>")]
    ranges: Unique<'a, ListText<'a>>,
}

/// What is known of one list. Empty parts are left out.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListText<'a> {
    /// Where it is: a file, by its path from the profile, or a URL.
    from: String,
    /// What was taken from its JSON. Left out where it has a prefix a line.
    #[serde(default)]
    path: Vec<String>,
    /// The day it was last read or tried, where that is not the day of the head.
    #[serde(default)]
    #[schemars(with = "Option<Day>")]
    read: Option<String>,
    /// The day it first could not be read, with no good reading since.
    #[serde(default)]
    #[schemars(with = "Option<Day>")]
    failed: Option<String>,
    /// Its prefixes as the vendor has them, each with its history.
    #[schemars(with = "BTreeMap<String, ListedText>")]
    #[serde(borrow)]
    prefixes: Unique<'a, ListedText<'a>>,
    /// Check sum of the name and what is known of it.
    sum: String,
}

/// The history of one prefix in one list.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListedText<'a> {
    /// The day it was first in the list, such as `2026-11-21`.
    #[serde(borrow)]
    #[schemars(with = "Day")]
    seen: Cow<'a, str>,
    /// The day it was first no longer there. Left out while it is.
    #[serde(default)]
    #[schemars(with = "Option<Day>")]
    missing: Option<String>,
}

/// What is known of one name. Empty parts are left out.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EntryText<'a> {
    /// The day it was last asked, where that is not the day of the head.
    #[serde(default)]
    #[schemars(with = "Option<Day>")]
    asked: Option<String>,
    /// Of a service: the hosts its SRV records select, each with its port.
    #[serde(default)]
    targets: Vec<String>,
    /// The CNAME chain of the newest answer, in order, without the name itself.
    #[serde(default)]
    chain: Vec<String>,
    /// Further names that other resolvers, or other samples, went through.
    #[serde(default)]
    through: Vec<String>,
    /// Addresses, each with its history.
    #[serde(borrow, default)]
    #[schemars(with = "BTreeMap<String, SeenText>")]
    addresses: Unique<'a, SeenText<'a>>,
    /// Record types that failed when last asked.
    #[serde(borrow, default)]
    #[schemars(with = "BTreeMap<RecordType, FailedText>")]
    failed: Unique<'a, FailedText>,
    /// The newest run that took several samples and did not find the same addresses in all.
    #[serde(default)]
    sampled: Option<SampledText>,
    /// Every resolver says that it validated the answer with DNSSEC.
    #[serde(default)]
    authentic: bool,
    /// The name servers of the newest answer.
    #[serde(default)]
    by: Vec<String>,
    /// Check sum of the name and what is known of it.
    sum: String,
}

/// The history of one address under one name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SeenText<'a> {
    /// The day it was first answered, such as `2026-11-21`.
    #[serde(borrow)]
    #[schemars(with = "Day")]
    seen: Cow<'a, str>,
    /// The day it was first no longer answered. Left out while it is answered.
    #[serde(default)]
    #[schemars(with = "Option<Day>")]
    missing: Option<String>,
    /// The name servers that last answered it, where they are not those of the name.
    #[serde(default)]
    by: Option<Vec<String>>,
}

/// A lookup that keeps failing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FailedText {
    /// How it failed last.
    #[schemars(with = "Failure")]
    how: String,
    /// The day it first failed, with no good answer since.
    #[schemars(with = "Day")]
    since: String,
}

/// What several samples found.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SampledText {
    /// Independent answers.
    times: u32,
    /// Different addresses in all of them.
    addresses: u32,
    /// Addresses over all answers, one that came in three counted three times.
    sightings: u32,
    /// Addresses that came in one answer only.
    once: u32,
    /// Addresses that came in exactly two.
    twice: u32,
}

/// A JSON object in the order written; a key twice is an error, where serde would lose one. Keys are of the text read,
/// as far as they hold no escape: a large lock has a million of them.
struct Unique<'a, V>(Vec<(Cow<'a, str>, V)>);

impl<V> Default for Unique<'_, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de: 'a, 'a, V: Deserialize<'de>> Deserialize<'de> for Unique<'a, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// serde borrows a text of its own accord in a field alone.
        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
        struct Pairs<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Pairs<V> {
            type Value = Unique<'de, V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let (mut pairs, mut keys) = (Vec::new(), HashSet::new());
                // The key is judged before its value is read, so that the error has the line of the key.
                while let Some(Key(key)) = map.next_key()? {
                    if !keys.insert(key.clone()) {
                        return Err(M::Error::custom(format_args!("`{}` stands twice", quoted(&key))));
                    }
                    pairs.push((key, map.next_value()?));
                }
                Ok(Unique(pairs))
            }
        }
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

/// A text as JSON has it.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A list of texts as JSON has it.
fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| json(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// The check sum over the text of one entry, or of the head.
fn sum(text: &str) -> String {
    sha256(text)[..SUM_DIGITS].to_owned()
}

impl Lock {
    /// The file: canonical, with a final newline.
    #[must_use]
    pub fn print(&self) -> String {
        let head = self.head();
        let mut out = format!("{{\n{head}\"sum\": {},\n\"hosts\": {{", json(&sum(&head)));
        for (i, (query, entry)) in self.hosts.iter().enumerate() {
            let name = json(&query.to_string());
            let body = entry.body();
            let total = sum(&format!("{name}\n{body}"));
            let comma = if i == 0 { "" } else { "," };
            let _ = write!(out, "{comma}\n{name}: {{\n{body} \"sum\": {}\n}}", json(&total));
        }
        out.push_str("\n}");
        for (i, (id, entry)) in self.ranges.iter().enumerate() {
            let name = json(id.as_str());
            let body = entry.body();
            let total = sum(&format!("{name}\n{body}"));
            let before = if i == 0 { ",\n\"ranges\": {" } else { "," };
            let _ = write!(out, "{before}\n{name}: {{\n{body} \"sum\": {}\n}}", json(&total));
        }
        if !self.ranges.is_empty() {
            out.push_str("\n}");
        }
        out.push_str("\n}\n");
        out
    }

    /// The keys before the hosts, but for their sum: a day set by hand would make old answers young.
    fn head(&self) -> String {
        let mut head = format!("\"format\": {FORMAT},\n\"day\": {},\n", json(&self.day.to_string()));
        if let Some(note) = &self.note {
            let _ = writeln!(head, "\"note\": {},", json(note.as_str()));
        }
        let _ = writeln!(head, "\"sites\": {},", list(&self.sites));
        head
    }

    /// Reads a lock.
    ///
    /// # Errors
    /// One diagnostic with the line: no JSON, another format, a value that is none, a key twice, an entry that does
    /// not add up, or a file that is not as we would have written it.
    pub fn parse(sources: &Sources, id: SourceId) -> Result<Self, Diagnostic> {
        let text = &sources.get(id).text;
        usual::read(text, id).map_or_else(|| Self::read_any(text, id), Ok)
    }

    /// Reads any lock, and says what is wrong with it.
    fn read_any(text: &str, id: SourceId) -> Result<Self, Diagnostic> {
        let bad = |line: usize, message: String| {
            Diagnostic::new(Code::BadLock, message)
                .at(line_span(text, id, line), "")
                .help("a lock is written by `outgate resolve` alone: restore it from git, or remove it and run `outgate resolve`")
        };
        if let Some(line) = text.lines().position(is_conflict_marker) {
            return Err(bad(line + 1, CONFLICT.to_owned()));
        }
        if text.contains('\r') {
            return Err(bad(1, "this lock has the line ends of Windows".to_owned()).help(
                "keep git from changing it: put `outgate.lock -text` into .gitattributes and check it out again",
            ));
        }
        if let Some(format) = format_of(text).filter(|&format| format != FORMAT) {
            return Err(bad(2, format!("this lock has format {format}, this program reads format {FORMAT}")));
        }
        let document: Document = serde_json::from_str(text).map_err(|e| {
            let why = e.to_string();
            let why = match why.split_once(" at line ") {
                _ if e.is_eof() => "this lock is not whole, it ends too early".to_owned(),
                _ if !text.starts_with('{') => "this is no lock: it does not begin with `{`".to_owned(),
                Some((why, _)) => format!("this is no lock: {why}"),
                None => format!("this is no lock: {why}"),
            };
            bad(e.line(), why)
        })?;
        if document.format != FORMAT {
            return Err(bad(
                2,
                format!("this lock has format {}, this program reads format {FORMAT}", document.format),
            ));
        }
        let line_of = |needle: &str| 1 + text.lines().position(|line| line.starts_with(needle)).unwrap_or(0);
        let at = |key: &str, message: String| bad(line_of(&format!("{}:", json(key))), message);
        let day =
            Day::parse(&document.day).ok_or_else(|| at("day", format!("`{}` is no day", quoted(&document.day))))?;
        let note = document.note.as_deref().map(Text::parse).transpose();
        let note = note.map_err(|e| at("note", format!("the note {e}")))?;
        let sites: Result<_, _> = document.sites.iter().map(|site| Text::parse(site)).collect();
        let sites = sites.map_err(|e| at("sites", format!("the name of a site {e}")))?;
        let mut lock = Self { day, note, sites, hosts: BTreeMap::new(), ranges: BTreeMap::new() };
        // What a value is says more than that it was changed, so the sums come last.
        let mut odd = (document.sum != sum(&lock.head())).then(|| at("sum", format!("the head of this lock {ODD}")));
        for (name, entry) in &document.hosts.0 {
            let at = |message: String| at(name, message);
            let query = Query::parse(name).map_err(|e| at(format!("`{}` {e}", quoted(name))))?;
            let known = Entry::parse(entry).map_err(|e| at(format!("`{}`: {e}", quoted(name))))?;
            if entry.sum != sum(&format!("{}\n{}", json(name), known.body())) {
                odd.get_or_insert_with(|| at(format!("the entry of `{}` {ODD}", quoted(name))));
            }
            lock.hosts.insert(query, known);
        }
        for (name, entry) in &document.ranges.0 {
            let at = |message: String| at(name, message);
            let id = Id::parse(name).map_err(|e| at(format!("`{}` {e}", quoted(name))))?;
            let known = ListEntry::parse(entry).map_err(|e| at(format!("`{}`: {e}", quoted(name))))?;
            if entry.sum != sum(&format!("{}\n{}", json(name), known.body())) {
                odd.get_or_insert_with(|| at(format!("the list `{}` {ODD}", quoted(name))));
            }
            lock.ranges.insert(id, known);
        }
        if let Some(odd) = odd {
            return Err(odd);
        }
        let canonical = lock.print();
        if canonical != text {
            let line = 1 + text.lines().zip(canonical.lines()).take_while(|(a, b)| a == b).count();
            return Err(bad(line, "this lock is not as it was written".to_owned()));
        }
        Ok(lock)
    }
}

/// The version of the format, where a text says one; another version may have any other keys.
fn format_of(text: &str) -> Option<u32> {
    text.lines().nth(1)?.strip_prefix("\"format\": ")?.strip_suffix(',')?.parse().ok()
}

fn line_span(text: &str, source: SourceId, line: usize) -> Span {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let length = text.get(start..).and_then(|rest| rest.lines().next()).map_or(0, str::len);
    Span { source, range: start..start + length }
}

impl Entry {
    /// The lines of the entry, but for its sum.
    fn body(&self) -> String {
        let mut out = self.before_addresses();
        if !self.addresses.is_empty() {
            out.reserve(48 * self.addresses.len());
            let mut between = " \"addresses\": {\n";
            for (addr, seen) in self.addresses.iter() {
                out.push_str(between);
                self.address(addr, seen, &mut out);
                between = ",\n";
            }
            out.push_str("\n },\n");
        }
        out + &self.behind_addresses()
    }

    fn before_addresses(&self) -> String {
        let mut out = String::new();
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(out, " {}: {value},", json(key));
        };
        if let Some(asked) = self.asked {
            line("asked", &json(&asked.to_string()));
        }
        if !self.targets.is_empty() {
            line("targets", &list(self.targets.iter().map(|(host, port)| format!("{host}:{port}"))));
        }
        if !self.chain.is_empty() {
            line("chain", &list(&self.chain));
        }
        if !self.through.is_empty() {
            line("through", &list(&self.through));
        }
        out
    }

    fn behind_addresses(&self) -> String {
        let mut out = String::new();
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(out, " {}: {value},", json(key));
        };
        if !self.failed.is_empty() {
            let failed = self.failed.iter().map(|(kind, failed)| {
                let (how, since) = (json(failed.failure.as_str()), json(&failed.since.to_string()));
                format!("{}: {{\"how\": {how}, \"since\": {since}}}", json(kind.as_str()))
            });
            line("failed", &format!("{{{}}}", failed.collect::<Vec<_>>().join(", ")));
        }
        if let Some(Sampled { times, addresses, sightings, once, twice }) = self.sampled {
            let value = format!(
                "{{\"times\": {times}, \"addresses\": {addresses}, \"sightings\": {sightings}, \"once\": {once}, \"twice\": {twice}}}"
            );
            line("sampled", &value);
        }
        if self.authentic {
            line("authentic", "true");
        }
        if !self.by.is_empty() {
            line("by", &list(&*self.by));
        }
        out
    }

    /// One line. Neither an address nor a day holds what JSON would escape.
    fn address(&self, addr: IpAddr, seen: &Seen, out: &mut String) {
        let _ = write!(out, "  \"{}\": {{\"seen\": \"{}\"", short(&addr.into()), seen.first);
        if let Some(missing) = seen.missing {
            let _ = write!(out, ", \"missing\": \"{missing}\"");
        }
        if seen.by != self.by {
            let _ = write!(out, ", \"by\": {}", list(&*seen.by));
        }
        out.push('}');
    }

    fn parse(text: &EntryText<'_>) -> Result<Self, String> {
        let host = |text: &str| Host::parse(text).map_err(|e| format!("`{}` {e}", quoted(text)));
        let mut entry = Self {
            asked: text.asked.as_deref().map(day).transpose()?,
            authentic: text.authentic,
            by: servers(&text.by)?,
            ..Self::default()
        };
        for target in &text.targets {
            let (name, port) = target.rsplit_once(':').ok_or("a target has no port")?;
            entry.targets.insert((host(name)?, port.parse().map_err(|_| "a target has no port")?));
        }
        for name in &text.chain {
            entry.chain.push(host(name)?);
        }
        for name in &text.through {
            entry.through.insert(host(name)?);
        }
        let addresses = text.addresses.0.iter().map(|(addr, seen)| {
            let addr: IpAddr = addr.parse().map_err(|_| format!("`{}` is no address", quoted(addr)))?;
            let missing = seen.missing.as_deref().map(day).transpose()?;
            let by = seen.by.as_deref().map_or_else(|| Ok(Arc::clone(&entry.by)), servers)?;
            Ok((addr, Seen { first: day(&seen.seen)?, missing, by }))
        });
        entry.addresses = addresses.collect::<Result<_, String>>()?;
        for (kind, failed) in &text.failed.0 {
            let kind = RecordType::ALL.into_iter().find(|k| k.as_str() == kind);
            let failure = Failure::ALL.iter().copied().find(|f| f.as_str() == failed.how);
            let (kind, failure) = kind.zip(failure).ok_or("an unknown failure")?;
            entry.failed.insert(kind, Failed { failure, since: day(&failed.since)? });
        }
        if let Some(SampledText { times, addresses, sightings, once, twice }) = text.sampled {
            entry.sampled = Some(Sampled { times, addresses, sightings, once, twice });
        }
        Ok(entry)
    }
}

impl ListEntry {
    /// The lines of the list, but for its sum.
    fn body(&self) -> String {
        let mut out = self.before_prefixes();
        let lines = self.prefixes.iter().map(|(net, listed)| {
            let missing = listed.missing.map(|day| format!(", \"missing\": {}", json(&day.to_string())));
            let seen = json(&listed.first.to_string());
            format!("  {}: {{\"seen\": {seen}{}}}", json(&net.to_string()), missing.unwrap_or_default())
        });
        let _ = writeln!(out, " \"prefixes\": {{\n{}\n }},", lines.collect::<Vec<_>>().join(",\n"));
        out
    }

    fn before_prefixes(&self) -> String {
        let mut out = format!(" \"from\": {},\n", json(&self.source.from.to_string()));
        if !self.source.paths.is_empty() {
            let _ = writeln!(out, " \"path\": {},", list(&self.source.paths));
        }
        for (key, day) in [("read", self.read), ("failed", self.failed)] {
            if let Some(day) = day {
                let _ = writeln!(out, " {}: {},", json(key), json(&day.to_string()));
            }
        }
        out
    }

    fn parse(text: &ListText<'_>) -> Result<Self, String> {
        let mut entry = Self::parse_head(text)?;
        for (net, listed) in &text.prefixes.0 {
            let parsed = parse_prefix(net).map_err(|e| format!("`{}` {e}", quoted(net)))?;
            let missing = listed.missing.as_deref().map(day).transpose()?;
            entry.prefixes.insert(parsed, Listed { first: day(&listed.seen)?, missing });
        }
        if entry.prefixes.is_empty() { Err("it has no prefix".to_owned()) } else { Ok(entry) }
    }

    /// All but its prefixes.
    fn parse_head(text: &ListText<'_>) -> Result<Self, String> {
        let from = Place::parse(&text.from).map_err(|e| format!("`{}` {e}", quoted(&text.from)))?;
        let path = |text: &String| Path::parse(text).map_err(|e| format!("`{}` {e}", quoted(text)));
        let paths = text.path.iter().map(path).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            source: Source { from, paths },
            read: text.read.as_deref().map(day).transpose()?,
            failed: text.failed.as_deref().map(day).transpose()?,
            prefixes: BTreeMap::new(),
        })
    }
}

fn day(text: &str) -> Result<Day, String> {
    Day::parse(text).ok_or_else(|| format!("`{}` is no day", quoted(text)))
}

fn servers(names: &[String]) -> Result<Arc<BTreeSet<String>>, String> {
    match names.iter().find(|name| crate::text::forbidden(name).is_some()) {
        Some(name) => Err(format!("`{}` is no name server", quoted(name))),
        None => Ok(Arc::new(names.iter().cloned().collect())),
    }
}

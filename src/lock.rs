//! The lock: DNS answers with their history, committed to git.
//!
//! One host a line, sorted, dates by day: an unchanged answer is an unchanged line. A lock is written by us alone; one
//! that does not read back to the same bytes was edited or half merged and is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::addrs::{SpecialUse, short, special_use};
use crate::day::Day;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::{Host, Query, Service};
use crate::policy::{Policy, Trust};
use crate::resolve::{Answer, Answers, Failure, RecordType};
use crate::source::{SourceId, Sources, Span};
use crate::text::{CONFLICT, Text, is_conflict_marker, quoted};

/// The format this program writes and reads.
const FORMAT: u32 = 1;

/// Pinned answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The day of the run that wrote it.
    pub day: Day,
    /// What whoever ran it wanted to say, such as from where the names were asked.
    pub note: Option<Text>,
    /// Every name, with what is known of it.
    pub hosts: BTreeMap<Query, Entry>,
}

/// What is known of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// For a service: the hosts its SRV records select, with their ports.
    pub targets: BTreeSet<(Host, u16)>,
    /// The names the newest answer went through, in order.
    pub chain: Vec<Host>,
    /// Addresses, each with its history.
    pub addresses: BTreeMap<IpAddr, Seen>,
    /// What failed when it was last asked.
    pub failed: BTreeMap<RecordType, Failure>,
    /// The name servers that said so.
    pub resolvers: BTreeSet<String>,
}

/// The history of one address under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The day it was first answered.
    pub first: Day,
    /// The day it was first no longer answered, if the newest answer lacks it.
    pub missing: Option<Day>,
}

/// Answers → lock: yesterday's addresses stay for the profile's keep days, failed lookups keep what was known, and
/// answers no public name can have are left out. Every one of these is a finding.
#[must_use]
pub fn update(
    policy: &Policy,
    old: Option<&Lock>,
    answers: &Answers,
    today: Day,
    note: Option<Text>,
    findings: &mut Findings,
) -> Lock {
    let clients = policy.client_prefixes();
    let mut wanted = policy.queries();
    let mut hosts = BTreeMap::new();
    // Targets of services join the names that are wanted, so the work is a queue and not a list.
    while let Some((query, trust)) = wanted.pop_first() {
        if hosts.contains_key(&query) {
            continue;
        }
        let before = old.and_then(|lock| lock.hosts.get(&query));
        let missing = Answer { failures: BTreeMap::from([(RecordType::A, Failure::Timeout)]), ..Answer::default() };
        let answer = answers.get(&query).unwrap_or(&missing);
        let entry = update_entry(
            &query,
            answer,
            before,
            &Judge { trust: &trust, clients: &clients },
            today,
            policy.keep_days,
            findings,
        );
        for (target, _) in &entry.targets {
            wanted.entry(Query::Host(target.clone())).or_insert_with(|| trust.clone());
        }
        hosts.insert(query, entry);
    }
    Lock { day: today, note: note.or_else(|| old.and_then(|lock| lock.note.clone())), hosts }
}

fn update_entry(
    query: &Query,
    answer: &Answer,
    before: Option<&Entry>,
    judge: &Judge<'_>,
    today: Day,
    keep_days: u16,
    findings: &mut Findings,
) -> Entry {
    let mut entry = Entry {
        chain: answer.chain.clone(),
        failed: answer.failures.clone(),
        resolvers: answer.resolvers.clone(),
        ..Entry::default()
    };
    for &addr in &answer.addresses {
        match judge.refuse(addr) {
            Some(why) => findings.push(
                Diagnostic::new(Code::RefusedAddress, format!("`{query}` was answered with {addr}, {why}: left out"))
                    .help(format!("a name server that answers so may be lying (DNS rebinding){}", why.way_out())),
            ),
            None => {
                let first = before.and_then(|b| b.addresses.get(&addr)).map_or(today, |seen| seen.first);
                entry.addresses.insert(addr, Seen { first, missing: None });
            }
        }
    }
    for (host, port) in &answer.targets {
        let Query::Service(service) = query else { continue };
        if may_select(service, host) {
            entry.targets.insert((host.clone(), *port));
        } else {
            findings.push(Diagnostic::new(
                Code::ForeignTarget,
                format!("SRV of `{query}` points to `{host}`, outside its own domain: left out"),
            ));
        }
    }
    if let Some(before) = before {
        let unanswered = |kind: RecordType| answer.failures.get(&kind).is_some_and(|f| !f.is_final());
        for (&addr, seen) in &before.addresses {
            let kind = if addr.is_ipv4() { RecordType::A } else { RecordType::Aaaa };
            if entry.addresses.contains_key(&addr) || judge.refuse(addr).is_some() {
                continue;
            }
            // No answer says nothing of the old one: it stands as it was.
            let missing = if unanswered(kind) { seen.missing } else { seen.missing.or(Some(today)) };
            if missing.is_none_or(|since| today.days_since(since) <= keep_days.into()) {
                entry.addresses.insert(addr, Seen { first: seen.first, missing });
            }
        }
        if unanswered(RecordType::Srv) {
            entry.targets.extend(before.targets.iter().cloned());
        }
        if entry.chain.is_empty() && !answer.failures.is_empty() {
            entry.chain.clone_from(&before.chain);
        }
    }
    if !answer.failures.is_empty() {
        let kept = if entry.addresses.is_empty() && entry.targets.is_empty() {
            "nothing is known of it"
        } else {
            "what is known of it is kept"
        };
        let list: Vec<String> =
            answer.failures.iter().map(|(kind, failure)| format!("{} {failure}", kind.as_str())).collect();
        findings.push(Diagnostic::new(Code::LookupFailed, format!("`{query}`: {}; {kept}", list.join(", "))));
    }
    entry
}

/// Whether an SRV record of a service may select a host: a forged one must not open a stranger's.
#[must_use]
pub fn may_select(service: &Service, target: &Host) -> bool {
    service.host().registered_domain().is_some_and(|domain| target.registered_domain() == Some(domain))
}

/// What an address behind a name may be.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// What the answers for this name may hold.
    pub trust: &'a Trust,
    /// The clients' own prefixes.
    pub clients: &'a [IpNet],
}

impl Judge<'_> {
    /// Why the address cannot be where the name is; `None` when it can.
    #[must_use]
    pub fn refuse(&self, addr: IpAddr) -> Option<Refusal> {
        if let Some(&net) = self.clients.iter().find(|net| !self.trust.own_network && net.contains(&addr)) {
            return Some(Refusal::Client(net));
        }
        special_use(addr).filter(|kind| !self.trust.special.contains(kind)).map(Refusal::Special)
    }
}

/// Why an address cannot be where a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It lies in this prefix of the clients' own.
    Client(IpNet),
    /// Its kind is not allowed.
    Special(SpecialUse),
}

impl Refusal {
    /// The end of a help line: what to do if the answer is right after all. Empty where nothing can be done.
    #[must_use]
    pub fn way_out(self) -> String {
        match self {
            Self::Special(kind @ (SpecialUse::Private | SpecialUse::Documentation)) => {
                format!("; if it is right, add `{}` under `answers: allow:`", kind.as_str())
            }
            Self::Special(_) | Self::Client(_) => String::new(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(net) => write!(f, "which lies in the clients' own {}", short(net)),
            Self::Special(kind) => write!(f, "a {} address", kind.as_str()),
        }
    }
}

/// What is known of one name. Empty parts are left out.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Line {
    /// Of a service: the hosts its SRV records select, each with its port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    targets: Vec<String>,
    /// The CNAME chain of the newest answer, in order, without the name itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chain: Vec<String>,
    /// Addresses, each with its history.
    #[serde(default = "Unique::default", skip_serializing_if = "Unique::<SeenLine>::is_empty")]
    #[schemars(with = "BTreeMap<String, SeenLine>")]
    addresses: Unique<SeenLine>,
    /// Record types that failed when last asked, with the failure.
    #[serde(default, skip_serializing_if = "Unique::<String>::is_empty")]
    #[schemars(with = "BTreeMap<RecordType, Failure>")]
    failed: Unique<String>,
    /// The name servers that answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    by: Vec<String>,
}

/// The history of one address under one name.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SeenLine {
    /// The day it was first answered, such as `2026-11-21`.
    #[schemars(with = "Day")]
    seen: String,
    /// The day it was first no longer answered. Left out while it is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Day>")]
    missing: Option<String>,
}

/// DNS answers with their history, written by `outgate resolve` alone.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    /// Version of the format.
    #[schemars(extend("enum" = [FORMAT]))]
    format: u32,
    /// Day of the run that wrote it, UTC, such as `2026-11-21`.
    #[schemars(with = "Day")]
    day: String,
    /// What whoever ran it wanted to say.
    #[serde(default)]
    note: Option<String>,
    /// Each name that was asked: a host, or a service name such as `_http._tcp.pkg.freebsd.org`.
    #[schemars(with = "BTreeMap<String, Line>")]
    hosts: Unique<Line>,
}

/// A JSON object in the order written; a key twice is an error, where serde would lose one.
struct Unique<V>(Vec<(String, V)>);

impl<V> Default for Unique<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Unique<V> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<V: Serialize> Serialize for Unique<V> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(k, v)| (k, v)))
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Pairs<V> {
            type Value = Unique<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let (mut pairs, mut keys) = (Vec::new(), BTreeSet::new());
                // The key is judged before its value is read, so that the error has the line of the key.
                while let Some(key) = map.next_key::<String>()? {
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

impl Lock {
    /// The file: canonical, with a final newline.
    #[must_use]
    pub fn print(&self) -> String {
        let text = |value: &str| serde_json::Value::from(value).to_string();
        let mut out = format!("{{\n\"format\": {FORMAT},\n\"day\": {},\n", text(&self.day.to_string()));
        if let Some(note) = &self.note {
            out.push_str(&format!("\"note\": {},\n", text(note.as_str())));
        }
        out.push_str("\"hosts\": {");
        for (i, (query, entry)) in self.hosts.iter().enumerate() {
            let line = serde_json::to_string(&entry.line()).unwrap_or_default();
            out.push_str(&format!("{}\n{}: {line}", if i == 0 { "" } else { "," }, text(&query.to_string())));
        }
        out.push_str("\n}\n}\n");
        out
    }

    /// Reads a lock.
    ///
    /// # Errors
    /// One diagnostic with the line: no JSON, another format, a value that is none, a key twice, or a file that is
    /// not as we would have written it.
    pub fn parse(sources: &Sources, id: SourceId) -> Result<Self, Diagnostic> {
        let text = &sources.get(id).text;
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
        let line_of = |needle: &str| 1 + text.lines().position(|line| line.contains(needle)).unwrap_or(0);
        let day = Day::parse(&document.day).ok_or_else(|| bad(3, format!("`{}` is no day", document.day)))?;
        let note =
            document.note.as_deref().map(Text::parse).transpose().map_err(|e| bad(4, format!("the note {e}")))?;
        let mut hosts = BTreeMap::new();
        for (name, line) in &document.hosts.0 {
            let at = |message: String| bad(line_of(&format!("{}:", serde_json::Value::from(name.as_str()))), message);
            let query = Query::parse(name).map_err(|e| at(format!("`{}` {e}", quoted(name))))?;
            hosts.insert(query, Entry::parse(line).map_err(|e| at(format!("`{}`: {e}", quoted(name))))?);
        }
        let lock = Self { day, note, hosts };
        let canonical = lock.print();
        if canonical != *text {
            let line = 1 + text.lines().zip(canonical.lines()).take_while(|(a, b)| a == b).count();
            return Err(bad(line, "this lock is not as it was written".to_owned()));
        }
        Ok(lock)
    }
}

fn line_span(text: &str, source: SourceId, line: usize) -> Span {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let length = text.get(start..).and_then(|rest| rest.lines().next()).map_or(0, str::len);
    Span { source, range: start..start + length }
}

impl Entry {
    fn line(&self) -> Line {
        let seen =
            |seen: &Seen| SeenLine { seen: seen.first.to_string(), missing: seen.missing.map(|d| d.to_string()) };
        Line {
            targets: self.targets.iter().map(|(host, port)| format!("{host}:{port}")).collect(),
            chain: self.chain.iter().map(Host::to_string).collect(),
            addresses: Unique(self.addresses.iter().map(|(addr, s)| (addr.to_string(), seen(s))).collect()),
            failed: Unique(self.failed.iter().map(|(k, f)| (k.as_str().to_owned(), f.as_str().to_owned())).collect()),
            by: self.resolvers.iter().cloned().collect(),
        }
    }

    fn parse(line: &Line) -> Result<Self, String> {
        let host = |text: &str| Host::parse(text).map_err(|e| format!("`{}` {e}", quoted(text)));
        let day = |text: &str| Day::parse(text).ok_or_else(|| format!("`{}` is no day", quoted(text)));
        let mut entry = Self { resolvers: line.by.iter().cloned().collect(), ..Self::default() };
        for target in &line.targets {
            let (name, port) = target.rsplit_once(':').ok_or("a target has no port")?;
            entry.targets.insert((host(name)?, port.parse().map_err(|_| "a target has no port")?));
        }
        for name in &line.chain {
            entry.chain.push(host(name)?);
        }
        for (addr, seen) in &line.addresses.0 {
            let addr: IpAddr = addr.parse().map_err(|_| format!("`{}` is no address", quoted(addr)))?;
            let missing = seen.missing.as_deref().map(day).transpose()?;
            entry.addresses.insert(addr, Seen { first: day(&seen.seen)?, missing });
        }
        for (kind, failure) in &line.failed.0 {
            let kind = RecordType::ALL.into_iter().find(|k| k.as_str() == kind);
            let failure = Failure::ALL.iter().copied().find(|f| f.as_str() == failure);
            let (kind, failure) = kind.zip(failure).ok_or("an unknown failure")?;
            entry.failed.insert(kind, failure);
        }
        if let Some(by) = entry.resolvers.iter().find(|by| crate::text::forbidden(by).is_some()) {
            return Err(format!("`{}` is no name server", quoted(by)));
        }
        Ok(entry)
    }
}

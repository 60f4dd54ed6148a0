//! The proof of strict mode: [`Ruleset`] + [`Lock`] + rendered files → for every blocked callout, what stops it in each
//! target, what remains possible, and what blocking costs.
//!
//! It claims what the answers of the lock can show and no more. A claim is checked twice: in the model, against every
//! address the lock has for a blocked name, and in the files, where the rule that is named must stand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::addrs::{self, AddrSet};
use crate::callout::{BlockedLevel, Callout, Endpoint, Origin, Origins};
use crate::day::Day;
use crate::host::{NamePattern, Query};
use crate::lock::Lock;
use crate::port::Protocol;
use crate::ruleset::{Action, Rule, Ruleset};
use crate::target::{By, File, Mark, Stop, Target};
use crate::text::{Id, Text};

/// What is proven, and what is not.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The site.
    pub site: Text,
    /// The release, with its family's title.
    pub release: String,
    /// The day of the answers that all of this is relative to; `None` without a lock.
    pub answered: Option<Day>,
    /// The targets, with what is true of their files.
    pub targets: Vec<Written>,
    /// Every callout that is blocked, by id.
    pub entries: Vec<Entry>,
    /// Entries that the site excepts, each with its reason.
    pub excepted: BTreeMap<Id, Text>,
    /// Blocked and allowed endpoints that lie together, and that nobody decided on.
    pub undecided: Vec<(Endpoint, Endpoint)>,
    /// What remains possible whichever entry it is.
    pub remains: Vec<String>,
}

/// One target's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The target's name.
    pub target: &'static str,
    /// What is true of them.
    pub state: State,
}

/// What is true of a target's files on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They are what is claimed about.
    Same,
    /// They are others: what is claimed is not what would be loaded.
    Differ,
    /// There are none yet.
    Absent,
    /// None can be made.
    Refused,
}

impl State {
    /// The word for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "as claimed",
            Self::Differ => "differ",
            Self::Absent => "not written yet",
            Self::Refused => "refused",
        }
    }
}

/// One blocked callout.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The callout.
    pub callout: Callout,
    /// Why it is blocked.
    pub reason: String,
    /// Whose traffic it is that the profile names clients for.
    pub covered: Origins,
    /// Whose traffic no rule is about.
    pub uncovered: Origins,
    /// The addresses the lock has for its names.
    pub known: AddrSet,
    /// What stops it, by target.
    pub stops: Vec<Stopped>,
    /// What remains possible.
    pub remains: Vec<String>,
}

/// What stops one entry at one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The target.
    pub target: &'static str,
    /// Whether the claim holds.
    pub verdict: Verdict,
    /// Where in the files it stands.
    pub places: Vec<Place>,
}

/// Whether something is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// By a rule of its own.
    Rule,
    /// By the last rule: nothing allows it.
    Rest,
    /// This target has no part in it, for this reason.
    NotHere(String),
    /// It is not, for this reason.
    Open(String),
}

impl Verdict {
    /// The word for people and programs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Rule => "stopped",
            Self::Rest => "stopped by the last rule",
            Self::NotHere(_) => "not here",
            Self::Open(_) => "open",
        }
    }
}

/// A line that stops something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// What it goes by.
    pub by: By,
    /// The file, below the folder of all targets.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
}

/// What was made of a rule set for one target.
#[derive(Clone, Copy)]
pub struct Made<'a> {
    /// The target.
    pub target: &'static Target,
    /// Its files; `None` where none can be made.
    pub files: Option<&'a [File]>,
    /// What is true of those on disk.
    pub state: State,
}

impl Entry {
    /// The answer: whether it can leave, as far as is known.
    #[must_use]
    pub fn answer(&self) -> Answer {
        if self.stops.iter().any(|stop| matches!(stop.verdict, Verdict::Open(_))) {
            return Answer::Yes;
        }
        // A name server is a second wall: whoever knows the address, or asks another, walks around it.
        let stopped = |stop: &Stopped| stop.places.iter().any(|place| place.by != By::Dns);
        if self.uncovered.is_empty() && self.stops.iter().any(stopped) { Answer::No } else { Answer::NotCovered }
    }
}

/// Whether telemetry can leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// It can: a claim does not hold.
    Yes,
    /// Nobody here is in its way: it is of clients that the profile does not name, or that no target sees.
    NotCovered,
    /// It cannot.
    No,
}

impl Answer {
    /// The words for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "can leave",
            Self::NotCovered => "not covered",
            Self::No => "stopped",
        }
    }
}

impl Proof {
    /// Whether every claim holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        let written = self.targets.iter().all(|written| matches!(written.state, State::Same | State::Absent));
        written && self.undecided.is_empty() && self.entries.iter().all(|entry| entry.answer() != Answer::Yes)
    }
}

/// Proves, entry by entry.
#[must_use]
pub fn prove(ruleset: &Ruleset, lock: Option<&Lock>, made: &[Made<'_>]) -> Proof {
    // Names that lie together matter where rules go by address: there nothing can be made.
    let refused = made.iter().any(|made| made.state == State::Refused);
    Proof {
        site: ruleset.site.clone(),
        release: ruleset.release.clone(),
        answered: ruleset.answered,
        targets: made.iter().map(|made| Written { target: made.target.name, state: made.state }).collect(),
        entries: ruleset.blocked.values().map(|(callout, why)| entry(ruleset, lock, made, callout, why)).collect(),
        excepted: ruleset.excepted.clone(),
        undecided: if refused { ruleset.meetings.keys().cloned().collect() } else { Vec::new() },
        remains: remains(ruleset, made),
    }
}

fn entry(ruleset: &Ruleset, lock: Option<&Lock>, made: &[Made<'_>], callout: &Callout, reason: &str) -> Entry {
    let rules: Vec<&Rule> =
        ruleset.rules.iter().filter(|rule| rule.action == Action::Deny && rule.callout.id == callout.id).collect();
    let known: AddrSet = rules.iter().map(|rule| known_addresses(rule, lock)).collect::<Vec<_>>().iter().collect();
    let mut stops: Vec<Stopped> = Vec::new();
    for made in made {
        stops.extend(rules.iter().map(|rule| stopped(ruleset, rule, &known, made)));
    }
    let of_callout = |(_, id): &&(Origin, Id)| *id == callout.id;
    Entry {
        callout: callout.clone(),
        reason: reason.to_owned(),
        covered: rules.iter().flat_map(|rule| rule.origins.iter()).collect(),
        uncovered: ruleset.uncovered.iter().filter(of_callout).map(|(origin, _)| *origin).collect(),
        remains: rules.iter().flat_map(|rule| remains_of(ruleset, rule, &known)).collect(),
        known,
        stops,
    }
}

/// Every address the lock has for the names of a denial, whatever became of it on the way to a rule.
fn known_addresses(rule: &Rule, lock: Option<&Lock>) -> AddrSet {
    let mut addrs: Vec<IpAddr> = Vec::new();
    let patterns: Vec<&NamePattern> = rule.destinations.iter().flat_map(|d| d.names()).collect();
    let exact = patterns.iter().filter_map(|name| name.exact()).map(|host| Query::Host(host.clone()));
    let entries = exact.filter_map(|query| lock?.hosts.get(&query));
    addrs.extend(entries.flat_map(|entry| entry.addresses.keys()));
    if patterns.iter().any(|name| name.exact().is_none()) {
        // A wildcard's names are those that somebody else asked for.
        for (query, entry) in lock.iter().flat_map(|lock| &lock.hosts) {
            let Query::Host(host) = query else { continue };
            let host = NamePattern::Exact(host.clone());
            if patterns.iter().any(|pattern| pattern.covers(&host)) {
                addrs.extend(entry.addresses.keys());
            }
        }
    }
    let accepted = rule.destinations.iter().filter_map(|d| d.accepted.as_ref()).map(|accepted| &accepted.at);
    let known: AddrSet = addrs.into_iter().collect();
    known.union(&rule.addrs()).union(&accepted.collect())
}

fn stopped(ruleset: &Ruleset, rule: &Rule, known: &AddrSet, made: &Made<'_>) -> Stopped {
    let target = made.target.name;
    let stopped = |verdict, places| Stopped { target, verdict, places };
    let (verdict, marks) = match (made.target.stops)(ruleset, rule) {
        Stop::Rule(marks) => (Verdict::Rule, marks),
        Stop::Rest(marks) => (Verdict::Rest, marks),
        Stop::NotHere(why) => return stopped(Verdict::NotHere(why), Vec::new()),
        Stop::Open(why) => return stopped(Verdict::Open(why), Vec::new()),
    };
    if made.state == State::Differ {
        return stopped(Verdict::Open("the files on disk are others".to_owned()), Vec::new());
    }
    let Some(files) = made.files else {
        return stopped(Verdict::Open("no files can be made: see the errors".to_owned()), Vec::new());
    };
    let mut places = Vec::new();
    for mark in &marks {
        match find(target, files, mark) {
            Some(place) => places.push(place),
            None => {
                let why = format!("{}*: the rule that would stop it by {} is not there", mark.file, mark.by.as_str());
                return stopped(Verdict::Open(why), Vec::new());
            }
        }
    }
    if marks.iter().any(|mark| mark.by == By::Address)
        && let Some(why) = let_out(ruleset, rule, known)
    {
        return stopped(Verdict::Open(why), places);
    }
    // One line a layer is enough for a reader: the first.
    places.sort();
    places.dedup_by_key(|place| (place.by, place.file.clone()));
    stopped(verdict, places)
}

/// The first line that bears a mark.
fn find(target: &str, files: &[File], mark: &Mark) -> Option<Place> {
    let files = files.iter().filter(|file| file.path.starts_with(mark.file.as_str()));
    let mut lines = files.flat_map(|file| file.text.lines().zip(1..).map(move |(line, number)| (file, line, number)));
    let (file, _, line) = lines.find(|(_, line, _)| mark.line.is(line))?;
    Some(Place { by: mark.by, file: format!("{target}/{}", file.path), line })
}

/// Whether an allow lets a client of a denial reach an address of a blocked name where nothing denies it before, and the
/// site did not accept that. Every address the lock has is looked at, not those alone that the denial has.
fn let_out(ruleset: &Ruleset, denial: &Rule, known: &AddrSet) -> Option<String> {
    let accepted =
        denial.destinations.iter().filter_map(|d| d.accepted.as_ref()).map(|accepted| &accepted.at).collect();
    let left = known.minus(&denial.addrs()).minus(&accepted);
    if left.is_empty() {
        return None;
    }
    let clients = ruleset.clients_of(ruleset.bound(denial));
    let allows = ruleset.rules.iter().filter(|rule| rule.action == Action::Allow);
    let mut mine = allows.filter(|rule| ruleset.clients_of(ruleset.bound(rule)).meets(&clients));
    mine.find_map(|allow| {
        let open = allow.addrs().and(&left);
        let addr = open.prefixes().first().map(addrs::short)?;
        Some(format!("{} lets out {addr}, an address of it", allow.key))
    })
}

/// What remains possible of one denial.
fn remains_of(ruleset: &Ruleset, rule: &Rule, known: &AddrSet) -> Vec<String> {
    let mut remains = Vec::new();
    for destination in &rule.destinations {
        if let Some(accepted) = destination.accepted.as_deref().filter(|accepted| !accepted.at.is_empty()) {
            let why: Vec<&str> = accepted.reasons.iter().map(Text::as_str).collect();
            let text = format!(
                "{} by address at {}: accepted: {}",
                destination.endpoint,
                accepted.at.shorts().join(", "),
                why.join("; ")
            );
            remains.push(text);
        }
    }
    let clients = ruleset.clients_of(ruleset.bound(rule));
    if ruleset.is_sole_denial(rule) {
        remains.push("at any address the lock does not know: nothing else limits the administrator".to_owned());
    } else {
        let allows = ruleset.rules.iter().filter(|r| r.action == Action::Allow);
        let mine = allows.filter(|r| ruleset.clients_of(ruleset.bound(r)).meets(&clients));
        let mut near: BTreeMap<IpNet, BTreeSet<String>> = BTreeMap::new();
        for (network, name) in mine.flat_map(|allow| neighbours(allow, known)) {
            near.entry(network).or_default().insert(name);
        }
        remains.extend(near.into_iter().map(|(network, names)| {
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            format!("at an address the lock does not know: in {network}, where it is, is allowed {names} too")
        }));
    }
    remains
}

/// Allowed names that lie so near a blocked one that one content network may answer for both, each with the /24, or the
/// /48, that holds an address of both.
fn neighbours<'a>(allow: &'a Rule, known: &AddrSet) -> impl Iterator<Item = (IpNet, String)> + 'a {
    let around = |net: IpNet| {
        let length = if net.addr().is_ipv4() { 24 } else { 48 };
        IpNet::new(net.addr(), length.min(net.prefix_len())).map_or(net, |net| net.trunc())
    };
    let networks: AddrSet = known.prefixes().into_iter().map(around).collect();
    allow.destinations.iter().filter(|d| !matches!(d.endpoint, Endpoint::Net(_))).filter_map(move |destination| {
        let first = destination.all().and(&networks).prefixes().into_iter().next()?;
        Some((around(first), destination.endpoint.to_string()))
    })
}

/// What remains possible whichever entry it is.
fn remains(ruleset: &Ruleset, made: &[Made<'_>]) -> Vec<String> {
    let mut remains = vec![
        "An address the lock does not know, where a rule lets it out for another name: the lock must be renewed."
            .to_owned(),
    ];
    let tls =
        |rule: &&Rule| rule.action == Action::Allow && rule.ports.iter().any(|port| port.contains(Protocol::Tcp, 443));
    let limited = |rule: &&Rule| !ruleset.clients_of(ruleset.bound(rule)).is_empty();
    let endpoints: BTreeSet<&Endpoint> = ruleset
        .rules
        .iter()
        .filter(tls)
        .filter(limited)
        .flat_map(|rule| &rule.destinations)
        .filter(|d| !d.gap.as_deref().is_some_and(crate::ruleset::Gap::is_decided))
        .map(|d| &d.endpoint)
        .collect();
    if !endpoints.is_empty() {
        remains.push(format!(
            "DNS over HTTPS, or a relay, at one of the {} hosts that are let out on 443/tcp: a host is let out with all it does.",
            endpoints.len()
        ));
    }
    remains.push("A connection that was open before the rules were loaded.".to_owned());
    if made.iter().any(|made| made.target.name == "squid") {
        remains.push(
            "A request inside TLS to an allowed server name that carries another Host, where that server takes both."
                .to_owned(),
        );
    }
    remains.push("A way out that does not pass these targets: another gateway, a VPN, a mobile network.".to_owned());
    remains
}

/// Whether anything a user would notice stops.
#[must_use]
pub fn costs_nothing(callout: &Callout) -> bool {
    callout.blocked == BlockedLevel::None
}

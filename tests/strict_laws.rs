//! Laws of strict mode, over random catalogs, profiles and locks: what is blocked is not let out, what cannot be told apart
//! is refused, a decision opens what it says and no more, and a level more never opens anything.
//!
//! The oracle is written here, in loops over the entries and the answers. It uses no set and no name of the program.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures of a run")]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use outgate::catalog::{self, Catalog};
use outgate::day::Day;
use outgate::diagnostic::{Code, Findings};
use outgate::host::{Host, Query};
use outgate::lock::{self, Lock, Seen};
use outgate::port::Protocol;
use outgate::ruleset::{self, Ruleset, Verdict, sharing};
use outgate::source::Sources;
use outgate::target;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

mod support;
use support::model;

const CASES: u32 = 300;

const CLASSES: [&str; 5] = ["function", "usage", "error-report", "operational", "suspected"];
const LEVELS: [&str; 5] = ["usage", "error-report", "operational", "suspected", "advised"];
const ADVICE: [&str; 3] = ["allow", "optional", "deny"];
const ORIGINS: [&str; 4] = ["nas", "browser", "jail", "app"];

/// What entries lead to.
const ENDPOINTS: [&str; 12] = [
    "a.example.org",
    "b.example.org",
    "c.example.org",
    "d.example.org",
    "e.example.org",
    "f.example.org",
    "x.wild.example.org",
    "y.wild.example.org",
    "*.wild.example.org",
    "203.0.113.3",
    "203.0.113.8/30",
    "2001:db8:1::3",
];
/// How many of them are names that are asked for.
const NAMES: usize = 8;
const WILDCARD: usize = 8;
const BELOW: &str = ".wild.example.org";

/// What answers lead through: names of nobody's, and some that entries name too.
const ALIASES: [&str; 6] =
    ["one.example.net", "two.example.net", "three.example.net", "a.example.org", "f.example.org", "x.wild.example.org"];

/// Addresses that are answered, of both families.
const POOL: u8 = 18;

fn pool(number: u8) -> IpAddr {
    let text = if number.is_multiple_of(2) {
        format!("203.0.113.{}", number / 2)
    } else {
        format!("2001:db8:1::{}", number / 2)
    };
    text.parse().unwrap()
}

const PORTS: [&str; 3] = ["443/tcp", "80/tcp, 443/tcp", "443/udp, 8443/tcp"];
const PACKETS: [(Protocol, u16); 6] = [
    (Protocol::Tcp, 443),
    (Protocol::Tcp, 80),
    (Protocol::Udp, 443),
    (Protocol::Tcp, 8443),
    (Protocol::Tcp, 1),
    (Protocol::Udp, 65_535),
];

/// One client of each origin, in both families.
const CLIENTS: [[&str; 2]; 4] = [
    ["192.0.2.10", "2001:db8:10::10"],
    ["192.0.2.20", "2001:db8:10::20"],
    ["192.0.2.30", "2001:db8:10::30"],
    ["192.0.2.40", "2001:db8:10::40"],
];

#[derive(Clone, Debug)]
struct Entry {
    class: usize,
    advice: usize,
    /// The site's own, and not the catalog's.
    extra: bool,
    /// Whether the call is that of the feature.
    feature: bool,
    origins: BTreeSet<usize>,
    endpoints: BTreeSet<usize>,
    ports: usize,
    except: bool,
}

#[derive(Clone, Debug)]
struct Answer {
    chain: Vec<usize>,
    through: BTreeSet<usize>,
    /// Whether it is still answered, by address.
    addrs: BTreeMap<u8, bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Nothing,
    Proxy,
    Accept,
    Drop,
}

#[derive(Clone, Debug)]
struct World {
    entries: Vec<Entry>,
    answers: Vec<Answer>,
    feature: bool,
    levels: BTreeSet<usize>,
    /// A level more.
    more: usize,
    /// Nobody, one machine, or a network around all.
    admin: u8,
    jails: bool,
    apps: bool,
    /// By endpoint: what is decided, and the blocked endpoints it is accepted with.
    decisions: Vec<(Choice, BTreeSet<usize>)>,
    /// Whether the site accepts whatever else cannot be told apart.
    patient: bool,
}

fn some(most: usize, from: usize) -> impl Strategy<Value = BTreeSet<usize>> {
    prop::collection::btree_set(0..from, 1..=most)
}

fn origins() -> impl Strategy<Value = BTreeSet<usize>> {
    prop_oneof![2 => Just(BTreeSet::from([0])), 1 => Just(BTreeSet::from([0, 1])), 3 => some(3, 4)]
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = (prop_oneof![2 => Just(0_usize), 3 => 1_usize..5], 0_usize..3, any::<bool>(), any::<bool>());
    let place = (origins(), some(2, ENDPOINTS.len()), 0_usize..3, prop::bool::weighted(0.1));
    (kind, place).prop_map(|((class, advice, extra, feature), (origins, endpoints, ports, except))| Entry {
        class,
        advice,
        extra,
        feature,
        origins,
        endpoints,
        ports,
        except,
    })
}

fn answer() -> impl Strategy<Value = Answer> {
    let aliases = || prop_oneof![4 => 0_usize..3, 1 => 3_usize..ALIASES.len()];
    (
        prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(aliases(), 1..3)],
        prop_oneof![9 => Just(BTreeSet::new()), 1 => prop::collection::btree_set(aliases(), 1..2)],
        prop::collection::btree_map(0..POOL, prop::bool::weighted(0.8), 1..4),
    )
        .prop_map(|(chain, through, addrs)| Answer { chain, through, addrs })
}

fn decision() -> impl Strategy<Value = (Choice, BTreeSet<usize>)> {
    let choice = prop_oneof![
        5 => Just(Choice::Nothing),
        1 => Just(Choice::Proxy),
        4 => Just(Choice::Accept),
        1 => Just(Choice::Drop)
    ];
    (choice, some(8, ENDPOINTS.len()))
}

fn world() -> impl Strategy<Value = World> {
    (
        prop::collection::vec(entry(), 3..8),
        prop::collection::vec(answer(), NAMES),
        any::<bool>(),
        prop::collection::btree_set(0..LEVELS.len(), 1..4),
        0..LEVELS.len(),
        (0_u8..3, any::<bool>(), any::<bool>()),
        (prop::collection::vec(decision(), ENDPOINTS.len()), any::<bool>()),
    )
        .prop_map(|(entries, answers, feature, levels, more, (admin, jails, apps), (decisions, patient))| World {
            entries,
            answers,
            feature,
            levels,
            more,
            admin,
            jails,
            apps,
            decisions,
            patient,
        })
}

// --- the oracle -------------------------------------------------------------------------------------------------------

/// A rule as the oracle sees it: an entry, and the clients it is about, by their place in [`CLIENTS`].
struct Ruled<'a> {
    entry: &'a Entry,
    /// Everybody who sends it.
    clients: BTreeSet<usize>,
    /// Those of them that are denied what no rule allows.
    limited: BTreeSet<usize>,
}

struct Oracle<'a> {
    world: &'a World,
    denied: Vec<Ruled<'a>>,
    allowed: Vec<Ruled<'a>>,
}

impl<'a> Oracle<'a> {
    fn new(world: &'a World, levels: &BTreeSet<usize>) -> Self {
        let (mut denied, mut allowed) = (Vec::new(), Vec::new());
        for entry in &world.entries {
            let (mut clients, mut limited) = (BTreeSet::new(), BTreeSet::new());
            for &origin in &entry.origins {
                let machines: &[usize] = match (origin, world.admin) {
                    (0, _) => &[0],
                    (1, 0) => &[],
                    (1, 1) => &[1],
                    (1, _) => &[0, 1, 2, 3],
                    (2, _) if world.jails => &[2],
                    (2, _) => &[],
                    (_, _) if world.apps => &[3],
                    (_, _) => &[0],
                };
                clients.extend(machines);
                limited.extend(if origin == 1 { &[] } else { machines });
            }
            if clients.is_empty() {
                continue;
            }
            let in_use = entry.extra || !entry.feature || world.feature;
            let ruled = Ruled { entry, clients, limited };
            if blocked(entry, levels) {
                denied.push(ruled);
            } else if in_use {
                allowed.push(ruled);
            }
        }
        Self { world, denied, allowed }
    }

    /// Every address of an endpoint, now or kept.
    fn has(&self, endpoint: usize, addr: IpAddr) -> bool {
        if let Some(answer) = self.world.answers.get(endpoint) {
            return answer.addrs.keys().any(|&number| pool(number) == addr);
        }
        let four = |last: u8| addr == IpAddr::from([203, 0, 113, last]);
        match ENDPOINTS[endpoint] {
            "203.0.113.3" => four(3),
            "203.0.113.8/30" => [8, 9, 10, 11].into_iter().any(four),
            "2001:db8:1::3" => addr == ENDPOINTS[endpoint].parse::<IpAddr>().unwrap(),
            _ => false,
        }
    }

    fn share(&self, one: usize, other: usize) -> bool {
        addrs().into_iter().any(|addr| self.has(one, addr) && self.has(other, addr))
    }

    /// The names an endpoint's answers come from.
    fn leads(&self, endpoint: usize) -> BTreeSet<&str> {
        let Some(answer) = self.world.answers.get(endpoint) else { return BTreeSet::new() };
        let aliases = answer.chain.iter().chain(&answer.through).map(|&alias| ALIASES[alias]);
        aliases.chain([ENDPOINTS[endpoint]]).collect()
    }

    /// Whether two endpoints lead through one name, or one through a name below the other's wildcard.
    fn one_alias(&self, blocked: usize, open: usize) -> bool {
        let (one, other) = (self.leads(blocked), self.leads(open));
        one.iter().any(|name| other.contains(name))
            || (blocked == WILDCARD && other.iter().any(|name| name.ends_with(BELOW)))
    }

    /// Whether a denial takes an allowed endpoint back by name, for everybody it is allowed to.
    fn taken_back(&self, allow: &Ruled<'_>, open: usize) -> bool {
        self.denied.iter().any(|deny| {
            allow.clients.is_subset(&deny.clients) && deny.entry.endpoints.iter().any(|&blocked| covers(blocked, open))
        })
    }

    fn decided(&self, open: usize) -> Choice {
        self.world.decisions[open].0
    }

    fn accepted(&self, open: usize, blocked: usize) -> bool {
        self.decided(open) == Choice::Accept && self.world.decisions[open].1.contains(&blocked)
    }

    /// Whether an allow opens the addresses of one of its endpoints.
    fn opens(&self, allow: &Ruled<'_>, open: usize) -> bool {
        open != WILDCARD && !matches!(self.decided(open), Choice::Proxy | Choice::Drop) && !self.taken_back(allow, open)
    }

    /// Every blocked endpoint that rules by address cannot tell from an allowed one: blocked, open, whether by an address.
    fn meetings(&self) -> BTreeSet<(usize, usize, bool)> {
        let mut all = BTreeSet::new();
        for deny in &self.denied {
            for allow in self.allowed.iter().filter(|allow| !allow.clients.is_disjoint(&deny.clients)) {
                for &open in allow.entry.endpoints.iter().filter(|&&open| self.opens(allow, open)) {
                    for &blocked in deny.entry.endpoints.iter().filter(|&&blocked| !covers(blocked, open)) {
                        if self.share(blocked, open) {
                            all.insert((blocked, open, true));
                        } else if self.one_alias(blocked, open) {
                            all.insert((blocked, open, false));
                        }
                    }
                }
            }
        }
        all
    }
}

fn blocked(entry: &Entry, levels: &BTreeSet<usize>) -> bool {
    let function = CLASSES[entry.class] == "function";
    let advised = !function && (entry.extra || ADVICE[entry.advice] == "deny");
    let by = |&level: &usize| match LEVELS[level] {
        "advised" => advised,
        class => CLASSES[entry.class] == class,
    };
    !entry.except && levels.iter().any(by)
}

/// Whether one endpoint is the other by name, or a wildcard above it.
fn covers(blocked: usize, open: usize) -> bool {
    let name = open <= WILDCARD;
    name && (blocked == open || (blocked == WILDCARD && ENDPOINTS[open].ends_with(BELOW)))
}

/// Every address there is, and one that nobody has.
fn addrs() -> Vec<IpAddr> {
    let more = ["203.0.113.9", "203.0.113.10", "203.0.113.11", "203.0.113.200"].map(|text| text.parse().unwrap());
    (0..POOL).map(pool).chain(more).collect::<BTreeSet<IpAddr>>().into_iter().collect()
}

// --- the program ------------------------------------------------------------------------------------------------------

/// Lists in another order where that is asked for.
fn list(mut items: Vec<String>, backwards: bool) -> String {
    if backwards {
        items.reverse();
        let third = items.len() / 3;
        items.rotate_left(third);
    }
    items.join(", ")
}

impl Entry {
    fn id(&self, number: usize) -> String {
        format!("{}-{number}", if self.extra { "own" } else { "call" })
    }

    /// In the form of the catalog, or of `extra`.
    fn yaml(&self, number: usize, backwards: bool) -> String {
        let origins = list(self.origins.iter().map(|&o| ORIGINS[o].to_owned()).collect(), backwards);
        let hosts = list(self.endpoints.iter().map(|&e| format!("\"{}\"", ENDPOINTS[e])).collect(), backwards);
        let ports = list(PORTS[self.ports].split(", ").map(str::to_owned).collect(), backwards);
        let catalog = format!(
            ", title: t, frequency: daily, data: d, strict: {}, releases: [{{family: f}}], blocked: {{level: none, effect: e}}, \
             off-switch: none, sources: [{{source: s, line: 1}}]{}",
            ADVICE[self.advice],
            if self.feature { ", feature: used" } else { "" },
        );
        format!(
            "  - {{id: {}, purpose: p, class: {}, origin: [{origins}], hosts: [{hosts}], ports: [{ports}]{}}}\n",
            self.id(number),
            CLASSES[self.class],
            if self.extra { "" } else { &catalog },
        )
    }
}

impl World {
    fn entries_of(&self, extra: bool, backwards: bool) -> String {
        let own = self.entries.iter().enumerate().filter(|(_, entry)| entry.extra == extra);
        let mut all: Vec<String> = own.map(|(number, entry)| entry.yaml(number, backwards)).collect();
        if backwards {
            all.reverse();
        }
        all.concat()
    }

    fn catalog(&self, backwards: bool) -> Catalog {
        let (mut sources, mut findings) = (Sources::default(), Findings::default());
        let release = "{release: \"1.0\", date: \"2026-01-01\"}";
        // One that is always there: a catalog has an entry.
        let always = Entry {
            class: 0,
            advice: 0,
            extra: false,
            feature: true,
            origins: [2].into(),
            endpoints: [0].into(),
            ports: 0,
            except: false,
        };
        let files = catalog::Files {
            releases: sources.add(
                "releases.yaml",
                format!(
                    "product: P\nprefixes: [\"P-\"]\nfamilies: [{{id: f, title: F}}]\n\
                     lines: [{{line: \"1\", family: f, codename: Fir, first: {release}, last: {release}}}]\n"
                ),
            ),
            sources: sources.add(
                "sources.yaml",
                "sources: [{id: s, title: S, url: \"https://docs.example.net/\", date: \"2026-01-01\"}]\n",
            ),
            features: sources
                .add("features.yaml", "features: [{id: used, title: U, about: A}, {id: unused, title: U, about: A}]\n"),
            providers: None,
            pages: None,
            callouts: vec![sources.add(
                "callouts.yaml",
                format!(
                    "callouts:\n{}{}",
                    always.yaml(99, false).replace("feature: used", "feature: unused"),
                    self.entries_of(false, backwards)
                ),
            )],
        };
        let catalog = catalog::read(&sources, &files, &mut findings);
        catalog.unwrap_or_else(|| panic!("{:#?}\n{self:#?}", findings.iter().collect::<Vec<_>>()))
    }

    /// Takes out decisions that cannot be made, by the words of the documentation: about what is not allowed, a proxy for
    /// an address or for ports it does not carry, an acceptance with what is not blocked.
    fn settle(&mut self) {
        let all: BTreeSet<usize> = self.levels.iter().copied().chain([self.more]).collect();
        let mut decisions = self.decisions.clone();
        let oracle = Oracle::new(self, &all);
        for (open, (choice, with)) in decisions.iter_mut().enumerate() {
            let allows: Vec<&Ruled<'_>> =
                oracle.allowed.iter().filter(|allow| allow.entry.endpoints.contains(&open)).collect();
            let denied = |blocked: &usize| oracle.denied.iter().any(|deny| deny.entry.endpoints.contains(blocked));
            with.retain(|blocked| denied(blocked));
            // With fewer levels more entries are allowed.
            let named = |entry: &&Entry| entry.endpoints.contains(&open);
            let carried = || self.entries.iter().filter(named).all(|entry| entry.ports < 2);
            let good = match choice {
                Choice::Nothing => true,
                Choice::Proxy => open <= WILDCARD && carried(),
                Choice::Accept => !with.is_empty(),
                Choice::Drop => true,
            };
            if !good || allows.is_empty() {
                *choice = Choice::Nothing;
            }
        }
        let meetings = if self.patient { oracle.meetings() } else { BTreeSet::new() };
        for (blocked, open, _) in meetings {
            let (choice, with) = &mut decisions[open];
            if *choice == Choice::Nothing {
                (*choice, *with) = (Choice::Accept, BTreeSet::new());
            }
            with.insert(blocked);
        }
        self.decisions = decisions;
    }

    fn profile(&self, levels: &BTreeSet<usize>, backwards: bool) -> String {
        let mut clients: Vec<String> = vec![client("nas", &CLIENTS[0])];
        clients.extend(match self.admin {
            0 => None,
            1 => Some(client("admin", &CLIENTS[1])),
            _ => Some(client("admin", &["192.0.2.0/24", "2001:db8:10::/64"])),
        });
        clients.extend(self.jails.then(|| client("jails", &CLIENTS[2])));
        clients.extend(self.apps.then(|| client("apps", &CLIENTS[3])));
        let except = self.entries.iter().enumerate().filter(|(_, entry)| entry.except);
        let except = except.map(|(number, entry)| format!("{{callout: {}, reason: r}}", entry.id(number)));
        let shared = self.decisions.iter().enumerate().filter_map(|(open, (choice, with))| {
            let with = list(with.iter().map(|&blocked| format!("\"{}\"", ENDPOINTS[blocked])).collect(), backwards);
            let choice = match choice {
                Choice::Nothing => return None,
                Choice::Proxy => "proxy".to_owned(),
                Choice::Drop => "drop".to_owned(),
                Choice::Accept => format!("accept, with: [{with}]"),
            };
            Some(format!("{{host: \"{}\", choice: {choice}, reason: r}}", ENDPOINTS[open]))
        });
        format!(
            "release: \"1.0\"\nclients: {{{}}}\nfeatures: [{}]\nstrict: [{}]\nstrict-except: [{}]\nshared: [{}]\n\
             answers: {{allow: [documentation], max-age: 3650}}\n\
             targets: {{nftables: {{}}, pf: {{interface: em1}}, squid: {{}}}}\nextra:\n\
             \x20 - {{id: base, purpose: p, origin: [nas], hosts: [base.example.org], ports: [443/tcp]}}\n{}",
            list(clients, backwards),
            if self.feature { "used" } else { "" },
            list(levels.iter().map(|&level| LEVELS[level].to_owned()).collect(), backwards),
            list(except.collect(), backwards),
            list(shared.collect(), backwards),
            self.entries_of(true, backwards),
        )
    }

    /// The case in the words of its files, for whoever has to find out.
    fn text(&self) -> String {
        let mut world = self.clone();
        world.settle();
        let mut text = format!("{}catalog:\n{}", world.profile(&world.levels, false), world.entries_of(false, false));
        for (name, Answer { chain, through, addrs }) in ENDPOINTS.iter().zip(&world.answers) {
            let chain: Vec<&str> = chain.iter().chain(through).map(|&alias| ALIASES[alias]).collect();
            let addrs: Vec<IpAddr> = addrs.keys().map(|&number| pool(number)).collect();
            text += &format!("{name}: {chain:?} {addrs:?}\n");
        }
        text + &format!("one level more: {}\n", LEVELS[world.more])
    }

    fn lock(&self) -> Lock {
        let day = |text: &str| Day::parse(text).unwrap();
        let host = |name: &str| Host::parse(name).unwrap();
        let mut hosts = BTreeMap::new();
        for (name, answer) in ENDPOINTS.iter().zip(&self.answers) {
            let seen = |answered: bool| Seen {
                first: day("2026-11-01"),
                missing: (!answered).then(|| day("2026-11-20")),
                by: Default::default(),
            };
            let entry = lock::Entry {
                chain: answer.chain.iter().map(|&alias| host(ALIASES[alias])).collect(),
                through: answer.through.iter().map(|&alias| host(ALIASES[alias])).collect(),
                addresses: answer.addrs.iter().map(|(&number, &now)| (pool(number), seen(now))).collect(),
                ..lock::Entry::default()
            };
            hosts.insert(Query::Host(host(name)), entry);
        }
        hosts.insert(Query::Host(host("base.example.org")), lock::Entry::default());
        Lock { day: day("2026-11-21"), note: None, sites: BTreeSet::new(), hosts, ranges: BTreeMap::new() }
    }

    fn run(&self, levels: &BTreeSet<usize>, backwards: bool) -> Result<Ran, String> {
        let policy = model::policy(&self.catalog(backwards), &self.profile(levels, backwards))?;
        let mut findings = Findings::default();
        let rules = ruleset::build(&policy, Some(&self.lock()), &mut findings);
        sharing::report(&rules, &mut findings);
        let said: Vec<(Code, String)> = findings.iter().map(|d| (d.code, d.message.clone())).collect();
        Ok(Ran { refused: findings.has_errors(), rules, said })
    }
}

fn client(who: &str, at: &[&str; 2]) -> String {
    format!("{who}: [\"{}\", \"{}\"]", at[0], at[1])
}

/// What came of a run.
struct Ran {
    rules: Ruleset,
    refused: bool,
    said: Vec<(Code, String)>,
}

impl Ran {
    fn shares(&self) -> bool {
        self.said.iter().any(|(code, _)| *code == Code::SharedAddress)
    }

    /// All that the rules are, but for the places where they are written.
    fn text(&self) -> String {
        let rules = &self.rules;
        let mut text = format!("{:?} {:?} {:?} {:?}", rules.decided, rules.uncovered, rules.meetings, rules.answers);
        for (origin, group) in &rules.clients {
            text += &format!("\n{origin:?} {:?} {}", group.addrs, group.default_deny);
        }
        for rule in &rules.rules {
            let ruleset::Rule { key, action, reason, origins, ports, destinations, .. } = rule;
            text += &format!("\n{key} {action:?} {reason} {origins:?} {ports:?} {destinations:?}");
        }
        text
    }

    /// The files of these targets, as far as they can be made.
    fn files(&self) -> Vec<Option<Vec<target::File>>> {
        let render = |name| {
            let (mut sources, mut findings) = (Sources::default(), Findings::default());
            target::render(target::find(name).unwrap(), &self.rules, &BTreeMap::new(), &mut sources, &mut findings)
        };
        ["nftables", "squid"].map(render).into()
    }
}

/// How often what is to be tried came up.
#[derive(Debug, Default)]
struct Count {
    shares: Cell<usize>,
    aliases: Cell<usize>,
    refused: Cell<usize>,
    accepted: Cell<usize>,
    reached_as_accepted: Cell<usize>,
    away: Cell<usize>,
    kept: Cell<usize>,
    excepted: Cell<usize>,
    denied: Cell<usize>,
    allowed: Cell<usize>,
    compared: Cell<usize>,
}

fn add(cell: &Cell<usize>, n: usize) {
    cell.set(cell.get() + n);
}

/// What the rule set says of one packet, without its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Allow,
    Deny,
    Default,
    NotOurs,
}

/// Every packet: client, address, protocol and port.
fn decide(rules: &Ruleset) -> BTreeMap<(usize, IpAddr, usize), Said> {
    let mut all = BTreeMap::new();
    for (client, at) in CLIENTS.iter().enumerate() {
        for addr in addrs() {
            let from: IpAddr = at[usize::from(addr.is_ipv6())].parse().unwrap();
            for (packet, (protocol, port)) in PACKETS.into_iter().enumerate() {
                let said = match rules.decide(from, addr, protocol, port) {
                    Verdict::Allow(_) => Said::Allow,
                    Verdict::Deny(_) => Said::Deny,
                    Verdict::DefaultDeny => Said::Default,
                    Verdict::NotOurs => Said::NotOurs,
                };
                all.insert((client, addr, packet), said);
            }
        }
    }
    all
}

fn hold(mut world: World, count: &Count) -> Result<(), TestCaseError> {
    world.settle();
    let oracle = Oracle::new(&world, &world.levels);
    let ran = world.run(&world.levels, false).map_err(TestCaseError::fail)?;

    // What cannot be told apart is an error, and nothing else is.
    let meetings = oracle.meetings();
    let undecided: Vec<_> = meetings.iter().filter(|(blocked, open, _)| !oracle.accepted(*open, *blocked)).collect();
    prop_assert_eq!(ran.shares(), !undecided.is_empty(), "{:?}: {:#?}", undecided, ran.said);
    add(&count.shares, meetings.iter().filter(|(.., by_address)| *by_address).count());
    add(&count.aliases, meetings.iter().filter(|(.., by_address)| !by_address).count());
    add(&count.accepted, meetings.len() - undecided.len());
    add(&count.refused, usize::from(ran.refused));

    // Another order of every list changes nothing.
    let again = world.run(&world.levels, true).map_err(TestCaseError::fail)?;
    prop_assert_eq!(ran.text(), again.text());
    prop_assert_eq!(ran.files(), again.files());

    if ran.refused {
        return Ok(());
    }
    let verdicts = decide(&ran.rules);
    blocked_is_not_let_out(&oracle, &verdicts, count)?;
    nothing_is_allowed_from_nowhere(&oracle, &verdicts, count)?;

    // A level more lets nothing more out.
    let more: BTreeSet<usize> = world.levels.iter().copied().chain([world.more]).collect();
    let stricter = world.run(&more, false).map_err(TestCaseError::fail)?;
    if more != world.levels && !stricter.refused {
        add(&count.compared, 1);
        for (packet, said) in decide(&stricter.rules) {
            let passes = |said: Said| matches!(said, Said::Allow | Said::NotOurs);
            let before = verdicts[&packet];
            prop_assert!(
                passes(before) || !passes(said),
                "{:?}: {:?} with fewer levels, {:?} with more",
                packet,
                before,
                said
            );
        }
    }
    Ok(())
}

type Verdicts = BTreeMap<(usize, IpAddr, usize), Said>;

/// Every address that the lock has for what is blocked is denied on every port, but where the site accepts that it is not.
fn blocked_is_not_let_out(oracle: &Oracle<'_>, verdicts: &Verdicts, count: &Count) -> Result<(), TestCaseError> {
    for deny in &oracle.denied {
        for &blocked in &deny.entry.endpoints {
            let kept = |addr| {
                oracle
                    .world
                    .answers
                    .get(blocked)
                    .is_some_and(|a| a.addrs.iter().any(|(&n, &now)| !now && pool(n) == addr))
            };
            for addr in addrs().into_iter().filter(|&addr| oracle.has(blocked, addr)) {
                for &client in &deny.clients {
                    // Allowed hosts that it is accepted with, for a client of this denial: a denial is about all of its
                    // clients, so that what is accepted for one is not denied to the others.
                    let with: Vec<usize> = oracle
                        .allowed
                        .iter()
                        .filter(|allow| !allow.clients.is_disjoint(&deny.clients))
                        .flat_map(|allow| allow.entry.endpoints.iter().filter(|&&open| oracle.opens(allow, open)))
                        .copied()
                        .filter(|&open| oracle.accepted(open, blocked))
                        .collect();
                    let here = with.iter().any(|&open| oracle.has(open, addr));
                    for packet in 0..PACKETS.len() {
                        let said = verdicts[&(client, addr, packet)];
                        let what = || {
                            format!(
                                "{client} -> {addr} {:?}: {said:?}, blocked {}",
                                PACKETS[packet], ENDPOINTS[blocked]
                            )
                        };
                        match said {
                            Said::Allow => {
                                prop_assert!(here, "{}", what());
                                add(&count.reached_as_accepted, 1);
                            }
                            Said::Deny => add(&count.denied, 1),
                            // Not denied by strict mode: only where that is accepted.
                            Said::Default | Said::NotOurs => prop_assert!(here, "{}", what()),
                        }
                        add(&count.kept, usize::from(kept(addr)));
                    }
                }
            }
        }
    }
    Ok(())
}

/// What is allowed is allowed by an entry for this client on this port, and is not sent to the proxy or let go.
fn nothing_is_allowed_from_nowhere(
    oracle: &Oracle<'_>,
    verdicts: &Verdicts,
    count: &Count,
) -> Result<(), TestCaseError> {
    for (&(client, addr, packet), said) in verdicts {
        let (protocol, port) = PACKETS[packet];
        let port = format!("{port}/{protocol}");
        let by = |away: bool| {
            oracle.allowed.iter().any(|allow| {
                allow.limited.contains(&client)
                    && PORTS[allow.entry.ports].split(", ").any(|p| p == port)
                    && allow.entry.endpoints.iter().any(|&open| {
                        let gone = matches!(oracle.decided(open), Choice::Proxy | Choice::Drop);
                        oracle.has(open, addr) && gone == away
                    })
            })
        };
        if *said == Said::Allow {
            add(&count.allowed, 1);
            prop_assert!(by(false), "{client} -> {addr} {port} is allowed by no entry");
        } else if by(true) {
            add(&count.away, 1);
        }
    }
    let excepted = oracle.allowed.iter().filter(|allow| allow.entry.except && allow.entry.class != 0).count();
    add(&count.excepted, excepted);
    Ok(())
}

#[test]
fn an_acceptance_through_an_alias_opens_no_address_that_is_not_shared() {
    // The appliance is denied b, which jails may reach, and it is accepted with f, to which b leads and whose addresses are
    // others. All of b was open to the appliance then.
    let text = "release: 25.10.2\nclients: {nas: [192.0.2.10, '2001:db8:10::10'], jails: [192.0.2.30, '2001:db8:10::30']}\n\
                features: []\nstrict: [operational]\nservers: {dns: [{host: 192.0.2.53}], ntp: [{host: 192.0.2.123}]}\n\
                answers: {allow: [documentation], max-age: 3650}\ntargets: {nftables: {}}\n\
                shared: [{host: f.example.org, choice: accept, with: [b.example.org], reason: r}]\nextra:\n\
                \x20 - {id: own-0, purpose: p, class: operational, origin: [nas], hosts: [b.example.org], ports: [443/tcp]}\n\
                \x20 - {id: own-1, purpose: p, origin: [nas, jail], hosts: [b.example.org, f.example.org], ports: [443/tcp]}\n";
    let policy = model::policy(&model::catalog(), text).unwrap();
    let day = Day::parse("2026-11-21").unwrap();
    let host = |name: &str| Host::parse(name).unwrap();
    let entry = |chain: &[&str], addr: &str| lock::Entry {
        chain: chain.iter().map(|name| host(name)).collect(),
        addresses: [(addr.parse().unwrap(), Seen { first: day, missing: None, by: Default::default() })]
            .into_iter()
            .collect(),
        ..lock::Entry::default()
    };
    let hosts = BTreeMap::from([
        (Query::Host(host("b.example.org")), entry(&["f.example.org"], "203.0.113.1")),
        (Query::Host(host("f.example.org")), entry(&[], "203.0.113.2")),
    ]);
    let lock = Lock { day, note: None, sites: BTreeSet::new(), hosts, ranges: BTreeMap::new() };
    let mut findings = Findings::default();
    let rules = ruleset::build(&policy, Some(&lock), &mut findings);
    sharing::report(&rules, &mut findings);
    assert!(!findings.has_errors(), "{findings:#?}");
    let decide =
        |client: &str, server: &str| rules.decide(client.parse().unwrap(), server.parse().unwrap(), Protocol::Tcp, 443);
    assert!(matches!(decide(CLIENTS[0][0], "203.0.113.1"), Verdict::Deny(_)));
    assert!(matches!(decide(CLIENTS[2][0], "203.0.113.1"), Verdict::Allow(_)));
    assert!(matches!(decide(CLIENTS[0][0], "203.0.113.2"), Verdict::Allow(_)));
    // What is read in reviews says that there is no such address.
    assert!(rules.decided.iter().any(|line| line.contains("of which there is none now")), "{:?}", rules.decided);
}

#[test]
fn strict_mode_keeps_its_laws() {
    let count = Count::default();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(CASES) });
    let result = runner.run(&world(), |world| hold(world, &count));
    match result {
        Err(TestError::Fail(why, world)) => panic!("{why}\n{}", world.text()),
        Err(TestError::Abort(why)) => panic!("{why}"),
        Ok(()) => {}
    }
    println!("{CASES} cases: {count:?}");
    let enough = [
        (&count.shares, 60),
        (&count.aliases, 8),
        (&count.refused, 25),
        (&count.accepted, 25),
        (&count.reached_as_accepted, 20),
        (&count.away, 80),
        (&count.kept, 200),
        (&count.excepted, 15),
        (&count.denied, 1500),
        (&count.allowed, 700),
        (&count.compared, 60),
    ];
    for (cell, least) in enough {
        assert!(cell.get() >= least, "at least {least} of each are wanted: {count:?}");
    }
}

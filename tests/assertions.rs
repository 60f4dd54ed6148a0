//! `outgate test`: what a profile asserts of its rules, held to each target, and what is asserted of any site. Each kind
//! of assertion is seen to hold and to fail. No network, no clock.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use ipnet::IpNet;
use outgate::addrs::AddrSet;
use outgate::assertion::{Flow, NAME_SERVERS, Sender, Test, To, WALLS, Wanted};
use outgate::callout::{Endpoint, Origin};
use outgate::catalog::Catalog;
use outgate::day::Day;
use outgate::diagnostic::{Code, Findings};
use outgate::host::{Host, NamePattern, Query};
use outgate::lock::{Entry, Lock, Seen};
use outgate::policy;
use outgate::port::{Port, Protocol};
use outgate::profile::{self, Profile};
use outgate::proof::{self, Made, State as FileState};
use outgate::ruleset::{self, Action, Names, Ruleset, Verdict};
use outgate::source::Sources;
use outgate::target::{self, TARGETS};
use outgate::text::Text;
use outgate::verify::{self, Report, State};
use serde_json::Value;
use tempfile::TempDir;

mod support;

static CATALOG: LazyLock<Catalog> = LazyLock::new(support::model::catalog);

/// A site with every kind of client and every target that lets traffic out or holds it back.
const PROFILE: &str = "site: home
release: \"25.10.2\"
clients:
  nas: [192.0.2.10, \"2001:db8:10::10\"]
  admin: [192.0.2.20, \"2001:db8:10::20\"]
  jails: [192.0.2.64/28, \"2001:db8:10:1::/64\"]
features: []
servers:
  dns: [{host: 192.0.2.53}, {host: \"2001:db8:10::53\"}]
  ntp: [{host: time.example.org}]
strict: [usage, error-report]
leave-out:
  - {callout: feedback-dialog-late, reason: of no interest here}
extra:
  - {id: backup, purpose: copies snapshots, origin: [nas], hosts: [backup.example.org], ports: [443/tcp, 8000-8009/tcp]}
  - {id: mirror, purpose: packages, origin: [jail], hosts: [\"*.mirror.example.org\"], ports: [443/tcp]}
  - {id: vault, purpose: an archive, origin: [nas], hosts: [203.0.113.64/29], ports: [22/tcp]}
answers: {allow: [documentation], max-age: 3650}
targets:
  nftables: {}
  pf: {interface: em1}
  opnsense: {version: \"26.1\", interface: lan, resolve: lock}
  squid: {}
  lists: {}
  cilium: {namespace: nas, endpoints: [app=nas], origins: [nas]}
  unbound: {}
";

fn entry(addresses: &[&str]) -> Entry {
    let seen = Seen {
        first: Day::parse("2026-11-01").unwrap(),
        missing: None,
        by: std::sync::Arc::new(["192.0.2.53:53".to_owned()].into()),
    };
    Entry {
        addresses: addresses.iter().map(|addr| (addr.parse::<IpAddr>().unwrap(), seen.clone())).collect(),
        by: seen.by.clone(),
        ..Entry::default()
    }
}

type Hosts = BTreeMap<Query, Entry>;

fn query(name: &str) -> Query {
    Query::parse(name).unwrap()
}

fn hosts() -> Hosts {
    let all: [(&str, &[&str]); 8] = [
        ("usage.truenas.com", &["203.0.113.1", "2001:db8:a::1"]),
        ("sentry.ixsystems.com", &["203.0.113.2", "2001:db8:a::2"]),
        ("agent-events.netdata.cloud", &["203.0.113.3", "2001:db8:a::3"]),
        ("backup.example.org", &["198.51.100.1", "198.51.100.2", "2001:db8:b::1"]),
        ("time.example.org", &["198.51.100.123", "2001:db8:b::123"]),
        // Not of this site: half of it lies where the backup is.
        ("half.example.org", &["198.51.100.1", "198.51.100.77"]),
        ("apart.example.org", &["198.51.100.88", "2001:db8:b::88"]),
        ("dark.example.org", &[]),
    ];
    all.into_iter().map(|(name, addresses)| (query(name), entry(addresses))).collect()
}

fn lock_of(hosts: Hosts) -> Lock {
    let sites = [Text::parse("home").unwrap()].into();
    Lock { day: Day::parse("2026-11-21").unwrap(), note: None, sites, hosts, ranges: BTreeMap::new() }
}

/// A site as values.
struct Site {
    profile: Profile,
    ruleset: Ruleset,
    lock: Option<Lock>,
}

impl Site {
    fn new(text: &str, lock: Option<Lock>) -> Self {
        let (mut sources, mut findings) = (Sources::default(), Findings::default());
        let id = sources.add("outgate.yaml", text);
        let profile = profile::read(&sources, id, &CATALOG.known(false), &mut findings);
        let policy = profile.as_ref().and_then(|profile| policy::decide(&CATALOG, profile, &mut findings));
        let policy = policy.unwrap_or_else(|| panic!("{:#?}", findings.iter().collect::<Vec<_>>()));
        let ruleset = ruleset::build(&policy, lock.as_ref(), &mut Findings::default());
        Self { profile: profile.unwrap(), ruleset, lock }
    }

    fn report(&self) -> Report {
        let mut rendered = BTreeMap::new();
        let chosen: Vec<_> = TARGETS.iter().filter(|target| (target.chosen)(&self.ruleset.settings)).collect();
        for target in &chosen {
            let (mut sources, mut findings) = (Sources::default(), Findings::default());
            let files = target::render(target, &self.ruleset, &BTreeMap::new(), &mut sources, &mut findings);
            rendered.extend(files.map(|files| (target.name, files)));
        }
        let made: Vec<Made<'_>> = chosen
            .iter()
            .map(|target| {
                let files = rendered.get(target.name).map(Vec::as_slice);
                Made { target, files, state: if files.is_some() { FileState::Same } else { FileState::Refused } }
            })
            .collect();
        let proof = proof::prove(&self.ruleset, self.lock.as_ref(), &made);
        verify::verify(&self.ruleset, self.lock.as_ref(), &self.profile, Some(&proof))
    }
}

fn with_tests(profile: &str, tests: &str) -> String {
    format!("{profile}tests:\n{tests}")
}

/// What each target says of one flow: state and why, by target. `""` is what no target judges.
fn judged_with(
    profile: &str,
    lock: Option<Lock>,
    from: &str,
    wanted: &str,
    to: &str,
) -> BTreeMap<String, (State, String)> {
    let text = with_tests(profile, &format!("  - {{from: \"{from}\", {wanted}: [\"{to}\"]}}\n"));
    let report = Site::new(&text, lock).report();
    let outcome = report.outcomes.last().unwrap();
    assert!(outcome.always.is_none());
    outcome.cases.iter().map(|case| (case.target.unwrap_or("").to_owned(), (case.state, case.why.clone()))).collect()
}

fn judged(from: &str, wanted: &str, to: &str) -> BTreeMap<String, (State, String)> {
    judged_with(PROFILE, Some(lock_of(hosts())), from, wanted, to)
}

/// The targets that come to a state.
fn at(judged: &BTreeMap<String, (State, String)>, state: State) -> Vec<&str> {
    judged.iter().filter(|(_, (s, _))| *s == state).map(|(target, _)| target.as_str()).collect()
}

const ALL: [&str; 6] = ["cilium", "lists", "nftables", "opnsense", "pf", "squid"];
const BY_ADDRESS: [&str; 4] = ["lists", "nftables", "opnsense", "pf"];

#[test]
fn every_target_is_a_wall_or_a_name_server() {
    let site = Site::new(PROFILE, None);
    let walls: Vec<&str> = TARGETS.iter().filter(|t| (t.wall)(&site.ruleset).is_some()).map(|t| t.name).collect();
    assert_eq!(walls, WALLS);
    let others: Vec<&str> = TARGETS.iter().filter(|t| (t.wall)(&site.ruleset).is_none()).map(|t| t.name).collect();
    assert_eq!(others, NAME_SERVERS);
}

#[test]
fn each_kind_of_assertion_holds_and_fails_at_each_target() {
    use State::{Fails, Holds, Skipped};
    // From, what is asserted, destination; who holds, who fails, who has no part in it.
    type Row = (
        &'static str,
        &'static str,
        &'static str,
        &'static [&'static str],
        &'static [&'static str],
        &'static [&'static str],
    );
    let rows: [Row; 24] = [
        // A host that a rule allows.
        ("nas", "allow", "backup.example.org:443", &ALL, &[], &[]),
        ("nas", "deny", "backup.example.org:443", &[], &ALL, &[]),
        ("192.0.2.10", "allow", "backup.example.org:443/tcp", &ALL, &[], &[]),
        ("2001:db8:10::10", "allow", "backup.example.org:443/tcp", &ALL, &[], &[]),
        // Apps without addresses of their own leave with the appliance's; to pods they are another origin.
        ("apps", "allow", "backup.example.org:443", &BY_ADDRESS, &[], &["cilium"]),
        // Another port, another client.
        ("nas", "allow", "backup.example.org:444", &[], &["cilium", "lists", "nftables", "opnsense", "pf"], &["squid"]),
        (
            "nas",
            "deny",
            "backup.example.org:443/udp",
            &["cilium", "lists", "nftables", "opnsense", "pf"],
            &[],
            &["squid"],
        ),
        (
            "jails",
            "allow",
            "backup.example.org:443",
            &[],
            &["lists", "nftables", "opnsense", "pf", "squid"],
            &["cilium"],
        ),
        (
            "jails",
            "deny",
            "backup.example.org:443",
            &["lists", "nftables", "opnsense", "pf", "squid"],
            &[],
            &["cilium"],
        ),
        // A range of ports: all of it, and more than it.
        (
            "nas",
            "allow",
            "backup.example.org:8000-8009",
            &["cilium", "lists", "nftables", "opnsense", "pf"],
            &[],
            &["squid"],
        ),
        (
            "nas",
            "allow",
            "backup.example.org:8000-8010",
            &[],
            &["cilium", "lists", "nftables", "opnsense", "pf"],
            &["squid"],
        ),
        (
            "nas",
            "deny",
            "backup.example.org:7990-8000",
            &[],
            &["cilium", "lists", "nftables", "opnsense", "pf"],
            &["squid"],
        ),
        // What strict mode blocks, for everybody it blocks it for.
        ("nas", "deny", "usage.truenas.com:443", &ALL, &[], &[]),
        ("nas", "allow", "usage.truenas.com:443", &[], &ALL, &[]),
        (
            "admin",
            "deny",
            "sentry.ixsystems.com:443",
            &["lists", "nftables", "opnsense", "pf", "squid"],
            &[],
            &["cilium"],
        ),
        (
            "admin",
            "allow",
            "sentry.ixsystems.com:443",
            &[],
            &["lists", "nftables", "opnsense", "pf", "squid"],
            &["cilium"],
        ),
        // Nothing limits the administrator but a proxy.
        ("admin", "allow", "apart.example.org:443", &BY_ADDRESS, &["squid"], &["cilium"]),
        ("admin", "deny", "apart.example.org:443", &["squid"], &BY_ADDRESS, &["cilium"]),
        // Half of a host lies where something else is: it is neither allowed nor denied, but by name.
        ("nas", "allow", "half.example.org:443", &[], &ALL, &[]),
        ("nas", "deny", "half.example.org:443", &["squid"], &["cilium", "lists", "nftables", "opnsense", "pf"], &[]),
        // Addresses and prefixes.
        ("nas", "allow", "203.0.113.64/29:22", &["cilium", "lists", "nftables", "opnsense", "pf"], &[], &["squid"]),
        ("nas", "allow", "203.0.113.64/28:22", &[], &["cilium", "lists", "nftables", "opnsense", "pf"], &["squid"]),
        ("nas", "deny", "203.0.113.64/28:22", &[], &["cilium", "lists", "nftables", "opnsense", "pf"], &["squid"]),
        ("nas", "deny", "[2001:db8:ffff::]:22", &["cilium", "lists", "nftables", "opnsense", "pf"], &[], &["squid"]),
    ];
    for (from, wanted, to, holds, fails, skipped) in rows {
        let judged = judged(from, wanted, to);
        let what = format!("{from} {wanted} {to}: {judged:#?}");
        // Apps reach Squid with the appliance's address, which is said of origins there.
        let own =
            |state| at(&judged, state).into_iter().filter(|t| !(from == "apps" && *t == "squid")).collect::<Vec<_>>();
        assert_eq!(own(Holds), holds, "{what}");
        assert_eq!(own(Fails), fails, "{what}");
        assert_eq!(own(Skipped), skipped, "{what}");
    }
}

#[test]
fn a_failure_says_by_which_rule_and_why() {
    let of = |from, wanted, to, target: &str| judged(from, wanted, to)[target].1.clone();
    for (from, wanted, to, target, why) in [
        ("nas", "deny", "backup.example.org:443", "nftables", "`backup` allows 198.51.100.1 to 192.0.2.10"),
        ("nas", "deny", "backup.example.org:443", "squid", "`backup` allows backup.example.org to 192.0.2.10"),
        ("nas", "allow", "usage.truenas.com:443", "pf", "`firstboot-truenas` denies 203.0.113.1 to 192.0.2.10"),
        ("nas", "allow", "backup.example.org:444", "pf", "`backup` allows it on 443/tcp, 8000-8009/tcp"),
        ("jails", "allow", "backup.example.org:443", "pf", "`backup` allows it to nas alone"),
        ("jails", "allow", "a.mirror.example.org:443", "pf", "the lock does not know it"),
        ("nas", "allow", "half.example.org:443", "nftables", "no rule allows 198.51.100.77"),
        ("nas", "deny", "half.example.org:443", "nftables", "`backup` allows 198.51.100.1"),
        (
            "admin",
            "deny",
            "apart.example.org:443",
            "nftables",
            "nothing limits 192.0.2.20, and no rule denies 198.51.100.88",
        ),
        ("nas", "allow", "unknown.example.org:443", "nftables", "the lock does not know it, and no rule names it"),
        ("nas", "allow", "dark.example.org:443", "nftables", "the lock has no address of it"),
    ] {
        let said = of(from, wanted, to, target);
        assert!(said.contains(why), "{from} {wanted} {to} at {target}: {said}");
    }
}

#[test]
fn a_host_that_the_lock_does_not_know_is_allowed_nowhere_and_denied_as_far_as_rules_go() {
    let unknown = judged("nas", "allow", "unknown.example.org:443");
    assert_eq!(at(&unknown, State::Fails), ALL);
    // Nothing names it, so nothing lets it out.
    let denied = judged("nas", "deny", "unknown.example.org:443");
    assert_eq!(at(&denied, State::Holds), ALL);
    assert_eq!(denied["pf"].1, "no rule names it; the lock does not know it");
    // Nothing limits the administrator, so an address nobody knows is denied by nobody.
    let admin = judged("admin", "deny", "unknown.example.org:443");
    assert_eq!(at(&admin, State::Fails), BY_ADDRESS);
    // A rule names it: only that nobody answered keeps it in.
    let mut dark = hosts();
    dark.insert(query("backup.example.org"), entry(&[]));
    let named = judged_with(PROFILE, Some(lock_of(dark)), "nas", "deny", "backup.example.org:443");
    assert_eq!(at(&named, State::Fails), ALL);
    assert!(named["pf"].1.contains("as soon as there is one, `backup` lets it out"), "{named:#?}");
    // Without a lock there is no address to judge.
    let bare = judged_with(PROFILE, None, "nas", "allow", "backup.example.org:443");
    assert_eq!(at(&bare, State::Fails), BY_ADDRESS);
    assert!(bare["pf"].1.contains("there is no lock"), "{bare:#?}");
    assert_eq!(at(&bare, State::Holds), ["cilium", "squid"]);
}

fn set_missing(entry: &mut Entry, addr: &str, missing: Option<Day>) {
    let addr: IpAddr = addr.parse().unwrap();
    let seen = entry.addresses.get(&addr).unwrap().clone();
    entry.addresses.insert(addr, Seen { missing, ..seen });
}

#[test]
fn kept_addresses_count_for_denials_alone() {
    let mut kept = hosts();
    let half = kept.get_mut(&query("half.example.org")).unwrap();
    set_missing(half, "198.51.100.77", Day::parse("2026-11-20"));
    let allow = judged_with(PROFILE, Some(lock_of(kept.clone())), "nas", "allow", "half.example.org:443");
    assert_eq!(at(&allow, State::Holds), BY_ADDRESS, "{allow:#?}");
    let half = kept.get_mut(&query("half.example.org")).unwrap();
    set_missing(half, "198.51.100.77", None);
    set_missing(half, "198.51.100.1", Day::parse("2026-11-20"));
    let deny = judged_with(PROFILE, Some(lock_of(kept)), "nas", "deny", "half.example.org:443");
    assert_eq!(at(&deny, State::Fails), ["cilium", "lists", "nftables", "opnsense", "pf"], "{deny:#?}");
}

#[test]
fn every_family_of_the_clients_counts() {
    // Allowed by IPv4 and not by IPv6.
    let mut mixed = hosts();
    mixed.insert(query("mixed.example.org"), entry(&["198.51.100.1", "2001:db8:b::99"]));
    let lock = Some(lock_of(mixed));
    let allow = judged_with(PROFILE, lock.clone(), "nas", "allow", "mixed.example.org:443");
    assert!(allow["pf"].1.contains("no rule allows 2001:db8:b::99 to 2001:db8:10::10"), "{allow:#?}");
    let v4 = judged_with(PROFILE, lock.clone(), "192.0.2.10", "allow", "mixed.example.org:443");
    assert_eq!(at(&v4, State::Holds), BY_ADDRESS, "{v4:#?}");
    let deny = judged_with(PROFILE, lock, "2001:db8:10::10", "deny", "mixed.example.org:443");
    assert_eq!(deny["pf"].0, State::Holds, "{deny:#?}");
    // One client is of one family: what is asserted of the other would hold of itself.
    let other = judged("192.0.2.10", "deny", "[2001:db8:b::1]:443");
    assert_eq!(at(&other, State::Fails), [&["cilium"][..], &BY_ADDRESS].concat(), "{other:#?}");
    assert!(other["pf"].1.contains("is of the other family"), "{other:#?}");
    // Clients of one family: the other is denied as a whole, or nothing limits it.
    let v4 = |ipv6: &str| {
        let clients = PROFILE.replace("nas: [192.0.2.10, \"2001:db8:10::10\"]", "nas: [192.0.2.10]");
        clients.replace("targets:\n  nftables: {}", &format!("ipv6: {ipv6}\ntargets:\n  nftables: {{interface: lan0}}"))
    };
    for to in ["[2001:db8:b::1]:443", "apart.example.org:443"] {
        let denied = judged_with(&v4("deny-interface"), Some(lock_of(hosts())), "nas", "deny", to);
        assert_eq!((denied["nftables"].0, denied["lists"].0), (State::Holds, State::Fails), "{to}: {denied:#?}");
        let open = judged_with(&v4("clients"), Some(lock_of(hosts())), "nas", "deny", to);
        assert!(open["nftables"].1.contains("nothing limits their IPv6"), "{to}: {open:#?}");
    }
}

#[test]
fn settings_of_a_target_count() {
    let with = |from: &str, to: &str| PROFILE.replace(from, to);
    let lock = || Some(lock_of(hosts()));
    // Audit mode denies nothing.
    let audit = with("nftables: {}", "nftables: {mode: audit}");
    let denied = judged_with(&audit, lock(), "nas", "deny", "apart.example.org:443");
    assert_eq!(at(&denied, State::Fails), ["nftables"]);
    assert_eq!(judged_with(&audit, lock(), "nas", "allow", "backup.example.org:443")["nftables"].0, State::Holds);
    // On the appliance itself no browser is seen.
    for (from, to, target) in [
        ("nftables: {}", "nftables: {hook: output}", "nftables"),
        ("pf: {interface: em1}", "pf: {interface: em1, side: host}", "pf"),
    ] {
        let unseen = judged_with(&with(from, to), lock(), "admin", "deny", "sentry.ixsystems.com:443");
        assert_eq!(unseen[target].0, State::Skipped, "{unseen:#?}");
    }
    // dnsmasq lets out whatever it answers, and every name below.
    let fed = with("nftables: {}", "nftables: {by-dns: [backup.example.org]}");
    for to in ["backup.example.org:443", "below.backup.example.org:443"] {
        let allow = judged_with(&fed, lock(), "nas", "allow", to);
        assert_eq!(allow["nftables"].0, State::Holds, "{allow:#?}");
        let deny = judged_with(&fed, lock(), "nas", "deny", to);
        assert!(deny["nftables"].1.contains("what dnsmasq answers"), "{deny:#?}");
    }
    assert_eq!(judged_with(&fed, lock(), "jails", "deny", "backup.example.org:443")["nftables"].0, State::Holds);
    // By a name it looks up itself, OPNsense needs no lock and knows no wildcard.
    let own = with("resolve: lock", "resolve: firewall");
    let allow = judged_with(&own, None, "nas", "allow", "backup.example.org:443");
    assert_eq!(allow["opnsense"].0, State::Holds, "{allow:#?}");
    let shared = judged_with(&own, lock(), "nas", "deny", "half.example.org:443");
    assert_eq!(shared["opnsense"].0, State::Fails, "{shared:#?}");
    assert_eq!(judged_with(&own, lock(), "admin", "deny", "sentry.ixsystems.com:443")["opnsense"].0, State::Holds);
    // What is accepted at one address is denied at the others, by name or not.
    let mut shared = hosts();
    shared.insert(query("backup.example.org"), entry(&["203.0.113.2"]));
    let accepted = own.replace("origin: [nas], hosts: [backup", "origin: [nas, browser], hosts: [backup")
        + "shared: [{host: backup.example.org, choice: accept, with: [sentry.ixsystems.com], reason: agreed}]\n";
    let of = |from| judged_with(&accepted, Some(lock_of(shared.clone())), from, "deny", "sentry.ixsystems.com:443");
    let (v4, v6) = (of("192.0.2.20"), of("2001:db8:10::20"));
    assert_eq!((v4["opnsense"].0, v6["opnsense"].0), (State::Fails, State::Holds), "{v4:#?} {v6:#?}");
    // A wildcard is a matter of names.
    for profile in [PROFILE, own.as_str()] {
        let wild = judged_with(profile, lock(), "jails", "allow", "a.mirror.example.org:443");
        assert_eq!(at(&wild, State::Holds), ["squid"], "{wild:#?}");
        let deny = judged_with(profile, lock(), "jails", "deny", "a.mirror.example.org:443");
        assert_eq!(at(&deny, State::Fails), ["squid"], "{deny:#?}");
    }
    // Lists of names alone go by name, on every port.
    let names = with("lists: {}", "lists: {hold: names}");
    let allow = judged_with(&names, None, "nas", "allow", "backup.example.org:8000");
    assert_eq!(allow["lists"].0, State::Holds, "{allow:#?}");
    assert_eq!(judged_with(&names, lock(), "nas", "allow", "203.0.113.64:22")["lists"].0, State::Fails);
    // A proxy opens some paths of a host alone.
    let paths = with("squid: {}", "squid: {decrypt: {paths: [backup.example.org/a/]}}");
    assert!(
        judged_with(&paths, lock(), "nas", "allow", "backup.example.org:443")["squid"].1.contains("some paths alone")
    );
}

#[test]
fn a_denial_beats_an_allow_by_name_too() {
    let wild = PROFILE.replace("hosts: [backup.example.org]", "hosts: [\"*.truenas.com\"]");
    let of = |to: &str| judged_with(&wild, Some(lock_of(hosts())), "nas", "deny", to)["squid"].0;
    assert_eq!((of("usage.truenas.com:443"), of("other.truenas.com:443")), (State::Holds, State::Fails));
}

#[test]
fn every_client_that_rules_tell_apart_is_asked_for() {
    // The appliance lies among the jails, and has more than they have.
    let among = PROFILE.replace("jails: [192.0.2.64/28", "jails: [192.0.2.0/28, 192.0.2.64/28");
    let deny = judged_with(&among, Some(lock_of(hosts())), "jails", "deny", "backup.example.org:443");
    assert!(deny["pf"].1.contains("`backup` allows 198.51.100.1 to 192.0.2.10"), "{deny:#?}");
    let allow = judged_with(&among, Some(lock_of(hosts())), "jails", "allow", "backup.example.org:443");
    assert_eq!(allow["pf"].0, State::Fails, "{allow:#?}");
}

#[test]
fn what_the_site_decided_counts() {
    let mut shared = hosts();
    shared.insert(query("backup.example.org"), entry(&["203.0.113.1", "2001:db8:a::1"]));
    let lock = || Some(lock_of(shared.clone()));
    let decided = |choice: &str| format!("{PROFILE}shared: [{{host: backup.example.org, {choice}, reason: agreed}}]\n");
    // By name through the proxy, by address not at all.
    let proxy = decided("choice: proxy");
    let allow = judged_with(&proxy, lock(), "nas", "allow", "backup.example.org:443");
    assert_eq!(at(&allow, State::Holds), ["squid"], "{allow:#?}");
    let deny = judged_with(&proxy, lock(), "nas", "deny", "backup.example.org:443");
    assert_eq!(at(&deny, State::Fails), ["squid"], "{deny:#?}");
    // Let go of.
    let dropped = judged_with(&decided("choice: drop"), lock(), "nas", "deny", "backup.example.org:443");
    assert_eq!(at(&dropped, State::Holds), ALL, "{dropped:#?}");
    // Accepted: the blocked name can be reached by address, and not by name.
    let accepted = decided("choice: accept, with: [usage.truenas.com]");
    let deny = judged_with(&accepted, lock(), "nas", "deny", "usage.truenas.com:443");
    assert_eq!(at(&deny, State::Holds), ["squid"], "{deny:#?}");
    // Nobody decided: it is denied, for a denial comes first, and what strict mode promises cannot be kept.
    let text = with_tests(PROFILE, "  - {from: nas, allow: [\"backup.example.org:443\"]}\n");
    let report = Site::new(&text, lock()).report();
    let state = |word: &str| report.outcomes.iter().find(|o| o.always == Some(word)).unwrap().state();
    assert_eq!((state("telemetry"), state("default-deny")), (State::Fails, State::Holds));
}

#[test]
fn a_test_is_about_the_targets_it_names_and_no_assertion_is_judged_by_nobody() {
    let outcome = |tests: &str| {
        let report = Site::new(&with_tests(PROFILE, tests), Some(lock_of(hosts()))).report();
        report.outcomes.last().unwrap().clone()
    };
    let one = outcome("  - {from: nas, allow: [\"backup.example.org:443\"], on: [pf, squid]}\n");
    let targets: Vec<_> = one.cases.iter().map(|case| case.target.unwrap()).collect();
    assert_eq!((targets, one.state()), (vec!["pf", "squid"], State::Holds));
    // Time does not go through a proxy: beside pf that is no matter, alone it would be an assertion about nothing.
    let both = outcome("  - {from: nas, allow: [\"time.example.org:123/udp\"], on: [pf, squid]}\n");
    assert_eq!((both.cases.len(), both.state()), (2, State::Holds));
    assert_eq!(both.cases[1].why, "123/udp does not go through it");
    for wanted in ["allow", "deny"] {
        let alone = outcome(&format!("  - {{from: nas, {wanted}: [\"time.example.org:123/udp\"], on: [squid]}}\n"));
        assert_eq!((alone.cases.len(), alone.state()), (2, State::Fails));
        assert_eq!(alone.cases[1].why, "no target of this site judges it");
    }
    // A site with name servers alone.
    let names = PROFILE.split("targets:\n").next().unwrap().to_owned() + "targets: {unbound: {}}\n";
    let report = Site::new(&with_tests(&names, "  - {from: nas, deny: [\"a.example.org:443\"]}\n"), None).report();
    assert_eq!(report.outcomes.last().unwrap().state(), State::Fails);
}

// What is asserted of any site.

/// The state and the reasons of one assertion that is made always.
fn always(report: &Report, word: &str) -> (State, Vec<String>) {
    let outcome = report.outcomes.iter().find(|outcome| outcome.always == Some(word)).unwrap();
    let why = |state| move |case: &&verify::Case| case.state == state;
    (outcome.state(), outcome.cases.iter().filter(why(outcome.state())).map(|case| case.why.clone()).collect())
}

fn codes(report: &Report) -> BTreeSet<Code> {
    let mut findings = Findings::default();
    report.tell(&mut findings);
    findings.iter().map(|finding| finding.code).collect()
}

#[test]
fn a_good_site_holds_in_everything() {
    let report = Site::new(PROFILE, Some(lock_of(hosts()))).report();
    for word in ["default-deny", "both-families", "telemetry", "no-lockout"] {
        assert_eq!(always(&report, word).0, State::Holds, "{word}: {:#?}", report.outcomes);
    }
    assert!(report.holds() && codes(&report).is_empty());
}

/// A good site whose rules are spoilt, and what is said of it.
fn spoilt(spoil: impl Fn(&mut Ruleset)) -> Report {
    let mut site = Site::new(PROFILE, Some(lock_of(hosts())));
    spoil(&mut site.ruleset);
    site.report()
}

/// The same without files: whole families are not to be written out.
fn unproven(spoil: impl Fn(&mut Ruleset)) -> Report {
    let mut site = Site::new(PROFILE, Some(lock_of(hosts())));
    spoil(&mut site.ruleset);
    verify::verify(&site.ruleset, site.lock.as_ref(), &site.profile, None)
}

fn nets(nets: &[&str]) -> AddrSet {
    nets.iter().map(|net| net.parse().unwrap_or_else(|_| IpNet::from(net.parse::<IpAddr>().unwrap()))).collect()
}

#[test]
fn default_deny_fails_where_anything_is_open() {
    let rule = |ruleset: &Ruleset, key: &str| ruleset.rules.iter().position(|rule| rule.key.as_str() == key).unwrap();
    type Spoil = Box<dyn Fn(&mut Ruleset)>;
    let cases: [(&str, Spoil); 9] = [
        (
            "clients `jails` are not denied what no rule allows",
            Box::new(|rules| {
                rules.clients.get_mut(&Origin::Jail).unwrap().default_deny = false;
            }),
        ),
        (
            "gets through to what no rule names",
            Box::new(|rules| {
                rules.clients.values_mut().for_each(|group| group.default_deny = false);
            }),
        ),
        (
            "`vault` allows 0.0.0.0/0",
            Box::new(move |rules| {
                let at = rule(rules, "vault");
                rules.rules[at].destinations[0].addrs = nets(&["0.0.0.0/0"]);
            }),
        ),
        (
            "`vault` allows ::/0",
            Box::new(move |rules| {
                let at = rule(rules, "vault");
                rules.rules[at].destinations[0].addrs = nets(&["::/0"]);
            }),
        ),
        (
            "`backup` allows 128.0.0.0/2",
            Box::new(move |rules| {
                let at = rule(rules, "backup");
                rules.rules[at].destinations[0].widened.get_or_insert_default().addrs = nets(&["128.0.0.0/2"]);
            }),
        ),
        (
            "all rules together allow 32.0.0.0/7",
            Box::new(move |rules| {
                for (key, net) in [("backup", "32.0.0.0/8"), ("vault", "33.0.0.0/8")] {
                    let at = rule(rules, key);
                    rules.rules[at].destinations[0].addrs = nets(&[net]);
                }
            }),
        ),
        (
            "`mirror` allows *.co.uk",
            Box::new(move |rules| {
                let at = rule(rules, "mirror");
                let wild = NamePattern::Below(Host::parse("co.uk").unwrap());
                rules.rules[at].destinations[0].names = Names::These([wild.clone()].into());
                rules.rules[at].destinations[0].endpoint = Endpoint::Name(wild);
            }),
        ),
        (
            "`backup` allows every port of tcp",
            Box::new(move |rules| {
                let at = rule(rules, "backup");
                rules.rules[at].ports = [Port::every(Protocol::Tcp)].into();
            }),
        ),
        (
            "in audit mode it logs and denies nothing",
            Box::new(|rules| {
                rules.settings.nftables.as_mut().unwrap().mode = outgate::settings::Mode::Audit;
            }),
        ),
    ];
    for (why, spoil) in cases {
        let report = unproven(spoil);
        let (state, said) = always(&report, "default-deny");
        assert_eq!(state, State::Fails, "{why}");
        assert!(said.iter().any(|said| said.contains(why)), "{why}: {said:#?}");
        assert!(codes(&report).contains(&Code::NotDefaultDeny));
    }
    // Every port for the administrator alone opens nothing that was not open.
    let report = unproven(|rules| {
        let at = rule(rules, "backup");
        rules.rules[at].origins = [Origin::Browser].into();
        rules.rules[at].ports = [Port::every(Protocol::Tcp)].into();
    });
    let (state, said) = always(&report, "default-deny");
    assert_eq!(state, State::Holds, "{said:#?}");
}

#[test]
fn both_families_fails_where_one_is_open() {
    for net in ["192.0.2.64/28", "2001:db8:10:1::/64"] {
        let report = spoilt(|rules| rules.clients.get_mut(&Origin::Jail).unwrap().addrs = nets(&[net]));
        let (state, said) = always(&report, "both-families");
        assert_eq!(state, State::Fails, "{net}: {said:#?}");
        assert!(codes(&report).contains(&Code::OneFamily));
    }
    // The administrator too, where anything is denied to him.
    let report = spoilt(|rules| rules.clients.get_mut(&Origin::Browser).unwrap().addrs = nets(&["192.0.2.20"]));
    assert_eq!(always(&report, "both-families").0, State::Fails);
    // A proxy tells nobody apart by family.
    let squid =
        PROFILE.split("targets:\n").next().unwrap().replace(", \"2001:db8:10::10\"", "") + "targets: {squid: {}}\n";
    let report = Site::new(&squid, Some(lock_of(hosts()))).report();
    assert_eq!(always(&report, "both-families").0, State::Skipped);
}

#[test]
fn telemetry_fails_where_it_can_leave() {
    // An allow has an address of a blocked name, and the denial has lost it.
    let report = spoilt(|rules| {
        for rule in rules.rules.iter_mut().filter(|rule| rule.action == Action::Deny) {
            for destination in &mut rule.destinations {
                destination.addrs = destination.addrs.minus(&nets(&["203.0.113.1"]));
            }
        }
        let backup = rules.rules.iter_mut().find(|rule| rule.key.as_str() == "backup").unwrap();
        backup.destinations[0].addrs = nets(&["203.0.113.1", "2001:db8:b::1"]);
    });
    let (state, said) = always(&report, "telemetry");
    assert_eq!(state, State::Fails, "{said:#?}");
    assert!(said.iter().any(|why| why.contains("backup lets out 203.0.113.1")), "{said:#?}");
    assert!(codes(&report).contains(&Code::TelemetryOpen));
    // The two lie together and nobody decided.
    let mut shared = hosts();
    shared.insert(query("backup.example.org"), entry(&["203.0.113.1"]));
    let report = Site::new(PROFILE, Some(lock_of(shared))).report();
    let (state, said) = always(&report, "telemetry");
    assert_eq!((state, said.len()), (State::Fails, 1), "{said:#?}");
    assert!(codes(&report).contains(&Code::SharedAddress));
    // Without strict mode nothing is asserted.
    let lax = PROFILE
        .replace("strict: [usage, error-report]", "strict: []")
        .replace("leave-out:\n  - {callout: feedback-dialog-late, reason: of no interest here}\n", "");
    assert_eq!(always(&Site::new(&lax, Some(lock_of(hosts()))).report(), "telemetry").0, State::Skipped);
}

#[test]
fn no_lockout_fails_where_somebody_is_cut_off() {
    let lock = || Some(lock_of(hosts()));
    let of = |profile: &str| Site::new(profile, lock()).report();
    let fails = |report: &Report, why: &str| {
        let (state, said) = always(report, "no-lockout");
        assert_eq!(state, State::Fails, "{why}: {said:#?}");
        assert!(said.iter().any(|said| said.contains(why)), "{why}: {said:#?}");
        assert!(codes(report).contains(&Code::LockedOut), "{why}");
    };
    // The entry is left out, and its servers are named all the same.
    let left = PROFILE.replace("leave-out:\n", "leave-out:\n  - {callout: dns, reason: a slip}\n");
    fails(&of(&left), "no rule is for it");
    // A denial lies over a server.
    let report = spoilt(|rules| {
        let denial = rules.rules.iter_mut().find(|rule| rule.action == Action::Deny).unwrap();
        denial.destinations[0].addrs = nets(&["192.0.2.53"]);
    });
    fails(&report, "denies 192.0.2.53 to 192.0.2.10");
    // A rule has lost a protocol.
    let report = spoilt(|rules| {
        let dns = rules.rules.iter_mut().find(|rule| rule.key.as_str() == "dns").unwrap();
        dns.destinations.retain(|d| d.endpoint.to_string() != "2001:db8:10::53");
    });
    fails(&report, "no rule is for it");
    // Nobody knows where the time server is.
    let mut dark = hosts();
    dark.insert(query("time.example.org"), entry(&[]));
    fails(&Site::new(PROFILE, Some(lock_of(dark))).report(), "the lock has no address of it");
    // A denial of the administrator's lies over the appliance, whatever the port.
    let report = spoilt(|rules| {
        let browsers =
            rules.rules.iter_mut().find(|rule| rule.action == Action::Deny && rule.origins.contains(Origin::Browser));
        let denial = browsers.unwrap();
        denial.destinations[0].addrs = nets(&["2001:db8:10::10"]);
        denial.ports = [Port::parse("8443/tcp").unwrap()].into();
    });
    fails(&report, "denies them an address of the appliance");
    // Every administrator's machine is a jail too, in one family.
    let jailed =
        PROFILE.replace("admin: [192.0.2.20, \"2001:db8:10::20\"]", "admin: [192.0.2.65, \"2001:db8:10::20\"]");
    fails(&of(&jailed), "they are among clients that are denied what no rule allows");
    // A wide network that has jails in it, and the appliance itself, locks nobody out.
    let wide =
        PROFILE.replace("admin: [192.0.2.20, \"2001:db8:10::20\"]", "admin: [192.0.2.0/24, \"2001:db8:10::/48\"]");
    let (state, said) = always(&of(&wide), "no-lockout");
    assert_eq!(state, State::Holds, "{said:#?}");
    // What the profile does not name is not asserted.
    let bare = PROFILE
        .replace("  ntp: [{host: time.example.org}]\n", "")
        .replace("  admin: [192.0.2.20, \"2001:db8:10::20\"]\n", "");
    let report = of(&bare);
    let outcome = report.outcomes.iter().find(|outcome| outcome.always == Some("no-lockout")).unwrap();
    let skipped: Vec<&str> =
        outcome.cases.iter().filter(|case| case.state == State::Skipped).map(|case| case.why.as_str()).collect();
    assert_eq!(skipped, ["the profile names no `ntp` servers", "the profile names no `admin` clients"]);
}

// The judge beside the model.

#[test]
fn of_single_addresses_it_says_what_the_model_decides() {
    let mut site = Site::new(PROFILE, Some(lock_of(hosts())));
    let servers: BTreeSet<IpAddr> = hosts().values().flat_map(|entry| entry.addresses.keys()).collect();
    let more =
        ["203.0.113.63", "203.0.113.64", "203.0.113.71", "203.0.113.72", "192.0.2.53", "2001:db8:10::53", "192.0.2.99"];
    let servers: Vec<IpAddr> = servers.into_iter().chain(more.map(|addr| addr.parse().unwrap())).collect();
    let clients = ["192.0.2.10", "2001:db8:10::10", "192.0.2.20", "2001:db8:10::20", "192.0.2.70", "2001:db8:10:1::7"];
    let span = site.profile.clients[&Origin::Nas].span.clone();
    let mut expected = Vec::new();
    for client in clients.map(|client| client.parse::<IpAddr>().unwrap()) {
        for &server in servers.iter().filter(|server| server.is_ipv4() == client.is_ipv4()) {
            for port in ["22/tcp", "53/udp", "443/tcp", "443/udp", "8005/tcp", "123/udp", "9/tcp"] {
                let port = Port::parse(port).unwrap();
                let open = match site.ruleset.decide(client, server, port.protocol, port.first()) {
                    Verdict::Allow(_) | Verdict::NotOurs => true,
                    Verdict::Deny(_) | Verdict::DefaultDeny => false,
                };
                for wanted in [Wanted::Allow, Wanted::Deny] {
                    let flow = Flow { wanted, to: To::Net(IpNet::from(server)), port, span: span.clone() };
                    let on = ["nftables", "pf", "opnsense", "lists"].map(|name| (name, span.clone())).into();
                    let test =
                        Test { name: None, from: Sender::Client(client), flows: vec![flow], on, span: span.clone() };
                    site.profile.tests.push(test);
                    expected.push(if open == (wanted == Wanted::Allow) { State::Holds } else { State::Fails });
                }
            }
        }
    }
    let report = site.report();
    let outcomes = report.outcomes.iter().filter(|outcome| outcome.always.is_none());
    let mut seen = BTreeMap::new();
    for (outcome, expected) in outcomes.zip(&expected) {
        for case in &outcome.cases {
            assert_eq!(case.state, *expected, "{case:?}");
        }
        *seen.entry(*expected).or_insert(0) += 1;
    }
    assert!(expected.len() > 800 && seen.values().all(|count| *count > 300), "{seen:?}");
}

// The command.

fn folder(profile: &str, hosts: Hosts) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("outgate.yaml"), profile).unwrap();
    fs::write(folder.path().join("outgate.lock"), lock_of(hosts).print()).unwrap();
    folder
}

fn outgate(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_outgate"))
        .args(args)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("SOURCE_DATE_EPOCH", "1795521600")
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

const GOOD: &str = "  - {name: backups work, from: nas, allow: [\"backup.example.org:443\"]}\n";
const BAD: &str = "  - {name: backups work, from: nas, allow: [\"backup.example.org:443\"]}\n  - name: nothing leaves\n    from: nas\n    deny: [\"usage.truenas.com:443\", \"backup.example.org:443\"]\n";

#[test]
fn the_exit_code_is_the_answer() {
    let good = folder(&with_tests(PROFILE, GOOD), hosts());
    let (code, stdout, stderr) = outgate(good.path(), &["test"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.starts_with("5 assertions of `home` hold\n"), "{stdout}");
    let bad = folder(&with_tests(PROFILE, BAD), hosts());
    let (code, stdout, stderr) = outgate(bad.path(), &["test"]);
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stdout.starts_with("1 of 6 assertions of `home` do not hold\n"), "{stdout}");
    let line = |key: &str| {
        1 + fs::read_to_string(bad.path().join("outgate.yaml")).unwrap().lines().position(|l| l.contains(key)).unwrap()
    };
    assert!(stderr.contains(&format!("outgate.yaml:{}:", line("deny:"))), "{stderr}");
    assert!(stderr.contains(&format!("{} |   - {{id: backup", line("id: backup"))), "{stderr}");
    assert!(
        stderr.contains("error[E050]: cilium, opnsense") || stderr.contains("`backup` allows 198.51.100.1"),
        "{stderr}"
    );
    // Briefly: what fails alone.
    let (_, brief, _) = outgate(bad.path(), &["test", "-q"]);
    assert!(!brief.contains("ok  ") && brief.contains("FAIL nothing leaves"), "{brief}");
    assert!(brief.len() < stdout.len());
    // A lock that is old or lacks a name keeps nobody from judging.
    let (code, _, _) = outgate(good.path(), &["test", "--lock", "nowhere.lock"]);
    assert_eq!(code, Some(2));
    for (profile, expected) in [("site: [", 2), ("", 2)] {
        fs::write(good.path().join("outgate.yaml"), profile).unwrap();
        let (code, stdout, stderr) = outgate(good.path(), &["test"]);
        assert_eq!((code, stdout.as_str()), (Some(expected), ""), "{stderr}");
    }
}

#[test]
fn it_is_fast_and_changes_nothing() {
    let folder = folder(&with_tests(PROFILE, BAD), hosts());
    let before: BTreeSet<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let start = std::time::Instant::now();
    let _ = outgate(folder.path(), &["test"]);
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    let after: BTreeSet<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(before, after);
}

#[test]
fn each_format_says_the_same() {
    let folder = folder(&with_tests(PROFILE, BAD), hosts());
    let text = fs::read_to_string(folder.path().join("outgate.yaml")).unwrap();
    let line = 1 + text.lines().position(|line| line.contains("deny: [\"usage")).unwrap();
    let (code, stdout, stderr) = outgate(folder.path(), &["test", "--format", "json"]);
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&json["format_version"], &json["site"], &json["holds"]), (&1.into(), &"home".into(), &false.into()));
    let test = &json["assertions"][5];
    assert_eq!(
        (&test["title"], &test["state"], &test["always"]),
        (&"nothing leaves".into(), &"fails".into(), &Value::Null)
    );
    let case = test["cases"]
        .as_array()
        .unwrap()
        .iter()
        .find(|case| case["state"] == "fails" && case["target"] == "pf")
        .unwrap();
    assert_eq!(case["rule"]["key"], "backup");
    assert_eq!((&case["place"]["file"], &case["place"]["line"]), (&"outgate.yaml".into(), &line.into()));
    assert_eq!(case["rule"]["reason"], "extra of this site");
    assert_eq!(json["findings"][0]["code"], "E050");

    let (code, stdout, _) = outgate(folder.path(), &["test", "--format", "github"]);
    assert_eq!(code, Some(1));
    let first = stdout.lines().next().unwrap();
    assert!(first.starts_with(&format!("::error file=outgate.yaml,line={line},col=")), "{stdout}");
    assert_eq!(stdout.lines().last().unwrap(), "1 of 6 assertions of `home` do not hold");

    let (code, stdout, _) = outgate(folder.path(), &["test", "--format", "sarif"]);
    assert_eq!(code, Some(1));
    let sarif: Value = serde_json::from_str(&stdout).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!((&result["ruleId"], &result["level"]), (&"E050".into(), &"error".into()));
    assert_eq!(result["locations"][0]["physicalLocation"]["region"]["startLine"], line);
}

/// Texts that a profile may hold and that mean something to whoever reads the log.
const HOSTILE: [&str; 6] = [
    "::error::boom",
    "a%0A::warning::b",
    "]]> <b>&amp; </failure>",
    "##[error]boom",
    "::set-output name=a::b",
    "%0D%0A<!-- -->",
];

#[test]
fn no_name_becomes_a_command_of_the_log() {
    for hostile in HOSTILE {
        let text = PROFILE.replace("site: home", &format!("site: \"{hostile}\""));
        let text =
            with_tests(&text, &format!("  - {{name: \"{hostile}\", from: nas, deny: [\"backup.example.org:443\"]}}\n"));
        let text = text.replace("purpose: copies snapshots", &format!("title: \"{hostile}\", purpose: \"{hostile}\""));
        let folder = folder(&text, hosts());
        for format in ["text", "github", "json", "sarif"] {
            let (code, stdout, stderr) = outgate(folder.path(), &["test", "--format", format]);
            assert_eq!(code, Some(1), "{hostile} {format}: {stdout}{stderr}");
            for line in stdout.lines() {
                let command = line.trim_start().starts_with("::");
                assert!(
                    !command || format == "github" && line.starts_with("::error file=outgate.yaml,line="),
                    "{format}: {line}"
                );
            }
            if format == "github" {
                // Behind a command of ours nothing is looked for; the last line is none.
                let last = stdout.lines().last().unwrap();
                assert!(!last.contains("##[") && last.contains("do not hold"), "{last}");
                let ours = stdout.lines().filter(|line| line.starts_with("::error ")).count();
                assert_eq!(ours + 1, stdout.lines().count(), "{stdout}");
            }
        }
    }
}

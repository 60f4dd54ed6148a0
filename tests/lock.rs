//! What a run makes of a lock: failures, terms, several resolvers, several sites, age.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use outgate::catalog::Catalog;
use outgate::day::Day;
use outgate::diagnostic::Findings;
use outgate::freshness;
use outgate::host::{Host, Query};
use outgate::lock::changes::{What, changes};
use outgate::lock::{self, Entry, Lock, Wanted};
use outgate::policy::Policy;
use outgate::resolve::{Failure, Heard, Link, RecordType, Reply};
use outgate::ruleset;

mod support;
use support::model;

const V4: [&str; 3] = ["8.8.8.1", "8.8.8.2", "8.8.8.3"];
const V6: &str = "2606:4700::1";

fn day(text: &str) -> Day {
    Day::parse(text).unwrap()
}

fn query(name: &str) -> Query {
    Query::parse(name).unwrap()
}

/// A site of its own extra hosts and nothing else; `answers` is the part of the profile below that key.
fn policy(site: &str, hosts: &str, answers: &str) -> Policy {
    let profile = format!(
        "site: {site}\nrelease: \"25.10.2\"\nclients: {{nas: [203.0.113.10, '2001:db8:10::10']}}\nfeatures: []\n\
         servers: {{dns: [{{host: 203.0.113.53}}], ntp: [{{host: 203.0.113.123}}]}}\nextra:\n  \
         - {{id: own, purpose: is asked for, origin: [nas], hosts: [{hosts}], ports: [443/tcp]}}\nanswers: {{{answers}}}\n"
    );
    static CATALOG: std::sync::LazyLock<Catalog> = std::sync::LazyLock::new(model::catalog);
    model::policy(&CATALOG, &profile).unwrap()
}

/// What one resolver says.
fn says(by: &str, addresses: &[&str]) -> Reply {
    let addresses = addresses.iter().map(|addr| (addr.parse().unwrap(), 60)).collect();
    Reply { by: Arc::new([by.to_owned()].into()), addresses, ..Reply::default() }
}

fn fails(by: &str, failure: Failure) -> Reply {
    let failures = [RecordType::A, RecordType::Aaaa].map(|kind| (kind, failure)).into();
    Reply { by: Arc::new([by.to_owned()].into()), failures, ..Reply::default() }
}

fn heard(name: &str, replies: &[Reply]) -> Heard {
    Heard { replies: [(query(name), replies.to_vec())].into(), ..Heard::default() }
}

/// A run, and the codes of what it found.
fn run(policy: &Policy, old: Option<&Lock>, heard: &Heard, today: &str) -> (Lock, Vec<&'static str>) {
    run_for(&Wanted::of([policy]), old, heard, today)
}

fn run_for(wanted: &Wanted, old: Option<&Lock>, heard: &Heard, today: &str) -> (Lock, Vec<&'static str>) {
    let mut findings = Findings::default();
    let lock = lock::update(wanted, old, heard, day(today), None, &mut findings);
    (lock, codes(&findings))
}

/// What was found of the names of these tests: those of the base system were never answered.
fn codes(findings: &Findings) -> Vec<&'static str> {
    findings.iter().filter(|d| d.message.contains("example.org")).map(|d| d.code.as_str()).collect()
}

fn addresses(lock: &Lock, name: &str) -> Vec<String> {
    lock.hosts[&query(name)].addresses.keys().map(|addr| addr.to_string()).collect()
}

const NAME: &str = "one.example.org";

#[test]
fn a_failure_keeps_drops_or_fails_as_the_profile_says() {
    for &failure in Failure::ALL {
        for (word, left, code) in [("keep", 2, "W101"), ("drop", 0, "W101"), ("fail", 2, "E031")] {
            let policy = policy("a", NAME, &format!("on-failure: {{{}: {word}}}", failure.key()));
            let (before, _) = run(&policy, None, &heard(NAME, &[says("x", &[V4[0], V6])]), "2026-11-01");
            let (after, codes) = run(&policy, Some(&before), &heard(NAME, &[fails("x", failure)]), "2026-11-02");
            assert_eq!(addresses(&after, NAME).len(), left, "{failure} {word}");
            assert_eq!(codes, [code], "{failure} {word}");
            // A failure is no answer: nothing has gone missing by it.
            assert!(after.hosts[&query(NAME)].addresses.values().all(|seen| seen.missing.is_none()));
            // Another failure than the one that is spoken of is kept.
            let other = if failure == Failure::Timeout { Failure::ServFail } else { Failure::Timeout };
            let (after, codes) = run(&policy, Some(&before), &heard(NAME, &[fails("x", other)]), "2026-11-02");
            assert_eq!((addresses(&after, NAME).len(), codes), (2, vec!["W101"]), "{failure} {word}, then {other}");
        }
    }
}

#[test]
fn a_host_is_never_emptied_without_a_word() {
    let policy = policy("a", NAME, "keep-days: 3");
    let (mut lock, _) = run(&policy, None, &heard(NAME, &[says("x", &[V4[0], V6])]), "2026-11-01");
    // NXDOMAIN for a month: what is known stands, and each run says so.
    for n in 2..30 {
        let today = format!("2026-11-{n:02}");
        let (next, codes) = run(&policy, Some(&lock), &heard(NAME, &[fails("x", Failure::NxDomain)]), &today);
        assert_eq!((addresses(&next, NAME).len(), codes), (2, vec!["W101"]), "{today}");
        assert_eq!(next.hosts[&query(NAME)].failed[&RecordType::A].since, day("2026-11-02"));
        lock = next;
    }
    // Its age counts from the first failure, and beyond max-age no rule is made.
    let judge = |today: &str, allow| {
        let mut findings = Findings::default();
        let ages = freshness::ages(&Wanted::of([&policy]), &lock, day(today));
        freshness::judge(&ages, &lock, day(today), allow, &mut findings);
        codes(&findings)
    };
    assert!(judge("2026-11-17", false).is_empty());
    assert_eq!(judge("2026-11-18", false), ["W115"]);
    assert_eq!(judge("2026-12-02", false), ["W115"]);
    assert_eq!(judge("2026-12-03", false), ["E032"]);
    assert_eq!(judge("2026-12-03", true), ["W115"]);
}

#[test]
fn a_family_that_leaves_is_said() {
    let policy = policy("a", NAME, "keep-days: 3");
    let (first, _) = run(&policy, None, &heard(NAME, &[says("x", &[V4[0], V6])]), "2026-11-01");
    let only_v4 = heard(NAME, &[says("x", &[V4[0]])]);
    let (second, codes) = run(&policy, Some(&first), &only_v4, "2026-11-02");
    assert_eq!((addresses(&second, NAME).len(), codes.len()), (2, 0));
    let (third, codes) = run(&policy, Some(&second), &only_v4, "2026-11-06");
    assert_eq!((addresses(&third, NAME), codes), (vec![V4[0].to_owned()], vec!["W118"]));
}

#[test]
fn resolvers_are_put_together_and_each_address_knows_who_said_it() {
    let policy = policy("a", NAME, "");
    let replies = [says("x", &[V4[0], V4[1]]), says("y", &[V4[1], V4[2]]), fails("z", Failure::NxDomain)];
    let (lock, codes) = run(&policy, None, &heard(NAME, &replies), "2026-11-01");
    let entry = &lock.hosts[&query(NAME)];
    let by = |addr: &str| entry.addresses.get(&addr.parse().unwrap()).unwrap().by.iter().cloned().collect::<Vec<_>>();
    assert_eq!([by(V4[0]), by(V4[1]), by(V4[2])].map(|by| by.concat()), ["x", "xy", "y"]);
    assert_eq!(codes, ["W117", "W117"], "one that blocks the name is said, for A and for AAAA");
    assert!(entry.failed.is_empty());
    // Of two that fail, the one that says nothing of the name counts: NXDOMAIN of the other must not drop it.
    let strict = self::policy("a", NAME, "on-failure: {nxdomain: drop}");
    let both = [fails("x", Failure::NxDomain), fails("y", Failure::Timeout)];
    let (after, _) = run(&strict, Some(&lock), &heard(NAME, &both), "2026-11-02");
    assert_eq!(addresses(&after, NAME).len(), 3);
    assert_eq!(after.hosts[&query(NAME)].failed[&RecordType::A].failure, Failure::Timeout);
}

#[test]
fn an_unchanged_answer_is_an_unchanged_line() {
    let policy = policy("a", NAME, "");
    let same = heard(NAME, &[says("x", &[V4[0], V6]), says("y", &[V4[0], V6])]);
    let (first, _) = run(&policy, None, &same, "2026-11-01");
    let (second, _) = run(&policy, Some(&first), &same, "2026-11-09");
    let (first, second) = (first.print(), second.print());
    let moved: Vec<_> = first.lines().zip(second.lines()).filter(|(a, b)| a != b).map(|(a, _)| &a[..5]).collect();
    assert_eq!(moved, ["\"day\"", "\"sum\""], "the day, and the sum over it");
    // A failing name changes once, and not again while it fails.
    let lost = heard(NAME, &[fails("x", Failure::ServFail)]);
    let parse = |text: &str| {
        let mut sources = outgate::source::Sources::default();
        let id = sources.add("outgate.lock", text);
        Lock::parse(&sources, id).unwrap()
    };
    let (third, _) = run(&policy, Some(&parse(&second)), &lost, "2026-11-10");
    let (fourth, _) = run(&policy, Some(&third), &lost, "2026-11-11");
    let entry = |lock: &Lock| lock.hosts[&query(NAME)].clone();
    assert_eq!(entry(&third), entry(&fourth));
    let was = entry(&parse(&second));
    assert_eq!(Entry { failed: BTreeMap::new(), ..entry(&third) }, was, "nothing but the failure is new");
}

#[test]
fn more_addresses_than_are_believed_are_none() {
    let policy = policy("a", NAME, "most: 2");
    let (before, _) = run(&policy, None, &heard(NAME, &[says("x", &[V4[0]])]), "2026-11-01");
    let (after, codes) = run(&policy, Some(&before), &heard(NAME, &[says("x", &V4)]), "2026-11-02");
    assert_eq!((addresses(&after, NAME), codes), (vec![V4[0].to_owned()], vec!["W101"]));
    assert_eq!(after.hosts[&query(NAME)].failed[&RecordType::A].failure, Failure::TooMany);
    // For one name more may be right.
    let policy = self::policy("a", NAME, &format!("most: 2, hosts: {{{NAME}: {{most: 3}}}}"));
    let (after, codes) = run(&policy, Some(&before), &heard(NAME, &[says("x", &V4)]), "2026-11-02");
    assert_eq!((addresses(&after, NAME).len(), codes.len()), (3, 0));
}

#[test]
fn a_lie_takes_nothing_away() {
    let policy = policy("a", NAME, "keep-days: 0");
    let (before, _) = run(&policy, None, &heard(NAME, &[says("x", &[V4[0], V6])]), "2026-11-01");
    let lie = heard(NAME, &[says("x", &["127.0.0.1", V6])]);
    let (mut lock, codes) = run(&policy, Some(&before), &lie, "2026-11-02");
    assert_eq!(codes, ["W102"]);
    for n in 3..20 {
        lock = run(&policy, Some(&lock), &lie, &format!("2026-11-{n:02}")).0;
    }
    assert_eq!(addresses(&lock, NAME), [V4[0], V6], "the address that was known stands");
    assert!(lock.hosts[&query(NAME)].addresses.values().all(|seen| seen.missing.is_none()));
}

#[test]
fn terms_for_one_name_hold_for_that_name_alone() {
    let two = "one.example.org, two.example.org";
    let policy = policy("a", two, "hosts: {one.example.org: {allow: [documentation], keep-days: 0}}");
    let doc = |name: &str| (query(name), vec![says("x", &["192.0.2.7", V6])]);
    let both = Heard { replies: [doc("one.example.org"), doc("two.example.org")].into(), ..Heard::default() };
    let (lock, codes) = run(&policy, None, &both, "2026-11-01");
    assert_eq!(addresses(&lock, "one.example.org"), ["192.0.2.7", V6]);
    assert_eq!((addresses(&lock, "two.example.org"), codes), (vec![V6.to_owned()], vec!["W102"]));
    let next = |name: &str| (query(name), vec![says("x", &[V4[1], "2606:4700::2"])]);
    let both = Heard { replies: [next("one.example.org"), next("two.example.org")].into(), ..Heard::default() };
    let (lock, _) = run(&policy, Some(&lock), &both, "2026-11-02");
    let (lock, _) = run(&policy, Some(&lock), &both, "2026-11-03");
    assert_eq!(addresses(&lock, "one.example.org").len(), 2, "kept for no day");
    assert_eq!(addresses(&lock, "two.example.org").len(), 3, "kept for its fortnight");
}

#[test]
fn a_lock_serves_many_sites_and_a_run_for_one_leaves_the_others() {
    let (a, b) = (policy("a", "one.example.org", ""), policy("b", "two.example.org", ""));
    let reply = |name: &str, addr: &str| (query(name), vec![says("x", &[addr, V6])]);
    let both = [reply("one.example.org", V4[0]), reply("two.example.org", V4[1])];
    let all = Heard { replies: both.into(), ..Heard::default() };
    let (lock, _) = run_for(&Wanted::of([&a, &b]), None, &all, "2026-11-01");
    let sites: Vec<_> = lock.sites.iter().map(ToString::to_string).collect();
    assert_eq!(sites, ["a", "b"]);
    let only_a = Heard { replies: [reply("one.example.org", V4[2])].into(), ..Heard::default() };
    let (part, _) = run(&a, Some(&lock), &only_a, "2026-11-05");
    assert_eq!(addresses(&part, "two.example.org"), [V4[1], V6], "the other site's name stands");
    assert_eq!(part.hosts[&query("two.example.org")], lock.hosts[&query("two.example.org")]);
    assert_eq!((part.day, part.hosts[&query(NAME)].asked), (day("2026-11-01"), Some(day("2026-11-05"))));
    let age = |policy: &Policy, name: &str| {
        let ages = freshness::ages(&Wanted::of([policy]), &part, day("2026-11-06"));
        ages.iter().find(|age| age.query == query(name)).unwrap().days
    };
    assert_eq!((age(&a, "one.example.org"), age(&b, "two.example.org")), (1, 5));
    // Both again: one day for all, and a name nobody asks for leaves.
    let b = policy("b", "three.example.org", "");
    let both = [reply("one.example.org", V4[0]), reply("three.example.org", V4[1])];
    let all = Heard { replies: both.into(), ..Heard::default() };
    let (whole, _) = run_for(&Wanted::of([&a, &b]), Some(&part), &all, "2026-11-07");
    assert_eq!((whole.day, whole.hosts[&query(NAME)].asked), (day("2026-11-07"), None));
    assert!(!whole.hosts.contains_key(&query("two.example.org")));
}

#[test]
fn one_name_can_be_asked_alone() {
    let policy = policy("a", "one.example.org, two.example.org", "");
    let reply = |name: &str, addr: &str| (query(name), vec![says("x", &[addr, V6])]);
    let both = [reply("one.example.org", V4[0]), reply("two.example.org", V4[1])];
    let all = Heard { replies: both.into(), ..Heard::default() };
    let (lock, _) = run(&policy, None, &all, "2026-11-01");
    let wanted = Wanted { only: Some([query(NAME)].into()), ..Wanted::of([&policy]) };
    assert_eq!(wanted.asked(), BTreeSet::from([query(NAME)]));
    let one = Heard { replies: [reply(NAME, V4[2])].into(), ..Heard::default() };
    let (after, codes) = run_for(&wanted, Some(&lock), &one, "2026-11-05");
    assert_eq!((after.day, codes.len()), (day("2026-11-01"), 0));
    let what: Vec<_> = changes(Some(&lock), &after).into_iter().map(|change| change.what).collect();
    let (new, gone) = (V4[2].parse().unwrap(), V4[0].parse().unwrap());
    assert_eq!(what, [What::Missing(gone), What::Added(new)]);
    assert_eq!(after.hosts[&query("two.example.org")], lock.hosts[&query("two.example.org")]);
    // The same answer again is no change at all, whatever the day.
    let (again, _) = run_for(&wanted, Some(&after), &one, "2026-11-06");
    assert_eq!(changes(Some(&after), &again), []);
}

#[test]
fn an_alias_of_a_blocked_name_is_said_when_asked_and_when_read() {
    let profile = "release: \"25.10.2\"\nclients: {nas: [203.0.113.10, '2001:db8:10::10']}\nfeatures: []\n\
        strict: [usage]\nextra:\n  - {id: own, purpose: x, origin: [nas], hosts: [one.example.org], ports: [443/tcp]}\n  \
        - {id: spy, purpose: x, class: usage, origin: [nas], hosts: ['*.spy.example.net'], ports: [443/tcp]}\n";
    let policy = model::policy(&model::catalog(), profile).unwrap();
    let link = |name: &str| Link { host: Host::parse(name).unwrap(), ttl: 60 };
    for (chain, warned) in [("edge.spy.example.net", true), ("spy.example.net", false), ("edge.example.net", false)] {
        let reply = Reply { chain: vec![link(chain)], ..says("x", &[V4[0], V6]) };
        let straight = Reply { chain: vec![link("edge.example.com")], ..says("y", &[V4[0], V6]) };
        // Whichever of several resolvers went that way.
        for replies in [vec![reply.clone()], vec![straight, reply]] {
            let (lock, _) = run(&policy, None, &heard(NAME, &replies), "2026-11-01");
            let mut findings = Findings::default();
            ruleset::build(&policy, Some(&lock), &mut findings);
            assert_eq!(findings.iter().any(|d| d.code.as_str() == "W116"), warned, "{chain}");
        }
    }
}

/// A lock is a file like any other. What no answer may be must not become a rule because somebody wrote it there.
#[test]
fn no_rule_is_made_of_what_an_answer_cannot_be() {
    let profile = "site: home\nrelease: \"25.10.2\"\nclients: {nas: [8.8.8.10, '2606:4700:10::10']}\nfeatures: [updates]\n\
                   servers: {dns: [{host: 203.0.113.53}], ntp: [{host: 203.0.113.123}]}\n";
    let policy = model::policy(&model::catalog(), profile).unwrap();
    let (name, good) = ("update.truenas.com", ["1.1.1.1", "2606:4700::1"]);
    // The clients' own, and of each kind of special use; the last two are in no table.
    let bad = [
        "8.8.8.10",
        "2606:4700:10::10",
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "2002:808:80a::1",
        "4000::1",
        "e000::1",
    ];
    let locked = |addresses: &[&str]| {
        let mut lock = run(&policy, None, &Heard::default(), "2026-11-21").0;
        let seen =
            lock::Seen { first: day("2026-11-21"), missing: None, by: Arc::new(["192.0.2.53:53".to_owned()].into()) };
        let addresses = addresses.iter().map(|addr| (addr.parse::<IpAddr>().unwrap(), seen.clone())).collect();
        lock.hosts.insert(query(name), Entry { addresses, ..Entry::default() });
        lock
    };
    for wrong in bad.map(Some).into_iter().chain([None]) {
        let mut findings = Findings::default();
        let addresses: Vec<&str> = good.into_iter().chain(wrong).collect();
        let rules = ruleset::build(&policy, Some(&locked(&addresses)), &mut findings);
        let led: BTreeSet<String> = rules
            .rules
            .iter()
            .flat_map(|rule| &rule.destinations)
            .filter(|d| d.endpoint.to_string() == name)
            .flat_map(|d| d.addrs.shorts())
            .collect();
        assert_eq!(led, good.map(str::to_owned).into(), "{wrong:?}");
        let said: Vec<&str> =
            findings.iter().map(|d| d.message.as_str()).filter(|text| text.starts_with("the lock leads")).collect();
        assert_eq!(said.len(), usize::from(wrong.is_some()), "{wrong:?}: {said:?}");
        assert!(wrong.is_none_or(|wrong| said[0].contains(&format!("to {wrong},"))), "{said:?}");
    }
}

//! A denial that cannot be made is never left out in silence, and beats every allow in every target.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};

use outgate::day::Day;
use outgate::diagnostic::Findings;
use outgate::host::Query;
use outgate::lock::{Entry, Failed, Lock, Seen};
use outgate::resolve::{Failure, RecordType};
use outgate::ruleset;
use outgate::source::Sources;
use outgate::target;

mod support;
use support::model;

/// A site that blocks usage statistics, with an entry of its own.
fn profile(extra: &str) -> String {
    format!(
        "release: 25.10.2\nclients: {{nas: [192.0.2.10, '2001:db8::10'], admin: [192.0.2.20, '2001:db8::20']}}\n\
         features: [updates]\nstrict: [usage]\nservers: {{dns: [{{host: 9.9.9.9}}]}}\n\
         targets: {{nftables: {{}}, pf: {{interface: em1}}, opnsense: {{version: '26.1', interface: lan}}, squid: {{}}}}\nextra:\n{extra}"
    )
}

fn blocked(host: &str, origin: &str) -> String {
    format!("  - {{id: spy, purpose: spies, class: usage, origin: [{origin}], hosts: ['{host}'], ports: [443/tcp]}}\n")
}

/// A lock in which every name has an address of its own, but for one, which is as told.
fn lock(profile: &str, name: &str, entry: Option<Entry>) -> Lock {
    let policy = model::policy(&model::catalog(), profile).unwrap();
    let day = Day::parse("2026-11-21").unwrap();
    let mut hosts = BTreeMap::new();
    for (query, i) in policy.queries().into_keys().zip(1_u32..) {
        let seen = || Seen { first: day, missing: None, by: Default::default() };
        let v6 = (0x2606_4700_u128 << 96) + u128::from(i);
        let addresses =
            [(std::net::IpAddr::V4((0x0808_0000 + i).into()), seen()), (std::net::IpAddr::V6(v6.into()), seen())];
        hosts.insert(query, Entry { addresses: addresses.into_iter().collect(), ..Entry::default() });
    }
    if let Some(entry) = entry {
        hosts.insert(Query::parse(name).unwrap(), entry);
    }
    Lock { day, note: None, sites: BTreeSet::new(), hosts, ranges: BTreeMap::new() }
}

/// Codes found for each target, and its main file.
fn render(profile: &str, lock: Option<&Lock>) -> BTreeMap<&'static str, (BTreeSet<&'static str>, String)> {
    let policy = model::policy(&model::catalog(), profile).unwrap();
    let targets = target::TARGETS.iter().map(|target| {
        let (mut sources, mut findings) = (Sources::default(), Findings::default());
        let rules = ruleset::build(&policy, lock, &mut findings);
        let files = target::render(target, &rules, &BTreeMap::new(), &mut sources, &mut findings).unwrap_or_default();
        let text = files.iter().map(|file| file.text.as_str()).collect::<String>();
        (target.name, (findings.iter().map(|d| d.code.as_str()).collect(), text))
    });
    targets.collect()
}

fn failed(kinds: &[RecordType], failure: Failure) -> Entry {
    let failed = Failed { failure, since: Day::parse("2026-11-21").unwrap() };
    Entry { failed: kinds.iter().map(|kind| (*kind, failed)).collect(), ..Entry::default() }
}

#[test]
fn a_blocked_name_that_nobody_answers_for_is_an_error_where_nothing_else_blocks_it() {
    let profile = profile(&blocked("spy.example.com", "browser"));
    for failure in [Failure::Timeout, Failure::ServFail, Failure::Refused, Failure::Truncated] {
        let lock = lock(&profile, "spy.example.com", Some(failed(&[RecordType::A, RecordType::Aaaa], failure)));
        let found = render(&profile, Some(&lock));
        assert!(
            ["nftables", "pf", "lists"].iter().all(|target| found[target].0.contains("E029")),
            "{failure}: {found:?}"
        );
    }
    // Half an answer is none: the other family would be open.
    let mut half = lock(&profile, "spy.example.com", None);
    let entry = half.hosts.get_mut(&Query::parse("spy.example.com").unwrap()).unwrap();
    let v4 = entry.addresses.iter().filter(|(addr, _)| addr.is_ipv4());
    entry.addresses = v4.map(|(addr, seen)| (addr, seen.clone())).collect();
    entry.failed = failed(&[RecordType::Aaaa], Failure::Timeout).failed;
    assert!(render(&profile, Some(&half))["nftables"].0.contains("E029"));
}

#[test]
fn a_blocked_name_that_is_nowhere_is_said() {
    // As behind a resolver that blocks the name: asked elsewhere it has addresses.
    let profile = profile(&blocked("spy.example.com", "browser"));
    for entry in [Entry::default(), failed(&[RecordType::A, RecordType::Aaaa], Failure::NxDomain)] {
        let found = render(&profile, Some(&lock(&profile, "spy.example.com", Some(entry))));
        for target in ["nftables", "pf", "lists"] {
            let (codes, text) = &found[target];
            assert!(codes.contains("W103"), "{target}: {codes:?}");
            assert!(text.contains("spy.example.com is to be blocked, and no rule does"), "{target}");
        }
        assert!(found["squid"].1.contains("\nspy.example.com\n"));
    }
}

#[test]
fn a_blocked_service_whose_hosts_are_not_known_is_an_error_everywhere() {
    let profile = profile(&blocked("_https._tcp.spy.example.com", "browser, nas"));
    let timeout = lock(&profile, "_https._tcp.spy.example.com", Some(failed(&[RecordType::Srv], Failure::Timeout)));
    // Files for name servers stand beside such rules and never alone: there it is a loss, and said.
    let said = |target: &str, codes: &BTreeSet<&str>, wanted: &[&str]| {
        let beside = ["dnsmasq", "hosts", "rpz", "unbound"].contains(&target);
        let wanted = if beside { &["W104", "N202", "E024"] } else { wanted };
        assert!(wanted.iter().any(|code| codes.contains(code)), "{target}: {codes:?}");
    };
    for (target, (codes, _)) in render(&profile, Some(&timeout)) {
        said(target, &codes, &["E029"]);
    }
    for (target, (codes, _)) in render(&profile, None) {
        said(target, &codes, &["E029", "E024"]);
    }
}

#[test]
fn a_blocked_wildcard_takes_back_what_is_allowed_below_it_in_every_target() {
    let profile = profile(&blocked("*.truenas.com", "nas"));
    let found = render(&profile, Some(&lock(&profile, "", None)));
    for (target, (codes, text)) in found {
        assert!(codes.contains("W114"), "{target}: {codes:?}");
        let rules: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        let allowed = rules.iter().any(|line| line.contains("accept") && line.contains("update-scale-truenas"))
            || rules.iter().any(|line| line.starts_with("pass") && line.contains("update-scale-truenas"))
            || rules.iter().any(|line| line.contains(";pass;") && line.contains("update-scale-truenas"))
            || rules.contains(&"update.truenas.com")
            || rules.iter().any(|line| line.contains("matchName: \"update.truenas.com\""));
        assert!(!allowed, "{target} lets out what is blocked:\n{text}");
    }
    // A wildcard for clients that nothing else limits cannot be made by address at all.
    let found = render(&self::profile(&blocked("*.spy.example.com", "browser")), None);
    assert!(found["opnsense"].0.contains("E029") && !found["squid"].0.contains("E029"));
}

#[test]
fn names_of_rules_that_every_target_has_are_taken() {
    for id in ["denied", "icmp6", "denied-ipv6", "limited"] {
        let extra = format!("  - {{id: {id}, purpose: p, origin: [nas], hosts: [a.example.com], ports: [443/tcp]}}\n");
        let error = model::policy(&model::catalog(), &profile(&extra)).unwrap_err();
        assert!(error.contains("E015"), "{id}: {error}");
    }
}

#[test]
fn two_aliases_never_become_one() {
    // The second id is the first as it is cut and hashed.
    let extra = "  - {id: verylongname-of-twentyeight1, purpose: p, origin: [nas], hosts: [a.example.com, 5.0.0.0/24], ports: [443/tcp]}\n  \
                 - {id: verylongname-of-twen-600b26, purpose: p, origin: [nas], hosts: [b.example.com, 6.0.0.0/24], ports: [22/tcp]}\n";
    let profile = profile(extra).replace("interface: lan", "interface: lan, resolve: lock");
    let (codes, _) = &render(&profile, Some(&lock(&profile, "", None)))["opnsense"];
    assert!(codes.contains("E027"), "{codes:?}");
}

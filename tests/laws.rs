//! Laws that hold for every input: of the lock, of what an answer may open, of what the rule set decides.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use outgate::addrs::special_use;
use outgate::catalog::Catalog;
use outgate::day::Day;
use outgate::diagnostic::Findings;
use outgate::host::{Host, Query};
use outgate::lock::{self, Entry, Failed, Lock, Seen, Wanted};
use outgate::policy::Action;
use outgate::pool::Sampled;
use outgate::port::Protocol;
use outgate::resolve::{Failure, Heard, RecordType, Reply};
use outgate::ruleset::{self, Verdict};
use outgate::source::Sources;
use outgate::text::Text;
use proptest::prelude::*;

mod support;
use support::model;

static CATALOG: LazyLock<Catalog> = LazyLock::new(model::catalog);

const PROFILE: &str = "
release: 25.10.2
clients: {nas: [192.0.2.10, '2001:db8::10'], admin: [192.0.2.0/24]}
features: [updates, apps]
strict: [usage, error-report]
servers: {dns: [{host: 198.51.100.53}]}
";

fn day(number: u32) -> Day {
    Day::parse(&format!("2026-{:02}-{:02}", 1 + number / 28 % 12, 1 + number % 28)).unwrap()
}

/// Public and special addresses of both families, and the clients' own.
fn addr() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|a| IpAddr::V4(Ipv4Addr::from(a))),
        any::<u128>().prop_map(|a| IpAddr::V6(Ipv6Addr::from(a))),
        any::<u64>().prop_map(|a| IpAddr::V6(Ipv6Addr::from((0x2606_u128 << 112) | u128::from(a)))),
        Just("127.0.0.1".parse().unwrap()),
        Just("192.0.2.10".parse().unwrap()),
        Just("192.168.1.1".parse().unwrap()),
        Just("169.254.169.254".parse().unwrap()),
        Just("::ffff:10.0.0.1".parse().unwrap()),
        Just("fe80::1".parse().unwrap()),
        Just("::".parse().unwrap()),
    ]
}

fn failure() -> impl Strategy<Value = Failure> {
    prop::sample::select(Failure::ALL.to_vec())
}

fn host() -> impl Strategy<Value = Host> {
    "[a-z][a-z0-9]{0,8}\\.[a-z]{2,6}\\.(com|net|org)".prop_map(|text| Host::parse(&text).unwrap())
}

fn servers() -> impl Strategy<Value = BTreeSet<String>> {
    let names = ["192.0.2.53:53", "192.0.2.54:53", "[2001:db8::53]:53"].map(str::to_owned).to_vec();
    prop::collection::btree_set(prop::sample::select(names), 0..3)
}

fn entry() -> impl Strategy<Value = Entry> {
    let seen = (0_u32..300, prop::option::of(0_u32..300), servers()).prop_map(|(a, b, by)| Seen {
        first: day(a),
        missing: b.map(day),
        by: by.into(),
    });
    let failed = (failure(), 0_u32..300).prop_map(|(failure, since)| Failed { failure, since: day(since) });
    let sampled = (2_u32..50, 0_u32..100, 0_u32..400, 0_u32..50, 0_u32..50)
        .prop_map(|(times, addresses, sightings, once, twice)| Sampled { times, addresses, sightings, once, twice });
    (
        (prop::option::of(0_u32..300), servers(), any::<bool>(), prop::option::of(sampled)),
        prop::collection::btree_set((host(), 1_u16..), 0..3),
        prop::collection::vec(host(), 0..3),
        prop::collection::btree_map(addr(), seen, 0..6),
        prop::collection::btree_map(
            prop::sample::select(vec![RecordType::A, RecordType::Aaaa, RecordType::Srv]),
            failed,
            0..3,
        ),
    )
        .prop_map(|((asked, by, authentic, sampled), targets, chain, addresses, failed)| Entry {
            asked: asked.map(day),
            targets,
            through: chain.iter().rev().cloned().collect(),
            chain,
            addresses: addresses.into_iter().collect(),
            failed,
            sampled,
            authentic,
            by: by.into(),
        })
}

/// An address that was answered on a day, by nobody in particular.
fn seen(first: u32, missing: Option<u32>) -> Seen {
    Seen { first: day(first), missing: missing.map(day), by: Default::default() }
}

fn lock_of(number: u32, hosts: BTreeMap<Query, Entry>) -> Lock {
    Lock { day: day(number), note: None, sites: BTreeSet::new(), hosts, ranges: BTreeMap::new() }
}

/// One reply a name.
fn heard(replies: impl IntoIterator<Item = (Query, Reply)>) -> Heard {
    let replies = replies.into_iter().map(|(query, reply)| (query, vec![reply])).collect();
    Heard { replies, ..Heard::default() }
}

fn reply(addresses: impl IntoIterator<Item = IpAddr>) -> Reply {
    Reply { addresses: addresses.into_iter().map(|addr| (addr, 60)).collect(), ..Reply::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_lock_reads_back_as_it_was(
        hosts in prop::collection::btree_map(host().prop_map(Query::Host), entry(), 0..8),
        sites in prop::collection::btree_set("[A-Za-z][A-Za-z0-9 ]{0,12}[a-z]", 0..3),
        number in 0_u32..300,
    ) {
        let sites = sites.iter().map(|site| Text::parse(site).unwrap()).collect();
        let lock = Lock { sites, ..lock_of(number, hosts) };
        let text = lock.print();
        let mut sources = Sources::default();
        let id = sources.add("outgate.lock", text.clone());
        prop_assert_eq!(Lock::parse(&sources, id).unwrap(), lock);
        // One fact a line: no line holds two addresses.
        for line in text.lines() {
            prop_assert!(line.matches("\"seen\"").count() <= 1, "{}", line);
        }
    }

    #[test]
    fn a_lock_that_was_edited_is_refused(at in 0_usize..2000, byte in 32_u8..127) {
        let entry = Entry {
            addresses: [("203.0.113.7".parse().unwrap(), seen(3, None))].into_iter().collect(),
            ..Entry::default()
        };
        let good = lock_of(9, BTreeMap::from([(Query::parse("update.example.com").unwrap(), entry)])).print();
        let mut bytes = good.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let text = String::from_utf8(bytes).unwrap();
        let mut sources = Sources::default();
        let id = sources.add("outgate.lock", text.clone());
        prop_assert_eq!(Lock::parse(&sources, id).is_ok(), text == good, "{}", text);
    }

    #[test]
    fn no_answer_opens_what_no_public_name_can_have(
        answers in prop::collection::vec(prop::collection::btree_set(addr(), 0..8), 30),
        old in prop::collection::vec(prop::collection::btree_set(addr(), 0..4), 30),
        failures in prop::collection::vec(prop::option::of(failure()), 30),
    ) {
        let policy = model::policy(&CATALOG, PROFILE).unwrap();
        let queries: Vec<Query> = policy.queries().into_keys().collect();
        let mut before = lock_of(0, BTreeMap::new());
        let mut now = BTreeMap::new();
        for (i, query) in queries.iter().enumerate() {
            let addresses = old[i % old.len()].iter().map(|&a| (a, seen(0, None))).collect();
            before.hosts.insert(query.clone(), Entry { addresses, ..Entry::default() });
            let failure = failures[i % failures.len()];
            let addresses = if failure.is_some() { BTreeSet::new() } else { answers[i % answers.len()].clone() };
            let failures = failure.map(|f| (RecordType::A, f)).into_iter().collect();
            now.insert(query.clone(), Reply { failures, ..reply(addresses) });
        }
        let mut findings = Findings::default();
        let lock = lock::update(&Wanted::of([&policy]), Some(&before), &heard(now.clone()), day(1), None, &mut findings);
        let clients = policy.client_prefixes();
        for (query, entry) in &lock.hosts {
            for addr in entry.addresses.keys() {
                prop_assert_eq!(special_use(addr), None, "{} got {}", query, addr);
                prop_assert!(!clients.iter().any(|net| net.contains(&addr)), "{} got a client's {}", query, addr);
                let said = now[query].addresses.keys().any(|known| *known == addr) || before.hosts[query].addresses.contains_key(&addr);
                prop_assert!(said, "{} got {} from nowhere", query, addr);
            }
            // What was answered well is in, and what was known yesterday is still in: nothing shrinks in a day.
            let good = |a: &IpAddr| special_use(*a).is_none() && !clients.iter().any(|net| net.contains(a));
            for addr in now[query].addresses.keys().copied().chain(before.hosts[query].addresses.keys()).filter(good) {
                prop_assert!(entry.addresses.contains_key(&addr), "{} lost {}", query, addr);
            }
        }
        // The same holds for a lock from elsewhere: the rule set takes nothing from it that no lock of ours holds.
        let rules = ruleset::build(&policy, Some(&before), &mut findings);
        for rule in &rules.rules {
            let own = rule.callout.slot.is_some();
            for addr in rule.hosts().singles().filter(|_| !own) {
                prop_assert_eq!(special_use(addr), None, "{} opens {}", rule.key, addr);
            }
        }
    }

    #[test]
    fn a_denial_beats_an_allow_and_nothing_is_allowed_by_default(
        addresses in prop::collection::vec(any::<u32>().prop_map(|a| IpAddr::V4(a.into())), 40),
        port in prop::sample::select(vec![443_u16, 80, 53, 22, 1]),
        udp in any::<bool>(),
    ) {
        let policy = model::policy(&CATALOG, PROFILE).unwrap();
        let mut lock = lock_of(1, BTreeMap::new());
        for (i, query) in policy.queries().into_keys().enumerate() {
            // Few addresses for many names: they collide, blocked ones with allowed ones among them.
            let picked: BTreeMap<IpAddr, Seen> = (0..3).map(|k| (addresses[(i * 7 + k) % 40], seen(1, None))).collect();
            let entry = Entry { addresses: picked.into_iter().filter(|(a, _)| special_use(*a).is_none()).collect(), ..Entry::default() };
            lock.hosts.insert(query, entry);
        }
        let rules = ruleset::build(&policy, Some(&lock), &mut Findings::default());
        let nas: IpAddr = "192.0.2.10".parse().unwrap();
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        for server in addresses {
            let meets = |action: Action| rules.rules.iter().any(|rule| {
                rule.action == action
                    && rules.clients_of(rules.bound(rule)).contains(nas)
                    && rule.ports.iter().any(|p| p.contains(protocol, port))
                    && rule.addrs().contains(server)
            });
            match rules.decide(nas, server, protocol, port) {
                Verdict::Allow(rule) => {
                    prop_assert!(meets(Action::Allow) && !meets(Action::Deny));
                    prop_assert_eq!(rule.action, Action::Allow);
                }
                Verdict::Deny(_) => prop_assert!(meets(Action::Deny)),
                Verdict::DefaultDeny => prop_assert!(!meets(Action::Allow) && !meets(Action::Deny)),
                Verdict::NotOurs => prop_assert!(false, "the appliance is ours"),
            }
            // The administrator's machine is denied what is blocked, and nothing else.
            let admin: IpAddr = "192.0.2.20".parse().unwrap();
            prop_assert!(matches!(rules.decide(admin, server, protocol, port), Verdict::Deny(_) | Verdict::NotOurs));
        }
    }
}

#[test]
fn an_address_stays_for_the_keep_days_and_no_longer() {
    let policy = model::policy(&CATALOG, PROFILE).unwrap();
    let query = policy.queries().into_keys().next().unwrap();
    let addr: IpAddr = "8.8.4.4".parse().unwrap();
    let wanted = Wanted::of([&policy]);
    let update = |old: Option<&Lock>, addresses: &[IpAddr], n| {
        let heard = heard([(query.clone(), reply(addresses.iter().copied()))]);
        lock::update(&wanted, old, &heard, day(n), None, &mut Findings::default())
    };
    let first = update(None, &[addr], 0);
    assert_eq!(first.hosts[&query].addresses.get(&addr), Some(&seen(0, None)));
    let gone = update(Some(&first), &["8.8.8.8".parse().unwrap()], 2);
    assert_eq!(gone.hosts[&query].addresses.get(&addr), Some(&seen(0, Some(2))));
    let kept = update(Some(&gone), &["8.8.8.8".parse().unwrap()], 16);
    assert!(kept.hosts[&query].addresses.contains_key(&addr), "14 days are not over");
    let expired = update(Some(&kept), &["8.8.8.8".parse().unwrap()], 17);
    assert!(!expired.hosts[&query].addresses.contains_key(&addr), "14 days are over");
    let back = update(Some(&kept), &[addr], 17);
    assert_eq!(back.hosts[&query].addresses.get(&addr), Some(&seen(0, None)));
}

//! The steps of the pipe at three sizes: hosts of one site, each with ten addresses. `cargo bench`.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use divan::{Bencher, black_box};
use ipnet::{IpNet, Ipv4Net};
use outgate::addrs::AddrSet;
use outgate::catalog::{self, Catalog};
use outgate::day::Day;
use outgate::diagnostic::Findings;
use outgate::diff;
use outgate::lock::{Entry, Lock, Seen};
use outgate::policy::{self, Policy};
use outgate::profile::{self, Profile};
use outgate::ruleset::{self, Ruleset};
use outgate::source::Sources;
use outgate::target;

const SIZES: [u32; 3] = [30, 1_000, 10_000];

fn main() {
    divan::main();
}

fn read_catalog() -> Catalog {
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let files = catalog::embedded::files(&mut sources);
    catalog::read(&sources, &files, &mut findings).unwrap()
}

/// A profile with this many callouts of its own, one host each.
fn profile_text(hosts: u32) -> String {
    let mut text = String::from(
        "release: 25.10.2\nclients: {nas: [192.0.2.10, '2001:db8::10']}\nfeatures: [updates]\n\
         targets: {nftables: {}, pf: {interface: em1}, opnsense: {version: '26.1', interface: lan}, squid: {}}\nextra:\n",
    );
    for i in 0..hosts {
        writeln!(
            text,
            "  - {{id: site-{i}, purpose: host {i}, origin: [nas], hosts: [h{i}.example.org], ports: [443/tcp]}}"
        )
        .unwrap();
    }
    text
}

fn read_profile(catalog: &Catalog, text: &str) -> Profile {
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let known = catalog.known(false);
    let id = sources.add("bench", text);
    profile::read(&sources, id, &known, &mut findings).unwrap()
}

fn decide(catalog: &Catalog, profile: &Profile) -> Policy {
    policy::decide(catalog, profile, &mut Findings::default()).unwrap()
}

fn lock(policy: &Policy) -> Lock {
    let day = Day::parse("2026-11-21").unwrap();
    let mut hosts = BTreeMap::new();
    for (query, i) in policy.queries().into_keys().zip(0_u32..) {
        let v4 = (0..8).map(|k| std::net::IpAddr::V4((0x0800_0000 + i * 16 + k).into()));
        let v6 = (0..2).map(|k| std::net::IpAddr::V6(((0x2606_u128 << 112) + u128::from(i * 16 + k)).into()));
        let addresses =
            v4.chain(v6).map(|addr| (addr, Seen { first: day, missing: None, by: Default::default() })).collect();
        hosts.insert(query, Entry { addresses, ..Entry::default() });
    }
    Lock { day, note: None, sites: BTreeSet::new(), ranges: BTreeMap::new(), hosts }
}

fn rules(hosts: u32) -> Ruleset {
    let catalog = read_catalog();
    let policy = decide(&catalog, &read_profile(&catalog, &profile_text(hosts)));
    ruleset::build(&policy, Some(&lock(&policy)), &mut Findings::default())
}

#[divan::bench]
fn a_read_catalog() -> Catalog {
    read_catalog()
}

#[divan::bench(args = SIZES)]
fn b_read_profile(bencher: Bencher<'_, '_>, hosts: u32) {
    let (catalog, text) = (read_catalog(), profile_text(hosts));
    bencher.bench(|| read_profile(&catalog, black_box(&text)));
}

#[divan::bench(args = SIZES)]
fn c_decide(bencher: Bencher<'_, '_>, hosts: u32) {
    let catalog = read_catalog();
    let profile = read_profile(&catalog, &profile_text(hosts));
    bencher.bench(|| decide(&catalog, black_box(&profile)));
}

#[divan::bench(args = SIZES)]
fn d_read_lock(bencher: Bencher<'_, '_>, hosts: u32) {
    let catalog = read_catalog();
    let text = lock(&decide(&catalog, &read_profile(&catalog, &profile_text(hosts)))).print();
    bencher.bench(|| {
        let mut sources = Sources::default();
        let id = sources.add("bench", black_box(text.clone()));
        Lock::parse(&sources, id).unwrap()
    });
}

#[divan::bench(args = SIZES)]
fn e_build_rules(bencher: Bencher<'_, '_>, hosts: u32) {
    let catalog = read_catalog();
    let policy = decide(&catalog, &read_profile(&catalog, &profile_text(hosts)));
    let lock = lock(&policy);
    bencher.bench(|| ruleset::build(black_box(&policy), Some(&lock), &mut Findings::default()));
}

fn render(bencher: Bencher<'_, '_>, hosts: u32, name: &str) {
    let rules = rules(hosts);
    let target = target::find(name).unwrap();
    bencher.bench(|| {
        let (mut sources, mut findings) = (Sources::default(), Findings::default());
        target::render(target, black_box(&rules), &BTreeMap::new(), &mut sources, &mut findings).unwrap()
    });
}

#[divan::bench(args = SIZES)]
fn f_render_nftables(bencher: Bencher<'_, '_>, hosts: u32) {
    render(bencher, hosts, "nftables");
}

#[divan::bench(args = SIZES)]
fn f_render_pf(bencher: Bencher<'_, '_>, hosts: u32) {
    render(bencher, hosts, "pf");
}

// At 10,000 rules the sequence numbers of OPNsense run out, which is an error and no measurement.
#[divan::bench(args = [30, 1_000])]
fn f_render_opnsense(bencher: Bencher<'_, '_>, hosts: u32) {
    render(bencher, hosts, "opnsense");
}

#[divan::bench(args = SIZES)]
fn f_render_squid(bencher: Bencher<'_, '_>, hosts: u32) {
    render(bencher, hosts, "squid");
}

#[divan::bench(args = SIZES)]
fn f_render_lists(bencher: Bencher<'_, '_>, hosts: u32) {
    render(bencher, hosts, "lists");
}

#[divan::bench(args = SIZES)]
fn f_render_cilium(bencher: Bencher<'_, '_>, hosts: u32) {
    render(bencher, hosts, "cilium");
}

#[divan::bench(args = SIZES)]
fn g_diff_of_one_more_host(bencher: Bencher<'_, '_>, hosts: u32) {
    let (old, new) = (rules(hosts), rules(hosts + 1));
    bencher.bench(|| diff::diff(black_box(&old), black_box(&new)));
}

/// Two rule sets of a million prefixes each: one in a hundred is gone, and one in a hundred is new.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn g_diff_of_a_million_prefixes(bencher: Bencher<'_, '_>) {
    const PREFIXES: u32 = 1_000_000;
    let holding = |gone: u32| {
        let net = |i: u32| Ipv4Net::new((0x1000_0000 + i * 512).into(), 24).unwrap();
        let kept = (0..PREFIXES + PREFIXES / 100).filter(|i| i % 101 != gone);
        let mut rules = rules(1);
        rules.rules.iter_mut().flat_map(|rule| &mut rule.destinations).next().unwrap().addrs =
            kept.map(|i| IpNet::V4(net(i))).collect::<AddrSet>();
        rules
    };
    let (old, new) = (holding(0), holding(1));
    let diff = diff::diff(&old, &new);
    assert_eq!(diff.changes.len(), 2, "one opened, one closed");
    bencher.bench(|| diff::diff(black_box(&old), black_box(&new)));
}

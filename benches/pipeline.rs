//! The steps of the pipe at four sizes: addresses of one site, ten for each host. `cargo bench --bench pipeline`.
//!
//! Each sample has an input that the one before it did not touch, of so many that all sizes take the same memory, and begins
//! when other memory was gone through. What a thousand addresses need would stay in a processor's cache from one sample to
//! the next, what a million need would not, and the two could not be compared: the growth would be that of the caches.
//!
//! Not every step has every size. The catalog has the one it has. pf's default limits hold 100,000 entries in all and
//! OPNsense's sequence of rules ends before 10,000 of them, so both stop where the next size would be an error.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use divan::{Bencher, black_box};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use minijinja::{Environment, Value, context};
use outgate::addrs::{AddrSet, list};
use outgate::catalog::{self, Catalog};
use outgate::day::Day;
use outgate::diagnostic::Findings;
use outgate::diff;
use outgate::explain::{self, Explainer, question};
use outgate::lock::{Entry, Lock, Seen};
use outgate::policy::{self, Policy};
use outgate::profile::{self, Profile};
use outgate::ruleset::{self, Ruleset};
use outgate::source::Sources;
use outgate::target::wall::Wall;
use outgate::target::{self, Target};

/// Addresses, or prefixes. Without optimisation, as `cargo test --benches` builds it, each step is only seen to run.
const SIZES: &[u32] = if cfg!(debug_assertions) { &[1_000] } else { &[1_000, 10_000, 100_000, 1_000_000] };

/// As far as pf's limits go: of 100,000 entries some are the site's own.
const SIZES_OF_PF: &[u32] = if cfg!(debug_assertions) { &[1_000] } else { &[1_000, 10_000, 99_900] };

/// As far as OPNsense's numbers go.
const SIZES_OF_OPNSENSE: &[u32] = if cfg!(debug_assertions) { &[1_000] } else { &[1_000, 10_000] };

/// Inputs of one size, as many as make the largest, and all of the same make.
struct Inputs<T>(Vec<T>);

impl<T> Inputs<T> {
    fn of(size: u32, make: impl Fn() -> T) -> Self {
        let largest = SIZES.last().copied().unwrap_or_default();
        let many = if is_counted() { 1 } else { (largest / size).max(1) };
        Self((0..many).map(|_| make()).collect())
    }

    /// Measures a step, with the input that was not used for the longest.
    fn bench<O>(self, bencher: Bencher<'_, '_>, step: impl Fn(&T) -> O) {
        let mut inputs = self.0.iter().cycle();
        let mut other = vec![0_u8; if is_counted() { 0 } else { OTHER }];
        let input = || {
            // What a small sample has written, the next one would write to the same places, and they would still be there.
            for byte in other.iter_mut().step_by(64) {
                *byte = byte.wrapping_add(1);
            }
            black_box(inputs.next().unwrap())
        };
        bencher.with_inputs(input).bench_local_values(|input| measured(|| step(input)));
    }
}

/// Bytes of other memory that are gone through before each sample: more than a processor's own caches hold.
const OTHER: usize = if cfg!(debug_assertions) { 1 << 12 } else { 16 << 20 };

/// Whether instructions are counted, to which memory is nothing: then one input of each size is enough.
fn is_counted() -> bool {
    std::env::var("OUTGATE_BENCH").is_ok_and(|what| what == "count")
}

/// All that a step does, under a name that a counter of instructions finds.
#[inline(never)]
fn measured<O>(step: impl FnOnce() -> O) -> O {
    step()
}

fn main() {
    // A hundred samples of the largest would take an hour.
    divan::Divan::default().sample_count(30).max_time(Duration::from_secs(1)).config_with_args().main();
}

fn read_catalog() -> Catalog {
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let files = catalog::embedded::files(&mut sources);
    catalog::read(&sources, &files, &mut findings).unwrap()
}

/// A profile with a callout of its own for each host.
fn profile_text(addresses: u32) -> String {
    let mut text = String::from(
        "release: 25.10.2\nclients: {nas: [192.0.2.10, '2001:db8::10']}\nfeatures: [updates]\n\
         targets: {nftables: {}, pf: {interface: em1}, opnsense: {version: '26.1', interface: lan}, squid: {}}\nextra:\n",
    );
    for i in 0..addresses / 10 {
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
    for (query, at) in policy.queries().into_keys().zip(0_u32..) {
        // By its number, so that one more host moves no other's. Those of the catalog have none.
        let name = query.to_string();
        let number = name.strip_prefix('h').and_then(|name| name.split('.').next()?.parse().ok());
        let i: u32 = number.unwrap_or(1_000_000 + at);
        let v4 = (0..8).map(|k| IpAddr::V4((0x0800_0000 + i * 16 + k).into()));
        let v6 = (0..2).map(|k| IpAddr::V6(((0x2606_u128 << 112) + u128::from(i * 16 + k)).into()));
        let addresses =
            v4.chain(v6).map(|addr| (addr, Seen { first: day, missing: None, by: Default::default() })).collect();
        hosts.insert(query, Entry { addresses, ..Entry::default() });
    }
    Lock { day, note: None, sites: BTreeSet::new(), ranges: BTreeMap::new(), hosts }
}

fn rules(addresses: u32) -> Ruleset {
    let catalog = read_catalog();
    let policy = decide(&catalog, &read_profile(&catalog, &profile_text(addresses)));
    ruleset::build(&policy, Some(&lock(&policy)), &mut Findings::default())
}

#[divan::bench]
fn a_read_catalog() -> Catalog {
    read_catalog()
}

#[divan::bench(args = SIZES)]
fn b_read_profile(bencher: Bencher<'_, '_>, addresses: u32) {
    let catalog = read_catalog();
    let texts = Inputs::of(addresses, || profile_text(addresses));
    texts.bench(bencher, |text| read_profile(&catalog, text));
}

#[divan::bench(args = SIZES)]
fn c_decide(bencher: Bencher<'_, '_>, addresses: u32) {
    let catalog = read_catalog();
    let profiles = Inputs::of(addresses, || read_profile(&catalog, &profile_text(addresses)));
    profiles.bench(bencher, |profile| decide(&catalog, profile));
}

#[divan::bench(args = SIZES)]
fn d_read_lock(bencher: Bencher<'_, '_>, addresses: u32) {
    let catalog = read_catalog();
    let text = lock(&decide(&catalog, &read_profile(&catalog, &profile_text(addresses)))).print();
    let texts = Inputs::of(addresses, || {
        let mut sources = Sources::default();
        let id = sources.add("bench", text.clone());
        (sources, id)
    });
    texts.bench(bencher, |(sources, id)| Lock::parse(sources, *id).unwrap());
}

#[divan::bench(args = SIZES)]
fn e_build_rules(bencher: Bencher<'_, '_>, addresses: u32) {
    let catalog = read_catalog();
    let policies = Inputs::of(addresses, || {
        let policy = decide(&catalog, &read_profile(&catalog, &profile_text(addresses)));
        let lock = lock(&policy);
        (policy, lock)
    });
    policies.bench(bencher, |(policy, lock)| ruleset::build(policy, Some(lock), &mut Findings::default()));
}

/// What is rendered, and nothing found that would keep it from being written.
fn rendered(target: &'static Target, rules: &Ruleset) -> usize {
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let files = target::render(target, rules, &BTreeMap::new(), &mut sources, &mut findings).unwrap();
    assert!(!findings.has_errors());
    files.len()
}

fn render(bencher: Bencher<'_, '_>, addresses: u32, name: &str) {
    let rules = Inputs::of(addresses, || rules(addresses));
    let target = target::find(name).unwrap();
    rules.bench(bencher, |rules| rendered(target, rules));
}

#[divan::bench(args = SIZES)]
fn f_render_nftables(bencher: Bencher<'_, '_>, addresses: u32) {
    render(bencher, addresses, "nftables");
}

#[divan::bench(args = SIZES_OF_PF)]
fn f_render_pf(bencher: Bencher<'_, '_>, addresses: u32) {
    render(bencher, addresses, "pf");
}

#[divan::bench(args = SIZES_OF_OPNSENSE)]
fn f_render_opnsense(bencher: Bencher<'_, '_>, addresses: u32) {
    render(bencher, addresses, "opnsense");
}

#[divan::bench(args = SIZES)]
fn f_render_squid(bencher: Bencher<'_, '_>, addresses: u32) {
    render(bencher, addresses, "squid");
}

#[divan::bench(args = SIZES)]
fn f_render_lists(bencher: Bencher<'_, '_>, addresses: u32) {
    render(bencher, addresses, "lists");
}

#[divan::bench(args = SIZES)]
fn f_render_cilium(bencher: Bencher<'_, '_>, addresses: u32) {
    render(bencher, addresses, "cilium");
}

#[divan::bench(args = SIZES)]
fn g_diff_of_one_more_host(bencher: Bencher<'_, '_>, addresses: u32) {
    let pairs = Inputs::of(addresses, || (rules(addresses), rules(addresses + 10)));
    pairs.bench(bencher, |(old, new)| diff::diff(old, new));
}

/// Two rule sets of one rule each: one prefix in a hundred is gone, and one in a hundred is new.
#[divan::bench(args = SIZES)]
fn g_diff_of_prefixes(bencher: Bencher<'_, '_>, prefixes: u32) {
    let pairs = Inputs::of(prefixes, || (holding(two_sets(prefixes).0), holding(two_sets(prefixes).1)));
    let (old, new) = &pairs.0[0];
    assert_eq!(diff::diff(old, new).changes.len(), 2, "one opened, one closed");
    pairs.bench(bencher, |(old, new)| diff::diff(old, new));
}

/// The same of plain lists, as `outgate diff` has it.
#[divan::bench(args = SIZES)]
fn g_diff_of_lists(bencher: Bencher<'_, '_>, prefixes: u32) {
    let pairs = Inputs::of(prefixes, || two_sets(prefixes));
    pairs.bench(bencher, |(old, new)| (old.minus(new), new.minus(old)));
}

/// A rule set of which one rule holds these.
fn holding(addrs: AddrSet) -> Ruleset {
    let mut rules = rules(10);
    rules.rules.iter_mut().flat_map(|rule| &mut rule.destinations).next().unwrap().addrs = addrs;
    rules
}

fn two_sets(prefixes: u32) -> (AddrSet, AddrSet) {
    let without = |gone: u32| {
        let net = |i: u32| IpNet::V4(Ipv4Net::new((0x1000_0000 + i * 512).into(), 24).unwrap());
        (0..prefixes + prefixes / 100).filter(move |i| i % 101 != gone).map(net).collect()
    };
    (without(0), without(1))
}

/// The same sequence on every machine; its high bits are well mixed.
fn mixed(i: u32) -> u32 {
    (i ^ i >> 15).wrapping_mul(0x9E37_79B1).rotate_left(13).wrapping_mul(0x85EB_CA6B)
}

/// Prefixes of many lengths, of which many lie in others; as dense at each size.
fn overlapping_v4(prefixes: u32) -> Vec<IpNet> {
    let net = |i: u32| {
        let length = [20, 22, 24, 24, 24, 24, 24, 26, 28, 32][(mixed(i + 7) >> 8) as usize % 10];
        let addr = 0x0B00_0000 + ((u64::from(mixed(i)) * u64::from(prefixes) * 256) >> 32) as u32;
        IpNet::V4(Ipv4Net::new(addr.into(), length).unwrap().trunc())
    };
    (0..prefixes).map(net).collect()
}

fn overlapping_v6(prefixes: u32) -> Vec<IpNet> {
    let net = |i: u32| {
        let length = [44, 48, 48, 52, 56, 64][(mixed(i + 7) >> 8) as usize % 6];
        let site = u128::from((u64::from(mixed(i)) * u64::from(prefixes) * 2) >> 32);
        let addr = (0x2A00_u128 << 112) + (site << 80) + (u128::from(mixed(i + 3) >> 16) << 64);
        IpNet::V6(Ipv6Net::new(Ipv6Addr::from(addr), length).unwrap().trunc())
    };
    (0..prefixes).map(net).collect()
}

fn text_of(nets: &[IpNet]) -> String {
    nets.iter().fold(String::new(), |mut text, net| {
        writeln!(text, "{net}").unwrap();
        text
    })
}

#[divan::bench(args = SIZES)]
fn h_aggregate_v4(bencher: Bencher<'_, '_>, prefixes: u32) {
    let lists = Inputs::of(prefixes, || overlapping_v4(prefixes));
    lists.bench(bencher, |list| list.iter().copied().collect::<AddrSet>());
}

#[divan::bench(args = SIZES)]
fn h_aggregate_v6(bencher: Bencher<'_, '_>, prefixes: u32) {
    let lists = Inputs::of(prefixes, || overlapping_v6(prefixes));
    lists.bench(bencher, |list| list.iter().copied().collect::<AddrSet>());
}

/// From text to text, as `outgate prefixes` has it.
#[divan::bench(args = SIZES)]
fn h_aggregate_text(bencher: Bencher<'_, '_>, prefixes: u32) {
    let texts = Inputs::of(prefixes, || text_of(&overlapping_v4(prefixes)));
    texts.bench(bencher, |text| list::read(text).unwrap().to_list("\n"));
}

/// So many addresses of which no two are neighbours.
fn scattered(addresses: u32) -> impl Iterator<Item = Ipv4Addr> {
    (0..addresses).map(|i| Ipv4Addr::from(0x1000_0000 + i * 199))
}

/// The files of nftables with one set of so many addresses: `outgate.nft`, and the sets alone once more.
#[divan::bench(args = SIZES)]
fn i_set_by_outgate(bencher: Bencher<'_, '_>, addresses: u32) {
    let rules = Inputs::of(addresses, || holding(scattered(addresses).map(IpAddr::V4).collect()));
    let target = target::find("nftables").unwrap();
    rules.bench(bencher, |rules| rendered(target, rules));
}

/// What a template engine's loop takes for the set alone, in two files as well. Its texts are ready, which ours are not.
#[divan::bench(args = SIZES)]
fn i_set_by_minijinja_loop(bencher: Bencher<'_, '_>, addresses: u32) {
    let mut environment = Environment::new();
    let text = "table inet t {\n\tset a {\n\t\ttype ipv4_addr\n\t\telements = {\n\
                {% for addr in addrs %}\t\t\t{{ addr }}{% if not loop.last %},{% endif %}\n{% endfor %}\t\t}\n\t}\n}\n";
    environment.add_template("set.nft", text).unwrap();
    let lists = Inputs::of(addresses, || {
        Value::from(scattered(addresses).map(|addr| Value::from(addr.to_string())).collect::<Vec<_>>())
    });
    let template = environment.get_template("set.nft").unwrap();
    lists.bench(bencher, |addrs| {
        let file = || template.render(context! { addrs }).unwrap();
        (file(), file())
    });
}

/// A rule set turned around, and the first question asked of it.
#[divan::bench(args = SIZES)]
fn j_explain_first(bencher: Bencher<'_, '_>, addresses: u32) {
    let rules = Inputs::of(addresses, || rules(addresses));
    let sighting = question::read("8.0.0.1:443").unwrap();
    rules.bench(bencher, |rules| {
        let (plain, posts) = (Wall::by_address(rules), explain::posts(rules, &[]));
        let explainer = Explainer::new(rules, None, &plain, &posts);
        explainer.answer(&sighting.question).clients.len()
    });
}

/// Each question after it.
#[divan::bench(args = SIZES)]
fn j_explain_next(bencher: Bencher<'_, '_>, addresses: u32) {
    let rules = rules(addresses);
    let (plain, posts) = (Wall::by_address(&rules), explain::posts(&rules, &[]));
    let explainer = Explainer::new(&rules, None, &plain, &posts);
    let lines: Vec<String> =
        (0..1024).map(|i| format!("{}:443", Ipv4Addr::from(0x0800_0000 + mixed(i) % (addresses / 10 * 16)))).collect();
    let mut lines = lines.iter().cycle();
    let first = question::read("8.0.0.1:443").unwrap();
    assert_eq!(explainer.answer(&first.question).clients.len(), 1);
    // Of one alone it is chance whether it leads anywhere.
    let each = if is_counted() { 1024 } else { 1 };
    bencher.bench_local(|| {
        measured(|| {
            for line in lines.by_ref().take(each) {
                let sighting = question::read(line).unwrap();
                black_box(explainer.answer(&sighting.question).clients.len());
            }
        })
    });
}

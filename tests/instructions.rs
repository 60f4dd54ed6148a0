//! What a run costs, in instructions that callgrind counts: unlike seconds they are the same on a busy machine. Each of a
//! few runs on fixed input may need a tenth more than `instructions.json` has, and no more.
//!
//! Another compiler makes another program, so counts are held to only with the one they were recorded with.
//! `SNAPSHOTS=overwrite cargo test --test instructions` records anew, for the profile it is built with.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use outgate::day::Day;
use outgate::host::{Host, Query};
use outgate::lock::{Entry, Lock, Seen};
use outgate::text::Text;
use serde::{Deserialize, Serialize};

use support::enforcers::{find, require};

/// What is counted for each profile of Cargo's: instructions of a run, by its name.
#[derive(Default, Deserialize, PartialEq, Serialize)]
struct Recorded {
    /// What `rustc --version` says.
    rustc: String,
    profiles: BTreeMap<String, BTreeMap<String, u64>>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Instructions of one run, which must succeed. Its standard input is this file of the folder.
fn count(folder: &Path, args: &[&str], input: Option<&str>) -> u64 {
    let output = Command::new(find("valgrind").unwrap())
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", env!("CARGO_BIN_EXE_outgate")])
        .args(args)
        .current_dir(folder)
        .stdin(input.map_or_else(Stdio::null, |name| File::open(folder.join(name)).unwrap().into()))
        .env("SOURCE_DATE_EPOCH", "1795219200")
        .env("TZ", "UTC")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")).unwrap_or_else(|| panic!("{said}"));
    collected.1.trim().parse().unwrap()
}

/// So many /28 networks in the order of a fixed sequence; from `skip` on, so that two lists share most.
fn networks(count: u32, skip: u32) -> String {
    let mut text = String::new();
    for n in skip..skip + count {
        let [a, b, c, d] = (n.wrapping_mul(2_654_435_761) & 0x0FFF_FFF0 | 0x2000_0000).to_be_bytes();
        writeln!(text, "{a}.{b}.{c}.{d}/28").unwrap();
    }
    text
}

/// Names of the site, and addresses of each.
const NAMES: u32 = 100;
const EACH: u32 = 10;

/// Address `k` of name `i`, scattered; `turn` makes others of one in twenty.
fn address(i: u32, k: u32, turn: u32) -> Ipv4Addr {
    let n = i * EACH + k;
    let n = if n.is_multiple_of(20) { n + turn * 100_000 } else { n };
    (n.wrapping_mul(2_654_435_761) & 0x0FFF_FFFF | 0x2000_0000).into()
}

/// A site of names for four targets, with its lock: below one folder one policy, below another the next.
fn write_site(folder: &Path, turn: u32) {
    let mut profile = String::from(
        "site: counted\nrelease: 25.10.2\nclients: {nas: [192.0.2.10, '2001:db8::10']}\nfeatures: []\n\
         servers: {dns: [{host: 192.0.2.53}], ntp: [{host: 192.0.2.54}]}\n\
         targets: {nftables: {}, pf: {interface: em1}, opnsense: {version: '26.1', interface: lan}, squid: {}}\n\
         leave-out:\n",
    );
    for callout in ["netdata-events", "usage-truenas", "firstboot-truenas"] {
        writeln!(profile, "  - {{callout: {callout}, reason: not counted here}}").unwrap();
    }
    profile.push_str("extra:\n");
    let day = Day::parse("2026-11-21").unwrap();
    let mut hosts = BTreeMap::new();
    for i in 0..NAMES {
        // The second policy lets one host less out, and one more.
        let name = format!("h{}.example.net", if i == 0 { turn * NAMES } else { i });
        writeln!(profile, "  - {{id: host-{i}, purpose: A host., origin: [nas], hosts: [{name}], ports: [443/tcp]}}")
            .unwrap();
        let seen = || Seen { first: day, missing: None, by: Default::default() };
        let addresses = (0..EACH).map(|k| (IpAddr::V4(address(i, k, turn)), seen())).collect();
        hosts.insert(Query::Host(Host::parse(&name).unwrap()), Entry { addresses, ..Entry::default() });
    }
    let sites = BTreeSet::from([Text::parse("counted").unwrap()]);
    let lock = Lock { day, note: None, sites, ranges: BTreeMap::new(), hosts };
    fs::create_dir(folder).unwrap();
    fs::write(folder.join("outgate.yaml"), profile).unwrap();
    fs::write(folder.join("outgate.lock"), lock.print()).unwrap();
}

/// Addresses to ask about, every second of which is let out.
fn questions() -> String {
    let mut text = String::new();
    for i in 0..NAMES {
        for k in 0..EACH {
            writeln!(text, "{}:443", address(i, k, 0)).unwrap();
            writeln!(text, "{}:443", Ipv4Addr::from(0x0B00_0000 + i * 4096 + k)).unwrap();
        }
    }
    text
}

#[test]
fn no_run_needs_a_tenth_more_than_it_did() {
    if !require("valgrind") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), networks(10_000, 0)).unwrap();
    fs::write(folder.path().join("b"), networks(10_000, 100)).unwrap();
    let example = root().join("examples/home-lab");
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    write_site(&old, 0);
    write_site(&new, 1);
    fs::write(old.join("questions"), questions()).unwrap();
    let counts = BTreeMap::from([
        ("generate --check".to_owned(), count(&example, &["generate", "--check", "-q"], None)),
        ("generate, 100 names, 1,000 addresses, four targets".to_owned(), count(&old, &["generate", "-q"], None)),
        ("explain ghcr.io:443".to_owned(), count(&example, &["explain", "ghcr.io:443"], None)),
        ("explain, 2,000 lines".to_owned(), count(&old, &["explain", "--each", "-"], Some("questions"))),
        ("diff, two lists of 10,000 networks".to_owned(), count(folder.path(), &["diff", "a", "b"], None)),
        ("diff, two policies of 100 names".to_owned(), count(folder.path(), &["diff", "old", "new"], None)),
    ]);

    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let version = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into())).arg("--version").output().unwrap();
    let rustc = String::from_utf8(version.stdout).unwrap().trim().to_owned();
    let file = root().join("tests/instructions.json");
    let mut recorded: Recorded =
        serde_json::from_str(&fs::read_to_string(&file).unwrap_or_default()).unwrap_or_default();
    if std::env::var_os("SNAPSHOTS").is_some_and(|how| how == "overwrite") {
        if recorded.rustc != rustc {
            recorded = Recorded { rustc, ..Recorded::default() };
        }
        recorded.profiles.insert(profile.to_owned(), counts);
        fs::write(&file, serde_json::to_string_pretty(&recorded).unwrap() + "\n").unwrap();
        return;
    }
    let known = recorded.profiles.get(profile).filter(|_| recorded.rustc == rustc);
    let Some(known) = known else {
        // Past the runner, which would keep it.
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: instructions: recorded with {}, and this is {rustc}, profile {profile}",
            recorded.rustc
        );
        return;
    };
    assert!(known.keys().eq(counts.keys()), "other runs were recorded");
    let mut faults = String::new();
    for (run, &count) in &counts {
        let before = known[run];
        // In thousandths: no run is so dear that this is too much for the number.
        let share = count * 1000 / before;
        if share > 1100 {
            writeln!(faults, "{run} needs {count} instructions, {share} thousandths of {before}").unwrap();
        }
    }
    assert!(
        faults.is_empty(),
        "\n{faults}Find out why, or record it: SNAPSHOTS=overwrite cargo test --test instructions"
    );
}

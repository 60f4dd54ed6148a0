//! What a run costs, in instructions that callgrind counts: unlike seconds they are the same on a busy machine. Each of a
//! few runs on fixed input may need a tenth more than `instructions.json` has, and no more.
//!
//! Another compiler makes another program, so counts are held to only with the one they were recorded with.
//! `SNAPSHOTS=overwrite cargo test --test instructions` records anew, for the profile it is built with.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Instructions of one run, which must succeed.
fn count(folder: &Path, args: &[&str]) -> u64 {
    let output = Command::new(find("valgrind").unwrap())
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", env!("CARGO_BIN_EXE_outgate")])
        .args(args)
        .current_dir(folder)
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

#[test]
fn no_run_needs_a_tenth_more_than_it_did() {
    if !require("valgrind") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), networks(10_000, 0)).unwrap();
    fs::write(folder.path().join("b"), networks(10_000, 100)).unwrap();
    let example = root().join("examples/home-lab");
    let counts = BTreeMap::from([
        ("generate --check".to_owned(), count(&example, &["generate", "--check", "-q"])),
        ("explain ghcr.io:443".to_owned(), count(&example, &["explain", "ghcr.io:443"])),
        ("diff, two lists of 10,000 networks".to_owned(), count(folder.path(), &["diff", "a", "b"])),
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

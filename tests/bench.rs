//! `scripts/bench` runs, names peers that are missing, and sees a peer that says something else. It measures nothing here.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::enforcers::{find, require};

/// Peers of the cases that are run here, with how each is had.
const PEERS: [(&str, &str); 6] = [
    ("aerleon", "pip install aerleon"),
    ("ferm", "apt install ferm"),
    ("foomuuri", "apt install foomuuri, or its own Makefile"),
    ("grepcidr", "apt install grepcidr"),
    ("iprange", "apt install iprange"),
    ("rs-aggregate", "cargo install rs-aggregate"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The script with nothing on `PATH` but what lies in a folder.
fn bench(path: &Path, args: &[&str]) -> Output {
    Command::new(find("python3").unwrap())
        .arg(root().join("scripts/bench"))
        .args(["--outgate", env!("CARGO_BIN_EXE_outgate")])
        .args(args)
        .env("PATH", path)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A program that does what a shell is told.
fn stub(folder: &Path, name: &str, script: &str) {
    let file = folder.join(name);
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_quick_run_prints_a_table_and_names_what_is_missing() {
    if !require("python3") {
        return;
    }
    let empty = tempfile::tempdir().unwrap();
    let mut args = vec!["--quick", "--rounds", "1"];
    // What needs no root and no other build, and is done in seconds without optimisation.
    for case in ["generate-s", "aggregate", "diff", "diff-locks", "explain", "sites"] {
        args.extend(["--case", case]);
    }
    let output = bench(empty.path(), &args);
    let (said, table) = (text(&output.stderr), text(&output.stdout));
    assert_eq!(output.status.code(), Some(0), "{said}{table}");
    for row in [
        "generate, 30 hosts, 200 addresses | ",
        "merge 10,000 IPv4 prefixes | ",
        "merge 2,000 IPv6 prefixes | ",
        "diff of two lists of 10,000 prefixes, with signs | ",
        "diff of two locks of 100 names, 10,000 addresses | ",
        "explain one address, 1,000 prefixes | ",
        "explain 10,000 addresses, 1,000 prefixes | ",
        "20 sites, four targets, ",
    ] {
        assert!(table.lines().any(|line| line.starts_with(&format!("| {row}"))), "{row}\n{table}");
    }
    for (peer, how) in PEERS {
        // Where it lies in a folder of the system, it takes part.
        let missing = format!("SKIPPED: {peer}: {how}");
        assert!(table.contains(&format!("| {peer}")) || table.contains(&missing) && said.contains(&missing), "{table}");
    }
    assert!(!table.contains("WRONG"), "{table}");
}

#[test]
fn a_peer_that_says_something_else_is_seen() {
    if !require("python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    stub(folder.path(), "rs-aggregate", "echo 192.0.2.0/24");
    stub(folder.path(), "iprange", "echo broken >&2; exit 3");
    let run = |case: &str| bench(folder.path(), &["--quick", "--rounds", "1", "--case", case]);

    let output = run("diff");
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(table.contains("WRONG: diff: ") && table.contains("ended with 3: broken"), "{table}");

    stub(folder.path(), "iprange", "echo 192.0.2.0/24");
    let output = run("aggregate");
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{table}");
    for what in ["IPv4 prefixes, rs-aggregate", "IPv4 prefixes, iprange", "IPv6 prefixes, rs-aggregate"] {
        let line = table.lines().find(|line| line.starts_with("- WRONG: ") && line.contains(what));
        assert!(line.is_some_and(|line| line.contains("differ: ")), "{what}\n{table}");
    }
}

#[test]
fn the_page_has_the_marks_and_every_case() {
    if !require("python3") {
        return;
    }
    let page = fs::read_to_string(root().join("docs/performance.md")).unwrap();
    let places = ["<!-- scripts/bench: begin -->", "<!-- scripts/bench: end -->"].map(|mark| {
        assert_eq!(page.matches(mark).count(), 1, "{mark}");
        page.find(mark).unwrap()
    });
    assert!(places[0] < places[1]);
    let help = Command::new(find("python3").unwrap()).arg(root().join("scripts/bench")).arg("--help").output().unwrap();
    let help = text(&help.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    let cases = help.split("several times: ").nth(1).unwrap().split(" --").next().unwrap();
    for case in cases.split(", ") {
        // The sizes of one case share a row.
        let named = case.strip_prefix("generate").unwrap_or(case);
        assert!(page.contains(&format!("`{named}`")) || page.contains(&format!("`{case}`")), "{case}");
    }
}

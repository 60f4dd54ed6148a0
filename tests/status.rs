//! `outgate status` as it is printed, and the warning of a name that no rule by address holds. No network, no clock:
//! the locks are written here, and the day is set from outside.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output};

use outgate::coverage;
use outgate::day::Day;
use outgate::diagnostic::Findings;
use outgate::host::Query;
use outgate::lock::{Entry, Failed, Lock, Seen};
use outgate::pool::Sampled;
use outgate::resolve::{Failure, RecordType};
use outgate::text::Text;
use serde_json::{Value, json};
use tempfile::TempDir;

mod support;

const PROFILE: &str = "site: home
release: \"25.10.2\"
clients:
  nas: [203.0.113.10, \"2001:db8:10::10\"]
features: []
servers:
  dns: [{host: 203.0.113.53}]
  ntp: [{host: calm.example.org}, {host: old.example.org}, {host: dead.example.org}, {host: cdn.example.org}]
leave-out:
  - {callout: netdata-events, reason: of no interest here}
  - {callout: usage-truenas, reason: of no interest here}
  - {callout: firstboot-truenas, reason: of no interest here}
targets:
  nftables: {}
";

/// 2026-11-24, 12:00 UTC.
const TODAY: &str = "1795521600";

fn day(text: &str) -> Day {
    Day::parse(text).unwrap()
}

fn query(text: &str) -> Query {
    Query::parse(text).unwrap()
}

fn entry(addresses: &[(&str, &str, Option<&str>)]) -> Entry {
    let by = std::sync::Arc::new(BTreeSet::from(["192.0.2.53:53".to_owned()]));
    let seen = |first, missing: &Option<&str>| Seen { first: day(first), missing: missing.map(day), by: by.clone() };
    Entry {
        addresses: addresses
            .iter()
            .map(|(addr, first, missing)| (addr.parse::<IpAddr>().unwrap(), seen(first, missing)))
            .collect(),
        by: by.clone(),
        ..Entry::default()
    }
}

/// The names the profile needs, with nothing to be said of them.
fn calm() -> BTreeMap<Query, Entry> {
    ["calm", "old", "dead", "cdn"]
        .map(|name| (query(&format!("{name}.example.org")), entry(&[("8.8.4.4", "2026-11-01", None)])))
        .into()
}

/// Each kind of trouble under its own name.
fn troubled() -> BTreeMap<Query, Entry> {
    let failed = |since| Failed { failure: Failure::Timeout, since: day(since) };
    let mut hosts = calm();
    hosts.insert(
        query("old.example.org"),
        Entry { asked: Some(day("2026-11-05")), ..entry(&[("8.8.4.1", "2026-10-01", None)]) },
    );
    hosts.insert(
        query("dead.example.org"),
        Entry {
            failed: [(RecordType::A, failed("2026-11-20")), (RecordType::Aaaa, failed("2026-11-20"))].into(),
            ..entry(&[("8.8.4.2", "2026-10-01", None)])
        },
    );
    hosts.insert(
        query("cdn.example.org"),
        Entry {
            sampled: Some(Sampled { times: 10, addresses: 4, sightings: 14, once: 2, twice: 1 }),
            ..entry(&[
                ("8.8.8.1", "2026-11-01", None),
                ("8.8.8.2", "2026-11-21", None),
                ("8.8.8.3", "2026-11-21", None),
                ("8.8.8.4", "2026-11-21", None),
                ("8.8.8.5", "2026-11-01", Some("2026-11-17")),
                ("2001:4860::1", "2026-11-01", Some("2026-11-15")),
            ])
        },
    );
    hosts
}

fn lock(hosts: BTreeMap<Query, Entry>) -> String {
    Lock {
        day: day("2026-11-21"),
        note: None,
        sites: [Text::parse("home").unwrap()].into(),
        hosts,
        ranges: BTreeMap::new(),
    }
    .print()
}

fn folder(lock: Option<&str>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("outgate.yaml"), PROFILE).unwrap();
    if let Some(lock) = lock {
        fs::write(folder.path().join("outgate.lock"), lock).unwrap();
    }
    folder
}

fn outgate(folder: &Path, today: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_outgate"))
        .args(args)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("SOURCE_DATE_EPOCH", today)
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The codes of the findings, in order.
fn codes(stderr: &str) -> Vec<&str> {
    stderr
        .lines()
        .filter_map(|line| {
            let (severity, rest) = line.split_once('[')?;
            let (code, _) = rest.split_once("]: ")?;
            ["error", "warning", "note"].contains(&severity).then_some(code)
        })
        .collect()
}

#[test]
fn a_lock_in_order_is_fine_and_says_so() {
    let folder = folder(Some(&lock(calm())));
    let (code, stdout, stderr) = outgate(folder.path(), TODAY, &["status"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    let expected = "\
outgate.lock: 4 names, 4 addresses, of 2026-11-21, 3 days old (of 30)

name              state  age  of  addresses  kept  covered  what
calm.example.org  fine     3  30          1     0        -
cdn.example.org   fine     3  30          1     0        -
dead.example.org  fine     3  30          1     0        -
old.example.org   fine     3  30          1     0        -

serves: `home`

answered by: 192.0.2.53:53
";
    assert_eq!(stdout, expected);
    assert_eq!(outgate(folder.path(), TODAY, &["status", "--quiet"]), (Some(0), String::new(), String::new()));
}

#[test]
fn trouble_stands_first_and_makes_the_exit_code() {
    let folder = folder(Some(&lock(troubled())));
    let (code, stdout, stderr) = outgate(folder.path(), TODAY, &["status"]);
    assert_eq!(code, Some(1), "{stderr}");
    let expected = "\
outgate.lock: 4 names, 9 addresses, of 2026-11-21, 3 days old (of 30); 1 fails; 1 is covered badly; 1 is aging; 1 rotates; next expiry 2026-11-30

name              state                 age  of  addresses  kept  covered  what
dead.example.org  fails                   4  30          1     0        -  A and AAAA timeout since 2026-11-20; what is known is kept, too old on 2026-12-21
cdn.example.org   low-coverage,rotates    3  30          6     2     91 %  pool of about 7; next leaves 2026-11-30
old.example.org   aging                  19  30          1     0        -
calm.example.org  fine                    3  30          1     0        -

leaves      address       name             missing since
2026-11-30  2001:4860::1  cdn.example.org  2026-11-15
2026-12-02  8.8.8.5       cdn.example.org  2026-11-17

serves: `home`

answered by: 192.0.2.53:53
";
    assert_eq!(stdout, expected);
    assert_eq!(codes(&stderr), ["W101", "W115", "W119"], "{stderr}");
    let (code, stdout, stderr) = outgate(folder.path(), TODAY, &["status", "--quiet"]);
    assert_eq!((code, stdout.as_str(), codes(&stderr)), (Some(1), "", vec!["W101", "W115", "W119"]));
}

#[test]
fn a_program_reads_every_fact() {
    let folder = folder(Some(&lock(troubled())));
    let (code, stdout, _) = outgate(folder.path(), TODAY, &["status", "--format", "json"]);
    assert_eq!(code, Some(1));
    let value: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(value["format_version"], 1);
    assert_eq!(
        (&value["today"], &value["day"], &value["age_days"]),
        (&json!("2026-11-24"), &json!("2026-11-21"), &json!(3))
    );
    let summary = json!({
        "names": 4, "addresses": 9, "kept": 2, "lacking": 0, "next_expiry": "2026-11-30",
        "marks": {"stale": 0, "fails": 1, "low-coverage": 1, "aging": 1, "rotates": 1},
    });
    assert_eq!(value["summary"], summary);
    let failing = json!([
        {"type": "A", "how": "timeout", "since": "2026-11-20", "reaction": "keep"},
        {"type": "AAAA", "how": "timeout", "since": "2026-11-20", "reaction": "keep"},
    ]);
    let dead = &value["names"][0];
    assert_eq!(
        (&dead["name"], &dead["failing"], &dead["stale_on"]),
        (&json!("dead.example.org"), &failing, &json!("2026-12-21"))
    );
    let cdn = &value["names"][1];
    let leaving = json!([
        {"address": "2001:4860::1", "missing": "2026-11-15", "leaves": "2026-11-30"},
        {"address": "8.8.8.5", "missing": "2026-11-17", "leaves": "2026-12-02"},
    ]);
    assert_eq!((&cdn["leaving"], &cdn["answered"], &cdn["kept"]), (&leaving, &json!(4), &json!(2)));
    // Two of four came once, one twice: 2/14 · 18/20 = 0.129 is not covered by the samples. Three of four were new, so
    // that 4/6 of it is missed; and 6/0.914 = 7.
    let coverage = json!({
        "samples": 10, "pool": 7, "covered": 0.914, "new_in_newest": 3, "days_with_new": 1, "missed": 0.086,
    });
    assert_eq!(cdn["coverage"], coverage);
    assert_eq!(value["resolvers"], json!(["192.0.2.53:53"]));
}

#[test]
fn a_page_has_the_same_table() {
    let folder = folder(Some(&lock(troubled())));
    let (_, stdout, _) = outgate(folder.path(), TODAY, &["status", "--format", "markdown"]);
    for line in [
        "| name | state | age | of | addresses | kept | covered | what |",
        "| old.example.org | aging | 19 | 30 | 1 | 0 | - |  |",
        "| 2026-11-30 | 2001:4860::1 | cdn.example.org | 2026-11-15 |",
        "**serves:** `home`",
    ] {
        assert!(stdout.lines().any(|other| other == line), "{line}\n{stdout}");
    }
}

#[test]
fn what_no_rules_can_be_made_of_is_an_error() {
    let good = lock(calm());
    let stale = folder(Some(&good));
    let status = |folder: &TempDir, today: &str| {
        let (code, stdout, stderr) = outgate(folder.path(), today, &["status"]);
        let found: Vec<String> = codes(&stderr).into_iter().map(str::to_owned).collect();
        (code, stdout, found.join(" "))
    };
    // 30 days are over on 2026-12-22, and not before.
    let (code, _, found) = status(&stale, "1797854400");
    assert_eq!((code, found.as_str()), (Some(1), "W115"));
    let (code, stdout, found) = status(&stale, "1797940800");
    assert_eq!((code, found.as_str()), (Some(2), "E032"));
    assert!(stdout.contains("31 days old (of 30); 4 are stale\n"), "{stdout}");

    let (code, stdout, found) = status(&folder(None), TODAY);
    assert_eq!((code, stdout.as_str(), found.as_str()), (Some(2), "", "E024"));
    let (code, stdout, found) = status(&folder(Some(&good.replace("8.8.4.4", "8.8.4.5"))), TODAY);
    assert_eq!((code, stdout.as_str(), found.as_str()), (Some(2), "", "E004"));

    let mut hosts = calm();
    let gone = hosts.remove(&query("old.example.org")).unwrap();
    hosts.insert(query("left.example.org"), gone);
    let (code, stdout, found) = status(&folder(Some(&lock(hosts))), TODAY);
    assert_eq!((code, found.as_str()), (Some(2), "E024"));
    assert!(stdout.contains("; 1 lacking\n"), "{stdout}");
    assert!(stdout.contains("\nlacking: `old.example.org`\n\nnobody asks for: `left.example.org`\n"), "{stdout}");
}

#[test]
fn several_sites_are_held_against_the_lock_they_share() {
    let folder = folder(Some(&lock(calm())));
    let cabin = PROFILE.replace("site: home", "site: cabin").replace("calm.example.org", "snow.example.org");
    fs::write(folder.path().join("cabin.yaml"), cabin).unwrap();
    let (code, stdout, stderr) = outgate(folder.path(), TODAY, &["status", "outgate.yaml", "cabin.yaml"]);
    assert_eq!((code, codes(&stderr)), (Some(2), vec!["E024"]));
    assert!(stdout.contains("\ndoes not serve yet: `cabin`\n"), "{stdout}");
    let (code, stdout, _) = outgate(folder.path(), TODAY, &["status", "-c", "cabin.yaml"]);
    assert_eq!(code, Some(2));
    assert!(stdout.contains("\nof other sites: `calm.example.org`\n"), "{stdout}");
}

#[test]
fn generate_says_which_names_no_rule_by_address_holds() {
    let folder = folder(Some(&lock(troubled())));
    let args = ["generate", "--stdout"];
    let (code, _, stderr) = outgate(folder.path(), TODAY, &args);
    assert_eq!(code, Some(1), "{stderr}");
    let line = "warning[W119]: `cdn.example.org`: about 7 addresses, 6 known: a rule by address will deny about 9 % of new connections";
    assert_eq!(stderr.lines().filter(|other| *other == line).count(), 1, "{stderr}");
    assert!(stderr.contains(
        "take a target that goes by name (squid) for it, or sample more (`outgate resolve --samples 20 --spacing 60`)"
    ));
    // A proxy goes by name: nothing is missed there.
    let by_name = PROFILE.replace("nftables: {}", "squid: {}");
    fs::write(folder.path().join("outgate.yaml"), by_name).unwrap();
    for args in [&args[..], &["status"]] {
        let (_, _, stderr) = outgate(folder.path(), TODAY, args);
        assert!(!stderr.contains("W119"), "{stderr}");
    }
    // Without a network `resolve` looks at the lock that is there.
    fs::write(folder.path().join("outgate.yaml"), PROFILE).unwrap();
    let (code, _, stderr) = outgate(folder.path(), TODAY, &["resolve", "--offline"]);
    assert_eq!((code, codes(&stderr)), (Some(1), vec!["W119"]), "{stderr}");
}

#[test]
fn a_name_that_is_to_be_blocked_is_missed_where_nothing_else_denies_it() {
    let mut hosts = troubled();
    hosts.insert(query("sentry.ixsystems.com"), hosts[&query("cdn.example.org")].clone());
    hosts.insert(query("cdn.example.org"), hosts[&query("calm.example.org")].clone());
    let folder = folder(Some(&lock(hosts)));
    let warned = |profile: &str| {
        fs::write(folder.path().join("outgate.yaml"), profile).unwrap();
        let (_, _, stderr) = outgate(folder.path(), TODAY, &["status"]);
        stderr.lines().filter(|line| line.contains("W119")).map(str::to_owned).collect::<Vec<_>>()
    };
    let strict = format!("{PROFILE}strict: [error-report]\n");
    assert_eq!(warned(&strict), Vec::<String>::new(), "no rule asks for it");
    let admin = strict.replace("features:", "  admin: [203.0.113.20, \"2001:db8:10::20\"]\nfeatures:");
    let line = "warning[W119]: `sentry.ixsystems.com`: about 7 addresses, 6 known: a rule by address that blocks it will let through about 9 % of new connections";
    assert_eq!(warned(&admin), [line]);
}

#[test]
fn a_name_that_was_not_asked_again_is_held_against_nothing() {
    let policy = support::model::policy(&support::model::catalog(), PROFILE).unwrap();
    let lock =
        Lock { day: day("2026-11-21"), note: None, sites: BTreeSet::new(), hosts: troubled(), ranges: BTreeMap::new() };
    let said = |before: Option<&Lock>| {
        let mut findings = Findings::default();
        coverage::judge(&policy, &lock, before, &mut findings);
        findings.iter().map(|finding| finding.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(said(None).len(), 1);
    assert_eq!(said(Some(&lock)), said(None), "a run for other names leaves this one's evidence as it is");
    // A run that asked and found but what was known says that much is known.
    let mut before = lock.clone();
    before.hosts.get_mut(&query("cdn.example.org")).unwrap().sampled = None;
    assert_eq!(said(Some(&before)), Vec::<String>::new());
}

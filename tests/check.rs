//! `outgate check`: every part is seen to pass and to fail, what stops a pull request is said at its line, and no text
//! leaves its place in what forges read. No network, no clock.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use outgate::day::Day;
use outgate::host::Query;
use outgate::lock::{Entry, Lock, Seen};
use outgate::text::Text;
use serde_json::Value;
use tempfile::TempDir;

mod support;

const PROFILE: &str = "site: home
release: \"25.10.2\"
clients:
  nas: [192.0.2.10, \"2001:db8:10::10\"]
features: []
servers:
  dns: [{host: 192.0.2.53}, {host: \"2001:db8:10::53\"}]
  ntp: [{host: 192.0.2.123}, {host: \"2001:db8:10::123\"}]
strict: [usage]
extra:
  - {id: backup, purpose: copies snapshots, origin: [nas], hosts: [backup.example.org], ports: [443/tcp]}
answers: {allow: [documentation], max-age: 30}
targets:
  nftables: {}
  squid: {}
tests:
  - {name: backups work, from: nas, allow: [\"backup.example.org:443\"], deny: [\"usage.truenas.com:443\"]}
";

/// What a pull request adds, on a line of its own.
const MIRROR: &str =
    "  - {id: mirror, purpose: fetches packages, origin: [nas], hosts: [mirror.example.org], ports: [443/tcp]}\n";

fn with_mirror() -> String {
    PROFILE.replace("answers:", &format!("{MIRROR}answers:"))
}

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

fn hosts(more: &[(&str, &[&str])]) -> Hosts {
    let all: [(&str, &[&str]); 3] = [
        ("usage.truenas.com", &["203.0.113.1", "2001:db8:a::1"]),
        ("agent-events.netdata.cloud", &["203.0.113.3", "2001:db8:a::3"]),
        ("backup.example.org", &["198.51.100.1", "2001:db8:b::1"]),
    ];
    let all = all.into_iter().chain(more.iter().copied());
    all.map(|(name, addresses)| (Query::parse(name).unwrap(), entry(addresses))).collect()
}

/// Beside telemetry.
const SHARED: (&str, &[&str]) = ("mirror.example.org", &["203.0.113.1", "2001:db8:b::2"]);
/// Where nothing else is.
const APART: (&str, &[&str]) = ("mirror.example.org", &["198.51.100.2", "2001:db8:b::2"]);

fn write(folder: &Path, profile: &str, hosts: Hosts) {
    let sites = [Text::parse("home").unwrap()].into();
    let lock = Lock { day: Day::parse("2026-11-21").unwrap(), note: None, sites, hosts, ranges: BTreeMap::new() };
    fs::write(folder.join("outgate.yaml"), profile).unwrap();
    fs::write(folder.join("outgate.lock"), lock.print()).unwrap();
}

/// A site with its files as they should be.
fn site(profile: &str, hosts: Hosts) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), profile, hosts);
    let (code, _, stderr) = outgate(folder.path(), &["generate", "-q"]);
    assert!(code != Some(2), "{stderr}");
    folder
}

fn good() -> TempDir {
    site(PROFILE, hosts(&[]))
}

/// The day is that of 2026-11-24.
const TODAY: &str = "1795521600";

fn on(day: &str, folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_outgate"))
        .args(args)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("SOURCE_DATE_EPOCH", day)
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn outgate(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    on(TODAY, folder, args)
}

/// The exit code, and what became of each part.
fn parts_on(day: &str, folder: &Path, more: &[&str]) -> (Option<i32>, BTreeMap<String, String>, Value) {
    let args: Vec<&str> = ["check", "--format", "json"].into_iter().chain(more.iter().copied()).collect();
    let (code, stdout, stderr) = on(day, folder, &args);
    let json: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}{stderr}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let parts = json["parts"].as_array().unwrap().iter().map(|part| (text(&part["part"]), text(&part["outcome"])));
    (code, parts.collect(), json)
}

fn parts(folder: &Path, more: &[&str]) -> (Option<i32>, BTreeMap<String, String>, Value) {
    parts_on(TODAY, folder, more)
}

/// The parts that came to something.
fn at<'a>(parts: &'a BTreeMap<String, String>, outcome: &str) -> Vec<&'a str> {
    parts.iter().filter(|(_, o)| *o == outcome).map(|(name, _)| name.as_str()).collect()
}

fn git(folder: &Path, args: &[&str]) {
    let all = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"];
    let output = Command::new("git").arg("-C").arg(folder).args(all).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn committed(folder: &Path) {
    git(folder, &["init", "-q", "-b", "main"]);
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "-q", "-m", "base"]);
}

/// The line of the profile that holds a text, from 1.
fn line_of(folder: &Path, text: &str) -> usize {
    1 + fs::read_to_string(folder.join("outgate.yaml")).unwrap().lines().position(|line| line.contains(text)).unwrap()
}

#[test]
fn a_good_site_passes_in_every_part() {
    let folder = good();
    let (code, parts, json) = parts(folder.path(), &[]);
    assert_eq!(code, Some(0), "{json:#}");
    assert_eq!(at(&parts, "passes"), ["files", "lock", "profile", "proof", "tests"]);
    assert_eq!(at(&parts, "skipped"), ["changes"]);
    assert_eq!((&json["format_version"], &json["site"], &json["passes"]), (&1.into(), &"home".into(), &true.into()));
    let (code, stdout, stderr) = outgate(folder.path(), &["check", "-q"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let words: Vec<&str> = stdout.lines().map(|line| &line[..4]).collect();
    assert_eq!(words, ["ok  ", "ok  ", "ok  ", "ok  ", "ok  ", "-   "], "{stdout}");
    // Nothing was written.
    assert!(!folder.path().join("out/junit.xml").exists());
}

#[test]
fn the_pull_request_that_adds_a_host_beside_telemetry_is_stopped_at_its_line() {
    let folder = good();
    committed(folder.path());
    write(folder.path(), &with_mirror(), hosts(&[SHARED]));
    let line = line_of(folder.path(), "id: mirror");
    for more in [&[][..], &["--base", "main"]] {
        let args: Vec<&str> = ["check", "--format", "github"].into_iter().chain(more.iter().copied()).collect();
        let (code, stdout, stderr) = outgate(folder.path(), &args);
        assert_eq!((code, stderr.as_str()), (Some(1), ""), "{stdout}");
        let annotation =
            format!("::error file=outgate.yaml,line={line},col=10,title=E023::blocked `usage.truenas.com`");
        let ours: Vec<&str> = stdout.lines().filter(|line| line.starts_with(&annotation)).collect();
        assert_eq!(ours.len(), 1, "{stdout}");
        assert!(ours[0].contains("allowed `mirror.example.org` (mirror) share 203.0.113.1"), "{stdout}");
    }
    let (_, parts, _) = parts(folder.path(), &["--base", "main"]);
    assert_eq!(at(&parts, "fails"), ["files", "proof", "tests"]);
    // The same host where nothing else is passes, once its files are written.
    write(folder.path(), &with_mirror(), hosts(&[APART]));
    let (code, _, stderr) = outgate(folder.path(), &["generate", "-q"]);
    assert!(code != Some(2), "{stderr}");
    let (code, _, json) = self::parts(folder.path(), &["--base", "main"]);
    assert_eq!(code, Some(0), "{json:#}");
    assert!(json["parts"][5]["summary"].as_str().unwrap().contains("change of intent in 1 rule"), "{json:#}");
}

#[test]
fn each_part_can_fail() {
    // A profile that cannot be read leaves nothing to look at.
    let folder = good();
    fs::write(folder.path().join("outgate.yaml"), PROFILE.replace("features", "feature")).unwrap();
    let (code, found, json) = parts(folder.path(), &[]);
    assert_eq!((code, at(&found, "impossible")), (Some(2), vec!["profile"]), "{json:#}");
    assert_eq!(at(&found, "skipped").len(), 5);
    assert_eq!(json["parts"][0]["findings"][0]["code"], "E003");

    // A lock that is too old, one that lacks a name, one that is none, and none at all.
    let folder = good();
    let (code, found, json) = parts_on("1800000000", folder.path(), &[]);
    assert_eq!((code, at(&found, "fails")), (Some(1), vec!["lock"]), "{json:#}");
    // Each name by itself, as a reader of cases sees it.
    let names = |json: &Value, state: &str| -> Vec<String> {
        let items = json["parts"][1]["items"].as_array().unwrap().iter().filter(|item| item["state"] == state);
        items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((names(&json, "fails").len(), names(&json, "holds").len()), (3, 0), "{json:#}");
    write(folder.path(), &with_mirror(), hosts(&[]));
    let (code, found, json) = parts(folder.path(), &[]);
    assert_eq!((code, found["lock"].as_str()), (Some(1), "fails"), "{json:#}");
    assert!(json["parts"][1]["summary"].as_str().unwrap().ends_with("1 missing"), "{json:#}");
    assert_eq!((names(&json, "fails"), names(&json, "holds").len()), (vec!["mirror.example.org".to_owned()], 3));
    fs::write(folder.path().join("outgate.lock"), "{}").unwrap();
    let (code, found, _) = parts(folder.path(), &[]);
    assert_eq!((code, at(&found, "impossible")), (Some(2), vec!["lock"]));
    fs::remove_file(folder.path().join("outgate.lock")).unwrap();
    let (code, found, json) = parts(folder.path(), &[]);
    assert_eq!((code, found["lock"].as_str()), (Some(1), "fails"), "{json:#}");

    // An assertion.
    let bad = PROFILE.replace("allow: [\"backup", "allow: [\"other.example.org:443\", \"backup");
    let folder = site(&bad, hosts(&[]));
    let (code, found, json) = parts(folder.path(), &[]);
    assert_eq!((code, at(&found, "fails")), (Some(1), vec!["tests"]), "{json:#}");
    assert_eq!(json["parts"][2]["findings"][0]["code"], "E050");
    // One that is made always.
    let folder = site(&PROFILE.replace("nftables: {}", "nftables: {mode: audit}"), hosts(&[]));
    let (_, found, json) = parts(folder.path(), &[]);
    assert_eq!(at(&found, "fails"), ["proof", "tests"], "{json:#}");

    // A file that was edited, one that is gone, one that nobody writes any more.
    for (change, target) in [("edit", "nftables"), ("remove", "squid"), ("stale", "pf")] {
        let folder = good();
        let out = folder.path().join("out");
        match change {
            "edit" => {
                let file = out.join("nftables/outgate.nft");
                fs::write(&file, fs::read_to_string(&file).unwrap().replace("198.51.100.1", "198.51.100.9")).unwrap();
            }
            "remove" => fs::remove_file(out.join("squid/outgate.conf")).unwrap(),
            _ => {
                fs::create_dir(out.join("pf")).unwrap();
                fs::write(out.join("pf/outgate.conf"), "pass all\n").unwrap();
            }
        }
        let (code, found, json) = parts(folder.path(), &[]);
        assert_eq!((code, found["files"].as_str()), (Some(1), "fails"), "{change}: {json:#}");
        let items = json["parts"][3]["items"].as_array().unwrap();
        let bad: Vec<&str> =
            items.iter().filter(|i| i["state"] == "fails").map(|i| i["name"].as_str().unwrap()).collect();
        assert_eq!(bad, [target], "{json:#}");
        // What is proven is proven of the files that are there.
        assert_eq!(found["proof"] == "fails", change != "stale", "{change}: {json:#}");
    }

    // A revision that nobody knows.
    let folder = good();
    committed(folder.path());
    let (code, found, _) = parts(folder.path(), &["--base", "nowhere"]);
    assert_eq!((code, at(&found, "impossible")), (Some(2), vec!["changes"]));
}

#[test]
fn a_part_that_fails_keeps_no_other_from_being_looked_at() {
    let bad = with_mirror().replace("allow: [\"backup", "allow: [\"other.example.org:443\", \"backup");
    let folder = site(&bad, hosts(&[APART]));
    let file = folder.path().join("out/nftables/outgate.nft");
    fs::write(&file, "flush ruleset\n").unwrap();
    let (code, found, json) = parts_on("1800000000", folder.path(), &[]);
    assert_eq!((code, at(&found, "fails")), (Some(1), vec!["files", "lock", "proof", "tests"]), "{json:#}");
    assert_eq!(at(&found, "passes"), ["profile"]);
    // Each finding stands in one part.
    let all: Vec<&Value> =
        json["parts"].as_array().unwrap().iter().flat_map(|p| p["findings"].as_array().unwrap()).collect();
    for (i, finding) in all.iter().enumerate() {
        assert!(!all[..i].contains(finding), "{finding:#} is said twice");
    }
}

#[test]
fn the_level_decides_what_is_bad() {
    // A warning: nothing by itself.
    let folder = site(PROFILE, hosts(&[]));
    for (level, code) in [(None, 0), (Some("error"), 0), (Some("warning"), 1), (Some("note"), 1)] {
        let more: Vec<&str> = level.into_iter().flat_map(|level| ["--fail-on", level]).collect();
        // Past half of the age it may have.
        let (got, found, json) = parts_on("1797000000", folder.path(), &more);
        assert_eq!(got, Some(code), "{level:?}: {json:#}");
        assert_eq!(found["lock"] == "fails", code == 1, "{level:?}");
    }
    // A risk of a change, likewise.
    let folder = good();
    committed(folder.path());
    let wild = with_mirror().replace("mirror.example.org", "\"*.mirror.example.org\"");
    write(folder.path(), &wild, hosts(&[]));
    let _ = outgate(folder.path(), &["generate", "-q"]);
    let (code, found, json) = parts(folder.path(), &["--base", "main"]);
    assert_eq!((code, found["changes"].as_str()), (Some(0), "passes"), "{json:#}");
    let (code, found, json) = parts(folder.path(), &["--base", "main", "--fail-on", "warning"]);
    assert_eq!((code, found["changes"].as_str()), (Some(1), "fails"), "{json:#}");
    assert!(
        json["parts"][5]["findings"].as_array().unwrap().iter().any(|finding| finding["code"] == "W203"),
        "{json:#}"
    );
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let folder = good();
    for args in [
        &["check", "--release", "25.10.2", "--nas", "192.0.2.10"][..],
        &["check", "--lock", "outgate.lock", "--base", "main"],
        &["check", "--fail-on", "everything"],
    ] {
        let (code, stdout, stderr) = outgate(folder.path(), args);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    }
}

// JUnit, read by a reader of XML.

/// A document as Python's own reader has it: suites with their counts, cases with what became of them.
fn junit(xml: &str) -> Value {
    const READER: &str = "import json, sys, xml.etree.ElementTree as E
root = E.fromstring(sys.stdin.buffer.read())
assert root.tag == 'testsuites', root.tag
def case(c):
    inner = list(c)
    assert len(inner) <= 1, 'a case has one outcome'
    one = inner[0] if inner else None
    return {'group': c.get('classname'), 'name': c.get('name'), 'file': c.get('file'),
            'state': one.tag if one is not None else 'passed',
            'message': one.get('message') if one is not None else None,
            'type': one.get('type') if one is not None else None,
            'text': one.text if one is not None else None}
suites = []
for s in root:
    assert s.tag == 'testsuite', s.tag
    suites.append({'name': s.get('name'), 'tests': s.get('tests'), 'failures': s.get('failures'),
                   'errors': s.get('errors'), 'skipped': s.get('skipped'), 'cases': [case(c) for c in s]})
json.dump({'name': root.get('name'), 'tests': root.get('tests'), 'suites': suites}, sys.stdout)";
    let python = support::enforcers::find("python3").expect("python3");
    let mut child = Command::new(python)
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), xml.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{xml}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn cases(document: &Value) -> Vec<&Value> {
    document["suites"].as_array().unwrap().iter().flat_map(|suite| suite["cases"].as_array().unwrap()).collect()
}

#[test]
fn junit_is_what_its_readers_take() {
    let bad = with_mirror().replace("allow: [\"backup", "allow: [\"other.example.org:443\", \"backup");
    let folder = site(&bad, hosts(&[SHARED]));
    let (code, xml, stderr) = outgate(folder.path(), &["check", "--format", "junit"]);
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
    assert!(xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"home\""), "{xml}");
    let document = junit(&xml);
    let suites = document["suites"].as_array().unwrap();
    let names: Vec<&str> = suites.iter().map(|suite| suite["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["profile", "lock", "tests", "files", "proof", "changes"].map(|name| format!("outgate {name}")));
    // The counts are those of the cases, and no two cases are one.
    for suite in suites {
        let cases = suite["cases"].as_array().unwrap();
        let count = |state: &str| cases.iter().filter(|case| case["state"] == state).count().to_string();
        assert!(!cases.is_empty(), "{suite:#}");
        assert_eq!(suite["tests"], cases.len().to_string());
        assert_eq!(
            (&suite["failures"], &suite["errors"], &suite["skipped"]),
            (&count("failure").into(), &count("error").into(), &count("skipped").into())
        );
        let mut seen = std::collections::BTreeSet::new();
        assert!(
            cases.iter().all(|case| seen.insert((case["group"].to_string(), case["name"].to_string()))),
            "{suite:#}"
        );
    }
    assert_eq!(document["tests"], cases(&document).len().to_string());
    // A case a host, an assertion, a target, each with its place.
    let find = |name: &str| {
        cases(&document)
            .into_iter()
            .find(|case| case["name"] == name)
            .unwrap_or_else(|| panic!("{name}: {document:#}"))
            .clone()
    };
    assert_eq!(find("backup.example.org")["state"], "passed");
    let flow = find("nas must reach other.example.org:443/tcp");
    assert_eq!(
        (&flow["state"], &flow["group"], &flow["file"]),
        (&"failure".into(), &"outgate.tests.backups work".into(), &"outgate.yaml".into())
    );
    let line = line_of(folder.path(), "other.example.org");
    assert!(flow["text"].as_str().unwrap().starts_with(&format!("outgate.yaml:{line}\nnftables: ")), "{flow:#}");
    assert_eq!(find("nas must not reach usage.truenas.com:443/tcp")["state"], "passed");
    assert_eq!((&find("nftables")["state"], &find("squid")["state"]), (&"failure".into(), &"failure".into()));
    assert_eq!(find("changes")["state"], "skipped");
    let shared = cases(&document).into_iter().find(|case| case["type"] == "E023").unwrap();
    let line = line_of(folder.path(), "id: mirror");
    assert!(shared["text"].as_str().unwrap().starts_with(&format!("outgate.yaml:{line}\n")), "{shared:#}");
    // What could not be looked at is an error.
    fs::write(folder.path().join("outgate.yaml"), "site: [").unwrap();
    let (code, xml, _) = outgate(folder.path(), &["check", "--format", "junit"]);
    let document = junit(&xml);
    assert_eq!(
        (code, &document["suites"][0]["errors"], &document["suites"][1]["skipped"]),
        (Some(2), &"1".into(), &"1".into()),
        "{xml}"
    );
    // The assertions alone.
    fs::write(folder.path().join("outgate.yaml"), &bad).unwrap();
    let (code, xml, _) = outgate(folder.path(), &["test", "--format", "junit"]);
    let document = junit(&xml);
    assert_eq!((code, document["suites"].as_array().unwrap().len()), (Some(1), 1), "{xml}");
    assert!(cases(&document).iter().any(|case| case["state"] == "failure"));
}

#[test]
fn sarif_has_the_findings_at_their_lines() {
    let folder = good();
    write(folder.path(), &with_mirror(), hosts(&[SHARED]));
    let (code, stdout, stderr) = outgate(folder.path(), &["check", "--format", "sarif"]);
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
    let sarif: Value = serde_json::from_str(&stdout).unwrap();
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let shared = results.iter().find(|result| result["ruleId"] == "E023").unwrap();
    assert_eq!(shared["locations"][0]["physicalLocation"]["region"]["startLine"], line_of(folder.path(), "id: mirror"));
}

/// Texts that a profile may hold and that mean something to whoever reads what is printed.
const TEXTS: [&str; 8] = [
    "::error::boom",
    "::error file=a,line=1::boom",
    "a%0A::warning::b",
    "]]> <b>&amp; </failure>",
    "##[error]boom",
    "<!-- --><?xml?>",
    "%0D%0A",
    "&#0; &lol; <![CDATA[",
];

/// What only a path or a file that is no profile can hold.
const WORSE: [&str; 5] = ["a\nb", "\u{1b}[31mred\u{1b}[0m", "a\"b", "x\u{202e}y", "\u{1}\u{7f}"];

/// No line is a command, and no character is one that a terminal obeys.
fn assert_inert(what: &str, text: &str, github: bool) {
    for line in text.lines() {
        let ours = github && ["::error ", "::warning ", "::notice "].iter().any(|command| line.starts_with(command));
        assert!(ours || !line.trim_start().starts_with("::"), "{what}: {line}");
        if github && !ours {
            assert!(!line.contains("##["), "{what}: {line}");
        }
        assert!(!line.chars().any(|c| c.is_control()), "{what}: {line:?}");
    }
}

#[test]
fn no_text_leaves_its_place() {
    for text in TEXTS {
        let profile = with_mirror()
            .replace("site: home", &format!("site: \"{text}\""))
            .replace("name: backups work", &format!("name: \"{text}\""))
            .replace("purpose: fetches packages", &format!("title: \"{text}\", purpose: \"{text}\""))
            .replace("allow: [\"backup", "allow: [\"other.example.org:443\", \"backup");
        let folder = site(&profile, hosts(&[SHARED]));
        // JSON and SARIF are written by serde_json.
        for format in ["text", "github", "junit"] {
            let (code, stdout, stderr) = outgate(folder.path(), &["check", "--format", format]);
            assert_eq!(code, Some(1), "{text} {format}: {stdout}{stderr}");
            assert_inert(&format!("{text} {format}"), &stdout, format == "github");
            if format == "junit" {
                let document = junit(&stdout);
                assert_eq!(document["suites"].as_array().unwrap().len(), 6, "{stdout}");
                // It reads as it was written.
                assert_eq!(document["name"], text);
                let group = format!("outgate.tests.{text}");
                assert!(cases(&document).iter().any(|case| case["group"] == group), "{text}: {document:#}");
            }
        }
    }
    for text in WORSE {
        // As a value of the profile, where it is refused, and as the name of the folder.
        let escaped: String = text.chars().map(|c| format!("\\U{:08X}", u32::from(c))).collect();
        let profile = PROFILE.replace("name: backups work", &format!("name: \"{escaped}\""));
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join(text);
        fs::create_dir(&below).unwrap();
        let path = format!("{text}/outgate.yaml");
        for (profile, expected, formats) in [(profile.as_str(), 2, &["github"][..]), (PROFILE, 1, &["github", "junit"])]
        {
            write(&below, profile, hosts(&[]));
            for &format in formats {
                let (code, stdout, stderr) = outgate(folder.path(), &["check", "--format", format, "-c", &path]);
                assert_eq!(code, Some(expected), "{text:?} {format}: {stdout}{stderr}");
                assert_inert(&format!("{text:?} {format}"), &stdout, format == "github");
                if format == "junit" {
                    assert_eq!(junit(&stdout)["suites"].as_array().unwrap().len(), 6, "{stdout}");
                }
            }
        }
    }
}

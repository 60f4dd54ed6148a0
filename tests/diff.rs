//! Differences by meaning: laws over random pairs of sites, what is churn and what is intent, and what a pull request is
//! shown. No network; git is asked about repositories the test makes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use outgate::addrs::AddrSet;
use outgate::catalog::Catalog;
use outgate::day::Day;
use outgate::diagnostic::Findings;
use outgate::diff::{self, Cause, Change, Turn, What};
use outgate::host::Query;
use outgate::lock::{Entry, Lock, Seen};
use outgate::port::Protocol;
use outgate::ruleset::{self, Ruleset, Verdict};
use outgate::text::Text;
use proptest::prelude::*;
use serde_json::Value;

mod support;
use support::model;

static CATALOG: LazyLock<Catalog> = LazyLock::new(model::catalog);

const NAMES: [&str; 5] = ["a.example.org", "b.example.org", "c.example.net", "d.example.net", "e.example.com"];
const POOL: [&str; 8] = [
    "203.0.113.1",
    "203.0.113.2",
    "203.0.113.3",
    "203.0.113.70",
    "2001:db8:a::1",
    "2001:db8:a::2",
    "2001:db8:a::3",
    "2001:db8:b::1",
];
const NETS: [&str; 3] = ["203.0.113.64/29", "203.0.113.0/30", "2001:db8:a::/64"];
const PORTS: [&str; 5] = ["443/tcp", "80/tcp", "22/tcp", "440-450/tcp", "443/udp"];
const CLIENTS: [&str; 5] = ["192.0.2.10", "192.0.2.70", "192.0.2.20", "2001:db8:10::10", "2001:db8:10::20"];

/// Hosts, prefixes, ports, origins, and whether it is telemetry, of one callout.
type Extra = (BTreeSet<usize>, BTreeSet<usize>, BTreeSet<usize>, usize, bool);

/// What a site says, in numbers.
#[derive(Clone, Debug)]
struct Site {
    extras: Vec<Extra>,
    strict: bool,
    jails: bool,
    answers: Vec<BTreeSet<usize>>,
}

fn some(of: usize, from: usize, to: usize) -> impl Strategy<Value = BTreeSet<usize>> {
    prop::collection::btree_set(0..of, from..=to)
}

fn site() -> impl Strategy<Value = Site> {
    let extra = (some(NAMES.len(), 1, 2), some(NETS.len(), 0, 1), some(PORTS.len(), 1, 2), 0..4_usize, any::<bool>());
    let answers = prop::collection::vec(some(POOL.len(), 0, 3), NAMES.len());
    (prop::collection::vec(extra, 1..4), any::<bool>(), any::<bool>(), answers)
        .prop_map(|(extras, strict, jails, answers)| Site { extras, strict, jails, answers })
}

impl Site {
    fn profile(&self) -> String {
        let mut text = "release: '25.10.2'\nclients:\n  nas: [192.0.2.10, '2001:db8:10::10']\n  admin: [192.0.2.20, '2001:db8:10::20']\n".to_owned();
        if self.jails {
            text += "  jails: [192.0.2.64/28, '2001:db8:10:1::/64']\n";
        }
        text += "features: []\nservers: {dns: [{host: 192.0.2.53}]}\nanswers: {allow: [documentation]}\n";
        if self.strict {
            text += "strict: [usage]\n";
        }
        text += "extra:\n";
        for (i, (names, nets, ports, origin, usage)) in self.extras.iter().enumerate() {
            let pick =
                |from: &[&str], of: &BTreeSet<usize>| of.iter().map(|&i| format!("'{}'", from[i])).collect::<Vec<_>>();
            let hosts = [pick(&NAMES, names), pick(&NETS, nets)].concat().join(", ");
            let origin = ["[nas]", "[jail]", "[browser]", "[nas, jail]"][*origin];
            let class = if *usage { "usage" } else { "function" };
            text += &format!(
                "  - {{id: own-{i}, purpose: is tried, class: {class}, origin: {origin}, hosts: [{hosts}], ports: [{}]}}\n",
                pick(&PORTS, ports).join(", ")
            );
        }
        text
    }

    fn ruleset(&self) -> Ruleset {
        let policy = model::policy(&CATALOG, &self.profile()).unwrap();
        let mut hosts: BTreeMap<Query, Entry> =
            policy.queries().into_keys().map(|query| (query, Entry::default())).collect();
        for (name, answers) in NAMES.iter().zip(&self.answers) {
            hosts.insert(Query::parse(name).unwrap(), entry(answers.iter().map(|&i| POOL[i])));
        }
        let lock = lock(hosts);
        ruleset::build(&policy, Some(&lock), &mut Findings::default())
    }
}

fn entry<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Entry {
    let day = Day::parse("2026-11-01").unwrap();
    let seen = Seen { first: day, missing: None, by: std::sync::Arc::new(["192.0.2.53:53".to_owned()].into()) };
    let addresses = addresses.into_iter().map(|addr| (addr.parse::<IpAddr>().unwrap(), seen.clone())).collect();
    Entry { addresses, by: seen.by.clone(), ..Entry::default() }
}

fn lock(hosts: BTreeMap<Query, Entry>) -> Lock {
    let sites = [Text::parse("home").unwrap()].into();
    Lock { day: Day::parse("2026-11-21").unwrap(), note: None, sites, hosts, ranges: BTreeMap::new() }
}

/// Every address that any rule could name, and neighbours of them.
fn addresses() -> Vec<IpAddr> {
    let more = ["203.0.113.0", "203.0.113.64", "203.0.113.71", "203.0.113.72", "2001:db8:a:0:ffff::", "2001:db8:a:1::"];
    POOL.iter().chain(&more).map(|addr| addr.parse().unwrap()).collect()
}

/// What is open by address: to clients that are limited what is allowed, to others what is not denied.
fn open(rules: &Ruleset, client: IpAddr, server: IpAddr, protocol: Protocol, port: u16) -> bool {
    let limited = rules.limited().contains(client);
    match rules.decide(client, server, protocol, port) {
        Verdict::Allow(_) => true,
        Verdict::Deny(_) | Verdict::DefaultDeny => false,
        Verdict::NotOurs => !limited,
    }
}

fn covers(change: &Change, client: IpAddr, server: IpAddr, protocol: Protocol, port: u16) -> bool {
    let What::Addresses(addrs) = &change.what else { return false };
    change.clients.contains(client) && change.ports.iter().any(|p| p.contains(protocol, port)) && addrs.contains(server)
}

fn key(change: &Change) -> String {
    format!("{change:?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn nothing_differs_from_itself(site in site()) {
        let rules = site.ruleset();
        prop_assert!(diff::diff(&rules, &rules).is_empty());
    }

    #[test]
    fn what_is_said_of_the_old_gives_the_new(old in site(), new in site()) {
        let (old, new) = (old.ruleset(), new.ruleset());
        let diff = diff::diff(&old, &new);
        let freed: AddrSet = diff.clients.iter().map(|change| &change.clients).collect();
        for client in CLIENTS.map(|client| client.parse::<IpAddr>().unwrap()) {
            // Who is limited at one side alone is told by that, and what rules let out to him.
            let told = freed.contains(client);
            for server in addresses() {
                for (protocol, port) in [(Protocol::Tcp, 443), (Protocol::Tcp, 80), (Protocol::Tcp, 22), (Protocol::Tcp, 445), (Protocol::Udp, 443), (Protocol::Udp, 53), (Protocol::Tcp, 9)] {
                    let said = |turn: Turn| diff.changes.iter().any(|c| c.turn == turn && covers(c, client, server, protocol, port));
                    let (was, is) = (open(&old, client, server, protocol, port), open(&new, client, server, protocol, port));
                    if told {
                        continue;
                    }
                    prop_assert_eq!((!was && is, was && !is), (said(Turn::Opened), said(Turn::Closed)), "{} -> {} {}/{}: {:?}", client, server, port, protocol, diff);
                }
            }
        }
    }

    #[test]
    fn seen_from_the_other_side_it_is_the_same(old in site(), new in site()) {
        let (old, new) = (old.ruleset(), new.ruleset());
        let there: BTreeSet<String> = diff::diff(&old, &new).changes.iter().map(|change| key(&change.mirrored())).collect();
        let back: BTreeSet<String> = diff::diff(&new, &old).changes.iter().map(key).collect();
        prop_assert_eq!(there, back);
    }

    #[test]
    fn other_answers_are_churn_and_another_profile_is_intent(one in site(), other in site()) {
        let moved = Site { answers: other.answers.clone(), ..one.clone() };
        let churn = diff::diff(&one.ruleset(), &moved.ruleset());
        prop_assert!(churn.changes.iter().all(|change| change.cause == Cause::Churn), "{:?}", churn);
        let edited = Site { answers: one.answers.clone(), ..other };
        let intent = diff::diff(&one.ruleset(), &edited.ruleset());
        prop_assert!(intent.changes.iter().all(|change| change.cause == Cause::Intent), "{:?}", intent);
    }
}

#[test]
fn the_pairs_that_are_tried_differ_in_every_way() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..200 {
        let mut draw = || site().new_tree(&mut runner).unwrap().current();
        let (one, other) = (draw(), draw());
        let moved = Site { answers: other.answers.clone(), ..one.clone() };
        let diff = diff::diff(&one.ruleset(), &other.ruleset());
        for change in diff.changes.iter().chain(&diff::diff(&one.ruleset(), &moved.ruleset()).changes) {
            let space = if matches!(change.what, What::Names(_)) { "names" } else { "addresses" };
            let key = format!("{} {} {space} {}", change.turn.as_str(), change.cause.as_str(), change.denial);
            *seen.entry(key).or_default() += 1;
        }
        *seen.entry("clients".to_owned()).or_default() += diff.clients.len();
    }
    for kind in [
        "opened intent addresses false",
        "closed intent addresses true",
        "opened churn addresses false",
        "closed churn addresses true",
        "opened intent names false",
        "closed intent names true",
        "clients",
    ] {
        assert!(seen.get(kind).is_some_and(|&count| count >= 10), "{kind}: {seen:#?}");
    }
}

// The command.

#[test]
fn a_name_that_another_rule_has_is_no_change() {
    let rules = |extras: &[(&str, &str)]| {
        let mut text =
            "release: '25.10.2'\nclients: {nas: [192.0.2.10, '2001:db8:10::10']}\nfeatures: []\nextra:\n".to_owned();
        for (id, host) in extras {
            text += &format!("  - {{id: {id}, purpose: p, origin: [nas], hosts: ['{host}'], ports: [443/tcp]}}\n");
        }
        ruleset::build(&model::policy(&CATALOG, &text).unwrap(), None, &mut Findings::default())
    };
    let old = rules(&[("a", "x.example.org"), ("b", "*.example.net")]);
    // Moved to another rule; behind a wildcard that was there; and one that is really new.
    let new = rules(&[("b", "*.example.net"), ("c", "x.example.org"), ("d", "y.example.net"), ("e", "z.example.com")]);
    let said = |old: &Ruleset, new: &Ruleset| {
        let names = diff::diff(old, new).changes.into_iter().filter_map(|change| match change.what {
            What::Names(names) => Some((change.turn, names.iter().map(ToString::to_string).collect::<Vec<_>>())),
            What::Addresses(_) => None,
        });
        names.collect::<Vec<_>>()
    };
    assert_eq!(said(&old, &new), [(Turn::Opened, vec!["z.example.com".to_owned()])]);
    assert_eq!(said(&new, &old), [(Turn::Closed, vec!["z.example.com".to_owned()])]);
}

fn outgate(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_outgate"))
        .args(args)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("SOURCE_DATE_EPOCH", "1795521600")
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn git(folder: &Path, args: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The example in a repository of its own, committed.
fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/home-lab");
    for file in ["outgate.yaml", "outgate.lock"] {
        fs::copy(example.join(file), folder.path().join(file)).unwrap();
    }
    fs::create_dir(folder.path().join("ranges")).unwrap();
    fs::copy(example.join("ranges/backup.json"), folder.path().join("ranges/backup.json")).unwrap();
    git(folder.path(), &["init", "-q"]);
    git(folder.path(), &["add", "-A"]);
    git(folder.path(), &["commit", "-q", "-m", "as it was"]);
    folder
}

fn edit(folder: &Path, from: &str, to: &str) {
    let path = folder.join("outgate.yaml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replace(from, to)).unwrap();
}

fn json(folder: &Path, args: &[&str]) -> Value {
    let args: Vec<&str> = ["diff", "--format", "json"].into_iter().chain(args.iter().copied()).collect();
    let (_, stdout, stderr) = outgate(folder, &args);
    serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}{stderr}"))
}

fn codes(document: &Value) -> BTreeSet<String> {
    document["findings"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_pull_request_is_told_apart_from_what_was_there() {
    let folder = repository();
    let (code, stdout, stderr) = outgate(folder.path(), &["diff", "--exit-code"]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "HEAD -> outgate.yaml: nothing changed\n", ""));
    edit(folder.path(), "hosts: [backup.example.org,", "hosts: [backup.example.org, \"*.files.example.org\",");
    edit(folder.path(), "ports: [22/tcp]", "ports: [22/tcp, 1024-65535/tcp]");
    edit(folder.path(), "strict: [usage, error-report, operational, suspected]", "strict: [usage, error-report]");
    let document = json(folder.path(), &["--base", "main"]);
    let changes = document["changes"].as_array().unwrap();
    assert!(!changes.is_empty() && changes.iter().all(|change| change["cause"] == "intent"), "{document:#}");
    assert_eq!(codes(&document), ["W201", "W202", "W203", "W205"].map(str::to_owned).into());
    let at = &document["findings"].as_array().unwrap().iter().find(|f| f["code"] == "W203").unwrap()["places"][0];
    assert_eq!(at["file"], "outgate.yaml");
    assert_eq!(outgate(folder.path(), &["diff", "--exit-code"]).0, Some(1));
    assert_eq!(outgate(folder.path(), &["diff", "--fail-on", "warning"]).0, Some(1));
    assert_eq!(outgate(folder.path(), &["diff", "--fail-on", "error"]).0, Some(0));
    assert_eq!(outgate(folder.path(), &["diff", "no-such-revision"]).0, Some(2));
    assert_eq!(outgate(folder.path(), &["diff", "--base=--output=x"]).0, Some(2));
}

#[test]
fn a_shared_address_stands_at_the_line_that_opens_it() {
    let folder = repository();
    edit(folder.path(), "203.0.113.192/28", "203.0.113.240/30");
    for (format, needle) in
        [("github", "::error file=outgate.yaml,line="), ("sarif", "\"E023\""), ("markdown", "**error** E023")]
    {
        let (code, stdout, stderr) = outgate(folder.path(), &["diff", "--format", format, "--fail-on", "error"]);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stdout.contains(needle), "{format}: {stdout}");
    }
}

#[test]
fn two_releases_differ_by_what_the_catalog_says() {
    let folder = repository();
    let document = json(folder.path(), &["--releases", "24.10..25.10.2"]);
    let opened = document["changes"].as_array().unwrap().iter().any(|change| {
        change["turn"] == "opened"
            && change["callout"] == "update-scale-truenas"
            && change["names"][0] == "update.truenas.com"
    });
    assert!(opened, "{document:#}");
}

#[test]
fn a_comment_is_never_longer_than_a_forge_takes() {
    let folder = repository();
    let many: String = (0..3000)
        .map(|i| format!("  - {{id: own-{i}, purpose: 'is | one <b>of</b> many @everyone [x](y)', origin: [nas], hosts: [h{i}.example.org], ports: [443/tcp]}}\n"))
        .collect();
    edit(folder.path(), "# The backup provider's servers", &format!("{many}\n# The backup provider's servers"));
    let (_, stdout, _) = outgate(folder.path(), &["diff", "--format", "markdown"]);
    assert!(stdout.chars().count() < 65_536 && stdout.contains("do not fit into a comment"), "{}", stdout.len());
    // Outside of code spans there is nothing that somebody else wrote.
    let outside: String = stdout.split('`').step_by(2).collect();
    for bad in ["@everyone", "](y)", "<b>"] {
        assert!(!outside.contains(bad), "{bad}");
    }
}

#[test]
fn sarif_has_what_its_schema_requires() {
    let folder = repository();
    edit(folder.path(), "203.0.113.192/28", "203.0.113.240/30");
    let (_, stdout, _) = outgate(folder.path(), &["diff", "--format", "sarif"]);
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(document["version"], "2.1.0");
    let run = &document["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "outgate");
    let rules: BTreeSet<&str> =
        run["tool"]["driver"]["rules"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect();
    for result in run["results"].as_array().unwrap() {
        assert!(rules.contains(result["ruleId"].as_str().unwrap()));
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let place = &result["locations"][0]["physicalLocation"];
        assert!(place["region"]["startLine"].as_u64().unwrap() >= 1, "{result:#}");
        assert!(!place["artifactLocation"]["uri"].as_str().unwrap().contains([' ', '\\']));
    }
}

#[test]
fn plain_lists_are_compared_by_what_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("a", "# on the router\n192.0.2.0/24\n198.51.100.7\n2001:db8::/48\n");
    write("b", "192.0.2.128/25\n192.0.2.0/25\n198.51.100.8/32\n2001:db8::/48\n2001:db8:1::/48\n");
    let (code, stdout, stderr) = outgate(folder.path(), &["diff", "a", "b", "--exit-code"]);
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
    assert_eq!(stdout, "- 198.51.100.7\n+ 198.51.100.8\n+ 2001:db8:1::/48\n");
    let (_, stdout, _) = outgate(folder.path(), &["diff", "b", "a", "--format", "json"]);
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(document["gone"], serde_json::json!(["198.51.100.8", "2001:db8:1::/48"]));
    assert_eq!(document["come"], serde_json::json!(["198.51.100.7"]));
    assert_eq!(outgate(folder.path(), &["diff", "a", "a", "--exit-code"]), (Some(0), String::new(), String::new()));

    let (code, stdout, _) = outgate(folder.path(), &["prefixes", "b", "a", "--but", "a", "--within", "b"]);
    assert_eq!((code, stdout.as_str()), (Some(0), "198.51.100.8\n2001:db8:1::/48\n"));
    let (_, stdout, _) = outgate(folder.path(), &["prefixes", "b"]);
    assert_eq!(stdout, "192.0.2.0/24\n198.51.100.8\n2001:db8::/47\n");
    write("c", "192.0.2.0/24\n192.0.2.1/24\n");
    let (code, stdout, stderr) = outgate(folder.path(), &["prefixes", "c"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("c: line 2 has host bits set") && stderr.contains("--> c:2:1"), "{stderr}");
}

/// Lists are read in pieces, and are what they are wherever one ends.
#[test]
fn long_lists_are_read_to_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long");
    // A megabyte, with lines of every length, the last without an end.
    let net = |i: u32| format!("{}/30", std::net::Ipv4Addr::from(0x0b00_0000 + i * 8));
    let nets: Vec<String> = (0..40_000).map(net).collect();
    let text: Vec<String> = nets.iter().enumerate().map(|(i, net)| format!("{net}{}", " ".repeat(i % 23))).collect();
    let expected = nets.join("\n") + "\n";
    for (between, begin) in
        [("\n", ""), ("\r\n", ""), ("\n", "\u{feff}"), ("\n", &format!("# {}\n", "x".repeat(600_000)))]
    {
        fs::write(&path, format!("{begin}{}", text.join(between))).unwrap();
        let (code, stdout, stderr) = outgate(folder.path(), &["prefixes", "long"]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert_eq!(stdout.len(), expected.len());
        assert_eq!(stdout, expected);
    }
    // A pipe is opened once.
    #[cfg(unix)]
    {
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let text = expected.clone();
        let writing = std::thread::spawn(move || fs::write(pipe, text));
        // Opened once more it would wait for a writer without end.
        let words = ["30", env!("CARGO_BIN_EXE_outgate"), "prefixes", "pipe"];
        let output = Command::new("timeout").args(words).current_dir(folder.path()).output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8(output.stdout).unwrap()), (Some(0), expected.clone()));
        writing.join().unwrap().unwrap();
    }
    // What is wrong is shown in its place, far behind the first piece.
    fs::write(&path, format!("{}\n192.0.2.1/24\n", text.join("\n"))).unwrap();
    let (code, stdout, stderr) = outgate(folder.path(), &["diff", "long", "long"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("long: line 40001 has host bits set") && stderr.contains("--> long:40001:1"), "{stderr}");
    fs::write(&path, [expected.as_bytes(), b"# caf\xe9\n"].concat()).unwrap();
    let (_, _, stderr) = outgate(folder.path(), &["prefixes", "long"]);
    assert!(stderr.contains("is not UTF-8: line 40001"), "{stderr}");
}

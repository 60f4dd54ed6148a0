//! `outgate prove`: what it claims stands in the files it names, and it fails when a file, a template, an answer or a
//! setting lets telemetry through. No network, no clock.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output};

use outgate::day::Day;
use outgate::host::{Host, Query};
use outgate::lock::{Entry, Failed, Lock, Seen};
use outgate::resolve::{Failure, RecordType};
use outgate::text::Text;
use serde_json::Value;
use tempfile::TempDir;

/// A site with an administrator and every way of blocking that needs no more than a key.
const PROFILE: &str = "site: home
release: \"25.10.2\"
clients:
  nas: [192.0.2.10, \"2001:db8:10::10\"]
  admin: [192.0.2.20, \"2001:db8:10::20\"]
features: []
servers:
  dns: [{host: 192.0.2.53}, {host: \"2001:db8:10::53\"}]
  ntp: [{host: 192.0.2.123}, {host: \"2001:db8:10::123\"}]
strict: [usage, error-report]
leave-out:
  - {callout: feedback-dialog-late, reason: of no interest here}
extra:
  - {id: backup, purpose: copies snapshots, origin: [nas], hosts: [backup.example.org], ports: [443/tcp]}
answers: {allow: [documentation], max-age: 3650}
targets:
  nftables: {}
  pf: {interface: em1}
  opnsense: {version: \"26.1\", interface: lan, resolve: lock}
  squid: {}
  lists: {}
";

const USAGE: &str = "usage.truenas.com";
const SENTRY: &str = "sentry.ixsystems.com";
const BACKUP: &str = "backup.example.org";

type Hosts = BTreeMap<Query, Entry>;

fn query(name: &str) -> Query {
    Query::parse(name).unwrap()
}

fn entry(chain: &[&str], addresses: &[&str]) -> Entry {
    let seen = Seen {
        first: Day::parse("2026-11-01").unwrap(),
        missing: None,
        by: std::sync::Arc::new(["192.0.2.53:53".to_owned()].into()),
    };
    Entry {
        chain: chain.iter().map(|name| Host::parse(name).unwrap()).collect(),
        addresses: addresses.iter().map(|addr| (addr.parse::<IpAddr>().unwrap(), seen.clone())).collect(),
        by: seen.by.clone(),
        ..Entry::default()
    }
}

/// Nothing lies together.
fn apart() -> Hosts {
    [
        (query(USAGE), entry(&[], &["203.0.113.1", "2001:db8:a::1"])),
        (query(SENTRY), entry(&[], &["203.0.113.2", "2001:db8:a::2"])),
        (query("agent-events.netdata.cloud"), entry(&[], &["203.0.113.3", "2001:db8:a::3"])),
        (query(BACKUP), entry(&[], &["198.51.100.1", "2001:db8:b::1"])),
    ]
    .into()
}

fn site(profile: &str, hosts: Hosts) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let day = Day::parse("2026-11-21").unwrap();
    let sites = [Text::parse("home").unwrap()].into();
    let lock = Lock { day, note: None, sites, hosts, ranges: BTreeMap::new() };
    fs::write(folder.path().join("outgate.yaml"), profile).unwrap();
    fs::write(folder.path().join("outgate.lock"), lock.print()).unwrap();
    folder
}

/// The same with its files written.
fn written(profile: &str, hosts: Hosts) -> TempDir {
    let folder = site(profile, hosts);
    let (code, _, stderr) = outgate(folder.path(), &["generate", "-q"]);
    assert!(folder.path().join("out").is_dir(), "{code:?}: {stderr}");
    folder
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

fn prove(folder: &Path, more: &[&str]) -> (Option<i32>, Value, String) {
    let args: Vec<&str> = ["prove", "-q", "--format", "json"].into_iter().chain(more.iter().copied()).collect();
    let (code, stdout, stderr) = outgate(folder, &args);
    (code, serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}{stderr}")), stderr)
}

/// The proof's answer about one callout.
fn answer<'a>(proof: &'a Value, callout: &str) -> &'a str {
    of(proof, callout)["answer"].as_str().unwrap()
}

fn of<'a>(proof: &'a Value, callout: &str) -> &'a Value {
    let mut entries = proof["blocked"].as_array().unwrap().iter();
    entries.find(|entry| entry["callout"] == callout).unwrap_or_else(|| panic!("no {callout} in {proof:#}"))
}

/// What is said of one callout at one target.
fn at<'a>(proof: &'a Value, callout: &str, target: &str) -> &'a Value {
    of(proof, callout)["stops"].as_array().unwrap().iter().find(|stop| stop["target"] == target).unwrap()
}

#[test]
fn every_line_it_names_is_a_denial_of_that_callout() {
    let folder = written(PROFILE, apart());
    let (code, proof, stderr) = prove(folder.path(), &[]);
    assert_eq!((code, &proof["holds"]), (Some(0), &Value::Bool(true)), "{stderr}{proof:#}");
    assert_eq!(proof["answers_of"], "2026-11-21");
    let blocked: BTreeSet<&str> =
        proof["blocked"].as_array().unwrap().iter().map(|entry| entry["callout"].as_str().unwrap()).collect();
    assert_eq!(blocked, BTreeSet::from(["firstboot-truenas", "sentry-ui-2510", "usage-truenas"]));
    let mut layers = BTreeSet::new();
    for (callout, name) in [("usage-truenas", USAGE), ("firstboot-truenas", USAGE), ("sentry-ui-2510", SENTRY)] {
        assert_eq!(answer(&proof, callout), "stopped");
        for target in ["nftables", "pf", "opnsense", "squid", "lists"] {
            let stop = at(&proof, callout, target);
            assert_eq!(stop["verdict"], "stopped", "{callout} at {target}: {stop:#}");
            let rules = stop["rules"].as_array().unwrap();
            assert!(!rules.is_empty(), "{callout} at {target} names no line");
            for rule in rules {
                let text = fs::read_to_string(folder.path().join("out").join(rule["file"].as_str().unwrap())).unwrap();
                let line = text.lines().nth(usize::try_from(rule["line"].as_u64().unwrap()).unwrap() - 1).unwrap();
                let by = rule["by"].as_str().unwrap();
                let means = match target {
                    "squid" => {
                        line == name || line.starts_with("http_access deny ") || line.starts_with("ssl_bump terminate ")
                    }
                    "nftables" => line.contains("goto blocked") && line.contains(&format!("\"{callout}\"")),
                    "pf" => line.starts_with("block ") && line.contains(&format!(":{callout}\"")),
                    "opnsense" => line.contains(";reject;") && line.contains(&format!("outgate {callout}: ")),
                    _ => line.contains(callout),
                };
                assert!(means, "{callout} at {target}: {line}");
                layers.insert(by.to_owned());
            }
        }
    }
    assert_eq!(layers, ["address", "name", "sni"].map(str::to_owned).into());
}

#[test]
fn a_file_that_was_changed_is_no_proof() {
    type Change = fn(&str) -> String;
    let without = |word: &'static str| {
        move |text: &str| text.lines().filter(|l| !l.contains(word)).map(|l| format!("{l}\n")).collect()
    };
    let drop_deny: Change = |text| {
        text.lines()
            .filter(|line| !(line.contains("goto blocked") && line.contains("usage-truenas")))
            .map(|l| format!("{l}\n"))
            .collect()
    };
    let widen: Change = |text| text.replace("198.51.100.1", "198.51.100.0/24");
    let swap: Change = |text| {
        // The allow before the denials.
        let line = text.lines().find(|line| line.contains("goto allowed")).unwrap().to_owned();
        let rest = text.replacen(&format!("{line}\n"), "", 1);
        rest.replacen(
            "ct state established,related accept\n",
            &format!("ct state established,related accept\n{line}\n"),
            1,
        )
    };
    type Changed = Box<dyn Fn(&str) -> String>;
    let changes: [(&str, &str, Changed); 6] = [
        ("nftables", "nftables/outgate.nft", Box::new(drop_deny)),
        ("nftables", "nftables/outgate.nft", Box::new(widen)),
        ("nftables", "nftables/outgate.nft", Box::new(swap)),
        ("nftables", "nftables/outgate.nft", Box::new(without("ip6 daddr @d_usage_truenas"))),
        ("pf", "pf/tables/og_usage_truenas.txt", Box::new(without("2001:db8"))),
        ("squid", "squid/lists/deny_nas_tls.txt", Box::new(without("usage."))),
    ];
    for (target, file, change) in changes {
        let folder = written(PROFILE, apart());
        let path = folder.path().join("out").join(file);
        let text = fs::read_to_string(&path).unwrap();
        let changed = change(&text);
        assert_ne!(text, changed, "{file}: the change changes nothing");
        fs::write(&path, changed).unwrap();
        let (code, proof, stderr) = prove(folder.path(), &[]);
        assert_eq!((code, &proof["holds"]), (Some(1), &Value::Bool(false)), "{file}");
        assert!(stderr.contains("W123"), "{stderr}");
        assert_eq!(at(&proof, "usage-truenas", target)["verdict"], "open", "{file}");
        assert_eq!(answer(&proof, "usage-truenas"), "can leave");
    }
}

#[test]
fn a_template_that_leaves_denials_out_is_found() {
    let folder = site(PROFILE, apart());
    let own = folder.path().join("own/nftables");
    fs::create_dir_all(&own).unwrap();
    let template =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/nftables/outgate.nft.j2")).unwrap();
    let (before, rest) = template.split_once("{% filter fill(denied").unwrap();
    let changed = format!("{before}{}", rest.split_once("{% endfilter %}\n").unwrap().1);
    assert_ne!(template, changed);
    fs::write(own.join("outgate.nft.j2"), changed).unwrap();
    assert_eq!(outgate(folder.path(), &["generate", "-q", "--templates", "own"]).0, Some(0));
    let (code, proof, _) = prove(folder.path(), &["--templates", "own"]);
    assert_eq!(code, Some(1));
    let stop = at(&proof, "sentry-ui-2510", "nftables");
    assert_eq!(
        (stop["verdict"].as_str(), stop["why"].as_str().unwrap().contains("is not there")),
        (Some("open"), true)
    );
    assert_eq!(at(&proof, "sentry-ui-2510", "pf")["verdict"], "stopped");
}

#[test]
fn a_shared_address_is_no_proof_until_it_is_decided() {
    let mut hosts = apart();
    hosts.insert(query(BACKUP), entry(&[], &["198.51.100.1", "203.0.113.1", "2001:db8:a::1"]));
    let folder = site(PROFILE, hosts.clone());
    let (code, proof, stderr) = prove(folder.path(), &[]);
    assert_eq!(code, Some(1));
    for part in [USAGE, BACKUP, "203.0.113.1", "2001:db8:a::1", "E023"] {
        assert!(stderr.contains(part), "{part} is not in {stderr}");
    }
    assert_eq!(proof["undecided"][0]["blocked"], USAGE);
    assert!(!folder.path().join("out").exists());

    let accepted = PROFILE.replace(
        "answers:",
        &format!("shared:\n  - {{host: {BACKUP}, choice: accept, with: [{USAGE}], reason: agreed in May}}\nanswers:"),
    );
    let folder = written(&accepted, hosts.clone());
    let (code, proof, stderr) = prove(folder.path(), &[]);
    assert_eq!(code, Some(0), "{stderr}");
    let remains = of(&proof, "usage-truenas")["remains"].to_string();
    assert!(remains.contains("203.0.113.1") && remains.contains("agreed in May"), "{remains}");
    let nft = fs::read_to_string(folder.path().join("out/nftables/outgate.nft")).unwrap();
    assert!(nft.contains("# Decided by this site:\n") && nft.contains("agreed in May"), "{nft}");

    // The other blocked name was not agreed on.
    let another = accepted.replace(&format!("with: [{USAGE}]"), &format!("with: [{SENTRY}]"));
    assert_eq!(prove(site(&another, hosts.clone()).path(), &[]).0, Some(1));

    let proxied = PROFILE
        .replace("answers:", &format!("shared:\n  - {{host: {BACKUP}, choice: proxy, reason: one network}}\nanswers:"));
    let folder = written(&proxied, hosts);
    let (code, proof, stderr) = prove(folder.path(), &[]);
    assert_eq!((code, answer(&proof, "usage-truenas")), (Some(0), "stopped"), "{stderr}");
    let out = |file: &str| fs::read_to_string(folder.path().join("out").join(file)).unwrap();
    assert!(
        !out("nftables/outgate-sets.nft").contains("198.51.100.1"),
        "a host of the proxy is still let out by address"
    );
    assert!(!out("lists/allow_nas_tcp443_names.txt").contains(&format!("\n{BACKUP}\n")), "a router may read it");
    assert!(out("squid/lists/allow_nas_tls.txt").contains(&format!("\n{BACKUP}\n")));
}

#[test]
fn names_behind_one_alias_are_one_network() {
    let mut hosts = apart();
    hosts.insert(query(USAGE), entry(&["edge.example.net"], &["203.0.113.1", "2001:db8:a::1"]));
    hosts.insert(query(BACKUP), entry(&["cdn.example.org", "edge.example.net"], &["198.51.100.1", "2001:db8:b::1"]));
    let (code, proof, stderr) = prove(site(PROFILE, hosts).path(), &[]);
    assert_eq!(code, Some(1), "{proof:#}");
    for part in [USAGE, BACKUP, "both lead through edge.example.net", "`cdn.example.org`, `edge.example.net`"] {
        assert!(stderr.contains(part), "{part} is not in {stderr}");
    }
}

#[test]
fn what_is_not_covered_is_said_plainly() {
    let profile = PROFILE.replace("  admin: [192.0.2.20, \"2001:db8:10::20\"]\n", "");
    let folder = written(&profile, apart());
    let (code, proof, _) = prove(folder.path(), &[]);
    assert_eq!((code, answer(&proof, "sentry-ui-2510")), (Some(0), "not covered"));
    assert_eq!(of(&proof, "sentry-ui-2510")["uncovered"][0], "browser");
    for format in ["text", "markdown"] {
        let (_, stdout, _) = outgate(folder.path(), &["prove", "-q", "--format", format]);
        assert!(stdout.contains("1 are not covered") || stdout.contains("is not covered"), "{stdout}");
        assert!(stdout.contains("no clients of that kind are named"), "{stdout}");
    }
}

#[test]
fn an_audit_and_an_unknown_address_stop_nothing() {
    let audit = PROFILE.replace("nftables: {}", "nftables: {mode: audit}");
    let (code, proof, _) = prove(written(&audit, apart()).path(), &[]);
    assert_eq!((code, &at(&proof, "usage-truenas", "nftables")["verdict"]), (Some(1), &Value::from("open")));
    // The name servers say that there is no such name; elsewhere there may be. Nothing else limits the administrator.
    let mut hosts = apart();
    let failed = Failed { failure: Failure::NxDomain, since: Day::parse("2026-11-01").unwrap() };
    let gone = Entry { failed: [(RecordType::A, failed), (RecordType::Aaaa, failed)].into(), ..entry(&[], &[]) };
    hosts.insert(query(SENTRY), gone.clone());
    let (code, proof, _) = prove(written(PROFILE, hosts.clone()).path(), &[]);
    assert_eq!((code, answer(&proof, "sentry-ui-2510")), (Some(1), "can leave"));
    assert_eq!(at(&proof, "sentry-ui-2510", "squid")["verdict"], "stopped", "by name it is stopped all the same");
    // The appliance is denied whatever no rule allows.
    hosts.insert(query(USAGE), gone);
    let (_, proof, _) = prove(written(PROFILE, hosts).path(), &[]);
    assert_eq!(at(&proof, "usage-truenas", "pf")["verdict"], "stopped by the last rule");
}

#[test]
fn the_command_line_blocks_more_and_never_less() {
    let profile = PROFILE.replace("strict: [usage, error-report]\n", "strict: [usage]\n");
    let mut hosts = apart();
    for (i, name) in ["account-service.tys1", "dns-service.tys1", "heartbeat-service.tys1", "web"].iter().enumerate() {
        hosts.insert(query(&format!("{name}.truenasconnect.net")), entry(&[], &[&format!("203.0.113.{}", 10 + i)]));
    }
    let folder = site(&profile, hosts);
    let blocked = |more: &[&str]| {
        let (_, proof, _) = prove(folder.path(), more);
        proof["blocked"].as_array().unwrap().iter().map(|entry| entry["callout"].to_string()).collect::<BTreeSet<_>>()
    };
    let (one, more, advised) = (blocked(&[]), blocked(&["--strict=suspected,error-report"]), blocked(&["--strict"]));
    assert_eq!((one.len(), more.len()), (2, 4), "{more:?}");
    assert!(advised.is_superset(&more) && advised.len() > more.len(), "{advised:?}");
    let (code, _, stderr) = outgate(folder.path(), &["prove", "--strict=function"]);
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
fn an_exception_says_why_in_every_place() {
    let excepted = PROFILE
        .replace("leave-out:", "strict-except:\n  - {callout: usage-truenas, reason: contract 2026-11}\nleave-out:");
    let folder = written(&excepted, apart());
    let (code, proof, _) = prove(folder.path(), &[]);
    assert_eq!(code, Some(0));
    assert_eq!(proof["excepted"][0]["reason"], "contract 2026-11");
    for file in
        ["nftables/outgate.nft", "pf/outgate.conf", "squid/outgate.conf", "opnsense/apply.md", "lists/rules.json"]
    {
        let text = fs::read_to_string(folder.path().join("out").join(file)).unwrap();
        assert!(text.contains("contract 2026-11"), "{file}");
    }
}

#[test]
fn a_prefix_that_is_dropped_is_in_no_file_and_one_that_is_accepted_is_not_denied() {
    let extra =
        "  - {id: offsite, purpose: has its own network, origin: [nas], hosts: [203.0.113.0/28], ports: [443/tcp]}\n";
    let with = |choice: &str| {
        let shared = format!("shared:\n  - {{host: 203.0.113.0/28, choice: {choice}, reason: ours}}\nanswers:");
        PROFILE.replace("answers:", &format!("{extra}{shared}")).replace("resolve: lock", "resolve: firewall")
    };
    let undecided = PROFILE.replace("answers:", &format!("{extra}answers:"));
    assert_eq!(prove(site(&undecided, apart()).path(), &[]).0, Some(1));
    let out = |folder: &TempDir, file: &str| fs::read_to_string(folder.path().join("out").join(file)).unwrap();
    let folder = written(&with("drop"), apart());
    for file in ["nftables/outgate-sets.nft", "opnsense/aliases.json", "lists/allow_nas_tcp443_v4.txt"] {
        let text = out(&folder, file);
        let mut entries = text.lines().filter(|line| !line.starts_with('#'));
        assert!(entries.all(|line| !line.contains("203.0.113.0/28")), "{file}");
    }
    let folder = written(&with(&format!("accept, with: [{USAGE}]")), apart());
    let sets = out(&folder, "nftables/outgate-sets.nft");
    assert!(sets.contains("203.0.113.0/28") && !sets.contains("203.0.113.1\n"), "{sets}");
    assert!(sets.contains("2001:db8:a::1\n"), "the other address of the name is still denied: {sets}");
    let aliases = out(&folder, "opnsense/aliases.json");
    assert!(aliases.contains("\"2001:db8:a::1\"") && !aliases.contains(USAGE), "{aliases}");
}

#[test]
fn dnsmasq_is_told_to_put_in_nothing_that_is_blocked() {
    let with = |allowed: &str, blocked: &str| {
        let extra = format!(
            "  - {{id: wanted, purpose: is let out, origin: [nas], hosts: ['{allowed}'], ports: [443/tcp]}}\n  \
             - {{id: spy, purpose: counts, class: usage, origin: [nas], hosts: ['{blocked}'], ports: [443/tcp]}}\nanswers:"
        );
        let profile = PROFILE.replace("answers:", &extra);
        profile.replace("nftables: {}", &format!("nftables: {{by-dns: ['{allowed}']}}"))
    };
    let mut hosts = apart();
    for name in ["a.example.com", "spy.example.com"] {
        hosts.insert(query(name), entry(&[], &["203.0.113.77", "2001:db8:a::77"]));
    }
    // dnsmasq takes every name below one it is given, the blocked one among them.
    let (code, _, stderr) =
        outgate(site(&with("*.example.com", "spy.example.com"), hosts.clone()).path(), &["generate"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("E020") && stderr.contains("spy blocks `spy.example.com`"), "{stderr}");
    // What a denial takes back is in no set, whoever would fill it.
    let folder = site(&with("a.example.com", "*.example.com"), hosts);
    let (_, _, stderr) = outgate(folder.path(), &["generate"]);
    assert!(stderr.contains("W114"), "{stderr}");
    let out = folder.path().join("out/nftables");
    assert!(!out.join("outgate-dnsmasq.conf").exists());
    assert!(!fs::read_to_string(out.join("outgate.nft")).unwrap().contains("n_wanted_"));
}

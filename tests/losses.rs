//! What a target cannot express: named in its files, told, written as JSON, and refused where the profile says so.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use outgate::diagnostic::{Code, Findings};
use outgate::ruleset;
use outgate::source::Sources;
use outgate::target::texts::Texts;
use outgate::target::{self, TARGETS, loss};
use serde_json::Value;
use tempfile::TempDir;

mod support;
use support::model;

/// A wildcard, a service, a blocked browser's callout, jails without clients, and a name with no address.
fn profile(targets: &str, more: &str) -> String {
    format!(
        "release: '25.10.2'\nclients: {{nas: [203.0.113.10, '2001:db8:10::10'], admin: [203.0.113.20, '2001:db8:10::20']}}\n\
         features: []\nservers: {{dns: [{{host: 203.0.113.53}}], ntp: [{{host: 203.0.113.123}}]}}\n\
         leave-out:\n\
        \x20 - {{callout: firstboot-truenas, reason: asks for a name of the vendor}}\n\
        \x20 - {{callout: usage-truenas, reason: asks for a name of the vendor}}\n\
        \x20 - {{callout: sentry-ui-2510, reason: asks for a name of the vendor}}\n\
        \x20 - {{callout: netdata-events, reason: asks for a name of the vendor}}\n\
         answers: {{allow: [documentation], max-age: 3650}}\n\
         extra:\n\
        \x20 - {{id: wild, purpose: is a wildcard, origin: [nas], hosts: ['*.example.org', 203.0.113.77], ports: [443/tcp]}}\n\
        \x20 - {{id: in-jail, purpose: is for jails, origin: [jail], hosts: [203.0.113.78], ports: [443/tcp]}}\n\
         {more}targets: {{{targets}}}\n"
    )
}

const ALL: &str = "cilium: {namespace: storage, endpoints: [app=recorder], origins: [nas]}, lists: {}, nftables: {}, pf: {interface: em1}, opnsense: {version: '26.1', interface: lan}, squid: {}, unbound: {}, dnsmasq: {}, rpz: {}, hosts: {}";

fn site(profile: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("outgate.yaml"), profile).unwrap();
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/home-lab/outgate.lock");
    fs::copy(lock, folder.path().join("outgate.lock")).unwrap();
    folder
}

fn outgate(args: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outgate"))
        .args(args)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("SOURCE_DATE_EPOCH", "1795219200")
        .output()
        .unwrap()
}

fn document(folder: &Path, target: &str) -> Value {
    let text = fs::read_to_string(folder.join("out").join(target).join("losses.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn kinds(document: &Value) -> BTreeSet<String> {
    document["losses"].as_array().unwrap().iter().map(|loss| loss["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_target_writes_what_it_lacks_in_its_head_and_as_json() {
    let folder = site(&profile(ALL, ""));
    let output = outgate(&["generate", "--format", "json"], folder.path());
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = BTreeMap::from([
        ("cilium", vec!["no-clients"]),
        ("lists", vec!["no-clients", "ports-and-clients", "wildcard"]),
        ("nftables", vec!["no-clients", "wildcard"]),
        ("opnsense", vec!["no-clients", "wildcard"]),
        ("pf", vec!["no-clients", "wildcard"]),
        ("squid", vec!["no-clients", "not-proxied"]),
        ("unbound", vec!["no-clients", "ports-and-clients", "unpinned"]),
        ("dnsmasq", vec!["no-clients", "ports-and-clients", "unpinned"]),
        ("rpz", vec!["no-clients", "ports-and-clients", "unpinned"]),
        ("hosts", vec!["no-clients", "unpinned"]),
    ]);
    for target in TARGETS {
        let document = document(folder.path(), target.name);
        assert_eq!(document["format_version"], 1);
        assert_eq!(document["target"], target.name);
        assert_eq!(printed["losses"][target.name], document["losses"]);
        assert_eq!(Vec::from_iter(kinds(&document)), expected[target.name], "{document:#}");
        let head = match target.name {
            "opnsense" => "apply.md",
            _ => target.main,
        };
        let head = fs::read_to_string(folder.path().join("out").join(target.name).join(head)).unwrap();
        for loss in document["losses"].as_array().unwrap() {
            // What is so with every policy stands in the documentation and not in every head.
            assert_eq!(head.contains(loss["text"].as_str().unwrap()), loss["limit"] == false, "{} {loss}", target.name);
        }
    }
    let wild = &document(folder.path(), "pf")["losses"][0];
    assert_eq!(
        (&wild["rule"], &wild["callout"], &wild["endpoints"][0]),
        (&"wild".into(), &"wild".into(), &"*.example.org".into())
    );
    let squid = document(folder.path(), "squid");
    let dns = squid["losses"].as_array().unwrap().iter().find(|loss| loss["rule"] == "dns").unwrap();
    assert_eq!(dns["ports"], serde_json::json!(["53/tcp", "53/udp"]));
    let jail = squid["losses"].as_array().unwrap().iter().find(|loss| loss["kind"] == "no-clients").unwrap();
    assert_eq!((&jail["callout"], &jail["origin"]), (&"in-jail".into(), &"jail".into()));
}

#[test]
fn that_nothing_is_lost_is_written_too() {
    let folder = site(&profile("pf: {interface: em1}", "").replace("'*.example.org', ", "").replace("[jail]", "[nas]"));
    assert_eq!(outgate(&["generate"], folder.path()).status.code(), Some(0));
    assert_eq!(document(folder.path(), "pf")["losses"], Value::Array(Vec::new()));
}

#[test]
fn a_name_let_out_by_its_address_is_a_limit_and_never_refused() {
    let own = profile("pf: {interface: em1}", "losses: refuse\n")
        .replace("'*.example.org', 203.0.113.77", "backup.example.org");
    let folder = site(&own);
    let output = outgate(&["generate"], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let document = document(folder.path(), "pf");
    let loss = document["losses"].as_array().unwrap().iter().find(|loss| loss["kind"] == "name-by-address").unwrap();
    assert_eq!((&loss["limit"], &loss["endpoints"][0]), (&true.into(), &"backup.example.org".into()));
}

#[test]
fn a_site_that_refuses_losses_gets_errors_and_no_files() {
    let codes = |profile: &str| {
        let folder = site(profile);
        let output = outgate(&["generate"], folder.path());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(folder.path().join("out").exists(), output.status.code() != Some(2), "{said}");
        (output.status.code(), said)
    };
    let (code, said) = codes(&profile(ALL, "losses: refuse\n"));
    assert_eq!(code, Some(2), "{said}");
    for lost in
        ["error[E034]: pf: wild: *.example.org", "error[E034]: opnsense: wild", "error[E034]: squid: does not go"]
    {
        assert!(said.contains(lost), "{said}");
    }
    // A proxy is never the only one: what it cannot carry goes by the packet filter.
    let (code, said) = codes(&profile("squid: {losses: report}", "losses: refuse\n"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("note[N202]"), "{said}");
    let (code, said) = codes(&profile("pf: {interface: em1, losses: refuse}, squid: {}", ""));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("E034") && !said.contains("E034]: squid"), "{said}");
}

/// Every loss of every target that has it, without the command line.
#[test]
fn what_is_lost_is_told_once_and_written_once() {
    let policy =
        model::policy(&model::catalog(), &profile("nftables: {hook: output}", "strict: [operational]\n")).unwrap();
    let rules = ruleset::build(&policy, None, &mut Findings::default());
    for (name, kind, code) in [
        ("nftables", "browser-unseen", Code::OutOfReach),
        ("nftables", "wildcard", Code::Loss),
        ("opnsense", "sharing-unknown", Code::OutOfReach),
    ] {
        let target = target::find(name).unwrap();
        let plan = (target.plan)(&Texts::of(&rules), &mut Findings::default()).unwrap();
        let lost: Vec<_> = plan.losses.iter().filter(|loss| loss.kind.name == kind).collect();
        assert!(!lost.is_empty(), "{name}: {kind}");
        assert!(lost.iter().all(|loss| loss.kind.code == Some(code)));
        let (mut sources, mut findings) = (Sources::default(), Findings::default());
        target::render(target, &rules, &BTreeMap::new(), &mut sources, &mut findings);
        let about = |loss: &loss::Loss| loss.rule.as_ref().map_or(loss.text.clone(), ToString::to_string);
        let told = |loss: &&&loss::Loss| findings.iter().any(|d| d.message.contains(&about(loss)));
        assert_eq!(lost.iter().filter(told).count(), lost.len());
        let texts: BTreeSet<&str> = plan.losses.iter().map(|loss| loss.text.as_str()).collect();
        assert_eq!(texts.len(), plan.losses.len(), "said twice");
    }
}

#[test]
fn every_kind_is_in_the_documentation_and_every_target_owns_its_file() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/targets.md")).unwrap();
    let names: BTreeSet<&str> = loss::KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(names.len(), loss::KINDS.len());
    for kind in loss::KINDS {
        let code = kind.code.map_or("limit", Code::as_str);
        let row = |line: &str| line.starts_with(&format!("| `{}` |", kind.name)) && line.contains(code);
        assert!(page.lines().any(row), "docs/targets.md does not have {} as {code}", kind.name);
    }
    for target in TARGETS {
        assert!(target.owns.contains(&format!("{}/{}", target.name, loss::PATH).as_str()), "{}", target.name);
    }
}

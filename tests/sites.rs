//! Many sites in one run: each whole or not at all, the same whatever the order of threads, and said once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use outgate::day::Day;
use outgate::host::Query;
use outgate::lock::{Entry, Lock, Seen};
use serde_json::Value;
use tempfile::TempDir;

mod support;
use support::nameserver::{Behaviour, Nameserver};

/// A site that needs two names in a lock: its own, and one that all have.
fn profile(site: &str) -> String {
    format!(
        "site: {site}
release: \"25.10.2\"
clients: {{nas: [203.0.113.10, '2001:db8:10::10']}}
features: []
servers: {{dns: [{{host: 203.0.113.53}}], ntp: [{{host: 203.0.113.123}}]}}
leave-out:
  - {{callout: firstboot-truenas, reason: asks for a name of the vendor}}
  - {{callout: usage-truenas, reason: asks for a name of the vendor}}
  - {{callout: netdata-events, reason: asks for a name of the vendor}}
extra:
  - {{id: own, purpose: copies, origin: [nas], hosts: [shared.example.org, {site}.example.org], ports: [443/tcp]}}
answers: {{allow: [documentation], max-age: 3650}}
targets: {{nftables: {{}}, squid: {{}}}}
"
    )
}

fn lock(sites: &[&str]) -> String {
    let seen = Seen {
        first: Day::parse("2026-11-01").unwrap(),
        missing: None,
        by: std::sync::Arc::new(["192.0.2.53:53".to_owned()].into()),
    };
    let names = ["shared"].into_iter().chain(sites.iter().copied());
    let entry = |(i, name): (usize, &str)| {
        let addrs = [format!("198.51.100.{i}"), format!("2001:db8:b::{i}")].map(|a| a.parse::<IpAddr>().unwrap());
        let addresses = addrs.into_iter().map(|addr| (addr, seen.clone())).collect();
        let query = Query::parse(&format!("{name}.example.org")).unwrap();
        (query, Entry { addresses, by: seen.by.clone(), ..Entry::default() })
    };
    let hosts = names.enumerate().map(entry).collect();
    let day = Day::parse("2026-11-20").unwrap();
    Lock { day, note: None, sites: [].into(), hosts, ranges: BTreeMap::new() }.print()
}

const THREE: [&str; 3] = ["berlin", "paris", "rome"];

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Sites in folders of their own, a lock beside their workspace.
fn workspace(sites: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for site in sites {
        write(folder.path(), &format!("{site}/outgate.yaml"), &profile(site));
    }
    write(folder.path(), "outgate-sites.yaml", "sites: [\"*/outgate.yaml\"]\n");
    write(folder.path(), "outgate.lock", &lock(sites));
    folder
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outgate"));
    command.args(args).current_dir(folder).env("SOURCE_DATE_EPOCH", "1795219200").stdin(Stdio::null());
    command
}

fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(folder, args).env("NO_COLOR", "1").output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Every file below a folder, by its path from there.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn git(folder: &Path, args: &[&str]) {
    let who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"];
    let status = Command::new("git").args(who).args(args).current_dir(folder).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "git {args:?}");
}

fn commit(folder: &Path) {
    git(folder, &["init", "-q", "-b", "main"]);
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "-q", "-m", "a"]);
}

#[test]
fn what_is_written_of_many_is_what_is_written_of_each() {
    let folder = workspace(&THREE);
    let at = folder.path();
    let (code, out, err) = run(at, &["generate"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.starts_with("ok   berlin"), "{out}");
    assert!(out.ends_with("3 sites: 3 fine\n") && out.lines().count() == 4, "{out}");
    for site in THREE {
        let profile = format!("{site}/outgate.yaml");
        let alone = format!("alone/{site}");
        let args = ["generate", "-q", "-c", &profile, "--lock", "outgate.lock", "--out", &alone];
        assert_eq!(run(at, &args).0, 0);
        assert_eq!(tree(&at.join(site).join("out")), tree(&at.join(&alone)), "{site}");
    }
    // Nothing to do is seen, and nothing is written anew.
    let before = fs::metadata(at.join("rome/out/squid/outgate.conf")).unwrap().modified().unwrap();
    let (code, out, _) = run(at, &["generate"]);
    assert!(code == 0 && out.lines().take(3).all(|line| line.ends_with("unchanged")), "{out}");
    assert_eq!(fs::metadata(at.join("rome/out/squid/outgate.conf")).unwrap().modified().unwrap(), before);
}

#[test]
fn a_site_that_fails_keeps_its_files_and_the_others_are_written() {
    let folder = workspace(&THREE);
    let at = folder.path();
    assert_eq!(run(at, &["generate", "-q"]).0, 0);
    let old = tree(&at.join("paris/out"));
    let more = "strict: [usage]\n";
    for site in THREE {
        write(at, &format!("{site}/outgate.yaml"), &(profile(site).replace("denied", "x") + more));
    }
    write(at, "paris/outgate.yaml", &(profile("paris").replace("paris.example.org", "unknown.example.org") + more));
    let (code, out, err) = run(at, &["generate"]);
    assert_eq!(code, 2, "{out}{err}");
    assert_eq!(tree(&at.join("paris/out")), old, "a site that failed was changed");
    assert!(
        out.contains("FAIL paris   E024 `unknown.example.org` is not in the lock; nothing of it was changed"),
        "{out}"
    );
    assert!(out.ends_with("3 sites: 2 fine, 1 failed\n"), "{out}");
    assert_ne!(tree(&at.join("rome/out")), old);
    assert!(err.contains("of site paris"), "{err}");
    assert!(!at.join("paris").read_dir().unwrap().any(|e| e.unwrap().file_name().to_string_lossy().starts_with('.')));
    // A profile that is no YAML takes no other with it.
    write(at, "rome/outgate.yaml", "site: [\n");
    let (code, out, _) = run(at, &["generate", "-q"]);
    assert!(code == 2 && out.contains("FAIL rome/outgate.yaml") && !out.contains("berlin"), "{out}");
}

#[test]
fn the_same_finding_of_many_sites_is_said_once() {
    let names: Vec<String> = (0..12).map(|i| format!("site-{i:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let folder = workspace(&names);
    let (code, _, err) = run(folder.path(), &["generate"]);
    assert_eq!(code, 0);
    assert_eq!(err.matches("note[N202]").count(), 1, "{err}");
    assert!(err.contains("of 12 sites: site-00, site-01, ") && err.contains("site-07 and 4 more"), "{err}");
    let (_, out, err) = run(folder.path(), &["generate", "--format", "json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["sites"].as_array().unwrap().len(), 12);
    let finding: Value = serde_json::from_str(err.lines().next().unwrap()).unwrap();
    assert_eq!(finding["sites"].as_array().unwrap().len(), 12);
}

#[test]
fn the_output_does_not_depend_on_the_order_of_threads() {
    let names: Vec<String> = (0..24).map(|i| format!("site-{i:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let folder = workspace(&names);
    let at = folder.path();
    // Of every kind: one that fails, one that is wide, one that differs.
    write(at, "site-05/outgate.yaml", "site: [\n");
    write(at, "site-11/outgate.yaml", &profile("site-11").replace("release: \"25.10.2\"", "release: \"99\""));
    write(at, "site-17/outgate.yaml", &profile("site-17").replace("features: []", "features: [jails]"));
    let seen: Vec<_> = (0..6).map(|_| run(at, &["generate", "--check"])).collect();
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:#?}");
    assert_eq!(seen[0].0, 2);
    let json: Vec<_> = (0..4).map(|_| run(at, &["check", "--format", "json"])).collect();
    assert!(json.iter().all(|one| *one == json[0]));
}

#[test]
fn profiles_of_one_folder_have_folders_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for site in THREE {
        write(at, &format!("sites/{site}.yaml"), &profile(site));
    }
    write(at, "sites/outgate.lock", &lock(&THREE));
    let args = ["generate", "-q", "sites/berlin.yaml", "sites/paris.yaml", "sites/berlin.yaml"];
    let (code, out, err) = run(at, &args);
    assert!(code == 0 && out == "2 sites: 2 fine\n", "{out}{err}");
    assert!(at.join("sites/out/berlin/nftables/outgate.nft").is_file() && !at.join("sites/out/rome").exists());
    // With one folder for all, there.
    write(at, "outgate-sites.yaml", "sites: [\"sites/*.yaml\"]\nlock: sites/outgate.lock\nout: all\n");
    assert_eq!(run(at, &["generate", "-q"]).0, 0);
    assert!(at.join("all/rome/squid/outgate.conf").is_file());
    let (code, out, err) = run(at, &["generate", "--check", "--site", "rome"]);
    assert!(code == 0 && out.ends_with("1 site: 1 fine\n"), "{out}{err}");
    assert_eq!(run(at, &["generate", "--out", "flag", "--site", "rome", "-q"]).0, 0);
    // A pattern that stands for the workspace too does not take it for a site.
    write(at, "sites/outgate-sites.yaml", "sites: [\"*.yaml\"]\n");
    let (code, out, err) = run(&at.join("sites"), &["generate", "-q"]);
    assert!(code == 0 && out == "3 sites: 3 fine\n", "{out}{err}");
    assert!(at.join("flag/rome").is_dir() && !at.join("flag/paris").exists());
}

#[test]
fn no_site_writes_into_the_folder_of_another_or_out_of_its_own() {
    let folder = workspace(&THREE);
    let at = folder.path();
    let before = tree(at);
    write(at, "outgate-sites.yaml", "sites: [\"*/outgate.yaml\"]\nout: all\n");
    for (name, code) in [
        ("../paris", "E016"),
        ("..", "E016"),
        ("../../out", "E016"),
        ("/tmp/out", "E016"),
        ("a/b", "E016"),
        (".hidden", "E016"),
        ("PARIS", "E015"),
        ("paris", "E015"),
    ] {
        write(at, "rome/outgate.yaml", &profile("rome").replace("site: rome", &format!("site: '{name}'")));
        let (exit, out, err) = run(at, &["generate"]);
        assert!(exit == 2 && out.is_empty() && err.contains(&format!("error[{code}]")), "{name}: {out}{err}");
        assert!(!at.join("all").exists());
    }
    write(at, "rome/outgate.yaml", &profile("rome"));
    write(at, "outgate-sites.yaml", "sites: [\"*/outgate.yaml\"]\n");
    assert_eq!(tree(at), before);
    // Beside its profile the name is in nobody's way.
    write(at, "rome/outgate.yaml", &profile("rome").replace("site: rome", "site: Via Appia 1, Roma"));
    let (code, _, err) = run(at, &["generate", "-q"]);
    assert_eq!(code, 0, "{err}");
}

#[test]
fn a_site_named_wrongly_is_answered_with_the_one_that_was_meant() {
    let folder = workspace(&THREE);
    let at = folder.path();
    let said = |args: &[&str], text: &str| {
        let (code, out, err) = run(at, args);
        assert!(code == 2 && out.is_empty() && err.contains(text), "{args:?}: {out}{err}");
    };
    said(&["generate", "--site", "berln"], "did you mean `berlin`?");
    said(&["check", "--site", "xyzzyx"], "one of: berlin, paris, rome");
    said(&["generate", "--sites", "nowhere.yaml"], "cannot read nowhere.yaml");
    said(&["generate", "berlin", "--sites", "outgate-sites.yaml"], "both profiles and a workspace");
    said(&["generate", "--resolve"], "run `outgate resolve` first");
    said(&["generate", "--stdout"], "--stdout is for one site");
    let (code, out, err) = run(at, &["generate", "berln/outgate.yaml"]);
    assert!(code == 2 && out.contains("FAIL") && err.contains("did you mean `berlin/outgate.yaml`?"), "{out}{err}");
    write(at, "outgate-sites.yaml", "sites: [berlin, pari/outgate.yaml]\n");
    said(&["generate"], "did you mean `paris/outgate.yaml`?");
    write(at, "outgate-sites.yaml", "sites: [\"*/nothing.yaml\"]\n");
    said(&["generate"], "there is no profile `*/nothing.yaml`");
    write(at, "outgate-sites.yaml", "sites: [berlin]\nlokc: a\n");
    said(&["generate"], "did you mean `lock`?");
    write(at, "outgate.yaml", &profile("here"));
    said(&["generate"], "this folder has both");
    fs::remove_file(at.join("outgate-sites.yaml")).unwrap();
    said(&["generate", "--site", "here"], "--site is of many sites");
}

#[test]
fn a_check_of_many_is_a_suite_a_site_and_part() {
    let folder = workspace(&THREE);
    let at = folder.path();
    assert_eq!(run(at, &["generate", "-q"]).0, 0);
    fs::write(at.join("paris/out/squid/outgate.conf"), "changed").unwrap();
    let (code, out, err) = run(at, &["check"]);
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("LOOK paris   files: not up to date: squid"), "{out}");
    assert!(out.contains("ok   berlin  profile, lock, tests, files; nothing for proof, changes"), "{out}");
    let (code, out, _) = run(at, &["check", "-q"]);
    assert!(code == 1 && out.lines().count() == 2, "{out}");
    let (code, out, _) = run(at, &["check", "--format", "junit"]);
    assert_eq!(code, 1);
    let suites: Vec<&str> =
        out.lines().filter_map(|l| l.trim().strip_prefix("<testsuite name=\"")?.split('"').next()).collect();
    assert_eq!(suites.len(), 18, "{out}");
    assert_eq!(suites[..3], ["outgate berlin profile", "outgate berlin lock", "outgate berlin tests"]);
    let failures: Vec<&str> = out.lines().filter(|line| line.contains("<failure")).collect();
    assert!(failures.iter().all(|line| line.contains("classname=\"paris.outgate.files")), "{failures:?}");
    assert!(failures[0].contains("name=\"squid\""), "{failures:?}");
    let names: Vec<&str> = out.lines().filter(|line| line.contains("<testcase")).collect();
    let cases: std::collections::BTreeSet<_> =
        names.iter().map(|line| line.split(" time=").next().unwrap().split(" file=").next().unwrap()).collect();
    assert_eq!(cases.len(), names.len(), "two cases of one name are one to a reader");
    let (_, out, _) = run(at, &["check", "--format", "json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["passes"], json["sites"].as_array().unwrap().len()), (&Value::Bool(false), 3));
    let (_, out, _) = run(at, &["check", "--format", "github"]);
    assert!(out.lines().any(|line| line.starts_with("paris: files: fails")), "{out}");
    let (_, out, _) = run(at, &["check", "--format", "sarif"]);
    let sarif: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    // A profile that cannot be read is a part that cannot be looked at, of this site alone.
    write(at, "rome/outgate.yaml", "site: [\n");
    let (code, out, _) = run(at, &["check"]);
    assert!(code == 2 && out.contains("FAIL rome/outgate.yaml  profile: "), "{out}");
    assert!(out.ends_with("3 sites: 1 fine, 1 to look at, 1 failed\n"), "{out}");
}

#[test]
fn a_difference_of_many_says_each_change_once() {
    let folder = workspace(&THREE);
    let at = folder.path();
    commit(at);
    let (code, out, err) = run(at, &["diff"]);
    assert!(code == 0 && out == "0 of 3 sites change\n", "{out}{err}");
    for site in ["berlin", "paris"] {
        write(
            at,
            &format!("{site}/outgate.yaml"),
            &profile(site).replace("ports: [443/tcp]", "ports: [443/tcp, 8443/tcp]"),
        );
    }
    write(at, "oslo/outgate.yaml", &profile("oslo").replace("oslo.example.org", "rome.example.org"));
    let (code, out, err) = run(at, &["diff", "--exit-code"]);
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("== oslo\n") && out.contains("HEAD, which has no such site"), "{out}");
    assert!(out.contains("== berlin\n") && !out.contains("== rome"), "{out}");
    assert!(out.ends_with("3 of 4 sites change\n"), "{out}");
    // What is alike is said once.
    for site in THREE {
        write(at, &format!("{site}/outgate.yaml"), &profile(site).replace("203.0.113.53", "203.0.113.54"));
    }
    let (_, out, _) = run(at, &["diff", "--format", "markdown"]);
    assert!(out.contains("#### `berlin, paris, rome`\n"), "{out}");
    assert_eq!(out.matches("203.0.113.54").count(), 2, "{out}");
    let (_, out, _) = run(at, &["diff", "--format", "json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["sites"].as_array().unwrap().len(), 4);
    let (_, out, _) = run(at, &["diff", "--releases", "25.04..25.10", "--site", "rome"]);
    assert!(out.contains("release 25.04 -> release 25.10"), "{out}");
    // And CI sees it too.
    let (_, out, _) = run(at, &["check", "--base", "HEAD", "--format", "json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    let changes = |at: usize| json["sites"][at]["parts"][5]["summary"].as_str().unwrap().to_owned();
    assert!(changes(0).starts_with("since HEAD: change of intent in 1 rule"), "{}", changes(0));
}

#[test]
fn a_comment_for_many_sites_is_bounded() {
    let names: Vec<String> = (0..90).map(|i| format!("site-{i:02}")).collect();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let text = |site: &str, host: &str| {
        profile(site).replace("nftables: {}, ", "").replace(&format!("{site}.example.org"), host)
    };
    write(at, "outgate-sites.yaml", "sites: [\"*/outgate.yaml\"]\n");
    names.iter().for_each(|site| write(at, &format!("{site}/outgate.yaml"), &text(site, "old.example.org")));
    commit(at);
    for site in &names {
        let hosts: Vec<String> = (0..8).map(|i| format!("{site}-{i}.example.org")).collect();
        write(at, &format!("{site}/outgate.yaml"), &text(site, &hosts.join(", ")));
    }
    let (code, out, err) = run(at, &["diff", "--format", "markdown"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.chars().count() <= 65_536 && out.chars().count() > 60_000, "{}", out.chars().count());
    let left: usize = out.lines().last().unwrap().split([' ', '_']).find_map(|word| word.parse().ok()).unwrap();
    assert_eq!(left + out.matches("\n#### ").count(), 90, "{left}");
    assert_eq!(out.matches("<details>").count(), out.matches("</details>").count());
}

#[test]
fn a_workspace_asks_each_name_once_for_all_its_sites() {
    let folder = workspace(&THREE);
    let at = folder.path();
    fs::remove_file(at.join("outgate.lock")).unwrap();
    for site in THREE {
        write(at, &format!("{site}/outgate.yaml"), &profile(site).replace("allow: [documentation], ", ""));
    }
    let ips = |last: u8| -> Vec<IpAddr> {
        vec![IpAddr::from([8, 8, 8, last]), format!("2606:4700::{last}").parse().unwrap()]
    };
    let server = Nameserver::start(&[
        ("shared.example.org", Behaviour::Answer(ips(1))),
        ("berlin.example.org", Behaviour::Answer(ips(2))),
        ("paris.example.org", Behaviour::Answer(ips(3))),
        ("rome.example.org", Behaviour::Answer(ips(4))),
    ]);
    let resolver = server.addr.to_string();
    let (code, out, err) = run(at, &["resolve", "--resolver", &resolver]);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("outgate.lock: 4 names, 8 addresses"), "{out}");
    assert_eq!(server.total(), 8, "a name is asked once in each family");
    assert_eq!(run(at, &["generate", "-q"]).0, 0);
    assert!(run(at, &["status"]).1.contains("4 names"));
    // One site alone leaves the names of the others.
    let (code, _, err) = run(at, &["resolve", "--resolver", &resolver, "--site", "rome"]);
    assert!(code == 0 && err.contains("N210"), "{err}");
    assert!(fs::read_to_string(at.join("outgate.lock")).unwrap().contains("paris.example.org"));
}

#[test]
fn colours_and_steps_are_there_where_they_are_wanted() {
    let folder = workspace(&THREE);
    let at = folder.path();
    let text = |command: &mut Command| {
        let output = command.output().unwrap();
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat()
    };
    let plain = text(command(at, &["generate"]).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE"));
    assert!(!plain.contains(['\u{1b}', '\r']), "a pipe got a bar or colours: {plain:?}");
    let forced = text(command(at, &["generate"]).env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1"));
    assert!(forced.contains("\u{1b}[32mok"), "{forced:?}");
    let none = text(command(at, &["generate"]).env("NO_COLOR", "1").env("CLICOLOR", "1"));
    assert!(!none.contains('\u{1b}'), "{none:?}");
    let (_, _, err) = run(at, &["generate", "-v"]);
    for said in
        ["read outgate-sites.yaml (", "read rome/outgate.yaml\n", "read outgate.lock (", " ms: rules and files\n"]
    {
        assert!(err.contains(said), "{said}: {err}");
    }
    let (_, _, err) = run(at, &["generate", "-v", "-c", "rome/outgate.yaml", "--lock", "outgate.lock"]);
    assert!(err.contains("read rome/outgate.yaml (") && err.contains(" ms: writing\n"), "{err}");
}

#[test]
fn a_thousand_profiles_are_one_run() {
    // Small ones: what a site costs is for the bench. More files wait here than a process may hold open.
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut list = String::from("sites:\n");
    for i in 0..1000 {
        let site = format!("site-{i:03}");
        write(at, &format!("{site}.yaml"), &profile(&site).replace("nftables: {}, ", ""));
        writeln!(list, "  - {site}.yaml").unwrap();
    }
    write(at, "outgate-sites.yaml", &list);
    let (code, out, err) = run(at, &["generate", "-q"]);
    assert!(code == 0 && out == "1000 sites: 1000 fine\n", "{out}{err}");
    assert_eq!(fs::read_dir(at.join("out")).unwrap().count(), 1000);
    let (code, out, _) = run(at, &["generate", "--check", "-q"]);
    assert!(code == 0 && out == "1000 sites: 1000 fine\n", "{out}");
}

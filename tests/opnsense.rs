//! OPNsense beside its rules: the steps that bring them onto the firewall, run against one that only notes what it is
//! asked; and the list of what is on it and no longer in the files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

mod support;
use support::enforcers::require_all;

const VERSIONS: [&str; 5] = ["24.7", "25.1", "25.7", "26.1", "26.7"];

/// Needs no lock, and no DNS.
fn profile(version: &str, features: &str, more: &str) -> String {
    format!(
        "release: '25.10.2'\nclients: {{nas: [203.0.113.10, '2001:db8:10::10']}}\nfeatures: [{features}]\n\
         servers: {{dns: [{{host: 203.0.113.53}}]}}\n\
         targets:\n  opnsense: {{version: '{version}', interface: lan{more}}}\n"
    )
}

fn site(profile: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("outgate.yaml"), profile).unwrap();
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

/// Generates with this profile; the exit code and what was said.
fn generate(folder: &Path, profile: &str) -> (Option<i32>, String) {
    fs::write(folder.join("outgate.yaml"), profile).unwrap();
    let output = outgate(&["generate"], folder);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join("out/opnsense").join(name)
}

fn list(folder: &Path) -> Option<Value> {
    let text = fs::read_to_string(file(folder, "retired.json")).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

fn column(list: &Value, of: &str, key: &str) -> Vec<String> {
    list[of].as_array().unwrap().iter().map(|row| row[key].as_str().unwrap().to_owned()).collect()
}

fn uuids(csv: &str) -> Vec<String> {
    csv.lines().skip(1).map(|line| line.split(';').next().unwrap().to_owned()).collect()
}

#[test]
fn what_leaves_the_files_is_listed_until_the_list_is_deleted() {
    let folder = site("");
    let at = folder.path();
    let (full, less) = (profile("26.1", "updates, apps", ""), profile("26.1", "updates", ""));
    let (code, said) = generate(at, &full);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(list(at), None);
    let before = uuids(&fs::read_to_string(file(at, "rules.csv")).unwrap());

    let (code, said) = generate(at, &less);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("W122"), "{said}");
    let after = uuids(&fs::read_to_string(file(at, "rules.csv")).unwrap());
    let mut gone: Vec<String> = before.iter().filter(|uuid| !after.contains(uuid)).cloned().collect();
    gone.sort();
    assert!(gone.len() >= 4, "{gone:?}");
    let first = list(at).unwrap();
    assert_eq!(column(&first, "rules", "uuid"), gone);
    assert!(column(&first, "aliases", "name").contains(&"OG_ghcr".to_owned()), "{first}");
    assert!(!column(&first, "aliases", "name").contains(&"OG_dns".to_owned()), "{first}");

    // Again: the same bytes, and nothing to change.
    let bytes = fs::read(file(at, "retired.json")).unwrap();
    generate(at, &less);
    assert_eq!(fs::read(file(at, "retired.json")).unwrap(), bytes);
    assert_eq!(outgate(&["generate", "--check"], at).status.code(), Some(0));

    // `--check` knows what the list would be, and says so when it is not that.
    fs::write(at.join("outgate.yaml"), profile("26.1", "updates", ", prefix: EG")).unwrap();
    let output = outgate(&["generate", "--check"], at);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("retired.json differs"));
    assert_eq!(fs::read(file(at, "retired.json")).unwrap(), bytes, "a check wrote");

    // More leaves, and what left before stays; another version has other rules in another file.
    generate(at, &profile("25.7", "updates", ", interface: opt1").replace("interface: lan, ", ""));
    let more = list(at).unwrap();
    let all = column(&more, "rules", "uuid");
    assert!(gone.iter().chain(&after).all(|uuid| all.contains(uuid)), "{more}");

    // All comes back.
    let (code, said) = generate(at, &full);
    assert_eq!(code, Some(1), "{said}");
    let rest = list(at).unwrap();
    assert!(column(&rest, "rules", "uuid").iter().all(|uuid| !before.contains(uuid)), "{rest}");
    assert_eq!(column(&rest, "aliases", "name"), Vec::<String>::new());

    // The person at the firewall has deleted it all.
    fs::remove_file(file(at, "retired.json")).unwrap();
    let (code, said) = generate(at, &full);
    assert_eq!((code, list(at)), (Some(0), None), "{said}");
}

#[test]
fn what_is_on_the_firewall_is_known_after_the_target_is_gone() {
    let folder = site("");
    let at = folder.path();
    generate(at, &profile("26.7", "updates", ""));
    let rules = uuids(&fs::read_to_string(file(at, "rules.csv")).unwrap());
    let without = profile("26.7", "updates", "").replace("opnsense: {version: '26.7', interface: lan}", "squid: {}");
    // A run for another target leaves everything as it is.
    fs::write(at.join("outgate.yaml"), &without).unwrap();
    assert_eq!(outgate(&["generate", "--target", "squid"], at).status.code(), Some(0));
    assert!(file(at, "rules.csv").exists() && list(at).is_none());
    for _ in 0..2 {
        let (code, said) = generate(at, &without);
        assert_eq!(code, Some(1), "{said}");
        let mut retired = column(&list(at).unwrap(), "rules", "uuid");
        let mut expected = rules.clone();
        retired.sort();
        expected.sort();
        assert_eq!(retired, expected);
        assert!(!file(at, "rules.csv").exists() && !file(at, "apply.md").exists());
    }
}

#[test]
fn an_edited_file_of_the_earlier_run_loses_nothing_in_silence() {
    let folder = site("");
    let at = folder.path();
    generate(at, &profile("26.1", "updates, apps", ""));
    let csv = fs::read_to_string(file(at, "rules.csv")).unwrap();
    let rules = uuids(&csv);
    fs::write(file(at, "rules.csv"), format!("\u{feff}{}", csv.replace(";OG_", ","))).unwrap();
    let (code, said) = generate(at, &profile("26.1", "", ""));
    assert_eq!(code, Some(1));
    assert!(said.contains("W121") && said.contains("rules.csv"), "{said}");
    let now = uuids(&fs::read_to_string(file(at, "rules.csv")).unwrap());
    let mut gone: Vec<String> = rules.into_iter().filter(|uuid| !now.contains(uuid)).collect();
    gone.sort();
    assert_eq!(column(&list(at).unwrap(), "rules", "uuid"), gone);
    // What was read once is not doubted again, and bytes that are no text hide nothing.
    let (_, said) = generate(at, &profile("26.1", "", ""));
    assert!(!said.contains("W121"), "{said}");
    let mut bytes = fs::read(file(at, "retired.json")).unwrap();
    bytes.insert(0, 0xff);
    fs::write(file(at, "retired.json"), bytes).unwrap();
    let (_, said) = generate(at, &profile("26.1", "", ""));
    assert!(said.contains("W121") && said.contains("retired.json"), "{said}");
    assert_eq!(column(&list(at).unwrap(), "rules", "uuid"), gone);
}

/// The `sh` blocks of a page, under each heading.
fn blocks(page: &str) -> Vec<(String, String)> {
    let (mut found, mut heading, mut open) = (Vec::new(), String::new(), None::<String>);
    for line in page.lines() {
        match (&mut open, line) {
            (None, "```sh") => open = Some(String::new()),
            (Some(_), "```") => found.extend(open.take().map(|block| (heading.clone(), block))),
            (Some(block), line) => *block += &format!("{line}\n"),
            (None, line) => heading = line.strip_prefix("## ").map_or(heading, str::to_owned),
        }
    }
    found
}

/// A `curl` that asks nobody: it notes method, path and length of the body, and answers as OPNsense does.
const CURL: &str = r#"#!/bin/sh
method=GET; url=; body=
while [ $# -gt 0 ]; do
  case $1 in
    -X) method=$2; shift ;;
    -d) method=POST; body=$(cat); shift ;;
    -u | -H) shift ;;
    http*) url=$1 ;;
  esac
  shift
done
path=${url#https://firewall.example.org/api/}
case $body in
  "") echo "$method $path" >> "$LOG" ;;
  *) echo "$method $path $(printf %s "$body" | jq -c 'keys')" >> "$LOG" ;;
esac
case $path in
  core/backup/backups/this) echo '{"items": [{"id": "config-1.xml"}, {"id": "config-0.xml"}]}' ;;
  firewall/alias/import) echo "{\"existing\": 0, \"new\": 1, \"status\": \"$STATUS\"}" ;;
  firewall/filter/savepoint) echo '{"status": "ok", "revision": "1795219200.12"}' ;;
  firewall/filter/upload_rules) printf %s "$body" | jq '{validations: [], updated: 0, inserted: (.payload | split("\n") | length - 2)}' ;;
  firewall/filter/set_rule/*) echo '{"result": "saved"}' ;;
  firewall/alias/get_alias_u_u_i_d/OG_ghcr) echo '[]' ;;
  firewall/alias/get_alias_u_u_i_d/*) echo '{"uuid": "of-its-own"}' ;;
  firewall/filter_util/rule_stats) cat rules.* ;;
  *) echo '{"status": "ok"}' ;;
esac
"#;

/// Runs a script in the folder of the page. What it printed, and what the firewall was asked.
fn play(folder: &Path, script: &str, status: &str) -> (String, Vec<String>) {
    let bin = tempfile::tempdir().unwrap();
    let curl = bin.path().join("curl");
    fs::write(&curl, CURL).unwrap();
    fs::set_permissions(&curl, fs::Permissions::from_mode(0o755)).unwrap();
    let log = bin.path().join("log");
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(folder.join("out/opnsense"))
        .env("PATH", path)
        .env("LOG", &log)
        .env("STATUS", status)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (said, fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_owned).collect())
}

#[test]
fn the_steps_of_the_page_do_what_they_say_in_every_version() {
    if !require_all(&["sh", "jq"]) {
        return;
    }
    for version in VERSIONS {
        let folder = site("");
        let at = folder.path();
        generate(at, &profile(version, "updates, apps", ""));
        generate(at, &profile(version, "updates", ""));
        let retired = list(at).unwrap();
        let page = fs::read_to_string(file(at, "apply.md")).unwrap();
        let blocks = blocks(&page);
        let names: Vec<&str> = blocks.iter().map(|(heading, _)| heading.as_str()).collect();
        assert_eq!(names, ["By API", "Did it work", "The way back"], "{version}");
        let script: String = blocks.iter().map(|(_, block)| block.as_str()).collect();
        let (said, asked) = play(at, &script, "ok");

        let csv = version >= "26.1";
        let place = |wanted: &str| {
            asked
                .iter()
                .position(|line| line.starts_with(wanted))
                .unwrap_or_else(|| panic!("{version}: {wanted}: {asked:#?}"))
        };
        let rules =
            if csv { "POST firewall/filter/upload_rules [\"payload\"]" } else { "POST firewall/filter/set_rule/" };
        let mut order = vec![
            place("GET core/backup/backups/this"),
            place("POST firewall/alias/import [\"data\"]"),
            place("POST firewall/alias/reconfigure"),
            place(rules),
            place("POST firewall/filter/del_rule/"),
            place("POST firewall/filter/apply"),
            place("POST firewall/alias/del_item/of-its-own"),
            place("GET firewall/filter_util/rule_stats"),
            place("POST core/backup/revert_backup/config-1.xml"),
        ];
        if version < "25.7" {
            order.insert(3, place("POST firewall/filter/savepoint"));
            place("POST firewall/filter/apply/1795219200.12");
            place("POST firewall/filter/cancel_rollback/1795219200.12");
        } else {
            assert!(!asked.iter().any(|line| line.contains("savepoint") || line.contains("rollback")), "{asked:#?}");
        }
        assert!(order.is_sorted(), "{version}: {asked:#?}");

        // Every rule once, the denial of the rest first; every retired one; every alias that is still there.
        let count = |wanted: &str| asked.iter().filter(|line| line.starts_with(wanted)).count();
        let gone = column(&retired, "rules", "uuid");
        assert_eq!(count("POST firewall/filter/del_rule/"), gone.len());
        assert!(gone.iter().all(|uuid| asked.contains(&format!("POST firewall/filter/del_rule/{uuid}"))));
        assert_eq!(count("POST firewall/alias/del_item/"), retired["aliases"].as_array().unwrap().len() - 1);
        assert!(list(at).is_none(), "{version}: the list has done its work");
        assert!(!said.contains("refused") && !said.contains("not in force") && !said.contains("false"), "{said}");
        if !csv {
            let rules: Value = serde_json::from_str(&fs::read_to_string(file(at, "rules.json")).unwrap()).unwrap();
            let uuids = column(&rules, "rules", "uuid");
            let sent: Vec<&String> = asked.iter().filter(|line| line.contains("set_rule")).collect();
            assert_eq!(sent.len(), uuids.len());
            assert_eq!(*sent[0], format!("POST firewall/filter/set_rule/{} [\"rule\"]", uuids.last().unwrap()));
        }

        // Aliases that are refused are seen before anything else is done.
        let (said, _) = play(at, &blocks[0].1, "failed");
        assert!(said.contains("false"), "{version}: {said}");
    }
}

#[test]
fn the_page_names_what_its_version_has() {
    for version in VERSIONS {
        let folder = site("");
        generate(folder.path(), &profile(version, "updates", ", sequence: 2000, denied: drop"));
        let page = fs::read_to_string(file(folder.path(), "apply.md")).unwrap();
        let has = |text: &str| page.contains(text);
        assert!(page.starts_with(&format!("# Putting these rules on OPNsense {version}\n")));
        assert_eq!(has("Firewall > Automation > Filter"), version < "26.1");
        assert_eq!(has("Firewall > Rules [new]:"), version == "26.1");
        assert_eq!(has("3. Firewall > Rules: upload"), version == "26.7");
        assert_eq!(has("\"Default allow LAN to any\""), version == "26.7");
        assert_eq!(has("`rules.csv`"), version >= "26.1");
        assert_eq!(has("`rules.json`"), version < "26.1");
        assert!(has("System > Configuration > History") && has("`lan`") && has("sequence below 2000"));
        assert!(has("silent until it gives up"));
    }
}

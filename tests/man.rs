//! The man pages: every command and every file has one, readers of pages have nothing to say against any, and what the
//! documentation says of keys the pages say as well.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

mod support;
use support::enforcers::{find, require};

fn outgate(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outgate"));
    command.args(args).env("SOURCE_DATE_EPOCH", "1795219200").env("NO_COLOR", "1").output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Every page, written into a folder of the test's own.
fn written(folder: &Path) -> Vec<PathBuf> {
    let output = outgate(&["man", "--out", folder.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    text(&output).lines().map(PathBuf::from).collect()
}

/// The commands below `of`, as help lists them.
fn commands(of: &[&str]) -> Vec<String> {
    let help = text(&outgate(&[of, &["--help"]].concat()));
    let Some(list) = help.split("\nCommands:\n").nth(1) else { return Vec::new() };
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

/// A page as text, without what only roff means.
fn plain(roff: &str) -> String {
    roff.replace(r"\fB", "").replace(r"\fI", "").replace(r"\fR", "").replace(r"\-", "-").replace(r"\*(Aq", "'")
}

#[test]
fn every_command_and_every_file_has_a_page() {
    let mut expected: BTreeSet<String> = [
        "man1/outgate.1",
        "man5/outgate.yaml.5",
        "man5/outgate-sites.yaml.5",
        "man5/outgate.lock.5",
        "man5/outgate-catalog.5",
    ]
    .map(str::to_owned)
    .into();
    let top = commands(&[]);
    assert!(top.len() > 9, "{top:?}");
    for name in &top {
        expected.insert(format!("man1/outgate-{name}.1"));
        expected.extend(commands(&[name]).iter().map(|inner| format!("man1/outgate-{name}-{inner}.1")));
    }
    let folder = tempfile::tempdir().unwrap();
    let found = written(folder.path());
    let found: BTreeSet<String> =
        found.iter().map(|path| path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_page_is_found_by_its_name_by_its_file_and_as_it_is_typed() {
    let page = |args: &[&str]| text(&outgate(&[&["man"], args].concat()));
    assert!(page(&[]).contains(".TH outgate 1 2026-11-21 \"outgate "), "{}", page(&[]));
    let list = page(&["catalog", "list"]);
    assert!(list.contains("outgate\\-catalog\\-list \\- "), "{list}");
    assert_eq!(list, page(&["catalog-list"]));
    assert_eq!(list, page(&["outgate-catalog-list.1"]));
    assert!(page(&["outgate-catalog"]).contains(".TH outgate-catalog 1 "));
    assert!(page(&["outgate-catalog.5"]).contains(".TH outgate-catalog 5 "));
    let unknown = outgate(&["man", "generat"]);
    assert_eq!(unknown.status.code(), Some(2));
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(said.contains("there is no page `generat`"), "{said}");
}

#[test]
fn readers_of_pages_warn_of_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let pages = written(folder.path());
    let checks: [(&str, &[&str]); 2] =
        [("mandoc", &["-T", "lint", "-W", "warning"]), ("groff", &["-ww", "-man", "-K", "utf8", "-T", "utf8", "-z"])];
    for (program, args) in checks {
        if !require(program) {
            continue;
        }
        let said = |page: &Path| {
            let output = Command::new(find(program).unwrap()).args(args).arg(page).output().unwrap();
            let said = [&output.stdout[..], &output.stderr].concat();
            format!("{}{}", if output.status.success() { "" } else { "failed: " }, String::from_utf8_lossy(&said))
        };
        for page in &pages {
            assert_eq!(said(page), "", "{program}: {}", page.display());
        }
        let wrong = folder.path().join("wrong.1");
        fs::write(&wrong, ".TH wrong 1 2026-11-21\n.SH NAME\nwrong \\- a \\*[page]\n.XX\n.SH\n.PP\n").unwrap();
        assert_ne!(said(&wrong), "", "{program} warns of nothing at all");
    }
}

#[test]
fn man_shows_a_page() {
    if !require("man") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let output = Command::new(find("man").unwrap())
        .args(["--warnings=w", "-l"])
        .arg(folder.path().join("man5/outgate.yaml.5"))
        .env("MANWIDTH", "120")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let shown = text(&output);
    for part in ["NAME", "outgate.yaml - what one site is", "EXAMPLE", "KEYS", "targets.nftables.hook ("] {
        assert!(shown.contains(part), "`{part}` is not in\n{shown}");
    }
}

#[test]
fn every_key_of_the_documentation_stands_in_its_page() {
    for (document, page) in [
        ("profile.md", "outgate.yaml"),
        ("sites.md", "outgate-sites.yaml"),
        ("lock.md", "outgate.lock"),
        ("catalog.md", "outgate-catalog.5"),
    ] {
        let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(document)).unwrap();
        let page = plain(&text(&outgate(&["man", page])));
        // A key is at the end of a path in the page; the lock's table has the last parts alone.
        let paths: Vec<&str> =
            page.lines().filter(|line| line.ends_with(')')).flat_map(|line| line.split([',', ' '])).collect();
        let (mut ours, mut count) = (false, 0);
        for line in document.lines() {
            match line.strip_prefix("| ").and_then(|rest| rest.split(" | ").next()) {
                Some("key") => ours = true,
                Some(cell) if ours => {
                    let key = cell.trim_matches('`');
                    let stands = |path: &&str| {
                        let (mut path, mut key) = (path.rsplit('.'), key.rsplit('.'));
                        key.all(|step| path.next().is_some_and(|own| own == step || step.starts_with('<')))
                    };
                    assert!(paths.iter().any(stands), "{key} is not among\n{paths:?}");
                    count += 1;
                }
                Some(_) => {}
                None => ours = ours && line.starts_with("|---"),
            }
        }
        // A workspace has three.
        assert!(count >= 3, "only {count} keys were looked for");
    }
}

#[test]
fn pages_are_the_same_on_any_machine() {
    assert_eq!(text(&outgate(&["man", "outgate.yaml"])), text(&outgate(&["man", "outgate.yaml.5"])));
    let later = Command::new(env!("CARGO_BIN_EXE_outgate"))
        .args(["man", "outgate.yaml"])
        .env("SOURCE_DATE_EPOCH", "1795305600")
        .output()
        .unwrap();
    assert_eq!(text(&outgate(&["man", "outgate.yaml"])).replace("2026-11-21", "2026-11-22"), text(&later));
}

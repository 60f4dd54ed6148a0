//! The walls of the house: which part may use which, and which file a foreign crate comes in by.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// Part → the parts it may use, beside itself. What is not listed here does not exist.
const ARROWS: &[(&str, &[&str])] = &[
    ("port", &[]),
    ("day", &[]),
    ("release", &[]),
    ("text", &[]),
    ("digest", &[]),
    ("addrs", &[]),
    ("host", &["port", "text"]),
    ("source", &[]),
    ("diagnostic", &["source"]),
    ("yaml", &["text", "source", "diagnostic"]),
    ("ranges", &["addrs", "text"]),
    ("terms", &["addrs", "resolve"]),
    ("callout", &["ranges", "terms", "host", "port", "addrs", "release", "text", "source", "diagnostic", "yaml"]),
    ("settings", &["callout", "host", "text", "source", "diagnostic", "yaml"]),
    ("strict", &["callout", "text", "source", "diagnostic", "yaml"]),
    ("assertion", &["callout", "settings", "host", "port", "addrs", "text", "source", "diagnostic", "yaml"]),
    (
        "catalog",
        &["digest", "callout", "host", "port", "addrs", "day", "release", "text", "source", "diagnostic", "yaml"],
    ),
    (
        "profile",
        &[
            "assertion",
            "callout",
            "strict",
            "settings",
            "ranges",
            "terms",
            "resolve",
            "host",
            "port",
            "addrs",
            "release",
            "text",
            "source",
            "diagnostic",
            "yaml",
        ],
    ),
    ("workspace", &["text", "source", "diagnostic", "yaml"]),
    (
        "policy",
        &[
            "catalog",
            "profile",
            "assertion",
            "callout",
            "strict",
            "settings",
            "ranges",
            "terms",
            "host",
            "port",
            "addrs",
            "release",
            "text",
            "source",
            "diagnostic",
        ],
    ),
    ("pool", &[]),
    ("resolve", &["pool", "host"]),
    (
        "lock",
        &[
            "policy",
            "ranges",
            "resolve",
            "pool",
            "terms",
            "callout",
            "digest",
            "host",
            "addrs",
            "day",
            "text",
            "source",
            "diagnostic",
        ],
    ),
    ("freshness", &["policy", "lock", "resolve", "terms", "host", "day", "text", "diagnostic"]),
    ("coverage", &["policy", "lock", "pool", "strict", "callout", "host", "day", "diagnostic"]),
    ("status", &["lock", "freshness", "coverage", "resolve", "terms", "host", "day", "text"]),
    (
        "ruleset",
        &[
            "policy",
            "lock",
            "ranges",
            "resolve",
            "callout",
            "strict",
            "settings",
            "host",
            "port",
            "addrs",
            "day",
            "text",
            "source",
            "diagnostic",
        ],
    ),
    // Not the lock, not the policy's inputs: a target sees the rule set alone.
    ("target", &["digest", "ruleset", "settings", "callout", "host", "port", "addrs", "text", "source", "diagnostic"]),
    // The types of every file, and the lists their words come from; nothing uses it but the command line.
    (
        "schema",
        &[
            "assertion",
            "catalog",
            "profile",
            "workspace",
            "lock",
            "callout",
            "strict",
            "settings",
            "terms",
            "resolve",
            "port",
            "addrs",
            "day",
            "release",
            "text",
            "yaml",
        ],
    ),
    // Answers to a text: whoever asks is the command line.
    ("init", &["catalog", "callout", "port", "strict", "text"]),
    ("diff", &["ruleset", "lock", "coverage", "callout", "host", "port", "addrs", "text", "diagnostic"]),
    // It looks for the rules that it names in the files themselves.
    ("proof", &["ruleset", "target", "lock", "callout", "host", "port", "addrs", "day", "text"]),
    (
        "explain",
        &[
            "ruleset",
            "lock",
            "catalog",
            "profile",
            "policy",
            "target",
            "callout",
            "host",
            "port",
            "addrs",
            "day",
            "text",
            "diagnostic",
        ],
    ),
    // It judges by the rule set as each target takes it, and renders nothing.
    (
        "verify",
        &[
            "assertion",
            "profile",
            "proof",
            "ruleset",
            "target",
            "lock",
            "settings",
            "callout",
            "host",
            "port",
            "addrs",
            "text",
            "source",
            "diagnostic",
        ],
    ),
    ("check", &["verify", "text", "source", "diagnostic"]),
    ("apply", &["ruleset", "callout", "port", "addrs", "text"]),
    // It reads files and dumps, and knows no rule set: what was written is compared with what is loaded.
    ("drift", &["addrs", "text", "diagnostic"]),
    (
        "report",
        &[
            "check",
            "drift",
            "proof",
            "diff",
            "verify",
            "explain",
            "ruleset",
            "callout",
            "addrs",
            "text",
            "source",
            "diagnostic",
        ],
    ),
    ("files", &[]),
    ("cli", &["*"]),
    ("lib", &["*"]),
    ("main", &["*"]),
];

/// Foreign crate → the files it may be named in.
const DOORS: &[(&str, &[&str])] = &[
    ("serde_saphyr", &["yaml.rs"]),
    ("hickory_resolver", &["resolve/dns.rs", "resolve/dns/"]),
    ("tokio", &["resolve/dns.rs", "resolve/dns/"]),
    ("futures_util", &["resolve/dns/"]),
    ("rustls", &["resolve/dns/secure.rs"]),
    ("rustls_native_certs", &["resolve/dns/secure.rs"]),
    ("nix", &["files.rs", "resolve/dns/socket.rs", "cli/apply/watch.rs"]),
    ("rand", &["resolve/dns/engine.rs", "resolve/dns/message.rs"]),
    ("minijinja", &["target.rs"]),
    ("annotate_snippets", &["report/terminal.rs"]),
    ("anstream", &["report/terminal.rs"]),
    ("clap", &["cli.rs", "cli/"]),
    ("clap_complete", &["cli/completions.rs"]),
    ("clap_complete_nushell", &["cli/completions.rs"]),
    ("clap_mangen", &["cli/man.rs", "cli/man/"]),
    ("indicatif", &["cli/progress.rs"]),
    ("terminal_size", &["cli/prompt.rs"]),
    ("jiff", &["day.rs"]),
    ("idna", &["host.rs"]),
    ("psl", &["host.rs"]),
    ("tempfile", &["files.rs"]),
    ("sha2", &["digest.rs"]),
    ("radsort", &["addrs.rs"]),
    ("smol_str", &["text.rs"]),
    ("serde_json_path", &["ranges.rs"]),
    ("ureq", &["ranges/fetch.rs"]),
    (
        "serde_json",
        &[
            "ranges.rs",
            "lock/file.rs",
            "lock/file/usual.rs",
            "schema.rs",
            "drift/nftables.rs",
            "drift/opnsense.rs",
            "report/check.rs",
            "report/diff.rs",
            "report/drift.rs",
            "report/explain.rs",
            "report/json.rs",
            "report/sarif.rs",
            "report/proof.rs",
            "report/verify.rs",
            "target/loss.rs",
            "target/opnsense/retired.rs",
            "cli.rs",
            "cli/",
        ],
    ),
    ("schemars", &["schema.rs"]),
];

/// The one way a crate may be named elsewhere: to derive beside the types of a file format.
const DERIVES: &[(&str, &[&str])] = &[(
    "use schemars::JsonSchema;",
    &[
        "assertion.rs",
        "callout.rs",
        "catalog.rs",
        "lock/file.rs",
        "profile.rs",
        "settings.rs",
        "strict.rs",
        "workspace.rs",
    ],
)];

/// What steps must not reach for: the clock, the disk, the environment, the terminal.
const EDGE: &[(&str, &[&str])] = &[
    ("std::fs", &["files.rs", "cli.rs", "cli/"]),
    ("std::env", &["cli.rs", "cli/"]),
    ("std::process", &["main.rs", "cli.rs", "cli/"]),
    ("SystemTime::", &[]),
    ("Timestamp::now", &["day.rs"]),
    ("Day::today", &["cli.rs"]),
    ("println!", &[]),
    ("eprintln!", &[]),
];

type Line = (String, usize, String);

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every line of code of the crate, without comments and test modules: path below `src`, line number, text.
fn lines() -> Vec<Line> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    files.sort();
    assert!(files.len() > 25, "only {} files were found", files.len());
    let mut lines = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (i, line) in code.lines().enumerate() {
            let line = line.trim_start();
            if !line.starts_with("//") {
                lines.push((name.clone(), i + 1, line.to_owned()));
            }
        }
    }
    lines
}

fn faults_of_arrows(lines: &[Line]) -> Vec<String> {
    let mut faults = Vec::new();
    for (file, number, line) in lines {
        let part = file.split(['/', '.']).next().unwrap();
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == part) else {
            faults.push(format!("src/{file}: part `{part}` is not on the map"));
            continue;
        };
        for used in line.split("crate::").skip(1) {
            let target = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            let free = target == part || allowed.iter().any(|a| *a == "*" || *a == target || used.starts_with(a));
            if !free && ARROWS.iter().any(|(name, _)| *name == target) {
                faults.push(format!("src/{file}:{number}: `{part}` must not use `{target}`"));
            }
        }
    }
    faults
}

fn faults_of_doors(lines: &[Line], doors: &[(&str, &[&str])]) -> Vec<String> {
    let mut faults = Vec::new();
    for (file, number, line) in lines {
        if DERIVES.iter().any(|(derive, files)| line == derive && files.contains(&&**file)) {
            continue;
        }
        for (name, files) in doors {
            let open = files.iter().any(|f| *f == file || (f.ends_with('/') && file.starts_with(f)));
            let named = line.match_indices(name).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.')
                    && (name.contains("::") || name.ends_with('!') || line[at + name.len()..].starts_with("::"))
            });
            if named && !open {
                let by = if files.is_empty() { "no file" } else { &files.join(", ") };
                faults.push(format!("src/{file}:{number}: `{name}` comes in by {by} alone"));
            }
        }
    }
    faults
}

#[test]
fn arrows_run_one_way() {
    let faults = faults_of_arrows(&lines());
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn each_foreign_crate_has_one_door() {
    let faults = faults_of_doors(&lines(), DOORS);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn only_the_command_line_touches_the_world() {
    let faults = faults_of_doors(&lines(), EDGE);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_dependency_says_why_and_has_a_door() {
    // Types of the model itself.
    const EVERYWHERE: [&str; 2] = ["ipnet", "serde"];
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    for (part, doors) in [("[dependencies]", true), ("[dev-dependencies]", false)] {
        let section = manifest.split(part).nth(1).unwrap().split("\n[").next().unwrap();
        let mut said = false;
        for line in section.lines().filter(|line| !line.trim().is_empty()) {
            if line.starts_with('#') {
                said = true;
                continue;
            }
            let name = line.split([' ', '=']).next().unwrap().replace('-', "_");
            assert!(said, "{name} has no comment that says why it is there");
            said = false;
            let known = DOORS.iter().any(|(door, _)| *door == name) || EVERYWHERE.contains(&&*name);
            assert!(!doors || known, "{name} has no door");
        }
    }
}

#[test]
fn the_walls_hold() {
    let bad = |file: &str, line: &str| vec![(file.to_owned(), 1, line.to_owned())];
    assert_eq!(faults_of_arrows(&bad("target/pf.rs", "use crate::lock::Lock;")).len(), 1);
    assert_eq!(faults_of_arrows(&bad("catalog.rs", "use crate::profile::Profile;")).len(), 1);
    assert_eq!(faults_of_arrows(&bad("target/pf.rs", "let x = crate::cli::main();")).len(), 1);
    assert_eq!(faults_of_arrows(&bad("target/pf.rs", "use crate::policy::Action;")).len(), 1);
    assert_eq!(faults_of_arrows(&bad("unknown.rs", "")).len(), 1);
    assert_eq!(faults_of_arrows(&bad("lock.rs", "use crate::schema::KINDS;")).len(), 1);
    assert_eq!(faults_of_doors(&bad("lock.rs", "use minijinja::Value;"), DOORS).len(), 1);
    assert_eq!(faults_of_doors(&bad("lock.rs", "use schemars::{JsonSchema, schema_for};"), DOORS).len(), 1);
    assert_eq!(faults_of_doors(&bad("policy.rs", "use schemars::JsonSchema;"), DOORS).len(), 1);
    assert_eq!(faults_of_doors(&bad("lock/file.rs", "use schemars::JsonSchema;"), DOORS).len(), 0);
    assert_eq!(faults_of_doors(&bad("policy.rs", "std::fs::read(path)"), EDGE).len(), 1);
    assert_eq!(faults_of_doors(&bad("policy.rs", "println!(\"x\")"), EDGE).len(), 1);
}

//! Input that is too much: an answer in bounded time and memory, and never a rule.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Far above what any of these takes; a run that hangs is what it is about.
const PATIENCE: Duration = Duration::from_secs(60);
/// Address space a run may have, in KiB.
const MEMORY: u64 = 2 << 20;

/// Our catalog in a folder, with one file of its own.
fn catalog(name: &str, text: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog");
    fs::create_dir(folder.path().join("callouts")).unwrap();
    for entry in fs::read_dir(&from).unwrap().chain(fs::read_dir(from.join("callouts")).unwrap()) {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.path().join(path.strip_prefix(&from).unwrap())).unwrap();
        }
    }
    fs::write(folder.path().join(name), text).unwrap();
    folder
}

/// Lists a catalog under limits of time and memory; exit code and what was said.
fn list(folder: &TempDir) -> (Option<i32>, String) {
    let began = Instant::now();
    let script =
        format!("ulimit -v {MEMORY}; exec timeout {} \"$0\" catalog list --catalog \"$1\"", PATIENCE.as_secs());
    let output = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_outgate")])
        .arg(folder.path())
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    assert!(began.elapsed() < PATIENCE, "it took {:?}", began.elapsed());
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn entry(id: &str) -> String {
    format!(
        "  - id: {id}\n    title: t\n    purpose: p\n    class: function\n    origin: [nas]\n    hosts: [{id}.example.org]\n    \
         ports: [443/tcp]\n    releases: [{{family: scale}}]\n    blocked: {{level: none, effect: e}}\n    strict: allow\n    \
         sources: [{{source: security-page}}]\n"
    )
}

#[test]
fn a_big_catalog_is_read() {
    let mut text = String::from("callouts:\n");
    for i in 0..10_000 {
        text.push_str(&entry(&format!("big-{i}")));
    }
    let (code, said) = list(&catalog("callouts/big.yaml", text.as_bytes()));
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_million_entries_are_refused() {
    let mut text = String::from("callouts:\n");
    for i in 0..1_000_000 {
        writeln!(text, "  - {{id: e-{i}, purpose: p, origin: [nas], hosts: [a.example.org]}}").unwrap();
    }
    let (code, said) = list(&catalog("callouts/million.yaml", text.as_bytes()));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("larger than") || said.contains("budget") || said.contains("too"), "{said}");
}

#[test]
fn what_is_no_catalog_is_refused() {
    let nested = format!("callouts: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bomb = (0..30).fold(String::from("a0: &a0 [x]\n"), |mut text, i| {
        writeln!(text, "a{}: &a{} [{}]", i + 1, i + 1, vec![format!("*a{i}"); 9].join(", ")).unwrap();
        text
    });
    let long = format!("callouts:\n{}", entry("long").replace("title: t", &format!("title: {}", "t".repeat(10 << 20))));
    let twice = format!("callouts:\n{}", entry("twice").replace("    title: t\n", "    title: t\n    title: u\n"));
    let with =
        |what: &str| format!("callouts:\n{}", entry("bad").replace("title: t", &format!("title: {what}"))).into_bytes();
    for (name, text) in [
        ("nested", nested.into_bytes()),
        ("bomb", bomb.into_bytes()),
        ("ten megabytes", long.into_bytes()),
        ("a key twice", twice.into_bytes()),
        ("a newline", with("\"a\\n}\\nflush ruleset\"")),
        ("a quote", with("'a\" ; flush ruleset'")),
        ("a NUL", with("\"a\\0b\"")),
        ("a bare NUL", b"callouts:\n  - id: \0\n".to_vec()),
        ("turned around", with("\"a\\u202Eb\"")),
        ("not UTF-8", b"callouts:\n  - id: \xff\n".to_vec()),
    ] {
        let (code, said) = list(&catalog("callouts/bad.yaml", &text));
        assert_eq!(code, Some(2), "{name}: {}", said.chars().take(600).collect::<String>());
        assert!(said.len() < 20_000, "{name}: {} bytes were said", said.len());
        assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{name}: a control character was said");
    }
}

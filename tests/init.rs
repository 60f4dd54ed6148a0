//! `outgate init`: asked on a terminal and answered by a pipe, by flags, wrongly, not at all and with malice. What it
//! writes is read back and generates.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

mod support;
use support::nameserver::{Behaviour, Nameserver};
use support::terminal::{self, has_python};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn run(folder: &Path, args: &[&str], input: &str) -> (i32, String, String) {
    run_bytes(folder, args, input.as_bytes())
}

fn run_bytes(folder: &Path, args: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_outgate"))
        .arg("init")
        .args(args)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("SOURCE_DATE_EPOCH", "1795219200")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended before it read all.
    let _ = child.stdin.take().unwrap().write_all(input);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn read(folder: &Path) -> String {
    fs::read_to_string(folder.join("outgate.yaml")).unwrap()
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// Whether the program takes what was written, and what it says against it.
fn taken(folder: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_outgate"))
        .args(["generate", "--check", "--out", "nowhere"])
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    // The names were not asked yet; all else would be ours.
    text.lines().filter(|line| line.starts_with("error") && !line.contains("E024")).collect::<Vec<_>>().join("\n")
}

fn golden(name: &str, got: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/init").join(name);
    if std::env::var("SNAPSHOTS").is_ok_and(|value| value == "overwrite") {
        fs::write(&path, got).unwrap();
    }
    let want = fs::read_to_string(&path).unwrap_or_default();
    assert!(want == got, "--- {name}\n{want}\n+++ now\n{got}");
}

/// Answers to every question of 25.10.2 with mail in use, in order.
const ANSWERS: &str = "home\n25.10.2\n192.0.2.10 2001:db8:10::10\n192.0.2.20 2001:db8:10::20\n1 apps, mail\n192.0.2.53\n\
                       mail.example.org:587\n\nnftables opnsense\n26.1\nlan\nusage advised\n";

#[test]
fn a_pipe_answers_line_by_line() {
    let folder = folder();
    let (code, out, err) = run(folder.path(), &["--no-resolve"], ANSWERS);
    assert_eq!(code, 0, "{err}");
    golden("pipe.txt", &format!("{err}=== standard output\n{out}"));
    golden("pipe.yaml", &read(folder.path()));
    assert_eq!(taken(folder.path()), "");
}

#[test]
fn flags_answer_everything() {
    let folder = folder();
    let args = [
        "--yes",
        "--no-resolve",
        "--name",
        "flags",
        "--release",
        "13.3-U1.2",
        "--nas",
        "192.0.2.10",
        "--jails",
        "192.0.2.64/28",
        "--feature",
        "updates,jails,plugins",
        "--server",
        "dns=192.0.2.53",
        "--server",
        "ntp=ntp.example.org:123",
        "--target",
        "pf,squid",
        "--interface",
        "em1",
        "--strict",
        "usage",
    ];
    let (code, out, err) = run(folder.path(), &args, "");
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let text = read(folder.path());
    for line in [
        "site: flags",
        "release: \"13.3-U1.2\"",
        "  nas: [192.0.2.10]",
        "  jails: [192.0.2.64/28]",
        "ipv6: deny-interface",
        "    - host: ntp.example.org",
        "      ports: [123/udp]",
        "    interface: em1",
        "  squid: {}",
        "strict: [usage]",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    assert_eq!(taken(folder.path()), "");
}

#[test]
fn defaults_are_enough_for_one_address_of_each_family() {
    let folder = folder();
    let args = ["--yes", "--no-resolve", "--nas", "192.0.2.10,2001:db8::10"];
    assert_eq!(run(folder.path(), &args, "").0, 0);
    assert_eq!(taken(folder.path()), "");
    let text = read(folder.path());
    assert!(text.contains("  nftables: {}\n") && text.contains("  - updates "), "{text}");
    let folder = self::folder();
    let (code, _, err) = run(folder.path(), &["--yes"], "");
    assert!(code == 2 && err.contains("there is no default for: Which addresses does the NAS have?"), "{err}");
    assert!(err.contains("answer it with --nas") && is_empty(folder.path()), "{err}");
}

#[test]
fn every_release_makes_a_profile_that_is_taken() {
    for release in
        ["12.0-U8.1", "13.0", "13.3", "22.02", "22.12", "23.10", "24.04", "24.10", "25.04", "25.10", "26.0.0-BETA.1"]
    {
        let folder = folder();
        let targets = "nftables,pf,opnsense,squid,lists,unbound,dnsmasq,rpz,hosts";
        let args = [
            "--yes",
            "--no-resolve",
            "--release",
            release,
            "--nas",
            "192.0.2.10",
            "--target",
            targets,
            "--interface",
            "lan",
            "--strict",
            "usage,error-report,operational,suspected",
        ];
        let (code, _, err) = run(folder.path(), &args, "");
        assert_eq!(code, 0, "{release}: {err}");
        assert_eq!(taken(folder.path()), "", "{release}");
    }
}

#[test]
fn a_wrong_answer_of_a_pipe_is_an_error_with_its_question() {
    let folder = folder();
    for (answers, question, why) in [
        ("home\n99\n", "Which release does the system run?", "the catalog knows no release `99`"),
        (
            "home\n25.10\n192.0.2.10 2001:db8::10\n192.0.2.20\n",
            "From which addresses",
            "name the IPv6 addresses of these too",
        ),
        ("home\n25.10\n2001:db8::10\n", "Which addresses does the NAS have?", "name its IPv4 addresses too"),
        ("home\n25.10\nnas.example.org\n", "Which addresses does the NAS have?", "is no IPv4 or IPv6 address"),
        ("home\n25.10\n192.0.2.10/24\n", "Which addresses does the NAS have?", "write `192.0.2.0/24`"),
        ("home\n25.10\n192.0.2.10\n\nupdtes\n", "Which of these are in use?", "did you mean `updates`?"),
        ("home\n25.10\n192.0.2.10\n\nupdates\n*.example.org\n", "Which dns servers?", "is no single host"),
        ("home\n25.10\n192.0.2.10\n\nupdates\n\n\nnftable\n", "Where do the rules go?", "did you mean `nftables`?"),
        ("home\n25.10\n192.0.2.10\n\nupdates\n\n\npf\nem 1\n", "Which interface of the pf router", "em 1"),
    ] {
        let (code, out, err) = run(folder.path(), &["--no-resolve"], answers);
        assert!(code == 2 && out.is_empty() && err.contains("error[E005]"), "{answers:?}: {err}");
        let said = err.split("error[E005]").nth(1).unwrap();
        assert!(said.contains(question) && said.contains(why), "{answers:?}: {said}");
        assert!(is_empty(folder.path()), "{answers:?}");
    }
    let (code, _, err) = run(folder.path(), &[], "home\n25.10\n");
    assert!(code == 2 && err.contains("there is no answer to: Which addresses") && err.contains("--nas"), "{err}");
    for (flag, value) in [
        ("--release", "99"),
        ("--nas", "x"),
        ("--feature", "x"),
        ("--server", "dns"),
        ("--server", "dsn=192.0.2.1"),
        ("--server", "dns=a:b:c"),
        ("--target", "cilium"),
        ("--strict", "function"),
        ("--name", "a\"b"),
    ] {
        let (code, _, err) = run(folder.path(), &["--yes", "--nas", "192.0.2.10,2001:db8::1", flag, value], "");
        assert!(code == 2 && err.contains("error[E"), "{flag} {value}: {err}");
        assert!(is_empty(folder.path()), "{flag} {value}");
    }
}

#[test]
fn what_is_there_already_is_not_touched() {
    let folder = folder();
    fs::write(folder.path().join("outgate.yaml"), "mine").unwrap();
    let (code, _, err) = run(folder.path(), &["--yes", "--nas", "192.0.2.10"], "");
    assert!(code == 2 && err.contains("outgate.yaml is there already") && err.contains("-c FILE"), "{err}");
    assert_eq!(read(folder.path()), "mine");
    // Nor is what a link leads to, or would.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", folder.path().join("link.yaml")).unwrap();
        let (code, _, err) = run(folder.path(), &["-c", "link.yaml", "--yes", "--nas", "192.0.2.10"], "");
        assert!(code == 2 && err.contains("is there already"), "{err}");
    }
}

#[test]
fn no_answer_becomes_structure() {
    let hostile = [
        "a\"\nstrict: []",
        "a: b",
        "a # b",
        "- a",
        "{a: b}",
        "[a]",
        "*a",
        "&a b",
        "!!null",
        "|",
        ">",
        "%YAML",
        "---",
        "'a'",
        "\"a\"",
        "\\",
        "a\u{85}b",
        "a\u{2028}b",
        "a\u{0}b",
        "\u{1b}[31m",
        "\u{202e}a",
        "null",
        "~",
        "true",
        "1e3",
        "0x10",
        "=",
        "a\tb",
        "`a`",
    ];
    for text in hostile {
        // As a flag, as far as the system passes it at all.
        let folder = folder();
        if !text.contains('\0') {
            let args = ["--yes", "--no-resolve", "--nas", "192.0.2.10,2001:db8::10", "--name", text];
            let (code, _, _) = run(folder.path(), &args, "");
            if code == 0 {
                let site = serde_saphyr::from_str::<Value>(&read(folder.path())).unwrap()["site"].clone();
                assert_eq!(site.as_str(), Some(text), "{text:?}");
                assert_eq!(taken(folder.path()), "");
            } else {
                assert!(is_empty(folder.path()), "{text:?}");
            }
        }
        // And in every line of a pipe.
        let lines: Vec<&str> = ANSWERS.lines().collect();
        for at in 0..lines.len() {
            let folder = self::folder();
            let mut lines = lines.clone();
            lines[at] = text;
            let (code, out, err) = run(folder.path(), &["--no-resolve"], &(lines.join("\n") + "\n"));
            if code == 0 {
                assert_eq!(taken(folder.path()), "", "{at} {text:?}");
                let value = serde_saphyr::from_str::<Value>(&read(folder.path())).unwrap();
                let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
                assert_eq!(
                    keys,
                    ["clients", "features", "release", "servers", "site", "strict", "targets"],
                    "{at} {text:?}"
                );
            } else {
                assert!(is_empty(folder.path()), "{at} {text:?}: {out}{err}");
            }
            assert!(!err.contains('\u{1b}') && !out.contains('\u{1b}'), "{at} {text:?} reached the terminal");
        }
    }
}

#[test]
fn it_asks_the_names_writes_the_rules_and_says_what_is_next() {
    let folder = folder();
    let ips = |last: u8| vec![IpAddr::from([8, 8, 8, last]), format!("2606:4700::{last}").parse().unwrap()];
    let names = ["update.truenas.com", "usage.truenas.com", "agent-events.netdata.cloud"];
    let answers: Vec<_> = names.iter().zip(1..).map(|(name, i)| (*name, Behaviour::Answer(ips(i)))).collect();
    let server = Nameserver::start(&answers);
    let resolver = server.addr.to_string();
    let args = [
        "--yes",
        "--release",
        "25.10.2",
        "--nas",
        "192.0.2.10,2001:db8::10",
        "--feature",
        "updates",
        "--server",
        "dns=192.0.2.53",
        "--server",
        "ntp=192.0.2.123",
        "--target",
        "nftables,squid,opnsense",
        "--resolver",
        &resolver,
    ];
    let (code, out, err) = run(folder.path(), &args, "");
    assert!(code < 2, "{out}{err}");
    for said in [
        "outgate.yaml\n",
        "out/nftables/outgate.nft and 2 more\n",
        "\nNext:\n",
        "    check:  nft -c -f outgate.nft\n",
        "    load:   squid -k reconfigure",
        "opnsense: out/opnsense/apply.md has the steps",
    ] {
        assert!(out.contains(said), "{said}: {out}");
    }
    assert!(folder.path().join("outgate.lock").is_file());
    // Where no name can be asked the profile is there all the same, and it is said how to go on.
    let folder = self::folder();
    let args: Vec<&str> = args.iter().map(|arg| if *arg == resolver { "127.0.0.1:1" } else { arg }).collect();
    let (code, out, err) = run(folder.path(), &args, "");
    assert!(code == 2 && err.contains("E025"), "{out}{err}");
    assert!(out.contains("- outgate resolve, where name servers can be reached"), "{out}");
    assert!(folder.path().join("outgate.yaml").is_file() && !folder.path().join("outgate.lock").exists());
}

/// On a terminal of so many columns, without colours: how it ended, and the screen.
fn on_terminal(folder: &Path, columns: u16, args: &[&str], steps: &[(&str, &str)]) -> (i64, String) {
    terminal::run(folder, columns, &[&["init"], args].concat(), &[("NO_COLOR", "1")], steps)
}

/// What is asked and typed, in order; the release and a feature at first wrongly.
const TYPED: [(&str, &str); 12] = [
    ("What is this site called?", "home\n"),
    ("Which release", "25.1\n"),
    ("Which release", "25.10.2\n"),
    ("Which addresses does the NAS", "192.0.2.10\n"),
    ("From which addresses", "\n"),
    ("Which of these are in use?", "updtes\n"),
    ("Which of these are in use?", "updates\n"),
    ("Which dns servers?", "192.0.2.53\n"),
    ("Which ntp servers?", "\n"),
    ("Where do the rules go?", "nftables\n"),
    ("Which interface", "lan0\n"),
    ("What is to be blocked?", "1\n"),
];

#[test]
fn a_person_is_asked_again_and_sees_it_all_at_forty_columns() {
    if !has_python() {
        return;
    }
    for columns in [80, 40] {
        let folder = folder();
        let (code, screen) = on_terminal(folder.path(), columns, &["--no-resolve"], &TYPED);
        assert_eq!(code, 0, "{screen}");
        golden(&format!("terminal-{columns}.txt"), &screen);
        assert_eq!(taken(folder.path()), "");
        assert!(read(folder.path()).contains("ipv6: deny-interface"));
        // What was asked; what is printed at the end has paths, which are not broken.
        let asked = screen.split("outgate.yaml\n").next().unwrap();
        let widest = asked.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= usize::from(columns), "{widest} columns");
        let words: Vec<&str> = screen.split_whitespace().collect();
        assert!(words.join(" ").contains("did you mean `updates`?"), "{screen}");
    }
}

#[test]
fn whoever_breaks_off_has_written_nothing() {
    if !has_python() {
        return;
    }
    // At every question, by Ctrl-C and by Ctrl-D.
    for at in [0, 3, 11] {
        for (key, exit) in [("\u{3}", 130), ("\u{4}", 2)] {
            let folder = folder();
            let mut steps: Vec<(&str, &str)> = TYPED[..=at].to_vec();
            steps[at].1 = key;
            let (code, screen) = on_terminal(folder.path(), 80, &["--no-resolve"], &steps);
            assert_eq!(code, exit, "{at} {key:?}: {screen}");
            assert!(is_empty(folder.path()), "{at} {key:?}");
        }
    }
}

#[test]
fn what_cannot_be_an_answer_is_none() {
    let folder = folder();
    let said = |input: &[u8], why: &str| {
        let (code, out, err) = run_bytes(folder.path(), &["--no-resolve"], input);
        assert!(code == 2 && out.is_empty() && err.contains(why), "{out}{err}");
        assert!(is_empty(folder.path()));
    };
    said(b"h\xf6me\n", "it is not UTF-8");
    // A long line is one answer, and its end is not the next.
    said(&[&[b'a'; 9000], "\n25.10\n".as_bytes()].concat(), "it is too long for an answer");
    said(&[b'a'; 5000], "it is too long for an answer");
    said(b"", "there is no answer to: What is this site called?");
}

#[test]
fn jails_are_asked_of_where_they_are_in_use_and_the_usual_features_need_no_names() {
    let folder = folder();
    let input = "home\n13.3-U1.2\n192.0.2.10 2001:db8::10\n\nusual jails\n192.0.2.64/28 2001:db8:1::/64\n\n\nsquid\n\n";
    let (code, _, err) = run(folder.path(), &["--no-resolve"], input);
    assert_eq!(code, 0, "{err}");
    let text = read(folder.path());
    assert!(text.contains("  jails: [192.0.2.64/28, \"2001:db8:1::/64\"]\n"), "{text}");
    assert!(text.contains("  - updates ") && text.contains("  - jails "), "{text}");
    assert_eq!(taken(folder.path()), "");
    // Nobody has jails on SCALE: the question is not in the transcripts of 25.10.
    let folder = self::folder();
    let (code, _, err) = run(folder.path(), &["--no-resolve"], ANSWERS);
    assert!(code == 0 && !err.contains("jails"), "{err}");
}

#[test]
fn quiet_leaves_out_what_is_next() {
    let folder = folder();
    let args = ["-q", "--yes", "--no-resolve", "--nas", "192.0.2.10,2001:db8::10"];
    assert_eq!(run(folder.path(), &args, ""), (0, "outgate.yaml\n".to_owned(), String::new()));
}

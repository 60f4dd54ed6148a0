//! `outgate resolve` and `outgate generate` as processes: flags, two at once, killed at any moment, old answers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use outgate::lock::Lock;
use outgate::source::Sources;
use tempfile::TempDir;

mod support;
use support::nameserver::{Behaviour, Nameserver};

const PROFILE: &str = "site: runs
release: \"25.10.2\"
clients: {nas: [203.0.113.10, '2001:db8:10::10']}
features: []
servers: {dns: [{host: 203.0.113.53}], ntp: [{host: 203.0.113.123}]}
leave-out:
  - {callout: firstboot-truenas, reason: asks for a name of the vendor}
  - {callout: usage-truenas, reason: asks for a name of the vendor}
  - {callout: netdata-events, reason: asks for a name of the vendor}
extra:
  - {id: own, purpose: is asked for, origin: [nas], hosts: [one.example.org, two.example.org], ports: [443/tcp]}
targets: {nftables: {}}
";

/// 2026-11-21, and days after it, as `SOURCE_DATE_EPOCH`.
fn day(after: u64) -> String {
    (1_795_219_200 + after * 86_400).to_string()
}

fn outgate(args: &[&str], folder: &Path, today: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outgate"));
    command.args(args).current_dir(folder).env("NO_COLOR", "1").env("SOURCE_DATE_EPOCH", today);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str], folder: &Path, today: &str) -> (i32, String, String) {
    let Output { status, stdout, stderr } = outgate(args, folder, today).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn site() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("outgate.yaml"), PROFILE).unwrap();
    folder
}

fn lock_text(folder: &Path) -> String {
    fs::read_to_string(folder.join("outgate.lock")).unwrap()
}

fn parse(text: &str) -> Lock {
    let mut sources = Sources::default();
    let id = sources.add("outgate.lock", text);
    Lock::parse(&sources, id).unwrap()
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

/// A server that knows these two names.
fn server(one: &[&str], two: &[&str]) -> Nameserver {
    Nameserver::start(&[
        ("one.example.org", Behaviour::Answer(ips(one))),
        ("two.example.org", Behaviour::Answer(ips(two))),
    ])
}

const ONE: [&str; 2] = ["8.8.8.1", "2606:4700::1"];
const TWO: [&str; 2] = ["8.8.8.2", "2606:4700::2"];
const OTHER: [&str; 2] = ["8.8.8.3", "2606:4700::3"];

#[test]
fn a_dry_run_says_what_would_change_and_a_locked_one_fails_by_it() {
    let folder = site();
    let at = folder.path();
    let old = server(&ONE, &TWO);
    let old_addr = old.addr.to_string();
    let (code, out, _) = run(&["resolve", "--resolver", &old_addr, "--dry-run"], at, &day(0));
    assert_eq!(code, 0);
    assert!(out.contains("one.example.org gains 8.8.8.1\n") && out.ends_with("not written\n"), "{out}");
    assert!(!at.join("outgate.lock").exists());
    assert_eq!(run(&["resolve", "--resolver", &old_addr, "--locked"], at, &day(0)).0, 2, "there is no lock yet");
    assert_eq!(run(&["resolve", "--resolver", &old_addr], at, &day(0)).0, 0);
    let first = lock_text(at);
    // Another day, the same answers: locked, and not even the day moves.
    assert_eq!(run(&["resolve", "--resolver", &old_addr, "--locked"], at, &day(9)).0, 0);
    assert_eq!(lock_text(at), first);
    let new = server(&OTHER, &TWO);
    let new_addr = new.addr.to_string();
    let args = ["resolve", "--resolver", &new_addr];
    let (code, _, err) = run(&[&args[..], &["--locked"]].concat(), at, &day(9));
    assert_eq!(code, 2);
    assert!(err.contains("E033") && err.contains("one.example.org gains 8.8.8.3"), "{err}");
    assert_eq!(lock_text(at), first);
    let (code, out, _) = run(&[&args[..], &["--dry-run", "--format", "json"]].concat(), at, &day(9));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["written"]), (0, &serde_json::Value::Bool(false)));
    let changes: Vec<_> = json["changes"].as_array().unwrap().iter().map(|c| c["change"].as_str().unwrap()).collect();
    assert!(changes.contains(&"address-added") && changes.contains(&"address-missing"), "{changes:?}");
    assert_eq!(lock_text(at), first);
}

#[test]
fn offline_asks_nobody_and_drops_what_nobody_wants() {
    let folder = site();
    let at = folder.path();
    assert_eq!(run(&["resolve", "--offline"], at, &day(0)).0, 2, "there is no lock");
    let server = server(&ONE, &TWO);
    assert_eq!(run(&["resolve", "--resolver", &server.addr.to_string()], at, &day(0)).0, 0);
    drop(server);
    assert_eq!(run(&["resolve", "--offline", "--locked"], at, &day(3)).0, 0);
    fs::write(at.join("outgate.yaml"), PROFILE.replace(", two.example.org", "")).unwrap();
    let (code, _, err) = run(&["resolve", "--offline", "--locked"], at, &day(3));
    assert!(code == 2 && err.contains("two.example.org leaves"), "{code} {err}");
    assert_eq!(run(&["resolve", "--offline"], at, &day(3)).0, 0);
    let lock = parse(&lock_text(at));
    assert_eq!((lock.hosts.len(), lock.day.to_string()), (1, "2026-11-21".to_owned()), "nobody was asked");
    fs::write(at.join("outgate.yaml"), PROFILE).unwrap();
    let (code, _, err) = run(&["resolve", "--offline"], at, &day(3));
    assert!(code == 2 && err.contains("E024") && err.contains("two.example.org"), "{code} {err}");
}

#[test]
fn one_name_is_asked_and_a_strange_one_refused() {
    let folder = site();
    let at = folder.path();
    let old = server(&ONE, &TWO);
    assert_eq!(run(&["resolve", "--resolver", &old.addr.to_string()], at, &day(0)).0, 0);
    let new = server(&OTHER, &OTHER);
    let resolver = new.addr.to_string();
    let (code, _, err) = run(&["resolve", "--resolver", &resolver, "--update", "one.exmaple.org"], at, &day(1));
    assert!(code == 2 && err.contains("did you mean `one.example.org`?"), "{code} {err}");
    assert_eq!(run(&["resolve", "--resolver", &resolver, "--update", "one.example.org"], at, &day(1)).0, 0);
    let lock = parse(&lock_text(at));
    let counts: Vec<usize> = lock.hosts.values().map(|entry| entry.addresses.len()).collect();
    assert_eq!((counts, lock.day.to_string()), (vec![4, 2], "2026-11-21".to_owned()));
}

#[test]
fn old_answers_are_warned_of_and_then_refused() {
    let folder = site();
    let at = folder.path();
    let server = server(&ONE, &TWO);
    assert_eq!(run(&["resolve", "--resolver", &server.addr.to_string()], at, &day(0)).0, 0);
    let main = || fs::read_to_string(at.join("out/nftables/outgate.nft")).unwrap();
    assert_eq!(run(&["generate"], at, &day(15)).0, 0);
    let fresh = main();
    let (code, _, err) = run(&["generate"], at, &day(16));
    assert!(code == 1 && err.contains("W115"), "{code} {err}");
    assert_eq!(main(), fresh, "no clock in the files");
    let (code, _, err) = run(&["generate"], at, &day(31));
    assert!(code == 2 && err.contains("E032") && err.contains("31 days ago: more than 30"), "{code} {err}");
    assert_eq!(run(&["generate", "--check"], at, &day(31)).0, 2, "what cannot be made anew is not up to date");
    let (code, _, err) = run(&["generate", "--allow-stale"], at, &day(31));
    assert!(code == 1 && err.contains("W115"), "{code} {err}");
    assert!(main().contains("(--allow-stale)"), "the file does not say so");
    assert_eq!(run(&["generate", "--allow-stale"], at, &day(99)).0, 1);
    let later = main();
    assert!(later.contains("(--allow-stale)"));
    assert_eq!(run(&["generate", "--allow-stale"], at, &day(31)).0, 1);
    assert_eq!(main(), later, "no clock in the files");
    // A clock that is wrong is said, and an environment that makes no sense is an error.
    let (code, _, err) = run(&["generate"], at, "1700000000");
    assert!(code == 1 && err.contains("is this machine's clock right?"), "{code} {err}");
    assert_eq!(run(&["generate"], at, "yesterday").0, 2);
}

#[test]
fn a_lock_for_two_sites_is_kept_whole() {
    let folder = site();
    let at = folder.path();
    let second = PROFILE.replace("site: runs", "site: second").replace("one.example.org, ", "");
    fs::write(at.join("second.yaml"), &second).unwrap();
    let server = server(&ONE, &TWO);
    let resolver = server.addr.to_string();
    let both = ["resolve", "outgate.yaml", "second.yaml", "--resolver", &resolver];
    assert_eq!(run(&both, at, &day(0)).0, 0);
    let (code, _, err) = run(&["resolve", "-c", "second.yaml", "--resolver", &resolver], at, &day(2));
    assert!(code == 0 && err.contains("N210") && err.contains("`runs`"), "{code} {err}");
    assert_eq!(parse(&lock_text(at)).hosts.len(), 2, "the other site's name was lost");
    for profile in ["outgate.yaml", "second.yaml"] {
        let (code, _, err) = run(&["generate", "-c", profile, "--out", "elsewhere"], at, &day(3));
        assert_eq!(code, 0, "{err}");
    }
    let (code, _, err) =
        run(&["resolve", "-c", "second.yaml", "--resolver", &resolver, "--forget", "run"], at, &day(2));
    assert!(code == 2 && err.contains("did you mean `runs`?"), "{code} {err}");
    let forget = ["resolve", "-c", "second.yaml", "--resolver", &resolver, "--forget", "runs"];
    assert_eq!(run(&forget, at, &day(4)).0, 0);
    let lock = parse(&lock_text(at));
    assert_eq!((lock.hosts.len(), lock.day.to_string()), (1, "2026-11-25".to_owned()));
    // Two sites of one name cannot be told apart.
    fs::write(at.join("second.yaml"), second.replace("site: second", "site: runs")).unwrap();
    let (code, _, err) = run(&both, at, &day(4));
    assert!(code == 2 && err.contains("give each its own `site:`"), "{code} {err}");
    fs::create_dir(at.join("below")).unwrap();
    fs::write(at.join("below/third.yaml"), second).unwrap();
    let (code, _, err) = run(&["resolve", "outgate.yaml", "below/third.yaml", "--resolver", &resolver], at, &day(4));
    assert!(code == 2 && err.contains("--lock FILE"), "{code} {err}");
}

/// Runs two at once; the server is slow, so that they meet.
#[test]
fn of_two_runs_at_once_nothing_is_lost() {
    let folder = site();
    let at = folder.path();
    let old = server(&ONE, &TWO);
    assert_eq!(run(&["resolve", "--resolver", &old.addr.to_string()], at, &day(0)).0, 0);
    let slow = Duration::from_millis(300);
    let new = Nameserver::start(&[
        ("one.example.org", Behaviour::Slow(slow, ips(&OTHER))),
        ("two.example.org", Behaviour::Slow(slow, ips(&OTHER))),
    ]);
    let resolver = new.addr.to_string();
    let start = |name: &str| -> Child {
        outgate(&["resolve", "--resolver", &resolver, "--update", name], at, &day(1)).spawn().unwrap()
    };
    let runs = [start("one.example.org"), start("two.example.org")];
    let mut waited = 0;
    for run in runs {
        let output = run.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{err}");
        waited += usize::from(err.contains("waiting for another run"));
    }
    assert_eq!(waited, 1, "one of the two waits");
    let lock = parse(&lock_text(at));
    let counts: Vec<usize> = lock.hosts.values().map(|entry| entry.addresses.len()).collect();
    assert_eq!(counts, [4, 4], "what one of them wrote was lost");
}

#[test]
fn a_lock_that_somebody_changed_meanwhile_is_not_overwritten() {
    let folder = site();
    let at = folder.path();
    let old = server(&ONE, &TWO);
    assert_eq!(run(&["resolve", "--resolver", &old.addr.to_string()], at, &day(0)).0, 0);
    let slow = Behaviour::Slow(Duration::from_millis(800), ips(&OTHER));
    let new = Nameserver::start(&[("one.example.org", slow.clone()), ("two.example.org", slow)]);
    let child = outgate(&["resolve", "--resolver", &new.addr.to_string()], at, &day(1)).spawn().unwrap();
    // Once it asks it has read the old lock.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while new.total() == 0 {
        assert!(std::time::Instant::now() < deadline, "nobody asked");
        thread::sleep(Duration::from_millis(10));
    }
    // An editor or a checkout does not ask for our hold.
    let theirs = lock_text(at).replace("2026-11-21", "2026-11-20");
    fs::write(at.join("outgate.lock"), &theirs).unwrap();
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && err.contains("somebody else changed it meanwhile"), "{err}");
    assert_eq!(lock_text(at), theirs);
}

#[test]
fn killed_at_any_moment_the_lock_is_the_old_one_or_the_new_one() {
    const KILLS: u32 = 60;
    const MOST: u32 = 400;
    let folder = site();
    let at = folder.path();
    let old = server(&ONE, &TWO);
    assert_eq!(run(&["resolve", "--resolver", &old.addr.to_string()], at, &day(0)).0, 0);
    let before = lock_text(at);
    let new = server(&OTHER, &OTHER);
    let resolver = new.addr.to_string();
    let start = std::time::Instant::now();
    assert_eq!(run(&["resolve", "--resolver", &resolver], at, &day(1)).0, 0);
    let whole = start.elapsed();
    let after = lock_text(at);
    assert_ne!(before, after);
    let (mut olds, mut news) = (0, 0);
    // On a busy machine a run takes now longer, now shorter: until both ends were met, within bounds.
    for i in 0..MOST {
        if i >= KILLS && olds > 0 && news > 0 {
            break;
        }
        fs::write(at.join("outgate.lock"), &before).unwrap();
        let mut child = outgate(&["resolve", "--resolver", &resolver], at, &day(1)).spawn().unwrap();
        // From the start to somewhat beyond the end; most of it around the end, where the file is replaced.
        thread::sleep(whole * (i % 20 + 1 + i / KILLS * 4) / 16);
        let _ = child.kill();
        child.wait().unwrap();
        match lock_text(at) {
            text if text == before => olds += 1,
            text if text == after => news += 1,
            text => panic!("neither the old lock nor the new one:\n{text}"),
        }
    }
    assert!(olds > 0 && news > 0, "{olds} old, {news} new: the kills did not cover the run");
    // Whoever was killed holds nothing any more.
    assert_eq!(run(&["resolve", "--resolver", &resolver], at, &day(1)).0, 0);
}

//! Whatever happens to a test, its namespaces, and what runs in them, are gone afterwards.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::panic::catch_unwind;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::support::enforcers::{NAMESPACES, require_all};
use super::support::namespace::Namespace;

fn ready() -> bool {
    require_all(&["ip", NAMESPACES])
}

/// The kernel's name of a namespace's network: `net:[4026532281]`.
fn network(namespace: &Namespace) -> String {
    let link = fs::read_link(format!("/proc/{}/ns/net", namespace.pid())).expect("the namespace is there");
    link.to_string_lossy().into_owned()
}

/// How many processes are in that network.
fn processes_in(network: &str) -> usize {
    let all = fs::read_dir("/proc").expect("there is /proc").flatten();
    let links = all.filter_map(|process| fs::read_link(process.path().join("ns/net")).ok());
    links.filter(|link| link.to_string_lossy() == network).count()
}

/// Whether a network comes to have no process, soon.
fn empties(network: &str) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while processes_in(network) > 0 {
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// A namespace with a process that would run for minutes, started; its network.
fn busy() -> (Namespace, String) {
    let namespace = Namespace::new();
    let network = network(&namespace);
    let mut sleeper =
        namespace.command(300, "sh").args(["-c", "echo up; exec sleep 300"]).stdout(Stdio::piped()).spawn();
    let stdout = sleeper.as_mut().expect("nsenter starts").stdout.take().expect("its output is a pipe");
    BufReader::new(stdout).read_line(&mut String::new()).expect("the sleeper is up");
    // The holder, `timeout` and `sleep`.
    assert!(processes_in(&network) >= 3, "the count sees what is there");
    thread::spawn(move || sleeper.map(|mut child| child.wait()));
    (namespace, network)
}

#[test]
fn gone_when_dropped() {
    if !ready() {
        return;
    }
    let (namespace, network) = busy();
    drop(namespace);
    assert!(empties(&network));
}

#[test]
fn gone_after_a_panic() {
    if !ready() {
        return;
    }
    let panicked = catch_unwind(|| {
        let (_namespace, network) = busy();
        std::panic::panic_any(network);
    });
    let payload = panicked.expect_err("it panics");
    assert!(empties(payload.downcast_ref::<String>().expect("the network's name")));
}

#[test]
fn gone_when_the_test_is_killed() {
    if !ready() {
        return;
    }
    let mut test = Command::new(std::env::current_exe().expect("this test has a file"))
        .args(["--exact", "namespace::to_be_killed", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test starts again");
    let lines = BufReader::new(test.stdout.take().expect("its output is a pipe")).lines();
    let line = lines.map_while(Result::ok).find(|line| line.contains("net:["));
    let line = line.expect("the other test names its network");
    let network = line.get(line.find("net:[").unwrap()..).unwrap().to_owned();
    assert!(processes_in(&network) >= 3);
    test.kill().expect("it is there to be killed");
    test.wait().expect("it ends");
    assert!(empties(&network));
}

#[test]
#[ignore = "the victim of `gone_when_the_test_is_killed`"]
#[expect(clippy::print_stdout, reason = "its output is how the other test hears of it")]
fn to_be_killed() {
    let (_namespace, network) = busy();
    println!("{network}");
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn commands_end_in_time() {
    if !ready() {
        return;
    }
    let started = Instant::now();
    let status = Namespace::new().command(1, "sleep").arg("60").status().expect("nsenter starts");
    assert_eq!(status.code(), Some(124));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn nothing_but_loopback() {
    if !ready() {
        return;
    }
    let links = Namespace::new().command(5, "ip").args(["-brief", "link"]).output().expect("nsenter starts");
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    let real =
        |line: &&str| line.contains("link/ether") || line.split(['@', ' ']).next().is_some_and(|n| n.starts_with('e'));
    assert!(links.starts_with("lo "), "{links}");
    assert_eq!(links.lines().find(real), None);
}

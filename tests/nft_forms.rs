//! The forms of the nftables target beside the plain one, in the kernel: sets refilled alone, audit, clients by
//! hardware address and interface, names that dnsmasq feeds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

mod support;
use support::enforcers;
use support::namespace::{Namespace, said};
use support::netns::{self, Flow, Lab};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// The home lab with its profile changed, its files generated; with exit code and messages.
fn generate(changes: &[(&str, &str)]) -> (TempDir, Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut profile = fs::read_to_string(example("home-lab").join("outgate.yaml")).unwrap();
    for (from, to) in changes {
        assert!(profile.contains(from), "the profile has no `{from}` to change");
        profile = profile.replace(from, to);
    }
    fs::write(folder.path().join("outgate.yaml"), &profile).unwrap();
    fs::copy(example("home-lab").join("outgate.lock"), folder.path().join("outgate.lock")).unwrap();
    let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_outgate"))
        .args(["generate", "--target", "nftables"])
        .current_dir(folder.path())
        .env("NO_COLOR", "1")
        .env("SOURCE_DATE_EPOCH", "1795219200")
        .output()
        .unwrap();
    (folder, status.code(), String::from_utf8(stderr).unwrap())
}

fn file(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join("out/nftables").join(name)
}

const NAS: [&str; 2] = ["192.0.2.10", "2001:db8:10::10"];
const STRANGER: [&str; 2] = ["192.0.2.99", "2001:db8:10::99"];
/// Of the documentation zone: the update server, and telemetry that strict mode blocks.
const UPDATE: [&str; 2] = ["update.truenas.com", "443"];

/// The addresses of a name in the example's lock.
fn addresses(name: &str) -> Vec<IpAddr> {
    let lock = fs::read_to_string(example("home-lab").join("outgate.lock")).unwrap();
    let entry = lock.split(&format!("\"{name}\": {{")).nth(1).unwrap().split("\n}").next().unwrap().to_owned();
    let found: Vec<IpAddr> = entry.split('"').filter_map(|word| word.parse().ok()).collect();
    assert!(!found.is_empty(), "{name} has no address");
    found
}

/// Flows from one of these clients to every one of these addresses, each with what should become of it.
fn to(clients: &[&str], servers: &[IpAddr], port: u16, pass: bool) -> Vec<(Flow, bool)> {
    let mut flows = Vec::new();
    for client in clients {
        for server in servers.iter().filter(|server| server.is_ipv4() != client.contains(':')) {
            flows.push((Flow::tcp(client, &server.to_string(), port), pass));
        }
    }
    flows
}

fn lab() -> Lab {
    Lab::new(&[NAS, STRANGER].concat(), &["0.0.0.0/0", "::/0"])
}

fn assert_all(lab: &Lab, expected: &[(Flow, bool)]) {
    assert!(expected.len() > 1);
    let surprises = lab.surprises(expected);
    assert!(surprises.is_empty(), "{} of {}:\n{}", surprises.len(), expected.len(), surprises.join("\n"));
}

#[test]
fn sets_are_refilled_alone_and_only_for_the_rules_they_are_for() {
    if !netns::ready() {
        return;
    }
    let (site, code, err) = generate(&[]);
    assert_eq!(code, Some(0), "{err}");
    let lab = lab();
    let (main, sets) = (file(&site, "outgate.nft"), file(&site, "outgate-sets.nft"));
    assert!(lab.load_nft(&sets).is_err(), "there is no table yet");
    lab.load_nft(&main).unwrap();
    let list = || lab.nft(&["-s", "list", "ruleset"]).unwrap();
    let before = list();
    lab.load_nft(&sets).unwrap();
    assert_eq!(list(), before, "the sets are those of the main file");

    // An address fewer in the sets: refilled, rules and counters as they were.
    let servers = addresses(UPDATE[0]);
    assert_all(&lab, &to(&NAS, &servers, 443, true));
    let counters = || lab.nft(&["list", "chain", "inet", "outgate", "allowed"]).unwrap();
    let counted = counters();
    let some = counted.split("counter packets ").skip(1).filter(|rest| !rest.starts_with("0 ")).count();
    assert!(some >= 2, "nothing was counted: {counted}");
    let gone = servers[0];
    let text = fs::read_to_string(&sets).unwrap();
    let thinner: Vec<&str> =
        text.lines().filter(|line| line.trim().trim_end_matches(',') != gone.to_string()).collect();
    assert_eq!(thinner.len() + 1, text.lines().count());
    fs::write(&sets, thinner.join("\n") + "\n").unwrap();
    lab.load_nft(&sets).unwrap();
    assert_eq!(counters(), counted, "a refill is no reason to count anew");
    assert_all(&lab, &[to(&NAS, &[gone], 443, false), to(&NAS, &servers[1..], 443, true)].concat());

    // Rules of another profile: its sets do not fit, and nothing at all is changed.
    let (other, code, err) = generate(&[("ports: [22/tcp]", "ports: [22/tcp, 2222/tcp]")]);
    assert_eq!(code, Some(0), "{err}");
    let before = list();
    assert!(lab.load_nft(&file(&other, "outgate-sets.nft")).is_err(), "sets of other rules were taken");
    assert_eq!(list(), before);
    lab.load_nft(&file(&other, "outgate.nft")).unwrap();
    lab.load_nft(&file(&other, "outgate-sets.nft")).unwrap();
    assert!(lab.load_nft(&sets).is_err(), "the sets of the old rules were taken");
}

#[test]
fn audit_blocks_nothing_and_counts_what_it_would_deny() {
    if !netns::ready() {
        return;
    }
    let (site, code, err) = generate(&[("    hook: forward\n", "    hook: forward\n    mode: audit\n")]);
    assert!(code == Some(1) && err.contains("W120"), "{code:?} {err}");
    let lab = lab();
    lab.load_nft(&file(&site, "outgate.nft")).unwrap();
    let strangers: Vec<IpAddr> = ["203.0.113.1", "2001:db8:ffff::1"].map(|a| a.parse().unwrap()).into();
    let telemetry = addresses("usage.truenas.com");
    let (denied, blocked) = (to(&NAS, &strangers, 443, true), to(&NAS, &telemetry, 443, true));
    assert_all(&lab, &[denied.clone(), blocked.clone(), to(&NAS, &addresses(UPDATE[0]), 443, true)].concat());
    for (chain, flows) in [("denied", &denied), ("blocked", &blocked)] {
        let text = lab.nft(&["list", "chain", "inet", "outgate", chain]).unwrap();
        assert!(text.contains(&format!("counter packets {}", flows.len())), "{} flows: {text}", flows.len());
        assert!(text.contains(&format!("outgate audit {chain}: ")), "{text}");
    }
}

#[test]
fn a_client_is_known_by_its_hardware_address_or_its_interface() {
    if !netns::ready() {
        return;
    }
    let lab = lab();
    let link = said(lab.client().command(5, "ip").args(["-o", "link", "show", "cli0"]).output()).unwrap();
    let mac = link.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_uppercase();
    let (update, strange) =
        (addresses(UPDATE[0]), vec!["203.0.113.1".parse().unwrap(), "2001:db8:ffff::1".parse().unwrap()]);
    // Without it the stranger's address is nobody's, and nothing of his is ours to deny.
    let (plain, ..) = generate(&[]);
    lab.load_nft(&file(&plain, "outgate.nft")).unwrap();
    assert_all(&lab, &[to(&STRANGER, &strange, 443, true), to(&NAS, &strange, 443, false)].concat());
    for mark in [format!("{{mac: [\"{mac}\"]}}"), "{interface: [lan0, lan9]}".to_owned()] {
        let setting = format!("    hook: forward\n    clients: {{nas: {mark}}}\n");
        let (site, code, err) = generate(&[("    hook: forward\n", &setting)]);
        assert_eq!(code, Some(0), "{err}");
        lab.nft(&["delete", "table", "inet", "outgate"]).unwrap();
        lab.load_nft(&file(&site, "outgate.nft")).unwrap();
        lab.load_nft(&file(&site, "outgate-sets.nft")).unwrap();
        let everybody = [NAS, STRANGER].concat();
        let allowed = to(&everybody, &update, 443, true);
        let ports = to(&everybody, &update, 444, false);
        assert_all(&lab, &[allowed, ports, to(&everybody, &strange, 443, false)].concat());
    }
    // Another machine's address is not this one.
    let other = "    hook: forward\n    clients: {nas: {mac: [\"02:00:5e:10:00:01\"]}}\n";
    let (site, code, err) = generate(&[("    hook: forward\n", other)]);
    assert_eq!(code, Some(0), "{err}");
    lab.nft(&["delete", "table", "inet", "outgate"]).unwrap();
    lab.load_nft(&file(&site, "outgate.nft")).unwrap();
    assert_all(&lab, &to(&STRANGER, &strange, 443, true));
}

/// A dnsmasq in a namespace; it ends with it.
struct Dnsmasq(Child);

impl Dnsmasq {
    fn start(namespace: &Namespace, config: &Path) -> Self {
        // What is killed from outside is the shell's parent alone: the shell ends it when its input does.
        let program = enforcers::find("dnsmasq").unwrap();
        let options = "--keep-in-foreground --user=root --no-hosts --no-resolv --pid-file=";
        let (program, config) = (program.display(), config.display());
        let script = format!("{program} {options} --conf-file={config} & read -r _; kill $!; wait");
        let mut command = namespace.command(60, "sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Asks a name server in the lab for one name, as a client does: the addresses of both families.
fn ask(lab: &Lab, server: &str, name: &str) -> Vec<String> {
    const SCRIPT: &str = "
import socket, struct, sys
server, name = sys.argv[1:]
for kind in (1, 28):
    labels = b''.join(bytes([len(l)]) + l.encode() for l in name.split('.'))
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(0.5)
    for i in range(20):
        s.sendto(struct.pack('>HHHHHH', 7, 0x100, 1, 0, 0, 0) + labels + b'\\0' + struct.pack('>HH', kind, 1), (server, 53))
        try: data = s.recv(4096)
        except OSError: continue
        if data[3] & 15 == 0: break
    else: sys.exit('no answer')
    size = {1: 4, 28: 16}[kind]
    for i in range(len(data) - size - 2 + 1):
        if data[i:i + 10][0:2] == b'\\xc0\\x0c' and data[i + 2:i + 6] == struct.pack('>HH', kind, 1):
            print(socket.inet_ntop({1: socket.AF_INET, 28: socket.AF_INET6}[kind], data[i + 12:i + 12 + size]))
";
    let output = lab.client().command(20, "python3").args(["-c", SCRIPT, server, name]).output();
    said(output).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn names_that_dnsmasq_feeds_are_let_out_once_they_were_asked_for() {
    if !netns::ready() || !enforcers::require("dnsmasq") {
        return;
    }
    let extra = "extra:\n  - id: moving\n    purpose: Names of a pool that cannot be listed.\n    origin: [nas]\n    \
                 hosts: [cdn.moving.example, \"*.wild.example\"]\n    ports: [443/tcp]\n";
    let setting = "    hook: forward\n    by-dns: [cdn.moving.example, \"*.wild.example\"]\n";
    let (site, code, err) = generate(&[("extra:\n", extra), ("    hook: forward\n", setting)]);
    // A name that is in no lock and a wildcard, and no complaint but the note of what is let out with them.
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("N211") && !err.contains("W104"), "{err}");
    let lab = lab();
    lab.load_nft(&file(&site, "outgate.nft")).unwrap();

    // The Internet's server: what it says of its own is what a resolver would find.
    let cdn: [IpAddr; 2] = ["198.51.100.201".parse().unwrap(), "2001:db8:201::1".parse().unwrap()];
    let wild: [IpAddr; 2] = ["198.51.100.202".parse().unwrap(), "2001:db8:202::1".parse().unwrap()];
    let other: [IpAddr; 2] = ["198.51.100.203".parse().unwrap(), "2001:db8:203::1".parse().unwrap()];
    let upstream = site.path().join("upstream.conf");
    let records = [("cdn.moving.example", cdn), ("a.b.wild.example", wild), ("cdn.other.example", other)];
    let records: String =
        records.iter().map(|(name, [v4, v6])| format!("host-record={name},{v4},{v6},300\n")).collect();
    fs::write(&upstream, format!("listen-address=100.127.255.6\nbind-interfaces\n{records}")).unwrap();
    let _upstream = Dnsmasq::start(lab.internet(), &upstream);
    let config = site.path().join("dnsmasq.conf");
    let fragment = fs::read_to_string(file(&site, "outgate-dnsmasq.conf")).unwrap();
    let head = "listen-address=100.127.255.1\nbind-interfaces\nserver=100.127.255.6\n";
    fs::write(&config, format!("{head}{fragment}")).unwrap();
    let resolver = Dnsmasq::start(lab.router(), &config);

    let from_nas = |servers: &[IpAddr], pass| to(&NAS, servers, 443, pass);
    assert_all(&lab, &[from_nas(&cdn, false), from_nas(&wild, false)].concat());
    let server = "100.127.255.1";
    for (name, addrs) in [("cdn.moving.example", cdn), ("a.b.wild.example", wild), ("cdn.other.example", other)] {
        assert_eq!(ask(&lab, server, name), addrs.map(|a| a.to_string()), "{name}");
    }
    // The element is there before the answer.
    let allowed = [from_nas(&cdn, true), from_nas(&wild, true)].concat();
    let denied = [from_nas(&other, false), to(&NAS, &[cdn, wild].concat(), 80, false)].concat();
    assert_all(&lab, &[allowed.clone(), denied.clone()].concat());

    // What dnsmasq has in its cache it adds to no set, so a reload must not empty them.
    for name in ["outgate.nft", "outgate-sets.nft", "outgate.nft"] {
        lab.load_nft(&file(&site, name)).unwrap();
        assert_all(&lab, &[allowed.clone(), denied.clone()].concat());
    }
    // Lost with the whole table, they come back with dnsmasq's restart, as its file says.
    lab.nft(&["flush", "ruleset"]).unwrap();
    lab.load_nft(&file(&site, "outgate.nft")).unwrap();
    ask(&lab, server, "cdn.moving.example");
    assert_all(&lab, &from_nas(&cdn, false));
    drop(resolver);
    let _resolver = Dnsmasq::start(lab.router(), &config);
    ask(&lab, server, "cdn.moving.example");
    assert_all(&lab, &from_nas(&cdn, true));
}

#[test]
fn settings_that_do_not_fit_together_are_refused() {
    let bad = [
        ("    hook: output\n    clients: {nas: {interface: [lan0]}}\n", "has no hardware address"),
        ("    hook: forward\n    clients: {jails: {interface: [lan0]}}\n", "no clients of origin `jail`"),
        ("    hook: forward\n    clients: {nas: {mac: [\"01:00:5e:00:00:01\"]}}\n", "no multicast"),
        ("    hook: forward\n    clients: {nas: {interface: [\"lan0\\\" accept\"]}}\n", "an interface name"),
        ("    hook: forward\n    by-dns: [nobody.example.org]\n", "no rule of this site names"),
        ("    hook: forward\n    by-dns: [usage.truenas.com]\n", "is blocked"),
        ("    hook: forward\n    by-dns: [192.0.2.0/24]\n", "is no name"),
        ("    hook: forward\n    mode: audits\n", "did you mean `audit`?"),
    ];
    for (setting, message) in bad {
        let (folder, code, err) = generate(&[("    hook: forward\n", setting)]);
        assert!(code == Some(2) && err.contains(message), "{setting}: {code:?} {err}");
        assert!(!folder.path().join("out").exists());
    }
}

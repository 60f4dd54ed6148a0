//! Blocked and pinned names, asked of real name servers that have read the files: Unbound (the include, and the response
//! policy zone) and dnsmasq (the include, and the hosts file). Behind each stands a name server of the test that would
//! answer everything, with other addresses than the lock has, and counts what it is asked.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use serde_json::Value;
use tempfile::TempDir;

mod support;
use support::enforcers::{find, require};
use support::nameserver::{Behaviour, Nameserver};

/// How long a name server may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

// The site.

/// What is to become of a name, asked as it stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// No address, and nobody is asked.
    Blocked,
    /// The addresses of the lock, of whichever family there are, and nobody is asked; without pins as `Live`.
    Pinned(&'static [&'static str]),
    /// What the name servers answer.
    Live,
}

use Fate::{Blocked, Live, Pinned};

const FATES: &[(&str, Fate)] = &[
    // A blocked name, however it is spelled, and what is below it.
    ("blocked.example", Blocked),
    ("BLOCKED.EXAMPLE", Blocked),
    ("bLoCkEd.ExAmPlE", Blocked),
    ("sub.blocked.example", Blocked),
    ("a.b.c.blocked.example", Blocked),
    // Its neighbours.
    ("xblocked.example", Live),
    ("blocked.example.org", Live),
    ("blocked.other.example", Live),
    ("deep.parent.example", Blocked),
    ("parent.example", Live),
    ("beside.parent.example", Live),
    // Wanted names below it, and what is below those.
    ("ok.blocked.example", Pinned(&["192.0.2.31", "2001:db8:31::1"])),
    ("OK.Blocked.Example", Pinned(&["192.0.2.31", "2001:db8:31::1"])),
    ("v4.blocked.example", Pinned(&["192.0.2.32"])),
    ("any.open.blocked.example", Live),
    ("a.b.open.blocked.example", Live),
    // Blocked itself, while all below it is wanted.
    ("twin.example", Blocked),
    ("a.twin.example", Live),
    ("a.b.twin.example", Live),
    // Wanted as a wildcard, blocked within it.
    ("in.cover.example", Blocked),
    ("out.cover.example", Live),
    ("a.in.cover.example", Live),
    ("cover.example", Live),
    // Blocked as a wildcard, with a name that is wanted.
    ("half.example", Pinned(&["192.0.2.33"])),
    ("a.half.example", Blocked),
    ("a.b.half.example", Blocked),
    ("xhalf.example", Live),
    ("a.wild.example", Blocked),
    ("A.B.wild.example", Blocked),
    // Denied to some, allowed to others.
    ("some.example", Pinned(&["192.0.2.34"])),
    ("for-jail.wild.example", Pinned(&["192.0.2.35", "2001:db8:35::1"])),
    ("a.all-jail.example", Live),
    // Pinned: both families, several, one alone.
    ("pin.example", Pinned(&["192.0.2.36", "192.0.2.37", "2001:db8:36::1", "2001:db8:36::2", "2001:db8:36::3"])),
    ("PIN.example", Pinned(&["192.0.2.36", "192.0.2.37", "2001:db8:36::1", "2001:db8:36::2", "2001:db8:36::3"])),
    ("v4.example", Pinned(&["192.0.2.38"])),
    ("v6.example", Pinned(&["2001:db8:38::1"])),
    ("a.pin.example", Live),
    ("a.v4.example", Live),
    ("a.b.v6.example", Live),
    ("xpin.example", Live),
    // Wanted, and no answer in the lock.
    ("gone.example", Live),
    // Wanted, by way of names below a blocked one, and of a blocked one.
    ("chain.example", Pinned(&["192.0.2.39"])),
    ("edge.blocked.example", Live),
    ("via.example", Pinned(&["192.0.2.40"])),
    // Nobody speaks of it.
    ("other.example", Live),
];

/// Where the names lead when they are asked for later.
const LIVE: [&str; 2] = ["198.51.100.99", "2001:db8:99::99"];

/// What the name itself comes to where only those below it are blocked: Unbound blocks it with them.
const ABOVE_A_WILDCARD: &str = "wild.example";

const PROFILE: &str = "\
site: names
release: birch
clients:
  nas: [203.0.113.10, '2001:db8:10::10']
  jails: [203.0.113.20, '2001:db8:10::20']
features: []
strict: [usage]
answers: {allow: [documentation], max-age: 3650}
extra:
  - {id: deny-names, purpose: p, class: usage, origin: [nas, jail], ports: [443/tcp], hosts: [blocked.example, deep.parent.example, twin.example, in.cover.example]}
  - {id: deny-wild, purpose: p, class: usage, origin: [nas], ports: [443/tcp], hosts: ['*.half.example', '*.wild.example', '*.all-jail.example', some.example]}
  - {id: deny-addr, purpose: p, class: usage, origin: [nas], ports: [443/tcp], hosts: [203.0.113.200]}
  - {id: wanted, purpose: p, origin: [nas], ports: [443/tcp], hosts: [ok.blocked.example, v4.blocked.example, '*.open.blocked.example', '*.twin.example', '*.cover.example', half.example, pin.example, v4.example, v6.example, gone.example, chain.example, via.example]}
  - {id: of-jails, purpose: p, origin: [jail], ports: [443/tcp], hosts: [some.example, for-jail.wild.example, '*.all-jail.example']}
";

/// The name server the lock is made with.
fn for_the_lock() -> Nameserver {
    let addrs = |texts: &[&str]| -> Vec<IpAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    let mut names: Vec<(&str, Behaviour)> = vec![("stats.example.net", Behaviour::NoData)];
    for (name, fate) in FATES.iter().filter(|(name, _)| *name == name.to_ascii_lowercase()) {
        if let Pinned(texts) = fate {
            let chain = match *name {
                "chain.example" => vec!["edge.blocked.example".to_owned()],
                "via.example" => vec!["blocked.example".to_owned()],
                _ => vec![],
            };
            names.push((name, Behaviour::Chain(chain, addrs(texts))));
        }
    }
    for name in ["blocked.example", "deep.parent.example", "twin.example", "in.cover.example"] {
        names.push((name, Behaviour::Answer(addrs(&["198.51.100.1", "2001:db8:51::1"]))));
    }
    Nameserver::start(&names)
}

/// The one that answers everything later.
fn live() -> Nameserver {
    let live: Vec<IpAddr> = LIVE.map(|text| text.parse().unwrap()).into();
    let lower: BTreeSet<String> = FATES.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let more = ["up.example", ABOVE_A_WILDCARD];
    let mut names: BTreeMap<&str, Behaviour> =
        lower.iter().map(String::as_str).chain(more).map(|name| (name, Behaviour::Answer(live.clone()))).collect();
    for (name, alias) in [
        ("chain.example", "edge.blocked.example"),
        ("via.example", "blocked.example"),
        ("alias.example", "blocked.example"),
        ("low-alias.example", "sub.blocked.example"),
    ] {
        names.insert(name, Behaviour::Chain(vec![alias.to_owned()], live.clone()));
    }
    Nameserver::start(&names.into_iter().collect::<Vec<_>>())
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

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The site with these targets, resolved and generated.
fn site(targets: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("outgate.yaml"), format!("{PROFILE}targets: {{{targets}}}\n")).unwrap();
    let server = for_the_lock();
    let catalog = root().join("examples/other-product/catalog");
    let catalog = catalog.to_str().unwrap();
    // A name that does not exist and an alias of a blocked one are warnings, and meant to be there.
    let output = outgate(&["resolve", "--catalog", catalog, "--resolver", &server.addr.to_string()], folder.path());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let output = outgate(&["generate", "--catalog", catalog], folder.path());
    assert!(output.status.code().is_some_and(|code| code < 2), "{}", stderr(&output));
    folder
}

const ALL: &str = "unbound: {}, dnsmasq: {}, rpz: {}, hosts: {}";
const NO_PINS: &str = "unbound: {pins: none}, dnsmasq: {pins: none}, rpz: {pins: none}";

// The servers.

/// A name server that runs; ended when dropped.
struct Server {
    addr: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a program with the configuration made for a port and a folder, and waits until it answers.
    fn start(program: &str, args: &[&str], config: impl Fn(u16, &Path) -> String) -> Self {
        let program = find(program).unwrap();
        let mut said = String::new();
        // Another process may take the port between its choice and the start: then it is tried with another.
        for _ in 0..3 {
            let folder = tempfile::tempdir().unwrap();
            let port = free_port();
            let file = folder.path().join("server.conf");
            fs::write(&file, config(port, folder.path())).unwrap();
            let log = fs::File::create(folder.path().join("log")).unwrap();
            let child = Command::new(&program)
                .args(args)
                .arg(&file)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap();
            let mut server = Self { addr: (Ipv4Addr::LOCALHOST, port).into(), child, _folder: folder };
            let end = Instant::now() + PATIENCE;
            while Instant::now() < end && matches!(server.child.try_wait(), Ok(None)) {
                if ask(server.addr, "up.example", RecordType::A).is_some_and(|answer| answer.is(&[LIVE[0]])) {
                    return server;
                }
                thread::sleep(Duration::from_millis(20));
            }
            said = fs::read_to_string(server._folder.path().join("log")).unwrap_or_default();
        }
        panic!("{} did not start:\n{said}", program.display());
    }

    fn unbound(file: &Path, live: SocketAddr) -> Self {
        let include = format!("include: \"{}\"\n", file.display());
        Self::start("unbound", &["-d", "-c"], |port, folder| unbound_conf(port, folder, live, "iterator", &include))
    }

    fn unbound_with_zone(file: &Path, live: SocketAddr) -> Self {
        let zone = format!("rpz:\n  name: \"rpz.outgate\"\n  zonefile: \"{}\"\n", file.display());
        Self::start("unbound", &["-d", "-c"], |port, folder| unbound_conf(port, folder, live, "respip iterator", &zone))
    }

    fn dnsmasq(line: &str, live: SocketAddr) -> Self {
        Self::start("dnsmasq", &["--keep-in-foreground", "-C"], |port, _| {
            let root = fs::metadata("/proc/self").unwrap().uid() == 0;
            let user = if root { "user=root\n" } else { "" };
            format!(
                "port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\npid-file=\nlog-facility=-\n\
                 {user}server=127.0.0.1#{}\n{line}\n",
                live.port()
            )
        })
    }
}

fn unbound_conf(port: u16, folder: &Path, live: SocketAddr, modules: &str, more: &str) -> String {
    format!(
        "server:\n  interface: 127.0.0.1\n  port: {port}\n  username: \"\"\n  chroot: \"\"\n  directory: \"{}\"\n  \
         pidfile: \"\"\n  use-syslog: no\n  do-not-query-localhost: no\n  num-threads: 1\n  module-config: \"{modules}\"\n\
         remote-control:\n  control-enable: no\n{more}\
         forward-zone:\n  name: \".\"\n  forward-addr: 127.0.0.1@{}\n",
        folder.display(),
        live.port()
    )
}

fn free_port() -> u16 {
    for _ in 0..100 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        if TcpListener::bind(udp.local_addr().unwrap()).is_ok() {
            return udp.local_addr().unwrap().port();
        }
    }
    panic!("no port is free for UDP and TCP");
}

#[derive(Debug)]
struct Answer {
    code: ResponseCode,
    addrs: BTreeSet<IpAddr>,
}

impl Answer {
    fn is(&self, texts: &[&str]) -> bool {
        self.code == ResponseCode::NoError && self.addrs == texts.iter().map(|text| text.parse().unwrap()).collect()
    }
}

/// Asks once; nothing when nobody answers within two seconds.
fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Option<Answer> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    let mut asked = Name::from_ascii(name).unwrap();
    asked.set_fqdn(true);
    message.add_query(Query::query(asked, kind));
    socket.send(&message.to_vec().unwrap()).ok()?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).ok()?;
    let message = Message::from_vec(&buffer[..length]).unwrap();
    let addrs = message.answers.iter().filter_map(|record| match &record.data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    });
    Some(Answer { code: message.metadata.response_code, addrs: addrs.collect() })
}

/// Asks for every name in both families; every answer that is not as it should be, and every question too many that
/// the live server got.
fn faults(server: SocketAddr, live: &Nameserver, pins: bool) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, fate) in FATES {
        let lower = name.to_ascii_lowercase();
        for (kind, word, v4) in [(RecordType::A, "A", true), (RecordType::AAAA, "AAAA", false)] {
            let asked = || live.count(&lower, word, "udp") + live.count(&lower, word, "tcp");
            let before = asked();
            let Some(answer) = ask(server, name, kind) else {
                faults.push(format!("{name} {word}: no answer"));
                continue;
            };
            let of_family = |texts: &[&'static str]| -> Vec<&'static str> {
                texts.iter().copied().filter(|text| text.contains('.') == v4).collect()
            };
            let (good, here) = match fate {
                Blocked => (answer.addrs.is_empty(), true),
                Pinned(texts) if pins => (answer.is(&of_family(texts)), true),
                Pinned(_) | Live => (answer.is(&of_family(&LIVE)), false),
            };
            let known = [ResponseCode::NoError, ResponseCode::NXDomain].contains(&answer.code);
            if !good || !known {
                faults.push(format!("{name} {word}: {fate:?}, answered {answer:?}"));
            }
            if here && asked() != before {
                faults.push(format!("{name} {word}: {fate:?}, and another server was asked"));
            }
        }
    }
    faults
}

fn out(site: &TempDir, file: &str) -> PathBuf {
    site.path().join("out").join(file)
}

fn code(server: &Server, name: &str) -> ResponseCode {
    ask(server.addr, name, RecordType::A).unwrap().code
}

#[test]
fn unbound_blocks_and_pins() {
    if !require("unbound") {
        return;
    }
    for (targets, pins) in [(ALL, true), (NO_PINS, false)] {
        let site = site(targets);
        let file = out(&site, "unbound/outgate.conf");
        let checked = Command::new(find("unbound-checkconf").unwrap()).arg(&file).output().unwrap();
        assert!(checked.status.success(), "{}", stderr(&checked));
        let live = live();
        let server = Server::unbound(&file, live.addr);
        let mut faults = faults(server.addr, &live, pins);
        if !pins {
            // A wanted name and what is blocked below it cannot be told apart without a pin; it is in the losses.
            let text = fs::read_to_string(out(&site, "unbound/losses.json")).unwrap();
            assert!(text.contains("*.half.example is blocked, and half.example is wanted and not pinned"), "{text}");
            faults.retain(|fault| !fault.starts_with("a.half.example ") && !fault.starts_with("a.b.half.example "));
        }
        assert_eq!(faults, Vec::<String>::new(), "{targets}");
        assert_eq!(code(&server, "blocked.example"), ResponseCode::NXDomain);
        // There are names below it.
        assert_eq!(code(&server, "twin.example"), ResponseCode::NoError);
        // With all below it, and in the losses.
        assert_eq!(code(&server, ABOVE_A_WILDCARD), ResponseCode::NXDomain);
        // What the limits say: local zones look at the name that is asked for alone.
        assert!(ask(server.addr, "alias.example", RecordType::A).unwrap().is(&[LIVE[0]]));
    }
}

#[test]
fn dnsmasq_blocks_and_pins() {
    if !require("dnsmasq") {
        return;
    }
    for (targets, pins) in [(ALL, true), (NO_PINS, false)] {
        let site = site(targets);
        let file = out(&site, "dnsmasq/outgate.conf");
        let checked = Command::new(find("dnsmasq").unwrap()).args(["--test", "-C"]).arg(&file).output().unwrap();
        assert!(checked.status.success(), "{}", stderr(&checked));
        let live = live();
        let server = Server::dnsmasq(&format!("conf-file={}", file.display()), live.addr);
        assert_eq!(faults(server.addr, &live, pins), Vec::<String>::new(), "{targets}");
        assert!(ask(server.addr, ABOVE_A_WILDCARD, RecordType::A).unwrap().is(&[LIVE[0]]));
        assert_eq!(code(&server, "sub.blocked.example"), ResponseCode::NXDomain);
        assert!(ask(server.addr, "alias.example", RecordType::A).unwrap().is(&[LIVE[0]]));
    }
}

#[test]
fn a_response_policy_zone_blocks_and_pins() {
    if !require("unbound") {
        return;
    }
    for (targets, pins) in [(ALL, true), (NO_PINS, false)] {
        let site = site(targets);
        let live = live();
        let server = Server::unbound_with_zone(&out(&site, "rpz/outgate.rpz"), live.addr);
        assert_eq!(faults(server.addr, &live, pins), Vec::<String>::new(), "{targets}");
        assert!(ask(server.addr, ABOVE_A_WILDCARD, RecordType::A).unwrap().is(&[LIVE[0]]));
        assert_eq!(code(&server, "blocked.example"), ResponseCode::NXDomain);
        assert_eq!(code(&server, "twin.example"), ResponseCode::NoError);
        // A zone looks at each name of a chain; Unbound 1.17 does for the first question.
        assert!(ask(server.addr, "alias.example", RecordType::A).unwrap().addrs.is_empty());
        assert!(ask(server.addr, "low-alias.example", RecordType::A).unwrap().addrs.is_empty());
    }
}

/// The names and addresses of a hosts file, read as `hosts(5)` has it.
fn read_hosts(text: &str) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut names: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for line in text.lines().map(|line| line.split('#').next().unwrap().trim()).filter(|line| !line.is_empty()) {
        let [addr, name] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line:?} is no line of a hosts file")
        };
        assert!(names.entry(name.to_owned()).or_default().insert(addr.parse().unwrap()), "{line} stands twice");
    }
    names
}

#[test]
fn a_hosts_file_pins_and_nothing_else() {
    let site = site(ALL);
    let file = out(&site, "hosts/outgate.hosts");
    let expected: BTreeMap<String, BTreeSet<IpAddr>> = FATES
        .iter()
        .filter_map(|(name, fate)| match fate {
            Pinned(texts) => {
                Some((name.to_ascii_lowercase(), texts.iter().map(|text| text.parse().unwrap()).collect()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(read_hosts(&fs::read_to_string(&file).unwrap()), expected);
    if !require("dnsmasq") {
        return;
    }
    let live = live();
    let server = Server::dnsmasq(&format!("addn-hosts={}", file.display()), live.addr);
    for (name, addrs) in &expected {
        for (kind, v4) in [(RecordType::A, true), (RecordType::AAAA, false)] {
            let pinned: BTreeSet<IpAddr> = addrs.iter().copied().filter(|addr| addr.is_ipv4() == v4).collect();
            let answer = ask(server.addr, name, kind).unwrap();
            // A family without an address is asked of DNS: the losses say so.
            let live: BTreeSet<IpAddr> = [LIVE[usize::from(!v4)].parse().unwrap()].into();
            assert_eq!(answer.addrs, if pinned.is_empty() { live } else { pinned }, "{name} {kind}");
        }
    }
    assert!(ask(server.addr, "blocked.example", RecordType::A).unwrap().is(&[LIVE[0]]));
}

// What the files do not say.

/// The losses of a target that are not so with every policy: kind and text.
fn losses(folder: &Path, target: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(folder.join("out").join(target).join("losses.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let text = |loss: &Value, key: &str| loss[key].as_str().unwrap().to_owned();
    let all = document["losses"].as_array().unwrap();
    all.iter().filter(|loss| loss["limit"] == false).map(|loss| (text(loss, "kind"), text(loss, "text"))).collect()
}

#[test]
fn what_cannot_be_said_is_reported() {
    let site = site(ALL);
    let shared = [
        (
            "alias-of-blocked",
            "wanted: via.example is an alias of blocked.example, which deny-names blocks: it resolves, and to what is there",
        ),
        (
            "name-blocked-for-some",
            "deny-wild: for-jail.wild.example is denied to nas and allowed to jails (of-jails): it resolves for all who ask",
        ),
        (
            "name-blocked-for-some",
            "deny-wild: some.example is denied to nas and allowed to jails (of-jails): it resolves for all who ask",
        ),
        (
            "name-blocked-for-some",
            "deny-wild: *.all-jail.example is denied to nas and allowed to jails (of-jails): it resolves for all who ask",
        ),
        ("denied-address", "deny-addr: 203.0.113.200 is an address, and names alone are blocked"),
        ("unpinned", "of-jails: *.all-jail.example: not pinned, and answered as the name server finds it"),
        (
            "unpinned",
            "wanted: gone.example, *.cover.example, *.open.blocked.example, *.twin.example: not pinned, and answered as the name server finds it",
        ),
    ];
    let owned = |pairs: &[(&str, &str)]| -> BTreeSet<(String, String)> {
        pairs.iter().map(|(kind, text)| ((*kind).to_owned(), (*text).to_owned())).collect()
    };
    for target in ["dnsmasq", "rpz"] {
        assert_eq!(losses(site.path(), target).into_iter().collect::<BTreeSet<_>>(), owned(&shared), "{target}");
    }
    let mut of_unbound = owned(&shared);
    of_unbound
        .extend(owned(&[("wildcard-with-its-name", "deny-wild: *.wild.example is blocked, and wild.example with it")]));
    assert_eq!(losses(site.path(), "unbound").into_iter().collect::<BTreeSet<_>>(), of_unbound);
    let of_hosts: BTreeSet<String> = losses(site.path(), "hosts").into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(of_hosts, ["family-unpinned", "nothing-blocked", "unpinned"].map(str::to_owned).into());
}

#[test]
fn without_a_lock_names_are_blocked_and_none_is_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let generate = |target: &str| {
        outgate(&["generate", "--release", "25.10.2", "--nas", "192.0.2.10", "--target", target], folder.path())
    };
    for target in ["unbound", "dnsmasq", "rpz"] {
        let output = generate(target);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(losses(folder.path(), target).iter().any(|(kind, _)| kind == "nothing-pinned"), "{target}");
    }
    let output = generate("hosts");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("E024") && stderr(&output).contains("hosts: without a lock"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn names_that_dnsmasq_feeds_to_the_packet_filter_are_not_pinned() {
    let example = root().join("examples/strict-home");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(example.join("outgate.lock"), folder.path().join("outgate.lock")).unwrap();
    let profile = fs::read_to_string(example.join("outgate.yaml")).unwrap();
    let fed = profile.replace("nftables: {}", "nftables: {by-dns: [mail.example.org]}");
    assert_ne!(profile, fed);
    fs::write(folder.path().join("outgate.yaml"), fed).unwrap();
    let output = outgate(&["generate"], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for file in ["unbound/outgate.conf", "dnsmasq/outgate.conf", "rpz/outgate.rpz", "hosts/outgate.hosts"] {
        let before = fs::read_to_string(example.join("out").join(file)).unwrap();
        let after = fs::read_to_string(folder.path().join("out").join(file)).unwrap();
        assert!(before.contains("mail.example.org") && !after.contains("mail.example.org"), "{file}");
    }
    // dnsmasq reads both files together.
    if require("dnsmasq") {
        let both = folder.path().join("both.conf");
        let out = folder.path().join("out");
        let lines = ["nftables/outgate-dnsmasq.conf", "dnsmasq/outgate.conf"]
            .map(|file| format!("conf-file={}\n", out.join(file).display()));
        fs::write(&both, lines.concat()).unwrap();
        let checked = Command::new(find("dnsmasq").unwrap()).args(["--test", "-C"]).arg(&both).output().unwrap();
        assert!(checked.status.success(), "{}", stderr(&checked));
    }
}

#[test]
fn clients_are_answered_with_what_the_packet_filter_lets_out() {
    let out = root().join("examples/strict-home/out");
    let hosts = read_hosts(&fs::read_to_string(out.join("hosts/outgate.hosts")).unwrap());
    let sets = fs::read_to_string(out.join("nftables/outgate-sets.nft")).unwrap();
    let words: BTreeSet<&str> = sets.split([' ', ',', '\n', '\t', '{', '}']).collect();
    assert!(hosts.len() > 10);
    for addr in hosts.values().flatten() {
        assert!(words.contains(addr.to_string().as_str()), "{addr} is in no set");
    }
}

#[test]
fn the_serial_of_the_zone_follows_its_content_alone() {
    let serial = |text: &str| {
        let line = text.lines().find(|line| line.contains(" SOA ")).unwrap();
        line.split(' ').nth(5).unwrap().parse::<u32>().unwrap()
    };
    let example = root().join("examples/strict-home");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(example.join("outgate.lock"), folder.path().join("outgate.lock")).unwrap();
    let profile = fs::read_to_string(example.join("outgate.yaml")).unwrap();
    let golden = fs::read_to_string(example.join("out/rpz/outgate.rpz")).unwrap();
    assert_eq!(serial(&golden) / 100, 20_261_121, "the day of the lock");
    let with = |settings: &str| {
        fs::write(folder.path().join("outgate.yaml"), profile.replace("rpz: {}", &format!("rpz: {{{settings}}}")))
            .unwrap();
        outgate(&["generate", "--target", "rpz", "--stdout"], folder.path())
    };
    let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text(&with("")), golden);
    let changed = text(&with("pins: none"));
    assert!(serial(&changed) != serial(&golden) && !changed.contains(" IN A "));
    assert!(text(&with("zone: policy.example")).contains("$ORIGIN policy.example.\n"));
    // A name that fits by itself and not in the zone.
    let long = [&*"a".repeat(60), &*"b".repeat(60), &*"c".repeat(60), &*"d".repeat(50), "example"].join(".");
    let output = with(&format!("zone: {long}"));
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("E027"), "{}", stderr(&output));
    let output = with("zone: 'a b.example'");
    assert!(output.status.code() == Some(2) && stderr(&output).contains("E010"), "{}", stderr(&output));
}

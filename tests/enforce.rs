//! What the program writes, judged by the real enforcers: rules loaded into the kernel and packets sent, Squid started
//! and connections made. Every verdict is compared with the model's own decision.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures of a run")]

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use outgate::addrs::AddrSet;
use outgate::diagnostic::Findings;
use outgate::host::NamePattern;
use outgate::lock::Lock;
use outgate::port::Protocol;
use outgate::ruleset::{self, Ruleset, Verdict};
use outgate::source::Sources;
use tempfile::TempDir;

mod support;
use support::model::{self, named};
use support::netns::{self, Flow, Lab, Proto};
use support::readers::packet::{self, Fate, Interface, Packet};
use support::squid::{self, Request, SquidLab, World};
use support::trial;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
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

/// A site made of an example, with its profile changed and its files generated.
struct Site {
    folder: TempDir,
    rules: Ruleset,
}

impl Site {
    fn new(name: &str, changes: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut profile = fs::read_to_string(example(name).join("outgate.yaml")).unwrap();
        for (from, to) in changes {
            assert!(profile.contains(from), "the profile has no `{from}` to change");
            profile = profile.replace(from, to);
        }
        fs::write(folder.path().join("outgate.yaml"), &profile).unwrap();
        let lock = fs::read_to_string(example(name).join("outgate.lock")).unwrap();
        fs::write(folder.path().join("outgate.lock"), &lock).unwrap();
        let output = outgate(&["generate"], folder.path());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let policy = model::policy(&model::catalog(), &profile).unwrap();
        let mut sources = Sources::default();
        let id = sources.add("outgate.lock", lock);
        let lock = Lock::parse(&sources, id).unwrap();
        let mut findings = Findings::default();
        let rules = ruleset::build(&policy, Some(&lock), &mut findings);
        assert!(!findings.has_errors());
        Self { folder, rules }
    }

    fn file(&self, path: &str) -> PathBuf {
        self.folder.path().join("out").join(path)
    }

    /// Whether the model lets a flow through: allowed, or not ours to judge.
    fn passes(&self, flow: &Flow) -> bool {
        let protocol = match flow.proto {
            Proto::Tcp => Protocol::Tcp,
            Proto::Udp => Protocol::Udp,
            // No rule is about ping: a limited client has none.
            Proto::IcmpEcho => return !self.rules.limited().contains(flow.src),
        };
        matches!(self.rules.decide(flow.src, flow.dst, protocol, flow.port), Verdict::Allow(_) | Verdict::NotOurs)
    }
}

/// A fixed sequence of numbers: the same flows in every run.
struct Dice(u64);

impl Dice {
    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        &from[usize::try_from(self.0 >> 33).unwrap() % from.len()]
    }
}

/// Addresses worth trying: every one of the rules, both sides of every edge, and some that are in none.
fn servers(rules: &Ruleset) -> Vec<IpAddr> {
    let mut all = BTreeSet::new();
    let set = rules.rules.iter().fold(AddrSet::new(), |all, rule| all.union(&rule.addrs()));
    for net in set.prefixes() {
        all.extend([net.network(), net.broadcast()]);
        match (net.network(), net.broadcast()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                all.extend([IpAddr::V4((u32::from(a) - 1).into()), IpAddr::V4((u32::from(b) + 1).into())])
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                all.extend([IpAddr::V6((u128::from(a) - 1).into()), IpAddr::V6((u128::from(b) + 1).into())])
            }
            _ => unreachable!("a prefix has one family"),
        }
    }
    all.extend(["203.0.113.1", "198.51.100.1", "2001:db8:ffff::1"].map(|a| a.parse::<IpAddr>().unwrap()));
    all.into_iter().collect()
}

/// Ports worth trying: every one of the rules and its neighbours.
fn ports(rules: &Ruleset) -> Vec<u16> {
    let of = |port: &outgate::port::Port| [port.first() - 1, port.first(), port.last(), port.last().saturating_add(1)];
    let all: BTreeSet<u16> = rules.rules.iter().flat_map(|rule| rule.ports.iter().flat_map(of)).collect();
    all.into_iter().filter(|&port| port > 0).collect()
}

/// Flows from these clients: some of every rule, so that nothing is tried too seldom, and many at random.
fn flows(rules: &Ruleset, clients: &[&str], random: usize) -> Vec<Flow> {
    let clients: Vec<IpAddr> = clients.iter().map(|c| c.parse().unwrap()).collect();
    let (servers, ports) = (servers(rules), ports(rules));
    let own: BTreeSet<IpAddr> = clients.iter().copied().collect();
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = servers.iter().copied().partition(IpAddr::is_ipv4);
    let mut flows = Vec::new();
    let mut add = |src: IpAddr, dst: IpAddr, proto: Proto, port: u16| {
        if src.is_ipv4() == dst.is_ipv4() && !own.contains(&dst) {
            flows.push(Flow { src, dst, proto, port });
        }
    };
    for rule in &rules.rules {
        for net in rule.addrs().prefixes() {
            for port in rule.ports.iter() {
                let proto = if port.protocol == Protocol::Tcp { Proto::Tcp } else { Proto::Udp };
                for &client in &clients {
                    add(client, net.network(), proto, port.first());
                }
            }
        }
    }
    let mut dice = Dice(20_261_121);
    let protocols = [Proto::Tcp, Proto::Tcp, Proto::Udp, Proto::IcmpEcho];
    for _ in 0..random {
        let src = *dice.pick(&clients);
        let servers = if src.is_ipv4() { &v4 } else { &v6 };
        add(src, *dice.pick(servers), *dice.pick(&protocols), *dice.pick(&ports));
    }
    flows
}

fn judge(lab: &Lab, site: &Site, flows: Vec<Flow>) {
    let expected: Vec<(Flow, bool)> = flows.into_iter().map(|flow| (flow, site.passes(&flow))).collect();
    let (passing, tried) = (expected.iter().filter(|(_, pass)| *pass).count(), expected.len());
    assert!(
        passing > 20 && tried - passing > 20,
        "{passing} of {tried} flows pass: too few of a kind to tell anything"
    );
    let surprises = lab.surprises(&expected);
    assert!(surprises.is_empty(), "{} of {tried} flows:\n{}", surprises.len(), surprises.join("\n"));
    println!("{tried} flows, {passing} of them pass, no disagreement");
}

const CLIENTS: [&str; 6] =
    ["192.0.2.10", "2001:db8:10::10", "192.0.2.20", "2001:db8:10::20", "192.0.2.99", "2001:db8:10::99"];

#[test]
fn a_router_lets_out_what_the_model_allows_and_nothing_else() {
    if !netns::ready() {
        return;
    }
    let site = Site::new("home-lab", &[]);
    let lab = Lab::new(&CLIENTS, &["0.0.0.0/0", "::/0"]);
    lab.load_nft(&site.file("nftables/outgate.nft")).unwrap();
    judge(&lab, &site, flows(&site.rules, &CLIENTS, 2000));
}

#[test]
fn a_list_opens_exactly_its_prefixes_on_the_ports_of_its_rule() {
    if !netns::ready() {
        return;
    }
    // Nothing but the list leads there, and that for a wildcard alone.
    let site = Site::new(
        "home-lab",
        &[
            (
                "hosts: [backup.example.org, 203.0.113.192/28, \"2001:db8:40:c0::/60\"]",
                "hosts: [\"*.backup.example.org\"]",
            ),
            ("for: [backup.example.org]", "for: [\"*.backup.example.org\"]"),
            ("  opnsense:\n    version: \"26.1\"\n    interface: lan\n", ""),
        ],
    );
    let lab = Lab::new(&CLIENTS, &["0.0.0.0/0", "::/0"]);
    lab.load_nft(&site.file("nftables/outgate.nft")).unwrap();
    // The list has 203.0.113.128/26, 203.0.113.192/28 and 2001:db8:40:c0::/60.
    let inside = [
        "203.0.113.128",
        "203.0.113.191",
        "203.0.113.192",
        "203.0.113.207",
        "2001:db8:40:c0::",
        "2001:db8:40:cf:ffff:ffff:ffff:ffff",
    ];
    let outside = ["203.0.113.127", "203.0.113.208", "2001:db8:40:bf:ffff:ffff:ffff:ffff", "2001:db8:40:d0::"];
    let mut flows = Vec::new();
    for (server, within) in inside.map(|s| (s, true)).into_iter().chain(outside.map(|s| (s, false))) {
        let dst: IpAddr = server.parse().unwrap();
        let (nas, stranger) =
            if dst.is_ipv4() { ("192.0.2.10", "192.0.2.99") } else { ("2001:db8:10::10", "2001:db8:10::99") };
        for (proto, port, rule) in [
            (Proto::Tcp, 22, true),
            (Proto::Tcp, 21, false),
            (Proto::Tcp, 23, false),
            (Proto::Tcp, 443, false),
            (Proto::Udp, 22, false),
        ] {
            flows.push((Flow { src: nas.parse().unwrap(), dst, proto, port }, within && rule));
            // Not one of ours: nobody limits it.
            flows.push((Flow { src: stranger.parse().unwrap(), dst, proto, port }, true));
        }
    }
    let surprises = lab.surprises(&flows);
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
    for (flow, pass) in &flows {
        assert_eq!(site.passes(flow), *pass, "the model: {flow:?}");
    }
}

#[test]
fn a_denial_holds_for_every_administrator_on_every_port() {
    if !netns::ready() {
        return;
    }
    // The administrators' prefix holds the appliance: one address, two sets of clients.
    let admins =
        ("admin: [192.0.2.20, \"2001:db8:10::20\"]", "admin: [192.0.2.0/26, 192.0.2.96/28, \"2001:db8:10::/64\"]");
    let site = Site::new("home-lab", &[admins]);
    let lab = Lab::new(&CLIENTS, &["0.0.0.0/0", "::/0"]);
    lab.load_nft(&site.file("nftables/outgate.nft")).unwrap();
    judge(&lab, &site, flows(&site.rules, &CLIENTS, 500));

    let sentry = site.rules.rules.iter().find(|rule| rule.key.as_str().starts_with("sentry")).unwrap();
    let mut telemetry = Vec::new();
    for server in sentry.addrs().singles() {
        for client in ["192.0.2.20", "192.0.2.99", "192.0.2.10", "2001:db8:10::20", "2001:db8:10::99"] {
            let src: IpAddr = client.parse().unwrap();
            for proto in [Proto::Tcp, Proto::Udp].into_iter().filter(|_| src.is_ipv4() == server.is_ipv4()) {
                telemetry.extend([80, 443, 8443].map(|port| (Flow { src, dst: server, proto, port }, false)));
            }
        }
    }
    assert!(telemetry.len() > 20);
    let surprises = lab.surprises(&telemetry);
    assert!(surprises.is_empty(), "telemetry gets out:\n{}", surprises.join("\n"));
}

#[test]
fn a_system_with_jails_is_limited_by_client() {
    if !netns::ready() {
        return;
    }
    let target = ("targets:\n", "targets:\n  nftables:\n    denied: drop\n");
    let site = Site::new("core-jails", &[target]);
    let clients = ["198.51.100.10", "2001:db8:20::10", "198.51.100.70", "2001:db8:20:1::7", "198.51.100.200"];
    let lab = Lab::new(&clients, &["0.0.0.0/0", "::/0"]);
    lab.load_nft(&site.file("nftables/outgate.nft")).unwrap();
    judge(&lab, &site, flows(&site.rules, &clients, 2000));
}

#[test]
fn the_appliance_limits_itself_on_the_output_hook() {
    if !netns::ready() {
        return;
    }
    let site = Site::new("home-lab", &[("hook: forward", "hook: output")]);
    let lab = Lab::new(&CLIENTS, &["0.0.0.0/0", "::/0"]);
    lab.load_nft_on_client(&site.file("nftables/outgate.nft")).unwrap();
    // The administrator is never seen there, and the program says so.
    let seen = ["192.0.2.10", "2001:db8:10::10", "192.0.2.99", "2001:db8:10::99"];
    judge(&lab, &site, flows(&site.rules, &seen, 2000));
}

#[test]
fn a_client_without_ipv6_has_none() {
    if !netns::ready() {
        return;
    }
    let only_v4 = ("nas: [192.0.2.10, \"2001:db8:10::10\"]", "nas: [192.0.2.10]");
    // Refused, unless the profile says what is done about it.
    let folder = tempfile::tempdir().unwrap();
    let profile = fs::read_to_string(example("home-lab").join("outgate.yaml")).unwrap().replace(only_v4.0, only_v4.1);
    fs::write(folder.path().join("outgate.yaml"), &profile).unwrap();
    fs::copy(example("home-lab").join("outgate.lock"), folder.path().join("outgate.lock")).unwrap();
    for target in ["nftables", "pf", "opnsense"] {
        let output = outgate(&["generate", "--target", target], folder.path());
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && message.contains("E022"), "{target}: {message}");
        assert!(!folder.path().join("out").exists());
    }

    let site = Site::new("home-lab", &[only_v4, ("\ntargets:\n", "\nipv6: deny-interface\ntargets:\n")]);
    let lab = Lab::new(&CLIENTS, &["0.0.0.0/0", "::/0"]);
    lab.load_nft(&site.file("nftables/outgate.nft")).unwrap();
    let flows = flows(&site.rules, &CLIENTS, 500);
    let expected: Vec<(Flow, bool)> = flows.into_iter().map(|f| (f, f.src.is_ipv4() && site.passes(&f))).collect();
    assert!(expected.iter().filter(|(f, _)| f.src.is_ipv6()).count() > 100);
    let surprises = lab.surprises(&expected);
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

#[test]
fn loading_leaves_others_alone_and_loading_again_changes_nothing() {
    if !netns::ready() {
        return;
    }
    let site = Site::new("home-lab", &[]);
    let lab = Lab::new(&CLIENTS, &["0.0.0.0/0", "::/0"]);
    let foreign = site.folder.path().join("foreign.nft");
    fs::write(
        &foreign,
        "table inet fw4 {\n\tset mine { type ipv4_addr; elements = { 198.51.100.1 } }\n\tchain forward {\n\
         \t\ttype filter hook forward priority filter; policy accept;\n\t\ttcp dport 22 drop\n\t}\n}\n\
         table ip nat {\n\tchain post {\n\t\ttype nat hook postrouting priority 100;\n\t}\n}\n",
    )
    .unwrap();
    lab.load_nft(&foreign).unwrap();
    let list = |args: &[&str]| lab.nft(&[&["-s", "list"], args].concat()).unwrap();
    let before = [list(&["table", "inet", "fw4"]), list(&["table", "ip", "nat"])];
    lab.load_nft(&site.file("nftables/outgate.nft")).unwrap();
    let once = list(&["ruleset"]);
    lab.load_nft(&site.file("nftables/outgate.nft")).unwrap();
    assert_eq!(list(&["ruleset"]), once, "loading it again left something");
    assert_eq!([list(&["table", "inet", "fw4"]), list(&["table", "ip", "nat"])], before);

    // What others close stays closed: our allow of 22 does not open their drop.
    let ssh = Flow::tcp("192.0.2.10", "203.0.113.195", 22);
    assert!(site.passes(&ssh));
    assert!(lab.surprises(&[(ssh, false)]).is_empty(), "an allow of ours opened what another table closes");

    // A refresh takes away what the lock no longer has.
    let file = site.file("nftables/outgate.nft");
    let gone = site.rules.rules.iter().find(|r| r.key.as_str() == "update-scale-truenas").unwrap();
    let gone = gone.addrs().singles().find(IpAddr::is_ipv4).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let thinner: String = text
        .lines()
        .filter(|line| line.trim().trim_end_matches(',') != gone.to_string())
        .map(|l| format!("{l}\n"))
        .collect();
    assert_ne!(thinner, text);
    fs::write(&file, thinner).unwrap();
    lab.load_nft(&file).unwrap();
    let flow = Flow::tcp("192.0.2.10", &gone.to_string(), 443);
    assert!(lab.surprises(&[(flow, false)]).is_empty(), "an address outlived the refresh");

    lab.nft(&["delete", "table", "inet", "outgate"]).unwrap();
    assert_eq!([list(&["table", "inet", "fw4"]), list(&["table", "ip", "nat"])], before);
}

/// The files a refresh may load: the whole table, or its sets alone.
const REFRESH_FILES: [&str; 2] = ["nftables/outgate.nft", "nftables/outgate-sets.nft"];

/// How often the sets are replaced while connections are opened.
const REFRESHES: usize = 200;

#[test]
fn a_refresh_under_load_loses_nothing_and_lets_nothing_through() {
    if !netns::ready() {
        return;
    }
    let site = Site::new("home-lab", &[]);
    let lab = Lab::new(&CLIENTS, &["0.0.0.0/0", "::/0"]);
    lab.load_nft(&site.file(REFRESH_FILES[0])).unwrap();
    for file in REFRESH_FILES {
        refresh_under_load(&site, &lab, &site.file(file));
    }
}

fn refresh_under_load(site: &Site, lab: &Lab, file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    // Another day's answers: addresses more in each set of hosts, in front of those that stay.
    let (mut other, mut hosts) = (String::new(), "");
    for line in text.lines() {
        other.push_str(&format!("{line}\n"));
        if line.starts_with("\tset ") || line.starts_with("add element ") {
            hosts = if line.contains("_h4 {") {
                "198.18"
            } else if line.contains("_h6 {") {
                "2001:db8:18::"
            } else {
                ""
            };
        }
        let begins = line.trim() == "elements = {" || (line.starts_with("add element ") && line.ends_with(" {"));
        if begins && !hosts.is_empty() {
            let dot = if hosts.contains(':') { "" } else { ".7." };
            other.extend((1..200).map(|n| format!("{hosts}{dot}{n},\n")));
        }
    }
    let second = site.folder.path().join("other.nft");
    fs::write(&second, other).unwrap();
    lab.load_nft(&second).unwrap();
    lab.load_nft(file).unwrap();
    let expected: Vec<(Flow, bool)> =
        flows(&site.rules, &CLIENTS, 800).into_iter().map(|f| (f, site.passes(&f))).collect();
    let began = std::time::Instant::now();
    let done = std::sync::atomic::AtomicUsize::new(0);
    let (mut rounds, mut during) = (0, 0);
    std::thread::scope(|scope| {
        let refresher = scope.spawn(|| {
            for i in 0..REFRESHES {
                lab.load_nft(if i % 2 == 0 { &second } else { file }).unwrap();
                done.store(i + 1, std::sync::atomic::Ordering::SeqCst);
            }
        });
        while !refresher.is_finished() {
            let before = done.load(std::sync::atomic::Ordering::SeqCst);
            let surprises = lab.surprises(&expected);
            assert!(surprises.is_empty(), "while the sets were replaced:\n{}", surprises.join("\n"));
            rounds += 1;
            during += done.load(std::sync::atomic::Ordering::SeqCst) - before;
        }
        refresher.join().unwrap();
    });
    assert!(rounds >= 2 && during > REFRESHES / 2, "{rounds} rounds of flows, {during} refreshes meanwhile: no load");
    let tried = rounds * expected.len();
    println!("{REFRESHES} refreshes in {:?}, {tried} flows meanwhile, none lost and none let through", began.elapsed());
}

#[test]
fn the_kernel_decides_every_example_as_the_model_does() {
    if !netns::ready() {
        return;
    }
    for name in ["home-lab", "core-jails", "other-product"] {
        let site = support::site::Site::new(name, name, &[], support::site::ROUTER);
        let ordinary = |p: &Packet| {
            let ports =
                matches!(p.proto, packet::Proto::Tcp | packet::Proto::Udp) && p.port > 0 && p.source_port == 40_000;
            p.interface == Interface::Ours && (ports || matches!(p.proto, packet::Proto::Icmp(8 | 128)))
        };
        let mut tried: Vec<Packet> =
            trial::flows(&site, "nftables", if name == "other-product" { 24_000 } else { 9000 })
                .into_iter()
                .filter(ordinary)
                .collect();
        let clients: BTreeSet<IpAddr> = tried.iter().map(|p| p.src).collect();
        tried.retain(|p| !clients.contains(&p.dst) && !matches!(p.dst, IpAddr::V6(v6) if v6.is_multicast()));
        let clients: Vec<IpAddr> = clients.into_iter().collect();
        let lab = Lab::new(&clients, &["0.0.0.0/0", "::/0"]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outgate.nft");
        fs::write(&path, &site.files["nftables"]["outgate.nft"]).unwrap();
        lab.load_nft(&path).unwrap();
        let flow = |p: &Packet| match p.proto {
            packet::Proto::Tcp => Flow { src: p.src, dst: p.dst, proto: Proto::Tcp, port: p.port },
            packet::Proto::Udp => Flow { src: p.src, dst: p.dst, proto: Proto::Udp, port: p.port },
            packet::Proto::Icmp(_) => Flow { src: p.src, dst: p.dst, proto: Proto::IcmpEcho, port: 0 },
        };
        let expected: BTreeSet<(Flow, bool)> =
            tried.iter().map(|p| (flow(p), site.expected("nftables", p).0 != Fate::Block)).collect();
        let expected: Vec<(Flow, bool)> = expected.into_iter().collect();
        assert!(expected.len() >= 2000, "{name}: only {} flows", expected.len());
        let surprises = lab.surprises(&expected);
        assert!(surprises.is_empty(), "{name}: {} of {}:\n{}", surprises.len(), expected.len(), surprises.join("\n"));
        println!("{name}: {} flows in the kernel, no disagreement", expected.len());
    }
}

#[test]
fn squid_lets_out_what_the_model_names_and_nothing_else() {
    if !squid::ready() {
        return;
    }
    const NAS: &str = "192.0.2.10";
    const ADMIN: &str = "192.0.2.20";
    const STRANGER: &str = "192.0.2.99";
    // A wildcard, a site of the user's own on both ports, and an address instead of a name, beside the example.
    let more = "extra:\n  - id: wild\n    purpose: Everything below a name.\n    origin: [nas]\n    hosts: [\"*.wild.example.org\"]\n    \
                ports: [443/tcp]\n  - id: plain\n    purpose: A mirror without TLS.\n    origin: [nas]\n    hosts: [plain.example.org]\n    \
                ports: [80/tcp]\n  - id: literal\n    purpose: An address of the site.\n    origin: [nas]\n    hosts: [203.0.113.77, \"2001:db8:77::7\"]\n    \
                ports: [443/tcp]\n";
    let all = fs::read_to_string(example("home-lab").join("outgate.yaml")).unwrap();
    let targets = &all[all.find("targets:\n").unwrap()..];
    let site = Site::new("home-lab", &[("extra:\n", more), (targets, "targets:\n  squid:\n    port: 3128\n")]);

    let mut names: BTreeSet<String> = BTreeSet::new();
    for rule in &site.rules.rules {
        for pattern in rule.names() {
            match pattern {
                NamePattern::Exact(host) => {
                    // The name, one below it, one that ends like it, one that it is only a part of.
                    names.extend([
                        host.to_string(),
                        format!("evil.{host}"),
                        format!("x{host}"),
                        format!("{host}.evil.example"),
                    ]);
                }
                NamePattern::Below(host) => {
                    names.extend([host.to_string(), format!("a.{host}"), format!("a.b.{host}"), format!("x{host}")])
                }
            }
        }
    }
    let names: Vec<String> = names.into_iter().collect();
    assert!(names.len() > 60 && names.len() < 500);
    let hosts: Vec<(String, String)> =
        names.iter().zip(1_u32..).map(|(n, i)| (n.clone(), format!("198.18.{}.{}", i / 250, 1 + i % 250))).collect();
    let hosts: Vec<(&str, &str)> = hosts.iter().map(|(name, addr)| (name.as_str(), addr.as_str())).collect();
    let bare = ["203.0.113.77", "2001:db8:77::7", "203.0.113.78", "2001:db8:77::8"];
    let lab = SquidLab::new(&World {
        clients: &[NAS, ADMIN, STRANGER, "2001:db8:10::10"],
        hosts: &hosts,
        bare: &bare,
        ports: &[22, 80, 443, 8443],
    });
    let pem = lab.certificate();
    let rendered = lab.stage(&site.file("squid"), &[("/etc/squid/outgate.pem", pem.to_str().unwrap())]);
    let file = rendered.join("outgate.conf");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("/etc/squid/outgate/", &format!("{}/lists/", rendered.display()));
    fs::write(&file, text).unwrap();
    lab.parse(&file).unwrap();

    let mut expected = Vec::new();
    for name in &names {
        for client in [NAS, ADMIN, STRANGER] {
            let tls = named(&site.rules, client, name, 443);
            expected.push((Request::tls(client, &format!("{name}:443"), Some(name)), tls));
            expected.push((Request::get(client, &format!("http://{name}/")), named(&site.rules, client, name, 80)));
        }
        let upper = name.to_uppercase();
        expected.push((Request::tls(NAS, &format!("{upper}.:443"), Some(name)), named(&site.rules, NAS, name, 443)));
        expected.push((Request::tls(NAS, &format!("{name}:8443"), Some(name)), false));
        expected.push((Request::raw(NAS, &format!("{name}:22")), false));
        // An allowed name to the proxy, this one inside the handshake.
        let fronted = named(&site.rules, NAS, name, 443);
        expected.push((Request::tls(NAS, "github.com:443", Some(name)), fronted));
    }
    expected.push((Request::tls("2001:db8:10::10", "github.com:443", Some("github.com")), true));
    expected.push((Request::tls(NAS, "203.0.113.77:443", None), true));
    expected.push((Request::tls(NAS, "[2001:db8:77::7]:443", None), true));
    expected.push((Request::tls(ADMIN, "203.0.113.77:443", None), false));
    expected.push((Request::tls(NAS, "203.0.113.78:443", None), false));
    expected.push((Request::tls(NAS, "[2001:db8:77::8]:443", None), false));
    expected.push((Request::get(NAS, "http://203.0.113.77/"), false));
    let github = hosts.iter().find(|(name, _)| *name == "github.com").unwrap().1;
    expected.push((Request::tls(NAS, &format!("{github}:443"), Some("github.com")), false));
    let passing = expected.iter().filter(|(_, pass)| *pass).count();
    assert!(passing > 40, "only {passing} requests pass");
    let squid = lab.start(&file, 3128).unwrap();
    let surprises = squid.surprises(&expected);
    assert!(surprises.is_empty(), "{} of {}:\n{}", surprises.len(), expected.len(), surprises.join("\n"));
    println!("{} requests, {passing} of them pass, no disagreement", expected.len());
    drop(squid);

    // A port of somebody else's looks at no server name, so nothing is let out there.
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("http_port 3129\n{text}")).unwrap();
    let other = lab.start(&file, 3129).unwrap();
    let expected: Vec<(Request, bool)> =
        expected.into_iter().filter(|(_, pass)| *pass).map(|(request, _)| (request, false)).collect();
    let surprises = other.surprises(&expected);
    assert!(surprises.is_empty(), "on another port:\n{}", surprises.join("\n"));
}

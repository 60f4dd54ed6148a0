//! Strict mode on real enforcers, by a lock that our own resolver made: what a level blocks does not get out, what it does
//! not block does, and where the two cannot be told apart nothing is written until the site decides.
//!
//! What is telemetry stands in a table of this file. Nothing here asks the program what it blocks.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures of a run")]

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

mod support;
use support::nameserver::{Behaviour, Nameserver};
use support::namespace::{Namespace, said};
use support::netns::{self, Flow, Lab, Proto};
use support::squid::{self, Request, SquidLab, World};

const NAS: [&str; 2] = ["192.0.2.10", "2001:db8:10::10"];
const ADMIN: [&str; 2] = ["192.0.2.20", "2001:db8:10::20"];
const STRANGER: [&str; 2] = ["192.0.2.99", "2001:db8:10::99"];

/// Two days, in seconds since 1970: the second lock is made of the first.
const FIRST_DAY: &str = "1795219200";
const NEXT_DAY: &str = "1795305600";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Nas,
    Admin,
    Both,
}

/// What a host is contacted for.
struct Call {
    host: &'static str,
    /// The entries that name it.
    entries: &'static [&'static str],
    /// Its class where it is not a function.
    telemetry: Option<&'static str>,
    who: Who,
    /// The feature that makes the call, where it is not always made.
    feature: Option<&'static str>,
    tcp: &'static [u16],
}

const fn call(
    host: &'static str,
    entries: &'static [&'static str],
    telemetry: Option<&'static str>,
    who: Who,
    feature: Option<&'static str>,
) -> Call {
    Call { host, entries, telemetry, who, feature, tcp: &[443] }
}

const USAGE: Option<&str> = Some("usage");
const ERRORS: Option<&str> = Some("error-report");
const STATE: Option<&str> = Some("operational");
const SUSPECT: Option<&str> = Some("suspected");

/// What release 25.10.2 calls with the features of the site, and the site's own entries.
const CALLS: &[Call] = &[
    call("update.truenas.com", &["update-scale-truenas"], None, Who::Nas, Some("updates")),
    call("usage.truenas.com", &["usage-truenas", "firstboot-truenas"], USAGE, Who::Nas, None),
    call("feedback.ui.truenas.com", &["feedback-dialog-late"], USAGE, Who::Admin, Some("feedback")),
    call("sentry.ixsystems.com", &["sentry-ui-2510"], ERRORS, Who::Admin, None),
    call("heartbeat-service.tys1.truenasconnect.net", &["connect-heartbeat"], STATE, Who::Nas, Some("connect")),
    call("account-service.tys1.truenasconnect.net", &["connect-services"], STATE, Who::Nas, Some("connect")),
    call("dns-service.tys1.truenasconnect.net", &["connect-services"], STATE, Who::Nas, Some("connect")),
    call("web.truenasconnect.net", &["connect-web"], STATE, Who::Admin, Some("connect")),
    call("agent-events.netdata.cloud", &["netdata-events"], SUSPECT, Who::Nas, None),
    Call { tcp: &[80, 443], ..call("mirror.example.org", &["site-mirror"], None, Who::Nas, None) },
    call("wiki.example.org", &["site-wiki"], None, Who::Admin, None),
    call("errors.example.org", &["site-errors"], ERRORS, Who::Nas, None),
    call("beacon.example.org", &["site-beacon"], SUSPECT, Who::Admin, None),
    call("count.example.org", &["site-count"], USAGE, Who::Both, None),
    call("deep.plain.example.org", &["site-deep"], USAGE, Who::Nas, None),
];

const EXTRA: &str = r#"extra:
  - {id: site-mirror, purpose: p, origin: [nas], hosts: [mirror.example.org], ports: [80/tcp, 443/tcp]}
  - {id: site-wiki, purpose: p, origin: [browser], hosts: [wiki.example.org], ports: [443/tcp]}
  - {id: site-errors, purpose: p, class: error-report, origin: [nas], hosts: [errors.example.org], ports: [443/tcp]}
  - {id: site-beacon, purpose: p, class: suspected, origin: [browser], hosts: [beacon.example.org], ports: [443/tcp]}
  - {id: site-count, purpose: p, class: usage, origin: [nas, browser], hosts: [count.example.org], ports: [443/tcp]}
  - {id: site-deep, purpose: p, class: usage, origin: [nas], hosts: [deep.plain.example.org], ports: [443/tcp]}
"#;

/// What lies below it is allowed by name, and by no address.
const WILDCARD: &str =
    "  - {id: site-plain, purpose: p, origin: [nas], hosts: [\"*.plain.example.org\"], ports: [80/tcp, 443/tcp]}\n";

/// The features of the site.
const FEATURES: &[&str] = &["updates", "connect", "feedback"];

fn at(number: usize) -> Vec<IpAddr> {
    let number = 4 * number;
    let texts = [1, 2].map(|n| [format!("203.0.113.{}", number + n), format!("2001:db8:40:{number:x}::{n}")]);
    texts.iter().flatten().map(|text| text.parse().unwrap()).collect()
}

/// The addresses of a host of the table: two of each family.
fn addresses(host: &str) -> Vec<IpAddr> {
    at(CALLS.iter().position(|call| call.host == host).unwrap())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Addresses that two hosts had yesterday and have no more; the lock keeps them.
const FORMER: [(&str, [&str; 2]); 2] = [
    ("usage.truenas.com", ["203.0.113.201", "2001:db8:40:c1::201"]),
    ("update.truenas.com", ["203.0.113.202", "2001:db8:40:c2::202"]),
];

/// Names of the name server, where they are not as the table has them.
type Others<'a> = &'a [(&'a str, Behaviour)];

/// A name server with the hosts of the table. One of them leads through an alias of its own.
fn nameserver(others: Others<'_>, former: bool) -> Nameserver {
    let mut names: BTreeMap<&str, Behaviour> = BTreeMap::new();
    for call in CALLS {
        let mut addrs = addresses(call.host);
        if former {
            addrs.extend(FORMER.iter().filter(|(host, _)| *host == call.host).flat_map(|(_, at)| at.map(ip)));
        }
        let answer = match call.host {
            "usage.truenas.com" => Behaviour::Chain(vec!["usage.edge.example.net".to_owned()], addrs),
            _ => Behaviour::Answer(addrs),
        };
        names.insert(call.host, answer);
    }
    names.extend(others.iter().cloned());
    let names: Vec<(&str, Behaviour)> = names.into_iter().collect();
    Nameserver::start(&names)
}

/// A site in a folder of its own.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new(profile: &str) -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        site.write(profile);
        site
    }

    fn write(&self, profile: &str) {
        fs::write(self.folder.path().join("outgate.yaml"), profile).unwrap();
    }

    fn run(&self, day: &str, args: &[&str]) -> Output {
        let mut outgate = Command::new(env!("CARGO_BIN_EXE_outgate"));
        outgate.args(args).current_dir(self.folder.path()).env("NO_COLOR", "1").env("SOURCE_DATE_EPOCH", day);
        outgate.output().unwrap()
    }

    fn resolve(&self, server: &Nameserver, day: &str, more: &[&str]) {
        let server = server.addr.to_string();
        let output = self.run(day, &[&["resolve", "--resolver", &server], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The lock of two days, by our resolver.
    fn resolve_twice(&self, more: &[&str]) {
        self.resolve(&nameserver(&[], true), FIRST_DAY, more);
        self.resolve(&nameserver(&[], false), NEXT_DAY, more);
    }

    fn generate(&self, more: &[&str]) -> (Option<i32>, String) {
        let output = self.run(NEXT_DAY, &[&["generate"], more].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn generated(&self, more: &[&str]) {
        let (code, said) = self.generate(more);
        assert_eq!(code, Some(0), "{said}");
    }

    fn out(&self, path: &str) -> PathBuf {
        self.folder.path().join("out").join(path)
    }

    /// Every file that was written, with its text.
    fn files(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        gather(&self.folder.path().join("out"), &mut files);
        files
    }
}

fn gather(folder: &Path, files: &mut BTreeMap<PathBuf, String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            gather(&path, files);
        } else {
            files.insert(path.clone(), fs::read_to_string(&path).unwrap());
        }
    }
}

/// A profile: levels, features, what else it says, targets.
fn profile(strict: &[&str], features: &[&str], more: &str, targets: &str) -> String {
    let [nas, admin] = [NAS, ADMIN].map(|[v4, v6]| format!("[{v4}, \"{v6}\"]"));
    format!(
        "site: strict\nrelease: \"25.10.2\"\nclients:\n  nas: {nas}\n  admin: {admin}\nfeatures: [{}]\n\
         servers:\n  dns: [{{host: 192.0.2.53}}]\n  ntp: [{{host: 192.0.2.123}}]\n\
         answers: {{allow: [documentation]}}\nstrict: [{}]\n{more}targets:\n{targets}",
        features.join(", "),
        strict.join(", "),
    )
}

/// One way to be strict.
struct Run {
    name: &'static str,
    /// What the profile says.
    strict: &'static [&'static str],
    /// What the command line says.
    more: &'static [&'static str],
    /// The classes that are then blocked.
    blocked: &'static [&'static str],
    features: &'static [&'static str],
    /// An entry that is not blocked all the same.
    except: Option<&'static str>,
}

const fn run(
    name: &'static str,
    strict: &'static [&'static str],
    more: &'static [&'static str],
    blocked: &'static [&'static str],
) -> Run {
    Run { name, strict, more, blocked, features: FEATURES, except: None }
}

const ALL: &[&str] = &["usage", "error-report", "operational", "suspected"];

const RUNS: &[Run] = &[
    run("nothing", &[], &[], &[]),
    run("usage", &["usage"], &[], &["usage"]),
    run("error-report", &[], &["--strict=error-report"], &["error-report"]),
    run("operational", &["operational"], &[], &["operational"]),
    run("suspected", &[], &["--strict=suspected"], &["suspected"]),
    run("all four", &["usage", "error-report"], &["--strict=operational,suspected"], ALL),
    // Every entry of these classes that this release has is one the catalog advises to block.
    run("advised", &[], &["--strict"], ALL),
    Run { features: &["updates"], ..run("nothing, Connect not in use", &[], &[], &[]) },
    Run { features: &["updates"], ..run("operational, Connect not in use", &["operational"], &[], &["operational"]) },
    Run { except: Some("connect-services"), ..run("all four but an exception", ALL, &[], ALL) },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// A rule lets it out, or nobody limits it.
    Pass,
    /// Strict mode blocks it.
    Blocked,
    /// No rule allows it.
    Stray,
}

impl Run {
    fn blocks(&self, call: &Call) -> bool {
        call.telemetry.is_some_and(|class| self.blocked.contains(&class))
            && !call.entries.iter().any(|entry| Some(*entry) == self.except)
    }

    /// What becomes of a packet to a host's address.
    fn fate(&self, call: &Call, from_nas: bool, proto: Proto, port: u16) -> Fate {
        let concerned = call.who == Who::Both || (call.who == Who::Nas) == from_nas;
        let in_use = call.feature.is_none_or(|feature| self.features.contains(&feature));
        match (self.blocks(call) && concerned, from_nas) {
            (true, _) => Fate::Blocked,
            (false, false) => Fate::Pass,
            (false, true) if concerned && in_use && proto == Proto::Tcp && call.tcp.contains(&port) => Fate::Pass,
            (false, true) => Fate::Stray,
        }
    }

    fn profile(&self, hook: &str) -> String {
        let except = self.except.map(|entry| format!("strict-except: [{{callout: {entry}, reason: a trial}}]\n"));
        let more = format!("{}{EXTRA}", except.unwrap_or_default());
        profile(self.strict, self.features, &more, &format!("  nftables: {{hook: {hook}}}\n"))
    }
}

/// Packets counted: by each denial of strict mode, in all of them, and by the last rule of all.
#[derive(Default)]
struct Counters {
    by_entry: BTreeMap<String, u64>,
    blocked: u64,
    stray: u64,
}

fn list(namespace: &Namespace, chain: &str) -> String {
    said(namespace.command(20, "nft").args(["list", "chain", "inet", "outgate", chain]).output()).unwrap()
}

impl Counters {
    fn read(namespace: &Namespace) -> Self {
        let count =
            |line: &str| -> Option<u64> { line.split_once("counter packets ")?.1.split(' ').next()?.parse().ok() };
        let all = |chain| list(namespace, chain).lines().filter_map(count).sum();
        let mut counters = Self { by_entry: BTreeMap::new(), blocked: all("blocked"), stray: all("denied") };
        for line in list(namespace, "clients").lines().filter(|line| line.contains("goto blocked")) {
            let entry = line.split_once("comment \"").unwrap().1.trim_end_matches('"').to_owned();
            *counters.by_entry.entry(entry).or_default() += count(line).unwrap();
        }
        counters
    }

    fn of(&self, entries: &[&str]) -> u64 {
        entries.iter().filter_map(|entry| self.by_entry.get(*entry)).sum()
    }
}

/// Every call of the table and every address, on the ports of the calls and on others.
fn flows(run: &Run, admin_is_seen: bool) -> Vec<(Flow, Fate, &'static Call)> {
    let mut all = Vec::new();
    for call in CALLS {
        let former = FORMER.iter().filter(|(host, _)| *host == call.host).flat_map(|(_, at)| at.map(ip));
        for dst in addresses(call.host).into_iter().chain(former) {
            // On the appliance itself the administrator's machine is never seen.
            for (clients, from_nas) in
                [(NAS, true), (ADMIN, false)].into_iter().filter(|(_, nas)| *nas || admin_is_seen)
            {
                let src = ip(clients[usize::from(dst.is_ipv6())]);
                for (proto, port) in [(Proto::Tcp, 443), (Proto::Tcp, 80), (Proto::Udp, 443), (Proto::Tcp, 8443)] {
                    all.push((Flow { src, dst, proto, port }, run.fate(call, from_nas, proto, port), call));
                }
            }
        }
    }
    all
}

/// Tries each way to be strict on a hook.
fn judge(hook: &str) {
    if !netns::ready() {
        return;
    }
    let clients = [NAS, ADMIN, STRANGER].concat();
    let lab = Lab::new(&clients, &["0.0.0.0/0", "::/0"]);
    let (forward, namespace) = (hook == "forward", if hook == "forward" { lab.router() } else { lab.client() });
    let (mut tried, mut blocked) = (0, 0);
    for run in RUNS {
        let site = Site::new(&run.profile(hook));
        site.resolve_twice(run.more);
        site.generated(run.more);
        let file = site.out("nftables/outgate.nft");
        if forward { lab.load_nft(&file) } else { lab.load_nft_on_client(&file) }.unwrap();
        for (chain, prefix) in [("blocked", "outgate blocked: "), ("denied", "outgate denied: ")] {
            let text = list(namespace, chain);
            assert!(text.contains(&format!("log prefix \"{prefix}\"")), "{}: {text}", run.name);
        }
        let all = flows(run, forward);
        let (stray, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, fate, _)| *fate == Fate::Stray);
        let probe = |flows: &[(Flow, Fate, &Call)]| {
            let expected: Vec<(Flow, bool)> =
                flows.iter().map(|(flow, fate, _)| (*flow, *fate == Fate::Pass)).collect();
            let surprises = lab.surprises(&expected);
            let (name, wrong, of) = (run.name, surprises.len(), expected.len());
            assert!(surprises.is_empty(), "{hook}, {name}: {wrong} of {of}:\n{}", surprises.join("\n"));
            expected.len()
        };
        // What is blocked is counted as blocked, by the rule of its entry and as nothing else.
        tried += probe(&others);
        let first = Counters::read(namespace);
        assert_eq!(first.stray, 0, "{hook}, {}: something blocked was denied by the last rule", run.name);
        assert_eq!(first.blocked, first.by_entry.values().sum::<u64>(), "{hook}, {}", run.name);
        for call in CALLS {
            let due: usize =
                CALLS.iter().filter(|c| c.entries == call.entries).map(|c| blocked_of(&others, c.host)).sum();
            let counted = first.of(call.entries);
            let right = if due == 0 { counted == 0 } else { counted >= u64::try_from(due).unwrap() };
            assert!(right, "{hook}, {}: {} counted {counted} packets of {due} flows", run.name, call.host);
            blocked += blocked_of(&others, call.host);
        }
        // What no rule allows is counted as that. Nobody limits a stranger.
        let strangers = others.iter().chain(&stray).step_by(7).map(|(flow, ..)| {
            let src = ip(STRANGER[usize::from(flow.dst.is_ipv6())]);
            (Flow { src, ..*flow }, Fate::Pass, &CALLS[0])
        });
        tried += probe(&stray.iter().copied().chain(strangers).collect::<Vec<_>>());
        let second = Counters::read(namespace);
        assert_eq!(second.blocked, first.blocked, "{hook}, {}: a stray flow counted as blocked", run.name);
        assert!(second.stray >= u64::try_from(stray.len()).unwrap() && stray.len() > 50, "{hook}, {}", run.name);
    }
    println!("hook {hook}: {} ways to be strict, {tried} flows, {blocked} of them blocked, no surprise", RUNS.len());
    assert!(blocked > 200);
}

/// Flows to a host that strict mode blocks.
fn blocked_of(flows: &[(Flow, Fate, &Call)], host: &str) -> usize {
    flows.iter().filter(|(_, fate, call)| *fate == Fate::Blocked && call.host == host).count()
}

#[test]
fn each_level_blocks_its_calls_on_a_router_and_no_others() {
    judge("forward");
}

#[test]
fn each_level_blocks_its_calls_on_the_appliance_and_no_others() {
    judge("output");
}

const BOTH_TARGETS: &str = "  nftables: {}\n  squid: {}\n";

/// A site that blocks all four levels and has both a packet filter and a proxy, with its lock.
fn site_with(decisions: &str, others: Others<'_>) -> Site {
    let site = Site::new(&profile(ALL, FEATURES, &format!("{decisions}{EXTRA}"), BOTH_TARGETS));
    site.resolve(&nameserver(others, false), NEXT_DAY, &[]);
    site
}

/// One address of each family that two hosts have.
const SHARED: [&str; 2] = ["203.0.113.222", "2001:db8:40:dd::222"];

/// The addresses of a host, and others.
fn also(host: &'static str, more: &[&str]) -> (&'static str, Behaviour) {
    let more = more.iter().map(|text| ip(text));
    (host, Behaviour::Answer(addresses(host).into_iter().chain(more).collect()))
}

fn through(host: &'static str, alias: &str) -> (&'static str, Behaviour) {
    (host, Behaviour::Chain(vec![alias.to_owned()], addresses(host)))
}

#[test]
fn what_cannot_be_told_apart_is_refused_and_nothing_is_written() {
    let both = |a, b, more: &[&str]| vec![also(a, more), also(b, more)];
    let (update, usage) = ("update.truenas.com", "usage.truenas.com");
    let (wiki, sentry) = ("wiki.example.org", "sentry.ixsystems.com");
    let (mirror, errors) = ("mirror.example.org", "errors.example.org");
    let alias = "edge.example.net";
    type Case<'a> = (Vec<(&'a str, Behaviour)>, Vec<&'a str>);
    let cases: Vec<Case<'_>> = vec![
        (both(update, usage, &SHARED[..1]), vec![update, usage, SHARED[0]]),
        (both(update, usage, &SHARED[1..]), vec![update, usage, SHARED[1]]),
        (both(update, usage, &SHARED), vec![update, usage, SHARED[0], SHARED[1]]),
        (both(wiki, sentry, &SHARED[..1]), vec![wiki, sentry, SHARED[0]]),
        (both(wiki, sentry, &SHARED[1..]), vec![wiki, sentry, SHARED[1]]),
        (vec![through(mirror, alias), through(errors, alias)], vec![mirror, errors, alias]),
        (vec![through(wiki, alias), through(sentry, alias)], vec![wiki, sentry, alias]),
        // The one has what the other had yesterday.
        (vec![also(update, &[FORMER[0].1[0]])], vec![update, usage, FORMER[0].1[0]]),
    ];
    for (i, (others, said_of)) in cases.iter().enumerate() {
        // The levels stand in the profile or on the command line, by turns.
        let (levels, more): (&[&str], &[&str]) = if i.is_multiple_of(2) { (ALL, &[]) } else { (&[], &["--strict"]) };
        let site = Site::new(&profile(levels, FEATURES, EXTRA, BOTH_TARGETS));
        site.resolve(&nameserver(&[], true), FIRST_DAY, more);
        let good = fs::read(site.folder.path().join("outgate.lock")).unwrap();
        site.resolve(&nameserver(others, false), NEXT_DAY, more);
        let bad = fs::read(site.folder.path().join("outgate.lock")).unwrap();
        let refused = |site: &Site| {
            let (code, said) = site.generate(more);
            assert_eq!(code, Some(1), "{said_of:?}: {said}");
            assert!(said.contains("error[E023]"), "{said_of:?}: {said}");
            for word in said_of {
                assert!(said.contains(word), "no word of {word}: {said}");
            }
        };
        refused(&site);
        assert!(!site.folder.path().join("out").exists(), "{said_of:?}: something was written");
        // The proxy tells them apart.
        site.generated(&[more, &["--target", "squid"]].concat());
        fs::remove_dir_all(site.folder.path().join("out")).unwrap();
        // What was written before stays as it is.
        fs::write(site.folder.path().join("outgate.lock"), &good).unwrap();
        site.generated(more);
        let before = site.files();
        assert!(before.len() > 3);
        fs::write(site.folder.path().join("outgate.lock"), &bad).unwrap();
        refused(&site);
        assert_eq!(site.files(), before, "{said_of:?}");
    }
    println!("{} shares, each refused before and after there were files", cases.len());
}

#[test]
fn what_is_blocked_for_one_client_and_allowed_for_another_is_told_apart_by_client() {
    // The browser is denied Sentry, and only the appliance looks for updates.
    let site = site_with("", &[also("update.truenas.com", &SHARED), also("sentry.ixsystems.com", &SHARED)]);
    site.generated(&[]);
    if !netns::ready() {
        return;
    }
    let lab = Lab::new(&[NAS, ADMIN].concat(), &["0.0.0.0/0", "::/0"]);
    lab.load_nft(&site.out("nftables/outgate.nft")).unwrap();
    let flows: Vec<(Flow, bool)> = (0..2)
        .flat_map(|v6| [(Flow::tcp(NAS[v6], SHARED[v6], 443), true), (Flow::tcp(ADMIN[v6], SHARED[v6], 443), false)])
        .collect();
    let surprises = lab.surprises(&flows);
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

/// A decision about an allowed and a blocked host that share an address of each family.
struct Decision {
    allowed: &'static str,
    blocked: &'static str,
    from: [&'static str; 2],
    choice: &'static str,
}

impl Decision {
    fn yaml(&self) -> String {
        let Self { allowed, blocked, choice, .. } = self;
        let with = if *choice == "accept" { format!(", with: [{blocked}]") } else { String::new() };
        format!("shared: [{{host: {allowed}, choice: {choice}{with}, reason: a trial}}]\n")
    }

    /// What becomes of the shared addresses, and of those that only the one has: from the clients of both.
    fn flows(&self) -> Vec<(Flow, bool)> {
        let limited = self.from == NAS;
        let mut flows = Vec::new();
        let mut add = |dst: IpAddr, rule: bool, blocked: bool| {
            for (proto, port) in [(Proto::Tcp, 443), (Proto::Tcp, 80), (Proto::Tcp, 8443), (Proto::Udp, 443)] {
                let on_port = (proto, port) == (Proto::Tcp, 443);
                let pass = !blocked && if limited { rule && on_port } else { true };
                flows.push((Flow { src: ip(self.from[usize::from(dst.is_ipv6())]), dst, proto, port }, pass));
            }
        };
        let accepted = self.choice == "accept";
        for dst in SHARED.map(ip) {
            add(dst, accepted, !accepted);
        }
        for dst in addresses(self.allowed) {
            add(dst, accepted, false);
        }
        for dst in addresses(self.blocked) {
            add(dst, false, true);
        }
        flows
    }
}

#[test]
fn a_decision_about_a_shared_address_does_what_it_says() {
    if !netns::ready() || !squid::ready() {
        return;
    }
    let lab = Lab::new(&[NAS, ADMIN].concat(), &["0.0.0.0/0", "::/0"]);
    let pairs = [("update.truenas.com", "usage.truenas.com", NAS), ("wiki.example.org", "sentry.ixsystems.com", ADMIN)];
    // Squid as well finds both of a pair at one address.
    let mut hosts: Vec<(&str, &str)> = pairs.iter().flat_map(|(a, b, _)| [(*a, SHARED[0]), (*b, SHARED[0])]).collect();
    hosts.push(("mirror.example.org", "203.0.113.230"));
    let world = World { clients: &[NAS, ADMIN].concat(), hosts: &hosts, bare: &SHARED, ports: &[80, 443] };
    let proxy = SquidLab::new(&world);
    let (mut flows, mut requests) = (0, 0);
    for (allowed, blocked, from) in pairs {
        for choice in ["proxy", "accept", "drop"] {
            let decision = Decision { allowed, blocked, from, choice };
            let site = site_with(&decision.yaml(), &[also(allowed, &SHARED), also(blocked, &SHARED)]);
            site.generated(&[]);
            lab.load_nft(&site.out("nftables/outgate.nft")).unwrap();
            let expected = decision.flows();
            let surprises = lab.surprises(&expected);
            assert!(surprises.is_empty(), "{choice} {allowed}:\n{}", surprises.join("\n"));
            flows += expected.len();

            let squid = start(&proxy, &site);
            let reached = choice != "drop";
            let mut expected = vec![(Request::tls(NAS[0], "mirror.example.org:443", Some("mirror.example.org")), true)];
            for client in from {
                expected.push((Request::tls(client, &format!("{allowed}:443"), Some(allowed)), reached));
                expected.push((Request::tls(client, &format!("{blocked}:443"), Some(blocked)), false));
                expected.push((Request::tls(client, &format!("{allowed}:443"), Some(blocked)), false));
                expected.push((Request::tls(client, &format!("{blocked}:443"), Some(allowed)), false));
                expected.push((Request::get(client, &format!("http://{blocked}/")), false));
                for at in [SHARED[0].to_owned(), format!("[{}]", SHARED[1])] {
                    expected.push((Request::tls(client, &format!("{at}:443"), Some(allowed)), false));
                    expected.push((Request::get(client, &format!("http://{at}/")), false));
                }
            }
            let surprises = squid.surprises(&expected);
            assert!(surprises.is_empty(), "{choice} {allowed}:\n{}", surprises.join("\n"));
            requests += expected.len();
        }
    }
    println!("6 decisions, {flows} flows, {requests} requests, no surprise");
}

#[test]
fn what_was_not_decided_on_is_refused_beside_what_was() {
    let (update, usage, errors) = ("update.truenas.com", "usage.truenas.com", "errors.example.org");
    let accept = Decision { allowed: update, blocked: usage, from: NAS, choice: "accept" }.yaml();
    // Another blocked name at the accepted address.
    let site = site_with(&accept, &[also(update, &SHARED), also(usage, &SHARED), also(errors, &SHARED[1..])]);
    let (code, said) = site.generate(&[]);
    assert!(code == Some(1) && said.contains("E023") && said.contains(errors) && said.contains(SHARED[1]), "{said}");
    assert!(!site.folder.path().join("out").exists());
    // Another allowed name there.
    let site =
        site_with(&accept, &[also(update, &SHARED), also(usage, &SHARED), also("mirror.example.org", &SHARED[..1])]);
    let (code, said) = site.generate(&[]);
    assert!(code == Some(1) && said.contains("E023") && said.contains("mirror.example.org"), "{said}");
    assert!(!site.folder.path().join("out").exists());
}

/// Squid with the files of a site.
fn start<'lab>(lab: &'lab SquidLab, site: &Site) -> squid::Squid<'lab> {
    let pem = lab.certificate();
    let moved = [("/etc/squid/outgate.pem", pem.to_str().unwrap()), ("/etc/squid/outgate/", "{copy}/lists/")];
    let file = lab.stage(&site.out("squid"), &moved).join("outgate.conf");
    lab.parse(&file).unwrap();
    lab.start(&file, 3128).unwrap()
}

/// Every other letter a capital.
fn mixed(name: &str) -> String {
    let letters = name.chars().enumerate();
    letters.map(|(i, c)| if i.is_multiple_of(2) { c.to_ascii_uppercase() } else { c }).collect()
}

/// Ways to ask for a host, none of which may reach it where it is blocked. With an allowed name to hide behind.
fn disguises(client: &str, host: &str, at: &[String], front: &str) -> Vec<Request> {
    let (upper, dotted, both) = (mixed(host), format!("{host}."), format!("{}.", mixed(host)));
    let front_both = format!("{}.", mixed(front));
    let mut all = Vec::new();
    for name in [host, &upper, &dotted, &both] {
        all.push(Request::get(client, &format!("http://{name}/")));
        for inside in [Some(host), Some(upper.as_str()), Some(dotted.as_str()), Some(both.as_str()), Some(front), None]
        {
            all.push(Request::tls(client, &format!("{name}:443"), inside));
        }
        for front in [front, &front_both] {
            all.push(Request::tls(client, &format!("{front}:443"), Some(name)));
        }
        for at in at {
            all.push(Request::tls(client, &format!("{at}:443"), Some(name)));
        }
    }
    for at in at {
        all.push(Request::get(client, &format!("http://{at}/")));
        all.push(Request::tls(client, &format!("{at}:443"), None));
        all.push(Request::tls(client, &format!("{at}:443"), Some(front)));
        all.push(Request::raw(client, &format!("{at}:443")));
    }
    all
}

#[test]
fn no_disguise_gets_telemetry_through_the_proxy() {
    if !squid::ready() {
        return;
    }
    const BELOW: &str = "other.plain.example.org";
    let (mut at, mut bare) = (BTreeMap::new(), Vec::new());
    for call in CALLS {
        let (v4, v6) = (addresses(call.host)[0].to_string(), addresses(call.host)[1].to_string());
        at.insert(call.host, [v4, v6]);
    }
    at.insert(BELOW, at_texts(at.len()));
    at.insert("stray.example.com", at_texts(at.len()));
    let hosts: Vec<(&str, &str)> = at.iter().map(|(host, [v4, _])| (*host, v4.as_str())).collect();
    bare.extend(at.values().map(|[_, v6]| v6.as_str()));
    let clients = [NAS, ADMIN].concat();
    let lab = SquidLab::new(&World { clients: &clients, hosts: &hosts, bare: &bare, ports: &[80, 443] });
    for run in RUNS.iter().filter(|run| ["usage", "all four"].contains(&run.name)) {
        let more = format!("{EXTRA}{WILDCARD}");
        let site = Site::new(&profile(run.strict, run.features, &more, "  squid: {}\n"));
        site.resolve(&nameserver(&[], false), NEXT_DAY, run.more);
        site.generated(run.more);
        let squid = start(&lab, &site);
        let mut expected = Vec::new();
        let mut blocked = 0;
        for call in CALLS {
            for (clients, from_nas, fronts) in
                [(NAS, true, vec![BELOW, "mirror.example.org"]), (ADMIN, false, vec!["wiki.example.org"])]
            {
                let concerned = call.who == Who::Both || (call.who == Who::Nas) == from_nas;
                let passes = concerned && !run.blocks(call);
                let host = call.host;
                for (n, client) in clients.into_iter().enumerate() {
                    let [v4, v6] = &at[host];
                    let literals = [v4.clone(), format!("[{v6}]")];
                    if passes {
                        for name in [host.to_owned(), mixed(host), format!("{host}.")] {
                            expected.push((Request::tls(client, &format!("{name}:443"), Some(host)), true));
                        }
                        let plain = call.tcp.contains(&80);
                        expected.push((Request::get(client, &format!("http://{host}/")), plain));
                        for at in literals {
                            expected.push((Request::tls(client, &format!("{at}:443"), Some(host)), false));
                        }
                        continue;
                    }
                    for front in fronts.iter().take(2 - n) {
                        let asks = disguises(client, host, &literals, front);
                        blocked += asks.len();
                        expected.extend(asks.into_iter().map(|ask| (ask, false)));
                    }
                }
            }
        }
        // Beside what is blocked below the wildcard, the rest below it passes.
        for client in NAS {
            expected.push((Request::tls(client, &format!("{BELOW}:443"), Some(BELOW)), true));
            expected.push((Request::get(client, &format!("http://{BELOW}/")), true));
        }
        let passing = expected.iter().filter(|(_, pass)| *pass).count();
        assert!(passing > 20 && blocked > 500, "{}: {passing} pass, {blocked} are blocked", run.name);
        let surprises = squid.surprises(&expected);
        let wrong = surprises.len();
        assert!(surprises.is_empty(), "{}: {wrong} of {}:\n{}", run.name, expected.len(), surprises.join("\n"));
        // The log tells what strict mode denies from strays.
        let stray = (Request::tls(NAS[0], "stray.example.com:443", Some("stray.example.com")), false);
        assert!(squid.surprises(&[stray]).is_empty());
        let log = squid.access_log();
        let marked = |name: &str| {
            let ours = |line: &&str| line.contains(&format!(" {} ", NAS[0])) && line.contains(&format!(" {name}:443 "));
            let ours: Vec<&str> = log.lines().filter(ours).collect();
            assert!(!ours.is_empty(), "{name} is not in the log:\n{log}");
            (ours.len(), ours.iter().filter(|line| line.ends_with(" blocked")).count())
        };
        let (all, blocked) = marked("usage.truenas.com");
        assert_eq!((all, marked("stray.example.com").1), (blocked, 0), "{}:\n{log}", run.name);
        println!("{}: {} requests, {passing} pass, no surprise", run.name, expected.len());
    }
}

fn at_texts(number: usize) -> [String; 2] {
    let all = at(number);
    [all[0].to_string(), all[1].to_string()]
}

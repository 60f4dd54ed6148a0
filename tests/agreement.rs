//! The files of every target, read back by readers that know nothing of the renderer, against the model: the same
//! verdict by the same rule for every packet tried, and for one packet of each kind that the rules can tell apart.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures of a run")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use outgate::callout::Endpoint;
use outgate::diagnostic::Code;
use outgate::host::NamePattern;
use outgate::port::Protocol;
use outgate::ruleset::Action;

mod support;
use support::readers::packet::{Enforcer, Fate, Packet, Proto};
use support::readers::squid::{Ask, Hello};
use support::site::{self, ROUTER, Site, Targets};
use support::trial;

/// Least flows for each site and target.
const FLOWS: usize = 2000;

#[test]
fn every_packet_filter_does_what_the_model_decides() {
    let mut figures: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
    for site in site::sites() {
        for target in ["nftables", "pf", "opnsense"] {
            let file = trial::read(&site, target, &site.files[target]).unwrap();
            let tried = trial::flows(&site, target, 3 * FLOWS);
            assert!(tried.len() >= FLOWS, "{}, {target}: only {} flows", site.name, tried.len());
            let kinds = trial::kinds(&site, target, &*file, None);
            let mut wrong = Vec::new();
            let mut fates: BTreeMap<Fate, usize> = BTreeMap::new();
            for packet in tried.iter().chain(&kinds) {
                let (fate, by) = site.expected(target, packet);
                let verdict = file.judge(packet);
                *fates.entry(fate).or_default() += 1;
                // A denial of all IPv6 is one of whatever no rule allows.
                let name = if verdict.by == "denied-ipv6" { "denied" } else { &verdict.by };
                if verdict.fate != fate || name != by {
                    wrong.push(format!("{packet}: {verdict:?}, should be {fate:?} by {by:?}"));
                }
            }
            // The model with its sets made once is the model.
            for packet in &tried {
                assert_eq!(site.decide(packet), site.decide_slowly(packet), "{packet}");
            }
            println!(
                "{}, {target}: {} flows and {} kinds, {fates:?}, {} disagreements",
                site.name,
                tried.len(),
                kinds.len(),
                wrong.len()
            );
            assert!(
                wrong.is_empty(),
                "{}, {target}: {}\n{}",
                site.name,
                wrong.len(),
                wrong[..wrong.len().min(20)].join("\n")
            );
            for fate in [Fate::Pass, Fate::Block, Fate::Unmatched] {
                assert!(fates.get(&fate).is_some_and(|n| *n > 10), "{}, {target}: too few {fate:?}", site.name);
            }
            let sum = figures.entry(target).or_default();
            *sum = (sum.0 + 1, sum.1 + tried.len(), sum.2 + kinds.len());
        }
    }
    for (target, (sites, flows, kinds)) in figures {
        println!("{target}: {sites} sites, {flows} flows and {kinds} kinds of packet, no disagreement");
    }
}

#[test]
fn the_proxy_does_what_the_model_names() {
    for site in site::sites() {
        let squid = trial::squid(&site.files["squid"]).unwrap();
        let asks = trial::asks(&site);
        let mut passing = 0;
        for ask in &asks {
            let allowed = site.proxied(ask);
            passing += usize::from(allowed);
            assert_eq!(squid.allows(ask), allowed, "{}: {ask:?}", site.name);
        }
        assert!(asks.len() > 1000 && passing > 10, "{}: {passing} of {} pass", site.name, asks.len());
        println!("{}, squid: {} requests, {passing} pass, 0 disagreements", site.name, asks.len());
    }
}

#[test]
fn loading_a_file_twice_is_loading_it_once() {
    for site in site::sites() {
        let files = &site.files["nftables"];
        let once = trial::read(&site, "nftables", files).unwrap();
        let mut twice = files.clone();
        twice.values_mut().for_each(|text| *text = text.repeat(2));
        assert_eq!(trial::read(&site, "nftables", &twice).unwrap().model(), once.model(), "{}", site.name);
    }
}

#[test]
fn the_readers_know_nothing_of_the_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/readers");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("outgate::") && !text.contains("ipnet::"), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 6);
}

#[test]
fn what_a_reader_does_not_know_it_refuses() {
    let sites = site::sites();
    let site = &sites[0];
    let refuses = |target: &str, file: &str, from: &str, to: &str| {
        let mut files = site.files[target].clone();
        let text = files.get_mut(file).unwrap();
        assert!(text.contains(from), "{target}: no {from:?}");
        *text = text.replacen(from, to, 1);
        let error = trial::refusal(site, target, &files);
        assert!(error.as_ref().is_some_and(|e| e.starts_with("grammar unknown: ")), "{target}: {to:?}: {error:?}");
    };
    refuses("pf", "outgate.conf", " keep state label", " keep state (if-bound) label");
    refuses("pf", "outgate.conf", "pass in", "match in");
    refuses("pf", "outgate.conf", "table <", "set skip on lo\ntable <");
    refuses("nftables", "outgate.nft", "counter accept", "counter queue");
    refuses("nftables", "outgate.nft", "policy accept;", "policy drop;");
    refuses("nftables", "outgate.nft", "tcp dport", "tcp dport !=");
    refuses("nftables", "outgate.nft", "\nflush set", "\ndelete table inet other\nflush set");
    refuses("opnsense", "rules.csv", ";sequence;", ";prio;");
    refuses("opnsense", "aliases.json", "\"type\": \"host\"", "\"type\": \"urltable\"");
    refuses("squid", "outgate.conf", "http_access deny all", "never_direct allow all");
    refuses("squid", "outgate.conf", "ssl_bump splice", "ssl_bump bump");
}

/// One thing of the policy that a target does not let through: target, rule, and the name or the port.
type Loss = (&'static str, String, String);

#[test]
fn the_targets_agree_but_for_what_they_report() {
    const DEAD: &str = "dead.example.org";
    let extra = (
        "extra:\n",
        "extra:\n  - id: wild\n    purpose: Everything below a name.\n    origin: [nas]\n    \
         hosts: [\"*.wild.example.org\", tame.example.org]\n    ports: [443/tcp, 8443/tcp]\n  \
         - id: dead\n    purpose: A name without an address.\n    origin: [nas]\n    \
         hosts: [dead.example.org]\n    ports: [440-445/tcp, 80/tcp, 443/udp]\n  \
         - id: plain\n    purpose: An address of the site.\n    origin: [nas]\n    \
         hosts: [203.0.113.77, \"2001:db8:77::7\"]\n    ports: [80/tcp]\n",
    );
    let mut losses = 0;
    for (of, changes) in [("home-lab", vec![extra]), ("core-jails", vec![]), ("other-product", vec![])] {
        let make = |resolve| {
            let targets = Targets { resolve, ..ROUTER };
            Site::with(of, of, &changes, targets, site::PF_FOLDER, |policy| site::lock_of(policy, DEAD))
        };
        losses += agree(&make("lock"), "opnsense by lock") + agree(&make("firewall"), "opnsense by name");
    }
    assert!(losses > 20, "only {losses} losses: nothing was shown");
}

/// Compares what each target lets through with the policy, and what it does not with its report. How many losses.
fn agree(site: &Site, opnsense: &'static str) -> usize {
    // What the firewall's own DNS says: the lock's answers, and an address for whatever has none there.
    let mut names = trial::names(site);
    for (name, at) in
        [("dead.example.org", "9.9.9.1"), ("a.wild.example.org", "9.9.9.2"), ("evil.example.net", "9.9.9.3")]
    {
        names.entry(name.to_owned()).or_default().insert(at.parse().unwrap());
    }
    let by_lock =
        |name: &str| names.get(name).into_iter().flatten().copied().filter(|a| !a.to_string().starts_with("9.9.9."));
    let read = |target: &str| trial::read_with(site, target, &site.files[target], &names).unwrap();
    let filters: Vec<(&'static str, Box<dyn Enforcer>)> =
        vec![("nftables", read("nftables")), ("pf", read("pf")), (opnsense, read("opnsense"))];
    let squid = trial::squid(&site.files["squid"]).unwrap();
    let clients: Vec<IpAddr> = site.rules.limited().prefixes().iter().map(|net| net.network()).collect();
    let (mut found, mut flows, mut wide) = (BTreeSet::<Loss>::new(), 0, Vec::new());

    for rule in &site.rules.rules {
        for destination in &rule.destinations {
            // Names as a client says them; of a wildcard one that it means. An address is a name of its own.
            let asked: Vec<String> = match &destination.endpoint {
                Endpoint::Net(net) => vec![net.network().to_string()],
                _ => {
                    let name = |pattern: &NamePattern| match pattern {
                        NamePattern::Exact(host) => host.to_string(),
                        NamePattern::Below(host) => format!("a.{host}"),
                    };
                    destination.names().iter().map(name).collect()
                }
            };
            for name in &asked {
                let literal: Option<IpAddr> = name.parse().ok();
                for port in rule.ports.iter() {
                    let numbers = if rule.action == Action::Deny {
                        vec![80, 443, 8443]
                    } else {
                        (port.first()..=port.last()).collect()
                    };
                    for number in numbers {
                        for &client in &clients {
                            let allowed = rule.action == Action::Allow
                                && site.rules.clients_of(site.rules.bound(rule)).contains(client);
                            let proto = if port.protocol == Protocol::Tcp { Proto::Tcp } else { Proto::Udp };
                            for (target, file) in &filters {
                                let at: Vec<IpAddr> = match literal {
                                    Some(at) => vec![at],
                                    None if target.ends_with("by name") => {
                                        names.get(name).into_iter().flatten().copied().collect()
                                    }
                                    None => by_lock(name).collect(),
                                };
                                let at: Vec<IpAddr> =
                                    at.into_iter().filter(|a| a.is_ipv4() == client.is_ipv4()).collect();
                                let through = |at: &IpAddr| {
                                    file.judge(&Packet::new(client, *at, proto, number)).fate == Fate::Pass
                                };
                                flows += 1;
                                if !allowed && rule.action == Action::Deny && at.iter().any(through) {
                                    wide.push(format!("{target}: {client} -> {name} {number}"));
                                }
                                // A name of one family is no loss of the other's client, if the name has any.
                                let other = literal.is_some_and(|l| l.is_ipv4() != client.is_ipv4())
                                    || (at.is_empty()
                                        && names
                                            .get(name)
                                            .is_some_and(|all| !all.is_empty() && by_lock(name).next().is_some()))
                                    || (at.is_empty() && client.is_ipv6() && target.ends_with("by name"));
                                if allowed && !other && (at.is_empty() || !at.iter().all(through)) {
                                    found.insert((target, rule.key.to_string(), destination.endpoint.to_string()));
                                }
                            }
                            flows += 1;
                            if literal.is_some_and(|l| l.is_ipv4() != client.is_ipv4()) {
                                continue;
                            }
                            let hello = if number == 80 {
                                Hello::Plain
                            } else {
                                Hello::Tls(literal.is_none().then(|| name.clone()))
                            };
                            let ask = Ask {
                                client,
                                host: name.clone(),
                                port: number,
                                hello,
                                scheme: "HTTP",
                                own_port: true,
                                backwards: None,
                            };
                            let through = proto == Proto::Tcp && squid.allows(&ask);
                            if allowed && !through {
                                found.insert(("squid", rule.key.to_string(), format!("{number}/{}", port.protocol)));
                            }
                            if rule.action == Action::Deny && through {
                                wide.push(format!("squid: {client} -> {name} {number}"));
                            }
                        }
                    }
                }
            }
        }
    }
    // A name that nobody allows, on an address that nobody has.
    for &client in clients.iter().filter(|c| c.is_ipv4()) {
        for (target, file) in &filters {
            let packet = Packet::new(client, "9.9.9.3".parse().unwrap(), Proto::Tcp, 443);
            assert_eq!(file.judge(&packet).fate, Fate::Block, "{target}");
        }
        let hello = Hello::Tls(Some("evil.example.net".to_owned()));
        let host = "evil.example.net".to_owned();
        assert!(!squid.allows(&Ask {
            client,
            host,
            port: 443,
            hello,
            scheme: "HTTP",
            own_port: true,
            backwards: None
        }));
    }
    assert!(wide.is_empty(), "{}: let through what is denied:\n{}", site.name, wide.join("\n"));

    let reported = reported(site, opnsense);
    let missing: Vec<&Loss> = found.difference(&reported).collect();
    let too_much: Vec<&Loss> = reported.difference(&found).collect();
    println!("{}, {opnsense}: {flows} flows by name, {} losses, all reported", site.name, found.len());
    assert!(missing.is_empty(), "{}: lost and not reported: {missing:#?}", site.name);
    assert!(too_much.is_empty(), "{}: reported and not lost: {too_much:#?}", site.name);
    found.len()
}

/// What was reported, in the words of [`Loss`].
fn reported(site: &Site, opnsense: &'static str) -> BTreeSet<Loss> {
    let mut all = BTreeSet::new();
    for (code, message) in &site.said {
        let Some((target, rest)) = message.split_once(": ") else { continue };
        let target = match target {
            "nftables" => "nftables",
            "pf" => "pf",
            "opnsense" => opnsense,
            "squid" => "squid",
            _ => continue,
        };
        match code {
            Code::Loss | Code::NoAddress => {
                let (key, rest) = rest.split_once(": ").unwrap();
                // A service without hosts is one loss by address and one by name; nobody can ask for it by a name.
                let endpoint = rest.split([' ', ':']).next().unwrap();
                if !endpoint.starts_with('_') {
                    all.insert((target, key.to_owned(), endpoint.to_owned()));
                }
            }
            Code::OutOfReach => {
                // A list that stands beside DNS answers is no name of the policy; who asks DNS himself leaves it out.
                if rest.starts_with("list ") && target == "opnsense by name" {
                    continue;
                }
                let list = rest.strip_prefix("does not go through a proxy: ").unwrap();
                for part in list.split("; ") {
                    let (key, ports) = part.strip_suffix(')').and_then(|p| p.split_once(" (")).unwrap();
                    for port in ports.split(", ") {
                        let (range, but) = port.split_once(" but for ").unwrap_or((port, ""));
                        let but: Vec<&str> = but.split(" and ").collect();
                        let (range, protocol) = range.split_once('/').unwrap();
                        let (first, last) = range.split_once('-').unwrap_or((range, range));
                        for number in first.parse::<u16>().unwrap()..=last.parse().unwrap() {
                            if !but.contains(&number.to_string().as_str()) {
                                all.insert((target, key.to_owned(), format!("{number}/{protocol}")));
                            }
                        }
                    }
                }
            }
            _ => {}
        }
    }
    all
}

/// Opt-in: the parser of pf itself, where the environment names one. It says nothing of verdicts, but it is pf's own.
#[test]
fn pfctl_takes_every_file() {
    let Some(program) = std::env::var_os("OUTGATE_PFCTL") else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: pfctl_takes_every_file: OUTGATE_PFCTL names no pfctl");
        return;
    };
    for dialect in ["freebsd", "openbsd"] {
        for side in ["router", "host"] {
            for of in ["home-lab", "core-jails", "other-product"] {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().to_str().unwrap();
                let targets =
                    Targets { dialect, side, hook: if side == "host" { "output" } else { "forward" }, ..ROUTER };
                let site = Site::with(of, of, &[], targets, path, |policy| site::lock_of(policy, ""));
                fs::create_dir(folder.path().join("tables")).unwrap();
                for (name, text) in &site.files["pf"] {
                    fs::write(folder.path().join(name), text).unwrap();
                }
                let pfctl = || {
                    let mut command = Command::new(&program);
                    command.args(["-a", "outgate", "-nf"]).arg(folder.path().join("outgate.conf"));
                    command.output().unwrap()
                };
                let output = pfctl();
                assert!(output.status.success(), "{of}: {}", String::from_utf8_lossy(&output.stderr));
                // It can refuse, too.
                fs::write(folder.path().join("outgate.conf"), "pass in fast on em1 all\n").unwrap();
                assert!(!pfctl().status.success(), "this pfctl takes anything");
            }
        }
    }
}

#[test]
fn the_sets_of_the_model_and_of_the_readers_are_two_algebras() {
    // The readers' own sets, held against ours at every edge: a fault in one would hide a fault in the other.
    for site in site::sites() {
        for set in site.sets() {
            let mut own = support::readers::packet::Addrs::default();
            for net in set.prefixes() {
                own.add(support::readers::packet::Net::parse(&net.to_string()).unwrap());
            }
            for addr in trial::edges([&set]) {
                assert_eq!(own.contains(addr), set.contains(addr), "{}: {addr}", site.name);
            }
        }
    }
}

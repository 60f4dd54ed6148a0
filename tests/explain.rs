//! `outgate explain`: what it says is what the kernel does with the packet and Squid with the request, what it reads of a
//! log is what the log says, and what it names as near is so.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures of a run")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use ipnet::IpNet;
use outgate::day::Day;
use outgate::explain::question::{self, Question, To};
use outgate::explain::{Explainer, Standing};
use outgate::host::Query;
use outgate::lock::ranges::Listed;
use outgate::lock::{Entry, ListEntry, Lock};
use outgate::port::Protocol;
use outgate::ranges::{Place, Source};
use outgate::ruleset::Verdict;
use outgate::target::wall::Wall;
use outgate::text::{Id, Text};
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

mod support;
use support::netns::{self, Flow, Lab, Proto};
use support::readers::packet::{self, Interface, Packet};
use support::squid::{self, Request, SquidLab, World};
use support::trial;

/// Runs the program in a folder; what it printed, what it said, its exit code.
fn outgate(folder: &Path, args: &[&str], input: &str) -> (String, String, Option<i32>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_outgate"))
        .args(args)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("SOURCE_DATE_EPOCH", "1795219200")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || pipe.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    // One that ends early reads no further.
    let _ = writer.join().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

fn explain(folder: &Path, args: &[&str], input: &str) -> String {
    let all: Vec<&str> = std::iter::once("explain").chain(args.iter().copied()).collect();
    let (said, errors, code) = outgate(folder, &all, input);
    assert_eq!(code, Some(0), "{errors}");
    said
}

fn json(folder: &Path, what: &[&str]) -> Value {
    let args: Vec<&str> = what.iter().copied().chain(["--format", "json"]).collect();
    serde_json::from_str(&explain(folder, &args, "")).unwrap()
}

/// A copy of an example, with its profile changed.
fn site(name: &str, changes: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let mut profile = fs::read_to_string(from.join("outgate.yaml")).unwrap();
    for (old, new) in changes {
        assert!(profile.contains(old), "the profile has no `{old}` to change");
        profile = profile.replace(old, new);
    }
    fs::write(folder.path().join("outgate.yaml"), profile).unwrap();
    fs::copy(from.join("outgate.lock"), folder.path().join("outgate.lock")).unwrap();
    folder
}

/// A line as the kernel logs a packet.
fn kernel_line(flow: &Flow) -> String {
    let Flow { src, dst, port, .. } = flow;
    let proto = if flow.proto == Proto::Tcp { "TCP" } else { "UDP" };
    format!(
        "[ 12.345678] outgate denied: IN=lan0 OUT=wan0 MAC=02:00 SRC={src} DST={dst} LEN=60 TTL=63 PROTO={proto} SPT=40000 DPT={port} LEN=20"
    )
}

/// The verdict of each line of `--each`.
fn verdicts(said: &str) -> Vec<&str> {
    said.lines().map(|line| line.split('\t').next().unwrap()).collect()
}

#[test]
fn what_it_says_of_a_packet_the_kernel_does() {
    if !netns::ready() {
        return;
    }
    for name in ["home-lab", "core-jails"] {
        let model = support::site::Site::new(name, name, &[], support::site::ROUTER);
        let ordinary = |p: &Packet| {
            matches!(p.proto, packet::Proto::Tcp | packet::Proto::Udp)
                && p.port > 0
                && p.source_port == 40_000
                && p.interface == Interface::Ours
        };
        let packets = trial::flows(&model, "nftables", 9000).into_iter().filter(ordinary);
        let mut flows: BTreeSet<Flow> = packets
            .map(|p| Flow {
                src: p.src,
                dst: p.dst,
                proto: if p.proto == packet::Proto::Tcp { Proto::Tcp } else { Proto::Udp },
                port: p.port,
            })
            .collect();
        let clients: BTreeSet<IpAddr> = flows.iter().map(|flow| flow.src).collect();
        flows.retain(|flow| !clients.contains(&flow.dst) && !matches!(flow.dst, IpAddr::V6(v6) if v6.is_multicast()));
        let folder = site(name, &[]);
        // core-jails has no nftables target of its own.
        let profile = fs::read_to_string(folder.path().join("outgate.yaml")).unwrap();
        let head = &profile[..profile.find("\ntargets:\n").unwrap()];
        fs::write(folder.path().join("outgate.yaml"), format!("{head}\ntargets:\n  nftables: {{interface: lan0}}\n"))
            .unwrap();
        let (_, errors, code) = outgate(folder.path(), &["generate"], "");
        assert!(matches!(code, Some(0 | 1)), "{errors}");

        let lines: String = flows.iter().map(|flow| kernel_line(flow) + "\n").collect();
        let said = explain(folder.path(), &["--each"], &lines);
        let said = verdicts(&said);
        assert_eq!(said.len(), flows.len());
        let expected: Vec<(Flow, bool)> =
            flows.iter().zip(&said).map(|(flow, verdict)| (*flow, *verdict != "denied")).collect();
        let allowed = said.iter().filter(|verdict| **verdict == "allowed").count();
        let denied = said.iter().filter(|verdict| **verdict == "denied").count();
        assert!(allowed > 50 && denied > 500, "{name}: {allowed} allowed, {denied} denied: too few of a kind");

        let clients: Vec<IpAddr> = clients.into_iter().collect();
        let lab = Lab::new(&clients, &["0.0.0.0/0", "::/0"]);
        lab.load_nft(&folder.path().join("out/nftables/outgate.nft")).unwrap();
        let surprises = lab.surprises(&expected);
        assert!(surprises.is_empty(), "{name}: {} of {}:\n{}", surprises.len(), expected.len(), surprises.join("\n"));
        println!(
            "{name}: {} packets, {allowed} allowed, {denied} denied, no disagreement with the kernel",
            expected.len()
        );
    }
}

#[test]
fn what_it_says_of_a_request_squid_does_and_its_log_says() {
    if !squid::ready() {
        return;
    }
    let wild = "extra:\n  - id: wild\n    purpose: Everything below a name.\n    origin: [nas]\n    hosts: [\"*.wild.example.org\"]\n    \
                ports: [443/tcp]\n  - id: plain\n    purpose: A mirror without TLS.\n    origin: [nas]\n    hosts: [plain.example.org]\n    \
                ports: [80/tcp]\n  - id: literal\n    purpose: An address of the site.\n    origin: [nas]\n    hosts: [203.0.113.77]\n    \
                ports: [443/tcp]\n";
    let folder = site("home-lab", &[("extra:\n", wild)]);
    let profile = fs::read_to_string(folder.path().join("outgate.yaml")).unwrap();
    let head = &profile[..profile.find("\ntargets:\n").unwrap()];
    fs::write(folder.path().join("outgate.yaml"), format!("{head}\ntargets:\n  squid: {{port: 3128}}\n")).unwrap();
    let (_, errors, code) = outgate(folder.path(), &["generate"], "");
    assert!(matches!(code, Some(0 | 1)), "{errors}");

    // Names of rules, and near ones.
    let mut names: BTreeSet<String> =
        ["wild.example.org", "a.wild.example.org", "a.b.wild.example.org", "xwild.example.org", "plain.example.org"]
            .map(str::to_owned)
            .into();
    for list in fs::read_dir(folder.path().join("out/squid/lists")).unwrap() {
        let text = fs::read_to_string(list.unwrap().path()).unwrap();
        for host in text
            .lines()
            .filter_map(|line| line.split([' ', '#']).next())
            .filter(|host| !host.is_empty() && !host.starts_with('.'))
        {
            names.extend([host.to_owned(), format!("evil.{host}"), format!("x{host}")]);
        }
    }
    let addrs: Vec<String> = (0..names.len()).map(|i| format!("198.18.{}.{}", i / 250, 1 + i % 250)).collect();
    let hosts: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(addrs.iter().map(String::as_str)).collect();
    let clients = ["192.0.2.10", "192.0.2.20", "192.0.2.99"];
    let lab = SquidLab::new(&World {
        clients: &clients,
        hosts: &hosts,
        bare: &["203.0.113.77", "203.0.113.78"],
        ports: &[80, 443, 8443],
    });
    let rendered =
        lab.stage(&folder.path().join("out/squid"), &[("/etc/squid/outgate.pem", lab.certificate().to_str().unwrap())]);
    let file = rendered.join("outgate.conf");
    let text =
        fs::read_to_string(&file).unwrap().replace("/etc/squid/outgate/", &format!("{}/lists/", rendered.display()));
    fs::write(&file, text).unwrap();

    let mut asked: Vec<(String, Request)> = Vec::new();
    for name in &names {
        for client in clients {
            asked.push((format!("{client} {name}:443"), Request::tls(client, &format!("{name}:443"), Some(name))));
            asked.push((format!("{client} {name}:80"), Request::get(client, &format!("http://{name}/"))));
        }
        asked
            .push((format!("192.0.2.10 {name}:8443"), Request::tls("192.0.2.10", &format!("{name}:8443"), Some(name))));
    }
    for (addr, client) in
        [("203.0.113.77", "192.0.2.10"), ("203.0.113.77", "192.0.2.20"), ("203.0.113.78", "192.0.2.10")]
    {
        asked.push((format!("{client} {addr}:443"), Request::tls(client, &format!("{addr}:443"), None)));
    }
    // First what it says, then what comes of it.
    let questions: String = asked
        .iter()
        .map(|(what, _)| {
            let (client, to) = what.split_once(' ').unwrap();
            format!("1763000000.000 1 {client} TCP_MISS/200 1 CONNECT {to} - HIER_NONE/- -\n")
        })
        .collect();
    let said = explain(folder.path(), &["--each"], &questions);
    let said = verdicts(&said);
    let expected: Vec<(Request, bool)> =
        asked.iter().zip(&said).map(|((_, request), verdict)| (request.clone(), *verdict == "allowed")).collect();
    let passing = expected.iter().filter(|(_, pass)| *pass).count();
    assert!(passing > 20 && expected.len() > 500, "{passing} of {}", expected.len());
    let squid = lab.start(&file, 3128).unwrap();
    let surprises = squid.surprises(&expected);
    assert!(surprises.is_empty(), "{} of {}:\n{}", surprises.len(), expected.len(), surprises.join("\n"));
    println!("{} requests, {passing} of them let out, no disagreement with Squid", expected.len());

    // Its own log, read back: it says the same, and no line is left over.
    let log = squid.access_log();
    drop(squid);
    let summary: Value = serde_json::from_str(&explain(folder.path(), &["--format", "json"], &log)).unwrap();
    let by_place: BTreeMap<&str, &str> =
        asked.iter().map(|(what, _)| what.as_str()).zip(said.iter().copied()).collect();
    let mut seen = BTreeSet::new();
    for row in summary["destinations"].as_array().unwrap() {
        let to = row["host"].as_str().or(row["address"].as_str()).unwrap();
        let place = format!("{} {to}:{}", row["client"].as_str().unwrap(), row["port"]);
        assert_eq!(row["verdict"], by_place[place.as_str()], "{row}");
        assert_eq!(row["contradicts_log"], false, "{row}");
        assert_eq!(row["log"]["target"], "squid");
        seen.insert(place);
    }
    assert_eq!(seen.len(), asked.len(), "a question that is not in the log");
    let unread: Vec<&str> =
        summary["not_understood"].as_array().unwrap().iter().map(|row| row["why"].as_str().unwrap()).collect();
    assert!(unread.iter().all(|why| why.contains("did not understand")), "{unread:?}");
}

#[test]
fn it_decides_as_the_model_does_at_every_edge() {
    let mut tried = 0;
    for name in ["home-lab", "core-jails", "other-product"] {
        let model = support::site::Site::new(name, name, &[], support::site::ROUTER);
        let plain = Wall::by_address(&model.rules);
        let explainer = Explainer::new(&model.rules, None, &plain, &[]);
        for p in trial::flows(&model, "nftables", 8000) {
            let protocol = match p.proto {
                packet::Proto::Tcp => Protocol::Tcp,
                packet::Proto::Udp => Protocol::Udp,
                packet::Proto::Icmp(_) => continue,
            };
            let question =
                Question { client: Some(p.src), to: To::Addr(p.dst), port: Some((protocol, p.port)), path: None };
            let standing = explainer.verdict(&question::Sighting { question, log: None }, p.src);
            let same = match (model.rules.decide(p.src, p.dst, protocol, p.port), &standing) {
                (Verdict::Allow(rule), Standing::Allowed(held)) => held.iter().any(|held| held.rule.key == rule.key),
                (Verdict::Deny(rule), Standing::Denied(held)) => held.rule.key == rule.key,
                (Verdict::DefaultDeny, Standing::Rest(_)) | (Verdict::NotOurs, Standing::NotLimited) => true,
                _ => false,
            };
            assert!(same, "{name}: {p:?}: {standing:?}");
            tried += 1;
        }
    }
    println!("{tried} packets, no disagreement with the model");
    assert!(tried > 9000, "{tried}");
}

/// Client, place, port, and whether it was let out.
type Read = (String, String, Option<(&'static str, u16)>, Option<bool>);

/// A line, or why it is no question.
fn read(line: &str) -> Result<Read, &'static str> {
    let sighting = question::read(line).map_err(|question::NoQuestion(why)| why)?;
    let Question { client, to, port, .. } = sighting.question;
    let to = match to {
        To::Name(host) => host.to_string(),
        To::Addr(addr) => addr.to_string(),
    };
    let client = client.map(|client| client.to_string()).unwrap_or_default();
    Ok((client, to, port.map(|(protocol, port)| (protocol.as_str(), port)), sighting.log.and_then(|log| log.allowed)))
}

fn good(line: &str, client: &str, to: &str, port: Option<(&'static str, u16)>, allowed: Option<bool>) {
    assert_eq!(read(line), Ok((client.to_owned(), to.to_owned(), port, allowed)), "{line}");
}

#[test]
fn the_lines_of_every_log_are_read() {
    let (v4, v6) = ("192.0.2.10", "2001:db8::10");
    let (no, yes) = (Some(false), Some(true));
    // The kernel, by printk and by syslog.
    good(
        "Nov 28 12:00:00 router kernel: [12.3] outgate denied: IN=lan OUT=wan MAC=aa:bb SRC=192.0.2.10 DST=203.0.113.9 LEN=60 TOS=0x00 PREC=0x00 TTL=63 ID=1 DF PROTO=TCP SPT=40000 DPT=443 WINDOW=64240 RES=0x00 SYN URGP=0",
        v4,
        "203.0.113.9",
        Some(("tcp", 443)),
        no,
    );
    good(
        "outgate blocked: IN=lan OUT=wan SRC=2001:0db8:0000:0000:0000:0000:0000:0010 DST=2001:0db8:000f:0000:0000:0000:0000:0009 LEN=80 TC=0 HOPLIMIT=63 FLOWLBL=1 PROTO=UDP SPT=123 DPT=123 LEN=56",
        v6,
        "2001:db8:f::9",
        Some(("udp", 123)),
        no,
    );
    good(
        "outgate audit denied: IN=lan OUT=wan SRC=192.0.2.10 DST=203.0.113.9 PROTO=TCP SPT=1 DPT=443",
        v4,
        "203.0.113.9",
        Some(("tcp", 443)),
        yes,
    );
    // tcpdump 4.99 on pflog.
    let flags = "Flags [S], seq 1234, win 64240, length 0";
    good(
        &format!(
            " 00:00:00.000000 rule 12.outgate.0/0(match): block in on em1: 192.0.2.10.40000 > 203.0.113.9.443: {flags}"
        ),
        v4,
        "203.0.113.9",
        Some(("tcp", 443)),
        no,
    );
    good(
        &format!(
            "2025-11-28 12:00:00.000000 rule 1/0(match): pass in on em1: 2001:db8::10.40000 > 2001:db8:f::9.443: {flags}"
        ),
        v6,
        "2001:db8:f::9",
        Some(("tcp", 443)),
        yes,
    );
    good(
        " 00:00:01.000000 rule 12.outgate.0/0(match): block in on em1: 192.0.2.10.40000 > 203.0.113.9.53: 4660+ A? update.example.org. (36)",
        v4,
        "203.0.113.9",
        Some(("udp", 53)),
        no,
    );
    good(
        &format!(
            " 00:00:01.000000 rule 12.outgate.0/0(match): block in on em1: 192.0.2.10.40000 > 203.0.113.9.53: {flags}"
        ),
        v4,
        "203.0.113.9",
        Some(("tcp", 53)),
        no,
    );
    good(
        " 00:00:01.000000 rule 12.outgate.0/0(match): block in on em1: 2001:db8::10.40000 > 2001:db8:f::9.123: NTPv4, Client, length 48",
        v6,
        "2001:db8:f::9",
        Some(("udp", 123)),
        no,
    );
    good(
        " 00:00:01.000000 rule 12.outgate.0/0(match): block in on em1: 192.0.2.10.40000 > 203.0.113.9.443: UDP, length 2",
        v4,
        "203.0.113.9",
        Some(("udp", 443)),
        no,
    );
    // OpenBSD's.
    good(
        "Nov 28 12:00:00.123456 rule 2/(match) block in on em1: 192.0.2.10.40000 > 203.0.113.9.443: S 1234:1234(0) win 16384 <mss 1460> (DF)",
        v4,
        "203.0.113.9",
        Some(("tcp", 443)),
        no,
    );
    good(
        "Nov 28 12:00:00.123456 rule 2/(match) pass in on em1: 192.0.2.10.40000 > 203.0.113.9.53: 1+ A? example.org. (29)",
        v4,
        "203.0.113.9",
        Some(("udp", 53)),
        yes,
    );
    // OPNsense.
    good(
        "<134>1 2026-11-28T12:00:00+00:00 fw.example.org filterlog 12345 - [meta sequenceId=\"1\"] 62,,,5b3e0a10,igb0,match,block,in,4,0x0,,64,0,0,DF,6,tcp,60,192.0.2.10,203.0.113.9,40000,443,0,S,1234,,64240,,mss",
        v4,
        "203.0.113.9",
        Some(("tcp", 443)),
        no,
    );
    good(
        "62,,,5b3e0a10,igb0,match,pass,in,6,0x00,0x0,64,udp,17,56,2001:db8::10,2001:db8:f::9,40000,123,48",
        v6,
        "2001:db8:f::9",
        Some(("udp", 123)),
        yes,
    );
    // Squid's own format, and Apache's.
    good(
        "1763000000.123     12 192.0.2.10 TCP_DENIED/403 3900 CONNECT Telemetry.Example.org:443 - HIER_NONE/- text/html",
        v4,
        "telemetry.example.org",
        Some(("tcp", 443)),
        no,
    );
    good(
        "1763000000.123     12 192.0.2.10 TCP_DENIED/200 0 CONNECT a.example.org:443 - HIER_NONE/- -",
        v4,
        "a.example.org",
        Some(("tcp", 443)),
        no,
    );
    good(
        "1763000000.123     12 2001:db8::10 TCP_TUNNEL/200 0 CONNECT [2001:db8:f::9]:443 - HIER_DIRECT/2001:db8:f::9 -",
        v6,
        "2001:db8:f::9",
        Some(("tcp", 443)),
        yes,
    );
    good(
        "1763000000.123     12 192.0.2.10 TCP_MISS/200 0 GET http://a.example.org/x?y - HIER_DIRECT/198.51.100.1 -",
        v4,
        "a.example.org",
        Some(("tcp", 80)),
        yes,
    );
    good(
        "1763000000.123     12 192.0.2.10 NONE_NONE/200 0 CONNECT a.example.org:443 - HIER_NONE/- -",
        v4,
        "a.example.org",
        Some(("tcp", 443)),
        None,
    );
    good(
        "192.0.2.10 - - [28/Nov/2026:12:00:00 +0000] \"CONNECT a.example.org:443 HTTP/1.1\" 403 3900 TCP_DENIED:HIER_NONE",
        v4,
        "a.example.org",
        Some(("tcp", 443)),
        no,
    );
    good(
        "192.0.2.10 - - [28/Nov/2026:12:00:00 +0000] \"GET http://a.example.org:8080/ HTTP/1.1\" 200 3900 \"-\" \"curl/8\" TCP_MISS:HIER_DIRECT",
        v4,
        "a.example.org",
        Some(("tcp", 8080)),
        yes,
    );
    // What somebody writes.
    good("update.truenas.com", "", "update.truenas.com", None, None);
    good("Update.TrueNAS.com.:443", "", "update.truenas.com", Some(("tcp", 443)), None);
    good("192.0.2.1:123/udp", "", "192.0.2.1", Some(("udp", 123)), None);
    good("2001:db8::1", "", "2001:db8::1", None, None);
    good("[2001:db8::1]:443/tcp", "", "2001:db8::1", Some(("tcp", 443)), None);
    good("https://user@update.truenas.com/scale?x=1#y", "", "update.truenas.com", Some(("tcp", 443)), None);
    good("http://[2001:db8::1]:8080/", "", "2001:db8::1", Some(("tcp", 8080)), None);
    good("ntp://time.example.org", "", "time.example.org", Some(("udp", 123)), None);
}

#[test]
fn what_is_no_question_says_why() {
    for (line, why) in [
        (
            "outgate denied: IN=lan OUT=wan SRC=192.0.2.10 DST=203.0.113.9 LEN=84 PROTO=ICMP TYPE=8 CODE=0",
            "without ports",
        ),
        (
            " 00:00:01.0 rule 12.outgate.0/0(match): block in on em1: 192.0.2.10 > 203.0.113.9: ICMP echo request, id 1, seq 1, length 8",
            "without ports",
        ),
        (
            " 00:00:01.0 rule 12.outgate.0/0(match): block in on em1: 2001:db8::10 > 2001:db8:f::9: ICMP6, echo request, id 1, seq 1, length 8",
            "without ports",
        ),
        (
            "62,,,5b3e0a10,igb0,match,block,in,4,0x0,,64,0,0,DF,1,icmp,60,192.0.2.10,203.0.113.9,request,1,2",
            "without ports",
        ),
        (
            "1763000000.123 0 192.0.2.10 NONE_NONE/400 3900 - error:invalid-request - HIER_NONE/- text/html",
            "did not understand",
        ),
        ("Nov 28 12:00:00 router sshd[1]: Accepted publickey for root", "no line of a log"),
        ("192.0.2.0/24", "prefix"),
        ("2001:db8::1/tcp", "no port"),
        ("update.truenas.com:0", "1 to 65535"),
        ("update.truenas.com:65536", "1 to 65535"),
        ("[2001:db8::1", "`]`"),
        ("gopher://a.example.org/", "add `:port`"),
        ("localhost", "no host name"),
        ("", "no host name"),
    ] {
        let said = read(line).unwrap_err();
        assert!(said.contains(why), "{line}: {said}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]
    /// Whoever sends packets writes the log.
    #[test]
    fn no_line_stops_it(line in "(\\PC|[ .:/,>()\\[\\]=\"]|SRC=|DST=|PROTO=TCP|DPT=|rule |block in on |filterlog|TCP_DENIED/|CONNECT |192\\.0\\.2\\.1|::1){0,40}") {
        let _ = question::read(&line);
    }
}

#[test]
fn near_misses_are_named() {
    let folder = site("home-lab", &[]);
    let near = |what: &str| -> Vec<(String, String)> {
        let said = json(folder.path(), &[what, "--from", "nas"]);
        let near = said["answers"][0]["near"].as_array().unwrap().iter();
        near.map(|near| (near["kind"].as_str().unwrap().to_owned(), near["text"].as_str().unwrap().to_owned()))
            .collect()
    };
    let one = |what: &str, kind: &str, holds: &str| {
        let near = near(what);
        assert!(near.iter().any(|(k, text)| k == kind && text.contains(holds)), "{what}: {near:?}");
    };
    one("auth.docker.io:80", "other-ports", "allowed on 443/tcp, not on this port (dockerhub-pull)");
    one("198.51.100.135:22", "other-ports", "allowed on 443/tcp");
    one("auth.dokcer.io:443", "spelling", "did you mean auth.docker.io?");
    one("198.51.100.250:443", "same-network", "in 198.51.100.0/24, as is auth.docker.io");
    one("quay.edge.example.net:443", "alias", "an alias that cdn.quay.io leads through");
    // Of a feature that is not in use, of another release.
    one("pkg.freebsd.org:443", "documented", "of other releases");
    assert_eq!(near("auth.docker.io:443"), []);
    assert_eq!(near("usage.truenas.com:443"), []);
    let off = site("home-lab", &[("features: [updates, apps, mail, syslog]", "features: [updates, mail, syslog]")]);
    let said = json(off.path(), &["auth.docker.io:443", "--from", "nas"]);
    let text = said["answers"][0]["near"][0]["text"].as_str().unwrap();
    assert!(text.contains("dockerhub-pull") && text.contains("of feature apps, which is not in use here"), "{text}");
    let answer = &said["answers"][0]["clients"][0];
    assert_eq!(answer["verdict"], "denied", "{answer}");
}

#[test]
fn a_log_is_summed_up() {
    let folder = site("home-lab", &[("features: [updates, apps, mail, syslog]", "features: [updates, mail, syslog]")]);
    let mut log = String::new();
    for (times, line) in [
        (200, "1763000000.123 12 192.0.2.10 TCP_DENIED/403 39 CONNECT auth.docker.io:443 - HIER_NONE/- -"),
        (9, "1763000000.123 12 192.0.2.10 TCP_DENIED/403 39 CONNECT ghcr.io:443 - HIER_NONE/- -"),
        (2, "outgate denied: IN=lan OUT=wan SRC=192.0.2.10 DST=8.8.8.8 PROTO=UDP SPT=1 DPT=53"),
        (1, "outgate blocked: IN=lan OUT=wan SRC=192.0.2.10 DST=203.0.113.240 PROTO=TCP SPT=1 DPT=443"),
        (3, "1763000000.123 12 192.0.2.10 TCP_DENIED/403 39 CONNECT update.truenas.com:443 - HIER_NONE/- -"),
        (4, "nothing of the sort"),
        (5, "outgate denied: IN=lan OUT=wan SRC=198.51.100.99 DST=8.8.8.8 PROTO=UDP SPT=1 DPT=53"),
    ] {
        log += &format!("{line}\n").repeat(times);
    }
    let said = explain(folder.path(), &[], &log);
    for holds in [
        "224 lines: 212 denied, 3 allowed, 5 not limited, 4 not understood\n",
        "     200  192.0.2.10 -> auth.docker.io:443/tcp: no rule allows it (squid)\n",
        "documented: dockerhub-pull (Docker Hub registry), of feature apps, which is not in use here\n",
        "4 destinations were denied 212 times; 2 of them are documented callouts without a rule here.\n",
        "3 lines say otherwise than these rules",
        "Not understood: 4 lines: is no line of a log that outgate knows.\n",
    ] {
        assert!(said.contains(holds), "`{holds}` is not in\n{said}");
    }
}

#[test]
fn the_history_of_the_lock_tells_what_was_allowed() {
    let folder = site("home-lab", &[]);
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"])
            .args(args)
            .current_dir(folder.path())
            .env("GIT_AUTHOR_DATE", "2026-11-03T12:00:00Z")
            .env("GIT_COMMITTER_DATE", "2026-11-03T12:00:00Z")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "first"]);
    let before = json(folder.path(), &["198.51.100.137:443", "--from", "nas"]);
    assert_eq!(before["answers"][0]["near"].as_array().unwrap().len(), 0);
    // Without the address; what a run writes carries check sums, so another run must write it.
    let path = folder.path().join("outgate.lock");
    let mut sources = outgate::source::Sources::default();
    let id = sources.add("outgate.lock", fs::read_to_string(&path).unwrap());
    let mut lock = outgate::lock::Lock::parse(&sources, id).unwrap();
    for entry in lock.hosts.values_mut() {
        let left = entry.addresses.iter().filter(|(addr, _)| addr.to_string() != "198.51.100.137");
        entry.addresses = left.map(|(addr, seen)| (addr, seen.clone())).collect();
    }
    fs::write(&path, lock.print()).unwrap();
    git(&["commit", "-qam", "an address leaves"]);
    let said = json(folder.path(), &["198.51.100.137:443", "--from", "nas"]);
    let near = said["answers"][0]["near"].as_array().unwrap();
    let gone = near.iter().find(|near| near["kind"] == "gone").unwrap_or_else(|| panic!("{near:?}"));
    let text = gone["text"].as_str().unwrap();
    assert!(text.starts_with("was in the lock for auth.docker.io until 2026-11-03 (commit "), "{text}");
    assert!(text.contains("first seen 2026-11-21"), "{text}");
    // An address that never was, and a folder that is no repository.
    let said = json(folder.path(), &["198.51.100.250:443", "--from", "nas"]);
    assert!(said["answers"][0]["near"].as_array().unwrap().iter().all(|near| near["kind"] != "gone"));
}

#[test]
fn it_leads_back_to_the_source() {
    let folder = site("home-lab", &[]);
    let said = json(folder.path(), &["cdn.quay.io:443", "--from", "nas"]);
    let answer = &said["answers"][0];
    let client = &answer["clients"][0];
    assert_eq!(client["verdict"], "allowed");
    let rule = &client["rules"][0];
    assert_eq!((&rule["rule"], &rule["reason"]), (&"quay".into(), &"feature apps".into()));
    assert!(rule["written"].as_str().unwrap().starts_with("catalog/callouts/apps.yaml:"), "{rule}");
    assert!(!rule["source"].as_str().unwrap().is_empty());
    assert_eq!(answer["lock"][0]["chain"], serde_json::json!(["quay.edge.example.net"]));
    assert_eq!(answer["lock"][0]["addresses"][0]["first_seen"], "2026-11-21");
    let there: BTreeMap<&str, &str> = client["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|at| (at["target"].as_str().unwrap(), at["says"][0]["there"][0].as_str().unwrap()))
        .collect();
    // What it calls a rule stands in the files.
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/home-lab/out");
    for (target, file, mark) in [
        ("nftables", "nftables/outgate.nft", "comment \"quay\""),
        ("pf", "pf/outgate.conf", "label \"outgate:quay\""),
        ("opnsense", "opnsense/rules.csv", "outgate quay: "),
        ("squid", "squid/outgate.conf", "acl outgate_allow_nas_tls"),
        ("lists", "lists/rules.json", "\"id\": \"quay\""),
        ("cilium", "cilium/outgate.yaml", "# quay"),
    ] {
        let word = mark.trim_start_matches("\"id\": ").trim_end();
        assert!(there[target].contains(word), "{target}: {} has no {word}", there[target]);
        assert!(fs::read_to_string(files.join(file)).unwrap().contains(mark), "{file} has no {mark}");
    }
}

#[test]
fn a_name_server_says_whether_it_resolves() {
    let folder = site("strict-home", &[]);
    let notes = |what: &str| {
        let said = json(folder.path(), &[what, "--from", "nas", "--target", "unbound"]);
        said["answers"][0]["clients"][0]["targets"][0]["notes"][0].as_str().unwrap().to_owned()
    };
    assert_eq!(notes("usage.truenas.com"), "it does not resolve: it is blocked");
    assert_eq!(notes("update.truenas.com"), "it resolves");
}

/// A list of addresses is answered line by line by an index that is made for many. Held to the prefixes themselves.
#[test]
fn what_is_said_of_many_addresses_is_what_the_prefixes_say() {
    let mut state = 7_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(state >> 32).unwrap()
    };
    // Between 11.0.0.0 and 42.255.255.255, where nothing is of special use, and a few of IPv6.
    let mut v4 = || (11 << 24) + next() % (32 << 24);
    let lengths = [17, 20, 24, 24, 28, 31, 32, 32];
    let mut list: BTreeSet<IpNet> = (0..6000_usize)
        .map(|i| IpNet::new(IpAddr::V4(v4().into()), lengths[i % lengths.len()]).unwrap().trunc())
        .collect();
    list.extend(["2600:1::/32", "2600:2:3::/48", "2600:2:3:4::5/128"].map(|net| net.parse::<IpNet>().unwrap()));
    let own: IpNet = "12.0.0.0/9".parse().unwrap();

    let day = Day::parse("2026-11-21").unwrap();
    let prefixes = list.iter().map(|net| (*net, Listed { first: day, missing: None })).collect();
    let source = Source { from: Place::parse("list").unwrap(), paths: Vec::new() };
    let lock = Lock {
        day,
        note: None,
        sites: [Text::parse("many").unwrap()].into(),
        hosts: BTreeMap::from([(Query::parse("cdn.example.net").unwrap(), Entry::default())]),
        ranges: BTreeMap::from([(
            Id::parse("vendor").unwrap(),
            ListEntry { source, read: None, failed: None, prefixes },
        )]),
    };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("outgate.lock"), lock.print()).unwrap();
    fs::write(
        folder.path().join("outgate.yaml"),
        "site: many\nrelease: \"25.10\"\nclients: {nas: [192.0.2.10, \"2001:db8::10\"]}\nfeatures: []\n\
         ranges:\n  vendor: {for: [cdn.example.net], file: list}\nextra:\n\
         - {id: alpha, purpose: Ours., origin: [nas], hosts: [12.0.0.0/9], ports: [443/tcp]}\n\
         - {id: beta, purpose: Theirs., origin: [nas], hosts: [cdn.example.net], ports: [443/tcp]}\n\
         targets: {nftables: {}}\n",
    )
    .unwrap();

    let mut asked: Vec<IpAddr> = (0..20_000).map(|_| IpAddr::V4(v4().into())).collect();
    for net in &list {
        asked.extend([net.network(), net.broadcast()]);
        if let (IpAddr::V4(first), IpAddr::V4(last)) = (net.network(), net.broadcast()) {
            asked.extend([u32::from(first) - 1, u32::from(last) + 1].map(|addr| IpAddr::V4(addr.into())));
        }
    }
    asked.extend(
        ["2600:2::", "2600:2:3:4::6", "2600:1:ffff::", "::", "255.255.255.255"]
            .map(|addr| addr.parse::<IpAddr>().unwrap()),
    );
    let lines: String = asked.iter().map(|addr| format!("{addr}\n")).collect();
    let said = explain(folder.path(), &["-", "--each"], &lines);
    assert_eq!(said.lines().count(), asked.len());
    let mut verdicts: BTreeMap<&str, usize> = BTreeMap::new();
    for (addr, line) in asked.iter().zip(said.lines()) {
        let rule = match (own.contains(addr), list.iter().any(|net| net.contains(addr))) {
            (true, _) => "alpha",
            (false, true) => "beta",
            (false, false) => "-",
        };
        let verdict = if rule == "-" { "denied" } else { "allowed" };
        assert_eq!(line, format!("{verdict}\t{rule}\t{addr}"));
        *verdicts.entry(rule).or_default() += 1;
    }
    assert!(verdicts.len() == 3 && verdicts.values().all(|&count| count > 500), "{verdicts:?}");

    // The same for programs, an object a line; and one address alone is answered as among many.
    let few: String = asked.iter().step_by(500).map(|addr| format!("  {addr}\r\n\n")).collect();
    let objects = explain(folder.path(), &["-", "--each", "--format", "json"], &few);
    for (line, object) in said.lines().step_by(500).zip(objects.lines()) {
        let object: Value = serde_json::from_str(object).unwrap();
        let field = |name: &str| object[name].as_str().unwrap_or("-").to_owned();
        assert_eq!(line, [field("verdict"), field("rule"), field("address")].join("\t"));
    }
    assert_eq!(objects.lines().count(), asked.len().div_ceil(500));
    for (addr, line) in asked.iter().zip(said.lines()).step_by(4001) {
        let one = json(folder.path(), &[&addr.to_string(), "--from", "nas"]);
        let client = &one["answers"][0]["clients"][0];
        let rule = client["rules"][0]["rule"].as_str().or(client["rules"][0]["key"].as_str()).unwrap_or("-");
        assert_eq!(line.split('\t').nth(1), Some(rule), "{addr}: {client:#}");
    }
}

#[test]
fn hostile_text_reaches_no_terminal_and_no_tab() {
    let folder = site("home-lab", &[]);
    let hostile = "\u{1b}[31mSRC=192.0.2.10\tallowed\tx\u{202e}::error::\n1763000000.1 1 192.0.2.10 TCP_DENIED/403 1 GET http://a.example.org/\u{1b}]0;x\u{7} - HIER_NONE/- -\n";
    for args in [&["--each"][..], &[][..], &["--each", "--format", "json"][..], &["--format", "json"][..]] {
        let said = explain(folder.path(), args, hostile);
        let bad: Vec<char> =
            said.chars().filter(|c| outgate::text::is_invisible(*c) && !matches!(c, '\n' | '\t')).collect();
        assert!(bad.is_empty(), "{args:?}: {bad:?} in {said:?}");
        if args == ["--each"] {
            assert!(said.lines().all(|line| line.split('\t').count() == 3), "{said:?}");
        }
    }
    let (_, errors, code) = outgate(folder.path(), &["explain", "a\u{1b}[31mb"], "");
    assert_eq!(code, Some(2));
    assert!(!errors.contains('\u{1b}'), "{errors:?}");
}

#[test]
fn findings_are_explained_too() {
    let folder = tempfile::tempdir().unwrap();
    let said = explain(folder.path(), &["e023"], "");
    assert!(said.starts_with("E023 (error)\n\n") && said.contains("shared"), "{said}");
    let (_, errors, code) = outgate(folder.path(), &["explain"], "");
    assert!(code == Some(2) && errors.contains("outgate.yaml"), "{errors}");
}

//! The lab: what the router's rules do to a flow is what the probe says.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::support::netns::{Flow, Lab, Proto, Verdict, ready};
use super::{complaint, fixture, with};

const CLIENTS: [&str; 4] = ["192.0.2.10", "192.0.2.11", "192.0.2.99", "2001:db8::10"];
const INTERNET: [&str; 3] = ["198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"];

fn lab() -> Lab {
    Lab::new(&CLIENTS, &INTERNET)
}

/// What `forward.nft` is to do.
fn table() -> Vec<(Flow, bool)> {
    let (tcp, udp, ping) = (Flow::tcp, Flow::udp, Flow::ping);
    vec![
        (tcp("192.0.2.10", "198.51.100.7", 443), true),
        (tcp("192.0.2.11", "198.51.100.8", 80), true),
        (tcp("192.0.2.10", "203.0.113.127", 443), true),
        (tcp("192.0.2.10", "198.51.100.20", 587), true),
        (udp("192.0.2.10", "198.51.100.123", 123), true),
        (tcp("2001:db8::10", "2001:db8:a:ffff::1", 443), true),
        (udp("2001:db8::10", "2001:db8:b::35", 53), true),
        // Not the host, not the port, not the protocol.
        (tcp("192.0.2.10", "198.51.100.6", 443), false),
        (tcp("192.0.2.10", "198.51.100.9", 443), false),
        (tcp("192.0.2.10", "203.0.113.128", 443), false),
        (tcp("192.0.2.10", "198.51.100.7", 22), false),
        (udp("192.0.2.10", "198.51.100.7", 443), false),
        (udp("192.0.2.10", "198.51.100.20", 587), false),
        (tcp("192.0.2.10", "198.51.100.123", 123), false),
        (tcp("2001:db8::10", "2001:db8:b::1", 443), false),
        (udp("2001:db8::10", "2001:db8:b::35", 443), false),
        (ping("192.0.2.10", "198.51.100.7"), false),
        (ping("2001:db8::10", "2001:db8:a::1"), false),
        // Not the rules' client.
        (tcp("192.0.2.99", "198.51.100.6", 22), true),
        (ping("192.0.2.99", "198.51.100.7"), true),
    ]
}

/// Loads rules given as text.
fn load(lab: &Lab, rules: &str) -> Result<(), String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), rules).unwrap();
    lab.load_nft(file.path())
}

/// A lab whose router does only this to what it forwards.
fn router_that(rule: &str) -> Lab {
    let lab = lab();
    load(&lab, &format!("table inet t {{\n chain f {{\n type filter hook forward priority 0;\n {rule}\n }}\n}}\n"))
        .unwrap();
    lab
}

/// Each protocol in each family.
fn one_of_each() -> [Flow; 6] {
    let (four, six) = (["192.0.2.10", "198.51.100.7"], ["2001:db8::10", "2001:db8:a::7"]);
    [
        Flow::tcp(four[0], four[1], 443),
        Flow::udp(four[0], four[1], 443),
        Flow::ping(four[0], four[1]),
        Flow::tcp(six[0], six[1], 443),
        Flow::udp(six[0], six[1], 443),
        Flow::ping(six[0], six[1]),
    ]
}

#[test]
fn without_rules_everything_gets_through() {
    if !ready() {
        return;
    }
    let lab = lab();
    assert_eq!(lab.probe(&one_of_each()), [Verdict::Allowed; 6]);
    // And every flow that rules are to deny gets through when there are none: the table's denials are the rules' doing.
    let flows: Vec<Flow> = table().iter().map(|(flow, _)| *flow).collect();
    assert_eq!(lab.probe(&flows), vec![Verdict::Allowed; flows.len()]);
}

#[test]
fn all_addresses_can_answer() {
    if !ready() {
        return;
    }
    let lab = Lab::new(&CLIENTS, &["0.0.0.0/0", "::/0"]);
    assert_eq!(lab.probe(&one_of_each()), [Verdict::Allowed; 6]);
    // Also the client's neighbours, and what is private or looks like a broadcast address.
    let odd = ["192.0.2.12", "10.0.0.1", "1.1.1.1", "223.255.255.255"].map(|dst| Flow::tcp("192.0.2.10", dst, 443));
    assert_eq!(lab.probe(&odd), [Verdict::Allowed; 4]);
}

#[test]
fn rules_do_what_they_say() {
    if !ready() {
        return;
    }
    let lab = lab();
    lab.load_nft(&fixture("forward.nft")).unwrap();
    assert_eq!(lab.surprises(&table()), Vec::<String>::new());
}

#[test]
fn broken_rules_are_found_out() {
    if !ready() {
        return;
    }
    let rules = fs::read_to_string(fixture("forward.nft")).unwrap();
    let breaks: [(&str, &str, &[&str]); 6] = [
        // The list is not applied to the client's IPv6 address.
        (
            "ip6 saddr 2001:db8::10 goto out",
            "",
            &[
                "2001:db8::10 -> 2001:db8:a::1 ping: Allowed, should be denied",
                "2001:db8::10 -> 2001:db8:b::1 tcp 443: Allowed, should be denied",
                "2001:db8::10 -> 2001:db8:b::35 udp 443: Allowed, should be denied",
            ],
        ),
        // A set one address too wide, one too narrow.
        ("198.51.100.8,", "198.51.100.9,", &["192.0.2.10 -> 198.51.100.9 tcp 443: Allowed, should be denied"]),
        (
            "198.51.100.7-198.51.100.8,",
            "198.51.100.7,",
            &["192.0.2.11 -> 198.51.100.8 tcp 80: Rejected, should be allowed"],
        ),
        // A port for both protocols.
        (
            "ip6 daddr 2001:db8:b::35 udp dport 53 accept",
            "ip6 daddr 2001:db8:b::35 tcp dport 53 accept",
            &["2001:db8::10 -> 2001:db8:b::35 udp 53: Rejected, should be allowed"],
        ),
        (
            "ip daddr @web4 tcp dport { 80, 443 } accept",
            "ip daddr @web4 th dport { 80, 443 } accept",
            &["192.0.2.10 -> 198.51.100.7 udp 443: Allowed, should be denied"],
        ),
        // A list for everybody.
        (
            "ip saddr { 192.0.2.10, 192.0.2.11 } goto out",
            "meta nfproto ipv4 goto out",
            &[
                "192.0.2.99 -> 198.51.100.6 tcp 22: Rejected, should be allowed",
                "192.0.2.99 -> 198.51.100.7 ping: Rejected, should be allowed",
            ],
        ),
    ];
    let lab = lab();
    for (from, to, expected) in breaks {
        load(&lab, &format!("flush ruleset\n{}", with(&rules, from, to))).unwrap();
        let found: BTreeSet<String> = lab.surprises(&table()).into_iter().collect();
        assert_eq!(found, expected.iter().map(|line| (*line).to_owned()).collect(), "{from} -> {to}");
    }
}

#[test]
fn dropped_is_silent() {
    if !ready() {
        return;
    }
    assert_eq!(router_that("meta l4proto { tcp, udp, icmp, icmpv6 } drop").probe(&one_of_each()), [Verdict::Silent; 6]);
}

#[test]
fn rejected_is_told() {
    if !ready() {
        return;
    }
    let lab = router_that("reject with icmpx admin-prohibited");
    assert_eq!(lab.probe(&one_of_each()), [Verdict::Rejected; 6]);
    let lab = router_that("meta l4proto tcp reject with tcp reset");
    let (told, through) = (Verdict::Rejected, Verdict::Allowed);
    assert_eq!(lab.probe(&one_of_each()), [told, through, through, told, through, through]);
}

#[test]
fn half_open_is_not_allowed() {
    if !ready() {
        return;
    }
    // The handshake gets through, data does not.
    let lab = router_that("tcp flags & (fin|psh) != 0 drop");
    let [four, _, _, six, _, _] = one_of_each();
    assert_eq!(lab.probe(&[four, six]), [Verdict::Silent; 2]);
}

#[test]
fn a_closed_port_would_look_rejected() {
    if !ready() {
        return;
    }
    // Why `probe` listens on all ports of its flows. Only the kernel answers here, to ping.
    let (told, through) = (Verdict::Rejected, Verdict::Allowed);
    assert_eq!(lab().probe_unanswered(&one_of_each()), [told, told, through, told, told, through]);
}

#[test]
fn an_answer_from_elsewhere_is_no_answer() {
    if !ready() {
        return;
    }
    let lab = lab();
    let nat =
        "chain p {\n type nat hook prerouting priority dstnat;\n ip daddr 198.51.100.7 dnat ip to 198.51.100.8\n }";
    load(&lab, &format!("table inet t {{\n {nat}\n}}\n")).unwrap();
    for flow in [Flow::tcp("192.0.2.10", "198.51.100.7", 443), Flow::udp("192.0.2.10", "198.51.100.7", 443)] {
        let said = complaint(|| drop(lab.probe(&[flow])));
        // The answer holds the probe's random bytes, and with them either kind of quote around it.
        assert!(said.contains("answered by another: b") && said.contains("198.51.100.8 443"), "{said}");
    }
}

#[test]
fn flows_that_prove_nothing_are_refused() {
    if !ready() {
        return;
    }
    let lab = lab();
    let stranger = complaint(|| drop(lab.probe(&[Flow::tcp("192.0.2.77", "198.51.100.7", 443)])));
    assert!(stranger.contains("the lab's client has no such address"), "{stranger}");
    let nowhere = complaint(|| drop(lab.probe(&[Flow::tcp("192.0.2.10", "198.51.101.0", 443)])));
    assert!(nowhere.contains("nobody there to answer"), "{nowhere}");
    let mixed = complaint(|| drop(lab.probe(&[Flow::tcp("192.0.2.10", "2001:db8::1", 443)])));
    assert!(mixed.contains("two families"), "{mixed}");
}

#[test]
fn faulty_rules_are_refused_whole() {
    if !ready() {
        return;
    }
    let lab = lab();
    let rules = fs::read_to_string(fixture("forward.nft")).unwrap();
    let refused = load(&lab, &with(&rules, "goto out", "goto nowhere")).unwrap_err();
    assert!(refused.contains("nowhere"), "{refused}");
    assert_eq!(lab.nft(&["list", "ruleset"]).unwrap(), "");
    lab.load_nft(&fixture("forward.nft")).unwrap();
    assert!(lab.nft(&["list", "ruleset"]).unwrap().contains("table inet harness"));
}

#[test]
fn probes_are_new_connections() {
    if !ready() {
        return;
    }
    let lab = router_that("ct state established accept");
    lab.probe(&one_of_each());
    let tracked = || {
        let mut cat = lab.router().command(5, "cat");
        let output = cat.arg("/proc/sys/net/netfilter/nf_conntrack_count").stderr(Stdio::inherit()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().unwrap()
    };
    assert!(tracked() > 0);
    lab.forget_connections();
    assert_eq!(tracked(), 0);
}

#[test]
fn rules_on_the_client_itself() {
    if !ready() {
        return;
    }
    let lab = lab();
    lab.load_nft_on_client(&fixture("output.nft")).unwrap();
    let [tcp4, udp4, ping4, tcp6, udp6, ping6] = one_of_each();
    let expected = [(tcp4, true), (tcp6, true), (udp4, false), (udp6, false), (ping4, false), (ping6, false)];
    assert_eq!(lab.surprises(&expected), Vec::<String>::new());
    // Without neighbour discovery there is no IPv6 at all: seen, too.
    let rules = fs::read_to_string(fixture("output.nft")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let deaf = with(&rules, "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept", "");
    fs::write(file.path(), deaf).unwrap();
    let lab = self::lab();
    lab.load_nft_on_client(file.path()).unwrap();
    assert_eq!(lab.surprises(&expected).len(), 1);
}

#[test]
fn thousands_of_flows_in_seconds() {
    if !ready() {
        return;
    }
    // Told, silent and through in equal parts, so that a verdict that slips by a place is seen.
    let lab = router_that("th dport 401 reject with icmpx admin-prohibited\n th dport 402 drop");
    let flow = |i: u16| {
        let (src, dst): (&str, IpAddr) = if i.is_multiple_of(2) {
            (CLIENTS[0], Ipv4Addr::from_bits(0xc633_6400 + u32::from(i % 256)).into())
        } else {
            (CLIENTS[3], Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xffff, i).into())
        };
        let proto = if i % 4 < 2 { Proto::Tcp } else { Proto::Udp };
        Flow { src: src.parse().unwrap(), dst, proto, port: 400 + i % 3 }
    };
    let flows: Vec<Flow> = (0..3000).map(flow).collect();
    let started = Instant::now();
    let verdicts = lab.probe(&flows);
    let took = started.elapsed();
    for (flow, verdict) in flows.iter().zip(verdicts) {
        let expected = [Verdict::Allowed, Verdict::Rejected, Verdict::Silent][usize::from(flow.port - 400)];
        assert_eq!(verdict, expected, "{flow}");
    }
    assert!(took < Duration::from_secs(30), "{took:?}");
}

//! Packets to try on a site, and the readers to try them on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use outgate::addrs::AddrSet;
use outgate::host::NamePattern;
use outgate::policy::Action;

use super::readers::nft::Nft;
use super::readers::opnsense::{Names, Opnsense};
use super::readers::packet::{
    Addrs, Enforcer, Interface, Net, Packet, Path, Proto, representative_ports, representatives,
};
use super::readers::pf::Pf;
use super::readers::squid::{Ask, Hello, Squid};
use super::readers::{Files, Refused};
use super::site::{PF_FOLDER, SQUID_FOLDER, Site};

/// A fixed sequence of numbers: the same choices in every run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % n
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// The answers of the lock, by name.
pub(crate) fn names(site: &Site) -> Names {
    let mut names = Names::new();
    for destination in site.rules.rules.iter().flat_map(|rule| &rule.destinations) {
        if let [NamePattern::Exact(host)] = destination.names() {
            names.entry(host.to_string()).or_default().extend(destination.addrs.singles());
        }
    }
    // Hosts that a service selects stand in the rules together; each has the addresses of all, as in the lock's rule.
    for destination in site.rules.rules.iter().flat_map(|rule| &rule.destinations).filter(|d| d.names().len() > 1) {
        for name in destination.names() {
            if !names.contains_key(&name.to_string()) {
                names.entry(name.to_string()).or_default().extend(destination.addrs.singles());
            }
        }
    }
    names
}

/// Reads a packet filter's files.
pub(crate) fn read(site: &Site, target: &str, files: &Files) -> Result<Box<dyn Enforcer>, Refused> {
    read_with(site, target, files, &names(site))
}

/// The same with the answers that OPNsense gets.
pub(crate) fn read_with(site: &Site, target: &str, files: &Files, names: &Names) -> Result<Box<dyn Enforcer>, Refused> {
    Ok(match target {
        "nftables" => Box::new(Nft::read(files, "lan0")?),
        "pf" => Box::new(Pf::read(files, PF_FOLDER, "em1")?),
        "opnsense" => Box::new(Opnsense::read(files, site.version, "lan", names)?),
        other => panic!("{other} is no packet filter"),
    })
}

/// Reads Squid's files.
pub(crate) fn squid(files: &Files) -> Result<Squid, Refused> {
    Squid::read(files, SQUID_FOLDER)
}

/// Why a target's files are refused, if they are.
pub(crate) fn refusal(site: &Site, target: &str, files: &Files) -> Option<Refused> {
    match target {
        "squid" => squid(files).err(),
        _ => read(site, target, files).err(),
    }
}

/// First and last address of each prefix of these sets, and the neighbours on both sides.
pub(crate) fn edges<'a>(sets: impl IntoIterator<Item = &'a AddrSet>) -> Vec<IpAddr> {
    let mut all = BTreeSet::new();
    for net in sets.into_iter().flat_map(AddrSet::prefixes) {
        for (addr, up) in [(net.network(), false), (net.broadcast(), true)] {
            all.insert(addr);
            all.extend(match addr {
                IpAddr::V4(v4) if up => v4.to_bits().checked_add(1).map(|n| IpAddr::V4(n.into())),
                IpAddr::V4(v4) => v4.to_bits().checked_sub(1).map(|n| IpAddr::V4(n.into())),
                IpAddr::V6(v6) if up => v6.to_bits().checked_add(1).map(|n| IpAddr::V6(n.into())),
                IpAddr::V6(v6) => v6.to_bits().checked_sub(1).map(|n| IpAddr::V6(n.into())),
            });
        }
    }
    all.into_iter().collect()
}

/// Ports worth trying: both ends of each range, and the neighbours.
pub(crate) fn port_edges(ranges: &[(u16, u16)]) -> Vec<u16> {
    let of = |&(a, b): &(u16, u16)| [a.saturating_sub(1), a, b, b.saturating_add(1)];
    ranges.iter().flat_map(of).chain([0, 1, 22, u16::MAX]).collect::<BTreeSet<u16>>().into_iter().collect()
}

/// Flows of a site: some of every rule, so that nothing is tried too seldom, then at random over all edges, and the
/// few that are no rule's. No two are the same.
pub(crate) fn flows(site: &Site, target: &str, random: usize) -> Vec<Packet> {
    let clients: Vec<AddrSet> = site.rules.clients.values().map(|group| group.addrs.clone()).collect();
    let mut clients = edges(&clients);
    clients.extend(["198.51.100.250", "2001:db8:ffff::99"].map(|a| a.parse::<IpAddr>().expect("an address")));
    // Half of all flows are from clients: of strangers there is less to find out.
    let known: Vec<IpAddr> =
        clients.iter().copied().filter(|a| site.rules.clients.values().any(|group| group.addrs.contains(*a))).collect();
    let rules: Vec<AddrSet> = site.rules.rules.iter().map(|rule| rule.addrs()).collect();
    let mut servers = edges(&rules);
    servers.extend(["8.8.8.8", "2606:4700::1"].map(|a| a.parse::<IpAddr>().expect("an address")));
    let ports = port_edges(&site.ports());
    let ways = site.ways(target);
    let mut all = BTreeSet::new();
    let mut add = |packet: Packet| {
        let own = packet.path == Path::Through || site.is_own(packet.src);
        if packet.src.is_ipv4() == packet.dst.is_ipv4() && own {
            all.insert(packet);
        }
    };
    let protos = |v4: bool| [Proto::Tcp, Proto::Tcp, Proto::Udp, Proto::Icmp(if v4 { 8 } else { 128 })];
    for (rule, set) in site.rules.rules.iter().zip(&rules) {
        let sources = edges([&site.rules.clients_of(site.rules.bound(rule))]);
        for net in set.prefixes() {
            for (i, port) in rule.ports.iter().enumerate() {
                for &path in &ways {
                    let src = sources.iter().filter(|s| s.is_ipv4() == net.addr().is_ipv4());
                    for &src in src {
                        for proto in [Proto::Tcp, Proto::Udp] {
                            let number = if i % 2 == 0 { port.first() } else { port.last() };
                            add(Packet { path, ..Packet::new(src, net.network(), proto, number) });
                        }
                    }
                }
            }
        }
    }
    let mut dice = Dice::new(20_261_121);
    for _ in 0..random {
        let clients = if dice.below(2) == 0 { &known } else { &clients };
        let (src, dst) = (*dice.pick(clients), *dice.pick(&servers));
        // Mostly ports at an edge, now and then any.
        let any = u16::try_from(dice.below(1 << 16)).unwrap_or(0);
        let port = if dice.below(4) == 0 { any } else { *dice.pick(&ports) };
        let packet = Packet::new(src, dst, *dice.pick(&protos(src.is_ipv4())), port);
        let interface = *dice.pick(&[Interface::Ours, Interface::Ours, Interface::Ours, Interface::Other]);
        add(Packet { path: *dice.pick(&ways), interface, ..packet });
    }
    // Neighbour discovery, listener reports and leases, by each interface.
    for &src in &clients {
        for &path in &ways {
            for interface in [Interface::Ours, Interface::Other, Interface::Loopback] {
                let dst: IpAddr = if src.is_ipv4() { "203.0.113.1" } else { "ff02::1" }.parse().expect("an address");
                for (kind, hops) in [(133, 255), (135, 255), (135, 64), (136, 255), (143, 1), (137, 255)] {
                    let kind = if src.is_ipv4() { 8 } else { kind };
                    add(Packet { path, interface, hops, ..Packet::new(src, dst, Proto::Icmp(kind), 0) });
                }
                for (source_port, port) in [(68, 67), (546, 547), (68, 68)] {
                    add(Packet { path, interface, source_port, ..Packet::new(src, dst, Proto::Udp, port) });
                }
            }
        }
    }
    all.into_iter().collect()
}

/// One packet of every kind that a file's rules, or the model's, can tell apart: by the sets that hold its addresses, by
/// the ranges that hold its port, by protocol and interface. Also those of a second file, where there is one.
pub(crate) fn kinds(site: &Site, target: &str, file: &dyn Enforcer, second: Option<&dyn Enforcer>) -> Vec<Packet> {
    let mut model: Vec<Addrs> = Vec::new();
    for set in site.sets() {
        let mut own = Addrs::default();
        set.prefixes().iter().filter_map(|net| Net::parse(&net.to_string())).for_each(|net| own.add(net));
        model.push(own);
    }
    let mut sets: Vec<&Addrs> = model.iter().collect();
    let mut ranges = site.ports();
    for file in [Some(file), second].into_iter().flatten() {
        sets.extend(file.sets());
        ranges.extend(file.ports());
    }
    let mut distinct: Vec<&Addrs> = Vec::new();
    for set in sets {
        if !distinct.contains(&set) {
            distinct.push(set);
        }
    }
    let (addrs, ports) = (representatives(&distinct), representative_ports(&ranges));
    let mut all = Vec::new();
    for &src in &addrs {
        for &dst in addrs.iter().filter(|dst| dst.is_ipv4() == src.is_ipv4()) {
            for path in site.ways(target) {
                if path == Path::Own && !site.is_own(src) {
                    continue;
                }
                for interface in [Interface::Ours, Interface::Other] {
                    for &port in &ports {
                        for proto in [Proto::Tcp, Proto::Udp] {
                            all.push(Packet { path, interface, ..Packet::new(src, dst, proto, port) });
                        }
                    }
                    for kind in if src.is_ipv4() { vec![8] } else { vec![128, 133, 135] } {
                        all.push(Packet { path, interface, ..Packet::new(src, dst, Proto::Icmp(kind), 0) });
                    }
                }
                all.push(Packet { path, interface: Interface::Loopback, ..Packet::new(src, dst, Proto::Tcp, 443) });
            }
        }
    }
    all
}

/// Requests to the proxy of a site: each name of the rules and those that look like it, by each kind of client, plain and
/// in TLS, with names inside that are others, on other ports, by another port of the proxy, and addresses in their place.
pub(crate) fn asks(site: &Site) -> Vec<Ask> {
    let mut names = BTreeSet::from(["evil.example.net".to_owned()]);
    // For each group of clients a name that is allowed to it: one to hide behind.
    let mut fronts = std::collections::BTreeMap::new();
    for rule in &site.rules.rules {
        for pattern in rule.names() {
            let host = match &pattern {
                NamePattern::Exact(host) | NamePattern::Below(host) => host.to_string(),
            };
            if rule.action == Action::Allow && rule.ports.iter().any(|p| p.contains(outgate::port::Protocol::Tcp, 443))
            {
                let front = if matches!(pattern, NamePattern::Below(_)) { format!("a.{host}") } else { host.clone() };
                fronts.insert(rule.origins, front);
            }
            let parent = host.split_once('.').map_or("", |(_, parent)| parent).to_owned();
            names.extend([format!("evil.{host}"), format!("x{host}"), format!("{host}.evil.example"), host]);
            names.extend((parent.contains('.')).then_some(parent));
        }
    }
    let groups: Vec<AddrSet> = site.rules.clients.values().map(|group| group.addrs.clone()).collect();
    let clients = edges(&groups);
    let mut literals: Vec<IpAddr> = edges(&site.rules.rules.iter().map(|rule| rule.literals()).collect::<Vec<_>>());
    literals.extend(["9.9.9.9", "2606:4700::9"].map(|a| a.parse::<IpAddr>().expect("an address")));
    let mut all = Vec::new();
    let plain = |client: IpAddr, host: &str, port: u16, hello: Hello| Ask {
        client,
        host: host.to_owned(),
        port,
        hello,
        scheme: "HTTP",
        own_port: true,
        backwards: None,
    };
    for &client in &clients {
        for name in &names {
            let tls = || Hello::Tls(Some(name.clone()));
            all.push(plain(client, name, 80, Hello::Plain));
            all.push(plain(client, name, 443, tls()));
            // Seldom asked, of each name: no name inside, another inside, no TLS, other ports and schemes.
            all.push(plain(client, name, 443, Hello::Tls(None)));
            for front in fronts.values() {
                all.push(plain(client, name, 443, Hello::Tls(Some(front.clone()))));
                all.push(plain(client, front, 443, tls()));
            }
            all.push(plain(client, name, 443, Hello::Other));
            all.push(plain(client, name, 8443, tls()));
            all.push(plain(client, name, 80, tls()));
            all.push(plain(client, name, 443, Hello::Plain));
            all.push(plain(client, name, 8080, Hello::Plain));
            all.push(Ask { scheme: "FTP", ..plain(client, name, 80, Hello::Plain) });
            all.push(Ask { own_port: false, ..plain(client, name, 443, tls()) });
            all.push(plain(client, &format!("{}.", name.to_uppercase()), 443, tls()));
        }
        for at in &literals {
            let host = at.to_string();
            for port in [80, 443] {
                for backwards in [None, fronts.values().next().cloned()] {
                    all.push(Ask { backwards: backwards.clone(), ..plain(client, &host, port, Hello::Plain) });
                    all.push(Ask { backwards: backwards.clone(), ..plain(client, &host, port, Hello::Tls(None)) });
                    all.push(Ask {
                        backwards,
                        ..plain(client, &host, port, Hello::Tls(Some("evil.example.net".to_owned())))
                    });
                }
            }
        }
    }
    all
}

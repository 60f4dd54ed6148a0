//! Sites made of the examples, in process: what the model decides, and the files of each target.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use outgate::addrs::AddrSet;
use outgate::catalog::{self, Catalog};
use outgate::day::Day;
use outgate::diagnostic::{Code, Findings};
use outgate::host::{Host, NamePattern, Query};
use outgate::lock::ranges::{ListEntry, Listed};
use outgate::lock::{Entry, Failed, Lock, Seen};
use outgate::policy::Policy;
use outgate::port::{Port, Protocol};
use outgate::resolve::{Failure, RecordType};
use outgate::ruleset::{self, Action, Rule, Ruleset, Verdict};
use outgate::settings::{Ipv6, ResolveAt};
use outgate::source::Sources;
use outgate::target;

use super::model;
use super::readers::Files;
use super::readers::packet::{Fate, Interface, Packet, Path as Way, Proto};
use super::readers::squid::{Ask, Hello};

static CATALOG: LazyLock<Catalog> = LazyLock::new(model::catalog);
static RECORDER: LazyLock<Catalog> = LazyLock::new(|| folder_catalog(&example("other-product").join("catalog")));

/// The targets that every test here is about.
pub(crate) const TARGETS: [&str; 4] = ["nftables", "pf", "opnsense", "squid"];

/// What stands under `targets:` of a site that has all four.
#[derive(Clone, Copy)]
pub(crate) struct Targets {
    pub(crate) hook: &'static str,
    pub(crate) side: &'static str,
    pub(crate) dialect: &'static str,
    pub(crate) version: &'static str,
    pub(crate) resolve: &'static str,
    pub(crate) denied: &'static str,
}

/// A router with the defaults.
pub(crate) const ROUTER: Targets = Targets {
    hook: "forward",
    side: "router",
    dialect: "freebsd",
    version: "26.1",
    resolve: "firewall",
    denied: "reject",
};

impl Targets {
    fn yaml(&self, tables: &str) -> String {
        let Self { hook, side, dialect, version, resolve, denied } = self;
        format!(
            "targets:\n  nftables: {{hook: {hook}, interface: lan0, denied: {denied}}}\n  \
             pf: {{dialect: {dialect}, interface: em1, side: {side}, tables: {tables}, denied: {denied}}}\n  \
             opnsense: {{version: \"{version}\", interface: lan, resolve: {resolve}, denied: {denied}}}\n  \
             squid: {{port: 3128}}\n"
        )
    }
}

pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// A catalog that lies in a folder.
fn folder_catalog(folder: &Path) -> Catalog {
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let mut add =
        |path: PathBuf| sources.add(path.display().to_string(), fs::read_to_string(&path).expect("a catalog"));
    let mut callouts: Vec<PathBuf> = fs::read_dir(folder.join("callouts"))
        .expect("a folder of callouts")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    callouts.sort();
    let files = catalog::Files {
        releases: add(folder.join("releases.yaml")),
        sources: add(folder.join("sources.yaml")),
        features: add(folder.join("features.yaml")),
        providers: Some(add(folder.join("providers.yaml"))),
        pages: None,
        callouts: callouts.into_iter().map(add).collect(),
    };
    let catalog = catalog::read(&sources, &files, &mut findings);
    catalog.unwrap_or_else(|| panic!("{:#?}", findings.iter().collect::<Vec<_>>()))
}

/// A site: the model's rules, and what was written for each target.
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) policy: Policy,
    pub(crate) rules: Ruleset,
    pub(crate) files: BTreeMap<&'static str, Files>,
    /// What was said while the files were made.
    pub(crate) said: Vec<(Code, String)>,
    pub(crate) version: (u32, u32),
    compiled: Vec<Compiled>,
    /// The same for a target that asks DNS itself: vendors' lists have no part in it, and it says so.
    bare: Vec<Compiled>,
    limited: AddrSet,
}

/// A rule with its sets made once: [`Ruleset::decide`] makes them anew for each packet.
struct Compiled {
    key: String,
    action: Action,
    ports: Vec<Port>,
    clients: AddrSet,
    addrs: AddrSet,
}

/// Where the files of pf and Squid are to lie, by default.
pub(crate) const PF_FOLDER: &str = "/usr/local/etc/outgate";
pub(crate) const SQUID_FOLDER: &str = "/etc/squid/outgate";

impl Site {
    /// An example with its profile changed and its targets replaced by all four.
    pub(crate) fn new(name: &str, of: &str, changes: &[(&str, &str)], targets: Targets) -> Self {
        Self::with(name, of, changes, targets, PF_FOLDER, |_| {
            let text = fs::read_to_string(example(of).join("outgate.lock")).expect("the example has a lock");
            let mut sources = Sources::default();
            let id = sources.add("outgate.lock", text);
            Lock::parse(&sources, id).unwrap_or_else(|d| panic!("{}", d.message))
        })
    }

    /// The same with the folder of pf's tables, and a lock made for the policy.
    pub(crate) fn with(
        name: &str,
        of: &str,
        changes: &[(&str, &str)],
        targets: Targets,
        tables: &str,
        lock: impl FnOnce(&Policy) -> Lock,
    ) -> Self {
        let mut profile = fs::read_to_string(example(of).join("outgate.yaml")).expect("the example has a profile");
        let cut = profile.find("\ntargets:\n").expect("the profile has targets");
        profile.truncate(cut + 1);
        for (from, to) in changes {
            assert!(profile.contains(from), "{name}: the profile has no `{from}` to change");
            profile = profile.replace(from, to);
        }
        profile.push_str(&targets.yaml(tables));
        let catalog = if of == "other-product" { &*RECORDER } else { &*CATALOG };
        let policy = model::policy(catalog, &profile).unwrap_or_else(|said| panic!("{name}: {said}"));
        let lock = lock(&policy);
        let (mut sources, mut findings) = (Sources::default(), Findings::default());
        let rules = ruleset::build(&policy, Some(&lock), &mut findings);
        let mut files = BTreeMap::new();
        for target in TARGETS {
            let found = target::find(target).expect("the target is there");
            let pages = target::render(found, &rules, &BTreeMap::new(), &mut sources, &mut findings);
            let pages = pages.unwrap_or_else(|| panic!("{name}: {target}: {:#?}", findings.iter().collect::<Vec<_>>()));
            files.insert(target, pages.into_iter().map(|page| (page.path, page.text)).collect());
        }
        let compile = |rules: &Ruleset| {
            let of = |rule: &Rule| Compiled {
                key: rule.key.to_string(),
                action: rule.action,
                ports: rule.ports.to_vec(),
                clients: rules.clients_of(rules.bound(rule)),
                addrs: rule.addrs(),
            };
            rules.rules.iter().map(of).collect::<Vec<Compiled>>()
        };
        let (major, minor) = targets.version.split_once('.').expect("a version");
        Self {
            name: name.to_owned(),
            compiled: compile(&rules),
            bare: compile(&rules.without_lists()),
            limited: rules.limited(),
            policy,
            rules,
            files,
            said: findings.iter().map(|d| (d.code, d.message.clone())).collect(),
            version: (major.parse().expect("a number"), minor.parse().expect("a number")),
        }
    }

    /// What the model decides, and the rule that does; `denied` where none allows it.
    pub(crate) fn decide(&self, packet: &Packet) -> (Fate, &str) {
        self.decide_by(&self.compiled, packet)
    }

    fn decide_by<'a>(&self, rules: &'a [Compiled], packet: &Packet) -> (Fate, &'a str) {
        let protocol = match packet.proto {
            Proto::Tcp => Protocol::Tcp,
            Proto::Udp => Protocol::Udp,
            // No rule is about ICMP: a limited client has none.
            Proto::Icmp(_) if self.limited.contains(packet.src) => return (Fate::Block, "denied"),
            Proto::Icmp(_) => return (Fate::Unmatched, ""),
        };
        let meets = |rule: &&Compiled| {
            rule.ports.iter().any(|p| p.contains(protocol, packet.port))
                && rule.addrs.contains(packet.dst)
                && rule.clients.contains(packet.src)
        };
        match rules.iter().find(meets) {
            Some(rule) if rule.action == Action::Deny => (Fate::Block, &rule.key),
            Some(rule) => (Fate::Pass, &rule.key),
            None if self.limited.contains(packet.src) => (Fate::Block, "denied"),
            None => (Fate::Unmatched, ""),
        }
    }

    /// The same by [`Ruleset::decide`] itself.
    pub(crate) fn decide_slowly(&self, packet: &Packet) -> (Fate, &str) {
        let protocol = match packet.proto {
            Proto::Tcp => Protocol::Tcp,
            Proto::Udp => Protocol::Udp,
            Proto::Icmp(_) => return self.decide(packet),
        };
        match self.rules.decide(packet.src, packet.dst, protocol, packet.port) {
            Verdict::Allow(rule) => (Fate::Pass, rule.key.as_str()),
            Verdict::Deny(rule) => (Fate::Block, rule.key.as_str()),
            Verdict::DefaultDeny => (Fate::Block, "denied"),
            Verdict::NotOurs => (Fate::Unmatched, ""),
        }
    }

    /// What a target should do with a packet: the model's word, and what the target's own page says of the rest.
    pub(crate) fn expected(&self, target: &str, packet: &Packet) -> (Fate, &str) {
        let ours = packet.interface == Interface::Ours;
        let icmp6 = |types: &[u8]| packet.is_v6() && types.iter().any(|kind| packet.proto == Proto::Icmp(*kind));
        match (target, packet.path) {
            // Without these there is no network on the host itself.
            ("nftables", Way::Own) => {
                let leases = [(false, 68, 67), (true, 546, 547)];
                let leases = leases.map(|(_, from, to)| (Proto::Udp, from, to));
                if packet.interface == Interface::Loopback
                    || (icmp6(&[133, 135, 136]) && packet.hops == 255)
                    || icmp6(&[143])
                    || leases.contains(&(packet.proto, packet.source_port, packet.port))
                {
                    return (Fate::Pass, "");
                }
            }
            ("nftables", Way::Through) => {}
            ("pf", _) if !ours => return (Fate::Unmatched, ""),
            ("pf", _) if icmp6(&[133, 135, 136]) && self.limited.contains(packet.src) => return (Fate::Pass, "icmp6"),
            ("pf", Way::Own)
                if !packet.is_v6()
                    && (packet.proto, packet.source_port, packet.port) == (Proto::Udp, 68, 67)
                    && self.limited.contains(packet.src) =>
            {
                return (Fate::Pass, "dhcp-lease");
            }
            // OPNsense's rules are about what comes in by the clients' interface.
            ("opnsense", way) if !ours || way == Way::Own => return (Fate::Unmatched, ""),
            _ => {}
        }
        let by_name = self.rules.settings.opnsense.as_ref().is_some_and(|own| own.resolve == ResolveAt::Firewall);
        let rules = if target == "opnsense" && by_name { &self.bare } else { &self.compiled };
        match self.decide_by(rules, packet) {
            (Fate::Unmatched, _) if self.rules.ipv6 == Ipv6::DenyInterface && packet.is_v6() && ours => {
                (Fate::Block, "denied")
            }
            said => said,
        }
    }

    /// Whether the proxy should let a request through: host and server name both named by rules of the carrier's port,
    /// neither by a denial on any port; of addresses those that a rule names.
    pub(crate) fn proxied(&self, ask: &Ask) -> bool {
        let (port, secure) = match ask.hello {
            Hello::Plain => (80, false),
            Hello::Tls(_) => (443, true),
            Hello::Other => return false,
        };
        if ask.port != port || !ask.own_port || ask.scheme != "HTTP" {
            return false;
        }
        let rules = |action: Action| {
            self.rules.rules.iter().filter(move |rule| {
                let carried = rule.ports.iter().any(|p| p.contains(Protocol::Tcp, port));
                // What is the administrators' alone is not the appliance's, though their prefix may hold it.
                let own = self.rules.clients_of(self.rules.bound(rule)).contains(ask.client)
                    || (self.rules.clients_of(rule.origins).contains(ask.client) && !self.limited.contains(ask.client));
                let denied = action == Action::Deny && self.rules.clients_of(rule.origins).contains(ask.client);
                rule.action == action && (denied || (action == Action::Allow && carried && own))
            })
        };
        let named = |action: Action, name: &str| {
            let name = Host::parse(name.trim_end_matches('.')).map(NamePattern::Exact);
            name.is_ok_and(|name| rules(action).any(|rule| rule.names().iter().any(|pattern| pattern.covers(&name))))
        };
        let good = |name: &str| named(Action::Allow, name) && !named(Action::Deny, name);
        let inside = match &ask.hello {
            Hello::Tls(Some(name)) => Some(name.as_str()),
            _ => None,
        };
        match ask.host.parse::<IpAddr>() {
            Ok(at) => {
                let literal = |action: Action| rules(action).any(|rule| rule.literals().contains(at));
                let denied = inside.is_some_and(|name| named(Action::Deny, name));
                literal(Action::Allow) && !literal(Action::Deny) && !denied
            }
            Err(_) => good(&ask.host) && (!secure || good(inside.unwrap_or(&ask.host))),
        }
    }

    /// Every set of addresses the model decides by.
    pub(crate) fn sets(&self) -> Vec<AddrSet> {
        let of = |rule: &Compiled| [rule.clients.clone(), rule.addrs.clone()];
        self.compiled.iter().flat_map(of).chain([self.limited.clone()]).collect()
    }

    /// Every range of ports the model decides by.
    pub(crate) fn ports(&self) -> Vec<(u16, u16)> {
        self.compiled.iter().flat_map(|rule| &rule.ports).map(|port| (port.first(), port.last())).collect()
    }

    /// Whether a target meets packets that its own host sends, those that pass through, or both.
    pub(crate) fn ways(&self, target: &str) -> Vec<Way> {
        use outgate::settings::{Hook, Side};
        match target {
            "nftables" => match self.rules.settings.nftables.as_ref().expect("it is there").hook {
                Hook::Forward => vec![Way::Through],
                Hook::Output => vec![Way::Own],
                Hook::Both => vec![Way::Through, Way::Own],
            },
            "pf" => match self.rules.settings.pf.as_ref().expect("it is there").side {
                Side::Router => vec![Way::Through],
                Side::Host => vec![Way::Own],
            },
            _ => vec![Way::Through],
        }
    }

    /// Whether a host can send from this address: the administrators' machines are others.
    pub(crate) fn is_own(&self, addr: IpAddr) -> bool {
        let browser = self.rules.clients.get(&outgate::callout::Origin::Browser);
        browser.is_none_or(|group| !group.addrs.contains(addr))
    }
}

/// The sites every proof goes over: each example, and the settings and shapes of policy that no example has.
pub(crate) fn sites() -> Vec<Site> {
    let host = Targets { hook: "output", side: "host", ..ROUTER };
    let only_v4 = ("nas: [192.0.2.10, \"2001:db8:10::10\"]", "nas: [192.0.2.10]");
    let admins =
        ("admin: [192.0.2.20, \"2001:db8:10::20\"]", "admin: [192.0.2.0/26, 192.0.2.96/28, \"2001:db8:10::/64\"]");
    let apps = ("  # The machine the web", "  apps: [192.0.2.64/28, \"2001:db8:10:1::/64\"]\n  # The machine the web");
    let strict = "strict: [usage, error-report, operational, suspected]";
    // Neighbours that must not become one, ranges and lists of ports, both protocols, one family alone.
    let edges = (
        "extra:\n",
        "extra:\n  - id: edge-ports\n    purpose: Ports that lie beside one another.\n    origin: [nas]\n    \
         hosts: [198.18.0.0/24, 198.18.2.0/24, \"2001:db8:77::/64\"]\n    \
         ports: [1/tcp, 79/tcp, 81/tcp, 8443-8450/tcp, 8452/tcp, 9000-9010/udp, 65535/udp]\n  \
         - id: edge-pair\n    purpose: The same ports of both protocols.\n    origin: [nas, browser]\n    \
         hosts: [198.18.1.0/25, 198.18.1.129]\n    ports: [7000-7009/tcp, 7000-7009/udp, 7011/tcp, 7011/udp]\n  \
         - id: edge-six\n    purpose: IPv6 alone.\n    origin: [nas]\n    hosts: [\"2001:db8:78::1\"]\n    \
         ports: [443/tcp, 444/udp]\n",
    );
    vec![
        Site::new("home-lab", "home-lab", &[], ROUTER),
        Site::new(
            "core-jails",
            "core-jails",
            &[],
            Targets { dialect: "openbsd", version: "26.7", resolve: "lock", denied: "drop", ..ROUTER },
        ),
        Site::new("other-product", "other-product", &[], Targets { version: "25.7", ..ROUTER }),
        Site::new("home-lab on the host", "home-lab", &[], Targets { version: "24.7", resolve: "lock", ..host }),
        Site::new(
            "core-jails on the host",
            "core-jails",
            &[],
            Targets { hook: "both", dialect: "openbsd", version: "25.1", ..host },
        ),
        Site::new(
            "without IPv6",
            "home-lab",
            &[only_v4, ("\nanswers:\n", "\nipv6: deny-interface\nanswers:\n")],
            Targets { version: "24.7", ..ROUTER },
        ),
        Site::new("administrators around the appliance", "home-lab", &[admins], Targets { version: "26.7", ..ROUTER }),
        Site::new(
            "edges",
            "home-lab",
            &[edges],
            Targets { version: "25.7", resolve: "lock", denied: "drop", ..ROUTER },
        ),
        Site::new("edges, oldest OPNsense", "home-lab", &[edges], Targets { version: "24.7", ..ROUTER }),
        Site::new(
            "nothing strict",
            "home-lab",
            &[(strict, "strict: []")],
            Targets { version: "25.1", resolve: "lock", ..ROUTER },
        ),
        Site::new("apps of their own", "home-lab", &[apps], Targets { version: "26.1", resolve: "lock", ..ROUTER }),
    ]
}

/// A lock that knows every name of a policy: an address of each family, its own; `dead` has none, and nobody denies it.
pub(crate) fn lock_of(policy: &Policy, dead: &str) -> Lock {
    let day = Day::parse("2026-11-21").expect("a day");
    let seen = || Seen { first: day, missing: None, by: Default::default() };
    let mut lock = Lock { day, note: None, sites: BTreeSet::new(), hosts: BTreeMap::new(), ranges: BTreeMap::new() };
    for ((id, range), number) in policy.ranges.iter().zip(0_u32..) {
        let nets = [format!("9.200.{number}.0/24"), format!("2606:4701:{number:x}::/48")];
        let listed = Listed { first: day, missing: None };
        let prefixes = nets.iter().map(|net| (net.parse().expect("a prefix"), listed)).collect();
        lock.ranges.insert(id.clone(), ListEntry { source: range.source.clone(), read: None, failed: None, prefixes });
    }
    let mut number = 0_u32;
    for query in policy.queries().into_keys() {
        let mut entry = Entry::default();
        if query.to_string() == dead {
            for kind in [RecordType::A, RecordType::Aaaa] {
                entry.failed.insert(kind, Failed { failure: Failure::NoData, since: day });
            }
        } else {
            number += 1;
            entry.addresses.insert(IpAddr::V4((0x0901_0000 + number).into()), seen());
            entry.addresses.insert(IpAddr::V6(((0x2606_4700_u128 << 96) + u128::from(number)).into()), seen());
        }
        if matches!(query, Query::Host(_)) {
            lock.hosts.insert(query, entry);
        } else {
            let failed = Failed { failure: Failure::NxDomain, since: day };
            lock.hosts.insert(query, Entry { failed: BTreeMap::from([(RecordType::Srv, failed)]), ..Entry::default() });
        }
    }
    lock
}

//! Why something is let out, or is not: [`Ruleset`] and [`Lock`] × [`Question`] → [`Answer`].
//!
//! The rules are turned around once: from each address and each name to the rules that know it. So one question costs a
//! search, and a log of a million lines can be read through. What decides differs by target: a packet filter goes by the
//! lock's addresses, a proxy by the name asked for, a name server by whether a name resolves.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::addrs::AddrSet;
use crate::addrs::holders::Holders;
use crate::callout::{Endpoint, Origin};
use crate::host::{Host, NamePattern, Query};
use crate::lock::{Lock, Seen};
use crate::port::{Port, Protocol};
use crate::ruleset::{Action, Destination, Gap, Rule, Ruleset};
use crate::target::{Decides, TARGETS, Target};

pub mod nearest;
pub mod question;
pub mod summary;

use question::{Question, Sighting, To};

/// What a proxy carries.
const CARRIED: [(Protocol, u16); 2] = [(Protocol::Tcp, 80), (Protocol::Tcp, 443)];

/// A rule set turned around.
pub struct Explainer<'a> {
    ruleset: &'a Ruleset,
    lock: Option<&'a Lock>,
    /// Every destination, in the order of the rules: denials first.
    places: Vec<Held<'a>>,
    by_addr: Holders,
    by_name: HashMap<&'a Host, Vec<u32>>,
    by_parent: HashMap<&'a Host, Vec<u32>>,
    /// The clients each rule is about: at a packet filter, and at a proxy, which limits everybody.
    filtered: Vec<AddrSet>,
    proxied: Vec<AddrSet>,
    limited: AddrSet,
    targets: Vec<&'static Target>,
}

/// A destination of a rule.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// The rule's place in the rule set.
    at: usize,
    /// The rule.
    pub rule: &'a Rule,
    /// Its destination.
    pub destination: &'a Destination,
}

/// What the rules say of one client, place and port.
#[derive(Clone, Debug)]
pub enum Standing<'a> {
    /// These destinations let it out.
    Allowed(Vec<Held<'a>>),
    /// This one denies it.
    Denied(Held<'a>),
    /// No rule allows it. These would, on other ports.
    Rest(Vec<Held<'a>>),
    /// Nothing limits this client.
    NotLimited,
}

impl Standing<'_> {
    /// Whether it gets out; `None` where that is not for our rules to say.
    #[must_use]
    pub fn allows(&self) -> Option<bool> {
        match self {
            Self::Allowed(_) => Some(true),
            Self::Denied(_) | Self::Rest(_) => Some(false),
            Self::NotLimited => None,
        }
    }

    /// The word for people and programs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allowed(_) => "allowed",
            Self::Denied(_) => "denied",
            Self::Rest(_) => "denied by default",
            Self::NotLimited => "not limited",
        }
    }
}

/// All there is to say of one question.
#[derive(Clone, Debug)]
pub struct Answer<'a> {
    /// By client, in the order of their origins.
    pub clients: Vec<Asker<'a>>,
    /// How the lock leads from names to the place in question.
    pub traces: Vec<Trace<'a>>,
}

impl<'a> Answer<'a> {
    /// For each verdict that nothing allows it: what would, on other ports. Not what is as it should be: a client that
    /// nothing limits does without a proxy, and what a packet filter lets out need not be asked of one by its address.
    #[must_use]
    pub fn missed(&self) -> Vec<&[Held<'a>]> {
        let asked = || self.clients.iter().filter(|client| client.limited || self.clients.len() == 1);
        let filtered = |at: &AtTarget<'_>| matches!(at.decides, Decides::Addresses | Decides::OwnLookups);
        let passes = asked().flat_map(|client| &client.at).any(|at| filtered(at) && at.allows() == Some(true));
        let says = asked().flat_map(|client| &client.at).filter(|at| !passes || filtered(at)).flat_map(|at| &at.says);
        let rests = says.filter_map(|(_, standing)| match standing {
            Standing::Rest(elsewhere) => Some(elsewhere.as_slice()),
            _ => None,
        });
        rests.collect()
    }
}

/// One kind of client.
#[derive(Clone, Debug)]
pub struct Asker<'a> {
    /// What it is to the site; nothing for a stranger.
    pub origins: BTreeSet<Origin>,
    /// Whether what no rule allows is denied to it.
    pub limited: bool,
    /// Its addresses; of a question from one address, that one.
    pub addrs: AddrSet,
    /// What each target of the site makes of it.
    pub at: Vec<AtTarget<'a>>,
}

/// What one target makes of a question.
#[derive(Clone, Debug)]
pub struct AtTarget<'a> {
    ruleset: &'a Ruleset,
    /// The target.
    pub target: &'static Target,
    /// What decides there.
    pub decides: Decides,
    /// What it says: of a name at a packet filter, address by address where they differ.
    pub says: Vec<(AddrSet, Standing<'a>)>,
    /// What must be known beside that.
    pub notes: Vec<String>,
}

impl AtTarget<'_> {
    /// What a rule is called at this target; without one, what denies the rest.
    #[must_use]
    pub fn handle(&self, rule: Option<&Rule>) -> Option<String> {
        (self.target.handle)(self.ruleset, rule)
    }

    /// Whether everything in question gets out (`Some(true)`), nothing does, or neither (`None`).
    #[must_use]
    pub fn allows(&self) -> Option<bool> {
        let (first, rest) = self.says.split_first()?;
        let verdict = first.1.allows()?;
        rest.iter().all(|(_, standing)| standing.allows() == Some(verdict)).then_some(verdict)
    }
}

/// How one name leads to addresses.
#[derive(Clone, Debug)]
pub struct Trace<'a> {
    /// The name.
    pub name: &'a Query,
    /// The names its newest answer went through, in order.
    pub chain: &'a [Host],
    /// The addresses in question, each with its history.
    pub addrs: Vec<(IpAddr, &'a Seen)>,
}

impl<'a> Explainer<'a> {
    /// Turns a rule set around, for questions about these targets of the site; none: all of them.
    #[must_use]
    pub fn new(ruleset: &'a Ruleset, lock: Option<&'a Lock>, only: &[&'static Target]) -> Self {
        let mut places = Vec::new();
        let (mut by_name, mut by_parent) = (HashMap::<&Host, Vec<u32>>::new(), HashMap::<&Host, Vec<u32>>::new());
        for (at, rule) in ruleset.rules.iter().enumerate() {
            for destination in &rule.destinations {
                let number = u32::try_from(places.len()).unwrap_or(u32::MAX);
                places.push(Held { at, rule, destination });
                for name in &destination.names {
                    match name {
                        NamePattern::Exact(host) => by_name.entry(host).or_default().push(number),
                        NamePattern::Below(host) => by_parent.entry(host).or_default().push(number),
                    }
                }
            }
        }
        let spaces: Vec<AddrSet> = places.iter().map(|held| held.destination.all()).collect();
        let limited = ruleset.limited();
        let filtered = ruleset.rules.iter().map(|rule| ruleset.clients_of(&ruleset.bound(rule))).collect::<Vec<_>>();
        let proxied = ruleset.rules.iter().zip(&filtered).map(|(rule, filtered)| match rule.action {
            Action::Deny => ruleset.clients_of(&rule.origins),
            // An administrators' prefix may hold the appliance: what is theirs alone is not its own.
            Action::Allow => ruleset.clients_of(&rule.origins).minus(&limited).union(filtered),
        });
        let own = TARGETS.iter().copied().filter(|target| (target.chosen)(&ruleset.settings));
        Self {
            by_addr: Holders::of(&spaces.iter().collect::<Vec<_>>()),
            proxied: proxied.collect(),
            targets: own.filter(|t| only.is_empty() || only.iter().any(|o| o.name == t.name)).collect(),
            ruleset,
            lock,
            places,
            by_name,
            by_parent,
            filtered,
            limited,
        }
    }

    /// Answers one question.
    #[must_use]
    pub fn answer(&self, question: &Question) -> Answer<'a> {
        let clients = self.askers(question).into_iter().map(|(origins, addrs, faces)| {
            let here = self.targets.iter().filter(|target| (target.sees)(&self.ruleset.settings, &origins));
            let at = here.map(|target| self.at_target(target, question, &faces)).collect();
            let is = |origin: &Origin| self.ruleset.clients.get(origin).is_some_and(|group| group.default_deny);
            Asker { limited: origins.iter().any(is), origins, addrs, at }
        });
        Answer { clients: clients.collect(), traces: self.traces(&question.to) }
    }

    /// One verdict on one question: at the target whose log it is of, and else where such a thing is decided, an address
    /// by a packet filter and a name by the proxy if there is one. The quick way for many.
    #[must_use]
    pub fn verdict(&self, sighting: &Sighting, face: IpAddr) -> Standing<'a> {
        let Question { to, port, .. } = &sighting.question;
        let decides = |target: &&'static Target| (target.decides)(&self.ruleset.settings);
        let of_log =
            sighting.log.and_then(|log| self.targets.iter().find(|target| target.name == log.target)).map(decides);
        let proxied = || self.targets.iter().any(|target| decides(target) == Decides::Proxy);
        match to {
            To::Addr(addr) if of_log == Some(Decides::Proxy) => {
                let literal = |&number: &u32| self.is_literal(number);
                let named: Vec<u32> = self.by_addr.at(*addr).iter().copied().filter(literal).collect();
                self.by_proxy(&named, face, *port, &mut Vec::new())
            }
            To::Addr(addr) => self.standing(self.by_addr.at(*addr), face, *port, Decides::Addresses),
            To::Name(host) if of_log == Some(Decides::Proxy) || of_log.is_none() && proxied() => {
                self.by_proxy(&self.named(host), face, *port, &mut Vec::new())
            }
            To::Name(host) => self.standing(&self.named(host), face, *port, Decides::OwnLookups),
        }
    }

    /// An address that stands for whoever asks, where nobody is named: of the first clients that are limited.
    #[must_use]
    pub fn face(&self, v4: bool) -> Option<IpAddr> {
        let groups = self.ruleset.clients.values().filter(|group| group.default_deny);
        groups.flat_map(|group| group.addrs.prefixes()).map(|net| net.addr()).find(|addr| addr.is_ipv4() == v4)
    }

    /// The rule set.
    #[must_use]
    pub fn ruleset(&self) -> &'a Ruleset {
        self.ruleset
    }

    /// Who asks: kind of client, its addresses, and one address of each family that stands for them.
    fn askers(&self, question: &Question) -> Vec<(BTreeSet<Origin>, AddrSet, Vec<IpAddr>)> {
        let groups = &self.ruleset.clients;
        if let Some(client) = question.client {
            let mine = groups.iter().filter(|(_, group)| group.addrs.contains(client)).map(|(origin, _)| *origin);
            return vec![(mine.collect(), [client].into_iter().collect(), vec![client])];
        }
        let mut kinds: Vec<(BTreeSet<Origin>, AddrSet)> = Vec::new();
        for (&origin, group) in groups {
            match kinds.iter_mut().find(|(_, addrs)| *addrs == group.addrs) {
                Some((origins, _)) => _ = origins.insert(origin),
                None => kinds.push(([origin].into(), group.addrs.clone())),
            }
        }
        let face = |(origins, addrs): (BTreeSet<Origin>, AddrSet)| {
            // One that is of no other kind, where there is one: an administrators' prefix may hold the appliance.
            let others = groups.iter().filter(|(origin, _)| !origins.contains(origin)).map(|(_, group)| &group.addrs);
            let own = addrs.minus(&others.collect());
            let pick = |v4: bool| {
                let first =
                    |set: &AddrSet| set.prefixes().iter().map(ipnet::IpNet::addr).find(|addr| addr.is_ipv4() == v4);
                first(&own).or_else(|| first(&addrs))
            };
            let faces = [pick(true), pick(false)].into_iter().flatten().collect();
            (origins, addrs, faces)
        };
        kinds.into_iter().map(face).collect()
    }

    fn at_target(&self, target: &'static Target, question: &Question, faces: &[IpAddr]) -> AtTarget<'a> {
        let decides = (target.decides)(&self.ruleset.settings);
        let mut at = AtTarget { ruleset: self.ruleset, target, decides, says: Vec::new(), notes: Vec::new() };
        match (&question.to, decides) {
            (To::Addr(addr), Decides::Addresses | Decides::OwnLookups) => {
                self.by_packet(&mut at, &[*addr].into_iter().collect(), question, faces);
                if decides == Decides::OwnLookups {
                    at.notes.push("by the lock's answers; it looks names up by itself".to_owned());
                }
            }
            (To::Name(host), Decides::Addresses) => {
                let addrs = self.addresses(host);
                self.by_packet(&mut at, &addrs, question, faces);
                if let Some(&face) = faces.first().filter(|_| addrs.is_empty()) {
                    at.says.push((AddrSet::new(), self.standing(&[], face, question.port, decides)));
                    at.notes.push(self.without_address(host));
                }
            }
            (To::Name(host), Decides::OwnLookups | Decides::Proxy) => self.by_request(&mut at, host, question, faces),
            (To::Addr(_), Decides::Proxy) if question.port.is_some_and(|port| !CARRIED.contains(&port)) => {}
            (To::Addr(addr), Decides::Proxy) => {
                // Addresses in place of names: those alone that the site names itself.
                let named: Vec<u32> = self.by_addr.at(*addr).iter().copied().filter(|&n| self.is_literal(n)).collect();
                if let Some(&face) = faces.first() {
                    at.says.push((AddrSet::new(), self.by_proxy(&named, face, question.port, &mut at.notes)));
                }
                at.notes.push("a request for an address, not for a name".to_owned());
            }
            (To::Name(host), Decides::Resolution) => match (target.resolves)(self.ruleset, host) {
                Some(true) => at.notes.push("it resolves".to_owned()),
                Some(false) => at.notes.push("it does not resolve: it is blocked".to_owned()),
                None => {}
            },
            (To::Addr(_), Decides::Resolution) | (_, Decides::Nothing) => {}
        }
        at
    }

    fn by_packet(&self, at: &mut AtTarget<'a>, addrs: &AddrSet, question: &Question, faces: &[IpAddr]) {
        let mut lacking = BTreeSet::new();
        for addr in addrs.singles() {
            let Some(&face) = faces.iter().find(|face| face.is_ipv4() == addr.is_ipv4()) else {
                lacking.insert(if addr.is_ipv4() { "IPv4" } else { "IPv6" });
                continue;
            };
            let standing = self.standing(self.by_addr.at(addr), face, question.port, at.decides);
            let one: AddrSet = [addr].into_iter().collect();
            match at.says.iter_mut().find(|(_, other)| same(other, &standing)) {
                Some((space, _)) => *space = space.union(&one),
                None => at.says.push((one, standing)),
            }
        }
        at.notes.extend(lacking.into_iter().map(|family| format!("these clients have no {family} address")));
    }

    fn by_request(&self, at: &mut AtTarget<'a>, host: &Host, question: &Question, faces: &[IpAddr]) {
        let Some(&face) = faces.first() else { return };
        let named = self.named(host);
        if at.decides == Decides::OwnLookups {
            // A name that is reached through the proxy alone has no place in what goes by address.
            let own = |&n: &u32| !matches!(self.held(n).destination.gap, Some(Gap::Proxied(_)));
            let named: Vec<u32> = named.into_iter().filter(own).collect();
            at.says.push((AddrSet::new(), self.standing(&named, face, question.port, at.decides)));
            return;
        }
        let standing = self.by_proxy(&named, face, question.port, &mut at.notes);
        if matches!(standing, Standing::Allowed(_)) {
            let decrypt = self.ruleset.settings.squid.as_ref().and_then(|squid| squid.decrypt.as_ref());
            let below: Vec<&str> = decrypt
                .iter()
                .flat_map(|decrypt| &decrypt.paths)
                .filter(|prefix| prefix.host == *host)
                .map(|prefix| prefix.path.as_str())
                .collect();
            let tls = question.port.is_none_or(|port| port == (Protocol::Tcp, 443));
            if tls && !below.is_empty() {
                let told = question.path.as_deref().filter(|path| *path != "/" || question.port.is_some());
                let inside = |path: &str| below.iter().any(|prefix| path.starts_with(prefix));
                at.notes.push(format!("its TLS is opened, and let out is what begins with {}", below.join(" or ")));
                if told.is_some_and(|path| !inside(path)) {
                    at.says.push((AddrSet::new(), Standing::Rest(Vec::new())));
                    return;
                }
            }
        }
        at.says.push((AddrSet::new(), standing));
    }

    /// At a proxy: what it does not carry, it lets nobody ask for.
    fn by_proxy(
        &self,
        named: &[u32],
        face: IpAddr,
        port: Option<(Protocol, u16)>,
        notes: &mut Vec<String>,
    ) -> Standing<'a> {
        let carried = match port {
            Some(port) if CARRIED.contains(&port) => vec![port],
            Some(_) => {
                notes.push("a proxy carries 80/tcp and 443/tcp alone".to_owned());
                Vec::new()
            }
            None => CARRIED.to_vec(),
        };
        let standings = carried.into_iter().map(|port| self.standing(named, face, Some(port), Decides::Proxy));
        let mut best = Standing::Rest(Vec::new());
        for standing in standings {
            best = match (best, standing) {
                (Standing::Allowed(all), Standing::Allowed(more)) => Standing::Allowed([all, more].concat()),
                (allowed @ Standing::Allowed(_), _) | (_, allowed @ Standing::Allowed(_)) => allowed,
                (denied @ Standing::Denied(_), _) => denied,
                (_, other) => other,
            };
        }
        best
    }

    fn standing(
        &self,
        places: &[u32],
        client: IpAddr,
        port: Option<(Protocol, u16)>,
        decides: Decides,
    ) -> Standing<'a> {
        let proxy = decides == Decides::Proxy;
        let clients = if proxy { &self.proxied } else { &self.filtered };
        let (mut allowed, mut elsewhere) = (Vec::new(), Vec::new());
        for &number in places {
            let held = self.held(number);
            if !clients.get(held.at).is_some_and(|clients| clients.contains(client)) {
                continue;
            }
            let on_port =
                port.is_none_or(|(protocol, port)| held.rule.ports.iter().any(|p| p.contains(protocol, port)));
            match held.rule.action {
                // Denials come first, so nothing was allowed yet.
                Action::Deny if on_port => return Standing::Denied(held),
                Action::Deny => {}
                Action::Allow if on_port => allowed.push(held),
                Action::Allow => elsewhere.push(held),
            }
        }
        if !allowed.is_empty() {
            Standing::Allowed(allowed)
        } else if proxy || self.limited.contains(client) {
            Standing::Rest(elsewhere)
        } else {
            Standing::NotLimited
        }
    }

    fn held(&self, number: u32) -> Held<'a> {
        self.places[usize::try_from(number).unwrap_or_default()]
    }

    fn is_literal(&self, number: u32) -> bool {
        matches!(self.held(number).destination.endpoint, Endpoint::Net(_))
    }

    /// The destinations whose names are this one, in the order of the rules.
    fn named(&self, host: &Host) -> Vec<u32> {
        let exact = NamePattern::Exact(host.clone());
        let above = exact.covering().filter_map(|wider| self.by_parent.get(wider.host())).flatten();
        let numbers: BTreeSet<u32> = self.by_name.get(host).into_iter().flatten().chain(above).copied().collect();
        numbers.into_iter().collect()
    }

    /// Every address the lock has for a name.
    fn addresses(&self, host: &Host) -> AddrSet {
        let entry = self.lock.and_then(|lock| lock.hosts.get(&Query::Host(host.clone())));
        entry.into_iter().flat_map(|entry| entry.addresses.keys().copied()).collect()
    }

    /// Why a name has no address to go by.
    fn without_address(&self, host: &Host) -> String {
        let gaps = self.named(host).into_iter().filter_map(|number| self.held(number).destination.gap.as_ref());
        match gaps.into_iter().next() {
            Some(Gap::Wildcard) => "let out as a part of a wildcard, whose addresses nobody can list".to_owned(),
            Some(gap) => format!("it has no address here: {}", gap.why()),
            None => "its addresses are not in the lock; one that an allowed name has too is let out".to_owned(),
        }
    }

    fn traces(&self, to: &To) -> Vec<Trace<'a>> {
        let Some(lock) = self.lock else { return Vec::new() };
        let of = |(name, entry): (&'a Query, &'a crate::lock::Entry), only: Option<IpAddr>| Trace {
            name,
            chain: &entry.chain,
            addrs: entry
                .addresses
                .iter()
                .filter(|(addr, _)| only.is_none_or(|only| only == **addr))
                .map(|(a, s)| (*a, s))
                .collect(),
        };
        match to {
            To::Name(host) => {
                lock.hosts.get_key_value(&Query::Host(host.clone())).map(|pair| of(pair, None)).into_iter().collect()
            }
            To::Addr(addr) => {
                let known = lock.hosts.iter().filter(|(_, entry)| entry.addresses.contains_key(addr));
                known.map(|pair| of(pair, Some(*addr))).collect()
            }
        }
    }
}

/// Whether two standings are for the same reason.
fn same(a: &Standing<'_>, b: &Standing<'_>) -> bool {
    let keys = |held: &[Held<'_>]| held.iter().map(|held| held.at).collect::<BTreeSet<_>>();
    match (a, b) {
        (Standing::Allowed(a), Standing::Allowed(b)) | (Standing::Rest(a), Standing::Rest(b)) => keys(a) == keys(b),
        (Standing::Denied(a), Standing::Denied(b)) => a.at == b.at,
        (Standing::NotLimited, Standing::NotLimited) => true,
        _ => false,
    }
}

/// The rules of destinations, each once, with their ports.
#[must_use]
pub fn rules<'a>(held: &[Held<'a>]) -> Vec<&'a Rule> {
    let mut rules: Vec<&Rule> = Vec::new();
    for held in held {
        if rules.iter().all(|rule| rule.key != held.rule.key) {
            rules.push(held.rule);
        }
    }
    rules
}

/// The ports of rules, merged.
#[must_use]
pub fn ports(rules: &[&Rule]) -> Vec<Port> {
    crate::port::merge(&rules.iter().flat_map(|rule| rule.ports.iter().copied()).collect::<Vec<_>>())
}

//! Why something is let out, or is not: [`Ruleset`] and [`Lock`] × [`Question`] → [`Answer`].
//!
//! The rules are turned around once: from each address and each name to the rules that know it. So one question costs a
//! search, and a log of a million lines can be read through. What decides differs by target, and [`Wall`] says how: a
//! packet filter goes by the lock's addresses, a proxy by the name asked for, a name server by whether a name resolves.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ptr;
use std::rc::Rc;
use std::slice;

use crate::addrs::AddrSet;
use crate::addrs::holders::Holders;
use crate::callout::{Endpoint, Origin, Origins};
use crate::host::{Host, NamePattern, Query};
use crate::lock::{Entry, Lock, Seen};
use crate::port::{self, Port, Protocol};
use crate::ruleset::{Action, Destination, Gap, Rule, Ruleset};
use crate::target::wall::{Sight, Wall};
use crate::target::{TARGETS, Target};

pub mod nearest;
pub mod question;
pub mod summary;

use question::{Question, Sighting, To};

/// A target of a site, and what it makes of traffic; `None` for one that only answers for names.
pub type Post<'a> = (&'static Target, Option<Wall<'a>>);

/// The targets of a site, or those of them that are named.
#[must_use]
pub fn posts<'a>(ruleset: &'a Ruleset, only: &[&'static Target]) -> Vec<Post<'a>> {
    let own = TARGETS.iter().copied().filter(|target| (target.chosen)(&ruleset.settings));
    let asked = own.filter(|target| only.is_empty() || only.iter().any(|other| other.name == target.name));
    asked.map(|target| (target, (target.wall)(ruleset))).collect()
}

/// A rule set turned around, with the targets that are asked.
pub struct Explainer<'a> {
    ruleset: &'a Ruleset,
    lock: Option<&'a Lock>,
    /// The rules as they are, for whoever asks at no target.
    plain: View<'a>,
    posts: Vec<(&'static Target, Option<View<'a>>)>,
    /// Who asks where nobody is named, by IPv4 and by IPv6.
    faces: (Option<IpAddr>, Option<IpAddr>),
}

/// One wall, with what every question needs of it.
struct View<'a> {
    wall: &'a Wall<'a>,
    /// The clients that rules are about, by action and origins, as far as somebody asked.
    clients: RefCell<BTreeMap<(Action, Origins), AddrSet>>,
    limited: AddrSet,
    /// Shared by the walls of one rule set: to turn it around is most of what a first question takes.
    index: Rc<OnceCell<Index<'a>>>,
}

/// From addresses and names to destinations, by their number; made when the first question of a kind is asked.
struct Index<'a> {
    /// Every destination, in the order of the rules: denials first.
    places: Vec<Held<'a>>,
    by_addr: OnceCell<Holders>,
    /// Of names, and of names that wildcards are below.
    by_name: OnceCell<(ByHost<'a>, ByHost<'a>)>,
}

/// The numbers of the destinations that have a host, in order.
#[derive(Default)]
struct ByHost<'a>(HashMap<&'a Host, Numbers>);

/// Nearly every host is of one destination.
enum Numbers {
    One(u32),
    More(Vec<u32>),
}

impl Numbers {
    fn push(&mut self, number: u32) {
        match self {
            Self::One(first) => *self = Self::More(vec![*first, number]),
            Self::More(numbers) => numbers.push(number),
        }
    }
}

impl<'a> ByHost<'a> {
    fn add(&mut self, host: &'a Host, number: u32) {
        self.0.entry(host).and_modify(|numbers| numbers.push(number)).or_insert(Numbers::One(number));
    }

    fn of(&self, host: &Host) -> &[u32] {
        match self.0.get(host) {
            None => &[],
            Some(Numbers::One(number)) => slice::from_ref(number),
            Some(Numbers::More(numbers)) => numbers,
        }
    }
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
        let passes = asked().flat_map(|client| &client.at).any(|at| !at.by_name && at.allows() == Some(true));
        let says = asked().flat_map(|client| &client.at).filter(|at| !passes || !at.by_name).flat_map(|at| &at.says);
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
    pub origins: Origins,
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
    /// Whether it goes by names alone.
    pub by_name: bool,
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

/// Who asks.
struct Client {
    origins: Origins,
    addrs: AddrSet,
    /// One address of each family that stands for all.
    faces: Vec<IpAddr>,
}

impl<'a> Explainer<'a> {
    /// Turns a rule set around. `plain` is what it says of itself (see [`Wall::by_address`]), `posts` what its targets
    /// make of it.
    #[must_use]
    pub fn new(ruleset: &'a Ruleset, lock: Option<&'a Lock>, plain: &'a Wall<'a>, posts: &'a [Post<'a>]) -> Self {
        let plain = View::new(plain, Rc::default());
        let view = |wall: &'a Wall<'a>| {
            let same = ptr::eq::<Ruleset>(&*wall.ruleset, &*plain.wall.ruleset);
            View::new(wall, if same { Rc::clone(&plain.index) } else { Rc::default() })
        };
        let posts = posts.iter().map(|(target, wall)| (*target, wall.as_ref().map(view))).collect();
        let limited = ruleset.clients.values().filter(|group| group.default_deny);
        let limited: Vec<IpAddr> = limited.flat_map(|group| group.addrs.prefixes()).map(|net| net.addr()).collect();
        let face = |v4: bool| limited.iter().copied().find(|addr| addr.is_ipv4() == v4);
        Self { ruleset, lock, plain, posts, faces: (face(true), face(false)) }
    }

    /// The rule set.
    #[must_use]
    pub fn ruleset(&self) -> &'a Ruleset {
        self.ruleset
    }

    /// Answers one question.
    #[must_use]
    pub fn answer(&self, question: &Question) -> Answer<'a> {
        let limits = |origin: Origin| self.ruleset.clients.get(&origin).is_some_and(|group| group.default_deny);
        let clients = self.clients(question).into_iter().map(|client| Asker {
            at: self
                .posts
                .iter()
                .filter_map(|(target, view)| self.at(target, view.as_ref(), question, &client))
                .collect(),
            limited: client.origins.iter().any(limits),
            origins: client.origins,
            addrs: client.addrs,
        });
        Answer { clients: clients.collect(), traces: self.traces(&question.to) }
    }

    /// One verdict on one question: at the target whose log it is of, and else where such a thing is decided, an address
    /// by a packet filter and a name by the proxy if there is one. The quick way for many.
    #[must_use]
    pub fn verdict(&self, sighting: &Sighting, face: IpAddr) -> Standing<'a> {
        let Question { to, port, .. } = &sighting.question;
        let views = || self.posts.iter().filter_map(|(target, view)| Some((target, view.as_ref()?)));
        let of_log = sighting.log.and_then(|log| views().find(|(target, _)| target.name == log.target));
        let proxy = || views().find(|(_, view)| view.is_proxy());
        let by_name = of_log.or_else(|| if matches!(to, To::Name(_)) { proxy() } else { None });
        match (to, by_name.map(|(_, view)| view).filter(|view| view.is_proxy())) {
            (To::Addr(addr), Some(proxy)) => proxy.on_carried(&proxy.literals(*addr), face, *port, &mut Vec::new()),
            (To::Addr(addr), None) => self.plain.standing(self.plain.index().at(*addr), face, *port),
            (To::Name(host), Some(proxy)) => proxy.on_carried(&proxy.index().named(host), face, *port, &mut Vec::new()),
            (To::Name(host), None) => self.plain.standing(&self.plain.index().named(host), face, *port),
        }
    }

    /// An address that stands for whoever asks, where nobody is named: of the first clients that are limited.
    #[must_use]
    pub fn face(&self, v4: bool) -> Option<IpAddr> {
        if v4 { self.faces.0 } else { self.faces.1 }
    }

    fn clients(&self, question: &Question) -> Vec<Client> {
        let groups = &self.ruleset.clients;
        if let Some(client) = question.client {
            let mine = groups.iter().filter(|(_, group)| group.addrs.contains(client)).map(|(origin, _)| *origin);
            return vec![Client {
                origins: mine.collect(),
                addrs: [client].into_iter().collect(),
                faces: vec![client],
            }];
        }
        let mut kinds: Vec<(Origins, AddrSet)> = Vec::new();
        for (&origin, group) in groups {
            match kinds.iter_mut().find(|(_, addrs)| *addrs == group.addrs) {
                Some((origins, _)) => _ = origins.insert(origin),
                None => kinds.push(([origin].into(), group.addrs.clone())),
            }
        }
        let client = |(origins, addrs): (Origins, AddrSet)| {
            // One that is of no other kind, where there is one: an administrators' prefix may hold the appliance.
            let others = groups.iter().filter(|(origin, _)| !origins.contains(**origin)).map(|(_, group)| &group.addrs);
            let own = addrs.minus(&others.collect());
            let pick = |v4: bool| {
                let first =
                    |set: &AddrSet| set.prefixes().iter().map(ipnet::IpNet::addr).find(|addr| addr.is_ipv4() == v4);
                first(&own).or_else(|| first(&addrs))
            };
            let faces = [pick(true), pick(false)].into_iter().flatten().collect();
            Client { origins, addrs, faces }
        };
        kinds.into_iter().map(client).collect()
    }

    /// What one target makes of a question; `None` where such traffic does not come to it.
    fn at(
        &self,
        target: &'static Target,
        view: Option<&View<'a>>,
        question: &Question,
        client: &Client,
    ) -> Option<AtTarget<'a>> {
        let by_name = view.is_none_or(View::is_proxy);
        let mut at = AtTarget { ruleset: self.ruleset, target, by_name, says: Vec::new(), notes: Vec::new() };
        let Some(view) = view else {
            let To::Name(host) = &question.to else { return None };
            let says = if (target.resolves)(self.ruleset, host)? {
                "it resolves"
            } else {
                "it does not resolve: it is blocked"
            };
            at.notes.push(says.to_owned());
            return Some(at);
        };
        let stranger = client.origins.is_empty() && view.wall.pods.is_none();
        if !stranger && client.origins.iter().all(|origin| view.wall.unseen(origin).is_some()) {
            return None;
        }
        match (&question.to, view.wall.sight) {
            (To::Addr(addr), Sight::Address | Sight::Lookup { .. }) => {
                view.by_packet(&mut at, &[*addr].into_iter().collect(), question, client);
                if view.wall.sight != Sight::Address {
                    at.notes.push("by the lock's answers; it looks names up by itself".to_owned());
                }
            }
            (To::Addr(addr), Sight::Name { addresses }) => {
                let carried = question.port.is_none_or(|port| view.carries(port));
                let face = client.faces.first().filter(|_| addresses && carried)?;
                let standing = view.on_carried(&view.literals(*addr), *face, question.port, &mut at.notes);
                at.says.push((AddrSet::new(), standing));
                at.notes.push("a request for an address, not for a name".to_owned());
            }
            (To::Name(host), Sight::Address) => self.name_by_address(view, &mut at, host, question, client),
            (To::Name(host), Sight::Lookup { .. }) => {
                let standing = view.standing(&view.index().named(host), *client.faces.first()?, question.port);
                at.says.push((AddrSet::new(), standing));
            }
            (To::Name(host), Sight::Name { .. }) => {
                let named = view.index().named(host);
                let standing = view.on_carried(&named, *client.faces.first()?, question.port, &mut at.notes);
                let standing = self.below_paths(view, host, question, standing, &mut at.notes);
                at.says.push((AddrSet::new(), standing));
            }
        }
        if view.wall.audit {
            at.notes.push("in audit mode: what it would deny it logs, and lets through".to_owned());
        }
        Some(at)
    }

    /// A name where addresses decide: by each that the lock has for it.
    fn name_by_address(
        &self,
        view: &View<'a>,
        at: &mut AtTarget<'a>,
        host: &Host,
        question: &Question,
        client: &Client,
    ) {
        let exact = NamePattern::Exact(host.clone());
        let fed = |pattern: &NamePattern| pattern.covers(&exact) || host.is_below(pattern.host());
        let first = client.faces.first().copied();
        if let Some(face) = first.filter(|_| view.wall.fed.iter().any(fed)) {
            at.says.push((AddrSet::new(), view.standing(&view.index().named(host), face, question.port)));
            at.notes.push("its addresses are put in as they are answered".to_owned());
            return;
        }
        let entry = self.lock.and_then(|lock| lock.hosts.get(&Query::Host(host.clone())));
        let addrs: AddrSet = entry.into_iter().flat_map(|entry| entry.addresses.keys()).collect();
        view.by_packet(at, &addrs, question, client);
        if let Some(face) = first.filter(|_| addrs.is_empty()) {
            at.says.push((AddrSet::new(), view.standing(&[], face, question.port)));
            let gaps =
                view.index().named(host).into_iter().filter_map(|n| view.index().held(n).destination.gap.as_deref());
            at.notes.push(match gaps.into_iter().next() {
                Some(Gap::Wildcard) => "let out as a part of a wildcard, whose addresses nobody can list".to_owned(),
                Some(gap) => format!("it has no address here: {}", gap.why()),
                None => "its addresses are not in the lock; one that an allowed name has too is let out".to_owned(),
            });
        }
    }

    /// A host of which a proxy lets out some paths alone.
    fn below_paths(
        &self,
        view: &View<'a>,
        host: &Host,
        question: &Question,
        standing: Standing<'a>,
        notes: &mut Vec<String>,
    ) -> Standing<'a> {
        let tls = question.port.is_none_or(|port| port == (Protocol::Tcp, 443));
        if !tls || !view.wall.only_paths.contains(host) || !matches!(standing, Standing::Allowed(_)) {
            return standing;
        }
        let decrypt = self.ruleset.settings.squid.as_ref().and_then(|squid| squid.decrypt.as_ref());
        let paths = decrypt.into_iter().flat_map(|decrypt| &decrypt.paths).filter(|prefix| prefix.host == *host);
        let below: Vec<&str> = paths.map(|prefix| prefix.path.as_str()).collect();
        notes.push(format!("its TLS is opened, and let out is what begins with {}", below.join(" or ")));
        match &question.path {
            Some(path) if !below.iter().any(|prefix| path.starts_with(prefix)) => Standing::Rest(Vec::new()),
            _ => standing,
        }
    }

    fn traces(&self, to: &To) -> Vec<Trace<'a>> {
        let Some(lock) = self.lock else { return Vec::new() };
        let of = |(name, entry): (&'a Query, &'a Entry), only: Option<IpAddr>| {
            let asked = entry.addresses.iter().filter(|(addr, _)| only.is_none_or(|only| only == *addr));
            Trace { name, chain: &entry.chain, addrs: asked.collect() }
        };
        match to {
            To::Name(host) => {
                let known = lock.hosts.get_key_value(&Query::Host(host.clone()));
                known.map(|pair| of(pair, None)).into_iter().collect()
            }
            To::Addr(addr) => {
                let known = lock.hosts.iter().filter(|(_, entry)| entry.addresses.contains_key(addr));
                known.map(|pair| of(pair, Some(*addr))).collect()
            }
        }
    }
}

impl<'a> View<'a> {
    fn new(wall: &'a Wall<'a>, index: Rc<OnceCell<Index<'a>>>) -> Self {
        Self { wall, clients: RefCell::default(), limited: wall.limited(), index }
    }

    /// Whether a rule is about a client here.
    fn is_about(&self, rule: &Rule, client: IpAddr) -> bool {
        let mut known = self.clients.borrow_mut();
        known.entry((rule.action, rule.origins)).or_insert_with(|| self.wall.clients(rule)).contains(client)
    }

    fn is_proxy(&self) -> bool {
        matches!(self.wall.sight, Sight::Name { .. })
    }

    fn index(&self) -> &Index<'a> {
        self.index.get_or_init(|| Index::of(&self.wall.ruleset))
    }

    fn carries(&self, (protocol, port): (Protocol, u16)) -> bool {
        self.wall.carries.iter().any(|carried| carried.contains(protocol, port))
    }

    /// The destinations that the site names by an address itself.
    fn literals(&self, addr: IpAddr) -> Vec<u32> {
        let index = self.index();
        let literal = |number: &u32| matches!(index.held(*number).destination.endpoint, Endpoint::Net(_));
        index.at(addr).iter().copied().filter(literal).collect()
    }

    fn by_packet(&self, at: &mut AtTarget<'a>, addrs: &AddrSet, question: &Question, client: &Client) {
        let mut lacking = BTreeSet::new();
        for addr in addrs.singles() {
            let Some(&face) = client.faces.iter().find(|face| face.is_ipv4() == addr.is_ipv4()) else {
                lacking.insert(if addr.is_ipv4() { "IPv4" } else { "IPv6" });
                continue;
            };
            let standing = self.standing(self.index().at(addr), face, question.port);
            let one: AddrSet = [addr].into_iter().collect();
            match at.says.iter_mut().find(|(_, other)| same(other, &standing)) {
                Some((space, _)) => *space = space.union(&one),
                None => at.says.push((one, standing)),
            }
        }
        at.notes.extend(lacking.into_iter().map(|family| format!("these clients have no {family} address")));
    }

    /// At a wall that carries some ports alone: what it does not carry, it lets nobody ask for.
    fn on_carried(
        &self,
        places: &[u32],
        face: IpAddr,
        port: Option<(Protocol, u16)>,
        notes: &mut Vec<String>,
    ) -> Standing<'a> {
        let asked: Vec<(Protocol, u16)> = match port {
            Some(port) if self.carries(port) => vec![port],
            Some(_) => {
                let carried: Vec<String> = self.wall.carries.iter().map(Port::to_string).collect();
                notes.push(format!("it carries {} alone", carried.join(" and ")));
                Vec::new()
            }
            None => self.wall.carries.iter().map(|carried| (carried.protocol, carried.first())).collect(),
        };
        let mut best = Standing::Rest(Vec::new());
        for standing in asked.into_iter().map(|port| self.standing(places, face, Some(port))) {
            best = match (best, standing) {
                (Standing::Allowed(all), Standing::Allowed(more)) => Standing::Allowed([all, more].concat()),
                (allowed @ Standing::Allowed(_), _) | (_, allowed @ Standing::Allowed(_)) => allowed,
                (denied @ Standing::Denied(_), _) => denied,
                (_, other) => other,
            };
        }
        best
    }

    fn standing(&self, places: &[u32], client: IpAddr, port: Option<(Protocol, u16)>) -> Standing<'a> {
        let (mut allowed, mut elsewhere) = (Vec::new(), Vec::new());
        for held in places.iter().map(|&number| self.index().held(number)) {
            if !self.is_about(held.rule, client) {
                continue;
            }
            let on_port =
                port.is_none_or(|(protocol, port)| held.rule.ports.iter().any(|p| p.contains(protocol, port)));
            match held.rule.action {
                // Denials come first, so nothing was allowed yet.
                Action::Deny if on_port && self.wall.audit => return Standing::NotLimited,
                Action::Deny if on_port => return Standing::Denied(held),
                Action::Deny => {}
                Action::Allow if on_port => allowed.push(held),
                Action::Allow => elsewhere.push(held),
            }
        }
        if !allowed.is_empty() {
            Standing::Allowed(allowed)
        } else if !self.wall.audit && (self.wall.everybody || self.limited.contains(client)) {
            Standing::Rest(elsewhere)
        } else {
            Standing::NotLimited
        }
    }
}

impl<'a> Index<'a> {
    fn of(ruleset: &'a Ruleset) -> Self {
        let mut places = Vec::with_capacity(ruleset.rules.len());
        for (at, rule) in ruleset.rules.iter().enumerate() {
            places.extend(rule.destinations.iter().map(|destination| Held { at, rule, destination }));
        }
        Self { places, by_addr: OnceCell::new(), by_name: OnceCell::new() }
    }

    /// The destinations that hold an address, in the order of the rules.
    fn at(&self, addr: IpAddr) -> &[u32] {
        self.by_addr.get_or_init(|| Holders::of(self.places.iter().map(|held| held.destination.all()))).at(addr)
    }

    fn held(&self, number: u32) -> Held<'a> {
        self.places[usize::try_from(number).unwrap_or_default()]
    }

    /// The destinations whose names are this one, in the order of the rules.
    fn named(&self, host: &Host) -> Vec<u32> {
        let (by_name, by_parent) = self.by_name.get_or_init(|| by_host(&self.places));
        let exact = NamePattern::Exact(host.clone());
        let above = exact.covering().flat_map(|wider| by_parent.of(wider.host()));
        let numbers: BTreeSet<u32> = by_name.of(host).iter().chain(above).copied().collect();
        numbers.into_iter().collect()
    }
}

/// From names to destinations, and from the names that wildcards are below.
fn by_host<'a>(places: &[Held<'a>]) -> (ByHost<'a>, ByHost<'a>) {
    // A table that grows reads every name anew.
    let (mut by_name, mut by_parent) = (ByHost(HashMap::with_capacity(places.len())), ByHost::default());
    for (number, held) in (0..).zip(places) {
        for name in held.destination.names() {
            match name {
                NamePattern::Exact(host) => by_name.add(host, number),
                NamePattern::Below(host) => by_parent.add(host, number),
            }
        }
    }
    (by_name, by_parent)
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

/// The rules of destinations, each once.
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
    port::merge(&rules.iter().flat_map(|rule| rule.ports.iter().copied()).collect::<Vec<_>>())
}

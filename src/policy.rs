//! The policy: [`Catalog`] + [`Profile`] → [`Policy`]. Pure: the same two values give the same policy.
//!
//! A policy says, in names and prefixes as they are written, who may contact what and why, and who may not. Strict
//! mode is nothing but more denials here.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::addrs::SpecialUse;
use crate::assertion;
use crate::callout::{Callout, Endpoint, Endpoints, Origin, Origins};
use crate::catalog::Catalog;
use crate::diagnostic::{Code, Diagnostic, Findings, suggest};
use crate::host::{Host, NamePattern, Query};
use crate::port::{Port, Protocol};
use crate::profile::{List, Profile, Server};
use crate::ranges::Source;
use crate::release::Overlap;
use crate::settings::{Ipv6, Settings};
use crate::source::Span;
use crate::strict::{Choice, Shared};
use crate::terms::{Terms, Wishes};
use crate::text::quoted;
use crate::text::{ID_MAX, Id, Short, Text};

/// Who may contact what, and who may not.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The site's name.
    pub site: Text,
    /// The release as written, with its family's title.
    pub release: String,
    /// Clients by origin. Apps without addresses of their own leave with the appliance's and stand here with those.
    pub clients: BTreeMap<Origin, Client>,
    /// Denials first, then by callout.
    pub decisions: Vec<Decision>,
    /// Callouts of origins that have no clients, so that there is no rule for them.
    pub uncovered: BTreeSet<(Origin, Id)>,
    /// Every callout that strict mode blocks here, whether or not its origins have clients, each with why.
    pub blocked: BTreeMap<Id, (Arc<Callout>, Short)>,
    /// Entries that strict mode would block and the site excepts, each with its reason.
    pub excepted: BTreeMap<Id, Text>,
    /// What the site decided for allowed endpoints that share an address with a blocked name.
    pub shared: BTreeMap<Endpoint, Shared>,
    /// Vendors' lists of prefixes that widen what rules by address allow for some names.
    pub ranges: BTreeMap<Id, Range>,
    /// What is done about IPv6 where clients have none.
    pub ipv6: Ipv6,
    /// The targets' settings.
    pub settings: Settings,
}

/// A vendor's list of prefixes.
#[derive(Clone, Debug)]
pub struct Range {
    /// Where it is, and what is taken from it.
    pub source: Source,
    /// The endpoints of allows it is for, at least one.
    pub names: BTreeSet<NamePattern>,
    /// What it may hold, how long its prefixes last, how old it may be: the site's terms for all answers.
    pub terms: Terms,
    /// Where the site says so.
    pub span: Span,
}

impl Range {
    /// Whether the list is for what this asks for.
    #[must_use]
    pub fn is_for(&self, query: &Query) -> bool {
        matches!(query, Query::Host(host) if self.names.contains(&NamePattern::Exact(host.clone())))
    }
}

/// The clients of one origin.
#[derive(Clone, Debug)]
pub struct Client {
    /// Their addresses, sorted.
    pub prefixes: Vec<IpNet>,
    /// Whether what is not allowed to them is denied. Not for the administrator's own machine: there only denials
    /// apply, for cutting it off from everything else is nobody's wish.
    pub default_deny: bool,
    /// Where they are written.
    pub span: Span,
}

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Deny. First, for a deny beats an allow.
    Deny,
    /// Allow.
    Allow,
}

impl Action {
    /// The word for messages and comments.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
        }
    }
}

/// One callout's part of the policy.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Unique name of the rule: the callout's id, with a number where the callout needs several.
    pub key: Id,
    /// Allow or deny.
    pub action: Action,
    /// Why.
    pub reason: Short,
    /// The callout.
    pub callout: Arc<Callout>,
    /// Whose traffic: origins that have clients, at least one.
    pub origins: Origins,
    /// Where it leads; every endpoint on every port.
    pub endpoints: Endpoints,
    /// The ports.
    pub ports: Arc<[Port]>,
    /// On what terms the answers for its names are believed.
    pub terms: Arc<Terms>,
    /// The same for names of which the profile says more.
    pub terms_of: BTreeMap<Query, Arc<Terms>>,
}

impl Decision {
    /// On what terms the answers for one of its names are believed.
    #[must_use]
    pub fn terms_for(&self, query: &Query) -> &Arc<Terms> {
        self.terms_of.get(query).unwrap_or(&self.terms)
    }
}

impl Policy {
    /// Every name that must be looked up, with the terms of its answers.
    #[must_use]
    pub fn queries(&self) -> BTreeMap<Query, Arc<Terms>> {
        let mut queries = BTreeMap::new();
        for decision in &self.decisions {
            for query in decision.endpoints.iter().filter_map(Endpoint::query) {
                let terms = Arc::clone(decision.terms_for(&query));
                ask(&mut queries, query, terms);
            }
        }
        queries
    }

    /// The rule that blocks a name by name, if one does.
    #[must_use]
    pub fn blocked_by(&self, host: &Host) -> Option<&Id> {
        let pattern = NamePattern::Exact(host.clone());
        let covers = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Name(name) if name.covers(&pattern));
        let denials = self.decisions.iter().filter(|decision| decision.action == Action::Deny);
        denials.filter(|denial| denial.endpoints.iter().any(covers)).map(|denial| &denial.key).next()
    }

    /// Every client prefix: no DNS answer may lead there, but those for the site's own names.
    #[must_use]
    pub fn client_prefixes(&self) -> Vec<IpNet> {
        self.clients.values().flat_map(|client| client.prefixes.iter().copied()).collect()
    }
}

/// Asks for a name on these terms too.
pub(crate) fn ask(queries: &mut BTreeMap<Query, Arc<Terms>>, query: Query, terms: Arc<Terms>) {
    match queries.entry(query) {
        Entry::Vacant(new) => _ = new.insert(terms),
        Entry::Occupied(known) if known.get() == &terms => {}
        Entry::Occupied(mut known) => {
            let both = Terms::clone(known.get()).and(&terms);
            known.insert(both.into());
        }
    }
}

/// Decides. Every fault becomes a finding; with one error there is no policy.
pub fn decide(catalog: &Catalog, profile: &Profile, findings: &mut Findings) -> Option<Policy> {
    let mark = findings.mark();
    let release = match catalog.release(&profile.release.value) {
        Ok(release) => release,
        Err((message, help)) => {
            let at = profile.release.span(profile.source);
            findings.push(Diagnostic::new(Code::BadRelease, message).at(at, "").help(help));
            return None;
        }
    };
    if release.newer {
        findings.push(
            Diagnostic::new(
                Code::NewRelease,
                format!(
                    "release {} is newer than the newest the catalog knows of its line, {}",
                    release.release, release.line.last.0
                ),
            )
            .at(profile.release.span(profile.source), "")
            .help("its callouts are taken to be those of the newest known; look for a newer catalog"),
        );
    }
    let mut builder = Builder {
        catalog,
        profile,
        findings,
        features: BTreeSet::new(),
        servers: BTreeMap::new(),
        left_out: BTreeSet::new(),
        excepted: BTreeMap::new(),
        clients: clients(profile),
        terms: Terms::default().with(&profile.answers).into(),
        own_terms: own_terms().with(&profile.answers).into(),
        extra: None,
        doubled: Vec::new(),
        decisions: Vec::new(),
        uncovered: BTreeSet::new(),
        blocked: BTreeMap::new(),
    };
    builder.names();
    let mut coarse = BTreeSet::new();
    let mut idle = builder.features.clone();
    // In the order of their ids, of which nearly all decisions are the key: then the sort has nothing to move.
    let mut extras = by_id(&profile.extra).into_iter().peekable();
    builder.decisions.reserve(profile.extra.len());
    for (callout, overlap) in catalog.of_release(&release) {
        while let Some(extra) = extras.next_if(|extra| extra.id < callout.id) {
            builder.extra(extra);
        }
        if let Some(feature) = &callout.feature {
            idle.remove(feature);
        }
        if builder.catalog_entry(callout) && overlap == Overlap::Part {
            coarse.insert(callout.id.as_str());
        }
    }
    extras.for_each(|extra| builder.extra(extra));
    for feature in idle {
        builder.findings.push(
            Diagnostic::new(
                Code::IdleFeature,
                format!("release {} makes no calls for feature `{feature}`", release.release),
            )
            .help("take it out of `features`, or look whether the release is right"),
        );
    }
    builder.doubled.sort_by_key(|(place, _)| *place);
    std::mem::take(&mut builder.doubled).into_iter().for_each(|(_, doubled)| builder.findings.push(doubled));
    let excepted = builder.exceptions();
    builder.warn_uncovered();
    builder.note_idle_terms();
    if !coarse.is_empty() {
        let list = coarse.into_iter().collect::<Vec<_>>().join(", ");
        builder.findings.push(
            Diagnostic::new(
                Code::CoarseRelease,
                format!(
                    "hosts moved within release {}: {list} hold for some of its point releases only",
                    release.release
                ),
            )
            .at(profile.release.span(profile.source), "all of them are allowed")
            .help("name the point release to allow only its own, such as `25.10.2`"),
        );
    }
    let Builder { mut decisions, clients, uncovered, blocked, .. } = builder;
    decisions.sort_by(|a, b| (a.action, &a.key).cmp(&(b.action, &b.key)));
    for decision in decisions.iter().filter(|d| RESERVED.contains(&d.key.as_str())) {
        findings.push(
            Diagnostic::new(Code::DuplicateId, format!("`{}` is the name of a rule every target has", decision.key))
                .at(decision.callout.span.clone(), "")
                .help("give this entry another id"),
        );
    }
    for decision in twice(&decisions) {
        findings.push(
            Diagnostic::new(Code::DuplicateId, format!("two rules would be named `{}`", decision.key))
                .at(decision.callout.span.clone(), "")
                .help("give this entry another id"),
        );
    }
    if !decisions.iter().any(|d| d.action == Action::Allow) {
        findings.push(
            Diagnostic::new(Code::NothingAllowed, "this profile allows nothing at all")
                .at(profile.release.span(profile.source), "")
                .help("name the features in use under `features`"),
        );
    }
    let ranges = ranges(catalog, profile, &decisions, findings);
    check_shared(profile, &decisions, findings);
    let senders = clients.iter().map(|(origin, client)| (*origin, client.prefixes.as_slice())).collect();
    assertion::fit(&profile.tests, &senders, &profile.settings, findings);
    let family = catalog.families.get(&release.line.family).map_or("", Text::as_str);
    let whole = if release.release == release.line.release { ", every point release" } else { "" };
    let codename = release.line.codename.as_ref().map(|c| format!(" {c}")).unwrap_or_default();
    let good = !findings.errors_since(mark);
    good.then(|| Policy {
        site: profile.site.clone(),
        release: format!("{}{codename}{whole}, {family}", release.release),
        clients,
        decisions,
        uncovered,
        blocked,
        excepted,
        shared: profile.strict.shared.clone(),
        ranges,
        ipv6: profile.ipv6,
        settings: profile.settings.clone(),
    })
}

/// Callouts by their ids, and those of one id as they stand.
fn by_id(callouts: &[Arc<Callout>]) -> Vec<&Arc<Callout>> {
    let mut callouts: Vec<&Arc<Callout>> = callouts.iter().collect();
    callouts.sort_by_cached_key(|callout| callout.id.clone());
    callouts
}

/// The decisions, sorted as they are, whose key one before them has: the one right before, or of an allow a denial.
fn twice(decisions: &[Decision]) -> impl Iterator<Item = &Decision> {
    let denials = &decisions[..decisions.partition_point(|d| d.action == Action::Deny)];
    let denied = |key: &Id| denials.binary_search_by(|d| d.key.cmp(key)).is_ok();
    let before = [None].into_iter().chain(decisions.iter().map(Some));
    let pairs = before.zip(decisions).filter(move |(before, decision)| {
        before.is_some_and(|before| before.key == decision.key)
            || decision.action == Action::Allow && denied(&decision.key)
    });
    pairs.map(|(_, decision)| decision)
}

/// The site's lists of prefixes, each for names that its rules allow.
///
/// A list is never taken for a denial: it would block whatever else the vendor has there. So one that is for blocked
/// names alone is a mistake.
fn ranges(
    catalog: &Catalog,
    profile: &Profile,
    decisions: &[Decision],
    findings: &mut Findings,
) -> BTreeMap<Id, Range> {
    // Most sites have none, and some have a hundred thousand endpoints.
    if profile.ranges.is_empty() {
        return BTreeMap::new();
    }
    let names_of = |action: Action| -> BTreeSet<&NamePattern> {
        let endpoints = decisions.iter().filter(|d| d.action == action).flat_map(|d| d.endpoints.iter());
        endpoints.filter_map(|e| if let Endpoint::Name(name) = e { Some(name) } else { None }).collect()
    };
    let (allowed, denied) = (names_of(Action::Allow), names_of(Action::Deny));
    let known: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let terms = Terms::default().with(&profile.answers);
    let mut ranges = BTreeMap::new();
    for (id, range) in &profile.ranges {
        let mut names = BTreeSet::new();
        for (name, span) in &range.names {
            if allowed.contains(name) {
                names.insert(name.clone());
            } else if denied.contains(name) {
                findings.push(
                    Diagnostic::new(Code::BadRange, format!("`{name}` is blocked, and a list is for what is allowed"))
                        .at(span.clone(), "")
                        .help("a list would block all else the vendor has there: take the name out"),
                );
            } else {
                findings.push(
                    Diagnostic::new(Code::UnknownName, format!("no rule of this site allows `{name}`"))
                        .at(span.clone(), "")
                        .help(suggest(&name.to_string(), &known)),
                );
            }
        }
        let source = match &range.list {
            List::Here(source) => Some(source.clone()),
            List::Provider(word) => published(catalog, &word.value, &word.span(profile.source), findings),
        };
        if let Some(source) = source {
            ranges.insert(id.clone(), Range { source, names, terms: terms.clone(), span: range.span.clone() });
        }
    }
    ranges
}

/// What the site decided on must be there to be decided on, and must be possible.
fn check_shared(profile: &Profile, decisions: &[Decision], findings: &mut Findings) {
    let of = |action: Action, endpoint: &Endpoint| -> Vec<&Decision> {
        decisions.iter().filter(|d| d.action == action && d.endpoints.contains(endpoint)).collect()
    };
    for (endpoint, shared) in &profile.strict.shared {
        let mut fail = |code, message: String, help: &str| {
            findings.push(Diagnostic::new(code, message).at(shared.span.clone(), "").help(help));
        };
        let allows = of(Action::Allow, endpoint);
        if allows.is_empty() && of(Action::Deny, endpoint).is_empty() {
            let help = "name a host that a rule allows, as its entry has it, or take this out";
            fail(Code::UnknownName, format!("no rule of this site allows `{endpoint}`"), help);
        } else if allows.is_empty() {
            let help = "name the allowed host that shares its address";
            fail(Code::BadSetting, format!("`{endpoint}` is blocked, so there is nothing to decide"), help);
        }
        match &shared.choice {
            Choice::Proxy => {
                if profile.settings.squid.is_none() {
                    let help = "add `squid:` under `targets`, or say `accept` or `drop`";
                    fail(Code::BadSetting, format!("`{endpoint}` goes to the proxy, and this site has none"), help);
                }
                let carried = |port: &Port| [80, 443].iter().any(|&n| port.contains(Protocol::Tcp, n));
                for allow in allows.iter().filter(|allow| !allow.ports.iter().any(carried)) {
                    let message =
                        format!("`{endpoint}` ({}) goes to the proxy, which carries none of its ports", allow.key);
                    fail(Code::BadSetting, message, "say `accept` or `drop`");
                }
            }
            Choice::Accept(with) => {
                for blocked in with.iter().filter(|blocked| of(Action::Deny, blocked).is_empty()) {
                    let message = format!("nothing blocks `{blocked}`, so `{endpoint}` shares nothing with it");
                    let help = "take it out of `with`, or look whether the level is right";
                    fail(Code::IdleStrict, message, help);
                }
            }
            Choice::Drop => {}
        }
    }
}

/// The list that the catalog has with a provider.
fn published(catalog: &Catalog, word: &str, at: &Span, findings: &mut Findings) -> Option<Source> {
    let with_list = catalog.providers.iter().filter_map(|(id, p)| Some((id, p.ranges.as_ref()?)));
    let with_list: BTreeMap<&str, &Source> = with_list.map(|(id, source)| (id.as_str(), source)).collect();
    let found = with_list.get(word).map(|&source| source.clone());
    if found.is_none() {
        let known: Vec<&str> = with_list.into_keys().collect();
        let message = format!("the catalog has no list of prefixes of a provider `{}`", quoted(word));
        findings.push(Diagnostic::new(Code::UnknownName, message).at(at.clone(), "").help(suggest(word, &known)));
    }
    found
}

fn clients(profile: &Profile) -> BTreeMap<Origin, Client> {
    let mut clients: BTreeMap<Origin, Client> = profile
        .clients
        .iter()
        .map(|(&origin, c)| {
            let default_deny = origin != Origin::Browser;
            (origin, Client { prefixes: c.prefixes.clone(), default_deny, span: c.span.clone() })
        })
        .collect();
    // Containers leave through the appliance's own address unless they are given one of their own.
    if !clients.contains_key(&Origin::App)
        && let Some(nas) = clients.get(&Origin::Nas).cloned()
    {
        clients.insert(Origin::App, nas);
    }
    clients
}

struct Builder<'a> {
    catalog: &'a Catalog,
    profile: &'a Profile,
    findings: &'a mut Findings,
    features: BTreeSet<Id>,
    servers: BTreeMap<Id, &'a [Server]>,
    left_out: BTreeSet<Id>,
    /// Each with its place.
    excepted: BTreeMap<Id, (Text, Span)>,
    clients: BTreeMap<Origin, Client>,
    /// The terms of whoever has no wishes, and of the site's own hosts. Nearly all have one of the two, and share it.
    terms: Arc<Terms>,
    own_terms: Arc<Terms>,
    /// The last of the site's own that was taken. They come by their ids, so one of the same id comes right behind it.
    extra: Option<&'a Callout>,
    /// What is wrong with the ids of the site's own, with their places in the file.
    doubled: Vec<(usize, Diagnostic)>,
    decisions: Vec<Decision>,
    uncovered: BTreeSet<(Origin, Id)>,
    blocked: BTreeMap<Id, (Arc<Callout>, Short)>,
}

impl<'a> Builder<'a> {
    /// Turns the profile's words into the catalog's ids.
    fn names(&mut self) {
        let profile = self.profile;
        let features: Vec<&Id> = self.catalog.features.keys().collect();
        for word in &profile.features {
            if let Some(id) = self.known("feature", &features, &word.value, &word.span(profile.source)) {
                self.features.insert(id);
            }
        }
        let slots: Vec<&Id> = self.catalog.slots().into_iter().collect();
        for (word, servers) in &profile.servers {
            if let Some(id) = self.known("kind of server", &slots, &word.value, &word.span(profile.source)) {
                self.servers.insert(id, servers);
            }
        }
        let entries: Vec<&Id> = self.catalog.callouts.keys().collect();
        for (word, _) in &profile.left_out {
            if let Some(id) = self.known("entry", &entries, &word.value, &word.span(profile.source)) {
                self.left_out.insert(id);
            }
        }
        let entries: Vec<&Id> = entries.into_iter().chain(profile.extra.iter().map(|callout| &callout.id)).collect();
        for (word, reason) in &profile.strict.except {
            let span = word.span(profile.source);
            if let Some(id) = self.known("entry", &entries, &word.value, &span) {
                self.excepted.insert(id, (reason.clone(), span));
            }
        }
    }

    fn known(&mut self, what: &str, known: &[&Id], word: &str, at: &Span) -> Option<Id> {
        let found = known.iter().find(|id| id.as_str() == word).map(|&id| id.clone());
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|id| id.as_str()).collect();
            self.findings.push(
                Diagnostic::new(Code::UnknownName, format!("the catalog has no {what} `{}`", quoted(word)))
                    .at(at.clone(), "")
                    .help(suggest(word, &names)),
            );
        }
        found
    }

    /// Takes an entry of the release into the policy, if the site makes that call or blocks it. Says whether it did.
    fn catalog_entry(&mut self, callout: &Arc<Callout>) -> bool {
        let blocked = self.blocked(callout);
        let servers = callout.slot.as_ref().and_then(|slot| self.servers.get(slot).copied());
        let in_use = callout.feature.as_ref().is_none_or(|f| self.features.contains(f)) || servers.is_some();
        if self.left_out.contains(&callout.id) || !(blocked.is_some() || in_use) {
            return false;
        }
        let (action, reason) = match (blocked, &callout.feature) {
            (Some(why), _) => (Action::Deny, why),
            (None, Some(feature)) => (Action::Allow, self.allowed(callout, format!("feature {feature}").into())),
            (None, None) => (Action::Allow, self.allowed(callout, Short::new_static("base system"))),
        };
        match servers {
            Some(servers) => self.site_servers(callout, action, &reason, servers),
            None if callout.endpoints.is_empty() => {
                self.unfilled(callout);
                false
            }
            None => {
                let (endpoints, ports) = (callout.endpoints.clone(), callout.ports.clone());
                self.push(callout, action, reason, endpoints, ports, false, None)
            }
        }
    }

    /// Why strict mode blocks a callout; `None` where it does not, or where the site excepts it.
    fn blocked(&self, callout: &Callout) -> Option<Short> {
        let blocked = self.profile.strict.blocks(callout).filter(|_| !self.excepted.contains_key(&callout.id));
        blocked.map(Short::from)
    }

    /// Why it is allowed, with the exception that it owes that to.
    fn allowed(&self, callout: &Callout, why: Short) -> Short {
        match self.excepted.get(&callout.id) {
            Some((reason, _)) if self.profile.strict.blocks(callout).is_some() => {
                format!("{why}; excepted from strict: {reason}").into()
            }
            _ => why,
        }
    }

    /// The exceptions that except something; the others are words left over.
    fn exceptions(&mut self) -> BTreeMap<Id, Text> {
        let mut excepted = BTreeMap::new();
        if self.excepted.is_empty() {
            return excepted;
        }
        let extras = self.profile.extra.iter().map(|callout| (&callout.id, callout));
        let callouts: BTreeMap<&Id, &Arc<Callout>> = self.catalog.callouts.iter().chain(extras).collect();
        for (id, (reason, span)) in &self.excepted {
            if callouts.get(id).is_some_and(|callout| self.profile.strict.blocks(callout).is_some()) {
                excepted.insert(id.clone(), reason.clone());
            } else {
                let message = format!("strict mode does not block `{id}`, so there is nothing to except");
                let diagnostic = Diagnostic::new(Code::IdleStrict, message).at(span.clone(), "");
                self.findings.push(diagnostic.help("take it out, or look whether the level is right"));
            }
        }
        excepted
    }

    fn extra(&mut self, callout: &'a Arc<Callout>) {
        let place = callout.span.range.start;
        if let Some(first) = self.catalog.callouts.get(&callout.id) {
            self.doubled.push((
                place,
                Diagnostic::new(Code::DuplicateId, format!("the catalog has an entry `{}` already", callout.id))
                    .at(callout.span.clone(), "this one")
                    .at(first.span.clone(), "the catalog's"),
            ));
            return;
        }
        if let Some(first) = self.extra.filter(|first| first.id == callout.id) {
            self.doubled.push((
                place,
                Diagnostic::new(Code::DuplicateId, format!("the entry `{}` is there twice", callout.id))
                    .at(callout.span.clone(), "the second")
                    .at(first.span.clone(), "the first"),
            ));
            return;
        }
        self.extra = Some(callout);
        let (action, reason) = match self.blocked(callout) {
            Some(why) => (Action::Deny, why),
            None => (Action::Allow, self.allowed(callout, Short::new_static("extra of this site"))),
        };
        self.push(callout, action, reason, callout.endpoints.clone(), callout.ports.clone(), true, None);
    }

    fn site_servers(&mut self, callout: &Arc<Callout>, action: Action, reason: &str, servers: &[Server]) -> bool {
        let mut by_ports: BTreeMap<Vec<Port>, Vec<Endpoint>> = BTreeMap::new();
        for server in servers {
            let ports = server.ports.clone().unwrap_or_else(|| callout.ports.to_vec());
            by_ports.entry(ports).or_default().push(server.endpoint.clone());
        }
        let several = by_ports.len() > 1;
        let mut taken = false;
        for (i, (ports, endpoints)) in by_ports.into_iter().enumerate() {
            let number = several.then_some(i + 1);
            taken |= self.push(
                callout,
                action,
                format!("{reason}, servers of this site").into(),
                endpoints.into_iter().collect(),
                ports.into(),
                true,
                number,
            );
        }
        taken
    }

    /// A callout whose servers only the site can name, and it does not.
    fn unfilled(&mut self, callout: &Callout) {
        let slot = callout.slot.as_ref().map_or("", Id::as_str);
        match &callout.feature {
            Some(feature) => {
                let word = self.profile.features.iter().find(|word| word.value == feature.as_str());
                let mut diagnostic = Diagnostic::new(Code::MissingServers, format!("feature `{feature}` is in use, but its servers are not named"))
                    .help(format!("name them:\n  servers:\n    {slot}:\n      - host: {slot}.example.org"));
                if let Some(word) = word {
                    diagnostic = diagnostic.at(word.span(self.profile.source), "");
                }
                self.findings.push(diagnostic);
            }
            None => self.findings.push(
                Diagnostic::new(Code::NoDns, format!("no `{slot}` servers are named: {}", callout.title))
                    .help(format!("name them under `servers: {slot}:` unless clients and servers are on one segment, so that their packets never pass the filter")),
            ),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one value, gathered here alone")]
    fn push(
        &mut self,
        callout: &Arc<Callout>,
        action: Action,
        reason: Short,
        endpoints: Endpoints,
        ports: Arc<[Port]>,
        own: bool,
        number: Option<usize>,
    ) -> bool {
        let covered: Origins = callout.origins.iter().filter(|origin| self.clients.contains_key(origin)).collect();
        for origin in callout.origins.iter().filter(|&origin| !covered.contains(origin)) {
            // Nothing limits the administrator's machine, so what may leave it needs no rule. And one origin of
            // several may not be at this site at all; a denial must say so all the same.
            let wanted = origin != Origin::Browser && covered.is_empty();
            if wanted || action == Action::Deny {
                self.uncovered.insert((origin, callout.id.clone()));
            }
        }
        if action == Action::Deny {
            self.blocked.insert(callout.id.clone(), (Arc::clone(callout), reason.clone()));
        }
        if covered.is_empty() {
            return false;
        }
        let key = match number {
            Some(number) => Id::parse(&format!("{}-{number}", cut(callout.id.as_str(), ID_MAX - 4)))
                .unwrap_or_else(|_| callout.id.clone()),
            None => callout.id.clone(),
        };
        // What is blocked is blocked on every port: a browser that is refused TCP tries UDP.
        let ports = match action {
            Action::Deny => Protocol::ALL.map(Port::every).into(),
            Action::Allow => ports,
        };
        let terms = match (callout.answers == Wishes::default(), own) {
            (true, true) => Arc::clone(&self.own_terms),
            (true, false) => Arc::clone(&self.terms),
            (false, true) => own_terms().with(&callout.answers).with(&self.profile.answers).into(),
            (false, false) => Terms::default().with(&callout.answers).with(&self.profile.answers).into(),
        };
        let mut terms_of = BTreeMap::new();
        // Most sites have no such terms, and some have a hundred thousand endpoints.
        if !self.profile.answers_of.is_empty() {
            terms_of.extend(endpoints.iter().filter_map(Endpoint::query).filter_map(|query| {
                let (wishes, _) = self.profile.answers_of.get(&query)?;
                Some((query, Terms::clone(&terms).with(wishes).into()))
            }));
        }
        self.decisions.push(Decision {
            key,
            action,
            reason,
            callout: Arc::clone(callout),
            origins: covered,
            endpoints,
            ports,
            terms,
            terms_of,
        });
        true
    }

    /// Terms for a name that nothing asks for are a word misspelt, or left over.
    fn note_idle_terms(&mut self) {
        for (query, (_, span)) in &self.profile.answers_of {
            if !self.decisions.iter().any(|decision| decision.terms_of.contains_key(query)) {
                self.findings.push(
                    Diagnostic::new(Code::IdleTerms, format!("no rule of this site asks for `{query}`"))
                        .at(span.clone(), "")
                        .help("take it out, or look whether the name is spelt as in the catalog"),
                );
            }
        }
    }

    fn warn_uncovered(&mut self) {
        let mut by_origin: BTreeMap<Origin, Vec<&str>> = BTreeMap::new();
        for (origin, id) in &self.uncovered {
            by_origin.entry(*origin).or_default().push(id.as_str());
        }
        for (origin, ids) in by_origin {
            let (who, key) = match origin {
                Origin::Browser => ("the administrator's browser", "admin"),
                Origin::Jail => ("jails", "jails"),
                Origin::App => ("apps", "apps"),
                Origin::Nas => ("the appliance", "nas"),
            };
            self.findings.push(
                Diagnostic::new(Code::NoClients, format!("traffic of {who} is not covered: {}", ids.join(", ")))
                    .help(format!("no clients of that kind are named: add `{key}` under `clients`")),
            );
        }
    }
}

/// A site's own hosts may have private addresses and lie among its clients: it knows its own network.
fn own_terms() -> Terms {
    Terms { own_network: true, special: [SpecialUse::Private].into(), ..Terms::default() }
}

/// Names of rules that targets add by themselves.
const RESERVED: [&str; 5] = ["denied", "denied-ipv6", "dhcp-lease", "icmp6", "limited"];

/// The first `max` characters of an id, without a hyphen at the end.
fn cut(id: &str, max: usize) -> &str {
    id[..id.len().min(max)].trim_end_matches('-')
}

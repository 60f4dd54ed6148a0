//! The profile: one site's YAML → [`Profile`], checked as far as that goes without the catalog.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::addrs::{SpecialUse, parse_prefix};
use crate::assertion::{self, RawTest, Test};
use crate::callout::{self, Callout, Endpoint, Known, OneOrMany, Origin, RawCallout};
use crate::diagnostic::{Code, Diagnostic, Findings, suggest};
use crate::host::{NamePattern, Query};
use crate::port::Port;
use crate::ranges::{Place, Source};
use crate::release::Release;
use crate::resolve::Failure;
use crate::settings::{self, Ipv6, Losses, RawSettings, Settings};
use crate::source::{SourceId, Sources, Span};
use crate::strict::{self, Level, RawException, RawShared, Strict};
use crate::terms::{KEEP_DAYS, KEEP_DAYS_MOST, MAX_AGE, MAX_AGE_MOST, MOST, MOST_MOST, Reaction, Wishes};
use crate::text::{Id, Text, quoted};
use crate::yaml::{self, Spanned};

/// What one site says of itself.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its name, for comments.
    pub site: Text,
    /// The release its system runs, as written.
    pub release: Spanned<String>,
    /// Its clients, by who opens the connection. An origin that is not in the map has no clients.
    pub clients: BTreeMap<Origin, Clients>,
    /// Features in use, as written.
    pub features: Vec<Spanned<String>>,
    /// Its own servers, by kind as written.
    pub servers: Vec<(Spanned<String>, Vec<Server>)>,
    /// What strict mode blocks, excepts and decides.
    pub strict: Strict,
    /// Entries of the catalog that are left out, as written, each with its reason.
    pub left_out: Vec<(Spanned<String>, Text)>,
    /// Callouts of its own.
    pub extra: Vec<Arc<Callout>>,
    /// What it asserts of its own rules.
    pub tests: Vec<Test>,
    /// On what terms answers are believed.
    pub answers: Wishes,
    /// The same for single names, with the place where each is written.
    pub answers_of: BTreeMap<Query, (Wishes, Span)>,
    /// Vendors' lists of prefixes that stand beside the DNS answers of some names.
    pub ranges: BTreeMap<Id, Range>,
    /// What is done about IPv6 where clients have none.
    pub ipv6: Ipv6,
    /// Its targets.
    pub settings: Settings,
    /// The file.
    pub source: SourceId,
}

/// The clients of one origin.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Addresses and prefixes, both families, at least one.
    pub prefixes: Vec<IpNet>,
    /// Where they are written.
    pub span: Span,
}

/// A server of the site's own.
#[derive(Clone, Debug)]
pub struct Server {
    /// A name or an address. Never a wildcard.
    pub endpoint: Endpoint,
    /// Its ports, where they are not all those of the catalog's entry.
    pub ports: Option<Vec<Port>>,
    /// Where it is written.
    pub span: Span,
}

/// A vendor's list of prefixes, and the names that are behind them.
#[derive(Clone, Debug)]
pub struct Range {
    /// The names, each with its place; at least one.
    pub names: Vec<(NamePattern, Span)>,
    /// The list.
    pub list: List,
    /// Where it is written.
    pub span: Span,
}

/// Where a list is said to be.
#[derive(Clone, Debug)]
pub enum List {
    /// In the profile itself.
    Here(Source),
    /// In the catalog, with this provider, as written.
    Provider(Spanned<String>),
}

/// Kinds of address that answers may be allowed to hold.
pub(crate) const ALLOWABLE: [SpecialUse; 2] = [SpecialUse::Documentation, SpecialUse::Private];

/// A way a lookup fails, as the profile spells it.
pub(crate) enum FailureKey {}

/// What one site is and wants.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RawProfile<'a> {
    /// The site's name, for the head of each file.
    site: Option<Spanned<String>>,
    /// The TrueNAS release the system runs: `"24.10"`, `"25.10.2"`, `"13.3-U1.2"` or a codename such as `goldeye`.
    #[schemars(with = "Release")]
    release: Spanned<String>,
    /// Who opens the connections. What is not allowed to a client is denied, except for `admin`.
    clients: RawClients,
    /// The features in use, such as `[updates, apps]`; `outgate catalog list` shows what each leads to.
    #[schemars(with = "Vec<Id>")]
    features: Spanned<Vec<Spanned<String>>>,
    /// The site's own servers, by kind: `dns`, `ntp`, `mail`, `syslog`. They take the place of the catalog's.
    #[serde(default)]
    #[schemars(with = "BTreeMap<Id, Vec<RawServer>>")]
    servers: Entries<Vec<RawServer>>,
    /// What is blocked, before every allow: classes of callouts, or `advised`. Levels add up.
    #[serde(default)]
    #[schemars(with = "Vec<Level>")]
    strict: Vec<Spanned<String>>,
    /// Entries that `strict` does not block, each with its reason.
    #[serde(default)]
    strict_except: Vec<RawException>,
    /// What becomes of allowed hosts that share an address with a blocked name, each with a reason.
    #[serde(default)]
    shared: Vec<RawShared>,
    /// Entries of the catalog that get no rule, each with its reason.
    #[serde(default)]
    leave_out: Vec<RawLeftOut>,
    /// Callouts of the site's own. They are always in use.
    #[serde(borrow, default)]
    extra: Vec<RawCallout<'a>>,
    /// What must get through and what must not: `outgate test` holds the rules to it.
    #[serde(default)]
    tests: Vec<RawTest>,
    /// On what terms DNS answers are believed.
    #[serde(default)]
    answers: RawAnswers,
    /// Vendors' lists of prefixes, by a name of your own. Rules by address let out every prefix of a list for its hosts,
    /// beside what DNS answers.
    #[serde(default)]
    #[schemars(with = "BTreeMap<Id, RawRange>")]
    ranges: Entries<RawRange>,
    /// `clients`: every client is named in both address families. `deny-interface`: all their IPv6 is denied.
    #[schemars(with = "Option<Ipv6>")]
    ipv6: Option<Spanned<String>>,
    /// What becomes of a run in which a target cannot express a part of this: `report` (it is said, and written beside
    /// the files) or `refuse` (an error).
    #[schemars(with = "Option<Losses>", extend("default" = "report"))]
    losses: Option<Spanned<String>>,
    /// Where the rules go. A target is on when its key is there.
    #[serde(default)]
    targets: RawSettings,
}

/// The clients, by who opens the connection: addresses, or networks without host bits.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawClients {
    /// The system itself, such as `[192.0.2.10, "2001:db8::10"]`.
    #[schemars(length(min = 1))]
    nas: Spanned<Vec<Spanned<String>>>,
    /// The machines whose browser shows the web interface. Packet filters give them denials only.
    #[schemars(length(min = 1))]
    admin: Option<Spanned<Vec<Spanned<String>>>>,
    /// Jails and plugins of CORE with addresses of their own, such as `[192.0.2.64/28]`.
    #[schemars(length(min = 1))]
    jails: Option<Spanned<Vec<Spanned<String>>>>,
    /// Apps and containers with addresses of their own. Without this key they leave with the system's.
    #[schemars(length(min = 1))]
    apps: Option<Spanned<Vec<Spanned<String>>>>,
}

/// A server of the site's own.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawServer {
    /// Its name or address, such as `mail.example.org` or `192.0.2.53`. No wildcard.
    host: Spanned<String>,
    /// Its ports, such as `[587/tcp]`, where they are not those of the catalog's entry.
    #[schemars(with = "Option<Vec<Port>>", length(min = 1))]
    ports: Option<Spanned<Vec<Spanned<String>>>>,
}

/// An entry of the catalog that gets no rule, neither an allow nor a strict denial.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawLeftOut {
    /// Its id, such as `quay`.
    #[schemars(with = "Id")]
    callout: Spanned<String>,
    /// Why, on one line, for the next reader.
    reason: Spanned<String>,
}

/// A vendor's list of prefixes. One of `file`, `url` and `provider` says where it is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawRange {
    /// The hosts and wildcards whose traffic may go to every prefix of the list, as rules of this site have them.
    #[schemars(length(min = 1))]
    r#for: Vec<Spanned<String>>,
    /// A file, by its path from this one, such as `ranges/aws.json`.
    file: Option<Spanned<String>>,
    /// Where the vendor publishes it, such as `https://api.github.com/meta`.
    #[schemars(regex(pattern = "^https://"))]
    url: Option<Spanned<String>>,
    /// A provider of the catalog that has one, such as `github`.
    #[schemars(with = "Option<Id>")]
    provider: Option<Spanned<String>>,
    /// What is taken from its JSON: a JSONPath (RFC 9535) such as `$.prefixes[*].ip_prefix`, or several. Without it the
    /// list has a prefix a line.
    path: Option<Spanned<OneOrMany>>,
}

/// On what terms DNS answers are believed.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawAnswers {
    /// Kinds of address that answers may hold though no public name can have them.
    #[schemars(with = "Vec<SpecialUse>")]
    allow: Vec<Spanned<String>>,
    /// Days an address stays in the lock after it was last answered.
    #[schemars(range(min = 0, max = KEEP_DAYS_MOST), extend("default" = KEEP_DAYS))]
    keep_days: Option<Spanned<i64>>,
    /// Days the newest good answer may be old. `generate` warns from half of it on, and refuses beyond it.
    #[schemars(range(min = 1, max = MAX_AGE_MOST), extend("default" = MAX_AGE))]
    max_age: Option<Spanned<i64>>,
    /// Most addresses a run may find for one name. With more it believes none of them.
    #[schemars(range(min = 1, max = MOST_MOST), extend("default" = MOST))]
    most: Option<Spanned<i64>>,
    /// What becomes of the addresses a name had when its lookup fails, by failure; `keep` where nothing is said.
    #[schemars(with = "BTreeMap<FailureKey, Reaction>")]
    on_failure: Entries<Spanned<String>>,
    /// Other terms for single names.
    #[schemars(with = "BTreeMap<String, RawHostAnswers>")]
    hosts: Entries<RawHostAnswers>,
}

/// On what terms the answers for one name are believed, where they are not those of all.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawHostAnswers {
    /// Kinds of address that answers may hold though no public name can have them.
    #[schemars(with = "Vec<SpecialUse>")]
    allow: Vec<Spanned<String>>,
    /// Days an address stays in the lock after it was last answered.
    #[schemars(range(min = 0, max = KEEP_DAYS_MOST), extend("default" = KEEP_DAYS))]
    keep_days: Option<Spanned<i64>>,
    /// Days the newest good answer may be old. `generate` warns from half of it on, and refuses beyond it.
    #[schemars(range(min = 1, max = MAX_AGE_MOST), extend("default" = MAX_AGE))]
    max_age: Option<Spanned<i64>>,
    /// Most addresses a run may find for one name. With more it believes none of them.
    #[schemars(range(min = 1, max = MOST_MOST), extend("default" = MOST))]
    most: Option<Spanned<i64>>,
    /// What becomes of the addresses a name had when its lookup fails, by failure; `keep` where nothing is said.
    #[schemars(with = "BTreeMap<FailureKey, Reaction>")]
    on_failure: Entries<Spanned<String>>,
}

/// A mapping whose keys are the user's words, in the order written, each with its place.
struct Entries<V>(Vec<(Spanned<String>, V)>);

impl<V> Default for Entries<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Pairs<V> {
            type Value = Entries<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Entries(pairs))
            }
        }
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

/// Reads and checks a profile. Every fault becomes a finding; with one error there is no profile.
pub fn read(sources: &Sources, id: SourceId, known: &Known<'_>, findings: &mut Findings) -> Option<Profile> {
    let mark = findings.mark();
    let raw: RawProfile<'_> = yaml::read(sources, id).map_err(|d| findings.push(d)).ok()?;
    let mut check = Check { source: id, findings };
    let site = match &raw.site {
        Some(site) => check.text(site),
        None => Text::parse("unnamed site").ok(),
    };
    let mut clients = BTreeMap::new();
    for (origin, list) in [
        (Origin::Nas, Some(&raw.clients.nas)),
        (Origin::Browser, raw.clients.admin.as_ref()),
        (Origin::Jail, raw.clients.jails.as_ref()),
        (Origin::App, raw.clients.apps.as_ref()),
    ] {
        if let Some(list) = list {
            clients.insert(origin, check.clients(list));
        }
    }
    let servers = raw.servers.0.iter().map(|(kind, list)| (kind.clone(), check.servers(kind, list))).collect();
    let strict = strict::check(&raw.strict, &raw.strict_except, &raw.shared, id, check.findings);
    let left_out =
        raw.leave_out.iter().filter_map(|raw| Some((raw.callout.clone(), check.text(&raw.reason)?))).collect();
    let answers = {
        let RawAnswers { allow, keep_days, max_age, most, on_failure, .. } = &raw.answers;
        check.wishes(allow, [keep_days, max_age, most], on_failure)
    };
    let answers_of = check.answers_of(&raw.answers.hosts);
    let ranges = raw.ranges.0.iter().filter_map(|(name, raw)| check.range(name, raw)).collect();
    let ipv6 = check.ipv6(raw.ipv6.as_ref());
    let losses = settings::losses(&raw.losses, id, check.findings);
    let settings = Settings { losses, ..raw.targets.check(id, check.findings) };
    let tests = assertion::check(&raw.tests, id, check.findings);
    let mut extra = Vec::with_capacity(raw.extra.len());
    // Each goes as soon as it was checked: all of them together are as large as what is kept.
    for raw in raw.extra {
        extra.extend(callout::check(&raw, known, id, findings).map(Arc::new));
    }
    let good = !findings.errors_since(mark);
    good.then_some(Profile {
        site: site?,
        release: raw.release,
        clients,
        features: raw.features.value,
        servers,
        strict,
        left_out,
        extra,
        tests,
        answers,
        answers_of,
        ranges,
        ipv6,
        settings,
        source: id,
    })
}

struct Check<'a> {
    source: SourceId,
    findings: &'a mut Findings,
}

impl Check<'_> {
    fn text(&mut self, text: &Spanned<String>) -> Option<Text> {
        Text::parse(&text.value)
            .map_err(|e| {
                let message = format!("`{}` {e}", quoted(&text.value));
                self.findings.push(Diagnostic::new(Code::BadText, message).at(text.span(self.source), ""));
            })
            .ok()
    }

    fn clients(&mut self, list: &Spanned<Vec<Spanned<String>>>) -> Clients {
        if list.value.is_empty() {
            self.findings.push(
                Diagnostic::new(Code::Empty, "no clients are named")
                    .at(list.span(self.source), "")
                    .help("an empty list would match nobody, never everybody: name addresses, or leave the key out"),
            );
        }
        let mut prefixes: Vec<IpNet> = Vec::new();
        for item in &list.value {
            match parse_prefix(&item.value) {
                Ok(net) => prefixes.push(net),
                Err(e) => {
                    let message = format!("`{}` {e}", quoted(&item.value));
                    self.findings.push(Diagnostic::new(Code::BadPrefix, message).at(item.span(self.source), ""));
                }
            }
        }
        prefixes.sort_unstable();
        let first = list.value.first().map_or(list.range.clone(), |item| item.range.clone());
        let last = list.value.last().map_or(list.range.clone(), |item| item.range.clone());
        Clients { prefixes, span: Span { source: self.source, range: first.start..last.end } }
    }

    fn servers(&mut self, kind: &Spanned<String>, list: &[RawServer]) -> Vec<Server> {
        if list.is_empty() {
            self.findings.push(
                Diagnostic::new(Code::Empty, format!("no `{}` servers are named", quoted(&kind.value)))
                    .at(kind.span(self.source), "")
                    .help("name one, or leave the key out"),
            );
        }
        let mut servers = Vec::new();
        for raw in list {
            let span = raw.host.span(self.source);
            let ports = raw.ports.as_ref().map(|ports| callout::check_ports(ports, self.source, self.findings));
            match Endpoint::parse(&raw.host.value) {
                Ok(Endpoint::Name(NamePattern::Below(_)) | Endpoint::Service(_)) => self.findings.push(
                    Diagnostic::new(Code::BadHost, format!("`{}` is no single server", quoted(&raw.host.value)))
                        .at(span, "")
                        .help("name a host or an address"),
                ),
                Ok(endpoint) => servers.push(Server { endpoint, ports: ports.flatten(), span }),
                Err((code, message)) => self.findings.push(Diagnostic::new(code, message).at(span, "")),
            }
        }
        servers
    }

    fn special(&mut self, word: &Spanned<String>) -> Option<SpecialUse> {
        let found = ALLOWABLE.into_iter().find(|kind| kind.as_str() == word.value);
        if found.is_none() {
            self.findings.push(
                Diagnostic::new(Code::UnknownName, format!("`{}` answers cannot be allowed", quoted(&word.value)))
                    .at(word.span(self.source), "")
                    .help(suggest(&word.value, &ALLOWABLE.map(SpecialUse::as_str))),
            );
        }
        found
    }

    fn wishes(
        &mut self,
        allow: &[Spanned<String>],
        [keep_days, max_age, most]: [&Option<Spanned<i64>>; 3],
        on_failure: &Entries<Spanned<String>>,
    ) -> Wishes {
        Wishes {
            special: allow.iter().filter_map(|word| self.special(word)).collect(),
            keep_days: self.number(keep_days.as_ref(), 0..=KEEP_DAYS_MOST, "days"),
            max_age: self.number(max_age.as_ref(), 1..=MAX_AGE_MOST, "days"),
            most: self.number(most.as_ref(), 1..=MOST_MOST, "addresses"),
            on_failure: on_failure.0.iter().filter_map(|(failure, word)| self.on_failure(failure, word)).collect(),
        }
    }

    fn answers_of(&mut self, hosts: &Entries<RawHostAnswers>) -> BTreeMap<Query, (Wishes, Span)> {
        let mut answers_of = BTreeMap::new();
        for (name, raw) in &hosts.0 {
            let RawHostAnswers { allow, keep_days, max_age, most, on_failure } = raw;
            let wishes = self.wishes(allow, [keep_days, max_age, most], on_failure);
            let span = name.span(self.source);
            match Query::parse(&name.value) {
                Ok(query) => _ = answers_of.insert(query, (wishes, span)),
                Err(e) => {
                    let message = format!("`{}` {e}", quoted(&name.value));
                    self.findings.push(
                        Diagnostic::new(Code::BadHost, message)
                            .at(span, "")
                            .help("the names are those of callouts: a host or a service name, no wildcard"),
                    );
                }
            }
        }
        answers_of
    }

    fn fail(&mut self, code: Code, message: String, at: Span, help: &str) {
        self.findings.push(Diagnostic::new(code, message).at(at, "").help(help));
    }

    fn range(&mut self, name: &Spanned<String>, raw: &RawRange) -> Option<(Id, Range)> {
        let span = name.span(self.source);
        let id = Id::parse(&name.value).map_err(|e| {
            let message = format!("`{}` {e}", quoted(&name.value));
            self.findings.push(Diagnostic::new(Code::BadText, message).at(span.clone(), ""));
        });
        let mut names = Vec::new();
        for host in &raw.r#for {
            let at = host.span(self.source);
            match Endpoint::parse(&host.value) {
                Ok(Endpoint::Name(pattern)) => names.push((pattern, at)),
                Ok(Endpoint::Service(_) | Endpoint::Net(_)) => {
                    let message = format!("`{}` is no host and no wildcard", quoted(&host.value));
                    self.fail(Code::BadHost, message, at, "a list stands beside the answers for names: name those");
                }
                Err((code, message)) => self.findings.push(Diagnostic::new(code, message).at(at, "")),
            }
        }
        if raw.r#for.is_empty() {
            let message = format!("the list `{}` is for no host", quoted(&name.value));
            self.fail(Code::Empty, message, span.clone(), "say whose traffic may go there: for: [www.example.com]");
        }
        let list = match (&raw.file, &raw.url, &raw.provider) {
            (Some(file), None, None) => self.list(file, Place::file, raw.path.as_ref()),
            (None, Some(url), None) => self.list(url, Place::url, raw.path.as_ref()),
            (None, None, Some(provider)) => {
                if let Some(path) = &raw.path {
                    let message = "the catalog says what is taken from a provider's list".to_owned();
                    self.fail(Code::BadRange, message, path.span(self.source), "take `path` out, or name the `url`");
                }
                Some(List::Provider(provider.clone()))
            }
            _ => {
                let message = format!("the list `{}` is in no place, or in several", quoted(&name.value));
                self.fail(Code::BadRange, message, span.clone(), "say one of `file`, `url` and `provider`");
                None
            }
        };
        Some((id.ok()?, Range { names, list: list?, span }))
    }

    fn list(
        &mut self,
        place: &Spanned<String>,
        read: fn(&str) -> Result<Place, String>,
        path: Option<&Spanned<OneOrMany>>,
    ) -> Option<List> {
        let from = read(&place.value).map_err(|e| {
            let message = format!("`{}` {e}", quoted(&place.value));
            self.findings.push(Diagnostic::new(Code::BadRange, message).at(place.span(self.source), ""));
        });
        let paths = match path {
            None => Ok(Vec::new()),
            Some(path) => callout::check_paths(path, self.source).map_err(|diagnostic| self.findings.push(diagnostic)),
        };
        Some(List::Here(Source { from: from.ok()?, paths: paths.ok()? }))
    }

    fn number(&mut self, number: Option<&Spanned<i64>>, range: RangeInclusive<u16>, what: &str) -> Option<u16> {
        number?.within(&range, what, self.source).map_err(|diagnostic| self.findings.push(diagnostic)).ok()
    }

    fn on_failure(&mut self, failure: &Spanned<String>, word: &Spanned<String>) -> Option<(Failure, Reaction)> {
        let known = Failure::ALL.iter().copied().find(|known| known.key() == failure.value);
        if known.is_none() {
            let names: Vec<&str> = Failure::ALL.iter().map(|failure| failure.key()).collect();
            self.findings.push(
                Diagnostic::new(Code::UnknownName, format!("`{}` is no way a lookup fails", quoted(&failure.value)))
                    .at(failure.span(self.source), "")
                    .help(suggest(&failure.value, &names)),
            );
        }
        let reaction = Reaction::NAMES.iter().find(|(name, _)| *name == word.value).map(|(_, reaction)| *reaction);
        if reaction.is_none() {
            self.findings.push(
                Diagnostic::new(Code::BadSetting, format!("`{}` is not a choice here", quoted(&word.value)))
                    .at(word.span(self.source), "")
                    .help(suggest(&word.value, &Reaction::NAMES.map(|(name, _)| name))),
            );
        }
        known.zip(reaction)
    }

    fn ipv6(&mut self, word: Option<&Spanned<String>>) -> Ipv6 {
        let Some(word) = word else { return Ipv6::default() };
        if let Some(&(_, ipv6)) = Ipv6::NAMES.iter().find(|(name, _)| *name == word.value) {
            return ipv6;
        }
        self.findings.push(
            Diagnostic::new(Code::BadSetting, format!("`{}` is not a choice here", quoted(&word.value)))
                .at(word.span(self.source), "")
                .help("`clients`: the clients' IPv6 addresses are listed; `deny-interface`: all IPv6 from their interface is denied"),
        );
        Ipv6::default()
    }
}

//! One documented callout: who contacts what, why, since when, on whose word.
//!
//! The shape is shared by the catalog's entries and by the extra ones a site adds in its profile.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, RangeInclusive};
use std::sync::Arc;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::addrs::{self, parse_prefix};
use crate::diagnostic::{Code, Diagnostic, Findings, suggest};
use crate::host::{Host, NamePattern, Query, Service};
use crate::port::{self, Port};
use crate::ranges::{PATHS_MOST, Path, Place, Source};
use crate::release::{Interval, Release};
use crate::source::{SourceId, Span};
use crate::terms::{KEEP_DAYS_MOST, MAX_AGE_MOST, Wishes};
use crate::text::quoted;
use crate::text::{self, Id, Text};
use crate::yaml::{Spanned, Word};

mod origins;

pub use origins::Origins;

/// A closed set of words in a file, with the name of each.
macro_rules! words {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in files and messages.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim(),)+ }
            }

            /// Reads the word.
            ///
            /// # Errors
            /// A diagnostic at the place of the word, with the one that was probably meant.
            pub fn read(word: &Spanned<impl AsRef<str>>, source: SourceId) -> Result<Self, Diagnostic> {
                let text = word.value.as_ref();
                Self::ALL.iter().copied().find(|w| w.as_str() == text).ok_or_else(|| {
                    let known: Vec<&str> = Self::ALL.iter().map(|w| w.as_str()).collect();
                    Diagnostic::new(Code::UnknownName, format!("`{}` is no {}", quoted(text), concat!($($about),+).trim()))
                        .at(word.span(source), "")
                        .help(suggest(text, &known))
                })
            }
        }
    };
}

pub(crate) use words;

words! {
    /// class of a callout
    Class {
        /// Does something the user wants of the product.
        Function = "function",
        /// Counts and describes the system to the vendor.
        Usage = "usage",
        /// Sends crashes and errors to the vendor.
        ErrorReport = "error-report",
        /// Sends the state of the system while it runs.
        Operational = "operational",
        /// May do one of these; not proven.
        Suspected = "suspected",
    }
}

words! {
    /// origin of a callout
    Origin {
        /// The appliance itself.
        Nas = "nas",
        /// The administrator's browser, from the administrator's own machine.
        Browser = "browser",
        /// A FreeBSD jail or plugin, with an address of its own or the appliance's.
        Jail = "jail",
        /// An app or container; it leaves with the appliance's address unless bridged.
        App = "app",
    }
}

words! {
    /// level of what breaks
    BlockedLevel {
        /// Nothing the user would notice.
        None = "none",
        /// One feature.
        Feature = "feature",
        /// The system's own upkeep.
        Core = "core",
    }
}

words! {
    /// advice for a privacy-strict site
    Advice {
        /// Needed by the feature that makes the call.
        Allow = "allow",
        /// Blocking costs comfort.
        Optional = "optional",
        /// Blocking costs nothing a strict site wants.
        Deny = "deny",
    }
}

words! {
    /// level of confidence
    Confidence {
        /// Read in the source of the release.
        High = "high",
        /// Inferred from neighbouring releases or documents.
        Medium = "medium",
        /// Reported or guessed.
        Low = "low",
    }
}

/// Where a callout leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A name, or all names below one.
    Name(NamePattern),
    /// The hosts that SRV records select.
    Service(Service),
    /// An address or prefix.
    Net(IpNet),
}

impl Endpoint {
    /// Reads `update.truenas.com`, `*.example.com`, `_http._tcp.pkg.freebsd.org`, `192.0.2.1` or `2001:db8::/48`.
    ///
    /// # Errors
    /// The finding's code and message, without a place.
    pub fn parse(text: &str) -> Result<Self, (Code, String)> {
        // Nothing else is written like an address, and a site may have a hundred thousand of them.
        if let Some(net) = addrs::one_address(text) {
            return Ok(Self::Net(net));
        }
        // Only a message needs it, and of a hundred thousand few are wrong.
        let shown = || quoted(text);
        if let Some(parent) = text.strip_prefix("*.") {
            let host = Host::parse(parent).map_err(|e| (Code::BadHost, format!("`{}` {e}", shown())))?;
            if host.holds_public_suffixes() {
                return Err((
                    Code::WideWildcard,
                    format!(
                        "`{}` covers a whole public suffix: anyone may own a name there; name a domain below it",
                        shown()
                    ),
                ));
            }
            return Ok(Self::Name(NamePattern::Below(host)));
        }
        if text.starts_with('_') {
            return Service::parse(text).map(Self::Service).map_err(|e| (Code::BadHost, format!("`{}` {e}", shown())));
        }
        // One colon is a port behind a name or an IPv4 address; IPv6 has two at least.
        let colons = text.bytes().filter(|byte| *byte == b':').count();
        let mut addr = text.bytes().take_while(|byte| *byte != b'/').peekable();
        let like_address = colons > 1 && !text.contains("://")
            || addr.peek().is_some() && addr.all(|byte| byte.is_ascii_digit() || byte == b'.');
        if like_address {
            return parse_prefix(text).map(Self::Net).map_err(|e| (Code::BadPrefix, format!("`{}` {e}", shown())));
        }
        let host = Host::parse(text).map_err(|e| (Code::BadHost, format!("`{}` {e}", shown())))?;
        if host.is_public_suffix() {
            return Err((Code::BadHost, format!("`{}` is a public suffix, not a host", shown())));
        }
        Ok(Self::Name(NamePattern::Exact(host)))
    }

    /// What to ask a resolver for this endpoint. Nothing for addresses, nor for wildcards, which cannot be listed.
    #[must_use]
    pub fn query(&self) -> Option<Query> {
        match self {
            Self::Name(NamePattern::Exact(host)) => Some(Query::Host(host.clone())),
            Self::Service(service) => Some(Query::Service(service.clone())),
            Self::Name(NamePattern::Below(_)) | Self::Net(_) => None,
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(pattern) => pattern.fmt(f),
            Self::Service(service) => service.fmt(f),
            Self::Net(net) => f.write_str(&addrs::short(net)),
        }
    }
}

/// Endpoints, sorted, each once. A clone shares them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Arc<[Endpoint]>);

impl Endpoints {
    /// Whether an endpoint is among them.
    #[must_use]
    pub fn contains(&self, endpoint: &Endpoint) -> bool {
        self.binary_search(endpoint).is_ok()
    }
}

impl Deref for Endpoints {
    type Target = [Endpoint];

    fn deref(&self) -> &[Endpoint] {
        &self.0
    }
}

impl FromIterator<Endpoint> for Endpoints {
    fn from_iter<I: IntoIterator<Item = Endpoint>>(endpoints: I) -> Self {
        let mut endpoints: Vec<Endpoint> = endpoints.into_iter().collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        Self(endpoints.into())
    }
}

/// A place in a document or a source tree that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Citation {
    /// Id of the document in `sources.yaml`.
    pub source: Id,
    /// Line or lines: of a page, or of the file at `path`.
    pub lines: Option<String>,
    /// The words as written there.
    pub quote: Option<String>,
    /// Tag or commit of a source tree.
    pub at: Option<String>,
    /// File in a source tree.
    pub path: Option<String>,
}

impl Citation {
    fn first_line(&self) -> Option<u32> {
        self.lines.as_ref()?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }
}

impl std::fmt::Display for Citation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.source.fmt(f)?;
        for (mark, part) in [("@", &self.at), (":", &self.path), (" line ", &self.lines)] {
            if let Some(part) = part {
                write!(f, "{mark}{part}")?;
            }
        }
        Ok(())
    }
}

/// Where a document is wrong, and what is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// The words as written. May hold names that must never reach a rule.
    pub as_written: String,
    /// What is right.
    pub right: Text,
    /// On whose word.
    pub evidence: Vec<Citation>,
}

/// A documented callout, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callout {
    /// Unique name.
    pub id: Id,
    /// A few words.
    pub title: Text,
    /// What it does and when.
    pub purpose: Text,
    /// What kind of traffic it is.
    pub class: Class,
    /// Who opens the connection.
    pub origins: Origins,
    /// The feature that makes the call; `None` when the base system makes it by itself.
    pub feature: Option<Id>,
    /// Where it leads, its providers' hosts among them. Every endpoint is contacted on every port.
    pub endpoints: Endpoints,
    /// The kind of the site's own servers that take the place of the endpoints.
    pub slot: Option<Id>,
    /// Destination ports, merged.
    pub ports: Arc<[Port]>,
    /// On what terms answers for its names are best believed.
    pub answers: Wishes,
    /// How much breaks when it is blocked.
    pub blocked: BlockedLevel,
    /// What a privacy-strict administrator does.
    pub strict: Advice,
    /// How sure we are.
    pub confidence: Confidence,
    /// Where it is written.
    pub span: Span,
    /// What else is said; nothing where nothing is.
    details: Option<Box<Details>>,
}

/// What the catalog says of its entries, and a site hardly ever of its own callouts: those are many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The providers whose hosts it uses.
    pub providers: BTreeSet<Id>,
    /// Where it exists: family and releases. Empty for a site's own callouts: everywhere.
    pub releases: Vec<(Id, Interval)>,
    /// What is sent.
    pub data: Option<Text>,
    /// How often, where it is known.
    pub frequency: Option<Text>,
    /// What breaks when it is blocked.
    pub blocked_effect: Option<Text>,
    /// The product's own off-switch.
    pub off_switch: Option<Text>,
    /// Who says so. Empty for a site's own callouts, whose source is the profile.
    pub sources: Vec<Citation>,
    /// Where a source is wrong.
    pub corrections: Vec<Correction>,
}

impl Callout {
    /// What else is said of it.
    #[must_use]
    pub fn details(&self) -> &Details {
        static NONE: Details = Details {
            providers: BTreeSet::new(),
            releases: Vec::new(),
            data: None,
            frequency: None,
            blocked_effect: None,
            off_switch: None,
            sources: Vec::new(),
            corrections: Vec::new(),
        };
        self.details.as_deref().unwrap_or(&NONE)
    }

    /// Where it is written down first, for a comment: the first citation, or the profile.
    #[must_use]
    pub fn first_source(&self) -> String {
        self.details().sources.first().map_or_else(|| "profile of this site".to_owned(), Citation::to_string)
    }
}

/// Keys the catalog's own entries cannot do without, beside those no entry can.
pub(crate) const ACCOUNT: [&str; 6] = ["title", "class", "releases", "blocked", "strict", "sources"];

/// Keys a site's own callout cannot have: they say when it is in use, and it always is.
pub(crate) const CATALOG_ONLY: [&str; 5] = ["feature", "slot", "strict", "confidence", "releases"];

/// A callout: who contacts what, why, since when, on whose word.
//
// What may be left out lies in a box: a site may have a hundred thousand of these, held until all are read.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawCallout<'a> {
    /// Its unique name, such as `update-scale`. Never used again for another thing: rules and tables are named by it.
    #[schemars(with = "Id")]
    #[serde(borrow)]
    id: Spanned<Word<'a>>,
    /// A few words, on one line.
    title: Option<Box<Spanned<Word<'a>>>>,
    /// What it does and when, on one line.
    purpose: Spanned<Word<'a>>,
    /// What kind of traffic it is. `strict` of a profile blocks by class.
    #[schemars(with = "Option<Class>")]
    class: Option<Box<Spanned<Word<'a>>>>,
    /// Who opens the connection, such as `[nas]`.
    #[schemars(with = "Vec<Origin>", length(min = 1))]
    origin: Vec<Spanned<Word<'a>>>,
    /// The feature of features.yaml that makes the call. Without it the base system makes it by itself.
    #[schemars(with = "Option<Id>")]
    feature: Option<Box<Spanned<Word<'a>>>>,
    /// Where it leads: `update.truenas.com`, `*.example.com`, `_http._tcp.pkg.freebsd.org`, `192.0.2.0/24`.
    #[serde(default)]
    hosts: Vec<Spanned<Word<'a>>>,
    /// Providers whose hosts it uses as well.
    #[serde(default)]
    #[schemars(with = "Vec<Id>")]
    providers: Vec<Spanned<Word<'a>>>,
    /// The kind of the site's own servers that take the place of the hosts, such as `dns`.
    #[schemars(with = "Option<Id>")]
    slot: Option<Box<Spanned<Word<'a>>>>,
    /// Destination ports: `443/tcp`, `123/udp`, `8443-8450/tcp`. Every host is contacted on every port.
    #[schemars(with = "Vec<Port>", length(min = 1))]
    ports: Spanned<Vec<Spanned<Word<'a>>>>,
    /// The releases that have it, such as `{family: scale, since: "24.10"}`.
    #[serde(default)]
    releases: Vec<RawInterval<'a>>,
    /// What is sent, on one line.
    data: Option<Box<Spanned<Word<'a>>>>,
    /// How often, where it is known.
    frequency: Option<Box<Spanned<Word<'a>>>>,
    /// Days an address of its hosts stays in a lock after it was last answered, where the profile says nothing.
    #[schemars(range(min = 0, max = KEEP_DAYS_MOST))]
    keep_days: Option<Box<Spanned<i64>>>,
    /// Days the newest good answer for its hosts may be old, where the profile says nothing.
    #[schemars(range(min = 1, max = MAX_AGE_MOST))]
    max_age: Option<Box<Spanned<i64>>>,
    /// What breaks when it is blocked.
    blocked: Option<Box<RawBlocked<'a>>>,
    /// The product's own switch, such as `System > General > Usage collection`.
    off_switch: Option<Box<Spanned<Word<'a>>>>,
    /// Advice for a privacy-strict site. Advice only: the profile decides by class.
    #[schemars(with = "Option<Advice>")]
    strict: Option<Box<Spanned<Word<'a>>>>,
    /// How sure we are; `high` when left out.
    #[schemars(with = "Option<Confidence>")]
    confidence: Option<Box<Spanned<Word<'a>>>>,
    /// Who says so: pages and source trees.
    #[serde(default)]
    sources: Vec<RawCitation<'a>>,
    /// Where a source is wrong, and what is right.
    #[serde(default)]
    corrections: Vec<RawCorrection<'a>>,
}

/// A span of releases, both ends included; an end left out is open.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawInterval<'a> {
    /// A family of releases.yaml, such as `scale`.
    #[schemars(with = "Id")]
    #[serde(borrow)]
    family: Spanned<Word<'a>>,
    /// The first release with it, such as `"24.10"` or `"25.04-BETA.1"`.
    #[schemars(with = "Option<Release>")]
    since: Option<Spanned<Word<'a>>>,
    /// The last release with it. `"25.10"` includes every point release of 25.10.
    #[schemars(with = "Option<Release>")]
    until: Option<Spanned<Word<'a>>>,
}

/// What breaks when it is blocked.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawBlocked<'a> {
    /// How much breaks.
    #[schemars(with = "BlockedLevel")]
    #[serde(borrow)]
    level: Spanned<Word<'a>>,
    /// What breaks, on one line, such as `no update check and no download`.
    effect: Spanned<Word<'a>>,
}

/// A place in a document or a source tree that says so.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCitation<'a> {
    /// Id of the document in sources.yaml, such as `middleware`.
    #[schemars(with = "Id")]
    #[serde(borrow)]
    source: Spanned<Word<'a>>,
    /// Line of the page, such as `86`.
    #[schemars(extend("type" = ["integer", "string"]))]
    line: Option<Spanned<Word<'a>>>,
    /// Lines of the page or of the file at `path`, such as `"9-22"`.
    #[schemars(extend("type" = ["integer", "string"]))]
    lines: Option<Spanned<Word<'a>>>,
    /// The words as written there, misspellings included.
    quote: Option<Spanned<Word<'a>>>,
    /// Tag or commit of a source tree, such as `TS-25.10.2`.
    at: Option<Spanned<Word<'a>>>,
    /// File in a source tree, such as `src/middlewared/middlewared/utils/git.py`.
    path: Option<Spanned<Word<'a>>>,
}

/// Where a document is wrong, and what is right.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawCorrection<'a> {
    /// The words as written. Nothing is generated from them.
    #[serde(borrow)]
    as_written: Spanned<Word<'a>>,
    /// What is right, on one line.
    right: Spanned<Word<'a>>,
    /// Citations that prove it.
    evidence: Vec<RawCitation<'a>>,
}

/// A service that several callouts use; its hosts are written once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// A few words.
    pub title: Text,
    /// What each host is for.
    pub about: Text,
    /// Its hosts.
    pub endpoints: Endpoints,
    /// Where it publishes the prefixes its hosts are behind. Used where a profile asks for it.
    pub ranges: Option<Source>,
    /// Who says so.
    pub sources: Vec<Citation>,
    /// Where it is written.
    pub span: Span,
}

/// A provider as it stands in a file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawProvider<'a> {
    /// Its name.
    #[schemars(with = "Id")]
    #[serde(borrow)]
    pub id: Spanned<Word<'a>>,
    /// A few words.
    title: Spanned<Word<'a>>,
    /// What each host is for, so that a use of it really succeeds.
    about: Spanned<Word<'a>>,
    /// Names, wildcards, service names, prefixes.
    hosts: Vec<Spanned<Word<'a>>>,
    /// Where it publishes the prefixes its hosts are behind. A profile may use them under `ranges`; by itself no rule
    /// is made of them.
    ranges: Option<RawPublished<'a>>,
    /// Who says so, of the hosts and of the list.
    sources: Vec<RawCitation<'a>>,
}

/// A vendor's list of prefixes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawPublished<'a> {
    /// Where it is, such as `https://api.github.com/meta`.
    #[schemars(regex(pattern = "^https://"))]
    #[serde(borrow)]
    url: Spanned<Word<'a>>,
    /// What is taken from its JSON: a JSONPath (RFC 9535) such as `$.git`, or several. Without it the list has a prefix
    /// a line.
    path: Option<Spanned<OneOrMany>>,
}

/// One text, or a list of them.
#[derive(Clone, Debug)]
pub struct OneOrMany(pub Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMany;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text or a list of texts")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMany(texts))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

/// Checks the paths of a list.
///
/// # Errors
/// One diagnostic with the place: none, too many, or one that is none.
pub fn check_paths(raw: &Spanned<OneOrMany>, source: SourceId) -> Result<Vec<Path>, Diagnostic> {
    let bad = |message: String| Diagnostic::new(Code::BadRange, message).at(raw.span(source), "");
    let texts = &raw.value.0;
    if texts.is_empty() {
        return Err(bad("no path is named".to_owned()).help("leave `path` out where the list has a prefix a line"));
    }
    if texts.len() > PATHS_MOST {
        return Err(bad(format!("more than {PATHS_MOST} paths are named")));
    }
    let paths: Result<BTreeSet<Path>, Diagnostic> =
        texts.iter().map(|text| Path::parse(text).map_err(|e| bad(format!("`{}` {e}", quoted(text))))).collect();
    paths.map(|paths| paths.into_iter().collect())
}

/// Checks one provider; every fault becomes a finding.
pub fn check_provider(
    raw: &RawProvider<'_>,
    known: &[&str],
    source: SourceId,
    findings: &mut Findings,
) -> Option<Provider> {
    let mut ctx = Context { source, findings, good: true };
    let (title, about) = (ctx.text(&raw.title), ctx.text(&raw.about));
    let endpoints = ctx.endpoints(&raw.hosts);
    if raw.hosts.is_empty() {
        ctx.fail(
            Diagnostic::new(Code::Empty, format!("`{}` names no hosts", quoted(&raw.id.value)))
                .at(raw.id.span(source), ""),
        );
    }
    let ranges = raw.ranges.as_ref().and_then(|raw| ctx.published(raw));
    let sources = raw.sources.iter().filter_map(|c| ctx.citation(c, known)).collect();
    let good = ctx.good;
    let span = raw.id.span(source);
    title.zip(about).filter(|_| good).map(|(title, about)| Provider {
        title,
        about,
        endpoints: endpoints.into_iter().collect(),
        ranges,
        sources,
        span,
    })
}

/// The names an entry may refer to, and whether it must give account of itself as the catalog's entries do.
pub struct Known<'a> {
    /// Families of releases.
    pub families: Vec<&'a str>,
    /// Features.
    pub features: Vec<&'a str>,
    /// Documents.
    pub sources: Vec<&'a str>,
    /// Providers with their hosts.
    pub providers: &'a BTreeMap<Id, Provider>,
    /// The catalog's own entry: class, releases, effect, advice and sources must be there.
    pub strict: bool,
}

/// Checks one entry as far as it can; every fault becomes a finding.
pub fn check(raw: &RawCallout<'_>, known: &Known<'_>, source: SourceId, findings: &mut Findings) -> Option<Callout> {
    let mut ctx = Context { source, findings, good: true };
    let id = ctx.take(Id::parse(&raw.id.value), Code::BadText, &raw.id);
    let title = ctx.text(raw.title.as_deref().unwrap_or(&raw.id));
    let purpose = ctx.text(&raw.purpose);
    let class = ctx.word(raw.class.as_deref(), Class::read, Class::Function);
    let advice = ctx.word(raw.strict.as_deref(), Advice::read, Advice::Allow);
    let confidence = ctx.word(raw.confidence.as_deref(), Confidence::read, Confidence::High);
    let mut origins = Origins::default();
    for word in &raw.origin {
        match Origin::read(word, source) {
            Ok(origin) => _ = origins.insert(origin),
            Err(diagnostic) => ctx.fail(diagnostic),
        }
    }
    if raw.origin.is_empty() {
        ctx.fail(
            Diagnostic::new(Code::Empty, format!("`{}` names no origin", quoted(&raw.id.value)))
                .at(raw.id.span(source), "")
                .help("say who opens the connection: origin: [nas]"),
        );
    }
    let feature = raw.feature.as_ref().filter(|_| known.strict).and_then(|f| ctx.name(f, "feature", &known.features));
    let slot = raw.slot.as_ref().and_then(|s| ctx.take(Id::parse(&s.value), Code::BadText, s));
    let mut endpoints = ctx.endpoints(&raw.hosts);
    let mut providers = BTreeSet::new();
    if !raw.providers.is_empty() {
        let names: Vec<&str> = known.providers.keys().map(Id::as_str).collect();
        providers.extend(raw.providers.iter().filter_map(|p| ctx.name(p, "provider", &names)));
    }
    for provider in providers.iter().filter_map(|id| known.providers.get(id)) {
        endpoints.extend(provider.endpoints.iter().cloned());
    }
    if raw.hosts.is_empty() && raw.providers.is_empty() && raw.slot.is_none() {
        ctx.fail(
            Diagnostic::new(Code::Empty, format!("`{}` names no hosts", quoted(&raw.id.value)))
                .at(raw.id.span(source), "")
                .help("an entry without hosts matches nothing: name them, or the slot the site's own servers fill"),
        );
    }
    let ports = ctx.ports(&raw.ports).into();
    let mut releases = Vec::new();
    for interval in &raw.releases {
        let family = ctx.name(&interval.family, "family", &known.families);
        let since = interval.since.as_ref().map(|r| ctx.take(Release::parse(&r.value), Code::BadRelease, r));
        let until = interval.until.as_ref().map(|r| ctx.take(Release::parse(&r.value), Code::BadRelease, r));
        if let (Some(Some(since)), Some(Some(until)), Some(at)) = (&since, &until, &interval.until)
            && since.is_after(until)
        {
            ctx.fail(
                Diagnostic::new(Code::BadRelease, format!("`{until}` comes before `{since}`")).at(at.span(source), ""),
            );
        }
        if let Some(family) = family {
            releases.push((family, Interval { since: since.flatten(), until: until.flatten() }));
        }
    }
    let data = raw.data.as_ref().and_then(|t| ctx.text(t));
    let frequency = raw.frequency.as_ref().and_then(|t| ctx.text(t));
    let answers = Wishes {
        keep_days: ctx.days(raw.keep_days.as_deref(), 0..=KEEP_DAYS_MOST),
        max_age: ctx.days(raw.max_age.as_deref(), 1..=MAX_AGE_MOST),
        ..Wishes::default()
    };
    let off_switch = raw.off_switch.as_ref().and_then(|t| ctx.text(t));
    let (blocked, blocked_effect) = match &raw.blocked {
        Some(raw) => (ctx.word(Some(&raw.level), BlockedLevel::read, BlockedLevel::Feature), ctx.text(&raw.effect)),
        None => (BlockedLevel::Feature, None),
    };
    let mut sources: Vec<_> = raw.sources.iter().filter_map(|c| ctx.citation(c, &known.sources)).collect();
    // Pages before source trees, then by line: the first is the one a rule names, whatever the order in the file.
    sources.sort_by(|a: &Citation, b: &Citation| {
        let order = a.path.is_some().cmp(&b.path.is_some()).then_with(|| a.source.cmp(&b.source));
        let order = order.then_with(|| a.first_line().cmp(&b.first_line()));
        order.then_with(|| a.to_string().cmp(&b.to_string()))
    });
    let mut corrections = Vec::new();
    for raw in &raw.corrections {
        let evidence = raw.evidence.iter().filter_map(|c| ctx.citation(c, &known.sources)).collect();
        let right = ctx.text(&raw.right);
        let as_written = ctx.quote(&raw.as_written);
        corrections.extend(right.zip(as_written).map(|(right, as_written)| Correction { as_written, right, evidence }));
    }
    if !known.strict {
        let there = [
            raw.feature.as_ref().map(|f| f.range.clone()),
            raw.slot.as_ref().map(|s| s.range.clone()),
            raw.strict.as_ref().map(|s| s.range.clone()),
            raw.confidence.as_ref().map(|c| c.range.clone()),
            raw.releases.first().map(|r| r.family.range.clone()),
        ];
        for (key, range) in CATALOG_ONLY.into_iter().zip(there) {
            if let Some(range) = range {
                let message = format!("`{key}` has no meaning for a callout of the site itself: it is always in use");
                ctx.fail(Diagnostic::new(Code::BadSetting, message).at(Span { source, range }, "").help("take it out"));
            }
        }
    }
    if known.strict {
        let there = [
            raw.title.is_some(),
            raw.class.is_some(),
            !raw.releases.is_empty(),
            raw.blocked.is_some(),
            raw.strict.is_some(),
            !raw.sources.is_empty(),
        ];
        let missing: Vec<String> =
            ACCOUNT.iter().zip(there).filter(|(_, there)| !there).map(|(key, _)| format!("`{key}`")).collect();
        if !missing.is_empty() {
            let message = format!("`{}` has no {}", quoted(&raw.id.value), missing.join(", no "));
            ctx.fail(
                Diagnostic::new(Code::Empty, message)
                    .at(raw.id.span(source), "")
                    .help("every entry of the catalog gives account of itself"),
            );
        }
    }
    let good = ctx.good;
    let (id, title, purpose) = (id?, title?, purpose?);
    let details = Details { providers, releases, data, frequency, blocked_effect, off_switch, sources, corrections };
    good.then(|| Callout {
        id,
        title,
        purpose,
        class,
        origins,
        feature,
        endpoints: endpoints.into_iter().collect(),
        slot,
        ports,
        answers,
        blocked,
        strict: advice,
        confidence,
        span: raw.id.span(source),
        details: (details != Details::default()).then(|| Box::new(details)),
    })
}

/// Checks a list of ports: each one, and that there is one.
pub fn check_ports(
    raw: &Spanned<Vec<Spanned<impl AsRef<str>>>>,
    source: SourceId,
    findings: &mut Findings,
) -> Option<Vec<Port>> {
    let mut ctx = Context { source, findings, good: true };
    let ports = ctx.ports(raw);
    ctx.good.then_some(ports)
}

/// Checks a citation outside an entry.
pub fn check_citation(
    raw: &RawCitation<'_>,
    known: &[&str],
    source: SourceId,
    findings: &mut Findings,
) -> Option<Citation> {
    Context { source, findings, good: true }.citation(raw, known)
}

struct Context<'a> {
    source: SourceId,
    findings: &'a mut Findings,
    good: bool,
}

impl Context<'_> {
    fn fail(&mut self, diagnostic: Diagnostic) {
        self.good = false;
        self.findings.push(diagnostic);
    }

    fn days(&mut self, days: Option<&Spanned<i64>>, range: RangeInclusive<u16>) -> Option<u16> {
        days?.within(&range, "days", self.source).map_err(|diagnostic| self.fail(diagnostic)).ok()
    }

    fn take<T, E: std::fmt::Display>(
        &mut self,
        result: Result<T, E>,
        code: Code,
        at: &Spanned<impl AsRef<str>>,
    ) -> Option<T> {
        result
            .map_err(|e| {
                self.fail(
                    Diagnostic::new(code, format!("`{}` {e}", quoted(at.value.as_ref()))).at(at.span(self.source), ""),
                )
            })
            .ok()
    }

    fn endpoints(&mut self, hosts: &[Spanned<Word<'_>>]) -> Vec<Endpoint> {
        let mut endpoints = Vec::with_capacity(hosts.len());
        for host in hosts {
            match Endpoint::parse(&host.value) {
                Ok(endpoint) => endpoints.push(endpoint),
                Err((code, message)) => self.fail(Diagnostic::new(code, message).at(host.span(self.source), "")),
            }
        }
        endpoints
    }

    fn published(&mut self, raw: &RawPublished<'_>) -> Option<Source> {
        let from = self.take(Place::url(&raw.url.value), Code::BadRange, &raw.url);
        let paths = raw.path.as_ref().map_or_else(|| Ok(Vec::new()), |path| check_paths(path, self.source));
        let paths = paths.map_err(|diagnostic| self.fail(diagnostic));
        Some(Source { from: from?, paths: paths.ok()? })
    }

    fn text(&mut self, text: &Spanned<Word<'_>>) -> Option<Text> {
        self.take(Text::parse(&text.value), Code::BadText, text)
    }

    /// The vendor's own words: anything that can be seen.
    fn quote(&mut self, text: &Spanned<Word<'_>>) -> Option<String> {
        self.take(text::visible(&text.value).map(str::to_owned), Code::BadText, text)
    }

    fn word<'w, T>(
        &mut self,
        word: Option<&Spanned<Word<'w>>>,
        read: fn(&Spanned<Word<'w>>, SourceId) -> Result<T, Diagnostic>,
        default: T,
    ) -> T {
        match word.map(|w| read(w, self.source)) {
            Some(Ok(value)) => value,
            Some(Err(diagnostic)) => {
                self.fail(diagnostic);
                default
            }
            None => default,
        }
    }

    fn name(&mut self, name: &Spanned<Word<'_>>, what: &str, known: &[&str]) -> Option<Id> {
        if known.contains(&&*name.value) {
            return self.take(Id::parse(&name.value), Code::BadText, name);
        }
        self.fail(
            Diagnostic::new(Code::UnknownName, format!("there is no {what} `{}`", quoted(&name.value)))
                .at(name.span(self.source), "")
                .help(suggest(&name.value, known)),
        );
        None
    }

    fn ports(&mut self, raw: &Spanned<Vec<Spanned<impl AsRef<str>>>>) -> Vec<Port> {
        if raw.value.is_empty() {
            self.fail(
                Diagnostic::new(Code::Empty, "no ports are named")
                    .at(raw.span(self.source), "")
                    .help("no ports would mean none, never all: name them, such as `443/tcp`"),
            );
        }
        let ports: Vec<_> =
            raw.value.iter().filter_map(|p| self.take(Port::parse(p.value.as_ref()), Code::BadPort, p)).collect();
        port::merge(&ports)
    }

    fn citation(&mut self, raw: &RawCitation<'_>, known: &[&str]) -> Option<Citation> {
        let source = self.name(&raw.source, "source", known);
        let quote = raw.quote.as_ref().and_then(|text| self.quote(text));
        // These three are printed into rule files, where the quote never goes.
        let mut part =
            |text: &Option<Spanned<Word<'_>>>| text.as_ref().and_then(|t| self.text(t)).map(|t| t.as_str().to_owned());
        let lines = part(&raw.lines).or(part(&raw.line));
        let (at, path) = (part(&raw.at), part(&raw.path));
        Some(Citation { source: source?, lines, quote, at, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_in_order_each_once_and_found() {
        let read = |text: &&str| Endpoint::parse(text).unwrap();
        let texts = ["192.0.2.9", "b.example.org", "192.0.2.1", "*.example.org", "2001:db8::1", "b.example.org"];
        let endpoints: Endpoints = texts.iter().map(read).collect();
        assert!(endpoints.is_sorted() && endpoints.len() == 5);
        assert!(texts.iter().all(|text| endpoints.contains(&read(text))));
        assert!(!endpoints.contains(&read(&"192.0.2.2")));
    }
}

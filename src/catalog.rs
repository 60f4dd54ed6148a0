//! The catalog: YAML texts → [`Catalog`], checked.
//!
//! Three files say what there is (`releases.yaml`, `sources.yaml`, `features.yaml`), and one file a subject under
//! `callouts/` says who contacts what. Nothing here knows of a site.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::callout::{self, Callout, Citation, Known, Provider, RawCallout, RawCitation, RawProvider, words};
use crate::day::Day;
use crate::diagnostic::{Code, Diagnostic, Findings, nearest, suggest};
use crate::release::{Overlap, Release};
use crate::source::{SourceId, Sources, Span};
use crate::text::quoted;
use crate::text::{Id, Text};
use crate::yaml::{self, Spanned, Word};

pub mod coverage;
pub mod embedded;
pub mod facts;
pub mod lint;

/// Everything the catalog says, in an order that does not depend on the files'.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// Families of releases, by id.
    pub families: BTreeMap<Id, Text>,
    /// Version lines, oldest first within a family.
    pub lines: Vec<Line>,
    /// The product whose callouts these are.
    pub product: Text,
    /// What users write before a release number, such as `TN-`.
    pub prefixes: Vec<String>,
    /// Documents cited, by id.
    pub sources: BTreeMap<Id, Document>,
    /// Services that several callouts use, by id.
    pub providers: BTreeMap<Id, Provider>,
    /// Features a site may use, by id.
    pub features: BTreeMap<Id, Feature>,
    /// Callouts, by id.
    pub callouts: BTreeMap<Id, Arc<Callout>>,
    /// Pages of the vendor that list callouts.
    pub pages: Vec<Page>,
    /// What a document lists though nothing ever contacts it, by id.
    pub not_callouts: BTreeMap<Id, NotACallout>,
}

/// A version line, such as 24.10 Electric Eel.
#[derive(Clone, Debug)]
pub struct Line {
    /// The line as users name it.
    pub release: Release,
    /// Its family.
    pub family: Id,
    /// Its codename.
    pub codename: Option<Text>,
    /// Its first release and that release's day.
    pub first: (Release, Day),
    /// The newest release the catalog knows, and its day.
    pub last: (Release, Day),
    /// The day it was announced as released.
    pub released: Option<Day>,
    /// Anything else worth knowing.
    pub note: Option<Text>,
}

/// A document or source tree.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its title.
    pub title: Text,
    /// Where it is, an https address.
    pub url: Text,
    /// The day of the version that was read.
    pub date: Option<Day>,
    /// SHA-256 of the text that was read, 64 hexadecimal digits.
    pub sha256: Option<String>,
    /// Commit, history, doubts.
    pub note: Option<Text>,
}

/// Something of the product a site uses or does not.
#[derive(Clone, Debug)]
pub struct Feature {
    /// A few words.
    pub title: Text,
    /// A sentence for the user who decides.
    pub about: Text,
    /// Taken to be in use where a run without a profile names no features.
    pub usual: bool,
}

/// An item of a document that is no callout.
#[derive(Clone, Debug)]
pub struct NotACallout {
    /// A few words.
    pub title: Text,
    /// Why not.
    pub reason: Text,
    /// Where the document lists it.
    pub sources: Vec<Citation>,
    /// On whose word it is none.
    pub evidence: Vec<Citation>,
    /// Where it is written.
    pub span: Span,
}

words! {
    /// verdict on a statement
    Verdict {
        /// True for every release it names.
        Right = "right",
        /// True, and not the whole truth.
        Incomplete = "incomplete",
        /// Was true of older releases.
        Outdated = "outdated",
        /// A name in it is misspelt.
        Misspelt = "misspelt",
        /// True of other releases or another origin than it says.
        WrongScope = "wrong-scope",
        /// Not true.
        Wrong = "wrong",
        /// Nothing is ever contacted.
        NoCallout = "no-callout",
    }
}

/// A page of a vendor that lists callouts, and how its statements were judged.
#[derive(Clone, Debug)]
pub struct Page {
    /// The document.
    pub source: Id,
    /// Headings of the sections that list callouts.
    pub sections: Vec<Text>,
    /// Lines of those sections that introduce others and state nothing.
    pub prose: BTreeSet<usize>,
    /// The verdict on each statement, by line.
    pub statements: BTreeMap<usize, Verdict>,
}

/// A release the catalog knows: the line it belongs to, and the name as the user wrote it.
#[derive(Clone, Debug)]
pub struct KnownRelease<'a> {
    /// The line.
    pub line: &'a Line,
    /// The release, perhaps a line, perhaps a point release.
    pub release: Release,
    /// It is newer than the newest the catalog knows of its line.
    pub newer: bool,
}

impl Catalog {
    /// Finds the line of a release: by number (`25.10.2`, `TN-13.3-U1.2`) or by codename (`goldeye`).
    ///
    /// # Errors
    /// A message that names the nearest releases.
    pub fn release(&self, text: &str) -> Result<KnownRelease<'_>, (String, String)> {
        let codename =
            |line: &&Line| line.codename.as_ref().is_some_and(|c| c.as_str().eq_ignore_ascii_case(text.trim()));
        if let Some(line) = self.lines.iter().find(codename) {
            return Ok(KnownRelease { line, release: line.release.clone(), newer: false });
        }
        let upper = text.to_ascii_uppercase();
        let bare = self.prefixes.iter().find_map(|prefix| upper.strip_prefix(prefix.as_str())).unwrap_or(text);
        let parsed = Release::parse(bare);
        let line = parsed.as_ref().ok().and_then(|r| self.lines.iter().find(|line| r.is_within(&line.release)));
        match (parsed, line) {
            (Ok(release), Some(line)) => {
                let newer = release.is_after(&line.last.0);
                Ok(KnownRelease { line, release, newer })
            }
            (parsed, _) => {
                let names: Vec<&str> = self.lines.iter().map(|l| l.release.as_str()).collect();
                let codenames = self.lines.iter().filter_map(|l| l.codename.as_ref().map(Text::as_str));
                let help = match nearest(text, names.iter().copied().chain(codenames)) {
                    Some(near) => format!("did you mean `{near}`? Known: {}", names.join(", ")),
                    None => format!("known: {}, each with its point releases", names.join(", ")),
                };
                let message = match parsed {
                    Ok(release) => format!("the catalog knows no release `{release}`"),
                    Err(error) => format!("`{}` {error}", quoted(text)),
                };
                Err((message, help))
            }
        }
    }

    /// The callouts of a release, each with how much of the release it holds for; by id.
    pub fn of_release<'a>(&'a self, known: &'a KnownRelease<'a>) -> impl Iterator<Item = (&'a Arc<Callout>, Overlap)> {
        self.callouts.values().filter_map(|callout| {
            let overlaps = callout
                .details()
                .releases
                .iter()
                .filter(|(family, _)| *family == known.line.family)
                .map(|(_, interval)| interval.overlap(&known.release))
                .collect::<Vec<_>>();
            [Overlap::Whole, Overlap::Part].into_iter().find(|o| overlaps.contains(o)).map(|overlap| (callout, overlap))
        })
    }

    /// The names an entry may refer to. `strict` for the catalog's own entries, which must give account of themselves.
    #[must_use]
    pub fn known(&self, strict: bool) -> Known<'_> {
        Known {
            families: self.families.keys().map(Id::as_str).collect(),
            features: self.features.keys().map(Id::as_str).collect(),
            sources: self.sources.keys().map(Id::as_str).collect(),
            providers: &self.providers,
            strict,
        }
    }

    /// Every kind of server a site can name, with the callouts it fills.
    #[must_use]
    pub fn slots(&self) -> BTreeSet<&Id> {
        self.callouts.values().filter_map(|c| c.slot.as_ref()).collect()
    }
}

/// Families of releases and the version lines of each.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawReleases<'a> {
    /// The product whose callouts these are.
    #[serde(borrow)]
    product: Option<Spanned<Word<'a>>>,
    /// What users write before a release number, such as `TN-`.
    #[serde(default)]
    prefixes: Vec<Spanned<Word<'a>>>,
    /// Families: what shares a base system.
    families: Vec<RawFamily<'a>>,
    /// Version lines, in any order.
    lines: Vec<RawLine<'a>>,
}

/// A family of releases.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawFamily<'a> {
    /// Its unique name, such as `scale`.
    #[schemars(with = "Id")]
    #[serde(borrow)]
    id: Spanned<Word<'a>>,
    /// A few words, on one line.
    title: Spanned<Word<'a>>,
}

/// A version line, such as 24.10 Electric Eel.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawLine<'a> {
    /// The line as users name it, such as `"24.10"`.
    #[schemars(with = "Release")]
    #[serde(borrow)]
    line: Spanned<Word<'a>>,
    /// Its family, one of `families`.
    #[schemars(with = "Id")]
    family: Spanned<Word<'a>>,
    /// Its codename, such as `Goldeye`.
    codename: Option<Spanned<Word<'a>>>,
    /// Its first release, such as `{release: "24.10.0", date: "2024-10-29"}`.
    first: RawPoint<'a>,
    /// The newest release that is known of it.
    last: RawPoint<'a>,
    /// The day it was announced as released, such as `"2024-10-29"`.
    #[schemars(with = "Option<Day>")]
    released: Option<Spanned<Word<'a>>>,
    /// Anything else worth knowing, on one line.
    note: Option<Spanned<Word<'a>>>,
}

/// A release and its day.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawPoint<'a> {
    /// The release, such as `"25.10.2"`, `"13.3-U1.2"` or `"25.04-BETA.1"`.
    #[schemars(with = "Release")]
    #[serde(borrow)]
    release: Spanned<Word<'a>>,
    /// Its day, such as `"2026-11-21"`.
    #[schemars(with = "Day")]
    date: Spanned<Word<'a>>,
}

/// Documents and source trees that the catalog cites.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSources<'a> {
    /// The documents, in any order.
    #[serde(borrow)]
    sources: Vec<RawDocument<'a>>,
}

/// A document or source tree.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawDocument<'a> {
    /// Its unique name, by which it is cited.
    #[schemars(with = "Id")]
    #[serde(borrow)]
    id: Spanned<Word<'a>>,
    /// Its title.
    title: Spanned<Word<'a>>,
    /// Where it is: an address that begins with `https://`.
    #[schemars(regex(pattern = "^https://"))]
    url: Spanned<Word<'a>>,
    /// The day of the version that was read, such as `"2026-11-21"`.
    #[schemars(with = "Option<Day>")]
    date: Option<Spanned<Word<'a>>>,
    /// SHA-256 of the text that was read: 64 hexadecimal digits in lower case.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    sha256: Option<Spanned<Word<'a>>>,
    /// Commit, history, doubts, on one line.
    note: Option<Spanned<Word<'a>>>,
}

/// Features an administrator uses or not. Callouts without a feature belong to the base system.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPages<'a> {
    /// Pages of the vendor that list callouts.
    #[serde(borrow)]
    pages: Vec<RawPage<'a>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawPage<'a> {
    /// The document, by its id in sources.yaml.
    #[serde(borrow)]
    source: Spanned<Word<'a>>,
    /// Headings of the sections that list callouts.
    sections: Vec<Spanned<Word<'a>>>,
    /// Lines of those sections that introduce others and state nothing.
    #[serde(default)]
    prose: Vec<usize>,
    /// The verdict on each statement.
    statements: Vec<RawStatement<'a>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawStatement<'a> {
    /// Its line, from 1.
    line: usize,
    /// Whether it is right.
    #[schemars(with = "Verdict")]
    #[serde(borrow)]
    verdict: Spanned<Word<'a>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawProviders<'a> {
    /// Services that several entries use.
    #[serde(borrow)]
    providers: Vec<RawProvider<'a>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFeatures<'a> {
    /// The features, in any order.
    #[serde(borrow)]
    features: Vec<RawFeature<'a>>,
}

/// Something of the product a site uses or does not.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawFeature<'a> {
    /// Its unique name, as profiles have it under `features`.
    #[schemars(with = "Id")]
    #[serde(borrow)]
    id: Spanned<Word<'a>>,
    /// A few words, on one line.
    title: Spanned<Word<'a>>,
    /// A sentence for the user who decides.
    about: Spanned<Word<'a>>,
    /// Taken to be in use where a run without a profile names no features.
    #[serde(default)]
    usual: bool,
}

/// One subject: its callouts, and what only looks like callouts of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RawSubject<'a> {
    /// Who contacts what, in any order.
    #[serde(borrow, default)]
    callouts: Vec<RawCallout<'a>>,
    /// What a document lists though nothing ever contacts it.
    #[serde(default)]
    not_a_callout: Vec<RawNotACallout<'a>>,
}

/// An item of a document that is no callout. No rule is made of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawNotACallout<'a> {
    /// Its unique name, such as `not-angular-issues`.
    #[schemars(with = "Id")]
    #[serde(borrow)]
    id: Spanned<Word<'a>>,
    /// A few words, on one line.
    title: Spanned<Word<'a>>,
    /// Why it is none, on one line.
    reason: Spanned<Word<'a>>,
    /// Where the document lists it.
    sources: Vec<RawCitation<'a>>,
    /// On whose word it is none.
    #[serde(default)]
    evidence: Vec<RawCitation<'a>>,
}

/// The texts a catalog is made of, already taken into [`Sources`].
pub struct Files {
    /// `releases.yaml`.
    pub releases: SourceId,
    /// `sources.yaml`.
    pub sources: SourceId,
    /// `features.yaml`.
    pub features: SourceId,
    /// `providers.yaml`, where there is one.
    pub providers: Option<SourceId>,
    /// `pages.yaml`, where there is one.
    pub pages: Option<SourceId>,
    /// `callouts/*.yaml`, in any order.
    pub callouts: Vec<SourceId>,
}

/// Reads and checks a catalog. Every fault becomes a finding; with one error there is no catalog.
pub fn read(sources: &Sources, files: &Files, findings: &mut Findings) -> Option<Catalog> {
    let mark = findings.mark();
    // Every file is parsed before any is judged, so one run names every file that is no YAML.
    let releases: Option<RawReleases<'_>> = take(yaml::read(sources, files.releases), findings);
    let documents: Option<RawSources<'_>> = take(yaml::read(sources, files.sources), findings);
    let features: Option<RawFeatures<'_>> = take(yaml::read(sources, files.features), findings);
    let mut providers: Option<RawProviders<'_>> = Some(RawProviders { providers: Vec::new() });
    if let Some(id) = files.providers {
        providers = take(yaml::read(sources, id), findings);
    }
    let mut pages: Option<RawPages<'_>> = Some(RawPages { pages: Vec::new() });
    if let Some(id) = files.pages {
        pages = take(yaml::read(sources, id), findings);
    }
    let mut subjects: Vec<(SourceId, RawSubject<'_>)> = Vec::new();
    for &id in &files.callouts {
        subjects.extend(take(yaml::read(sources, id), findings).map(|subject| (id, subject)));
    }
    let (releases, documents, features) = (releases?, documents?, features?);
    let (providers, pages) = (providers?, pages?);

    let product = releases.product.as_ref().map_or_else(|| Text::parse("unnamed product"), |p| Text::parse(&p.value));
    let product = match product {
        Ok(product) => product,
        Err(error) => {
            let at = releases.product.as_ref().map_or(0..0, |p| p.range.clone());
            let span = Span { source: files.releases, range: at };
            findings.push(Diagnostic::new(Code::BadText, format!("the name of the product {error}")).at(span, ""));
            return None;
        }
    };
    let mut catalog = Catalog {
        product,
        families: BTreeMap::new(),
        lines: Vec::new(),
        prefixes: releases.prefixes.iter().map(|prefix| prefix.value.to_ascii_uppercase()).collect(),
        sources: BTreeMap::new(),
        providers: BTreeMap::new(),
        features: BTreeMap::new(),
        callouts: BTreeMap::new(),
        pages: Vec::new(),
        not_callouts: BTreeMap::new(),
    };
    let mut ids = Ids { seen: BTreeMap::new(), findings };
    for family in &releases.families {
        let id = ids.fresh("family", &family.id, files.releases);
        let title = ids.text(&family.title, files.releases);
        catalog.families.extend(id.zip(title));
    }
    // What a file below refers to is not judged by a list that is faulty itself: one fault, one message.
    let faulty = |findings: &Findings| findings.errors_since(mark);
    let lines: &[RawLine<'_>] = if faulty(ids.findings) { &[] } else { &releases.lines };
    for line in lines {
        catalog.lines.extend(check_line(line, &catalog.families, files.releases, ids.findings));
    }
    catalog.lines.sort_by(|a, b| a.family.cmp(&b.family).then_with(|| a.release.order(&b.release)));
    for document in &documents.sources {
        let id = ids.fresh("source", &document.id, files.sources);
        catalog.sources.extend(id.zip(check_document(document, files.sources, &mut ids)));
    }
    for feature in &features.features {
        let id = ids.fresh("feature", &feature.id, files.features);
        let title = ids.text(&feature.title, files.features);
        let about = ids.text(&feature.about, files.features);
        catalog.features.extend(id.zip(title.zip(about).map(|(title, about)| Feature {
            title,
            about,
            usual: feature.usual,
        })));
    }
    for (raw, source) in files.pages.iter().flat_map(|&id| pages.pages.iter().map(move |raw| (raw, id))) {
        catalog.pages.extend(check_page(raw, &catalog.sources, source, ids.findings));
    }
    let documents: Vec<&str> = catalog.sources.keys().map(Id::as_str).collect();
    for (raw, source) in files.providers.iter().flat_map(|&id| providers.providers.iter().map(move |raw| (raw, id))) {
        let id = ids.fresh("provider", &raw.id, source);
        catalog.providers.extend(id.zip(callout::check_provider(raw, &documents, source, ids.findings)));
    }
    if !faulty(ids.findings) {
        check_subjects(&subjects, &mut catalog, &mut ids);
    }
    (!faulty(findings)).then_some(catalog)
}

fn take<T>(result: Result<T, Diagnostic>, findings: &mut Findings) -> Option<T> {
    result.map_err(|diagnostic| findings.push(diagnostic)).ok()
}

fn check_subjects(subjects: &[(SourceId, RawSubject<'_>)], catalog: &mut Catalog, ids: &mut Ids<'_>) {
    let known = catalog.known(true);
    let (mut callouts, mut not_callouts) = (Vec::new(), Vec::new());
    for (source, subject) in subjects {
        for raw in &subject.callouts {
            callouts.extend(callout::check(raw, &known, *source, ids.findings));
        }
        for raw in &subject.not_a_callout {
            let id = ids.fresh("entry", &raw.id, *source);
            let title = ids.text(&raw.title, *source);
            let reason = ids.text(&raw.reason, *source);
            let mut cite = |raw: &[RawCitation<'_>]| -> Vec<Citation> {
                raw.iter().filter_map(|c| callout::check_citation(c, &known.sources, *source, ids.findings)).collect()
            };
            let (sources, evidence) = (cite(&raw.sources), cite(&raw.evidence));
            let span = raw.id.span(*source);
            let entry = title.zip(reason).map(|(title, reason)| NotACallout { title, reason, sources, evidence, span });
            not_callouts.extend(id.zip(entry));
        }
    }
    for callout in callouts {
        if ids.claim("entry", callout.id.as_str(), &callout.span) {
            catalog.callouts.insert(callout.id.clone(), Arc::new(callout));
        }
    }
    catalog.not_callouts.extend(not_callouts);
}

fn check_line(
    raw: &RawLine<'_>,
    families: &BTreeMap<Id, Text>,
    source: SourceId,
    findings: &mut Findings,
) -> Option<Line> {
    let mut release = |text: &Spanned<Word<'_>>| {
        Release::parse(&text.value)
            .map_err(|e| {
                findings.push(
                    Diagnostic::new(Code::BadRelease, format!("`{}` {e}", quoted(&text.value)))
                        .at(text.span(source), ""),
                );
            })
            .ok()
    };
    let (line, first, last) = (release(&raw.line), release(&raw.first.release), release(&raw.last.release));
    let mut day = |text: &Spanned<Word<'_>>| {
        let day = Day::parse(&text.value);
        if day.is_none() {
            findings.push(
                Diagnostic::new(Code::BadDate, format!("`{}` is no day", quoted(&text.value)))
                    .at(text.span(source), "")
                    .help("write it as `2026-11-21`"),
            );
        }
        day
    };
    let (first_day, last_day) = (day(&raw.first.date), day(&raw.last.date));
    let released = raw.released.as_ref().and_then(day);
    let mut ids = Ids { seen: BTreeMap::new(), findings };
    let codename = raw.codename.as_ref().and_then(|t| ids.text(t, source));
    let note = raw.note.as_ref().and_then(|t| ids.text(t, source));
    let family = families.keys().find(|id| id.as_str() == &*raw.family.value);
    if family.is_none() {
        findings.push(
            Diagnostic::new(Code::UnknownName, format!("there is no family `{}`", quoted(&raw.family.value)))
                .at(raw.family.span(source), "")
                .help(suggest(&raw.family.value, &families.keys().map(Id::as_str).collect::<Vec<_>>())),
        );
    }
    let (release, first, last) = (line?, first?, last?);
    if !first.is_within(&release) || !last.is_within(&release) {
        findings.push(
            Diagnostic::new(
                Code::BadRelease,
                format!("`{first}` and `{last}` are not both releases of line {release}"),
            )
            .at(raw.line.span(source), ""),
        );
    }
    Some(Line {
        release,
        family: family?.clone(),
        codename,
        first: (first, first_day?),
        last: (last, last_day?),
        released,
        note,
    })
}

fn check_page(
    raw: &RawPage<'_>,
    sources: &BTreeMap<Id, Document>,
    source: SourceId,
    findings: &mut Findings,
) -> Option<Page> {
    let mut statements = BTreeMap::new();
    for statement in &raw.statements {
        match Verdict::read(&statement.verdict, source) {
            Ok(verdict) => _ = statements.insert(statement.line, verdict),
            Err(diagnostic) => findings.push(diagnostic),
        }
    }
    let mut ids = Ids { seen: BTreeMap::new(), findings };
    let sections = raw.sections.iter().filter_map(|section| ids.text(section, source)).collect();
    let Some(document) = sources.keys().find(|id| id.as_str() == &*raw.source.value) else {
        let known: Vec<&str> = sources.keys().map(Id::as_str).collect();
        findings.push(
            Diagnostic::new(Code::UnknownName, format!("there is no source `{}`", quoted(&raw.source.value)))
                .at(raw.source.span(source), "")
                .help(suggest(&raw.source.value, &known)),
        );
        return None;
    };
    Some(Page { source: document.clone(), sections, prose: raw.prose.iter().copied().collect(), statements })
}

fn check_document(raw: &RawDocument<'_>, source: SourceId, ids: &mut Ids<'_>) -> Option<Document> {
    let title = ids.text(&raw.title, source);
    let url = ids.text(&raw.url, source);
    if !raw.url.value.starts_with("https://") {
        ids.findings.push(
            Diagnostic::new(Code::BadText, "a document's address begins with `https://`").at(raw.url.span(source), ""),
        );
    }
    let date = raw.date.as_ref().and_then(|text| {
        let day = Day::parse(&text.value);
        if day.is_none() {
            ids.findings.push(
                Diagnostic::new(Code::BadDate, format!("`{}` is no day", quoted(&text.value)))
                    .at(text.span(source), "")
                    .help("write it as `2026-11-21`"),
            );
        }
        day
    });
    if let Some(hash) = &raw.sha256
        && !(hash.value.len() == 64 && hash.value.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
    {
        ids.findings.push(
            Diagnostic::new(Code::BadText, "a SHA-256 is 64 hexadecimal digits in lower case")
                .at(hash.span(source), ""),
        );
    }
    let note = raw.note.as_ref().and_then(|t| ids.text(t, source));
    Some(Document { title: title?, url: url?, date, sha256: raw.sha256.as_ref().map(|h| h.value.to_string()), note })
}

/// Ids are one room a kind over the whole catalog, so that a rule's name leads to one entry.
struct Ids<'a> {
    seen: BTreeMap<(&'static str, String), Span>,
    findings: &'a mut Findings,
}

impl Ids<'_> {
    fn fresh(&mut self, kind: &'static str, id: &Spanned<Word<'_>>, source: SourceId) -> Option<Id> {
        match Id::parse(&id.value) {
            Ok(parsed) => self.claim(kind, &id.value, &id.span(source)).then_some(parsed),
            Err(error) => {
                self.findings.push(
                    Diagnostic::new(Code::BadText, format!("`{}` {error}", quoted(&id.value))).at(id.span(source), ""),
                );
                None
            }
        }
    }

    fn claim(&mut self, kind: &'static str, id: &str, span: &Span) -> bool {
        match self.seen.entry((kind, id.to_owned())) {
            Entry::Vacant(place) => {
                place.insert(span.clone());
                true
            }
            Entry::Occupied(first) => {
                self.findings.push(
                    Diagnostic::new(Code::DuplicateId, format!("the {kind} `{id}` is there twice"))
                        .at(span.clone(), "the second")
                        .at(first.get().clone(), "the first"),
                );
                false
            }
        }
    }

    fn text(&mut self, text: &Spanned<Word<'_>>, source: SourceId) -> Option<Text> {
        Text::parse(&text.value)
            .map_err(|e| {
                self.findings.push(
                    Diagnostic::new(Code::BadText, format!("`{}` {e}", quoted(&text.value))).at(text.span(source), ""),
                );
            })
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::RawProfile;

    /// A file that only the general reader takes is read at a fraction of the speed, and nothing else shows it.
    #[test]
    fn what_we_write_ourselves_is_read_quickly() {
        for (path, text) in embedded::texts() {
            let usual = match path {
                "releases.yaml" => yaml::is_usual::<RawReleases>(text),
                "sources.yaml" => yaml::is_usual::<RawSources>(text),
                "features.yaml" => yaml::is_usual::<RawFeatures>(text),
                "providers.yaml" => yaml::is_usual::<RawProviders>(text),
                "pages.yaml" => yaml::is_usual::<RawPages>(text),
                _ => yaml::is_usual::<RawSubject>(text),
            };
            assert!(usual, "{path}");
        }
        for text in [
            include_str!("../examples/home-lab/outgate.yaml"),
            include_str!("../examples/strict-home/outgate.yaml"),
            include_str!("../examples/core-jails/outgate.yaml"),
        ] {
            assert!(yaml::is_usual::<RawProfile>(text), "{text}");
        }
    }
}

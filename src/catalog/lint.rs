//! Doubts about a catalog that reads well: what is written twice, leads nowhere, or looks like a slip.

use std::collections::{BTreeMap, BTreeSet};

use crate::callout::{Callout, Endpoint};
use crate::catalog::Catalog;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::NamePattern;
use crate::release::{Interval, Release};
use crate::source::Span;
use crate::text::Id;

/// Looks a catalog through.
pub fn check(catalog: &Catalog, findings: &mut Findings) {
    hosts_once(catalog, findings);
    spelling_twins(catalog, findings);
    unused(catalog, findings);
    for callout in catalog.callouts.values() {
        bounds(catalog, callout, findings);
        overlaps(callout, findings);
        evidence(callout, findings);
    }
}

/// Each host with the entries and providers that write it themselves.
fn written(catalog: &Catalog) -> BTreeMap<&Endpoint, Vec<(&Id, &Span)>> {
    let mut written: BTreeMap<&Endpoint, Vec<(&Id, &Span)>> = BTreeMap::new();
    for (id, provider) in &catalog.providers {
        for endpoint in provider.endpoints.iter() {
            written.entry(endpoint).or_default().push((id, &provider.span));
        }
    }
    for callout in catalog.callouts.values() {
        let provided: BTreeSet<&Endpoint> = callout
            .details()
            .providers
            .iter()
            .filter_map(|id| catalog.providers.get(id))
            .flat_map(|p| p.endpoints.iter())
            .collect();
        for endpoint in callout.endpoints.iter().filter(|endpoint| !provided.contains(endpoint)) {
            written.entry(endpoint).or_default().push((&callout.id, &callout.span));
        }
    }
    written
}

fn hosts_once(catalog: &Catalog, findings: &mut Findings) {
    for (endpoint, places) in written(catalog) {
        if let [(first, span), rest @ ..] = places.as_slice()
            && !rest.is_empty()
        {
            let others: Vec<&str> = rest.iter().map(|(id, _)| id.as_str()).collect();
            let message = format!("`{endpoint}` is written in `{first}` and again in {}", others.join(", "));
            let mut diagnostic = Diagnostic::new(Code::HostTwice, message).at((*span).clone(), "here");
            for (_, span) in rest {
                diagnostic = diagnostic.at((*span).clone(), "and here");
            }
            findings.push(diagnostic.help("make it a provider that both refer to: one fact, one place"));
        }
    }
}

/// Hosts that differ by one letter. Numbers are left out: mirrors are numbered.
fn spelling_twins(catalog: &Catalog, findings: &mut Findings) {
    let mut by_gap: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for endpoint in written(catalog).into_keys() {
        let Endpoint::Name(NamePattern::Exact(host) | NamePattern::Below(host)) = endpoint else { continue };
        let name: String = host.as_str().chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        // Two names one letter apart share a form with one letter taken out.
        for gap in 0..=name.len() {
            let form = if gap == name.len() { name.clone() } else { format!("{}{}", &name[..gap], &name[gap + 1..]) };
            by_gap.entry(form).or_default().insert(name.clone());
        }
    }
    let mut pairs = BTreeSet::new();
    for twins in by_gap.values() {
        let twins: Vec<&String> = twins.iter().take(4).collect();
        for (i, a) in twins.iter().enumerate() {
            pairs.extend(twins[i + 1..].iter().map(|b| ((*a).clone(), (*b).clone())));
        }
    }
    for (a, b) in pairs {
        findings.push(
            Diagnostic::new(Code::SpellingTwin, format!("`{a}` and `{b}` differ by one letter"))
                .help("look whether one of them is a slip: a misspelt name may belong to anyone"),
        );
    }
}

fn unused(catalog: &Catalog, findings: &mut Findings) {
    let providers: BTreeSet<&Id> = catalog.callouts.values().flat_map(|c| &c.details().providers).collect();
    let features: BTreeSet<&Id> = catalog.callouts.values().filter_map(|c| c.feature.as_ref()).collect();
    let cited = |citations: &[crate::callout::Citation]| citations.iter().map(|c| c.source.clone()).collect::<Vec<_>>();
    let mut sources: BTreeSet<Id> = BTreeSet::new();
    for callout in catalog.callouts.values() {
        sources.extend(cited(&callout.details().sources));
        sources.extend(callout.details().corrections.iter().flat_map(|c| cited(&c.evidence)));
    }
    sources.extend(catalog.providers.values().flat_map(|p| cited(&p.sources)));
    sources.extend(catalog.not_callouts.values().flat_map(|n| [cited(&n.sources), cited(&n.evidence)].concat()));
    let providers = catalog.providers.keys().filter(|id| !providers.contains(id)).map(|id| ("provider", id));
    let features = catalog.features.keys().filter(|id| !features.contains(id)).map(|id| ("feature", id));
    let sources = catalog.sources.keys().filter(|id| !sources.contains(id)).map(|id| ("source", id));
    for (kind, id) in providers.chain(features).chain(sources) {
        findings.push(Diagnostic::new(Code::Unused, format!("no entry refers to {kind} `{id}`")));
    }
}

/// A release that no line holds is a slip: the entry would begin or end where nothing is.
fn bounds(catalog: &Catalog, callout: &Callout, findings: &mut Findings) {
    for (family, Interval { since, until }) in &callout.details().releases {
        let known =
            |release: &&Release| catalog.lines.iter().any(|l| l.family == *family && release.is_within(&l.release));
        for release in since.iter().chain(until).filter(|release| !known(release)) {
            findings.push(
                Diagnostic::new(Code::UnknownBound, format!("`{}`: {family} has no release {release}", callout.id))
                    .at(callout.span.clone(), ""),
            );
        }
    }
}

fn overlaps(callout: &Callout, findings: &mut Findings) {
    for (i, (family, a)) in callout.details().releases.iter().enumerate() {
        for (_, b) in callout.details().releases[i + 1..].iter().filter(|(other, _)| other == family) {
            let before =
                |x: &Interval, y: &Interval| x.until.as_ref().zip(y.since.as_ref()).is_some_and(|(u, s)| s.is_after(u));
            if !before(a, b) && !before(b, a) {
                let message = format!("`{}`: {family} {a} and {family} {b} overlap", callout.id);
                findings.push(
                    Diagnostic::new(Code::Overlap, message).at(callout.span.clone(), "").help("write one interval"),
                );
            }
        }
    }
}

fn evidence(callout: &Callout, findings: &mut Findings) {
    if callout.details().corrections.iter().any(|correction| correction.evidence.is_empty()) {
        let message = format!("`{}` corrects a document without evidence", callout.id);
        findings.push(Diagnostic::new(Code::NoEvidence, message).at(callout.span.clone(), ""));
    }
}

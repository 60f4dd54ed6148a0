//! `outgate catalog lint`, `outgate catalog diff` and `outgate catalog coverage`

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::git::Revision;
use super::{Format, Run, Stop};
use crate::catalog::facts::{self, Facts};
use crate::catalog::{self, Catalog, Files, coverage, lint as doubts};
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::report;
use crate::text::{Id, quoted};

#[derive(Args)]
pub(super) struct Diff {
    /// A release, a catalog folder or a git revision
    first: String,
    /// Another of the same kind
    second: String,
}

#[derive(Args)]
pub(super) struct Coverage {
    /// The page as a Markdown file
    page: PathBuf,
    /// Which page it is, by its id in sources.yaml, where the catalog knows several
    #[arg(long, value_name = "ID")]
    source: Option<String>,
}

pub(super) fn lint(run: &mut Run, catalog: &Catalog) -> Result<(), Stop> {
    doubts::check(catalog, &mut run.findings);
    let mut out = report::terminal::stdout();
    let (callouts, hosts) = (catalog.callouts.len(), catalog.callouts.values().flat_map(|c| c.endpoints.iter()));
    let hosts: std::collections::BTreeSet<_> = hosts.collect();
    if run.format == Format::Json {
        let version = report::json::FORMAT_VERSION;
        let list: Vec<Value> = run.findings.iter().map(|d| report::json::diagnostic(d, &run.sources)).collect();
        writeln!(
            out,
            "{:#}",
            json!({"format_version": version, "callouts": callouts, "hosts": hosts.len(), "findings": list})
        )?;
    } else {
        writeln!(out, "{callouts} callouts, {} hosts, {} to look at", hosts.len(), run.findings.iter().count())?;
    }
    Ok(())
}

pub(super) fn diff(run: &mut Run, catalog: &Catalog, args: &Diff) -> Result<(), Stop> {
    let releases = (catalog.release(&args.first), catalog.release(&args.second));
    let (first, second) = match &releases {
        (Ok(first), Ok(second)) => (facts::of_release(catalog, first), facts::of_release(catalog, second)),
        (Ok(_), Err((message, help))) | (Err((message, help)), Ok(_)) => {
            return run.stop(Diagnostic::new(Code::BadRelease, message.clone()).help(help.clone()));
        }
        (Err(_), Err(_)) => {
            let first = other_catalog(run, &args.first)?;
            let second = other_catalog(run, &args.second)?;
            (facts::of_catalog(&first), facts::of_catalog(&second))
        }
    };
    let difference = facts::compare(&first, &second);
    let mut out = report::terminal::stdout();
    if run.format == Format::Json {
        let version = report::json::FORMAT_VERSION;
        let document = json!({
            "format_version": version, "opened": facts_json(&difference.opened), "closed": facts_json(&difference.closed),
        });
        writeln!(out, "{document:#}")?;
        return Ok(());
    }
    for (sign, facts) in [('+', &difference.opened), ('-', &difference.closed)] {
        for (fact, ids) in facts {
            let ids = ids.iter().map(Id::as_str).collect::<Vec<_>>().join(", ");
            let feature = fact.feature.as_ref().map_or("always".to_owned(), |feature| format!("feature {feature}"));
            let releases = if fact.releases.is_empty() { String::new() } else { format!(", {}", fact.releases) };
            writeln!(
                out,
                "{sign} {} {} {}  ({ids}; {feature}{releases})",
                fact.origin.as_str(),
                fact.server,
                fact.ports
            )?;
        }
    }
    let (opened, closed) = (difference.opened.len(), difference.closed.len());
    writeln!(out, "{opened} opened, {closed} closed from {} to {}", quoted(&args.first), quoted(&args.second))?;
    Ok(())
}

fn facts_json(facts: &Facts) -> Vec<Value> {
    let one = |(fact, ids): (&facts::Fact, &std::collections::BTreeSet<Id>)| {
        json!({
            "origin": fact.origin.as_str(), "server": fact.server, "ports": fact.ports,
            "feature": fact.feature.as_ref().map(Id::as_str), "releases": fact.releases,
            "callouts": ids.iter().map(Id::as_str).collect::<Vec<_>>(),
        })
    };
    facts.iter().map(one).collect()
}

/// A catalog in a folder, or as a git revision of this repository had it under `catalog/`.
fn other_catalog(run: &mut Run, name: &str) -> Result<Catalog, Stop> {
    let files = if Path::new(name).is_dir() { run.catalog_folder(Path::new(name))? } else { git_catalog(run, name)? };
    let mut findings = Findings::default();
    let catalog = catalog::read(&run.sources, &files, &mut findings);
    run.findings.extend(findings.iter().cloned());
    catalog.ok_or(Stop::Found)
}

fn git_catalog(run: &mut Run, revision: &str) -> Result<Files, Stop> {
    catalog_files(run, Path::new("catalog"), revision).or_else(|why| {
        let message = format!("`{}` is no release, no folder and no git revision with a catalog", quoted(revision));
        let help = format!("releases are listed by `outgate catalog list`; git says: {}", quoted(why.trim()));
        run.stop(Diagnostic::new(Code::BadUsage, message).help(help))
    })
}

/// The files of a catalog, by its folder from here, as a revision has them.
///
/// # Errors
/// What git says, or that there is none.
pub(super) fn catalog_files(run: &mut Run, folder: &Path, name: &str) -> Result<Files, String> {
    // From here and not from the folder: a revision may have one that is gone.
    let revision = Revision::find(Path::new(""), name)?;
    let below = folder.display().to_string();
    let below = below.trim_end_matches('/');
    let mut found = std::collections::BTreeMap::new();
    for path in revision.files(&format!("{below}/"))?.into_iter().filter(|path| path.ends_with(".yaml")) {
        if let Some(text) = revision.text(&path)? {
            let id = run.sources.add(format!("{name}:{path}"), text);
            found.insert(path.trim_start_matches(below).trim_start_matches('/').to_owned(), id);
        }
    }
    let file = |name: &str| found.get(&format!("{name}.yaml")).copied();
    let (Some(releases), Some(sources), Some(features)) = (file("releases"), file("sources"), file("features")) else {
        return Err("there is no catalog in it".to_owned());
    };
    let callouts = found.iter().filter(|(path, _)| path.starts_with("callouts/")).map(|(_, id)| *id).collect();
    Ok(Files { releases, sources, features, providers: file("providers"), pages: file("pages"), callouts })
}

pub(super) fn coverage(run: &mut Run, catalog: &Catalog, args: &Coverage) -> Result<(), Stop> {
    let page = match &args.source {
        Some(source) => catalog.pages.iter().find(|page| page.source.as_str() == source),
        None => catalog.pages.first(),
    };
    let Some(page) = page else {
        let known: Vec<&str> = catalog.pages.iter().map(|page| page.source.as_str()).collect();
        let message = "the catalog has no such page".to_owned();
        return run.stop(Diagnostic::new(Code::UnknownName, message).help(format!("one of: {}", known.join(", "))));
    };
    let id = run.read(&args.page)?;
    let coverage = coverage::of(catalog, page, &run.sources.get(id).text);
    if coverage.drifted {
        run.findings.push(
            Diagnostic::new(
                Code::Drifted,
                format!("{} is not the text that `{}` was checked against", args.page.display(), page.source),
            )
            .help("the document has drifted: look at each statement again, then renew the hash in sources.yaml"),
        );
    }
    for statement in &coverage.statements {
        let mut faults = Vec::new();
        if statement.entries.is_empty() {
            faults.push("no entry covers it".to_owned());
        }
        if statement.verdict.is_none() {
            faults.push("nobody has judged it".to_owned());
        }
        if !statement.misquoted.is_empty() {
            let ids: Vec<&str> = statement.misquoted.iter().map(Id::as_str).collect();
            faults.push(format!("the words quoted by {} do not stand there", ids.join(", ")));
        }
        if !faults.is_empty() {
            let message = format!("line {}: {}: `{}`", statement.line, faults.join("; "), quoted(&statement.text));
            run.findings.push(Diagnostic::new(Code::Uncovered, message));
        }
    }
    let mut out = report::terminal::stdout();
    if run.format == Format::Json {
        let statements: Vec<Value> = coverage
            .statements
            .iter()
            .map(|s| {
                json!({
                    "line": s.line, "text": s.text, "verdict": s.verdict.map(catalog::Verdict::as_str),
                    "entries": s.entries.iter().map(Id::as_str).collect::<Vec<_>>(), "corrections": s.corrections,
                })
            })
            .collect();
        let version = report::json::FORMAT_VERSION;
        writeln!(
            out,
            "{:#}",
            json!({"format_version": version, "drifted": coverage.drifted, "statements": statements})
        )?;
        return Ok(());
    }
    for statement in &coverage.statements {
        let verdict = statement.verdict.map_or("not judged", catalog::Verdict::as_str);
        writeln!(out, "{:>4} {verdict:12} {}", statement.line, quoted(&statement.text))?;
        let ids: Vec<&str> = statement.entries.iter().map(Id::as_str).collect();
        writeln!(out, "     covered by   {}", ids.join(", "))?;
        for correction in &statement.corrections {
            writeln!(out, "     right is     {correction}")?;
        }
    }
    let covered = coverage.statements.iter().filter(|s| !s.entries.is_empty()).count();
    writeln!(out, "{covered} of {} statements covered", coverage.statements.len())?;
    Ok(())
}

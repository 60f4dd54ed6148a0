//! `outgate catalog list`, `show` and `export`; the other verbs of the catalog are in `catalog_checks`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Format, Run, Stop};
use crate::callout::{Callout, Citation, Class, Origin};
use crate::catalog::{Catalog, NotACallout, embedded};
use crate::diagnostic::{Code, Diagnostic, suggest};
use crate::text::{Id, Text};
use crate::{files, report};

#[derive(Subcommand)]
pub(super) enum CatalogVerb {
    /// List callouts, a line each
    List(List),
    /// Show an entry whole: why, what is sent, what breaks, who says so
    Show(Show),
    /// Look for doubtful entries: hosts written twice, spelling twins, unknown releases, overlaps, missing evidence
    Lint,
    /// Compare two releases, or two catalogs (folders or git revisions): what opens and what closes
    Diff(super::catalog_checks::Diff),
    /// Hold a vendor's page against the catalog, statement by statement
    Coverage(super::catalog_checks::Coverage),
    /// Write the built-in catalog into a new folder, which `--catalog` reads
    Export(Export),
}

#[derive(Args)]
pub(super) struct List {
    /// Only what this release contacts
    #[arg(long, value_name = "RELEASE")]
    release: Option<String>,
    /// Only callouts of this feature
    #[arg(long, value_name = "FEATURE")]
    feature: Option<String>,
    /// Only callouts of this class
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Only callouts this origin makes
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// Only callouts that lead to this host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Only callouts that a page of the vendor lists
    #[arg(long, conflicts_with = "undocumented")]
    documented: bool,
    /// Only callouts that no page of the vendor lists
    #[arg(long)]
    undocumented: bool,
}

#[derive(Args)]
pub(super) struct Show {
    /// The entry's id
    id: String,
}

#[derive(Args)]
pub(super) struct Export {
    /// The folder: one that is not there yet, or is empty
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(super) fn run(run: &mut Run, verb: &CatalogVerb) -> Result<(), Stop> {
    if !matches!(verb, CatalogVerb::List(_)) && matches!(run.format, Format::Markdown | Format::Csv) {
        return run.stop(
            Diagnostic::new(Code::BadUsage, "only `catalog list` prints Markdown and CSV")
                .help("use --format text or json"),
        );
    }
    if let CatalogVerb::Export(args) = verb {
        return export(run, args);
    }
    let catalog = run.catalog()?;
    match verb {
        CatalogVerb::List(args) => list(run, &catalog, args),
        CatalogVerb::Show(args) => show(run, &catalog, &args.id),
        CatalogVerb::Lint => super::catalog_checks::lint(run, &catalog),
        CatalogVerb::Diff(args) => super::catalog_checks::diff(run, &catalog, args),
        CatalogVerb::Coverage(args) => super::catalog_checks::coverage(run, &catalog, args),
        // Above: it reads nothing.
        CatalogVerb::Export(_) => Ok(()),
    }
}

/// Into a folder of its own: entries that lie there already would be read as part of it, and somebody's work is not ours
/// to replace.
fn export(run: &mut Run, args: &Export) -> Result<(), Stop> {
    if run.catalog.is_some() {
        let diagnostic = Diagnostic::new(Code::BadUsage, "`catalog export` writes the built-in catalog");
        return run.stop(diagnostic.help("leave --catalog out: what it names is a folder already"));
    }
    let shown = args.folder.display();
    if std::fs::read_dir(&args.folder).is_ok_and(|mut entries| entries.next().is_some()) {
        let diagnostic = Diagnostic::new(Code::Unwritable, format!("{shown} is not empty"));
        let help = "name a new folder; `outgate catalog diff OLD NEW` then compares the two";
        return run.stop(diagnostic.help(help));
    }
    let texts: BTreeMap<String, String> =
        embedded::texts().map(|(path, text)| (path.to_owned(), text.to_owned())).collect();
    let unwritable = |e: files::FileError| super::resolve::unwritable(&e);
    let staged = files::stage(&args.folder, &texts, &[]).map_err(unwritable);
    match staged.and_then(|staged| staged.commit().map_err(unwritable)) {
        Ok(()) => Ok(writeln!(report::terminal::stdout(), "{shown}: {} files", texts.len())?),
        Err(diagnostic) => run.stop(diagnostic),
    }
}

fn list(run: &mut Run, catalog: &Catalog, args: &List) -> Result<(), Stop> {
    let release = match args.release.as_deref().map(|text| catalog.release(text)).transpose() {
        Ok(release) => release,
        Err((message, help)) => return run.stop(Diagnostic::new(Code::BadRelease, message).help(help)),
    };
    if let Some(feature) = &args.feature {
        known(run, "feature", feature, catalog.features.keys().map(Id::as_str))?;
    }
    if let Some(class) = &args.class {
        known(run, "class", class, Class::ALL.iter().map(|class| class.as_str()))?;
    }
    if let Some(origin) = &args.origin {
        known(run, "origin", origin, Origin::ALL.iter().map(|origin| origin.as_str()))?;
    }
    let wanted = |callout: &&Arc<Callout>| {
        let on_page = catalog
            .pages
            .iter()
            .any(|page| callout.details().sources.iter().any(|c| c.source == page.source && c.path.is_none()));
        let leads = |host: &String| callout.endpoints.iter().any(|e| e.to_string().eq_ignore_ascii_case(host));
        (on_page || !args.documented)
            && !(on_page && args.undocumented)
            && args.origin.as_ref().is_none_or(|o| callout.origins.iter().any(|own| own.as_str() == o))
            && args.host.as_ref().is_none_or(leads)
            && args.feature.as_ref().is_none_or(|f| callout.feature.as_ref().is_some_and(|own| own.as_str() == f))
            && args.class.as_ref().is_none_or(|c| callout.class.as_str() == c)
    };
    let callouts: Vec<&Callout> = match &release {
        Some(release) => {
            catalog.of_release(release).map(|(callout, _)| callout).filter(wanted).map(Arc::as_ref).collect()
        }
        None => catalog.callouts.values().filter(wanted).map(Arc::as_ref).collect(),
    };
    let mut out = report::terminal::stdout();
    if run.format == Format::Json {
        let list: Vec<Value> = callouts.into_iter().map(as_json).collect();
        let document = json!({"format_version": report::json::FORMAT_VERSION, "callouts": list});
        writeln!(out, "{document:#}")?;
        return Ok(());
    }
    match run.format {
        Format::Markdown => markdown(&mut out, catalog, &callouts)?,
        Format::Csv => csv(&mut out, &callouts)?,
        _ => table(&mut out, &callouts)?,
    }
    Ok(())
}

fn table(out: &mut impl Write, callouts: &[&Callout]) -> std::io::Result<()> {
    let width = callouts.iter().map(|c| c.id.as_str().len()).max().unwrap_or(0);
    for callout in callouts {
        let (id, class) = (callout.id.as_str(), callout.class.as_str());
        writeln!(out, "{id:width$}  {class:12}  {:11}  {}", origins(callout, ","), leads(callout))?;
    }
    Ok(())
}

fn origins(callout: &Callout, separator: &str) -> String {
    callout.origins.iter().map(|o| o.as_str()).collect::<Vec<_>>().join(separator)
}

/// A table for a page. Plain texts hold no quote or backslash; what is left of Markdown is the bar.
fn markdown(out: &mut impl Write, catalog: &Catalog, callouts: &[&Callout]) -> std::io::Result<()> {
    let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
    writeln!(out, "| callout | leads to | opened by | class | feature | how often | if blocked | off-switch |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|")?;
    for callout in callouts {
        let text = |text: &Option<Text>| cell(text.as_ref().map_or("", Text::as_str));
        let feature =
            callout.feature.as_ref().and_then(|id| catalog.features.get(id)).map_or("always", |f| f.title.as_str());
        writeln!(
            out,
            "| **{}** `{}`<br>{} | {} | {} | {} | {} | {} | {} | {} |",
            cell(callout.title.as_str()),
            callout.id,
            cell(callout.purpose.as_str()),
            cell(&leads(callout)),
            origins(callout, ", "),
            callout.class.as_str(),
            cell(feature),
            text(&callout.details().frequency),
            text(&callout.details().blocked_effect),
            text(&callout.details().off_switch),
        )?;
    }
    Ok(())
}

/// RFC 4180; plain texts hold no quote, so a quoted cell needs no escaping.
fn csv(out: &mut impl Write, callouts: &[&Callout]) -> std::io::Result<()> {
    write!(out, "id,title,class,origin,feature,servers,ports,blocked,strict,confidence,source\r\n")?;
    for callout in callouts {
        let mut servers: Vec<String> = callout.endpoints.iter().map(ToString::to_string).collect();
        servers.extend(callout.slot.iter().map(|slot| format!("({slot})")));
        let ports: Vec<String> = callout.ports.iter().map(ToString::to_string).collect();
        let cells = [
            callout.id.to_string(),
            callout.title.to_string(),
            callout.class.as_str().to_owned(),
            origins(callout, " "),
            callout.feature.as_ref().map(Id::to_string).unwrap_or_default(),
            servers.join(" "),
            ports.join(" "),
            callout.blocked.as_str().to_owned(),
            callout.strict.as_str().to_owned(),
            callout.confidence.as_str().to_owned(),
            callout.first_source().replace('"', ""),
        ];
        write!(out, "{}\r\n", cells.map(|cell| format!("\"{cell}\"")).join(","))?;
    }
    Ok(())
}

fn known<'a>(run: &mut Run, what: &str, word: &str, all: impl Iterator<Item = &'a str>) -> Result<(), Stop> {
    let all: Vec<&str> = all.collect();
    if all.contains(&word) {
        return Ok(());
    }
    let message = format!("there is no {what} `{}`", crate::text::quoted(word));
    run.stop(Diagnostic::new(Code::UnknownName, message).help(suggest(word, &all)))
}

fn leads(callout: &Callout) -> String {
    let mut hosts: Vec<String> = callout.endpoints.iter().map(ToString::to_string).collect();
    if let Some(slot) = &callout.slot {
        hosts.push(format!("(the site's {slot} servers)"));
    }
    let ports: Vec<String> = callout.ports.iter().map(ToString::to_string).collect();
    format!("{} {}", hosts.join(" "), ports.join(","))
}

fn show(run: &mut Run, catalog: &Catalog, id: &str) -> Result<(), Stop> {
    let callout = catalog.callouts.values().find(|c| c.id.as_str() == id);
    let not = catalog.not_callouts.iter().find(|(own, _)| own.as_str() == id);
    let mut out = report::terminal::stdout();
    match (callout, not) {
        (Some(callout), _) if run.format == Format::Json => {
            writeln!(
                out,
                "{:#}",
                json!({"format_version": report::json::FORMAT_VERSION, "callout": as_json(callout)})
            )?;
        }
        (Some(callout), _) => show_callout(&mut out, run, catalog, callout)?,
        (None, Some((id, entry))) if run.format == Format::Json => {
            let value = json!({
                "id": id.as_str(),
                "title": entry.title.as_str(),
                "reason": entry.reason.as_str(),
                "sources": entry.sources.iter().map(citation_json).collect::<Vec<_>>(),
                "evidence": entry.evidence.iter().map(citation_json).collect::<Vec<_>>(),
            });
            writeln!(out, "{:#}", json!({"format_version": report::json::FORMAT_VERSION, "not_a_callout": value}))?;
        }
        (None, Some((id, entry))) => show_not(&mut out, catalog, id, entry)?,
        (None, None) => {
            let all = catalog.callouts.keys().chain(catalog.not_callouts.keys()).map(Id::as_str);
            known(run, "entry", id, all)?;
        }
    }
    Ok(())
}

fn show_callout(out: &mut impl Write, run: &Run, catalog: &Catalog, callout: &Callout) -> std::io::Result<()> {
    writeln!(out, "{}: {}\n", callout.id, callout.title)?;
    writeln!(out, "{}\n", callout.purpose)?;
    let origins: Vec<&str> = callout.origins.iter().map(|o| o.as_str()).collect();
    let mut row = |name: &str, value: &str| writeln!(out, "  {name:11} {value}");
    row("leads to", &leads(callout))?;
    row("opened by", &origins.join(", "))?;
    row("class", callout.class.as_str())?;
    row("feature", callout.feature.as_ref().map_or("none: the base system does it by itself", Id::as_str))?;
    for (family, interval) in &callout.details().releases {
        row("releases", &format!("{family}: {interval}"))?;
    }
    for provider in &callout.details().providers {
        let about = catalog.providers.get(provider).map_or("", |p| p.about.as_str());
        row("provider", &format!("{provider}: {about}"))?;
        if let Some(list) = catalog.providers.get(provider).and_then(|p| p.ranges.as_ref()) {
            let paths: Vec<&str> = list.paths.iter().map(|path| path.as_str()).collect();
            row("prefixes", format!("{} {}", list.from, paths.join(" ")).trim_end())?;
        }
    }
    if let Some(frequency) = &callout.details().frequency {
        row("how often", frequency.as_str())?;
    }
    if let Some(data) = &callout.details().data {
        row("sends", data.as_str())?;
    }
    let effect = callout.details().blocked_effect.as_ref().map_or("", Text::as_str);
    row("if blocked", &format!("{} ({})", effect, callout.blocked.as_str()))?;
    if let Some(off) = &callout.details().off_switch {
        row("off-switch", off.as_str())?;
    }
    row("strict site", callout.strict.as_str())?;
    row("confidence", callout.confidence.as_str())?;
    let source = run.sources.get(callout.span.source);
    let (line, _) = run.sources.line_column(&callout.span);
    row("written in", &format!("{}:{line}", source.path))?;
    writeln!(out, "\nSources:")?;
    for citation in &callout.details().sources {
        show_citation(out, catalog, citation, "  ")?;
    }
    for correction in &callout.details().corrections {
        writeln!(out, "\nCorrected: {}\n  as written: {}", correction.right, correction.as_written)?;
        for citation in &correction.evidence {
            show_citation(out, catalog, citation, "  ")?;
        }
    }
    Ok(())
}

fn show_not(out: &mut impl Write, catalog: &Catalog, id: &Id, entry: &NotACallout) -> std::io::Result<()> {
    writeln!(out, "{id}: {}\n\nNot a callout: {}\n\nListed in:", entry.title, entry.reason)?;
    for citation in &entry.sources {
        show_citation(out, catalog, citation, "  ")?;
    }
    writeln!(out, "Evidence:")?;
    for citation in &entry.evidence {
        show_citation(out, catalog, citation, "  ")?;
    }
    Ok(())
}

fn show_citation(out: &mut impl Write, catalog: &Catalog, citation: &Citation, indent: &str) -> std::io::Result<()> {
    let document = catalog.sources.get(&citation.source);
    writeln!(out, "{indent}{citation}")?;
    if let Some(document) = document {
        let date = document.date.map(|d| format!(", {d}")).unwrap_or_default();
        writeln!(out, "{indent}  {}{date}: {}", document.title, document.url)?;
    }
    if let Some(quote) = &citation.quote {
        writeln!(out, "{indent}  > {quote}")?;
    }
    Ok(())
}

fn citation_json(citation: &Citation) -> Value {
    json!({
        "source": citation.source.as_str(),
        "lines": citation.lines,
        "quote": citation.quote,
        "at": citation.at,
        "path": citation.path,
    })
}

fn as_json(callout: &Callout) -> Value {
    let text = |text: &Option<Text>| text.as_ref().map(|t| t.as_str().to_owned());
    let interval = |(family, interval): &(Id, crate::release::Interval)| {
        json!({
            "family": family.as_str(),
            "since": interval.since.as_ref().map(ToString::to_string),
            "until": interval.until.as_ref().map(ToString::to_string),
        })
    };
    json!({
        "id": callout.id.as_str(),
        "title": callout.title.as_str(),
        "purpose": callout.purpose.as_str(),
        "class": callout.class.as_str(),
        "origin": callout.origins.iter().map(|o| o.as_str()).collect::<Vec<_>>(),
        "feature": callout.feature.as_ref().map(Id::as_str),
        "hosts": callout.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "slot": callout.slot.as_ref().map(Id::as_str),
        "ports": callout.ports.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "releases": callout.details().releases.iter().map(interval).collect::<Vec<_>>(),
        "providers": callout.details().providers.iter().map(Id::as_str).collect::<Vec<_>>(),
        "frequency": text(&callout.details().frequency),
        "data": text(&callout.details().data),
        "blocked": {"level": callout.blocked.as_str(), "effect": text(&callout.details().blocked_effect)},
        "off_switch": text(&callout.details().off_switch),
        "strict": callout.strict.as_str(),
        "confidence": callout.confidence.as_str(),
        "sources": callout.details().sources.iter().map(citation_json).collect::<Vec<_>>(),
        "corrections": callout.details().corrections.iter().map(|c| json!({
            "as_written": c.as_written,
            "right": c.right.as_str(),
            "evidence": c.evidence.iter().map(citation_json).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

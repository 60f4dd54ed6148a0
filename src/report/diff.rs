//! Differences between rule sets for people, for a pull request and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde_json::{Value, json};

use super::json::FORMAT_VERSION;
use super::some;
use crate::addrs::AddrSet;
use crate::callout::Origin;
use crate::diagnostic::{Diagnostic, Severity};
use crate::diff::{Cause, Change, ClientChange, Diff, Turn, What};
use crate::source::Sources;

/// Most characters a comment on GitHub may have.
const COMMENT_MAX: usize = 65_536;
/// What is kept free for the line that says what was cut.
const SPARE: usize = 400;

/// What is compared, in words: `main` and `the working tree`.
pub struct Sides<'a> {
    /// The old side.
    pub old: &'a str,
    /// The new side.
    pub new: &'a str,
}

/// One site of many.
pub struct Site<'a> {
    /// Its name.
    pub name: &'a str,
    /// What changed.
    pub diff: &'a Diff,
    /// What is compared.
    pub sides: Sides<'a>,
}

/// How many sites change.
fn summary_of_sites(sites: &[Site<'_>]) -> String {
    let changed = sites.iter().filter(|site| !site.diff.is_empty()).count();
    format!("{changed} of {} site{} change", sites.len(), if sites.len() == 1 { "" } else { "s" })
}

/// Prints many sites for a terminal: those that change, one after the other.
///
/// # Errors
/// Those of the writer.
pub fn text_of_sites(sites: &[Site<'_>], out: &mut impl Write) -> io::Result<()> {
    for (names, site) in alike(sites) {
        let names: Vec<&str> = names.iter().map(|site| site.name).collect();
        writeln!(out, "== {}", super::some_of(&names, 8))?;
        text(site.diff, &site.sides, out)?;
        writeln!(out)?;
    }
    writeln!(out, "{}", summary_of_sites(sites))
}

/// The sites that change, those of one change together: what is new in a catalog is new at every site.
fn alike<'a>(sites: &'a [Site<'a>]) -> Vec<(Vec<&'a Site<'a>>, &'a Site<'a>)> {
    let mut groups: Vec<(Vec<&Site<'_>>, &Site<'_>)> = Vec::new();
    let mut at: BTreeMap<(String, Vec<String>), usize> = BTreeMap::new();
    for site in sites.iter().filter(|site| !site.diff.is_empty()) {
        let clients = site.diff.clients.iter().map(client);
        let changes = site.diff.changes.iter().map(|change| {
            let cause = change.cause.as_str();
            format!("{} {cause} {} {:?}", change.rule, line(change), change.what)
        });
        let key = (summary(site.diff), clients.chain(changes).collect());
        match at.get(&key).and_then(|&at| groups.get_mut(at)) {
            Some((names, _)) => names.push(site),
            None => {
                at.insert(key, groups.len());
                groups.push((vec![site], site));
            }
        }
    }
    groups
}

/// Prints many sites as one comment: risks first, then a section for each that changes. What does not fit is counted.
///
/// # Errors
/// Those of the writer.
pub fn markdown_of_sites(
    sites: &[Site<'_>],
    findings: &[&Diagnostic],
    sources: &Sources,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut page = Page::new();
    page.must(&format!("### Egress: {}\n", code(&summary_of_sites(sites))));
    risks(&mut page, findings, sources);
    let groups = alike(sites);
    let mut left = 0;
    for (names, site) in &groups {
        let names: Vec<&str> = names.iter().map(|site| site.name).collect();
        let (summary, sides) = (code(&summary(site.diff)), &site.sides);
        let head = format!(
            "\n#### {}\n\n{summary}; {} → {}\n",
            code(&super::some_of(&names, 8)),
            code(sides.old),
            code(sides.new)
        );
        let mut section = Page::new();
        section.must(&head);
        changes(&mut section, site.diff);
        // A section that is cut would be read as a whole one.
        if left > 0 || section.left > 0 || !page.fits(&section.text) {
            left += names.len();
            continue;
        }
        page.must(&section.text);
    }
    if left > 0 {
        page.must(&format!("\n_{left} more sites do not fit into a comment; `outgate diff` prints all of them._\n"));
    }
    page.end(out)
}

/// The same for programs.
#[must_use]
pub fn json_of_sites(sites: &[Site<'_>], findings: &[&Diagnostic], sources: &Sources) -> Value {
    let site = |site: &Site<'_>| {
        let mut document = json(site.diff, &site.sides, &[], sources);
        if let Value::Object(map) = &mut document {
            map.remove("findings");
            map.remove("format_version");
            map.insert("site".to_owned(), site.name.into());
        }
        document
    };
    json!({
        "format_version": FORMAT_VERSION,
        "summary": summary_of_sites(sites),
        "sites": sites.iter().map(site).collect::<Vec<_>>(),
        "findings": findings.iter().map(|finding| super::json::diagnostic(finding, sources)).collect::<Vec<_>>(),
    })
}

/// How much changed, in a line.
#[must_use]
pub fn summary(diff: &Diff) -> String {
    if diff.is_empty() {
        return "nothing changed".to_owned();
    }
    let addresses = |cause: Cause, turn: Turn| -> (u128, usize) {
        let ours = diff.changes.iter().filter(|change| change.cause == cause && change.turn == turn);
        let sets = ours.filter_map(|change| if let What::Addresses(addrs) = &change.what { Some(addrs) } else { None });
        let all: AddrSet = sets.collect();
        (all.counts().0, all.v6_prefixes().count())
    };
    let words = |cause: Cause| {
        let ((open4, open6), (close4, close6)) = (addresses(cause, Turn::Opened), addresses(cause, Turn::Closed));
        format!("+{open4} -{close4} IPv4 addresses, +{open6} -{close6} IPv6 prefixes")
    };
    let rules = |cause: Cause| {
        let ours = diff.changes.iter().filter(|change| change.cause == cause);
        ours.map(|change| &change.rule).collect::<BTreeSet<_>>().len()
    };
    let part = |cause: Cause, name: &str| match rules(cause) {
        0 => format!("no {name}"),
        1 => format!("{name} in 1 rule: {}", words(cause)),
        n => format!("{name} in {n} rules: {}", words(cause)),
    };
    let mut text = format!("{}; {}", part(Cause::Intent, "change of intent"), part(Cause::Churn, "churn"));
    if !diff.clients.is_empty() {
        text += "; other clients are limited";
    }
    text
}

/// Prints it for a terminal: intent first, then churn, by rule.
///
/// # Errors
/// Those of the writer.
pub fn text(diff: &Diff, sides: &Sides<'_>, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{} -> {}: {}", sides.old, sides.new, summary(diff))?;
    for change in &diff.clients {
        writeln!(out, "\n  {}", client(change))?;
    }
    for (cause, head) in [(Cause::Intent, "Intent"), (Cause::Churn, "Churn")] {
        let groups = by_rule(diff, cause);
        if groups.is_empty() {
            continue;
        }
        writeln!(out, "\n{head}")?;
        for (rule, changes) in groups {
            let first = changes[0];
            writeln!(out, "  {rule}: {} ({}; {})", first.callout.title, first.reason, first.callout.first_source())?;
            for change in changes {
                writeln!(out, "    {}", line(change))?;
            }
        }
    }
    Ok(())
}

/// Prints it as a comment for a pull request: risks, intent, and churn folded. What does not fit is counted.
///
/// # Errors
/// Those of the writer.
pub fn markdown(
    diff: &Diff,
    sides: &Sides<'_>,
    findings: &[&Diagnostic],
    sources: &Sources,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut page = Page::new();
    page.must(&format!("### Egress: {}\n\n{} → {}\n", code(&summary(diff)), code(sides.old), code(sides.new)));
    risks(&mut page, findings, sources);
    changes(&mut page, diff);
    page.end(out)
}

/// A table of what was found.
fn risks(page: &mut Page, findings: &[&Diagnostic], sources: &Sources) {
    if !findings.is_empty() {
        page.must("\n| | finding | where |\n|---|---|---|\n");
        for finding in findings {
            let place = finding.labels.first().map(|label| {
                let (line, _) = sources.line_column(&label.span);
                format!("{}:{line}", sources.get(label.span.source).path)
            });
            let mark = match finding.severity() {
                Severity::Error => "**error**",
                Severity::Warning => "**warning**",
                Severity::Note => "note",
            };
            let place = place.map(|place| code(&place)).unwrap_or_default();
            page.line(&format!("| {mark} {} | {} | {place} |\n", finding.code.as_str(), code(&finding.message)));
        }
    }
}

/// Clients, intent, and churn folded.
fn changes(page: &mut Page, diff: &Diff) {
    for change in &diff.clients {
        page.line(&format!("\n- {}\n", code(&client(change))));
    }
    let table = "\n| rule | | ports | what |\n|---|---|---|---|\n";
    let intent = by_rule(diff, Cause::Intent);
    if !intent.is_empty() {
        page.must(&format!("\n**Intent**\n{table}"));
        rows(page, &intent);
        page.must("\n<details><summary>why</summary>\n\n");
        for (rule, changes) in &intent {
            let callout = &changes[0].callout;
            let why = format!("{rule}: {}; {}; {}", callout.purpose, changes[0].reason, callout.first_source());
            page.line(&format!("- {}\n", code(&why)));
        }
        page.must("\n</details>\n");
    }
    let churn = by_rule(diff, Cause::Churn);
    if !churn.is_empty() {
        page.must(&format!(
            "\n<details><summary>Churn: answers that moved, in {} rules</summary>\n{table}",
            churn.len()
        ));
        rows(page, &churn);
        page.must("\n</details>\n");
    }
}

fn rows(page: &mut Page, groups: &[(String, Vec<&Change>)]) {
    for (rule, changes) in groups {
        for change in changes {
            let ports = change.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let row = format!("| {} | {} | {} | {} |\n", code(rule), sign(change), code(&ports), code(&what(change)));
            page.line(&row);
        }
    }
}

/// A page of bounded length.
struct Page {
    text: String,
    /// Lines that did not fit.
    left: usize,
}

impl Page {
    fn new() -> Self {
        Self { text: String::new(), left: 0 }
    }

    fn fits(&self, text: &str) -> bool {
        self.text.chars().count() + text.chars().count() + SPARE <= COMMENT_MAX
    }

    fn end(mut self, out: &mut impl Write) -> io::Result<()> {
        if self.left > 0 {
            self.text += &format!(
                "\n_{} more lines do not fit into a comment; `outgate diff` prints all of them._\n",
                self.left
            );
        }
        out.write_all(self.text.as_bytes())
    }

    /// What holds the page together.
    fn must(&mut self, text: &str) {
        self.text += text;
    }

    fn line(&mut self, text: &str) {
        if self.fits(text) {
            self.text += text;
        } else {
            self.left += 1;
        }
    }
}

/// Free text on a page: in a code span nothing is a link, a name of somebody or a tag. No text of ours holds a backtick;
/// a bar would end a cell.
fn code(text: &str) -> String {
    let plain = text.chars().map(|c| match c {
        '`' => '\'',
        c if c.is_control() => '?',
        c => c,
    });
    format!("`{}`", plain.collect::<String>().replace('|', "\\|"))
}

/// The same for programs.
#[must_use]
pub fn json(diff: &Diff, sides: &Sides<'_>, findings: &[&Diagnostic], sources: &Sources) -> Value {
    let changes: Vec<Value> = diff
        .changes
        .iter()
        .map(|change| {
            let (addresses, names) = match &change.what {
                What::Addresses(addrs) => (addrs.shorts(), Vec::new()),
                What::Names(names) => (Vec::new(), names.iter().map(ToString::to_string).collect()),
            };
            json!({
                "turn": change.turn.as_str(),
                "cause": change.cause.as_str(),
                "denial": change.denial,
                "rule": change.rule.as_str(),
                "callout": change.callout.id.as_str(),
                "class": change.callout.class.as_str(),
                "reason": change.reason.as_str(),
                "source": change.callout.first_source(),
                "endpoint": change.endpoint.to_string(),
                "origins": change.origins.iter().map(|origin| origin.as_str()).collect::<Vec<_>>(),
                "clients": change.clients.shorts(),
                "ports": change.ports.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "addresses": addresses,
                "names": names,
            })
        })
        .collect();
    let clients: Vec<Value> = diff
        .clients
        .iter()
        .map(|change| json!({"clients": change.clients.shorts(), "was_limited": change.limited.0, "is_limited": change.limited.1}))
        .collect();
    json!({
        "format_version": FORMAT_VERSION,
        "old": sides.old,
        "new": sides.new,
        "summary": summary(diff),
        "changes": changes,
        "clients": clients,
        "findings": findings.iter().map(|finding| super::json::diagnostic(finding, sources)).collect::<Vec<_>>(),
    })
}

fn by_rule(diff: &Diff, cause: Cause) -> Vec<(String, Vec<&Change>)> {
    let mut groups: BTreeMap<String, Vec<&Change>> = BTreeMap::new();
    for change in diff.changes.iter().filter(|change| change.cause == cause) {
        groups.entry(change.rule.to_string()).or_default().push(change);
    }
    groups.into_iter().collect()
}

fn sign(change: &Change) -> &'static str {
    match (change.turn, change.denial) {
        (Turn::Opened, false) => "+",
        (Turn::Closed, false) => "-",
        (Turn::Opened, true) => "+ no longer denied",
        (Turn::Closed, true) => "- denied now",
    }
}

fn line(change: &Change) -> String {
    let ports = change.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("{} {ports} {}", sign(change), what(change))
}

/// Endpoint, clients and space, in words.
fn what(change: &Change) -> String {
    let origins = change.origins.iter().map(Origin::as_str).collect::<Vec<_>>().join(", ");
    match &change.what {
        What::Names(names) => {
            format!("{origins}: name {}", some(&names.iter().map(ToString::to_string).collect::<Vec<_>>()))
        }
        What::Addresses(addrs) => {
            format!("{origins}: {} at {}: {}", change.endpoint, addrs.size(), some(&addrs.shorts()))
        }
    }
}

fn client(change: &ClientChange) -> String {
    let words = |limited: Option<bool>| match limited {
        Some(true) => "denied what no rule allows",
        Some(false) => "denied what is blocked alone",
        None => "no clients of ours",
    };
    format!("clients {}: {}, now {}", some(&change.clients.shorts()), words(change.limited.0), words(change.limited.1))
}

//! A vendor's page, statement by statement: which entries cover it, and whether it is right.

use std::collections::BTreeMap;

use crate::callout::Citation;
use crate::catalog::{Catalog, Page, Verdict};
use crate::digest::sha256;
use crate::text::Id;

/// A page held against the catalog.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// The text is not the one the entries were checked against.
    pub drifted: bool,
    /// Every statement of the page, in order.
    pub statements: Vec<Statement>,
}

/// One line that says something of a callout.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Its number, from 1.
    pub line: usize,
    /// The line, without the spaces around it.
    pub text: String,
    /// Entries that cite it, those that say that it is no callout among them.
    pub entries: Vec<Id>,
    /// Entries that quote words which no longer stand there.
    pub misquoted: Vec<Id>,
    /// Whether it is right; `None` when nobody has judged it.
    pub verdict: Option<Verdict>,
    /// What is right instead.
    pub corrections: Vec<String>,
}

/// Holds the text of a page against the catalog.
#[must_use]
pub fn of(catalog: &Catalog, page: &Page, text: &str) -> Coverage {
    let known = catalog.sources.get(&page.source).and_then(|document| document.sha256.as_ref());
    let drifted = known.is_some_and(|hash| *hash != sha256(text));
    let mut cited: BTreeMap<usize, Vec<(&Id, &Citation)>> = BTreeMap::new();
    let callouts = catalog.callouts.iter().map(|(id, callout)| (id, &callout.details().sources));
    let others = catalog.not_callouts.iter().map(|(id, entry)| (id, &entry.sources));
    for (id, citations) in callouts.chain(others) {
        for citation in citations.iter().filter(|c| c.source == page.source && c.path.is_none()) {
            if let Some(line) = citation.lines.as_ref().and_then(|lines| lines.parse().ok()) {
                cited.entry(line).or_default().push((id, citation));
            }
        }
    }
    let statements = statements(page, text).into_iter().map(|(line, words)| {
        let citations = cited.get(&line).map_or(&[][..], Vec::as_slice);
        let misquoted =
            citations.iter().filter(|(_, c)| c.quote.as_ref().is_some_and(|quote| !words.contains(quote.as_str())));
        let corrections =
            citations.iter().filter_map(|(id, _)| catalog.callouts.get(*id)).flat_map(|c| &c.details().corrections);
        let mut corrections: Vec<String> =
            corrections.filter(|c| words.contains(&c.as_written)).map(|c| c.right.to_string()).collect();
        corrections.sort();
        corrections.dedup();
        Statement {
            line,
            text: words.trim().to_owned(),
            entries: citations.iter().map(|(id, _)| (*id).clone()).collect(),
            misquoted: misquoted.map(|(id, _)| (*id).clone()).collect(),
            verdict: page.statements.get(&line).copied(),
            corrections,
        }
    });
    Coverage { drifted, statements: statements.collect() }
}

/// The lines of the page's sections that state something: list items, table rows and sentences, without headings,
/// table heads, markup of the site and the lines the catalog calls prose.
fn statements<'a>(page: &Page, text: &'a str) -> Vec<(usize, &'a str)> {
    let lines: Vec<&str> = text.lines().collect();
    let level = |line: &str| line.chars().take_while(|c| *c == '#').count();
    let is_rule = |line: &str| line.trim_start().starts_with('|') && line.chars().all(|c| "|:- ".contains(c));
    let mut inside = 0;
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let depth = level(line);
        if depth > 0 {
            let title = line[depth..].trim();
            inside = match inside {
                _ if page.sections.iter().any(|s| s.as_str() == title) => depth,
                open if open >= depth => 0,
                open => open,
            };
            continue;
        }
        let head = lines.get(i + 1).is_some_and(|next| is_rule(next));
        let silent = line.trim().is_empty() || line.trim_start().starts_with("{{") || is_rule(line) || head;
        if inside > 0 && !silent && !page.prose.contains(&(i + 1)) {
            found.push((i + 1, *line));
        }
    }
    found
}

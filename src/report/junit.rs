//! A check as JUnit XML, as GitLab, Jenkins and others read it: a suite a part, a case a thing that was looked at.
//!
//! Whatever somebody wrote is a text of this document and nothing else: `escape` is the one way into it.

use std::collections::BTreeSet;
use std::io::{self, Write};

use crate::check::{Check, Item, Outcome, Part};
use crate::diagnostic::Diagnostic;
use crate::source::{Sources, Span};
use crate::text::is_invisible;
use crate::verify::State;

/// Prints the whole document.
///
/// # Errors
/// Those of the writer.
pub fn document(check: &Check, sources: &Sources, out: &mut impl Write) -> io::Result<()> {
    let suite = |part: &Part| (format!("outgate {}", part.name), cases(part, sources));
    let suites: Vec<(String, Vec<Case>)> = check.parts.iter().map(suite).collect();
    print(check.site.as_ref().map_or("outgate", crate::text::Text::as_str), &suites, out)
}

/// Prints the document of many sites, by name: a suite a site and part.
///
/// # Errors
/// Those of the writer.
pub fn documents(checks: &[(&str, &Check, &Sources)], out: &mut impl Write) -> io::Result<()> {
    let mut suites = Vec::new();
    for (site, check, sources) in checks {
        for part in &check.parts {
            let mut cases = cases(part, sources);
            // Readers that put all suites together tell cases by class and name.
            cases.iter_mut().for_each(|case| case.group = format!("{site}.{}", case.group));
            suites.push((format!("outgate {site} {}", part.name), cases));
        }
    }
    print("outgate", &suites, out)
}

fn print(name: &str, suites: &[(String, Vec<Case>)], out: &mut impl Write) -> io::Result<()> {
    let all = || suites.iter().flat_map(|(_, cases)| cases);
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites name=\"{}\"{}>", escape(name), counts(all()))?;
    for (suite, cases) in suites {
        writeln!(out, "  <testsuite name=\"{}\"{}>", escape(suite), counts(cases))?;
        for case in cases {
            let file = case.file.as_ref().map(|file| format!(" file=\"{}\"", escape(file))).unwrap_or_default();
            let (group, name) = (escape(&case.group), escape(&case.name));
            write!(out, "    <testcase classname=\"{group}\" name=\"{name}\"{file} time=\"0\"")?;
            match case.verdict {
                Verdict::Passed => writeln!(out, "/>")?,
                Verdict::Skipped => {
                    writeln!(out, "><skipped message=\"{}\"/></testcase>", escape(&case.message))?;
                }
                Verdict::Failed | Verdict::Error => {
                    let tag = if case.verdict == Verdict::Failed { "failure" } else { "error" };
                    let (message, text) = (escape(&case.message), escape(&case.text));
                    writeln!(
                        out,
                        "><{tag} message=\"{message}\" type=\"{}\">{text}</{tag}></testcase>",
                        escape(&case.kind)
                    )?;
                }
            }
        }
        writeln!(out, "  </testsuite>")?;
    }
    writeln!(out, "</testsuites>")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Skipped,
    Failed,
    Error,
}

struct Case {
    group: String,
    name: String,
    file: Option<String>,
    verdict: Verdict,
    message: String,
    kind: String,
    text: String,
}

fn counts<'a>(cases: impl IntoIterator<Item = &'a Case>) -> String {
    let verdicts: Vec<Verdict> = cases.into_iter().map(|case| case.verdict).collect();
    let count = |verdict| verdicts.iter().filter(|v| **v == verdict).count();
    format!(
        " tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"0\"",
        verdicts.len(),
        count(Verdict::Failed),
        count(Verdict::Error),
        count(Verdict::Skipped)
    )
}

/// The cases of a part: what was looked at, then what was found beside it. Never none, or nobody would see the part.
fn cases(part: &Part, sources: &Sources) -> Vec<Case> {
    let group = format!("outgate.{}", part.name);
    let mut cases: Vec<Case> = part.items.iter().map(|item| of_item(item, &group, sources)).collect();
    let failed = part.outcome == Outcome::Impossible || part.outcome == Outcome::Fails;
    let verdict = if part.outcome == Outcome::Impossible { Verdict::Error } else { Verdict::Failed };
    if failed {
        // What an item says already is no case of its own.
        let told = |finding: &&Diagnostic| !part.items.iter().any(|item| item.says(finding));
        let findings = part.findings.iter().filter(told);
        cases.extend(findings.map(|finding| of_finding(finding, &group, verdict, sources)));
    }
    if cases.is_empty() {
        let verdict = match part.outcome {
            Outcome::Passes => Verdict::Passed,
            Outcome::Skipped => Verdict::Skipped,
            Outcome::Fails => Verdict::Failed,
            Outcome::Impossible => Verdict::Error,
        };
        cases.push(Case {
            group,
            name: part.name.to_owned(),
            file: None,
            verdict,
            message: part.summary.clone(),
            kind: part.name.to_owned(),
            text: part.summary.clone(),
        });
    }
    // A reader tells cases by their names: two of one would be one.
    let mut names = BTreeSet::new();
    for case in &mut cases {
        let first = case.name.clone();
        let mut number = 2;
        while !names.insert((case.group.clone(), case.name.clone())) {
            case.name = format!("{first} ({number})");
            number += 1;
        }
    }
    cases
}

fn of_item(item: &Item, group: &str, sources: &Sources) -> Case {
    let place = item.span.as_ref().map(|span| place(span, sources));
    let verdict = match item.state {
        State::Holds => Verdict::Passed,
        State::Skipped => Verdict::Skipped,
        State::Fails => Verdict::Failed,
    };
    let text = match &place {
        Some((file, line)) => format!("{file}:{line}\n{}", item.why),
        None => item.why.clone(),
    };
    Case {
        group: format!("{group}.{}", item.group),
        name: item.name.clone(),
        file: place.map(|(file, _)| file),
        verdict,
        message: item.why.clone(),
        kind: item.code.map_or_else(|| item.group.clone(), |code| code.as_str().to_owned()),
        text,
    }
}

fn of_finding(finding: &Diagnostic, group: &str, verdict: Verdict, sources: &Sources) -> Case {
    let places: Vec<(String, usize)> = finding.labels.iter().map(|label| place(&label.span, sources)).collect();
    let mut text: String = places.iter().map(|(file, line)| format!("{file}:{line}\n")).collect();
    text += &finding.message;
    if let Some(help) = &finding.help {
        text += &format!("\n{help}");
    }
    Case {
        group: group.to_owned(),
        name: format!("{}: {}", finding.code.as_str(), finding.message),
        file: places.into_iter().next().map(|(file, _)| file),
        verdict,
        message: finding.message.clone(),
        kind: finding.code.as_str().to_owned(),
        text,
    }
}

fn place(span: &Span, sources: &Sources) -> (String, usize) {
    (sources.get(span.source).path.clone(), sources.line_column(span).0)
}

/// A text for an attribute or between tags. What XML cannot hold, and what nobody could see, is left out; lines stay.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // As it stands an attribute would make a space of it.
            '\n' => out.push_str("&#10;"),
            c if is_invisible(c) => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_place() {
        assert_eq!(escape("]]> <b a='x' b=\"y\">&amp;"), "]]&gt; &lt;b a=&apos;x&apos; b=&quot;y&quot;&gt;&amp;amp;");
        assert_eq!(escape("a\u{0}\u{1b}[31m\r\nb\u{fffe}\u{202e}\u{85}c\t"), "a[31m&#10;bc");
    }
}

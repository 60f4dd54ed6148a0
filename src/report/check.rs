//! A check for people and for programs: a line a part. Findings are printed beside it.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::json::{FORMAT_VERSION, diagnostic};
use super::terminal::{Tone, toned};
use crate::check::{Check, Item, Outcome, Part};
use crate::diagnostic::Code;
use crate::source::Sources;

/// Prints a line a part.
///
/// # Errors
/// Those of the writer.
pub fn text(check: &Check, out: &mut impl Write) -> io::Result<()> {
    check.parts.iter().try_for_each(|part| {
        let word = match part.outcome {
            Outcome::Passes => toned(Tone::Good, "ok  "),
            Outcome::Skipped => toned(Tone::Faint, "-   "),
            Outcome::Fails => toned(Tone::Bad, "FAIL"),
            Outcome::Impossible => toned(Tone::Bad, "??? "),
        };
        writeln!(out, "{word} {:8} {}", part.name, summary(part))
    })
}

/// The same lines without colour, for a log.
#[must_use]
pub fn lines(check: &Check) -> Vec<String> {
    let line = |part: &Part| format!("{}: {}: {}", part.name, part.outcome.as_str(), summary(part));
    check.parts.iter().map(line).collect()
}

/// All parts in one line: those that fail with why, or which were looked at.
#[must_use]
pub fn line(check: &Check) -> String {
    let bad = check.parts.iter().filter(|part| matches!(part.outcome, Outcome::Fails | Outcome::Impossible));
    let bad: Vec<String> = bad.map(|part| format!("{}: {}", part.name, summary(part))).collect();
    if !bad.is_empty() {
        return bad.join("; ");
    }
    let of = |outcome| {
        let names = check.parts.iter().filter(|part| part.outcome == outcome).map(|part| part.name);
        names.collect::<Vec<_>>().join(", ")
    };
    let (good, skipped) = (of(Outcome::Passes), of(Outcome::Skipped));
    if skipped.is_empty() { good } else { format!("{good}; nothing for {skipped}") }
}

/// A part in a line of its own, whatever stands in a message.
fn summary(part: &Part) -> String {
    part.summary.lines().next().unwrap_or_default().to_owned()
}

/// The same for programs.
#[must_use]
pub fn json(check: &Check, sources: &Sources) -> Value {
    let item = |item: &Item| {
        let place = item.span.as_ref().map(|span| {
            let (line, column) = sources.line_column(span);
            json!({"file": sources.get(span.source).path, "line": line, "column": column})
        });
        json!({"group": item.group, "name": item.name, "state": item.state.as_str(), "why": item.why, "place": place, "code": item.code.map(Code::as_str)})
    };
    let part = |part: &Part| {
        json!({
            "part": part.name,
            "outcome": part.outcome.as_str(),
            "summary": part.summary,
            "items": part.items.iter().map(item).collect::<Vec<_>>(),
            "findings": part.findings.iter().map(|finding| diagnostic(finding, sources)).collect::<Vec<_>>(),
        })
    };
    json!({
        "format_version": FORMAT_VERSION,
        "site": check.site.as_ref().map(crate::text::Text::as_str),
        "passes": check.passes(),
        "parts": check.parts.iter().map(part).collect::<Vec<_>>(),
    })
}

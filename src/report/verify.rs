//! Assertions and what became of them, for people and for programs.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::json::FORMAT_VERSION;
use super::terminal::{Tone, toned};
use crate::diagnostic::Diagnostic;
use crate::source::{Sources, Span};
use crate::text::quoted;
use crate::verify::{Case, Decider, Outcome, Report, State};

/// How many hold and how many do not, in a line.
#[must_use]
pub fn summary(report: &Report) -> String {
    let (holds, fails) = (report.count(State::Holds), report.count(State::Fails));
    let skipped = match report.count(State::Skipped) {
        0 => String::new(),
        n => format!(", {n} not judged"),
    };
    let s = if holds + fails == 1 { "" } else { "s" };
    match fails {
        0 => format!("{holds} assertion{s} of `{}` hold{}{skipped}", report.site, if holds == 1 { "s" } else { "" }),
        _ => format!("{fails} of {} assertion{s} of `{}` do not hold{skipped}", holds + fails, report.site),
    }
}

/// Prints it as a tree: assertion, flow, what each target says and by which rule. Briefly: what fails alone.
///
/// # Errors
/// Those of the writer.
pub fn text(report: &Report, sources: &Sources, brief: bool, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", summary(report))?;
    for outcome in report.outcomes.iter().filter(|outcome| !brief || outcome.state() == State::Fails) {
        let place = outcome.span.as_ref().map(|span| format!("  {}", place(span, sources))).unwrap_or_default();
        let faint = toned(Tone::Faint, &place);
        writeln!(out, "\n{} {}{}", word(outcome.state()), outcome.title, if place.is_empty() { "" } else { &faint })?;
        for (what, cases) in by_assertion(outcome) {
            let state = cases.iter().map(|case| case.state).min().unwrap_or(State::Skipped);
            if brief && state != State::Fails {
                continue;
            }
            writeln!(out, "  {} {what}", word(state))?;
            for (case, targets) in alike(&cases) {
                if brief && case.state != State::Fails {
                    continue;
                }
                let at = if targets.is_empty() { String::new() } else { format!("{}: ", targets.join(", ")) };
                let by = case.rule.as_ref().map(|rule| format!(" ({}; {})", rule.reason, place_of(rule, sources)));
                let line = format!("{at}{}{}", case.why, by.unwrap_or_default());
                let tone = if case.state == State::Skipped { toned(Tone::Faint, &line) } else { line };
                writeln!(out, "       {tone}")?;
            }
        }
    }
    Ok(())
}

/// The state as a word of one width.
fn word(state: State) -> String {
    match state {
        State::Holds => toned(Tone::Good, "ok  "),
        State::Fails => toned(Tone::Bad, "FAIL"),
        State::Skipped => toned(Tone::Faint, "-   "),
    }
}

/// The cases of an outcome by what is asserted, in order.
#[must_use]
pub fn by_assertion(outcome: &Outcome) -> Vec<(&str, Vec<&Case>)> {
    let mut groups: Vec<(&str, Vec<&Case>)> = Vec::new();
    for case in &outcome.cases {
        match groups.iter_mut().find(|(what, cases)| *what == case.what && cases[0].span == case.span) {
            Some((_, cases)) => cases.push(case),
            None => groups.push((&case.what, vec![case])),
        }
    }
    groups
}

/// Cases that say the same of several targets, once.
fn alike<'a>(cases: &[&'a Case]) -> Vec<(&'a Case, Vec<&'static str>)> {
    let mut told: Vec<(&Case, Vec<&'static str>)> = Vec::new();
    for case in cases {
        match told.iter_mut().find(|(other, _)| other.is_like(case)) {
            Some((_, targets)) => targets.extend(case.target),
            None => told.push((case, case.target.into_iter().collect())),
        }
    }
    told
}

fn place(span: &Span, sources: &Sources) -> String {
    let (line, _) = sources.line_column(span);
    format!("{}:{line}", quoted(&sources.get(span.source).path))
}

fn place_of(rule: &Decider, sources: &Sources) -> String {
    place(&rule.span, sources)
}

/// The same for programs.
#[must_use]
pub fn json(report: &Report, findings: &[&Diagnostic], sources: &Sources) -> Value {
    json!({
        "format_version": FORMAT_VERSION,
        "site": report.site.as_str(),
        "holds": report.holds(),
        "summary": summary(report),
        "assertions": report.outcomes.iter().map(|outcome| of_outcome(outcome, sources)).collect::<Vec<_>>(),
        "findings": findings.iter().map(|finding| super::json::diagnostic(finding, sources)).collect::<Vec<_>>(),
    })
}

fn of_outcome(outcome: &Outcome, sources: &Sources) -> Value {
    json!({
        "always": outcome.always,
        "title": outcome.title,
        "place": outcome.span.as_ref().map(|span| of_span(span, sources)),
        "state": outcome.state().as_str(),
        "cases": outcome.cases.iter().map(|case| of_case(case, sources)).collect::<Vec<_>>(),
    })
}

fn of_case(case: &Case, sources: &Sources) -> Value {
    json!({
        "asserts": case.what,
        "target": case.target,
        "state": case.state.as_str(),
        "why": case.why,
        "place": case.span.as_ref().map(|span| of_span(span, sources)),
        "rule": case.rule.as_ref().map(|rule| json!({
            "key": rule.key.as_str(),
            "action": rule.action.as_str(),
            "reason": rule.reason,
            "source": rule.source,
            "place": of_span(&rule.span, sources),
        })),
    })
}

fn of_span(span: &Span, sources: &Sources) -> Value {
    let (line, column) = sources.line_column(span);
    json!({"file": sources.get(span.source).path, "line": line, "column": column})
}

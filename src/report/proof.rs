//! The proof of strict mode for people, for a page and for programs.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::json::FORMAT_VERSION;
use super::some;
use crate::callout::{Origin, Origins};
use crate::proof::{Answer, Entry, Place, Proof, Stopped, Verdict, costs_nothing};
use crate::text::Text;

/// Prints it for a terminal.
///
/// # Errors
/// Those of the writer.
pub fn text(proof: &Proof, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}: {}", proof.site, headline(proof))?;
    writeln!(out, "{}", relative(proof))?;
    for written in &proof.targets {
        writeln!(out, "  {:10} files {}", written.target, written.state.as_str())?;
    }
    for entry in &proof.entries {
        writeln!(out, "\n{}: {} - {}", entry.callout.id, entry.callout.title, entry.answer().as_str())?;
        for (head, text) in rows(entry) {
            writeln!(out, "  {head:10} {text}")?;
        }
    }
    for (id, reason) in &proof.excepted {
        writeln!(out, "\n{id}: excepted from strict mode\n  {:10} {reason}", "why")?;
    }
    if !proof.undecided.is_empty() {
        writeln!(out, "\nNot decided (see the errors):")?;
        for (blocked, open) in &proof.undecided {
            writeln!(out, "  blocked {blocked} lies where allowed {open} is")?;
        }
    }
    writeln!(out, "\nWhat remains possible in any case:")?;
    proof.remains.iter().try_for_each(|line| writeln!(out, "  {line}"))
}

/// What is said of one entry, line by line.
fn rows(entry: &Entry) -> Vec<(&'static str, String)> {
    let callout = &entry.callout;
    let mut rows = vec![("why", format!("{}; {}", entry.reason, callout.first_source())), ("names", names(entry))];
    if !entry.known.is_empty() {
        rows.push(("addresses", some(&entry.known.shorts())));
    }
    rows.extend(origins(entry).into_iter().map(|line| ("sent by", line)));
    rows.extend(entry.stops.iter().map(|stop| (stop.target, stopped(stop))));
    rows.extend(entry.remains.iter().map(|remains| ("remains", remains.clone())));
    rows.push(("costs", costs(entry)));
    rows.push(("switch", callout.details().off_switch.as_ref().map_or("not known", Text::as_str).to_owned()));
    rows
}

/// Prints it in Markdown.
///
/// # Errors
/// Those of the writer.
pub fn markdown(proof: &Proof, out: &mut impl Write) -> io::Result<()> {
    let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
    writeln!(out, "# Strict mode at {}\n\n**{}** {}\n", cell(proof.site.as_str()), headline(proof), relative(proof))?;
    writeln!(out, "| target | files |\n|---|---|")?;
    for written in &proof.targets {
        writeln!(out, "| {} | {} |", written.target, written.state.as_str())?;
    }
    for entry in &proof.entries {
        let callout = &entry.callout;
        writeln!(
            out,
            "\n## `{}`: {}\n\n**{}.** {}\n",
            callout.id,
            cell(callout.title.as_str()),
            entry.answer().as_str(),
            cell(callout.purpose.as_str())
        )?;
        writeln!(out, "| | |\n|---|---|")?;
        for (head, text) in rows(entry) {
            writeln!(out, "| {head} | {} |", cell(&text))?;
        }
    }
    if !proof.excepted.is_empty() {
        writeln!(out, "\n## Excepted\n\n| entry | why |\n|---|---|")?;
        for (id, reason) in &proof.excepted {
            writeln!(out, "| `{id}` | {} |", cell(reason.as_str()))?;
        }
    }
    if !proof.undecided.is_empty() {
        writeln!(out, "\n## Not decided\n\n| blocked | lies where allowed |\n|---|---|")?;
        for (blocked, open) in &proof.undecided {
            writeln!(out, "| {} | {} |", cell(&blocked.to_string()), cell(&open.to_string()))?;
        }
    }
    writeln!(out, "\n## What remains possible in any case\n")?;
    proof.remains.iter().try_for_each(|line| writeln!(out, "- {}", cell(line)))
}

/// The same for programs.
#[must_use]
pub fn json(proof: &Proof) -> Value {
    let entries: Vec<Value> = proof.entries.iter().map(entry).collect();
    let targets: Vec<Value> = proof
        .targets
        .iter()
        .map(|written| json!({"target": written.target, "files": written.state.as_str()}))
        .collect();
    let undecided: Vec<Value> = proof
        .undecided
        .iter()
        .map(|(blocked, open)| json!({"blocked": blocked.to_string(), "allowed": open.to_string()}))
        .collect();
    json!({
        "format_version": FORMAT_VERSION,
        "site": proof.site.as_str(),
        "release": proof.release,
        "holds": proof.holds(),
        "answers_of": proof.answered.map(|day| day.to_string()),
        "targets": targets,
        "blocked": entries,
        "excepted": proof.excepted.iter().map(|(id, why)| json!({"callout": id.as_str(), "reason": why.as_str()})).collect::<Vec<_>>(),
        "undecided": undecided,
        "remains": proof.remains,
    })
}

fn entry(entry: &Entry) -> Value {
    let callout = &entry.callout;
    let words = |origins: Origins| origins.iter().map(|o| o.as_str()).collect::<Vec<_>>();
    json!({
        "callout": callout.id.as_str(),
        "title": callout.title.as_str(),
        "class": callout.class.as_str(),
        "reason": entry.reason,
        "source": callout.first_source(),
        "answer": entry.answer().as_str(),
        "names": callout.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "addresses": entry.known.shorts(),
        "covered": words(entry.covered),
        "uncovered": words(entry.uncovered),
        "stops": entry.stops.iter().map(stop).collect::<Vec<_>>(),
        "remains": entry.remains,
        "costs": {"level": callout.blocked.as_str(), "effect": callout.details().blocked_effect.as_ref().map(Text::as_str)},
        "off_switch": callout.details().off_switch.as_ref().map(Text::as_str),
    })
}

fn stop(stop: &Stopped) -> Value {
    let why = match &stop.verdict {
        Verdict::Rule | Verdict::Rest => None,
        Verdict::NotHere(why) | Verdict::Open(why) => Some(why),
    };
    let places: Vec<Value> = stop
        .places
        .iter()
        .map(|Place { by, file, line }| json!({"by": by.as_str(), "file": file, "line": line}))
        .collect();
    json!({"target": stop.target, "verdict": stop.verdict.as_str(), "why": why, "rules": places})
}

/// The one answer.
#[must_use]
pub fn headline(proof: &Proof) -> String {
    let count = |answer| proof.entries.iter().filter(|entry| entry.answer() == answer).count();
    let (yes, open, no) = (count(Answer::Yes), count(Answer::NotCovered), count(Answer::No));
    let all = proof.entries.len();
    if all == 0 {
        return "nothing is blocked: strict mode is off.".to_owned();
    }
    if !proof.holds() {
        let which = if yes == 0 {
            "a claim does not hold".to_owned()
        } else {
            format!("{yes} of {all} blocked callouts can leave")
        };
        return format!("the claim does not hold: {which}.");
    }
    match open {
        0 => format!("none of the {all} blocked callouts can leave."),
        _ => format!("{no} of {all} blocked callouts cannot leave; {open} are not covered by these rules."),
    }
}

/// What does not stop an entry, target by target.
#[must_use]
pub fn open(entry: &Entry) -> String {
    let open = entry.stops.iter().filter_map(|stop| match &stop.verdict {
        Verdict::Open(why) => Some(format!("{}: {why}", stop.target)),
        _ => None,
    });
    open.collect::<Vec<_>>().join("\n")
}

/// What all of it is relative to.
fn relative(proof: &Proof) -> String {
    match proof.answered {
        Some(day) => format!(
            "This is as true as the answers of {day} in the lock, and holds for traffic that passes these targets with these files loaded."
        ),
        None => "There is no lock, so nothing is claimed about addresses; it holds for traffic that passes these targets with these files loaded.".to_owned(),
    }
}

fn names(entry: &Entry) -> String {
    entry.callout.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn origins(entry: &Entry) -> Vec<String> {
    let who = |origin: Origin| match origin {
        Origin::Nas => "the appliance",
        Origin::Browser => "the administrator's browser",
        Origin::Jail => "jails",
        Origin::App => "apps",
    };
    let covered = entry.covered.iter().map(|origin| who(origin).to_owned());
    let uncovered = entry.uncovered.iter().map(|origin| {
        format!("{}, and no clients of that kind are named: this traffic is not covered by the rules", who(origin))
    });
    covered.chain(uncovered).collect()
}

fn stopped(stop: &Stopped) -> String {
    let places: Vec<String> =
        stop.places.iter().map(|Place { by, file, line }| format!("{file}:{line} (by {})", by.as_str())).collect();
    let verdict = stop.verdict.as_str();
    match &stop.verdict {
        Verdict::Rule | Verdict::Rest => format!("{verdict}: {}", places.join(", ")),
        Verdict::NotHere(why) => format!("{verdict}: {why}"),
        Verdict::Open(why) => format!("OPEN: {why}"),
    }
}

fn costs(entry: &Entry) -> String {
    let callout = &entry.callout;
    let effect = callout.details().blocked_effect.as_ref().map_or("not known", Text::as_str);
    if costs_nothing(callout) { effect.to_owned() } else { format!("{effect} ({})", callout.blocked.as_str()) }
}

//! Why something is let out or not, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::IpAddr;

use serde_json::{Value, json};

use super::json::FORMAT_VERSION;
use super::some;
use crate::addrs::{self, AddrSet};
use crate::callout::Origin;
use crate::explain::nearest::Near;
use crate::explain::question::{NoQuestion, Question, Sighting, To};
use crate::explain::summary::{Row, Summary};
use crate::explain::{Answer, Asker, AtTarget, Held, Standing, Trace, rules};
use crate::ruleset::Rule;
use crate::source::Sources;
use crate::text::quoted;

/// Most rows of a summary that are printed for a person.
const ROWS: usize = 40;

/// Prints one answer.
///
/// # Errors
/// Those of the writer.
pub fn text(
    sighting: &Sighting,
    answer: &Answer<'_>,
    near: &[Near],
    sources: &Sources,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{}", asked(&sighting.question))?;
    if let Some(log) = &sighting.log {
        let became = match log.allowed {
            Some(true) => "let out",
            Some(false) => "denied",
            None => "not said",
        };
        writeln!(out, "  {:10} {} ({})", "log", became, log.target)?;
    }
    for client in &answer.clients {
        writeln!(out, "\n{}: {}", who(client), headline(client))?;
        for rule in deciding(client) {
            let callout = &rule.callout;
            let ports: Vec<String> = rule.ports.iter().map(ToString::to_string).collect();
            writeln!(out, "  {}: {} ({}), {}", rule.key, callout.title, callout.class.as_str(), ports.join(", "))?;
            writeln!(out, "    {:8} {}; {}", "why", rule.reason, callout.first_source())?;
            writeln!(out, "    {:8} {}", "written", written(rule, sources))?;
        }
        for at in &client.at {
            for line in target_lines(at) {
                writeln!(out, "  {:10} {line}", at.target.name)?;
            }
        }
    }
    if !answer.traces.is_empty() {
        writeln!(out)?;
    }
    for trace in &answer.traces {
        writeln!(out, "  {:10} {}", "lock", trace_line(trace))?;
    }
    for near in near {
        writeln!(out, "  {:10} {near}", "near")?;
    }
    Ok(())
}

/// Prints what many questions come to.
///
/// # Errors
/// Those of the writer.
pub fn summary(summary: &Summary<'_>, out: &mut impl Write) -> io::Result<()> {
    let total = |allows: Option<bool>| -> u64 { rows(summary, allows).map(|row| row.count).sum() };
    let unread: u64 = summary.unread.values().sum();
    write!(
        out,
        "{}: {} denied, {} allowed",
        count(summary.lines() + unread, "line"),
        total(Some(false)),
        total(Some(true))
    )?;
    for (number, what) in [(total(None), "not limited"), (unread, "not understood")] {
        if number > 0 {
            write!(out, ", {number} {what}")?;
        }
    }
    writeln!(out)?;
    for (allows, head) in [(Some(false), "Denied"), (Some(true), "Allowed"), (None, "Not limited")] {
        let all: Vec<&Row<'_>> = rows(summary, allows).collect();
        if all.is_empty() {
            continue;
        }
        writeln!(out, "\n{head}")?;
        for row in all.iter().take(ROWS) {
            let from = row.sighting.question.client.map(|client| format!("{client} -> ")).unwrap_or_default();
            let log = row.sighting.log.map(|log| format!(" ({})", log.target)).unwrap_or_default();
            let (to, why) = (place(&row.sighting.question), short(row.standing.as_ref()));
            writeln!(out, "  {:>8}  {from}{to}: {why}{log}", row.count)?;
            for near in &row.near {
                writeln!(out, "  {:8}  {near}", "")?;
            }
        }
        if all.len() > ROWS {
            writeln!(out, "  and {} more; `--format json` has all of them", all.len() - ROWS)?;
        }
    }
    for line in remarks(summary) {
        writeln!(out, "\n{line}")?;
    }
    Ok(())
}

/// What is to be said of all lines together.
fn remarks(summary: &Summary<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let denied: Vec<&Row<'_>> = rows(summary, Some(false)).collect();
    if !denied.is_empty() {
        let places: BTreeSet<String> = denied.iter().map(|row| place(&row.sighting.question)).collect();
        let times: u64 = denied.iter().map(|row| row.count).sum();
        let documented: BTreeSet<String> =
            denied.iter().filter(|row| row.is_documented()).map(|row| place(&row.sighting.question)).collect();
        let known = match documented.len() {
            0 => "none of them is a documented callout without a rule here".to_owned(),
            1 => "1 of them is a documented callout without a rule here".to_owned(),
            n => format!("{n} of them are documented callouts without a rule here"),
        };
        let were = if places.len() == 1 { "was" } else { "were" };
        lines.push(format!("{} {were} denied {}; {known}.", count(places.len(), "destination"), count(times, "time")));
    }
    let contrary: u64 = summary.rows.iter().filter(|row| row.contradicts()).map(|row| row.count).sum();
    if contrary > 0 {
        let say = if contrary == 1 { "line says" } else { "lines say" };
        lines.push(format!(
            "{contrary} {say} otherwise than these rules: when it was logged, the enforcer had others loaded."
        ));
    }
    for (NoQuestion(why), times) in &summary.unread {
        lines.push(format!("Not understood: {}: {why}.", count(*times, "line")));
    }
    lines
}

/// Prints one line of many: verdict, rule, what was asked; between tabs.
///
/// # Errors
/// Those of the writer.
pub fn line<'a>(
    line: &str,
    read: &Result<Sighting, NoQuestion>,
    standing: impl Fn(&Sighting) -> Option<Standing<'a>>,
    out: &mut impl Write,
) -> io::Result<()> {
    match read {
        Ok(sighting) => {
            let standing = standing(sighting);
            let (verdict, rule) = (word(standing.as_ref()), rule_of(standing.as_ref()));
            match (&sighting.question, rule) {
                // The most common, and the quickest.
                (Question { client: None, to: To::Addr(addr), port: None, .. }, rule) => {
                    let addr = addrs::short(&(*addr).into());
                    for part in [verdict, "\t", rule.unwrap_or("-"), "\t", &addr, "\n"] {
                        out.write_all(part.as_bytes())?;
                    }
                    Ok(())
                }
                (question, rule) => writeln!(out, "{verdict}\t{}\t{}", rule.unwrap_or("-"), asked(question)),
            }
        }
        Err(NoQuestion(why)) => writeln!(out, "not understood\t-\t{}: {why}", quoted(line.trim_end())),
    }
}

/// The same for programs, an object a line.
#[must_use]
pub fn line_json<'a>(
    line: &str,
    read: &Result<Sighting, NoQuestion>,
    standing: impl Fn(&Sighting) -> Option<Standing<'a>>,
) -> Value {
    match read {
        Ok(sighting) => {
            let standing = standing(sighting);
            let mut value = question_json(sighting);
            value["verdict"] = word(standing.as_ref()).into();
            value["rule"] = rule_of(standing.as_ref()).into();
            value
        }
        Err(NoQuestion(why)) => json!({"line": quoted(line.trim_end()), "error": why}),
    }
}

/// Some answers as one document.
#[must_use]
pub fn document(answers: Vec<Value>) -> Value {
    json!({"format_version": FORMAT_VERSION, "answers": answers})
}

/// One answer.
#[must_use]
pub fn json(sighting: &Sighting, answer: &Answer<'_>, near: &[Near], sources: &Sources) -> Value {
    let clients: Vec<Value> = answer
        .clients
        .iter()
        .map(|client| {
            json!({
                "origins": client.origins.iter().map(|origin| origin.as_str()).collect::<Vec<_>>(),
                "addresses": client.addrs.shorts(),
                "verdict": headline(client),
                "rules": deciding(client).into_iter().map(|rule| rule_json(rule, sources)).collect::<Vec<_>>(),
                "targets": client.at.iter().map(target_json).collect::<Vec<_>>(),
            })
        })
        .collect();
    let traces: Vec<Value> = answer
        .traces
        .iter()
        .map(|trace| {
            let addresses: Vec<Value> = trace
                .addrs
                .iter()
                .map(|(addr, seen)| {
                    json!({"address": addr, "first_seen": seen.first.to_string(), "missing_since": seen.missing.map(|day| day.to_string())})
                })
                .collect();
            json!({
                "name": trace.name.to_string(),
                "chain": trace.chain.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "addresses": addresses,
            })
        })
        .collect();
    let mut value = question_json(sighting);
    value["clients"] = clients.into();
    value["lock"] = traces.into();
    value["near"] = near_json(near);
    value
}

/// A summary.
#[must_use]
pub fn summary_json(summary: &Summary<'_>) -> Value {
    let rows: Vec<Value> = summary
        .rows
        .iter()
        .map(|row| {
            let mut value = question_json(&row.sighting);
            value["count"] = row.count.into();
            value["verdict"] = word(row.standing.as_ref()).into();
            value["rule"] = rule_of(row.standing.as_ref()).into();
            value["contradicts_log"] = row.contradicts().into();
            value["near"] = near_json(&row.near);
            value
        })
        .collect();
    let unread: Vec<Value> =
        summary.unread.iter().map(|(NoQuestion(why), count)| json!({"why": why, "count": count})).collect();
    json!({"format_version": FORMAT_VERSION, "destinations": rows, "not_understood": unread})
}

fn near_json(near: &[Near]) -> Value {
    near.iter().map(|near| json!({"kind": near.kind(), "text": near.to_string()})).collect()
}

fn question_json(sighting: &Sighting) -> Value {
    let Question { client, to, port, path } = &sighting.question;
    let (host, address) = match to {
        To::Name(host) => (Some(host.to_string()), None),
        To::Addr(addr) => (None, Some(addr)),
    };
    json!({
        "client": client,
        "host": host,
        "address": address,
        "port": port.map(|(_, port)| port),
        "protocol": port.map(|(protocol, _)| protocol.as_str()),
        "path": path,
        "log": sighting.log.map(|log| json!({"target": log.target, "allowed": log.allowed})),
    })
}

fn rule_json(rule: &Rule, sources: &Sources) -> Value {
    let callout = &rule.callout;
    json!({
        "rule": rule.key.as_str(),
        "action": rule.action.as_str(),
        "ports": rule.ports.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "callout": callout.id.as_str(),
        "title": callout.title.as_str(),
        "purpose": callout.purpose.as_str(),
        "class": callout.class.as_str(),
        "reason": rule.reason.as_str(),
        "source": callout.first_source(),
        "written": written(rule, sources),
    })
}

fn target_json(at: &AtTarget<'_>) -> Value {
    let says: Vec<Value> = at
        .says
        .iter()
        .map(|(addrs, standing)| {
            json!({
                "addresses": addrs.shorts(),
                "verdict": word(Some(standing)),
                "rules": held(standing).iter().map(|rule| rule.key.as_str()).collect::<Vec<_>>(),
                "there": held(standing).iter().filter_map(|rule| at.handle(Some(rule))).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({"target": at.target.name, "says": says, "notes": at.notes})
}

fn rows<'s, 'a>(summary: &'s Summary<'a>, allows: Option<bool>) -> impl Iterator<Item = &'s Row<'a>> {
    summary.rows.iter().filter(move |row| row.allows() == allows)
}

fn count(number: impl TryInto<u64>, what: &str) -> String {
    match number.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// The rules that decide: they allow, or deny.
fn held<'a>(standing: &Standing<'a>) -> Vec<&'a Rule> {
    match standing {
        Standing::Allowed(held) => rules(held),
        Standing::Denied(held) => vec![held.rule],
        Standing::Rest(_) | Standing::NotLimited => Vec::new(),
    }
}

fn rule_of<'a>(standing: Option<&Standing<'a>>) -> Option<&'a str> {
    let first: Option<&Held<'a>> = match standing? {
        Standing::Allowed(held) => held.first(),
        Standing::Denied(held) => Some(held),
        Standing::Rest(_) | Standing::NotLimited => None,
    };
    first.map(|held| held.rule.key.as_str())
}

fn word(standing: Option<&Standing<'_>>) -> &'static str {
    match standing {
        Some(Standing::Allowed(_)) => "allowed",
        Some(Standing::Denied(_) | Standing::Rest(_)) => "denied",
        Some(Standing::NotLimited) => "not limited",
        None => "no client",
    }
}

fn short(standing: Option<&Standing<'_>>) -> String {
    let Some(standing) = standing else { return "no client has such an address".to_owned() };
    let why = held(standing).iter().map(|rule| format!("{} ({})", rule.key, rule.reason)).collect::<Vec<_>>();
    match standing {
        Standing::Allowed(_) | Standing::Denied(_) => some(&why),
        Standing::Rest(_) => "no rule allows it".to_owned(),
        Standing::NotLimited => "no client of this site that rules limit".to_owned(),
    }
}

/// Every rule that decides somewhere, each once.
fn deciding<'a>(client: &Asker<'a>) -> Vec<&'a Rule> {
    let mut all: Vec<&Rule> = Vec::new();
    for rule in client.at.iter().flat_map(|at| &at.says).flat_map(|(_, standing)| held(standing)) {
        if all.iter().all(|other| other.key != rule.key) {
            all.push(rule);
        }
    }
    all
}

/// One word for all targets, where they agree; else which target says what.
fn headline(client: &Asker<'_>) -> String {
    let mut verdicts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for at in &client.at {
        for (_, standing) in &at.says {
            verdicts.entry(word(Some(standing))).or_default().insert(at.target.name);
        }
    }
    match verdicts.len() {
        0 => "no target here decides that".to_owned(),
        1 => verdicts.into_keys().collect(),
        _ => {
            let at = |(verdict, targets): (&str, BTreeSet<&str>)| {
                format!("{verdict} at {}", targets.into_iter().collect::<Vec<_>>().join(", "))
            };
            verdicts.into_iter().map(at).collect::<Vec<_>>().join("; ")
        }
    }
}

fn who(client: &Asker<'_>) -> String {
    let origins: Vec<&str> = client.origins.iter().map(Origin::as_str).collect();
    let kind = if origins.is_empty() { "no client of this site".to_owned() } else { origins.join(", ") };
    format!("{kind} ({})", some(&client.addrs.shorts()))
}

fn asked(question: &Question) -> String {
    let from = question.client.map(|client| format!("{client} -> ")).unwrap_or_default();
    format!("{from}{}", place(question))
}

fn place(question: &Question) -> String {
    let path = question.path.as_deref().filter(|path| *path != "/").map(quoted).unwrap_or_default();
    let to = match (&question.to, question.port) {
        (To::Name(host), _) => host.to_string(),
        (To::Addr(addr @ IpAddr::V6(_)), Some(_)) => format!("[{addr}]"),
        (To::Addr(addr), _) => addr.to_string(),
    };
    match question.port {
        Some((protocol, port)) => {
            format!("{to}:{port}/{protocol}{}", if path.is_empty() { path } else { format!(" {path}") })
        }
        None => to,
    }
}

fn written(rule: &Rule, sources: &Sources) -> String {
    let span = &rule.callout.span;
    format!("{}:{}", sources.get(span.source).path, sources.line_column(span).0)
}

/// What one target says, a line each.
fn target_lines(at: &AtTarget<'_>) -> Vec<String> {
    let several = at.says.len() > 1;
    let mut lines: Vec<String> = at
        .says
        .iter()
        .map(|(addrs, standing)| {
            let where_to =
                |addrs: &AddrSet| if several { format!(" at {}", some(&addrs.shorts())) } else { String::new() };
            let there: Vec<String> = match standing {
                Standing::Rest(_) => at.handle(None).into_iter().collect(),
                standing => held(standing).iter().filter_map(|rule| at.handle(Some(rule))).collect(),
            };
            let there = if there.is_empty() { String::new() } else { format!(": {}", there.join("; ")) };
            format!("{}{}{there}", standing.as_str(), where_to(addrs))
        })
        .collect();
    let notes = at.notes.join("; ");
    match lines.last_mut() {
        _ if notes.is_empty() => {}
        Some(last) => *last += &format!(" ({notes})"),
        None => lines.push(notes),
    }
    lines
}

fn trace_line(trace: &Trace<'_>) -> String {
    let through: String = trace.chain.iter().map(|alias| format!(" -> {alias}")).collect();
    let addrs: Vec<String> = trace
        .addrs
        .iter()
        .map(|(addr, seen)| {
            let gone = seen.missing.map(|day| format!(", no longer answered since {day}")).unwrap_or_default();
            format!("{addr} (since {}{gone})", seen.first)
        })
        .collect();
    format!("{}{through} -> {}", trace.name, if addrs.is_empty() { "no address".to_owned() } else { some(&addrs) })
}

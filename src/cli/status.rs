//! `outgate status`

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::many::{self, Several};
use super::{Format, Run, SiteArgs, Stop, lists, resolve};
use crate::coverage::{self, percent};
use crate::diagnostic::{Code, Diagnostic};
use crate::freshness;
use crate::lock::{Lock, Wanted};
use crate::report::{self, table::Table};
use crate::status::{Mark, Name, Status};
use crate::terms::Reaction;

#[derive(Args)]
pub(super) struct StatusArgs {
    /// Profiles that share one lock [default: the one of -c]
    #[arg(value_name = "PROFILE", conflicts_with_all = ["config", "release"])]
    profiles: Vec<PathBuf>,
    #[command(flatten)]
    several: Several,
    #[command(flatten)]
    site: SiteArgs,
    /// The lock to read [default: outgate.lock beside the profile]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
}

pub(super) fn run(run: &mut Run, args: &StatusArgs) -> Result<(), Stop> {
    if args.lock.is_none() {
        run.keep_off_site(&args.site, "--lock FILE")?;
    }
    let (profiles, lock) = many::together(run, &args.profiles, &args.several, &args.site, args.lock.as_deref())?;
    let (policies, path, _) = resolve::policies(run, &profiles, &args.site, lock.as_deref())?;
    let Some(lock) = resolve::read(run, &path)? else {
        let diagnostic = Diagnostic::new(Code::NotInLock, format!("there is no lock {}", path.display()));
        return run.stop(diagnostic.help("run `outgate resolve`"));
    };
    let today = run.today()?;
    let wanted = Wanted::of(&policies);
    let status = Status::of(&wanted, &lock, today);
    find(run, &status);
    freshness::judge(&freshness::ages(&wanted, &lock, today), &lock, today, false, &mut run.findings);
    freshness::judge_lists(&freshness::list_ages(&wanted, &lock, today), false, &mut run.findings);
    lists::find(run, &wanted, &lock);
    for policy in policies.iter().filter(|policy| resolve::goes_by_address(&policy.settings)) {
        coverage::judge(policy, &lock, None, &mut run.findings);
    }
    if run.format == Format::Json {
        let mut out = report::terminal::stdout();
        writeln!(out, "{:#}", as_json(&status, &lock, &path))?;
    } else if !run.quiet {
        print(&status, &path, run.format == Format::Markdown)?;
    }
    Ok(())
}

/// What the lock lacks, and what fails.
pub(super) fn find(run: &mut Run, status: &Status) {
    if !status.lacking.is_empty() {
        let message = format!("the lock lacks {}", quoted(&status.lacking));
        run.findings.push(Diagnostic::new(Code::NotInLock, message).help("run `outgate resolve`"));
    }
    for name in status.names.iter().filter(|name| !name.failing.is_empty()) {
        run.findings.push(
            Diagnostic::new(Code::LookupFailed, format!("`{}`: {}", name.query, failing(name)))
                .help("look why; a name that is gone wants `on-failure` in the profile, or `leave-out`"),
        );
    }
}

/// What fails and what becomes of it, in words.
fn failing(name: &Name) -> String {
    let each = name.failing.iter().map(|failing| {
        let then = match failing.reaction {
            Reaction::Keep if name.coverage.known == 0 => "nothing is known of it".to_owned(),
            Reaction::Keep => format!("what is known is kept, too old on {}", name.stale_on()),
            Reaction::Drop => "what was known is dropped".to_owned(),
            Reaction::Fail => "no run succeeds until it is answered".to_owned(),
        };
        format!("{} {} since {}; {then}", failing.kind.as_str(), failing.failure, failing.since)
    });
    // Both families mostly fail together, and in one way.
    let mut said: Vec<String> = each.collect();
    said.dedup_by_key(|text| text.split_once(' ').map(|(_, rest)| rest.to_owned()));
    match (said.as_slice(), name.failing.as_slice()) {
        ([one], [first, second]) => {
            one.replacen(first.kind.as_str(), &format!("{} and {}", first.kind.as_str(), second.kind.as_str()), 1)
        }
        _ => said.join("; "),
    }
}

fn print(status: &Status, path: &Path, markdown: bool) -> io::Result<()> {
    let mut out = report::terminal::stdout();
    writeln!(out, "{}: {}\n", path.display(), summary(status))?;
    let table = Table {
        head: vec!["name", "state", "age", "of", "addresses", "kept", "covered", "what"],
        right: vec![2, 3, 4, 5, 6],
        rows: status.names.iter().map(row).collect(),
    };
    let leaving = leaving(status);
    if markdown {
        table.markdown(&mut out)?;
        if !leaving.rows.is_empty() {
            writeln!(out)?;
            leaving.markdown(&mut out)?;
        }
    } else {
        table.text(&mut out)?;
        if !leaving.rows.is_empty() {
            writeln!(out)?;
            leaving.text(&mut out)?;
        }
    }
    let more = status.leaving().len() - leaving.rows.len();
    if more > 0 {
        writeln!(out, "{}and {more} more", if markdown { "\n" } else { "" })?;
    }
    let mut line = |title: &str, items: String| {
        if items.is_empty() {
            return Ok(());
        }
        if markdown { writeln!(out, "\n**{title}:** {items}") } else { writeln!(out, "\n{title}: {items}") }
    };
    line("lacking", quoted(&status.lacking))?;
    let unasked = if status.others.is_empty() { "nobody asks for" } else { "of other sites" };
    line(unasked, quoted(&status.unasked))?;
    line("serves", quoted(&status.serves))?;
    line("does not serve yet", quoted(&status.unserved))?;
    line("answered by", status.resolvers.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
}

fn quoted<T: Display>(items: &BTreeSet<T>) -> String {
    items.iter().map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", ")
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The whole of it in a line.
fn summary(status: &Status) -> String {
    let limits: BTreeSet<u16> = status.names.iter().map(|name| name.age.max_age).collect();
    let limit = match (limits.first(), limits.last()) {
        (Some(least), Some(most)) if least == most => format!(" (of {least})"),
        (Some(least), Some(most)) => format!(" (of {least} to {most})"),
        _ => String::new(),
    };
    let days = count(usize::try_from(status.days()).unwrap_or_default(), "day", "days");
    let mut parts = vec![format!(
        "{}, {}, of {}, {days} old{limit}",
        count(status.names.len(), "name", "names"),
        count(status.addresses(), "address", "addresses"),
        status.day,
    )];
    for mark in Mark::ALL {
        let number = status.count(mark);
        let words = match (mark, number) {
            (_, 0) => continue,
            (Mark::Stale, 1) => "is stale",
            (Mark::Stale, _) => "are stale",
            (Mark::Fails, 1) => "fails",
            (Mark::Fails, _) => "fail",
            (Mark::LowCoverage, 1) => "is covered badly",
            (Mark::LowCoverage, _) => "are covered badly",
            (Mark::Aging, 1) => "is aging",
            (Mark::Aging, _) => "are aging",
            (Mark::Rotates, 1) => "rotates",
            (Mark::Rotates, _) => "rotate",
        };
        parts.push(format!("{number} {words}"));
    }
    if !status.lacking.is_empty() {
        parts.push(format!("{} lacking", status.lacking.len()));
    }
    if let Some((next, _)) = status.leaving().first() {
        parts.push(format!("next expiry {}", next.on));
    }
    parts.join("; ")
}

fn row(name: &Name) -> Vec<String> {
    let marks: Vec<&str> = name.marks.iter().map(|mark| mark.as_str()).collect();
    let mut what = Vec::new();
    if !name.failing.is_empty() {
        what.push(failing(name));
    }
    if let Some(pool) = name.coverage.pool() {
        what.push(format!("pool of about {pool}"));
    }
    if let Some(next) = name.leaving.first() {
        what.push(format!("next leaves {}", next.on));
    }
    vec![
        name.query.to_string(),
        if marks.is_empty() { "fine".to_owned() } else { marks.join(",") },
        name.age.days.to_string(),
        name.age.max_age.to_string(),
        name.coverage.known.to_string(),
        name.leaving.len().to_string(),
        // What a rule holds at the most: samples may not know that new addresses keep coming.
        match (name.coverage.missed(), name.coverage.covered()) {
            (Some(missed), _) => percent(1.0 - missed.share()),
            (None, Some(covered)) => percent(covered),
            (None, None) => "-".to_owned(),
        },
        what.join("; "),
    ]
}

/// The addresses that leave next.
fn leaving(status: &Status) -> Table {
    /// Enough to see what comes; a program reads all of them from JSON.
    const SHOWN: usize = 10;
    let rows = status.leaving().into_iter().take(SHOWN).map(|(leaving, query)| {
        vec![leaving.on.to_string(), leaving.addr.to_string(), query.to_string(), leaving.missing.to_string()]
    });
    Table { head: vec!["leaves", "address", "name", "missing since"], right: Vec::new(), rows: rows.collect() }
}

fn strings<T: Display>(items: &BTreeSet<T>) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// A share to three places: more would be a precision no estimate has.
fn share(share: f64) -> f64 {
    (share * 1000.0).round() / 1000.0
}

fn as_json(status: &Status, lock: &Lock, path: &Path) -> Value {
    let marks = Mark::ALL.map(|mark| (mark.as_str().to_owned(), json!(status.count(mark))));
    json!({
        "format_version": report::json::FORMAT_VERSION,
        "lock": path.display().to_string(),
        "today": status.today.to_string(),
        "day": status.day.to_string(),
        "age_days": status.days(),
        "note": lock.note.as_ref().map(ToString::to_string),
        "summary": {
            "names": status.names.len(),
            "addresses": status.addresses(),
            "kept": status.names.iter().map(|name| name.leaving.len()).sum::<usize>(),
            "lacking": status.lacking.len(),
            "next_expiry": status.leaving().first().map(|(leaving, _)| leaving.on.to_string()),
            "marks": marks.into_iter().collect::<serde_json::Map<_, _>>(),
        },
        "names": status.names.iter().map(name_json).collect::<Vec<_>>(),
        "lacking": strings(&status.lacking),
        "unasked": strings(&status.unasked),
        "serves": strings(&status.serves),
        "unserved": strings(&status.unserved),
        "other_sites": strings(&status.others),
        "resolvers": strings(&status.resolvers),
    })
}

fn name_json(name: &Name) -> Value {
    let failing = name.failing.iter().map(|failing| {
        let reaction = Reaction::NAMES.iter().find(|(_, reaction)| *reaction == failing.reaction);
        json!({
            "type": failing.kind.as_str(),
            "how": failing.failure.as_str(),
            "since": failing.since.to_string(),
            "reaction": reaction.map(|(word, _)| word),
        })
    });
    let leaving = name.leaving.iter().map(|leaving| {
        json!({
            "address": leaving.addr.to_string(),
            "missing": leaving.missing.to_string(),
            "leaves": leaving.on.to_string(),
        })
    });
    let coverage = &name.coverage;
    json!({
        "name": name.query.to_string(),
        "marks": name.marks.iter().map(|mark| mark.as_str()).collect::<Vec<_>>(),
        "of": name.age.of.to_string(),
        "age_days": name.age.days,
        "max_age": name.age.max_age,
        "stale_on": name.stale_on().to_string(),
        "failing": failing.collect::<Vec<_>>(),
        "addresses": coverage.known,
        "answered": coverage.answered,
        "kept": name.leaving.len(),
        "keep_days": name.keep_days,
        "leaving": leaving.collect::<Vec<_>>(),
        "coverage": {
            "samples": coverage.sampled.map(|sampled| sampled.times),
            "pool": coverage.pool(),
            "covered": coverage.covered().map(share),
            "new_in_newest": coverage.fresh,
            "days_with_new": coverage.arrivals,
            "missed": coverage.missed().map(|missed| share(missed.share())),
        },
        "by": strings(&name.by),
        "authentic": name.authentic,
    })
}

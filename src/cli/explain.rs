//! `outgate explain`

use std::io::{self, BufRead, BufWriter, IsTerminal, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::git::Revision;
use super::{Format, Run, SiteArgs, Stop, resolve};
use crate::callout::Origin;
use crate::catalog::Catalog;
use crate::diagnostic::{Code, Diagnostic, suggest};
use crate::explain::nearest::{self, Near};
use crate::explain::question::{self, Question, Sighting, To};
use crate::explain::summary::{self, Tally};
use crate::explain::{self, Answer, Explainer};
use crate::host::Query;
use crate::lock::Lock;
use crate::policy;
use crate::profile::Profile;
use crate::report;
use crate::ruleset::{self, Ruleset};
use crate::target::wall::Wall;
use crate::target::{self, TARGETS, Target};
use crate::text::quoted;

#[derive(Args)]
pub(super) struct Explain {
    /// A host, an address, either with a port (`host:443`, `[2001:db8::1]:123/udp`), a URL, or a line of the log of
    /// nftables, pf, OPNsense or Squid; `-`, or nothing in a pipe: lines from standard input, summed up
    #[arg(value_name = "WHAT")]
    what: Vec<String>,
    /// Who asks: nas, admin, jails, apps, or an address [default: the log's client, or each of the site's]
    #[arg(long, value_name = "CLIENT")]
    from: Option<String>,
    /// Only at this target; may be given several times
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// A line of answer for each line of input, such as an address, in place of the sum: verdict, rule, what was asked
    #[arg(long)]
    each: bool,
    #[command(flatten)]
    site: SiteArgs,
    /// The lock to read [default: outgate.lock beside the profile]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
}

/// What there is to say of each finding, as the documentation has it.
const FINDINGS: &str = include_str!("../../docs/findings.md");

pub(super) fn run(run: &mut Run, args: &Explain) -> Result<(), Stop> {
    if let [word] = args.what.as_slice()
        && let Some(code) = Code::ALL.iter().find(|code| code.as_str().eq_ignore_ascii_case(word))
    {
        run.exit = Some(0);
        return finding(run, *code);
    }
    if run.format == Format::Csv || run.format == Format::Markdown {
        return run.stop(Diagnostic::new(Code::BadUsage, "an explanation is printed as text or JSON"));
    }
    let only = targets(run, &args.target)?;
    let from_input = args.what.is_empty() && !io::stdin().is_terminal() || args.what.iter().any(|what| what == "-");
    if args.what.is_empty() && !from_input {
        let diagnostic = Diagnostic::new(Code::BadUsage, "nothing is asked");
        return run.stop(diagnostic.help("name a host, an address, a URL or a line of a log, or pipe a log in"));
    }
    let sightings = if from_input { Vec::new() } else { written(run, &args.what)? };
    let before = std::mem::take(&mut run.findings);
    let site = read_site(run, args);
    // What the site has to say by itself is of no interest here, but for what keeps it from being one.
    let own = std::mem::replace(&mut run.findings, before);
    run.findings.extend(own.iter().filter(|finding| finding.severity() == crate::diagnostic::Severity::Error).cloned());
    let site = site?;
    let ruleset = &site.ruleset;
    if let Some(target) = only.iter().find(|target| !(target.chosen)(&ruleset.settings)) {
        let message = format!("the profile has no target `{}`", target.name);
        return run
            .stop(Diagnostic::new(Code::BadUsage, message).help("add it under `targets:`, or leave `--target` out"));
    }
    let from = args.from.as_ref().map(|word| client(run, word, ruleset)).transpose()?;
    let (plain, posts) = (Wall::by_address(ruleset), explain::posts(ruleset, &only));
    let explainer = Explainer::new(ruleset, site.lock.as_ref(), &plain, &posts);
    if from_input {
        return lines(run, args.each, from.as_ref(), &explainer, &site);
    }
    run.exit = Some(0);
    let mut out = report::terminal::stdout();
    let mut documents = Vec::new();
    for (number, mut sighting) in sightings.into_iter().enumerate() {
        let asked = with_client(&mut sighting, from.as_ref());
        let mut answer = explainer.answer(&sighting.question);
        if let Some(origin) = asked {
            answer.clients.retain(|client| client.origins.contains(origin));
        }
        let mut near = nearest::find(&explainer, &sighting.question, &answer, &site.catalog, &site.profile);
        near.extend(gone(&answer, &sighting.question, &site.lock_path));
        if run.format == Format::Json {
            documents.push(report::explain::json(&sighting, &answer, &near, &run.sources));
        } else {
            if number > 0 {
                writeln!(out)?;
            }
            report::explain::text(&sighting, &answer, &near, &run.sources, &mut out)?;
        }
    }
    if run.format == Format::Json {
        writeln!(out, "{:#}", report::explain::document(documents))?;
    }
    out.flush()?;
    Ok(())
}

/// Prints what a finding means and what to do about it.
fn finding(run: &Run, code: Code) -> Result<(), Stop> {
    let head = format!("| `{}` | ", code.as_str());
    let row = FINDINGS.lines().find_map(|line| line.strip_prefix(&head)).and_then(|rest| rest.strip_suffix(" |"));
    let (meaning, help) = row.and_then(|row| row.split_once(" | ")).unwrap_or((code.meaning(), ""));
    let severity = code.severity().as_str();
    let mut out = report::terminal::stdout();
    if run.format == Format::Json {
        let document = serde_json::json!({
            "format_version": report::json::FORMAT_VERSION,
            "code": code.as_str(), "severity": severity, "meaning": meaning, "help": help,
        });
        writeln!(out, "{document:#}")?;
    } else {
        writeln!(out, "{} ({severity})\n\n{meaning}\n\n{help}", code.as_str())?;
    }
    Ok(())
}

/// What questions are held against.
struct Site {
    catalog: std::sync::Arc<Catalog>,
    profile: Profile,
    lock: Option<Lock>,
    lock_path: PathBuf,
    ruleset: Ruleset,
}

fn read_site(run: &mut Run, args: &Explain) -> Result<Site, Stop> {
    let catalog = run.catalog()?;
    let named: Vec<String> = args.target.clone();
    let (profile, folder) = run.site(&args.site, &named, &catalog)?;
    let policy = policy::decide(&catalog, &profile, &mut run.findings).ok_or(Stop::Found)?;
    let (lock_path, lock) = resolve::named_or_beside(run, args.lock.as_deref(), &folder)?;
    let ruleset = ruleset::build(&policy, lock.as_ref(), &mut run.findings);
    if run.findings.has_errors() { Err(Stop::Found) } else { Ok(Site { catalog, profile, lock, lock_path, ruleset }) }
}

fn targets(run: &mut Run, names: &[String]) -> Result<Vec<&'static Target>, Stop> {
    let mut found = Vec::new();
    for name in names {
        match target::find(name) {
            Some(target) => found.push(target),
            None => {
                let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
                let message = format!("there is no target `{}`", quoted(name));
                return run.stop(Diagnostic::new(Code::UnknownName, message).help(suggest(name, &known)));
            }
        }
    }
    Ok(found)
}

fn written(run: &mut Run, what: &[String]) -> Result<Vec<Sighting>, Stop> {
    let mut sightings = Vec::new();
    for text in what {
        match question::read(text) {
            Ok(sighting) => sightings.push(sighting),
            Err(question::NoQuestion(why)) => {
                let message = format!("`{}` {why}", quoted(text));
                let help = "ask for `host`, `host:443`, `192.0.2.1:123/udp`, `[2001:db8::1]:443`, a URL, or a whole line of a log in quotes";
                run.findings.push(Diagnostic::new(Code::BadUsage, message).help(help));
            }
        }
    }
    if run.findings.has_errors() { Err(Stop::Found) } else { Ok(sightings) }
}

/// Who asks.
enum Client {
    Addr(IpAddr),
    Origin(Origin),
}

fn client(run: &mut Run, word: &str, ruleset: &Ruleset) -> Result<Client, Stop> {
    if let Ok(addr) = word.parse() {
        return Ok(Client::Addr(addr));
    }
    // As the profile has them under `clients`, or the catalog under `origin`.
    let name = |origin: Origin| match origin {
        Origin::Nas => "nas",
        Origin::Browser => "admin",
        Origin::Jail => "jails",
        Origin::App => "apps",
    };
    let known: Vec<&str> = ruleset.clients.keys().map(|origin| name(*origin)).collect();
    match ruleset.clients.keys().find(|origin| origin.as_str() == word || name(**origin) == word) {
        Some(&origin) => Ok(Client::Origin(origin)),
        None => {
            let message = format!("the profile names no clients `{}`", quoted(word));
            run.stop(Diagnostic::new(Code::UnknownName, message).help(suggest(word, &known)))
        }
    }
}

/// Puts an asker into a question that has none. Returns the kind of client that alone is of interest.
fn with_client(sighting: &mut Sighting, from: Option<&Client>) -> Option<Origin> {
    match from? {
        Client::Addr(addr) => {
            sighting.question.client = Some(*addr);
            None
        }
        Client::Origin(origin) => Some(*origin).filter(|_| sighting.question.client.is_none()),
    }
}

/// Lines from standard input: summed up, or answered one by one.
fn lines(run: &mut Run, each: bool, from: Option<&Client>, explainer: &Explainer<'_>, site: &Site) -> Result<(), Stop> {
    run.exit = Some(0);
    let mut out = BufWriter::new(report::terminal::stdout());
    let mut input = io::stdin().lock();
    let mut tally = Tally::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        match input.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                let message = format!("cannot read standard input: {}", super::plain(&error));
                return run.stop(Diagnostic::new(Code::Unreadable, message));
            }
        }
        // A log may hold anything: what is not UTF-8 is no name and no address.
        let text = String::from_utf8_lossy(&line);
        if text.trim().is_empty() {
            continue;
        }
        let mut read = question::read(&text);
        if let Ok(sighting) = &mut read {
            face(sighting, from, explainer);
        }
        if !each {
            tally.add(read);
        } else if run.format == Format::Json {
            writeln!(out, "{}", report::explain::line_json(&text, &read, |s| summary::standing(explainer, s)))?;
        } else {
            report::explain::line(&text, &read, |s| summary::standing(explainer, s), &mut out)?;
        }
    }
    if !each {
        let summary = summary::sum(explainer, tally, &site.catalog, &site.profile);
        if run.format == Format::Json {
            writeln!(out, "{:#}", report::explain::summary_json(&summary))?;
        } else {
            report::explain::summary(&summary, &mut out)?;
        }
    }
    out.flush()?;
    Ok(())
}

/// Gives a question without a client the one that was named.
fn face(sighting: &mut Sighting, from: Option<&Client>, explainer: &Explainer<'_>) {
    let Some(origin) = with_client(sighting, from) else { return };
    let v4 = match sighting.question.to {
        To::Addr(addr) => addr.is_ipv4(),
        To::Name(_) => true,
    };
    let group = explainer.ruleset().clients.get(&origin);
    let addrs: Vec<IpAddr> = group.iter().flat_map(|group| group.addrs.prefixes()).map(|net| net.addr()).collect();
    sighting.question.client = addrs.iter().find(|addr| addr.is_ipv4() == v4).copied();
}

/// What the history of the lock says of a place that it does not hold now.
fn gone(answer: &Answer<'_>, question: &Question, lock_path: &Path) -> Option<Near> {
    if !answer.traces.is_empty() || answer.missed().is_empty() {
        return None;
    }
    let folder = lock_path.parent().unwrap_or(Path::new(""));
    let file = lock_path.file_name()?.to_str()?;
    let (commit, day) = Revision::last_to_change(folder, file, &nearest::in_lock(&question.to))?;
    let text = Revision::find(folder, &format!("{commit}^")).ok()?.text(file).ok()??;
    let mut sources = crate::source::Sources::default();
    let id = sources.add(file, text);
    let lock = Lock::parse(&sources, id).ok()?;
    let mut names: Vec<Query> = Vec::new();
    let (mut first, mut missing) = (None, None);
    match &question.to {
        To::Name(host) => _ = lock.hosts.get(&Query::Host(host.clone()))?,
        To::Addr(addr) => {
            for (name, seen) in lock.hosts.iter().filter_map(|(name, entry)| Some((name, entry.addresses.get(addr)?))) {
                names.push(name.clone());
                first = first.or(Some(seen.first));
                missing = missing.or(seen.missing);
            }
            if names.is_empty() {
                return None;
            }
        }
    }
    Some(Near::Gone { names, first, missing, commit: (commit, day) })
}

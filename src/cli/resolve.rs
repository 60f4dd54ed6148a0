//! `outgate resolve`

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::lists::{self, Places};
use super::many::{self, Several};
use super::{Format, Run, SiteArgs, Stop, plain, progress};
use crate::coverage;
use crate::diagnostic::{Code, Diagnostic, suggest};
use crate::files::{self, FileError, Held, Staged};
use crate::host::Query;
use crate::lock::changes::{Change, changes};
use crate::lock::{self, Lock, Wanted};
use crate::policy::{self, Policy};
use crate::report;
use crate::resolve::dns::{self, Dns};
use crate::resolve::{Heard, Reply, Resolve as _};
use crate::settings::Settings;
use crate::target::{Layer, TARGETS};
use crate::text::{Id, Text, quoted};

#[derive(Args)]
pub(super) struct Resolve {
    /// Profiles that share one lock [default: the one of -c]
    #[arg(value_name = "PROFILE", conflicts_with_all = ["config", "release"])]
    profiles: Vec<PathBuf>,
    #[command(flatten)]
    several: Several,
    #[command(flatten)]
    site: SiteArgs,
    #[command(flatten)]
    dns: DnsArgs,
    /// The lock to write [default: outgate.lock beside the profile]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Ask for this name only, and leave the others and all lists as they are; may be given several times
    #[arg(long, value_name = "NAME")]
    update: Vec<String>,
    /// Ask nothing: see whether the lock has every name, and take out those nobody asks for
    #[arg(long, conflicts_with_all = ["update", "resolver", "samples"])]
    offline: bool,
    /// Fail where the lock would change by more than its day, and write nothing
    #[arg(long)]
    locked: bool,
    /// Print what would change, and write nothing
    #[arg(long, conflicts_with = "locked")]
    dry_run: bool,
    /// A site the lock need not serve any more; may be given several times
    #[arg(long, value_name = "SITE")]
    forget: Vec<String>,
}

/// How names are asked.
#[derive(Args)]
pub(super) struct DnsArgs {
    /// Ask this name server: ADDR, ADDR:PORT, tls://ADDR#NAME or https://ADDR/PATH#NAME; given several times, all are asked and their answers put together
    /// [default: the system's, one after the other until one answers]
    #[arg(long, value_name = "ADDR")]
    resolver: Vec<dns::Server>,
    /// Ask so many times, to see more of a name whose addresses rotate
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    samples: u32,
    /// Seconds from one sample to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    spacing: u32,
    /// Seconds the asking may take in all, the spacing of samples not counted
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    budget: u32,
    /// A line to keep in the lock's head, such as from where the names were asked
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

pub(super) fn run(run: &mut Run, args: &Resolve) -> Result<(), Stop> {
    if args.lock.is_none() {
        run.keep_off_site(&args.site, "--lock FILE")?;
    }
    let (profiles, lock) = many::together(run, &args.profiles, &args.several, &args.site, args.lock.as_deref())?;
    let (policies, path, places) = policies(run, &profiles, &args.site, lock.as_deref())?;
    let mut wanted = Wanted::of(&policies);
    // Held from before the old lock is read until the new one is in its place: of two runs, the second sees what the
    // first wrote.
    let held = if args.locked || args.dry_run { None } else { Some(hold(run, &path)?) };
    let old = read(run, &path)?;
    let old = forget(run, old, &args.forget)?;
    wanted.only = only(run, args, &wanted, old.as_ref())?;
    let lock = match args.offline {
        true => offline(run, &wanted, old.as_ref())?,
        false => ask(run, &wanted, old.as_ref(), &args.dns, &places)?,
    };
    // Without asking there was no run to compare with.
    let before = old.as_ref().filter(|_| !args.offline);
    for policy in &policies {
        lock::blocked_aliases(policy, &lock, &mut run.findings);
        if goes_by_address(&policy.settings) {
            coverage::judge(policy, &lock, before, &mut run.findings);
        }
    }
    say_others(run, &wanted, &lock);
    if run.findings.has_errors() {
        return Err(Stop::Found);
    }
    let changes = changes(old.as_ref(), &lock);
    if args.locked && !changes.is_empty() {
        return run.stop(would_change(&path, &changes));
    }
    if let Some(held) = held {
        held.unchanged().or_else(|e| run.stop(unwritable(&e)))?;
        stage(run, &path, &lock)?.commit().or_else(|e| run.stop(unwritable(&e)))?;
    }
    print(run, &path, &lock, &changes, args.dry_run)
}

/// The policies of the sites that share the lock, where it lies, and where the files of their lists lie.
pub(super) fn policies(
    run: &mut Run,
    profiles: &[PathBuf],
    site: &SiteArgs,
    lock: Option<&Path>,
) -> Result<(Vec<Policy>, PathBuf, Places), Stop> {
    let catalog = run.catalog()?;
    let (mut policies, mut folders, mut places) = (Vec::new(), BTreeSet::new(), Places::new());
    if profiles.is_empty() {
        let (profile, folder) = run.site(site, &[], &catalog)?;
        let policy = policy::decide(&catalog, &profile, &mut run.findings).ok_or(Stop::Found)?;
        lists::gather(run, &policies, &policy, &folder, &mut places)?;
        policies.push(policy);
        folders.insert(folder);
    }
    for path in profiles {
        let (profile, folder) = run.profile(path, site, &catalog)?;
        let policy = policy::decide(&catalog, &profile, &mut run.findings).ok_or(Stop::Found)?;
        if policies.iter().any(|other: &Policy| other.site == policy.site) {
            let message = format!("two of the profiles are of the site `{}`", policy.site);
            let diagnostic = Diagnostic::new(Code::DuplicateId, message);
            return run.stop(diagnostic.help("a lock tells its sites by name: give each its own `site:`"));
        }
        lists::gather(run, &policies, &policy, &folder, &mut places)?;
        policies.push(policy);
        folders.insert(folder);
    }
    let path = match (lock, folders.pop_first()) {
        (Some(path), _) => path.to_owned(),
        (None, Some(folder)) if folders.is_empty() => folder.join("outgate.lock"),
        _ => {
            let diagnostic = Diagnostic::new(Code::BadUsage, "the profiles lie in several folders");
            return run
                .stop(diagnostic.help("name the lock they share with --lock FILE, or write an outgate-sites.yaml"));
        }
    };
    Ok((policies, path, places))
}

/// Whether a site has a target whose rules go by address, or names none and may yet have any.
pub(super) fn goes_by_address(settings: &Settings) -> bool {
    let mut chosen = TARGETS.iter().filter(|target| (target.chosen)(settings)).peekable();
    chosen.peek().is_none() || chosen.any(|target| target.layer == Layer::Addresses)
}

/// Takes hold of the lock's folder; waits for a run that has it.
pub(super) fn hold(run: &mut Run, path: &Path) -> Result<Held, Stop> {
    /// As long as the longest run with samples is likely to take.
    const PATIENCE: Duration = Duration::from_secs(600);
    let deadline = Instant::now() + PATIENCE;
    let mut said = false;
    loop {
        match files::hold(path) {
            Ok(Some(held)) => return Ok(held),
            Ok(None) if Instant::now() > deadline => {
                let message = format!("another run holds {}", path.display());
                return run.stop(Diagnostic::new(Code::Unwritable, message).help("wait for its end, or end it"));
            }
            Ok(None) => {
                if !said && !run.quiet {
                    said = true;
                    writeln!(report::terminal::stderr(), "waiting for another run that holds {}", path.display())?;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(error) => return run.stop(unwritable(&error)),
        }
    }
}

/// The lock without the sites that are to be forgotten.
fn forget(run: &mut Run, lock: Option<Lock>, sites: &[String]) -> Result<Option<Lock>, Stop> {
    let Some(mut lock) = lock else { return Ok(None) };
    for site in sites {
        let known: Vec<&str> = lock.sites.iter().map(Text::as_str).collect();
        let Some(found) = lock.sites.iter().find(|known| known.as_str() == site).cloned() else {
            let message = format!("the lock serves no site `{}`", quoted(site));
            return run.stop(Diagnostic::new(Code::UnknownName, message).help(suggest(site, &known)));
        };
        lock.sites.remove(&found);
    }
    Ok(Some(lock))
}

/// The names of `--update`, or none for `--offline`.
fn only(run: &mut Run, args: &Resolve, wanted: &Wanted, old: Option<&Lock>) -> Result<Option<BTreeSet<Query>>, Stop> {
    if args.offline {
        return Ok(Some(BTreeSet::new()));
    }
    if args.update.is_empty() {
        return Ok(None);
    }
    let names: Vec<String> = wanted.queries.keys().map(ToString::to_string).collect();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut only = BTreeSet::new();
    for name in &args.update {
        let query = Query::parse(name).ok().filter(|query| wanted.queries.contains_key(query));
        let Some(query) = query else {
            let message = format!("no rule of this site asks for `{}`", quoted(name));
            return run.stop(Diagnostic::new(Code::UnknownName, message).help(suggest(name, &known)));
        };
        only.insert(query);
    }
    if old.is_none() {
        let diagnostic = Diagnostic::new(Code::BadUsage, "there is no lock yet in which one name could be updated");
        return run.stop(diagnostic.help("run `outgate resolve` without --update first"));
    }
    Ok(Some(only))
}

/// The lock as far as it goes without asking.
fn offline(run: &mut Run, wanted: &Wanted, old: Option<&Lock>) -> Result<Lock, Stop> {
    let Some(old) = old else {
        let diagnostic = Diagnostic::new(Code::NotInLock, "there is no lock, and without asking there will be none");
        return run.stop(diagnostic.help("run `outgate resolve` where name servers can be reached"));
    };
    let missing: Vec<String> =
        wanted.needed(old).keys().filter(|query| !old.hosts.contains_key(query)).map(|q| format!("`{q}`")).collect();
    if !missing.is_empty() {
        let message = format!("the lock lacks {}", missing.join(", "));
        let diagnostic = Diagnostic::new(Code::NotInLock, message);
        return run.stop(diagnostic.help("run `outgate resolve` where name servers can be reached"));
    }
    lists::find(run, wanted, old);
    if run.findings.has_errors() {
        return Err(Stop::Found);
    }
    let today = run.today()?;
    Ok(lock::update(wanted, Some(old), &Heard::default(), today, None, &mut run.findings))
}

/// A lock that serves other sites too holds their names as well; that must not be forgotten when one is gone.
fn say_others(run: &mut Run, wanted: &Wanted, lock: &Lock) {
    let others: Vec<String> = lock.sites.difference(&wanted.sites).map(|site| format!("`{site}`")).collect();
    if !others.is_empty() {
        run.findings.push(
            Diagnostic::new(
                Code::OtherSites,
                format!("the lock serves {} too: their names are left as they are", others.join(", ")),
            )
            .help("name all profiles in one run to bring all up to date; take out a site that is gone with --forget"),
        );
    }
}

fn would_change(path: &Path, changes: &[Change]) -> Diagnostic {
    const SHOWN: usize = 10;
    let mut lines: Vec<String> = changes.iter().take(SHOWN).map(line).collect();
    if changes.len() > SHOWN {
        lines.push(format!("and {} more", changes.len() - SHOWN));
    }
    Diagnostic::new(Code::LockDiffers, format!("{} would change: {}", path.display(), lines.join("; ")))
        .help("run `outgate resolve` without --locked, and review what it writes")
}

/// A change in words.
fn line(change: &Change) -> String {
    match (&change.query, &change.range) {
        (Some(query), _) => format!("{query} {}", change.what),
        (None, Some(list)) => format!("list {list} {}", change.what),
        (None, None) => format!("the lock {}", change.what),
    }
}

fn print(run: &Run, path: &Path, lock: &Lock, changes: &[Change], dry: bool) -> Result<(), Stop> {
    let addresses: usize = lock.hosts.values().map(|entry| entry.addresses.len()).sum();
    let prefixes: usize = lock.ranges.values().map(|entry| entry.prefixes.len()).sum();
    let lists = match lock.ranges.len() {
        0 => String::new(),
        1 => format!(", 1 list of {prefixes} prefixes"),
        many => format!(", {many} lists of {prefixes} prefixes"),
    };
    let (shown, names) = (path.display().to_string(), lock.hosts.len());
    let mut out = report::terminal::stdout();
    if run.format == Format::Json {
        let changes: Vec<_> = changes
            .iter()
            .map(|change| {
                let name = change.query.as_ref().map(ToString::to_string);
                let list = change.range.as_ref().map(Id::as_str);
                serde_json::json!({"name": name, "list": list, "change": change.what.key(), "text": line(change)})
            })
            .collect();
        let document = serde_json::json!({
            "format_version": report::json::FORMAT_VERSION,
            "lock": shown,
            "written": !dry,
            "names": names,
            "addresses": addresses,
            "lists": lock.ranges.len(),
            "prefixes": prefixes,
            "changes": changes,
        });
        writeln!(out, "{document:#}")?;
        return Ok(());
    }
    if dry {
        for change in changes {
            writeln!(out, "{}", line(change))?;
        }
    }
    if !run.quiet {
        let count = match changes.len() {
            0 => "no change".to_owned(),
            1 => "1 change".to_owned(),
            many => format!("{many} changes"),
        };
        writeln!(
            out,
            "{shown}: {names} names, {addresses} addresses{lists}, {count}{}",
            if dry { ", not written" } else { "" }
        )?;
    }
    Ok(())
}

/// The lock at a path, if there is one; the one that was read already, where many sites share it.
pub(super) fn shared(run: &mut Run, path: &Path) -> Result<Option<Arc<Lock>>, Stop> {
    match run.shared.locks.get(path) {
        Some(lock) => Ok(lock.clone()),
        None => Ok(read(run, path)?.map(Arc::new)),
    }
}

/// The lock at a path, if there is one.
pub(super) fn read(run: &mut Run, path: &Path) -> Result<Option<Lock>, Stop> {
    // Not to be seen is not the same as not to be there: a lock taken for missing would lose its history.
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) => {
            let message = format!("cannot read {}: {}", path.display(), plain(&error));
            return run.stop(Diagnostic::new(Code::Unreadable, message));
        }
    }
    parse(run, path).map(Some)
}

/// The lock at a path, which must be there.
pub(super) fn parse(run: &mut Run, path: &Path) -> Result<Lock, Stop> {
    let buffer = run.buffer.take();
    let another = buffer.as_ref().is_some_and(Vec::is_empty);
    let id = run.read_into(path, buffer.unwrap_or_default())?;
    let lock = Lock::parse(&run.sources, id).or_else(|diagnostic| run.stop(diagnostic))?;
    let text = run.sources.forget(id);
    if another {
        run.buffer = Some(text.into_bytes());
    }
    Ok(lock)
}

/// The lock of a site, and its path: one that is named must be there, and the one beside the profile need not.
pub(super) fn named_or_beside(
    run: &mut Run,
    named: Option<&Path>,
    folder: &Path,
) -> Result<(PathBuf, Option<Lock>), Stop> {
    let path = named.map_or_else(|| folder.join("outgate.lock"), Path::to_owned);
    let lock = if named.is_some() { Some(parse(run, &path)?) } else { read(run, &path)? };
    Ok((path, lock))
}

/// Asks the names that are wanted.
pub(super) fn ask(
    run: &mut Run,
    wanted: &Wanted,
    old: Option<&Lock>,
    args: &DnsArgs,
    places: &Places,
) -> Result<Lock, Stop> {
    let note = match args.note.as_deref().map(Text::parse).transpose() {
        Ok(note) => note,
        Err(error) => return run.stop(Diagnostic::new(Code::BadUsage, format!("the note {error}"))),
    };
    let today = run.today()?;
    // Some names only: the lists stay as they are. All: they come first, for what is wrong with one is seen at once.
    let lists = match wanted.only {
        Some(_) => BTreeMap::new(),
        None => lock::ranges::update(wanted, old, lists::read(wanted, places), today, &mut run.findings),
    };
    if run.findings.has_errors() {
        return Err(Stop::Found);
    }
    let spacing = Duration::from_secs(args.spacing.into());
    let settings = dns::Settings {
        budget: Duration::from_secs(args.budget.into()) + spacing * (args.samples - 1),
        samples: args.samples,
        spacing,
        ..dns::Settings::default()
    };
    let asker =
        if args.resolver.is_empty() { Dns::system() } else { Ok(Dns::with_each(args.resolver.iter().cloned())) };
    let queries = wanted.asked();
    let heard =
        asker.and_then(|dns| progress::with_bar("asking", |tick| dns.with_settings(settings).resolve(&queries, tick)));
    let heard = match heard {
        Ok(heard) => heard,
        Err(error) => {
            let diagnostic = Diagnostic::new(Code::NoResolver, error.to_string());
            return run.stop(diagnostic.help("the lock is as it was; name a server with --resolver ADDR"));
        }
    };
    for (server, found) in &heard.silent {
        run.findings.push(
            Diagnostic::new(Code::Dissent, format!("{server} {found}"))
                .help("take it off the list, or look whether this machine may reach it over UDP and TCP"),
        );
    }
    if heard.out_of_time {
        run.findings.push(
            Diagnostic::new(Code::LookupFailed, format!("the {} seconds for the whole run were over", args.budget))
                .help("what was not asked by then counts as timeout; give more with --budget SECONDS"),
        );
    }
    let mut lock = lock::update(wanted, old, &heard, today, note, &mut run.findings);
    lock.take_lists(lists, today);
    lock::ranges::outside(wanted, &lock, &mut run.findings);
    let seen = |query: &Query| {
        lock.hosts.get(query).is_some_and(|entry| !entry.targets.is_empty() || entry.answered().next().is_some())
    };
    // A resolver that knows nothing at all is one that blocks, or one of an island: no lock is made of that.
    if !queries.is_empty() && !queries.iter().any(seen) {
        let message = format!("not one of {} names has an address that can be: {}", queries.len(), said(&heard));
        let diagnostic = Diagnostic::new(Code::NoResolver, message);
        return run.stop(diagnostic.help("the lock is as it was; ask another server with --resolver ADDR"));
    }
    Ok(lock)
}

/// What the name servers said to the first names.
fn said(heard: &Heard) -> String {
    let said = |reply: &Reply| {
        let address = || reply.addresses.keys().next().map(ToString::to_string);
        reply.failures.values().next().map(ToString::to_string).or_else(address)
    };
    let names = heard
        .replies
        .iter()
        .filter_map(|(query, replies)| Some(format!("`{query}` {}", replies.iter().find_map(said)?)));
    names.take(3).collect::<Vec<_>>().join(", ")
}

/// Writes the lock beside its place.
pub(super) fn stage(run: &mut Run, path: &Path, lock: &Lock) -> Result<Staged, Stop> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let files = [(name, lock.print())].into();
    files::stage(folder, &files, &[]).or_else(|e| run.stop(unwritable(&e)))
}

/// What could not be written, and what stands in its way.
pub(super) fn unwritable(error: &FileError) -> Diagnostic {
    let message = format!("cannot write {}: {}", error.path.display(), plain(&error.error));
    let diagnostic = Diagnostic::new(Code::Unwritable, message);
    match error.path.ancestors().find(|path| path.is_file()) {
        Some(file) => diagnostic.help(format!("{} is a file: move it away, or write elsewhere", file.display())),
        None => diagnostic,
    }
}

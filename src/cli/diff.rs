//! `outgate diff`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::git::Revision;
use super::lists::{self, Places};
use super::many::{self, Elsewhere, Outcome, Plan, Several};
use super::prefixes;
use super::resolve::{self, DnsArgs};
use super::{Format, Run, SiteArgs, Stop};
use crate::catalog::{self, Catalog};
use crate::diagnostic::{Code, Diagnostic, Findings, Severity};
use crate::diff::{self, risk};
use crate::lock::{Lock, Wanted};
use crate::policy;
use crate::report::{self, diff::Sides};
use crate::ruleset::{self, Ruleset};
use crate::text::quoted;

#[derive(Args)]
pub(super) struct Diff {
    /// The old side: a profile, a folder with an outgate.yaml, a git revision, or a plain list of prefixes [default: HEAD]
    #[arg(value_name = "OLD", conflicts_with_all = ["base", "across", "fresh"])]
    old: Option<String>,
    /// The new side, likewise [default: the files as they are]
    #[arg(value_name = "NEW")]
    new: Option<String>,
    /// The old side is this git revision
    #[arg(long, value_name = "REV", conflicts_with_all = ["across", "fresh"])]
    base: Option<String>,
    /// The same site on two releases
    #[arg(id = "across", long = "releases", value_name = "A..B", conflicts_with = "fresh")]
    releases: Option<String>,
    /// The lock as it is against one that is made now; nothing is written
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    dns: DnsArgs,
    #[command(flatten)]
    several: Several,
    #[command(flatten)]
    site: SiteArgs,
    /// Exit with 1 when anything changed
    #[arg(long)]
    exit_code: bool,
    /// Exit with 1 when there is a finding as bad as this
    #[arg(long, value_enum, value_name = "LEVEL")]
    fail_on: Option<Level>,
}

/// How bad a finding must be.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Level {
    Note,
    Warning,
    Error,
}

impl Level {
    pub(super) fn severity(self) -> Severity {
        match self {
            Self::Note => Severity::Note,
            Self::Warning => Severity::Warning,
            Self::Error => Severity::Error,
        }
    }
}

/// One side of a comparison.
struct Side {
    title: String,
    ruleset: Ruleset,
    lock: Option<Arc<Lock>>,
    by_address: bool,
}

/// Where a side comes from: its profile, and its lock where that is not beside it.
struct Place {
    profile: PathBuf,
    lock: Option<PathBuf>,
    revision: Option<String>,
}

impl Place {
    fn disk(profile: PathBuf) -> Self {
        Self { profile, lock: None, revision: None }
    }

    fn lock(&self) -> PathBuf {
        self.lock.clone().unwrap_or_else(|| self.profile.with_file_name("outgate.lock"))
    }
}

pub(super) fn run(run: &mut Run, args: &Diff) -> Result<(), Stop> {
    if args.site.release.is_some() {
        let diagnostic = Diagnostic::new(Code::BadUsage, "a difference is of profiles, which no flag gives");
        return run.stop(
            diagnostic.help("two releases of a site: --releases 24.10..25.10; of the catalog: `outgate catalog diff`"),
        );
    }
    if args.old.is_none()
        && let Some(plan) = many::plan(run, &[], &args.several, &args.site)?
    {
        return sites(run, args, plan);
    }
    if let (Some(old), Some(new)) = (&args.old, &args.new)
        && [old, new].into_iter().all(|path| prefixes::is_list(Path::new(path)))
    {
        return lists(run, args, Path::new(old), Path::new(new));
    }
    run.buffer = Some(Vec::new());
    let profile = args.site.config.clone().unwrap_or_else(|| PathBuf::from("outgate.yaml"));
    let here = || Place::disk(profile.clone());
    let (old, new) = match (&args.releases, args.fresh) {
        (Some(releases), _) => {
            let Some((from, to)) = releases.split_once("..") else {
                let message = format!("`{}` names no two releases", quoted(releases));
                return run.stop(Diagnostic::new(Code::BadUsage, message).help("write --releases 24.10..25.10"));
            };
            (side(run, &args.site, &here(), Some(from))?, side(run, &args.site, &here(), Some(to))?)
        }
        (None, true) => {
            let old = side(run, &args.site, &here(), None)?;
            let new = fresh(run, args, &profile)?;
            (old, new)
        }
        (None, false) => {
            let base = args.old.as_ref().or(args.base.as_ref()).map_or("HEAD", String::as_str);
            let old = place(run, base, &profile)?;
            let new = match &args.new {
                Some(new) => place(run, new, &profile)?,
                None => here(),
            };
            (side(run, &args.site, &old, None)?, side(run, &args.site, &new, None)?)
        }
    };
    run.buffer = None;
    let (diff, found) = compare(&old, &new);
    print(run, &diff, &Sides { old: &old.title, new: &new.title }, &found)?;
    let bad = args.fail_on.is_some_and(|level| found.iter().any(|finding| finding.severity() >= level.severity()));
    run.exit = Some(u8::from(bad || args.exit_code && !diff.is_empty()));
    // The process ends here, and the system takes all of it back at once.
    std::mem::forget((old, new, diff));
    Ok(())
}

/// What changed, and what of it is risky.
fn compare(old: &Side, new: &Side) -> (diff::Diff, Findings) {
    let diff = diff::diff(&old.ruleset, &new.ruleset);
    let mut found = Findings::default();
    risk::find(&diff, &old.ruleset, &new.ruleset, &mut found);
    if let Some(lock) = &new.lock {
        risk::in_locks(old.lock.as_deref(), lock, &mut found);
    }
    if new.by_address {
        ruleset::sharing::report(&new.ruleset, &mut found);
    }
    (diff, found)
}

/// What changed since a revision, in a line, and what of it is risky.
pub(super) fn since(
    run: &mut Run,
    base: &str,
    site: &SiteArgs,
    lock: Option<&Path>,
) -> Result<(String, Findings), Stop> {
    let profile = site.config.clone().unwrap_or_else(|| PathBuf::from("outgate.yaml"));
    if let Err(why) = Revision::find(profile.parent().unwrap_or(Path::new("")), base) {
        let message = format!("`{}` is no git revision", quoted(base));
        let help = if why.is_empty() { "git knows no such revision".to_owned() } else { format!("git says: {why}") };
        return run.stop(Diagnostic::new(Code::BadUsage, message).help(help));
    }
    let lock = lock.map(Path::to_owned);
    let at = |revision| Place { profile: profile.clone(), lock: lock.clone(), revision };
    let new = side(run, site, &at(None), None)?;
    let old = old_side(run, site, &at(Some(base.to_owned())), &new)?;
    let (diff, found) = compare(&old, &new);
    Ok((format!("since {}: {}", quoted(base), report::diff::summary(&diff)), found))
}

fn print(run: &Run, diff: &diff::Diff, sides: &Sides<'_>, found: &Findings) -> Result<(), Stop> {
    // The worst first: what a reviewer reads must not stand behind what he need not.
    let mut findings: Vec<&Diagnostic> = found.iter().collect();
    findings.sort_by_key(|finding| (std::cmp::Reverse(finding.severity()), finding.code));
    let mut out = report::terminal::stdout();
    match run.format {
        Format::Json => writeln!(out, "{:#}", report::diff::json(diff, sides, &findings, &run.sources))?,
        Format::Markdown => report::diff::markdown(diff, sides, &findings, &run.sources, &mut out)?,
        Format::Sarif => writeln!(out, "{:#}", report::sarif::document(&findings, &run.sources))?,
        Format::Github => {
            for finding in findings {
                writeln!(out, "{}", report::github::annotation(finding, &run.sources))?;
            }
            writeln!(out, "{}", report::diff::summary(diff))?;
        }
        Format::Text | Format::Csv | Format::Junit => {
            for finding in findings {
                run.print(finding, &mut out)?;
            }
            report::diff::text(diff, sides, &mut out)?;
        }
    }
    out.flush()?;
    Ok(())
}

/// Two plain lists of prefixes, by the addresses they hold.
fn lists(run: &mut Run, args: &Diff, old: &Path, new: &Path) -> Result<(), Stop> {
    let (before, after) = (prefixes::read(run, old)?, prefixes::read(run, new)?);
    let (gone, come) = (before.minus(&after), after.minus(&before));
    run.exit = Some(u8::from(args.exit_code && before != after));
    let mut out = std::io::stdout().lock();
    if run.format == Format::Json {
        let document = serde_json::json!({
            "format_version": report::json::FORMAT_VERSION,
            "gone": gone.shorts(),
            "come": come.shorts(),
        });
        writeln!(out, "{document:#}")?;
        return Ok(());
    }
    for (sign, set) in [("- ", &gone), ("+ ", &come)] {
        set.write_lines(sign, &mut out)?;
    }
    out.flush()?;
    Ok(())
}

/// What a word on the command line means: a profile, a folder with one, or a revision.
fn place(run: &mut Run, word: &str, profile: &Path) -> Result<Place, Stop> {
    let path = Path::new(word);
    if path.is_dir() {
        return Ok(Place::disk(path.join("outgate.yaml")));
    }
    if path.is_file() {
        return Ok(Place::disk(path.to_owned()));
    }
    match Revision::find(profile.parent().unwrap_or(Path::new("")), word) {
        Ok(_) => Ok(Place { revision: Some(word.to_owned()), ..Place::disk(profile.to_owned()) }),
        Err(why) => {
            let message = format!("`{}` is no profile, no folder and no git revision", quoted(word));
            let help =
                if why.is_empty() { "git knows no such revision".to_owned() } else { format!("git says: {why}") };
            run.stop(Diagnostic::new(Code::BadUsage, message).help(help))
        }
    }
}

fn side(run: &mut Run, site: &SiteArgs, place: &Place, release: Option<&str>) -> Result<Side, Stop> {
    // What a side has to say by itself is of no interest here, but for what keeps it from being one.
    let before = std::mem::take(&mut run.findings);
    let side = read_side(run, site, place, release);
    let own = std::mem::replace(&mut run.findings, before);
    run.findings.extend(own.iter().filter(|finding| finding.severity() == Severity::Error).cloned());
    if run.findings.has_errors() { Err(Stop::Found) } else { side }
}

fn read_side(run: &mut Run, site: &SiteArgs, place: &Place, release: Option<&str>) -> Result<Side, Stop> {
    let path = &place.profile;
    let (title, catalog, profile, lock) = match &place.revision {
        None => {
            let catalog = run.catalog()?;
            let (profile, _) = run.profile(path, site, &catalog)?;
            let lock = resolve::shared(run, &place.lock())?;
            (path.display().to_string(), catalog, profile, lock)
        }
        Some(revision) => {
            let catalog = catalog_of(run, revision)?;
            let id = revision_text(run, revision, path)?;
            let Some(id) = id else {
                let message = format!("{revision} has no {}", path.display());
                return run.stop(
                    Diagnostic::new(Code::Unreadable, message).help("name another revision, or compare with a folder"),
                );
            };
            let profile = run.profile_of(id, site, &catalog)?;
            let lock = revision_lock(run, revision, &place.lock())?;
            (revision.clone(), catalog, profile, lock)
        }
    };
    let mut profile = profile;
    let title = match release {
        Some(release) => {
            release.clone_into(&mut profile.release.value);
            format!("release {release}")
        }
        None => title,
    };
    let policy = policy::decide(&catalog, &profile, &mut run.findings).ok_or(Stop::Found)?;
    let ruleset = ruleset::build(&policy, lock.as_deref(), &mut run.findings);
    Ok(Side { title, ruleset, lock, by_address: resolve::goes_by_address(&policy.settings) })
}

/// The same site with answers of now.
fn fresh(run: &mut Run, args: &Diff, path: &Path) -> Result<Side, Stop> {
    let catalog = run.catalog()?;
    let (profile, folder) = run.profile(path, &args.site, &catalog)?;
    let policy = policy::decide(&catalog, &profile, &mut run.findings).ok_or(Stop::Found)?;
    let old = resolve::read(run, &folder.join("outgate.lock"))?;
    let mut places = Places::new();
    lists::gather(run, &[], &policy, &folder, &mut places)?;
    let lock = resolve::ask(run, &Wanted::of([&policy]), old.as_ref(), &args.dns, &places)?;
    let ruleset = ruleset::build(&policy, Some(&lock), &mut run.findings);
    let by_address = resolve::goes_by_address(&policy.settings);
    Ok(Side { title: "answers of now".to_owned(), ruleset, lock: Some(Arc::new(lock)), by_address })
}

/// The old side of a site; of one that is new since then, a site that allows nothing.
fn old_side(run: &mut Run, site: &SiteArgs, place: &Place, new: &Side) -> Result<Side, Stop> {
    if run.many
        && let Some(revision) = &place.revision
        && revision_text(run, revision, &place.profile)?.is_none()
    {
        let ruleset = Ruleset { rules: Vec::new(), clients: BTreeMap::new(), ..new.ruleset.clone() };
        let title = format!("{revision}, which has no such site");
        return Ok(Side { title, ruleset, lock: None, by_address: new.by_address });
    }
    side(run, site, place, None)
}

/// The lock as a revision has it; the one that was read already, where many sites share it.
fn revision_lock(run: &mut Run, revision: &str, path: &Path) -> Result<Option<Arc<Lock>>, Stop> {
    if let Some(lock) = run.shared.locks.get(&of_revision(revision, path)) {
        return Ok(lock.clone());
    }
    match revision_text(run, revision, path)? {
        Some(id) => Lock::parse(&run.sources, id).map(|lock| Some(Arc::new(lock))).or_else(|d| run.stop(d)),
        None => Ok(None),
    }
}

/// No path on disk begins so.
fn of_revision(revision: &str, path: &Path) -> PathBuf {
    PathBuf::from(format!("{revision}:{}", path.display()))
}

/// Reads what many sites share of a revision: its locks, and its catalog.
pub(super) fn read_old(run: &mut Run, revision: &str, sites: &[many::Site]) -> Result<(), Stop> {
    let mut locks = (*run.shared.locks).clone();
    let paths: Vec<PathBuf> = locks.keys().cloned().collect();
    // Without git, or such a revision, each site says so.
    if let Some(site) = sites.first()
        && Revision::find(site.path.parent().unwrap_or(Path::new("")), revision).is_ok()
    {
        for path in paths {
            let lock = revision_lock(run, revision, &path)?;
            locks.insert(of_revision(revision, &path), lock);
        }
        if run.catalog.is_some() {
            let catalog = catalog_of(run, revision)?;
            run.shared.revisions = Arc::new(BTreeMap::from([(revision.to_owned(), catalog)]));
        }
    }
    run.shared.locks = Arc::new(locks);
    Ok(())
}

/// A site's change.
struct Changed {
    diff: diff::Diff,
    old: String,
    new: String,
    found: Findings,
}

/// Many sites, each compared with itself.
fn sites(run: &mut Run, args: &Diff, plan: Plan) -> Result<(), Stop> {
    many::refuse(
        run,
        &[(args.fresh, "--fresh", "run `outgate resolve --dry-run`: it asks the names of all of them once")],
    )?;
    let releases = match args.releases.as_deref().map(|releases| releases.split_once("..")) {
        Some(None) => {
            let diagnostic = Diagnostic::new(Code::BadUsage, "--releases names no two releases");
            return run.stop(diagnostic.help("write --releases 24.10..25.10"));
        }
        Some(both) => both,
        None => None,
    };
    let base = args.base.as_deref().unwrap_or("HEAD");
    let sites = many::sites(run, plan, &args.site, Elsewhere::default())?;
    if releases.is_none() {
        read_old(run, base, &sites)?;
    }
    let parent = &*run;
    let compared = many::each("comparing", sites, |site| {
        let (args, lock) = (args.site.of(&site.path), Some(site.lock.clone()));
        let at = |revision| Place { profile: site.path.clone(), lock: lock.clone(), revision };
        let (here, then) = (at(None), at(Some(base.to_owned())));
        site.act_anew(parent, |run| {
            let (old, new) = match releases {
                Some((from, to)) => (side(run, &args, &here, Some(from))?, side(run, &args, &here, Some(to))?),
                None => {
                    let new = side(run, &args, &here, None)?;
                    (old_side(run, &args, &then, &new)?, new)
                }
            };
            let (diff, found) = compare(&old, &new);
            Ok(Changed { diff, old: old.title, new: new.title, found })
        })
    });
    run.step("comparing");
    // What kept a site from being compared is printed at the end, with the rest of what went wrong.
    let failed = many::findings(run, &compared);
    print_sites(run, &compared)?;
    many::tell(run, &failed)?;
    let failing = |site: &Outcome<Changed>| match &site.value {
        None => 2,
        Some(changed) => {
            let level = args.fail_on.map(Level::severity);
            let bad = level.is_some_and(|level| changed.found.iter().any(|finding| finding.severity() >= level));
            u8::from(bad || args.exit_code && !changed.diff.is_empty())
        }
    };
    run.exit = compared.iter().map(failing).max();
    Ok(())
}

fn print_sites(run: &mut Run, compared: &[Outcome<Changed>]) -> Result<(), Stop> {
    let all: Vec<(&Outcome<Changed>, &Changed)> =
        compared.iter().filter_map(|site| Some((site, site.value.as_ref()?))).collect();
    let found = all
        .iter()
        .flat_map(|(site, changed)| changed.found.iter().map(|finding| (site.site.as_str(), &site.sources, finding)));
    let mut findings = many::grouped(run, found);
    findings.sort_by_key(|(finding, _)| (std::cmp::Reverse(finding.severity()), finding.code));
    let told: Vec<Diagnostic> = findings.iter().map(|(finding, sites)| many::with_sites(finding, sites)).collect();
    let told: Vec<&Diagnostic> = told.iter().collect();
    let sites: Vec<report::diff::Site<'_>> = all
        .iter()
        .map(|(site, changed)| report::diff::Site {
            name: &site.site,
            diff: &changed.diff,
            sides: Sides { old: &changed.old, new: &changed.new },
        })
        .collect();
    let mut out = report::terminal::stdout();
    match run.format {
        Format::Json => writeln!(out, "{:#}", report::diff::json_of_sites(&sites, &told, &run.sources))?,
        Format::Markdown => report::diff::markdown_of_sites(&sites, &told, &run.sources, &mut out)?,
        Format::Sarif => writeln!(out, "{:#}", report::sarif::document(&told, &run.sources))?,
        Format::Github => {
            for finding in told {
                writeln!(out, "{}", report::github::annotation(finding, &run.sources))?;
            }
            for site in sites.iter().filter(|site| !site.diff.is_empty()) {
                let line = format!("{}: {}", site.name, report::diff::summary(site.diff));
                writeln!(out, "{}", report::github::line(&line))?;
            }
        }
        Format::Text | Format::Csv | Format::Junit => {
            for finding in told {
                run.print(finding, &mut out)?;
            }
            report::diff::text_of_sites(&sites, &mut out)?;
        }
    }
    out.flush()?;
    Ok(())
}

/// A file as a revision has it.
fn revision_text(run: &mut Run, revision: &str, path: &Path) -> Result<Option<crate::source::SourceId>, Stop> {
    let (folder, file) =
        (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default().to_string_lossy());
    let text = Revision::find(folder, revision).and_then(|revision| revision.text(&file));
    match text {
        Ok(text) => Ok(text.map(|text| run.sources.add(format!("{revision}:{}", path.display()), text))),
        Err(why) => {
            let message = format!("cannot read {} of {}", path.display(), quoted(revision));
            run.stop(Diagnostic::new(Code::Unreadable, message).help(format!("git says: {why}")))
        }
    }
}

/// The catalog of a revision where the user has one of his own in git, and else the built-in one.
fn catalog_of(run: &mut Run, revision: &str) -> Result<Arc<Catalog>, Stop> {
    let Some(folder) = run.catalog.clone() else { return run.catalog() };
    if let Some(catalog) = run.shared.revisions.get(revision) {
        return Ok(Arc::clone(catalog));
    }
    let git = |why: String| {
        Diagnostic::new(
            Code::Unreadable,
            format!("cannot read the catalog {} of {}", folder.display(), quoted(revision)),
        )
        .help(format!("git says: {why}"))
    };
    let files = match super::catalog_checks::catalog_files(run, &folder, revision) {
        Ok(files) => files,
        Err(why) => return run.stop(git(why)),
    };
    catalog::read(&run.sources, &files, &mut run.findings).map(Arc::new).ok_or(Stop::Found)
}

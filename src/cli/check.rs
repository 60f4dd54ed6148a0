//! `outgate check`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::diff::{self, Level};
use super::generate::{self, Given, Rendered};
use super::many::{self, Elsewhere, Outcome, Plan, Several};
use super::{Format, Run, SiteArgs, Stop, prove, resolve, status, test};
use crate::check::{Check, Item, Part};
use crate::diagnostic::{Code, Diagnostic, Findings, Severity};
use crate::lock::{Lock, Wanted};
use crate::policy::{self, Policy};
use crate::profile::Profile;
use crate::proof::{self, Answer, Made, State as FileState};
use crate::report;
use crate::report::sites::{self as summary, Line, State as Of};
use crate::ruleset::Ruleset;
use crate::status::{Mark, Status};
use crate::target::{File, Target};
use crate::verify::{Report, State};
use crate::{coverage, freshness};

#[derive(Args)]
pub(super) struct CheckArgs {
    /// Profiles of many sites [default: those of outgate-sites.yaml, or the one of -c]
    #[arg(value_name = "PROFILE", conflicts_with_all = ["config", "release"])]
    profiles: Vec<PathBuf>,
    #[command(flatten)]
    several: Several,
    #[command(flatten)]
    site: SiteArgs,
    /// The files, as `generate` wrote them [default: out beside the profile]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The lock to read [default: outgate.lock beside the profile]
    #[arg(long, value_name = "FILE", conflicts_with = "base")]
    lock: Option<PathBuf>,
    /// Take templates from this folder where it has them, by their built-in paths
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// Look as well at what changed since this git revision, as `diff --base` does
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    /// Exit with 1 when there is a finding as bad as this
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = Level::Error)]
    fail_on: Level,
}

/// The parts, in the order they are run.
const PARTS: [&str; 6] = ["profile", "lock", "tests", "files", "proof", "changes"];

pub(super) fn run(run: &mut Run, args: &CheckArgs) -> Result<(), Stop> {
    if args.site.release.is_some() {
        let diagnostic = Diagnostic::new(Code::BadUsage, "a check is of a profile, its lock and its files");
        return run.stop(diagnostic.help("write a profile; `outgate generate --release` needs none"));
    }
    if let Some(plan) = many::plan(run, &args.profiles, &args.several, &args.site)? {
        return sites(run, args, plan);
    }
    let files = Files { site: args.site.clone(), out: args.out.clone(), lock: args.lock.clone() };
    let check = check(run, args, &files)?;
    print(run, &check)?;
    run.exit = Some(code(&check));
    Ok(())
}

/// Where the files of a site lie, where they are not beside its profile.
struct Files {
    site: SiteArgs,
    out: Option<PathBuf>,
    lock: Option<PathBuf>,
}

/// All parts of one site.
fn check(run: &mut Run, args: &CheckArgs, files: &Files) -> Result<Check, Stop> {
    let mut checking = Checking { check: Check::default(), level: args.fail_on.severity(), files };
    checking.all(run, args)?;
    for name in PARTS.into_iter().skip(checking.check.parts.len()) {
        checking.check.parts.push(Part::skipped(name, "not run: see above"));
    }
    Ok(checking.check)
}

fn code(check: &Check) -> u8 {
    match check.outcome() {
        crate::check::Outcome::Passes | crate::check::Outcome::Skipped => 0,
        crate::check::Outcome::Fails => 1,
        crate::check::Outcome::Impossible => 2,
    }
}

/// Many sites, each by itself.
fn sites(run: &mut Run, args: &CheckArgs, plan: Plan) -> Result<(), Stop> {
    let elsewhere = Elsewhere { lock: args.lock.as_deref(), out: args.out.as_deref() };
    let sites = many::sites(run, plan, &args.site, elsewhere)?;
    generate::read_templates(run, &sites, &[], args.templates.as_deref())?;
    if let Some(base) = &args.base {
        diff::read_old(run, base, &sites)?;
    }
    let base = &*run;
    let checked = many::each("checking", sites, |site| {
        let files =
            Files { site: args.site.of(&site.path), out: Some(site.out.clone()), lock: Some(site.lock.clone()) };
        site.act_anew(base, |run| check(run, args, &files))
    });
    run.step("checks");
    print_sites(run, &checked)?;
    run.exit = checked.iter().map(|site| site.value.as_ref().map_or(2, code)).max();
    Ok(())
}

fn print_sites(run: &mut Run, checked: &[Outcome<Check>]) -> Result<(), Stop> {
    let with_check = || checked.iter().filter_map(|site| Some((site, site.value.as_ref()?)));
    let quiet = run.quiet;
    let found = with_check().flat_map(|(site, check)| {
        let broken = check.findings(Severity::Error).next().is_some();
        let least = if quiet || broken { Severity::Warning } else { Severity::Note };
        check.findings(least).map(|finding| (site.site.as_str(), &site.sources, finding))
    });
    let findings = many::grouped(run, found);
    let state = |check: &Check| Of::of(code(check));
    let mut out = report::terminal::stdout();
    match run.format {
        Format::Json => {
            let sites: Vec<_> = with_check().map(|(site, check)| report::check::json(check, &site.sources)).collect();
            let passes = with_check().all(|(_, check)| check.passes());
            let version = report::json::FORMAT_VERSION;
            writeln!(out, "{:#}", serde_json::json!({"format_version": version, "passes": passes, "sites": sites}))?;
        }
        Format::Junit => {
            let all: Vec<_> = with_check().map(|(site, check)| (site.site.as_str(), check, &site.sources)).collect();
            report::junit::documents(&all, &mut out)?;
        }
        Format::Sarif => many::tell(run, &findings)?,
        Format::Github => {
            drop(out);
            many::tell(run, &findings)?;
            let mut out = report::terminal::stdout();
            for (site, check) in with_check() {
                for line in report::check::lines(check) {
                    writeln!(out, "{}", report::github::line(&format!("{}: {line}", site.site)))?;
                }
            }
            return Ok(());
        }
        Format::Text | Format::Markdown | Format::Csv => {
            let line = |(site, check): (&Outcome<Check>, &Check)| Line {
                site: site.site.clone(),
                state: state(check),
                what: report::check::line(check),
            };
            let lines: Vec<Line> = with_check().map(line).collect();
            let all = summary::counts(with_check().map(|(_, check)| state(check)));
            summary::text(&lines, &all, run.quiet, &mut out)?;
            out.flush()?;
            many::tell(run, &findings)?;
        }
    }
    Ok(())
}

/// Does something whose findings are its own. `None`: it could not be done, and they say why.
fn apart<T>(run: &mut Run, act: impl FnOnce(&mut Run) -> Result<T, Stop>) -> Result<(Option<T>, Findings), Stop> {
    let before = std::mem::take(&mut run.findings);
    let result = act(run);
    let found = std::mem::replace(&mut run.findings, before);
    match result {
        Ok(value) => Ok((Some(value), found)),
        Err(Stop::Found) => Ok((None, found)),
        Err(stop) => Err(stop),
    }
}

/// A site, as far as it can be read without its lock.
struct Site {
    profile: Profile,
    folder: PathBuf,
    policy: Policy,
    targets: Vec<&'static Target>,
}

/// A run on its way.
struct Checking<'a> {
    check: Check,
    level: Severity,
    files: &'a Files,
}

impl Checking<'_> {
    fn part(&mut self, name: &'static str, summary: String, items: Vec<Item>, found: &Findings) {
        let part = Part::of(name, summary, items, found.iter().cloned(), self.level, &self.check.parts);
        self.check.parts.push(part);
    }

    fn impossible(&mut self, name: &'static str, found: &Findings) {
        let part = Part::impossible(name, found.iter().cloned(), &self.check.parts);
        self.check.parts.push(part);
    }

    /// Every part, as far as it goes: one that fails keeps none from being looked at, but for what it is made of.
    fn all(&mut self, run: &mut Run, args: &CheckArgs) -> Result<(), Stop> {
        let (site, found) = apart(run, |run| site(run, &self.files.site))?;
        let Some(site) = site else {
            self.impossible("profile", &found);
            return Ok(());
        };
        self.check.site = Some(site.policy.site.clone());
        let Site { policy, targets, .. } = &site;
        let s = if targets.len() == 1 { "" } else { "s" };
        let release = policy.release.split(',').next().unwrap_or_default();
        let summary = format!("site `{}`, release {release}, {} target{s}", policy.site, targets.len());
        self.part("profile", summary, Vec::new(), &found);

        let (lock, found) = apart(run, |run| lock(run, self.files, &site))?;
        let Some(lock) = lock else {
            self.impossible("lock", &found);
            return Ok(());
        };
        self.lock(run, &site, lock.as_deref())?;

        let given = Given { policy, lock: lock.as_deref(), before: None, allow_stale: false };
        let (made, found) = apart(run, |run| generate::render(run, &given, targets, args.templates.as_deref()))?;
        match made {
            None => ["tests", "files", "proof"].into_iter().for_each(|name| self.impossible(name, &found)),
            Some((ruleset, rendered)) => {
                self.tests(&site, &ruleset, lock.as_deref(), &rendered);
                let out = self.files.out.clone().unwrap_or_else(|| site.folder.join("out"));
                self.files(run, &site, &out, rendered.clone(), found)?;
                self.proof(run, &site, &ruleset, lock.as_deref(), &out, &rendered)?;
            }
        }
        self.changes(run, args)
    }

    /// Whether the lock has what the rules need, and how old that is.
    fn lock(&mut self, run: &mut Run, site: &Site, lock: Option<&Lock>) -> Result<(), Stop> {
        let Some(lock) = lock else {
            if resolve::goes_by_address(&site.policy.settings) {
                let mut found = Findings::default();
                let path = self.files.lock.clone().unwrap_or_else(|| site.folder.join("outgate.lock"));
                let message = format!("there is no lock {}", path.display());
                found.push(Diagnostic::new(Code::NotInLock, message.clone()).help("run `outgate resolve`"));
                self.part("lock", message, Vec::new(), &found);
            } else {
                self.check.parts.push(Part::skipped("lock", "there is none, and no target goes by address"));
            }
            return Ok(());
        };
        let wanted = Wanted::of([&site.policy]);
        let (status, found) = apart(run, |run| {
            let today = run.today()?;
            let status = Status::of(&wanted, lock, today);
            status::find(run, &status);
            freshness::judge(&freshness::ages(&wanted, lock, today), lock, today, false, &mut run.findings);
            freshness::judge_lists(&freshness::list_ages(&wanted, lock, today), false, &mut run.findings);
            super::lists::find(run, &wanted, lock);
            if resolve::goes_by_address(&site.policy.settings) {
                coverage::judge(&site.policy, lock, None, &mut run.findings);
            }
            Ok(status)
        })?;
        let Some(status) = status else {
            self.impossible("lock", &found);
            return Ok(());
        };
        let mut items: Vec<Item> = Vec::new();
        for name in &status.names {
            let shown = name.query.to_string();
            items.push(match name.marks.contains(&Mark::Stale) {
                true => Item::bad(
                    "names",
                    shown,
                    format!("its answer is of {}: older than {} days", name.age.of, name.age.max_age),
                ),
                false => Item::good("names", shown, format!("{} addresses, of {}", name.coverage.known, name.age.of)),
            });
        }
        items.extend(status.lacking.iter().map(|query| Item::bad("names", query.to_string(), "the lock lacks it")));
        let (stale, lacking) = (status.count(Mark::Stale), status.lacking.len());
        let mut summary = format!("{} names, answers of {}", status.names.len(), status.day);
        for (count, what) in [(stale, "too old"), (lacking, "missing")] {
            if count > 0 {
                summary += &format!(", {count} {what}");
            }
        }
        self.part("lock", summary, items, &found);
        Ok(())
    }

    /// Whether every assertion holds.
    fn tests(&mut self, site: &Site, ruleset: &Ruleset, lock: Option<&Lock>, rendered: &Rendered) {
        let mut found = Findings::default();
        let report = test::hold(ruleset, lock, &site.profile, &site.targets, rendered);
        report.tell(&mut found);
        self.part("tests", report::verify::summary(&report), items(&report), &found);
    }

    /// Whether the files on disk are those of this run. What could not be made is said by what was found.
    fn files(
        &mut self,
        run: &mut Run,
        site: &Site,
        out: &Path,
        rendered: Rendered,
        made: Findings,
    ) -> Result<(), Stop> {
        let whole = rendered.len() == site.targets.len();
        let lacking: Vec<&str> =
            site.targets.iter().map(|t| t.name).filter(|name| !rendered.iter().any(|(t, _)| t.name == *name)).collect();
        let (differences, more) = apart(run, |run| generate::differences(run, out.to_owned(), rendered, whole))?;
        let mut found = made;
        found.extend(more.iter().cloned());
        let Some(differences) = differences else {
            self.impossible("files", &found);
            return Ok(());
        };
        let mut by_target: BTreeMap<&str, Vec<&Diagnostic>> =
            site.targets.iter().map(|target| (target.name, Vec::new())).collect();
        for (target, difference) in &differences {
            by_target.entry(target).or_default().push(difference);
        }
        let items: Vec<Item> = by_target
            .iter()
            .map(|(target, differences)| match differences.as_slice() {
                _ if lacking.contains(target) => Item::bad("targets", *target, "its files cannot be made"),
                [] => Item::good("targets", *target, "up to date"),
                many => {
                    let lines: Vec<&str> = many.iter().map(|difference| difference.message.as_str()).collect();
                    Item::bad("targets", *target, lines.join("\n"))
                }
            })
            .collect();
        let bad: Vec<&str> = items.iter().filter(|i| i.state == State::Fails).map(|i| i.name.as_str()).collect();
        let s = if site.targets.len() == 1 { "" } else { "s" };
        let summary = match bad.as_slice() {
            [] => format!("those of {} target{s} are up to date", site.targets.len()),
            many if lacking.is_empty() => format!("not up to date: {}: run `outgate generate`", many.join(", ")),
            many => format!("not up to date, or cannot be made: {}", many.join(", ")),
        };
        found.extend(differences.into_iter().map(|(_, difference)| difference));
        self.part("files", summary, items, &found);
        Ok(())
    }

    /// Whether what strict mode promises holds, of the files on disk.
    fn proof(
        &mut self,
        run: &mut Run,
        site: &Site,
        ruleset: &Ruleset,
        lock: Option<&Lock>,
        out: &Path,
        rendered: &Rendered,
    ) -> Result<(), Stop> {
        if ruleset.blocked.is_empty() {
            self.check.parts.push(Part::skipped("proof", "strict mode blocks nothing here"));
            return Ok(());
        }
        let of =
            |target: &Target| rendered.iter().find(|(t, _)| t.name == target.name).map(|(_, files)| files.as_slice());
        let (states, mut found) = apart(run, |run| {
            let state = |target: &&'static Target| {
                let files: Option<&[File]> = of(target);
                let state = files.map_or(Ok(FileState::Refused), |files| prove::state(run, out, target, files))?;
                Ok(Made { target, files, state })
            };
            site.targets.iter().map(state).collect::<Result<Vec<_>, Stop>>()
        })?;
        let Some(made) = states else {
            self.impossible("proof", &found);
            return Ok(());
        };
        let proof = proof::prove(ruleset, lock, &made);
        let items = proof.entries.iter().map(|entry| {
            let id = entry.callout.id.as_str();
            let mut item = match entry.answer() {
                Answer::No => Item::good("blocked", id, "stopped"),
                Answer::NotCovered => Item { state: State::Skipped, ..Item::good("blocked", id, "not covered") },
                Answer::Yes => Item::bad("blocked", id, report::proof::open(entry)),
            };
            item.span = Some(entry.callout.span.clone());
            item
        });
        let items: Vec<Item> = items.collect();
        if !proof.holds() {
            found
                .push(Diagnostic::new(Code::NotProven, "not every claim of strict mode holds").help(
                    "`outgate prove` says which, in the lines marked OPEN and of the targets whose files differ",
                ));
        }
        let mut summary = report::proof::headline(&proof).trim_end_matches('.').to_owned();
        if !proof.undecided.is_empty() {
            summary += &format!("; {} blocked names lie where something is allowed", proof.undecided.len());
        }
        let mut part = Part::of("proof", summary, items, found.iter().cloned(), self.level, &self.check.parts);
        if !proof.holds() {
            part.outcome = crate::check::Outcome::Fails;
        }
        self.check.parts.push(part);
        Ok(())
    }

    /// What a change makes possible that was not.
    fn changes(&mut self, run: &mut Run, args: &CheckArgs) -> Result<(), Stop> {
        let Some(base) = &args.base else {
            self.check.parts.push(Part::skipped("changes", "no --base was named"));
            return Ok(());
        };
        let (compared, found) = apart(run, |run| diff::since(run, base, &self.files.site, self.files.lock.as_deref()))?;
        match compared {
            Some((summary, risks)) => self.part("changes", summary, Vec::new(), &risks),
            None => self.impossible("changes", &found),
        }
        Ok(())
    }
}

fn site(run: &mut Run, args: &SiteArgs) -> Result<Site, Stop> {
    let catalog = run.catalog()?;
    let (profile, folder) = run.site(args, &[], &catalog)?;
    let policy = policy::decide(&catalog, &profile, &mut run.findings).ok_or(Stop::Found)?;
    let targets = generate::chosen_targets(run, Vec::new(), &policy.settings)?;
    Ok(Site { profile, folder, policy, targets })
}

fn lock(run: &mut Run, files: &Files, site: &Site) -> Result<Option<Arc<Lock>>, Stop> {
    match &files.lock {
        // Of many sites, whether it must be there was seen when it was read for all.
        Some(path) if run.many => resolve::shared(run, path),
        Some(path) => Ok(Some(Arc::new(resolve::parse(run, path)?))),
        None => resolve::shared(run, &site.folder.join("outgate.lock")),
    }
}

/// The assertions alone, as a check of one part.
pub(super) fn of_tests(report: &Report, found: &Findings) -> Check {
    let found = found.iter().cloned();
    let part = Part::of("tests", report::verify::summary(report), items(report), found, Severity::Error, &[]);
    Check { site: Some(report.site.clone()), parts: vec![part] }
}

/// The assertions, flow by flow.
fn items(report: &Report) -> Vec<Item> {
    let mut items = Vec::new();
    for outcome in &report.outcomes {
        for (what, cases) in report::verify::by_assertion(outcome) {
            let worst = cases.iter().min_by_key(|case| case.state);
            let state = worst.map_or(State::Skipped, |case| case.state);
            let why = cases.iter().filter(|case| case.state == state).map(|case| match case.target {
                Some(target) => format!("{target}: {}", case.why),
                None => case.why.clone(),
            });
            items.push(Item {
                group: outcome.always.map_or_else(|| outcome.title.clone(), str::to_owned),
                name: what.to_owned(),
                state,
                why: why.collect::<Vec<_>>().join("\n"),
                span: worst.and_then(|case| case.place()).cloned(),
                code: worst.and_then(|case| case.code()),
            });
        }
    }
    items
}

fn print(run: &Run, check: &Check) -> Result<(), Stop> {
    // Notes are about what is well; where something is not, they would only hide it.
    let broken = check.findings(Severity::Error).next().is_some();
    let least = if run.quiet || broken { Severity::Warning } else { Severity::Note };
    let findings: Vec<&Diagnostic> = check.findings(least).collect();
    let mut out = report::terminal::stdout();
    match run.format {
        Format::Json => writeln!(out, "{:#}", report::check::json(check, &run.sources))?,
        Format::Sarif => writeln!(out, "{:#}", report::sarif::document(&findings, &run.sources))?,
        Format::Junit => report::junit::document(check, &run.sources, &mut out)?,
        Format::Github => {
            for finding in findings {
                writeln!(out, "{}", report::github::annotation(finding, &run.sources))?;
            }
            for line in report::check::lines(check) {
                writeln!(out, "{}", report::github::line(&line))?;
            }
        }
        Format::Text | Format::Markdown | Format::Csv => {
            report::check::text(check, &mut out)?;
            out.flush()?;
            let mut err = report::terminal::stderr();
            for finding in findings {
                run.print(finding, &mut err)?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

//! `outgate generate`

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::lists::{self, Places};
use super::many::{self, Elsewhere, Outcome, Plan, Several, Site};
use super::resolve::{self, DnsArgs};
use super::{Format, Run, SiteArgs, Stop, plain, read_whole};
use crate::coverage;
use crate::diagnostic::{Code, Diagnostic, suggest};
use crate::files::{self, Difference, Staged};
use crate::freshness::{self, Age, ListAge};
use crate::lock::{Lock, Wanted};
use crate::policy::{self, Policy};
use crate::profile::Profile;
use crate::report;
use crate::report::sites::{self as summary, Line, State};
use crate::ruleset::{self, Ruleset};
use crate::source::SourceId;
use crate::target::texts::Texts;
use crate::target::{self, File, Layer, TARGETS, Target, Templates, loss};

#[derive(Args)]
pub(super) struct Generate {
    /// Profiles of many sites [default: those of outgate-sites.yaml, or the one of -c]
    #[arg(value_name = "PROFILE", conflicts_with_all = ["config", "release"])]
    profiles: Vec<PathBuf>,
    #[command(flatten)]
    several: Several,
    #[command(flatten)]
    site: SiteArgs,
    /// Only this target; may be given several times [default: all the profile names]
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// Write below this folder, for many sites in a folder each [default: out beside the profile]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the main file of the one target instead of writing
    #[arg(long, conflicts_with_all = ["out", "check"])]
    stdout: bool,
    /// Compare with what is on disk instead of writing; exit 1 where it differs
    #[arg(long)]
    check: bool,
    /// Ask DNS first and write the lock
    #[arg(long, conflicts_with = "check")]
    resolve: bool,
    #[command(flatten)]
    dns: DnsArgs,
    /// The lock to read [default: outgate.lock beside the profile]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Make rules even of answers that are older than they may be; the files say so
    #[arg(long)]
    allow_stale: bool,
    /// Take templates from this folder where it has them, by their built-in paths
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
}

pub(super) fn run(run: &mut Run, args: &Generate) -> Result<(), Stop> {
    let named = named_targets(run, args)?;
    if let Some(plan) = many::plan(run, &args.profiles, &args.several, &args.site)? {
        return sites(run, args, &named, plan);
    }
    if args.out.is_none() && !args.stdout && !args.check {
        run.keep_off_site(&args.site, "--out DIR or --stdout")?;
    }
    if args.site.release.is_some() && named.is_empty() {
        let names: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
        let diagnostic = Diagnostic::new(Code::BadUsage, "no target is named");
        return run.stop(diagnostic.help(format!("add --target with one of: {}", names.join(", "))));
    }
    if args.site.release.is_some() && named.iter().any(|target| target.name == "cilium") {
        let message = "target `cilium` needs a profile: pods are chosen by labels, which no flag gives";
        let help = "write an outgate.yaml with `cilium:` under `targets:`";
        return run.stop(Diagnostic::new(Code::BadUsage, message).help(help));
    }
    if args.site.release.is_some()
        && args.site.interface.is_none()
        && let Some(target) = named.iter().find(|target| matches!(target.name, "pf" | "opnsense"))
    {
        let message = format!("target `{}` needs the interface the clients are behind", target.name);
        return run.stop(Diagnostic::new(Code::BadUsage, message).help("add --interface NAME"));
    }
    let catalog = run.catalog()?;
    run.step("catalog");
    let (profile, folder) = run.site(&args.site, &args.target, &catalog)?;
    let policy = policy::decide(&catalog, &profile, &mut run.findings).ok_or(Stop::Found)?;
    run.step("profile");
    let all = named.is_empty();
    let targets = chosen_targets(run, named, &policy.settings)?;
    if args.stdout && targets.len() != 1 {
        let diagnostic = Diagnostic::new(Code::BadUsage, "--stdout prints one target's main file");
        return run.stop(diagnostic.help("add --target NAME"));
    }
    let lock_path = args.lock.clone().unwrap_or_else(|| folder.join("outgate.lock"));
    // A lock that is named is there; only one that is asked for may come into being.
    let must_be_there = args.lock.is_some() && !args.resolve;
    let wanted = Wanted::of([&policy]);
    let held = if args.resolve { Some(resolve::hold(run, &lock_path)?) } else { None };
    let mut lock = if must_be_there { Some(resolve::parse(run, &lock_path)?) } else { resolve::read(run, &lock_path)? };
    let mut before = None;
    if args.resolve {
        let mut places = Places::new();
        lists::gather(run, &[], &policy, &folder, &mut places)?;
        let fresh = resolve::ask(run, &wanted, lock.as_ref(), &args.dns, &places)?;
        before = lock.replace(fresh);
    }
    run.step("lock");
    let given = Given { policy: &policy, lock: lock.as_ref(), before: before.as_ref(), allow_stale: args.allow_stale };
    let ruleset = rules(run, &given, &targets)?;
    // Of a large site these are a sixth of the memory, and the files are still to come.
    drop((policy, profile));
    let folder = args.out.clone().unwrap_or_else(|| folder.join("out"));
    let mut output = Output::empty(folder, all);
    // What is ready waits beside its place, and its text is not kept while others are made.
    let writes = !args.check && !args.stdout;
    let (mut retired, mut staged) = (BTreeMap::new(), Staged::default());
    let replaced = run.templates(args.templates.as_deref())?;
    let texts = Texts::of(&ruleset);
    for target in output.concerned(&targets) {
        let rendered = targets.iter().any(|own| own.name == target.name);
        let mut files = match rendered {
            true => files_of(run, &texts, target, &replaced).unwrap_or_default(),
            false => Vec::new(),
        };
        if run.findings.has_errors() {
            continue;
        }
        if !args.stdout {
            let list = retire_of(run, &output.folder, target, &files)?;
            retired.extend(list.iter().map(|list| (format!("{}/{}", target.name, list.path), list.text.clone())));
            files.extend(list);
        }
        if rendered || !files.is_empty() {
            output.add(target, files);
        }
        if writes {
            staged.append(output.stage(run, target)?);
        }
    }
    // To take a hundred thousand destinations apart is a twentieth of the run, and the process ends soon.
    std::mem::forget(ruleset);
    // All or nothing: a router and a proxy of different days would not agree.
    if run.findings.has_errors() {
        return Err(Stop::Found);
    }
    run.step("rules and files");
    if args.check {
        return compare(run, &output);
    }
    // First, so that a run that is killed half-way leaves no new file without the list of what was in the old one.
    let mut first = files::stage(&output.folder, &retired, &[]).or_else(|e| run.stop(resolve::unwritable(&e)))?;
    // The lock and the files are of one run: both are ready before the first is put in its place.
    if let Some((lock, held)) = lock.zip(held.as_ref()) {
        held.unchanged().or_else(|e| run.stop(resolve::unwritable(&e)))?;
        let mut lock = resolve::stage(run, &lock_path, &lock)?;
        lock.append(first);
        first = lock;
    }
    first.append(staged);
    let removed = first.stale().to_vec();
    first.commit().or_else(|e| run.stop(resolve::unwritable(&e)))?;
    run.step("writing");
    if args.stdout { print_main(&output) } else { print_paths(run, &output, &removed) }
}

/// How files are put beside their places.
type Stage = fn(&Path, &BTreeMap<String, String>, &[&str]) -> Result<Staged, files::FileError>;

/// Puts the files of a run beside their places, in the order they are to be put there.
fn stage(run: &mut Run, output: &Output, retired: &BTreeMap<String, String>, stage: Stage) -> Result<Staged, Stop> {
    // First, so that a run that is killed half-way leaves no new file without the list of what was in the old one.
    let mut first = stage(&output.folder, retired, &[]).or_else(|e| run.stop(resolve::unwritable(&e)))?;
    let files = stage(&output.folder, &output.files, &output.owned());
    first.append(files.or_else(|e| run.stop(resolve::unwritable(&e)))?);
    Ok(first)
}

/// What was made of one site of many.
struct Made {
    output: Output,
    /// What waits to be put in its place; nothing with `--check`.
    staged: Staged,
    removed: Vec<PathBuf>,
    written: usize,
    /// With `--check`: the targets whose files are not what they should be.
    differ: Vec<&'static str>,
}

/// Many sites: each whole or not at all, and whatever becomes of one, the others are done.
fn sites(run: &mut Run, args: &Generate, named: &[&'static Target], plan: Plan) -> Result<(), Stop> {
    many::refuse(
        run,
        &[
            (args.stdout, "--stdout", "name one profile with -c FILE"),
            (args.resolve, "--resolve", "run `outgate resolve` first: it asks the names of all of them once"),
        ],
    )?;
    let elsewhere = Elsewhere { lock: args.lock.as_deref(), out: args.out.as_deref() };
    let sites = many::sites(run, plan, &args.site, elsewhere)?;
    read_templates(run, &sites, named, args.templates.as_deref())?;
    let base = &*run;
    let make = |site: Site| {
        let (out, lock) = (site.out.clone(), site.lock.clone());
        site.act(base, |run, profile| make(run, args, named, &profile, (out, &lock)))
    };
    let mut made = many::each("generating", sites, make);
    run.step("rules and files");
    let all = made.iter().filter_map(|outcome| outcome.value.as_ref()).map(|made| &made.staged);
    files::sync(all).or_else(|e| run.stop(resolve::unwritable(&e)))?;
    made = many::each("writing", made, put);
    run.step("writing");
    let findings = many::findings(run, &made);
    print_sites(run, args, &made)?;
    many::tell(run, &findings)?;
    run.exit = made.iter().map(|outcome| outcome.code(args.check.then_some(Code::Differs))).max();
    Ok(())
}

/// Reads the templates of every target that some site has, once for all of them.
pub(super) fn read_templates(
    run: &mut Run,
    sites: &[Site],
    named: &[&'static Target],
    folder: Option<&Path>,
) -> Result<(), Stop> {
    // Templates of the user's own are read, and judged, with each site.
    if folder.is_some() {
        return Ok(());
    }
    let has = |target: &&&Target| sites.iter().filter_map(Site::settings).any(|settings| (target.chosen)(settings));
    let used =
        TARGETS.iter().filter(has).filter(|target| named.is_empty() || named.iter().any(|n| n.name == target.name));
    run.shared.templates = Templates::of(used, &BTreeMap::new(), &mut run.sources).into();
    Ok(())
}

/// The files of one site of many, beside their places.
fn make(
    run: &mut Run,
    args: &Generate,
    named: &[&'static Target],
    profile: &Profile,
    (folder, lock): (PathBuf, &Path),
) -> Result<Made, Stop> {
    let catalog = run.catalog()?;
    let policy = policy::decide(&catalog, profile, &mut run.findings).ok_or(Stop::Found)?;
    let all = named.is_empty();
    let targets = chosen_targets(run, named.to_vec(), &policy.settings)?;
    let lock = resolve::shared(run, lock)?;
    let given = Given { policy: &policy, lock: lock.as_deref(), before: None, allow_stale: args.allow_stale };
    let (_, mut rendered) = render(run, &given, &targets, args.templates.as_deref())?;
    if run.findings.has_errors() {
        return Err(Stop::Found);
    }
    let retired = retire(run, &folder, &mut rendered, all)?;
    let output = Output::new(folder, rendered, all);
    let (mut staged, mut differ) = (Staged::default(), Vec::new());
    if args.check {
        let differences = found_differences(run, &output)?;
        differ = differences.iter().map(|(target, _)| *target).collect();
        differ.dedup();
        run.findings.extend(differences.into_iter().map(|(_, difference)| difference));
    } else {
        staged = stage(run, &output, &retired, files::stage_unsynced)?;
    }
    let (removed, written) = (staged.stale().to_vec(), staged.written());
    Ok(Made { output, staged, removed, written, differ })
}

/// Puts the files of one site in their places.
fn put(mut outcome: Outcome<Made>) -> Outcome<Made> {
    let staged = outcome.value.as_mut().map(|made| std::mem::take(&mut made.staged)).unwrap_or_default();
    if let Err(error) = staged.commit() {
        outcome.findings.push(resolve::unwritable(&error));
        outcome.value = None;
    }
    // The texts were needed until here, and there are many.
    if let Some(made) = &mut outcome.value {
        made.output.files.retain(|path, _| path.ends_with(loss::PATH));
    }
    outcome
}

fn print_sites(run: &Run, args: &Generate, made: &[Outcome<Made>]) -> Result<(), Stop> {
    let exit_by = args.check.then_some(Code::Differs);
    let state = |outcome: &Outcome<Made>| State::of(outcome.code(exit_by));
    let mut out = report::terminal::stdout();
    if run.format == Format::Json {
        let site = |outcome: &Outcome<Made>| {
            let made = outcome.value.as_ref();
            serde_json::json!({
                "site": outcome.site,
                "profile": outcome.path.display().to_string(),
                "exit": outcome.code(exit_by),
                "folder": made.map(|made| made.output.folder.display().to_string()),
                "files": made.map(|made| made.output.count()),
                "written": made.map(|made| made.written),
                "removed": made.map(|made| made.removed.iter().map(|p| p.display().to_string()).collect::<Vec<_>>()),
                "differ": made.map(|made| made.differ.clone()),
                "losses": made.map(|made| losses(&made.output)),
            })
        };
        let sites: Vec<_> = made.iter().map(site).collect();
        let document = serde_json::json!({"format_version": report::json::FORMAT_VERSION, "sites": sites});
        writeln!(out, "{document:#}")?;
        return Ok(());
    }
    if matches!(run.format, Format::Sarif | Format::Github) {
        return Ok(());
    }
    let line = |outcome: &Outcome<Made>| Line {
        site: outcome.site.clone(),
        state: state(outcome),
        what: match &outcome.value {
            None if args.check => outcome.why(),
            None => format!("{}; nothing of it was changed", outcome.why()),
            Some(made) => made.what(args.check),
        },
    };
    let lines: Vec<Line> = made.iter().map(line).collect();
    summary::text(&lines, &summary::counts(made.iter().map(state)), run.quiet, &mut out)?;
    out.flush()?;
    Ok(())
}

impl Made {
    /// What was done, in words.
    fn what(&self, check: bool) -> String {
        let targets = self.output.targets.len();
        let s = if targets == 1 { "" } else { "s" };
        let mut text = format!("{targets} target{s}, {} files", self.output.count());
        text += &match (check, self.differ.as_slice(), self.written) {
            (true, [], _) => ": up to date".to_owned(),
            (true, differ, _) => format!(": not up to date: {}", differ.join(", ")),
            (false, _, 0) if self.removed.is_empty() => ": unchanged".to_owned(),
            (false, _, written) => format!(": {written} written"),
        };
        if !self.removed.is_empty() {
            text += &format!(", {} removed", self.removed.len());
        }
        text
    }
}

/// The files of each target that could be rendered.
pub(super) type Rendered = Vec<(&'static Target, Vec<File>)>;

/// What rules are made of.
pub(super) struct Given<'a> {
    pub(super) policy: &'a Policy,
    pub(super) lock: Option<&'a Lock>,
    /// The lock as it was, where this run made another.
    pub(super) before: Option<&'a Lock>,
    pub(super) allow_stale: bool,
}

/// Rules and files. What is wrong becomes a finding; a target that cannot be rendered is not among the files.
pub(super) fn render(
    run: &mut Run,
    given: &Given<'_>,
    targets: &[&'static Target],
    templates: Option<&Path>,
) -> Result<(Ruleset, Rendered), Stop> {
    let ruleset = rules(run, given, targets)?;
    let replaced = run.templates(templates)?;
    let mut rendered = Rendered::new();
    let texts = Texts::of(&ruleset);
    for target in targets {
        rendered.extend(files_of(run, &texts, target, &replaced).map(|files| (*target, files)));
    }
    Ok((ruleset, rendered))
}

/// The rules, and what they are made of judged on the day it is.
fn rules(run: &mut Run, given: &Given<'_>, targets: &[&'static Target]) -> Result<Ruleset, Stop> {
    let mut ruleset = ruleset::build(given.policy, given.lock, &mut run.findings);
    if let Some(lock) = given.lock {
        let today = run.today()?;
        let wanted = Wanted::of([given.policy]);
        let ages = freshness::ages(&wanted, lock, today);
        freshness::judge(&ages, lock, today, given.allow_stale, &mut run.findings);
        let lists = freshness::list_ages(&wanted, lock, today);
        freshness::judge_lists(&lists, given.allow_stale, &mut run.findings);
        ruleset.stale = given.allow_stale && (ages.iter().any(Age::is_stale) || lists.iter().any(ListAge::is_stale));
        if targets.iter().any(|target| target.layer == Layer::Addresses) {
            coverage::judge(given.policy, lock, given.before, &mut run.findings);
        }
    }
    Ok(ruleset)
}

/// The files of one target; `None` where it cannot be rendered. `replaced`: templates of the user's own.
fn files_of(
    run: &mut Run,
    texts: &Texts<'_>,
    target: &Target,
    replaced: &BTreeMap<String, SourceId>,
) -> Option<Vec<File>> {
    let read = std::sync::Arc::clone(&run.shared.templates);
    target::render_from(&read, target, texts, replaced, &mut run.sources, &mut run.findings)
}

/// Adds the lists of what earlier runs put on an enforcer and this one no longer holds, also for targets that are gone
/// from the site. Returns them, by path below the folder.
fn retire(run: &mut Run, folder: &Path, rendered: &mut Rendered, all: bool) -> Result<BTreeMap<String, String>, Stop> {
    let mut lists = BTreeMap::new();
    for target in TARGETS {
        let at = rendered.iter().position(|(own, _)| own.name == target.name);
        if at.is_none() && !all {
            continue;
        }
        let new = at.and_then(|at| rendered.get(at)).map_or(&[][..], |(_, files)| files);
        let Some(list) = retire_of(run, folder, target, new)? else { continue };
        lists.insert(format!("{}/{}", target.name, list.path), list.text.clone());
        match at.and_then(|at| rendered.get_mut(at)) {
            Some((_, files)) => files.push(list),
            None => rendered.push((*target, vec![list])),
        }
    }
    Ok(lists)
}

/// The list of what earlier runs put on an enforcer and these files no longer hold.
fn retire_of(run: &mut Run, folder: &Path, target: &Target, new: &[File]) -> Result<Option<File>, Stop> {
    let Some(retire) = target.retire else { return Ok(None) };
    let old = old_files(run, folder, target)?;
    Ok(retire(&old, new, &mut run.findings))
}

/// What lies on disk of a target's files, by path below its folder. What cannot be read is not passed over: it would be
/// replaced, and what it lists forgotten.
fn old_files(run: &mut Run, folder: &Path, target: &Target) -> Result<BTreeMap<String, String>, Stop> {
    let mut old = BTreeMap::new();
    for name in target.owns.iter().filter(|name| !name.contains('*')) {
        let path = folder.join(name);
        match read_whole(&path) {
            Ok(bytes) => {
                let below = name.split_once('/').map_or(*name, |(_, below)| below);
                old.insert(below.to_owned(), String::from_utf8_lossy(&bytes).into_owned());
            }
            // A folder in the way of a file is said when the file is to be written.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory) => {}
            Err(error) => {
                let message = format!("cannot read {}: {}", path.display(), plain(&error));
                let help = "it says what is on the firewall; without it nobody knows what to delete there";
                return run.stop(Diagnostic::new(Code::Unreadable, message).help(help));
            }
        }
    }
    Ok(old)
}

/// What a run writes.
struct Output {
    folder: PathBuf,
    /// Text by path below the folder, over all targets: what cannot be written is found before anything is replaced.
    files: BTreeMap<String, String>,
    /// The targets that were rendered, with the number of files of each.
    targets: Vec<(&'static Target, usize)>,
    /// Whether targets that were not rendered are gone from the site, and their files with them.
    all: bool,
}

impl Output {
    /// How many files there are.
    fn count(&self) -> usize {
        self.targets.iter().map(|(_, files)| files).sum()
    }

    fn new(folder: PathBuf, rendered: Rendered, all: bool) -> Self {
        let mut output = Self::empty(folder, all);
        for (target, files) in rendered {
            output.add(target, files);
        }
        output
    }

    fn empty(folder: PathBuf, all: bool) -> Self {
        Self { folder, files: BTreeMap::new(), targets: Vec::new(), all }
    }

    fn add(&mut self, target: &'static Target, files: Vec<File>) {
        self.targets.push((target, files.len()));
        self.files.extend(files.into_iter().map(|file| (format!("{}/{}", target.name, file.path), file.text)));
    }

    /// The targets whose files may change: those that are rendered, and those that may be gone from the site.
    fn concerned(&self, rendered: &[&'static Target]) -> Vec<&'static Target> {
        let gone = TARGETS.iter().filter(|target| self.all && !rendered.iter().any(|own| own.name == target.name));
        rendered.iter().chain(gone).copied().collect()
    }

    /// Puts the files of one target beside their places. Of their texts what is told of them afterwards is kept.
    fn stage(&mut self, run: &mut Run, target: &Target) -> Result<Staged, Stop> {
        let own = self.files.iter_mut().filter(|(path, _)| path.split('/').next() == Some(target.name));
        let text = |path: &str, text: &mut String| match path.ends_with(loss::PATH) {
            true => text.clone(),
            false => std::mem::take(text),
        };
        let files = own.map(|(path, own)| (path.clone(), text(path, own))).collect();
        files::stage(&self.folder, &files, target.owns).or_else(|e| run.stop(resolve::unwritable(&e)))
    }

    /// Patterns of the files that are ours to remove.
    fn owned(&self) -> Vec<&'static str> {
        let rendered = |target: &Target| self.targets.iter().any(|(own, _)| own.name == target.name);
        TARGETS.iter().filter(|target| self.all || rendered(target)).flat_map(|target| target.owns).copied().collect()
    }

    /// The file a target is told by: its main file, or of a target that is gone what is left to say.
    fn shown_file(&self, target: &Target) -> String {
        let main = Self::main_file(target);
        let own = || self.files.keys().find(|path| path.split('/').next() == Some(target.name)).cloned();
        if self.files.contains_key(&main) { main } else { own().unwrap_or(main) }
    }

    fn main_file(target: &Target) -> String {
        format!("{}/{}", target.name, target.main)
    }
}

fn named_targets(run: &mut Run, args: &Generate) -> Result<Vec<&'static Target>, Stop> {
    let mut named = Vec::new();
    for name in &args.target {
        match target::find(name) {
            Some(target) => named.push(target),
            None => {
                let names: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
                let message = format!("there is no target `{}`", crate::text::quoted(name));
                return run.stop(Diagnostic::new(Code::UnknownName, message).help(suggest(name, &names)));
            }
        }
    }
    named.sort_by_key(|target| target.name);
    named.dedup_by_key(|target| target.name);
    Ok(named)
}

pub(super) fn chosen_targets(
    run: &mut Run,
    named: Vec<&'static Target>,
    settings: &crate::settings::Settings,
) -> Result<Vec<&'static Target>, Stop> {
    let have: Vec<&Target> = TARGETS.iter().copied().filter(|target| (target.chosen)(settings)).collect();
    if let Some(target) = named.iter().find(|target| !(target.chosen)(settings)) {
        let message = format!("the profile has no target `{}`", target.name);
        return run
            .stop(Diagnostic::new(Code::BadUsage, message).help(format!("add `{}:` under `targets:`", target.name)));
    }
    if have.is_empty() {
        let names: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
        let diagnostic = Diagnostic::new(Code::Empty, "the profile names no targets");
        return run.stop(diagnostic.help(format!("add some under `targets:`: {}", names.join(", "))));
    }
    Ok(if named.is_empty() { have } else { named })
}

fn print_main(output: &Output) -> Result<(), Stop> {
    let mut out = report::terminal::stdout();
    for (target, _) in &output.targets {
        if let Some(text) = output.files.get(&Output::main_file(target)) {
            out.write_all(text.as_bytes())?;
        }
    }
    out.flush()?;
    Ok(())
}

/// What each target cannot express, as its file of losses says.
fn losses(output: &Output) -> serde_json::Map<String, serde_json::Value> {
    let of_target = |(target, _): &(&Target, usize)| {
        let text = output.files.get(&format!("{}/{}", target.name, loss::PATH))?;
        let mut document: serde_json::Value = serde_json::from_str(text).ok()?;
        Some((target.name.to_owned(), document.get_mut("losses")?.take()))
    };
    output.targets.iter().filter_map(of_target).collect()
}

fn print_paths(run: &Run, output: &Output, removed: &[PathBuf]) -> Result<(), Stop> {
    let mut stdout = report::terminal::stdout();
    let shown = |path: &Path| path.display().to_string();
    if run.format == Format::Json {
        let document = serde_json::json!({
            "format_version": report::json::FORMAT_VERSION,
            "written": output.files.keys().map(|path| shown(&output.folder.join(path))).collect::<Vec<_>>(),
            "losses": losses(output),
            "removed": removed.iter().map(|path| shown(path)).collect::<Vec<_>>(),
        });
        writeln!(stdout, "{document:#}")?;
        return Ok(());
    }
    for (target, count) in &output.targets {
        let more = match count - 1 {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let path = output.shown_file(target);
        writeln!(stdout, "{}{more}", shown(&output.folder.join(path)))?;
    }
    for path in removed {
        writeln!(stdout, "removed {}", shown(path))?;
    }
    Ok(())
}

/// How the files on disk differ from those of a run, each with the target whose file it is.
pub(super) fn differences(
    run: &mut Run,
    folder: PathBuf,
    mut rendered: Rendered,
    all: bool,
) -> Result<Vec<(&'static str, Diagnostic)>, Stop> {
    retire(run, &folder, &mut rendered, all)?;
    found_differences(run, &Output::new(folder, rendered, all))
}

fn compare(run: &mut Run, output: &Output) -> Result<(), Stop> {
    let differences = found_differences(run, output)?;
    // What stands in the way of nothing else must not look like a difference to whoever reads the exit code.
    run.exit_by = Some(Code::Differs);
    if !differences.is_empty() {
        run.findings.extend(differences.into_iter().map(|(_, difference)| difference));
        run.findings.push(
            Diagnostic::new(Code::Differs, "the files on disk are not what catalog, profile and lock say")
                .help("run `outgate generate` and review the change"),
        );
    }
    Ok(())
}

fn found_differences(run: &mut Run, output: &Output) -> Result<Vec<(&'static str, Diagnostic)>, Stop> {
    let differences = match files::compare(&output.folder, &output.files, &output.owned()) {
        Ok(differences) => differences,
        Err(e) => {
            let message = format!("cannot read {}: {}", e.path.display(), plain(&e.error));
            return run.stop(Diagnostic::new(Code::Unreadable, message));
        }
    };
    let told = differences.iter().map(|difference| {
        let (path, message) = match difference {
            Difference::Missing(path) => (path, format!("{} is missing", path.display())),
            Difference::Changed(path) => {
                let wanted = output.files.iter().find(|(name, _)| output.folder.join(name) == *path);
                let old = std::fs::read_to_string(path).unwrap_or_default();
                let first = first_difference(&old, wanted.map_or("", |(_, text)| text));
                (path, format!("{} differs{first}", path.display()))
            }
            Difference::Stale(path) => (path, format!("{} is no longer written", path.display())),
        };
        let below = path.strip_prefix(&output.folder).unwrap_or(path);
        let target = TARGETS.iter().find(|target| below.starts_with(target.name)).map_or("", |target| target.name);
        (target, Diagnostic::new(Code::Differs, message))
    });
    Ok(told.collect())
}

/// Where two texts part, as a line of each.
fn first_difference(old: &str, new: &str) -> String {
    let (mut a, mut b) = (old.lines(), new.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (a.next(), b.next()) {
            (Some(x), Some(y)) if x == y => {}
            (None, None) => return String::new(),
            (x, y) => {
                let show = |line: Option<&str>| line.map_or_else(|| "nothing".to_owned(), crate::text::quoted);
                return format!(" from line {number} on\n  on disk:   {}\n  generated: {}", show(x), show(y));
            }
        }
    }
}

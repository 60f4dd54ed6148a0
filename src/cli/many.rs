//! Many sites in one run: which they are, each worked on by itself on all cores, and what is said of them together.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use clap::Args;

use super::{Format, Run, SiteArgs, Stop, progress, resolve};
use crate::catalog::Catalog;
use crate::diagnostic::{Code, Diagnostic, Findings, Severity, nearest};
use crate::profile::Profile;
use crate::report;
use crate::source::{SourceId, Sources};
use crate::text::quoted;
use crate::workspace::{self, Workspace};

/// Many sites: those of a workspace.
#[derive(Args, Clone, Default)]
pub(super) struct Several {
    /// The sites of this workspace [default: outgate-sites.yaml, where this folder has no outgate.yaml]
    #[arg(long = "sites", value_name = "FILE", conflicts_with_all = ["config", "release"])]
    workspace: Option<PathBuf>,
    /// Of many sites only this one, by its name; may be given several times
    #[arg(long = "site", value_name = "NAME", conflicts_with_all = ["config", "release"])]
    only: Vec<String>,
}

/// Which sites a run is for, before their profiles are read.
pub(super) struct Plan {
    /// The profiles, in the order they are named, each once.
    pub(super) profiles: Vec<PathBuf>,
    /// The lock they share.
    pub(super) lock: Option<PathBuf>,
    /// The folder that takes a folder a site.
    out: Option<PathBuf>,
    only: Vec<String>,
}

/// What the command line says of the files of many sites, where it says anything.
#[derive(Clone, Copy, Default)]
pub(super) struct Elsewhere<'a> {
    pub(super) lock: Option<&'a Path>,
    pub(super) out: Option<&'a Path>,
}

/// One site of many.
#[derive(Clone)]
pub(super) struct Site {
    /// Its name; of a profile that cannot be read, its path.
    pub(super) name: String,
    /// Its profile.
    pub(super) path: PathBuf,
    /// Where its files lie.
    pub(super) out: PathBuf,
    /// That folder is called as the site is.
    by_name: bool,
    /// Its lock.
    pub(super) lock: PathBuf,
    /// The profile, as far as it can be read; with where it was read and what was found.
    profile: Option<Profile>,
    sources: Sources,
    findings: Findings,
}

/// What became of one site.
pub(super) struct Outcome<T> {
    pub(super) site: String,
    pub(super) path: PathBuf,
    /// What was made, where it could be.
    pub(super) value: Option<T>,
    pub(super) findings: Findings,
    pub(super) sources: Sources,
}

/// Which sites are meant: those that are named, those of a workspace that is named, or those of the workspace that lies
/// here. `None`: one site, in the way of one.
pub(super) fn plan(
    run: &mut Run,
    profiles: &[PathBuf],
    several: &Several,
    site: &SiteArgs,
) -> Result<Option<Plan>, Stop> {
    let (profile, file) = (Path::new("outgate.yaml"), Path::new(workspace::FILE));
    let workspace = match &several.workspace {
        Some(_) if !profiles.is_empty() => {
            let diagnostic = Diagnostic::new(Code::BadUsage, "both profiles and a workspace are named");
            return run.stop(diagnostic.help("name the one or the other"));
        }
        Some(path) => path.as_path(),
        None if !profiles.is_empty() => {
            let mut seen = BTreeSet::new();
            let profiles = profiles.iter().map(|path| at(path)).filter(|path| seen.insert(path.clone())).collect();
            return Ok(Some(Plan { profiles, lock: None, out: None, only: several.only.clone() }));
        }
        None if site.config.is_some() || site.release.is_some() => return Ok(None),
        None if profile.exists() && file.exists() => {
            let message = format!("this folder has both an outgate.yaml and an {}", workspace::FILE);
            let help = format!("say which is meant: -c outgate.yaml, or --sites {}", workspace::FILE);
            return run.stop(Diagnostic::new(Code::BadUsage, message).help(help));
        }
        None if file.exists() => file,
        None if several.only.is_empty() => return Ok(None),
        None => {
            let message = format!("--site is of many sites, and there is no {} here", workspace::FILE);
            let help = "name the profiles, or a workspace with --sites FILE";
            return run.stop(Diagnostic::new(Code::BadUsage, message).help(help));
        }
    };
    let id = run.read(workspace)?;
    let Some(read) = workspace::read(&run.sources, id, &mut run.findings) else { return Err(Stop::Found) };
    let folder = workspace.parent().unwrap_or(Path::new(""));
    let profiles = profiles_of(run, folder, &read, workspace)?;
    let out = read.out.as_ref().map(|out| folder.join(out.as_str()));
    Ok(Some(Plan { profiles, lock: Some(folder.join(read.lock.as_str())), out, only: several.only.clone() }))
}

/// A folder stands for the profile in it.
fn at(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("outgate.yaml") } else { path.to_owned() }
}

/// The profiles of a workspace, as the disk has them: in the order named, and by name within a pattern. The file that
/// names them is none of them, though `*.yaml` stands for it too.
fn profiles_of(run: &mut Run, folder: &Path, workspace: &Workspace, file: &Path) -> Result<Vec<PathBuf>, Stop> {
    let (mut profiles, mut seen) = (Vec::new(), BTreeSet::new());
    for (pattern, span) in &workspace.sites {
        let mut found = expand(folder, pattern.as_str());
        if pattern.as_str().contains('*') {
            found.retain(|path| path != file);
        }
        if found.is_empty() {
            let message = format!("there is no profile `{pattern}`");
            let diagnostic = Diagnostic::new(Code::Unreadable, message).at(span.clone(), "");
            let near = near(&folder.join(pattern.as_str()));
            run.findings.push(match near {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => {
                    diagnostic.help("paths are from the folder of this file; `*` stands for any characters of one name")
                }
            });
        }
        profiles.extend(found.into_iter().filter(|path| seen.insert(path.clone())));
    }
    if run.findings.has_errors() { Err(Stop::Found) } else { Ok(profiles) }
}

/// What a path with stars stands for; only what is there.
fn expand(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for part in Path::new(pattern).components() {
        let name = part.as_os_str().to_string_lossy();
        found = match part {
            Component::Normal(_) if name.contains('*') => {
                let below = |folder: PathBuf| {
                    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder.as_path() };
                    let entries = std::fs::read_dir(here).into_iter().flatten().flatten();
                    let names = entries.map(|entry| entry.file_name());
                    let mut names: Vec<_> =
                        names.filter(|entry| workspace::matches(&name, &entry.to_string_lossy())).collect();
                    names.sort();
                    names.into_iter().map(move |name| folder.join(name)).collect::<Vec<_>>()
                };
                found.into_iter().flat_map(below).collect()
            }
            _ => found.into_iter().map(|folder| folder.join(part)).collect(),
        };
    }
    // A pattern of folders takes those that hold a profile.
    found.iter().map(|path| at(path)).filter(|path| path.is_file()).collect()
}

/// The path that was probably meant by one that leads nowhere.
fn near(path: &Path) -> Option<String> {
    let missing = path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).last()?;
    let parent = missing.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = std::fs::read_dir(parent.unwrap_or(Path::new("."))).ok()?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let near = nearest(&missing.file_name()?.to_string_lossy(), names.iter().map(String::as_str))?;
    let near = parent.map_or_else(|| PathBuf::from(near), |parent| parent.join(near));
    // What stood behind the part that is wrong.
    let rest = path.strip_prefix(missing).ok().filter(|rest| !rest.as_os_str().is_empty());
    Some(rest.map_or_else(|| near.clone(), |rest| near.join(rest)).display().to_string())
}

/// Reads the profiles of a plan, each by itself, and sees that no two sites are in each other's way. From here on
/// [`Run::of_site`] has the catalog, and the locks that several sites share.
pub(super) fn sites(run: &mut Run, plan: Plan, args: &SiteArgs, elsewhere: Elsewhere<'_>) -> Result<Vec<Site>, Stop> {
    let catalog = run.catalog()?;
    run.step("catalog");
    let base = &*run;
    let (lock, out) =
        (elsewhere.lock.map(Path::to_owned).or(plan.lock), elsewhere.out.map(Path::to_owned).or(plan.out));
    let read = |path: PathBuf| {
        let mut child = base.of_site();
        let profile = read(&mut child, &path, args, &catalog).ok();
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let name = profile.as_ref().map_or_else(|| path.display().to_string(), |p| p.site.to_string());
        let (out, by_name) = match &out {
            Some(out) => (out.join(&name), true),
            None if path.file_name().is_some_and(|file| file == "outgate.yaml") => (folder.join("out"), false),
            // Several profiles of one folder each have a folder there.
            None => (folder.join("out").join(&name), true),
        };
        let lock = lock.clone().unwrap_or_else(|| folder.join("outgate.lock"));
        Site { name, path, out, by_name, lock, profile, sources: child.sources, findings: child.findings }
    };
    let mut sites = each("reading", plan.profiles, read);
    if let Some((lines, _)) = &mut run.verbose {
        lines.extend(sites.iter().map(|site| format!("read {}", site.path.display())));
    }
    run.step("profiles");
    if !plan.only.is_empty() {
        sites = only(run, sites, &plan.only)?;
    }
    apart(run, &sites)?;
    share(run, &sites, elsewhere.lock.is_some())?;
    run.step("locks");
    Ok(sites)
}

fn read(run: &mut Run, path: &Path, args: &SiteArgs, catalog: &Catalog) -> Result<Profile, Stop> {
    if !path.exists()
        && let Some(near) = near(path)
    {
        let message = format!("there is no profile {}", path.display());
        return run.stop(Diagnostic::new(Code::Unreadable, message).help(format!("did you mean `{near}`?")));
    }
    Ok(run.profile(path, args, catalog)?.0)
}

/// The sites of these names, in their order.
fn only(run: &mut Run, sites: Vec<Site>, names: &[String]) -> Result<Vec<Site>, Stop> {
    for name in names {
        if !sites.iter().any(|site| site.name == *name) {
            let known: Vec<&str> =
                sites.iter().filter(|site| site.profile.is_some()).map(|site| site.name.as_str()).collect();
            let help = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("one of: {}", report::some_of(&known, 20)),
            };
            let message = format!("there is no site `{}`", quoted(name));
            run.findings.push(Diagnostic::new(Code::UnknownName, message).help(help));
            // The one that is meant may be among those that could not be read.
            for site in sites.iter().filter(|site| site.profile.is_none()) {
                let sources = &site.sources;
                let findings: Vec<Diagnostic> = site.findings.iter().cloned().collect();
                run.take(sources, findings);
            }
            return Err(Stop::Found);
        }
    }
    Ok(sites.into_iter().filter(|site| names.contains(&site.name)).collect())
}

/// Refuses two sites of one name, or whose files would lie in one folder.
fn apart(run: &mut Run, sites: &[Site]) -> Result<(), Stop> {
    let (mut names, mut folders) = (BTreeMap::new(), BTreeMap::new());
    for site in sites.iter().filter(|site| site.profile.is_some()) {
        if let Some(other) = names.insert(&site.name, &site.path) {
            let (a, b) = (other.display(), site.path.display());
            let message = format!("{a} and {b} are both of the site `{}`", site.name);
            let diagnostic = Diagnostic::new(Code::DuplicateId, message);
            run.findings.push(diagnostic.help("sites are told by name: give each its own `site:`"));
            continue;
        }
        if site.by_name && !workspace::is_folder(&site.name) {
            let message = format!("the name of the site `{}` cannot be that of a folder for its files", site.name);
            let help = "give it letters, digits, `-`, `_` and `.`, the first a letter or digit";
            run.findings.push(Diagnostic::new(Code::BadText, message).help(help));
        } else if let Some(other) = folders.insert(site.out.to_string_lossy().to_lowercase(), &site.name) {
            let message = format!(
                "the files of the sites `{other}` and `{}` would lie in one folder, {}",
                site.name,
                site.out.display()
            );
            let help = "give one of them another `site:`; names that differ by case alone are one on some systems";
            run.findings.push(Diagnostic::new(Code::DuplicateId, message).help(help));
        }
    }
    if run.findings.has_errors() { Err(Stop::Found) } else { Ok(()) }
}

/// Reads each lock that several sites have, once.
fn share(run: &mut Run, sites: &[Site], must_be_there: bool) -> Result<(), Stop> {
    let mut users: BTreeMap<&PathBuf, usize> = BTreeMap::new();
    sites.iter().for_each(|site| *users.entry(&site.lock).or_default() += 1);
    let mut locks = BTreeMap::new();
    for (path, _) in users.into_iter().filter(|(_, users)| *users > 1 || must_be_there) {
        let lock = if must_be_there { Some(resolve::parse(run, path)?) } else { resolve::read(run, path)? };
        locks.insert(path.clone(), lock.map(Arc::new));
    }
    run.shared.locks = Arc::new(locks);
    Ok(())
}

impl Site {
    /// Does something for this site: with what was found when it was read, and apart from all others.
    pub(super) fn act<T>(self, base: &Run, act: impl FnOnce(&mut Run, Profile) -> Result<T, Stop>) -> Outcome<T> {
        let mut run = Run { sources: self.sources, findings: self.findings, ..base.of_site() };
        let value = self.profile.and_then(|profile| act(&mut run, profile).ok());
        Outcome { site: self.name, path: self.path, value, findings: run.findings, sources: run.sources }
    }

    /// As [`Site::act`], by whoever reads the profile himself.
    pub(super) fn act_anew<T>(self, base: &Run, act: impl FnOnce(&mut Run) -> Result<T, Stop>) -> Outcome<T> {
        let mut run = base.of_site();
        let value = act(&mut run).ok();
        Outcome { site: self.name, path: self.path, value, findings: run.findings, sources: run.sources }
    }

    /// The targets of its profile, as far as that can be read.
    pub(super) fn settings(&self) -> Option<&crate::settings::Settings> {
        self.profile.as_ref().map(|profile| &profile.settings)
    }
}

/// Works on every item on all cores, with a bar where somebody watches. The results are in the order of the items.
pub(super) fn each<T: Send, R: Send>(label: &'static str, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let total = items.len();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(total);
    let queue = Mutex::new(items.into_iter().enumerate());
    let done = AtomicUsize::new(0);
    let mut results: Vec<(usize, R)> = progress::with_bar(label, |tick| {
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            for _ in 0..threads {
                let (sender, queue, work) = (sender.clone(), &queue, &work);
                scope.spawn(move || {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some((at, item)) = next else { break };
                        if sender.send((at, work(item))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let tell = |result| {
                tick(done.fetch_add(1, Ordering::Relaxed) + 1, total);
                result
            };
            receiver.into_iter().map(tell).collect()
        })
    });
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

impl<T> Outcome<T> {
    /// The exit code of a run for this site alone.
    pub(super) fn code(&self, exit_by: Option<Code>) -> u8 {
        super::exit_code(&self.findings, self.value.is_none(), exit_by)
    }

    /// What kept it from being done.
    pub(super) fn why(&self) -> String {
        let error = self.findings.iter().find(|finding| finding.severity() == Severity::Error);
        error.map_or_else(String::new, |error| {
            format!("{} {}", error.code.as_str(), error.message.lines().next().unwrap_or_default())
        })
    }
}

/// What was found for many sites: the same is said once, with the sites, in the order it was first found.
pub(super) fn grouped<'a>(
    run: &mut Run,
    found: impl IntoIterator<Item = (&'a str, &'a Sources, &'a Diagnostic)>,
) -> Vec<(Diagnostic, Vec<String>)> {
    let mut at: BTreeMap<(Code, String, Option<String>), usize> = BTreeMap::new();
    let mut groups: Vec<(Diagnostic, Vec<String>)> = Vec::new();
    let mut adopted: BTreeMap<(String, SourceId), SourceId> = BTreeMap::new();
    for (site, sources, finding) in found {
        let key = (finding.code, finding.message.clone(), finding.help.clone());
        if let Some((_, sites)) = at.get(&key).and_then(|&at| groups.get_mut(at)) {
            if sites.last().is_none_or(|last| last != site) {
                sites.push(site.to_owned());
            }
            continue;
        }
        at.insert(key, groups.len());
        let mut finding = finding.clone();
        for label in &mut finding.labels {
            let id = label.span.source;
            label.span.source = *adopted.entry((site.to_owned(), id)).or_insert_with(|| run.sources.adopt(sources, id));
        }
        groups.push((finding, vec![site.to_owned()]));
    }
    groups
}

/// The findings of many sites that are to be printed, each once. Notes are about a result: of a site that has none they
/// would hide the reason.
pub(super) fn findings<T>(run: &mut Run, outcomes: &[Outcome<T>]) -> Vec<(Diagnostic, Vec<String>)> {
    let quiet = run.quiet;
    let found = outcomes.iter().flat_map(|outcome| {
        let silent = quiet || outcome.findings.has_errors();
        let least = if silent { Severity::Warning } else { Severity::Note };
        let findings = outcome.findings.iter().filter(move |finding| finding.severity() >= least);
        findings.map(|finding| (outcome.site.as_str(), &outcome.sources, finding))
    });
    grouped(run, found)
}

/// Prints findings with the sites they are of: beside the result for people, in its place for forges.
pub(super) fn tell(run: &Run, findings: &[(Diagnostic, Vec<String>)]) -> Result<(), Stop> {
    let told: Vec<Diagnostic> = findings.iter().map(|(finding, sites)| with_sites(finding, sites)).collect();
    let (mut out, mut err) = (report::terminal::stdout(), report::terminal::stderr());
    match run.format {
        Format::Sarif => {
            let all: Vec<&Diagnostic> = told.iter().collect();
            writeln!(out, "{:#}", report::sarif::document(&all, &run.sources))?;
        }
        Format::Github => {
            for finding in &told {
                writeln!(out, "{}", report::github::annotation(finding, &run.sources))?;
            }
        }
        Format::Json => {
            for (finding, sites) in findings {
                let mut document = report::json::diagnostic(finding, &run.sources);
                document["sites"] = sites.as_slice().into();
                // Whoever reads no more does not need the rest.
                let _ = writeln!(err, "{document}");
            }
        }
        Format::Text | Format::Markdown | Format::Csv | Format::Junit => {
            for finding in &told {
                let _ = run.print(finding, &mut err);
            }
        }
    }
    Ok(())
}

/// A finding that says which sites it is of.
pub(super) fn with_sites(finding: &Diagnostic, sites: &[String]) -> Diagnostic {
    const SHOWN: usize = 8;
    let names: Vec<&str> = sites.iter().map(String::as_str).collect();
    let sites = match names.as_slice() {
        [one] => format!("of site {one}"),
        many => format!("of {} sites: {}", many.len(), report::some_of(many, SHOWN)),
    };
    let help = finding.help.as_ref().map_or_else(|| sites.clone(), |help| format!("{help}\n{sites}"));
    finding.clone().help(help)
}

/// Refuses what many sites cannot do together.
pub(super) fn refuse(run: &mut Run, flags: &[(bool, &str, &str)]) -> Result<(), Stop> {
    match flags.iter().find(|(given, ..)| *given) {
        None => Ok(()),
        Some((_, flag, help)) => {
            let message = format!("{flag} is for one site");
            run.stop(Diagnostic::new(Code::BadUsage, message).help(*help))
        }
    }
}

/// The profiles of a plan for what takes them together, such as one lock.
pub(super) fn together(
    run: &mut Run,
    profiles: &[PathBuf],
    several: &Several,
    site: &SiteArgs,
    lock: Option<&Path>,
) -> Result<(Vec<PathBuf>, Option<PathBuf>), Stop> {
    let Some(plan) = plan(run, profiles, several, site)? else {
        return Ok((Vec::new(), lock.map(Path::to_owned)));
    };
    let path = lock.map(Path::to_owned).or_else(|| plan.lock.clone());
    if plan.only.is_empty() {
        return Ok((plan.profiles, path));
    }
    let sites = sites(run, plan, site, Elsewhere::default())?;
    Ok((sites.into_iter().map(|site| site.path).collect(), path))
}

//! `outgate generate`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::lists::{self, Places};
use super::resolve::{self, DnsArgs};
use super::{Format, Run, SiteArgs, Stop, plain};
use crate::coverage;
use crate::diagnostic::{Code, Diagnostic, suggest};
use crate::files::{self, Difference};
use crate::freshness::{self, Age, ListAge};
use crate::lock::Wanted;
use crate::policy;
use crate::report;
use crate::ruleset;
use crate::target::{self, File, Layer, TARGETS, Target};

#[derive(Args)]
pub(super) struct Generate {
    #[command(flatten)]
    site: SiteArgs,
    /// Only this target; may be given several times [default: all the profile names]
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// Write below this folder [default: out beside the profile]
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
    if args.out.is_none() && !args.stdout && !args.check {
        run.keep_off_site(&args.site, "--out DIR or --stdout")?;
    }
    if args.site.release.is_some() && named.is_empty() {
        let names: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
        let diagnostic = Diagnostic::new(Code::BadUsage, "no target is named");
        return run.stop(diagnostic.help(format!("add --target with one of: {}", names.join(", "))));
    }
    if args.site.release.is_some()
        && args.site.interface.is_none()
        && let Some(target) = named.iter().find(|target| matches!(target.name, "pf" | "opnsense"))
    {
        let message = format!("target `{}` needs the interface the clients are behind", target.name);
        return run.stop(Diagnostic::new(Code::BadUsage, message).help("add --interface NAME"));
    }
    let catalog = run.catalog()?;
    let (profile, folder) = run.site(&args.site, &args.target, &catalog)?;
    let policy = policy::decide(&catalog, &profile, &mut run.findings).ok_or(Stop::Found)?;
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
    let before = lock.clone().filter(|_| args.resolve);
    if args.resolve {
        let mut places = Places::new();
        lists::gather(run, &[], &policy, &folder, &mut places)?;
        let fresh = resolve::ask(run, &wanted, lock.as_ref(), &args.dns, &places)?;
        lock = Some(fresh);
    }
    let mut ruleset = ruleset::build(&policy, lock.as_ref(), &mut run.findings);
    if let Some(lock) = &lock {
        let today = run.today()?;
        let ages = freshness::ages(&wanted, lock, today);
        freshness::judge(&ages, lock, today, args.allow_stale, &mut run.findings);
        let lists = freshness::list_ages(&wanted, lock, today);
        freshness::judge_lists(&lists, args.allow_stale, &mut run.findings);
        ruleset.stale = args.allow_stale && (ages.iter().any(Age::is_stale) || lists.iter().any(ListAge::is_stale));
        if targets.iter().any(|target| target.layer == Layer::Addresses) {
            coverage::judge(&policy, lock, before.as_ref(), &mut run.findings);
        }
    }
    let replaced = run.templates(args.templates.as_deref())?;
    let mut rendered: Vec<(&'static Target, Vec<File>)> = Vec::new();
    for target in targets {
        let files = target::render(target, &ruleset, &replaced, &mut run.sources, &mut run.findings);
        rendered.extend(files.map(|files| (target, files)));
    }
    // All or nothing: a router and a proxy of different days would not agree.
    if run.findings.has_errors() {
        return Err(Stop::Found);
    }
    let folder = args.out.clone().unwrap_or_else(|| folder.join("out"));
    let output = Output::new(folder, rendered, all);
    if args.check {
        return compare(run, &output);
    }
    // The lock and the files are of one run: both are ready before the first is put in its place.
    let mut staged = Vec::new();
    if let Some((lock, held)) = lock.zip(held.as_ref()) {
        held.unchanged().or_else(|e| run.stop(resolve::unwritable(&e)))?;
        staged.push(resolve::stage(run, &lock_path, &lock)?);
    }
    if !args.stdout {
        let files = files::stage(&output.folder, &output.files, &output.owned());
        staged.push(files.or_else(|e| run.stop(resolve::unwritable(&e)))?);
    }
    let removed: Vec<PathBuf> = staged.iter().flat_map(|files| files.stale().to_vec()).collect();
    for files in staged {
        files.commit().or_else(|e| run.stop(resolve::unwritable(&e)))?;
    }
    if args.stdout { print_main(&output) } else { print_paths(run, &output, &removed) }
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
    fn new(folder: PathBuf, rendered: Vec<(&'static Target, Vec<File>)>, all: bool) -> Self {
        let targets = rendered.iter().map(|(target, files)| (*target, files.len())).collect();
        let of_target = |(target, files): (&Target, Vec<File>)| {
            files.into_iter().map(|file| (format!("{}/{}", target.name, file.path), file.text)).collect::<Vec<_>>()
        };
        Self { folder, files: rendered.into_iter().flat_map(of_target).collect(), targets, all }
    }

    /// Patterns of the files that are ours to remove.
    fn owned(&self) -> Vec<&'static str> {
        let rendered = |target: &Target| self.targets.iter().any(|(own, _)| own.name == target.name);
        TARGETS.iter().filter(|target| self.all || rendered(target)).flat_map(|target| target.owns).copied().collect()
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

fn chosen_targets(
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

fn print_paths(run: &Run, output: &Output, removed: &[PathBuf]) -> Result<(), Stop> {
    let mut stdout = report::terminal::stdout();
    let shown = |path: &Path| path.display().to_string();
    if run.format == Format::Json {
        let document = serde_json::json!({
            "format_version": report::json::FORMAT_VERSION,
            "written": output.files.keys().map(|path| shown(&output.folder.join(path))).collect::<Vec<_>>(),
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
        writeln!(stdout, "{}{more}", shown(&output.folder.join(Output::main_file(target))))?;
    }
    for path in removed {
        writeln!(stdout, "removed {}", shown(path))?;
    }
    Ok(())
}

fn compare(run: &mut Run, output: &Output) -> Result<(), Stop> {
    let differences = match files::compare(&output.folder, &output.files, &output.owned()) {
        Ok(differences) => differences,
        Err(e) => {
            let message = format!("cannot read {}: {}", e.path.display(), plain(&e.error));
            return run.stop(Diagnostic::new(Code::Unreadable, message));
        }
    };
    // What stands in the way of nothing else must not look like a difference to whoever reads the exit code.
    run.exit_by = Some(Code::Differs);
    for difference in &differences {
        let message = match difference {
            Difference::Missing(path) => format!("{} is missing", path.display()),
            Difference::Changed(path) => {
                let wanted = output.files.iter().find(|(name, _)| output.folder.join(name) == *path);
                let old = std::fs::read_to_string(path).unwrap_or_default();
                format!("{} differs{}", path.display(), first_difference(&old, wanted.map_or("", |(_, text)| text)))
            }
            Difference::Stale(path) => format!("{} is no longer written", path.display()),
        };
        run.findings.push(Diagnostic::new(Code::Differs, message));
    }
    if !differences.is_empty() {
        run.findings.push(
            Diagnostic::new(Code::Differs, "the files on disk are not what catalog, profile and lock say")
                .help("run `outgate generate` and review the change"),
        );
    }
    Ok(())
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

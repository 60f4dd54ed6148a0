//! `outgate generate`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::resolve::{self, DnsArgs};
use super::{Format, Run, SiteArgs, Stop, plain};
use crate::diagnostic::{Code, Diagnostic, suggest};
use crate::files::{self, Difference, Staged};
use crate::policy;
use crate::report;
use crate::ruleset;
use crate::target::{self, File, TARGETS, Target};

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
    /// Take templates from this folder where it has them, by their built-in paths
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
}

pub(super) fn run(run: &mut Run, args: &Generate) -> Result<(), Stop> {
    let named = named_targets(run, args)?;
    if args.site.release.is_some() && args.out.is_none() && !args.stdout && Path::new("outgate.yaml").exists() {
        let diagnostic = Diagnostic::new(
            Code::BadUsage,
            "this folder has an outgate.yaml, whose files a run without it would replace",
        );
        return run.stop(
            diagnostic.help("use the profile with -c outgate.yaml, or write elsewhere with --out DIR or --stdout"),
        );
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
    let targets = chosen_targets(run, named, &policy.settings)?;
    if args.stdout && targets.len() != 1 {
        let diagnostic = Diagnostic::new(Code::BadUsage, "--stdout prints one target's main file");
        return run.stop(diagnostic.help("add --target NAME"));
    }
    let lock_path = args.lock.clone().unwrap_or_else(|| folder.join("outgate.lock"));
    if args.lock.is_some() && !args.resolve {
        // A lock that is named is there; only one that is asked for may come into being.
        run.read(&lock_path)?;
    }
    let mut lock = resolve::read(run, &lock_path)?;
    if args.resolve {
        let fresh = resolve::ask(run, &policy, lock.as_ref(), &args.dns)?;
        lock = Some(fresh);
    }
    let ruleset = ruleset::build(&policy, lock.as_ref(), &mut run.findings);
    let replaced = run.templates(args.templates.as_deref())?;
    let mut rendered: Vec<(&Target, Vec<File>)> = Vec::new();
    for target in targets {
        let files = target::render(target, &ruleset, &replaced, &mut run.sources, &mut run.findings);
        rendered.extend(files.map(|files| (target, files)));
    }
    // All or nothing: a router and a proxy of different days would not agree.
    if run.findings.has_errors() {
        return Err(Stop::Found);
    }
    let out = args.out.clone().unwrap_or_else(|| folder.join("out"));
    if args.check {
        return compare(run, &rendered, &out);
    }
    // The lock and the files are of one run: both are ready before the first is put in its place.
    let mut staged = Vec::new();
    if let Some(lock) = lock.filter(|_| args.resolve) {
        staged.push(resolve::stage(run, &lock_path, &lock)?);
    }
    if !args.stdout {
        staged.push(stage(run, &rendered, &out)?);
    }
    for files in staged {
        files.commit().or_else(|e| run.stop(resolve::unwritable(&e)))?;
    }
    if args.stdout { print_main(&rendered) } else { print_paths(run, &rendered, &out) }
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

fn print_main(rendered: &[(&Target, Vec<File>)]) -> Result<(), Stop> {
    let mut out = report::terminal::stdout();
    for (target, files) in rendered {
        for file in files.iter().filter(|file| file.path == target.main) {
            out.write_all(file.text.as_bytes())?;
        }
    }
    out.flush()?;
    Ok(())
}

fn as_map(files: &[File]) -> BTreeMap<String, String> {
    files.iter().map(|file| (file.path.clone(), file.text.clone())).collect()
}

fn stage(run: &mut Run, rendered: &[(&Target, Vec<File>)], out: &Path) -> Result<Staged, Stop> {
    // One set over all targets, so that a folder that cannot be written is found before any file is replaced.
    let mut all = BTreeMap::new();
    let mut owned = Vec::new();
    for (target, files) in rendered {
        all.extend(as_map(files).into_iter().map(|(path, text)| (format!("{}/{path}", target.name), text)));
        owned.extend(target.owns.iter().map(|path| format!("{}/{path}", target.name)));
    }
    let owned: Vec<&str> = owned.iter().map(String::as_str).collect();
    files::stage(out, &all, &owned).or_else(|e| run.stop(resolve::unwritable(&e)))
}

fn print_paths(run: &Run, rendered: &[(&Target, Vec<File>)], out: &Path) -> Result<(), Stop> {
    let mut stdout = report::terminal::stdout();
    if run.format == Format::Json {
        let paths = rendered.iter().flat_map(|(target, files)| files.iter().map(|file| (target.name, &file.path)));
        let mut paths: Vec<_> = paths.map(|(target, path)| format!("{target}/{path}")).collect();
        paths.sort();
        let paths: Vec<String> = paths.iter().map(|path| out.join(path).display().to_string()).collect();
        let document = serde_json::json!({"format_version": report::json::FORMAT_VERSION, "written": paths});
        writeln!(stdout, "{document:#}")?;
        return Ok(());
    }
    for (target, files) in rendered {
        let main = out.join(target.name).join(target.main);
        let more = match files.len() - 1 {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        writeln!(stdout, "{}{more}", main.display())?;
    }
    Ok(())
}

fn compare(run: &mut Run, rendered: &[(&Target, Vec<File>)], out: &Path) -> Result<(), Stop> {
    let mut differences = Vec::new();
    for (target, files) in rendered {
        match files::compare(&out.join(target.name), &as_map(files), target.owns) {
            Ok(found) => differences.extend(found),
            Err(e) => {
                let message = format!("cannot read {}: {}", e.path.display(), plain(&e.error));
                return run.stop(Diagnostic::new(Code::Unreadable, message));
            }
        }
    }
    for difference in &differences {
        let message = match difference {
            Difference::Missing(path) => format!("{} is missing", path.display()),
            Difference::Changed(path) => {
                let wanted = rendered.iter().flat_map(|(target, files)| {
                    files.iter().map(|file| (out.join(target.name).join(&file.path), &file.text))
                });
                let text =
                    wanted.into_iter().find(|(p, _)| p == path).map(|(_, text)| text.as_str()).unwrap_or_default();
                let old = std::fs::read_to_string(path).unwrap_or_default();
                format!("{} differs{}", path.display(), first_difference(&old, text))
            }
            Difference::Stale(path) => format!("{} is no longer written", path.display()),
        };
        run.findings.push(Diagnostic::new(Code::Differs, message));
    }
    if let Some(last) = differences.len().checked_sub(1) {
        let _ = last;
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

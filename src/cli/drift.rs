//! `outgate drift`

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::loaded::Loaded;
use super::{Format, Run, Stop, machine, plain, read_whole};
use crate::diagnostic::{Code, Diagnostic};
use crate::drift::{self, Difference, State, Unreadable};
use crate::report;
use crate::ruleset::Ruleset;
use crate::target::File;

#[derive(Args)]
pub(super) struct DriftArgs {
    /// What is compared
    #[arg(value_enum)]
    target: Enforcer,
    /// A dump in place of what is loaded on this machine: a file for nftables (`-` is standard input), a folder for others
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,
    /// Where Squid's include is installed; its lists are where the profile says
    #[arg(long, value_name = "FILE", default_value = super::SQUID_INCLUDE, conflicts_with = "from")]
    include: PathBuf,
    #[command(flatten)]
    wanted: Loaded,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Enforcer {
    /// `nft -j list table`: run here, or a file of it
    Nftables,
    /// `pfctl -sr` and the tables of the anchor: run here, or a folder with rules.txt and tables/NAME.txt
    Pf,
    /// A folder with aliases.json and rules.csv or rules.json, as the firewall exports them
    Opnsense,
    /// The include and the lists that are installed, or a folder with outgate.conf and lists/
    Squid,
}

impl Enforcer {
    fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Pf => "pf",
            Self::Opnsense => "opnsense",
            Self::Squid => "squid",
        }
    }
}

/// How long an enforcer may take to say what it holds.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn run(run: &mut Run, args: &DriftArgs) -> Result<(), Stop> {
    let made = args.wanted.made(run, args.target.name())?;
    let (ruleset, files) = (&made.ruleset, made.files());
    let (what, expected, loaded) = match args.target {
        Enforcer::Nftables => nftables(run, args, ruleset, &files)?,
        Enforcer::Pf => pf(run, args, ruleset, &files)?,
        Enforcer::Opnsense => opnsense(run, args, ruleset, &files)?,
        Enforcer::Squid => squid(run, args, ruleset, &files)?,
    };
    let found = match loaded {
        Some(loaded) => drift::compare(&expected, &loaded),
        None => vec![Difference { kind: drift::Kind::Missing, ..nothing(&what) }],
    };
    let mut stdout = report::terminal::stdout();
    match run.format {
        Format::Json => writeln!(stdout, "{:#}", report::drift::json(args.target.name(), &what, &found))?,
        Format::Text | Format::Markdown | Format::Csv | Format::Junit => {
            report::drift::text(args.target.name(), &what, &found, &mut stdout)?;
        }
        // The findings alone.
        Format::Sarif | Format::Github => {}
    }
    stdout.flush()?;
    tell(run, &found);
    // Whatever else is said of the site is no drift.
    let drifts = found.iter().any(Difference::is_drift);
    if !drifts && run.format != Format::Sarif {
        run.exit = Some(0);
    }
    Ok(())
}

/// The difference that is left when nothing of ours is loaded.
fn nothing(what: &str) -> Difference {
    Difference {
        kind: drift::Kind::Missing,
        place: what.to_owned(),
        key: String::new(),
        expected: Vec::new(),
        loaded: Vec::new(),
    }
}

/// Findings of the differences: so many that somebody reads them. `--format json` has all.
fn tell(run: &mut Run, found: &[Difference]) {
    const MOST: usize = 100;
    run.findings.extend(found.iter().take(MOST).map(Difference::diagnostic));
    let left = found.iter().skip(MOST).filter(|found| found.is_drift());
    let mut more: BTreeMap<&str, (usize, Code)> = BTreeMap::new();
    for found in left {
        more.entry(found.kind.as_str()).or_insert((0, found.kind.code())).0 += 1;
    }
    for (kind, (count, code)) in more {
        run.findings.push(Diagnostic::new(code, format!("{count} more: {kind}")).help("`--format json` lists them"));
    }
}

/// What it is called, what it should be and what it is; `None` where nothing of it is loaded.
type Compared = (String, State, Option<State>);

/// A dump or file that is none.
fn unreadable<T>(run: &mut Run, what: &str, why: Unreadable) -> Result<T, Stop> {
    run.stop(Diagnostic::new(Code::BadDump, format!("{what}: {}", crate::text::quoted_to(&why, 300))))
}

/// The text of one of the files that should be loaded.
fn text_of<'a>(files: &'a [File], path: &str) -> &'a str {
    files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str())
}

/// A dump from a file, or from standard input.
fn dump(run: &mut Run, path: &Path) -> Result<String, Stop> {
    /// Longest dump from standard input, in bytes.
    const MAX: u64 = 64 << 20;
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().take(MAX + 1).read_to_end(&mut bytes).map(|_| bytes)
    } else {
        read_whole(path)
    };
    match bytes {
        Ok(bytes) if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX) => {
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Ok(_) => unreadable(run, &path.display().to_string(), format!("larger than {} MiB", MAX >> 20)),
        Err(error) => {
            run.stop(Diagnostic::new(Code::Unreadable, format!("cannot read {}: {}", path.display(), plain(&error))))
        }
    }
}

/// What a program of this machine prints.
fn ask(run: &mut Run, program: &str, args: &[&str]) -> Result<String, Stop> {
    let Some(path) = machine::find(program) else {
        let message = format!("`{program}` is not installed here");
        return run
            .stop(Diagnostic::new(Code::NoEnforcer, message).help("read a dump of the other machine: --from FILE"));
    };
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    let shown = format!("{program} {}", args.join(" "));
    match machine::run(&path, &args, Stdio::null(), LIMIT) {
        Ok(said) if said.success => Ok(said.text()),
        Ok(said) => {
            let message = format!("`{shown}` says: {}", said.complaint);
            run.stop(Diagnostic::new(Code::NoEnforcer, message).help("what is loaded can be read by root alone"))
        }
        Err(error) => run.stop(Diagnostic::new(Code::NoEnforcer, format!("`{shown}`: {}", plain(&error)))),
    }
}

fn nftables(run: &mut Run, args: &DriftArgs, ruleset: &Ruleset, files: &[File]) -> Result<Compared, Stop> {
    let table = ruleset.settings.nftables.clone().unwrap_or_default().table;
    let what = format!("table inet {table}");
    let expected = drift::nftables::of_file(text_of(files, "outgate.nft"))
        .or_else(|why| unreadable(run, "outgate.nft cannot be compared", why))?;
    let text = match &args.from {
        Some(path) => dump(run, path)?,
        None => {
            // A table that is not there is an answer, and no failure of nft.
            let tables = ask(run, "nft", &["list", "tables"])?;
            if !tables.lines().any(|line| line.trim() == what) {
                return Ok((what, expected, None));
            }
            ask(run, "nft", &["-j", "list", "table", "inet", &table])?
        }
    };
    let loaded = drift::nftables::of_dump(&text, &table).or_else(|why| unreadable(run, "the dump", why))?;
    Ok((what, expected, loaded))
}

/// The texts of a folder's files, by their name without its ending; only files of this ending, so many at most.
fn texts(run: &mut Run, folder: &Path, ending: &str) -> Result<BTreeMap<String, String>, Stop> {
    /// Most files: more than any site has lists and tables.
    const MOST: usize = 10_000;
    let paths = if folder.is_dir() { run.list(folder, ending)? } else { Vec::new() };
    if paths.len() > MOST {
        return unreadable(run, &folder.display().to_string(), format!("more than {MOST} files"));
    }
    let mut texts = BTreeMap::new();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = dump(run, &path)?;
        texts.insert(name, text);
    }
    Ok(texts)
}

/// The files below a folder of those that should be loaded, by their name without its ending.
fn below<'a>(files: &'a [File], folder: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let own = |file: &'a File| Some((file.path.strip_prefix(folder)?.strip_suffix(".txt")?, file.text.as_str()));
    files.iter().filter_map(own).collect::<Vec<_>>().into_iter()
}

fn pairs(texts: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    texts.iter().map(|(name, text)| (name.as_str(), text.as_str()))
}

fn pf(run: &mut Run, args: &DriftArgs, ruleset: &Ruleset, files: &[File]) -> Result<Compared, Stop> {
    let Some(settings) = ruleset.settings.pf.as_ref() else { return Err(Stop::Found) };
    let anchor = settings.anchor.as_str();
    let mut expected = drift::pf::of_files(text_of(files, "outgate.conf"), below(files, "tables/"))
        .or_else(|why| unreadable(run, "outgate.conf cannot be compared", why))?;
    let (rules, tables) = match &args.from {
        Some(folder) => (dump(run, &folder.join("rules.txt"))?, texts(run, &folder.join("tables"), "txt")?),
        None => {
            // FreeBSD names ports where it is not asked for numbers; to OpenBSD the same letter means names.
            let numbers = settings.dialect == crate::settings::Dialect::Freebsd;
            let rules: &[&str] =
                if numbers { &["-a", anchor, "-P", "-s", "rules"] } else { &["-a", anchor, "-s", "rules"] };
            let rules = ask(run, "pfctl", rules)?;
            let mut tables = BTreeMap::new();
            for name in ask(run, "pfctl", &["-a", anchor, "-s", "Tables"])?.lines().map(str::trim) {
                if !name.is_empty() {
                    let text = ask(run, "pfctl", &["-a", anchor, "-t", name, "-T", "show"])?;
                    tables.insert(name.to_owned(), text);
                }
            }
            (rules, tables)
        }
    };
    let what = format!("anchor {anchor}");
    if rules.trim().is_empty() && tables.is_empty() {
        return Ok((what, expected, None));
    }
    let mut loaded = drift::pf::of_dump(&rules, pairs(&tables));
    if args.from.is_none() {
        // Rules in an anchor that nobody calls do nothing.
        let call = format!("the line `anchor \"{anchor}\"` of the main rules");
        if drift::pf::is_called(&ask(run, "pfctl", &["-s", "rules"])?, anchor) {
            loaded.others.insert(call.clone());
        }
        expected.others.insert(call);
    }
    Ok((what, expected, Some(loaded)))
}

fn opnsense(run: &mut Run, args: &DriftArgs, ruleset: &Ruleset, files: &[File]) -> Result<Compared, Stop> {
    let Some(settings) = ruleset.settings.opnsense.as_ref() else { return Err(Stop::Found) };
    let Some(folder) = &args.from else {
        let diagnostic = Diagnostic::new(Code::BadUsage, "what is on an OPNsense is not read by itself");
        return run.stop(diagnostic.help("export its aliases and rules into a folder: --from DIR"));
    };
    let ours = drift::opnsense::Ours { prefix: &settings.prefix, interface: &settings.interface };
    let own = if files.iter().any(|file| file.path == "rules.csv") { "rules.csv" } else { "rules.json" };
    let expected = drift::opnsense::state(text_of(files, "aliases.json"), text_of(files, own), ours, None)
        .or_else(|why| unreadable(run, "the files cannot be compared", why))?;
    let aliases = dump(run, &folder.join("aliases.json"))?;
    let csv = folder.join("rules.csv");
    let rules = dump(run, &if csv.exists() { csv } else { folder.join("rules.json") })?;
    let loaded = drift::opnsense::state(&aliases, &rules, ours, Some(&expected))
        .or_else(|why| unreadable(run, "the export", why))?;
    Ok((format!("what begins with {} and outgate", settings.prefix), expected, Some(loaded)))
}

fn squid(run: &mut Run, args: &DriftArgs, ruleset: &Ruleset, files: &[File]) -> Result<Compared, Stop> {
    let settings = ruleset.settings.squid.clone().unwrap_or_default();
    let (conf, lists) = match &args.from {
        Some(folder) => (folder.join("outgate.conf"), folder.join("lists")),
        None => (args.include.clone(), PathBuf::from(&settings.lists)),
    };
    let expected = drift::squid::of_files(text_of(files, "outgate.conf"), below(files, "lists/"));
    let what = conf.display().to_string();
    if args.from.is_none() && !conf.exists() {
        return Ok((what, expected, None));
    }
    let text = dump(run, &conf)?;
    let mut lists = texts(run, &lists, "txt")?;
    // Others may have lists there as well.
    lists.retain(|name, _| name.starts_with("allow_") || name.starts_with("deny_"));
    Ok((what, expected, Some(drift::squid::of_files(&text, pairs(&lists)))))
}

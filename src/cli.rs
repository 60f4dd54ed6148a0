//! The command line: arguments, verbs, exit codes. The only reader of clock, environment, disk and terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::catalog::{self, Catalog};
use crate::day::Day;
use crate::diagnostic::{Code, Diagnostic, Findings, Severity};
use crate::lock::Lock;
use crate::profile::{self, Profile};
use crate::report;
use crate::source::{SourceId, Sources, Span};
use crate::strict::Level;
use crate::text::{Id, decode};

#[cfg(unix)]
mod apply;
mod catalog_checks;
mod catalog_verb;
mod check;
mod completions;
mod diff;
mod drift;
mod explain;
mod generate;
mod git;
mod init;
mod lists;
mod loaded;
mod machine;
mod man;
mod many;
mod prefixes;
mod progress;
mod prompt;
mod prove;
mod resolve;
mod schema;
mod status;
mod targets;
mod test;

/// Egress allow-lists for TrueNAS systems: documented callouts in; nftables, pf, OPNsense and Squid rules out.
#[derive(Parser)]
#[command(name = "outgate", version, about, propagate_version = true, disable_help_subcommand = true, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    global: Global,
}

/// Where Debian's Squid reads includes of others.
const SQUID_INCLUDE: &str = "/etc/squid/conf.d/outgate.conf";

const AFTER: &str = "Exit codes: 0 fine; 1 something to look at (files differ, a lookup failed, a target is narrower than \
the profile, strict mode does not hold: then nothing was changed); 2 could not do it, and nothing was changed.";

#[derive(Args)]
struct Global {
    /// Read the catalog from this folder instead of the built-in one
    #[arg(long, value_name = "DIR", global = true)]
    catalog: Option<PathBuf>,
    /// Print for a person or for a program
    #[arg(long, value_enum, default_value_t = Format::Text, global = true)]
    format: Format,
    /// Print no notes, only warnings and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say on standard error which files were read, and how long each step took
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    /// For a page; lists of the catalog, the status, the proof and a difference only
    Markdown,
    /// Rows for a spreadsheet; lists of the catalog only
    Csv,
    /// SARIF 2.1.0 for code scanning: the findings
    Sarif,
    /// Workflow commands of GitHub: the findings
    Github,
    /// JUnit XML for GitLab and others; `test` and `check` only
    Junit,
}

#[derive(Subcommand)]
enum Verb {
    /// Ask a few questions, or take flags, and write a first profile with comments; then resolve and generate
    Init(init::Init),
    /// Write the targets' files from catalog, profile and lock
    Generate(generate::Generate),
    /// Ask DNS, read vendors' lists of prefixes, and write the lock; only this and what asks by it (`--resolve`, `--fresh`) goes to the network
    Resolve(resolve::Resolve),
    /// Say how old the lock is, what fails, what leaves next and what it covers, without asking anybody; `drift` looks at what is loaded
    Status(status::StatusArgs),
    /// Say of every blocked callout what stops it in each target, what remains possible and what it costs
    Prove(prove::Prove),
    /// Hold the rules to what the profile asserts of them under `tests`, and to what must hold at any site
    Test(test::Test),
    /// Everything a pull request wants, in one run: profile, lock, assertions, files, proof, and what changed
    Check(check::CheckArgs),
    /// Compare two states of a site by what they let out: git revisions, folders, releases, answers of now
    Diff(diff::Diff),
    /// Load the files on this machine, try what must still work, and go back unless somebody confirms
    #[cfg(unix)]
    Apply(apply::ApplyArgs),
    /// Compare what is loaded with what should be, by meaning: sets, rules and their order
    Drift(drift::DriftArgs),
    /// Say why a host, an address, a URL or a line of a log is let out or not, and by which rule
    Explain(explain::Explain),
    /// Merge plain lists of prefixes, and take others out of them
    Prefixes(prefixes::Prefixes),
    /// Look into the catalog
    #[command(subcommand)]
    Catalog(catalog_verb::CatalogVerb),
    /// List the targets and what they cannot express
    Targets,
    /// Print the JSON Schema of a file, for editors
    Schema(schema::Schema),
    /// Print what a shell needs to complete commands and options
    Completions(completions::Completions),
    /// Print a man page, or write all of them
    Man(man::Man),
}

/// The site: a profile, or the few words of one.
#[derive(Args, Clone)]
struct SiteArgs {
    /// The site's profile [default: outgate.yaml]
    #[arg(short = 'c', long = "config", value_name = "FILE", conflicts_with = "release")]
    config: Option<PathBuf>,
    /// Block more than the profile does: usage, error-report, operational, suspected; alone: whatever of these the
    /// catalog advises a privacy-strict site to block
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = "advised", value_delimiter = ',')]
    strict: Vec<String>,
    /// Without a profile: the release, such as 24.10, 25.10.2 or 13.3-U1.2
    #[arg(long, value_name = "RELEASE", requires = "nas")]
    release: Option<String>,
    /// Without a profile: an address or prefix of the NAS; may be given several times
    #[arg(long, value_name = "ADDR", requires = "release")]
    nas: Vec<String>,
    /// Without a profile: an address or prefix the administrator's browser is at
    #[arg(long, value_name = "ADDR", requires = "release")]
    admin: Vec<String>,
    /// Without a profile: an address or prefix of the jails
    #[arg(long, value_name = "ADDR", requires = "release")]
    jails: Vec<String>,
    /// Without a profile: an address or prefix of the apps, where it is not the NAS's
    #[arg(long, value_name = "ADDR", requires = "release")]
    apps: Vec<String>,
    /// Without a profile: a feature in use [default: the usual ones]
    #[arg(long, value_name = "FEATURE", requires = "release")]
    feature: Vec<String>,
    /// Without a profile: a DNS server the clients ask
    #[arg(long, value_name = "ADDR", requires = "release")]
    dns: Vec<String>,
    /// Without a profile: the interface the clients are behind (pf, OPNsense)
    #[arg(long, value_name = "NAME", requires = "release")]
    interface: Option<String>,
}

impl SiteArgs {
    /// The same for a profile of many.
    fn of(&self, profile: &Path) -> Self {
        Self { config: Some(profile.to_owned()), ..self.clone() }
    }
}

/// Why a verb ended early. What is wrong is in the findings already, or the reader went away.
enum Stop {
    Found,
    Output(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// A run: what was read, what was found, where to print.
struct Run {
    sources: Sources,
    findings: Findings,
    format: Format,
    quiet: bool,
    /// How many columns the terminal has that findings go to; none in a pipe, which gets the same bytes everywhere.
    width: Option<usize>,
    catalog: Option<PathBuf>,
    /// What was read once for many sites.
    shared: Shared,
    /// What `--verbose` says, and since when the step is on that is next to be said.
    verbose: Option<(Vec<String>, Instant)>,
    /// The one finding that makes the exit code 1, where a verb asks a single question.
    exit_by: Option<Code>,
    /// The exit code where nothing is wrong, for a verb whose findings are its answer.
    exit: Option<u8>,
    /// It is for one of many sites.
    many: bool,
    /// For a verb that reads two locks: empty before the first, and then where the second is read into. To get fifty
    /// megabytes anew takes as long as to fill them.
    buffer: Option<Vec<u8>>,
}

/// What many sites have in common; a clone is the same.
#[derive(Clone, Default)]
struct Shared {
    catalog: Option<Arc<Catalog>>,
    /// Catalogs of git revisions, by revision.
    revisions: Arc<BTreeMap<String, Arc<Catalog>>>,
    /// Locks by path, or by path and git revision; `None` where there is none.
    locks: Arc<BTreeMap<PathBuf, Option<Arc<Lock>>>>,
    templates: Arc<crate::target::Templates>,
}

/// Runs the program with the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    #[cfg(unix)]
    if let Some(folder) = apply::watched_folder(std::env::args_os().skip(1)) {
        return apply::watch(&folder);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failures; a reader that went away is none either.
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let mut run = Run {
        sources: Sources::default(),
        findings: Findings::default(),
        format: cli.global.format,
        quiet: cli.global.quiet,
        width: prompt::columns(),
        catalog: cli.global.catalog,
        shared: Shared::default(),
        verbose: cli.global.verbose.then(|| (Vec::new(), Instant::now())),
        exit_by: None,
        exit: None,
        many: false,
        buffer: None,
    };
    let result = match cli.verb {
        Verb::Init(args) => init::run(&mut run, &args),
        Verb::Generate(args) => generate::run(&mut run, &args),
        Verb::Resolve(args) => resolve::run(&mut run, &args),
        Verb::Status(args) => status::run(&mut run, &args),
        Verb::Prove(args) => prove::run(&mut run, &args),
        Verb::Test(args) => test::run(&mut run, &args),
        Verb::Check(args) => check::run(&mut run, &args),
        Verb::Diff(args) => diff::run(&mut run, &args),
        #[cfg(unix)]
        Verb::Apply(args) => apply::run(&mut run, &args),
        Verb::Drift(args) => drift::run(&mut run, &args),
        Verb::Explain(args) => explain::run(&mut run, &args),
        Verb::Prefixes(args) => prefixes::run(&mut run, &args),
        Verb::Catalog(verb) => catalog_verb::run(&mut run, &verb),
        Verb::Targets => targets::run(&run),
        Verb::Schema(args) => schema::run(&args),
        Verb::Completions(args) => completions::run(&args),
        Verb::Man(args) => man::run(&mut run, &args),
    };
    run.end(result)
}

impl Run {
    fn end(self, result: Result<(), Stop>) -> ExitCode {
        if let Err(Stop::Output(error)) = &result {
            if error.kind() == io::ErrorKind::BrokenPipe {
                return ExitCode::SUCCESS;
            }
            let _ = writeln!(report::terminal::stderr(), "outgate: cannot print: {error}");
            return ExitCode::from(2);
        }
        let worst = self.findings.iter().map(Diagnostic::severity).max();
        // Notes are about a result; where there is none, they would only hide the reason.
        let least = if self.quiet || worst == Some(Severity::Error) { Severity::Warning } else { Severity::Note };
        // Two targets may find the same.
        let mut said = BTreeSet::new();
        let mut is_new = |d: &&Diagnostic| {
            let place = d.labels.first().map(|label| (label.span.source, label.span.range.start));
            said.insert((d.code, place, d.message.clone()))
        };
        let findings: Vec<&Diagnostic> =
            self.findings.iter().filter(|d| d.severity() >= least).filter(&mut is_new).collect();
        // A reader that went away has nothing to be told.
        let _ = self.tell(&findings);
        if let Some((lines, _)) = &self.verbose {
            let mut err = report::terminal::stderr();
            let _ = lines.iter().try_for_each(|line| writeln!(err, "{line}"));
        }
        let failed = result.is_err() || worst == Some(Severity::Error);
        match self.exit.filter(|_| !failed) {
            Some(code) => ExitCode::from(code),
            None => ExitCode::from(exit_code(&self.findings, failed, self.exit_by)),
        }
    }

    /// A run of its own for one of many sites, with what they share.
    fn of_site(&self) -> Self {
        Self {
            sources: self.sources.clone(),
            findings: Findings::default(),
            format: self.format,
            quiet: self.quiet,
            width: self.width,
            catalog: self.catalog.clone(),
            shared: self.shared.clone(),
            verbose: None,
            exit_by: None,
            exit: None,
            many: true,
            buffer: None,
        }
    }

    /// Takes over what a run of its own has found.
    fn take(&mut self, sources: &Sources, findings: Vec<Diagnostic>) {
        for mut finding in findings {
            for label in &mut finding.labels {
                label.span.source = self.sources.adopt(sources, label.span.source);
            }
            self.findings.push(finding);
        }
    }

    /// Ends a step, for `--verbose`.
    fn step(&mut self, name: &str) {
        if let Some((lines, since)) = &mut self.verbose {
            lines.push(format!("took {:>6.1} ms: {name}", since.elapsed().as_secs_f64() * 1000.0));
            *since = Instant::now();
        }
    }

    /// Prints findings: for people beside the result, for forges in its place.
    fn tell(&self, findings: &[&Diagnostic]) -> io::Result<()> {
        let (mut out, mut err) = (report::terminal::stdout(), report::terminal::stderr());
        match self.format {
            // A verb whose findings are its answer has printed them.
            Format::Sarif if self.exit.is_none() => {
                writeln!(out, "{:#}", report::sarif::document(findings, &self.sources))
            }
            Format::Sarif => Ok(()),
            Format::Github => {
                findings.iter().try_for_each(|d| writeln!(out, "{}", report::github::annotation(d, &self.sources)))
            }
            Format::Json => {
                findings.iter().try_for_each(|d| writeln!(err, "{}", report::json::diagnostic(d, &self.sources)))
            }
            Format::Text | Format::Markdown | Format::Csv | Format::Junit => {
                findings.iter().try_for_each(|d| self.print(d, &mut err))
            }
        }
    }

    /// Prints a finding for people.
    fn print(&self, finding: &Diagnostic, out: &mut impl Write) -> io::Result<()> {
        report::terminal::print(finding, &self.sources, self.width, out)
    }

    /// Whether every error is a refusal: what was asked for is sound, and does not hold. That is an answer, not a failure
    /// to give one.
    fn only_refused(&self) -> bool {
        only_refused(&self.findings)
    }

    fn stop<T>(&mut self, diagnostic: Diagnostic) -> Result<T, Stop> {
        self.findings.push(diagnostic);
        Err(Stop::Found)
    }

    /// Reads a text file into the sources.
    fn read(&mut self, path: &Path) -> Result<SourceId, Stop> {
        self.read_into(path, Vec::new())
    }

    /// The same, with memory that is there already.
    fn read_into(&mut self, path: &Path, buffer: Vec<u8>) -> Result<SourceId, Stop> {
        let shown = path.display();
        match read_whole_into(path, buffer).map(decode) {
            Ok(Ok(text)) => {
                self.tell_read(path, text.len());
                Ok(self.sources.add(shown.to_string(), text))
            }
            Ok(Err(foreign)) => {
                let diagnostic = Diagnostic::new(Code::Unreadable, format!("{shown} {}", foreign.what));
                let diagnostic = match foreign.shown {
                    Some((text, range)) => {
                        let source = self.sources.add(shown.to_string(), text);
                        diagnostic.at(Span { source, range }, "")
                    }
                    None => diagnostic,
                };
                self.stop(diagnostic.help(foreign.help))
            }
            Err(error) => {
                self.stop(Diagnostic::new(Code::Unreadable, format!("cannot read {shown}: {}", plain(&error))))
            }
        }
    }

    /// Keeps for `--verbose` what was read.
    fn tell_read(&mut self, path: &Path, bytes: usize) {
        if let Some((lines, _)) = &mut self.verbose {
            lines.push(format!("read {} ({bytes} bytes)", path.display()));
        }
    }

    /// The day it is: the clock's, or that of `SOURCE_DATE_EPOCH`, by which builds are made to come out the same.
    fn today(&mut self) -> Result<Day, Stop> {
        let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(Day::today()) };
        let seconds = text.to_str().and_then(|text| text.parse().ok());
        match seconds.and_then(Day::of_unix_seconds) {
            Some(day) => Ok(day),
            None => {
                let diagnostic = Diagnostic::new(Code::BadUsage, "SOURCE_DATE_EPOCH in the environment is no time");
                self.stop(diagnostic.help("it counts seconds since 1970: set it right, or unset it"))
            }
        }
    }

    /// The catalog, read once.
    fn catalog(&mut self) -> Result<Arc<Catalog>, Stop> {
        if let Some(catalog) = &self.shared.catalog {
            return Ok(Arc::clone(catalog));
        }
        let files = match self.catalog.clone() {
            None => catalog::embedded::files(&mut self.sources),
            Some(folder) => self.catalog_folder(&folder)?,
        };
        let catalog = catalog::read(&self.sources, &files, &mut self.findings).map(Arc::new).ok_or(Stop::Found)?;
        self.shared.catalog = Some(Arc::clone(&catalog));
        Ok(catalog)
    }

    fn catalog_folder(&mut self, folder: &Path) -> Result<catalog::Files, Stop> {
        let releases = self.read(&folder.join("releases.yaml"))?;
        let sources = self.read(&folder.join("sources.yaml"))?;
        let features = self.read(&folder.join("features.yaml"))?;
        let mut maybe = |name: &str| {
            let path = folder.join(name);
            if path.exists() { self.read(&path).map(Some) } else { Ok(None) }
        };
        let (providers, pages) = (maybe("providers.yaml")?, maybe("pages.yaml")?);
        let mut callouts = Vec::new();
        let folder = folder.join("callouts");
        for path in self.list(&folder, "yaml")? {
            callouts.push(self.read(&path)?);
        }
        if callouts.is_empty() {
            let message = format!("{} holds no file that ends in `.yaml`", folder.display());
            return self.stop(Diagnostic::new(Code::Empty, message).help("a catalog has its entries there"));
        }
        Ok(catalog::Files { releases, sources, features, providers, pages, callouts })
    }

    /// The files of a folder with this ending, by name.
    fn list(&mut self, folder: &Path, ending: &str) -> Result<Vec<PathBuf>, Stop> {
        let entries = std::fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect::<io::Result<Vec<PathBuf>>>());
        match entries {
            Ok(mut paths) => {
                paths.retain(|path| path.extension().is_some_and(|e| e == ending));
                paths.sort();
                Ok(paths)
            }
            Err(error) => {
                let message = format!("cannot read folder {}: {}", folder.display(), plain(&error));
                self.stop(Diagnostic::new(Code::Unreadable, message))
            }
        }
    }

    /// A run without a profile must not replace the files of a site that has one here.
    fn keep_off_site(&mut self, args: &SiteArgs, instead: &str) -> Result<(), Stop> {
        if args.release.is_none() || !Path::new("outgate.yaml").exists() {
            return Ok(());
        }
        let message = "this folder has an outgate.yaml, whose files a run without it would replace";
        let help = format!("use the profile with -c outgate.yaml, or write elsewhere with {instead}");
        self.stop(Diagnostic::new(Code::BadUsage, message).help(help))
    }

    /// The site's profile and the folder its lock and output lie in.
    fn site(&mut self, args: &SiteArgs, targets: &[String], catalog: &Catalog) -> Result<(Profile, PathBuf), Stop> {
        let (id, folder) = match (&args.release, &args.config) {
            (Some(release), _) => {
                let mut features: Vec<&str> = args.feature.iter().map(String::as_str).collect();
                if features.is_empty() {
                    features = usual_features(catalog, release);
                    let list = features.join(", ");
                    self.findings.push(
                        Diagnostic::new(
                            Code::Assumed,
                            format!("no --feature given: the usual ones are taken to be in use ({list})"),
                        )
                        .help("name those in use, or write a profile"),
                    );
                }
                let text = spell_out(args, release, &features, targets);
                (self.sources.add("<command line as a profile>", text), PathBuf::new())
            }
            (None, Some(path)) => return self.profile(path, args, catalog),
            (None, None) => {
                let path = Path::new("outgate.yaml");
                if !path.exists() {
                    let diagnostic = Diagnostic::new(Code::Unreadable, "there is no outgate.yaml in this folder");
                    return self.stop(
                        diagnostic
                            .help("write one with `outgate init`, name one with -c FILE, or do without: --release 24.10 --nas 192.0.2.10"),
                    );
                }
                (self.read(path)?, PathBuf::new())
            }
        };
        Ok((self.profile_of(id, args, catalog)?, folder))
    }

    /// The profile in a file, and the folder that file is in.
    fn profile(&mut self, path: &Path, args: &SiteArgs, catalog: &Catalog) -> Result<(Profile, PathBuf), Stop> {
        let id = self.read(path)?;
        Ok((self.profile_of(id, args, catalog)?, path.parent().map(Path::to_owned).unwrap_or_default()))
    }

    /// A profile that was read, with what the command line adds to it. It can block more, and never less.
    fn profile_of(&mut self, id: SourceId, args: &SiteArgs, catalog: &Catalog) -> Result<Profile, Stop> {
        let mut profile =
            profile::read(&self.sources, id, &catalog.known(false), &mut self.findings).ok_or(Stop::Found)?;
        for word in &args.strict {
            match Level::parse(word) {
                Ok(level) => _ = profile.strict.levels.insert(level),
                Err((message, help)) => {
                    return self.stop(Diagnostic::new(Code::BadUsage, format!("--strict: {message}")).help(help));
                }
            }
        }
        Ok(profile)
    }

    /// The user's own templates, by path below the folder.
    fn templates(&mut self, folder: Option<&Path>) -> Result<BTreeMap<String, SourceId>, Stop> {
        let mut replaced = BTreeMap::new();
        let Some(folder) = folder else { return Ok(replaced) };
        if let Err(error) = std::fs::read_dir(folder) {
            let message = format!("cannot read folder {}: {}", folder.display(), plain(&error));
            return self.stop(Diagnostic::new(Code::Unreadable, message));
        }
        for target in crate::target::TARGETS {
            for (name, _) in target.templates {
                let path = folder.join(name);
                if path.exists() {
                    replaced.insert((*name).to_owned(), self.read(&path)?);
                }
            }
        }
        if replaced.is_empty() {
            let message = format!("{} holds no template of any target", folder.display());
            return self.stop(
                Diagnostic::new(Code::BadUsage, message)
                    .help("templates are looked for by their built-in paths, such as `nftables/outgate.nft.j2`"),
            );
        }
        Ok(replaced)
    }
}

/// Whether every error among findings is a refusal.
fn only_refused(findings: &Findings) -> bool {
    findings.iter().all(|d| d.severity() < Severity::Error || d.code.is_refusal())
}

/// The exit code by what was found. `exit_by`: the one warning that counts.
fn exit_code(findings: &Findings, failed: bool, exit_by: Option<Code>) -> u8 {
    let counts = |d: &&Diagnostic| exit_by.is_none_or(|code| d.code == code || d.severity() == Severity::Error);
    match findings.iter().filter(counts).map(Diagnostic::severity).max() {
        Some(Severity::Error) if only_refused(findings) => 1,
        Some(Severity::Error) => 2,
        _ if failed => 2,
        Some(Severity::Warning) => 1,
        _ => 0,
    }
}

/// A whole file, unless it is larger than any of ours.
fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    read_whole_into(path, Vec::new())
}

/// Longest file that is read, in bytes: a hundred times the largest catalog seen.
const READ_MAX: u64 = 64 << 20;

fn read_whole_into(path: &Path, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    let length = std::fs::metadata(path)?.len();
    if length > READ_MAX {
        return Err(io::Error::other(format!("larger than {} MiB", READ_MAX >> 20)));
    }
    buffer.clear();
    // Of its own accord a buffer grows to twice what it was.
    buffer.reserve_exact(usize::try_from(length).unwrap_or(0));
    std::fs::File::open(path)?.read_to_end(&mut buffer)?;
    Ok(buffer)
}

/// An operating system's error without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// The usual features of a release, as the catalog has them.
fn usual_features<'a>(catalog: &'a Catalog, release: &str) -> Vec<&'a str> {
    let Ok(release) = catalog.release(release) else { return Vec::new() };
    let made: Vec<&Id> = catalog.of_release(&release).filter_map(|(callout, _)| callout.feature.as_ref()).collect();
    let usual = catalog.features.iter().filter(|(id, feature)| feature.usual && made.contains(id));
    usual.map(|(id, _)| id.as_str()).collect()
}

/// The profile that a few flags stand for, as YAML, so that one reader checks both and messages show what was meant.
fn spell_out(args: &SiteArgs, release: &str, features: &[&str], targets: &[String]) -> String {
    // A JSON string is a YAML string, whatever is in it.
    let text = |value: &str| serde_json::Value::from(value).to_string();
    let list = |values: &[&str]| format!("[{}]", values.iter().map(|v| text(v)).collect::<Vec<_>>().join(", "));
    let mut out = format!("site: command line\nrelease: {}\nclients:\n", text(release));
    for (key, values) in [("nas", &args.nas), ("admin", &args.admin), ("jails", &args.jails), ("apps", &args.apps)] {
        if !values.is_empty() {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            out.push_str(&format!("  {key}: {}\n", list(&values)));
        }
    }
    out.push_str(&format!("features: {}\n", list(features)));
    if !args.dns.is_empty() {
        let servers: Vec<String> = args.dns.iter().map(|dns| format!("{{host: {}}}", text(dns))).collect();
        out.push_str(&format!("servers: {{dns: [{}]}}\n", servers.join(", ")));
    }
    out.push_str("targets:\n");
    let interface = args.interface.as_deref().map(|name| format!("interface: {}", text(name)));
    for target in targets {
        let settings = match target.as_str() {
            "squid" | "lists" | "unbound" | "dnsmasq" | "rpz" | "hosts" => String::new(),
            "opnsense" => {
                ["version: \"26.1\"".to_owned()].into_iter().chain(interface.clone()).collect::<Vec<_>>().join(", ")
            }
            _ => interface.clone().unwrap_or_default(),
        };
        out.push_str(&format!("  {target}: {{{settings}}}\n"));
    }
    out
}

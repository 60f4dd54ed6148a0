//! `outgate resolve`

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Format, Run, SiteArgs, Stop, plain, progress};
use crate::day::Day;
use crate::diagnostic::{Code, Diagnostic};
use crate::files::{self, FileError, Staged};
use crate::host::Query;
use crate::lock::{self, Lock};
use crate::policy::{self, Policy};
use crate::report;
use crate::resolve::{Answer, Answers, Resolve as _, dns::Dns};
use crate::text::Text;

#[derive(Args)]
pub(super) struct Resolve {
    #[command(flatten)]
    site: SiteArgs,
    #[command(flatten)]
    dns: DnsArgs,
    /// The lock to write [default: outgate.lock beside the profile]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
}

/// How names are asked.
#[derive(Args)]
pub(super) struct DnsArgs {
    /// Ask this name server, ADDR or ADDR:PORT; may be given several times, asked in that order [default: the system's]
    #[arg(long, value_name = "ADDR", value_parser = server)]
    resolver: Vec<SocketAddr>,
    /// A line to keep in the lock's head, such as from where the names were asked
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

fn server(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, 53)))
        .map_err(|_| "an address of a name server, such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53".to_owned())
}

pub(super) fn run(run: &mut Run, args: &Resolve) -> Result<(), Stop> {
    if args.lock.is_none() {
        run.keep_off_site(&args.site, "--lock FILE")?;
    }
    let catalog = run.catalog()?;
    let (profile, folder) = run.site(&args.site, &[], &catalog)?;
    let policy = policy::decide(&catalog, &profile, &mut run.findings).ok_or(Stop::Found)?;
    let path = args.lock.clone().unwrap_or_else(|| folder.join("outgate.lock"));
    let old = read(run, &path)?;
    let lock = ask(run, &policy, old.as_ref(), &args.dns)?;
    stage(run, &path, &lock)?.commit().or_else(|e| run.stop(unwritable(&e)))?;
    let addresses: usize = lock.hosts.values().map(|entry| entry.addresses.len()).sum();
    let (shown, names) = (path.display().to_string(), lock.hosts.len());
    if run.format == Format::Json {
        let version = report::json::FORMAT_VERSION;
        let document =
            serde_json::json!({"format_version": version, "lock": shown, "names": names, "addresses": addresses});
        writeln!(report::terminal::stdout(), "{document:#}")?;
    } else if !run.quiet {
        writeln!(report::terminal::stdout(), "{shown}: {names} names, {addresses} addresses")?;
    }
    Ok(())
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
    let id = run.read(path)?;
    Lock::parse(&run.sources, id).or_else(|diagnostic| run.stop(diagnostic))
}

/// Asks every name of the policy.
pub(super) fn ask(run: &mut Run, policy: &Policy, old: Option<&Lock>, args: &DnsArgs) -> Result<Lock, Stop> {
    let note = match args.note.as_deref().map(Text::parse).transpose() {
        Ok(note) => note,
        Err(error) => return run.stop(Diagnostic::new(Code::BadUsage, format!("the note {error}"))),
    };
    let dns = if args.resolver.is_empty() { Dns::system() } else { Ok(Dns::with_servers(&args.resolver)) };
    let queries: BTreeSet<_> = policy.queries().into_keys().collect();
    let answers = dns.and_then(|dns| progress::with_bar("asking", |tick| dns.resolve(&queries, tick)));
    match answers {
        Ok(answers) => {
            let lock = lock::update(policy, old, &answers, Day::today(), note, &mut run.findings);
            let seen = |entry: &lock::Entry| {
                !entry.targets.is_empty() || entry.addresses.values().any(|s| s.missing.is_none())
            };
            // A resolver that knows nothing at all is one that blocks, or one of an island: no lock is made of that.
            if !queries.is_empty() && !lock.hosts.values().any(seen) {
                let message =
                    format!("not one of {} names has an address that can be: {}", queries.len(), said(&answers));
                let diagnostic = Diagnostic::new(Code::NoResolver, message);
                return run.stop(diagnostic.help("the lock is as it was; ask another server with --resolver ADDR"));
            }
            Ok(lock)
        }
        Err(error) => {
            let diagnostic = Diagnostic::new(Code::NoResolver, error.to_string());
            run.stop(diagnostic.help("the lock is as it was; name a server with --resolver ADDR"))
        }
    }
}

/// What the name servers said to the first names.
fn said(answers: &Answers) -> String {
    let failure = |(query, answer): (&Query, &Answer)| {
        let address = || answer.addresses.first().map(ToString::to_string);
        Some(format!("`{query}` {}", answer.failures.values().next().map(ToString::to_string).or_else(address)?))
    };
    answers.iter().filter_map(failure).take(3).collect::<Vec<_>>().join(", ")
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

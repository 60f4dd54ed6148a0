//! `outgate prove`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::generate::{self, Given};
use super::{Format, Run, SiteArgs, Stop, resolve};
use crate::diagnostic::{Code, Diagnostic};
use crate::files::{self, Difference};
use crate::policy;
use crate::proof::{self, Made, State};
use crate::report;
use crate::target::{File, Target};

#[derive(Args)]
pub(super) struct Prove {
    #[command(flatten)]
    site: SiteArgs,
    /// The files to prove it of, as `generate` wrote them [default: out beside the profile]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The lock to read [default: outgate.lock beside the profile]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Prove it even of answers that are older than they may be
    #[arg(long)]
    allow_stale: bool,
    /// Take templates from this folder where it has them, by their built-in paths
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
}

pub(super) fn run(run: &mut Run, args: &Prove) -> Result<(), Stop> {
    if args.site.release.is_some() {
        let diagnostic = Diagnostic::new(Code::BadUsage, "a proof is of a site's targets, which no flag names");
        return run
            .stop(diagnostic.help("write a profile; `outgate catalog list --class usage` shows what is blocked"));
    }
    let catalog = run.catalog()?;
    let (profile, folder) = run.site(&args.site, &[], &catalog)?;
    let policy = policy::decide(&catalog, &profile, &mut run.findings).ok_or(Stop::Found)?;
    let targets = generate::chosen_targets(run, Vec::new(), &policy.settings)?;
    let (_, lock) = resolve::named_or_beside(run, args.lock.as_deref(), &folder)?;
    let given = Given { policy: &policy, lock: lock.as_ref(), before: None, allow_stale: args.allow_stale };
    let (ruleset, rendered) = generate::render(run, &given, &targets, args.templates.as_deref())?;
    // What is refused is a claim that does not hold; anything else that is wrong leaves nothing to prove.
    if run.findings.has_errors() && !run.only_refused() {
        return Err(Stop::Found);
    }
    let out = args.out.clone().unwrap_or_else(|| folder.join("out"));
    let rendered: BTreeMap<&str, Vec<File>> = rendered.into_iter().map(|(t, files)| (t.name, files)).collect();
    let mut made = Vec::new();
    for target in targets {
        let files = rendered.get(target.name).map(Vec::as_slice);
        let state = files.map_or(Ok(State::Refused), |files| state(run, &out, target, files))?;
        made.push(Made { target, files, state });
    }
    let proof = proof::prove(&ruleset, lock.as_ref(), &made);
    let mut stdout = report::terminal::stdout();
    match run.format {
        Format::Json => writeln!(stdout, "{:#}", report::proof::json(&proof))?,
        Format::Markdown => report::proof::markdown(&proof, &mut stdout)?,
        Format::Text | Format::Csv | Format::Junit => report::proof::text(&proof, &mut stdout)?,
        // The findings alone.
        Format::Sarif | Format::Github => {}
    }
    stdout.flush()?;
    run.exit_by = Some(Code::NotProven);
    if !proof.holds() {
        run.findings.push(
            Diagnostic::new(Code::NotProven, "not every claim of strict mode holds")
                .help("the lines marked OPEN and the targets whose files differ say which; `outgate generate` writes the files anew"),
        );
    }
    Ok(())
}

/// What is true of a target's files on disk. `retired.json` knows what was there before, so it is no part of what is
/// claimed.
pub(super) fn state(run: &mut Run, out: &Path, target: &Target, files: &[File]) -> Result<State, Stop> {
    let name = |file: &File| format!("{}/{}", target.name, file.path);
    let wanted: BTreeMap<String, String> = files.iter().map(|file| (name(file), file.text.clone())).collect();
    let owned: Vec<&str> = target.owns.iter().copied().filter(|path| !path.ends_with("/retired.json")).collect();
    let differences = match files::compare(out, &wanted, &owned) {
        Ok(differences) => differences,
        Err(e) => {
            let message = format!("cannot read {}: {}", e.path.display(), super::plain(&e.error));
            return run.stop(Diagnostic::new(Code::Unreadable, message));
        }
    };
    let missing = differences.iter().filter(|difference| matches!(difference, Difference::Missing(_))).count();
    Ok(match differences.len() {
        0 => State::Same,
        n if n == missing && missing == wanted.len() => State::Absent,
        _ => State::Differ,
    })
}

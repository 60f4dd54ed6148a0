//! `outgate test`

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::generate::{self, Rendered};
use super::{Format, Run, SiteArgs, Stop, check, resolve};
use crate::diagnostic::{Code, Diagnostic, Findings, Severity};
use crate::lock::Lock;
use crate::policy::{self, Policy};
use crate::profile::Profile;
use crate::proof::{self, Made, State};
use crate::report;
use crate::ruleset::{self, Ruleset};
use crate::target::{self, Target};
use crate::verify::{self, Report};

#[derive(Args)]
pub(super) struct Test {
    #[command(flatten)]
    site: SiteArgs,
    /// The lock to read [default: outgate.lock beside the profile]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Take templates from this folder where it has them, by their built-in paths
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
}

pub(super) fn run(run: &mut Run, args: &Test) -> Result<(), Stop> {
    if args.site.release.is_some() {
        let diagnostic = Diagnostic::new(Code::BadUsage, "assertions are of a profile, which no flag gives");
        return run.stop(diagnostic.help("write a profile with what must hold under `tests:`"));
    }
    let catalog = run.catalog()?;
    let (profile, folder) = run.site(&args.site, &[], &catalog)?;
    let policy = policy::decide(&catalog, &profile, &mut run.findings).ok_or(Stop::Found)?;
    let targets = generate::chosen_targets(run, Vec::new(), &policy.settings)?;
    let (_, lock) = resolve::named_or_beside(run, args.lock.as_deref(), &folder)?;
    let mut found = Findings::default();
    let subject = Subject { policy: &policy, profile: &profile, lock: lock.as_ref() };
    let report = judge(run, &subject, &targets, args.templates.as_deref(), &mut found)?;
    print(run, &report, &found)?;
    run.exit = Some(u8::from(!report.holds()));
    Ok(())
}

/// What is held to its assertions.
struct Subject<'a> {
    policy: &'a Policy,
    profile: &'a Profile,
    lock: Option<&'a Lock>,
}

/// Holds the rules to what is asserted of them. What rules have to say by themselves is of no interest here, but for what
/// keeps them from being any.
fn judge(
    run: &mut Run,
    subject: &Subject<'_>,
    targets: &[&'static Target],
    templates: Option<&Path>,
    found: &mut Findings,
) -> Result<Report, Stop> {
    let mut own = Findings::default();
    let ruleset = ruleset::build(subject.policy, subject.lock, &mut own);
    if own.has_errors() {
        run.findings.extend(own.iter().filter(|finding| finding.severity() == Severity::Error).cloned());
        return Err(Stop::Found);
    }
    // Without anything that is blocked no file is looked at.
    let rendered = match ruleset.blocked.is_empty() {
        true => Rendered::new(),
        false => render(run, &ruleset, targets, templates, found)?,
    };
    let report = hold(&ruleset, subject.lock, subject.profile, targets, &rendered);
    report.tell(found);
    Ok(report)
}

/// The files as they would be written: whether they are is no matter of the rules.
fn render(
    run: &mut Run,
    ruleset: &Ruleset,
    targets: &[&'static Target],
    templates: Option<&Path>,
    found: &mut Findings,
) -> Result<Rendered, Stop> {
    let replaced = run.templates(templates)?;
    let mut own = Findings::default();
    let mut rendered = Rendered::new();
    for target in targets {
        let files = target::render(target, ruleset, &replaced, &mut run.sources, &mut own);
        rendered.extend(files.map(|files| (*target, files)));
    }
    // These two are assertions themselves; whatever else is wrong says why there is nothing to prove.
    let said = |finding: &&Diagnostic| {
        finding.severity() == Severity::Error && !matches!(finding.code, Code::SharedAddress | Code::OneFamily)
    };
    found.extend(own.iter().filter(said).cloned());
    Ok(rendered)
}

/// Holds rules to their assertions; strict mode is proven of these files, whatever is on disk.
pub(super) fn hold(
    ruleset: &Ruleset,
    lock: Option<&Lock>,
    profile: &Profile,
    targets: &[&'static Target],
    rendered: &Rendered,
) -> Report {
    let made = targets.iter().map(|target| {
        let files = rendered.iter().find(|(own, _)| own.name == target.name).map(|(_, files)| files.as_slice());
        Made { target, files, state: if files.is_some() { State::Same } else { State::Refused } }
    });
    let made: Vec<Made<'_>> = made.collect();
    let proof = (!ruleset.blocked.is_empty()).then(|| proof::prove(ruleset, lock, &made));
    verify::verify(ruleset, lock, profile, proof.as_ref())
}

fn print(run: &Run, report: &Report, found: &Findings) -> Result<(), Stop> {
    let findings: Vec<&Diagnostic> = found.iter().collect();
    let mut out = report::terminal::stdout();
    match run.format {
        Format::Json => writeln!(out, "{:#}", report::verify::json(report, &findings, &run.sources))?,
        Format::Sarif => writeln!(out, "{:#}", report::sarif::document(&findings, &run.sources))?,
        Format::Junit => report::junit::document(&check::of_tests(report, found), &run.sources, &mut out)?,
        Format::Github => {
            for finding in findings {
                writeln!(out, "{}", report::github::annotation(finding, &run.sources))?;
            }
            writeln!(out, "{}", report::github::line(&report::verify::summary(report)))?;
        }
        Format::Text | Format::Markdown | Format::Csv => {
            report::verify::text(report, &run.sources, run.quiet, &mut out)?;
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

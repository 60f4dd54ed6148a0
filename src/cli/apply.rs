//! `outgate apply`: checks, loads, tries what must still work, and goes back unless somebody confirms. Going back is the
//! work of a process of its own, which outlives this one.

mod planning;
mod probing;
mod state;
mod waiting;
mod watch;

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::loaded::Loaded;
use super::{Format, Run, Stop, generate, machine};
use crate::apply::{self, Decision, Outcome, Probe, ProbeKind, Step, Watch};
use crate::diagnostic::{Code, Diagnostic};
use crate::report;
use crate::ruleset::Ruleset;
use crate::target::File;
use crate::text::quoted_to;
use planning::Machine;
use state::{Pending, Room, Stage};
use waiting::Watcher;

pub(super) use watch::{watch, watched_folder};

#[derive(Args)]
pub(super) struct ApplyArgs {
    /// What is loaded, on this machine
    #[arg(value_enum, required_unless_present_any = ["confirm", "revert"])]
    target: Option<Enforcer>,
    /// Keep what another run loaded, from any session
    #[arg(long, conflicts_with_all = ["target", "revert"])]
    confirm: bool,
    /// Take back at once what another run loaded
    #[arg(long, conflicts_with = "target")]
    revert: bool,
    /// Go back after so many seconds without a confirmation
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    confirm_within: u64,
    /// Keep it when every probe succeeds, with nobody there to confirm
    #[arg(long, conflicts_with_all = ["confirm", "revert"])]
    yes: bool,
    /// Folder for what is needed to go back [default: outgate below /run or /var/run]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The file that names this machine's own resolvers
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,
    /// Where Squid's include goes; its lists go where the profile says
    #[arg(long, value_name = "FILE", default_value = super::SQUID_INCLUDE)]
    include: PathBuf,
    /// Squid's own file, which includes ours [default: the one Squid finds]
    #[arg(long, value_name = "FILE")]
    squid_conf: Option<PathBuf>,
    /// The file that nft reads our table from at boot: what stays is copied there
    #[arg(long, value_name = "FILE")]
    boot_file: Option<PathBuf>,
    #[command(flatten)]
    loaded: Loaded,
    /// The files, as `generate` wrote them [default: out beside the profile]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Whether the files of a target can be loaded by it.
pub(super) fn loads(target: &str) -> bool {
    Enforcer::from_str(target, false).is_ok()
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Enforcer {
    /// Our table, by nft
    Nftables,
    /// Our anchor, its tables and their files, by pfctl
    Pf,
    /// The include and its lists, by squid
    Squid,
}

impl Enforcer {
    fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Pf => "pf",
            Self::Squid => "squid",
        }
    }

    /// The program that loads it.
    fn program(self) -> &'static str {
        match self {
            Self::Nftables => "nft",
            Self::Pf => "pfctl",
            Self::Squid => "squid",
        }
    }
}

/// Longest text that is shown of what others say.
const LONGEST: usize = 600;

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(30);

/// How long the watcher may take to go back before somebody is told to look.
const PATIENCE: Duration = Duration::from_secs(180);

/// What was done, line by line: told as it happens, and kept for `--format json`.
#[derive(Default)]
struct Audit {
    quiet: bool,
    json: bool,
    lines: Vec<String>,
}

impl Audit {
    fn say(&mut self, line: impl Into<String>) {
        let line = line.into();
        if self.json && !self.quiet {
            let _ = writeln!(report::terminal::stderr(), "{}", json!({ "step": line }));
        } else if !self.quiet {
            tell(&line);
        }
        self.lines.push(line);
    }
}

/// A line for whoever is there. Nobody may be: a terminal that is gone stops nothing.
fn tell(line: &str) {
    let _ = writeln!(report::terminal::stderr(), "outgate: {}", quoted_to(line, LONGEST));
}

pub(super) fn run(run: &mut Run, args: &ApplyArgs) -> Result<(), Stop> {
    need_root(run)?;
    let room = match Room::open(args.state.as_deref()) {
        Ok(room) => room,
        Err(why) => {
            let help = "it must be a folder that belongs to root, and that nobody else may write to";
            return run.stop(Diagnostic::new(Code::Unwritable, why).help(help));
        }
    };
    match args.target {
        Some(target) if args.boot_file.is_some() && target != Enforcer::Nftables => {
            let message = format!("`--boot-file` is for nftables: {} has files of its own", target.name());
            run.stop(Diagnostic::new(Code::BadUsage, message).help("leave it out"))
        }
        Some(target) => load(run, args, target, &room),
        None => decide(run, &room, args.confirm),
    }
}

fn need_root(run: &mut Run) -> Result<(), Stop> {
    if watch::is_root() {
        return Ok(());
    }
    let diagnostic = Diagnostic::new(Code::NoEnforcer, "only root may load rules");
    run.stop(diagnostic.help("run it as root, on the machine the rules are for"))
}

/// `--confirm` and `--revert`.
fn decide(run: &mut Run, room: &Room, keep: bool) -> Result<(), Stop> {
    let lock = room.lock().or_else(|why| run.stop(Diagnostic::new(Code::Unwritable, why)))?;
    let Some(pending) = room.pending() else {
        let mut diagnostic = Diagnostic::new(Code::ApplyPending, "nothing waits for a confirmation");
        if let Some(last) = room.last() {
            let became = if last.decision.keep { "was kept" } else { "was taken back" };
            diagnostic = diagnostic.help(format!(
                "the last one, {}, {became}: {}",
                last.target,
                quoted_to(&last.decision.why, LONGEST)
            ));
        }
        return run.stop(diagnostic);
    };
    if lock.is_none() && keep && !pending.is_at(Stage::Ready) {
        let diagnostic = Diagnostic::new(Code::ApplyPending, "it is not loaded yet, or its probes are not done");
        return run.stop(diagnostic.help("try again in some seconds"));
    }
    if lock.is_some() {
        // Nobody is left who did what was decided, or it could not be done. What is said now holds.
        pending.undecide();
    }
    let why = if keep { "confirmed by `outgate apply --confirm`" } else { "`outgate apply --revert`" };
    let decision = Decision { keep, why: why.to_owned() };
    let decided = pending.decide(&decision).or_else(|why| run.stop(Diagnostic::new(Code::Unwritable, why)))?;
    if decided != decision {
        let became = if decided.keep { "kept" } else { "taken back" };
        let diagnostic = Diagnostic::new(
            Code::ApplyPending,
            format!("too late: it is {became}: {}", quoted_to(&decided.why, LONGEST)),
        );
        return run.stop(diagnostic);
    }
    // Where nobody waits any more, it is finished here.
    let outcome = match lock {
        Some(_) => pending.finish(room).or_else(|why| run.stop(Diagnostic::new(Code::BadDump, why)))?,
        None => room.wait_for(&pending, PATIENCE).unwrap_or(Outcome {
            target: String::new(),
            decision: decided,
            failed: if keep { Vec::new() } else { vec!["it did not end in time".to_owned()] },
        }),
    };
    conclude(run, room, &outcome, &Audit::default(), &[])
}

/// What came of it: a line or a document, findings, the exit code.
fn conclude(run: &mut Run, room: &Room, outcome: &Outcome, audit: &Audit, probes: &[Tried]) -> Result<(), Stop> {
    let mut stdout = report::terminal::stdout();
    let word = match outcome.exit() {
        0 => "applied",
        1 => "reverted",
        _ => "stuck",
    };
    let why = quoted_to(&outcome.decision.why, LONGEST);
    match run.format {
        Format::Json => {
            let document = json!({
                "format_version": report::json::FORMAT_VERSION,
                "target": outcome.target,
                "outcome": word,
                "why": outcome.decision.why,
                "steps": audit.lines,
                "probes": probes.iter().map(Tried::json).collect::<Vec<_>>(),
                "failed": outcome.failed,
            });
            writeln!(stdout, "{document:#}")?;
        }
        Format::Text | Format::Markdown | Format::Csv | Format::Junit => {
            writeln!(stdout, "{word}: {}: {why}", outcome.target)?;
        }
        // The findings alone.
        Format::Sarif | Format::Github => {}
    }
    stdout.flush()?;
    match outcome.exit() {
        0 => {}
        1 => run
            .findings
            .push(Diagnostic::new(Code::TakenDown, format!("{} is as it was before: {why}", outcome.target))),
        _ => {
            let failed: Vec<String> = outcome.failed.iter().map(|line| quoted_to(line, LONGEST)).collect();
            let message =
                format!("{} was to be taken back ({why}), and was not: {}", outcome.target, failed.join("; "));
            let help = format!("what was there before lies in {}", room.pending_path().display());
            run.findings.push(Diagnostic::new(Code::StuckLoaded, message).help(help));
        }
    }
    run.exit = Some(outcome.exit());
    Ok(())
}

/// A probe, and what became of it before and after.
struct Tried {
    probe: Probe,
    before: bool,
    after: Option<bool>,
}

impl Tried {
    fn json(&self) -> Value {
        json!({
            "what": self.probe.what,
            "at": self.probe.at.to_string(),
            "before": self.before,
            "after": self.after,
        })
    }
}

fn load(run: &mut Run, args: &ApplyArgs, target: Enforcer, room: &Room) -> Result<(), Stop> {
    let mut audit = Audit { quiet: run.quiet, json: run.format == Format::Json, ..Audit::default() };
    let (ruleset, files) = up_to_date(run, args, target)?;
    audit.say("the files are what catalog, profile and lock say");
    let Some(program) = machine::find(target.program()) else {
        let message = format!("`{}` is not installed here", target.program());
        return run.stop(Diagnostic::new(Code::NoEnforcer, message).help("run it on the machine the rules are for"));
    };
    let Some(lock) = room.lock().or_else(|why| run.stop(Diagnostic::new(Code::Unwritable, why)))? else {
        let diagnostic = Diagnostic::new(Code::ApplyPending, "another run loads, or waits for its confirmation");
        return run.stop(diagnostic.help("`outgate apply --confirm` keeps it, `outgate apply --revert` takes it back"));
    };
    if room.pending().is_some() {
        let message = "an earlier run ended between loading and its confirmation, and nobody took it back";
        let help = "`outgate apply --revert` takes it back, `outgate apply --confirm` keeps it";
        return run.stop(Diagnostic::new(Code::ApplyPending, message).help(help));
    }
    let pending = room.begin().or_else(|why| run.stop(Diagnostic::new(Code::Unwritable, why)))?;
    let machine = Machine { args, program: &program, pending: &pending, ruleset: &ruleset, files: &files };
    let plan = match machine.plan(&mut audit, target) {
        Ok(plan) => plan,
        Err(why) => {
            pending.remove();
            return run.stop(Diagnostic::new(Code::EnforcerRefuses, why).help("nothing was loaded"));
        }
    };
    let mut tried =
        try_before(run, &mut audit, probes(args, target, &ruleset), args.yes).inspect_err(|_| pending.remove())?;
    let watch = Watch {
        target: target.name().to_owned(),
        within: args.confirm_within,
        quiet: audit.quiet || audit.json,
        keep: plan.keep,
        revert: plan.revert,
    };
    let mut watcher = match Watcher::spawn(room, &pending, &watch, lock) {
        Ok(watcher) => watcher,
        Err(why) => {
            pending.remove();
            let message = format!("nobody would take it back: {why}");
            return run.stop(Diagnostic::new(Code::NotApplied, message).help("nothing was loaded"));
        }
    };
    audit.say("a process of its own watches, and goes back when nobody confirms");
    let works = load_all(&mut audit, &pending, &watcher, &plan.load).and_then(|()| try_after(&mut audit, &mut tried));
    let decision = match works {
        Err(why) => Decision { keep: false, why },
        Ok(()) if args.yes => Decision { keep: true, why: "confirmed by the probes".to_owned() },
        Ok(()) => waiting::wait(&mut audit, room, &pending, &mut watcher, args.confirm_within),
    };
    let decided = pending.decide(&decision).ok().or_else(|| pending.ended(room)).unwrap_or(decision);
    audit.say(if decided.keep { format!("keep: {}", decided.why) } else { format!("go back: {}", decided.why) });
    let outcome = watcher.end(room, &pending, &watch, decided);
    conclude(run, room, &outcome, &audit, &tried)
}

/// The rules and files of a target, if those on disk are they.
fn up_to_date(run: &mut Run, args: &ApplyArgs, target: Enforcer) -> Result<(Ruleset, Vec<File>), Stop> {
    let made = args.loaded.made(run, target.name())?;
    let out = args.out.clone().unwrap_or_else(|| made.folder.join("out"));
    let files = made.files();
    let differences = generate::differences(run, out, made.rendered, false)?;
    if let Some((_, first)) = differences.into_iter().next() {
        run.findings.push(first);
        let message = "the files on disk are not what catalog, profile and lock say, so they are not loaded";
        return run
            .stop(Diagnostic::new(Code::NotApplied, message).help("run `outgate generate` and review the change"));
    }
    Ok((made.ruleset, files))
}

/// What must still work once it is loaded.
fn probes(args: &ApplyArgs, target: Enforcer, ruleset: &Ruleset) -> Vec<Probe> {
    let resolv_conf = std::fs::read_to_string(&args.resolv_conf).unwrap_or_default();
    let ssh = std::env::var("SSH_CONNECTION").ok();
    let mut probes = apply::probes(ruleset, &resolv_conf, ssh.as_deref());
    if let (Enforcer::Squid, Some(settings)) = (target, &ruleset.settings.squid) {
        probes.push(Probe::new("proxy", ProbeKind::Open, (Ipv4Addr::LOCALHOST, settings.port).into()));
    }
    probes
}

/// Tries every probe before anything is loaded: what fails now says nothing of the rules.
fn try_before(run: &mut Run, audit: &mut Audit, probes: Vec<Probe>, yes: bool) -> Result<Vec<Tried>, Stop> {
    let answered = probing::all(&probes, Duration::ZERO);
    let tried: Vec<Tried> =
        probes.into_iter().zip(answered).map(|(probe, before)| Tried { probe, before, after: None }).collect();
    for probe in &tried {
        audit.say(format!(
            "before: {} {}",
            probe.probe.line(),
            if probe.before { "answers" } else { "does not answer" }
        ));
        if !probe.before {
            let message =
                format!("{} does not answer, and nothing is loaded yet: it is not counted", probe.probe.line());
            run.findings.push(Diagnostic::new(Code::ProbeSilent, message));
        }
    }
    if yes && !tried.iter().any(|probe| probe.before) {
        let message = "no probe succeeds before loading, so none could tell afterwards whether all is well";
        let help = "leave `--yes` out and confirm by hand; nothing was loaded";
        return run.stop(Diagnostic::new(Code::NotApplied, message).help(help));
    }
    Ok(tried)
}

/// Loads. The error is why it cannot stay.
fn load_all(audit: &mut Audit, pending: &Pending, watcher: &Watcher, steps: &[Step]) -> Result<(), String> {
    for step in steps {
        state::perform(step, watcher.held()?).map_err(|why| format!("`{}` failed: {why}", step.line()))?;
        audit.say(format!("done: {}", step.line()));
    }
    pending.reach(Stage::Loaded)
}

/// Tries what answered before. The error is why it cannot stay.
fn try_after(audit: &mut Audit, tried: &mut [Tried]) -> Result<(), String> {
    /// How long something may take to answer again.
    const SETTLE: Duration = Duration::from_secs(8);
    let counted: Vec<&mut Tried> = tried.iter_mut().filter(|probe| probe.before).collect();
    let probes: Vec<Probe> = counted.iter().map(|tried| tried.probe.clone()).collect();
    let mut failed = Vec::new();
    for (tried, answers) in counted.into_iter().zip(probing::all(&probes, SETTLE)) {
        tried.after = Some(answers);
        audit.say(format!("after: {} {}", tried.probe.line(), if answers { "answers" } else { "does not answer" }));
        if !answers {
            failed.push(tried.probe.line());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("no answer any more: {}", failed.join(", "))) }
}

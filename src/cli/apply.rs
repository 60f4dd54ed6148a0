//! `outgate apply`: checks, loads, tries what must still work, and goes back unless somebody confirms. Going back is the
//! work of a process of its own, which outlives this one.

mod probing;
mod state;
mod watch;

use std::io::{BufRead, IsTerminal, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::generate::{self, Given};
use super::{Format, Run, SiteArgs, Stop, machine, plain, resolve};
use crate::apply::{self, Anchor, Decision, Outcome, Placed, Plan, Probe, ProbeKind, Step, Watch};
use crate::diagnostic::{Code, Diagnostic};
use crate::policy;
use crate::report;
use crate::ruleset::Ruleset;
use crate::target::{self, File};
use crate::text::quoted_to;
use state::{Pending, Room};

pub(super) use watch::{WatchArgs, watch};

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
    #[command(flatten)]
    site: SiteArgs,
    /// The files, as `generate` wrote them [default: out beside the profile]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The lock they were made of [default: outgate.lock beside the profile]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Load even rules of answers that are older than they may be
    #[arg(long)]
    allow_stale: bool,
    /// The templates they were made of, if not the built-in ones
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
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
    if lock.is_none() && keep && !pending.is_ready() {
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
    if run.format == Format::Json {
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
    } else {
        writeln!(stdout, "{word}: {}: {}", outcome.target, quoted_to(&outcome.decision.why, LONGEST))?;
    }
    stdout.flush()?;
    let why = quoted_to(&outcome.decision.why, LONGEST);
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
        let diagnostic =
            Diagnostic::new(Code::ApplyPending, "another run has loaded something and waits for its confirmation");
        return run.stop(diagnostic.help("`outgate apply --confirm` keeps it, `outgate apply --revert` takes it back"));
    };
    if room.pending().is_some_and(|pending| pending.is_loading()) {
        let message = "an earlier run ended between loading and its confirmation, and nobody took it back";
        let help = "`outgate apply --revert` takes it back, `outgate apply --confirm` keeps it";
        return run.stop(Diagnostic::new(Code::ApplyPending, message).help(help));
    }
    let pending = room.begin().or_else(|why| run.stop(Diagnostic::new(Code::Unwritable, why)))?;
    let machine = Machine { args, program: &program, pending: &pending, ruleset: &ruleset, files: &files };
    let plan = plan(run, &mut audit, target, &machine)?;
    let resolv_conf = std::fs::read_to_string(&args.resolv_conf).unwrap_or_default();
    let ssh = std::env::var("SSH_CONNECTION").ok();
    let mut probes = apply::probes(&ruleset, &resolv_conf, ssh.as_deref());
    if let (Enforcer::Squid, Some(settings)) = (target, &ruleset.settings.squid) {
        probes.push(Probe::new("proxy", ProbeKind::Open, (Ipv4Addr::LOCALHOST, settings.port).into()));
    }
    let mut tried = try_before(run, &mut audit, probes, args.yes).inspect_err(|_| pending.remove())?;
    let watch = Watch {
        target: target.name().to_owned(),
        within: args.confirm_within,
        quiet: audit.quiet || audit.json,
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
    let why = load_and_try(&mut audit, &plan.load, &mut tried).err();
    let decision = match why {
        Some(why) => Decision { keep: false, why },
        None if args.yes => Decision { keep: true, why: "confirmed by the probes".to_owned() },
        None => wait(&mut audit, &pending, &mut watcher, args.confirm_within),
    };
    let decided = pending.decide(&decision).unwrap_or(decision);
    audit.say(if decided.keep { format!("keep: {}", decided.why) } else { format!("go back: {}", decided.why) });
    let outcome = watcher.end(room, &pending, &watch, decided);
    conclude(run, room, &outcome, &audit, &tried)
}

/// The files of a target, if those on disk are they.
fn up_to_date(run: &mut Run, args: &ApplyArgs, enforcer: Enforcer) -> Result<(Ruleset, Vec<File>), Stop> {
    if args.site.release.is_some() {
        let diagnostic = Diagnostic::new(Code::BadUsage, "what is loaded is of a site's targets, which no flag names");
        return run.stop(diagnostic.help("write a profile"));
    }
    let catalog = run.catalog()?;
    let (profile, folder) = run.site(&args.site, &[], &catalog)?;
    let policy = policy::decide(&catalog, &profile, &mut run.findings).ok_or(Stop::Found)?;
    let named = target::find(enforcer.name()).into_iter().collect();
    let targets = generate::chosen_targets(run, named, &policy.settings)?;
    let path = args.lock.clone().unwrap_or_else(|| folder.join("outgate.lock"));
    let lock = if args.lock.is_some() { Some(resolve::parse(run, &path)?) } else { resolve::read(run, &path)? };
    let given = Given { policy: &policy, lock: lock.as_ref(), before: None, allow_stale: args.allow_stale };
    let (ruleset, rendered) = generate::render(run, &given, &targets, args.templates.as_deref())?;
    if run.findings.has_errors() {
        return Err(Stop::Found);
    }
    let files: Vec<File> = rendered.iter().flat_map(|(_, files)| files.clone()).collect();
    let out = args.out.clone().unwrap_or_else(|| folder.join("out"));
    let differences = generate::differences(run, out, rendered, false)?;
    if let Some((_, first)) = differences.into_iter().next() {
        run.findings.push(first);
        let message = "the files on disk are not what catalog, profile and lock say, so they are not loaded";
        return run
            .stop(Diagnostic::new(Code::NotApplied, message).help("run `outgate generate` and review the change"));
    }
    Ok((ruleset, files))
}

/// Works out how to load and how to go back, and has the enforcer check both.
fn plan(run: &mut Run, audit: &mut Audit, target: Enforcer, machine: &Machine<'_>) -> Result<Plan, Stop> {
    let made = match target {
        Enforcer::Nftables => machine.nftables(audit),
        Enforcer::Pf => machine.pf(audit),
        Enforcer::Squid => machine.squid(audit),
    };
    match made {
        Ok(plan) => Ok(plan),
        Err(why) => {
            machine.pending.remove();
            run.stop(Diagnostic::new(Code::EnforcerRefuses, why).help("nothing was loaded"))
        }
    }
}

/// What plans are made of.
struct Machine<'a> {
    args: &'a ApplyArgs,
    program: &'a Path,
    pending: &'a Pending,
    ruleset: &'a Ruleset,
    files: &'a [File],
}

impl Machine<'_> {
    fn program(&self) -> String {
        self.program.display().to_string()
    }

    /// What the enforcer's program prints; its complaint as the error.
    fn ask(&self, args: &[&str]) -> Result<String, String> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        match machine::run(self.program, &args, LIMIT) {
            Ok(said) if said.success => Ok(said.text()),
            Ok(said) => Err(format!("`{} {}` says: {}", self.program(), args.join(" "), said.complaint)),
            Err(error) => Err(format!("`{} {}`: {}", self.program(), args.join(" "), plain(&error))),
        }
    }

    fn text(&self, path: &str) -> &str {
        self.files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str())
    }

    /// Prepares and checks a plan.
    fn checked(&self, audit: &mut Audit, plan: Plan) -> Result<Plan, String> {
        plan.prepare.iter().try_for_each(state::perform)?;
        for step in &plan.check {
            state::perform(step)?;
            audit.say(format!("checked: {}", step.line()));
        }
        Ok(plan)
    }

    /// The new files by where they go, and those of ours that lie there.
    fn placed(&self, main: &Path, folder: &Path, below: &str, owned: &[&str]) -> Result<Placed<'_>, String> {
        let mut placed = Placed::default();
        placed.files.insert(main.display().to_string(), self.text("outgate.conf"));
        for file in self.files {
            if let Some(name) = file.path.strip_prefix(below) {
                placed.files.insert(folder.join(name).display().to_string(), &file.text);
            }
        }
        placed.there = state::ours(folder, owned)?;
        for path in placed.files.keys() {
            if state::is_there(Path::new(path))? {
                placed.there.insert(path.clone());
            }
        }
        Ok(placed)
    }

    fn squid(&self, audit: &mut Audit) -> Result<Plan, String> {
        let settings = self.ruleset.settings.squid.clone().unwrap_or_default();
        let absolute = |path: &Path| std::path::absolute(path).map_err(|error| plain(&error));
        let include = absolute(&self.args.include)?;
        let main = self.args.squid_conf.as_deref().map(absolute).transpose()?.map(|path| path.display().to_string());
        let placed = self.placed(&include, Path::new(&settings.lists), "lists/", &["allow_", "deny_"])?;
        audit.say(format!("kept: {} files that are installed", placed.there.len()));
        let folder = self.pending.folder("squid")?.display().to_string();
        let include = include.display().to_string();
        let plan = apply::squid(&self.program(), &folder, main.as_deref(), &include, &settings.lists, &placed);
        self.checked(audit, plan)
    }

    fn pf(&self, audit: &mut Audit) -> Result<Plan, String> {
        let Some(settings) = &self.ruleset.settings.pf else { return Err("the profile has no pf".to_owned()) };
        let anchor = settings.anchor.as_str();
        let main = self.ask(&["-s", "rules"])?;
        if !main.lines().any(|line| line.trim_start().starts_with(&format!("anchor \"{anchor}\""))) {
            return Err(format!(
                "the main rules have no anchor \"{anchor}\", so what is loaded there does nothing: add the two lines of the head of outgate.conf first"
            ));
        }
        let mut before = Anchor { rules: self.ask(&["-a", anchor, "-s", "rules"])?, ..Anchor::default() };
        for name in self.ask(&["-a", anchor, "-s", "Tables"])?.lines().map(str::trim) {
            if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                before.tables.insert(name.to_owned(), self.ask(&["-a", anchor, "-t", name, "-T", "show"])?);
            }
        }
        audit.say(format!(
            "kept: {} rules and {} tables of anchor {anchor}",
            before.rules.lines().count(),
            before.tables.len()
        ));
        let folder = Path::new(&settings.tables);
        let placed = self.placed(&folder.join("outgate.conf"), &folder.join("tables"), "tables/", &["og_", "ogc_"])?;
        let state = self.pending.folder("pf")?.display().to_string();
        self.checked(audit, apply::pf(&self.program(), &state, anchor, &settings.tables, &placed, &before))
    }

    fn nftables(&self, audit: &mut Audit) -> Result<Plan, String> {
        let table = self.ruleset.settings.nftables.clone().unwrap_or_default().table;
        let name = format!("table inet {table}");
        let there = self.ask(&["list", "tables"])?.lines().any(|line| line.trim() == name);
        let before = if there { Some(self.ask(&["list", "table", "inet", &table])?) } else { None };
        audit.say(if there { format!("kept: {name}, as it is loaded") } else { format!("kept: there is no {name}") });
        let make = |folder: &Path, replace| {
            let folder = folder.display().to_string();
            apply::nftables(&self.program(), &folder, &table, self.text("outgate.nft"), before.as_deref(), replace)
        };
        match self.checked(audit, make(&self.pending.folder("in-place")?, false)) {
            Ok(plan) => Ok(plan),
            // A chain whose priority is another is not changed in place.
            Err(why) if there => {
                let plan = self.checked(audit, make(&self.pending.folder("anew")?, true)).map_err(|_| why)?;
                audit.say(format!("{name} cannot be changed in place and is made anew, in one transaction"));
                Ok(plan)
            }
            Err(why) => Err(why),
        }
    }
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

/// Loads, then tries what answered before. The error is why it cannot stay.
fn load_and_try(audit: &mut Audit, steps: &[Step], tried: &mut [Tried]) -> Result<(), String> {
    /// How long something may take to answer again.
    const SETTLE: Duration = Duration::from_secs(8);
    for step in steps {
        state::perform(step).map_err(|why| format!("`{}` failed: {why}", step.line()))?;
        audit.say(format!("done: {}", step.line()));
    }
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

/// Waits for whoever confirms: Enter on a terminal, another session, or nobody in time.
fn wait(audit: &mut Audit, pending: &Pending, watcher: &mut Watcher, within: u64) -> Decision {
    let decision = |keep, why: &str| Decision { keep, why: why.to_owned() };
    if let Err(why) = pending.ready() {
        return decision(false, &why);
    }
    let (sender, enter) = mpsc::channel();
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        thread::spawn(move || {
            let mut line = String::new();
            // The end of a terminal is no word of anybody.
            if std::io::stdin().lock().read_line(&mut line).is_ok_and(|length| length > 0) {
                let _ = sender.send(());
            }
        });
    }
    let how = if terminal { "Enter here, or `outgate apply --confirm`" } else { "`outgate apply --confirm`" };
    audit.say(format!("loaded. It stays if it is confirmed within {within} seconds: {how}"));
    // The watcher's clock decides. Its end without a word is no confirmation.
    let end = Instant::now() + Duration::from_secs(within) + Duration::from_secs(5);
    loop {
        if let Some(decided) = pending.decision() {
            return decided;
        }
        if enter.try_recv().is_ok() {
            return decision(true, "confirmed at the terminal");
        }
        if watcher.is_gone() {
            return decision(false, "the process that watches is gone");
        }
        if Instant::now() > end {
            return decision(false, "nobody confirmed in time");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The process that goes back.
struct Watcher {
    child: Child,
    /// Held here as well: where the other process dies, this one goes back, and nobody else may load meanwhile.
    _lock: std::fs::File,
}

impl Watcher {
    /// Starts it, and waits until it watches. It gets the lock, so that nobody else loads while it lives, and a pipe whose
    /// end tells it that this process is gone.
    fn spawn(room: &Room, pending: &Pending, watch: &Watch, lock: std::fs::File) -> Result<Self, String> {
        /// How long a process may take to begin.
        const BEGIN: Duration = Duration::from_secs(20);
        pending.write_watch(watch)?;
        let own = std::env::current_exe().map_err(|error| plain(&error))?;
        let mut command = Command::new(own);
        command.args(["apply-watch", "--state"]).arg(room.path()).current_dir("/");
        let shared = lock.try_clone().map_err(|error| plain(&error))?;
        command.stdin(Stdio::piped()).stdout(Stdio::from(shared));
        let child = command.spawn().map_err(|error| plain(&error))?;
        let mut watcher = Self { child, _lock: lock };
        let end = Instant::now() + BEGIN;
        while !pending.is_watched() {
            if watcher.is_gone() || Instant::now() > end {
                let _ = watcher.child.kill();
                let _ = watcher.child.wait();
                return Err("the process that watches did not begin".to_owned());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(watcher)
    }

    fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has done what was decided; does it here where it died.
    fn end(mut self, room: &Room, pending: &Pending, watch: &Watch, decision: Decision) -> Outcome {
        let end = Instant::now() + PATIENCE;
        while !self.is_gone() {
            if Instant::now() > end {
                let failed = vec!["the process that takes it back does not end".to_owned()];
                return Outcome { target: watch.target.clone(), decision, failed };
            }
            thread::sleep(Duration::from_millis(20));
        }
        if pending.is_there() {
            return pending.finish(room).unwrap_or_else(|why| Outcome {
                target: watch.target.clone(),
                decision,
                failed: vec![why],
            });
        }
        room.last().unwrap_or(Outcome { target: watch.target.clone(), decision, failed: Vec::new() })
    }
}

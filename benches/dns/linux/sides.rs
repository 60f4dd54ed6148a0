//! Who is measured: commands, what they cost, and whether what they wrote is right.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde_json::Value;

use super::{floor, zone};

/// How long any side may take. Python's batches at 1 % loss take about 35 s.
const TIME_MAX: Duration = Duration::from_secs(200);
const DNSPYTHON: &str = include_str!("batches.py");

/// A program that resolves names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Side {
    /// This crate's resolver, default settings, as a process.
    Outgate,
    /// massdns as one would set it for loopback.
    MassdnsTuned,
    /// massdns as it comes.
    Massdns,
    /// hickory-resolver, 1,000 names at once.
    Hickory,
    /// Batches of 100 questions with a barrier, without Python's cost.
    Batches,
    /// The same by dnspython, as OPNsense does it.
    Dnspython,
    /// `outgate resolve`: catalog and profile in, a new lock out.
    Product,
    /// Our system calls and next to nothing else.
    Floor,
}

impl Side {
    /// As it stands in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Outgate => "outgate",
            Self::MassdnsTuned => "massdns tuned",
            Self::Massdns => "massdns defaults",
            Self::Hickory => "hickory, 1000 at once",
            Self::Batches => "batches of 100",
            Self::Dnspython => "dnspython, batches of 100",
            Self::Product => "outgate resolve, whole",
            Self::Floor => "bare client",
        }
    }

    /// Why it cannot run here; nothing when it can.
    pub(crate) fn missing(self) -> Option<&'static str> {
        match self {
            Self::Outgate | Self::Hickory | Self::Batches | Self::Product | Self::Floor => None,
            Self::MassdnsTuned | Self::Massdns => on_path("massdns").is_none().then_some("massdns is not on PATH"),
            Self::Dnspython => {
                let mut python = Command::new("python3");
                let import = python.args(["-c", "import dns.asyncresolver"]).stderr(Stdio::null()).status();
                (!import.is_ok_and(|status| status.success())).then_some("python3 has no dnspython")
            }
        }
    }

    /// Whether it waits for whole seconds where queries are lost. It runs in the first round alone.
    pub(crate) fn is_slow(self) -> bool {
        matches!(self, Self::Batches | Self::Dnspython)
    }

    /// Whether it is in a quick run. massdns' defaults wait their half second too often for that.
    pub(crate) fn is_quick(self) -> bool {
        matches!(self, Self::Outgate | Self::MassdnsTuned | Self::Hickory | Self::Product)
    }

    /// Whether it reports the links of a chain, so that they can be checked.
    fn tells_chains(self) -> bool {
        !matches!(self, Self::Hickory)
    }

    fn command(self, work: &Work) -> io::Result<Command> {
        let client = |name: &str| -> io::Result<Command> {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["ask", name, &work.server.to_string()]).arg(&work.names).arg(&work.out);
            Ok(command)
        };
        match self {
            Self::Outgate => client("outgate"),
            Self::Hickory => client("hickory"),
            Self::Batches => client("batches"),
            Self::Floor => client("floor"),
            Self::Massdns => Ok(massdns(work, "")),
            Self::MassdnsTuned => Ok(massdns(
                work,
                "--hashmap-size 8192 --interval 100 --socket-count 4 --rcvbuf 8388608 --sndbuf 8388608",
            )),
            Self::Dnspython => {
                let script = work.out.with_file_name("batches.py");
                fs::write(&script, DNSPYTHON)?;
                let mut command = Command::new("python3");
                let (ip, port) = (work.server.ip().to_string(), work.server.port().to_string());
                command.arg(script).args([ip, port]).arg(&work.names).arg(&work.out);
                Ok(command)
            }
            Self::Product => {
                let profile = work.out.with_file_name("outgate.yaml");
                fs::write(&profile, work.profile()?)?;
                let mut command = Command::new(env!("CARGO_BIN_EXE_outgate"));
                command.args(["resolve", "--resolver", &work.server.to_string(), "--config"]).arg(profile);
                command.arg("--lock").arg(&work.out);
                Ok(command)
            }
        }
    }
}

fn massdns(work: &Work, settings: &str) -> Command {
    let mut command = Command::new("massdns");
    command
        // It would become nobody, who may not read our folder. Means nothing to one who is not root.
        .arg("--root")
        // Sn: every record of the answer as text; without n the addresses behind a CNAME are left out.
        .args(["--quiet", "--type", "A", "--type", "AAAA", "--output", "Sn"])
        .args(settings.split_whitespace())
        .args([OsString::from("--resolvers"), work.resolvers.clone().into()])
        .args([OsString::from("--outfile"), work.out.clone().into()])
        .arg(&work.names);
    command
}

/// Where a program is, by PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// What a side is given: files of one run.
pub(crate) struct Work {
    /// Names to ask for, a line each.
    pub(crate) names: PathBuf,
    /// The same server for those that read a list of them.
    pub(crate) resolvers: PathBuf,
    /// Where it writes what it heard.
    pub(crate) out: PathBuf,
    /// Whom to ask.
    pub(crate) server: SocketAddr,
}

impl Work {
    /// Writes the files one run needs.
    pub(crate) fn prepare(folder: &Path, server: SocketAddr, names: u32) -> io::Result<Self> {
        let work =
            Self { names: folder.join("names"), resolvers: folder.join("resolvers"), out: folder.join("out"), server };
        let lines: Vec<_> = (0..names).map(|number| zone::owner(number, 0) + "\n").collect();
        fs::write(&work.names, lines.concat())?;
        fs::write(&work.resolvers, format!("{server}\n"))?;
        Ok(work)
    }

    /// A profile with a callout of its own for every name.
    fn profile(&self) -> io::Result<String> {
        let mut text = String::from(
            "release: 25.10.2\nclients: {nas: [192.0.2.10]}\nfeatures: []\n\
             answers: {allow: [private, documentation]}\ntargets: {nftables: {}}\nextra:\n",
        );
        for (at, name) in fs::read_to_string(&self.names)?.lines().enumerate() {
            text += &format!(
                "  - {{id: site-{at}, purpose: host {at}, origin: [nas], hosts: [{name}], ports: [443/tcp]}}\n"
            );
        }
        Ok(text)
    }
}

/// What one run of a side came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// From start to end of the process, in seconds.
    pub(crate) wall: f64,
    /// User and system time of the process, in seconds.
    pub(crate) cpu: f64,
    /// Queries a name, where the server counts them.
    pub(crate) queries: Option<f64>,
    /// Names with exactly their addresses.
    pub(crate) good: u32,
    /// Names with an address or a link that is not theirs.
    pub(crate) wrong: u32,
}

/// Runs a side once. What it writes is judged after its time is taken.
pub(crate) fn run(side: Side, work: &Work, names: u32) -> io::Result<Run> {
    let _ = fs::remove_file(&work.out);
    let errors = work.out.with_extension("errors");
    let mut command = side.command(work)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&errors)?);
    let before = cpu_of_children()?;
    let begin = Instant::now();
    let mut child = command.spawn()?;
    let in_time = match child.stdout.take() {
        Some(output) => ends(output, begin + TIME_MAX)?,
        None => true,
    };
    if !in_time {
        child.kill()?;
    }
    let status = child.wait()?;
    let wall = begin.elapsed().as_secs_f64();
    let cpu = cpu_of_children()? - before;
    // 1: a lookup failed. The base system's own names are asked too, and the responder does not have them.
    let well = status.success() || side == Side::Product && status.code() == Some(1);
    if !in_time || !well {
        let said = fs::read_to_string(&errors).unwrap_or_default();
        return Err(io::Error::other(format!("{} failed after {wall:.1} s ({status}): {}", side.name(), said.trim())));
    }
    let heard = match side {
        Side::Product => of_lock(&fs::read_to_string(&work.out)?)?,
        Side::Floor => floor::lines(&fs::read(&work.out)?)?,
        _ => fs::read_to_string(&work.out)?,
    };
    let (good, wrong) = judge(side, &heard, names);
    Ok(Run { wall, cpu, queries: None, good, wrong })
}

/// Waits for the end of a process' output, which is the end of the process. False when it is not over by then.
fn ends(mut output: impl Read + AsFd, until: Instant) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            return Ok(false);
        }
        if output.read(&mut buffer)? == 0 {
            return Ok(true);
        }
    }
}

/// CPU time of every child that has ended. Servers have not while sides are measured, so they are not in it.
fn cpu_of_children() -> io::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// A lock as the lines the other sides write.
fn of_lock(lock: &str) -> io::Result<String> {
    let lock: Value = serde_json::from_str(lock)?;
    let mut text = String::new();
    for (name, entry) in lock["hosts"].as_object().into_iter().flatten() {
        for address in entry["addresses"].as_object().into_iter().flat_map(|addresses| addresses.keys()) {
            text += &format!("{name} {address}\n");
        }
        for target in entry["chain"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            text += &format!("{name} CNAME {target}\n");
        }
    }
    Ok(text)
}

/// How many names have exactly their addresses and their whole chain, and how many have something that is not theirs.
fn judge(side: Side, text: &str, names: u32) -> (u32, u32) {
    let mut heard: HashMap<u32, (BTreeSet<IpAddr>, u32)> = HashMap::new();
    let mut strange = BTreeSet::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(owner), Some(value)) = (words.next(), words.next_back()) else { continue };
        let Some((number, _)) = zone::parse(owner) else { continue };
        let (addresses, links) = heard.entry(number).or_default();
        match (value.parse(), zone::parse(value)) {
            (Ok(address), _) => drop(addresses.insert(address)),
            (_, Some((target, link))) if target == number => *links |= 1 << link,
            _ => drop(strange.insert(number)),
        }
    }
    let mut good = 0;
    for number in 0..names {
        let Some((addresses, links)) = heard.get(&number) else { continue };
        let own = BTreeSet::from(zone::addresses(number));
        let chain: u32 = (1..=zone::links(number)).map(|link| 1 << link).sum();
        if !addresses.is_subset(&own) || links & !chain != 0 {
            strange.insert(number);
        } else if addresses.len() == own.len() && (*links == chain || !side.tells_chains()) {
            good += 1;
        }
    }
    (good, u32::try_from(strange.len()).unwrap_or(u32::MAX))
}

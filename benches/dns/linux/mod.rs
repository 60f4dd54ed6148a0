//! The bench itself: arguments, rounds, tables. Linux alone has its system calls and its `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::cases::{Against, Bar, CASES, Case, Key, Measure, Server};
use self::clients::Client;
use self::knot::Knot;
use self::responder::{Path as Way, Responder};
use self::sides::{Run, Side, Work};

mod cases;
mod clients;
mod floor;
mod knot;
mod responder;
mod sides;
mod zone;

/// Most queries a name in a quick run; two is the least there is, and 1 % of them are lost.
const QUICK_QUERIES: f64 = 2.2;

/// A peer that sent more queries a name than this lost answers to a machine that had no time for it, and the ratio
/// flatters us. Batches ask for the targets of CNAMEs too, which makes two and a half.
const BUSY_QUERIES: f64 = 2.7;

/// Our resolver beside its peers, on loopback.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    /// Only these cases
    #[arg(long, value_enum)]
    case: Vec<Key>,
    /// Only these sides
    #[arg(long, value_enum)]
    side: Vec<Side>,
    /// How many names, instead of each case's own number
    #[arg(long)]
    names: Option<u32>,
    /// How many rounds, after one that does not count
    #[arg(long)]
    rounds: Option<usize>,
    /// What cargo adds to `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the bench starts itself as.
#[derive(Subcommand)]
enum Part {
    /// The responder, for so many names.
    #[command(hide = true)]
    Serve { names: u32 },
    /// A client.
    #[command(hide = true)]
    Ask { client: Client, server: SocketAddr, names: PathBuf, out: PathBuf },
}

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.part {
        Some(Part::Serve { names }) => responder::serve(*names).map(|()| true).map_err(Into::into),
        Some(Part::Ask { client, server, names, out }) => client.run(*server, names, out).map(|()| true),
        None => bench(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what was asked for. False when our own side was not complete, or in a quick run asked too often.
fn bench(args: &Args) -> Result<bool, Box<dyn Error>> {
    // `cargo test --benches` runs this too, without --bench, and wants to know only whether it works.
    let quick = std::env::var_os("OUTGATE_BENCH").is_some_and(|word| word == "quick") || !args.bench;
    let wanted = |case: &&Case| match args.case.as_slice() {
        [] => !quick || case.quick.is_some(),
        keys => keys.contains(&case.key),
    };
    let plans: Vec<_> = CASES
        .iter()
        .filter(wanted)
        .map(|case| {
            let own = if quick { case.quick.unwrap_or(case.names) } else { case.names };
            (case, args.names.unwrap_or(own).max(1))
        })
        .collect();
    let most = plans.iter().map(|(_, names)| *names).max().unwrap_or(1);
    let rounds = args.rounds.unwrap_or(if quick { 1 } else { 5 }).max(1);

    let mut sides: BTreeSet<_> = CASES.iter().flat_map(|case| case.sides).copied().chain(args.side.clone()).collect();
    sides.retain(|side| (args.side.is_empty() || args.side.contains(side)) && (!quick || side.is_quick()));
    println!("{}", machine());
    sides.retain(|side| match side.missing() {
        Some(why) => {
            println!("SKIPPED: {}: {why}", side.name());
            false
        }
        None => true,
    });

    // Memory where there is a file system of it: a disk would be what is measured.
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = tempfile::Builder::new().prefix("outgate-bench-").tempdir_in(parent)?;
    let mut responder = Responder::start(most)?;
    let mut good = true;
    let mut bars = Vec::new();
    for (case, names) in plans {
        let chosen = |side: &Side| sides.contains(side) && (case.sides.contains(side) || args.side.contains(side));
        let sides: Vec<_> = sides.iter().copied().filter(chosen).collect();
        let knot = match case.server {
            Server::Responder(_) => None,
            Server::Knot => match Knot::missing() {
                Some(why) => {
                    println!("\nSKIPPED: {}: {why}", case.title);
                    continue;
                }
                None => Some(Knot::start(folder.path(), names)?),
            },
        };
        let server = knot.as_ref().map_or(responder.address, |knot| knot.address);
        let work = Work::prepare(folder.path(), server, names)?;
        let bench = Bench { case, names, rounds, quick, sides: &sides, work: &work };
        let runs = bench.measure(&mut responder)?;
        bench.print(&runs);
        bars.extend(bench.bars(&runs));
        good &= bench.accept(&runs);
    }
    if !bars.is_empty() {
        println!("\n| case | bar | measured | |\n|---|---|---|---|\n{}", bars.join("\n"));
    }
    println!("\n{}", machine());
    Ok(good)
}

/// One case, as it is run now.
struct Bench<'a> {
    case: &'a Case,
    names: u32,
    rounds: usize,
    /// A quick run has no round that does not count, and no bars.
    quick: bool,
    sides: &'a [Side],
    work: &'a Work,
}

/// The runs of each side, a round each; nothing for a round in which it failed or was spared.
type Runs = BTreeMap<Side, Vec<Option<Run>>>;

impl Bench<'_> {
    fn measure(&self, responder: &mut Responder) -> Result<Runs, Box<dyn Error>> {
        let mut runs = Runs::new();
        for round in usize::from(self.quick)..=self.rounds {
            for &side in self.sides {
                if side.is_slow() && round != 1 {
                    continue;
                }
                let way = match self.case.server {
                    Server::Responder(way) => way,
                    Server::Knot => Way::default(),
                };
                responder.begin(Way { seed: round as u64 + 1, ..way })?;
                let overflow = responder.overflow();
                let run = sides::run(side, self.work, self.names);
                let count = responder.count()?;
                let overflow = responder.overflow() - overflow;
                let heading = format!("{} round {round}, {}", self.case.key.name(), side.name());
                if overflow > 0 {
                    eprintln!("{heading}: {overflow} queries did not fit into the responder's buffer");
                }
                let run = match run {
                    Ok(run) if self.counts() => {
                        Some(Run { queries: Some(count.queries as f64 / f64::from(self.names)), ..run })
                    }
                    Ok(run) => Some(run),
                    Err(error) => {
                        eprintln!("{heading}: {error}");
                        None
                    }
                };
                if let Some(run) = run {
                    eprintln!("{heading}: {:.3} s, {:.3} s CPU", run.wall, run.cpu);
                }
                if round > 0 {
                    runs.entry(side).or_default().push(run);
                }
            }
        }
        Ok(runs)
    }

    /// Whether the server says how many queries came.
    fn counts(&self) -> bool {
        matches!(self.case.server, Server::Responder(_))
    }

    fn print(&self, runs: &Runs) {
        println!("\n{}: {} names, {}; rounds: {}\n", self.case.key.name(), self.names, self.case.title, self.rounds);
        println!(
            "| client | wall s (from-to) | client CPU s | CPU us a name | queries a name | complete | ours to it: wall | CPU |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        for (&side, of_side) in runs {
            let done: Vec<_> = of_side.iter().flatten().copied().collect();
            if done.is_empty() {
                println!("| {} | failed | | | | | | |", side.name());
                continue;
            }
            let walls = || done.iter().map(|run| run.wall);
            let cpu = median(done.iter().map(|run| run.cpu));
            let queries = done.iter().map(|run| run.queries).collect::<Option<Vec<_>>>().map(median);
            let ratio = |of: fn(&Run) -> f64| match ratio(runs, side, of) {
                Some(ratio) if side != Side::Outgate => format!("{ratio:.3}"),
                _ => "-".to_owned(),
            };
            println!(
                "| {} | {:.3} ({:.3}-{:.3}) | {cpu:.3} | {:.1} | {} | {} | {} | {} |",
                side.name(),
                median(walls()),
                walls().fold(f64::INFINITY, f64::min),
                walls().fold(0.0, f64::max),
                cpu * 1e6 / f64::from(self.names),
                queries.map_or_else(|| "-".to_owned(), |queries| format!("{queries:.2}")),
                self.completeness(&done),
                ratio(|run| run.wall),
                ratio(|run| run.cpu),
            );
        }
    }

    /// Each bar as a line of a table. Bars are for a case's own size.
    fn bars(&self, runs: &Runs) -> Vec<String> {
        if self.quick || self.names != self.case.names {
            return Vec::new();
        }
        self.case.bars.iter().map(|bar| self.bar(bar, runs)).collect()
    }

    fn bar(&self, bar: &Bar, runs: &Runs) -> String {
        let of = |run: &Run| match bar.measure {
            Measure::Wall => run.wall,
            Measure::Cpu => run.cpu,
            Measure::Queries => run.queries.unwrap_or(f64::NAN),
        };
        let own = || runs.get(&Side::Outgate).map(|runs| median(runs.iter().flatten().map(of)));
        let (value, what) = match bar.against {
            Against::Side(side) => (ratio(runs, side, of), format!("of {}", side.name())),
            Against::Floor(floor) => {
                let floor = floor(self.names);
                (own().map(|own| own / floor), format!("of the floor, {floor:.3} s"))
            }
            Against::Nothing => (own(), "a name".to_owned()),
        };
        let busy = matches!(bar.against, Against::Side(side) if disturbed(runs, side));
        let (measured, verdict) = match value.filter(|value| value.is_finite()) {
            Some(value) if busy => (format!("{value:.4}"), "machine too busy to say"),
            Some(value) if value <= bar.limit => (format!("{value:.4}"), "holds"),
            Some(value) => (format!("{value:.4}"), "misses"),
            None => (String::new(), "not measured"),
        };
        let (case, name, limit) = (self.case.key.name(), bar.measure.name(), bar.limit);
        format!("| {case} | {name} at most {limit} {what} | {measured} | {verdict} |")
    }

    /// The least complete round.
    fn completeness(&self, done: &[Run]) -> String {
        let least = done.iter().map(|run| run.good).min().unwrap_or_default();
        let wrong = done.iter().map(|run| run.wrong).max().unwrap_or_default();
        let part = match self.names - least {
            0 => "100 %".to_owned(),
            missing => format!("{:.3} % ({missing} missing)", 100.0 * f64::from(least) / f64::from(self.names)),
        };
        if wrong == 0 { part } else { format!("{part}, {wrong} WRONG") }
    }

    /// Whether our own sides were right in every round, and in a quick run asked little.
    fn accept(&self, runs: &Runs) -> bool {
        let own = [Side::Outgate, Side::Product].into_iter().filter_map(|side| Some((side, runs.get(&side)?)));
        let each = own.flat_map(|(side, runs)| runs.iter().map(move |run| (side, run)));
        let mut good = true;
        for (side, run) in each {
            let fault = match run {
                None => "failed".to_owned(),
                Some(run) if run.good < self.names || run.wrong > 0 => self.completeness(&[*run]),
                Some(run) if self.quick && run.queries.is_some_and(|queries| queries > QUICK_QUERIES) => {
                    format!("more than {QUICK_QUERIES} queries a name")
                }
                Some(_) => continue,
            };
            println!("\nFAILED: {}, {}: {fault}", self.case.key.name(), side.name());
            good = false;
        }
        good
    }
}

/// Whether a side asked so often that its time says more about the machine than about it.
fn disturbed(runs: &Runs, side: Side) -> bool {
    let queries = runs.get(&side).into_iter().flatten().flatten().filter_map(|run| run.queries);
    median(queries) > BUSY_QUERIES
}

/// The median of our ratios to a side, round by round.
fn ratio(runs: &Runs, side: Side, of: impl Fn(&Run) -> f64) -> Option<f64> {
    let both = runs.get(&Side::Outgate)?.iter().zip(runs.get(&side)?);
    let ratios: Vec<_> = both.filter_map(|(own, other)| Some(of(own.as_ref()?) / of(other.as_ref()?))).collect();
    (!ratios.is_empty()).then(|| median(ratios))
}

/// The middle value; of an even number the mean of the two in the middle. NaN of none.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.as_slice() {
        [] => f64::NAN,
        all if all.len() % 2 == 1 => all[middle],
        all => f64::midpoint(all[middle - 1], all[middle]),
    }
}

/// What the figures depend on beside the programs.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let release = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let buffer = read("/proc/sys/net/core/rmem_max");
    format!(
        "{cores} cores, Linux {}, load {}, net.core.rmem_max {}",
        release.trim(),
        load.split_whitespace().next().unwrap_or("unknown"),
        buffer.trim()
    )
}

//! `outgate prefixes`

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Format, Run, Stop};
use crate::addrs::AddrSet;
use crate::addrs::list;
use crate::diagnostic::{Code, Diagnostic};
use crate::report;
use crate::source::Span;

#[derive(Args)]
pub(super) struct Prefixes {
    /// Plain lists: an address or prefix a line, `#` begins a comment
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Take out what this list holds; may be given several times
    #[arg(long, value_name = "FILE")]
    but: Vec<PathBuf>,
    /// Keep only what this list holds too; may be given several times
    #[arg(long, value_name = "FILE")]
    within: Vec<PathBuf>,
}

pub(super) fn run(run: &mut Run, args: &Prefixes) -> Result<(), Stop> {
    let all = |run: &mut Run, files: &[PathBuf]| -> Result<Vec<AddrSet>, Stop> {
        files.iter().map(|path| read(run, path)).collect()
    };
    let mut set: AddrSet = all(run, &args.files)?.iter().collect();
    for within in all(run, &args.within)? {
        set = set.and(&within);
    }
    set = set.minus(&all(run, &args.but)?.iter().collect());
    let mut out = report::terminal::stdout();
    match run.format {
        Format::Json => writeln!(
            out,
            "{:#}",
            serde_json::json!({"format_version": report::json::FORMAT_VERSION, "prefixes": set.shorts()})
        )?,
        _ => {
            let mut text = set.to_list("\n");
            if !text.is_empty() {
                text.push('\n');
            }
            // Plain bytes: there is nothing in them that a terminal would take for a colour.
            std::io::stdout().lock().write_all(text.as_bytes())?;
        }
    }
    out.flush()?;
    Ok(())
}

/// A plain list.
pub(super) fn read(run: &mut Run, path: &Path) -> Result<AddrSet, Stop> {
    let id = run.read(path)?;
    let text = &run.sources.get(id).text;
    match list::read(text) {
        Ok(set) => Ok(set),
        Err(error) => {
            let start: usize = text.split_inclusive('\n').take(error.line - 1).map(str::len).sum();
            let end = start + text.get(start..).and_then(|rest| rest.lines().next()).map_or(0, str::len);
            let message = format!("{}: {error}", path.display());
            run.stop(Diagnostic::new(Code::BadPrefix, message).at(Span { source: id, range: start..end }, ""))
        }
    }
}

/// Whether a file is a plain list: its first line that says something is a prefix.
pub(super) fn is_list(path: &Path) -> bool {
    use std::io::{BufRead as _, BufReader};
    let Ok(file) = std::fs::File::open(path) else { return false };
    let said = |line: &String| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let first = BufReader::new(file).lines().map_while(Result::ok).find(said);
    first.is_some_and(|line| list::read(&line).is_ok())
}

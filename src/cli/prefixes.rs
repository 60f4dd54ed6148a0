//! `outgate prefixes`

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Format, READ_MAX, Run, Stop};
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
    let mut set = all(run, &args.files)?;
    for within in &args.within {
        set = set.and(&read(run, within)?);
    }
    if !args.but.is_empty() {
        set = set.minus(&all(run, &args.but)?);
    }
    let mut out = report::terminal::stdout();
    match run.format {
        Format::Json => writeln!(
            out,
            "{:#}",
            serde_json::json!({"format_version": report::json::FORMAT_VERSION, "prefixes": set.shorts()})
        )?,
        _ => {
            // Plain bytes: there is nothing in them that a terminal would take for a colour.
            set.write_lines("", &mut std::io::stdout().lock())?;
        }
    }
    out.flush()?;
    Ok(())
}

/// Everything that some lists hold.
fn all(run: &mut Run, files: &[PathBuf]) -> Result<AddrSet, Stop> {
    let mut sets: Vec<AddrSet> = files.iter().map(|path| read(run, path)).collect::<Result<_, _>>()?;
    // One alone need not be copied.
    Ok(if let [_] = *sets { sets.swap_remove(0) } else { sets.iter().collect() })
}

/// A plain list.
pub(super) fn read(run: &mut Run, path: &Path) -> Result<AddrSet, Stop> {
    if let Some((set, bytes)) = in_pieces(path) {
        run.tell_read(path, bytes);
        return Ok(set);
    }
    // Whatever is amiss is shown in its place, for which all of the text is needed.
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

/// A list and how many bytes it has, read without keeping its text. `None` where anything is amiss, and for what can be read
/// but once.
fn in_pieces(path: &Path) -> Option<(AddrSet, usize)> {
    // Asked first: a pipe that is opened and closed again is lost to who reads it after.
    let about = fs::metadata(path).ok().filter(|about| about.is_file() && about.len() <= READ_MAX)?;
    let mut file = File::open(path).ok()?;
    let mut lines = list::Lines::of_length(usize::try_from(about.len()).ok()?);
    let mut buffer = vec![0; 256 * 1024];
    let (mut held, mut bytes) = (0, 0);
    loop {
        let more = file.read(&mut buffer[held..]).ok()?;
        (held, bytes) = (held + more, bytes + more);
        let text = &buffer[..held];
        let whole =
            if more == 0 { held } else { text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1) };
        lines.read(str::from_utf8(&text[..whole]).ok()?).ok()?;
        buffer.copy_within(whole..held, 0);
        held -= whole;
        if more == 0 && held == 0 {
            return Some((lines.done(), bytes));
        }
        // A line that is longer than all there is, or a file that grows without end.
        if held == buffer.len() || bytes as u64 > READ_MAX {
            return None;
        }
    }
}

/// Whether a file is a plain list: its first line that says something is a prefix.
pub(super) fn is_list(path: &Path) -> bool {
    use std::io::{BufRead as _, BufReader};
    let Ok(file) = File::open(path) else { return false };
    let said = |line: &String| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let first = BufReader::new(file).lines().map_while(Result::ok).find(said);
    first.is_some_and(|line| list::read(&line).is_ok())
}

//! What became of many sites: a line a site, and one for all of them.

use std::io::{self, Write};

use super::terminal::{Tone, toned};

/// What became of one site.
pub struct Line {
    /// Its name.
    pub site: String,
    /// Whether all is well, something is to be looked at, or it could not be done.
    pub state: State,
    /// The same in words.
    pub what: String,
}

/// How a site came out of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// All is well.
    Good,
    /// Something is to be looked at.
    Bad,
    /// It could not be done.
    Impossible,
}

impl State {
    /// What an exit code means.
    #[must_use]
    pub fn of(code: u8) -> Self {
        match code {
            0 => Self::Good,
            1 => Self::Bad,
            _ => Self::Impossible,
        }
    }
}

/// Prints a line a site and a last one for all; with `quiet`, only those with something amiss.
///
/// # Errors
/// Those of the writer.
pub fn text(lines: &[Line], all: &str, quiet: bool, out: &mut impl Write) -> io::Result<()> {
    /// A name that is longer moves its own line alone.
    const WIDEST: usize = 24;
    let shown: Vec<&Line> = lines.iter().filter(|line| !quiet || line.state != State::Good).collect();
    let width = shown.iter().map(|line| line.site.chars().count()).max().unwrap_or_default().min(WIDEST);
    for Line { site, state, what } in shown {
        let word = match state {
            State::Good => toned(Tone::Good, "ok  "),
            State::Bad => toned(Tone::Bad, "LOOK"),
            State::Impossible => toned(Tone::Bad, "FAIL"),
        };
        writeln!(out, "{word} {site:width$}  {what}")?;
    }
    writeln!(out, "{all}")
}

/// How many sites there are, and how many of each state.
#[must_use]
pub fn counts(states: impl IntoIterator<Item = State>) -> String {
    let states: Vec<State> = states.into_iter().collect();
    let count = |state| states.iter().filter(|s| **s == state).count();
    let s = if states.len() == 1 { "" } else { "s" };
    let mut text = format!("{} site{s}", states.len());
    for (state, word) in [(State::Good, "fine"), (State::Bad, "to look at"), (State::Impossible, "failed")] {
        if count(state) > 0 {
            text += &format!("{} {} {word}", if text.contains(':') { "," } else { ":" }, count(state));
        }
    }
    text
}

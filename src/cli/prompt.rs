//! Questions to a person: a line asked, a line read. The only door of `terminal_size`.
//!
//! Plain lines and no screen that is drawn: they can be read aloud, scrolled back to, pasted into, and answered by a pipe.
//! Ctrl-C ends the program as it ends any other; until the last answer is in, nothing has been written.

use std::io::{self, BufRead, IsTerminal, Write};

use super::{Run, Stop};
use crate::diagnostic::{Code, Diagnostic};
use crate::report::terminal::{self, Tone, toned, wrap};
use crate::text::quoted;

/// Whoever answers.
pub(super) struct Prompt {
    /// A person, who can be asked again.
    person: bool,
    /// Nobody: every question has its default.
    defaults: bool,
    width: usize,
}

/// One question.
pub(super) struct Question<'a> {
    /// The question, in a line.
    pub(super) ask: &'a str,
    /// What there is to know before one answers; lines.
    pub(super) about: Vec<String>,
    /// What an empty line means; `None` where there must be an answer.
    pub(super) default: Option<String>,
    /// The flag that answers it.
    pub(super) flag: &'static str,
}

/// Longest answer that is read.
const MAX: u64 = 4096;

/// How many columns the terminal has that standard error goes to: as COLUMNS says, or as the terminal does. `None` where it
/// is no terminal.
pub(super) fn columns() -> Option<usize> {
    /// What is narrower, or says so, is none that a line fits on.
    const LEAST: usize = 20;
    if !terminal::is_watched() {
        return None;
    }
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let asked = || terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| usize::from(width.0));
    // A terminal that does not know its size says 0.
    said.filter(|&columns| columns > 0).or_else(asked).filter(|&columns| columns > 0).map(|columns| columns.max(LEAST))
}

impl Prompt {
    pub(super) fn new(defaults: bool) -> Self {
        /// Wider lines are hard to read.
        const WIDEST: usize = 100;
        let width = columns().unwrap_or(80).min(WIDEST);
        Self { person: io::stdin().is_terminal(), defaults, width }
    }

    /// Asks until `check` takes the answer. A person is asked again; of a pipe a wrong answer is an error.
    pub(super) fn ask<T>(
        &self,
        run: &mut Run,
        question: &Question<'_>,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Stop> {
        if self.defaults {
            let Some(default) = &question.default else {
                let message = format!("there is no default for: {}", question.ask);
                return run
                    .stop(Diagnostic::new(Code::BadUsage, message).help(format!("answer it with {}", question.flag)));
            };
            return check(default).or_else(|why| wrong(run, question, default, &why));
        }
        let mut out = terminal::stderr();
        writeln!(out)?;
        for line in &question.about {
            self.write(&mut out, line)?;
        }
        loop {
            let default = question.default.as_ref().map(|text| if text.is_empty() { "none" } else { text.as_str() });
            let default = default.map(|text| format!(" [{text}]")).unwrap_or_default();
            self.write(&mut out, &format!("{}{default}", question.ask))?;
            write!(out, "> ")?;
            out.flush()?;
            let line = read()?;
            if !self.person || line.is_none() {
                let typed = line.as_ref().map(|line| line.as_deref().unwrap_or_else(|why| why));
                writeln!(out, "{}", typed.map(quoted).unwrap_or_default())?;
            }
            let Some(line) = line else {
                let message = format!("there is no answer to: {}", question.ask);
                let help = format!("answer it with {}, or take the defaults with --yes", question.flag);
                return run.stop(Diagnostic::new(Code::BadUsage, message).help(help));
            };
            let answer = match (&line, &question.default) {
                (Ok(line), Some(default)) if line.trim().is_empty() => default.clone(),
                (Ok(line), _) => line.trim().to_owned(),
                (Err(_), _) => String::new(),
            };
            match line.map_err(str::to_owned).and_then(|_| check(&answer)) {
                Ok(value) => return Ok(value),
                Err(why) if self.person => self.write(&mut out, &format!("{} {why}", toned(Tone::Bad, "No:")))?,
                Err(why) => return wrong(run, question, &answer, &why),
            }
        }
    }

    /// Says something between questions.
    pub(super) fn say(&self, text: &str) -> Result<(), Stop> {
        if !self.defaults {
            self.write(&mut terminal::stderr(), text)?;
        }
        Ok(())
    }

    /// Prints a line, broken at blanks to the width of the terminal; what goes on is indented as its beginning says.
    fn write(&self, out: &mut impl Write, line: &str) -> io::Result<()> {
        wrap(line, self.width).iter().try_for_each(|line| writeln!(out, "{line}"))
    }
}

fn wrong<T>(run: &mut Run, question: &Question<'_>, answer: &str, why: &str) -> Result<T, Stop> {
    let message = format!("`{}` is no answer to: {}", quoted(answer), question.ask);
    run.stop(Diagnostic::new(Code::BadUsage, message).help(format!("{why}; the flag is {}", question.flag)))
}

/// A line of standard input without its end, or why it is no answer; `None` where there is no more.
fn read() -> io::Result<Option<Result<String, &'static str>>> {
    let mut bytes = Vec::new();
    let mut input = io::stdin().lock();
    let mut part = |bytes: &mut Vec<u8>| io::Read::take(&mut input, MAX).read_until(b'\n', bytes);
    if part(&mut bytes)? == 0 {
        return Ok(None);
    }
    // What is left of a line that was cut would be taken for the next answer.
    if bytes.len() as u64 == MAX && !bytes.ends_with(b"\n") {
        while !matches!(bytes.last(), None | Some(b'\n')) {
            bytes.clear();
            part(&mut bytes)?;
        }
        return Ok(Some(Err("it is too long for an answer")));
    }
    let text = String::from_utf8(bytes).map(|line| line.trim_end_matches(['\n', '\r']).to_owned());
    Ok(Some(text.map_err(|_| "it is not UTF-8")))
}

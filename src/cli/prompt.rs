//! Questions to a person: a line asked, a line read. The only door of `terminal_size`.
//!
//! Plain lines and no screen that is drawn: they can be read aloud, scrolled back to, pasted into, and answered by a pipe.
//! Ctrl-C ends the program as it ends any other; until the last answer is in, nothing has been written.

use std::io::{self, BufRead, IsTerminal, Write};

use super::{Run, Stop};
use crate::diagnostic::{Code, Diagnostic};
use crate::report::terminal::{self, Tone, toned};
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

impl Prompt {
    pub(super) fn new(defaults: bool) -> Self {
        /// Wider lines are hard to read.
        const WIDEST: usize = 100;
        let width = terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| usize::from(width.0));
        Self { person: io::stdin().is_terminal(), defaults, width: width.clamp(20, WIDEST) }
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
            if !self.person {
                writeln!(out, "{}", line.as_deref().map(quoted).unwrap_or_default())?;
            }
            let Some(line) = line else {
                let message = format!("there is no answer to: {}", question.ask);
                let help = format!("answer it with {}, or take the defaults with --yes", question.flag);
                return run.stop(Diagnostic::new(Code::BadUsage, message).help(help));
            };
            let answer = match (line.trim(), &question.default) {
                ("", Some(default)) => default.clone(),
                (answer, _) => answer.to_owned(),
            };
            match check(&answer) {
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

/// A line of standard input without its end; `None` where there is no more.
fn read() -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let mut input = io::Read::take(io::stdin().lock(), MAX);
    if input.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned()))
}

/// Breaks a line at blanks. Behind a list's number or name, further lines stand under its text.
fn wrap(line: &str, width: usize) -> Vec<String> {
    let indent = line.len() - line.trim_start().len();
    let hang = if indent > 0 { (indent + 2).min(width / 4) } else { 0 };
    let (mut lines, mut now, mut length) = (Vec::new(), " ".repeat(indent), indent);
    let mut empty = true;
    for word in line.split_whitespace() {
        // Colours take no room.
        let long = word.chars().count() - if word.contains('\u{1b}') { word.len().min(9) } else { 0 };
        if !empty && length + 1 + long > width {
            lines.push(std::mem::replace(&mut now, " ".repeat(hang)));
            (length, empty) = (hang, true);
        }
        if !empty {
            now.push(' ');
            length += 1;
        }
        now.push_str(word);
        (length, empty) = (length + long, false);
    }
    lines.push(now);
    lines
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn lines_are_broken_at_blanks() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("  one two three", 9), ["  one two", "  three"]);
        assert_eq!(wrap("a-word-that-is-long and", 8), ["a-word-that-is-long", "and"]);
        assert_eq!(wrap("", 8), [""]);
    }
}

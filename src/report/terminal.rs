//! Findings with source excerpts, as the Rust compiler prints them; the only door of `annotate_snippets` and
//! `anstream`.

use std::io::{self, IsTerminal, Write};

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::Sources;

/// Standard error, with colours where they are wanted.
#[must_use]
pub fn stderr() -> impl Write {
    anstream::AutoStream::auto(io::stderr())
}

/// Standard output, with colours where they are wanted.
#[must_use]
pub fn stdout() -> impl Write {
    anstream::AutoStream::auto(io::stdout().lock())
}

/// Whether somebody watches standard error.
#[must_use]
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// What a word on the screen says before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It is as it should be.
    Good,
    /// It is not.
    Bad,
    /// It is beside the point.
    Faint,
}

/// A word in colour; [`stdout`] and [`stderr`] take the colour out where it is not wanted.
#[must_use]
pub fn toned(tone: Tone, word: &str) -> String {
    let code = match tone {
        Tone::Good => "32",
        Tone::Bad => "1;31",
        Tone::Faint => "2",
    };
    format!("\u{1b}[{code}m{word}\u{1b}[0m")
}

/// Prints one finding: code, message, excerpts, help. On a terminal of so many columns its lines are broken at blanks and
/// its excerpts cut to what fits.
///
/// # Errors
/// Those of the writer.
pub fn print(diagnostic: &Diagnostic, sources: &Sources, width: Option<usize>, out: &mut impl Write) -> io::Result<()> {
    let fitted = |text: &str, before: usize| match width {
        None => text.to_owned(),
        // Where next to nothing is left of a line, it is the terminal's to break.
        Some(width) => text
            .lines()
            .flat_map(|line| wrap(line, width.saturating_sub(before).max(16)))
            .collect::<Vec<_>>()
            .join("\n"),
    };
    let level = match diagnostic.severity() {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    // `warning[W101]: ` and ` = help: ` stand before them, behind as many blanks as a line number has digits.
    let message = fitted(&diagnostic.message, 15);
    let help = diagnostic.help.as_ref().map(|help| fitted(help, 13));
    let title = level.primary_title(&*message).id(diagnostic.code.as_str());
    let mut group = Group::with_title(title);
    let mut order: Vec<_> = diagnostic.labels.iter().map(|label| label.span.source).collect();
    order.dedup();
    for (i, source_id) in order.into_iter().enumerate() {
        let source = sources.get(source_id);
        let mut snippet = Snippet::source(&*source.text).path(&*source.path).fold(true);
        for (j, label) in diagnostic.labels.iter().enumerate().filter(|(_, label)| label.span.source == source_id) {
            let kind = if i == 0 && j == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let text = (!label.text.is_empty()).then_some(&*label.text);
            snippet = snippet.annotation(kind.span(within(&source.text, &label.span.range)).label(text));
        }
        group = group.element(snippet);
    }
    if let Some(help) = &help {
        group = group.element(Level::HELP.message(&**help));
    }
    let renderer = Renderer::styled().decor_style(DecorStyle::Ascii);
    let renderer = width.map_or(renderer.clone(), |width| renderer.term_width(width));
    writeln!(out, "{}\n", renderer.render(&[group]))
}

/// Breaks a line at blanks. What stands in backticks is left whole where it fits on a line, so that a command can be copied.
/// Behind a list's number or name, further lines stand under its text.
#[must_use]
pub fn wrap(line: &str, width: usize) -> Vec<String> {
    let indent = line.len() - line.trim_start().len();
    let number = line.trim_start().split(' ').next().filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
    let hang = if indent > 0 { (indent + number.map_or(2, |number| number.len() + 1)).min(width / 4) } else { 0 };
    let (mut lines, mut now, mut length) = (Vec::new(), " ".repeat(indent), indent);
    let mut empty = true;
    for word in words(line, width.saturating_sub(hang)) {
        let long = shown(&word);
        if !empty && length + 1 + long > width {
            lines.push(std::mem::replace(&mut now, " ".repeat(hang)));
            (length, empty) = (hang, true);
        }
        if !empty {
            now.push(' ');
            length += 1;
        }
        now.push_str(&word);
        (length, empty) = (length + long, false);
    }
    lines.push(now);
    lines
}

/// The words of a line; those in one pair of backticks are one, where it is no longer than `width`.
fn words(line: &str, width: usize) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut open: Option<Vec<&str>> = None;
    for word in line.split_whitespace() {
        let odd = word.matches('`').count() % 2 == 1;
        match open.take() {
            None if odd => open = Some(vec![word]),
            None => words.push(word.to_owned()),
            Some(mut inside) => {
                inside.push(word);
                let long: usize = inside.iter().map(|word| shown(word) + 1).sum();
                if long > width + 1 {
                    words.extend(inside.into_iter().map(str::to_owned));
                } else if odd {
                    words.push(inside.join(" "));
                } else {
                    open = Some(inside);
                }
            }
        }
    }
    words.extend(open.into_iter().flatten().map(str::to_owned));
    words
}

/// How many columns a word takes: colours take none.
fn shown(word: &str) -> usize {
    let mut columns = 0;
    let mut colour = false;
    for c in word.chars() {
        match c {
            '\u{1b}' => colour = true,
            'm' if colour => colour = false,
            _ if colour => {}
            _ => columns += 1,
        }
    }
    columns
}

/// A range that lies in the text and on its characters, whatever it was, without the white space at its end: a YAML
/// block goes on to the next key's line.
fn within(text: &str, range: &std::ops::Range<usize>) -> std::ops::Range<usize> {
    let start = text.floor_char_boundary(range.start.min(text.len()));
    let end = text.ceil_char_boundary(range.end.min(text.len()).max(start));
    match text[start..end].trim_end().len() {
        0 => start..end,
        length => start..start + length,
    }
}

#[cfg(test)]
mod tests {
    use super::{shown, wrap};

    #[test]
    fn lines_are_broken_at_blanks() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("  one two three", 9), ["  one two", "  three"]);
        assert_eq!(wrap("a-word-that-is-long and", 8), ["a-word-that-is-long", "and"]);
        assert_eq!(wrap("", 8), [""]);
    }

    #[test]
    fn commands_are_left_whole_where_they_fit() {
        assert_eq!(wrap("run `outgate resolve` first", 18), ["run", "`outgate resolve`", "first"]);
        assert_eq!(wrap("run `outgate resolve` first", 12), ["run `outgate", "resolve`", "first"]);
        assert_eq!(wrap("a ` that nobody closes", 12), ["a ` that", "nobody", "closes"]);
    }

    #[test]
    fn colours_take_no_room() {
        assert_eq!(shown("\u{1b}[1;31mNo:\u{1b}[0m"), 3);
    }
}

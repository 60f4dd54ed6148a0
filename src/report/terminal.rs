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

/// Prints one finding: code, message, excerpts, help.
///
/// # Errors
/// Those of the writer.
pub fn print(diagnostic: &Diagnostic, sources: &Sources, out: &mut impl Write) -> io::Result<()> {
    let level = match diagnostic.severity() {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title = level.primary_title(&*diagnostic.message).id(diagnostic.code.as_str());
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
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(&**help));
    }
    let renderer = Renderer::styled().decor_style(DecorStyle::Ascii);
    writeln!(out, "{}\n", renderer.render(&[group]))
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

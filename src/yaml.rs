//! YAML text to typed values that know their place; the only door of `serde_saphyr`. Read only.

use std::ops::Range;

use serde::{Deserialize, Deserializer};

use crate::diagnostic::{Code, Diagnostic, suggest};
use crate::source::{SourceId, Sources, Span};

/// A value and where in the text it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place, in bytes of the text.
    pub range: Range<usize>,
}

impl<T> Spanned<T> {
    /// The place as a span of the source it was read from.
    #[must_use]
    pub fn span(&self, source: SourceId) -> Span {
        Span { source, range: self.range.clone() }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<T>::deserialize(deserializer)?;
        Ok(Self { range: bytes_of(spanned.referenced).unwrap_or(0..0), value: spanned.value })
    }
}

fn bytes_of(location: serde_saphyr::Location) -> Option<Range<usize>> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let length = usize::try_from(span.byte_len()?).ok()?;
    Some(start..start + length)
}

/// Most nodes one file may hold. The reader's own default refuses the catalogs of big users; this is 40 times it.
const MAX_NODES: usize = 10_000_000;

/// Reads one source as a `T`.
///
/// # Errors
/// One diagnostic with the place: bad YAML, a key twice, an unknown key (with the one that was probably meant), a
/// wrong type, bounds on depth and aliases exceeded.
pub fn read<T: for<'de> Deserialize<'de>>(sources: &Sources, id: SourceId) -> Result<T, Diagnostic> {
    let text = &sources.get(id).text;
    let mut budget = serde_saphyr::Budget::default();
    budget.max_nodes = MAX_NODES;
    budget.max_events = MAX_NODES * 4;
    let mut options = serde_saphyr::Options::default();
    options.budget = Some(budget);
    options.strict_booleans = true;
    serde_saphyr::from_str_with_options(text, options).map_err(|error| explain(text, id, &error))
}

fn explain(text: &str, source: SourceId, error: &serde_saphyr::Error) -> Diagnostic {
    let plain = error.without_snippet();
    let mut options = serde_saphyr::RenderOptions::new(&serde_saphyr::UserMessageFormatter);
    options.snippets = serde_saphyr::SnippetMode::Off;
    let rendered = plain.render_with_options(options);
    let message = match rendered.split_once(" at line ") {
        Some((message, _)) => message,
        None => &rendered,
    };
    let place = plain.location().and_then(|location| place_of(text, location));
    let (message, help) = unknown_key(message);
    let mut diagnostic = Diagnostic::new(Code::BadYaml, message);
    if let Some(range) = place {
        diagnostic = diagnostic.at(Span { source, range }, "");
    }
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

/// A place as bytes; where the reader knows only line and column, the rest of that line.
fn place_of(text: &str, location: serde_saphyr::Location) -> Option<Range<usize>> {
    if let Some(range) = bytes_of(location).filter(|r| text.get(r.clone()).is_some_and(|t| !t.is_empty())) {
        return Some(range);
    }
    let line = usize::try_from(location.line()).ok()?.checked_sub(1)?;
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = text.get(start..)?.lines().next().unwrap_or("");
    let column = usize::try_from(location.column()).ok()?.saturating_sub(1);
    let skip = rest.char_indices().nth(column).map_or(rest.len(), |(i, _)| i);
    Some(start + skip..start + rest.len().max(skip))
}

/// Serde's "unknown field `x`, expected one of `a`, `b`" as a message and the key that was probably meant.
fn unknown_key(message: &str) -> (String, Option<String>) {
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    for (start, kind) in [("unknown field", "key"), ("unknown variant", "value")] {
        if message.starts_with(start) {
            let words = quoted(message);
            if let Some((word, known)) = words.split_first() {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                return (format!("unknown {kind} `{word}`"), Some(suggest(word, &known)));
            }
        }
    }
    (message.replace("missing field", "missing key"), None)
}

//! YAML text to typed values that know their place; the only door of `serde_saphyr`. Read only. What is written as nearly
//! all of it is takes a short way of its own.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, Range, RangeInclusive};

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::diagnostic::{Code, Diagnostic, suggest};
use crate::source::{SourceId, Sources, Span};
use crate::text::{CONFLICT, is_conflict_marker, quoted};

mod usual;

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

impl Spanned<i64> {
    /// The number, where it lies in a range; `what` is counted.
    ///
    /// # Errors
    /// One diagnostic with the place and the range.
    pub fn within(&self, range: &RangeInclusive<u16>, what: &str, source: SourceId) -> Result<u16, Diagnostic> {
        u16::try_from(self.value).ok().filter(|n| range.contains(n)).ok_or_else(|| {
            Diagnostic::new(Code::BadSetting, format!("{} is out of range", self.value))
                .at(self.span(source), "")
                .help(format!("{what} from {} to {}", range.start(), range.end()))
        })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Placed<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Placed<T> {
            type Value = Spanned<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value and its place")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Spanned<T>, D::Error> {
                let spanned = serde_saphyr::Spanned::<T>::deserialize(deserializer)?;
                Ok(Spanned { range: bytes_of(spanned.referenced).unwrap_or(0..0), value: spanned.value })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Spanned<T>, A::Error> {
                match (parts.next_element()?, parts.next_element()?, parts.next_element()?) {
                    (Some(value), Some(begin), Some(end)) => Ok(Spanned { value, range: begin..end }),
                    _ => Err(A::Error::custom("a value without a place")),
                }
            }
        }
        deserializer.deserialize_newtype_struct(usual::SPANNED, Placed(PhantomData))
    }
}

/// A text of a file that is done with once it is checked: lent by the file's own text where it stands there as it is.
/// In a type that is read, one `serde(borrow)` does for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word<'a>(Cow<'a, str>);

impl Deref for Word<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Word<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lent;
        impl<'de> Visitor<'de> for Lent {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text))
            }
        }
        // As for a `String`: a text that can only be lent is another thing to the other reader.
        deserializer.deserialize_string(Lent).map(Self)
    }
}

fn bytes_of(location: serde_saphyr::Location) -> Option<Range<usize>> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let length = usize::try_from(span.byte_len()?).ok()?;
    Some(start..start + length)
}

/// Most nodes one file may hold. The reader's own default refuses the catalogs of big users; this is eight times it.
const MAX_NODES: usize = 2_000_000;

/// Reads one source as a `T`.
///
/// # Errors
/// One diagnostic with the place: bad YAML, a key twice, an unknown key (with the one that was probably meant), a
/// wrong type, bounds on depth and aliases exceeded.
pub fn read<'a, T: Deserialize<'a>>(sources: &'a Sources, id: SourceId) -> Result<T, Diagnostic> {
    let text = &sources.get(id).text;
    // To the reader nothing is a value too, and where every key may be left out a file that was cut to nothing would
    // pass for one that says nothing.
    if text.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#')) {
        let diagnostic = Diagnostic::new(Code::BadYaml, "this file says nothing");
        return Err(diagnostic.at(Span { source: id, range: 0..0 }, ""));
    }
    usual::read(text, MAX_NODES).or_else(|_| read_any(text).map_err(|error| explain(text, id, &error)))
}

/// Whether a text is of the kind that is read quickly.
#[cfg(test)]
pub(crate) fn is_usual<'a, T: Deserialize<'a>>(text: &'a str) -> bool {
    usual::read::<T>(text, MAX_NODES).is_ok()
}

/// Reads whatever YAML there is.
fn read_any<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, serde_saphyr::Error> {
    let mut budget = serde_saphyr::Budget::default();
    budget.max_nodes = MAX_NODES;
    budget.max_events = MAX_NODES * 4;
    let mut options = serde_saphyr::Options::default();
    options.budget = Some(budget);
    options.strict_booleans = true;
    serde_saphyr::from_str_with_options(text, options)
}

fn explain(text: &str, source: SourceId, error: &serde_saphyr::Error) -> Diagnostic {
    let plain = error.without_snippet();
    let place = plain.location().and_then(|location| place_of(text, location));
    let excerpt = place.clone().and_then(|range| text.get(range)).unwrap_or("");
    let (message, label, help) = words(plain, excerpt);
    let mut diagnostic = Diagnostic::new(Code::BadYaml, message);
    if place.as_ref().is_some_and(|range| is_conflict_marker(line_at(text, range.start))) {
        diagnostic = Diagnostic::new(Code::BadYaml, CONFLICT);
    } else if let Some(help) = help {
        diagnostic = diagnostic.help(help);
    }
    match place {
        Some(range) => diagnostic.at(Span { source, range }, label),
        None => diagnostic,
    }
}

/// The reader's error in our words: message, label of the place, help.
fn words(error: &serde_saphyr::Error, excerpt: &str) -> (String, &'static str, Option<String>) {
    use serde_saphyr::Error as E;
    match error {
        E::SerdeUnknownField { field, expected, .. } => {
            return (format!("unknown key `{}`", quoted(field)), "", Some(suggest(field, expected)));
        }
        E::SerdeMissingField { field, .. } => return (format!("missing key `{field}`"), "it belongs with this", None),
        E::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or(excerpt);
            let help = "one of the two would be lost: make them one".to_owned();
            return (format!("the key `{}` stands twice", quoted(key)), "the second", Some(help));
        }
        _ => {}
    }
    let mut options = serde_saphyr::RenderOptions::new(&serde_saphyr::UserMessageFormatter);
    options.snippets = serde_saphyr::SnippetMode::Off;
    let rendered = error.render_with_options(options);
    let message = rendered.split_once(" at line ").map_or(&*rendered, |(message, _)| message);
    let (message, help) = match message {
        "expected sequence start" => {
            let short = (1..=60).contains(&excerpt.len()) && !excerpt.contains([':', '\n', '{', '[']);
            let list = if short { format!("[{}]", quoted(excerpt)) } else { "[one, another]".to_owned() };
            (
                "a list must stand here",
                Some(format!("write it as a list, such as `{list}`, or each item behind a `- `")),
            )
        }
        "expected mapping start" => ("keys with values must stand here", Some("write them as `key: value`".to_owned())),
        "expected string scalar" => ("one text must stand here, no list and no keys", None),
        "null is not allowed here" => ("nothing stands here where a text must", None),
        "invalid i64" => ("a whole number must stand here", None),
        "simple key expected ':'" => ("this is no `key: value`: there is no `:` behind the key", None),
        "reference to unknown value" => ("there is no anchor of this name above", None),
        "unexpected end of file" => ("this file ends too early", None),
        "only single YAML document expected but multiple found" => {
            ("a second document begins here", Some("one file holds one document: take the `---` line out".to_owned()))
        }
        message if message.contains("tab") => (message, Some("indent with spaces".to_owned())),
        message if message.contains("quoted scalar") => {
            (message, Some("look for a quote that is not closed, in this line or above".to_owned()))
        }
        message => (message, None),
    };
    (message.to_owned(), "", help)
}

/// The whole line that a byte lies in.
fn line_at(text: &str, byte: usize) -> &str {
    let start = text.get(..byte).and_then(|before| before.rfind('\n')).map_or(0, |i| i + 1);
    text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or("")
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

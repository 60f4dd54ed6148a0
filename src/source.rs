//! The texts that were read, and places in them.

use std::ops::Range;
use std::sync::Arc;

/// A place in one of the [`Sources`]: byte offsets, end excluded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Which text.
    pub source: SourceId,
    /// Where in it, in bytes.
    pub range: Range<usize>,
}

/// Names one text of a [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(usize);

/// One text and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path as the user named it, or a name such as `<command line>`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// Every text of a run; diagnostics point into it. A clone has the same texts and shares them.
#[derive(Clone, Debug, Default)]
pub struct Sources(Vec<Arc<Source>>);

impl Sources {
    /// Takes a text in.
    pub fn add(&mut self, path: impl Into<String>, text: impl Into<String>) -> SourceId {
        self.0.push(Arc::new(Source { path: path.into(), text: text.into() }));
        SourceId(self.0.len() - 1)
    }

    /// Lets go of a text that nothing points into any more: a lock may have fifty megabytes. Gives it back, but for one
    /// that a clone has too.
    pub fn forget(&mut self, id: SourceId) -> String {
        let Some(source) = self.0.get_mut(id.0) else { return String::new() };
        let empty = Arc::new(Source { path: source.path.clone(), text: String::new() });
        Arc::into_inner(std::mem::replace(source, empty)).map(|source| source.text).unwrap_or_default()
    }

    /// Takes over a text of another value, and gives its id here: the same, where it came here from one ancestor.
    pub fn adopt(&mut self, other: &Self, id: SourceId) -> SourceId {
        let text = &other.0[id.0];
        let known = self.0.get(id.0).is_some_and(|own| Arc::ptr_eq(own, text));
        match known.then_some(id.0).or_else(|| self.0.iter().rposition(|own| Arc::ptr_eq(own, text))) {
            Some(at) => SourceId(at),
            None => {
                self.0.push(Arc::clone(text));
                SourceId(self.0.len() - 1)
            }
        }
    }

    /// A text by its id, which must come from this value.
    #[must_use]
    pub fn get(&self, id: SourceId) -> &Source {
        &self.0[id.0]
    }

    /// Line and column of a place, both from 1, the column in characters.
    #[must_use]
    pub fn line_column(&self, span: &Span) -> (usize, usize) {
        let text = &self.get(span.source).text;
        let before = text.get(..span.range.start.min(text.len())).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

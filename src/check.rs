//! One run for a pull request: its parts, and what became of each. Which parts there are and what they look at is the
//! command line's; here is what makes one of them fail.

use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::source::Span;
use crate::text::Text;
use crate::verify::State;

/// What was looked at, part by part.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// The site; `None` where its profile cannot be read.
    pub site: Option<Text>,
    /// The parts, in the order they were run.
    pub parts: Vec<Part>,
}

/// One part.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its word.
    pub name: &'static str,
    /// What became of it.
    pub outcome: Outcome,
    /// The same in a line.
    pub summary: String,
    /// What was looked at, one by one.
    pub items: Vec<Item>,
    /// What there is to say, without what an earlier part has said.
    pub findings: Vec<Diagnostic>,
}

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Everything in it is well.
    Passes,
    /// There was nothing to look at.
    Skipped,
    /// Something in it is not.
    Fails,
    /// It could not be looked at.
    Impossible,
}

impl Outcome {
    /// The word for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::Skipped => "skipped",
            Self::Fails => "fails",
            Self::Impossible => "impossible",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is part of: an assertion, or the part itself.
    pub group: String,
    /// What it is: a host, a target, a flow.
    pub name: String,
    /// What became of it.
    pub state: State,
    /// Why; may be empty where all is well.
    pub why: String,
    /// Where it is written.
    pub span: Option<Span>,
    /// The finding that says so, where one does.
    pub code: Option<Code>,
}

impl Item {
    /// One that is as it should be.
    #[must_use]
    pub fn good(group: &str, name: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            group: group.to_owned(),
            name: name.into(),
            state: State::Holds,
            why: why.into(),
            span: None,
            code: None,
        }
    }

    /// One that is not.
    #[must_use]
    pub fn bad(group: &str, name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { state: State::Fails, ..Self::good(group, name, why) }
    }
}

impl Item {
    /// Whether a finding says what this says.
    #[must_use]
    pub fn says(&self, finding: &Diagnostic) -> bool {
        let lines = || self.why.lines().map(|line| line.split_once(": ").map_or(line, |(_, why)| why));
        self.state == State::Fails
            && (self.why.contains(&finding.message)
                || lines().any(|why| !why.is_empty() && finding.message.contains(why)))
    }
}

impl Part {
    /// A part that was looked at: findings as bad as a level make it fail, and so does any item that does. What earlier
    /// parts have found is theirs.
    #[must_use]
    pub fn of(
        name: &'static str,
        summary: String,
        items: Vec<Item>,
        found: impl IntoIterator<Item = Diagnostic>,
        level: Severity,
        earlier: &[Self],
    ) -> Self {
        let said = |finding: &Diagnostic| is_said(finding, earlier);
        let findings: Vec<Diagnostic> = found.into_iter().filter(|finding| !said(finding)).collect();
        let bad = items.iter().any(|item| item.state == State::Fails) || findings.iter().any(|f| f.severity() >= level);
        let outcome = if bad { Outcome::Fails } else { Outcome::Passes };
        Self { name, outcome, summary, items, findings }
    }

    /// A part that has nothing to look at.
    #[must_use]
    pub fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Skipped, summary: why.into(), items: Vec::new(), findings: Vec::new() }
    }

    /// A part that could not be looked at, for these reasons.
    #[must_use]
    pub fn impossible(name: &'static str, found: impl IntoIterator<Item = Diagnostic>, earlier: &[Self]) -> Self {
        let said = |finding: &Diagnostic| is_said(finding, earlier);
        let found: Vec<Diagnostic> = found.into_iter().collect();
        let first = found.iter().find(|finding| finding.severity() == Severity::Error);
        let summary = first.map_or_else(|| "could not be looked at".to_owned(), |finding| finding.message.clone());
        let findings = found.into_iter().filter(|finding| !said(finding)).collect();
        Self { name, outcome: Outcome::Impossible, summary, items: Vec::new(), findings }
    }
}

/// Whether an earlier part has said so; of a file that was read twice, as well.
fn is_said(finding: &Diagnostic, earlier: &[Part]) -> bool {
    let is_same = |said: &Diagnostic| said.code == finding.code && said.message == finding.message;
    earlier.iter().flat_map(|part| &part.findings).any(is_same)
}

impl Check {
    /// What became of all of it: the worst of its parts.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.parts.iter().map(|part| part.outcome).max().unwrap_or(Outcome::Passes)
    }

    /// Whether nothing is amiss.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.outcome() <= Outcome::Skipped
    }

    /// Everything there is to say of at least this severity, part by part.
    pub fn findings(&self, least: Severity) -> impl Iterator<Item = &Diagnostic> {
        self.parts.iter().flat_map(|part| &part.findings).filter(move |finding| finding.severity() >= least)
    }
}

//! Many questions summed up: lines of a log → what was asked how often, and what the rules say of each.

use std::collections::{BTreeMap, HashMap};

use super::nearest::{self, Near};
use super::question::{NoQuestion, Sighting, To};
use super::{Explainer, Standing};
use crate::catalog::Catalog;
use crate::profile::Profile;

/// Questions and how often each was asked.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    seen: HashMap<Sighting, u64>,
    unread: BTreeMap<NoQuestion, u64>,
}

impl Tally {
    /// Counts one line as it was read.
    pub fn add(&mut self, read: Result<Sighting, NoQuestion>) {
        match read {
            Ok(sighting) => *self.seen.entry(sighting).or_default() += 1,
            Err(why) => *self.unread.entry(why).or_default() += 1,
        }
    }
}

/// What many questions come to.
#[derive(Clone, Debug)]
pub struct Summary<'a> {
    /// Denied first, then what was asked most often.
    pub rows: Vec<Row<'a>>,
    /// Lines that hold no question, by why not.
    pub unread: BTreeMap<NoQuestion, u64>,
}

/// One question that was asked some times.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// How often.
    pub count: u64,
    /// What.
    pub sighting: Sighting,
    /// What the rules say now; `None` where no client of ours could have asked in that address family.
    pub standing: Option<Standing<'a>>,
    /// What it comes near to. For a name every documented callout that leads there.
    pub near: Vec<Near>,
}

impl Row<'_> {
    /// Whether it gets out by the rules of now; `None` where that is not for them to say.
    #[must_use]
    pub fn allows(&self) -> Option<bool> {
        self.standing.as_ref().and_then(Standing::allows)
    }

    /// Whether the log says otherwise than the rules: the enforcer had others loaded.
    #[must_use]
    pub fn contradicts(&self) -> bool {
        let logged = self.sighting.log.and_then(|log| log.allowed);
        logged.zip(self.allows()).is_some_and(|(logged, allowed)| logged != allowed)
    }

    /// Whether it is a documented callout that the site has no rule for.
    #[must_use]
    pub fn is_documented(&self) -> bool {
        self.near.iter().any(|near| matches!(near, Near::Off { .. }))
    }
}

impl Summary<'_> {
    /// How many lines were read as questions.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.rows.iter().map(|row| row.count).sum()
    }
}

/// Most rows that are told what they come near to: one that is so far down nobody reads.
const NEAR_MOST: usize = 200;

/// Sums up, with what the rules say of each question.
#[must_use]
pub fn sum<'a>(explainer: &Explainer<'a>, tally: Tally, catalog: &Catalog, profile: &Profile) -> Summary<'a> {
    let mut rows: Vec<Row<'a>> = tally
        .seen
        .into_iter()
        .map(|(sighting, count)| Row { standing: standing(explainer, &sighting), count, sighting, near: Vec::new() })
        .collect();
    let order = |row: &Row<'_>| match row.allows() {
        Some(false) => 0,
        Some(true) => 1,
        None => 2,
    };
    let key = |row: &Row<'_>| (order(row), std::cmp::Reverse(row.count));
    rows.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.sighting.cmp(&b.sighting)));
    let rest = rows.iter_mut().filter(|row| matches!(row.standing, Some(Standing::Rest(_))));
    for (number, row) in rest.enumerate() {
        if number < NEAR_MOST {
            let question = &row.sighting.question;
            row.near = nearest::find(explainer, question, &explainer.answer(question), catalog, profile);
        } else if matches!(row.sighting.question.to, To::Name(_)) {
            row.near = nearest::documented(explainer, &row.sighting.question.to, catalog, profile);
        }
    }
    Summary { rows, unread: tally.unread }
}

/// What the rules say of one line.
#[must_use]
pub fn standing<'a>(explainer: &Explainer<'a>, sighting: &Sighting) -> Option<Standing<'a>> {
    let v4 = match sighting.question.to {
        To::Addr(addr) => addr.is_ipv4(),
        To::Name(_) => true,
    };
    let face = sighting.question.client.or_else(|| explainer.face(v4)).or_else(|| match sighting.question.to {
        To::Name(_) => explainer.face(!v4),
        To::Addr(_) => None,
    });
    face.map(|face| explainer.verdict(sighting, face))
}

//! Release names as users write them, and intervals of releases.
//!
//! A name covers itself and everything below it: `25.10` covers each point release of that line, `25.10.2` also
//! `25.10.2.1`. So two names can be compared as intervals, and a line without a point release means all of them.

use std::cmp::Ordering;
use std::fmt;

/// A release name, such as `25.10`, `25.10.2`, `22.12-BETA.2`, `13.3-U1.2` or `13.0-RELEASE`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Release {
    text: String,
    key: Vec<i32>,
}

/// Why a text is no release name. The text of the error ends a sentence that began with the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseError(&'static str);

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ReleaseError {}

/// Stages before a release, in order; each sorts below the final release's 0.
const STAGES: [(&str, i32); 4] = [("NIGHTLY", -4), ("ALPHA", -3), ("BETA", -2), ("RC", -1)];

impl Release {
    /// Reads a release name. What a vendor writes before it is the catalog's to know.
    ///
    /// # Errors
    /// Anything that is not two or more numbers (one, from release 26 on) with a stage or update number.
    ///
    /// ```
    /// # use outgate::release::Release;
    /// assert!(Release::parse("25.10.2").unwrap().is_within(&Release::parse("25.10").unwrap()));
    /// assert!(Release::parse("latest").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, ReleaseError> {
        const SHAPE: ReleaseError = ReleaseError("is no release name, such as `25.10`, `25.10.2` or `13.3-U1.2`");
        let bare = text.to_ascii_uppercase();
        if bare.is_empty() || bare.len() > 32 {
            return Err(SHAPE);
        }
        let mut key = Vec::new();
        for (i, part) in bare.split(['.', '-']).enumerate() {
            match part {
                "RELEASE" if i > 0 => key.push(0),
                part => {
                    match (number(part), STAGES.iter().find_map(|(name, n)| Some((part.strip_prefix(name)?, *n)))) {
                        (Some(n), _) => key.push(n),
                        (None, Some((rest, stage))) if i > 0 => {
                            key.push(stage);
                            if !rest.is_empty() {
                                key.push(number(rest).ok_or(SHAPE)?);
                            }
                        }
                        _ if i > 0 => key.push(part.strip_prefix('U').and_then(number).ok_or(SHAPE)?),
                        _ => return Err(SHAPE),
                    }
                }
            }
        }
        Ok(Self { text: bare, key })
    }

    /// The name, upper case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this release is `line` or lies below it.
    #[must_use]
    pub fn is_within(&self, line: &Self) -> bool {
        self.key.starts_with(&line.key)
    }

    /// Whether the whole of this release comes after the whole of the other, neither holding the other.
    #[must_use]
    pub fn is_after(&self, other: &Self) -> bool {
        !self.is_within(other) && !other.is_within(self) && self.key > other.key
    }

    /// Order by number, for lists.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A span of releases, both ends included; an end left out is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// The first release.
    pub since: Option<Release>,
    /// The last release.
    pub until: Option<Release>,
}

/// How much of a release an interval holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// None of it.
    None,
    /// Some point releases of it: the release was named too coarsely to tell.
    Part,
    /// All of it.
    Whole,
}

impl Interval {
    /// How much of `release`, taken with everything below it, lies in this interval.
    #[must_use]
    pub fn overlap(&self, release: &Release) -> Overlap {
        let outside = self.since.as_ref().is_some_and(|since| since.is_after(release))
            || self.until.as_ref().is_some_and(|until| release.is_after(until));
        if outside {
            return Overlap::None;
        }
        // An end strictly below the named release cuts it in two. A line stands for its releases, not for what came
        // before the first of them: a beginning among those cuts nothing off, an end among those leaves nothing.
        let below = |end: &&Release| end.key.len() > release.key.len() && end.is_within(release);
        let early = |end: &Release| end.key.get(release.key.len()..).is_some_and(|rest| rest.iter().any(|&n| n < 0));
        if self.until.as_ref().filter(below).is_some_and(early) {
            return Overlap::None;
        }
        let cut_below = self.since.as_ref().filter(below).is_some_and(|since| !early(since));
        let cut_above = self.until.as_ref().filter(below).is_some();
        if cut_below || cut_above { Overlap::Part } else { Overlap::Whole }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.since, &self.until) {
            (None, None) => f.write_str("all"),
            (Some(since), None) => write!(f, "{since} on"),
            (None, Some(until)) => write!(f, "until {until}"),
            (Some(since), Some(until)) if since == until => write!(f, "{since}"),
            (Some(since), Some(until)) => write!(f, "{since} to {until}"),
        }
    }
}

fn number(text: &str) -> Option<i32> {
    let plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        Release::parse(text).unwrap()
    }

    #[test]
    fn releases_are_in_the_order_they_came_out() {
        let names = [
            "12.0-U8.1",
            "13.0-BETA1",
            "13.0-RELEASE",
            "13.0-U1",
            "13.3-U1.2",
            "22.12-BETA.2",
            "22.12-RC.1",
            "22.12.0",
            "22.12.4.2",
            "25.10.1",
            "25.10.2",
            "26.0.0-BETA.1",
            "26.0.0-BETA.3",
        ];
        for pair in names.windows(2) {
            assert!(release(pair[1]).is_after(&release(pair[0])), "{pair:?}");
            assert!(!release(pair[0]).is_after(&release(pair[1])), "{pair:?}");
        }
    }

    #[test]
    fn a_line_holds_its_point_releases() {
        assert!(release("25.10.2").is_within(&release("25.10")));
        assert!(release("26.0.0-beta.3").is_within(&release("26")));
        assert!(!release("25.1").is_within(&release("25.10")));
        assert!(!release("25.10").is_within(&release("25.1")));
    }

    #[test]
    fn intervals_cut_a_line() {
        let interval = |since: &str, until: &str| Interval {
            since: (!since.is_empty()).then(|| release(since)),
            until: (!until.is_empty()).then(|| release(until)),
        };
        let moved = interval("22.12-BETA.2", "25.10.1");
        assert_eq!(moved.overlap(&release("22.02")), Overlap::None);
        assert_eq!(moved.overlap(&release("22.12")), Overlap::Whole);
        assert_eq!(interval("22.12-ALPHA.1", "22.12-ALPHA.1").overlap(&release("22.12")), Overlap::None);
        assert_eq!(interval("22.12-ALPHA.1", "22.12-ALPHA.1").overlap(&release("22.12-ALPHA.1")), Overlap::Whole);
        assert_eq!(interval("26.0.0-BETA.1", "").overlap(&release("26")), Overlap::Whole);
        assert_eq!(interval("12.0-U1", "12.0-U1.1").overlap(&release("12.0")), Overlap::Part);
        assert_eq!(moved.overlap(&release("24.10")), Overlap::Whole);
        assert_eq!(moved.overlap(&release("25.10")), Overlap::Part);
        assert_eq!(moved.overlap(&release("25.10.1")), Overlap::Whole);
        assert_eq!(moved.overlap(&release("25.10.2")), Overlap::None);
        assert_eq!(interval("25.10.2", "").overlap(&release("25.10.6")), Overlap::Whole);
        assert_eq!(interval("", "24.04").overlap(&release("24.04.2.5")), Overlap::Whole);
        assert_eq!(interval("", "").overlap(&release("26")), Overlap::Whole);
    }

    #[test]
    fn what_is_no_release_is_refused() {
        for text in
            ["", "latest", "any", "*", "25..10", "25.10-", "25.10-X1", "25.10\n", "TN-", "U1", "RC1", "-1.0", "25,10"]
        {
            assert!(Release::parse(text).is_err(), "{text:?} was taken");
        }
    }
}

//! A calendar day, the finest date anything here is kept to; the only door of `jiff`.

use std::fmt;

/// A day of the Gregorian calendar, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(jiff::civil::Date);

impl Day {
    /// Reads `2026-11-21`, and no other form.
    ///
    /// # Errors
    /// `None` when the text is no such day.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        plain.then(|| text.parse().ok().map(Self)).flatten()
    }

    /// The day it is now, in UTC. For the command line alone: every step is handed its day.
    #[must_use]
    pub fn today() -> Self {
        Self(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date())
    }

    /// The day, in UTC, of a number of seconds since 1970-01-01T00:00Z. `None` where no calendar reaches.
    #[must_use]
    pub fn of_unix_seconds(seconds: i64) -> Option<Self> {
        let time = jiff::Timestamp::from_second(seconds).ok()?;
        Some(Self(time.to_zoned(jiff::tz::TimeZone::UTC).date()))
    }

    /// Days from `earlier` to this day; negative when this day is the earlier one.
    #[must_use]
    pub fn days_since(self, earlier: Self) -> i64 {
        (self.0 - earlier.0).get_days().into()
    }

    /// The day so many days later, or the last of the calendar.
    #[must_use]
    pub fn after(self, days: u32) -> Self {
        let span = jiff::Span::new().try_days(i64::from(days));
        Self(span.and_then(|span| self.0.checked_add(span)).unwrap_or(jiff::civil::Date::MAX))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_one_spelling() {
        assert_eq!(Day::parse("2026-02-28").unwrap().to_string(), "2026-02-28");
        for text in ["", "2026-2-8", "2026-02-30", "20260228", "2026-02-28T00:00", "+2026-02-28", "2026-02-28 "] {
            assert!(Day::parse(text).is_none(), "{text:?} was taken");
        }
    }

    #[test]
    fn spans_cross_months_and_years() {
        let day = |text| Day::parse(text).unwrap();
        assert_eq!(day("2027-01-01").days_since(day("2026-11-21")), 41);
        assert_eq!(day("2026-11-21").days_since(day("2027-01-01")), -41);
        assert_eq!((day("2026-11-21").after(0), day("2026-11-21").after(41)), (day("2026-11-21"), day("2027-01-01")));
        assert_eq!(day("2026-11-21").after(u32::MAX), day("9999-12-31"));
    }
}

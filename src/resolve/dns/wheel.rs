//! What is due when, in the order of due times, to some milliseconds. Adding is a push to a list.

use std::time::{Duration, Instant};

/// Width of a slot.
const TICK: Duration = Duration::from_millis(2);
/// Slots of a second.
const TICKS: u64 = 500;
const SLOTS: usize = 1024;

/// Things that are due. Nothing is taken out early: whoever is told of a thing knows whether it still matters.
pub(super) struct Wheel<T> {
    slots: Vec<Vec<T>>,
    /// Start of the slot that is looked at next.
    at: Instant,
    next: usize,
    held: usize,
}

impl<T> Wheel<T> {
    pub(super) fn new(now: Instant) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), at: now, next: 0, held: 0 }
    }

    /// Due at a time; what lies beyond the wheel is told early, to be put in again.
    pub(super) fn add(&mut self, now: Instant, due: Instant, what: T) {
        if self.held == 0 {
            self.at = self.at.max(now);
        }
        let ahead = due.saturating_duration_since(self.at);
        let ticks = ahead.as_secs() * TICKS + u64::from(ahead.subsec_nanos() / TICK.subsec_nanos());
        let ticks = usize::try_from(ticks).unwrap_or(SLOTS).min(SLOTS - 2) + 1;
        if let Some(slot) = self.slots.get_mut((self.next + ticks) % SLOTS) {
            slot.push(what);
            self.held += 1;
        }
    }

    /// Takes what is due into `due`.
    pub(super) fn turn(&mut self, now: Instant, due: &mut Vec<T>) {
        while self.held > 0 && self.at + TICK <= now {
            if let Some(slot) = self.slots.get_mut(self.next) {
                self.held -= slot.len();
                due.append(slot);
            }
            self.next = (self.next + 1) % SLOTS;
            self.at += TICK;
        }
    }

    /// When to look next; nothing while nothing is held.
    pub(super) fn look(&self) -> Option<Instant> {
        let ahead = (0..SLOTS).find(|ahead| self.slots.get((self.next + ahead) % SLOTS).is_some_and(|s| !s.is_empty()));
        let ticks = u32::try_from(ahead.filter(|_| self.held > 0)?).unwrap_or(0);
        Some(self.at + TICK * (ticks + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_told_when_they_are_due_and_not_before() {
        let begun = Instant::now();
        let ms = |n: u64| Duration::from_millis(n);
        let mut wheel = Wheel::new(begun);
        for after in [0, 1, 5, 100, 1000, 9000] {
            wheel.add(begun, begun + ms(after), after);
        }
        let mut told = Vec::new();
        let mut now = begun;
        while let Some(look) = wheel.look() {
            now = now.max(look);
            let mut due = Vec::new();
            wheel.turn(now, &mut due);
            told.extend(due.into_iter().map(|after| (after, now.duration_since(begun))));
        }
        assert_eq!(told.iter().map(|(after, _)| *after).collect::<Vec<_>>(), [0, 1, 5, 100, 1000, 9000]);
        for (after, at) in told.iter().take(5) {
            assert!(*at >= ms(*after) && *at <= ms(after + 9), "{after} at {at:?}");
        }
        // Beyond the wheel: told early, and once.
        assert!(told[5].1 > ms(1900) && told[5].1 < ms(2100), "{:?}", told[5]);
    }
}

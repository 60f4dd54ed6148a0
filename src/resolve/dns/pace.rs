//! How much to ask of one server at once, and how long to wait for it. Values in, values out: the clock is the caller's.
//!
//! Loss alone says little: one datagram in a hundred is lost on a line that is far from full. What says that a server
//! has enough is that answers take longer the more is under way (as in TCP Vegas), or that much is lost at once. Time
//! is compared with the best average and not with the best answer: a resolver that looks half the names up elsewhere
//! is not full because the other half was in its cache. Only while the window still doubles the quickest counts too.

use std::time::{Duration, Instant};

/// What a server is trusted with before anything is known of it, in questions a second. With the round trip it gives
/// the first window.
const FIRST_RATE: f64 = 50_000.0;
/// Bounds of the first window.
const FIRST: (f64, f64) = (128.0, 1024.0);
/// Least window, in questions.
const LEAST: f64 = 64.0;
/// Questions that may wait in the server's queue; the smallest socket buffers hold some 270.
const QUEUE: f64 = 192.0;
/// Fewest answers a judgement is made from.
const SAMPLES: u32 = 16;
/// Shortest wait before a question is sent again.
const WAIT_MIN: Duration = Duration::from_millis(40);
/// What is waited beyond the usual time at least: an answer may stand behind a busy moment of this machine.
const MARGIN: Duration = Duration::from_millis(20);
/// The wait while no answer has been timed (RFC 6298 has 1 s; name servers are nearer than most peers of TCP).
const WAIT_FIRST: Duration = Duration::from_millis(400);

/// What was learned of one server.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Smoothed time of an answer, and how it varies, in seconds (RFC 6298); nothing before the first.
    smoothed: Option<(f64, f64)>,
    /// The best average of any stretch, in seconds.
    base: Option<f64>,
    /// The quickest answer, in seconds.
    least: f64,
    window: f64,
    most: f64,
    /// Doubling until the server shows what it can.
    opening: bool,
    /// When the first answer came. Answers to what was asked before say nothing of the window that was made then.
    begun: Option<Instant>,
    stretch: Stretch,
}

/// About one round trip's worth of answers.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    begun: Option<Instant>,
    answers: u32,
    seconds: f64,
    lost: u32,
    /// Whether the window, and not a lack of questions, held us back.
    full: bool,
}

const NEW: Stretch = Stretch { begun: None, answers: 0, seconds: 0.0, lost: 0, full: false };

impl Pace {
    /// Never more than `most` questions at once.
    pub(super) fn new(most: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a number of questions")]
        let most = most.max(1) as f64;
        Self {
            smoothed: None,
            base: None,
            least: f64::INFINITY,
            window: FIRST.0.min(most),
            most,
            opening: true,
            begun: None,
            stretch: NEW,
        }
    }

    /// How many questions may be under way.
    pub(super) fn window(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and `most`")]
        let window = self.window as usize;
        window.max(1)
    }

    /// How long to wait before a question is sent for the second time.
    pub(super) fn wait(&self) -> Duration {
        self.smoothed.map_or(WAIT_FIRST, |(usual, varies)| {
            let margin = Duration::from_secs_f64(4.0 * varies).max(MARGIN);
            (Duration::from_secs_f64(usual) + margin).max(WAIT_MIN)
        })
    }

    /// The first answer: what to begin with. It does not count for the average, for it may be the root's, which is
    /// always known.
    pub(super) fn begin(&mut self, took: Duration, now: Instant) {
        self.begun = Some(now);
        self.time(took.as_secs_f64());
        self.window = (took.as_secs_f64() * FIRST_RATE).clamp(FIRST.0, FIRST.1).min(self.most);
    }

    /// No room was left for a question that could have been asked.
    pub(super) fn held_back(&mut self) {
        self.stretch.full = true;
    }

    /// An answer to what was asked at some time.
    pub(super) fn answered(&mut self, asked: Instant, now: Instant) {
        // Nor how long answers take that stand behind others: by them alone the first full window were asked twice.
        if self.begun.is_some_and(|begun| asked < begun) {
            return;
        }
        let took = now.saturating_duration_since(asked).as_secs_f64();
        self.time(took);
        self.stretch.answers += 1;
        self.stretch.seconds += took;
        self.judge(now);
    }

    /// Nothing came in the time it should have.
    pub(super) fn lost(&mut self, now: Instant) {
        self.stretch.lost += 1;
        self.judge(now);
    }

    fn time(&mut self, took: f64) {
        self.least = self.least.min(took);
        self.smoothed = Some(match self.smoothed {
            None => (took, took / 2.0),
            Some((usual, varies)) => (usual + (took - usual) / 8.0, varies + ((took - usual).abs() - varies) / 4.0),
        });
    }

    fn judge(&mut self, now: Instant) {
        let begun = *self.stretch.begun.get_or_insert(now);
        let Some((usual, _)) = self.smoothed else { return };
        let Stretch { answers, seconds, lost, full, .. } = self.stretch;
        if answers + lost < SAMPLES || now.saturating_duration_since(begun).as_secs_f64() < usual {
            return;
        }
        self.stretch = NEW;
        // In bulk, not by chance: one in a hundred is a poor line, one in ten is too much for it.
        if f64::from(lost) > 4.0 + f64::from(answers) / 10.0 {
            self.window = (self.window * 0.7).max(LEAST.min(self.most));
            self.opening = false;
            return;
        }
        if answers < SAMPLES {
            return;
        }
        let average = seconds / f64::from(answers);
        let base = self.base.map_or(average, |base| base.min(average));
        self.base = Some(base);
        let waiting = self.window * (1.0 - base / average);
        let allowed = QUEUE.max(self.window / 4.0);
        // Doubling goes too far before an average shows it: here the newest answers count, against the quickest.
        if self.opening && self.window * (1.0 - self.least / usual) > allowed {
            self.opening = false;
            self.shrink(self.least / usual, allowed);
        } else if waiting > allowed {
            self.opening = false;
            self.shrink(base / average, allowed);
        } else if full {
            self.window += if self.opening { self.window } else { (self.window / 8.0).max(16.0) };
        }
        self.window = self.window.min(self.most);
    }

    /// To what fills the line, and what may wait; by half at the most.
    fn shrink(&mut self, share: f64, allowed: f64) {
        self.window = (self.window * share + allowed).max(self.window / 2.0).max(LEAST.min(self.most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A server that answers `rate` questions a second, `away` from here; one in `loses` is lost. The window, and the
    /// time of an answer, after so many round trips.
    fn after(rounds: u32, rate: f64, away: Duration, loses: u32) -> (usize, Duration) {
        let mut pace = Pace::new(8192);
        let mut now = Instant::now();
        pace.begin(away, now);
        let (mut took, mut asked) = (away, 0);
        for _ in 0..rounds {
            let window = pace.window();
            #[expect(clippy::cast_precision_loss, reason = "some thousands")]
            let served = Duration::from_secs_f64(window as f64 / rate);
            took = away.max(served);
            for _ in 0..window {
                pace.held_back();
                now += took / u32::try_from(window).unwrap();
                asked += 1;
                if loses > 0 && asked % loses == 0 {
                    pace.lost(now)
                } else {
                    pace.answered(now.checked_sub(took).unwrap(), now)
                }
            }
        }
        (pace.window(), took)
    }

    #[test]
    fn a_far_server_that_is_fast_is_asked_much() {
        assert!(after(8, 1e9, 20 * MS, 0).0 > 4000);
    }

    #[test]
    fn loss_by_chance_does_not_slow_down() {
        assert!(after(8, 1e9, 20 * MS, 100).0 > 4000);
        assert!(after(200, 1e9, 20 * MS, 50).0 > 4000);
    }

    #[test]
    fn loss_in_bulk_does() {
        assert!(after(30, 1e9, 20 * MS, 5).0 < 200);
    }

    #[test]
    fn a_slow_server_is_not_drowned() {
        // 400 questions fit on the way; a queue of 1,000 is what it has.
        let (window, took) = after(100, 20_000.0, 20 * MS, 0);
        assert!((400..1000).contains(&window), "{window}");
        assert!(took < 50 * MS, "{took:?}");
    }

    #[test]
    fn a_near_server_is_begun_with_little() {
        let mut pace = Pace::new(8192);
        pace.begin(MS / 10, Instant::now());
        assert_eq!(pace.window(), 128);
        pace.begin(20 * MS, Instant::now());
        assert_eq!(pace.window(), 1000);
        assert!(pace.wait() >= 40 * MS && pace.wait() < 100 * MS, "{:?}", pace.wait());
        assert_eq!(Pace::new(1).window(), 1);
        assert_eq!(Pace::new(1).wait(), WAIT_FIRST);
    }
}

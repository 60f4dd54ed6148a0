//! How much of a name's pool of addresses has been seen, estimated from repeated answers.
//!
//! One answer of a content network is a sample of its pool. Which addresses came once, which twice, tells how many
//! never came: the capture–recapture estimate of Chao for incidence data (Chao2: A. Chao, "Estimating the population
//! size for capture-recapture data with unequal catchability", Biometrics 43, 1987) and the coverage estimate that
//! goes with it (A. Chao and L. Jost, Ecology 93, 2012). Both are lower bounds in the face of unequal chances, and
//! both suppose a pool that stands still while it is sampled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How often the addresses of one name came in repeated answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampled {
    /// Independent answers.
    pub times: u32,
    /// Different addresses in all of them.
    pub addresses: u32,
    /// Addresses over all answers, one that came in three counted three times.
    pub sightings: u32,
    /// Addresses that came in one answer only.
    pub once: u32,
    /// Addresses that came in exactly two.
    pub twice: u32,
}

impl Sampled {
    /// Counts answers, each a set of addresses.
    #[must_use]
    pub fn count(answers: impl IntoIterator<Item = BTreeSet<IpAddr>>) -> Self {
        let mut seen: BTreeMap<IpAddr, u32> = BTreeMap::new();
        let mut times = 0;
        for answer in answers {
            times += 1;
            for addr in answer {
                *seen.entry(addr).or_default() += 1;
            }
        }
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let came = |n: u32| number(seen.values().filter(|&&count| count == n).count());
        let sightings = seen.values().fold(0, |sum: u32, &count| sum.saturating_add(count));
        Self { times, addresses: number(seen.len()), sightings, once: came(1), twice: came(2) }
    }

    /// Whether every answer held the same addresses.
    #[must_use]
    pub fn agreed(&self) -> bool {
        u64::from(self.sightings) == u64::from(self.addresses) * u64::from(self.times)
    }

    /// How many addresses the pool has, at the least. `None` where fewer than two answers were had.
    #[must_use]
    pub fn pool(&self) -> Option<u32> {
        if self.times < 2 || self.addresses == 0 {
            return None;
        }
        let (once, twice, times) = (f64::from(self.once), f64::from(self.twice), f64::from(self.times));
        let unseen = if self.twice > 0 { once * once / (2.0 * twice) } else { once * (once - 1.0) / 2.0 };
        let estimate = f64::from(self.addresses) + unseen * (times - 1.0) / times;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and `as` saturates")]
        Some(estimate.round() as u32)
    }

    /// The share of answers that hold nothing new: the chance, from 0 to 1, that the next address the name servers
    /// give is one of those seen. `None` where fewer than two answers were had.
    #[must_use]
    pub fn coverage(&self) -> Option<f64> {
        if self.times < 2 || self.sightings == 0 {
            return None;
        }
        let (once, twice, times) = (f64::from(self.once), f64::from(self.twice), f64::from(self.times));
        if self.once == 0 {
            return Some(1.0);
        }
        // Without a pair the estimate has its bias taken off, as for the pool.
        let (pairs, singles) = if self.twice > 0 { (2.0 * twice, once) } else { (2.0, once - 1.0) };
        let tail = (times - 1.0) * singles / ((times - 1.0) * singles + pairs);
        Some((1.0 - once / f64::from(self.sightings) * tail).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(lists: &[&[u8]]) -> Sampled {
        let set = |list: &&[u8]| list.iter().map(|&n| IpAddr::from([192, 0, 2, n])).collect();
        Sampled::count(lists.iter().map(set))
    }

    #[test]
    fn one_answer_tells_nothing_of_the_pool() {
        let sampled = answers(&[&[1, 2, 3]]);
        assert_eq!((sampled.pool(), sampled.coverage()), (None, None));
        assert_eq!(answers(&[]).pool(), None);
    }

    #[test]
    fn answers_that_agree_are_the_whole_pool() {
        let sampled = answers(&[&[1, 2], &[1, 2], &[2, 1]]);
        assert!(sampled.agreed());
        assert_eq!((sampled.pool(), sampled.coverage()), (Some(2), Some(1.0)));
    }

    #[test]
    fn the_textbook_figures_come_out() {
        // Seven seen, three of them once, two twice, in four answers: 7 + 3/4 · 9/4 = 8.69 and 1 − 3/13 · 9/13 = 0.84.
        let sampled = answers(&[&[1, 2, 3, 4], &[1, 2, 3, 5], &[1, 2, 6], &[4, 7]]);
        assert_eq!((sampled.times, sampled.addresses, sampled.sightings), (4, 7, 13));
        assert_eq!((sampled.once, sampled.twice), (3, 2));
        assert!(!sampled.agreed());
        assert_eq!(sampled.pool(), Some(9));
        assert!((sampled.coverage().unwrap() - (1.0 - 3.0 / 13.0 * 9.0 / 13.0)).abs() < 1e-9);
    }

    #[test]
    fn answers_with_nothing_in_common_are_a_small_part_of_much() {
        let sampled = answers(&[&[1, 2], &[3, 4], &[5, 6]]);
        // 6 + 2/3 · 15, and nothing is known to come again.
        assert_eq!(sampled.pool(), Some(16));
        assert!(sampled.coverage().unwrap() < 0.2);
    }
}

//! What to print: findings, assertions, checks, proofs and differences, for people and for programs. Nothing here decides anything.

pub mod check;
pub mod diff;
pub mod drift;
pub mod explain;
pub mod github;
pub mod json;
pub mod junit;
pub mod proof;
pub mod sarif;
pub mod sites;
pub mod table;
pub mod terminal;
pub mod verify;

/// Most items that are listed in a line; the rest are counted.
const SHOWN: usize = 6;

/// The first so many items, and how many more there are.
#[must_use]
pub fn some_of(items: &[&str], most: usize) -> String {
    match items.get(..most).filter(|_| items.len() > most) {
        Some(first) => format!("{} and {} more", first.join(", "), items.len() - most),
        None => items.join(", "),
    }
}

/// The first items, and how many more there are.
fn some(items: &[String]) -> String {
    match items.get(..SHOWN).filter(|_| items.len() > SHOWN) {
        Some(first) => format!("{} and {} more", first.join(", "), items.len() - SHOWN),
        None => items.join(", "),
    }
}

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
pub mod table;
pub mod terminal;
pub mod verify;

/// Most items that are listed in a line; the rest are counted.
const SHOWN: usize = 6;

/// The first items, and how many more there are.
fn some(items: &[String]) -> String {
    match items.get(..SHOWN).filter(|_| items.len() > SHOWN) {
        Some(first) => format!("{} and {} more", first.join(", "), items.len() - SHOWN),
        None => items.join(", "),
    }
}

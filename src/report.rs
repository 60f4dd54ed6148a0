//! What to print: findings and differences, for people and for programs. Nothing here decides anything.

pub mod diff;
pub mod github;
pub mod json;
pub mod proof;
pub mod sarif;
pub mod table;
pub mod terminal;

//! What to print: findings and differences, for people and for programs. Nothing here decides anything.

pub mod json;
pub mod proof;
pub mod table;
pub mod terminal;

//! Answers from a table.

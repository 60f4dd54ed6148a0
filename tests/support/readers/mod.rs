//! Readers of the files we render, each by its enforcer's own semantics: an opinion of what a file does that was made
//! without the code that writes it. Nothing here may use `outgate`; a test of this folder's text holds that.
//!
//! A reader knows exactly the grammar that is written today. What it does not know it never passes over: it refuses the
//! file with `grammar unknown: …`.
#![allow(dead_code, reason = "every test file compiles this module for itself and uses a part of it")]

pub(crate) mod nft;
pub(crate) mod opnsense;
pub(crate) mod packet;
pub(crate) mod pf;
pub(crate) mod squid;

/// Files of one target by their path below its folder.
pub(crate) type Files = std::collections::BTreeMap<String, String>;

/// A file that an enforcer would refuse, or that holds what a reader does not know; with the reason.
pub(crate) type Refused = String;

/// The refusal of what a reader does not know.
pub(crate) fn unknown(what: impl std::fmt::Display) -> Refused {
    format!("grammar unknown: {what}")
}

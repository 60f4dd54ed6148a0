//! `outgate`: documented callouts in, loadable egress allow-lists out.
//!
//! The map, in reading order. Each step is a function from values to values; only [`cli`] touches clock, disk,
//! environment and terminal.
//!
//! - **Words**, plain checked values that print as they are: [`host`], [`port`], [`addrs`], [`day`], [`release`],
//!   [`text`], [`digest`].
//! - **Reading**: [`source`] (texts and places in them), [`diagnostic`] (what there is to say), [`yaml`] (text → typed
//!   values that know their place).
//! - **Vendors' lists**: [`ranges`] (a text → the prefixes it names, or why it is no such list).
//! - **What files say**: [`callout`] (the shape of an entry), [`strict`] (what is blocked, excepted, decided),
//!   [`settings`] (what may be said of each target), [`assertion`] (what must hold of the rules), [`catalog`] (what is documented), [`profile`] (what one site is and
//!   wants), [`workspace`] (which sites there are).
//! - **The pipe**: [`policy`] (catalog + profile → who may contact what, and who may not), [`resolve`] (names →
//!   answers), [`lock`] (policy + answers + old lock + day → pinned answers), [`ruleset`] (policy + lock → what every
//!   target reads), [`target`] (rule set → files, through templates).
//! - **Beside it**: [`freshness`] (how old a lock is, and how old it may be), [`coverage`] (how much of a name a rule by
//!   address can hold), [`status`] (both, and what fails and what leaves next), [`proof`] (what stops each blocked callout
//!   in which file, and what remains possible), [`verify`] (the rules held to what is asserted of them), [`diff`] (two
//!   rule sets compared by what they let out), [`explain`] (why something is let out or not, and what it comes near to), [`check`] (what became of each part of a run for CI).
//! - **To begin with**: [`init`] (what the catalog knows of a release, and answers → the text of a first profile).
//! - **On the machine**: [`apply`] (how files are loaded, tried and taken back), [`drift`] (what is loaded against what
//!   should be, by meaning).
//! - **For editors**: [`schema`] (JSON Schemas of the files above, from the types they are read into).
//! - **The edge**: [`files`] (a set of files on disk, whole or not at all), [`report`] (what is printed), [`cli`].
//!
//! ```text
//!  catalog/*.yaml ─► catalog ─┐
//!                             ├─► policy ─► resolve ─► lock ─► ruleset ─► target ─► files
//!  outgate.yaml ───► profile ─┘                ▲         ▲
//!                                       DNS, vendors'  outgate.lock
//!                                           lists
//! ```
//!
//! Arrows run one way. A foreign crate comes in through one file: YAML in [`yaml`], DNS in [`resolve::dns`], https in
//! [`ranges::fetch`], templates in [`target`], dates in [`day`]. `tests/layers.rs` holds both rules.

pub mod addrs;
pub mod apply;
pub mod assertion;
pub mod callout;
pub mod catalog;
pub mod check;
pub mod cli;
pub mod coverage;
pub mod day;
pub mod diagnostic;
pub mod diff;
pub mod digest;
pub mod drift;
pub mod explain;
pub mod files;
pub mod freshness;
pub mod host;
pub mod init;
pub mod lock;
pub mod policy;
pub mod pool;
pub mod port;
pub mod profile;
pub mod proof;
pub mod ranges;
pub mod release;
pub mod report;
pub mod resolve;
pub mod ruleset;
pub mod schema;
pub mod settings;
pub mod source;
pub mod status;
pub mod strict;
pub mod target;
pub mod terms;
pub mod text;
pub mod verify;
pub mod workspace;
pub mod yaml;

//! Names in, answers out. This part knows nothing of catalogs, policies or locks.
//!
//! [`Resolve`] is not async: the runtime one resolver needs lives and dies inside [`dns`]. [`table`] answers from a
//! map, for tests and for runs without network.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::host::{Host, Query};

pub mod dns;
pub mod table;

/// Something that can be asked for addresses.
pub trait Resolve {
    /// Asks every query and answers each, good or bad: one dead name never stops the others.
    ///
    /// For a [`Query::Service`] the targets of its SRV records are asked as hosts too; their answers stand in the map
    /// under their own names. `progress` is called with (done, total) as answers come in.
    ///
    /// # Errors
    /// Only when no query can be asked at all: no resolver configured, or none that responds.
    fn resolve(&self, queries: &BTreeSet<Query>, progress: &dyn Fn(usize, usize)) -> Result<Answers, ResolveError>;
}

/// Every answer, by what was asked.
pub type Answers = BTreeMap<Query, Answer>;

/// What came back for one query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Who said it: addresses with port of the name servers, sorted; or `table` for a fixed table.
    pub resolvers: BTreeSet<String>,
    /// For a service: the targets of its SRV records with their ports, sorted.
    pub targets: BTreeSet<(Host, u16)>,
    /// The names the answer went through, in order, without the asked one (the CNAME chain).
    pub chain: Vec<Host>,
    /// A and AAAA records at the end of the chain. Not yet judged: loopback and the like are in here as answered.
    pub addresses: BTreeSet<IpAddr>,
    /// What failed, by record type. A host without AAAA records is no failure.
    pub failures: BTreeMap<RecordType, Failure>,
}

/// The record types that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Hosts behind a service name.
    Srv,
}

impl RecordType {
    /// Every record type, in order.
    pub const ALL: [Self; 3] = [Self::A, Self::Aaaa, Self::Srv];

    /// The name as DNS writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Srv => "SRV",
        }
    }
}

/// How a lookup can fail, kept apart because each means something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// The name does not exist.
    NxDomain,
    /// The name exists and has neither A nor AAAA records (for a service: no SRV records).
    NoData,
    /// The name server could not answer.
    ServFail,
    /// The name server would not answer.
    Refused,
    /// No answer within the time allowed.
    Timeout,
    /// The answer was cut and could not be had whole over TCP. A part of an answer is no answer.
    Truncated,
    /// CNAME records that lead back to themselves, or a chain of more than 16.
    Loop,
    /// An answer that makes no sense: malformed, for another question, or a name that is no host name.
    Malformed,
}

impl Failure {
    /// Every failure, in order.
    pub const ALL: &'static [Self] = &[
        Self::NxDomain,
        Self::NoData,
        Self::ServFail,
        Self::Refused,
        Self::Timeout,
        Self::Truncated,
        Self::Loop,
        Self::Malformed,
    ];

    /// Whether it is the name server's word about the name, rather than no word at all.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::NxDomain | Self::NoData)
    }

    /// The word the lock and messages use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NxDomain => "NXDOMAIN",
            Self::NoData => "NODATA",
            Self::ServFail => "SERVFAIL",
            Self::Refused => "REFUSED",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::Loop => "CNAME loop",
            Self::Malformed => "malformed",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why nothing could be asked at all. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveError(pub String);

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ResolveError {}

//! Names in, answers out. This part knows nothing of catalogs, policies or locks.
//!
//! [`Resolve`] is not async: the runtime one resolver needs lives and dies inside [`dns`]. [`table`] answers from a
//! map, for tests and for runs without network.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::host::{Host, Query};

pub mod answer;
pub mod dns;
pub mod table;

/// Something that can be asked for addresses.
pub trait Resolve {
    /// Asks every query and reports what was said to each, good or bad: one dead name never stops the others.
    ///
    /// For a [`Query::Service`] the targets of its SRV records are asked as hosts too; their replies stand in the map
    /// under their own names. `progress` is called with (done, total) as replies come in.
    ///
    /// # Errors
    /// Only when no query can be asked at all: no resolver configured, or none that responds.
    fn resolve(&self, queries: &BTreeSet<Query>, progress: &dyn Fn(usize, usize)) -> Result<Heard, ResolveError>;
}

/// What a run of questions came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// What was said, by what was asked: one reply for each resolver and round, round by round. Never an empty list.
    pub replies: BTreeMap<Query, Vec<Reply>>,
    /// The resolvers that said nothing, or ceased to: found once, and not asked further. Each with what was found, as the
    /// end of a sentence that begins with its name.
    pub silent: BTreeMap<String, String>,
    /// Whether the time for the whole run was over before every question had been asked.
    pub out_of_time: bool,
}

/// What one resolver said, one time, about one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Who said it, as the user would name it: an address with port of a name server, or `table` for a fixed table.
    /// Two where one server of the system's list answered for A and the next for AAAA. Nearly all replies are of the
    /// same few, so they share it.
    pub by: Arc<BTreeSet<String>>,
    /// For a service: the targets of its SRV records with their ports, sorted.
    pub targets: BTreeSet<(Host, u16)>,
    /// The names the reply went through, in order, without the asked one (the CNAME chain).
    pub chain: Vec<Link>,
    /// A and AAAA records at the end of the chain, each with its TTL in seconds (RFC 2181, 8: one with the top bit set
    /// is 0). Not yet judged: loopback and the like are in here as answered.
    pub addresses: Addresses,
    /// What failed, by record type. A host without AAAA records is no failure.
    pub failures: BTreeMap<RecordType, Failure>,
    /// The resolver says that it validated every part of this with DNSSEC (the AD bit). Its word, no proof of ours.
    pub authentic: bool,
}

/// Addresses in order, each with its TTL in seconds. Most names have a few, and a list of those is half the size of a
/// map and made in a fraction of the time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(Vec<(IpAddr, u32)>);

impl Addresses {
    /// The addresses, in order.
    pub fn keys(&self) -> impl Iterator<Item = &IpAddr> {
        self.0.iter().map(|(address, _)| address)
    }

    /// How long each may be believed, in seconds.
    pub fn values(&self) -> impl Iterator<Item = &u32> {
        self.0.iter().map(|(_, ttl)| ttl)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An address that is said twice is believed for the shorter time.
impl FromIterator<(IpAddr, u32)> for Addresses {
    fn from_iter<T: IntoIterator<Item = (IpAddr, u32)>>(addresses: T) -> Self {
        let mut all: Vec<_> = addresses.into_iter().collect();
        all.sort_unstable();
        all.dedup_by_key(|(address, _)| *address);
        all.shrink_to_fit();
        Self(all)
    }
}

/// One step of a CNAME chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where it leads.
    pub host: Host,
    /// How long that may be believed, in seconds.
    pub ttl: u32,
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
    /// The resolver could not validate what it found: DNSSEC says it is forged or broken.
    Bogus,
    /// CNAME records that lead back to themselves, or a chain of more than 16.
    Loop,
    /// More addresses than one host may have. No part of them is believed.
    TooMany,
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
        Self::Bogus,
        Self::Loop,
        Self::TooMany,
        Self::Malformed,
    ];

    /// Whether it is the name server's word about the name, rather than no word at all.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::NxDomain | Self::NoData)
    }

    /// The word a profile uses: that of messages, in one piece and lower case.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::NxDomain => "nxdomain",
            Self::NoData => "nodata",
            Self::ServFail => "servfail",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::Bogus => "bogus",
            Self::Loop => "cname-loop",
            Self::TooMany => "too-many",
            Self::Malformed => "malformed",
        }
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
            Self::Bogus => "bogus",
            Self::Loop => "CNAME loop",
            Self::TooMany => "too many addresses",
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

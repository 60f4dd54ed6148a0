//! Replies → one [`Answer`]: what several resolvers said, several times, about one name.
//!
//! Addresses are a union, for each reply is a sample of what the name has. A failure counts only where nobody knew
//! better; who failed beside an answer is kept as dissent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Failure, RecordType, Reply};
use crate::host::Host;
use crate::pool::Sampled;

/// What is known of one name after a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Everyone who said something of use.
    pub resolvers: BTreeSet<String>,
    /// For a service: the targets of its SRV records with their ports, sorted.
    pub targets: BTreeSet<(Host, u16)>,
    /// The CNAME chain of the first reply that had one and led somewhere.
    pub chain: Vec<Host>,
    /// Every name any reply went through.
    pub through: BTreeSet<Host>,
    /// The addresses, each with who said it.
    pub addresses: BTreeMap<IpAddr, BTreeSet<String>>,
    /// What failed with every resolver.
    pub failures: BTreeMap<RecordType, Failure>,
    /// What failed with some and not with others: who, what, how.
    pub dissent: BTreeSet<(String, RecordType, Failure)>,
    /// Every reply with addresses or targets was validated by its resolver.
    pub authentic: bool,
    /// The shortest TTL of any part, in seconds.
    pub ttl: Option<u32>,
    /// How often each address was in a reply.
    pub sampled: Sampled,
}

impl Answer {
    /// One answer out of the replies about one name, in the order they were given.
    #[must_use]
    pub fn of(replies: &[Reply]) -> Self {
        let mut answer = Self::default();
        let useful = |reply: &&Reply| !reply.addresses.is_empty() || !reply.targets.is_empty();
        for reply in replies {
            answer.resolvers.extend(reply.by.iter().cloned());
            answer.targets.extend(reply.targets.iter().cloned());
            answer.through.extend(reply.chain.iter().map(|link| link.host.clone()));
            for &addr in reply.addresses.keys() {
                answer.addresses.entry(addr).or_default().extend(reply.by.iter().cloned());
            }
            let ttls = reply.addresses.values().copied().chain(reply.chain.iter().map(|link| link.ttl));
            answer.ttl = answer.ttl.into_iter().chain(ttls).min();
        }
        let telling = replies.iter().find(useful).or_else(|| replies.iter().find(|reply| !reply.chain.is_empty()));
        answer.chain =
            telling.map(|reply| reply.chain.iter().map(|link| link.host.clone()).collect()).unwrap_or_default();
        answer.authentic = replies.iter().any(|r| useful(&r)) && replies.iter().filter(useful).all(|r| r.authentic);
        for kind in RecordType::ALL {
            let failures: Vec<(&Reply, Failure)> =
                replies.iter().filter_map(|reply| Some((reply, *reply.failures.get(&kind)?))).collect();
            if !failures.is_empty() && failures.len() == replies.len() {
                // Of several reasons one that says nothing of the name: what is known of it must not go by half a word.
                let failure = failures.iter().map(|(_, failure)| *failure).min_by_key(|failure| failure.is_final());
                answer.failures.extend(failure.map(|failure| (kind, failure)));
                continue;
            }
            for (reply, failure) in failures {
                answer.dissent.extend(reply.by.iter().map(|by| (by.clone(), kind, failure)));
            }
        }
        answer.sampled = Sampled::count(replies.iter().filter(useful).enumerate().filter_map(|(i, reply)| {
            let mut earlier = replies.iter().filter(useful).take(i);
            (!earlier.any(|before| is_copy(before, reply))).then(|| reply.addresses.keys().copied().collect())
        }));
        answer
    }
}

/// Whether a reply is one from before out of a resolver's cache: the same addresses with less time to live. It is no
/// second look at the pool.
fn is_copy(before: &Reply, reply: &Reply) -> bool {
    let ttl = |reply: &Reply| reply.addresses.values().copied().min();
    before.by == reply.by && before.addresses.keys().eq(reply.addresses.keys()) && ttl(reply) < ttl(before)
}

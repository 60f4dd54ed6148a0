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
    /// Everyone who gave an address or a target; where nobody did, everyone who was asked.
    pub resolvers: BTreeSet<String>,
    /// For a service: the targets of its SRV records with their ports, sorted.
    pub targets: BTreeSet<(Host, u16)>,
    /// The CNAME chain of the first reply that had one and led somewhere; where none led anywhere, of the first that
    /// had one.
    pub chain: Vec<Host>,
    /// Every name any reply went through.
    pub through: BTreeSet<Host>,
    /// The addresses, each with who said it.
    pub addresses: BTreeMap<IpAddr, BTreeSet<String>>,
    /// What failed with every resolver.
    pub failures: BTreeMap<RecordType, Failure>,
    /// What failed with some and not with others: who, what, how. A server that once did not answer and another time
    /// did is not among them.
    pub dissent: BTreeSet<(String, RecordType, Failure)>,
    /// Every reply with addresses or targets was validated by its resolver.
    pub authentic: bool,
    /// How often each address was in a reply of which no part failed.
    pub sampled: Sampled,
}

impl Answer {
    /// One answer out of the replies about one name, in the order they were given.
    #[must_use]
    pub fn of(replies: &[Reply]) -> Self {
        let mut answer = Self::default();
        let useful = |reply: &&Reply| !reply.addresses.is_empty() || !reply.targets.is_empty();
        let any = replies.iter().any(|reply| useful(&reply));
        for reply in replies {
            if useful(&reply) || !any {
                answer.resolvers.extend(reply.by.iter().cloned());
            }
            answer.targets.extend(reply.targets.iter().cloned());
            answer.through.extend(reply.chain.iter().map(|link| link.host.clone()));
            for &addr in reply.addresses.keys() {
                answer.addresses.entry(addr).or_default().extend(reply.by.iter().cloned());
            }
        }
        let chained = || replies.iter().filter(|reply| !reply.chain.is_empty());
        let telling = chained().find(useful).or_else(|| chained().next().filter(|_| !any));
        answer.chain =
            telling.map(|reply| reply.chain.iter().map(|link| link.host.clone()).collect()).unwrap_or_default();
        answer.authentic = any && replies.iter().filter(useful).all(|reply| reply.authentic);
        for kind in RecordType::ALL {
            let failures: Vec<(&Reply, Failure)> =
                replies.iter().filter_map(|reply| Some((reply, *reply.failures.get(&kind)?))).collect();
            if !failures.is_empty() && failures.len() == replies.len() {
                // Of several reasons one that says nothing of the name: what is known of it must not go by half a word.
                let failure = failures.iter().map(|(_, failure)| *failure).min_by_key(|failure| failure.is_final());
                answer.failures.extend(failure.map(|failure| (kind, failure)));
                continue;
            }
            let knew = |by: &BTreeSet<String>| {
                replies.iter().any(|other| *other.by == *by && !other.failures.contains_key(&kind))
            };
            for (reply, failure) in failures.iter().filter(|(reply, failure)| failure.is_final() || !knew(&reply.by)) {
                answer.dissent.extend(reply.by.iter().map(|by| (by.clone(), kind, *failure)));
            }
        }
        // Half a reply would count the other half as not answered.
        let whole: Vec<&Reply> = replies.iter().filter(useful).filter(|reply| reply.failures.is_empty()).collect();
        answer.sampled = Sampled::count(whole.iter().enumerate().filter_map(|(i, reply)| {
            let copy = whole.iter().take(i).any(|before| is_copy(before, reply));
            (!copy).then(|| reply.addresses.keys().copied().collect())
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::resolve::Link;

    /// A reply of one server with addresses of 192.0.2.0/24 by their last number, and a time to live.
    fn reply(by: &str, numbers: &[u8], ttl: u32) -> Reply {
        let addresses = numbers.iter().map(|&n| (IpAddr::from([192, 0, 2, n]), ttl)).collect();
        Reply { by: Arc::new([by.to_owned()].into()), addresses, ..Reply::default() }
    }

    fn failing(by: &str, failures: &[(RecordType, Failure)]) -> Reply {
        Reply { failures: failures.iter().copied().collect(), ..reply(by, &[], 0) }
    }

    fn through(mut reply: Reply, names: &[&str]) -> Reply {
        reply.chain = names.iter().map(|name| Link { host: Host::parse(name).unwrap(), ttl: 60 }).collect();
        reply
    }

    fn names(items: &[&str]) -> BTreeSet<String> {
        items.iter().map(|&item| item.to_owned()).collect()
    }

    const BOTH: [RecordType; 2] = [RecordType::A, RecordType::Aaaa];

    #[test]
    fn nothing_said_is_nothing_known() {
        assert_eq!(Answer::of(&[]), Answer::default());
    }

    #[test]
    fn addresses_are_the_union_and_each_knows_who_said_it() {
        let answer = Answer::of(&[reply("a", &[1, 2], 300), reply("b", &[2, 3], 60)]);
        let by: Vec<&BTreeSet<String>> = answer.addresses.values().collect();
        assert_eq!(by, [&names(&["a"]), &names(&["a", "b"]), &names(&["b"])]);
        assert_eq!(answer.resolvers, names(&["a", "b"]));
        assert!(answer.failures.is_empty() && answer.dissent.is_empty());
    }

    #[test]
    fn a_name_without_addresses_of_a_family_has_not_failed() {
        let v6 =
            Reply { addresses: [("2001:db8::1".parse().unwrap(), 60)].into_iter().collect(), ..reply("a", &[], 0) };
        assert!(Answer::of(&[v6.clone(), v6]).failures.is_empty());
    }

    #[test]
    fn a_failure_counts_only_where_nobody_knew_better() {
        let dead = failing("b", &BOTH.map(|kind| (kind, Failure::ServFail)));
        let answer = Answer::of(&[dead.clone(), reply("a", &[1], 60)]);
        assert!(answer.failures.is_empty());
        assert_eq!(answer.dissent, BOTH.map(|kind| ("b".to_owned(), kind, Failure::ServFail)).into());
        assert_eq!(answer.resolvers, names(&["a"]), "who failed answered nothing");
        let alone = Answer::of(&[dead.clone(), dead]);
        assert_eq!(alone.failures, BOTH.map(|kind| (kind, Failure::ServFail)).into());
        assert!(alone.dissent.is_empty());
        assert_eq!(alone.resolvers, names(&["b"]), "somebody was asked");
    }

    #[test]
    fn one_family_may_fail_while_the_other_is_answered() {
        let mut half = reply("a", &[1], 60);
        half.failures.insert(RecordType::Aaaa, Failure::Timeout);
        let answer = Answer::of(&[half.clone(), half]);
        assert_eq!(answer.failures, [(RecordType::Aaaa, Failure::Timeout)].into());
        assert_eq!(answer.addresses.len(), 1);
    }

    #[test]
    fn half_a_word_outweighs_a_last_word() {
        for failure in Failure::ALL.iter().copied().filter(|failure| !failure.is_final()) {
            let gone = failing("a", &[(RecordType::A, Failure::NxDomain)]);
            let dumb = failing("b", &[(RecordType::A, failure)]);
            for replies in [[gone.clone(), dumb.clone()], [dumb, gone]] {
                let answer = Answer::of(&replies);
                assert_eq!(answer.failures, [(RecordType::A, failure)].into(), "NXDOMAIN and {failure}");
            }
        }
    }

    #[test]
    fn who_missed_one_round_and_knew_in_another_does_not_dissent() {
        let lost = failing("a", &[(RecordType::A, Failure::Timeout)]);
        assert!(Answer::of(&[reply("a", &[1], 60), lost.clone()]).dissent.is_empty());
        assert_eq!(Answer::of(&[reply("b", &[1], 60), lost]).dissent.len(), 1);
        let denied = failing("a", &[(RecordType::A, Failure::NxDomain)]);
        assert_eq!(Answer::of(&[reply("a", &[1], 60), denied]).dissent.len(), 1, "a name comes and goes");
    }

    #[test]
    fn the_chain_is_that_of_the_first_answer_that_has_one() {
        let host = |name| Host::parse(name).unwrap();
        let dead = through(failing("a", &[(RecordType::A, Failure::NxDomain)]), &["old.example.net"]);
        let flat = reply("b", &[1], 60);
        let led = through(reply("c", &[1], 60), &["edge.example.net", "pop.example.net"]);
        let answer = Answer::of(&[dead.clone(), flat.clone(), led]);
        assert_eq!(answer.chain, [host("edge.example.net"), host("pop.example.net")]);
        assert_eq!(answer.through.len(), 3, "every name anybody went through");
        assert!(Answer::of(&[dead.clone(), flat]).chain.is_empty(), "a chain that leads nowhere is not the answer's");
        assert_eq!(Answer::of(&[dead]).chain, [host("old.example.net")]);
    }

    #[test]
    fn an_answer_is_authentic_when_every_part_of_it_is() {
        let good = Reply { authentic: true, ..reply("a", &[1], 60) };
        let plain = reply("b", &[2], 60);
        let dead = failing("c", &[(RecordType::A, Failure::ServFail)]);
        assert!(Answer::of(&[good.clone(), dead.clone()]).authentic, "who failed said nothing");
        assert!(!Answer::of(&[good, plain]).authentic);
        assert!(!Answer::of(&[Reply { authentic: true, ..dead }]).authentic, "nothing was validated");
    }

    #[test]
    fn a_copy_out_of_a_cache_is_no_second_sample() {
        let times = |replies: &[Reply]| Answer::of(replies).sampled.times;
        assert_eq!(times(&[reply("a", &[1, 2], 60), reply("a", &[1, 2], 30)]), 1);
        assert_eq!(
            times(&[reply("a", &[1, 2], 60), reply("a", &[1, 2], 30), reply("a", &[1, 2], 60)]),
            2,
            "asked anew"
        );
        assert_eq!(times(&[reply("a", &[1, 2], 60), reply("a", &[1, 3], 30)]), 2, "another answer");
        assert_eq!(times(&[reply("a", &[1, 2], 60), reply("b", &[1, 2], 30)]), 2, "another server");
        // What was seen before something else came between is a copy all the same.
        assert_eq!(times(&[reply("a", &[1], 60), reply("b", &[2], 60), reply("a", &[1], 10)]), 2);
    }

    #[test]
    fn half_a_reply_is_no_sample() {
        let with_v6 = |by, ttl| {
            let both = ["192.0.2.1", "2001:db8::1"].map(|address| (address.parse().unwrap(), ttl));
            Reply { addresses: both.into_iter().collect(), ..reply(by, &[], ttl) }
        };
        let mut half = reply("a", &[1], 60);
        half.failures.insert(RecordType::Aaaa, Failure::Timeout);
        let dead = failing("a", &[(RecordType::A, Failure::Timeout)]);
        let sampled = Answer::of(&[with_v6("a", 60), half, dead, with_v6("b", 60)]).sampled;
        assert_eq!((sampled.times, sampled.addresses, sampled.sightings), (2, 2, 4));
        assert!(sampled.agreed(), "a lookup that failed is no address that rotates");
    }

    #[test]
    fn targets_of_a_service_are_a_union_too() {
        let service = |by: &str, names: &[&str]| {
            let targets = names.iter().map(|name| (Host::parse(name).unwrap(), 443)).collect();
            Reply { targets, ..reply(by, &[], 0) }
        };
        let answer = Answer::of(&[
            service("a", &["one.example.org"]),
            service("b", &["one.example.org", "two.example.org"]),
            failing("c", &[(RecordType::Srv, Failure::NxDomain)]),
        ]);
        assert_eq!((answer.targets.len(), answer.dissent.len()), (2, 1));
        assert_eq!(answer.resolvers, names(&["a", "b"]));
        assert!(answer.failures.is_empty() && answer.sampled.pool().is_none());
    }
}

//! What the walks of a name came to → its [`Reply`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::message::{Data, Record};
use super::walk::Walk;
use super::{ADDRESSES_MAX, TARGETS_MAX};
use crate::host::Host;
use crate::resolve::{Addresses, Failure, RecordType, Reply};

/// The names of some servers of a list, by their places.
pub(super) type Names<'a> = &'a mut dyn FnMut(&[usize]) -> Arc<BTreeSet<String>>;

/// One reply out of the walks for A and AAAA, or of the one for SRV. Takes what they found.
pub(super) fn reply_of(walks: &mut [Walk], names: Names<'_>) -> Reply {
    match walks {
        [a, aaaa] => host_reply(a, aaaa, names),
        [srv] => service_reply(srv, names),
        // A service whose name is longer than a name can be.
        _ => Reply { failures: BTreeMap::from([(RecordType::Srv, Failure::Malformed)]), ..Reply::default() },
    }
}

fn host_reply(a: &mut Walk, aaaa: &mut Walk, names: Names<'_>) -> Reply {
    let records = |walk: &Walk| walk.records.as_ref().map_or(0, Vec::len);
    let mut addresses = Vec::with_capacity(records(a) + records(aaaa));
    for record in [&*a, &*aaaa].into_iter().flat_map(|walk| walk.records.iter().flatten()) {
        if let Data::Address(address, ttl) = record.data {
            addresses.push((address, ttl));
        }
    }
    let mut reply = Reply {
        addresses: addresses.into_iter().collect(),
        authentic: a.is_authentic() && aaaa.is_authentic(),
        ..Reply::default()
    };
    // Nearly always the same.
    for at in &aaaa.by {
        if !a.by.contains(at) {
            a.by.push(*at);
        }
    }
    reply.by = names(&a.by);
    let good = a.records.is_ok() || aaaa.records.is_ok();
    for (kind, walk) in [(RecordType::A, a), (RecordType::Aaaa, aaaa)] {
        // The way to a failure is only of interest when nothing else was found.
        if walk.records.is_ok() || !good {
            for link in walk.chain.drain(..) {
                if !reply.chain.iter().any(|known| known.host == link.host) {
                    reply.chain.push(link);
                }
            }
        }
        if let Err(failure) = &walk.records {
            reply.failures.insert(kind, *failure);
        }
    }
    if reply.addresses.len() > ADDRESSES_MAX {
        reply.addresses = Addresses::default();
        reply.failures = BTreeMap::from([RecordType::A, RecordType::Aaaa].map(|kind| (kind, Failure::TooMany)));
    }
    // A family without records is normal. It is worth a word only when the other has none either, for the same reason.
    if good || reply.failures.values().any(|failure| *failure != Failure::NoData) {
        reply.failures.retain(|_, failure| *failure != Failure::NoData);
    }
    reply
}

fn service_reply(walk: &mut Walk, names: Names<'_>) -> Reply {
    let chain = std::mem::take(&mut walk.chain);
    let mut reply = Reply { by: names(&walk.by), authentic: walk.is_authentic(), chain, ..Reply::default() };
    match walk.records.as_ref().map_err(|failure| *failure).and_then(|records| targets_of(records)) {
        Ok(targets) => reply.targets = targets,
        Err(failure) => {
            reply.failures.insert(RecordType::Srv, failure);
        }
    }
    reply
}

/// All targets or none: a service of which half is known would be locked without the other half.
fn targets_of(records: &[Record]) -> Result<BTreeSet<(Host, u16)>, Failure> {
    let mut targets = BTreeSet::new();
    for record in records {
        let Data::Target(target, port) = &record.data else { continue };
        // "The service is decidedly not available at this domain" (RFC 2782).
        if target.is_root() {
            continue;
        }
        if *port == 0 {
            return Err(Failure::Malformed);
        }
        targets.insert((target.to_host()?, *port));
    }
    match targets.len() {
        0 => Err(Failure::NoData),
        1..=TARGETS_MAX => Ok(targets),
        _ => Err(Failure::Malformed),
    }
}

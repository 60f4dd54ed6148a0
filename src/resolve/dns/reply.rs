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

/// One reply out of the walks for A and AAAA, or of the one for SRV.
/// Takes them out, so that the list can be used again.
pub(super) fn reply_of(walks: &mut Vec<Walk>, names: Names<'_>) -> Reply {
    let mut walks = walks.drain(..);
    match (walks.next(), walks.next()) {
        (Some(a), Some(aaaa)) => host_reply(a, aaaa, names),
        (Some(srv), None) => service_reply(srv, names),
        // A service whose name is longer than a name can be.
        (None, _) => Reply { failures: BTreeMap::from([(RecordType::Srv, Failure::Malformed)]), ..Reply::default() },
    }
}

fn host_reply(mut a: Walk, aaaa: Walk, names: Names<'_>) -> Reply {
    let addresses = [&a, &aaaa].into_iter().flat_map(|walk| walk.records.iter().flatten());
    let addresses = addresses.filter_map(|record| match &record.data {
        Data::Address(address, ttl) => Some((*address, *ttl)),
        _ => None,
    });
    let mut reply = Reply {
        addresses: addresses.collect(),
        authentic: a.is_authentic() && aaaa.is_authentic(),
        ..Reply::default()
    };
    let mut by = std::mem::take(&mut a.by);
    by.extend(aaaa.by.iter().filter(|at| !by.contains(at)).copied().collect::<Vec<_>>());
    reply.by = names(&by);
    let good = a.records.is_ok() || aaaa.records.is_ok();
    for (kind, walk) in [(RecordType::A, a), (RecordType::Aaaa, aaaa)] {
        // The way to a failure is only of interest when nothing else was found.
        if walk.records.is_ok() || !good {
            for link in walk.chain {
                if !reply.chain.iter().any(|known| known.host == link.host) {
                    reply.chain.push(link);
                }
            }
        }
        if let Err(failure) = walk.records {
            reply.failures.insert(kind, failure);
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

fn service_reply(walk: Walk, names: Names<'_>) -> Reply {
    let mut reply =
        Reply { by: names(&walk.by), authentic: walk.is_authentic(), chain: walk.chain, ..Reply::default() };
    match walk.records.and_then(targets_of) {
        Ok(targets) => reply.targets = targets,
        Err(failure) => {
            reply.failures.insert(RecordType::Srv, failure);
        }
    }
    reply
}

/// All targets or none: a service of which half is known would be locked without the other half.
fn targets_of(records: Vec<Record>) -> Result<BTreeSet<(Host, u16)>, Failure> {
    let mut targets = BTreeSet::new();
    for record in records {
        let Data::Target(target, port) = record.data else { continue };
        // "The service is decidedly not available at this domain" (RFC 2782).
        if target.is_root() {
            continue;
        }
        if port == 0 {
            return Err(Failure::Malformed);
        }
        targets.insert((target.to_host()?, port));
    }
    match targets.len() {
        0 => Err(Failure::NoData),
        1..=TARGETS_MAX => Ok(targets),
        _ => Err(Failure::Malformed),
    }
}

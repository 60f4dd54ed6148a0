//! What the walks of a name came to → its [`Reply`].

use std::collections::{BTreeMap, BTreeSet};

use super::message::Data;
use super::walk::{Walk, host_of};
use super::{ADDRESSES_MAX, TARGETS_MAX};
use crate::host::Host;
use crate::resolve::{Failure, RecordType, Reply};

/// One reply out of the walks for A and AAAA, or of the one for SRV. `name` names a server of the list.
/// Takes them out, so that the list can be used again.
pub(super) fn reply_of(walks: &mut Vec<Walk>, name: &dyn Fn(usize) -> String) -> Reply {
    let mut walks = walks.drain(..);
    match (walks.next(), walks.next()) {
        (Some(a), Some(aaaa)) => host_reply(a, aaaa, name),
        (Some(srv), None) => service_reply(srv, name),
        // A service whose name is longer than a name can be.
        (None, _) => Reply { failures: BTreeMap::from([(RecordType::Srv, Failure::Malformed)]), ..Reply::default() },
    }
}

fn host_reply(a: Walk, aaaa: Walk, name: &dyn Fn(usize) -> String) -> Reply {
    let others = aaaa.by.iter().filter(|at| !a.by.contains(at));
    let by = a.by.iter().chain(others).map(|&at| name(at)).collect();
    let mut reply = Reply { by, authentic: true, ..Reply::default() };
    let both = [(RecordType::A, a), (RecordType::Aaaa, aaaa)];
    let good = both.iter().any(|(_, walk)| walk.records.is_ok());
    for (kind, walk) in both {
        reply.authentic &= walk.is_authentic();
        // The way to a failure is only of interest when nothing else was found.
        if walk.records.is_ok() || !good {
            for link in walk.chain {
                if !reply.chain.iter().any(|known| known.host == link.host) {
                    reply.chain.push(link);
                }
            }
        }
        match walk.records {
            Ok(records) => {
                for data in records {
                    let Data::Address(address, ttl) = data else { continue };
                    // Said twice, it is believed for the shorter time.
                    let known = reply.addresses.entry(address).or_insert(ttl);
                    *known = ttl.min(*known);
                }
            }
            Err(failure) => {
                reply.failures.insert(kind, failure);
            }
        }
    }
    if reply.addresses.len() > ADDRESSES_MAX {
        reply.addresses.clear();
        reply.failures = BTreeMap::from([RecordType::A, RecordType::Aaaa].map(|kind| (kind, Failure::TooMany)));
    }
    // A family without records is normal. It is worth a word only when the other has none either, for the same reason.
    if good || reply.failures.values().any(|failure| *failure != Failure::NoData) {
        reply.failures.retain(|_, failure| *failure != Failure::NoData);
    }
    reply
}

fn service_reply(walk: Walk, name: &dyn Fn(usize) -> String) -> Reply {
    let mut reply = Reply {
        by: walk.by.iter().map(|&at| name(at)).collect(),
        authentic: walk.is_authentic(),
        chain: walk.chain,
        ..Reply::default()
    };
    match walk.records.and_then(targets_of) {
        Ok(targets) => reply.targets = targets,
        Err(failure) => {
            reply.failures.insert(RecordType::Srv, failure);
        }
    }
    reply
}

/// All targets or none: a service of which half is known would be locked without the other half.
fn targets_of(records: Vec<Data>) -> Result<BTreeSet<(Host, u16)>, Failure> {
    let mut targets = BTreeSet::new();
    for record in records {
        let Data::Target(target, port) = record else { continue };
        // "The service is decidedly not available at this domain" (RFC 2782).
        if target.is_root() {
            continue;
        }
        if port == 0 {
            return Err(Failure::Malformed);
        }
        targets.insert((host_of(&target)?, port));
    }
    match targets.len() {
        0 => Err(Failure::NoData),
        1..=TARGETS_MAX => Ok(targets),
        _ => Err(Failure::Malformed),
    }
}

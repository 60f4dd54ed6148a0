//! [`Resolve`] over a map: tests, and runs without network.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Failure, Heard, RecordType, Reply, Resolve, ResolveError};
use crate::host::Query;

/// Answers by name. A name that is not in it does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(pub BTreeMap<Query, Reply>);

impl Table {
    fn reply(&self, query: &Query) -> Reply {
        let mut reply = self.0.get(query).cloned().unwrap_or_else(|| {
            let kinds: &[_] = match query {
                Query::Host(_) => &[RecordType::A, RecordType::Aaaa],
                Query::Service(_) => &[RecordType::Srv],
            };
            let failures = kinds.iter().map(|kind| (*kind, Failure::NxDomain)).collect();
            Reply { failures, ..Reply::default() }
        });
        if reply.by.is_empty() {
            reply.by = Arc::new([String::from("table")].into());
        }
        reply
    }
}

impl FromIterator<(Query, Reply)> for Table {
    fn from_iter<T: IntoIterator<Item = (Query, Reply)>>(entries: T) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl Resolve for Table {
    fn resolve(&self, queries: &BTreeSet<Query>, progress: &dyn Fn(usize, usize)) -> Result<Heard, ResolveError> {
        let mut replies: BTreeMap<Query, Vec<Reply>> =
            queries.iter().map(|query| (query.clone(), vec![self.reply(query)])).collect();
        let targets: BTreeSet<_> = replies
            .values()
            .flatten()
            .flat_map(|reply| &reply.targets)
            .map(|(host, _)| Query::Host(host.clone()))
            .filter(|target| !replies.contains_key(target))
            .collect();
        replies.extend(targets.into_iter().map(|target| {
            let reply = self.reply(&target);
            (target, vec![reply])
        }));
        progress(replies.len(), replies.len());
        Ok(Heard { replies, ..Heard::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    #[test]
    fn what_is_not_in_the_table_does_not_exist() {
        let known =
            Reply { addresses: [("192.0.2.1".parse().unwrap(), 300)].into_iter().collect(), ..Reply::default() };
        let table: Table = [(query("known.example.org"), known)].into_iter().collect();
        let asked = ["known.example.org", "other.example.org", "_http._tcp.example.org"].map(query).into();
        let answers = table.resolve(&asked, &|_, _| {}).unwrap().replies;
        assert_eq!(answers.len(), 3);
        let known = &answers[&query("known.example.org")][0];
        assert_eq!(known.addresses.len(), 1);
        assert_eq!(*known.by, BTreeSet::from(["table".to_owned()]));
        let other = &answers[&query("other.example.org")][0];
        assert!(other.addresses.is_empty());
        assert_eq!(
            other.failures,
            BTreeMap::from([(RecordType::A, Failure::NxDomain), (RecordType::Aaaa, Failure::NxDomain)])
        );
        let service = &answers[&query("_http._tcp.example.org")][0];
        assert_eq!(service.failures, BTreeMap::from([(RecordType::Srv, Failure::NxDomain)]));
    }

    #[test]
    fn targets_of_a_service_are_answered_under_their_own_names() {
        let target = crate::host::Host::parse("pkg0.example.org").unwrap();
        let service = Reply { targets: BTreeSet::from([(target, 443)]), ..Reply::default() };
        let table: Table = [(query("_https._tcp.example.org"), service)].into_iter().collect();
        let answers = table.resolve(&BTreeSet::from([query("_https._tcp.example.org")]), &|_, _| {}).unwrap().replies;
        assert!(answers.contains_key(&query("pkg0.example.org")), "{answers:?}");
    }
}

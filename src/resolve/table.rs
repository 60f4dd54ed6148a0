//! [`Resolve`] over a map: tests, and runs without network.

use std::collections::{BTreeMap, BTreeSet};

use super::{Answer, Answers, Failure, RecordType, Resolve, ResolveError};
use crate::host::Query;

/// Answers by name. A name that is not in it does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(pub BTreeMap<Query, Answer>);

impl Table {
    fn answer(&self, query: &Query) -> Answer {
        let mut answer = self.0.get(query).cloned().unwrap_or_else(|| {
            let kinds: &[_] = match query {
                Query::Host(_) => &[RecordType::A, RecordType::Aaaa],
                Query::Service(_) => &[RecordType::Srv],
            };
            let failures = kinds.iter().map(|kind| (*kind, Failure::NxDomain)).collect();
            Answer { failures, ..Answer::default() }
        });
        if answer.resolvers.is_empty() {
            answer.resolvers.insert("table".to_owned());
        }
        answer
    }
}

impl FromIterator<(Query, Answer)> for Table {
    fn from_iter<T: IntoIterator<Item = (Query, Answer)>>(entries: T) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl Resolve for Table {
    fn resolve(&self, queries: &BTreeSet<Query>, progress: &dyn Fn(usize, usize)) -> Result<Answers, ResolveError> {
        let mut answers: Answers = queries.iter().map(|query| (query.clone(), self.answer(query))).collect();
        let targets: BTreeSet<_> = answers
            .values()
            .flat_map(|answer| &answer.targets)
            .map(|(host, _)| Query::Host(host.clone()))
            .filter(|target| !answers.contains_key(target))
            .collect();
        answers.extend(targets.into_iter().map(|target| {
            let answer = self.answer(&target);
            (target, answer)
        }));
        progress(answers.len(), answers.len());
        Ok(answers)
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
        let known = Answer { addresses: BTreeSet::from(["192.0.2.1".parse().unwrap()]), ..Answer::default() };
        let table: Table = [(query("known.example.org"), known)].into_iter().collect();
        let asked = ["known.example.org", "other.example.org", "_http._tcp.example.org"].map(query).into();
        let answers = table.resolve(&asked, &|_, _| {}).unwrap();
        assert_eq!(answers.len(), 3);
        let known = &answers[&query("known.example.org")];
        assert_eq!(known.addresses.len(), 1);
        assert_eq!(known.resolvers, BTreeSet::from(["table".to_owned()]));
        let other = &answers[&query("other.example.org")];
        assert!(other.addresses.is_empty());
        assert_eq!(
            other.failures,
            BTreeMap::from([(RecordType::A, Failure::NxDomain), (RecordType::Aaaa, Failure::NxDomain)])
        );
        let service = &answers[&query("_http._tcp.example.org")];
        assert_eq!(service.failures, BTreeMap::from([(RecordType::Srv, Failure::NxDomain)]));
    }

    #[test]
    fn targets_of_a_service_are_answered_under_their_own_names() {
        let target = crate::host::Host::parse("pkg0.example.org").unwrap();
        let service = Answer { targets: BTreeSet::from([(target, 443)]), ..Answer::default() };
        let table: Table = [(query("_https._tcp.example.org"), service)].into_iter().collect();
        let answers = table.resolve(&BTreeSet::from([query("_https._tcp.example.org")]), &|_, _| {}).unwrap();
        assert!(answers.contains_key(&query("pkg0.example.org")), "{answers:?}");
    }
}

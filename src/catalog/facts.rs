//! What a catalog says, as facts that can be compared: who contacts what on which port.

use std::collections::{BTreeMap, BTreeSet};

use crate::callout::{Callout, Origin};
use crate::catalog::{Catalog, KnownRelease};
use crate::text::Id;

/// One thing a firewall would see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    /// Who opens the connection.
    pub origin: Origin,
    /// Where it leads; for the site's own servers their kind, in parentheses.
    pub server: String,
    /// The ports, as one text.
    pub ports: String,
    /// The feature that makes the call, or that it is always made.
    pub feature: Option<Id>,
    /// Where it holds: empty within one release, family and interval between catalogs.
    pub releases: String,
}

/// Facts with the entries that state them.
pub type Facts = BTreeMap<Fact, BTreeSet<Id>>;

/// What two sets of facts do not share.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// Facts of the second alone.
    pub opened: Facts,
    /// Facts of the first alone.
    pub closed: Facts,
}

/// The facts of one release.
#[must_use]
pub fn of_release(catalog: &Catalog, release: &KnownRelease<'_>) -> Facts {
    let mut facts = Facts::new();
    for (callout, _) in catalog.of_release(release) {
        state(callout, "", &mut facts);
    }
    facts
}

/// All facts of a catalog, each with the releases it holds for.
#[must_use]
pub fn of_catalog(catalog: &Catalog) -> Facts {
    let mut facts = Facts::new();
    for callout in catalog.callouts.values() {
        for (family, interval) in &callout.details().releases {
            state(callout, &format!("{family} {interval}"), &mut facts);
        }
    }
    facts
}

fn state(callout: &Callout, releases: &str, facts: &mut Facts) {
    let mut servers: Vec<String> = callout.endpoints.iter().map(ToString::to_string).collect();
    servers.extend(callout.slot.iter().map(|slot| format!("({slot})")));
    let ports = callout.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    for origin in callout.origins.iter() {
        for server in &servers {
            let fact = Fact {
                origin,
                server: server.clone(),
                ports: ports.clone(),
                feature: callout.feature.clone(),
                releases: releases.to_owned(),
            };
            facts.entry(fact).or_default().insert(callout.id.clone());
        }
    }
}

/// What opens and what closes on the way from the first to the second.
#[must_use]
pub fn compare(first: &Facts, second: &Facts) -> Difference {
    let lacking = |from: &Facts, other: &Facts| {
        from.iter().filter(|(fact, _)| !other.contains_key(fact)).map(|(f, ids)| (f.clone(), ids.clone())).collect()
    };
    Difference { opened: lacking(second, first), closed: lacking(first, second) }
}

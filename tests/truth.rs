//! The catalog against a table that was made without it, `tests/truth/presence.tsv`: the same contacts in every release
//! line, none missing and none more. What the table's columns and rules are stands at its top.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::LazyLock;

use outgate::callout::{Callout, Class, Endpoint, Origin};
use outgate::catalog::Catalog;
use outgate::host::{Host, NamePattern};
use outgate::policy::{Action, Decision};
use outgate::port::Port;
use outgate::text::Id;

mod support;
use support::model;

static CATALOG: LazyLock<Catalog> = LazyLock::new(model::catalog);

/// The table as it stands on disk.
const TABLE: &str = include_str!("truth/presence.tsv");

/// Stands for a server only the site can name, in the table's column of hosts.
const SLOT: &str = "slot:";

/// A server of a site, where a profile has to name one.
const SERVER: &str = "198.51.100.53";

/// Hosts that are in some releases of a line and not in others: release, host, and whether the system contacts it.
const POINT_RELEASES: &[(&str, &str, bool)] = &[
    ("25.10.1", "update.ixsystems.com", true),
    ("25.10.1", "support-proxy.ixsystems.com", true),
    ("25.10.1", "update.truenas.com", false),
    ("25.10.1", "support-proxy.truenas.com", false),
    ("25.10.2", "update.ixsystems.com", false),
    ("25.10.2", "support-proxy.ixsystems.com", false),
    ("25.10.2", "update.truenas.com", true),
    ("25.10.2", "support-proxy.truenas.com", true),
    ("24.10.0.2", "download.nvidia.com", true),
    ("24.10.1", "download.nvidia.com", false),
    ("22.02.3", "usage.freenas.org", true),
    ("22.02.3", "usage.truenas.com", false),
    ("22.02.4", "usage.freenas.org", false),
    ("22.02.4", "usage.truenas.com", true),
    ("22.02.3", "gateway.storjshare.io", false),
    ("22.02.4", "gateway.storjshare.io", true),
    ("13.0-U2", "gateway.storjshare.io", false),
    ("13.0-U3", "gateway.storjshare.io", true),
    ("13.0-RELEASE", "update.freenas.org", false),
    ("13.0-U1", "update.freenas.org", true),
    ("12.0-U1.1", "update.freenas.org", true),
    ("12.0-U2", "update.freenas.org", false),
];

/// Who contacts what in a release line. `host` is a group of names that are one, see [`group`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Contact {
    family: String,
    line: String,
    origin: &'static str,
    port: String,
    host: String,
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {} {}", self.family, self.line, self.origin, self.port, self.host)
    }
}

/// Contacts, each with the entries that say so.
type Contacts = BTreeMap<Contact, BTreeSet<String>>;

/// The table, and apart from it its slots.
struct Table {
    contacts: Contacts,
    slots: Contacts,
}

fn origin(word: &str) -> Option<&'static str> {
    Origin::ALL.iter().map(|o| o.as_str()).find(|&o| o == word)
}

/// Reads the table; every line that is not as its top says is a fault, all of them told at once.
fn table() -> Table {
    let (mut contacts, mut slots) = (Contacts::new(), Contacts::new());
    let (mut faults, mut last) = (String::new(), "");
    for (number, text) in TABLE.lines().enumerate().filter(|(_, text)| !text.starts_with('#')) {
        let mut fault = |what: &str| writeln!(faults, "line {}: {what}: {text}", number + 1).unwrap();
        if last >= text {
            fault("not sorted");
        }
        last = text;
        let columns: Vec<&str> = text.split('\t').collect();
        let &[family, line, from, port, host, certainty, entries] = columns.as_slice() else {
            fault("not seven columns");
            continue;
        };
        let Some(from) = origin(from) else {
            fault("no such origin");
            continue;
        };
        let slot = host.strip_prefix(SLOT);
        let any_port = slot.is_some() && port.starts_with("*/");
        if !any_port && Port::parse(port).map(|p| p.to_string()).as_deref() != Ok(port) {
            fault("no port");
        }
        if slot.is_none() && Endpoint::parse(host).map(|e| group(&e)).as_deref() != Ok(host) {
            fault("no host, or one that goes by the name of its group");
        }
        if !matches!(certainty, "sure" | "part" | "unproven") {
            fault("no such certainty");
        }
        let contact = Contact {
            family: family.to_owned(),
            line: line.to_owned(),
            origin: from,
            port: port.to_owned(),
            host: host.to_owned(),
        };
        let into = if slot.is_some() { &mut slots } else { &mut contacts };
        if into.insert(contact, entries.split(',').map(str::to_owned).collect()).is_some() {
            fault("the fact is there twice");
        }
    }
    assert!(faults.is_empty(), "tests/truth/presence.tsv\n{faults}");
    Table { contacts, slots }
}

/// The name a host goes by in the table. SRV records select mirrors, so a name, the service names in front of it and
/// the mirrors we know of are one.
fn group(endpoint: &Endpoint) -> String {
    let host = match endpoint {
        Endpoint::Service(service) => service.host(),
        Endpoint::Name(NamePattern::Exact(host)) => host,
        Endpoint::Name(NamePattern::Below(_)) | Endpoint::Net(_) => return endpoint.to_string(),
    };
    let (first, rest) = host.as_str().split_once('.').unwrap_or_default();
    let numbered = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    match (first, rest) {
        ("pkgmir", "geo.freebsd.org") => return "pkg.freebsd.org".to_owned(),
        ("pkg0", rest) if rest.ends_with(".freebsd.org") => return "pkg.freebsd.org".to_owned(),
        (first, "freebsd.org") if first.strip_prefix("update").is_some_and(numbered) => {
            return "update.freebsd.org".to_owned();
        }
        _ => {}
    }
    host.to_string()
}

/// The ports one by one; a span too wide for that stays one text, which no fact has.
fn ports(ports: &[Port]) -> BTreeSet<String> {
    let each = |port: &Port| match port.last() - port.first() {
        0..64 => (port.first()..=port.last()).map(|number| format!("{number}/{}", port.protocol)).collect(),
        _ => vec![port.to_string()],
    };
    ports.iter().flat_map(each).collect()
}

/// Every release line of the catalog: its family, its name, its callouts.
fn lines() -> Vec<(String, String, Vec<&'static Callout>)> {
    CATALOG
        .lines
        .iter()
        .map(|line| {
            let name = line.release.as_str();
            let callouts = callouts(name).into_values().collect();
            (line.family.to_string(), name.to_owned(), callouts)
        })
        .collect()
}

/// The callouts of a release, by id.
fn callouts(release: &str) -> BTreeMap<&'static str, &'static Callout> {
    let known = CATALOG.release(release).unwrap_or_else(|(message, _)| panic!("{message}"));
    let ids: Vec<_> = CATALOG.of_release(&known).map(|(callout, _)| callout.id.clone()).collect();
    ids.iter().map(|id| &CATALOG.callouts[id]).map(|callout| (callout.id.as_str(), callout.as_ref())).collect()
}

/// What the catalog says, without what only the site can name.
fn said() -> Contacts {
    let mut said = Contacts::new();
    for (family, line, callouts) in lines() {
        for callout in callouts {
            for origin in callout.origins.iter() {
                for endpoint in callout.endpoints.iter() {
                    for port in ports(&callout.ports) {
                        let contact = Contact {
                            family: family.clone(),
                            line: line.clone(),
                            origin: origin.as_str(),
                            port,
                            host: group(endpoint),
                        };
                        said.entry(contact).or_default().insert(callout.id.to_string());
                    }
                }
            }
        }
    }
    said
}

/// Contacts of one set that another has not, those that differ in nothing but the line told together.
fn report(heading: &str, one: &Contacts, other: &Contacts) -> String {
    let mut rows: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (contact, entries) in one.iter().filter(|(contact, _)| !other.contains_key(contact)) {
        let entries = entries.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let Contact { family, line, origin, port, host } = contact;
        rows.entry(format!("{host} {port} from {origin} [{entries}], {family}")).or_default().push(line);
    }
    if rows.is_empty() {
        return String::new();
    }
    rows.iter().fold(format!("{heading}:\n"), |text, (row, lines)| format!("{text}  {row} {}\n", lines.join(" ")))
}

#[test]
fn the_table_has_every_line_of_the_catalog_and_no_other() {
    let table = table();
    let facts: BTreeSet<(&str, &str)> =
        table.contacts.keys().chain(table.slots.keys()).map(|c| (c.family.as_str(), c.line.as_str())).collect();
    let lines: BTreeSet<(&str, &str)> =
        CATALOG.lines.iter().map(|line| (line.family.as_str(), line.release.as_str())).collect();
    assert_eq!(facts, lines);
    // A table that lost its lines would agree with any catalog that lost them too.
    assert!(table.contacts.len() > 600 && table.slots.len() > 300);
}

#[test]
fn the_catalog_says_what_the_table_says() {
    let (table, said) = (table().contacts, said());
    let missing = report("the catalog lacks, by entry of the table", &table, &said);
    let extra = report("the table has not, by entry of the catalog", &said, &table);
    assert!(missing.is_empty() && extra.is_empty(), "\n{missing}{extra}");
}

#[test]
fn what_only_the_site_can_name_has_a_slot() {
    let lines = lines();
    let with_slot = |family: &str, line: &str| -> Vec<&Callout> {
        let found = lines.iter().find(|(f, l, _)| f == family && l == line);
        found.map_or(&[][..], |(.., callouts)| callouts).iter().copied().filter(|c| c.slot.is_some()).collect()
    };
    let fits = |callout: &Callout, fact: &Contact| {
        let any = fact.port.strip_prefix('*');
        callout.origins.iter().any(|o| o.as_str() == fact.origin)
            && ports(&callout.ports).iter().any(|port| match any {
                Some(protocol) => port.ends_with(protocol),
                None => *port == fact.port,
            })
    };
    let slots = table().slots;
    let mut found = Contacts::new();
    for (fact, entries) in &slots {
        if with_slot(&fact.family, &fact.line).into_iter().any(|callout| fits(callout, fact)) {
            found.insert(fact.clone(), entries.clone());
        }
    }
    let missing = report("the catalog lacks a slot, by entry of the table", &slots, &found);
    // And the other way round: a slot with nothing of the table behind it. Where an entry has hosts as well, its slot
    // only takes their place.
    let mut extra = String::new();
    for (family, line, callouts) in &lines {
        for callout in callouts.iter().filter(|c| c.slot.is_some() && c.endpoints.is_empty()) {
            let mut of_line = slots.keys().filter(|fact| fact.family == *family && fact.line == *line);
            if !of_line.any(|fact| fits(callout, fact)) {
                writeln!(extra, "  {} in {family} {line}", callout.id).unwrap();
            }
        }
    }
    assert!(missing.is_empty() && extra.is_empty(), "\n{missing}slots the table has not:\n{extra}");
}

/// A profile of a release with one feature, all kinds of clients, and servers for whatever would have nowhere to go.
fn profile(release: &str, feature: &str, callouts: &[&Callout], strict: &str) -> String {
    let in_use = |c: &Callout| c.feature.as_ref().is_none_or(|f| f.as_str() == feature) && c.endpoints.is_empty();
    let slots: BTreeSet<&str> =
        callouts.iter().filter(|c| in_use(c)).filter_map(|c| c.slot.as_ref()).map(Id::as_str).collect();
    let servers = slots.iter().map(|slot| format!("{slot}: [{{host: {SERVER}}}]")).collect::<Vec<_>>();
    format!(
        "release: '{release}'\n\
         clients: {{nas: [192.0.2.1], admin: [192.0.2.2], jails: [192.0.2.3], apps: [192.0.2.4]}}\n\
         features: [{feature}]\n\
         servers: {{{}}}\n\
         strict: [{strict}]\n",
        servers.join(", ")
    )
}

/// What a decision leads to beyond the facts of a line: a host, or a port of one where something is allowed. A denial
/// is for every port.
fn beyond(decision: &Decision, family: &str, line: &str, facts: &Contacts) -> Vec<String> {
    let of_line = |host: &str, origin: Origin| -> BTreeSet<&str> {
        facts
            .keys()
            .filter(|f| f.family == family && f.line == line && f.host == host && f.origin == origin.as_str())
            .map(|f| f.port.as_str())
            .collect()
    };
    let mut beyond = Vec::new();
    for endpoint in decision.endpoints.iter() {
        let host = group(endpoint);
        if decision.callout.slot.is_some() && host == SERVER {
            continue;
        }
        for origin in decision.origins.iter() {
            let known = of_line(&host, origin);
            let denied = decision.action == Action::Deny;
            if known.is_empty() || !(denied || ports(&decision.ports).iter().all(|p| known.contains(p.as_str()))) {
                beyond.push(format!("{host} from {} [{}]", origin.as_str(), decision.callout.id));
            }
        }
    }
    beyond
}

#[test]
fn a_release_and_a_feature_select_no_host_the_release_does_not_contact() {
    let facts = table().contacts;
    let classes: Vec<&str> = Class::ALL.iter().filter(|c| **c != Class::Function).map(|c| c.as_str()).collect();
    let mut wrong: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut judged = 0;
    for (family, line, callouts) in lines() {
        for feature in CATALOG.features.keys() {
            for strict in ["", &classes.join(", ")] {
                let profile = profile(&line, feature.as_str(), &callouts, strict);
                let policy = model::policy(&CATALOG, &profile).unwrap_or_else(|why| panic!("{profile}{why}"));
                judged += policy.decisions.len();
                for row in policy.decisions.iter().flat_map(|d| beyond(d, &family, &line, &facts)) {
                    wrong.entry(row).or_default().insert(format!("{line} {feature}"));
                }
            }
        }
    }
    assert!(judged > 2000, "{judged} decisions are hardly all");
    let list = wrong.iter().fold(String::new(), |text, (row, at)| {
        let first = at.iter().take(4).map(String::as_str).collect::<Vec<_>>().join(", ");
        format!("{text}  {row}: of {} releases with a feature, first {first}\n", at.len())
    });
    assert!(list.is_empty(), "\n{list}");
}

#[test]
fn a_point_release_contacts_its_own_hosts() {
    let mut wrong = String::new();
    for &(release, host, contacts) in POINT_RELEASES {
        let host = Host::parse(host).unwrap();
        let endpoint = Endpoint::Name(NamePattern::Exact(host.clone()));
        let by: Vec<&str> = callouts(release)
            .into_iter()
            .filter(|(_, c)| c.endpoints.contains(&endpoint) && c.origins.contains(Origin::Nas))
            .map(|(id, _)| id)
            .collect();
        if by.is_empty() == contacts {
            let says = if contacts { "contacts" } else { "does not contact" };
            writeln!(wrong, "  {release} {says} {host}; entries of the catalog that do: {by:?}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

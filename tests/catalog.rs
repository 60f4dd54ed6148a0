//! The catalog against the vendor's page and against itself.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use outgate::callout::{BlockedLevel, Citation, Class, Endpoint};
use outgate::catalog::embedded;
use outgate::host::{NamePattern, Query};

mod support;
use support::model;

/// Lines of the vendor's page `security-page` that say something of a callout: the rows of its table of outbound ports
/// and every item of its section on callouts. Headings and empty lines are left out.
const PAGE: &[u32] = &[
    72, 73, 74, 75, // outbound ports
    86, 87, 88, 89, 90, 92, // all releases
    96, 97, 99, // plugins of FreeBSD-based systems
    103, 104, 105, // jails of FreeBSD-based systems
    109, 110, 112, 113, // apps of Debian-based systems
    117, 118, // charts of Debian-based systems
    122, 123, 124, 125, 127, 129, // other callouts of Debian-based systems
];

/// Names the page misspells. They may belong to anyone.
const MISSPELT: &[&str] =
    &["frp-archive.freebsd.org", "iocate-ix-plugins", "iocate-plugin-index", "updates.ixystems.com", "ixystems"];

fn page_lines<'a>(citations: impl IntoIterator<Item = &'a Citation>) -> BTreeSet<u32> {
    let of_page = citations.into_iter().filter(|c| c.source.as_str() == "security-page" && c.path.is_none());
    of_page.filter_map(|c| c.lines.as_ref()?.parse().ok()).collect()
}

#[test]
fn every_line_of_the_page_is_accounted_for() {
    let catalog = model::catalog();
    let callouts = catalog.callouts.values().flat_map(|c| &c.details().sources);
    let others = catalog.not_callouts.values().flat_map(|n| &n.sources);
    let accounted = page_lines(callouts.chain(others));
    let missing: Vec<_> = PAGE.iter().filter(|line| !accounted.contains(line)).collect();
    assert!(missing.is_empty(), "lines {missing:?} of the page are cited by no entry");
}

#[test]
fn every_citation_of_the_page_quotes_it() {
    for callout in model::catalog().callouts.values() {
        for citation in
            callout.details().sources.iter().filter(|c| c.source.as_str() == "security-page" && c.path.is_none())
        {
            assert!(
                citation.lines.is_some() && citation.quote.is_some(),
                "{}: {citation} has no line or quote",
                callout.id
            );
        }
        for correction in &callout.details().corrections {
            assert!(!correction.evidence.is_empty(), "{}: a correction without evidence", callout.id);
        }
    }
}

#[test]
fn a_misspelt_name_reaches_no_rule_and_is_corrected() {
    let catalog = model::catalog();
    for callout in catalog.callouts.values() {
        for endpoint in callout.endpoints.iter() {
            let text = endpoint.to_string();
            assert!(!MISSPELT.iter().any(|wrong| text.contains(wrong)), "{}: {text}", callout.id);
        }
    }
    for wrong in MISSPELT {
        let corrected =
            catalog.callouts.values().flat_map(|c| &c.details().corrections).any(|c| c.as_written.contains(wrong));
        assert!(corrected, "`{wrong}` is corrected nowhere");
    }
}

#[test]
fn protocols_the_page_gets_wrong_are_right() {
    let catalog = model::catalog();
    let ports = |id: &str| {
        let callout = catalog.callouts.values().find(|c| c.id.as_str() == id).unwrap();
        callout.ports.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(ports("ntp-scale"), ["123/udp"]);
    assert_eq!(ports("ntp-core"), ["123/udp"]);
    assert!(ports("syslog").contains(&"514/udp".to_owned()));
}

#[test]
fn entries_give_account_of_themselves() {
    for callout in model::catalog().callouts.values() {
        assert!(
            callout.class == Class::Function || callout.details().data.is_some(),
            "{}: telemetry without what it sends",
            callout.id
        );
        assert!(callout.blocked == BlockedLevel::None || callout.details().blocked_effect.is_some(), "{}", callout.id);
        assert!(!callout.endpoints.is_empty() || callout.slot.is_some(), "{}", callout.id);
    }
}

#[test]
fn the_embedded_catalog_is_the_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog/callouts");
    let mut on_disk: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| format!("catalog/callouts/{}", entry.unwrap().file_name().to_string_lossy()))
        .collect();
    on_disk.sort();
    let embedded: Vec<&str> = embedded::CALLOUTS.iter().map(|(path, _)| *path).collect();
    assert_eq!(on_disk, embedded, "add the file to src/catalog/embedded.rs");
}

#[test]
fn hosts_live_in_the_catalog_alone() {
    let catalog = model::catalog();
    let hosts: BTreeSet<String> = catalog
        .callouts
        .values()
        .flat_map(|c| c.endpoints.iter())
        .filter_map(|e| if let Endpoint::Name(NamePattern::Exact(host)) = e { Some(host.to_string()) } else { None })
        .collect();
    assert!(hosts.len() > 40);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src", "templates"] {
        let mut todo = vec![root.join(folder)];
        while let Some(next) = todo.pop() {
            for entry in fs::read_dir(&next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    todo.push(path);
                    continue;
                }
                let text = fs::read_to_string(&path).unwrap();
                let code: String = text
                    .split("#[cfg(test)]")
                    .next()
                    .unwrap()
                    .lines()
                    .filter(|l| !l.trim_start().starts_with("//"))
                    .collect();
                for host in &hosts {
                    assert!(!code.contains(host.as_str()), "{} names {host}", path.display());
                }
            }
        }
    }
}

#[test]
fn the_documentation_zone_knows_every_name() {
    let zone = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/documentation.zone")).unwrap();
    let owners: BTreeSet<&str> = zone.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for callout in model::catalog().callouts.values() {
        for query in callout.endpoints.iter().filter_map(Endpoint::query) {
            let name = match &query {
                Query::Host(host) => host.fqdn(),
                Query::Service(service) => format!("{service}."),
            };
            assert!(owners.contains(name.as_str()), "{name} ({}) is not in examples/documentation.zone", callout.id);
        }
    }
}

#[test]
fn a_release_is_found_by_every_name_users_give_it() {
    let catalog = model::catalog();
    for (text, line) in [
        ("25.10.2", "25.10"),
        ("25.10", "25.10"),
        ("TrueNAS-25.10.2", "25.10"),
        ("13.3-U1.2", "13.3"),
        ("TN-13.3-U1.2", "13.3"),
        ("goldeye", "25.10"),
        ("Electric Eel", "24.10"),
        ("26.0.0-BETA.3", "26"),
    ] {
        let known = catalog.release(text).unwrap_or_else(|(message, _)| panic!("{text}: {message}"));
        assert_eq!(known.line.release.as_str(), line, "{text}");
    }
    let (message, help) = catalog.release("25.11").unwrap_err();
    assert!(message.contains("25.11") && help.contains("25.10"), "{message}; {help}");
}

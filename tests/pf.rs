//! The limits of pf's kernels, which `pfctl -n` does not see: at the boundary and one beyond.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use outgate::addrs::AddrSet;
use outgate::diagnostic::{Code, Findings};
use outgate::ruleset::{self, Ruleset};
use outgate::source::Sources;
use outgate::target::{File, find, render};
use outgate::text::ID_MAX;

mod support;
use support::model;

fn rules(dialect: &str, more: &str, extra: &[String]) -> Ruleset {
    let entries = extra.iter().map(|id| {
        format!("  - {{id: {id}, purpose: is many, origin: [nas], hosts: [203.0.113.9], ports: [443/tcp]}}\n")
    });
    let profile = format!(
        "release: '25.10.2'\nclients: {{nas: [192.0.2.10, '2001:db8::10'], jails: [192.0.2.11, '2001:db8::11'], \
         apps: [192.0.2.12, '2001:db8::12']}}\nfeatures: []\nservers: {{dns: [{{host: 203.0.113.53}}], ntp: [{{host: 203.0.113.123}}]}}\n\
         targets: {{pf: {{dialect: {dialect}, interface: em1{more}}}}}\nextra:\n{}",
        entries.collect::<String>()
    );
    let policy = model::policy(&model::catalog(), &profile).unwrap();
    let mut rules = ruleset::build(&policy, None, &mut Findings::default());
    // What asks the vendor needs a lock.
    rules.rules.retain(|rule| rule.destinations.iter().all(|d| d.names().is_empty()));
    rules
}

/// So many addresses, none beside another, so that none are merged.
fn many(first: u32, count: usize) -> AddrSet {
    let last = first + 2 * u32::try_from(count).unwrap();
    let addrs = (first..last).step_by(2).map(|n| IpAddr::V4(Ipv4Addr::from(n)));
    addrs.map(ipnet::IpNet::from).collect()
}

fn fill(rules: &mut Ruleset, key: &str, addrs: AddrSet) {
    let rule = rules.rules.iter_mut().find(|rule| rule.key.as_str() == key).unwrap();
    // As the addresses of a name: a prefix would be one entry.
    rule.destinations[0].addrs = addrs;
}

fn run(rules: &Ruleset) -> (Vec<File>, Vec<String>) {
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let files = render(find("pf").unwrap(), rules, &BTreeMap::new(), &mut sources, &mut findings).unwrap_or_default();
    let limits = findings.iter().filter(|d| d.code == Code::TargetLimit).map(|d| d.message.clone()).collect();
    (files, limits)
}

/// How many entries each table has, by name: of those in the anchor's file and of those with a file of their own.
fn tables(files: &[File]) -> BTreeMap<String, usize> {
    let conf = files.iter().find(|file| file.path == "outgate.conf").map_or("", |file| &file.text);
    let held = |name: &str| {
        let file = files.iter().find(|file| file.path == format!("tables/{name}.txt"));
        let own = || conf.split(&format!("table <{name}> persist {{\n")).nth(1).unwrap().split("\n}").next().unwrap();
        let text = file.map_or_else(own, |file| &file.text);
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    let names = conf.lines().filter_map(|line| line.strip_prefix("table <")?.split('>').next());
    names.map(|name| (name.to_owned(), held(name))).collect()
}

const ONE: u32 = 0x0800_0000;
const OTHER: u32 = 0x0900_0000;

#[test]
fn a_table_holds_what_one_request_holds_on_freebsd_alone() {
    for (dialect, count, fits) in [("freebsd", 65_535, true), ("freebsd", 65_536, false), ("openbsd", 65_536, true)] {
        let mut rules = rules(dialect, "", &["many".to_owned()]);
        fill(&mut rules, "many", many(ONE, count));
        let (files, limits) = run(&rules);
        assert_eq!(limits.is_empty(), fits, "{dialect} {count}: {limits:?}");
        assert_eq!(files.is_empty(), !fits);
        if let Some(held) = tables(&files).get("og_many") {
            assert_eq!(*held, count);
        } else {
            assert!(limits[0].contains("og_many") && limits[0].contains("65536"), "{limits:?}");
        }
    }
}

#[test]
fn all_tables_together_fit_twice() {
    for dialect in ["freebsd", "openbsd"] {
        let mut rules = rules(dialect, "", &["many".to_owned(), "more".to_owned()]);
        let (files, _) = run(&rules);
        // What the tables hold beside these two.
        let others: usize = tables(&files)
            .into_iter()
            .filter(|(name, _)| !["og_many", "og_more"].contains(&&**name))
            .map(|(_, n)| n)
            .sum();
        assert!(others > 2);
        fill(&mut rules, "many", many(ONE, 50_000));
        for (rest, fits) in [(50_000 - others, true), (50_001 - others, false)] {
            fill(&mut rules, "more", many(OTHER, rest));
            let (_, limits) = run(&rules);
            assert_eq!(limits.is_empty(), fits, "{dialect} {rest}: {limits:?}");
        }
    }
}

#[test]
fn openbsd_holds_a_thousand_tables() {
    let ids = |count: usize| (0..count).map(|n| format!("entry-{n}")).collect::<Vec<_>>();
    let tables = |rules: &Ruleset| tables(&run(rules).0).len();
    let others = tables(&rules("openbsd", "", &ids(1))) - 1;
    let full = rules("openbsd", "", &ids(1000 - others));
    assert_eq!(tables(&full), 1000);
    let (files, limits) = run(&rules("openbsd", "", &ids(1001 - others)));
    assert!(files.is_empty() && limits[0].contains("1001 tables"), "{limits:?}");
    assert!(run(&rules("freebsd", "", &ids(1001 - others))).1.is_empty());
}

#[test]
fn names_labels_and_paths_fit() {
    let id = "a".repeat(ID_MAX);
    for dialect in ["freebsd", "openbsd"] {
        let anchor = format!("outgate_{}", "a".repeat(55));
        let folder = format!("/{}", "a".repeat(199));
        let rules = rules(dialect, &format!(", anchor: {anchor}, tables: {folder}"), std::slice::from_ref(&id));
        let (files, limits) = run(&rules);
        assert!(limits.is_empty(), "{limits:?}");
        let conf = &files.iter().find(|file| file.path == "outgate.conf").unwrap().text;
        assert!(anchor.len() == 63 && conf.contains(&anchor));
        assert!(conf.ends_with('\n') && !conf.contains('\r') && !conf.contains('\u{feff}'));
        let (mut labels, mut names) = (0, Vec::new());
        for line in conf.lines().filter(|line| !line.starts_with('#')) {
            for label in line.split("label \"").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(label.len() <= 63, "{label}");
                labels += 1;
            }
            if let Some(name) = line.strip_prefix("table <").and_then(|rest| rest.split('>').next()) {
                assert!(name.len() <= 31, "{name}");
                names.push(name);
            }
            for path in line.split("file \"").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(path.len() < 1024 - 65, "{path}");
            }
            // One line is one decision: a rule without quick is undone by a later one of the main file.
            let held = line.starts_with('\t') || line == "}";
            assert!(line.is_empty() || held || line.starts_with("table ") || line.contains(" quick "), "{line}");
            assert!(!line.contains("! ") && !line.contains('!'), "{line}");
            assert!(line.starts_with("pass ") || !line.starts_with("block ") || line.contains(" log "), "{line}");
        }
        assert!(labels > 3 && names.len() > 3);
        let longest = format!("og_{id}");
        assert!(longest.len() == 31 && names.contains(&longest.as_str()));
    }
}

#[test]
fn a_router_judges_what_comes_in_and_a_host_what_goes_out() {
    let conf = |more: &str| {
        let (files, _) = run(&rules("freebsd", more, &["many".to_owned()]));
        files.into_iter().find(|file| file.path == "outgate.conf").unwrap().text
    };
    let rule = "quick on em1 proto tcp from <ogc_nas> to <og_many> port { 443 } flags S/SA keep state";
    let (router, host) = (conf(""), conf(", side: host"));
    assert!(router.contains(&format!("pass in {rule}")) && !router.contains("\npass out"), "{router}");
    assert!(host.contains(&format!("pass out {rule}")) && !host.contains("\npass in"), "{host}");
    // Neighbour discovery on both, a lease on the host alone, and the denial of the rest last.
    for text in [&router, &host] {
        let last = text.lines().last().unwrap();
        assert!(
            last.starts_with("block return")
                && last.contains(" log quick ")
                && last.ends_with("to any label \"outgate:denied\"")
        );
        assert!(text.contains("icmp6-type { neighbrsol neighbradv routersol } label \"outgate:icmp6\""));
        for line in ["anchor \"outgate\"", "load anchor \"outgate\" from \"/usr/local/etc/outgate/outgate.conf\""] {
            assert!(text.contains(&format!("#   {line}\n")));
        }
    }
    assert_eq!((router.contains("outgate:dhcp-lease"), host.contains("outgate:dhcp-lease")), (false, true));
    assert!(host.find("outgate:dhcp-lease") < host.find("outgate:denied\""));
}

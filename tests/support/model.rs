//! The steps of the pipe as values, without the command line.

use std::net::IpAddr;

use outgate::catalog::{self, Catalog};
use outgate::diagnostic::Findings;
use outgate::host::{Host, NamePattern};
use outgate::policy::{self, Action, Policy};
use outgate::port::Protocol;
use outgate::profile;
use outgate::ruleset::Ruleset;
use outgate::source::Sources;

/// The catalog the program was built with.
pub(crate) fn catalog() -> Catalog {
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let files = catalog::embedded::files(&mut sources);
    let catalog = catalog::read(&sources, &files, &mut findings);
    catalog.unwrap_or_else(|| panic!("{:#?}", findings.iter().collect::<Vec<_>>()))
}

/// The policy of a profile, or what is wrong with it: codes and messages, a line each.
pub(crate) fn policy(catalog: &Catalog, profile: &str) -> Result<Policy, String> {
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let known = catalog.known(false);
    let id = sources.add("outgate.yaml", profile);
    let policy = profile::read(&sources, id, &known, &mut findings)
        .and_then(|profile| policy::decide(catalog, &profile, &mut findings));
    policy.ok_or_else(|| findings.iter().map(|d| format!("{} {}\n", d.code.as_str(), d.message)).collect())
}

/// Whether the model lets a client reach a name on a port through the proxy.
pub(crate) fn named(rules: &Ruleset, client: &str, name: &str, port: u16) -> bool {
    let client: IpAddr = client.parse().expect("an address");
    let name = NamePattern::Exact(Host::parse(name).expect("a host name"));
    let meets = |action: Action| {
        rules.rules.iter().any(|rule| {
            rule.action == action
                && (action == Action::Deny || rule.ports.iter().any(|p| p.contains(Protocol::Tcp, port)))
                && rules.clients_of(rule.origins).contains(client)
                && rule.names().iter().any(|pattern| pattern.covers(&name))
        })
    };
    matches!(port, 80 | 443) && meets(Action::Allow) && !meets(Action::Deny)
}

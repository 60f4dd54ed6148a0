//! The steps of the pipe as values, without the command line.

use outgate::catalog::{self, Catalog};
use outgate::diagnostic::Findings;
use outgate::policy::{self, Policy};
use outgate::profile;
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

//! Where a blocked and an allowed endpoint cannot be told apart by address, and what the site decided about it.
//!
//! Two endpoints meet where an address of one is an address of the other, where both lead through one alias, whose
//! addresses are either's at any time, and where the blocked name is one of those that a vendor's list is opened for.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Destination, Gap, Names, Rule, Ruleset, list_of};
use crate::addrs::AddrSet;
use crate::callout::Endpoint;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::{Host, NamePattern};
use crate::strict::{Choice, Shared};
use crate::text::Id;

/// A blocked and an allowed endpoint that no rule by address can tell apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meeting {
    /// The rules that block the one.
    pub denies: BTreeSet<Id>,
    /// The rules that allow the other.
    pub allows: BTreeSet<Id>,
    /// The addresses they have in common.
    pub addrs: AddrSet,
    /// The vendors' lists that hold both.
    pub lists: BTreeSet<Id>,
    /// The aliases both lead through: what one answers with, the other may answer with tomorrow.
    pub aliases: BTreeSet<Host>,
}

/// Every meeting, by the blocked and the allowed endpoint. Several entries may have the same two: that is one.
pub type Meetings = BTreeMap<(Endpoint, Endpoint), Meeting>;

/// Finds every meeting between rules for the same clients. Of an allow all clients count, also those that nothing
/// limits: a denial must not take from them what they want.
#[must_use]
pub fn find(ruleset: &Ruleset) -> Meetings {
    let (denied, allowed): (Vec<&Rule>, Vec<&Rule>) = ruleset.rules.iter().partition(|r| r.action == Action::Deny);
    let mut meetings = Meetings::new();
    if denied.is_empty() {
        return meetings;
    }
    let denied: Vec<Denied<'_>> = denied.into_iter().map(|rule| Denied::new(ruleset, rule)).collect();
    let all: AddrSet = denied.iter().map(|denial| &denial.addrs).collect();
    let aliases: BTreeSet<&Host> = denied.iter().flat_map(|denial| &denial.leads).flatten().copied().collect();
    let wildcards = denied.iter().flat_map(|denial| &denial.rule.destinations).flat_map(|d| d.names());
    let wildcards: Vec<&NamePattern> = wildcards.filter(|name| name.exact().is_none()).collect();
    for allow in allowed {
        // What has no address here opens none.
        let opens =
            |d: &&Destination| !matches!(d.gap.as_deref(), Some(gap) if *gap == Gap::Wildcard || gap.is_decided());
        for destination in allow.destinations.iter().filter(opens) {
            let leads = leads(ruleset, destination);
            // Most have nothing in common with anything that is blocked.
            let apart = destination.lists().is_empty()
                && !destination.addrs.meets(&all)
                && !destination.listed().meets(&all)
                && leads.iter().all(|host| !aliases.contains(host) && !covered(&wildcards, host));
            if apart {
                continue;
            }
            for denial in denied.iter().filter(|denial| denial.clients.meets(&ruleset.clients_of(allow.origins))) {
                denial.meet(ruleset, allow, destination, &leads, &mut meetings);
            }
        }
    }
    meetings
}

/// A denial, with what every comparison needs of it.
struct Denied<'a> {
    rule: &'a Rule,
    clients: AddrSet,
    addrs: AddrSet,
    /// For each destination, the names its answers come from.
    leads: Vec<BTreeSet<&'a Host>>,
}

impl<'a> Denied<'a> {
    fn new(ruleset: &'a Ruleset, rule: &'a Rule) -> Self {
        let leads = rule.destinations.iter().map(|destination| leads(ruleset, destination)).collect();
        Self { rule, clients: ruleset.clients_of(rule.origins), addrs: rule.addrs(), leads }
    }

    fn meet(
        &self,
        ruleset: &Ruleset,
        allow: &Rule,
        open: &Destination,
        open_leads: &BTreeSet<&Host>,
        meetings: &mut Meetings,
    ) {
        for (blocked, leads) in self.rule.destinations.iter().zip(&self.leads) {
            // A name that is blocked and allowed is blocked: nothing is to be told apart, but where a vendor's list goes on
            // behind it.
            if open.lists().is_empty()
                && !open.names().is_empty()
                && open.names().iter().all(|name| blocked.names().iter().any(|b| b.covers(name)))
            {
                continue;
            }
            let addrs = blocked.addrs.and(&open.all());
            let mut aliases: BTreeSet<Host> = leads.intersection(open_leads).map(|&host| host.clone()).collect();
            aliases.extend(open_leads.iter().filter(|host| covered(blocked.names(), host)).map(|&host| host.clone()));
            aliases.extend(leads.iter().filter(|host| covered(open.names(), host)).map(|&host| host.clone()));
            // A name below an allowed wildcard is no alias: it is told apart by name, and by address where no list is.
            if open.lists().is_empty() {
                aliases.retain(|host| !is_named_under(host, blocked.names(), open.names()));
            }
            if addrs.is_empty() && aliases.is_empty() {
                continue;
            }
            let meeting = meetings.entry((blocked.endpoint.clone(), open.endpoint.clone())).or_default();
            meeting.denies.insert(self.rule.key.clone());
            meeting.allows.insert(allow.key.clone());
            let through = |id: &&Id| ruleset.lists.get(id).is_some_and(|list| blocked.addrs.meets(&list.addrs));
            meeting.lists.extend(open.lists().iter().filter(through).cloned());
            meeting.addrs = meeting.addrs.union(&addrs);
            meeting.aliases.extend(aliases);
        }
    }
}

/// Whether a host is the blocked name itself, and the allowed pattern a wildcard above it.
fn is_named_under(host: &Host, blocked: &[NamePattern], open: &[NamePattern]) -> bool {
    let exact = NamePattern::Exact(host.clone());
    blocked.contains(&exact) && open.iter().any(|name| name.exact().is_none() && name.covers(&exact))
}

/// The names that a destination's answers come from: its own, and those their chains lead through.
fn leads<'a>(ruleset: &'a Ruleset, destination: &'a Destination) -> BTreeSet<&'a Host> {
    let exact = destination.names().iter().filter_map(|name| Some((name, name.exact()?)));
    exact.flat_map(|(name, host)| std::iter::once(host).chain(ruleset.aliases(name))).collect()
}

fn covered<'a>(
    patterns: impl IntoIterator<Item = &'a (impl std::borrow::Borrow<NamePattern> + 'a)>,
    host: &Host,
) -> bool {
    let host = NamePattern::Exact(host.clone());
    patterns.into_iter().any(|pattern| pattern.borrow().covers(&host))
}

/// Does what the site decided before anything is compared: what goes to the proxy has no address any more, and what is
/// dropped no name either.
pub(super) fn apply(ruleset: &mut Ruleset, shared: &BTreeMap<Endpoint, Shared>) {
    let allows = ruleset.rules.iter_mut().filter(|rule| rule.action == Action::Allow);
    for destination in allows.flat_map(|rule| &mut rule.destinations) {
        let Some(Shared { choice, reason, .. }) = shared.get(&destination.endpoint) else { continue };
        let gap = match choice {
            // A denial has taken it back already.
            _ if matches!(destination.gap.as_deref(), Some(Gap::Denied(_))) => continue,
            Choice::Accept(_) => continue,
            Choice::Proxy => Gap::Proxied(reason.clone()),
            Choice::Drop => {
                destination.names = Names::none();
                Gap::Dropped(reason.clone())
            }
        };
        destination.addrs = AddrSet::new();
        destination.widened = None;
        destination.gap = Some(gap.into());
    }
}

/// Takes the meetings that the site accepts from what is denied by address, and keeps those it did not decide on.
pub(super) fn accept(ruleset: &mut Ruleset, shared: &BTreeMap<Endpoint, Shared>, findings: &mut Findings) {
    let mut meetings = find(ruleset);
    meetings.retain(|(blocked, open), meeting| {
        let Some(Shared { choice: Choice::Accept(with), reason, span }) = shared.get(open) else { return true };
        if !with.contains(blocked) {
            return true;
        }
        let denials = ruleset.rules.iter_mut().filter(|rule| meeting.denies.contains(&rule.key));
        for destination in denials.flat_map(|rule| &mut rule.destinations).filter(|d| d.endpoint == *blocked) {
            // Where the two have one alias, the others may be the allowed name's tomorrow: then that lock has them for both.
            destination.addrs = destination.addrs.minus(&meeting.addrs);
            let accepted = destination.accepted.get_or_insert_default();
            accepted.at = accepted.at.union(&meeting.addrs);
            accepted.reasons.insert(reason.clone());
        }
        let message =
            format!("blocked `{blocked}` can be reached where allowed `{open}` is{}: {reason}", what(meeting));
        findings.push(
            Diagnostic::new(Code::SharedAccepted, message)
                .at(span.clone(), "")
                .help("rules by address let it through there; a proxy and name servers still stop it by name"),
        );
        false
    });
    for (open, decided) in shared {
        let Choice::Accept(with) = &decided.choice else { continue };
        let used = |blocked: &&Endpoint| {
            ruleset
                .rules
                .iter()
                .flat_map(|rule| &rule.destinations)
                .any(|d| d.endpoint == **blocked && d.accepted.is_some())
        };
        for blocked in with.iter().filter(|blocked| !used(blocked)) {
            let message = format!("`{blocked}` and `{open}` share no address now");
            findings.push(
                Diagnostic::new(Code::IdleStrict, message)
                    .at(decided.span.clone(), "")
                    .help("what is accepted here is not needed as long as that is so"),
            );
        }
    }
    ruleset.meetings = meetings;
}

/// Where the two meet, in words, to stand behind them.
fn what(meeting: &Meeting) -> String {
    let mut text = String::new();
    if !meeting.addrs.is_empty() {
        text += &format!(" ({})", list_of(meeting.addrs.shorts()));
    }
    text
}

/// Says every meeting that nobody decided on: an error, for targets that go by address.
pub fn report(ruleset: &Ruleset, findings: &mut Findings) {
    for ((blocked, open), meeting) in &ruleset.meetings {
        let Meeting { denies, allows, addrs, lists, aliases } = meeting;
        let share = match (addrs.is_empty(), aliases.is_empty()) {
            (false, _) => format!("share {}", list_of(addrs.shorts())),
            (true, _) => format!("both lead through {}", list_of(aliases)),
        };
        let mut through = String::new();
        if !lists.is_empty() {
            through += &format!(" through list {}", list_of(lists));
        }
        for endpoint in [blocked, open] {
            let chain = chain(ruleset, endpoint);
            if !chain.is_empty() {
                through += &format!("; `{endpoint}` leads to {chain}");
            }
        }
        let message = format!(
            "blocked `{blocked}` ({}) and allowed `{open}` ({}) {share}{through}",
            list_of(denies),
            list_of(allows)
        );
        let fewer = if lists.is_empty() {
            ""
        } else {
            ", take the allowed name out of the list's `for`, or take fewer parts of the list with `path`"
        };
        let choice = match open {
            Endpoint::Net(_) => "drop      # or: accept, with: [{blocked}]",
            _ => "proxy     # by name, through Squid; or: drop; or: accept, with: [{blocked}]",
        };
        let choice = choice.replace("{blocked}", &blocked.to_string());
        let opens = ruleset.rules.iter().find(|rule| allows.contains(&rule.key));
        let diagnostic = Diagnostic::new(Code::SharedAddress, message);
        let diagnostic = opens.iter().fold(diagnostic, |d, rule| d.at(rule.callout.span.clone(), "allowed here"));
        findings.push(diagnostic.help(format!(
            "rules by address cannot tell the two apart: leave one out with `leave-out`{fewer}, or decide in the profile:\n  shared:\n    - host: \"{open}\"\n      choice: {choice}\n      reason: why"
        )));
    }
}

/// The aliases of an endpoint's hosts, as its answers lead through them.
fn chain(ruleset: &Ruleset, endpoint: &Endpoint) -> String {
    let Endpoint::Name(name) = endpoint else { return String::new() };
    let aliases = ruleset.aliases(name);
    aliases.iter().map(|alias| format!("`{alias}`")).collect::<Vec<_>>().join(", ")
}

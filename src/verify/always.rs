//! What is asserted of any site, whatever its profile says: what no rule allows is denied, both families are treated
//! together, what strict mode blocks cannot be reached, and nobody is locked out.

use std::collections::BTreeSet;

use super::{Case, Decider, Judge, Outcome, Packet, Ruling, everything};
use crate::addrs::{AddrSet, is_too_wide};
use crate::assertion::{Flow, Sender, To, Wanted};
use crate::callout::{Endpoint, Origin};
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::{Host, NamePattern};
use crate::port::{Port, Protocol, merge};
use crate::profile::{Profile, Server};
use crate::proof::{Answer, Entry, Proof, Verdict as Claim};
use crate::ruleset::{self, Action, ClientGroup, Rule, Ruleset, Verdict};

/// Every assertion of this kind: its word, and what it is about.
const ALL: [(&str, &str); 4] = [
    ("default-deny", "what no rule allows is denied"),
    ("both-families", "IPv4 and IPv6 are limited together"),
    ("telemetry", "what strict mode blocks cannot be reached"),
    ("no-lockout", "DNS, time and the way to the web interface stay open"),
];

/// A port that no rule needs to name for a question about all of them.
const ANY_PORT: u16 = 443;
/// What is asserted of administrators.
const WEB: &str = "admin reaches the web interface";
/// Where the web interface and the shell of an appliance are.
const MANAGEMENT: [u16; 3] = [443, 80, 22];

pub(super) fn outcomes(
    ruleset: &Ruleset,
    judges: &[Judge<'_>],
    profile: &Profile,
    proof: Option<&Proof>,
) -> Vec<Outcome> {
    let cases = [
        default_deny(judges),
        both_families(ruleset, judges),
        telemetry(ruleset, proof),
        no_lockout(ruleset, judges, profile),
    ];
    let outcome = |((word, title), cases): ((&'static str, &str), Vec<Case>)| Outcome {
        always: Some(word),
        title: title.to_owned(),
        span: None,
        cases,
    };
    ALL.into_iter().zip(cases).map(outcome).collect()
}

/// A failure at one rule.
fn at_rule(what: &str, target: &'static str, code: Code, why: String, rule: &Rule, help: &str) -> Case {
    let finding = Diagnostic::new(code, why.clone()).at(rule.callout.span.clone(), "").help(help);
    Case { rule: Some(Decider::of(rule)), ..Case::fails(what, Some(target), why, vec![finding]) }
}

fn default_deny(judges: &[Judge<'_>]) -> Vec<Case> {
    if judges.is_empty() {
        return vec![Case::skipped("clients are denied the rest", None, "no target here lets traffic out")];
    }
    judges.iter().flat_map(|judge| denied_by_default(judge)).collect()
}

/// Whether a target denies what no rule allows, and no rule allows everything.
fn denied_by_default(judge: &Judge<'_>) -> Vec<Case> {
    let target = judge.target.name;
    let what = "clients are denied the rest";
    let mut faults = Vec::new();
    if judge.wall.audit {
        let why = "in audit mode it logs and denies nothing";
        let finding = Diagnostic::new(Code::NotDefaultDeny, why).help("take `mode: audit` out of the profile");
        faults.push(Case::fails(what, Some(target), why, vec![finding]));
    }
    for (origin, group) in &judge.wall.ruleset.clients {
        let wanted = *origin != Origin::Browser && judge.wall.unseen(*origin).is_none();
        if wanted && !group.addrs.minus(&judge.limited).is_empty() {
            let who = Sender::Origin(*origin);
            let why = format!("clients `{who}` are not denied what no rule allows");
            let finding = Diagnostic::new(Code::NotDefaultDeny, why.clone()).at(group.span.clone(), "");
            faults.push(Case::fails(what, Some(target), why, vec![finding]));
        }
    }
    faults.extend(any(judge));
    faults.extend(probes(judge));
    if faults.is_empty() {
        let why = "nothing that no rule names gets through, and no rule is for everything";
        faults.push(Case::holds(what, Some(target), why));
    }
    faults
}

/// Rules that let limited clients out to everything: to all addresses, to all names of strangers, or on all ports.
fn any(judge: &Judge<'_>) -> Vec<Case> {
    const WHAT: &str = "no rule is for everything";
    let target = judge.target.name;
    let mut faults = Vec::new();
    let fails = |why: String, rule: &Rule, help: &str| at_rule(WHAT, target, Code::NotDefaultDeny, why, rule, help);
    let limited = |clients: &AddrSet| clients.meets(&judge.limited);
    let open = || judge.rules().filter(|(rule, row)| rule.action == Action::Allow && limited(&row.clients));
    for (rule, row) in open() {
        for net in row.addrs.prefixes().iter().filter(|net| is_too_wide(net)) {
            let help = "name the prefixes that are meant: nothing wider than /8, or /16 for IPv6";
            faults.push(fails(format!("`{}` allows {net}", rule.key), rule, help));
        }
        for name in row.names.iter().filter(|name| name.exact().is_none() && name.host().holds_public_suffixes()) {
            let help = "anyone may own a name there: name a domain below it";
            faults.push(fails(format!("`{}` allows {name}", rule.key), rule, help));
        }
        // A proxy carries two ports, whatever a rule says.
        let all = |protocol: &Protocol| judge.wall.carries.contains(&Port::every(*protocol));
        for protocol in Protocol::ALL.into_iter().filter(all) {
            let ports: Vec<Port> = rule.ports_of(protocol).collect();
            if merge(&ports).contains(&Port::every(protocol)) {
                let help = "name the ports the service has";
                faults.push(fails(format!("`{}` allows every port of {protocol}", rule.key), rule, help));
            }
        }
    }
    // Many that are each narrow may be everything together.
    if faults.is_empty() {
        let all: AddrSet = open().map(|(_, row)| &row.addrs).collect();
        for net in all.prefixes().iter().filter(|net| is_too_wide(net)) {
            let why = format!("all rules together allow {net}");
            let finding = Diagnostic::new(Code::NotDefaultDeny, why.clone()).help("name the prefixes that are meant");
            faults.push(Case::fails(WHAT, Some(target), why, vec![finding]));
        }
    }
    faults
}

/// An address and a name that no rule is about, asked for by every kind of limited client: each must be denied.
fn probes(judge: &Judge<'_>) -> Vec<Case> {
    const WHAT: &str = "what no rule names is denied";
    let target = judge.target.name;
    let allows = || judge.rules().filter(|(rule, _)| rule.action == Action::Allow).map(|(_, row)| row);
    let named: AddrSet = allows().map(|row| &row.addrs).collect();
    let unnamed = everything().minus(&named);
    let stranger = Host::parse("not-named-by-any-rule.invalid").ok();
    let kinds = judge.wall.ruleset.clients.iter();
    let limited = kinds.filter(|(origin, _)| **origin != Origin::Browser && judge.wall.unseen(**origin).is_none());
    let clients = judge.representatives(&limited.map(|(_, group)| &group.addrs).collect());
    let mut faults = Vec::new();
    for client in clients {
        for protocol in Protocol::ALL {
            let packet = Packet { client, protocol, port: ANY_PORT, host: stranger.as_ref() };
            let family = |v4: bool| !judge.has_families() || client.is_ipv4() == v4;
            let v4 = unnamed.v4_prefixes().next().filter(|_| family(true)).map(|net| net.into());
            let v6 = unnamed.v6_prefixes().next().filter(|_| family(false)).map(|net| net.into());
            let addrs: AddrSet = v4.into_iter().chain::<Option<ipnet::IpNet>>(v6).collect();
            let by_address = judge.split(packet, addrs).into_iter().map(|(_, verdict)| verdict);
            let by_name = (!matches!(judge.wall.sight, super::Sight::Address)).then(|| judge.by_name(packet));
            let open = |verdict: &Verdict<'_>| matches!(verdict, Verdict::Allow(_) | Verdict::NotOurs);
            if by_address.chain(by_name).any(|verdict| open(&verdict)) {
                let why = format!("{client} gets through to what no rule names, by {protocol}");
                let finding = Diagnostic::new(Code::NotDefaultDeny, why.clone());
                faults.push(Case::fails(WHAT, Some(target), why, vec![finding]));
            }
        }
    }
    faults
}

fn both_families(ruleset: &Ruleset, judges: &[Judge<'_>]) -> Vec<Case> {
    let what = "no client is limited in one family alone";
    let by_address: Vec<&Judge<'_>> = judges.iter().filter(|judge| judge.has_families()).collect();
    if by_address.is_empty() {
        return vec![Case::skipped(what, None, "no target here goes by the address of a client")];
    }
    let mut found = Findings::default();
    ruleset::one_family(ruleset, &mut found);
    let faults = found.iter().map(|finding| Case::fails(what, None, finding.message.clone(), vec![finding.clone()]));
    let mut cases: Vec<Case> = faults.collect();
    // A list of prefixes knows no interface, so what is to hold for all IPv6 there is for somebody else to see to.
    for judge in by_address.iter().filter(|judge| judge.wall.no_interface) {
        if ruleset.ipv6 == crate::settings::Ipv6::DenyInterface {
            let why = "no list can say that all IPv6 of an interface is denied";
            cases.push(Case::skipped(what, Some(judge.target.name), why));
        }
    }
    if cases.is_empty() {
        cases.push(Case::holds(what, None, "every client has both, or all IPv6 of its interface is denied"));
    }
    cases
}

fn telemetry(ruleset: &Ruleset, proof: Option<&Proof>) -> Vec<Case> {
    let what = "blocked callouts are stopped";
    if ruleset.blocked.is_empty() {
        return vec![Case::skipped(what, None, "strict mode is off")];
    }
    let Some(proof) = proof else { return vec![Case::skipped(what, None, "there is no proof")] };
    let mut cases: Vec<Case> = proof.entries.iter().flat_map(|entry| blocked(ruleset, entry)).collect();
    if !proof.undecided.is_empty() {
        let mut found = Findings::default();
        ruleset::sharing::report(ruleset, &mut found);
        let meeting = |finding: &Diagnostic| {
            Case::fails("blocked and allowed names lie apart", None, finding.message.clone(), vec![finding.clone()])
        };
        // What follows from them is said with them.
        cases.retain(|case| case.state != super::State::Fails || !case.why.starts_with(NO_FILES));
        cases.extend(found.iter().map(meeting));
    }
    cases
}

/// How the proof says that a target has no files.
const NO_FILES: &str = "no files can be made";

/// What is proven of one blocked callout.
fn blocked(ruleset: &Ruleset, entry: &Entry) -> Vec<Case> {
    let what = format!("{} is stopped", entry.callout.id);
    match entry.answer() {
        Answer::No => vec![Case::holds(what, None, format!("stopped by {}", stopping(entry)))],
        Answer::NotCovered => {
            vec![Case::skipped(what, None, "it is of clients that the profile does not name, or that no target sees")]
        }
        Answer::Yes => {
            let open = entry.stops.iter().filter_map(|stop| match &stop.verdict {
                Claim::Open(why) => Some((stop.target, why)),
                _ => None,
            });
            let rule = ruleset.rules.iter().find(|rule| rule.callout.id == entry.callout.id);
            let case = |(target, why): (&'static str, &String)| {
                let message = format!("`{}` can be reached: {why}", entry.callout.id);
                let finding = Diagnostic::new(Code::TelemetryOpen, message)
                    .at(entry.callout.span.clone(), "blocked")
                    .help("`outgate prove` says of each target what stops it");
                let failed = Case::fails(what.clone(), Some(target), why.clone(), vec![finding]);
                Case { rule: rule.map(Decider::of), ..failed }
            };
            open.map(case).collect()
        }
    }
}

fn stopping(entry: &Entry) -> String {
    let targets: BTreeSet<&str> = entry.stops.iter().filter(|stop| !stop.places.is_empty()).map(|s| s.target).collect();
    targets.into_iter().collect::<Vec<_>>().join(", ")
}

fn no_lockout(ruleset: &Ruleset, judges: &[Judge<'_>], profile: &Profile) -> Vec<Case> {
    let mut cases = Vec::new();
    let by_address: Vec<&Judge<'_>> = judges.iter().filter(|judge| judge.has_families()).collect();
    if by_address.is_empty() {
        return vec![Case::skipped("nobody is locked out", None, "no target here goes by the address of a client")];
    }
    for (kind, title) in [("dns", "its DNS servers"), ("ntp", "its time servers")] {
        let what = format!("nas reaches {title}");
        let own = profile.servers.iter().filter(|(name, _)| name.value == kind).flat_map(|(_, servers)| servers);
        let own: Vec<&Server> = own.collect();
        if own.is_empty() {
            cases.push(Case::skipped(what, None, format!("the profile names no `{kind}` servers")));
            continue;
        }
        for judge in &by_address {
            let mut faults: Vec<Case> = own.iter().filter_map(|server| cut_off(judge, kind, &what, server)).collect();
            if faults.is_empty() {
                faults.push(Case::holds(what.clone(), Some(judge.target.name), "every one, on every port"));
            }
            cases.extend(faults);
        }
    }
    let (admin, nas) = (ruleset.clients.get(&Origin::Browser), ruleset.clients.get(&Origin::Nas));
    match admin.zip(nas) {
        Some((admin, nas)) => cases.extend(by_address.iter().map(|judge| management(admin, nas, judge))),
        None => cases.push(Case::skipped(WEB, None, "the profile names no `admin` clients")),
    }
    cases
}

/// Whether the appliance cannot reach a server that the profile names for it.
fn cut_off(judge: &Judge<'_>, kind: &str, what: &str, server: &Server) -> Option<Case> {
    let target = judge.target.name;
    let fails = |why: String, rule: Option<&Rule>, help: &str| {
        let message = format!("the appliance is cut off from its `{kind}` server `{}`: {why}", server.endpoint);
        let mut finding = Diagnostic::new(Code::LockedOut, message).at(server.span.clone(), "").help(help);
        if let Some(rule) = rule {
            finding = finding.at(rule.callout.span.clone(), "by this entry");
        }
        Case { rule: rule.map(Decider::of), ..Case::fails(what, Some(target), why, vec![finding]) }
    };
    let mine = judge.rules().map(|(rule, _)| rule).filter(|rule| {
        rule.callout.slot.as_ref().is_some_and(|slot| slot.as_str() == kind)
            && rule.origins.contains(Origin::Nas)
            && rule.destinations.iter().any(|d| d.endpoint == server.endpoint)
    });
    let mine: Vec<&Rule> = mine.collect();
    if mine.is_empty() {
        return Some(fails("no rule is for it".to_owned(), None, "take its entry out of `leave-out`"));
    }
    let to = match &server.endpoint {
        Endpoint::Net(net) => To::Net(*net),
        Endpoint::Name(NamePattern::Exact(host)) => To::Host(host.clone()),
        Endpoint::Name(NamePattern::Below(_)) | Endpoint::Service(_) => return None,
    };
    let ports = mine.iter().flat_map(|rule| server.ports.as_deref().unwrap_or(&rule.ports));
    ports.collect::<BTreeSet<_>>().into_iter().find_map(|&port| {
        let flow = Flow { wanted: Wanted::Allow, to: to.clone(), port, span: server.span.clone() };
        match judge.rule_on(Sender::Origin(Origin::Nas), &flow) {
            Ruling::Bad(why, rule, help) => Some(fails(format!("{port}: {why}"), rule, &help)),
            Ruling::Good(..) | Ruling::NotHere(_) => None,
        }
    })
}

/// Whether the administrators' machines can open the web interface, as far as these rules are in the way. What the
/// appliance answers is no new connection, and passes every target by its state; no rule set says that.
fn management(admin: &ClientGroup, nas: &ClientGroup, judge: &Judge<'_>) -> Case {
    let target = judge.target.name;
    let what = WEB;
    if let Some(why) = judge.wall.unseen(Origin::Browser) {
        return Case::skipped(what, Some(target), why);
    }
    let machines = admin.addrs.minus(&nas.addrs);
    let locked = |why: String, rule: Option<&Rule>, help: &str| {
        let message = format!("administrators are cut off from the web interface: {why}");
        let mut finding = Diagnostic::new(Code::LockedOut, message).at(admin.span.clone(), "").help(help);
        if let Some(rule) = rule {
            finding = finding.at(rule.callout.span.clone(), "by this entry");
        }
        Case { rule: rule.map(Decider::of), ..Case::fails(what, Some(target), why, vec![finding]) }
    };
    // A denial on any port at all.
    let denial = judge
        .rules()
        .find(|(rule, row)| rule.action == Action::Deny && row.clients.meets(&machines) && row.addrs.meets(&nas.addrs));
    if let Some((rule, _)) = denial {
        let help = "an address of the appliance is no place for what is blocked: look at that entry";
        return locked(format!("`{}` denies them an address of the appliance", rule.key), Some(rule), help);
    }
    // Some of a wide prefix may be clients of another kind; all of them may not.
    let cut = |client: &std::net::IpAddr| {
        let family: AddrSet =
            nas.addrs.prefixes().into_iter().filter(|net| net.addr().is_ipv4() == client.is_ipv4()).collect();
        let open = |port: u16| {
            let packet = Packet { client: *client, protocol: Protocol::Tcp, port, host: None };
            judge.split(packet, family.clone()).iter().all(|(_, v)| matches!(v, Verdict::Allow(_) | Verdict::NotOurs))
        };
        !family.is_empty() && !MANAGEMENT.iter().copied().any(open)
    };
    let parts = judge.representatives(&machines);
    for v4 in [true, false] {
        let mut of_family = parts.iter().filter(|client| client.is_ipv4() == v4).peekable();
        if of_family.peek().is_some() && of_family.all(cut) {
            let why = "they are among clients that are denied what no rule allows";
            return locked(why.to_owned(), None, "name other addresses under `clients: admin:`");
        }
    }
    Case::holds(what, Some(target), "no rule denies it")
}

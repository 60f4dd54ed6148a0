//! Plain lists of addresses and names for whatever outgate does not know, and one table that says what they are for.
//!
//! A list knows neither ports nor clients. So there is one for each set of clients and ports, named by both, and none
//! that joins two: whoever uses it in a rule with the clients and ports of its name opens what the model opens.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use super::loss::{self, Loss};
use super::rows::{self, Cell, Rows, Table};
use super::wall::{Sight, Wall};
use super::{
    By, Header, Layer, Mark, Page, Plan, Stop, Target, Texts, Value, address_losses, fit, lists_left_out, name_losses, names,
    names_by_address,
};
use crate::addrs::AddrSet;
use crate::callout::Endpoint;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::NamePattern;
use crate::port::{Port, Protocol};
use crate::ruleset::{Action, Rule, Ruleset, prune};
use crate::settings::{Comments, Hold, Ipv6, Lists, Settings};
use crate::text::Id;

/// The target.
pub const TARGET: Target = Target {
    name: "lists",
    about: "plain lists of addresses and names, one for each set of clients and ports, for any router or service that reads them",
    layer: Layer::Addresses,
    limits: &[
        "a list knows neither ports nor clients: use each only in a rule with those of its name, or it opens more than the profile",
        "nor does it know order: every rule with a `deny_` list comes before every rule with an `allow_` list, and a denial of the rest, for `clients_limited`, comes last",
        "`ipv6: deny-interface` is in no list: deny all IPv6 on the clients' interface there by hand",
        "two names on one address are one in a list of addresses; wildcards stand in lists of names alone",
        "a list that is no longer written stays with whoever read it: take its rule out; `generate` says which are removed",
        "`hold: names` needs no lock, and leaves out what a site names by address",
    ],
    main: "rules.json",
    owns: &["lists/losses.json", "lists/rules.json", "lists/allow_*.txt", "lists/deny_*.txt", "lists/clients_*.txt"],
    check: &[],
    templates: &[
        ("lists/list.txt.j2", include_str!("../../templates/lists/list.txt.j2")),
        ("lists/clients.txt.j2", include_str!("../../templates/lists/clients.txt.j2")),
        ("lists/rules.json.j2", include_str!("../../templates/lists/rules.json.j2")),
    ],
    chosen: |settings: &Settings| settings.lists.is_some(),
    wall,
    plan,
    stops,
    handle: |_, rule| Some(rule.map_or("rules.json, deny_rest".to_owned(), |rule| format!("rules.json, id \"{}\"", rule.key))),
    resolves: |_, _| None,
    retire: None,
};

/// Longest name of a list without its kind; longer ones end in a hash.
const NAME_MAX: usize = 80;

#[derive(Serialize)]
struct Contents<'a> {
    header: &'a Header,
    deny_ipv6: bool,
    clients: Vec<Clients>,
    lists: &'a [List],
    /// The vendors' lists that rules are widened by, each combination once.
    ranges: Vec<Vec<String>>,
}

#[derive(Clone, Serialize)]
struct Clients {
    name: String,
    prefixes: Vec<String>,
}

/// The lists of one set of clients and ports.
#[derive(Clone, Serialize)]
struct List {
    name: String,
    action: &'static str,
    clients: String,
    ports: Vec<String>,
    files: Vec<String>,
    /// Its rules.
    rules: Value,
}

#[derive(Serialize)]
struct ListPage<'a> {
    header: Header,
    deny_ipv6: bool,
    comments: bool,
    kind: &'static str,
    list: &'a List,
    whys: Value,
    entries: Value,
}

#[derive(Serialize)]
struct ClientsPage<'a> {
    header: &'a Header,
    comments: bool,
    name: &'a str,
    entries: Value,
}

/// What makes two rules fit into one list.
type Key = (Action, String, Arc<[Port]>);

/// What whoever reads the lists makes of traffic, if he uses each as `rules.json` says.
fn wall(ruleset: &Ruleset) -> Option<Wall<'_>> {
    let wall = Wall { no_interface: true, ..Wall::by_address(ruleset) };
    Some(match ruleset.settings.lists.as_ref().map(|lists| lists.hold) {
        Some(Hold::Names) => Wall {
            ruleset: ruleset.asked_elsewhere(),
            sight: Sight::Name { addresses: false },
            ..wall
        },
        Some(Hold::Both | Hold::Addresses) | None => wall,
    })
}

fn plan(texts: &Texts<'_>, findings: &mut Findings) -> Option<Plan> {
    let ruleset = texts.ruleset;
    let default = Lists::default();
    let settings = ruleset.settings.lists.as_ref().unwrap_or(&default);
    let mut losses = Vec::new();
    // Whoever reads a list of names may be a router, which makes addresses of them.
    let ruleset = if settings.hold == Hold::Names {
        losses.extend(lists_left_out("names alone are held", "use `hold: both`", ruleset));
        ruleset.asked_elsewhere()
    } else {
        ruleset.names_as_addresses()
    };
    let ruleset = &*ruleset;
    losses.extend(self::losses(ruleset, settings.hold, findings));
    let header = Header::new(ruleset, &losses);
    let deny_ipv6 = ruleset.ipv6 == Ipv6::DenyInterface;
    let mut groups: BTreeMap<Key, Vec<&Rule>> = BTreeMap::new();
    // Most rules are for the same clients.
    let mut senders = BTreeMap::new();
    for rule in &ruleset.rules {
        let sender: &(String, AddrSet) = senders.entry((rule.action, rule.origins)).or_insert_with(|| {
            let origins = ruleset.bound(rule);
            (ruleset.group_name(origins), ruleset.clients_of(origins))
        });
        let (name, addrs) = sender;
        if !addrs.is_empty() {
            groups.entry((rule.action, name.clone(), Arc::clone(&rule.ports))).or_default().push(rule);
        }
    }
    let senders = senders.into_values().filter(|(_, addrs)| !addrs.is_empty());
    let mut clients: BTreeMap<String, AddrSet> = senders.collect();
    // Whom the denial of the rest is for.
    clients.insert("limited".to_owned(), ruleset.limited());
    let comments = settings.comments == Comments::Hash;
    let (mut pages, mut lists) = (Vec::new(), Vec::new());
    let (mut ranges, mut rules_in_all) = (BTreeMap::new(), 0);
    for ((action, clients, ports), rules) in &groups {
        let ports: Vec<String> = ports.iter().map(Port::to_string).collect();
        let contents = contents(rules, settings.hold);
        let name = name(*action, clients, &ports);
        // Cut names can meet; the second must not take the first one's place.
        if lists.iter().any(|list: &List| list.name == name) {
            findings.push(
                Diagnostic::new(Code::TargetLimit, format!("lists: two lists would have one name: {name}"))
                    .help("give one of their entries fewer ports"),
            );
        }
        let rules_of = rules_as_rows(rules, &mut ranges);
        rules_in_all += rules.len();
        let list = List {
            files: contents.iter().map(|(kind, _)| format!("{name}_{kind}.txt")).collect(),
            action: action.as_str(),
            clients: clients.clone(),
            ports,
            rules: Value::from_object(rules_of),
            name,
        };
        let keys: BTreeSet<&str> = rules.iter().map(|rule| rule.key.as_str()).collect();
        for (kind, entries) in contents {
            // Of what is not expressed, what is missing here.
            let ours = |loss: &&String| loss.split_once(':').is_some_and(|(key, _)| keys.contains(key));
            let by_address = matches!(kind, "v4" | "v6");
            let whys = if comments { reasons(rules, by_address.then_some(ruleset)) } else { Value::UNDEFINED };
            let header = Header { losses: header.losses.iter().filter(ours).cloned().collect(), ..header.clone() };
            let about = entries.filled_length() + 200 * rules.len();
            let entries = Value::from_object(entries);
            let values = ListPage { header, deny_ipv6, comments, kind, list: &list, whys, entries };
            pages.push(Page::new(format!("{}_{kind}.txt", list.name), "lists/list.txt.j2", values).about(about));
        }
        lists.push(list);
    }
    for (name, addrs) in clients.iter().filter(|_| settings.hold != Hold::Names) {
        for (kind, entries) in families(addrs) {
            let entries = Value::from_object(entries);
            let values = ClientsPage { header: &header, comments, name, entries };
            pages.push(Page::new(format!("clients_{name}_{kind}.txt"), "lists/clients.txt.j2", values));
        }
    }
    let clients = clients.into_iter().map(|(name, addrs)| Clients { prefixes: addrs.shorts(), name }).collect();
    let mut ranges: Vec<_> = ranges.into_iter().collect();
    ranges.sort_unstable_by_key(|(_, place)| *place);
    let ranges = ranges.into_iter().map(|(ids, _)| ids.into_iter().map(Id::to_string).collect()).collect();
    let contents = Contents { header: &header, deny_ipv6, clients, lists: &lists, ranges };
    pages.push(Page::new("rules.json", "lists/rules.json.j2", contents).about(400 * rules_in_all));
    Some(Plan { pages, losses })
}

/// Rules as rows of the table; of the vendors' lists that widen each, the place of their combination among `ranges`.
fn rules_as_rows<'a>(rules: &[&'a Rule], ranges: &mut BTreeMap<BTreeSet<&'a Id>, usize>) -> Table {
    let mut rows = Rows::new(&["id", "title", "action", "reason", "class", "source", "names", "ranges"]).room_for(rules.len());
    for rule in rules {
        let Rule { key, callout, action, reason, .. } = rule;
        let next = ranges.len();
        let place = ranges.entry(rule.lists()).or_insert(next);
        rows.push([
            key,
            &callout.title,
            &action.as_str(),
            &reason.as_str(),
            &callout.class.as_str(),
            &callout.first_source(),
            &names(rule),
            place,
        ]);
    }
    rows.done()
}

/// Why the rules of a list are there, and where they lead; in a list of addresses, with the lists that widen them.
fn reasons(rules: &[&Rule], by_address: Option<&Ruleset>) -> Value {
    let mut rows = Rows::new(&["id", "title", "reason", "source", "names"]).room_for(rules.len());
    for rule in rules {
        let Rule { key, callout, reason, .. } = rule;
        let leads = |out: &mut String| match by_address {
            Some(ruleset) => names_by_address(rule, ruleset)(out),
            None => names(rule)(out),
        };
        rows.push([key, &callout.title, &reason.as_str(), &callout.first_source(), &leads]);
    }
    Value::from_object(rows.done())
}

/// What stops a denial: whoever uses the lists as their table says.
fn stops(ruleset: &Ruleset, rule: &Rule) -> Stop {
    let own = |by| Mark::holds(by, "rules.json", format!("\"id\": \"{}\"", rule.key));
    let rest = Mark::holds(By::Address, "rules.json", "\"deny_rest\": \"limited\"");
    match ruleset.settings.lists.as_ref().map(|lists| lists.hold) {
        Some(Hold::Names) if rule.destinations.iter().any(|d| d.accepted.is_none() && !d.names().is_empty()) => {
            Stop::Rule(vec![own(By::Name)])
        }
        _ => super::stops_by_address(ruleset, rule, own(By::Address), rest),
    }
}

/// `allow_nas_tcp443`: the name says what the list may be used for.
fn name(action: Action, clients: &str, ports: &[String]) -> String {
    let all = Protocol::ALL.map(|protocol| Port::every(protocol).to_string());
    let ports = if ports == all {
        "any".to_owned()
    } else {
        let word = |port: &String| port.split_once('/').map(|(numbers, protocol)| format!("{protocol}{numbers}"));
        ports.iter().filter_map(word).collect::<Vec<_>>().join("_")
    };
    fit(&format!("{}_{clients}_{ports}", action.as_str()), NAME_MAX)
}

/// The lists of a group, by kind. A list is there though it is empty now, where only the answers decide: a reader keeps
/// what it has when a list goes away.
fn contents(rules: &[&Rule], hold: Hold) -> Vec<(&'static str, Table)> {
    let mut contents = Vec::new();
    let is_wildcard = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Name(NamePattern::Below(_)));
    let endpoints = || rules.iter().flat_map(|rule| &rule.destinations).map(|destination| &destination.endpoint);
    let listed = rules.iter().any(|rule| !rule.lists().is_empty());
    if hold != Hold::Names && (listed || endpoints().any(|endpoint| !is_wildcard(endpoint))) {
        let addrs: AddrSet = rules.iter().map(|rule| rule.addrs()).collect::<Vec<_>>().iter().collect();
        contents.extend(families(&addrs));
    }
    if hold != Hold::Addresses {
        let (names, wildcards): (Vec<NamePattern>, Vec<NamePattern>) = prune(rules.iter().flat_map(|rule| rule.names()))
            .into_iter()
            .partition(|name| matches!(name, NamePattern::Exact(_)));
        let lines = |names: &[NamePattern]| as_entries(&rows::lines(names, |name, out| _ = write!(out, "{name}")));
        if endpoints().any(|endpoint| !is_wildcard(endpoint) && !matches!(endpoint, Endpoint::Net(_))) {
            contents.push(("names", lines(&names)));
        }
        if !wildcards.is_empty() {
            contents.push(("wildcards", lines(&wildcards)));
        }
    }
    contents
}

fn families(addrs: &AddrSet) -> [(&'static str, Table); 2] {
    let v4 = |out: &mut String| addrs.push_v4_list(out, "\n");
    let v6 = |out: &mut String| addrs.push_v6_list(out, "\n");
    [("v4", as_entries(&v4)), ("v6", as_entries(&v6))]
}

/// The entries of a list, a line each.
fn as_entries(entries: &dyn Cell) -> Table {
    rows::lines_alone(&["entries"], entries)
}

/// What the lists lack, and what every list lacks.
fn losses(ruleset: &Ruleset, hold: Hold, findings: &mut Findings) -> Vec<Loss> {
    let text = "a list knows neither ports nor clients; each is for those of its name alone";
    findings.push(
        Diagnostic::new(Code::OutOfReach, format!("lists: {text}"))
            .help("use each in a rule with its clients and ports, denials first, and last a denial of the rest for `clients_limited`; `rules.json` says which"),
    );
    let mut losses = vec![Loss::general(&loss::PORTS_AND_CLIENTS, text.to_owned())];
    if ruleset.ipv6 == Ipv6::DenyInterface {
        let text = "the denial of all IPv6 on the interface of the clients (deny-interface) is in no list";
        losses.push(Loss::general(&loss::IPV6_UNDENIED, text.to_owned()));
    }
    if hold != Hold::Names {
        losses.extend(address_losses("lists", ruleset, findings));
        return losses;
    }
    losses.extend(name_losses("lists", &ruleset.rules, findings));
    for rule in &ruleset.rules {
        for destination in rule.destinations.iter().filter(|d| matches!(d.endpoint, Endpoint::Net(_))) {
            let text = format!("{}: {} is an address, no list of names holds it", rule.key, destination.endpoint);
            match rule.action {
                Action::Deny if ruleset.is_sole_denial(rule) => findings.push(
                    Diagnostic::new(Code::Inexpressible, format!("lists: {text}, and it is to be blocked"))
                        .at(rule.callout.span.clone(), "")
                        .help("use `hold: both`"),
                ),
                Action::Deny => {}
                Action::Allow => {
                    losses.push(Loss::of(rule, &loss::ADDRESS_AMONG_NAMES, text).endpoint(&destination.endpoint));
                }
            }
        }
    }
    losses
}

//! OPNsense: an alias import, rules as CSV (26.1 and later) or as API payloads (24.7 to 25.7), the steps that bring them
//! onto the firewall, and the list of what is on it and no longer here.

mod retired;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::loss::{self, Loss};
use super::rows::Rows;
use super::wall::{Sight, Wall};
use super::{
    By, Consequence, Header, Layer, Mark, Page, Plan, RuleTexts, Stop, Target, Texts, Value, address_losses, consequence, fit, lists_left_out, missed_denial,
    name_losses, sharing_unknown,
};
use crate::addrs::AddrSet;
use crate::callout::Origins;
use crate::digest::sha256;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::NamePattern;
use crate::port::{Port, Protocol};
use crate::ruleset::{Action, Gap, Rule, Ruleset};
use crate::settings::{Denied, Ipv6, Opnsense, OpnsenseVersion, ResolveAt, Settings};
use crate::text::Id;

/// The target.
pub const TARGET: Target = Target {
    name: "opnsense",
    about: "OPNsense 24.7 to 26.7: aliases to import, rules to upload (26.1 on) or to send by API (24.7 to 25.7)",
    layer: Layer::Names,
    limits: &[
        "no wildcards: an alias holds names that can be looked up",
        "an alias of names is a list of addresses in the end: two names on one address are one",
        "OPNsense looks the names up itself: its answers are not judged, and when its DNS fails their addresses are gone at the next refresh; `resolve: lock` pins them instead",
        "an upload adds and updates rules and removes none: `retired.json` says what is no longer here, and must be deleted on the firewall",
        "from 26.7 on the factory rules `Default allow LAN to any` come first on `lan`: disable them",
    ],
    main: "aliases.json",
    owns: &[
        "opnsense/aliases.json",
        "opnsense/apply.md",
        "opnsense/losses.json",
        "opnsense/retired.json",
        "opnsense/rules.csv",
        "opnsense/rules.json",
    ],
    check: &[],
    templates: &[
        ("opnsense/aliases.json.j2", include_str!("../../templates/opnsense/aliases.json.j2")),
        ("opnsense/apply.md.j2", include_str!("../../templates/opnsense/apply.md.j2")),
        ("opnsense/rules.csv.j2", include_str!("../../templates/opnsense/rules.csv.j2")),
        ("opnsense/rules.json.j2", include_str!("../../templates/opnsense/rules.json.j2")),
    ],
    chosen: |settings: &Settings| settings.opnsense.is_some(),
    wall,
    plan,
    stops,
    handle: |_, rule| Some(format!("description \"{}\"", description(rule))),
    resolves: |_, _| None,
    retire: Some(retired::retire),
};

/// From one rule's number to the next: somebody may want to put one between.
const SEQUENCE_STEP: u32 = 10;
/// Longest alias name.
const ALIAS_MAX: usize = 31;
/// Longest description of an alias or rule.
const DESCRIPTION_MAX: usize = 255;

#[derive(Serialize)]
struct Aliases {
    aliases: Value,
}

struct Alias<'a> {
    label: String,
    name: String,
    kind: &'static str,
    counters: bool,
    /// What it holds, one a line.
    content: Cow<'a, str>,
    description: String,
}

#[derive(Serialize)]
struct Rules {
    rows: Value,
}

/// What the steps differ by.
#[derive(Serialize)]
struct Steps<'a> {
    header: Header,
    version: String,
    csv: bool,
    /// Where OPNsense shows these rules.
    menu: &'static str,
    privilege: &'static str,
    /// Whether what is applied can be told to go back by itself.
    savepoint: bool,
    /// Whether the factory's rules come before ours.
    factory_first: bool,
    by_name: bool,
    reject: bool,
    prefix: &'a str,
    interface: &'a str,
    aliases: usize,
    rules: usize,
    first: u32,
    last: u32,
}

/// One rule of OPNsense, for one family or for both.
struct Row<'a> {
    action: &'static str,
    protocol: &'static str,
    source: &'a str,
    destination: &'a str,
    port: &'a str,
    log: &'static str,
    description: &'a str,
}

fn plan(texts: &Texts<'_>, findings: &mut Findings) -> Option<Plan> {
    let ruleset = texts.ruleset;
    let default = Opnsense::on("lan");
    let settings = ruleset.settings.opnsense.as_ref().unwrap_or(&default);
    let (bare, of_bare);
    let (texts, losses) = match settings.resolve {
        ResolveAt::Lock => (texts, address_losses("opnsense", ruleset, findings)),
        ResolveAt::Firewall => {
            // Its answers are minutes old and of its own place.
            let help = "set `resolve: lock` under `targets: opnsense:` to pin the list's prefixes and the answers";
            let mut losses = lists_left_out("OPNsense looks the names up itself", help, ruleset);
            bare = ruleset.asked_elsewhere();
            losses.extend(alias_losses(&bare, findings));
            of_bare = Texts::of(&bare);
            (if matches!(bare, Cow::Borrowed(_)) { texts } else { &of_bare }, losses)
        }
    };
    let ruleset = texts.ruleset;
    let mut plan = Draft::new(settings, ruleset);
    for (rule, texts) in texts.rules() {
        plan.rule(rule, texts);
    }
    plan.last_rules();
    let Draft { aliases, clashes, rows, sequence, .. } = plan;
    findings.extend(clashes.into_iter().map(|clash| {
        Diagnostic::new(Code::TargetLimit, format!("opnsense: two aliases would have one name: {clash}"))
            .help("give one of the entries another id")
    }));
    let rows = rows.done();
    let last = sequence - SEQUENCE_STEP;
    if last > 99_999 {
        findings.push(
            Diagnostic::new(Code::TargetLimit, format!("opnsense: {} rules from sequence {} run past 99999", rows.len(), settings.sequence))
                .help("begin at a lower `sequence`"),
        );
    }
    let header = Header::new(ruleset, &losses);
    let mut aliases: Vec<Alias<'_>> = aliases.into_values().collect();
    if let Some(alias) = aliases.first_mut() {
        // A JSON file has no comments; the first alias tells what the files are.
        alias.description = describe(&format!("{}; made by outgate for {}, answers of {}", alias.description, header.site, header.answered));
    }
    let steps = steps(header, settings, aliases.len(), rows.len(), last);
    let mut alias_rows = Rows::new(&["label", "name", "kind", "counters", "content", "description"]).room_for(aliases.len());
    for Alias { label, name, kind, counters, content, description } in &aliases {
        alias_rows.push([label, name, kind, &if *counters { "1" } else { "0" }, content, description]);
    }
    let aliases = alias_rows.done();
    let (about_rows, about_aliases) = (rows.filled_length(), aliases.filled_length() + 200 * aliases.len());
    let aliases = Value::from_object(aliases);
    let rules = Rules { rows: Value::from_object(rows) };
    let page = if settings.version >= OpnsenseVersion::V26_1 {
        Page::new("rules.csv", "opnsense/rules.csv.j2", rules).about(about_rows)
    } else {
        Page::new("rules.json", "opnsense/rules.json.j2", rules).about(4 * about_rows)
    };
    let pages = vec![
        Page::new("aliases.json", "opnsense/aliases.json.j2", Aliases { aliases }).about(about_aliases),
        Page::new("apply.md", "opnsense/apply.md.j2", steps),
        page,
    ];
    Some(Plan { pages, losses })
}

/// What it makes of traffic. Where it looks names up itself, its addresses are those of the lock as far as anybody knows.
fn wall(ruleset: &Ruleset) -> Option<Wall<'_>> {
    let wall = Wall::by_address(ruleset);
    Some(match ruleset.settings.opnsense.as_ref().map(|opnsense| opnsense.resolve) {
        Some(ResolveAt::Lock) => wall,
        Some(ResolveAt::Firewall) | None => Wall {
            ruleset: ruleset.asked_elsewhere(),
            sight: Sight::Lookup { wildcards: false },
            ..wall
        },
    })
}

/// What stops a denial.
fn stops(ruleset: &Ruleset, rule: &Rule) -> Stop {
    let own = Mark::holds(By::Address, "rules.", description(Some(rule)));
    let rest = Mark::holds(By::Address, "rules.", description(None));
    // Where OPNsense looks names up itself it needs no answer of ours.
    if looks_up(&ruleset.settings) && rule.destinations.iter().any(|d| d.accepted.is_none() && !d.names().is_empty()) {
        return Stop::Rule(vec![own]);
    }
    super::stops_by_address(ruleset, rule, own, rest)
}

/// Whether it looks names up by itself.
fn looks_up(settings: &Settings) -> bool {
    settings.opnsense.as_ref().is_some_and(|own| own.resolve == ResolveAt::Firewall)
}

/// How the description of a rule's rows begins; without a rule, of those that deny the rest.
fn description(rule: Option<&Rule>) -> String {
    format!("outgate {}: ", rule.map_or("denied", |rule| rule.key.as_str()))
}

fn steps(header: Header, settings: &Opnsense, aliases: usize, rules: usize, last: u32) -> Steps<'_> {
    let version = settings.version;
    Steps {
        header,
        version: version.to_string(),
        csv: version >= OpnsenseVersion::V26_1,
        menu: match version {
            OpnsenseVersion::V24_7 | OpnsenseVersion::V25_1 | OpnsenseVersion::V25_7 => "Firewall > Automation > Filter",
            OpnsenseVersion::V26_1 => "Firewall > Rules [new]",
            OpnsenseVersion::V26_7 => "Firewall > Rules",
        },
        privilege: if version >= OpnsenseVersion::V26_1 { "Firewall: Rules [new]" } else { "Firewall: Automation: Filter" },
        savepoint: version <= OpnsenseVersion::V25_1,
        factory_first: version >= OpnsenseVersion::V26_7,
        by_name: settings.resolve == ResolveAt::Firewall,
        reject: settings.denied == Denied::Reject,
        prefix: &settings.prefix,
        interface: &settings.interface,
        aliases,
        rules,
        first: settings.sequence,
        last,
    }
}

/// What an alias of names cannot hold.
fn alias_losses(ruleset: &Ruleset, findings: &mut Findings) -> Vec<Loss> {
    let mut losses = Vec::new();
    for rule in &ruleset.rules {
        for destination in rule.destinations.iter().filter(|d| d.gap.as_deref() == Some(&Gap::Wildcard)) {
            match consequence(ruleset, rule, &Gap::Wildcard) {
                Consequence::Missed => findings.push(missed_denial("opnsense", rule, destination)),
                Consequence::Narrower => {
                    let text = format!("{}: {} is a wildcard, no alias holds it", rule.key, destination.endpoint);
                    losses.push(Loss::of(rule, &loss::WILDCARD, text).endpoint(&destination.endpoint));
                }
                Consequence::NotInLock | Consequence::Covered | Consequence::Nowhere => {}
            }
        }
    }
    losses.extend(name_losses("opnsense", &ruleset.rules, findings));
    losses.extend(sharing_unknown(ruleset));
    losses.extend(loss::names_by_address(ruleset));
    crate::ruleset::one_family(ruleset, findings);
    crate::ruleset::sharing::report(ruleset, findings);
    losses
}

struct Draft<'a> {
    settings: &'a Opnsense,
    ruleset: &'a Ruleset,
    aliases: BTreeMap<String, Alias<'a>>,
    clashes: Vec<String>,
    rows: Rows<11>,
    /// The next rule's number; rules are taken in the order of their numbers.
    sequence: u32,
    /// The clients of rules: most are for the same.
    senders: BTreeMap<(Action, Origins), Sender>,
}

/// Clients, and their alias once there is one.
struct Sender {
    group: String,
    clients: AddrSet,
    alias: Option<String>,
}

impl Sender {
    fn of(rule: &Rule, ruleset: &Ruleset) -> Self {
        let origins = ruleset.bound(rule);
        Self { group: ruleset.group_name(origins), clients: ruleset.clients_of(origins), alias: None }
    }
}

impl<'a> Draft<'a> {
    fn new(settings: &'a Opnsense, ruleset: &'a Ruleset) -> Self {
        let columns = &[
            "uuid", "sequence", "action", "interface", "family", "protocol", "source", "destination", "port", "log",
            "description",
        ];
        Self {
            settings,
            ruleset,
            aliases: BTreeMap::new(),
            clashes: Vec::new(),
            rows: Rows::new(columns).room_for(2 * ruleset.rules.len()),
            sequence: settings.sequence,
            senders: BTreeMap::new(),
        }
    }

    fn rule(&mut self, rule: &'a Rule, texts: RuleTexts<'a>) {
        let ruleset = self.ruleset;
        let sender = self.senders.entry((rule.action, rule.origins)).or_insert_with(|| Sender::of(rule, ruleset));
        if sender.clients.is_empty() {
            return;
        }
        let Some((destination, families)) = self.destination(rule, texts) else { return };
        let source = self.sender(rule);
        let lists: Vec<&str> = rule.lists().into_iter().map(Id::as_str).collect();
        let lists = if lists.is_empty() { String::new() } else { format!(" - list {}", lists.join(" ")) };
        let (key, title, cited) = (rule.key.as_str(), rule.callout.title.as_str(), rule.callout.first_source());
        let description =
            describe(&["outgate ", key, ": ", title, " - ", &rule.reason, " - ", &cited, &lists].concat());
        let action = match (rule.action, self.settings.denied) {
            (Action::Allow, _) => "pass",
            (Action::Deny, Denied::Reject) => "reject",
            (Action::Deny, Denied::Drop) => "block",
        };
        for (protocol, ports) in self.protocols(rule) {
            let port = self.ports(rule, protocol, &ports);
            let row = Row {
                action,
                protocol,
                source: &source,
                destination: &destination,
                port: &port,
                log: if rule.action == Action::Deny { "1" } else { "0" },
                description: &description,
            };
            self.push(rule.key.as_str(), &row, &families);
        }
    }

    fn last_rules(&mut self) {
        let settings = self.settings;
        let action = match settings.denied {
            Denied::Reject => "reject",
            Denied::Drop => "block",
        };
        let source = self.clients("limited", &self.ruleset.limited());
        let row = Row {
            action,
            protocol: "any",
            source: &source,
            destination: "any",
            port: "",
            log: "1",
            description: "outgate denied: whatever no rule allows",
        };
        if self.ruleset.ipv6 == Ipv6::DenyInterface {
            let description = "outgate denied-ipv6: clients have no IPv6 here, so none may pass";
            self.push("denied-ipv6", &Row { source: "any", description, ..row }, &["inet6"]);
        }
        self.push("denied", &row, &["inet", "inet6"]);
    }

    /// Adds a row for all families, as one where the version can: 24.7 has one family a rule.
    fn push(&mut self, key: &str, row: &Row<'_>, families: &[&'static str]) {
        let (prefix, interface) = (&self.settings.prefix, &self.settings.interface);
        let both = families.len() > 1 && self.settings.version > OpnsenseVersion::V24_7;
        for family in if both { &["inet46"] } else { families } {
            let uuid = uuid(&["outgate", prefix, interface, key, row.protocol, family].join("/"));
            self.rows.push([
                &uuid,
                &self.sequence.to_string(),
                &row.action,
                interface,
                family,
                &row.protocol,
                &row.source,
                &row.destination,
                &row.port,
                &row.log,
                &row.description,
            ]);
            self.sequence += SEQUENCE_STEP;
        }
    }

    /// Protocols with their ports; two with the same ports are one, where the version can.
    fn protocols(&self, rule: &Rule) -> Vec<(&'static str, Vec<Port>)> {
        let of = |protocol| rule.ports_of(protocol).collect::<Vec<Port>>();
        let (tcp, udp) = (of(Protocol::Tcp), of(Protocol::Udp));
        let numbers = |ports: &[Port]| ports.iter().map(|p| (p.first(), p.last())).collect::<Vec<_>>();
        if numbers(&tcp) == numbers(&udp) && self.settings.version > OpnsenseVersion::V24_7 {
            return vec![("TCP/UDP", tcp)];
        }
        [("TCP", tcp), ("UDP", udp)].into_iter().filter(|(_, ports)| !ports.is_empty()).collect()
    }

    /// One port or range stands in the rule; several make an alias.
    fn ports(&mut self, rule: &Rule, protocol: &str, ports: &[Port]) -> String {
        if let [port] = ports {
            return port.numbers("-");
        }
        let kind = match protocol {
            "TCP" => "PT",
            "UDP" => "PU",
            _ => "P",
        };
        let name = self.name(kind, &rule.key.underscored());
        let content: Vec<String> = ports.iter().map(|port| port.numbers(":")).collect();
        self.alias(name, "port", content.join("\n").into(), &format!("ports of {}", rule.key))
    }

    /// The alias of a rule's clients. It is made with the first rule that has somewhere to go.
    fn sender(&mut self, rule: &'a Rule) -> String {
        let key = (rule.action, rule.origins);
        let mut sender = self.senders.remove(&key).unwrap_or_else(|| Sender::of(rule, self.ruleset));
        let alias = sender.alias.take().unwrap_or_else(|| self.clients(&sender.group, &sender.clients));
        self.senders.insert(key, Sender { alias: Some(alias.clone()), ..sender });
        alias
    }

    fn clients(&mut self, group: &str, clients: &AddrSet) -> String {
        let name = self.name("C", group);
        let content = clients.to_list("\n");
        self.alias(name, "network", content.into(), &format!("clients: {}", group.replace('_', " and ")))
    }

    /// The alias of a rule's destinations, and the families it can hold.
    fn destination(&mut self, rule: &Rule, texts: RuleTexts<'a>) -> Option<(String, Vec<&'static str>)> {
        let by_name = self.settings.resolve == ResolveAt::Firewall;
        let has = |lines: [&str; 2]| lines.iter().any(|lines| !lines.is_empty());
        let (has_v4, has_v6) = (has([texts.v4(), texts.v4_nets()]), has([texts.v6(), texts.v6_nets()]));
        let named = by_name && rule.destinations.iter().any(|d| !d.names().is_empty());
        let hosts = if named {
            let names = rule.names();
            let names: Vec<String> = names.iter().filter_map(NamePattern::exact).map(ToString::to_string).collect();
            // A name that is accepted at some addresses is denied at the others, as far as the lock knows them.
            let accepted = rule.destinations.iter().filter(|d| d.accepted.is_some()).map(|d| &d.addrs);
            let pinned: AddrSet = accepted.chain([&rule.literals()]).collect();
            let pinned = pinned.minus(&rule.nets());
            let mut hosts = names.join("\n");
            if !hosts.is_empty() && !pinned.is_empty() {
                hosts.push('\n');
            }
            pinned.push_singles(&mut hosts, "\n");
            hosts.into()
        } else {
            Cow::Borrowed(texts.hosts())
        };
        let nets = texts.nets();
        let families = [(named || has_v4, "inet"), (named || has_v6, "inet6")];
        let families = families.into_iter().filter(|(has, _)| *has).map(|(_, family)| family).collect();
        let key = rule.key.underscored();
        let about = [rule.key.as_str(), ": ", rule.callout.title.as_str()].concat();
        let from = |id| Some(format!("; list {id} {}", self.ruleset.lists.get(id)?.from));
        let lists: String = rule.lists().into_iter().filter_map(from).collect();
        let host = (!hosts.is_empty()).then(|| {
            let name = self.name(if nets.is_empty() { "" } else { "H" }, &key);
            self.alias(name, "host", hosts, &about)
        });
        let net = (!nets.is_empty()).then(|| {
            let name = self.name(if host.is_none() { "" } else { "N" }, &key);
            self.alias(name, "network", nets.into(), &format!("{about}{lists}"))
        });
        match (host, net) {
            (Some(host), Some(net)) => {
                let name = self.name("", &key);
                Some((self.alias(name, "networkgroup", format!("{host}\n{net}").into(), &about), families))
            }
            (host, net) => Some((host.or(net)?, families)),
        }
    }

    /// `OG_update_scale`; with a kind, `OGC_nas`. The underscore keeps a mistyped name from passing as a host name.
    fn name(&self, kind: &str, name: &str) -> String {
        fit(&[&self.settings.prefix, kind, "_", name].concat(), ALIAS_MAX)
    }

    fn alias(&mut self, name: String, kind: &'static str, content: Cow<'a, str>, about: &str) -> String {
        let alias = Alias {
            label: uuid(&["outgate/alias/", &name].concat()),
            name: name.clone(),
            kind,
            counters: kind == "host" || kind == "network",
            content,
            description: describe(&["outgate ", about].concat()),
        };
        // Cut names can meet; the second must not take the first one's place.
        if let Some(other) = self.aliases.get(&name).filter(|other| other.content != alias.content) {
            self.clashes.push(format!("{} and {}", other.description, alias.description));
        }
        self.aliases.insert(name.clone(), alias);
        name
    }
}

/// A description OPNsense takes in a CSV cell, in JSON and in a pf label's comment: plain ASCII, one length.
fn describe(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '/' | '(' | ')' | '-') {
            words.push(c);
        } else if !words.is_empty() && !words.ends_with(' ') {
            words.push(' ');
        }
    }
    words.truncate(DESCRIPTION_MAX);
    words.truncate(words.trim_end().len());
    words
}

/// A UUID that is the same for the same rule in every run, so an upload updates and does not add. Version nibble 4,
/// the only one OPNsense takes.
fn uuid(name: &str) -> String {
    let h = sha256(name);
    let variant = ["8", "9", "a", "b"][usize::from(h.as_bytes()[16] % 4)];
    [&h[..8], "-", &h[8..12], "-4", &h[13..16], "-", variant, &h[17..20], "-", &h[20..32]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_the_form_opnsense_takes() {
        for name in ["a", "outgate/OG/lan/dns/UDP/inet46"] {
            let uuid = uuid(name);
            let parts: Vec<&str> = uuid.split('-').collect();
            assert_eq!(parts.iter().map(|p| p.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
            assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{uuid}");
        }
        assert_ne!(uuid("a"), uuid("b"));
    }

    #[test]
    fn descriptions_cannot_leave_their_cell() {
        assert_eq!(describe("a;b\"c\\d\ne,f"), "a b c d e f");
        assert_eq!(describe(&"x".repeat(300)).len(), DESCRIPTION_MAX);
    }
}

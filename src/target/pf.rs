//! pf of FreeBSD and OpenBSD: an anchor file, and a file for each table that answers of DNS are in.
//!
//! Such a table is refilled alone, while rules and connections stay. What the profile says itself changes with the rules
//! and stands among them: a file for each of ten thousand such tables would cost more than all rules together.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::rows::Rows;
use super::wall::Wall;
use super::{By, Header, Layer, Mark, Page, Plan, Stop, Target, Texts, Value, address_losses, fit};
use crate::addrs::AddrSet;
use crate::callout::Endpoint;
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::port::Protocol;
use crate::ruleset::{Action, Rule, Ruleset};
use crate::settings::{Denied, Dialect, Ipv6, Pf, Settings, Side};
use crate::text::{Id, line_ends};

/// The target.
pub const TARGET: Target = Target {
    name: "pf",
    about: "pf of FreeBSD 14 and 15 and of OpenBSD 7, on a router or on the NAS itself: an anchor",
    layer: Layer::Addresses,
    limits: &[
        "no wildcards: a table of addresses cannot hold names that are not known",
        "two names on one address are one",
        "no ping: ICMP over IPv4 of limited clients is denied, but for errors that belong to a connection",
        "65,535 addresses a table on FreeBSD, 1,000 tables on OpenBSD, and 100,000 addresses in all on both",
    ],
    main: "outgate.conf",
    owns: &["pf/losses.json", "pf/outgate.conf", "pf/tables/og_*.txt", "pf/tables/ogc_*.txt"],
    check: &["pfctl", "-a", "outgate", "-nf"],
    templates: &[
        ("pf/outgate.conf.j2", include_str!("../../templates/pf/outgate.conf.j2")),
        ("pf/table.txt.j2", include_str!("../../templates/pf/table.txt.j2")),
    ],
    chosen: |settings: &Settings| settings.pf.is_some(),
    wall,
    plan,
    stops,
    handle: |_, rule| Some(label(rule.map(|rule| &rule.key))),
    resolves: |_, _| None,
    retire: None,
};

/// Longest table name (`PF_TABLE_NAME_SIZE` less the NUL), FreeBSD and OpenBSD alike.
const TABLE_NAME_MAX: usize = 31;
/// Most addresses in one request to FreeBSD's kernel (`net.pf.request_maxcount`).
const REQUEST_MAX: usize = 65_535;
/// Most tables of OpenBSD (`PFR_KTABLE_HIWAT`), unless `set limit tables` raises it.
const TABLES_MAX: usize = 1000;
/// Most addresses in all tables together, unless `set limit table-entries` raises it.
const ENTRIES_MAX: usize = 200_000;

#[derive(Serialize)]
struct Values<'a> {
    header: Value,
    anchor: &'a str,
    folder: &'a str,
    openbsd: bool,
    interface: &'a str,
    direction: &'static str,
    block: &'static str,
    deny_ipv6: bool,
    limited: String,
    /// Tables in files of their own.
    tables: Value,
    /// Those that stand in the anchor's file with what they hold.
    own_tables: Value,
    denied: Value,
    allowed: Value,
}

#[derive(Serialize)]
struct Table<'a> {
    name: String,
    about: String,
    /// One a line.
    #[serde(skip)]
    entries: Cow<'a, str>,
    #[serde(skip)]
    count: usize,
    /// Whether DNS has a say in what it holds.
    #[serde(skip)]
    answered: bool,
}

#[derive(Serialize)]
struct TablePage<'a> {
    header: &'a Value,
    table: &'a Table<'a>,
    entries: &'a str,
}

fn plan(texts: &Texts<'_>, findings: &mut Findings) -> Option<Plan> {
    let ruleset = texts.ruleset;
    let default = Pf::on("lan");
    let settings = ruleset.settings.pf.as_ref().unwrap_or(&default);
    let mut losses = address_losses("pf", ruleset, findings);
    let mut tables = vec![client_table("limited", &ruleset.limited())];
    // Most rules are for the same clients.
    let mut senders = BTreeMap::new();
    let columns = &["id", "title", "reason", "source", "names", "clients", "servers", "tcp", "udp"];
    let (mut denied, mut allowed) = (Rows::new(columns), Rows::new(columns).room_for(ruleset.rules.len()));
    for (rule, texts) in super::seen_on_host(texts, settings.side == Side::Host, &mut losses) {
        let clients = senders.entry((rule.action, rule.origins)).or_insert_with(|| {
            let origins = ruleset.bound(rule);
            let clients = ruleset.clients_of(origins);
            (!clients.is_empty()).then(|| client_table(&ruleset.group_name(origins), &clients))
        });
        let addrs = texts.addrs();
        let Some(clients) = clients.as_ref().filter(|_| !addrs.is_empty()) else { continue };
        let name = fit(&["og_", &rule.key.underscored()].concat(), TABLE_NAME_MAX);
        let rows = if rule.action == Action::Deny { &mut denied } else { &mut allowed };
        let [tcp, udp] = Protocol::ALL.map(|protocol| ports(rule, protocol));
        rows.push([
            &rule.key,
            &rule.callout.title,
            &rule.reason.as_str(),
            &rule.callout.first_source(),
            &texts.names(),
            &clients.name,
            &name,
            &tcp,
            &udp,
        ]);
        let answered = !rule.destinations.iter().all(|d| matches!(d.endpoint, Endpoint::Net(_)));
        let about = [rule.key.as_str(), ": ", rule.callout.title.as_str()].concat();
        tables.push(Table { answered, ..table(name, about, addrs.into()) });
    }
    tables.extend(senders.into_values().flatten());
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    tables.dedup_by(|a, b| a.name == b.name && a.entries == b.entries);
    check_limits(&tables, settings.dialect, findings);
    let header = Header::new(ruleset, &losses).once();
    let pages = tables.iter().filter(|table| table.answered).map(|table| {
        let values = TablePage { header: &header, table, entries: &table.entries };
        Page::new(format!("tables/{}.txt", table.name), "pf/table.txt.j2", values)
    });
    let mut pages: Vec<Page> = pages.collect();
    let (mut answered, mut own) = (Rows::new(&["name"]), Rows::new(&["name", "entries"]));
    for table in &tables {
        if table.answered { answered.push([&table.name]) } else { own.push([&table.name, &table.entries]) }
    }
    let (answered, own, denied, allowed) = (answered.done(), own.done(), denied.done(), allowed.done());
    let about = [&answered, &own, &denied, &allowed].iter().map(|table| table.filled_length()).sum();
    let values = Values {
        header,
        anchor: &settings.anchor,
        folder: &settings.tables,
        openbsd: settings.dialect == Dialect::Openbsd,
        interface: &settings.interface,
        direction: match settings.side {
            Side::Router => "in",
            Side::Host => "out",
        },
        block: match settings.denied {
            Denied::Reject => "block return",
            Denied::Drop => "block drop",
        },
        deny_ipv6: ruleset.ipv6 == Ipv6::DenyInterface,
        limited: client_name("limited"),
        tables: Value::from_object(answered),
        own_tables: Value::from_object(own),
        denied: Value::from_object(denied),
        allowed: Value::from_object(allowed),
    };
    pages.push(Page::new("outgate.conf", "pf/outgate.conf.j2", values).about(about));
    Some(Plan { pages, losses })
}

/// What it makes of traffic.
fn wall(ruleset: &Ruleset) -> Option<Wall<'_>> {
    Some(Wall { browser_unseen: on_host(&ruleset.settings), ..Wall::by_address(ruleset) })
}

/// What stops a denial.
fn stops(ruleset: &Ruleset, rule: &Rule) -> Stop {
    if on_host(&ruleset.settings) && super::is_browsers(ruleset, rule) {
        return Stop::NotHere(super::BROWSER_ELSEWHERE.to_owned());
    }
    let mark = |key| Mark::holds(By::Address, "outgate.conf", label(key));
    super::stops_by_address(ruleset, rule, mark(Some(&rule.key)), mark(None))
}

/// Whether it is on the appliance itself.
fn on_host(settings: &Settings) -> bool {
    settings.pf.as_ref().is_some_and(|pf| pf.side == Side::Host)
}

fn label(key: Option<&Id>) -> String {
    format!("label \"outgate:{}\"", key.map_or("denied", Id::as_str))
}

fn client_name(group: &str) -> String {
    // No entry's table can bear it: those begin with `og_`.
    format!("ogc_{group}")
}

fn client_table(group: &str, clients: &AddrSet) -> Table<'static> {
    table(client_name(group), format!("clients: {}", group.replace('_', ", ")), clients.to_list("\n").into())
}

fn table(name: String, about: String, entries: Cow<'_, str>) -> Table<'_> {
    let count = if entries.is_empty() { 0 } else { line_ends(&entries) + 1 };
    Table { name, about, entries, count, answered: false }
}

/// The ports of one protocol as they stand in a rule; nothing where it has none.
fn ports(rule: &Rule, protocol: Protocol) -> String {
    rule.ports_of(protocol).map(|port| port.numbers(":")).collect::<Vec<_>>().join(" ")
}

fn check_limits(tables: &[Table<'_>], dialect: Dialect, findings: &mut Findings) {
    if dialect == Dialect::Freebsd {
        for table in tables.iter().filter(|table| table.count > REQUEST_MAX) {
            findings.push(
                Diagnostic::new(Code::TargetLimit, format!("pf: table {} would hold {} addresses, FreeBSD takes {REQUEST_MAX} at a time", table.name, table.count))
                    .help("split the entry, or name prefixes instead of hosts"),
            );
        }
    }
    for pair in tables.windows(2) {
        // Cut names can meet; the second must not take the first one's place.
        if let [one, other] = pair
            && one.name == other.name
        {
            let message = format!("pf: two tables would have one name: {} and {}", one.about, other.about);
            findings.push(Diagnostic::new(Code::TargetLimit, message).help("give one of the entries another id"));
        }
    }
    if dialect == Dialect::Openbsd && tables.len() > TABLES_MAX {
        findings.push(
            Diagnostic::new(Code::TargetLimit, format!("pf: {} tables, OpenBSD holds {TABLES_MAX}", tables.len()))
                .help("put entries that belong together into one"),
        );
    }
    let all: usize = tables.iter().map(|table| table.count).sum();
    // A reload builds the new tables beside the old ones.
    if all * 2 > ENTRIES_MAX {
        findings.push(
            Diagnostic::new(Code::TargetLimit, format!("pf: {all} addresses in all tables; the system holds {ENTRIES_MAX}, and a reload needs twice the room"))
                .help("name prefixes instead of hosts"),
        );
    }
}

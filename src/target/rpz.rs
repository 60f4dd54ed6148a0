//! A response policy zone, for BIND, Unbound, Knot Resolver, PowerDNS and whatever else reads one.

use serde::Serialize;

use super::names::{self, Names, Reason, TTL, Written};
use super::{Header, Layer, Page, Plan, Stop, Target, Texts};
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::digest::sha256;
use crate::ruleset::{Rule, Ruleset};
use crate::settings::{Pins, Rpz, Settings};

/// The target.
pub const TARGET: Target = Target {
    name: "rpz",
    about: "a response policy zone (BIND 9.18, Unbound 1.14 and later, others), beside a packet filter or proxy: blocked names no longer resolve, wanted ones are pinned",
    layer: Layer::Names,
    limits: &[
        "a name server answers everybody who asks it: a blocked name is blocked for all of them, on every port, with every name below it that no rule allows",
        "it holds for those who ask it: rules must keep the clients from other name servers, and addresses need no name",
        "a name whose CNAME leads to a blocked name: BIND blocks it, Unbound 1.17 only until it has the alias in its cache",
        "a pinned name is as old as the lock: run `outgate resolve` regularly, or set `pins: none`; of a pinned name there are addresses and no other records",
        "BIND asks other servers for a pinned name before it answers from the zone, unless `qname-wait-recurse no` is set",
        "the serial follows the day of the lock and the content, and no clock: two files of one day may have serials that go backwards, so a secondary must be told to transfer",
    ],
    main: "outgate.rpz",
    owns: &["rpz/losses.json", "rpz/outgate.rpz"],
    check: &[],
    templates: &[("rpz/outgate.rpz.j2", include_str!("../../templates/rpz/outgate.rpz.j2"))],
    chosen: |settings: &Settings| settings.rpz.is_some(),
    wall: |_| None,
    plan,
    stops,
    handle: |_, _| None,
    resolves: names::resolves,
    retire: None,
};

/// Longest name DNS can carry, in characters without the final dot.
const NAME_MAX: usize = 253;

#[derive(Serialize)]
struct Values {
    header: Header,
    pins: bool,
    blocking: Vec<Reason>,
    ttl: u32,
    zone: String,
    serial: String,
    blocked: Vec<Entry>,
    open: Vec<Entry>,
    pinned: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    ids: String,
    records: Vec<Record>,
}

#[derive(Serialize)]
struct Record {
    owner: String,
    kind: &'static str,
    data: String,
}

/// What stops a denial: the policy that there is no such name, or that it has no data.
fn stops(ruleset: &Ruleset, rule: &Rule) -> Stop {
    names::stops(ruleset, rule, "outgate.rpz", |host, own| {
        if own { vec![format!("{host} IN CNAME ."), format!("{host} IN CNAME *.")] } else { vec![format!("*.{host} IN CNAME .")] }
    })
}

fn plan(texts: &Texts<'_>, findings: &mut Findings) -> Option<Plan> {
    let ruleset = texts.ruleset;
    let default = Rpz::default();
    let settings = ruleset.settings.rpz.as_ref().unwrap_or(&default);
    let names = Names::of(ruleset, settings.pins);
    let mut losses = vec![names::every_client()];
    losses.extend(names.losses.iter().cloned());
    let (mut blocked, mut open, mut pinned) = (Vec::new(), Vec::new(), Vec::new());
    for written in names.written(|node, _| node.blocks()).into_values() {
        let records = records(&written);
        for record in records.iter().filter(|record| record.owner.len() + 1 + settings.zone.len() > NAME_MAX) {
            findings.push(
                Diagnostic::new(
                    Code::TargetLimit,
                    format!("rpz: {} is longer than a name can be in the zone {}", record.owner, settings.zone),
                )
                .help("give the zone a shorter name with `zone`"),
            );
        }
        let Written { node, blocks, above } = written;
        let (list, ids) = if node.pin.is_some() {
            (&mut pinned, &node.allowed_by)
        } else if blocks.own || !above && blocks.below {
            (&mut blocked, &node.denied_by)
        } else {
            (&mut open, &node.allowed_by)
        };
        list.push(Entry { ids: ids.clone(), records });
    }
    let header = Header::new(ruleset, &losses);
    let mut values = Values {
        header,
        pins: settings.pins == Pins::All,
        blocking: names.blocking.clone(),
        ttl: TTL,
        zone: settings.zone.clone(),
        serial: String::new(),
        blocked,
        open,
        pinned,
    };
    values.serial = serial(ruleset, &values);
    Some(Plan { pages: vec![Page::new("outgate.rpz", "rpz/outgate.rpz.j2", values)], losses })
}

/// The records of a name. Each says what is meant of the name and of what is below it, so that nothing hangs on how a
/// reader takes a wildcard beside a name.
fn records(Written { node, blocks, above }: &Written<'_>) -> Vec<Record> {
    let host = node.host.as_str();
    let record = |owner: String, kind, data: &str| Record { owner, kind, data: data.to_owned() };
    let alias = |owner: String, data: &str| record(owner, "CNAME", data);
    let mut records = Vec::new();
    match &node.pin {
        Some(pin) => {
            records.extend(pin.v4.iter().map(|addr| record(host.to_owned(), "A", addr)));
            records.extend(pin.v6.iter().map(|addr| record(host.to_owned(), "AAAA", addr)));
        }
        None if blocks.own && blocks.below => records.push(alias(host.to_owned(), ".")),
        // There are names below it: it is there, and has no data.
        None if blocks.own => records.push(alias(host.to_owned(), "*.")),
        None if *above || node.through_blocked => records.push(alias(host.to_owned(), "rpz-passthru.")),
        None => {}
    }
    match (blocks.below, above) {
        (true, _) => records.push(alias(format!("*.{host}"), ".")),
        (false, true) => records.push(alias(format!("*.{host}"), "rpz-passthru.")),
        (false, false) => {}
    }
    records
}

/// The day of the lock and two digits of the content: the same for the same content, with no look at a clock.
fn serial(ruleset: &Ruleset, values: &Values) -> String {
    let mut text = values.zone.clone();
    for record in [&values.blocked, &values.open, &values.pinned].into_iter().flatten().flat_map(|entry| &entry.records) {
        text.push_str(&format!("\n{} {} {}", record.owner, record.kind, record.data));
    }
    let day = ruleset.answered.map_or_else(|| "1970-01-01".to_owned(), |day| day.to_string());
    let digits = u8::from_str_radix(&sha256(&text)[..2], 16).unwrap_or_default() % 100;
    format!("{}{digits:02}", day.replace('-', ""))
}

//! dnsmasq: an include that keeps blocked names from resolving and pins wanted ones.

use serde::Serialize;

use super::names::{self, Blocks, Names, Node, Reason, TTL, Written};
use super::{Header, Layer, Page, Plan, Stop, Target, Texts};
use crate::diagnostic::Findings;
use crate::ruleset::{Rule, Ruleset};
use crate::settings::{Pins, Settings};

/// The target.
pub const TARGET: Target = Target {
    name: "dnsmasq",
    about: "dnsmasq 2.86 and later, beside a packet filter or proxy: blocked names no longer resolve, wanted ones are pinned",
    layer: Layer::Names,
    limits: &[
        "a name server answers everybody who asks it: a blocked name is blocked for all of them, on every port, with every name below it that no rule allows",
        "it holds for those who ask it: rules must keep the clients from other name servers, and addresses need no name",
        "a name whose CNAME leads to a blocked name resolves: dnsmasq looks at the name that is asked for alone",
        "a pinned name is as old as the lock: run `outgate resolve` regularly, or set `pins: none`; records other than addresses are asked for as before, HTTPS records with addresses of their own among them",
        "names below some that are named here go to the servers for everything: a `server=/name/…` of your own for them no longer holds",
    ],
    main: "outgate.conf",
    owns: &["dnsmasq/losses.json", "dnsmasq/outgate.conf"],
    check: &["dnsmasq", "--test", "-C"],
    templates: &[("dnsmasq/outgate.conf.j2", include_str!("../../templates/dnsmasq/outgate.conf.j2"))],
    chosen: |settings: &Settings| settings.dnsmasq.is_some(),
    wall: |_| None,
    plan,
    stops,
    handle: |_, _| None,
    resolves: names::resolves,
    retire: None,
};

#[derive(Serialize)]
struct Values {
    header: Header,
    pins: bool,
    blocking: Vec<Reason>,
    ttl: u32,
    blocked: Vec<Entry>,
    open: Vec<Entry>,
    pinned: Vec<Entry>,
}

/// A name and what is said of it. A domain is the name with all below it, a wildcard what is below it alone.
#[derive(Serialize)]
struct Entry {
    name: String,
    ids: String,
    /// The domain is answered from here alone.
    domain_here: bool,
    /// The wildcard is.
    wildcard_here: bool,
    /// The domain is asked of the servers for everything.
    domain_forward: bool,
    /// The wildcard is.
    wildcard_forward: bool,
    /// Addresses, an IPv4 and an IPv6 one in each where there are as many.
    records: Vec<String>,
}

/// What stops a denial: an answer that there is no such name.
fn stops(ruleset: &Ruleset, rule: &Rule) -> Stop {
    names::stops(ruleset, rule, "outgate.conf", |host, own| {
        let wildcard = (!own).then(|| format!("address=/*.{host}/"));
        std::iter::once(format!("address=/{host}/")).chain(wildcard).collect()
    })
}

fn plan(texts: &Texts<'_>, _: &mut Findings) -> Option<Plan> {
    let ruleset = texts.ruleset;
    let pins = ruleset.settings.dnsmasq.as_ref().map_or(Pins::default(), |settings| settings.pins);
    let names = Names::of(ruleset, pins);
    let mut losses = vec![names::every_client()];
    losses.extend(names.losses.iter().cloned());
    let (mut blocked, mut open, mut pinned) = (Vec::new(), Vec::new(), Vec::new());
    for Written { node, blocks, above } in names.written(|node, _| node.blocks()).into_values() {
        let entry = entry(node, blocks, above);
        if node.pin.is_some() {
            pinned.push(entry);
        } else if blocks.own || !above && blocks.below {
            blocked.push(entry);
        } else if above {
            open.push(entry);
        }
    }
    let header = Header::new(ruleset, &losses);
    let values = Values { header, pins: pins == Pins::All, blocking: names.blocking.clone(), ttl: TTL, blocked, open, pinned };
    Some(Plan { pages: vec![Page::new("outgate.conf", "dnsmasq/outgate.conf.j2", values)], losses })
}

fn entry(node: &Node, blocks: Blocks, above: bool) -> Entry {
    // A name that is answered from here alone has no data in a family without a record; others are asked for it.
    let one_family = node.pin.as_ref().is_some_and(|pin| pin.v4.is_empty() || pin.v6.is_empty());
    // A pin is a record, and needs no way to the servers.
    let here = blocks.own || one_family || (above && node.pin.is_some());
    // What the domain says is so for what is below as well, unless the wildcard says otherwise.
    let (domain_here, domain_forward) = (here && !above, !here && above);
    let below = if domain_here { true } else if domain_forward { false } else { above };
    let ids = if node.pin.is_some() || !(blocks.own || blocks.below) || above && !blocks.own {
        &node.allowed_by
    } else {
        &node.denied_by
    };
    Entry {
        name: node.host.to_string(),
        ids: ids.clone(),
        domain_here,
        wildcard_here: blocks.below && !below,
        domain_forward,
        wildcard_forward: !blocks.below && below,
        records: node.pin.iter().flat_map(|pin| records(&pin.v4, &pin.v6)).collect(),
    }
}

/// `192.0.2.1,2001:db8::1`, then what is left of the longer list.
fn records(v4: &[String], v6: &[String]) -> Vec<String> {
    let both = |i: usize| v4.get(i).into_iter().chain(v6.get(i)).cloned().collect::<Vec<_>>().join(",");
    (0..v4.len().max(v6.len())).map(both).collect()
}

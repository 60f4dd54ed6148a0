//! Unbound: an include that keeps blocked names from resolving and pins wanted ones.

use serde::Serialize;

use super::loss::{self, Loss};
use super::names::{self, Blocks, Names, Node, Reason, State, TTL, Written};
use super::{Header, Layer, Page, Plan, Stop, Target, Texts};
use crate::diagnostic::Findings;
use crate::host::NamePattern;
use crate::ruleset::{Rule, Ruleset};
use crate::settings::{Pins, Settings};

/// The target.
pub const TARGET: Target = Target {
    name: "unbound",
    about: "Unbound 1.9 and later, beside a packet filter or proxy: blocked names no longer resolve, wanted ones are pinned",
    layer: Layer::Names,
    limits: &[
        "a name server answers everybody who asks it: a blocked name is blocked for all of them, on every port, with every name below it that no rule allows",
        "it holds for those who ask it: rules must keep the clients from other name servers, and addresses need no name",
        "a name whose CNAME leads to a blocked name resolves: local zones look at the name that is asked for alone",
        "a pinned name is as old as the lock: run `outgate resolve` regularly, or set `pins: none`; of a pinned name there are addresses and no other records",
        "a wanted name below a blocked one that is not pinned resolves with every name below it",
        "what is below a name and not the name itself can be blocked where the name is pinned; else the name goes with it, or where it is wanted, neither",
    ],
    main: "outgate.conf",
    owns: &["unbound/losses.json", "unbound/outgate.conf"],
    check: &["unbound-checkconf"],
    templates: &[("unbound/outgate.conf.j2", include_str!("../../templates/unbound/outgate.conf.j2"))],
    chosen: |settings: &Settings| settings.unbound.is_some(),
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
    /// Local zones of blocked names.
    blocked: Vec<Zone>,
    /// Local zones of names that resolve below blocked ones.
    open: Vec<Zone>,
    /// Local zones of pinned names.
    pinned: Vec<Zone>,
}

#[derive(Serialize)]
struct Zone {
    name: String,
    ids: String,
    kind: &'static str,
    v4: Vec<String>,
    v6: Vec<String>,
    /// It has an entry of another type, so that the name itself has no address and those below it resolve.
    nodata: bool,
}

/// What stops a denial: a zone that says there is no such name, or that the name has no data.
fn stops(ruleset: &Ruleset, rule: &Rule) -> Stop {
    names::stops(ruleset, rule, "outgate.conf", |host, own| {
        let mut lines = vec![format!("local-zone: \"{host}.\" always_nxdomain")];
        lines.extend(own.then(|| format!("local-data: \"{host}. {TTL} IN TXT blocked\"")));
        lines
    })
}

fn plan(texts: &Texts<'_>, _: &mut Findings) -> Option<Plan> {
    let ruleset = texts.ruleset;
    let pins = ruleset.settings.unbound.as_ref().map_or(Pins::default(), |settings| settings.pins);
    let names = Names::of(ruleset, pins);
    let mut losses = vec![names::every_client()];
    losses.extend(names.losses.iter().cloned());
    let mut inexact = Vec::new();
    let (mut blocked, mut open, mut pinned) = (Vec::new(), Vec::new(), Vec::new());
    for Written { node, blocks, above } in names.written(|node, above| fit(node, above, &mut inexact)).into_values() {
        let zone = |kind, ids: &str, nodata| Zone {
            name: node.host.to_string(),
            ids: ids.to_owned(),
            kind,
            v4: node.pin.iter().flat_map(|pin| pin.v4.iter().cloned()).collect(),
            v6: node.pin.iter().flat_map(|pin| pin.v6.iter().cloned()).collect(),
            nodata,
        };
        match blocks {
            _ if node.pin.is_some() => {
                // `static` refuses what is below the name, `transparent` lets it resolve.
                let kind = if blocks.below { "static" } else { "transparent" };
                pinned.push(zone(kind, &node.allowed_by, false));
            }
            Blocks { own: true, below: true } => blocked.push(zone("always_nxdomain", &node.denied_by, false)),
            Blocks { own: true, below: false } => blocked.push(zone("transparent", &node.denied_by, true)),
            Blocks { own: false, .. } if above => open.push(zone("transparent", &node.allowed_by, false)),
            // A name that resolves below one that does: it is here for its aliases, which are not looked at.
            Blocks { own: false, .. } => {}
        }
    }
    losses.extend(
        inexact.into_iter().map(|(text, kind, name)| Loss { endpoints: vec![name.into()], ..Loss::general(kind, text) }),
    );
    let header = Header::new(ruleset, &losses);
    let values = Values { header, pins: pins == Pins::All, blocking: names.blocking.clone(), ttl: TTL, blocked, open, pinned };
    Some(Plan { pages: vec![Page::new("outgate.conf", "unbound/outgate.conf.j2", values)], losses })
}

/// What local zones can hold of a name: a zone is of a name and all below it, and what is below can be refused alone
/// only where the name is answered from the file.
fn fit(node: &Node, above: bool, inexact: &mut Vec<(String, &'static loss::Kind, String)>) -> Blocks {
    let meant = node.blocks();
    if meant != (Blocks { own: false, below: true }) || node.pin.is_some() {
        return meant;
    }
    let pattern = NamePattern::Below(node.host.clone()).to_string();
    let by = &node.denied_by;
    if node.wanted || above {
        if node.below == State::Denied {
            let text = format!("{by}: {pattern} is blocked, and {} is wanted and not pinned: both resolve", node.host);
            inexact.push((text, &loss::WILDCARD_UNBLOCKED, pattern));
        }
        return Blocks { own: false, below: false };
    }
    let text = format!("{by}: {pattern} is blocked, and {} with it", node.host);
    inexact.push((text, &loss::WILDCARD_WITH_ITS_NAME, pattern));
    Blocks { own: true, below: true }
}

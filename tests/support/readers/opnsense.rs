//! OPNsense's alias import and rules, read back.
//!
//! - Aliases nest by name; a name in a `host` alias that is no alias is looked up in a map of names to addresses, and is
//!   nothing where the map has none, as when DNS fails. In a table the longest prefix decides, as in pf.
//! - Rules stand in groups: floating ones (no interface, or several) first, then those of a group of interfaces, then those
//!   of one; in each the sequence decides. With `quick` the first that matches is final; without, later ones overtake it.
//! - What no rule matches, the firewall's other rules decide.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::packet::{Addrs, Enforcer, Fate, Interface, Net, Packet, Path, Proto, Verdict};
use super::{Files, Refused, unknown};

/// What each name leads to.
pub(crate) type Names = BTreeMap<String, BTreeSet<IpAddr>>;

/// Both files, read.
#[derive(Clone, Debug)]
pub(crate) struct Opnsense {
    interface: String,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    group: u32,
    sequence: u32,
    enabled: bool,
    action: String,
    quick: bool,
    interfaces: Vec<String>,
    inbound: Option<bool>,
    families: (bool, bool),
    protocols: Vec<&'static str>,
    source: (bool, Addrs),
    source_ports: Option<Vec<(u16, u16)>>,
    destination: (bool, Addrs),
    ports: Option<Vec<(u16, u16)>>,
    log: bool,
    description: String,
}

#[derive(Clone, Debug)]
struct Alias {
    enabled: bool,
    kind: String,
    content: Vec<String>,
}

/// The columns of a rule, as rows of the CSV have them and as keys of the API.
const COLUMNS: [&str; 17] = [
    "enabled",
    "sequence",
    "action",
    "quick",
    "interface",
    "direction",
    "ipprotocol",
    "protocol",
    "source_net",
    "source_not",
    "source_port",
    "destination_net",
    "destination_not",
    "destination_port",
    "log",
    "categories",
    "description",
];

const ALIAS_KEYS: [&str; 10] =
    ["enabled", "name", "type", "proto", "interface", "counters", "updatefreq", "content", "categories", "description"];

impl Opnsense {
    /// Reads `aliases.json` and the rules as a version takes them: `rules.csv` from 26.1 on, before that `rules.json`.
    pub(crate) fn read(files: &Files, version: (u32, u32), interface: &str, names: &Names) -> Result<Self, Refused> {
        let aliases = aliases(files.get("aliases.json").ok_or("there is no aliases.json")?)?;
        let other = if version >= (26, 1) { "rules.json" } else { "rules.csv" };
        if files.contains_key(other) {
            return Err(format!("version {version:?} has no use for {other}"));
        }
        let rows = if version >= (26, 1) {
            csv(files.get("rules.csv").ok_or("there is no rules.csv")?)?
        } else {
            payloads(files.get("rules.json").ok_or("there is no rules.json")?)?
        };
        let resolve = Resolve { aliases: &aliases, names };
        for name in aliases.keys() {
            resolve.check(name)?;
        }
        let mut rules: Vec<Rule> = rows.iter().map(|row| rule(row, version, &resolve)).collect::<Result<_, _>>()?;
        rules.sort_by_key(|rule| (rule.group, rule.sequence));
        if let Some(pair) = rules.windows(2).find(|p| (p[0].group, p[0].sequence) == (p[1].group, p[1].sequence)) {
            return Err(format!("two rules of sequence {}: their order is not defined", pair[0].sequence));
        }
        Ok(Self { interface: interface.to_owned(), rules })
    }
}

fn object<'a>(value: &'a Value, keys: &[&str], what: &str) -> Result<&'a Map<String, Value>, Refused> {
    let map = value.as_object().ok_or_else(|| unknown(format!("{what} that is no object")))?;
    match map.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(unknown(format!("`{key}` in {what}"))),
        None => Ok(map),
    }
}

/// All values are texts: another type is stored as a word that means nothing.
fn text<'a>(map: &'a Map<String, Value>, key: &str, what: &str) -> Result<&'a str, Refused> {
    map.get(key).and_then(Value::as_str).ok_or_else(|| unknown(format!("no text `{key}` in {what}")))
}

fn json(text: &str) -> Result<Value, Refused> {
    serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))
}

fn flag(text: &str) -> Result<bool, Refused> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        other => Err(format!("`{other}` is neither 0 nor 1")),
    }
}

fn aliases(file: &str) -> Result<BTreeMap<String, Alias>, Refused> {
    let top = json(file)?;
    let top = object(&top, &["aliases"], "the import")?;
    let list = object(top.get("aliases").unwrap_or(&Value::Null), &["alias"], "`aliases`")?;
    let list = list.get("alias").and_then(Value::as_object).ok_or_else(|| unknown("no `alias`"))?;
    let mut found = BTreeMap::new();
    for (label, value) in list {
        let map = object(value, &ALIAS_KEYS, "an alias")?;
        let get = |key: &str| text(map, key, &format!("alias {label}"));
        for key in ["proto", "interface", "updatefreq", "categories"] {
            if !get(key)?.is_empty() {
                return Err(unknown(format!("`{key}` of an alias")));
            }
        }
        flag(get("counters")?)?;
        let name = get("name")?;
        if !is_alias_name(name) {
            return Err(format!("`{name}` is no name of an alias"));
        }
        describe(get("description")?)?;
        let alias = Alias {
            enabled: flag(get("enabled")?)?,
            kind: get("type")?.to_owned(),
            content: get("content")?.split('\n').map(str::to_owned).collect(),
        };
        // An import merges two of one name, and says nothing.
        if found.insert(name.to_owned(), alias).is_some() {
            return Err(format!("two aliases `{name}`"));
        }
    }
    Ok(found)
}

fn is_alias_name(name: &str) -> bool {
    (1..=31).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !["any", "port", "pass", "table", "user", "group", "block", "in", "out", "on", "from", "to"].contains(&name)
}

/// One line of at most 255 characters that cannot leave its cell.
fn describe(text: &str) -> Result<(), Refused> {
    let good = text.len() <= 255 && text.bytes().all(|b| (b' '..0x7f).contains(&b) && !b"\"\\;'`".contains(&b));
    if good { Ok(()) } else { Err(format!("a description that leaves its cell: {text:?}")) }
}

struct Resolve<'a> {
    aliases: &'a BTreeMap<String, Alias>,
    names: &'a Names,
}

impl Resolve<'_> {
    /// Whether OPNsense takes an alias, used or not.
    fn check(&self, name: &str) -> Result<(), Refused> {
        match self.aliases.get(name).map(|alias| alias.kind.as_str()) {
            Some("port") => self.ports(name).map(drop),
            _ => self.addrs(name, 0).map(drop),
        }
    }

    fn addrs(&self, name: &str, depth: u32) -> Result<Addrs, Refused> {
        let alias = self.aliases.get(name).ok_or_else(|| format!("`{name}` is no alias"))?;
        if depth > 8 {
            return Err(format!("`{name}` holds itself"));
        }
        if alias.kind == "port" {
            return Err(format!("`{name}` is an alias of ports, and must be one of addresses"));
        }
        let (mut entries, mut set) = (Vec::new(), Addrs::default());
        for item in &alias.content {
            let (negated, bare) = item.strip_prefix('!').map_or((false, item.as_str()), |rest| (true, rest));
            let net = match (alias.kind.as_str(), Net::parse(bare)) {
                ("host", Some(net)) if net.is_single() && !bare.contains('/') => Some(net),
                ("host", Some(_)) => return Err(format!("`{item}` is a prefix, in a host alias")),
                ("network", Some(net)) => Some(net),
                ("host" | "network", None) => Net::parse_range(bare),
                ("networkgroup", _) => None,
                (kind, _) => return Err(unknown(format!("type `{kind}`"))),
            };
            if let Some(net) = net {
                entries.push((net, negated));
            } else if !negated && self.aliases.contains_key(bare) {
                set.join(&self.addrs(bare, depth + 1)?);
            } else if !negated && alias.kind == "host" && is_host_name(bare) {
                for addr in self.names.get(bare).into_iter().flatten() {
                    entries.extend(Net::parse(&addr.to_string()).map(|net| (net, false)));
                }
            } else {
                return Err(format!("`{item}` cannot stand in the {} alias `{name}`", alias.kind));
            }
        }
        set.join(&Addrs::of_entries(entries));
        // The table of a disabled alias is empty.
        Ok(if alias.enabled { set } else { Addrs::default() })
    }

    fn ports(&self, name: &str) -> Result<Vec<(u16, u16)>, Refused> {
        let alias = self.aliases.get(name).filter(|alias| alias.kind == "port" && alias.enabled);
        let alias = alias.ok_or_else(|| format!("`{name}` is no port, range or alias of ports"))?;
        // Inside an alias a range has a colon.
        alias.content.iter().map(|item| range(item, ':').ok_or_else(|| format!("`{item}` is no port"))).collect()
    }
}

/// OPNsense takes no wildcard, no underscore, no final dot.
fn is_host_name(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}

fn range(text: &str, dash: char) -> Option<(u16, u16)> {
    let (first, last) = text.split_once(dash).unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().ok().filter(|n| *n > 0 && text.bytes().all(|b| b.is_ascii_digit()));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

type Row = BTreeMap<String, String>;

/// The upload: `;` between cells, one header, no quotes, a UUID a row.
fn csv(file: &str) -> Result<Vec<Row>, Refused> {
    let mut lines = file.lines();
    let header: Vec<&str> = lines.next().ok_or("an empty file")?.split(';').collect();
    if header.first() != Some(&"@uuid") || header[1..].iter().any(|column| !COLUMNS.contains(column)) {
        // The first column with a BOM, or columns that nobody knows: they would be rules that pass anything.
        return Err(unknown(format!("columns {header:?}")));
    }
    if header.len() != COLUMNS.len() + 1 {
        return Err(unknown("a column is missing, or there twice"));
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut uuids = BTreeSet::new();
    for line in lines {
        if line.contains(['"', '\\', '\r']) {
            return Err(format!("a cell that is quoted: {line}"));
        }
        let cells: Vec<&str> = line.split(';').collect();
        if cells.len() != header.len() {
            return Err(format!("{} cells in {} columns: {line}", cells.len(), header.len()));
        }
        if !is_uuid(cells[0]) || !uuids.insert(cells[0].to_owned()) {
            return Err(format!("`{}` is no UUID, or there twice", cells[0]));
        }
        rows.push(header.iter().zip(cells).skip(1).map(|(k, v)| ((*k).to_owned(), v.to_owned())).collect());
    }
    Ok(rows)
}

/// Payloads for `set_rule`, each with its UUID.
fn payloads(file: &str) -> Result<Vec<Row>, Refused> {
    let top = json(file)?;
    let list = object(&top, &["rules"], "the file")?.get("rules").and_then(Value::as_array);
    let mut rows = Vec::new();
    let mut uuids = BTreeSet::new();
    for value in list.ok_or_else(|| unknown("no list `rules`"))? {
        let call = object(value, &["uuid", "rule"], "a call")?;
        let uuid = text(call, "uuid", "a call")?;
        if !is_uuid(uuid) || !uuids.insert(uuid.to_owned()) {
            return Err(format!("`{uuid}` is no UUID, or there twice"));
        }
        let map = object(call.get("rule").unwrap_or(&Value::Null), &COLUMNS, "a rule")?;
        rows.push(
            COLUMNS
                .iter()
                .map(|k| Ok(((*k).to_owned(), text(map, k, "a rule")?.to_owned())))
                .collect::<Result<_, Refused>>()?,
        );
    }
    Ok(rows)
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = text.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    hex && parts.iter().map(|p| p.len()).eq([8, 4, 4, 4, 12])
        && parts[2].starts_with('4')
        && parts[3].starts_with(['8', '9', 'a', 'b'])
}

fn rule(row: &Row, version: (u32, u32), resolve: &Resolve<'_>) -> Result<Rule, Refused> {
    let get = |key: &str| row.get(key).map_or("", String::as_str);
    let one_of = |key: &str, words: &[&str]| {
        let word = get(key);
        if words.contains(&word) { Ok(word.to_owned()) } else { Err(format!("`{word}` is no `{key}`")) }
    };
    let modern = version > (24, 7);
    let interfaces: Vec<String> = get("interface").split(',').filter(|i| !i.is_empty()).map(str::to_owned).collect();
    let key = |name: &String| {
        name == "lan" || name == "wan" || name.strip_prefix("opt").is_some_and(|n| n.parse::<u32>().is_ok())
    };
    let group = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if let Some(name) = interfaces.iter().find(|name| !key(name) && !group(name)) {
        return Err(format!("`{name}` is no interface"));
    }
    let priority = match interfaces.as_slice() {
        [name] if key(name) => 400_000,
        // A group of interfaces, by name.
        [_] => 300_000,
        _ => 200_000,
    };
    let families = match get("ipprotocol") {
        "inet" => (true, false),
        "inet6" => (false, true),
        "inet46" if modern => (true, true),
        other => return Err(format!("`{other}` is no `ipprotocol` of {version:?}")),
    };
    let protocols = match get("protocol") {
        "any" => vec!["tcp", "udp", "icmp", "icmp6"],
        "TCP" => vec!["tcp"],
        "UDP" => vec!["udp"],
        "TCP/UDP" if modern => vec!["tcp", "udp"],
        "ICMP" => vec!["icmp"],
        "IPV6-ICMP" => vec!["icmp6"],
        other => return Err(format!("`{other}` is no `protocol` of {version:?}")),
    };
    let with_ports = protocols.iter().all(|p| matches!(*p, "tcp" | "udp"));
    let ports = |key: &str| match get(key) {
        "" => Ok(None),
        _ if !with_ports => Err("ports are only valid for tcp or udp".to_owned()),
        text => range(text, '-').map_or_else(|| resolve.ports(text), |range| Ok(vec![range])).map(Some),
    };
    let net = |key: &str| match get(key) {
        "any" => Ok(Addrs::every()),
        text => match Net::parse(text) {
            Some(net) if (net.is_v6() && families == (false, true)) || (!net.is_v6() && families == (true, false)) => {
                Ok(Addrs::of_entries(vec![(net, false)]))
            }
            Some(_) => Err(format!("`{text}` is not of the rule's family")),
            None => resolve.addrs(text, 0),
        },
    };
    let sequence: u32 = get("sequence").parse().map_err(|_| format!("`{}` is no sequence", get("sequence")))?;
    if !(1..=99_999).contains(&sequence) {
        return Err(format!("{sequence} is no sequence"));
    }
    if !get("categories").is_empty() {
        return Err(unknown("categories"));
    }
    describe(get("description"))?;
    Ok(Rule {
        group: priority,
        sequence,
        enabled: flag(get("enabled"))?,
        action: one_of("action", &["pass", "block", "reject"])?,
        quick: flag(get("quick"))?,
        interfaces,
        inbound: match get("direction") {
            "in" => Some(true),
            "out" => Some(false),
            "any" if version >= (26, 1) => None,
            other => return Err(format!("`{other}` is no `direction`")),
        },
        families,
        protocols,
        source: (flag(get("source_not"))?, net("source_net")?),
        source_ports: ports("source_port")?,
        destination: (flag(get("destination_not"))?, net("destination_net")?),
        ports: ports("destination_port")?,
        log: flag(get("log"))?,
        description: get("description").to_owned(),
    })
}

impl Rule {
    fn matches(&self, packet: &Packet, interface: &str) -> bool {
        let proto = match packet.proto {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
            Proto::Icmp(_) if packet.is_v6() => "icmp6",
            Proto::Icmp(_) => "icmp",
        };
        let holds = |ports: &Option<Vec<(u16, u16)>>, port: u16| {
            ports.as_ref().is_none_or(|list| list.iter().any(|(a, b)| (*a..=*b).contains(&port)))
        };
        let by = self.interfaces.is_empty()
            || (packet.interface == Interface::Ours && self.interfaces.iter().any(|name| name == interface));
        self.enabled
            && by
            && self.inbound.is_none_or(|inbound| inbound == (packet.path == Path::Through))
            && self.protocols.contains(&proto)
            && (if packet.is_v6() { self.families.1 } else { self.families.0 })
            && holds(&self.ports, packet.port)
            && holds(&self.source_ports, packet.source_port)
            && self.destination.1.contains(packet.dst) != self.destination.0
            && self.source.1.contains(packet.src) != self.source.0
    }
}

impl Enforcer for Opnsense {
    fn judge(&self, packet: &Packet) -> Verdict {
        let mut verdict = Verdict::unmatched();
        for rule in self.rules.iter().filter(|rule| rule.matches(packet, &self.interface)) {
            let pass = rule.action == "pass";
            let name = rule.description.strip_prefix("outgate ").unwrap_or(&rule.description);
            let name = name.split(':').next().unwrap_or(name);
            if rule.quick {
                return Verdict::new(if pass { Fate::Pass } else { Fate::Block }, name);
            }
            verdict = Verdict::new(Fate::Provisional(pass), name);
        }
        verdict
    }

    fn sets(&self) -> Vec<&Addrs> {
        self.rules.iter().flat_map(|rule| [&rule.source.1, &rule.destination.1]).collect()
    }

    fn ports(&self) -> Vec<(u16, u16)> {
        let of = |ports: &Option<Vec<(u16, u16)>>| ports.clone().unwrap_or_default();
        self.rules.iter().flat_map(|rule| [of(&rule.ports), of(&rule.source_ports)]).flatten().collect()
    }

    fn model(&self) -> Vec<String> {
        let line = |rule: &Rule| {
            let Rule { group, enabled, action, quick, interfaces, inbound, families, protocols, ports, log, .. } = rule;
            format!(
                "{group} {enabled} {action} quick:{quick} on {interfaces:?} in:{inbound:?} {families:?} {protocols:?} from \
                 {}{} {:?} to {}{} {ports:?} log:{log}",
                rule.source.0, rule.source.1, rule.source_ports, rule.destination.0, rule.destination.1
            )
        };
        self.rules.iter().map(line).collect()
    }
}

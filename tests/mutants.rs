//! The proof, proved: files that are wrong in one place must not pass for right. Each kind of change is made to rendered
//! files by a fixed throw of dice, and the readers judge the result: a packet of another fate, a file that is refused, or
//! no effect on a packet of any kind that the rules can tell apart; and then it must be one of the kinds that have none.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures of a run")]

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

mod support;
use support::netns::{self, Flow, Lab};
use support::readers::Files;
use support::readers::packet::{Enforcer, Fate, Interface, Net, Packet, Path, Proto};
use support::readers::squid::{Ask, Squid};
use support::site::{self, PF_FOLDER, ROUTER, Site, Targets};
use support::trial::{self, Dice};

/// Mutants of each kind and site, at most.
const EACH: usize = 2;

/// Kinds that can be without effect though the rules are no longer the same, what the change then holds, and why. Whatever
/// else survives is a hole in the proof.
const HARMLESS: &[(&str, &str, &str, &str)] = &[
    ("*", "swap neighbours", "", "no packet meets both, or both say the same"),
    ("opnsense", "swap sequences", "", "no packet meets both, or both say the same"),
    ("opnsense", "log", "", "a log line judges no packet"),
    ("nftables", "drop a statement", "limit rate", "log lines judge no flow"),
    ("nftables", "drop a statement", "ct state", "the states of connections that exist are no new flow's"),
    ("nftables", "drop a statement", "reject with tcp reset", "the line behind it denies the same with another answer"),
    (
        "nftables",
        "jump for goto",
        "",
        "the chain that is gone to decides about all packets, so that nothing comes back",
    ),
    ("nftables", "goto for jump", "", "behind the jump no other rule is about the packets that come back"),
    ("nftables", "drop a flush", " c_", "a client is judged where two sets hold it, and the other still keeps it out"),
    (
        "nftables",
        "widen by a bit",
        "192.0.2.",
        "a client is judged where two sets hold it, and the other still keeps it out",
    ),
    ("squid", "drop a name", "lists/deny_admin_http", "the list for TLS denies the same name as a host on any port"),
    (
        "squid",
        "drop a rule",
        "outgate_deny_admin_http =>",
        "the list for TLS denies the same names as hosts on any port",
    ),
    (
        "squid",
        "drop a rule",
        "outgate_deny_admin_tls =>",
        "the list for HTTP denies the same names as hosts on any port",
    ),
    (
        "squid",
        "reverse the verdict",
        "outgate_deny_admin_tls =>",
        "the list for HTTP denies the same names as hosts on any port",
    ),
    (
        "squid",
        "negate an ACL",
        "outgate_deny_admin_http outgate_blocked =>",
        "the list for TLS denies the same names as hosts on any port",
    ),
    ("squid", "drop -n", "", "addresses in place of names are denied before any name is compared"),
    ("squid", "drop a rule", "deny !outgate_connect !outgate_port_http", "each line that allows names its port too"),
    ("squid", "drop a rule", "deny outgate_connect !outgate_port_tls", "each line that allows names its port too"),
    ("squid", "drop a rule", "deny all =>", "behind a line that allows Squid denies the rest of itself"),
    ("squid", "drop the last rule", "deny all =>", "behind a line that allows Squid denies the rest of itself"),
    ("squid", "drop a rule", "deny outgate_literal =>", "no list of names holds an address"),
    ("squid", "drop the method", "", "the lines of methods and ports in front have denied the others"),
    ("squid", "drop the port", "", "the lines of methods and ports in front have denied the others"),
    ("squid", "drop the client", "_ip =>", "an address is looked at twice: by http_access and by ssl_bump"),
    ("squid", "drop the name", "outgate_literal", "an address is looked at twice: by http_access and by ssl_bump"),
];

struct Mutant {
    kind: &'static str,
    what: String,
    files: Files,
}

/// Where a change is made: file and line.
type Place = (String, usize);

/// One way to go wrong: what it is called, and the line that takes the place of another, where it applies.
type Change = (&'static str, Box<dyn Fn(&str, &mut Dice) -> Option<String>>);

fn change(kind: &'static str, make: impl Fn(&str, &mut Dice) -> Option<String> + 'static) -> Change {
    (kind, Box::new(make))
}

/// `from` becomes `to` in a line, once.
fn word(kind: &'static str, from: &'static str, to: &'static str) -> Change {
    change(kind, move |line, _| line.contains(from).then(|| line.replacen(from, to, 1)))
}

/// Lines that are read: no comments.
fn code(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

/// Lines of a file that a change can be made to.
fn places(files: &Files, file: impl Fn(&str) -> bool, line: impl Fn(&str) -> bool) -> Vec<Place> {
    let texts = files.iter().filter(|(name, _)| file(name));
    texts
        .flat_map(|(name, text)| {
            let lines = text.lines().enumerate().filter(|(_, l)| code(l) && line(l));
            lines.map(|(i, _)| (name.clone(), i)).collect::<Vec<_>>()
        })
        .collect()
}

fn lines(files: &Files, name: &str) -> Vec<String> {
    files[name].lines().map(str::to_owned).collect()
}

fn with(files: &Files, name: &str, lines: &[String]) -> Files {
    let mut files = files.clone();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    files.insert(name.to_owned(), text);
    files
}

/// Makes mutants of some kinds, each at some of the places.
struct Breeder<'a> {
    files: &'a Files,
    dice: Dice,
    bred: Vec<Mutant>,
}

impl<'a> Breeder<'a> {
    fn new(files: &'a Files) -> Self {
        Self { files, dice: Dice::new(20_261_122), bred: Vec::new() }
    }

    fn add(&mut self, kind: &'static str, what: String, files: Files) {
        if files != *self.files {
            self.bred.push(Mutant { kind, what, files });
        }
    }

    /// At least one mutant of a kind must come out, where `most` is not 0: a kind that no longer applies tests nothing.
    fn some(&mut self, places: &[Place], most: usize, change: &Change) {
        let mut places = places.to_vec();
        let mut made = 0;
        while made < most && !places.is_empty() {
            let (name, number) = places.swap_remove(self.dice.below(places.len()));
            let mut lines = lines(self.files, &name);
            let Some(line) = (change.1)(&lines[number], &mut self.dice) else { continue };
            let what = format!("{name}:{}: {} => {}", number + 1, lines[number].trim(), line.trim());
            lines[number] = line;
            let files = with(self.files, &name, &lines);
            self.add(change.0, what, files);
            made += 1;
        }
    }

    fn drop_lines(&mut self, kind: &'static str, places: &[Place], most: usize) {
        self.some(places, most, &change(kind, |_, _| Some("#".to_owned())));
    }

    fn swap(&mut self, places: &[Place], most: usize) {
        let pairs: Vec<(&Place, &Place)> = places.iter().zip(&places[1..]).filter(|(a, b)| a.0 == b.0).collect();
        for _ in 0..most.min(pairs.len()) {
            let ((name, a), (_, b)) = pairs[self.dice.below(pairs.len())];
            let mut lines = lines(self.files, name);
            lines.swap(*a, *b);
            let what = format!("{name}:{} and {}", a + 1, b + 1);
            let files = with(self.files, name, &lines);
            self.add("swap neighbours", what, files);
        }
    }
}

/// Replaces the text between two marks.
fn between(line: &str, open: &str, close: &str, make: impl FnOnce(&str) -> Option<String>) -> Option<String> {
    let start = line.find(open)? + open.len();
    let end = start + line[start..].find(close)?;
    Some(format!("{}{}{}", &line[..start], make(&line[start..end])?, &line[end..]))
}

/// A list of ports with one more, one less, one gone, or one another.
fn ports(list: &str, separator: &str, dash: &str, dice: &mut Dice) -> Option<String> {
    let mut items: Vec<String> =
        list.split(separator).map(|item| item.trim().to_owned()).filter(|i| !i.is_empty()).collect();
    let at = dice.below(items.len().max(1));
    let item = items.get(at)?.clone();
    let (first, last) = item.split_once(dash).unwrap_or((&item, &item));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    let write = |a: u16, b: u16| if a == b { a.to_string() } else { format!("{a}{dash}{b}") };
    items[at] = match dice.below(4) {
        0 if items.len() > 1 => {
            return Some(items.iter().filter(|i| **i != item).cloned().collect::<Vec<_>>().join(separator));
        }
        0 | 1 => write(first, last.checked_add(1)?),
        2 if first > 1 => write(first - 1, last),
        _ if first < last => write(first + 1, last),
        _ => write(first.checked_add(1)?, last.checked_add(1)?),
    };
    Some(items.join(separator))
}

/// An address or prefix that is one bit wider, or the next one, or gone: `None`.
fn element(text: &str, how: &'static str) -> Option<String> {
    let (addr, length) = text.split_once('/').unwrap_or((text, ""));
    let addr: IpAddr = addr.parse().ok()?;
    let full = if addr.is_ipv4() { 32 } else { 128 };
    let length: u32 = if length.is_empty() { full } else { length.parse().ok()? };
    let (bits, one) = match addr {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 1_u128 << (full - length)),
        IpAddr::V6(v6) => (v6.to_bits(), 1_u128 << (full - length)),
    };
    let (bits, length) = match how {
        "widen by a bit" => (bits & !one, length - 1),
        _ => (bits ^ one, length),
    };
    let addr = if full == 32 { IpAddr::V4(u32::try_from(bits).ok()?.into()) } else { IpAddr::V6(bits.into()) };
    Some(if length == full { addr.to_string() } else { format!("{addr}/{length}") })
}

const WIDEN: &str = "widen by a bit";
const SHIFT: &str = "another address";

/// Changes to lines that hold one address each, with what follows it.
fn elements(kind: &'static str) -> Change {
    change(kind, move |line, _| {
        let text = line.trim().trim_end_matches(',');
        Net::parse(text)?;
        Some(line.replacen(text, &element(text, kind)?, 1))
    })
}

fn pf(files: &Files) -> Vec<Mutant> {
    let mut b = Breeder::new(files);
    let main = |name: &str| name == "outgate.conf";
    let rules = places(files, main, |l| l.starts_with("pass") || l.starts_with("block"));
    let tables = places(files, main, |l| l.starts_with("table"));
    let own = places(files, main, |l| l.starts_with('\t'));
    let answered = places(files, |name| name.starts_with("tables/"), |_| true);
    assert!(!own.is_empty() && !answered.is_empty(), "tables of both kinds");
    let entries = [own, answered].concat();
    b.drop_lines("drop a rule", &rules, 2 * EACH);
    b.drop_lines("drop the last rule", &rules[rules.len() - 1..], 1);
    b.drop_lines("drop a table's declaration", &tables, EACH);
    b.drop_lines("drop an address", &entries, 2 * EACH);
    b.swap(&rules, EACH);
    for change in [elements(WIDEN), elements(SHIFT)] {
        b.some(&entries, EACH, &change);
    }
    b.some(&entries, EACH, &change("negate an address", |line, _| Some(format!("!{line}"))));
    b.some(&rules, EACH, &word("reverse the verdict", "pass ", "block drop "));
    let reverse = |l: &str, _: &mut Dice| {
        l.strip_prefix("block ").and_then(|r| r.split_once(' ')).map(|(_, r)| format!("pass {r}"))
    };
    b.some(&rules, EACH, &change("reverse the verdict", reverse));
    for change in [
        word("drop quick", " quick", ""),
        word("turn around", " in ", " out "),
        word("turn around", " out ", " in "),
        word("another interface", " on em1", " on em2"),
        word("every interface", " on em1", ""),
        word("restrict to a family", " on em1 ", " on em1 inet "),
        word("restrict to a family", " on em1 ", " on em1 inet6 "),
        word("another protocol", "proto tcp", "proto udp"),
        word("another protocol", "proto udp", "proto tcp"),
        word("negate a table", "from <", "from ! <"),
        word("negate a table", " to <", " to ! <"),
        word("rename a table", "<og_", "<og2_"),
        word("rename a table", "<ogc_", "<ogc2_"),
        word("without quotes", "label \"", "label "),
        change("drop the ports", |l, _| {
            between(l, " port", "}", |_| Some(String::new())).map(|l| l.replacen(" port}", "", 1))
        }),
        change("another port", |l, dice| between(l, "port { ", " }", |p| ports(p, " ", ":", dice))),
        change("any server", |l, _| {
            between(l, " to ", ">", |_| Some("any".to_owned())).map(|l| l.replacen("any>", "any", 1))
        }),
        change("any client", |l, _| {
            between(l, " from ", ">", |_| Some("any".to_owned())).map(|l| l.replacen("any>", "any", 1))
        }),
        change("exchange the sides", |l, _| {
            let from = l.split(" from ").nth(1)?.split(' ').next()?.to_owned();
            let to = l.split(" to ").nth(1)?.split(' ').next()?.to_owned();
            Some(l.replacen(&format!("from {from} to {to}"), &format!("from {to} to {from}"), 1))
        }),
    ] {
        b.some(&rules, EACH, &change);
    }
    b.some(&tables, EACH, &word("rename a table", "table <og_", "table <og2_"));
    b.some(&tables, EACH, &word("rename a table", "table <ogc_", "table <ogc2_"));
    b.some(&tables, 1, &word("another file", "/tables/og", "/tables/no"));
    b.some(&tables, 1, &word("drop persist", "persist", ""));
    b.bred
}

fn nft(files: &Files) -> Vec<Mutant> {
    let mut b = Breeder::new(files);
    let all = |_: &str| true;
    let text = &files["outgate.nft"];
    let rules = places(files, all, |l| l.contains(" dport {") || l.contains("saddr @"));
    let allow = places(files, all, |l| l.contains("counter accept comment"));
    let sets = places(files, all, |l| l.starts_with("\tset ") && l.ends_with('{'));
    let plain = places(files, all, |l| Net::parse(l.trim().trim_end_matches(',')).is_some());
    let statements = places(files, all, |l| {
        l.starts_with("\t\t") && !l.starts_with("\t\t\t") && !l.contains("saddr") && !l.contains("elements")
    });
    b.drop_lines("drop a rule", &rules, 2 * EACH);
    b.drop_lines("drop a statement", &statements, 6 * EACH);
    b.drop_lines("drop an address", &plain, 2 * EACH);
    b.drop_lines("drop a flush", &places(files, all, |l| l.starts_with("flush set")), EACH);
    b.drop_lines("drop the flush of the table", &places(files, all, |l| l.starts_with("flush table")), 1);
    b.drop_lines("drop the declarations", &places(files, all, |l| l.starts_with("\tset ") && l.ends_with("}")), EACH);
    b.drop_lines("drop the declarations", &places(files, all, |l| l.starts_with("\tchain ") && l.ends_with("}")), EACH);
    b.drop_lines("drop the last rule", &places(files, all, |l| l.trim() == "goto denied"), 1);
    b.drop_lines("drop a kind of set", &places(files, all, |l| l.trim() == "flags interval"), EACH);
    b.swap(&allow, EACH);
    b.swap(&rules, EACH);
    for change in [elements(WIDEN), elements(SHIFT)] {
        b.some(&plain, EACH, &change);
    }
    for change in [
        word("reverse the verdict", "counter accept", "counter goto denied"),
        word("reverse the verdict", "counter accept", "counter drop"),
        word("reverse the verdict", "goto blocked", "accept"),
        word("jump for goto", "goto", "jump"),
        word("goto for jump", "jump", "goto"),
        word("another family", "ip saddr", "ip6 saddr"),
        word("another family", "ip daddr", "ip6 daddr"),
        word("exchange the sides", "saddr", "daddr"),
        word("exchange the sides", "daddr", "saddr"),
        word("another protocol", "tcp dport", "udp dport"),
        word("another protocol", "udp dport", "tcp dport"),
        word("the other port", "dport", "sport"),
        word("rename a set", "@d_", "@d2_"),
        word("rename a set", "@c_", "@c2_"),
        word("another chain", "goto denied", "goto allowed"),
        word("another chain", "goto allowed", "goto denied"),
        change("another port", |l, dice| between(l, "dport { ", " }", |p| ports(p, ", ", "-", dice))),
        change("drop a match", |l, _| {
            let at = l.find(" daddr @")?;
            let start = l[..at].rfind(' ')?;
            let end = at + 8 + l[at + 8..].find(' ')?;
            Some(format!("{}{}", &l[..start], &l[end..]))
        }),
        change("drop a match", |l, _| {
            let start = l.find(" dport {")?;
            let proto = l[..start].rfind(' ')?;
            let end = start + l[start..].find('}')? + 1;
            Some(format!("{}{}", &l[..proto], &l[end..]))
        }),
    ] {
        b.some(&rules, EACH, &change);
    }
    for set in [word("rename a set", "set d_", "set d2_"), word("rename a set", "set c_", "set c2_")] {
        b.some(&sets, EACH, &set);
    }
    let all_lines = places(files, all, |_| true);
    for change in [
        word("another hook", "hook forward", "hook output"),
        word("another policy", "policy accept", "policy drop"),
        word("another type", "ipv4_addr", "ipv6_addr"),
        word("rename a table", "table inet outgate", "table inet outgate2"),
        change("rename a chain", |l, _| (l == "\tchain denied {").then(|| "\tchain denied2 {".to_owned())),
        word("without an answer", "reject with tcp reset", "reject with"),
    ] {
        b.some(&all_lines, EACH, &change);
    }
    // Two sets of one kind, exchanged.
    let names: Vec<String> = sets
        .iter()
        .map(|(n, i)| lines(files, n)[*i].trim().trim_start_matches("set ").trim_end_matches(" {").to_owned())
        .collect();
    for _ in 0..EACH {
        let (a, c) = (b.dice.pick(&names).clone(), b.dice.pick(&names).clone());
        let swapped = text
            .replace(&format!("@{a} "), "@\u{1} ")
            .replace(&format!("@{c} "), &format!("@{a} "))
            .replace("@\u{1} ", &format!("@{c} "));
        b.add("exchange two sets", format!("{a} and {c}"), Files::from([("outgate.nft".to_owned(), swapped)]));
    }
    b.bred
}

/// A row of the upload, or a payload on one line, with a column changed.
fn column(
    kind: &'static str,
    column: usize,
    key: &'static str,
    to: impl Fn(&str, &mut Dice) -> Option<String> + 'static,
) -> Change {
    change(kind, move |line, dice| {
        if line.contains(';') {
            let mut cells: Vec<String> = line.split(';').map(str::to_owned).collect();
            let new = to(cells.get(column)?, dice)?;
            cells[column] = new;
            return Some(cells.join(";"));
        }
        let mark = format!("\"{key}\": \"");
        between(line, &mark, "\"", |old| to(old, dice))
    })
}

fn opnsense(files: &Files) -> Vec<Mutant> {
    let csv = files.contains_key("rules.csv");
    let mut b = Breeder::new(files);
    let is_rules = |name: &str| name.starts_with("rules");
    let rows = places(files, is_rules, |l| !l.starts_with("@uuid"));
    let fixed = |to: &'static str| move |old: &str, _: &mut Dice| (old != to).then(|| to.to_owned());
    for change in [
        column("reverse the verdict", 3, "action", |old, _| {
            Some(if old == "pass" { "block" } else { "pass" }.to_owned())
        }),
        column("unknown action", 3, "action", fixed("allow")),
        column("drop quick", 4, "quick", fixed("0")),
        column("another interface", 5, "interface", fixed("opt1")),
        column("every interface", 5, "interface", fixed("")),
        column("turn around", 6, "direction", fixed("out")),
        column("change the family", 7, "ipprotocol", fixed("inet")),
        column("change the family", 7, "ipprotocol", fixed("inet6")),
        column("another protocol", 8, "protocol", fixed("UDP")),
        column("another protocol", 8, "protocol", fixed("ICMP")),
        column("another protocol", 8, "protocol", fixed("any")),
        column("any client", 9, "source_net", fixed("any")),
        column("negate a side", 10, "source_not", fixed("1")),
        column("a source port", 11, "source_port", fixed("443")),
        column("any server", 12, "destination_net", fixed("any")),
        column("rename an alias", 12, "destination_net", |old, _| (old != "any").then(|| format!("{old}x"))),
        column("negate a side", 13, "destination_not", fixed("1")),
        column("drop the ports", 14, "destination_port", fixed("")),
        column("another port", 14, "destination_port", |old, dice| ports(old, ",", "-", dice)),
        column("disable", 1, "enabled", fixed("0")),
        column("no flag", 1, "enabled", fixed("yes")),
        column("log", 15, "log", |old, _| Some(if old == "0" { "1" } else { "0" }.to_owned())),
    ] {
        b.some(&rows, EACH, &change);
    }
    if csv {
        let mut all = lines(files, "rules.csv");
        for _ in 0..2 * EACH {
            let at = 1 + b.dice.below(all.len() - 1);
            let gone = all.remove(at);
            let mutant = with(files, "rules.csv", &all);
            b.add(if at == all.len() { "drop the last rule" } else { "drop a rule" }, gone.clone(), mutant);
            all.insert(at, gone);
        }
        let last = all.pop().unwrap();
        b.add("drop the last rule", last.clone(), with(files, "rules.csv", &all));
        all.push(last);
        for _ in 0..EACH {
            let at = 1 + b.dice.below(all.len() - 2);
            let (mut one, mut two): (Vec<&str>, Vec<&str>) =
                (all[at].split(';').collect(), all[at + 1].split(';').collect());
            std::mem::swap(&mut one[2], &mut two[2]);
            let (one, two) = (one.join(";"), two.join(";"));
            let mut new = all.clone();
            (new[at], new[at + 1]) = (one, two);
            b.add("swap sequences", format!("rows {at} and {}", at + 1), with(files, "rules.csv", &new));
            let mut equal = all.clone();
            let cells: Vec<&str> = all[at + 1].split(';').collect();
            equal[at] = all[at]
                .splitn(4, ';')
                .enumerate()
                .map(|(i, c)| if i == 2 { cells[2] } else { c })
                .collect::<Vec<_>>()
                .join(";");
            b.add("equal sequences", format!("rows {at} and {}", at + 1), with(files, "rules.csv", &equal));
        }
        let head = [(String::from("rules.csv"), 0)];
        for change in [
            word("rename a column", "direction", "way"),
            word("rename a column", "@uuid", "\u{feff}@uuid"),
            word("rename a column", ";log;", ";"),
        ] {
            b.some(&head, 1, &change);
        }
    }
    let aliases = |name: &str| name == "aliases.json";
    let content = places(files, aliases, |l| l.contains("\"content\": \""));
    let of_item = |kind: &'static str, make: fn(&str) -> Option<String>| {
        change(kind, move |line, dice| {
            between(line, "\"content\": \"", "\"", |list| {
                let mut items: Vec<String> = list.split("\\n").map(str::to_owned).collect();
                let at = dice.below(items.len());
                match make(&items[at])? {
                    new if new.is_empty() && items.len() > 1 => _ = items.remove(at),
                    new => items[at] = new,
                }
                Some(items.join("\\n"))
            })
        })
    };
    for change in [
        of_item("drop an address", |_| Some(String::new())),
        of_item(WIDEN, |item| element(item, WIDEN)),
        of_item(SHIFT, |item| element(item, SHIFT)),
        of_item("another name", |item| Net::parse(item).is_none().then(|| format!("x{item}"))),
        of_item("negate an address", |item| Some(format!("!{item}"))),
        of_item("a wildcard", |item| Net::parse(item).is_none().then(|| format!("*.{item}"))),
    ] {
        b.some(&content, EACH, &change);
    }
    let any = places(files, aliases, |_| true);
    for change in [
        word("rename an alias", "\"name\": \"OG", "\"name\": \"OX"),
        word("another type", "\"type\": \"host\"", "\"type\": \"network\""),
        word("another type", "\"type\": \"network\"", "\"type\": \"host\""),
        word("another type", "\"type\": \"network\"", "\"type\": \"port\""),
        word("disable", "\"enabled\": \"1\"", "\"enabled\": \"0\""),
        word("no text", "\"enabled\": \"1\"", "\"enabled\": 1"),
        word("unknown key", "\"proto\"", "\"expire\""),
    ] {
        b.some(&any, EACH, &change);
    }
    b.bred
}

/// A line of Squid's without the first ACL of this beginning.
fn drop_acl(line: &str, start: &str) -> Option<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let at = words.iter().position(|word| word.starts_with(start))?;
    Some(words.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, word)| *word).collect::<Vec<_>>().join(" "))
}

fn squid(files: &Files) -> Vec<Mutant> {
    let mut b = Breeder::new(files);
    let main = |name: &str| name == "outgate.conf";
    let access = places(files, main, |l| l.starts_with("http_access"));
    let bump = places(files, main, |l| l.starts_with("ssl_bump"));
    let acls = places(files, main, |l| l.starts_with("acl "));
    let names = places(files, |name| name.starts_with("lists/"), |_| true);
    let nets = places(files, main, |l| l.contains(" src ") || l.contains(" dst "));
    b.drop_lines("drop a rule", &access, 2 * EACH);
    b.drop_lines("drop a rule", &bump, 2 * EACH);
    b.drop_lines("drop the last rule", &access[access.len() - 1..], 1);
    b.drop_lines("drop the last rule", &bump[bump.len() - 1..], 1);
    b.drop_lines("drop the word on what is no TLS", &places(files, main, |l| l.starts_with("on_unsupported")), 1);
    b.drop_lines("drop an ACL", &acls, 2 * EACH);
    b.drop_lines("drop a name", &names, 2 * EACH);
    b.swap(&access, EACH);
    b.swap(&bump, EACH);
    for change in [
        word("reverse the verdict", "http_access allow", "http_access deny"),
        word("reverse the verdict", "http_access deny", "http_access allow"),
        change("negate an ACL", |l, _| {
            let at = l.rfind(' ')?;
            (!l[at..].contains('!')).then(|| format!("{} !{}", &l[..at], &l[at + 1..]))
        }),
        word("drop a negation", " !", " "),
        word("drop the method", " outgate_connect", ""),
        word("drop the method", " !outgate_connect", ""),
        word("drop the port", " outgate_port_tls", ""),
        word("drop the port", " outgate_port_http", ""),
        change("drop the client", |l, _| drop_acl(l, "outgate_from_")),
        // Behind the name of a denial stands a mark for the log.
        change("drop the name", |l, _| drop_acl(l, "outgate_deny").or_else(|| drop_acl(l, "outgate_allow"))),
    ] {
        b.some(&access, 2 * EACH, &change);
    }
    for change in [
        word("reverse the verdict", "ssl_bump splice", "ssl_bump terminate"),
        word("reverse the verdict", "ssl_bump terminate", "ssl_bump splice"),
        word("reverse the verdict", "ssl_bump peek", "ssl_bump splice"),
        word("decrypt", "ssl_bump splice", "ssl_bump bump"),
        change("drop the client", |l, _| drop_acl(l, "outgate_from_")),
        change("drop the name", |l, _| {
            let (head, last) = l.rsplit_once(' ')?;
            (last.starts_with("outgate_allow") || last.starts_with("outgate_deny")).then(|| head.to_owned())
        }),
    ] {
        b.some(&bump, EACH, &change);
    }
    for change in [
        word("drop -n", " -n ", " "),
        word("drop --client-requested", " --client-requested", ""),
        word("another port", "port 443", "port 8443"),
        word("another port", "port 80", "port 8080"),
        word("another name", "acl outgate_allow", "acl outgate_allo"),
        word("another step", "SslBump1", "SslBump2"),
        word("another method", "method CONNECT", "method GET"),
        word("another file", "_tls.txt", "_tls2.txt"),
        word("another port name", "myportname outgate", "myportname other"),
        word("a pattern less", "^[0-9.]+$ ", ""),
    ] {
        b.some(&acls, EACH, &change);
    }
    b.some(&names, EACH, &change("a dot in front", |l, _| (!l.starts_with('.')).then(|| format!(".{l}"))));
    b.some(&names, EACH, &change("a star in front", |l, _| Some(format!("*.{l}"))));
    b.some(&names, EACH, &change("another name", |l, _| Some(format!("x{l}"))));
    b.some(&names, EACH, &change("two on a line", |l, _| Some(format!("{l} other.example.org"))));
    for kind in [WIDEN, SHIFT] {
        let change = change(kind, move |l, _| {
            let (head, net) = l.rsplit_once(' ')?;
            Some(format!("{head} {}", element(net, kind)?))
        });
        b.some(&nets, EACH, &change);
    }
    b.bred
}

/// The reason of a mutant whose rules are those of the original.
const SAME: &str = "the same rules in other words";

/// What became of mutants.
#[derive(Default)]
struct Score {
    mutants: usize,
    caught: usize,
    refused: usize,
    /// Without effect, by target and kind.
    idle: BTreeMap<(&'static str, &'static str), usize>,
    /// Unexplained survivors.
    survivors: Vec<String>,
}

impl Score {
    /// A mutant without effect. Where the rules read are the same, that is said; else its kind must be a known one.
    fn idle(&mut self, target: &'static str, mutant: &Mutant, same: bool) {
        if same {
            *self.idle.entry((target, SAME)).or_default() += 1;
            return;
        }
        *self.idle.entry((target, mutant.kind)).or_default() += 1;
        let known = |(of, kind, holds, _): &(&str, &str, &str, &str)| {
            (*of == target || *of == "*") && *kind == mutant.kind && mutant.what.contains(holds)
        };
        if !HARMLESS.iter().any(known) {
            self.survivors.push(format!("{target}: {}: {}", mutant.kind, mutant.what));
        }
    }

    fn print(&self) {
        println!(
            "{} mutants: {} caught, {} refused, {} without effect",
            self.mutants,
            self.caught,
            self.refused,
            self.idle.values().sum::<usize>()
        );
        for ((target, kind), n) in &self.idle {
            let why = HARMLESS.iter().find(|(of, k, ..)| (of == target || *of == "*") && k == kind);
            println!("  without effect: {n} × {target}, {kind}: {}", why.map_or("-", |(.., why)| why));
        }
    }
}

/// The sites that are mutated. They have a catalog and a profile of their own, so that what is bred stays the same, and no
/// rule that another makes needless: what changes such a rule changes nothing. A denial is about administrators, for to the
/// other clients what no rule allows is denied anyway, and in Squid it is below a wildcard.
fn subjects() -> Vec<Site> {
    let clients = (
        "  nas: [192.0.2.40, \"2001:db8:10::40\"]\n",
        "  nas: [192.0.2.40, \"2001:db8:10::40\"]\n  admin: [192.0.2.20, \"2001:db8:10::20\"]\n  \
         jails: [192.0.2.64/27, \"2001:db8:10:1::/64\"]\n",
    );
    let extra = (
        "answers:\n",
        "extra:\n  - {id: web, purpose: p, origin: [nas], hosts: [a.example.org, b.example.org], ports: [443/tcp]}\n  \
         - {id: plain, purpose: p, origin: [nas], hosts: [plain.example.org], ports: [80/tcp]}\n  \
         - {id: wild, purpose: p, origin: [nas, browser], hosts: [\"*.wild.example.org\"], ports: [80/tcp, 443/tcp]}\n  \
         - {id: nets, purpose: p, origin: [nas], hosts: [198.18.0.0/24, \"2001:db8:77::/64\", 203.0.113.77], \
         ports: [80/tcp, 443/tcp, 8443-8450/tcp, 9000/udp]}\n  \
         - {id: packages, purpose: p, origin: [jail], hosts: [pkg.example.org], ports: [443/tcp]}\n  \
         - {id: everybody, purpose: p, origin: [nas, jail], hosts: [all.example.org, 198.18.4.0/25], ports: [22/tcp, 443/tcp]}\n  \
         - {id: time, purpose: p, origin: [nas], hosts: [time.example.org], ports: [123/udp]}\n  \
         - {id: pair, purpose: p, origin: [jail], hosts: [pair.example.org], \
         ports: [7000-7009/tcp, 7011/tcp, 7000-7009/udp, 7011/udp]}\n  \
         - {id: spy, purpose: p, class: usage, origin: [browser], hosts: [spy.wild.example.org], ports: [443/tcp]}\n  \
         - {id: spies, purpose: p, class: usage, origin: [browser], hosts: [one.wild.example.org, two.wild.example.org], \
         ports: [443/tcp]}\n\nleave-out: [{callout: usage, reason: the appliance is denied it anyway}]\n\nanswers:\n",
    );
    let changes = [clients, extra];
    let site = |name: &str, targets| {
        Site::with(name, "other-product", &changes, targets, PF_FOLDER, |policy| site::lock_of(policy, ""))
    };
    vec![
        site("names", ROUTER),
        site("addresses", Targets { version: "25.1", resolve: "lock", denied: "drop", ..ROUTER }),
    ]
}

/// A strict site on which every denial is needed: about administrators, whom nothing else limits, and about a name that the
/// appliance is denied and jails are not. There the order of the rules decides.
fn strict() -> Site {
    let clients = (
        "  nas: [192.0.2.40, \"2001:db8:10::40\"]\n",
        "  nas: [192.0.2.40, \"2001:db8:10::40\"]\n  admin: [192.0.2.20, \"2001:db8:10::20\"]\n  \
         jails: [192.0.2.64/27, \"2001:db8:10:1::/64\"]\n",
    );
    let features = ("features: [updates]", "features: []");
    let levels = ("strict: [usage]", "strict: [usage, suspected]");
    let extra = (
        "answers:\n",
        "extra:\n  - {id: web, purpose: p, origin: [nas], hosts: [a.example.org], ports: [443/tcp, 8443/udp]}\n  \
         - {id: everybody, purpose: p, origin: [nas, jail], hosts: [all.example.org], ports: [22/tcp, 80/tcp, 443/tcp, 443/udp]}\n  \
         - {id: pages, purpose: p, origin: [browser], hosts: [\"*.wild.example.org\"], ports: [80/tcp, 443/tcp]}\n  \
         - {id: counted, purpose: p, class: usage, origin: [nas], hosts: [all.example.org], ports: [443/tcp]}\n  \
         - {id: spy, purpose: p, class: usage, origin: [browser], hosts: [spy.wild.example.org], ports: [443/tcp]}\n  \
         - {id: spies, purpose: p, class: suspected, origin: [browser], \
         hosts: [one.wild.example.org, two.wild.example.org, 198.18.9.9, \"2001:db8:79::9\"], ports: [443/tcp]}\n\n\
         leave-out: [{callout: usage, reason: the appliance is denied it anyway}]\n\nanswers:\n",
    );
    let targets = Targets { version: "26.1", resolve: "lock", ..ROUTER };
    let changes = [clients, features, levels, extra];
    Site::with("strict", "other-product", &changes, targets, PF_FOLDER, |policy| site::lock_of(policy, ""))
}

/// A line moved to where another stands.
fn moved(files: &Files, name: &str, from: usize, to: usize) -> Files {
    let mut lines = lines(files, name);
    let line = lines.remove(from);
    lines.insert(to, line);
    with(files, name, &lines)
}

/// Where the addresses of some rules stand: files and lines.
fn addresses_of(target: &str, files: &Files, keys: &[&str]) -> Vec<(String, Vec<usize>)> {
    let named =
        |line: &str, before: &str, after: &str| keys.iter().any(|k| line.contains(&format!("{before}{k}{after}")));
    let text = if target == "nftables" { lines(files, "outgate.nft") } else { Vec::new() };
    match target {
        "pf" => files
            .keys()
            .filter(|name| named(name, "tables/og_", ".txt") || named(name, "tables/og_", "_h.txt"))
            .map(|name| (name.clone(), places(files, |n| n == name, |_| true).into_iter().map(|(_, at)| at).collect()))
            .collect(),
        "nftables" => keys
            .iter()
            .map(|key| {
                let inside = |&(at, _): &(usize, &String)| {
                    let head = text[..at].iter().rev().find(|l| l.starts_with("\tset ") || *l == "\t}");
                    head.is_some_and(|l| l.starts_with(&format!("\tset d_{key}_")) && l.ends_with('{'))
                };
                let addrs =
                    text.iter().enumerate().filter(|(_, l)| Net::parse(l.trim().trim_end_matches(',')).is_some());
                ("outgate.nft".to_owned(), addrs.filter(inside).map(|(at, _)| at).collect())
            })
            .collect(),
        _ => {
            let aliases = lines(files, "aliases.json");
            let content = aliases.iter().enumerate().filter(|(_, l)| l.contains("\"content\": \""));
            let own = content.filter(|(at, _)| {
                let name = aliases[..*at].iter().rfind(|l| l.contains("\"name\": \""));
                name.is_some_and(|l| named(l, "OG_", "\""))
            });
            own.map(|(at, _)| ("aliases.json".to_owned(), vec![at])).collect()
        }
    }
}

/// Every way to lose a denial of a strict site, one by one: each denial gone; each behind what it is to come before; what
/// allows the same, and the last rule, before all denials; each denial without IPv6; each of its addresses or names gone.
fn losses(target: &str, files: &Files) -> Vec<Mutant> {
    let mut b = Breeder::new(files);
    let main = match target {
        "pf" | "squid" => "outgate.conf",
        "nftables" => "outgate.nft",
        _ => "rules.csv",
    };
    let of = |what: &dyn Fn(&str) -> bool| -> Vec<usize> {
        places(files, |name| name == main, what).into_iter().map(|(_, at)| at).collect()
    };
    let keys = ["counted", "spies", "spy"];
    let named =
        |line: &str, before: &str, after: &str| keys.iter().any(|k| line.contains(&format!("{before}{k}{after}")));
    let (denials, allows, last) = match target {
        "pf" => (
            of(&|l| l.starts_with("block") && named(l, "\"outgate:", "\"")),
            of(&|l| l.starts_with("pass") && l.contains("\"outgate:everybody\"")),
            of(&|l| l.contains("\"outgate:denied\"")),
        ),
        "nftables" => (of(&|l| l.contains("goto blocked")), of(&|l| l.contains("goto allowed")), Vec::new()),
        "opnsense" => (
            of(&|l| l.contains(";reject;") && named(l, "outgate ", ":")),
            of(&|l| l.contains(";pass;") && l.contains("outgate everybody:")),
            of(&|l| l.contains("outgate denied:")),
        ),
        // The lists of names for HTTP and TLS deny the same names: one line alone is not needed, but for TLS's own.
        _ => (
            of(&|l| l.starts_with("ssl_bump terminate outgate_step2 outgate_from_deny")),
            of(&|l| l.starts_with("ssl_bump splice") && !l.contains("outgate_allow_nas_tls")),
            of(&|l| l == "ssl_bump terminate all"),
        ),
    };
    assert!(!denials.is_empty() && !allows.is_empty(), "{target}");
    let text = lines(files, main);
    let (first, end) = (denials[0], *allows.iter().chain(&denials).chain(&last).max().unwrap());
    // Rows of OPNsense are judged by their sequence, wherever they stand.
    let sequence = |files: &Files, line: usize, to: &str| {
        let mut all = lines(files, main);
        let mut cells: Vec<&str> = text[line].split(';').collect();
        cells[2] = to;
        all[line] = cells.join(";");
        with(files, main, &all)
    };
    b.drop_lines("drop a denial", &denials.iter().map(|&at| (main.to_owned(), at)).collect::<Vec<_>>(), denials.len());
    // To administrators no address is allowed, so that the place of what they are denied is of no matter.
    for &at in denials.iter().filter(|&&at| target == "squid" || !text[at].to_lowercase().contains("c_admin")) {
        let files = if target == "opnsense" { sequence(files, at, "99999") } else { moved(files, main, at, end) };
        b.add("a denial at the end", text[at].clone(), files);
    }
    for &at in allows.iter().chain(&last) {
        let files = if target == "opnsense" { sequence(files, at, "1") } else { moved(files, main, at, first) };
        b.add("an allow or the end in front", text[at].clone(), files);
    }
    if target == "squid" {
        // Each kind of client loses both lines at once.
        for who in ["admin", "nas"] {
            let own = format!("outgate_from_deny_{who} ");
            let kept = |l: &&String| !(l.starts_with("http_access deny") && l.contains(&own));
            let rest: Vec<String> = text.iter().filter(kept).cloned().collect();
            b.add("drop the denials of a client", who.to_owned(), with(files, main, &rest));
        }
        let names: Vec<String> =
            files.iter().filter(|(n, _)| n.starts_with("lists/deny_")).flat_map(|(n, _)| lines(files, n)).collect();
        for name in names.iter().filter(|line| code(line)) {
            // From both lists.
            let mut without = files.clone();
            for (_, text) in without.iter_mut().filter(|(n, _)| n.starts_with("lists/deny_")) {
                *text = text.lines().filter(|line| line != name).map(|line| format!("{line}\n")).collect();
            }
            b.add("drop a name from every denial", name.clone(), without);
        }
        return b.bred;
    }
    let change = elements(WIDEN);
    for (name, at) in addresses_of(target, files, &["web", "everybody"]) {
        for line in at {
            // An alias stands on one line.
            let wider = |text: &str| match target {
                "opnsense" => between(text, "\"content\": \"", "\"", |list| {
                    let items: Option<Vec<String>> = list.split("\\n").map(|item| element(item, WIDEN)).collect();
                    Some(items?.join("\\n"))
                }),
                _ => (change.1)(text, &mut Dice::new(0)),
            };
            let mut all = lines(files, &name);
            all[line] = wider(&all[line]).unwrap();
            b.add("an allow wider by a bit", format!("{name}:{line}"), with(files, &name, &all));
        }
    }
    let sets = addresses_of(target, files, &keys);
    assert!(sets.len() >= keys.len() && sets.iter().all(|(_, lines)| !lines.is_empty()), "{target}: {sets:?}");
    for (name, at) in sets {
        if target == "opnsense" {
            let line = lines(files, &name)[at[0]].clone();
            let list = line.split("\"content\": \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            let items: Vec<&str> = list.split("\\n").collect();
            let mut less = |kind, gone: &dyn Fn(&str) -> bool| {
                let rest: Vec<&str> = items.iter().copied().filter(|item| !gone(item)).collect();
                let mut all = lines(files, &name);
                all[at[0]] = between(&line, "\"content\": \"", "\"", |_| Some(rest.join("\\n"))).unwrap();
                b.add(kind, line.trim().to_owned(), with(files, &name, &all));
            };
            less("a denial without IPv6", &|item| item.contains(':'));
            for gone in &items {
                less("a denial without an address", &|item| item == *gone);
            }
            continue;
        }
        let all = lines(files, &name);
        let mut less = |kind, gone: &dyn Fn(usize) -> bool| {
            let rest: Vec<String> = all.iter().enumerate().filter(|(i, _)| !gone(*i)).map(|(_, l)| l.clone()).collect();
            b.add(kind, format!("{name}:{at:?}"), with(files, &name, &rest));
        };
        less("a denial without IPv6", &|i| at.contains(&i) && all[i].matches(':').count() > 1);
        for &gone in &at {
            less("a denial without an address", &|i| i == gone);
        }
    }
    b.bred
}

/// A version of the file that was loaded before: an address more in each set, and a rule more that lets all out. What
/// a mutant does not take away stays.
fn loaded_before(file: &str) -> String {
    let mut text = String::new();
    let mut v6 = false;
    for line in file.lines() {
        text.push_str(line);
        text.push('\n');
        if line.trim().starts_with("type ") {
            v6 = line.contains("ipv6_addr");
        }
        if line.trim() == "elements = {" {
            text.push_str(if v6 { "2001:db8:dead::1,\n" } else { "198.18.222.1,\n" });
        }
        if line.trim() == "chain allowed {" {
            text.push_str("ip saddr @c_limited_4 udp dport { 1-65535 } counter accept comment \"before\"\n");
        }
    }
    text
}

/// A packet with another fate than the model's, among those tried first and then among one of every kind.
fn witness(
    site: &Site,
    target: &str,
    tried: &[(Packet, Fate)],
    original: &dyn Enforcer,
    mutant: &dyn Enforcer,
) -> Option<Packet> {
    let quick = tried.iter().find(|(packet, fate)| mutant.judge(packet).fate != *fate).map(|(packet, _)| *packet);
    // Where the model and the original are one (tests/agreement.rs), the original speaks for the model.
    quick.or_else(|| {
        let kinds = trial::kinds(site, target, original, Some(mutant));
        kinds.into_iter().find(|packet| original.judge(packet).fate != mutant.judge(packet).fate)
    })
}

#[test]
fn every_mutant_is_caught() {
    let mut score = Score::default();
    for site in subjects() {
        for (target, breed) in [("pf", pf as fn(&Files) -> Vec<Mutant>), ("nftables", nft), ("opnsense", opnsense)] {
            let files = &site.files[target];
            let original = trial::read(&site, target, files).unwrap();
            let tried: Vec<(Packet, Fate)> =
                trial::flows(&site, target, 1500).into_iter().map(|p| (p, site.expected(target, &p).0)).collect();
            assert!(tried.iter().all(|(packet, fate)| original.judge(packet).fate == *fate), "{}, {target}", site.name);
            for mutant in breed(files) {
                score.mutants += 1;
                let mut read = vec![trial::read(&site, target, &mutant.files)];
                if target == "nftables" {
                    let mut both = mutant.files.clone();
                    both.values_mut().for_each(|text| *text = loaded_before(&files["outgate.nft"]) + text);
                    read.push(trial::read(&site, target, &both));
                }
                if read.iter().any(Result::is_err) {
                    score.refused += 1;
                } else if read
                    .iter()
                    .flatten()
                    .any(|file| witness(&site, target, &tried, &*original, &**file).is_some())
                {
                    score.caught += 1;
                } else {
                    let same = read.iter().flatten().all(|file| file.model() == original.model());
                    score.idle(target, &mutant, same);
                }
            }
        }
        // The sites differ in what is Squid's in nothing.
        let files = if site.name == "names" { &site.files["squid"] } else { continue };
        let original = trial::squid(files).unwrap();
        let asks: Vec<(Ask, bool)> =
            trial::asks(&site).into_iter().map(|ask| (ask.clone(), site.proxied(&ask))).collect();
        assert!(asks.iter().all(|(ask, allowed)| original.allows(ask) == *allowed), "{}, squid", site.name);
        for mutant in squid(files) {
            score.mutants += 1;
            match trial::squid(&mutant.files) {
                Err(_) => score.refused += 1,
                Ok(file) if differs(&file, &asks) => score.caught += 1,
                Ok(file) => score.idle("squid", &mutant, file.model() == original.model()),
            }
        }
    }
    score.print();
    assert!(score.mutants >= 200, "only {} mutants", score.mutants);
    assert!(score.survivors.is_empty(), "{} unexplained:\n{}", score.survivors.len(), score.survivors.join("\n"));
    let idle: usize = score.idle.values().sum();
    assert!(idle * 5 < score.mutants, "{idle} of {} are without effect: the kinds are badly chosen", score.mutants);
}

#[test]
fn no_denial_of_a_strict_site_can_be_lost_unseen() {
    let site = strict();
    let (mut mutants, mut kinds, mut unseen) = (0, BTreeMap::new(), Vec::new());
    let mut judged = |target: &str, mutant: &Mutant, seen: bool| {
        mutants += 1;
        *kinds.entry((target.to_owned(), mutant.kind)).or_insert(0) += 1;
        if !seen {
            unseen.push(format!("{target}: {}: {}", mutant.kind, mutant.what));
        }
    };
    for target in ["pf", "nftables", "opnsense"] {
        let files = &site.files[target];
        let original = trial::read(&site, target, files).unwrap();
        let tried: Vec<(Packet, Fate)> =
            trial::flows(&site, target, 500).into_iter().map(|p| (p, site.expected(target, &p).0)).collect();
        assert!(tried.iter().all(|(packet, fate)| original.judge(packet).fate == *fate), "{target}");
        for mutant in losses(target, files) {
            let read = trial::read(&site, target, &mutant.files);
            // One that the enforcer refuses is seen as well.
            let seen = read.map_or(true, |file| witness(&site, target, &tried, &*original, &*file).is_some());
            judged(target, &mutant, seen);
        }
    }
    let files = &site.files["squid"];
    let original = trial::squid(files).unwrap();
    let asks: Vec<(Ask, bool)> = trial::asks(&site).into_iter().map(|ask| (ask.clone(), site.proxied(&ask))).collect();
    assert!(asks.iter().all(|(ask, allowed)| original.allows(ask) == *allowed), "squid");
    for mutant in losses("squid", files) {
        let seen = trial::squid(&mutant.files).map_or(true, |file| differs(&file, &asks));
        judged("squid", &mutant, seen);
    }
    println!("{mutants} ways to lose a denial: {kinds:?}");
    assert!(unseen.is_empty(), "{} of {mutants} are not seen:\n{}", unseen.len(), unseen.join("\n"));
    assert!(mutants >= 70, "only {mutants}");
}

fn differs(file: &Squid, asks: &[(Ask, bool)]) -> bool {
    asks.iter().any(|(ask, allowed)| file.allows(ask) != *allowed)
}

/// The reader of nftables against the kernel itself: mutants loaded, and their packets sent.
#[test]
fn the_kernel_agrees_about_a_sample_of_mutants() {
    if !netns::ready() {
        return;
    }
    const CLIENTS: [&str; 8] = [
        "192.0.2.40",
        "2001:db8:10::40",
        "192.0.2.20",
        "2001:db8:10::20",
        "192.0.2.64",
        "2001:db8:10:1::7",
        "192.0.2.99",
        "2001:db8:10::99",
    ];
    const SAMPLE: usize = 24;
    let site = subjects().swap_remove(0);
    let files = &site.files["nftables"];
    let lab = Lab::new(&CLIENTS, &["0.0.0.0/0", "::/0"]);
    let folder = tempfile::tempdir().unwrap();
    let clients: Vec<IpAddr> = CLIENTS.iter().map(|c| c.parse().unwrap()).collect();
    let sendable = |p: &Packet| {
        let echo = matches!(p.proto, Proto::Icmp(8 | 128));
        let ordinary = (matches!(p.proto, Proto::Tcp | Proto::Udp) && p.port > 0 && p.source_port == 40_000) || echo;
        p.interface == Interface::Ours
            && p.path == Path::Through
            && ordinary
            && clients.contains(&p.src)
            && !clients.contains(&p.dst)
            && !matches!(p.dst, IpAddr::V6(v6) if v6.is_multicast())
    };
    let tried: Vec<Packet> = trial::flows(&site, "nftables", 4000).into_iter().filter(sendable).collect();
    assert!(tried.len() > 300);
    let mut mutants = nft(files);
    let mut dice = Dice::new(7);
    let (mut loaded, mut refused, mut sent) = (0, 0, 0);
    while loaded + refused < SAMPLE {
        let mutant = mutants.swap_remove(dice.below(mutants.len()));
        let path = folder.path().join("mutant.nft");
        fs::write(&path, &mutant.files["outgate.nft"]).unwrap();
        let _ = lab.nft(&["delete", "table", "inet", "outgate"]);
        let _ = lab.nft(&["delete", "table", "inet", "outgate2"]);
        let taken = lab.load_nft(&path);
        let file = match trial::read(&site, "nftables", &mutant.files) {
            Ok(file) => file,
            // What the reader does not know, the kernel may; what is ill made it must refuse too.
            Err(error) if error.starts_with("grammar unknown") => continue,
            Err(error) => {
                assert!(
                    taken.is_err(),
                    "{}: the reader says {error}, and the kernel takes {}",
                    mutant.kind,
                    mutant.what
                );
                refused += 1;
                continue;
            }
        };
        taken.unwrap_or_else(|error| panic!("{}: {}: {error}", mutant.kind, mutant.what));
        loaded += 1;
        // The packets that tell it from the original first, and some that do not.
        let other = |p: &&Packet| file.judge(p).fate != site.expected("nftables", p).0;
        let mut flows: Vec<Packet> = tried.iter().filter(other).take(40).copied().collect();
        flows.extend((0..40).map(|_| *dice.pick(&tried)));
        let flow = |p: &Packet| match p.proto {
            Proto::Tcp => Flow::tcp(&p.src.to_string(), &p.dst.to_string(), p.port),
            Proto::Udp => Flow::udp(&p.src.to_string(), &p.dst.to_string(), p.port),
            Proto::Icmp(_) => Flow::ping(&p.src.to_string(), &p.dst.to_string()),
        };
        let expected: Vec<(Flow, bool)> = flows.iter().map(|p| (flow(p), file.judge(p).fate != Fate::Block)).collect();
        sent += expected.len();
        let surprises = lab.surprises(&expected);
        assert!(surprises.is_empty(), "{}: {}\n{}", mutant.kind, mutant.what, surprises.join("\n"));
    }
    println!(
        "{loaded} mutants loaded into the kernel and {sent} packets sent, {refused} refused by it: the reader agrees"
    );
    assert!(loaded > 8 && refused > 2);
}

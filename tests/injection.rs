//! Hostile texts in every place a text can stand: each key and each value of catalog and profile, what DNS answers, and
//! the lock with its sums made good. Refused, or inert: what is loaded is what a harmless text would have made it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures of a run")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use outgate::catalog::{self, Catalog};
use outgate::day::Day;
use outgate::diagnostic::{Findings, Severity};
use outgate::digest::sha256;
use outgate::host::{Host, Query};
use outgate::lock::{self, Lock, Wanted};
use outgate::policy::{self, Policy};
use outgate::profile;
use outgate::resolve::{Heard, Link, Reply};
use outgate::ruleset;
use outgate::source::{SourceId, Sources};
use outgate::target;
use serde_json::Value;

mod support;
use support::netns::{self, Lab};
use support::readers::Files;
use support::readers::nft::Nft;
use support::readers::opnsense::{Names, Opnsense};
use support::readers::packet::Enforcer;
use support::readers::pf::Pf;
use support::readers::squid::Squid;
use support::site::{self, TARGETS};
use support::squid::{self, SquidLab, World};

/// The files of a site and its catalog, each with every key its schema has. The last is the profile.
const DOCUMENTS: [(&str, &str); 7] = [
    (
        "releases",
        "product: Acme Recorder\nprefixes: [AR-]\nfamilies: [{id: recorder, title: Recorder}]\nlines:\n  - {line: '4', family: recorder, \
         codename: Birch, first: {release: '4.0', date: '2025-03-10'}, last: {release: '4.2', date: '2026-01-20'}, \
         released: '2025-03-10', note: a note}\n",
    ),
    (
        "sources",
        "sources: [{id: handbook, title: Handbook, url: 'https://docs.example.net/x', date: '2026-01-20', note: a note, \
         sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef}]\n",
    ),
    ("features", "features: [{id: updates, title: Updates, about: New versions., usual: true}]\n"),
    (
        "providers",
        "providers: [{id: files, title: Files, about: A file server., hosts: [files.example.net], \
         ranges: {url: 'https://ranges.example.net/all.json', path: $.v4}, \
         sources: [{source: handbook, path: a/b, line: 12, quote: words}]}]\n",
    ),
    (
        "pages",
        "pages: [{source: handbook, sections: [Network], prose: [3], statements: [{line: 10, verdict: right}]}]\n",
    ),
    (
        "callouts",
        "callouts:\n  - id: update\n    title: Updates\n    purpose: Looks for versions.\n    class: function\n    origin: [nas]\n    \
         feature: updates\n    hosts: [update.example.net, '*.wild.example.net', 203.0.113.5]\n    providers: [files]\n    \
         ports: [443/tcp]\n    releases: [{family: recorder, since: '4.0', until: '4'}]\n    data: the version\n    \
         frequency: every night\n    keep-days: 14\n    max-age: 30\n    blocked: {level: feature, effect: no updates}\n    \
         off-switch: Settings > Updates\n    strict: allow\n    confidence: high\n    sources: [{source: handbook, line: 10, \
         lines: 10-11, path: a/b, quote: words, at: somewhere}]\n    corrections: [{as-written: 'updates.example.net', \
         right: update.example.net, evidence: [{source: handbook, line: 2}]}]\n  \
         - {id: time, purpose: Time., origin: [nas], slot: ntp, ports: [123/udp], releases: [{family: recorder}], \
         sources: [{source: handbook}], blocked: {level: none, effect: e}, strict: allow, class: function, title: Time}\n  \
         - {id: usage, purpose: Counts., origin: [browser], hosts: [usage.wild.example.net], ports: [443/tcp], \
         releases: [{family: recorder}], sources: [{source: handbook}], blocked: {level: none, effect: e}, strict: deny, \
         class: usage, title: Usage}\n\
         not-a-callout: [{id: not-this, title: A link, reason: only shown, sources: [{source: handbook}], \
         evidence: [{source: handbook}]}]\n",
    ),
    (
        "profile",
        "site: a-site\nrelease: '4.2'\nclients: {nas: [192.0.2.40, '2001:db8:10::40'], admin: [192.0.2.20, '2001:db8:10::20'], \
         jails: [192.0.2.64/27, '2001:db8:11::/64'], apps: [192.0.2.96/27, '2001:db8:12::/64']}\nfeatures: [updates]\n\
         servers: {ntp: [{host: time.example.org, ports: [123/udp]}]}\nstrict: [usage]\n\
         strict-except: [{callout: noisy, reason: well known}]\n\
         shared: [{host: gone.example.org, choice: drop, with: [usage.wild.example.net], reason: let go of}]\n\
         leave-out: [{callout: idle, reason: not here}]\n\
         extra: [{id: own, title: Own, purpose: My own., class: function, origin: [nas], hosts: [own.example.org], \
         ports: [22/tcp, 8000-8010/tcp], data: d, frequency: f, keep-days: 3, max-age: 3, blocked: {level: none, effect: e}, \
         off-switch: o, sources: [{source: handbook, line: 1}]}, \
         {id: noisy, purpose: Noise., class: usage, origin: [nas], hosts: [noisy.example.org], ports: [443/tcp]}, \
         {id: gone, purpose: Gone., origin: [nas], hosts: [gone.example.org], ports: [443/tcp]}]\n\
         tests: [{name: works, from: nas, allow: ['own.example.org:22', '192.0.2.53:53/udp'], \
         deny: ['[2001:db8::66]:443'], on: [nftables, pf]}]\n\
         answers: {allow: [documentation], keep-days: 3, max-age: 30, most: 50, on-failure: {nxdomain: keep, nodata: keep, servfail: keep, refused: keep, timeout: keep, truncated: keep, \
         bogus: keep, cname-loop: keep, too-many: keep, malformed: keep}, \
         hosts: {own.example.org: {allow: [private], keep-days: 3, max-age: 3, most: 5, on-failure: {nxdomain: keep}}}}\n\
         ranges: {of-file: {for: [own.example.org], file: lists/own.json, path: [$.v4, $.v6]}, \
         of-url: {for: ['*.wild.example.net'], url: 'https://ranges.example.net/wild.txt'}, \
         of-provider: {for: [files.example.net], provider: files}}\n\
         ipv6: clients\nlosses: report\n\
         targets: {nftables: {table: outgate_a, hook: forward, priority: -5, interface: lan0, denied: reject, \
         log-prefix: words, log-rate: 5, mode: enforce, clients: {nas: {mac: ['02:00:5e:10:00:01'], interface: [lan1]}}, \
         by-dns: [own.example.org]}, pf: {dialect: freebsd, interface: em1, side: router, anchor: outgate_a, \
         tables: /etc/outgate, denied: drop}, opnsense: {version: '26.1', interface: lan, sequence: 1000, prefix: OG, \
         resolve: firewall, denied: reject}, squid: {port: 3128, certificate: /etc/a.pem, lists: /etc/squid/lists, pac: proxy.example.org}}\n",
    ),
];

/// Settings whose values are words of few letters each, and whose files the readers here do not read: tests/squid_forms.rs,
/// tests/lists_and_pods.rs, tests/name_servers.rs and tests/cases try them.
const ELSEWHERE: [&str; 21] = [
    "ca",
    "cilium",
    "comments",
    "decrypt",
    "dns-endpoints",
    "dns-namespace",
    "dnsmasq",
    "endpoints",
    "hold",
    "http",
    "https",
    "intercept",
    "name",
    "namespace",
    "origins",
    "paths",
    "pins",
    "rpz",
    "search",
    "unbound",
    "zone",
];

/// At least so many different texts are tried in each place.
const TEXTS: usize = 500;

/// Texts that have meant something to somebody's parser, bare and beside innocent words.
fn hostile() -> Vec<String> {
    const SEEDS: [&str; 68] = [
        "\n",
        "\r",
        "\r\n",
        "\0",
        "\t",
        "\u{b}",
        "\u{c}",
        "\u{1b}[2J",
        "\u{1b}]0;x\u{7}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{2029}",
        "\u{202e}",
        "\u{2066}",
        "\u{200b}",
        "\u{200d}",
        "\u{feff}",
        "\u{ad}",
        "\u{e0041}",
        "\u{fffe}",
        "}",
        "{",
        ";",
        "#",
        "\"",
        "'",
        "`",
        "\\",
        "\\n",
        "{{ 7 * 7 }}",
        "{% raw %}",
        "{# x #}",
        "$(id)",
        "${HOME}",
        "`id`",
        "any",
        "all",
        "0.0.0.0/0",
        "::/0",
        "0.0.0.0",
        "!any",
        "include \"x\"",
        "flush ruleset",
        "}\n\tchain input { policy accept; }",
        "pass quick all",
        "block all\npass all",
        "http_access allow all",
        "acl all src all",
        "=cmd()",
        "+1",
        "-1",
        "@SUM(A1)",
        "-",
        "!",
        "!!binary x",
        "&a [*a]",
        "*a",
        "<<: x",
        "--- x",
        "%YAML 1.2",
        "<script>",
        "]]>",
        "../../etc/passwd",
        "/",
        "|",
        ">",
        "null",
    ];
    const AROUND: [(&str, &str); 8] = [
        ("", ""),
        ("plain ", ""),
        ("", " plain"),
        ("a", "b"),
        ("own.example.org", ""),
        ("", ".example.org"),
        ("a\" ", " \"b"),
        ("x; ", " #"),
    ];
    let mut all: BTreeSet<String> = BTreeSet::new();
    for seed in SEEDS {
        all.extend(AROUND.map(|(before, after)| format!("{before}{seed}{after}")));
    }
    all.extend([String::new(), " ".to_owned(), "x".repeat(401), "é".repeat(5000), "a.".repeat(300), "1".repeat(400)]);
    all.into_iter().collect()
}

/// A value as YAML that means exactly it: JSON, with whatever is not plain ASCII escaped.
fn yaml(value: &Value) -> String {
    let text = |text: &str| {
        let escape = |c: char| match c {
            '"' | '\\' => format!("\\{c}"),
            ' '..='~' => c.to_string(),
            c => format!("\\U{:08X}", u32::from(c)),
        };
        format!("\"{}\"", text.chars().map(escape).collect::<String>())
    };
    match value {
        Value::String(s) => text(s),
        Value::Array(list) => format!("[{}]", list.iter().map(yaml).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{}: {}", text(key), yaml(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// Every place of a text: the way to it, and whether the key itself is meant and not its value.
fn places(value: &Value, way: &mut Vec<String>, found: &mut Vec<(Vec<String>, bool)>) {
    match value {
        Value::String(_) => found.push((way.clone(), false)),
        Value::Array(list) => {
            for (i, item) in list.iter().enumerate() {
                way.push(i.to_string());
                places(item, way, found);
                way.pop();
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                way.push(key.clone());
                found.push((way.clone(), true));
                places(item, way, found);
                way.pop();
            }
        }
        _ => {}
    }
}

/// The value with the text in one place exchanged.
fn exchange(value: &Value, way: &[String], key: bool, text: &str) -> Value {
    let Some((first, rest)) = way.split_first() else { return Value::from(text) };
    match value {
        Value::Array(list) => {
            let item = |(i, item): (usize, &Value)| {
                if i.to_string() == *first { exchange(item, rest, key, text) } else { item.clone() }
            };
            Value::Array(list.iter().enumerate().map(item).collect())
        }
        Value::Object(map) => {
            let pair = |(k, v): (&String, &Value)| match (k == first, key && rest.is_empty()) {
                (true, true) => (text.to_owned(), v.clone()),
                (true, false) => (k.clone(), exchange(v, rest, key, text)),
                (false, _) => (k.clone(), v.clone()),
            };
            Value::Object(map.iter().map(pair).collect())
        }
        other => other.clone(),
    }
}

/// What a run came to: the files of each target, and what they do without names, comments and descriptions.
#[derive(Clone, PartialEq, Eq)]
struct Outcome {
    files: BTreeMap<&'static str, Files>,
    model: Vec<String>,
}

/// What was found, a line each.
fn said(findings: &Findings) -> String {
    findings.iter().map(|d| format!("{} {}\n", d.code.as_str(), d.message)).collect()
}

fn catalog_files(ids: &[SourceId]) -> catalog::Files {
    catalog::Files {
        releases: ids[0],
        sources: ids[1],
        features: ids[2],
        providers: Some(ids[3]),
        pages: Some(ids[4]),
        callouts: vec![ids[5]],
    }
}

fn read_catalog(texts: &[String]) -> Result<Catalog, String> {
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let ids: Vec<_> = DOCUMENTS.iter().zip(texts).map(|((name, _), text)| sources.add(*name, text)).collect();
    let files = catalog_files(&ids);
    catalog::read(&sources, &files, &mut findings).ok_or_else(|| said(&findings))
}

fn decide(catalog: &Catalog, profile: &str) -> Result<Policy, String> {
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let id = sources.add("profile", profile);
    let profile = profile::read(&sources, id, &catalog.known(false), &mut findings);
    let policy = profile.and_then(|profile| policy::decide(catalog, &profile, &mut findings));
    policy.ok_or_else(|| said(&findings))
}

/// A policy and a lock to files, or a refusal. What is written must be read by every reader.
fn render(policy: &Policy, lock: &Lock) -> Result<Outcome, String> {
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let rules = ruleset::build(policy, Some(lock), &mut findings);
    let mut files: BTreeMap<&'static str, Files> = BTreeMap::new();
    for name in TARGETS {
        let target = target::find(name).unwrap();
        if !(target.chosen)(&rules.settings) {
            continue;
        }
        let pages = target::render(target, &rules, &BTreeMap::new(), &mut sources, &mut findings);
        let pages = pages.ok_or_else(|| said(&findings))?;
        files.insert(name, pages.into_iter().map(|page| (page.path, page.text)).collect());
    }
    if findings.has_errors() {
        return Err(said(&findings));
    }
    let settings = &rules.settings;
    let interface = |name: Option<&String>| name.cloned().unwrap_or_default();
    let mut model = Vec::new();
    for (name, files) in &files {
        let read = |result: Result<Vec<String>, String>| result.unwrap_or_else(|error| panic!("{name}: {error}"));
        model.push(format!("== {name}: {} files", files.len()));
        model.extend(match *name {
            "nftables" => {
                let own = interface(settings.nftables.as_ref().and_then(|s| s.interface.as_ref()));
                read(Nft::read(files, &own).map(|f| f.model()))
            }
            "pf" => {
                let own = settings.pf.as_ref().unwrap();
                read(Pf::read(files, &own.tables, &own.interface).map(|f| f.model()))
            }
            "opnsense" => {
                let own = settings.opnsense.as_ref().unwrap();
                let version = own.version.to_string();
                let (major, minor) = version.split_once('.').unwrap();
                let version = (major.parse().unwrap(), minor.parse().unwrap());
                let mut lines = read(Opnsense::read(files, version, &own.interface, &Names::new()).map(|f| f.model()));
                // By name there are no addresses: which names the aliases hold is their content.
                let json: Value = serde_json::from_str(&files["aliases.json"]).unwrap();
                let mut content: Vec<String> = json["aliases"]["alias"]
                    .as_object()
                    .unwrap()
                    .values()
                    .map(|a| format!("{} {}", a["type"], a["content"]))
                    .collect();
                content.sort();
                lines.append(&mut content);
                lines
            }
            _ => read(Squid::read(files, &settings.squid.as_ref().unwrap().lists).map(|f| f.model())),
        });
        for (path, text) in files {
            let bad = |c: &char| (c.is_control() && !matches!(c, '\n' | '\t')) || invisible(*c);
            assert!(!text.chars().any(|c| bad(&c)), "{name}: {path} holds what nobody sees: {text:?}");
            assert!(
                path.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'.' | b'-')),
                "{name}: {path:?}"
            );
        }
    }
    Ok(Outcome { files, model })
}

fn invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fffe}' | '\u{e0000}'..='\u{e007f}')
}

/// Document and way to a value in it.
type Place = (usize, Vec<String>);

/// A site whose values are exchanged, many at once.
struct Hostile<'a> {
    documents: &'a [Value],
    catalog: &'a Catalog,
    harmless: &'a Outcome,
    free: BTreeSet<Place>,
}

/// What one text came to in all places.
#[derive(Clone, Default)]
struct Both {
    tally: Tally,
    runs: usize,
}

impl Both {
    fn and(mut self, other: Self) -> Self {
        self.tally.add(other.tally);
        self.runs += other.runs;
        self
    }
}

impl Hostile<'_> {
    /// Puts a text in all of these places at once. Each place that is blamed for an error is one that refuses it; the others
    /// are tried again without those, until what is left is taken. One blamed place of each text is tried alone.
    fn everywhere(&self, places: &[Place], text: &str, turn: usize) -> Both {
        let mut both = Both::default();
        let mut left: BTreeSet<usize> = (0..places.len()).collect();
        let mut blamed: Vec<usize> = Vec::new();
        let mut alone: Vec<usize> = Vec::new();
        loop {
            both.runs += 1;
            match self.run(places, &left, text) {
                Ok(outcome) => {
                    let mut many = Tally::default();
                    let same = sorted(&outcome.model) == sorted(&self.harmless.model);
                    if same {
                        many.judge("many places", text, self.harmless, Some(&outcome));
                        both.tally.inert += left.len();
                        break;
                    }
                    // A value of a rule is among them: those that hold words of any kind once more, the others each alone.
                    if !self.split(places, &mut left, &mut alone) {
                        alone.extend(&left);
                        break;
                    }
                }
                Err(by) if by.is_empty() => {
                    if !self.split(places, &mut left, &mut alone) {
                        alone.extend(&left);
                        break;
                    }
                }
                Err(by) => {
                    left.retain(|i| !by.contains(i));
                    blamed.extend(by);
                    if left.is_empty() {
                        break;
                    }
                }
            }
        }
        if !blamed.is_empty() {
            alone.push(blamed.swap_remove(turn % blamed.len()));
        }
        both.tally.refused += blamed.len();
        for i in alone {
            both.runs += 1;
            let outcome = self.run(places, &BTreeSet::from([i]), text);
            let place = format!("{}: {}", DOCUMENTS[places[i].0].0, places[i].1.join("."));
            both.tally.judge(&place, text, self.harmless, outcome.as_ref().ok());
        }
        both
    }

    /// Takes what is no place of free words out of `left` and into `alone`; whether that leaves fewer, and some.
    fn split(&self, places: &[Place], left: &mut BTreeSet<usize>, alone: &mut Vec<usize>) -> bool {
        let before = left.len();
        alone.extend(left.iter().filter(|i| !self.free.contains(&places[**i])));
        left.retain(|i| self.free.contains(&places[*i]));
        !left.is_empty() && left.len() < before
    }

    /// The places that hold words of any kind.
    fn free(&self, places: &[Place]) -> Vec<Place> {
        let taken = |i: &usize| self.run(places, &BTreeSet::from([*i]), "some plain words").is_ok();
        (0..places.len()).filter(taken).map(|i| places[i].clone()).collect()
    }

    /// A run with the text in some places; the error is the places that are blamed.
    fn run(&self, places: &[Place], chosen: &BTreeSet<usize>, text: &str) -> Result<Outcome, BTreeSet<usize>> {
        let mut spans: Vec<(usize, usize, Range<usize>)> = Vec::new();
        let mut printed = Vec::new();
        for (number, value) in self.documents.iter().enumerate() {
            let ways: BTreeMap<&[String], usize> =
                chosen.iter().filter(|i| places[**i].0 == number).map(|i| (places[*i].1.as_slice(), *i)).collect();
            let mut out = String::new();
            let mut found = Vec::new();
            print(value, &mut Vec::new(), &ways, text, &mut out, &mut found);
            spans.extend(found.into_iter().map(|(i, range)| (number, i, range)));
            printed.push(out);
        }
        let (mut sources, mut findings) = (Sources::default(), Findings::default());
        let ids: Vec<SourceId> =
            DOCUMENTS.iter().zip(&printed).map(|((name, _), text)| sources.add(*name, text)).collect();
        let own;
        let catalog = if chosen.iter().any(|i| places[*i].0 != 6) {
            own = catalog::read(&sources, &catalog_files(&ids), &mut findings);
            own.as_ref()
        } else {
            Some(self.catalog)
        };
        let policy = catalog.and_then(|catalog| {
            let profile = profile::read(&sources, ids[6], &catalog.known(false), &mut findings)?;
            policy::decide(catalog, &profile, &mut findings)
        });
        if let Some(policy) = policy.filter(|_| !findings.has_errors()) {
            return render(&policy, &site::lock_of(&policy, "")).map_err(|_| BTreeSet::new());
        }
        let errors = findings.iter().filter(|d| d.severity() == Severity::Error);
        let hit = errors.flat_map(|d| &d.labels).flat_map(|label| {
            let same = |(number, _, range): &&(usize, usize, Range<usize>)| {
                ids[*number] == label.span.source
                    && label.span.range.start < range.end
                    && range.start <= label.span.range.end
            };
            // The narrowest: a list around a value is blamed for the value.
            let inside = spans.iter().filter(same).collect::<Vec<_>>();
            if inside.len() == 1 { inside } else { Vec::new() }
        });
        Err(hit.map(|(_, i, _)| *i).collect())
    }
}

/// A document as YAML with the text in the chosen places, and where they are.
fn print(
    value: &Value,
    way: &mut Vec<String>,
    chosen: &BTreeMap<&[String], usize>,
    text: &str,
    out: &mut String,
    spans: &mut Vec<(usize, Range<usize>)>,
) {
    match value {
        Value::Array(list) => {
            out.push('[');
            for (i, item) in list.iter().enumerate() {
                way.push(i.to_string());
                print(item, way, chosen, text, out, spans);
                way.pop();
                out.push_str(", ");
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (key, item) in map {
                out.push_str(&yaml(&Value::from(key.as_str())));
                out.push_str(": ");
                way.push(key.clone());
                print(item, way, chosen, text, out, spans);
                way.pop();
                out.push_str(", ");
            }
            out.push('}');
        }
        other => match chosen.get(way.as_slice()) {
            Some(i) => {
                let start = out.len();
                out.push_str(&yaml(&Value::from(text)));
                spans.push((*i, start..out.len()));
            }
            None => out.push_str(&yaml(other)),
        },
    }
}

fn sorted(model: &[String]) -> Vec<String> {
    let mut lines = model.to_vec();
    lines.sort();
    lines
}

/// Rules in whatever order, with the sets taken out: what is left is how many rules there are, and of what kind.
fn shape(model: &[String]) -> Vec<String> {
    let blank = |line: &String| {
        let mut out = String::new();
        let mut depth = 0;
        for c in line.chars() {
            match c {
                '{' | '[' | '"' if depth == 0 || c != '"' => depth += 1,
                '}' | ']' | '"' if depth > 0 => depth -= 1,
                c if depth == 0 => out.push(c),
                _ => {}
            }
        }
        out
    };
    let mut lines: Vec<String> = model.iter().map(blank).collect();
    lines.sort();
    lines
}

/// Lines that are no comment, in all files: descriptions and comments are on lines that are there anyway.
fn count(outcome: &Outcome) -> usize {
    let code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with('#');
    outcome.files.values().flat_map(BTreeMap::values).map(|text| text.lines().filter(code).count()).sum()
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    refused: usize,
    inert: usize,
    word: usize,
}

impl Tally {
    /// Judges an outcome that stands beside the harmless one.
    fn judge(&mut self, place: &str, text: &str, harmless: &Outcome, outcome: Option<&Outcome>) {
        let Some(outcome) = outcome else {
            self.refused += 1;
            return;
        };
        if sorted(&outcome.model) == sorted(&harmless.model) {
            assert_eq!(count(outcome), count(harmless), "{place}: {text:?} makes lines");
            self.inert += 1;
            return;
        }
        // A value like any other: a word that no file could read as more than one, where one word stood before.
        let plain =
            text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'/' | b'*'));
        assert!(plain, "{place}: {text:?} changes the rules:\n{}", difference(harmless, outcome));
        let everything = ["0.0.0.0/0", "::/0", "any", "all", "*", "0.0.0.0-255.255.255.255"];
        let wide =
            outcome.model.iter().filter(|l| l.contains("0.0.0.0-255.255.255.255") || l.contains("::-ffff")).count();
        let before =
            harmless.model.iter().filter(|l| l.contains("0.0.0.0-255.255.255.255") || l.contains("::-ffff")).count();
        assert!(wide <= before, "{place}: {text:?} is everything: {everything:?}");
        assert!(
            shape(&outcome.model).len() <= shape(&harmless.model).len(),
            "{place}: {text:?} makes rules:\n{}",
            difference(harmless, outcome)
        );
        self.word += 1;
    }

    fn add(&mut self, other: Self) {
        self.refused += other.refused;
        self.inert += other.inert;
        self.word += other.word;
    }
}

fn difference(a: &Outcome, b: &Outcome) -> String {
    let more = |a: &Outcome, b: &Outcome| {
        a.model.iter().filter(|l| !b.model.contains(l)).cloned().collect::<Vec<_>>().join("\n")
    };
    format!("- {}\n+ {}", more(a, b), more(b, a))
}

fn documents() -> Vec<Value> {
    let read = |(name, text): &(&str, &str)| -> Value {
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let mut all: Vec<Value> = DOCUMENTS.iter().map(read).collect();
    // What is left out must be in the catalog: an entry of its own, so that nothing else goes with it.
    let idle = exchange(&all[5]["callouts"][2], &["id".to_owned()], false, "idle");
    all[5]["callouts"].as_array_mut().unwrap().push(idle);
    all
}

#[test]
fn the_documents_have_every_key_there_is() {
    fn keys(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                found.insert(key.clone());
                keys(value, found);
            }),
            Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }
    fn properties(value: &Value, found: &mut BTreeSet<String>) {
        if let Some(map) = value.get("properties").and_then(Value::as_object) {
            found.extend(map.keys().cloned());
        }
        match value {
            Value::Object(map) => map.values().for_each(|value| properties(value, found)),
            Value::Array(list) => list.iter().for_each(|value| properties(value, found)),
            _ => {}
        }
    }
    let mut have = BTreeSet::new();
    documents().iter().for_each(|value| keys(value, &mut have));
    for (name, _) in DOCUMENTS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{name}.json"));
        let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let mut there = BTreeSet::new();
        properties(&schema, &mut there);
        let missing: Vec<&String> = there.difference(&have).filter(|key| !ELSEWHERE.contains(&key.as_str())).collect();
        assert!(missing.is_empty() && there.len() > 4, "{name}: not in the documents: {missing:?}");
    }
}

#[test]
fn no_text_of_catalog_or_profile_becomes_a_rule() {
    let texts = hostile();
    assert!(texts.len() >= TEXTS, "only {} texts", texts.len());
    let documents = documents();
    let printed: Vec<String> = documents.iter().map(yaml).collect();
    let catalog = read_catalog(&printed).unwrap_or_else(|said| panic!("{said}"));
    let policy = decide(&catalog, &printed[6]).unwrap_or_else(|said| panic!("{said}"));
    let harmless = render(&policy, &site::lock_of(&policy, "")).unwrap_or_else(|said| panic!("{said}"));
    assert!(harmless.files.len() == TARGETS.len() && harmless.model.len() > 40);

    let mut values = Vec::new();
    let mut keys = Vec::new();
    for (number, value) in documents.iter().enumerate() {
        let mut found = Vec::new();
        places(value, &mut Vec::new(), &mut found);
        for (way, key) in found {
            if key { keys.push((number, way)) } else { values.push((number, way)) }
        }
    }
    let mut site = Hostile { documents: &documents, catalog: &catalog, harmless: &harmless, free: BTreeSet::new() };
    site.free = site.free(&values).into_iter().collect();
    let (of_profile, of_catalog): (Vec<Place>, Vec<Place>) =
        values.iter().cloned().partition(|(number, _)| *number == 6);
    let tallies: Vec<(Tally, usize)> = thread::scope(|scope| {
        let (site, texts, of_profile, of_catalog) = (&site, &texts, &of_profile, &of_catalog);
        let half = |rest: usize| {
            scope.spawn(move || {
                let texts = texts.iter().enumerate().skip(rest).step_by(2);
                texts
                    .map(|(i, text)| site.everywhere(of_profile, text, i).and(site.everywhere(of_catalog, text, i)))
                    .collect::<Vec<_>>()
            })
        };
        [half(0), half(1)]
            .map(|run| run.join().unwrap())
            .concat()
            .into_iter()
            .map(|both| (both.tally, both.runs))
            .collect()
    });
    let (mut sum, mut runs) = (Tally::default(), 0);
    for (tally, of) in tallies {
        sum.add(tally);
        runs += of;
    }
    println!("{} texts in each of {} values, {runs} runs: {sum:?}", texts.len(), values.len());
    assert!(values.len() > 150 && sum.inert > 1000);
    assert_eq!(sum.refused + sum.inert + sum.word, texts.len() * values.len());
    // What a key is, few words can say: some of the texts for each.
    let mut sum = Tally::default();
    for (i, (number, way)) in keys.iter().enumerate() {
        for text in texts.iter().skip(i).step_by(texts.len() / 2) {
            let mut changed = printed.clone();
            changed[*number] = yaml(&exchange(&documents[*number], way, true, text));
            let outcome = read_catalog(&changed).and_then(|catalog| decide(&catalog, &changed[6]));
            let outcome = outcome.and_then(|policy| render(&policy, &site::lock_of(&policy, "")));
            sum.judge(
                &format!("{}: key {}", DOCUMENTS[*number].0, way.join(".")),
                text,
                &harmless,
                outcome.as_ref().ok(),
            );
        }
    }
    println!("{} keys: {sum:?}", keys.len());
    assert!(sum.refused > 100);
}

/// The sums of a lock that was edited, made good: whoever may write the lock may write the sum.
fn resum(text: &str) -> String {
    let sum = |text: &str| format!("\"{}\"", &sha256(text)[..8]);
    let (mut out, mut part, mut name) = (String::new(), String::new(), String::new());
    for line in text.split_inclusive('\n') {
        if line.starts_with("\"sum\": ") {
            out.push_str(&format!("\"sum\": {},\n", sum(&part)));
        } else if line.starts_with(" \"sum\": ") {
            out.push_str(&format!(" \"sum\": {}\n", sum(&format!("{name}\n{part}"))));
        } else if line.starts_with('"') && line.ends_with(": {\n") {
            name = line.trim_end().trim_end_matches(": {").to_owned();
            part.clear();
            out.push_str(line);
        } else {
            if line != "{\n" {
                part.push_str(line);
            }
            out.push_str(line);
        }
    }
    out
}

fn parse_lock(text: &str) -> Option<Lock> {
    let mut sources = Sources::default();
    let id = sources.add("outgate.lock", text);
    Lock::parse(&sources, id).ok()
}

/// The policy of the documents, and what its lock makes of it.
fn subject() -> (Policy, Lock, Outcome) {
    let printed: Vec<String> = documents().iter().map(yaml).collect();
    let policy = decide(&read_catalog(&printed).unwrap(), &printed[6]).unwrap();
    let mut lock = site::lock_of(&policy, "");
    for entry in lock.hosts.values_mut() {
        entry.by = std::sync::Arc::new(BTreeSet::from(["192.0.2.53:53".to_owned()]));
        let by = |seen: &lock::Seen| lock::Seen { by: entry.by.clone(), ..seen.clone() };
        entry.addresses = entry.addresses.iter().map(|(addr, seen)| (addr, by(seen))).collect();
        entry.chain = vec![Host::parse("edge.example.net").unwrap()];
    }
    let outcome = render(&policy, &lock).unwrap();
    (policy, lock, outcome)
}

#[test]
fn no_text_of_a_lock_becomes_a_rule() {
    let (policy, lock, harmless) = subject();
    let text = lock.print();
    assert_eq!(resum(&text), text, "the sums are made as the lock makes them");
    // Every text in quotes, keys included.
    let mut found = Vec::new();
    let mut rest = 0;
    while let Some(start) = text[rest..].find('"') {
        let start = rest + start;
        let end = start + 1 + text[start + 1..].find('"').unwrap() + 1;
        found.push(start..end);
        rest = end;
    }
    let mut tally = Tally::default();
    let texts = hostile();
    for (i, range) in found.iter().enumerate() {
        // Entries are read alike: each text in the head and the first of them, some in the others.
        let step = if i < 30 { 3 } else { 25 };
        for hostile in texts.iter().skip(i % step).step_by(step) {
            let new = Value::from(hostile.as_str()).to_string();
            let changed = resum(&format!("{}{new}{}", &text[..range.start], &text[range.end..]));
            let outcome = parse_lock(&changed).and_then(|lock| render(&policy, &lock).ok());
            tally.judge(&text[range.clone()], hostile, &harmless, outcome.as_ref());
        }
    }
    println!("{} texts over {} places of a lock: {tally:?}", texts.len(), found.len());
    assert!(found.len() > 30 && tally.refused > 1000);
}

#[test]
fn no_answer_becomes_a_rule() {
    let (policy, _, harmless) = subject();
    let day = Day::parse("2026-11-21").unwrap();
    let wanted = Wanted::of([&policy]);
    let model = site::lock_of(&policy, "");
    let mut tally = Tally::default();
    for text in hostile() {
        // Names in answers: the types let no other than host names in.
        let host = Host::parse(&text).ok();
        if let Some(host) = &host {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
            assert!(host.as_str().bytes().all(plain), "{text:?} is a host");
        }
        let chain: Vec<Link> = host.iter().map(|host| Link { host: host.clone(), ttl: 60 }).collect();
        let targets: BTreeSet<(Host, u16)> = host.iter().map(|host| (host.clone(), 443)).collect();
        let mut heard = Heard { silent: BTreeMap::from([(text.clone(), text.clone())]), ..Heard::default() };
        for (query, entry) in &model.hosts {
            let addresses = entry.addresses.keys().map(|addr| (addr, 60)).collect();
            let targets = if matches!(query, Query::Service(_)) { targets.clone() } else { BTreeSet::new() };
            // Who said it is a text of any kind: the name of a resolver.
            let by = Arc::new(BTreeSet::from([text.clone()]));
            let reply = Reply { by, targets, chain: chain.clone(), addresses, ..Reply::default() };
            heard.replies.insert(query.clone(), vec![reply]);
        }
        let mut fresh = lock::update(&wanted, None, &heard, day, None, &mut Findings::default());
        fresh.ranges = model.ranges.clone();
        let printed = fresh.print();
        let outcome = parse_lock(&printed).and_then(|lock| {
            assert_eq!(lock, fresh, "{text:?}");
            assert!(!printed.chars().any(|c| c.is_control() && c != '\n'), "{text:?}: a control character in the lock");
            render(&policy, &lock).ok()
        });
        tally.judge("an answer", &text, &harmless, outcome.as_ref());
    }
    println!("{} answers: {tally:?}", hostile().len());
    assert!(tally.inert > 20 && tally.word == 0);
}

/// Texts that got through, in the files the enforcers themselves read.
#[test]
fn the_enforcers_read_what_got_through() {
    let documents = documents();
    let printed: Vec<String> = documents.iter().map(yaml).collect();
    let catalog = read_catalog(&printed).unwrap();
    let title = ["extra", "0", "title"].map(str::to_owned);
    let prefix = ["targets", "nftables", "log-prefix"].map(str::to_owned);
    let mut through = Vec::new();
    for text in hostile() {
        for way in [&title, &prefix] {
            let policy = decide(&catalog, &yaml(&exchange(&documents[6], way, false, &text)));
            through.extend(
                policy.and_then(|policy| render(&policy, &site::lock_of(&policy, ""))).map(|o| (text.clone(), o)),
            );
        }
    }
    assert!(through.len() > 60, "only {} texts get through", through.len());
    let sample: Vec<&(String, Outcome)> = through.iter().step_by(through.len() / 30).collect();
    if netns::ready() {
        let lab = Lab::new(&["192.0.2.40"], &["0.0.0.0/0"]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outgate.nft");
        for (text, outcome) in &sample {
            fs::write(&path, &outcome.files["nftables"]["outgate.nft"]).unwrap();
            lab.load_nft(&path).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            let tables = lab.nft(&["list", "tables"]).unwrap();
            assert_eq!(tables.trim(), "table inet outgate_a", "{text:?}");
        }
    }
    if squid::ready() {
        let lab = SquidLab::new(&World { clients: &["192.0.2.40"], hosts: &[], bare: &[], ports: &[443] });
        for (text, outcome) in sample.iter().step_by(6) {
            let folder = tempfile::tempdir().unwrap();
            for (path, file) in &outcome.files["squid"] {
                let path = folder.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file).unwrap();
            }
            let pem = lab.certificate();
            let staged = lab
                .stage(folder.path(), &[("/etc/a.pem", pem.to_str().unwrap()), ("/etc/squid/lists", "{copy}/lists")]);
            lab.parse(&staged.join("outgate.conf")).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        }
    }
    println!("{} texts got through, {} of them loaded", through.len(), sample.len());
}

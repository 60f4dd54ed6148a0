//! The lists and the Cilium policy, read again by readers of their own and held against the rule set, question by
//! question. A reader knows the files and what their consumers do with them, and nothing of how they are made.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed; figures of a run")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use ipnet::IpNet;
use outgate::addrs::AddrSet;
use outgate::callout::Origin;
use outgate::catalog::{self, Catalog};
use outgate::diagnostic::Findings;
use outgate::host::{Host, NamePattern, Query};
use outgate::lock::Lock;
use outgate::policy::Action;
use outgate::port::Protocol;
use outgate::ruleset::{self, Ruleset, Verdict};
use outgate::settings::{Cilium, Comments, Hold, Lists};
use outgate::source::{SourceId, Sources};
use outgate::target::{self, File};
use serde_json::Value;

mod support;
use support::model;

// Sites.

struct Site {
    name: String,
    rules: Ruleset,
    /// What every name of the lock was answered.
    answers: BTreeMap<String, Vec<IpAddr>>,
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The catalog of an example: its own, or the program's.
fn catalog(folder: &Path) -> Catalog {
    if !folder.exists() {
        return model::catalog();
    }
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let mut read = |path: PathBuf| -> SourceId {
        let text = fs::read_to_string(&path).unwrap();
        sources.add(path.display().to_string(), text)
    };
    let mut paths: Vec<PathBuf> = fs::read_dir(folder.join("callouts")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let files = catalog::Files {
        releases: read(folder.join("releases.yaml")),
        sources: read(folder.join("sources.yaml")),
        features: read(folder.join("features.yaml")),
        providers: folder.join("providers.yaml").exists().then(|| read(folder.join("providers.yaml"))),
        pages: None,
        callouts: paths.into_iter().map(&mut read).collect(),
    };
    catalog::read(&sources, &files, &mut findings).unwrap()
}

fn site(name: &str, example: &str, more: &str) -> Site {
    let folder = examples().join(example);
    let profile = fs::read_to_string(folder.join("outgate.yaml")).unwrap();
    // What is more goes behind the heading of the site's own callouts.
    let profile = if more.is_empty() { profile } else { profile.replace("\nextra:\n", &format!("\nextra:\n{more}")) };
    let policy = model::policy(&catalog(&folder.join("catalog")), &profile).unwrap();
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let id = sources.add("outgate.lock", fs::read_to_string(folder.join("outgate.lock")).unwrap());
    let lock = Lock::parse(&sources, id).unwrap();
    let rules = ruleset::build(&policy, Some(&lock), &mut findings);
    assert!(!findings.has_errors(), "{name}: {:?}", findings.iter().collect::<Vec<_>>());
    let answers = (lock.hosts.iter())
        .filter(|(query, _)| matches!(query, Query::Host(_)))
        .map(|(query, entry)| (query.to_string(), entry.addresses.keys().collect()));
    Site { name: name.to_owned(), rules, answers: answers.collect() }
}

/// Every example, and one with what the examples do not have: a wildcard, ranges, more ports than one list takes.
fn sites() -> Vec<Site> {
    let many: Vec<String> = (0..90).map(|i| format!("{}/tcp", 2000 + i * 3)).collect();
    let more = format!(
        "  - {{id: wild, purpose: p, origin: [nas], hosts: ['*.wild.example.org', '*.deep.wild.example.org'], ports: [8443-8450/tcp, 443/tcp]}}\n  \
           - {{id: many, purpose: p, origin: [nas], hosts: [203.0.113.64/30, backup.example.org], ports: [{}]}}\n",
        many.join(", ")
    );
    let mut sites: Vec<Site> = fs::read_dir(examples())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| examples().join(name).join("outgate.yaml").exists())
        .map(|name| site(&name, &name, ""))
        .collect();
    assert!(sites.len() >= 3, "the examples are gone");
    sites.push(site("home-lab with more", "home-lab", &more));
    sites
}

fn render(target: &str, rules: &Ruleset) -> Result<Vec<File>, String> {
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let found = target::find(target).unwrap();
    let files = target::render(found, rules, &BTreeMap::new(), &mut sources, &mut findings);
    let said = || findings.iter().map(|d| format!("{} {}\n", d.code.as_str(), d.message)).collect::<String>();
    let mut files = files.filter(|_| !findings.has_errors()).ok_or_else(said)?;
    // What the target cannot say is a file for programs of another sort.
    files.retain(|file| file.path != target::loss::PATH);
    Ok(files)
}

// Questions.

/// One packet that opens a flow, or one connection to a name.
#[derive(Debug)]
struct Question<To> {
    client: IpAddr,
    to: To,
    protocol: Protocol,
    port: u16,
}

/// Every port of the rules and its neighbours.
fn ports(rules: &Ruleset) -> BTreeSet<u16> {
    let of = |port: &outgate::port::Port| [port.first() - 1, port.first(), port.last(), port.last().saturating_add(1)];
    let all = rules.rules.iter().flat_map(|rule| rule.ports.iter().flat_map(of));
    all.chain([22, 25, 80, 853, 4433, 8080]).filter(|&port| port > 0).collect()
}

/// Every edge of every prefix of the rules, with what lies beside it.
fn servers(rules: &Ruleset) -> BTreeSet<IpAddr> {
    let mut all: BTreeSet<IpAddr> =
        ["203.0.113.1", "198.51.100.1", "2001:db8:ffff::1"].map(|a| a.parse().unwrap()).into();
    let set = rules.rules.iter().fold(AddrSet::new(), |all, rule| all.union(&rule.addrs()));
    for net in set.prefixes() {
        match (net.network(), net.broadcast()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let (a, b) = (u32::from(a), u32::from(b));
                all.extend([a - 1, a, b, b + 1].map(|addr| IpAddr::V4(addr.into())));
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let (a, b) = (u128::from(a), u128::from(b));
                all.extend([a - 1, a, b, b + 1].map(|addr| IpAddr::V6(addr.into())));
            }
            _ => unreachable!("a prefix has one family"),
        }
    }
    all
}

/// Every name of the rules, its parents, and names below and beside it.
fn names(rules: &Ruleset) -> BTreeSet<String> {
    let mut all = BTreeSet::from(["example.com".to_owned(), "kubernetes.default.svc.cluster.local".to_owned()]);
    for pattern in rules.rules.iter().flat_map(outgate::ruleset::Rule::names) {
        let name = pattern.to_string();
        let name = name.trim_start_matches("*.");
        all.extend([name.to_owned(), format!("a.{name}"), format!("a.b.{name}"), format!("a{name}")]);
        let parents = name.match_indices('.').map(|(dot, _)| name[dot + 1..].to_owned());
        all.extend(parents.filter(|parent| parent.contains('.')));
    }
    all
}

fn questions<To: Clone>(rules: &Ruleset, clients: &[IpAddr], to: impl IntoIterator<Item = To>) -> Vec<Question<To>> {
    let ports = ports(rules);
    let mut all = Vec::new();
    for to in to {
        for &client in clients {
            for protocol in Protocol::ALL {
                all.extend(ports.iter().map(|&port| Question { client, to: to.clone(), protocol, port }));
            }
        }
    }
    all
}

/// Whether the model lets a packet through.
fn model_by_addr(rules: &Ruleset, q: &Question<IpAddr>) -> bool {
    matches!(rules.decide(q.client, q.to, q.protocol, q.port), Verdict::Allow(_) | Verdict::NotOurs)
}

/// Whether the model lets a client reach a name.
fn model_by_name(rules: &Ruleset, q: &Question<String>) -> bool {
    let name = NamePattern::Exact(Host::parse(&q.to).unwrap());
    let meets = |action: Action| {
        rules.rules.iter().any(|rule| {
            rule.action == action
                && rule.ports.iter().any(|port| port.contains(q.protocol, q.port))
                && rules.clients_of(rules.bound(rule)).contains(q.client)
                && rule.names().iter().any(|pattern| pattern.covers(&name))
        })
    };
    !meets(Action::Deny) && (meets(Action::Allow) || !rules.limited().contains(q.client))
}

/// Questions with what the model answers.
struct Exam {
    by_addr: Vec<(Question<IpAddr>, bool)>,
    by_name: Vec<(Question<String>, bool)>,
}

impl Exam {
    /// By address from all of these clients, by name from `named` of them.
    fn new(rules: &Ruleset, clients: &[IpAddr], named: usize) -> Self {
        let mut by_addr = questions(rules, clients, servers(rules));
        by_addr.retain(|question| question.client.is_ipv4() == question.to.is_ipv4());
        let by_name = questions(rules, &clients[..named], names(rules));
        let addr = |q: Question<IpAddr>| (model_by_addr(rules, &q), q);
        let name = |q: Question<String>| (model_by_name(rules, &q), q);
        Self {
            by_addr: by_addr.into_iter().map(addr).map(|(wanted, q)| (q, wanted)).collect(),
            by_name: by_name.into_iter().map(name).map(|(wanted, q)| (q, wanted)).collect(),
        }
    }

    /// How many questions, and how many with yes.
    fn size(&self) -> (usize, usize) {
        let yes =
            self.by_addr.iter().filter(|(_, yes)| *yes).count() + self.by_name.iter().filter(|(_, yes)| *yes).count();
        (self.by_addr.len() + self.by_name.len(), yes)
    }

    /// Where a file says something else.
    fn faults(
        &self,
        addr: impl Fn(&Question<IpAddr>) -> bool,
        name: impl Fn(&Question<String>) -> bool,
    ) -> Vec<String> {
        let said = |question: &dyn std::fmt::Debug, wanted: &bool| format!("{question:?}: the model says {wanted}");
        let by_addr = self.by_addr.iter().filter(|(q, wanted)| addr(q) != *wanted).map(|(q, wanted)| said(q, wanted));
        let by_name = self.by_name.iter().filter(|(q, wanted)| name(q) != *wanted).map(|(q, wanted)| said(q, wanted));
        by_addr.chain(by_name).collect()
    }
}

/// The first address of each family of these clients.
fn firsts(addrs: &AddrSet) -> Vec<IpAddr> {
    let prefixes = addrs.prefixes();
    [true, false]
        .into_iter()
        .filter_map(|v4| prefixes.iter().find(|net| net.network().is_ipv4() == v4).map(IpNet::network))
        .collect()
}

// What Cilium makes of a policy.

#[derive(Debug, Default)]
struct PodPolicy {
    deny: Vec<Opening>,
    allow: Vec<Opening>,
    lookups: Vec<String>,
}

#[derive(Debug, Default)]
struct Opening {
    /// As Cilium has them: names, or patterns that begin with stars.
    names: Vec<String>,
    nets: Vec<IpNet>,
    ports: Vec<(String, u16, u16)>,
    /// What lookups of its names were answered.
    learned: BTreeSet<IpAddr>,
}

/// The value of each key; a key that is not among them is one this reader would misread.
fn map<'a, const N: usize>(value: &'a Value, keys: [&str; N]) -> [&'a Value; N] {
    let object = value.as_object().unwrap_or_else(|| panic!("no mapping: {value}"));
    for key in object.keys() {
        assert!(keys.contains(&key.as_str()), "a key that is not known here: {key}");
    }
    keys.map(|key| object.get(key).unwrap_or(&Value::Null))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}")).iter()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// `matchName` as it is; of patterns, those of any depth alone.
fn selectors(value: &Value) -> Vec<String> {
    let selectors = list(value).map(|item| match map(item, ["matchName", "matchPattern"]) {
        [name, Value::Null] => {
            assert!(!word(name).contains('*'), "a star means nothing in {name}");
            word(name).to_owned()
        }
        [Value::Null, pattern] => {
            let below = word(pattern).strip_prefix("**.").unwrap_or_else(|| panic!("one label alone: {pattern}"));
            assert!(!below.contains('*') && word(pattern).len() <= 255);
            word(pattern).to_owned()
        }
        _ => panic!("neither a name nor a pattern: {item}"),
    });
    let selectors: Vec<String> = selectors.collect();
    assert!(!selectors.is_empty(), "an empty list may be everything");
    selectors
}

/// From Cilium 1.19 on, `**.` is one label or more.
fn selects(selector: &str, name: &str) -> bool {
    match selector.strip_prefix("**.") {
        Some(below) => name.strip_suffix(below).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => selector == name,
    }
}

fn read_ports(value: &Value) -> Vec<(String, u16, u16)> {
    let mut ports = Vec::new();
    for item in list(value) {
        let [some, _] = map(item, ["ports", "rules"]);
        assert!((1..=40).contains(&list(some).count()), "Cilium takes at most 40 ports a list");
        for port in list(some) {
            let [first, last, protocol] = map(port, ["port", "endPort", "protocol"]);
            let first: u16 = word(first).parse().unwrap();
            let last = if last.is_null() { first } else { u16::try_from(last.as_u64().unwrap()).unwrap() };
            assert!(first > 0 && first <= last);
            ports.push((word(protocol).to_owned(), first, last));
        }
    }
    assert!(!ports.is_empty(), "no ports are all ports");
    ports
}

fn read_nets(value: &Value) -> Vec<IpNet> {
    let nets: Vec<IpNet> = list(value).map(|item| word(map(item, ["cidr"])[0]).parse().unwrap()).collect();
    assert!(nets.iter().all(|net| *net == net.trunc()), "bits behind the prefix");
    nets
}

impl PodPolicy {
    fn read(text: &str) -> Self {
        let document: Value = serde_saphyr::from_str(text).unwrap();
        let [api, kind, metadata, spec] = map(&document, ["apiVersion", "kind", "metadata", "spec"]);
        assert_eq!((word(api), word(kind)), ("cilium.io/v2", "CiliumNetworkPolicy"));
        let [name, namespace, _] = map(metadata, ["name", "namespace", "labels"]);
        assert!(!word(name).is_empty() && !word(namespace).is_empty());
        let [_, selector, default_deny, deny, egress] =
            map(spec, ["description", "endpointSelector", "enableDefaultDeny", "egressDeny", "egress"]);
        let [labels] = map(selector, ["matchLabels"]);
        assert!(!labels.as_object().unwrap().is_empty(), "no labels are every pod");
        let [out, into] = map(default_deny, ["egress", "ingress"]);
        assert_eq!((out, into), (&Value::Bool(true), &Value::Bool(false)));
        let mut policy = Self::default();
        for item in deny.as_array().into_iter().flatten() {
            let [nets, ports] = map(item, ["toCIDRSet", "toPorts"]);
            policy.deny.push(Opening { nets: read_nets(nets), ports: read_ports(ports), ..Opening::default() });
        }
        for item in list(egress) {
            let [cluster, names, nets, ports] = map(item, ["toEndpoints", "toFQDNs", "toCIDRSet", "toPorts"]);
            match (cluster, names, nets) {
                (_, Value::Null, Value::Null) => {
                    let [labels] = map(list(cluster).next().unwrap(), ["matchLabels"]);
                    assert!(
                        labels["k8s:io.kubernetes.pod.namespace"].is_string() && labels.as_object().unwrap().len() > 1
                    );
                    assert_eq!(read_ports(ports), [("ANY".to_owned(), 53, 53)]);
                    let [_, rules] = map(list(ports).next().unwrap(), ["ports", "rules"]);
                    policy.lookups.extend(selectors(map(rules, ["dns"])[0]));
                }
                (Value::Null, names, Value::Null) => {
                    let (names, ports) = (selectors(names), read_ports(ports));
                    policy.allow.push(Opening { names, ports, ..Opening::default() });
                }
                (Value::Null, Value::Null, nets) => {
                    let (nets, ports) = (read_nets(nets), read_ports(ports));
                    policy.allow.push(Opening { nets, ports, ..Opening::default() });
                }
                _ => panic!("Cilium takes one kind of peer a rule: {item}"),
            }
        }
        policy
    }

    fn may_look_up(&self, name: &str) -> bool {
        self.lookups.iter().any(|selector| selects(selector, name))
    }

    /// A pod looks a name up and connects to what it is answered, which nothing denies.
    fn reaches_name(&self, name: &str, protocol: Protocol, port: u16) -> bool {
        let selected = |opening: &Opening| opening.names.iter().any(|selector| selects(selector, name));
        self.may_look_up(name) && self.allow.iter().any(|opening| opening.has(protocol, port) && selected(opening))
    }

    /// A pod has looked up whatever it may.
    fn learn(&mut self, answers: &BTreeMap<String, Vec<IpAddr>>) {
        let known: Vec<_> = answers.iter().filter(|(name, _)| self.may_look_up(name)).collect();
        for opening in &mut self.allow {
            for (name, addrs) in &known {
                if opening.names.iter().any(|selector| selects(selector, name)) {
                    opening.learned.extend(addrs.iter().copied());
                }
            }
        }
    }

    /// A pod connects to an address. A denial beats every allow.
    fn reaches(&self, addr: IpAddr, protocol: Protocol, port: u16) -> bool {
        let meets = |opening: &Opening| {
            opening.has(protocol, port)
                && (opening.learned.contains(&addr) || opening.nets.iter().any(|net| net.contains(&addr)))
        };
        !self.deny.iter().any(meets) && self.allow.iter().any(meets)
    }
}

impl Opening {
    fn has(&self, protocol: Protocol, port: u16) -> bool {
        self.ports.iter().any(|(name, first, last)| {
            (name == "ANY" || *name == protocol.as_str().to_uppercase()) && (*first..=*last).contains(&port)
        })
    }
}

/// The policy of pods with the rules of one origin, and of all others that leave with the same addresses.
fn pods(site: &Site, origin: Origin) -> (Ruleset, Vec<IpAddr>) {
    let mut rules = site.rules.clone();
    let addrs = rules.clients[&origin].addrs.clone();
    let same = rules.clients.iter().filter(|(other, group)| group.addrs == addrs && **other != Origin::Browser);
    let origins = same.map(|(origin, _)| *origin).collect();
    rules.settings.cilium = Some(Cilium { origins, ..Cilium::on("pods") });
    let clients = firsts(&addrs);
    assert!(!clients.is_empty());
    (rules, clients)
}

fn pod_faults(site: &Site, exam: &Exam, text: &str) -> Vec<String> {
    let mut policy = PodPolicy::read(text);
    policy.learn(&site.answers);
    exam.faults(|q| policy.reaches(q.to, q.protocol, q.port), |q| policy.reaches_name(&q.to, q.protocol, q.port))
}

/// The first of many.
fn some(faults: &[String]) -> String {
    format!("{} faults:\n{}", faults.len(), faults[..faults.len().min(20)].join("\n"))
}

#[test]
fn pods_reach_what_the_model_lets_out_and_nothing_else() {
    for site in sites() {
        let limited = site.rules.clients.iter().filter(|(_, group)| group.default_deny);
        // Origins with the same addresses are one to the model.
        let by_addrs: BTreeMap<_, _> = limited.map(|(origin, group)| (group.addrs.prefixes(), *origin)).collect();
        for origin in by_addrs.into_values() {
            let (rules, clients) = pods(&site, origin);
            // A pod reaches what its lookups return, whatever a vendor's list says of it.
            let exam = Exam::new(&rules.without_lists(), &clients, 1);
            let faults = pod_faults(&site, &exam, &render("cilium", &rules).unwrap()[0].text);
            assert!(faults.is_empty(), "{}, {origin:?}: {}", site.name, some(&faults));
            let (asked, yes) = exam.size();
            assert!(asked >= 1000 && yes >= 10, "{}: only {asked} questions, {yes} with yes", site.name);
            println!("{}, {}: {asked} questions, {yes} with yes, no difference", site.name, origin.as_str());
        }
    }
}

#[test]
fn a_policy_that_is_wrong_is_seen() {
    let site = sites().pop().unwrap();
    let (rules, clients) = pods(&site, Origin::Nas);
    let exam = Exam::new(&rules.without_lists(), &clients, 1);
    let text = render("cilium", &rules).unwrap().remove(0).text;
    for (from, to) in [
        ("matchPattern: \"**.wild.example.org\"", "matchPattern: \"**.example.org\""),
        ("- matchName: \"update.truenas.com\"", "- matchName: \"update.truenas.org\""),
        ("203.0.113.192/28", "203.0.113.192/27"),
        ("2001:db8:40:c0::/60", "2001:db8:40:c0::/61"),
        ("endPort: 8450", "endPort: 8451"),
        ("              protocol: \"UDP\"\n    # ", "              protocol: \"TCP\"\n    # "),
        ("203.0.113.64/30\"", "203.0.113.240/32\""),
        ("            - port: \"2003\"\n              protocol: \"TCP\"\n", ""),
        ("              - matchName: \"ghcr.io\"\n", ""),
    ] {
        let wrong = text.replace(from, to);
        assert_ne!(wrong, text, "nothing to change: {from}");
        assert!(!pod_faults(&site, &exam, &wrong).is_empty(), "not seen: {from} -> {to}");
    }
    // A denial holds where something else opens its address.
    let opened = text.replace("cidr: \"203.0.113.64/30\"", "cidr: \"203.0.113.240/32\"");
    let usage: IpAddr = "203.0.113.240".parse().unwrap();
    let mut policy = PodPolicy::read(&opened);
    assert!(!policy.reaches(usage, Protocol::Tcp, 2000));
    policy.deny.clear();
    assert!(policy.reaches(usage, Protocol::Tcp, 2000));
}

/// A site with entries of its own, without a lock.
fn own(extra: &str) -> Ruleset {
    let profile = format!(
        "release: 25.10.2\nclients: {{nas: [192.0.2.10, '2001:db8::10'], admin: [192.0.2.20, '2001:db8::20'], \
         apps: [192.0.2.64/28, '2001:db8:1::/64']}}\nfeatures: [updates]\nstrict: [usage]\nextra:\n{extra}"
    );
    let policy = model::policy(&model::catalog(), &profile).unwrap();
    ruleset::build(&policy, None, &mut Findings::default())
}

fn entry(id: &str, class: &str, origin: &str, host: &str) -> String {
    format!("  - {{id: {id}, purpose: p, class: {class}, origin: [{origin}], hosts: ['{host}'], ports: [443/tcp]}}\n")
}

#[test]
fn what_cilium_cannot_deny_is_an_error_or_a_loss() {
    // A blocked name below an allowed wildcard: by name nothing could deny it.
    let wild = entry("wild", "function", "nas", "*.example.org");
    for spy in ["spy.example.org", "*.spy.example.org"] {
        let rules = own(&format!("{wild}{}", entry("spy", "usage", "nas", spy)));
        let error = render("cilium", &rules).unwrap_err();
        assert!(error.contains("E029") && error.contains(spy), "{error}");
    }
    // Denied to one origin of the pods, allowed to another: denied.
    let both =
        entry("good", "function", "nas, app", "good.example.org") + &entry("spy", "usage", "app", "good.example.org");
    let mut rules = own(&both);
    let text = render("cilium", &rules).unwrap().remove(0).text;
    assert!(!PodPolicy::read(&text).reaches_name("good.example.org", Protocol::Tcp, 443));
    assert!(text.contains("#   good: good.example.org is denied to an origin of these pods by spy"));
    rules.settings.cilium = Some(Cilium { origins: [Origin::Nas].into(), ..Cilium::on("pods") });
    let text = render("cilium", &rules).unwrap().remove(0).text;
    assert!(PodPolicy::read(&text).reaches_name("good.example.org", Protocol::Tcp, 443));
    assert!(text.contains(": of an origin these pods do not have"), "what is left out is not said");
    // Nothing for these pods is no policy: they would be cut off from everything.
    rules.settings.cilium = Some(Cilium { origins: [Origin::Jail].into(), ..Cilium::on("pods") });
    assert!(render("cilium", &rules).unwrap_err().contains("E028"));
}

#[test]
fn lookups_are_never_wider_than_what_is_opened() {
    let literal = entry("literal", "function", "nas", "203.0.113.7");
    let mut rules = own(&literal);
    rules.rules.retain(|rule| rule.key.as_str() == "literal");
    rules.settings.cilium = Some(Cilium { search: Vec::new(), ..Cilium::on("pods") });
    // Without a name there is no DNS rule: an empty one would let every lookup through.
    let text = render("cilium", &rules).unwrap().remove(0).text;
    assert!(!text.contains("dns:") && !text.contains("\"53\""), "{text}");
    for site in sites() {
        let (rules, _) = pods(&site, Origin::Nas);
        let policy = PodPolicy::read(&render("cilium", &rules).unwrap()[0].text);
        for selector in &policy.lookups {
            let service = selector.starts_with('_');
            let opened = policy.allow.iter().any(|opening| opening.names.contains(selector));
            assert!(opened || service || selector == "**.cluster.local", "{}: {selector} opens nothing", site.name);
        }
    }
}

#[test]
fn no_text_becomes_a_part_of_the_policy_or_of_a_list() {
    let hostile = "a: [b] {c: d} # e &f *g !h - i, | > % @ <<: ]}";
    let extra = |title: &str| {
        entry("own", "function", "nas", "203.0.113.7").replace("purpose: p", &format!("title: '{title}', purpose: p"))
    };
    let value =
        |rules: &Ruleset| -> Value { serde_saphyr::from_str(&render("cilium", rules).unwrap()[0].text).unwrap() };
    assert_eq!(value(&own(&extra(hostile))), value(&own(&extra("harmless"))));
    let mut rules = own(&extra(hostile));
    rules.rules.retain(|rule| rule.key.as_str() == "own");
    let files = render("lists", &rules).unwrap();
    let table = files.iter().find(|file| file.path == "rules.json").unwrap();
    let table: Value = serde_json::from_str(&table.text).unwrap();
    assert_eq!(table["rules"][0]["title"], hostile);
    for file in files.iter().filter(|file| file.path.starts_with("allow_")) {
        assert!(file.text.contains(hostile));
        let entries: Vec<&str> = file.text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(entries, if file.path.contains("_v4") { vec!["203.0.113.7"] } else { Vec::new() });
    }
}

// What a router makes of the lists, with nothing but their names to go by.

#[derive(Debug, Default)]
struct Router {
    clients: BTreeMap<String, Vec<IpNet>>,
    lists: Vec<ReadList>,
}

#[derive(Debug)]
struct ReadList {
    deny: bool,
    clients: String,
    ports: Vec<(String, u16, u16)>,
    nets: Vec<IpNet>,
    names: Vec<String>,
}

fn entries(text: &str) -> Vec<&str> {
    let entries: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(entries.iter().all(|line| !line.is_empty() && !line.contains(' ')), "{entries:?}");
    entries
}

fn nets(text: &str) -> Vec<IpNet> {
    let net = |line: &&str| line.parse::<IpAddr>().map_or_else(|_| line.parse::<IpNet>().unwrap(), IpNet::from);
    let nets: Vec<IpNet> = entries(text).iter().map(net).collect();
    assert!(nets.is_sorted() && IpNet::aggregate(&nets).len() == nets.len(), "neither sorted nor as few as can be");
    nets
}

impl Router {
    fn read(files: &[File]) -> Self {
        let mut router = Self::default();
        let stems = |file: &File| file.path.strip_suffix(".txt").map(str::to_owned);
        for file in files {
            let Some(stem) = stems(file) else { continue };
            if let Some((name, _)) = stem.strip_prefix("clients_").and_then(|rest| rest.rsplit_once('_')) {
                router.clients.entry(name.to_owned()).or_default().extend(nets(&file.text));
            }
        }
        for file in files {
            let Some(stem) = stems(file).filter(|stem| !stem.starts_with("clients_")) else { continue };
            let (action, rest) = stem.split_once('_').unwrap();
            let (rest, kind) = rest.rsplit_once('_').unwrap();
            // `nas_jails` before `nas`.
            let fits = |name: &&String| rest.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('_'));
            let clients = router.clients.keys().filter(fits).max_by_key(|name| name.len()).unwrap().clone();
            let ports = match &rest[clients.len() + 1..] {
                "any" => Protocol::ALL.map(|protocol| (protocol.as_str().to_owned(), 1, u16::MAX)).to_vec(),
                words => words.split('_').map(port).collect(),
            };
            let addresses = matches!(kind, "v4" | "v6");
            assert!(addresses || matches!(kind, "names" | "wildcards"), "{stem}");
            let deny = match action {
                "deny" => true,
                "allow" => false,
                _ => panic!("neither allowed nor denied: {stem}"),
            };
            let names: Vec<String> =
                if addresses { Vec::new() } else { entries(&file.text).iter().map(|&name| name.to_owned()).collect() };
            assert!(names.iter().all(|name| (kind == "wildcards") == name.starts_with("*.")), "{stem}: {names:?}");
            let nets = if addresses { nets(&file.text) } else { Vec::new() };
            assert!(nets.iter().all(|net| net.network().is_ipv4() == (kind == "v4")));
            router.lists.push(ReadList { deny, clients, ports, nets, names });
        }
        router
    }

    /// Denials, then allows, then the denial of the rest for the clients that are limited.
    fn passes(&self, client: IpAddr, protocol: Protocol, port: u16, holds: impl Fn(&ReadList) -> bool) -> bool {
        let is_of = |name: &str| self.clients[name].iter().any(|net| net.contains(&client));
        let meets = |list: &&ReadList| {
            let mine = |(name, first, last): &(String, u16, u16)| {
                name == protocol.as_str() && (*first..=*last).contains(&port)
            };
            is_of(&list.clients) && list.ports.iter().any(mine) && holds(list)
        };
        !self.lists.iter().filter(|list| list.deny).any(|list| meets(&list))
            && (self.lists.iter().filter(|list| !list.deny).any(|list| meets(&list)) || !is_of("limited"))
    }

    fn passes_addr(&self, q: &Question<IpAddr>) -> bool {
        self.passes(q.client, q.protocol, q.port, |list| list.nets.iter().any(|net| net.contains(&q.to)))
    }

    fn passes_name(&self, q: &Question<String>) -> bool {
        let holds = |entry: &String| match entry.strip_prefix('*') {
            Some(below) => q.to.len() > below.len() && q.to.ends_with(below),
            None => *entry == q.to,
        };
        self.passes(q.client, q.protocol, q.port, |list| list.names.iter().any(holds))
    }
}

/// `tcp443` or `tcp8443-8450`.
fn port(word: &str) -> (String, u16, u16) {
    let at = word.find(|c: char| c.is_ascii_digit()).unwrap_or_else(|| panic!("no port: {word}"));
    let (first, last) = word[at..].split_once('-').unwrap_or((&word[at..], &word[at..]));
    (word[..at].to_owned(), first.parse().unwrap(), last.parse().unwrap())
}

/// Clients of every origin, and a stranger.
fn clients(rules: &Ruleset) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = rules.clients.values().flat_map(|group| firsts(&group.addrs)).collect();
    all.extend(["192.0.2.99", "2001:db8:10::99"].map(|addr| addr.parse::<IpAddr>().unwrap()));
    all
}

fn list_exam(rules: &Ruleset) -> Exam {
    let clients = clients(rules);
    Exam::new(rules, &clients, clients.len())
}

fn list_faults(exam: &Exam, files: &[File]) -> Vec<String> {
    let router = Router::read(files);
    exam.faults(|q| router.passes_addr(q), |q| router.passes_name(q))
}

/// A site without the entry whose list has a name too long to be read again.
fn short_names(mut site: Site) -> Site {
    site.rules.rules.retain(|rule| rule.key.as_str() != "many");
    site
}

#[test]
fn lists_used_as_their_names_say_are_the_model() {
    for site in sites().into_iter().map(short_names) {
        let files = render("lists", &site.rules).unwrap();
        let exam = list_exam(&site.rules);
        let faults = list_faults(&exam, &files);
        assert!(faults.is_empty(), "{}: {}", site.name, some(&faults));
        let (asked, yes) = exam.size();
        assert!(asked >= 1000 && yes >= 20, "{}: only {asked} questions, {yes} with yes", site.name);
        println!("{}: {asked} questions, {yes} with yes, no difference", site.name);
    }
}

#[test]
fn a_list_that_is_wrong_is_seen() {
    let site = short_names(sites().pop().unwrap());
    let good = render("lists", &site.rules).unwrap();
    let exam = list_exam(&site.rules);
    for (path, from, to) in [
        ("allow_nas_tcp22_v4.txt", "203.0.113.192/28", "203.0.113.192/27"),
        ("deny_admin_any_names.txt", "\nsentry.ixsystems.com\n", "\n"),
        ("deny_admin_any_v6.txt", "\n2001:db8:c:2b::1\n", "\n"),
        ("allow_nas_tcp443_names.txt", "\ngithub.com\n", "\ngithub.com\ngithub.org\nexample.com\n"),
        ("allow_nas_tcp443_tcp8443-8450_wildcards.txt", "\n*.wild.example.org", "\n*.example.org"),
        ("clients_limited_v4.txt", "\n192.0.2.10\n", "\n"),
    ] {
        let mut files = good.clone();
        let file = files.iter_mut().find(|file| file.path == path).unwrap_or_else(|| panic!("there is no {path}"));
        let wrong = file.text.replace(from, to);
        assert_ne!(wrong, file.text, "{path}: nothing to change");
        file.text = wrong;
        assert!(!list_faults(&exam, &files).is_empty(), "not seen: {path}: {from} -> {to}");
    }
    let mut files = good.clone();
    files.iter_mut().find(|file| file.path == "allow_nas_tcp22_v4.txt").unwrap().path =
        "allow_nas_tcp23_v4.txt".to_owned();
    assert!(!list_faults(&exam, &files).is_empty(), "not seen: a list under another port");
}

#[test]
fn a_list_says_what_it_knows_not_and_the_table_knows_it() {
    for site in sites() {
        let files = render("lists", &site.rules).unwrap();
        for file in files.iter().filter(|file| file.path.starts_with("allow_") || file.path.starts_with("deny_")) {
            assert!(file.text.contains("# A list knows neither ports nor clients:"), "{}", file.path);
            assert!(file.path.len() < 100, "{}", file.path);
        }
        let table = files.iter().find(|file| file.path == "rules.json").unwrap();
        let table: Value = serde_json::from_str(&table.text).unwrap();
        let said: BTreeSet<&str> = list(&table["lists"]).flat_map(|entry| list(&entry["files"])).map(word).collect();
        let there: BTreeSet<&str> = files
            .iter()
            .map(|f| f.path.as_str())
            .filter(|p| p.starts_with("allow_") || p.starts_with("deny_"))
            .collect();
        assert_eq!(said, there, "{}", site.name);
        for rule in &site.rules.rules {
            let bound = !site.rules.clients_of(site.rules.bound(rule)).is_empty();
            let row = list(&table["rules"]).find(|row| row["id"] == rule.key.as_str());
            assert_eq!(row.is_some(), bound, "{}", rule.key);
            let Some(row) = row else { continue };
            let ports: Vec<String> = rule.ports.iter().map(ToString::to_string).collect();
            assert_eq!(list(&row["ports"]).map(word).collect::<Vec<_>>(), ports);
            let destinations: Vec<String> = rule.destinations.iter().map(|d| d.endpoint.to_string()).collect();
            assert_eq!(list(&row["destinations"]).map(word).collect::<Vec<_>>(), destinations);
            assert!(
                list(&table["lists"]).any(|entry| entry["list"] == row["list"] && entry["action"] == row["action"])
            );
        }
    }
}

#[test]
fn lists_hold_what_they_are_asked_to() {
    let site = sites().pop().unwrap();
    let with = |hold, comments| {
        let mut rules = site.rules.clone();
        rules.settings.lists = Some(Lists { hold, comments });
        let files = render("lists", &rules).unwrap().into_iter().filter(|file| file.path != "rules.json");
        files.map(|file| (file.path, file.text)).collect::<BTreeMap<_, _>>()
    };
    let all = with(Hold::Both, Comments::Hash);
    let bare = with(Hold::Both, Comments::None);
    assert!(all.keys().eq(bare.keys()));
    for (path, text) in &bare {
        assert!(!text.contains('#'), "{path}");
        assert_eq!(entries(text), entries(&all[path]), "{path}");
    }
    let (addresses, names) = (with(Hold::Addresses, Comments::Hash), with(Hold::Names, Comments::Hash));
    assert!(names.keys().all(|path| path.contains("_names.") || path.contains("_wildcards.")));
    assert!(addresses.keys().all(|path| path.contains("_v4.") || path.contains("_v6.")));
    assert_eq!(addresses.len() + names.len(), all.len());
    // Names need no lock; what is lost by it is said.
    let mut rules = own(&entry("literal", "function", "nas", "203.0.113.7"));
    rules.settings.lists = Some(Lists { hold: Hold::Names, ..Lists::default() });
    let files = render("lists", &rules).unwrap();
    let table = &files.iter().find(|file| file.path == "rules.json").unwrap().text;
    assert!(table.contains("literal: 203.0.113.7 is an address, no list of names holds it"), "{table}");
    // An address that is to be blocked and nothing else limits must not be lost.
    let mut rules = own(&entry("spy", "usage", "browser", "203.0.113.7"));
    rules.settings.lists = Some(Lists { hold: Hold::Names, ..Lists::default() });
    assert!(render("lists", &rules).unwrap_err().contains("E029"));
}

#[test]
fn lists_come_without_a_profile() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_outgate"))
            .args([
                "generate",
                "--release",
                "25.10.2",
                "--feature",
                "updates",
                "--nas",
                "192.0.2.10",
                "--nas",
                "2001:db8::10",
            ])
            .args(["--dns", "9.9.9.9"])
            .args(args)
            .current_dir(folder.path())
            .env("NO_COLOR", "1")
            .env("SOURCE_DATE_EPOCH", "1795219200")
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let profile = "release: 25.10.2\nclients: {nas: [192.0.2.10, '2001:db8::10']}\nfeatures: [updates]\nservers: {dns: [{host: 9.9.9.9}]}\n";
    let policy = model::policy(&model::catalog(), profile).unwrap();
    let lock = public_lock(policy.queries().into_keys());
    fs::write(folder.path().join("outgate.lock"), lock.print()).unwrap();
    let (status, said) = run(&["--target", "lists"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("N202"), "{said}");
    let text = fs::read_to_string(folder.path().join("out/lists/allow_nas_tcp443_names.txt")).unwrap();
    assert!(text.contains("\nupdate.truenas.com\n"));
    // Pods are chosen by labels, which no flag gives.
    let (status, said) = run(&["--target", "cilium"]);
    assert!(status == Some(2) && said.contains("E005") && said.contains("needs a profile"), "{said}");
}

/// A lock in which every name has a public address of each family.
fn public_lock(queries: impl Iterator<Item = Query>) -> Lock {
    let day = outgate::day::Day::parse("2026-11-21").unwrap();
    let seen = || outgate::lock::Seen { first: day, missing: None, by: Default::default() };
    let hosts = queries.zip(1_u32..).map(|(query, i)| {
        let v6 = (0x2606_4700_u128 << 96) + u128::from(i);
        let addresses = [(IpAddr::V4((0x0808_0000 + i).into()), seen()), (IpAddr::V6(v6.into()), seen())];
        (query, outgate::lock::Entry { addresses: addresses.into_iter().collect(), ..outgate::lock::Entry::default() })
    });
    Lock { day, note: None, sites: BTreeSet::new(), hosts: hosts.collect(), ranges: BTreeMap::new() }
}

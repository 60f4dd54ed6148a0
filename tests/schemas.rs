//! The schemas: committed as the program prints them, holding for every real file, and never of another mind than the
//! program about a key or a word.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use outgate::callout::Known;
use outgate::catalog::{self, Catalog};
use outgate::day::Day;
use outgate::diagnostic::Findings;
use outgate::lock::Lock;
use outgate::port::Port;
use outgate::profile;
use outgate::schema::{KINDS, Kind};
use outgate::source::Sources;
use outgate::text::Id;
use outgate::workspace;
use regex_lite::Regex;
use serde_json::{Value, json};

mod support;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn kind(name: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.name == name).unwrap_or_else(|| panic!("there is no schema `{name}`"))
}

fn schema(name: &str) -> Value {
    serde_json::from_str(&kind(name).print()).unwrap()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

// A validator for the part of draft-07 that the schemas use. A keyword it does not know is a failure of the test.

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("unknown type `{other}`"),
    }
}

fn matches(pattern: &Value, text: &str) -> bool {
    static MADE: LazyLock<Mutex<BTreeMap<String, Regex>>> = LazyLock::new(Mutex::default);
    let pattern = pattern.as_str().unwrap();
    let mut made = MADE.lock().unwrap();
    made.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).unwrap()).is_match(text)
}

/// The schema of a key: what `properties`, `patternProperties` and `additionalProperties` say of it.
fn of_key<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    let by_pattern = || {
        let patterns = schema["patternProperties"].as_object()?;
        patterns.iter().find(|(pattern, _)| matches(&json!(pattern), key)).map(|(_, schema)| schema)
    };
    let known = schema["properties"].get(key).or_else(by_pattern);
    known.or_else(|| schema.get("additionalProperties").filter(|rest| rest.is_object()))
}

/// Every fault of a value, each as place and keyword.
fn faults(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |good: bool, keyword: &str| {
        if !good {
            found.push(format!("{at}: {keyword}"));
        }
    };
    let (text, number, list, map) = (value.as_str(), value.as_f64(), value.as_array(), value.as_object());
    for (keyword, rule) in schema.as_object().unwrap() {
        let good = match &**keyword {
            "$schema" | "title" | "description" | "default" | "enumDescriptions" => true,
            "type" => match rule {
                Value::Array(kinds) => kinds.iter().any(|kind| is_a(kind.as_str().unwrap(), value)),
                kind => is_a(kind.as_str().unwrap(), value),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "pattern" => text.is_none_or(|text| matches(rule, text)),
            "maxLength" => text.is_none_or(|text| text.chars().count() as u64 <= rule.as_u64().unwrap()),
            "minimum" => number.is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => number.is_none_or(|number| number <= rule.as_f64().unwrap()),
            "minItems" => list.is_none_or(|list| list.len() as u64 >= rule.as_u64().unwrap()),
            "required" => {
                map.is_none_or(|map| rule.as_array().unwrap().iter().all(|k| map.contains_key(k.as_str().unwrap())))
            }
            "anyOf" => rule.as_array().unwrap().iter().any(|schema| faults(schema, value, at).is_empty()),
            // Gone into below.
            "items" | "properties" | "patternProperties" => true,
            "additionalProperties" => {
                rule.is_object() || map.is_none_or(|map| map.keys().all(|key| of_key(schema, key).is_some()))
            }
            other => panic!("the validator does not know `{other}`"),
        };
        check(good, keyword);
    }
    for (i, item) in list.into_iter().flatten().enumerate() {
        if let Some(schema) = schema.get("items") {
            found.extend(faults(schema, item, &format!("{at}[{i}]")));
        }
    }
    for (key, value) in map.into_iter().flatten() {
        if let Some(schema) = of_key(schema, key) {
            found.extend(faults(schema, value, &format!("{at}.{key}")));
        }
    }
    found
}

// The committed files.

#[test]
fn committed_schemas_are_what_is_printed() {
    let folder = root().join("schemas");
    for kind in KINDS {
        let output = Command::new(env!("CARGO_BIN_EXE_outgate")).args(["schema", kind.name]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        // `SNAPSHOTS=overwrite cargo test --test schemas` renews the files.
        let file = folder.join(format!("{}.json", kind.name));
        snapbox::assert_data_eq!(text, snapbox::Data::read_from(&file, None).raw());
    }
    let names: BTreeSet<String> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, KINDS.iter().map(|kind| format!("{}.json", kind.name)).collect());
}

/// Every key has what an editor shows, and every mapping with keys of ours refuses others.
fn silent(schema: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        // The keys of `failed` are record types of DNS.
        let said = |property: &Value| property["description"].is_string() || at.ends_with(".failed");
        found.extend(properties.iter().filter(|(_, property)| !said(property)).map(|(key, _)| format!("{at}.{key}")));
        if schema["additionalProperties"] != json!(false) {
            found.push(format!("{at} takes any key"));
        }
        properties.iter().for_each(|(key, property)| silent(property, &format!("{at}.{key}"), found));
    }
    for inner in [&schema["items"], &schema["additionalProperties"]].into_iter().filter(|inner| inner.is_object()) {
        silent(inner, &format!("{at}[]"), found);
    }
    for (_, inner) in schema["patternProperties"].as_object().into_iter().flatten() {
        silent(inner, &format!("{at}.*"), found);
    }
}

#[test]
fn every_key_says_what_it_means() {
    for kind in KINDS {
        let (schema, mut found) = (schema(kind.name), Vec::new());
        silent(&schema, kind.name, &mut found);
        assert_eq!(found, Vec::<String>::new());
        assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    }
    let mut found = Vec::new();
    silent(&json!({"properties": {"a": {}, "b": {"description": "b"}}}), "it", &mut found);
    assert_eq!(found, ["it.a", "it takes any key"]);
}

// The real files.

/// Every file of the repository that has a schema: its path, the schema's name, its content.
fn files() -> Vec<(PathBuf, String, Value)> {
    let mut found = Vec::new();
    let mut take = |path: PathBuf, name: &str| {
        let content = yaml(&fs::read_to_string(&path).unwrap());
        found.push((path, name.to_owned(), content));
    };
    let list = |folder: &str| -> Vec<PathBuf> {
        fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let is_yaml = |path: &Path| path.extension().is_some_and(|e| e == "yaml");
    for example in list("examples").into_iter().filter(|path| path.join("outgate.yaml").exists()) {
        take(example.join("outgate.yaml"), "profile");
        take(example.join("outgate.lock"), "lock");
    }
    take(root().join("examples/many-sites/outgate-sites.yaml"), "sites");
    take(root().join("examples/many-sites/outgate.lock"), "lock");
    for site in ["berlin", "oslo"] {
        take(root().join("examples/many-sites").join(site).join("outgate.yaml"), "profile");
    }
    for path in list("catalog/callouts").into_iter().filter(|path| is_yaml(path)) {
        take(path, "callouts");
    }
    for path in list("catalog").into_iter().filter(|path| is_yaml(path)) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        take(path, &name);
    }
    found
}

#[test]
fn every_real_file_holds_to_its_schema() {
    let files = files();
    for (path, name, content) in &files {
        assert_eq!(faults(&schema(name), content, ""), Vec::<String>::new(), "{}", path.display());
    }
    for kind in KINDS {
        assert!(files.iter().any(|(_, name, _)| name == kind.name), "no file was held against {}", kind.name);
    }
    assert!(files.len() >= 20, "only {} files were read", files.len());
}

#[test]
fn files_that_users_edit_name_their_schema() {
    // A lock is JSON, which takes no comment.
    for (path, name, _) in files().into_iter().filter(|(_, name, _)| name != "lock") {
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap();
        let schema = first.strip_prefix("# yaml-language-server: $schema=").unwrap_or_else(|| panic!("{first}"));
        let file = path.parent().unwrap().join(schema).canonicalize().unwrap();
        assert_eq!(file, root().join(format!("schemas/{name}.json")).canonicalize().unwrap());
    }
}

// Broken files.

const CALLOUTS: &str = r#"
callouts:
  - id: one
    title: One
    purpose: Fetches one thing.
    class: function
    origin: [nas]
    feature: things
    hosts: [one.example.org]
    providers: [files]
    ports: [443/tcp, 8443-8450/tcp]
    releases: [{family: scale, since: "24.10", until: "25.10"}]
    data: nothing but the request
    frequency: every hour
    keep-days: 7
    max-age: 60
    blocked: {level: feature, effect: no things}
    off-switch: Things > Off
    strict: allow
    confidence: medium
    sources: [{source: page, line: 86, quote: One of them}]
    corrections:
      - as-written: One
        right: Two.
        evidence: [{source: page, at: TS-24.10.0, path: src/one.py, lines: "9-22"}]
  - id: two
    title: Two
    purpose: Asks servers of the site.
    class: usage
    origin: [nas, jail]
    slot: dns
    ports: [53/udp]
    releases: [{family: scale}]
    blocked: {level: core, effect: nothing works}
    strict: optional
    sources: [{source: page}]
not-a-callout:
  - id: three
    title: Three
    reason: Nothing opens it.
    sources: [{source: page, line: "12"}]
    evidence: [{source: page, line: 12}]
"#;
const RELEASES: &str = r#"
product: Product
prefixes: ["P-"]
families: [{id: scale, title: Debian-based}]
lines:
  - line: "24.10"
    family: scale
    codename: Eel
    first: {release: "24.10.0", date: "2024-10-29"}
    last: {release: "24.10.2", date: "2025-01-28"}
    released: "2024-10-29"
    note: A line.
"#;
const PROVIDERS: &str = r#"
providers:
  - id: files
    title: Files
    about: Files of all kinds.
    hosts: [files.example.org]
    ranges: {url: https://example.org/ranges.json, path: $.prefixes}
    sources: [{source: page}]
"#;
const PAGES: &str = r#"
pages:
  - source: page
    sections: [Callouts]
    prose: [3]
    statements: [{line: 4, verdict: right}]
"#;
const SOURCES: &str = r#"
sources:
  - id: page
    title: Page
    url: https://example.org/page
    date: "2025-03-12"
    sha256: ef82f13697aa61e89fc53c0626f6b5aeb758b4825bd24eb705a8317ad7450132
    note: A page.
"#;
const FEATURES: &str = "features: [{id: things, title: Things, about: A sentence., usual: true}]\n";
const LOCK: &str = r#"{
"format": 2,
"day": "2026-11-21",
"note": "from here",
"sites": ["home"],
"sum": "2ceeaf0f",
"hosts": {
"_http._tcp.example.org": {
 "targets": ["one.example.org:80"],
 "failed": {"SRV": {"how": "timeout", "since": "2026-11-20"}},
 "by": ["192.0.2.53:53"],
 "sum": "9c2d1af5"
},
"one.example.org": {
 "asked": "2026-11-22",
 "chain": ["edge.example.net"],
 "through": ["pop.example.net"],
 "addresses": {
  "198.51.100.1": {"seen": "2026-11-01"},
  "198.51.100.2": {"seen": "2026-10-12", "missing": "2026-11-20", "by": ["192.0.2.54:53"]}
 },
 "sampled": {"times": 4, "addresses": 7, "sightings": 13, "once": 3, "twice": 2},
 "authentic": true,
 "by": ["192.0.2.53:53"],
 "sum": "6c609479"
}
},
"ranges": {
"vendor": {
 "from": "https://example.org/ranges.json",
 "path": ["$.prefixes"],
 "read": "2026-11-22",
 "failed": "2026-11-22",
 "prefixes": {
  "198.51.100.0/24": {"seen": "2026-11-01"},
  "203.0.113.0/25": {"seen": "2026-10-12", "missing": "2026-11-20"}
 },
 "sum": "ae008777"
}
}
}
"#;

/// The places a list of prefixes can be in that the documentation's profile does not show.
const RANGES: &str = "ranges:
  github:
    for: [github.com]
    provider: github
  vendor:
    for: [ghcr.io]
    url: https://example.org/ranges.json
    path: $.prefixes
";

/// The profile of the documentation that has every key.
fn complete() -> String {
    let page = fs::read_to_string(root().join("docs/profile.md")).unwrap();
    let block = page.split("```yaml\n").find(|block| block.starts_with("# complete/outgate.yaml")).unwrap();
    block.split("```").next().unwrap().to_owned()
}

/// A good file of each kind.
fn good(name: &str) -> String {
    match name {
        "callouts" => CALLOUTS.to_owned(),
        "releases" => RELEASES.to_owned(),
        "sources" => SOURCES.to_owned(),
        "providers" => PROVIDERS.to_owned(),
        "pages" => PAGES.to_owned(),
        "features" => FEATURES.to_owned(),
        "profile" => complete().replacen("ranges:\n", RANGES, 1),
        "sites" => "sites: [a/outgate.yaml, \"b/*.yaml\"]\nlock: all.lock\nout: out\n".to_owned(),
        "lock" => LOCK.to_owned(),
        other => panic!("write a good `{other}` file, with every key in it"),
    }
}

#[test]
fn broken_files_are_refused_where_they_are_broken() {
    let cases = [
        ("profile", "keep-days: 30", "kept-days: 30", ".answers: additionalProperties"),
        ("profile", "features:", "feature:", ": additionalProperties\n: required"),
        ("profile", "features: [updates, apps, mail]", "", ": required"),
        ("profile", "features: [updates, apps, mail]", "features: updates", ".features: type"),
        ("profile", "strict: [usage", "strict: [usages", ".strict[0]: enum"),
        ("profile", "strict: [usage", "strict: [function", ".strict[0]: enum"),
        ("profile", "allow: [documentation]", "allow: [loopback]", ".answers.allow[0]: enum"),
        ("profile", "ipv6: clients", "ipv6: deny", ".ipv6: enum"),
        ("profile", "hook: both", "hook: input", ".targets.nftables.hook: enum"),
        ("profile", "dialect: openbsd", "dialect: netbsd", ".targets.pf.dialect: enum"),
        ("profile", "side: router", "side: outer", ".targets.pf.side: enum"),
        ("profile", "resolve: lock", "resolve: never", ".targets.opnsense.resolve: enum"),
        ("profile", "version: \"26.1\"", "version: \"23.1\"", ".targets.opnsense.version: anyOf"),
        ("profile", "    interface: vio1\n", "", ".targets.pf: required"),
        ("profile", "priority: -10", "priority: -400", ".targets.nftables.priority: minimum"),
        ("profile", "port: 3127", "port: 65536", ".targets.squid.port: maximum"),
        ("profile", "https: 3143", "https: 0", ".targets.squid.intercept.https: minimum"),
        ("profile", "paths: [ghcr.io/v2/truenas/]", "paths: []", ".targets.squid.decrypt.paths: minItems"),
        ("profile", "comments: none", "comments: nothing", ".targets.lists.comments: enum"),
        ("profile", "origins: [nas, app]", "origins: [browser]", ".targets.cilium.origins[0]: enum"),
        (
            "profile",
            "endpoints: [app=backup-agent, tier=egress]",
            "endpoints: []",
            ".targets.cilium.endpoints: minItems",
        ),
        ("profile", "ports: [587/tcp]", "ports: [587]", ".servers.mail[0].ports[0]: type"),
        ("profile", "22/tcp, ", "22/TCP, ", ".extra[0].ports[0]: pattern"),
        ("profile", "id: site-backup", "id: site_backup", ".extra[0].id: pattern"),
        ("profile", "    class: function\n", "    feature: apps\n", ".extra[0]: additionalProperties"),
        ("profile", "nas: [192.0.2.10, \"2001:db8:10::10\"]", "nas: []", ".clients.nas: minItems"),
        ("profile", "  ntp:", "  NTP:", ".servers: additionalProperties"),
        ("callouts", "class: usage", "class: use", ".callouts[1].class: enum"),
        ("callouts", "origin: [nas, jail]", "origin: [nas, jails]", ".callouts[1].origin[1]: enum"),
        ("callouts", "level: core", "level: all", ".callouts[1].blocked.level: enum"),
        ("callouts", "strict: optional", "strict: perhaps", ".callouts[1].strict: enum"),
        ("callouts", "confidence: medium", "confidence: some", ".callouts[0].confidence: enum"),
        ("callouts", "    slot: dns\n", "", ".callouts[1]: anyOf"),
        ("providers", "about:", "abuot:", ".providers[0]: additionalProperties\n.providers[0]: required"),
        ("providers", "url: https", "url: http", ".providers[0].ranges.url: pattern"),
        ("providers", "path: $.prefixes", "path: []", ".providers[0].ranges.path: minItems"),
        (
            "profile",
            "for: [ghcr.io]",
            "to: [ghcr.io]",
            ".ranges.vendor: additionalProperties\n.ranges.vendor: required",
        ),
        ("profile", "for: [ghcr.io]", "for: []", ".ranges.vendor.for: minItems"),
        ("profile", "    provider: github\n", "", ".ranges.github: anyOf"),
        ("profile", "    url: https", "    url: http", ".ranges.vendor.url: pattern"),
        ("profile", "    provider: github", "    provider: Git_Hub", ".ranges.github.provider: pattern"),
        ("pages", "verdict: right", "verdict: rihgt", ".pages[0].statements[0].verdict: enum"),
        ("callouts", "    title: Two\n", "", ".callouts[1]: required"),
        ("callouts", "sources: [{source: page}]", "sources: []", ".callouts[1].sources: minItems"),
        ("callouts", "purpose: Asks", "porpose: Asks", ".callouts[1]: additionalProperties\n.callouts[1]: required"),
        ("callouts", "    reason: Nothing opens it.\n", "", ".not-a-callout[0]: required"),
        ("releases", "codename:", "code-name:", ".lines[0]: additionalProperties"),
        ("releases", "date: \"2024-10-29\"", "date: 29.10.2024", ".lines[0].first.date: pattern"),
        ("sources", "https://", "http://", ".sources[0].url: pattern"),
        ("sources", "sha256: ef", "sha256: EF", ".sources[0].sha256: pattern"),
        ("features", "usual: true", "usual: yes please", ".features[0].usual: type"),
        ("features", "about:", "abuot:", ".features[0]: additionalProperties\n.features[0]: required"),
        ("sites", "lock:", "lokc:", ": additionalProperties"),
        ("sites", "[a/outgate.yaml, \"b/*.yaml\"]", "[]", ".sites: minItems"),
        ("sites", "sites: [a/outgate.yaml, \"b/*.yaml\"]\n", "", ": required"),
        ("lock", "\"format\": 2", "\"format\": 3", ".format: enum"),
        ("lock", "\"timeout\"", "\"late\"", ".hosts._http._tcp.example.org.failed.SRV.how: enum"),
        ("lock", "\"SRV\":", "\"MX\":", ".hosts._http._tcp.example.org.failed: additionalProperties"),
        ("lock", "\"read\": \"2026-11-22\"", "\"read\": \"now\"", ".ranges.vendor.read: pattern"),
        ("lock", "{\"seen\": \"2026-11-01\"}", "{}", ".hosts.one.example.org.addresses.198.51.100.1: required"),
    ];
    for (name, old, new, expected) in cases {
        let text = good(name);
        assert_eq!(faults(&schema(name), &yaml(&text), ""), Vec::<String>::new(), "{name}");
        assert!(taken_by_program(name, &text), "{name}");
        let broken = text.replacen(old, new, 1);
        assert_ne!(broken, text, "`{old}` is not in the file");
        assert_eq!(faults(&schema(name), &yaml(&broken), "").join("\n"), expected, "{name}: {new}");
        assert!(!taken_by_program(name, &broken), "the program takes `{new}`");
    }
}

// The schemas beside the program.

/// What the program says against a file of this kind by itself, the others being good.
fn read_by_program(name: &str, text: &str) -> Result<(), String> {
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    let mut add = |kind: &str| sources.add(kind, if kind == name { text.to_owned() } else { good(kind) });
    let read = match name {
        "profile" => {
            let id = add("profile");
            let providers = std::collections::BTreeMap::new();
            let (families, features) = (vec![], vec![]);
            let known = Known { families, features, sources: vec!["page"], providers: &providers, strict: false };
            profile::read(&sources, id, &known, &mut findings).is_some()
        }
        "sites" => {
            let id = add("sites");
            workspace::read(&sources, id, &mut findings).is_some()
        }
        "lock" => {
            // What is judged is the content: the canonical form and the sums are no matter for a schema.
            let id = add("lock");
            let message = Lock::parse(&sources, id).err().map(|diagnostic| diagnostic.message);
            let of_form =
                |message: &String| message.ends_with("as it was written") || message.contains("does not add up");
            return message.filter(|message| !of_form(message)).map_or(Ok(()), Err);
        }
        _ => {
            let files = catalog::Files {
                releases: add("releases"),
                sources: add("sources"),
                features: add("features"),
                providers: Some(add("providers")),
                pages: Some(add("pages")),
                callouts: vec![add("callouts")],
            };
            catalog::read(&sources, &files, &mut findings).is_some()
        }
    };
    if read { Ok(()) } else { Err(findings.iter().map(|d| format!("{} {}\n", d.code.as_str(), d.message)).collect()) }
}

/// Whether the program does anything with such a file; of a profile the catalog judges the names.
fn taken_by_program(name: &str, text: &str) -> bool {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(support::model::catalog);
    read_by_program(name, text).is_ok() && (name != "profile" || support::model::policy(&CATALOG, text).is_ok())
}

/// Every place of a value, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            // A prefix is a key with a slash in it.
            places(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
        }),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, value)| places(value, &format!("{at}/{i}"), found)),
        _ => {}
    }
}

/// The schema of a place.
fn of_place<'a>(schema: &'a Value, pointer: &str) -> &'a Value {
    pointer.split('/').skip(1).fold(schema, |schema, step| match step.parse::<usize>() {
        Ok(_) if schema.get("items").is_some() => &schema["items"],
        _ => of_key(schema, &step.replace("~1", "/").replace("~0", "~")).unwrap(),
    })
}

/// Every word that a schema lists.
fn words(schema: &Value, found: &mut BTreeSet<String>) {
    for word in schema["enum"].as_array().into_iter().flatten() {
        found.extend(word.as_str().map(str::to_owned));
    }
    match schema {
        Value::Object(map) => map.values().for_each(|inner| words(inner, found)),
        Value::Array(list) => list.iter().for_each(|inner| words(inner, found)),
        _ => {}
    }
}

/// What to put in the place of a value: things of every form; where words are listed, every word there is; where
/// numbers have bounds, the bounds and what lies beyond.
fn instead(rule: &Value, all_words: &BTreeSet<String>) -> Vec<Value> {
    let forms =
        ["zzz", "A_b", "443/tcp", "0/tcp", "1-2/udp", "2026-11-21", "2026-13-01", "https://a.example/", "26.1.3"];
    let mut pool: Vec<Value> = forms.map(Value::from).into();
    pool.extend([json!([]), json!({}), json!(["zzz"]), json!({"zzz": 1})]);
    if rule.get("enum").is_some() || rule.get("anyOf").is_some() {
        pool.extend(all_words.iter().map(|word| json!(word)));
    }
    for (bound, beyond) in [("minimum", -1), ("maximum", 1)] {
        pool.extend(rule[bound].as_i64().into_iter().flat_map(|bound| [json!(bound), json!(bound + beyond)]));
    }
    pool
}

#[test]
fn schema_and_program_are_of_one_mind() {
    let mut all_words = BTreeSet::new();
    KINDS.iter().for_each(|kind| words(&schema(kind.name), &mut all_words));
    assert!(all_words.len() > 40, "the words are gone: {all_words:?}");
    let (mut refused, mut offered) = (0, 0);
    for kind in KINDS {
        let (schema, content) = (schema(kind.name), yaml(&good(kind.name)));
        let schema_takes = |content: &Value| faults(&schema, content, "").is_empty();
        let read = |content: &Value| read_by_program(kind.name, &content.to_string());
        assert_eq!(read(&content), Ok(()), "{}", kind.name);
        let mut found = Vec::new();
        places(&content, "", &mut found);
        for place in &found {
            let (rule, at) = (of_place(&schema, place), format!("{}{place}", kind.name));
            // A value in place of another: what the schema refuses the program refuses, and what it offers is taken.
            for value in instead(rule, &all_words) {
                // To serde_json an empty list is a mapping without keys; that no lock is written so is seen later.
                if kind.name == "lock" && value == json!([]) {
                    continue;
                }
                let mut changed = content.clone();
                *changed.pointer_mut(place).unwrap() = value.clone();
                if !schema_takes(&changed) {
                    refused += 1;
                    let taken = taken_by_program(kind.name, &changed.to_string());
                    assert!(!taken, "{at}: the schema alone refuses {value}");
                } else if rule.get("enum").is_some() || rule.get("minimum").is_some() {
                    offered += 1;
                    assert_eq!(read(&changed), Ok(()), "{at}: the schema offers {value}");
                }
            }
            let Some(map) = content.pointer(place).unwrap().as_object() else { continue };
            // A key too few: both refuse, or both take it.
            for key in map.keys() {
                let mut changed = content.clone();
                changed.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(key);
                let read = read(&changed);
                assert_eq!(read.is_ok(), schema_takes(&changed), "{at}: without {key}: {read:?}");
            }
            // A key too many, where the keys are ours.
            if rule.get("properties").is_some() {
                let mut changed = content.clone();
                changed.pointer_mut(place).unwrap().as_object_mut().unwrap().insert("zzz".to_owned(), json!("zzz"));
                assert!(!schema_takes(&changed), "{at}: the schema takes any key");
                assert!(read(&changed).is_err(), "{at}: the program takes any key");
            }
        }
    }
    assert!(refused > 1000 && offered > 80, "{refused} values were refused, {offered} offered");
}

/// Keys of a schema that a value has nowhere.
fn unused(schema: &Value, value: &[&Value], at: &str, found: &mut Vec<String>) {
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let inner: Vec<&Value> = value.iter().filter_map(|value| value.get(key)).collect();
        if inner.is_empty() {
            found.push(format!("{at}.{key}"));
        }
        unused(property, &inner, &format!("{at}.{key}"), found);
    }
    if schema.get("items").is_some() {
        let inner: Vec<&Value> = value.iter().filter_map(|value| value.as_array()).flatten().collect();
        unused(&schema["items"], &inner, &format!("{at}[]"), found);
    }
}

#[test]
fn the_files_that_are_broken_on_purpose_have_every_key() {
    for kind in KINDS.iter().filter(|kind| !["profile", "lock"].contains(&kind.name)) {
        let mut found = Vec::new();
        unused(&schema(kind.name), &[&yaml(&good(kind.name))], "", &mut found);
        // Citations stand in many places; each of their keys stands in one at least.
        found.retain(|key| !key.contains("sources[].") && !key.contains("evidence[].") || key == ".sources[].note");
        assert_eq!(found, Vec::<String>::new(), "{}", kind.name);
    }
}

#[test]
fn patterns_say_what_the_parsers_say() {
    let schema = schema("profile");
    let entry = &schema["properties"]["extra"]["items"]["properties"];
    let id = |text: &str| faults(&entry["id"], &json!(text), "").is_empty();
    let long = "a".repeat(29);
    for text in
        ["a", "a-b", "a1-2b", "update-scale-2", &long[1..], "", "A", "a_b", "a--b", "-a", "a-", "1a", "a b", &long]
    {
        assert_eq!(id(text), Id::parse(text).is_ok(), "id {text:?}");
    }
    let port = |text: &str| faults(&entry["ports"]["items"], &json!(text), "").is_empty();
    for text in [
        "443/tcp",
        "1/udp",
        "8443-8450/tcp",
        "65535/udp",
        "443",
        "0/tcp",
        "08/tcp",
        "443/TCP",
        "443/sctp",
        "-1/tcp",
        "1-/tcp",
        "",
        "443 /tcp",
        "100000/tcp",
    ] {
        assert_eq!(port(text), Port::parse(text).is_ok(), "port {text:?}");
    }
    let day = |text: &str| faults(&self::schema("lock")["properties"]["day"], &json!(text), "").is_empty();
    for text in ["2026-11-21", "2026-1-1", "20261121", "2026-11-21 ", "today", ""] {
        assert_eq!(day(text), Day::parse(text).is_some(), "day {text:?}");
    }
}

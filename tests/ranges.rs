//! Vendors' lists of prefixes: the shapes they are published in, and their way through profile, lock and rules. Names
//! are asked of a name server on loopback; no list comes from the network.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path as FilePath;
use std::process::{Command, Output};

use ipnet::IpNet;
use outgate::day::Day;
use outgate::diagnostic::{Code, Findings};
use outgate::lock::Lock;
use outgate::lock::ranges::{ListEntry, Listed};
use outgate::policy::Action;
use outgate::port::Protocol;
use outgate::ranges::{Path, Place, Source, read};
use outgate::ruleset::{self, Verdict};
use outgate::source::Sources;
use outgate::text::Id;
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

mod support;
use support::model;
use support::nameserver::{Behaviour, Nameserver};

// Shapes, each written by hand after the vendor's documentation, with documentation addresses.

const AWS: &str = r#"{
  "syncToken": "1790000000",
  "createDate": "2026-11-20-10-11-12",
  "prefixes": [
    {"ip_prefix": "192.0.2.0/25", "region": "eu-central-1", "service": "S3", "network_border_group": "eu-central-1"},
    {"ip_prefix": "192.0.2.0/24", "region": "eu-central-1", "service": "AMAZON", "network_border_group": "eu-central-1"},
    {"ip_prefix": "198.51.100.0/24", "region": "us-east-1", "service": "S3", "network_border_group": "us-east-1"}
  ],
  "ipv6_prefixes": [
    {"ipv6_prefix": "2001:db8:a::/48", "region": "eu-central-1", "service": "S3", "network_border_group": "eu-central-1"},
    {"ipv6_prefix": "2001:db8:b::/48", "region": "eu-central-1", "service": "EC2", "network_border_group": "eu-central-1"}
  ]
}"#;

const GITHUB: &str = r#"{
  "verifiable_password_authentication": false,
  "ssh_key_fingerprints": {"SHA256_ECDSA": "p2QAMXNIC1TJYWeIOttrVc98/R1BUFWu3/LiyKgUfQM"},
  "hooks": ["192.0.2.0/26"],
  "web": ["192.0.2.0/26", "198.51.100.7/32", "2001:db8:c::/48"],
  "api": ["192.0.2.0/26", "198.51.100.8/32"],
  "git": ["192.0.2.0/26", "198.51.100.9/32", "2001:db8:c::/48"],
  "packages": ["203.0.113.0/25"],
  "domains": {"website": ["*.github.com", "github.com"]}
}"#;

const FASTLY: &str = r#"{"addresses": ["192.0.2.0/24", "203.0.113.0/24"], "ipv6_addresses": ["2001:db8:d::/32"]}"#;

const CLOUDFLARE: &str = r#"{
  "result": {"ipv4_cidrs": ["198.51.100.0/24"], "ipv6_cidrs": ["2001:db8:e::/48"], "etag": "38f79d050aa027e3be3865e495dcc9bc"},
  "success": true, "errors": [], "messages": []
}"#;

const CLOUDFLARE_TEXT: &str = "198.51.100.0/24\n203.0.113.128/25\n";

fn taken(text: &str, paths: &[&str]) -> Vec<String> {
    let paths: Vec<Path> = paths.iter().map(|path| Path::parse(path).unwrap()).collect();
    let nets: Result<BTreeSet<IpNet>, String> = read(text.as_bytes(), &paths);
    nets.unwrap_or_else(|why| panic!("{paths:?}: {why}")).iter().map(ToString::to_string).collect()
}

#[test]
fn every_vendors_shape_is_read() {
    let s3 = [
        "$.prefixes[?@.service=='S3' && @.region=='eu-central-1'].ip_prefix",
        "$.ipv6_prefixes[?@.service=='S3'].ipv6_prefix",
    ];
    assert_eq!(taken(AWS, &s3), ["192.0.2.0/25", "2001:db8:a::/48"]);
    assert_eq!(taken(AWS, &["$.prefixes[*].ip_prefix"]).len(), 3);
    assert_eq!(
        taken(GITHUB, &["$.git", "$.web"]),
        ["192.0.2.0/26", "198.51.100.7/32", "198.51.100.9/32", "2001:db8:c::/48"]
    );
    assert_eq!(taken(FASTLY.replace(":d::/32", ":d::/48").as_str(), &["$.addresses", "$.ipv6_addresses"]).len(), 3);
    assert_eq!(taken(CLOUDFLARE, &["$.result['ipv4_cidrs','ipv6_cidrs'][*]"]), ["198.51.100.0/24", "2001:db8:e::/48"]);
    assert_eq!(taken(CLOUDFLARE_TEXT, &[]), ["198.51.100.0/24", "203.0.113.128/25"]);
    // One that is wrong in one place is not read in the others.
    let paths = [Path::parse("$.addresses").unwrap(), Path::parse("$.ipv6_addresses").unwrap()];
    assert!(read(FASTLY.as_bytes(), &paths).unwrap_err().contains("host bits"), "2001:db8:d::/32");
}

// The way through the program.

const PROFILE: &str = r#"site: one
release: "25.10.2"
clients:
  nas: [192.0.2.10, "2001:db8:10::10"]
features: []
servers:
  ntp: [{host: 192.0.2.123}]
  dns: [{host: 192.0.2.53}]
leave-out: []
extra:
  - id: files
    purpose: Files of a vendor.
    origin: [nas]
    hosts: [files.example.com, "*.cdn.example.com"]
    ports: [443/tcp]
answers:
  allow: [documentation]
  keep-days: 3
  max-age: 10
ranges:
  vendor:
    for: [files.example.com, "*.cdn.example.com"]
    file: lists/vendor.json
    path: [$.v4, "$.v6"]
targets:
  nftables: {}
"#;

struct Site {
    folder: TempDir,
    server: Nameserver,
}

impl Site {
    fn new() -> Self {
        let addresses = |texts: &[&str]| Behaviour::Answer(texts.iter().map(|text| text.parse().unwrap()).collect());
        let server = Nameserver::start(&[
            ("files.example.com", addresses(&["198.51.100.7", "2001:db8:f::7"])),
            // Whatever the base system asks for.
            ("agent-events.netdata.cloud", addresses(&["203.0.113.1", "2001:db8:f1::1"])),
            ("usage.truenas.com", addresses(&["203.0.113.2", "2001:db8:f1::2"])),
        ]);
        let site = Self { folder: tempfile::tempdir().unwrap(), server };
        fs::create_dir(site.path("lists")).unwrap();
        site.profile("", "");
        site.list(r#"{"v4": ["198.51.100.0/28", "203.0.113.64/26"], "v6": ["2001:db8:f::/48"]}"#);
        site
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn profile(&self, from: &str, to: &str) {
        assert!(PROFILE.contains(from), "{from}");
        fs::write(self.path("outgate.yaml"), PROFILE.replacen(from, to, usize::from(!from.is_empty()))).unwrap();
    }

    fn list(&self, text: &str) {
        fs::write(self.path("lists/vendor.json"), text).unwrap();
    }

    fn run(&self, day: u64, args: &[&str]) -> Output {
        run(self.folder.path(), day, args)
    }

    fn resolve(&self, day: u64, more: &[&str]) -> Output {
        let server = self.server.addr.to_string();
        self.run(day, &[&["resolve", "--resolver", &server], more].concat())
    }

    fn lock(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path("outgate.lock")).unwrap()).unwrap()
    }

    fn prefixes(&self) -> Vec<(String, bool)> {
        let lock = self.lock();
        let prefixes = lock["ranges"]["vendor"]["prefixes"].as_object().unwrap();
        prefixes.iter().map(|(net, listed)| (net.clone(), listed.get("missing").is_some())).collect()
    }
}

/// Day 0 is 2026-11-21.
fn run(folder: &FilePath, day: u64, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outgate"))
        .args(args)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("SOURCE_DATE_EPOCH", (1_795_219_200 + day * 86_400).to_string())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn good(output: Output) -> String {
    let text = said(&output);
    assert_ne!(output.status.code(), Some(2), "{text}");
    text
}

fn bad(output: Output, what: &str) {
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(what), "{text:?} does not say {what:?}");
}

#[test]
fn a_list_is_pinned_and_opens_its_prefixes() {
    let site = Site::new();
    let text = good(site.resolve(0, &[]));
    assert!(!text.contains("W13"), "{text}");
    let lock = fs::read_to_string(site.path("outgate.lock")).unwrap();
    let section = r#"},
"ranges": {
"vendor": {
 "from": "lists/vendor.json",
 "path": ["$.v4", "$.v6"],
 "prefixes": {
  "198.51.100.0/28": {"seen": "2026-11-21"},
  "203.0.113.64/26": {"seen": "2026-11-21"},
  "2001:db8:f::/48": {"seen": "2026-11-21"}
 },
 "sum": ""#;
    assert!(lock.contains(section), "{lock}");
    // Nothing but resolve reads the list.
    fs::remove_file(site.path("lists/vendor.json")).unwrap();
    let text = good(site.run(0, &["generate"]));
    let opens =
        "list `vendor` opens 80 IPv4 addresses and 1 IPv6 prefix for files.example.com, *.cdn.example.com on 443/tcp";
    assert!(text.contains(opens), "{text}");
    assert!(!text.contains("*.cdn.example.com is a wildcard"), "{text}");
    let rules = fs::read_to_string(site.path("out/nftables/outgate.nft")).unwrap();
    for line in [
        "198.51.100.0/28,\n\t\t\t203.0.113.64/26\n",
        "\t\t\t2001:db8:f::/48\n",
        "of list vendor, lists/vendor.json, for ",
    ] {
        assert!(rules.contains(line), "{line}: {rules}");
    }
    good(site.run(0, &["generate", "--check"]));
}

#[test]
fn what_vanishes_is_kept_for_its_days() {
    let site = Site::new();
    good(site.resolve(0, &[]));
    site.list(r#"{"v4": ["198.51.100.0/28"], "v6": ["2001:db8:f::/48"]}"#);
    let dry = site.resolve(1, &["--dry-run"]);
    let out = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(out.contains("list vendor no longer has 203.0.113.64/26, which is kept"), "{out}");
    bad(site.resolve(1, &["--locked"]), "list vendor no longer has 203.0.113.64/26");
    good(site.resolve(1, &[]));
    let kept = [("198.51.100.0/28", false), ("2001:db8:f::/48", false), ("203.0.113.64/26", true)];
    let kept = kept.map(|(net, missing)| (net.to_owned(), missing));
    assert_eq!(site.prefixes(), kept);
    good(site.resolve(4, &[]));
    assert_eq!(site.prefixes(), kept, "three days are not over before the fourth");
    good(site.resolve(5, &[]));
    assert_eq!(site.prefixes().len(), 2);
    assert_eq!(site.lock()["ranges"]["vendor"]["prefixes"]["198.51.100.0/28"]["seen"], "2026-11-21");
    // It comes back: as new.
    site.list(r#"{"v4": ["198.51.100.0/28", "203.0.113.64/26"], "v6": ["2001:db8:f::/48"]}"#);
    good(site.resolve(6, &[]));
    assert_eq!(site.lock()["ranges"]["vendor"]["prefixes"]["203.0.113.64/26"]["seen"], "2026-11-27");
}

#[test]
fn a_list_that_cannot_be_read_keeps_what_was_known_until_it_is_too_old() {
    let site = Site::new();
    good(site.resolve(0, &[]));
    let before = site.prefixes();
    site.list(r#"{"v4": ["198.51.100.0/28"]}"#);
    let text = good(site.resolve(1, &[]));
    assert!(text.contains("warning[W130]: list `vendor` of lists/vendor.json: `$.v6` selects nothing"), "{text}");
    assert_eq!(site.prefixes(), before);
    assert_eq!(site.lock()["ranges"]["vendor"]["failed"], "2026-11-22");
    site.list(r#"{"v4": ["10.0.0.0/16"], "v6": ["2001:db8:f::/48"]}"#);
    let text = good(site.resolve(6, &[]));
    assert!(text.contains("10.0.0.0/16 holds private addresses"), "{text}");
    assert_eq!(site.lock()["ranges"]["vendor"]["failed"], "2026-11-22", "the first day it failed");
    assert!(!good(site.run(6, &["generate"])).contains("list `vendor` could"), "half of ten days are not over");
    let text = good(site.run(7, &["generate"]));
    assert!(text.contains("warning[W115]: list `vendor` could not be read since 2026-11-22, 6 days ago"), "{text}");
    good(site.resolve(12, &[]));
    bad(site.run(12, &["generate"]), "error[E032]: list `vendor` could not be read since 2026-11-22, 11 days ago");
    good(site.run(12, &["generate", "--allow-stale"]));
    // It can be read again.
    site.list(r#"{"v4": ["198.51.100.0/28"], "v6": ["2001:db8:f::/48"]}"#);
    good(site.resolve(12, &[]));
    assert!(site.lock()["ranges"]["vendor"].get("failed").is_none());
    good(site.run(12, &["generate"]));
}

#[test]
fn a_list_that_shrinks_or_has_one_family_is_said() {
    let site = Site::new();
    let many: Vec<String> = (0..10).map(|i| format!("\"198.51.100.{}/29\"", i * 8)).collect();
    site.list(&format!(r#"{{"v4": [{}], "v6": ["2001:db8:f::/48"]}}"#, many.join(",")));
    good(site.resolve(0, &[]));
    site.list(&format!(r#"{{"v4": [{}], "v6": ["2001:db8:f::/48"]}}"#, many[..5].join(",")));
    assert!(!good(site.resolve(1, &[])).contains("W131"), "five of eleven are no half");
    site.list(&format!(r#"{{"v4": [{}], "v6": ["2001:db8:f::/48"]}}"#, many[..2].join(",")));
    assert!(!good(site.resolve(2, &[])).contains("W131"), "three of six are half");
    site.list(r#"{"v4": ["203.0.113.0/24"], "v6": ["203.0.113.0/25"]}"#);
    let text = good(site.resolve(3, &[]));
    assert!(text.contains("warning[W131]: list `vendor` lost 3 of 3 prefixes at once"), "{text}");
    assert!(text.contains("warning[W132]: list `vendor` has no IPv6 prefix"), "{text}");
}

#[test]
fn an_answer_outside_the_list_is_said() {
    let site = Site::new();
    site.list(r#"{"v4": ["203.0.113.64/26"], "v6": ["2001:db8:f::/48"]}"#);
    let text = good(site.resolve(0, &[]));
    assert!(
        text.contains("warning[W133]: `files.example.com` is answered with 198.51.100.7, outside `vendor`"),
        "{text}"
    );
}

#[test]
fn a_lock_of_another_source_makes_no_rules() {
    let site = Site::new();
    good(site.resolve(0, &[]));
    for (from, to) in
        [("path: [$.v4, \"$.v6\"]", "path: $.v4"), ("file: lists/vendor.json", "file: lists/../lists/vendor.json")]
    {
        site.profile(from, to);
        bad(site.run(0, &["generate"]), "error[E033]: the lock has the list `vendor` from another source");
        bad(site.run(0, &["resolve", "--offline"]), "error[E033]");
    }
    // Another part is another list: what was known of the first is no evidence for it.
    site.profile("path: [$.v4, \"$.v6\"]", "path: $.v4");
    good(site.resolve(1, &[]));
    assert_eq!(site.prefixes().len(), 2);
    assert_eq!(site.lock()["ranges"]["vendor"]["prefixes"]["198.51.100.0/28"]["seen"], "2026-11-22");
    site.profile("  vendor:", "  other:");
    bad(site.run(1, &["generate"]), "error[E024]: the list `other` is not in the lock");
    bad(site.run(1, &["resolve", "--offline"]), "error[E024]: the lock lacks the list `other`");
    bad(site.run(1, &["status"]), "error[E024]: the lock lacks the list `other`");
    good(site.resolve(1, &[]));
    assert!(site.lock()["ranges"].get("vendor").is_none(), "a list nobody uses leaves");
}

#[test]
fn an_edited_list_is_no_evidence() {
    let site = Site::new();
    good(site.resolve(0, &[]));
    let text = fs::read_to_string(site.path("outgate.lock")).unwrap();
    for (from, to) in [
        ("203.0.113.64/26", "203.0.113.0/25"),
        ("203.0.113.64/26", "203.0.113.65/26"),
        ("lists/vendor.json", "lists/other.json"),
        ("\"$.v4\"", "\"$.v5\""),
        ("{\"seen\": \"2026-11-21\"},\n  \"203", "{\"seen\": \"2026-11-20\"},\n  \"203"),
        ("\"vendor\"", "\"vendors\""),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(site.path("outgate.lock"), text.replace(from, to)).unwrap();
        bad(site.run(0, &["generate"]), "error[E004]");
    }
}

#[test]
fn one_name_is_updated_without_the_lists() {
    let site = Site::new();
    good(site.resolve(0, &[]));
    site.list("nothing");
    good(site.resolve(1, &["--update", "files.example.com"]));
    let list = &site.lock()["ranges"]["vendor"];
    assert!(list.get("failed").is_none() && list.get("read").is_none(), "{list}");
}

#[test]
fn sites_that_share_a_lock_mean_the_same_list() {
    let site = Site::new();
    let server = site.server.addr.to_string();
    let two = PROFILE.replace("site: one", "site: two");
    fs::write(site.path("two.yaml"), &two).unwrap();
    good(site.run(0, &["resolve", "--resolver", &server, "outgate.yaml", "two.yaml"]));
    fs::write(site.path("two.yaml"), two.replace("path: [$.v4, \"$.v6\"]", "path: [$.v4]")).unwrap();
    bad(
        site.run(0, &["resolve", "outgate.yaml", "two.yaml"]),
        "the sites `one` and `two` mean different lists by `vendor`",
    );
    // The same words in another folder are another file.
    fs::create_dir(site.path("b")).unwrap();
    fs::write(site.path("b/outgate.yaml"), &two).unwrap();
    let args = ["resolve", "--lock", "outgate.lock", "outgate.yaml", "b/outgate.yaml"];
    bad(site.run(0, &args), "mean different lists by `vendor`");
    // A run for one site leaves the lists of the other.
    let other = two.replace("  vendor:", "  second:");
    fs::write(site.path("two.yaml"), other).unwrap();
    good(site.run(0, &["resolve", "--resolver", &server, "outgate.yaml", "two.yaml"]));
    good(site.run(1, &["resolve", "--resolver", &server]));
    let lock = site.lock();
    assert_eq!(lock["ranges"].as_object().unwrap().len(), 2);
    assert_eq!(lock["ranges"]["vendor"]["read"], "2026-11-22", "the lock is of the day before");
    assert!(lock["ranges"]["second"].get("read").is_none());
}

#[test]
fn a_pipe_or_a_folder_is_no_list() {
    let site = Site::new();
    fs::remove_file(site.path("lists/vendor.json")).unwrap();
    fs::create_dir(site.path("lists/vendor.json")).unwrap();
    bad(site.resolve(0, &[]), "lists/vendor.json is no file");
    fs::remove_dir(site.path("lists/vendor.json")).unwrap();
    assert!(Command::new("mkfifo").arg(site.path("lists/vendor.json")).status().unwrap().success());
    bad(site.resolve(0, &[]), "lists/vendor.json is no file");
    fs::remove_file(site.path("lists/vendor.json")).unwrap();
    bad(site.resolve(0, &[]), "cannot read lists/vendor.json: No such file");
}

// Targets.

#[test]
fn every_target_does_with_a_list_what_it_can() {
    let site = Site::new();
    good(site.resolve(0, &[]));
    let targets = "targets:\n  pf: {interface: em1}\n  squid: {}\n  opnsense: {version: \"26.1\", interface: lan, resolve: lock}\n  \
                   lists: {}\n  cilium: {namespace: a, endpoints: [b=c], origins: [nas]}\n";
    site.profile("targets:\n  nftables: {}\n", targets);
    let text = good(site.run(0, &["generate"]));
    assert!(!text.contains("W104") && !text.contains("N202: opnsense"), "{text}");
    let file = |name: &str| fs::read_to_string(site.path("out").join(name)).unwrap();
    let table = file("pf/tables/og_files.txt");
    assert!(table.ends_with("198.51.100.0/28\n203.0.113.64/26\n2001:db8:f::/48\n"), "{table}");
    assert!(!table.contains("198.51.100.7\n"), "what DNS answers lies within: {table}");
    let conf = file("pf/outgate.conf");
    let why = "with 80 IPv4 addresses and 1 IPv6 prefix of list vendor, lists/vendor.json, for files.example.com, *.cdn.example.com";
    assert!(conf.contains(&format!("\n#   {why}\npass in quick on em1 proto tcp")), "{conf}");
    let aliases: Value = serde_json::from_str(&file("opnsense/aliases.json")).unwrap();
    let aliases = aliases["aliases"]["alias"].as_object().unwrap();
    let alias = aliases.values().find(|alias| alias["name"] == "OG_files").unwrap();
    assert_eq!(alias["type"], "network");
    assert_eq!(alias["content"], "198.51.100.0/28\n203.0.113.64/26\n2001:db8:f::/48");
    assert!(alias["description"].as_str().unwrap().contains("list vendor lists/vendor.json"), "{alias}");
    assert!(file("opnsense/rules.csv").contains(" - list vendor\n"), "{}", file("opnsense/rules.csv"));
    for name in ["squid/outgate.conf", "squid/lists/allow_nas_tls.txt"] {
        assert!(!file(name).contains("203.0.113.64") && !file(name).contains("list vendor"), "{}", file(name));
    }

    let list = file("lists/allow_nas_tcp443_v4.txt");
    assert!(
        list.contains(&format!("\n#   {why}\n"))
            && list.contains("\n198.51.100.0/28\n")
            && list.contains("\n203.0.113.64/26\n"),
        "{list}"
    );
    assert!(text.contains("note[N202]: cilium: list vendor is left out"), "{text}");
    let pods = file("cilium/outgate.yaml");
    assert!(!pods.contains("203.0.113.64") && pods.contains("matchPattern: \"**.cdn.example.com\""), "{pods}");

    // By name OPNsense asks itself: no prefix, and the wildcard is a loss again.
    site.profile("targets:\n  nftables: {}\n", "targets:\n  opnsense: {version: \"24.7\", interface: lan}\n");
    let text = good(site.run(0, &["generate"]));
    assert!(text.contains("note[N202]: opnsense: list vendor is left out"), "{text}");
    assert!(
        text.contains("warning[W104]: opnsense: files: *.cdn.example.com is a wildcard, no alias holds it"),
        "{text}"
    );
    assert!(
        !file("opnsense/aliases.json").contains("203.0.113.64") && !file("opnsense/rules.json").contains("list vendor")
    );
}

#[test]
fn a_name_based_site_needs_no_list_in_its_lock() {
    let site = Site::new();
    site.profile("targets:\n  nftables: {}\n", "targets:\n  squid: {}\n");
    good(site.run(0, &["generate"]));
    let list = fs::read_to_string(site.path("out/squid/lists/allow_nas_tls.txt")).unwrap();
    assert!(list.contains(".cdn.example.com\n"), "{list}");
}

#[test]
fn a_longest_list_is_handled_in_time() {
    let site = Site::new();
    let v4: Vec<String> = (0..19_999).map(|i| format!("\"8.{}.{}.0/25\"", i >> 8, i & 255)).collect();
    site.list(&format!(r#"{{"v4": [{}], "v6": ["2606:4700::/32"]}}"#, v4.join(",")));
    let start = std::time::Instant::now();
    good(site.resolve(0, &[]));
    good(site.run(0, &["generate"]));
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    assert_eq!(site.prefixes().len(), 20_000);
    site.list(&format!(r#"{{"v4": [{}, "9.9.9.0/24"], "v6": ["2606:4700::/32"]}}"#, v4.join(",")));
    assert!(good(site.resolve(1, &[])).contains("it names more than 20000 prefixes"));
}

#[test]
fn a_denial_is_never_widened() {
    // Allowed by the site and denied by strict mode, for the same clients: the denial holds, by its own addresses.
    let profile = PROFILE
        .replace("features: []", "features: []\nstrict: [usage]")
        .replace("hosts: [files.example.com,", "hosts: [usage.truenas.com, files.example.com,")
        .replace("for: [files.example.com,", "for: [usage.truenas.com,");
    let policy = model::policy(&model::catalog(), &profile).unwrap();
    let day = Day::parse("2026-11-21").unwrap();
    let (list, range) = policy.ranges.first_key_value().unwrap();
    let net: IpNet = "198.51.100.0/28".parse().unwrap();
    let prefixes = BTreeMap::from([(net, Listed { first: day, missing: None })]);
    let entry = ListEntry { source: range.source.clone(), read: None, failed: None, prefixes };
    let ranges = BTreeMap::from([(list.clone(), entry)]);
    let lock = Lock { day, note: None, sites: BTreeSet::new(), hosts: BTreeMap::new(), ranges };
    let mut findings = Findings::default();
    let rules = ruleset::build(&policy, Some(&lock), &mut findings);
    assert!(!findings.has_errors(), "{findings:?}");
    assert!(findings.iter().any(|d| d.code == Code::TakenBack));
    for rule in rules.rules.iter().filter(|rule| rule.action == Action::Deny) {
        assert!(rule.lists().is_empty() && rule.addrs().is_empty(), "{}", rule.key);
    }
    let decide = |port| rules.decide("192.0.2.10".parse().unwrap(), net.addr(), Protocol::Tcp, port);
    // The wildcard of the same list is allowed, on its own port.
    assert!(matches!(decide(443), Verdict::Allow(rule) if rule.key.as_str() == "files"));
    assert!(matches!(decide(80), Verdict::DefaultDeny));
}

proptest! {
    /// What a lock says of lists it says again after it was written and read.
    #[test]
    fn a_lock_with_lists_reads_back(lists in prop::collection::btree_map("[a-z]{1,8}", list(), 0..4)) {
        let day = Day::parse("2026-11-21").unwrap();
        let ranges = lists.into_iter().map(|(name, entry)| (Id::parse(&name).unwrap(), entry)).collect();
        let lock = Lock { day, note: None, sites: BTreeSet::new(), hosts: BTreeMap::new(), ranges };
        let text = lock.print();
        let mut sources = Sources::default();
        let id = sources.add("outgate.lock", text.clone());
        let back = Lock::parse(&sources, id).map_err(|d| TestCaseError::fail(d.message))?;
        prop_assert_eq!(&back, &lock);
        // One character of it changed is seen, wherever it stands.
        let at = text.find("ranges").map_or(0, |at| at + 20);
        if let Some(digit) = text[at..].find(|c: char| c.is_ascii_digit()).map(|i| i + at) {
            let other = if &text[digit..=digit] == "1" { "2" } else { "1" };
            let id = sources.add("outgate.lock", format!("{}{other}{}", &text[..digit], &text[digit + 1..]));
            prop_assert!(Lock::parse(&sources, id).is_err());
        }
    }
}

fn list() -> impl Strategy<Value = ListEntry> {
    let day = |n: u8| Day::of_unix_seconds(1_790_000_000 + i64::from(n) * 86_400).unwrap();
    let net = (any::<u32>(), 8_u8..=32)
        .prop_map(|(bits, length)| IpNet::new(IpAddr::V4(bits.into()), length).unwrap().trunc());
    let listed = (any::<u8>(), prop::option::of(any::<u8>()))
        .prop_map(move |(first, missing)| Listed { first: day(first), missing: missing.map(day) });
    let prefixes = prop::collection::btree_map(net, listed, 1..6);
    let places = prop_oneof![Just("https://example.org/a"), Just("../lists/a.json")];
    (places, any::<bool>(), prop::option::of(any::<u8>()), prop::option::of(any::<u8>()), prefixes).prop_map(
        move |(from, path, read, failed, prefixes)| {
            let paths = if path { vec![Path::parse("$.a[?@.b=='c d'].e").unwrap()] } else { Vec::new() };
            let source = Source { from: Place::parse(from).unwrap(), paths };
            ListEntry { source, read: read.map(day), failed: failed.map(day), prefixes }
        },
    )
}

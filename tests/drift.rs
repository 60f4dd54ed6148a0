//! `outgate drift`: what is loaded against what should be. nftables for real, the others by dumps; each edit is named, and
//! nothing else is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use outgate::addrs::AddrSet;
use outgate::drift::{self, Kind, State};
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

mod support;
use support::enforcers::{NAMESPACES, require_all};
use support::namespace::{Namespace, said};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// An example with its profile changed and its files generated.
fn site(name: &str, changes: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut profile = fs::read_to_string(example(name).join("outgate.yaml")).unwrap();
    for (from, to) in changes {
        assert!(profile.contains(from), "the profile has no `{from}` to change");
        profile = profile.replace(from, to);
    }
    fs::write(folder.path().join("outgate.yaml"), &profile).unwrap();
    fs::copy(example(name).join("outgate.lock"), folder.path().join("outgate.lock")).unwrap();
    if example(name).join("ranges").is_dir() {
        fs::create_dir(folder.path().join("ranges")).unwrap();
        for entry in fs::read_dir(example(name).join("ranges")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join("ranges").join(entry.file_name())).unwrap();
        }
    }
    let output = outgate(&["generate"], folder.path());
    assert!(output.status.code().is_some_and(|code| code < 2), "{}", text(&output.stderr));
    folder
}

fn outgate(args: &[&str], folder: &Path) -> Output {
    command(Command::new(env!("CARGO_BIN_EXE_outgate")), args, folder)
}

fn command(mut command: Command, args: &[&str], folder: &Path) -> Output {
    command.args(args).current_dir(folder).env("NO_COLOR", "1").env("SOURCE_DATE_EPOCH", "1795219200");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Codes and messages of drift, sorted, and the exit code.
fn found(output: &Output) -> (Option<i32>, Vec<String>) {
    let mut found: Vec<String> = text(&output.stderr)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|finding| finding["code"].as_str().unwrap().starts_with("W3"))
        .map(|finding| format!("{} {}", finding["code"].as_str().unwrap(), finding["message"].as_str().unwrap()))
        .collect();
    found.sort();
    (output.status.code(), found)
}

/// A kernel of its own, with a table in it.
struct Kernel {
    namespace: Namespace,
    site: TempDir,
}

impl Kernel {
    fn new(site: TempDir) -> Self {
        let kernel = Self { namespace: Namespace::new(), site };
        let file = kernel.site.path().join("out/nftables/outgate.nft");
        said(kernel.namespace.command(60, "nft").arg("-f").arg(file).output()).unwrap();
        kernel
    }

    fn nft(&self, line: &str) -> String {
        said(self.namespace.command(60, "nft").args(line.split(' ')).output()).unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    fn drift(&self) -> (Option<i32>, Vec<String>) {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["-t", &self.namespace.pid().to_string(), "--net", env!("CARGO_BIN_EXE_outgate")]);
        found(&command(nsenter, &["drift", "nftables", "--format", "json"], self.site.path()))
    }

    /// The handle of the first rule of a chain that holds a text.
    fn handle(&self, chain: &str, holds: &str) -> String {
        let list = self.nft(&format!("-a list chain inet outgate {chain}"));
        let line = list.lines().find(|line| line.contains(holds)).unwrap_or_else(|| panic!("no {holds} in {list}"));
        line.rsplit_once("# handle ").unwrap().1.to_owned()
    }
}

fn ready() -> bool {
    require_all(&["ip", "nft", NAMESPACES])
}

const SAME: (Option<i32>, Vec<String>) = (Some(0), Vec::new());

fn named(findings: &[&str]) -> (Option<i32>, Vec<String>) {
    (Some(1), findings.iter().map(|&finding| finding.to_owned()).collect())
}

/// Everything the template can write.
const FULL: (&str, &str) = (
    "  nftables: {}",
    "  nftables:
    hook: both
    priority: 3
    interface: br0
    denied: drop
    clients:
      nas: {mac: [\"00:00:5e:00:53:01\"], interface: [br-apps, br-jails]}
    by-dns: [mail.example.org]",
);

#[test]
fn what_is_loaded_as_it_is_generated_is_the_same() {
    if !ready() {
        return;
    }
    for (name, changes) in [
        ("home-lab", vec![]),
        ("strict-home", vec![("  nftables: {}", "  nftables: {hook: output}")]),
        ("strict-home", vec![("  nftables: {}", "  nftables: {mode: audit}")]),
        (
            "strict-home",
            vec![("features: [updates, apps, mail]", "ipv6: deny-interface\nfeatures: [updates, apps, mail]"), FULL],
        ),
    ] {
        let kernel = Kernel::new(site(name, &changes));
        assert_eq!(kernel.drift(), SAME, "{name} {changes:?}");
        // A second load is no change, and a refill neither.
        let file = kernel.site.path().join("out/nftables/outgate.nft");
        kernel.nft(&format!("-f {}", file.display()));
        let sets = kernel.site.path().join("out/nftables/outgate-sets.nft");
        kernel.nft(&format!("-f {}", sets.display()));
        assert_eq!(kernel.drift(), SAME, "{name} {changes:?}");
    }
}

#[test]
fn each_edit_of_a_loaded_table_is_named() {
    if !ready() {
        return;
    }
    let kernel = Kernel::new(site("strict-home", &[]));
    let edit = |line: &str, back: &str, expected: &[&str]| {
        kernel.nft(line);
        assert_eq!(kernel.drift(), named(expected), "{line}");
        kernel.nft(back);
        assert_eq!(kernel.drift(), SAME, "after {back}");
    };
    edit(
        "add element inet outgate d_dns_h4 { 203.0.113.53 }",
        "delete element inet outgate d_dns_h4 { 203.0.113.53 }",
        &["W302 d_dns_h4 has 203.0.113.53, which should not be there"],
    );
    edit(
        "delete element inet outgate d_dns_h4 { 192.0.2.53 }",
        "add element inet outgate d_dns_h4 { 192.0.2.53 }",
        &["W301 d_dns_h4 lacks 192.0.2.53"],
    );
    // A set that no rule uses does nothing: it is said, and is no drift.
    kernel.nft("add set inet outgate mine { type ipv4_addr ; }");
    assert_eq!(kernel.drift(), SAME);
    kernel.nft("insert rule inet outgate allowed ip daddr @mine accept");
    let foreign = "W304 allowed: a rule is there and should not be: ip daddr @mine accept";
    assert_eq!(kernel.drift(), named(&[foreign, "W304 mine is there and should not be"]));
    kernel.nft(&format!("delete rule inet outgate allowed handle {}", kernel.handle("allowed", "@mine")));
    kernel.nft("delete set inet outgate mine");
    assert_eq!(kernel.drift(), SAME);

    // What lets out more: a foreign accept, anywhere.
    kernel.nft("insert rule inet outgate clients ip saddr 192.0.2.10 counter accept comment \"mine\"");
    assert_eq!(
        kernel.drift(),
        named(&["W304 clients: a rule of mine is there and should not be: ip saddr 192.0.2.10 accept"])
    );
    kernel.nft(&format!("delete rule inet outgate clients handle {}", kernel.handle("clients", "192.0.2.10 ")));

    // The allows asked before the denials.
    let handle = kernel.handle("clients", "ip saddr @c_limited_4 goto allowed");
    kernel.nft(&format!("delete rule inet outgate clients handle {handle}"));
    assert_eq!(kernel.drift(), named(&["W303 clients: a rule is not there: ip saddr @c_limited_4 goto allowed"]));
    kernel.nft("insert rule inet outgate clients ip saddr @c_limited_4 goto allowed");
    let (code, said) = kernel.drift();
    assert_eq!(code, Some(1));
    let order = |line: &String| {
        line.starts_with("W306 clients: ") && line.ends_with("@c_limited_4 goto allowed is asked before it")
    };
    assert!(said.iter().all(order) && said.iter().any(|line| line.contains("@d_usage_truenas_h4")), "{said:?}");
    reload(&kernel);

    // Ports, a verdict, a hook.
    let handle = kernel.handle("allowed", "comment \"ghcr\"");
    kernel.nft(&format!(
        "replace rule inet outgate allowed handle {handle} ip saddr @c_nas_4 ip daddr @d_ghcr_h4 tcp dport 1-65535 accept comment \"ghcr\""
    ));
    let own = "ip saddr @c_nas_4 ip daddr @d_ghcr_h4 tcp dport 443 accept";
    let wide = own.replace("443", "1-65535");
    assert_eq!(kernel.drift(), named(&[&format!("W305 allowed of ghcr should be {own}, and is {wide}")]));
    reload(&kernel);
    kernel.nft("flush chain inet outgate denied");
    assert_eq!(kernel.drift().1.len(), 3, "{:?}", kernel.drift());
    reload(&kernel);
    kernel.nft("add chain inet outgate forward { policy drop ; }");
    let own = "type filter hook forward priority -5 policy accept";
    let other = own.replace("policy accept", "policy drop");
    assert_eq!(kernel.drift(), named(&[&format!("W305 forward should be {own}, and is {other}")]));
    kernel.nft("add chain inet outgate forward { policy accept ; }");
    kernel.nft("add chain inet outgate mine { type filter hook output priority 0 ; policy drop ; }");
    assert_eq!(kernel.drift(), named(&["W304 mine is there and should not be"]));
    kernel.nft("delete chain inet outgate mine");
    kernel.nft("add counter inet outgate mine");
    assert_eq!(kernel.drift(), named(&["W304 counter mine is there and should not be"]));
    kernel.nft("delete counter inet outgate mine");
    kernel.nft("add table inet outgate { flags dormant ; }");
    let (code, said) = kernel.drift();
    assert!(code == Some(1) && said.len() == 1 && said[0].contains("dormant"), "{said:?}");
    kernel.nft("add table inet outgate");
    // Other tables are nobody's business here.
    kernel.nft("add table inet outgate_other");
    kernel.nft("delete table inet outgate");
    assert_eq!(kernel.drift(), named(&["W303 table inet outgate is not there"]));
}

fn reload(kernel: &Kernel) {
    let file = kernel.site.path().join("out/nftables/outgate.nft");
    kernel.nft(&format!("-f {}", file.display()));
    assert_eq!(kernel.drift(), SAME);
}

/// A state with one set.
fn state_of(addrs: AddrSet) -> State {
    let set = drift::Set { addrs, ..drift::Set::default() };
    State { sets: [("s".to_owned(), set)].into(), ..State::default() }
}

/// A dump with one set, as nft prints it.
fn dump_of(elements: &[String]) -> String {
    let element = |text: &String| match text.split_once('/') {
        Some((addr, length)) => serde_json::json!({"prefix": {"addr": addr, "len": length.parse::<u8>().unwrap()}}),
        None => Value::from(text.as_str()),
    };
    let elements: Vec<Value> = elements.iter().map(element).collect();
    let table = serde_json::json!({"table": {"family": "inet", "name": "outgate", "handle": 1}});
    let set = serde_json::json!({"family": "inet", "table": "outgate", "name": "s", "type": "", "elem": elements});
    serde_json::json!({"nftables": [table, {"set": set}]}).to_string()
}

fn prefixes() -> impl Strategy<Value = Vec<String>> {
    let prefix = (0_u32..64, 24_u32..=32).prop_map(|(host, length)| {
        let addr = std::net::Ipv4Addr::from((0xC000_0200 + host) & (u32::MAX << (32 - length)));
        if length == 32 { addr.to_string() } else { format!("{addr}/{length}") }
    });
    proptest::collection::vec(prefix, 0..6)
}

fn union(texts: &[String]) -> AddrSet {
    texts.iter().map(|text| drift::read_addrs(text).unwrap()).collect::<Vec<_>>().iter().collect()
}

proptest! {
    /// What is missing is what should be there and is not; what is extra the other way round; address by address.
    #[test]
    fn edits_of_sets_are_reported_exactly(own in prefixes(), other in prefixes()) {
        let loaded = drift::nftables::of_dump(&dump_of(&other), "outgate").unwrap().unwrap();
        let found = drift::compare(&state_of(union(&own)), &loaded);
        let of = |kind: Kind| {
            let mine = found.iter().filter(|found| found.kind == kind);
            union(&mine.flat_map(|found| found.expected.iter().chain(&found.loaded).cloned()).collect::<Vec<_>>())
        };
        let (missing, extra) = (of(Kind::ElementMissing), of(Kind::ElementExtra));
        let (own, other) = (union(&own), union(&other));
        for last in 0_u32..=255 {
            let addr = std::net::IpAddr::from(std::net::Ipv4Addr::from(0xC000_0200 + last));
            prop_assert_eq!(missing.contains(addr), own.contains(addr) && !other.contains(addr), "{}", addr);
            prop_assert_eq!(extra.contains(addr), other.contains(addr) && !own.contains(addr), "{}", addr);
        }
    }
}

#[test]
fn hostile_dumps_do_no_harm() {
    let site = site("strict-home", &[]);
    let deep = "[".repeat(100_000);
    let control = r#"{"nftables": [{"table": {"family": "inet", "name": "outgate"}}, {"set": {"family": "inet", "table": "outgate", "name": "\u001b[2J\u0007\n::error::x", "elem": ["\u001b]0;x\u0007"]}}, {"rule": {"family": "inet", "table": "outgate", "chain": "allowed", "comment": "\u001b[31m\nx", "expr": [{"\u001b": "\r\n"}]}}]}"#;
    let wrong = r#"{"nftables": [{"table": {"family": "inet", "name": "outgate"}}, {"rule": 7}, {"set": {"family": "inet", "table": "outgate", "elem": {"a": []}}}, {}]}"#;
    for (dump, code) in [
        ("", 2),
        ("{", 2),
        ("[]", 2),
        ("{\"nftables\": 1}", 2),
        (&deep, 2),
        (wrong, 2),
        ("{\"nftables\": []}", 1),
        (control, 1),
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_outgate"));
        let child = child.args(["drift", "nftables", "--from", "-"]).current_dir(site.path());
        let child = child.env("NO_COLOR", "1").env("SOURCE_DATE_EPOCH", "1795219200");
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(dump.as_bytes());
        let output = child.wait_with_output().unwrap();
        let all = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{}: {all}", dump.chars().take(60).collect::<String>());
        assert!(!all.contains(['\u{1b}', '\u{7}', '\r']) && !all.contains("\n::error"), "{all}");
    }
}

#[test]
fn hostile_folders_do_no_harm() {
    let site = site("home-lab", &[]);
    let control = "\u{1b}[2J\u{7}\r\n::error::x \u{202e}x\n".to_owned();
    // A line that stands for more rules than memory holds, and one that never ends.
    let many = format!("pass {} label \"\n", "{ a b c d e f g h }".repeat(500));
    let long = "x ".repeat(500_000);
    let text = format!("{control}acl {control}acl a src 192.0.2.1\nacl a dst 192.0.2.1\n{many}{long}");
    let files = ["rules.txt", "tables/og_dns.txt", "outgate.conf", "lists/allow_nas_tls.txt"];
    let dump = Dump::new(&files.map(|file| (file.to_owned(), text.clone())));
    for target in ["pf", "squid"] {
        let folder = dump.0.path().to_str().unwrap();
        for format in ["text", "github"] {
            let output = outgate(&["drift", target, "--from", folder, "--format", format], site.path());
            let all = text_of(&output);
            assert_eq!(output.status.code(), Some(1), "{target}");
            assert!(!all.contains(['\u{1b}', '\u{7}', '\r', '\u{202e}']) && !all.contains("\n::error::x"), "{all}");
            assert!(all.len() < 200_000, "{} bytes are said of it", all.len());
        }
    }
    assert_eq!(drift_of(site.path(), "opnsense", dump.0.path()).0, Some(2), "a folder without an export");
}

fn text_of(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

/// A site's drift against a folder, after an edit of one of its files.
fn drift_of(site: &Path, target: &str, folder: &Path) -> (Option<i32>, Vec<String>) {
    found(&outgate(&["drift", target, "--format", "json", "--from", folder.to_str().unwrap()], site))
}

/// A folder that can be edited, file by file.
struct Dump(TempDir);

impl Dump {
    fn new(files: &[(String, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    /// What is found with a text exchanged in one of the files, which is then as it was.
    fn with(&self, site: &Path, target: &str, file: &str, from: &str, to: &str) -> (Option<i32>, Vec<String>) {
        let path = self.0.path().join(file);
        let was = fs::read_to_string(&path).unwrap();
        assert!(was.contains(from), "{file} has no {from:?}");
        fs::write(&path, was.replacen(from, to, 1)).unwrap();
        let found = drift_of(site, target, self.0.path());
        fs::write(path, was).unwrap();
        found
    }
}

/// Every file below a folder.
fn below(folder: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            files.extend(below(&path).into_iter().map(|(inner, text)| (format!("{name}/{inner}"), text)));
        } else {
            files.push((name, fs::read_to_string(path).unwrap()));
        }
    }
    files
}

/// An anchor file as pfctl of FreeBSD prints its rules: one for each port, in its own words.
fn printed(conf: &str) -> String {
    let mut out = String::new();
    for line in conf.lines().filter(|line| line.starts_with("pass ") || line.starts_with("block ")) {
        let (head, items, tail) = match line.split_once("{ ") {
            Some((head, rest)) => {
                let (items, tail) = rest.split_once(" }").unwrap();
                (head, items.split(' ').collect(), tail)
            }
            None => (line, vec![""], ""),
        };
        // The lease has two lists of one.
        let tail = tail.replace("port { 67 }", "port = bootps");
        for item in items {
            let item = match item {
                "443" => "= https".to_owned(),
                "53" => "= domain".to_owned(),
                "68" => "= bootpc".to_owned(),
                number if number.parse::<u16>().is_ok() => format!("= {number}"),
                other => other.to_owned(),
            };
            let mut text = format!("{head}{item}{tail}").replace("proto icmp6", "proto ipv6-icmp").replace('>', ":3>");
            if text.starts_with("pass ") && !text.contains("keep state") {
                text = text.replace(" label", " keep state label");
            }
            out.push_str(&text);
            out.push('\n');
        }
    }
    out
}

/// Addresses as pfctl shows those of a table.
fn shown<'a>(addrs: impl Iterator<Item = &'a str>) -> String {
    addrs.map(|addr| format!("   {}\n", addr.trim())).collect()
}

/// The tables that stand in an anchor file, by name, as pfctl shows them.
fn own_tables(conf: &str) -> Vec<(String, String)> {
    let tables = conf.split("\ntable <").skip(1).filter_map(|text| text.split_once("> persist {\n"));
    let own = tables.filter(|(name, _)| !name.contains('>'));
    own.map(|(name, text)| (name.to_owned(), shown(text.lines().take_while(|line| *line != "}")))).collect()
}

#[test]
fn each_edit_of_a_pf_anchor_is_named() {
    for name in ["home-lab", "core-jails"] {
        let site = site(name, &[]);
        let files: Vec<(String, String)> = below(&site.path().join("out/pf"))
            .into_iter()
            .flat_map(|(path, text)| match path.as_str() {
                "outgate.conf" => {
                    let mut files = vec![("rules.txt".to_owned(), printed(&text))];
                    files
                        .extend(own_tables(&text).into_iter().map(|(name, held)| (format!("tables/{name}.txt"), held)));
                    files
                }
                "losses.json" => Vec::new(),
                _ => vec![(path, shown(text.lines().filter(|line| !line.starts_with('#'))))],
            })
            .collect();
        let dump = Dump::new(&files);
        assert_eq!(drift_of(site.path(), "pf", dump.0.path()), SAME, "{name}");
        if name == "core-jails" {
            continue;
        }
        let with = |file: &str, from: &str, to: &str| dump.with(site.path(), "pf", file, from, to);
        assert_eq!(
            with("tables/og_dns.txt", "192.0.2.53", "0.0.0.0/1"),
            named(&["W301 og_dns lacks 192.0.2.53", "W302 og_dns has 0.0.0.0/1, which should not be there"])
        );
        let all = fs::read_to_string(dump.0.path().join("rules.txt")).unwrap();
        let first = all.lines().find(|line| line.contains("outgate:ghcr")).unwrap();
        let (code, said) = with("rules.txt", &format!("{first}\n"), "");
        assert!(
            code == Some(1) && said.len() == 1 && said[0].starts_with("W303 rules: a rule of ghcr is not there"),
            "{said:?}"
        );
        let (code, said) = with("rules.txt", first, &first.replace("= https", "1:65535"));
        assert!(code == Some(1) && said.len() == 1 && said[0].starts_with("W305 rules of ghcr should be"), "{said:?}");
        let (code, said) = with("rules.txt", first, &format!("pass in quick on em1 all flags any\n{first}"));
        assert_eq!(
            (code, said),
            named(&["W304 rules: a rule is there and should not be: pass in quick on em1 all flags any"])
        );
        let denial = all.lines().find(|line| line.contains("outgate:usage-truenas")).unwrap();
        let moved = all.replace(&format!("{denial}\n"), "") + denial + "\n";
        let (code, said) = with("rules.txt", &all, &moved);
        assert!(
            code == Some(1)
                && said.len() == 1
                && said[0].starts_with("W306 rules: ")
                && said[0].contains("og_usage_truenas"),
            "{said:?}"
        );
        let (code, said) = with("rules.txt", first, &first.replace("quick ", ""));
        assert!(code == Some(1) && said.len() == 1 && said[0].starts_with("W305"), "{said:?}");
        fs::write(dump.0.path().join("tables/og_gone.txt"), "192.0.2.1\n").unwrap();
        assert_eq!(
            drift_of(site.path(), "pf", dump.0.path()),
            SAME,
            "a table that no rule uses is said, and is no drift"
        );
    }
}

#[test]
fn each_edit_of_an_installed_squid_is_named() {
    let site = site("home-lab", &[]);
    let dump = Dump::new(&below(&site.path().join("out/squid")));
    assert_eq!(drift_of(site.path(), "squid", dump.0.path()), SAME);
    let with = |file: &str, from: &str, to: &str| dump.with(site.path(), "squid", file, from, to);
    // Comments and spaces say nothing.
    assert_eq!(with("outgate.conf", "http_access deny all", "# mine\n  http_access   deny all "), SAME);
    let list = "lists/allow_nas_tls.txt";
    assert_eq!(
        with(list, "ghcr.io", "evil.example"),
        named(&[
            "W301 lists/allow_nas_tls lacks ghcr.io",
            "W302 lists/allow_nas_tls has evil.example, which should not be there"
        ])
    );
    assert_eq!(
        with("outgate.conf", "src 192.0.2.10/32", "src 203.0.113.0/24"),
        named(&[
            "W301 acl outgate_from_allow_nas lacks 192.0.2.10",
            "W302 acl outgate_from_allow_nas has 203.0.113.0/24, which should not be there"
        ])
    );
    let literal = "http_access deny outgate_literal\n";
    assert_eq!(
        with("outgate.conf", literal, ""),
        named(&["W303 http_access: a rule is not there: deny outgate_literal"])
    );
    assert_eq!(
        with("outgate.conf", literal, "http_access allow all\nhttp_access deny outgate_literal\n"),
        named(&["W304 http_access: a rule is there and should not be: allow all"])
    );
    let all = fs::read_to_string(dump.0.path().join("outgate.conf")).unwrap();
    let moved = all.replace("http_access deny all\n", "http_access deny all\n# later\n").replace(literal, "");
    let moved = moved.replace("# later\n", literal);
    let (code, said) = with("outgate.conf", &all, &moved);
    let late = |line: &String| line.starts_with("W306 http_access: deny ");
    assert!(code == Some(1) && !said.is_empty() && said.iter().all(late), "{said:?}");
    fs::remove_file(dump.0.path().join(list)).unwrap();
    assert_eq!(drift_of(site.path(), "squid", dump.0.path()), named(&["W303 lists/allow_nas_tls is not there"]));
}

#[test]
fn each_edit_of_an_opnsense_export_is_named() {
    let site = site("home-lab", &[]);
    let dump = Dump::new(&below(&site.path().join("out/opnsense")));
    assert_eq!(drift_of(site.path(), "opnsense", dump.0.path()), SAME);
    let with = |file: &str, from: &str, to: &str| dump.with(site.path(), "opnsense", file, from, to);
    // What the firewall has beside ours.
    let other = "\"alias\": {\n \"x\": {\"enabled\": \"1\", \"name\": \"bogons\", \"type\": \"external\", \"content\": \"\", \"current_items\": 7},";
    assert_eq!(with("aliases.json", "\"alias\": {", other), SAME);
    let rules = fs::read_to_string(dump.0.path().join("rules.csv")).unwrap();
    let foreign = |sequence: u32, action: &str| {
        let row = format!(
            "11111111-2222-3333-4444-555555555555;1;{sequence};{action};1;lan;in;inet;any;any;0;;any;0;;0;;Default allow LAN to any\n"
        );
        with("rules.csv", &rules, &(rules.clone() + &row))
    };
    assert_eq!(foreign(90_000, "pass"), SAME, "after ours it lets out nothing of our clients");
    assert_eq!(foreign(1, "block"), SAME);
    let (code, said) = foreign(1, "pass");
    assert!(code == Some(1) && said.len() == 1 && said[0].starts_with("W304 rules: a rule of 11111111-"), "{said:?}");
    // Ours.
    assert_eq!(
        with("aliases.json", "\"content\": \"192.0.2.10\\n", "\"content\": \"192.0.2.10\\n192.0.2.66\\n"),
        named(&["W302 OGC_limited has 192.0.2.66, which should not be there"])
    );
    assert_eq!(
        with("aliases.json", "\"content\": \"backup.example.org\"", "\"content\": \"other.example.org\""),
        named(&[
            "W301 OGH_site_backup lacks backup.example.org",
            "W302 OGH_site_backup has other.example.org, which should not be there"
        ])
    );
    let row = rules.lines().find(|line| line.contains("outgate ghcr:")).unwrap();
    let (code, said) = with("rules.csv", &format!("{row}\n"), "");
    assert!(
        code == Some(1) && said.len() == 1 && said[0].starts_with("W303 rules: a rule of ghcr is not there"),
        "{said:?}"
    );
    let (code, said) = with("rules.csv", row, &row.replacen(";443;", ";;", 1));
    assert!(code == Some(1) && said.len() == 1 && said[0].starts_with("W305 rules of ghcr should be"), "{said:?}");
    let denial = rules.lines().find(|line| line.contains("outgate usage-truenas:")).unwrap();
    let off = denial.replacen(";1;", ";0;", 1);
    let (code, said) = with("rules.csv", denial, &off);
    assert!(code == Some(1) && said.len() == 1 && said[0].contains("and is disabled"), "{said:?}");
    let late = denial.replacen(";1070;", ";1275;", 1);
    assert_ne!(late, denial);
    let (code, said) = with("rules.csv", denial, &late);
    assert!(
        code == Some(1) && said.iter().all(|line| line.starts_with("W306 rules: ") && line.contains("OG")),
        "{said:?}"
    );
    // The API's own answer, and a table of another separator.
    let comma = rules.replace(';', ",");
    assert!(!rules.contains(','), "no text of ours holds a comma");
    assert_eq!(with("rules.csv", &rules, &comma), SAME);
    fs::remove_file(dump.0.path().join("rules.csv")).unwrap();
    let head: Vec<&str> = rules.lines().next().unwrap().split(';').collect();
    let rows: Vec<Value> = rules
        .lines()
        .skip(1)
        .map(|line| {
            head.iter()
                .map(|name| name.trim_start_matches('@'))
                .zip(line.split(';'))
                .map(|(name, cell)| (name.to_owned(), Value::from(cell)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        })
        .collect();
    fs::write(dump.0.path().join("rules.json"), serde_json::json!({"rows": rows, "total": rows.len()}).to_string())
        .unwrap();
    assert_eq!(drift_of(site.path(), "opnsense", dump.0.path()), SAME);
    for wrong in ["", "[", "{\"rows\": 1}", "[7]", "{\"rows\": [{\"sequence\": \"x\"}]}"] {
        fs::write(dump.0.path().join("rules.json"), wrong).unwrap();
        assert_eq!(drift_of(site.path(), "opnsense", dump.0.path()).0, Some(2), "{wrong}");
    }
}

//! What runs the program every day: units, scripts and playbook of `contrib/`, as far as they can run here.
//!
//! The packet filters and the program are stood for by scripts that write down how they are called and fail when told;
//! the firewall by a server that does the same. nftables is also tried for real, in a namespace.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

mod support;
use support::enforcers::{NAMESPACES, find, require, require_all};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn contrib(name: &str) -> PathBuf {
    root().join("contrib").join(name)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

// The forms.

const SCRIPTS: [&str; 3] = ["outgate-refresh", "freebsd/450.outgate", "freebsd/outgate"];

#[test]
fn scripts_are_sound_shell() {
    for script in SCRIPTS {
        let path = contrib(script);
        assert!(fs::metadata(&path).unwrap().permissions().mode() & 0o111 != 0, "{script} cannot be run");
        for (shell, args) in [("dash", &["-n"][..]), ("bash", &["--posix", "-n"])] {
            if require(shell) {
                let output = Command::new(find(shell).unwrap()).args(args).arg(&path).output().unwrap();
                assert!(output.status.success() && said(&output).is_empty(), "{script}: {}", said(&output));
            }
        }
    }
    if !require("shellcheck") {
        return;
    }
    let check = |args: &[&str], path: &Path| {
        let output = Command::new(find("shellcheck").unwrap()).args(args).arg(path).output().unwrap();
        said(&output)
    };
    for script in SCRIPTS {
        assert_eq!(check(&["-s", "sh"], &contrib(script)), "", "{script}");
    }
    for entry in fs::read_dir(root().join("scripts")).unwrap() {
        let path = entry.unwrap().path();
        // What is Python's is run by a test of its own.
        if !fs::read_to_string(&path).unwrap().starts_with("#!/usr/bin/env python3\n") {
            assert_eq!(check(&[], &path), "", "{}", path.display());
        }
    }
}

#[test]
fn units_are_sound_and_hardened() {
    if !require("systemd-analyze") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let analyze = |args: &[&str]| {
        let output = Command::new(find("systemd-analyze").unwrap())
            .args(args)
            .current_dir(folder.path())
            .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()))
            .output()
            .unwrap();
        (output.status.success(), said(&output))
    };
    // The script has its place only once it is installed.
    let unit = fs::read_to_string(contrib("systemd/outgate-refresh.service")).unwrap();
    let write = |text: &str| {
        let here = text.replace("/usr/lib/outgate/outgate-refresh", contrib("outgate-refresh").to_str().unwrap());
        fs::write(folder.path().join("outgate-refresh.service"), here).unwrap();
    };
    write(&unit);
    fs::copy(contrib("systemd/outgate-refresh.timer"), folder.path().join("outgate-refresh.timer")).unwrap();
    let verify = || analyze(&["verify", "--man=no", "./outgate-refresh.service", "./outgate-refresh.timer"]);
    // What other units of this machine do wrong is not ours.
    let ours = |said: &str| said.lines().filter(|line| line.contains("outgate")).collect::<Vec<_>>().join("\n");
    let (good, said) = verify();
    assert!(good && ours(&said).is_empty(), "{said}");
    let security = || analyze(&["security", "--offline=true", "--threshold=25", "./outgate-refresh.service"]);
    let (good, said) = security();
    assert!(good, "{said}");
    write(&unit.replace("ProtectSystem=strict", "ProtectSistem=strict").replace("CapabilityBoundingSet=", "#"));
    assert!(!ours(&verify().1).is_empty(), "a key that is none is not seen");
    assert!(!security().0, "a unit with every power of root is taken");
}

// The refresh.

/// A machine: programs that only write down how they are called, a profile, the state of earlier runs.
struct Machine {
    folder: TempDir,
    /// What fails, as a pattern of the shell over a line of the log.
    fail: String,
    code: u8,
    /// With what the program ends otherwise.
    warned: u8,
    more: Vec<(&'static str, String)>,
}

const OUTGATE: &str = r#"#!/bin/sh
echo "outgate $*" >>"$LOG"
case "outgate $*" in $FAIL) exit "$FAIL_CODE" ;; esac
check=
while [ $# -gt 0 ]; do
    case $1 in --out) out=$2 ;; --lock) lock=$2 ;; --target) target=$2 ;; --check) check=1 ;; esac
    shift
done
if [ -n "$check" ] || [ -z "${out:-}" ]; then exit 0; fi
rm -rf "${out:?}/$target"
mkdir -p "$out"
cp -R "$NEW/$target" "$out/$target"
echo "$(cat "$lock" 2>/dev/null)+" >"$lock"
exit "$WARNED"
"#;

/// What it is given shows what it is: the sets alone, or all.
const NFT: &str = r#"#!/bin/sh
case $(cat) in *"Refills the sets"*) what=sets ;; *) what=rules ;; esac
echo "nft $* <$what" >>"$LOG"
case "nft $* <$what" in $FAIL) exit 1 ;; esac
"#;

/// Keeps the tables that it is given.
const PFCTL: &str = r#"#!/bin/sh
echo "pfctl $*" >>"$LOG"
case "pfctl $*" in $FAIL) exit 1 ;; esac
dry= table= file=
while [ $# -gt 0 ]; do
    case $1 in
    -n) dry=1 ;;
    -nf) dry=1 file=$2 ;;
    -t) table=$2 ;;
    -f) file=$2 ;;
    esac
    shift
done
[ -r "$file" ] || exit 1
[ -n "$table" ] || exit 0
[ -n "$dry" ] || cp "$file" "$KERNEL/$table"
"#;

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["bin", "etc", "kernel", "pf"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("etc/outgate.yaml"), "site: a\n").unwrap();
        fs::write(at("etc/outgate.lock"), "reviewed").unwrap();
        let machine = Self { folder, fail: "nothing".to_owned(), code: 2, warned: 0, more: Vec::new() };
        for (name, text) in [("outgate", OUTGATE), ("nft", NFT), ("pfctl", PFCTL)] {
            machine.program(name, text);
        }
        copy(&root().join("examples/home-lab/out"), &machine.at("new"));
        // The folder of the profile is not one of this machine's.
        let conf = machine.at("new/pf/outgate.conf");
        let text = fs::read_to_string(&conf).unwrap();
        fs::write(conf, text.replace("/usr/local/etc/outgate", machine.at("pf").to_str().unwrap())).unwrap();
        machine
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.at("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.at("bin").display()))
            .env("HOME", self.at("etc"))
            .env("LOG", self.at("log"))
            .env("NEW", self.at("new"))
            .env("KERNEL", self.at("kernel"))
            .env("FAIL", &self.fail)
            .env("FAIL_CODE", self.code.to_string())
            .env("WARNED", self.warned.to_string())
            .env("OUTGATE_CONFIG", self.at("etc/outgate.yaml"))
            .env("OUTGATE_STATE", self.at("state"))
            .envs(self.more.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs the refresh; how it ended, what it said, and how it called others.
    fn refresh(&self, args: &[&str]) -> (Option<i32>, String, Vec<String>) {
        let _ = fs::remove_file(self.at("log"));
        let output = self.command(&contrib("outgate-refresh")).args(args).output().unwrap();
        (output.status.code(), said(&output), self.log())
    }

    fn log(&self) -> Vec<String> {
        let here = self.folder.path().to_str().unwrap();
        let log = fs::read_to_string(self.at("log")).unwrap_or_default();
        log.lines().map(|line| line.replace(here, "")).collect()
    }

    /// Everything that must be as it was where a run failed.
    fn state(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        ["state", "kernel", "pf", "etc"].iter().flat_map(|name| tree(&self.at(name))).collect()
    }

    fn lock(&self) -> String {
        fs::read_to_string(self.at("state/outgate.lock")).unwrap().trim().to_owned()
    }

    /// Other answers than last time, of the same rules.
    fn other_answers(&self) {
        for name in ["nftables/outgate.nft", "nftables/outgate-sets.nft", "pf/outgate.conf", "pf/tables/og_ghcr.txt"] {
            let path = self.at("new").join(name);
            let text = fs::read_to_string(&path).unwrap();
            let new = text.replace("2026-11-21", "2026-11-22").replace("198.51.100.163", "198.51.100.16");
            assert_ne!(text, new, "{name}");
            fs::write(path, new).unwrap();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for (path, bytes) in tree(from) {
        let path = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Every file below a folder.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() { found.extend(tree(&path)) } else { _ = found.insert(path.clone(), fs::read(path).unwrap()) }
    }
    found
}

#[test]
fn nftables_is_refreshed_by_its_sets_alone() {
    let mut machine = Machine::new();
    let args = "-q -c /etc/outgate.yaml --target nftables --lock /state/next/outgate.lock --out /state/next/out";
    let asked = |options: &str| format!("outgate generate --resolve {options}{args}");
    let checked = format!("outgate generate --check {args}");
    // By hand, the first time.
    let (code, said, log) = machine.refresh(&["nftables", "rules"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert_eq!(log, [&asked(""), &checked, "nft -c -f - <rules", "nft -f - <rules"]);
    assert_eq!(machine.lock(), "reviewed+", "the first lock is the one beside the profile");
    // By the timer.
    machine.other_answers();
    machine.more.push(("OUTGATE_RESOLVE", "--resolver 192.0.2.53 --samples 5".to_owned()));
    let (code, said, log) = machine.refresh(&["nftables"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let by_hand = asked("--resolver 192.0.2.53 --samples 5 ");
    assert_eq!(log, [&by_hand, &checked, "nft -c -f - <rules", "nft -c -f - <sets", "nft -f - <sets"]);
    assert_eq!(machine.lock(), "reviewed++", "the next begins with the lock of the last");
    assert_eq!(fs::read_to_string(machine.at("etc/outgate.lock")).unwrap(), "reviewed");
    let kept = tree(&machine.at("state/out/nftables")).into_values().collect::<Vec<_>>();
    assert_eq!(kept, tree(&machine.at("new/nftables")).into_values().collect::<Vec<_>>(), "what is loaded at boot");
    // A warning is none of its business; a file that is no longer written goes.
    machine.warned = 1;
    fs::write(machine.at("state/out/nftables/old.nft"), "").unwrap();
    assert_eq!(machine.refresh(&["nftables"]).0, Some(0));
    assert!(!machine.at("state/out/nftables/old.nft").exists());
}

#[test]
fn nftables_on_another_machine_reads_by_standard_input() {
    let mut machine = Machine::new();
    machine.program("ssh", "#!/bin/sh\necho \"ssh $*\" >>\"$LOG\"\nshift\nexec \"$@\"\n");
    machine.more.push(("OUTGATE_NFT", "ssh root@192.0.2.1 nft".to_owned()));
    let (code, _, log) = machine.refresh(&["nftables"]);
    assert_eq!(code, Some(0));
    assert_eq!(log[6..], ["ssh root@192.0.2.1 nft -f -", "nft -f - <sets"]);
}

#[test]
fn nothing_is_replaced_where_anything_fails() {
    let steps: [(&str, &str, &str, &str); 12] = [
        ("nftables", "", "outgate generate --resolve*", "outgate generate failed (2)"),
        ("nftables", "", "outgate generate --check*", "not what profile and lock say"),
        ("nftables", "", "nft -c -f - <rules", "nft refuses outgate.nft"),
        ("nftables", "", "nft -c -f - <sets", "outgate-refresh nftables rules"),
        ("nftables", "", "nft -f - <sets", "did not load outgate-sets.nft"),
        ("nftables", "rules", "nft -f - <rules", "did not load outgate.nft"),
        ("pf", "", "outgate generate --resolve*", "outgate generate failed (2)"),
        ("pf", "", "outgate generate --check*", "not what profile and lock say"),
        ("pf", "", "pfctl -q -a outgate -nf *", "refuses outgate.conf"),
        ("pf", "", "pfctl -q -a outgate -n -t og_ghcr -T replace*", "refuses the table og_ghcr"),
        ("pf", "", "pfctl -q -a outgate -t og_quay -T replace*", "did not replace the table og_quay"),
        ("pf", "rules", "pfctl -q -a outgate -f *", "did not load outgate.conf"),
    ];
    for (target, what, fail, reason) in steps {
        let mut machine = Machine::new();
        assert_eq!(machine.refresh(&[target, "rules"]).0, Some(0));
        assert_eq!(machine.refresh(&[target]).0, Some(0));
        let before = machine.state();
        machine.other_answers();
        machine.fail = fail.to_owned();
        let args: Vec<&str> = [target, what].into_iter().filter(|word| !word.is_empty()).collect();
        let (code, said, log) = machine.refresh(&args);
        assert_eq!(code, Some(1), "{fail}: {said}");
        assert!(said.contains(reason) && said.contains("nothing was replaced"), "{fail}: {said}");
        assert_eq!(machine.state(), before, "{fail}");
        // The step that failed is the last but for what puts things back.
        if !fail.contains("-T replace") {
            let shown = log.last().unwrap();
            assert!(shown.starts_with(fail.trim_end_matches('*').trim_end_matches(" /")), "{fail}: {log:?}");
        }
        // And once it works again, all is well.
        machine.fail = "nothing".to_owned();
        assert_eq!(machine.refresh(&args).0, Some(0), "{fail}");
        assert_ne!(machine.state(), before, "{fail}");
    }
}

#[test]
fn pf_is_refreshed_table_by_table() {
    let machine = Machine::new();
    let (code, said, log) = machine.refresh(&["pf", "rules"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let calls: Vec<&str> = log.iter().filter(|line| line.starts_with("pfctl")).map(String::as_str).collect();
    assert_eq!(calls, ["pfctl -q -a outgate -nf /state/next/check.conf", "pfctl -q -a outgate -f /pf/outgate.conf"]);
    assert!(machine.at("pf/tables/og_ghcr.txt").exists());
    machine.other_answers();
    let (code, said, log) = machine.refresh(&["pf"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let tables: Vec<String> = tree(&machine.at("new/pf/tables"))
        .into_keys()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(tables.len() > 15 && !tables.iter().any(|table| table == "og_dns"), "{tables:?}");
    let mut expected = vec!["pfctl -q -a outgate -nf /state/next/check.conf".to_owned()];
    for dry in ["-n ", ""] {
        let line =
            |table| format!("pfctl -q -a outgate {dry}-t {table} -T replace -f /state/next/out/pf/tables/{table}.txt");
        expected.extend(tables.iter().map(line));
    }
    assert_eq!(log[2..], expected);
    // pf, the folder pf reads at boot and the state say the same.
    for table in &tables {
        let text = fs::read_to_string(machine.at(&format!("new/pf/tables/{table}.txt"))).unwrap();
        for place in [format!("kernel/{table}"), format!("pf/tables/{table}.txt")] {
            assert_eq!(fs::read_to_string(machine.at(&place)).unwrap(), text, "{place}");
        }
    }
    let boot = fs::read_to_string(machine.at("pf/outgate.conf")).unwrap();
    assert_eq!(boot, fs::read_to_string(machine.at("new/pf/outgate.conf")).unwrap());
    // Other rules are not for a timer.
    fs::write(machine.at("new/pf/outgate.conf"), boot.replace("block return", "block drop")).unwrap();
    let before = machine.state();
    let (code, said, _) = machine.refresh(&["pf"]);
    assert!(code == Some(1) && said.contains("outgate-refresh pf rules"), "{said}");
    assert_eq!(machine.state(), before);
    assert_eq!(machine.refresh(&["pf", "rules"]).0, Some(0));
}

#[test]
fn one_run_at_a_time() {
    let machine = Machine::new();
    fs::create_dir(machine.at("state")).unwrap();
    let busy = machine.at("state/busy");
    std::os::unix::fs::symlink(std::process::id().to_string(), &busy).unwrap();
    let (code, said, log) = machine.refresh(&["nftables"]);
    assert!(code == Some(1) && said.contains("another run is at work") && log.is_empty(), "{said} {log:?}");
    assert!(fs::symlink_metadata(&busy).is_ok(), "it is the other's");
    // One that was killed is in nobody's way.
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    fs::remove_file(&busy).unwrap();
    std::os::unix::fs::symlink(gone.id().to_string(), &busy).unwrap();
    assert_eq!(machine.refresh(&["nftables"]).0, Some(0));
    assert!(fs::symlink_metadata(&busy).is_err());
    assert_eq!(machine.refresh(&["ipfw"]).0, Some(2));
}

#[test]
fn freebsd_calls_the_refresh() {
    let machine = Machine::new();
    machine.program(
        "refresh",
        "#!/bin/sh\necho \"refresh $* $OUTGATE_CONFIG $OUTGATE_RESOLVE\" >>\"$LOG\"\nexit $WARNED\n",
    );
    let refresh = machine.at("bin/refresh");
    // rc.subr as far as the file uses it.
    fs::write(
        machine.at("rc.subr"),
        "load_rc_config() { :; }\nrun_rc_command() { [ -r \"$required_files\" ] || exit 9; eval \"\\$${1}_cmd\"; }\n",
    )
    .unwrap();
    let text = fs::read_to_string(contrib("freebsd/outgate")).unwrap();
    let script = text.replace("/etc/rc.subr", machine.at("rc.subr").to_str().unwrap());
    machine.program("rc", &script);
    let config = machine.at("etc/outgate.yaml");
    let rc = |verb: &str| {
        let _ = fs::remove_file(machine.at("log"));
        let output = machine
            .command(&machine.at("bin/rc"))
            .arg(verb)
            .env("outgate_program", &refresh)
            .env("outgate_config", &config)
            .env("outgate_resolve", "--samples 2")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        machine.log()
    };
    assert_eq!(rc("start"), ["refresh pf /etc/outgate.yaml --samples 2"]);
    assert_eq!(rc("refresh"), ["refresh pf /etc/outgate.yaml --samples 2"]);
    assert_eq!(rc("rules"), ["refresh pf rules /etc/outgate.yaml --samples 2"]);
    assert_eq!(rc("status")[0], "outgate status -c /etc/outgate.yaml --lock /var/db/outgate/outgate.lock");
    let periodic = |enable: &str, warned: &str| {
        let _ = fs::remove_file(machine.at("log"));
        let output = machine
            .command(&contrib("freebsd/450.outgate"))
            .env("daily_outgate_enable", enable)
            .env("daily_outgate_program", &refresh)
            .env("WARNED", warned)
            .output()
            .unwrap();
        (output.status.code(), machine.log())
    };
    let called = vec!["refresh pf /usr/local/etc/outgate/outgate.yaml --samples 10 --spacing 60".to_owned()];
    assert_eq!(periodic("NO", "0"), (Some(0), vec![]));
    assert_eq!(periodic("YES", "0"), (Some(0), called.clone()));
    assert_eq!(periodic("YES", "1"), (Some(3), called));
    // The line of cron names what is there.
    let crontab = fs::read_to_string(contrib("openbsd/crontab")).unwrap();
    let line = crontab.lines().last().unwrap();
    assert!(line.starts_with("~\t*\t*\t*\t*\t-ns ") && line.ends_with("/outgate-refresh pf"), "{line}");
}

#[test]
fn real_nftables_is_refreshed() {
    if !require_all(&[NAMESPACES, "nft"]) {
        return;
    }
    let mut machine = Machine::new();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_outgate"), machine.at("bin/real")).unwrap();
    fs::remove_file(machine.at("bin/nft")).unwrap();
    fs::rename(machine.at("bin/real"), machine.at("bin/outgate")).unwrap();
    // A catalog of a product that contacts nothing by itself: nobody is asked.
    let catalog = [
        (
            "releases.yaml",
            "product: Acme\nfamilies: [{id: box, title: The box}]\nlines:\n  - {line: \"1.0\", family: box, first: {release: \"1.0.0\", date: \"2020-01-01\"}, last: {release: \"1.0.5\", date: \"2021-01-01\"}}\n",
        ),
        ("sources.yaml", "sources: [{id: page, title: The page, url: https://docs.example/}]\n"),
        ("features.yaml", "features: [{id: updates, title: Updates, about: Updates of the box.}]\n"),
        (
            "callouts/all.yaml",
            "callouts:\n  - {id: up, title: Up, purpose: Asks., class: function, origin: [nas], feature: updates, hosts: [a.example.org], ports: [443/tcp], releases: [{family: box}], blocked: {level: feature, effect: none}, strict: allow, sources: [{source: page}]}\n",
        ),
    ];
    for (name, text) in catalog {
        let path = machine.at("catalog").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    machine.more.push(("OUTGATE_OPTIONS", format!("--catalog {}", machine.at("catalog").display())));
    let profile = |address: &str, port: u16| {
        let text = format!(
            "site: a\nrelease: \"1.0\"\nclients: {{nas: [192.0.2.10]}}\nipv6: deny-interface\nfeatures: []\n\
             answers: {{allow: [documentation]}}\nextra:\n  - {{id: own, purpose: p, origin: [nas], hosts: [{address}], \
             ports: [{port}/tcp]}}\ntargets: {{nftables: {{interface: lan0}}}}\n"
        );
        fs::write(machine.at("etc/outgate.yaml"), text).unwrap();
    };
    fs::remove_file(machine.at("etc/outgate.lock")).unwrap();
    // One namespace for all of it; each step has its profile.
    let steps = [
        ("one", "192.0.2.53", 443),
        ("two", "192.0.2.54", 443),
        ("bad", "no address", 443),
        ("other", "192.0.2.53", 80),
    ];
    for (name, address, port) in steps {
        profile(address, port);
        fs::rename(machine.at("etc/outgate.yaml"), machine.at(&format!("etc/{name}"))).unwrap();
    }
    let script = format!(
        "set -e\nrefresh={}\ncd '{}'\nuse() {{ cp \"etc/$1\" etc/outgate.yaml; }}\n\
         show() {{ nft list table inet outgate 2>&1 | grep -c \"$1\" || true; }}\n\
         use one; $refresh nftables && exit 8; echo first; show 192.0.2.53\n\
         $refresh nftables rules; echo loaded; show 192.0.2.53\n\
         nft add counter inet outgate others\n\
         use two; $refresh nftables; echo refreshed; show 192.0.2.53; show 192.0.2.54; show others\n\
         use bad; $refresh nftables && exit 7; echo refused; show 192.0.2.54\n\
         use other; $refresh nftables && exit 6; echo other rules; show 192.0.2.54\n",
        contrib("outgate-refresh").display(),
        machine.folder.path().display(),
    );
    let output = machine
        .command(Path::new("unshare"))
        .args(["--net", "sh", "-c", &script])
        .env("SOURCE_DATE_EPOCH", "1795219200")
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", said(&output));
    let lines: Vec<&str> = out.lines().collect();
    let expected = [
        // Without rules there is nothing to refresh.
        "first",
        "0",
        "loaded",
        "1",
        // What others put into the table is still there: it was the sets alone.
        "refreshed",
        "0",
        "1",
        "1",
        "refused",
        "1",
        "other rules",
        "1",
    ];
    assert_eq!(lines, expected, "{}", said(&output));
}

// OPNsense.

/// A firewall that writes down what it is asked.
struct Firewall {
    folder: TempDir,
    server: Child,
    port: String,
}

impl Drop for Firewall {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Firewall {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        fs::create_dir(folder.path().join("answers")).unwrap();
        let server = Command::new(find("python3").unwrap())
            .arg(root().join("tests/contrib/firewall.py"))
            .arg(folder.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut firewall = Self { folder, server, port: String::new() };
        let start = Instant::now();
        while firewall.port.is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20), "the firewall does not start");
            std::thread::sleep(Duration::from_millis(20));
            firewall.port = fs::read_to_string(firewall.folder.path().join("port")).unwrap_or_default();
        }
        firewall
    }

    fn ca(&self) -> String {
        self.folder.path().join("cert.pem").display().to_string()
    }

    /// How a path is answered from now on.
    fn answers(&self, path: &str, answer: &str) {
        fs::write(self.folder.path().join("answers").join(path.replace('/', "-")), answer).unwrap();
    }

    /// What it was asked since the last look: method, path and body.
    fn asked(&self) -> Vec<(String, String, Value)> {
        let path = self.folder.path().join("requests");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        let requests = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        requests
            .map(|request| {
                // key:secret
                assert_eq!(request["authorization"], "Basic a2V5OnNlY3JldA==", "{request}");
                let body = request["body"].as_str().unwrap();
                if !body.is_empty() {
                    assert_eq!(request["type"], "application/json", "{request}");
                }
                let text = |key: &str| request[key].as_str().unwrap().to_owned();
                (text("method"), text("path"), serde_json::from_str(body).unwrap_or(Value::Null))
            })
            .collect()
    }
}

const BACKUPS: (&str, &str) = ("GET", "/api/core/backup/backups/this");
const IMPORT: (&str, &str) = ("POST", "/api/firewall/alias/import");
const RECONFIGURE: (&str, &str) = ("POST", "/api/firewall/alias/reconfigure");

fn calls(asked: &[(String, String, Value)]) -> Vec<(&str, &str)> {
    asked.iter().map(|(method, path, _)| (method.as_str(), path.as_str())).collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A machine with a firewall, and aliases that were brought there by hand.
fn with_firewall(firewall: &Firewall) -> Machine {
    let mut machine = Machine::new();
    let key = machine.at("etc/opnsense.key");
    fs::write(&key, "key=key\nsecret=secret\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    machine.more.extend([
        ("OUTGATE_OPNSENSE", format!("https://127.0.0.1:{}", firewall.port)),
        ("OUTGATE_OPNSENSE_KEY", key.display().to_string()),
        ("OUTGATE_OPNSENSE_CA", firewall.ca()),
    ]);
    // What is started gets no secret on its command line.
    for name in ["curl", "jq"] {
        let real = find(name).unwrap();
        machine.program(name, &format!("#!/bin/sh\necho \"{name} $*\" >>\"$LOG\"\nexec {} \"$@\"\n", real.display()));
    }
    let (code, said, _) = machine.refresh(&["opnsense", "rules"]);
    assert!(code == Some(0) && said.contains("/state/out/opnsense/apply.md"), "{said}");
    assert_eq!(firewall.asked(), []);
    machine
}

fn other_aliases(machine: &Machine, old: &str, new: &str) {
    let path = machine.at("new/opnsense/aliases.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(old), "{old}");
    fs::write(path, text.replace(old, new)).unwrap();
}

#[test]
fn opnsense_gets_its_aliases_as_its_api_wants_them() {
    if !require_all(&["python3", "curl", "jq"]) {
        return;
    }
    let firewall = Firewall::new();
    let machine = with_firewall(&firewall);
    // The day alone is no news.
    other_aliases(&machine, "2026-11-21", "2026-11-22");
    let (code, said, _) = machine.refresh(&["opnsense"]);
    assert_eq!((code, said.as_str(), firewall.asked()), (Some(0), "", vec![]));
    other_aliases(&machine, "203.0.113.192/28", "203.0.113.176/28");
    let (code, said, log) = machine.refresh(&["opnsense"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("config-1795219200.1234.xml"), "{said}");
    let asked = firewall.asked();
    assert_eq!(calls(&asked), [BACKUPS, IMPORT, RECONFIGURE]);
    let aliases = json(&machine.at("new/opnsense/aliases.json"));
    assert_eq!(asked[1].2, serde_json::json!({ "data": aliases }));
    assert_eq!((&asked[0].2, &asked[2].2), (&Value::Null, &Value::Null));
    assert_eq!(json(&machine.at("state/out/opnsense/aliases.json")), aliases);
    let curl: Vec<&String> = log.iter().filter(|line| line.starts_with("curl")).collect();
    assert_eq!(curl.len(), 3);
    assert!(!log.iter().any(|line| line.contains("secret")), "{log:?}");
}

/// A path, how it is answered, what is said then, and every call that is made.
type Step<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)]);

#[test]
fn opnsense_keeps_what_it_has_where_anything_fails() {
    if !require_all(&["python3", "curl", "jq"]) {
        return;
    }
    let firewall = Firewall::new();
    let steps: [Step<'_>; 5] = [
        ("api/core/backup/backups/this", "{\"items\": []}", "names no way back", &[BACKUPS]),
        ("api/core/backup/backups/this", "{\"http\": 403}", "does not answer", &[BACKUPS]),
        (
            "api/firewall/alias/import",
            "{\"status\": \"failed\", \"validations\": {\"a.content\": \"Entry is not a network.\"}}",
            "refuses the aliases",
            &[BACKUPS, IMPORT],
        ),
        ("api/firewall/alias/import", "{\"http\": 500}", "refuses the aliases", &[BACKUPS, IMPORT]),
        (
            "api/firewall/alias/reconfigure",
            "{\"status\": \"failed\"}",
            "did not put the aliases in force",
            // What was there goes back in.
            &[BACKUPS, IMPORT, RECONFIGURE, IMPORT, RECONFIGURE],
        ),
    ];
    for (path, answer, reason, expected) in steps {
        let _ = fs::remove_dir_all(firewall.folder.path().join("answers"));
        fs::create_dir(firewall.folder.path().join("answers")).unwrap();
        let machine = with_firewall(&firewall);
        let before = machine.state();
        other_aliases(&machine, "203.0.113.192/28", "203.0.113.176/28");
        firewall.answers(path, answer);
        let (code, said, _) = machine.refresh(&["opnsense"]);
        assert!(code == Some(1) && said.contains(reason), "{answer}: {said}");
        assert_eq!(machine.state(), before, "{answer}");
        let asked = firewall.asked();
        assert_eq!(calls(&asked), expected, "{answer}");
        if let Some((.., body)) = asked.get(3) {
            let old = json(&machine.at("state/out/opnsense/aliases.json"));
            assert_eq!(body, &serde_json::json!({ "data": old }));
        }
    }
    let machine = with_firewall(&firewall);
    let key = machine.at("etc/opnsense.key");
    other_aliases(&machine, "203.0.113.192/28", "203.0.113.176/28");
    for mode in [0o640, 0o604] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let (code, said, _) = machine.refresh(&["opnsense"]);
        assert!(code == Some(1) && said.contains("can be read by others: chmod 600"), "{said}");
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    // An authority that the machine does not trust.
    let mut stranger = with_firewall(&firewall);
    stranger.more.retain(|(name, _)| *name != "OUTGATE_OPNSENSE_CA");
    other_aliases(&stranger, "203.0.113.192/28", "203.0.113.176/28");
    let (code, said, _) = stranger.refresh(&["opnsense"]);
    assert!(code == Some(1) && said.contains("certificate"), "{said}");
    // Other rules are not for a timer.
    let rules = machine.at("new/opnsense/rules.csv");
    let text = fs::read_to_string(&rules).unwrap();
    fs::write(&rules, text.replace("1-65535", "443")).unwrap();
    let (code, said, _) = machine.refresh(&["opnsense"]);
    assert!(code == Some(1) && said.contains("outgate-refresh opnsense rules"), "{said}");
    assert_eq!(firewall.asked(), []);
}

#[test]
fn the_playbook_makes_the_same_calls() {
    if !require_all(&["ansible-playbook", "python3"]) {
        return;
    }
    let firewall = Firewall::new();
    let machine = Machine::new();
    let collection = machine.at("collections/ansible_collections/oxlorg/opnsense");
    fs::create_dir_all(collection.join("plugins/modules")).unwrap();
    fs::write(collection.join("galaxy.yml"), "namespace: oxlorg\nname: opnsense\nversion: 1.0.0\n").unwrap();
    fs::copy(root().join("tests/contrib/raw.py"), collection.join("plugins/modules/raw.py")).unwrap();
    let key = machine.at("etc/opnsense.key");
    fs::write(&key, "key=key\nsecret=secret\n").unwrap();
    copy(&machine.at("new"), &machine.at("etc/out"));
    let play = |mode: u32, fail: &str| {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let output = machine
            .command(&find("ansible-playbook").unwrap())
            .arg(contrib("opnsense/refresh.yml"))
            .args(["-i", "localhost,", "-e", "outgate_firewall=127.0.0.1", "-e"])
            .arg(format!("outgate_port={} outgate_ca_file={}", firewall.port, firewall.ca()))
            .args(["-e", &format!("outgate_site={} outgate_key_file={}", machine.at("etc").display(), key.display())])
            .args(["-e", &format!("ansible_python_interpreter={}", find("python3").unwrap().display())])
            .env("ANSIBLE_COLLECTIONS_PATH", machine.at("collections"))
            .env("ANSIBLE_LOCALHOST_WARNING", "false")
            .env("ANSIBLE_NOCOLOR", "1")
            .env("LC_ALL", "C.UTF-8")
            .env("FAIL", fail)
            .output()
            .unwrap();
        (output.status.success(), said(&output))
    };
    let (good, said) = play(0o600, "nothing");
    assert!(good, "{said}");
    let asked = firewall.asked();
    assert_eq!(calls(&asked), [BACKUPS, IMPORT, RECONFIGURE], "{said}");
    assert_eq!(asked[1].2, serde_json::json!({ "data": json(&machine.at("new/opnsense/aliases.json")) }));
    assert_eq!(machine.log(), ["outgate generate --check -q --target opnsense"]);
    assert!(said.contains("config-1795219200.1234.xml") && !said.contains("secret=secret"), "{said}");
    // Nothing is sent where the key lies open, or the files are not what profile and lock say.
    for (mode, fail) in [(0o644, "nothing"), (0o600, "outgate generate --check*")] {
        let (good, said) = play(mode, fail);
        assert!(!good, "{said}");
        assert_eq!(firewall.asked(), [], "{said}");
    }
    firewall.answers("api/firewall/alias/import", "{\"status\": \"failed\"}");
    let (good, said) = play(0o600, "nothing");
    assert!(!good, "{said}");
    assert_eq!(calls(&firewall.asked()), [BACKUPS, IMPORT]);
    firewall.answers("api/firewall/alias/import", "{\"status\": \"ok\"}");
    firewall.answers("api/firewall/alias/reconfigure", "{\"status\": \"failed\"}");
    let (good, said) = play(0o600, "nothing");
    assert!(!good && said.contains("stored and not in force"), "{said}");
}

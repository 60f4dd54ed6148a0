//! `outgate apply`: what is loaded works or is taken back, whoever dies meanwhile. nftables and Squid for real, in
//! namespaces; pf by a stub that keeps a record.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

mod support;
use support::namespace::{Namespace, said};
use support::netns::{self, Lab};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Answers DNS and time, as far as a probe looks.
const SERVER: &str = r#"
import select, socket, sys
sockets = []
for addr, port in (("192.0.2.53", 53), ("192.0.2.223", 123)):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind((addr, port))
    sockets.append(one)
print("ready", flush=True)
while True:
    for one in select.select(sockets + [sys.stdin], [], [])[0]:
        if one is sys.stdin:
            sys.exit()
        data, peer = one.recvfrom(512)
        if one is sockets[0]:
            answer = data[:2] + bytes([data[2] | 0x80]) + data[3:]
        else:
            answer = bytes([0x24]) + data[1:24] + data[40:48] + data[32:]
        one.sendto(answer, peer)
"#;

/// A NAS with rules on its own output, its name server behind a router, and a site.
struct Nas {
    lab: Lab,
    site: TempDir,
    _server: Child,
}

/// A run of `apply` that goes on.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn end(mut self) -> (Option<i32>, String) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), fs::read_to_string(&self.log).unwrap());
            }
            assert!(Instant::now() < end, "it does not end: {}", fs::read_to_string(&self.log).unwrap());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Nas {
    fn new() -> Option<Self> {
        if !netns::ready() {
            return None;
        }
        let lab = Lab::new(&["192.0.2.10"], &["192.0.2.0/24"]);
        lab.client().configure("ip route replace default via 100.127.255.1 src 192.0.2.10");
        let mut server = lab.internet().command(600, "python3");
        let mut server =
            server.args(["-IS", "-c", SERVER]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready");
        let nas = Self { lab, site: tempfile::tempdir().unwrap(), _server: server };
        fs::write(nas.site.path().join("resolv.conf"), "nameserver 192.0.2.53\n").unwrap();
        fs::copy(example("strict-home").join("outgate.lock"), nas.site.path().join("outgate.lock")).unwrap();
        nas.profile(&[]);
        // Somebody else's table, which nobody may touch.
        nas.nft(&["add", "table", "inet", "other"]);
        nas.nft(&["add", "chain", "inet", "other", "c"]);
        nas.nft(&["add", "rule", "inet", "other", "c", "counter", "accept"]);
        Some(nas)
    }

    /// Writes the profile with changes, and generates.
    fn profile(&self, changes: &[(&str, &str)]) {
        let mut profile = fs::read_to_string(example("strict-home").join("outgate.yaml")).unwrap();
        let own = [("nftables: {}", "nftables: {hook: output}")];
        for (from, to) in own.iter().chain(changes) {
            assert!(profile.contains(from), "the profile has no `{from}` to change");
            profile = profile.replace(from, to);
        }
        fs::write(self.site.path().join("outgate.yaml"), &profile).unwrap();
        let output = self.outgate(&["generate", "-q"]);
        assert!(output.status.code().is_some_and(|code| code < 2), "{}", text(&output.stderr));
    }

    /// Another rule, so that the table is another.
    fn more(&self) {
        self.profile(&[("features: [updates, apps, mail]", "features: [updates, mail]")]);
    }

    /// The machine asks another name server than its rules let it.
    fn locked_out(&self) {
        self.profile(&[("host: 192.0.2.53", "host: 192.0.2.99")]);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.lab.client().pid().to_string(), "--net", env!("CARGO_BIN_EXE_outgate")]);
        command.args(args).current_dir(self.site.path());
        command.env("NO_COLOR", "1").env("SOURCE_DATE_EPOCH", "1795219200").env_remove("SSH_CONNECTION");
        command.stdin(Stdio::null());
        command
    }

    fn outgate(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn arguments<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        ["apply", "nftables", "--state", "state", "--resolv-conf", "resolv.conf"]
            .into_iter()
            .chain(more.iter().copied())
            .collect()
    }

    fn apply(&self, more: &[&str]) -> (Option<i32>, String) {
        self.start(more).end()
    }

    fn start(&self, more: &[&str]) -> Running {
        let log = self.site.path().join(format!("log-{}", more.len()));
        let file = fs::File::create(&log).unwrap();
        let mut command = self.command(&self.arguments(more));
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Running { child, log }
    }

    /// Starts it, and waits until it waits for its confirmation.
    fn waiting(&self, more: &[&str]) -> Running {
        let mut running = self.start(more);
        let end = Instant::now() + Duration::from_secs(40);
        while !self.site.path().join("state/pending/ready").exists() {
            let log = || fs::read_to_string(&running.log).unwrap();
            assert!(running.child.try_wait().unwrap().is_none() && Instant::now() < end, "{}", log());
            thread::sleep(Duration::from_millis(20));
        }
        running
    }

    fn confirm(&self, word: &str) -> (Option<i32>, String) {
        let output = self.outgate(&["apply", word, "--state", "state"]);
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }

    fn nft(&self, args: &[&str]) -> String {
        let mut command = self.lab.client().command(60, "nft");
        said(command.args(args).output()).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    /// Everything that is loaded, byte for byte, but for the numbers the kernel gives and what was counted.
    fn loaded(&self) -> String {
        let mut document: Value = serde_json::from_str(&self.nft(&["-j", "list", "ruleset"])).unwrap();
        without(&mut document);
        document.to_string() + &self.nft(&["-s", "list", "ruleset"])
    }

    fn same(&self) -> bool {
        self.outgate(&["drift", "nftables"]).status.code() == Some(0)
    }

    fn is_clear(&self) -> bool {
        !self.site.path().join("state/pending").exists()
    }

    fn wait_until_clear(&self, seconds: u64) {
        let end = Instant::now() + Duration::from_secs(seconds);
        while !self.is_clear() {
            assert!(Instant::now() < end, "nobody went back");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn without(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.remove("handle");
            object.remove("packets");
            object.remove("bytes");
            object.values_mut().for_each(without);
        }
        Value::Array(list) => list.iter_mut().for_each(without),
        _ => {}
    }
}

#[test]
fn what_is_confirmed_stays_and_nobody_else_loads_meanwhile() {
    let Some(nas) = Nas::new() else { return };
    let other = nas.nft(&["list", "table", "inet", "other"]);
    let running = nas.waiting(&[]);
    assert!(nas.same());
    let (code, log) = nas.apply(&["--yes"]);
    assert!(code == Some(2) && log.contains("E064"), "{code:?} {log}");
    assert!(nas.same(), "the second run changed something");
    let (code, log) = nas.confirm("--confirm");
    assert!(code == Some(0) && log.contains("applied: nftables"), "{code:?} {log}");
    let (code, log) = running.end();
    assert_eq!(code, Some(0), "{log}");
    for line in [
        "checked: nft -c -f",
        "before: own resolver at 192.0.2.53:53 answers",
        "after: own resolver at 192.0.2.53:53 answers",
        "after: ntp server at 192.0.2.223:123 answers",
        "keep: confirmed by `outgate apply --confirm`",
        "N231",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(nas.same() && nas.is_clear());
    assert_eq!(nas.nft(&["list", "table", "inet", "other"]), other);
    // Once it is decided there is nothing to confirm.
    let (code, log) = nas.confirm("--confirm");
    assert!(code == Some(2) && log.contains("nothing waits"), "{code:?} {log}");
}

#[test]
fn while_another_run_prepares_nobody_loads() {
    let Some(nas) = Nas::new() else { return };
    assert_eq!(nas.apply(&["--yes"]).0, Some(0));
    nas.more();
    let before = nas.loaded();
    // As a run does that has loaded nothing yet: it holds the lock, and there is nothing to confirm.
    let lock = fs::File::open(nas.site.path().join("state/lock")).unwrap();
    lock.lock().unwrap();
    let (code, log) = nas.apply(&["--yes"]);
    assert!(code == Some(2) && log.contains("E064"), "{code:?} {log}");
    assert_eq!(nas.loaded(), before);
    drop(lock);
    assert_eq!(nas.apply(&["--yes"]).0, Some(0));
    assert!(nas.same() && nas.is_clear());
}

#[test]
fn rules_that_lock_out_dns_are_taken_back_at_once() {
    let Some(nas) = Nas::new() else { return };
    // The first time there is nothing to go back to.
    let empty = nas.loaded();
    nas.locked_out();
    for yes in [&["--yes"][..], &[]] {
        let (code, log) = nas.apply(yes);
        assert!(code == Some(1) && log.contains("no answer any more: own resolver at 192.0.2.53:53"), "{code:?} {log}");
        assert_eq!(nas.loaded(), empty);
    }
    nas.profile(&[]);
    assert_eq!(nas.apply(&["--yes"]).0, Some(0));
    nas.nft(&["add", "element", "inet", "outgate", "d_dns_h4", "{ 192.0.2.77 }"]);
    let before = nas.loaded();
    nas.locked_out();
    let (code, log) = nas.apply(&["--yes", "--format", "json"]);
    assert!(code == Some(1) && log.contains("\"outcome\": \"reverted\"") && log.contains("W310"), "{code:?} {log}");
    assert_eq!(nas.loaded(), before, "what was there before is not what was there before");
    assert!(nas.is_clear());
}

#[test]
fn what_nobody_confirms_is_taken_back() {
    let Some(nas) = Nas::new() else { return };
    assert_eq!(nas.apply(&["--yes"]).0, Some(0));
    let before = nas.loaded();
    nas.more();
    let begun = Instant::now();
    let (code, log) = nas.apply(&["--confirm-within", "2"]);
    assert!(code == Some(1) && log.contains("nobody confirmed in time"), "{code:?} {log}");
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(nas.loaded(), before);
    // By hand, before the time is up.
    let running = nas.waiting(&["--confirm-within", "600"]);
    assert!(nas.same());
    assert_eq!(nas.confirm("--revert").0, Some(1));
    assert_eq!(running.end().0, Some(1));
    assert_eq!(nas.loaded(), before);
}

#[test]
fn a_run_that_is_killed_is_taken_back_and_can_still_be_confirmed() {
    let Some(nas) = Nas::new() else { return };
    assert_eq!(nas.apply(&["--yes"]).0, Some(0));
    let before = nas.loaded();
    nas.more();
    let mut running = nas.waiting(&["--confirm-within", "4"]);
    let killed = Instant::now();
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert!(nas.same(), "it is still loaded");
    let (code, log) = nas.apply(&["--yes"]);
    assert!(code == Some(2) && log.contains("E064"), "{code:?} {log}");
    nas.wait_until_clear(20);
    assert!(killed.elapsed() >= Duration::from_secs(3), "{:?}", killed.elapsed());
    assert_eq!(nas.loaded(), before);
    let (code, log) = nas.confirm("--confirm");
    assert!(code == Some(2) && log.contains("nobody confirmed in time"), "{code:?} {log}");

    let mut running = nas.waiting(&["--confirm-within", "600"]);
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert_eq!(nas.confirm("--confirm").0, Some(0));
    assert!(nas.same() && nas.is_clear());
}

/// The process that watches a folder of state.
fn watcher(folder: &Path) -> Option<u32> {
    let state = folder.join("state");
    fs::read_dir("/proc").unwrap().find_map(|entry| {
        let entry = entry.ok()?;
        let words = text(&fs::read(entry.path().join("cmdline")).ok()?);
        let ours = words.contains("apply-watch") && words.contains(state.to_str()?);
        ours.then(|| entry.file_name().to_str()?.parse().ok()).flatten()
    })
}

#[test]
fn a_run_whose_watcher_is_killed_goes_back_itself_and_both_killed_is_said() {
    let Some(nas) = Nas::new() else { return };
    let before = nas.loaded();
    let kill = || {
        let pid = watcher(nas.site.path()).expect("somebody watches").to_string();
        said(Command::new("kill").args(["-9", &pid]).output()).unwrap();
    };
    let running = nas.waiting(&["--confirm-within", "600"]);
    kill();
    let (code, log) = running.end();
    assert!(code == Some(1) && log.contains("the process that watches is gone"), "{code:?} {log}");
    assert_eq!(nas.loaded(), before);

    let mut running = nas.waiting(&["--confirm-within", "600"]);
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    kill();
    assert!(nas.same(), "nobody is left to go back");
    let (code, log) = nas.apply(&["--yes"]);
    assert!(code == Some(2) && log.contains("nobody took it back"), "{code:?} {log}");
    let (code, log) = nas.confirm("--revert");
    assert_eq!(code, Some(1), "{log}");
    assert_eq!(nas.loaded(), before);
}

/// A terminal: what is typed is what is given, then it hangs up.
const TERMINAL: &str = r#"
import os, pty, sys, time
typed, ready = sys.argv[1].encode().decode("unicode_escape").encode(), sys.argv[2]
pid, master = pty.fork()
if pid == 0:
    os.execvp(sys.argv[3], sys.argv[3:])
end = time.time() + 40
os.set_blocking(master, False)
def drain():
    try:
        os.read(master, 65536)
    except OSError:
        pass
while not os.path.exists(ready) and time.time() < end:
    drain()
    time.sleep(0.05)
if typed:
    os.write(master, typed)
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        drain()
        time.sleep(0.05)
        if time.time() > end:
            sys.exit(9)
    sys.exit(0)
os.close(master)
_, status = os.waitpid(pid, 0)
sys.exit(100 if os.WIFSIGNALED(status) and os.WTERMSIG(status) == 1 else 9)
"#;

#[test]
fn enter_confirms_and_a_hangup_does_not() {
    let Some(nas) = Nas::new() else { return };
    let before = nas.loaded();
    let on_terminal = |typed: &str, within: &str| {
        let inner = nas.command(&nas.arguments(&["--confirm-within", within]));
        let mut command = Command::new(support::enforcers::find("python3").unwrap());
        command.args(["-IS", "-c", TERMINAL, typed]).arg(nas.site.path().join("state/pending/ready"));
        command.arg(inner.get_program()).args(inner.get_args()).current_dir(nas.site.path());
        command.env("SOURCE_DATE_EPOCH", "1795219200").env_remove("SSH_CONNECTION").output().unwrap().status.code()
    };
    assert_eq!(on_terminal("", "3"), Some(100), "the hangup ends it");
    assert!(nas.same(), "still loaded");
    nas.wait_until_clear(20);
    assert_eq!(nas.loaded(), before);
    assert_eq!(on_terminal("\\n", "600"), Some(0));
    nas.wait_until_clear(20);
    assert!(nas.same());
}

#[test]
fn what_is_not_sound_is_not_loaded() {
    let Some(nas) = Nas::new() else { return };
    let before = nas.loaded();
    let refused = |more: &[&str], code: &str, word: &str| {
        let (exit, log) = nas.apply(more);
        assert!(exit == Some(2) && log.contains(code) && log.contains(word), "{exit:?} {log}");
        assert_eq!(nas.loaded(), before);
        assert!(nas.is_clear());
    };
    // Not the files that were reviewed.
    let file = nas.site.path().join("out/nftables/outgate.nft");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("192.0.2.53", "192.0.2.54")).unwrap();
    refused(&["--yes"], "E063", "not what catalog, profile and lock say");
    fs::write(&file, good).unwrap();
    // Nothing could tell.
    fs::write(nas.site.path().join("empty"), "").unwrap();
    let alone = Namespace::new();
    let mut command = Command::new("nsenter");
    command.args(["-t", &alone.pid().to_string(), "--net", env!("CARGO_BIN_EXE_outgate")]);
    command.args(["apply", "nftables", "--yes", "--state", "state", "--resolv-conf", "empty"]);
    command.current_dir(nas.site.path()).env("SOURCE_DATE_EPOCH", "1795219200").env_remove("SSH_CONNECTION");
    let output = command.output().unwrap();
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("no probe succeeds"), "{output:?}");
    assert_eq!(said(alone.command(9, "nft").args(["list", "tables"]).output()).unwrap(), "");
    // What nft refuses.
    let templates = nas.site.path().join("templates/nftables");
    fs::create_dir_all(&templates).unwrap();
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/nftables/outgate.nft.j2");
    let template = fs::read_to_string(template).unwrap();
    fs::write(
        templates.join("outgate.nft.j2"),
        format!("{template}table inet outgate {{ chain denied {{ nonsense\n}} }}\n"),
    )
    .unwrap();
    let output = nas.outgate(&["generate", "-q", "--templates", "templates"]);
    assert!(output.status.code() < Some(2), "{}", text(&output.stderr));
    refused(&["--yes", "--templates", "templates"], "E062", "nonsense");
    nas.profile(&[]);
    // A folder of state that others could change.
    let state = nas.site.path().join("state");
    fs::remove_dir_all(&state).unwrap();
    fs::create_dir(nas.site.path().join("elsewhere")).unwrap();
    symlink("elsewhere", &state).unwrap();
    refused(&["--yes"], "E002", "not a folder of root's alone");
    fs::remove_file(&state).unwrap();
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    refused(&["--yes"], "E002", "not a folder of root's alone");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(nas.site.path(), fs::Permissions::from_mode(0o777)).unwrap();
    refused(&["--yes"], "E002", "can be changed by others");
    fs::set_permissions(nas.site.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(nas.apply(&["--yes"]).0, Some(0));
}

#[test]
fn a_chain_that_nft_does_not_change_in_place_is_made_anew() {
    let Some(nas) = Nas::new() else { return };
    assert_eq!(nas.apply(&["--yes"]).0, Some(0));
    let before = nas.loaded();
    nas.profile(&[("{hook: output}", "{hook: output, priority: 7}")]);
    let (code, log) = nas.apply(&["--confirm-within", "1"]);
    assert!(code == Some(1) && log.contains("made anew"), "{code:?} {log}");
    assert_eq!(nas.loaded(), before);
    assert_eq!(nas.apply(&["--yes"]).0, Some(0));
    assert!(nas.same());
}

/// An nft that takes its time to load something new: it has read it, and says so, long before the kernel gets it.
const SLOW_NFT: &str = r#"#!/bin/sh
D=$(dirname "$0")
PATH=/usr/sbin:/usr/bin:/sbin:/bin
case "$1 $2" in "-f "*/new.nft)
    exec 9<"$2"
    : >"$D/begun"
    sleep 3
    nft -f - <&9
    exit ;;
esac
exec nft "$@"
"#;

#[test]
fn what_still_loads_when_it_is_to_be_taken_back_is_waited_for() {
    let Some(nas) = Nas::new() else { return };
    let before = nas.loaded();
    let stub = nas.site.path().join("bin");
    fs::create_dir(&stub).unwrap();
    fs::write(stub.join("nft"), SLOW_NFT).unwrap();
    fs::set_permissions(stub.join("nft"), fs::Permissions::from_mode(0o755)).unwrap();
    for killed in [true, false] {
        let _ = fs::remove_file(stub.join("begun"));
        let mut command = nas.command(&nas.arguments(&["--confirm-within", "600"]));
        command.env("PATH", format!("{}:/usr/bin:/bin", stub.display()));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(40);
        while !stub.join("begun").exists() {
            assert!(child.try_wait().unwrap().is_none() && Instant::now() < end, "it does not load");
            thread::sleep(Duration::from_millis(20));
        }
        if killed {
            child.kill().unwrap();
            nas.wait_until_clear(20);
        } else {
            assert_eq!(nas.confirm("--confirm").0, Some(2), "nothing is loaded yet");
            let (code, log) = nas.confirm("--revert");
            assert_eq!(code, Some(1), "{log}");
        }
        let _ = child.wait();
        // What was begun has ended long before.
        thread::sleep(Duration::from_secs(4));
        assert_eq!(nas.loaded(), before, "it was loaded behind the way back");
        assert!(nas.is_clear());
    }
}

#[test]
fn what_is_read_at_boot_is_replaced_when_it_stays_and_no_sooner() {
    let Some(nas) = Nas::new() else { return };
    let empty = nas.loaded();
    let boot = nas.site.path().join("etc/outgate.nft");
    let out = || fs::read_to_string(nas.site.path().join("out/nftables/outgate.nft")).unwrap();
    let with = |more: &[&str]| nas.apply(&[&["--boot-file", "etc/outgate.nft"], more].concat());
    assert_eq!(with(&["--confirm-within", "1"]).0, Some(1));
    assert!(!boot.exists());
    assert_eq!(with(&["--yes"]).0, Some(0));
    let first = out();
    assert_eq!(fs::read_to_string(&boot).unwrap(), first);
    fs::set_permissions(&boot, fs::Permissions::from_mode(0o640)).unwrap();
    nas.more();
    let running = nas.waiting(&["--boot-file", "etc/outgate.nft", "--confirm-within", "600"]);
    assert_eq!(fs::read_to_string(&boot).unwrap(), first, "a reboot now would load what nobody confirmed");
    assert_eq!(nas.confirm("--confirm").0, Some(0));
    assert_eq!(running.end().0, Some(0));
    assert!(out() != first && fs::read_to_string(&boot).unwrap() == out());
    assert_eq!(fs::metadata(&boot).unwrap().permissions().mode() & 0o777, 0o640);
    // Somebody's own file is not replaced.
    fs::write(&boot, "flush ruleset\n").unwrap();
    let before = nas.loaded();
    let (code, log) = with(&["--yes"]);
    assert!(code == Some(2) && log.contains("E062") && log.contains("is not replaced"), "{code:?} {log}");
    // What cannot be put in place does not stay loaded.
    nas.nft(&["delete", "table", "inet", "outgate"]);
    let (code, log) = nas.apply(&["--yes", "--boot-file", "outgate.yaml/outgate.nft"]);
    assert!(code == Some(1) && log.contains("cannot be put in place"), "{code:?} {log}");
    assert_eq!(nas.loaded(), empty);
    assert!(before != empty && nas.is_clear());
    let (code, log) = nas.confirm("--boot-file=x");
    assert_eq!(code, Some(2), "{log}");
}

/// A pfctl that keeps a record of its calls, says what it is told to, and fails where it is told to.
const PFCTL: &str = r#"#!/bin/sh
D=$(dirname "$0")
echo "$*" >>"$D/calls"
case "$*" in
"-s rules") cat "$D/main" ;;
"-a outgate -s rules") cat "$D/rules" ;;
"-a outgate -P -s rules") cat "$D/rules" ;;
"-a outgate -s Tables") ls "$D/loaded" ;;
"-a outgate -t "*" -T show") sed 's/^/   /' "$D/loaded/$4" ;;
"-a outgate -nf "*)
    [ ! -e "$D/fail-check" ] || { echo "$4:7: syntax error" >&2; exit 1; }
    sed -n 's/.* file "\(.*\)"/\1/p' "$4" | while read -r file; do [ -r "$file" ] || exit 1; done ;;
"-a outgate -f "*)
    [ ! -e "$D/fail-back" ] || case "$4" in */before.conf) echo "pfctl: no memory" >&2; exit 1 ;; esac
    [ ! -e "$D/fail-load" ] || case "$4" in */trial.conf) echo "pfctl: DIOCXCOMMIT: busy" >&2; exit 1 ;; esac
    rm -f "$D/loaded/"*
    sed -n 's/^table <\(.*\)> persist file "\(.*\)"/\1 \2/p' "$4" | while read -r name file; do
        grep -v '^#' "$file" | tr -d ' ' >"$D/loaded/$name"
    done
    awk -v folder="$D/loaded/" '
        /^}/ { file = "" }
        file { print $1 >file }
        /^table <.*> persist {$/ { file = folder substr($2, 2, length($2) - 2); printf "" >file }
    ' "$4"
    grep -e '^pass' -e '^block' "$4" | sed 's/from <\([a-z_0-9]*\)>/from <\1:2>/' >"$D/rules" ;;
"-a outgate -F rules") : >"$D/rules" ;;
"-a outgate -F Tables") rm -f "$D/loaded/"* ;;
*) echo "not known: $*" >&2; exit 1 ;;
esac
"#;

/// The machine with a pfctl.
struct PfNas {
    nas: Nas,
    stub: PathBuf,
    files: PathBuf,
}

impl PfNas {
    fn new() -> Option<Self> {
        let nas = Nas::new()?;
        // Settings take no folder with a dot in front of its name.
        let own = tempfile::Builder::new().prefix("outgate-pf-").tempdir().unwrap().keep();
        let (stub, files) = (own.join("bin"), own.join("etc"));
        fs::create_dir_all(stub.join("loaded")).unwrap();
        fs::write(stub.join("pfctl"), PFCTL).unwrap();
        fs::set_permissions(stub.join("pfctl"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(stub.join("rules"), "").unwrap();
        fs::write(stub.join("main"), "scrub in all\nanchor \"outgate\" all\n").unwrap();
        let pf = Self { nas, stub, files };
        pf.profile(&[]);
        Some(pf)
    }

    fn profile(&self, changes: &[(&str, &str)]) {
        let own = format!("nftables: {{hook: output}}\n  pf: {{interface: em1, tables: {}}}", self.files.display());
        let mut all = vec![("nftables: {hook: output}", own.as_str())];
        all.extend(changes);
        self.nas.profile(&all);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.nas.command(args);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.stub.display()));
        command
    }

    /// Starts it, and waits until it waits for its confirmation.
    fn start(&self, more: &[&str]) -> Child {
        let args = ["apply", "pf", "--state", "state", "--resolv-conf", "resolv.conf"];
        let mut command = self.command(&args.iter().chain(more).copied().collect::<Vec<_>>());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(40);
        while !self.nas.site.path().join("state/pending/ready").exists() {
            assert!(child.try_wait().unwrap().is_none() && Instant::now() < end, "it does not wait");
            thread::sleep(Duration::from_millis(20));
        }
        child
    }

    fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self.command(args).output().unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }

    fn apply(&self, more: &[&str]) -> (Option<i32>, String) {
        let _ = fs::remove_file(self.stub.join("calls"));
        let args = ["apply", "pf", "--state", "state", "--resolv-conf", "resolv.conf"];
        self.run(&args.iter().chain(more).copied().collect::<Vec<_>>())
    }

    /// Calls that change something.
    fn changing(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.stub.join("calls")).unwrap_or_default();
        let changing = |call: &&str| call.contains(" -f ") || call.contains(" -F ") || call.contains("-T replace");
        calls.lines().filter(changing).map(str::to_owned).collect()
    }

    /// Everything installed.
    fn installed(&self) -> Vec<(PathBuf, String)> {
        Self::files_below(vec![self.files.clone()])
    }

    fn files_below(mut folders: Vec<PathBuf>) -> Vec<(PathBuf, String)> {
        let mut all = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path)
                } else {
                    all.push((path.clone(), fs::read_to_string(path).unwrap()))
                }
            }
        }
        all.sort();
        all
    }

    /// Everything installed and loaded.
    fn all(&self) -> Vec<(PathBuf, String)> {
        let mut all = Self::files_below(vec![self.files.clone(), self.stub.join("loaded")]);
        all.push((self.stub.join("rules"), fs::read_to_string(self.stub.join("rules")).unwrap().replace(":2>", ">")));
        all.sort();
        all
    }
}

impl Drop for PfNas {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.stub.parent().unwrap());
    }
}

#[test]
fn pf_is_checked_loaded_and_taken_back() {
    let Some(pf) = PfNas::new() else { return };
    let empty = pf.all();
    // Refused by pfctl's own check, and by a main file that does not call the anchor: nothing is touched.
    fs::write(pf.stub.join("fail-check"), "").unwrap();
    let (code, log) = pf.apply(&["--yes"]);
    assert!(code == Some(2) && log.contains("E062") && log.contains(":7: syntax error"), "{code:?} {log}");
    fs::remove_file(pf.stub.join("fail-check")).unwrap();
    let main = fs::read_to_string(pf.stub.join("main")).unwrap();
    fs::write(pf.stub.join("main"), "pass all\n").unwrap();
    let (code, log) = pf.apply(&["--yes"]);
    assert!(code == Some(2) && log.contains("no anchor \"outgate\""), "{code:?} {log}");
    fs::write(pf.stub.join("main"), main).unwrap();
    assert_eq!((pf.changing(), pf.all()), (vec![], empty.clone()));
    // The first time, not confirmed: the anchor is empty again.
    let (code, log) = pf.apply(&["--confirm-within", "1"]);
    assert_eq!(code, Some(1), "{log}");
    let state = pf.nas.site.path().canonicalize().unwrap().join("state/pending/pf");
    let load = format!("-a outgate -f {}/trial.conf", state.display());
    assert_eq!(pf.changing(), [load.as_str(), "-a outgate -F rules", "-a outgate -F Tables"]);
    assert_eq!(pf.all(), empty);
    // It stays, and is what it should be.
    let (code, log) = pf.apply(&["--yes"]);
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(pf.changing(), [load.as_str()]);
    let (code, log) = pf.run(&["drift", "pf"]);
    assert!(code == Some(0) && log.contains("same pf: anchor outgate"), "{code:?} {log}");
    let before = pf.all();
    // An anchor that the main rules do not call any more does nothing.
    let main = fs::read_to_string(pf.stub.join("main")).unwrap();
    fs::write(pf.stub.join("main"), "pass all\n").unwrap();
    let (code, log) = pf.run(&["drift", "pf"]);
    assert!(
        code == Some(1) && log.contains("W303") && log.contains("of the main rules is not there"),
        "{code:?} {log}"
    );
    fs::write(pf.stub.join("main"), main).unwrap();
    // Another rule set: not confirmed, or refused by the kernel; a table that is gone comes back.
    pf.profile(&[("features: [updates, apps, mail]", "features: [updates]")]);
    for fail in [false, true] {
        if fail {
            fs::write(pf.stub.join("fail-load"), "").unwrap();
        }
        let (code, log) = pf.apply(&["--confirm-within", "1"]);
        let why = if fail { "DIOCXCOMMIT: busy" } else { "nobody confirmed" };
        assert!(code == Some(1) && log.contains(why), "{code:?} {log}");
        assert_eq!(pf.all(), before);
        assert!(pf.changing().last().unwrap().ends_with("/pending/pf/before.conf"), "{:?}", pf.changing());
    }
    fs::remove_file(pf.stub.join("fail-load")).unwrap();
    // While nobody confirmed, the files are those of before: a reboot would load them.
    let mut running = pf.start(&["--confirm-within", "600"]);
    assert_eq!(
        pf.installed(),
        before.iter().filter(|(path, _)| path.starts_with(&pf.files)).cloned().collect::<Vec<_>>()
    );
    assert_ne!(pf.all(), before, "it is loaded");
    assert_eq!(pf.run(&["apply", "--revert", "--state", "state"]).0, Some(1));
    assert_eq!(running.wait().unwrap().code(), Some(1));
    assert_eq!(pf.all(), before);
    // A table whose name would be a path is nothing that could be kept.
    fs::write(pf.stub.join("loaded/a b"), "192.0.2.9\n").unwrap();
    let (code, log) = pf.apply(&["--yes"]);
    assert!(code == Some(2) && log.contains("could not bring back"), "{code:?} {log}");
    fs::remove_file(pf.stub.join("loaded/a b")).unwrap();
    let (code, log) = pf.apply(&["--yes"]);
    assert_eq!(code, Some(0), "{log}");
    assert!(!pf.files.join("tables/og_ghcr.txt").exists());
    assert_eq!(pf.run(&["drift", "pf"]).0, Some(0));
    // What cannot be taken back is said, and is the next one's business too, until somebody says what holds.
    let before = pf.all();
    pf.profile(&[]);
    fs::write(pf.stub.join("fail-back"), "").unwrap();
    let (code, log) = pf.apply(&["--confirm-within", "1"]);
    assert!(code == Some(3) && log.contains("W311") && log.contains("no memory"), "{code:?} {log}");
    let (code, log) = pf.apply(&["--yes"]);
    assert!(code == Some(2) && log.contains("E064"), "{code:?} {log}");
    let decide = |word: &str| pf.run(&["apply", word, "--state", "state"]);
    assert_eq!(decide("--revert").0, Some(3));
    fs::remove_file(pf.stub.join("fail-back")).unwrap();
    let (code, log) = decide("--revert");
    assert!(code == Some(1) && pf.nas.is_clear(), "{code:?} {log}");
    assert_eq!(pf.all(), before);
    pf.profile(&[("features: [updates, apps, mail]", "features: [updates]")]);
    // Every call names the anchor, but the one that reads the main rules.
    let calls = fs::read_to_string(pf.stub.join("calls")).unwrap();
    assert!(calls.lines().all(|call| call.starts_with("-a outgate ") || call == "-s rules"), "{calls}");
    // A link in the place of a file is not replaced.
    let conf = pf.files.join("outgate.conf");
    fs::rename(&conf, pf.files.join("real.conf")).unwrap();
    symlink("real.conf", &conf).unwrap();
    let (code, log) = pf.apply(&["--yes"]);
    assert!(code == Some(2) && log.contains("is a link"), "{code:?} {log}");
}

/// A Squid on the machine, which ends with it.
struct RunningSquid(Child);

impl Drop for RunningSquid {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn squid_is_checked_reloaded_and_taken_back() {
    if !support::squid::ready() {
        return;
    }
    let Some(nas) = Nas::new() else { return };
    let own = tempfile::Builder::new().prefix("outgate-squid-").tempdir().unwrap();
    fs::set_permissions(own.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let dir = own.path().display().to_string();
    fs::create_dir(own.path().join("var")).unwrap();
    fs::set_permissions(own.path().join("var"), fs::Permissions::from_mode(0o777)).unwrap();
    let make = format!(
        "cd {dir}; openssl req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=outgate -keyout key.pem -out cert.pem 2>/dev/null
         cat cert.pem key.pem >outgate.pem; mkdir conf.d; echo '# what the package brings' >conf.d/debian.conf"
    );
    said(Command::new("sh").args(["-euc", &make]).output()).unwrap();
    let main = format!(
        "pid_filename {dir}/var/squid.pid\ncache_log {dir}/var/cache.log\naccess_log none\ncache_store_log none\n\
         coredump_dir {dir}/var\ncache deny all\ndns_nameservers 127.0.0.1\nvisible_hostname outgate.test\n\
         shutdown_lifetime 0 seconds\nnetdb_filename none\npinger_enable off\nhttp_port 3999\ninclude {dir}/conf.d/*.conf\n"
    );
    fs::write(own.path().join("squid.conf"), main).unwrap();
    let setting = format!("squid: {{certificate: {dir}/outgate.pem, lists: {dir}/outgate}}");
    let profile = |changes: &[(&str, &str)]| {
        let mut all = vec![("squid: {}", setting.as_str())];
        all.extend(changes);
        nas.profile(&all);
    };
    profile(&[]);
    let mut squid = Command::new("nsenter");
    squid.args(["-t", &nas.lab.client().pid().to_string(), "--net", "unshare", "--mount", "sh", "-euc"]);
    squid
        .args([&format!("mount -t tmpfs none /dev/shm; exec squid -N -f {dir}/squid.conf")])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let _squid = RunningSquid(squid.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let end = Instant::now() + Duration::from_secs(20);
    while !fs::read_to_string(own.path().join("var/cache.log")).is_ok_and(|log| log.contains("Accepting HTTP")) {
        assert!(Instant::now() < end, "squid does not begin");
        thread::sleep(Duration::from_millis(50));
    }
    let reloads =
        || fs::read_to_string(own.path().join("var/cache.log")).unwrap().matches("Reconfiguring Squid Cache").count();
    let (include, conf) = (format!("{dir}/conf.d/outgate.conf"), format!("{dir}/squid.conf"));
    let apply = |more: &[&str]| {
        let args = [
            "apply",
            "squid",
            "--state",
            "state",
            "--resolv-conf",
            "resolv.conf",
            "--include",
            &include,
            "--squid-conf",
            &conf,
        ];
        let output = nas.outgate(&args.iter().chain(more).copied().collect::<Vec<_>>());
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let installed = || {
        let mut all = Vec::new();
        for folder in ["conf.d", "outgate"] {
            for entry in fs::read_dir(own.path().join(folder)).into_iter().flatten() {
                let path = entry.unwrap().path();
                all.push((path.clone(), fs::read_to_string(path).unwrap()));
            }
        }
        all.sort();
        all
    };
    let drift = || nas.outgate(&["drift", "squid", "--include", &include]);
    let own_alone = installed();
    // Somebody's own file in the place of the include is not replaced.
    fs::write(&include, "http_access allow all\n").unwrap();
    let (code, log) = apply(&["--yes"]);
    assert!(code == Some(2) && log.contains("is not replaced"), "{code:?} {log}");
    fs::remove_file(&include).unwrap();
    // The first time, not confirmed.
    assert_eq!(drift().status.code(), Some(1));
    let (code, log) = apply(&["--confirm-within", "1"]);
    assert!(code == Some(1) && log.contains("nobody confirmed"), "{code:?} {log}");
    assert_eq!(installed(), own_alone);
    assert_eq!(reloads(), 2, "forth and back");
    let (code, log) = apply(&["--yes"]);
    assert_eq!(code, Some(0), "{log}");
    assert_eq!((drift().status.code(), reloads()), (Some(0), 3));
    let end = Instant::now() + Duration::from_secs(20);
    while !fs::read_to_string(own.path().join("var/cache.log")).unwrap().contains("3128") {
        assert!(Instant::now() < end, "the port of the include is not open");
        thread::sleep(Duration::from_millis(50));
    }
    // Somebody's own list in that folder is nobody's business here.
    fs::write(own.path().join("outgate/deny_mine.txt"), "mine.example\n").unwrap();
    let before = installed();
    // What Squid refuses is not installed.
    let templates = nas.site.path().join("templates/squid");
    fs::create_dir_all(&templates).unwrap();
    let template =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/squid/outgate.conf.j2")).unwrap();
    for (wrong, word) in
        [("ssl_bump nonsense all\n", "nonsense"), ("acl outgate_none dstdomain \"/nowhere/list\"\n", "/nowhere/list")]
    {
        fs::write(templates.join("outgate.conf.j2"), format!("{template}{wrong}")).unwrap();
        let output = nas.outgate(&["generate", "-q", "--templates", "templates"]);
        assert!(output.status.code() < Some(2), "{}", text(&output.stderr));
        let (code, log) = apply(&["--yes", "--templates", "templates"]);
        assert!(code == Some(2) && log.contains("E062") && log.contains(word), "{code:?} {log}");
        assert_eq!((installed(), reloads()), (before.clone(), 3));
    }
    // Other lists, not confirmed: those of before are there again, and Squid has read them.
    profile(&[
        ("features: [updates, apps, mail]", "features: []"),
        ("strict: [usage, error-report, operational, suspected]", "strict: [usage]"),
    ]);
    let (code, log) = apply(&["--confirm-within", "1"]);
    assert!(code == Some(1) && log.contains("after: proxy at 127.0.0.1:3128 answers"), "{code:?} {log}");
    assert_eq!((installed(), reloads()), (before, 5));
    // A Squid that does not run is told so.
    drop(_squid);
    let (code, log) = apply(&["--yes"]);
    assert!(code == Some(2) && log.contains("E062"), "{code:?} {log}");
}

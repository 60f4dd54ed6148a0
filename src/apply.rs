//! How files are loaded on the machine that enforces them, and how that is taken back: plans and probes as values. Nothing
//! here runs anything; `cli` does, step by step.
//!
//! A plan touches our own table, anchor or files, and nothing else. What it takes to go back is worked out and tried
//! before anything is loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::addrs::AddrSet;
use crate::port::Protocol;
use crate::ruleset::{Action, Ruleset};

/// A program and what it is called with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its path.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Words in its output that are a failure though it ends well.
    #[serde(default)]
    pub bad: Vec<String>,
}

impl Call {
    fn new(program: &str, args: &[&str]) -> Self {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Self { program: program.to_owned(), args, bad: Vec::new() }
    }

    /// The command line, for a log.
    #[must_use]
    pub fn line(&self) -> String {
        let name = self.program.rsplit('/').next().unwrap_or(&self.program);
        std::iter::once(name).chain(self.args.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Runs a program; a bad end is a failure.
    Run(Call),
    /// Writes a file that is not there yet.
    Write {
        /// Where.
        path: String,
        /// What.
        text: String,
    },
    /// Puts a file in the place of another, at once.
    Put {
        /// The file, which stays.
        from: String,
        /// Where.
        to: String,
    },
    /// Takes a file away, if it is there.
    Remove(String),
}

impl Step {
    /// What it does, for a log.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Run(call) => call.line(),
            Self::Write { path, .. } => format!("write {path}"),
            Self::Put { to, .. } => format!("replace {to}"),
            Self::Remove(path) => format!("remove {path}"),
        }
    }
}

/// How one target is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Files for the steps below, in the folder of state. Nothing is changed by them.
    pub prepare: Vec<Step>,
    /// What must go well before anything is loaded: the enforcer's own check, of the way forth and of the way back.
    pub check: Vec<Step>,
    /// What loads.
    pub load: Vec<Step>,
    /// What is done once it stays: files that are read at boot are replaced then, and no sooner.
    pub keep: Vec<Step>,
    /// What brings back what was there before, from wherever the steps above came to.
    pub revert: Vec<Step>,
}

/// A table of nftables that is to be loaded.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// Its name; its family is `inet`.
    pub name: &'a str,
    /// The file.
    pub text: &'a str,
    /// The table as it is loaded, as nft lists it; `None` where there is none.
    pub before: Option<&'a str>,
    /// Makes it anew where nft does not change it in place, as after a change of priority.
    pub replace: bool,
}

/// Loads a table. `placed` is the file that is read at boot, if there is one.
#[must_use]
pub fn nftables(nft: &str, state: &str, table: Table<'_>, placed: &Placed<'_>) -> Plan {
    let Table { name: table, text, before, replace } = table;
    let Exchange { mut prepare, forth, back } = placed.exchange(state);
    let gone = format!("table inet {table}\ndelete table inet {table}\n");
    let (new, old) = (format!("{state}/new.nft"), format!("{state}/before.nft"));
    let load = |path: &str| Step::Run(Call::new(nft, &["-f", path]));
    let check = |path: &str| Step::Run(Call::new(nft, &["-c", "-f", path]));
    prepare.extend([
        Step::Write { path: new.clone(), text: if replace { format!("{gone}{text}") } else { text.to_owned() } },
        // One transaction: no packet meets neither table.
        Step::Write { path: old.clone(), text: gone + before.unwrap_or_default() },
    ]);
    // What locks somebody out goes first.
    let revert = std::iter::once(load(&old)).chain(back).collect();
    Plan { prepare, check: vec![check(&new), check(&old)], load: vec![load(&new)], keep: forth, revert }
}

/// Files that are put into folders of the machine, and what lies there now.
#[derive(Clone, Debug, Default)]
pub struct Placed<'a> {
    /// Each new file: where it goes, and its text.
    pub files: BTreeMap<String, &'a str>,
    /// Those that are there now, of ours: what is not among the new ones is taken away.
    pub there: BTreeSet<String>,
}

/// The steps for files: copies of the new and of the old ones in the folder of state, and the ways forth and back.
struct Exchange {
    prepare: Vec<Step>,
    forth: Vec<Step>,
    back: Vec<Step>,
}

impl Placed<'_> {
    fn exchange(&self, state: &str) -> Exchange {
        let (mut prepare, mut forth, mut back) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (to, text)) in self.files.iter().enumerate() {
            let new = format!("{state}/new-{number}");
            prepare.push(Step::Write { path: new.clone(), text: (*text).to_owned() });
            forth.push(Step::Put { from: new, to: to.clone() });
            if !self.there.contains(to) {
                back.push(Step::Remove(to.clone()));
            }
        }
        for (number, path) in self.there.iter().enumerate() {
            let old = format!("{state}/old-{number}");
            prepare.push(Step::Put { from: path.clone(), to: old.clone() });
            back.push(Step::Put { from: old, to: path.clone() });
            if !self.files.contains_key(path) {
                forth.push(Step::Remove(path.clone()));
            }
        }
        Exchange { prepare, forth, back }
    }
}

/// Loads an include of Squid and its lists. `conf` is the include, `folder` where its lists go; `main` is squid.conf, where
/// Squid does not find it itself.
#[must_use]
pub fn squid(squid: &str, state: &str, main: Option<&str>, conf: &str, folder: &str, placed: &Placed<'_>) -> Plan {
    let call = |word: &str, bad: &[&str]| {
        let mut call = Call::new(squid, &["-k", word]);
        call.args.extend(main.into_iter().flat_map(|main| ["-f".to_owned(), main.to_owned()]));
        call.bad = bad.iter().map(|&word| word.to_owned()).collect();
        Step::Run(call)
    };
    let Exchange { mut prepare, mut forth, mut back } = placed.exchange(state);
    // The whole of it is tried where it does nothing, before anything is replaced.
    let trial = format!("{state}/trial.conf");
    let text = placed.files.get(conf).copied().unwrap_or_default();
    prepare.push(Step::Write {
        path: trial.clone(),
        text: text.replace(&format!("\"{folder}/"), &format!("\"{state}/lists/")),
    });
    for (to, text) in &placed.files {
        if let Some(name) = to.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) {
            prepare.push(Step::Write { path: format!("{state}/lists/{name}"), text: (*text).to_owned() });
        }
    }
    let mut parse = Call::new(squid, &["-k", "parse", "-f", &trial]);
    // Most of Squid's complaints go with a good end.
    parse.bad = ["FATAL", "ERROR", "WARNING"].map(str::to_owned).into();
    let check = vec![call("check", &[]), Step::Run(parse)];
    forth.extend([call("parse", &["FATAL"]), call("reconfigure", &["FATAL", "ERROR"])]);
    back.push(call("reconfigure", &["FATAL", "ERROR"]));
    Plan { prepare, check, load: forth, keep: Vec::new(), revert: back }
}

/// What an anchor of pf holds now, as pfctl prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchor {
    /// Its rules.
    pub rules: String,
    /// Its tables: addresses, one a line.
    pub tables: BTreeMap<String, String>,
}

/// Loads an anchor of pf and its tables, from the folder of state. `folder` is where its files go once it stays: until
/// then, whatever starts pf anew loads those of before.
#[must_use]
pub fn pf(pfctl: &str, state: &str, anchor: &str, folder: &str, placed: &Placed<'_>, before: &Anchor) -> Plan {
    let call = |args: &[&str]| Step::Run(Call::new(pfctl, &[&["-a", anchor][..], args].concat()));
    let Exchange { mut prepare, forth, back: files } = placed.exchange(state);
    let conf = format!("{folder}/outgate.conf");
    let trial = format!("{state}/trial.conf");
    let text = placed.files.get(&conf).copied().unwrap_or_default();
    prepare.push(Step::Write {
        path: trial.clone(),
        text: text.replace(&format!("file \"{folder}/"), &format!("file \"{state}/")),
    });
    for (to, text) in &placed.files {
        if let Some(name) = to.strip_prefix(folder).and_then(|rest| rest.strip_prefix("/tables/")) {
            prepare.push(Step::Write { path: format!("{state}/tables/{name}"), text: (*text).to_owned() });
        }
    }
    let mut check = vec![call(&["-nf", &trial])];
    // What locks somebody out goes first.
    let mut back = Vec::new();
    if before.rules.trim().is_empty() && before.tables.is_empty() {
        back.extend([call(&["-F", "rules"]), call(&["-F", "Tables"])]);
    } else {
        let old = format!("{state}/before.conf");
        let mut text = String::new();
        for (name, addrs) in &before.tables {
            let path = format!("{state}/before/{name}");
            text.push_str(&format!("table <{name}> persist file \"{path}\"\n"));
            prepare.push(Step::Write { path, text: addrs.clone() });
        }
        text.push_str(&loadable(&before.rules));
        prepare.push(Step::Write { path: old.clone(), text });
        check.push(call(&["-nf", &old]));
        back.push(call(&["-f", &old]));
    }
    back.extend(files);
    Plan { prepare, check, load: vec![call(&["-f", &trial])], keep: forth, revert: back }
}

/// Rules as pfctl prints them, as it reads them: it prints how many addresses a table has, and takes no such thing.
fn loadable(rules: &str) -> String {
    let mut text = String::new();
    for line in rules.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words = line.split(' ').map(|word| match word.strip_suffix('>').and_then(|rest| rest.split_once(':')) {
            Some((name, _)) if name.starts_with('<') || name.starts_with("!<") => format!("{name}>"),
            _ => word.to_owned(),
        });
        text.push_str(&words.collect::<Vec<_>>().join(" "));
        text.push('\n');
    }
    text
}

/// Something that must still work after loading.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// What it is for, in words.
    pub what: String,
    /// How it is tried.
    pub kind: ProbeKind,
    /// Where.
    pub at: SocketAddr,
}

/// How something is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// A DNS question is answered, whatever the answer.
    Dns,
    /// A time server answers.
    Ntp,
    /// A TCP connection comes about.
    Open,
    /// A TCP connection comes about or is refused: either way a packet came back.
    Path,
}

impl Probe {
    /// A probe.
    #[must_use]
    pub fn new(what: impl Into<String>, kind: ProbeKind, at: SocketAddr) -> Self {
        Self { what: what.into(), kind, at }
    }

    /// What it is and where.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} at {}", self.what, self.at)
    }
}

/// Most servers of a kind that are tried.
const MOST: usize = 8;

/// What must still work: DNS and time as the rules name them, this machine's own resolvers, and the way back to whoever is
/// at work here. `resolv_conf` and `ssh_connection` are the texts of this machine.
#[must_use]
pub fn probes(ruleset: &Ruleset, resolv_conf: &str, ssh_connection: Option<&str>) -> Vec<Probe> {
    let mut probes = Vec::new();
    for addr in resolvers(resolv_conf).into_iter().take(MOST) {
        probes.push(Probe::new("own resolver", ProbeKind::Dns, SocketAddr::new(addr, 53)));
    }
    for (slot, kind, port) in [("dns", ProbeKind::Dns, 53), ("ntp", ProbeKind::Ntp, 123)] {
        let rules = ruleset.rules.iter().filter(|rule| {
            rule.action == Action::Allow
                && rule.callout.slot.as_ref().is_some_and(|own| own.as_str() == slot)
                && rule.ports.iter().any(|own| own.contains(Protocol::Udp, port))
        });
        let addrs: AddrSet = rules.map(|rule| rule.hosts()).collect::<Vec<_>>().iter().collect();
        for addr in addrs.singles().take(MOST) {
            probes.push(Probe::new(format!("{slot} server"), kind, SocketAddr::new(addr, port)));
        }
    }
    // client address, client port, server address, server port
    let words: Vec<&str> = ssh_connection.unwrap_or_default().split_whitespace().collect();
    if let [client, client_port, server, server_port] = words[..] {
        let at = |addr: &str, port: &str| Some(SocketAddr::new(addr.parse().ok()?, port.parse().ok()?));
        probes.extend(at(server, server_port).map(|at| Probe::new("ssh of this machine", ProbeKind::Open, at)));
        probes.extend(at(client, client_port).map(|at| Probe::new("this session", ProbeKind::Path, at)));
    }
    let admins = ruleset.clients.values().filter(|group| !group.default_deny);
    let admins: Vec<IpAddr> = admins
        .flat_map(|group| group.addrs.prefixes())
        .filter(|net| net.prefix_len() == net.max_prefix_len())
        .map(|net| net.addr())
        .collect();
    for addr in admins.into_iter().take(MOST) {
        probes.push(Probe::new("administrator", ProbeKind::Path, SocketAddr::new(addr, 22)));
    }
    // One server may be there for two reasons; it is tried once.
    let mut seen = BTreeSet::new();
    probes.retain(|probe| seen.insert((probe.kind, probe.at)));
    probes
}

/// The name servers of a `resolv.conf`. Scoped addresses are left out: only the system's own resolver knows their links.
fn resolvers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    lines.filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).collect()
}

impl ProbeKind {
    /// The datagram that asks; `None` where it is a connection. `id` tells answers from those of others.
    #[must_use]
    pub fn question(self, id: u16) -> Option<Vec<u8>> {
        let [high, low] = id.to_be_bytes();
        match self {
            // Recursion desired; one question: NS of the root, which says nothing of this site.
            Self::Dns => Some(vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1]),
            Self::Ntp => {
                // Version 4, client. The time of sending is what an answer repeats.
                let mut packet = vec![0x23];
                packet.resize(46, 0);
                packet.extend([high, low]);
                Some(packet)
            }
            Self::Open | Self::Path => None,
        }
    }

    /// Whether a datagram answers that question.
    #[must_use]
    pub fn is_answer(self, id: u16, bytes: &[u8]) -> bool {
        let id = id.to_be_bytes();
        match self {
            Self::Dns => bytes.starts_with(&id) && bytes.get(2).is_some_and(|flags| flags & 0x80 != 0),
            Self::Ntp => {
                // A server, or one that says it is asked too often: it is there either way.
                bytes.first().is_some_and(|first| first & 7 == 4) && bytes.get(30..32) == Some(&id[..])
            }
            Self::Open | Self::Path => false,
        }
    }
}

/// What is written down for whoever takes it back, apart from the run that loads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The target.
    pub target: String,
    /// Seconds to wait for a confirmation.
    pub within: u64,
    /// Whether it says nothing of what goes well.
    pub quiet: bool,
    /// What is done if it stays.
    #[serde(default)]
    pub keep: Vec<Step>,
    /// What brings back what was there before.
    pub revert: Vec<Step>,
}

/// What is decided about something loaded. Whoever decides first decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether it stays.
    pub keep: bool,
    /// Why, or on whose word.
    pub why: String,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The target.
    pub target: String,
    /// What was decided.
    pub decision: Decision,
    /// Steps back that failed, with the enforcer's words; none where it stays.
    pub failed: Vec<String>,
}

impl Outcome {
    /// The exit code: 0 it stays, 1 it was taken back, 3 it should have been and was not.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match (self.decision.keep, self.failed.is_empty()) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_table_is_named() {
        let before = "table inet outgate {\n\tchain a {\n\t}\n}\n";
        for (before, replace) in [(Some(before), false), (None, false), (Some(before), true)] {
            let table = Table { name: "outgate", text: "table inet outgate {\n}\n", before, replace };
            let plan = nftables("/usr/sbin/nft", "/run/outgate/pending", table, &Placed::default());
            let steps = [&plan.prepare, &plan.check, &plan.load, &plan.keep, &plan.revert].into_iter().flatten();
            for step in steps {
                match step {
                    Step::Write { path, text } => {
                        assert!(path.starts_with("/run/outgate/pending/"), "{path}");
                        let tables = text.lines().filter(|line| line.contains("table"));
                        assert!(tables.into_iter().all(|line| line.contains("table inet outgate")), "{text}");
                        assert!(!text.contains("ruleset"), "{text}");
                    }
                    Step::Run(call) => assert!(call.args.iter().any(|arg| arg == "-f"), "{}", call.line()),
                    other => panic!("{}", other.line()),
                }
            }
            assert_eq!(plan.check.len(), 2, "forth and back");
        }
    }

    #[test]
    fn what_pfctl_prints_is_what_it_reads() {
        let printed = "pass in quick on em1 proto tcp from <ogc_nas:2> to ! <og_x:*> port = https label \"a:b\"\n\nblock drop in from <c:0> to any\n";
        let read = "pass in quick on em1 proto tcp from <ogc_nas> to ! <og_x> port = https label \"a:b\"\nblock drop in from <c> to any\n";
        assert_eq!(loadable(printed), read);
    }

    #[test]
    fn the_way_back_undoes_the_way_forth() {
        let files = [("/etc/a/outgate.conf", "new"), ("/etc/a/lists/allow_x.txt", "x")];
        let placed = Placed {
            files: files.iter().map(|(path, text)| ((*path).to_owned(), *text)).collect(),
            there: ["/etc/a/outgate.conf", "/etc/a/lists/deny_y.txt"].map(str::to_owned).into(),
        };
        let Exchange { forth, back, .. } = placed.exchange("/s");
        let touched = |steps: &[Step]| -> BTreeSet<String> {
            let path = |step: &Step| match step {
                Step::Put { to, .. } | Step::Remove(to) => to.clone(),
                other => panic!("{}", other.line()),
            };
            steps.iter().map(path).collect()
        };
        let all: BTreeSet<String> = placed.files.keys().chain(&placed.there).cloned().collect();
        assert_eq!(touched(&forth), all);
        assert_eq!(touched(&back), all);
        assert!(back.contains(&Step::Remove("/etc/a/lists/allow_x.txt".to_owned())));
        assert!(forth.contains(&Step::Remove("/etc/a/lists/deny_y.txt".to_owned())));
    }

    #[test]
    fn answers_are_told_from_echoes_and_from_answers_to_others() {
        for kind in [ProbeKind::Dns, ProbeKind::Ntp] {
            let question = kind.question(0x1234).unwrap();
            assert!(!kind.is_answer(0x1234, &question), "an echo is no answer");
            let mut answer = question.clone();
            match kind {
                ProbeKind::Dns => answer[2] |= 0x80,
                _ => {
                    answer[0] = 0x24;
                    let stamp = answer[40..48].to_vec();
                    answer[24..32].copy_from_slice(&stamp);
                }
            }
            assert!(kind.is_answer(0x1234, &answer));
            assert!(!kind.is_answer(0x1235, &answer));
            assert!(!kind.is_answer(0x1234, &[]) && !kind.is_answer(0x1234, &answer[..1]));
        }
        assert_eq!(ProbeKind::Dns.question(1).unwrap().len(), 17);
        assert_eq!(ProbeKind::Ntp.question(1).unwrap().len(), 48);
    }

    #[test]
    fn resolvers_are_read_as_the_system_reads_them() {
        let text = "# nameserver 192.0.2.1\nsearch example.org\nnameserver 192.0.2.53\n nameserver\t2001:db8::53 # x\nnameserver fe80::1%eth0\nnameserver\n";
        let expected: Vec<IpAddr> = ["192.0.2.53", "2001:db8::53"].map(|a| a.parse().unwrap()).into();
        assert_eq!(resolvers(text), expected);
    }
}

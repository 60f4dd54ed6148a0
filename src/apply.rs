//! How files are loaded on the machine that enforces them, and how that is taken back: plans and probes as values. Nothing
//! here runs anything; `cli` does, step by step.
//!
//! A plan touches our own table, anchor or files, and nothing else. What it takes to go back is worked out and tried
//! before anything is loaded.

use std::collections::BTreeSet;
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
    /// What brings back what was there before, from wherever loading came to.
    pub revert: Vec<Step>,
}

/// Loads the table; `before` is it as it is loaded, as nft lists it, and `None` where there is none. `replace` makes it
/// anew where nft does not change it in place, as after a change of priority.
#[must_use]
pub fn nftables(nft: &str, state: &str, table: &str, text: &str, before: Option<&str>, replace: bool) -> Plan {
    let gone = format!("table inet {table}\ndelete table inet {table}\n");
    let (new, old) = (format!("{state}/new.nft"), format!("{state}/before.nft"));
    let load = |path: &str| Step::Run(Call::new(nft, &["-f", path]));
    let check = |path: &str| Step::Run(Call::new(nft, &["-c", "-f", path]));
    Plan {
        prepare: vec![
            Step::Write { path: new.clone(), text: if replace { format!("{gone}{text}") } else { text.to_owned() } },
            // One transaction: no packet meets neither table.
            Step::Write { path: old.clone(), text: gone + before.unwrap_or_default() },
        ],
        check: vec![check(&new), check(&old)],
        load: vec![load(&new)],
        revert: vec![load(&old)],
    }
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
    fn new(what: impl Into<String>, kind: ProbeKind, at: SocketAddr) -> Self {
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
            let plan = nftables(
                "/usr/sbin/nft",
                "/run/outgate/pending",
                "outgate",
                "table inet outgate {\n}\n",
                before,
                replace,
            );
            let steps = [&plan.prepare, &plan.check, &plan.load, &plan.revert].into_iter().flatten();
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

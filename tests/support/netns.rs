//! A router between a client and an internet, on this machine alone, and probes from one end to the other.
//!
//! ```text
//! client ns           router ns            internet ns
//! cli0 ───────────── lan0    wan0 ──────────── net0
//! client addresses    the rules            every address of the given prefixes answers
//! ```

use std::fmt::{self, Display};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};

use super::enforcers::{NAMESPACES, require_all};
use super::namespace::{Namespace, said};

const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/probe.py");

/// Can a [`Lab`] be built here? As [`super::enforcers::require`].
pub(crate) fn ready() -> bool {
    require_all(&["python3", "ip", "nft", NAMESPACES])
}

/// What a flow is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Proto {
    Tcp,
    Udp,
    /// Ping; the port means nothing.
    IcmpEcho,
}

/// One attempt to get from a client address to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) proto: Proto,
    pub(crate) port: u16,
}

impl Flow {
    pub(crate) fn tcp(src: &str, dst: &str, port: u16) -> Self {
        Self { src: address(src), dst: address(dst), proto: Proto::Tcp, port }
    }

    pub(crate) fn udp(src: &str, dst: &str, port: u16) -> Self {
        Self { src: address(src), dst: address(dst), proto: Proto::Udp, port }
    }

    pub(crate) fn ping(src: &str, dst: &str) -> Self {
        Self { src: address(src), dst: address(dst), proto: Proto::IcmpEcho, port: 0 }
    }
}

impl Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { src, dst, port, .. } = self;
        match self.proto {
            Proto::Tcp => write!(f, "{src} -> {dst} tcp {port}"),
            Proto::Udp => write!(f, "{src} -> {dst} udp {port}"),
            Proto::IcmpEcho => write!(f, "{src} -> {dst} ping"),
        }
    }
}

/// What became of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    /// The very address and port that was asked answered: a TCP connection that carried data, an echo, a ping reply.
    Allowed,
    /// The client was told: a reset, or an ICMP error. Also what a client's own output hook does to UDP, reject or
    /// drop: the send fails.
    Rejected,
    /// Nothing came back, in a first try of 0.3 s and a second of 1.2 s.
    Silent,
}

/// Three namespaces, wired up; gone when dropped.
pub(crate) struct Lab {
    clients: Vec<IpAddr>,
    internet: Vec<Prefix>,
    client_ns: Namespace,
    router_ns: Namespace,
    internet_ns: Namespace,
}

impl Lab {
    /// A lab whose client has these addresses, and in whose internet every address of these prefixes answers.
    ///
    /// A prefix is `198.51.100.0/24`, a single address, or all there is: `0.0.0.0/0`, `::/0`. The prefixes may hold the
    /// client addresses too. No rules yet: everything gets through. The lab itself uses 100.127.255.0/29 and
    /// `fdff:6f75:7467::/64` for its links.
    ///
    /// # Panics
    /// If an argument is no address or prefix, or the lab cannot be built: ask [`ready`] first.
    pub(crate) fn new<C: Display, P: Display>(clients: &[C], internet: &[P]) -> Self {
        let lab = Self {
            clients: clients.iter().map(|client| address(&client.to_string())).collect(),
            internet: internet.iter().map(|prefix| Prefix::parse(&prefix.to_string())).collect(),
            client_ns: Namespace::new(),
            router_ns: Namespace::new(),
            internet_ns: Namespace::new(),
        };
        lab.wire();
        lab
    }

    /// Links, addresses, routes.
    fn wire(&self) {
        let mut router = format!(
            "ip link add lan0 type veth peer name cli0 netns {}
             ip link add wan0 type veth peer name net0 netns {}
             ip link set lan0 up; ip link set wan0 up
             ip addr add 100.127.255.1/30 dev lan0; ip addr add fdff:6f75:7467:1::1/64 dev lan0 nodad
             ip addr add 100.127.255.5/30 dev wan0; ip addr add fdff:6f75:7467:2::1/64 dev wan0 nodad
             ip route add default via 100.127.255.6; ip route add default via fdff:6f75:7467:2::2
             echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding\n",
            self.client_ns.pid(),
            self.internet_ns.pid(),
        );
        let mut client = "ip link set cli0 up
             ip addr add 100.127.255.2/30 dev cli0; ip addr add fdff:6f75:7467:1::2/64 dev cli0 nodad
             ip route add default via 100.127.255.1; ip route add default via fdff:6f75:7467:1::1
             echo '0 2147483647' >/proc/sys/net/ipv4/ping_group_range\n"
            .to_owned();
        // In the table `local`, beside the prefixes that answer: there the longer prefix wins, so that even all of
        // `0.0.0.0/0` can answer and the way back to the client stays.
        let mut internet = "ip link set net0 up
             ip addr add 100.127.255.6/30 dev net0; ip addr add fdff:6f75:7467:2::2/64 dev net0 nodad
             ip route add 100.127.255.4/30 dev net0 table local
             ip route add fdff:6f75:7467:2::/64 dev net0 table local; ip route add fe80::/64 dev net0 table local
             echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind\n"
            .to_owned();
        for address in &self.clients {
            let (via_client, via_router) = match address {
                IpAddr::V4(_) => ("100.127.255.2", "100.127.255.5"),
                IpAddr::V6(_) => ("fdff:6f75:7467:1::2", "fdff:6f75:7467:2::1"),
            };
            let nodad = if address.is_ipv6() { "nodad" } else { "" };
            client.push_str(&format!("ip addr add {address} dev cli0 {nodad}\n"));
            router.push_str(&format!("ip route add {address} via {via_client} dev lan0\n"));
            internet.push_str(&format!("ip route add {address} via {via_router} dev net0 table local\n"));
        }
        for prefix in &self.internet {
            internet.push_str(&format!("ip route add local {prefix} dev lo\n"));
        }
        self.router_ns.configure(&router);
        self.client_ns.configure(&client);
        self.internet_ns.configure(&internet);
    }

    /// `nft -f FILE` on the router. The error is what nft said.
    pub(crate) fn load_nft(&self, file: &Path) -> Result<(), String> {
        load(&self.router_ns, file)
    }

    /// `nft -f FILE` on the client: for rules with an output hook.
    pub(crate) fn load_nft_on_client(&self, file: &Path) -> Result<(), String> {
        load(&self.client_ns, file)
    }

    /// `nft ARGS` on the router; what it printed, or its complaint.
    pub(crate) fn nft(&self, args: &[&str]) -> Result<String, String> {
        said(self.router_ns.command(60, "nft").args(args).output())
    }

    /// Tries every flow, as a new connection, and tells what became of each, in order.
    ///
    /// The internet listens on every port of the flows, so `Rejected` is the rules' doing and not a closed port.
    ///
    /// # Panics
    /// If a flow cannot say anything: from an address that is not the client's, to one that nobody in the lab has.
    pub(crate) fn probe(&self, flows: &[Flow]) -> Vec<Verdict> {
        for flow in flows {
            assert_eq!(flow.src.is_ipv4(), flow.dst.is_ipv4(), "{flow}: two families");
            assert!(self.clients.contains(&flow.src), "{flow}: the lab's client has no such address");
            assert!(self.internet.iter().any(|prefix| prefix.contains(flow.dst)), "{flow}: nobody there to answer");
        }
        let _server = Server::start(&self.internet_ns, flows);
        self.probe_unanswered(flows)
    }

    /// The client's part of [`Lab::probe`], with nobody listening.
    pub(crate) fn probe_unanswered(&self, flows: &[Flow]) -> Vec<Verdict> {
        self.forget_connections();
        let mut input = tempfile::tempfile().expect("a temporary file");
        let lines: String = flows.iter().map(line).collect();
        input.write_all(lines.as_bytes()).expect("the flows are written");
        std::io::Seek::rewind(&mut input).expect("the flows can be read");
        // If all are silent: 1.5 s for each 2,000 (probe.py), and room for a busy machine.
        let seconds = 30 + u32::try_from(flows.len() / 200).unwrap_or(600);
        let client = self.client_ns.command(seconds, "python3").args(["-IS", PROBE, "client"]).stdin(input).output();
        let output = said(client).unwrap_or_else(|error| panic!("the probe failed: {error}"));
        let verdicts: Vec<Verdict> = output.lines().map(verdict).collect();
        assert_eq!(verdicts.len(), flows.len(), "a verdict for each flow");
        verdicts
    }

    /// Empties connection tracking on router and client: without it, a flow that an earlier ruleset let through could
    /// pass as established. Every probe does it.
    pub(crate) fn forget_connections(&self) {
        for namespace in [&self.router_ns, &self.client_ns] {
            let flushed = namespace.command(20, "python3").args(["-IS", PROBE, "flush"]).output();
            said(flushed).expect("connection tracking can be emptied");
        }
    }

    /// The namespace the rules are in.
    pub(crate) fn router(&self) -> &Namespace {
        &self.router_ns
    }

    /// The namespace of the clients.
    pub(crate) fn client(&self) -> &Namespace {
        &self.client_ns
    }

    /// The namespace of everybody else.
    pub(crate) fn internet(&self) -> &Namespace {
        &self.internet_ns
    }

    /// Probes and compares: a readable line for every flow that is allowed and should not be, or the other way round.
    pub(crate) fn surprises(&self, expected: &[(Flow, bool)]) -> Vec<String> {
        let flows: Vec<Flow> = expected.iter().map(|(flow, _)| *flow).collect();
        let verdicts = self.probe(&flows);
        let all = expected.iter().zip(verdicts);
        let wrong = all.filter(|((_, allow), verdict)| *allow != (*verdict == Verdict::Allowed));
        wrong
            .map(|((flow, allow), verdict)| {
                format!("{flow}: {verdict:?}, should be {}", if *allow { "allowed" } else { "denied" })
            })
            .collect()
    }
}

/// What answers in the internet; ends with its input, and with its namespace.
struct Server {
    process: Child,
    pipe: Option<ChildStdin>,
}

impl Server {
    fn start(namespace: &Namespace, flows: &[Flow]) -> Self {
        let mut ports: Vec<String> = flows
            .iter()
            .filter(|flow| flow.proto != Proto::IcmpEcho)
            .map(|flow| format!("{}:{}", if flow.proto == Proto::Tcp { "tcp" } else { "udp" }, flow.port))
            .collect();
        ports.sort_unstable();
        ports.dedup();
        let mut command = namespace.command(600, "python3");
        command.args(["-IS", PROBE, "server"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("nsenter starts");
        let stdout = process.stdout.take().expect("the server's output is a pipe");
        let pipe = process.stdin.take();
        let server = Self { process, pipe };
        let mut pipe = server.pipe.as_ref().expect("the server's input is a pipe");
        writeln!(pipe, "{}", ports.join(" ")).expect("the server reads its ports");
        let mut answer = String::new();
        BufReader::new(stdout).read_line(&mut answer).expect("the server speaks");
        assert_eq!(answer.trim(), "ready", "the server is up (see its message above)");
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.process.wait();
    }
}

fn load(namespace: &Namespace, file: &Path) -> Result<(), String> {
    let file = std::path::absolute(file).map_err(|error| error.to_string())?;
    said(namespace.command(60, "nft").arg("-f").arg(file).output()).map(drop)
}

/// A flow as probe.py reads it.
fn line(flow: &Flow) -> String {
    let proto = match flow.proto {
        Proto::Tcp => "tcp",
        Proto::Udp => "udp",
        Proto::IcmpEcho => "ping",
    };
    format!("{} {} {proto} {}\n", flow.src, flow.dst, flow.port)
}

/// A verdict as probe.py writes it.
fn verdict(line: &str) -> Verdict {
    match line {
        "allowed" => Verdict::Allowed,
        "rejected" => Verdict::Rejected,
        "silent" => Verdict::Silent,
        other => panic!("the probe said {other:?}"),
    }
}

/// An address, in a test's own words.
pub(super) fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no IP address"))
}

/// An address range of the lab's internet. (Not `ipnet`: the judge shares no code with the judged.)
struct Prefix {
    first: IpAddr,
    length: u32,
}

impl Prefix {
    fn parse(text: &str) -> Self {
        let (first, length) = text.split_once('/').unwrap_or((text, ""));
        let first = address(first);
        let full = if first.is_ipv4() { 32 } else { 128 };
        let length = if length.is_empty() { full } else { length.parse().expect("a prefix length") };
        assert!(length <= full, "{text}: no such prefix length");
        Self { first, length }
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(32 - self.length).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (first.to_bits() ^ address.to_bits()).checked_shr(128 - self.length).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

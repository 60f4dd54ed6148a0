//! A real name server on loopback: NLnet Labs' `nsd` (Debian package `nsd`), with one zone for the root, so that it
//! alone answers for every name.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};

/// How long it may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Debian keeps it where only root's PATH looks.
const PROGRAMS: [&str; 2] = ["nsd", "/usr/sbin/nsd"];

/// The running server; stopped when dropped.
pub(crate) struct Nsd {
    /// Where it answers, over UDP and TCP.
    pub(crate) addr: SocketAddr,
    child: Child,
    // Kept: the server's files live in it.
    _dir: tempfile::TempDir,
}

impl Nsd {
    /// Serves this file as the root zone. Nothing when `nsd` is not installed: said loudly here, and a failure where
    /// the environment has `CI`, so that nobody takes a test that did not run for one that passed.
    pub(crate) fn serve(zone: &Path) -> Option<Self> {
        let Some(program) = PROGRAMS.into_iter().find(|program| runs(program)) else {
            assert!(std::env::var_os("CI").is_none(), "nsd is not installed (Debian: apt-get install nsd)");
            // Straight to the terminal: the test harness keeps what tests print with macros.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: nsd is not installed (Debian: apt-get install nsd); {} was not served",
                zone.display()
            );
            return None;
        };
        let zone = fs::canonicalize(zone).expect("the zone file is there");
        // Another process may take the port between its choice and the start: then it is tried with another.
        (0..5).find_map(|_| Self::start(program, &zone)).or_else(|| panic!("nsd did not start with {}", zone.display()))
    }

    fn start(program: &str, zone: &Path) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let config = dir.path().join("nsd.conf");
        fs::write(&config, config_text(dir.path(), zone, port)).expect("a file in a temporary directory");
        let child = Command::new(program)
            .args(["-d", "-c"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nsd is installed");
        let mut server = Self { addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), child, _dir: dir };
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if answers(server.addr) {
                return Some(server);
            }
            if !matches!(server.child.try_wait(), Ok(None)) {
                return None;
            }
        }
        None
    }
}

impl Drop for Nsd {
    fn drop(&mut self) {
        // Not Child::kill: it leaves no time for nsd to end the processes it started itself.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let until = Instant::now() + PATIENCE;
        let mut ended = false;
        while !ended && Instant::now() < until {
            ended = !matches!(self.child.try_wait(), Ok(None));
            thread::sleep(Duration::from_millis(10));
        }
        if !ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if !thread::panicking() {
            assert!(ended, "nsd did not stop when told to");
            assert!(!answers(self.addr), "something of nsd is still running on {}", self.addr);
        }
    }
}

fn config_text(dir: &Path, zone: &Path, port: u16) -> String {
    let dir = dir.display();
    let zone = zone.display();
    format!(
        "server:\n  ip-address: 127.0.0.1\n  port: {port}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  \
         zonesdir: \"{dir}\"\n  database: \"\"\n  pidfile: \"{dir}/nsd.pid\"\n  xfrdfile: \"{dir}/xfrd.state\"\n  \
         zonelistfile: \"{dir}/zone.list\"\n  logfile: \"{dir}/nsd.log\"\n  rrl-ratelimit: 0\n\
         remote-control:\n  control-enable: no\nzone:\n  name: \".\"\n  zonefile: \"{zone}\"\n"
    )
}

fn runs(program: &str) -> bool {
    Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn free_port() -> u16 {
    for _ in 0..100 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let addr = udp.local_addr().expect("a bound socket has an address");
        if TcpListener::bind(addr).is_ok() {
            return addr.port();
        }
    }
    panic!("no port is free for UDP and TCP");
}

/// Whether anybody answers there within a moment.
fn answers(addr: SocketAddr) -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout can be set");
    let mut message = Message::query();
    message.add_query(Query::query(Name::root(), RecordType::SOA));
    let question = message.to_vec().expect("a message that can be sent");
    let mut buffer = [0; 512];
    socket.send_to(&question, addr).is_ok() && socket.recv_from(&mut buffer).is_ok()
}

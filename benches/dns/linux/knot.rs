//! Knot DNS with the same zone: a real name server, where one is installed.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::sides::on_path;
use super::zone::{self, ZONE};

/// How long it may take to load the zone.
const PATIENCE: Duration = Duration::from_secs(60);

/// A knotd that runs; it is ended when this is dropped.
pub(crate) struct Knot {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Knot {
    /// Why it cannot run here; nothing when it can.
    pub(crate) fn missing() -> Option<&'static str> {
        on_path("knotd").is_none().then_some("knotd is not on PATH")
    }

    /// Starts one in this folder and waits until it answers.
    pub(crate) fn start(folder: &Path, names: u32) -> io::Result<Self> {
        // A port that is free now. Who takes it before knotd does makes knotd fail, and the bench says so.
        let address = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let at = folder.display();
        fs::write(folder.join("zone"), zone::file(names))?;
        let config = format!(
            "server:\n    rundir: \"{at}\"\n    listen: {}@{}\ndatabase:\n    storage: \"{at}\"\n\
             log:\n  - target: stderr\n    any: error\n\
             zone:\n  - domain: {ZONE}\n    storage: \"{at}\"\n    file: zone\n    zonefile-sync: -1\n    \
             journal-content: none\n",
            address.ip(),
            address.port()
        );
        let file = folder.join("knot.conf");
        fs::write(&file, config)?;
        let child = Command::new("knotd").arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut knot = Self { child, address };
        knot.wait(names)?;
        Ok(knot)
    }

    /// Asks for the last name of the zone until there is an answer.
    fn wait(&mut self, names: u32) -> io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(self.address)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in zone::owner(names.saturating_sub(1), 0).split('.') {
            query.extend(u8::try_from(label.len()));
            query.extend(label.as_bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("knotd has ended: {status}")));
            }
            let mut answer = [0; 512];
            // Refused while nobody listens; SERVFAIL while the zone is being loaded.
            if socket.send(&query).is_ok() && socket.recv(&mut answer).is_ok_and(|length| length > 12 && answer[7] > 0)
            {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(io::Error::other("knotd does not answer for the zone"))
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

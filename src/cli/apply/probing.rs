//! Probes, run: each with a limit of time, all at once.

use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::apply::{Probe, ProbeKind};

/// How long one try may take.
const LIMIT: Duration = Duration::from_secs(2);

/// How often a datagram is sent before nobody is taken to be there.
const TRIES: u16 = 2;

/// Whether each answers; one that does not is tried anew for so long.
pub(super) fn all(probes: &[Probe], patience: Duration) -> Vec<bool> {
    let end = Instant::now() + patience;
    let try_one = |probe: &Probe| {
        loop {
            if answers(probe) {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(Duration::from_millis(200));
        }
    };
    thread::scope(|scope| {
        let running: Vec<_> = probes.iter().map(|probe| scope.spawn(move || try_one(probe))).collect();
        running.into_iter().map(|one| one.join().unwrap_or(false)).collect()
    })
}

fn answers(probe: &Probe) -> bool {
    match probe.kind {
        ProbeKind::Dns | ProbeKind::Ntp => (1..=TRIES).any(|number| asks(probe, number).unwrap_or(false)),
        ProbeKind::Open => TcpStream::connect_timeout(&probe.at, LIMIT).is_ok(),
        ProbeKind::Path => match TcpStream::connect_timeout(&probe.at, LIMIT) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        },
    }
}

/// Sends a question and waits for its answer; others are passed over.
fn asks(probe: &Probe, number: u16) -> io::Result<bool> {
    let any: SocketAddr = if probe.at.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(probe.at)?;
    // Its own port is what tells this question from others.
    let id = socket.local_addr()?.port().rotate_left(u32::from(number));
    let Some(question) = probe.kind.question(id) else { return Ok(false) };
    socket.send(&question)?;
    let end = Instant::now() + LIMIT;
    let mut bytes = [0; 512];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut bytes)?;
        if bytes.get(..length).is_some_and(|bytes| probe.kind.is_answer(id, bytes)) {
            return Ok(true);
        }
    }
}

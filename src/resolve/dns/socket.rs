//! Datagrams to and from one server, many with one system call where the system can.
//!
//! A socket is connected: what does not come from the server's address and port is not seen at all. Its own port is
//! the system's choice, at random.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Most datagrams with one system call.
pub(super) const BATCH: usize = 64;
/// Longest datagram that is taken; we say 1,232 bytes in every question. No power of two: the beginnings of all would
/// want the same place in the processor's cache.
const LONGEST: usize = 4096 + 64;

/// One socket, bound to a port and connected to a server.
pub(super) struct Socket(UdpSocket);

impl Socket {
    /// A new socket, at a port nobody can know.
    pub(super) fn open(server: SocketAddr) -> io::Result<Self> {
        let any = match server {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        system::make_room(&socket);
        UdpSocket::from_std(socket).map(Self)
    }

    /// Whether something is there to be received; the task is woken when it is.
    pub(super) fn poll_received(&self, context: &mut Context<'_>) -> bool {
        matches!(self.0.poll_recv_ready(context), Poll::Ready(Ok(())))
    }

    /// Whether more can be sent; the task is woken when it can.
    pub(super) fn poll_sendable(&self, context: &mut Context<'_>) -> bool {
        matches!(self.0.poll_send_ready(context), Poll::Ready(Ok(())))
    }
}

/// Room for what is received.
pub(super) struct Inbox {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
    system: system::Headers,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; BATCH * LONGEST], lengths: Vec::new(), system: system::Headers::new() }
    }

    /// Receives what is there, up to a batch. Whether there may be more.
    pub(super) fn receive(&mut self, socket: &Socket) -> bool {
        self.lengths.clear();
        loop {
            match socket
                .0
                .try_io(Interest::READABLE, || self.system.receive(&socket.0, &mut self.bytes, &mut self.lengths))
            {
                Ok(()) => return self.lengths.len() == BATCH,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // What is told of an earlier datagram (nobody listens there): the wait for its answer will show it.
                Err(_) => {}
            }
        }
    }

    /// The datagrams that were received last.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(LONGEST).zip(&self.lengths).map(|(room, length)| room.get(..*length).unwrap_or_default())
    }
}

/// Datagrams that wait to be sent over one socket, one behind the other.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Outbox {
    pub(super) fn push(&mut self, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Sends what can be sent. What cannot, for any reason but want of room, is taken for lost on the way.
    pub(super) fn send(&mut self, socket: &Socket, headers: &mut Headers) {
        let mut sent = 0;
        while sent < self.ends.len() {
            match socket.0.try_io(Interest::WRITABLE, || headers.0.send(&socket.0, &self.bytes, &self.ends, sent)) {
                Ok(count) => sent += count.max(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Of an earlier datagram; it is told once, and this one was not tried.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => sent += 1,
            }
        }
        if sent == self.ends.len() {
            self.bytes.clear();
            self.ends.clear();
        } else if let Some(begin) = sent.checked_sub(1).and_then(|last| self.ends.get(last)).copied() {
            self.bytes.drain(..begin);
            self.ends.drain(..sent);
            self.ends.iter_mut().for_each(|end| *end -= begin);
        }
    }
}

/// What the system needs to send many at once.
pub(super) struct Headers(system::Headers);

impl Headers {
    pub(super) fn new() -> Self {
        Self(system::Headers::new())
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd"))]
use batched as system;
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd")))]
use plain as system;

/// Systems with `sendmmsg` and `recvmmsg`.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd"))]
mod batched {
    use std::io::{self, IoSlice, IoSliceMut};
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg, setsockopt, sockopt};
    use tokio::net::UdpSocket;

    use super::{BATCH, LONGEST};

    /// Room for answers that come while others are read, in bytes; the system gives what it allows.
    const ROOM: usize = 4 << 20;

    pub(super) struct Headers(MultiHeaders<()>);

    impl Headers {
        pub(super) fn new() -> Self {
            Self(MultiHeaders::preallocate(BATCH, None))
        }

        pub(super) fn receive(
            &mut self,
            socket: &UdpSocket,
            bytes: &mut [u8],
            lengths: &mut Vec<usize>,
        ) -> io::Result<()> {
            let mut places: Vec<[IoSliceMut<'_>; 1]> =
                bytes.chunks_mut(LONGEST).map(|room| [IoSliceMut::new(room)]).collect();
            let flags = MsgFlags::MSG_DONTWAIT;
            let received = recvmmsg(socket.as_raw_fd(), &mut self.0, places.iter_mut(), flags, None)?;
            lengths.extend(received.map(|message| message.bytes));
            Ok(())
        }

        pub(super) fn send(
            &mut self,
            socket: &UdpSocket,
            bytes: &[u8],
            ends: &[usize],
            from: usize,
        ) -> io::Result<usize> {
            let begin = |i: usize| i.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
            let parts: Vec<[IoSlice<'_>; 1]> = (from..ends.len().min(from + BATCH))
                .map(|i| [IoSlice::new(bytes.get(begin(i)..begin(i + 1)).unwrap_or_default())])
                .collect();
            let flags = MsgFlags::MSG_DONTWAIT;
            Ok(sendmmsg(socket.as_raw_fd(), &mut self.0, &parts, [None; BATCH], [], flags)?.count())
        }
    }

    pub(super) fn make_room(socket: &std::net::UdpSocket) {
        // As much as is allowed is good enough.
        let _ = setsockopt(socket, sockopt::RcvBuf, &ROOM);
    }
}

/// All others: a datagram a system call. Tests are such a system too, so that this is compiled and run everywhere.
#[cfg(any(test, not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd"))))]
mod plain {
    use std::io;

    use tokio::net::UdpSocket;

    use super::LONGEST;

    pub(super) struct Headers;

    impl Headers {
        pub(super) fn new() -> Self {
            Self
        }

        pub(super) fn receive(
            &mut self,
            socket: &UdpSocket,
            bytes: &mut [u8],
            lengths: &mut Vec<usize>,
        ) -> io::Result<()> {
            for room in bytes.chunks_mut(LONGEST) {
                match socket.try_recv(room) {
                    Ok(length) => lengths.push(length),
                    Err(error) if lengths.is_empty() => return Err(error),
                    Err(_) => break,
                }
            }
            Ok(())
        }

        pub(super) fn send(
            &mut self,
            socket: &UdpSocket,
            bytes: &[u8],
            ends: &[usize],
            from: usize,
        ) -> io::Result<usize> {
            let begin = from.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
            let end = ends.get(from).copied().unwrap_or(begin);
            socket.try_send(bytes.get(begin..end).unwrap_or_default()).map(|_| 1)
        }
    }

    pub(super) fn make_room(_: &std::net::UdpSocket) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred datagrams there and back, by the way of one kind of system.
    macro_rules! there_and_back {
        ($name:ident, $system:ident) => {
            #[test]
            fn $name() {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let peer = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                    peer.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
                    $system::make_room(&peer);
                    let Socket(socket) = Socket::open(peer.local_addr().unwrap()).unwrap();
                    let mut headers = $system::Headers::new();
                    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
                    for n in 0..100 {
                        bytes.extend(std::iter::repeat_n(n, usize::from(n) + 1));
                        ends.push(bytes.len());
                    }
                    let mut sent = 0;
                    while sent < ends.len() {
                        socket.writable().await.unwrap();
                        sent += headers.send(&socket, &bytes, &ends, sent).unwrap();
                    }
                    let mut room = [0; 200];
                    for n in 0..100 {
                        let (length, from) = peer.recv_from(&mut room).unwrap();
                        assert_eq!(room[..length], vec![n; usize::from(n) + 1]);
                        peer.send_to(&room[..length], from).unwrap();
                    }
                    let mut came: Vec<u8> = Vec::new();
                    while came.len() < 100 {
                        socket.readable().await.unwrap();
                        let (mut rooms, mut lengths) = (vec![0; BATCH * LONGEST], Vec::new());
                        headers.receive(&socket, &mut rooms, &mut lengths).unwrap();
                        assert!(lengths.len() <= BATCH);
                        for (room, length) in rooms.chunks(LONGEST).zip(lengths) {
                            assert_eq!(room[..length], vec![room[0]; usize::from(room[0]) + 1]);
                            came.push(room[0]);
                        }
                    }
                    assert_eq!(came, (0..100).collect::<Vec<u8>>());
                });
            }
        };
    }

    there_and_back!(a_datagram_a_call, plain);
    there_and_back!(as_this_system_does_it, system);
}

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

/// Datagrams that wait to be sent over one socket, those of one length together: so they can be sent as one.
#[derive(Default)]
pub(super) struct Outbox {
    trains: Vec<Train>,
    held: usize,
}

/// Datagrams of one length, one behind the other.
struct Train {
    length: usize,
    bytes: Vec<u8>,
}

impl Outbox {
    pub(super) fn push(&mut self, datagram: &[u8]) {
        let length = datagram.len();
        match self.trains.iter_mut().find(|train| train.length == length) {
            Some(train) => train.bytes.extend_from_slice(datagram),
            None => self.trains.push(Train { length, bytes: datagram.to_vec() }),
        }
        self.held += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Sends what can be sent. What cannot, for any reason but want of room, is taken for lost on the way.
    pub(super) fn send(&mut self, socket: &Socket, headers: &mut Headers) {
        for train in &mut self.trains {
            let mut at = 0;
            while let Some(rest) = train.bytes.get(at..).filter(|rest| !rest.is_empty()) {
                match socket.0.try_io(Interest::WRITABLE, || headers.0.send(&socket.0, rest, train.length)) {
                    Ok(count) => at += count.max(1) * train.length,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // Of an earlier datagram; it is told once, and this one was not tried.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(_) => at += train.length,
                }
            }
            train.bytes.drain(..at);
            self.held -= at / train.length;
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

    #[cfg(target_os = "linux")]
    use nix::errno::Errno;
    #[cfg(target_os = "linux")]
    use nix::sys::socket::{ControlMessage, getsockopt, sendmsg};
    use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg, setsockopt, sockopt};
    use tokio::net::UdpSocket;

    use super::{BATCH, LONGEST};

    /// Room for answers that come while others are read, in bytes; the system gives what it allows.
    const ROOM: usize = 4 << 20;

    pub(super) struct Headers {
        messages: MultiHeaders<()>,
        /// Whether the kernel cuts; nothing before it was asked.
        #[cfg(target_os = "linux")]
        pub(super) cuts: Option<bool>,
    }

    impl Headers {
        pub(super) fn new() -> Self {
            Self {
                messages: MultiHeaders::preallocate(BATCH, None),
                #[cfg(target_os = "linux")]
                cuts: None,
            }
        }

        pub(super) fn receive(
            &mut self,
            socket: &UdpSocket,
            bytes: &mut [u8],
            lengths: &mut Vec<usize>,
        ) -> io::Result<()> {
            let mut rooms = bytes.chunks_mut(LONGEST);
            let mut places: [_; BATCH] = std::array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
            let flags = MsgFlags::MSG_DONTWAIT;
            let received = recvmmsg(socket.as_raw_fd(), &mut self.messages, places.iter_mut(), flags, None)?;
            lengths.extend(received.map(|message| message.bytes));
            Ok(())
        }

        /// Datagrams of one length; how many of them were sent.
        pub(super) fn send(&mut self, socket: &UdpSocket, bytes: &[u8], length: usize) -> io::Result<usize> {
            let bytes = bytes.get(..BATCH * length).unwrap_or(bytes);
            if bytes.len() > length
                && let Some(sent) = self.send_as_one(socket, bytes, length)
            {
                return sent;
            }
            let parts: Vec<[IoSlice<'_>; 1]> = bytes.chunks(length).map(|part| [IoSlice::new(part)]).collect();
            let flags = MsgFlags::MSG_DONTWAIT;
            Ok(sendmmsg(socket.as_raw_fd(), &mut self.messages, &parts, [None; BATCH], [], flags)?.count())
        }

        /// All of them as one, which the kernel cuts when it is nearly out (UDP_SEGMENT): the way there is most of what
        /// a datagram costs. Nothing where that cannot be done.
        #[cfg(target_os = "linux")]
        fn send_as_one(&mut self, socket: &UdpSocket, bytes: &[u8], length: usize) -> Option<io::Result<usize>> {
            let each = u16::try_from(length).ok()?;
            // A kernel from before 4.18 would not cut it.
            if !*self.cuts.get_or_insert_with(|| getsockopt(socket, sockopt::UdpGsoSegment).is_ok()) {
                return None;
            }
            let cut = [ControlMessage::UdpGsoSegments(&each)];
            match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], &cut, MsgFlags::MSG_DONTWAIT, None) {
                Ok(sent) => Some(Ok(sent / length)),
                Err(error @ (Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED)) => Some(Err(error.into())),
                // Not over every device, and not through every tunnel.
                Err(_) => {
                    self.cuts = Some(false);
                    None
                }
            }
        }

        #[cfg(not(target_os = "linux"))]
        fn send_as_one(&mut self, _: &UdpSocket, _: &[u8], _: usize) -> Option<io::Result<usize>> {
            None
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

        pub(super) fn send(&mut self, socket: &UdpSocket, bytes: &[u8], length: usize) -> io::Result<usize> {
            socket.try_send(bytes.get(..length).unwrap_or(bytes)).map(|_| 1)
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
                    let bytes: Vec<u8> = (0..100).flat_map(|n| [n; 50]).collect();
                    let mut sent = 0;
                    while sent < 100 {
                        socket.writable().await.unwrap();
                        sent += headers.send(&socket, &bytes[sent * 50..], 50).unwrap();
                    }
                    let mut room = [0; 200];
                    for n in 0..100 {
                        let (length, from) = peer.recv_from(&mut room).unwrap();
                        assert_eq!(room[..length], [n; 50]);
                        peer.send_to(&room[..length], from).unwrap();
                    }
                    let mut came: Vec<u8> = Vec::new();
                    while came.len() < 100 {
                        socket.readable().await.unwrap();
                        let (mut rooms, mut lengths) = (vec![0; BATCH * LONGEST], Vec::new());
                        headers.receive(&socket, &mut rooms, &mut lengths).unwrap();
                        assert!(lengths.len() <= BATCH);
                        for (room, length) in rooms.chunks(LONGEST).zip(lengths) {
                            assert_eq!(room[..length], [room[0]; 50]);
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

    #[test]
    fn datagrams_of_every_length_arrive_as_they_are() {
        arrive(Headers::new());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn they_do_where_the_kernel_does_not_cut() {
        let mut headers = Headers::new();
        headers.0.cuts = Some(false);
        arrive(headers);
    }

    fn arrive(mut headers: Headers) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let peer = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            peer.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            let socket = Socket::open(peer.local_addr().unwrap()).unwrap();
            let mut outbox = Outbox::default();
            let datagrams: Vec<Vec<u8>> = (0..200).map(|n| vec![n; usize::from(n % 7) * 40 + 1]).collect();
            datagrams.iter().for_each(|datagram| outbox.push(datagram));
            while !outbox.is_empty() {
                socket.0.writable().await.unwrap();
                outbox.send(&socket, &mut headers);
            }
            let mut room = [0; 300];
            let mut came: Vec<Vec<u8>> = Vec::new();
            while came.len() < datagrams.len() {
                let length = peer.recv(&mut room).unwrap();
                came.push(room[..length].to_vec());
            }
            came.sort();
            assert_eq!(came, datagrams);
        });
    }
}

//! The name server of the bench: a process of its own with one thread, so that its CPU time is nobody else's. It
//! answers for [`zone`], adds a distance, loses what it is told to lose, or is a resolver that is slow.
//!
//! Commands come on standard input, a line each, and are answered with a line: `begin` and the five numbers of
//! [`Path`] empties everything and starts over; `count` says what has come since. It ends with its input.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, SndBuf, SndBufForce};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt};

use super::zone;

/// Datagrams a system call.
const BATCH: usize = 64;
/// Bytes of the socket's buffers, as far as the kernel lets us: the responder is not to be what loses queries.
const BUFFER: usize = 32 << 20;
/// Answers on their way at most. A client with more than this in flight is a flood.
const UNDERWAY_MAX: usize = 200_000;
const MILLION: u64 = 1_000_000;

/// What lies between a client and its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Path {
    /// How much later than possible an answer is sent.
    pub(crate) delay: Duration,
    /// Queries that are lost, in a million.
    pub(crate) loss: u64,
    /// Queries that are served a second; 0 is no limit.
    pub(crate) rate: u64,
    /// Queries that may wait for that; what comes on top is lost.
    pub(crate) queue: u64,
    /// Which queries are lost.
    pub(crate) seed: u64,
}

/// What came in since `begin`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    /// Queries that arrived: those that were lost on purpose or for want of room are among them.
    pub(crate) queries: u64,
    /// Answers that were sent.
    pub(crate) answers: u64,
}

/// A responder that runs; it ends when this is dropped.
pub(crate) struct Responder {
    child: Child,
    commands: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Responder {
    /// Starts one for this many names.
    pub(crate) fn start(names: u32) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", &names.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let commands = child.stdin.take();
        let mut replies = BufReader::new(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
        let mut line = String::new();
        replies.read_line(&mut line)?;
        let port: u16 = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { child, commands, replies, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) })
    }

    /// Starts over with this path. What was still to be said to the client before is never said.
    pub(crate) fn begin(&mut self, path: Path) -> io::Result<()> {
        let Path { delay, loss, rate, queue, seed } = path;
        self.command(&format!("begin {} {loss} {rate} {queue} {seed}", delay.as_micros())).map(drop)
    }

    /// What came in since [`Self::begin`].
    pub(crate) fn count(&mut self) -> io::Result<Count> {
        let reply = self.command("count")?;
        let mut numbers = reply.split_whitespace().filter_map(|n| n.parse().ok());
        let mut next = || numbers.next().ok_or(io::Error::from(io::ErrorKind::InvalidData));
        Ok(Count { queries: next()?, answers: next()? })
    }

    /// Queries its socket had no room for since it runs, as the kernel counts them.
    pub(crate) fn overflow(&self) -> u64 {
        let own = format!("0100007F:{:04X}", self.address.port());
        let sockets = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
        let line = sockets.lines().find(|line| line.split_whitespace().nth(1) == Some(own.as_str()));
        line.and_then(|line| line.split_whitespace().next_back()?.parse().ok()).unwrap_or_default()
    }

    fn command(&mut self, line: &str) -> io::Result<String> {
        let commands = self.commands.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        commands.write_all(format!("{line}\n").as_bytes())?;
        let mut reply = String::new();
        match self.replies.read_line(&mut reply)? {
            0 => Err(io::Error::other("the responder has ended")),
            _ => Ok(reply),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}

/// The responder itself: the process [`Responder::start`] starts.
pub(crate) fn serve(names: u32) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    // The forced kind is for root; the other is cut to what the system allows.
    setsockopt(&socket, RcvBufForce, &BUFFER).or_else(|_| setsockopt(&socket, RcvBuf, &BUFFER))?;
    setsockopt(&socket, SndBufForce, &BUFFER).or_else(|_| setsockopt(&socket, SndBuf, &BUFFER))?;
    reply(&socket.local_addr()?.port().to_string())?;
    Server::new(socket, names).run()
}

fn reply(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// An answer, to whom, and when it may be sent.
struct Answer {
    due: Instant,
    to: SockaddrIn,
    message: Vec<u8>,
}

struct Server {
    socket: UdpSocket,
    names: u32,
    path: Path,
    count: Count,
    /// State of the losses' random numbers.
    random: u64,
    /// When the last query that was taken will have been served.
    free: Instant,
    /// Answers on their way. Every one is as far, so they fall due in the order they were queued.
    underway: VecDeque<Answer>,
    /// Used messages: a new one is written over an old one.
    spare: Vec<Vec<u8>>,
}

impl Server {
    fn new(socket: UdpSocket, names: u32) -> Self {
        Self {
            socket,
            names,
            path: Path::default(),
            count: Count::default(),
            random: 1,
            free: Instant::now(),
            underway: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let mut incoming = Incoming::new();
        let mut outgoing = MultiHeaders::preallocate(BATCH, None);
        loop {
            let come = incoming.receive(&self.socket)?;
            let now = Instant::now();
            for (query, from) in incoming.messages(come) {
                self.take(query, from, now);
            }
            self.send(now, &mut outgoing)?;
            if come == 0 && !self.wait()? {
                return Ok(());
            }
        }
    }

    fn take(&mut self, query: &[u8], from: SockaddrIn, now: Instant) {
        self.count.queries += 1;
        if self.path.loss > 0 && self.next_random() % MILLION < self.path.loss {
            return;
        }
        if self.underway.len() >= UNDERWAY_MAX {
            return;
        }
        let mut served = now;
        if let Some(each) = MILLION.checked_mul(1000).and_then(|second| second.checked_div(self.path.rate)) {
            let each = Duration::from_nanos(each);
            let waiting = self.free.saturating_duration_since(now);
            if waiting.as_nanos() > each.as_nanos() * u128::from(self.path.queue) {
                return;
            }
            self.free = now + waiting + each;
            served = self.free;
        }
        let mut message = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(zone::MESSAGE_MAX));
        if zone::answer(query, self.names, &mut message).is_some() {
            self.underway.push_back(Answer { due: served + self.path.delay, to: from, message });
        }
    }

    /// Sends what is due.
    fn send(&mut self, now: Instant, headers: &mut MultiHeaders<SockaddrIn>) -> io::Result<()> {
        loop {
            let due = self.underway.iter().take(BATCH).take_while(|answer| answer.due <= now).count();
            if due == 0 {
                return Ok(());
            }
            let slices: Vec<_> = self.underway.iter().take(due).map(|a| [IoSlice::new(&a.message)]).collect();
            let to: Vec<_> = self.underway.iter().take(due).map(|a| Some(a.to)).collect();
            let sent = match sendmmsg(self.socket.as_raw_fd(), headers, &slices, to, [], MsgFlags::empty()) {
                Ok(sent) => sent.count(),
                // Somebody who asked is gone; the first message is the one that has no reader.
                Err(Errno::ECONNREFUSED) => 1,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            self.count.answers += sent as u64;
            self.spare.extend(self.underway.drain(..sent).map(|answer| answer.message));
        }
    }

    /// Sleeps until a query comes or an answer falls due; obeys a command. False when there will be no more.
    fn wait(&mut self) -> io::Result<bool> {
        let timeout = self.underway.front().map(|next| next.due.saturating_duration_since(Instant::now()).into());
        let stdin = io::stdin();
        let mut watched =
            [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut watched, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !watched[1].any().unwrap_or_default() {
            return Ok(true);
        }
        let mut line = String::new();
        if stdin.lock().read_line(&mut line)? == 0 {
            return Ok(false);
        }
        self.obey(&line)?;
        Ok(true)
    }

    fn obey(&mut self, line: &str) -> io::Result<()> {
        let numbers: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        if let [delay, loss, rate, queue, seed] = numbers[..] {
            self.path = Path { delay: Duration::from_micros(delay), loss, rate, queue, seed };
            self.random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            self.free = Instant::now();
            self.underway.clear();
            let mut incoming = Incoming::new();
            while incoming.receive(&self.socket)? > 0 {}
            self.count = Count::default();
            return reply("ok");
        }
        let Count { queries, answers } = self.count;
        reply(&format!("{queries} {answers}"))
    }

    /// xorshift64*: the same losses for the same seed.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 20
    }
}

/// Room for one batch of queries.
struct Incoming {
    headers: MultiHeaders<SockaddrIn>,
    buffers: Vec<[u8; zone::MESSAGE_MAX]>,
    /// Length and sender of what the last call brought.
    heads: Vec<(usize, SockaddrIn)>,
}

impl Incoming {
    fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: vec![[0; zone::MESSAGE_MAX]; BATCH],
            heads: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what is there, without waiting for it.
    fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.heads.clear();
        let mut slices: Vec<_> = self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        match recvmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None) {
            Ok(come) => {
                let heads = come.map(|message| (message.bytes, message.address));
                self.heads.extend(heads.filter_map(|(bytes, from)| Some((bytes, from?))));
            }
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.heads.len())
    }

    fn messages(&self, come: usize) -> impl Iterator<Item = (&[u8], SockaddrIn)> {
        self.buffers.iter().zip(&self.heads).take(come).map(|(buffer, &(bytes, from))| (&buffer[..bytes], from))
    }
}

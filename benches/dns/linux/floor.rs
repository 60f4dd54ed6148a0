//! What the datagrams alone cost: the system calls our resolver makes, and next to nothing else. It does not adapt, so a
//! server that cannot take so many at once makes it ask again, and there it is no floor.
//!
//! Questions are made beforehand, of one letter case and without EDNS. A fixed number is under way over one socket; what
//! is not answered in time is sent again. Of an answer nothing is looked at but its id. Answers are written as they came,
//! each behind its length, so that whoever judges can read them.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::sockopt::RcvBuf;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, recvmmsg, sendmsg, setsockopt};

/// Datagrams a system call.
const BATCH: usize = 64;
/// Questions under way: a power of two, so that an id is a place and how often it was used.
const WINDOW: u16 = 8192;
/// After so long a question is sent again, as massdns tuned does.
const WAIT: Duration = Duration::from_millis(100);
/// Bytes of the socket's buffer, as far as the system gives them.
const ROOM: usize = 8 << 20;
/// Longest answer.
const LONGEST: usize = 1232;

/// A and AAAA.
const KINDS: [u8; 2] = [1, 28];

/// The questions for A and AAAA of each name, one behind the other; a question has a fixed place in the list.
struct Questions {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Questions {
    fn of(names: &str) -> Self {
        let mut questions = Self { bytes: Vec::with_capacity(names.len() * 4), ends: vec![0] };
        for name in names.lines() {
            for kind in KINDS {
                questions.bytes.extend([0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
                for label in name.split('.') {
                    questions.bytes.push(label.len() as u8);
                    questions.bytes.extend(label.as_bytes());
                }
                questions.bytes.extend([0, 0, kind, 0, 1]);
                questions.ends.push(questions.bytes.len());
            }
        }
        questions
    }

    fn len(&self) -> usize {
        self.ends.len() - 1
    }

    fn get(&self, at: usize) -> &[u8] {
        &self.bytes[self.ends[at]..self.ends[at + 1]]
    }
}

/// A place for one question under way.
#[derive(Clone, Copy)]
struct Place {
    question: usize,
    /// The id it has now: the place, and above it how often that was used.
    id: u16,
    open: bool,
}

/// Asks for every name in `names` and writes what came.
pub(crate) fn run(server: SocketAddr, names: &str, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(server)?;
    setsockopt(&socket, RcvBuf, &ROOM)?;
    let questions = Questions::of(names);
    let mut places: Vec<_> = (0..WINDOW).map(|id| Place { question: 0, id, open: false }).collect();
    let mut free: Vec<u16> = (0..WINDOW).collect();
    // What was sent when, the oldest first; answered or not.
    let mut sent: VecDeque<(Instant, u16)> = VecDeque::new();
    let (mut next, mut open) = (0, 0_usize);
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    let mut rooms = vec![[0; LONGEST]; BATCH];
    let mut batch = Vec::new();
    while next < questions.len() || open > 0 {
        let now = Instant::now();
        batch.clear();
        let mut count = 0;
        let mut length = 0;
        while count < BATCH {
            let late = sent.front().filter(|(at, _)| now.duration_since(*at) >= WAIT).copied();
            let place = if let Some((_, id)) = late {
                sent.pop_front();
                let place = &mut places[usize::from(id % WINDOW)];
                if !place.open || place.id != id {
                    continue;
                }
                place
            } else if next < questions.len()
                && let Some(at) = free.pop()
            {
                let place = &mut places[usize::from(at)];
                *place = Place { question: next, id: place.id.wrapping_add(WINDOW), open: true };
                next += 1;
                open += 1;
                place
            } else {
                break;
            };
            let question = questions.get(place.question);
            // What is sent as one is of one length.
            if count > 0 && question.len() != length {
                send(&socket, &batch, length)?;
                batch.clear();
                count = 0;
            }
            length = question.len();
            let [high, low] = place.id.to_be_bytes();
            batch.extend([high, low]);
            batch.extend_from_slice(&question[2..]);
            count += 1;
            sent.push_back((now, place.id));
        }
        if count > 0 {
            send(&socket, &batch, length)?;
        }
        let mut slices: Vec<_> = rooms.iter_mut().map(|room| [IoSliceMut::new(room)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let came: Vec<usize> = match recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None) {
            Ok(came) => came.map(|message| message.bytes).collect(),
            Err(Errno::EAGAIN | Errno::EINTR) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        for (room, &length) in rooms.iter().zip(&came) {
            let id = u16::from_be_bytes([room[0], room[1]]);
            let place = &mut places[usize::from(id % WINDOW)];
            if place.open && place.id == id {
                place.open = false;
                open -= 1;
                free.push(id % WINDOW);
                out.write_all(&u16::try_from(length)?.to_be_bytes())?;
                out.write_all(&room[..length])?;
            }
        }
        if came.is_empty() && count < BATCH {
            let until = sent.front().map(|(at, _)| (*at + WAIT).saturating_duration_since(Instant::now()).into());
            match ppoll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], until, None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Sends questions of one length as one. What cannot be sent is late in time.
fn send(socket: &UdpSocket, bytes: &[u8], length: usize) -> Result<(), Box<dyn Error>> {
    let length = u16::try_from(length)?;
    let cut = [ControlMessage::UdpGsoSegments(&length)];
    match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], &cut, MsgFlags::MSG_DONTWAIT, None) {
        Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What [`run`] wrote, as the lines the other sides write.
pub(crate) fn lines(mut bytes: &[u8]) -> io::Result<String> {
    let mut text = String::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (message, rest) =
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(io::ErrorKind::UnexpectedEof)?;
        let message = Message::from_vec(message).map_err(io::Error::other)?;
        let name = message.queries.first().map(|query| query.name().to_ascii()).unwrap_or_default();
        for record in &message.answers {
            match &record.data {
                RData::A(address) => text += &format!("{name} {address}\n"),
                RData::AAAA(address) => text += &format!("{name} {address}\n"),
                RData::CNAME(target) => text += &format!("{name} CNAME {}\n", target.0.to_ascii()),
                _ => {}
            }
        }
        bytes = rest;
    }
    Ok(text)
}

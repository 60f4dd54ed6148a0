//! A small name server on loopback that misbehaves on demand, a name at a time. Two threads, one for UDP and one for
//! TCP; both end when it is dropped.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// How often the threads look whether they should end.
const TICK: Duration = Duration::from_millis(5);
/// What a client may take over UDP when it says nothing (RFC 1035, 4.2.1).
const UDP_MAX: u16 = 512;

/// What a name does. Unless said otherwise addresses are given by family, and the other family is NODATA.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// These addresses.
    Answer(Vec<IpAddr>),
    /// CNAMEs through these names, then these addresses, all in one answer.
    Chain(Vec<String>, Vec<IpAddr>),
    /// As `Chain`, the records in reverse order.
    Backwards(Vec<String>, Vec<IpAddr>),
    /// One CNAME, and nothing of what lies behind it.
    Step(String),
    /// One CNAME, and an SOA: nothing lies behind it.
    DeadEnd(String),
    /// One CNAME, and NXDOMAIN for what lies behind it.
    DeadName(String),
    /// Two CNAMEs for one name.
    Fork(String, String),
    /// CNAMEs through these names and back to the asked one, in one answer.
    Loop(Vec<String>),
    /// The name does not exist.
    NxDomain,
    /// The name does not exist, and here are its addresses.
    NxDomainWith(Vec<IpAddr>),
    /// These addresses for A; AAAA does not exist.
    NxDomainForAaaa(Vec<IpAddr>),
    /// The name exists and has nothing, with an SOA.
    NoData,
    /// As `NoData`, without an SOA.
    Empty,
    /// SERVFAIL.
    ServFail,
    /// SERVFAIL for the first question of each type, these addresses from then on.
    ServFailOnce(Vec<IpAddr>),
    /// REFUSED.
    Refused,
    /// No answer, but whom else to ask.
    Referral,
    /// NOTIMP.
    NotImplemented,
    /// FORMERR when asked with EDNS, these addresses when asked without.
    NoEdns(Vec<IpAddr>),
    /// Nothing at all.
    Silent,
    /// Nothing at all to AAAA; these addresses to A.
    SilentForAaaa(Vec<IpAddr>),
    /// These addresses, late.
    Slow(Duration, Vec<IpAddr>),
    /// Over UDP the first address and TC; over TCP all.
    Truncated(Vec<IpAddr>),
    /// Over UDP the first address and TC; over TCP the connection is closed.
    TruncatedTcpCloses(Vec<IpAddr>),
    /// Over UDP the first address and TC; over TCP no answer, the connection stays open.
    TruncatedTcpSilent(Vec<IpAddr>),
    /// The first address and TC, over UDP and over TCP.
    TruncatedAlways(Vec<IpAddr>),
    /// These addresses under another message id.
    WrongId(Vec<IpAddr>),
    /// These addresses for a question that was not asked.
    WrongQuestion(Vec<IpAddr>),
    /// TC over UDP; over TCP these addresses for a question that was not asked.
    WrongQuestionOverTcp(Vec<IpAddr>),
    /// The right id, then bytes that are no message.
    Junk,
    /// Bytes that are no message, the id neither.
    JunkId,
    /// The right id and nothing more; over TCP as well.
    Stub,
    /// The question come back as it went out, not marked as a response.
    Echo,
    /// `n` addresses of each family; cut with TC over UDP, whole over TCP.
    Many(usize, usize),
    /// These addresses, to be kept for zero seconds.
    ZeroTtl(Vec<IpAddr>),
    /// One CNAME in mixed case, then these addresses under the same name in another case.
    MixedCase(String, Vec<IpAddr>),
    /// These addresses; over UDP the question comes back in small letters.
    FoldsCase(Vec<IpAddr>),
    /// A CNAME to this name, whatever bytes its labels hold (`\\.` is a dot in a label), then these addresses.
    Junkname(String, Vec<IpAddr>),
    /// The first addresses for the name, the others for a name that was not asked for.
    Poison(Vec<IpAddr>, String, Vec<IpAddr>),
    /// The addresses in class CHAOS.
    WrongClass(Vec<IpAddr>),
    /// SRV records: target and port.
    Srv(Vec<(String, u16)>),
    /// SERVFAIL with this Extended DNS Error (RFC 8914).
    Ede(u16),
    /// SERVFAIL, and these addresses for whoever says not to check (CD).
    Unvalidated(Vec<IpAddr>),
    /// These addresses with the AD bit for whoever asks for it, with a chain through these names.
    Authentic(Vec<String>, Vec<IpAddr>),
    /// As `Authentic` for A; AAAA without the bit.
    HalfAuthentic(Vec<IpAddr>),
    /// One CNAME and these addresses, to be kept for so many seconds.
    Ttl(u32, String, Vec<IpAddr>),
    /// First other addresses from another port, then these from the right one.
    Elsewhere(Vec<IpAddr>, Vec<IpAddr>),
    /// These addresses, three times.
    Thrice(Vec<IpAddr>),
    /// These addresses, late, to the first question of each type; nothing to the next ones.
    LateOnce(Duration, Vec<IpAddr>),
    /// Nothing to the first questions of each type, these addresses from then on.
    Deaf(usize, Vec<IpAddr>),
    /// Bytes that come of these addresses by chance changes: another seed, other changes.
    Noise(u64, Vec<IpAddr>),
}

/// Questions that came in, by name in small letters, type (`A`) and transport (`udp` or `tcp`).
type Counts = BTreeMap<(String, String, &'static str), usize>;

/// The running server.
pub(crate) struct Nameserver {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    names: BTreeMap<String, Behaviour>,
    counts: Mutex<Counts>,
    /// Questions in the order they came, names as they were spelled.
    spelled: Mutex<Vec<String>>,
    stop: AtomicBool,
    /// How many questions are answered before there is silence for good.
    patience: AtomicUsize,
}

/// What to do with one question.
enum Reply {
    Send(Vec<u8>),
    Later(Duration, Vec<u8>),
    /// The first from a port that was not asked, then the second from the one that was.
    Elsewhere(Vec<u8>, Vec<u8>),
    Thrice(Vec<u8>),
    Nothing,
    /// Over TCP: close.
    Close,
}

impl Nameserver {
    /// Serves these names over UDP and TCP; all others do not exist.
    pub(crate) fn start(names: &[(&str, Behaviour)]) -> Self {
        let (udp, tcp) = sockets();
        Self::run(names, udp, Some(tcp))
    }

    /// Serves these names over UDP only: TCP connections are refused.
    pub(crate) fn start_without_tcp(names: &[(&str, Behaviour)]) -> Self {
        let (udp, _) = sockets();
        Self::run(names, udp, None)
    }

    /// A server that never says a word.
    pub(crate) fn dead() -> Self {
        Self::start_without_tcp(&[]).silent_after(0)
    }

    fn run(names: &[(&str, Behaviour)], udp: UdpSocket, tcp: Option<TcpListener>) -> Self {
        let addr = udp.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            names: names.iter().map(|(name, behaviour)| ((*name).to_owned(), behaviour.clone())).collect(),
            counts: Mutex::default(),
            spelled: Mutex::default(),
            stop: AtomicBool::new(false),
            patience: AtomicUsize::new(usize::MAX),
        });
        let mut threads = vec![thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.serve_udp(&udp)
        })];
        threads.extend(tcp.map(|tcp| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.serve_tcp(&tcp))
        }));
        Self { addr, shared, threads }
    }

    /// Answers so many more questions, then none, whatever they are.
    pub(crate) fn silent_after(self, questions: usize) -> Self {
        self.shared.patience.store(questions, Ordering::Relaxed);
        self
    }

    /// How often this was asked.
    pub(crate) fn count(&self, name: &str, kind: &str, transport: &'static str) -> usize {
        let counts = self.shared.counts.lock().expect("no panic while counting");
        counts.get(&(name.to_owned(), kind.to_owned(), transport)).copied().unwrap_or(0)
    }

    /// How many questions came in all, without the one for the root that only asks whether anybody is there.
    pub(crate) fn total(&self) -> usize {
        let counts = self.shared.counts.lock().expect("no panic while counting");
        counts.iter().filter(|((name, ..), _)| name != ".").map(|(_, count)| count).sum()
    }

    /// The names as they were spelled in the questions.
    pub(crate) fn spelled(&self) -> Vec<String> {
        self.shared.spelled.lock().expect("no panic while counting").clone()
    }
}

impl Drop for Nameserver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            // A panic in the server would otherwise pass for silence.
            if !thread::panicking() {
                ended.expect("the name server panicked");
            }
        }
    }
}

/// A port that is free for UDP and TCP.
fn sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let addr = udp.local_addr().expect("a bound socket has an address");
        if let Ok(tcp) = TcpListener::bind(addr) {
            return (udp, tcp);
        }
    }
    panic!("no port is free for UDP and TCP");
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn serve_udp(&self, socket: &UdpSocket) {
        socket.set_read_timeout(Some(TICK)).expect("a timeout can be set");
        let mut buffer = [0; 4096];
        let mut waiting: Vec<(Instant, Vec<u8>, SocketAddr)> = Vec::new();
        while !self.stopped() {
            waiting.retain(|(due, bytes, peer)| {
                let now = Instant::now() >= *due;
                if now {
                    let _ = socket.send_to(bytes, peer);
                }
                !now
            });
            let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
            match self.reply(&buffer[..length], "udp") {
                Reply::Send(bytes) => {
                    let _ = socket.send_to(&bytes, peer);
                }
                Reply::Later(delay, bytes) => waiting.push((Instant::now() + delay, bytes, peer)),
                Reply::Elsewhere(false_one, bytes) => {
                    let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
                    let _ = other.send_to(&false_one, peer);
                    waiting.push((Instant::now() + TICK * 4, bytes, peer));
                }
                Reply::Thrice(bytes) => {
                    for _ in 0..3 {
                        let _ = socket.send_to(&bytes, peer);
                    }
                }
                Reply::Nothing | Reply::Close => {}
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        // Kept open and never answered.
        let mut held = Vec::new();
        while !self.stopped() {
            match listener.accept() {
                Ok((stream, _)) => held.extend(self.serve_connection(stream)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(TICK),
                Err(_) => {}
            }
        }
    }

    /// One question, one answer. Gives back the connection when it is to stay open.
    fn serve_connection(&self, mut stream: TcpStream) -> Option<TcpStream> {
        stream.set_nonblocking(false).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).ok()?;
        match self.reply(&question, "tcp") {
            Reply::Send(bytes) | Reply::Later(_, bytes) | Reply::Elsewhere(_, bytes) | Reply::Thrice(bytes) => {
                let length = u16::try_from(bytes.len()).expect("fits in a TCP message");
                stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).ok()?;
                None
            }
            Reply::Nothing => Some(stream),
            Reply::Close => None,
        }
    }

    fn reply(&self, bytes: &[u8], transport: &'static str) -> Reply {
        let request = Message::from_vec(bytes).expect("the tool sends good messages");
        let question = request.queries.first().expect("the tool asks something").clone();
        let name = question.name.to_ascii().to_ascii_lowercase();
        let name = if name == "." { name } else { name.trim_end_matches('.').to_owned() };
        let nth = {
            let mut counts = self.counts.lock().expect("no panic while counting");
            let count = counts.entry((name.clone(), question.query_type.to_string(), transport)).or_default();
            *count += 1;
            *count
        };
        self.spelled.lock().expect("no panic while counting").push(question.name.to_ascii());
        let left = self.patience.load(Ordering::Relaxed);
        if left == 0 {
            return Reply::Nothing;
        }
        self.patience.store(if left == usize::MAX { left } else { left - 1 }, Ordering::Relaxed);
        let behaviour = match (self.names.get(&name), name.as_str()) {
            (Some(behaviour), _) => behaviour.clone(),
            (None, ".") => Behaviour::NoData,
            (None, _) => Behaviour::NxDomain,
        };
        Draft::new(request, question, transport, nth).reply(behaviour)
    }
}

/// An answer in the making.
struct Draft {
    request: Message,
    message: Message,
    question: Query,
    transport: &'static str,
    nth: usize,
    ttl: u32,
}

impl Draft {
    fn new(request: Message, question: Query, transport: &'static str, nth: usize) -> Self {
        let mut message = Message::response(request.id, request.op_code);
        message.metadata.recursion_desired = true;
        message.metadata.recursion_available = true;
        message.add_query(question.clone());
        Self { request, message, question, transport, nth, ttl: 300 }
    }

    fn reply(mut self, behaviour: Behaviour) -> Reply {
        use Behaviour as B;
        let asked = self.question.name.clone();
        let udp = self.transport == "udp";
        let aaaa = self.question.query_type == RecordType::AAAA;
        match behaviour {
            B::Answer(ips) => self.addresses(&asked, &ips),
            B::Chain(names, ips) => self.chain(&names, &ips),
            B::Backwards(names, ips) => {
                self.chain(&names, &ips);
                self.message.answers.reverse();
            }
            B::Step(target) => {
                self.cname(&asked, &name(&target));
            }
            B::DeadEnd(target) => {
                self.cname(&asked, &name(&target));
                self.soa();
            }
            B::DeadName(target) => {
                self.cname(&asked, &name(&target));
                self.soa();
                self.message.metadata.response_code = ResponseCode::NXDomain;
            }
            B::Fork(one, other) => {
                self.cname(&asked, &name(&one));
                self.cname(&asked, &name(&other));
                self.addresses(&name(&one), &["192.0.2.1".parse().expect("an address")]);
                self.addresses(&name(&other), &["192.0.2.2".parse().expect("an address")]);
            }
            B::Loop(names) => {
                let mut at = asked.clone();
                for next in &names {
                    at = self.cname(&at, &name(next));
                }
                self.cname(&at, &asked);
            }
            B::NxDomain => self.code(ResponseCode::NXDomain),
            B::NxDomainWith(ips) => {
                self.addresses(&asked, &ips);
                self.code(ResponseCode::NXDomain);
            }
            B::NxDomainForAaaa(_) if aaaa => self.code(ResponseCode::NXDomain),
            B::NxDomainForAaaa(ips) => self.addresses(&asked, &ips),
            B::NoData => self.soa(),
            B::Empty => {}
            B::ServFail => self.code(ResponseCode::ServFail),
            B::ServFailOnce(_) if self.nth == 1 => self.code(ResponseCode::ServFail),
            B::ServFailOnce(ips) => self.addresses(&asked, &ips),
            B::Refused => self.code(ResponseCode::Refused),
            B::Referral => {
                self.message.metadata.recursion_available = false;
                let ns = RData::NS(NS(name("ns.example.org")));
                self.message.add_authority(Record::from_rdata(name("org"), self.ttl, ns));
            }
            B::NotImplemented => self.code(ResponseCode::NotImp),
            B::NoEdns(_) if self.request.edns.is_some() => {
                self.code(ResponseCode::FormErr);
            }
            B::NoEdns(ips) => self.addresses(&asked, &ips),
            B::Silent => return Reply::Nothing,
            B::SilentForAaaa(_) if aaaa => return Reply::Nothing,
            B::SilentForAaaa(ips) => self.addresses(&asked, &ips),
            B::Slow(delay, ips) => {
                self.addresses(&asked, &ips);
                return Reply::Later(delay, self.bytes());
            }
            B::Truncated(ips) | B::TruncatedTcpCloses(ips) | B::TruncatedTcpSilent(ips) if udp => self.cut(&ips),
            B::Truncated(ips) => self.addresses(&asked, &ips),
            B::TruncatedTcpCloses(_) => return Reply::Close,
            B::TruncatedTcpSilent(_) => return Reply::Nothing,
            B::TruncatedAlways(ips) => self.cut(&ips),
            B::WrongId(ips) => {
                self.addresses(&asked, &ips);
                self.message.metadata.id = self.request.id.wrapping_add(1);
            }
            B::WrongQuestionOverTcp(ips) if udp => self.cut(&ips),
            B::WrongQuestion(ips) | B::WrongQuestionOverTcp(ips) => {
                // The addresses stand under the asked name too: only the question tells that they are not for us.
                self.addresses(&asked, &ips);
                self.message.queries[0].name = name("another.example.org");
            }
            B::Junk => return Reply::Send([&self.request.id.to_be_bytes()[..], &[0x81, 0x80, 0xff, 0xff, 7]].concat()),
            B::JunkId => return Reply::Send(vec![0xa5; 40]),
            B::Stub => return Reply::Send(self.request.id.to_be_bytes().to_vec()),
            B::Echo => return Reply::Send(self.request.to_vec().expect("it was a message before")),
            B::Many(v4, v6) => {
                let ips: Vec<IpAddr> = if aaaa {
                    (0..v6).map(|n| format!("2001:db8::{n:x}").parse().expect("an address")).collect()
                } else {
                    // Not one of these is ever connected to.
                    (0..v4).map(|n| Ipv4Addr::from(0xC633_6400 + u32::try_from(n).expect("few")).into()).collect()
                };
                self.addresses(&asked, &ips);
            }
            B::ZeroTtl(ips) => {
                self.ttl = 0;
                self.addresses(&asked, &ips);
            }
            B::MixedCase(target, ips) => {
                self.cname(&name(&asked.to_ascii().to_ascii_uppercase()), &name(&target));
                self.addresses(&name(&target.to_ascii_uppercase()), &ips);
            }
            B::FoldsCase(ips) => {
                self.addresses(&asked, &ips);
                self.message.queries[0].name = asked.to_lowercase();
            }
            B::Junkname(target, ips) => {
                let end = any_name(&target);
                self.cname(&asked, &end);
                self.addresses(&end, &ips);
            }
            B::Poison(ips, other, more) => {
                self.addresses(&asked, &ips);
                self.addresses(&name(&other), &more);
            }
            B::WrongClass(ips) => {
                self.addresses(&asked, &ips);
                for record in &mut self.message.answers {
                    record.dns_class = hickory_proto::rr::DNSClass::CH;
                }
            }
            B::Ede(code) => {
                self.code(ResponseCode::ServFail);
                let edns = self.message.edns.get_or_insert_with(Edns::new);
                let data = [&code.to_be_bytes()[..], b"said so"].concat();
                edns.options_mut().insert(EdnsOption::Unknown(15, data));
            }
            B::Unvalidated(ips) => {
                if self.request.checking_disabled {
                    self.addresses(&asked, &ips);
                } else {
                    self.code(ResponseCode::ServFail);
                }
            }
            B::Authentic(names, ips) => {
                self.message.metadata.authentic_data = self.request.authentic_data;
                self.chain(&names, &ips);
            }
            B::HalfAuthentic(ips) => {
                self.message.metadata.authentic_data = !aaaa;
                self.addresses(&asked, &ips);
            }
            B::Ttl(ttl, target, ips) => {
                self.ttl = ttl;
                self.chain(&[target], &ips);
            }
            B::Elsewhere(other, ips) => {
                let mut false_one = Self::new(self.request.clone(), self.question.clone(), self.transport, self.nth);
                false_one.addresses(&asked, &other);
                self.addresses(&asked, &ips);
                return Reply::Elsewhere(false_one.bytes(), self.bytes());
            }
            B::Thrice(ips) => {
                self.addresses(&asked, &ips);
                return Reply::Thrice(self.bytes());
            }
            B::LateOnce(delay, ips) => {
                if self.nth > 1 {
                    return Reply::Nothing;
                }
                self.addresses(&asked, &ips);
                return Reply::Later(delay, self.bytes());
            }
            B::Deaf(times, ips) => {
                if self.nth <= times {
                    return Reply::Nothing;
                }
                self.addresses(&asked, &ips);
            }
            B::Noise(seed, ips) => {
                self.addresses(&asked, &ips);
                return Reply::Send(noise(seed, self.bytes()));
            }
            B::Srv(targets) => {
                if self.question.query_type == RecordType::SRV {
                    for (target, port) in targets {
                        let target = any_name(&target);
                        let data = RData::SRV(SRV::new(10, 10, port, target));
                        self.message.add_answer(Record::from_rdata(asked.clone(), self.ttl, data));
                    }
                }
            }
        }
        Reply::Send(self.bytes())
    }

    fn code(&mut self, code: ResponseCode) {
        self.message.metadata.response_code = code;
    }

    /// The addresses of the family asked for.
    fn addresses(&mut self, owner: &Name, ips: &[IpAddr]) {
        for ip in ips {
            let data = match (self.question.query_type, ip) {
                (RecordType::A, IpAddr::V4(ip)) => RData::A(A(*ip)),
                (RecordType::AAAA, IpAddr::V6(ip)) => RData::AAAA(AAAA(*ip)),
                _ => continue,
            };
            self.message.add_answer(Record::from_rdata(owner.clone(), self.ttl, data));
        }
        if self.message.answers.is_empty() {
            self.soa();
        }
    }

    /// The first address and TC: a part that looks like an answer.
    fn cut(&mut self, ips: &[IpAddr]) {
        let asked = self.question.name.clone();
        self.addresses(&asked, ips);
        self.message.answers.truncate(1);
        self.message.metadata.truncation = true;
    }

    fn cname(&mut self, owner: &Name, target: &Name) -> Name {
        self.message.add_answer(Record::from_rdata(owner.clone(), self.ttl, RData::CNAME(CNAME(target.clone()))));
        target.clone()
    }

    fn chain(&mut self, names: &[String], ips: &[IpAddr]) {
        let mut at = self.question.name.clone();
        for next in names {
            at = self.cname(&at, &name(next));
        }
        self.addresses(&at, ips);
        if !self.message.answers.iter().any(|record| record.record_type() == self.question.query_type) {
            self.soa();
        }
    }

    fn soa(&mut self) {
        let soa = SOA::new(name("ns.example.org"), name("hostmaster.example.org"), 1, 3600, 900, 604_800, 300);
        if self.message.authorities.is_empty() {
            self.message.add_authority(Record::from_rdata(Name::root(), self.ttl, RData::SOA(soa)));
        }
    }

    /// As the transport carries it: what is too long for UDP is cut as a good server cuts it.
    fn bytes(mut self) -> Vec<u8> {
        let whole = self.message.to_vec().expect("a message that can be sent");
        let room = self.request.edns.as_ref().map_or(UDP_MAX, |edns| edns.max_payload().max(UDP_MAX));
        if self.transport == "tcp" || whole.len() <= usize::from(room) {
            return whole;
        }
        self.message.answers.truncate(10);
        self.message.metadata.truncation = true;
        self.message.to_vec().expect("a message that can be sent")
    }
}

/// Some bytes changed, cut off or added; the id stays.
fn noise(seed: u64, mut bytes: Vec<u8>) -> Vec<u8> {
    // xorshift: any seed but 0.
    let mut state = seed | 1;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below.max(1)).expect("a length")).expect("below a length")
    };
    for _ in 0..=next(6) {
        let at = 2 + next(bytes.len() - 2);
        bytes[at] = u8::try_from(next(256)).expect("a byte");
    }
    match next(4) {
        0 => bytes.truncate(2 + next(bytes.len() - 2)),
        1 => bytes.extend((0..next(64)).map(|n| u8::try_from(n * 3).expect("a byte"))),
        _ => {}
    }
    bytes
}

/// A fully qualified name.
fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).expect("a name");
    name.set_fqdn(true);
    name
}

/// A name of any bytes, as the wire can carry it.
fn any_name(text: &str) -> Name {
    let text = text.replace("\\.", "\u{1}");
    let labels = text.split('.').filter(|label| !label.is_empty());
    let labels = labels.map(|label| label.replace('\u{1}', ".").into_bytes());
    let mut name = Name::from_labels(labels).expect("labels the wire can carry");
    name.set_fqdn(true);
    name
}

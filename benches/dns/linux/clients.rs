//! Clients that are made here, each a process of its own: our resolver, hickory's, and batches with a barrier.
//!
//! Every one reads names from a file, asks for A and AAAA, and writes what it heard to another: `NAME ADDRESS`, and
//! `NAME CNAME TARGET` where it tells.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use super::floor;
use clap::ValueEnum;
use futures_util::StreamExt;
use futures_util::stream;
use hickory_proto::op::{Message, Query as Question};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use outgate::host::{Host, Query};
use outgate::resolve::Resolve;
use outgate::resolve::dns::Dns;

/// Names hickory is asked for at once.
const HICKORY_AT_ONCE: usize = 1000;
/// Questions of one batch.
const BATCH: usize = 100;
/// How long a question of a batch waits for its answer.
const BATCH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long it then waits to be asked again.
const BATCH_BACKOFF: Duration = Duration::from_millis(100);
/// How long one question may take in all.
const BATCH_LIFETIME: Duration = Duration::from_secs(5);

/// Which client to be.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Client {
    /// This crate's resolver with its default settings.
    Outgate,
    /// hickory-resolver with its default settings, a thousand names at once.
    Hickory,
    /// A hundred questions, all of them answered or given up, and only then the next hundred.
    Batches,
    /// What the datagrams alone cost.
    Floor,
}

/// What any client comes to: its answers are written, or why not.
type Outcome = Result<(), Box<dyn Error>>;

impl Client {
    /// Asks this server for the names in one file and writes what it says to another.
    pub(crate) fn run(self, server: SocketAddr, names: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
        let names = fs::read_to_string(names)?;
        let mut out = BufWriter::with_capacity(1 << 16, File::create(out)?);
        match self {
            Self::Outgate => outgate(server, &names, &mut out),
            Self::Hickory => hickory(server, &names, &mut out),
            Self::Batches => batches(server, &names, &mut out),
            Self::Floor => floor::run(server, &names, &mut out),
        }?;
        Ok(out.flush()?)
    }
}

fn outgate(server: SocketAddr, names: &str, text: &mut impl Write) -> Outcome {
    let queries = names
        .lines()
        .map(|name| Ok(Query::Host(Host::parse(name)?)))
        .collect::<Result<BTreeSet<_>, Box<dyn Error>>>()?;
    let heard = Dns::with_servers(&[server]).resolve(&queries, &|_, _| {})?;
    let mut line = Vec::new();
    for (query, replies) in &heard.replies {
        for reply in replies {
            for link in &reply.chain {
                writeln!(text, "{query} CNAME {}", link.host)?;
            }
            let Query::Host(host) = query else { continue };
            for &address in reply.addresses.keys() {
                line.clear();
                line.extend_from_slice(host.as_str().as_bytes());
                line.push(b' ');
                put_address(&mut line, address);
                line.push(b'\n');
                text.write_all(&line)?;
            }
        }
    }
    // The end of the process is near, and takes it all at once.
    std::mem::forget((queries, heard));
    Ok(())
}

/// An address as text. By hand, as massdns does it: what the standard library needs for it is no part of a resolver.
fn put_address(text: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (at, byte) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    text.push(b'.');
                }
                if byte >= 100 {
                    text.push(b'0' + byte / 100);
                }
                if byte >= 10 {
                    text.push(b'0' + byte / 10 % 10);
                }
                text.push(b'0' + byte % 10);
            }
        }
        IpAddr::V6(v6) => {
            for (at, group) in v6.segments().into_iter().enumerate() {
                if at > 0 {
                    text.push(b':');
                }
                let digit = |shift: u16| b"0123456789abcdef"[usize::from(group >> shift & 15)];
                // Most groups are zero.
                if group > 15 {
                    text.extend([12, 8, 4].into_iter().filter(|shift| group >> shift > 0).map(digit));
                }
                text.push(digit(0));
            }
        }
    }
}

fn hickory(server: SocketAddr, names: &str, text: &mut impl Write) -> Outcome {
    let mut known = NameServerConfig::udp(server.ip());
    known.connections.iter_mut().for_each(|connection| connection.port = server.port());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![known]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let resolver = &builder.build()?;
        let mut answers = stream::iter(names.lines())
            .map(|name| async move { (name, resolver.lookup_ip(format!("{name}.")).await) })
            .buffer_unordered(HICKORY_AT_ONCE);
        while let Some((name, answer)) = answers.next().await {
            // What fails is missing from the output, and is missed there.
            for address in answer.iter().flat_map(|found| found.iter()) {
                writeln!(text, "{name} {address}")?;
            }
        }
        Ok(())
    })
}

/// The shape of OPNsense's alias resolver, without Python's share of the time: batches of 100 questions, two of them a
/// name; a question waits 2 s and, after 0.1 s, is asked again, for 5 s in all; the next batch begins when the last
/// question of this one is done; the targets of CNAMEs are asked for by their own names though their addresses are
/// known. The last name that was queued is the first that is asked.
fn batches(server: SocketAddr, names: &str, text: &mut impl Write) -> Outcome {
    let mut queue: VecDeque<String> = names.lines().map(str::to_owned).collect();
    let mut known = HashSet::new();
    while !queue.is_empty() {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH
            && let Some(name) = queue.pop_back()
        {
            if known.insert(name.clone()) {
                batch.extend([RecordType::A, RecordType::AAAA].map(|kind| (name.clone(), kind)));
            }
        }
        for (name, answer) in ask_batch(server, &batch)? {
            for record in answer.answers {
                match record.data {
                    RData::A(address) => writeln!(text, "{name} {address}")?,
                    RData::AAAA(address) => writeln!(text, "{name} {address}")?,
                    RData::CNAME(target) => {
                        let target = target.0.to_ascii();
                        let target = target.trim_end_matches('.');
                        writeln!(text, "{name} CNAME {target}")?;
                        queue.push_back(target.to_owned());
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

/// What became of one question of a batch.
enum State {
    /// Asked, and no answer until this time: then a pause.
    Asked(Instant),
    /// To be asked at this time.
    Pausing(Instant),
    Done,
}

/// Asks every question at once and returns when each has its answer or has been given up.
fn ask_batch(server: SocketAddr, questions: &[(String, RecordType)]) -> Result<Vec<(String, Message)>, Box<dyn Error>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(server)?;
    let begin = Instant::now();
    let end = begin + BATCH_LIFETIME;
    let mut states: Vec<_> = questions.iter().map(|_| State::Pausing(begin)).collect();
    let mut answers = Vec::with_capacity(questions.len());
    loop {
        let now = Instant::now();
        let mut next = end;
        let mut waiting = false;
        for (at, state) in states.iter_mut().enumerate() {
            match *state {
                _ if now >= end => *state = State::Done,
                State::Asked(until) if now >= until => *state = State::Pausing(now + BATCH_BACKOFF),
                State::Pausing(until) if now >= until => {
                    let (name, kind) = &questions[at];
                    let mut message = Message::query();
                    message.metadata.id = u16::try_from(at)?;
                    message.metadata.recursion_desired = true;
                    message.add_query(Question::query(Name::from_ascii(format!("{name}."))?, *kind));
                    socket.send(&message.to_vec()?)?;
                    *state = State::Asked(now + BATCH_TIMEOUT);
                }
                _ => {}
            }
            if let State::Asked(until) | State::Pausing(until) = *state {
                waiting = true;
                next = next.min(until);
            }
        }
        if !waiting {
            return Ok(answers);
        }
        let patience = next.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
        socket.set_read_timeout(Some(patience))?;
        let mut buffer = [0; 4096];
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error.into()),
        };
        let Ok(message) = Message::from_vec(&buffer[..length]) else { continue };
        let at = usize::from(message.metadata.id);
        if let Some(state) = states.get_mut(at)
            && !matches!(state, State::Done)
        {
            *state = State::Done;
            answers.push((questions[at].0.clone(), message));
        }
    }
}

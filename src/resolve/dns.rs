//! [`Resolve`] over DNS. The only file that knows hickory, tokio and futures; the runtime lives and dies in here.
//!
//! hickory carries the messages (encoding, random ports and ids, 0x20, TCP framing); which server is asked, what is
//! retried and what counts as an answer is decided here. hickory's own resolver is not used: as of 0.26.3 it gives out
//! addresses that stand under other names than the one asked, and those of an answer that says the name does not exist;
//! it calls a CNAME loop and a referral "no records"; it does not tell which server answered, loses the chain of a name
//! that fails, and answers for `localhost`, `.invalid` and `.onion` without asking anybody. One message out and one
//! message in hides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{join, join_all};
use futures_util::stream;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::tcp::TcpClientStream;
use hickory_resolver::net::udp::UdpClientStream;
use hickory_resolver::net::xfer::{DnsHandle, DnsRequestSender, FirstAnswer};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Query as Question, ResponseCode};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType as Kind};
use tokio::time::Instant;

use super::{Failure, Heard, Link, RecordType, Reply, Resolve, ResolveError};
use crate::host::{Host, Query, Service};

/// Port of a name server whose address came without one.
const PORT: u16 = 53;
/// Longest CNAME chain that is followed; resolvers stop at 8 to 16.
const CHAIN_MAX: usize = 16;
/// Most addresses one host may have. The largest anycast sets have some dozens.
const ADDRESSES_MAX: usize = 4096;
/// Most hosts one service may select.
const TARGETS_MAX: usize = 64;

/// How long and how hard to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long to wait for one message. A cut answer is asked for once more over TCP and gets this time again.
    pub timeout: Duration,
    /// How many times to go down the list of name servers with one question.
    pub attempts: usize,
    /// How many names to ask for at once. Each is at most two questions at a time: A and AAAA.
    pub concurrency: usize,
    /// How long the whole run may take. What is not answered by then is a [`Failure::Timeout`].
    pub budget: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(2), attempts: 2, concurrency: 64, budget: Duration::from_secs(120) }
    }
}

/// Asks name servers: in the order given, one at a time, with nothing remembered between two runs.
///
/// The next server is asked when one is silent, cannot answer, will not answer or sends what cannot be used. That a
/// name does not exist, or has no addresses, is an answer, and final.
#[derive(Clone, Debug)]
pub struct Dns {
    servers: Vec<SocketAddr>,
    settings: Settings,
}

impl Dns {
    /// The name servers this machine uses (`/etc/resolv.conf`), without its search list and its hosts file: a lock
    /// must not hold what only this machine believes.
    ///
    /// # Errors
    /// When there is no such configuration, or no name server in it.
    pub fn system() -> Result<Self, ResolveError> {
        let (config, _) = hickory_resolver::system_conf::read_system_conf().map_err(|error| {
            ResolveError(format!(
                "cannot tell which name servers this system uses: {error}; look at /etc/resolv.conf, or name a resolver"
            ))
        })?;
        let servers: Vec<_> = config.name_servers().iter().map(|server| SocketAddr::new(server.ip, PORT)).collect();
        Ok(Self::with_servers(&servers))
    }

    /// These name servers, in this order. One that is given twice is asked once.
    #[must_use]
    pub fn with_servers(servers: &[SocketAddr]) -> Self {
        let mut known = BTreeSet::new();
        let servers = servers.iter().copied().filter(|server| known.insert(*server)).collect();
        Self { servers, settings: Settings::default() }
    }

    /// The same name servers, asked with other patience.
    #[must_use]
    pub fn with_settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// The name servers, in the order they are asked.
    #[must_use]
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    async fn run(&self, queries: &BTreeSet<Query>, progress: &dyn Fn(usize, usize)) -> Result<Heard, ResolveError> {
        let mut session = Session {
            servers: self.servers.clone(),
            settings: self.settings,
            // Background tasks of TCP connections end with their provider: it must outlive every question.
            provider: TokioRuntimeProvider::new(),
            deadline: Instant::now() + self.settings.budget,
        };
        session.servers = session.living().await;
        if session.servers.is_empty() {
            return Err(self.nobody());
        }

        let silent = self.servers.iter().filter(|server| !session.servers.contains(server));
        let mut heard = Heard { silent: silent.map(ToString::to_string).collect(), ..Heard::default() };
        let mut wanted = queries.clone();
        let mut total = wanted.len();
        // Twice at most: targets of services are hosts, and hosts want nothing more.
        while !wanted.is_empty() {
            let mut asked = stream::iter(std::mem::take(&mut wanted))
                .map(|query| session.answer(query))
                .buffer_unordered(self.settings.concurrency.max(1));
            let mut targets = BTreeSet::new();
            while let Some((query, reply)) = asked.next().await {
                targets.extend(reply.targets.iter().map(|(host, _)| Query::Host(host.clone())));
                heard.replies.insert(query, vec![reply]);
                progress(heard.replies.len(), total);
            }
            drop(asked);
            wanted = targets.into_iter().filter(|target| !heard.replies.contains_key(target)).collect();
            total += wanted.len();
        }
        heard.out_of_time = session.limit().is_err();
        Ok(heard)
    }

    fn nobody(&self) -> ResolveError {
        let names: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        ResolveError(format!(
            "no name server answers: {} asked {} times, {} s each; check that this machine may reach them over UDP and \
             TCP, or name another resolver",
            names.join(" and "),
            self.settings.attempts.max(1),
            self.settings.timeout.as_secs_f32(),
        ))
    }
}

impl Resolve for Dns {
    fn resolve(&self, queries: &BTreeSet<Query>, progress: &dyn Fn(usize, usize)) -> Result<Heard, ResolveError> {
        if queries.is_empty() {
            return Ok(Heard::default());
        }
        if self.servers.is_empty() {
            return Err(ResolveError("there is no name server to ask: name a resolver".to_owned()));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ResolveError(format!("cannot begin to ask name servers: {error}")))?;
        runtime.block_on(self.run(queries, progress))
    }
}

/// One run: who is asked, and until when.
struct Session {
    servers: Vec<SocketAddr>,
    settings: Settings,
    provider: TokioRuntimeProvider,
    deadline: Instant,
}

/// What one question came to after every CNAME was followed.
struct Found {
    /// Who said so.
    by: BTreeSet<SocketAddr>,
    /// The CNAME targets, as far as they could be followed.
    chain: Vec<Link>,
    /// Records of the type asked for at the end of the chain; never none.
    records: Result<Vec<Record>, Failure>,
}

/// Why no server's answer could be used, and who gave the reason unless it was silence.
struct Unanswered {
    failure: Failure,
    by: Option<SocketAddr>,
}

impl Session {
    /// The servers that say anything at all, in their order. A dead one is found here once, not once a name.
    async fn living(&self) -> Vec<SocketAddr> {
        let probes = self.servers.iter().map(|&server| async move {
            let root = Question::query(Name::root(), Kind::NS);
            for _ in 0..self.settings.attempts.max(1) {
                // Nonsense is a sign of life too; what it is worth is judged a question at a time.
                if !matches!(self.over_udp(server, &root, true).await, Err(Failure::Timeout)) {
                    return Some(server);
                }
            }
            None
        });
        join_all(probes).await.into_iter().flatten().collect()
    }

    async fn answer(&self, query: Query) -> (Query, Reply) {
        let answer = match &query {
            Query::Host(host) => self.host(host).await,
            Query::Service(service) => self.service(service).await,
        };
        (query, answer)
    }

    async fn host(&self, host: &Host) -> Reply {
        let name = host.fqdn();
        let (a, aaaa) = join(self.find(&name, Kind::A), self.find(&name, Kind::AAAA)).await;
        host_answer(a, aaaa)
    }

    async fn service(&self, service: &Service) -> Reply {
        service_answer(self.find(&format!("{service}."), Kind::SRV).await)
    }

    /// Asks one question and follows CNAMEs to their end. Most servers answer with the whole chain; one that gives a
    /// step at a time is asked again.
    async fn find(&self, name: &str, kind: Kind) -> Found {
        let mut found = Found { by: BTreeSet::new(), chain: Vec::new(), records: Err(Failure::Malformed) };
        let Ok(asked) = Name::from_ascii(name) else { return found };
        let mut names = vec![asked];
        found.records = self.follow(&mut names, kind, &mut found.by, &mut found.chain).await;
        found
    }

    async fn follow(
        &self,
        names: &mut Vec<Name>,
        kind: Kind,
        by: &mut BTreeSet<SocketAddr>,
        chain: &mut Vec<Link>,
    ) -> Result<Vec<Record>, Failure> {
        loop {
            let before = names.len();
            let Some(last) = names.last() else { return Err(Failure::Malformed) };
            let (server, response) = match self.ask(&Question::query(last.clone(), kind)).await {
                Ok(good) => good,
                Err(Unanswered { failure, by: who }) => {
                    by.extend(who);
                    return Err(failure);
                }
            };
            by.insert(server);
            walk(&response.answers, names, chain)?;
            if response.response_code == ResponseCode::NXDomain {
                return Err(Failure::NxDomain);
            }
            let records: Vec<_> = names.last().map(|end| records_of(&response.answers, end, kind)).unwrap_or_default();
            if !records.is_empty() {
                return Ok(records);
            }
            // An SOA says the server looked at the end of the chain and found nothing (RFC 2308, 2.2). Without one
            // it may only have stopped half way; then the end is asked for by its own name.
            let final_word = response.authorities.iter().any(|record| matches!(record.data, RData::SOA(_)));
            if final_word || names.len() == before {
                return Err(Failure::NoData);
            }
        }
    }

    /// Goes down the list until a server answers, as often as the settings say.
    async fn ask(&self, question: &Question) -> Result<(SocketAddr, DnsResponse), Unanswered> {
        let mut heard = Unanswered { failure: Failure::Timeout, by: None };
        let mut refusing = BTreeSet::new();
        for _ in 0..self.settings.attempts.max(1) {
            for &server in &self.servers {
                if refusing.contains(&server) {
                    continue;
                }
                let failure = match self.exchange(server, question).await {
                    Ok(response) => match no_answer(&response) {
                        None => return Ok((server, response)),
                        Some(failure) => failure,
                    },
                    Err(failure) => failure,
                };
                if failure == Failure::Refused {
                    refusing.insert(server);
                }
                // Of several reasons the first that is more than silence is kept.
                if heard.failure == Failure::Timeout && failure != Failure::Timeout {
                    heard = Unanswered { failure, by: Some(server) };
                }
            }
        }
        Err(heard)
    }

    /// One question to one server: over UDP, and over TCP when the answer was cut or made no sense.
    async fn exchange(&self, server: SocketAddr, question: &Question) -> Result<DnsResponse, Failure> {
        let mut edns = true;
        let mut reply = self.over_udp(server, question, edns).await;
        if matches!(&reply, Ok(response) if response.response_code == ResponseCode::FormErr) {
            // What servers from before EDNS say to it (RFC 6891, 7).
            edns = false;
            reply = self.over_udp(server, question, edns).await;
        }
        let failure = match reply {
            Ok(response) if !response.truncation => return Ok(response),
            Ok(_) => Failure::Truncated,
            // Not the answer to what was asked, or the case of the letters lost: forged perhaps. TCP is hard to forge.
            Err(Failure::Malformed) => Failure::Malformed,
            Err(failure) => return Err(failure),
        };
        match self.over_tcp(server, question, edns).await {
            Ok(response) if !response.truncation => Ok(response),
            // What UDP gave is a part at best, and a part of an answer is none.
            _ => Err(failure),
        }
    }

    async fn over_udp(&self, server: SocketAddr, question: &Question, edns: bool) -> Result<DnsResponse, Failure> {
        let limit = self.limit()?;
        let mut stream = UdpClientStream::builder(server, self.provider.clone())
            .with_timeout(Some(limit))
            // By default one question is three datagrams. How often to ask is for the settings to say.
            .with_max_retries(1)
            .build();
        let reply = stream.send_message(request(question, edns)).first_answer();
        checked(question, tokio::time::timeout(limit, reply).await)
    }

    async fn over_tcp(&self, server: SocketAddr, question: &Question, edns: bool) -> Result<DnsResponse, Failure> {
        let limit = self.limit()?;
        let reply = async {
            let exchange = TcpClientStream::exchange(server, None, limit, None, self.provider.clone()).await?;
            exchange.send(request(question, edns)).first_answer().await
        };
        checked(question, tokio::time::timeout(limit, reply).await)
    }

    /// How long one message may take now.
    fn limit(&self) -> Result<Duration, Failure> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Failure::Timeout) } else { Ok(left.min(self.settings.timeout)) }
    }
}

/// A question as a message: recursion desired, letters in random case (draft-vixie-dnsext-dns0x20).
fn request(question: &Question, edns: bool) -> DnsRequest {
    let mut options = DnsRequestOptions::default();
    options.use_edns = edns;
    options.case_randomization = true;
    DnsRequest::from_query(question.clone(), options)
}

/// Silence is a timeout, whatever the socket called it; what is no answer to this question is malformed.
fn checked<E>(question: &Question, reply: Result<Result<DnsResponse, NetError>, E>) -> Result<DnsResponse, Failure> {
    match reply {
        // hickory compares the question over UDP only.
        Ok(Ok(response)) if response.queries.as_slice() == std::slice::from_ref(question) => Ok(response),
        Ok(Ok(_) | Err(NetError::Proto(_) | NetError::QueryCaseMismatch)) => Err(Failure::Malformed),
        Ok(Err(_)) | Err(_) => Err(Failure::Timeout),
    }
}

/// Why a response is no answer, so that the next server is asked; nothing when it is one.
fn no_answer(response: &DnsResponse) -> Option<Failure> {
    match response.response_code {
        ResponseCode::NoError if is_referral(response) => Some(Failure::Refused),
        ResponseCode::NoError | ResponseCode::NXDomain => None,
        ResponseCode::Refused => Some(Failure::Refused),
        ResponseCode::FormErr => Some(Failure::Malformed),
        _ => Some(Failure::ServFail),
    }
}

/// Whether the server only says whom else to ask. Taken for "no addresses", a server that does not recurse would
/// empty a lock.
fn is_referral(response: &DnsResponse) -> bool {
    let has = |kind| response.authorities.iter().any(|record| record.record_type() == kind);
    response.answers.is_empty() && !response.authoritative && has(Kind::NS) && !has(Kind::SOA)
}

/// Follows the CNAMEs of one response from the last of `names`.
fn walk(answers: &[Record], names: &mut Vec<Name>, chain: &mut Vec<Link>) -> Result<(), Failure> {
    while let Some(at) = names.last() {
        let mut targets = records_of(answers, at, Kind::CNAME).into_iter().filter_map(|record| match record.data {
            RData::CNAME(target) => Some((target.0, record.ttl)),
            _ => None,
        });
        let Some((target, ttl)) = targets.next() else { break };
        // A name has one CNAME; of two, nobody can say which is meant.
        if targets.any(|(other, _)| other != target) {
            return Err(Failure::Malformed);
        }
        if names.contains(&target) || chain.len() == CHAIN_MAX {
            return Err(Failure::Loop);
        }
        chain.push(Link { host: host_of(&target)?, ttl: believed(ttl) });
        names.push(target);
    }
    Ok(())
}

/// The records of one name and one type. What else a response holds was not asked for and is not believed.
fn records_of(answers: &[Record], name: &Name, kind: Kind) -> Vec<Record> {
    answers
        .iter()
        .filter(|record| record.dns_class == DNSClass::IN && record.record_type() == kind && record.name == *name)
        .cloned()
        .collect()
}

/// A name out of a message. Text form with escapes, so no byte of a label can pass for a dot.
fn host_of(name: &Name) -> Result<Host, Failure> {
    Host::parse(&name.to_ascii()).map_err(|_| Failure::Malformed)
}

/// A TTL, in seconds: one with the top bit set is 0 (RFC 2181, 8).
fn believed(ttl: u32) -> u32 {
    if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl }
}

fn host_answer(a: Found, aaaa: Found) -> Reply {
    let mut reply = Reply::default();
    let both = [(RecordType::A, a), (RecordType::Aaaa, aaaa)];
    let good = both.iter().any(|(_, found)| found.records.is_ok());
    for (kind, found) in both {
        reply.by.extend(found.by.iter().map(ToString::to_string));
        // The way to a failure is only of interest when nothing else was found.
        if found.records.is_ok() || !good {
            for link in found.chain {
                if !reply.chain.iter().any(|known| known.host == link.host) {
                    reply.chain.push(link);
                }
            }
        }
        match found.records {
            Ok(records) => reply.addresses.extend(records.iter().filter_map(address_of)),
            Err(failure) => {
                reply.failures.insert(kind, failure);
            }
        }
    }
    if reply.addresses.len() > ADDRESSES_MAX {
        reply.addresses.clear();
        reply.failures = BTreeMap::from([RecordType::A, RecordType::Aaaa].map(|kind| (kind, Failure::TooMany)));
    }
    // A family without records is normal. It is worth a word only when the other has none either, for the same reason.
    if good || reply.failures.values().any(|failure| *failure != Failure::NoData) {
        reply.failures.retain(|_, failure| *failure != Failure::NoData);
    }
    reply
}

fn address_of(record: &Record) -> Option<(IpAddr, u32)> {
    match &record.data {
        RData::A(address) => Some((IpAddr::V4(address.0), believed(record.ttl))),
        RData::AAAA(address) => Some((IpAddr::V6(address.0), believed(record.ttl))),
        _ => None,
    }
}

fn service_answer(found: Found) -> Reply {
    let mut reply =
        Reply { by: found.by.iter().map(ToString::to_string).collect(), chain: found.chain, ..Reply::default() };
    match found.records.and_then(|records| targets_of(&records)) {
        Ok(targets) => reply.targets = targets,
        Err(failure) => {
            reply.failures.insert(RecordType::Srv, failure);
        }
    }
    reply
}

/// All targets or none: a service of which half is known would be locked without the other half.
fn targets_of(records: &[Record]) -> Result<BTreeSet<(Host, u16)>, Failure> {
    let mut targets = BTreeSet::new();
    for record in records {
        let RData::SRV(srv) = &record.data else { continue };
        // "The service is decidedly not available at this domain" (RFC 2782).
        if srv.target.is_root() {
            continue;
        }
        if srv.port == 0 {
            return Err(Failure::Malformed);
        }
        targets.insert((host_of(&srv.target)?, srv.port));
    }
    match targets.len() {
        0 => Err(Failure::NoData),
        1..=TARGETS_MAX => Ok(targets),
        _ => Err(Failure::Malformed),
    }
}

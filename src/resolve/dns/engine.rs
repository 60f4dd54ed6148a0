//! Questions under way: sends them, sends them again, fits answers to them, and finds who is dead.
//!
//! Plain DNS is spoken here over a few sockets for all questions, so that one system call carries many of them. A
//! question under way is known by the socket it left by and its id; each time it is sent it gets another id, so that
//! an answer tells which sending it is for and how long it took. While questions are few each has a port of its own.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::{Future as _, poll_fn};
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, Stream as _};
use hickory_resolver::proto::rr::RecordType as Kind;
use rand::RngExt as _;
use rand::rngs::ThreadRng;

use super::labels::Labels;
use super::message::{Question, Record, Word, id_of, read, set_id};
use super::pace::Pace;
use super::reply::reply_of;
use super::server::Server;
use super::socket::{BATCH, Headers, Inbox, Outbox, Socket};
use super::stream::{Streams, Unheard};
use super::walk::{Carrier, List, Step, Walk};
use super::wheel::Wheel;
use super::{Settings, Upstream};
use crate::host::Query;
use crate::resolve::Reply;

/// Most times one question is sent to one server while its answer is waited for.
const SENDS: usize = 6;
/// Sockets of a run of few questions: each question has its own while so many are enough.
const SOCKETS: usize = 64;
/// Sockets of a run of many.
const SHARED: usize = 8;
/// A run of few questions has no more than these, with one server.
const FEW: usize = 1024;
/// So many names are asked in the order of their lengths, and then as many more.
const TOGETHER: usize = 4096;
/// Questions over TCP at once, all servers together. Each is a connection.
const STREAMS: usize = 32;
/// Questions over TLS or HTTPS at once, a server.
pub(super) const SECURE: usize = 64;
/// A server is asked whether it is there when so many questions found no answer in their time and none came,
const SUSPECT: u32 = 16;
/// nor was anything heard for so long.
const QUIET: Duration = Duration::from_secs(1);
/// How often a server over TLS or HTTPS may be found to be there after all.
const REVIVALS: u32 = 16;

/// All that is under way.
pub(super) struct Engine<'a> {
    settings: &'a Settings,
    /// When the run must be over.
    deadline: Instant,
    upstreams: &'a [Upstream],
    lines: Vec<Line>,
    /// First line of each upstream.
    first: Vec<usize>,
    jobs: Vec<Job>,
    /// Those that are over, and are used again in the order in which they ended: that is nearly the order in which they lie
    /// in memory, and the processor fetches what comes next by itself.
    free_jobs: VecDeque<usize>,
    /// The names of servers that said something together, by upstream and places in its list: what replies share.
    names: Vec<BTreeMap<Vec<usize>, Arc<BTreeSet<String>>>>,
    flights: Vec<Flight>,
    free_flights: VecDeque<usize>,
    wheel: Wheel<(usize, u32)>,
    due: Vec<(usize, u32)>,
    /// Nothing while it is read.
    inbox: Option<Inbox>,
    headers: Headers,
    streams: Streams,
    /// What is under way over a stream, and what waits for one.
    streaming: FuturesUnordered<LocalBoxFuture<'static, Streamed>>,
    waiting: VecDeque<(usize, usize)>,
    tcp: usize,
    /// Steps that are to be taken: a walk, and what came to its question.
    heard: Vec<(usize, Word)>,
    /// Room for records, from answers that are done with.
    spare: Vec<Vec<Record>>,
    random: ThreadRng,
    sockets: usize,
}

/// What is known of one server, and what is under way to it.
struct Line {
    server: Server,
    name: String,
    state: State,
    pace: Pace,
    sockets: Vec<Slot>,
    /// The socket that is sent over now, of those that are shared, and how much was.
    current: (usize, usize),
    /// Walks that wait to be sent.
    backlog: VecDeque<usize>,
    under_way: usize,
    /// Questions without an answer in their time since the last answer, and when that was.
    unheard: u32,
    last: Instant,
    revivals: u32,
}

/// Whether a server is there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Being asked for the first time.
    Unknown,
    Lives,
    /// It was there, and is being asked whether it still is.
    Suspect,
    /// Not there, or it ceased to be; and why, where that is known.
    Dead {
        ever: bool,
        reason: Option<String>,
    },
}

/// A socket and the questions that are under way over it, by id: the flight, and which sending of it.
struct Slot {
    socket: Socket,
    ids: HashMap<u16, (usize, usize), BuildHasherDefault<Spread>>,
    out: Outbox,
    used: bool,
}

/// Ids are random already.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u16(u16::from(*byte)));
    }
    fn write_u16(&mut self, id: u16) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// One name, asked of one upstream.
struct Job {
    /// Place in the list of the round, and the upstream.
    query: usize,
    upstream: usize,
    /// A and AAAA, or SRV alone.
    walks: Vec<Walk>,
    open: usize,
}

/// Who a stream's answer is for.
#[derive(Clone, Copy, Debug)]
enum Ticket {
    Probe,
    Walk(usize),
}

/// What a stream came to: the server, who it is for, what it said.
type Streamed = (usize, Ticket, Result<Word, Unheard>);

/// One question under way to one server.
struct Flight {
    /// Told from an earlier question of the same place by this.
    generation: u32,
    line: usize,
    /// The walk it is for; none for the question whether anybody is there.
    walk: Option<usize>,
    bytes: Vec<u8>,
    /// Socket, id and time of each sending.
    sent: Vec<(usize, u16, Instant)>,
    /// When it is sent again, and when it is given up.
    due: Instant,
    wait: Duration,
    until: Instant,
}

/// An upstream's list as a walk sees it.
struct Below<'a> {
    lines: &'a [Line],
    passes: usize,
}

impl List for Below<'_> {
    fn len(&self) -> usize {
        self.lines.len()
    }
    fn lives(&self, at: usize) -> bool {
        self.lines.get(at).is_some_and(|line| !line.is_dead())
    }
    fn has_tcp(&self, at: usize) -> bool {
        self.lines.get(at).is_some_and(|line| line.server.is_plain())
    }
    fn passes(&self) -> usize {
        self.passes
    }
}

impl Line {
    fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead { .. })
    }

    /// Whether questions are sent to it. A first window of datagrams does not wait to see whether anybody is there; a
    /// connection has to.
    fn is_asked(&self) -> bool {
        self.state == State::Lives || self.state == State::Unknown && self.server.is_plain()
    }

    /// Whether one more question may be sent now.
    fn has_room(&self) -> bool {
        let window = if self.server.is_plain() { self.pace.window() } else { SECURE };
        self.is_asked() && self.under_way < window
    }
}

impl<'a> Engine<'a> {
    pub(super) fn new(upstreams: &'a [Upstream], settings: &'a Settings, deadline: Instant, questions: usize) -> Self {
        let now = Instant::now();
        let (mut lines, mut first) = (Vec::new(), Vec::new());
        for upstream in upstreams {
            first.push(lines.len());
            lines.extend(upstream.servers().iter().map(|server| Line {
                server: server.clone(),
                name: server.to_string(),
                state: State::Unknown,
                pace: Pace::new(settings.concurrency.max(1).saturating_mul(2)),
                sockets: Vec::new(),
                current: (0, 0),
                backlog: VecDeque::new(),
                under_way: 0,
                unheard: 0,
                last: now,
                revivals: 0,
            }));
        }
        let few = questions <= FEW;
        let sockets = if few { (SOCKETS / lines.len().max(1)).max(4) } else { SHARED };
        Self {
            settings,
            deadline,
            upstreams,
            lines,
            first,
            jobs: Vec::new(),
            free_jobs: VecDeque::new(),
            names: upstreams.iter().map(|_| BTreeMap::new()).collect(),
            flights: Vec::new(),
            free_flights: VecDeque::new(),
            wheel: Wheel::new(now),
            due: Vec::new(),
            inbox: Some(Inbox::new()),
            headers: Headers::new(),
            streams: Streams::new(settings.timeout),
            streaming: FuturesUnordered::new(),
            waiting: VecDeque::new(),
            tcp: 0,
            heard: Vec::new(),
            spare: Vec::new(),
            random: rand::rng(),
            sockets: if few { sockets } else { sockets.max(2) },
        }
    }

    /// Asks every server whether it is there. The answers are awaited with the first round.
    pub(super) fn probe_all(&mut self) {
        for line in 0..self.lines.len() {
            self.probe(line);
        }
    }

    /// The servers that are not there, each with what was found.
    pub(super) fn silent(&self) -> impl Iterator<Item = (&str, String)> {
        self.lines.iter().filter_map(|line| match &line.state {
            State::Dead { ever, reason } => Some((line.name.as_str(), found(*ever, reason.as_deref()))),
            _ => None,
        })
    }

    /// Why a server is not there, where that is known.
    pub(super) fn reason(&self, name: &str) -> Option<&str> {
        self.lines.iter().find(|line| line.name == name).and_then(|line| match &line.state {
            State::Dead { reason, .. } => reason.as_deref(),
            _ => None,
        })
    }

    /// Whether somebody of an upstream ever said anything.
    pub(super) fn ever_lived(&self, upstream: usize) -> bool {
        self.list(upstream).iter().any(|line| !matches!(line.state, State::Unknown | State::Dead { ever: false, .. }))
    }

    pub(super) fn upstreams(&self) -> usize {
        self.upstreams.len()
    }

    pub(super) fn out_of_time(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn list(&self, upstream: usize) -> &[Line] {
        let begin = self.first.get(upstream).copied().unwrap_or(0);
        let count = self.upstreams.get(upstream).map_or(0, |upstream| upstream.servers().len());
        self.lines.get(begin..begin + count).unwrap_or_default()
    }

    /// Asks every upstream for every name once. `done` is told of each reply: whose it is, for which name. An upstream
    /// nobody of which was ever there gives none.
    pub(super) async fn round(&mut self, queries: &[Query], done: &mut dyn FnMut(usize, usize, Reply)) {
        let order = order(queries);
        let mut next = vec![0; self.upstreams.len()];
        let mut open = vec![0_usize; self.upstreams.len()];
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        let mut finished: Vec<(usize, usize, Reply)> = Vec::new();
        loop {
            let now = Instant::now();
            if now >= self.deadline {
                self.give_up(&mut finished);
                self.not_asked(queries, &order, &mut next, &mut open, &mut finished);
            }
            self.take_steps(now, &mut finished);
            if finished.is_empty() {
                self.start(queries, &order, &mut next, &mut open, now, &mut finished);
            }
            let freed = !finished.is_empty();
            for (upstream, query, reply) in finished.drain(..) {
                if let Some(open) = open.get_mut(upstream) {
                    *open = open.saturating_sub(1);
                }
                // What was asked before it was known that nobody is there.
                if self.ever_lived(upstream) {
                    done(upstream, query, reply);
                }
            }
            if next.iter().all(|next| *next >= queries.len()) && open.iter().all(|open| *open == 0) {
                return;
            }
            // Room was made: more may be begun before there is anything to wait for.
            if freed {
                continue;
            }
            self.send_all();
            self.wait(sleep.as_mut(), &mut finished).await;
            self.turn();
        }
    }

    /// What was not begun when the time was over.
    fn not_asked(
        &self,
        queries: &[Query],
        order: &[usize],
        next: &mut [usize],
        open: &mut [usize],
        finished: &mut Vec<(usize, usize, Reply)>,
    ) {
        for (upstream, next) in next.iter_mut().enumerate() {
            for &query in order.get(*next..).unwrap_or_default() {
                if self.ever_lived(upstream)
                    && let Some(reply) = queries.get(query).map(unasked)
                {
                    *open.get_mut(upstream).unwrap_or(&mut 0) += 1;
                    finished.push((upstream, query, reply));
                }
            }
            *next = queries.len();
        }
    }

    /// Begins with as many names as there is room for.
    fn start(
        &mut self,
        queries: &[Query],
        order: &[usize],
        next: &mut [usize],
        open: &mut [usize],
        now: Instant,
        finished: &mut Vec<(usize, usize, Reply)>,
    ) {
        for upstream in 0..self.upstreams.len() {
            let (Some(next), Some(open)) = (next.get_mut(upstream), open.get_mut(upstream)) else { continue };
            let begin = self.first.get(upstream).copied().unwrap_or(0);
            // In the order of the list: the second is not asked before the first is known to be dead.
            let head = match self.list(upstream).iter().position(|line| !line.is_dead()) {
                Some(at) => begin + at,
                None if !self.ever_lived(upstream) => {
                    *next = queries.len();
                    continue;
                }
                // It was there, and is no more: nobody said anything to what is left.
                None => {
                    for &query in order.get(*next..).unwrap_or_default() {
                        let Some(reply) = queries.get(query).map(unasked) else { continue };
                        *open += 1;
                        finished.push((upstream, query, reply));
                    }
                    *next = queries.len();
                    continue;
                }
            };
            while *next < queries.len() && *open < self.settings.concurrency.max(1) {
                let Some(line) = self.lines.get_mut(head) else { break };
                if !line.has_room() || !line.backlog.is_empty() {
                    line.pace.held_back();
                    break;
                }
                let Some(&place) = order.get(*next) else { break };
                // Those to come are looked at together, for the same reason as a batch of answers.
                if *next % BATCH == 0 {
                    let coming = order.iter().skip(*next).take(BATCH).filter_map(|at| queries.get(*at));
                    look(coming.map(first_letter));
                    let jobs = self.free_jobs.iter().take(BATCH).filter_map(|id| self.jobs.get(*id));
                    look(jobs.flat_map(|job| &job.walks).map(Walk::touch));
                    let flights = self.free_flights.iter().take(2 * BATCH).filter_map(|at| self.flights.get(*at));
                    look(flights.filter_map(|flight| flight.bytes.first().copied().map(usize::from)));
                }
                let Some(query) = queries.get(place) else { break };
                let job = self.new_job(place, upstream, query);
                *next += 1;
                *open += 1;
                for which in 0..self.jobs.get(job).map_or(0, |job| job.walks.len()) {
                    self.step(job * 2 + which, None, now, finished);
                }
                self.take_steps(now, finished);
            }
        }
        for line in 0..self.lines.len() {
            while let Some(walk) =
                self.lines.get_mut(line).and_then(|l| if l.has_room() { l.backlog.pop_front() } else { None })
            {
                self.launch(line, Some(walk), now);
            }
        }
    }

    fn new_job(&mut self, place: usize, upstream: usize, query: &Query) -> usize {
        let id = self.free_jobs.pop_front().unwrap_or_else(|| {
            self.jobs.push(Job { query: place, upstream, walks: Vec::new(), open: 0 });
            self.jobs.len() - 1
        });
        if let Some(job) = self.jobs.get_mut(id) {
            (job.query, job.upstream) = (place, upstream);
            put_walks(query, &mut job.walks);
            job.open = job.walks.len();
        }
        id
    }

    fn take_steps(&mut self, now: Instant, finished: &mut Vec<(usize, usize, Reply)>) {
        while let Some((walk, word)) = self.heard.pop() {
            self.step(walk, Some(word), now, finished);
        }
    }

    /// Tells a walk what came, and does what it says.
    fn step(&mut self, id: usize, word: Option<Word>, now: Instant, finished: &mut Vec<(usize, usize, Reply)>) {
        let Some(job) = self.jobs.get_mut(id / 2).filter(|job| job.open > 0) else { return };
        let upstream = job.upstream;
        let begin = self.first.get(upstream).copied().unwrap_or(0);
        let count = self.upstreams.get(upstream).map_or(0, |upstream| upstream.servers().len());
        let list =
            Below { lines: self.lines.get(begin..begin + count).unwrap_or_default(), passes: self.settings.attempts };
        let Some(walk) = job.walks.get_mut(id % 2) else { return };
        let step = match word {
            None => walk.begin(&list),
            Some(word) => walk.hear(word, &list),
        };
        match step {
            Step::Ask(at, Carrier::Usual) => self.ask(begin + at, id, now),
            Step::Ask(at, Carrier::Tcp) => {
                self.waiting.push_back((begin + at, id));
                self.open_streams();
            }
            Step::Done => self.close(id / 2, finished),
        }
    }

    /// One walk of a job is at its end; with the last the name has its reply.
    fn close(&mut self, id: usize, finished: &mut Vec<(usize, usize, Reply)>) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.open = job.open.saturating_sub(1);
        if job.open > 0 {
            return;
        }
        let mut walks = std::mem::take(&mut job.walks);
        let (query, upstream) = (job.query, job.upstream);
        let reply = reply_of(&mut walks, &mut |by| self.names_of(upstream, by));
        finished.push((upstream, query, reply));
        self.spare.extend(walks.iter_mut().filter_map(Walk::spare));
        if let Some(job) = self.jobs.get_mut(id) {
            job.walks = walks;
        }
        self.free_jobs.push_back(id);
    }

    /// The names of some servers of an upstream.
    fn names_of(&mut self, upstream: usize, by: &[usize]) -> Arc<BTreeSet<String>> {
        if let Some(known) = self.names.get(upstream).and_then(|known| known.get(by)) {
            return Arc::clone(known);
        }
        let list = self.list(upstream);
        let names = Arc::new(by.iter().filter_map(|at| Some(list.get(*at)?.name.clone())).collect());
        if let Some(known) = self.names.get_mut(upstream) {
            known.insert(by.to_vec(), Arc::clone(&names));
        }
        names
    }

    /// Sends a walk's question, or puts it where it waits to be sent.
    fn ask(&mut self, line: usize, walk: usize, now: Instant) {
        let Some(l) = self.lines.get_mut(line) else { return };
        // The second question of a name goes with the first.
        if l.is_dead() {
            self.heard.push((walk, Word::Silence));
        } else if l.has_room() || (walk % 2 == 1 && l.is_asked() && l.backlog.is_empty()) {
            self.launch(line, Some(walk), now);
        } else {
            l.backlog.push_back(walk);
        }
    }

    fn probe(&mut self, line: usize) {
        let Some(l) = self.lines.get(line) else { return };
        if l.server.is_plain() {
            self.launch(line, None, Instant::now());
        } else {
            let future = self.streams.ask(&l.server, Question::probe());
            let patience = self.patience();
            self.streaming.push(Box::pin(async move {
                let word = tokio::time::timeout(patience, future).await.unwrap_or(Ok(Word::Silence));
                (line, Ticket::Probe, word)
            }));
        }
    }

    /// How long somebody is waited for before he is taken for dead.
    pub(super) fn patience(&self) -> Duration {
        self.settings.timeout.saturating_mul(u32::try_from(self.settings.attempts.max(1)).unwrap_or(u32::MAX))
    }

    fn question(&self, walk: Option<usize>) -> Question {
        let walk = walk.and_then(|id| self.jobs.get(id / 2)?.walks.get(id % 2));
        walk.map_or_else(Question::probe, Walk::question)
    }

    /// A question sets out.
    fn launch(&mut self, line: usize, walk: Option<usize>, now: Instant) {
        let question = self.question(walk);
        let patience = if walk.is_some() { self.settings.timeout } else { self.patience() };
        let Some(l) = self.lines.get_mut(line) else { return };
        l.under_way += usize::from(walk.is_some());
        if let (Some(id), false) = (walk, l.server.is_plain()) {
            let future = self.streams.ask(&l.server, question);
            self.streaming.push(Box::pin(async move { (line, Ticket::Walk(id), future.await) }));
            return;
        }
        let wait = l.pace.wait();
        let place = self.free_flights.pop_front().unwrap_or_else(|| {
            self.flights.push(Flight {
                generation: 0,
                line,
                walk,
                bytes: Vec::new(),
                sent: Vec::with_capacity(1),
                due: now,
                wait,
                until: now,
            });
            self.flights.len() - 1
        });
        if let Some(flight) = self.flights.get_mut(place) {
            flight.generation = flight.generation.wrapping_add(1);
            (flight.line, flight.walk, flight.wait) = (line, walk, wait);
            question.put(&mut flight.bytes, &mut self.random);
            flight.sent.clear();
            flight.until = now + patience;
        }
        self.send(place, now);
    }

    /// Puts a flight's question on its way once more.
    fn send(&mut self, place: usize, now: Instant) {
        let Some(flight) = self.flights.get_mut(place) else { return };
        let Some(line) = self.lines.get_mut(flight.line) else { return };
        let slot = line.slot(self.sockets, flight.sent.first().map(|(slot, ..)| *slot), &mut self.random);
        if let Some((slot, room)) = slot.and_then(|slot| Some((slot, line.sockets.get_mut(slot)?))) {
            let id = loop {
                if let Entry::Vacant(free) = room.ids.entry(self.random.random()) {
                    let id = *free.key();
                    free.insert((place, flight.sent.len()));
                    break id;
                }
            };
            set_id(&mut flight.bytes, id);
            room.used = true;
            room.out.push(&flight.bytes);
            flight.sent.push((slot, id, now));
        }
        flight.due = (now + flight.wait).min(flight.until);
        self.wheel.add(now, flight.due, (place, flight.generation));
        flight.wait *= 2;
    }

    /// A flight is over: answered, or given up.
    fn land(&mut self, place: usize) {
        let Some(flight) = self.flights.get_mut(place) else { return };
        flight.generation = flight.generation.wrapping_add(1);
        if let Some(line) = self.lines.get_mut(flight.line) {
            for (slot, id, _) in flight.sent.drain(..) {
                if let Some(slot) = line.sockets.get_mut(slot) {
                    slot.ids.remove(&id);
                }
            }
            line.under_way -= usize::from(flight.walk.is_some()).min(line.under_way);
        }
        self.free_flights.push_back(place);
    }

    /// A timer of a flight: it is sent again, or given up.
    fn expire(&mut self, place: usize, now: Instant) {
        let Some(flight) = self.flights.get_mut(place) else { return };
        let (line, walk) = (flight.line, flight.walk);
        if now < flight.due {
            self.wheel.add(now, flight.due, (place, flight.generation));
            return;
        }
        // Nobody knows yet whether anybody is there: one question finds that out, and the others wait for it.
        let unknown = self.lines.get(line).is_some_and(|line| line.state == State::Unknown);
        if unknown && walk.is_some() {
            flight.due = now + flight.wait;
            self.wheel.add(now, flight.due, (place, flight.generation));
            return;
        }
        if now >= flight.until {
            self.land(place);
            match walk {
                Some(walk) => self.heard.push((walk, Word::Silence)),
                None => self.died(line, None),
            }
            return;
        }
        if walk.is_some()
            && let Some(line) = self.lines.get_mut(line)
        {
            line.unheard += 1;
            if flight.sent.len() == 1 {
                line.pace.lost(now);
            }
        }
        // The last wait is until the end.
        if flight.sent.len() >= SENDS {
            if let Some(flight) = self.flights.get_mut(place) {
                flight.due = flight.until;
                self.wheel.add(now, flight.due, (place, flight.generation));
            }
        } else {
            self.send(place, now);
        }
        let quiet = |line: &Line| line.unheard >= SUSPECT && now.saturating_duration_since(line.last) >= QUIET;
        if let Some(l) = self.lines.get_mut(line).filter(|line| line.state == State::Lives && quiet(line)) {
            l.state = State::Suspect;
            self.probe(line);
        }
    }

    /// Something came from a server: it lives.
    fn lives(&mut self, line: usize, now: Instant) {
        let Some(l) = self.lines.get_mut(line) else { return };
        l.unheard = 0;
        l.last = now;
        if !l.is_dead() {
            l.state = State::Lives;
        }
    }

    /// A server is not there: all that is under way to it is over.
    fn died(&mut self, line: usize, reason: Option<String>) {
        let Some(l) = self.lines.get_mut(line) else { return };
        // It may have spoken since it was asked.
        if matches!(l.state, State::Lives | State::Dead { .. }) {
            return;
        }
        l.state = State::Dead { ever: l.state == State::Suspect, reason };
        self.heard.extend(l.backlog.drain(..).map(|walk| (walk, Word::Silence)));
        let mut over: Vec<usize> =
            l.sockets.iter().flat_map(|slot| slot.ids.values().map(|(place, _)| *place)).collect();
        over.sort_unstable();
        over.dedup();
        for place in over {
            let walk = self.flights.get(place).and_then(|flight| flight.walk);
            self.land(place);
            self.heard.extend(walk.map(|walk| (walk, Word::Silence)));
        }
        if let Some(l) = self.lines.get_mut(line) {
            l.sockets.clear();
        }
        let (waiting, gone) = self.waiting.drain(..).partition(|(to, _)| *to != line);
        self.waiting = waiting;
        let gone: VecDeque<(usize, usize)> = gone;
        self.heard.extend(gone.into_iter().map(|(_, walk)| (walk, Word::Silence)));
    }

    fn open_streams(&mut self) {
        while self.tcp < STREAMS
            && let Some((line, walk)) = self.waiting.pop_front()
        {
            let question = self.question(Some(walk));
            let Some(l) = self.lines.get(line) else { continue };
            self.tcp += 1;
            let future = self.streams.over_tcp(l.server.addr, question);
            self.streaming.push(Box::pin(async move { (line, Ticket::Walk(walk), Ok(future.await)) }));
        }
    }

    /// What came over a stream.
    fn streamed(&mut self, line: usize, ticket: Ticket, word: Result<Word, Unheard>, now: Instant) {
        let Some(l) = self.lines.get_mut(line) else { return };
        match ticket {
            Ticket::Probe => match word {
                Ok(Word::Silence) => self.died(line, None),
                Err(Unheard(reason)) => self.died(line, Some(reason)),
                Ok(_) => self.lives(line, now),
            },
            Ticket::Walk(walk) => {
                if l.server.is_plain() {
                    self.tcp = self.tcp.saturating_sub(1);
                    self.open_streams();
                } else {
                    l.under_way = l.under_way.saturating_sub(1);
                    if matches!(word, Ok(Word::Message(_) | Word::Garbled)) {
                        self.lives(line, now);
                    } else if let Some(l) = self.lines.get_mut(line) {
                        l.unheard += 1;
                        let held = word.is_err() && !l.is_dead() && l.revivals < REVIVALS;
                        if held {
                            // Whether there is anybody is found out once, and not at the cost of each question.
                            l.backlog.push_back(walk);
                        }
                        if l.state == State::Lives && (l.unheard >= SUSPECT || word.is_err()) {
                            l.state = State::Suspect;
                            l.revivals += 1;
                            self.probe(line);
                        }
                        if held {
                            return;
                        }
                    }
                }
                self.heard.push((walk, word.unwrap_or(Word::Silence)));
            }
        }
    }

    /// Reads what came to one of a server's sockets.
    fn receive(&mut self, line: usize, slot: usize, finished: &mut Vec<(usize, usize, Reply)>) {
        let Some(mut inbox) = self.inbox.take() else { return };
        while let Some(room) = self.lines.get(line).and_then(|line| line.sockets.get(slot)) {
            let more = inbox.receive(&room.socket);
            self.fetch(room, &inbox);
            let now = Instant::now();
            for datagram in inbox.datagrams() {
                self.take(line, slot, datagram, now, finished);
            }
            if !more {
                break;
            }
        }
        self.inbox = Some(inbox);
    }

    /// Has what a batch of answers will need brought near: each of them finds its flight and its walk where thousands lie,
    /// and one that looks by itself waits for memory by itself. Looked at together they wait once.
    fn fetch(&self, slot: &Slot, inbox: &Inbox) {
        let mut places = [usize::MAX; BATCH];
        for (place, datagram) in places.iter_mut().zip(inbox.datagrams()) {
            if let Some((known, _)) = id_of(datagram).and_then(|id| slot.ids.get(&id)) {
                *place = *known;
            }
        }
        let flights = || places.iter().filter_map(|place| self.flights.get(*place));
        let walks = flights().filter_map(|flight| self.jobs.get(flight.walk? / 2)?.walks.get(flight.walk? % 2));
        look(flights().filter_map(|flight| usize::try_from(flight.generation).ok()));
        let ends =
            flights().filter_map(|flight| flight.bytes.first().zip(flight.bytes.last()).zip(flight.sent.first()));
        look(ends.map(|((first, last), sent)| usize::from(first ^ last) ^ usize::from(sent.1)));
        look(walks.map(Walk::touch));
    }

    /// A datagram: what it is an answer to, if to anything, goes on at once, so that no answer waits in a list.
    fn take(
        &mut self,
        line: usize,
        slot: usize,
        datagram: &[u8],
        now: Instant,
        finished: &mut Vec<(usize, usize, Reply)>,
    ) {
        let Some(l) = self.lines.get_mut(line) else { return };
        let place = id_of(datagram).and_then(|id| l.sockets.get(slot)?.ids.get(&id).copied());
        let Some((place, nth)) = place else { return };
        // It is the answer to this sending; then the question is over, and a second answer finds it no more.
        let Some(flight) = self.flights.get(place) else { return };
        let room = self.spare.pop().unwrap_or_default();
        let Some(word) = read(&flight.bytes, datagram, room) else { return };
        let Some((_, _, at)) = flight.sent.get(nth).copied() else { return };
        let walk = flight.walk;
        let first = l.state == State::Unknown;
        if first {
            l.pace.begin(now.saturating_duration_since(at), now);
        } else if walk.is_some() {
            l.pace.answered(at, now);
        }
        self.land(place);
        self.lives(line, now);
        if first {
            self.hurry(line, now);
        }
        if let Some(walk) = walk {
            self.step(walk, Some(word), now, finished);
        }
    }

    /// A server has spoken for the first time, and it is known how long it takes: what was sent before waits no longer
    /// than what is sent now.
    fn hurry(&mut self, line: usize, now: Instant) {
        let Some(l) = self.lines.get(line) else { return };
        let wait = l.pace.wait();
        for &(place, _) in l.sockets.iter().flat_map(|slot| slot.ids.values()) {
            let Some(flight) = self.flights.get_mut(place).filter(|flight| flight.walk.is_some()) else { continue };
            let Some((_, _, sent)) = flight.sent.last().copied() else { continue };
            flight.generation = flight.generation.wrapping_add(1);
            flight.until = now + self.settings.timeout;
            flight.due = (sent + wait).max(now).min(flight.until);
            flight.wait = wait * 2;
            self.wheel.add(now, flight.due, (place, flight.generation));
        }
    }

    fn send_all(&mut self) {
        for line in &mut self.lines {
            for slot in line.sockets.iter_mut().filter(|slot| !slot.out.is_empty()) {
                slot.out.send(&slot.socket, &mut self.headers);
            }
        }
    }

    /// Until something came, something is due, or the time is over.
    async fn wait(&mut self, mut sleep: Pin<&mut tokio::time::Sleep>, finished: &mut Vec<(usize, usize, Reply)>) {
        let until = self.wheel.look().map_or(self.deadline, |look| look.min(self.deadline));
        if !self.heard.is_empty() {
            return;
        }
        if until <= Instant::now() {
            // What has come meanwhile is read before anything is held to be lost: the runtime looks at the sockets anew.
            tokio::task::yield_now().await;
        }
        sleep.as_mut().reset(until.into());
        let mut came: Vec<(usize, usize)> = Vec::new();
        let mut streamed = Vec::new();
        poll_fn(|context| {
            let mut ready = false;
            for (at, line) in self.lines.iter().enumerate() {
                for (slot, room) in line.sockets.iter().enumerate() {
                    if room.socket.poll_received(context) {
                        came.push((at, slot));
                    }
                    ready |= !room.out.is_empty() && room.socket.poll_sendable(context);
                }
            }
            while let Poll::Ready(Some(over)) = Pin::new(&mut self.streaming).poll_next(context) {
                streamed.push(over);
            }
            ready |= !came.is_empty() || !streamed.is_empty() || sleep.as_mut().poll(context).is_ready();
            if ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        for (line, slot) in came {
            self.receive(line, slot, finished);
        }
        let now = Instant::now();
        for (line, ticket, word) in streamed {
            self.streamed(line, ticket, word, now);
        }
    }

    /// What is due.
    fn turn(&mut self) {
        let now = Instant::now();
        let mut due = std::mem::take(&mut self.due);
        self.wheel.turn(now, &mut due);
        for (place, generation) in due.drain(..) {
            if self.flights.get(place).is_some_and(|flight| flight.generation == generation) {
                self.expire(place, now);
            }
        }
        self.due = due;
    }

    /// The time is over: every walk ends where it is.
    fn give_up(&mut self, finished: &mut Vec<(usize, usize, Reply)>) {
        self.heard.clear();
        self.waiting.clear();
        self.streaming.clear();
        self.tcp = 0;
        let unknown: Vec<usize> =
            self.lines.iter().enumerate().filter(|(_, l)| l.state == State::Unknown).map(|(at, _)| at).collect();
        for line in unknown {
            self.died(line, None);
        }
        self.heard.clear();
        for line in &mut self.lines {
            line.backlog.clear();
            line.under_way = 0;
            line.sockets.clear();
        }
        self.flights.clear();
        self.free_flights.clear();
        self.wheel = Wheel::new(Instant::now());
        for id in 0..self.jobs.len() {
            let Some(job) = self.jobs.get_mut(id).filter(|job| job.open > 0) else { continue };
            // Those that are at their end already keep what they found.
            job.walks.iter_mut().for_each(Walk::give_up);
            job.open = 1;
            self.close(id, finished);
        }
    }
}

impl Line {
    /// The socket to send over: one of its own for each question while there are enough, else one of those there are.
    fn slot(&mut self, most: usize, before: Option<usize>, random: &mut ThreadRng) -> Option<usize> {
        if most > SHARED {
            if before.is_some() {
                return before;
            }
            if let Some(idle) = self.sockets.iter().position(|slot| slot.ids.is_empty() && slot.out.is_empty()) {
                if let Some(slot) = self.sockets.get_mut(idle).filter(|slot| slot.used)
                    && let Ok(socket) = Socket::open(self.server.addr)
                {
                    // A new port: the old one may have been seen.
                    slot.socket = socket;
                    slot.used = false;
                }
                return Some(idle);
            }
        }
        if self.sockets.len() < most
            && let Ok(socket) = Socket::open(self.server.addr)
        {
            self.sockets.push(Slot { socket, ids: HashMap::default(), out: Outbox::default(), used: false });
            return Some(self.sockets.len() - 1);
        }
        if self.sockets.is_empty() {
            return None;
        }
        if most > SHARED {
            return Some(random.random_range(0..self.sockets.len()));
        }
        // A batch over one, then a batch over the next.
        let (slot, sent) = self.current;
        self.current = if sent + 1 < BATCH { (slot, sent + 1) } else { ((slot + 1) % self.sockets.len(), 0) };
        Some(slot % self.sockets.len())
    }
}

/// What was found of a server that is not there, as the end of a sentence.
fn found(ever: bool, reason: Option<&str>) -> String {
    let what = if ever { "ceased to answer" } else { "says nothing" };
    let why = reason.map_or(String::new(), |reason| format!(" ({reason})"));
    format!("{what}{why}: it was asked whether it is there, and then left alone")
}

/// Looks at each, so that what it is part of is near afterwards.
fn look(parts: impl Iterator<Item = usize>) {
    black_box(parts.fold(0, usize::wrapping_add));
}

fn first_letter(query: &Query) -> usize {
    match query {
        Query::Host(host) => host.as_str().as_bytes().first().copied().map_or(0, usize::from),
        Query::Service(_) => 0,
    }
}

/// The order to ask in: that of the list, but names of one length together, for their questions can leave as one. With
/// names of 15 to 40 characters 46 of them do instead of 6, and that is a seventh of all that a name costs.
fn order(queries: &[Query]) -> Vec<usize> {
    let length = |at: &usize| match queries.get(*at) {
        Some(Query::Host(host)) => host.as_str().len(),
        Some(Query::Service(service)) => service.to_string().len(),
        None => 0,
    };
    let mut order: Vec<usize> = (0..queries.len()).collect();
    order.chunks_mut(TOGETHER).for_each(|part| part.sort_by_key(length));
    order
}

/// What is asked for a query, into a list of walks that are over.
fn put_walks(query: &Query, walks: &mut Vec<Walk>) {
    let (name, kinds) = match query {
        Query::Host(host) => (Labels::of(host.as_str()), [Kind::A, Kind::AAAA].as_slice()),
        Query::Service(service) => (Labels::of(&service.to_string()), [Kind::SRV].as_slice()),
    };
    // A host is a name; of one that were none nothing would be known.
    let kinds = if name.is_some() { kinds } else { &[] };
    walks.truncate(kinds.len());
    for (at, (kind, name)) in kinds.iter().zip(name.iter().cycle()).enumerate() {
        match walks.get_mut(at) {
            Some(walk) => walk.renew(name.clone(), *kind),
            None => walks.push(Walk::new(name.clone(), *kind)),
        }
    }
}

/// What is known of a query that nobody was asked for.
fn unasked(query: &Query) -> Reply {
    let mut walks = Vec::new();
    put_walks(query, &mut walks);
    reply_of(&mut walks, &mut |_| Arc::default())
}

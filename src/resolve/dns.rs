//! [`Resolve`] over DNS. Only here, and in the files below, hickory, tokio, futures, nix and rand are known; the runtime
//! lives and dies in here.
//!
//! hickory reads and writes the messages and speaks TCP; which server is asked, what is retried, how much is under way
//! and what counts as an answer is decided here. hickory's own resolver is not used: as of 0.26.3 it gives out addresses
//! that stand under other names than the one asked, and those of an answer that says the name does not exist; it calls
//! a CNAME loop and a referral "no records"; it does not tell which server answered, loses the chain of a name that
//! fails, and answers for `localhost`, `.invalid` and `.onion` without asking anybody. Nor its UDP: a socket a question
//! costs ten times what the question does.
//!
//! - `server`: one name server as the command line names it.
//! - `message`: one question out, one message in; `labels`: a name in it.
//! - `walk`: one record type of one name, whom to ask next; `reply`: what the walks of a name came to.
//! - `pace`: how much to ask of one server at once, and how long to wait; `wheel`: what is due when.
//! - `socket`: datagrams by the batch; `stream`: TCP, and with the feature `secure-dns` TLS and HTTPS (`secure`).
//! - `engine`: puts these together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Heard, Reply, Resolve, ResolveError};
use crate::host::Query;

mod engine;
mod labels;
mod message;
mod pace;
mod reply;
#[cfg(feature = "secure-dns")]
mod secure;
mod server;
mod socket;
mod stream;
mod walk;
mod wheel;

use engine::Engine;
pub use server::{Server, ServerError};

/// Longest CNAME chain that is followed; resolvers stop at 8 to 16.
const CHAIN_MAX: usize = 16;
/// Most addresses one host may have. The largest anycast sets have some dozens.
const ADDRESSES_MAX: usize = 4096;
/// Most hosts one service may select.
const TARGETS_MAX: usize = 64;

/// How long and how hard to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long to wait for one server's word. While it is waited for over UDP the question is sent again, after what
    /// answers of this server usually take and some more, then after twice that, and so on. A cut answer is asked for
    /// once more over TCP and gets this time again.
    pub timeout: Duration,
    /// How many times to go down the list of name servers with one question.
    pub attempts: usize,
    /// Most names to ask an upstream for at once. Each is at most two questions at a time: A and AAAA. A server that
    /// answers slower the more it is asked is asked less.
    pub concurrency: usize,
    /// How long the whole run may take. What is not answered by then is a [`super::Failure::Timeout`].
    pub budget: Duration,
    /// Rounds: how many times everything is asked.
    pub samples: u32,
    /// Pause between two rounds.
    pub spacing: Duration,
}

impl Settings {
    /// What is used when nothing else is said.
    pub const DEFAULT: Self = Self {
        timeout: Duration::from_secs(2),
        attempts: 2,
        concurrency: 4096,
        budget: Duration::from_secs(120),
        samples: 1,
        spacing: Duration::ZERO,
    };
}

impl Default for Settings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Name servers that stand for each other: asked in this order, the next when one is silent, cannot answer, will not
/// answer or sends what cannot be used. That a name does not exist, or has no addresses, is an answer, and final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream(Vec<Server>);

impl Upstream {
    /// These servers, in this order. One that is given twice is asked once.
    #[must_use]
    pub fn new(servers: impl IntoIterator<Item = Server>) -> Self {
        let mut known = BTreeSet::new();
        Self(servers.into_iter().filter(|server| known.insert(server.clone())).collect())
    }

    /// The servers, in the order they are asked.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.0
    }
}

/// Asks name servers, with nothing remembered between two runs. Every upstream is asked for every name: what one does
/// not know another may.
#[derive(Clone, Debug)]
pub struct Dns {
    upstreams: Vec<Upstream>,
    settings: Settings,
}

impl Dns {
    /// The name servers this machine uses (`/etc/resolv.conf`), as one upstream, without its search list and its hosts
    /// file: a lock must not hold what only this machine believes.
    ///
    /// # Errors
    /// When there is no such configuration, or no name server in it.
    pub fn system() -> Result<Self, ResolveError> {
        let (config, _) = hickory_resolver::system_conf::read_system_conf().map_err(|error| {
            ResolveError(format!(
                "cannot tell which name servers this system uses: {error}; look at /etc/resolv.conf, or name a resolver"
            ))
        })?;
        let servers = config.name_servers().iter().map(|server| Server::at_port_53(server.ip));
        Ok(Self::with_upstreams([Upstream::new(servers)]))
    }

    /// These upstreams. One without servers is none.
    #[must_use]
    pub fn with_upstreams(upstreams: impl IntoIterator<Item = Upstream>) -> Self {
        let upstreams = upstreams.into_iter().filter(|upstream| !upstream.0.is_empty()).collect();
        Self { upstreams, settings: Settings::default() }
    }

    /// These name servers over UDP and TCP, each an upstream of its own. One that is given twice is asked once.
    #[must_use]
    pub fn with_servers(servers: &[SocketAddr]) -> Self {
        Self::with_each(servers.iter().copied().map(Server::plain))
    }

    /// These name servers, each an upstream of its own. One that is given twice is asked once.
    #[must_use]
    pub fn with_each(servers: impl IntoIterator<Item = Server>) -> Self {
        let servers = Upstream::new(servers).0;
        Self::with_upstreams(servers.into_iter().map(|server| Upstream::new([server])))
    }

    /// The same name servers, asked with other patience.
    #[must_use]
    pub fn with_settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// Who is asked.
    #[must_use]
    pub fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    async fn run(&self, queries: &BTreeSet<Query>, progress: &dyn Fn(usize, usize)) -> Result<Heard, ResolveError> {
        let deadline = Instant::now() + self.settings.budget;
        let rounds = usize::try_from(self.settings.samples.max(1)).unwrap_or(usize::MAX);
        let mut engine = Engine::new(&self.upstreams, &self.settings, deadline, queries.len().saturating_mul(2));
        engine.probe_all();
        let mut run = Run { queries: queries.iter().cloned().collect(), ..Run::default() };
        for round in 0..rounds {
            if round > 0 {
                let pause = self.settings.spacing.min(deadline.saturating_duration_since(Instant::now()));
                tokio::time::sleep(pause).await;
            }
            // Once more for what SRV records select: targets are hosts, and hosts want nothing more.
            let mut from = 0;
            while from < run.queries.len() {
                let to = run.queries.len();
                run.round(&mut engine, from, rounds, progress).await;
                if !(0..self.upstreams.len()).any(|upstream| engine.ever_lived(upstream)) {
                    return Err(self.nobody(&engine));
                }
                run.add_targets(from);
                from = to;
            }
        }
        // A target that came to light late has as many replies as all others. They stand at the end.
        for round in 1..rounds {
            let from = run.rounds.partition_point(|asked| *asked > round);
            if from < run.queries.len() {
                run.round(&mut engine, from, rounds, progress).await;
            }
        }
        Ok(run.heard(&engine))
    }

    fn nobody(&self, engine: &Engine<'_>) -> ResolveError {
        let mut names = Vec::new();
        for server in self.upstreams.iter().flat_map(Upstream::servers) {
            let name = server.to_string();
            names.push(match engine.reason(&name) {
                Some(reason) => format!("{name} ({reason})"),
                None => name,
            });
        }
        ResolveError(format!(
            "no name server answers: {} asked for {} s; check that this machine may reach them over UDP and TCP, or \
             name another resolver",
            names.join(" and "),
            engine.patience().as_secs_f32(),
        ))
    }
}

/// What came so far. The lists are parallel.
#[derive(Default)]
struct Run {
    /// All names: those wanted, in order, then the targets that came to light.
    queries: Vec<Query>,
    /// A place for each round and upstream; empty where that gave none.
    replies: Vec<Vec<Option<Reply>>>,
    /// How many rounds each was asked in: never more than the one before it.
    rounds: Vec<usize>,
    done: usize,
    out_of_time: bool,
}

impl Run {
    /// Asks all from a place on, once.
    async fn round(&mut self, engine: &mut Engine<'_>, from: usize, rounds: usize, progress: &dyn Fn(usize, usize)) {
        let upstreams = engine.upstreams();
        self.replies.resize(self.queries.len(), Vec::new());
        self.rounds.resize(self.queries.len(), 0);
        for (replies, asked) in self.replies.iter_mut().zip(&mut self.rounds).skip(from) {
            *asked += 1;
            // Most have one: room for four is what a list takes by itself.
            replies.reserve_exact(upstreams);
            replies.resize(*asked * upstreams, None);
        }
        let queries = self.queries.get(from..).unwrap_or_default();
        let total = self.queries.len().saturating_mul(rounds).max(self.done + queries.len());
        let (mut done, mut had) = (self.done, vec![0; queries.len()]);
        // By name, then in the order of the upstreams, whoever was the quickest.
        let mut take = |upstream: usize, query: usize, reply: Reply| {
            if let (Some(replies), Some(had)) = (self.replies.get_mut(from + query), had.get_mut(query)) {
                let place = replies.len() - upstreams + upstream;
                if let Some(place) = replies.get_mut(place) {
                    *place = Some(reply);
                }
                *had += 1;
                if *had == upstreams {
                    done += 1;
                    progress(done, total);
                }
            }
        };
        engine.round(queries, &mut take).await;
        self.done += queries.len();
        // Of an upstream that is dead no reply comes.
        if done < self.done {
            progress(self.done, total);
        }
        self.out_of_time |= engine.out_of_time();
    }

    /// Adds the targets of services from a place on that are not known yet.
    fn add_targets(&mut self, from: usize) {
        let targets = self.replies.iter().skip(from).flatten().flatten().flat_map(|reply| &reply.targets);
        let mut targets: BTreeSet<Query> = targets.map(|(host, _)| Query::Host(host.clone())).collect();
        if !targets.is_empty() {
            self.queries.iter().for_each(|known| _ = targets.remove(known));
            self.queries.extend(targets);
        }
    }

    fn heard(self, engine: &Engine<'_>) -> Heard {
        let silent = engine.silent().map(|(name, found)| (name.to_owned(), found)).collect();
        let replies = self.queries.into_iter().zip(self.replies);
        let mut replies: BTreeMap<_, _> = replies.map(|(query, replies)| (query, given(replies))).collect();
        replies.retain(|_, replies| !replies.is_empty());
        Heard { replies, silent, out_of_time: self.out_of_time }
    }
}

/// The replies that were given.
#[expect(clippy::filter_map_identity, reason = "this way the list stays where it is, and `flatten` makes one of four")]
fn given(replies: Vec<Option<Reply>>) -> Vec<Reply> {
    replies.into_iter().filter_map(|reply| reply).collect()
}

impl Resolve for Dns {
    fn resolve(&self, queries: &BTreeSet<Query>, progress: &dyn Fn(usize, usize)) -> Result<Heard, ResolveError> {
        if queries.is_empty() {
            return Ok(Heard::default());
        }
        if self.upstreams.is_empty() {
            return Err(ResolveError("there is no name server to ask: name a resolver".to_owned()));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ResolveError(format!("cannot begin to ask name servers: {error}")))?;
        runtime.block_on(self.run(queries, progress))
    }
}

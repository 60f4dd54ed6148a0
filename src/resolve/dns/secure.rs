//! Questions over TLS (RFC 7858) and HTTPS (RFC 8484): one connection a server, many questions at once.
//!
//! A server that cannot prove who it is is not spoken to, and nothing is ever asked in plain text instead. Who may vouch
//! for a server is the system's to say (`SSL_CERT_FILE` and `SSL_CERT_DIR` where they are set), so a site's own
//! authority counts.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::net::NetError;
use hickory_resolver::net::h2::HttpsClientStream;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::tls::tls_exchange;
use hickory_resolver::net::xfer::{DnsExchange, DnsHandle as _, FirstAnswer as _};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Mutex;

use super::engine::SECURE;
use super::message::{Question, Word};
use super::server::{Server, Speech};
use super::stream::{Unheard, word_of};

/// Connections in a row that may end without an answer. Servers close one after some questions or some time: that is
/// no fault as long as each brings something.
const FRUITLESS: u32 = 4;
/// Connections one question may be lost with.
const TRIES: u32 = 16;

/// The connections of a run, by server.
#[derive(Default)]
pub(super) struct Links {
    links: BTreeMap<Server, Rc<Link>>,
    /// Who vouches for servers; read when the first is asked.
    trust: Option<Result<Arc<ClientConfig>, Unheard>>,
}

/// The connection to one server.
pub(super) struct Link {
    server: Server,
    provider: TokioRuntimeProvider,
    timeout: Duration,
    trust: Result<Arc<ClientConfig>, Unheard>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<DnsExchange<TokioRuntimeProvider>>,
    /// How many were opened: tells the one that is open from those before it.
    opened: u64,
    /// How many were opened since the last answer.
    fruitless: u32,
}

impl Links {
    /// The connection to a server; it is opened with the first question.
    pub(super) fn to(&mut self, server: &Server, provider: &TokioRuntimeProvider, timeout: Duration) -> Rc<Link> {
        let trust = self.trust.get_or_insert_with(trust);
        let link = self.links.entry(server.clone()).or_insert_with(|| {
            Rc::new(Link {
                server: server.clone(),
                provider: provider.clone(),
                timeout,
                trust: trust.clone(),
                state: Mutex::default(),
            })
        });
        Rc::clone(link)
    }
}

/// The authorities this system trusts.
fn trust() -> Result<Arc<ClientConfig>, Unheard> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // One that cannot be read vouches for nobody; the others may do.
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good == 0 {
        let why = found.errors.first().map_or(String::new(), |error| format!(": {error}"));
        return Err(Unheard(format!("this system has no certificates of authorities to trust{why}")));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Unheard(error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

impl Link {
    /// One question. When the connection is closed under it, it is asked over the next.
    ///
    /// # Errors
    /// When there is no connection that brings an answer, and why.
    pub(super) async fn ask(&self, question: Question) -> Result<Word, Unheard> {
        let mut why = Unheard("every connection was closed".to_owned());
        if question == Question::probe() {
            // A new beginning.
            self.state.lock().await.fruitless = 0;
        }
        for _ in 0..TRIES {
            let (exchange, nth) = match self.connected().await {
                Ok(open) => open,
                // What was wrong with the connections is of more use than that there were enough of them.
                Err(Unheard(last)) if last.is_empty() => return Err(why),
                Err(error) => return Err(error),
            };
            let begun = Instant::now();
            let reply = tokio::time::timeout(self.timeout, exchange.send(question.request()).first_answer()).await;
            // hickory calls it a timeout too when a connection is closed while an answer is waited for.
            let closed = begun.elapsed() < self.timeout.mul_f64(0.9);
            let mut state = self.state.lock().await;
            match reply {
                // Closed, or not what it said it was.
                Ok(Err(ref error)) if closed && !matches!(error, NetError::Proto(_)) => {
                    if !matches!(error, NetError::Timeout) {
                        why = Unheard(plain(error));
                    }
                    if state.opened == nth {
                        state.open = None;
                    }
                }
                _ => {
                    let word = word_of(&question, reply);
                    if matches!(word, Word::Message(_)) {
                        state.fruitless = 0;
                    }
                    return Ok(word);
                }
            }
        }
        Err(why)
    }

    /// The open connection, or a new one, and its number.
    async fn connected(&self) -> Result<(DnsExchange<TokioRuntimeProvider>, u64), Unheard> {
        let mut state = self.state.lock().await;
        if let Some(open) = &state.open {
            return Ok((open.clone(), state.opened));
        }
        if state.fruitless >= FRUITLESS {
            return Err(Unheard(String::new()));
        }
        state.fruitless += 1;
        let connect = tokio::time::timeout(self.timeout, self.connect());
        let open =
            connect.await.unwrap_or_else(|_| Err(Unheard("no connection within the time allowed".to_owned())))?;
        state.open = Some(open.clone());
        state.opened += 1;
        Ok((open, state.opened))
    }

    async fn connect(&self) -> Result<DnsExchange<TokioRuntimeProvider>, Unheard> {
        let config = self.trust.clone()?;
        let (addr, provider) = (self.server.addr, self.provider.clone());
        let name = |host: &Option<crate::host::Host>| host.as_ref().map_or(addr.ip().to_string(), ToString::to_string);
        let exchange = match &self.server.speech {
            Speech::Plain => return Err(Unheard("it speaks neither TLS nor HTTPS".to_owned())),
            Speech::Tls(host) => {
                let name = ServerName::try_from(name(host)).map_err(|error| Unheard(error.to_string()))?;
                tls_exchange(addr, name, (*config).clone(), self.timeout, Some(SECURE * 4), provider).await
            }
            Speech::Https(host, path) => {
                let stream = HttpsClientStream::builder(config, provider);
                stream.exchange(addr, name(host).into(), path.as_str().into()).await
            }
        };
        exchange.map_err(|error| Unheard(plain(&error)))
    }
}

/// An error without the names of libraries.
fn plain(error: &NetError) -> String {
    match error {
        NetError::Io(error) => error.to_string(),
        NetError::Timeout => "no connection within the time allowed".to_owned(),
        other => other.to_string(),
    }
}

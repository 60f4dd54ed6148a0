//! DNS over TLS and HTTPS against servers on loopback, good ones and those that cannot prove who they are.
//!
//! Whom to trust is the system's to say, so each test runs in a process of its own with `SSL_CERT_FILE`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use outgate::host::Query;
use outgate::resolve::dns::{Dns, Server, Settings};
use outgate::resolve::{Heard, Resolve, ResolveError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

const NAME: &str = "dns.example.net";
const SETTINGS: Settings =
    Settings { timeout: Duration::from_secs(2), budget: Duration::from_secs(20), ..Settings::DEFAULT };

/// What a server has to show, and what it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Good,
    Expired,
    /// Of an authority nobody trusts.
    Stranger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Tls,
    /// A connection is closed after so many answers.
    TlsBrief(usize),
    Https,
}

/// The running server: where it is, how many connections it had and how many questions.
struct Running {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    questions: Arc<AtomicUsize>,
}

/// Whether this is the process of one test. If it is not, it is started, and the test is what comes of it.
fn alone(test: &str) -> bool {
    if std::env::var_os("OUTGATE_TEST_ALONE").is_some() {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    let done = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("OUTGATE_TEST_ALONE", "1")
        .env("SSL_CERT_FILE", folder.path().join("authority.pem"))
        .env_remove("SSL_CERT_DIR")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
    false
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server for [`NAME`] and its address, with an authority of its own that is trusted unless it is a stranger's.
fn serve(proof: Proof, speech: Speech) -> Running {
    let authority = authority();
    let trusted = if proof == Proof::Stranger { self::authority().pem() } else { authority.pem() };
    std::fs::write(PathBuf::from(std::env::var_os("SSL_CERT_FILE").unwrap()), trusted).unwrap();

    let mut params = CertificateParams::new(vec![NAME.to_owned(), "127.0.0.1".to_owned()]).unwrap();
    if proof == Proof::Expired {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    if speech == Speech::Https {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    let (connections, questions) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let running = Running { addr, connections: Arc::clone(&connections), questions: Arc::clone(&questions) };
    // Ends with the process, which is this test's alone.
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::Relaxed);
                let (acceptor, questions) = (acceptor.clone(), Arc::clone(&questions));
                tokio::spawn(async move {
                    // A client that does not believe us ends the connection.
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    match speech {
                        Speech::Tls => over_tls(tls, usize::MAX, questions).await,
                        Speech::TlsBrief(most) => over_tls(tls, most, questions).await,
                        Speech::Https => over_https(tls, questions).await,
                    };
                });
            }
        });
    });
    running
}

type Tls = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

async fn over_tls(mut tls: Tls, most: usize, questions: Arc<AtomicUsize>) -> Option<()> {
    for _ in 0..most {
        let length = tls.read_u16().await.ok()?;
        let mut question = vec![0; usize::from(length)];
        tls.read_exact(&mut question).await.ok()?;
        questions.fetch_add(1, Ordering::Relaxed);
        let answer = answer(&question);
        tls.write_u16(u16::try_from(answer.len()).unwrap()).await.ok()?;
        tls.write_all(&answer).await.ok()?;
        tls.flush().await.ok()?;
    }
    // What comes after it is read and not answered: a connection closed over unread questions loses answers too.
    tls.shutdown().await.ok()?;
    tls.read_to_end(&mut Vec::new()).await.ok().map(|_| ())
}

async fn over_https(tls: Tls, questions: Arc<AtomicUsize>) -> Option<()> {
    let mut connection = h2::server::handshake(tls).await.ok()?;
    while let Some(request) = connection.accept().await {
        let (mut request, mut respond) = request.ok()?;
        let questions = Arc::clone(&questions);
        tokio::spawn(async move {
            if request.uri().path() != "/dns-query" {
                let missing = http::Response::builder().status(404).body(()).unwrap();
                return respond.send_response(missing, true).map(|_| ());
            }
            let mut question = Vec::new();
            while let Some(part) = request.body_mut().data().await {
                let part = part?;
                let _ = request.body_mut().flow_control().release_capacity(part.len());
                question.extend_from_slice(&part);
            }
            questions.fetch_add(1, Ordering::Relaxed);
            let head = http::Response::builder().header("content-type", "application/dns-message").body(()).unwrap();
            respond.send_response(head, false)?.send_data(Bytes::from(answer(&question)), true)
        });
    }
    Some(())
}

fn answer(question: &[u8]) -> Vec<u8> {
    let request = Message::from_vec(question).unwrap();
    let mut message = Message::response(request.id, request.op_code);
    let asked = request.queries.first().unwrap().clone();
    let data = match asked.query_type {
        RecordType::A => Some(RData::A(A(Ipv4Addr::new(192, 0, 2, 1)))),
        RecordType::AAAA => Some(RData::AAAA(AAAA("2001:db8::1".parse().unwrap()))),
        _ => None,
    };
    if let Some(data) = data {
        message.add_answer(Record::from_rdata(asked.name.clone(), 300, data));
    }
    message.add_query(asked);
    message.to_vec().unwrap()
}

fn ask(servers: &[String], names: usize) -> Result<Heard, ResolveError> {
    let servers = servers.iter().map(|server| server.parse::<Server>().unwrap());
    let queries = (0..names).map(|n| Query::parse(&format!("host{n}.example.org")).unwrap()).collect();
    let begun = Instant::now();
    let heard = Dns::with_each(servers).with_settings(SETTINGS).resolve(&queries, &|_, _| {});
    assert!(begun.elapsed() < Duration::from_secs(10), "took {:?}", begun.elapsed());
    heard
}

/// All names have both addresses, by this server.
fn whole(heard: &Heard, names: usize, by: &str) {
    let addresses: BTreeSet<IpAddr> = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap()).into();
    assert_eq!(heard.replies.len(), names);
    for (query, replies) in &heard.replies {
        let reply =
            replies.iter().find(|reply| reply.by.contains(by)).unwrap_or_else(|| panic!("{query}: {replies:?}"));
        assert_eq!(reply.addresses.keys().copied().collect::<BTreeSet<_>>(), addresses, "{query}: {reply:?}");
        assert_eq!(reply.failures, BTreeMap::new(), "{query}");
    }
}

#[test]
fn tls_carries_all_names_over_one_connection() {
    if !alone("tls_carries_all_names_over_one_connection") {
        return;
    }
    let server = serve(Proof::Good, Speech::Tls);
    let by = format!("tls://{}#{NAME}", server.addr);
    whole(&ask(std::slice::from_ref(&by), 300).unwrap(), 300, &by);
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    assert_eq!(server.questions.load(Ordering::Relaxed), 601, "each once, and the one whether anybody is there");
    // Without a name the address itself is what is proved.
    let by = format!("tls://{}", server.addr);
    whole(&ask(std::slice::from_ref(&by), 3).unwrap(), 3, &by);
}

#[test]
fn https_carries_all_names_over_one_connection() {
    if !alone("https_carries_all_names_over_one_connection") {
        return;
    }
    let server = serve(Proof::Good, Speech::Https);
    for by in [format!("https://{}/dns-query#{NAME}", server.addr), format!("https://{}/dns-query", server.addr)] {
        whole(&ask(std::slice::from_ref(&by), 300).unwrap(), 300, &by);
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
    let error = ask(&[format!("https://{}/elsewhere#{NAME}", server.addr)], 3).unwrap_err().to_string();
    assert!(error.contains("404"), "{error}");
}

#[test]
fn a_connection_that_is_closed_is_opened_again() {
    if !alone("a_connection_that_is_closed_is_opened_again") {
        return;
    }
    let server = serve(Proof::Good, Speech::TlsBrief(25));
    let by = format!("tls://{}#{NAME}", server.addr);
    whole(&ask(std::slice::from_ref(&by), 200).unwrap(), 200, &by);
    assert!((17..100).contains(&server.connections.load(Ordering::Relaxed)));
}

/// A server that cannot prove who it is: the reason, said once; nothing is asked, and others are.
fn refused(proof: Proof, speech: Speech, name: &str, reason: &str) {
    let server = serve(proof, speech);
    let by = match speech {
        Speech::Https => format!("https://{}/dns-query#{name}", server.addr),
        _ => format!("tls://{}#{name}", server.addr),
    };
    let error = ask(std::slice::from_ref(&by), 20).unwrap_err().to_string();
    assert!(error.contains(&by) && error.contains(reason), "{error}");
    assert_eq!(server.questions.load(Ordering::Relaxed), 0);
    let connections = server.connections.load(Ordering::Relaxed);
    assert!(connections <= 3, "{connections} connections");
}

#[test]
fn a_server_of_another_name_is_not_believed() {
    if !alone("a_server_of_another_name_is_not_believed") {
        return;
    }
    refused(Proof::Good, Speech::Tls, "other.example.net", "not valid for name");
    refused(Proof::Good, Speech::Https, "other.example.net", "not valid for name");
}

#[test]
fn an_expired_certificate_proves_nothing() {
    if !alone("an_expired_certificate_proves_nothing") {
        return;
    }
    refused(Proof::Expired, Speech::Tls, NAME, "expired");
    refused(Proof::Expired, Speech::Https, NAME, "expired");
}

#[test]
fn an_authority_nobody_trusts_proves_nothing() {
    if !alone("an_authority_nobody_trusts_proves_nothing") {
        return;
    }
    refused(Proof::Stranger, Speech::Tls, NAME, "invalid peer certificate");
    refused(Proof::Stranger, Speech::Https, NAME, "invalid peer certificate");
}

#[test]
fn one_that_cannot_prove_who_it_is_stands_beside_one_that_can() {
    if !alone("one_that_cannot_prove_who_it_is_stands_beside_one_that_can") {
        return;
    }
    let server = serve(Proof::Good, Speech::Tls);
    let (good, bad) = (format!("tls://{}#{NAME}", server.addr), format!("tls://{}#other.example.net", server.addr));
    let heard = ask(&[bad.clone(), good.clone()], 20).unwrap();
    whole(&heard, 20, &good);
    assert!(heard.replies.values().all(|replies| replies.len() == 1));
    assert_eq!(heard.silent.keys().collect::<Vec<_>>(), [&bad]);
    assert!(heard.silent[&bad].contains("not valid for name"), "{:?}", heard.silent);
}

//! Questions over streams. TCP: one connection a question, for what a datagram cannot carry. TLS and HTTPS: one
//! connection for all, in `secure`.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::tcp::TcpClientStream;
use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _};
use hickory_resolver::proto::op::DnsResponse;

use super::message::{Question, Word};
use super::server::Server;

/// Why a server cannot be spoken to at all.
#[derive(Clone, Debug)]
pub(super) struct Unheard(pub(super) String);

/// Opens streams.
pub(super) struct Streams {
    // Background tasks of connections end with their provider: it must outlive every question.
    provider: TokioRuntimeProvider,
    timeout: Duration,
    #[cfg(feature = "secure-dns")]
    secure: super::secure::Links,
}

impl Streams {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            provider: TokioRuntimeProvider::new(),
            timeout,
            #[cfg(feature = "secure-dns")]
            secure: super::secure::Links::default(),
        }
    }

    /// One question over one connection.
    pub(super) fn over_tcp(&self, server: SocketAddr, question: Question) -> impl Future<Output = Word> + use<> {
        let (provider, limit) = (self.provider.clone(), self.timeout);
        async move {
            let reply = async {
                let exchange = TcpClientStream::exchange(server, None, limit, None, provider).await?;
                exchange.send(question.request()).first_answer().await
            };
            word_of(&question, tokio::time::timeout(limit, reply).await)
        }
    }

    /// One question to a server that is spoken to over streams alone.
    #[cfg(feature = "secure-dns")]
    pub(super) fn ask(
        &mut self,
        server: &Server,
        question: Question,
    ) -> LocalBoxFuture<'static, Result<Word, Unheard>> {
        let link = self.secure.to(server, &self.provider, self.timeout);
        Box::pin(async move { link.ask(question).await })
    }

    /// No server is spoken to over streams alone.
    #[cfg(not(feature = "secure-dns"))]
    pub(super) fn ask(&mut self, _: &Server, _: Question) -> LocalBoxFuture<'static, Result<Word, Unheard>> {
        Box::pin(std::future::ready(Ok(Word::Silence)))
    }
}

/// Silence is silence, whatever the socket called it.
pub(super) fn word_of<E>(question: &Question, reply: Result<Result<DnsResponse, NetError>, E>) -> Word {
    match reply {
        Ok(Ok(response)) => question.judge(response),
        Ok(Err(NetError::Proto(_) | NetError::QueryCaseMismatch)) => Word::Garbled,
        Ok(Err(_)) | Err(_) => Word::Silence,
    }
}

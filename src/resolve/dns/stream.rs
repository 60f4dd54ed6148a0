//! Questions over TCP: one connection a question, for what a datagram cannot carry.

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
}

impl Streams {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { provider: TokioRuntimeProvider::new(), timeout }
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
    pub(super) fn ask(
        &mut self,
        _server: &Server,
        _question: Question,
    ) -> LocalBoxFuture<'static, Result<Word, Unheard>> {
        Box::pin(async { Ok(Word::Silence) })
    }
}

/// Silence is silence, whatever the socket called it.
fn word_of<E>(question: &Question, reply: Result<Result<DnsResponse, NetError>, E>) -> Word {
    match reply {
        Ok(Ok(response)) => question.judge(response.into_message()),
        Ok(Err(NetError::Proto(_) | NetError::QueryCaseMismatch)) => Word::Garbled,
        Ok(Err(_)) | Err(_) => Word::Silence,
    }
}

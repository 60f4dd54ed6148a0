//! Lists of prefixes by https; the only door of `ureq`.

use std::time::Duration;

use super::Fetch;

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);
/// For one list, from the question to its last byte.
const WHOLE: Duration = Duration::from_secs(30);

/// A client of https with bounds: on time, on size, on redirects, and never anything but https. It goes through the
/// proxy the environment names, as `curl` does.
pub struct Https {
    #[cfg(feature = "fetch")]
    agent: ureq::Agent,
}

impl Default for Https {
    fn default() -> Self {
        Self::with(CONNECT, WHOLE, true)
    }
}

#[cfg(feature = "fetch")]
mod client {
    use super::{Duration, Fetch, Https};
    use crate::ranges::{BYTES_MOST, plain};

    /// Most times a server may send us on.
    const REDIRECTS: u32 = 3;

    impl Https {
        /// Without TLS for tests alone, and then straight to loopback.
        pub(super) fn with(connect: Duration, whole: Duration, https_only: bool) -> Self {
            let proxy = if https_only { ureq::Proxy::try_from_env() } else { None };
            let config = ureq::Agent::config_builder()
                .https_only(https_only)
                .proxy(proxy)
                .max_redirects(REDIRECTS)
                .timeout_connect(Some(connect))
                .timeout_global(Some(whole))
                .http_status_as_error(false)
                .user_agent(concat!("outgate/", env!("CARGO_PKG_VERSION")))
                .build();
            Self { agent: config.into() }
        }
    }

    impl Fetch for Https {
        fn fetch(&self, url: &str) -> Result<Vec<u8>, String> {
            let mut response = self.agent.get(url).call().map_err(|e| words(&e))?;
            // A part of a list, or a page that says that there is none, is no list.
            if response.status().as_u16() != 200 {
                return Err(format!("the server says {}", plain(&response.status().to_string())));
            }
            response.body_mut().with_config().limit(BYTES_MOST as u64).read_to_vec().map_err(|e| words(&e))
        }
    }

    fn words(error: &ureq::Error) -> String {
        match error {
            ureq::Error::BodyExceedsLimit(_) => format!("it is larger than {} MiB", BYTES_MOST >> 20),
            ureq::Error::RequireHttpsOnly(_) => "the server leads on to an address without TLS".to_owned(),
            ureq::Error::TooManyRedirects => format!("the server leads on more than {REDIRECTS} times"),
            ureq::Error::Timeout(_) => "the server took too long".to_owned(),
            other => plain(&other.to_string()),
        }
    }
}

#[cfg(not(feature = "fetch"))]
mod client {
    use super::{Duration, Fetch, Https};

    impl Https {
        pub(super) fn with(_: Duration, _: Duration, _: bool) -> Self {
            Self {}
        }
    }

    impl Fetch for Https {
        fn fetch(&self, _: &str) -> Result<Vec<u8>, String> {
            Err("this build cannot fetch; download it and use `file:`".to_owned())
        }
    }
}

#[cfg(all(test, feature = "fetch"))]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::ranges::BYTES_MOST;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::thread;
    use std::time::Instant;

    /// Answers one request after the other, each with the next of these, and then no more.
    fn server(answers: Vec<Vec<u8>>) -> (String, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let serve = move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let _ = stream.write_all(&answer);
            }
        };
        (base, thread::spawn(serve))
    }

    fn ok(body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    fn sent_on(to: &str) -> Vec<u8> {
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into()
    }

    /// As `Https`, without TLS and with less patience.
    fn plain_http() -> Https {
        Https::with(Duration::from_secs(2), Duration::from_secs(5), false)
    }

    fn fetch(answers: Vec<Vec<u8>>) -> Result<Vec<u8>, String> {
        let (base, thread) = server(answers);
        let got = plain_http().fetch(&format!("{base}/list"));
        thread.join().unwrap();
        got
    }

    #[test]
    fn a_text_comes_whole_or_not_at_all() {
        assert_eq!(fetch(vec![ok(b"192.0.2.0/24\n")]), Ok(b"192.0.2.0/24\n".to_vec()));
        assert_eq!(fetch(vec![sent_on("/a"), sent_on("/b"), sent_on("/c"), ok(b"x")]), Ok(b"x".to_vec()));
        let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n192.0.2.0/24\n".to_vec();
        assert!(fetch(vec![cut]).is_err());
        for status in ["204 No Content", "206 Partial Content", "404 Not Found", "503 Busy"] {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let said = fetch(vec![answer.into()]).unwrap_err();
            assert!(said.contains(&status[..3]), "{said}");
        }
    }

    #[test]
    fn nobody_is_followed_for_ever() {
        let (base, thread) = server((0..4).map(|_| sent_on("/list")).collect());
        let said = plain_http().fetch(&format!("{base}/list")).unwrap_err();
        assert!(said.contains("leads on more than 3 times"), "{said}");
        thread.join().unwrap();
    }

    #[test]
    fn too_much_is_not_read() {
        // One chunk after the other, with no length to warn of it.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = [b"10000\r\n".to_vec(), vec![b'#'; 0x10000], b"\r\n".to_vec()].concat();
            (0..4096).take_while(|_| stream.write_all(&chunk).is_ok()).count()
        });
        let said = Https::with(Duration::from_secs(2), Duration::from_secs(60), false).fetch(&url).unwrap_err();
        assert!(said.contains("larger than 16 MiB"), "{said}");
        let sent = thread.join().unwrap() << 16;
        assert!(sent < 2 * BYTES_MOST, "{sent} bytes were taken");
    }

    #[test]
    fn a_silent_server_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let start = Instant::now();
        let said = Https::with(Duration::from_secs(1), Duration::from_secs(1), false).fetch(&url).unwrap_err();
        assert!(said.contains("took too long"), "{said}");
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn nothing_goes_without_tls() {
        // Nobody may be asked, so nobody listens to the end.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        assert!(Https::default().fetch(&url).is_err());
        assert!(listener.accept().is_err(), "a connection was made");
        // A server that speaks plain http is none of ours.
        let (base, thread) = server(vec![ok(b"192.0.2.0/24\n")]);
        let https = Https::with(Duration::from_secs(2), Duration::from_secs(5), true);
        assert!(https.fetch(&base.replace("http://", "https://")).is_err());
        let _ = TcpStream::connect(base.trim_start_matches("http://"));
        thread.join().unwrap();
    }
}

#[cfg(all(test, not(feature = "fetch")))]
mod tests {
    use super::*;

    #[test]
    fn without_the_feature_there_is_another_way() {
        let said = Https::default().fetch("https://example.org/").unwrap_err();
        assert!(said.contains("use `file:`"), "{said}");
    }
}

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
        pub(super) fn with(connect: Duration, whole: Duration, https_only: bool) -> Self {
            let config = ureq::Agent::config_builder()
                .https_only(https_only)
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

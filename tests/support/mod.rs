//! What the tests that go to real enforcers share: finding the tools, namespaces to run them in, probes through them.

#![allow(dead_code, reason = "every test file compiles this module for itself and uses a part of it")]

pub(crate) mod enforcers;
pub(crate) mod namespace;
pub(crate) mod netns;
pub(crate) mod question;
pub(crate) mod squid;

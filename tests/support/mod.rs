//! What several tests share. Each test is a crate of its own and uses a part of it.
#![allow(dead_code, reason = "every test file compiles this module for itself and uses a part of it")]

// Real enforcers: are they here, and labs to run them in.
pub(crate) mod enforcers;
pub(crate) mod namespace;
pub(crate) mod netns;
pub(crate) mod question;
pub(crate) mod squid;

// Model and name servers.
pub(crate) mod model;
pub(crate) mod nameserver;
pub(crate) mod nsd;

// A person.
pub(crate) mod terminal;

// Rendered files read back, and the sites and packets they are tried with.
pub(crate) mod readers;
pub(crate) mod site;
pub(crate) mod trial;

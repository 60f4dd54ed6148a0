//! What several tests share. Each test is a crate of its own and uses a part of it.
#![allow(dead_code)]

pub(crate) mod model;
pub(crate) mod nameserver;
pub(crate) mod nsd;

//! x
pub mod addrs;
pub mod day;
pub mod host;
pub mod port;
pub mod resolve;

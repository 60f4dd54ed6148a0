//! Our resolver beside its peers, on loopback: `cargo bench --bench dns`. docs/performance.md says what is measured and
//! how to run a part of it. `OUTGATE_BENCH=quick` is a small run that fails when an answer is missing.
//!
//! Every side is a whole process. Sides take turns, round by round, and a ratio is the median of the rounds' ratios:
//! what else the machine does disturbs both.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench is for the terminal")]

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("SKIPPED: the DNS bench is for Linux");
}

//! The test harness tested: each of its judgements right, and each seen wrong where the rules are made wrong.
//!
//! A harness that says "denied" of everything, or "allowed" of everything, would make good tests of any rules. So beside
//! each table of expectations that holds stand rules broken on purpose, and the very flows that must show it.

#![expect(clippy::unwrap_used, reason = "all of this is test")]

#[path = "../support/mod.rs"]
mod support;

mod enforcers;
mod namespace;
mod netns;
mod squid;

/// A rule file written for these tests.
fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/harness").join(name)
}

/// A text with one place changed; the place must be there.
fn with(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the fixture");
    text.replace(from, to)
}

/// What a panic says; there must be one.
fn complaint(work: impl FnOnce()) -> String {
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).expect_err("this should have panicked");
    match panicked.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => other.downcast::<&str>().map_or_else(|_| "?".to_owned(), |text| (*text).to_owned()),
    }
}

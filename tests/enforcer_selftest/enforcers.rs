//! Skipping: loud here, impossible in CI.

use super::support::enforcers::{find, judge, require};

#[test]
fn what_is_there_is_used() {
    assert!(require("sh"));
    assert!(judge("nft", None, true));
    assert!(find("sh").is_some());
}

#[test]
fn what_is_missing_is_skipped() {
    assert!(find("no-such-program").is_none());
    assert!(!judge("no-such-program (this line is the test of itself)", Some("is not installed".to_owned()), false));
}

#[test]
#[should_panic(expected = "must not be skipped in CI")]
fn what_is_missing_in_ci_is_a_failure() {
    judge("no-such-program", Some("is not installed".to_owned()), true);
}

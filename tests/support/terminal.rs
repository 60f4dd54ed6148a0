//! The program on a terminal of its own: `terminal.py` opens it and types; Python has it in its standard library.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Whether there is a Python that can open a terminal. Where there is none it is said; in CI it is a failure.
pub(crate) fn has_python() -> bool {
    let there = Command::new("python3").arg("-c").arg("import pty").output().is_ok_and(|o| o.status.success());
    if !there {
        assert!(std::env::var_os("CI").is_none(), "python3 is missing");
        // Straight to the terminal: the test harness keeps what tests print with macros.
        let _ = writeln!(std::io::stderr(), "SKIPPED: python3 is missing: nothing is asked on a terminal");
    }
    there
}

/// Runs the program on a terminal of so many columns, in this folder and with this environment beside `TERM`, and types
/// each answer where its question is asked: how it ended, and the screen.
pub(crate) fn run(
    folder: &Path,
    columns: u16,
    args: &[&str],
    environment: &[(&str, &str)],
    steps: &[(&str, &str)],
) -> (i64, String) {
    let steps: Vec<[&str; 2]> = steps.iter().map(|(wanted, typed)| [*wanted, *typed]).collect();
    let driver = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support/terminal.py");
    let output = Command::new("python3")
        .arg(driver)
        .args([columns.to_string(), serde_json::to_string(&steps).unwrap(), env!("CARGO_BIN_EXE_outgate").to_owned()])
        .args(args)
        .current_dir(folder)
        .env("TERM", "xterm")
        .env("SOURCE_DATE_EPOCH", "1795219200")
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .env_remove("COLUMNS")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    (value["exit"].as_i64().unwrap(), value["screen"].as_str().unwrap().to_owned())
}

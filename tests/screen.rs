//! What every command has in common on a screen: colours where they are wanted, `-q`, `-v`, and lines that fit.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

mod support;
use support::terminal::{self, has_python};

/// A run of each command that prints, on an example.
const COMMANDS: [&[&str]; 10] = [
    &["generate", "--check", "-c", "outgate.yaml"],
    &["status"],
    &["prove"],
    &["test"],
    &["check"],
    &["diff", "outgate.yaml", "outgate.yaml"],
    &["explain", "update.truenas.com:443", "--from", "nas"],
    &["catalog", "list", "--release", "25.10.2"],
    &["targets"],
    &["generate", "-c", "nowhere.yaml"],
];

fn example() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/strict-home");
    for name in ["outgate.yaml", "outgate.lock"] {
        std::fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// Exit code, standard output and standard error, in an environment that says nothing of colours but what is given.
fn run(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_outgate"))
        .args(args)
        .current_dir(folder)
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR")
        .env_remove("CLICOLOR_FORCE")
        .env("SOURCE_DATE_EPOCH", "1795219200")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn no_command_colours_a_pipe_and_every_finding_is_coloured_where_it_is_forced() {
    let folder = example();
    for args in COMMANDS {
        // A pipe gets the same bytes, whatever the width that somebody exported.
        let plain = run(folder.path(), args, &[]);
        assert!(!plain.1.contains('\u{1b}') && !plain.2.contains('\u{1b}'), "{args:?}: {plain:?}");
        assert_eq!(run(folder.path(), args, &[("COLUMNS", "30")]), plain, "{args:?}");
        assert_eq!(run(folder.path(), args, &[("NO_COLOR", "1")]), plain, "{args:?}");
        let forced = run(folder.path(), args, &[("CLICOLOR_FORCE", "1")]);
        let has_finding = plain.2.contains("note[") || plain.2.contains("error[");
        assert!(!has_finding || forced.2.contains('\u{1b}'), "{args:?}: {forced:?}");
        let both = run(folder.path(), args, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]);
        assert!(!both.2.contains('\u{1b}'), "NO_COLOR has the last word: {args:?}: {both:?}");
    }
}

#[test]
fn quiet_takes_notes_away_and_verbose_says_what_was_read() {
    let folder = example();
    assert!(run(folder.path(), &["generate", "--check"], &[]).2.contains("note["), "there is nothing to take away");
    for args in COMMANDS {
        let plain = run(folder.path(), args, &[]);
        let quiet = run(folder.path(), &[args, &["-q"]].concat(), &[]);
        assert_eq!(quiet.0, plain.0, "{args:?}: the exit code is another");
        assert!(!quiet.2.contains("note["), "{args:?}: {}", quiet.2);
        let verbose = run(folder.path(), &[args, &["-v"]].concat(), &[]);
        assert_eq!((verbose.0, &verbose.1), (plain.0, &plain.1), "{args:?}");
    }
    let (_, _, err) = run(folder.path(), &["check", "-v"], &[]);
    assert!(err.contains("read outgate.yaml (") && err.contains("read outgate.lock ("), "{err}");
}

#[test]
fn findings_are_as_wide_as_the_terminal() {
    if !has_python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("outgate.yaml"), "site: a\nrelease: \"99\"\nclients: {nas: [192.0.2.1, \"2001:db8::1\"]}\nfeatures: [updtes]\ntargets: {nftables: {}}\n").unwrap();
    let widest = |columns: u16, environment: &[(&str, &str)]| {
        let environment = [&[("NO_COLOR", "1")], environment].concat();
        let (code, screen) = terminal::run(folder.path(), columns, &["generate"], &environment, &[]);
        assert!(code == 2 && screen.contains("error[") && screen.contains("= help:"), "{screen}");
        screen.lines().map(|line| line.trim_end().chars().count()).max().unwrap()
    };
    assert!(widest(200, &[]) > 60, "there is nothing to break");
    assert!(widest(60, &[]) <= 60);
    assert!(widest(200, &[("COLUMNS", "60")]) <= 60, "COLUMNS is not looked at");
    // Nonsense is passed over.
    assert!(widest(60, &[("COLUMNS", "many")]) <= 60);
    assert!(widest(60, &[("COLUMNS", "0")]) <= 60);
    // A person sees colours without asking for them.
    let (_, screen) = terminal::run(folder.path(), 80, &["generate"], &[], &[]);
    assert!(screen.contains('\u{1b}'), "{screen:?}");
}

//! Completions, loaded into the real shells: a command and an option that were begun are finished.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::process::{Command, Output, Stdio};

mod support;
use support::enforcers::{find, require};

fn completions(shell: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_outgate")).args(["completions", shell]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What is typed, and the word it must become.
const BEGUN: [(&str, &str); 3] = [
    ("outgate gener", "generate"),
    ("outgate catalog list --rel", "--release"),
    ("outgate resolve --dry", "--dry-run"),
];

/// Runs a script with the completions beside it; its output.
fn shell(name: &str, args: &[&str], script: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("_outgate"), completions(name)).unwrap();
    let Output { status, stdout, stderr } = Command::new(find(name).unwrap())
        .args(args)
        .arg(script)
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success() && said.is_empty(), "{name}: {status}: {said}");
    String::from_utf8(stdout).unwrap()
}

#[test]
fn bash_completes_commands_and_options() {
    if !require("bash") {
        return;
    }
    for (line, word) in BEGUN {
        let words: Vec<&str> = line.split(' ').collect();
        let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
        let script = format!(
            ". ./_outgate; COMP_WORDS=({line}); COMP_CWORD={}; _outgate outgate '{last}' '{before}'; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"; complete -p outgate >/dev/null",
            words.len() - 1
        );
        assert_eq!(shell("bash", &["--norc", "--noprofile", "-c"], &script).trim(), word, "{line}");
    }
}

#[test]
fn fish_completes_commands_and_options() {
    if !require("fish") {
        return;
    }
    for (line, word) in BEGUN {
        let found = shell("fish", &["--no-config", "-c"], &format!("source ./_outgate; complete -C '{line}'"));
        let words: Vec<&str> = found.lines().map(|line| line.split('\t').next().unwrap()).collect();
        assert_eq!(words, [word], "{line}");
    }
}

#[test]
fn zsh_completes_commands_and_options() {
    if !require("zsh") {
        return;
    }
    for (line, word) in BEGUN {
        // Zsh completes only where somebody types: a terminal of its own, and a key that shows what the line became.
        let script = format!(
            r#"{{ sleep 60; kill -9 $$ }} >/dev/null 2>&1 &!
watch=$!
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PS1= RPS1=; fpath=($PWD $fpath); autoload -U compinit; compinit -u -D'
zpty -w z 'show() {{ zle complete-word; print -r -- "<<$BUFFER>""> "; BUFFER=; zle accept-line }}; zle -N show; bindkey "^I" show'
zpty -w z 'print REA""DY'
zpty -r z seen '*READY*'
zpty -w -n z $'{line}\t'
zpty -r z seen '*<<*>>*'
print -r -- ${{${{seen##*<<}}%%>>*}}
zpty -d z
kill $watch
"#
        );
        let begun = line.rsplit_once(' ').unwrap().0;
        let found = shell("zsh", &["-f", "-c"], &script);
        // An option that takes a value may have its equals sign.
        assert_eq!(found.trim().trim_end_matches('='), format!("{begun} {word}"), "{line}");
    }
}

#[test]
fn every_shell_has_completions_that_name_every_command() {
    let help = Command::new(env!("CARGO_BIN_EXE_outgate")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let list = help.split("\nCommands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
    let commands: Vec<&str> = list
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() > 9, "{commands:?}");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish", "nushell"] {
        let text = completions(shell);
        for command in &commands {
            assert!(text.contains(command), "{shell}: {command}");
        }
        assert!(text.contains("dry-run"), "{shell}");
    }
}

//! Bad inputs, each with the message it gets: the real program in a copy of `tests/cases/<case>/`.
//!
//! A case holds the files as the user left them, and beside them:
//! - `cmd`: the arguments, one line; a word in single quotes may hold spaces and is otherwise taken as it is;
//! - `grow`: optional, a file's path and a number; each `@GROW@` in that file becomes so many `a`;
//! - `expected.stderr` and `expected.exit`: what the person at the keyboard gets, whole.
//!
//! With exit code 2 nothing may stand on standard output, and every file and folder must be as it was before.
//! `SNAPSHOTS=overwrite cargo test --test cases` writes the expectations anew: read the difference.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What belongs to the case and not to the user.
const OURS: [&str; 4] = ["cmd", "grow", "expected.stderr", "expected.exit"];

/// Longest a refusal may take, on a slow machine and without optimization.
const PATIENCE: Duration = Duration::from_secs(20);

/// Every folder (`None`) and file below a folder, by its path from there.
type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

fn tree(root: &Path) -> Result<Tree> {
    let mut found = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(root)?.to_owned();
            if path.is_dir() {
                found.insert(name, None);
                folders.push(path);
            } else {
                found.insert(name, Some(fs::read(&path)?));
            }
        }
    }
    Ok(found)
}

/// What the program did in one case.
struct Outcome {
    stderr: String,
    exit: String,
    /// What no case may do, whatever it expects.
    faults: Vec<String>,
}

fn run(case: &Path) -> Result<Outcome> {
    let work = tempfile::tempdir()?;
    for (name, content) in tree(case)?.iter().filter(|(name, _)| !OURS.iter().any(|own| name.as_os_str() == *own)) {
        match content {
            None => fs::create_dir(work.path().join(name))?,
            Some(bytes) => fs::write(work.path().join(name), bytes)?,
        }
    }
    if let Ok(line) = fs::read_to_string(case.join("grow")) {
        let (name, number) = line.trim().split_once(' ').ok_or("grow: a path and a number")?;
        let path = work.path().join(name);
        fs::write(&path, fs::read_to_string(&path)?.replace("@GROW@", &"a".repeat(number.parse()?)))?;
    }
    let before = tree(work.path())?;
    let start = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_outgate"))
        .args(words(&fs::read_to_string(case.join("cmd"))?))
        .current_dir(work.path())
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("NO_COLOR", "1")
        .env("SOURCE_DATE_EPOCH", "1795219200")
        .output()?;
    let mut faults = Vec::new();
    if start.elapsed() > PATIENCE {
        faults.push(format!("it took {} s", start.elapsed().as_secs()));
    }
    // What strict mode refuses is an answer (exit 1), and nothing is written all the same.
    if output.status.code() == Some(2) || output.stderr.windows(6).any(|text| text == b"error[") {
        let after = tree(work.path())?;
        let names = before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name));
        let changed: std::collections::BTreeSet<String> = names.map(|name| name.display().to_string()).collect();
        faults.extend(changed.into_iter().map(|name| format!("{name} was changed by a run that failed")));
        if !output.stdout.is_empty() {
            faults.push("a run that failed printed to standard output".to_owned());
        }
    }
    Ok(Outcome {
        stderr: String::from_utf8(output.stderr)?,
        exit: output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string()),
        faults,
    })
}

/// The words of a command line. Nothing but single quotes has a meaning.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut inside) = (Vec::new(), None::<String>, false);
    for c in line.trim_end_matches('\n').chars() {
        match c {
            '\'' => {
                inside = !inside;
                word.get_or_insert_default();
            }
            ' ' if !inside => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// How a golden file differs, or writes it.
fn differs(path: &Path, got: &str, overwrite: bool) -> Result<Option<String>> {
    let want = fs::read_to_string(path).ok();
    if want.as_deref() == Some(got) {
        return Ok(None);
    }
    if overwrite {
        fs::write(path, got)?;
        return Ok(None);
    }
    let name = path.file_name().unwrap_or_default().display();
    Ok(Some(match want {
        Some(want) => format!("--- {name}\n{want}\n+++ now\n{got}"),
        None => format!("--- {name} is missing\n+++ now\n{got}"),
    }))
}

fn check(case: &Path, overwrite: bool) -> Result<Vec<String>> {
    let outcome = run(case)?;
    let mut faults = outcome.faults;
    faults.extend(differs(&case.join("expected.stderr"), &outcome.stderr, overwrite)?);
    faults.extend(differs(&case.join("expected.exit"), &format!("{}\n", outcome.exit), overwrite)?);
    Ok(faults)
}

#[test]
fn every_bad_input_gets_its_message_and_changes_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let overwrite = std::env::var("SNAPSHOTS").is_ok_and(|value| value == "overwrite");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    assert!(!cases.is_empty(), "{} holds no case", folder.display());
    // A case is mostly waiting for a process.
    let next = std::sync::atomic::AtomicUsize::new(0);
    let reports = std::sync::Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let faults = check(case, overwrite).unwrap_or_else(|error| vec![error.to_string()]);
                    if !faults.is_empty() {
                        let name = case.file_name().unwrap_or_default().display();
                        reports.lock().unwrap().insert(case, format!("\n== {name}\n{}\n", faults.join("\n")));
                    }
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap();
    let text: String = reports.values().map(String::as_str).collect();
    assert!(reports.is_empty(), "{} of {} cases:\n{text}", reports.len(), cases.len());
}

//! Every example, every target: the committed files are what the program writes, byte for byte, whatever the order of
//! the input.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

mod support;
use support::nsd;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn outgate(args: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outgate"))
        .args(args)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("SOURCE_DATE_EPOCH", "1795219200")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every folder of `examples/` that holds a profile.
fn examples() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(root().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("outgate.yaml").exists())
        .collect();
    found.sort();
    assert!(found.len() >= 3, "the examples are gone");
    found
}

/// Every file below a folder, by its path there.
fn tree(folder: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

fn assert_same(golden: &Path, new: &Path) {
    let (golden_files, new_files) = (tree(golden), tree(new));
    let names = |files: &[(String, String)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&golden_files), names(&new_files), "{}", golden.display());
    for ((name, golden_text), (_, text)) in golden_files.iter().zip(&new_files) {
        // `SNAPSHOTS=overwrite cargo test --test examples` renews the golden files.
        snapbox::assert_data_eq!(text.clone(), snapbox::Data::read_from(&golden.join(name), None).raw());
        assert!(golden_text == text || std::env::var_os("SNAPSHOTS").is_some(), "{name} differs");
    }
}

/// A copy of an example without its output.
fn copy(example: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["outgate.yaml", "outgate.lock"] {
        fs::copy(example.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// The catalog of an example: its own, or the program's.
fn catalog(example: &Path) -> PathBuf {
    let own = example.join("catalog");
    if own.exists() { own } else { root().join("catalog") }
}

/// Runs a verb on an example or a copy of it, with the example's catalog.
fn run(verb: &[&str], example: &Path, folder: &Path) -> Output {
    let catalog = catalog(example);
    outgate(&[verb, &["--catalog", catalog.to_str().unwrap()]].concat(), folder)
}

#[test]
fn committed_files_are_what_is_generated() {
    for example in examples() {
        if std::env::var_os("SNAPSHOTS").is_some_and(|v| v == "overwrite") {
            assert!(run(&["generate"], &example, &example).status.success());
        }
        let output = run(&["generate", "--check"], &example, &example);
        assert_eq!(output.status.code(), Some(0), "{}: {}", example.display(), stderr(&output));
        for _ in 0..2 {
            let fresh = copy(&example);
            let output = run(&["generate"], &example, fresh.path());
            assert_eq!(output.status.code(), Some(0), "{}: {}", example.display(), stderr(&output));
            assert_same(&example.join("out"), &fresh.path().join("out"));
        }
    }
}

#[test]
fn the_committed_files_of_many_sites_are_what_one_run_writes() {
    let example = root().join("examples/many-sites");
    if std::env::var_os("SNAPSHOTS").is_some_and(|v| v == "overwrite") {
        assert!(outgate(&["generate"], &example).status.success());
    }
    let output = outgate(&["generate", "--check"], &example);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let fresh = tempfile::tempdir().unwrap();
    for (name, text) in tree(&example).iter().filter(|(name, _)| !name.contains("/out/")) {
        let path = fresh.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let output = outgate(&["generate"], fresh.path());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_same(&example, fresh.path());
    let output = outgate(&["check"], &example);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // And its lock is what the zone says.
    let Some(server) = nsd::Nsd::serve(&root().join("examples/documentation.zone")) else { return };
    fs::remove_file(fresh.path().join("outgate.lock")).unwrap();
    let output = outgate(&["resolve", "--resolver", &server.addr.to_string()], fresh.path());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let [fresh, committed] =
        [fresh.path(), &example].map(|folder| fs::read_to_string(folder.join("outgate.lock")).unwrap());
    assert_eq!(answers(&fresh), answers(&committed));
}

/// A lock without what differs from run to run: the port the name server happened to have, and the sums over it.
fn answers(lock: &str) -> String {
    let same = |line: &&str| !["\"note\"", "\"sum\"", "\"by\""].iter().any(|key| line.trim_start().starts_with(key));
    lock.lines().filter(same).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_locks_are_what_the_documentation_zone_says() {
    let Some(server) = nsd::Nsd::serve(&root().join("examples/documentation.zone")) else { return };
    for example in examples() {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(example.join("outgate.yaml"), folder.path().join("outgate.yaml")).unwrap();
        let lists = example.join("ranges");
        for (name, text) in if lists.is_dir() { tree(&lists) } else { Default::default() } {
            fs::create_dir_all(folder.path().join("ranges")).unwrap();
            fs::write(folder.path().join("ranges").join(name), text).unwrap();
        }
        let output = run(&["resolve", "--resolver", &server.addr.to_string()], &example, folder.path());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let fresh = fs::read_to_string(folder.path().join("outgate.lock")).unwrap();
        let committed = fs::read_to_string(example.join("outgate.lock")).unwrap();
        assert!(committed.contains("documentation.zone"), "the lock does not say where its answers are from");
        assert_eq!(answers(&fresh), answers(&committed), "{}", example.display());
        // Asked again, nothing moves.
        let again = run(&["resolve", "--resolver", &server.addr.to_string()], &example, folder.path());
        assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
        assert_eq!(fs::read_to_string(folder.path().join("outgate.lock")).unwrap(), fresh);
    }
}

#[test]
fn a_name_server_that_knows_nothing_makes_no_lock() {
    let zone = tempfile::NamedTempFile::new().unwrap();
    fs::write(&zone, ". 300 IN SOA ns. host. 1 2 3 4 5\n. 300 IN NS ns.\n").unwrap();
    let Some(server) = nsd::Nsd::serve(zone.path()) else { return };
    let folder = copy(&root().join("examples/home-lab"));
    let before = fs::read_to_string(folder.path().join("outgate.lock")).unwrap();
    let output = outgate(&["resolve", "--resolver", &server.addr.to_string()], folder.path());
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("E025") && stderr(&output).contains("NXDOMAIN"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(folder.path().join("outgate.lock")).unwrap(), before);
}

#[test]
fn check_sees_every_kind_of_difference() {
    let example = root().join("examples/core-jails");
    let folder = copy(&example);
    let check = || outgate(&["generate", "--check"], folder.path());
    assert!(outgate(&["generate"], folder.path()).status.success());
    assert_eq!(check().status.code(), Some(0));

    let file = folder.path().join("out/pf/outgate.conf");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("block return", "pass", 1)).unwrap();
    let output = check();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("outgate.conf differs from line"), "{}", stderr(&output));
    assert!(stderr(&output).contains("on disk:   pass"), "{}", stderr(&output));

    fs::remove_file(&file).unwrap();
    assert!(stderr(&check()).contains("outgate.conf is missing"));

    fs::write(&file, text).unwrap();
    let stale = folder.path().join("out/pf/tables/og_old.txt");
    fs::write(&stale, "192.0.2.1\n").unwrap();
    let output = check();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("og_old.txt is no longer written"), "{}", stderr(&output));
    assert!(outgate(&["generate"], folder.path()).status.success());
    assert!(!stale.exists(), "a table that is no longer written was left");
}

/// Turns the lists of a YAML file around: items that begin with a dash at one depth, and flow lists.
fn permute(text: &str) -> String {
    let mut out = String::new();
    let mut items: Vec<String> = Vec::new();
    let mut depth = 0;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("- ") && (items.is_empty() || indent == depth) {
            depth = indent;
            items.push(format!("{line}\n"));
        } else if let Some(item) = items.last_mut().filter(|_| line.is_empty() || indent > depth) {
            item.push_str(&format!("{line}\n"));
        } else {
            out.extend(items.drain(..).rev());
            out.push_str(&format!("{}\n", turn_flow_list(line)));
        }
    }
    out.extend(items.drain(..).rev());
    out
}

fn turn_flow_list(line: &str) -> String {
    let Some((head, rest)) = line.split_once(": [") else { return line.to_owned() };
    let Some(list) = rest.strip_suffix(']') else { return line.to_owned() };
    let mut items: Vec<&str> = list.split(", ").collect();
    items.reverse();
    format!("{head}: [{}]", items.join(", "))
}

#[test]
fn the_order_of_the_input_does_not_matter() {
    for example in examples() {
        let folder = copy(&example);
        let profile = fs::read_to_string(example.join("outgate.yaml")).unwrap();
        let permuted = permute(&profile);
        assert_ne!(permuted, permute(&permuted), "nothing was permuted");
        fs::write(folder.path().join("outgate.yaml"), permuted).unwrap();
        let catalog = folder.path().join("catalog");
        fs::create_dir_all(catalog.join("callouts")).unwrap();
        let from = self::catalog(&example);
        for name in ["releases.yaml", "sources.yaml", "features.yaml", "providers.yaml"] {
            let text = fs::read_to_string(from.join(name)).unwrap();
            fs::write(catalog.join(name), permute(&text)).unwrap();
        }
        // All subjects in one file, backwards.
        let mut callouts = String::from("callouts:\n");
        for (_, text) in tree(&from.join("callouts")) {
            if let Some((_, list)) = text.split_once("\ncallouts:\n") {
                callouts.push_str(list);
            }
        }
        fs::write(catalog.join("callouts/all.yaml"), permute(&callouts)).unwrap();
        let output = outgate(&["generate", "--catalog", "catalog"], folder.path());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_same(&example.join("out"), &folder.path().join("out"));
    }
}

#[test]
fn no_output_holds_a_name_the_vendor_misspelt() {
    for example in examples() {
        for (name, text) in tree(&example.join("out")) {
            for wrong in ["frp-archive", "iocate-", "ixystems", "updates.ix"] {
                assert!(!text.contains(wrong), "{name} holds {wrong}");
            }
        }
    }
}

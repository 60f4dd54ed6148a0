//! The documentation against the program: findings, keys, commands with their output, links.
//!
//! A ```` ```console ```` block is run: each `$ outgate …` in a folder with a copy of `examples/`, its output compared
//! with the lines below it, where `...` stands for any lines. What needs network or another machine stands in `sh`
//! blocks: they are read by a shell, and every command in them is one the program takes. A `yaml` block whose first line is `# folder/outgate.yaml` is written there first.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use outgate::diagnostic::Code;
use serde_json::Value;

mod support;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every page, by its path from the root.
fn pages() -> Vec<String> {
    let mut pages: Vec<String> =
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned).into();
    // The folder of releases is generated; its own test keeps it.
    for folder in ["docs", "docs/guides"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "md") {
                pages.push(format!("{folder}/{}", path.file_name().unwrap().to_string_lossy()));
            }
        }
    }
    pages.sort();
    assert!(pages.len() >= 10, "pages are gone: {pages:?}");
    pages
}

/// A fenced block: its word, the number of its first line, its lines.
struct Block {
    word: String,
    line: usize,
    lines: Vec<String>,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(word)) => open = Some(Block { word: word.to_owned(), line: number + 1, lines: Vec::new() }),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is never closed");
    blocks
}

/// The rows of every table whose first column has this title, each as its cells.
fn rows(text: &str, title: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Option<Vec<String>> {
        let inner = line.strip_prefix("| ")?.strip_suffix('|')?;
        Some(inner.split(" | ").map(|cell| cell.trim().to_owned()).collect())
    };
    let (mut rows, mut ours) = (Vec::new(), false);
    for line in text.lines() {
        match cells(line) {
            Some(row) if row[0] == title => ours = true,
            Some(row) if ours => rows.push(row),
            Some(_) => {}
            None => ours = ours && line.starts_with("|---"),
        }
    }
    rows
}

fn code_of(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

// Findings.

fn findings_faults(page: &str) -> Vec<String> {
    let said: BTreeMap<String, String> =
        rows(page, "code").into_iter().map(|row| (code_of(&row[0]), row[1].clone())).collect();
    let mut faults = Vec::new();
    for code in Code::ALL {
        match said.get(code.as_str()) {
            None => faults.push(format!("{} is not there", code.as_str())),
            Some(meaning) if meaning != code.meaning() => {
                faults.push(format!("{}: {meaning:?} is not {:?}", code.as_str(), code.meaning()));
            }
            Some(_) => {}
        }
    }
    let known: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    faults.extend(said.keys().filter(|c| !known.contains(&c.as_str())).map(|code| format!("there is no {code}")));
    faults
}

#[test]
fn every_finding_stands_in_its_page() {
    assert_eq!(findings_faults(&read("docs/findings.md")), Vec::<String>::new());
}

#[test]
fn a_missing_an_unknown_and_a_changed_finding_are_seen() {
    let page = read("docs/findings.md");
    let wrong = page.replace("| `E001` |", "| `E999` |").replace("A port is none.", "A port is nun.");
    assert_eq!(
        findings_faults(&wrong),
        ["E001 is not there", "E011: \"A port is nun.\" is not \"A port is none.\"", "there is no E999"]
    );
}

// Commands.

/// Whether the lines are those expected, `...` standing for any.
fn fits(expected: &[String], actual: &[&str]) -> bool {
    match expected.split_first() {
        None => actual.is_empty(),
        Some((first, rest)) if first == "..." => (0..=actual.len()).any(|skip| fits(rest, &actual[skip..])),
        Some((first, rest)) => {
            actual.split_first().is_some_and(|(line, others)| line.trim_end() == first && fits(rest, others))
        }
    }
}

/// Runs one command line as a page has it; its status, and what it printed as a terminal shows it.
fn run(line: &str, folder: &Path) -> (Option<i32>, String) {
    let line = line.replace("cargo run --release -- ", "outgate ");
    let words = line.strip_prefix("outgate ").unwrap_or_else(|| panic!("`{line}` cannot be run: use an sh block"));
    assert!(!words.contains(['"', '\'', '$', ';', '|', '>', '&']), "`{line}` needs a shell: use an sh block");
    let output = Command::new(env!("CARGO_BIN_EXE_outgate"))
        .args(words.split_whitespace())
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("SOURCE_DATE_EPOCH", "1795219200")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code(), text.trim_end().to_owned())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &target) } else { _ = fs::copy(entry.path(), target).unwrap() }
    }
}

/// Writes the page's profiles below `folder`; their paths.
fn write_profiles(page: &str, folder: &Path) -> Vec<String> {
    let mut written = Vec::new();
    for block in blocks(page).into_iter().filter(|block| block.word == "yaml") {
        if let Some(path) = block.lines[0].strip_prefix("# ").filter(|path| path.ends_with("/outgate.yaml")) {
            let file = folder.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, block.lines.join("\n") + "\n").unwrap();
            written.push(path.to_owned());
        }
    }
    written
}

/// Every command of a page that fails or prints something else; and how many there are.
fn command_faults(name: &str, page: &str) -> (Vec<String>, usize) {
    let folder = tempfile::tempdir().unwrap();
    copy(&root().join("examples"), &folder.path().join("examples"));
    write_profiles(page, folder.path());
    let (mut faults, mut count) = (Vec::new(), 0);
    for block in blocks(page).into_iter().filter(|block| block.word == "console") {
        let starts: Vec<usize> = (0..block.lines.len()).filter(|&i| block.lines[i].starts_with("$ ")).collect();
        assert_eq!(starts.first(), Some(&0), "{name}:{}: a console block begins with a command", block.line);
        for (i, &start) in starts.iter().enumerate() {
            let end = starts.get(i + 1).copied().unwrap_or(block.lines.len());
            let command = &block.lines[start][2..];
            let (status, text) = run(command, folder.path());
            count += 1;
            if status != Some(0) || !fits(&block.lines[start + 1..end], &text.lines().collect::<Vec<_>>()) {
                let at = block.line + start;
                faults.push(format!("{name}:{at}: `{command}` ended with {status:?} and printed:\n{text}"));
            }
        }
    }
    (faults, count)
}

#[test]
fn every_command_prints_what_its_page_says() {
    let (mut faults, mut count) = (Vec::new(), 0);
    for page in pages() {
        let (more, n) = command_faults(&page, &read(&page));
        faults.extend(more);
        count += n;
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n\n"));
    assert!(count >= 6, "only {count} commands were run");
}

#[test]
fn a_command_that_fails_or_prints_something_else_is_seen() {
    let block = |lines: &str| format!("```console\n{lines}\n```\n");
    let good = "$ outgate catalog list --release 25.10.2 --feature updates\n...";
    assert!(command_faults("good", &block(good)).0.is_empty());
    for wrong in [
        "$ outgate catalog list --release 25.10.2 --feature updates",
        "$ outgate catalog list --release 25.10.2 --feature updates\n...\nsomething else",
        "$ outgate catalog list --release 99\n...",
        "$ outgate generate -c examples/nowhere/outgate.yaml\n...",
    ] {
        assert_eq!(command_faults("wrong", &block(wrong)).0.len(), 1, "{wrong}");
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(fits(&lines("a\n...\nc"), &["a", "b", "b", "c"]) && fits(&lines("a\n...\nc"), &["a", "c"]));
    assert!(!fits(&lines("a\nc"), &["a", "b", "c"]) && !fits(&lines("a\n..."), &["b"]));
    assert!(!fits(&lines("a"), &["a", "b"]) && !fits(&lines("a\nb"), &["a"]));
}

// Commands that load rules, become root or ask the Internet stand in sh blocks and are not run here.

/// Every sh block that a shell cannot read, and every command of ours in one that the program does not take: an option it
/// does not have, a word too many, a value that is none. And how many commands there are.
fn shell_faults(name: &str, page: &str) -> (Vec<String>, usize) {
    let folder = tempfile::tempdir().unwrap();
    let (mut faults, mut count) = (Vec::new(), 0);
    for block in blocks(page).into_iter().filter(|block| block.word == "sh") {
        let text = block.lines.join("\n");
        let read = Command::new("bash").args(["-nc", &text]).output().unwrap();
        if !read.status.success() {
            faults.push(format!("{name}:{}: {}", block.line, String::from_utf8_lossy(&read.stderr)));
        }
        for part in text.split(['\n', ';', '|', '&', '<', '>', '(', ')']) {
            let words = part.split(" #").next().unwrap().trim_end_matches('\\').trim();
            let first = words.split(' ').position(|word| word == "outgate");
            let before = |at: usize| words.split(' ').take(at).all(|word| word == "sudo" || word.contains('='));
            let Some(at) = first.filter(|at| before(*at)) else { continue };
            let arguments = words.split(' ').skip(at + 1).collect::<Vec<_>>().join(" ");
            // With --help it takes the words apart and does nothing with them. No name is filled in by the shell.
            let output = Command::new("sh")
                .args(["-fc", &format!("\"$0\" {arguments} --help"), env!("CARGO_BIN_EXE_outgate")])
                .current_dir(folder.path())
                .output()
                .unwrap();
            count += 1;
            if !output.status.success() {
                faults.push(format!("{name}: `outgate {arguments}`: {}", String::from_utf8_lossy(&output.stderr)));
            }
        }
    }
    (faults, count)
}

#[test]
fn commands_of_shell_blocks_are_those_the_program_takes() {
    let (mut faults, mut count) = (Vec::new(), 0);
    for page in pages() {
        let (more, n) = shell_faults(&page, &read(&page));
        faults.extend(more);
        count += n;
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n\n"));
    assert!(count >= 50, "only {count} commands were looked at");
    for (wrong, expected) in [
        ("outgate resolve # asks", 0),
        ("sudo outgate apply nftables && outgate apply --confirm", 0),
        ("outgate resolve --nothing", 1),
        ("outgate generate\nif x; then", 1),
        ("sudo outgate apply router", 1),
    ] {
        assert_eq!(shell_faults("x", &format!("```sh\n{wrong}\n```\n")).0.len(), expected, "{wrong}");
    }
}

// Keys.

/// The keys of a type that a file is read into.
fn fields(source: &str, name: &str) -> BTreeSet<String> {
    let heads = ["", "<'a>"].map(|lifetime| format!("struct {name}{lifetime} {{\n"));
    let body = heads.iter().find_map(|head| source.split(head.as_str()).nth(1));
    let body = body.unwrap_or_else(|| panic!("there is no {name}"));
    let body = body.split("\n}").next().unwrap();
    let names = body.lines().filter(|line| !line.trim_start().starts_with(['#', '/']));
    names
        .map(|line| {
            line.trim().split(':').next().unwrap().trim_start_matches("pub ").trim_start_matches("r#").replace('_', "-")
        })
        .collect()
}

/// The keys of a page's tables.
fn keys(page: &str) -> BTreeSet<String> {
    rows(page, "key").iter().map(|row| code_of(&row[0])).collect()
}

/// The parts of keys right behind a prefix.
fn behind(keys: &BTreeSet<String>, prefix: &str) -> BTreeSet<String> {
    let rest = keys.iter().filter_map(|key| key.strip_prefix(prefix));
    rest.map(|rest| rest.split(['.', '[']).next().unwrap().to_owned()).collect()
}

/// Where in a page each type's keys are: page, prefix, source file, type.
const KEYS: &[(&str, &str, &str, &str)] = &[
    ("docs/profile.md", "", "src/profile.rs", "RawProfile"),
    ("docs/profile.md", "clients.", "src/profile.rs", "RawClients"),
    ("docs/profile.md", "servers.<kind>[].", "src/profile.rs", "RawServer"),
    ("docs/profile.md", "leave-out[].", "src/profile.rs", "RawLeftOut"),
    ("docs/profile.md", "strict-except[].", "src/strict.rs", "RawException"),
    ("docs/profile.md", "shared[].", "src/strict.rs", "RawShared"),
    ("docs/profile.md", "tests[].", "src/assertion.rs", "RawTest"),
    ("docs/profile.md", "answers.", "src/profile.rs", "RawAnswers"),
    ("docs/profile.md", "answers.hosts.<name>.", "src/profile.rs", "RawHostAnswers"),
    ("docs/profile.md", "ranges.<name>.", "src/profile.rs", "RawRange"),
    ("docs/profile.md", "targets.", "src/settings.rs", "RawSettings"),
    ("docs/profile.md", "targets.nftables.", "src/settings.rs", "RawNftables"),
    ("docs/profile.md", "targets.nftables.clients.<who>.", "src/settings.rs", "RawMarks"),
    ("docs/profile.md", "targets.pf.", "src/settings.rs", "RawPf"),
    ("docs/profile.md", "targets.opnsense.", "src/settings.rs", "RawOpnsense"),
    ("docs/profile.md", "targets.squid.", "src/settings.rs", "RawSquid"),
    ("docs/profile.md", "targets.squid.intercept.", "src/settings.rs", "RawIntercept"),
    ("docs/profile.md", "targets.squid.decrypt.", "src/settings.rs", "RawDecrypt"),
    ("docs/profile.md", "targets.lists.", "src/settings.rs", "RawLists"),
    ("docs/profile.md", "targets.cilium.", "src/settings.rs", "RawCilium"),
    ("docs/profile.md", "targets.unbound.", "src/settings.rs", "RawNameServer"),
    ("docs/profile.md", "targets.dnsmasq.", "src/settings.rs", "RawNameServer"),
    ("docs/profile.md", "targets.rpz.", "src/settings.rs", "RawRpz"),
    ("docs/profile.md", "targets.hosts.", "src/settings.rs", "RawHosts"),
    ("docs/sites.md", "", "src/workspace.rs", "RawWorkspace"),
    ("docs/catalog.md", "", "src/callout.rs", "RawCallout"),
    ("docs/catalog.md", "releases[].", "src/callout.rs", "RawInterval"),
    ("docs/catalog.md", "blocked.", "src/callout.rs", "RawBlocked"),
    ("docs/catalog.md", "sources[].", "src/callout.rs", "RawCitation"),
    ("docs/catalog.md", "corrections[].", "src/callout.rs", "RawCorrection"),
];

#[test]
fn every_key_stands_in_its_page_and_no_other() {
    for (page, prefix, file, name) in KEYS {
        assert_eq!(behind(&keys(&read(page)), prefix), fields(&read(file), name), "{page}, {prefix}*, {name}");
    }
    let entry = fields(&read("src/callout.rs"), "RawCallout");
    assert!(behind(&keys(&read("docs/profile.md")), "extra[].").is_subset(&entry));
    let lock = read("src/lock/file.rs");
    let all = ["Document", "EntryText", "SeenText", "FailedText", "SampledText", "ListText", "ListedText"]
        .iter()
        .flat_map(|name| fields(&lock, name))
        .collect::<BTreeSet<_>>();
    assert_eq!(keys(&read("docs/lock.md")), all, "docs/lock.md");
}

/// The keys of a profile as the page writes them: lists of mappings with `[]`, kinds of servers with `<kind>`.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        // The keys behind it are failures, any of them.
        Value::Object(_) if at.ends_with("on-failure") => _ = found.insert(at.to_owned()),
        Value::Object(map) => {
            for (key, value) in map {
                let key = match at {
                    "servers" => "<kind>",
                    "answers.hosts" | "ranges" => "<name>",
                    "targets.nftables.clients" => "<who>",
                    _ => key,
                };
                paths(value, &if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }, found);
            }
        }
        Value::Array(list) if list.first().is_some_and(Value::is_object) => {
            list.iter().for_each(|item| paths(item, &format!("{at}[]"), found));
        }
        _ => _ = found.insert(at.to_owned()),
    }
}

#[test]
fn the_complete_profile_is_complete_and_generates() {
    let page = read("docs/profile.md");
    let folder = tempfile::tempdir().unwrap();
    copy(&root().join("examples"), &folder.path().join("examples"));
    assert!(write_profiles(&page, folder.path()).contains(&"complete/outgate.yaml".to_owned()));
    let text = fs::read_to_string(folder.path().join("complete/outgate.yaml")).unwrap();
    let mut found = BTreeSet::new();
    paths(&serde_saphyr::from_str(&text).unwrap(), "", &mut found);
    // A list is in one place only; what comes from the network no test can read.
    let elsewhere = ["ranges.<name>.url", "ranges.<name>.provider"].map(str::to_owned);
    assert!(elsewhere.iter().all(|key| !found.contains(key)));
    found.extend(elsewhere);
    assert_eq!(found, keys(&page));
    let command = "outgate generate -c complete/outgate.yaml --lock examples/home-lab/outgate.lock --out complete/out";
    let (status, text) = run(command, folder.path());
    assert_eq!(status, Some(0), "{text}");
    for target in outgate::target::TARGETS {
        assert!(folder.path().join("complete/out").join(target.name).join(target.main).is_file(), "{}", target.name);
    }
}

#[test]
fn every_profile_on_a_page_is_a_good_one() {
    let catalog = support::model::catalog();
    let mut count = 0;
    for page in pages() {
        let folder = tempfile::tempdir().unwrap();
        for path in write_profiles(&read(&page), folder.path()) {
            let text = fs::read_to_string(folder.path().join(&path)).unwrap();
            let policy = support::model::policy(&catalog, &text);
            assert!(policy.is_ok(), "{page}: {path}: {policy:?}");
            assert!(support::model::policy(&catalog, &format!("{text}\nunknown: 1\n")).is_err());
            count += 1;
        }
    }
    assert!(count >= 3, "only {count} profiles were read");
}

#[test]
fn a_key_that_is_not_written_down_is_seen() {
    let page = read("docs/profile.md");
    let without = page.replace("| `targets.pf.side` |", "| targets.pf.sides |");
    assert_ne!(page, without);
    assert_ne!(behind(&keys(&without), "targets.pf."), fields(&read("src/settings.rs"), "RawPf"));
    let (mut found, mut lacks) = (BTreeSet::new(), BTreeSet::new());
    paths(&serde_json::json!({"servers": {"dns": [{"host": "a"}]}, "targets": {"pf": {"side": "b"}}}), "", &mut found);
    paths(&serde_json::json!({"servers": {"dns": [{"host": "a"}]}}), "", &mut lacks);
    assert_eq!(found.iter().collect::<Vec<_>>(), ["servers.<kind>[].host", "targets.pf.side"]);
    assert_ne!(found, lacks);
}

// Links.

/// The anchor a heading has on the web: lower case, spaces as hyphens, other marks left out.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn link_faults(name: &str, page: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for link in page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        if link.starts_with("https://") {
            continue;
        }
        let (file, fragment) = link.split_once('#').map_or((link, None), |(file, fragment)| (file, Some(fragment)));
        let path =
            if file.is_empty() { root().join(name) } else { root().join(Path::new(name).parent().unwrap()).join(file) };
        let Ok(text) = fs::read_to_string(&path) else {
            faults.push(format!("{name}: {link} leads nowhere"));
            continue;
        };
        let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#'));
        if fragment.is_some_and(|fragment| !headings.map(anchor).any(|heading| heading == fragment)) {
            faults.push(format!("{name}: {link} leads to no heading"));
        }
    }
    faults
}

#[test]
fn links_lead_somewhere() {
    let faults: Vec<String> = pages().iter().flat_map(|page| link_faults(page, &read(page))).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert_eq!(link_faults("README.md", "[a](docs/nothing.md) [b](docs/profile.md#nothing) [c](LICENSE-MIT)").len(), 2);
}

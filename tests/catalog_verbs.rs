//! `catalog lint`, `diff`, `coverage` and the forms of `list`, on small catalogs of their own and on ours.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use outgate::digest::sha256;
use tempfile::TempDir;

mod support;
use support::model;

fn outgate(args: &[&str], folder: &Path) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_outgate"))
        .args(args)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("SOURCE_DATE_EPOCH", "1795219200")
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

const PAGE: &str = "# A page

## Calls of the product

The product calls home.

| Port | Protocol |
|:----:|:--------:|
| 443  | TCP      |

{{< expand >}}
* Updates from https://update.acme.example/
* Time from https://tiem.acme.example/
{{< /expand >}}

### More calls
Nothing else is called.

## Other things
* https://not.a.call.example/
";

/// A catalog of a product that is not there, with one callout, written to a folder.
fn catalog(callouts: &str, page: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join("catalog").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "releases.yaml",
        "product: Acme\nprefixes: [\"ACME-\"]\nfamilies:\n  - {id: box, title: The box}\nlines:\n  \
         - {line: \"1.0\", family: box, first: {release: \"1.0.0\", date: \"2020-01-01\"}, last: {release: \"1.0.5\", date: \"2021-01-01\"}}\n  \
         - {line: \"2.0\", family: box, first: {release: \"2.0.0\", date: \"2022-01-01\"}, last: {release: \"2.0.1\", date: \"2023-01-01\"}}\n",
    );
    write(
        "sources.yaml",
        &format!(
            "sources:\n  - {{id: page, title: The page, url: https://docs.acme.example/, sha256: {}}}\n",
            sha256(page)
        ),
    );
    write("features.yaml", "features:\n  - {id: updates, title: Updates, about: Updates of the box.}\n");
    write(
        "providers.yaml",
        "providers:\n  - {id: cdn, title: A CDN, about: Files of all kinds., hosts: [cdn.acme.example], sources: [{source: page}]}\n",
    );
    write(
        "pages.yaml",
        "pages:\n  - source: page\n    sections: [Calls of the product]\n    prose: [5]\n    statements:\n      \
         - {line: 9, verdict: incomplete}\n      - {line: 12, verdict: right}\n      - {line: 13, verdict: misspelt}\n      \
         - {line: 17, verdict: wrong}\n",
    );
    write("callouts/all.yaml", callouts);
    fs::write(folder.path().join("page.md"), page).unwrap();
    folder
}

const GOOD: &str = "callouts:
  - id: update
    title: Updates
    purpose: Fetches updates.
    class: function
    origin: [nas]
    feature: updates
    providers: [cdn]
    hosts: [update.acme.example]
    ports: [443/tcp]
    releases: [{family: box, until: \"1.0.3\"}]
    blocked: {level: feature, effect: no updates}
    strict: allow
    sources:
      - {source: page, line: 9, quote: '| 443  | TCP      |'}
      - {source: page, line: 12, quote: 'Updates from https://update.acme.example/'}
      - {source: page, line: 17, quote: 'Nothing else is called.'}
  - id: time
    title: Time
    purpose: Asks for the time.
    class: function
    origin: [nas]
    hosts: [time.acme.example]
    ports: [123/udp]
    releases: [{family: box}]
    blocked: {level: core, effect: no time}
    strict: allow
    sources: [{source: page, line: 13, quote: 'Time from https://tiem.acme.example/'}]
    corrections:
      - as-written: tiem.acme.example
        right: The host is time.acme.example.
        evidence: [{source: page}]
";

#[test]
fn coverage_accounts_for_every_statement() {
    let site = catalog(GOOD, PAGE);
    let cover = |page: &str| outgate(&["catalog", "coverage", page, "--catalog", "catalog"], site.path());
    let (code, out, err) = cover("page.md");
    assert_eq!(code, Some(0), "{err}");
    assert!(out.ends_with("4 of 4 statements covered\n"), "{out}");
    assert!(out.contains("13 misspelt") && out.contains("right is     The host is time.acme.example."), "{out}");
    assert!(!out.contains("not.a.call") && !out.contains("calls home"), "{out}");

    // The page moves on: the text is another, a quote no longer stands there, and a statement is new.
    fs::write(
        site.path().join("new.md"),
        PAGE.replace("update.acme", "updates.acme").replace("{{< /expand", "* News\n{{< /expand"),
    )
    .unwrap();
    let (code, out, err) = cover("new.md");
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("W112") && err.contains("the words quoted by update do not stand there"), "{err}");
    assert!(err.contains("line 14: no entry covers it; nobody has judged it: `* News`"), "{err}");
    let (code, ..) = cover("missing.md");
    assert_eq!(code, Some(2));
}

#[test]
fn lint_finds_each_kind_of_doubt() {
    let lint = |callouts: &str| {
        let site = catalog(callouts, PAGE);
        outgate(&["catalog", "lint", "--catalog", "catalog"], site.path())
    };
    let (code, out, err) = lint(GOOD);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}{err}");
    for (from, to, finding) in [
        ("hosts: [time.acme.example]", "hosts: [update.acme.example]", "W108"),
        ("hosts: [time.acme.example]", "hosts: [cdn.acme.example]", "W108"),
        (
            "releases: [{family: box}]",
            "releases: [{family: box, until: \"1.0.4\"}, {family: box, since: \"1.0.2\"}]",
            "W109",
        ),
        ("until: \"1.0.3\"", "until: \"1.1.3\"", "W110"),
        ("evidence: [{source: page}]", "evidence: []", "W111"),
        ("hosts: [time.acme.example]", "hosts: [updte.acme.example]", "N207"),
        ("hosts: [time.acme.example]", "hosts: [updaet1.acme.example]", ""),
        ("    providers: [cdn]\n", "", "N208"),
        ("    feature: updates\n", "", "N208"),
    ] {
        assert!(GOOD.contains(from));
        let (code, out, err) = lint(&GOOD.replace(from, to));
        let expected = if finding.starts_with('W') { 1 } else { 0 };
        assert_eq!(code, Some(expected), "{to}: {out}{err}");
        assert_eq!(err.contains('['), !finding.is_empty(), "{to}: {err}");
        assert!(err.contains(finding), "{to} gave no {finding}: {err}");
    }
}

#[test]
fn our_own_catalog_has_no_doubts_but_twins() {
    let (code, out, err) = outgate(&["catalog", "lint"], Path::new(env!("CARGO_MANIFEST_DIR")));
    assert_eq!(code, Some(0), "{out}{err}");
}

#[test]
fn a_difference_is_what_opens_and_what_closes() {
    let site = catalog(GOOD, PAGE);
    let (code, out, _) = outgate(&["catalog", "diff", "1.0.3", "ACME-1.0.4", "--catalog", "catalog"], site.path());
    assert_eq!(code, Some(0));
    assert_eq!(
        out,
        "- nas cdn.acme.example 443/tcp  (update; feature updates)\n- nas update.acme.example 443/tcp  (update; feature updates)\n\
         0 opened, 2 closed from 1.0.3 to ACME-1.0.4\n"
    );
    // Two folders, and two revisions of git.
    let other = catalog(&GOOD.replace("123/udp", "123/tcp"), PAGE);
    let (first, second) = (site.path().join("catalog"), other.path().join("catalog"));
    let (_, out, err) = outgate(&["catalog", "diff", first.to_str().unwrap(), second.to_str().unwrap()], site.path());
    assert!(out.contains("+ nas time.acme.example 123/tcp  (time; always, box all)"), "{out}{err}");
    assert!(out.contains("- nas time.acme.example 123/udp") && out.contains("1 opened, 1 closed"), "{out}{err}");
    let git = |args: &[&str]| {
        let identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"];
        let output = Command::new("git").args(identity).args(args).current_dir(site.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "-q"]);
    git(&["add", "catalog"]);
    git(&["commit", "-q", "-m", "first"]);
    fs::write(site.path().join("catalog/callouts/all.yaml"), GOOD.replace("123/udp", "124/udp")).unwrap();
    git(&["commit", "-q", "-a", "-m", "second"]);
    let (code, out, err) = outgate(&["catalog", "diff", "HEAD~1", "HEAD"], site.path());
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("+ nas time.acme.example 124/udp") && out.contains("1 opened, 1 closed"), "{out}");
    for bad in ["--output=x", "nonsense", "HEAD:catalog"] {
        let (code, _, err) = outgate(&["catalog", "diff", "--", bad, "HEAD"], site.path());
        assert_eq!(code, Some(2), "{bad}: {err}");
    }
}

#[test]
fn a_list_is_selected_and_printed_in_every_form() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = |args: &[&str]| outgate(&[&["catalog", "list"], args].concat(), root).1;
    let all = list(&[]).lines().count();
    let (documented, rest) = (list(&["--documented"]).lines().count(), list(&["--undocumented"]).lines().count());
    assert_eq!(documented + rest, all);
    assert!(documented > 20 && list(&["--host", "GitHub.com"]).contains("apps-catalog"));
    let browser = list(&["--origin", "browser"]);
    assert!(browser.lines().count() < all && browser.lines().all(|line| line.contains("browser")));
    let csv = list(&["--format", "csv"]);
    assert_eq!(csv.lines().count(), all + 1);
    assert!(csv.lines().skip(1).all(|line| line.matches("\",\"").count() == 10), "a cell broke out of its row");
    let markdown = list(&["--format", "markdown"]);
    assert_eq!(markdown.lines().count(), all + 2);
    assert!(
        markdown.lines().all(|line| line.replace("\\|", "").matches('|').count() == 9),
        "a cell broke out of its row"
    );
    let json: serde_json::Value = serde_json::from_str(&list(&["--format", "json"])).unwrap();
    assert_eq!(json["callouts"].as_array().unwrap().len(), all);
    assert_eq!(outgate(&["catalog", "list", "--origin", "nsa"], root).0, Some(2));
    assert_eq!(outgate(&["targets", "--format", "json"], root).0, Some(0));
}

/// What a release contacts, as pages: `docs/releases/`, one a line and an index.
/// `SNAPSHOTS=overwrite cargo test --test catalog_verbs` renews them.
#[test]
fn the_pages_of_the_releases_are_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("docs/releases");
    let catalog = model::catalog();
    let mut pages = BTreeMap::new();
    let mut index = String::from(
        "# What each release contacts\n\nMade from the catalog; a test keeps these pages fresh. `outgate catalog show ID` has the \
         sources of each entry.\n\n| release | codename | first | newest known | callouts |\n|---|---|---|---|---|\n",
    );
    for line in &catalog.lines {
        let release = line.release.as_str();
        let name = format!("{}-{release}.md", line.family);
        let list = outgate(&["catalog", "list", "--release", release, "--format", "markdown"], root).1;
        let codename = line.codename.as_ref().map(|c| format!(" {c}")).unwrap_or_default();
        let title = format!("{} {}{codename}", catalog.product, release);
        let note =
            line.note.as_ref().map(|note| format!("{}. ", note.as_str().trim_end_matches('.'))).unwrap_or_default();
        let text = format!(
            "# {title}\n\n{}; {} of {} to {} of {}. {note}Callouts of every point release of the line, those of features \
             that are not in use among them.\n\n{list}",
            catalog.families[&line.family], line.first.0, line.first.1, line.last.0, line.last.1
        );
        index.push_str(&format!(
            "| [{release}]({name}) | {} | {} | {} of {} | {} |\n",
            codename.trim(),
            line.first.1,
            line.last.0,
            line.last.1,
            list.lines().count() - 2
        ));
        pages.insert(name, text);
    }
    pages.insert("README.md".to_owned(), index);
    if std::env::var_os("SNAPSHOTS").is_some_and(|value| value == "overwrite") {
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in &pages {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let on_disk: BTreeMap<String, String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    let names = |pages: &BTreeMap<String, String>| pages.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&on_disk), names(&pages));
    for (name, text) in &pages {
        assert!(on_disk[name] == *text, "docs/releases/{name} is not fresh");
    }
}

#[test]
fn an_exported_catalog_is_the_built_in_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = outgate(&["catalog", "export", "own/catalog"], folder.path());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("own/catalog: ") && out.ends_with(" files\n"), "{out}");
    let own = folder.path().join("own/catalog");
    let own = own.to_str().unwrap();
    // Every file is there as it is here, and no other.
    let diff = Command::new("diff").args(["-r", own]).arg(root.join("catalog")).output().unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
    // And the program makes the same of it.
    for site in ["home-lab", "strict-home", "core-jails"] {
        let args = ["--catalog", own, "generate", "--check", "-q", "-c", &format!("examples/{site}/outgate.yaml")];
        let (code, out, err) = outgate(&args, root);
        assert_eq!((code, out.as_str()), (Some(0), ""), "{site}: {err}");
    }
    // It is read, and not passed over: with an entry less there is something less to print.
    let list = || outgate(&["--catalog", own, "catalog", "list"], root).1;
    assert_eq!(list(), outgate(&["catalog", "list"], root).1);
    fs::remove_file(Path::new(own).join("callouts/time.yaml")).unwrap();
    assert_ne!(list(), outgate(&["catalog", "list"], root).1);
}

#[test]
fn an_export_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("mine")).unwrap();
    fs::write(folder.path().join("mine/releases.yaml"), "mine").unwrap();
    fs::write(folder.path().join("file"), "mine").unwrap();
    for (args, said) in [
        (vec!["catalog", "export", "mine"], "mine is not empty"),
        (vec!["catalog", "export", "file"], "file is a file"),
        (vec!["catalog", "export", "new", "--catalog", "mine"], "writes the built-in catalog"),
    ] {
        let (code, out, err) = outgate(&args, folder.path());
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}");
        assert!(err.contains(said), "{args:?}: {err}");
    }
    assert_eq!(fs::read_to_string(folder.path().join("mine/releases.yaml")).unwrap(), "mine");
    assert!(!folder.path().join("new").exists());
    // An empty folder is as good as none.
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert_eq!(outgate(&["catalog", "export", "empty"], folder.path()).0, Some(0));
}

//! What is given out: the archive and the package of Debian, built, looked into, installed into a folder, upgraded and
//! taken out again; and the workflow that makes a release of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

mod support;
use support::enforcers::{find, require, require_all};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn run(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(find(program).unwrap_or_else(|| program.into()));
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Builds into a folder; the paths it prints. The binary is that of the tests, without what a debugger wants.
fn package(binary: &Path, target: &str, folder: &Path) -> Vec<PathBuf> {
    let output = Command::new(root().join("scripts/package"))
        .args([binary.as_os_str(), target.as_ref(), folder.as_os_str()])
        .env("OUTGATE_HERE", env!("CARGO_BIN_EXE_outgate"))
        .env("SOURCE_DATE_EPOCH", "1795219200")
        .env("ZLEVEL", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap().lines().map(PathBuf::from).collect()
}

fn stripped(folder: &Path) -> PathBuf {
    let binary = folder.join("outgate");
    run("strip", &["-o", binary.to_str().unwrap(), env!("CARGO_BIN_EXE_outgate")]);
    binary
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn a_package_is_installed_upgraded_and_purged_and_keeps_what_is_the_sites() {
    if !require_all(&["dpkg", "dpkg-deb", "strip", "readelf"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let built = package(&stripped(folder.path()), "x86_64-unknown-linux-gnu", &at("dist"));
    let [_, deb] = &*built else { panic!("{built:?}") };
    assert!(deb.ends_with(format!("outgate_{VERSION}_amd64.deb")), "{built:?}");
    let field = |name: &str| run("dpkg-deb", &["--field", deb.to_str().unwrap(), name]).trim().to_owned();
    assert_eq!([field("Package"), field("Version"), field("Architecture")], ["outgate", VERSION, "amd64"]);
    assert!(field("Depends").starts_with("libc6 (>= 2."), "{}", field("Depends"));
    for line in run("dpkg-deb", &["--contents", deb.to_str().unwrap()]).lines() {
        assert!(line.contains(" root/root ") && line.as_bytes()[8] != b'w', "{line}");
    }
    // A machine of its own, without systemd.
    for name in ["root/var/lib/dpkg/info", "root/var/lib/dpkg/updates", "root/var/lib/outgate", "root/etc/outgate"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    fs::write(at("root/var/lib/dpkg/status"), "").unwrap();
    fs::write(at("root/etc/outgate/outgate.yaml"), "the site's\n").unwrap();
    fs::write(at("root/var/lib/outgate/outgate.lock"), "the last\n").unwrap();
    let root_option = format!("--root={}", at("root").display());
    let dpkg = |args: &[&str]| {
        let options =
            [&root_option, "--force-script-chrootless", "--force-depends", "--force-not-root", "--force-bad-path"];
        let log = format!("--log={}", at("log").display());
        run("dpkg", &[&options[..], &[&log], args].concat())
    };
    let keeps = || {
        assert_eq!(fs::read_to_string(at("root/etc/outgate/outgate.yaml")).unwrap(), "the site's\n");
        assert_eq!(fs::read_to_string(at("root/var/lib/outgate/outgate.lock")).unwrap(), "the last\n");
    };
    dpkg(&["--install", deb.to_str().unwrap()]);
    keeps();
    let shown = run(at("root/usr/bin/outgate").to_str().unwrap(), &["--version"]);
    assert_eq!(shown.trim(), format!("outgate {VERSION}"));
    for name in [
        "etc/default/outgate",
        "usr/lib/outgate/outgate-refresh",
        "usr/lib/systemd/system/outgate-refresh.service",
        "usr/lib/systemd/system/outgate-refresh.timer",
        "usr/share/bash-completion/completions/outgate",
        "usr/share/zsh/vendor-completions/_outgate",
        "usr/share/fish/vendor_completions.d/outgate.fish",
        "usr/share/man/man1/outgate-catalog-list.1.gz",
        "usr/share/man/man5/outgate.yaml.5.gz",
        "usr/share/doc/outgate/docs/operations.md",
        "usr/share/doc/outgate/copyright",
    ] {
        assert!(at("root").join(name).is_file(), "{name}");
    }
    // The unit starts what is there.
    let unit = fs::read_to_string(at("root/usr/lib/systemd/system/outgate-refresh.service")).unwrap();
    let program = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/")).unwrap();
    assert!(at("root").join(program.split(' ').next().unwrap()).is_file(), "{program}");
    assert!(unit.contains("EnvironmentFile=-/etc/default/outgate\n"));
    // The next version, over settings that somebody changed.
    fs::write(at("root/etc/default/outgate"), "OUTGATE_RESOLVE=mine\n").unwrap();
    let (tree, next) = (at("next"), at("next.deb"));
    run("dpkg-deb", &["--raw-extract", deb.to_str().unwrap(), tree.to_str().unwrap()]);
    let control = fs::read_to_string(tree.join("DEBIAN/control")).unwrap();
    fs::write(tree.join("DEBIAN/control"), control.replace(&format!("Version: {VERSION}"), "Version: 999")).unwrap();
    run("dpkg-deb", &["-Znone", "--build", tree.to_str().unwrap(), next.to_str().unwrap()]);
    dpkg(&["--install", next.to_str().unwrap()]);
    keeps();
    assert_eq!(fs::read_to_string(at("root/etc/default/outgate")).unwrap(), "OUTGATE_RESOLVE=mine\n");
    dpkg(&["--remove", "outgate"]);
    keeps();
    assert!(!at("root/usr/bin/outgate").exists() && at("root/etc/default/outgate").exists());
    dpkg(&["--purge", "outgate"]);
    keeps();
    assert!(!at("root/etc/default/outgate").exists());
}

#[test]
fn an_archive_is_the_same_each_time_and_whole() {
    if !require_all(&["tar", "gzip"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // FreeBSD's has no package; what the binary is does not matter, since another one prints pages and completions.
    let binary = folder.path().join("binary");
    fs::write(&binary, "of another system").unwrap();
    let first = package(&binary, "x86_64-unknown-freebsd", &folder.path().join("a"));
    let second = package(&binary, "x86_64-unknown-freebsd", &folder.path().join("b"));
    let [archive] = &*first else { panic!("{first:?}") };
    assert!(archive.ends_with(format!("outgate-{VERSION}-x86_64-unknown-freebsd.tar.gz")));
    assert_eq!(fs::read(archive).unwrap(), fs::read(&second[0]).unwrap(), "the same input gave other bytes");
    run("tar", &["-xzf", archive.to_str().unwrap(), "-C", folder.path().to_str().unwrap(), "--strip-components=1"]);
    for name in [
        "outgate",
        "README.md",
        "LICENSE-MIT",
        "man/man1/outgate.1",
        "completions/outgate.nushell",
        "contrib/freebsd/outgate",
        "docs/targets.md",
    ] {
        assert!(folder.path().join(name).is_file(), "{name}");
    }
    assert_eq!(fs::read_to_string(folder.path().join("outgate")).unwrap(), "of another system");
}

fn workflow(name: &str) -> Value {
    let text = fs::read_to_string(root().join(".github/workflows").join(name)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

#[test]
fn workflows_have_the_least_rights() {
    let mut jobs = 0;
    for name in ["ci.yml", "release.yml"] {
        let workflow = workflow(name);
        for (job, content) in workflow["jobs"].as_object().unwrap() {
            let rights = content.get("permissions").unwrap_or(&workflow["permissions"]).as_object().unwrap();
            let writes: Vec<&String> = rights.iter().filter(|(_, right)| *right == "write").map(|(of, _)| of).collect();
            let expected: &[&str] = if job == "publish" { &["contents"] } else { &[] };
            assert_eq!(writes, expected, "{name}: {job}");
            assert!(content["timeout-minutes"].is_number(), "{name}: {job} may run for ever");
            for step in content["steps"].as_array().unwrap() {
                let uses = step["uses"].as_str().unwrap_or_default();
                assert!(uses.is_empty() || uses.starts_with("actions/"), "{name}: {job}: a stranger's action: {uses}");
                if uses.starts_with("actions/checkout@") {
                    assert_eq!(step["with"]["persist-credentials"], false, "{name}: {job}");
                }
                // What a stranger may write, the name of a branch for one, is never pasted into a script.
                let script = step["run"].as_str().unwrap_or_default();
                assert!(!script.contains("${{"), "{name}: {job}: {script}");
            }
            jobs += 1;
        }
    }
    assert_eq!(jobs, 6);
}

#[test]
fn scripts_of_workflows_are_sound_shell() {
    if !require("shellcheck") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["ci.yml", "release.yml"] {
        for (job, content) in workflow(name)["jobs"].as_object().unwrap() {
            for script in content["steps"].as_array().unwrap().iter().filter_map(|step| step["run"].as_str()) {
                let path = folder.path().join("script");
                fs::write(&path, format!("{script}\n")).unwrap();
                let output =
                    Command::new(find("shellcheck").unwrap()).args(["-s", "bash"]).arg(&path).output().unwrap();
                assert_eq!(said(&output), "", "{name}: {job}");
            }
        }
    }
}

#[test]
fn a_release_holds_every_target_the_manual_names() {
    let release = workflow("release.yml");
    let targets = release["jobs"]["build"]["strategy"]["matrix"]["target"].as_array().unwrap();
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    for target in targets {
        assert!(page.contains(target.as_str().unwrap()), "{target} is not in docs/operations.md");
    }
    assert!(targets.len() > 2, "{targets:?}");
}

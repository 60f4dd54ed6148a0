//! What stands in the repository for forges: the action, the workflows, the hooks. Their steps are run in a repository of
//! two commits; what the forge itself would do is played by stubs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn yaml(path: &str) -> Value {
    let text = fs::read_to_string(root().join(path)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A repository with a site, one commit behind the other, and a folder with stubs in front of the path.
struct Repository {
    folder: TempDir,
    base: String,
}

const SHARE: (&str, &str) = ("203.0.113.192/28", "203.0.113.240/30");

impl Repository {
    fn new(changes: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("site");
        let example = root().join("examples/home-lab");
        fs::create_dir_all(&site).unwrap();
        for name in ["outgate.yaml", "outgate.lock"] {
            fs::copy(example.join(name), site.join(name)).unwrap();
        }
        fs::create_dir_all(folder.path().join("bin")).unwrap();
        fs::create_dir_all(folder.path().join("tmp")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_outgate"), folder.path().join("bin/outgate")).unwrap();
        let mut repository = Self { folder, base: String::new() };
        repository.must("outgate generate -q || [ $? = 1 ]");
        repository.must("git init -q -b main && git add . && git commit -qm first");
        repository.base = repository.must("git rev-parse HEAD").trim().to_owned();
        for (from, to) in changes {
            let path = repository.site().join("outgate.yaml");
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "the profile has no `{from}` to change");
            fs::write(&path, text.replace(from, to)).unwrap();
        }
        if !changes.is_empty() {
            repository.must("outgate generate -q || true; git commit -qam second");
        }
        repository
    }

    fn site(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    fn tmp(&self, name: &str) -> PathBuf {
        self.folder.path().join("tmp").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.tmp(name)).unwrap_or_default()
    }

    /// A program of somebody else's.
    fn stub(&self, name: &str, script: &str) {
        let path = self.folder.path().join("bin").join(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, format!("#!/bin/bash\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn bash(&self, script: &str, env: &BTreeMap<String, String>) -> Output {
        let path = format!("{}:{}", self.folder.path().join("bin").display(), std::env::var("PATH").unwrap());
        let identity = ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"];
        // As the forges run a step: it ends with the first command that fails.
        Command::new("bash")
            .args(["--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script])
            .current_dir(self.site())
            .env("PATH", path)
            .env("SOURCE_DATE_EPOCH", "1795219200")
            .env("NO_COLOR", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .envs(identity.map(|name| (name, "t@example.org")))
            .env("RUNNER_TEMP", self.folder.path().join("tmp"))
            .env("GITHUB_OUTPUT", self.tmp("output"))
            .env("GITHUB_STEP_SUMMARY", self.tmp("summary.md"))
            .env("STUB", self.folder.path().join("tmp"))
            .envs(env)
            .output()
            .unwrap()
    }

    fn must(&self, script: &str) -> String {
        let output = self.bash(script, &BTreeMap::new());
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A run of the action: what its steps printed, and whether the last one succeeded.
struct Run {
    said: String,
    passed: bool,
}

/// Runs the action's own steps in order, as a runner would: with its inputs, and each step's outputs for those behind it.
fn act(repository: &Repository, event: &str, inputs: &[(&str, &str)]) -> Run {
    let action = yaml("action.yml");
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for (name, input) in action["inputs"].as_object().unwrap() {
        known.insert(format!("inputs.{name}"), words(&input["default"]).to_owned());
    }
    for (name, value) in inputs {
        let before = known.insert(format!("inputs.{name}"), (*value).to_owned());
        assert!(before.is_some(), "the action has no input {name}");
    }
    let pull = event == "pull_request";
    known.extend([
        ("github.token".to_owned(), "secret".to_owned()),
        ("github.action_path".to_owned(), root().display().to_string()),
        ("github.repository".to_owned(), "owner/site".to_owned()),
        ("github.event.pull_request.base.sha".to_owned(), if pull { repository.base.clone() } else { String::new() }),
        ("github.event.pull_request.number".to_owned(), if pull { "7".to_owned() } else { String::new() }),
        ("github.event.before".to_owned(), if pull { String::new() } else { "0".repeat(40) }),
    ]);
    let mut run = Run { said: String::new(), passed: true };
    for step in action["runs"]["steps"].as_array().unwrap() {
        let wanted = match words(&step["if"]) {
            "" => true,
            "inputs.program == ''" => known["inputs.program"].is_empty(),
            "inputs.sarif == 'true'" => known["inputs.sarif"] == "true",
            "inputs.comment == 'true' && github.event_name == 'pull_request'" => {
                known["inputs.comment"] == "true" && pull
            }
            other => panic!("a condition this test does not know: {other}"),
        };
        if !wanted || step.get("uses").is_some() {
            continue;
        }
        assert_eq!(step["shell"], "bash");
        let env = step["env"].as_object().unwrap().iter().map(|(name, value)| {
            let value = words(value);
            let inside = value.strip_prefix("${{ ").and_then(|value| value.strip_suffix(" }}"));
            let value = inside.map(|name| known.get(name).unwrap_or_else(|| panic!("nothing is called {name}")));
            let value = match value.map(String::as_str) {
                Some("${{ github.token }}") => "secret",
                other => other.unwrap_or_default(),
            };
            (name.clone(), value.to_owned())
        });
        let _ = fs::remove_file(repository.tmp("output"));
        let output = repository.bash(words(&step["run"]), &env.collect());
        run.said += &String::from_utf8_lossy(&output.stdout);
        run.said += &String::from_utf8_lossy(&output.stderr);
        run.passed = output.status.success();
        for line in repository.read("output").lines() {
            let (name, value) = line.split_once('=').unwrap();
            known.insert(format!("steps.{}.outputs.{name}", words(&step["id"])), value.to_owned());
        }
        // Only the verdict fails: the others must leave the report behind them undisturbed.
        assert!(run.passed || words(&step["name"]) == "Verdict", "{}: {}", step["name"], run.said);
    }
    run
}

/// `gh` as the action uses it: keeps what it was asked, answers with the comments there are.
const GH: &str = r#"echo "$*" >>"$STUB/gh"
case "$*" in
  *"--paginate"*) cat "$STUB/comments" 2>/dev/null ;;
esac
for word in "$@"; do case $word in body=@*) cp "${word#body=@}" "$STUB/body.md" ;; esac; done
exit 0"#;

const HERE: (&str, &str) = ("program", "outgate");

#[test]
fn no_script_holds_an_expression_and_no_workflow_more_rights_than_it_says() {
    let scripts = |steps: &Value| -> Vec<String> {
        steps.as_array().unwrap().iter().filter_map(|step| step["run"].as_str()).map(str::to_owned).collect()
    };
    let action = yaml("action.yml");
    let mut all = scripts(&action["runs"]["steps"]);
    for (file, rights) in [
        ("github-review.yml", &[("contents", "read"), ("pull-requests", "write")][..]),
        ("github-refresh.yml", &[("contents", "write"), ("pull-requests", "write")][..]),
    ] {
        let workflow = yaml(&format!("examples/ci/{file}"));
        let said: BTreeMap<&str, &str> = workflow["permissions"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(what, right)| (what.as_str(), words(right)))
            .collect();
        assert_eq!(said, rights.iter().copied().collect(), "{file}");
        for job in workflow["jobs"].as_object().unwrap().values() {
            assert!(job.get("permissions").is_none());
            all.extend(scripts(&job["steps"]));
        }
    }
    assert!(all.len() >= 8, "{}", all.len());
    for script in all {
        assert!(!script.contains("${{"), "{script}");
        let checked = Command::new("bash").args(["-n", "-c", &script]).output().unwrap();
        assert!(checked.status.success(), "{script}: {}", String::from_utf8_lossy(&checked.stderr));
    }
    // An input that nothing reads would be a promise.
    let text = fs::read_to_string(root().join("action.yml")).unwrap();
    for name in action["inputs"].as_object().unwrap().keys() {
        assert!(text.contains(&format!("inputs.{name}")), "{name}");
    }
}

#[test]
fn a_pull_request_that_is_right_passes_with_a_comment() {
    let repository =
        Repository::new(&[("hosts: [backup.example.org,", "hosts: [backup.example.org, second.example.net,")]);
    // The new name is not in the lock: that is what the check is for.
    repository.stub("gh", GH);
    let run = act(&repository, "pull_request", &[HERE, ("fail-on", "error")]);
    assert!(!run.passed, "{}", run.said);

    let repository = Repository::new(&[("ports: [22/tcp]", "ports: [22/tcp, 2222/tcp]")]);
    repository.stub("gh", GH);
    let run = act(&repository, "pull_request", &[HERE]);
    assert!(run.passed, "{}", run.said);
    let body = repository.read("body.md");
    assert!(body.starts_with("<!-- outgate -->\n**outgate check: passed.**\n"), "{body}");
    assert!(body.contains("`2222/tcp`") && body.contains("change of intent in 1 rule"), "{body}");
    assert!(body.chars().count() < 65_536);
    let asked = repository.read("gh");
    assert!(asked.contains("--method POST repos/owner/site/issues/7/comments"), "{asked}");
    assert!(!asked.contains("PATCH") && !asked.contains("secret"), "{asked}");
    let summary = repository.read("summary.md");
    assert!(summary.contains(body.trim_end()) && summary.matches("```").count() == 2, "{summary}");
    let sarif: Value = serde_json::from_str(&repository.read("outgate.sarif")).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
}

#[test]
fn the_comment_that_is_there_is_kept_up_to_date() {
    let repository = Repository::new(&[("ports: [22/tcp]", "ports: [22/tcp, 2222/tcp]")]);
    repository.stub("gh", GH);
    fs::write(repository.tmp("comments"), "4711\n4712\n").unwrap();
    assert!(act(&repository, "pull_request", &[HERE]).passed);
    let asked = repository.read("gh");
    assert!(
        asked.contains("--method PATCH repos/owner/site/issues/comments/4711") && !asked.contains("POST"),
        "{asked}"
    );
}

#[test]
fn a_shared_address_stops_the_pull_request_at_its_line() {
    let repository = Repository::new(&[SHARE]);
    repository.stub("gh", GH);
    let run = act(&repository, "pull_request", &[HERE]);
    assert!(!run.passed, "{}", run.said);
    let profile = fs::read_to_string(repository.site().join("outgate.yaml")).unwrap();
    let at = 1 + profile.lines().position(|line| line.contains("203.0.113.240/30")).unwrap();
    let head = run.said.lines().find(|line| line.contains("title=E023")).unwrap_or_else(|| panic!("{}", run.said));
    // The entry that allows it, to the line.
    let line: usize = head.split("line=").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!(head.starts_with("::error file=outgate.yaml,") && line <= at && at - line < 8, "{head}, line {at}");
    let body = repository.read("body.md");
    assert!(body.contains("**outgate check: failed.**") && body.contains("**error** E023"), "{body}");
}

#[test]
fn without_the_right_to_comment_the_summary_has_it() {
    let repository = Repository::new(&[("ports: [22/tcp]", "ports: [22/tcp, 2222/tcp]")]);
    for gh in
        ["echo 'HTTP 403: Resource not accessible by integration' >&2; exit 1", "[[ $* == *--paginate* ]] || exit 1"]
    {
        repository.stub("gh", gh);
        let _ = fs::remove_file(repository.tmp("summary.md"));
        let run = act(&repository, "pull_request", &[HERE]);
        assert!(run.passed && run.said.contains("::notice title=outgate::no comment could be written"), "{}", run.said);
        assert!(repository.read("summary.md").contains("`2222/tcp`"));
    }
}

#[test]
fn a_push_is_checked_without_a_comment_and_a_broken_profile_is_an_error() {
    let repository = Repository::new(&[]);
    repository.stub("gh", "exit 9");
    let run = act(&repository, "push", &[HERE]);
    assert!(run.passed, "{}", run.said);
    assert!(!repository.read("summary.md").contains("cannot be compared"));
    let run = act(&repository, "push", &[HERE, ("base", "HEAD")]);
    assert!(run.passed && repository.read("summary.md").contains("nothing changed"), "{}", run.said);
    let run = act(&repository, "push", &[HERE, ("base", "no-such-commit")]);
    assert!(
        run.passed && run.said.contains("::warning title=outgate::the commit to compare with is not here"),
        "{}",
        run.said
    );
    fs::write(repository.site().join("outgate.yaml"), "site: [").unwrap();
    let run = act(&repository, "push", &[HERE]);
    assert!(!run.passed && run.said.contains("::error file=outgate.yaml,line=1"), "{}", run.said);
    assert!(repository.read("summary.md").contains("could not check"));
}

/// The script of a job's step in a workflow.
fn script(workflow: &Value, job: &str, step: &str) -> (String, BTreeMap<String, String>) {
    let steps = workflow["jobs"][job]["steps"].as_array().unwrap();
    let step = steps.iter().find(|own| own["name"] == step).unwrap_or_else(|| panic!("no step {step}"));
    let env = step["env"].as_object().into_iter().flatten();
    (words(&step["run"]).to_owned(), env.map(|(name, value)| (name.clone(), words(value).to_owned())).collect())
}

#[test]
fn the_refresh_proposes_what_moved_in_words() {
    let repository = Repository::new(&[]);
    let workflow = yaml("examples/ci/github-refresh.yml");
    // DNS is played: what is asked for comes from a lock that was made before, with an address more.
    let path = repository.site().join("outgate.lock");
    let mut sources = outgate::source::Sources::default();
    let id = sources.add("outgate.lock", fs::read_to_string(&path).unwrap());
    let mut lock = outgate::lock::Lock::parse(&sources, id).unwrap();
    let host = outgate::host::Query::parse("auth.docker.io").unwrap();
    let entry = lock.hosts.get_mut(&host).unwrap();
    let seen = entry.addresses.values().next().unwrap().clone();
    entry.addresses.insert("198.51.100.199".parse().unwrap(), seen);
    fs::write(repository.tmp("lock"), lock.print()).unwrap();
    let real = env!("CARGO_BIN_EXE_outgate");
    repository.stub(
        "outgate",
        &format!(
            r#"args=()
for word in "$@"; do
  case $word in
    --resolve) cp "$STUB/lock" outgate.lock 2>/dev/null ;;
    --samples) skip=1 ;;
    *) if [[ -n ${{skip:-}} ]]; then skip=; else args+=("$word"); fi ;;
  esac
done
exec {real} "${{args[@]}}""#
        ),
    );
    repository.stub("gh", r#"echo "$*" >>"$STUB/gh"; while [[ $# -gt 0 ]]; do [[ $1 == --body-file ]] && cp "$2" "$STUB/body.md"; shift; done"#);
    repository.must("git init -q --bare ../origin.git && git remote add origin ../origin.git");
    for step in ["Ask and make", "Propose"] {
        let (run, env) = script(&workflow, "refresh", step);
        let output = repository.bash(&run, &env);
        assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let body = repository.read("body.md");
    assert!(body.contains("no change of intent; churn in 1 rule: +1 -0 IPv4 addresses"), "{body}");
    assert!(repository.read("gh").contains("pr create --head outgate/refresh"));
    let files = repository.must("git -C ../origin.git show --stat --format=%s outgate/refresh");
    assert!(files.contains("outgate.lock") && files.contains("outgate-sets.nft"), "{files}");
    // The second time nothing moved.
    let _ = fs::remove_file(repository.tmp("gh"));
    for step in ["Ask and make", "Propose"] {
        let (run, env) = script(&workflow, "refresh", step);
        let output = repository.bash(&run, &env);
        assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(repository.read("gh"), "");
}

#[test]
fn gitlab_gets_its_report_and_a_comment() {
    let repository = Repository::new(&[SHARE]);
    let pipeline = yaml("examples/ci/gitlab-ci.yml");
    repository.stub("curl", r#"echo "$*" >>"$STUB/curl"; cat >"$STUB/sent.json""#);
    let mut env: BTreeMap<String, String> = pipeline["egress"]["variables"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), words(value).to_owned()))
        .collect();
    for (name, value) in [
        ("CI_MERGE_REQUEST_DIFF_BASE_SHA", repository.base.as_str()),
        ("CI_API_V4_URL", "https://gitlab.example.org/api/v4"),
        ("CI_PROJECT_ID", "3"),
        ("CI_MERGE_REQUEST_IID", "7"),
        ("OUTGATE_TOKEN", "secret"),
    ] {
        env.insert(name.to_owned(), value.to_owned());
    }
    repository.must("git clone -q --bare . ../origin.git && git remote add origin ../origin.git");
    let scripts: Vec<&str> = pipeline["egress"]["script"].as_array().unwrap().iter().map(words).collect();
    let output = repository.bash(&scripts.join("\n"), &env);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let sent: Value = serde_json::from_str(&repository.read("sent.json")).unwrap();
    assert!(words(&sent["body"]).contains("**error** E023"), "{sent}");
    assert!(repository.read("curl").contains("https://gitlab.example.org/api/v4/projects/3/merge_requests/7/notes"));
    let counted = Command::new("python3")
        .args(["-c", "import sys, xml.etree.ElementTree as e; print(len(e.parse(sys.argv[1]).findall('.//failure')))"])
        .arg(repository.site().join("outgate.xml"))
        .output()
        .unwrap();
    let failures: usize = String::from_utf8(counted.stdout).unwrap().trim().parse().unwrap();
    assert!(failures > 0);
}

#[test]
fn the_hooks_hold_back_a_commit_that_is_not_generated() {
    let repository = Repository::new(&[]);
    let hooks = yaml(".pre-commit-hooks.yaml");
    let entries: Vec<&str> = hooks.as_array().unwrap().iter().map(|hook| words(&hook["entry"])).collect();
    assert_eq!(entries, ["outgate check", "outgate generate --check"]);
    let run = |entry: &str| repository.bash(entry, &BTreeMap::new()).status.code();
    for entry in &entries {
        assert_eq!(run(entry), Some(0), "{entry}");
    }
    let file = repository.site().join("out/nftables/outgate.nft");
    fs::write(&file, fs::read_to_string(&file).unwrap() + "# by hand\n").unwrap();
    for entry in &entries {
        assert_eq!(run(entry), Some(1), "{entry}");
    }
}

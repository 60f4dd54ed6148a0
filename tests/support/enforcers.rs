//! Is the real thing on this machine? A test that cannot run says so loudly; in CI it fails.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Stands for "this process may make network and process namespaces"; see [`require`].
pub(crate) const NAMESPACES: &str = "namespaces";

/// True if `tool` can be used here.
///
/// `tool` is the name of a program, or [`NAMESPACES`]. Programs that act on the kernel's network (`nft`, `ip`, `squid`)
/// also need root. `squid` has to be the flavour built with OpenSSL: the other has no `ssl-bump`.
///
/// If not: a line `SKIPPED: …` straight to standard error, where no test runner captures it, and false.
///
/// # Panics
/// If not, and the environment has `CI`: there, a test that does not run is a test that fails.
pub(crate) fn require(tool: &str) -> bool {
    judge(tool, missing(tool), env::var_os("CI").is_some())
}

/// [`require`] for several; names every one that is missing.
pub(crate) fn require_all(tools: &[&str]) -> bool {
    tools.iter().filter(|tool| !require(tool)).count() == 0
}

/// The decision of [`require`], apart from machine and environment.
pub(crate) fn judge(tool: &str, missing: Option<String>, ci: bool) -> bool {
    let Some(why) = missing else { return true };
    assert!(!ci, "{tool}: {why}; tests against the real enforcers must not be skipped in CI");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(io::stderr(), "SKIPPED: {test}: {tool}: {why}");
    false
}

/// Where a program is.
///
/// The system's folders come before `PATH`: `/usr/sbin` is often not in it, and a version manager's slow `python3` often is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    system.into_iter().chain(env::split_paths(&path)).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Why `tool` cannot be used here, if so.
fn missing(tool: &str) -> Option<String> {
    let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if matches!(tool, "nft" | "ip" | "squid" | NAMESPACES) && !root {
        return Some("needs root".to_owned());
    }
    if tool == NAMESPACES {
        let tried = Command::new("unshare").args(["--net", "--pid", "--fork", "true"]).output();
        return match tried {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(format!("unshare: {error}")),
        };
    }
    let Some(program) = find(tool) else { return Some("is not installed".to_owned()) };
    if tool == "squid" {
        let version = Command::new(program).arg("-v").stdin(Stdio::null()).output();
        if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("--with-openssl")) {
            return Some("is built without OpenSSL; install squid-openssl".to_owned());
        }
    }
    None
}

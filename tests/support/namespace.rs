//! A network and process namespace that cannot outlive the test that made it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A network namespace and, with it, a process namespace.
///
/// It has neither a name nor a mount (as `ip netns add` would make): it is held by one process, the init of the process
/// namespace, which waits for the end of a pipe that only this value has open. On drop, on a panic, and when the test
/// is killed, the pipe ends; then the holder ends, the kernel kills whatever still runs inside, and takes the
/// interfaces away.
pub(crate) struct Namespace {
    holder: Child,
    pipe: Option<ChildStdin>,
    pid: u32,
}

impl Namespace {
    /// A new namespace, loopback up, IPv6 on, without duplicate address detection and without limits on ICMP errors
    /// (with the kernel's limits, most of a thousand rejected flows would look dropped).
    pub(crate) fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "--pid", "--fork", "--kill-child", "sh", "-c"])
            .arg("read -r pid rest </proc/self/stat; echo \"$pid\"; exec cat >/dev/null 2>&1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let pipe = holder.stdin.take();
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("the holder's output is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the holder of the namespace says its number");
        let pid = line.trim().parse().expect("the holder of the namespace is up (see its message above)");
        let namespace = Self { holder, pipe, pid };
        namespace.configure(
            "ip link set lo up
             cd /proc/sys/net
             for all in ipv6/conf/all ipv6/conf/default; do echo 0 >$all/disable_ipv6; echo 0 >$all/accept_dad; done
             echo 0 >ipv4/icmp_ratemask
             echo 0 >ipv6/icmp/ratelimit
             echo 0 >ipv6/icmp/ratemask",
        );
        namespace
    }

    /// The number of the holder, by which others can name this namespace (`ip link add … netns <pid>`).
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Runs a shell script that sets up the network in here. It is the harness's own: its failure is a panic.
    pub(crate) fn configure(&self, script: &str) {
        // Only the network's namespace: numbers of processes stay the outer ones, which `ip … netns <pid>` needs.
        let mut shell = Command::new("timeout");
        shell.args(["-k", "1", "20", "nsenter", "-t", &self.pid.to_string(), "--net", "sh", "-euc", script]);
        shell.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        if let Err(error) = said(shell.output()) {
            panic!("setting up a namespace failed: {error}\n{script}");
        }
    }

    /// A command that will run in here, for so many seconds at most, and never longer than the namespace is there.
    pub(crate) fn command(&self, seconds: u32, program: &str) -> Command {
        let program = super::enforcers::find(program).unwrap_or_else(|| panic!("{program} is not installed"));
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "--net", "--pid", "--", "timeout", "-k", "1"]);
        command.arg(seconds.to_string()).arg(program).stdin(Stdio::null());
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let end = Instant::now() + Duration::from_secs(5);
        while matches!(self.holder.try_wait(), Ok(None)) {
            if Instant::now() > end {
                // Takes the holder with it (`--kill-child`).
                let _ = self.holder.kill();
                let _ = self.holder.wait();
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What a finished command wrote; if it failed, its complaint.
pub(crate) fn said(output: std::io::Result<Output>) -> Result<String, String> {
    let output = output.map_err(|error| error.to_string())?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let late = if output.status.code() == Some(124) { " (out of time)" } else { "" };
    Err(format!("{}{late}: {}{}", output.status, stdout.trim_end(), stderr.trim_end()))
}

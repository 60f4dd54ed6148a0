//! Programs of the machine, run with a limit of time and of what they may print.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::text::quoted_to;

/// Longest output that is kept, in bytes.
const MOST: u64 = 64 << 20;

/// Where programs of the system lie that `PATH` may not have.
const FOLDERS: [&str; 6] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

/// Where a program is: in `PATH`, or in the system's folders.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let mut files = folders.chain(FOLDERS.map(PathBuf::from)).map(|folder| folder.join(program));
    files.find(|file| file.is_file())
}

/// What a program that ended said.
pub(super) struct Said {
    pub(super) success: bool,
    pub(super) out: Vec<u8>,
    /// Both its outputs.
    pub(super) both: String,
    /// The same on one line, for a message.
    pub(super) complaint: String,
}

impl Said {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// Runs a program to its end, or for so long. None of them reads its standard input; it is what they hold open.
///
/// # Errors
/// It cannot be started, or did not end in time and was killed.
pub(super) fn run(program: &Path, args: &[String], stdin: Stdio, limit: Duration) -> io::Result<Said> {
    let mut command = Command::new(program);
    command.args(args).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Words of the tools are read; they must be the same everywhere.
    let mut child = command.env("LC_ALL", "C").spawn()?;
    let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let Some(status) = wait(&mut child, limit)? else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(io::Error::other(format!("did not end within {} seconds", limit.as_secs())));
    };
    let (out, err) = (taken(out, limit)?, String::from_utf8_lossy(&taken(err, limit)?).into_owned());
    let both = format!("{} {}", String::from_utf8_lossy(&out), err);
    let words: Vec<&str> = both.split_whitespace().collect();
    let mut complaint = quoted_to(&words.join(" "), 600);
    if complaint.is_empty() {
        complaint = status.to_string();
    }
    Ok(Said { success: status.success(), out, both, complaint })
}

fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > end {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

type Collected = Option<JoinHandle<io::Result<Vec<u8>>>>;

fn collect(from: Option<impl Read + Send + 'static>) -> Collected {
    from.map(|from| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            from.take(MOST).read_to_end(&mut bytes).map(|_| bytes)
        })
    })
}

/// What was collected. A grandchild that keeps the pipe open is not waited for.
fn taken(from: Collected, limit: Duration) -> io::Result<Vec<u8>> {
    let Some(from) = from else { return Ok(Vec::new()) };
    let end = Instant::now() + limit;
    while !from.is_finished() {
        if Instant::now() > end {
            return Err(io::Error::other("its output does not end"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    from.join().map_err(|_| io::Error::other("its output cannot be read"))?
}

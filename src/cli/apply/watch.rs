//! The process that goes back: in a session of its own, so that no hangup reaches it, and with all it needs in the folder
//! of state. The only door of `nix` here.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::state::{Pending, Room, Stage};
use super::tell;
use crate::apply::{Decision, Watch};

/// What the process that goes back is started with, before the folder of state. It is no verb: nobody types it, so help,
/// completions and man pages have nothing of it.
pub(super) const WATCH: &str = "apply-watch";

/// The folder of state, where these arguments start the process that goes back.
pub(in crate::cli) fn watched_folder(mut args: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let (verb, folder, more) = (args.next()?, args.next()?, args.next());
    (verb == WATCH && more.is_none()).then(|| PathBuf::from(folder))
}

/// Whether this process may load rules.
pub(super) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Waits for a decision, decides where nobody does in time, and does what was decided.
pub(in crate::cli) fn watch(folder: &Path) -> ExitCode {
    // It leads no group yet, so this cannot fail; if it did, a hangup might end it and the run that loads would go back.
    let _ = nix::unistd::setsid();
    let Ok(room) = Room::open(Some(folder)) else { return ExitCode::from(2) };
    let Some((pending, watch)) = room.pending().and_then(|pending| pending.watch().map(|watch| (pending, watch)))
    else {
        return ExitCode::from(2);
    };
    if pending.reach(Stage::Watched).is_err() {
        return ExitCode::from(2);
    }
    let decided = decided(&pending, &watch, &parent());
    if !decided.keep && !watch.quiet {
        tell(&format!("going back: {}", decided.why));
    }
    match pending.finish(&room) {
        Ok(outcome) => {
            for failed in &outcome.failed {
                tell(&format!("cannot go back: {failed}"));
            }
            ExitCode::from(outcome.exit())
        }
        Err(why) => {
            tell(&format!("cannot go back: {why}"));
            ExitCode::from(3)
        }
    }
}

/// Whether the run that loads is gone, and whatever program it ran to load: their end of the pipe is closed.
fn parent() -> Arc<AtomicBool> {
    let gone = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&gone);
    thread::spawn(move || {
        let mut nothing = Vec::new();
        let _ = std::io::stdin().lock().read_to_end(&mut nothing);
        seen.store(true, Ordering::Relaxed);
    });
    gone
}

fn decided(pending: &Pending, watch: &Watch, gone: &AtomicBool) -> Decision {
    /// Longest that loading and probes may take.
    const LOADING: Duration = Duration::from_secs(300);
    let within = Duration::from_secs(watch.within);
    let begun = Instant::now();
    let mut ready: Option<Instant> = None;
    let why = loop {
        let gone = gone.load(Ordering::Relaxed);
        let late = begun.elapsed() >= LOADING + within;
        if ready.is_none() && pending.is_at(Stage::Ready) {
            ready = Some(Instant::now());
        }
        match pending.decision() {
            // What is taken back while something still loads would be loaded behind that.
            Some(decision) if gone || late || pending.is_at(Stage::Loaded) => return decision,
            Some(_) => {}
            None => match ready {
                Some(since) if since.elapsed() >= within => break "nobody confirmed in time",
                // Before the probes are done there is nothing that anybody could confirm.
                None if gone => break "the run that loaded it ended before its probes were done",
                None if late => break "its probes never ended",
                _ => {}
            },
        }
        thread::sleep(Duration::from_millis(50));
    };
    let own = Decision { keep: false, why: why.to_owned() };
    pending.decide(&own).unwrap_or(own)
}

//! The run that loaded, while it waits, and the process beside it that goes back.

use std::io::{BufRead, IsTerminal};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::super::plain;
use super::state::{Pending, Room, Stage};
use super::watch::WATCH;
use super::{Audit, PATIENCE};
use crate::apply::{Decision, Outcome, Watch};

/// Waits for whoever confirms: Enter on a terminal, another session, or nobody in time.
pub(super) fn wait(audit: &mut Audit, room: &Room, pending: &Pending, watcher: &mut Watcher, within: u64) -> Decision {
    let decision = |keep, why: &str| Decision { keep, why: why.to_owned() };
    if let Err(why) = pending.reach(Stage::Ready) {
        return decision(false, &why);
    }
    let (sender, enter) = mpsc::channel();
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        thread::spawn(move || {
            let mut line = String::new();
            // The end of a terminal is no word of anybody.
            if std::io::stdin().lock().read_line(&mut line).is_ok_and(|length| length > 0) {
                let _ = sender.send(());
            }
        });
    }
    let how = if terminal { "Enter here, or `outgate apply --confirm`" } else { "`outgate apply --confirm`" };
    audit.say(format!("loaded. It stays if it is confirmed within {within} seconds: {how}"));
    // The watcher's clock decides. Its end without a word is no confirmation.
    let end = Instant::now() + Duration::from_secs(within) + Duration::from_secs(5);
    loop {
        if let Some(decided) = pending.decision() {
            return decided;
        }
        if enter.try_recv().is_ok() {
            return decision(true, "confirmed at the terminal");
        }
        if watcher.is_gone() {
            // It may have done what was decided since the look above.
            let decided = pending.decision().or_else(|| pending.ended(room));
            return decided.unwrap_or_else(|| decision(false, "the process that watches is gone"));
        }
        if Instant::now() > end {
            return decision(false, "nobody confirmed in time");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The process that goes back.
pub(super) struct Watcher {
    child: Child,
    /// Held here as well: where the other process dies, this one goes back, and nobody else may load meanwhile.
    _lock: std::fs::File,
}

impl Watcher {
    /// Starts it, and waits until it watches. It gets the lock, so that nobody else loads while it lives, and a pipe whose
    /// end tells it that this process is gone.
    pub(super) fn spawn(room: &Room, pending: &Pending, watch: &Watch, lock: std::fs::File) -> Result<Self, String> {
        /// How long a process may take to begin.
        const BEGIN: Duration = Duration::from_secs(20);
        pending.write_watch(watch)?;
        let own = std::env::current_exe().map_err(|error| plain(&error))?;
        let mut command = Command::new(own);
        command.arg(WATCH).arg(room.path()).current_dir("/");
        let shared = lock.try_clone().map_err(|error| plain(&error))?;
        command.stdin(Stdio::piped()).stdout(Stdio::from(shared));
        let child = command.spawn().map_err(|error| plain(&error))?;
        let mut watcher = Self { child, _lock: lock };
        let end = Instant::now() + BEGIN;
        while !pending.is_at(Stage::Watched) {
            if watcher.is_gone() || Instant::now() > end {
                let _ = watcher.child.kill();
                let _ = watcher.child.wait();
                return Err("the process that watches did not begin".to_owned());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(watcher)
    }

    /// What a program that loads holds open: the pipe, so that nobody goes back while it still loads, though this process
    /// be killed.
    pub(super) fn held(&self) -> Result<Stdio, String> {
        let pipe = self.child.stdin.as_ref().ok_or("the process that watches is gone")?;
        let pipe = pipe.as_fd().try_clone_to_owned().map_err(|error| plain(&error))?;
        Ok(Stdio::from(pipe))
    }

    fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has done what was decided; does it here where it died.
    pub(super) fn end(mut self, room: &Room, pending: &Pending, watch: &Watch, decision: Decision) -> Outcome {
        // Nothing loads any more.
        drop(self.child.stdin.take());
        let end = Instant::now() + PATIENCE;
        while !self.is_gone() {
            if Instant::now() > end {
                let failed = vec!["the process that takes it back does not end".to_owned()];
                return Outcome { target: watch.target.clone(), decision, failed };
            }
            thread::sleep(Duration::from_millis(20));
        }
        if pending.is_there() {
            return pending.finish(room).unwrap_or_else(|why| Outcome {
                target: watch.target.clone(),
                decision,
                failed: vec![why],
            });
        }
        room.last().unwrap_or(Outcome { target: watch.target.clone(), decision, failed: Vec::new() })
    }
}

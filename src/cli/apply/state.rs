//! The folder of state: what it takes to go back, who waits, and what was decided. It is root's alone, and no link in it is
//! followed.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::{machine, plain, read_whole};
use super::LIMIT;
use crate::apply::{Decision, Outcome, Step, Watch};

/// The folder.
pub(super) struct Room {
    folder: PathBuf,
}

fn failed(what: &str, path: &Path) -> impl FnOnce(io::Error) -> String {
    let text = format!("cannot {what} {}", path.display());
    move |error| format!("{text}: {}", plain(&error))
}

/// A file that is not there yet, for root alone.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)
}

impl Room {
    /// Opens the folder, or makes it.
    ///
    /// # Errors
    /// Somebody else could change what is in it, or take its place.
    pub(super) fn open(folder: Option<&Path>) -> Result<Self, String> {
        let usual = || {
            let run = if Path::new("/run").is_dir() { "/run" } else { "/var/run" };
            PathBuf::from(run).join("outgate")
        };
        let folder = folder.map_or_else(usual, Path::to_owned);
        let folder = std::path::absolute(&folder).map_err(failed("find", &folder))?;
        let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
            return Err(format!("{} is no folder for state", folder.display()));
        };
        // Links on the way are the system's; what is looked at is where they lead.
        let parent = fs::canonicalize(parent).map_err(failed("find", parent))?;
        for above in parent.ancestors() {
            let about = fs::symlink_metadata(above).map_err(failed("look at", above))?;
            let shared = about.mode() & 0o022 != 0 && about.mode() & 0o1000 == 0;
            if shared || about.uid() != 0 {
                return Err(format!("{} can be changed by others than root", above.display()));
            }
        }
        let folder = parent.join(name);
        match make(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed("make", &folder)(error)),
            _ => {}
        }
        let about = fs::symlink_metadata(&folder).map_err(failed("look at", &folder))?;
        if !about.is_dir() || about.uid() != 0 || about.mode() & 0o077 != 0 {
            return Err(format!("{} is not a folder of root's alone (mode 700)", folder.display()));
        }
        Ok(Self { folder })
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// The one lock: held by whoever loads and by whoever watches. `None` while somebody holds it.
    pub(super) fn lock(&self) -> Result<Option<File>, String> {
        let path = self.folder.join("lock");
        let known = fs::symlink_metadata(&path).is_ok_and(|about| !about.is_file());
        if known {
            return Err(format!("{} is no file", path.display()));
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed("lock", &path)(error)),
        }
    }

    pub(super) fn pending_path(&self) -> PathBuf {
        self.folder.join("pending")
    }

    /// What another run may have loaded. What it only prepared is nobody's business any more.
    pub(super) fn pending(&self) -> Option<Pending> {
        let folder = self.pending_path();
        fs::symlink_metadata(&folder).ok().filter(fs::Metadata::is_dir)?;
        Some(Pending { folder }).filter(Pending::is_loading)
    }

    /// A new beginning, in the place of what is done with.
    pub(super) fn begin(&self) -> Result<Pending, String> {
        let pending = Pending { folder: self.pending_path() };
        pending.remove();
        make(&pending.folder).map_err(failed("make", &pending.folder))?;
        Ok(pending)
    }

    /// How the last one ended.
    pub(super) fn last(&self) -> Option<Outcome> {
        read(&self.folder.join("last.json"))
    }

    /// Waits until somebody else has finished.
    pub(super) fn wait_for(&self, pending: &Pending, limit: Duration) -> Option<Outcome> {
        let end = Instant::now() + limit;
        // What could not be taken back is kept, so an outcome is told by the lock being free.
        while pending.is_there() && !matches!(self.lock(), Ok(Some(_))) {
            if Instant::now() > end {
                return None;
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.last()
    }
}

/// How far something came.
#[derive(Clone, Copy)]
pub(super) enum Stage {
    /// The process that goes back watches.
    Watched,
    /// No step that loads is still to come.
    Loaded,
    /// Its probes succeed: it may be confirmed.
    Ready,
}

impl Stage {
    fn file(self) -> &'static str {
        match self {
            Self::Watched => "watched",
            Self::Loaded => "loaded",
            Self::Ready => "ready",
        }
    }
}

/// Something that was loaded, or is about to be, and is not decided.
pub(super) struct Pending {
    folder: PathBuf,
}

impl Pending {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.file(name)).is_ok_and(|about| about.is_file())
    }

    pub(super) fn is_there(&self) -> bool {
        self.folder.is_dir()
    }

    /// A new folder in it.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.folder.join(name);
        make(&folder).map_err(failed("make", &folder))?;
        Ok(folder)
    }

    /// A file that is whole, or not there.
    fn write(&self, name: &str, value: &impl Serialize) -> Result<PathBuf, String> {
        let path = self.file(&format!("{name}.{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let text = serde_json::to_vec(value).map_err(|error| error.to_string())?;
        let written = create(&path).and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
        written.map_err(failed("write", &path))?;
        Ok(path)
    }

    pub(super) fn write_watch(&self, watch: &Watch) -> Result<(), String> {
        let (from, to) = (self.write("watch.json", watch)?, self.file("watch.json"));
        fs::rename(from, &to).map_err(failed("write", &to))
    }

    /// Whether anything may have been loaded.
    fn is_loading(&self) -> bool {
        self.has("watch.json")
    }

    pub(super) fn watch(&self) -> Option<Watch> {
        read(&self.file("watch.json"))
    }

    /// Says that a stage is reached.
    pub(super) fn reach(&self, stage: Stage) -> Result<(), String> {
        let path = self.file(stage.file());
        create(&path).map(drop).map_err(failed("write", &path))
    }

    pub(super) fn is_at(&self, stage: Stage) -> bool {
        self.has(stage.file())
    }

    /// Decides, unless somebody did before. What holds is returned.
    pub(super) fn decide(&self, decision: &Decision) -> Result<Decision, String> {
        let own = self.write("decision", decision)?;
        let to = self.file("decision");
        // A link is made by one alone, and leads to a file that is whole.
        let linked = fs::hard_link(&own, &to);
        let _ = fs::remove_file(&own);
        match linked {
            Ok(()) => Ok(decision.clone()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.decision().ok_or_else(|| format!("cannot read {}", to.display()))
            }
            Err(error) => Err(failed("write", &to)(error)),
        }
    }

    /// Takes a decision back that nobody carried out.
    pub(super) fn undecide(&self) {
        let _ = fs::remove_file(self.file("decision"));
    }

    pub(super) fn decision(&self) -> Option<Decision> {
        read(&self.file("decision"))
    }

    /// What was decided, where somebody else did it and cleared up.
    pub(super) fn ended(&self, room: &Room) -> Option<Decision> {
        if self.is_there() { None } else { room.last().map(|last| last.decision) }
    }

    /// Does what was decided, writes down how it ended, and clears up. What could not be taken back is left as it is.
    pub(super) fn finish(&self, room: &Room) -> Result<Outcome, String> {
        let watch = self.watch().ok_or("what it takes to go back cannot be read")?;
        let decision = self.decision().unwrap_or(Decision { keep: false, why: "nobody decided".to_owned() });
        let mut outcome = Outcome { target: watch.target, decision, failed: Vec::new() };
        let done = |step: &Step| perform(step, Stdio::null()).map_err(|why| format!("{}: {why}", step.line()));
        if outcome.decision.keep
            && let Err(why) = watch.keep.iter().try_for_each(done)
        {
            // What is loaded now and what is loaded at boot would be two things.
            outcome.decision = Decision { keep: false, why: format!("its files cannot be put in place: {why}") };
        }
        if !outcome.decision.keep {
            outcome.failed = watch.revert.iter().filter_map(|step| done(step).err()).collect();
        }
        if let Ok(from) = self.write("last.json", &outcome) {
            let _ = fs::rename(from, room.folder.join("last.json"));
        }
        if outcome.failed.is_empty() {
            self.remove();
        }
        Ok(outcome)
    }

    pub(super) fn remove(&self) {
        // At once, so that nobody meets the half of it. Neither this nor what follows goes by links.
        let ended = self.folder.with_file_name("ended");
        let _ = fs::remove_dir_all(&ended);
        let gone = if fs::rename(&self.folder, &ended).is_ok() { &ended } else { &self.folder };
        let _ = fs::remove_dir_all(gone);
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&read_whole(path).ok()?).ok()
}

/// Whether an error says that nothing is there.
fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether a file of ours is there.
///
/// # Errors
/// Something else is in its place: a link, which would be replaced and what it leads to forgotten, or somebody's own file.
pub(super) fn is_there(path: &Path) -> Result<bool, String> {
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_file() && (about.len() == 0 || is_made(path)) => Ok(true),
        Ok(about) if about.is_file() => {
            Err(format!("{} does not say in its head that outgate made it, and is not replaced", path.display()))
        }
        Ok(_) => Err(format!("{} is a link or a folder; only a file is replaced", path.display())),
        Err(error) if is_nothing(&error) => Ok(false),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

/// Whether the head of a file says that outgate made it: its first line, or the one below what runs it.
fn is_made(path: &Path) -> bool {
    let Ok(bytes) = read_whole(path) else { return false };
    let mut lines = bytes.split(|byte| *byte == b'\n').skip_while(|line| line.starts_with(b"#!"));
    lines.next().is_some_and(|line| line.starts_with(b"# Made by outgate "))
}

/// The files in a folder whose names begin so and end in `.txt`, and that outgate made: they say so in their first line.
pub(super) fn ours(folder: &Path, beginnings: &[&str]) -> Result<BTreeSet<String>, String> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(failed("read", folder)(error)),
    };
    let mut ours = BTreeSet::new();
    for entry in entries {
        let path = entry.map_err(failed("read", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let named = name.ends_with(".txt") && beginnings.iter().any(|beginning| name.starts_with(beginning));
        let made = || fs::symlink_metadata(&path).is_ok_and(|about| about.is_file()) && is_made(&path);
        if named && made() {
            ours.insert(path.display().to_string());
        }
    }
    Ok(ours)
}

/// Does one thing. The error says what went wrong, in the enforcer's words where it has some. `held` is what a program
/// holds open while it runs.
pub(super) fn perform(step: &Step, held: Stdio) -> Result<(), String> {
    match step {
        Step::Run(call) => match machine::run(Path::new(&call.program), &call.args, held, LIMIT) {
            // The line that says it may stand behind many that say nothing.
            Ok(said) => match call.bad.iter().find(|word| said.both.contains(word.as_str())) {
                Some(word) => Err(line_with(&said.both, word)),
                None if !said.success => Err(said.complaint),
                None => Ok(()),
            },
            Err(error) => Err(plain(&error)),
        },
        Step::Write { path, text } => {
            let path = Path::new(path);
            if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
                DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("make", folder))?;
            }
            let written =
                create(path).and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
            written.map_err(failed("write", path))
        }
        Step::Put { from, to } => put(Path::new(from), Path::new(to)),
        Step::Remove(path) => match fs::remove_file(path) {
            Err(error) if !is_nothing(&error) => Err(failed("remove", Path::new(path))(error)),
            _ => Ok(()),
        },
    }
}

fn line_with(text: &str, word: &str) -> String {
    let line = text.lines().find(|line| line.contains(word)).unwrap_or(word);
    crate::text::quoted_to(line, 600)
}

/// Puts a copy in the place of a file: beside it, synced, renamed. It belongs to whom the other belonged to, and whoever
/// could read that can read this; a new one can be read by the service it is for.
fn put(from: &Path, to: &Path) -> Result<(), String> {
    let bytes = read_whole(from).map_err(failed("read", from))?;
    let (Some(folder), Some(name)) = (to.parent(), to.file_name()) else {
        return Err(format!("{} is no file", to.display()));
    };
    if fs::symlink_metadata(to).is_ok_and(|about| about.is_file()) && read_whole(to).is_ok_and(|own| own == bytes) {
        return Ok(());
    }
    if !folder.is_dir() {
        fs::create_dir_all(folder).map_err(failed("make", folder))?;
    }
    let before = fs::symlink_metadata(to).ok().filter(fs::Metadata::is_file);
    let mode = before.as_ref().map_or(0o644, |about| about.mode() & 0o777);
    let beside = folder.join(format!(".{}.outgate-{}", name.to_string_lossy(), std::process::id()));
    let _ = fs::remove_file(&beside);
    let written = create(&beside).and_then(|mut file| {
        file.write_all(&bytes)?;
        if let Some(about) = &before {
            fchown(&file, Some(about.uid()), Some(about.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    });
    let done = written.and_then(|()| fs::rename(&beside, to));
    done.map_err(|error| {
        let _ = fs::remove_file(&beside);
        failed("replace", to)(error)
    })
}

//! A set of files on disk: written whole or not at all, each replaced atomically; or compared.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

/// A file operation that failed, with the path it was on.
#[derive(Debug)]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for FileError {}

fn on(path: &Path) -> impl FnOnce(io::Error) -> FileError + '_ {
    move |error| FileError { path: path.to_owned(), error }
}

/// How a folder differs from what it should hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// The file is not there.
    Missing(PathBuf),
    /// The file holds something else.
    Changed(PathBuf),
    /// The file is one of ours that is no longer written.
    Stale(PathBuf),
}

/// Files that lie beside their places, whole and synced, and wait to be put there. Dropped, they leave nothing behind.
#[derive(Default)]
pub struct Staged {
    /// Before the folders, so that those are empty when their turn comes to be dropped. Closed: of many sites there are
    /// more files than a process may hold open.
    ready: Vec<(TempPath, PathBuf)>,
    stale: Vec<PathBuf>,
    folders: NewFolders,
}

/// Folders that were not there before, outermost first.
#[derive(Default)]
struct NewFolders(Vec<PathBuf>);

impl NewFolders {
    /// Makes a folder and those above it. Says whether it was not there, so that nothing can be in it.
    fn make(&mut self, folder: &Path) -> io::Result<bool> {
        let missing = folder.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        let new = !missing.is_empty();
        self.0.extend(missing.into_iter().rev());
        fs::create_dir_all(folder)?;
        Ok(new)
    }
}

impl Drop for NewFolders {
    fn drop(&mut self) {
        for folder in self.0.iter().rev() {
            // One that holds something by now is no longer ours to remove.
            let _ = fs::remove_dir(folder);
        }
    }
}

impl Staged {
    /// Files that [`Staged::commit`] will remove, sorted.
    #[must_use]
    pub fn stale(&self) -> &[PathBuf] {
        &self.stale
    }

    /// Whether there is nothing to do: every file is as it should be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.stale.is_empty()
    }

    /// Adds files that are to be put in their places behind these.
    pub fn append(&mut self, mut other: Self) {
        self.ready.append(&mut other.ready);
        self.stale.append(&mut other.stale);
        self.stale.sort();
        self.folders.0.append(&mut other.folders.0);
    }

    /// How many files [`Staged::commit`] will write.
    #[must_use]
    pub fn written(&self) -> usize {
        self.ready.len()
    }

    /// Puts every file in its place, one after the other in the order of the map, then removes what is stale.
    ///
    /// # Errors
    /// The first path that could not be replaced or removed; those before it are done.
    pub fn commit(mut self) -> Result<(), FileError> {
        self.folders.0.clear();
        for (temporary, path) in self.ready {
            temporary.persist(&path).map_err(|e| FileError { path: path.clone(), error: e.error })?;
        }
        for path in self.stale {
            fs::remove_file(&path).map_err(on(&path))?;
        }
        Ok(())
    }
}

/// Writes every file of a folder beside its place, and finds those that match `owned` and are not among them. Nothing
/// that was there is changed before [`Staged::commit`].
///
/// # Errors
/// The first path that could not be written.
pub fn stage(folder: &Path, files: &BTreeMap<String, String>, owned: &[&str]) -> Result<Staged, FileError> {
    stage_with(folder, files, owned, true)
}

/// As [`stage`], for many folders at once: where [`sync`] can do it for all of them together, no file is synced by
/// itself. It must come before the first [`Staged::commit`].
///
/// # Errors
/// The first path that could not be written.
pub fn stage_unsynced(folder: &Path, files: &BTreeMap<String, String>, owned: &[&str]) -> Result<Staged, FileError> {
    stage_with(folder, files, owned, !SYNCS_AT_ONCE)
}

/// From so many files of one run on, they are put on disk together and not one by one.
const MANY: usize = 64;

/// Whether [`sync`] does anything here.
const SYNCS_AT_ONCE: bool = cfg!(target_os = "linux");

/// Puts on disk what [`stage_unsynced`] wrote, of many folders at once: one call a file system and not one a file, of
/// which each would wait for the disk.
///
/// # Errors
/// The folder whose file system cannot be synced.
#[cfg(target_os = "linux")]
pub fn sync<'a>(staged: impl IntoIterator<Item = &'a Staged>) -> Result<(), FileError> {
    use std::os::unix::fs::MetadataExt;
    let mut done = std::collections::BTreeSet::new();
    let mut folders = std::collections::BTreeSet::new();
    for path in staged.into_iter().flat_map(|staged| &staged.ready).filter_map(|(path, _)| path.parent()) {
        if !folders.insert(path) {
            continue;
        }
        let folder = fs::File::open(path).map_err(on(path))?;
        if done.insert(folder.metadata().map_err(on(path))?.dev()) {
            nix::unistd::syncfs(&folder).map_err(|error| FileError { path: path.to_owned(), error: error.into() })?;
        }
    }
    Ok(())
}

/// Does nothing: here each file was synced by itself.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn sync<'a>(_: impl IntoIterator<Item = &'a Staged>) -> Result<(), FileError> {
    Ok(())
}

fn stage_with(
    folder: &Path,
    files: &BTreeMap<String, String>,
    owned: &[&str],
    sync: bool,
) -> Result<Staged, FileError> {
    let mut staged = Staged::default();
    let each = sync && (files.len() < MANY || !SYNCS_AT_ONCE);
    // Folders that files go to, by their full path, and whether they are new: a site may have ten thousand files in one.
    let mut folders: BTreeMap<PathBuf, (PathBuf, bool)> = BTreeMap::new();
    for (name, text) in files {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        if !folders.get(parent).is_some_and(|(_, new)| *new) {
            match fs::read(&path) {
                Ok(old) if old == text.as_bytes() => continue,
                Err(error) if error.kind() != io::ErrorKind::NotFound && path.is_dir() => {
                    return Err(FileError { path, error: io::Error::from(io::ErrorKind::IsADirectory) });
                }
                // What cannot be read can be replaced all the same, or it is said below why not.
                Ok(_) | Err(_) => {}
            }
        }
        let folder = match folders.get(parent) {
            Some((folder, _)) => folder,
            None => {
                let new = staged.folders.make(parent).map_err(on(parent))?;
                let folder = std::path::absolute(parent).map_err(on(parent))?;
                &folders.entry(parent.to_owned()).or_insert((folder, new)).0
            }
        };
        let mut temporary = tempfile::Builder::new().prefix(".outgate-").tempfile_in(folder).map_err(on(parent))?;
        temporary.write_all(text.as_bytes()).map_err(on(&path))?;
        if each {
            temporary.as_file().sync_all().map_err(on(&path))?;
        }
        readable(temporary.as_file()).map_err(on(&path))?;
        staged.ready.push((temporary.into_temp_path(), path));
    }
    if sync && !each {
        self::sync([&staged])?;
    }
    staged.stale = stale(folder, files, owned)?;
    Ok(staged)
}

/// A file nobody else of us replaces: other runs wait, and what others write is seen.
pub struct Held {
    path: PathBuf,
    was: Option<Vec<u8>>,
    /// Holds the folder for as long as it is open, also over the end of a process that was killed.
    _folder: fs::File,
}

/// Takes hold of a file that is to be replaced, by an advisory lock on its folder; `None` while another run holds it.
///
/// # Errors
/// The folder that cannot be held, or the file that is there and cannot be read.
pub fn hold(path: &Path) -> Result<Option<Held>, FileError> {
    let nearest = path.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let folder = fs::File::open(nearest).map_err(on(nearest))?;
    match folder.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        // Some network file systems hold no folders. What was read is compared before it is replaced all the same.
        Err(fs::TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(fs::TryLockError::Error(error)) => return Err(FileError { path: nearest.to_owned(), error }),
    }
    let was = read(path)?;
    Ok(Some(Held { path: path.to_owned(), was, _folder: folder }))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        // What is no file cannot be replaced; staging says so.
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(None),
        Err(error) => Err(FileError { path: path.to_owned(), error }),
    }
}

impl Held {
    /// Whether the file is still what it was when it was taken hold of.
    ///
    /// # Errors
    /// When somebody else wrote it meanwhile.
    pub fn unchanged(&self) -> Result<(), FileError> {
        if read(&self.path)? == self.was {
            return Ok(());
        }
        let error = io::Error::other("somebody else changed it meanwhile; run it again");
        Err(FileError { path: self.path.clone(), error })
    }
}

/// Compares a folder with what it should hold; sorted.
///
/// # Errors
/// The first path that is there and cannot be read.
pub fn compare(folder: &Path, files: &BTreeMap<String, String>, owned: &[&str]) -> Result<Vec<Difference>, FileError> {
    let mut differences = Vec::new();
    for (name, text) in files {
        let path = folder.join(name);
        match fs::read(&path) {
            Ok(old) if old == text.as_bytes() => {}
            Ok(_) => differences.push(Difference::Changed(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => differences.push(Difference::Missing(path)),
            Err(error) => return Err(FileError { path, error }),
        }
    }
    differences.extend(stale(folder, files, owned)?.into_iter().map(Difference::Stale));
    differences.sort();
    Ok(differences)
}

/// Files of ours that are no longer written. `*` in the last part of a pattern stands for any characters.
fn stale(folder: &Path, files: &BTreeMap<String, String>, owned: &[&str]) -> Result<Vec<PathBuf>, FileError> {
    let mut stale = Vec::new();
    for pattern in owned {
        let Some((head, suffix)) = pattern.split_once('*') else {
            if !files.contains_key(*pattern) && folder.join(pattern).is_file() {
                stale.push(folder.join(pattern));
            }
            continue;
        };
        let (parent, prefix) = head.rsplit_once('/').unwrap_or(("", head));
        let parent_path = folder.join(parent);
        let entries = match fs::read_dir(&parent_path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(FileError { path: parent_path, error }),
        };
        for entry in entries {
            let entry = entry.map_err(on(&parent_path))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.starts_with(prefix) && name.ends_with(suffix) && entry.path().is_file();
            let key = if parent.is_empty() { name } else { format!("{parent}/{name}") };
            if ours && !files.contains_key(&key) {
                stale.push(entry.path());
            }
        }
    }
    stale.sort();
    Ok(stale)
}

/// Temporary files are private; rule files are read by the services they are for.
#[cfg(unix)]
fn readable(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_: &fs::File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &BTreeMap<String, String>, owned: &[&str]) -> Result<(), FileError> {
        stage(folder, files, owned)?.commit()
    }

    fn files(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn what_is_written_compares_equal_and_old_files_go() {
        let folder = tempfile::tempdir().unwrap();
        let owned = ["a.conf", "lists/our_*.txt"];
        write(folder.path(), &files(&[("a.conf", "1"), ("lists/our_x.txt", "2")]), &owned).unwrap();
        fs::write(folder.path().join("lists/mine.txt"), "not outgate's").unwrap();
        let next = files(&[("a.conf", "1"), ("lists/our_y.txt", "3")]);
        let differences = compare(folder.path(), &next, &owned).unwrap();
        let at = |name: &str| folder.path().join(name);
        assert_eq!(differences, [Difference::Missing(at("lists/our_y.txt")), Difference::Stale(at("lists/our_x.txt"))]);
        write(folder.path(), &next, &owned).unwrap();
        assert!(compare(folder.path(), &next, &owned).unwrap().is_empty());
        assert!(at("lists/mine.txt").exists() && !at("lists/our_x.txt").exists());
    }

    #[test]
    fn a_failure_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "old").unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        let error = write(folder.path(), &files(&[("a", "new"), ("b", "new")]), &[]).unwrap_err();
        assert!(error.path.ends_with("b"));
        assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "a temporary file was left");
    }

    #[test]
    fn many_files_are_written_as_few_are() {
        let folder = tempfile::tempdir().unwrap();
        let text = |round: usize| -> BTreeMap<String, String> {
            (0..2 * MANY).map(|i| (format!("tables/our_{i}.txt"), format!("{i} {}", i % 3 == round))).collect()
        };
        let mut before = BTreeMap::new();
        for round in 0..3 {
            let files = text(round);
            let staged = stage(folder.path(), &files, &["tables/our_*.txt"]).unwrap();
            let changed = files.iter().filter(|(name, text)| before.get(*name) != Some(*text)).count();
            assert_eq!(staged.written(), changed, "round {round}");
            staged.commit().unwrap();
            assert!(compare(folder.path(), &files, &[]).unwrap().is_empty());
            before = files;
        }
        fs::remove_file(folder.path().join("tables/our_9.txt")).unwrap();
        fs::create_dir(folder.path().join("tables/our_9.txt")).unwrap();
        let error = write(folder.path(), &text(0), &[]).unwrap_err();
        assert!(error.path.ends_with("tables/our_9.txt"));
        assert_eq!(fs::read_dir(folder.path().join("tables")).unwrap().count(), 2 * MANY, "a temporary file was left");
        assert_eq!(fs::read_to_string(folder.path().join("tables/our_0.txt")).unwrap(), "0 false");
    }
}

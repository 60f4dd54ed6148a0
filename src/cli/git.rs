//! What a git revision holds: read with git itself, and never written.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::text::quoted;

/// A revision of the repository that a folder is in.
pub(super) struct Revision {
    folder: PathBuf,
    name: String,
}

impl Revision {
    /// A revision by any name git knows it by.
    ///
    /// # Errors
    /// What git says, where there is none.
    pub(super) fn find(folder: &Path, name: &str) -> Result<Self, String> {
        // What begins with a hyphen would be an option to git, and a colon begins a path.
        if name.is_empty() || name.starts_with('-') || name.contains([':', '\0']) {
            return Err("not a revision".to_owned());
        }
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() };
        let revision = Self { folder, name: name.to_owned() };
        revision.git(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")])?;
        Ok(revision)
    }

    /// The text of a file, by its path from the folder; `None` where the revision does not have it.
    ///
    /// # Errors
    /// What git says.
    pub(super) fn text(&self, path: &str) -> Result<Option<String>, String> {
        let object = format!("{}:./{path}", self.name);
        if self.git(&["cat-file", "-e", &object]).is_err() {
            return Ok(None);
        }
        self.git(&["cat-file", "blob", &object]).map(Some)
    }

    /// The last commit of this history that brought a text into a file, or took it out: its short id and its day. `None`
    /// where there is none, or no git, or no repository.
    pub(super) fn last_to_change(folder: &Path, file: &str, text: &str) -> Option<(String, String)> {
        let head = Self::find(folder, "HEAD").ok()?;
        let pickaxe = format!("-S{text}");
        let line = head.git(&["log", "-1", "--format=%h %cs", &pickaxe, "--", file]).ok()?;
        line.trim().split_once(' ').map(|(id, day)| (id.to_owned(), day.to_owned()))
    }

    /// The files below a folder, by their paths from the revision's folder.
    ///
    /// # Errors
    /// What git says.
    pub(super) fn files(&self, below: &str) -> Result<Vec<String>, String> {
        let list = self.git(&["ls-tree", "-r", "-z", "--name-only", &self.name, "--", below])?;
        Ok(list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
    }

    fn git(&self, args: &[&str]) -> Result<String, String> {
        match Command::new("git").arg("-C").arg(&self.folder).args(args).output() {
            Ok(output) if output.status.success() => {
                String::from_utf8(output.stdout).map_err(|_| "it is not UTF-8".to_owned())
            }
            Ok(output) => Err(quoted(String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Err(format!("git cannot be run: {error}")),
        }
    }
}

//! The workspace: one YAML file that names the sites of a repository → [`Workspace`], checked as far as that goes without
//! looking at the disk.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::source::{SourceId, Sources, Span};
use crate::text::{Text, quoted};
use crate::yaml::{self, Spanned};

/// The name a workspace has where none is said.
pub const FILE: &str = "outgate-sites.yaml";

/// The lock that the sites share where none is said, beside the workspace.
pub const LOCK: &str = "outgate.lock";

/// Many sites that share a lock. Every path is from the folder of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// Profiles, each with its place. In a path `*` stands for any characters of one folder's or file's name.
    pub sites: Vec<(Text, Span)>,
    /// The lock they share.
    pub lock: Text,
    /// The folder that takes a folder of files a site; without it they lie beside each profile.
    pub out: Option<Text>,
}

/// The sites of a repository. `outgate` takes it where no profile is named.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWorkspace {
    /// The profiles, by their paths from this file, such as `berlin/outgate.yaml` or `sites/*.yaml`. `*` stands for any
    /// characters of one name.
    #[schemars(length(min = 1))]
    sites: Spanned<Vec<Spanned<String>>>,
    /// The lock they share, by its path from this file.
    #[schemars(extend("default" = LOCK))]
    lock: Option<Spanned<String>>,
    /// The folder that takes the files of each site in a folder of its name. Without it they lie beside each profile.
    out: Option<Spanned<String>>,
}

/// Reads and checks a workspace. Every fault becomes a finding; with one error there is none.
pub fn read(sources: &Sources, id: SourceId, findings: &mut Findings) -> Option<Workspace> {
    let mark = findings.mark();
    let raw: RawWorkspace = yaml::read(sources, id).map_err(|d| findings.push(d)).ok()?;
    let mut path = |text: &Spanned<String>| match Text::parse(&text.value) {
        Ok(path) => Some(path),
        Err(error) => {
            let message = format!("the path `{}` {error}", quoted(&text.value));
            findings.push(Diagnostic::new(Code::BadText, message).at(text.span(id), ""));
            None
        }
    };
    let lock = raw.lock.as_ref().map_or_else(|| Text::parse(LOCK).ok(), &mut path);
    let out = raw.out.as_ref().and_then(&mut path);
    let sites: Vec<(Text, Span)> =
        raw.sites.value.iter().filter_map(|site| Some((path(site)?, site.span(id)))).collect();
    if raw.sites.value.is_empty() {
        let diagnostic = Diagnostic::new(Code::Empty, "this workspace names no sites").at(raw.sites.span(id), "");
        findings.push(diagnostic.help("name their profiles, such as `sites: [\"*/outgate.yaml\"]`"));
    }
    let good = !findings.errors_since(mark);
    good.then_some(Workspace { sites, lock: lock?, out })
}

/// Whether a name is one that a pattern stands for: `*` for any characters, and nothing else for others. A name that
/// begins with a dot must be named so.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// Whether a site's name can be that of a folder, on any system.
#[must_use]
pub fn is_folder(site: &str) -> bool {
    site.len() <= 100
        && site.starts_with(|c: char| c.is_alphanumeric())
        && !site.ends_with('.')
        && site.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Workspace, Vec<Code>> {
        let (mut sources, mut findings) = (Sources::default(), Findings::default());
        let id = sources.add(FILE, text);
        read(&sources, id, &mut findings).ok_or_else(|| findings.iter().map(|d| d.code).collect())
    }

    #[test]
    fn a_workspace_says_little_and_is_checked() {
        let workspace = parse("sites: [a/outgate.yaml, \"b/*.yaml\"]").unwrap();
        assert_eq!((workspace.sites.len(), workspace.lock.as_str(), workspace.out), (2, "outgate.lock", None));
        let workspace = parse("sites: [a]\nlock: all.lock\nout: out\n").unwrap();
        assert_eq!((workspace.lock.as_str(), workspace.out.unwrap().as_str()), ("all.lock", "out"));
        assert_eq!(parse("sites: []"), Err(vec![Code::Empty]));
        assert_eq!(parse("sites: [\"a\\nb\"]\nout: \"a\\0b\""), Err(vec![Code::BadText, Code::BadText]));
        assert_eq!(parse("sites: [a]\nluck: b"), Err(vec![Code::BadYaml]));
        assert_eq!(parse("lock: b"), Err(vec![Code::BadYaml]));
    }

    #[test]
    fn a_star_stands_for_any_characters_of_one_name() {
        for (pattern, name) in [("*", "a"), ("*.yaml", "a.yaml"), ("a*b*c", "a1b2bc"), ("a", "a"), (".*", ".a")] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*", ".a"), ("*.yaml", "a.yml"), ("a*b*c", "acb"), ("a", "ab"), ("a*a", "a")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn no_site_leads_out_of_its_folder() {
        for name in ["berlin", "site-1", "a.b", "Köln"] {
            assert!(is_folder(name), "{name}");
        }
        for name in ["", "..", ".a", "a/b", "a\\b", "a b", "-a", "a.", &"a".repeat(101)] {
            assert!(!is_folder(name), "{name}");
        }
    }
}

//! Findings as workflow commands, which GitHub shows at the lines of a change.

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::Sources;
use crate::text::is_invisible;

/// One finding as one line.
#[must_use]
pub fn annotation(finding: &Diagnostic, sources: &Sources) -> String {
    let command = match finding.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let place = finding.labels.first().map(|label| {
        let (line, column) = sources.line_column(&label.span);
        format!("file={},line={line},col={column},", property(&sources.get(label.span.source).path))
    });
    let text = match &finding.help {
        Some(help) => format!("{}\n{help}", finding.message),
        None => finding.message.clone(),
    };
    format!("::{command} {}title={}::{}", place.unwrap_or_default(), finding.code.as_str(), data(&text))
}

/// A line for the log of a workflow, which is searched for commands: none of ours is one, whatever somebody wrote.
#[must_use]
pub fn line(text: &str) -> String {
    let seen: String = text.chars().filter(|c| !is_invisible(*c)).collect();
    let broken = seen.replace("##[", "## [");
    match broken.trim_start().strip_prefix("::") {
        Some(rest) => format!(": :{rest}"),
        None => broken,
    }
}

/// What stands behind the command: a line of its own would be another command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// What stands between commas and colons.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

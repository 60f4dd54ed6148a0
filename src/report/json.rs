//! Findings for programs.

use serde_json::{Value, json};

use crate::diagnostic::Diagnostic;
use crate::source::Sources;

/// Version of everything `--format json` prints. A change that breaks a reader raises it.
pub const FORMAT_VERSION: u32 = 1;

/// One finding.
#[must_use]
pub fn diagnostic(diagnostic: &Diagnostic, sources: &Sources) -> Value {
    let labels: Vec<Value> = diagnostic
        .labels
        .iter()
        .map(|label| {
            let (line, column) = sources.line_column(&label.span);
            json!({
                "file": sources.get(label.span.source).path,
                "line": line,
                "column": column,
                "text": label.text,
            })
        })
        .collect();
    json!({
        "code": diagnostic.code.as_str(),
        "severity": diagnostic.severity().as_str(),
        "message": diagnostic.message,
        "places": labels,
        "help": diagnostic.help,
    })
}

//! Drift for people and for programs. Findings are printed beside it.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::json::FORMAT_VERSION;
use super::terminal::{Tone, toned};
use crate::drift::Difference;
use crate::text::quoted;

/// Prints one line: whether what is loaded is as it should be.
///
/// # Errors
/// Those of the writer.
pub fn text(target: &str, what: &str, found: &[Difference], out: &mut impl Write) -> io::Result<()> {
    let (target, what) = (quoted(target), quoted(what));
    match found.iter().filter(|found| found.is_drift()).count() {
        0 => writeln!(out, "{} {target}: {what} is as the files say", toned(Tone::Good, "same")),
        1 => writeln!(out, "{} {target}: {what} differs in 1 place", toned(Tone::Bad, "drift")),
        n => writeln!(out, "{} {target}: {what} differs in {n} places", toned(Tone::Bad, "drift")),
    }
}

/// The same for programs, with every element.
#[must_use]
pub fn json(target: &str, what: &str, found: &[Difference]) -> Value {
    let difference = |found: &Difference| {
        json!({
            "code": found.kind.code().as_str(),
            "kind": found.kind.as_str(),
            "place": found.place,
            "entry": (!found.key.is_empty()).then_some(&found.key),
            "expected": found.expected,
            "loaded": found.loaded,
        })
    };
    json!({
        "format_version": FORMAT_VERSION,
        "target": target,
        "what": what,
        "same": !found.iter().any(Difference::is_drift),
        "differences": found.iter().map(difference).collect::<Vec<_>>(),
    })
}

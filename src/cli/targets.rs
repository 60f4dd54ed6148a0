//! `outgate targets`

use std::io::Write;

use serde_json::json;

use super::{Format, Run, Stop};
use crate::report;
use crate::target::{Layer, TARGETS};

pub(super) fn run(run: &Run) -> Result<(), Stop> {
    let mut out = report::terminal::stdout();
    if run.format == Format::Json {
        let targets: Vec<_> = TARGETS
            .iter()
            .map(|t| {
                json!({
                    "name": t.name,
                    "about": t.about,
                    "needs_lock": t.layer == Layer::Addresses,
                    "files": t.owns,
                    "main": t.main,
                    "check": t.check,
                    "limits": t.limits,
                    "templates": t.templates.iter().map(|(path, _)| path).collect::<Vec<_>>(),
                })
            })
            .collect();
        let document = json!({"format_version": report::json::FORMAT_VERSION, "targets": targets});
        writeln!(out, "{document:#}")?;
        return Ok(());
    }
    for target in TARGETS {
        let lock = match target.layer {
            Layer::Addresses => "needs a lock",
            Layer::Names => "goes by name",
        };
        writeln!(out, "{}: {} ({lock})", target.name, target.about)?;
        writeln!(out, "  files: {}", target.owns.join(", "))?;
        if !target.check.is_empty() {
            writeln!(out, "  check: {} {}", target.check.join(" "), target.main)?;
        }
        for limit in target.limits {
            writeln!(out, "  limit: {limit}")?;
        }
    }
    Ok(())
}

//! `outgate schema`

use std::io::Write;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::Stop;
use crate::report;
use crate::schema::KINDS;

#[derive(Args)]
pub(super) struct Schema {
    /// The kind of file
    #[arg(value_name = "KIND", value_parser = PossibleValuesParser::new(KINDS.iter().map(|kind| kind.name)))]
    kind: String,
}

pub(super) fn run(args: &Schema) -> Result<(), Stop> {
    let mut out = report::terminal::stdout();
    for kind in KINDS.iter().filter(|kind| kind.name == args.kind) {
        out.write_all(kind.print().as_bytes())?;
    }
    Ok(())
}

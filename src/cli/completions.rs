//! `outgate completions`

use std::io::Write;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::aot::{Shell, generate};
use clap_complete_nushell::Nushell;

use super::{Cli, Stop};
use crate::report;

/// A shell that completions can be made for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum For {
    Bash,
    Zsh,
    Fish,
    Powershell,
    Elvish,
    Nushell,
}

#[derive(Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: For,
}

pub(super) fn run(args: &Completions) -> Result<(), Stop> {
    let shell = match args.shell {
        For::Bash => Some(Shell::Bash),
        For::Zsh => Some(Shell::Zsh),
        For::Fish => Some(Shell::Fish),
        For::Powershell => Some(Shell::PowerShell),
        For::Elvish => Some(Shell::Elvish),
        For::Nushell => None,
    };
    let (mut command, mut text) = (Cli::command(), Vec::new());
    match shell {
        Some(shell) => generate(shell, &mut command, "outgate", &mut text),
        None => generate(Nushell, &mut command, "outgate", &mut text),
    }
    // Whole, and not as it is made: what makes it takes a reader that went away for a fault of the program.
    report::terminal::stdout().write_all(&text)?;
    Ok(())
}

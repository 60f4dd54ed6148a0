//! `outgate man`: a page for each command from the command line itself, and one for each kind of file from its schema.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};
use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::{Cli, Run, Stop};
use crate::diagnostic::{Code, Diagnostic, suggest};
use crate::report;
use crate::{files, text};

mod formats;

#[derive(Args)]
pub(super) struct Man {
    /// The page: a command such as `catalog list`, or a file, such as `outgate.yaml` [default: outgate]
    #[arg(value_name = "PAGE", num_args = 0..=2, conflicts_with = "out")]
    page: Vec<String>,
    /// Write every page below this folder, in man1 and man5
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(run: &mut Run, args: &Man) -> Result<(), Stop> {
    // The day it is made is the day of a page; `SOURCE_DATE_EPOCH` makes it that of a build.
    let pages = pages(&run.today()?.to_string())?;
    let mut out = report::terminal::stdout();
    let Some(folder) = &args.out else {
        let wanted = args.page.join("-");
        // By the name of its file, by its name, and as a command is typed.
        let forms = |name: &str, section: u8| {
            [Some(format!("{name}.{section}")), Some(name.to_owned()), name.strip_prefix("outgate-").map(str::to_owned)]
        };
        let wanted = if wanted.is_empty() { "outgate" } else { &wanted };
        let found = pages.iter().find(|page| forms(&page.name, page.section).iter().flatten().any(|f| f == wanted));
        let Some(page) = found else {
            let known: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
            let message = format!("there is no page `{}`", text::quoted(wanted));
            return run.stop(Diagnostic::new(Code::UnknownName, message).help(suggest(wanted, &known)));
        };
        out.write_all(page.text.as_bytes())?;
        return Ok(());
    };
    let files: BTreeMap<String, String> = pages.into_iter().map(|page| (page.path(), page.text)).collect();
    let unwritable = |e: files::FileError| super::resolve::unwritable(&e);
    // Nothing is taken out: the folder may be the system's, where pages of others begin with our name.
    let staged = files::stage(folder, &files, &[]).map_err(unwritable);
    match staged.and_then(|staged| staged.commit().map_err(unwritable)) {
        Ok(()) => Ok(files.keys().try_for_each(|name| writeln!(out, "{}", folder.join(name).display()))?),
        Err(diagnostic) => run.stop(diagnostic),
    }
}

/// A man page.
struct Page {
    name: String,
    section: u8,
    text: String,
}

impl Page {
    /// Where it lies below a folder of man pages.
    fn path(&self) -> String {
        format!("man{}/{}.{}", self.section, self.name, self.section)
    }
}

/// Every page: the program, its commands, its files.
fn pages(day: &str) -> io::Result<Vec<Page>> {
    let mut root = Cli::command();
    root.build();
    let mut pages = Vec::new();
    commands(&root, day, &mut pages)?;
    pages.extend(formats::pages(day));
    Ok(pages)
}

fn commands(command: &Command, day: &str, pages: &mut Vec<Page>) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut text = Vec::new();
    let man = clap_mangen::Man::new(command.clone());
    man.date(day).source(source()).manual(MANUAL).render(&mut text)?;
    let mut roff = Roff::new();
    let mut others = vec![("outgate", 1)];
    others.extend(formats::NAMES.iter().map(|name| (*name, 5)));
    others.retain(|(other, _)| *other != name);
    see_also(&mut roff, &others);
    text.extend(roff.to_roff().bytes());
    // What the crate makes of texts is UTF-8.
    pages.push(Page { name, section: 1, text: tidy(&String::from_utf8_lossy(&text)) });
    command.get_subcommands().try_for_each(|command| commands(command, day, pages))
}

/// What the pages are part of.
const MANUAL: &str = "outgate manual";

fn source() -> String {
    format!("outgate {}", env!("CARGO_PKG_VERSION"))
}

fn see_also(roff: &mut Roff, pages: &[(&str, u8)]) {
    roff.control("SH", ["SEE ALSO"]);
    let mut line: Vec<Inline> = Vec::new();
    for (i, (name, section)) in pages.iter().enumerate() {
        let end = if i + 1 < pages.len() { ", " } else { "" };
        line.extend([bold(*name), roman(format!("({section}){end}"))]);
    }
    roff.text(line);
}

/// Takes out what readers of pages warn of: blanks at the end of a line, empty lines, breaks where nothing stands before.
fn tidy(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim_end) {
        let last = lines.last().copied().unwrap_or_default();
        let nothing = match line {
            "" => true,
            ".br" => last.starts_with('.'),
            ".PP" => last.starts_with(".SH"),
            _ => false,
        };
        if !nothing {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

//! Plans of the machine as it is: what is loaded and installed now, and what the enforcer says to the way forth and back.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::super::{machine, plain};
use super::state::{self, Pending};
use super::{ApplyArgs, Audit, Enforcer, LIMIT};
use crate::apply::{self, Anchor, Placed, Plan, Table};
use crate::drift;
use crate::ruleset::Ruleset;
use crate::target::File;

fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("{}: {}", path.display(), plain(&error)))
}

/// What plans are made of.
pub(super) struct Machine<'a> {
    pub(super) args: &'a ApplyArgs,
    pub(super) program: &'a Path,
    pub(super) pending: &'a Pending,
    pub(super) ruleset: &'a Ruleset,
    pub(super) files: &'a [File],
}

impl Machine<'_> {
    /// Works out how to load and how to go back, and has the enforcer check both. The error is why nothing is loaded.
    pub(super) fn plan(&self, audit: &mut Audit, target: Enforcer) -> Result<Plan, String> {
        match target {
            Enforcer::Nftables => self.nftables(audit),
            Enforcer::Pf => self.pf(audit),
            Enforcer::Squid => self.squid(audit),
        }
    }

    fn program(&self) -> String {
        self.program.display().to_string()
    }

    /// What the enforcer's program prints; its complaint as the error.
    fn ask(&self, args: &[&str]) -> Result<String, String> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        match machine::run(self.program, &args, Stdio::null(), LIMIT) {
            Ok(said) if said.success => Ok(said.text()),
            Ok(said) => Err(format!("`{} {}` says: {}", self.program(), args.join(" "), said.complaint)),
            Err(error) => Err(format!("`{} {}`: {}", self.program(), args.join(" "), plain(&error))),
        }
    }

    fn text(&self, path: &str) -> &str {
        self.files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str())
    }

    /// Prepares and checks a plan.
    fn checked(&self, audit: &mut Audit, plan: Plan) -> Result<Plan, String> {
        plan.prepare.iter().try_for_each(|step| state::perform(step, Stdio::null()))?;
        for step in &plan.check {
            state::perform(step, Stdio::null())?;
            audit.say(format!("checked: {}", step.line()));
        }
        Ok(plan)
    }

    /// The new files by where they go, and those of ours that lie there.
    fn placed(&self, main: &Path, folder: &Path, below: &str, owned: &[&str]) -> Result<Placed<'_>, String> {
        let mut placed = Placed::default();
        placed.files.insert(main.display().to_string(), self.text("outgate.conf"));
        for file in self.files {
            if let Some(name) = file.path.strip_prefix(below) {
                placed.files.insert(folder.join(name).display().to_string(), &file.text);
            }
        }
        placed.there = state::ours(folder, owned)?;
        for path in placed.files.keys() {
            if state::is_there(Path::new(path))? {
                placed.there.insert(path.clone());
            }
        }
        Ok(placed)
    }

    fn squid(&self, audit: &mut Audit) -> Result<Plan, String> {
        let settings = self.ruleset.settings.squid.clone().unwrap_or_default();
        let include = absolute(&self.args.include)?;
        let main = self.args.squid_conf.as_deref().map(absolute).transpose()?.map(|path| path.display().to_string());
        let placed = self.placed(&include, Path::new(&settings.lists), "lists/", &["allow_", "deny_"])?;
        audit.say(format!("kept: {} files that are installed", placed.there.len()));
        let folder = self.pending.folder("squid")?.display().to_string();
        let include = include.display().to_string();
        let plan = apply::squid(&self.program(), &folder, main.as_deref(), &include, &settings.lists, &placed);
        self.checked(audit, plan)
    }

    fn pf(&self, audit: &mut Audit) -> Result<Plan, String> {
        let Some(settings) = &self.ruleset.settings.pf else { return Err("the profile has no pf".to_owned()) };
        let anchor = settings.anchor.as_str();
        let main = self.ask(&["-s", "rules"])?;
        if !drift::pf::is_called(&main, anchor) {
            return Err(format!(
                "the main rules have no anchor \"{anchor}\", so what is loaded there does nothing: add the two lines of the head of outgate.conf first"
            ));
        }
        let mut before = Anchor { rules: self.ask(&["-a", anchor, "-s", "rules"])?, ..Anchor::default() };
        for name in self.ask(&["-a", anchor, "-s", "Tables"])?.lines().map(str::trim) {
            // It becomes the name of a file.
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) {
                return Err(format!("the anchor has a table `{name}`, which outgate could not bring back"));
            }
            if !name.is_empty() {
                before.tables.insert(name.to_owned(), self.ask(&["-a", anchor, "-t", name, "-T", "show"])?);
            }
        }
        audit.say(format!(
            "kept: {} rules and {} tables of anchor {anchor}",
            before.rules.lines().count(),
            before.tables.len()
        ));
        let folder = Path::new(&settings.tables);
        let placed = self.placed(&folder.join("outgate.conf"), &folder.join("tables"), "tables/", &["og_", "ogc_"])?;
        let state = self.pending.folder("pf")?.display().to_string();
        self.checked(audit, apply::pf(&self.program(), &state, anchor, &settings.tables, &placed, &before))
    }

    fn nftables(&self, audit: &mut Audit) -> Result<Plan, String> {
        let table = self.ruleset.settings.nftables.clone().unwrap_or_default().table;
        let name = format!("table inet {table}");
        let there = self.ask(&["list", "tables"])?.lines().any(|line| line.trim() == name);
        let before = if there { Some(self.ask(&["list", "table", "inet", &table])?) } else { None };
        audit.say(if there { format!("kept: {name}, as it is loaded") } else { format!("kept: there is no {name}") });
        let text = self.text("outgate.nft");
        let mut placed = Placed::default();
        if let Some(boot) = &self.args.boot_file {
            let boot = absolute(boot)?;
            if state::is_there(&boot)? {
                placed.there.insert(boot.display().to_string());
            }
            placed.files.insert(boot.display().to_string(), text);
        }
        let make = |folder: &Path, replace| {
            let folder = folder.display().to_string();
            let table = Table { name: &table, text, before: before.as_deref(), replace };
            apply::nftables(&self.program(), &folder, table, &placed)
        };
        match self.checked(audit, make(&self.pending.folder("in-place")?, false)) {
            Ok(plan) => Ok(plan),
            // A chain whose priority is another is not changed in place.
            Err(why) if there => {
                let plan = self.checked(audit, make(&self.pending.folder("anew")?, true)).map_err(|_| why)?;
                audit.say(format!("{name} cannot be changed in place and is made anew, in one transaction"));
                Ok(plan)
            }
            Err(why) => Err(why),
        }
    }
}

//! What should be loaded on a machine: the rules and files of one target, for `apply` and `drift`.

use std::path::PathBuf;

use clap::Args;

use super::generate::{self, Given, Rendered};
use super::{Run, SiteArgs, Stop, resolve};
use crate::diagnostic::{Code, Diagnostic};
use crate::policy;
use crate::ruleset::Ruleset;
use crate::target::{self, File};

#[derive(Args)]
pub(super) struct Loaded {
    #[command(flatten)]
    site: SiteArgs,
    /// The lock to read [default: outgate.lock beside the profile]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Go on with answers that are older than they may be
    #[arg(long)]
    allow_stale: bool,
    /// Take templates from this folder where it has them, by their built-in paths
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
}

/// What should be loaded.
pub(super) struct Made {
    pub(super) ruleset: Ruleset,
    pub(super) rendered: Rendered,
    /// The profile's folder.
    pub(super) folder: PathBuf,
}

impl Made {
    /// Its files.
    pub(super) fn files(&self) -> Vec<File> {
        self.rendered.iter().flat_map(|(_, files)| files.clone()).collect()
    }
}

impl Loaded {
    /// Makes the files of one target.
    pub(super) fn made(&self, run: &mut Run, target: &str) -> Result<Made, Stop> {
        if self.site.release.is_some() {
            let message = "what is loaded is of a site's targets, which no flag names";
            return run.stop(Diagnostic::new(Code::BadUsage, message).help("write a profile"));
        }
        let catalog = run.catalog()?;
        let (profile, folder) = run.site(&self.site, &[], &catalog)?;
        let policy = policy::decide(&catalog, &profile, &mut run.findings).ok_or(Stop::Found)?;
        let named = target::find(target).into_iter().collect();
        let targets = generate::chosen_targets(run, named, &policy.settings)?;
        let (_, lock) = resolve::named_or_beside(run, self.lock.as_deref(), &folder)?;
        let given = Given { policy: &policy, lock: lock.as_ref(), before: None, allow_stale: self.allow_stale };
        let (ruleset, rendered) = generate::render(run, &given, &targets, self.templates.as_deref())?;
        if run.findings.has_errors() {
            return Err(Stop::Found);
        }
        Ok(Made { ruleset, rendered, folder })
    }
}
